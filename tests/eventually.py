"""Waiting in tests: poll a condition with a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from pace import patience

T = TypeVar("T")


def eventually(probe: Callable[[], T], *, timeout: float = 10.0, interval: float = 0.02, message: str = "") -> T:
    """Call ``probe`` until it returns something true, which is returned; AssertionError when it does not in time.

    ``timeout`` is in seconds of a machine with nothing else to do (``pace``). An AssertionError raised by the probe counts
    as "not yet" and is shown when time is up.
    """
    began = time.monotonic()
    limit = patience(timeout)
    while True:
        failure: AssertionError | None = None
        value: T | None = None
        try:
            value = probe()
            if value:
                return value
        except AssertionError as exc:
            failure = exc
        if time.monotonic() - began >= limit:
            limit = max(limit, patience(timeout))  # others may have begun to want the processors meanwhile
            if time.monotonic() - began >= limit:
                text = message or getattr(probe, "__doc__", None) or "the condition"
                raise AssertionError(f"{text}: not within {limit:.1f} s; last: {failure or value!r}")
        time.sleep(interval)


def stays(probe: Callable[[], bool], *, seconds: float, interval: float = 0.02) -> bool:
    """Whether ``probe`` is true all along ``seconds``: for what must *not* happen."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not probe():
            return False
        time.sleep(interval)
    return True
