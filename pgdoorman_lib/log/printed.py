"""Standard error of a process whose log is syslog alone: what is printed to it becomes lines of the log."""

from __future__ import annotations

import io
import logging


class Printed(io.TextIOBase):
    """Logs each line as an error of ``logger``; blank ones, and what logging itself prints meanwhile, are lost."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._begun = ""
        self._logging = False

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if not self._logging:
            *lines, self._begun = (self._begun + text).split("\n")
            self._logging = True
            try:
                for line in filter(str.strip, lines):
                    self._logger.error("%s", line)
            finally:
                self._logging = False
        return len(text)
