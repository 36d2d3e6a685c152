"""max_db_connections: whose server makes room, the reserve, what is guaranteed; and limits by the configuration."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import gevent
import pytest
from core_fakes import PATIENCE, until
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from pool.test_pool import House, busy, engine, in_greenlet  # noqa: F401 - a fixture
from pool.test_quota import leave, opened, under

from pgdoorman_lib.config.model import Config, General
from pgdoorman_lib.config.pools import Pool as PoolConfig
from pgdoorman_lib.errors import CheckoutTimeout
from pgdoorman_lib.net.engine import Engine
from pgdoorman_lib.net.engines import choose
from pgdoorman_lib.net.syscalls import clock
from pgdoorman_lib.pool import quota as quota_module
from pgdoorman_lib.pool.holding import pause, resume
from pgdoorman_lib.pool.ledger import Ledger
from pgdoorman_lib.pool.quota import Quota, take_all
from pgdoorman_lib.pool.quotas import Quotas
from pgdoorman_lib.pool.terms import Terms
from pgdoorman_lib.server.connection import Server


def of_database(limit: int, **more: Any) -> Terms:
    return Terms("max_db_connections", "shop", limit, **{"guarantee": 0, **more})


class Houses(list[House]):
    """Pools under one limit."""

    quota: Quota


@pytest.fixture
def houses(request: pytest.FixtureRequest, engine: Engine) -> Iterator[Houses]:  # noqa: F811
    """Three pools of up to three servers each, two in all unless a test says other."""
    made = Houses(House(engine) for _ in range(3))
    made.quota = under(getattr(request, "param", of_database(2)), made)
    yield made
    leave(made.quota, made)


def terms(limit: int, **more: Any) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("houses", [of_database(limit, **more)], indirect=True, ids=[str(more)])


def rests(house: House) -> Any:
    """A server of it that rests."""
    server = house.checkout()
    house.pool.checkin(server)
    return server


@terms(2, min_age=0.2)
def test_a_young_server_is_not_taken_before_it_is_old_enough(houses: Houses) -> None:
    first, second, third = houses
    young = [rests(first), rests(second)]
    waiting = in_greenlet(third.checkout)
    gevent.sleep(0.05)
    assert not waiting.ready() and [one.state for one in young] == ["idle", "idle"]
    third.pool.checkin(waiting.get(timeout=PATIENCE))
    assert sorted(one.state for one in young) == ["closed", "idle"]
    assert houses.quota.counts.evictions == 1


@terms(2, guarantee=1)
def test_what_is_guaranteed_is_not_taken(houses: Houses) -> None:
    first, second, third = houses
    kept = [rests(first), rests(second)]
    waiting = in_greenlet(third.checkout)
    gevent.sleep(0.1)
    assert not waiting.ready() and [one.state for one in kept] == ["idle", "idle"]
    first.pool.queue.remove(kept[0])
    first.pool.forget(kept[0], "the end")
    third.pool.checkin(waiting.get(timeout=PATIENCE))


def test_a_warm_minimum_is_guaranteed(engine: Engine) -> None:  # noqa: F811
    houses = [House(engine, min_pool_size=1), House(engine)]
    quota = under(of_database(1), houses)
    kept = rests(houses[0])
    waiting = in_greenlet(houses[1].checkout)
    gevent.sleep(0.1)
    assert not waiting.ready() and kept.state == "idle"
    waiting.kill()
    leave(quota, houses)


def test_of_the_slowest_first(houses: Houses) -> None:
    first, second, third = houses
    houses.quota._slowness = lambda pool: 5.0 if pool is second.pool else 1.0
    fast, slow = rests(first), rests(second)
    third.pool.checkin(third.checkout())
    assert (fast.state, slow.state) == ("idle", "closed")


@terms(1, reserve=1, reserve_after=0.1)
def test_the_reserve_is_for_who_has_waited_and_goes_back_first(houses: Houses, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quota_module, "SURPLUS_REST", 0.1)
    first, second, third = houses
    one = first.checkout()
    waiting = in_greenlet(second.checkout)
    gevent.sleep(0.03)
    assert not waiting.ready()
    two = waiting.get(timeout=PATIENCE)
    assert houses.quota.counts.reserve_acquisitions == 1
    last = in_greenlet(third.checkout)
    gevent.sleep(0.2)
    assert not last.ready() and opened(houses) == 2
    last.kill()
    second.pool.checkin(two)
    until(lambda: two.state == "closed", "it is back")
    assert opened(houses) == 1
    first.pool.checkin(one)
    gevent.sleep(0.2)
    assert one.state == "idle", "it is within the limit"


@terms(1, reserve=1, reserve_after=0.05)
def test_the_longest_waiting_has_the_reserve(houses: Houses) -> None:
    first, second, third = houses
    one = first.checkout()
    earlier, later = in_greenlet(third.checkout), in_greenlet(second.checkout)
    server = earlier.get(timeout=PATIENCE)
    assert not later.ready()
    third.pool.discard(server, "the end")
    second.pool.checkin(later.get(timeout=PATIENCE))
    first.pool.checkin(one)


@terms(1, reserve=1, reserve_after=0.05)
def test_two_make_room_where_one_is_beyond_the_limit(houses: Houses) -> None:
    first, second, third = houses
    one = first.checkout()
    two = in_greenlet(second.checkout).get(timeout=PATIENCE)
    first.pool.checkin(one)
    second.pool.checkin(two)
    third.pool.checkin(third.checkout())
    assert [one.state, two.state] == ["closed", "closed"] and opened(houses) == 1


@terms(1)
def test_who_waits_in_vain_is_told_of_the_limit(houses: Houses) -> None:
    first, second, _ = houses
    server = first.checkout()
    second.pool.limit_wait(0.05)
    with pytest.raises(CheckoutTimeout, match=r"all server connections to database 'shop' are in use \(max=1\)"):
        second.checkout()
    assert houses.quota.counts.exhaustions == 1
    first.pool.limit_wait(0.05)
    busy = [in_greenlet(first.checkout)]
    with pytest.raises(CheckoutTimeout, match="are in use"):
        busy[0].get(timeout=PATIENCE)
    first.pool.checkin(server)


@terms(1)
def test_a_pool_that_is_full_itself_says_so(engine: Engine, houses: Houses) -> None:  # noqa: F811
    house = houses[0]
    house.pool.size = house.pool.most = 1
    server = house.checkout()
    house.pool.limit_wait(0.05)
    with pytest.raises(CheckoutTimeout, match="query_wait_timeout"):
        house.checkout()
    house.pool.checkin(server)


@terms(1)
def test_a_busy_pool_gives_way(houses: Houses, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quota_module, "PATIENCE", 0.05)
    first, second, _ = houses
    with busy(first, 3):
        until(lambda: first.pool.queue.waiting > 0)
        second.pool.checkin(in_greenlet(second.checkout).get(timeout=PATIENCE))


@terms(1)
def test_a_paused_pool_asks_for_nothing(houses: Houses) -> None:
    first, second, _ = houses
    server = first.checkout()
    waiting = in_greenlet(second.checkout)
    pause(second.pool)
    first.pool.checkin(server)
    gevent.sleep(0.1)
    assert server.state == "idle" and not waiting.ready()
    resume(second.pool)
    second.pool.checkin(waiting.get(timeout=PATIENCE))


# Over several worker processes, which are one process here.


@pytest.fixture
def ledgers() -> Iterator[list[Ledger]]:
    """The same, as two workers have it."""
    ledger = Ledger.create(2)
    joined = [Ledger.join([os.dup(fd) for fd in ledger.descriptors()], number) for number in (1, 2)]
    for each in joined:
        each.listen()
    yield joined
    for each in joined:
        each.close()
    assert ledger.rows_in_use() == 0
    ledger.close()


@pytest.fixture
def rows(ledgers: list[Ledger]) -> list[Any]:
    """What two workers count in."""
    return [each.row("max_db_connections", "shop") for each in ledgers]


@pytest.fixture
def sides(request: pytest.FixtureRequest, engine: Engine, rows: list[Any]) -> Iterator[list[Houses]]:  # noqa: F811
    """In either worker the pools of two users."""
    made = []
    for row in rows:
        side = Houses(House(engine) for _ in range(2))
        side.quota = under(request.param, side, row)
        made.append(side)
    yield made
    for side in made:
        for house in side:
            house.close()
        for house in side:
            house.pool.quota = None
        side.quota.end()


def shared(limit: int, **more: Any) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("sides", [of_database(limit, **more)], indirect=True, ids=[str(more)])


@shared(2, min_age=0.1)
def test_what_rests_in_another_worker_makes_room_when_it_is_old_enough(sides: list[Houses]) -> None:
    (one, two), (three, _) = sides
    resting = [rests(one), rests(two)]
    waiting = in_greenlet(three.checkout)
    gevent.sleep(0.03)
    assert not waiting.ready()
    three.pool.checkin(waiting.get(timeout=PATIENCE))
    assert sorted(server.state for server in resting) == ["closed", "idle"], "one was enough"
    assert sum(side.quota.counts.evictions for side in sides) == 1


@shared(1, reserve=1, reserve_after=0.1)
def test_the_longest_waiting_of_all_workers_has_the_reserve(sides: list[Houses]) -> None:
    (one, two), (three, _) = sides
    server = one.checkout()
    earlier = in_greenlet(three.checkout)
    gevent.sleep(0.02)
    later = in_greenlet(two.checkout)
    gevent.sleep(0.12)
    two.pool.opening.grow(clock())  # whatever has it ask again
    taken = earlier.get(timeout=PATIENCE)
    assert not later.ready()
    three.pool.discard(taken, "the end")
    two.pool.checkin(later.get(timeout=PATIENCE))
    one.pool.checkin(server)


@shared(1)
def test_a_busy_pool_gives_way_to_another_worker(sides: list[Houses], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quota_module, "PATIENCE", 0.05)
    (one, _), (three, _) = sides
    with busy(one, 3):
        until(lambda: one.pool.queue.waiting > 0)
        three.pool.checkin(in_greenlet(three.checkout).get(timeout=PATIENCE))


@shared(1)
def test_what_its_own_pool_waits_for_in_another_worker_does_not_rest(
    sides: list[Houses], ledgers: list[Ledger], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in one process, where a server is not among the idle ones while somebody waits in its pool."""
    (one, two), (three, _) = sides
    server = rests(one)
    here, there = [each.row("pool_size", "shop") for each in ledgers]
    here.add()
    one.pool.row = here
    since = clock()
    there.line_is(1, since)
    neighbour, stranger = in_greenlet(two.checkout), in_greenlet(three.checkout)
    gevent.sleep(0.1)
    assert server.state == "idle" and not neighbour.ready() and not stranger.ready()
    monkeypatch.setattr(quota_module, "PATIENCE", clock() - since)  # nobody takes it: it is not waited for any longer
    served = neighbour.get(timeout=PATIENCE)
    assert server.state == "closed" and here.held == 0
    one.pool.row = None
    two.pool.checkin(served)
    three.pool.checkin(stranger.get(timeout=PATIENCE))


def test_a_place_is_taken_of_all_or_of_none(houses: Houses) -> None:
    full = Quota(Terms("max_user_connections", "alice", 0))
    assert not take_all((houses.quota, full), houses[0].pool)
    assert houses.quota.places.total() == 0


# By the configuration.


def config(user: int = 0, **database: Any) -> Config:
    general = General(admin_username="admin", admin_password="secret", max_user_connections=user)
    return Config(general=general, pools={"shop": PoolConfig(**{"min_connection_lifetime": 0.0, **database})})


@pytest.fixture
def three(engine: Engine) -> Iterator[list[House]]:  # noqa: F811
    """alice and bob on one database, alice on another."""
    made = [
        House(engine),
        House(engine, user="bob", server_username="bob"),
        House(engine, database="other"),
    ]
    yield made
    for house in made:
        house.pool.quota = None
        house.close()


def test_limits_come_and_go(three: list[House]) -> None:
    alice, bob, _ = three
    quotas = Quotas()
    pools = [house.pool for house in three]
    for pool in pools:
        quotas.join(pool)
        assert pool.quota is None
    quotas.govern(config(max_db_connections=1), pools)
    server = alice.checkout()
    waiting = in_greenlet(bob.checkout)
    gevent.sleep(0.02)
    assert not waiting.ready()
    quotas.govern(config(max_db_connections=2), pools)
    taken = waiting.get(timeout=PATIENCE)
    (view,) = quotas.databases()
    assert (view.database, view.max_db_connections, view.current) == ("shop", 2, 2)
    more = in_greenlet(alice.checkout)
    gevent.sleep(0.02)
    assert not more.ready()
    quotas.govern(config(), pools)
    alice.pool.checkin(more.get(timeout=PATIENCE))
    alice.pool.checkin(server)
    bob.pool.checkin(taken)
    assert not list(quotas.databases())


def test_a_server_comes_to_a_pool_whose_limit_has_gone(three: list[House], rows: list[Any]) -> None:
    """The pool was replaced while that was on its way, and had none: nobody governs it any more."""
    pool = three[0].pool
    quotas = Quotas(lambda *_: rows[0])
    quotas.govern(config(max_db_connections=1), [pool])
    pool.expect()
    assert pool.quota.left() == 0
    pool.retire("configuration was reloaded")
    quotas.govern(config(), [])
    pool.free_place()
    pool.expect()
    pool.free_place()


def test_a_limit_goes_with_the_last_pool_under_it(three: list[House]) -> None:
    alice, bob, _ = [house.pool for house in three]
    quotas = Quotas()
    quotas.govern(config(max_db_connections=1), [alice, bob])
    quotas.drop_unused([bob])
    assert [view.database for view in quotas.databases()] == ["shop"]
    quotas.drop_unused([])
    assert not list(quotas.databases())
    quotas.join(bob)
    assert [view.database for view in quotas.databases()] == ["shop"]


def test_what_is_beyond_a_lower_limit_goes_when_it_rests(three: list[House], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quota_module, "SURPLUS_REST", 0.05)
    alice, bob, _ = three
    quotas = Quotas()
    pools = [house.pool for house in three]
    quotas.govern(config(max_db_connections=3), pools)
    servers = [alice.checkout(), alice.checkout(), bob.checkout()]
    quotas.govern(config(max_db_connections=1), pools)
    bob.pool.checkin(servers.pop())
    for server in servers:
        alice.pool.checkin(server)
    until(lambda: opened(three) == 1, "as many as the limit is")
    gevent.sleep(0.15)
    assert opened(three) == 1
    quotas.govern(config(), pools)


def test_both_limits_hold(three: list[House]) -> None:
    alice, bob, other = three
    quotas = Quotas()
    pools = [house.pool for house in three]
    quotas.govern(config(user=2, max_db_connections=2), pools)
    one, two = alice.checkout(), other.checkout()
    three_waits = in_greenlet(alice.checkout)  # alice has two, though shop has room
    four = bob.checkout()
    gevent.sleep(0.1)
    assert not three_waits.ready() and opened(three) == 3
    other.pool.checkin(two)  # room for alice, none in shop
    gevent.sleep(0.1)
    assert not three_waits.ready() and two.state == "idle", "it would be closed for nothing"
    bob.pool.checkin(four)
    got = three_waits.get(timeout=PATIENCE)
    assert (two.state, four.state) == ("closed", "closed") and opened(three) == 2
    alice.pool.checkin(got)
    alice.pool.checkin(one)
    quotas.govern(config(), pools)


# Anything may happen in any order.


class Machine(RuleBasedStateMachine):
    """Pools of several users and databases under both limits, with a reserve.

    Who is served when is a matter of time, so no rule has a precondition: what is drawn goes by what was drawn before.
    """

    USER, DATABASE, RESERVE = 3, 2, 1

    def __init__(self) -> None:
        super().__init__()
        self.engine = choose("epoll")
        self.houses = [
            House(self.engine, user=user, server_username=user, database=database)
            for user in ("alice", "bob")
            for database in ("shop", "other")
        ]
        self.quotas = Quotas()
        self.lent: list[tuple[House, Any]] = []
        self.asking: list[tuple[House, Any]] = []

    @initialize(guarantee=st.integers(0, 1))
    def begin(self, guarantee: int) -> None:
        database = PoolConfig(
            max_db_connections=self.DATABASE,
            min_connection_lifetime=0.0,
            reserve_pool_size=self.RESERVE,
            reserve_pool_timeout=0.004,
            min_guaranteed_pool_size=guarantee,
        )
        general = General(admin_username="admin", admin_password="secret", max_user_connections=self.USER)
        self.quotas.govern(
            Config(general=general, pools={"shop": database, "other": database}), [one.pool for one in self.houses]
        )

    @rule(which=st.integers(0, 3))
    def ask(self, which: int) -> None:
        if len(self.asking) < 8:
            self.asking.append((self.houses[which], in_greenlet(self.houses[which].checkout)))

    @rule(which=st.integers(0, 20), fault=st.booleans())
    def give_back(self, which: int, fault: bool) -> None:
        if not self.lent:
            return
        house, server = self.lent.pop(which % len(self.lent))
        house.pool.discard(server, "a fault") if fault else house.pool.checkin(server)

    @rule(which=st.integers(0, 20))
    def withdraw(self, which: int) -> None:
        if not self.asking:
            return
        house, greenlet = self.asking.pop(which % len(self.asking))
        greenlet.kill()
        if isinstance(greenlet.value, Server):  # it came first
            self.lent.append((house, greenlet.value))

    @rule(which=st.integers(0, 3))
    def pause(self, which: int) -> None:
        pause(self.houses[which].pool)

    @rule(which=st.integers(0, 3))
    def resume(self, which: int) -> None:
        resume(self.houses[which].pool)

    @rule()
    def wait(self) -> None:
        gevent.sleep(0.005)

    @invariant()
    def never_more_than_the_limits(self) -> None:
        gevent.sleep(0)
        for house, greenlet in list(self.asking):
            if greenlet.ready():
                self.asking.remove((house, greenlet))
                self.lent.append((house, greenlet.get()))
        for database in ("shop", "other"):
            assert opened([one for one in self.houses if one.settings.database == database]) <= (
                self.DATABASE + self.RESERVE
            )
        for user in ("alice", "bob"):
            assert opened([one for one in self.houses if one.settings.user == user]) <= self.USER
        for house in self.houses:
            house.pool.check()

    def teardown(self) -> None:
        """Everybody who still waits gets one once all are given back."""
        for house in self.houses:
            resume(house.pool)

        def all_served() -> bool:
            self.never_more_than_the_limits()
            for house, server in self.lent:
                house.pool.checkin(server)
            self.lent = []
            return not self.asking

        until(all_served, "everybody is served")
        until(lambda: not any(house.pool.opening.count for house in self.houses), "nothing is being opened")
        for view in self.quotas.databases():
            assert view.current == opened([one for one in self.houses if one.settings.database == view.database])
        general = General(admin_username="admin", admin_password="secret")
        self.quotas.govern(Config(general=general, pools={}), [one.pool for one in self.houses])
        for house in self.houses:
            house.close()
        self.engine.close()


Machine.TestCase.settings = settings(
    max_examples=30, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
TestAnyOrder = Machine.TestCase
