"""SHOW and SELECT in both dialects, catalogue queries, and who may only look."""

from __future__ import annotations

import dataclasses
from typing import Any

import gevent
import pytest
from admin.fakes import (
    SYNC,
    Answer,
    FakeClient,
    FakePooler,
    FakeServer,
    FakeStream,
    answers,
    bind,
    describe,
    execute,
    parse,
    query,
)

from pgdoorman_lib.admin import console
from pgdoorman_lib.admin.dialects import PGBOUNCER, PGDOORMAN
from pgdoorman_lib.wire.consts import PROCESS_BASE


def talk(
    *sent: bytes, dialect: str = "pgdoorman", user: str = "admin", pooler: FakePooler | None = None
) -> list[Answer]:
    stream = FakeStream(b"".join(sent))
    console.serve(stream, pooler or FakePooler(), user, {}, dialect, 77)
    found = answers(stream.outgoing)
    return found[[answer.kind for answer in found].index("Z") + 1 :]


def kinds(*sent: bytes, **more: Any) -> str:
    return "".join(answer.kind for answer in talk(*sent, **more))


def error(sql: str, **more: str) -> dict[str, str]:
    (found,) = [answer.value for answer in talk(query(sql), **more) if answer.kind == "E"]
    assert found["S"] == "ERROR"
    return found


def names(sql: str, dialect: str = "pgdoorman") -> list[str]:
    """The columns of an answer without rows."""
    described, complete, ready = talk(query(sql), dialect=dialect)
    assert (complete.value, ready.value) == ("SELECT 0", "I")
    return [column[0] for column in described.value]


# -- PgBouncer's words


@pytest.mark.parametrize("sql", ["SELECT 1", "select 1", "FOO", "SHOW NOTHING", "SHOW POOLS x", "SELECT now()"])
def test_unknown_commands_are_refused_in_pgbouncers_words(sql: str) -> None:
    found = error(sql, dialect="pgbouncer")
    assert (found["C"], found["M"]) == ("08P01", f"invalid command '{sql}', use SHOW HELP;")


def test_select_1_is_the_references_health_check() -> None:
    assert kinds(query("SELECT 1")) == "TDCZ"


@pytest.mark.parametrize(("sql", "column"), [("SELECT version", "version"), ("select lists", "list")])
def test_pgbouncer_takes_select_for_show(sql: str, column: str) -> None:
    described, *_, complete, _ = talk(query(sql), dialect="pgbouncer")
    assert (described.value[0][0], complete.value) == (column, "SHOW")


def test_its_help_is_a_notice() -> None:
    notice, complete, _ = talk(query("SHOW HELP"), dialect="pgbouncer")
    assert (notice.kind, notice.value["S"], notice.value["C"]) == ("N", "NOTICE", "00000")
    assert notice.value["M"] == "Console usage"
    assert all(f"{name}" in notice.value["D"] for name in PGBOUNCER.shows)
    assert complete.value == "SHOW"
    found = talk(parse("SHOW HELP"), describe("S"), bind(), execute(), SYNC, dialect="pgbouncer")
    assert "".join(answer.kind for answer in found) == "1tn2NCZ"


def test_each_dialect_has_the_others_tables_that_it_has_none_of() -> None:
    assert set(PGDOORMAN.shows) == set(PGBOUNCER.shows)
    for name in ("POOLS", "DATABASES", "STATS", "CLIENTS", "SERVERS", "USERS", "VERSION", "CONFIG", "SOCKETS", "LISTS"):
        assert PGDOORMAN.shows[name] is not PGBOUNCER.shows[name], name
    described, *_ = talk(query("SHOW POOLS"), dialect="pgbouncer")
    assert [column[0] for column in described.value][2] == "cl_active"


@pytest.mark.parametrize("dialect", ["pgdoorman", "pgbouncer"])
def test_descriptors_are_not_shown(dialect: str) -> None:
    assert "another process" in error("SHOW FDS", dialect=dialect)["M"]


def test_interner_with_a_number() -> None:
    pooler = FakePooler()
    registry = pooler.pools[0].registry
    for sql in (b"SELECT 1", b"SELECT 333", b"SELECT 22"):
        registry.get(sql + b"\0\0\0", None, None, 990.0)
    found = [answer.value for answer in talk(query("SHOW INTERNER 2"), pooler=pooler) if answer.kind == "D"]
    assert [(row[1], row[2], row[3], row[4]) for row in found] == [
        (b"named", b"13", b"10000", b"SELECT 333"),
        (b"named", b"12", b"10000", b"SELECT 22"),
    ]


def test_the_one_who_asks_is_among_the_clients() -> None:
    pooler = FakePooler()
    found = [answer.value for answer in talk(query("SHOW CLIENTS"), pooler=pooler) if answer.kind == "D"]
    assert found[-1][:3] == [b"#c77", b"pgdoorman", b"admin"]
    assert found[-1][6] == b"active"
    assert len(pooler.consoles) == 0
    assert (pooler.consoles.stats.query_count, pooler.consoles.stats.client_login_count) == (1, 1)


# -- catalogues


@pytest.mark.parametrize("dialect", ["pgdoorman", "pgbouncer"])
@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT * FROM pg_class", ["?column?"]),
        (
            "SELECT c.oid, n.nspname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON 1=1",
            ["oid", "nspname"],
        ),
        ('SELECT n.nspname as "Schema", c.relname AS "Name" FROM pg_catalog.pg_class c', ["Schema", "Name"]),
        ("SELECT CASE WHEN a IN (1, 2) THEN ',' ELSE 'x' END, count(*) FROM pg_type", ["case", "count"]),
        ("select distinct pg_catalog.quote_ident(relname) from pg_catalog.pg_class", ["quote_ident"]),
        ("SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'", ["table_name"]),
        ("WITH x AS (SELECT oid FROM pg_class) SELECT x.oid AS a, 1 FROM x", ["a", "?column?"]),
        ("SELECT set_config('bytea_output','hex',false) FROM pg_show_all_settings()", ["set_config"]),
        ("SELECT a || 'x', b + 1, -1, 'text' FROM pg_class", ["?column?"] * 4),
        ("SELECT n.nspname schema_name, count(*) n, x::text FROM pg_class", ["schema_name", "n", "?column?"]),
        ("SELECT * FROM unnest(current_schemas(true))", ["?column?"]),
        ("SELECT datname FROM pg_database UNION ALL SELECT 'all'", ["datname"]),
        ("SELECT count(*) FROM pg_class GROUP BY relkind", ["count"]),
        ("SELECT count(*) OVER () FROM pg_class", ["count"]),
        ("(SELECT a.oid, 'x' AS Kind FROM pg_class a ORDER BY 1)", ["oid", "kind"]),
        ("(SELECT oid FROM pg_class) UNION ALL (SELECT 1, 2)", ["oid"]),
    ],
)
def test_catalogues_are_empty(sql: str, expected: list[str], dialect: str) -> None:
    assert names(sql, dialect) == expected


def test_a_catalogue_query_may_have_parameters() -> None:
    sql = "SELECT oid FROM pg_catalog.pg_type WHERE typname = $1 AND typnamespace = $2"
    found = talk(parse(sql), describe("S"), bind(parameters=(b"a", b"b")), execute(), SYNC)
    assert "".join(answer.kind for answer in found) == "1tT2CZ"
    assert found[1].value == b"\0\2" + b"\0\0\0\x19" * 2
    assert kinds(parse(sql), bind(parameters=(b"a",)), SYNC) == "1EZ"


@pytest.mark.parametrize("dialect", ["pgdoorman", "pgbouncer"])
@pytest.mark.parametrize(
    ("sql", "columns", "row"),
    [
        # pgAdmin, at its login: it takes the first row without a look whether there is one.
        (
            "SELECT CASE WHEN (SELECT count(*) FROM pg_catalog.pg_extension WHERE extname = 'x') > 0 THEN 'a' END as Type",
            [("type", 25)],
            [None],
        ),
        ("SELECT EXISTS(SELECT 1 FROM information_schema.columns) has_it", [("has_it", 16)], [b"f"]),
        ("SELECT NOT EXISTS (SELECT FROM pg_class) AS none", [("none", 16)], [b"t"]),
        ("SELECT EXISTS (SELECT FROM pg_class)", [("exists", 16)], [b"f"]),
        ("SELECT EXISTS (SELECT FROM pg_class)::text AS said", [("said", 25)], [None]),
        (
            "SELECT (SELECT oid FROM pg_type LIMIT 1) AS oid, current_user",
            [("oid", 25), ("current_user", 25)],
            [None, b"admin"],
        ),
        # pgAdmin, when a database is opened.
        ("SELECT COUNT(*) FROM pg_catalog.pg_extension WHERE extname IN ('a', 'b')", [("count", 20)], [b"0"]),
        (
            "SELECT pg_catalog.count(*) AS n, count(*) > 0, sum(x) s FROM pg_class",
            [("n", 20), ("?column?", 25), ("s", 25)],
            [b"0", None, None],
        ),
    ],
)
def test_what_always_has_a_row_has_one(
    sql: str, columns: list[tuple[str, int]], row: list[bytes | None], dialect: str
) -> None:
    described, found, complete, _ = talk(query(sql), dialect=dialect)
    assert [column[:2] for column in described.value] == columns
    assert (found.value, complete.value) == (row, "SELECT 1")


@pytest.mark.parametrize(
    "sql", ["SELECT unnest(array(SELECT oid FROM pg_class))", "SELECT 1 WHERE EXISTS (SELECT FROM pg_class)"]
)
def test_one_that_finds_its_rows_there_has_none(sql: str) -> None:
    assert len(names(sql)) == 1


@pytest.mark.parametrize(
    ("sql", "columns", "row"),
    [
        ("SELECT current_schema(),session_user", ["current_schema", "session_user"], [None, b"admin"]),
        ("SELECT current_database() AS name, 1", ["name", "?column?"], [b"pgdoorman", b"1"]),
        ("SELECT pg_catalog.pg_is_in_recovery() as standby", ["standby"], [b"f"]),
        ("((SELECT 1 AS one))", ["one"], [b"1"]),
    ],
)
def test_several_questions_in_one_select(sql: str, columns: list[str], row: list[bytes | None]) -> None:
    described, found, *_ = talk(query(sql))
    assert [column[0] for column in described.value] == columns
    assert found.value == row


# -- who may only look


def watched() -> FakePooler:
    pooler = FakePooler()
    general = dataclasses.replace(pooler.config.general, stats_users=("watcher",), admin_users=("operator",))
    pooler.config = dataclasses.replace(pooler.config, general=general)
    return pooler


@pytest.mark.parametrize("dialect", ["pgdoorman", "pgbouncer"])
@pytest.mark.parametrize(
    "sql",
    ["RELOAD", "SHUTDOWN", "SET log_level = 'debug'", "RESET log_level", "SET SESSION log_level TO debug", "reload"],
)
def test_stats_users_may_change_nothing(sql: str, dialect: str) -> None:
    pooler = watched()
    (found,) = [
        answer.value
        for answer in talk(query(sql), dialect=dialect, user="watcher", pooler=pooler)
        if answer.kind == "E"
    ]
    assert (found["S"], found["C"], found["M"]) == ("ERROR", "08P01", "admin access needed")
    assert pooler.done == []


@pytest.mark.parametrize(
    "sql",
    [
        *("SHOW POOLS", "SELECT version", "BEGIN", "SET application_name = 'x'", "SET TIME ZONE 'UTC'", "RESET ALL"),
        *("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", "SET NAMES 'utf8'", "DISCARD ALL", "ROLLBACK", ""),
    ],
)
def test_stats_users_may_look_and_keep_house(sql: str) -> None:
    found = talk(query(sql), dialect="pgbouncer", user="watcher", pooler=watched())
    assert not [answer.value for answer in found if answer.kind == "E"]


def test_admin_users_may_all() -> None:
    pooler = watched()
    assert talk(query("RELOAD"), user="operator", pooler=pooler)[0].value == "RELOAD"
    assert pooler.done == ["reload"]


class Waiting:
    """A console's session with a command that waits."""

    def __init__(self, user: str) -> None:
        self.user = user
        self.cancelled = False


def test_stats_users_cancel_their_own_and_admins_any() -> None:
    pooler = watched()
    own, others = Waiting("watcher"), Waiting("operator")
    pooler.cancellable = {(5, b"abcd"): own, (6, b"efgh"): others}
    found = talk(*(query(f"SELECT pg_cancel_backend({n})") for n in (5, 6, 7)), user="watcher", pooler=pooler)
    assert "".join(answer.kind for answer in found) == "TDCZEZTDCZ"
    assert [answer.value for answer in found if answer.kind == "D"] == [[b"t"], [b"f"]]
    assert [answer.value["M"] for answer in found if answer.kind == "E"] == ["admin access needed"]
    assert (own.cancelled, others.cancelled) == (True, False)
    assert kinds(query("SELECT pg_cancel_backend(6)"), user="operator", pooler=pooler) == "TDCZ"
    assert others.cancelled


def test_the_process_id_is_the_one_it_was_told_of() -> None:
    stream = FakeStream(query("SELECT pg_backend_pid() AS id"))
    console.serve(stream, FakePooler(), "admin", {}, "pgdoorman", 77)
    found = answers(stream.outgoing)
    (key,) = [answer.value for answer in found if answer.kind == "K"]
    (row,) = [answer.value for answer in found if answer.kind == "D"]
    assert int(row[0]) == int.from_bytes(key[:4], "big") == PROCESS_BASE + 77


class Reloading(FakePooler):
    """Its RELOAD takes everybody off the list."""

    def __init__(self) -> None:
        super().__init__()
        self.config = watched().config

    def reload(self) -> Any:
        told: Any = super().reload()
        general = dataclasses.replace(self.config.general, admin_users=())
        self.config = dataclasses.replace(self.config, general=general)
        return told


def test_who_is_taken_off_the_list_loses_his_rights_at_once() -> None:
    pooler = Reloading()
    found = talk(query("RELOAD"), query("RELOAD"), query("SHOW USERS"), user="operator", pooler=pooler)
    assert "".join(answer.kind for answer in found) == "CZEZTDCZ"
    assert pooler.done == ["reload"]


def test_what_was_prepared_with_rights_does_not_run_without() -> None:
    pooler = Reloading()
    sent = parse("SHUTDOWN", "later"), SYNC, query("RELOAD"), bind("later"), execute(), SYNC
    found = talk(*sent, user="operator", pooler=pooler)
    assert [answer.value["M"] for answer in found if answer.kind == "E"] == ["admin access needed"]
    assert pooler.done == ["reload"]


# -- and the others


@pytest.mark.parametrize("dialect", ["pgdoorman", "pgbouncer"])
@pytest.mark.parametrize("name", ["CLIENTS", "SERVERS"])
def test_a_long_table_lets_others_run(name: str, dialect: str) -> None:
    pooler = FakePooler()
    pooler.clients = [FakeClient(id=number) for number in range(1000)]
    pooler.pools[0].servers = [FakeServer(id=number) for number in range(1000)]
    turns: list[int] = []

    def other() -> None:
        while True:
            turns.append(1)
            gevent.sleep(0)

    running = gevent.spawn(other)
    gevent.sleep(0)
    found = talk(query(f"SHOW {name}"), dialect=dialect, pooler=pooler)
    running.kill()
    assert len([answer for answer in found if answer.kind == "D"]) >= 1000
    # While rows are made, and while they are sent.
    assert len(turns) > 2 * 1000 / 60
