"""The running pooler: builds every part, wires them together, and starts and stops them in order."""

from __future__ import annotations

import dataclasses
import gc
import logging
import os
import resource
import signal
import ssl
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import gevent
import gevent.event
from gevent.signal import signal as set_signal

from pgdoorman_lib import __version__, build
from pgdoorman_lib import log as logs
from pgdoorman_lib.admin import console
from pgdoorman_lib.auth import hba
from pgdoorman_lib.auth.md5 import is_hash
from pgdoorman_lib.auth.scram import ScramSecret
from pgdoorman_lib.auth.verify import Account, Users
from pgdoorman_lib.client.connection import GOODBYE, House, no_such_pool
from pgdoorman_lib.client.familiar import Familiar
from pgdoorman_lib.client.login import Accepted
from pgdoorman_lib.client.logins import Logins
from pgdoorman_lib.client.registry import Clients
from pgdoorman_lib.client.session import Session
from pgdoorman_lib.config.diff import diff
from pgdoorman_lib.config.effective import effective
from pgdoorman_lib.config.general import General
from pgdoorman_lib.config.loader import load
from pgdoorman_lib.config.model import Config
from pgdoorman_lib.errors import ConfigError, DoormanError, ShuttingDown
from pgdoorman_lib.listener import Listener, open_tcp, open_unix, remove_unix
from pgdoorman_lib.metrics.averages import Averages
from pgdoorman_lib.metrics.counters import ConnectionStats
from pgdoorman_lib.net import sockopt
from pgdoorman_lib.net.arenas import keep_chunks
from pgdoorman_lib.net.buffers import BLOCK_SIZE
from pgdoorman_lib.net.engines import choose
from pgdoorman_lib.net.stream import Stream
from pgdoorman_lib.net.syscalls import clock
from pgdoorman_lib.net.tls import client_facing_context, server_facing_context
from pgdoorman_lib.pool.catalogue import Catalogue, Watch
from pgdoorman_lib.pool.database import Databases
from pgdoorman_lib.pool.janitor import SWEEP_INTERVAL, Janitor
from pgdoorman_lib.pool.pool import Pool
from pgdoorman_lib.pool.registry import Pools
from pgdoorman_lib.server import baseline
from pgdoorman_lib.server.auth import Credentials
from pgdoorman_lib.server.cancel import send_cancel
from pgdoorman_lib.server.connection import Server
from pgdoorman_lib.server.execute import run as run_sql
from pgdoorman_lib.server.login import before_it_is_lent, describe, login
from pgdoorman_lib.wire.baseline import REST
from pgdoorman_lib.wire.messages import query, terminate

log = logging.getLogger(__name__)

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_CONFIG = 78

#: Databases that are the console.
ADMIN_DATABASES = ("pgdoorman", "pgbouncer")
#: Seconds for a cancel request to reach PostgreSQL.
CANCEL_TIMEOUT = 5.0
#: Seconds a statement may be on its way to PostgreSQL; one as young as that is cancelled a second time after a pause.
CANCEL_YOUNG = 0.02
CANCEL_PAUSE = 0.02
#: A server's lifetime is spread by so much, so that they do not all end together.
LIFETIME_JITTER = 0.2
#: Descriptors a pool-less process needs beyond its connections.
SPARE_DESCRIPTORS = 64


class Doorway:
    """What logins are told (``client.login.LoginContext``); a reload changes it for those under way, too."""

    general: General
    familiar: Familiar
    hba: hba.Gate
    #: the configured user of (database, name), or None
    find_user: Callable[[str, str], Account | None]
    #: the first pool that has the user, or None
    database_of: Callable[[str], str | None]
    #: the secret a login goes by when there is no such user
    stand_in: Callable[[str], str]

    def __init__(self, tls_context: ssl.SSLContext | None, mock_secret: bytes) -> None:
        #: the context for clients, None when TLS is not offered
        self.tls_context = tls_context
        #: random bytes of this process
        self.mock_secret = mock_secret
        self.is_admin_database = frozenset(ADMIN_DATABASES).__contains__

    def use(self, config: Config) -> None:
        """Go by ``config`` from now on."""
        users: Users[Any] = Users(config.pools, self.mock_secret)
        self.general = config.general
        self.familiar = Familiar()
        self.hba = hba.gate(config.general.hba, config.general.pg_hba)
        self.find_user = users.find
        self.database_of = users.database_of
        self.stand_in = users.stand_in


class App(House):
    """One process of the pooler. ``config`` is changed only by ``reload``."""

    def __init__(self, config: Config) -> None:
        super().__init__(config.general)
        self.doorway: Doorway
        self.config = config
        self.engine = choose(config.general.io_engine)
        self.engine.memory_limit = config.general.max_memory_usage
        self.clients = Clients()
        self.logins = Logins(lambda: self.general.client_login_timeout)
        self.connections = ConnectionStats()
        self.doorway = Doorway(client_facing_context(config.general), os.urandom(32))
        self.doorway.use(config)
        self.check_query = query(config.general.pooler_check_query)
        self.janitor = Janitor(self.cancel_server)
        self._databases = Databases(Catalogue)
        self._pools = Pools(self._make_pool)
        self._pools.apply(effective(config))
        self.averages = Averages(self._pools.all, clock)
        self._listeners: list[Listener] = []
        self._hurry = gevent.event.Event()
        self._stop = gevent.event.Event()
        self._greenlets: list[gevent.Greenlet[..., None]] = []

    # What client.connection needs.

    def find_pool(self, database: str, user: str) -> Pool | None:
        """The pool of (database, user)."""
        return self._pools.find(database, user)

    def abandon(self, pool: Pool, server: Server, in_batch: bool, half_sent: bool) -> None:
        """A session leaves a server that can't simply be given back."""
        self.janitor.abandon(pool, server, in_batch, half_sent)

    def cancel(self, number: int, secret: bytes) -> None:
        """Carry a client's cancel request to the server that runs its statement, if any; may switch."""
        session = self.clients.by_key(number, secret)
        if session is None:
            return
        try:
            if isinstance(session, Session):
                self._cancel_statement(session)
            else:
                self.cancel_server(session.server)
        except DoormanError as exc:
            log.warning(
                "[%s@%s #%d] cancel request failed: %s", session.user, session.database, session.id, exc.message
            )

    def _cancel_statement(self, session: Session) -> None:
        """Cancel what a session has under way, and nothing of anybody else's; may switch."""
        server = session.server
        if session.waiting and session.wait_error is None:
            session.cancel_waiting()
        while server is not None and session.server is server and session.settling:
            gevent.sleep(CANCEL_PAUSE)  # switch: the client's statement waits for its parameters
        if server is None or session.server is not server or not server.replies.count:
            return
        started = session.query_started
        young = clock() - started < CANCEL_YOUNG
        self.cancel_server(server)
        if young:
            # PostgreSQL ignores one that comes before it has read the statement.
            gevent.sleep(CANCEL_PAUSE)
            if session.server is server and session.query_started == started and server.replies.count:
                self.cancel_server(server)

    def cancel_server(self, server: Server) -> None:
        """Have PostgreSQL cancel what runs on ``server``; may switch. It is not lent on before this returns."""
        server.cancels += 1
        try:
            send_cancel(
                server.settings,
                self.engine,
                server.pid,
                server.secret,
                CANCEL_TIMEOUT,
                tls=server.stream.tls is not None,
            )
        finally:
            server.cancels -= 1

    def console(self, stream: Stream, accepted: Accepted) -> None:
        """Serve the admin console; may switch."""
        console.serve(stream, self, accepted.user, accepted.parameters)

    # Pools.

    def _make_pool(self, settings: Any) -> Pool:
        return Pool(settings, self.engine, self._connect, self.janitor.tidy, self._databases.of(settings))

    def open_server(self, pool: Pool, parameters: dict[str, str]) -> Server:
        """Open a server outside the pool, for one client: what that asks for wins over the pool's; may switch."""
        asked = {name.lower() for name in parameters}
        own = tuple(item for item in pool.settings.startup_parameters if item[0].lower() not in asked)
        try:
            return self._connect(pool, dataclasses.replace(pool.settings, startup_parameters=own), parameters)
        except DoormanError as exc:
            settings = pool.settings
            log.warning("[%s@%s] connecting to the server failed: %s", settings.user, settings.database, describe(exc))
            raise

    def _connect(self, pool: Pool, settings: Any = None, parameters: Mapping[str, str] | None = None) -> Server:
        """Open and log in one server, with the pool's settings unless others are given; may switch."""
        if settings is not None:
            return self._log_in(pool, settings, parameters)
        server = self._log_in(pool, pool.settings, pool.login_parameters)
        baseline.ask(server)
        if server.base.rests_badly and not pool.login_parameters:
            pool.login_parameters = REST
            server.stream.write(terminate())
            server.stream.close()
            server = self._log_in(pool, pool.settings, REST)
            baseline.ask(server)
        if pool.by_transaction and (pool.transparent or pool.settings.cleanup_server_connections):
            with before_it_is_lent(server.stream):
                self._know(pool, server)
        return server

    def _know(self, pool: Pool, server: Server) -> None:
        """See that its database's catalogue is known; may switch."""
        # What little time the role allows its statements is not for those of ours.
        limited = server.base.value("statement_timeout") not in (None, "0")
        if limited:
            run_sql(server, "SET statement_timeout = 0")
        pool.database.catalogue.ready(server)
        if limited:
            run_sql(server, "RESET statement_timeout")

    def _log_in(self, pool: Pool, settings: Any, parameters: Mapping[str, str] | None) -> Server:
        made = login(settings, self.engine, _credentials(pool), parameters)
        now = clock()
        lifetime = settings.server_lifetime
        spread = 1 + LIFETIME_JITTER * (2 * int.from_bytes(os.urandom(2), "big") / 65535 - 1)
        expires = now + lifetime * spread if lifetime > 0 else float("inf")
        log.info("[%s@%s] new server connection (pid %d)", settings.user, settings.database, made.pid)
        return Server(made.stream, settings, made.pid, made.secret, made.parameters, now, expires)

    # What the console reads (admin.world.World).

    @property
    def pools(self) -> Iterable[Pool]:
        """The pools in force."""
        return self._pools

    @property
    def unpooled(self) -> Iterable[Server]:
        """The servers of replication clients."""
        return [tunnel.server for tunnel in self.clients.tunnels]

    @property
    def build(self) -> dict[str, str]:
        """Texts for SHOW VERSION."""
        return {"version": __version__, "build": build(), "engine": self.engine.name}

    @property
    def log_level(self) -> str:
        """The levels in force."""
        return logs.level_text()

    def now(self) -> float:
        """Monotonic seconds."""
        return clock()

    def memory(self) -> Iterator[tuple[str, int, int, int, int]]:
        """Rows of SHOW MEM: (name, size of one, used, free, bytes in all)."""
        blocks = self.engine.blocks.size()
        yield "buffer_blocks", BLOCK_SIZE, 0, blocks, blocks * BLOCK_SIZE
        yield "clients", 0, len(self.clients), 0, 0
        yield "servers", 0, sum(len(pool.servers) for pool in self._pools.all()), 0, 0
        statements = sum(len(pool.registry.known) for pool in self._pools)
        yield "prepared_statements", 0, statements, 0, sum(pool.registry.bytes for pool in self._pools)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        yield "process_peak", 0, 1, 0, peak

    def set_log_level(self, text: str) -> None:
        """SET log_level; DoormanError (42601) for what can't be read."""
        logs.set_level(text)

    def reload(self) -> None:
        """Read the configuration again; ConfigError, and nothing has changed, when it can't be used."""
        try:
            config = load(self.config.path)
            _check(config)
        except ConfigError as exc:
            log.error("reload failed, the configuration stays as it was: %s", exc.message)
            raise
        changes = diff(self.config, config)
        for warning in config.warnings:
            log.warning("%s", warning)
        for key in changes.restart:
            log.warning("%s was changed: it takes effect after a restart", key)
        self.config = config
        self.govern(config.general)
        self.logins.limit_changed()
        self.doorway.use(config)
        self._pools.apply(effective(config))
        self.check_query = query(config.general.pooler_check_query)
        for session in self.clients:
            if isinstance(session, Session):
                session.check_query = self.check_query
            elif self.find_pool(session.database, session.user) is None:
                session.dismiss(no_such_pool(session.database, session.user))
        self.engine.memory_limit = config.general.max_memory_usage
        self._set_socket_options()
        log.info(
            "configuration reloaded: %d pools added, %d removed, %d rebuilt",
            len(changes.added),
            len(changes.removed),
            len(changes.changed),
        )

    def shutdown(self) -> None:
        """Begin to drain; returns at once."""
        self._stop.set()

    # Life.

    def run(self) -> int:
        """Listen and serve until told to stop, then drain; returns the exit code."""
        self._raise_descriptor_limit()
        # First of all: who sees us listen takes us for ready, and may send a signal.
        previous = [
            (number, set_signal(number, handler))
            for number, handler in (
                (signal.SIGTERM, self._on_stop),
                (signal.SIGINT, self._on_stop),
                (signal.SIGHUP, self._on_reload),
            )
        ]
        try:
            self._listen()
            self._live()
        finally:
            for number, handler in previous:
                set_signal(number, handler)
        return EXIT_OK

    def _live(self) -> None:
        self.averages.start()
        interval = min(SWEEP_INTERVAL, self.config.general.retain_connections_time)
        self._greenlets.append(gevent.spawn(self.janitor.sweep_forever, self._pools.all, interval))
        self._greenlets.append(gevent.spawn(Watch().run, self._pools.all))
        # What lives now lives as long as the process: the collector need not look at it again.
        gc.collect()
        gc.freeze()
        log.info("pgdoorman %s (%s, %s engine) is ready", __version__, build(), self.engine.name)
        try:
            self._stop.wait()
            self._drain()
        finally:
            self._end()

    def _listen(self) -> None:
        """Bind everything, then listen everywhere, at the first address last: when that answers, all others do."""
        general = self.config.general
        backlog = general.backlog or max(1, general.max_connections)
        try:
            for host, port in general.addresses():
                self._listeners += open_tcp(host, port, self.let_in, self.engine)
            if general.unix_socket_dir is not None:
                self._listeners.append(
                    open_unix(general.unix_socket_dir, general.port, general.unix_socket_mode, self.let_in, self.engine)
                )
            self._set_socket_options()
            for listener in reversed(self._listeners):
                listener.listen(backlog)
        except OSError as exc:
            self._close_listeners()
            raise ConfigError(f"could not listen: {exc}") from exc
        for listener in self._listeners:
            listener.start()
            log.info("listening on %s", listener.name)

    def _set_socket_options(self) -> None:
        """Set the sockets of all clients up that come from now on."""
        options = _without_linger(sockopt.SocketOptions.of(self.config.general))
        for listener in self._listeners:
            listener.set_up(options)

    def _on_stop(self, number: int, frame: Any) -> None:
        if self._stop.is_set() and number == signal.SIGINT:
            self._hurry.set()
        self._stop.set()

    def _on_reload(self, number: int, frame: Any) -> None:
        gevent.spawn(self._reload_logged)

    def _reload_logged(self) -> None:
        try:
            self.reload()
        except ConfigError as exc:
            log.debug("SIGHUP changed nothing: %s", exc.message)

    def _drain(self) -> None:
        """Let open transactions finish, within shutdown_timeout; everybody else is told to go."""
        limit = self.config.general.shutdown_timeout
        log.info("shutting down, waiting up to %g s for open transactions", limit)
        self.draining = 1
        self._close_listeners()
        for connection in list(self.open):
            connection.dismiss(ShuttingDown(GOODBYE))
        deadline = clock() + limit
        while self.open and clock() < deadline and not self._hurry.is_set():
            self._hurry.wait(min(0.02, max(0.0, deadline - clock())))
        if self.open:
            log.warning(
                "graceful shutdown %s: %d clients are disconnected",
                "cut short" if self._hurry.is_set() else "timed out",
                len(self.open),
            )
            for connection in self.open:
                connection.kill(ShuttingDown(GOODBYE))
            deadline = clock() + 1.0
            while self.open and clock() < deadline:
                gevent.sleep(0.01)

    def _close_listeners(self) -> None:
        for listener in self._listeners:
            listener.close()
            remove_unix(listener)
        self._listeners = []

    def _end(self) -> None:
        self._close_listeners()
        self.logins.close()
        self.averages.stop()
        self.janitor.finish()
        gevent.killall(self._greenlets)
        self._pools.close()
        self.engine.flush()
        self.engine.close()
        log.info("pgdoorman has ended")

    def _raise_descriptor_limit(self) -> None:
        """Have as many descriptors as the configuration may need, or as the system gives."""
        pools = sum(pool.size for pool in self._pools)
        wanted = self.config.general.max_connections + pools + SPARE_DESCRIPTORS
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft == resource.RLIM_INFINITY or soft >= wanted:
            return
        possible = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (possible, hard))
        if possible < wanted:
            log.warning("max_connections and the pools may need %d descriptors, the system allows %d", wanted, possible)


def _without_linger(options: sockopt.SocketOptions) -> sockopt.SocketOptions:
    """A client must get our last words: closing may not reset its connection."""
    return dataclasses.replace(options, so_linger=None)


def _credentials(pool: Pool) -> Credentials:
    """What we know to log in with: the pool's own server_password, or what the client's secret and proof give."""
    settings = pool.settings
    if settings.server_password is not None:
        return Credentials(user=settings.server_username, password=settings.server_password)
    secret = settings.secret
    if is_hash(secret):
        return Credentials(user=settings.server_username, md5_hash=secret)
    if ScramSecret.looks_like(secret):
        server_key = ScramSecret.parse(secret).server_key
        return Credentials(user=settings.server_username, client_key=pool.credentials, server_key=server_key)
    return Credentials(user=settings.server_username, password=secret)


def _check(config: Config) -> None:
    """Everything a start would find fault with, short of listening; ConfigError that names the file."""
    try:
        Users(config.pools, b"")
        hba.gate(config.general.hba, config.general.pg_hba)
        client_facing_context(config.general)
        for settings in effective(config).values():
            server_facing_context(settings)
    except ConfigError as exc:
        raise ConfigError(f"{config.path}: {exc.message}") from exc


def test_config(path: str) -> int:
    """Check a configuration for ``-t``; prints the verdict and returns the exit code."""
    try:
        config = load(path)
        _check(config)
    except ConfigError as exc:
        print(f"Config parse error: Configuration error: {exc.message}", file=sys.stderr)
        return EXIT_CONFIG
    for warning in config.warnings:
        print(f"pgdoorman: warning: {warning}", file=sys.stderr)
    print(f"pgdoorman: the configuration file {path} syntax is ok")
    print(f"pgdoorman: configuration file {path} test is successful")
    return EXIT_OK


def run(path: str, *, log_level: str, log_format: str, color: bool) -> int:
    """Run the pooler with the configuration at ``path`` until it is told to stop; returns the exit code."""
    logs.setup(log_level, log_format, None if color else False)
    keep_chunks()
    # Who spawned whom, with its stack, is only for debuggers, and a good part of what a greenlet costs.
    gevent.config.track_greenlet_tree = False
    try:
        config = load(path)
        _check(config)
        app = App(config)
    except ConfigError as exc:
        print(f"Config parse error: Configuration error: {exc.message}", file=sys.stderr)
        return EXIT_CONFIG
    for warning in config.warnings:
        log.warning("%s", warning)
    try:
        return app.run()
    except ConfigError as exc:
        log.error("%s", exc.message)
        return EXIT_FAILED
