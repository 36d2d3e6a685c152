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
    def __init__(self, clock: Clock, name: str, address: str = "192.0.2.1") -> None:
        self.clock = clock
        self.name = name
        self.address = address
        self.crowded = clock.logins.begin(self, address)

    def too_late(self) -> None:
        self.clock.late.append(self.name)
        self.clock.logins.end(self, self.address)


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
    clock.logins.end(ended, ended.address)
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
        clock.logins.end(first, first.address)
        clock.logins.end(second, second.address)

    first.too_late = end_both  # type: ignore[method-assign]
    until(lambda: clock.late == ["a"])
    gevent.sleep(0.05)
    assert clock.late == ["a"]


def give_way(clock: Clock, address: str, full: bool = False) -> str:
    """Who has to go, and for what, now that one has come from ``address``."""
    found = clock.logins.surplus(address, full)
    return f"{found.name} {clock.logins.exceeded}" if found is not None else ""


def test_the_oldest_gives_way(clock: Clock) -> None:
    clock.logins.most = 3
    clients = [Client(clock, name) for name in "abcde"]
    assert [client.crowded for client in clients] == [False, False, False, True, True]
    assert give_way(clock, "192.0.2.1") == "a max_login_connections"
    assert give_way(clock, "192.0.2.1") == "b max_login_connections"
    assert give_way(clock, "192.0.2.1") == ""
    assert len(clock.logins) == 3
    for client in clients:
        clock.logins.end(client, client.address)  # also of those that had to go
    assert len(clock.logins) == 0
    assert not Client(clock, "f").crowded


def test_the_oldest_of_the_address_with_the_most(clock: Clock) -> None:
    clock.logins.most = 4
    Client(clock, "old", "192.0.2.9")
    for name in "abc":
        Client(clock, name, "192.0.2.7")
    assert Client(clock, "new", "192.0.2.8").crowded
    assert give_way(clock, "192.0.2.8") == "a max_login_connections"
    assert Client(clock, "newer", "192.0.2.7").crowded
    assert give_way(clock, "192.0.2.7") == "b max_login_connections"


def test_where_no_address_has_more_than_others_the_oldest_of_all(clock: Clock) -> None:
    clock.logins.most = 3
    for number in range(4):
        Client(clock, str(number), f"192.0.2.{number}")
    assert give_way(clock, "192.0.2.3") == "0 max_login_connections"


def test_a_crowd_that_has_gone_is_none(clock: Clock) -> None:
    crowd = [Client(clock, "one of many", "192.0.2.7") for _ in range(5)]
    for client in crowd:
        clock.logins.end(client, client.address)
    clock.logins.most = 2
    for name in "ab":
        Client(clock, name, "192.0.2.8")
    Client(clock, "c", "192.0.2.7")
    assert give_way(clock, "192.0.2.7") == "a max_login_connections"


def test_each_address_has_a_limit(clock: Clock) -> None:
    clock.logins.most_per_address = 2
    for name in "ab":
        assert not Client(clock, name, "192.0.2.7").crowded
        assert not Client(clock, name * 2, "192.0.2.8").crowded
    assert Client(clock, "c", "192.0.2.7").crowded
    assert give_way(clock, "192.0.2.7") == "a max_login_connections_per_address"
    assert give_way(clock, "192.0.2.8") == ""


def test_where_there_is_no_room_at_all_one_of_those_at_the_door_goes(clock: Clock) -> None:
    assert give_way(clock, "192.0.2.7", full=True) == ""
    Client(clock, "a", "192.0.2.7")
    assert give_way(clock, "192.0.2.7", full=True) == "a the limit of open files"
    assert len(clock.logins) == 0


def test_who_turns_out_to_be_from_elsewhere_counts_there(clock: Clock) -> None:
    clock.logins.most_per_address = 1
    moved = Client(clock, "a", "192.0.2.1")
    clock.logins.move(moved, "192.0.2.1", "192.0.2.7")
    moved.address = "192.0.2.7"
    assert not Client(clock, "b", "192.0.2.1").crowded
    assert Client(clock, "c", "192.0.2.7").crowded
    assert give_way(clock, "192.0.2.7").startswith("a ")
    clock.logins.move(moved, "192.0.2.7", "192.0.2.1")  # it has to go, and knows not yet
    clock.logins.end(moved, "192.0.2.1")
    assert len(clock.logins) == 2
