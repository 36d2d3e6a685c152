"""The part of the supervisor in the whole pooler: a process without pools and clients, that exporters run in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from pgdoorman_lib import log as logs
from pgdoorman_lib.admin.consoles import Consoles
from pgdoorman_lib.config.model import Config
from pgdoorman_lib.fallback import FallbackView
from pgdoorman_lib.metrics.averages import Averages
from pgdoorman_lib.metrics.counters import ConnectionStats, OpeningStats
from pgdoorman_lib.net.residence import resident_bytes
from pgdoorman_lib.net.syscalls import clock
from pgdoorman_lib.pool.terms import CoordinatorView
from pgdoorman_lib.server.hosts import HostView
from pgdoorman_lib.views import (
    Cancellable,
    ClientView,
    LookupView,
    PeerView,
    PoolView,
    ServerView,
    WorkerView,
)


class Onlooker:
    """What ``Whole`` and ``Telling`` are given in the supervisor; ``sockets`` are as in views.RunningPooler.

    ``config`` is the configuration in force, and ``draining`` not 0 when the pooler is about to end: whoever knows
    changes them.
    """

    def __init__(
        self, config: Config, build: Mapping[str, str], sockets: Callable[[], Mapping[str, Sequence[int]]]
    ) -> None:
        self.config = config
        self.build = build
        self.sockets = sockets
        self.draining = 0
        self.pools: Iterable[PoolView] = ()
        self.unpooled: Iterable[ServerView] = ()
        self.clients: Iterable[ClientView] = ()
        self.peers: Iterable[PeerView] = ()
        self.lookups: Iterable[LookupView] = ()
        self.hosts: Iterable[HostView] = ()
        self.fallbacks: Iterable[FallbackView] = ()
        self.coordinators: Iterable[CoordinatorView] = ()
        self.workers: Sequence[WorkerView] = ()
        self.consoles = Consoles()
        self.login_count = 0
        self.connections = ConnectionStats()
        self.openings = OpeningStats()
        self.averages = Averages(lambda: (), clock)
        self.cancellable: dict[tuple[int, bytes], Cancellable] = {}
        #: there is no console here
        self.operations = None

    @property
    def log_level(self) -> str:
        """The levels in force."""
        return logs.level_text()

    def now(self) -> float:
        """Monotonic seconds."""
        return clock()

    def resident(self) -> int:
        """Bytes in memory."""
        return resident_bytes()

    def memory(self) -> list[tuple[str, int, int, int, int]]:
        """Nothing here is for clients."""
        return []
