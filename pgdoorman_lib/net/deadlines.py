"""Moments at which something is due: one timer of the hub's loop, however many wait for it.

Who waits equally long is due in order of arrival, so that a deadline for the first of a line serves all of it.
A greenlet that waits for itself alone has ``gevent.Timeout``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gevent

_float = float

#: Seconds until a moment that has come already: the loop's timers take no less.
LEAST = 0.001


class Deadline:
    """Calls ``reached``, which may not switch, once the moment ``due`` has come; there is one at a time, or none."""

    __slots__ = ("_reached", "_timer", "due")

    def __init__(self, reached: Callable[[], Any]) -> None:
        self._reached = reached
        self._timer: Any = None
        #: monotonic seconds; 0 while nothing is due
        self.due = 0.0

    def set(self, due: _float, now: _float) -> None:
        """It is ``due`` then (monotonic seconds, as ``now``), and not at the moment set before."""
        self.clear()
        self.due = due
        self._timer = gevent.get_hub().loop.timer(max(LEAST, due - now))
        self._timer.start(self._ring, update=True)  # the loop's own clock may be late by what has run since it woke

    def clear(self) -> None:
        """Nothing is due any more."""
        if self._timer is not None:
            self._timer.stop()
            self._timer.close()
            self._timer = None
        self.due = 0.0

    def _ring(self) -> None:
        self.clear()
        self._reached()
