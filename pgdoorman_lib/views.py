"""The running pooler as the console and the exporters see it, each seam once: the other half of ``abc``."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from pgdoorman_lib.admin.consoles import Consoles
    from pgdoorman_lib.client.info import ClientInfo
    from pgdoorman_lib.config.model import Config
    from pgdoorman_lib.errors import DoormanError
    from pgdoorman_lib.fallback import FallbackView
    from pgdoorman_lib.metrics.averages import Latencies, Period, PoolAverages
    from pgdoorman_lib.metrics.counters import ConnectionStats, LinkStats, OpeningStats, PoolStats
    from pgdoorman_lib.net.stream import Stream
    from pgdoorman_lib.pool.holding import Target
    from pgdoorman_lib.pool.terms import CoordinatorView
    from pgdoorman_lib.server.hosts import HostView


class HasStats(Protocol):
    """A pool, as far as it matters here."""

    @property
    def stats(self) -> PoolStats:
        """Return the counters the data path adds to."""


class ConsoleStream(Protocol):
    """What the console needs of ``net.stream.Stream``."""

    @property
    def readable(self) -> object: ...
    @property
    def eof(self) -> object: ...
    @property
    def hangup(self) -> object: ...
    def fill(self) -> int: ...
    def read_message(self, max_length: int = ...) -> tuple[int, bytes]: ...
    def write(self, data: bytes) -> object: ...
    def flush(self) -> None: ...


class SettingsView(Protocol):
    """A pool's settings; see ``config.effective.PoolSettings``."""

    @property
    def database(self) -> str: ...
    @property
    def user(self) -> str: ...
    @property
    def pool_mode(self) -> str: ...
    @property
    def pool_size(self) -> int: ...
    @property
    def min_pool_size(self) -> int: ...
    @property
    def server_host(self) -> str: ...
    @property
    def server_port(self) -> int: ...
    @property
    def server_database(self) -> str: ...
    @property
    def server_username(self) -> str: ...
    @property
    def server_lifetime(self) -> float: ...
    @property
    def server_idle_check_timeout(self) -> float: ...
    @property
    def startup_parameters(self) -> Sequence[tuple[str, str]]: ...


class ServerView(Protocol):
    """One server connection; ``state`` is login, idle, active or cleaning; ``wait`` is idle, read or write.

    ``created_at``, ``active_since`` (when it was last borrowed) and ``idle_since`` are monotonic seconds; ``cancels``
    is how many cancel requests are under way to it.
    """

    @property
    def id(self) -> int: ...
    @property
    def pid(self) -> int: ...
    @property
    def settings(self) -> SettingsView: ...
    @property
    def tls(self) -> bool: ...
    @property
    def state(self) -> str: ...
    @property
    def wait(self) -> str: ...
    @property
    def stats(self) -> LinkStats: ...
    @property
    def created_at(self) -> float: ...
    @property
    def active_since(self) -> float: ...
    @property
    def idle_since(self) -> float: ...
    @property
    def cancels(self) -> int: ...
    @property
    def stream(self) -> Stream: ...
    @property
    def prepared_count(self) -> int: ...
    @property
    def pinned(self) -> str:
        """What keeps its client on it between transactions; empty when nothing does."""

    @property
    def application_name(self) -> str: ...
    @property
    def worker(self) -> int:
        """The worker whose it is, 0 for this process."""


class RegistryView(Protocol):
    """The statements that clients of a pool share: ``known`` has them as values, ``bytes`` is how large they are."""

    @property
    def known(self) -> Any: ...
    @property
    def bytes(self) -> int: ...


class AveragesView(Protocol):
    """The last period of pools, by what they count in; see ``metrics.averages.Averages``."""

    def of(self, stats: PoolStats) -> PoolAverages: ...
    def latencies(self, stats: PoolStats) -> Latencies: ...
    def period(self, stats: PoolStats) -> Period | None: ...


class PoolView(Protocol):
    """One pool; ``max_wait(now)``: seconds the first waiter has waited; ``opened_count``: servers opened since made."""

    @property
    def settings(self) -> SettingsView: ...
    @property
    def paused(self) -> bool: ...
    @property
    def disabled(self) -> bool: ...
    @property
    def idle_count(self) -> int: ...
    @property
    def borrowed_count(self) -> int: ...
    @property
    def opening_count(self) -> int: ...
    @property
    def opened_count(self) -> int: ...
    @property
    def waiting_count(self) -> int: ...
    @property
    def registry(self) -> RegistryView: ...
    @property
    def servers(self) -> Iterable[ServerView]: ...
    @property
    def stats(self) -> PoolStats: ...
    def max_wait(self, now: float) -> float: ...


class ListedClient(Protocol):
    """One client that SHOW CLIENTS has a row of, a console's too."""

    @property
    def user(self) -> str: ...
    @property
    def database(self) -> str: ...
    def info(self) -> ClientInfo: ...


class ClientView(ListedClient, Protocol):
    """One client of a pool, of whatever kind; ``state`` as in its ``info``."""

    @property
    def state(self) -> str: ...
    @property
    def pool_user(self) -> str:
        """The user whose pool it is a client of."""

    @property
    def held(self) -> tuple[int, int]:
        """How many statements with a name it holds, and how many without."""


class PeerSettings(Protocol):
    """Where another pooler is; see ``config.peers.Peer``."""

    @property
    def host(self) -> str: ...
    @property
    def port(self) -> int: ...
    @property
    def pool_size(self) -> int: ...


class PeerView(Protocol):
    """Another pooler, and the cancel requests on their way to it; see ``peers.Peer``."""

    @property
    def id(self) -> int: ...
    @property
    def settings(self) -> PeerSettings: ...
    @property
    def waiting(self) -> int: ...
    @property
    def connecting(self) -> int: ...
    @property
    def active(self) -> int: ...


class Operations(Protocol):
    """What the console does to pools and clients; see ``operations.Operations``. A target is (database, user).

    ``look_interval``: seconds between two looks at what a command waits for. Of several processes, each call may
    switch, and raises NotEverywhere when one of them has not done it.
    """

    @property
    def look_interval(self) -> float: ...
    def knows(self, target: Target) -> bool: ...
    def pause(self, target: Target) -> None: ...
    def is_paused(self, target: Target) -> bool: ...
    def resume(self, target: Target) -> bool: ...
    def unpause(self, target: Target) -> None: ...
    def disable(self, target: Target) -> None: ...
    def enable(self, target: Target) -> bool: ...
    def reconnect(self, target: Target) -> None: ...
    def open_servers(self, target: Target) -> int: ...
    def condemned_servers(self, target: Target) -> int: ...
    def kill(self, target: Target) -> None: ...
    def fail_waiters(self, error: DoormanError) -> None: ...
    def clients(self, target: Target) -> Sequence[object]: ...
    def kill_client(self, number: int) -> bool: ...


class Cancellable(Protocol):
    """Who stops waiting once ``cancelled`` is set; ``user`` is the one logged in."""

    user: str
    cancelled: bool


class WorkerView(NamedTuple):
    """One process of the pooler that serves clients; ``missing`` is why nothing is known of it, else empty.

    ``resident``: bytes in memory; ``started_at``: monotonic seconds.
    """

    number: int
    pid: int
    clients: int
    servers: int
    resident: int
    started_at: float
    missing: str


class LookupView(NamedTuple):
    """The auth_query of the pool ``database``: ``entries`` are the names that are known, there or not.

    ``counted``: see ``auth.lookup.LookupStats.NAMES``; ``users``: (database, user) of the pools that users who were
    found have to themselves; ``made`` and ``dropped``: how many such pools there have been, of each process.
    """

    database: str
    entries: int
    counted: tuple[int, ...]
    made: int
    dropped: int
    users: frozenset[tuple[str, str]]


class RunningPooler(Protocol):
    """The pooler, as the console sees it.

    Where it is several processes, this is one of them, and ``everyone`` is all: whoever tells of the pooler asks for
    that first, and says which ``parts`` of it (``together.kinds``) he will look at. It may switch, returns within
    seconds; ``missing`` has those that have not told of themselves by then, and why. In one process it is this one.

    ``build`` has the texts ``version``, ``build`` and ``engine``; ``memory()`` returns rows (name, size of one, used,
    free, bytes in all); ``set_log_level`` raises ValueError for a text it can't read. ``reload`` returns what there is
    to tell of it, ``set_key`` and ``reset_key`` what holds then; all three raise ConfigError. ``shutdown`` knows the
    modes of ``shutdown.MODES``.
    """

    def everyone(self, parts: Collection[str] = ...) -> RunningPooler: ...
    @property
    def several(self) -> bool:
        """Whether there is more than one process."""

    @property
    def missing(self) -> Mapping[int, str]: ...
    @property
    def workers(self) -> Sequence[WorkerView]:
        """The processes, by number."""

    @property
    def pools(self) -> Iterable[PoolView]: ...
    @property
    def unpooled(self) -> Iterable[ServerView]:
        """Servers that are in no pool, each of one replication client."""

    @property
    def clients(self) -> Iterable[ClientView]: ...
    @property
    def consoles(self) -> Consoles: ...
    @property
    def peers(self) -> Iterable[PeerView]: ...
    @property
    def lookups(self) -> Iterable[LookupView]:
        """What there is of each auth_query."""

    @property
    def hosts(self) -> Iterable[HostView]:
        """The addresses where servers were opened, or were tried to be."""

    @property
    def fallbacks(self) -> Iterable[FallbackView]:
        """The pools that have a Patroni cluster to fall back on."""

    @property
    def coordinators(self) -> Iterable[CoordinatorView]: ...
    @property
    def login_count(self) -> int: ...
    @property
    def config(self) -> Config: ...
    @property
    def build(self) -> Mapping[str, str]: ...
    @property
    def averages(self) -> AveragesView: ...
    @property
    def connections(self) -> ConnectionStats: ...
    @property
    def openings(self) -> OpeningStats: ...
    @property
    def draining(self) -> int:
        """Not 0: nobody new comes in."""

    @property
    def log_level(self) -> str: ...
    def now(self) -> float: ...
    def memory(self) -> Iterable[tuple[str, int, int, int, int]]: ...
    def resident(self) -> int:
        """Bytes in memory."""

    def sockets(self) -> Mapping[str, Sequence[int]]:
        """The inodes of its sockets by kind and state; may switch. UnsupportedFeature where that can't be known."""

    @property
    def operations(self) -> Operations: ...
    @property
    def cancellable(self) -> dict[tuple[int, bytes], Cancellable]:
        """The console's sessions with a command that waits, by their cancel keys."""

    def cancel_commands(self, number: int, user: str | None) -> Sequence[str]:
        """Cancel what console sessions of this number wait for, of ``user`` alone if given; the users of all found."""

    def reload(self) -> Sequence[str]: ...
    def set_key(self, section: str, name: str, raw: object) -> str: ...
    def reset_key(self, section: str, name: str) -> str: ...
    def shutdown(self, mode: str = ...) -> None: ...
    def upgrade(self) -> None:
        """Returns when another process is the pooler; DoormanError when that can't be."""

    def set_log_level(self, text: str) -> None: ...


class TableColumn(Protocol):
    """A column of a table that the console shows."""

    @property
    def name(self) -> str: ...


class Table(Protocol):
    """A table that the console shows: ``rows(pooler)`` has a value for each of ``described(pooler)`` in each row.

    ``parts`` of the pooler are looked at for that.
    """

    def described(self, pooler: RunningPooler) -> Sequence[TableColumn]: ...
    @property
    def parts(self) -> Collection[str]: ...
    @property
    def rows(self) -> Callable[[RunningPooler], Sequence[Sequence[object]]]: ...


class MetricsPage(Protocol):
    """A page of text in UTF-8; its length is in bytes."""

    @property
    def pieces(self) -> Sequence[bytes]: ...
    def __len__(self) -> int: ...


def sorted_pools(pooler: RunningPooler) -> list[PoolView]:
    """All pools, by database and user."""
    return sorted(pooler.pools, key=lambda pool: (pool.settings.database, pool.settings.user))
