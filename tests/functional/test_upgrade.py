"""Binary upgrade: a new process takes listeners, clients and servers over, and no client can tell."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
from eventually import eventually
from fix_certs import Certificates
from fix_doorman import Doorman, MakeDoorman, of_workers, pgbench_at_work
from fix_postgres import Postgres
from wire_client import query

PGBENCH_SECONDS = 8


@pytest.fixture(params=[1, 2], ids=["alone", "workers"])
def workers(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def make_doorman(make_doorman: MakeDoorman, workers: int) -> MakeDoorman:
    return of_workers(make_doorman, workers)


# -- what goes over


def test_a_client_at_rest_keeps_all_it_has(make_doorman: MakeDoorman) -> None:
    doorman = make_doorman()
    with doorman.connect(prepare_threshold=0, application_name="kept") as client:
        client.execute("SET search_path = pg_catalog, public")
        client.execute("PREPARE mine AS SELECT 'by sql', $1::int")
        assert client.execute("SELECT %s::int", (17,)).fetchone() == (17,)
        number = doorman.admin("SHOW CLIENTS")[0]["client_id"]
        doorman.upgrade()
        assert doorman.end_of_predecessor() == 0
        assert client.execute("SELECT %s::int", (18,)).fetchone() == (18,)
        assert client.execute("SHOW search_path").fetchone() == ("pg_catalog, public",)
        assert client.execute("SHOW application_name").fetchone() == ("kept",)
        assert client.execute("EXECUTE mine(5)").fetchone() == ("by sql", 5)
        shown = [row for row in doorman.admin("SHOW CLIENTS") if row["application_name"] == "kept"]
        assert [row["client_id"] for row in shown] == [number]


def test_nobody_logs_in_at_postgresql_again(make_doorman: MakeDoorman, postgres: Postgres) -> None:
    """Whose pool has as many servers as it may, so that a look at the catalogue has opened none beside."""
    doorman = make_doorman()
    with doorman.connect(dbname="twodb") as one, doorman.connect(dbname="twodb") as other:
        with one.transaction(), other.transaction():
            pids = {c.execute("SELECT pg_backend_pid()").fetchone() for c in (one, other)}
        doorman.upgrade()
        assert doorman.end_of_predecessor() == 0
        with one.transaction(), other.transaction():
            assert {c.execute("SELECT pg_backend_pid()").fetchone() for c in (one, other)} == pids


def test_a_transaction_ends_where_it_began(make_doorman: MakeDoorman, postgres: Postgres) -> None:
    doorman = make_doorman()
    with doorman.wire() as client:
        client.ask_query("CREATE TEMP TABLE IF NOT EXISTS nothing_of_it (a int); DROP TABLE nothing_of_it")
        client.ask_query("BEGIN")
        client.ask_query("CREATE TABLE upgraded (a int)")
        doorman.upgrade()
        for number in range(50):
            client.ask_query(f"INSERT INTO upgraded VALUES ({number})")
        client.ask_query("COMMIT")
        assert doorman.end_of_predecessor() == 0
        client.ask_query("INSERT INTO upgraded VALUES (50)")
        assert client.value("SELECT count(*) FROM upgraded") == "51"
        client.ask_query("DROP TABLE upgraded")


def test_a_statement_under_way_is_answered(make_doorman: MakeDoorman) -> None:
    doorman = make_doorman()
    with doorman.wire() as client:
        client.send(query("SELECT pg_sleep(1), 'answered'"))
        doorman.upgrade()
        assert b"answered" in client.read_ready()[1].body
        assert doorman.end_of_predecessor() == 0


def test_who_waits_for_a_server_is_served_by_the_new_process(make_doorman: MakeDoorman) -> None:
    doorman = make_doorman({"general": {"query_wait_timeout": "60s"}})
    with doorman.wire("onedb") as first, doorman.wire("onedb") as second:
        first.ask_query("BEGIN")
        second.send(query("SELECT 'at last'"))
        eventually(lambda: doorman.pool("onedb")["cl_waiting"] == 1, message="the second waits")
        doorman.upgrade()
        eventually(lambda: doorman.pool("onedb")["cl_waiting"] == 1, message="it waits in the new process")
        first.ask_query("COMMIT")
        assert b"at last" in second.read_ready()[1].body
        assert doorman.end_of_predecessor() == 0


@pytest.mark.parametrize(
    ("keep", "ask"),
    [
        ("CREATE TEMP TABLE mine AS SELECT 7 AS kept", "SELECT kept FROM mine"),
        ("SELECT pg_advisory_lock(4711)", "SELECT 7 FROM pg_locks WHERE locktype = 'advisory' AND objid = 4711"),
        ("DECLARE hers CURSOR WITH HOLD FOR SELECT 7 AS kept", "FETCH 1 FROM hers"),
        ("CREATE TEMP TABLE mine (a int); SET statement_timeout = '7s'", "SHOW statement_timeout"),
    ],
    ids=["temporary", "lock", "cursor", "timeout"],
)
def test_who_keeps_a_server_takes_it_along(make_doorman: MakeDoorman, keep: str, ask: str) -> None:
    doorman = make_doorman()
    with doorman.wire() as client:
        client.ask_query(keep)
        for _ in range(2):
            doorman.upgrade()
            assert doorman.end_of_predecessor() == 0
        assert client.value(ask) in ("7", "7s")


def test_listeners_hear(make_doorman: MakeDoorman) -> None:
    doorman = make_doorman()
    with doorman.connect() as listener, doorman.connect() as other:
        listener.execute("LISTEN news")
        doorman.upgrade()
        assert doorman.end_of_predecessor() == 0
        other.execute("NOTIFY news, 'heard'")
        assert [n.payload for n in listener.notifies(timeout=20, stop_after=1)] == ["heard"]


def test_session_pools_keep_their_servers(make_doorman: MakeDoorman) -> None:
    doorman = make_doorman()
    with doorman.connect(dbname="sessiondb") as client:
        client.execute("CREATE TEMP TABLE of_the_session AS SELECT 1")
        pid = client.execute("SELECT pg_backend_pid()").fetchone()
        doorman.upgrade()
        assert doorman.end_of_predecessor() == 0
        assert client.execute("SELECT pg_backend_pid() FROM of_the_session").fetchone() == pid


def test_cancel_keys_work_on_both_sides(make_doorman: MakeDoorman) -> None:
    """Of a client that has gone over, and of one that is still in a transaction of the old process."""
    doorman = make_doorman()
    with doorman.connect() as gone, doorman.connect(autocommit=False) as staying:
        staying.execute("SELECT 1")
        doorman.upgrade()
        for client in (gone, staying):
            timer = threading.Timer(0.5, client.cancel_safe)
            timer.start()
            with pytest.raises(psycopg.errors.QueryCanceled):
                client.execute("SELECT pg_sleep(30)")
            timer.join()
        staying.rollback()
        assert doorman.end_of_predecessor() == 0


def test_unix_sockets_and_http_go_over(make_doorman: MakeDoorman, tmp_path: Path) -> None:
    doorman = make_doorman({"general": {"unix_socket_dir": str(tmp_path)}})
    path = tmp_path / f".s.PGSQL.{doorman.port}"
    before = path.stat()
    for _ in range(2):
        doorman.upgrade()
        assert doorman.end_of_predecessor() == 0
        after = path.stat()
        assert (after.st_ino, after.st_ctime) == (before.st_ino, before.st_ctime)
        with doorman.connect(host=str(tmp_path)) as client:
            assert client.execute("SELECT 1").fetchone() == (1,)


def test_orders_of_the_console_hold(make_doorman: MakeDoorman) -> None:
    doorman = make_doorman()
    doorman.admin("SET log_client_connections = false")
    doorman.admin("PAUSE twodb")
    doorman.upgrade()
    assert doorman.end_of_predecessor() == 0
    shown = {row["key"]: row["value"] for row in doorman.admin("SHOW CONFIG")}
    assert shown["log_client_connections"] == "false"
    with doorman.admin_connect("pgbouncer") as console:
        paused = [row["paused"] for row in console.execute("SHOW DATABASES") if row["name"] == "twodb"]
    assert [str(value) for value in paused] == ["1"]


def test_the_console_starts_it_too(make_doorman: MakeDoorman) -> None:
    doorman = make_doorman()
    with doorman.connect() as client:
        client.execute("SELECT 1")
        assert doorman.upgrade_by_console() == "UPGRADE"
        assert doorman.end_of_predecessor() == 0
        assert client.execute("SELECT 2").fetchone() == (2,)


def by_tls(make_doorman: MakeDoorman, certs: Certificates, **general: Any) -> Doorman:
    served = {"tls_certificate": str(certs.server.certificate), "tls_private_key": str(certs.server.private_key)}
    return make_doorman({"general": {"tls_mode": "allow", "shutdown_timeout": "5s", **served, **general}})


def test_tls_goes_along(make_doorman: MakeDoorman, certs: Certificates) -> None:
    """By TLS 1.3, again and again, with answers larger than a record, and both ways."""
    doorman = by_tls(make_doorman, certs)
    with doorman.connect(sslmode="require", ssl_min_protocol_version="TLSv1.3") as client:
        for number in range(3):
            client.execute("SELECT 1")
            doorman.upgrade()
            assert doorman.end_of_predecessor() == 0
            text = str(number) * 100_000
            assert client.execute("SELECT %s::text", (text,)).fetchone() == (text,)
    doorman.wait_log("has taken 1 clients")


@pytest.mark.parametrize("why", ["TLS 1.2", "tls_handover"])
def test_tls_that_stays(make_doorman: MakeDoorman, certs: Certificates, why: str) -> None:
    doorman = by_tls(make_doorman, certs, tls_handover=why == "TLS 1.2")
    newest = "TLSv1.2" if why == "TLS 1.2" else "TLSv1.3"
    with doorman.connect(sslmode="require", ssl_max_protocol_version=newest) as client:
        client.execute("SELECT 1")
        doorman.upgrade()
        doorman.wait_log("stays with this process: ")
        for number in range(10):
            assert client.execute("SELECT %s::int", (number,)).fetchone() == (number,)
        assert doorman.end_of_predecessor() == 0
        with pytest.raises(psycopg.errors.AdminShutdown):
            client.execute("SELECT 1")


def test_sigint_upgrades_where_it_is_told_to(make_doorman: MakeDoorman) -> None:
    """Deploy scripts of the reference send it; by itself it drains (test_life)."""
    doorman = make_doorman({"general": {"upgrade_on_sigint": True}})
    with doorman.connect() as client:
        doorman.upgrade(signal.SIGINT)
        assert doorman.end_of_predecessor() == 0
        assert client.execute("SELECT 1").fetchone() == (1,)


# -- what does not


def test_a_broken_configuration_changes_nothing(make_doorman: MakeDoorman) -> None:
    doorman = make_doorman()
    with doorman.connect() as client:
        doorman.config_path.write_text("[general]\nport = 'none'\n")
        doorman.send_signal(signal.SIGUSR2)
        assert "exit code 78" in doorman.wait_log("upgrade failed", timeout=60)
        assert client.execute("SELECT 1").fetchone() == (1,)
        with doorman.connect() as other:
            assert other.execute("SELECT 1").fetchone() == (1,)
        with pytest.raises(psycopg.errors.SystemError, match="exit code 78"):
            doorman.admin("UPGRADE")


def test_a_new_process_that_hangs_is_ended(make_doorman: MakeDoorman) -> None:
    doorman = make_doorman({"general": {"upgrade_timeout": "1s"}})
    with doorman.connect() as client:
        before = children(doorman)
        doorman.config_path.unlink()
        os.mkfifo(doorman.config_path)  # nobody writes: whoever opens it waits
        doorman.send_signal(signal.SIGUSR2)
        doorman.wait_log("upgrade failed, this process goes on: ")
        eventually(lambda: children(doorman) == before, message="the new process is gone")
        assert client.execute("SELECT 1").fetchone() == (1,)
        with doorman.connect() as other:
            assert other.execute("SELECT 1").fetchone() == (1,)
        doorman.config_path.unlink()


def children(doorman: Doorman) -> set[int]:
    """Process ids of its own."""
    return {child.pid for child in psutil.Process(doorman.pid).children()}


def test_a_new_process_that_is_killed_leaves_its_clients_here(make_doorman: MakeDoorman) -> None:
    """One in a transaction is still the old process's, which goes on as if nothing had been."""
    doorman = make_doorman()
    with doorman.connect(autocommit=False) as client:
        client.execute("SELECT 1")
        doorman.upgrade()
        assert doorman.process is not None
        os.kill(doorman.process.pid, signal.SIGKILL)
        doorman.goes_on()
        doorman.wait_log("this one goes on")
        client.execute("SELECT 2")
        client.commit()
        assert client.execute("SELECT 3").fetchone() == (3,)
        client.rollback()
        with doorman.connect() as other:
            assert other.execute("SELECT 1").fetchone() == (1,)
        assert doorman.pool()["sv_active"] == 0


@pytest.mark.parametrize("workers", [1], ids=["alone"], indirect=True)
def test_an_old_process_that_is_killed_leaves_the_rest_alone(make_doorman: MakeDoorman) -> None:
    doorman = make_doorman()
    with doorman.connect() as gone, doorman.connect(autocommit=False) as staying:
        gone.execute("SELECT 1")
        staying.execute("SELECT 1")
        doorman.upgrade()
        eventually(lambda: any(row["state"] == "idle" for row in doorman.admin("SHOW CLIENTS")), message="one has gone")
        old = doorman.predecessors.pop()
        old.send_signal(signal.SIGKILL)
        old.wait(15)
        doorman.wait_log("old process has ended")
        assert gone.execute("SELECT 2").fetchone() == (2,)
        with pytest.raises(psycopg.OperationalError):
            staying.execute("SELECT 2")
        with doorman.connect(dbname="onedb") as other:
            assert other.execute("SELECT 1").fetchone() == (1,)


def test_who_does_not_end_leaves_with_the_limit(make_doorman: MakeDoorman) -> None:
    doorman = make_doorman({"general": {"shutdown_timeout": "2s"}})
    with doorman.connect(autocommit=False) as staying:
        staying.execute("SELECT 1")
        doorman.upgrade()
        assert doorman.end_of_predecessor() == 0
        with pytest.raises(psycopg.errors.AdminShutdown):
            staying.execute("SELECT 2")


# -- under load


def test_pgbench_notices_nothing(make_doorman: MakeDoorman, postgres: Postgres) -> None:
    """Three upgrades in a row: no transaction fails, no connection is refused, pool_size holds."""
    doorman = make_doorman()
    most = 0
    refused: list[Exception] = []
    done = threading.Event()

    def come_and_go() -> None:
        while not done.is_set():
            try:
                with doorman.connect() as client:
                    client.execute("SELECT 1")
            except psycopg.Error as exc:
                refused.append(exc)

    def count() -> None:
        nonlocal most
        while not done.is_set():
            most = max(most, len(postgres.backends()))
            time.sleep(0.01)

    threads = [threading.Thread(target=come_and_go), threading.Thread(target=count)]
    try:
        with pgbench_at_work(doorman, PGBENCH_SECONDS):
            for thread in threads:
                thread.start()
            for _ in range(3):
                doorman.upgrade()
                assert doorman.end_of_predecessor() == 0
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert not refused
    assert most <= 8 + 1, "more servers than the pool's size"
