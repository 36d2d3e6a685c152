"""One accepted connection from its first byte to its close: login, then a session, the console, or a cancel request."""

from __future__ import annotations

import logging
import struct
from typing import Any

from pgdoorman_lib.auth.md5 import Md5Challenge
from pgdoorman_lib.auth.verify import finish_md5
from pgdoorman_lib.client.login import Accepted, CancelRequested, login
from pgdoorman_lib.client.login_cache import KnownLogin, LoginCache
from pgdoorman_lib.client.logins import Logins
from pgdoorman_lib.client.registry import Clients
from pgdoorman_lib.client.session import Session
from pgdoorman_lib.client.tunnel import Tunnel
from pgdoorman_lib.config.general import General
from pgdoorman_lib.errors import (
    DoormanError,
    NoSuchPool,
    PeerGone,
    ProtocolViolation,
    ServerRefused,
    ShuttingDown,
    TooManyClients,
)
from pgdoorman_lib.metrics.counters import ConnectionStats
from pgdoorman_lib.net.engine import Engine, Task
from pgdoorman_lib.net.pollable import PENDING, Pollable
from pgdoorman_lib.net.stream import NOTHING, Stream
from pgdoorman_lib.net.syscalls import clock, cut
from pgdoorman_lib.pool.pool import Pool
from pgdoorman_lib.pool.queue import Moved
from pgdoorman_lib.server.connection import Server
from pgdoorman_lib.server.execute import run
from pgdoorman_lib.wire import consts
from pgdoorman_lib.wire.baseline import Base
from pgdoorman_lib.wire.messages import (
    authentication_ok,
    backend_key_data,
    error_from,
    ready_for_query,
)
from pgdoorman_lib.wire.reported import Reported
from pgdoorman_lib.wire.session_state import DIRTY_PARAMETERS
from pgdoorman_lib.wire.settings import BASE, Settings, valid_name

_int = int

log = logging.getLogger(__name__)

#: Seconds for a client to take what is left for it, our last words included, when its session is over.
LINGER_SECONDS = 5.0
#: Fills in a row before others get their turn.
FAIRNESS = 16
#: Bytes PostgreSQL keeps of a name (NAMEDATALEN - 1), application_name among them.
LONGEST_NAME = 63
#: Combinations of parameters whose report is remembered in a pool.
MAX_REPORTS = 1000

#: How a session begins: its settings, the ParameterStatus messages of its login, what they tell, and what its defaults
#: are.
Beginning = tuple[Settings, bytes, Reported, Base]

GOODBYE = "terminating connection due to administrator command"

SSL_REQUEST = struct.pack("!II", 8, consts.SSL_REQUEST)
#: Bytes of a PasswordMessage with the answer to AuthenticationMD5Password: type, length, "md5" and 32 digits, NUL.
MD5_SIZE = 41

#: What ``Connection.poll`` comes to: this is no login like an earlier one.
UNFAMILIAR = 1

_NOTHING = NOTHING
_PENDING = PENDING
_UNFAMILIAR = UNFAMILIAR
_MD5_SIZE = MD5_SIZE
_FAIRNESS = FAIRNESS
_PASSWORD = consts.PASSWORD
_PROCESS_BASE = consts.PROCESS_BASE
_AUTHENTICATION_OK = authentication_ok()
_READY_FOR_QUERY = ready_for_query()


class Pooler:
    """What connections need of the application around them, which derives from this."""

    engine: Engine
    logins: Logins
    clients: Clients
    connections: ConnectionStats
    check_query: bytes
    general: General
    doorway: Any  # LoginContext

    def __init__(self, general: General) -> None:
        self.govern(general)
        #: those accepted and not ended
        self.open: set[Connection] = set()
        #: how many of them count against max_connections
        self.admitted = 0
        #: nobody new comes in
        self.draining = 0

    def govern(self, general: General) -> None:
        """Go by another [general] section from now on."""
        self.general = general
        self.max_connections = general.max_connections
        self.log_connections = 1 if general.log_client_connections else 0
        self.log_disconnections = 1 if general.log_client_disconnections else 0

    def let_in(self, sock: Any) -> None:
        """Begin to serve a ``net.accept.Accepted``; only the hub may call this, in a turn of the engine."""
        try:
            connection = Connection(self, sock)
        except OSError as exc:  # the peer has gone already
            log.debug("connection lost before its login: %s", exc)
            sock.close()
            return
        connection.start()

    def admit(self) -> None:
        """Count a client that wants to log in; TooManyClients when max_connections are there, ShuttingDown."""
        if self.draining:
            raise ShuttingDown(GOODBYE)
        if self.admitted >= self.max_connections:
            raise TooManyClients("sorry, too many clients already")
        self.admitted += 1

    def find_pool(self, database: str, user: str) -> Pool | None:
        """The pool of (database, user)."""
        raise NotImplementedError

    def open_server(self, pool: Pool, parameters: dict[str, str]) -> Server:
        """Open a server outside the pool, for one client; may switch."""
        raise NotImplementedError

    def abandon(self, pool: Pool, server: Server, in_batch: bool, half_sent: bool) -> None:
        """A session leaves a server that can't simply be given back."""
        raise NotImplementedError

    def cancel(self, number: int, secret: bytes) -> None:
        """Carry out a cancel request; may switch."""
        raise NotImplementedError

    def console(self, stream: Stream, accepted: Accepted) -> None:
        """Serve the admin console; may switch."""
        raise NotImplementedError


class Connection(Pollable):
    """A client's connection from ``start`` on. ``sock`` (net.accept.Accepted) is taken over.

    A client like one that has been let in before (client.login_cache) comes in by ``poll``, in the engine's turns. For
    everything else, and as soon as anything is not as it was then, ``run`` takes over, in a greenlet of its own.
    """

    __slots__ = (
        "accepted",
        "admitted",
        "challenge",
        "known",
        "parting",
        "pooler",
        "session",
        "stream",
        "task",
        "tls_refused",
    )

    def __init__(self, pooler: Pooler, sock: Any) -> None:
        self.pooler = pooler
        self.stream = Stream(sock, pooler.engine, sock.host, sock.port)
        self.task: Task | None = None
        self.session: Session | Tunnel | None = None
        #: it counts against max_connections
        self.admitted = 0
        #: SSLRequest was answered
        self.tls_refused = 0
        #: an earlier client like this one, and how this one was asked to prove that
        self.known: KnownLogin | None = None
        self.challenge: Md5Challenge | None = None
        #: it has proven who it is
        self.accepted: Accepted | None = None
        #: it is over, but the client has not taken everything
        self.parting: Parting | None = None

    def start(self) -> None:
        """Begin; only the hub may call this, in a turn of the engine."""
        pooler = self.pooler
        pooler.connections.total += 1
        pooler.open.add(self)
        pooler.logins.begin(self)
        stream = self.stream
        task = Task(pooler.engine, self)
        self.task = task
        stream.task = task
        if stream.peer_host:
            stream.readable = 1  # the kernel keeps TCP connections back until the client has said something
            task.wake()

    # Like others before: in the engine's turns, without a greenlet.

    def poll(self) -> _int:
        """As in Pollable, as long as this is a login like an earlier one: else the event UNFAMILIAR."""
        n = self.stream.fill()
        if n == _NOTHING:
            return _PENDING
        if n > 0 and (self._recognise() if self.known is None else self._verify()):
            return _PENDING
        return _UNFAMILIAR

    def _recognise(self) -> bool:
        """Take the first message and ask for the proof; False, and nothing is taken, if it is not one that is known."""
        stream = self.stream
        block: Any = stream.block
        pooler = self.pooler
        context = pooler.doorway
        if stream.end - stream.start == 8 and not self.tls_refused and context.tls_context is None:
            if bytes(block[stream.start : stream.end]) != SSL_REQUEST:
                return False
            self.tls_refused = 1
            stream.start = stream.end
            stream.release()
            stream.write(b"N")
            return True
        familiar: LoginCache = context.familiar
        known = familiar.find(stream.peer_host, block, stream.start, stream.end)
        if known is None:
            return False
        self._admission()
        self.known = known
        stream.start = stream.end
        stream.release()
        challenge = Md5Challenge()
        self.challenge = challenge
        stream.write(challenge.message())
        return True

    def _verify(self) -> bool:
        """Take the proof and begin the session; False, and nothing is taken, if it is not right."""
        stream = self.stream
        block: Any = stream.block
        text = block
        start = stream.start
        known = self.known
        challenge = self.challenge
        assert known is not None
        assert challenge is not None
        last = start + _MD5_SIZE - 1
        if stream.end <= last or text[start] != _PASSWORD or text[last]:
            return False
        if text[start + 1] or text[start + 2] or text[start + 3] or text[start + 4] != _MD5_SIZE - 1:
            return False
        if not challenge.proves(known.digits, cut(block, start + 5, last)):
            return False
        stream.start = start + _MD5_SIZE
        stream.release()
        self.pooler.logins.end(self)
        self.accepted = known.accepted
        self._count()
        return self._begin(known.accepted, known)

    # In a greenlet.

    def run(self) -> None:
        """Everything that is left to do up to the end of the login, then whatever it led to; may switch.

        A session gets a greenlet of its own, whose stack never held a login: that is half of what an idle client costs.
        Never raises but for GreenletExit and bugs.
        """
        counted = self.pooler.connections
        log.debug("%s accepted", self._label())
        error: DoormanError | None = None
        reason = ""
        task = self.task
        assert task is not None
        try:
            task.wait(self)  # it has begun for the event
            outcome = self.accepted
            if outcome is None:
                found = self._login()
                if isinstance(found, CancelRequested):
                    counted.cancel += 1
                    self.pooler.cancel(found.pid, found.secret)
                    return
                outcome = found
                self.accepted = found
                self._count()
            if outcome.admin:
                self.pooler.console(self.stream, outcome)
                return
            if outcome.replication:
                reason = self._replicate(outcome)
                return
            self._begin(outcome, None)
        except DoormanError as exc:
            if not isinstance(self.session, Tunnel):
                counted.errors += 1
            error = exc
        finally:
            # Also when killed. A session that has begun ends itself; a tunnel has ended.
            if self.session is None or self.session.task is None:
                self._close(error, reason)

    def _login(self) -> Accepted | CancelRequested:
        known = self.known
        try:
            if known is None:
                return login(self.stream, self.pooler.doorway, self._admission, bool(self.tls_refused))
            assert self.challenge is not None
            finish_md5(self.stream, known.candidate, self.challenge)
            accepted: Accepted = known.accepted
            return accepted
        finally:
            self.pooler.logins.end(self)

    def _admission(self) -> None:
        self.pooler.admit()
        self.admitted = 1

    def _count(self) -> None:
        counted = self.pooler.connections
        if self.stream.tls is not None:
            counted.tls += 1
        else:
            counted.plain += 1

    # The end.

    def _close(self, error: DoormanError | None, reason: str) -> None:
        """The connection is over: tell the client and the log why, and forget it; no switch."""
        session = self.session
        pooler = self.pooler
        if error is not None and isinstance(error, PeerGone):
            log.debug("%s %s", self._label(), error.message)
        elif error is not None:
            log.warning("%s closing client: %s (SQLSTATE %s)", self._label(), error.message, error.sqlstate)
            self._farewell(error)
        elif session is not None and pooler.log_disconnections:
            log.info("%s client disconnected: %s", self._label(), reason)
        if session is not None:
            pooler.clients.remove(session)
            if isinstance(session, Session):
                session.close = _ended  # it knows us and we it: the collector need not find that out
        else:
            pooler.logins.end(self)  # it has failed before it had begun in earnest
        self.task = None
        if self.admitted:
            pooler.admitted -= 1
        if self.stream.push() != 0:
            self.stream.close()
            pooler.open.discard(self)
        else:
            self.parting = Parting(self)

    def _label(self) -> str:
        """Who that is, for the log."""
        session = self.session
        if session is not None:
            return f"[{session.user}@{session.database} #{session.id}]"
        return f"[{self.stream.peer}]"

    def too_late(self) -> None:
        """See ``logins.Overdue``."""
        self._throw(ProtocolViolation("canceling authentication due to timeout", sqlstate="57014"))

    def terminate_when_idle(self, error: DoormanError) -> None:
        """End it with ``error``: at once while it logs in, else when no transaction is open; no switch."""
        session = self.session
        if session is not None and session.task is not None:
            session.terminate_when_idle(error)
        else:
            self.kill(error)

    def kill(self, error: DoormanError) -> None:
        """End it with ``error`` wherever it waits; from any greenlet, no switch."""
        if self.parting is not None:
            self.parting.end()
        else:
            self.pooler.engine.loop.run_callback(self._throw, error)

    def _throw(self, error: DoormanError) -> None:
        session = self.session
        if session is not None and session.task is not None:
            session.task.throw(error)
        elif self.task is not None:
            self.task.throw(error)

    def _farewell(self, error: DoormanError) -> None:
        """Tell the client why it ends, without waiting for it."""
        session = self.session
        listens = not self.stream.eof or (isinstance(session, Session) and session.link.half_closed)
        if self.stream.send_failed or not listens or (session is not None and session.cut_off()):
            return
        self.stream.write(error_from(error))

    def _pool_of(self, accepted: Accepted) -> Pool:
        """The client's pool, which learns what the client has proven to know; NoSuchPool."""
        pool = self.pooler.find_pool(accepted.database, accepted.user)
        if pool is None:
            raise no_such_pool(accepted.database, accepted.user)
        if accepted.client_key is not None:
            pool.credentials = accepted.client_key
        return pool

    def _begin(self, accepted: Accepted, like: KnownLogin | None) -> bool:
        """Welcome the client and start its session.

        May switch, unless the client is ``like`` an earlier one: then it is False, and nothing was done, if it would
        have to. NoSuchPool, ServerUnavailable and what else borrowing a server raises, ServerRefused for settings that
        PostgreSQL does not take.
        """
        pooler = self.pooler
        if like is None:
            pool, known = self._report(self._pool_of(accepted), accepted)
        else:
            if like.pool is None or like.pool.retired:
                like.pool = self._pool_of(accepted)
            pool = like.pool
            known = pool.beginnings.reports.get(like.asked if pool.sync_parameters else ())
            if known is None or pool.beginnings.stale():
                return False
        clients = pooler.clients
        number, secret = clients.new_key(accepted.protocol)
        session = Session(
            self.stream,
            number,
            secret,
            accepted.user,
            accepted.database,
            clock(),
            pooler.find_pool,
            pooler.abandon,
            self._close,
        )
        session.link.use(pool)
        session.link.begin_with(known[0], known[2], known[3])
        session.link.check_query = pooler.check_query
        self.session = session
        clients.add(session)
        self.stream.write(
            b"".join((_AUTHENTICATION_OK, known[1], backend_key_data(_PROCESS_BASE + number, secret), _READY_FOR_QUERY))
        )
        if pooler.log_connections:
            log.info("%s client connected from %s", self._label(), self.stream.peer)
        session.start(None if like is None else self.task)
        return True

    def _replicate(self, accepted: Accepted) -> str:
        """Open a server for this client alone and tie the two together until either ends; may switch."""
        pooler = self.pooler
        pool = self._pool_of(accepted)
        server = pooler.open_server(pool, {**accepted.parameters, "replication": accepted.replication})
        number, secret = pooler.clients.new_key(accepted.protocol)
        tunnel = Tunnel(self.stream, server, number, secret, accepted.user, accepted.database, pool.stats)
        self.session = tunnel
        pooler.clients.add(tunnel)
        if pooler.find_pool(accepted.database, accepted.user) is None:
            tunnel.terminate_when_idle(no_such_pool(accepted.database, accepted.user))  # it was removed in the meantime
        if pooler.log_connections:
            log.info("%s replication client connected from %s", self._label(), self.stream.peer)
        return tunnel.serve()

    def _report(self, pool: Any, accepted: Accepted) -> tuple[Pool, Beginning]:
        """What the session begins with; may switch.

        A server is borrowed only while the pool has not seen one, or has not seen these settings, or what it has seen
        may be true no more. The pool may have been replaced by another meanwhile.
        """
        while True:
            beginnings = pool.beginnings
            try:
                if beginnings.reported is None:
                    with pool.connection():
                        pass  # it is known then
                elif beginnings.stale():
                    beginnings.heard_at = clock()
                    with pool.connection() as server:
                        run(server, "")  # it reports what has changed with an answer
                asked = tuple(accepted.parameters.items()) if pool.sync_parameters else ()
                known = beginnings.reports.get(asked)
                if known is not None:
                    return pool, known
                base = beginnings.base
                reported = beginnings.reported
                settings, told = _try_settings(pool, _wanted(asked, beginnings), base)
                known = settings, told.messages(), told, base
            except Moved:
                found = self.pooler.find_pool(pool.settings.database, pool.settings.user)
                if found is None:
                    raise no_such_pool(accepted.database, accepted.user) from None
                pool = found
                continue
            if beginnings.base is base and beginnings.reported is reported:
                if len(beginnings.reports) >= MAX_REPORTS:
                    beginnings.reports.clear()
                beginnings.reports[asked] = known
            return pool, known


def no_such_pool(database: str, user: str) -> NoSuchPool:
    """The error for a client whose pool is not in the configuration any more."""
    return NoSuchPool(f"No pool configured for database: {database}, user: {user}")


class Parting(Pollable):
    """A connection whose session is over: closed when its client has taken what is queued, or has had its time."""

    __slots__ = ("connection", "task", "timer")

    def __init__(self, connection: Connection) -> None:
        stream = connection.stream
        engine = stream.engine
        self.connection: Connection | None = connection
        self.task = Task(engine, self)
        stream.task = self.task
        self.timer = engine.loop.timer(LINGER_SECONDS)
        self.timer.start(self.end)

    def poll(self) -> _int:
        """As in Pollable; it never comes to anything, for ``end`` does all that is left."""
        connection = self.connection
        if connection is not None:
            stream = connection.stream
            # Read on: closing over unread bytes would reset the connection, and our last words with it.
            for _ in range(_FAIRNESS):
                stream.start = stream.end
                stream.release()
                if stream.fill() <= 0:
                    break
            else:
                stream.engine.again(self.task)
            if stream.push() != 0:
                self.end()
        return _PENDING

    def run_blocks(self) -> bool:
        """As in Pollable."""
        return False

    def run(self) -> None:
        """As in Pollable: ``poll`` has failed."""
        self.end()
        self.task.wait(self)

    def end(self) -> None:
        """Close it now."""
        connection = self.connection
        if connection is not None:
            self.connection = None
            self.task.parked = 0
            self.task.pollable = None  # it knows us and we it: the collector need not find that out
            self.timer.stop()
            self.timer.close()
            connection.stream.close()
            connection.pooler.open.discard(connection)


def _ended(error: DoormanError | None, reason: str) -> None:
    """The end of a session that has ended."""


def _wanted(parameters: tuple[tuple[str, str], ...], beginnings: Any) -> Settings:
    """The settings a startup packet asks for, less those every server of the pool has anyway."""
    present = {name.lower(): value for name, value in beginnings.reported.values.items()}
    values = {name: value for name in beginnings.carried if (value := beginnings.base.value(name)) is not None}
    for name, value in parameters:
        if not valid_name(name):
            raise ProtocolViolation(f'invalid configuration parameter name "{name}"', sqlstate="42602")
        key = name.lower()
        have = present.get(key)
        if key == "client_encoding":
            value = value.strip("'\"")
            if have is not None and _plain(have) == _plain(value):
                continue
        elif key == "datestyle" and have is not None and have.split(",")[0].lower() == value.strip().lower():
            continue
        if value != have:
            values[key] = value
        else:
            values.pop(key, None)
    return Settings.of(values) if values else BASE


def _plain(encoding: str) -> str:
    return encoding.replace("-", "").replace("_", "").upper()


def _try_settings(pool: Any, settings: Settings, base: Base) -> tuple[Settings, Reported]:
    """The settings as far as PostgreSQL takes them, and what it reports under them; may switch.

    ServerRefused when it does not. A customized option that a library loaded on the server refuses is one that a new
    session would drop once it loads the library.
    """
    values = settings.values
    name = values.get("application_name", "")
    if not values or (len(values) == 1 and name and _as_it_is(name)):
        # PostgreSQL takes any application_name.
        reported: Reported = pool.beginnings.reported
        for key, value in values.items():
            reported = reported.changed(key, value)
        return settings, reported

    while True:
        try:
            with pool.connection() as server:
                wanted = Settings.of({**base.difference(server.base), **settings.values})
                run(server, wanted.sql_from(server.applied))
                server.applied = wanted
                if wanted.restless:
                    server.dirty |= DIRTY_PARAMETERS
                return settings, server.reported
        except ServerRefused as exc:
            refused = settings.refused(exc.sqlstate, exc.message)
            if refused is None:
                raise
            settings = settings.without((refused,))


def _as_it_is(name: str) -> bool:
    """Whether PostgreSQL reports this application_name as it is: it cuts long ones and exchanges other characters."""
    return len(name) <= LONGEST_NAME and name.isascii() and name.isprintable()
