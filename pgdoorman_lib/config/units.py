"""Durations and sizes as the configuration writes them, and back.

A number is in the key's own unit (milliseconds, whole seconds or bytes); a string carries its unit. Every function
raises ``ValueError`` with a text fit for the operator.
"""

from __future__ import annotations

import re

MAX_SECONDS = 100 * 365 * 86400
"""The longest duration accepted, a hundred years: beyond it timers of event loops overflow."""

MAX_INTEGER = 2**63 - 1
"""TOML integers are 64 bits, signed."""

_DURATION_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_SIZE = {"b": 1, "k": 2**10, "kb": 2**10, "m": 2**20, "mb": 2**20, "g": 2**30, "gb": 2**30}
_QUANTITY = re.compile(r"([0-9]{1,19})\s*([a-z]*)", re.ASCII)


def _quantity(text: str, units: dict[str, int], plain: int) -> int | None:
    """``text`` in the smallest of ``units``; digits alone count ``plain`` each; None when it is no such quantity."""
    match = _QUANTITY.fullmatch(text.strip().lower())
    if match is None:
        return None
    number, unit = match.groups()
    factor = plain if not unit else units.get(unit)
    return None if factor is None else int(number) * factor


def parse_milliseconds(value: int | str, *, plain: int = 1) -> int:
    """Read a duration: an integer of ``plain`` milliseconds each, or a string such as ``"100ms"``, ``"5s"``, ``"1d"``.

    Returns milliseconds; raises ``ValueError`` for anything else, for negative and for absurdly long ones.
    """
    if isinstance(value, str):
        if value.strip().startswith("-"):
            raise ValueError("duration cannot be negative")
        milliseconds = _quantity(value, _DURATION_MS, plain)
        if milliseconds is None:
            raise ValueError(
                f"invalid duration format: '{value}'. Expected a number or a string with suffix (ms, s, m, h, d)"
            )
    elif value < 0:
        raise ValueError("duration cannot be negative")
    else:
        milliseconds = value * plain
    if milliseconds > MAX_SECONDS * 1000:
        raise ValueError("duration is longer than a hundred years")
    return milliseconds


def parse_duration(value: int | str) -> float:
    """Read a duration whose plain numbers are milliseconds; returns seconds."""
    return parse_milliseconds(value) / 1000


def parse_seconds(value: int | str) -> int:
    """Read a duration whose plain numbers are seconds and which the kernel takes in whole seconds; returns seconds."""
    milliseconds = parse_milliseconds(value, plain=1000)
    if milliseconds % 1000:
        raise ValueError(f"duration '{value}' is not a whole number of seconds")
    return milliseconds // 1000


def parse_size(value: int | str) -> int:
    """Read a size: an integer of bytes, or a string such as ``"64K"``, ``"1MB"`` (powers of 1024); returns bytes."""
    if isinstance(value, str):
        size = _quantity(value, _SIZE, 1)
        if size is None:
            raise ValueError(
                f"invalid byte size format: '{value}'. "
                "Expected a number or a string with suffix (B, K, KB, M, MB, G, GB)"
            )
    elif value < 0:
        raise ValueError("size cannot be negative")
    else:
        size = value
    if size > MAX_INTEGER:
        raise ValueError("size is larger than 64 bits")
    return size


def format_duration(seconds: float) -> str:
    """Write ``seconds`` with the largest unit that keeps it whole: ``"10m"``; 0 is ``"0s"``."""
    milliseconds = round(seconds * 1000)
    for unit in ("d", "h", "m", "s"):
        if milliseconds % _DURATION_MS[unit] == 0 and (milliseconds or unit == "s"):
            return f"{milliseconds // _DURATION_MS[unit]}{unit}"
    return f"{milliseconds}ms"


def format_size(size: int) -> str:
    """Write ``size`` with the largest unit that keeps it whole: ``"1MB"``; 0 is ``"0B"``."""
    for unit in ("GB", "MB", "KB"):
        factor = _SIZE[unit.lower()]
        if size and size % factor == 0:
            return f"{size // factor}{unit}"
    return f"{size}B"
