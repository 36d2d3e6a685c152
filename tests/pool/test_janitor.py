"""Cleaning between borrowers: what is sent for what was left, what is rolled back, and what is closed instead."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import gevent
import pytest
from core_fakes import Postgres, Settings, running, server_pair, until
from pace import patience

from pgdoorman_lib.errors import ServerUnavailable
from pgdoorman_lib.net.engine import Engine, Task
from pgdoorman_lib.pool import janitor as janitors
from pgdoorman_lib.pool.janitor import Janitor
from pgdoorman_lib.pool.pool import Pool
from pgdoorman_lib.pool.queue import Borrower
from pgdoorman_lib.server.connection import Server
from pgdoorman_lib.server.execute import run
from pgdoorman_lib.wire import messages
from pgdoorman_lib.wire.effects import InjectedParse
from pgdoorman_lib.wire.owed import BIND, DESYNC, EXECUTE, PARSE, QUERY, SYNC
from pgdoorman_lib.wire.session_state import (
    DIRTY_CURSORS,
    DIRTY_LISTEN,
    DIRTY_PARAMETERS,
    DIRTY_PREPARED,
    DIRTY_SESSION,
    DIRTY_TEMPORARY,
)
from pgdoorman_lib.wire.settings import BASE
from pgdoorman_lib.wire.settings import Settings as ClientSettings
from pgdoorman_lib.wire.statements import Registry, Unnamed


class House:
    """A pool with one server, its PostgreSQL, and a janitor."""

    def __init__(self, engine: Engine, **changes: Any) -> None:
        self.engine = engine
        self.settings = Settings(pool_size=1, **changes)
        self.cancelled: list[Server] = []
        self.on_cancel: Callable[[], None] = lambda: None
        self.janitor = Janitor(self.cancel)
        self.postgres: list[Postgres] = []
        self.pool = Pool(self.settings, engine, self.connect, self.janitor.tidy)

    def connect(self, pool: Pool) -> Server:
        server, peer = server_pair(self.engine, self.settings)
        self.postgres.append(Postgres(peer))
        return server

    def cancel(self, server: Server) -> None:
        self.cancelled.append(server)
        self.on_cancel()

    def borrow(self) -> Server:
        borrower = Borrower()
        borrower.task = Task(self.engine)
        server = self.pool.checkout(borrower)
        server.stream.task = None
        return server

    @property
    def far(self) -> Postgres:
        return self.postgres[-1]

    @property
    def executed(self) -> list[str]:
        return [sql.decode() for sql in self.far.mini.executed]

    def settled(self) -> str:
        until(lambda: self.pool.borrowed_count == 0, "the janitor's work")
        self.pool.check()
        return "kept" if self.pool.idle_count else "closed"

    def client_said(self, server: Server, data: bytes, *operations: int) -> None:
        """What a client sent before it vanished."""
        server.stream.write(data)
        for operation in operations:
            server.replies.add(operation)
        self.engine.flush()

    def close(self) -> None:
        self.pool.retire("the end")
        self.janitor.finish()
        for server in list(self.pool.servers):
            self.pool.discard(server, "the end")
        for postgres in self.postgres:
            postgres.close()


@pytest.fixture
def engine() -> Iterator[Engine]:
    with running("epoll") as made:
        yield made


@pytest.fixture
def house(request: pytest.FixtureRequest, engine: Engine) -> Iterator[House]:
    made = House(engine, **getattr(request, "param", {}))
    yield made
    made.close()


# Tidying what was given back.


@pytest.mark.parametrize(
    ("dirty", "statements"),
    [
        (0, [""]),
        (DIRTY_LISTEN, ["UNLISTEN *"]),
        (DIRTY_CURSORS | DIRTY_TEMPORARY, ["CLOSE ALL", "DISCARD TEMP"]),
        (DIRTY_SESSION | DIRTY_LISTEN, ["DISCARD ALL"]),
    ],
)
def test_exactly_what_was_touched_is_cleaned(house: House, dirty: int, statements: list[str]) -> None:
    server = house.borrow()
    server.dirty = dirty
    server.state = "cleaning"
    house.janitor.tidy(house.pool, server)
    assert house.settled() == "kept"
    assert house.executed == statements
    assert server.dirty == 0 and server.stream.task is None


def test_the_books_follow_the_cleaning(house: House) -> None:
    server = house.borrow()
    InjectedParse(Registry(1).get(b"x\0\0\0", ()), server.statements)
    server.statements.unnamed = Unnamed(b"x\0\0\0")
    server.applied = ClientSettings.of({"application_name": "x"})
    server.dirty = DIRTY_PARAMETERS
    house.pool.checkin(server)
    assert house.settled() == "kept"
    assert server.applied is BASE
    assert server.statements.prepared, "RESET ALL drops no statements"
    assert server.statements.unnamed is None, "any simple query drops the unnamed one"
    server = house.borrow()
    server.dirty = DIRTY_PREPARED
    house.pool.checkin(server)
    assert house.settled() == "kept"
    assert not server.statements.prepared


@pytest.mark.parametrize("house", [{"cleanup_server_connections": False, "session_state": "reset"}], indirect=True)
def test_cleaning_can_be_switched_off(house: House) -> None:
    server = house.borrow()
    server.dirty = DIRTY_PARAMETERS
    house.pool.checkin(server)
    assert house.settled() == "kept"
    assert house.executed == []


def test_a_cleaning_that_fails_closes_the_server(house: House) -> None:
    server = house.borrow()
    server.dirty = DIRTY_LISTEN
    house.far.mini.status = "E"  # nothing but the end of the transaction works
    house.pool.checkin(server)
    assert house.settled() == "closed"


def test_a_cleaning_that_takes_too_long_closes_the_server(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(janitors, "CLEANING_TIMEOUT", 0.02)
    server = house.borrow()
    house.far.awake.clear()
    server.dirty = DIRTY_LISTEN
    house.pool.checkin(server)
    assert house.settled() == "closed"


def test_a_killed_janitor_closes_its_server(house: House) -> None:
    server = house.borrow()
    house.far.awake.clear()
    server.dirty = DIRTY_LISTEN
    house.pool.checkin(server)
    gevent.sleep(0.01)
    house.janitor._at_work.kill()
    assert house.settled() == "closed"


def test_a_server_is_kept_until_its_cancel_has_arrived(house: House) -> None:
    server = house.borrow()
    server.cancels = 1
    house.pool.checkin(server)
    gevent.sleep(0.02)
    assert server.state == "cleaning" and house.executed == []
    server.cancels = 0
    assert house.settled() == "kept"


def test_waiters_get_the_cleaned_server(house: House) -> None:
    server = house.borrow()
    waiting = gevent.spawn(house.borrow)
    gevent.sleep(0)
    server.dirty = DIRTY_LISTEN
    house.pool.checkin(server)
    assert waiting.get(timeout=patience(5)) is server
    assert house.executed == ["UNLISTEN *"]
    house.pool.checkin(server)


# Ending what a vanished client left.


def abandon(house: House, server: Server, in_batch: bool = False, half_sent: bool = False) -> None:
    house.janitor.abandon(house.pool, server, in_batch, half_sent)


def test_half_a_message_can_not_be_undone(house: House) -> None:
    server = house.borrow()
    abandon(house, server, half_sent=True)
    assert house.settled() == "closed"


def test_an_open_transaction_is_rolled_back(house: House) -> None:
    server = house.borrow()
    run(server, "begin")
    abandon(house, server)
    assert house.settled() == "kept"
    assert "rollback" in [sql.lower() for sql in house.executed]
    assert house.far.mini.status == "I" and not house.cancelled


def test_a_running_statement_is_cancelled_and_its_answer_read(house: House) -> None:
    server = house.borrow()
    house.far.awake.clear()
    house.client_said(server, messages.query("x1"), QUERY)
    house.on_cancel = house.far.awake.set
    abandon(house, server)
    assert house.settled() == "kept"
    assert house.cancelled == [server]


def test_a_cancel_that_can_not_be_sent_closes_the_server(house: House) -> None:
    server = house.borrow()
    house.far.awake.clear()
    house.client_said(server, messages.query("x1"), QUERY)

    def refuse() -> None:
        raise ServerUnavailable("connection refused")

    house.on_cancel = refuse
    abandon(house, server)
    assert house.settled() == "closed"


def test_what_the_last_statement_left_is_cleaned_too(house: House) -> None:
    # The client sent SET and vanished before the answer: nobody but the janitor sees it.
    server = house.borrow()
    house.far.awake.clear()
    house.client_said(server, messages.query("set x"), QUERY)
    house.on_cancel = house.far.awake.set  # comes too late
    abandon(house, server)
    assert house.settled() == "kept"
    assert house.executed[0] == "set x"
    assert "RESET ALL" in house.executed


def test_statements_dropped_by_the_last_statement_are_forgotten(house: House) -> None:
    server = house.borrow()
    InjectedParse(Registry(1).get(b"x\0\0\0", ()), server.statements)
    house.far.awake.clear()
    house.client_said(server, messages.query("deallocate all"), QUERY)
    house.on_cancel = house.far.awake.set
    abandon(house, server)
    assert house.settled() == "kept"
    assert not server.statements.prepared


BATCH = messages.parse(b"", b"x1") + messages.bind(b"", b"") + messages.execute()


def test_a_batch_without_its_sync_is_not_committed(house: House) -> None:
    server = house.borrow()
    house.client_said(server, BATCH, PARSE, BIND, EXECUTE)
    abandon(house, server, in_batch=True)
    assert house.settled() == "kept"
    # Something failed between the client's Execute and our Sync.
    told = house.far.heard
    assert janitors.NO_PORTAL in told and told.index(BATCH) < told.index(janitors.NO_PORTAL)
    assert house.far.heard.index(messages.sync()) > told.index(janitors.NO_PORTAL)
    assert not server.replies.count and not server.replies.effects


def test_a_batch_that_has_failed_is_ended(house: House) -> None:
    server = house.borrow()
    house.client_said(server, messages.bind(b"", b"nobody"), BIND)
    until(lambda: server.stream.readable)
    server.stream.read_message()
    server.replies.account(ord("E"))
    assert server.replies.skipping
    abandon(house, server, in_batch=False)
    assert house.settled() == "kept"
    assert not house.far.mini.skipping


def test_a_batch_that_fails_while_it_is_drained_is_ended(house: House) -> None:
    server = house.borrow()
    house.far.awake.clear()
    # The Query behind it made the relay think that no batch is open; the error skips it.
    house.client_said(server, messages.bind(b"", b"nobody") + messages.query("x1"), BIND, QUERY)
    house.on_cancel = house.far.awake.set
    abandon(house, server)
    assert house.settled() == "kept"
    assert not house.far.mini.skipping


@pytest.mark.parametrize("sync_sent", [False, True])
@pytest.mark.parametrize("extended", [False, True])
def test_a_copy_is_failed(house: House, extended: bool, sync_sent: bool) -> None:
    server = house.borrow()
    if extended:
        data = messages.parse(b"", b"copy in") + messages.bind(b"", b"") + messages.execute()
        house.client_said(server, data, PARSE, BIND, EXECUTE)
        if sync_sent:
            house.client_said(server, messages.sync(), SYNC)
        answers = 3
    else:
        house.client_said(server, messages.query("copy in"), QUERY)
        answers = 1
    for _ in range(answers):
        kind, _ = server.stream.read_message()
        assert server.replies.account(kind) != DESYNC
    assert server.replies.copy_in
    abandon(house, server, in_batch=extended and not sync_sent)
    if extended and sync_sent:
        # Whether the copy had read that Sync can't be told: an answer too many may come.
        assert house.settled() == "closed"
        return
    assert house.settled() == "kept"
    assert house.far.mini.copying is None and not house.far.mini.skipping


def test_a_copy_that_begins_behind_our_back_closes_the_server(house: House) -> None:
    server = house.borrow()
    house.far.awake.clear()
    house.client_said(server, messages.query("copy in"), QUERY)
    house.on_cancel = house.far.awake.set
    abandon(house, server)
    assert house.settled() == "closed"


def test_a_server_that_died_meanwhile(house: House) -> None:
    server = house.borrow()
    house.client_said(server, messages.query("x1"), QUERY)
    house.far.close()
    abandon(house, server)
    assert house.settled() == "closed"


@pytest.mark.parametrize(
    "answer", [messages.PARSE_COMPLETE_MESSAGE, b"Z\0\0\0\x04", b"Z\xff\xff\xff\xff", b"C\0\0\0\2"]
)
def test_a_server_that_talks_nonsense(house: House, answer: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    if answer == messages.PARSE_COMPLETE_MESSAGE:  # no more comes: that is found out by waiting
        monkeypatch.setattr(janitors, "CLEANING_TIMEOUT", 0.2)
    server = house.borrow()
    house.far.awake.clear()
    house.client_said(server, messages.query("x1"), QUERY)
    house.far.sock.sendall(answer)
    abandon(house, server)
    assert house.settled() == "closed"


# Our own statements.


def test_run_leaves_the_queue_empty_and_drops_the_unnamed_statement(house: House) -> None:
    server = house.borrow()
    server.statements.unnamed = Unnamed(b"x\0\0\0")
    run(server, "x1")
    assert server.is_reusable() and server.statements.unnamed is None
    house.pool.checkin(server)


def asked(house: House, sql: str) -> Any:
    with house.pool.connection() as server:
        return run(server, sql)


def test_a_refused_statement_leaves_a_good_server(house: House) -> None:
    from pgdoorman_lib.errors import ServerRefused

    with pytest.raises(ServerRefused) as caught:
        asked(house, "fail")
    assert caught.value.sqlstate == "22012"
    assert house.settled() == "kept"
    assert asked(house, "x1") == [b"\0\1\0\0\0\2x1"]
    (server,) = house.pool.servers
    assert not server.replies.swallowed_error


def test_a_statement_cut_short_never_leaves_its_answer_to_the_next(house: House) -> None:
    house.pool.checkin(house.borrow())
    house.far.awake.clear()
    errand = gevent.spawn(asked, house, "x1")
    gevent.sleep(0.01)
    errand.kill()
    assert house.settled() == "closed"


def test_an_answer_to_something_else_is_refused(house: House) -> None:
    server = house.borrow()
    house.far.awake.clear()
    house.far.sock.sendall(messages.BIND_COMPLETE_MESSAGE)
    server.stream.task = Task(house.engine)
    from pgdoorman_lib.errors import ServerProtocolViolation

    with pytest.raises(ServerProtocolViolation):
        run(server, "x1")
    server.stream.task = None
    house.pool.checkin(server)
    assert house.settled() == "closed"
