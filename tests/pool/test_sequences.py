"""Who asks for values of sequences is learnt, finds its own server again, and keeps it for a moment but not from others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gevent
import pytest
from core_fakes import Settings, running, server_pair, until
from pace import patience

from pgdoorman_lib.net.engine import Engine, Task
from pgdoorman_lib.net.syscalls import clock
from pgdoorman_lib.pool import sequences
from pgdoorman_lib.pool.pool import Pool
from pgdoorman_lib.pool.queue import Borrower
from pgdoorman_lib.pool.sequences import MIXED, PATIENCE, Sequences
from pgdoorman_lib.server.connection import Server


@pytest.fixture
def engine() -> Iterator[Engine]:
    with running("epoll") as made:
        yield made


class Asker(Borrower):
    """What of a session matters here."""

    def __init__(self, pool: Pool, number: int, application_name: str = "asks") -> None:
        super().__init__()
        self.pool = pool
        self.number = number
        self.application_name = application_name
        self.task = Task(pool.engine)
        self.server: Any = None
        self.in_vain = 0
        self.drew = self.asked_sequences = self.forgotten = self.kept = 0
        self.busy = False

    def set(self, server: Server) -> int:
        self.assigned = server
        self.server = server
        if server.drawn_by != self.number:
            server.drawn_by = MIXED if server.drawn_by else self.number
        if self.pool.sequences is not None:
            self.pool.sequences.lent(self, server)
        return 0

    def request(self) -> bool:
        lent = bool(self.pool.request(self))
        if lent:
            assert self.assigned is not None
            self.set(self.assigned)
        return lent

    def forget_sequences(self) -> int:
        self.forgotten += 1
        self.server.drawn_by = self.number
        return 0

    def let_go(self) -> int:
        if self.kept and not self.busy:
            self.kept = 0
            server, self.server = self.server, None
            self.pool.checkin(server)
        return 0

    def transaction(self, drew: bool = False, asked: bool = False) -> Server:
        """Run one, and give the server back or keep it."""
        if self.server is None:
            assert self.request(), "no server"
        self.drew, self.asked_sequences = int(drew), int(asked)
        server = self.server
        self.kept = self.pool.sequences.over(self) if self.drawing else 0
        if not self.kept:
            self.server = None
            self.pool.checkin(server)
        return server  # type: ignore[no-any-return]


class House:
    """A pool of servers that are there."""

    def __init__(self, engine: Engine, size: int, most: int) -> None:
        settings = Settings(pool_size=size, max_pinned_servers=most)
        self.peers: list[Any] = []

        def connect(pool: Pool) -> Server:
            server, peer = server_pair(engine, settings)
            self.peers.append(peer)
            return server

        self.pool = Pool(settings, engine, connect, lambda pool, server: None)
        self.count = 0
        for _ in range(size):
            self.pool.opening.start(size)
        until(lambda: self.pool.idle_count == size, "servers")
        self.pool.learn_sequences("asks")

    @property
    def known(self) -> Sequences:
        found: Sequences = self.pool.sequences
        return found

    def asker(self, application_name: str = "asks") -> Asker:
        self.count += 1
        return Asker(self.pool, self.count, application_name)

    def close(self) -> None:
        self.pool.retire("the end")
        until(lambda: not self.pool.servers, "all servers closed")
        self.pool.check()
        assert not self.known.kept and self.known.deadline.due == 0.0
        for peer in self.peers:
            peer.close()


@pytest.fixture
def house(request: pytest.FixtureRequest, engine: Engine) -> Iterator[House]:
    made = House(engine, *getattr(request, "param", (3, 2)))
    yield made
    made.close()


def of(size: int, most: int) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("house", [(size, most)], indirect=True)


def test_only_who_may_ask_is_given_a_server_without_values(house: House) -> None:
    one, other, stranger = house.asker(), house.asker(), house.asker("does not")
    server = one.transaction()
    assert server.drawn_by == one.number and not one.forgotten
    assert stranger.transaction() is server  # the last one back is the next one out
    assert (server.drawn_by, stranger.forgotten) == (MIXED, 0)
    assert other.transaction() is server
    assert (server.drawn_by, other.forgotten) == (other.number, 1)


def test_the_own_server_is_found_among_others(house: House) -> None:
    one, two = house.asker(), house.asker("does not")
    two.request()
    mine = one.transaction()
    two.transaction()  # is the last one back
    assert one.transaction() is mine and not one.forgotten
    assert two.transaction() is mine  # which it does not look for
    assert one.transaction() is mine and one.forgotten == 1


def test_kept_until_the_next_transaction_that_does_not_insert(house: House) -> None:
    one = house.asker()
    server = one.transaction()
    for end in ({}, {"asked": True}, {"asked": True, "drew": True}):
        one.transaction(drew=True)
        one.transaction(drew=True)
        assert one.kept and one.server is server and house.pool.idle_count == 2
        one.transaction(**end)
        assert not one.kept and house.pool.idle_count == 3 and not house.known.kept


def test_kept_for_a_moment_only(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sequences, "HOLD", 0.05)
    one, two = house.asker(), house.asker()
    for each in (one, two):
        each.transaction()
        each.transaction(drew=True)
    one.busy = True  # in a transaction: it ends first
    until(lambda: not two.kept, "let go")
    assert one.kept and house.pool.idle_count == 2
    one.busy = False
    one.transaction()
    assert not one.kept and house.pool.idle_count == 3


@of(1, 0)
def test_who_waits_gets_it_soon(house: House) -> None:
    one, two = house.asker(), house.asker("does not")
    one.transaction()
    one.transaction(drew=True)
    assert one.kept  # nobody waits
    begun = clock()
    assert not two.request()
    until(lambda: two.server is not None, "handed over")
    assert not one.kept and clock() - begun < patience(0.5)
    two.transaction()


@of(2, 1)
def test_as_many_as_may_be_are_kept_from_others_for_longer(house: House) -> None:
    one, two, three = house.asker(), house.asker("does not"), house.asker("does not")
    one.transaction()
    one.transaction(drew=True)
    assert two.request() and not three.request()
    until_then = clock() + 5 * sequences.HURRY
    while clock() < until_then:
        assert one.kept and three.server is None
        gevent.sleep(0.001)
    two.transaction()
    assert three.server is not None
    three.transaction()
    one.transaction(asked=True)


@of(1, 0)
def test_who_inserts_on_and_on_gives_way(house: House) -> None:
    one, two = house.asker(), house.asker("does not")
    one.transaction()
    one.transaction(drew=True)
    one.busy = True
    assert not two.request()
    begun = clock()
    while one.kept:
        assert clock() - begun < patience(0.5)
        one.transaction(drew=True)
        gevent.sleep(0.001)
    assert two.server is not None
    two.transaction()


def test_who_never_asks_is_not_kept_any_more(house: House) -> None:
    one = house.asker()
    one.transaction()
    for _ in range(PATIENCE - 1):
        one.transaction(drew=True)
        assert one.kept
    one.transaction(drew=True)
    assert not one.kept
    one.transaction(drew=True)
    assert not one.kept and not one.drawing


def test_a_retired_pool_keeps_nothing(house: House) -> None:
    one, two = house.asker(), house.asker()
    for each in (one, two):
        each.transaction()
        each.transaction(drew=True)
    two.busy = True
    house.pool.retire("reloaded")
    assert not one.kept and not house.known.kept
    two.busy = False
    two.transaction(drew=True)
    assert not two.kept
