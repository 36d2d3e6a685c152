"""A Parse means what PostgreSQL would make of it now, whoever has changed what meanwhile and whatever was parsed before."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from typing import Any

import pytest
from fix_doorman import Doorman, MakeDoorman, app_pool, app_user, until_statements_stay
from fix_postgres import Postgres
from wire_client import (
    SYNC,
    Message,
    WireClient,
    bind,
    close_statement,
    describe_portal,
    describe_statement,
    execute,
    kinds,
    parse,
    query,
)

from pgdoorman_lib.wire.measures import BELIEVED

#: A little longer than what was analysed is believed.
LATER = BELIEVED + 0.1


@pytest.fixture(scope="module")
def doorman_over(postgres: Postgres) -> Mapping[str, Any]:
    return {
        "pools": {
            name: {**app_pool(postgres, size), "users": [app_user(postgres, size), other(postgres, size)]}
            for name, size in (("one", 1), ("two", 2))
        }
    }


def other(postgres: Postgres, size: int) -> dict[str, Any]:
    return {**app_user(postgres, size), "username": "app_two", "password": postgres.password("app_two")}


class Place:
    """Clients of one place: through the pooler, or PostgreSQL itself."""

    def __init__(self, connect: Callable[[], WireClient], pooled: bool) -> None:
        self.stack = ExitStack()
        self.connect = connect
        self.pooled = pooled

    def client(self) -> WireClient:
        return self.stack.enter_context(self.connect())

    def later(self) -> None:
        """What was parsed so far is believed no more."""
        if self.pooled:
            time.sleep(LATER)


@pytest.fixture(params=["one", "two"])
def places(request: pytest.FixtureRequest, doorman: Doorman, postgres: Postgres) -> Iterator[list[Place]]:
    made = [
        Place(lambda: postgres.wire(), False),
        Place(lambda: doorman.wire(request.param), True),
    ]
    yield made
    for place in made:
        place.stack.close()


def run(name: str, sql: str, *values: bytes, described: bool = True) -> bytes:
    batch = parse(name, sql) + (describe_statement(name) if described else b"")
    return batch + bind("", name, values) + execute() + SYNC


def again(name: str, *values: bytes) -> bytes:
    return bind("", name, values) + execute() + SYNC


def told(messages: list[Message]) -> list[Any]:
    """What a client learns, in a form in which PostgreSQL and the pooler must agree; OIDs of tables differ."""
    found: list[Any] = []
    for m in messages:
        if m.kind == "T":
            found.append(
                ("T", m.column_names, [m.body[i : i + 4] for i in range(len(m.body) - 12, len(m.body) - 8)][:1])
            )
        elif m.kind == "D":
            found.append(("D", m.columns))
        elif m.kind in "EN":
            found.append((m.kind, m.sqlstate))
        elif m.kind == "C":
            found.append(("C", m.tag))
        else:
            found.append((m.kind, m.body))
    return found


def alike(places: list[Place], script: Callable[[Place], list[list[Message]]]) -> None:
    """The script's answers are the same at both places."""
    direct, pooled = ([told(part) for part in script(place)] for place in places)
    assert pooled == direct


def own() -> int:
    """Something that no statement of another test has in it."""
    return time.monotonic_ns()


# Foreign DDL.


def changed_by_nobody(postgres: Postgres, sql: str) -> None:
    """DDL that the pooler can't see."""
    postgres.sql(sql, database="testdb", user="app")


TABLE = "DROP TABLE IF EXISTS pmn CASCADE; CREATE TABLE pmn (id {}, a text); INSERT INTO pmn VALUES ({}, 'row')"
UUID = "'00000000-0000-0000-0000-000000000001'"


@pytest.mark.parametrize("described", [True, False])
def test_a_table_is_made_anew_with_another_type(places: list[Place], postgres: Postgres, described: bool) -> None:
    sql = f"SELECT id, a FROM pmn WHERE id = $1 /* {own()} */"

    def script(place: Place) -> list[list[Message]]:
        changed_by_nobody(postgres, TABLE.format("uuid", UUID))
        before = [place.client().ask(run("s", sql, UUID.strip("'").encode(), described=described)) for _ in range(3)]
        changed_by_nobody(postgres, TABLE.format("bigint", 20))
        place.later()
        return before + [place.client().ask(run("s", sql, b"20", described=described)) for _ in range(4)]

    alike(places, script)


def test_an_insert_takes_what_the_column_takes_now(places: list[Place], postgres: Postgres) -> None:
    sql = f"INSERT INTO pmn VALUES ($1) /* {own()} */"

    def script(place: Place) -> list[list[Message]]:
        changed_by_nobody(postgres, TABLE.format("int", 1))
        old = place.client()
        answers = [old.ask(run("s", sql, b"5"))]
        changed_by_nobody(postgres, "ALTER TABLE pmn ALTER id TYPE bigint")
        place.later()
        answers += [place.client().ask(run("s", sql, b"5000000000")) for _ in range(3)]
        old.ask_query("DISCARD ALL")
        return [*answers, old.ask(run("s", sql, b"5000000000"))]

    alike(places, script)


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE pmn ADD COLUMN b int DEFAULT 7",
        "CREATE OR REPLACE VIEW pmn_view AS SELECT id, a, 1 AS more FROM pmn",
        "DO $$ BEGIN EXECUTE 'ALTER TABLE pmn RENAME a TO other'; END $$",
    ],
)
def test_more_columns(places: list[Place], postgres: Postgres, change: str) -> None:
    sql = f"SELECT * FROM pmn, pmn_view /* {own()} */"

    def script(place: Place) -> list[list[Message]]:
        changed_by_nobody(postgres, TABLE.format("int", 1) + "; CREATE VIEW pmn_view AS SELECT id, a FROM pmn")
        answers = [place.client().ask(run("s", sql)) for _ in range(3)]
        changed_by_nobody(postgres, change)
        place.later()
        return answers + [place.client().ask(run("s", sql)) for _ in range(3)]

    alike(places, script)


@pytest.mark.parametrize(
    ("before", "ddl"),
    [
        ("SELECT pmn_ov(1)", "CREATE FUNCTION pmn_ov(int) RETURNS text LANGUAGE sql AS $$ SELECT 'int' $$"),
        ("SELECT * FROM pmn", "ALTER TABLE pmn ADD COLUMN b int DEFAULT 7"),
        ("SELECT a FROM pmn", "CREATE TABLE pmn_first.pmn (a text)"),
        ("SELECT a FROM pmn", "CREATE TABLE pmn_first.pmn AS SELECT 'shadow' AS a"),
        ("SELECT a FROM pmn", "CREATE VIEW pmn_first.pmn AS SELECT 'shadow' AS a"),
        ("SELECT a FROM pmn", "SELECT 'shadow' AS a INTO pmn_first.pmn"),
        ("SELECT a FROM pmn", "CREATE MATERIALIZED VIEW pmn_first.pmn AS SELECT 'shadow' AS a"),
    ],
)
@pytest.mark.parametrize("how", ["query", "extended", "prepared", "transaction", "other pool"])
def test_ddl_is_seen_at_once(doorman: Doorman, postgres: Postgres, before: str, ddl: str, how: str) -> None:
    """Also by the pool of another user, and by who parses between the DDL and its commit; no waiting here."""
    postgres.sql(
        TABLE.format("int", 1) + "; DROP SCHEMA IF EXISTS pmn_first CASCADE; CREATE SCHEMA pmn_first;"
        "GRANT ALL ON SCHEMA pmn_first TO app, app_two; ALTER TABLE pmn OWNER TO app;"
        "DROP FUNCTION IF EXISTS pmn_ov(int); DROP FUNCTION IF EXISTS pmn_ov(bigint);"
        "CREATE FUNCTION pmn_ov(bigint) RETURNS text LANGUAGE sql AS $$ SELECT 'bigint' $$; GRANT app TO app_two;"
        "ALTER DEFAULT PRIVILEGES FOR ROLE app_two GRANT SELECT ON TABLES TO app",
        database="testdb",
    )
    before += f" /* {own()} */"
    path = {"search_path": "pmn_first, public"}
    with ExitStack() as stack:
        clients = [stack.enter_context(doorman.wire("two", **path)) for _ in range(6)]
        if how == "other pool":
            migration = stack.enter_context(doorman.wire("one", user="app_two"))
        else:
            migration = stack.enter_context(doorman.wire("two"))
        old = told(clients[0].ask(run("s", before)))
        if how == "transaction":
            migration.ask_query("BEGIN")
            assert "E" not in kinds(migration.ask_query(ddl))
            # A SELECT of what an ALTER has locked would wait.
            blocked = ddl.startswith("ALTER")
            if not blocked:
                assert told(clients[1].ask(run("s", before))) == old
            migration.ask_query("COMMIT")
        elif how == "prepared":
            migration.ask(parse("ddl", ddl) + SYNC)
            assert "E" not in kinds(migration.ask(bind("", "ddl") + execute() + SYNC))
        elif how == "extended":
            assert "E" not in kinds(migration.ask(parse("", ddl) + bind("", "") + execute() + SYNC))
        else:
            assert "E" not in kinds(migration.ask_query(ddl))
        with postgres.wire(**path) as direct:
            new = told(direct.ask(run("s", before)))
        assert new != old
        for client in clients[2:]:
            assert told(client.ask(run("s", before))) == new
    postgres.sql("DROP SCHEMA pmn_first CASCADE", database="testdb")


def test_what_was_analysed_is_believed_for_a_moment(make_doorman: MakeDoorman) -> None:
    """Many clients with the same text: one Parse a server and second, and old versions leave the server.

    That they leave holds for a server that stays in its process: another's clients may mean them.
    """
    doorman = make_doorman({"general": {"worker_threads": 1}})
    sql = f"SELECT {own()}::bigint"
    names = f"SELECT name FROM pg_prepared_statements WHERE statement = '{sql}' ORDER BY 1"
    with ExitStack() as stack:
        first = stack.enter_context(doorman.wire("onedb"))
        first.ask(run("s", sql))
        for _ in range(5):
            with doorman.wire("onedb") as another:
                another.ask(run("s", sql))
        original = [row.columns for row in first.ask_query(names) if row.kind == "D"]
        assert len(original) == 1, "all of them share one"
        for _ in range(3):
            time.sleep(LATER)
            with doorman.wire("onedb") as another:
                another.ask(run("s", sql))
            with doorman.wire("onedb") as another:
                another.ask(run("t", sql))
        found = [row.columns for row in first.ask_query(names) if row.kind == "D"]
        assert len(found) == 2, "the first client's and the newest are left"
        assert found[0] == original[0]
        assert kinds(first.ask(again("s"))) == "2DCZ"


def test_a_statement_that_fails_is_parsed_again(make_doorman: MakeDoorman, postgres: Postgres) -> None:
    doorman = make_doorman({"general": {"worker_threads": 1}})  # another worker would ask for itself
    changed_by_nobody(postgres, TABLE.format("int", 1))
    sql = f"SELECT a FROM pmn WHERE id = $1 /* {own()} */"
    with doorman.wire("onedb") as one, doorman.wire("onedb") as two:
        assert "E" not in kinds(one.ask(run("s", sql, b"1")))
        changed_by_nobody(postgres, TABLE.format("bigint", "5000000000"))
        answer = two.ask(run("s", sql, b"5000000000"))
        assert [m.sqlstate for m in answer if m.kind == "E"] == ["22003"]
        two.ask(close_statement("s") + SYNC)
        assert kinds(two.ask(run("s", sql, b"5000000000"))) == "1tT2DCZ"


# Poisoned by the state of who parsed it first.


def test_a_statement_parsed_behind_a_prepared_reset(places: list[Place]) -> None:
    sql = f"SELECT '2020-01-01 00:00'::timestamptz /* {own()} */"

    def script(place: Place) -> list[list[Message]]:
        one, two = place.client(), place.client()
        for client in (one, two):
            client.ask_query("SET timezone = 'Asia/Tokyo'")
        one.ask(parse("r", "reset timezone") + SYNC)
        return [one.ask(bind("", "r") + execute() + run("s", sql)), two.ask(run("s", sql)), one.ask(again("s"))]

    alike(places, script)


@pytest.mark.parametrize(
    "change",
    [
        "SET timezone = 'Europe/Berlin'",
        "SELECT set_config('timezone', 'Europe/Berlin', false)",
        "DO $$ BEGIN SET timezone = 'Europe/Berlin'; END $$",
        "SET LOCAL timezone = 'Europe/Berlin'",
        "DISCARD ALL",
        "RESET ALL",
    ],
)
@pytest.mark.parametrize("named", ["", "r"])
def test_a_statement_parsed_behind_a_prepared_change(places: list[Place], change: str, named: str) -> None:
    sql = f"SELECT '2020-01-01 00:00'::timestamptz /* {own()} */"

    def script(place: Place) -> list[list[Message]]:
        one, two = place.client(), place.client()
        for client in (one, two):
            client.ask_query("SET timezone = 'Asia/Tokyo'")
        one.ask(parse(named, change) + SYNC)
        one.ask(bind("", named) + execute() + run("s", sql))
        return [two.ask(run("s", sql))]

    alike(places, script)


@pytest.mark.parametrize(
    "text",
    [
        "'now'::timestamptz",
        "timestamptz 'NOW'",
        "E'today'::date",
        "date 'yesterday'",
        "'no'\n'w'::timestamptz",
        "$$tomorrow$$::date",
        "E'n\\x6fw'::timestamptz",
        "U&'n\\006fw'::timestamptz",
    ],
)
def test_a_constant_that_is_a_moment(doorman: Doorman, text: str) -> None:
    sql = f"SELECT ({text}) <= clock_timestamp() + interval '2 days', ({text})::text, /* {text!r} */ 1"
    with doorman.wire("one") as one, doorman.wire("one") as two:
        until_statements_stay(one)
        one.ask(run("s", sql))
        two.ask(run("s", sql))
        rows = [row.columns for row in one.ask_query("SELECT name FROM pg_prepared_statements") if row.kind == "D"]
        found = [
            row.columns[0]
            for row in two.ask(
                parse("", "SELECT name FROM pg_prepared_statements WHERE statement = $1")
                + bind("", "", [sql.encode()])
                + execute()
                + SYNC
            )
            if row.kind == "D"
        ]
        assert rows and len(set(found)) == 2, "each client has its own"


@pytest.mark.parametrize(
    "ddl",
    [
        "do $$ begin execute 'alter table pmn add b int'; end $$",
        "create table pmn_new as select 1 as n",
        "select 1 as n into pmn_new",
        "create table pmn_new (n int)",
        "alter table pmn add b int",
    ],
)
@pytest.mark.parametrize("how", ["query", "extended", "one batch"])
def test_described_is_never_what_was_rolled_back(places: list[Place], postgres: Postgres, ddl: str, how: str) -> None:
    number = own()

    def script(place: Place) -> list[list[Message]]:
        changed_by_nobody(postgres, TABLE.format("int", 1) + "; DROP TABLE IF EXISTS pmn_new")
        sql = f"select * from {'pmn_new' if 'pmn_new' in ddl else 'pmn'} /* {number} */"
        one, two = place.client(), place.client()
        one.ask_query("begin")
        if how == "query":
            one.ask_query(ddl)
            answers = [one.ask(parse("s", sql) + describe_statement("s") + SYNC)]
        elif how == "extended":
            one.ask(parse("d", ddl) + bind("", "d") + execute() + SYNC)
            answers = [one.ask(parse("s", sql) + describe_statement("s") + SYNC)]
        else:
            batch = parse("d", ddl) + bind("", "d") + execute()
            answers = [one.ask(batch + parse("s", sql) + describe_statement("s") + SYNC)]
        one.ask_query("rollback")
        answers.append(two.ask(parse("s", sql) + describe_statement("s") + SYNC))
        return answers

    alike(places, script)


# Names.


@pytest.mark.parametrize("what", ["deallocate a", "discard all", "deallocate all"])
@pytest.mark.parametrize("first", ["a", "b"])
def test_a_prepared_deallocate_frees_names_in_its_batch(places: list[Place], what: str, first: str) -> None:
    def script(place: Place) -> list[list[Message]]:
        client = place.client()
        client.ask(parse("a", "select 1") + parse("b", "select 2") + parse("d", what) + SYNC)
        batch = bind("", "d") + execute() + parse(first, "select 3") + bind("", first) + execute()
        return [client.ask(batch + SYNC), client.ask(again("a")), client.ask(again("b"))]

    alike(places, script)


@pytest.mark.parametrize("long", ["n" * 80, "é" * 40, "n" * 62 + "é"])
def test_names_are_cut_as_postgresql_does(places: list[Place], long: str) -> None:
    def script(place: Place) -> list[list[Message]]:
        client, other = place.client(), place.client()
        answers = [client.ask_query(f'PREPARE "{long}" AS SELECT 1')]
        other.ask_query("SELECT 1")
        answers += [
            client.ask_query(f'EXECUTE "{long}"'),
            client.ask_query(f'EXECUTE "{long}more"'),
            client.ask(again("n" * 63)),
            client.ask(again(long)),
            client.ask(parse(long, "SELECT 2") + SYNC),
            client.ask_query(f'EXECUTE "{long}"'),
            client.ask_query(f'DEALLOCATE "{long}and more"'),
            client.ask_query(f'DEALLOCATE "{long}"'),
            client.ask(again(long)),
        ]
        return [[m for m in answer if m.kind != "N"] for answer in answers]

    alike(places, script)


@pytest.mark.parametrize("size", [63, 64, 9000, 20000, 300000])
def test_long_names_of_the_protocol(places: list[Place], size: int) -> None:
    """PostgreSQL takes them, and tells them apart by their first 63 bytes; Describe, Execute, Close: up to 10,000 bytes."""

    def script(place: Place) -> list[list[Message]]:
        client, name, portal = place.client(), "n" * size, "p" * min(size, 9000)
        batch = parse(name, "SELECT $1::int") + describe_statement(name[:9000]) + bind(portal, name, [b"1"])
        batch += describe_portal(portal) + execute(portal)
        return [
            client.ask(batch + SYNC),
            client.ask(again(name, b"2")),
            client.ask(again(name + "x", b"2")),
            client.ask(parse(name + "y", "SELECT 2") + SYNC),
            client.ask(bind("p" * size, name, [b"1"]) + SYNC),
            client.ask(close_statement(name[:9000]) + SYNC),
            client.ask(again(name, b"2")),
        ]

    alike(places, script)


# What is the client's to commit.


@pytest.mark.parametrize("values", ["0", "1"])
@pytest.mark.parametrize("exists", [True, False])
@pytest.mark.parametrize("fails", [True, False])
def test_a_query_behind_an_open_batch(
    doorman: Doorman, postgres: Postgres, values: str, exists: bool, fails: bool
) -> None:
    """EXECUTE of what this server has not got, behind an insert without its Sync: rolled back together, or not."""

    def script(client: WireClient, elsewhere: Callable[[], Any]) -> list[Any]:
        postgres.sql(TABLE.format("int", 1) + "; ALTER TABLE pmn OWNER TO app", database="testdb")
        postgres.sql(
            "CREATE TABLE IF NOT EXISTS pmn_gone (n int); ALTER TABLE pmn_gone OWNER TO app", database="testdb"
        )
        text = "SELECT 1 / $1::int" if exists else "SELECT 1 / $1::int FROM pmn_gone"
        client.ask(parse("foo", text) + SYNC)
        with elsewhere():
            if not exists:
                postgres.sql("DROP TABLE pmn_gone", database="testdb")
            bad = "1/0" if fails else "7"
            batch = parse("", f"INSERT INTO pmn VALUES ({bad})") + bind("", "") + execute()
            answer = client.ask(batch + query(f"execute foo({values})") + SYNC, 1 if fails else 2)
            answer += client.ask_query("SELECT 'goes on'")
        rows = client.ask_query("SELECT id FROM pmn ORDER BY id")
        return [told(answer), told(rows)]

    class Blocking:
        """The server that has it is another client's for a while."""

        def __enter__(self) -> None:
            self.clients = [doorman.wire("two")]
            self.clients[0].ask_query("BEGIN")

        def __exit__(self, *exc: object) -> None:
            for one in self.clients:
                one.ask_query("COMMIT")
                one.terminate()

    with postgres.wire() as direct:
        expected = script(direct, ExitStack)
    with doorman.wire("two") as client:
        assert script(client, Blocking) == expected


# What code has done to our statements.


@pytest.mark.parametrize(
    "code",
    [
        "do $$ begin execute 'deallocate all'; end $$",
        "select pmn_wipe()",
        "do $$ declare n text; begin for n in select name from pg_prepared_statements order by name limit 1 loop"
        " execute 'deallocate ' || n; end loop; end $$",
    ],
)
def test_statements_of_the_pooler_are_dropped_by_code(make_doorman: MakeDoorman, postgres: Postgres, code: str) -> None:
    doorman = make_doorman({"pools": {"testdb": {"users": [app_user(postgres, 1)]}}})
    postgres.sql(
        "CREATE OR REPLACE FUNCTION pmn_wipe() RETURNS void LANGUAGE plpgsql AS"
        " $$ begin execute 'deallocate all'; end $$",
        database="testdb",
    )
    with doorman.wire() as one, doorman.wire() as two, doorman.wire() as three:
        for number, client in enumerate((one, two, three)):
            assert "E" not in kinds(client.ask(run("s", f"SELECT {number}")))
            assert "E" not in kinds(client.ask(run("t", "SELECT 7")))
        one.ask_query(code)
        failed = 0
        for _ in range(3):
            for client in (one, two, three):
                for name in ("s", "t"):
                    failed += "E" in kinds(client.ask(again(name)))
        assert not failed, "whoever meets it first has it made again"
        with doorman.wire() as new:
            assert kinds(new.ask(run("s", "SELECT 1"))) == "1tT2DCZ"
            assert kinds(new.ask(again("s"))) == "2DCZ"
