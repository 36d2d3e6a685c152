"""What prepared statements may cost, in the pooler and in its servers: bounded by bytes, and nothing for those who left."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from pathlib import Path

import pytest
from eventually import eventually
from fix_doorman import Doorman, MakeDoorman, app_user
from fix_postgres import Postgres
from pace import patience
from wire_client import SYNC, bind, close_statement, execute, kinds, parse, query

MB = 1 << 20


def own_memory(pid: int) -> int:
    """Bytes of a process that are nobody else's."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Anonymous:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no such line")


def large(number: int, size: int) -> str:
    terms = size // 8
    return f"SELECT {number}" + "".join(f" + {10000 + n}" for n in range(terms))


def single(make_doorman: MakeDoorman, postgres: Postgres, **general: object) -> Doorman:
    return make_doorman({"general": general, "pools": {"testdb": {"users": [app_user(postgres, 1)]}}})


def test_what_was_closed_costs_no_more_than_directly(make_doorman: MakeDoorman, postgres: Postgres) -> None:
    doorman = single(make_doorman, postgres)
    with doorman.wire() as client:
        backend = int(client.value("SELECT pg_backend_pid()") or 0)
        before = own_memory(backend)
        for number in range(60):
            sql = large(number, 25_000)
            answer = client.ask(parse("s", sql) + bind("", "s") + execute() + close_statement("s") + SYNC)
            assert kinds(answer) == "12DC3Z"
        assert own_memory(backend) - before < 10 * MB
        assert client.value("SELECT count(*) FROM pg_prepared_statements") == "0"


def test_servers_hold_no_more_than_they_may(make_doorman: MakeDoorman, postgres: Postgres) -> None:
    """What clients hold is made again where it had to go."""
    doorman = single(make_doorman, postgres, prepared_statements_cache_bytes="100KB")
    total = "SELECT sum(length(statement))::int FROM pg_prepared_statements"
    with doorman.wire() as one, doorman.wire() as two:
        for number in range(20):
            for client, first in ((one, 0), (two, 100)):
                sql = large(first + number, 20_000)
                assert (
                    kinds(client.ask(parse(f"s{number}", sql) + bind("", f"s{number}") + execute() + SYNC)) == "12DCZ"
                )
                assert int(one.value(total) or 0) <= 100 * 1024
        for number in range(20):
            for client in (one, two):
                assert kinds(client.ask(bind("", f"s{number}") + execute() + SYNC)) == "2DCZ"


def test_what_nobody_holds_leaves_first(make_doorman: MakeDoorman, postgres: Postgres) -> None:
    doorman = single(make_doorman, postgres, prepared_statements_cache_bytes="40KB")
    with doorman.wire() as one, doorman.wire() as two:
        one.ask(parse("kept", large(0, 4_000)) + SYNC)
        for number in range(40):
            with doorman.wire() as passing:
                assert kinds(passing.ask(parse("s", large(number + 1, 4_000)) + SYNC)) == "1Z"
        rows = two.ask_query("SELECT 1 FROM pg_prepared_statements WHERE statement LIKE 'SELECT 0 %'")
        assert kinds(rows) == "TDCZ", "the one that is held is still there"


def test_what_a_client_held_is_given_back(make_doorman: MakeDoorman, postgres: Postgres) -> None:
    # In one process: each keeps up to 64 MB for what comes next (glibc's M_TRIM_THRESHOLD behind large blocks).
    doorman = single(make_doorman, postgres, worker_threads=1)
    with doorman.wire() as client:
        client.value("SELECT 1")
    before = doorman.rss()
    with ExitStack() as stack:
        for number in range(3):
            client = stack.enter_context(doorman.wire())
            client.timeout = patience(60)  # interpreted, a large text takes its time
            assert kinds(client.ask(parse("s", f"SELECT {number} /* {'x' * 40 * MB} */") + SYNC)) == "1Z"
        assert doorman.rss() - before > 100 * MB, "they are remembered"
    # What is left are the buffers that are always kept, and what the allocator does not give back.
    eventually(lambda: doorman.rss() - before < 60 * MB, timeout=20, message="the memory is given back")


def test_what_clients_hold_is_limited_in_all(make_doorman: MakeDoorman, postgres: Postgres) -> None:
    doorman = single(make_doorman, postgres, max_memory_usage="1MB")
    with doorman.wire() as one, doorman.wire() as two:
        assert kinds(one.ask(parse("s", "SELECT 1 /* " + "x" * 600_000 + " */") + SYNC)) == "1Z"
        answer = two.ask(parse("s", "SELECT 2 /* " + "x" * 600_000 + " */") + SYNC)
        assert [m.sqlstate for m in answer if m.kind == "E"] == ["53200"]
        for number in range(500):  # small ones, too
            answer = two.ask(parse(f"s{number}", f"SELECT {number} /* {'x' * 2000} */") + SYNC)
            if kinds(answer) != "1Z":
                break
        assert [m.sqlstate for m in answer if m.kind == "E"] == ["53200"]
        assert two.value("SELECT 'goes on'") == "goes on"
        assert kinds(two.ask(bind("", "s0") + execute() + SYNC)) == "2DCZ"
        one.ask(close_statement("s") + SYNC)
        assert kinds(two.ask(parse("s", "SELECT 2 /* " + "x" * 600_000 + " */") + SYNC)) == "1Z"


@pytest.mark.parametrize("begun", [True, False])
def test_a_named_statement_too_large_is_refused_and_the_session_goes_on(
    make_doorman: MakeDoorman, postgres: Postgres, begun: bool
) -> None:
    """The client is told, whether it has sent all of it before it reads or not."""
    doorman = single(make_doorman, postgres)
    with doorman.wire() as client:
        client.timeout = patience(60)
        client.socket.settimeout(patience(60))
        if begun:
            client.ask_query("BEGIN")
        sender = threading.Thread(
            target=client.send,
            args=(parse("s", "SELECT '" + "x" * 100_000_000 + "'") + bind("", "s") + execute() + SYNC,),
        )
        sender.start()
        answer = client.read_ready()
        sender.join()
        assert [(m.kind, m.sqlstate) for m in answer if m.kind == "E"] == [("E", "53200")]
        assert answer[-1].body == (b"E" if begun else b"I")
        assert len(answer) == 2
        client.ask_query("ROLLBACK")
        assert client.value("SELECT 'goes on'") == "goes on"
        assert doorman.peak_rss() < 200 * MB


@pytest.mark.parametrize("sql", ["SELECT 1 /* {} */", "SET work_mem = '5MB' /* {} */", "DO $$ BEGIN END $$ /* {} */"])
def test_a_session_without_room_ends_or_goes_on(make_doorman: MakeDoorman, postgres: Postgres, sql: str) -> None:
    """With no memory left for what must be read whole: an answer, an error or an end, but nobody waits for ever."""
    doorman = single(make_doorman, postgres, max_memory_usage="60KB")
    text = sql.format("x" * 50_000)
    with doorman.wire() as one, doorman.wire() as two:
        assert kinds(one.ask(parse("s", "SELECT 1 /* " + "x" * 30_000 + " */") + SYNC)) == "1Z"
        for batch in (parse("", text) + SYNC, parse("t", text) + SYNC, query(text)):
            with doorman.wire() as client:
                client.send(batch)
                answer = client.read()
                assert answer.kind in "1CT" or answer.sqlstate == "53200"
        assert two.value("SELECT 'goes on'") == "goes on"
