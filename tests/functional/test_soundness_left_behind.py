"""What is made where a look at the text does not see it: in DO, in functions, by extensions; it reaches no other client."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import twins
from eventually import eventually
from fix_doorman import Doorman
from fix_postgres import Postgres
from twins import Twins, extended, leaves_nothing, rows, run, said, same
from wire_client import kinds, query

MAKERS = """
    CREATE FUNCTION hears() RETURNS void LANGUAGE plpgsql AS $$ BEGIN LISTEN ch; END $$;
    CREATE FUNCTION locks() RETURNS void LANGUAGE sql AS $$ SELECT pg_advisory_lock(77) $$;
    CREATE FUNCTION dynamic(text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN EXECUTE $1; END $$;
    CREATE FUNCTION tabulates() RETURNS void LANGUAGE plpgsql AS $$ BEGIN CREATE TEMP TABLE mine AS SELECT 1 AS a; END $$;
    CREATE FUNCTION points() RETURNS void LANGUAGE plpgsql AS
        $$ BEGIN SET search_path = elsewhere; PERFORM 1; END $$;
    CREATE FUNCTION points_by_name() RETURNS void LANGUAGE plpgsql AS
        $$ BEGIN PERFORM set_config('search_path', 'elsewhere', false); END $$;
    CREATE FUNCTION listening() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN LISTEN ch; PERFORM pg_advisory_lock(78); RETURN NEW; END $$;
    CREATE TABLE heard (a int); CREATE TRIGGER t AFTER INSERT ON heard FOR EACH ROW EXECUTE FUNCTION listening();
    GRANT ALL ON ALL TABLES IN SCHEMA public TO PUBLIC;
"""

EXTENSIONS = ("pg_trgm", "pgtap", "orafce", "dblink", "tablefunc")


@pytest.fixture(scope="module")
def doorman_over(postgres: Postgres) -> Mapping[str, Any]:
    twins.populate(postgres, MAKERS)
    for database in (twins.POOLED, twins.DIRECT):
        for extension in EXTENSIONS:
            if postgres.rows("SELECT 1 FROM pg_available_extensions WHERE name = %s", (extension,)):
                postgres.sql(f"CREATE EXTENSION {extension}", database=database)
    return {"pools": {"one": twins.pool(postgres, 1), "reset": twins.pool(postgres, 1, session_state="reset")}}


@pytest.fixture(scope="module", params=["one", "reset"])
def pair(request: pytest.FixtureRequest, doorman: Doorman, postgres: Postgres) -> Iterator[Twins]:
    with Twins(doorman, postgres, request.param) as made:
        yield made


def leaves(pair: Twins, *steps: str | bytes, **more: Any) -> None:
    leaves_nothing(pair, said(*steps), kept=pair.database == "one", **more)


@pytest.mark.parametrize(
    "text",
    [
        "DO $$ BEGIN LISTEN ch; END $$",
        "DO $$ BEGIN EXECUTE 'LISTEN ' || quote_ident('ch'); END $$",
        "DO $$ BEGIN EXECUTE reverse('hc NETSIL'); END $$",
        "DO $$ BEGIN EXECUTE 'DECLARE c CURSOR WITH HOLD FOR SELECT 1'; END $$",
        "DO $$ BEGIN EXECUTE format('DECLARE %I CURSOR WITH HOLD FOR SELECT 1', 'c'); END $$",
        "DO $$ BEGIN EXECUTE 'PREPARE p AS SELECT 1'; END $$",
        "DO $$ BEGIN EXECUTE reverse('1 TCELES SA p ERAPERP'); END $$",
        "DO $$ BEGIN CREATE TEMP TABLE mine (a int); END $$",
        "DO $$ BEGIN EXECUTE 'CREATE TE' 'MP TABLE mine (a int)'; END $$",
        "DO $$ BEGIN PERFORM 1; CREATE TABLE pg_temp.mine (a int); END $$",
        "DO $$ BEGIN PERFORM pg_advisory_lock(7); END $$",
        "DO $$ BEGIN EXECUTE 'SELECT pg_' || 'advisory_lock(7)'; END $$",
        "DO $$ DECLARE n text := 'pg_advisory_lock'; BEGIN EXECUTE format('SELECT %I(7)', n); END $$",
        "DO $$ BEGIN PERFORM pg_create_physical_replication_slot('s_' || current_database(), false, true); END $$",
        "SELECT pg_create_physical_replication_slot('s_' || current_database(), false, true)",
        "SELECT pg_create_physical_replication_slot(slot_name => 's_' || current_database(), temporary => true)",
        "SELECT \"pg_create_physical_replication_slot\"('p_' || current_database(), true, true)",
        "SELECT hears()",
        "SELECT locks()",
        "SELECT tabulates()",
        "SELECT points()",
        "SELECT points_by_name()",
        "INSERT INTO heard VALUES (1)",
        "SELECT dynamic('LISTEN ch')",
        "SELECT dynamic(reverse('hc NETSIL'))",
        "SELECT dynamic(reverse('1 TCELES ROF DLOH HTIW RORUC ERALCED'))",
        "SELECT dynamic(reverse('1 TCELES ROF DLOH HTIW ROSRUC c ERALCED'))",
        "SELECT dynamic(reverse(')tni a( enim ELBAT PMET ETAERC'))",
        "SELECT dynamic(reverse(')7(kcol_yrosivda_gp TCELES'))",
        "BEGIN; SELECT dynamic(reverse('1 TCELES ROF DLOH HTIW ROSRUC c ERALCED')); COMMIT",
        "BEGIN; SAVEPOINT s; SELECT locks(); ROLLBACK TO s; COMMIT",
        "BEGIN; SELECT locks(); ROLLBACK",
        "BEGIN; SELECT locks(); SELECT 1/0",
        'SELECT U&"pg\\005Fadvisory_lock"(7)',
        "SELECT query_to_xml('select pg_advisory_lock(7)', true, true, '')",
        "SELECT * FROM query_to_xmlschema('select 1', true, true, '') WHERE pg_try_advisory_lock(7)",
        "SELECT pg_advisory_lock(length(n)) FROM whose",
        "BEGIN; SET search_path = pg_temp, public; CREATE TABLE mine (a int); COMMIT",
        "SELECT lo_from_bytea(0, 'x') IS NULL",
    ],
    ids=twins.label,
)
@pytest.mark.parametrize("protocol", ["simple", "extended"])
def test_nothing_is_left(pair: Twins, text: str, protocol: str) -> None:
    same = "lo_from" not in text and "slot" not in text
    if protocol == "simple":
        leaves(pair, text, same_answers=same)
    elif "$$" in text:
        leaves(pair, extended(run(text)), same_answers=same)
    else:
        leaves(pair, *(extended(run(part)) for part in text.split("; ")), same_answers=same)


@pytest.mark.parametrize("how", ["set_config", "bound", "escaped", "UPDATE", "DO", "function", "LOCAL"])
def test_a_temporary_table_by_the_search_path(pair: Twins, how: str) -> None:
    first = {
        "set_config": query("SELECT set_config('search_path', 'pg_temp', true)"),
        "bound": extended(run("SELECT set_config('search_path', $1, true)", b"pg_temp")),
        "escaped": query("SELECT U&\"set\\005Fconfig\"('search_path', E'pg\\x5ftemp', true)"),
        "UPDATE": query("UPDATE pg_settings SET setting = 'pg_temp' WHERE name = 'search_path'"),
        "DO": query("DO $$ BEGIN PERFORM set_config('search' || '_path', 'pg_' || 'temp', true); END $$"),
        "function": query("SELECT public.dynamic(reverse('pmet_gp = htap_hcraes TES'))"),
        "LOCAL": query('SET LOCAL "search_path" = "pg_temp"'),
    }[how]
    leaves(pair, "BEGIN", first, "CREATE TABLE mine AS SELECT 'of A' AS a", "COMMIT")


def test_notifications_reach_who_listens(doorman: Doorman, postgres: Postgres) -> None:
    """LISTEN in a DO block: who said it hears it, also while idle; nobody else does."""
    with Twins(doorman, postgres) as both:
        a, b = both.pooled(), both.pooled()
        a.ask_query("DO $$ BEGIN LISTEN ch; END $$")
        postgres.sql("NOTIFY ch, 'for A'", database=twins.POOLED)
        assert a.read().kind == "A", "what one listens to arrives while it is idle"
        b.send(query("SELECT 1"))
        if not both.answered_or_pinned(b):
            a.terminate()
        assert kinds(b.read_ready()) == "TDCZ"
        postgres.sql("NOTIFY ch, 'for nobody'", database=twins.POOLED)
        assert b.is_quiet()
        assert kinds(b.ask_query("SELECT 1")) == "TDCZ"


@pytest.mark.parametrize(
    ("made", "used"),
    [
        ("DO $$ BEGIN EXECUTE 'PREPARE p AS SELECT 1'; END $$", "EXECUTE p"),
        ("DO $$ BEGIN EXECUTE 'DECLARE c CURSOR WITH HOLD FOR SELECT 1'; END $$", "FETCH c"),
        ("DO $$ BEGIN CREATE TEMP TABLE of_a AS SELECT 1 AS a; END $$", "SELECT a FROM of_a"),
        ("BEGIN; SELECT set_config('search_path', 'pg_temp', true); CREATE TABLE of_a (a int); COMMIT", "TABLE of_a"),
    ],
)
def test_another_client_finds_none_of_it(doorman: Doorman, postgres: Postgres, made: str, used: str) -> None:
    with Twins(doorman, postgres) as both:
        a, direct = both.pooled(), both.direct()
        a.ask_query(made)
        a.terminate()
        with both.pooled() as b:
            assert same(b.ask_query(used)) == same(direct.ask_query(used))
            b.terminate()
        both.renew()


def test_a_temporary_slot_is_gone_with_its_maker(pair: Twins) -> None:
    made = "SELECT slot_name FROM pg_create_physical_replication_slot('passing', true, true)"
    with pair.pooled() as a:
        assert rows(a.ask_query(made)) == [(b"passing",)]
        a.terminate()
    try:
        with pair.pooled() as b:
            eventually(lambda: kinds(b.ask_query(made)) == "TDCZ", message="the slot's name is free")
            b.terminate()
    finally:
        pair.renew()


# -- functions of extensions, whose state is their library's own


#: Asked on two fresh connections of PostgreSQL these give the same, whatever the first has done before.
TAP = "BEGIN; SELECT plan(2); SELECT ok(true); ROLLBACK"


@pytest.mark.parametrize(
    ("extension", "made", "used"),
    [
        ("pg_trgm", "SELECT set_limit(0.9)", "SELECT show_limit(), 'word' % 'words'"),
        ("pg_trgm", 'SELECT public."set_limit"(0.9::real)', "SELECT show_limit()"),
        ("pg_trgm", "DO $$ BEGIN PERFORM set_limit(0.9); END $$", "SELECT show_limit()"),
        ("pg_trgm", "SELECT dynamic(reverse(')9.0(timil_tes TCELES'))", "SELECT show_limit()"),
        ("pgtap", "SELECT plan(2)", TAP),
        ("pgtap", "SELECT * FROM no_plan()", TAP),
        ("pgtap", "SELECT plan(1); SELECT ok(true); SELECT * FROM finish()", TAP),
        (
            "orafce",
            "SELECT dbms_output.enable(); SELECT dbms_output.put_line('of A')",
            "SELECT dbms_output.enable(); SELECT dbms_output.get_line()",
        ),
        (
            "orafce",
            "SELECT dbms_output.serveroutput(true)",
            "SELECT dbms_output.enable(); SELECT dbms_output.put_line('of B')",
        ),
        ("orafce", "SELECT plvdate.set_nonbizday('2026-11-30')", "SELECT plvdate.isbizday('2026-11-30')"),
        ("", "SELECT points()", "TABLE whose"),
        ("", "SELECT points_by_name()", "TABLE whose"),
    ],
    ids=twins.label,
)
def test_what_extensions_remember(pair: Twins, postgres: Postgres, extension: str, made: str, used: str) -> None:
    """The next client sees what one on a fresh connection sees, and the first what it would have."""
    if extension and not postgres.rows("SELECT 1 FROM pg_available_extensions WHERE name = %s", (extension,)):
        pytest.skip(f"PostgreSQL here has no {extension}")
    with pair.direct() as direct, pair.direct() as fresh:
        with pair.pooled() as a:
            for text in (made, used) if pair.database == "one" else (made,):
                assert same(a.ask_query(text)) == same(direct.ask_query(text))
            a.terminate()
        try:
            with pair.pooled() as b:
                assert same(b.ask_query(used)) == same(fresh.ask_query(used))
                b.terminate()
        finally:
            pair.renew()
