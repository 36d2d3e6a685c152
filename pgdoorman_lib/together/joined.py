"""The pooler as one, joined from what each of its processes has told: views.RunningPooler for tables and exporters.

Rules:
1. Pools of one (database, user) are one: what they count is added up, histograms included, so that percentiles are
   exactly those of one process; the longest wait is the longest of all.
2. What was not asked for can't be looked at: ``NotAsked``.
3. What is of no process alone (configuration, build, level of the log, orders) is the asker's.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from pgdoorman_lib.admin.consoles import Consoles
from pgdoorman_lib.fallback import FallbackView, join_views
from pgdoorman_lib.metrics.counters import ConnectionStats, OpeningStats, PoolStats
from pgdoorman_lib.metrics.pacing import Pace
from pgdoorman_lib.pool.terms import CoordinatorView
from pgdoorman_lib.server.hosts import HostView
from pgdoorman_lib.together import kinds
from pgdoorman_lib.together.asker import OfAsker
from pgdoorman_lib.together.counted import (
    HISTOGRAMS,
    ProcessCounts,
    add_stats,
    unpack_histogram,
    unpack_stats,
)
from pgdoorman_lib.together.joining import (
    Answer,
    JoinedAverages,
    JoinedPeer,
    JoinedPool,
    Totals,
    empty,
    join_coordinators,
    join_lookups,
    unpack_coordinator,
    unpack_fallback,
    unpack_lookup,
)
from pgdoorman_lib.together.packed import (
    NotAsked,
    PackedClient,
    PackedServer,
    PackedStatement,
    StandIn,
    Told,
    stand_ins,
    unpack_settings,
)
from pgdoorman_lib.views import LookupView, RunningPooler, WorkerView

_PoolKey = tuple[str, str]
_Of = TypeVar("_Of", LookupView, FallbackView, CoordinatorView)

#: Clients walked before the clock is asked whether others are due.
_IN_A_ROW = 64


class _Crowd:
    """Clients; who walks them lets others run now and then, since nothing changes here meanwhile."""

    def __init__(self, clients: Sequence[PackedClient | StandIn]) -> None:
        self._clients = clients

    def __iter__(self) -> Iterator[PackedClient | StandIn]:
        pace = Pace()
        for number, client in enumerate(self._clients, 1):
            yield client
            if number % _IN_A_ROW == 0:
                pace.breathe()


class Together(OfAsker):
    """What ``answers``, by the number of the process, tell of ``parts``; see ``views.RunningPooler``.

    ``asker`` is this process's part; ``totals`` keeps counters from one look to the next; ``missing`` is why a worker
    is not in here, by its number. Its making may switch.
    """

    def __init__(
        self,
        asker: RunningPooler,
        parts: Collection[str],
        answers: Mapping[int, Answer],
        missing: Mapping[int, str],
        totals: Totals,
    ) -> None:
        super().__init__(asker)
        self._parts = parts
        self.missing = missing
        self._answers = dict(sorted(answers.items()))
        self._pace = Pace()
        self._pools: dict[_PoolKey, JoinedPool] = {}
        self._unpooled: list[PackedServer] = []
        self._clients: list[PackedClient | StandIn] = []
        self._counts = ProcessCounts()
        self._averages = JoinedAverages(parts)
        self._consoles = Consoles()
        self._peers: dict[int, JoinedPeer] = {}
        self._login_count = 0
        self._join_pools(totals)
        self._join_servers()
        self._join_clients()
        self._join_processes()
        self._join_peers()
        if kinds.STATEMENTS in self._parts:
            for pool in self._pools.values():
                pool.registry.list()
        for _, told in self._rows(kinds.STATEMENTS):
            owner = self._pools.get((told["database"], told["user"]))
            if owner is not None:
                owner.registry.add(PackedStatement(told))

    def _rows(self, part: str) -> Iterator[tuple[int, Told]]:
        """All rows of a part, with whose each is; others run in between."""
        for number, answer in self._answers.items():
            for told in answer.rows.get(part, ()):
                yield number, told
                self._pace.breathe()

    def _join_pools(self, totals: Totals) -> None:
        for _, told in self._rows(kinds.POOLS):
            settings = unpack_settings(told["settings"])
            self._pools.setdefault((settings.database, settings.user), JoinedPool(settings)).add(told)
        if kinds.STATS in self._parts or kinds.PERIODS in self._parts or kinds.LATENCIES in self._parts:
            for key, stats in totals.renew(self._joined_stats()).items():
                self._pools[key].stats = stats
        for part, add in (
            (kinds.PERIODS, self._averages.add_period),
            (kinds.LATENCIES, self._averages.add_latencies),
        ):
            for _, told in self._rows(part):
                pool = self._pools.get((told["database"], told["user"]))
                if pool is not None:
                    add(pool.stats, told)

    def _joined_stats(self) -> dict[_PoolKey, PoolStats]:
        found = {key: PoolStats() for key in self._pools}
        for _, told in self._rows(kinds.STATS):
            total = found.get((told["database"], told["user"]))
            if total is not None:
                add_stats(total, unpack_stats(told["stats"]))
        if kinds.BUCKETS in self._parts:
            for total in found.values():
                for name, histogram in zip(HISTOGRAMS, empty(), strict=True):
                    setattr(total, name, histogram)
        for _, told in self._rows(kinds.BUCKETS):
            total = found.get((told["database"], told["user"]))
            if total is not None:
                for name, packed in zip(HISTOGRAMS, told["histograms"], strict=True):
                    getattr(total, name).merge(unpack_histogram(packed))
        return found

    def _join_servers(self) -> None:
        if kinds.SERVERS in self._parts:
            for pool in self._pools.values():
                pool.servers = []
        for number, told in self._rows(kinds.SERVERS):
            database, user = told["settings"]
            owner = self._pools.get((database, user))
            if owner is not None:
                owner.servers.append(PackedServer(told, owner.settings, number))
        for number, told in self._rows(kinds.UNPOOLED):
            self._unpooled.append(PackedServer(told, unpack_settings(told["settings"]), number))

    def _join_clients(self) -> None:
        for part in (kinds.CLIENTS, kinds.LINKED):
            for number, told in self._rows(part):
                client = PackedClient(told, number)
                if told["console"]:
                    self._consoles.add(told["id"], client)
                else:
                    self._clients.append(client)
        for _, told in self._rows(kinds.COUNTS):
            if not told["console"]:
                self._clients.extend(stand_ins(told))
                continue
            for stand_in in stand_ins(told):
                self._consoles.add(-1 - len(self._consoles), stand_in)

    def _join_processes(self) -> None:
        for _, told in self._rows(kinds.PROCESS):
            self._counts.add(told["counts"])
            self._login_count += told["logins"]
        self._consoles.stats = self._counts.consoles

    def _join_peers(self) -> None:
        if kinds.PEERS in self._parts:
            self._peers = {peer.id: JoinedPeer(peer) for peer in self._asker.peers}
        for _, told in self._rows(kinds.PEERS):
            peer = self._peers.get(told["id"])
            if peer is not None:
                peer.add(told)

    def _asked(self, *parts: str) -> None:
        """NotAsked unless one of ``parts`` was asked for."""
        if not any(part in self._parts for part in parts):
            raise NotAsked(" or ".join(parts))

    # As views.RunningPooler: what was told.

    @property
    def pools(self) -> Iterable[JoinedPool]:
        """Each pool, once."""
        self._asked(kinds.POOLS)
        return self._pools.values()

    @property
    def unpooled(self) -> Iterable[PackedServer]:
        """Servers of replication clients."""
        self._asked(kinds.UNPOOLED)
        return self._unpooled

    @property
    def clients(self) -> Iterable[PackedClient | StandIn]:
        """All clients, or those that were asked for."""
        self._asked(kinds.CLIENTS, kinds.LINKED, kinds.COUNTS)
        return _Crowd(self._clients)

    @property
    def consoles(self) -> Consoles:
        """The console's clients."""
        self._asked(kinds.CLIENTS, kinds.COUNTS, kinds.PROCESS)
        return self._consoles

    @property
    def peers(self) -> Iterable[JoinedPeer]:
        """The other poolers."""
        self._asked(kinds.PEERS)
        return self._peers.values()

    @property
    def lookups(self) -> Iterable[LookupView]:
        """Each auth_query, with what all processes have counted."""
        return self._by_database(kinds.LOOKUPS, unpack_lookup, join_lookups)

    @property
    def hosts(self) -> Iterable[HostView]:
        """Each process's."""
        self._asked(kinds.HOSTS)
        return [
            HostView(number, *(told[name] for name in HostView._fields[1:])) for number, told in self._rows(kinds.HOSTS)
        ]

    @property
    def fallbacks(self) -> Iterable[FallbackView]:
        """Each pool's, with what all processes have counted."""
        return self._by_database(kinds.FALLBACKS, unpack_fallback, join_views)

    @property
    def coordinators(self) -> Iterable[CoordinatorView]:
        """Each database with a limit of servers, with what all processes have."""
        return self._by_database(kinds.COORDINATORS, unpack_coordinator, join_coordinators)

    def _by_database(self, part: str, unpack: Callable[[Told], _Of], join: Callable[[_Of, _Of], _Of]) -> Iterable[_Of]:
        """What there is of each database, of all processes together."""
        self._asked(part)
        found: dict[str, _Of] = {}
        for _, told in self._rows(part):
            one = unpack(told)
            before = found.get(one.database)
            found[one.database] = one if before is None else join(before, one)
        return found.values()

    @property
    def login_count(self) -> int:
        """Clients that log in."""
        self._asked(kinds.PROCESS)
        return self._login_count

    @property
    def connections(self) -> ConnectionStats:
        """What connections were."""
        self._asked(kinds.PROCESS)
        return self._counts.connections

    @property
    def openings(self) -> OpeningStats:
        """Steps of opening servers."""
        self._asked(kinds.PROCESS)
        return self._counts.openings

    @property
    def averages(self) -> JoinedAverages:
        """Of the joined pools."""
        return self._averages

    def memory(self) -> list[tuple[str, int, int, int, int]]:
        """Rows of the same name added up."""
        self._asked(kinds.MEMORY)
        found: dict[str, list[int]] = {}
        for _, told in self._rows(kinds.MEMORY):
            row = found.setdefault(told["name"], [0, 0, 0, 0])
            row[0] = max(row[0], told["size"])
            for index, column in enumerate(("used", "free", "total"), 1):
                row[index] += told[column]
        return [(name, *numbers) for name, numbers in found.items()]  # type: ignore[misc]

    def resident(self) -> int:
        """Bytes in memory; what processes share counts for each."""
        self._asked(kinds.PROCESS)
        return sum(told["resident"] for _, told in self._rows(kinds.PROCESS))

    def sockets(self) -> dict[str, list[int]]:
        """A socket that several processes have counts once."""
        self._asked(kinds.SOCKETS)
        found: dict[str, list[int]] = {}
        seen: set[int] = set()
        for _, told in self._rows(kinds.SOCKETS):
            inodes = [inode for inode in array("Q", told["inodes"]) if inode not in seen]
            seen.update(inodes)
            found.setdefault(told["state"], []).extend(inodes)
        return found

    @property
    def several(self) -> bool:
        """It is of several processes."""
        return True

    @property
    def workers(self) -> list[WorkerView]:
        """All workers there are, those that are missing, too."""
        self._asked(kinds.PROCESS)
        found = [
            WorkerView(
                number,
                told["pid"],
                told["clients"],
                told["servers"],
                told["resident"],
                told["started_at"],
                "",
            )
            for number, told in self._rows(kinds.PROCESS)
            if number != kinds.SUPERVISOR
        ]
        lost = [
            WorkerView(number, 0, 0, 0, 0, 0.0, why)
            for number, why in self.missing.items()
            if number != kinds.SUPERVISOR
        ]
        return sorted(found + lost)
