"""The logins under way, and the one timer that ends those that take too long.

All wait equally long, so the first to come is the first to be due: a list in order of arrival and a timer for its head
do what a timer for each would.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gevent

from pgdoorman_lib.abc import HasDeadline
from pgdoorman_lib.net.syscalls import clock

_float = float


class Logins:
    """``limit`` gives the seconds a login may take, 0 for ever.

    A new limit holds for logins under way, too, once ``limit_changed`` was called.
    """

    def __init__(self, limit: Callable[[], float]) -> None:
        self._limit = limit
        self._began: dict[Any, _float] = {}
        self._timer: Any = None
        #: when the timer fires; 0 while it does not run
        self._due = 0.0

    def __len__(self) -> int:
        return len(self._began)

    def begin(self, who: HasDeadline) -> None:
        """A login begins; it must come to ``end``."""
        now = clock()
        self._began[who] = now
        if self._due == 0:
            limit = self._limit()
            if limit > 0:
                self._arm(now + limit, limit)

    def end(self, who: HasDeadline) -> None:
        """A login is over, one way or the other."""
        # The timer goes on: to stop and start it for each login would cost more than that it finds nothing to do.
        self._began.pop(who, None)

    def limit_changed(self) -> None:
        """Go by what ``limit`` gives now."""
        self.close()
        if self._began:
            self._arm(clock(), 0.0)

    def close(self) -> None:
        """Nobody is late any more."""
        if self._timer is not None:
            self._timer.stop()
            self._timer.close()
            self._timer = None
        self._due = 0.0

    def _arm(self, due: _float, seconds: _float) -> None:
        self.close()
        self._timer = gevent.get_hub().loop.timer(seconds)
        self._due = due
        self._timer.start(self._expire)

    def _expire(self) -> None:
        """End those who are due, and set the timer for the next."""
        self._due = 0.0
        limit = self._limit()
        if limit <= 0:
            return
        now = clock()
        late = []
        first = 0.0
        for who, began in self._began.items():
            if began + limit > now:
                first = began + limit
                break
            late.append(who)
        if first:
            self._arm(first, first - now)
        for who in late:
            if who in self._began:  # not ended by what the others did
                who.too_late()
