"""The running pooler: builds every part, wires them together, and starts and stops them in order."""

from __future__ import annotations

import gc
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import gevent
import gevent.event

from pgdoorman_lib import __version__, build
from pgdoorman_lib import log as logs
from pgdoorman_lib.abc import Kin
from pgdoorman_lib.admin import console
from pgdoorman_lib.admin.consoles import Consoles
from pgdoorman_lib.auth.tokens import Signer
from pgdoorman_lib.cancel import Canceller
from pgdoorman_lib.client.begin import no_such_pool
from pgdoorman_lib.client.connection import accept
from pgdoorman_lib.client.limits import Limits
from pgdoorman_lib.client.login import Accepted
from pgdoorman_lib.client.places import divide
from pgdoorman_lib.client.registry import Clients
from pgdoorman_lib.client.session import Session
from pgdoorman_lib.config.effective import effective, looked_up, wildcard
from pgdoorman_lib.config.model import Config
from pgdoorman_lib.configuration import Configuration
from pgdoorman_lib.connector import Connector
from pgdoorman_lib.errors import ConfigError
from pgdoorman_lib.listener import Inherited
from pgdoorman_lib.listeners import Listeners
from pgdoorman_lib.lookups import Lookups
from pgdoorman_lib.metrics.averages import Averages
from pgdoorman_lib.metrics.counters import ConnectionStats
from pgdoorman_lib.metrics.summary import Summary
from pgdoorman_lib.net.engines import choose
from pgdoorman_lib.net.stream import Stream
from pgdoorman_lib.net.syscalls import clock
from pgdoorman_lib.operations import Operations
from pgdoorman_lib.peers import Peers
from pgdoorman_lib.policy import ConfiguredPolicy
from pgdoorman_lib.pool.addresses import NameWatch
from pgdoorman_lib.pool.catalogue import Catalogue, Watch
from pgdoorman_lib.pool.database import Databases
from pgdoorman_lib.pool.janitor import SWEEP_INTERVAL, Janitor
from pgdoorman_lib.pool.pool import Pool
from pgdoorman_lib.pool.quotas import Quotas
from pgdoorman_lib.pool.registry import Pools
from pgdoorman_lib.server.connection import Server
from pgdoorman_lib.shown import Shown
from pgdoorman_lib.shutdown import Shutdown
from pgdoorman_lib.signals import Signals
from pgdoorman_lib.supervisor.pid_file import PidFile
from pgdoorman_lib.supervisor.systemd import Systemd
from pgdoorman_lib.telemetry import HTTP, Telemetry, most_connections
from pgdoorman_lib.views import Cancellable
from pgdoorman_lib.wire.cancel_keys import as_given
from pgdoorman_lib.wire.statements import TOKEN_SIZE, name_process

log = logging.getLogger(__name__)


class App(Shown):
    """One process of the pooler. ``config`` is changed only by ``reload``.

    ``inherited`` are the sockets to listen on in place of what ``config`` names; ``systemd`` is told how we are;
    ``kin`` makes what stands for the other processes; a daemon has a ``pid_file``.
    """

    def __init__(
        self,
        config: Config,
        systemd: Systemd,
        inherited: Sequence[Inherited],
        kin: Callable[[App], Kin],
        pid_file: PidFile | None = None,
    ) -> None:
        super().__init__(config.general)
        name_process(os.urandom(TOKEN_SIZE))
        self.policy: ConfiguredPolicy
        self.configuration = Configuration(config, self._use)
        self.engine = choose(config.general.io_engine)
        self.engine.memory_limit = config.general.max_memory_usage
        self.clients = Clients()
        self.consoles = Consoles()
        self.connections = ConnectionStats()
        self.finders = Lookups(self._make_reader, self._secrets)
        self.policy = ConfiguredPolicy(self.finders)
        self.policy.use(config)
        self.cancellable: dict[tuple[int, bytes], Cancellable] = {}
        self._canceller = Canceller(self.engine, self.clients)
        self.peers = Peers(self.engine, self.connections)
        self._signer = Signer()
        self._signer.use(self.policy.keyring.private)
        self.connector = Connector(self.engine, self.policy.keylog, self._signer)
        self.janitor = Janitor(self._canceller.cancel_server)
        self._kin = kin(self)
        #: the other worker processes, None: this is the only one
        self.neighbours = self._kin.neighbours
        self._databases = Databases(Catalogue, self.neighbours.database if self.neighbours is not None else None)
        self.quotas = Quotas(self.neighbours.quota if self.neighbours is not None else None, self._slowness)
        self.pools = Pools(self._make_pool)
        self.finders.use(config, self.processes)
        self._use_pools(config)
        self.operations = Operations(self.pools, self)
        self.limits = Limits(lambda: self.general, self.pools.all, self.clients)
        self.averages = Averages(self.pools.all, clock)
        self.telemetry = Telemetry(self, config, silent=bool(self._kin.worker))
        self._summary = Summary(self, lambda: self.general.log_stats and not self._kin.worker)
        self.systemd = systemd
        self._inherited = inherited
        self.listeners = Listeners(partial(accept, self), self.engine)
        self._shutdown = Shutdown(self, self.operations, lambda: self.everyone().operations)
        self.pid_file = pid_file
        self._greenlets: list[gevent.Greenlet[..., None]] = []

    # What client.connection needs.

    def abandon(self, pool: Pool, server: Server, in_batch: bool, half_sent: bool) -> None:
        """A session leaves a server that can't simply be given back."""
        self.janitor.abandon(pool, server, in_batch, half_sent)

    def cancel(self, process: int, secret: bytes) -> None:
        """Carry out a cancel request, or have whoever has the client do so; may switch."""
        process, hopped = as_given(process)
        if not self.cancel_here(process, secret) and not self.peers.pass_on(process, secret, hopped):
            self._kin.pass_cancel_on(process, secret)

    def cancel_here(self, process: int, secret: bytes) -> bool:
        """Carry out a cancel request for a client of this process; whether there is one with that key. May switch."""
        command = self.cancellable.get((process, secret))
        if command is not None:
            command.cancelled = True
            return True
        return self._canceller.cancel(process, secret)

    def console(self, stream: Stream, accepted: Accepted) -> None:
        """Serve the admin console; may switch."""
        number, _ = self.clients.new_key(accepted.protocol)
        self.clients.reserve((number,))
        try:
            console.serve(stream, self.face, accepted.user, dict(accepted.parameters), accepted.database, number)
        finally:
            self.clients.release((number,))

    # Pools.

    def _make_pool(self, settings: Any) -> Pool:
        pool = Pool(settings, self.engine, self.connector.connect, self.janitor.tidy, self._databases.of(settings))
        if self.neighbours is not None:
            self.neighbours.join(pool)
        self.quotas.join(pool)
        return pool

    def _slowness(self, pool: Pool) -> float:
        """How long, but for the longest twentieth, its transactions have taken lately (µs)."""
        return float(self.averages.latencies(pool.stats).xact.percentile(95))

    def _secrets(self, name: str) -> Any:
        """See ``Lookups``."""
        return self.neighbours.secrets(name) if self.neighbours is not None else None

    def _make_reader(self, settings: Any) -> Pool:
        """A pool of connections by which users are looked up."""
        return Pool(settings, self.engine, self.connector.connect, self.janitor.tidy)

    def _use_pools(self, config: Config) -> None:
        """Have the pools and peers that ``config`` wants."""
        self.clients.use_peer(config.general.peer_id)
        self.peers.use(config.general, config.peers)
        self.pools.apply(effective(config), wildcard(config), config.pools, looked_up(config))
        self.quotas.govern(config, self.pools.all())
        self.named = config.pools
        self.max_clients_by_database = {
            name: pool.max_db_client_connections
            for name, pool in config.pools.items()
            if pool.max_db_client_connections is not None
        }
        self.max_clients_by_user = {
            (name, user.username): user.max_user_client_connections
            for name, pool in config.pools.items()
            for user in pool.users
            if user.max_user_client_connections is not None
        }

    def _sweep_pools(self) -> list[Pool]:
        """Take pools away that nobody uses any more; all that are left."""
        before = len(self.pools)
        self.pools.drop_unused(clock(), self.config.general.autodb_idle_timeout, self._pools_in_use)
        if len(self.pools) < before:
            self.quotas.drop_unused(self.pools.all())
        return [*self.finders.pools(), *self.pools.all()]

    def _pools_in_use(self) -> set[Pool]:
        """Those that sessions have, or will have for their next transaction."""
        found = (self.pools.find(session.database, session.user) for session in self.clients)
        return {pool for pool in found if pool is not None}

    def learn_parameters(self, database: str, user: str) -> None:
        """A user who was looked up is let in: his pool is to have what was found with him; no switch."""
        self.pools.learn_parameters(database, user, self.finders.parameters_of(database, user))

    def load_ciphers(self) -> None:
        """Have what carries on connections by TLS that come from another process, before clients wait for it."""
        modes = {pool.settings.server_tls_mode for pool in self.pools}
        if self.general.tls_certificate or modes - {"disable", "allow"}:
            self.policy.load_ciphers()

    def open_server(self, pool: Pool, parameters: dict[str, str]) -> Server:
        """Open a server outside the pool, for one client; may switch."""
        return self.connector.open_unpooled(pool, parameters)

    # What the console orders (views.RunningPooler).

    def set_log_level(self, text: str) -> None:
        """SET log_level; DoormanError (42601) for what can't be read."""
        logs.set_level(text)

    def reload(self) -> list[str]:
        """Read the configuration again, and tell of it; ConfigError, and nothing has changed, when it can't be used."""
        with self.systemd.reloading():
            told = self.configuration.reload()
        self.configuration.tell_of_reload()
        return told

    def set_key(self, section: str, name: str, raw: object) -> str:
        """SET of a key to ``raw``, as TOML would have it; what it is then. ConfigError, and nothing has changed."""
        return self.configuration.set_key(section, name, raw)

    def reset_key(self, section: str, name: str) -> str:
        """RESET of a key to what the file has; as ``set_key``."""
        return self.configuration.reset_key(section, name)

    @property
    def config(self) -> Config:
        """The configuration in force."""
        return self.configuration.config

    def _use(self, config: Config) -> None:
        """Go by ``config`` from now on."""
        self.govern(config.general)
        self.logins.limit_changed()
        self.limits.changed()
        before = self.policy.find_user
        self.finders.use(config, self.processes)
        self.policy.use(config)
        self._signer.use(self.policy.keyring.private)
        self._use_pools(config)
        self._share_descriptors()
        for session in self.clients:
            database, user = session.database, session.user
            pool = self.find_pool(database, user)
            if pool is not None and (before(database, user) is None) != self.is_looked_up(database, user):
                pool = None  # whoever would be found under that name now has not proven to be this one
                session.terminate_when_idle(no_such_pool(database, user))
            if isinstance(session, Session):
                if pool is not None:
                    session.link.use_health(pool)
            elif pool is None:
                session.terminate_when_idle(no_such_pool(database, user))
        self.engine.memory_limit = config.general.max_memory_usage
        self.listeners.set_up(config.general)
        self.telemetry.use(config)

    def ordered(self) -> dict[str, Any]:
        """What the console has ordered, for ``obey`` in the process behind this one."""
        return {"set": self.configuration.values(), "log_level": self.log_level, **self.operations.ordered()}

    def obey(self, state: Mapping[str, Any]) -> None:
        """Go by what was ordered of the process before this one, as ``ordered`` tells it."""
        self.configuration.obey(state["set"])
        self.operations.obey(state)
        if "log_level" in state and state["log_level"] != self.log_level:
            self.set_log_level(state["log_level"])

    def upgrade(self) -> None:
        """As in views.RunningPooler; may switch."""
        self._kin.upgrade()

    def shutdown(self, mode: str = "drain") -> None:
        """Begin to end, in one of ``shutdown.MODES``; returns at once."""
        self._shutdown.begin(mode)

    def hurry(self) -> None:
        """Wait for nothing any more before the end; returns at once."""
        self._shutdown.hurry()

    # Life.

    def run(self, on_ready: Callable[[], None]) -> None:
        """Listen and serve until told to stop, then drain; ConfigError when it can't listen.

        ``on_ready`` is called once clients are served; what it raises ends all.
        """
        self._share_descriptors()
        # First of all: who sees us listen takes us for ready, and may send a signal.
        kin = self._kin
        with self._signals():
            inherited = kin.come() or self._inherited
            self.telemetry.listen([each for each in inherited if each.called == HTTP], kin.inherit)
            try:
                self.listeners.open(
                    self.config.general, [each for each in inherited if each.called != HTTP], kin.inherit
                )
                kin.begin()
                self.listeners.start()
                self._live(on_ready)
            finally:
                self.listeners.close()

    def _signals(self) -> AbstractContextManager[None]:
        """Go by signals within; a worker's supervisor does."""
        if self._kin.worker:
            return nullcontext()
        return Signals(
            *(self.shutdown, self._shutdown.hurry, self._reload_logged, logs.reopen, self._kin.upgrade_logged),
            interrupt_upgrades=lambda: self.pid_file is not None or self.general.upgrade_on_sigint,
        ).handled()

    def _live(self, on_ready: Callable[[], None]) -> None:
        self.averages.start(self._summary.due.set)
        self._greenlets.append(gevent.spawn(self._summary.run))
        self.telemetry.start()
        self.limits.changed()
        interval = min(SWEEP_INTERVAL, self.config.general.retain_connections_time)
        self._greenlets.append(gevent.spawn(self.janitor.sweep_forever, self._sweep_pools, interval))
        self._greenlets.append(gevent.spawn(Watch().run, self.pools.all))
        self._greenlets.append(gevent.spawn(NameWatch().run, lambda: [*self.pools.all(), *self.finders.pools()]))
        # What lives now lives as long as the process: the collector need not look at it again.
        gc.collect()
        gc.freeze()
        log.info("pgdoorman %s (%s, %s engine) is ready", __version__, build(), self.engine.name)
        try:
            on_ready()
            self._kin.wait_until_main()
            self.systemd.ready()
            self._greenlets.append(gevent.spawn(self.systemd.watch, self.count))
            self._shutdown.wait()
            self.systemd.stopping()
            self.draining = 1
            self.listeners.close()
            self._shutdown.carry_out(self.config.general.shutdown_timeout)
        finally:
            self._end()

    def _reload_logged(self) -> None:
        try:
            self.reload()
        except ConfigError as exc:
            log.debug("SIGHUP changed nothing: %s", exc.message)

    def _end(self) -> None:
        self.listeners.close()
        self.logins.close()
        self.limits.close()
        self.averages.stop()
        self.telemetry.stop()
        self.janitor.finish()
        self._canceller.close()
        self._kin.end()
        gevent.killall(self._greenlets)
        self.connector.hosts.close()
        self.finders.close()
        self.policy.judges.close()
        self.pools.close()
        if self.neighbours is not None:
            self.neighbours.close()
        self.engine.flush()
        self.engine.close()
        self.systemd.close()
        log.info("pgdoorman has ended")

    def _share_descriptors(self) -> None:
        """Have as many descriptors as the configuration may need, or as the system gives, and divide them."""
        servers = sum(pool.size for pool in self.pools) + most_connections(self.config.web) + self.peers.most
        servers += self.finders.most
        self.keep_within(divide(servers, self.config.general.max_connections, self.logins.most))
