"""What one worker process counts or learns holds in all of them: kept servers, programs, pools of poolers, DDL."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator

import pytest
import twins
from alternating_backend import AlternatingBackend
from eventually import eventually
from fix_doorman import MakeDoorman
from fix_postgres import Postgres
from fix_workers import Make
from pace import patience
from twins import POOLED, USER, password_of
from wire_client import SYNC, WireClient, close_statement, describe_statement, kinds, parse, query
from worker_processes import worker_of

pytestmark = pytest.mark.own_workers

# -- servers that clients keep


def refused(client: WireClient, sql: str = "LISTEN c") -> bool:
    """Whether a statement that would keep a server is refused for max_pinned_servers."""
    answer = client.ask_query(sql)
    states = [message.sqlstate for message in answer if message.kind == "E"]
    assert states in ([], ["53400"])
    client.value("SELECT 1")  # behind the question what was left
    return bool(states)


def lets_go(client: WireClient) -> None:
    client.ask_query("UNLISTEN *")
    client.value("SELECT 1")


def test_servers_that_are_kept_are_counted_together(workers: Make) -> None:
    doorman = workers(3, max_pinned_servers=1)
    with doorman.client(1) as first, doorman.client(2) as second:
        assert not refused(first)
        assert refused(second) and refused(second, "SELECT pg_advisory_lock(1)")
        assert not refused(first), "it has its place"
        lets_go(first)
        assert not refused(second)
        assert refused(first)
        lets_go(second)
        assert not refused(first)


def test_who_keeps_one_too_many_all_the_same_is_sent_away(workers: Make) -> None:
    doorman = workers(3, max_pinned_servers=1)
    with doorman.client(1) as first, doorman.client(2) as second:
        assert not refused(first)
        for sql in ("BEGIN", "LISTEN d"):
            second.ask_query(sql)
        second.send(query("COMMIT"))
        assert [m.sqlstate for m in second.read_messages_to_end() if m.kind == "E"] == ["53400"]
        assert first.value("SELECT 1") == "1"


def test_a_killed_worker_keeps_none(workers: Make) -> None:
    doorman = workers(3, max_pinned_servers=1)
    with doorman.client(1) as first, doorman.client(2) as second:
        assert not refused(first)
        assert refused(second)
        os.kill(doorman.pid_of(1), signal.SIGKILL)
        eventually(lambda: not refused(second), message="its place is another's")


# -- what is learnt


@pytest.fixture
def table(postgres: Postgres) -> Iterator[None]:
    postgres.sql(
        "CREATE TABLE kept_keys (id serial PRIMARY KEY); GRANT ALL ON kept_keys, kept_keys_id_seq TO app",
        database="testdb",
    )
    yield
    postgres.sql("DROP TABLE kept_keys", database="testdb")


def asks_for_its_key(client: WireClient) -> bool:
    """Insert, then ask for the key in a transaction of its own: whether it is told."""
    client.ask_query("INSERT INTO kept_keys DEFAULT VALUES")
    answer = client.ask_query("SELECT lastval()")
    return kinds(answer) == "TDCZ"


def test_programs_that_ask_for_keys_are_known_to_all(workers: Make, table: None) -> None:
    doorman = workers(1)
    names = iter(range(100))

    def told() -> bool:
        name = f"program {next(names)}"
        with doorman.client(1) as first, doorman.client(2) as second:
            for client in (first, second):
                client.ask_query(f"SET application_name = '{name}'")
            assert not asks_for_its_key(first), "nobody has asked before under this name"
            assert asks_for_its_key(first)
            return asks_for_its_key(second)

    eventually(told, message="the other worker knows before its first asks")


def test_who_keeps_a_server_for_a_key_gives_way_to_those_at_another_worker(workers: Make, table: None) -> None:
    doorman = workers(1, max_pinned_servers=0)
    with doorman.client(1) as first, doorman.client(2) as second:
        first.ask_query("SET application_name = 'asks'")
        asks_for_its_key(first)
        waits = []
        for _ in range(8):
            first.ask_query("INSERT INTO kept_keys DEFAULT VALUES")
            began = time.monotonic()
            second.value("SELECT 1")
            waits.append(time.monotonic() - began)
        assert sum(waited < 0.8 for waited in waits) >= 6, "it is kept for a second while nobody waits"


PATTERN = re.compile(r"(worker \d+): .*not a PostgreSQL session")


@pytest.fixture
def backend(postgres: Postgres) -> Iterator[AlternatingBackend]:
    twins.populate(postgres)
    made = AlternatingBackend(lambda: postgres.wire(POOLED, USER))
    yield made
    made.close()


def test_that_a_server_is_a_pooler_is_known_to_all_and_to_who_comes_later(
    make_doorman: MakeDoorman, postgres: Postgres, backend: AlternatingBackend
) -> None:
    pool = twins.pool(postgres, 2, server_host=backend.host, server_port=backend.port)
    doorman = make_doorman({"general": {"worker_threads": 2}, "pools": {"one": pool}})

    def who_know() -> list[str]:
        return PATTERN.findall(doorman.log_text())

    with doorman.wire("one", USER, password_of(USER)) as client:
        while not who_know():
            client.ask(query("SET search_path = elsewhere"))
        eventually(lambda: sorted(who_know()) == ["worker 1", "worker 2"], message="both know")
        first = who_know()[0]
        worker_of(doorman, client).kill()
    eventually(lambda: who_know()[2:] == [first], message="the one in its place knows it of the other")


# -- DDL


def test_what_a_function_does_now_is_known_to_all_at_once(workers: Make, postgres: Postgres) -> None:
    """Who uses it when its new definition was committed leaves nothing behind for others."""
    doorman = workers(1)
    harmless = "CREATE OR REPLACE FUNCTION changing() RETURNS int LANGUAGE sql AS 'SELECT 1'"
    harmful = (
        "CREATE OR REPLACE FUNCTION changing() RETURNS int LANGUAGE plpgsql AS"
        " $$BEGIN PERFORM set_config('work_mem', '77kB', false); RETURN 1; END$$"
    )
    with doorman.client(1) as first, doorman.client(2) as second, doorman.client(2) as third:
        for _ in range(2):
            first.ask_query(harmless)
            until_believed(second)
            first.ask_query(harmful)
            second.value("SELECT changing()")
            assert third.value("SHOW work_mem") != "77kB"
            assert second.value("SHOW work_mem") == "77kB"
            second.ask_query("RESET work_mem")
        first.ask_query("DROP FUNCTION changing()")


def until_believed(client: WireClient) -> None:
    """Until what texts may do is taken from them alone, since nothing is in doubt."""
    client.value("SELECT changing()")
    end = time.monotonic() + patience(1.5)
    while time.monotonic() < end:
        client.value("SELECT 1")


def test_what_a_text_means_now_is_known_to_all_at_once(workers: Make, postgres: Postgres) -> None:
    doorman = workers(2)
    ask = parse("of_mine", "SELECT * FROM growing") + describe_statement("of_mine") + SYNC
    with doorman.client(1) as first, doorman.client(2) as second, doorman.client(2) as third:
        first.ask_query("CREATE TABLE growing (a int)")
        for number in range(1, 6):
            for client in (second, third):
                answer = client.ask(ask)
                assert len(next(m for m in answer if m.kind == "T").column_names) == number
                client.ask(close_statement("of_mine") + SYNC)
            first.ask_query(f"ALTER TABLE growing ADD COLUMN a{number} int")
        first.ask_query("DROP TABLE growing")
