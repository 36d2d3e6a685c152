"""How many clients a database and how many servers a user may have, and pools for databases that nobody has named."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from eventually import eventually
from fix_doorman import ADMIN_PASSWORD, ADMIN_USER, Doorman, MakeDoorman, app_pool, app_user, until_idle
from fix_postgres import Postgres
from wire_client import WireError, kinds, query


def refusal(doorman: Doorman, *whom: str, **more: str) -> tuple[str, str]:
    with pytest.raises(WireError) as caught:
        doorman.wire(*whom, **more)
    return caught.value.message.sqlstate, caught.value.message.fields["M"]


def test_clients_of_a_database(make_doorman: MakeDoorman) -> None:
    doorman = make_doorman(
        {"general": {"max_db_client_connections": 2}, "pools": {"twodb": {"max_db_client_connections": 1}}}
    )
    too_many = ("53300", 'too many connections for database "testdb"')
    with doorman.wire() as one, doorman.wire() as two:
        assert refusal(doorman) == too_many
        assert refusal(doorman, password="wrong")[0] == "28P01"
        with doorman.wire("twodb"):
            assert refusal(doorman, "twodb")[0] == "53300"
        two.terminate()
        eventually(lambda: len(doorman.admin("SHOW CLIENTS")) == 2, message="one, and the console")
        with doorman.wire() as again:
            assert again.value("SELECT 1") == "1"
        assert one.value("SELECT 1") == "1"
        with doorman.wire("pgdoorman", ADMIN_USER, ADMIN_PASSWORD) as admin:
            admin.ask_query("SET max_db_client_connections = 0")
        with doorman.wire(), doorman.wire(), doorman.wire():
            pass


def test_clients_of_a_user(make_doorman: MakeDoorman, postgres: Postgres) -> None:
    """Over all databases; a user of a pool may have a limit of his own, which holds for who logs in there."""
    own = app_pool(postgres, 2, server_database="testdb")
    own["users"][0]["max_user_client_connections"] = 3
    doorman = make_doorman({"general": {"max_user_client_connections": 2}, "pools": {"roomy": own}})
    too_many = ("53300", 'too many connections for role "app"')
    with doorman.wire() as one, doorman.wire("twodb") as two:
        assert refusal(doorman) == refusal(doorman, "onedb") == too_many
        assert refusal(doorman, password="wrong")[0] == "28P01"
        with doorman.wire("roomy"):
            assert refusal(doorman, "roomy") == too_many
        assert {row["name"]: row["max_user_client_connections"] for row in users(doorman)}["app"] == 2
        two.terminate()
        eventually(lambda: len(doorman.admin("SHOW CLIENTS")) == 2, message="one, and the console")
        with doorman.wire("twodb") as again:
            assert again.value("SELECT 1") == "1"
        assert one.value("SELECT 1") == "1"
        with doorman.wire("pgdoorman", ADMIN_USER, ADMIN_PASSWORD) as admin:
            admin.ask_query("SET max_user_client_connections = 0")
        with doorman.wire(), doorman.wire(), doorman.wire("twodb"):
            pass


def users(doorman: Doorman) -> list[dict[str, Any]]:
    with doorman.admin_connect("pgbouncer") as console:
        return console.execute("SHOW USERS").fetchall()


def test_servers_of_a_user(make_doorman: MakeDoorman) -> None:
    """Over all pools; a pool that needs one more takes the place of one that rests elsewhere, or waits."""
    doorman = make_doorman({"general": {"max_user_connections": 2}})
    with doorman.wire("testdb") as one, doorman.wire("twodb") as two, doorman.wire("onedb") as three:
        for client in (one, two, three, one, two, three):
            assert client.value("SELECT 1") == "1"
            assert len(doorman.admin("SHOW SERVERS")) <= 2
        one.ask_query("BEGIN")
        two.ask_query("BEGIN")
        three.send(query("SELECT 1"))
        assert three.is_quiet()
        one.ask_query("COMMIT")  # its server rests, and gives way
        assert kinds(three.read_ready()) == "TDCZ"
        assert len(doorman.admin("SHOW SERVERS")) == 2
        one.send(query("SELECT 2"))
        assert kinds(one.read_ready()) == "TDCZ"
        two.ask_query("COMMIT")
    doorman.wait_log("max_user_connections is reached")


def test_the_limit_of_servers_comes_and_goes(make_doorman: MakeDoorman) -> None:
    doorman = make_doorman()
    with doorman.wire("pgdoorman", ADMIN_USER, ADMIN_PASSWORD) as admin:
        admin.ask_query("SET max_user_connections = 1")
        with doorman.wire("testdb") as one, doorman.wire("testdb") as two:
            one.ask_query("BEGIN")
            two.send(query("SELECT 1"))
            assert two.is_quiet()
            admin.ask_query("RESET max_user_connections")
            assert kinds(two.read_ready()) == "TDCZ"
            one.ask_query("COMMIT")


def test_the_hosts_in_application_names(make_doorman: MakeDoorman) -> None:
    doorman = make_doorman({"general": {"application_name_add_host": True}})
    with doorman.wire(application_name="till") as named, doorman.wire() as unnamed:
        for client, name in ((named, "till"), (unnamed, "app")):
            host, port = client.socket.getsockname()
            assert client.value("SHOW application_name") == f"{name} - {host}:{port}"
        named.ask_query("SET application_name = 'other'")
        assert named.value("SHOW application_name") == "other"


def test_a_program_that_asks_for_keys_is_known_by_its_name_without_the_host(
    make_doorman: MakeDoorman, postgres: Postgres
) -> None:
    """Or each connection would have to be told once that there is nothing, before what it asks is known."""
    doorman = make_doorman({"general": {"application_name_add_host": True}})
    postgres.sql("CREATE SEQUENCE tills; GRANT ALL ON tills TO app", database="testdb")
    try:
        with doorman.wire("onedb", application_name="till") as first:
            first.ask_query("SELECT lastval()")
        with doorman.wire("onedb", application_name="till") as till, doorman.wire("onedb") as other:
            for _ in range(3):
                given = till.value("SELECT nextval('tills')")
                assert till.value("SELECT lastval()") == given
                other.value("SELECT nextval('tills')")
    finally:
        postgres.sql("DROP SEQUENCE tills", database="testdb")


def with_wildcard(make_doorman: MakeDoorman, postgres: Postgres, **general: object) -> Doorman:
    doorman = make_doorman(start=False)
    config = copy.deepcopy(doorman.config)
    every = app_pool(postgres, 2)
    del every["server_database"]
    config["pools"] = {"testdb": app_pool(postgres, 2), "*": every}
    config["pools"]["testdb"]["users"] = [app_user(postgres, 2) | {"username": "only_here"}]
    config["general"] |= general
    doorman.config = config
    return doorman.start()


def test_a_pool_for_databases_without_one(make_doorman: MakeDoorman, postgres: Postgres) -> None:
    doorman = with_wildcard(make_doorman, postgres)
    password = Postgres.PASSWORDS["app"]
    with doorman.wire("postgres") as one, doorman.wire("template1") as two:
        assert one.value("SELECT current_database()") == "postgres"
        assert two.value("SELECT current_database()") == "template1"
        assert {row["database"] for row in doorman.admin("SHOW POOLS")} == {"testdb", "postgres", "template1"}
    # Databases that are named have their own users; whether there is one is told only to those who may come in.
    assert refusal(doorman, "testdb")[0] == "28P01"
    with doorman.wire("testdb", "only_here", password) as client:
        assert client.value("SELECT 1") == "1"
    for database in ("postgres", "no_such_database"):
        assert refusal(doorman, database, "app", "wrong")[0] == "28P01"
        assert refusal(doorman, database, "only_here", password)[0] == "28P01"
    sqlstate, text = refusal(doorman, "no_such_database")
    assert sqlstate == "3D000"
    assert 'database "no_such_database" does not exist' in text
    eventually(lambda: "no_such_database" not in {row["database"] for row in doorman.admin("SHOW POOLS")})


def test_pools_that_nobody_uses_are_taken_away(make_doorman: MakeDoorman, postgres: Postgres) -> None:
    doorman = with_wildcard(make_doorman, postgres, autodb_idle_timeout="300ms", idle_timeout="200ms")

    def pools() -> set[str]:
        return {row["database"] for row in doorman.admin("SHOW POOLS")}

    with doorman.wire("postgres") as kept:
        with doorman.wire("template1") as client:
            assert client.value("SELECT 1") == "1"
        eventually(lambda: pools() == {"testdb", "postgres"}, message="the other is gone")
        eventually(lambda: not doorman.admin("SHOW SERVERS"))
        assert kept.value("SELECT 1") == "1"


def test_a_wildcard_and_reload_and_pause(make_doorman: MakeDoorman, postgres: Postgres) -> None:
    doorman = with_wildcard(make_doorman, postgres)
    with doorman.wire("postgres") as client, doorman.wire("pgdoorman", ADMIN_USER, ADMIN_PASSWORD) as admin:
        assert client.value("SELECT 1") == "1"
        changed = copy.deepcopy(doorman.config)
        changed["pools"]["*"]["users"][0]["pool_size"] = 1
        doorman.reload(changed)
        assert doorman.pool("postgres")["pool_size"] == 1
        assert client.value("SELECT 1") == "1"
        assert admin.ask_query("PAUSE template1")[0].tag == "PAUSE"  # whoever comes will wait
        assert doorman.pool("postgres")["paused"] == 0
        del changed["pools"]["*"]
        doorman.reload(changed)
        client.send(query("SELECT 1"))
        assert [m.sqlstate for m in client.read_messages_to_end()] == ["3D000"]
    until_idle(doorman, "testdb", "only_here")
