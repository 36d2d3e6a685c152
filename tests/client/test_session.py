"""Sessions in their greenlets, on both engines: borrowing, giving back, leaving in every way, and who is told what."""

from __future__ import annotations

import gc
import random
from collections.abc import Iterator
from typing import Any

import gevent
import pytest
from core_fakes import ENGINES, PATIENCE, REPORTED, Postgres, Settings, running, server_pair, stream_pair, until
from gevent import GreenletExit
from gevent.event import Event
from mini_postgres import MiniPostgres, tokens

from pgdoorman_lib.cancel import cancel_waiting
from pgdoorman_lib.client.leftovers import ATTEMPTS
from pgdoorman_lib.client.link import Link
from pgdoorman_lib.client.relay import Relay
from pgdoorman_lib.client.session import Session
from pgdoorman_lib.errors import (
    DoormanError,
    NoSuchPool,
    ProtocolViolation,
    ServerGone,
    ServerRefused,
    ServerUnavailable,
    ShuttingDown,
    TooManyPins,
)
from pgdoorman_lib.net.engine import Engine
from pgdoorman_lib.net.syscalls import clock
from pgdoorman_lib.pool.backends import backend_moved
from pgdoorman_lib.pool.janitor import Janitor
from pgdoorman_lib.pool.pool import Pool
from pgdoorman_lib.server.connection import Server
from pgdoorman_lib.wire import messages
from pgdoorman_lib.wire.baseline import UNKNOWN, Base
from pgdoorman_lib.wire.framing import split
from pgdoorman_lib.wire.reported import Reported
from pgdoorman_lib.wire.settings import BASE
from pgdoorman_lib.wire.settings import Settings as ClientSettings


class Customer:
    """A client at the far end of a session."""

    def __init__(self, house: House, number: int) -> None:
        self.stream, self.socket = stream_pair(house.engine)
        self.error: DoormanError | None = None
        self.reason = ""
        self.ended = False
        self.rest = b""
        self.session = Session(
            self.stream, number, b"key!", "alice", "shop", clock(), house.find_pool, house.abandon, self._close
        )
        self.session.link.use(house.pool)
        self.session.link.begin_with(BASE, Reported.of(REPORTED), UNKNOWN)
        self.task = self.session.start()

    def _close(self, error: DoormanError | None, reason: str) -> None:
        self.error = error
        self.reason = reason
        self.ended = True
        self.stream.close()

    def say(self, *parts: bytes) -> None:
        self.socket.sendall(b"".join(parts))

    def hear(self, until_kind: str = "Z") -> list[tuple[str, bytes]]:
        """Messages up to and with the next of this kind."""
        heard: list[tuple[str, bytes]] = []
        with gevent.Timeout(PATIENCE, AssertionError(f"no {until_kind}; heard {heard}")):
            while True:
                frames, _ = split(self.rest)
                for index, (kind, _) in enumerate(frames):
                    if chr(kind) == until_kind:
                        size = sum(len(body) + 5 for _, body in frames[: index + 1])
                        heard = tokens(self.rest[:size])
                        self.rest = self.rest[size:]
                        return heard
                data = self.socket.recv(65536)
                assert data, f"closed; heard {frames}"
                self.rest += data

    def ask(self, *parts: bytes) -> str:
        self.say(*parts)
        return "".join(kind for kind, _ in self.hear())

    def end(self) -> None:
        until(self._is_over)
        assert self.ended, "the session goes on"

    def _is_over(self) -> bool:
        """Whether the greenlet has ended, or, never begun, is not needed any more."""
        return bool(self.ended)

    def kill(self) -> None:
        """Soon, and from the hub, as the application does."""
        self.session.link.client.engine.loop.run_callback(self.session.task.throw, GreenletExit())

    def close(self) -> None:
        if not self._is_over():
            self.kill()
            until(self._is_over)
        self.stream.close()
        self.socket.close()


class House:
    """A pool of MiniPostgreSQLs, a janitor, customers."""

    def __init__(self, engine: Engine, **changes: Any) -> None:
        self.engine = engine
        self.janitor = Janitor(self.cancel)
        self.postgres: dict[Server, Postgres] = {}
        self.customers: list[Customer] = []
        self.cancelled: list[Server] = []
        self.refusal: DoormanError | None = None
        self.pool = self.make_pool(**changes)

    def make_pool(self, **changes: Any) -> Pool:
        settings = Settings(**{"pool_size": 1, **changes})
        return Pool(settings, self.engine, self.connect, self.janitor.tidy)

    def connect(self, pool: Pool) -> Server:
        if self.refusal is not None:
            raise self.refusal
        server, peer = server_pair(self.engine, pool.settings)
        self.postgres[server] = Postgres(peer)
        return server

    def cancel(self, server: Server) -> None:
        self.cancelled.append(server)
        self.postgres[server].awake.set()

    def find_pool(self, database: str, user: str) -> Pool | None:
        return self.pool

    def abandon(self, pool: Pool, server: Server, in_batch: bool, half_sent: bool) -> None:
        self.janitor.abandon(pool, server, in_batch, half_sent)

    def customer(self) -> Customer:
        self.customers.append(Customer(self, len(self.customers) + 1))
        return self.customers[-1]

    @property
    def far(self) -> Postgres:
        return next(reversed(self.postgres.values()))

    def at_rest(self, pool: Pool | None = None) -> int:
        """How many idle servers there are once nothing is borrowed."""
        pool = pool if pool is not None else self.pool
        until(lambda: not pool.borrowed_count and not pool.opening.count, "servers back")
        pool.check()
        return int(pool.idle_count)

    def close(self) -> None:
        for customer in self.customers:
            customer.close()
        self.janitor.finish()
        self.pool.retire("the end")
        for postgres in self.postgres.values():
            postgres.close()


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    with running(request.param) as made:
        yield made


@pytest.fixture
def house(request: pytest.FixtureRequest, engine: Engine) -> Iterator[House]:
    made = House(engine, **getattr(request, "param", {}))
    yield made
    made.close()


def with_settings(**changes: Any) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("house", [changes], indirect=True, ids=[str(changes)])


QUERY = messages.query("x1")
RUN = messages.bind(b"", b"s") + messages.execute() + messages.sync()


def test_a_query(house: House) -> None:
    customer = house.customer()
    assert customer.session.state == "idle"
    assert customer.ask(QUERY) == "TDCZ"
    assert house.at_rest() == 1
    assert customer.session.link.server is None and customer.session.state == "idle"
    assert customer.session.link.stats.query_count == customer.session.link.stats.xact_count == 1
    assert house.pool.stats.query_count == 1


def alive(kind: type) -> int:
    """How many of them there are."""
    return sum(type(one) is kind for one in gc.get_objects())


def test_what_has_ended_needs_no_collector(house: House) -> None:
    """Its relay is there for the next, and holds nothing of it."""
    gc.collect()
    gc.disable()
    try:
        before, relays = alive(Session), 0
        for _ in range(3):
            customer = house.customer()
            assert customer.ask(QUERY) == "TDCZ"
            customer.say(messages.terminate())
            customer.end()
            assert customer.session.link.client is not None, "nothing is given away that somebody may still look at"
            house.customers.remove(customer)
            customer.close()
            del customer.session, customer.task
            until(lambda: alive(Session) == alive(Link) == before, "the session freed")
            relays = relays or alive(Relay)
            assert alive(Relay) == relays, "it is used again"
    finally:
        gc.enable()


def test_who_rests_has_no_relay(house: House) -> None:
    gc.collect()
    first, second = house.customer(), house.customer()
    assert first.ask(QUERY) == second.ask(QUERY) == "TDCZ"
    assert first.ask(messages.query("begin")) == "CZ"
    used = first.session.relay
    assert used.turn.link is first.session.link and used.turn.batch is first.session.batch
    assert first.ask(messages.query("commit")) == "CZ"
    assert first.session.relay is None and used.turn.link is None and used.turn.batch is None
    assert second.ask(messages.query("begin")) == "CZ"
    assert second.session.relay is used, "what was used last is in the processor's caches"
    assert second.ask(messages.query("commit")) == "CZ"
    first.say(QUERY[:5])
    assert first.ask(QUERY[5:]) == "TDCZ"
    assert first.ask(messages.query("begin")) == "CZ"
    second.say(QUERY)
    until(lambda: second.session.state == "waiting")
    assert second.session.relay is None
    assert first.ask(messages.query("commit")) == "CZ"
    assert [kind for kind, _ in second.hear()] == list("TDCZ")
    assert first.session.relay is second.session.relay is None
    assert alive(Relay) <= 2, "as many as had something to do at a time"


def test_who_has_not_said_all_that_is_dropped_keeps_its_relay(house: House) -> None:
    """The rest of a batch whose statement was cancelled while it waited is dropped whenever it comes."""
    first, second = house.customer(), house.customer()
    assert first.ask(messages.query("begin")) == "CZ"
    second.say(messages.parse(b"", b"x1") + RUN[: -len(messages.sync())])
    until(lambda: second.session.state == "waiting")
    cancel_waiting(second.session)
    assert second.hear("E") == [("E", b"57014")]
    until(lambda: second.session.link.client.end == second.session.link.client.start)
    relay = second.session.relay
    assert relay is not None and first.session.relay is not relay
    assert second.ask(RUN) == "Z"
    assert second.session.relay is None
    assert first.ask(messages.query("commit")) == "CZ"
    assert second.ask(QUERY) == "TDCZ"


def test_the_relay_of_a_session_that_ends_by_a_fault_of_ours_is_nobodys(house: House) -> None:
    gc.collect()
    customer = house.customer()
    assert customer.ask(messages.query("begin")) == "CZ"
    relay = customer.session.relay
    house.engine.loop.run_callback(customer.session.task.throw, ZeroDivisionError())
    until(lambda: customer.ended)
    del customer.session, customer.task
    house.customers.remove(customer)
    customer.close()
    gc.collect()
    other = house.customer()
    assert other.ask(messages.query("begin")) == "CZ"
    assert other.session.relay is not relay


def test_two_clients_take_turns_on_one_server(house: House) -> None:
    first, second = house.customer(), house.customer()
    for _ in range(5):
        assert first.ask(QUERY) == second.ask(QUERY) == "TDCZ"
    assert len(house.postgres) == 1


def test_a_transaction_keeps_its_server_and_others_wait(house: House) -> None:
    first, second = house.customer(), house.customer()
    assert first.ask(messages.query("begin")) == "CZ"
    second.say(QUERY)
    until(lambda: second.session.state == "waiting")
    assert first.ask(QUERY) == "TDCZ"
    assert second.session.state == "waiting"
    assert first.ask(messages.query("commit")) == "CZ"
    assert [kind for kind, _ in second.hear()] == list("TDCZ")


def test_many_clients_few_servers(engine: Engine) -> None:
    house = House(engine, pool_size=3)
    customers = [house.customer() for _ in range(30)]

    def work(customer: Customer, number: int) -> None:
        for turn in range(10):
            text = f"c{number}t{turn}".encode()
            heard = customer.ask(messages.query(text)) if turn % 2 else None
            if heard is None:
                batch = messages.parse(b"s%d" % turn, text) + messages.bind(b"", b"s%d" % turn)
                customer.say(batch, messages.execute(), messages.sync())
                rows = [body for kind, body in customer.hear() if kind == "D"]
                assert rows == [b"\0\1" + len(text).to_bytes(4, "big") + text], "somebody else's row"

    workers = [gevent.spawn(work, customer, number) for number, customer in enumerate(customers)]
    gevent.joinall(workers, timeout=PATIENCE, raise_error=True)
    assert all(worker.successful() for worker in workers)
    assert house.at_rest() == len(house.postgres) <= 3
    house.close()


@with_settings(pool_mode="session")
def test_session_mode_keeps_its_server_and_cleans_it_at_the_end(house: House) -> None:
    first, second = house.customer(), house.customer()
    first.ask(QUERY)
    assert first.session.link.server is not None
    second.say(QUERY)
    until(lambda: second.session.state == "waiting")
    first.say(messages.terminate())
    first.end()
    assert first.error is None
    second.hear()
    assert b"DISCARD ALL" in house.far.mini.executed


# Leaving.


def test_terminate(house: House) -> None:
    customer = house.customer()
    customer.ask(QUERY)
    customer.say(messages.terminate())
    customer.end()
    assert (customer.error, customer.reason) == (None, "client closed the session")
    assert house.at_rest() == 1


def test_close_without_a_word(house: House) -> None:
    customer = house.customer()
    customer.ask(QUERY)
    customer.socket.close()
    customer.end()
    assert customer.error is None and "connection" in customer.reason
    assert house.at_rest() == 1


def test_gone_in_a_transaction(house: House) -> None:
    customer = house.customer()
    customer.ask(messages.query("begin"))
    customer.socket.close()
    customer.end()
    assert house.at_rest() == 1
    assert b"ROLLBACK" in house.far.mini.executed


def test_gone_while_a_statement_runs(house: House) -> None:
    customer = house.customer()
    customer.ask(QUERY)
    house.far.awake.clear()
    customer.say(QUERY)
    until(lambda: customer.session.link.server is not None)
    customer.socket.close()
    customer.end()
    assert house.at_rest() == 1
    assert house.cancelled


def test_gone_with_an_unfinished_batch(house: House) -> None:
    customer = house.customer()
    customer.say(messages.parse(b"", b"x1"), messages.bind(b"", b""), messages.execute(), messages.terminate())
    customer.end()
    assert house.at_rest() == 1
    assert not house.far.mini.skipping and house.far.mini.status == "I"


def test_gone_in_half_a_message(house: House) -> None:
    customer = house.customer()
    customer.ask(QUERY)
    customer.say(messages.query("x" * 100000)[:50000])
    until(lambda: customer.session.link.server is not None)
    customer.socket.close()
    customer.end()
    assert house.at_rest() == 0, "the server can't be saved"
    assert not house.cancelled, "nor is it tried"


def test_gone_while_waiting(house: House) -> None:
    first, second = house.customer(), house.customer()
    first.ask(messages.query("begin"))
    second.say(QUERY)
    until(lambda: second.session.state == "waiting")
    second.socket.close()
    second.end()
    assert house.pool.waiting_count == 0
    assert first.ask(messages.query("commit")) == "CZ"
    assert house.at_rest() == 1


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        (QUERY + messages.terminate(), 1),
        (QUERY + QUERY + messages.terminate(), 2),
        (QUERY + QUERY + messages.terminate() + QUERY, 2),
        (QUERY + messages.terminate()[:-1], 0),
        (QUERY + QUERY[:-1], 0),
        (QUERY[:-1] + messages.terminate(), 0),
        (QUERY, 0),
    ],
)
@pytest.mark.parametrize("busy", [True, False])
def test_gone_behind_its_last_words(house: House, said: bytes, wanted: int, busy: bool) -> None:
    """What was said before Terminate is carried out although the client is gone by then; else nothing is."""
    first, second = house.customer(), house.customer()
    first.ask(messages.query("begin"))
    if not busy:
        assert first.ask(messages.query("commit")) == "CZ"
    second.say(said)
    second.socket.close()
    if busy:
        until(lambda: second.session.state == "waiting" or second.ended)
        assert first.ask(messages.query("commit")) == "CZ"
    second.end()
    assert house.pool.waiting_count == 0
    assert house.at_rest() == 1
    if busy or wanted:  # a free server may have been taken before the end was seen
        assert house.far.heard.count(QUERY) == wanted
    assert first.ask(QUERY) == "TDCZ"


@with_settings(client_eof_timeout=5.0)
@pytest.mark.parametrize(
    ("said", "wanted"),
    [(QUERY, 1), (QUERY + QUERY, 2), (QUERY + QUERY[:-1], 1), (QUERY[:-1], 0), (QUERY + messages.terminate()[:-1], 1)],
)
@pytest.mark.parametrize("busy", [True, False])
def test_a_half_close_behind_whole_messages(house: House, said: bytes, wanted: int, busy: bool) -> None:
    """They are carried out and answered, then the session ends."""
    first, second = house.customer(), house.customer()
    first.ask(messages.query("begin"))
    if not busy:
        assert first.ask(messages.query("commit")) == "CZ"
    second.say(said)
    second.socket.shutdown(1)
    if busy:
        until(lambda: second.session.state == "waiting" or second.ended)
        assert first.ask(messages.query("commit")) == "CZ"
    second.end()
    assert house.far.heard.count(QUERY) == wanted
    assert second.reason == "client closed the connection" and second.error is None
    assert house.at_rest() == 1 and not house.cancelled
    assert second.session.relay is None, "no deadline is left"


@with_settings(client_eof_timeout=0.05)
@pytest.mark.parametrize("waits", [True, False])
def test_a_half_close_that_takes_too_long(house: House, waits: bool) -> None:
    """The statement is cancelled, or its place in the queue given up."""
    first, second = house.customer(), house.customer()
    first.ask(messages.query("begin"))
    if not waits:
        assert first.ask(messages.query("commit")) == "CZ"
        house.far.awake.clear()
    second.say(QUERY)
    second.socket.shutdown(1)
    second.end()
    assert house.pool.waiting_count == 0
    if waits:
        assert first.ask(messages.query("commit")) == "CZ"
        assert QUERY not in house.far.heard
    else:
        until(lambda: house.cancelled)
    assert house.at_rest() == 1


@pytest.mark.parametrize("moment", ["idle", "waiting", "running", "transaction"])
def test_killed(house: House, moment: str) -> None:
    first, second = house.customer(), house.customer()
    first.ask(QUERY)
    if moment == "waiting":
        second.ask(messages.query("begin"))
        first.say(QUERY)
        until(lambda: first.session.state == "waiting")
    elif moment == "running":
        house.far.awake.clear()
        first.say(QUERY)
        until(lambda: first.session.link.server is not None)
    elif moment == "transaction":
        first.ask(messages.query("begin"))
    first.kill()
    first.end()
    if moment == "waiting":
        assert second.ask(messages.query("commit")) == "CZ"
    assert house.at_rest() == 1
    assert second.ask(QUERY) == "TDCZ"


# The server leaves.


def test_server_gone_while_a_statement_runs(house: House) -> None:
    customer = house.customer()
    customer.ask(QUERY)
    house.far.awake.clear()
    customer.say(QUERY)
    until(lambda: house.far.heard.count(QUERY) == 2)
    house.far.close()
    customer.end()
    assert isinstance(customer.error, ServerGone) and customer.error.sqlstate == "08006"
    assert house.at_rest() == 0


def test_server_gone_in_a_transaction(house: House) -> None:
    customer = house.customer()
    customer.ask(messages.query("begin"))
    house.far.close()
    customer.end()
    assert isinstance(customer.error, ServerGone) and "idle in transaction" in customer.error.message
    assert house.at_rest() == 0


def test_server_gone_between_transactions_is_not_noticed(house: House) -> None:
    customer = house.customer()
    customer.ask(QUERY)
    house.far.close()
    until(lambda: not house.pool.servers)
    assert customer.ask(QUERY) == "TDCZ"


def test_the_servers_own_words_are_enough(house: House) -> None:
    customer = house.customer()
    customer.ask(messages.query("begin"))
    house.far.sock.sendall(messages.error_response("FATAL", "57P01", "terminating connection"))
    house.far.close()
    customer.end()
    assert customer.error is None
    assert tokens(customer.rest + customer.socket.recv(1000))[-1] == ("E", b"57P01")
    assert house.at_rest() == 0


def test_nothing_is_said_into_the_middle_of_a_row(house: House) -> None:
    customer = house.customer()
    customer.ask(messages.query("begin"))
    house.far.awake.clear()
    customer.say(QUERY)
    until(lambda: house.far.heard.endswith(QUERY))
    row = messages.data_row([b"x" * 20000])
    house.far.sock.sendall(row[:19990])
    until(lambda: customer.session.link.server_left > 0)
    house.far.close()
    customer.end()
    assert isinstance(customer.error, ServerGone)
    assert customer.session.cut_off(), "an ErrorResponse would be taken for the rest of the row"


def test_a_server_that_talks_nonsense_is_never_lent_again(house: House) -> None:
    customer = house.customer()
    customer.ask(messages.query("begin"))
    house.far.sock.sendall(messages.command_complete("SELECT 1") + messages.ready_for_query())
    customer.end()
    assert isinstance(customer.error, ServerGone) and customer.error.sqlstate == "08P01"
    assert house.at_rest() == 0


# The client talks nonsense.


def test_garbage(house: House) -> None:
    customer = house.customer()
    customer.ask(QUERY)
    customer.say(b"GET / HTTP/1.1\r\n\r\n")
    customer.end()
    assert isinstance(customer.error, ProtocolViolation)
    assert house.at_rest() == 1


# Settings.


def test_settings_follow_the_client(house: House) -> None:
    first, second = house.customer(), house.customer()
    first.session.settings = ClientSettings.of({"application_name": "first"})
    assert first.ask(QUERY) == "TDCZ"
    assert b"set_config('application_name', 'first', false)" in house.far.heard
    house.far.heard = b""
    assert first.ask(QUERY) == "TDCZ"
    assert b"set_config" not in house.far.heard, "the server had them already"
    assert second.ask(QUERY) == "TDCZ"
    assert b'RESET "application_name"' in house.far.heard


def test_settings_that_are_refused(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    customer = house.customer()
    monkeypatch.setattr(ClientSettings, "sql_from", lambda self, present: "fail")
    customer.session.settings = ClientSettings.of({"application_name": "x"})
    customer.say(QUERY)
    customer.end()
    assert isinstance(customer.error, ServerGone) and customer.error.sqlstate == "22012"
    assert house.at_rest() == 0, "what is in effect on that server is not known"


def test_the_unnamed_statement_and_settings(house: House) -> None:
    # Applying settings is a simple query, which drops the unnamed statement of the client that had the server before.
    first, second = house.customer(), house.customer()
    first.session.settings = ClientSettings.of({"application_name": "first"})
    second.session.settings = ClientSettings.of({"application_name": "second"})
    assert first.ask(messages.parse(b"", b"x1"), messages.sync()) == "1Z"
    assert second.ask(messages.parse(b"s", b"x2"), RUN) == "12DCZ"
    assert first.ask(messages.bind(b"", b""), messages.execute(), messages.sync()) == "2DCZ"


def test_the_unnamed_statement_survives_a_cleaning(house: House) -> None:
    customer = house.customer()
    batch = messages.parse(b"", b"set x") + messages.bind(b"", b"") + messages.execute() + messages.parse(b"", b"x1")
    assert customer.ask(batch, messages.sync()) == "12C1Z"
    assert house.at_rest() == 1
    assert customer.ask(messages.bind(b"", b""), messages.execute(), messages.sync()) == "2DCZ"


# The pool changes.


def test_a_replaced_pool_is_found_at_the_next_transaction(house: House) -> None:
    customer = house.customer()
    customer.ask(messages.query("begin"))
    old = house.pool
    house.pool = house.make_pool(pool_size=2)
    old.retire("reload")
    assert customer.ask(messages.query("commit")) == "CZ"
    assert house.at_rest(old) == 0
    assert customer.ask(QUERY) == "TDCZ"
    assert customer.session.link.pool is house.pool


def test_waiters_move_to_the_new_pool(house: House) -> None:
    first, second = house.customer(), house.customer()
    first.ask(messages.query("begin"))
    second.say(QUERY)
    until(lambda: second.session.state == "waiting")
    old = house.pool
    house.pool = house.make_pool()
    old.retire("reload")
    assert [kind for kind, _ in second.hear()] == list("TDCZ")
    assert first.ask(messages.query("commit")) == "CZ"


def test_a_pool_that_is_no_more(house: House) -> None:
    customer = house.customer()
    customer.ask(QUERY)
    old, house.find_pool = house.pool, lambda database, user: None  # type: ignore[method-assign]
    customer.session.find_pool = house.find_pool
    old.retire("reload")
    customer.say(QUERY)
    customer.end()
    assert isinstance(customer.error, NoSuchPool)


def test_no_server_to_be_had(house: House) -> None:
    house.refusal = ServerRefused("no such role", sqlstate="28000")
    customer = house.customer()
    customer.say(QUERY)
    customer.end()
    assert customer.error is not None and customer.error.sqlstate == "28000"


# Going home.


@pytest.mark.parametrize("mode", ["transaction", "session"])
def test_an_idle_client_is_dismissed_at_once(engine: Engine, mode: str) -> None:
    house = House(engine, pool_mode=mode)
    customer = house.customer()
    customer.ask(QUERY)
    customer.session.terminate_when_idle(ShuttingDown("going down"))
    customer.end()
    assert isinstance(customer.error, ShuttingDown)
    house.close()


def test_a_transaction_may_finish(house: House) -> None:
    customer = house.customer()
    customer.ask(messages.query("begin"))
    customer.session.terminate_when_idle(ShuttingDown("going down"))
    assert customer.ask(QUERY) == "TDCZ"
    assert customer.ask(messages.query("commit")) == "CZ"
    customer.end()
    assert isinstance(customer.error, ShuttingDown)


def test_who_waits_is_served_before_it_goes(house: House) -> None:
    first, second = house.customer(), house.customer()
    first.ask(messages.query("begin"))
    second.say(QUERY)
    until(lambda: second.session.state == "waiting")
    second.session.terminate_when_idle(ShuttingDown("going down"))
    first.ask(messages.query("commit"))
    assert [kind for kind, _ in second.hear()] == list("TDCZ")
    second.end()
    assert isinstance(second.error, ShuttingDown)


# A fault of ours in somebody else's hand-over.


def test_a_fault_while_a_server_is_handed_over(house: House, capsys: pytest.CaptureFixture[str]) -> None:
    class Poisoned:
        """Settings that can't be applied."""

        values: dict[str, str] = {}  # noqa: RUF012
        environment = ()

        def sql_from(self, present: Any) -> str:
            raise RuntimeError("a bug")

    first, second, third = house.customer(), house.customer(), house.customer()
    first.ask(messages.query("begin"))
    second.session.settings = Poisoned()
    for customer in (second, third):
        customer.say(QUERY)
        until(lambda customer=customer: customer.session.state == "waiting")
    assert first.ask(messages.query("commit")) == "CZ"
    second.end()
    assert "RuntimeError: a bug" in capsys.readouterr().err
    assert [kind for kind, _ in third.hear()] == list("TDCZ")
    assert first.ask(QUERY) == "TDCZ"
    assert house.at_rest() == 1 and len(house.postgres) == 2, "the one in its hands was closed"


# Cancelling who waits.


def test_a_waiting_statement_is_cancelled(house: House) -> None:
    first, second = house.customer(), house.customer()
    first.ask(messages.query("begin"))
    second.say(messages.parse(b"", b"x1"), messages.bind(b"", b""), messages.execute(), messages.sync())
    until(lambda: second.session.state == "waiting")
    cancel_waiting(second.session)
    assert second.hear() == [("E", b"57014"), ("Z", b"I")]
    assert house.pool.waiting_count == 0
    assert first.ask(messages.query("commit")) == "CZ"
    assert second.ask(QUERY) == "TDCZ"


# Everything at once.


@pytest.mark.parametrize("seed", range(2))
def test_clients_leave_at_random_moments(engine: Engine, seed: int) -> None:
    """Afterwards every server is idle, outside a transaction, and its books say what it has."""
    dice = random.Random(seed)
    house = House(engine, pool_size=3, server_prepared_statements_cache_size=3)
    live: list[Customer] = []
    script = [
        QUERY, messages.query("begin"), messages.query("fail"), messages.query("rollback"), messages.query("set x"),
        messages.parse(b"s", b"x1"), messages.parse(b"t", b"x2"), RUN, messages.close_statement(b"s"), messages.sync(),
        messages.parse(b"", b"x3"), messages.bind(b"", b""), messages.execute(), messages.sync(), messages.flush(),
        messages.query("deallocate all"), messages.query("deallocate s"), messages.query("copy out"), messages.terminate(),
        messages.query("x" * 20000)[:15000],
    ]  # fmt: skip
    with gevent.Timeout(PATIENCE):
        for _ in range(250):
            if len(live) < 8:
                live.append(house.customer())
            customer = dice.choice(live)
            what = dice.random()
            try:
                if what < 0.75:
                    customer.say(*(dice.choice(script[:-1]) for _ in range(dice.randrange(1, 4))))
                elif what < 0.8:
                    customer.say(script[-1])
                elif what < 0.9:
                    customer.socket.close()
                else:
                    customer.kill()
            except OSError:
                pass
            if dice.random() < 0.3:
                gevent.sleep(dice.random() * 0.002)
            if dice.random() < 0.02 and house.pool.queue.qsize():
                house.postgres[dice.choice(list(house.pool.queue))].close()
            live = [customer for customer in live if not customer.ended]
            house.pool.check()
        for customer in live:
            customer.socket.close()
        for customer in house.customers:
            customer.end()
    house.at_rest()
    assert not house.pool.queue.waiting
    for server in house.pool.queue:
        mini = house.postgres[server].mini
        assert (mini.status, mini.skipping, mini.copying) == ("I", False, None)
        assert {statement.name for statement in server.statements.prepared} <= set(mini.statements)
        assert server.is_reusable() and not server.dirty
    house.close()


# What a session keeps in transaction mode.


def finding(kind: int, name: str | None = None, value: str = "x") -> bytes:
    """A row of a server's answer about what is there."""
    columns = (str(kind), name, value.encode().hex())
    return messages.data_row([None if column is None else column.encode() for column in columns])


class Keeper(MiniPostgres):
    """One that is asked what is there: it says what the test has put into ``there``."""

    def __init__(self) -> None:
        super().__init__()
        self.there: list[bytes] = []
        self.questions: list[bytes] = []
        #: how many questions are still refused
        self.refuses = 0
        self.notifies = False
        #: it answers questions while this is set
        self.answers = Event()
        self.answers.set()

    def _query(self, sql: bytes) -> None:
        tag = sql.split(b" ")[0].decode()
        if b"pg_catalog.pg_backend_pid()" in sql:
            self.questions.append(sql)
            self.answers.wait()
            if self.notifies:
                self.sent += b"A\0\0\0\x0e\0\0\0\1c\0hey\0"
            if self.refuses:
                self.refuses -= 1
                self.sent += messages.error_response("ERROR", "57014", "canceling statement due to statement timeout")
            else:
                self.sent += messages.row_description([("?", 25, -1)] * 3) + b"".join(self.there)
                self.sent += messages.command_complete("SELECT 1")
            self._ready()
        elif tag in ("LISTEN", "UNLISTEN", "RESET"):
            self.executed.append(sql)
            self.sent += messages.command_complete(tag)
            self._ready()
        else:
            super()._query(sql)


class KeptHouse(House):
    def connect(self, pool: Pool) -> Server:
        server = super().connect(pool)
        self.postgres[server].mini = Keeper()
        return server

    @property
    def keeper(self) -> Keeper:
        mini = self.far.mini
        assert isinstance(mini, Keeper)
        return mini


@pytest.fixture
def kept(engine: Engine) -> Iterator[KeptHouse]:
    made = KeptHouse(engine, session_state="transparent", max_pinned_servers=1, pool_size=1)
    yield made
    made.close()


LISTEN = messages.query("LISTEN c")


def settled(house: KeptHouse, customer: Customer) -> None:
    until(
        lambda: not customer.session.batch.settling and not customer.session.batch.examining,
        "nothing is asked any more",
    )


def test_what_a_server_says_is_there_keeps_it(kept: KeptHouse) -> None:
    first, second = kept.customer(), kept.customer()
    first.ask(QUERY)
    kept.keeper.there = [finding(8)]
    assert first.ask(LISTEN) == "CZ"
    settled(kept, first)
    assert first.session.info().pinned == "listen" and first.session.state == "idle"
    assert kept.pool.pins.own == 1
    second.say(QUERY)
    until(lambda: second.session.state == "waiting")
    assert first.ask(QUERY) == "TDCZ"
    assert len(kept.keeper.questions) == 1, "a statement that leaves nothing has nothing asked"
    kept.keeper.there = []
    assert first.ask(messages.query("UNLISTEN *")) == "CZ"
    second.hear()
    assert kept.pool.pins.own == 0 and first.session.info().pinned == ""
    assert kept.at_rest() == 1


def test_what_is_not_there_after_all_keeps_nothing(kept: KeptHouse) -> None:
    first, second = kept.customer(), kept.customer()
    assert first.ask(LISTEN) == "CZ"
    assert second.ask(QUERY) == first.ask(QUERY) == "TDCZ"
    assert kept.pool.pins.own == 0 and kept.at_rest() == 1


def test_a_statement_that_would_keep_one_too_many_is_refused_without_a_server(kept: KeptHouse) -> None:
    kept.pool.pins.limit = 0
    customer = kept.customer()
    customer.say(LISTEN)
    assert [(kind, body) for kind, body in customer.hear() if kind == "E"] == [("E", b"53400")]
    customer.say(messages.parse(b"", b"LISTEN c"), messages.bind(b"", b""), messages.execute(), messages.sync())
    assert [kind for kind, _ in customer.hear()] == ["E", "Z"]
    assert kept.postgres == {}
    assert customer.ask(QUERY) == "TDCZ"


def test_one_that_keeps_one_too_many_all_the_same_is_sent_away(kept: KeptHouse) -> None:
    kept.pool.pins.limit = 0
    customer = kept.customer()
    customer.ask(messages.query("begin"))
    kept.keeper.there = [finding(8)]
    customer.ask(LISTEN)
    customer.say(messages.query("commit"))
    customer.end()
    assert isinstance(customer.error, TooManyPins)
    assert kept.at_rest() == 1 and kept.pool.pins.own == 0
    assert b"UNLISTEN *" in kept.keeper.executed


@pytest.mark.parametrize("how", ["close", "terminate", "kill"])
def test_gone_while_its_server_is_asked(kept: KeptHouse, how: str) -> None:
    customer = kept.customer()
    customer.ask(QUERY)
    kept.keeper.there = [finding(8)]
    kept.keeper.answers.clear()
    assert customer.ask(LISTEN) == "CZ"
    until(lambda: kept.keeper.questions)
    assert customer.session.batch.settling
    if how == "close":
        customer.socket.close()
    elif how == "terminate":
        customer.say(messages.terminate())
    else:
        customer.kill()
        customer.end()
    kept.keeper.answers.set()  # only then is the client looked at again
    customer.end()
    assert kept.at_rest() == 1 and kept.pool.pins.own == 0
    assert kept.keeper.status == "I"
    assert b"UNLISTEN *" in kept.keeper.executed


def test_the_server_dies_while_it_is_asked(kept: KeptHouse) -> None:
    first, second = kept.customer(), kept.customer()
    first.ask(QUERY)
    kept.keeper.there = [finding(8)]
    kept.keeper.ended = False
    original = kept.keeper._query

    def die(sql: bytes) -> None:
        if b"'8'" in sql:
            kept.far.sock.close()
        else:
            original(sql)

    kept.keeper._query = die  # type: ignore[method-assign]
    first.say(LISTEN)
    first.end()
    assert isinstance(first.error, ServerGone)
    assert kept.pool.pins.own == 0
    assert second.ask(QUERY) == "TDCZ"


@pytest.mark.parametrize("times", [1, ATTEMPTS - 1])
def test_a_question_that_is_refused_is_asked_again(kept: KeptHouse, times: int) -> None:
    first, second = kept.customer(), kept.customer()
    first.ask(QUERY)
    kept.keeper.refuses = times
    assert first.ask(LISTEN) == "CZ"
    assert second.ask(QUERY) == first.ask(QUERY) == "TDCZ"
    assert len(kept.keeper.questions) == times + 1
    assert all(b"SET LOCAL statement_timeout = 0" in question for question in kept.keeper.questions[1:])


@pytest.mark.parametrize("answer", ["refused", "unreadable", "too large"])
def test_a_server_of_which_nothing_is_known_is_kept_and_then_closed(kept: KeptHouse, answer: str) -> None:
    first, second = kept.customer(), kept.customer()
    first.ask(QUERY)
    if answer == "refused":
        kept.keeper.refuses = ATTEMPTS
    elif answer == "unreadable":
        kept.keeper.there = [messages.data_row([b"8"])]
    else:
        kept.keeper.there = [finding(1, "app.a", "x" * (1 << 20))]
    assert first.ask(LISTEN) == "CZ"
    settled(kept, first)
    assert first.session.info().pinned == "unknown state"
    second.say(QUERY)
    until(lambda: second.session.state == "waiting")
    assert first.ask(QUERY) == "TDCZ", "to itself it is as good as ever"
    first.say(messages.terminate())
    first.end()
    second.hear()
    assert len(kept.postgres) == 2, "nobody else gets it"
    assert kept.pool.pins.own == 0


def test_notifications_that_come_with_the_answer_are_passed_on(kept: KeptHouse) -> None:
    customer = kept.customer()
    customer.ask(QUERY)
    kept.keeper.there = [finding(8)]
    kept.keeper.notifies = True
    customer.ask(LISTEN)
    customer.say(QUERY)
    assert [kind for kind, _ in customer.hear()] == list("ATDCZ")


def test_what_is_set_follows_and_reset_is_announced(kept: KeptHouse) -> None:
    first, second = kept.customer(), kept.customer()
    begin = ClientSettings.of({"application_name": "mine"})
    first.session.settings = first.session.link.startup = begin
    first.ask(QUERY)
    assert b"set_config('application_name', 'mine', false)" in kept.far.heard
    kept.keeper.there = [finding(1, "application_name", "mine"), finding(1, "x", "1")]
    first.ask(messages.query("set x = 1"))
    settled(kept, first)
    assert first.session.settings.values == {"application_name": "mine", "x": "1"}
    second.ask(QUERY)
    assert b'RESET "application_name"' in kept.far.heard and b'RESET "x"' in kept.far.heard
    first.ask(QUERY)
    kept.keeper.there = []
    heard = len(kept.far.heard)
    first.say(messages.query("reset all"), QUERY)
    first.hear()
    first.hear()
    said = kept.far.heard[heard:]
    assert said.index(b"set_config('application_name', 'mine', false)") < said.index(b"x1\0"), "before what follows"
    assert first.session.settings is begin


def test_within_a_transaction_reset_is_undone_by_us(kept: KeptHouse) -> None:
    customer = kept.customer()
    customer.session.settings = customer.session.link.startup = ClientSettings.of({"a": "1", "b": "2"})
    customer.ask(messages.query("begin"))
    heard = len(kept.far.heard)
    customer.say(messages.query("RESET b"), QUERY, messages.query("rollback"))
    for _ in range(3):
        customer.hear()
    said = kept.far.heard[heard:]
    assert said.index(b"RESET b\0") < said.index(b"set_config('b', '2', false)") < said.index(b"x1\0")
    assert b"set_config('a'" not in said
    assert kept.at_rest() == 1


# What clients are told, and what they keep.


def test_a_report_of_another_server_is_told_once(house: House) -> None:
    customer, other = house.customer(), house.customer()
    assert customer.ask(QUERY) == other.ask(QUERY) == "TDCZ"
    (server,) = house.pool.servers
    server.report("TimeZone", "Asia/Tokyo")
    assert customer.ask(QUERY) == "STDCZ"
    assert customer.ask(QUERY) == "TDCZ"
    assert other.ask(QUERY) == "STDCZ"
    assert other.session.link.told is customer.session.link.told is server.reported


def test_a_session_keeps_its_defaults_on_a_server_with_others(house: House) -> None:
    customer, young = house.customer(), house.customer()
    old_base = Base.of({"work_mem": "4MB", "search_path": "public"}, ())
    new_base = Base.of({"work_mem": "9MB", "search_path": "s1"}, ("work_mem", "search_path"))
    assert customer.ask(QUERY) == "TDCZ"
    (server,) = house.pool.servers
    customer.session.link.base = old_base
    young.session.link.base = server.base = new_base
    assert customer.ask(QUERY) == "TDCZ"
    assert server.applied.values == {"work_mem": "4MB", "search_path": "public"}
    assert customer.session.link.startup is customer.session.settings is server.applied
    assert customer.session.link.base is new_base
    assert young.ask(QUERY) == "TDCZ"
    assert server.applied is BASE
    server.base = old_base
    assert customer.ask(QUERY) == "TDCZ"
    # The search_path stays: statements are told apart by it.
    assert customer.session.settings.values == {"search_path": "public"}


@with_settings(session_state="transparent")
def test_a_backend_that_moves(house: House) -> None:
    """The pool goes on without keeping what is not its clients' own."""
    customer = house.customer()
    assert customer.ask(QUERY) == "TDCZ" and customer.session.link.transparent
    (server,) = house.pool.servers
    backend_moved(server, 2)
    backend_moved(server, 3)
    assert customer.ask(QUERY) == "TDCZ" and not customer.session.link.transparent
    assert not house.customer().session.link.transparent


@with_settings(session_state="transparent", shared_backend="refuse")
def test_a_backend_that_moves_and_must_not(house: House) -> None:
    customer = house.customer()
    assert customer.ask(QUERY) == "TDCZ"
    (server,) = house.pool.servers
    backend_moved(server, 2)
    customer.say(QUERY)
    customer.end()
    assert isinstance(customer.error, ServerUnavailable) and "exchanges backends" in customer.error.message
