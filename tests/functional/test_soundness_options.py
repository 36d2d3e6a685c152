"""Settings, however they are spelt and whoever makes them: kept for the client that set them, seen by nobody else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import twins
from fix_doorman import Doorman
from fix_postgres import Postgres
from twins import LONG, Twins, extended, leaves_nothing, rows, run, said
from wire_client import SYNC, bind, execute, function_call, parse, query

#: Functions, and all that calls functions without being asked to.
SETTERS = """
    CREATE FUNCTION set_x() RETURNS text LANGUAGE sql AS $$ SELECT set_config('app.x', 'by a function', false) $$;
    CREATE FUNCTION set_memory() RETURNS void LANGUAGE plpgsql AS $$ BEGIN SET work_mem = '9MB'; END $$;
    CREATE FUNCTION set_path() RETURNS text LANGUAGE sql AS $$ SELECT set_config('search_path', 'elsewhere', false) $$;
    CREATE FUNCTION calls_one() RETURNS text LANGUAGE sql AS $$ SELECT set_x() $$;
    CREATE FUNCTION calls_two() RETURNS text LANGUAGE plpgsql AS $$ BEGIN RETURN calls_one(); END $$;
    CREATE FUNCTION dynamic(text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN EXECUTE $1; END $$;
    CREATE FUNCTION named(text, text) RETURNS text LANGUAGE plpgsql AS
        $$ BEGIN RETURN set_config($1, $2, false); END $$;
    CREATE FUNCTION keeps_none() RETURNS text LANGUAGE sql SET work_mem = '9MB' AS $$ SELECT current_setting('work_mem') $$;
    CREATE PROCEDURE proceed() LANGUAGE plpgsql AS $$ BEGIN SET app.x = 'a'; COMMIT; SET app.z = 'b'; END $$;
    CREATE FUNCTION watch() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN PERFORM set_config('app.tenant', 'by a trigger', false); SET work_mem = '9MB'; RETURN NEW; END $$;
    CREATE TABLE watched (a int); CREATE TRIGGER t BEFORE INSERT ON watched FOR EACH ROW EXECUTE FUNCTION watch();
    CREATE TABLE deferred (a int);
    CREATE CONSTRAINT TRIGGER t AFTER INSERT ON deferred INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION watch();
    CREATE TABLE ruled (a int); CREATE RULE r AS ON INSERT TO ruled DO ALSO SELECT set_x();
    CREATE TABLE defaulted (a int, b text DEFAULT set_x());
    CREATE VIEW viewed AS SELECT set_x() AS x;
    CREATE VIEW viewed_twice AS SELECT * FROM viewed;
    CREATE TABLE guarded (a int); INSERT INTO guarded VALUES (1);
    ALTER TABLE guarded ENABLE ROW LEVEL SECURITY; ALTER TABLE guarded FORCE ROW LEVEL SECURITY;
    CREATE POLICY p ON guarded USING (set_x() IS NOT NULL);
    CREATE TABLE constrained (a int CHECK (set_x() IS NOT NULL));
    CREATE TABLE parents (a int PRIMARY KEY); INSERT INTO parents VALUES (1);
    CREATE FUNCTION gather(text, int) RETURNS text LANGUAGE sql AS $$ SELECT set_x() $$;
    CREATE AGGREGATE gathered (int) (SFUNC = gather, STYPE = text);
    CREATE FUNCTION immutably(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS
        $$ BEGIN PERFORM set_config('app.x', 'by an index', false); RETURN $1; END $$;
    CREATE TABLE indexed (a int); CREATE INDEX ON indexed (immutably(a));
    CREATE TABLE generated (a int, b int GENERATED ALWAYS AS (immutably(a)) STORED);
    CREATE TABLE secrets (tenant text, value text); INSERT INTO secrets VALUES ('a', 'of a'), ('b', 'of b');
    ALTER TABLE secrets ENABLE ROW LEVEL SECURITY; ALTER TABLE secrets FORCE ROW LEVEL SECURITY;
    CREATE POLICY p ON secrets USING (tenant = current_setting('app.schlüssel', true));
    GRANT ALL ON ALL TABLES IN SCHEMA public TO PUBLIC;
"""


@pytest.fixture(scope="module")
def doorman_over(postgres: Postgres) -> Mapping[str, Any]:
    twins.populate(postgres, SETTERS)
    return {"pools": {"one": twins.pool(postgres, 1), "reset": twins.pool(postgres, 1, session_state="reset")}}


@pytest.fixture(scope="module", params=["one", "reset"])
def pair(request: pytest.FixtureRequest, doorman: Doorman, postgres: Postgres) -> Iterator[Twins]:
    with Twins(doorman, postgres, request.param) as made:
        yield made


def leaves(pair: Twins, *steps: str | bytes, **more: Any) -> None:
    leaves_nothing(pair, said(*steps), kept=pair.database == "one", **more)


@pytest.mark.parametrize("by", ["bound", "literal", "SET", "DO"])
def test_rows_of_another(doorman: Doorman, postgres: Postgres, by: str) -> None:
    """Row security by a customized option: each client sees its own tenant's rows, one that set none sees none."""
    with Twins(doorman, postgres) as both:
        a, b, own_a, own_b = both.pooled(), both.pooled(), both.direct(), both.direct()
        ways = {
            "bound": lambda who: extended(run("SELECT set_config('app.schlüssel', $1, false)", who.encode())),
            "literal": lambda who: query(f"SELECT set_config('app.schlüssel', '{who}', false)"),
            "SET": lambda who: query(f"SET app.schlüssel = '{who}'"),
            "DO": lambda who: query(f"DO $$ BEGIN PERFORM set_config('app.schlüssel', '{who}', false); END $$"),
        }
        read = query("SELECT value FROM secrets")
        for client in (a, own_a):
            client.ask(ways[by]("a"))
        for _ in range(2):
            for client, direct in ((b, own_b), (a, own_a)):
                client.send(read)
                if not both.answered_or_pinned(client):
                    a.terminate()  # the client that has set it is kept on its server: as good
                    assert rows(client.read_ready()) == rows(direct.ask(read))
                    return
                assert rows(client.read_ready()) == rows(direct.ask(read))
            for client in (b, own_b):
                client.ask(ways[by]("b"))


# -- names in every spelling


@pytest.mark.parametrize(
    "name",
    [
        "app.schlüssel",
        "äpp.x",
        "app.中文",
        "ключ.значение",
        f"app.{LONG}",
        f"{LONG}.x",
        f"app.{'y' * 150}",
        f"app.{'ü' * 40}",
        "app.x$1",
        "app._9",
        "a.b.c",
        "APP.X",
    ],
    ids=twins.label,
)
@pytest.mark.parametrize(
    "way",
    [
        "SET {0} = 'v'",
        "SET SESSION {0} TO 'v', 'w'",
        "BEGIN; SET {0} = 'v'; COMMIT",
        "SELECT set_config('{0}', 'v', false)",
        "DO $$ BEGIN SET {0} = 'v'; END $$",
        "bound",
        "behind 20 KB",
    ],
)
def test_any_name(pair: Twins, name: str, way: str) -> None:
    text = twins.look({*twins.OPTIONS, name, f"app.{'ü' * 31}", name.lower()})
    if way == "bound":
        steps = [extended(run("SELECT set_config($1, $2, false)", name.encode(), b"v"))]
    elif way == "behind 20 KB":
        steps = [extended(run("SELECT set_config($2, $3, false), length($1)", b"z" * 20_000, name.encode(), b"v"))]
    else:
        steps = said(way.format(name))
    leaves(pair, *steps, text=text)


@pytest.mark.parametrize(
    "text",
    [
        "SET app . x = 'v'",
        "SET app/**/.x = 'v'",
        "SET app./* of */x = 'v'",
        "SET app -- of\n.x = 'v'",
        "SET/**/app.x='v'",
        "/* /* nested */ */ SET app.x = 'v'",
        'SET "app"."x" = \'v\'',
        'SET "app" . x = v',
        "SET U&\"\\0061pp\".x = 'v'",
        "SET SESSION\napp\n.\nx\nTO\n'v'",
        "SET\fapp.x\vTO 'v'",
        "SET app.x = 'v';;",
        "SET LOCAL app.x = 'w'; SET app.x = 'v'",
        "SELECT set_config($q$app.x$q$, 'v', false)",
        "SELECT set_config($$app.x$$, $$v$$, false)",
        "SELECT set_config(E'app.\\x78', 'v', false)",
        "SELECT set_config(E'\\141pp.x', 'v', false)",
        "SELECT set_config(E'app.\\u0078', 'v', false)",
        "SELECT set_config(U&'app.\\0078', 'v', false)",
        "SELECT set_config(U&'app.!0078' UESCAPE '!', 'v', false)",
        "SELECT set_config('app'\n'.x', 'v', false)",
        "SELECT set_config(text 'app.x', 'v', false)",
        "SELECT set_config(name 'app.x', 'v', false)",
        "SELECT set_config('app.x'::text, 'v', false)",
        "SELECT set_config(CAST('app.x' AS text), 'v', false)",
        "SELECT set_config(('app.x'), 'v', (false))",
        "SELECT set_config /* of */ ('app.x', 'v', 'f')",
        "SELECT set_config(setting_name => 'app.x', new_value => 'v', is_local => false)",
        "SELECT set_config(is_local := false, new_value := 'v', setting_name := 'app.x')",
        "SELECT set_config(VARIADIC => 1)",
        "SELECT pg_catalog.set_config('app.x', 'v', 1 = 0)",
        "SELECT pg_catalog . \"set_config\" ('app.x', 'v', false)",
        "SELECT U&\"set\\005Fconfig\"('app.x', 'v', false)",
        "SELECT U&\"set!005Fconfig\" UESCAPE '!' ('app.x', 'v', false)",
        "SELECT SET_CONFIG(lower('APP.X'), 'v', false)",
        "SELECT set_config(concat('app', '.', 'x'), 'v', false)",
        "SELECT set_config(chr(97) || 'pp.x', 'v', false)",
        "SELECT set_config((SELECT 'app.x'), 'v', false)",
        "SELECT set_config(n, 'v', false) FROM unnest(ARRAY['app.x', 'app.z']) AS n",
        "SELECT (SELECT set_config(n, 'v', false)) FROM (VALUES ('app' || '.x')) AS t (n)",
        "SELECT 1 WHERE set_config('app.x', 'v', false) IS NULL",
        "SELECT 1 ORDER BY set_config('app.x', 'v', false)",
        "VALUES (set_config('app.x', 'v', false))",
        "WITH w AS MATERIALIZED (SELECT set_config('app.x', 'v', false)) SELECT count(*) FROM w",
        "SELECT query_to_xml('select set_config(''app.x'', ''v'', false)', true, true, '')",
        "COPY (SELECT set_config('app.x', 'v', false)) TO STDOUT",
        "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) SELECT set_config('app.x', 'v', false)",
        "CREATE TABLE made AS SELECT set_config('app.x', 'v', false); DROP TABLE made",
        "PREPARE p AS SELECT set_config('app.x', 'v', false); EXECUTE p; DEALLOCATE p",
        "BEGIN; DECLARE c CURSOR FOR SELECT set_config('app.x', 'v', false); FETCH c; COMMIT",
        "INSERT INTO whose SELECT set_config('app.x', 'v', false); DELETE FROM whose WHERE n = 'v'",
        "UPDATE pg_settings SET setting = 'elsewhere' WHERE name = 'search_path'",
        "UPDATE pg_catalog.pg_settings SET setting = '9216' WHERE name = 'work_mem'",
        "UPDATE \"pg_settings\" AS s SET setting = '9s' WHERE s.name LIKE 'lock_timeou_'",
        "WITH n AS (SELECT 'search_path' AS n) UPDATE pg_settings SET setting = 'elsewhere' FROM n WHERE name = n",
        "DO $$ BEGIN UPDATE pg_settings SET setting = 'elsewhere' WHERE name = 'search_path'; END $$",
        "BEGIN; SAVEPOINT s; SET app.x = 'w'; ROLLBACK TO s; SET app.z = 'v'; COMMIT",
        "BEGIN; SET app.x = 'v'; SET LOCAL app.x = 'w'; COMMIT",
        "BEGIN; SET app.x = 'v'; ROLLBACK; SET app.z = 'v'",
    ],
    ids=twins.label,
)
def test_any_spelling(pair: Twins, text: str) -> None:
    # Without the times that EXPLAIN shows.
    leaves(pair, text, same_answers=not text.startswith("EXPLAIN"))


@pytest.mark.parametrize(
    "step",
    [
        extended(run("SELECT set_config($1, 'v', false)", b"app.x")),
        extended(run("SELECT set_config($1 || $2, 'v', false)", b"app", b".x")),
        extended(run("SELECT set_config($2, $1, false)", b"z" * 8_000, b"app.x")),
        extended(run("SELECT set_config($2, $1, false)", b"z" * 20_000, b"app.x")),
        extended(run("SELECT set_config($2, left($1, 1), false)", b"z" * 300_000, b"app.x")),
        extended(run("SELECT set_config($1, $2, $3)", b"app.x", b"v", b"f")),
        extended(run("SELECT set_config($1, $2, false)", b"work_mem", b"9MB")),
        extended(run("SELECT set_config($1, $2, false)", b"search_path", b"elsewhere")),
        extended(run("UPDATE pg_settings SET setting = $1 WHERE name = $2", b"elsewhere", b"search_path")),
        extended(
            parse("s", "SELECT set_config($1, $2, false)"),
            bind("", "s", (b"app.x", b"v")),
            execute(),
            bind("", "s", (b"app.z", b"w" * 30_000)),
            execute(),
        ),
        # The portal is kept over a Flush's worth of others and run at last.
        extended(
            parse("s", "SELECT set_config($1, $2, false)"),
            bind("held", "s", (b"app.x", b"v")),
            run("SELECT 1"),
            execute("held"),
        ),
        query("BEGIN")
        + parse("s", "SELECT set_config($1, $2, false)")
        + bind("held", "s", (b"app.x", b"v"))
        + SYNC
        + extended(run("SELECT 1"))
        + extended(execute("held"))
        + query("COMMIT"),
        function_call(2078, [b"app.x", b"v", b"f"]),
        function_call(2078, [b"app.sch\xc3\xbcssel", b"v", b"f"]),
    ],
    ids=lambda step: f"{twins.label(step[:80])} {len(step)}",
)
def test_by_bound_values(pair: Twins, step: bytes) -> None:
    leaves(pair, step)


# -- made at run time, and by what is called


@pytest.mark.parametrize(
    "text",
    [
        "DO $$ BEGIN EXECUTE format('SET %I.%I = %L', 'app', 'x', 'v'); END $$",
        "DO $$ BEGIN EXECUTE format('SET %I = %L', 'work_mem', '9MB'); END $$",
        "DO $$ BEGIN EXECUTE 'SET' || ' app.x' || ' = 1'; END $$",
        "DO $$ BEGIN EXECUTE concat_ws(' ', 'S' 'ET', 'work_mem', '=', '9000'); END $$",
        "DO $$ BEGIN EXECUTE convert_from('\\x534554206170702e78203d2031', 'UTF8'); END $$",
        "DO $$ BEGIN EXECUTE reverse('1 = x.ppa TES'); END $$",
        "DO LANGUAGE plpgsql 'BEGIN EXECUTE ''SET app.x = 1''; END'",
        "DO E'BEGIN SET app.\\x78 = 1; END'",
        "DO $$ BEGIN EXECUTE 'DO $i$ BEGIN SET app.x = 1; END $i$'; END $$",
        "DO $$ BEGIN EXECUTE 'SELECT set_config($1, $2, false)' USING 'app.x', 'v'; END $$",
        "DO $$ BEGIN SET app.x = 1; RAISE division_by_zero; EXCEPTION WHEN OTHERS THEN SET app.z = 1; END $$",
        "DO $$ BEGIN SET app.x = 1; COMMIT; SET app.z = 1; ROLLBACK; END $$",
        "SELECT set_x()",
        "SELECT set_memory()",
        "SELECT set_path()",
        "SELECT calls_one()",
        "SELECT calls_two()",
        "SELECT dynamic('SET app.x = 1')",
        "SELECT dynamic(reverse('1 = x.ppa TES'))",
        "SELECT named('app' || '.x', 'v')",
        "SELECT named('app.schlüssel', 'v')",
        "SELECT keeps_none()",
        "CALL proceed()",
        "INSERT INTO watched VALUES (1)",
        "COPY watched FROM STDIN",
        "BEGIN; INSERT INTO deferred VALUES (1); COMMIT",
        "BEGIN; INSERT INTO watched VALUES (1); ROLLBACK",
        "INSERT INTO ruled VALUES (1)",
        "INSERT INTO defaulted VALUES (1)",
        "SELECT * FROM viewed",
        "TABLE viewed_twice",
        "SELECT * FROM guarded",
        "INSERT INTO constrained VALUES (1)",
        "SELECT gathered(n) FROM generate_series(1, 2) AS n",
        "INSERT INTO indexed VALUES (1)",
        "INSERT INTO generated VALUES (1)",
        "CREATE FUNCTION pg_temp.passing() RETURNS text LANGUAGE sql AS $$ SELECT set_config('app.x', 'v', false) $$;"
        " SELECT pg_temp.passing(); DROP FUNCTION pg_temp.passing()",
        "BEGIN; CREATE FUNCTION passing() RETURNS text LANGUAGE sql AS $$ SELECT set_config('app.x', 'v', false) $$;"
        " SELECT passing(); DROP FUNCTION passing(); COMMIT",
    ],
    ids=twins.label,
)
@pytest.mark.parametrize("protocol", ["simple", "extended"])
def test_at_run_time(pair: Twins, text: str, protocol: str) -> None:
    if text.startswith("COPY"):
        leaves(pair, query(text) + b"d\0\0\0\x061\n" + b"c\0\0\0\x04")
    elif protocol == "simple":
        leaves(pair, text)
    elif "; " in text and "$$" not in text:
        leaves(pair, *(extended(run(part)) for part in text.split("; ")))
    elif not text.startswith(("CREATE", "BEGIN; CREATE")):
        leaves(pair, extended(run(text)))


@pytest.mark.parametrize("replaced", [False, True])
def test_a_function_that_somebody_else_has_made(pair: Twins, postgres: Postgres, replaced: bool) -> None:
    """Made, or made dangerous, on a connection of its own."""
    harmless = "CREATE OR REPLACE FUNCTION foreign_one() RETURNS text LANGUAGE sql AS $$ SELECT 'harmless' $$"
    harmful = harmless.replace("'harmless'", "set_config('app.x', 'v', false)")
    for database in (twins.POOLED, twins.DIRECT):
        postgres.sql("DROP FUNCTION IF EXISTS foreign_one()", database=database)
    if replaced:
        pair.make_elsewhere(harmless)
        leaves(pair, "SELECT foreign_one()")
    pair.make_elsewhere(harmful)
    leaves(pair, "SELECT foreign_one()")


@pytest.mark.parametrize("reset", ["DISCARD ALL", "RESET ALL", "RESET app.x"])
@pytest.mark.parametrize("kept", [False, True])
def test_an_option_made_empty_and_reset(pair: Twins, reset: str, kept: bool) -> None:
    """Of one that the session began with, which hidden code has left alone."""
    emptied = extended(run("SELECT set_config($1, $2, false)", b"app.x", b""))
    before = ["DO $$ BEGIN LISTEN ch; END $$"] if kept else []
    startup = {"options": "-c work_mem=3MB -c app.x=begin"}
    leaves(pair, *before, emptied, "ROLLBACK", reset, startup=startup)
    leaves(pair, *before, emptied, "SELECT 1", startup=startup)


def test_an_option_s_name_stays_but_never_its_value(doorman: Doorman, postgres: Postgres) -> None:
    """PostgreSQL forgets a name only with the connection: another client reads it as who has reset it reads it."""
    asked = "SELECT coalesce(current_setting('app.once', true), 'none')"
    with Twins(doorman, postgres, "one") as both:
        a, b, direct = both.pooled(), both.pooled(), both.direct()
        for client in (a, direct):
            assert client.value(asked) == "none"
            client.ask_query("SET app.once = 'of a'")
            assert client.value(asked) == "of a"
        direct.ask_query("RESET app.once")
        assert b.value(asked) == direct.value(asked) == ""
        assert a.value(asked) == "of a"
