"""What another process has told of, each as the tables take it: settings, servers, clients, shared statements.

Clients of which only the number was told are stood for by one, as often as there are such.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import repeat
from typing import Any, NamedTuple, NoReturn

from pgdoorman_lib.client.info import ClientInfo
from pgdoorman_lib.metrics.counters import LinkStats
from pgdoorman_lib.together import kinds
from pgdoorman_lib.together.counted import unpack_link
from pgdoorman_lib.together.streams import PackedStream
from pgdoorman_lib.together.telling import SETTINGS
from pgdoorman_lib.wire.statements import Unnamed

#: One row of what was told, by the names of its columns.
Told = Mapping[str, Any]

_NOWHERE = PackedStream([False, "", 0, None, None, None, 0, 0, 0, 0])


class NotAsked(AssertionError):
    """A table looks at what it has not asked the other processes for: a fault of ours."""


class PackedSettings(NamedTuple):
    """As views.SettingsView."""

    database: str
    user: str
    pool_mode: str
    pool_size: int
    min_pool_size: int
    server_host: str
    server_port: int
    server_database: str
    server_username: str
    server_lifetime: float
    server_idle_check_timeout: float
    startup_parameters: tuple[tuple[str, str], ...]


def unpack_settings(packed: list[Any]) -> PackedSettings:
    """What ``telling.pack_settings`` has packed."""
    *values, parameters = packed[: len(SETTINGS)]
    return PackedSettings._make([*values, tuple((name, value) for name, value in parameters)])


class PackedServer:
    """As views.ServerView; ``worker`` is whose it is."""

    __slots__ = (
        *("active_since", "application_name", "cancels", "created_at", "id", "idle_since", "pid", "pinned"),
        *("prepared_count", "settings", "state", "stats", "tls", "wait", "worker", "_stream"),
    )

    def __init__(self, told: Told, settings: Any, worker: int) -> None:
        self.worker = worker
        self.settings = settings
        self.id: int = told["id"]
        self.pid: int = told["pid"]
        self.tls: bool = told["tls"]
        self.state: str = told["state"]
        self.wait: str = told["wait"]
        self.stats: LinkStats = unpack_link(told["stats"])
        self.created_at: float = told["created_at"]
        self.active_since: float = told["active_since"]
        self.idle_since: float = told["idle_since"]
        self.cancels: int = told["cancels"]
        self.prepared_count: int = told["prepared_count"]
        self.pinned: str = told["pinned"]
        self.application_name: str = told["application_name"]
        self._stream = told["stream"]

    @property
    def stream(self) -> Any:
        """Its connection."""
        if self._stream is None:
            raise NotAsked("streams of servers")
        return PackedStream(self._stream)


class _Names:
    """The names of a client's statements, of which only number and size are known."""

    __slots__ = ("_number", "_size")

    def __init__(self, number: int, size: int) -> None:
        self._number = number
        self._size = size

    def __len__(self) -> int:
        return self._number

    def values(self) -> Iterator[Any]:
        """Something with the size of them all."""
        yield PackedHandle(0, 0, self._size)


class PackedHandle:
    """As ``wire.statements.Handle``, and ``handle`` of what has one."""

    __slots__ = ("line", "size", "users")

    def __init__(self, line: int, users: int, size: int) -> None:
        self.line = line
        self.users = users
        self.size = size

    @property
    def handle(self) -> PackedHandle:
        """Itself."""
        return self


class PackedStatements:
    """As ``wire.prepared.ClientStatements``, as far as tables look; the unnamed one's bytes are among ``size``."""

    __slots__ = ("names", "unnamed")

    def __init__(self, named: int, unnamed: int = 0, size: int = 0) -> None:
        self.names = _Names(named, size)
        self.unnamed = Unnamed(b"") if unnamed else None


class PackedClient:
    """As views.ClientView; ``worker`` is whose it is."""

    __slots__ = ("_told", "database", "held", "pool_user", "state", "user", "worker")

    def __init__(self, told: Told, worker: int) -> None:
        self._told = told
        self.worker = worker
        self.user: str = told["user"]
        self.database: str = told["database"]
        self.state: str = told["state"]
        self.pool_user: str = told.get("pool_user", told["user"])
        self.held = told["named"] or 0, 0

    def info(self) -> ClientInfo:
        """What the tables tell of it."""
        told = self._told
        named = told["named"]
        statements: Any = None if named is None else PackedStatements(named)
        stream: Any = _NOWHERE if told["stream"] is None else PackedStream(told["stream"])
        return ClientInfo(
            told["id"],
            self.user,
            self.database,
            told["application_name"],
            told["peer"],
            told["tls"],
            self.state,
            told["wait"],
            unpack_link(told["stats"]),
            told["connected_at"],
            told["pinned"],
            stream,
            told["server"],
            statements,
            told["waiting_since"],
            told["asked_at"],
            told["replication"],
            self.pool_user,
            self.worker,
        )


class StandIn:
    """One client that stands for others: nothing is known of it but what it is, and what it or all of them hold."""

    __slots__ = ("_info", "database", "held", "pool_user", "state", "user")

    def __init__(self, told: Told, named: int, unnamed: int, size: int) -> None:
        self.user: str = told["user"]
        self.database: str = told["database"]
        self.state: str = told["state"]
        self.pool_user: str = told.get("pool_user", told["user"])
        self.held = named, unnamed
        statements: Any = PackedStatements(named, unnamed, size)
        self._info = ClientInfo(
            *(0, self.user, self.database, "", "", False, self.state, "idle", LinkStats(), 0.0, "", _NOWHERE, 0),  # type: ignore[arg-type]
            *(statements, 0.0, 0.0, "none", self.pool_user),
        )

    def info(self) -> ClientInfo:
        """What is known of it."""
        return self._info


def stand_ins(told: Told) -> Iterator[StandIn]:
    """As many clients as were counted: the first holds all named statements, and the bytes of all."""
    number, unnamed = told["number"], told["unnamed"]
    if number:
        yield StandIn(told, told["named"], min(1, unnamed), told["size"])
        yield from repeat(StandIn(told, 0, 1, 0), max(0, unnamed - 1))
        yield from repeat(StandIn(told, 0, 0, 0), number - max(1, unnamed))


class PackedStatement:
    """As ``wire.statements.Statement``, one for all processes that share it."""

    __slots__ = ("_text", "analysed_at", "handle", "name")

    def __init__(self, told: Told) -> None:
        self.name: bytes = told["name"]
        self._text: bytes = told["text"]
        self.analysed_at: float = told["analysed_at"]
        self.handle = PackedHandle(told["line"], told["users"], told["size"])

    def sql(self) -> bytes:
        """Its text."""
        return self._text

    def join(self, other: PackedStatement) -> None:
        """The same statement in another process; the version that was analysed last has the name."""
        self.handle.users += other.handle.users
        if other.analysed_at > self.analysed_at:
            self.name, self.analysed_at = other.name, other.analysed_at


class JoinedRegistry:
    """As ``wire.statements.Registry``. What each process holds counts; the statements themselves are there once."""

    __slots__ = ("_number", "_statements", "bytes")

    def __init__(self) -> None:
        self.bytes = 0
        self._number = 0
        self._statements: dict[int, PackedStatement] | None = None

    def count(self, number: int, size: int) -> None:
        """One process holds so many, of so many bytes."""
        self._number += number
        self.bytes += size

    def list(self) -> None:
        """The statements themselves are told."""
        self._statements = {}

    def add(self, statement: PackedStatement) -> None:
        """One process has this statement."""
        assert self._statements is not None, "they are listed"
        known = self._statements.setdefault(statement.handle.line, statement)
        if known is not statement:
            known.join(statement)

    @property
    def known(self) -> Any:
        """The statements, or at least how many there are."""
        return _Unlisted(self._number) if self._statements is None else self._statements


class _Unlisted:
    """Statements of which only the number was asked for."""

    __slots__ = ("_number",)

    def __init__(self, number: int) -> None:
        self._number = number

    def __len__(self) -> int:
        return self._number

    def values(self) -> NoReturn:
        """Nobody has asked for them."""
        raise NotAsked(kinds.STATEMENTS)
