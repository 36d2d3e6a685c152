"""The line: how often those in it come to their turns, in which order, and what becomes of those who leave."""

from __future__ import annotations

import gevent
import pytest
from pace import patience

from pgdoorman_lib.net import rate_limit
from pgdoorman_lib.net.rate_limit import RateLimit


class Clock:
    """Time that goes on only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds
        gevent.idle()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(rate_limit, "clock", clock)
    monkeypatch.setattr(rate_limit.gevent, "sleep", clock.sleep)
    return clock


@pytest.mark.parametrize("rate", [50, 100, 1000])
def test_so_many_a_second_and_in_order(clock: Clock, rate: int) -> None:
    limit = RateLimit(rate)
    turns: list[tuple[int, float]] = []

    def take(number: int) -> None:
        limit.wait()
        turns.append((number, clock.now - 1000))

    with gevent.Timeout(patience(20)):
        gevent.joinall([gevent.spawn(take, number) for number in range(3 * rate)], raise_error=True)
    assert [number for number, _ in turns] == list(range(3 * rate))
    at_once = rate * 0.01 + 1
    for number, when in turns:
        assert when * rate >= number - at_once - 1e-6
    assert turns[-1][1] <= 3.0


def test_who_has_not_come_for_long_has_saved_nothing(clock: Clock) -> None:
    limit = RateLimit(100)
    limit.wait()
    clock.now += 60
    began = clock.now
    for _ in range(10):
        limit.wait()
    assert clock.now - began >= 0.079


def test_who_leaves_takes_nobody_s_turn() -> None:
    """Neither the first, who has the timer, nor those behind him."""
    limit = RateLimit(1)
    limit.wait()
    waiting = [gevent.spawn(limit.wait) for _ in range(100)]
    gevent.idle()
    gevent.killall(waiting[:99], block=True, timeout=patience(5))
    with gevent.Timeout(patience(10)):
        waiting[99].get()
