"""auth_query: users looked up in PostgreSQL, who share a pool or have one each, and what keeps everybody else out."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest
import toml
from eventually import eventually
from fix_doorman import Doorman, MakeDoorman, _factory, _finish, app_user
from fix_postgres import Postgres
from wire_client import WireError, startup
from worker_processes import worker_of

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
        told = doorman.refusal(dbname=database, user=user, password=password or "empty")
        assert f'password authentication failed for user "{user}"' in told


def test_many_logins_of_one_name_ask_once(make_doorman: MakeDoorman, postgres: Postgres) -> None:
    slow = "SELECT passwd FROM pg_shadow, pg_sleep(0.5) WHERE usename = $1"
    doorman = make_doorman(
        {"general": {"worker_threads": 1}, "pools": {"shared": pool(postgres, shared(postgres, query=slow))}}
    )
    with ThreadPoolExecutor(12) as several:
        several.submit(doorman.refusal, dbname="shared", user="nobody", password="wrong")
        logins = [several.submit(doorman.connect, dbname="shared", user="app_two") for _ in range(10)]
        for login in logins:
            login.result().close()
    (row,) = doorman.admin("SHOW AUTH_QUERY")
    assert (row["database"], row["executor_queries"], row["auth_success"]) == ("shared", 2, 10)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_password_that_was_changed_holds_after_a_try(
    make_doorman: MakeDoorman, postgres: Postgres, workers: int
) -> None:
    """In all workers that knew the old one."""
    postgres.sql("SET password_encryption = 'scram-sha-256'; CREATE ROLE changing LOGIN PASSWORD 'the first'")
    general = {"worker_threads": workers}
    doorman = make_doorman({"general": general, "pools": {"own": pool(postgres, auth_query(min_interval="0"))}})
    try:
        who_know = set()
        while len(who_know) < workers:
            with doorman.connect(dbname="own", user="changing", password="the first") as connection:
                who_know.add(worker_of(doorman, connection) if workers > 1 else None)
        postgres.sql("ALTER ROLE changing PASSWORD 'the second'")
        doorman.refusal(dbname="own", user="changing", password="the second")

        def gets_in() -> bool:
            try:
                with doorman.connect(dbname="own", user="changing", password="the second") as connection:
                    return who(connection)[0] == "changing"
            except psycopg.OperationalError:
                return False

        eventually(gets_in, message="the new password is known")
        for _ in range(1 if workers == 1 else 6):
            doorman.refusal(dbname="own", user="changing", password="the first")
    finally:
        doorman.finish()
        postgres.sql("DROP ROLE changing")


# -- answers of any shape

#: The query; the password that nobody may get in with; what the log says of it.
SHAPES = {
    "none": (SHADOW + " AND false", "app_two", "finds no such user"),
    "null": ("SELECT NULL::text AS passwd FROM pg_shadow WHERE usename = $1", "app_two", "finds no password"),
    "empty": ("SELECT '' AS passwd FROM pg_shadow WHERE usename = $1", "app_two", "finds no password"),
    "name": ("SELECT usename FROM pg_shadow WHERE usename = $1", "app_two", "neither a SCRAM-SHA-256 secret nor"),
    "stars": ("SELECT passwd FROM pg_user WHERE usename = $1", "********", "neither a SCRAM-SHA-256 secret nor"),
    "two": (f"{SHADOW} UNION ALL {SHADOW}", "app_two", "more than one row"),
    "thousands": (
        "SELECT passwd FROM pg_shadow, generate_series(1, 50000) WHERE usename = $1",
        "",
        "more than one row",
    ),
    "columns": ("SELECT usename, passwd AS secret FROM pg_shadow WHERE usename = $1", "app_two", "2 columns and none"),
    "twice": ("SELECT passwd, passwd FROM pg_shadow WHERE usename = $1", "app_two", "two columns passwd"),
    "nothing": ("SELECT FROM pg_shadow WHERE usename = $1", "app_two", "0 columns and none"),
    "bytes": ("SELECT passwd::bytea AS passwd FROM pg_shadow WHERE usename = $1", "", "neither a SCRAM-SHA-256 secret"),
    "array": ("SELECT ARRAY[passwd] AS passwd FROM pg_shadow WHERE usename = $1", "", "neither a SCRAM-SHA-256 secret"),
    "number": ("SELECT 42 AS passwd FROM pg_shadow WHERE usename = $1", "42", "neither a SCRAM-SHA-256 secret nor"),
    "cut": ("SELECT left(passwd, -1) AS passwd FROM pg_shadow WHERE usename = $1", "", "no SCRAM-SHA-256 secret"),
    "spun": (
        "SELECT replace(passwd, '$4096:', '$999999999:') AS passwd FROM pg_shadow WHERE usename = $1",
        "",
        "999999999 iterations, expected 1000000 at most",
    ),
    "wide": (
        "SELECT passwd AS secret, pg_shadow.*, pg_shadow.*, pg_shadow.* FROM pg_shadow WHERE usename = $1",
        "app_two",
        "two columns passwd",
    ),
    "spaces": ("SELECT passwd || ' ' AS passwd FROM pg_shadow WHERE usename = $1", "", "no SCRAM-SHA-256 secret"),
    "huge": ("SELECT repeat('x', 3000000) AS passwd FROM pg_shadow WHERE usename = $1", "", "longer than any secret"),
    "until": ("SELECT passwd, 'soon' AS valuntil FROM pg_shadow WHERE usename = $1", "", "no timestamp with time zone"),
    "raised": ("SELECT passwd FROM pg_shadow WHERE usename = $1 AND 1 / (length($1) - 7) > 0", "", "division by zero"),
}


@pytest.fixture(scope="module")
def hostile(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doorman]:
    started: list[Doorman] = []
    pools = {name: pool(postgres, shared(postgres, query=query)) for name, (query, _, _) in SHAPES.items()}
    yield _factory(postgres, tmp_path_factory.mktemp("hostile"), started)({"pools": pools})
    _finish(started)


@pytest.mark.parametrize("name", SHAPES)
def test_nobody_gets_in_by_an_answer_that_is_none(hostile: Doorman, name: str) -> None:
    _, password, why = SHAPES[name]
    for attempt in (password, Postgres.PASSWORDS["app_two"]):
        told = hostile.refusal(dbname=name, user="app_two", password=attempt or "x")
        assert 'FATAL:  password authentication failed for user "app_two"' in told
    hostile.wait_log(rf"@{name} .*closing client: password authentication failed.*{why}")


# -- PostgreSQL is not there, too slow, or refuses


@pytest.mark.parametrize(
    "looked_up",
    [
        {"query": "SELECT passwd FROM no_such_table WHERE usename = $1"},
        {"query": "SELEC $1"},
        {"query": "SELECT passwd FROM pg_shadow WHERE usename = $1; SELECT 1"},
        {"query": "SELECT passwd FROM (SELECT pg_sleep(900)) slow LEFT JOIN pg_shadow ON usename = $1"},
        {"user": "app", "password": "not his password"},
        {"user": "no_such_role"},
        {"database": "no_such_database"},
    ],
    ids=lambda looked_up: next(iter(looked_up)),
)
def test_without_an_answer_nobody_gets_in_and_everybody_else_does(
    make_doorman: MakeDoorman, postgres: Postgres, looked_up: dict[str, Any]
) -> None:
    configured = [app_user(postgres, 2, username="configured", password="a plain secret")]
    pools = {"own": pool(postgres, auth_query(**looked_up), users=configured)}
    doorman = make_doorman({"general": {"connect_timeout": "1s"}, "pools": pools})
    with ThreadPoolExecutor(4) as several:
        logins = [
            several.submit(doorman.refusal, dbname="own", user=user, password="wrong") for user in ("app_two", "nobody")
        ]
        for _ in range(3):
            with doorman.connect(dbname="own", user="configured", password="a plain secret") as connection:
                assert who(connection)[0] == "app"
        for login in logins:
            assert "FATAL:  Authentication service unavailable. Please try again later." in login.result()
    doorman.wait_log("users can't be looked up")
    sleeping = (
        "SELECT count(*)::int FROM pg_stat_activity WHERE query LIKE '%(SELECT pg_sleep(900))%' AND state = 'active'"
    )
    eventually(
        lambda: postgres.rows(sleeping + " AND pid <> pg_backend_pid()")[0]["count"] == 0, message="it has ended"
    )


def test_who_is_known_gets_in_while_postgresql_is_away(
    make_doorman: MakeDoorman, own_postgres: Postgres, postgres: Postgres
) -> None:
    """Users are looked up in one cluster and served by another: that one ends."""
    looked_up = auth_query("SELECT passwd FROM people WHERE name = $1", user="postgres", database="postgres")
    own_postgres.sql(
        f"CREATE TABLE people AS SELECT 'app_two'::text AS name, '{postgres.secret('app_two')}'::text AS passwd"
    )
    doorman = make_doorman(
        {
            "general": {"worker_threads": 1, "connect_timeout": "1s"},
            "pools": {"own": pool(own_postgres, {**looked_up, "server_user": "app"})},
        }
    )
    doorman.refusal(dbname="own", user="nobody", password="wrong")
    doorman.refusal(dbname="own", user="app_two", password="wrong")
    own_postgres.stop()
    told = doorman.refusal(dbname="own", user="app_two", password="wrong")
    assert 'password authentication failed for user "app_two"' in told, "what is known holds"
    told = doorman.refusal(dbname="own", user="nobody", password="wrong")
    assert 'password authentication failed for user "nobody"' in told
    assert "Authentication service unavailable" in doorman.refusal(dbname="own", user="somebody", password="wrong")
    own_postgres.start()


def test_who_waits_for_an_answer_for_too_long_is_told_so(make_doorman: MakeDoorman, postgres: Postgres) -> None:
    slow = "SELECT passwd FROM (SELECT pg_sleep(60)) slow LEFT JOIN pg_shadow ON usename = $1"
    doorman = make_doorman(
        {
            "general": {"connect_timeout": "30s", "client_login_timeout": "500ms"},
            "pools": {"own": pool(postgres, auth_query(slow))},
        }
    )
    assert "canceling authentication due to timeout" in doorman.refusal(dbname="own", user="app_two")


# -- what a query runs under


def test_no_client_has_a_say_in_what_the_query_means(
    make_doorman: MakeDoorman, postgres: Postgres, people: None
) -> None:
    """A login that asks for a search_path of its own, or leaves one behind, is looked up as any other."""
    postgres.sql(
        """
        CREATE TABLE people.pg_shadow (usename name, passwd text);
        INSERT INTO people.pg_shadow VALUES ('nobody', 'md5' || md5('x' || 'nobody'));
        GRANT SELECT ON people.pg_shadow TO PUBLIC;
        """,
        database="testdb",
    )
    query = (
        "SELECT passwd, 1 / (current_setting('search_path') = 'pg_catalog, public, pg_temp')::int AS fixed,"
        " set_config('search_path', 'people', false) FROM pg_shadow WHERE usename = $1"
    )
    looked_up = shared(postgres, query="SELECT passwd FROM pg_shadow WHERE usename = $1", workers=1)
    leaving = shared(postgres, query=query, workers=1)
    more = {"startup_parameters": {"search_path": "people"}}
    doorman = make_doorman(
        {"pools": {"one": pool(postgres, looked_up, **more), "two": pool(postgres, leaving, **more)}}
    )
    for database in ("one", "two"):
        for options in ("-c search_path=people", ""):
            doorman.refusal(dbname=database, user="nobody", password="x", options=options)
            for user in ("app_two", "app_md5"):
                doorman.connect(dbname=database, user=user, options=options).close()


@pytest.mark.parametrize("workers", [1, 2])
def test_startup_parameters_of_each_user(make_doorman: MakeDoorman, postgres: Postgres, workers: int) -> None:
    """They win over the pool's, which win over [general]'s; what changes holds from the next login on."""
    postgres.sql(
        """
        CREATE TABLE IF NOT EXISTS parameters (usename name, given text);
        TRUNCATE parameters;
        INSERT INTO parameters VALUES ('app_two', '{"work_mem": "3MB", "app.tenant": "two"}');
        GRANT SELECT ON parameters TO PUBLIC;
        """,
        database="testdb",
    )
    query = (
        "SELECT passwd, given AS startup_parameters FROM pg_shadow LEFT JOIN parameters USING (usename)"
        " WHERE usename = $1"
    )
    own = {"query": query, "user": "postgres", "database": "testdb", "pool_size": 2}
    config = {
        "general": {"worker_threads": workers, "startup_parameters": {"work_mem": "1MB", "lock_timeout": "1s"}},
        "pools": {"own": pool(postgres, own, startup_parameters={"work_mem": "2MB"})},
    }
    doorman = make_doorman(config)

    def shown(user: str) -> tuple[Any, ...]:
        with doorman.connect(dbname="own", user=user) as client:
            sql = "SELECT current_setting('work_mem'), current_setting('lock_timeout'),"
            row = client.execute(sql + " current_setting('app.tenant', true)").fetchone()
            assert row is not None
            return row

    for _ in range(6):
        assert shown("app_two") == ("3MB", "1s", "two")
        assert shown("app_md5")[:2] == ("2MB", "1s")
    sources = {
        (row["parameter"], row["value"], row["source"])
        for row in doorman.admin("SHOW STARTUP_PARAMETERS")
        if (row["database"], row["user"]) == ("own", "app_two")
    }
    assert sources == {
        ("work_mem", "3MB", "auth_query"),
        ("lock_timeout", "1s", "general"),
        ("app.tenant", "two", "auth_query"),
    }
    with doorman.connect(dbname="own", user="app_two") as client:
        doorman.upgrade()
        assert doorman.end_of_predecessor() == 0
        assert client.execute("SHOW work_mem").fetchone() == ("3MB",)
        postgres.sql('UPDATE parameters SET given = \'{"work_mem": "4MB"}\'', database="testdb")
        doorman.reload()
        eventually(lambda: shown("app_two")[0] == "4MB", message="whichever worker it comes to")
        if workers == 1:
            assert client.execute("SHOW work_mem").fetchone() == ("4MB",), "whoever is there, too"
    postgres.sql('UPDATE parameters SET given = \'{"work_mem": "much"}\'', database="testdb")
    doorman.reload()

    def told() -> str:
        try:
            shown("app_two")
        except psycopg.OperationalError as exc:
            return str(exc)
        return ""

    eventually(lambda: 'FATAL:  invalid value for parameter "work_mem": "much"' in told())


def test_a_password_that_is_not_valid_any_more(make_doorman: MakeDoorman, postgres: Postgres) -> None:
    postgres.sql(
        """
        CREATE ROLE expired LOGIN PASSWORD 'its password' VALID UNTIL '2001-01-01';
        CREATE ROLE lasting LOGIN PASSWORD 'its password' VALID UNTIL 'infinity';
        CREATE ROLE ending LOGIN PASSWORD 'its password' VALID UNTIL '2101-01-01';
        """
    )
    forgiving = "SELECT passwd, NULL::timestamptz AS valuntil FROM pg_shadow WHERE usename = $1"
    doorman = make_doorman(
        {
            "pools": {
                "strict": pool(postgres, shared(postgres)),
                "said": pool(postgres, shared(postgres, query="SELECT * FROM pg_shadow WHERE usename = $1")),
                "forgiving": pool(postgres, shared(postgres, query=forgiving)),
            }
        }
    )
    try:
        for database in ("strict", "said"):
            told = doorman.refusal(dbname=database, user="expired", password="its password")
            assert 'password authentication failed for user "expired"' in told
            for user in ("lasting", "ending"):
                doorman.connect(dbname=database, user=user, password="its password").close()
        doorman.wait_log("VALID UNTIL")
        doorman.connect(dbname="forgiving", user="expired", password="its password").close()
    finally:
        postgres.sql("DROP ROLE expired; DROP ROLE lasting; DROP ROLE ending")


# -- pools that come and go


def test_reload(make_doorman: MakeDoorman, postgres: Postgres) -> None:
    """It forgets what was found; it can change the query, add and take away."""
    config = {"pools": {"own": pool(postgres, auth_query(SHADOW + " AND usename <> 'app_two'"))}}
    doorman = make_doorman(config)
    doorman.refusal(dbname="own", user="app_two")
    with doorman.connect(dbname="own", user="app_md5") as stays:
        doorman.config["pools"]["own"]["auth_query"]["query"] = SHADOW
        doorman.reload(doorman.config)
        with doorman.connect(dbname="own", user="app_two") as connection:
            assert who(connection)[0] == "app_two"
        assert who(stays)[0] == "app_md5"
        doorman.config["pools"]["own"]["auth_query"]["pool_size"] = 1
        doorman.reload(doorman.config)
        assert who(stays)[0] == "app_md5"
        assert doorman.pool("own", "app_md5")["pool_size"] == 1
        del doorman.config["pools"]["own"]["auth_query"]
        doorman.reload(doorman.config)
        with pytest.raises(psycopg.Error):
            who(stays)
    doorman.refusal(dbname="own", user="app_two")


def test_a_user_who_is_configured_no_more_is_not_taken_for_one_who_was_found(
    make_doorman: MakeDoorman, postgres: Postgres
) -> None:
    configured = [app_user(postgres, 2, username="app_two", password="a plain secret")]
    doorman = make_doorman({"pools": {"shared": pool(postgres, shared(postgres), users=configured)}})
    with doorman.connect(dbname="shared", user="app_two", password="a plain secret") as stays:
        assert who(stays)[0] == "app"
        doorman.config["pools"]["shared"]["users"] = []
        doorman.reload(doorman.config)
        with pytest.raises(psycopg.Error):
            who(stays)
    doorman.refusal(dbname="shared", user="app_two", password="a plain secret")
    doorman.connect(dbname="shared", user="app_two").close()


@pytest.mark.parametrize("known", [False, True])
def test_a_reload_during_a_login_makes_nobody_another(
    make_doorman: MakeDoorman, postgres: Postgres, known: bool
) -> None:
    """Who is proven to be the one of the configuration is not who is looked up by that name, nor the other way round."""
    one = app_user(postgres, 2, username="app_two", password="a plain secret")
    configured, found = ({"pools": {"shared": pool(postgres, shared(postgres), users=users)}} for users in ([one], []))
    doorman = make_doorman(configured)
    for before, after, password in (
        (configured, found, "a plain secret"),
        (found, configured, postgres.password("app_two")),
    ):
        doorman.reload({**doorman.config, **before})
        if known:
            doorman.wire("shared", "app_two", password).close()
        with doorman.raw() as client:
            client.send(startup(user="app_two", database="shared"))
            client.unread(client.read_exact(1))  # it is asked for its proof
            doorman.reload({**doorman.config, **after})
            with pytest.raises(WireError) as caught:
                client.authenticate("app_two", password)
            assert caught.value.message.sqlstate == "3D000"


def test_who_was_found_is_not_the_one_who_is_configured_then(make_doorman: MakeDoorman, postgres: Postgres) -> None:
    doorman = make_doorman({"pools": {"shared": pool(postgres, shared(postgres))}})
    with doorman.connect(dbname="shared", user="app_two") as stays:
        assert who(stays)[0] == "app"
        one = app_user(postgres, 2, username="app_two", password="a plain secret")
        doorman.config["pools"]["shared"]["users"] = [one]
        doorman.reload(doorman.config)
        with pytest.raises(psycopg.Error):
            who(stays)


def test_a_pool_of_one_s_own_goes_with_its_last_server_and_client(
    make_doorman: MakeDoorman, postgres: Postgres
) -> None:
    doorman = make_doorman(
        {"pools": {"own": pool(postgres, auth_query(), idle_timeout="200ms"), "kept": pool(postgres, shared(postgres))}}
    )

    def users() -> set[str]:
        return {row["user"] for row in doorman.admin("SHOW POOLS") if row["database"] == "own"}

    with doorman.connect(dbname="own", user="app_two") as stays:
        doorman.connect(dbname="own", user="app_md5").close()
        eventually(lambda: users() == {"app_two"}, message="the pool of who has left is gone")
        assert who(stays)[0] == "app_two", "a client's pool stays, and with it what logs in to the server"
    eventually(lambda: users() == set(), message="all pools of their own are gone")
    counts = {row["database"]: row for row in doorman.admin("SHOW AUTH_QUERY")}
    assert counts["own"]["dynamic_pools_current"] == 0
    assert counts["own"]["dynamic_pools_created"] == counts["own"]["dynamic_pools_destroyed"] >= 2
    assert counts["kept"]["dynamic_pools_created"] == 0
    assert doorman.pool("kept", "app")["pool_size"] == 2


def test_servers_that_all_share_are_kept_open(make_doorman: MakeDoorman, postgres: Postgres) -> None:
    doorman = make_doorman({"pools": {"shared": pool(postgres, shared(postgres, min_pool_size=2))}})
    eventually(lambda: doorman.pool("shared", "app")["sv_idle"] == 2, message="both are there before anybody comes")


def test_every_database(make_doorman: MakeDoorman, postgres: Postgres) -> None:
    """[pools."*"]: databases that are not named, of users who are not configured."""
    every = pool(postgres, auth_query())
    del every["server_database"]
    doorman = make_doorman({"pools": {"*": every}})
    with doorman.connect(dbname="otherdb", user="app_two") as connection:
        assert who(connection) == ("app_two", "otherdb")
    for database in ("otherdb", "no_such_database"):
        assert "password authentication failed" in doorman.refusal(dbname=database, user="app_two", password="wrong")
    assert 'database "no_such_database" does not exist' in doorman.refusal(dbname="no_such_database", user="app_two")


# -- other processes


@pytest.mark.parametrize("workers", [1, 2])
def test_an_upgrade_takes_who_was_found_along(make_doorman: MakeDoorman, postgres: Postgres, workers: int) -> None:
    doorman = make_doorman(
        {
            "general": {"worker_threads": workers},
            "pools": {"own": pool(postgres, auth_query(pool_size=1)), "shared": pool(postgres, shared(postgres))},
        }
    )
    with doorman.connect(dbname="own", user="app_two") as own, doorman.connect(dbname="shared", user="app_two") as same:
        assert (who(own)[0], who(same)[0]) == ("app_two", "app")
        doorman.upgrade_by_console()
        for _ in range(3):
            assert (who(own)[0], who(same)[0]) == ("app_two", "app")
        assert doorman.admin("RECONNECT") is not None
        assert (who(own)[0], who(same)[0]) == ("app_two", "app"), "a server can be opened there, too"


def test_an_upgrade_makes_nobody_another(make_doorman: MakeDoorman, postgres: Postgres) -> None:
    """The file has changed, and nobody has reloaded it."""
    one = app_user(postgres, 2, username="app_two", password="a plain secret")
    doorman = make_doorman({"pools": {"shared": pool(postgres, shared(postgres), users=[one])}})
    with doorman.connect(dbname="shared", user="app_two", password="a plain secret") as stays:
        assert who(stays)[0] == "app"
        del doorman.config["pools"]["shared"]["users"]
        doorman.write_config(doorman.config)
        doorman.upgrade_by_console()
        doorman.connect(dbname="shared", user="app_two").close()
        assert "app_two" not in {row["user"] for row in doorman.admin("SHOW CLIENTS")}, "he stays with the old one"


def test_one_size_for_all_workers(make_doorman: MakeDoorman, postgres: Postgres) -> None:
    own = pool(postgres, auth_query(pool_size=2), application_name="sized")
    doorman = make_doorman({"general": {"worker_threads": 2}, "pools": {"own": own}})
    with ThreadPoolExecutor(8) as several:
        connections = list(several.map(lambda _: doorman.connect(dbname="own", user="app_two"), range(8)))
        list(several.map(lambda connection: connection.execute("SELECT pg_sleep(0.1)"), connections))
        sized = [one for one in postgres.backends(user="app_two") if one["application_name"] == "sized"]
        assert 0 < len(sized) <= 2
        (row,) = (row for row in doorman.admin("SHOW AUTH_QUERY") if row["database"] == "own")
        assert (row["auth_success"], row["dynamic_pools_current"]) == (8, 1)
        for connection in connections:
            connection.close()


# -- what operators read


def test_the_page_s_example(make_doorman: MakeDoorman, postgres: Postgres) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "auth-query.md").read_text(encoding="utf-8")
    sql, config = (re.findall(rf"```{kind}\n(.*?)```", page, re.DOTALL)[0] for kind in ("sql", "toml"))
    postgres.sql(sql.replace("…", "the password"), database="testdb")
    looked_up = toml.loads(config.replace("…", "the password"))["pools"]["exampledb"]["auth_query"]
    doorman = make_doorman({"pools": {"testdb": pool(postgres, looked_up)}})
    try:
        for user in ("app_two", "app_md5"):
            with doorman.connect(user=user) as connection:
                assert who(connection) == (user, "testdb")
        told = doorman.refusal(user="postgres", password="whatever")
        assert 'password authentication failed for user "postgres"' in told
    finally:
        doorman.finish()
        postgres.sql("DROP SCHEMA pooler CASCADE; DROP ROLE lookup", database="testdb")
