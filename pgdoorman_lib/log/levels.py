"""The levels of the log: their names, which are in force, and how they are changed at run time."""

from __future__ import annotations

import logging
import re

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
PACKAGE = "pgdoorman_lib"

_MODULE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*")
_SYNTAX_ERROR = "42601"

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


def _parse(text: str) -> tuple[int, dict[str, int]]:
    """``"warn,pool=debug"`` to the common level (info when only modules are named) and those of loggers by name."""
    common: int | None = None
    modules: dict[str, int] = {}
    for part in text.split(","):
        name, equals, level = part.rpartition("=")
        number = LEVELS.get(level.strip().lower())
        if number is None:
            raise syntax_error(f"unknown log level {level.strip()!r}, expected one of {', '.join(LEVELS)}")
        if not equals:
            if common is not None:
                raise syntax_error("more than one log level for all modules")
            common = number
            continue
        modules[_logger_name(name)] = number
    return logging.INFO if common is None else common, modules


def _logger_name(module: str) -> str:
    name = module.strip().replace("::", ".")
    if not _MODULE.fullmatch(name):
        raise syntax_error(f"{name!r} is not the name of a module")
    first, _, rest = name.partition(".")
    if first in (PACKAGE, "pgdoorman", "pg_doorman"):
        return f"{PACKAGE}.{rest}" if rest else PACKAGE
    return f"{PACKAGE}.{name}"


def syntax_error(text: str) -> DoormanError:
    """The error for what can't be read."""
    return DoormanError(text, sqlstate=_SYNTAX_ERROR)
