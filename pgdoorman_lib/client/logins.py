"""The logins under way: how many there may be, and the one deadline that ends those that take too long.

All wait equally long, so the first to come is the first to be due: a list in order of arrival and a deadline for its
head do what one for each would. Where there are too many, the first to come has to go: who means it has logged in by
then. Of several addresses the one with the most connections loses one, so that a crowd from one place costs no others
theirs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pgdoorman_lib.abc import HasDeadline
from pgdoorman_lib.net.deadlines import Deadline
from pgdoorman_lib.net.syscalls import clock

_float = float
_Peers = dict[Any, None]

#: No limit.
MANY = 1 << 30


class Logins:
    """``limit`` gives the seconds a login may take, 0 for ever.

    A new limit holds for logins under way, too, once ``limit_changed`` was called.
    """

    def __init__(self, limit: Callable[[], float]) -> None:
        self._limit = limit
        self._began: dict[Any, _float] = {}
        #: the same by address, each in order of arrival; what is there for the address that had the most lately
        self._from: dict[str, _Peers] = {}
        self._crowd: _Peers = {}
        #: how many there may be, in all and from one address
        self.most = MANY
        self.most_per_address = MANY
        #: what the last ``surplus`` was one too many for
        self.exceeded = ""
        #: when the first is due
        self._deadline = Deadline(self._expire)

    def __len__(self) -> int:
        return len(self._began)

    def begin(self, who: HasDeadline, address: str) -> bool:
        """A login begins; it must come to ``end``, with the same address, unless it was ``surplus``.

        Whether there are too many now.
        """
        now = clock()
        self._began[who] = now
        same = self._add(who, address)
        if self._deadline.due == 0.0:
            limit = self._limit()
            if limit > 0:
                self._deadline.set(now + limit, now)
        return len(same) > self.most_per_address or len(self._began) > self.most

    def end(self, who: HasDeadline, address: str) -> None:
        """A login is over, one way or the other."""
        # The deadline stays: to move it for each login would cost more than that it finds nothing to do.
        if self._began.pop(who, None) is not None:
            self._take(who, address)

    def move(self, who: HasDeadline, before: str, address: str) -> bool:
        """A login turns out to be from ``address``; whether there are too many from there now."""
        if who not in self._began:
            return False
        self._take(who, before)
        return len(self._add(who, address)) > self.most_per_address

    def surplus(self, address: str | None, full: bool) -> Any:
        """Who has to go now that one has come from ``address``, None if nobody; his login is over.

        ``address`` None: there is none, or not yet. ``full``: there are too many connections of all kinds.
        """
        same: Any = self._from.get(address) if address is not None else None
        if same is not None and len(same) > self.most_per_address:
            self.exceeded = "max_login_connections_per_address"
        elif len(self._began) > self.most or (full and self._began):
            self.exceeded = "the limit of open files" if full else "max_login_connections"
            same = self._crowd if len(self._crowd) > 1 else self._began
        else:
            return None
        who = next(iter(same))
        del self._began[who]
        self._take(who, who.address)
        return who

    def _add(self, who: HasDeadline, address: str) -> _Peers:
        same: Any = self._from.get(address)
        if same is None:
            same = {}
            self._from[address] = same
        same[who] = None
        if len(same) > len(self._crowd):
            self._crowd = same
        return same  # type: ignore[no-any-return]

    def _take(self, who: HasDeadline, address: str) -> None:
        same: Any = self._from[address]
        del same[who]
        if not same:
            del self._from[address]

    def limit_changed(self) -> None:
        """Go by what ``limit`` gives now."""
        self.close()
        if self._began:
            now = clock()
            self._deadline.set(now, now)

    def close(self) -> None:
        """Nobody is late any more."""
        self._deadline.clear()

    def _expire(self) -> None:
        """End those who are due, and set the deadline for the next."""
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
            self._deadline.set(first, now)
        for who in late:
            if who in self._began:  # not ended by what the others did
                who.too_late()
