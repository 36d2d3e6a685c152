"""A backend that is not one session, as before another pooler: said once, loudly; nothing is promised that it can't keep."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import twins
from alternating_backend import AlternatingBackend
from fix_doorman import Doorman, MakeDoorman
from fix_postgres import Postgres
from twins import POOLED, USER, extended, password_of, run
from wire_client import WireClient, kinds, query

MakeBackend = Callable[..., AlternatingBackend]

WARNED = re.compile(r"WARN.*not a PostgreSQL session")


@pytest.fixture(scope="module", autouse=True)
def _populated(postgres: Postgres) -> None:
    twins.populate(postgres)


@pytest.fixture
def make_backend(postgres: Postgres) -> Iterator[MakeBackend]:
    made: list[AlternatingBackend] = []

    def make(**more: Any) -> AlternatingBackend:
        made.append(AlternatingBackend(lambda: postgres.wire(POOLED, USER), **more))
        return made[-1]

    yield make
    for backend in made:
        backend.close()


@pytest.fixture
def in_front(make_doorman: MakeDoorman, postgres: Postgres) -> Callable[..., Doorman]:
    """A pooler in front of such a backend; its log is watched only for what is said of the backend."""

    def make(backend: Any, size: int = 2, **more: Any) -> Doorman:
        return make_doorman(
            {"pools": {"one": twins.pool(postgres, size, server_host=backend.host, server_port=backend.port, **more)}}
        )

    return make


def client_of(doorman: Doorman, **parameters: str) -> WireClient:
    return doorman.wire("one", USER, password_of(USER), **parameters)


def warnings(doorman: Doorman) -> list[str]:
    return [line for line in doorman.log_lines if WARNED.search(line)]


@pytest.mark.parametrize(
    "step",
    [
        query("SET search_path = elsewhere"),
        query("SET app.x = 'mine'"),
        query("SET statement_timeout = '7s'"),
        query("LISTEN ch"),
        query("SELECT pg_try_advisory_lock(7)"),
        query("DO $$ BEGIN PERFORM set_config('app.x', 'v', false); END $$"),
        extended(run("SELECT set_config($1, 'v', false)", b"app.x")),
    ],
    ids=lambda step: twins.label(step[5:]),
)
def test_said_once(make_backend: MakeBackend, in_front: Callable[..., Doorman], step: bytes) -> None:
    doorman = in_front(make_backend())
    for _ in range(4):
        with client_of(doorman) as client:
            for _ in range(3):
                assert client.ask(step)[-1].kind == "Z"
                assert client.value("SELECT 1") == "1"
            client.terminate()
    doorman.wait_log(WARNED.pattern)
    workers = re.findall(r" (worker \d+: )?\S+: \[app", "\n".join(warnings(doorman)))
    assert len(workers) == len(set(workers)) == len(warnings(doorman)), "each worker says it once"


def test_nothing_is_said_of_postgresql(make_backend: MakeBackend, in_front: Callable[..., Doorman]) -> None:
    """The same stand-in with one connection behind it is one session."""
    doorman = in_front(make_backend(count=1), 1)
    with client_of(doorman) as first, client_of(doorman) as second:
        for number in range(5):
            first.ask_query(f"SET work_mem = '{number + 1}MB'; SET search_path = elsewhere")
            assert second.value("SHOW search_path") == '"$user", public'
            assert first.value("SHOW work_mem") == f"{number + 1}MB"
    assert warnings(doorman) == []


def test_those_who_set_nothing_notice_nothing(make_backend: MakeBackend, in_front: Callable[..., Doorman]) -> None:
    doorman = in_front(make_backend())
    with client_of(doorman) as client:
        for number in range(10):
            assert client.value(f"SELECT {number}") == str(number)
            assert kinds(client.ask(extended(run("SELECT $1::int", b"7")))) == "12DCZ"


@pytest.mark.parametrize("text", ["DEALLOCATE ALL", "DISCARD ALL"])
@pytest.mark.parametrize("by", ["simple", "extended"])
@pytest.mark.parametrize("count", [1, 3])
def test_a_stray_parse_complete(
    make_backend: MakeBackend, in_front: Callable[..., Doorman], text: str, by: str, count: int
) -> None:
    """What libpq shrugs off does not end a connection."""
    doorman = in_front(make_backend(count=count, stray=True))
    with client_of(doorman) as client:
        client.ask_query("PREPARE p AS SELECT 1")
        for number in range(3):
            answer = client.ask(query(text) if by == "simple" else extended(run(text)))
            assert [m.tag for m in answer if m.kind == "C"] == [text]
            assert answer[-1].kind == "Z"
            assert client.value(f"SELECT {number}") == str(number)


def test_before_another_of_ours(
    make_doorman: MakeDoorman, postgres: Postgres, in_front: Callable[..., Doorman]
) -> None:
    """Through two poolers in transaction mode nobody sees another's settings."""
    inner = make_doorman({"pools": {POOLED: twins.pool(postgres, 2)}})
    outer = in_front(inner, 4)
    with client_of(outer) as first, client_of(outer) as second:
        for number in range(20):
            first.ask_query("SET search_path = elsewhere; SET app.x = 'of the first'")
            assert second.value("SHOW search_path") == '"$user", public'
            assert second.value("SELECT coalesce(current_setting('app.x', true), '')") == ""
            if number % 5 == 0:
                with client_of(outer) as third:
                    assert third.value("SHOW search_path") == '"$user", public'
