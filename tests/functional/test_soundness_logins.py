"""What a session begins with, by its role, its database or its startup packet, is what RESET, SET ... NONE and others go back to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import twins
from fix_doorman import Doorman
from fix_postgres import Postgres
from twins import Twins, extended, leaves_nothing, run, said, same
from wire_client import SYNC, bind, execute, parse, query

#: A role whose logins begin as another, with settings of every kind.
ROLE = "twin_disguised"

ROLES = f"""
    CREATE ROLE twin_weak; CREATE ROLE twin_strong SUPERUSER;
    CREATE ROLE {ROLE} LOGIN PASSWORD '{twins.OTHERS_PASSWORD.replace("'", "''")}';
    GRANT twin_weak, twin_strong, pg_read_all_settings TO {ROLE};
    GRANT pg_read_all_settings TO twin_weak;
    ALTER ROLE {ROLE} SET role = 'twin_weak';
    ALTER ROLE {ROLE} SET app.x = 'of the role';
    ALTER ROLE {ROLE} SET work_mem = '6MB';
    ALTER ROLE {ROLE} SET datestyle = 'German';
"""

IN_DATABASE = f"""
    ALTER DATABASE %s SET app.tenant = 'of the database';
    ALTER DATABASE %s SET lock_timeout = '7s';
    ALTER ROLE {ROLE} IN DATABASE %s SET search_path = elsewhere, public;
    ALTER ROLE {ROLE} IN DATABASE %s SET app.z = 'of the role there';
    CREATE FUNCTION as_nobody() RETURNS void LANGUAGE plpgsql AS $$ BEGIN SET ROLE NONE; END $$;
    CREATE FUNCTION elsewhere.as_nobody() RETURNS void LANGUAGE plpgsql AS $$ BEGIN SET ROLE NONE; END $$;
"""


@pytest.fixture(scope="module")
def doorman_over(postgres: Postgres) -> Iterator[Mapping[str, Any]]:
    twins.populate(postgres)
    postgres.sql(ROLES)
    for database in (twins.POOLED, twins.DIRECT):
        postgres.sql(IN_DATABASE.replace("%s", database), database=database)
    yield {
        "pools": {
            "one": twins.pool(postgres, 1, ROLE),
            "reset": twins.pool(postgres, 1, ROLE, session_state="reset"),
            "session": twins.pool(postgres, 1, ROLE, pool_mode="session"),
        }
    }


@pytest.fixture(scope="module", params=["one", "reset"])
def pair(request: pytest.FixtureRequest, doorman: Doorman, postgres: Postgres) -> Iterator[Twins]:
    with Twins(doorman, postgres, request.param, ROLE) as made:
        yield made


def leaves(pair: Twins, *steps: str | bytes, **more: Any) -> None:
    leaves_nothing(pair, said(*steps), kept=pair.database == "one", **more)


@pytest.mark.parametrize(
    "text",
    [
        "SELECT 1",
        "SET role none",
        "RESET role",
        "SET ROLE twin_strong",
        "SET ROLE twin_disguised",
        "SET SESSION AUTHORIZATION DEFAULT",
        "RESET SESSION AUTHORIZATION",
        "SELECT set_config('role', 'none', false)",
        "SELECT set_config('role', NULL, false)",
        "DO $$ BEGIN SET ROLE NONE; END $$",
        "DO $$ BEGIN EXECUTE 'SET ' || 'ROLE none'; END $$",
        "DO $$ BEGIN PERFORM set_config('ro' || 'le', 'twin_strong', false); END $$",
        "SELECT as_nobody()",
        "BEGIN; SET ROLE none; COMMIT",
        "BEGIN; SET ROLE none; ROLLBACK",
        "BEGIN; SET LOCAL ROLE none; COMMIT",
        "BEGIN; SAVEPOINT s; SET ROLE none; ROLLBACK TO s; COMMIT",
        "SET ROLE none; SET ROLE twin_weak",
        "DISCARD ALL",
        "RESET ALL",
        "SET ROLE none; RESET ALL",
        "SET ROLE none; SET work_mem = '9MB'",
        "SET app.x = 'v'",
        "RESET app.x",
        "SET app.x TO DEFAULT",
        "SET app.x = ''",
        "SET app.z = 'v'; RESET app.z",
        "RESET app.tenant",
        "SET app.tenant = 'v'",
        "SELECT set_config('app.x', NULL, false) IS NOT NULL",
        "DO $$ BEGIN PERFORM set_config('app' || '.x', 'v', false); END $$",
        "DO $$ BEGIN PERFORM set_config('app' || '.x', '', false); END $$",
        "SET search_path = public",
        "SET search_path TO DEFAULT",
        "SET work_mem = DEFAULT",
        "SET datestyle = ISO",
        "RESET datestyle",
        "SET lock_timeout = 0",
        "RESET lock_timeout",
        # What only the stronger role may set stays when the role is left, and the weaker one can't take it back.
        "SET ROLE twin_strong; SET dynamic_library_path = '/nowhere'; SET ROLE none",
        "SET ROLE twin_strong; SET dynamic_library_path = '/nowhere'; RESET ROLE",
        "SET ROLE twin_strong; SELECT set_config('dynamic_library_path', '/nowhere', false); SET ROLE twin_weak",
        "SET ROLE twin_strong; SET session_replication_role = replica; SET ROLE none",
        "SET ROLE twin_strong; SET log_statement = 'none'; SET log_min_duration_statement = 77; RESET ROLE",
        "BEGIN; SET ROLE twin_strong; SET LOCAL dynamic_library_path = '/nowhere'; SET ROLE none; COMMIT",
        "DO $$ BEGIN SET ROLE twin_strong; SET dynamic_library_path = '/nowhere'; SET ROLE none; END $$",
    ],
    ids=twins.label,
)
def test_the_next_is_as_after_login(pair: Twins, text: str) -> None:
    leaves(pair, text)


# -- RESET goes back to what the client began with: by what ran, not by what was written

BEGINNINGS: Mapping[str, Mapping[str, str]] = {
    "nothing": {},
    "options": {"options": "-c work_mem=3MB -c app.x=begin -c search_path=public", "timezone": "Asia/Tokyo"},
}


@pytest.mark.parametrize("beginning", BEGINNINGS)
@pytest.mark.parametrize(
    "steps",
    [
        ["SET work_mem = '5MB'", "BEGIN; SET work_mem = '9MB'; SAVEPOINT a; RESET work_mem; ROLLBACK TO a; COMMIT"],
        ["BEGIN", "SET work_mem = '9MB'", "SAVEPOINT a", "RESET work_mem", "ROLLBACK TO a", "COMMIT"],
        ["BEGIN", "SET work_mem = '9MB'; SAVEPOINT a; RESET ALL", "ROLLBACK TO a", "COMMIT"],
        ["BEGIN", "SET work_mem = '9MB'; SAVEPOINT a; RESET work_mem; RELEASE a", "COMMIT"],
        ["SET work_mem = '9MB'", "BEGIN; RESET work_mem; ROLLBACK"],
        ["SET work_mem = '9MB'", "BEGIN; RESET work_mem; SELECT 1/0", "COMMIT"],
        ["SET work_mem = '9MB'; RESET work_mem; SELECT 1/0"],
        ["SET work_mem = '9MB'", parse("r", "RESET work_mem") + SYNC, bind("", "r") + SYNC],
        ["SET work_mem = '9MB'", "BEGIN", run("RESET work_mem")[:-10] + SYNC, "COMMIT"],
        ["SET work_mem = '9MB'", parse("r", "RESET work_mem") + SYNC, bind("", "r") + execute() + SYNC],
        ["SET work_mem = '9MB'", parse("", "SELECT 1/0") + bind("", "") + execute() + run("RESET work_mem") + SYNC],
        ["SET work_mem = '9MB'", "BEGIN", "SET LOCAL work_mem TO DEFAULT", "SHOW work_mem", "COMMIT"],
        ["SET work_mem = '9MB'", "BEGIN; SET LOCAL work_mem TO DEFAULT", "SHOW work_mem", "COMMIT", "SHOW work_mem"],
        ["BEGIN", "SELECT set_config('work_mem', NULL, true) IS NOT NULL", "SHOW work_mem", "COMMIT"],
        ["SET work_mem = '9MB'", "SELECT set_config('work_mem', NULL, false) IS NOT NULL", "SHOW work_mem"],
        [
            "SET work_mem = '9MB'",
            extended(run("SELECT set_config($1, $2, false) IS NOT NULL", b"work_mem", None)),
            "SHOW work_mem",
        ],
        ["SET app.x = 'v'", "SELECT set_config('app.x', NULL, false) IS NOT NULL", "SHOW app.x"],
        ["SET app.x = 'v'", "DO $$ BEGIN RESET app.x; END $$", "SHOW app.x"],
        ["SET app.x = 'v'", "DO $$ BEGIN EXECUTE 'RE' 'SET ALL'; END $$", "SHOW app.x"],
        ["SET TIME ZONE 'America/Lima'", "SET TIME ZONE DEFAULT", "SHOW timezone"],
        ["SET TIME ZONE 'America/Lima'", "SET TIME ZONE LOCAL", "SHOW timezone"],
        ["SET TIME ZONE 'America/Lima'", "SET SESSION TIME ZONE LOCAL", "SHOW timezone"],
        ["BEGIN", "SET LOCAL TIME ZONE LOCAL", "SHOW timezone", "COMMIT", "SHOW timezone"],
        ["SET timezone = 'America/Lima'", "RESET TIME ZONE", "SHOW timezone"],
        ["SET search_path = elsewhere", "SET search_path TO DEFAULT", "SHOW search_path"],
        ["UPDATE pg_settings SET setting = '9216' WHERE name = 'work_mem'", "RESET work_mem", "SHOW work_mem"],
        ["SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", "RESET default_transaction_read_only"],
        ["SET work_mem = '9MB'", query("RESET ALL") + query("SHOW work_mem"), "SHOW search_path", "SHOW app.x"],
        ["SET work_mem = '9MB'", query("DISCARD ALL") + query("SHOW work_mem"), "SHOW search_path", "SHOW app.x"],
        ["DISCARD ALL", "SHOW work_mem", "SHOW timezone", "SHOW search_path", "SHOW app.x", "SHOW role"],
    ],
    ids=twins.label,
)
def test_reset_is_what_ran(doorman: Doorman, postgres: Postgres, steps: list[str | bytes], beginning: str) -> None:
    with Twins(doorman, postgres, "one", ROLE) as both:
        leaves_nothing(both, said(*steps), startup=BEGINNINGS[beginning])


@pytest.mark.parametrize("database", ["session", "reset"])
@pytest.mark.parametrize("by", ["simple", "extended"])
@pytest.mark.parametrize(
    "text",
    [
        "RESET ALL",
        "DISCARD ALL",
        "SELECT pg_advisory_unlock_all(); CLOSE ALL; UNLISTEN *; RESET ALL;",
        "RESET work_mem",
        "DO $$ BEGIN RESET ALL; END $$",
    ],
    ids=twins.label,
)
def test_what_the_client_began_with_survives_a_reset(
    doorman: Doorman, postgres: Postgres, database: str, by: str, text: str
) -> None:
    """In every mode, the parameters of the startup packet are a session's own."""
    state = query(
        "SELECT current_setting('work_mem'), current_setting('app.x', true), current_setting('search_path'),"
        " current_setting('timezone'), current_user"
    )
    with Twins(doorman, postgres, database, ROLE) as both:
        client, direct = (side(**BEGINNINGS["options"]) for side in (both.pooled, both.direct))
        step = extended(*(run(part) for part in text.split("; "))) if by == "extended" else query(text)
        for data in (state, step, state, state):
            assert same(client.ask(data)) == same(direct.ask(data))
        client.terminate()
        with both.pooled() as other, both.direct() as fresh:
            assert same(other.ask(state)) == same(fresh.ask(state))
            other.terminate()
