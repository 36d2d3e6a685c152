"""max_user_connections: how many servers all pools of one server user may have together, and who gets the next.

While the limit is off no pool has a quota. A pool at the limit that needs one more server takes the place of one that
rests in another pool; when none rests, it is told as soon as there is room, and after PATIENCE room is made for it.
"""

from __future__ import annotations

from collections.abc import Iterable
from weakref import WeakSet

from pgdoorman_lib.net.syscalls import clock
from pgdoorman_lib.pool.holding import open_servers
from pgdoorman_lib.pool.pool import Pool

#: Why a server is closed that another pool took the place of.
TAKEN = "max_user_connections is reached, and another pool needs a connection"
#: Seconds that clients of a pool wait at most while those of another have one server after the other.
PATIENCE = 1.0


class Quota:
    """What the pools of one server user share."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._pools: WeakSet[Pool] = WeakSet()
        self._making_room = False

    def join(self, pool: Pool) -> None:
        """One more pool of the user."""
        self._pools.add(pool)
        pool.quota = self

    def _left(self) -> int:
        return self.limit - sum(open_servers(pool) + pool.elsewhere for pool in self._pools)

    def has_room(self) -> bool:
        """Whether one more server may be opened as things are."""
        return self._left() > 0

    def may_grow(self, pool: Pool) -> bool:
        """Whether ``pool`` may open one more, be it in the place of a server that rests in another pool."""
        return self._left() > 0 or self._longest_at_rest(pool) is not None

    def make_room(self, pool: Pool) -> None:
        """``pool`` is about to open a server: close one that rests in another pool if it needs that one's place."""
        if self._left() > 0:
            return
        other = self._longest_at_rest(pool)
        if other is not None:
            server = next(iter(other.queue))
            other.queue.remove(server)
            self._making_room = True
            try:
                other.forget(server, TAKEN)
            finally:
                self._making_room = False

    def _longest_at_rest(self, pool: Pool) -> Pool | None:
        """The pool, other than ``pool``, with the server that has rested for longest."""
        others = [other for other in self._pools if other is not pool and other.queue.qsize()]
        return min(others, key=lambda other: next(iter(other.queue)).idle_since, default=None)

    def is_owed(self, pool: Pool) -> bool:
        """Whether a server that ``pool`` would lend on has to make room for others, who have waited for too long."""
        if self._left() > 0:
            return False
        now = clock()
        longest = max(PATIENCE, pool.max_wait(now))
        return any(
            other.max_wait(now) > longest
            and not (other.held or other.opening.count)
            and now >= other.opening.retry_at
            and open_servers(other) + other.elsewhere < other.size
            for other in self._pools
            if other is not pool
        )

    def freed(self, pool: Pool) -> None:
        """A server of ``pool`` rests or is closed: it may be another's turn. No switch."""
        if self._making_room:
            return
        others = [other for other in self._pools if other is not pool and other.queue.waiting]
        now = clock()
        for other in sorted(others, key=lambda one: one.max_wait(now), reverse=True):
            other.opening.grow(now)


class Quotas:
    """All quotas, by server user."""

    def __init__(self) -> None:
        self._limit = 0
        self._known: dict[str, Quota] = {}

    def join(self, pool: Pool) -> None:
        """Have ``pool``, which is new, under its user's quota, if there is a limit."""
        if self._limit:
            self._of(pool).join(pool)

    def _of(self, pool: Pool) -> Quota:
        user = pool.settings.server_username
        quota = self._known.get(user)
        if quota is None:
            quota = self._known[user] = Quota(self._limit)
        return quota

    def govern(self, limit: int, pools: Iterable[Pool]) -> None:
        """Go by ``limit``, max_user_connections, from now on; 0: none. Nothing is closed for it."""
        if limit == self._limit:
            return
        self._limit = limit
        self._known = {}
        for pool in pools:
            pool.quota = None
            self.join(pool)
            pool.opening.grow(clock())
