"""Pools that are paused, resumed and begun anew: what is lent, closed and opened meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gevent
import pytest
from core_fakes import PATIENCE, Settings, until
from pool.test_pool import House, engine, in_greenlet  # noqa: F401 - a fixture

from pgdoorman_lib.errors import CheckoutTimeout
from pgdoorman_lib.net.engine import Engine
from pgdoorman_lib.pool import holding
from pgdoorman_lib.pool.holding import Target
from pgdoorman_lib.pool.pool import Pool
from pgdoorman_lib.pool.queue import Moved
from pgdoorman_lib.pool.registry import Pools
from pgdoorman_lib.pool.resting import sweep


@pytest.fixture
def house(request: pytest.FixtureRequest, engine: Engine) -> Iterator[House]:  # noqa: F811
    made = House(engine, **getattr(request, "param", {}))
    yield made
    made.close()


def test_a_paused_pool_lends_nothing_and_closes_what_comes_back(house: House) -> None:
    busy, resting = house.checkout(), house.checkout()
    house.pool.checkin(resting)
    holding.pause(house.pool)
    assert (resting.state, busy.state) == ("closed", "active")
    assert holding.open_servers(house.pool) == 1
    waiting = in_greenlet(house.checkout)
    busy.dirty = 1
    house.pool.checkin(busy)
    assert busy.state == "closed" and not house.tidied
    sweep(house.pool, 1e12)
    gevent.sleep(0.02)
    assert not waiting.ready() and holding.open_servers(house.pool) == 0 and house.attempts == 2
    house.pool.check()
    holding.resume(house.pool)
    server = waiting.get(timeout=PATIENCE)
    house.pool.checkin(server)
    assert server.state == "idle"


def test_a_server_opened_when_a_pause_comes_is_closed(house: House) -> None:
    house.gate.clear()
    waiting = in_greenlet(house.checkout)
    until(lambda: house.connecting == 1)
    holding.pause(house.pool)
    assert holding.open_servers(house.pool) == 1
    house.gate.set()
    until(lambda: holding.open_servers(house.pool) == 0)
    assert not waiting.ready()
    holding.resume(house.pool)
    house.pool.checkin(waiting.get(timeout=PATIENCE))


def test_waiting_in_a_paused_pool_ends(engine: Engine) -> None:  # noqa: F811
    for timeout in (0.03, 0.0):
        house = House(engine, query_wait_timeout=timeout)
        holding.pause(house.pool)
        with pytest.raises(CheckoutTimeout):
            house.checkout()
        house.close()


def test_renewed_servers_are_lent_to_nobody(house: House) -> None:
    busy, resting = house.checkout(), house.checkout()
    house.pool.checkin(resting)
    holding.renew(house.pool)
    assert resting.state == "closed"
    assert holding.condemned_servers(house.pool) == 1
    house.pool.checkin(busy)
    assert busy.state == "closed"
    assert holding.condemned_servers(house.pool) == 0
    fresh = house.checkout()
    assert not fresh.condemned
    house.pool.checkin(fresh)
    assert fresh.state == "idle"


def test_a_dirty_server_that_was_renewed_is_not_lent_either(house: House) -> None:
    busy = house.checkout()
    holding.renew(house.pool)
    busy.dirty = 1
    house.pool.checkin(busy)
    until(lambda: busy.state == "closed")


def test_a_server_whose_opening_began_before_a_renewal_is_not_lent(house: House) -> None:
    house.gate.clear()
    waiting = in_greenlet(house.checkout)
    until(lambda: house.connecting == 1)
    holding.renew(house.pool)
    house.gate.set()
    server = waiting.get(timeout=PATIENCE)
    assert house.attempts == 2
    assert not server.condemned
    house.pool.checkin(server)


def test_orders_hold_for_pools_to_come(engine: Engine) -> None:  # noqa: F811
    pools = Pools(lambda settings: Pool(settings, engine, lambda pool: None, lambda pool, server: None))  # type: ignore[arg-type,return-value]

    def paused(database: str, user: str) -> Any:
        pool = pools.find(database, user)
        assert pool is not None
        return bool(pool.paused)

    pools.orders.paused.add(Target("shop"))
    pools.orders.disabled.add(Target("mall", "bob"))
    everything = {
        (database, user): Settings(database=database, user=user)
        for database in ("shop", "mall")
        for user in ("al", "bob")
    }
    pools.apply(everything)
    assert [paused(*key) for key in everything] == [True, True, False, False]
    assert [bool(pool.disabled) for pool in pools] == [False, False, False, True]
    pools.apply({key: Settings(database=key[0], user=key[1], pool_size=9) for key in everything})
    assert [paused(*key) for key in everything] == [True, True, False, False]
    assert not holding.take_back(pools.orders.paused, Target("shop", "bob"))
    assert holding.take_back(pools.orders.paused, Target())
    pools.obey()
    assert not any(paused(*key) for key in everything)
    pools.close()


def test_a_server_that_a_replaced_pool_still_opens_is_not_forgotten(house: House) -> None:
    """A SET of a key rebuilds pools; the PAUSE behind it waits for what they had begun."""
    pools = Pools(lambda settings: House(house.engine).pool if pools_made else house.pool)
    pools_made: list[int] = []
    key = ("shop", "al")
    pools.apply({key: house.settings})
    pools_made.append(1)
    house.gate.clear()
    waiting = in_greenlet(house.checkout)
    until(lambda: house.connecting == 1)
    pools.apply({key: Settings(pool_size=9)})
    with pytest.raises(Moved):
        waiting.get(timeout=PATIENCE)
    assert house.pool in list(pools.all())
    house.gate.set()
    until(lambda: house.pool not in list(pools.all()))
    pools.close()
