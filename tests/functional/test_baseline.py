"""Defaults of a session are those it began with: the role's, the database's and the configuration's, as directly."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from eventually import eventually, stays
from fix_doorman import Doorman, MakeDoorman, app_pool, until_idle
from fix_postgres import Postgres
from wire_client import WireClient

#: Pools of these tests: their sizes.
SIZES = {"one": 1, "two": 2}


@pytest.fixture
def postgres_of_ours(own_postgres: Postgres) -> Iterator[Postgres]:
    """With roles ``app`` may become; what a test sets for roles and databases is undone."""
    own_postgres.sql(
        "DO $$ BEGIN CREATE ROLE weak; CREATE ROLE other; GRANT weak, other TO app;"
        " EXCEPTION WHEN duplicate_object THEN NULL; END $$"
    )
    yield own_postgres
    own_postgres.sql("ALTER ROLE app RESET ALL; ALTER DATABASE testdb RESET ALL")


@pytest.fixture
def start(make_doorman: MakeDoorman, postgres_of_ours: Postgres) -> Callable[..., Doorman]:
    """Start a pooler over that PostgreSQL."""

    def start(**general: Any) -> Doorman:
        pools = {name: app_pool(postgres_of_ours, size) for name, size in SIZES.items()}
        return make_doorman({"general": general, "pools": pools})

    return start


def reconnect(doorman: Doorman, postgres: Postgres, database: str) -> None:
    """The pool opens its servers anew."""
    until_idle(doorman, database)
    for backend in postgres.backends():
        postgres.terminate(backend["pid"])
    eventually(lambda: doorman.pool(database)["sv_idle"] == 0)
    with doorman.wire(database) as client:
        client.ask_query("SELECT 1")


def value(client: WireClient, sql: str) -> str | None:
    return client.value(sql)


def test_the_role_of_a_role(start: Callable[..., Doorman], postgres_of_ours: Postgres) -> None:
    """ALTER ROLE … SET role: who leaves it leaves it alone."""
    postgres_of_ours.sql("ALTER ROLE app SET role = 'weak'")
    doorman = start()
    with doorman.wire("one") as first, doorman.wire("one") as second, postgres_of_ours.wire() as direct:
        for client in (first, direct):
            assert value(client, "SELECT current_user") == "weak"
            client.ask_query("SET ROLE other")
            assert value(client, "SELECT current_user") == "other"
        assert value(second, "SELECT current_user") == "weak"
        for client in (first, direct):
            client.ask_query("RESET ROLE")
            assert value(client, "SELECT current_user") == "weak"


def test_no_role_where_there_is_one(start: Callable[..., Doorman], postgres_of_ours: Postgres) -> None:
    """SET ROLE none, where sessions begin with a role, is a setting like others."""
    postgres_of_ours.sql("ALTER ROLE app SET role = 'weak'")
    doorman = start()
    with doorman.wire("one") as first, doorman.wire("one") as second, postgres_of_ours.wire() as direct:
        for client in (first, direct):
            client.ask_query("SET ROLE none")
            assert value(client, "SELECT current_user") == "app"
        assert value(second, "SELECT current_user") == "weak"
        for client in (first, direct):
            assert value(client, "SELECT current_user") == "app"
            client.ask_query("RESET ROLE")
            assert value(client, "SELECT current_user") == "weak"


def test_the_role_after_cleaning(make_doorman: MakeDoorman, postgres_of_ours: Postgres) -> None:
    """DISCARD ALL leaves no role; a server cleaned by it is as after its login."""
    postgres_of_ours.sql("ALTER ROLE app SET role = 'weak'")
    doorman = make_doorman(
        {
            "pools": {
                "session": app_pool(postgres_of_ours, 1, pool_mode="session"),
                "reset": app_pool(postgres_of_ours, 1, session_state="reset"),
            }
        }
    )
    with doorman.wire("session") as client:
        client.ask_query("SET work_mem = '9MB'")
        assert value(client, "SELECT current_user") == "weak"
    with doorman.wire("session") as client:
        assert value(client, "SELECT current_user || current_setting('work_mem')") == "weak4MB"
    with doorman.wire("reset") as first, doorman.wire("reset") as second:
        first.ask_query("SET ROLE none")
        assert value(second, "SELECT current_user") == "weak"
        first.ask_query("SET SESSION AUTHORIZATION DEFAULT")
        assert value(second, "SELECT current_user") == "weak"


CHANGES = [
    ("datestyle", "German, DMY", "DateStyle"),
    ("timezone", "Asia/Tokyo", "TimeZone"),
    ("search_path", "pg_catalog, public", "search_path"),
    ("work_mem", "9MB", "work_mem"),
    ("app.tenant", "seven", "app.tenant"),
]


@pytest.mark.parametrize(("name", "new", "shown"), CHANGES)
def test_a_session_keeps_the_defaults_it_began_with(
    start: Callable[..., Doorman], postgres_of_ours: Postgres, name: str, new: str, shown: str
) -> None:
    """On servers that began earlier or later, one with both, as PostgreSQL's sessions do."""
    doorman = start()
    read = f"SELECT current_setting('{name}', true)"
    with doorman.wire("two") as old, postgres_of_ours.wire() as direct:
        before = value(old, read)
        assert before == value(direct, read)
        postgres_of_ours.sql(f"ALTER ROLE app SET {name} = '{new.replace(', ', chr(39) + ', ' + chr(39))}'")
        # A second server, which begins with the new value.
        with doorman.wire("two") as busy:
            busy.ask_query("BEGIN")
            assert value(old, read) in (before, "" if before is None else before)
            busy.ask_query("COMMIT")
        with doorman.wire("two") as young, postgres_of_ours.wire() as direct_young:
            assert value(direct_young, read) == new
            for reported in (shown,):
                if reported in direct_young.parameters:
                    assert young.parameters[reported] == direct_young.parameters[reported]
            with doorman.wire("two") as busy:
                for _ in range(3):
                    # Each in turn on either server, while the other is lent.
                    for holder in (busy, young, old):
                        holder.ask_query("BEGIN")
                        for client, expected in ((old, before or ""), (young, new)):
                            if client is not holder:
                                assert (value(client, read) or "") == expected
                        holder.ask_query("COMMIT")
            young.ask_query(f"SET {name} = '1'" if name == "app.tenant" else f"SET {name} = DEFAULT")
            young.ask_query(f"RESET {name}")
            assert value(young, read) == new
            assert (value(old, read) or "") == (before or "")
        assert [m.fields for m in old.ask_query("SELECT 1") if m.kind == "S"] == []


def test_statements_are_not_shared_across_defaults(start: Callable[..., Doorman], postgres_of_ours: Postgres) -> None:
    """Which table a text means depends on the search_path a session began with."""
    postgres_of_ours.sql(
        "DROP SCHEMA IF EXISTS s1 CASCADE; CREATE SCHEMA s1; GRANT ALL ON SCHEMA s1 TO app;"
        " DROP TABLE IF EXISTS public.tt; CREATE TABLE s1.tt AS SELECT 's1'::text AS a;"
        " CREATE TABLE public.tt AS SELECT 'public'::text AS a; GRANT ALL ON s1.tt, public.tt TO app",
        database="testdb",
    )
    doorman = start()
    with doorman.connect(dbname="two", prepare_threshold=0) as old:
        assert old.execute("SELECT a FROM tt").fetchone() == ("public",)
        postgres_of_ours.sql("ALTER ROLE app SET search_path = 's1', 'public'")
        reconnect(doorman, postgres_of_ours, "two")
        with doorman.connect(dbname="two", prepare_threshold=0) as young:
            for _ in range(3):
                assert young.execute("SELECT a FROM tt").fetchone() == ("s1",)
                assert old.execute("SELECT a FROM tt").fetchone() == ("public",)


def test_a_search_path_of_temporary_objects(start: Callable[..., Doorman], postgres_of_ours: Postgres) -> None:
    """ALTER ROLE … SET search_path = pg_temp: every CREATE TABLE makes one of the session's own."""
    postgres_of_ours.sql("ALTER ROLE app SET search_path = 'pg_temp'")
    doorman = start()
    with doorman.wire("two") as first, doorman.wire("two") as second:
        first.ask_query("CREATE TABLE mine AS SELECT 1 AS a")
        assert value(second, "SELECT to_regclass('mine')") is None
        assert value(first, "SELECT a FROM mine") == "1"
        assert {r["pinned"] for r in doorman.admin("SHOW CLIENTS") if r["database"] == "two"} == {
            "",
            "temporary objects",
        }


def test_idle_session_timeout_of_a_client(start: Callable[..., Doorman], postgres_of_ours: Postgres) -> None:
    """It is not in effect on a server at rest, nor for others; who set it still sees it."""
    doorman = start()
    with doorman.wire("one") as first, doorman.wire("one", options="-c idle_session_timeout=200") as second:
        first.ask_query("SET idle_session_timeout = '100ms'")
        assert value(first, "SHOW idle_session_timeout") == "100ms"
        assert value(second, "SHOW idle_session_timeout") == "200ms"
        assert value(first, "SHOW idle_session_timeout") == "100ms"
        until_idle(doorman, "one")
        pid = postgres_of_ours.backends()[0]["pid"]
        assert stays(lambda: [b["pid"] for b in postgres_of_ours.backends()] == [pid], seconds=0.5)
        with doorman.wire("one") as third:
            assert value(third, "SHOW idle_session_timeout") == "0"
        assert value(first, "SHOW idle_session_timeout") == "100ms"


def test_idle_session_timeout_of_a_role(start: Callable[..., Doorman], postgres_of_ours: Postgres) -> None:
    """Servers are not ended while they rest; a client that resets it does not bring it back."""
    postgres_of_ours.sql("ALTER ROLE app SET idle_session_timeout = '100ms'")
    doorman = start()
    with doorman.wire("one") as client:
        client.ask_query("RESET ALL")
        client.ask_query("DISCARD ALL")
        until_idle(doorman, "one")
        (backend,) = postgres_of_ours.backends()
        assert stays(lambda: [b["pid"] for b in postgres_of_ours.backends()] == [backend["pid"]], seconds=0.5)
        assert value(client, "SELECT pg_backend_pid()") == str(backend["pid"])


def test_a_server_that_does_not_tell(start: Callable[..., Doorman], postgres_of_ours: Postgres) -> None:
    """A catalogue that may not be read costs a line in the log, nothing else."""
    postgres_of_ours.sql("REVOKE SELECT ON pg_db_role_setting FROM PUBLIC", database="testdb")
    try:
        doorman = start()
        with doorman.wire("one") as first, doorman.wire("one") as second:
            first.ask_query("SET work_mem = '9MB'")
            assert value(second, "SHOW work_mem") == "4MB"
            assert value(first, "SHOW work_mem") == "9MB"
        doorman.wait_log("does not tell what its sessions begin with: permission denied")
    finally:
        postgres_of_ours.sql("GRANT SELECT ON pg_db_role_setting TO PUBLIC", database="testdb")


def test_another_waits_for_everybody(start: Callable[..., Doorman], postgres_of_ours: Postgres) -> None:
    """SERIALIZABLE READ ONLY DEFERRABLE is taken back without waiting for a safe snapshot."""
    doorman = start()
    options = " ".join(
        f"-c default_transaction_{name}={setting}"
        for name, setting in (("isolation", "serializable"), ("read_only", "on"), ("deferrable", "on"))
    )
    with (
        postgres_of_ours.wire() as writer,
        doorman.wire("one") as second,
        doorman.wire("one", options=options) as first,
    ):
        writer.ask_query("CREATE TABLE IF NOT EXISTS wait_for_me (a int)")
        writer.ask_query("BEGIN ISOLATION LEVEL SERIALIZABLE; INSERT INTO wait_for_me VALUES (1)")
        for _ in range(2):
            first.ask_query("BEGIN NOT DEFERRABLE; COMMIT")
            assert value(second, "SHOW default_transaction_deferrable") == "off"
        writer.ask_query("COMMIT")
