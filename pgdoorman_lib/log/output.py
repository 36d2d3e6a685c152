"""The log's set-up: what is logged, and where it goes."""

from __future__ import annotations

import logging
import os
import sys
from typing import TextIO

from pgdoorman_lib.errors import ConfigError, DoormanError
from pgdoorman_lib.log.levels import levels
from pgdoorman_lib.log.lines import FORMATS, formatter
from pgdoorman_lib.log.printed import Printed
from pgdoorman_lib.log.sinks import FileHandler, Sink, StreamHandler, SyslogHandler

log = logging.getLogger(__name__)

_SYNTAX_ERROR = "42601"


def setup(level: str = "info", format: str = "text", color: bool | None = None, stream: TextIO | None = None) -> None:
    """Send everything logged to ``stream`` (stderr); calling it again replaces what it did before.

    ``color`` None: when the stream is a terminal and NO_COLOR is empty or missing. Raises ``DoormanError`` (42601) for
    an unknown level or format.
    """
    if format not in FORMATS:
        raise DoormanError(
            f"unknown log format {format!r}, expected one of {', '.join(FORMATS)}", sqlstate=_SYNTAX_ERROR
        )
    levels.set(level, as_default=True)
    stream = sys.stderr if stream is None else stream
    if color is None:
        color = stream.isatty() and not os.environ.get("NO_COLOR")
    # Nothing of this is printed, and it is half the cost of a record.
    logging.logThreads = False
    logging.logProcesses = False
    logging.logMultiprocessing = False
    handler = StreamHandler(stream)
    handler.setFormatter(formatter(format, color=color))
    _replace(handler)


def direct(format: str, file: str | None, syslog_name: str | None, syslog_socket: str) -> None:
    """Send the log to ``file`` and, under ``syslog_name``, to syslog, from now on, and no more to stderr.

    With neither nothing changes. ConfigError when the file can't be opened. A syslog that is not there is warned of
    on stderr, and lines are lost and counted until it is.
    """
    sinks: list[Sink] = []
    if file is not None:
        try:
            sinks.append(FileHandler(file))
        except OSError as exc:
            raise ConfigError(f"general.log_file: could not open '{file}': {exc.strerror or exc}") from exc
        sinks[-1].setFormatter(formatter(format))
    if syslog_name:
        syslog = SyslogHandler(syslog_socket, syslog_name)
        syslog.setFormatter(formatter(format, stamped=False))
        sinks.append(syslog)
        try:
            syslog.connect()
        except OSError as exc:
            log.warning(
                "syslog is not to be reached at %s (%s): what is logged is lost until it is",
                syslog_socket,
                exc.strerror or exc,
            )
    if sinks:
        _replace(*sinks)


def is_directed() -> bool:
    """Whether the log goes elsewhere than to stderr."""
    return not any(isinstance(handler, StreamHandler) for handler in logging.getLogger().handlers)


def reopen() -> bool:
    """Open the log's file again, which may have been moved away; whether there is one.

    When that fails, the log says so, and goes on to the file it was.
    """
    files = [handler for handler in logging.getLogger().handlers if isinstance(handler, FileHandler)]
    for handler in files:
        try:
            handler.open()
        except OSError as exc:
            log.error("could not open %s again, the log goes on where it was: %s", handler.where, exc.strerror or exc)
    return bool(files)


def detach() -> None:
    """Let go of the terminal: standard input and output are /dev/null now, and standard error goes where the log does.

    That is its file, or else syslog, which gets what Python prints. With neither, all that is logged is lost.
    """
    null = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(null, number)
    os.close(null)
    files = [handler for handler in logging.getLogger().handlers if isinstance(handler, FileHandler)]
    if files:
        files[0].take_stderr()
    elif is_directed():
        sys.stderr = Printed(log)


def keep_standard_descriptors() -> None:
    """Open what was closed of 0, 1 and 2: a socket with such a number would get what is meant for a terminal."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest that is free
    # Python has none for what was closed; like its own they leave their descriptor open when they are let go.
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w", 1, encoding="utf-8", closefd=False)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", 1, encoding="utf-8", closefd=False)


def _replace(*sinks: Sink) -> None:
    """Have these in the place of those before."""
    root = logging.getLogger()
    for handler in list(root.handlers):
        if isinstance(handler, Sink):
            root.removeHandler(handler)
            handler.close()
    for sink in sinks:
        root.addHandler(sink)
