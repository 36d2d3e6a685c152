"""What becomes of servers when the name of their host leads elsewhere; the resolver is a fake."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from core_fakes import Settings, running, server_pair

from pgdoorman_lib.errors import DoormanError, ServerUnavailable
from pgdoorman_lib.net.engine import Engine
from pgdoorman_lib.pool import addresses as module
from pgdoorman_lib.pool.addresses import REASON, NameWatch
from pgdoorman_lib.pool.pool import Pool
from pgdoorman_lib.server import states
from pgdoorman_lib.server.connection import Server

OLD, NEW, THIRD = "10.0.0.1", "10.0.0.2", "10.0.0.3"


@pytest.fixture
def engine() -> Iterator[Engine]:
    with running("epoll") as made:
        yield made


class House:
    """A pool of two servers at OLD, and a resolver."""

    def __init__(self, engine: Engine, monkeypatch: pytest.MonkeyPatch, host: str = "db") -> None:
        self.answer: list[str] | DoormanError = [OLD]
        self.asked = 0
        monkeypatch.setattr(module, "resolve", self.resolve)
        settings = Settings(server_host=host)
        self.pool = Pool(settings, engine, self.connect, lambda pool, server: None)
        self.peers = []
        self.servers: list[Server] = []
        for _ in range(2):
            server, peer = server_pair(engine, settings)
            server.stream.peer_host = OLD
            self.peers.append(peer)
            self.pool.adopt(server)
            self.servers.append(server)
        self.pool.settle(self.servers[0])
        self.servers[1].enter(states.ACTIVE)
        self.watch = NameWatch()

    def connect(self, pool: Pool) -> Server:
        raise AssertionError("nobody waits")

    def resolve(self, host: str, port: int, timeout: float) -> list[str]:
        self.asked += 1
        if isinstance(self.answer, DoormanError):
            raise self.answer
        return self.answer

    def look(self, answer: list[str] | DoormanError) -> tuple[bool, str]:
        """Look once; whether the one at rest is closed, and why the borrowed one will be."""
        self.answer = answer
        self.watch.round([self.pool])
        return self.servers[0].state == "closed", self.servers[1].condemned

    def close(self) -> None:
        self.pool.discard(self.servers[1], "the end")
        self.pool.retire("the end")
        for peer in self.peers:
            peer.close()


@pytest.fixture
def house(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    made = House(engine, monkeypatch)
    yield made
    made.close()


STAY, GONE = (False, ""), (True, REASON)


def test_a_name_that_leads_elsewhere(house: House) -> None:
    assert house.look([OLD]) == STAY
    assert house.look([NEW]) == STAY
    assert house.look([NEW]) == GONE
    house.pool.check()


def test_a_name_that_shows_its_addresses_by_turns(house: House) -> None:
    for _ in range(3):
        assert house.look([NEW, THIRD]) == STAY
        assert house.look([OLD, NEW]) == STAY


def test_a_name_that_is_not_resolved_says_nothing(house: House) -> None:
    wrong = ServerUnavailable("could not resolve the server's host name")
    assert house.look(wrong) == STAY
    assert house.look(wrong) == STAY
    assert house.look([OLD]) == STAY
    assert house.look(wrong) == STAY
    assert house.look([NEW]) == STAY
    assert house.look(wrong) == STAY
    assert house.look([NEW]) == GONE


def test_an_address_is_not_asked_about(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    house = House(engine, monkeypatch, host=OLD)
    assert house.look([NEW]) == house.look([NEW]) == STAY
    assert house.asked == 0
    house.close()
