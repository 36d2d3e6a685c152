"""What types, casts, operators and event triggers do without being named: where there are such, nothing is taken for harmless."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import twins
from fix_doorman import Doorman
from fix_postgres import Postgres
from twins import Twins, extended, leaves_nothing, run, said

#: Made and taken away by each test, so that no other makes the pooler ask.
MADE: Mapping[str, tuple[str, str]] = {
    "domain": (
        "CREATE DOMAIN checked AS int CHECK (leaves() IS NOT NULL)",
        "DROP DOMAIN checked CASCADE",
    ),
    "domain of a column": (
        "CREATE DOMAIN checked AS int CHECK (leaves() IS NOT NULL); CREATE TABLE typed (a checked)",
        "DROP TABLE typed; DROP DOMAIN checked",
    ),
    "default of a domain": (
        "CREATE DOMAIN checked AS text DEFAULT leaves(); CREATE TABLE typed (a int, b checked)",
        "DROP TABLE typed; DROP DOMAIN checked",
    ),
    "cast": (
        "CREATE TYPE pair AS (a int, b int);"
        " CREATE FUNCTION to_int(pair) RETURNS int LANGUAGE sql AS $$ SELECT length(leaves()) $$;"
        " CREATE CAST (pair AS int) WITH FUNCTION to_int(pair); CREATE TABLE typed AS SELECT ROW(1, 2)::pair AS a",
        "DROP TABLE typed; DROP TYPE pair CASCADE",
    ),
    "operator": (
        "CREATE FUNCTION plus(text, int) RETURNS text LANGUAGE sql AS $$ SELECT leaves() $$;"
        " CREATE OPERATOR @@@@ (FUNCTION = plus, LEFTARG = text, RIGHTARG = int)",
        "DROP OPERATOR @@@@ (text, int); DROP FUNCTION plus(text, int)",
    ),
    "aggregate": (
        "CREATE FUNCTION gather(text, int) RETURNS text LANGUAGE sql AS $$ SELECT leaves() $$;"
        " CREATE AGGREGATE gathered (int) (SFUNC = gather, STYPE = text)",
        "DROP AGGREGATE gathered (int); DROP FUNCTION gather(text, int)",
    ),
    "event trigger": (
        "CREATE FUNCTION on_ddl() RETURNS event_trigger LANGUAGE plpgsql AS"
        " $$ BEGIN PERFORM set_config('app.x', 'by an event', false); END $$;"
        " CREATE EVENT TRIGGER e ON ddl_command_end EXECUTE FUNCTION on_ddl()",
        "DROP EVENT TRIGGER e; DROP FUNCTION on_ddl()",
    ),
    "range type": (
        "CREATE FUNCTION gap(int, int) RETURNS float8 IMMUTABLE LANGUAGE plpgsql AS"
        " $$ BEGIN PERFORM leaves(); RETURN 1; END $$;"
        " CREATE TYPE spans AS RANGE (subtype = int, subtype_diff = gap); CREATE TABLE typed (a spans);"
        " CREATE INDEX ON typed USING gist (a); INSERT INTO typed SELECT spans(n, n + 1) FROM generate_series(1, 300) AS n",
        "DROP TABLE typed; DROP TYPE spans CASCADE; DROP FUNCTION gap(int, int)",
    ),
}

USED = [
    ("domain", "SELECT 1::checked"),
    ("domain", "SELECT CAST('1' AS checked)"),
    ("domain of a column", "INSERT INTO typed VALUES (1)"),
    ("domain of a column", "SELECT * FROM json_populate_record(NULL::typed, '{\"a\": 1}')"),
    ("default of a domain", "INSERT INTO typed (a) VALUES (1)"),
    ("cast", "SELECT ROW(1, 2)::pair::int"),
    ("cast", "SELECT a::int FROM typed"),
    ("operator", "SELECT 'a'::text @@@@ 1"),
    ("operator", "SELECT n FROM whose WHERE n @@@@ 1 IS NOT NULL"),
    ("aggregate", "SELECT gathered(n) FROM generate_series(1, 2) AS n"),
    ("event trigger", "CREATE TABLE passing (a int)"),
    ("event trigger", "DO $$ BEGIN CREATE TABLE passing (a int); END $$"),
    ("range type", "INSERT INTO typed SELECT spans(n, n + 2) FROM generate_series(1, 500) AS n"),
]


@pytest.fixture(scope="module")
def doorman_over(postgres: Postgres) -> Mapping[str, Any]:
    twins.populate(
        postgres,
        "CREATE FUNCTION leaves() RETURNS text LANGUAGE plpgsql AS"
        " $$ BEGIN SET work_mem = '9MB'; PERFORM pg_advisory_lock(7); RETURN set_config('app.x', 'v', false); END $$;"
        " GRANT CREATE ON SCHEMA public TO PUBLIC; ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO PUBLIC",
    )
    return {"pools": {"one": twins.pool(postgres, 1), "reset": twins.pool(postgres, 1, session_state="reset")}}


@pytest.fixture(scope="module", params=["one", "reset"])
def pair(request: pytest.FixtureRequest, doorman: Doorman, postgres: Postgres) -> Iterator[Twins]:
    with Twins(doorman, postgres, request.param) as made:
        yield made


@pytest.mark.parametrize(("made", "used"), USED, ids=[twins.label(used) for _, used in USED])
@pytest.mark.parametrize("protocol", ["simple", "extended"])
def test_nothing_is_left(pair: Twins, postgres: Postgres, made: str, used: str, protocol: str) -> None:
    making, dropping = MADE[made]
    pair.make_elsewhere(making)
    try:
        step = extended(run(used)) if protocol == "extended" else used
        leaves_nothing(pair, said(step), kept=pair.database == "one")
    finally:
        for database in (twins.POOLED, twins.DIRECT):
            postgres.sql(f"{dropping}; DROP TABLE IF EXISTS passing", database=database)
