"""auth_query: users looked up in PostgreSQL, who share a pool or have one each, and what keeps everybody else out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from eventually import eventually
from fix_doorman import Doorman, MakeDoorman, app_user
from fix_postgres import Postgres

SHADOW = "SELECT passwd FROM pg_shadow WHERE usename = $1"


def auth_query(query: str = SHADOW, **more: Any) -> dict[str, Any]:
    return {"query": query, "user": "postgres", "database": "testdb", **more}


def shared(postgres: Postgres, **more: Any) -> dict[str, Any]:
    """All who are found share a pool."""
    return auth_query(**{"server_user": "app", "server_password": postgres.password("app"), "pool_size": 2, **more})


def pool(postgres: Postgres, looked_up: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "server_host": postgres.host,
        "server_port": postgres.port,
        "server_database": "testdb",
        "auth_query": dict(looked_up),
        **more,
    }


@pytest.fixture(scope="module")
def people(postgres: Postgres) -> Iterator[None]:
    postgres.sql(
        """
        CREATE SCHEMA people;
        CREATE TABLE people.secrets (name text, kind text, passwd text, valuntil timestamptz);
        GRANT ALL ON SCHEMA people TO PUBLIC;
        """,
        database="testdb",
    )
    yield
    postgres.sql("DROP SCHEMA people CASCADE", database="testdb")


@pytest.fixture(scope="module")
def doorman_over(postgres: Postgres) -> Mapping[str, Any]:
    configured = [app_user(postgres, 2, username="configured", password="a plain secret")]
    return {
        "pools": {
            "shared": pool(postgres, shared(postgres), users=configured),
            "own": pool(postgres, auth_query(pool_size=2), users=configured),
        }
    }


def who(connection: psycopg.Connection[Any]) -> tuple[Any, ...]:
    found = connection.execute("SELECT current_user::text, current_database()::text").fetchone()
    assert found is not None
    return found


def refused(doorman: Doorman, **parameters: Any) -> str:
    with pytest.raises(psycopg.OperationalError) as failed:
        doorman.connect(**parameters)
    return str(failed.value)


@pytest.mark.parametrize("user", ["app_two", "app_md5"])
def test_all_who_are_found_share_a_pool(doorman: Doorman, user: str) -> None:
    for _ in range(2):
        with doorman.connect(dbname="shared", user=user) as connection:
            assert who(connection) == ("app", "testdb")
    assert doorman.pool("shared", "app")["pool_size"] == 2


@pytest.mark.parametrize("user", ["app_two", "app_md5", "app"])
def test_each_who_is_found_logs_in_to_the_server_as_himself(doorman: Doorman, user: str) -> None:
    for _ in range(3):
        with doorman.connect(dbname="own", user=user) as connection:
            assert who(connection) == (user, "testdb")
    assert doorman.pool("own", user)["pool_size"] == 2


@pytest.mark.parametrize("database", ["shared", "own"])
def test_configured_users_come_first(doorman: Doorman, database: str) -> None:
    with doorman.connect(dbname=database, user="configured", password="a plain secret") as connection:
        assert who(connection) == ("app", "testdb")


@pytest.mark.parametrize("database", ["shared", "own"])
@pytest.mark.parametrize(
    ("user", "password"),
    [("app_two", "wrong"), ("app_md5", "wrong"), ("nobody", "wrong"), ("nobody", ""), ("x" * 64, "wrong")],
)
def test_nobody_else_gets_in(doorman: Doorman, database: str, user: str, password: str) -> None:
    for _ in range(2):
        told = refused(doorman, dbname=database, user=user, password=password or "empty")
        assert f'password authentication failed for user "{user}"' in told


def test_many_logins_of_one_name_ask_once(make_doorman: MakeDoorman, postgres: Postgres) -> None:
    slow = "SELECT passwd FROM pg_shadow, pg_sleep(0.5) WHERE usename = $1"
    doorman = make_doorman(
        {"general": {"worker_threads": 1}, "pools": {"shared": pool(postgres, shared(postgres, query=slow))}}
    )
    with ThreadPoolExecutor(12) as several:
        several.submit(refused, doorman, dbname="shared", user="nobody", password="wrong")
        logins = [several.submit(doorman.connect, dbname="shared", user="app_two") for _ in range(10)]
        for login in logins:
            login.result().close()
    (row,) = doorman.admin("SHOW AUTH_QUERY")
    assert (row["database"], row["executor_queries"], row["auth_success"]) == ("shared", 2, 10)


def test_a_password_that_was_changed_holds_after_a_try(make_doorman: MakeDoorman, postgres: Postgres) -> None:
    postgres.sql("SET password_encryption = 'scram-sha-256'; CREATE ROLE changing LOGIN PASSWORD 'the first'")
    doorman = make_doorman({"pools": {"own": pool(postgres, auth_query(min_interval="0"))}})
    try:
        doorman.connect(dbname="own", user="changing", password="the first").close()
        postgres.sql("ALTER ROLE changing PASSWORD 'the second'")
        refused(doorman, dbname="own", user="changing", password="the second")

        def gets_in() -> bool:
            try:
                with doorman.connect(dbname="own", user="changing", password="the second") as connection:
                    return who(connection)[0] == "changing"
            except psycopg.OperationalError:
                return False

        eventually(gets_in, message="the new password is known")
        refused(doorman, dbname="own", user="changing", password="the first")
    finally:
        doorman.finish()
        postgres.sql("DROP ROLE changing")
