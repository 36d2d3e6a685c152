"""The protocol through transaction pooling: replies in PostgreSQL's order, whatever is sent and however it is cut."""

from __future__ import annotations

import random
import struct
import threading
from collections.abc import Callable

import psycopg
import pytest
from eventually import eventually
from fix_doorman import Doorman, MakeDoorman, until_idle
from fix_postgres import Postgres
from fix_proxy import MakeProxy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pace import patience
from wire_client import (
    COPY_DONE,
    FLUSH,
    SYNC,
    WireClient,
    bind,
    close_portal,
    close_statement,
    copy_data,
    copy_fail,
    cstring,
    describe_portal,
    describe_statement,
    execute,
    function_call,
    kinds,
    message,
    normal,
    parse,
    prepared,
    query,
)

MB = 1 << 20


def both(doorman: Doorman, postgres: Postgres, data: bytes, ready: int = 1) -> str:
    """Send to PostgreSQL and through the pooler; the replies must be equal; their types."""
    with postgres.wire() as direct, doorman.wire() as pooled:
        expected = direct.ask(data, ready)
        assert normal(pooled.ask(data, ready)) == normal(expected)
        # And nothing comes after that.
        assert normal(pooled.ask_query("SELECT 'end'")) == normal(direct.ask_query("SELECT 'end'"))
        return kinds(m for m in expected if m.kind != "S")


# -- simple protocol


@pytest.mark.parametrize(
    ("sql", "types"),
    [
        ("SELECT 1", "TDCZ"),
        ("", "IZ"),
        (" ;; ", "IZ"),
        ("-- nothing", "IZ"),
        ("SELECT 1; SELECT 2, 3", "TDCTDCZ"),
        ("SELECT 1; SELECT 1/0; SELECT 2", "TDCEZ"),
        ("SELECT generate_series(1, 5)", "TDDDDDCZ"),
        ("SELECT WHERE false", "TCZ"),
        ("BEGIN; SELECT 1; COMMIT", "CTDCCZ"),
        ("BEGIN; SELECT 1/0; COMMIT", "CEZ"),
        ("selec", "EZ"),
        ("DO $$ BEGIN RAISE NOTICE 'hello'; END $$", "NCZ"),
        ("SELECT 'ä', E'\\n', NULL, repeat('x', 70000)", "TDCZ"),
        ("CREATE TEMP TABLE t_gone (a int) ON COMMIT DROP; INSERT INTO t_gone VALUES (1)", "CEZ"),
        ("VACUUM pg_class; SELECT 1", "EZ"),
    ],
)
def test_simple_query(doorman: Doorman, postgres: Postgres, sql: str, types: str) -> None:
    seen = both(doorman, postgres, query(sql))
    if "VACUUM" not in sql and "t_gone" not in sql:
        assert seen == types


def test_simple_queries_sent_together(doorman: Doorman, postgres: Postgres) -> None:
    data = query("SELECT 1") + query("") + query("SELECT 1/0") + query("BEGIN") + query("SELECT 2") + query("COMMIT")
    assert both(doorman, postgres, data, 6) == "TDCZIZEZCZTDCZCZ"


# -- extended protocol

BATCHES: dict[str, tuple[bytes, int, str]] = {
    "a query as drivers send it": (prepared("", "SELECT $1::int", [b"7"]), 1, "12TDCZ"),
    "nothing but Sync": (SYNC, 1, "Z"),
    "several Syncs": (SYNC * 3, 3, "ZZZ"),
    "no rows": (prepared("", "SET search_path = public"), 1, "12nCZ"),
    "an empty statement": (prepared("", ""), 1, "12nIZ"),
    "describe statement": (parse("", "SELECT $1::int, $2::text") + describe_statement("") + SYNC, 1, "1tTZ"),
    "many in one Sync": (
        b"".join(parse("", f"SELECT {i}") + bind("", "") + execute() for i in range(50)) + SYNC,
        1,
        "12DC" * 50 + "Z",
    ),
    "many Syncs at once": (b"".join(prepared("", f"SELECT {i}") for i in range(50)), 50, "12TDCZ" * 50),
    "an error drops the rest to Sync": (
        prepared("", "SELECT 1/($1::int)", [b"0"])[:-5] + prepared("", "SELECT 1"),
        1,
        "12TEZ",
    ),
    "an error, then the next batch": (
        parse("", "selec") + bind("", "") + execute() + SYNC + prepared("", "SELECT 1"),
        2,
        "EZ12TDCZ",
    ),
    "a parse error drops a Close, a Flush and a Query": (
        parse("", "selec") + close_statement("x") + FLUSH + query("SELECT 1") + SYNC,
        1,
        "EZ",
    ),
    "portals in parts": (
        parse("", "SELECT generate_series(1, 5)")
        + bind("", "")
        + execute("", 2)
        + execute("", 2)
        + execute("", 2)
        + SYNC,
        1,
        "12DDsDDsDCZ",
    ),
    "a named portal": (
        parse("", "SELECT 1")
        + bind("p", "")
        + describe_portal("p")
        + execute("p")
        + close_portal("p")
        + execute("p")
        + SYNC,
        1,
        "12TDC3EZ",
    ),
    "an unknown statement": (bind("", "unknown") + execute() + SYNC, 1, "EZ"),
    "an unknown portal": (execute("unknown") + SYNC, 1, "EZ"),
    "describe of the unknown": (describe_statement("unknown") + SYNC, 1, "EZ"),
    "close of the unknown": (close_statement("unknown") + close_portal("unknown") + SYNC, 1, "33Z"),
    "binary results": (
        parse("", "SELECT 258::int4") + bind("", "", result_format=1) + describe_portal() + execute() + SYNC,
        1,
        "12TDCZ",
    ),
    "wrong number of parameters": (parse("", "SELECT $1::int") + bind("", "") + execute() + SYNC, 1, "1EZ"),
    "a parameter that is no int": (prepared("", "SELECT $1::int", [b"x"]), 1, "1EZ"),
    "a null parameter": (prepared("", "SELECT $1::int", [None]), 1, "12TDCZ"),
    "types given": (parse("", "SELECT $1", [23]) + describe_statement("") + SYNC, 1, "1tTZ"),
    "begin and commit in batches": (
        prepared("", "BEGIN")
        + prepared("", "SELECT 1")
        + prepared("", "SELECT 1/0")
        + prepared("", "SELECT 2")
        + prepared("", "COMMIT"),
        5,
        "12nCZ12TDCZEZEZ12nCZ",
    ),
    "begin and commit in one batch": (
        b"".join(parse("", s) + bind("", "") + execute() for s in ("BEGIN", "SELECT 1", "COMMIT")) + SYNC,
        1,
        "12C12DC12CZ",
    ),
    "simple and extended mixed": (
        prepared("", "SELECT 1") + query("SELECT 2") + prepared("", "SELECT 3"),
        3,
        "12TDCZTDCZ12TDCZ",
    ),
    "a query ends an open batch": (
        parse("", "SELECT 1") + bind("", "") + execute() + query("SELECT 2") + SYNC,
        2,
        "12DCTDCZZ",
    ),
    "savepoints": (
        query("BEGIN")
        + query("SAVEPOINT a")
        + query("SELECT 1/0")
        + query("ROLLBACK TO a")
        + query("SELECT 1")
        + query("COMMIT"),
        6,
        "CZCZEZCZTDCZCZ",
    ),
    "notices in between": (
        prepared("", "SELECT 1") + query("DO $$ BEGIN RAISE NOTICE 'x'; RAISE WARNING 'y'; END $$"),
        2,
        "12TDCZNNCZ",
    ),
}


@pytest.mark.parametrize("name", BATCHES)
def test_extended_batch(doorman: Doorman, postgres: Postgres, name: str) -> None:
    data, ready, types = BATCHES[name]
    seen = both(doorman, postgres, data, ready)
    if name not in ("begin and commit in batches", "an error drops the rest to Sync"):
        assert seen == types


@pytest.mark.parametrize("piece", [1, 2, 3, 5, 7])
def test_batches_dribbled(doorman: Doorman, postgres: Postgres, piece: int) -> None:
    """Every batch on one connection, a few bytes at a time."""
    with postgres.wire() as direct, doorman.wire() as pooled:
        for name, (data, ready, _) in BATCHES.items():
            pooled.dribble(data, piece)
            assert normal(pooled.read_ready(ready)) == normal(direct.ask(data, ready)), name


def test_a_batch_split_at_every_boundary(doorman: Doorman, postgres: Postgres) -> None:
    data = prepared("s", "SELECT $1::text", [b"x" * 20]) + query("SELECT 2") + close_statement("s") + SYNC
    with postgres.wire() as direct, doorman.wire() as pooled:
        expected = normal(direct.ask(data, 3))
        for cut in range(1, len(data)):
            pooled.send(data[:cut])
            # Let the first part arrive alone: a byte has been answered, or none can be.
            pooled.is_quiet(0.001)
            pooled.send(data[cut:])
            assert normal(pooled.read_ready(3)) == expected, cut


@pytest.mark.parametrize("side", ["client", "server"])
def test_byte_by_byte_through_a_slow_network(
    doorman: Doorman, postgres: Postgres, make_doorman: MakeDoorman, make_proxy: MakeProxy, side: str
) -> None:
    """Also the login, on either side of the pooler, comes in pieces of one byte."""
    if side == "client":
        proxy = make_proxy((doorman.host, doorman.port))
        address = (proxy.host, proxy.port)
    else:
        proxy = make_proxy((postgres.host, postgres.port))
        slow = make_doorman({"pools": {"testdb": {"server_host": proxy.host, "server_port": proxy.port}}})
        address = (slow.host, slow.port)
    proxy.piece = 1
    with WireClient(address) as client, postgres.wire() as direct:
        client.login("app", "testdb", postgres.password("app"))
        for name, (data, ready, _) in BATCHES.items():
            assert normal(client.ask(data, ready)) == normal(direct.ask(data, ready)), name


@given(cuts=st.lists(st.integers(1, 4000), max_size=12), order=st.permutations(list(BATCHES)))
@settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_batches_in_any_order_cut_anywhere(
    doorman: Doorman, postgres: Postgres, cuts: list[int], order: list[str]
) -> None:
    chosen = order[:6]
    data = b"".join(BATCHES[name][0] for name in chosen)
    ready = sum(BATCHES[name][1] for name in chosen)
    with postgres.wire() as direct, doorman.wire() as pooled:
        start = 0
        for cut in sorted(cuts):
            pooled.send(data[start:cut])
            start = max(start, cut)
        pooled.send(data[start:])
        assert normal(pooled.read_ready(ready)) == normal(direct.ask(data, ready))


# -- Flush


def test_flush_brings_the_replies_before_sync(doorman: Doorman, postgres: Postgres) -> None:
    """At every Flush what is due so far has come, and no more; the server is held until the Sync."""
    steps = [
        (parse("f", "SELECT generate_series(1, $1::int)") + FLUSH, 1),
        (describe_statement("f") + FLUSH, 2),
        (bind("", "f", [b"3"]) + FLUSH, 1),
        (execute("", 2) + FLUSH, 3),
        (FLUSH, 0),
        (execute("", 0) + FLUSH, 2),
        (close_statement("f") + FLUSH, 1),
        (SYNC, 1),
    ]
    with postgres.wire() as direct, doorman.wire() as pooled:
        for data, count in steps:
            direct.send(data)
            pooled.send(data)
            assert normal([pooled.read() for _ in range(count)]) == normal([direct.read() for _ in range(count)])
        assert pooled.value("SELECT 'end'") == "end"


def test_flush_after_an_error_brings_the_error_and_then_nothing(doorman: Doorman) -> None:
    with doorman.wire() as client:
        client.send(parse("", "selec") + bind("", "") + execute() + FLUSH)
        assert client.read().sqlstate == "42601"
        client.send(parse("", "SELECT 1") + FLUSH)
        assert client.is_quiet()
        client.send(SYNC)
        assert kinds(client.read_ready()) == "Z"
        assert kinds(client.ask(prepared("", "SELECT 1"))) == "12TDCZ"


def test_flush_in_a_batch_with_no_sync_holds_only_its_own_server(doorman: Doorman) -> None:
    with doorman.wire("twodb") as holder, doorman.wire("twodb") as other:
        holder.send(parse("", "SELECT 1") + bind("", "") + execute() + FLUSH)
        assert kinds(holder.read() for _ in range(4)) == "12DC"
        assert kinds(other.ask(prepared("", "SELECT 2"))) == "12TDCZ"
        holder.send(SYNC)
        assert kinds(holder.read_ready()) == "Z"


# -- COPY


@pytest.fixture
def copied(doorman: Doorman) -> str:
    with doorman.connect() as connection:
        connection.execute("DROP TABLE IF EXISTS copied")
        connection.execute("CREATE TABLE copied (a text)")
    return "copied"


def test_copy_in_and_out(doorman: Doorman, copied: str) -> None:
    with doorman.wire() as client:
        client.send(query(f"COPY {copied} FROM STDIN"))
        assert client.read().kind == "G"
        for i in range(5000):
            client.send(copy_data(b"line %d\n" % i))
        client.send(COPY_DONE)
        assert [m.tag for m in client.read_ready() if m.kind == "C"] == ["COPY 5000"]
        out = client.ask_query(f"COPY {copied} TO STDOUT")
        assert kinds(out) == "H" + "d" * 5000 + "cCZ"
        assert b"".join(m.body for m in out if m.kind == "d") == b"".join(b"line %d\n" % i for i in range(5000))


def test_copy_data_cut_anywhere(doorman: Doorman, copied: str) -> None:
    """A CopyData need not be a line; and its message need not come in one piece."""
    with doorman.wire() as client:
        client.send(query(f"COPY {copied} FROM STDIN"))
        assert client.read().kind == "G"
        client.dribble(copy_data(b"one\nt") + copy_data(b"") + copy_data(b"wo\n") + COPY_DONE, 3)
        assert kinds(client.read_ready()) == "CZ"
        assert client.value(f"SELECT string_agg(a, ',') FROM {copied}") == "one,two"


def test_copy_fail(doorman: Doorman, copied: str) -> None:
    with doorman.wire() as client:
        client.send(query(f"COPY {copied} FROM STDIN"))
        assert client.read().kind == "G"
        client.send(copy_data(b"one\n") + copy_fail("changed my mind"))
        answer = client.read_ready()
        assert kinds(answer) == "EZ"
        assert answer[0].sqlstate == "57014"
        assert "changed my mind" in answer[0].fields["M"]
        assert client.value(f"SELECT count(*) FROM {copied}") == "0"


def test_an_error_in_copied_data_while_more_of_it_comes(doorman: Doorman) -> None:
    """The server has failed and says so; what the client still sends of the COPY is dropped, the next query is not."""
    with doorman.wire() as client:
        client.send(query("CREATE TABLE IF NOT EXISTS copied_int (a int)"))
        client.read_ready()
        client.send(query("COPY copied_int FROM STDIN"))
        assert client.read().kind == "G"
        client.send(copy_data(b"no number\n"))
        for _ in range(2000):
            client.send(copy_data(b"1\n" * 50))
        client.send(COPY_DONE)
        answer = client.read_ready()
        assert kinds(answer) == "EZ"
        assert answer[0].sqlstate == "22P02"
        assert client.value("SELECT 'next'") == "next"


def test_copy_by_the_extended_protocol(doorman: Doorman, postgres: Postgres, copied: str) -> None:
    data = parse("", f"COPY {copied} FROM STDIN") + bind("", "") + execute() + SYNC
    rest = copy_data(b"x\n") + COPY_DONE + SYNC
    out = parse("", f"COPY {copied} TO STDOUT") + bind("", "") + execute() + SYNC
    with postgres.wire() as direct, doorman.wire() as pooled:
        # The Sync inside is eaten by COPY, as the docs have it; the one behind CopyDone ends the batch.
        for client in (direct, pooled):
            client.send(data)
        assert kinds(direct.read() for _ in range(3)) == kinds(pooled.read() for _ in range(3)) == "12G"
        for client in (direct, pooled):
            client.send(rest)
        assert normal(pooled.read_ready()) == normal(direct.read_ready())
        assert pooled.value(f"SELECT count(*) FROM {copied}") == "2"
        assert normal(pooled.ask(out)) == normal(direct.ask(out))


def test_copy_messages_outside_copy_are_ignored(doorman: Doorman, postgres: Postgres) -> None:
    """PostgreSQL: "CopyData, CopyDone, CopyFail: ignored in this state"."""
    assert both(doorman, postgres, copy_data(b"x") + COPY_DONE + copy_fail("x") + query("SELECT 1")) == "TDCZ"


def test_a_client_lost_in_copy_leaves_nothing_behind(doorman: Doorman, postgres: Postgres, copied: str) -> None:
    with doorman.wire() as client:
        client.send(query(f"COPY {copied} FROM STDIN"))
        assert client.read().kind == "G"
        client.send(copy_data(b"half a li"))
    until_idle(doorman)
    assert all(b["state"] == "idle" for b in postgres.backends())
    with doorman.wire() as other:
        assert other.value(f"SELECT count(*) FROM {copied}") == "0"


# -- other messages


def test_function_call(doorman: Doorman, postgres: Postgres) -> None:
    oid = int(postgres.rows("SELECT 'int4pl(int4,int4)'::regprocedure::oid AS oid")[0]["oid"])
    assert both(doorman, postgres, function_call(oid, [b"40", b"2"])) == "VZ"
    assert both(doorman, postgres, function_call(oid, [b"40"])) == "EZ"
    assert both(doorman, postgres, function_call(1, [])) == "EZ"
    assert both(doorman, postgres, function_call(oid, [b"1", b"2"]) + prepared("", "SELECT 1"), 2) == "VZ12TDCZ"


def test_notify_within_a_session(doorman: Doorman) -> None:
    with doorman.wire("sessiondb") as listener, doorman.wire() as notifier:
        listener.ask_query("LISTEN channel")
        notifier.ask_query("NOTIFY channel, 'hello'")
        got = listener.read()
        assert got.kind == "A"
        assert got.body[4:] == b"channel\0hello\0"
        assert kinds(listener.ask_query("NOTIFY channel, 'own'")) in ("CAZ", "CZA")


def test_parameter_status_is_passed_on(doorman: Doorman) -> None:
    with doorman.wire() as client:
        answer = client.ask_query("SET application_name = 'renamed'")
        assert "S" in kinds(answer)
        assert next(m.body for m in answer if m.kind == "S") == b"application_name\0renamed\0"


# -- what is no protocol


@pytest.mark.parametrize(
    "data",
    [
        b"Q" + struct.pack("!i", 3),
        b"Q" + struct.pack("!i", -1),
        b"Q" + struct.pack("!i", 1 << 30) + b"x",
        b"Q" + struct.pack("!I", 0xFFFFFFFF),
        b"?" + struct.pack("!i", 4),
        b"\0" * 10,
        b"y" + struct.pack("!i", 8) + b"abcd",
        b"\x80" + struct.pack("!i", 4),
        message("P", b""),
        message("P", b"no end"),
        message("B", b"\0"),
        message("D", b""),
        message("D", b"S"),
        message("D", b"Sno end"),
        message("C", b""),
        message("E", b""),
        message("Q", b""),
        message("Q", b"no end"),
        message("P", cstring("n") + cstring("SELECT 1") + struct.pack("!h", 99)),
        message("B", cstring("") + cstring("") + struct.pack("!h", 32767)),
    ],
    ids=repr,
)
def test_garbage_in_a_session(doorman: Doorman, data: bytes) -> None:
    """08P01 or another ErrorResponse (or PostgreSQL's own); the bystander on the same pool is unharmed."""
    with doorman.wire() as bystander, doorman.wire() as client:
        bystander.ask_query("BEGIN")
        client.send(data + SYNC)
        answer = client.read_until("E")[-1]
        assert answer.sqlstate in ("08P01", "42601", "26000", "22021", "XX000", "53200")
        assert bystander.value("SELECT 1") == "1"
        bystander.ask_query("COMMIT")
    until_idle(doorman)


def test_a_describe_of_neither_kind_is_a_protocol_violation(doorman: Doorman) -> None:
    with doorman.wire() as client:
        client.send(message("D", b"Xname\0") + SYNC)
        assert client.read().sqlstate == "08P01"


messages_of_any_kind = st.one_of(
    st.binary(max_size=60),
    st.builds(
        lambda kind, body: message(kind, body), st.sampled_from(list("PBDECHSQFdcfp?Xx")), st.binary(max_size=40)
    ),
    st.sampled_from([SYNC, FLUSH, query("SELECT 1"), parse("a", "SELECT 1"), bind("", "a"), execute(), query("BEGIN")]),
)


@given(parts=st.lists(messages_of_any_kind, min_size=1, max_size=8))
@settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_random_messages_leave_the_process_and_others_alone(doorman: Doorman, parts: list[bytes]) -> None:
    with doorman.wire("twodb") as client:
        try:
            client.send(b"".join(parts))
            client.is_quiet(0.005)
            client.socket.shutdown(1)
        except OSError:
            pass
        data = client.read_to_end()
        # What comes is well-formed to its end.
        offset = 0
        while offset < len(data):
            (length,) = struct.unpack_from("!i", data, offset + 1)
            assert length >= 4
            offset += 1 + length
        assert offset == len(data)


def test_after_random_messages_the_pool_is_whole(doorman: Doorman, postgres: Postgres) -> None:
    rng = random.Random(5)
    pieces = [
        SYNC,
        FLUSH,
        query("BEGIN"),
        query("SELECT 1/0"),
        parse("", "SELECT 1"),
        bind("", ""),
        execute(),
        query("COPY pg_class TO STDOUT"),
        query("SELECT generate_series(1, 20000)"),
        b"Q",
        b"\0\0",
    ]
    for _ in range(60):
        with doorman.wire("twodb") as client:
            client.send(b"".join(rng.choices(pieces, k=rng.randrange(1, 9))))
    until_idle(doorman, "twodb")
    clients = [doorman.wire("twodb") for _ in range(2)]
    for client in clients:
        assert kinds(client.ask_query("BEGIN")) == "CZ"
        assert client.value("SELECT 1") == "1"
    for client in clients:
        client.ask_query("COMMIT")
        client.close()
    assert all(b["state"] == "idle" for b in postgres.backends())


# -- size


def test_a_large_row_and_a_large_parameter(doorman: Doorman) -> None:
    large_through(doorman, 20 * MB, bound=64 * MB)


@pytest.mark.slow
def test_a_huge_row_and_a_huge_parameter(doorman: Doorman) -> None:
    large_through(doorman, 100 * MB, bound=64 * MB)


def large_through(doorman: Doorman, size: int, bound: int) -> None:
    """One row and one parameter of ``size`` bytes; meanwhile the pooler grows by less than ``bound``."""
    with doorman.wire() as client:
        client.timeout = patience(50)
        assert client.value("SELECT 1") == "1"
        before = doorman.peak_rss()
        value = client.value(f"SELECT repeat('x', {size})")
        assert value is not None
        assert len(value) == size
        answer = client.ask(prepared("", "SELECT length($1::text), md5($1)", [b"y" * size]))
        assert kinds(answer) == "12TDCZ"
        assert answer[3].columns[0] == str(size).encode()
        assert client.value("SELECT 'after'") == "after"
        if size > bound:
            assert doorman.peak_rss() - before < bound
        else:
            assert doorman.peak_rss() - before < size + bound


def test_memory_does_not_stay_after_large_messages(doorman: Doorman) -> None:
    """Section 8, item 11: buffers do not keep their largest size, whoever had it."""
    clients = [doorman.wire() for _ in range(8)]
    try:
        for client in clients:
            assert len(client.value(f"SELECT repeat('x', {4 * MB})") or "") == 4 * MB
        before = doorman.rss()
        for _ in range(3):
            for client in clients:
                assert len(client.value(f"SELECT repeat('x', {4 * MB})") or "") == 4 * MB
        assert doorman.rss() - before < 16 * MB
    finally:
        for client in clients:
            client.close()


def test_a_large_simple_query(doorman: Doorman) -> None:
    with doorman.wire() as client:
        assert client.value("SELECT length('" + "z" * (3 * MB) + "')") == str(3 * MB)


def test_a_large_parse_under_a_name(doorman: Doorman) -> None:
    """The text of a statement is looked into, however long it is."""
    with doorman.wire() as client:
        sql = "SELECT length('" + "z" * (2 * MB) + "')"
        assert kinds(client.ask(prepared("big", sql))) == "12TDCZ"
        assert kinds(client.ask(bind("", "big") + execute() + SYNC)) == "2DCZ"


def test_many_rows(doorman: Doorman) -> None:
    with doorman.connect() as connection:
        rows = connection.execute("SELECT i, repeat('r', i % 100) FROM generate_series(1, 200000) i").fetchall()
        assert len(rows) == 200000
        assert rows[-1] == (200000, "")


def test_a_pipeline_larger_than_all_buffers_does_not_deadlock(doorman: Doorman) -> None:
    """The client sends without reading while replies come back: both directions stay alive."""
    batch = prepared("", "SELECT repeat('x', 10000)")
    count = 3000
    with doorman.wire() as client:
        client.timeout = patience(40)
        failure: list[BaseException] = []

        def send() -> None:
            try:
                for _ in range(count):
                    client.socket.sendall(batch)
            except BaseException as exc:
                failure.append(exc)

        client.socket.settimeout(patience(40))
        sender = threading.Thread(target=send)
        sender.start()
        answers = client.read_ready(count)
        sender.join(patience(40))
        assert not failure
        assert kinds(answers) == "12TDCZ" * count


@pytest.mark.parametrize("direction", ["out", "in"])
def test_much_at_once_through_small_sockets(make_doorman: MakeDoorman, direction: str) -> None:
    """Sockets are full most of the time and have room again at any moment: nobody is forgotten then."""
    doorman = make_doorman({"general": {"tcp_socket_buffer_size": 32768}})
    failures: list[str] = []

    def work() -> None:
        try:
            with doorman.wire() as client:
                client.timeout = patience(20)
                for _ in range(6):
                    if direction == "out":
                        client.send(query("COPY (SELECT repeat('x', 1000) FROM generate_series(1, 4000)) TO STDOUT"))
                        assert client.read().kind == "H"
                        client.read_exact(4000 * 1006)
                        assert kinds(client.read_ready()) == "cCZ"
                    else:
                        assert client.value(f"SELECT length('{'x' * 4_000_000}')") == "4000000"
        except BaseException as exc:
            failures.append(repr(exc))

    threads = [threading.Thread(target=work) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(patience(60))
    assert not failures


def test_a_client_that_does_not_read_stops_nobody_else(doorman: Doorman) -> None:
    with doorman.wire() as slow:
        slow.send(query("SELECT repeat('x', 1000) FROM generate_series(1, 100000)"))
        with doorman.wire() as other:
            for _ in range(50):
                assert other.value("SELECT 1") == "1"
        # And when it reads at last, everything is there.
        assert kinds(slow.read_ready()) == "T" + "D" * 100000 + "CZ"


@pytest.mark.parametrize("where", ["before", "within a row", "within a parse"])
def test_a_client_that_goes_in_the_middle(doorman: Doorman, postgres: Postgres, where: str) -> None:
    """Section 8, item 10: whatever was half said, the server comes back in order or is closed."""
    say: dict[str, Callable[[WireClient], None]] = {
        "before": lambda c: c.send(query("SELECT pg_sleep(0.2), repeat('x', 1000000)")),
        "within a row": lambda c: (c.send(query("SELECT repeat('x', 20000000)")), c.read_exact(100_000))[0],
        "within a parse": lambda c: c.send(query("BEGIN") + parse("", "SELECT 1")[:-3]),
    }
    for _ in range(5):
        with doorman.wire("onedb") as client:
            say[where](client)
    with doorman.wire("onedb") as after:
        assert kinds(after.ask(prepared("", "SELECT 1"))) == "12TDCZ"
    until_idle(doorman, "onedb")
    eventually(lambda: all(b["state"] == "idle" for b in postgres.backends()))


def test_psycopg_pipeline_and_plain_agree(doorman: Doorman) -> None:
    with doorman.connect() as connection, connection.pipeline() as pipeline:
        cursors = [connection.execute("SELECT %s::int", (i,)) for i in range(500)]
        pipeline.sync()
        assert [c.fetchone() for c in cursors] == [(i,) for i in range(500)]
        with pytest.raises(psycopg.errors.DivisionByZero):
            connection.execute("SELECT 1/0").fetchone()
        pipeline.sync()
        assert connection.execute("SELECT 1").fetchone() == (1,)
