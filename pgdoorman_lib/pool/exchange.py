"""What a pool does for those of the same settings in other worker processes, and what it has them do.

All of them together have one size, and one line of waiters as far as that is worth a server's way from one to another:

1. Who waits while servers rest in another worker has that one called (``call``), and waits for at most GRACE before one
   is opened, if there is room. Nobody is refused while there is one at rest, or on its way (``Pool.refuse_overdue``).
2. Servers stay where they have as much to do as anywhere. A worker that has none gets one; one that has fewer than its
   clients' share (``Row.surplus``) gets more; with as many as that its clients wait for those, unless these are kept
   (``STUCK``). One that comes to rest stays for REST, since who was answered last is likely to ask again before it
   could be back.
3. A server that is given back while somebody waits here goes to the worker whose first has waited clearly longer than
   ours (``Row.turn_of``): by more than twice what it takes to get there, which nobody has use of it. One is on its way
   there at a time, or as many as rested when they were asked for (``Row.claim``).
4. Servers that can't go there (TLS 1.2, and where names of options are to be forgotten) make room: they are closed when
   somebody elsewhere has waited for PATIENCE and there is no room for another.
5. A worker that does not take one is sent none for SHUNNED. One that it does not take then, either, makes room by
   rule 4: the pool there has other settings (looked up with a user, or of another file), and they would wait in vain.

``Pool.row`` is for the data path; what is here happens seldom.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from hashlib import blake2b

from pgdoorman_lib.net.deadlines import Deadline
from pgdoorman_lib.net.syscalls import clock
from pgdoorman_lib.pool.handover import gone, lift, may_go
from pgdoorman_lib.pool.holding import open_servers
from pgdoorman_lib.pool.pool import Pool
from pgdoorman_lib.pool.row import MARGIN, Row
from pgdoorman_lib.server import states
from pgdoorman_lib.server.connection import Server

#: Seconds that one at rest in another worker is waited for before another is opened.
GRACE = 0.02
#: Servers of others that are called within a second before one is opened instead, if there is room.
CALLS = 10
#: Seconds that somebody elsewhere waits before a server that can't go there makes room.
PATIENCE = 1.0
#: Seconds after which who has servers at rest, though somebody waits elsewhere, looks again.
LOOK = 0.005
#: Seconds within which one that has come to rest is likely to be of use here again.
REST = 0.002
#: One that has rested for so many margins (``Row.margin``), or for so many seconds, is not needed here any more.
UNUSED_MARGINS = 50
UNUSED = 1.0
#: Seconds in which nothing is sent to a worker that did not take a server.
SHUNNED = 1.0
#: The part of what is known of the length of the way that the last one makes, one in so many.
SMOOTHING = 4
#: Why a server is closed whose place is another worker's.
MADE_ROOM = "its place is needed by another worker process, and it can't go there"

#: Has the other workers know what a pool's servers and clients have taught it; no switch.
Tell = Callable[["Exchange"], None]
#: Sends a server to a worker: it calls ``Exchange.went`` or ``Exchange.stayed`` in the end; no switch.
Send = Callable[["Exchange", Server, int, int], None]


class Exchange:
    """``pool``'s; ``row`` is the one of all pools of the same settings."""

    def __init__(self, pool: Pool, row: Row, send: Send, tell: Tell) -> None:
        self.pool = pool
        self.row = row
        self._send = send
        self._tell = tell
        #: when the first in the line has waited for GRACE
        self._deadline = Deadline(self._grace_over)
        #: when is looked again who waits elsewhere
        self._look = Deadline(self._look_again)
        #: until when a worker is sent nothing, by its number, until it takes one
        self._shunned: dict[int, float] = {}
        #: seconds a server is on its way, as it was lately
        self._way = 0.0
        #: calls within the second since ``_counted_from``
        self._calls = 0
        self._counted_from = 0.0
        #: since when the last place is left to another worker, 0: it is not
        self._yielding_since = 0.0
        row.heard = self.heard
        row.shy = bool(pool.forget_names)

    @cached_property
    def digest(self) -> str:
        """What tells the pool from one that has other settings, in all processes of one version.

        Secrets can't be told by it. It goes along with each server that is sent.
        """
        settings = self.pool.settings
        words = repr([(name, getattr(settings, name)) for name in settings.__dataclass_fields__])
        return blake2b(words.encode(errors="surrogateescape"), digest_size=16).hexdigest()

    # Those who wait here.

    def call(self, now: float) -> None:
        """Somebody waits while servers rest in other workers: have them sent; no switch."""
        pool = self.pool
        if now >= self._counted_from + 1.0:
            self._counted_from = now
            self._calls = 0
        self._calls += 1
        if self._is_restless() and pool.has_room():
            return
        self.row.ring_resting(pool.queue.waiting - pool.probes.count - pool.opening.count)
        self._arm(now)

    def coming(self, now: float) -> int:
        """How many servers of other workers are on their way as far as is known: there is no need to open so many."""
        first = self.pool.queue.first
        if first is None or now >= first.waiting_since + GRACE or self._is_restless():
            return 0
        return int(self.row.rests_elsewhere())

    def yields(self, now: float) -> bool:
        """Whether the last place is left to another worker, where somebody has waited for longer, since ours can't go.

        It may not need it any more: that is not waited for longer than PATIENCE.
        """
        row, first = self.row, self.pool.queue.first
        if not row.shy or first is None or row.total() != self.pool.most - 1:
            return False
        worker = row.turn_of(first.waiting_since, now)
        if not worker or now - row.waiting_since(worker) <= PATIENCE:
            self._yielding_since = 0.0
            return False
        self._yielding_since = self._yielding_since or now
        return now - self._yielding_since < PATIENCE

    def _is_restless(self) -> bool:
        """Whether there are too few servers to be sent to and fro: one more is better, where there is room."""
        return self._calls > CALLS

    def _arm(self, now: float) -> None:
        first = self.pool.queue.first
        if self._deadline.due == 0.0 and first is not None and now < first.waiting_since + GRACE:
            self._deadline.set(first.waiting_since + GRACE, now)

    def _grace_over(self) -> None:
        first = self.pool.queue.first
        if first is None:
            return
        now = clock()
        if first.waiting_since + GRACE <= now + 0.0005:
            now = max(now, first.waiting_since + GRACE)
            self.pool.opening.grow(now)
        self._arm(now)

    # Those who wait elsewhere.

    def heard(self) -> None:
        """Another worker has given up a place, waits, or has died; no switch."""
        pool = self.pool
        if pool.held:
            return
        if pool.queue.waiting:
            pool.opening.grow(clock())
        else:
            self._spare()

    def sweep(self, now: float) -> None:
        """What would be missed if somebody had not been heard, and who could not be served; no switch."""
        if self.pool.queue.waiting:
            self._arm(now)
        else:
            self._spare()

    def look(self, now: float) -> None:
        """A server has come to rest here while somebody waits elsewhere; no switch."""
        oldest = next(iter(self.pool.queue), None)
        if oldest is None:
            return  # its place was taken at once (``quota``)
        row = self.row
        rested_at = oldest.idle_since + REST
        if row.shy or now >= rested_at:
            row.look_at = now + REST
            self._spare()
        else:
            row.look_at = rested_at
            self._look_in(LOOK, now)

    def _look_in(self, seconds: float, now: float) -> None:
        """Look again even if none comes to rest any more."""
        if self._look.due == 0.0:
            self._look.set(now + seconds, now)
            self.row.looks(True)

    def _look_again(self) -> None:
        self.row.looks(False)
        if not self.pool.held:
            self._spare()

    def _spare(self) -> None:
        """Send servers at rest to those who wait."""
        pool, row = self.pool, self.row
        now = clock()
        while pool.queue.qsize():
            worker = row.first_elsewhere()
            if not worker:
                break
            shunned_until = self._shunned.get(worker, 0.0)
            if now < shunned_until:
                self._look_in(shunned_until - now, now)
                break
            able = [server for server in pool.queue if self._can_go(server)]
            if not able:
                self._make_room(worker, now)
                break
            servers = able[: self._spared(able, worker, now)]
            if not servers:
                self._look_in(LOOK, now)
                break
            claimed = row.claim(worker)
            if not claimed:
                continue  # another was quicker: look for whom these are
            for server in servers:
                self._aside(1)  # before it rests no more: there is one at any time, for who looks
                lift(pool, server)
            for server in servers:
                self._send(self, server, worker, claimed)

    def _spared(self, able: list[Server], worker: int, now: float) -> int:
        """How many of these go to ``worker`` now.

        One that has come to rest lately is likely to be of use here before it could be back, unless there are more here
        than there should be.
        """
        row = self.row
        worse_off = row.is_clearly_worse_off(worker)
        rested = sum(1 for server in able if worse_off or now - server.idle_since >= REST)
        unneeded = min(UNUSED, row.margin * UNUSED_MARGINS)
        unused = sum(1 for server in able if now - server.idle_since >= unneeded)
        # Whoever has waited for so long would have had it at once if it were there.
        overdue = rested and 0.0 < row.waiting_since(worker) <= now - GRACE
        count = max(min(rested, round(row.surplus(worker))), unused, int(overdue or not row.held_by(worker)))
        return min(count, int(row.waiting(worker)))

    def goes_over(self, server: Server, worker: int) -> bool:
        """Whether ``server``, which is given back, is ``worker``'s from here on, or closed for it; no switch."""
        now = clock()
        if now < self._shunned.get(worker, 0.0):
            return False
        if not self._can_go(server):
            return self._is_closed_for(server, worker, now)
        claimed = self.row.claim(worker)
        if not claimed:
            return False
        server.enter(states.ACTIVE)
        server.stream.task = None
        self._aside(1)
        self._send(self, server, worker, claimed)
        return True

    def went(self, server: Server, worker: int, claimed: int, took: float) -> None:
        """A server that was sent is ``worker``'s, which ``took`` so many seconds; no switch."""
        self._way += (took - self._way) / SMOOTHING
        self.row.margin = max(MARGIN, 2 * self._way)
        self._shunned.pop(worker, None)
        self.row.unclaim(worker, claimed)
        gone(self.pool, server)
        self._aside(-1)

    def stayed(self, server: Server, worker: int, claimed: int) -> None:
        """``worker`` has not taken the server it was sent; no switch."""
        now = clock()
        again = worker in self._shunned
        self._shunned[worker] = now + SHUNNED
        self.row.unclaim(worker, claimed)
        if again and self._is_needed(worker, now):
            self.pool.discard(server, MADE_ROOM)
        else:
            self.pool.checkin(server)
        self._aside(-1)

    def _aside(self, change: int) -> None:
        """So many more, or less, are on their way to another worker, or back."""
        self.row.set_aside(change, self.pool.queue.qsize())

    def _can_go(self, server: Server) -> bool:
        return may_go(server) and server.stream.may_move() and not (server.dirty or self.pool.forget_names)

    def _is_needed(self, worker: int, now: float) -> bool:
        """Whether ``worker``'s first has waited for long, and nothing else than closing a server is of help."""
        since = self.row.waiting_since(worker)
        return 0.0 < since < now - PATIENCE and self.row.total() >= self.pool.most

    def _is_closed_for(self, server: Server, worker: int, now: float) -> bool:
        """Close a server that is given back and can't go, if it is time."""
        first = self.pool.queue.first
        if (first is not None and first.waiting_since < self.row.waiting_since(worker)) or not self._is_needed(
            worker, now
        ):
            return False
        self.pool.discard(server, MADE_ROOM)
        return True

    def _make_room(self, worker: int, now: float) -> None:
        """Close the one that has rested for longest, if it is time."""
        if self._is_needed(worker, now):
            server = next(iter(self.pool.queue))
            self.pool.queue.remove(server)
            self.pool.forget(server, MADE_ROOM)

    def learned(self) -> None:
        """A server or client has taught this pool something; no switch."""
        self._tell(self)

    # The end.

    def end(self) -> None:
        """The pool is retired: have nothing in common any more once its last server is closed; no switch."""
        row, pool = self.row, self.pool
        if pool.queue.row is not None:
            pool.queue.row = None
            self._deadline.clear()
            self._look.clear()
            row.looks(False)
            row.heard = None
            row.line_is(0, 0.0)
            row.rest_is(0)
        if pool.row is not None and not open_servers(pool):
            pool.row = None
            row.leave()
            pool.pins.leave()
