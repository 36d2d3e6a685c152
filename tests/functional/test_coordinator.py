"""max_db_connections and the reserve: users of one database, who PostgreSQL never sees more of than that."""

from __future__ import annotations

import copy
import os
import signal
import threading
from collections.abc import Callable
from typing import Any

import psutil
import psycopg
import pytest
from eventually import eventually
from fix_doorman import Doorman, MakeDoorman, app_pool
from fix_postgres import Postgres
from fix_workers import Make, Workers
from functional.test_one_pool_of_workers import Sampler, in_threads
from pace import duration
from wire_client import WireClient, WireError, kinds, query
from worker_processes import serving

USERS = ("app", "app_two", "app_md5")


def users(size: int = 4, **more: Any) -> list[dict[str, Any]]:
    return [{"username": name, "password": Postgres.PASSWORDS[name], "pool_size": size, **more} for name in USERS]


def limited(postgres: Postgres, most: int, **more: Any) -> dict[str, Any]:
    """A pool of all three users, for testdb."""
    limits = {"max_db_connections": most, "min_connection_lifetime": 0, **more}
    return app_pool(postgres, **{"users": users(), **limits})


def coordinator(doorman: Doorman) -> dict[str, int]:
    (row,) = doorman.admin("SHOW POOL_COORDINATOR")
    assert row.pop("database") == "testdb"
    return {name: int(value) for name, value in row.items()}


def test_users_share_what_a_database_may_have(make_doorman: MakeDoorman, postgres: Postgres) -> None:
    doorman = make_doorman({"pools": {"testdb": limited(postgres, 2)}})
    with doorman.wire() as one, doorman.wire(user="app_two") as two, doorman.wire(user="app_md5") as three:
        for client in (one, two, three, one, two, three):
            assert client.value("SELECT 1") == "1"
            assert coordinator(doorman)["current"] <= 2
        one.ask_query("BEGIN")
        two.ask_query("BEGIN")
        three.send(query("SELECT 1"))
        assert three.is_quiet()
        one.ask_query("COMMIT")  # its server rests, and gives way
        assert kinds(three.read_ready()) == "TDCZ"
        two.ask_query("COMMIT")
    found = coordinator(doorman)
    assert (found["max_db_conn"], found["current"], found["reserve_size"], found["exhaustions"]) == (2, 2, 0, 0)
    assert found["evictions"] >= 2
    doorman.wait_log("max_db_connections is reached, and another pool needs a connection")
    assert [row["reserve_pool"] for row in doorman.admin("SHOW DATABASES") if row["name"] == "testdb"] == [0] * 3


def test_young_servers_and_what_is_guaranteed_stay(make_doorman: MakeDoorman, postgres: Postgres) -> None:
    pool = limited(postgres, 2, min_connection_lifetime="1h", min_guaranteed_pool_size=1)
    doorman = make_doorman({"general": {"query_wait_timeout": duration(0.3)}, "pools": {"testdb": pool}})
    with doorman.wire() as one, doorman.wire(user="app_two") as two:
        one.value("SELECT 1"), two.value("SELECT 1")

        def refused() -> str:
            with pytest.raises(WireError) as caught:
                doorman.wire(user="app_md5")
            assert caught.value.message.sqlstate == "53300"
            return caught.value.message.fields["M"]

        in_vain = "all server connections to database 'testdb' are in use (max=2)"
        assert in_vain in refused()
        config = copy.deepcopy(doorman.config)
        config["pools"]["testdb"]["min_connection_lifetime"] = 0
        doorman.reload(config)
        assert in_vain in refused(), "both have what is guaranteed"
        config["pools"]["testdb"]["min_guaranteed_pool_size"] = 0
        doorman.reload(config)
        with doorman.wire(user="app_md5") as three:
            assert three.value("SELECT 1") == "1"
    assert coordinator(doorman)["exhaustions"] == 2


def test_the_reserve(make_doorman: MakeDoorman, postgres: Postgres) -> None:
    pool = limited(postgres, 1, reserve_pool_size=1, reserve_pool_timeout=duration(0.3))
    doorman = make_doorman({"general": {"query_wait_timeout": duration(1)}, "pools": {"testdb": pool}})
    with doorman.wire() as one, doorman.wire(user="app_two") as two, doorman.wire(user="app_md5") as three:
        one.ask_query("BEGIN")
        two.ask_query("BEGIN")
        found = coordinator(doorman)
        assert (found["current"], found["reserve_used"], found["reserve_acq"]) == (2, 1, 1)
        three.send(query("SELECT 1"))
        error = three.read()
        assert error.sqlstate == "53300"
        assert "all server connections to database 'testdb' are in use (max=1, reserve=1/1)" in error.fields["M"]
        two.ask_query("COMMIT")
        eventually(lambda: coordinator(doorman)["current"] == 1, message="it is given back when it has rested")
        one.ask_query("COMMIT")
    found = coordinator(doorman)
    assert found["reserve_used"] == 0 and found["exhaustions"] >= 1


def test_databases_that_clients_name_are_forgotten(make_doorman: MakeDoorman, postgres: Postgres) -> None:
    """Each has a limit of its own, which must not outlive it: anybody who is let in may name any number."""
    every = limited(postgres, 1)
    del every["server_database"]
    doorman = make_doorman({"pools": {"*": every}})

    def limits() -> set[str]:
        return {row["database"] for row in doorman.admin("SHOW POOL_COORDINATOR")}

    with doorman.wire("otherdb") as client:
        for number in range(3):
            with pytest.raises(WireError):
                doorman.wire(f"none{number}")
        eventually(lambda: limits() <= {"otherdb"}, message="those that are none are forgotten")
        assert client.value("SELECT current_database()") == "otherdb"
        assert limits() == {"otherdb"}


def test_limits_grow_and_shrink(make_doorman: MakeDoorman, postgres: Postgres) -> None:
    doorman = make_doorman({"pools": {"testdb": limited(postgres, 1)}})

    def reload(most: int) -> None:
        config = copy.deepcopy(doorman.config)
        config["pools"]["testdb"]["max_db_connections"] = most
        doorman.reload(config)

    with doorman.wire() as one, doorman.wire(user="app_two") as two:
        one.ask_query("BEGIN")
        two.send(query("SELECT 1"))
        assert two.is_quiet()
        reload(2)
        assert kinds(two.read_ready()) == "TDCZ"
        one.ask_query("COMMIT")
        assert coordinator(doorman)["current"] == 2
        reload(1)
        eventually(lambda: coordinator(doorman)["current"] == 1, message="one of those that rest is closed")
        reload(0)
        assert doorman.admin("SHOW POOL_COORDINATOR") == []
        one.ask_query("BEGIN")
        assert two.value("SELECT 1") == "1"
        one.ask_query("COMMIT")


def test_pause_and_resume(make_doorman: MakeDoorman, postgres: Postgres) -> None:
    doorman = make_doorman({"pools": {"testdb": limited(postgres, 1)}})
    with doorman.wire() as one, doorman.wire(user="app_two") as two:
        one.value("SELECT 1")
        doorman.admin("PAUSE testdb")
        two.send(query("SELECT 1"))
        assert two.is_quiet() and coordinator(doorman)["current"] == 0
        doorman.admin("RESUME testdb")
        assert kinds(two.read_ready()) == "TDCZ"


# Under load: what PostgreSQL has seen.

MOST, RESERVE = 3, 1


def crowd(postgres: Postgres, **more: Any) -> dict[str, Any]:
    """Servers live long enough to be seen twice, so that those that end are told from the others (``Sampler``)."""
    reserve = {"reserve_pool_size": RESERVE, "reserve_pool_timeout": duration(0.2)}
    return limited(postgres, MOST, **{"min_connection_lifetime": duration(0.1), **reserve, **more})


def work(make: Callable[[], WireClient], times: int) -> Callable[[], None]:
    def run() -> None:
        with make() as client:
            for _ in range(times):
                assert client.value("SELECT current_user FROM pg_sleep(0.002)")

    return run


@pytest.mark.parametrize("more", [{"min_connection_lifetime": 0}, {}], ids=["at once", "when old enough"])
def test_a_crowd(make_doorman: MakeDoorman, postgres: Postgres, more: dict[str, Any]) -> None:
    pool = crowd(postgres, **more)
    doorman = make_doorman({"general": {"query_wait_timeout": duration(60)}, "pools": {"testdb": pool}})
    with Sampler(postgres, *USERS) as sampler:
        in_threads(*[work(lambda user=user: doorman.wire(user=user), 15) for user in USERS for _ in range(3)])  # type: ignore[misc]
    assert (0 if more else 1) <= sampler.most <= MOST + RESERVE


@pytest.mark.own_workers
def test_a_crowd_at_two_workers(workers: Make, postgres: Postgres) -> None:
    doorman = workers(1, {"query_wait_timeout": duration(60)})
    doorman.config["pools"]["testdb"] = crowd(postgres)
    doorman.reload(doorman.config)
    eventually(lambda: doorman.log_text().count("configuration reloaded") == 2, message="both")
    one_makes_room_for_another(doorman)
    with Sampler(postgres, *USERS) as sampler:
        in_threads(
            *[
                work(lambda user=user, number=number: doorman.client(number, user=user), 15)  # type: ignore[misc]
                for user in USERS
                for number in (1, 2)
                for _ in range(2)
            ]
        )
    assert 0 < sampler.most <= MOST + RESERVE


def one_makes_room_for_another(doorman: Workers) -> None:
    """What rests in one worker gives way to who waits in the other."""
    clients = [doorman.client(1, user=user) for user in ("app", "app_two")]
    try:
        for client in clients:
            client.ask_query("BEGIN")
        with doorman.client(1) as third:
            third.ask_query("BEGIN")
            for client in (*clients, third):
                client.ask_query("COMMIT")
        with doorman.client(2, user="app_md5") as other:
            assert other.value("SELECT 1") == "1"
    finally:
        for client in clients:
            client.close()


@pytest.mark.own_workers
@pytest.mark.parametrize("worker_threads", [1, 2])
def test_a_crowd_and_an_upgrade(make_doorman: MakeDoorman, postgres: Postgres, worker_threads: int) -> None:
    general = {"worker_threads": worker_threads, "query_wait_timeout": duration(60)}
    doorman = make_doorman({"general": general, "pools": {"testdb": crowd(postgres)}})
    with Sampler(postgres, *USERS) as sampler:
        threads = [
            threading.Thread(target=work(lambda user=user: doorman.wire(user=user), 300))  # type: ignore[misc]
            for user in USERS
            for _ in range(2)
        ]
        for thread in threads:
            thread.start()
        # A login that waits for the first server of its pool is not moved.
        eventually(lambda: doorman.log_text().count("client connected") == len(threads), message="they have logged in")
        doorman.upgrade()
        for thread in threads:
            thread.join()
        assert doorman.end_of_predecessor() == 0
    assert 0 < sampler.most <= MOST + RESERVE
    assert 0 < coordinator(doorman)["current"] <= MOST


@pytest.mark.own_workers
def test_a_crowd_and_a_worker_that_is_killed(make_doorman: MakeDoorman, postgres: Postgres) -> None:
    general = {"worker_threads": 2, "query_wait_timeout": duration(60)}
    doorman = make_doorman({"general": general, "pools": {"testdb": crowd(postgres)}})
    done = threading.Event()

    def run(user: str) -> None:
        while not done.is_set():
            try:
                with psycopg.connect(doorman.dsn(user=user, dbname="testdb"), autocommit=True) as client:
                    while not done.is_set():
                        client.execute("SELECT pg_sleep(0.002)")
            except psycopg.OperationalError:
                continue  # its worker was killed

    with Sampler(postgres, *USERS) as sampler:
        threads = [threading.Thread(target=run, args=(user,)) for user in USERS for _ in range(3)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(2):
                eventually(lambda: coordinator(doorman)["current"] >= MOST, message="all are in use")
                killed: psutil.Process = serving(doorman)[0]
                before = len(doorman.log_lines)
                os.kill(killed.pid, signal.SIGKILL)
                doorman.wait_log(r"worker \d \(pid \d+\) serves", after=before)
        finally:
            done.set()
            for thread in threads:
                thread.join()
    assert 0 < sampler.most <= MOST + RESERVE
    seen = "SELECT count(*) FROM pg_stat_activity WHERE usename = ANY('{app,app_two,app_md5}')"
    eventually(lambda: coordinator(doorman)["current"] == int(postgres.sql(seen)) <= MOST, message="books that agree")
