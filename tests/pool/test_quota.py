"""max_user_connections: what pools of one server user have together, and who gets the next server."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import gevent
import pytest
from core_fakes import PATIENCE, until
from pool.test_pool import House, busy, engine, in_greenlet  # noqa: F401 - a fixture

from pgdoorman_lib.net.engine import Engine
from pgdoorman_lib.pool import handover
from pgdoorman_lib.pool import quota as quota_module
from pgdoorman_lib.pool.holding import open_servers, pause, resume
from pgdoorman_lib.pool.quota import Quota
from pgdoorman_lib.pool.resting import sweep
from pgdoorman_lib.pool.terms import Terms


def under(terms: Terms, houses: list[House], places: Any = None) -> Quota:
    """Have these pools under a limit, counted in ``places``."""
    quota = Quota(terms, places)
    for house in houses:
        quota.join(house.pool)
        house.pool.quota = quota
    return quota


def leave(quota: Quota, houses: list[House]) -> None:
    for house in houses:
        house.pool.quota = None
        house.close()
    quota.end()


def of_user(limit: int) -> Terms:
    return Terms("max_user_connections", "alice", limit)


@pytest.fixture
def houses(engine: Engine) -> Iterator[list[House]]:  # noqa: F811
    """Three pools of up to three servers each, two in all."""
    made = [House(engine) for _ in range(3)]
    quota = under(of_user(2), made)
    yield made
    leave(quota, made)


def opened(houses: list[House]) -> int:
    return sum(open_servers(house.pool) for house in houses)


def test_one_that_rests_elsewhere_gives_way_the_longest_at_rest_first(houses: list[House]) -> None:
    first, second, third = houses
    servers = [first.checkout(), second.checkout()]
    first.pool.checkin(servers[0])
    gevent.sleep(0.01)
    servers[1].idle_since = servers[0].idle_since
    second.engine.now += 1
    second.pool.checkin(servers[1])
    server = third.checkout()
    assert [one.state for one in servers] == ["closed", "idle"]
    assert opened(houses) == 2
    third.pool.checkin(server)


def test_who_waits_gets_his_turn_when_a_server_rests_or_is_closed(houses: list[House]) -> None:
    first, second, third = houses
    one, two = first.checkout(), second.checkout()
    waiting = [in_greenlet(third.checkout), in_greenlet(third.checkout)]
    gevent.sleep(0.02)
    assert not any(greenlet.ready() for greenlet in waiting)
    first.pool.checkin(one)
    until(lambda: any(greenlet.ready() for greenlet in waiting))
    second.pool.discard(two, "a fault")
    for greenlet in waiting:
        third.pool.checkin(greenlet.get(timeout=PATIENCE))
    assert opened(houses) <= 2


def test_servers_that_another_process_still_has_count(houses: list[House]) -> None:
    """As in the middle of an upgrade: who waits in another pool is served when they have gone."""
    first, second, _ = houses
    handover.elsewhere(first.pool, 2)
    waiting = in_greenlet(second.checkout)
    gevent.sleep(0.02)
    assert opened(houses) == 0
    handover.elsewhere(first.pool, 1)
    second.pool.checkin(waiting.get(timeout=PATIENCE))


def test_a_paused_pool_takes_nothing_from_others(houses: list[House]) -> None:
    first, second, _ = houses
    one, two = first.checkout(), first.checkout()
    pause(second.pool)
    waiting = in_greenlet(second.checkout)
    first.pool.checkin(one)
    first.pool.checkin(two)
    gevent.sleep(0.02)
    assert [one.state, two.state] == ["idle", "idle"] and not waiting.ready()
    resume(second.pool)
    second.pool.checkin(waiting.get(timeout=PATIENCE))


def test_a_warm_minimum_does_not_take_from_others(engine: Engine) -> None:  # noqa: F811
    first, second = House(engine), House(engine, min_pool_size=1)
    quota = under(of_user(1), [first, second])
    server = first.checkout()
    first.pool.checkin(server)
    sweep(second.pool, engine.now)
    gevent.sleep(0.02)
    assert (server.state, second.attempts) == ("idle", 0)
    leave(quota, [first, second])


def test_a_busy_pool_does_not_keep_all_for_itself(houses: list[House], monkeypatch: pytest.MonkeyPatch) -> None:
    """Its clients hand one server to the next without end; those of another pool get their turn all the same."""
    monkeypatch.setattr(quota_module, "PATIENCE", 0.05)
    first, second, _ = houses
    with busy(first, 6):
        until(lambda: first.pool.queue.waiting > 0 and opened(houses) == 2)
        waiting = in_greenlet(second.checkout)
        server = waiting.get(timeout=PATIENCE)
        assert opened(houses) <= 2
        second.pool.checkin(server)


def test_what_others_take_while_a_pool_is_swept(houses: list[House]) -> None:
    """Each server that is closed for its age is two others' chance, of which one takes the next to be looked at."""
    first, *others = houses
    old = [first.checkout(), first.checkout()]
    for house in others:
        house.pool.opening.retry_at = first.engine.now + 100  # PostgreSQL was out of reach
    waiting = [in_greenlet(house.checkout) for house in others]
    gevent.sleep(0.02)
    for server in old:
        first.pool.checkin(server)
        server.expires_at = 0.0
    for house in others:
        house.pool.opening.retry_at = 0.0
    sweep(first.pool, first.engine.now)
    for house, greenlet in zip(others, waiting, strict=True):
        house.pool.checkin(greenlet.get(timeout=PATIENCE))
    assert [server.state for server in old] == ["closed", "closed"]


@pytest.mark.parametrize("seed", range(3))
def test_hammer(houses: list[House], seed: int) -> None:
    """Everybody is served, and there are never more than two."""
    dice = random.Random(seed)
    most = 0

    def client(house: House) -> None:
        nonlocal most
        for _ in range(15):
            server = house.checkout()
            most = max(most, opened(houses))
            gevent.sleep(dice.choice((0, 0, 0.001)))
            if dice.random() < 0.1:
                house.pool.discard(server, "a fault")
            else:
                house.pool.checkin(server)
            gevent.sleep(dice.choice((0, 0.001)))
            house.pool.check()

    clients = [gevent.spawn(client, house) for house in houses for _ in range(3)]
    for greenlet in clients:
        greenlet.get(timeout=PATIENCE)
    assert most <= 2
