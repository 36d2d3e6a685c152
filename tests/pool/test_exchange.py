"""What pools of the same settings in several worker processes do for each other; here the workers are one process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import gevent
import pytest
from core_fakes import PATIENCE, server_pair, until
from pool.test_pool import House, busy, engine, in_greenlet  # noqa: F401 - a fixture

from pgdoorman_lib.errors import CheckoutTimeout
from pgdoorman_lib.net.engine import Engine
from pgdoorman_lib.net.syscalls import clock
from pgdoorman_lib.pool import exchange as exchange_module
from pgdoorman_lib.pool import pool as pool_module
from pgdoorman_lib.pool.exchange import MADE_ROOM, Exchange
from pgdoorman_lib.pool.holding import pause, renew
from pgdoorman_lib.pool.ledger import Ledger
from pgdoorman_lib.pool.quota import Quota
from pgdoorman_lib.pool.resting import sweep
from pgdoorman_lib.pool.row import DEMAND, PARTS, WIDTH
from pgdoorman_lib.pool.terms import Terms
from pgdoorman_lib.server.connection import Server


class Side(House):
    """The pool of worker ``number``, whose servers go to the ``others`` by a greenlet that takes its time."""

    def __init__(self, engine: Engine, ledger: Ledger, number: int, others: dict[int, Side], **changes: Any) -> None:  # noqa: F811
        super().__init__(engine, **changes)
        self.ledger = Ledger.join([os.dup(fd) for fd in ledger.descriptors()], number)
        self.others = others
        self.sent: list[int] = []
        #: seconds for either half of the way
        self.way = 0.001
        self.refuses = False
        self.exchange = Exchange(self.pool, self.ledger.row("pool"), self.send, lambda exchange: None)
        self.pool.share(self.exchange, self.ledger.row("pinned"))
        self.ledger.listen()
        others[number] = self

    def send(self, exchange: Exchange, server: Server, worker: int, claimed: int) -> None:
        self.sent.append(worker)
        gevent.spawn(self.move, exchange, server, worker, claimed)

    def move(self, exchange: Exchange, server: Server, worker: int, claimed: int) -> None:
        other = self.others[worker]
        gevent.sleep(self.way)
        if other.refuses or other.pool.held:
            exchange.stayed(server, worker, claimed)
            return
        other.pool.expect()
        other.pool.set_aside(1)
        gevent.sleep(self.way)
        # The connection is the same one in both: only the books change hands.
        exchange.row.unclaim(worker, claimed)
        exchange.row.set_aside(-1, self.pool.queue.qsize())
        self.pool.borrowed -= 1
        self.pool.servers.discard(server)
        self.pool.free_place()
        other.peers[server] = self.peers.pop(server)
        other.pool.adopt(server)
        other.pool.settle(server)
        other.pool.set_aside(-1)

    def ask(self) -> Any:
        """A client that wants a server: a greenlet."""
        return in_greenlet(self.checkout)

    def close(self) -> None:
        super().close()
        self.ledger.close()


Sides = tuple[Side, Side]


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """However busy the machine is, what rests elsewhere comes in time."""
    monkeypatch.setattr(exchange_module, "GRACE", PATIENCE)


@pytest.fixture
def sides(request: pytest.FixtureRequest, engine: Engine) -> Iterator[Sides]:  # noqa: F811
    ledger = Ledger.create(2)
    others: dict[int, Side] = {}
    made = [Side(engine, ledger, number, others, **getattr(request, "param", {})) for number in (1, 2)]
    yield made[0], made[1]
    for side in made:
        until(lambda side=side: side.exchange.row.total() == total(made), "books that agree")  # type: ignore[misc]
        until(lambda side=side: not (side.exchange.row.aside or side.pool.aside), "nothing under way")  # type: ignore[misc]
    for side in made:
        side.refuses = True
        side.pool.check()
        side.close()
    assert ledger.rows_in_use() == 0
    ledger.close()


def total(sides: list[Side]) -> int:
    return sum(len(side.pool.servers) + side.pool.opening.count for side in sides)


def sized(**changes: Any) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("sides", [changes], indirect=True, ids=[str(changes)])


def got(greenlet: Any) -> Server:
    server: Server = greenlet.get(timeout=PATIENCE)
    return server


@sized(pool_size=2)
def test_all_have_one_size(sides: Sides) -> None:
    one, two = sides
    first, second = got(one.ask()), got(two.ask())
    waiting = one.ask()
    gevent.sleep(0.05)
    assert not waiting.ready() and one.attempts == two.attempts == 1
    two.pool.discard(second, "a fault")
    assert got(waiting) is not first and one.attempts == 2


@sized(pool_size=2)
def test_what_failed_to_open_takes_no_place(sides: Sides) -> None:
    one, two = sides
    one.gate.clear()
    failing = [one.ask(), one.ask()]
    until(lambda: one.connecting == 2)
    waiting = two.ask()
    gevent.sleep(0.03)
    assert two.attempts == 0
    one.fail = lambda: RuntimeError("no luck")
    one.engine.hub.NOT_ERROR = (RuntimeError,)
    one.gate.set()
    got(waiting)
    gevent.killall(failing)


@sized(pool_size=2)
def test_one_at_rest_elsewhere_comes_before_one_is_opened(sides: Sides) -> None:
    one, two = sides
    server = got(one.ask())
    one.pool.checkin(server)
    assert got(two.ask()) is server
    assert two.attempts == 0 and one.sent == [2]
    assert (two.exchange.row.held, one.exchange.row.held) == (1, 0)


@sized(pool_size=2)
def test_one_that_does_not_come_is_not_waited_for(sides: Sides, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange_module, "GRACE", 0.02)
    one, two = sides
    server = got(one.ask())
    one.pool.checkin(server)
    one.exchange.row.heard = None
    began = clock()
    assert got(two.ask()) is not server
    assert clock() - began >= exchange_module.GRACE and two.attempts == 1
    assert two.exchange._deadline.due == 0.0


@sized(pool_size=2)
def test_more_wait_than_rest_elsewhere(sides: Sides) -> None:
    one, two = sides
    server = got(one.ask())
    one.pool.checkin(server)
    waiting = [two.ask(), two.ask()]
    assert {got(each) for each in waiting} > {server} and two.attempts == 1


@sized(pool_size=2)
def test_one_is_opened_where_servers_would_be_sent_to_and_fro(sides: Sides) -> None:
    one, two = sides
    for _ in range(exchange_module.CALLS + 5):
        for side in sides:
            side.pool.checkin(got(side.ask()))
    assert one.attempts + two.attempts == 2 and len(one.sent) + len(two.sent) <= 2 * exchange_module.CALLS + 2


@sized(pool_size=1, query_wait_timeout=0.0)
def test_where_there_is_no_waiting_what_rests_elsewhere_is_waited_for(
    sides: Sides, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = sides
    server = got(one.ask())
    with pytest.raises(CheckoutTimeout):
        two.checkout()
    one.pool.checkin(server)
    assert got(two.ask()) is server
    two.pool.checkin(server)
    two.exchange.row.heard = None
    monkeypatch.setattr(pool_module, "MOVING_SECONDS", 0.05)
    with pytest.raises(CheckoutTimeout):
        one.checkout()
    two.exchange.row.heard = two.exchange.heard


@sized(pool_size=1, query_wait_timeout=0.0)
@pytest.mark.parametrize("often", [False, True])
def test_where_there_is_no_waiting_a_slow_worker_refuses_nobody(
    sides: Sides, monkeypatch: pytest.MonkeyPatch, often: bool
) -> None:
    """Its server is called until it comes, and waited for on its way, be it that servers have gone to and fro."""
    monkeypatch.setattr(exchange_module, "GRACE", 0.01)
    one, two = sides
    server = got(one.ask())
    one.pool.checkin(server)
    one.exchange.row.heard = None
    one.way = 0.1
    if often:
        monkeypatch.setattr(exchange_module, "CALLS", 0)
    waiting = two.ask()
    gevent.sleep(0.1)
    one.exchange.row.heard = one.exchange.heard
    assert got(waiting) is server


@sized(pool_size=1, query_wait_timeout=0.0)
def test_where_there_is_no_waiting_what_comes_to_another_worker_is_waited_for(sides: Sides) -> None:
    """In an upgrade: it counts before it comes to the other worker, and there until it can be lent."""
    one, two = sides
    one.pool.count_elsewhere(1)
    waiting = two.ask()
    one.pool.expect()
    one.pool.set_aside(1)
    one.pool.count_elsewhere(0)
    gevent.sleep(0.1)
    assert not waiting.ready()
    server, one.peers[server] = server_pair(one.engine, one.settings)
    one.pool.adopt(server)
    one.pool.settle(server)
    one.pool.set_aside(-1)
    assert got(waiting) is server
    one.pool.count_elsewhere(1)
    also = one.ask()
    gevent.sleep(0.05)
    assert not also.ready()
    one.pool.count_elsewhere(0)  # it was closed there
    with pytest.raises(CheckoutTimeout):
        got(also)


@sized(pool_size=1)
def test_who_has_waited_much_longer_is_next(sides: Sides) -> None:
    one, two = sides
    server = got(one.ask())
    abroad = two.ask()
    gevent.sleep(0.03)
    here = one.ask()
    gevent.sleep(0.001)
    one.pool.engine.now = clock()
    one.pool.checkin(server)
    assert got(abroad) is server and not here.ready()
    two.pool.checkin(server)
    assert got(here) is server


@sized(pool_size=1)
def test_who_has_waited_little_longer_waits_on(sides: Sides) -> None:
    one, two = sides
    server = got(one.ask())
    abroad = two.ask()
    here = one.ask()
    now = one.pool.engine.now = clock()
    # By as much, however long this machine takes for it.
    two.exchange.row.line_is(1, now - 0.24)
    one.pool.queue.first.waiting_since = now - 0.2  # type: ignore[union-attr]
    one.pool.checkin(server)
    assert got(here) is server and not one.sent
    one.pool.checkin(server)
    assert got(abroad) is server, "nobody else waits here"


def rests_while_another_waits(sides: Sides) -> tuple[Server, Any]:
    """A server comes to rest at the first side, of its share of two, while somebody waits at the other."""
    one, two = sides
    servers = [got(side.ask()) for side in sides for _ in range(2)]
    row = one.exchange.row
    row.cells[row.worker * WIDTH + DEMAND] = 3 * PARTS  # there were as many here a moment ago
    abroad = two.ask()
    one.pool.engine.now = clock()
    one.pool.checkin(servers[0])
    return servers[0], abroad


@sized(pool_size=4)
def test_one_that_has_just_come_to_rest_stays_where_it_may_be_needed(
    sides: Sides, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both have two servers, as is their share: none goes before it has rested for long."""
    monkeypatch.setattr(exchange_module, "UNUSED_MARGINS", 1000)
    monkeypatch.setattr(exchange_module, "UNUSED", 0.2)
    one, _ = sides
    server, abroad = rests_while_another_waits(sides)
    gevent.sleep(0.05)
    assert server.state == "idle" and not abroad.ready() and not one.sent
    assert got(one.ask()) is server
    one.pool.engine.now = began = clock()
    one.pool.checkin(server)
    assert got(abroad) is server and clock() - began >= 0.2
    assert one.exchange._look.due == 0.0


@sized(pool_size=4)
def test_one_that_has_just_come_to_rest_goes_to_who_has_waited_for_long(
    sides: Sides, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a move has once taken long, it would rest here for a second before it is taken for unneeded."""
    monkeypatch.setattr(exchange_module, "GRACE", 0.02)
    monkeypatch.setattr(exchange_module, "UNUSED_MARGINS", 10**6)
    monkeypatch.setattr(exchange_module, "UNUSED", 3600.0)
    server, abroad = rests_while_another_waits(sides)
    assert got(abroad) is server


@sized(pool_size=4)
def test_one_more_than_a_share_goes_when_it_has_rested_for_a_moment(sides: Sides) -> None:
    one, two = sides
    servers = [got(one.ask()) for _ in range(3)]
    got(two.ask())
    abroad = [two.ask() for _ in range(3)]
    one.pool.engine.now = clock()
    one.pool.checkin(servers[0])
    assert servers[0].state == "idle"
    assert got(abroad[0]) is servers[0]
    assert one.sent == [2]


@sized(pool_size=1)
def test_one_that_is_refused_stays_and_is_not_offered_again_at_once(sides: Sides) -> None:
    one, two = sides
    two.refuses = True
    server = got(one.ask())
    waiting = two.ask()
    one.pool.checkin(server)
    until(lambda: one.sent == [2] and server.state == "idle", "its return")
    assert got(one.ask()) is server
    one.pool.checkin(server)
    assert one.sent == [2] and not waiting.ready()
    two.refuses = False
    one.exchange._shunned.clear()
    sweep(one.pool, clock())
    assert got(waiting) is server


@sized(pool_size=1)
def test_a_paused_pool_sends_nothing(sides: Sides) -> None:
    one, two = sides
    server = got(one.ask())
    waiting = two.ask()
    pause(one.pool)
    one.pool.checkin(server)
    assert server.state == "closed" and not one.sent
    got(waiting)


@sized(pool_size=1)
def test_one_that_comes_back_to_a_paused_pool_is_closed(sides: Sides) -> None:
    one, two = sides
    server = got(one.ask())
    waiting = two.ask()
    two.refuses = True
    one.pool.checkin(server)
    pause(one.pool)
    until(lambda: server.state == "closed", "its end")
    got(waiting)


@sized(pool_size=1)
def test_one_told_to_go_while_under_way_is_closed_where_it_stays(sides: Sides) -> None:
    one, two = sides
    server = got(one.ask())
    waiting = two.ask()
    two.refuses = True
    one.pool.checkin(server)
    renew(one.pool)
    until(lambda: server.state == "closed", "its end")
    assert one.pool.opening.renewed_at > server.created_at
    got(waiting)


@pytest.mark.parametrize("what", ["dirty", "cancels", "condemned"])
@sized(pool_size=1)
def test_what_is_not_in_order_does_not_go(sides: Sides, what: str) -> None:
    one, two = sides
    server = got(one.ask())
    waiting = two.ask()
    if what == "condemned":
        server.condemn("a test")
    else:
        setattr(server, what, 1)
    assert not one.exchange.goes_over(server, 2) and not one.sent
    server.cancels = 0
    one.pool.discard(server, "the end of it")
    got(waiting)


@sized(pool_size=1)
def test_one_that_is_refused_makes_room_for_who_has_waited_for_long(
    sides: Sides, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pool there has other settings, for example: nothing else happens that would have it looked at again."""
    monkeypatch.setattr(exchange_module, "PATIENCE", 0.05)
    monkeypatch.setattr(exchange_module, "SHUNNED", 0.05)
    one, two = sides
    two.refuses = True
    server = got(one.ask())
    waiting = two.ask()
    one.pool.checkin(server)
    until(lambda: one.sent == [2] and server.state == "idle", "its return")
    assert not waiting.ready(), "not at once"
    assert got(waiting) is not server and server.state == "closed"
    assert one.sent == [2, 2]


@sized(pool_size=1, forget_option_names=True)
def test_what_can_t_go_makes_room_for_who_has_waited_for_long(sides: Sides, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange_module, "PATIENCE", 0.05)
    one, two = sides
    server = got(one.ask())
    waiting = two.ask()
    one.pool.checkin(server)
    gevent.sleep(0.02)
    assert server.state == "idle" and not waiting.ready(), "not at once"
    gevent.sleep(0.05)
    sweep(one.pool, clock())
    assert server.state == "closed"
    got(waiting)


@sized(pool_size=1, forget_option_names=True)
def test_a_busy_worker_leaves_the_place_it_has_made_to_who_has_waited(
    sides: Sides, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(exchange_module, "PATIENCE", 0.05)
    caplog.set_level("INFO")
    one, two = sides
    with busy(one, 4):
        until(lambda: one.pool.queue.waiting > 1)
        server = got(two.ask())
        assert caplog.text.count(MADE_ROOM) == 1
        two.pool.checkin(server)

        def given_up() -> bool:
            sweep(two.pool, clock())
            return two.pool.idle_count == 0

        until(given_up)


@sized(pool_size=5, min_pool_size=2)
def test_the_warm_minimum_is_one_for_all(sides: Sides) -> None:
    for _ in range(3):
        for side in sides:
            sweep(side.pool, clock())
            gevent.sleep(0.01)
    assert sum(side.attempts for side in sides) == 2


ONE = Terms("max_user_connections", "alice", 1)


def test_a_limit_of_one_user_is_one_for_all(engine: Engine, sides: Sides) -> None:  # noqa: F811
    """Pools of several databases, and of several workers."""
    one, two = sides
    quotas = [Quota(ONE, side.ledger.row("user", "alice")) for side in sides]
    other = Side(engine, two.ledger, 2, {}, database="another")
    other.exchange.row.leave()
    other.pool.row = other.pool.queue.row = other.pool.exchange = None
    for quota, pool in zip(quotas, (one.pool, other.pool), strict=True):
        quota.join(pool)
        pool.quota = quota
    server = got(one.ask())
    waiting = other.ask()
    gevent.sleep(0.03)
    assert other.attempts == 0
    one.pool.checkin(server)
    taken = got(waiting)
    assert server.state == "closed", "it rested, and another has taken its place"
    back = one.ask()
    gevent.sleep(0.03)
    assert not back.ready()
    other.pool.checkin(taken)
    got(back)
    for quota in quotas:
        quota.end()
    one.pool.quota = other.pool.quota = None
    other.close()


def test_who_waits_no_longer_for_a_place_of_a_user_takes_none(engine: Engine, sides: Sides) -> None:  # noqa: F811
    """Others would close servers for nobody: they look when one of theirs rests."""
    one, two = sides
    rows = [side.ledger.row("user", "alice") for side in sides]
    quotas = [Quota(ONE, row) for row in rows]
    for quota, side in zip(quotas, sides, strict=True):
        side.exchange.row.leave()
        side.pool.row = side.pool.queue.row = side.pool.exchange = None
        quota.join(side.pool)
        side.pool.quota = quota

    def waits(side: Side) -> Any:
        waiting = side.ask()
        until(lambda: rows[0].oldest_elsewhere() > 0)
        return waiting

    server = got(one.ask())
    waiting = waits(two)
    one.pool.checkin(server)
    taken = got(waiting)
    assert rows[0].oldest_elsewhere() == 0, "a server was opened for it"
    waiting = waits(two)
    two.pool.checkin(taken)
    taken = got(waiting)
    assert rows[0].oldest_elsewhere() == 0, "it was handed one"
    waiting = waits(two)
    waiting.kill()
    assert rows[0].oldest_elsewhere() == 0, "it has left"
    two.pool.discard(taken, "the end")
    for quota in quotas:
        quota.end()
    one.pool.quota = two.pool.quota = None
