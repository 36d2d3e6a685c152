"""A pool's books, queue, growth and back-off, with servers that are socket pairs."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import gevent
import pytest
from core_fakes import PATIENCE, Settings, running, server_pair, until
from gevent.event import Event
from pace import patience

from pgdoorman_lib.errors import (
    CheckoutTimeout,
    DoormanError,
    LocalResourcesExhausted,
    ServerRefused,
    ServerUnavailable,
)
from pgdoorman_lib.net.engine import Engine, Task
from pgdoorman_lib.net.syscalls import clock
from pgdoorman_lib.pool import pool as pool_module
from pgdoorman_lib.pool.beginnings import Told
from pgdoorman_lib.pool.opening import BACKOFF_FIRST, BACKOFF_LAST, BACKOFF_LAST_OF_SEVERAL
from pgdoorman_lib.pool.pool import Pool
from pgdoorman_lib.pool.queue import Borrower, Moved
from pgdoorman_lib.pool.registry import Pools
from pgdoorman_lib.pool.resting import sweep
from pgdoorman_lib.server.connection import Server
from pgdoorman_lib.wire import messages


@pytest.fixture
def engine() -> Iterator[Engine]:
    with running("epoll") as made:
        yield made


class House:
    """A pool, its servers' far ends, and switches for what goes wrong."""

    def __init__(self, engine: Engine, **changes: Any) -> None:
        self.engine = engine
        self.settings = Settings(**changes)
        self.peers: dict[Server, Any] = {}
        self.closed: list[Any] = []
        self.gate = Event()
        self.gate.set()
        self.connecting = 0
        self.most_connecting = 0
        self.attempts = 0
        self.fail: Callable[[], BaseException | None] = lambda: None
        self.tidied: list[Server] = []
        self.pool = Pool(self.settings, engine, self.connect, self.tidy)

    def connect(self, pool: Pool) -> Server:
        self.attempts += 1
        self.connecting += 1
        self.most_connecting = max(self.most_connecting, self.connecting)
        try:
            self.gate.wait(PATIENCE)
            gevent.sleep(0)
            error = self.fail()
            if error is not None:
                raise error
        finally:
            self.connecting -= 1
        server, peer = server_pair(self.engine, self.settings)
        self.peers[server] = peer
        return server

    def tidy(self, pool: Pool, server: Server) -> None:
        """A janitor that takes a turn of the hub."""
        self.tidied.append(server)

        def clean() -> None:
            gevent.sleep(0)
            server.dirty = 0
            if server.is_reusable():
                pool.settle(server)
            else:
                pool.discard(server, "could not be cleaned")

        gevent.spawn(clean)

    def checkout(self) -> Server:
        borrower = Borrower()
        borrower.task = Task(self.engine)
        return self.pool.checkout(borrower)

    def close(self) -> None:
        self.gate.set()
        self.pool.retire("the end")
        until(lambda: not self.pool.opening.count, "opening")
        for server in list(self.pool.servers):
            self.pool.discard(server, "the end")
        self.pool.check()
        assert not self.pool.servers and not self.pool.queue.waiting
        assert self.pool.expiry.due == self.pool.opening.retry.due == 0.0
        for peer in self.peers.values():
            peer.close()


@pytest.fixture
def house(request: pytest.FixtureRequest, engine: Engine) -> Iterator[House]:
    made = House(engine, **getattr(request, "param", {}))
    yield made
    made.close()


def sized(**changes: Any) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("house", [changes], indirect=True, ids=[str(changes)])


def in_greenlet(function: Callable[..., Any], *arguments: Any) -> Any:
    greenlet = gevent.spawn(function, *arguments)
    gevent.sleep(0)
    return greenlet


@contextmanager
def busy(house: House, clients: int) -> Iterator[None]:
    """Meanwhile so many clients hand the servers of ``house`` to each other, so that none ever rests."""
    done: list[int] = []

    def work() -> None:
        while not done:
            server = house.checkout()
            gevent.sleep(0.001)
            house.pool.checkin(server)

    working = [gevent.spawn(work) for _ in range(clients)]
    try:
        yield
    finally:
        done.append(1)
        gevent.joinall(working, timeout=PATIENCE, raise_error=True)


# Lending.


def test_a_server_is_opened_lent_and_lent_again(house: House) -> None:
    server = house.checkout()
    assert (house.pool.idle_count, house.pool.borrowed_count, server.state) == (0, 1, "active")
    house.pool.check()
    house.pool.checkin(server)
    assert (house.pool.idle_count, house.pool.borrowed_count, server.state) == (1, 0, "idle")
    assert server.stream.task is None
    assert house.checkout() is server
    house.pool.checkin(server)
    assert house.attempts == 1


def borrow(house: House, count: int) -> list[Server]:
    return [house.checkout() for _ in range(count)]


def test_last_in_first_out(house: House) -> None:
    first, second = borrow(house, 2)
    house.pool.checkin(first)
    house.pool.checkin(second)
    assert house.checkout() is second
    house.pool.checkin(second)


@sized(server_round_robin=True)
def test_round_robin(house: House) -> None:
    first, second = borrow(house, 2)
    house.pool.checkin(first)
    house.pool.checkin(second)
    assert house.checkout() is first
    house.pool.checkin(first)
    assert house.checkout() is second
    house.pool.checkin(second)


@sized(pool_size=1)
def test_first_come_first_served(house: House) -> None:
    server = house.checkout()
    served: list[int] = []

    def customer(number: int) -> None:
        got = house.checkout()
        served.append(number)
        gevent.sleep(0)
        house.pool.checkin(got)

    customers = [in_greenlet(customer, number) for number in range(10)]
    assert house.pool.waiting_count == 10
    house.pool.checkin(server)
    gevent.joinall(customers, timeout=PATIENCE, raise_error=True)
    assert served == list(range(10))


@sized(pool_size=1)
def test_a_waiter_that_left_is_skipped(house: House) -> None:
    server = house.checkout()
    gone, stays = in_greenlet(house.checkout), in_greenlet(house.checkout)
    gone.kill()
    house.pool.check()
    assert house.pool.waiting_count == 1
    house.pool.checkin(server)
    assert stays.get(timeout=PATIENCE) is server
    house.pool.checkin(server)


@sized(pool_size=1)
def test_killed_between_hand_over_and_waking_up(house: House) -> None:
    server = house.checkout()
    waiter, second = in_greenlet(house.checkout), in_greenlet(house.checkout)
    house.engine.loop.run_callback(waiter.throw, gevent.GreenletExit)
    house.pool.checkin(server)
    assert house.pool.waiting_count == 1, "handed over, not yet awake"
    assert second.get(timeout=PATIENCE) is server
    house.pool.checkin(server)
    house.pool.check()


def request(house: House) -> Borrower:
    borrower = Borrower()
    borrower.task = Task(house.engine)
    house.pool.request(borrower)
    return borrower


@sized(pool_size=1)
def test_a_waiter_that_leaves_is_passed_over(house: House) -> None:
    server = house.checkout()
    leaves = request(house)
    second = in_greenlet(house.checkout)
    house.pool.withdraw(leaves)
    house.pool.checkin(server)
    assert leaves.assigned is None
    assert second.get(timeout=PATIENCE) is server
    house.pool.checkin(server)


@sized(pool_size=1)
def test_a_waiter_that_leaves_with_the_server_in_its_hands(house: House) -> None:
    server = house.checkout()
    leaves = request(house)
    second = in_greenlet(house.checkout)
    house.pool.checkin(server)
    assert leaves.assigned is server
    house.pool.withdraw(leaves)
    assert leaves.assigned is None
    assert second.get(timeout=PATIENCE) is server
    house.pool.checkin(server)
    house.pool.check()


def test_discard_twice_counts_once(house: House) -> None:
    server = house.checkout()
    house.pool.discard(server, "first")
    house.pool.discard(server, "second")
    house.pool.check()
    assert house.pool.borrowed_count == 0


def test_a_connection_for_a_while(house: House) -> None:
    with house.pool.connection() as server:
        assert server.state == "active"
    with pytest.raises(KeyError), house.pool.connection():
        raise KeyError
    house.pool.check()
    assert house.pool.idle_count == 1


# Timeouts.


@sized(pool_size=1, query_wait_timeout=0.02)
def test_waiting_has_an_end(house: House) -> None:
    server = house.checkout()
    begun = clock()
    with pytest.raises(CheckoutTimeout):
        house.checkout()
    assert 0.015 < clock() - begun < patience(2)
    assert house.pool.waiting_count == 0
    house.pool.checkin(server)
    house.pool.check()


@sized(pool_size=1, query_wait_timeout=0)
def test_no_waiting_at_all(house: House) -> None:
    server = house.checkout()  # opening a connection is no waiting for others
    with pytest.raises(CheckoutTimeout):
        house.checkout()
    house.pool.checkin(server)
    assert house.checkout() is server
    house.pool.checkin(server)


@sized(pool_size=1, query_wait_timeout=0.02)
@pytest.mark.parametrize("allowed", [0.0, 0.02])
def test_what_comes_from_another_process_is_waited_for_longer(
    house: House, allowed: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not until it is in use, or nobody knows where it is."""
    house.pool.limit_wait(allowed)
    house.pool.count_elsewhere(1)
    waiting = in_greenlet(house.checkout)
    house.pool.set_aside(1)
    server, house.peers[server] = server_pair(house.engine, house.settings)
    house.pool.adopt(server)
    house.pool.count_elsewhere(0)
    gevent.sleep(0.1)
    assert not waiting.ready()
    house.pool.settle(server)
    house.pool.set_aside(-1)
    assert waiting.get(timeout=PATIENCE) is server
    house.pool.count_elsewhere(1)
    monkeypatch.setattr(pool_module, "MOVING_SECONDS", 0.1)
    with pytest.raises(CheckoutTimeout):
        in_greenlet(house.checkout).get(timeout=PATIENCE)
    house.pool.checkin(server)
    house.pool.count_elsewhere(0)


@sized(pool_size=1, query_wait_timeout=0)
def test_an_errand_of_ours_has_no_client_refused(house: House) -> None:
    with house.pool.connection() as server:
        waiting = in_greenlet(house.checkout)
        gevent.sleep(0.05)
        assert not waiting.ready()
        with pytest.raises(CheckoutTimeout):
            house.checkout()  # for whom there is none behind the first
    assert waiting.get(timeout=PATIENCE) is server
    with pytest.raises(CheckoutTimeout):
        house.checkout()
    house.pool.checkin(server)


@sized(pool_size=1, query_wait_timeout=0)
def test_a_limit_of_waiting_that_changes_holds_for_who_waits(house: House) -> None:
    server = house.checkout()
    house.pool.limit_wait(PATIENCE)
    waiting = in_greenlet(house.checkout)
    gevent.sleep(0.05)
    assert not waiting.ready()
    house.pool.limit_wait(0.0)
    with pytest.raises(CheckoutTimeout):
        waiting.get(timeout=PATIENCE)
    house.pool.checkin(server)


@sized(pool_size=3, query_wait_timeout=0, scaling_max_parallel_creates=1)
def test_no_waiting_for_the_second_of_a_burst(house: House) -> None:
    house.gate.clear()
    first = in_greenlet(house.checkout)
    with pytest.raises(CheckoutTimeout):
        house.checkout()
    house.gate.set()
    house.pool.checkin(first.get(timeout=PATIENCE))


@sized(query_wait_timeout=0)
def test_no_waiting_and_no_server(house: House) -> None:
    house.fail = lambda: ServerUnavailable("connection refused")
    with gevent.Timeout(PATIENCE), pytest.raises(ServerUnavailable):
        house.checkout()


@sized(query_wait_timeout=0.1)
def test_the_reason_is_told_when_no_server_can_be_reached(house: House) -> None:
    house.fail = lambda: ServerUnavailable("connection refused")
    with pytest.raises(ServerUnavailable) as caught:
        house.checkout()
    assert "connection refused" in caught.value.message
    assert caught.value.sqlstate == "08006"


@sized(query_wait_timeout=0.1)
def test_our_own_exhaustion_is_not_the_servers_fault(house: House) -> None:
    house.fail = lambda: LocalResourcesExhausted("too many open files")
    with pytest.raises(LocalResourcesExhausted):
        house.checkout()


# Growing.


@sized(pool_size=10, scaling_max_parallel_creates=2)
def test_a_burst_opens_a_few_at_a_time(house: House) -> None:
    done = []

    def customer() -> None:
        server = house.checkout()
        gevent.sleep(0)
        house.pool.checkin(server)
        done.append(1)

    house.gate.clear()
    customers = [in_greenlet(customer) for _ in range(50)]
    assert house.pool.opening_count == 2 and house.pool.waiting_count == 50
    house.gate.set()
    gevent.joinall(customers, timeout=PATIENCE, raise_error=True)
    assert len(done) == 50
    assert house.most_connecting == 2
    assert len(house.pool.servers) <= 10
    house.pool.check()


@sized(pool_size=2)
def test_never_more_than_its_size(house: House) -> None:
    servers = borrow(house, 2)
    waiting = [in_greenlet(house.checkout) for _ in range(3)]
    gevent.sleep(0.01)
    assert house.attempts == 2 and house.pool.waiting_count == 3
    gevent.killall(waiting)
    for server in servers:
        house.pool.checkin(server)


def test_a_discarded_server_is_replaced_for_those_who_wait(house: House) -> None:
    servers = borrow(house, 3)
    waiting = in_greenlet(house.checkout)
    house.pool.discard(servers.pop(), "broken")
    servers.append(waiting.get(timeout=PATIENCE))
    assert house.attempts == 4
    for server in servers:
        house.pool.checkin(server)


def test_failures_back_off_and_one_tries_for_all(house: House) -> None:
    pauses = []

    def fail() -> BaseException | None:
        pauses.append(house.pool.opening.backoff)
        return ServerUnavailable("connection refused") if house.attempts < 3 else None

    house.fail = fail
    waiting = [in_greenlet(house.checkout) for _ in range(3)]
    until(lambda: house.pool.beginnings.reported is not None)
    assert pauses[:3] == [0, BACKOFF_FIRST, 2 * BACKOFF_FIRST]
    for greenlet in waiting:
        house.pool.checkin(greenlet.get(timeout=PATIENCE))
    assert house.pool.opening.backoff == 0 and house.pool.opening.last_error is None


@pytest.mark.parametrize(("urls", "last"), [((), BACKOFF_LAST), (("http://p:8008",), BACKOFF_LAST_OF_SEVERAL)])
def test_where_another_host_may_take_over_it_is_tried_more_often(
    engine: Engine, urls: tuple[str, ...], last: float
) -> None:
    house = House(engine, patroni_api_urls=urls)
    for _ in range(10):
        house.pool.opening._failed(ServerUnavailable("connection refused"))
    assert house.pool.opening.backoff == last
    house.pool.retire("the end")


@sized(query_wait_timeout=0.4)
def test_a_dead_server_is_not_hammered(house: House) -> None:
    house.fail = lambda: ServerUnavailable("connection refused")
    customers = [in_greenlet(house.checkout) for _ in range(20)]
    gevent.joinall(customers, timeout=PATIENCE)
    assert all(isinstance(customer.exception, ServerUnavailable) for customer in customers)
    assert house.attempts <= 8


def refused(sqlstate: str) -> ServerRefused:
    return ServerRefused("no", sqlstate=sqlstate)


def test_a_refusal_for_good_is_told_at_once(house: House) -> None:
    house.fail = lambda: refused("28P01")
    customers = [in_greenlet(house.checkout) for _ in range(5)]
    gevent.joinall(customers, timeout=PATIENCE)
    assert [customer.exception.sqlstate for customer in customers] == ["28P01"] * 5


def test_a_passing_refusal_is_waited_out(house: House) -> None:
    house.fail = lambda: refused("57P03") if house.attempts < 2 else None
    house.pool.checkin(house.checkout())
    assert house.attempts == 2


def test_a_bug_in_connecting_leaves_the_books_right(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gevent.get_hub(), "handle_error", lambda *arguments: None)
    house.fail = lambda: ZeroDivisionError() if house.attempts < 2 else None
    waiting = in_greenlet(house.checkout)
    until(lambda: not house.pool.opening.count)
    house.pool.check()
    house.pool.opening.grow(clock())
    house.pool.checkin(waiting.get(timeout=PATIENCE))


# What comes back.


def test_a_server_that_is_not_quiet_is_closed(house: House) -> None:
    server = house.checkout()
    server.replies.status = 0x54
    house.pool.checkin(server)
    assert server.stream.closed and not house.pool.servers
    assert house.peers[server].recv(100) == messages.terminate()


def test_a_dirty_server_is_cleaned_first(house: House) -> None:
    server = house.checkout()
    server.dirty = 1
    house.pool.checkin(server)
    assert house.tidied == [server] and house.pool.borrowed_count == 1 and server.state == "cleaning"
    until(lambda: house.pool.idle_count == 1)


def test_a_server_with_a_cancel_on_its_way_is_not_lent(house: House) -> None:
    server = house.checkout()
    server.cancels = 1
    house.pool.checkin(server)
    assert house.tidied == [server] and server.state == "cleaning"
    server.cancels = 0
    until(lambda: house.pool.idle_count == 1)


def test_an_old_server_is_replaced(house: House) -> None:
    server = house.checkout()
    waiting = None
    server.expires_at = clock() - 1
    gevent.sleep(0)
    house.engine.now = clock()
    house.pool.checkin(server)
    assert server.stream.closed and waiting is None
    house.pool.check()


@sized(server_idle_check_timeout=0.001)
def test_a_server_long_at_rest_is_asked_first(house: House) -> None:
    server = house.checkout()
    house.pool.checkin(server)
    server.idle_since -= 10
    assert house.checkout() is server
    assert house.tidied == [server]
    house.pool.checkin(server)


# At rest.


def test_a_connection_lost_at_rest_is_noticed_at_once(house: House) -> None:
    server = house.checkout()
    house.pool.checkin(server)
    house.peers[server].close()
    until(lambda: not house.pool.servers)
    house.pool.check()


def test_a_connection_lost_at_rest_is_not_lent(house: House) -> None:
    server = house.checkout()
    house.pool.checkin(server)
    server.stream.hangup = 1  # told by the kernel in this very turn
    other = house.checkout()
    assert other is not server and server.stream.closed
    house.pool.checkin(other)


@pytest.mark.parametrize(
    ("data", "stays"),
    [
        (messages.notice_response("NOTICE", "00000", "x"), True),
        (messages.parameter_status("TimeZone", "UTC"), True),
        (b"A\0\0\0\x0c\0\0\0\1a\0b\0", True),
        (messages.parameter_status("TimeZone", "UTC")[:7], True),
        (messages.error_response("FATAL", "57P01", "terminating"), False),
        (messages.ready_for_query(), False),
        (b"\xff\xff\xff\xff\xff\xff", False),
    ],
)
def test_asides_at_rest(house: House, data: bytes, stays: bool) -> None:
    server = house.checkout()
    house.pool.checkin(server)
    house.peers[server].sendall(data)
    until(lambda: server.stream.received == len(data) or server.stream.closed)
    assert (server in house.pool.servers) is stays
    house.pool.check()
    if stays and len(data) > 7 and data[:1] == b"S":
        assert server.reported.values["TimeZone"] == "UTC" and server.stream.block is None


@sized(idle_timeout=5.0, min_pool_size=1, pool_size=3)
def test_sweep(house: House) -> None:
    servers = borrow(house, 3)
    for server in servers:
        house.pool.checkin(server)
        server.idle_since -= 10
    sweep(house.pool, clock())
    assert len(house.pool.servers) == 1, "the warm minimum stays"
    (last,) = house.pool.servers
    last.expires_at = 0
    sweep(house.pool, clock())
    until(lambda: house.pool.idle_count == 1)
    assert last.stream.closed and last not in house.pool.servers


@sized(min_pool_size=3, pool_size=3, scaling_max_parallel_creates=2)
def test_the_warm_minimum_is_opened_a_few_at_a_time(house: House) -> None:
    house.gate.clear()
    sweep(house.pool, clock())
    assert house.pool.opening_count == 2
    house.gate.set()
    until(lambda: house.pool.idle_count == 2)
    sweep(house.pool, clock())
    until(lambda: house.pool.idle_count == 3)


# What sessions begin with.


@sized(pool_size=1)
def test_who_asks_what_sessions_begin_with_goes_by_what_another_process_tells(house: House) -> None:
    """Every server may be kept, for as long as a client likes."""
    kept = house.checkout()
    beginnings = house.pool.beginnings
    base, reported = beginnings.base, beginnings.reported
    beginnings.reported = None
    asking = [in_greenlet(beginnings.ask) for _ in range(3)]
    for_a_server = in_greenlet(house.checkout)
    assert house.pool.waiting_count == 4
    beginnings.hear(base, reported, (), beginnings.began_at + 1)
    for one in asking:
        with pytest.raises(Told):
            one.get(timeout=PATIENCE)
    assert house.pool.waiting_count == 1 and not beginnings.asking
    house.pool.check()
    house.pool.checkin(kept)
    assert for_a_server.get(timeout=PATIENCE) is kept
    house.pool.checkin(kept)


@sized(pool_size=1)
def test_news_is_what_was_heard_last_in_whatever_process(house: House) -> None:
    house.pool.checkin(house.checkout())
    beginnings = house.pool.beginnings
    base, reported, began_at = beginnings.base, beginnings.reported, beginnings.began_at

    moment = (clock() - began_at) / 10

    def told(name: str) -> str | None:
        value = beginnings.reported.values.get(name)
        return None if value is None else str(value)

    def hear(name: str, value: str, at: int, began: int = 0) -> None:
        """``at`` and ``began`` count moments since our server began."""
        news = [(name, value, began_at + at * moment)]
        beginnings.hear(base, reported, (), began_at + began * moment, news)

    hear("IntervalStyle", "iso_8601", -1)  # our server is newer than that
    assert beginnings.reported is reported
    hear("IntervalStyle", "iso_8601", 2)
    hear("IntervalStyle", "postgres", 1)
    hear("DateStyle", "German, DMY", 1)
    assert (told("IntervalStyle"), told("DateStyle")) == ("iso_8601", "German, DMY")
    hear("TimeZone", "Asia/Tokyo", 4, began=1)  # of a newer server, and news of that
    assert (told("IntervalStyle"), told("TimeZone")) == ("iso_8601", "Asia/Tokyo")
    assert told("DateStyle") == reported.values.get("DateStyle")
    beginnings.hears("IntervalStyle", "sql_standard")
    hear("IntervalStyle", "iso_8601", 9)
    assert told("IntervalStyle") == "sql_standard"


@sized(pool_size=1)
def test_who_asks_what_sessions_begin_with_needs_no_turn_of_its_own(house: House) -> None:
    house.gate.clear()
    first = in_greenlet(house.checkout)
    asking = in_greenlet(house.pool.beginnings.ask)
    assert house.pool.waiting_count == 2
    house.gate.set()
    with pytest.raises(Told):
        asking.get(timeout=PATIENCE)
    house.pool.checkin(first.get(timeout=PATIENCE))


# The end of a pool.


def test_a_retired_pool_closes_what_comes_back_and_sends_waiters_away(house: House) -> None:
    servers = borrow(house, 3)
    waiting = in_greenlet(house.checkout)
    house.pool.retire("reload")
    with pytest.raises(Moved):
        waiting.get(timeout=PATIENCE)
    with pytest.raises(Moved):
        house.checkout()
    for server in servers:
        house.pool.checkin(server)
        assert server.stream.closed
    assert not house.pool.servers


def test_retired_while_opening(house: House) -> None:
    house.gate.clear()
    waiting = in_greenlet(house.checkout)
    house.pool.retire("reload")
    house.gate.set()
    with pytest.raises(Moved):
        waiting.get(timeout=PATIENCE)
    until(lambda: not house.pool.opening.count)
    assert not house.pool.servers
    house.pool.check()


def test_pools_are_exchanged_by_settings(engine: Engine) -> None:
    made: list[Any] = []

    def make(settings: Any) -> Pool:
        made.append(settings)
        return Pool(settings, engine, lambda pool: None, lambda pool, server: None)  # type: ignore[arg-type,return-value]

    pools = Pools(make)
    one, two = ("shop", "alice"), ("shop", "bob")
    pools.apply({one: Settings(), two: Settings(user="bob")})
    first, second = pools.find(*one), pools.find(*two)
    assert first is not None and second is not None
    second.elsewhere = 3
    pools.apply({one: Settings(), two: Settings(user="bob", pool_size=9)})
    assert pools.find(*one) is first and not first.retired
    assert pools.find(*two) is not second and second.retired
    heir = pools.find(*two)
    assert heir is not None and heir.elsewhere == 3, "another process still has them"
    pools.apply({})
    assert len(pools) == 0 and first.retired
    assert pools.find(*one) is None


def test_a_replacement_counts_what_is_still_lent(engine: Engine) -> None:
    """Twice: both pools before it have servers yet, and who waits gets one as soon as there is a place."""
    old, middle, new = (House(engine, pool_size=2) for _ in range(3))
    lent = [old.checkout()]
    middle.pool.follow(old.pool)
    old.pool.retire("reload")
    lent.append(middle.checkout())
    new.pool.follow(middle.pool)
    middle.pool.retire("reload")
    waiting = in_greenlet(new.checkout)
    gevent.sleep(0.01)
    assert not waiting.ready() and not new.attempts
    old.pool.checkin(lent[0])
    first = waiting.get(timeout=PATIENCE)
    assert not new.pool.has_room()
    middle.pool.checkin(lent[1])
    assert new.pool.has_room() and new.pool.before is None
    new.pool.checkin(first)
    for house in (old, middle, new):
        house.close()


# Everything at once.


@pytest.mark.parametrize("seed", range(4))
def test_hammer(engine: Engine, seed: int) -> None:
    """Random customers, kills, failures, losses, discards and a sweep now and then: the books hold at every step."""
    dice = random.Random(seed)
    house = House(
        engine, pool_size=4, query_wait_timeout=0.03, server_round_robin=bool(seed % 2), server_idle_check_timeout=0.002,
        idle_timeout=0.005, min_pool_size=1,
    )  # fmt: skip
    pool = house.pool
    house.fail = lambda: (
        None
        if dice.random() > 0.03
        else ServerUnavailable("refused")
        if dice.random() < 0.5
        else refused(dice.choice(["57P03", "28P01"]))
    )
    outcomes: dict[str, int] = {}

    def note(what: str) -> None:
        outcomes[what] = outcomes.get(what, 0) + 1

    lent: set[Server] = set()

    def customer() -> None:
        for _ in range(dice.randrange(1, 6)):
            try:
                server = house.checkout()
            except (DoormanError, Moved) as exc:
                note(type(exc).__name__)
                gevent.sleep(0)
                continue
            note("served")
            assert server not in lent, "lent twice"
            lent.add(server)
            try:
                if dice.random() < 0.7:
                    gevent.sleep(dice.random() * 0.003)
            finally:
                lent.discard(server)
                server.stream.task = None
                fate = dice.random()
                if fate < 0.05:
                    pool.discard(server, "dice")
                else:
                    if fate < 0.2:
                        server.dirty = 1
                    elif fate < 0.25:
                        server.replies.status = 0x54
                    elif fate < 0.3:
                        server.expires_at = 0
                    pool.checkin(server)
            pool.check()

    customers = [gevent.spawn(customer) for _ in range(60)]
    with gevent.Timeout(PATIENCE):
        while any(not greenlet.dead for greenlet in customers):
            gevent.sleep(0.001)
            pool.check()
            if dice.random() < 0.1:
                dice.choice(customers).kill(block=False)
            if dice.random() < 0.1 and pool.queue.qsize():
                house.peers[dice.choice(list(pool.queue))].close()
            if dice.random() < 0.1:
                sweep(pool, clock())
            if dice.random() < 0.02:
                pool.reconnect("dice")
    for greenlet in customers:
        if not isinstance(greenlet.value, gevent.GreenletExit):
            greenlet.get()
    until(lambda: pool.borrowed_count == 0 and not pool.opening.count, "all servers back")
    pool.check()
    assert not pool.queue.waiting and outcomes["served"] > 10
    house.close()
