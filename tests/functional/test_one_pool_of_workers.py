"""Worker processes have one pool between them: limits, servers that go where somebody waits, fairness, deaths."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from eventually import eventually
from fix_doorman import app_pool, app_user
from fix_postgres import Postgres
from fix_workers import Make
from pace import duration, patience
from wire_client import SYNC, WireClient, WireError, bind, execute, kinds, parse

pytestmark = pytest.mark.own_workers


class Sampler:
    """How many servers PostgreSQL has seen of the pools at once, at most.

    A backend takes a moment to end behind its connection, so those count that are there at a second look, too.
    """

    def __init__(self, postgres: Postgres, *users: str) -> None:
        self._postgres = postgres
        self._users = users or ("app",)
        self._end = threading.Event()
        self.most = 0
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Sampler:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        with self._postgres.connect(user="postgres", dbname="postgres") as connection:
            while not self._end.is_set():
                found = backends(connection, *self._users)
                if len(found) > self.most:
                    self._end.wait(patience(0.02))
                    self.most = max(self.most, len(found & backends(connection, *self._users)))
                self._end.wait(0.002)


def backends(connection: Any, *users: str) -> set[int]:
    sql = "SELECT pid FROM pg_stat_activity WHERE usename = ANY(%s) AND backend_type = 'client backend'"
    return {row[0] for row in connection.execute(sql, (list(users or ("app",)),))}


def servers(connection: Any) -> int:
    return len(backends(connection))


def in_threads(*runs: Callable[[], None]) -> None:
    """Do these at once; the first failure is raised."""
    failures: list[BaseException] = []

    def guarded(run: Callable[[], None]) -> None:
        try:
            run()
        except BaseException as exc:
            failures.append(exc)

    threads = [threading.Thread(target=guarded, args=(run,)) for run in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def backend(client: WireClient) -> str:
    return str(client.value("SELECT pg_backend_pid()"))


def test_a_server_goes_where_somebody_waits(workers: Make) -> None:
    doorman = workers(1)
    with doorman.client(1) as first, doorman.client(2) as second:
        pid = backend(first)
        for _ in range(20):
            assert backend(second) == pid
            assert backend(first) == pid


def test_what_a_client_has_set_and_prepared_is_its_own_wherever_its_server_comes_from(workers: Make) -> None:
    doorman = workers(1)
    with doorman.client(1) as first, doorman.client(2) as second:
        pid = backend(first)
        for number, client in ((1, first), (2, second)):
            client.ask_query(f"SET application_name = 'client {number}'")
            client.ask_query(f"SET search_path = path_{number}")
            answer = client.ask(parse("mine", "SELECT current_setting('search_path') || $1::text") + SYNC)
            assert kinds(answer) == "1Z"
            answer = client.ask(parse("same", "SELECT 'x' || $1::text") + SYNC)
            assert kinds(answer) == "1Z"
        for round_ in range(30):
            for number, client in ((1, first), (2, second)):
                for name, expected in (("mine", f"path_{number}{round_}"), ("same", f"x{round_}")):
                    answer = client.ask(bind("", name, [str(round_).encode()]) + execute("") + SYNC)
                    assert kinds(answer) == "2DCZ"
                    assert expected.encode() in answer[1].body
                assert client.value("SHOW application_name") == f"client {number}"
        assert backend(first) == pid, "it was one server all the time"


def test_the_size_holds_over_all_workers(workers: Make, postgres: Postgres) -> None:
    doorman = workers(3)

    def run(number: int) -> None:
        with doorman.client(number) as client:
            for round_ in range(40):
                assert client.value(f"SELECT {round_} FROM pg_sleep(0.003)") == str(round_)

    with Sampler(postgres) as sampler:
        in_threads(*[lambda number=number: run(number) for number in (1, 2) for _ in range(6)])  # type: ignore[misc]
    assert sampler.most == 3


def test_who_is_alone_does_not_wait_for_longer_than_the_crowd(workers: Make) -> None:
    """40 clients on one worker and one on the other share two servers."""
    doorman = workers(2)
    waits: dict[int, list[float]] = {1: [], 2: []}
    end = time.monotonic() + 4.0

    def run(number: int) -> None:
        with doorman.client(number) as client:
            client.value("SELECT 1")
            while time.monotonic() < end:
                began = time.monotonic()
                client.value("SELECT 1 FROM pg_sleep(0.002)")
                waits[number].append(time.monotonic() - began)

    in_threads(*[lambda number=number: run(number) for number in (1,) * 40 + (2,)])  # type: ignore[misc]
    every = waits[1] + waits[2]
    mean = sum(every) / len(every)
    alone = sum(waits[2]) / len(waits[2])
    worst = sorted(every)[-len(every) // 100]
    print(f"mean {mean:.4f}, alone {alone:.4f} ({len(waits[2])}), worst {worst:.4f}, {max(every):.4f}")
    assert alone < 3 * mean and worst < 3 * mean


def test_a_killed_worker_s_servers_are_replaced_at_once(workers: Make, postgres: Postgres) -> None:
    doorman = workers(2)
    with doorman.client(1) as first, doorman.client(1) as other, doorman.client(2) as second:
        first.ask_query("BEGIN")
        other.ask_query("BEGIN")
        waiting = threading.Timer(0.2, lambda: os.kill(doorman.pid_of(1), signal.SIGKILL))
        waiting.start()
        began = time.monotonic()
        assert second.value("SELECT 1") == "1"
        assert time.monotonic() - began < patience(2.0)
        waiting.join()


def test_the_warm_minimum_is_one_for_all(workers: Make, postgres: Postgres) -> None:
    doorman = workers(8, users=[app_user(postgres, 8, min_pool_size=3)])
    with postgres.connect(user="postgres", dbname="postgres") as connection:
        eventually(lambda: servers(connection) >= 3, message="the minimum")
        time.sleep(2.5)  # two sweeps more
        assert servers(connection) == 3
    doorman.check_log()


def test_clients_are_counted_over_all_workers(workers: Make) -> None:
    doorman = workers(2, {"max_connections": 3, "max_db_client_connections": 2})
    with doorman.client(1) as first, doorman.client(2) as second:
        assert first.value("SELECT 1") == second.value("SELECT 1") == "1"
        for number in (1, 2):
            with pytest.raises(WireError, match='too many connections for database "testdb"'):
                doorman.client(number)
    eventually(lambda: doorman.client(1).close() is None, message="room")


def test_a_full_pooler_is_full_at_every_worker_but_for_the_console(workers: Make) -> None:
    doorman = workers(2, {"max_connections": 2})
    with doorman.client(1), doorman.client(1):
        with pytest.raises(WireError, match="sorry, too many clients already"):
            doorman.client(2)
        with doorman.admin_connect(port=doorman.at(2)) as console:
            assert console.execute("SHOW VERSION").fetchone()


def test_a_user_s_limit_holds_over_all_workers(workers: Make, postgres: Postgres) -> None:
    doorman = workers(4, {"max_user_connections": 2})
    doorman.config["pools"]["otherdb"] = app_pool(postgres, 4, server_database="otherdb")
    doorman.reload(doorman.config)
    eventually(lambda: doorman.log_text().count("configuration reloaded") == 2, message="both")
    with Sampler(postgres) as sampler:
        with doorman.client(1) as one, doorman.client(1) as two:
            one.ask_query("BEGIN")
            two.ask_query("BEGIN")
            one.ask_query("COMMIT")
            two.ask_query("COMMIT")
            with doorman.client(2, "otherdb") as other:
                assert other.value("SELECT current_database()") == "otherdb", "one that rested there has made room"

        def run(number: int, database: str) -> None:
            with doorman.client(number, database) as client:
                for _ in range(15):
                    assert client.value("SELECT current_database() FROM pg_sleep(0.002)")

        in_threads(
            *[
                lambda number=number, database=database: run(number, database)  # type: ignore[misc]
                for number in (1, 2)
                for database in ("testdb", "otherdb")
                for _ in range(2)
            ]
        )
    assert sampler.most <= 2


def test_memory_for_clients_is_the_sum_over_all_workers(workers: Make) -> None:
    """max_memory_usage: what a client of one worker holds is no room for one of another."""
    doorman = workers(1, {"max_memory_usage": "1MB"})

    def held(client: WireClient) -> str:
        return kinds(client.ask(parse("held", "SELECT '" + "x" * 600_000 + "'") + SYNC))

    with doorman.client(2) as second:
        with doorman.client(1) as first:
            assert held(first) == "1Z"
            assert held(second) == "EZ"
            assert second.value("SELECT 1") == "1"
        eventually(lambda: held(second) == "1Z", message="it is free once the other has left")


def test_a_worker_that_does_not_answer_costs_no_server(workers: Make) -> None:
    doorman = workers(1)
    with doorman.client(1) as first, doorman.client(2) as second:
        pid = backend(first)
        second.send(b"")
        os.kill(doorman.pid_of(2), signal.SIGSTOP)
        try:
            assert backend(first) == pid
        finally:
            os.kill(doorman.pid_of(2), signal.SIGCONT)
        assert backend(second) == pid
        assert backend(first) == pid


def test_a_server_from_before_a_reconnect_is_not_lent_where_that_has_been(workers: Make) -> None:
    """It comes from a worker that has not been told yet, or was under way when it was."""
    doorman = workers(1)
    with doorman.client(1) as first, doorman.client(2) as second:
        pid = backend(first)
        with doorman.admin_connect(port=doorman.at(2)) as console:
            console.execute("RECONNECT")
        renewed = backend(second)
        assert renewed != pid
        assert backend(first) == backend(second) == renewed


@pytest.mark.parametrize("mode", ["transaction", "session"])
def test_many_move_and_nothing_is_mixed_up(workers: Make, postgres: Postgres, mode: str) -> None:
    doorman = workers(3, pool_mode=mode, general={"query_wait_timeout": duration(60)})

    def run(number: int, token: int) -> None:
        for session in range(3):
            with doorman.client(number) as client:
                client.ask_query(f"SET application_name = 'token {token}'")
                for round_ in range(12):
                    assert client.value("SHOW application_name") == f"token {token}"
                    answer = client.ask(
                        parse("", f"SELECT $1::text || '{token % 3}' FROM pg_sleep(0.001)")
                        + bind("", "", [f"{session}.{round_}.".encode()])
                        + execute("")
                        + SYNC
                    )
                    assert kinds(answer) == "12DCZ" and f"{session}.{round_}.{token % 3}".encode() in answer[2].body

    with Sampler(postgres) as sampler:
        in_threads(*[lambda token=token: run(1 + token % 2, token) for token in range(12)])  # type: ignore[misc]
    assert sampler.most <= 3
