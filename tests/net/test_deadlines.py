"""A deadline calls when its moment has come: not before, not twice, not when it was cleared or moved."""

from __future__ import annotations

import gevent
from core_fakes import PATIENCE, until

from pgdoorman_lib.net.deadlines import Deadline
from pgdoorman_lib.net.syscalls import clock


class Calls:
    """When ``deadline`` was reached, and what was due then."""

    def __init__(self) -> None:
        self.calls: list[tuple[float, float]] = []
        self.deadline = Deadline(self.reached)

    def reached(self) -> None:
        self.calls.append((clock(), self.deadline.due))


def test_it_is_reached_once_and_nothing_is_due_then() -> None:
    one = Calls()
    due = clock() + 0.03
    one.deadline.set(due, clock())
    assert one.deadline.due == due
    until(lambda: one.calls)
    gevent.sleep(0.01)
    [(at, still_due)] = one.calls
    assert at >= due - 0.001 and still_due == one.deadline.due == 0.0


def test_it_may_be_moved_either_way() -> None:
    later, sooner = Calls(), Calls()
    now = clock()
    later.deadline.set(now + 0.01, now)
    later.deadline.set(now + PATIENCE * 10, now)
    sooner.deadline.set(now + PATIENCE * 10, now)
    sooner.deadline.set(now, now)  # it has come already
    until(lambda: sooner.calls)
    gevent.sleep(0.02)
    assert not later.calls and later.deadline.due == now + PATIENCE * 10
    later.deadline.clear()


def test_a_cleared_one_is_not_reached() -> None:
    one = Calls()
    now = clock()
    one.deadline.set(now + 0.005, now)
    one.deadline.clear()
    one.deadline.clear()
    gevent.sleep(0.02)
    assert not one.calls and one.deadline.due == 0.0


def test_who_is_called_may_set_it_again() -> None:
    one = Calls()
    again = Deadline(lambda: (one.reached(), len(one.calls) < 3 and again.set(clock(), clock())))
    again.set(clock(), clock())
    until(lambda: len(one.calls) == 3)
    assert again.due == 0.0
