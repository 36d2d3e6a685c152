"""Logging set-up: format, colour and levels of everything the process logs to stderr.

Modules log with ``logging.getLogger(__name__)``; what is below debug is logged at ``TRACE``. Text lines are
``2026-01-02T03:04:05.678Z  INFO file:line: message``, without the line where the module is compiled; structured ones
are a JSON object each.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import select
import sys
import time
from typing import TextIO

from gevent.monkey import get_original

from pgdoorman_lib.errors import DoormanError

TRACE = 5
"""A level below DEBUG, for what happens on each message."""

LEVELS = {
    "error": logging.ERROR,
    "warn": logging.WARNING,
    "info": logging.INFO,
    "debug": logging.DEBUG,
    "trace": TRACE,
}
FORMATS = ("text", "structured", "debug")
"""``debug`` is another name of ``text``, as in the reference."""

_PACKAGE = "pgdoorman_lib"
_NAMES = {number: name.upper() for name, number in LEVELS.items()}
_COLORS = {"ERROR": "\033[31m", "WARN": "\033[33m", "INFO": "\033[32m", "DEBUG": "\033[34m", "TRACE": "\033[35m"}
_RESET = "\033[0m"
_MODULE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*")
_SYNTAX_ERROR = "42601"
# What a client may put into a message (a user name, a parameter) must not start a new line or steer a terminal.
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f]")

# gevent's own would switch, which the hub, where much is logged, can't.
_poll = get_original("select", "poll")

logging.addLevelName(TRACE, "TRACE")


class Levels:
    """The levels in force: one for all, and some for single modules. There is one, ``levels``, for the process."""

    def __init__(self) -> None:
        self._default = "info"
        self._text = "info"
        self._modules: dict[str, int] = {}

    @property
    def text(self) -> str:
        """What was set, as ``set`` takes it."""
        return self._text

    def set(self, text: str, *, as_default: bool = False) -> None:
        """Set ``"warn"``, ``"warn,pool=debug,client.login=trace"`` or ``"default"`` (what the process began with).

        Modules are named below pgdoorman_lib, with or without it. Raises ``DoormanError`` (SQLSTATE 42601) and changes
        nothing when ``text`` is none of these.
        """
        wanted = self._default if text.strip().lower() == "default" else text
        level, modules = _parse(wanted)
        for name in self._modules:
            logging.getLogger(name).setLevel(logging.NOTSET)
        logging.getLogger().setLevel(level)
        for name, number in modules.items():
            logging.getLogger(name).setLevel(number)
        self._modules = modules
        self._text = wanted.strip()
        if as_default:
            self._default = self._text


levels = Levels()


def set_level(text: str) -> None:
    """``levels.set``: what SET log_level calls."""
    levels.set(text)


def level_text() -> str:
    """The levels in force, for SHOW LOG_LEVEL."""
    return levels.text


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
    root = logging.getLogger()
    for handler in list(root.handlers):
        if isinstance(handler, StreamHandler):
            root.removeHandler(handler)
    handler = StreamHandler(stream)
    handler.setFormatter(StructuredFormatter() if format == "structured" else TextFormatter(color=color))
    root.addHandler(handler)


class StreamHandler(logging.StreamHandler):  # type: ignore[type-arg]  # generic at run time only from 3.11 on
    """Writes to stderr, and keeps quiet when stderr is gone or full: a lost log line must not end or stop a session."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        #: lines lost since the last that was not
        self.lost = 0
        self._fd = _descriptor(stream)
        #: only a part of the last line was taken
        self._cut = False

    def emit(self, record: logging.LogRecord) -> None:
        if self._fd is None:
            super().emit(record)
            return
        try:
            text = self.format(record) + self.terminator
            if self.lost:
                text = self.format(self._lost_record(record)) + self.terminator + text
            self._write(self._fd, ("\n" + text if self._cut else text).encode(errors="backslashreplace"))
            self.lost = 0
        except Exception:
            self.handleError(record)

    def _lost_record(self, record: logging.LogRecord) -> logging.LogRecord:
        """What is logged ahead of ``record``."""
        return logging.makeLogRecord(
            {
                "name": __name__,
                "levelno": logging.WARNING,
                "created": record.created,
                "msg": f"{self.lost} lines of the log were lost: stderr was full or gone",
            }
        )

    def _write(self, fd: int, data: bytes) -> None:
        """Write without ever waiting, which would stop all clients; BlockingIOError when a pipe is full."""
        while data:
            if not _is_writable(fd):
                raise BlockingIOError(errno.EAGAIN, "nobody reads stderr")
            written = os.write(fd, data[: select.PIPE_BUF])  # so much is taken at once where any is
            data = data[written:]
            self._cut = bool(data)

    def handleError(self, record: logging.LogRecord) -> None:
        # A closed stream raises ValueError, a closed pipe or a full one OSError. Anything else is a mistake in the call
        # that logs, which logging reports.
        if isinstance(sys.exc_info()[1], OSError) or self.stream.closed:
            self.lost += 1
        else:
            super().handleError(record)


def _descriptor(stream: TextIO) -> int | None:
    """The descriptor a stream writes to; None for one that has none."""
    try:
        return stream.fileno()
    except (AttributeError, OSError, ValueError):
        return None


def _is_writable(fd: int) -> bool:
    """Whether a write does not wait, or fails at once; no switch."""
    poll = _poll()
    poll.register(fd, select.POLLOUT)
    return bool(poll.poll(0))


def keep_standard_descriptors() -> None:
    """Open what was closed of 0, 1 and 2: a socket with such a number would get what is meant for a terminal."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest that is free
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", encoding="utf-8")


class Limited:
    """A logger's lines of one kind, at most one in ``interval`` seconds; the next tells how many were left out."""

    def __init__(self, logger: logging.Logger, interval: float = 1.0) -> None:
        self._logger = logger
        self._interval = interval
        self._next = 0.0
        self._left_out = 0

    def info(self, text: str, *arguments: object) -> None:
        """Log at info, or count."""
        self._log(logging.INFO, text, *arguments)

    def warning(self, text: str, *arguments: object) -> None:
        """The same as a warning."""
        self._log(logging.WARNING, text, *arguments)

    def _log(self, level: int, text: str, *arguments: object) -> None:
        now = time.monotonic()
        if now < self._next:
            self._left_out += 1
            return
        if self._left_out:
            text += f" (and {self._left_out} more like it since the last)"
        self._next = now + self._interval
        self._left_out = 0
        self._logger.log(level, text, *arguments)


class TextFormatter(logging.Formatter):
    """One line a record; a traceback follows on lines of its own."""

    def __init__(self, *, color: bool = False) -> None:
        super().__init__()
        self._color = color

    def format(self, record: logging.LogRecord) -> str:
        level = level_name(record)
        padded = f"{level:>5}"
        if self._color:
            padded = f"{_COLORS[level]}{padded}{_RESET}"
        file, line = place(record)
        where = f"{file}:{line}" if line else file
        text = f"{timestamp(record)} {padded} {where}: {message(record)}"
        trace = _traceback(self, record)
        return f"{text}\n{trace}" if trace else text


class StructuredFormatter(logging.Formatter):
    """One JSON object a line: timestamp, level, file, line, message; a traceback is part of the message."""

    def format(self, record: logging.LogRecord) -> str:
        trace = _traceback(self, record)
        text = record.getMessage()
        file, line = place(record)
        return json.dumps(
            {
                "timestamp": timestamp(record),
                "level": level_name(record),
                "file": file,
                "line": line,
                "message": f"{text}\n{trace}" if trace else text,
            },
        )


def timestamp(record: logging.LogRecord) -> str:
    """UTC in milliseconds, ``2026-01-02T03:04:05.678Z``."""
    milliseconds = int(record.created * 1000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(milliseconds // 1000))}.{milliseconds % 1000:03d}Z"


def level_name(record: logging.LogRecord) -> str:
    """The name of the highest of our levels that is not above the record's."""
    number = max((number for number in _NAMES if number <= record.levelno), default=TRACE)
    return _NAMES[number]


def file_name(record: logging.LogRecord) -> str:
    """The file's path from the package on: ``pgdoorman_lib/client/login.py``."""
    path = record.pathname.replace(os.sep, "/")
    at = path.rfind(f"/{_PACKAGE}/")
    return path[at + 1 :] if at >= 0 else record.filename


def place(record: logging.LogRecord) -> tuple[str, int]:
    """File and line that logged; line 0 where it can't be known.

    A compiled module has no frame: logging finds whoever called it. The logger's name tells better, without a line.
    """
    file = file_name(record)
    if record.name.startswith(f"{_PACKAGE}."):
        own = f"{record.name.replace('.', '/')}.py"
        if own != file:
            return own, 0
    return file, record.lineno


def message(record: logging.LogRecord) -> str:
    """The message on one line, control characters escaped."""
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), record.getMessage())


def _traceback(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    parts = [formatter.formatException(record.exc_info)] if record.exc_info and record.exc_info[0] else []
    if record.stack_info:
        parts.append(formatter.formatStack(record.stack_info))
    return "\n".join(parts)


def _parse(text: str) -> tuple[int, dict[str, int]]:
    """``"warn,pool=debug"`` to the common level (info when only modules are named) and those of loggers by name."""
    common: int | None = None
    modules: dict[str, int] = {}
    for part in text.split(","):
        name, equals, level = part.rpartition("=")
        number = LEVELS.get(level.strip().lower())
        if number is None:
            raise _syntax_error(f"unknown log level {level.strip()!r}, expected one of {', '.join(LEVELS)}")
        if not equals:
            if common is not None:
                raise _syntax_error("more than one log level for all modules")
            common = number
            continue
        modules[_logger_name(name)] = number
    return logging.INFO if common is None else common, modules


def _logger_name(module: str) -> str:
    name = module.strip().replace("::", ".")
    if not _MODULE.fullmatch(name):
        raise _syntax_error(f"{name!r} is not the name of a module")
    first, _, rest = name.partition(".")
    if first in (_PACKAGE, "pgdoorman", "pg_doorman"):
        return f"{_PACKAGE}.{rest}" if rest else _PACKAGE
    return f"{_PACKAGE}.{name}"


def _syntax_error(text: str) -> DoormanError:
    return DoormanError(text, sqlstate=_SYNTAX_ERROR)
