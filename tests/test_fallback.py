"""Servers at another member of the cluster while a pool's own hosts have none; hosts, Patroni and the clock are fakes."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import gevent
import pytest

from pgdoorman_lib import fallback as module
from pgdoorman_lib.errors import (
    DoormanError,
    LocalResourcesExhausted,
    ServerRefused,
    ServerUnavailable,
    UnsuitableHost,
)
from pgdoorman_lib.fallback import FRESH_SECONDS, LOOK_INTERVAL, Fallback, Fallbacks
from pgdoorman_lib.record import record
from pgdoorman_lib.server import hosts as hosts_module
from pgdoorman_lib.server.hosts import Hosts
from pgdoorman_lib.server.patroni import Member, PatroniError

OWN, A, B, C = "127.0.0.1", "10.0.0.1", "10.0.0.2", "10.0.0.3"
DOWN = ServerUnavailable("could not connect to the server: Connection refused")
URLS = ("http://a:8008", "http://b:8008")


@record(frozen=True, kw_only=True)
class Settings:
    database: str = "shop"
    servers: tuple[tuple[str, int], ...] = ((OWN, 5432),)
    target_session_attrs: str = "any"
    load_balance_hosts: str = "disable"
    connect_timeout: float = 3.0
    patroni_api_urls: tuple[str, ...] = URLS
    patroni_api_timeout: float = 5.0
    fallback_cooldown: float = 30.0
    fallback_connect_timeout: float = 4.0
    fallback_lifetime: float = 20.0

    def at(self, host: str, port: int) -> Settings:
        return dataclasses.replace(self, servers=((host, port),))


class World:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.what: dict[str, str | DoormanError] = {OWN: "primary", A: "primary", B: "standby", C: "standby"}
        members = [Member(A, 5432, "leader"), Member(B, 5432, "sync_standby"), Member(C, 5432, "sync_standby")]
        self.members: dict[str, list[Member] | DoormanError] = {url: members for url in URLS}
        self.asked: list[str] = []
        self.tried: list[str] = []
        self.timeouts: set[float] = set()
        #: seconds until it answers, in turns of the hub
        self.slow: dict[str, int] = {}
        self.fallbacks = Fallbacks(Hosts(None, self.knock))  # type: ignore[arg-type]
        for each in (module, hosts_module):
            monkeypatch.setattr(each, "clock", lambda: self.now)
        monkeypatch.setattr(module, "ask", self.ask)

    def ask(self, url: str, timeout: float) -> list[Member]:
        self.asked.append(url)
        gevent.sleep(0)
        found = self.members[url]
        if isinstance(found, DoormanError):
            raise found
        return found

    def knock(self, settings: Any, engine: object, address: str) -> None:
        for _ in range(self.slow.get(address, 0)):
            gevent.sleep(0)
        what = self.what[address]
        if isinstance(what, DoormanError):
            raise what

    def attempt(self, settings: Settings, address: str, wanted: str) -> Any:
        self.tried.append(address)
        self.timeouts.add(settings.connect_timeout)
        gevent.sleep(0)
        what = self.what[address]
        if isinstance(what, DoormanError):
            raise what
        if wanted not in ("any", what):
            raise UnsuitableHost(f"no {wanted}")
        return SimpleNamespace(address=address, expires_at=1e9, reported=SimpleNamespace(values={}))

    def of(self, settings: Settings) -> Fallback:
        found = self.fallbacks.of(settings)
        assert found is not None
        return found

    def open(self, **changes: Any) -> Any:
        self.tried, self.asked = [], []
        settings = Settings(**changes)
        return self.of(settings).open(settings, self.attempt)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


def test_its_own_host_as_long_as_that_is_there(world: World) -> None:
    assert world.open().address == OWN
    assert not world.asked and world.fallbacks.of(Settings(patroni_api_urls=())) is None


def test_a_sync_standby_first_and_kept(world: World) -> None:
    world.what[OWN] = DOWN
    world.slow = {B: 3}
    server = world.open()
    assert server.address == C and world.tried == [OWN, C]
    assert server.expires_at == world.now + 20.0 and world.timeouts == {3.0, 4.0}
    assert set(world.asked) == set(URLS)
    of = world.of(Settings())
    assert of.member == Member(C, 5432, "sync_standby")
    world.what[OWN] = "primary"
    assert world.open().address == C and not world.asked
    assert (of.stats.connections, of.stats.cache_hits) == (2, 1)
    world.now += 31.0
    assert of.member is None
    assert world.open().address == C  # its own host is only asked whether it is there again
    gevent.sleep(0)
    world.now += LOOK_INTERVAL + 0.1
    assert world.open().address == OWN
    assert world.tried == [OWN] and of.member is None


def test_it_is_kept_as_long_as_its_own_host_is_down(world: World) -> None:
    world.what[OWN] = DOWN
    first = world.open().address
    for _ in range(100):
        world.now += 10.0
        assert world.open().address == first
        assert world.tried == [first] and not world.asked
        gevent.sleep(0)


@pytest.mark.parametrize("sqlstate", ["57P01", "57P03"])
def test_a_host_that_starts_or_stops(world: World, sqlstate: str) -> None:
    world.what[OWN] = ServerRefused("not now", sqlstate=sqlstate)
    assert world.open().address in (B, C)


@pytest.mark.parametrize("wrong", [ServerRefused("no", sqlstate="28P01"), LocalResourcesExhausted("no descriptors")])
def test_what_is_no_reason(world: World, wrong: DoormanError) -> None:
    world.what[OWN] = wrong
    with pytest.raises(type(wrong)):
        world.open()
    assert not world.asked


def test_then_the_others(world: World) -> None:
    world.what.update({OWN: DOWN, B: DOWN, C: DOWN})
    assert world.open().address == A
    assert world.of(Settings()).stats.failures["connect"] == 2


def test_only_what_is_asked_for(world: World) -> None:
    world.what[OWN] = DOWN
    assert world.open(target_session_attrs="primary").address == A
    assert world.of(Settings()).stats.failures["unsuitable"] == 2


def test_the_one_that_was_kept_is_down(world: World) -> None:
    world.what[OWN] = DOWN
    first = world.open().address
    world.what[first] = DOWN
    world.now += FRESH_SECONDS + 0.1
    second = world.open().address
    assert {first, second} == {B, C} and world.asked


def test_none_is_there(world: World) -> None:
    world.what.update({OWN: DOWN, A: DOWN, B: DOWN, C: DOWN})
    with pytest.raises(ServerUnavailable) as caught:
        world.open()
    assert caught.value is DOWN


def test_patroni_does_not_answer(world: World) -> None:
    world.what[OWN] = DOWN
    world.members = {URLS[0]: PatroniError("a: nothing"), URLS[1]: PatroniError("b: nothing")}
    with pytest.raises(ServerUnavailable) as caught:
        world.open()
    assert caught.value is DOWN
    stats = world.of(Settings()).stats
    assert (stats.api_requests, stats.api_errors, stats.api_duration.count) == (2, 2, 2)
    world.members[URLS[1]] = [Member(A, 5432, "leader")]
    assert world.open().address == A


def test_a_url_that_knows_of_nobody_is_passed_over(world: World) -> None:
    world.what[OWN] = DOWN
    world.members = {URLS[0]: [], URLS[1]: [Member(A, 5432, "leader")]}
    assert world.open().address == A


def test_its_own_host_is_not_tried_twice(world: World) -> None:
    world.what[OWN] = DOWN
    world.members = {url: [Member(OWN, 5432, "replica"), Member(A, 5432, "leader")] for url in URLS}
    assert world.open().address == A and world.tried == [OWN, A]


def test_many_at_once_ask_once(world: World) -> None:
    world.what[OWN] = DOWN
    opening = [gevent.spawn(world.of(Settings()).open, Settings(), world.attempt) for _ in range(5)]
    gevent.joinall(opening)
    assert len({each.get().address for each in opening}) == 1
    assert sorted(world.asked) == sorted(URLS)


def test_databases_of_one_cluster_share_an_answer(world: World) -> None:
    world.what[OWN] = DOWN
    world.open()
    world.open(database="other")
    assert not world.asked
    world.now += FRESH_SECONDS + 0.1
    world.open(database="third")
    assert world.asked
