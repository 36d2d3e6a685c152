"""Clients that share servers must see, byte for byte, what each would see on a server of its own."""

from __future__ import annotations

from itertools import chain
from typing import Any

import pytest
from core_fakes import Settings as PoolSettings
from core_fakes import running
from hypothesis import given, settings
from hypothesis import strategies as st
from mini_postgres import MiniPostgres, tokens
from relay_rig import Backend, Client

from pgdoorman_lib.client.events import PENDING
from pgdoorman_lib.net.engine import Engine
from pgdoorman_lib.wire import messages
from pgdoorman_lib.wire.statements import Registry

COPY_DONE = b"c\0\0\0\x04"
ROW = b"d\0\0\0\x07row"


def close_portal(name: bytes) -> bytes:
    return b"C" + (6 + len(name)).to_bytes(4, "big") + b"P" + name + b"\0"


def describe_portal(name: bytes) -> bytes:
    return b"D" + (6 + len(name)).to_bytes(4, "big") + b"P" + name + b"\0"


names = st.sampled_from([b"a", b"b", b"c", b"", b""])
used = st.sampled_from([b"a", b"b", b"c", b"", b"d", b"e"])
texts = st.sampled_from(
    [b"x1", b"x2", b"x3", b"x4", b"x1", b"x2", b"bad", b"fail", b"begin", b"commit", b"rollback", b""]
)
plain_texts = st.sampled_from(
    [b"select x1", b"select x2", b"values 3", b"select bad", b"select fail", b"begin", b"commit", b"rollback", b""]
)
portals = st.sampled_from([b"", b"", b"", b"p"])

whole = st.builds(
    lambda name, text, portal: [
        messages.parse(name, text), messages.bind(portal, name), describe_portal(portal), messages.execute(portal)
    ],
    names, texts, portals,
)  # fmt: skip
#: What may go as it came, without a look at each of its messages.
group = st.builds(
    lambda text, describe: [
        messages.parse(b"", text), messages.bind(b"", b""), *[describe_portal(b"")] * describe, messages.execute()
    ],
    plain_texts, st.booleans(),
)  # fmt: skip
groups = st.lists(st.one_of(group, group, group, st.just([messages.sync()])), min_size=1, max_size=6).map(
    lambda some: list(chain.from_iterable(some))
)
again = st.builds(
    lambda name, portal: [messages.bind(portal, name), messages.execute(portal), messages.sync()], used, portals
)
# A Parse under a name that is taken leaves something under that name for an SQL DEALLOCATE to find until the server is
# given back: these names are never parsed twice.
closed = st.builds(
    lambda name, text: [messages.close_statement(name), messages.parse(name, text)],
    st.sampled_from([b"d", b"e"]),
    texts,
)
deallocation = st.sampled_from(
    [b"deallocate d", b"deallocate e", b'DEALLOCATE PREPARE "d";', b"deallocate all", b"set x"]
)
by_protocol = deallocation.map(
    lambda text: [messages.parse(b"", text), messages.bind(b"", b""), messages.execute(), messages.sync()]
)
copies = st.sampled_from(
    [
        [messages.query("copy in"), ROW, ROW, COPY_DONE],
        [messages.query("copy in"), ROW, messages.copy_fail("no")],
        [messages.query("copy view"), ROW, COPY_DONE],
        [messages.query("copy out")],
        [messages.parse(b"", b"copy in"), messages.bind(b"", b""), messages.execute(), ROW, COPY_DONE, messages.sync(),
         messages.parse(b"", b"x1"), messages.bind(b"", b"")],
    ]
)  # fmt: skip
single = st.one_of(
    st.builds(messages.parse, names, texts),
    st.builds(messages.bind, portals, used),
    st.builds(messages.describe_statement, used),
    st.builds(messages.execute, portals),
    st.builds(messages.close_statement, used),
    st.builds(close_portal, portals),
    st.just(messages.sync()),
    st.just(messages.sync()),
    st.just(messages.flush()),
    st.builds(messages.query, texts),
).map(lambda message: [message])
unit = st.one_of(
    groups,
    whole,
    whole.map(lambda some: [*some, messages.sync()]),
    again,
    closed,
    closed.map(lambda some: [*some, messages.sync()]),
    st.builds(messages.query, deallocation).map(lambda message: [message]),
    by_protocol,
    copies,
    single,
    single,
)
action = st.one_of(
    st.tuples(st.just("client"), st.integers(0, 1), unit),
    st.tuples(
        st.just("together"),
        st.integers(0, 1),
        st.lists(unit, min_size=1, max_size=3).map(lambda some: list(chain.from_iterable(some))),
    ),
    st.tuples(st.just("server"), st.integers(0, 1), st.integers(1, 8)),
    st.tuples(st.just("swap"), st.just(0), st.just(0)),
)


#: Rounds in which no client hears anything, after which nothing more will come.
QUIET_ROUNDS = 4


class World:
    """Two clients, two servers, and a server of its own for each client."""

    def __init__(self, engine: Engine, capacity: int, known: int) -> None:
        registry = Registry(known)
        pool = PoolSettings(server_prepared_statements_cache_size=capacity)
        self.backends = [Backend(engine, pool) for _ in range(2)]
        self.free = list(self.backends)
        self.clients = [Client(engine, registry) for _ in range(2)]
        self.direct = [MiniPostgres() for _ in range(2)]

    def client(self, number: int, data: bytes) -> None:
        self.clients[number].say(data)
        self.direct[number].receive(data)
        assert self.clients[number].go(self.free) in (PENDING, 1), self.clients[number].link.fault

    def server(self, number: int, count: int) -> None:
        self.backends[number].work(count)
        for client in self.clients:
            assert client.go(self.free) in (PENDING, 1), client.link.fault

    def settle(self) -> None:
        """Let everything run until nothing moves: questions of our own pass without a client hearing anything."""
        quiet = 0
        for _ in range(200):
            before = [len(client.heard) for client in self.clients]
            for number in range(2):
                self.server(number, 1 << 20)
            if before == [len(client.heard) for client in self.clients] and not any(
                backend.postgres.inbox for backend in self.backends
            ):
                quiet += 1
                if quiet == QUIET_ROUNDS:
                    return
            else:
                quiet = 0
        raise AssertionError("it never ends")

    def close(self) -> None:
        for end in [*self.clients, *self.backends]:
            end.close()


lives = st.lists(action, min_size=10, max_size=60)


@settings(max_examples=150, deadline=None)
@given(lives, st.integers(1, 3), st.integers(1, 3))
def test_sharing_servers_is_not_seen(actions: list[Any], capacity: int, known: int) -> None:
    live(actions, capacity, known)


@pytest.mark.slow
@pytest.mark.timeout(600)
@settings(max_examples=5000, deadline=None)
@given(lives, st.integers(1, 3), st.integers(1, 3))
def test_sharing_servers_is_not_seen_by_many(actions: list[Any], capacity: int, known: int) -> None:
    live(actions, capacity, known)


def live(actions: list[Any], capacity: int, known: int) -> None:
    with running("epoll") as engine:
        world = World(engine, capacity, known)
        try:
            for what, number, argument in actions:
                if what == "client":
                    for message in argument:
                        world.client(number, message)
                elif what == "together":
                    world.client(number, b"".join(argument))
                elif what == "server":
                    world.server(number, argument)
                else:
                    world.free.reverse()
            for number in range(2):
                for end in (messages.sync(), messages.query("rollback"), messages.query("x9")):
                    world.client(number, end)
            world.settle()
            for client, direct in zip(world.clients, world.direct, strict=True):
                direct.work()
                assert tokens(client.heard) == tokens(direct.take())
                assert client.backend is None
            assert len(world.free) == 2
            for backend in world.backends:
                assert {s.name for s in backend.server.statements.prepared} <= set(backend.postgres.statements)
                assert len(backend.server.statements.prepared) <= capacity
                assert backend.server.replies.count == 0
        finally:
            world.close()
