"""When servers of a pool are asked whether their host is what it should be, and what comes of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from core_fakes import Settings, running, server_pair

from pgdoorman_lib.errors import ServerGone
from pgdoorman_lib.net.engine import Engine
from pgdoorman_lib.pool import standing as module
from pgdoorman_lib.pool.pool import Pool
from pgdoorman_lib.pool.resting import sweep
from pgdoorman_lib.pool.standing import CHECK_INTERVAL, LEAST_INTERVAL
from pgdoorman_lib.server import states
from pgdoorman_lib.server.connection import Server
from pgdoorman_lib.wire.session_state import DIRTY_DOUBTED


@pytest.fixture
def engine() -> Iterator[Engine]:
    with running("epoll") as made:
        yield made


class House:
    def __init__(self, engine: Engine, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
        self.now = 1000.0
        monkeypatch.setattr(module, "clock", lambda: self.now)
        self.tidied: list[Server] = []
        self.settings = Settings(**{"target_session_attrs": "read-write", "pool_size": 5, **changes})
        self.pool = Pool(self.settings, engine, self.connect, lambda pool, server: self.tidied.append(server))
        self.engine = engine
        self.peers: list[Any] = []

    def connect(self, pool: Pool) -> Server:
        raise AssertionError("nobody waits")

    def serve(self, number: int) -> list[Server]:
        """So many servers at rest."""
        made = []
        for _ in range(number):
            server, peer = server_pair(self.engine, self.settings)
            self.peers.append(peer)
            self.pool.adopt(server)
            made.append(server)
        for server in made:
            self.pool.settle(server)
        return made

    def close(self) -> None:
        for server in self.tidied:
            self.pool.discard(server, "the end")
        self.pool.retire("the end")
        for peer in self.peers:
            peer.close()


@pytest.fixture
def house(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    made = House(engine, monkeypatch)
    yield made
    made.close()


@pytest.mark.parametrize("attrs", ["any", "prefer-standby"])
def test_nobody_is_asked_where_any_will_do(engine: Engine, monkeypatch: pytest.MonkeyPatch, attrs: str) -> None:
    house = House(engine, monkeypatch, target_session_attrs=attrs)
    assert house.pool.standing is None


def test_a_loss_has_all_others_asked(house: House) -> None:
    first, *others = house.serve(4)
    house.pool.queue.remove(first)
    house.pool.borrowed += 1
    first.enter(states.ACTIVE)
    first.fatal_received = 1
    house.pool.discard(first, "said FATAL")
    assert set(house.tidied) == set(others)
    assert all(server.dirty == DIRTY_DOUBTED and server.state == "cleaning" for server in others)
    house.pool.check()


def test_one_that_is_closed_in_order_is_no_loss(house: House) -> None:
    first, *_ = house.serve(3)
    house.pool.queue.remove(first)
    house.pool.borrowed += 1
    first.enter(states.ACTIVE)
    house.pool.discard(first, "server_lifetime reached")
    assert not house.tidied


def test_borrowed_ones_are_asked_when_they_come_back(house: House) -> None:
    first, second = house.serve(2)
    house.pool.queue.remove(first)
    house.pool.borrowed += 1
    first.enter(states.ACTIVE)
    assert house.pool.standing is not None
    house.pool.standing.doubt()
    assert house.tidied == [second] and first.state == "active"
    house.pool.checkin(first)
    assert house.tidied == [second, first]


def test_all_are_asked_once_for_many_losses(house: House) -> None:
    house.serve(2)
    assert house.pool.standing is not None
    house.pool.standing.doubt()
    assert len(house.tidied) == 2
    house.serve(1)
    house.now += LEAST_INTERVAL / 2
    house.pool.standing.doubt()
    assert len(house.tidied) == 2
    house.now += LEAST_INTERVAL
    house.pool.standing.doubt()
    assert len(house.tidied) == 3


def test_who_reports_to_be_promoted_has_all_asked(house: House) -> None:
    first, second = house.serve(2)
    first.report("in_hot_standby", "off")
    assert set(house.tidied) == {first, second}


def test_a_refusal_to_write(engine: Engine, monkeypatch: pytest.MonkeyPatch, house: House) -> None:
    [server] = house.serve(1)
    assert house.pool.standing is not None
    house.pool.standing.refused_to_write(server)
    assert server.dirty == DIRTY_DOUBTED
    other = House(engine, monkeypatch, target_session_attrs="read-only")
    [server] = other.serve(1)
    assert other.pool.standing is not None
    other.pool.standing.refused_to_write(server)
    assert not server.dirty
    other.close()


def test_one_is_asked_now_and_then(house: House) -> None:
    house.serve(3)
    sweep(house.pool, house.now + 1)
    assert not house.tidied
    house.now += CHECK_INTERVAL + 1
    sweep(house.pool, house.now)
    sweep(house.pool, house.now + 1)
    assert len(house.tidied) == 1


def test_who_is_not_what_it_should_be_is_closed_and_the_others_are_asked(house: House) -> None:
    first, second = house.serve(2)
    house.now += CHECK_INTERVAL + 1
    sweep(house.pool, house.now)
    [asked] = house.tidied
    assert house.pool.standing is not None
    house.pool.standing.judge(asked, "")
    assert len(house.tidied) == 1
    with pytest.raises(ServerGone, match="session is read-only"):
        house.pool.standing.judge(asked, "session is read-only")
    assert set(house.tidied) == {first, second}


def test_a_paused_pool_asks_nobody(house: House) -> None:
    house.serve(2)
    house.pool.held = 1
    assert house.pool.standing is not None
    house.pool.standing.doubt()
    assert not house.tidied
    house.pool.held = 0
