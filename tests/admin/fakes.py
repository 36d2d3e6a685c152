"""A pooler made of plain values, and a stream that is two byte strings, for the console's tests."""

from __future__ import annotations

import struct
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from pgdoorman_lib.admin.consoles import Consoles
from pgdoorman_lib.client.info import ClientInfo
from pgdoorman_lib.config.model import Config, General
from pgdoorman_lib.config.model import Peer as PeerConfig
from pgdoorman_lib.config.model import Pool as PoolConfig
from pgdoorman_lib.errors import DoormanError, PeerGone, ProtocolViolation
from pgdoorman_lib.fallback import FallbackView
from pgdoorman_lib.metrics.averages import Averages
from pgdoorman_lib.metrics.counters import ConnectionStats, Histogram, LinkStats, OpeningStats, PoolStats
from pgdoorman_lib.pool.holding import Target, take_back
from pgdoorman_lib.pool.terms import CoordinatorView
from pgdoorman_lib.server.hosts import HostView
from pgdoorman_lib.views import LookupView, WorkerView
from pgdoorman_lib.wire.prepared import ClientStatements
from pgdoorman_lib.wire.statements import Registry


@dataclass
class FakeSettings:
    database: str = "exampledb"
    user: str = "doorman"
    pool_mode: str = "transaction"
    pool_size: int = 10
    min_pool_size: int = 2
    server_host: str = "db.internal"
    server_port: int = 5432
    server_database: str = "real"
    server_username: str = "owner"
    server_lifetime: float = 1200.0
    server_idle_check_timeout: float = 60.0
    startup_parameters: tuple[tuple[str, str], ...] = (("work_mem", "8MB"),)


@dataclass
class FakeSocket:
    def getsockname(self) -> tuple[str, int]:
        return "127.0.0.1", 6432

    def getsockopt(self, level: int, option: int, size: int) -> bytes:
        assert size == 12
        return struct.pack("3i", 4242, 0, 0)


@dataclass
class FakeBuffers:
    """What the tables look at of a Stream."""

    peer_host: str = "127.0.0.1"
    peer_port: int = 5555
    is_unix: bool = False
    tls: Any = None
    blocked: bool = False
    sock: FakeSocket = field(default_factory=FakeSocket)
    start: int = 0
    end: int = 0
    out_start: int = 0
    out_pending: int = 0

    @property
    def peer(self) -> str:
        return f"{self.peer_host}:{self.peer_port}"


@dataclass
class FakeServer:
    id: int = 7
    pid: int = 4711
    settings: FakeSettings = field(default_factory=FakeSettings)
    tls: bool = True
    state: str = "active"
    wait: str = "read"
    stats: LinkStats = field(default_factory=LinkStats)
    created_at: float = 940.0
    active_since: float = 998.5
    idle_since: float = 999.0
    cancels: int = 0
    stream: FakeBuffers = field(default_factory=FakeBuffers)
    prepared_count: int = 3
    pinned: str = "listen"
    application_name: str = "app"
    worker: int = 0


@dataclass
class FakePool:
    settings: FakeSettings = field(default_factory=FakeSettings)
    paused: bool = False
    disabled: bool = False
    idle_count: int = 4
    borrowed_count: int = 2
    opening_count: int = 1
    waiting_count: int = 1
    opened_count: int = 9
    servers: list[FakeServer] = field(default_factory=lambda: [FakeServer()])
    stats: PoolStats = field(default_factory=PoolStats)
    registry: Registry = field(default_factory=lambda: Registry(100))

    def max_wait(self, now: float) -> float:
        return 2.25


@dataclass
class FakeClient:
    id: int = 12
    user: str = "doorman"
    database: str = "exampledb"
    application_name: str = "psql"
    peer: str = "127.0.0.1:5555"
    tls: bool = False
    state: str = "idle"
    wait: str = "idle"
    stats: LinkStats = field(default_factory=LinkStats)
    connected_at: float = 900.0
    pinned: str = "listen"
    stream: FakeBuffers = field(default_factory=FakeBuffers)
    server: int = 0
    statements: ClientStatements | None = field(default_factory=ClientStatements)
    waiting_since: float = 0.0
    asked_at: float = 990.0
    replication: str = "none"
    held: tuple[int, int] = (0, 0)
    pool_user: str = ""
    worker: int = 0

    def __post_init__(self) -> None:
        self.pool_user = self.pool_user or self.user

    def info(self) -> ClientInfo:
        return ClientInfo(*(getattr(self, name) for name in ClientInfo._fields))


class FakeOperations:
    """Pools ``exampledb`` and one user; ``open`` and ``condemned`` servers go one by one, each time they are counted."""

    look_interval = 0.001

    def __init__(self, pooler: FakePooler) -> None:
        self.pooler = pooler
        self.paused: set[Target] = set()
        self.open = 2
        self.condemned = 2

    def knows(self, target: Target) -> bool:
        return target.covers("exampledb", "doorman") or target == Target("exampledb", "doorman")

    def pause(self, target: Target) -> None:
        self.pooler._do(f"pause {target.database} {target.user}")
        self.paused.add(target)

    def is_paused(self, target: Target) -> bool:
        return any(order.covers(*target) for order in self.paused)

    def resume(self, target: Target) -> bool:
        self.pooler._do(f"resume {target.database} {target.user}")
        return take_back(self.paused, target)

    def disable(self, target: Target) -> None:
        self.pooler._do(f"disable {target.database} {target.user}")

    def enable(self, target: Target) -> bool:
        self.pooler._do(f"enable {target.database} {target.user}")
        return False

    def reconnect(self, target: Target) -> None:
        self.pooler._do(f"reconnect {target.database} {target.user}")

    def open_servers(self, target: Target) -> int:
        self.open = max(0, self.open - 1)
        return self.open

    def condemned_servers(self, target: Target) -> int:
        self.condemned = max(0, self.condemned - 1)
        return self.condemned

    def kill(self, target: Target) -> None:
        self.pooler._do(f"kill {target.database} {target.user}")

    def fail_waiters(self, error: DoormanError) -> None:
        self.pooler._do(f"fail {error.sqlstate}")

    def clients(self, target: Target) -> list[object]:
        return []

    def kill_client(self, number: int) -> bool:
        self.pooler._do(f"kill_client {number}")
        return number == 12


@dataclass
class FakePeer:
    id: int
    settings: PeerConfig
    waiting: int = 0
    connecting: int = 0
    active: int = 0


class FakePooler:
    """The pooler the console looks at; ``done`` records what it was told to do, ``failure`` is raised by it."""

    def __init__(self) -> None:
        self.clock = 1000.0
        self.pools = [FakePool()]
        self.unpooled: list[FakeServer] = []
        self.clients = [FakeClient(), FakeClient(id=13, state="active"), FakeClient(id=14, state="waiting")]
        general = General(
            admin_username="admin", admin_password="top secret", startup_parameters=(("work_mem", "8MB"),)
        )
        self.config = Config(general=general, pools={"exampledb": PoolConfig()})
        self.build = {"version": "0.1.0", "build": "interpreted", "engine": "gevent"}
        self.averages = Averages(lambda: self.pools, self.now)
        self.connections = ConnectionStats()
        self.openings = OpeningStats()
        self.consoles = Consoles()
        self.peers = [
            FakePeer(2, PeerConfig(host="10.0.0.2", port=6432, pool_size=7), waiting=1, connecting=2, active=4)
        ]
        self.lookups = [LookupView("exampledb", 3, (8, 7, 6, 5, 4, 3, 2, 1), 2, 1, frozenset({("exampledb", "bob")}))]
        self.fallbacks = [FallbackView("exampledb", (("10.0.0.9", 5432),), (4, 1, 3, 2), {"connect": 1}, Histogram())]
        self.hosts = [
            HostView(0, "db", 5432, "10.0.0.1", "open", "primary", 3, 2.5, "could not connect", 0),
            HostView(0, "db", 5432, "10.0.0.2", "closed", "standby", 0, 0.0, "", 4),
        ]
        self.coordinators = [CoordinatorView("exampledb", 10, 3, 12, 5, 4, 1)]
        self.login_count = 0
        self.log_level = "info"
        self.done: list[str] = []
        self.told: list[str] = []
        self.operations = FakeOperations(self)
        self.cancellable: dict[tuple[int, bytes], Any] = {}
        self.failure: Exception | None = None
        self.several = False
        self.missing: dict[int, str] = {}
        self.inodes: dict[str, list[int]] = {"tcp_listen": [1], "tcp_established": [2, 3]}
        self.draining = 0

    def everyone(self, parts: Collection[str] = ()) -> FakePooler:
        return self

    @property
    def workers(self) -> list[WorkerView]:
        return [WorkerView(1, 4711, len(self.clients), 3, 1 << 20, 900.0, "")]

    def resident(self) -> int:
        return 1 << 20

    def sockets(self) -> dict[str, list[int]]:
        return self.inodes

    def cancel_commands(self, number: int, user: str | None) -> list[str]:
        found = [command for (process, _), command in self.cancellable.items() if process == number]
        for command in found:
            if user in (None, command.user):
                command.cancelled = True
        return [command.user for command in found]

    def now(self) -> float:
        return self.clock

    def memory(self) -> list[tuple[str, int, int, int, int]]:
        return [("buffers", 16384, 3, 5, 131072)]

    def reload(self) -> list[str]:
        self._do("reload")
        return self.told

    def set_key(self, section: str, name: str, raw: object) -> str:
        self._do(f"set {section}.{name} {raw!r}")
        return f"{name} is {raw}"

    def reset_key(self, section: str, name: str) -> str:
        self._do(f"reset {section}.{name}")
        return f"{name} is reset"

    def shutdown(self, mode: str = "drain") -> None:
        self._do(f"shutdown {mode}")

    def set_log_level(self, text: str) -> None:
        self._do(f"log_level {text}")

    def _do(self, what: str) -> None:
        if self.failure is not None:
            raise self.failure
        self.done.append(what)


class FakeStream(FakeBuffers):
    """A client that sent ``incoming`` and closed; what it was sent is ``outgoing``."""

    def __init__(self, incoming: bytes = b"") -> None:
        super().__init__()
        self.incoming = incoming
        self.outgoing = b""
        self.flushed = 0
        self.readable = self.eof = self.hangup = False

    def fill(self) -> int:
        return 0

    def read_message(self, max_length: int = 1 << 20) -> tuple[int, bytes]:
        if not self.incoming:
            raise PeerGone("the client closed the connection")
        kind, length = struct.unpack("!Bi", self.incoming[:5])
        if not 4 <= length <= max_length:
            raise ProtocolViolation("invalid message length")
        body, self.incoming = self.incoming[5 : 1 + length], self.incoming[1 + length :]
        return kind, body

    def write(self, data: bytes) -> None:
        self.outgoing += data

    def flush(self) -> None:
        self.flushed = len(self.outgoing)


def message(kind: str, body: bytes = b"") -> bytes:
    return kind.encode() + struct.pack("!i", 4 + len(body)) + body


def query(sql: str) -> bytes:
    return message("Q", sql.encode() + b"\0")


def parse(sql: str, name: str = "") -> bytes:
    return message("P", name.encode() + b"\0" + sql.encode() + b"\0\0\0")


def bind(name: str = "", portal: str = "", formats: tuple[int, ...] = (), parameters: tuple[bytes, ...] = ()) -> bytes:
    body = portal.encode() + b"\0" + name.encode() + b"\0\0\0" + struct.pack("!h", len(parameters))
    for value in parameters:
        body += struct.pack("!i", len(value)) + value
    return message("B", body + struct.pack(f"!h{len(formats)}h", len(formats), *formats))


def describe(kind: str, name: str = "") -> bytes:
    return message("D", kind.encode() + name.encode() + b"\0")


def close(kind: str, name: str = "") -> bytes:
    return message("C", kind.encode() + name.encode() + b"\0")


def execute(portal: str = "", max_rows: int = 0) -> bytes:
    return message("E", portal.encode() + b"\0" + struct.pack("!i", max_rows))


SYNC = message("S")
FLUSH = message("H")
TERMINATE = message("X")


@dataclass
class Answer:
    """One backend message: its type letter and what the tests look at of its body."""

    kind: str
    value: Any = None


def answers(data: bytes) -> list[Answer]:
    """Split what the console sent; fails on anything that is not whole messages."""
    found = []
    while data:
        kind, length = struct.unpack("!Bi", data[:5])
        assert 4 <= length < len(data), "a message is cut short"
        found.append(_answer(chr(kind), data[5 : 1 + length]))
        data = data[1 + length :]
    return found


def _answer(kind: str, body: bytes) -> Answer:
    if kind == "T":
        (count,) = struct.unpack("!h", body[:2])
        described, at = [], 2
        for _ in range(count):
            end = body.index(b"\0", at)
            _, _, oid, size, _, code = struct.unpack("!ihihih", body[end + 1 : end + 19])
            described.append((body[at:end].decode(), oid, size, code))
            at = end + 19
        assert at == len(body)
        return Answer(kind, described)
    if kind == "D":
        (count,) = struct.unpack("!h", body[:2])
        row: list[bytes | None] = []
        at = 2
        for _ in range(count):
            (length,) = struct.unpack("!i", body[at : at + 4])
            row.append(None if length < 0 else body[at + 4 : at + 4 + length])
            at += 4 + max(0, length)
        assert at == len(body)
        return Answer(kind, row)
    if kind in "EN":
        fields = body.rstrip(b"\0").split(b"\0")
        return Answer(kind, {field[:1].decode(): field[1:].decode() for field in fields})
    if kind == "S":
        return Answer(kind, tuple(part.decode() for part in body.split(b"\0")[:2]))
    if kind == "C":
        return Answer(kind, body[:-1].decode())
    if kind == "Z":
        return Answer(kind, body.decode())
    return Answer(kind, body)
