"""The seams between the layers, each once: what one part needs of another that it must not know.

Whoever is handed in (by ``app``, or by a test) has these attributes; nothing derives from them, and nothing here runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    import ssl

    from pgdoorman_lib.admin.consoles import Consoles
    from pgdoorman_lib.client.info import ClientInfo
    from pgdoorman_lib.client.login_cache import LoginCache
    from pgdoorman_lib.config.model import Config
    from pgdoorman_lib.errors import DoormanError
    from pgdoorman_lib.metrics.averages import Averages
    from pgdoorman_lib.metrics.counters import ConnectionStats, LinkStats, OpeningStats, PoolStats
    from pgdoorman_lib.net.stream import Stream
    from pgdoorman_lib.pool.holding import Target
    from pgdoorman_lib.wire.statements import Registry

# Sockets and TLS (net).


class SocketSettings(Protocol):
    """What ``SocketOptions.of`` reads; ``[general]`` and a pool's settings both have it. Seconds and bytes."""

    @property
    def tcp_keepalives_idle(self) -> float: ...
    @property
    def tcp_keepalives_interval(self) -> float: ...
    @property
    def tcp_keepalives_count(self) -> int: ...
    @property
    def tcp_so_linger(self) -> float: ...
    @property
    def tcp_no_delay(self) -> bool: ...
    @property
    def tcp_user_timeout(self) -> float: ...
    @property
    def tcp_socket_buffer_size(self) -> int: ...
    @property
    def unix_socket_buffer_size(self) -> int: ...


class ClientTlsSettings(Protocol):
    """The part of ``[general]`` that says how clients are met."""

    @property
    def tls_mode(self) -> str: ...
    @property
    def tls_certificate(self) -> str | None: ...
    @property
    def tls_private_key(self) -> str | None: ...
    @property
    def tls_ca_cert(self) -> str | None: ...


class ServerTlsSettings(Protocol):
    """The part of a pool's settings that says how its servers are met."""

    @property
    def server_tls_mode(self) -> str: ...
    @property
    def server_tls_ca_cert(self) -> str | None: ...
    @property
    def server_tls_certificate(self) -> str | None: ...
    @property
    def server_tls_private_key(self) -> str | None: ...


# Whom a line of the log is about (log).


class OfPool(Protocol):
    """A pool's settings, or a session: both say whose they are."""

    @property
    def user(self) -> str: ...
    @property
    def database(self) -> str: ...


# Servers (server).


class ServerAddress(SocketSettings, ServerTlsSettings, Protocol):
    """The part of a pool's settings that says where its servers are and how they are reached."""

    @property
    def server_host(self) -> str: ...
    @property
    def server_port(self) -> int: ...


class ServerLoginSettings(ServerAddress, Protocol):
    """The part of a pool's settings that a login needs."""

    @property
    def server_database(self) -> str: ...
    @property
    def application_name(self) -> str: ...
    @property
    def startup_parameters(self) -> tuple[tuple[str, str], ...]: ...
    @property
    def connect_timeout(self) -> float: ...


# Who may come in (auth, client).


class Account(Protocol):
    """A configured user."""

    @property
    def username(self) -> str: ...
    @property
    def password(self) -> str: ...


AccountT_co = TypeVar("AccountT_co", bound=Account, covariant=True)


class Accounts(Protocol[AccountT_co]):
    """A pool with its users."""

    @property
    def users(self) -> Sequence[AccountT_co]: ...


class HbaText(Protocol):
    """A text of rules, and its ``name`` for messages."""

    @property
    def name(self) -> str: ...
    @property
    def text(self) -> str: ...


class AccessRules(Protocol):
    """What decides about a connection before it authenticates."""

    def admit(
        self, *, is_unix: bool, tls: bool, address: str, database: str, user: str, physical: bool = False
    ) -> str | None:
        """One of METHODS but ``reject``, or None: the method that the user's secret asks for.

        ``address`` is numeric, empty on a unix socket; ``physical``: it is for physical replication, which has no
        database. NotPermitted when the connection is refused.
        """


class ClientLoginSettings(Protocol):
    """The part of ``[general]`` that a login needs, as it is at the moment."""

    @property
    def tls_mode(self) -> str: ...
    @property
    def admin_username(self) -> str: ...
    @property
    def admin_password(self) -> str: ...


class Guest(Protocol):
    """Whose login it is."""

    def asks(self, user: str, database: str) -> None:
        """A client wants to be ``user`` of ``database``; nothing is proven yet."""

    def admit(self, console: bool) -> None:
        """Count it; TooManyClients, ShuttingDown."""


class LoginPolicy(Protocol):
    """What a login is told about this pooler."""

    @property
    def general(self) -> ClientLoginSettings: ...
    @property
    def tls_context(self) -> ssl.SSLContext | None:
        """None: TLS is not offered."""

    @property
    def hba(self) -> AccessRules: ...
    @property
    def cache(self) -> LoginCache:
        """The logins known under this configuration."""

    @property
    def mock_secret(self) -> bytes:
        """Bytes that nobody outside knows: from them come salts, see ``auth.mock``."""

    def find_user(self, database: str, user: str) -> Account | None: ...
    def database_of(self, user: str) -> str | None:
        """A pool that has this user, None when there is none."""

    def stand_in(self, user: str) -> str:
        """The secret that a login goes by when there is no such user; see ``auth.verify.Users``."""

    def is_admin_database(self, name: str) -> bool: ...
    def console_secret(self, user: str) -> str | None:
        """The secret of a user of the console, None for who is none."""


class HasDeadline(Protocol):
    """Who can be late, or one too many."""

    @property
    def address(self) -> str:
        """Where it comes from: a numeric address, empty for a unix socket."""

    def too_late(self) -> None:
        """The time is over; called in the hub, may switch to a greenlet."""


# What is shown (metrics, admin).


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
    def registry(self) -> Registry: ...
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
    def held(self) -> tuple[int, int]:
        """How many statements with a name it holds, and how many without."""


class Operations(Protocol):
    """What the console does to pools and clients; see ``operations.Operations``. A target is (database, user)."""

    def knows(self, target: Target) -> bool: ...
    def pause(self, target: Target) -> None: ...
    def is_paused(self, target: Target) -> bool: ...
    def resume(self, target: Target) -> bool: ...
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
    """Who stops waiting once ``cancelled`` is set."""

    cancelled: bool


class RunningPooler(Protocol):
    """The pooler, as the console sees it.

    ``build`` has the texts ``version``, ``build`` and ``engine``; ``memory()`` returns rows (name, size of one, used,
    free, bytes in all); ``set_log_level`` raises ValueError for a text it can't read. ``reload`` returns what there is
    to tell of it, ``set_key`` and ``reset_key`` what holds then; all three raise ConfigError. ``shutdown`` knows the
    modes of ``shutdown.MODES``.
    """

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
    def login_count(self) -> int: ...
    @property
    def config(self) -> Config: ...
    @property
    def build(self) -> Mapping[str, str]: ...
    @property
    def averages(self) -> Averages: ...
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
    @property
    def operations(self) -> Operations: ...
    @property
    def cancellable(self) -> dict[tuple[int, bytes], Cancellable]:
        """The console's sessions with a command that waits, by their cancel keys."""

    def reload(self) -> Sequence[str]: ...
    def set_key(self, section: str, name: str, raw: object) -> str: ...
    def reset_key(self, section: str, name: str) -> str: ...
    def shutdown(self, mode: str = ...) -> None: ...
    def set_log_level(self, text: str) -> None: ...


class TableColumn(Protocol):
    """A column of a table that the console shows."""

    @property
    def name(self) -> str: ...


class Table(Protocol):
    """A table that the console shows: ``rows(pooler)`` has a value for each of ``columns`` in each row."""

    @property
    def columns(self) -> Sequence[TableColumn]: ...
    @property
    def rows(self) -> Callable[[RunningPooler], Sequence[Sequence[object]]]: ...


class MetricsPage(Protocol):
    """A page of text in UTF-8; its length is in bytes."""

    @property
    def pieces(self) -> Sequence[bytes]: ...
    def __len__(self) -> int: ...
