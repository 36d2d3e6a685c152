"""A running pooler of plain values, for what is exported of it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from pgdoorman_lib.config.model import Config, General
from pgdoorman_lib.config.model import Pool as PoolConfig
from pgdoorman_lib.fallback import FallbackView
from pgdoorman_lib.metrics.averages import Averages
from pgdoorman_lib.metrics.counters import ConnectionStats, LinkStats, OpeningStats, PoolStats
from pgdoorman_lib.net.residence import resident_bytes
from pgdoorman_lib.pool.terms import CoordinatorView
from pgdoorman_lib.views import LookupView


@dataclass
class FakeSettings:
    database: str = "exampledb"
    user: str = "doorman"
    pool_mode: str = "transaction"
    pool_size: int = 10


@dataclass
class FakeRegistry:
    known: tuple[str, ...] = ("a", "b")
    bytes: int = 77


@dataclass
class FakeServer:
    state: str = "active"
    tls: bool = True
    active_since: float = 998.5
    stats: LinkStats = field(default_factory=LinkStats)


@dataclass
class FakePool:
    settings: FakeSettings = field(default_factory=FakeSettings)
    paused: bool = False
    idle_count: int = 4
    borrowed_count: int = 2
    opening_count: int = 1
    waiting_count: int = 1
    servers: list[FakeServer] = field(default_factory=lambda: [FakeServer()])
    stats: PoolStats = field(default_factory=PoolStats)
    registry: FakeRegistry = field(default_factory=FakeRegistry)

    def max_wait(self, now: float) -> float:
        return 2.25


@dataclass
class FakeClient:
    database: str = "exampledb"
    pool_user: str = "doorman"
    state: str = "idle"
    held: tuple[int, int] = (2, 1)


class FakePooler:
    """As views.RunningPooler, as far as the exporters look."""

    def __init__(self) -> None:
        self.clock = 1000.0
        self.pools = [FakePool()]
        self.unpooled: list[FakeServer] = []
        self.clients = [FakeClient(), FakeClient(state="active"), FakeClient(state="active"), FakeClient("x", "y")]
        general = General(admin_username="admin", admin_password="top secret")
        self.config = Config(general=general, pools={"exampledb": PoolConfig()})
        self.build = {"version": "0.1.0", "build": "interpreted", "engine": "gevent"}
        self.averages = Averages(lambda: self.pools, self.now)
        self.connections = ConnectionStats()
        self.openings = OpeningStats()
        self.lookups: list[LookupView] = []
        self.fallbacks: list[FallbackView] = []
        self.coordinators: list[CoordinatorView] = []
        self.log_level = "info"
        self.draining = 0
        self.several = False

    def everyone(self, parts: Collection[str] = ()) -> FakePooler:
        return self

    def resident(self) -> int:
        return resident_bytes()

    def now(self) -> float:
        return self.clock
