"""Which clients change workers: by number and by load, few at a time, and none back and forth."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pgdoorman_lib.supervisor.balance import MOST, MOST_WORKING, NO_RETURN, Balance, Load, Move


class Pooler:
    """Workers with clients, each of which uses as much of a processor as ``cost`` says of its number."""

    def __init__(self, *clients: int, cost: Callable[[int], float] = lambda number: 0.0) -> None:
        self.cost = cost
        numbers = iter(range(sum(clients)))
        self.clients = {worker: [next(numbers) for _ in range(count)] for worker, count in enumerate(clients, start=1)}
        self.balance = Balance()
        self.now = 1000.0
        self.moved = 0

    def look(self) -> list[Move]:
        self.now += 1.0
        moves = self.balance.plan({worker: self.load(worker) for worker in self.clients}, self.now)
        for move in moves:
            giving = self.clients[move.source]
            giving.sort(key=self.cost, reverse=move.working)
            gone = giving[: move.clients]
            self.clients[move.source] = giving[move.clients :]
            self.clients[move.target] += gone
            self.moved += len(gone)
        return moves

    def load(self, worker: int) -> Load:
        costs = [self.cost(number) for number in self.clients[worker]]
        return Load(len(costs), sum(1 for cost in costs if cost), sum(costs))

    @property
    def counts(self) -> list[int]:
        return [len(clients) for clients in self.clients.values()]

    @property
    def busy(self) -> list[float]:
        return [self.load(worker).busy for worker in self.clients]


@pytest.mark.parametrize("cost", [0.0, 0.02])
def test_forty_and_none_become_twenty_each(cost: float) -> None:
    pooler = Pooler(40, 0, cost=lambda number: cost)
    for _ in range(6):
        assert all(move.clients <= MOST for move in pooler.look())
    assert pooler.counts == [20, 20]
    assert pooler.moved == 20


@pytest.mark.parametrize("clients", [(0, 0), (1, 0), (4, 0), (10, 12), (100, 120), (3, 2, 1)])
def test_what_is_about_even_stays(clients: tuple[int, ...]) -> None:
    pooler = Pooler(*clients, cost=lambda number: 0.01)
    for _ in range(100):
        assert not pooler.look()


def test_several_workers_become_even() -> None:
    pooler = Pooler(90, 10, 0, 0)
    for _ in range(60):
        moves = pooler.look()
        assert len({move.source for move in moves} | {move.target for move in moves}) == 2 * len(moves)
    assert max(pooler.counts) - min(pooler.counts) <= 5


def test_one_that_is_calmer_gives_nobody_for_numbers() -> None:
    pooler = Pooler(40, 10, cost=lambda number: 0.08 if number >= 40 else 0.0)
    for _ in range(20):
        assert all(move.source == 2 for move in pooler.look())


def test_clients_that_work_spread() -> None:
    """Ten that work are all with the first, which has no more clients than the second."""
    pooler = Pooler(20, 20, cost=lambda number: 0.09 if number < 10 else 0.0)
    for _ in range(120):
        for move in pooler.look():
            assert move.clients <= (MOST_WORKING if move.working else MOST)
    assert max(pooler.busy) - min(pooler.busy) < 0.3
    assert pooler.moved < 20


def test_numbers_that_came_of_load_are_left_alone() -> None:
    """Who rests is not fetched in the place of those that work and have gone."""
    pooler = Pooler(10, 10, cost=lambda number: 0.09 if number < 10 else 0.0)
    for _ in range(300):
        assert all(move.working for move in pooler.look())
    assert pooler.counts[1] - pooler.counts[0] > 4
    assert pooler.moved <= 5


def test_one_that_keeps_a_worker_busy_by_itself_stays() -> None:
    pooler = Pooler(2, 2, cost=lambda number: 0.9 if number == 0 else 0.0)
    for _ in range(100):
        assert not pooler.look()


def test_a_moment_of_load_moves_nobody() -> None:
    pooler = Pooler(10, 10, cost=lambda number: 0.08 if number < 10 and pooler.now % 10 < 1 else 0.0)
    for _ in range(100):
        assert not pooler.look()


def test_nobody_goes_back_and_forth() -> None:
    """Whatever the load does: between two workers none goes back within NO_RETURN of one that went."""
    pooler = Pooler(12, 12, cost=lambda number: 0.1 if (number < 12) == (pooler.now // 7 % 2 < 1) else 0.0)
    last: dict[tuple[int, int], float] = {}
    for _ in range(300):
        for move in pooler.look():
            back = last.get((move.target, move.source))
            assert back is None or pooler.now - back >= NO_RETURN
            last[move.source, move.target] = pooler.now
    assert pooler.moved <= 2 * MOST * 300 / NO_RETURN


def test_workers_come_and_go() -> None:
    balance = Balance()
    balance.plan({1: Load(10, 0, 0.0), 2: Load(0, 0, 0.0)}, 1.0)
    assert balance.plan({1: Load(10, 0, 0.0)}, 2.0) == []
    assert balance.plan({}, 3.0) == []
    assert [move.target for move in balance.plan({1: Load(10, 0, 0.0), 3: Load(0, 0, 0.0)}, 4.0)] == [3]
