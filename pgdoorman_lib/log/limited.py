"""Lines that anybody could cause as often as he likes, held to a few."""

from __future__ import annotations

import logging
import time


class Limited:
    """A logger's lines of one kind, at most one in ``interval`` seconds; the next tells how many were left out."""

    def __init__(self, logger: logging.Logger, interval: float = 1.0) -> None:
        self._logger = logger
        self._interval = interval
        self._next = 0.0
        self._left_out = 0

    def info(self, text: str, *arguments: object) -> None:
        """Log at info, or count."""
        self._log(logging.INFO, text, arguments)

    def warning(self, text: str, *arguments: object) -> None:
        """Log at warning, or count."""
        self._log(logging.WARNING, text, arguments)

    def _log(self, level: int, text: str, arguments: tuple[object, ...]) -> None:
        now = time.monotonic()
        if now < self._next:
            self._left_out += 1
            return
        if self._left_out:
            text += f" (and {self._left_out} more like it since the last)"
        self._next = now + self._interval
        self._left_out = 0
        self._logger.log(level, text, *arguments)
