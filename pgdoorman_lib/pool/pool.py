"""The pool of one (database, user): its idle servers, and the borrowers who wait for one.

Rules:
1. At any time idle + borrowed + opening <= pool_size (``check``). A server being cleaned counts as borrowed.
2. Waiters are served first come, first served, but for ``Waiters.take_with``. A server given back goes straight to its
   waiter, who is polled in the same turn.
3. Everything but ``checkout`` (``request`` in blocking style) and the opener greenlet runs without switching, so no
   lock is needed.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import gevent

from pgdoorman_lib.errors import (
    CheckoutTimeout,
    DoormanError,
    LocalResourcesExhausted,
    ServerProtocolViolation,
    ServerRefused,
    ServerUnavailable,
)
from pgdoorman_lib.metrics.counters import PoolStats
from pgdoorman_lib.net.engine import Engine
from pgdoorman_lib.net.line import Line
from pgdoorman_lib.net.pollable import Pollable
from pgdoorman_lib.net.syscalls import clock
from pgdoorman_lib.pool.database import Database
from pgdoorman_lib.pool.sequences import Sequences
from pgdoorman_lib.server.connection import Server
from pgdoorman_lib.wire import consts
from pgdoorman_lib.wire.baseline import Base
from pgdoorman_lib.wire.framing import frame_size
from pgdoorman_lib.wire.messages import parse_fields, parse_parameter_status
from pgdoorman_lib.wire.reported import Reported
from pgdoorman_lib.wire.scan import Scanner
from pgdoorman_lib.wire.settings import PLANNING
from pgdoorman_lib.wire.statements import Registry

_int = int
_float = float

log = logging.getLogger(__name__)

#: Seconds between attempts to connect while PostgreSQL can't be reached: doubled from the first to the last.
BACKOFF_FIRST = 0.05
BACKOFF_LAST = 1.0
#: Seconds for which new clients are told that the servers are standbys without asking one again.
STANDBY_SECONDS = 1.0
#: SQLSTATEs of a refused login that may go away by waiting: starting up, shutting down, too many connections.
PASSING_REFUSALS = ("57P03", "57P01", "57P02", "53300", "53400", "53000", "53200")


#: The first in the queue is passed over so often at most, for one of so many behind it.
NEAR = 8

_NEAR = NEAR


class Moved(Exception):
    """The pool was replaced by a reload: ask the registry again."""


class Borrower(Pollable):
    """Somebody who may wait for a server: a client's session, or an errand of our own."""

    __slots__ = ("assigned", "behind", "drawing", "number", "settings", "task", "wait_error", "waiting_since")

    def __init__(self) -> None:
        self.init_borrower()

    def init_borrower(self) -> _int:
        """What ``__init__`` does, for those who derive: compiled, a call of it costs next to nothing."""
        #: the task that waits; set by the greenlet that owns the borrower
        self.task: Any = None
        #: the server handed over, None while waiting
        self.assigned: Server | None = None
        self.wait_error: BaseException | None = None
        self.waiting_since = 0.0
        #: the next in the queue
        self.behind: Borrower | None = None
        #: who it is for ``Server.drawn_by``, and whether it may ask for what sequences have given it
        self.number = 0
        self.drawing = 0
        #: the ``Settings`` it has on its server
        self.settings: Any = None
        return 0

    def set(self, server: Server) -> _int:
        """Hand ``server`` over to a waiting borrower, whose turn is in this turn of the engine; no switch."""
        self.assigned = server
        self.task.wake()
        return 0

    def fail(self, error: BaseException) -> _int:
        """Tell a waiting borrower that there is no server for it; no switch."""
        self.wait_error = error
        self.task.wake()
        return 0


class Waiters:
    """The borrowers who wait, first come first; each knows who stands behind it."""

    __slots__ = ("count", "first", "last", "passed")

    def __init__(self) -> None:
        self.first: Borrower | None = None
        self.last: Borrower | None = None
        self.count = 0
        #: how often the first has seen another served
        self.passed = 0

    def __len__(self) -> int:
        return int(self.count)

    def add(self, borrower: Borrower) -> _int:
        """Put ``borrower`` at the end."""
        if self.last is None:
            self.first = borrower
        else:
            self.last.behind = borrower
        self.last = borrower
        self.count += 1
        return 0

    def take(self) -> Borrower:
        """Take the first off; there must be one."""
        borrower: Any = self.first
        self.passed = 0
        self._unlink(borrower, None)
        return borrower  # type: ignore[no-any-return]

    def take_with(self, settings: Any) -> Borrower:
        """As ``take``, but one of the next few if it has these settings and the first has others.

        To put the first one's in effect takes a round trip, in which nobody has use of the server.
        """
        before: Any = self.first
        if before.settings is not settings and self.passed < _NEAR:
            for _ in range(_NEAR):
                borrower = before.behind
                if borrower is None:
                    break
                if borrower.settings is settings:
                    self.passed += 1
                    self._unlink(borrower, before)
                    return borrower  # type: ignore[no-any-return]
                before = borrower
        return self.take()

    def remove(self, borrower: Borrower) -> _int:
        """Take ``borrower`` off, wherever it stands; ValueError when it does not wait."""
        before = None
        one = self.first
        while one is not borrower:
            if one is None:
                raise ValueError("not in the queue")
            before = one
            one = one.behind
        return self._unlink(borrower, before)

    def _unlink(self, borrower: Borrower, before: Borrower | None) -> _int:
        if before is None:
            self.first = borrower.behind
        else:
            before.behind = borrower.behind
        if borrower.behind is None:
            self.last = before
        borrower.behind = None
        self.count -= 1
        return 0


class Pool:
    """Idle servers and waiters of one (database, user).

    ``connect`` opens and logs in a server (it may switch; raises ServerUnavailable, ServerRefused,
    LocalResourcesExhausted). ``tidy`` takes a server that must be cleaned or waited for before it is lent, and calls
    ``settle`` or ``discard`` in the end. ``database`` is shared by all pools of one.
    """

    __slots__ = (
        "__weakref__",
        "backoff",
        "base",
        "borrowed",
        "by_transaction",
        "carried",
        "check_after",
        "connect",
        "credentials",
        "database",
        "engine",
        "eof_timeout",
        "expiry",
        "heard_at",
        "idle",
        "last_error",
        "lifo",
        "log_parameters",
        "login_parameters",
        "max_pinned",
        "moved",
        "opening",
        "parallel",
        "parse_limit",
        "paused",
        "pinned",
        "refusal",
        "registry",
        "reported",
        "reports",
        "retired",
        "retry",
        "retry_at",
        "scanner",
        "sequences",
        "servers",
        "settings",
        "shared",
        "size",
        "stats",
        "sync_parameters",
        "tidy",
        "timeout",
        "transparent",
        "unpinning",
        "waiters",
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
        self.size = settings.pool_size
        self.timeout = settings.query_wait_timeout
        self.check_after = settings.server_idle_check_timeout
        self.parallel = min(settings.scaling_max_parallel_creates, settings.max_concurrent_creates)
        self.lifo = not settings.server_round_robin
        #: the longest at rest first
        self.idle = Line()
        self.waiters = Waiters()
        self.servers: set[Any] = set()
        self.borrowed = 0
        self.opening = 0
        #: borrowed servers that their clients keep between transactions, and how many may be
        self.pinned = 0
        self.max_pinned = settings.max_pinned_servers
        #: those of them about which the question whether that is still so is under way
        self.unpinning = 0
        #: what the settings say about the sessions of its clients
        self.by_transaction = 1 if settings.pool_mode == "transaction" else 0
        self.shared = 1 if self.by_transaction and settings.prepared_statements else 0
        self.sync_parameters = 1 if settings.sync_server_parameters else 0
        self.transparent = 1 if self.by_transaction and settings.session_state == "transparent" else 0
        self.log_parameters = 1 if settings.log_client_parameter_status_changes else 0
        self.parse_limit = settings.message_size_to_be_stream
        self.paused = False
        #: replaced by a reload or closed: nothing is lent any more, what comes back is closed
        self.retired = 0
        self.backoff = 0.0
        self.retry_at = 0.0
        self.last_error: DoormanError | None = None
        #: timers on the hub's loop, None while not armed
        self.expiry: Any = None
        self.retry: Any = None
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
        self.stats = PoolStats()
        #: what the newest of its servers began with and has reported; None until the first was there
        self.base: Base | None = None
        self.reported: Reported | None = None
        #: when that was last asked of a server; only where clients may ask for another kind of server (see ``stale``)
        self.heard_at = 0.0
        #: by the parameters of a startup packet: the ``client.connection.Beginning`` of such a session
        self.reports: dict[Any, Any] = {}
        #: names of parameters that sessions carry from their beginning, whatever their server began with: statements
        #: depend on them, and servers have begun with different values
        self.carried: frozenset[str] = frozenset()
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

    # What SHOW and the metrics read.

    @property
    def idle_count(self) -> _int:
        """Servers that rest in the pool."""
        return self.idle.size()

    @property
    def borrowed_count(self) -> _int:
        """Servers in the hands of a borrower or the janitor."""
        return self.borrowed

    @property
    def opening_count(self) -> _int:
        """Connections being made."""
        return self.opening

    @property
    def waiting_count(self) -> _int:
        """Borrowers in the queue."""
        return self.waiters.count

    def max_wait(self, now: _float) -> _float:
        """Seconds the first in the queue has waited."""
        first = self.waiters.first
        return max(0.0, now - first.waiting_since) if first is not None else 0.0

    def check(self) -> None:
        """Raise AssertionError if the books are wrong; tests call it at any time."""
        assert self.borrowed >= 0, f"borrowed {self.borrowed}"
        assert self.opening >= 0, f"opening {self.opening}"
        assert len(self.idle) + self.borrowed == len(self.servers), (len(self.idle), self.borrowed, len(self.servers))
        assert self.retired or len(self.idle) + self.borrowed + self.opening <= self.size

    # Borrowing.

    def request(self, borrower: Borrower) -> _int:
        """Lend a server now (1: it is ``borrower.assigned``) or queue the borrower (0); no switch.

        A queued borrower is told later by ``set`` or ``fail``; ``withdraw`` takes it out. Raises Moved when the pool
        was replaced, CheckoutTimeout when there is no waiting.
        """
        borrower.assigned = None
        borrower.wait_error = None
        if self.retired:
            if self.refusal is not None:
                raise self.refusal
            raise Moved
        if not self.waiters.count:
            while self.idle.size():
                server = self._take_idle(borrower)
                if server is None:
                    continue
                borrower.assigned = server
                return 1
        now = clock()
        borrower.waiting_since = now
        self.waiters.add(borrower)
        if self.sequences is not None:
            self.sequences.hurry(now)
        self.grow(now)
        if self.timeout <= 0:
            # No waiting for others; what is opened for this borrower is limited by connect_timeout.
            if self.opening < self.waiters.count:
                self.waiters.remove(borrower)
                raise self._timeout_error()
            return 0
        self._arm_expiry(now)
        return 0

    def withdraw(self, borrower: Borrower) -> _int:
        """Take a queued borrower out of the queue, or take back what it was handed and has not seen yet."""
        server = borrower.assigned
        if server is not None:
            borrower.assigned = None
            return self.checkin(server)
        if borrower.wait_error is None:
            self.waiters.remove(borrower)
        return 0

    def checkout(self, borrower: Borrower) -> Server:
        """As ``request``, in blocking style: returns the server; may switch.

        CheckoutTimeout or ServerUnavailable after query_wait_timeout, ServerRefused when PostgreSQL refuses the login
        for good, Moved when the pool was replaced.
        """
        self.request(borrower)
        try:
            while borrower.assigned is None and borrower.wait_error is None:
                borrower.task.park()  # switch: hand-offs, timeouts and retirement come to the borrower meanwhile
        except BaseException:
            self.withdraw(borrower)
            raise
        if borrower.wait_error is not None:
            error = borrower.wait_error
            borrower.wait_error = None
            raise error
        assert borrower.assigned is not None
        return borrower.assigned

    def _count_wait(self, borrower: Borrower) -> _int:
        waited = int((self.engine.now - borrower.waiting_since) * 1000000.0)
        if waited > 0:
            self.stats.wait_time += waited
            self.stats.wait_hist.add(waited)
        return 0

    def _take_idle(self, borrower: Borrower) -> Server | None:
        """Take the next idle server; None when that one was no good (it is closed then)."""
        server: Server = (self.sequences.take_own(borrower) if borrower.drawing and self.sequences else None) or (
            self.idle.take() if self.lifo else self.idle.take_first()
        )
        self.borrowed += 1
        server.state = "active"
        if not server.quiet():
            self.discard(server, "connection lost while idle")
            return None
        if self.check_after > 0 and self.engine.now - server.idle_since > self.check_after:
            # Not known to be alive: the janitor asks it and offers it again; the borrower waits like any other.
            server.state = "cleaning"
            self.tidy(self, server)
            return None
        return server

    def learn_sequences(self, application_name: str) -> _int:
        """Programs of this name ask for values of sequences."""
        if self.sequences is None:
            self.sequences = Sequences(self)
        self.sequences.learn(application_name)
        return 0

    def checkin(self, server: Server) -> _int:
        """Take a server back from its borrower and pass it on; no switch."""
        if self.retired:
            return self.discard(server, "pool was replaced")
        if not server.quiet():
            if server.cancels and not server.farewell and not server.stream.eof:
                # A cancel on its way must not hit the next borrower.
                server.state = "cleaning"
                self.tidy(self, server)
                return 0
            return self.discard(server, "connection is not in a known state")
        if server.dirty:
            server.state = "cleaning"
            self.tidy(self, server)
            return 0
        return self.settle(server)

    def settle(self, server: Server) -> _int:
        """A server is clean: lend it to the first waiter, or let it rest. No switch."""
        if self.retired:
            return self.discard(server, "pool was replaced")
        if self.engine.now > server.expires_at and clock() > server.expires_at:
            self.discard(server, "server_lifetime reached")
            self.grow(clock())
            return 0
        server.state = "active"
        if not self.waiters.count:
            return self._rest(server)
        borrower = self.waiters.take_with(server.applied) if self.sync_parameters else self.waiters.take()
        self._count_wait(borrower)
        return borrower.set(server)

    def _rest(self, server: Server) -> _int:
        server.state = "idle"
        server.stream.task = None
        server.idle_since = self.engine.now
        self.borrowed -= 1
        self.idle.add(server)
        return 0

    def discard(self, server: Server, reason: str) -> _int:
        """Close a borrowed server; no switch. One that is closed already is left alone."""
        if server.state == "closed":
            return 0
        self.borrowed -= 1
        self._forget(server, reason)
        if self.waiters.count:
            self.grow(clock())
        return 0

    def _forget(self, server: Server, reason: str) -> None:
        server.state = "closed"
        self.servers.discard(server)
        log.info(
            "[%s@%s] closing server #%d (pid %d): %s",
            self.settings.user,
            self.settings.database,
            server.id,
            server.pid,
            reason,
        )
        stream = server.stream
        stream.task = None
        if not stream.closed:
            if not stream.eof and not stream.send_failed and not server.replies.copy_in:
                stream.write(b"X\x00\x00\x00\x04")
            stream.close()

    # Growing.

    def grow(self, now: _float) -> _int:
        """Open as many servers as waiters need, a few at a time; no switch."""
        if self.retired or not self.waiters.count:
            return 0
        if now < self.retry_at:
            self._arm_retry(now)
            return 0
        while (
            self.opening < self.waiters.count
            and self.opening < self.parallel
            and self.idle.size() + self.borrowed + self.opening < self.size
        ):
            self.start_opening()
            if self.last_error is not None:
                break  # PostgreSQL was out of reach: one tries, the others wait for its answer
        return 0

    def start_opening(self) -> _int:
        """Begin to open one server in a greenlet of its own."""
        self.opening += 1
        gevent.spawn(self._open)
        return 0

    def _open(self) -> None:
        """The opener greenlet: connect, log in, lend."""
        try:
            server = self.connect(self)  # switch
        except (ServerUnavailable, ServerRefused, LocalResourcesExhausted) as exc:
            self.opening -= 1
            self._open_failed(exc)
            return
        except BaseException:
            self.opening -= 1
            raise
        self.opening -= 1
        self.borrowed += 1
        self.servers.add(server)
        server.pool = self
        server.stream.on_idle = partial(self._idle_event, server)
        self.backoff = 0.0
        self.last_error = None
        self.learn(server)
        self.settle(server)
        self.grow(clock())

    # What sessions begin with.

    def learn(self, server: Server) -> _int:
        """A server fresh from its login: new clients are told what it has told, and begin with what it began with."""
        base = server.base
        if self.base is not base:
            if self.base is not None and self.base.owned | base.owned:
                self.carried |= PLANNING.intersection(self.base.difference(base))
            if base.temporary:
                self.carried |= {"search_path"}  # for whoever looks at a client's settings to see it
            self.base = base
            self.reports.clear()
        if self.reported is not server.reported:
            self.reported = server.reported
            self.reports.clear()
        self.heard_at = self.engine.now
        return 0

    def hears(self, name: str, value: str) -> _int:
        """A parameter is ``value`` in every session that has not set it."""
        if self.reported is not None and self.reported.values.get(name) != value:
            self.reported = self.reported.changed(name, value)
            self.reports.clear()
        return 0

    def stale(self) -> _int:
        """Whether new clients may be told to look elsewhere by what is true no more: a standby can be promoted."""
        reported = self.reported
        if reported is None or reported.values.get("in_hot_standby") != "on":
            return 0
        return 1 if self.engine.now - self.heard_at > STANDBY_SECONDS else 0

    def backend_moved(self, server: Server, process: _int) -> _int:
        """The backend behind ``server`` is another process than it was: what a session sets is not its own there."""
        server.backend = process
        if self.moved:
            return 0
        self.moved = 1
        self.transparent = 0
        settings = self.settings
        text = (
            f"{settings.server_host}:{settings.server_port} is not a PostgreSQL session, but a pooler that exchanges"
            " backends between transactions"
        )
        if settings.shared_backend == "refuse":
            log.error("[%s@%s] %s: the pool refuses its clients", settings.user, settings.database, text)
            self.refusal = ServerUnavailable(text)
            self.retire("the server shares its backends")
            return 0
        log.warning(
            "[%s@%s] %s. Nothing a client sets, locks or listens to is safe there; from now on the pool works as with"
            ' session_state = "reset"',
            settings.user,
            settings.database,
            text,
        )
        return 0

    def _open_failed(self, exc: DoormanError) -> None:
        now = clock()
        self.backoff = min(BACKOFF_LAST, self.backoff * 2 or BACKOFF_FIRST)
        self.retry_at = now + self.backoff * random.uniform(0.8, 1.2)
        self.last_error = exc
        log.warning(
            "[%s@%s] connecting to the server failed: %s",
            self.settings.user,
            self.settings.database,
            getattr(exc, "log_message", None) or exc.message,
        )
        if isinstance(exc, ServerRefused) and exc.sqlstate not in PASSING_REFUSALS:
            while self.waiters.count:
                self.waiters.take().fail(exc)
        if self.timeout <= 0:
            while self.waiters.count > self.opening:
                self.waiters.take().fail(self._timeout_error())
        self._arm_retry(now)

    def _arm_retry(self, now: _float) -> None:
        if self.retry is None and self.waiters.count:
            self.retry = self.engine.loop.timer(max(0.001, self.retry_at - now))
            self.retry.start(self._retry_now)

    def _retry_now(self) -> None:
        self.retry.close()
        self.retry = None
        self.grow(max(clock(), self.retry_at))

    # Waiting no longer.

    def _arm_expiry(self, now: _float) -> None:
        """One timer for the head of the queue: all wait equally long, so nobody behind it is due earlier."""
        first = self.waiters.first
        if self.expiry is None and first is not None:
            due = first.waiting_since + self.timeout
            self.expiry = self.engine.loop.timer(max(0.001, due - now))
            self.expiry.start(self._expire)

    def _expire(self) -> None:
        self.expiry.close()
        self.expiry = None
        now = clock()
        while self.waiters.first is not None and self.waiters.first.waiting_since + self.timeout <= now + 0.0005:
            self.waiters.take().fail(self._timeout_error())
        self._arm_expiry(now)

    def _timeout_error(self) -> DoormanError:
        text = (
            "Could not get a database connection from the pool. All servers may be busy or down. Error details: {}."
            " Please try again later."
        )
        cause = self.last_error
        if cause is None:
            return CheckoutTimeout(
                text.format("Timeout occurred while waiting free connection from pool (query_wait_timeout)")
            )
        if isinstance(cause, LocalResourcesExhausted):
            return LocalResourcesExhausted(cause.message)
        return ServerUnavailable(
            text.format(
                "Error occurred while creating a new connection to postgresql (postgresql_login_error): "
                + cause.message
            ),
            sqlstate=cause.sqlstate,
        )

    # Resting servers.

    def _idle_event(self, server: Server) -> None:
        """News from a server nobody has borrowed: its end, or an aside; no switch."""
        if server.state != "idle":
            return
        stream = server.stream
        reason = ""
        while not reason:
            n = stream.fill()
            if n == -1:
                break
            if n <= 0:
                reason = "server closed the connection while idle"
                break
            reason = _asides(server)
        if reason or stream.hangup:
            self.idle.remove(server)
            self._forget(server, reason or "server closed the connection while idle")
            if self.waiters.count:
                self.grow(clock())

    def sweep(self, now: _float) -> None:
        """Close what rested or lived too long, then open up to min_pool_size; no switch."""
        if self.retired:
            return
        settings = self.settings
        keep = settings.min_pool_size
        for server in list(self.idle):
            if now > server.expires_at:
                self.idle.remove(server)
                self._forget(server, "server_lifetime reached")
            elif (
                settings.idle_timeout > 0
                and now - server.idle_since > settings.idle_timeout
                and len(self.servers) > keep
            ):
                self.idle.remove(server)
                self._forget(server, "idle_timeout reached")
        limit = settings.scaling_max_parallel_creates
        while len(self.servers) + self.opening < min(keep, self.size) and self.opening < limit and now >= self.retry_at:
            self.start_opening()
        self.grow(now)

    def reconnect(self, reason: str) -> None:
        """Close every idle server."""
        while self.idle.size():
            self._forget(self.idle.take(), reason)

    def retire(self, reason: str) -> None:
        """Lend nothing more: idle servers are closed now, borrowed ones when they come back, waiters ask again."""
        self.retired = 1
        for timer in (self.expiry, self.retry):
            if timer is not None:
                timer.stop()
                timer.close()
        self.expiry = None
        self.retry = None
        if self.sequences is not None:
            self.sequences.close()
        self.reconnect(reason)
        while self.waiters.count:
            self.waiters.take().fail(Moved())


def _asides(server: Server) -> str:
    """Take the notices and parameters an idle server sent; a reason to close it, or an empty string."""
    stream = server.stream
    while stream.end > stream.start:
        block = stream.block
        assert block is not None
        size = frame_size(block, stream.start, stream.end)
        if size == -2 or size > 8192:
            return "unexpected data while idle"
        if size < 0 or size > stream.end - stream.start:
            return ""
        kind = block[stream.start]
        body = bytes(block[stream.start + 5 : stream.start + size])
        stream.start += size
        if kind == consts.ERROR_RESPONSE:
            server.farewell = 1
            return "server said: " + parse_fields(body).get("M", "")
        if kind == consts.PARAMETER_STATUS:
            try:
                name, value = parse_parameter_status(body)
            except ServerProtocolViolation:
                return "unexpected data while idle"
            server.report(name, value)
            if name.lower() not in server.applied.values:
                server.pool.hears(name, value)  # the configuration was reloaded
        elif kind != consts.NOTICE_RESPONSE and kind != consts.NOTIFICATION_RESPONSE:
            return "unexpected message while idle"
    stream.release()
    return ""
