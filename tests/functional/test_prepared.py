"""Prepared statements under transaction pooling: they belong to the client, whichever server it gets."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from eventually import eventually
from fix_doorman import WORKERS, Doorman, app_pool, until_idle
from fix_postgres import Postgres
from pace import patience
from wire_client import (
    FLUSH,
    SYNC,
    WireClient,
    bind,
    bound,
    close_statement,
    describe_portal,
    describe_statement,
    execute,
    kinds,
    normal,
    parse,
    prepared,
    query,
)


@pytest.fixture(scope="module")
def doorman_over(postgres: Postgres) -> Mapping[str, Any]:
    return {
        "pools": {
            "tinyone": app_pool(postgres, 1, prepared_statements_cache_size=2),
            "tinytwo": app_pool(postgres, 2, prepared_statements_cache_size=2),
            "tinyserver": app_pool(postgres, 1, server_prepared_statements_cache_size=2),
        }
    }


@contextlib.contextmanager
def elsewhere(doorman: Doorman, database: str, count: int = 1) -> Iterator[None]:
    """Meanwhile ``count`` servers of the pool are in others' hands."""
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            other = stack.enter_context(doorman.wire(database))
            assert kinds(other.ask_query("BEGIN")) == "CZ"
        yield


def server_pid(client: WireClient) -> int:
    return int(client.value("SELECT pg_backend_pid()") or 0)


def force_other_server(doorman: Doorman, client: WireClient, database: str = "twodb") -> contextlib.ExitStack:
    """Have somebody else hold the server this client would get, until the returned stack is closed."""
    stack = contextlib.ExitStack()
    avoid = server_pid(client)
    for _ in range(2):
        other = stack.enter_context(doorman.wire(database))
        assert kinds(other.ask_query("BEGIN")) == "CZ"
        if server_pid(other) == avoid:
            return stack
        # It holds the one we want to stay free: the next takes ours, then this one lets go.
        holder = stack.enter_context(doorman.wire(database))
        assert kinds(holder.ask_query("BEGIN")) == "CZ"
        assert server_pid(holder) == avoid
        other.ask_query("ROLLBACK")
        return stack
    raise AssertionError("unreachable")


def server_statements(doorman: Doorman, database: str = "onedb") -> list[tuple[str, str]]:
    """What lives on the server of a one-server pool: (name, text)."""
    with doorman.wire(database) as client:
        rows = client.ask_query("SELECT name, statement FROM pg_prepared_statements ORDER BY name")
        return [tuple((c or b"").decode() for c in m.columns) for m in rows if m.kind == "D"]  # type: ignore[misc]


# -- across servers


@pytest.mark.parametrize("name", ["", "named"])
def test_a_statement_follows_its_client(doorman: Doorman, name: str) -> None:
    with doorman.wire("twodb") as client:
        assert kinds(client.ask(parse(name, "SELECT $1::int + pg_backend_pid() * 0") + SYNC)) == "1Z"
        first = client
        stack = force_other_server(doorman, first) if name else contextlib.ExitStack()
        with stack:
            if not name:
                # A simple query would end the unnamed statement, so the server is taken blindly.
                stack.enter_context(elsewhere(doorman, "twodb"))
            for value in (b"1", b"41"):
                answer = client.ask(bound(name, [value]))
                assert kinds(answer) == "2DCZ"
                assert answer[1].columns == [value]
            answer = client.ask(describe_statement(name) + SYNC)
            assert kinds(answer) == "tTZ"


def test_two_clients_same_name_different_statements(doorman: Doorman) -> None:
    with doorman.wire("onedb") as one, doorman.wire("onedb") as two:
        assert kinds(one.ask(parse("s", "SELECT 'one'::text") + SYNC)) == "1Z"
        assert kinds(two.ask(parse("s", "SELECT 'two'::text, 2") + SYNC)) == "1Z"
        for _ in range(3):
            assert one.ask(bound("s"))[1].columns == [b"one"]
            assert two.ask(bound("s"))[1].columns == [b"two", b"2"]


def test_two_clients_unnamed_statements(doorman: Doorman) -> None:
    with doorman.wire("onedb") as one, doorman.wire("onedb") as two:
        assert kinds(one.ask(parse("", "SELECT 'one'::text") + SYNC)) == "1Z"
        assert kinds(two.ask(parse("", "SELECT 'two'::text, 2") + SYNC)) == "1Z"
        for _ in range(3):
            assert one.ask(bound(""))[1].columns == [b"one"]
            assert two.ask(bound(""))[1].columns == [b"two", b"2"]


def test_a_statement_of_another_client_is_unknown(doorman: Doorman) -> None:
    with doorman.wire("onedb") as one, doorman.wire("onedb") as two:
        one.ask(parse("mine", "SELECT 1") + SYNC)
        answer = two.ask(bound("mine"))
        assert kinds(answer) == "EZ"
        assert answer[0].sqlstate == "26000"
        assert "mine" in answer[0].fields["M"]
        # Nor does our own name for it open the door.
        for name, _ in server_statements(doorman):
            assert kinds(two.ask(bound(name))) == "EZ"


def test_statements_live_on_the_server_under_our_names_and_are_shared(doorman: Doorman) -> None:
    sql = "SELECT 'shared by many'"
    clients = [doorman.wire("onedb") for _ in range(5)]
    for i, client in enumerate(clients):
        assert kinds(client.ask(prepared(f"name{i}", sql))) == "12TDCZ"
    ours = [name for name, text in server_statements(doorman) if text == sql]
    assert 1 <= len(ours) <= WORKERS  # each worker has asked for itself what it means
    assert ours[0].startswith("pgdoorman_")
    for client in clients:
        client.close()


def test_same_text_other_types_is_another_statement(doorman: Doorman, postgres: Postgres) -> None:
    with doorman.wire("onedb") as client, postgres.wire() as direct:
        for one in (client, direct):
            one.ask(parse("as_int", "SELECT $1", [23]) + parse("as_text", "SELECT $1", [25]) + SYNC)
        for name in ("as_int", "as_text"):
            data = describe_statement(name) + SYNC
            assert normal(client.ask(data)) == normal(direct.ask(data))


def test_a_duplicate_name_is_refused_as_postgresql_does(doorman: Doorman) -> None:
    with doorman.wire("onedb") as client:
        client.ask(parse("d", "SELECT 1") + SYNC)
        for sql in ("SELECT 1", "SELECT 2"):
            answer = client.ask(parse("d", sql) + bind("", "d") + execute() + SYNC)
            assert kinds(answer) == "EZ"
            assert answer[0].sqlstate == "42P05"
        assert client.ask(bound("d"))[1].columns == [b"1"]
        # Freed, the name is free.
        assert kinds(client.ask(close_statement("d") + parse("d", "SELECT 2") + SYNC)) == "31Z"
        assert client.ask(bound("d"))[1].columns == [b"2"]
        # The unnamed one may be replaced at will.
        assert kinds(client.ask(parse("", "SELECT 3") + parse("", "SELECT 4") + SYNC)) == "11Z"
        assert client.ask(bound(""))[1].columns == [b"4"]


def test_a_closed_statement_is_gone(doorman: Doorman) -> None:
    with doorman.wire("onedb") as client:
        client.ask(parse("c", "SELECT 1") + SYNC)
        assert kinds(client.ask(close_statement("c") + SYNC)) == "3Z"
        answer = client.ask(bound("c"))
        assert [m.sqlstate for m in answer if m.kind == "E"] == ["26000"]


def test_a_simple_query_ends_the_unnamed_statement(doorman: Doorman, postgres: Postgres) -> None:
    """PostgreSQL docs, "Extended Query": "a simple Query message also destroys the unnamed statement"."""
    with doorman.wire("onedb") as client, postgres.wire() as direct:
        for one in (client, direct):
            one.ask(parse("", "SELECT 1") + SYNC)
            one.ask_query("SELECT 2")
        assert normal(client.ask(bound(""))) == normal(direct.ask(bound("")))


# -- section 8 of the facts, item by item


def test_item_1_a_named_statement_is_never_evicted_from_its_client(doorman: Doorman) -> None:
    with doorman.wire("tinyone") as client:
        count = 50
        for i in range(count):
            assert kinds(client.ask(parse(f"s{i}", f"SELECT {i}, 'item 1'") + SYNC)) == "1Z"
        for i in [*range(count), *reversed(range(count))]:
            answer = client.ask(bound(f"s{i}"))
            assert kinds(answer) == "2DCZ"
            assert answer[1].columns[0] == b"%d" % i


@pytest.mark.parametrize("database", ["tinyone", "tinytwo", "tinyserver"])
def test_item_2_no_statement_is_closed_under_a_batch_that_needs_it(doorman: Doorman, database: str) -> None:
    """More statements in one batch than the cache holds: each answered in its place."""
    count = 20
    with doorman.wire(database) as client:
        batch = b"".join(parse(f"i2_{i}", f"SELECT {i}, 'item 2'") for i in range(count))
        batch += b"".join(bind("", f"i2_{i}") + execute() for i in range(count))
        answer = client.ask(batch + SYNC)
        assert kinds(answer) == "1" * count + "2DC" * count + "Z"
        assert [m.columns[0] for m in answer if m.kind == "D"] == [b"%d" % i for i in range(count)]
        # Bound in an order that evicts what comes later in the same batch.
        order = [*range(count), *range(count - 1, -1, -1)]
        answer = client.ask(b"".join(bind("", f"i2_{i}") + execute() for i in order) + SYNC)
        assert kinds(answer) == "2DC" * len(order) + "Z"
        assert [m.columns[0] for m in answer if m.kind == "D"] == [b"%d" % i for i in order]
        # Portals bound before the eviction are run after it.
        answer = client.ask(
            b"".join(bind(f"p{i}", f"i2_{i}") for i in range(count))
            + b"".join(execute(f"p{i}") for i in range(count))
            + SYNC
        )
        assert kinds(answer) == "2" * count + "DC" * count + "Z"


def test_item_2_the_server_s_cache_stays_within_its_limit(doorman: Doorman) -> None:
    for database in ("tinyone", "tinyserver"):
        with doorman.wire(database) as client:
            for i in range(30):
                client.ask(prepared(f"lim{i}", f"SELECT {i}, 'limit'"))
        eventually(lambda database=database: len(server_statements(doorman, database)) <= 2)


def test_item_3_a_client_that_vanishes_before_its_parse_is_done(doorman: Doorman) -> None:
    """The statement it announced is not taken for prepared by the next who sends the same text."""
    for i in range(20):
        sql = f"SELECT {i}, 'item 3'"
        with doorman.wire("onedb") as client:
            # In a half batch, in one whose Parse is dropped after an error, or behind a slow query.
            client.send(
                [
                    parse("gone", sql),
                    parse("x", "selec") + parse("gone", sql) + SYNC,
                    query("SELECT pg_sleep(0.05)") + parse("gone", sql) + SYNC,
                    parse("gone", sql) + FLUSH,
                ][i % 4]
            )
        with doorman.wire("onedb") as other:
            assert kinds(other.ask(prepared("s", sql))) == "12TDCZ"
            assert kinds(other.ask(bound("s"))) == "2DCZ"


def test_item_4_a_failed_parse_leaves_no_name_behind(doorman: Doorman) -> None:
    with doorman.wire("onedb") as client:
        assert kinds(client.ask(parse("f", "selec") + SYNC)) == "EZ"
        answer = client.ask(bound("f"))
        assert answer[0].sqlstate == "26000"
        assert kinds(client.ask(parse("f", "SELECT 1") + SYNC)) == "1Z"
        assert kinds(client.ask(bound("f"))) == "2DCZ"


def test_item_4_a_failed_parse_takes_nothing_good_with_it(doorman: Doorman) -> None:
    with doorman.wire("twodb") as client:
        answer = client.ask(
            parse("good", "SELECT 'good'::text, 4")
            + parse("bad", "SELECT * FROM no_such_table")
            + parse("late", "SELECT 1")
            + SYNC
        )
        assert kinds(answer) == "1EZ"
        stack = force_other_server(doorman, client)
        with stack:
            assert client.ask(bound("good"))[1].columns == [b"good", b"4"]
            for name in ("bad", "late"):
                assert [m.sqlstate for m in client.ask(bound(name)) if m.kind == "E"] == ["26000"]


def test_item_4_what_failed_once_may_work_later(doorman: Doorman) -> None:
    """The same text: refused while the table is missing, good once it is there, for this client and others."""
    sql = "SELECT * FROM comes_later"
    with doorman.wire("onedb") as client, doorman.wire("onedb") as other:
        client.ask_query("DROP TABLE IF EXISTS comes_later")
        for one in (client, other):
            assert [m.sqlstate for m in one.ask(prepared("t", sql)) if m.kind == "E"] == ["42P01"]
        client.ask_query("CREATE TABLE comes_later (a int)")
        for one in (client, other):
            assert kinds(one.ask(prepared("t", sql))) == "12TCZ"
        client.ask_query("DROP TABLE comes_later")


def test_item_5_clients_with_different_search_paths_do_not_share_a_plan(doorman: Doorman) -> None:
    with doorman.wire("onedb") as admin:
        for i in (1, 2):
            admin.ask_query(f"DROP SCHEMA IF EXISTS tenant{i} CASCADE")
            made = admin.ask_query(
                f"CREATE SCHEMA tenant{i}; CREATE TABLE tenant{i}.t AS SELECT 'tenant{i}'::text AS who"
            )
            assert kinds(made) == "CCZ"
    sql = "SELECT who FROM t"
    with (
        doorman.wire("onedb", options="-c search_path=tenant1") as one,
        doorman.wire("onedb", options="-c search_path=tenant2") as two,
    ):
        for one_or_two in (one, two):
            assert kinds(one_or_two.ask(parse("who", sql) + SYNC)) == "1Z"
        for _ in range(8):  # more often than it takes PostgreSQL to choose a generic plan
            assert one.ask(bound("who"))[1].columns == [b"tenant1"]
            assert two.ask(bound("who"))[1].columns == [b"tenant2"]


def test_item_5_clients_with_different_roles_do_not_share_rights(doorman: Doorman, postgres: Postgres) -> None:
    postgres.sql(
        "DROP ROLE IF EXISTS weak; CREATE ROLE weak; GRANT weak TO app; GRANT USAGE ON SCHEMA public TO weak;",
        database="testdb",
    )
    with doorman.wire("onedb") as strong, doorman.wire("onedb") as weak:
        strong.ask_query("DROP TABLE IF EXISTS only_strong; CREATE TABLE only_strong (a int)")
        sql = "SELECT count(*) FROM only_strong"
        assert kinds(strong.ask(prepared("r", sql))) == "12TDCZ"
        weak.ask_query("BEGIN")
        weak.ask_query("SET LOCAL ROLE weak")
        answer = weak.ask(prepared("r", sql))
        assert [m.sqlstate for m in answer if m.kind == "E"] == ["42501"]
        weak.ask_query("ROLLBACK")
        assert kinds(strong.ask(bound("r"))) == "2DCZ"
        strong.ask_query("DROP TABLE only_strong")


ITEM_6: dict[str, bytes] = {
    "behind rows": prepared("", "SELECT generate_series(1, 500)")[:-5] + parse("b", "SELECT 'known'") + SYNC,
    "behind a large row": prepared("", "SELECT repeat('x', 100000)")[:-5] + parse("b", "SELECT 'known'") + SYNC,
    "before an error": parse("b", "SELECT 'known'") + bind("", "no such") + SYNC,
    "behind an error": bind("", "no such") + parse("b", "SELECT 'known'") + SYNC,
    "around describe": parse("b", "SELECT 'known'")
    + describe_statement("b")
    + parse("c", "SELECT 'known'")
    + describe_statement("c")
    + bind("", "b")
    + describe_portal()
    + SYNC,
    "between rows of two": parse("b", "SELECT 'known'")
    + bind("", "b")
    + execute()
    + parse("c", "SELECT 'known'")
    + bind("", "c")
    + execute()
    + parse("d", "SELECT 'known'")
    + SYNC,
    "nothing but parses": b"".join(parse(n, "SELECT 'known'") for n in "bcdefg") + SYNC,
    "parse and close": parse("b", "SELECT 'known'")
    + close_statement("b")
    + parse("b", "SELECT 'known'")
    + close_statement("b")
    + SYNC,
    "a suspended portal": parse("b", "SELECT generate_series(1, 9)")
    + bind("", "b")
    + execute("", 2)
    + parse("c", "SELECT 'known'")
    + execute("", 2)
    + SYNC,
    "two batches at once": parse("b", "SELECT 'known'")
    + SYNC
    + parse("c", "SELECT 'known'")
    + bind("", "c")
    + execute()
    + SYNC,
    "after a query": query("SELECT 1; SELECT 2") + parse("b", "SELECT 'known'") + SYNC,
    "with a notice": prepared("", "DO $$ BEGIN RAISE NOTICE 'n'; END $$")[:-5] + parse("b", "SELECT 'known'") + SYNC,
    "behind copy out": prepared("", "COPY (SELECT generate_series(1, 99)) TO STDOUT")[:-5]
    + parse("b", "SELECT 'known'")
    + SYNC,
}


@pytest.mark.parametrize("name", ITEM_6)
def test_item_6_the_parse_complete_we_make_stands_where_postgresql_would_send_it(
    doorman: Doorman, postgres: Postgres, name: str
) -> None:
    data = ITEM_6[name]
    ready = data.count(SYNC) + (name == "after a query")
    with doorman.wire("onedb") as warm:
        # The statement is on the server already, so its Parse is answered by the pooler.
        warm.ask(prepared("warm", "SELECT 'known'"))
        warm.ask(prepared("warm2", "SELECT generate_series(1, 9)"))
    with postgres.wire() as direct, doorman.wire("onedb") as pooled:
        expected = normal(direct.ask(data, ready))
        assert normal(pooled.ask(data, ready)) == expected
        # The same again: names taken now, other answers, same order.
        assert normal(pooled.ask(data, ready)) == normal(direct.ask(data, ready))


def test_item_7_flush_leaves_nothing_unread_and_nothing_missing(doorman: Doorman) -> None:
    with doorman.wire("onedb") as client:
        for i in range(30):
            client.send(parse(f"fl{i % 5}", "SELECT 'item 7'") + FLUSH)
            first = client.read()
            assert first.kind == ("1" if i < 5 else "E")
            if first.kind == "1":
                client.send(describe_statement(f"fl{i}") + FLUSH)
                assert kinds([client.read(), client.read()]) == "tT"
                client.send(bind("", f"fl{i}") + execute() + FLUSH)
                assert kinds(client.read() for _ in range(3)) == "2DC"
            client.send(SYNC)
            assert kinds(client.read_ready()) == "Z"
            assert client.value("SELECT 1") == "1"


def test_item_7_flush_with_statements_another_server_knows(doorman: Doorman) -> None:
    with doorman.wire("twodb") as client:
        client.ask(parse("x", "SELECT 'item 7', 'x'") + SYNC)
        stack = force_other_server(doorman, client)
        with stack:
            client.send(bind("", "x") + FLUSH)
            assert client.read().kind == "2"
            client.send(execute() + FLUSH)
            assert kinds([client.read(), client.read()]) == "DC"
            client.send(parse("y", "SELECT 'item 7', 'x'") + FLUSH)
            assert client.read().kind == "1"
            client.send(SYNC)
            assert kinds(client.read_ready()) == "Z"


@pytest.mark.parametrize("how", ["DEALLOCATE", "DEALLOCATE ALL", "DISCARD ALL", "Close"])
def test_item_8_what_is_deallocated_is_forgotten_by_us_too(doorman: Doorman, how: str) -> None:
    with doorman.wire("onedb") as client:

        def round_(number: int) -> None:
            sql = f"SELECT '{'x' * 20000}', {number}"
            assert kinds(client.ask(parse("big", sql) + SYNC)) == "1Z"
            if how == "Close":
                assert kinds(client.ask(close_statement("big") + SYNC)) == "3Z"
            else:
                answer = client.ask_query("DEALLOCATE big" if how == "DEALLOCATE" else how)
                # DISCARD ALL resets parameters, of which PostgreSQL reports those that changed.
                assert kinds(answer).replace("S", "") == "CZ"
            assert [m.sqlstate for m in client.ask(bound("big")) if m.kind == "E"] == ["26000"]

        for number in range(20):
            round_(number)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_item_8_memory_stays_flat(doorman: Doorman) -> None:
    with doorman.wire("tinyone") as client:
        for phase in range(2):
            for i in range(3000):
                client.ask(parse("big", f"SELECT '{'x' * 50000}', {i}") + SYNC)
                client.ask_query("DEALLOCATE ALL" if i % 2 else "DEALLOCATE big")
            if phase == 0:
                before = doorman.rss()
        assert doorman.rss() - before < 30 << 20


# -- DEALLOCATE and DISCARD in all their spellings

SPELLINGS = [
    ("DEALLOCATE s", "26000"),
    ("deallocate s;", "26000"),
    ("  DeAllocate   Prepare  s ", "26000"),
    ('DEALLOCATE "s"', "26000"),
    ("/* c */ DEALLOCATE -- d\n s", "26000"),
    ("DEALLOCATE S", "26000"),
    ("DEALLOCATE ALL", "26000"),
    ("DEALLOCATE PREPARE ALL", "26000"),
    ("DISCARD ALL", "26000"),
    ("SELECT 1; DEALLOCATE s", "26000"),
    ("DEALLOCATE s; SELECT 1", "26000"),
    ('DEALLOCATE "S"', None),
    ("DEALLOCATE other", None),
    ("DISCARD PLANS", None),
    ("DISCARD SEQUENCES", None),
    ("SELECT 'DEALLOCATE ALL'", None),
    ("SELECT 1 -- DEALLOCATE ALL", None),
    ("SELECT 1/0; DEALLOCATE s", None),
    ("DEALLOCATE", None),
]


@pytest.mark.parametrize("extended", [False, True], ids=["simple", "extended"])
@pytest.mark.parametrize("spelling", SPELLINGS, ids=lambda s: s[0])
def test_deallocate(doorman: Doorman, postgres: Postgres, spelling: tuple[str, str | None], extended: bool) -> None:
    """Replies and consequences are PostgreSQL's, in whatever way it is written."""
    sql, consequence = spelling
    data = (parse("", sql) + bind("", "") + execute() + SYNC) if extended else query(sql)
    with postgres.wire() as direct, doorman.wire("onedb") as pooled, doorman.wire("onedb") as bystander:
        bystander.ask(parse("s", "SELECT 'bystander'::text") + parse("other", "SELECT 1") + SYNC)
        for one in (direct, pooled):
            one.ask(parse("s", "SELECT 'mine'::text") + SYNC)
        assert normal(pooled.ask(data)) == normal(direct.ask(data))
        got = pooled.ask(bound("s"))
        assert normal(got) == normal(direct.ask(bound("s")))
        if not (extended and ";" in sql.rstrip(";")):
            assert [m.sqlstate for m in got if m.kind == "E"] == ([consequence] if consequence else [])
        # Nobody else's statements went with it.
        assert bystander.ask(bound("s"))[1].columns == [b"bystander"]
        assert kinds(bystander.ask(bound("other"))) == "2DCZ"


def test_deallocate_in_a_failed_transaction_is_refused(doorman: Doorman, postgres: Postgres) -> None:
    with postgres.wire() as direct, doorman.wire("onedb") as pooled:
        for step in (
            parse("s", "SELECT 1") + SYNC,
            query("BEGIN"),
            query("SELECT 1/0"),
            query("DEALLOCATE s"),
            query("DEALLOCATE ALL"),
            query("ROLLBACK"),
            bound("s"),
        ):
            assert normal(pooled.ask(step)) == normal(direct.ask(step))


def test_discard_all_in_a_transaction_is_refused(doorman: Doorman, postgres: Postgres) -> None:
    with postgres.wire() as direct, doorman.wire("onedb") as pooled:
        for step in (
            parse("s", "SELECT 1") + SYNC,
            query("BEGIN"),
            query("DISCARD ALL"),
            query("ROLLBACK"),
            bound("s"),
        ):
            assert normal(pooled.ask(step)) == normal(direct.ask(step))


def test_statements_prepared_in_a_transaction_survive_its_rollback(doorman: Doorman, postgres: Postgres) -> None:
    with postgres.wire() as direct, doorman.wire("onedb") as pooled:
        for step in (query("BEGIN"), parse("s", "SELECT 1") + SYNC, query("ROLLBACK"), bound("s")):
            assert normal(pooled.ask(step)) == normal(direct.ask(step))


def test_a_changed_result_type_is_postgresql_s_own_error(doorman: Doorman, postgres: Postgres) -> None:
    """ "cached plan must not change result type" comes as PostgreSQL would send it, and re-preparing helps."""
    with doorman.wire("onedb") as client:
        client.ask_query("DROP TABLE IF EXISTS changing; CREATE TABLE changing (a int)")
        assert kinds(client.ask(prepared("ch", "SELECT * FROM changing"))) == "12TCZ"
        client.ask_query("ALTER TABLE changing ADD b int")
        answer = client.ask(bound("ch"))
        assert [m.sqlstate for m in answer if m.kind == "E"] == ["0A000"]
        assert kinds(client.ask(close_statement("ch") + SYNC)) == "3Z"
        answer = client.ask(prepared("ch", "SELECT * FROM changing"))
        assert kinds(answer) == "12TCZ"
        assert answer[2].column_names == ["a", "b"]
        client.ask_query("DROP TABLE changing")


def test_session_mode_leaves_names_alone(doorman: Doorman) -> None:
    with doorman.wire("sessiondb") as client:
        client.ask(parse("own_name", "SELECT 1") + SYNC)
        assert client.value("SELECT name FROM pg_prepared_statements") == "own_name"
        client.ask_query("DEALLOCATE own_name")
        assert client.value("SELECT count(*) FROM pg_prepared_statements") == "0"


def test_session_mode_leaves_no_statement_to_the_next_client(doorman: Doorman) -> None:
    for _ in range(6):
        with doorman.wire("sessiondb") as client:
            assert kinds(client.ask(parse("same_name", "SELECT 1") + SYNC)) == "1Z"
            client.terminate()


def test_many_clients_many_statements_few_servers(doorman: Doorman) -> None:
    """Each always gets the answer to its own question, with caches far too small."""
    failures: list[str] = []

    def work(seed: int) -> None:
        try:
            with doorman.wire("tinytwo") as client:
                for step in range(60):
                    i = (seed * 7 + step * 3) % 10
                    name = f"m{i}"
                    answer = client.ask(
                        prepared("", f"SELECT {seed}, {i}, $1::int", [b"%d" % step])
                        if step % 3 == 0
                        else close_statement(name) + prepared(name, f"SELECT {seed}, {i}, $1::int", [b"%d" % step])
                        if step % 3 == 1
                        else close_statement(name) + parse(name, f"SELECT {seed % 3}, {i}, 1") + SYNC + bound(name),
                        2 if step % 3 == 2 else 1,
                    )
                    row = next(m.columns for m in answer if m.kind == "D")
                    expected = [seed % 3, i, 1] if step % 3 == 2 else [seed, i, step]
                    if row != [b"%d" % v for v in expected]:
                        failures.append(f"{seed}: {row} for {expected}")
        except BaseException as exc:
            failures.append(f"{seed}: {exc!r}")

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(patience(50))
    assert not failures
    until_idle(doorman, "tinytwo")


PIPELINES: dict[str, tuple[bytes, int]] = {
    "an unnamed Parse that fails, then a Bind": (
        parse("", "SELECT 1") + SYNC + bound("") + parse("", "selec") + SYNC + bound("") + bound(""),
        5,
    ),
    "an unnamed Parse dropped behind an error, then a Bind": (
        parse("", "SELECT 1") + SYNC + bind("", "unknown") + parse("", "SELECT 2") + SYNC + bound(""),
        3,
    ),
    "an unnamed statement closed, then a Bind": (
        parse("", "SELECT 1") + SYNC + close_statement("") + SYNC + bound(""),
        3,
    ),
    "DEALLOCATE behind a batch that failed before its Close": (
        parse("s", "SELECT 1") + bind("", "s", [b"1"]) + close_statement("s") + SYNC + query("DEALLOCATE s"),
        2,
    ),
    "a Parse of the same name behind a batch that failed before its Parse": (
        bind("", "unknown") + parse("s", "SELECT 1") + SYNC + parse("s", "SELECT 2") + bind("", "s") + execute() + SYNC,
        2,
    ),
    "a Bind behind a batch that failed before its Close": (
        parse("s", "SELECT 1") + bind("", "unknown") + close_statement("s") + SYNC + bound("s"),
        2,
    ),
    "DEALLOCATE ALL that fails, then a Bind": (
        parse("s", "SELECT 1") + SYNC + query("SELECT 1/0; DEALLOCATE ALL") + bound("s"),
        3,
    ),
    "DEALLOCATE ALL that works, then a Bind": (
        parse("s", "SELECT 1")
        + SYNC
        + query("DEALLOCATE ALL")
        + bound("s")
        + parse("s", "SELECT 2")
        + SYNC
        + bound("s"),
        5,
    ),
    "DEALLOCATE in an aborted transaction, then a Bind": (
        parse("s", "SELECT 1")
        + SYNC
        + query("BEGIN; SELECT 1/0")
        + query("DEALLOCATE s")
        + query("ROLLBACK")
        + bound("s"),
        5,
    ),
}


@pytest.mark.parametrize("name", PIPELINES)
def test_what_is_sent_before_the_outcome_is_known(doorman: Doorman, postgres: Postgres, name: str) -> None:
    """All in one send: what a batch did to the names is settled before the next one is judged by it."""
    data, ready = PIPELINES[name]
    with doorman.wire("onedb") as pooled, postgres.wire() as direct:
        for _ in range(2):
            assert normal(pooled.ask(data, ready)) == normal(direct.ask(data, ready))


@pytest.mark.parametrize("name", PIPELINES)
def test_the_same_in_turns_with_another_client(doorman: Doorman, postgres: Postgres, name: str) -> None:
    """Batch by batch, and between two of them another client uses the server and all the same names."""
    data, _ = PIPELINES[name]
    with doorman.wire("onedb") as pooled, doorman.wire("onedb") as other, postgres.wire() as direct:
        for batch in batches(data):
            answer = pooled.ask(batch)
            assert normal(answer) == normal(direct.ask(batch))
            if answer[-1].body == b"I":
                other.ask(prepared("", "SELECT 'other'"))
                other.ask(close_statement("s") + parse("s", "SELECT 'other'") + SYNC)


def batches(data: bytes) -> list[bytes]:
    """Cut a stream of messages behind every Sync and every Query."""
    found, start, offset = [], 0, 0
    while offset < len(data):
        kind, length = data[offset : offset + 1], int.from_bytes(data[offset + 1 : offset + 5], "big")
        offset += 1 + length
        if kind in (b"S", b"Q"):
            found.append(data[start:offset])
            start = offset
    return found


def test_a_statement_executed_twice_in_one_text_where_it_is_missing(doorman: Doorman) -> None:
    """It is made once: the second EXECUTE needs nothing more."""
    with doorman.wire("tinytwo") as client, doorman.wire("tinytwo") as other:
        client.ask(query("PREPARE twice AS SELECT 2"))
        for _ in range(2):
            other.ask(query("BEGIN"))  # on the server that the client had last
            answer = client.ask(query("EXECUTE twice; EXECUTE twice"))
            assert [m.columns for m in answer if m.kind == "D"] == [[b"2"], [b"2"]]
            other.ask(query("COMMIT"))
