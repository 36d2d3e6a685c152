"""The parts that the joined view is put together from: what one process has told, one pool of all, its averages."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from pgdoorman_lib.fallback import FallbackView
from pgdoorman_lib.metrics.averages import Latencies, Period, PoolAverages, averages_over
from pgdoorman_lib.metrics.counters import Histogram, PoolStats
from pgdoorman_lib.metrics.pacing import Pace
from pgdoorman_lib.net.packing import unpack
from pgdoorman_lib.pool.terms import CoordinatorView
from pgdoorman_lib.together import kinds
from pgdoorman_lib.together.counted import (
    copy_stats,
    unpack_histogram,
)
from pgdoorman_lib.together.packed import (
    JoinedRegistry,
    NotAsked,
    PackedServer,
    PackedSettings,
    Told,
)
from pgdoorman_lib.views import LookupView, PeerView

_PoolKey = tuple[str, str]


class Answer:
    """All that one process has told: rows by part."""

    def __init__(self) -> None:
        #: the process among all that ever had its number; its id
        self.process = ""
        self.pid = 0
        self.rows: dict[str, list[Told]] = {}
        self._columns: Mapping[str, Sequence[str]] = {}

    def add(self, told: Mapping[str, Any], pace: Pace) -> None:
        """One more answer of the process; may switch. Malformed or ValueError if that is none."""
        if "process" in told:
            self.process, self.pid, self._columns = told["process"], told["pid"], told["columns"]
        for part, packed in told.get("portions", ()):
            self.rows.setdefault(part, []).extend(rows_of(packed, self._columns[part]))
            pace.breathe()


def rows_of(packed: bytes, columns: Sequence[str]) -> list[Told]:
    """The rows of one portion, by the names of its columns; Malformed if it is none."""
    return [dict(zip(columns, row, strict=False)) for row in unpack(packed)]


class Totals:
    """The joined counters of each pool: the same object as long as there is the pool, since readers know it by that."""

    def __init__(self) -> None:
        self._kept: dict[_PoolKey, PoolStats] = {}

    def renew(self, found: Mapping[_PoolKey, PoolStats]) -> dict[_PoolKey, PoolStats]:
        """These are the counters now."""
        kept = self._kept
        self._kept = {key: kept.get(key) or PoolStats() for key in found}
        for key, stats in found.items():
            copy_stats(self._kept[key], stats)
        return self._kept


class JoinedPool:
    """As views.PoolView."""

    def __init__(self, settings: PackedSettings) -> None:
        self.settings = settings
        self.paused = self.disabled = True
        self.idle_count = self.borrowed_count = self.opening_count = self.opened_count = self.waiting_count = 0
        self.registry = JoinedRegistry()
        self._max_wait = 0.0
        self._servers: list[PackedServer] | None = None
        self._stats: PoolStats | None = None

    def add(self, told: Told) -> None:
        """One process's part of the pool."""
        self.paused = self.paused and told["paused"]
        self.disabled = self.disabled and told["disabled"]
        self.idle_count += told["idle"]
        self.borrowed_count += told["borrowed"]
        self.opening_count += told["opening"]
        self.opened_count += told["opened"]
        self.waiting_count += told["waiting"]
        self._max_wait = max(self._max_wait, told["max_wait"])
        self.registry.count(told["known"], told["bytes"])

    def max_wait(self, now: float) -> float:
        """Seconds the first in any queue had waited when it was told."""
        return self._max_wait

    @property
    def servers(self) -> list[PackedServer]:
        """Those of all processes."""
        if self._servers is None:
            raise NotAsked(kinds.SERVERS)
        return self._servers

    @servers.setter
    def servers(self, servers: list[PackedServer]) -> None:
        self._servers = servers

    @property
    def stats(self) -> PoolStats:
        """What all processes have counted."""
        if self._stats is None:
            raise NotAsked(kinds.STATS)
        return self._stats

    @stats.setter
    def stats(self, stats: PoolStats) -> None:
        self._stats = stats


class JoinedPeer:
    """As views.PeerView; ``peer`` is that of the process that asks."""

    def __init__(self, peer: PeerView) -> None:
        self.id = peer.id
        self.settings = peer.settings
        self.waiting = self.connecting = self.active = 0

    def add(self, told: Told) -> None:
        """One process's requests on their way there."""
        self.waiting += told["waiting"]
        self.connecting += told["connecting"]
        self.active += told["active"]


def unpack_fallback(told: Told) -> FallbackView:
    """What was told of one pool's fallback."""
    members = tuple((host, port) for host, port in told["members"])
    duration = unpack_histogram(told["duration"])
    return FallbackView(told["database"], members, tuple(told["counted"]), told["failures"], duration)


def unpack_lookup(told: Told) -> LookupView:
    """One process's part of an auth_query."""
    users = frozenset((database, user) for database, user in told["users"])
    return LookupView(told["database"], told["entries"], tuple(told["counted"]), told["made"], told["dropped"], users)


def join_lookups(one: LookupView, other: LookupView) -> LookupView:
    """What two processes have of the same; a user's pools in both of them are one."""
    return LookupView(
        one.database,
        one.entries + other.entries,
        tuple(map(sum, zip(one.counted, other.counted, strict=True))),
        one.made + other.made,
        one.dropped + other.dropped,
        one.users | other.users,
    )


def unpack_coordinator(told: Told) -> CoordinatorView:
    """One process's part of a database's limit of servers."""
    return CoordinatorView(*(told[name] for name in CoordinatorView._fields))


def join_coordinators(one: CoordinatorView, other: CoordinatorView) -> CoordinatorView:
    """What two processes have of the same; one of them may not have heard of a RELOAD yet."""
    return CoordinatorView(
        one.database,
        max(one.max_db_connections, other.max_db_connections),
        max(one.reserve_pool_size, other.reserve_pool_size),
        one.current + other.current,
        one.evictions + other.evictions,
        one.reserve_acquisitions + other.reserve_acquisitions,
        one.exhaustions + other.exhaustions,
    )


def empty() -> tuple[Histogram, ...]:
    stats = PoolStats()
    return stats.query_hist, stats.xact_hist, stats.wait_hist


class JoinedAverages:
    """As ``metrics.averages.Averages``, of joined pools."""

    def __init__(self, parts: Collection[str]) -> None:
        self._parts = parts
        self._periods: dict[int, list[Period]] = {}
        self._latencies: dict[int, Latencies] = {}

    def add_period(self, stats: PoolStats, told: Told) -> None:
        """One process's last complete period of the pool that counts in ``stats``."""
        self._periods.setdefault(id(stats), []).append((told["elapsed"], told["counted"]))

    def add_latencies(self, stats: PoolStats, told: Told) -> None:
        """One process's recent latencies."""
        more = [unpack_histogram(packed) for packed in told["histograms"]]
        found = self._latencies.get(id(stats))
        if found is None:
            self._latencies[id(stats)] = Latencies(*more)
        else:
            for histogram, other in zip((found.query, found.xact, found.wait), more, strict=True):
                histogram.merge(other)

    def of(self, stats: PoolStats) -> PoolAverages:
        """As there."""
        if kinds.PERIODS not in self._parts:
            raise NotAsked(kinds.PERIODS)
        periods = self._periods.get(id(stats))
        return averages_over(periods) if periods else PoolAverages()

    def latencies(self, stats: PoolStats) -> Latencies:
        """As there."""
        if kinds.LATENCIES not in self._parts:
            raise NotAsked(kinds.LATENCIES)
        found = self._latencies.get(id(stats))
        return found or Latencies(*empty())

    def period(self, stats: PoolStats) -> Period | None:
        """Of several processes there is no single one."""
        return None
