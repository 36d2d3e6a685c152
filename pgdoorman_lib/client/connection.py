"""One accepted connection from its first byte to its close: login, then a session, the console, or a cancel request."""

from __future__ import annotations

import logging
from typing import Any, Protocol

from greenlet import getcurrent

from pgdoorman_lib.client.login import Accepted, CancelRequested, LoginContext, login
from pgdoorman_lib.client.logins import Logins
from pgdoorman_lib.client.registry import Clients
from pgdoorman_lib.client.session import Session
from pgdoorman_lib.client.tunnel import Tunnel
from pgdoorman_lib.config.general import General
from pgdoorman_lib.errors import DoormanError, NoSuchPool, PeerGone, ProtocolViolation
from pgdoorman_lib.metrics.counters import ConnectionStats
from pgdoorman_lib.net.engine import Engine
from pgdoorman_lib.net.stream import Stream
from pgdoorman_lib.net.syscalls import clock
from pgdoorman_lib.pool.errand import with_server
from pgdoorman_lib.pool.pool import Moved, Pool
from pgdoorman_lib.server.connection import Server
from pgdoorman_lib.server.execute import run
from pgdoorman_lib.wire.messages import (
    authentication_ok,
    backend_key_data,
    error_from,
    parameter_status,
    ready_for_query,
)
from pgdoorman_lib.wire.session_state import BASE, TRACKED, Settings, valid_name

log = logging.getLogger(__name__)

#: Combinations of parameters whose report is remembered in a pool.
MAX_REPORTS = 1000


class House(Protocol):
    """What a connection needs of the application around it."""

    engine: Engine
    logins: Logins
    clients: Clients
    connections: ConnectionStats
    check_query: bytes
    general: General

    @property
    def doorway(self) -> LoginContext: ...
    def admit(self, connection: Connection) -> None: ...
    def find_pool(self, database: str, user: str) -> Pool | None: ...
    def open_server(self, pool: Pool, parameters: dict[str, str]) -> Server: ...
    def abandon(self, pool: Pool, server: Server, in_batch: bool, half_sent: bool) -> None: ...
    def cancel(self, number: int, secret: bytes) -> None: ...
    def console(self, stream: Stream, accepted: Accepted) -> None: ...
    def leave(self, connection: Connection) -> None: ...


class Connection:
    """A client's connection; its greenlet runs ``serve``."""

    __slots__ = ("admitted", "greenlet", "house", "label", "session", "stream")

    def __init__(self, house: House, sock: Any, address: tuple[str, int] | None) -> None:
        self.house = house
        self.greenlet: Any = getcurrent()
        self.admitted = False
        self.session: Session | Tunnel | None = None
        host, peer = "", "unix"
        if address is not None:
            host = address[0]
            peer = f"[{host}]:{address[1]}" if ":" in host else f"{host}:{address[1]}"
        self.label = f"[{peer}]"
        self.stream = Stream(sock, house.engine, peer, host)
        if address is not None:
            self.stream.readable = 1  # the kernel keeps TCP connections back until the client has said something

    def serve(self) -> None:
        """Everything up to the end of the login, then whatever it led to; may switch.

        A session gets a greenlet of its own, whose stack never held a login: that is half of what an idle client costs.
        Never raises but for GreenletExit and bugs.
        """
        counted = self.house.connections
        counted.total += 1
        stream = self.stream
        if log.isEnabledFor(logging.DEBUG):
            log.debug("%s accepted", self.label)
        error: DoormanError | None = None
        reason = ""
        try:
            outcome = self._login()
            if isinstance(outcome, CancelRequested):
                counted.cancel += 1
                self.house.cancel(outcome.pid, outcome.secret)
                return
            if stream.tls is not None:
                counted.tls += 1
            else:
                counted.plain += 1
            if outcome.admin:
                self.house.console(stream, outcome)
                return
            if outcome.replication:
                reason = self._replicate(outcome)
                return
            self._begin(outcome)
        except DoormanError as exc:
            if not isinstance(self.session, Tunnel):
                counted.errors += 1
            error = exc
        finally:
            # Also when killed. A session that has begun ends itself; a tunnel has ended.
            if self.session is None or self.session.task is None:
                self._close(error, reason)

    def _close(self, error: DoormanError | None, reason: str) -> None:
        """The connection is over: tell the client and the log why, and forget it; no switch."""
        session = self.session
        general = self.house.general
        if error is not None and isinstance(error, PeerGone):
            log.debug("%s %s", self.label, error.message)
        elif error is not None:
            log.warning("%s closing client: %s (SQLSTATE %s)", self.label, error.message, error.sqlstate)
            self._farewell(error)
        elif session is not None and general.log_client_disconnections:
            log.info("%s client disconnected: %s", self.label, reason)
        if session is not None:
            self.house.clients.remove(session)
            if isinstance(session, Session):
                session.close = _ended  # it knows us and we it: the collector need not find that out
        self.stream.close()
        self.house.leave(self)

    def _login(self) -> Accepted | CancelRequested:
        house = self.house
        house.logins.begin(self)
        try:
            return login(self.stream, house.doorway, self._admission)
        finally:
            house.logins.end(self)

    def _admission(self) -> None:
        self.house.admit(self)

    def too_late(self) -> None:
        """See ``logins.Overdue``."""
        self._throw(ProtocolViolation("canceling authentication due to timeout", sqlstate="57014"))

    def dismiss(self, error: DoormanError) -> None:
        """End it with ``error``: at once while it logs in, else when no transaction is open; no switch."""
        session = self.session
        if session is not None and session.task is not None:
            session.dismiss(error)
        else:
            self.kill(error)

    def kill(self, error: DoormanError) -> None:
        """End it with ``error`` wherever it waits; from any greenlet, no switch."""
        self.house.engine.loop.run_callback(self._throw, error)

    def _throw(self, error: DoormanError) -> None:
        session = self.session
        if session is not None and session.task is not None:
            session.task.throw(error)
        elif not self.greenlet.dead:
            self.greenlet.throw(error)

    def _farewell(self, error: DoormanError) -> None:
        """Tell the client why it ends, without waiting for it."""
        if self.stream.send_failed or self.stream.eof or (self.session is not None and self.session.cut_off()):
            return
        self.stream.write(error_from(error))

    def _pool_of(self, accepted: Accepted) -> Pool:
        """The client's pool, which learns what the client has proven to know; NoSuchPool."""
        pool = self.house.find_pool(accepted.database, accepted.user)
        if pool is None:
            raise no_such_pool(accepted.database, accepted.user)
        if accepted.client_key is not None:
            pool.credentials = accepted.client_key
        return pool

    def _begin(self, accepted: Accepted) -> None:
        """Welcome the client and start its session; may switch."""
        house = self.house
        pool = self._pool_of(accepted)
        clients = house.clients
        number, secret = clients.new_key(accepted.protocol)
        settings = pool.settings
        session = Session(
            self.stream,
            number,
            secret,
            settings.user,
            settings.database,
            clock(),
            house.find_pool,
            house.abandon,
            self._close,
        )
        self.label = f"[{accepted.user}@{accepted.database} #{number}]"
        session.use(pool)
        session.check_query = house.check_query
        self.session = session
        clients.add(session)
        self._welcome(session, accepted)
        if house.general.log_client_connections:
            log.info("%s client connected from %s", self.label, self.stream.peer)
        session.start()

    def _replicate(self, accepted: Accepted) -> str:
        """Open a server for this client alone and tie the two together until either ends; may switch."""
        house = self.house
        pool = self._pool_of(accepted)
        server = house.open_server(pool, {**accepted.parameters, "replication": accepted.replication})
        number, secret = house.clients.new_key(accepted.protocol)
        tunnel = Tunnel(self.stream, server, number, secret, accepted.user, accepted.database, pool.stats)
        self.label = f"[{accepted.user}@{accepted.database} #{number}]"
        self.session = tunnel
        house.clients.add(tunnel)
        if house.find_pool(accepted.database, accepted.user) is None:
            tunnel.dismiss(no_such_pool(accepted.database, accepted.user))  # it was removed in the meantime
        if house.general.log_client_connections:
            log.info("%s replication client connected from %s", self.label, self.stream.peer)
        return tunnel.serve()

    def _welcome(self, session: Session, accepted: Accepted) -> None:
        """AuthenticationOk, what the server would report, the cancel key, ReadyForQuery; may switch."""
        report = self._report(session, accepted)
        key = backend_key_data(session.id, session.secret)
        self.stream.write(b"".join((authentication_ok(), report, key, ready_for_query())))

    def _report(self, session: Session, accepted: Accepted) -> bytes:
        """The ParameterStatus messages of a login, and the settings the session begins with; may switch.

        A server is borrowed only while the pool has not seen one, or has not seen these settings.
        """
        while True:
            try:
                pool = session.pool
                if pool.parameters is None:
                    with_server(pool, _nothing)  # its parameters are known then
                asked = tuple(accepted.parameters.items()) if pool.settings.sync_server_parameters else ()
                known = pool.reports.get(asked)
                if known is None:
                    settings = _wanted(asked, pool.parameters)
                    known = settings, _try_settings(pool, settings)
                    if len(pool.reports) >= MAX_REPORTS:
                        pool.reports.clear()
                    pool.reports[asked] = known
                session.settings = known[0]
                session.startup = known[0]
                session.custom = {name: None for name in known[0].values if "." in name}
                return bytes(known[1])
            except Moved:
                found = self.house.find_pool(session.database, session.user)
                if found is None:
                    raise no_such_pool(session.database, session.user) from None
                session.use(found)


def no_such_pool(database: str, user: str) -> NoSuchPool:
    """The error for a client whose pool is not in the configuration any more."""
    return NoSuchPool(f"No pool configured for database: {database}, user: {user}")


def _ended(error: DoormanError | None, reason: str) -> None:
    """The end of a session that has ended."""


def _nothing(server: Server) -> None:
    """What is done with a server that is only to be there."""


def _wanted(parameters: tuple[tuple[str, str], ...], base: dict[str, str]) -> Settings:
    """The settings a startup packet asks for, less those every server of the pool has anyway."""
    present = {name.lower(): value for name, value in base.items()}
    values = {}
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
    return Settings.of(values) if values else BASE


def _plain(encoding: str) -> str:
    return encoding.replace("-", "").replace("_", "").upper()


def _try_settings(pool: Any, settings: Settings) -> bytes:
    """What a server reports under ``settings``, as messages; may switch. ServerRefused when PostgreSQL refuses them."""
    values = settings.values
    if not values or (len(values) == 1 and values.get("application_name", "\x80").isascii()):
        # PostgreSQL takes any application_name and reports it as it is.
        report = {**pool.parameters, **values}
    else:

        def apply(server: Server) -> dict[str, str]:
            run(server, settings.sql_from(server.applied))
            server.applied = settings
            return {name: value for name, value in server.parameters.items() if name.lower() in TRACKED}

        report = {**pool.parameters, **with_server(pool, apply)}
    return b"".join([parameter_status(name, value) for name, value in report.items()])
