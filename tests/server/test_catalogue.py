"""What a database's catalogue says of what may leave something, read from a real PostgreSQL by a role without rights."""

from __future__ import annotations

import re
from collections.abc import Iterator

import psycopg
import pytest
from fix_postgres import Postgres
from psycopg import pq

from pgdoorman_lib.server import catalogue
from pgdoorman_lib.server.catalogue import Hazards, Row, RunQuery
from pgdoorman_lib.wire.session_state import (
    DIRTY_LISTEN,
    DIRTY_LOCKS,
    DIRTY_PARAMETERS,
    DIRTY_TEMPORARY,
    DIRTY_UNKNOWN,
)
from pgdoorman_lib.wire.traces import ANYTHING, BUILTIN, DDL, EVERYTHING, NAMED, NOTHING, POSSIBLE, UNREADABLE, Traces

pytestmark = pytest.mark.postgres

DATABASE = "catalogue"
#: A function that leaves something which no other statement here does.
LOCKS = "CREATE FUNCTION locks(int DEFAULT 1) RETURNS int LANGUAGE sql AS 'SELECT pg_advisory_lock(1); SELECT 1'"
TRIGGER = (
    "CREATE FUNCTION locking() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_advisory_lock(1); RETURN NEW; END'"
)
LOCKED = Traces(DIRTY_LOCKS)
SETS = "SELECT set_config('app.x', 'a', false)"
SET = Traces(DIRTY_PARAMETERS, ("app.x",))


@pytest.fixture
def admin(postgres: Postgres) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """The superuser in a database of the test's own."""
    postgres.sql(f"DROP DATABASE IF EXISTS {DATABASE}; CREATE DATABASE {DATABASE}")
    with postgres.connect(user="postgres", dbname=DATABASE) as connection:
        yield connection
    postgres.sql(f"DROP DATABASE {DATABASE} WITH (FORCE)")


def runner(connection: psycopg.Connection[tuple[object, ...]]) -> RunQuery:
    """Texts of several statements, as simple queries."""

    def run(sql: str) -> list[Row]:
        connection.pgconn.send_query(sql.encode())
        rows: list[Row] = []
        while (result := connection.pgconn.get_result()) is not None:
            assert result.status != pq.ExecStatus.FATAL_ERROR, result.error_message
            rows += [[result.get_value(i, j) for j in range(result.nfields)] for i in range(result.ntuples)]
        return rows

    return run


class Reader:
    """The catalogue as ``app`` reads it, who may do nothing here."""

    def __init__(self, postgres: Postgres, admin: psycopg.Connection[tuple[object, ...]]) -> None:
        self.postgres = postgres
        self.admin = admin

    def made(self, *statements: str, trusted: tuple[str, ...] = ()) -> Hazards:
        for statement in statements:
            self.admin.execute(statement.encode())
        with self.postgres.connect(dbname=DATABASE) as connection:
            return catalogue.hazards(catalogue.read(runner(connection)), trusted)


@pytest.fixture
def reader(postgres: Postgres, admin: psycopg.Connection[tuple[object, ...]]) -> Reader:
    return Reader(postgres, admin)


def function(body: str, language: str = "plpgsql", name: str = "f", returns: str = "void", more: str = "") -> str:
    return f"CREATE FUNCTION {name}() RETURNS {returns} LANGUAGE {language} {more} AS $body${body}$body$"


def test_nothing_in_a_fresh_database(reader: Reader) -> None:
    assert reader.made() == {}


def test_harmless_functions_are_not_there(reader: Reader) -> None:
    found = reader.made(
        "CREATE TABLE t (a int)",
        function("BEGIN UPDATE t SET a = 1; INSERT INTO t VALUES (1); END"),
        function("SELECT count(*) FROM t", "sql", "g", "bigint"),
        function("BEGIN RETURN NEW; END", name="h", returns="trigger"),
        "CREATE TRIGGER x BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION h()",
        "CREATE VIEW v AS SELECT g() AS c FROM t",
    )
    assert found == {}


def test_functions_and_their_callers(reader: Reader) -> None:
    found = reader.made(
        function(SETS, "sql", returns="text"),
        function("BEGIN PERFORM f(); END", name="g"),
        function('BEGIN PERFORM public . "g"(); LISTEN x; END', name="h"),
        function("BEGIN RETURN; END", name="other"),
        function("DECLARE f int; BEGIN f := 1; END", name="no_call"),
    )
    assert found == {b"f": SET, b"g": SET, b"h": Traces(DIRTY_PARAMETERS | DIRTY_LISTEN, ("app.x",))}
    assert found.calls == {b"f", b"g", b"h"}


def test_functions_that_call_each_other(reader: Reader) -> None:
    found = reader.made(
        function("BEGIN PERFORM g(); END"),
        function("BEGIN PERFORM f(); PERFORM h(); END", name="g"),
        function(f"BEGIN PERFORM f(); PERFORM {SETS[7:]}; END", name="h"),
    )
    assert found == dict.fromkeys((b"f", b"g", b"h"), SET)


def test_dynamic_sql(reader: Reader) -> None:
    found = reader.made(
        function("BEGIN EXECUTE current_setting('a.b'); END"),
        function("DECLARE q text; BEGIN q := 'select ' || random(); EXECUTE q; END", name="g"),
    )
    assert found == {b"f": EVERYTHING, b"g": UNREADABLE}


def test_names_of_any_letters(reader: Reader) -> None:
    found = reader.made(
        function("SELECT set_config('app.schlüssel', 'a', false)", "sql", '"Größe von ""a"""', "text"),
        function('BEGIN PERFORM "Größe von ""a"""(); END', name="g"),
    )
    expected = Traces(DIRTY_PARAMETERS, ("app.schlüssel",))
    assert found == {'Größe von "a"'.encode(): expected, b"g": expected}


def test_overloaded_functions_count_together(reader: Reader) -> None:
    found = reader.made(
        LOCKS, "CREATE FUNCTION locks(text) RETURNS text LANGUAGE sql AS $$ SELECT set_config('app.x', $1, false) $$"
    )
    assert found == {b"locks": Traces(DIRTY_LOCKS | DIRTY_PARAMETERS, ("app.x",))}


def test_sql_standard_bodies_and_defaults_of_arguments(reader: Reader, postgres: Postgres) -> None:
    found = reader.made(
        LOCKS,
        "CREATE FUNCTION d(a int DEFAULT locks()) RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE FUNCTION e(a text DEFAULT set_config('app.x', 'a', false)) RETURNS int LANGUAGE sql AS 'SELECT 1'",
    )
    assert found == {b"locks": LOCKED, b"d": LOCKED, b"e": SET}
    if reader.admin.info.server_version < 140000:
        return
    found = reader.made(
        "CREATE TABLE t (a int)",
        TRIGGER,
        "CREATE TRIGGER x AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION locking()",
        "CREATE FUNCTION a() RETURNS int RETURN locks()",
        "CREATE FUNCTION b() RETURNS text RETURN set_config('app.x', 'a', false)",
        "CREATE FUNCTION c() RETURNS text RETURN set_config('app.x', 'a', true)",
        "CREATE PROCEDURE p() BEGIN ATOMIC INSERT INTO t VALUES (1); SELECT a(); END",
        "CREATE FUNCTION n(x text) RETURNS text RETURN set_config(x, 'a', false)",
    )
    assert (found[b"a"], found[b"b"], found.get(b"c"), found[b"p"]) == (LOCKED, SET, None, LOCKED)
    assert found[b"n"].unnamed == POSSIBLE


def test_aggregates(reader: Reader) -> None:
    found = reader.made(
        "CREATE FUNCTION step(int, int) RETURNS int LANGUAGE sql AS 'SELECT pg_advisory_lock(1); SELECT 1'",
        "CREATE AGGREGATE total (int) (SFUNC = step, STYPE = int)",
    )
    assert found == {b"step": LOCKED, b"total": LOCKED}


def test_triggers_matter_where_something_is_written(reader: Reader) -> None:
    found = reader.made(
        "CREATE TABLE t (a int)",
        TRIGGER,
        "CREATE TRIGGER x AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION locking()",
        "CREATE VIEW v AS SELECT * FROM t",
        "CREATE FUNCTION reads() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM t'",
        "CREATE FUNCTION writes() RETURNS void LANGUAGE sql AS 'INSERT INTO v VALUES (1)'",
    )
    assert found == dict.fromkeys((b"t", b"v", b"locking", b"writes"), LOCKED)
    assert found.writing == {b"t", b"v"}


def test_conditions_of_triggers(reader: Reader) -> None:
    found = reader.made(
        "CREATE TABLE t (a int)",
        "CREATE FUNCTION tr() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
        "CREATE TRIGGER x AFTER INSERT ON t FOR EACH ROW"
        " WHEN (set_config('app.x', 'a', false) = 'a') EXECUTE FUNCTION tr()",
    )
    assert found == {b"t": SET}


def test_parents_of_foreign_keys_and_partitions(reader: Reader) -> None:
    found = reader.made(
        TRIGGER,
        "CREATE TABLE p (a int PRIMARY KEY); CREATE TABLE q (a int PRIMARY KEY)",
        "CREATE TABLE c (a int REFERENCES p ON DELETE CASCADE, b int REFERENCES q)",
        "CREATE TRIGGER x AFTER DELETE ON c FOR EACH ROW EXECUTE FUNCTION locking()",
        "CREATE TABLE parts (a int) PARTITION BY LIST (a); CREATE TABLE part1 PARTITION OF parts FOR VALUES IN (1)",
        "CREATE TRIGGER x AFTER INSERT ON part1 FOR EACH ROW EXECUTE FUNCTION locking()",
    )
    assert found == dict.fromkeys((b"locking", b"c", b"p", b"parts", b"part1"), LOCKED)


def test_views_and_rules(reader: Reader) -> None:
    found = reader.made(
        LOCKS,
        "CREATE TABLE t (a int); CREATE TABLE log (a text)",
        "CREATE VIEW v AS SELECT locks(); CREATE VIEW w AS SELECT * FROM v",
        "CREATE VIEW x AS SELECT set_config('app.x', 'a', false)",
        "CREATE VIEW harmless AS SELECT set_config('app.x', 'a', true)",
        "CREATE RULE r AS ON UPDATE TO t DO ALSO SELECT set_config('app.x', 'a', false)",
        "CREATE FUNCTION sees() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM w'",
        "CREATE VIEW settings AS SELECT * FROM pg_settings",
    )
    assert found == {
        **dict.fromkeys((b"locks", b"v", b"w", b"sees"), LOCKED),
        **dict.fromkeys((b"x", b"t"), SET),
        b"settings": BUILTIN[b"pg_settings"],
    }
    assert found.writing == {b"t", b"settings"}


def test_defaults_policies_checks_and_indexes(reader: Reader) -> None:
    found = reader.made(
        LOCKS,
        "CREATE FUNCTION fixed(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS"
        " 'BEGIN PERFORM pg_advisory_lock(1); RETURN 1; END'",
        "CREATE TABLE a (a int DEFAULT locks())",
        "CREATE TABLE b (a int); CREATE POLICY p ON b USING (locks() = 1)",
        "CREATE TABLE c (a int CHECK (locks(a) = 1))",
        "CREATE TABLE d (a int); CREATE INDEX ON d (fixed(a))",
        "CREATE TABLE e (a int) PARTITION BY LIST (fixed(a))",
        "CREATE TABLE f (a text DEFAULT set_config('app.x', 'a', false))",
        "CREATE TABLE g (a int); CREATE POLICY p ON g USING (EXISTS (SELECT FROM b))",
        "CREATE TABLE h (a int); CREATE POLICY p ON h WITH CHECK (set_config('app.x', 'a', false) = 'a')",
    )
    assert found == {
        **dict.fromkeys((b"locks", b"fixed", b"a", b"b", b"c", b"d", b"e", b"g"), LOCKED),
        **dict.fromkeys((b"f", b"h"), SET),
    }
    assert found.writing == {b"a", b"f"}


def test_event_triggers_make_ddl_dangerous(reader: Reader) -> None:
    found = reader.made(
        "CREATE FUNCTION ev() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_advisory_lock(1); END'",
        "CREATE EVENT TRIGGER x ON ddl_command_end EXECUTE FUNCTION ev()",
        function("BEGIN CREATE TABLE made (a int); END"),
    )
    reader.admin.execute("DROP EVENT TRIGGER x")
    assert found == {b"ev": LOCKED, DDL: LOCKED, b"f": LOCKED}


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE DOMAIN dom AS int CHECK (locks(VALUE) = 1)",
        "CREATE OPERATOR !!! (RIGHTARG = int, FUNCTION = locks)",
        "CREATE TYPE comp AS (a int); CREATE FUNCTION conv(comp) RETURNS int LANGUAGE sql AS 'SELECT locks()';"
        " CREATE CAST (comp AS int) WITH FUNCTION conv(comp) AS IMPLICIT",
        "CREATE DOMAIN dom AS text CHECK (set_config('app.x', VALUE, false) = VALUE)",
        "CREATE DOMAIN dom AS int DEFAULT locks()",
    ],
)
def test_what_no_name_betrays_makes_anything_dangerous(reader: Reader, statement: str) -> None:
    found = reader.made(LOCKS, statement)
    assert found[ANYTHING] in (LOCKED, SET)


def test_operators_that_are_harmless(reader: Reader) -> None:
    found = reader.made(
        LOCKS,
        "CREATE FUNCTION plain(int) RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE OPERATOR !!! (RIGHTARG = int, FUNCTION = plain)",
    )
    assert ANYTHING not in found


def test_functions_in_c(reader: Reader) -> None:
    found = reader.made(
        "CREATE FUNCTION mine(text, text, bool) RETURNS text LANGUAGE internal AS 'set_config_by_name'",
        "CREATE FUNCTION abs2(int) RETURNS int LANGUAGE internal AS 'int4abs'",
        "CREATE FUNCTION handler() RETURNS language_handler LANGUAGE c AS '$libdir/plpgsql', 'plpgsql_call_handler'",
        "CREATE FUNCTION stable() RETURNS language_handler STABLE LANGUAGE c AS"
        " '$libdir/plpgsql', 'plpgsql_call_handler'",
    )
    assert found[b"mine"].unnamed == POSSIBLE
    assert found[b"handler"] == UNREADABLE
    assert found.keys() == {b"mine", b"handler"}


@pytest.mark.parametrize(
    ("statement", "moves"),
    [
        (LOCKS.replace("locks", "locks2"), True),
        ("CREATE OR REPLACE FUNCTION locks(int DEFAULT 1) RETURNS int LANGUAGE sql AS 'SELECT 1'", True),
        ("DROP FUNCTION locks", True),
        ("ALTER TABLE t ALTER a SET DEFAULT locks()", True),
        ("ALTER TABLE t ALTER b SET DEFAULT set_config('app.x', 'a', false)", True),
        ("CREATE TRIGGER x AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION tr()", True),
        ("CREATE VIEW v AS SELECT set_config('app.x', 'a', false)", True),
        ("CREATE RULE r AS ON DELETE TO t DO ALSO SELECT locks()", True),
        ("CREATE POLICY p ON t USING (set_config('app.x', 'a', false) = 'a')", True),
        ("ALTER TABLE t ADD CHECK (locks(a) = 1)", True),
        ("CREATE DOMAIN d AS int CHECK (VALUE > 0)", True),
        ("CREATE TABLE c (a int REFERENCES t (a) ON DELETE CASCADE)", True),
        ("CREATE TABLE i () INHERITS (t)", True),
        ("CREATE EVENT TRIGGER e ON ddl_command_start EXECUTE FUNCTION ev()", True),
        ("CREATE OPERATOR !!! (RIGHTARG = int, FUNCTION = locks)", True),
        ("ALTER TABLE has_trigger RENAME TO other", True),
        ("CREATE TABLE plain (a int PRIMARY KEY)", False),
        ("TRUNCATE has_trigger", False),
        ("CREATE TEMP TABLE plain (a int PRIMARY KEY DEFAULT 1 CHECK (a > 0), b serial)", False),
        ("INSERT INTO t VALUES (1)", False),
        ("VACUUM t", False),
        ("ANALYZE t", False),
    ],
)
def test_the_marker(reader: Reader, statement: str, moves: bool) -> None:
    event = function("BEGIN END", name="ev", returns="event_trigger")
    trigger = function("BEGIN PERFORM locks(); RETURN NEW; END", name="tr", returns="trigger")
    reader.made(
        LOCKS,
        "CREATE TABLE t (a int UNIQUE, b text); CREATE TABLE has_trigger (a int)",
        event,
        trigger,
        "CREATE TRIGGER x AFTER INSERT ON has_trigger FOR EACH ROW EXECUTE FUNCTION tr()",
    )
    with reader.postgres.connect(dbname=DATABASE) as connection:
        run = runner(connection)
        rows = catalogue.read(run)
        marker = catalogue.marker(rows)
        before = run(marker)
        assert before == [[rows.mark]]
        reader.admin.execute("BEGIN; SELECT txid_current(); COMMIT")
        assert run(marker) == before
        try:
            reader.admin.execute(statement.encode())
            assert (run(marker) != before) is moves
        finally:
            reader.admin.execute("DROP EVENT TRIGGER IF EXISTS e")


def test_what_moves_while_it_is_read_has_no_mark(reader: Reader) -> None:
    reader.made(LOCKS)
    with reader.postgres.connect(dbname=DATABASE) as connection:
        run = runner(connection)

        def moving(sql: str) -> list[Row]:
            if "pg_event_trigger" in sql and "evtfoid" in sql:
                reader.admin.execute(function("BEGIN END"))
            return list(run(sql))

        assert catalogue.read(moving).mark == b""
        assert catalogue.read(run).mark


def test_paths_of_functions(reader: Reader) -> None:
    made = "BEGIN CREATE TABLE made (a int); END"
    found = reader.made(
        function(made, name="a", more="SET search_path = pg_temp, public"),
        function(made, name="b", more="SET search_path = public, pg_temp"),
        function("BEGIN RETURN; END", name="c", more="SET search_path = public, pg_temp"),
        function(made, name="d", more="SET search_path = public"),
    )
    temporary = Traces(DIRTY_TEMPORARY, (), NAMED, True)
    assert found == {b"a": temporary, b"b": temporary}


@pytest.mark.parametrize(
    ("pattern", "left"),
    [
        ("public.f", {}),
        ("f", {}),
        ("*", {}),
        ("public.*", {}),
        ("other.*", {b"f": SET, b"g": SET}),
        ("g", {b"f": SET}),
    ],
)
def test_trusted_functions(reader: Reader, pattern: str, left: dict[bytes, Traces]) -> None:
    found = reader.made(
        function(SETS, "sql", returns="text"), function("BEGIN PERFORM f(); END", name="g"), trusted=(pattern,)
    )
    assert found == left


@pytest.mark.parametrize(
    ("extension", "names"),
    [
        ("pg_trgm", {b"set_limit": Traces(DIRTY_PARAMETERS, ("pg_trgm.similarity_threshold",))}),
        ("pgcrypto", {}),
        ("hstore", {}),
        ("citext", {}),
        ("btree_gist", {}),
        ("dblink", dict.fromkeys((b"dblink_connect", b"dblink_connect_u"), Traces(DIRTY_UNKNOWN))),
        ("tablefunc", {b"crosstab": UNREADABLE, b"connectby": UNREADABLE}),
    ],
)
def test_extensions(reader: Reader, extension: str, names: dict[bytes, Traces]) -> None:
    try:
        found = reader.made(f"CREATE EXTENSION {extension}")
    except psycopg.errors.FeatureNotSupported:
        pytest.skip(f"{extension} is not installed")
    except psycopg.errors.UndefinedFile:
        pytest.skip(f"{extension} is not installed")
    assert {
        name: traces for name, traces in found.items() if not name.startswith(b"crosstab") or name in names
    } == names


def test_a_path_with_traps(reader: Reader) -> None:
    """What the session's search_path has in front means nothing."""
    reader.made(
        LOCKS,
        "CREATE SCHEMA trap; GRANT USAGE ON SCHEMA trap TO PUBLIC",
        "CREATE FUNCTION trap.yes(oid, oid) RETURNS bool LANGUAGE sql AS 'SELECT 1 / 0 = 0'",
        "CREATE OPERATOR trap.= (LEFTARG = oid, RIGHTARG = oid, FUNCTION = trap.yes)",
        "CREATE OPERATOR trap.>= (LEFTARG = oid, RIGHTARG = oid, FUNCTION = trap.yes)",
        "CREATE TABLE trap.pg_proc (oid oid)",
    )
    with reader.postgres.connect(dbname=DATABASE) as connection:
        connection.execute("SET search_path = trap, pg_catalog")
        rows = catalogue.read(runner(connection))
        assert connection.execute("SHOW search_path").fetchone() == ("trap, pg_catalog",)
    assert catalogue.hazards(rows)[b"locks"] == LOCKED


def test_any_client_encoding(reader: Reader) -> None:
    reader.made(function("BEGIN PERFORM '漢字', pg_advisory_lock(1); END"), "CREATE TABLE 漢字 (a int)")
    with reader.postgres.connect(dbname=DATABASE) as connection:
        connection.execute("SET client_encoding = LATIN1")
        assert catalogue.hazards(catalogue.read(runner(connection))) == {b"f": LOCKED}


def test_a_database_in_another_encoding(reader: Reader) -> None:
    """Names are told in UTF-8; where PostgreSQL folds their letters in its own way, any text may mean them."""
    reader.postgres.sql(f"DROP DATABASE {DATABASE} WITH (FORCE)")
    reader.postgres.sql(f"CREATE DATABASE {DATABASE} ENCODING LATIN1 LOCALE 'C' TEMPLATE template0")
    with reader.postgres.connect(user="postgres", dbname=DATABASE) as admin:
        admin.execute(function("SELECT set_config('app.ü', 'a', false)", "sql", "lösch", "text"))
        admin.execute(function("BEGIN PERFORM lösch(); END", name="g"))
        found = catalogue.hazards(catalogue.read(runner(admin)))
    traces = Traces(DIRTY_PARAMETERS, ("app.ü",))
    assert found == {"lösch".encode(): traces, b"g": traces, ANYTHING: traces}


def test_bodies_are_read_once(reader: Reader) -> None:
    reader.made(function(SETS, "sql", returns="text"), function("BEGIN PERFORM f(); END", name="g"))
    asked: list[str] = []
    with reader.postgres.connect(dbname=DATABASE) as connection:
        run = runner(connection)

        def noted(sql: str) -> list[Row]:
            asked.append(sql)
            return list(run(sql))

        def bodies_asked_for() -> bool:
            return any(re.search(r"prosrc.*ANY \('{\d", sql) for sql in asked)

        rows = catalogue.read(noted)
        assert bodies_asked_for()
        asked.clear()
        again = catalogue.read(noted, rows)
        assert not bodies_asked_for()
        assert catalogue.hazards(again) == catalogue.hazards(rows) == {b"f": SET, b"g": SET}
        reader.admin.execute("CREATE OR REPLACE FUNCTION f() RETURNS text LANGUAGE sql AS 'SELECT NULL::text'")
        assert catalogue.hazards(catalogue.read(noted, again)) == {}


def test_nothing_waits_for_a_lock(reader: Reader) -> None:
    reader.made(LOCKS, "CREATE TABLE t (a int DEFAULT locks()); CREATE VIEW v AS SELECT locks() FROM t")
    with reader.postgres.connect(user="postgres", dbname=DATABASE, autocommit=False) as locker:
        locker.execute("LOCK TABLE t, v IN ACCESS EXCLUSIVE MODE")
        with reader.postgres.connect(dbname=DATABASE) as connection:
            connection.execute("SET lock_timeout = '1s'")
            rows = catalogue.read(runner(connection))
            assert catalogue.hazards(rows).keys() == {b"locks", b"t", b"v"}
            assert runner(connection)(catalogue.marker(rows))
        locker.rollback()


def test_harmless_is_nothing() -> None:
    assert Traces() == NOTHING
