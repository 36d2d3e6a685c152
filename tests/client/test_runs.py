"""Groups of messages that are taken as a whole come to the same as each of their messages alone."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

import pytest
from core_fakes import running
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mini_postgres import tokens
from relay_rig import Backend, Client

from pgdoorman_lib.client.events import PENDING
from pgdoorman_lib.client.measures import MAX_KNOWN, MOST_KNOWN
from pgdoorman_lib.net.engine import Engine
from pgdoorman_lib.wire import consts, messages
from pgdoorman_lib.wire.framing import split
from pgdoorman_lib.wire.scan import Lexicon
from pgdoorman_lib.wire.session_state import DIRTY_LOCKS
from pgdoorman_lib.wire.statements import OUR_NAME
from pgdoorman_lib.wire.traces import Traces

DESCRIBE_PORTAL = b"D\0\0\0\x06P\0"
BIND_S = messages.bind(b"", b"s")


def group(text: bytes, describes: bool = True, values: list[bytes | None] | None = None, rows: int = 0) -> list[bytes]:
    """Parse, Bind, perhaps Describe, and Execute."""
    bind = messages.bind(b"", b"", values or [])
    execute = b"E\0\0\0\x09\0" + rows.to_bytes(4, "big")
    return [messages.parse(b"", text), bind, *[DESCRIBE_PORTAL] * describes, execute]


SYNC = [messages.sync()]
texts = st.sampled_from(
    [
        b"select x1", b"select x1", b"select x2", b" VALUES 3", b"select bad", b"select fail", b"begin", b"commit",
        b"rollback", b"", b"insert x", b"x4", b"bad", b"fail", b"analyze x", b"select 1 into x",
        b"select pg_notify(x)", b"select '" + b"x" * 2000 + b"'",
    ]
)  # fmt: skip
some_group = st.builds(
    group, texts, st.booleans(), st.lists(st.sampled_from([b"v", b"Dvalue", None]), max_size=2), st.integers(0, 1)
)
others = st.sampled_from(
    [
        [messages.bind(b"", b"")], [messages.execute()], [DESCRIBE_PORTAL], [messages.describe_statement(b"")],
        [messages.close_statement(b"")], [messages.flush()], [messages.parse(b"", b"select x1")],
        [messages.parse(b"s", b"select x1")], [messages.bind(b"", b"s")], [messages.query("select x5")],
        [messages.bind(b"p", b"")], [messages.execute(b"p")],
    ]
)  # fmt: skip
batches = st.lists(st.one_of(some_group, some_group, some_group, others, st.just(SYNC)), min_size=1, max_size=8).map(
    lambda some: list(chain.from_iterable(some))
)


class Side:
    """A client and two servers; each client's message alone, or all that it sends at once."""

    def __init__(self, engine: Engine) -> None:
        self.client = Client(engine)
        self.backends = [Backend(engine) for _ in range(2)]
        self.free = list(self.backends)
        #: what has come to the servers
        self.told: list[bytes] = [b"", b""]
        #: messages of the servers that have not been passed on
        self.unheard: list[list[bytes]] = [[], []]

    def says(self, data: bytes) -> None:
        self.client.say(data)
        self.goes()

    def goes(self) -> None:
        assert self.client.go(self.free) in (PENDING, 1), self.client.link.fault

    def works(self, count: int, cut: int) -> None:
        """The servers carry out so many messages; their answers arrive in two parts."""
        for number, backend in enumerate(self.backends):
            data = backend.hear()
            self.told[number] += data
            backend.postgres.receive(data)
            backend.postgres.work(count)
            answers = backend.postgres.take()
            for part in (answers[:cut], answers[cut:]):
                if part:
                    backend.say(part)
                    self.goes()

    def settles(self) -> None:
        quiet = 0
        while quiet < 4:
            before = len(self.client.heard), list(self.told)
            self.works(1 << 30, 0)
            quiet = quiet + 1 if before == (len(self.client.heard), self.told) else 0

    def books(self) -> dict[str, Any]:
        """All that a relay knows when nothing is under way; not what is to be asked at the end, to be on the safe side:
        what is known to be skipped when it comes is not noted.
        """
        link = self.client.link
        unnamed = link.statements.unnamed
        batch = link.batch
        return {
            "unnamed": unnamed
            and (unnamed.body, unnamed.acts and unnamed.acts.text, unnamed.seen is link.scanner.lexicon),
            "names": {name: statement.body for name, statement in link.statements.names.items()},
            # Not what depends on when which message had to wait.
            "batch": (batch.in_batch, batch.group_unnamed, batch.planning_changed, batch.resetting, batch.cut),
            "bound": [batch.bound and batch.bound.body, batch.used and batch.used.body],
        }

    def servers(self) -> list[dict[str, Any]]:
        """What is known of both, and the names nobody sees left out, what they were told and what they have."""
        known = [self._server(backend) for backend in self.backends]
        for backend, about, told in zip(self.backends, known, nameless(self.told), strict=True):
            about.update(told=told, has=backend.postgres.unnamed)
        return known

    def _server(self, backend: Backend) -> dict[str, Any]:
        replies = backend.server.replies
        held = backend.server.statements
        return {
            "dirty": backend.server.dirty,
            "unnamed": held.unnamed and held.unnamed.body,
            "is the client's": held.unnamed is self.client.link.statements.unnamed,
            "prepared": len(held.prepared),
            "free": backend in self.free,
            **{
                name: getattr(replies, name)
                for name in (
                    "count",
                    "barrier",
                    "queries",
                    "syncs",
                    "made",
                    "skipping",
                    "copy_in",
                    "ignored",
                    "uncertain",
                )
            },
            "status": replies.status,
            "effects": len(replies.effects),
        }

    def close(self) -> None:
        for end in (self.client, *self.backends):
            end.close()


def nameless(told: list[bytes]) -> list[Any]:
    """Messages to servers, our names by the order in which they come.

    Without what depends on when something came: Flush, which may be ours or not needed, and Sync with nothing before it,
    which is answered here while the client has no server.
    """
    known: dict[bytes, bytes] = {}
    return [list(_essential(split(data)[0], known)) for data in told]


def _essential(found: Iterable[tuple[int, bytes]], known: dict[bytes, bytes]) -> Iterator[tuple[int, bytes]]:
    before = consts.SYNC
    for kind, body in found:
        if kind == consts.FLUSH or (kind == consts.SYNC and before in (consts.SYNC, consts.QUERY)):
            continue
        before = kind
        yield kind, re.sub(OUR_NAME, lambda match: known.setdefault(match[0], b"%d" % len(known)), body)


step = st.tuples(batches, st.integers(0, 12), st.integers(0, 200), st.booleans())


_X1 = group(b"select x1")
#: A Sync alone comes while the one client has no server any more, and the other has.
_LATE_SYNC = [
    ([*_X1, *_X1, *SYNC], 7, 0, False),
    ([*group(b"select x1", False), BIND_S, *SYNC], 7, 0, False),
    (SYNC, 0, 0, False),
]


_RUN_X1 = group(b"select x1", False)
_PARSE_S = messages.parse(b"s", b"select x1")
#: What the last Parse has taken the place of has failed by the time that it is skipped itself.
_FAILED_BEFORE = [
    ([*_RUN_X1, *_RUN_X1, *_RUN_X1, *SYNC, _RUN_X1[1]], 7, 0, False),
    (group(b"select bad", False), 5, 0, False),
    ([*SYNC, _RUN_X1[2], *_RUN_X1], 0, 0, False),
]
#: The Bind behind the Sync goes to another borrow if it comes with it, to the same if it comes behind it.
_BEHIND_SYNC = [
    ([_PARSE_S, *_RUN_X1, *_RUN_X1, *_RUN_X1], 8, 0, False),
    ([*_RUN_X1, *_RUN_X1, _PARSE_S, *SYNC, _RUN_X1[1]], 6, 0, False),
]


@settings(max_examples=200, deadline=None)
@given(st.lists(step, min_size=1, max_size=5))
@example(_LATE_SYNC)
@example(_BEHIND_SYNC)
@example(_FAILED_BEFORE)
def test_whole_is_the_same_as_one_by_one(steps: list[Any]) -> None:
    compared(steps)


@pytest.mark.slow
@pytest.mark.timeout(600)
@settings(max_examples=6000, deadline=None)
@given(st.lists(step, min_size=1, max_size=5))
def test_whole_is_the_same_as_one_by_one_often(steps: list[Any]) -> None:
    compared(steps)


def compared(steps: list[Any]) -> None:
    with running("epoll") as engine:
        whole, single = Side(engine), Side(engine)
        try:
            for script, count, cut, swap in steps:
                whole.says(b"".join(script))
                for message in script:
                    single.says(message)
                for side in (whole, single):
                    side.works(count, cut)
                if whole.client.backend is None and single.client.backend is None and swap:
                    whole.free.reverse()
                    single.free.reverse()
            for side in (whole, single):
                side.settles()
            same(whole, single)
            for side in (whole, single):
                side.says(b"".join([messages.sync(), messages.query("rollback")]))
                side.settles()
            assert tokens(whole.client.heard) == tokens(single.client.heard)
            same(whole, single)
        finally:
            whole.close()
            single.close()


def same(whole: Side, single: Side) -> None:
    """Both know the same, and have done the same to their servers, if they have given them back in the same places.

    What comes behind a Sync goes to the server that has not answered it yet, or to the next one.
    """
    assert whole.books() == single.books()
    if whole.client.borrows == single.client.borrows:
        assert whole.servers() == single.servers()


def all_answered(side: Side, data: bytes) -> str:
    """The types of the messages that ``data`` is answered with."""
    heard = len(side.client.heard)
    side.says(data)
    side.settles()
    return "".join(letter for letter, _ in tokens(side.client.heard[heard:]))


@pytest.mark.parametrize("broken", [[b"select bad"], [b"select x1", b"select bad"], [b"select x1", b"select fail"]])
def test_nobody_gets_the_statement_behind_one_that_failed(broken: list[bytes]) -> None:
    with running("epoll") as engine:
        side, other = Side(engine), Client(engine)
        del side.free[0]
        batch = [*chain.from_iterable(group(text) for text in broken), *SYNC, *group(b"select secret"), *SYNC]
        assert all_answered(side, b"".join(batch)).endswith("EZ12TDCZ")
        other.say(messages.bind(b"", b"") + messages.execute() + messages.sync())
        for _ in range(3):
            other.go(side.free)
            side.backends[1].work()
        other.go(side.free)
        assert tokens(other.heard) == [("E", b"26000"), ("Z", b"I")]
        other.close()
        side.close()


@pytest.mark.parametrize("texts", [[b"select f()"], [b"select x1", b"select f()"]])
def test_a_known_text_is_looked_at_again_with_other_words(texts: list[bytes]) -> None:
    with running("epoll") as engine:
        side = Side(engine)
        scanner = side.client.link.scanner
        batch = b"".join([*chain.from_iterable(group(text) for text in texts), *SYNC])

        def dirty() -> int:
            side.says(batch)
            found = int(side.backends[1].server.dirty)
            side.settles()
            return found

        assert (dirty(), dirty()) == (0, 0)
        scanner.use(Lexicon({b"f": Traces(DIRTY_LOCKS)}))
        assert dirty() == DIRTY_LOCKS
        side.close()


@pytest.mark.parametrize("texts", [[b"select f()"], [b"select x1", b"select f()"]])
def test_what_is_in_doubt_is_not_known(texts: list[bytes]) -> None:
    with running("epoll") as engine:
        side = Side(engine)
        batch = b"".join([*chain.from_iterable(group(text) for text in texts), *SYNC])
        all_answered(side, batch)
        side.client.link.scanner.doubts = 1
        side.says(batch)
        unnamed = side.client.link.statements.unnamed
        assert unnamed is not None and unnamed.acts is not None, "nobody has looked at it"
        side.settles()
        side.close()


def test_known_texts_have_their_bounds() -> None:
    with running("epoll") as engine:
        side = Side(engine)
        known = side.client.link.scanner.known
        for number in range(MOST_KNOWN + 10):
            side.says(b"".join([*group(b"select %d" % number), *SYNC]))
            side.settles()
            assert 0 < len(known) <= MOST_KNOWN
        side.says(b"".join([*group(b"select '%s'" % (b"x" * MAX_KNOWN)), *SYNC]))
        assert all(len(body) <= MAX_KNOWN for body in known)
        side.settles()
        side.close()
