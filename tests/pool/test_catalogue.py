"""When a database's catalogue is read, and what its pools go by meanwhile; PostgreSQL and the pools are fakes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

import gevent
import gevent.event
import pytest

from pgdoorman_lib.connector import Connector
from pgdoorman_lib.errors import ServerGone
from pgdoorman_lib.net.engine import Task
from pgdoorman_lib.pool import catalogue as module
from pgdoorman_lib.pool.catalogue import MARKER_INTERVAL, MARKER_LONGEST, MARKER_SHARE, Catalogue, Watch
from pgdoorman_lib.pool.database import Database
from pgdoorman_lib.server.catalogue import Hazards, Rows
from pgdoorman_lib.server.hosts import address_of
from pgdoorman_lib.wire.scan import PLAIN, Scanner
from pgdoorman_lib.wire.traces import UNREADABLE


def server_at(address: str) -> Any:
    """What a catalogue knows of a server."""
    settings = SimpleNamespace(server_database="shop", server_host="db", server_port=5432)
    return SimpleNamespace(settings=settings, stream=SimpleNamespace(task=None, engine=None, peer_host=address))


class FakePool:
    """What a catalogue knows of a pool."""

    def __init__(self, catalogue: Catalogue, *trusted: str) -> None:
        self.scanner = Scanner()
        self.settings = SimpleNamespace(
            trusted_functions=list(trusted), forget_option_names=False, database="shop", server_database="shop"
        )
        self.database = SimpleNamespace(catalogue=catalogue, address=None, objects_moved=lambda: None)
        self.held = False
        self.servers: list[Any] = [server_at("10.0.0.1")]
        catalogue.join(self)

    @property
    def doubts(self) -> int:
        return int(self.scanner.doubts)

    def looks_at(self, text: bytes) -> int:
        return int(self.scanner.scan(bytearray(text), 0, len(text), 0))


class FakeDatabase:
    """A PostgreSQL with a marker and a function; its queries take ``seconds``."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.mark = b"1"
        self.function = b"leaks"
        self.now = 1000.0
        self.seconds = 0.0
        self.readings = 0
        self.looks = 0
        self.known: list[Rows | None] = []
        #: how many times others were told to look, before so many readings
        self.told: list[int] = []
        #: called in the midst of a reading
        self.meanwhile: Callable[[], None] = lambda: None
        #: called before the marker is told
        self.before_mark: Callable[[], None] = lambda: None
        self.server = server_at("10.0.0.1")
        monkeypatch.setattr(module, "run", self.run)
        monkeypatch.setattr(module, "read", self.read)
        monkeypatch.setattr(module, "marker", lambda rows: "marker")
        monkeypatch.setattr(module, "hazards", self.hazards)
        monkeypatch.setattr(module, "clock", lambda: self.now)
        monkeypatch.setattr(module, "Task", lambda engine: Task.__new__(Task))

    def run(self, server: Any, sql: str) -> list[bytes]:
        assert server is self.server and sql == "marker"
        self.looks += 1
        self.before_mark()
        self.now += self.seconds
        return [b"\0\x01" + len(self.mark).to_bytes(4, "big") + self.mark]

    def has_moved(self) -> None:
        self.told.append(self.readings)

    def read(self, run_query: Any, known: Rows | None, pause: Callable[[], None]) -> Rows:
        rows = Rows(mark=self.mark)
        rows.relations[1] = self.function
        self.known.append(known)
        self.readings += 1
        pause()
        self.meanwhile()
        return rows

    def hazards(self, rows: Rows, trusted: tuple[str, ...], names_matter: bool) -> Hazards:
        return Hazards({name: UNREADABLE for name in rows.relations.values() if name.decode() not in trusted})


@pytest.fixture
def far(monkeypatch: pytest.MonkeyPatch) -> FakeDatabase:
    return FakeDatabase(monkeypatch)


@pytest.fixture
def catalogue() -> Iterator[Catalogue]:
    yield Catalogue()


def test_it_is_read_once_before_the_first_server_is_lent(far: FakeDatabase, catalogue: Catalogue) -> None:
    pool = FakePool(catalogue)
    assert pool.scanner.lexicon is PLAIN and not catalogue.is_due()
    catalogue.ready(far.server, far.has_moved)
    assert far.readings == 1 and far.server.stream.task is None
    assert pool.looks_at(b"select leaks()") and not pool.looks_at(b"select 1")
    catalogue.ready(far.server, far.has_moved)
    assert far.readings == 1
    # A pool that comes later has it at once.
    other = FakePool(catalogue)
    assert other.scanner.lexicon is pool.scanner.lexicon and not other.doubts


def test_a_first_server_after_a_while_looks_again(far: FakeDatabase, catalogue: Catalogue) -> None:
    """Nobody has looked while there was none."""
    pool = FakePool(catalogue)
    catalogue.ready(far.server, far.has_moved)
    catalogue.ready(far.server, far.has_moved)
    far.mark, far.function = b"2", b"other"
    looks = far.looks
    far.now += MARKER_LONGEST
    catalogue.ready(far.server, far.has_moved)
    assert far.looks == looks + 1 and far.readings == 2 and pool.looks_at(b"select other()")
    catalogue.ready(far.server, far.has_moved)
    assert far.readings == 2


def test_a_server_of_another_worker_is_not_lent_before_a_look_that_is_due(
    far: FakeDatabase, catalogue: Catalogue
) -> None:
    """As with one that is opened: nobody has looked here while there was none."""
    database = SimpleNamespace(catalogue=catalogue, address=("10.0.0.1", 5432))
    pool: Any = SimpleNamespace(by_transaction=True, transparent=True, database=database, servers=[])
    engine: Any = None
    connector = Connector(engine)
    assert not connector.knows(pool, far.server)
    catalogue.ready(far.server, far.has_moved)
    catalogue.ready(far.server, far.has_moved)
    assert connector.knows(pool, far.server)
    far.now += MARKER_LONGEST
    assert not connector.knows(pool, far.server)
    catalogue.ready(far.server, far.has_moved)
    assert connector.knows(pool, far.server)


def test_a_server_elsewhere_is_not_lent_before_a_look(far: FakeDatabase, catalogue: Catalogue) -> None:
    database = Database(catalogue)
    pool: Any = SimpleNamespace(by_transaction=True, transparent=True, database=database, servers=[])
    engine: Any = None
    connector = Connector(engine)
    catalogue.ready(far.server, far.has_moved)
    catalogue.ready(far.server, far.has_moved)
    database.moved_to(("10.0.0.1", 5432))
    assert connector.knows(pool, far.server) and not catalogue.doubted
    far.server.stream.peer_host = "10.0.0.2"
    assert not connector.knows(pool, far.server)
    database.moved_to(("10.0.0.2", 5432))
    assert catalogue.doubted and catalogue.is_due()
    catalogue.ready(far.server, far.has_moved)
    assert connector.knows(pool, far.server)


def test_while_servers_are_in_several_places_every_text_is_asked_about(far: FakeDatabase, catalogue: Catalogue) -> None:
    pool = FakePool(catalogue)
    other = server_at("10.0.0.2")
    catalogue.ready(far.server, far.has_moved)
    assert not pool.doubts
    pool.servers = [far.server, other]
    catalogue.look(far.server, far.has_moved)
    assert pool.doubts and not catalogue.doubted
    catalogue.look(far.server, far.has_moved)
    assert pool.doubts
    pool.servers = [far.server]
    catalogue.look(far.server, far.has_moved)
    assert not pool.doubts and far.readings == 1


def test_a_first_reading_that_fails_is_tried_again(far: FakeDatabase, catalogue: Catalogue) -> None:
    pool = FakePool(catalogue)
    far.meanwhile = gone
    with pytest.raises(ServerGone):
        catalogue.ready(far.server, far.has_moved)
    assert far.server.stream.task is None and pool.scanner.lexicon is PLAIN
    far.meanwhile = lambda: None
    catalogue.ready(far.server, far.has_moved)
    assert pool.looks_at(b"select leaks()") and not pool.doubts


def gone() -> None:
    raise ServerGone("the server went away")


def test_functions_that_a_pool_trusts(far: FakeDatabase, catalogue: Catalogue) -> None:
    pool, trusting = FakePool(catalogue), FakePool(catalogue, "leaks")
    catalogue.ready(far.server, far.has_moved)
    assert pool.looks_at(b"select leaks()") and not trusting.looks_at(b"select leaks()")
    assert FakePool(catalogue, "leaks").scanner.lexicon is trusting.scanner.lexicon


def test_in_doubt_every_text_is_looked_at_until_it_was_read_again(far: FakeDatabase, catalogue: Catalogue) -> None:
    pools = [FakePool(catalogue), FakePool(catalogue, "leaks")]
    catalogue.ready(far.server, far.has_moved)
    catalogue.look(far.server, far.has_moved)
    assert not catalogue.is_due()
    catalogue.doubt()
    assert all(pool.doubts and pool.looks_at(b"select 1") for pool in pools) and catalogue.is_due()
    # Nothing of interest was made, or it was taken back.
    catalogue.look(far.server, far.has_moved)
    assert far.readings == 1 and not any(pool.doubts for pool in pools) and not catalogue.is_due()
    catalogue.doubt()
    far.mark, far.function = b"2", b"other"
    catalogue.look(far.server, far.has_moved)
    assert far.readings == 2 and isinstance(far.known[1], Rows)
    assert not any(pool.doubts or pool.looks_at(b"select leaks()") for pool in pools)
    assert all(pool.looks_at(b"select other()") for pool in pools) and not catalogue.is_due()


def test_a_pool_that_joins_in_doubt(far: FakeDatabase, catalogue: Catalogue) -> None:
    first = FakePool(catalogue)
    catalogue.ready(far.server, far.has_moved)
    catalogue.doubt()
    assert FakePool(catalogue).doubts and first.doubts


def test_ddl_while_it_is_read(far: FakeDatabase, catalogue: Catalogue) -> None:
    """What is read then may be from before."""
    pool = FakePool(catalogue)
    catalogue.ready(far.server, far.has_moved)
    catalogue.doubt()
    far.mark = b"2"
    far.meanwhile = catalogue.doubt
    catalogue.look(far.server, far.has_moved)
    assert pool.doubts and catalogue.is_due()
    far.meanwhile = lambda: None
    catalogue.look(far.server, far.has_moved)
    assert not pool.doubts and not catalogue.is_due() and far.readings == 2


def test_ddl_while_the_marker_is_looked_at(far: FakeDatabase, catalogue: Catalogue) -> None:
    pool = FakePool(catalogue)
    catalogue.ready(far.server, far.has_moved)
    catalogue.doubt()
    far.before_mark = catalogue.doubt
    catalogue.look(far.server, far.has_moved)
    assert pool.doubts and catalogue.is_due()
    far.before_mark = gone
    with pytest.raises(ServerGone):
        catalogue.look(far.server, far.has_moved)
    assert pool.doubts and catalogue.is_due()
    far.before_mark = lambda: None
    catalogue.look(far.server, far.has_moved)
    assert not pool.doubts and not catalogue.is_due() and far.readings == 1


def test_a_reading_that_fails_leaves_the_doubts(far: FakeDatabase, catalogue: Catalogue) -> None:
    pool = FakePool(catalogue)
    catalogue.ready(far.server, far.has_moved)
    catalogue.doubt()
    far.mark = b"2"
    far.meanwhile = gone
    with pytest.raises(ServerGone):
        catalogue.look(far.server, far.has_moved)
    assert pool.doubts and catalogue.is_due()
    far.meanwhile = lambda: None
    catalogue.look(far.server, far.has_moved)
    assert not pool.doubts and far.readings == 3


def test_it_is_read_only_when_the_marker_has_moved(far: FakeDatabase, catalogue: Catalogue) -> None:
    pool = FakePool(catalogue)
    catalogue.ready(far.server, far.has_moved)
    far.function = b"other"
    catalogue.look(far.server, far.has_moved)
    assert (far.looks, far.readings) == (1, 1) and pool.looks_at(b"select leaks()")
    far.mark = b"2"
    catalogue.look(far.server, far.has_moved)
    assert (far.looks, far.readings) == (2, 2) and pool.looks_at(b"select other()")
    catalogue.look(far.server, far.has_moved)
    assert far.readings == 2


def test_who_finds_that_it_has_moved_has_others_look_before_it_is_read(far: FakeDatabase, catalogue: Catalogue) -> None:
    """Even if it was looked at because somebody else has had all look: that one may have read it before."""
    FakePool(catalogue)
    catalogue.ready(far.server, far.has_moved)
    catalogue.look(far.server, far.has_moved)
    assert far.told == []
    far.mark = b"2"
    catalogue.look(far.server, far.has_moved)
    assert far.told == [1]
    far.mark = b"3"
    catalogue.doubt()
    catalogue.look(far.server, far.has_moved)
    assert (far.told, far.readings) == ([1, 2], 3)
    catalogue.doubt()
    catalogue.look(far.server, far.has_moved)
    assert far.told == [1, 2], "one does not set off the other again and again"
    far.mark = b"4"
    far.now += MARKER_LONGEST
    catalogue.ready(far.server, far.has_moved)
    assert far.told == [1, 2, 3]


def test_looking_takes_a_small_share_of_the_time(far: FakeDatabase, catalogue: Catalogue) -> None:
    FakePool(catalogue)
    catalogue.ready(far.server, far.has_moved)
    for seconds, pause in (
        (0.0, MARKER_INTERVAL),
        (0.001, MARKER_INTERVAL),
        (0.05, 0.05 / MARKER_SHARE),
        (0.5, MARKER_LONGEST),
    ):
        far.seconds = seconds
        catalogue.look(far.server, far.has_moved)
        far.now += pause * 0.99
        assert not catalogue.is_due()
        far.now += pause * 0.02
        assert catalogue.is_due()


def test_nobody_keeps_a_pool_alive(far: FakeDatabase, catalogue: Catalogue) -> None:
    pool = FakePool(catalogue)
    catalogue.ready(far.server, far.has_moved)
    del pool
    catalogue.doubt()
    far.mark = b"2"
    catalogue.look(far.server, far.has_moved)
    assert far.readings == 2


# The greenlet that looks.


@pytest.fixture
def watch(far: FakeDatabase, monkeypatch: pytest.MonkeyPatch) -> Watch:
    monkeypatch.setattr(FakePool, "connection", lambda pool: nullcontext(far.server), raising=False)
    return Watch()


def test_a_server_that_comes_again_elsewhere_is_not_lent_before_a_look(
    far: FakeDatabase, catalogue: Catalogue, watch: Watch
) -> None:
    """It was the newest; what is believed since it has gone was read at another address."""
    database = Database(catalogue)
    pool: Any = FakePool(catalogue)
    pool.database, pool.by_transaction, pool.transparent = database, True, True
    here, there = far.server, server_at("10.0.0.2")
    catalogue.ready(here, far.has_moved)
    for server in (here, there):
        database.moved_to(address_of(server))
    for servers in ([here, there], [here]):
        pool.servers = servers
        far.now += MARKER_INTERVAL
        watch.round([pool])
        assert pool.doubts == len(servers) - 1
    engine: Any = None
    assert not Connector(engine).knows(pool, there)


def test_each_database_is_looked_at_once(far: FakeDatabase, catalogue: Catalogue, watch: Watch) -> None:
    other = Catalogue()
    pools = [FakePool(catalogue), FakePool(catalogue), FakePool(other)]
    watch.round(pools)  # type: ignore[arg-type]
    assert far.looks == 0, "nobody uses them yet"
    catalogue.ready(far.server, far.has_moved)
    other.ready(far.server, far.has_moved)
    far.now += MARKER_INTERVAL
    watch.round(pools)  # type: ignore[arg-type]
    assert far.looks == 2
    watch.round(pools)  # type: ignore[arg-type]
    assert far.looks == 2, "they were looked at just now"


def test_only_with_a_pool_that_has_servers(far: FakeDatabase, catalogue: Catalogue, watch: Watch) -> None:
    pools = [FakePool(catalogue), FakePool(catalogue), FakePool(catalogue)]
    catalogue.ready(far.server, far.has_moved)
    far.now += MARKER_INTERVAL
    pools[0].held = True
    pools[1].servers = []
    watch.round(pools[:2])  # type: ignore[arg-type]
    assert far.looks == 0
    watch.round(pools)  # type: ignore[arg-type]
    assert far.looks == 1


def test_in_doubt_also_without_servers(far: FakeDatabase, catalogue: Catalogue, watch: Watch) -> None:
    """In doubt servers may not outlive a transaction: with none at rest it would never end."""
    pool = FakePool(catalogue)
    catalogue.ready(far.server, far.has_moved)
    catalogue.doubt()
    pool.servers = []
    watch.round([pool])  # type: ignore[list-item]
    assert far.looks == 1 and not pool.doubts


def test_doubts_wake_it(far: FakeDatabase, catalogue: Catalogue, watch: Watch) -> None:
    pool = FakePool(catalogue)
    catalogue.ready(far.server, far.has_moved)
    watch.round([pool])  # type: ignore[list-item]
    assert not watch.wanted.is_set()
    catalogue.doubt()
    assert watch.wanted.is_set()
    watch.round([pool])  # type: ignore[list-item]
    assert not pool.doubts


def test_a_server_that_is_lost_ends_no_round(far: FakeDatabase, catalogue: Catalogue, watch: Watch) -> None:
    other = Catalogue()
    pools = [FakePool(catalogue), FakePool(other)]
    catalogue.ready(far.server, far.has_moved)
    other.ready(far.server, far.has_moved)
    catalogue.doubt()
    other.doubt()
    far.mark = b"2"
    far.meanwhile = gone
    watch.round(pools)  # type: ignore[arg-type]
    assert far.readings == 4 and all(pool.doubts for pool in pools)
    far.meanwhile = lambda: None
    watch.round(pools)  # type: ignore[arg-type]
    assert not any(pool.doubts for pool in pools)


def test_a_pool_that_lends_nothing_keeps_no_other_waiting(
    far: FakeDatabase, catalogue: Catalogue, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither other databases, nor once it is paused other pools of its own."""
    never = gevent.event.Event()
    left: list[str] = []

    @contextmanager
    def connection(pool: FakePool) -> Iterator[Any]:
        if pool is busy:
            try:
                never.wait()
            finally:
                left.append("the line")
        yield far.server

    monkeypatch.setattr(FakePool, "connection", connection, raising=False)
    monkeypatch.setattr(module, "READING_PAUSE", 0.01)
    other = Catalogue()
    pools: list[Any] = [busy := FakePool(catalogue), FakePool(other)]
    for one in (catalogue, other):
        one.ready(far.server, far.has_moved)
        one.doubt()
    watch.round(pools)
    assert (pools[0].doubts, pools[1].doubts, left) == (1, 0, [])
    pools.append(FakePool(catalogue))
    watch.round(pools)
    assert pools[2].doubts, "it is looked at once, for all pools of the database"
    busy.held = True
    watch.round(pools)
    gevent.sleep(0)
    assert left
    watch.round(pools)
    assert not any(pool.doubts for pool in pools)
