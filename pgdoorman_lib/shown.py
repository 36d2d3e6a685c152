"""What the running pooler shows of itself to the console and the exporters: the half of a RunningPooler that looks."""

from __future__ import annotations

import os
import resource
import sys
from collections import Counter
from collections.abc import Collection, Iterable, Iterator

from pgdoorman_lib import __version__, build
from pgdoorman_lib import log as logs
from pgdoorman_lib.admin import sockets
from pgdoorman_lib.auth.lookup import LookupStats
from pgdoorman_lib.client.pooler import Pooler
from pgdoorman_lib.config.general import General
from pgdoorman_lib.connector import Connector
from pgdoorman_lib.fallback import FallbackView
from pgdoorman_lib.lookups import Lookups
from pgdoorman_lib.metrics.counters import OpeningStats
from pgdoorman_lib.net.measures import BLOCK_SIZE
from pgdoorman_lib.net.residence import resident_bytes
from pgdoorman_lib.net.syscalls import clock
from pgdoorman_lib.pool.quotas import Quotas
from pgdoorman_lib.pool.terms import CoordinatorView
from pgdoorman_lib.server.connection import Server, number_servers
from pgdoorman_lib.server.hosts import HostView, place_of
from pgdoorman_lib.together.orders import AskAll
from pgdoorman_lib.together.whole import Handler, Whole
from pgdoorman_lib.views import Cancellable, LookupView, RunningPooler, WorkerView


class Shown(Pooler):
    """One process of the pooler, as it is seen."""

    connector: Connector
    #: what users are looked up by
    finders: Lookups
    #: limits of several pools' servers
    quotas: Quotas
    cancellable: dict[tuple[int, bytes], Cancellable]

    def __init__(self, general: General) -> None:
        super().__init__(general)
        self._started_at = clock()
        #: the pooler that this process is a part of, None: it is all there is
        self._whole: Whole | None = None

    def be_one_of_several(self, number: int, count: int, ask_all: AskAll) -> dict[str, Handler]:
        """Be worker ``number`` of ``count``, from 1; before any client. See ``together.whole.Whole`` for ``ask_all``.

        Returns what is to be answered when others ask this one, by the kind of question.
        """
        number_servers(number, count)
        self._whole = Whole(self, ask_all, number)
        return self._whole.handlers()

    @property
    def face(self) -> RunningPooler:
        """What the console is given: what is ordered of it reaches all processes."""
        return self._running if self._whole is None else self._whole

    @property
    def _running(self) -> RunningPooler:
        return self  # type: ignore[return-value]  # with what derives from it

    def count(self) -> tuple[int, int]:
        """How many clients and servers there are."""
        return len(self.clients), sum(len(pool.servers) for pool in self.pools.all())

    def everyone(self, parts: Collection[str] = ()) -> RunningPooler:
        """The whole pooler; may switch."""
        return self._running if self._whole is None else self._whole.everyone(parts)

    @property
    def several(self) -> bool:
        """Whether this process is one of several."""
        return self._whole is not None

    @property
    def missing(self) -> dict[int, str]:
        """This process is here."""
        return {}

    @property
    def workers(self) -> list[WorkerView]:
        """This process."""
        clients, servers = self.count()
        return [WorkerView(1, os.getpid(), clients, servers, resident_bytes(), self._started_at, "")]

    @property
    def unpooled(self) -> Iterable[Server]:
        """The servers of replication clients."""
        return [session.server for session in self.clients.replicating]

    @property
    def lookups(self) -> Iterator[LookupView]:
        """What there is of each auth_query."""
        users: dict[str, set[tuple[str, str]]] = {}
        for section, pool in self.pools.of_found_users():
            users.setdefault(section, set()).add((pool.settings.database, pool.settings.user))
        for lookup in self.finders:
            name = lookup.database
            counted = tuple(getattr(lookup.stats, each) for each in LookupStats.NAMES)
            of_name = frozenset(users.get(name, ()))
            yield LookupView(name, len(lookup), counted, self.pools.made[name], self.pools.dropped[name], of_name)

    @property
    def hosts(self) -> Iterator[HostView]:
        """The addresses where servers were opened, or were tried to be."""
        pools = [*self.pools.all(), *self.finders.pools()]
        servers = Counter(place_of(server) for pool in pools for server in pool.servers)
        now = clock()
        for place, known in self.connector.hosts.known(servers):
            retry_in = max(0.0, known.until - now)
            state = known.state(now)
            yield HostView(0, *place, state, known.role, known.failures, retry_in, known.reason, servers[place])

    @property
    def fallbacks(self) -> Iterator[FallbackView]:
        """The pools that have a Patroni cluster to fall back on."""
        return (of.view() for of in self.connector.fallbacks)

    @property
    def coordinators(self) -> Iterator[CoordinatorView]:
        """The databases with a limit of servers."""
        return self.quotas.databases()

    @property
    def openings(self) -> OpeningStats:
        """How long the steps of opening servers take."""
        return self.connector.stats

    @property
    def login_count(self) -> int:
        """Clients that have connected and not logged in yet."""
        return len(self.logins)

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
        yield "servers", 0, sum(len(pool.servers) for pool in self.pools.all()), 0, 0
        statements = sum(len(pool.registry.known) for pool in self.pools)
        yield "prepared_statements", 0, statements, 0, sum(pool.registry.bytes for pool in self.pools)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        yield "process_peak", 0, 1, 0, peak

    def resident(self) -> int:
        """Bytes of this process in memory."""
        return resident_bytes()

    def sockets(self) -> dict[str, list[int]]:
        """The inodes of this process's sockets by state; may switch."""
        return sockets.by_state()

    def cancel_commands(self, number: int, user: str | None) -> list[str]:
        """As views.RunningPooler."""
        waiting = [command for (process, _), command in self.cancellable.items() if process == number]
        for command in waiting:
            if user is None or command.user == user:
                command.cancelled = True
        return [command.user for command in waiting]
