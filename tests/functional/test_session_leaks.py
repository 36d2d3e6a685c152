"""What one client leaves behind in an unusual way must reach nobody else: one server, whoever has it next looks around."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest
from fix_doorman import Doorman, MakeDoorman, app_pool, merged, until_idle, until_statements_stay
from fix_postgres import Postgres
from wire_client import (
    SYNC,
    Message,
    WireClient,
    bind,
    describe_portal,
    describe_statement,
    execute,
    function_call,
    kinds,
    normal,
    parse,
    query,
)


@pytest.fixture(scope="module")
def doorman_over(postgres: Postgres) -> Mapping[str, Any]:
    return {
        "pools": {
            "one": app_pool(postgres, 1, max_pinned_servers=1),
            "two": app_pool(postgres, 2, max_pinned_servers=2),
        }
    }


@pytest.fixture
def in_one_process(make_doorman: MakeDoorman, doorman_over: Mapping[str, Any]) -> Doorman:
    """Where it is known which server has what."""
    return make_doorman(merged(doorman_over, {"general": {"worker_threads": 1}}))


def left_behind(doorman: Doorman, postgres: Postgres) -> list[list[bytes | None]]:
    """Everything on the pool's one server that is not there for a client that has set nothing; no client may be left."""
    until_idle(doorman, "one")
    with doorman.wire("one") as client:
        found = [
            row.columns
            for sql in (
                "SELECT name, setting FROM pg_settings WHERE source = 'session'",
                "SELECT n, current_setting(n, true) FROM unnest(ARRAY['app.a', 'app.b', 'app.c']) AS n"
                " WHERE current_setting(n, true) <> ''",
                "SELECT current_user::text WHERE current_user <> 'app'",
                "SELECT name FROM pg_prepared_statements WHERE name NOT LIKE 'pgdoorman\\_%'",
                "SELECT name FROM pg_cursors WHERE is_holdable",
                "SELECT c FROM pg_listening_channels() AS c",
                "SELECT relname FROM pg_class WHERE relnamespace = pg_my_temp_schema()",
                "SELECT objid FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()",
            )
            for row in client.ask_query(sql)
            if row.kind == "D"
        ]
    if found:  # not by the next test, too
        for backend in postgres.backends():
            postgres.terminate(backend["pid"])
    return found


def extended(*steps: bytes) -> bytes:
    return b"".join(steps) + SYNC


def run(sql: str, *values: bytes) -> bytes:
    """Parse, Bind, Execute of the unnamed statement."""
    return parse("", sql) + bind("", "", values) + execute()


def tags(messages: list[Message]) -> list[str]:
    return [m.tag if m.kind == "C" else m.sqlstate for m in messages if m.kind in "CE"]


BIG = "/* " + "x" * 20000 + " */ "


@pytest.mark.parametrize(
    "said",
    [
        [query("SELECT set_config('app.' || 'a', 'x', false)")],
        [query("SELECT set_config(n, 'x', false) FROM (VALUES ('app.a')) AS names (n)")],
        [query("SELECT \"set_config\"('app.a', 'x', false)")],
        [query("SELECT \"pg_catalog\".\"set_config\"('work_mem', '9MB', false)")],
        [query("SELECT set_config('app.a', 'x', 'false' <> 'true')")],
        [query("SELECT set_config('app.a', 'x', true AND false)")],
        [query("SELECT set_config('work_mem', '7MB', (SELECT false FROM (VALUES (1)) AS v (t) WHERE true))")],
        [query("PREPARE p (text) AS SELECT set_config($1, 'x', false)"), query("EXECUTE p('app.a')")],
        [
            query("PREPARE p (text) AS SELECT set_config('app.' || $1, 'x', false)"),
            extended(run("EXECUTE p('a')")),
        ],
        [query("; ".join(f"SET app.x{n} = 'x'" for n in range(100))), query("SET app.a = 'x'")],
        [query("SET app.a = '" + "x" * 20000 + "'")],
        [query(BIG + "SELECT set_config('app.a', 'x', false)")],
        [query("SELECT 1; " + BIG + "SELECT set_config('work_mem', '9MB', false)")],
        [extended(run("SELECT /* " + "x" * 20000 + " */ set_config('app.a', 'x', false)"))],
        [extended(parse("s", "SELECT /* " + "x" * 20000 + " */ pg_advisory_lock(7)"), bind("", "s"), execute())],
        [query(BIG + "SELECT pg_advisory_lock(7)")],
        [query(BIG + "CREATE TEMP TABLE mine (a int)")],
        *(
            [query(f"SELECT '{'x' * size}'; /* {'y' * 900} */ DO $$BEGIN SET work_mem TO '9MB'; END$$")]
            for size in (7500, 15900, 32000, 65000)  # a part of the text ends within the comment
        ),
        [query("SELECT 1; " + BIG + "BEGIN; DECLARE c CURSOR WITH HOLD FOR SELECT 1; COMMIT")],
        [query('CREATE TABLE "pg_temp".mine (a int)')],
        [query('SELECT "pg_advisory_lock"(7)')],
        [query('SELECT pg_catalog."pg_try_advisory_lock_shared"(7)')],
        [query("EXPLAIN ANALYZE CREATE TEMP TABLE mine AS SELECT 1 AS n")],
        [query("PREPARE p AS SELECT 1"), query("EXPLAIN ANALYZE CREATE TEMP TABLE mine AS EXECUTE p")],
        [
            query("CREATE TEMP TABLE commit AS SELECT 1 AS a"),
            query("CREATE TEMP TABLE mine AS SELECT a FROM commit drop"),
        ],
        [query("SELECT 1 AS n INTO TEMP t")],
        [query(";SELECT 1 AS n INTO TEMP t;")],
        [query("SET search_path = pg_temp"), query("CREATE TABLE mine (a int)")],
        [query("SELECT set_config('search_path', 'pg_temp', false)"), query("CREATE TABLE mine (a int)")],
        [query("BEGIN; SET LOCAL search_path = pg_temp; CREATE TABLE mine (a int); COMMIT")],
        [
            query("BEGIN"),
            query("SELECT set_config('search_path', 'pg_temp', true)"),
            query("CREATE TABLE mine (a int)"),
            query("COMMIT"),
        ],
        [
            query("BEGIN; SAVEPOINT s"),
            query("SET LOCAL work_mem = 'a lot'"),
            query("ROLLBACK TO s"),
            query("/* first */ SET work_mem = '9MB'"),
            query("COMMIT"),
        ],
        [
            query("BEGIN"),
            extended(parse("", "SET LOCAL work_mem = '5MB'"), bind("", ""), bind("", "")),
            query("/* first */ SET work_mem = '9MB'"),
            query("COMMIT"),
        ],
        [query("-- first\nSET work_mem = '9MB'")],
        [query("/* first */ LISTEN x")],
        [extended(run("-- first\n LISTEN x"))],
        [function_call(2880, [b"7"])],  # pg_advisory_lock(bigint)
        [function_call(2078, [b"app.a", b"x", b"f"])],  # set_config
        [function_call(2078, [b"work_mem", b"9MB", b"f"])],
        [query("SET SESSION app.a TO 'x'"), query('SET "app.b" = 1'), query("SET app.c TO DEFAULT")],
        [query("ALTER ROLE app SET work_mem = '9MB'; ALTER ROLE app RESET work_mem; SET work_mem = '9MB'")],
    ],
    ids=lambda said: re.sub(r"[^ -~]|xx+", "", said[-1][5:120].decode("latin-1"))[:60],
)
def test_nothing_reaches_the_next(doorman: Doorman, postgres: Postgres, said: list[bytes]) -> None:
    with postgres.wire("otherdb") as direct, doorman.wire("one") as client:
        for data in said:
            assert kinds(client.ask(data)) == kinds(direct.ask(data))
        with doorman.wire("one") as other:
            # It does not have to get the server: then it was refused, or waits until the first has gone.
            other.send(query("SELECT 1"))
        client.terminate()
    assert left_behind(doorman, postgres) == []


# A statement that clients share means what it meant when it was parsed, whoever makes it on another server.

EPOCH = "SELECT extract(epoch FROM timestamptz '2026-02-03 04:05')::int::text"
TABLE = "SELECT n::text, n FROM widths"


def row(client: WireClient, data: bytes) -> list[bytes | None] | str:
    """The only row of the answer, or the SQLSTATE."""
    answer = client.ask(data)
    errors = [m.sqlstate for m in answer if m.kind == "E"]
    rows = [m.columns for m in answer if m.kind == "D"]
    return errors[0] if errors else rows[0]


def use(name: str = "s") -> bytes:
    return extended(bind("", name), execute())


@pytest.mark.parametrize(
    ("text", "settings", "others"),
    [
        (EPOCH, "SET timezone = 'Asia/Tokyo'", "SET timezone = 'UTC'"),
        (EPOCH, "SET timezone = 'Asia/Tokyo'", "BEGIN; SET LOCAL timezone = 'UTC'"),
        (EPOCH, "SET timezone = 'Asia/Tokyo'", "BEGIN; SELECT set_config('timezone', 'UTC', true)"),
        (EPOCH, "SET timezone = 'Asia/Tokyo'", "BEGIN; SET timezone = 'UTC'"),
        (TABLE, "SET search_path = narrow", "SET search_path = wide"),
        (TABLE, "SET search_path = narrow", "BEGIN; SET LOCAL search_path = wide"),
        ("SELECT '{NULL}'::text[] = ARRAY['NULL'], 1", "SET array_nulls = off", "SET array_nulls = on"),
        ("SELECT NULL = NULL, 1", "SET transform_null_equals = on", "SET transform_null_equals = off"),
    ],
)
@pytest.mark.parametrize("by_sql", [False, True])
def test_a_shared_statement_keeps_its_meaning(
    doorman: Doorman, postgres: Postgres, text: str, settings: str, others: str, by_sql: bool
) -> None:
    postgres.sql(
        "DROP SCHEMA IF EXISTS narrow CASCADE; DROP SCHEMA IF EXISTS wide CASCADE;"
        " CREATE SCHEMA narrow; CREATE SCHEMA wide; CREATE TABLE narrow.widths AS SELECT 1::int2 AS n;"
        " CREATE TABLE wide.widths AS SELECT 2::int8 AS n; GRANT ALL ON SCHEMA narrow, wide TO app;"
        " GRANT ALL ON ALL TABLES IN SCHEMA narrow, wide TO app",
        database="testdb",
    )
    used = query("EXECUTE s") if by_sql else use()
    with doorman.wire("two") as first, doorman.wire("two") as second, doorman.wire("two") as third:
        for client in (first, second):
            client.ask(query(settings))
            client.ask(extended(parse("s", text)))
        expected = row(second, used)
        # The server that has it is kept by the third: the first one uses it on the other, under other settings.
        third.ask(query("BEGIN"))
        first.ask(query(others))
        first.ask(used)
        first.ask(query("ROLLBACK"))
        assert row(second, used) == expected


P, D = "PREPARE p AS SELECT 1", "DEALLOCATE p"


@pytest.mark.parametrize(
    "said",
    [
        [extended(parse("p", D), bind("", "p"), execute(), parse("p", "SELECT 2"), bind("", "p"), execute())],
        [query(P), extended(run("DEALLOCATE ALL"), parse("p", "SELECT 2"), bind("", "p"), execute())],
        [query(P), extended(run("DEALLOCATE ALL"), bind("", "p"), execute())],
        [
            # The first fails; the others are skipped, though the second Bind had been given a copy of its own.
            extended(bind("", ""), parse("p", "CREATE TEMP TABLE t (a int)"), bind("", "p"), execute(), bind("", "p")),
            extended(bind("", "p"), execute()),
        ],
        [query(P), extended(run(D), run("EXECUTE p"))],
        [query(P), extended(run(D), run(P), run("EXECUTE p"))],
        [query(P), query("BEGIN"), query("SELECT 1/0"), query("ROLLBACK") + query("EXECUTE p")],
        [query("BEGIN"), query("SELECT 1/0"), query("ROLLBACK") + query(P), query("EXECUTE p")],
        [query(P), query("BEGIN"), query("SELECT 1/0"), query("ROLLBACK") + query(D), query("EXECUTE p")],
        [
            # On the server of a failed transaction it can't be made: it has to be there.
            *(query(P), query("BEGIN; EXECUTE p"), query("SELECT 1/0"), query("ROLLBACK; EXECUTE p")),
            query("EXECUTE p"),
        ],
        [
            extended(run("SELECT 1/0"), run(P)) + extended(run("PREPARE q AS SELECT 2")),
            query("EXECUTE q"),
            query("EXECUTE p"),
        ],
        [query(P), extended(run("SELECT 1/0"), run(D)) + extended(run("EXECUTE p")), query("EXECUTE p")],
    ],
    ids=lambda said: re.sub(r"[^ -~]", "", said[-1][5:120].decode("latin-1"))[:60],
)
def test_names_mean_what_they_mean_when_a_message_is_carried_out(doorman: Doorman, said: list[bytes]) -> None:
    """All at once or one message after the other: the same."""

    def answers(client: WireClient, data: bytes) -> list[tuple[str, object]]:
        ready = sum(kind in b"QS" for kind, _ in frames(data))
        return normal(client.ask(data, ready))

    with doorman.wire("sessiondb") as direct, doorman.wire("one") as client:
        for data in said:
            assert answers(client, data) == answers(direct, data)


@pytest.mark.parametrize(
    "ending",
    [
        query("ROLLBACK") + query("EXECUTE p"),
        query("ROLLBACK") + extended(run("EXECUTE p")),
        extended(run("ROLLBACK")) + query("EXECUTE p"),
        extended(run("ROLLBACK")) + extended(run("EXECUTE p")),
        extended(run("ROLLBACK"), run("EXECUTE p")),
        extended(bind("", "r"), execute()) + query("EXECUTE p"),
        extended(bind("", "r"), execute()) + extended(run("EXECUTE p")),
        extended(bind("", "r"), execute(), run("EXECUTE p")),
        query("EXECUTE p") + query("ROLLBACK"),
        extended(run("EXECUTE p")) + query("ROLLBACK"),
    ],
)
def test_execute_behind_the_end_of_a_failed_transaction(doorman: Doorman, ending: bytes) -> None:
    """On a server that does not have the statement: whether it can be made there, the answer under way tells."""
    ready = sum(kind in b"QS" for kind, _ in frames(ending))
    with doorman.wire("two") as client, doorman.wire("two") as other, doorman.wire("sessiondb") as direct:
        client.ask(query(P))
        other.ask(query("BEGIN"))  # keeps that server
        direct.ask(query(P))
        for one in (client, direct):
            one.ask(query("BEGIN"))
            one.ask(extended(parse("r", "ROLLBACK")))
            one.ask(query("SELECT 1/0"))
        assert normal(client.ask(ending, ready)) == normal(direct.ask(ending, ready))
        assert normal(client.ask(query("EXECUTE p"))) == normal(direct.ask(query("EXECUTE p")))


@pytest.mark.parametrize(
    "said",
    [
        ["EXECUTE p"],
        ["SELECT 1; EXECUTE p; SELECT 2"],
        ["EXECUTE p; EXECUTE q"],
        ["SELECT 1/0; EXECUTE p"],
        ["BEGIN; EXECUTE p", "EXECUTE p", "ROLLBACK", "EXECUTE p"],
        ["BEGIN", "EXECUTE p", "SELECT 1", "COMMIT", "SELECT 3"],
    ],
)
@pytest.mark.parametrize("elsewhere", [False, True])
def test_execute_of_a_statement_that_cannot_be_planned_any_more(
    doorman: Doorman, postgres: Postgres, said: list[str], elsewhere: bool
) -> None:
    """One error, that of the statement, whether its server has the statement or it must be prepared there first."""
    made = "DROP TABLE IF EXISTS passing; CREATE TABLE passing AS SELECT 1 AS n"
    prepared = extended(parse("p", "SELECT n FROM passing"), parse("q", "SELECT n + 1 FROM passing"))
    with doorman.wire("two") as client, doorman.wire("two") as other, doorman.wire("sessiondb") as direct:
        for one in (direct, client):
            one.ask(query(made))
            assert kinds(one.ask(prepared)) == "11Z"
            one.ask(query("DROP TABLE passing"))
        if elsewhere:
            other.ask(query("BEGIN"))  # keeps the server that has the statements
        for sql in said:
            assert normal(client.ask(query(sql))) == normal(direct.ask(query(sql)))


@pytest.mark.parametrize("elsewhere", [False, True])
def test_errors_speak_of_what_the_client_has_sent(doorman: Doorman, elsewhere: bool) -> None:
    """Names of statements and positions in texts are the client's own, though servers get other names."""

    def told(client: WireClient, data: bytes) -> list[dict[str, str]]:
        ready = sum(kind in b"QS" for kind, _ in frames(data))
        errors = [m.fields for m in client.ask(data, ready) if m.kind == "E"]
        return [{letter: text for letter, text in fields.items() if letter not in "FLR"} for fields in errors]

    made = query('PREPARE p (int, text) AS SELECT $1, $2; PREPARE "ä" (int) AS SELECT $1')
    made += extended(parse("s", "SELECT $1::int"))
    with doorman.wire("two") as client, doorman.wire("two") as other, doorman.wire("sessiondb") as direct:
        client.ask(made, 2)
        direct.ask(made, 2)
        if elsewhere:
            other.ask(query("BEGIN"))  # keeps the server that has the statements
        for data in (
            query("EXECUTE p (1)"),
            query("EXECUTE p ('x', 'y')"),
            query("SELECT 'äöü'; EXECUTE p (1, 'y'), bad"),
            query("EXECUTE p (1, 'y'); EXECUTE \"ä\" ('x')"),
            query("EXECUTE p (1, 'y'); SELECT bad"),
            query("DEALLOCATE p; EXECUTE p ('x', 'y')"),
            query("PREPARE q AS SELECT $1a"),
            query("PREPARE q (nothing) AS SELECT 1"),
            query("PREPARE q AS SELECT bad"),
            query("PREPARE s AS SELECT 1"),
            extended(bind("", "s", (b"1", b"2"))),
            extended(bind("", "s", (b"x",)), execute()),
            extended(run("EXECUTE \"ä\" ('x')")),
            extended(run("PREPARE q AS SELECT bad")),
            extended(run("EXECUTE never"), run("EXECUTE p (1)")),
            query("SELECT bad"),
        ):
            found = told(client, data)
            assert found and found == told(direct, data), data


def frames(data: bytes) -> list[tuple[int, bytes]]:
    found = []
    while data:
        size = 1 + int.from_bytes(data[1:5], "big")
        found.append((data[0], data[5:size]))
        data = data[size:]
    return found


@pytest.mark.parametrize(
    "said",
    [
        ["CREATE TEMP TABLE widths AS SELECT 'hidden' AS n"],
        ["BEGIN", "CREATE TEMP TABLE widths ON COMMIT DROP AS SELECT 'hidden' AS n"],
        ["BEGIN", "CREATE TEMP TABLE widths (n text) ON COMMIT DROP"],
        ["BEGIN", "ALTER TABLE widths ALTER n TYPE text"],
        ["BEGIN", "DROP TABLE widths", "CREATE TABLE widths AS SELECT 'other' AS n"],
        ["BEGIN", "ALTER TABLE widths RENAME TO former; CREATE VIEW widths AS SELECT 'other' AS n"],
    ],
)
def test_what_nobody_else_can_see_is_not_shared(doorman: Doorman, said: list[str]) -> None:
    text = "SELECT n FROM widths"
    described = extended(parse("s", text), describe_statement("s"))
    with doorman.wire("one") as first:
        first.ask(query("DROP TABLE IF EXISTS widths, former; CREATE TABLE widths AS SELECT 1 AS n"))
        for sql in said:
            first.ask(query(sql))
        hidden = first.ask(described)
        assert kinds(hidden) == "1tTZ"
        first.ask(extended(bind("", "s"), execute()))
        first.ask(query("ROLLBACK"))
    until_idle(doorman, "one")
    with doorman.wire("one") as second:
        seen = second.ask(described)
        assert kinds(seen) == "1tTZ"
        assert seen[2].body[-12:-8] == (23).to_bytes(4, "big"), "an integer"
        assert row(second, use()) == [b"1"]


@pytest.mark.parametrize("by", ["statement", "portal"])
def test_a_description_that_is_rolled_back_is_told_nobody(in_one_process: Doorman, by: str) -> None:
    text = "SELECT * FROM widths"
    described = extended(parse("s", text), describe_statement("s"))
    whole = extended(bind("", "s"), *([describe_portal()] if by == "portal" else []), execute())
    with in_one_process.wire("two") as first, in_one_process.wire("two") as second:
        first.ask(query("DROP TABLE IF EXISTS widths, former; CREATE TABLE widths AS SELECT 1 AS n"))
        until_statements_stay(first)
        second.ask(extended(parse("s", text)))
        first.ask(extended(parse("s", text)))
        first.ask(query("BEGIN; ALTER TABLE widths ADD extra text"))
        answer = first.ask(extended(describe_statement("s")) if by == "statement" else whole)
        assert [m.sqlstate for m in answer if m.kind == "E"] == ["0A000"], "it was made there before"
        first.ask(query("ROLLBACK"))
        for _ in range(3):
            assert row(second, whole) == [b"1"]
            assert row(first, whole) == [b"1"]
        answer = second.ask(extended(describe_statement("s")))
        assert [m.column_names for m in answer if m.kind == "T"] == [["n"]]
        with in_one_process.wire("two") as third:
            answer = third.ask(described)
            assert [m.column_names for m in answer if m.kind == "T"] == [["n"]]
            assert row(third, whole) == [b"1"]
            third.ask(query("BEGIN"))  # what was told is held against what the other server says
            assert row(second, whole) == [b"1"]


@pytest.mark.parametrize("end", ["ROLLBACK", "COMMIT"])
@pytest.mark.parametrize("by", ["statement", "portal", "nothing"])
def test_a_statement_made_again_where_its_client_has_altered_the_table(
    in_one_process: Doorman, by: str, end: str
) -> None:
    """Behind that transaction it is what all see, not what PostgreSQL refuses since it was made before the end."""
    told = {"statement": [describe_statement("s")], "portal": [bind("", "s"), describe_portal()], "nothing": []}
    with in_one_process.wire("two") as first, in_one_process.wire("two") as second, in_one_process.wire("two") as other:
        first.ask(query("DROP TABLE IF EXISTS widths, former; CREATE TABLE widths AS SELECT 1 AS n"))
        until_statements_stay(first)
        first.ask(extended(parse("s", "SELECT * FROM widths")))
        other.ask(query("BEGIN"))  # on the server that has it
        first.ask(query("BEGIN; ALTER TABLE widths ADD extra text"))
        assert row(first, use()) == [b"1", None]
        columns = [m.column_names for m in first.ask(extended(*told[by])) if m.kind == "T"]
        assert columns == ([] if by == "nothing" else [["n", "extra"]])
        first.ask(query(end))
        other.ask(query(end))
        expected: list[bytes | None] = [b"1"] if end == "ROLLBACK" else [b"1", None]
        second.ask(extended(parse("s", "SELECT * FROM widths")))
        for _ in range(3):
            assert row(second, use()) == expected
            if end == "COMMIT":
                assert row(first, use()) in ("0A000", expected), "PostgreSQL's answer, or that of a server without it"
            else:  # who was told of the rows may go by that
                assert row(first, use()) == ("0A000" if by == "statement" else expected)


# What is asked and set on a client's behalf must work whatever the client has set.


def test_values_in_any_encoding_come_back_as_they_were(doorman: Doorman, postgres: Postgres) -> None:
    said = [
        query("SET app.a = 'J\xf6rg'".encode("latin-1")),
        query('SET search_path = "sch\xf6n"'.encode("latin-1")),
        query("SELECT current_setting('app.a'), current_setting('search_path'), 'J\xf6rg'".encode("latin-1")),
    ]
    with postgres.wire("otherdb", client_encoding="LATIN1") as direct:
        expected = [[m.columns for m in direct.ask(data) if m.kind == "D"] for data in said]
    with doorman.wire("one", client_encoding="LATIN1") as first, doorman.wire("one") as second:
        for _ in range(3):
            assert [[m.columns for m in first.ask(data) if m.kind == "D"] for data in said] == expected
            assert row(second, query("SHOW search_path")) == [b'"$user", public']
            assert row(first, said[2]) == expected[2][0]
    assert left_behind(doorman, postgres) == []


def test_a_client_that_allows_its_statements_no_time(doorman: Doorman, postgres: Postgres) -> None:
    with doorman.wire("one") as first, doorman.wire("one") as second:
        for number in range(10):
            first.ask(query("BEGIN; SET statement_timeout = 0"))
            first.ask(query(f"SET work_mem = '{number + 1}MB'; SET statement_timeout = 1; COMMIT"))
            assert row(second, query("SELECT 1")) == [b"1"], "the server is kept for a client that keeps nothing"
            first.ask(query("SET statement_timeout = 0"))
            assert row(first, query("SHOW work_mem")) == [f"{number + 1}MB".encode()]
    assert left_behind(doorman, postgres) == []


def test_a_large_value_is_followed(doorman: Doorman, postgres: Postgres) -> None:
    large = "x" * 100_000
    with doorman.wire("one") as first, doorman.wire("one") as second:
        first.ask(query(f"SET app.a = '{large}'"))
        assert row(second, query("SELECT current_setting('app.a', true)")) in ([None], [b""])
        assert row(first, query("SHOW app.a")) == [large.encode()]
    assert left_behind(doorman, postgres) == []


# RESET goes back to what the client began with, at once.

BEGINNING = {"application_name": "mine", "options": "-c search_path=narrow -c app.a=begin", "timezone": "Asia/Tokyo"}
STATE = "SELECT current_setting('search_path'), current_setting('app.a'), current_setting('timezone'), name FROM"
STATE += " current_setting('application_name') AS name"


@pytest.mark.parametrize(
    "said",
    [
        [query("DISCARD ALL") + query(STATE)],
        [query("DISCARD ALL") + extended(run(STATE))],
        [query("SET search_path = wide; RESET ALL") + query(STATE)],
        [extended(run("RESET ALL")) + extended(run(STATE))],
        [query("BEGIN"), query("RESET ALL"), query(STATE), query("ROLLBACK"), query(STATE)],
        [query("SET search_path = wide"), query("BEGIN"), query("RESET search_path"), query(STATE), query("COMMIT")],
        [
            query("SET search_path = wide"),
            query("BEGIN; RESET search_path") + query(STATE) + query("ROLLBACK"),
            query(STATE),
        ],
        [query("BEGIN"), extended(run("RESET TIME ZONE")) + extended(run(STATE)), query("COMMIT"), query(STATE)],
        [
            query("BEGIN; SET timezone = DEFAULT"),
            query(STATE),
            query("SET timezone = 'UTC'"),
            query(STATE),
            query("COMMIT"),
        ],
        [
            query("BEGIN; SAVEPOINT s; SET app.a = 'x'; SAVEPOINT t; RESET app.a"),
            query("ROLLBACK TO t"),
            query(STATE),
            query("COMMIT"),
        ],
        [query("BEGIN; RESET ALL"), query("SELECT 1/0"), query("ROLLBACK") + query(STATE)],
        [query("BEGIN; RESET no_such_thing"), query(STATE), query("ROLLBACK"), query(STATE)],
        [query("SET app.a = ''"), query(STATE)],
    ],
)
def test_reset_is_back_at_the_beginning_at_once(doorman: Doorman, postgres: Postgres, said: list[bytes]) -> None:
    with postgres.wire("otherdb", **BEGINNING) as direct, doorman.wire("one", **BEGINNING) as client:
        for data in [*said, query(STATE), query(STATE)]:
            ready = sum(kind in b"QS" for kind, _ in frames(data))
            assert normal(client.ask(data, ready)) == normal(direct.ask(data, ready))
            with doorman.wire("one") as other:
                other.send(query("SELECT 1"))  # if it gets the server
    assert left_behind(doorman, postgres) == []
