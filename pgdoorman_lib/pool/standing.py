"""Whether the hosts of a pool's servers still are what ``target_session_attrs`` asks for.

PostgreSQL closes what it has when a primary becomes a standby, but not when a standby is promoted, nor when its
configuration makes it read-only; and it tells of neither before it is asked something. So each server is asked
(``server.attributes``) before it is lent again, when

1. a connection of the pool was lost, or PostgreSQL has said FATAL there: all of them;
2. one reports another in_hot_standby: all of them;
3. PostgreSQL has refused to write on it (25006) where that is what the pool is for: this one;
4. CHECK_INTERVAL has passed: one that rests.

One that is not what is asked for any more is closed, and then all others are asked.
"""

from __future__ import annotations

from typing import Any

from pgdoorman_lib.errors import ServerGone
from pgdoorman_lib.net.syscalls import clock
from pgdoorman_lib.server import states
from pgdoorman_lib.server.attributes import ANY, PREFER_STANDBY, READ_WRITE
from pgdoorman_lib.server.connection import Server
from pgdoorman_lib.wire.session_state import DIRTY_DOUBTED

#: Seconds between two questions to a pool where nothing has happened.
CHECK_INTERVAL = 30.0
#: Seconds between two times that all are asked: connections are seldom lost alone.
LEAST_INTERVAL = 0.5


def standing_of(pool: Any) -> Standing | None:
    """That of a pool; None where any host will do."""
    return None if pool.settings.target_session_attrs in (ANY, PREFER_STANDBY) else Standing(pool)


class Standing:
    """Of one pool. No method switches."""

    __slots__ = ("_asked_all_at", "_check_at", "_pool")

    def __init__(self, pool: Any) -> None:
        self._pool = pool
        self._check_at = clock() + CHECK_INTERVAL
        self._asked_all_at = 0.0

    def refused_to_write(self, server: Server) -> None:
        """PostgreSQL has said 25006 on a borrowed server: a client may have asked for that, or not."""
        if self._pool.settings.target_session_attrs == READ_WRITE:
            server.dirty |= DIRTY_DOUBTED

    def doubt(self) -> None:
        """Something has happened: ask them all, those that are borrowed when they come back."""
        now = clock()
        if self._pool.held or now < self._asked_all_at + LEAST_INTERVAL:
            return
        self._asked_all_at = now
        self._check_at = now + CHECK_INTERVAL
        for server in list(self._pool.servers):
            if server.stage != states.IDLE:
                server.dirty |= DIRTY_DOUBTED
        self._ask(list(self._pool.queue))

    def judge(self, server: Server, unmet: str) -> None:
        """It was asked, and is not what it should be for the reason ``unmet``, if that is not empty: ServerGone."""
        if unmet:
            self.doubt()
            raise ServerGone(f"its host is not what target_session_attrs asks for any more: {unmet}")

    def sweep(self, now: float) -> None:
        """See that one is asked now and then."""
        if now >= self._check_at:
            self._check_at = now + CHECK_INTERVAL
            self._ask(list(self._pool.queue)[:1])

    def _ask(self, resting: list[Server]) -> None:
        """Have the janitor ask servers that rest; meanwhile they count as borrowed."""
        pool = self._pool
        for server in resting:
            if server.stage != states.IDLE or not server.is_reusable():
                continue  # its end is about to be noticed
            pool.queue.remove(server)
            pool.borrowed += 1
            server.enter(states.ACTIVE)
            server.dirty |= DIRTY_DOUBTED
            pool.checkin(server)
