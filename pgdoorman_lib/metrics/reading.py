"""What the exporters tell of the pools and of the process, read from the running pooler in short pieces."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

from pgdoorman_lib.abc import PoolView, RunningPooler
from pgdoorman_lib.metrics.pacing import Pace

#: Clients counted before the clock is asked whether others are due.
_CLIENTS_IN_A_ROW = 64

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


def pool_readings(pooler: RunningPooler, pace: Pace) -> Iterator[PoolReading]:
    """Read every pool in force, ordered by database and user, each when it is asked for; may switch."""
    counts = _clients_by_state(pooler, pace)
    pools = sorted(pooler.pools, key=lambda pool: (pool.settings.database, pool.settings.user))
    for pool in pools:
        key = (pool.settings.database, pool.settings.user)
        states = counts.get(key, {})
        yield PoolReading(*key, pool, states.get("idle", 0), states.get("active", 0), states.get("waiting", 0))
        pace.breathe()


def _clients_by_state(pooler: RunningPooler, pace: Pace) -> dict[_PoolKey, dict[str, int]]:
    counts: dict[_PoolKey, dict[str, int]] = {}
    for number, client in enumerate(pooler.clients, 1):
        states = counts.setdefault((client.database, client.user), {})
        state = client.state
        states[state] = states.get(state, 0) + 1
        if number % _CLIENTS_IN_A_ROW == 0:
            pace.breathe()
    return counts


def resident_bytes() -> int:
    """Bytes of this process in memory (Linux; 0 where there is no /proc)."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except FileNotFoundError:
        return 0
