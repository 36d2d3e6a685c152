"""Clients go from the worker that has most of them to the others, whatever they have with them, and none can tell."""

from __future__ import annotations

import threading
from contextlib import ExitStack

import psycopg
import pytest
from eventually import eventually
from fix_doorman import Doorman, MakeDoorman, app_pool, merged, of_workers, pgbench_at_work
from fix_postgres import Postgres
from wire_client import SYNC, bind, describe_statement, execute, kinds, parse
from worker_processes import crowd_of, serving

pytestmark = pytest.mark.own_workers

CLIENTS = 24


@pytest.fixture
def make_doorman(make_doorman: MakeDoorman) -> MakeDoorman:
    """Of one process, from which all clients come."""
    return of_workers(make_doorman, 1)


def crowd(doorman: Doorman) -> list[int]:
    """How many clients each worker has, the fewest first."""
    return sorted(len(crowd_of(doorman, worker)) for worker in serving(doorman))


def on_one_of_two(doorman: Doorman) -> None:
    """Have two workers, of which one has all clients, as the process before them had."""
    doorman.write_config(merged(doorman.config, {"general": {"worker_threads": 2}}))
    doorman.upgrade()
    assert doorman.end_of_predecessor() == 0


def test_both_have_as_many_in_the_end(make_doorman: MakeDoorman) -> None:
    """With what each of them has set, prepared and keeps a server for."""
    doorman = make_doorman()
    with ExitStack() as stack:
        clients = [stack.enter_context(doorman.connect(prepare_threshold=0)) for _ in range(CLIENTS)]
        for number, client in enumerate(clients):
            client.execute(f"SET application_name = 'client {number}'")
            client.execute("PREPARE mine AS SELECT 'by sql', $1::int")
            assert client.execute("SELECT %s::int", (number,)).fetchone() == (number,)
        clients[0].execute("CREATE TEMP TABLE kept AS SELECT 7 AS seven")
        on_one_of_two(doorman)
        eventually(lambda: crowd(doorman)[0] >= CLIENTS // 2 - 2, timeout=20, message="half of them have gone")
        for number, client in enumerate(clients):
            assert client.execute("SHOW application_name").fetchone() == (f"client {number}",)
            assert client.execute("SELECT %s::int", (number,)).fetchone() == (number,)
            assert client.execute(f"EXECUTE mine({number})").fetchone() == ("by sql", number)
        assert clients[0].execute("SELECT seven FROM kept").fetchone() == (7,)


def test_who_knows_a_result_gets_no_other(make_doorman: MakeDoorman, postgres: Postgres) -> None:
    """A statement that clients at both workers know is made anew at one, behind DDL that nobody has told of."""
    postgres.sql("CREATE TABLE crossing (a int); GRANT ALL ON crossing TO app", database="testdb")
    doorman = make_doorman({"pools": {"testdb": app_pool(postgres, 1)}})
    try:
        with ExitStack() as stack:
            clients = [stack.enter_context(doorman.wire()) for _ in range(8)]
            for client in clients:
                known = parse("all", "SELECT * FROM crossing") + describe_statement("all") + SYNC
                assert kinds(client.ask(known)) == "1tTZ"
            on_one_of_two(doorman)
            eventually(lambda: crowd(doorman)[0] >= 3, timeout=20, message="half of them have gone")
            postgres.sql("ALTER TABLE crossing ADD COLUMN b int; INSERT INTO crossing VALUES (1, 2)", database="testdb")
            with doorman.admin_connect() as console:
                console.execute("RECONNECT")
            for client in clients:
                answer = client.ask(bind("", "all") + execute() + SYNC)
                assert [(m.kind, m.sqlstate) for m in answer if m.kind != "Z"] == [("E", "0A000")]
    finally:
        postgres.sql("DROP TABLE crossing", database="testdb")


def test_pgbench_notices_nothing(make_doorman: MakeDoorman) -> None:
    doorman = make_doorman()
    with pgbench_at_work(doorman, 30):
        eventually(lambda: doorman.pool()["cl_active"] + doorman.pool()["cl_waiting"] > 0, message="pgbench works")
        on_one_of_two(doorman)
        eventually(lambda: crowd(doorman)[0] >= 6, timeout=20, message="half of them have gone")


def test_who_has_gone_can_be_cancelled(make_doorman: MakeDoorman) -> None:
    doorman = make_doorman()
    with ExitStack() as stack:
        clients = [stack.enter_context(doorman.connect()) for _ in range(8)]
        on_one_of_two(doorman)
        eventually(lambda: crowd(doorman)[0] >= 3, timeout=20, message="half of them have gone")
        for client in clients:
            timer = threading.Timer(0.3, client.cancel_safe)
            timer.start()
            with pytest.raises(psycopg.errors.QueryCanceled):
                client.execute("SELECT pg_sleep(30)")
            timer.join()


def test_who_is_in_a_transaction_stays_and_none_goes_where_it_is_off(make_doorman: MakeDoorman) -> None:
    doorman = make_doorman({"general": {"rebalance": False}})
    with ExitStack() as stack:
        clients = [stack.enter_context(doorman.connect(autocommit=False)) for _ in range(7)]
        on_one_of_two(doorman)
        before = crowd(doorman)
        for client in clients:
            client.execute("SELECT 1")
        doorman.reload(merged(doorman.config, {"general": {"rebalance": True}}))
        with doorman.connect() as other:
            for _ in range(3):
                other.execute("SELECT pg_sleep(1)")
            assert crowd(doorman)[0] <= before[0] + 1, "all are in a transaction, or alone"
        for client in clients:
            client.execute("SELECT 2")
            client.commit()
        eventually(lambda: crowd(doorman)[0] >= 3, timeout=20, message="half of them have gone")
        for client in clients:
            assert client.execute("SELECT 3").fetchone() == (3,)
            client.commit()
