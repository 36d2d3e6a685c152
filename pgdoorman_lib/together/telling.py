"""What a process tells of itself: rows of plain values by part (``kinds``), packed in portions.

Rules:
1. A portion is packed in a millisecond or two, and others run between two of them.
2. An answer holds about ANSWER_BYTES; what is left is made when it is asked for (``more``), from those there were when
   the question came, and forgotten when nobody asks for it.
3. Each part's columns are named in the answer: a process of another version passes over those it does not know.
"""

from __future__ import annotations

import os
from array import array
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from pgdoorman_lib.client.info import ClientInfo
from pgdoorman_lib.fallback import FallbackView
from pgdoorman_lib.metrics.counters import PoolStats
from pgdoorman_lib.metrics.pacing import Pace
from pgdoorman_lib.net.packing import pack
from pgdoorman_lib.pool.terms import CoordinatorView
from pgdoorman_lib.server.hosts import HostView
from pgdoorman_lib.together import kinds
from pgdoorman_lib.together.counted import pack_coarse, pack_counts, pack_link, pack_stats, pack_whole
from pgdoorman_lib.together.streams import pack_stream
from pgdoorman_lib.views import PoolView, RunningPooler, ServerView, SettingsView
from pgdoorman_lib.wire.handover import Plain
from pgdoorman_lib.wire.prepared import ClientStatements

#: Rows in a portion, and bytes of large ones that end it early.
ROWS = 50
PORTION_BYTES = 1 << 16
#: Bytes of portions in one answer: some thousand clients', and some tens of milliseconds' work.
ANSWER_BYTES = 1 << 18
#: Bytes of a shared statement's text that are told: an answer must fit into a parcel.
LONGEST_TEXT = 1 << 22
#: Questions of which the rest may be asked for; the oldest is forgotten for one more.
MOST_PENDING = 16
#: Letters of a token.
_TOKEN_BYTES = 8

SETTINGS = (
    *("database", "user", "pool_mode", "pool_size", "min_pool_size", "server_host", "server_port"),
    *("server_database", "server_username", "server_lifetime", "server_idle_check_timeout", "startup_parameters"),
)
COLUMNS: dict[str, tuple[str, ...]] = {
    kinds.POOLS: (
        *("settings", "paused", "disabled", "idle", "borrowed", "opening", "opened", "waiting", "max_wait"),
        *("known", "bytes"),
    ),
    kinds.STATS: ("database", "user", "life", "stats"),
    kinds.BUCKETS: ("database", "user", "life", "histograms"),
    kinds.PERIODS: ("database", "user", "elapsed", "counted"),
    kinds.LATENCIES: ("database", "user", "histograms"),
    kinds.SERVERS: (
        *("settings", "id", "pid", "tls", "state", "wait", "stats", "created_at", "active_since", "idle_since"),
        *("cancels", "prepared_count", "pinned", "application_name", "stream"),
    ),
    kinds.CLIENTS: (
        *("console", "id", "user", "database", "application_name", "peer", "tls", "state", "wait", "stats"),
        *("connected_at", "pinned", "server", "named", "waiting_since", "asked_at", "replication", "stream"),
        "pool_user",
    ),
    kinds.COUNTS: ("console", "database", "user", "state", "pool_user", "number", "named", "unnamed", "size"),
    kinds.STATEMENTS: ("database", "user", "line", "name", "text", "users", "size", "analysed_at"),
    kinds.PEERS: ("id", "waiting", "connecting", "active"),
    kinds.LOOKUPS: ("database", "entries", "counted", "made", "dropped", "users"),
    kinds.FALLBACKS: FallbackView._fields,
    kinds.HOSTS: HostView._fields[1:],
    kinds.COORDINATORS: CoordinatorView._fields,
    kinds.MEMORY: ("name", "size", "used", "free", "total"),
    kinds.PROCESS: ("pid", "resident", "started_at", "counts", "logins", "clients", "servers"),
    kinds.SOCKETS: ("state", "inodes"),
}
COLUMNS[kinds.UNPOOLED] = COLUMNS[kinds.SERVERS]
COLUMNS[kinds.LINKED] = COLUMNS[kinds.CLIENTS]

#: [part, its rows packed]
Portion = list[Any]
_Row = list[Any]
_PoolKey = tuple[str, str]


class Telling:
    """Tells of ``pooler``, this process's part: ``tell`` and ``more`` are handlers of those kinds."""

    def __init__(self, pooler: RunningPooler) -> None:
        self._pooler = pooler
        #: this process among all that ever had its number
        self.token = make_token()
        self._started_at = pooler.now()
        self._rests = Rests()
        self._lives: dict[_PoolKey, tuple[PoolStats, int]] = {}
        #: what was told last to who watches, and by which pools are known to have counted nothing since
        self._watch = ""
        self._marks: dict[int, tuple[PoolStats, tuple[int, ...]]] = {}

    def tell(self, question: Mapping[str, Any]) -> Plain:
        """The answer to TELL; may switch.

        Who watches has in ``watch``, by the process, the word of the last answer that he got whole, and is told only
        of pools that have counted anything since.
        """
        parts = [part for part in question["parts"] if part in COLUMNS]
        told: dict[str, Any] = {
            "process": self.token,
            "pid": os.getpid(),
            "columns": {part: list(COLUMNS[part]) for part in parts},
        }
        pools = list(self._pooler.pools)
        if "watch" in question:
            pools = self._changed(pools, question["watch"].get(self.token))
            told["watch"] = self._watch
        return told | self._rests.begin(portions(self.rows(question["parts"], pools)))

    def _changed(self, pools: list[PoolView], seen: str | None) -> list[PoolView]:
        """Those that have counted anything since the answer with the word ``seen``."""
        known = self._marks if seen == self._watch else {}
        self._watch = make_token()
        self._marks = {id(pool.stats): (pool.stats, _mark(pool.stats)) for pool in pools}
        return [pool for pool in pools if known.get(id(pool.stats)) != self._marks[id(pool.stats)]]

    def more(self, question: Mapping[str, Any]) -> Plain:
        """The answer to MORE; may switch. Empty when what is asked for is another process's."""
        return self._rests.go_on(question["rest"])

    def rows(self, parts: Collection[str], pools: Sequence[PoolView]) -> Iterator[tuple[str, _Row]]:
        """All rows of ``parts``: (part, values). Making them may switch."""
        pooler = self._pooler
        makers: dict[str, Callable[[], Iterable[_Row]]] = {
            kinds.PROCESS: lambda: [self._process()],
            kinds.POOLS: lambda: (_pool(pool, pooler.now()) for pool in pools),
            kinds.STATS: lambda: ([*self._life(pool), pack_stats(pool.stats)] for pool in pools),
            kinds.BUCKETS: lambda: ([*self._life(pool), _histograms(pool.stats)] for pool in pools),
            kinds.PERIODS: lambda: _periods(pooler, pools),
            kinds.LATENCIES: lambda: _latencies(pooler, pools),
            kinds.SERVERS: lambda: (
                _server(server, None, kinds.STREAMS in parts) for pool in pools for server in list(pool.servers)
            ),
            kinds.UNPOOLED: lambda: (
                _server(server, pack_settings(server.settings), kinds.STREAMS in parts)
                for server in list(pooler.unpooled)
            ),
            kinds.CLIENTS: lambda: _clients(pooler, kinds.STREAMS in parts),
            kinds.LINKED: lambda: _linked(pooler),
            kinds.COUNTS: lambda: _counts(pooler, kinds.SIZES in parts),
            kinds.STATEMENTS: lambda: _statements(pools),
            kinds.PEERS: lambda: ([peer.id, peer.waiting, peer.connecting, peer.active] for peer in pooler.peers),
            kinds.LOOKUPS: lambda: (
                [of.database, of.entries, list(of.counted), of.made, of.dropped, [list(user) for user in of.users]]
                for of in pooler.lookups
            ),
            kinds.FALLBACKS: lambda: map(_fallback, pooler.fallbacks),
            kinds.HOSTS: lambda: (list(host[1:]) for host in pooler.hosts),
            kinds.COORDINATORS: lambda: map(list, pooler.coordinators),
            kinds.MEMORY: lambda: map(list, pooler.memory()),
            kinds.SOCKETS: lambda: (
                [state, array("Q", inodes).tobytes()] for state, inodes in pooler.sockets().items()
            ),
        }
        for part, make in makers.items():
            if part in parts:
                for row in make():
                    yield part, row

    def _life(self, pool: PoolView) -> _Row:
        """Whose counters they are: a pool that was rebuilt counts anew, and is in its next life."""
        key = pool.settings.database, pool.settings.user
        stats, life = self._lives.get(key, (None, 0))
        if stats is not pool.stats:
            life += 1
            self._lives[key] = pool.stats, life
        return [*key, life]

    def _process(self) -> _Row:
        pooler = self._pooler
        return [
            os.getpid(),
            pooler.resident(),
            self._started_at,
            pack_counts(pooler.connections, pooler.openings, pooler.consoles.stats),
            pooler.login_count,
            sum(1 for _ in pooler.clients),
            sum(pool.idle_count + pool.borrowed_count for pool in pooler.pools),
        ]


def _mark(stats: PoolStats) -> tuple[int, ...]:
    """Something that changes when anything is counted."""
    return (
        *(stats.xact_count, stats.query_count, stats.received, stats.sent, stats.errors, stats.wait_count),
        *(stats.client_login_count, stats.open_count, stats.open_failures, stats.assignments, stats.binds),
        *(stats.client_parses, stats.asked, stats.prepare_hit, stats.prepare_miss, stats.wait_hist.count),
    )


def portions(rows: Iterable[tuple[str, _Row]]) -> Iterator[Portion]:
    """The rows packed; others run in between."""
    pace = Pace()
    gathered: list[_Row] = []
    part, size = "", 0
    for part_of_row, row in rows:
        if gathered and (part_of_row != part or len(gathered) >= ROWS or size >= PORTION_BYTES):
            yield [part, pack(gathered)]
            gathered, size = [], 0
            pace.breathe()
        part = part_of_row
        gathered.append(row)
        size += sum(len(value) for value in row if isinstance(value, bytes))
        pace.breathe()
    if gathered:
        yield [part, pack(gathered)]


def make_token() -> str:
    """A word that is no other's."""
    return os.urandom(_TOKEN_BYTES).hex()


class Rests:
    """What is left of answers, by a token each."""

    def __init__(self) -> None:
        self._pending: OrderedDict[str, Iterator[Portion]] = OrderedDict()

    def begin(self, made: Iterator[Portion]) -> Plain:
        """``portions`` of an answer, and ``rest``, the token for what is left, None when that is all. May switch."""
        some: list[Portion] = []
        size = 0
        for portion in made:
            some.append(portion)
            size += len(portion[1])
            if size >= ANSWER_BYTES:
                return {"portions": some, "rest": self.keep(made)}
        return {"portions": some, "rest": None}

    def keep(self, made: Iterator[Portion]) -> str:
        """A token for what is left."""
        token = make_token()
        self._pending[token] = made
        while len(self._pending) > MOST_PENDING:
            self._pending.popitem(last=False)
        return token

    def go_on(self, tokens: Collection[str]) -> Plain:
        """The next portions for the one of ``tokens`` that is ours; empty when none is. May switch."""
        for token in tokens:
            made = self._pending.pop(token, None)
            if made is not None:
                return self.begin(made)
        return {}


def pack_settings(settings: SettingsView) -> _Row:
    """What tables show of a pool's settings, in the order of SETTINGS."""
    values = [getattr(settings, name) for name in SETTINGS[:-1]]
    return [*values, [[name, value] for name, value in settings.startup_parameters]]


def _pool(pool: PoolView, now: float) -> _Row:
    registry = pool.registry
    return [
        pack_settings(pool.settings),
        bool(pool.paused),
        bool(pool.disabled),
        pool.idle_count,
        pool.borrowed_count,
        pool.opening_count,
        pool.opened_count,
        pool.waiting_count,
        pool.max_wait(now),
        len(registry.known),
        registry.bytes,
    ]


def _histograms(stats: PoolStats) -> list[_Row]:
    return [pack_whole(histogram) for histogram in (stats.query_hist, stats.xact_hist, stats.wait_hist)]


def _periods(pooler: RunningPooler, pools: Iterable[PoolView]) -> Iterator[_Row]:
    for pool in pools:
        period = pooler.averages.period(pool.stats)
        if period is not None:
            yield [pool.settings.database, pool.settings.user, period[0], list(period[1])]


def _latencies(pooler: RunningPooler, pools: Iterable[PoolView]) -> Iterator[_Row]:
    for pool in pools:
        recent = pooler.averages.latencies(pool.stats)
        if recent.query.count or recent.xact.count or recent.wait.count:
            histograms = [pack_whole(histogram) for histogram in (recent.query, recent.xact, recent.wait)]
            yield [pool.settings.database, pool.settings.user, histograms]


def _server(server: ServerView, settings: _Row | None, with_stream: bool) -> _Row:
    """``settings``: those of one that is in no pool; of a pool's its name is enough."""
    return [
        settings or [server.settings.database, server.settings.user],
        server.id,
        server.pid,
        bool(server.tls),
        server.state,
        server.wait,
        pack_link(server.stats),
        server.created_at,
        server.active_since,
        server.idle_since,
        server.cancels,
        server.prepared_count,
        server.pinned,
        server.application_name,
        pack_stream(server.stream) if with_stream else None,
    ]


def _fallback(of: FallbackView) -> _Row:
    members = [list(member) for member in of.members]
    return [of.database, members, list(of.counted), dict(of.failures), pack_coarse(of.duration)]


def _client(info: ClientInfo, console: bool, with_stream: bool) -> _Row:
    return [
        console,
        info.id,
        info.user,
        info.database,
        info.application_name,
        info.peer,
        info.tls,
        info.state,
        info.wait,
        pack_link(info.stats),
        info.connected_at,
        info.pinned,
        info.server,
        len(info.statements.names) if info.statements is not None else None,
        info.waiting_since,
        info.asked_at,
        info.replication,
        pack_stream(info.stream) if with_stream else None,
        info.pool_user,
    ]


def _clients(pooler: RunningPooler, with_stream: bool) -> Iterator[_Row]:
    for client in pooler.clients:
        yield _client(client.info(), False, with_stream)
    for console in pooler.consoles:
        yield _client(console.info(), True, with_stream)


def _linked(pooler: RunningPooler) -> Iterator[_Row]:
    infos = (client.info() for client in pooler.clients)
    return (_client(info, False, False) for info in infos if info.server)


def _counts(pooler: RunningPooler, with_sizes: bool) -> Iterator[_Row]:
    """How many clients there are of each kind; no list of them is made."""
    pace = Pace()
    kept: dict[tuple[bool, str, str, str, str], list[int]] = {}
    for client in pooler.clients:
        key = False, client.database, client.user, client.state, client.pool_user
        numbers = kept.setdefault(key, [0, 0, 0, 0])
        named, unnamed = client.held
        size = size_of(client.info().statements) if with_sizes else 0
        for index, number in enumerate((1, named, unnamed, size)):
            numbers[index] += number
        pace.breathe()
    for console in pooler.consoles:
        kept.setdefault((True, console.database, console.user, console.info().state, ""), [0, 0, 0, 0])[0] += 1
    return ([*key, *numbers] for key, numbers in kept.items())


def size_of(statements: ClientStatements | None) -> int:
    """Bytes of the texts of a client's statements."""
    if statements is None:
        return 0
    size = sum(statement.handle.size for statement in statements.names.values())
    return size + len(statements.unnamed.body or b"" if statements.unnamed is not None else b"")


def _statements(pools: Iterable[PoolView]) -> Iterator[_Row]:
    for pool in pools:
        for statement in list(pool.registry.known.values()):
            handle = statement.handle
            yield [
                pool.settings.database,
                pool.settings.user,
                handle.line,
                statement.name,
                statement.sql()[:LONGEST_TEXT],
                handle.users,
                handle.size,
                statement.analysed_at,
            ]
