"""Which host a server is opened on: order, breakers, attributes; hosts, resolver and clock are fakes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import gevent
import pytest

from pgdoorman_lib.errors import (
    DoormanError,
    LocalResourcesExhausted,
    ServerRefused,
    ServerUnavailable,
    UnsuitableHost,
)
from pgdoorman_lib.record import record
from pgdoorman_lib.server import hosts as module
from pgdoorman_lib.server.hosts import BREAK_FIRST, BREAK_LAST, UNSUITABLE_SECONDS, Hosts, Place


@record(frozen=True, kw_only=True)
class Settings:
    servers: tuple[tuple[str, int], ...]
    target_session_attrs: str = "any"
    load_balance_hosts: str = "disable"
    connect_timeout: float = 5.0

    def at(self, host: str, port: int) -> Settings:
        return Settings(servers=((host, port),), target_session_attrs=self.target_session_attrs)


class World:
    """Hosts by name, what each is, and who has been tried."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.names: dict[str, list[str] | DoormanError] = {}
        #: by address: "primary", "standby", or what goes wrong
        self.what: dict[str, str | DoormanError] = {}
        self.tried: list[str] = []
        self.probed: list[str] = []
        self.hosts = Hosts(None, self.probe)  # type: ignore[arg-type]
        monkeypatch.setattr(module, "clock", lambda: self.now)
        monkeypatch.setattr(module, "resolve", self.resolve)

    def resolve(self, host: str, port: int, timeout: float) -> list[str]:
        gevent.sleep(0)
        found = self.names[host]
        if isinstance(found, DoormanError):
            raise found
        return found

    def probe(self, settings: Any, engine: Any, address: str) -> None:
        self.probed.append(address)
        what = self.what[address]
        if isinstance(what, DoormanError):
            raise what

    def attempt(self, settings: Settings, address: str, wanted: str) -> Any:
        self.tried.append(address)
        what = self.what[address]
        if isinstance(what, DoormanError):
            raise what
        if wanted not in ("any", what):
            raise UnsuitableHost(f"{address} is no {wanted}")
        status = {"in_hot_standby": "on" if what == "standby" else "off"}
        return SimpleNamespace(address=address, reported=SimpleNamespace(values=status))

    def open(self, settings: Settings) -> list[str]:
        """Who was tried; the last is where a server was opened."""
        self.tried = []
        made = self.hosts.open(settings, self.attempt)
        assert made.address == self.tried[-1]
        gevent.sleep(0)
        return self.tried


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


A, B, C = "10.0.0.1", "10.0.0.2", "10.0.0.3"
THREE = Settings(servers=((A, 5432), (B, 5432), (C, 5432)))
DOWN = ServerUnavailable("could not connect to the server: Connection refused")


def test_in_order(world: World) -> None:
    world.what = {A: "primary", B: "standby", C: "standby"}
    assert world.open(THREE) == [A]
    world.what[A] = DOWN
    assert world.open(THREE) == [A, B]


def test_at_random_all_are_taken(world: World) -> None:
    world.what = {A: "primary", B: "standby", C: "standby"}
    settings = Settings(servers=THREE.servers, load_balance_hosts="random")
    assert {world.open(settings)[0] for _ in range(100)} == {A, B, C}


def test_all_addresses_of_a_name_are_tried(world: World) -> None:
    world.names = {"db": [A, B]}
    world.what = {A: DOWN, B: "primary"}
    assert world.open(Settings(servers=(("db", 5432),))) == [A, B]


def test_a_name_is_resolved_each_time(world: World) -> None:
    world.names = {"db": [A]}
    world.what = {A: "primary", B: "primary"}
    settings = Settings(servers=(("db", 5432),))
    assert world.open(settings) == [A]
    world.names = {"db": [B]}
    assert world.open(settings) == [B]


def test_a_name_that_is_not_resolved_waits_behind_the_others(world: World) -> None:
    world.names = {"db": ServerUnavailable("could not resolve"), "other": [B]}
    world.what = {A: "primary", B: "primary"}
    settings = Settings(servers=(("db", 5432), ("other", 5432)))
    assert world.open(settings) == [B]
    world.names["db"] = [A]
    assert world.open(settings) == [B]
    world.what[B] = DOWN
    assert world.open(settings) == [B, A]
    assert world.open(settings) == [A]


def test_who_was_down_is_tried_last_and_then_asked_by_one(world: World) -> None:
    world.what = {A: DOWN, B: "primary", C: "primary"}
    assert world.open(THREE) == [A, B]
    assert world.open(THREE) == [B]
    world.now += BREAK_FIRST + 0.1
    assert world.open(THREE) == [B] and world.probed == [A]
    world.now += BREAK_FIRST + 0.1
    assert world.open(THREE) == [B] and world.probed == [A]  # twice as long
    world.what[A] = "primary"
    world.now += BREAK_FIRST
    assert world.open(THREE) == [B] and world.probed == [A, A]
    assert world.open(THREE) == [A]
    [breaker] = [breaker for place, breaker in world.hosts.known() if place == Place(A, 5432, A)]
    assert (breaker.failures, breaker.role, breaker.state(world.now)) == (0, "primary", "closed")


def test_it_is_asked_by_one_at_a_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.what = {A: DOWN, B: "primary", C: "primary"}
    world.open(THREE)
    world.now += BREAK_FIRST + 0.1
    hold = gevent.event.Event()

    def slow(settings: Any, engine: Any, address: str) -> None:
        world.probed.append(address)
        hold.wait()

    monkeypatch.setattr(world.hosts, "_probe_at", slow)
    assert world.open(THREE) == [B] == world.open(THREE)
    assert world.probed == [A]
    hold.set()
    gevent.sleep(0)
    gevent.sleep(0)
    world.what[A] = "primary"
    assert world.open(THREE) == [A]


def test_a_time_without_end_has_an_end(world: World) -> None:
    world.what = {A: DOWN}
    for _ in range(20):
        with pytest.raises(ServerUnavailable):
            world.open(Settings(servers=((A, 5432),)))
    [(_, breaker)] = world.hosts.known()
    assert breaker.until == world.now + BREAK_LAST


def test_where_there_is_only_one_it_is_tried_whatever_was(world: World) -> None:
    settings = Settings(servers=((A, 5432),))
    world.what = {A: DOWN}
    for _ in range(3):
        with pytest.raises(ServerUnavailable) as caught:
            world.open(settings)
        assert caught.value is DOWN and world.tried == [A]
    assert not world.probed


def test_when_all_are_down_all_are_tried(world: World) -> None:
    world.what = {A: DOWN, B: DOWN, C: DOWN}
    for _ in range(2):
        with pytest.raises(ServerUnavailable) as caught:
            world.open(THREE)
        assert world.tried == [A, B, C]
        assert str(caught.value.__cause__).count("Connection refused") == 3
        assert A not in caught.value.message


@pytest.mark.parametrize("sqlstate", ["57P01", "57P02", "57P03"])
def test_one_that_starts_or_stops_is_passed_over(world: World, sqlstate: str) -> None:
    world.what = {A: ServerRefused("not now", sqlstate=sqlstate), B: "primary", C: "primary"}
    assert world.open(THREE) == [A, B]
    assert world.open(THREE) == [B]


@pytest.mark.parametrize("sqlstate", ["28P01", "3D000", "53300", "28000"])
def test_a_refusal_that_others_would_repeat_is_told(world: World, sqlstate: str) -> None:
    refused = ServerRefused("no", sqlstate=sqlstate)
    world.what = {A: refused, B: "primary", C: "primary"}
    for _ in range(2):
        with pytest.raises(ServerRefused) as caught:
            world.open(THREE)
        assert caught.value is refused and world.tried == [A]


def test_what_we_lack_is_no_fault_of_the_host(world: World) -> None:
    world.what = {A: LocalResourcesExhausted("no descriptors"), B: "primary", C: "primary"}
    with pytest.raises(LocalResourcesExhausted):
        world.open(THREE)
    assert world.tried == [A] and world.hosts.known()[0][1].failures == 0


def test_the_primary_is_found_and_remembered(world: World) -> None:
    world.what = {A: "standby", B: "primary", C: "standby"}
    settings = Settings(servers=THREE.servers, target_session_attrs="primary")
    assert world.open(settings) == [A, B]
    assert world.open(settings) == [B]
    world.what.update({A: "primary", B: DOWN})
    assert world.open(settings) == [B, C, A]  # what was found lately still is tried before what is down
    world.now += UNSUITABLE_SECONDS + 0.1
    assert world.open(settings) == [A]


def test_prefer_standby(world: World) -> None:
    world.what = {A: "primary", B: DOWN, C: "standby"}
    settings = Settings(servers=THREE.servers, target_session_attrs="prefer-standby")
    assert world.open(settings) == [A, B, C]
    world.what[C] = DOWN
    assert world.open(settings)[-1] == A
    assert world.tried.count(B) == 1
    world.what = {A: "primary", B: "standby", C: DOWN}
    world.now += BREAK_LAST
    world.open(settings)
    gevent.sleep(0)
    assert world.open(settings)[-1] == B


def test_who_is_down_is_told_before_who_does_not_suit(world: World) -> None:
    world.what = {A: "standby", B: DOWN, C: "standby"}
    with pytest.raises(ServerUnavailable) as caught:
        world.open(Settings(servers=THREE.servers, target_session_attrs="primary"))
    assert caught.value.message == DOWN.message
    told = str(caught.value.__cause__)
    assert f"{A}:5432: {A} is no primary" in told and f"{B}:5432: {DOWN.message}" in told


def test_none_suits(world: World) -> None:
    world.what = {A: "standby"}
    with pytest.raises(UnsuitableHost, match="no primary"):
        world.open(Settings(servers=((A, 5432),), target_session_attrs="primary"))


def test_whether_all_are_down(world: World) -> None:
    two = Settings(servers=((A, 5432), ("db", 5432)))
    world.what = {A: DOWN, B: DOWN}
    world.names = {"db": [B]}
    assert not world.hosts.are_down(two)
    with pytest.raises(ServerUnavailable):
        world.open(two)
    assert world.hosts.are_down(two)
    world.now += BREAK_FIRST + 0.1
    world.what[B] = "primary"
    assert world.hosts.are_down(two)  # nobody has answered yet
    gevent.sleep(0)
    assert sorted(world.probed) == [A, B]
    assert not world.hosts.are_down(two)


def test_a_name_that_is_not_resolved_is_down_for_its_time(world: World) -> None:
    named = Settings(servers=(("db", 5432),))
    world.names = {"db": ServerUnavailable("could not resolve")}
    with pytest.raises(ServerUnavailable):
        world.open(named)
    assert world.hosts.are_down(named)
    world.now += BREAK_FIRST + 0.1
    assert not world.hosts.are_down(named) and not world.probed
    world.names = {"db": []}
    with pytest.raises(ServerUnavailable, match="no address"):
        world.open(named)


def test_an_address_is_told_with_its_name() -> None:
    assert str(Place("db", 5432, A)) == f"db:5432 ({A})"
    assert str(Place(A, 5432, A)) == f"{A}:5432"
    assert str(Place("db", 5432, "")) == "db:5432"
    assert str(Place("::1", 5432, "::1")) == "[::1]:5432"
