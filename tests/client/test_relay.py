"""A relay between two sockets, step by step: cuts at every byte, huge messages, ends and garbage from either side."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any

import pytest
from core_fakes import Settings, receive_all, running
from hypothesis import given, settings
from hypothesis import strategies as st
from mini_postgres import MiniPostgres, tokens
from relay_rig import Backend, Client

from pgdoorman_lib.client.client_end import ClientEnd
from pgdoorman_lib.client.events import (
    CLIENT_FAULT,
    CLIENT_GONE,
    NEED_SERVER,
    PENDING,
    RELEASE,
    SERVER_FAULT,
    SERVER_GONE,
    TERMINATE,
)
from pgdoorman_lib.client.link import Turn
from pgdoorman_lib.client.prepared import MAX_NAMED_PARSE
from pgdoorman_lib.client.relay import Relay, relay_for
from pgdoorman_lib.client.tracking import MAX_OPTIONS
from pgdoorman_lib.metrics.counters import LinkStats
from pgdoorman_lib.net.engine import Engine
from pgdoorman_lib.net.measures import BLOCK_SIZE
from pgdoorman_lib.net.stream import HIGH_WATER
from pgdoorman_lib.pool.health import Health
from pgdoorman_lib.wire import messages, owed
from pgdoorman_lib.wire.framing import split
from pgdoorman_lib.wire.prepared import ClientStatements
from pgdoorman_lib.wire.session_state import DIRTY_LOCKS, DIRTY_PARAMETERS
from pgdoorman_lib.wire.statements import Registry
from pgdoorman_lib.wire.traces import POSSIBLE

COPY_DONE = b"c\0\0\0\x04"
Z = messages.ready_for_query()


def message(kind: bytes, body: bytes = b"") -> bytes:
    return kind + (len(body) + 4).to_bytes(4, "big") + body


@pytest.fixture
def engine() -> Iterator[Engine]:
    with running("epoll") as made:
        yield made


class Table:
    """One client and one server, borrowed by the first message."""

    def __init__(
        self, engine: Engine, *, capacity: int = 100, buffer: int = 0, registry: Registry | None = None
    ) -> None:
        self.client = Client(engine, registry, buffer=buffer)
        self.relay = self.client.relay
        self.link = self.client.link
        self.backend = Backend(engine, Settings(server_prepared_statements_cache_size=capacity), buffer=buffer)
        self.server = self.backend.server

    def borrow(self) -> None:
        self.client.borrow(self.backend)

    def asks_for_health(self, sql: str) -> Health:
        """Have ``sql`` answered without a server."""
        health = Health(sql)
        self.link.health, self.link.check_query = health, health.message
        return health

    def close(self) -> None:
        self.client.close()
        self.backend.close()


@pytest.fixture
def table(engine: Engine) -> Iterator[Table]:
    made = Table(engine)
    yield made
    made.close()


def names(data: bytes) -> list[tuple[str, bytes]]:
    return [(chr(kind), body) for kind, body in split(data)[0]]


# What crosses over, whole.


def test_a_query_and_its_answer(table: Table) -> None:
    query = messages.query("select 1")
    table.client.say(query)
    assert table.client.step() == NEED_SERVER
    table.borrow()
    assert table.client.step() == PENDING
    assert table.backend.hear() == query
    answer = (
        messages.row_description([("a", 23, 4)]) + messages.data_row([b"1"]) + messages.command_complete("SELECT 1")
    )
    table.backend.say(answer + Z)
    assert table.client.step() == RELEASE
    assert table.client.heard == answer + Z
    assert table.server.is_reusable()
    assert table.client.stream.block is None and table.server.stream.block is None


def test_not_released_in_a_transaction(table: Table) -> None:
    table.client.say(messages.query("begin"))
    table.client.step()
    table.borrow()
    table.client.step()
    table.backend.say(messages.command_complete("BEGIN") + messages.ready_for_query(b"T"))
    assert table.client.step() == PENDING
    assert not table.server.is_reusable()


def test_session_mode_never_releases(table: Table) -> None:
    table.link.by_transaction = 0
    table.link.shared = 0
    table.client.say(messages.query("x"))
    table.client.step()
    table.borrow()
    table.client.step()
    table.backend.work()
    assert table.client.step() == PENDING


def test_asynchronous_messages_pass(table: Table) -> None:
    table.client.say(messages.query("x"))
    table.client.step()
    table.borrow()
    table.client.step()
    asides = (
        messages.notice_response("NOTICE", "00000", "hm")
        + messages.parameter_status("TimeZone", "UTC")
        + message(b"A", b"\0\0\0\1channel\0payload\0")
    )
    table.backend.say(asides + messages.command_complete("SELECT 0") + asides + Z)
    assert table.client.step() == RELEASE
    assert table.client.heard.startswith(asides)
    assert table.server.reported.values["TimeZone"] == "UTC"
    assert table.client.owner.settings.values == {"timezone": "UTC"}


# Without a server.


def test_what_needs_no_server(table: Table) -> None:
    table.asks_for_health(";")
    table.client.say(messages.sync() + messages.query(";") + messages.flush() + COPY_DONE + message(b"d", b"x" * 9))
    assert table.client.step() == PENDING
    assert table.client.heard == Z + messages.EMPTY_QUERY_MESSAGE + Z
    table.client.say(messages.terminate())
    assert table.client.step() == TERMINATE


def test_a_check_query_with_rows_is_asked_until_its_answer_is_known(table: Table) -> None:
    health = table.asks_for_health("select 1")
    table.client.say(messages.query("select 1"))
    assert table.client.step() == NEED_SERVER
    assert table.client.heard == b""
    answer = message(b"T", b"t") + message(b"D", b"d") + messages.command_complete("SELECT 1") + Z
    health.learn(bytearray(answer))
    assert table.client.step() == PENDING
    assert table.client.heard == answer


def test_the_check_query_in_a_transaction_goes_to_the_server(table: Table) -> None:
    table.asks_for_health(";")
    table.client.say(messages.query("begin"))
    table.client.step()
    table.borrow()
    table.client.step()
    table.backend.hear()
    table.backend.say(messages.command_complete("BEGIN") + messages.ready_for_query(b"T"))
    table.client.step()
    table.client.say(messages.query(";"))
    table.client.step()
    assert table.backend.hear() == messages.query(";")


def test_the_check_query_behind_something_else(table: Table) -> None:
    # The second one finds a server borrowed, and must not overtake the answer before it.
    table.asks_for_health(";")
    table.client.say(messages.query(";") + messages.query("x") + messages.query(";"))
    assert table.client.go([table.backend]) == PENDING
    table.backend.work()
    assert table.client.go([]) in (PENDING, NEED_SERVER)
    assert [kind for kind, _ in tokens(table.client.heard)] == list("IZTDCZTDCZ")


def test_a_stray_huge_copy_message_without_a_server_is_dropped(table: Table) -> None:
    data = message(b"d", b"x" * 100000) + messages.sync()
    for start in range(0, len(data), 5000):
        table.client.say(data[start : start + 5000])
        assert table.client.step() == PENDING
    assert table.client.heard == Z


# Cuts.

SCRIPTS = {
    "simple": [messages.query("x1"), messages.query("bad"), messages.query("")],
    "extended": [
        messages.parse(b"", b"select x1"), messages.bind(b"", b"", [b"value"]), messages.describe_statement(b""),
        messages.execute(), messages.sync(),
    ],
    "named": [
        messages.parse(b"s", b"select x1"), messages.describe_statement(b"s"), messages.flush(), messages.bind(b"", b"s"),
        messages.execute(), messages.sync(), messages.bind(b"", b"s"), messages.execute(), messages.sync(),
        messages.close_statement(b"s"), messages.sync(),
    ],
    "made": [
        messages.parse(b"s", b"select x1"), messages.sync(), messages.parse(b"t", b"select x1"), messages.bind(b"", b"t"),
        messages.execute(), messages.close_statement(b"t"), messages.parse(b"u", b"select x1"), messages.bind(b"", b"nobody"),
        messages.close_statement(b"u"), messages.sync(), messages.bind(b"", b"s"), messages.execute(), messages.sync(),
    ],
    "transaction": [
        messages.query("begin"), messages.parse(b"s", b"select x1"), messages.bind(b"", b"s"), messages.execute(),
        messages.sync(), messages.query("fail"), messages.query("rollback"),
    ],
    "copy": [
        messages.query("copy in"), message(b"d", b"abc"), message(b"d", b""), COPY_DONE,
        messages.query("copy in"), message(b"d", b"abc"), messages.copy_fail("no"), messages.query("copy out"),
    ],
    "duplicate": [
        messages.parse(b"s", b"select x1"), messages.sync(), messages.parse(b"s", b"select x2"), messages.bind(b"", b"s"),
        messages.sync(), messages.bind(b"", b"s"), messages.execute(), messages.sync(),
    ],
}  # fmt: skip


def direct(script: list[bytes]) -> list[tuple[str, bytes]]:
    return tokens(MiniPostgres().converse(b"".join(script)))


@pytest.mark.parametrize("script", SCRIPTS)
def test_cut_at_every_byte(engine: Engine, script: str) -> None:
    data = b"".join(SCRIPTS[script])
    expected = direct(SCRIPTS[script])
    registry = Registry(100)
    for cut in range(1, len(data)):
        table = Table(engine, registry=registry)
        free = [table.backend]
        for part in (data[:cut], data[cut:]):
            table.client.say(part)
            table.client.go(free)
            table.backend.work()
            table.client.go(free)
        assert settled(table, free) == expected, cut
        table.close()


def settled(table: Table, free: list[Backend]) -> list[tuple[str, bytes]]:
    """What the client heard once nothing moves any more."""
    heard = -1
    while heard != len(table.client.heard):
        heard = len(table.client.heard)
        table.client.go(free)
        table.backend.work()
        table.client.go(free)
    assert free == [table.backend], "the server was not given back"
    return tokens(table.client.heard)


@pytest.mark.parametrize("script", SCRIPTS)
def test_byte_by_byte_both_ways(engine: Engine, script: str) -> None:
    table = Table(engine)
    free = [table.backend]
    for position in range(len(data := b"".join(SCRIPTS[script]))):
        table.client.say(data[position : position + 1])
        table.client.go(free)
        table.backend.postgres.receive(table.backend.hear())
        table.backend.postgres.work()
        for byte in table.backend.postgres.take():
            table.backend.say(bytes([byte]))
            table.client.go(free)
    assert settled(table, free) == direct(SCRIPTS[script])
    table.close()


# Huge messages.


def pour(table: Table, source: Any, data: bytes, sink: Any) -> bytes:
    """Send ``data`` into ``source`` and step until ``sink`` has as much; both sockets are small."""
    got = b""
    position = 0
    for _ in range(100000):
        source.setblocking(False)
        try:
            position += source.send(data[position : position + 65536])
        except BlockingIOError:
            pass
        assert table.client.step() == PENDING
        got += receive_all(sink) if sink is table.backend.socket else b""
        if sink is table.client.socket:
            got, table.client.heard = got + table.client.heard, b""
        if position == len(data) and len(got) >= len(data):
            return got
    raise AssertionError(f"stuck at {position} sent, {len(got)} arrived of {len(data)}")


@pytest.fixture
def narrow(engine: Engine) -> Iterator[Table]:
    made = Table(engine, buffer=4096)
    yield made
    made.close()


def bounded(table: Table) -> None:
    # What is queued may pass the mark by what one block holds.
    assert table.client.most_pending <= HIGH_WATER + 2 * BLOCK_SIZE
    assert len(table.client.engine.blocks) <= 12
    assert all(len(block) == BLOCK_SIZE for block in table.client.engine.blocks)


def begin(table: Table, first: bytes) -> None:
    table.client.say(first)
    table.client.step()
    table.borrow()
    table.client.step()
    table.backend.hear()


SIZE = 3_000_000


@pytest.mark.parametrize("kind", [b"Q", b"B", b"F", b"d"])
def test_huge_from_the_client(narrow: Table, kind: bytes) -> None:
    begin(narrow, messages.query("copy in"))
    narrow.backend.say(b"G\0\0\0\x07\0\0\0" if kind == b"d" else messages.command_complete("BEGIN"))
    if kind != b"d":
        narrow.backend.say(messages.ready_for_query(b"T"))
    narrow.client.step()
    narrow.client.heard = b""
    data = message(kind, b"\0\0" + b"x" * SIZE)
    assert pour(narrow, narrow.client.socket, data, narrow.backend.socket) == data
    assert narrow.link.client_left == 0
    bounded(narrow)


@pytest.mark.parametrize("kind", [b"D", b"d", b"T", b"V", b"E", b"N"])
def test_huge_from_the_server(narrow: Table, kind: bytes) -> None:
    begin(narrow, messages.query("x") if kind != b"V" else message(b"F", bytes(10)))
    data = message(kind, b"x" * SIZE)
    assert pour(narrow, narrow.backend.socket, data, narrow.client.socket) == data
    assert narrow.link.server_left == 0
    bounded(narrow)
    narrow.backend.say(Z)
    assert narrow.client.step() == RELEASE


def test_a_huge_bind_of_a_shared_statement_is_renamed(narrow: Table) -> None:
    begin(narrow, messages.parse(b"mine", b"select x1"))
    data = messages.bind(b"portal", b"mine", [b"v" * SIZE])
    name = next(iter(narrow.server.statements.prepared)).name
    expected = messages.bind(b"portal", name, [b"v" * SIZE])
    narrow.client.socket.setblocking(False)
    got = b""
    position = 0
    while len(got) < len(expected):
        try:
            position += narrow.client.socket.send(data[position : position + 65536])
        except BlockingIOError:
            pass
        assert narrow.client.step() == PENDING
        got += narrow.backend.hear()
    assert got == expected
    bounded(narrow)


def test_a_large_named_parse_grows_a_block_and_lets_it_go(narrow: Table) -> None:
    begin(narrow, messages.query("begin"))
    narrow.backend.say(messages.command_complete("BEGIN") + messages.ready_for_query(b"T"))
    narrow.client.step()
    sql = b"x" * 200000
    data = messages.parse(b"mine", sql)
    narrow.client.socket.setblocking(False)
    got = b""
    position = 0
    while len(got) < len(data):
        try:
            position += narrow.client.socket.send(data[position : position + 65536])
        except BlockingIOError:
            pass
        assert narrow.client.step() == PENDING
        got += narrow.backend.hear()
    assert names(got)[0][1].split(b"\0")[1] == sql
    assert narrow.client.stream.block is None
    assert all(len(block) == BLOCK_SIZE for block in narrow.client.engine.blocks)


def test_a_named_parse_over_the_limit_is_refused(table: Table) -> None:
    begin(table, messages.parse(b"", b"x"))
    head = b"P" + (MAX_NAMED_PARSE + 1).to_bytes(4, "big") + b"name\0" + b"x" * BLOCK_SIZE
    table.client.say(head)
    assert table.client.step() == PENDING
    asked = names(table.backend.hear())
    assert [kind for kind, _ in asked] == ["D"], "PostgreSQL is made to refuse something"
    left = MAX_NAMED_PARSE + 2 - len(head)
    piece = b"x" * 500000
    while left:
        table.client.socket.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            left -= table.client.socket.send(piece[:left])
        assert table.client.step() == PENDING
    while table.link.client_left:
        assert table.client.step() == PENDING
    assert table.backend.hear() == b"", "the rest of it goes nowhere"
    table.client.say(messages.sync())
    table.client.step()
    assert names(table.backend.hear()) == [("S", b"")]
    table.backend.say(messages.PARSE_COMPLETE_MESSAGE + messages.error_response("ERROR", "26000", "no such") + Z)
    table.client.step()
    assert [(kind, sqlstate(body)) for kind, body in names(table.client.heard) if kind == "E"] == [("E", b"53200")]


def sqlstate(body: bytes) -> bytes:
    return body[body.index(b"\0C") + 2 :][:5]


@pytest.mark.parametrize("size", [9000, 17000, 24000])
def test_names_longer_than_what_is_looked_at(table: Table, size: int) -> None:
    """PostgreSQL takes names as long as a message may be."""
    name = b"n" * size
    batch = messages.parse(name, b"select x1") + messages.describe_statement(name)
    batch += messages.bind(b"p" * size, name) + messages.execute(b"p" * size)
    batch += message(b"D", b"P" + b"p" * size + b"\0") + message(b"C", b"P" + b"p" * size + b"\0")
    assert kinds(exchange(table, batch + messages.sync())) == "1tT2DCT3Z"
    assert kinds(exchange(table, messages.bind(b"", name) + messages.execute() + messages.sync())) == "2DCZ"
    assert kinds(exchange(table, messages.close_statement(name) + messages.sync())) == "3Z"
    assert not table.link.statements.names


def test_made_answers_between_streamed_frames(narrow: Table) -> None:
    """A Parse we answer stands between two Executes with huge rows: its answer must not cut a row."""
    begin(narrow, messages.parse(b"a", b"select x1") + messages.sync())
    narrow.backend.say(messages.PARSE_COMPLETE_MESSAGE + Z)
    narrow.link.by_transaction = 0
    narrow.client.step()
    narrow.client.heard = b""
    run = messages.bind(b"", b"a") + messages.execute()
    narrow.client.say(run + messages.parse(b"b", b"select x1") + run + messages.close_statement(b"b") + messages.sync())
    narrow.client.step()
    row = message(b"D", b"\0\1" + b"x" * 50000)
    done = messages.command_complete("SELECT 1")
    one = messages.BIND_COMPLETE_MESSAGE + row + done
    answer = one + one + Z
    expected = one + messages.PARSE_COMPLETE_MESSAGE + one + messages.CLOSE_COMPLETE_MESSAGE + Z
    narrow.backend.socket.setblocking(False)
    position = 0
    while len(narrow.client.heard) < len(expected):
        try:
            position += narrow.backend.socket.send(answer[position : position + 7777])
        except BlockingIOError:
            pass
        assert narrow.client.step() == PENDING
    assert narrow.client.heard == expected


# Back-pressure.


def test_a_client_that_does_not_read_stops_its_server(narrow: Table) -> None:
    table = narrow
    begin(table, messages.query("x"))
    rows = message(b"D", b"x" * 1000) * 2000
    taken = 0
    table.backend.socket.setblocking(False)
    for _ in range(2000):
        try:
            taken += table.backend.socket.send(rows[taken : taken + 10000])
        except BlockingIOError:
            pass
        table.client.stream.readable = 1
        table.link.srv.readable = 1
        assert table.relay.step() == PENDING
        table.client.engine.flush()
        assert table.client.stream.out_pending <= HIGH_WATER + 2 * BLOCK_SIZE
    assert taken < 20 * HIGH_WATER
    # And it goes on when the client reads.
    heard = len(receive_all(table.client.socket))
    for _ in range(1000):
        table.client.step()
        heard += len(table.client.heard)
        table.client.heard = b""
    assert taken - 1005 < heard <= taken, "all but what is not a whole message yet"


def test_a_server_that_does_not_read_stops_its_client_but_is_still_heard(narrow: Table) -> None:
    table = narrow
    begin(table, messages.query("copy in"))
    table.backend.say(b"G\0\0\0\x07\0\0\0")
    table.client.step()
    data = message(b"d", b"x" * 1000) * 2000
    taken = 0
    table.client.socket.setblocking(False)
    for _ in range(2000):
        try:
            taken += table.client.socket.send(data[taken : taken + 10000])
        except BlockingIOError:
            pass
        assert table.client.step() == PENDING
        assert table.link.srv.out_pending <= HIGH_WATER + 2 * BLOCK_SIZE
    assert taken < 20 * HIGH_WATER
    notice = messages.notice_response("NOTICE", "00000", "still working")
    table.client.heard = b""
    table.backend.say(notice)
    table.client.step()
    assert table.client.heard == notice


def test_a_pipeline_larger_than_all_buffers_does_not_deadlock(engine: Engine) -> None:
    """Client and server both write before they read."""
    table = Table(engine, buffer=4096)
    free = [table.backend]
    query = messages.query("x" * 500)
    data = query * 2000
    position = 0
    table.client.socket.setblocking(False)
    expected = len(tokens(MiniPostgres().converse(query))) * 2000
    count = 0
    rest = b""
    for _ in range(100000):
        try:
            position += table.client.socket.send(data[position : position + 30000])
        except BlockingIOError:
            pass
        table.client.go(free)
        table.backend.postgres.receive(table.backend.hear())
        if len(table.backend.postgres.sent) < 10000:
            table.backend.postgres.work(20)
        table.backend.socket.setblocking(False)
        try:
            sent = table.backend.socket.send(table.backend.postgres.sent[:20000])
            del table.backend.postgres.sent[:sent]
        except BlockingIOError:
            pass
        frames, rest = split(rest + table.client.heard)
        table.client.heard = b""
        count += len(frames)
        if count == expected:
            break
    assert count == expected
    bounded(table)
    table.close()


# The ends.


def test_the_server_ends_anywhere(engine: Engine) -> None:
    answer = messages.row_description([("a", 23, 4)]) + messages.data_row([b"1"])
    for cut in range(len(answer)):
        table = Table(engine)
        begin(table, messages.query("x1"))
        table.backend.say(answer[:cut])
        table.client.step()
        table.backend.socket.close()
        status = PENDING
        for _ in range(3):
            status = status or table.client.step()
        assert status == SERVER_GONE, cut
        # Small messages reach the client whole or not at all.
        assert split(table.client.heard)[1] == b"", cut
        table.close()


@pytest.mark.parametrize("script", ["named", "copy", "transaction"])
def test_the_client_ends_anywhere(engine: Engine, script: str) -> None:
    data = b"".join(SCRIPTS[script])
    for cut in range(len(data)):
        table = Table(engine)
        free = [table.backend]
        table.client.say(data[:cut])
        status = table.client.go(free)
        table.client.socket.close()
        for _ in range(5):
            status = status or table.client.go(free)
            table.backend.work()  # what waits for an answer is looked at again when it comes
        assert status == CLIENT_GONE, cut
        table.close()


def test_terminate_behind_a_query_waits_for_it(table: Table) -> None:
    table.client.say(messages.query("x1") + messages.terminate())
    assert table.client.step() == NEED_SERVER
    table.borrow()
    assert table.client.step() == PENDING
    assert table.backend.hear() == messages.query("x1")
    table.backend.say(messages.command_complete("SELECT 0") + Z)
    assert table.client.step() in (RELEASE, TERMINATE)
    table.client.give_back() if table.link.srv is not None else None
    assert table.client.step() == TERMINATE
    assert table.client.heard.endswith(Z)


def test_terminate_behind_a_batch_without_sync_does_not_wait_for_ever(table: Table) -> None:
    begin(
        table, messages.parse(b"", b"select x1") + messages.bind(b"", b"") + messages.execute() + messages.terminate()
    )
    assert table.client.step() == TERMINATE


def test_terminate_in_an_idle_borrowed_session(table: Table) -> None:
    table.link.by_transaction = 0
    begin(table, messages.query("x1"))
    table.backend.say(messages.command_complete("SELECT 0") + Z)
    assert table.client.step() == PENDING
    table.client.say(messages.terminate())
    assert table.client.step() == TERMINATE


# Garbage.


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.one_of(st.binary(max_size=60), st.sampled_from([m for s in SCRIPTS.values() for m in s])), max_size=8)
)
def test_garbage_from_the_client_is_a_status(parts: list[bytes]) -> None:
    with running("epoll") as engine:
        table = Table(engine)
        try:
            for part in parts:
                table.client.say(part)
                status = table.client.step()
                if status == NEED_SERVER:
                    table.borrow()
                    status = table.client.step()
                assert status in (PENDING, NEED_SERVER, TERMINATE, CLIENT_FAULT)
                if status in (TERMINATE, CLIENT_FAULT):
                    assert status == TERMINATE or table.link.fault
                    return
        finally:
            table.close()


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=40),
            st.builds(
                message, st.sampled_from([bytes([b]) for b in b"123ACDEGHINRSTVWZcdnst"]), st.binary(max_size=12)
            ),
        ),
        max_size=8,
    ),
    st.sampled_from(list(SCRIPTS)),
)
def test_garbage_from_the_server_is_a_status(parts: list[bytes], script: str) -> None:
    with running("epoll") as engine:
        table = Table(engine)
        try:
            begin(table, b"".join(SCRIPTS[script]))
            for part in parts:
                table.backend.say(part)
                status = table.client.step()
                assert status in (PENDING, RELEASE, SERVER_FAULT)
                if status != PENDING:
                    return
        finally:
            table.close()


@pytest.mark.parametrize("body", [b"", b"II", b"I" * 9000])
def test_a_ready_for_query_of_the_wrong_size(table: Table, body: bytes) -> None:
    begin(table, messages.query("x"))
    table.backend.say(message(b"Z", body))
    assert table.client.step() == SERVER_FAULT


@pytest.mark.parametrize("kind", [b"p", b"\0", b"v", b"1", b"\xff"])
def test_unknown_messages_are_the_clients_fault(table: Table, kind: bytes) -> None:
    table.client.say(message(kind, b"x"))
    assert table.client.step() == CLIENT_FAULT
    assert str(kind[0]) in table.link.fault


def test_an_error_text_that_looks_like_a_farewell(table: Table) -> None:
    begin(table, messages.query("x"))
    table.backend.say(messages.error_response("ERROR", "P0001", "VFATAL") + Z)
    assert table.client.step() == RELEASE
    assert table.server.is_reusable()


def test_a_farewell(table: Table) -> None:
    begin(table, messages.query("x"))
    table.backend.say(messages.error_response("FATAL", "57P01", "terminating connection"))
    table.backend.socket.close()
    status = PENDING
    for _ in range(3):
        status = status or table.client.step()
    assert status == SERVER_GONE
    assert table.server.fatal_received and not table.server.is_reusable()
    assert tokens(table.client.heard) == [("E", b"57P01")]


# Prepared statements: what others got wrong.


def exchange(table: Table, data: bytes, free: list[Backend] | None = None) -> list[tuple[str, bytes]]:
    """Say, work, hear; the server is given back when it is free."""
    free = free if free is not None else [table.backend]
    table.client.heard = b""
    table.client.say(data)
    for _ in range(20):
        table.client.go(free)
        for backend in {id(b): b for b in [table.backend, *free, table.client.backend] if b is not None}.values():
            backend.work()
    table.client.go(free)
    return tokens(table.client.heard)


def kinds(heard: list[tuple[str, bytes]]) -> str:
    return "".join(kind for kind, _ in heard)


RUN = messages.bind(b"", b"s") + messages.execute() + messages.sync()


def test_a_named_statement_survives_eviction_everywhere(engine: Engine) -> None:
    # 1: evicting a name from a client's cache made the next Bind fail.
    table = Table(engine, capacity=1, registry=Registry(1))
    exchange(table, messages.parse(b"s", b"select x1") + messages.sync())
    for number in range(5):
        exchange(table, messages.parse(b"n%d" % number, b"y%d" % number) + messages.sync())
    assert exchange(table, RUN) == [("2", b""), ("D", b"\0\1\0\0\0\x09select x1"), ("C", b"SELECT 1\0"), ("Z", b"I")]
    table.close()


def test_an_evicted_statement_is_closed_behind_the_binds_that_use_it(engine: Engine) -> None:
    # 2: it was closed while Binds for it were still buffered.
    table = Table(engine, capacity=1)
    exchange(table, messages.parse(b"s", b"select x1") + messages.sync())
    batch = (
        messages.bind(b"", b"s") + messages.execute() + messages.parse(b"t", b"select x2") + messages.bind(b"", b"t")
    )
    batch += messages.execute() + messages.bind(b"", b"s") + messages.execute() + messages.sync()
    heard = exchange(table, batch)
    assert kinds(heard) == "2DC12DC2DCZ"
    assert [body[-2:] for kind, body in heard if kind == "D"] == [b"x1", b"x2", b"x1"]
    table.close()


def test_a_statement_is_not_known_to_the_next_when_its_parse_never_left(engine: Engine) -> None:
    # 3: recorded before it was sent; the client vanished; the next one got 26000.
    registry = Registry(10)
    table = Table(engine, registry=registry)
    begin(table, messages.parse(b"s", b"select x1"))
    table.backend.hear()
    # The batch has no Sync. Whoever cleans up makes it fail, and the books follow.
    table.server.replies.account(ord("E"))
    assert not table.server.statements.prepared
    table.close()


def test_a_failed_parse_is_forgotten_and_its_neighbours_are_not(table: Table) -> None:
    # 4
    batch = (
        messages.parse(b"good", b"select x1") + messages.parse(b"s", b"bad") + messages.parse(b"never", b"select x2")
    )
    assert exchange(table, batch + messages.sync()) == [("1", b""), ("E", b"42601"), ("Z", b"I")]
    assert exchange(table, RUN)[0] == ("E", b"26000")
    run_good = messages.bind(b"", b"good") + messages.execute() + messages.sync()
    assert kinds(exchange(table, run_good)) == "2DCZ"
    assert exchange(table, messages.parse(b"s", b"select x3") + RUN)[0] == ("1", b"")


def test_other_settings_other_plan(engine: Engine) -> None:
    # 5: one cached plan shared by clients with different search_path.
    registry = Registry(10)
    first, second = Table(engine, registry=registry), Table(engine, registry=registry)
    second.client.owner.settings = second.client.owner.settings.changed("search_path", "elsewhere")
    for table in (first, second):
        exchange(table, messages.parse(b"s", b"select x1") + messages.sync())
    one, other = (next(iter(table.server.statements.prepared)) for table in (first, second))
    assert one.name != other.name
    first.close()
    second.close()


def test_a_parse_behind_set_is_not_shared(engine: Engine) -> None:
    registry = Registry(10)
    table = Table(engine, registry=registry)
    set_path = messages.parse(b"", b"set x") + messages.bind(b"", b"") + messages.execute()
    exchange(table, set_path + messages.parse(b"s", b"select x1") + messages.sync())
    assert not registry.known
    exchange(table, messages.query("begin"))
    exchange(table, set_path + messages.sync() + messages.parse(b"t", b"select x1") + messages.sync())
    assert not registry.known
    table.close()


def test_made_answers_stand_where_postgresql_would_send_them(table: Table) -> None:
    # 6: between rows, behind errors, around Describe.
    exchange(table, messages.parse(b"a", b"select x1") + messages.sync())
    again = messages.parse(b"b", b"select x1") + messages.describe_statement(b"b") + messages.bind(b"", b"b")
    again += messages.execute() + messages.close_statement(b"b") + messages.parse(b"b", b"select x1")
    again += messages.bind(b"", b"nobody") + messages.parse(b"c", b"select x1") + messages.sync()
    assert kinds(exchange(table, again)) == "1tT2DC31EZ"


def test_no_made_answer_while_the_transaction_may_have_failed(table: Table) -> None:
    exchange(table, messages.parse(b"a", b"select x1") + messages.sync())
    free = [table.backend]
    exchange(table, messages.query("begin"), free)
    failing = messages.bind(b"", b"nobody") + messages.sync()
    heard = exchange(table, failing + messages.parse(b"b", b"select x1") + messages.sync(), free)
    assert [body for kind, body in heard if kind in "EZ"] == [b"26000", b"E", b"25P02", b"E"]
    exchange(table, messages.query("rollback"), free)


def test_flush_mode(table: Table) -> None:
    # 7: answers before a Sync are neither lost nor counted twice.
    exchange(table, messages.parse(b"a", b"select x1") + messages.sync())
    free = [table.backend]
    assert kinds(exchange(table, messages.parse(b"s", b"select x1") + messages.flush(), free)) == "1"
    assert kinds(exchange(table, messages.describe_statement(b"s") + messages.flush(), free)) == "tT"
    assert free == [], "a batch is open"
    assert kinds(exchange(table, RUN, free)) == "2DCZ"
    assert free == [table.backend]


@pytest.mark.parametrize("text", ["deallocate s", 'DEALLOCATE PREPARE "s" ;', "deallocate all", "discard all"])
def test_deallocate_frees_the_name(table: Table, text: str) -> None:
    # 8: answered by the pooler, whose cache kept it.
    exchange(table, messages.parse(b"s", b"select x1") + messages.sync())
    assert kinds(exchange(table, messages.query(text))) == "CZ"
    assert table.link.statements.names == {}
    assert exchange(table, RUN)[0] == ("E", b"26000")
    assert exchange(table, messages.parse(b"s", b"select x2") + RUN)[0] == ("1", b"")


def test_deallocate_by_the_extended_protocol_takes_nothing_from_others(engine: Engine) -> None:
    registry = Registry(10)
    table, other = Table(engine, registry=registry), Client(engine, registry)
    free = [table.backend]
    for name in (b"s", b"t"):
        exchange(table, messages.parse(name, b"x" + name) + messages.sync(), free)
    batch = b"".join(
        messages.parse(b"", text) + messages.bind(b"", b"") + messages.execute()
        for text in (b"deallocate s", b"deallocate t")
    )
    assert kinds(exchange(table, batch + messages.sync(), free)) == "12C12CZ"
    assert table.link.statements.names == {}
    assert {statement.name for statement in table.server.statements.prepared} <= set(table.backend.postgres.statements)
    other.say(messages.parse(b"o", b"xs") + messages.bind(b"", b"o") + messages.execute() + messages.sync())
    for _ in range(3):
        other.go(free)
        table.backend.work()
    other.go(free)
    assert kinds(tokens(other.heard)) == "12DCZ"
    other.close()
    table.close()


def test_deallocate_in_a_failed_transaction_is_answered(table: Table) -> None:
    exchange(table, messages.parse(b"s", b"select x1") + messages.sync())
    free = [table.backend]
    exchange(table, messages.query("begin"), free)
    exchange(table, messages.query("fail"), free)
    assert exchange(table, messages.query("deallocate s"), free) == [("E", b"25P02"), ("Z", b"E")]
    exchange(table, messages.query("rollback"), free)
    assert kinds(exchange(table, RUN, free)) == "2DCZ"


def test_deallocate_of_a_statement_that_can_not_be_parsed_any_more(engine: Engine) -> None:
    table = Table(engine)
    exchange(table, messages.parse(b"s", b"select x1") + messages.sync())
    elsewhere = Backend(engine)
    table.link.statements.names[b"s"].body = b"bad\0\0\0"  # say, its table was dropped
    assert kinds(exchange(table, messages.query("deallocate s"), [elsewhere])) == "CZ"
    elsewhere.close()
    table.close()


def test_deallocate_all_in_a_pipeline_spares_what_is_parsed_behind_it(table: Table) -> None:
    exchange(table, messages.parse(b"old", b"select x1") + messages.sync())
    batch = messages.parse(b"", b"deallocate all") + messages.bind(b"", b"") + messages.execute()
    batch += messages.parse(b"s", b"select x1") + messages.bind(b"", b"s") + messages.execute() + messages.sync()
    assert kinds(exchange(table, batch)) == "12C12DCZ"
    assert kinds(exchange(table, RUN)) == "2DCZ"


@pytest.mark.parametrize("capacity", [1, 2, 3])
def test_no_server_holds_more_than_it_may(engine: Engine, capacity: int) -> None:
    # 9
    table = Table(engine, capacity=capacity)
    batch = b"".join(messages.parse(b"n%d" % n, b"y%d" % n) for n in range(10)) + messages.sync()
    assert kinds(exchange(table, batch)) == "1" * 10 + "Z"
    assert len(table.server.statements.prepared) == capacity
    assert len(table.backend.postgres.statements) == capacity
    table.close()


def test_the_names_of_the_pooler_are_out_of_reach(table: Table) -> None:
    exchange(table, messages.parse(b"s", b"secret") + messages.sync())
    inside = next(iter(table.server.statements.prepared)).name
    assert exchange(table, messages.bind(b"", inside) + messages.execute() + messages.sync())[0] == ("E", b"26000")
    assert exchange(table, messages.describe_statement(inside) + messages.sync())[0] == ("E", b"26000")
    assert kinds(exchange(table, messages.close_statement(inside) + messages.sync())) == "3Z"
    assert kinds(exchange(table, RUN)) == "2DCZ"


def test_the_name_is_taken(table: Table) -> None:
    exchange(table, messages.parse(b"s", b"select x1") + messages.sync())
    assert exchange(table, messages.parse(b"s", b"select x2") + messages.sync()) == [("E", b"42P05"), ("Z", b"I")]
    batch = messages.parse(b"s", b"select x2") + messages.sync() + messages.parse(b"s", b"bad") + messages.sync()
    assert [body for kind, body in exchange(table, batch) if kind == "E"] == [b"42P05", b"42601"]
    assert exchange(table, RUN)[1] == ("D", b"\0\1\0\0\0\x09select x1")


# The unnamed statement, across servers.


def test_the_unnamed_statement_follows_its_client(engine: Engine) -> None:
    table = Table(engine)
    exchange(table, messages.parse(b"", b"select x1") + messages.sync())
    elsewhere = Backend(engine)
    run = messages.bind(b"", b"") + messages.execute() + messages.sync()
    assert kinds(exchange(table, run, [elsewhere])) == "2DCZ"
    assert kinds(exchange(table, messages.describe_statement(b"") + messages.sync(), [table.backend])) == "tTZ"
    elsewhere.close()
    table.close()


def test_nobody_gets_somebody_elses_unnamed_statement(engine: Engine) -> None:
    table = Table(engine)
    other = Client(engine)
    free = [table.backend]
    exchange(table, messages.parse(b"", b"secret") + messages.sync(), free)
    other.say(messages.bind(b"", b"") + messages.execute() + messages.sync())
    other.go(free)
    table.backend.work()
    other.go(free)
    assert tokens(other.heard) == [("E", b"26000"), ("Z", b"I")]
    other.close()
    table.close()


def test_a_query_that_was_skipped_has_not_dropped_the_unnamed_statement(engine: Engine) -> None:
    table = Table(engine)
    other = Client(engine)
    free = [table.backend]
    batch = messages.parse(b"", b"secret") + messages.bind(b"", b"nobody") + messages.query("x") + messages.sync()
    assert kinds(exchange(table, batch, free)) == "1EZ"
    other.say(messages.bind(b"", b"") + messages.execute() + messages.sync())
    for _ in range(3):
        other.go(free)
        table.backend.work()
    other.go(free)
    assert tokens(other.heard) == [("E", b"26000"), ("Z", b"I")]
    other.close()
    table.close()


def test_an_unnamed_statement_too_large_to_remember_is_not_invented(engine: Engine) -> None:
    table = Table(engine)
    table.link.parse_limit = 1 << 14
    exchange(table, messages.parse(b"", b"x" * 80000) + messages.sync())
    elsewhere = Backend(engine)
    heard = exchange(table, messages.bind(b"", b"") + messages.execute() + messages.sync(), [elsewhere])
    assert heard == [("E", b"26000"), ("Z", b"I")]
    exchange(table, messages.parse(b"", b"x" * 80000) + messages.sync())
    batch = messages.parse(b"", b"x") + messages.bind(b"", b"") + messages.execute() + messages.sync()
    assert kinds(exchange(table, batch, [elsewhere])) == "12DCZ"
    elsewhere.close()
    table.close()


# Given back at the right moment.


def test_a_copy_that_failed_while_its_data_was_under_way(table: Table) -> None:
    begin(table, messages.query("copy in"))
    table.backend.say(b"G\0\0\0\x07\0\0\0")
    table.client.step()
    table.client.say(message(b"d", b"x" * 30000)[:20000])
    assert table.client.step() == PENDING
    table.backend.say(messages.error_response("ERROR", "22P04", "bad data") + Z)
    assert table.client.step() == PENDING, "a message is half sent"
    table.client.say(b"x" * 10005)
    assert table.client.step() == RELEASE
    assert table.client.heard.endswith(Z)


@pytest.mark.parametrize("who_ends", ["client", "server", "error"])
def test_copy_both_passes(table: Table, who_ends: str) -> None:
    """CopyBothResponse: both sides send until both have said CopyDone; the server is held until ReadyForQuery."""
    begin(table, messages.query("START_REPLICATION 0/0"))
    both = message(b"W", b"\0\0\0")
    data = message(b"d", b"w" * 300)
    table.backend.say(both)
    assert table.client.step() == PENDING
    for _ in range(5):
        table.backend.say(data)
        table.client.say(message(b"d", b"r" * 34))
        assert table.client.step() == PENDING
        assert table.backend.hear() == message(b"d", b"r" * 34)
    expected = both + data * 5
    table.client.say(messages.sync())  # ignored in a copy, so nothing is owed for it
    if who_ends == "error":
        end = messages.error_response("ERROR", "58P01", "requested WAL segment has been removed") + Z
        table.client.say(COPY_DONE)
    elif who_ends == "client":
        table.client.say(COPY_DONE)
        assert table.client.step() == PENDING
        assert table.backend.hear() == messages.sync() + COPY_DONE
        end = data + COPY_DONE + messages.command_complete("COPY 0") + Z
    else:
        table.backend.say(data + COPY_DONE)
        assert table.client.step() == PENDING
        table.client.say(COPY_DONE)
        assert table.client.step() == PENDING
        expected += data + COPY_DONE
        end = messages.command_complete("COPY 0") + Z
    table.client.step()
    table.backend.say(end)
    assert table.client.step() == RELEASE
    assert table.client.heard == expected + end
    # An error may have come before the Sync was read: then it is uncertain who is owed what.
    assert bool(table.server.is_reusable()) is (who_ends != "error")


def test_a_server_of_which_something_is_uncertain_is_not_quiet(table: Table) -> None:
    begin(table, messages.parse(b"", b"copy view") + messages.bind(b"", b"") + messages.execute() + messages.sync())
    table.client.say(COPY_DONE + messages.sync())
    table.client.step()
    table.backend.say(
        messages.PARSE_COMPLETE_MESSAGE + messages.BIND_COMPLETE_MESSAGE + b"G\0\0\0\x07\0\0\0"
        + messages.error_response("ERROR", "42809", "cannot copy to view") + Z
    )  # fmt: skip
    assert table.client.step() == RELEASE
    assert not table.server.is_reusable()


def on_our_own_account(table: Table, query: bytes) -> None:
    """Have ``query`` carried out for ourselves, before what the client asks."""
    table.client.say(messages.query("x1"))
    table.client.step()
    table.borrow()
    table.server.stream.write(query)
    table.server.replies.add(owed.QUERY | owed.SWALLOW)
    table.client.step()
    table.backend.work()


def test_what_is_swallowed_is_not_seen(table: Table) -> None:
    on_our_own_account(table, messages.query("set x"))
    assert table.client.step() == RELEASE
    assert kinds(tokens(table.client.heard)) == "TDCZ"


def test_a_refused_setting_ends_the_session(table: Table) -> None:
    on_our_own_account(table, messages.query("fail"))
    assert table.client.step() == SERVER_FAULT
    assert table.relay.errands.refusal is not None
    assert table.client.heard == b""


# What texts betray.


def tag(text: str) -> bytes:
    return messages.command_complete(text)


def start(table: Table, data: bytes) -> bytes:
    """The client says something, with a server if it needs one; what PostgreSQL gets."""
    table.client.say(data)
    if table.client.step() == NEED_SERVER:
        table.borrow()
        table.client.step()
    return table.backend.hear()


def answer(table: Table, data: bytes) -> str:
    """PostgreSQL says something; the types of what the client hears."""
    before = len(table.client.heard)
    table.backend.say(data)
    table.client.step()
    return "".join(kind for kind, _ in tokens(table.client.heard[before:]))


def prepare_by_sql(table: Table) -> bytes:
    """Have the client PREPARE p; the name the server knows it by."""
    sent = start(table, messages.query("PREPARE p AS SELECT 1"))
    found = re.search(rb"PREPARE (pgdoorman_\w+) AS SELECT 1", sent)
    assert found is not None, sent
    assert answer(table, tag("PREPARE") + Z) == "CZ"
    return found[1]


def ask_elsewhere(table: Table, engine: Engine, sql: str) -> Backend:
    """Have the client send a Query that another server gets than the one it had; that server."""
    table.client.give_back()
    other = Backend(engine, Settings())
    table.client.say(messages.query(sql))
    assert table.client.step() == NEED_SERVER
    table.client.borrow(other)
    table.client.step()
    return other


def test_a_prepare_in_front_of_execute_is_not_seen(table: Table, engine: Engine) -> None:
    name = prepare_by_sql(table)
    other = ask_elsewhere(table, engine, "SELECT 1; EXECUTE p")
    assert other.hear() == messages.query(
        "PREPARE " + name.decode() + " AS SELECT 1; SELECT 1; EXECUTE " + name.decode()
    )
    row = messages.row_description([("?", 23, 4)]) + messages.data_row([b"1"]) + tag("SELECT 1")
    table.client.heard = b""
    other.say(tag("PREPARE") + row + row + Z)
    table.client.step()
    assert [kind for kind, _ in tokens(table.client.heard)] == list("TDCTDCZ")
    # It is there now.
    table.client.say(messages.query("EXECUTE p"))
    table.client.step()
    assert other.hear() == messages.query("EXECUTE " + name.decode())
    other.close()


def test_one_that_fails_leaves_nothing_hidden(table: Table, engine: Engine) -> None:
    prepare_by_sql(table)
    other = ask_elsewhere(table, engine, "EXECUTE p")
    other.hear()
    table.client.heard = b""
    other.say(messages.error_response("ERROR", "42P01", "no such table") + Z)
    table.client.step()
    assert [kind for kind, _ in tokens(table.client.heard)] == list("EZ")
    # The client's own PREPARE is its own, and is told it.
    table.client.say(messages.query("PREPARE q AS SELECT 2"))
    table.client.step()
    assert b"SELECT 2" in other.hear()
    table.client.heard = b""
    other.say(tag("PREPARE") + Z)
    table.client.step()
    assert tokens(table.client.heard)[0] == ("C", b"PREPARE\0")
    assert set(table.link.statements.names) == {b"p", b"q"}
    other.close()


@pytest.mark.parametrize("consequence", ["26000", "25P02", "22012", None])
def test_the_error_of_a_parse_in_front_of_execute_is_that_of_the_query(
    table: Table, engine: Engine, consequence: str | None
) -> None:
    start(table, messages.parse(b"p", b"SELECT n FROM t") + messages.sync())
    assert answer(table, messages.PARSE_COMPLETE_MESSAGE + Z) == "1Z"
    other = ask_elsewhere(table, engine, "SELECT 1; EXECUTE p")
    assert [kind for kind, _ in names(other.hear())] == list("PSQ")
    table.client.heard = b""
    own = messages.error_response("ERROR", "42P01", "no such table")
    row = messages.row_description([("?", 23, 4)]) + messages.data_row([b"1"]) + tag("SELECT 1")
    end = b"" if consequence is None else messages.error_response("ERROR", consequence, "the Query's")
    for byte in own + Z + row + end + Z:
        other.say(bytes((byte,)))
        table.client.step()
    told = own if consequence in ("26000", "25P02") else end
    assert table.client.heard == row + told + Z
    # The next error is its own again.
    table.client.say(messages.query("SELECT 1"))
    table.client.step()
    table.client.borrow(other) if table.link.srv is None else None
    table.client.step()
    table.client.heard = b""
    other.say(messages.error_response("ERROR", "26000", "another") + Z)
    table.client.step()
    assert b"another" in table.client.heard and b"no such table" not in table.client.heard
    other.close()


def test_the_server_s_farewell_is_told_at_once(table: Table, engine: Engine) -> None:
    start(table, messages.parse(b"p", b"SELECT n FROM t") + messages.sync())
    assert answer(table, messages.PARSE_COMPLETE_MESSAGE + Z) == "1Z"
    other = ask_elsewhere(table, engine, "EXECUTE p")
    table.client.heard = b""
    other.say(messages.error_response("FATAL", "57P01", "terminating connection"))
    table.client.step()
    assert [kind for kind, _ in tokens(table.client.heard)] == ["E"]
    other.close()


def test_prepares_that_failed_are_not_taken_for_made(table: Table) -> None:
    def batch(text: bytes) -> bytes:
        return messages.parse(b"", text) + messages.bind(b"", b"") + messages.execute() + messages.sync()

    sent = start(table, batch(b"PREPARE a AS SELECT 1") + batch(b"PREPARE b AS SELECT 2"))
    assert b"SELECT 2" not in sent, "what it names may depend on the first"
    failed = messages.PARSE_COMPLETE_MESSAGE + messages.BIND_COMPLETE_MESSAGE
    assert answer(table, failed + messages.error_response("ERROR", "42P01", "no") + Z) == "12EZ"
    table.borrow() if table.link.srv is None else None
    table.client.step()
    assert b"SELECT 2" in table.backend.hear()
    assert answer(table, failed + tag("PREPARE") + Z) == "12CZ"
    assert set(table.link.statements.names) == {b"b"}


def test_a_flush_goes_behind_what_it_is_to_flush(table: Table) -> None:
    start(table, messages.query("begin"))
    answer(table, tag("BEGIN") + messages.ready_for_query(b"T"))
    prepared = [messages.parse(b"", b"DEALLOCATE p"), messages.bind(b"", b""), messages.execute()]
    sent = start(table, b"".join([*prepared, messages.parse(b"", b"EXECUTE p"), messages.sync()]))
    assert [kind for kind, _ in names(sent)] == list("PBEH")
    answer(
        table,
        messages.PARSE_COMPLETE_MESSAGE
        + messages.BIND_COMPLETE_MESSAGE
        + messages.error_response("ERROR", "26000", "no such statement"),
    )
    assert [kind for kind, _ in names(table.backend.hear())] == list("PS")


@pytest.mark.parametrize(
    ("said", "dirty"),
    [
        (["SET LOCAL work_mem = 1"], False),
        (["SET TRANSACTION READ ONLY"], False),
        (["SET work_mem = 1"], True),
        (["/* a */ SET work_mem = 1"], True),
        (["SELECT set_config('work_mem', '1', false)"], True),
        (["SELECT set_config('work_mem', '1', true)"], False),
    ],
)
def test_which_sets_last_is_told_by_their_texts(table: Table, said: list[str], dirty: bool) -> None:
    table.link.transparent = 1
    start(table, messages.query("begin"))
    answer(table, tag("BEGIN") + messages.ready_for_query(b"T"))
    for text in said:
        start(table, messages.query(text))
        answer(table, tag("SET" if "SET" in text else "SELECT 1") + messages.ready_for_query(b"T"))
    assert bool(table.server.dirty & DIRTY_PARAMETERS) == dirty
    assert table.link.batch.told_sets == 0


def test_a_set_that_failed_says_nothing_of_the_next_tag(table: Table) -> None:
    table.link.transparent = 1
    start(table, messages.query("begin"))
    answer(table, tag("BEGIN") + messages.ready_for_query(b"T"))
    start(table, messages.query("SET LOCAL work_mem = 'a lot'"))
    answer(table, messages.error_response("ERROR", "22023", "no") + messages.ready_for_query(b"E"))
    assert table.link.batch.told_sets == 0
    start(table, messages.query("rollback to s"))
    answer(table, tag("SET") + messages.ready_for_query(b"T"))  # from inside of something nobody looked into
    assert table.server.dirty & DIRTY_PARAMETERS


@pytest.mark.parametrize("size", [20000, 40000])
@pytest.mark.parametrize("cut", [0, 1, 3, 7, 11, 16, 17, 40])
def test_a_text_in_parts_is_looked_at_to_its_end(table: Table, size: int, cut: int) -> None:
    telling = b"SELECT pg_advisory_lock(1), set_config('a.b', 'c', false)"
    text = b"/* " + b"x" * size + b" */ " + telling
    data = messages.query(text)
    table.client.say(data[:10000])
    assert table.client.step() == NEED_SERVER
    table.borrow()
    table.client.step()
    for part in (data[10000 : len(data) - len(telling) + cut], data[len(data) - len(telling) + cut :]):
        table.client.say(part)
        table.client.step()
    assert table.backend.hear() == data
    wanted = DIRTY_LOCKS | DIRTY_PARAMETERS
    assert table.server.dirty & wanted == wanted
    assert table.link.notes().unnamed == POSSIBLE
    assert table.link.batch.cut is None


def test_data_is_not_taken_for_a_text(table: Table) -> None:
    start(table, messages.query("copy in"))
    answer(table, b"G\0\0\0\x09\0\0\x01\0\0")
    data = message(b"d", b"pg_advisory_lock set_config" * 2000)
    for at in range(0, len(data), 9000):
        start(table, data[at : at + 9000])
    assert table.server.dirty == 0


def test_options_beyond_the_number_that_is_remembered(table: Table) -> None:
    tracker = table.link.notes()
    start(table, messages.query("; ".join(f"SET a.b{n} = 1" for n in range(MAX_OPTIONS))))
    assert len(tracker.options) == MAX_OPTIONS and not tracker.unnamed
    start(table, messages.query("SET a.b1 = 1"))
    assert not tracker.unnamed
    start(table, messages.query("SET a.other = 1"))
    assert len(tracker.options) == MAX_OPTIONS and tracker.unnamed == POSSIBLE


def parts_of(relay: Relay) -> list[Any]:
    """All that a relay is made of, by name."""
    requests, responses, texts = relay.requests, relay.responses, relay.texts
    return [
        relay, relay.turn, relay.errands, texts, texts.deployment, requests.sqlprepare, requests.unnamed,
        requests.prepared, relay.leftovers, relay.reports, relay.client_end, relay.without_server, requests, responses,
        responses.error_responses,
    ]  # fmt: skip


def state_of(relay: Relay) -> dict[tuple[str, str], Any]:
    """The value of each attribute of each part, where it is one of those or made for a session, what it is."""
    found = {}
    for part in parts_of(relay):
        for name in dir(part):
            value = getattr(part, name)
            if name.startswith("_") or callable(value):
                continue
            made_for_it = isinstance(value, LinkStats | ClientStatements) or any(
                value is one for one in parts_of(relay)
            )
            found[type(part).__name__, name] = type(value) if made_for_it else value
    return found


def spoil(part: Any) -> None:
    """Have another value in whatever is no part of the relay."""
    for name in dir(part):
        before = getattr(part, name)
        if name.startswith("_") or callable(before) or type(before).__module__.startswith("pgdoorman_lib.client"):
            continue
        for value in (1 if not before else 0, b"spoilt", "spoilt", [1], {1}):
            with contextlib.suppress(TypeError, AttributeError):
                setattr(part, name, value)
                break


def test_a_relay_that_was_anothers_is_like_a_new_one(engine: Engine) -> None:
    first, second = Client(engine), Client(engine)
    wanted = state_of(Relay())
    used = first.relay
    for part in parts_of(used):
        if not isinstance(part, ClientEnd | Turn):  # a Deadline, which stands with a timer
            spoil(part)
    assert state_of(used) != wanted
    used.rest()
    assert state_of(used) == wanted
    assert relay_for(second.link) is used
    assert used.turn.link is second.link and used.turn.batch is second.link.batch
    first.close()
    second.close()
