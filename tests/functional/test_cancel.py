"""Cancel requests: they reach the statement of the client they are for, and no other's, ever."""

from __future__ import annotations

import os
import signal
import threading

import psycopg
import pytest
from eventually import eventually, stays
from fix_doorman import Doorman, MakeDoorman, until_idle
from fix_postgres import Postgres
from pace import patience
from storm import CancelStorm
from wire_client import WireClient, cancel_request, kinds, prepared, query


def runs(postgres: Postgres, mark: str) -> bool:
    return any(mark in b["query"] and b["state"] == "active" for b in postgres.backends())


@pytest.mark.parametrize("database", ["testdb", "sessiondb"])
def test_cancel_a_running_statement(doorman: Doorman, postgres: Postgres, database: str) -> None:
    with doorman.connect(dbname=database) as connection:
        errors = []

        def sleep() -> None:
            try:
                connection.execute("SELECT pg_sleep(30), 'psycopg cancel'")
            except psycopg.Error as exc:
                errors.append(exc.sqlstate)

        thread = threading.Thread(target=sleep)
        thread.start()
        eventually(lambda: runs(postgres, "psycopg cancel"))
        connection.cancel_safe(timeout=patience(5))
        thread.join(patience(10))
        assert errors == ["57014"]
        # The connection is good for more.
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_cancel_in_the_extended_protocol_and_in_a_transaction(doorman: Doorman, postgres: Postgres) -> None:
    with doorman.wire() as client:
        client.ask_query("BEGIN")
        client.send(prepared("", "SELECT pg_sleep(30), 'in a transaction'"))
        eventually(lambda: runs(postgres, "in a transaction"))
        client.cancel()
        answer = client.read_ready()
        assert answer[-2].sqlstate == "57014"
        assert answer[-1].body == b"E"
        assert client.ask_query("ROLLBACK")[-1].body == b"I"


def test_a_second_cancel_works_like_the_first(doorman: Doorman, postgres: Postgres) -> None:
    with doorman.wire() as client:
        for number in range(3):
            client.send(query(f"SELECT pg_sleep(30), 'again {number}'"))
            eventually(lambda number=number: runs(postgres, f"again {number}"))
            client.cancel()
            assert client.read_ready()[-2].sqlstate == "57014"


def test_a_cancel_that_comes_before_postgresql_has_read_the_statement(doorman: Doorman) -> None:
    """PostgreSQL ignores it: a backend that gets no time, as on a busy machine, meets it before it reads on."""
    with doorman.wire("onedb") as client:
        backend = int(client.value("SELECT pg_backend_pid()"))
        os.kill(backend, signal.SIGSTOP)
        try:
            client.send(query("SELECT pg_sleep(30)"))
            client.cancel()
            assert client.is_quiet(0.3)
        finally:
            os.kill(backend, signal.SIGCONT)
        assert client.read_ready()[-2].sqlstate == "57014"
        # Nothing is repeated for a statement that has ended.
        assert client.value("SELECT pg_sleep(3)") == ""


def test_a_cancel_while_nothing_runs_is_forgotten(doorman: Doorman) -> None:
    with doorman.wire("onedb") as client, doorman.wire("onedb") as other:
        for _ in range(10):
            assert client.value("SELECT 1") == "1"
            client.cancel()
            other.send(query("SELECT pg_sleep(0.03)"))
            assert kinds(other.read_ready()) == "TDCZ"
        assert client.value("SELECT pg_sleep(0.1)") == ""


def test_a_cancel_while_waiting_for_a_server(doorman: Doorman) -> None:
    """It does not hit the one who has the server; what becomes of the waiter is an error or its answer."""
    with doorman.wire("onedb") as holder, doorman.wire("onedb") as waiter:
        holder.ask_query("BEGIN")
        waiter.send(query("SELECT 'waited'"))
        assert waiter.is_quiet()
        waiter.cancel()
        assert kinds(holder.ask_query("SELECT pg_sleep(0.1)")) == "TDCZ"
        holder.ask_query("COMMIT")
        answer = waiter.read_ready()
        assert kinds(answer) in ("TDCZ", "EZ")
        if "E" in kinds(answer):
            assert answer[0].sqlstate == "57014"
        assert waiter.value("SELECT 1") == "1"


@pytest.mark.parametrize("spoil", ["secret", "pid", "short", "long"])
def test_a_wrong_key_cancels_nothing(doorman: Doorman, postgres: Postgres, spoil: str) -> None:
    with doorman.wire() as client:
        client.send(query("SELECT pg_sleep(30), 'stays'"))
        eventually(lambda: runs(postgres, "stays"))
        pid, secret = client.pid, client.secret
        wrong = {
            "secret": cancel_request(pid, bytes([secret[0] ^ 1]) + secret[1:]),
            "pid": cancel_request(pid ^ 1, secret),
            "short": cancel_request(pid, secret[:2]),
            "long": cancel_request(pid, secret + b"\0"),
        }[spoil]
        with doorman.raw() as other:
            other.send(wrong)
            assert other.read_to_end() == b""
        assert client.is_quiet(0.3)
        client.cancel()
        assert client.read_ready()[-2].sqlstate == "57014"


def test_the_server_s_own_key_is_not_told(doorman: Doorman, postgres: Postgres) -> None:
    with doorman.wire() as client:
        server = client.value("SELECT pg_backend_pid()")
        keys = set()
        for _ in range(3):
            with doorman.wire() as other:
                keys.add(other.secret)
        assert len(keys) == 3
        assert str(client.pid) != server or client.secret not in keys


def test_a_cancel_hits_only_its_own_client(doorman: Doorman) -> None:
    """Cancellers fire all the time while eight servers change hands; bystanders are never cancelled."""
    storm = CancelStorm()
    for seed in range(8):
        storm.victim(doorman.wire, WireClient.cancel, seed)
    for seed in range(6):
        storm.bystander(doorman.wire, seed)
    storm.rage(4)
    until_idle(doorman)


def test_cancels_in_heaps(doorman: Doorman, postgres: Postgres) -> None:
    """Many cancels for one statement: one ErrorResponse, and the connection goes on."""
    with doorman.wire("onedb") as client:
        client.send(query("SELECT pg_sleep(30), 'in heaps'"))
        eventually(lambda: runs(postgres, "in heaps"))
        others = []
        for _ in range(30):
            other = WireClient((doorman.host, doorman.port))
            other.send(cancel_request(client.pid, client.secret))
            others.append(other)
        assert kinds(client.read_ready())[-2:] == "EZ"
        for other in others:
            assert other.read_to_end() == b""
            other.close()
        for _ in range(20):
            assert client.value("SELECT 1") == "1"


def test_a_cancelled_client_that_is_gone(doorman: Doorman, postgres: Postgres) -> None:
    client = doorman.wire("onedb")
    client.send(query("SELECT pg_sleep(30), 'cancelled and gone'"))
    eventually(lambda: runs(postgres, "cancelled and gone"))
    client.cancel()
    client.close()
    with doorman.wire("onedb") as other:
        assert stays(lambda: other.value("SELECT pg_sleep(0.01)") == "", seconds=0.5)


def test_a_cancel_connection_that_says_nothing_more_is_closed(doorman: Doorman) -> None:
    with doorman.wire() as client:
        client.cancel()  # asserts that the pooler closes it without a word


def test_cancel_to_a_database_that_is_gone(make_doorman: MakeDoorman) -> None:
    doorman = make_doorman()
    with doorman.wire() as client:
        assert client.value("SELECT 1") == "1"
        del doorman.config["pools"]["testdb"]
        doorman.reload(doorman.config)
        client.cancel()
    assert doorman.running
