"""Whom a server may be lent in a pool with forget_option_names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from core_fakes import running, server_pair

from pgdoorman_lib.pool import names
from pgdoorman_lib.pool.measures import NEAR
from pgdoorman_lib.pool.queue import Borrower, ServerQueue
from pgdoorman_lib.server.connection import Server

MakeServer = Callable[..., Server]


def borrower(*options: str, number: int = 0) -> Borrower:
    made = Borrower()
    made.number = number
    made.option_names = set(options)
    return made


@pytest.fixture
def make() -> Iterator[MakeServer]:
    with running("epoll") as engine:
        pairs = []

        def one(*options: str) -> Server:
            pairs.append(server_pair(engine))
            made = pairs[-1][0]
            made.option_names = set(options)
            return made

        yield one
        for made, peer in pairs:
            made.stream.close()
            peer.close()


@pytest.fixture
def server(make: MakeServer) -> Server:
    return make()


def test_what_suits(server: Server) -> None:
    assert names.suits(server, borrower())
    server.option_names = {"app.x"}
    assert not names.suits(server, borrower())
    assert not names.suits(server, borrower("app.y"))
    assert names.suits(server, borrower("app.x", "app.y"))
    assert names.suits(server, Borrower()), "an errand of ours reads none"


def test_notes(server: Server) -> None:
    one, other = borrower(number=1), borrower(number=2)
    names.note(server, one, ("work_mem", "*"))
    assert not server.option_names and names.suits(server, other)
    names.note(server, one, ("work_mem", "app.x"))
    names.note(server, one, ("app.y",))
    assert server.option_names == one.option_names == {"app.x", "app.y"}
    names.note_unknown(server, one)
    names.note(server, other, ("app.x", "app.y"))
    assert names.suits(server, one) and not names.suits(server, other)


@pytest.mark.parametrize("lifo", [True, False])
@pytest.mark.parametrize("wanted", [(), ("x.x",), ("y.y",)])
def test_the_next_idle_server(make: MakeServer, lifo: bool, wanted: tuple[str, ...]) -> None:
    a, b, c, d = make("x.x"), make(), make("x.x"), make("z.z")
    queue = ServerQueue(a.stream.engine, lifo)
    for one in (a, b, c, d):
        queue.put(one)
    pool: Any = SimpleNamespace(queue=queue, has_room=lambda: True)
    assert names.bring_one(pool, borrower(*wanted))
    assert queue.get_nowait() is {(): b, ("y.y",): b}.get(wanted, c if lifo else a)
    assert queue.qsize() == 3


@pytest.mark.parametrize("room", [True, False])
def test_no_idle_server_suits(make: MakeServer, room: bool) -> None:
    first, second = make("x.x"), make("x.x")
    queue = ServerQueue(first.stream.engine)
    for one in (first, second):
        queue.put(one)
    closed: list[Server] = []
    pool: Any = SimpleNamespace(queue=queue, has_room=lambda: room, forget=lambda server, reason: closed.append(server))
    assert not names.bring_one(pool, borrower())
    assert closed == ([] if room else [first])


def test_the_next_waiter(server: Server) -> None:
    waiters = ServerQueue(server.stream.engine)
    queue = [borrower(), borrower("x.x"), borrower(), borrower("x.x", "y.y")]
    for one in queue:
        waiters.join(one)
    assert names.take_waiter(waiters, server) is queue[0]
    server.option_names = {"x.x"}
    assert names.take_waiter(waiters, server) is queue[1]
    assert names.take_waiter(waiters, server) is queue[3]
    assert names.take_waiter(waiters, server) is None, "for the one that is left a new server is opened"
    assert waiters.waiting == 1


def test_the_first_waiter_is_not_passed_over_for_ever(server: Server) -> None:
    waiters = ServerQueue(server.stream.engine)
    server.option_names = {"x.x"}
    first = borrower()
    waiters.join(first)
    for _ in range(NEAR + 1):
        waiters.join(borrower("x.x"))
    for _ in range(NEAR):
        assert names.take_waiter(waiters, server) is not None
    assert names.take_waiter(waiters, server) is None
    server.option_names = None
    assert names.take_waiter(waiters, server) is first
