"""The pool of one (database, user): its idle servers, and the borrowers who wait for one.

Rules:
1. At any time idle + borrowed + opening <= pool_size (``check``). A server being cleaned counts as borrowed.
2. A server given back goes straight to the next waiter, who is polled in the same turn.
3. Everything but ``checkout`` (``request`` in blocking style) runs without switching, so no lock is needed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

from pgdoorman_lib.errors import (
    DoormanError,
)
from pgdoorman_lib.log import Limited, of_pool
from pgdoorman_lib.metrics.counters import PoolStats
from pgdoorman_lib.net.deadlines import Deadline
from pgdoorman_lib.net.engine import Engine
from pgdoorman_lib.net.syscalls import clock
from pgdoorman_lib.pool import names, resting
from pgdoorman_lib.pool.beginnings import Beginnings
from pgdoorman_lib.pool.database import Database
from pgdoorman_lib.pool.health import Health
from pgdoorman_lib.pool.lending import lent
from pgdoorman_lib.pool.measures import MOVING_SECONDS
from pgdoorman_lib.pool.opening import Opening
from pgdoorman_lib.pool.pins import Pins
from pgdoorman_lib.pool.probes import Probes
from pgdoorman_lib.pool.queue import Borrower, Moved, ServerQueue
from pgdoorman_lib.pool.roll import Orphan
from pgdoorman_lib.pool.row import Row
from pgdoorman_lib.pool.sequences import Sequences
from pgdoorman_lib.pool.standing import standing_of
from pgdoorman_lib.server import states
from pgdoorman_lib.server.connection import Server
from pgdoorman_lib.wire.messages import terminate
from pgdoorman_lib.wire.scan import Scanner
from pgdoorman_lib.wire.statements import Registry

_int = int
_float = float

log = logging.getLogger(__name__)

#: Seconds by which a timer may be early.
TOLERANCE = 0.0005
#: Seconds between two looks whether what is on its way to who should wait no longer still is.
LOOK_INTERVAL = 0.02
#: Why a server is closed that a pool under a limit would lend on (``pool.quota``).
OWED = "a limit of several pools is reached, and those of another have waited for longer"
#: Waits for a server that are warned of, from so many µs on.
SLOW_CHECKOUT = 500_000


class Pool:
    """Idle servers and waiters of one (database, user).

    ``connect`` opens and logs in a server (it may switch; raises ServerUnavailable, ServerRefused,
    LocalResourcesExhausted). ``tidy`` takes a server that must be cleaned or waited for before it is lent, and calls
    ``settle`` or ``discard`` in the end. ``database`` is shared by all pools of one.
    """

    __slots__ = (
        "__weakref__",
        "aside",
        "before",
        "beginnings",
        "borrowed",
        "by_transaction",
        "check_after",
        "connect",
        "credentials",
        "database",
        "disabled",
        "elsewhere",
        "engine",
        "eof_timeout",
        "exchange",
        "expiry",
        "forget_names",
        "health",
        "heir",
        "held",
        "log_parameters",
        "login_parameters",
        "most",
        "moved",
        "opening",
        "parse_limit",
        "paused",
        "pins",
        "probes",
        "queue",
        "quota",
        "refusal",
        "registry",
        "retired",
        "roll",
        "row",
        "scanner",
        "secret",
        "sequences",
        "servers",
        "settings",
        "shared",
        "size",
        "slow",
        "standing",
        "stats",
        "sync_parameters",
        "tidy",
        "timeout",
        "transparent",
    )

    def __init__(
        self,
        settings: Any,
        engine: Engine,
        connect: Callable[[Pool], Server],
        tidy: Callable[[Pool, Server], None],
        database: Database | None = None,
    ) -> None:
        self.settings = settings
        self.engine = engine
        self.connect = connect
        self.tidy = tidy
        #: how many servers it may have here, and in all worker processes together
        self.size = settings.pool_size
        self.most = settings.pool_size
        self.timeout = settings.query_wait_timeout
        self.check_after = settings.server_idle_check_timeout
        self.servers: set[Any] = set()
        self.borrowed = 0
        #: borrowed servers that their clients keep between transactions
        self.pins = Pins(settings.max_pinned_servers)
        #: what the settings say about the sessions of its clients
        self.by_transaction = 1 if settings.pool_mode == "transaction" else 0
        self.shared = 1 if self.by_transaction and settings.prepared_statements else 0
        self.sync_parameters = 1 if settings.sync_server_parameters else 0
        self.transparent = 1 if self.by_transaction and settings.session_state == "transparent" else 0
        #: a server where a customized option was set is not lent to who never has set it
        self.forget_names = 1 if self.by_transaction and settings.forget_option_names else 0
        self.queue = ServerQueue(engine, not settings.server_round_robin, bool(self.sync_parameters))
        self.log_parameters = 1 if settings.log_client_parameter_status_changes else 0
        self.parse_limit = settings.message_size_to_be_stream
        #: nothing is lent, what comes back is closed: it is paused or retired
        self.held = 0
        #: by the console, until RESUME; who wants a server waits
        self.paused = False
        #: replaced by a reload or closed
        self.retired = 0
        #: by the console, until ENABLE: no client logs in
        self.disabled = False
        #: the pool that this one has replaced, as long as that has servers, which count here; and the one that has
        #: replaced this one
        self.before: Pool | None = None
        self.heir: Pool | None = None
        #: servers of this pool that another process still has, which count towards its size (``pool.handover``)
        self.elsewhere = 0
        #: those that don't rest, but that no client uses: they come from another process, or an errand of ours has them
        self.aside = 0
        #: what all worker processes have of it together, and who deals with the others; None in one process
        self.row: Row | None = None
        self.exchange: Any = None
        #: where its servers stand for whoever finds this process dead; None in one process
        self.roll: Any = None
        #: when the first in the queue has waited for long enough
        self.expiry = Deadline(self._expire)
        self.slow = Limited(log)
        self.opening = Opening(self)
        self.probes = Probes(self)
        #: whether its hosts are what they should be, None where any will do
        self.standing = standing_of(self)
        #: what is known of programs that ask for values of sequences, None while none has asked
        self.sequences: Any = None
        self.registry = Registry(settings.prepared_statements_cache_size, settings.prepared_statements_cache_bytes)
        #: what it shares with other pools of the same database
        self.database = database if database is not None else Database()
        self.database.join(self.registry)
        #: looks at the texts of its clients, with the words that matter in its database
        self.scanner = Scanner()
        if self.database.catalogue is not None:
            self.database.catalogue.join(self)
        #: what clients are told of it without a server
        self.health = Health(settings.pooler_check_query)
        self.stats = PoolStats()
        self.beginnings = Beginnings(self)
        #: what it shares with other pools of the same server user, or database; None without a limit (``pool.quota``)
        self.quota: Any = None
        #: startup parameters of logins beyond those of the settings
        self.login_parameters: Mapping[str, str] | None = None
        #: its servers' backends were seen to change
        self.moved = 0
        #: why nobody gets a server any more
        self.refusal: DoormanError | None = None
        #: seconds for what a client has asked for before it closed its side of the connection
        self.eof_timeout = settings.client_eof_timeout
        #: secrets for pass-through authentication learnt from clients
        self.credentials: Any = None
        #: what is stored of its user's password, for one who was looked up as his clients have proven to know it
        self.secret: str = settings.secret

    # What SHOW and the metrics read.

    @property
    def idle_count(self) -> _int:
        """Servers that rest in the pool."""
        return self.queue.qsize()

    @property
    def borrowed_count(self) -> _int:
        """Servers in the hands of a borrower or the janitor."""
        return self.borrowed

    @property
    def opening_count(self) -> _int:
        """Connections being made."""
        return self.opening.count

    @property
    def opened_count(self) -> _int:
        """Connections made over its life."""
        return self.opening.made

    @property
    def waiting_count(self) -> _int:
        """Borrowers in the queue."""
        return self.queue.waiting

    def max_wait(self, now: _float) -> _float:
        """Seconds the first in the queue has waited."""
        first = self.queue.first
        return max(0.0, now - first.waiting_since) if first is not None else 0.0

    def check(self) -> None:
        """Raise AssertionError if the books are wrong; tests call it at any time."""
        assert self.borrowed >= 0, f"borrowed {self.borrowed}"
        assert self.opening.count >= 0, f"opening {self.opening.count}"
        assert self.aside >= 0, f"aside {self.aside}"
        resting = self.queue.qsize()
        assert not (resting and self.queue.waiting), f"{resting} rest while {self.queue.waiting} wait"
        assert resting + self.borrowed == len(self.servers), (resting, self.borrowed, len(self.servers))
        assert self.retired or resting + self.borrowed + self.opening.count <= self.size

    # What it has together with those of the same settings in other worker processes.

    def share(self, exchange: Any, pins: Row) -> None:
        """Have a size in common with the pools of the same settings in other workers; right after it was made.

        ``pins`` is what counts those that are kept.
        """
        self.exchange = exchange
        self.row = self.queue.row = exchange.row
        self.pins.share(pins)

    def expect(self) -> None:
        """A server is about to come from another process: it has a place here from now on; no switch."""
        if self.row is not None:
            self.row.add()
        if self.quota is not None:
            self.quota.add()

    def set_aside(self, change: _int) -> None:
        """So many more servers, or less, come here or are lent to errands of our own; no switch."""
        self.aside += change
        if self.row is not None:
            self.row.set_aside(change, self.queue.qsize())

    def free_place(self) -> None:
        """The place of a server is another's: it was closed, was not opened after all, or went; no switch."""
        if self.row is not None:
            self.row.give_back()
            if self.retired:
                self.exchange.end()
        if self.quota is not None:
            self.quota.give_back()
        heir = self.heir
        while heir is not None and heir.heir is not None:
            heir = heir.heir
        if heir is not None:
            heir.opening.grow(clock())

    def follow(self, before: Pool) -> None:
        """Be ``before``'s replacement: what servers that still has, lent as they are, have their places here."""
        self.before = before
        before.heir = self

    def _left_before(self) -> _int:
        """Servers of those this one has replaced."""
        before = self.before
        if before is None:
            return 0
        left = len(before.servers) + int(before.opening.count) + before._left_before()
        if not left:
            before.heir = None
            self.before = None
        return int(left)

    def count_elsewhere(self, number: _int) -> None:
        """So many servers of it another process still has, which is none of the workers."""
        self.elsewhere = number
        if self.row is not None:
            self.row.set_elsewhere(number)
        if self.quota is not None:
            self.quota.count_elsewhere()

    def count_all(self) -> _int:
        """Servers there are, those being opened included, in all processes."""
        if self.row is not None:
            return int(self.row.total())
        return len(self.servers) + int(self.opening.count) + self.elsewhere

    # Borrowing.

    def request(self, borrower: Borrower) -> bool:
        """Lend a server now (it is ``borrower.assigned``) or queue the borrower (False); no switch.

        A queued borrower is told later by ``set`` or ``fail``; ``withdraw`` takes it out. Raises Moved when the pool
        was replaced, CheckoutTimeout when there is no waiting.
        """
        borrower.assigned = None
        borrower.wait_error = None
        if self.held:
            return self._wait_for_resume(borrower)
        queue = self.queue
        if not queue.waiting or self.forget_names:
            while (
                queue.qsize()
                and self.probes.count <= queue.waiting
                and (not self.forget_names or names.bring_one(self, borrower))
            ):
                server = self._take_idle(borrower)
                if server is None:
                    continue
                borrower.assigned = server
                self.stats.wait_hist.add(0)
                return True
        now = clock()
        borrower.waiting_since = now
        queue.join(borrower)
        if queue.qsize() and self.probes.count and not self.forget_names and self._probe_more(borrower):
            return True
        if self.sequences is not None:
            self.sequences.hurry(now)
        room = self.has_room()
        row = self.row
        if row is not None and (row.rest_unaware() or ((room or self.timeout <= 0) and row.rests_elsewhere())):
            self.exchange.call(now)
        if room:
            self.opening.grow(now)
        if self.timeout <= 0 and self._on_their_way(now) < queue.waiting:
            queue.leave(borrower)
            raise self.opening.timeout_error()
        self._arm_expiry(now)
        return False

    def _wait_for_resume(self, borrower: Borrower) -> bool:
        """Queue the borrower of a pool that is held; Moved when it was replaced, or why it refuses its clients."""
        if self.retired:
            if self.refusal is not None:
                raise self.refusal
            raise Moved
        if self.timeout <= 0:
            raise self.opening.timeout_error()
        now = clock()
        borrower.waiting_since = now
        self.queue.join(borrower)
        self._arm_expiry(now)
        return False

    def withdraw(self, borrower: Borrower) -> None:
        """Take a queued borrower out of the queue, or take back what it was handed and has not seen yet."""
        server = borrower.assigned
        if server is not None:
            borrower.assigned = None
            self.checkin(server)
            return
        if borrower.wait_error is None:
            self.queue.leave(borrower)
            if self.quota is not None:
                self.quota.show()

    def checkout(self, borrower: Borrower) -> Server:
        """As ``request``, in blocking style: returns the server; may switch.

        CheckoutTimeout or ServerUnavailable after query_wait_timeout, ServerRefused when PostgreSQL refuses the login
        for good, Moved when the pool was replaced.
        """
        self.request(borrower)
        try:
            borrower.park()
        except BaseException:
            self.withdraw(borrower)
            raise
        return borrower.result()

    def connection(self) -> AbstractContextManager[Server]:
        """A server for the running greenlet, given back at the end of the ``with``. To enter it may switch.

        Nothing that its last client has set is in effect. It counts as resting meanwhile: this is no use of it. Raises
        what ``checkout`` and the statements that take settings back raise.
        """
        return lent(self)

    def count_wait(self, borrower: Borrower) -> None:
        """A server has just gone to ``borrower``, who has waited for it."""
        waited = int((self.engine.now - borrower.waiting_since) * 1000000.0)
        self.stats.wait_hist.add(waited)
        if waited > 0:
            self.stats.wait_time += waited
            self.stats.wait_count += 1
            if waited >= SLOW_CHECKOUT:
                used, waiting = self.borrowed, self.queue.waiting
                if self.row is not None:
                    used, waiting = self.row.used(), self.row.all_waiting()
                self.slow.warning(
                    "%s a server was waited for %d ms: %d of %d are in use, %d more wait",
                    of_pool(self.settings),
                    waited // 1000,
                    used,
                    self.size,
                    waiting,
                )

    def _take_idle(self, borrower: Borrower) -> Server | None:
        """Take the next idle server; None when that one was no good (it is closed then)."""
        own = self.sequences is not None and borrower.drawing and not self.forget_names
        server: Server = (self.sequences.take_own(borrower) if own else None) or (self.queue.get_nowait())
        self.borrowed += 1
        server.enter(states.ACTIVE)
        if not server.is_reusable():
            self.discard(server, "connection lost while idle")
            return None
        if self.check_after > 0 and self.engine.now - server.idle_since > self.check_after:
            # Not known to be alive: the janitor asks it and offers it again; the borrower waits like any other.
            self.probes.begin(server)
            return None
        return server

    def _probe_more(self, borrower: Borrower) -> bool:
        """Have a probe under way for each who waits, ``borrower`` the last of them; whether he has got a server.

        One that needs no probe goes to the first.
        """
        while self.queue.qsize() and self.probes.count < self.queue.waiting:
            server = self._take_idle(borrower)
            if server is not None:
                self.settle(server)
        return borrower.assigned is not None

    def know_sequences(self, application_name: str) -> bool:
        """Programs of this name ask for values of sequences; whether that is new."""
        if self.sequences is None:
            self.sequences = Sequences(self)
        return bool(self.sequences.learn(application_name))

    def learn_sequences(self, application_name: str) -> None:
        """As ``know_sequences``, of a client of this process: the others are told."""
        if self.know_sequences(application_name):
            self.learned()

    def checkin(self, server: Server) -> None:
        """Take a server back from its borrower and pass it on; no switch."""
        if self.held:
            self.discard(server, self._why_held())
        elif server.is_reusable() and not server.dirty:
            self.settle(server)
        elif server.is_reusable() or (server.cancels and not server.fatal_received and not server.stream.eof):
            # It is to be cleaned; or a cancel is on its way, which must not hit the next borrower.
            server.enter(states.CLEANING)
            self.tidy(self, server)
        else:
            self.discard(server, "connection is not in a known state")

    def settle(self, server: Server) -> None:
        """A server is clean: lend it to the first waiter, or let it rest. No switch."""
        if self.held:
            self.discard(server, self._why_held())
        elif self.engine.now > server.expires_at and clock() > server.expires_at:
            self.discard(server, server.condemned or "server_lifetime reached")
            self.opening.grow(clock())
        elif self.row is not None and self._goes_over(server):
            pass
        elif self.quota is not None and self.queue.waiting and self.quota.is_owed(self, server):
            self.discard(server, OWED)
        elif self.forget_names and self.queue.waiting:
            names.lend(self, server)
        else:
            borrower = self.queue.put(server)
            if borrower is None:
                self.rests(server)
            else:
                server.enter(states.ACTIVE)
                self.count_wait(borrower)
                if self.quota is not None:
                    self.quota.show()

    def _goes_over(self, server: Server) -> bool:
        """Whether ``server`` is another worker's from here on, since who waits there is next."""
        first = self.queue.first
        row: Any = self.row
        worker = row.turn_of(first.waiting_since if first is not None else 0.0, self.engine.now)
        return worker != 0 and bool(self.exchange.goes_over(server, worker))

    def _why_held(self) -> str:
        return "pool was replaced" if self.retired else "pool is paused"

    def rests(self, server: Server) -> None:
        """A borrowed server goes to those at rest, where it stands already."""
        server.enter(states.IDLE)
        server.stream.task = None
        server.idle_since = self.engine.now
        self.borrowed -= 1
        if self.quota is not None:
            self.quota.freed(self)
        if self.row is not None and self.engine.now >= self.row.look_at and self.row.first_elsewhere():
            self.exchange.look(self.engine.now)

    def discard(self, server: Server, reason: str) -> None:
        """Close a borrowed server; no switch. One that is closed already is left alone."""
        if server.stage == states.CLOSED:
            return
        self.borrowed -= 1
        self.forget(server, reason)
        if self.queue.waiting:
            self.opening.grow(clock())

    def forget(self, server: Server, reason: str) -> None:
        """Close a server that is in nobody's hands, nor among the idle ones any more; no switch."""
        server.enter(states.CLOSED)
        self.servers.discard(server)
        self.strike_off(server)
        log.info("%s closing server #%d (pid %d): %s", of_pool(self.settings), server.id, server.pid, reason)
        stream = server.stream
        stream.task = None
        if self.standing is not None and (stream.eof or server.fatal_received):
            self.standing.doubt()
        if not stream.closed:
            if not stream.eof and not stream.send_failed and not server.replies.copy_in:
                stream.write(terminate())
            stream.close()
        self.free_place()
        if self.quota is not None:
            self.quota.freed(self)

    def learn_secret(self, secret: Any) -> None:
        """A client has proven to be the user with ``secret``, who was looked up."""
        if secret != self.secret and self.settings.server_password is None:
            self.secret = secret
            self.credentials = None  # they were by another
            self.learned()

    def learn_credentials(self, credentials: Any) -> None:
        """A client has proven to know by what its servers let it in."""
        if credentials != self.credentials and self.settings.server_password is None:
            self.credentials = credentials
            self.learned()

    def learned(self) -> None:
        """A server or client has taught this pool something: tell it to the other workers, if there are; no switch."""
        if self.exchange is not None:
            self.exchange.learned()

    # Its servers.

    def has_room(self) -> bool:
        """Whether one more server may be opened."""
        taken = self.queue.qsize() + self.borrowed + self.opening.count + self.elsewhere
        if taken >= self.size or (self.before is not None and taken + self._left_before() >= self.size):
            return False
        if self.row is not None and self.row.total() >= self.most:
            return False
        return self.quota is None or bool(self.quota.may_grow(self))

    def welcome(self, server: Server) -> None:
        """Take a server fresh from its login in, and lend it."""
        self.adopt(server)
        self.beginnings.learn(server)
        self.learned()
        self.settle(server)

    def adopt(self, server: Server) -> None:
        """Take a server in, which counts as borrowed."""
        self.borrowed += 1
        self.servers.add(server)
        server.pool = self
        server.stream.on_idle = partial(resting.heard, self, server)
        self.enrol(server)
        if self.row is not None and not server.stream.may_move():
            self.row.shy = True

    def enrol(self, server: Server) -> None:
        """Should this process die, what runs on ``server`` is to be cancelled."""
        if self.roll is not None:
            settings = server.settings
            where = settings.server_host, settings.server_port, server.stream.peer_host
            self.roll.add(Orphan(settings.database, settings.user, server.pid, server.secret, *where))

    def strike_off(self, server: Server) -> None:
        """``server`` is closed, or may come to be another process's: what runs there is no longer our business."""
        if self.roll is not None:
            self.roll.remove(server.pid, server.secret)

    # Waiting no longer.

    def limit_wait(self, seconds: _float) -> None:
        """From now on have nobody wait for longer; no switch."""
        self.timeout = seconds
        self.expiry.clear()
        self._arm_expiry(clock())

    def _arm_expiry(self, now: _float) -> None:
        """A deadline for the head of the queue: all wait equally long, so nobody behind it is due earlier.

        Who was not refused though it was due, or may not wait at all, is looked after again.
        """
        first = self.queue.first
        if self.expiry.due == 0.0 and first is not None:
            due = first.waiting_since + self.timeout
            self.expiry.set(due if due > now + TOLERANCE else now + LOOK_INTERVAL, now)

    def _expire(self) -> None:
        now = clock()
        self.opening.grow(now)  # what has gone instead of coming has left room
        self.refuse_overdue(now)
        if self.queue.first is not None and self.row is not None and self.row.rests_elsewhere():
            self.exchange.call(now)
        self._arm_expiry(now)

    def refuse_overdue(self, now: _float) -> None:
        """Tell those who have waited long enough, but as many as get a server that is on its way; no switch."""
        queue = self.queue
        due = now + TOLERANCE - self.timeout
        while queue.first is not None and queue.first.waiting_since <= due and queue.waiting > self._on_their_way(now):
            queue.next().fail(self.opening.timeout_error())

    def _on_their_way(self, now: _float) -> _int:
        """How many servers the line may get yet, however long it has waited: those that no client uses.

        Where there is no waiting for others, those too that are opened or probed for it (connect_timeout limits that).
        """
        found = self.opening.count + self.probes.count if self.timeout <= 0 else 0
        first = self.queue.first
        if first is None or now >= first.waiting_since + MOVING_SECONDS:
            return int(found)
        if self.row is None:
            return int(found + self.aside + self.elsewhere)
        return int(found + self.aside + self.row.rests_elsewhere() + self.row.taken_outside())

    # Its end.

    def reconnect(self, reason: str) -> None:
        """Close every idle server."""
        while self.queue.qsize():
            self.forget(self.queue.get_nowait(), reason)

    def retire(self, reason: str) -> None:
        """Lend nothing more: idle servers are closed now, borrowed ones when they come back, waiters ask again."""
        self.retired = 1
        self.held = 1
        self.expiry.clear()
        self.opening.close()
        if self.sequences is not None:
            self.sequences.close()
        self.reconnect(reason)
        while self.queue.waiting:
            self.queue.next().fail(Moved())
        if self.exchange is not None:
            self.exchange.end()
