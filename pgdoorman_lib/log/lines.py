"""What a line of the log looks like, as text, as JSON and for syslog.

Text lines are ``2026-01-02T03:04:05.678Z  INFO file:line: message``, without the line where the module is compiled;
structured ones are a JSON object each, with whom they are about as fields.
"""

from __future__ import annotations

import json
import logging
import os
import re
import time

from pgdoorman_lib.abc import OfPool
from pgdoorman_lib.log.levels import LEVELS, PACKAGE, TRACE

FORMATS = ("text", "structured", "debug")
"""``debug`` is another name of ``text``, as in the reference."""

_NAMES = {number: name.upper() for name, number in LEVELS.items()}
_COLORS = {"ERROR": "\033[31m", "WARN": "\033[33m", "INFO": "\033[32m", "DEBUG": "\033[34m", "TRACE": "\033[35m"}
_RESET = "\033[0m"
# What a client may put into a message (a user name, a parameter) must not start a new line or steer a terminal.
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f]")


class Process:
    """Which of several processes logs: what lines say of it."""

    #: the worker's number, 0: there are no workers, or this is their supervisor
    worker = 0


def name_worker(number: int) -> None:
    """Have the lines of this process say that it is worker ``number``."""
    Process.worker = number


class Label(str):
    """Whom a line is about, as text lines have it: ``[user@database #id]``. ``fields`` is what structured ones have."""

    __slots__ = ("fields",)

    fields: dict[str, str | int]


def label(user: str = "", database: str = "", id: int | None = None, address: str = "", *, told: bool = True) -> Label:
    """The label of a client, or of a pool: what is empty or None is not known or does not matter.

    The address stands in the text only where there is no id to find it by, and unless the line tells it anyway
    (``told`` False).
    """
    who = f"{user}@{database}" if user else database
    where = f"#{id}" if id is not None else address if told else ""
    made = Label(f"[{' '.join(filter(None, (who, where)))}]")
    known: dict[str, str | int | None] = {"user": user, "database": database, "id": id, "address": address}
    made.fields = {name: value for name, value in known.items() if value not in ("", None)}
    return made


def of_pool(settings: OfPool) -> Label:
    """The label of a pool with these settings."""
    return label(settings.user, settings.database)


class TextFormatter(logging.Formatter):
    """One line a record; a traceback follows on lines of its own. ``stamped``: with time and level."""

    def __init__(self, *, color: bool = False, stamped: bool = True) -> None:
        super().__init__()
        self._color = color
        self._stamped = stamped

    def format(self, record: logging.LogRecord) -> str:
        file, line = place(record)
        text = f"{f'{file}:{line}' if line else file}: {message(record)}"
        if Process.worker:
            text = f"worker {Process.worker}: {text}"
        if self._stamped:
            level = level_name(record)
            padded = f"{level:>5}"
            if self._color:
                padded = f"{_COLORS[level]}{padded}{_RESET}"
            text = f"{timestamp(record)} {padded} {text}"
        trace = _traceback(self, record)
        return f"{text}\n{trace}" if trace else text


class StructuredFormatter(logging.Formatter):
    """One JSON object a line: timestamp, level, file, line, message, and what is known of user, database, id, address.

    A traceback is part of the message.
    """

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
                **({"worker": Process.worker} if Process.worker else {}),
                **_fields(record),
            },
        )


def _fields(record: logging.LogRecord) -> dict[str, str | int]:
    """Those of the label among the message's arguments, if it has one."""
    for argument in record.args if isinstance(record.args, tuple) else ():
        if isinstance(argument, Label):
            return argument.fields
    return {}


def formatter(format: str, *, color: bool = False, stamped: bool = True) -> logging.Formatter:
    """The formatter for one of ``FORMATS``."""
    return StructuredFormatter() if format == "structured" else TextFormatter(color=color, stamped=stamped)


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
    at = path.rfind(f"/{PACKAGE}/")
    return path[at + 1 :] if at >= 0 else record.filename


def place(record: logging.LogRecord) -> tuple[str, int]:
    """File and line that logged; line 0 where it can't be known.

    A compiled module has no frame: logging finds whoever called it. The logger's name tells better, without a line.
    """
    file = file_name(record)
    if record.name.startswith(f"{PACKAGE}."):
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
