"""Logins that take too long are ended, the others are not."""

from __future__ import annotations

from collections.abc import Iterator

import gevent
import pytest
from core_fakes import PATIENCE, until

from pgdoorman_lib.client.logins import Logins


class Clock:
    """Who was late, in order; ``limit`` may change."""

    def __init__(self) -> None:
        self.limit = 0.05
        self.late: list[str] = []
        self.logins = Logins(lambda: self.limit)


class Client:
    def __init__(self, clock: Clock, name: str) -> None:
        self.clock = clock
        self.name = name
        clock.logins.begin(self)

    def too_late(self) -> None:
        self.clock.late.append(self.name)
        self.clock.logins.end(self)


@pytest.fixture
def clock() -> Iterator[Clock]:
    made = Clock()
    yield made
    made.logins.close()


def test_who_is_late_is_told_in_order_and_once(clock: Clock) -> None:
    for name in "abc":
        Client(clock, name)
        gevent.sleep(0.01)
    ended = Client(clock, "in time")
    clock.logins.end(ended)
    until(lambda: len(clock.late) == 3)
    assert clock.late == ["a", "b", "c"]
    assert len(clock.logins) == 0
    Client(clock, "later")
    assert clock.late == ["a", "b", "c"]
    until(lambda: clock.late[3:] == ["later"])


def test_nobody_is_late_before_the_limit(clock: Clock) -> None:
    clock.limit = PATIENCE * 10
    Client(clock, "a")
    gevent.sleep(0.05)
    assert clock.late == []


def test_without_a_limit_nobody_is_late(clock: Clock) -> None:
    clock.limit = 0
    Client(clock, "a")
    gevent.sleep(0.05)
    assert clock.late == []
    assert len(clock.logins) == 1


def test_another_limit_holds_for_all_at_once(clock: Clock) -> None:
    clock.limit = PATIENCE * 10
    Client(clock, "a")
    clock.limit = 0.02
    clock.logins.limit_changed()
    Client(clock, "b")
    until(lambda: clock.late == ["a", "b"])


def test_one_that_another_ended_is_not_late(clock: Clock) -> None:
    first = Client(clock, "a")
    second = Client(clock, "b")

    def end_both() -> None:
        clock.late.append("a")
        clock.logins.end(first)
        clock.logins.end(second)

    first.too_late = end_both  # type: ignore[method-assign]
    until(lambda: clock.late == ["a"])
    gevent.sleep(0.05)
    assert clock.late == ["a"]
