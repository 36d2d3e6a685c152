"""Pools: how many servers there are, who gets one next, how long one lives."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator

import psycopg
import pytest
from eventually import eventually, stays
from fix_doorman import Doorman, MakeDoorman, app_user, elapsed, until_idle
from fix_postgres import Postgres
from fix_proxy import MakeProxy
from pace import duration, patience
from wire_client import WireError, kinds, query


@pytest.fixture(autouse=True)
def no_old_backends(postgres: Postgres) -> Iterator[None]:
    """Counting in pg_stat_activity begins at nothing: poolers of earlier tests are gone."""
    eventually(lambda: not postgres.backends())
    yield


def pool_of(size: int, **user: object) -> dict[str, object]:
    """An overlay that gives ``testdb`` one user ``app`` with ``size`` servers."""
    return {
        "pools": {
            "testdb": {
                "users": [
                    {
                        "username": "app",
                        "password": Postgres.PASSWORDS["app"],
                        "pool_size": size,
                        "server_username": "app",
                        "server_password": Postgres.PASSWORDS["app"],
                        **user,
                    }
                ]
            }
        }
    }


def merged_pool(size: int, general: dict[str, object], **user: object) -> dict[str, object]:
    return {"general": general, **pool_of(size, **user)}


# -- who gets the next server


def test_waiters_are_served_in_their_order(make_doorman: MakeDoorman) -> None:
    """Of several workers each has its line; what holds between them stands in tests/pool/test_exchange.py."""
    doorman = make_doorman({"general": {"worker_threads": 1}})
    holder = doorman.wire("onedb")
    holder.ask_query("CREATE TEMP SEQUENCE IF NOT EXISTS turn; DROP SEQUENCE turn")
    holder.ask_query("DROP SEQUENCE IF EXISTS turns; CREATE SEQUENCE turns")
    holder.ask_query("BEGIN")
    waiters = []
    for i in range(6):
        waiter = doorman.wire("onedb")
        waiter.send(query("SELECT nextval('turns')"))
        waiters.append(waiter)
        eventually(lambda i=i: doorman.pool("onedb")["cl_waiting"] == i + 1)
    holder.ask_query("COMMIT")
    turns = [next(m.columns[0] for m in w.read_ready() if m.kind == "D") for w in waiters]
    assert turns == [b"1", b"2", b"3", b"4", b"5", b"6"]


def test_a_waiter_that_left_is_passed_over(make_doorman: MakeDoorman) -> None:
    """Section 8, item 17: no permit is lost with it."""
    doorman = make_doorman()
    with doorman.wire("onedb") as holder:
        holder.ask_query("BEGIN")
        waiters = []
        for _ in range(5):
            waiters.append(doorman.wire("onedb"))
            waiters[-1].send(query("SELECT 1"))
        eventually(lambda: doorman.pool("onedb")["cl_waiting"] == 5)
        for gone in waiters[::2]:
            gone.close()
        eventually(lambda: doorman.pool("onedb")["cl_waiting"] == 2)
        holder.ask_query("COMMIT")
        for left in waiters[1::2]:
            assert kinds(left.read_ready()) == "TDCZ"
    row = until_idle(doorman, "onedb")
    assert row["sv_idle"] == 1


def test_the_wait_for_a_server_has_an_end(make_doorman: MakeDoorman) -> None:
    """53300 with the name of the setting; section 8, item 13: what was sent meanwhile is not run later."""
    doorman = make_doorman({"general": {"query_wait_timeout": duration(0.7)}})
    with doorman.wire("onedb") as holder, doorman.wire("onedb") as waiter:
        holder.ask_query("DROP TABLE IF EXISTS never; CREATE TABLE never (a int)")
        holder.ask_query("BEGIN")
        began = time.monotonic()
        waiter.send(query("INSERT INTO never VALUES (1)") + query("INSERT INTO never VALUES (2)"))
        answer = waiter.read()
        assert 0.5 < elapsed(began) < patience(5)
        assert answer.kind == "E"
        assert answer.sqlstate == "53300"
        assert "query_wait_timeout" in answer.fields["M"] + answer.fields.get("D", "") + answer.fields.get("H", "")
        holder.ask_query("COMMIT")
        with doorman.wire("onedb") as other:
            assert other.value("SELECT count(*) FROM never") == "0"
    until_idle(doorman, "onedb")


def test_lifo_uses_few_servers_and_round_robin_all(make_doorman: MakeDoorman, postgres: Postgres) -> None:
    for round_robin, expected in ((False, 1), (True, 3)):
        one = {"worker_threads": 1}  # each worker has its own idle servers
        doorman = make_doorman(merged_pool(3, {"server_round_robin": round_robin, **one}))
        clients = [doorman.wire() for _ in range(3)]
        for client in clients:
            client.ask_query("BEGIN")
        for client in clients:
            client.ask_query("COMMIT")
        used = {clients[0].value("SELECT pg_backend_pid()") for _ in range(9)}
        assert len(used) == expected
        for client in clients:
            client.close()
        doorman.stop()
        eventually(lambda: not postgres.backends())


# -- how many there are


def watch_backends(postgres: Postgres, stop: threading.Event, seen: list[int]) -> None:
    with postgres.connect(user="postgres") as connection:
        while not stop.is_set():
            row = connection.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app' AND backend_type = 'client backend'"
            ).fetchone()
            assert row is not None
            seen.append(row[0])


def test_pool_size_is_never_exceeded(make_doorman: MakeDoorman, postgres: Postgres) -> None:
    """Hammered by more clients than servers, with servers killed, clients lost and waits timed out."""
    doorman = make_doorman(merged_pool(5, {"query_wait_timeout": "250ms"}))
    stop, seen, failures = threading.Event(), list[int](), list[str]()

    def work(seed: int) -> None:
        rng = random.Random(seed)
        while not stop.is_set():
            try:
                with doorman.wire() as client:
                    for _ in range(rng.randrange(1, 20)):
                        if stop.is_set():
                            return
                        client.send(
                            query(
                                rng.choice(
                                    [
                                        "SELECT 1",
                                        "SELECT pg_sleep(0.02)",
                                        "BEGIN",
                                        "COMMIT",
                                        "SELECT 1/0",
                                        "SELECT repeat('x', 200000)",
                                    ]
                                )
                            )
                        )
                        if rng.random() < 0.05:
                            return  # lost in the middle
                        if "E" in kinds(client.read_ready()) and rng.random() < 0.5:
                            break
            except (WireError, ConnectionError):
                continue
            except BaseException as exc:
                failures.append(repr(exc))
                return

    def kill() -> None:
        rng = random.Random(0)
        with postgres.connect(user="postgres") as connection:
            while not stop.is_set():
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app' AND random() < 0.2"
                )
                stop.wait(rng.uniform(0.02, 0.1))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(20)]
    threads += [threading.Thread(target=kill), threading.Thread(target=watch_backends, args=(postgres, stop, seen))]
    for thread in threads:
        thread.start()
    stop.wait(4)
    stop.set()
    for thread in threads:
        thread.join(patience(30))
        assert not thread.is_alive()
    assert not failures
    # A server we closed may be counted by PostgreSQL until it noticed; a killed one is ours to replace at once.
    assert sorted(seen)[int(len(seen) * 0.99) - 1] <= 5 + 1
    assert max(seen) <= 5 * 2
    row = until_idle(doorman)
    eventually(lambda: len(postgres.backends()) == doorman.pool()["sv_idle"])
    assert row["sv_idle"] <= 5
    # And the whole pool can still be had.
    clients = [doorman.wire() for _ in range(5)]
    for client in clients:
        client.ask_query("BEGIN")
        assert client.value("SELECT 1") == "1"
    for client in clients:
        client.close()


def test_pool_size_is_exact_without_faults(make_doorman: MakeDoorman, postgres: Postgres) -> None:
    doorman = make_doorman(pool_of(5))
    stop, seen = threading.Event(), list[int]()
    watcher = threading.Thread(target=watch_backends, args=(postgres, stop, seen))
    watcher.start()

    def work() -> None:
        with doorman.connect() as connection:
            for _ in range(40):
                connection.execute("SELECT pg_sleep(0.002)")

    threads = [threading.Thread(target=work) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(patience(30))
    stop.set()
    watcher.join(patience(10))
    assert max(seen) == 5


def test_min_pool_size_is_kept(make_doorman: MakeDoorman, postgres: Postgres) -> None:
    make_doorman(merged_pool(6, {"retain_connections_time": "200ms"}, min_pool_size=3))
    eventually(lambda: len(postgres.backends()) == 3)
    for backend in postgres.backends()[:2]:
        postgres.terminate(backend["pid"])
    eventually(lambda: len(postgres.backends()) == 3, timeout=15)
    assert stays(lambda: len(postgres.backends()) <= 3, seconds=0.5)


def test_idle_servers_are_closed(make_doorman: MakeDoorman, postgres: Postgres) -> None:
    doorman = make_doorman(
        merged_pool(
            4,
            {"idle_timeout": "500ms", "retain_connections_time": "100ms", "retain_connections_max": 0},
            min_pool_size=1,
        )
    )
    clients = [doorman.wire() for _ in range(4)]
    for client in clients:
        client.ask_query("BEGIN")
    assert len(postgres.backends()) == 4
    for client in clients:
        client.ask_query("COMMIT")
    eventually(lambda: len(postgres.backends()) == 1, timeout=15)
    # Clients do not notice.
    for client in clients:
        assert client.value("SELECT 1") == "1"


def test_old_servers_are_replaced(make_doorman: MakeDoorman, postgres: Postgres) -> None:
    doorman = make_doorman(merged_pool(1, {"server_lifetime": "500ms", "retain_connections_time": "100ms"}))
    with doorman.wire() as client:
        first = client.value("SELECT pg_backend_pid()")
        eventually(lambda: client.value("SELECT pg_backend_pid()") != first, interval=0.1)
        # Never in the middle of a transaction.
        client.ask_query("BEGIN")
        held = client.value("SELECT pg_backend_pid()")
        assert stays(lambda: client.value("SELECT pg_backend_pid()") == held, seconds=1.5, interval=0.1)
        client.ask_query("COMMIT")
        eventually(lambda: client.value("SELECT pg_backend_pid()") != held, interval=0.1)


def test_a_burst_does_not_open_the_whole_pool(make_doorman: MakeDoorman, postgres: Postgres) -> None:
    """Forty clients at once with short queries need no forty servers."""
    doorman = make_doorman(pool_of(40))
    clients = [doorman.wire() for _ in range(40)]
    until_idle(doorman)
    for client in clients:
        client.send(query("SELECT 1"))
    for client in clients:
        assert kinds(client.read_ready()) == "TDCZ"
    assert len(postgres.backends()) < 30


def test_a_slow_burst_does_open_it(make_doorman: MakeDoorman, postgres: Postgres) -> None:
    """But when the servers stay busy, all of the pool is used."""
    doorman = make_doorman(pool_of(12))
    clients = [doorman.wire() for _ in range(12)]
    for client in clients:
        client.send(query("BEGIN"))
    for client in clients:
        assert kinds(client.read_ready()) == "CZ"
    assert len(postgres.backends()) == 12
    for client in clients:
        client.close()


# -- servers that die


def test_a_server_killed_while_idle_is_not_lent(make_doorman: MakeDoorman, postgres: Postgres) -> None:
    doorman = make_doorman()
    with doorman.wire() as client:
        for _ in range(10):
            assert client.value("SELECT 1") == "1"
            for backend in postgres.backends():
                postgres.terminate(backend["pid"])
            eventually(lambda: not postgres.backends())
            eventually(lambda: doorman.pool()["sv_idle"] == 0)


def test_a_server_killed_just_before_the_query(make_doorman: MakeDoorman, postgres: Postgres) -> None:
    """No time for anybody to notice: the client gets its answer, or an ErrorResponse with a SQLSTATE; never silence."""
    doorman = make_doorman()
    client = doorman.wire()
    with postgres.connect(user="postgres") as killer:
        for _ in range(20):
            client.value("SELECT 1")
            killer.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'")
            client.send(query("SELECT 1"))
            while (got := client.read()).kind not in "ZE":
                pass
            if got.kind == "E":
                assert got.sqlstate in ("57P01", "08006")
                client.close()
                client = doorman.wire()


def test_a_stale_server_is_probed_before_reuse(
    make_doorman: MakeDoorman, make_proxy: MakeProxy, postgres: Postgres
) -> None:
    """A connection that looks alive but does not answer (a dropped NAT entry) is not handed to a client."""
    proxy = make_proxy((postgres.host, postgres.port))
    doorman = make_doorman(
        {
            "general": {"server_idle_check_timeout": "200ms", "connect_timeout": duration(1)},
            "pools": {"testdb": {"server_host": proxy.host, "server_port": proxy.port}},
        }
    )
    with doorman.wire() as client:
        assert client.value("SELECT 1") == "1"
        until_idle(doorman)
        began = time.monotonic()
        eventually(lambda: elapsed(began) > 0.5, message="the server is idle for longer than the limit")
        accepted = proxy.accepted
        proxy.hold("down")
        client.send(query("SELECT 'after probe'"))
        eventually(lambda: proxy.accepted > accepted, timeout=15, message="another connection is tried")
        proxy.release()
        answer = client.read_ready()
        assert kinds(answer) == "TDCZ"


@pytest.mark.parametrize("held", [False, True], ids=["answers", "is silent"])
@pytest.mark.parametrize("clients", [1, 2])
def test_a_probe_is_waited_for_and_no_longer_than_it_takes(
    make_doorman: MakeDoorman, make_proxy: MakeProxy, postgres: Postgres, clients: int, held: bool
) -> None:
    """Two servers have rested: a query waits for an answer, opens no third connection, and does not wait in vain.

    When a middle box has forgotten both connections of a full pool, new ones take their place long before the probe's
    own limit.
    """
    proxy = make_proxy((postgres.host, postgres.port))
    doorman = make_doorman(
        {
            # Each worker has its own idle servers.
            "general": {
                "server_idle_check_timeout": "300ms",
                "query_wait_timeout": duration(4),
                "worker_threads": 1,
            },
            "pools": {
                "testdb": {
                    "server_host": proxy.host,
                    "server_port": proxy.port,
                    "users": [app_user(postgres, 2 if held else 3)],
                }
            },
        }
    )
    with doorman.wire() as one, doorman.wire() as two:
        for client in (one, two):
            client.ask_query("BEGIN")
        for client in (one, two):
            client.ask_query("COMMIT")
        row = until_idle(doorman)
        assert row["sv_idle"] == 2
        began = time.monotonic()
        eventually(lambda: elapsed(began) > 0.6, message="the servers are idle for longer than the limit")
        accepted = proxy.accepted
        if held:
            proxy.forget()
        began = time.monotonic()
        asking = [one, two][:clients]
        for client in asking:
            client.send(query("SELECT 1"))
        for client in asking:
            assert kinds(client.read_ready()) == "TDCZ"
        assert elapsed(began) < patience(3.5)
        assert proxy.accepted - accepted == (clients if held else 0)


def test_failed_connects_back_off(make_doorman: MakeDoorman, make_proxy: MakeProxy, postgres: Postgres) -> None:
    """A server that refuses is not called as fast as the loop turns, and is found again when it is back."""
    proxy = make_proxy((postgres.host, postgres.port))
    doorman = make_doorman(
        {
            "general": {"query_wait_timeout": duration(1.5)},
            "pools": {"testdb": {"server_host": proxy.host, "server_port": proxy.port}},
        }
    )
    with doorman.wire() as client:
        assert client.value("SELECT 1") == "1"
        proxy.refuse = True
        proxy.drop()
        eventually(lambda: doorman.pool()["sv_idle"] == 0)
        accepted = proxy.accepted
        client.send(query("SELECT 1"))
        answer = client.read_until("E")[-1]
        assert answer.sqlstate in ("53300", "08006", "57P01")
        assert proxy.accepted - accepted < 60
        proxy.refuse = False
    eventually(lambda: _works(doorman), timeout=15)


def _works(doorman: Doorman) -> bool:
    try:
        with doorman.wire() as client:
            return client.value("SELECT 1") == "1"
    except (WireError, ConnectionError, AssertionError):
        return False


def test_a_server_that_never_answers_the_login(
    make_doorman: MakeDoorman, make_proxy: MakeProxy, postgres: Postgres
) -> None:
    proxy = make_proxy((postgres.host, postgres.port))
    proxy.hold("down")
    doorman = make_doorman(
        {
            "general": {"connect_timeout": duration(0.5), "query_wait_timeout": duration(2)},
            "pools": {"testdb": {"server_host": proxy.host, "server_port": proxy.port}},
        }
    )
    began = time.monotonic()
    with pytest.raises((WireError, psycopg.OperationalError, AssertionError)), doorman.wire() as client:
        client.value("SELECT 1")
    assert elapsed(began) < patience(10)
    proxy.release()
    eventually(lambda: _works(doorman), timeout=15)


def test_pools_of_different_users_do_not_share_servers(make_doorman: MakeDoorman, postgres: Postgres) -> None:
    doorman = make_doorman(
        {
            "pools": {
                "testdb": {
                    "users": [
                        {
                            "username": name,
                            "password": postgres.secret(name),
                            "pool_size": 1,
                            "server_username": name,
                            "server_password": postgres.password(name),
                        }
                        for name in ("app", "app_two")
                    ]
                }
            }
        }
    )
    with doorman.wire(user="app") as one, doorman.wire(user="app_two") as two:
        one.ask_query("BEGIN")
        two.ask_query("BEGIN")
        assert (one.value("SELECT current_user"), two.value("SELECT current_user")) == ("app", "app_two")


def test_application_name_of_a_pool(make_doorman: MakeDoorman, postgres: Postgres) -> None:
    """Server connections carry the pool's name for themselves until a client brings its own."""
    doorman = make_doorman({"pools": {"testdb": {"application_name": "from the pool"}}})
    with doorman.wire(application_name="from the client") as client:
        assert client.value("SHOW application_name") == "from the client"
    with doorman.wire() as client:
        assert client.value("SHOW application_name") != "from the client"


def test_configured_startup_parameters(make_doorman: MakeDoorman) -> None:
    doorman = make_doorman(
        {
            "general": {"startup_parameters": {"statement_timeout": "11111", "lock_timeout": "1111"}},
            "pools": {"testdb": {"startup_parameters": {"statement_timeout": "22222"}}},
        }
    )
    with doorman.wire() as client:
        assert client.value("SHOW statement_timeout") == "22222ms"
        assert client.value("SHOW lock_timeout") == "1111ms"
    with doorman.wire("onedb") as client:
        assert client.value("SHOW statement_timeout") == "11111ms"


@pytest.mark.parametrize(
    ("name", "value", "sqlstate", "text"),
    [
        ("no_such_thing", "1", "42704", 'unrecognized configuration parameter "no_such_thing"'),
        ("Work_Mem", "much", "22023", 'invalid value for parameter "Work_Mem": "much"'),
        ("shared_preload_libraries", "x", "55P02", 'parameter "shared_preload_libraries" cannot be changed'),
        ("log_statement", "all", "42501", 'permission denied to set parameter "log_statement"'),
    ],
)
def test_a_startup_parameter_that_postgresql_refuses(
    make_doorman: MakeDoorman, name: str, value: str, sqlstate: str, text: str
) -> None:
    """The client is told as by PostgreSQL itself, and the log whose servers can't be opened."""
    doorman = make_doorman({"pools": {"testdb": {"startup_parameters": {name: value}}}})
    with pytest.raises(WireError) as caught:
        doorman.wire()
    assert caught.value.message.sqlstate == sqlstate
    assert caught.value.message.fields["M"].startswith(text)
    doorman.wait_log(rf"connecting to the server .*failed: {text}.*\(SQLSTATE {sqlstate}\)")
    with doorman.wire("onedb") as client:
        assert client.value("SELECT 1") == "1"
