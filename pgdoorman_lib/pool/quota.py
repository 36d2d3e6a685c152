"""max_user_connections: how many servers all pools of one server user may have together, and who gets the next.

While the limit is off no pool has a quota. A pool at the limit that needs one more server takes the place of one that
rests in another pool; when none rests, it is told as soon as there is room, and after PATIENCE room is made for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any
from weakref import WeakSet

from pgdoorman_lib.net.syscalls import clock
from pgdoorman_lib.pool.holding import open_servers
from pgdoorman_lib.pool.pool import Pool

#: Why a server is closed that another pool took the place of.
TAKEN = "max_user_connections is reached, and another pool needs a connection"
#: Seconds that clients of a pool wait at most while those of another have one server after the other.
PATIENCE = 1.0


class Quota:
    """What the pools of one server user share; ``row`` has the count over all worker processes, None in one process."""

    def __init__(self, limit: int, row: Any = None) -> None:
        self.limit = limit
        self._pools: WeakSet[Pool] = WeakSet()
        self._making_room = False
        #: since when the last place is left to another worker, 0: it is not
        self._yielding_since = 0.0
        self._row = row
        if row is not None:
            row.heard = self._heard

    def join(self, pool: Pool) -> None:
        """One more pool of the user."""
        self._pools.add(pool)
        pool.quota = self
        if self._row is not None:
            self._row.add(open_servers(pool))
            self.count_elsewhere()

    def end(self) -> None:
        """It holds no more."""
        for pool in self._pools:
            pool.quota = None
        if self._row is not None:
            self._row.leave()

    # What is counted over all worker processes; in one process the books of the pools say it all.

    def take(self, pool: Pool) -> bool:
        """``pool`` is about to open a server: have a place for it, be it that of one that rests in another pool."""
        self._make_room(pool)
        if self._row is None or self._row.take(self.limit):
            return True
        self.show()
        return bool(self._row.take(self.limit))  # one may have been given back by who has not seen us wait

    def add(self) -> None:
        """A server comes to one of the pools from another process."""
        if self._row is not None:
            self._row.add()

    def give_back(self) -> None:
        """A pool has a server less."""
        if self._row is not None:
            self._row.give_back()

    def count_elsewhere(self) -> None:
        """Another process, which is none of the workers, has more or fewer servers of the pools."""
        if self._row is not None:
            self._row.set_elsewhere(sum(pool.elsewhere for pool in self._pools))

    def show(self) -> None:
        """Have the other workers see since when pools of this one need a place; those with places hear when one does.

        May be called at any time.
        """
        row = self._row
        if row is None:
            return
        now = clock()
        since = [
            pool.queue.first.waiting_since
            for pool in self._pools
            if pool.queue.first is not None and _could_grow(pool, now)
        ]
        if not since or self._left() > 0:
            row.line_is(0, 0.0)
            return
        known = row.waiting(row.worker)
        row.line_is(len(since), min(since))
        if not known:
            row.ring_holders()

    def _is_anothers(self, pool: Pool) -> bool:
        """Whether the last place is for another worker, where somebody has waited for much longer than in ``pool``.

        It may not need it any more, or not be able to take it: that is not waited for longer than PATIENCE.
        """
        since = self._row.oldest_elsewhere() if self._row is not None and self._left() == 1 else 0.0
        now = clock()
        if not since or now - since <= max(PATIENCE, pool.max_wait(now)):
            self._yielding_since = 0.0
            return False
        self._yielding_since = self._yielding_since or now
        return now - self._yielding_since < PATIENCE

    def _heard(self) -> None:
        """Another worker has given a place back, or has no room and waits: it may have that of one at rest here."""
        if any(pool.queue.waiting for pool in self._pools):
            self.freed(None)
        else:
            self._give_way()

    def _give_way(self) -> None:
        """Close a server that rests here if another worker waits for its place; no switch."""
        if self._row is not None and self._left() <= 0 and self._row.oldest_elsewhere():
            self._close_one(self._longest_at_rest(None))

    def _left(self) -> int:
        if self._row is not None:
            return self.limit - int(self._row.total())
        return self.limit - sum(open_servers(pool) + pool.elsewhere for pool in self._pools)

    def has_room(self) -> bool:
        """Whether one more server may be opened as things are."""
        return self._left() > 0

    def may_grow(self, pool: Pool) -> bool:
        """Whether ``pool`` may open one more, be it in the place of a server that rests in another pool."""
        if self._is_anothers(pool):
            return False
        may = self._left() > 0 or self._longest_at_rest(pool) is not None
        if not may:
            self.show()
        return may

    def _make_room(self, pool: Pool) -> None:
        """``pool`` is about to open a server: close one that rests in another pool if it needs that one's place."""
        if self._left() <= 0:
            self._close_one(self._longest_at_rest(pool))

    def _close_one(self, other: Pool | None) -> None:
        """Close the server of ``other`` that has rested for longest."""
        if other is not None:
            server = next(iter(other.queue))
            other.queue.remove(server)
            self._making_room = True
            try:
                other.forget(server, TAKEN)
            finally:
                self._making_room = False

    def _longest_at_rest(self, pool: Pool | None) -> Pool | None:
        """The pool, other than ``pool``, with the server that has rested for longest."""
        others = [other for other in self._pools if other is not pool and other.queue.qsize()]
        return min(others, key=lambda other: next(iter(other.queue)).idle_since, default=None)

    def is_owed(self, pool: Pool) -> bool:
        """Whether a server that ``pool`` would lend on has to make room for others, who have waited for too long."""
        if self._left() > 0:
            return False
        self.show()
        now = clock()
        longest = max(PATIENCE, pool.max_wait(now))
        since = self._row.oldest_elsewhere() if self._row is not None else 0.0
        if since and now - since > longest:
            return True
        return any(
            other.max_wait(now) > longest and _could_grow(other, now) for other in self._pools if other is not pool
        )

    def freed(self, pool: Pool | None) -> None:
        """A server of ``pool``, or of another process, rests or is closed: it may be another's turn. No switch."""
        if self._making_room:
            return
        self.show()
        others = [other for other in self._pools if other is not pool and other.queue.waiting]
        now = clock()
        for other in sorted(others, key=lambda one: one.max_wait(now), reverse=True):
            other.opening.grow(now)
        if not others:
            self._give_way()


def _could_grow(pool: Pool, now: float) -> bool:
    """Whether nothing but the quota keeps ``pool`` from opening a server."""
    if pool.held or pool.opening.count or now < pool.opening.retry_at:
        return False
    return bool(open_servers(pool) + pool.elsewhere < pool.size)


class Quotas:
    """All quotas, by server user; ``row`` gives the row of one's count over all worker processes, if there are any."""

    def __init__(self, row: Callable[[str], Any] | None = None) -> None:
        self._row = row
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
            quota = self._known[user] = Quota(self._limit, self._row(user) if self._row is not None else None)
        return quota

    def govern(self, limit: int, pools: Iterable[Pool]) -> None:
        """Go by ``limit``, max_user_connections, from now on; 0: none. Nothing is closed for it."""
        if limit == self._limit:
            return
        self._limit = limit
        for quota in self._known.values():
            quota.end()
        self._known = {}
        for pool in pools:
            self.join(pool)
            pool.opening.grow(clock())
