"""A line in which greenlets wait so that what they do is not done more often than so many times a second."""

from __future__ import annotations

import gevent
from gevent.lock import BoundedSemaphore

from pgdoorman_lib.net.syscalls import clock

#: Seconds whose share may be taken at once: what has come together need not be drawn out over less.
_AT_ONCE = 0.01


class RateLimit:
    """``rate`` times a second. Only the first in the line has a timer, and who leaves it takes nobody's turn."""

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self._interval = 1.0 / rate
        self._line = BoundedSemaphore(1)
        #: when the turns that were taken will have been due, one after the other
        self._taken_until = 0.0

    def wait(self) -> None:
        """Take a turn; may switch, those who have come first go first."""
        with self._line:
            early = self._taken_until - _AT_ONCE - clock()
            if early > 0:
                gevent.sleep(early)
            self._taken_until = max(self._taken_until, clock()) + self._interval
