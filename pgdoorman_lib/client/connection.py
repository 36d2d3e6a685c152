"""One accepted connection from its first byte to its close: login, then a session, the console, or a cancel request.

``Connection.run`` is the client's greenlet, and blocks wherever it waits, but for two places. A session at rest keeps
no greenlet: with the stack of a login in it that would cost an idle client 6 KiB (it has 2 now), so this one ends where
the session begins, and what is left of a session in the end is done in a fresh one (``Session.run``). And who is like
an earlier client gets none at all, unless something of his login has to be waited for (``poll``).
"""

from __future__ import annotations

import logging
from typing import Any

from pgdoorman_lib.client import events
from pgdoorman_lib.client.begin import Beginning, begin, begin_at_once, is_anothers, no_such_pool, pool_of, with_host
from pgdoorman_lib.client.departure import Departure
from pgdoorman_lib.client.endings import count_rejected, tell
from pgdoorman_lib.client.lingering import linger
from pgdoorman_lib.client.login import Accepted, CancelRequested, Familiar, Guest, finish, login, proceed, recognise
from pgdoorman_lib.client.pooler import Pooler
from pgdoorman_lib.client.replication import ReplicationSession
from pgdoorman_lib.client.session import Session
from pgdoorman_lib.errors import DoormanError, ProtocolViolation, TooManyClients
from pgdoorman_lib.log import Label, label
from pgdoorman_lib.net.engine import Task
from pgdoorman_lib.net.stream import Stream
from pgdoorman_lib.net.syscalls import clock
from pgdoorman_lib.pool.pool import Pool
from pgdoorman_lib.wire import consts
from pgdoorman_lib.wire.messages import backend_key_data, ready_for_query
from pgdoorman_lib.wire.proxy import parse, wanted

_int = int

log = logging.getLogger(__name__)
#: Seconds for a client to take what is left for it, our last words included, when its session is over.
LINGER_SECONDS = 5.0

#: Letters of a name that are logged.
LONGEST_NAME = 63

_READY_FOR_QUERY = ready_for_query()


def accept(pooler: Pooler, sock: Any) -> None:
    """Begin to serve a ``net.accept.Accepted``; only the hub may call this, in a turn of the engine."""
    try:
        connection = Connection(pooler, sock)
    except OSError as exc:  # the peer has gone already
        log.debug("connection lost before its login: %s", exc)
        sock.close()
        return
    connection.start()


class Connection(Guest):
    """A client's connection from ``start`` on. ``sock`` (net.accept.Accepted) is taken over."""

    __slots__ = (
        "accepted",
        "admitted",
        "database",
        "entered",
        "familiar",
        "pooler",
        "session",
        "stream",
        "task",
        "user",
    )

    def __init__(self, pooler: Pooler, sock: Any) -> None:
        self.pooler = pooler
        self.stream = Stream(sock, pooler.engine, sock.host, sock.port)
        #: waits for the client; a session has a task of its own
        self.task: Task | None = None
        #: the login of one like an earlier client, once that is known
        self.familiar: Familiar | None = None
        #: what it was let in as while nobody had a greenlet
        self.accepted: Accepted | None = None
        self.session: Session | ReplicationSession | None = None
        #: it counts against max_connections
        self.admitted = 0
        #: the database among whose clients it counts
        self.entered: tuple[str, str] | None = None
        #: who it says to be, for the log; empty before it has said so
        self.user = ""
        self.database = ""

    def start(self) -> None:
        """Begin; only the hub may call this, in a turn of the engine."""
        pooler = self.pooler
        pooler.connections.total += 1
        stream = self.stream
        pooler.open.add(self)
        crowded = pooler.logins.begin(self, stream.peer_host)
        full = len(pooler.open) > pooler.max_open
        if crowded or full:
            # A unix socket has no address.
            self._make_room(None if self._is_balancer() else stream.peer_host or None, full)
        task = Task(pooler.engine, self)
        self.task = task
        stream.task = task
        if stream.peer_host:
            stream.readable = 1  # the kernel keeps TCP connections back until the client has said something
            task.wake()

    def poll(self) -> _int:
        """As in Pollable: who says nothing needs no greenlet yet, nor who is like another before he has to wait."""
        stream = self.stream
        if not stream.has_news():
            return events.PENDING
        if self.familiar is None and not self._is_balancer():
            self.familiar = recognise(stream, self.pooler.policy, self)
        familiar = self.familiar
        if familiar is not None:
            if proceed(stream, familiar):
                return events.PENDING
            if familiar.proof.done:
                return self._go_on(finish(stream, familiar))
        return events.SPEAKS

    def _go_on(self, accepted: Accepted) -> _int:
        """``poll`` of one who has proven who he is: his session's, if that can begin at once. No switch."""
        self.familiar = None
        self._let_in(accepted)
        self.accepted = accepted
        pooler = self.pooler
        pooler.admit_to(accepted.database, accepted.user)
        accepted = self._named(accepted)
        found = begin_at_once(pooler, accepted)
        task = self.task
        if found is None or task is None:
            return events.SPEAKS
        session = self._welcome(accepted, found)
        self.task = None
        return session.go_on_with(task)

    def run(self) -> None:
        """From the client's first word to what it came for; and, unless that is a session, to the close. May switch.

        Never raises but for GreenletExit and bugs.
        """
        error: DoormanError | None = None
        reason = ""
        session: Session | None = None
        try:
            found = self._log_in()
            if not isinstance(found, Accepted):
                self._cancel(found)
            else:
                accepted = found
                if accepted.admin:
                    who = label(accepted.user, accepted.database, address=self.stream.peer, told=False)
                    log.info("%s console client connected from %s", who, self.stream.peer)
                    self.pooler.console(self.stream, accepted)
                elif accepted.replication:
                    reason = self._replicate(accepted)
                else:
                    session = self._begin(accepted)
        except DoormanError as exc:
            error = exc
            if self.session is None:
                self.pooler.connections.errors += 1
                count_rejected(self, exc)
        finally:
            if session is None:  # also when killed
                self.close(error, reason)
        if session is not None:
            self.task = None
            session.start()

    def close(self, error: DoormanError | None, reason: str) -> None:
        """The connection is over: tell the client and the log why, let it take what is its, close; may switch."""
        stream = self.stream
        self._take_leave(error, reason)
        try:
            if stream.push() == 0:
                if stream.task is None:
                    stream.task = self.task
                linger(stream, LINGER_SECONDS)
        finally:
            stream.close()
            self.pooler.open.discard(self)
            # It knows us and we it: the collector need not find that out.
            self.session = None
            self.task = None

    # What it comes for.

    def _log_in(self) -> Accepted | CancelRequested:
        pooler = self.pooler
        stream = self.stream
        task = self.task
        assert task is not None
        try:
            task.wait(self)
            if self.accepted is not None:
                return self.accepted
            if self.familiar is not None:
                found: Accepted | CancelRequested = finish(stream, self.familiar)
                self.familiar = None
            else:
                if self._is_balancer():
                    self._ask_origin()
                found = login(stream, pooler.policy, self)
        finally:
            pooler.logins.end(self, stream.peer_host)
        if isinstance(found, Accepted):
            self._let_in(found)
        return found

    def _let_in(self, accepted: Accepted) -> None:
        """Count it among those who have logged in; raises as ``Pooler.admit``."""
        pooler = self.pooler
        pooler.logins.end(self, self.stream.peer_host)
        pooler.admit(accepted.admin)
        self.admitted = 1
        if self.stream.tls is not None:
            pooler.connections.tls += 1
        else:
            pooler.connections.plain += 1

    @property
    def address(self) -> str:
        """As in abc.HasDeadline."""
        return self.stream.peer_host

    def asks(self, user: str, database: str) -> None:
        """As in login.Guest."""
        self.user = user
        self.database = database

    def admit(self, console: bool) -> None:
        """As in login.Guest."""
        # It counts once it is in: whoever only stands at the door takes nobody's place.
        self.pooler.check_room(console)

    def _is_balancer(self) -> bool:
        """Whether it comes from where balancers are, which have to say whose connection it is."""
        host = self.stream.peer_host
        proxies = self.pooler.proxies
        return proxies is not None and bool(host) and host in proxies

    def _ask_origin(self) -> None:
        """Have the balancer say whose connection this is: that address is its own from now on; may switch."""
        stream = self.stream
        balancer = stream.peer_host
        header = b""
        while (left := wanted(header)) > 0:
            header += stream.read_exact(left)
        origin = parse(header)
        if origin.host:
            stream.peer_host = origin.host
            stream.peer_port = origin.port
            if self.pooler.logins.move(self, balancer, origin.host):
                self._make_room(origin.host, False)
            log.debug("[%s] comes through %s", stream.peer, balancer)

    def _make_room(self, address: str | None, full: bool) -> None:
        """End one of those that have not logged in, as ``Logins.surplus`` has it; no switch."""
        pooler = self.pooler
        oldest = pooler.logins.surplus(address, full)
        if oldest is not None:
            pooler.engine.loop.run_callback(oldest.give_way, pooler.too_many())

    def _cancel(self, request: CancelRequested) -> None:
        self.pooler.connections.cancel += 1
        self.pooler.cancel(request.pid, request.secret)

    def _begin(self, accepted: Accepted) -> Session:
        """Welcome the client to its session, which is ready to ``start``; may switch. Raises what ``begin`` does."""
        pooler = self.pooler
        pooler.admit_to(accepted.database, accepted.user)
        accepted = self._named(accepted)
        return self._welcome(accepted, begin(pooler, accepted))

    def _named(self, accepted: Accepted) -> Accepted:
        """``accepted`` with the name that the client's session is to have."""
        return with_host(accepted, self.stream.peer) if self.pooler.add_host else accepted

    def _welcome(self, accepted: Accepted, found: tuple[Pool, Beginning]) -> Session:
        """Queue the welcome, and make the session, which is ready to ``start``; no switch. NoSuchPool; as ``enter``."""
        pooler = self.pooler
        if is_anothers(pooler, accepted):  # since its pool was found: it may have waited for a server
            raise no_such_pool(accepted.database, accepted.user)
        pool, beginning = found
        pooler.enter(accepted.database, accepted.user)
        self.entered = accepted.database, accepted.user
        settings, reports, told, base = beginning
        clients = pooler.clients
        number, secret = clients.new_key(accepted.protocol)
        stream = self.stream
        session = Session(
            stream,
            number,
            secret,
            accepted.user,
            accepted.database,
            clock(),
            pooler.pool_finder,
            pooler.abandoner,
            self.close,
        )
        session.link.use(pool)
        pool.stats.client_login_count += 1
        session.link.begin_with(settings, told, base)
        self.session = session
        if pooler.take_away is not None:
            session.termination = Departure(pooler.take_away)
        clients.add(session)
        stream.write(reports)
        stream.write(backend_key_data(consts.PROCESS_BASE + number, secret))
        stream.write(_READY_FOR_QUERY)
        if pooler.log_connections:
            log.info("%s client connected from %s", self.label(), self.stream.peer)
        return session

    def _replicate(self, accepted: Accepted) -> str:
        """Open a server for this client alone and tie the two together until either ends; may switch."""
        pooler = self.pooler
        pooler.admit_to(accepted.database, accepted.user)
        pool = pool_of(pooler, accepted)
        server = pooler.open_server(pool, {**dict(accepted.parameters), "replication": accepted.replication})
        number, secret = pooler.clients.new_key(accepted.protocol)
        session = ReplicationSession(
            self.stream, server, number, secret, accepted.user, accepted.database, pool.stats, accepted.replication
        )
        self.session = session
        pool.stats.client_login_count += 1
        try:
            pooler.enter(accepted.database, accepted.user)
            self.entered = accepted.database, accepted.user
        except TooManyClients as exc:
            session.terminate_when_idle(exc)
        pooler.clients.add(session)
        if pooler.find_pool(accepted.database, accepted.user) is None or is_anothers(pooler, accepted):
            session.terminate_when_idle(
                no_such_pool(accepted.database, accepted.user)
            )  # it was removed in the meantime
        if pooler.log_connections:
            log.info("%s replication client connected from %s", self.label(), self.stream.peer)
        return session.serve()

    # Its end.

    def _take_leave(self, error: DoormanError | None, reason: str) -> None:
        """Tell the client and the log why it is over, and count it no more; no switch."""
        session = self.session
        pooler = self.pooler
        if error is None:
            if session is not None and pooler.log_disconnections:
                log.info("%s client disconnected: %s", self.label(), reason)
        else:
            tell(self, error)
        if session is not None:
            pooler.clients.remove(session)
        if self.entered is not None:
            database, user = self.entered
            pooler.exit(database, user)
            self.entered = None
        if self.admitted:
            self.admitted = 0
            pooler.discharge()

    def label(self) -> Label:
        """Who that is, for the log."""
        if self.session is not None:
            return self.session.label()
        return label(self.user[:LONGEST_NAME], self.database[:LONGEST_NAME], address=self.stream.peer)

    # What others do to it.

    def too_late(self) -> None:
        """See ``HasDeadline``."""
        self._throw(ProtocolViolation("canceling authentication due to timeout", sqlstate="57014"))

    def give_way(self, error: DoormanError) -> None:
        """End it with ``error`` unless it has logged in by now; only the hub may call this."""
        if self.session is None and not self.admitted and self.task is not None:
            self.task.throw(error)

    def terminate_when_idle(self, error: DoormanError) -> None:
        """End it with ``error``: at once while it logs in, else when no transaction is open; no switch."""
        session = self.session
        if session is not None and session.task is not None:
            session.terminate_when_idle(error)
        else:
            self.kill(error)

    def kill(self, error: DoormanError) -> None:
        """End it with ``error`` wherever it waits; from any greenlet, no switch."""
        self.pooler.engine.loop.run_callback(self._throw, error)

    def _throw(self, error: DoormanError) -> None:
        session = self.session
        if session is not None and session.task is not None:
            session.end(error)
        elif self.task is not None:
            self.task.throw(error)
