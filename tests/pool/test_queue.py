"""The queue of servers: the same behaviour as gevent's queues, by one suite over both; and where it differs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import gevent
import pytest
from core_fakes import PATIENCE, Settings, running, server_pair
from gevent.queue import Empty, LifoQueue, Queue

from pgdoorman_lib.net.engine import Engine, Task
from pgdoorman_lib.pool.measures import NEAR
from pgdoorman_lib.pool.queue import Borrower, Moved, ServerQueue
from pgdoorman_lib.server.connection import Server


@pytest.fixture
def engine() -> Iterator[Engine]:
    with running("epoll") as made:
        yield made


@pytest.fixture
def servers(engine: Engine) -> Iterator[list[Server]]:
    pairs = [server_pair(engine, Settings()) for _ in range(4)]
    yield [server for server, _ in pairs]
    for server, peer in pairs:
        server.stream.close()
        peer.close()


# As gevent's.

LIFO: dict[str, Callable[[Engine], Any]] = {
    "gevent": lambda engine: LifoQueue(),
    "ours": lambda engine: ServerQueue(engine),
    "ours, with settings": lambda engine: ServerQueue(engine, by_settings=True),
}
FIFO: dict[str, Callable[[Engine], Any]] = {
    "gevent": lambda engine: Queue(),
    "ours": lambda engine: ServerQueue(engine, lifo=False),
}


@pytest.fixture(params=LIFO)
def lifo(request: pytest.FixtureRequest, engine: Engine) -> Any:
    return LIFO[request.param](engine)


@pytest.fixture(params=FIFO)
def fifo(request: pytest.FixtureRequest, engine: Engine) -> Any:
    return FIFO[request.param](engine)


@pytest.fixture(params=[("lifo", name) for name in LIFO] + [("fifo", name) for name in FIFO], ids=" ".join)
def queue(request: pytest.FixtureRequest, engine: Engine) -> Any:
    kind, name = request.param
    return (LIFO if kind == "lifo" else FIFO)[name](engine)


def waiting(queue: Any, count: int, timeout: float | None = PATIENCE) -> list[Any]:
    """So many greenlets that wait for a server, in order."""
    made = [gevent.spawn(queue.get, timeout=timeout) for _ in range(count)]
    gevent.sleep(0)
    return made


def test_what_came_last_goes_first(lifo: Any, servers: list[Server]) -> None:
    for server in servers:
        lifo.put(server)
    assert [lifo.get_nowait() for _ in servers] == servers[::-1]


def test_what_came_first_goes_first(fifo: Any, servers: list[Server]) -> None:
    for server in servers:
        fifo.put(server)
    assert [fifo.get_nowait() for _ in servers] == servers


def test_taking_and_putting_in_turn(lifo: Any, servers: list[Server]) -> None:
    first, second, third, fourth = servers
    lifo.put(first)
    lifo.put(second)
    assert lifo.get_nowait() is second
    lifo.put(third)
    assert lifo.get_nowait() is third
    assert lifo.get_nowait() is first
    lifo.put(fourth)
    assert lifo.get() is fourth


def test_its_size(queue: Any, servers: list[Server]) -> None:
    assert queue.qsize() == 0
    for number, server in enumerate(servers):
        queue.put(server)
        assert queue.qsize() == number + 1
    queue.get_nowait()
    assert queue.qsize() == len(servers) - 1


def test_nothing_there(queue: Any) -> None:
    with pytest.raises(Empty):
        queue.get_nowait()


def test_one_that_is_there_is_got_at_once(queue: Any, servers: list[Server]) -> None:
    queue.put(servers[0])
    assert queue.get(timeout=0.0) is servers[0]


def test_who_came_first_is_served_first(queue: Any, servers: list[Server]) -> None:
    waiters = waiting(queue, len(servers))
    for server, waiter in zip(servers, waiters, strict=True):
        queue.put(server)
        assert waiter.get(timeout=PATIENCE) is server


def test_each_is_served_by_several_at_once(queue: Any, servers: list[Server]) -> None:
    first, second, late = waiting(queue, 3)
    for server in servers[:2]:
        queue.put(server)
    assert {first.get(timeout=PATIENCE), second.get(timeout=PATIENCE)} == set(servers[:2])
    assert queue.qsize() == 0
    queue.put(servers[2])
    assert late.get(timeout=PATIENCE) is servers[2]


def test_more_than_are_waited_for_rest(queue: Any, servers: list[Server]) -> None:
    (waiter,) = waiting(queue, 1)
    queue.put(servers[0])
    assert waiter.get(timeout=PATIENCE) is servers[0]
    queue.put(servers[1])
    assert queue.qsize() == 1
    assert queue.get_nowait() is servers[1]


def test_who_has_waited_long_enough(queue: Any, servers: list[Server]) -> None:
    with pytest.raises(Empty):
        queue.get(timeout=0.01)
    impatient, patient = waiting(queue, 1, 0.01), waiting(queue, 1)
    with pytest.raises(Empty):
        impatient[0].get(timeout=PATIENCE)
    queue.put(servers[0])
    assert patient[0].get(timeout=PATIENCE) is servers[0]
    queue.put(servers[1])
    assert queue.qsize() == 1


def test_who_is_killed_waits_no_more(queue: Any, servers: list[Server]) -> None:
    waiters = waiting(queue, 3)
    waiters[1].kill()
    waiters[0].kill()
    queue.put(servers[0])
    assert waiters[2].get(timeout=PATIENCE) is servers[0]
    assert queue.qsize() == 0


# Beyond gevent's.


def test_what_is_put_is_handed_over_at_once(engine: Engine, servers: list[Server]) -> None:
    """gevent's LifoQueue gives of several that are put in a row the last to the first who waits."""
    queue = ServerQueue(engine)
    waiters = waiting(queue, len(servers))
    for server in servers:
        queue.put(server)
        assert queue.qsize() == 0
    assert queue.waiting == 0
    assert [waiter.get(timeout=PATIENCE) for waiter in waiters] == servers


def test_what_was_handed_to_one_who_is_killed_is_not_lost(engine: Engine, servers: list[Server]) -> None:
    """gevent's queue has handed nothing over before its waiter runs."""
    queue = ServerQueue(engine)
    first, second = waiting(queue, 2)
    first.kill(block=False)  # it comes before the turn in which the first would find its server
    queue.put(servers[0])
    assert second.get(timeout=PATIENCE) is servers[0]
    (third,) = waiting(queue, 1)
    third.kill(block=False)
    queue.put(servers[1])
    third.join()
    assert queue.get_nowait() is servers[1]


def test_who_is_told_that_there_is_none(engine: Engine) -> None:
    queue = ServerQueue(engine)
    first, second = waiting(queue, 2)
    while queue.waiting:
        queue.next().fail(Moved())
    for waiter in (first, second):
        with pytest.raises(Moved):
            waiter.get(timeout=PATIENCE)


def test_one_of_those_that_rest_is_taken_out(engine: Engine, servers: list[Server]) -> None:
    ours = ServerQueue(engine)
    for server in servers:
        ours.put(server)
    assert list(ours) == servers
    ours.remove(servers[1])
    ours.remove(servers[3])
    assert list(ours) == [servers[0], servers[2]]
    with pytest.raises(ValueError, match="not in"):
        ours.remove(servers[1])


def test_who_does_not_wait_can_not_leave(engine: Engine) -> None:
    with pytest.raises(ValueError, match="not in the queue"):
        ServerQueue(engine).leave(Borrower())


class Line:
    """Borrowers with settings, who note the order in which they are served."""

    def __init__(self, engine: Engine, server: Server, *wanted: Any) -> None:
        self.queue = ServerQueue(engine, by_settings=True)
        self.server = server
        self.borrowers = []
        for settings in wanted:
            borrower = Borrower()
            borrower.task = Task(engine)
            borrower.settings = settings
            self.borrowers.append(borrower)
            self.queue.join(borrower)

    def serve(self, count: int, settings: Any) -> list[Borrower | None]:
        self.server.applied = settings
        return [self.queue.put(self.server) for _ in range(count)]


def test_first_come_first_served_where_settings_are_the_same(engine: Engine, servers: list[Server]) -> None:
    here = servers[0].applied
    line = Line(engine, servers[0], *[here] * 9)
    assert line.serve(9, here) == line.borrowers
    assert not line.queue.waiting


def test_first_come_first_served_where_nobody_near_fits(engine: Engine, servers: list[Server]) -> None:
    here, other = servers[0].applied, servers[0].applied.over({"work_mem": "1MB"})
    line = Line(engine, servers[0], other, *[other] * NEAR, here)
    assert line.serve(NEAR + 2, here) == [line.borrowers[0], line.borrowers[-1], *line.borrowers[1:-1]]
    assert not line.queue.waiting


def test_the_first_is_passed_over_a_few_times_only(engine: Engine, servers: list[Server]) -> None:
    here, other = servers[0].applied, servers[0].applied.over({"work_mem": "1MB"})
    line = Line(engine, servers[0], other, *[here] * (NEAR + 5), other)
    assert line.serve(NEAR + 1, here) == [*line.borrowers[1 : NEAR + 1], line.borrowers[0]]
    assert line.serve(6, here) == line.borrowers[NEAR + 1 :]
    assert not line.queue.waiting and line.queue.first is None and line.queue.last is None
