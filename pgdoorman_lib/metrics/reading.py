"""What the exporters tell of the pools and of the process, read from the running pooler in short pieces."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from pgdoorman_lib.metrics.averages import Latencies
from pgdoorman_lib.metrics.pacing import Pace
from pgdoorman_lib.together import kinds
from pgdoorman_lib.views import PoolView, RunningPooler, sorted_pools

#: Clients counted before the clock is asked whether others are due.
_CLIENTS_IN_A_ROW = 64

#: What is looked at of the whole pooler, by ``pool_readings`` and ``PoolReading.look_closer``.
PARTS = (
    *(kinds.POOLS, kinds.COUNTS, kinds.SERVERS, kinds.STATS, kinds.PERIODS, kinds.LATENCIES),
    *(kinds.PROCESS, kinds.LOOKUPS, kinds.FALLBACKS, kinds.COORDINATORS),
)

_PoolKey = tuple[str, str]


@dataclass(slots=True)
class PoolReading:
    """One pool at one moment; ``clients_*`` are those of its database and user, by what they do."""

    database: str
    user: str
    pool: PoolView
    clients_idle: int = 0
    clients_active: int = 0
    clients_waiting: int = 0
    #: statements they hold, with names and without
    named: int = 0
    unnamed: int = 0
    #: of what is waited for or lent now: µs of the first in the queue, and ms of the server lent for longest
    max_wait: int = 0
    oldest_active_ms: int = 0
    #: mean wait of the last complete period, ms
    wait_ms: float = 0.0
    #: over the servers there are now
    prepare_hits: int = 0
    prepare_misses: int = 0
    tls_servers: int = 0
    latencies: Latencies | None = None

    def look_closer(self, pooler: RunningPooler) -> None:
        """Fill in what a pool's counts alone don't tell."""
        now = pooler.now()
        self.max_wait = int(self.pool.max_wait(now) * 1_000_000)
        self.wait_ms = pooler.averages.of(self.pool.stats).wait_time / 1000
        self.latencies = pooler.averages.latencies(self.pool.stats)
        oldest = now
        for server in self.pool.servers:
            if server.state == "active":
                oldest = min(oldest, server.active_since)
            self.prepare_hits += server.stats.prepare_hit
            self.prepare_misses += server.stats.prepare_miss
            self.tls_servers += server.tls
        self.oldest_active_ms = int((now - oldest) * 1000)


@dataclass(slots=True)
class _Clients:
    """Those of one database and user."""

    states: dict[str, int] = field(default_factory=dict)
    named: int = 0
    unnamed: int = 0


def pool_readings(pooler: RunningPooler, pace: Pace) -> Iterator[PoolReading]:
    """Read every pool in force, ordered by database and user, each when it is asked for; may switch."""
    counted = _count_clients(pooler, pace)
    nobody = _Clients()
    for pool in sorted_pools(pooler):
        key = (pool.settings.database, pool.settings.user)
        clients = counted.get(key, nobody)
        idle, active, waiting = (clients.states.get(state, 0) for state in ("idle", "active", "waiting"))
        yield PoolReading(*key, pool, idle, active, waiting, clients.named, clients.unnamed)
        pace.breathe()


def _count_clients(pooler: RunningPooler, pace: Pace) -> dict[_PoolKey, _Clients]:
    counted: dict[_PoolKey, _Clients] = {}
    for number, client in enumerate(pooler.clients, 1):
        key = (client.database, client.pool_user)
        clients = counted.get(key)
        if clients is None:
            clients = counted[key] = _Clients()
        state = client.state
        clients.states[state] = clients.states.get(state, 0) + 1
        named, unnamed = client.held
        clients.named += named
        clients.unnamed += unnamed
        if number % _CLIENTS_IN_A_ROW == 0:
            pace.breathe()
    return counted
