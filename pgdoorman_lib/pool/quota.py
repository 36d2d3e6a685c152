"""A limit on the servers of several pools together: who gets the next, and which is closed to make room for it.

It is max_user_connections for the pools of one server user, max_db_connections for those of one database (``quotas``);
without a limit a pool has no quota. Rules:

1. A place is taken, in what all worker processes share, before a server is opened: never more than the limit and the
   reserve. The last of the reserve is for who has waited for the longest, ``reserve_after`` at least.
2. At the limit a pool takes the place of a server that rests in another: in the slowest, if ``slowness`` tells, and
   there of the one that has rested for longest. Not of one younger than ``min_age``, nor of the last that the other's
   ``floor`` leaves to it.
3. A pool whose clients hand a server from one to the next gives it up, by the same rule, once those of another have
   waited for PATIENCE, and for longer than its own.
4. What is open beyond the limit is closed when it has rested for SURPLUS_REST.
5. Who was refused a place asks again when one is free or comes to rest, and every LOOK, for time alone may help.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakSet

from pgdoorman_lib.net.deadlines import Deadline
from pgdoorman_lib.net.syscalls import clock
from pgdoorman_lib.pool.holding import open_servers
from pgdoorman_lib.pool.pool import Pool
from pgdoorman_lib.pool.tally import Tally
from pgdoorman_lib.pool.terms import Counts, Terms, Turn
from pgdoorman_lib.server.connection import Server

#: Why a server is closed whose place another pool takes, or that is one too many, by the limit's name.
TAKEN = "{} is reached, and another pool needs a connection"
SURPLUS = "there are more than {}, and it rests"
#: Seconds that clients of a pool wait at most while those of another have one server after the other.
PATIENCE = 1.0
#: Seconds between two looks whether somebody can be helped who waits for a place.
LOOK = 0.05
#: Seconds that a server rests while there are more than the limit.
SURPLUS_REST = 1.0


class Quota:
    """What pools have together by ``terms``, which may change; ``places`` counts over all worker processes.

    ``turn`` is one for all quotas of the process. ``slowness`` tells how long a pool's transactions take.
    """

    def __init__(
        self,
        terms: Terms,
        places: Any = None,
        turn: Turn | None = None,
        slowness: Callable[[Pool], float] | None = None,
        counts: Counts | None = None,
    ) -> None:
        self.terms = terms
        self.places: Any = places if places is not None else Tally()
        self.turn = turn or Turn()
        self.counts = counts or Counts()
        self._slowness = slowness
        self.pools: WeakSet[Pool] = WeakSet()
        #: those that were refused a place, and may wait for one yet; and whether one was since that was looked at
        self._asking: set[Pool] = set()
        self._has_refused = False
        #: whether other workers see that somebody waits here
        self._is_shown = False
        #: since when the last place is left to another worker, 0: it is not
        self._yielding_since = 0.0
        self._has_ended = False
        self._look = Deadline(self._look_again)
        self.places.heard = self._look_again

    def join(self, pool: Pool) -> None:
        """One more pool has it."""
        if pool not in self.pools:
            self.pools.add(pool)
            self.places.add(open_servers(pool) if pool.row is None else pool.row.held)
            self.count_elsewhere()

    def end(self) -> None:
        """It holds no more.

        A pool may have it yet that was replaced or taken away, and to which a server is on its way.
        """
        self._has_ended = True
        self._look.clear()
        self._asking.clear()
        self.places.heard = None
        self.places.leave()

    # Places.

    def take(self, pool: Pool) -> bool:
        """``pool`` is about to open a server: have a place for it, be it that of one that rests in another pool."""
        return take_all((self,), pool)

    def take_place(self, pool: Pool) -> bool:
        """As ``take``, once there should be room."""
        limit = self._limit_for(pool, clock())
        if self.places.take(limit):
            return True
        self._asking.add(pool)
        self.show()
        return bool(self.places.take(limit))  # one may have been given back by who has not seen us wait

    def has_taken(self) -> None:
        """The place that was taken is used."""
        if self.left() < 0:
            self.counts.reserve_acquisitions += 1

    def add(self) -> None:
        """A server comes to one of the pools from another process."""
        if not self._has_ended:
            self.places.add()

    def give_back(self) -> None:
        """A pool has a server less."""
        if not self._has_ended:
            self.places.give_back()

    def count_elsewhere(self) -> None:
        """Another process, which is none of the workers, has more or fewer servers of the pools."""
        self.places.set_elsewhere(sum(pool.elsewhere for pool in self.pools))

    def left(self) -> int:
        """How many more may be opened; less than 0: so many are there beyond the limit."""
        return self.terms.limit - int(self.places.total())

    def has_room(self) -> bool:
        """Whether one more server may be opened as things are."""
        return self.left() > 0

    # Who gets the next.

    def may_grow(self, pool: Pool) -> bool:
        """Whether ``pool`` may open one more, be it in the place of a server that rests in another pool."""
        now = clock()
        needed = self._needed_for(pool, now)
        may = len(self._givers(pool, needed, now)) == needed if needed else not self._is_anothers(pool, now)
        if not may:
            self._has_refused = True
            self._asking.add(pool)
            self.show()
            self._look_in(LOOK, now)
        return may

    def _needed_for(self, pool: Pool, now: float) -> int:
        """How many servers have to be closed before ``pool`` may open one."""
        return max(0, int(self.places.total()) + 1 - self._limit_for(pool, now))

    def _limit_for(self, pool: Pool, now: float) -> int:
        """How many servers there may be with the one that ``pool`` wants to open."""
        terms = self.terms
        first = pool.queue.first
        waited = pool.max_wait(now)
        if first is None or not terms.reserve or waited < terms.reserve_after:
            return terms.limit
        since = first.waiting_since
        oldest = self.places.oldest_elsewhere()
        before_us = bool(oldest) and oldest < since
        before_us = before_us or any(
            other.queue.first.waiting_since < since
            for other in self._asking
            if other is not pool and other.queue.first is not None and could_grow(other, now)
        )
        # Who is first may be kept from it by something else.
        return terms.limit if before_us and waited < terms.reserve_after + PATIENCE else terms.limit + terms.reserve

    def _is_anothers(self, pool: Pool, now: float) -> bool:
        """Whether the last place is for another worker, where somebody has waited for much longer than in ``pool``.

        It may not need it any more, or not be able to take it: that is not waited for longer than PATIENCE.
        """
        since = self.places.oldest_elsewhere() if self.left() == 1 else 0.0
        if not since or now - since <= max(PATIENCE, pool.max_wait(now)):
            self._yielding_since = 0.0
            return False
        self._yielding_since = self._yielding_since or now
        return now - self._yielding_since < PATIENCE

    def is_owed(self, pool: Pool, server: Server) -> bool:
        """Whether ``server``, which ``pool`` would lend on, has to make room: others have waited for too long."""
        total = int(self.places.total())
        since = self.places.oldest_elsewhere()
        if total < self.terms.limit or not (self._asking or since):
            return False
        self.show()
        now = clock()
        if not self._spares(pool) or now - server.created_at < self.terms.min_age:
            return False
        waits = [other.max_wait(now) for other in self._asking if other is not pool and could_grow(other, now)]
        if since:
            waits.append(now - since)
        longest = max(waits, default=0.0)
        return longest > max(PATIENCE, pool.max_wait(now)) and total <= self.terms.limit_after(longest)

    def freed(self, pool: Pool) -> None:
        """A server of ``pool`` rests or is closed: it may be another's turn. No switch."""
        now = clock()
        if self.turn:
            self._look_in(0.0, now)
            return
        if self._asking:
            if self.left() > -self.terms.reserve or self._offers(pool, now):
                self._serve(now)
            self.show()
        elif self.places.oldest_elsewhere() and self._offers(pool, now):
            self._give_way(now)
        self._go_on_looking(now)

    def _serve(self, now: float) -> None:
        """Have those who ask grow, the longest waiting first, until one of them is refused."""
        self._asking = {pool for pool in self._asking if pool.queue.waiting}
        for pool in sorted(self._asking, key=lambda one: one.max_wait(now), reverse=True):
            self._has_refused = False
            pool.opening.grow(now)
            if self._has_refused:
                break

    def _look_again(self) -> None:
        """What has changed by itself, or in another worker: it has given a place back, or has no room and waits."""
        now = clock()
        self._serve(now)
        if not any(could_grow(pool, now) for pool in self._asking):
            self._give_way(now)
        self._end_surplus(now)
        self.show()
        self._go_on_looking(now)

    def _go_on_looking(self, now: float) -> None:
        if self._asking or self.left() < 0 or self.places.oldest_elsewhere():
            self._look_in(LOOK, now)

    def _look_in(self, seconds: float, now: float) -> None:
        due = now + seconds
        if not self._look.due or due < self._look.due:
            self._look.set(due, now)

    def show(self) -> None:
        """Have the other workers see since when pools of this one need a place; those with places hear when one does.

        May be called at any time.
        """
        if not self._asking and not self._is_shown:
            return
        now = clock()
        since = [
            pool.queue.first.waiting_since
            for pool in self._asking
            if pool.queue.first is not None and could_grow(pool, now)
        ]
        places = self.places
        self._is_shown = bool(since) and self.left() <= 0
        if not self._is_shown:
            places.line_is(0, 0.0)
            return
        known = places.waiting(places.worker)
        places.line_is(len(since), min(since))
        if not known:
            places.ring_holders()

    def exhausted(self, pool: Pool) -> str:
        """What somebody is told who has waited in vain because of this limit; empty: that was not the reason."""
        terms = self.terms
        if terms.guarantee is None or pool not in self._asking or self.left() > 0 or pool.count_all() >= pool.most:
            return ""
        self.counts.exhaustions += 1
        reserve = f", reserve={-self.left()}/{terms.reserve}" if terms.reserve else ""
        return f"all server connections to database '{terms.of}' are in use (max={terms.limit}{reserve})"

    # Whose is closed for it.

    def make_room(self, pool: Pool) -> None:
        """``pool`` is about to open a server: close what rests in other pools if it needs the place."""
        now = clock()
        needed = self._needed_for(pool, now)
        givers = self._givers(pool, needed, now)
        if len(givers) == needed:
            self._evict(givers)

    def _give_way(self, now: float) -> None:
        """Close what rests here if another worker waits for its place; no switch."""
        places = self.places
        if self.left() > 0 or not places.oldest_elsewhere() or self._is_beyond_us():
            return
        worker = places.first_elsewhere()
        claimed = places.claim(worker) if worker else 0
        if not claimed:
            return  # another does
        try:
            self._evict(self._givers(None, max(0, 1 - self.left()), now))
        finally:
            places.unclaim(worker, claimed)

    def _evict(self, givers: Sequence[tuple[Pool, Server]]) -> None:
        for other, server in givers:
            self._close(other, server, TAKEN)
            self.counts.evictions += 1

    def _is_beyond_us(self) -> bool:
        """Whether there are more than the limit since the process before an upgrade has, or may have, some yet."""
        return self.left() < 0 and bool(self.places.taken_outside())

    def _end_surplus(self, now: float) -> None:
        """Close what rests beyond the limit."""
        surplus = -self.left()
        if surplus > 0 and not self._is_beyond_us():
            for pool, server in self._givers(None, surplus, now, min_age=0.0):
                if now - server.idle_since >= SURPLUS_REST:
                    self._close(pool, server, SURPLUS)

    def _close(self, pool: Pool, server: Server, why: str) -> None:
        pool.queue.remove(server)
        with self.turn:
            pool.forget(server, why.format(self.terms.name))

    def _givers(
        self, pool: Pool | None, number: int, now: float, min_age: float | None = None
    ) -> list[tuple[Pool, Server]]:
        """The next ``number`` to be closed for ``pool``, or as many as there are, of other pools."""
        if not number:
            return []
        min_age = self.terms.min_age if min_age is None else min_age
        found: list[tuple[Pool, Server]] = []
        for other in self.pools:
            if other is pool or not other.queue.qsize() or is_wanted_elsewhere(other, now):
                continue
            spare = min(number, self._spares(other))
            for server in other.queue:
                if spare <= 0:
                    break
                if now - server.created_at >= min_age:
                    found.append((other, server))
                    spare -= 1
        slow = {}
        if self._slowness is not None and len({other for other, _ in found}) > 1:
            slow = {other: self._slowness(other) for other in {other for other, _ in found}}
        found.sort(key=lambda one: (-slow.get(one[0], 0.0), one[1].idle_since))
        return found[:number]

    def _offers(self, pool: Pool, now: float) -> bool:
        """Whether ``pool`` has a server that may be closed for others."""
        return bool(
            pool.queue.qsize()
            and not is_wanted_elsewhere(pool, now)
            and self._spares(pool) > 0
            and any(now - server.created_at >= self.terms.min_age for server in pool.queue)
        )

    def _spares(self, pool: Pool) -> int:
        """How many servers of ``pool`` may be taken from it."""
        return max(0, pool.count_all() - self.terms.floor(pool))


def take_all(quotas: Sequence[Quota], pool: Pool) -> bool:
    """``pool`` is about to open a server: take a place of each, or none."""
    with quotas[0].turn:
        for quota in quotas:
            quota.make_room(pool)
        taken = []
        for quota in quotas:
            if not quota.take_place(pool):
                break
            taken.append(quota)
        if len(taken) < len(quotas):
            for quota in taken:
                quota.give_back()
            return False
    for quota in quotas:
        quota.has_taken()
    return True


def is_wanted_elsewhere(pool: Pool, now: float) -> bool:
    """Whether what rests here is waited for by the pool's own clients in another worker, as ``is_owed`` has it."""
    since = pool.row.oldest_elsewhere() if pool.row is not None else 0.0
    return bool(since) and now - since <= PATIENCE


def could_grow(pool: Pool, now: float) -> bool:
    """Whether nothing but a quota keeps ``pool`` from opening a server."""
    if pool.held or pool.opening.count or now < pool.opening.retry_at:
        return False
    return bool(open_servers(pool) + pool.elsewhere < pool.size)
