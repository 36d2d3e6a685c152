"""The same random batches to PostgreSQL and through the pooler: the reply streams must be equal, message by message.

Two clients with interleaved batches of Parse, Bind, Describe, Execute, Close, Flush, Sync and Query, wrong ones
included, over pools of one and of two servers, with ample and with tiny caches.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from fix_doorman import Doorman, app_pool, until_idle
from fix_postgres import Postgres
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from pace import patience
from wire_client import (
    FLUSH,
    SYNC,
    Message,
    WireClient,
    bind,
    close_portal,
    close_statement,
    describe_portal,
    describe_statement,
    execute,
    kinds,
    normal,
    parse,
    query,
)

#: More for a search through the night: PGDOORMAN_TEST_EXAMPLES=20000 (then not derandomized).
EXAMPLES = int(os.environ.get("PGDOORMAN_TEST_EXAMPLES", "0"))


@pytest.fixture(scope="module")
def doorman_over(postgres: Postgres) -> Mapping[str, Any]:
    return {
        "pools": {
            "tinyone": app_pool(postgres, 1, prepared_statements_cache_size=2),
            "tinytwo": app_pool(postgres, 2, prepared_statements_cache_size=2),
        }
    }


# -- what is sent

#: Each message with the replies it is owed: one character an answer, as in Session.read_owed.
Sent = tuple[bytes, str, str]

names = st.sampled_from(["", "", "s1", "s1", "s2"])
portals = st.sampled_from(["", "", "", "p1"])
texts = st.sampled_from(
    [
        "SELECT 1",
        "SELECT 1",
        "SELECT $1::int + 1",
        "SELECT $1::text, $2::int",
        "SELECT generate_series(1, $1::int)",
        "SELECT generate_series(1, 7)",
        "SELECT 1/($1::int - 1)",
        "SELECT repeat('long', 9000)",
        "SELECT 1/0",
        "selec 1",
        "SELECT * FROM no_such_table",
        "SELECT 1; SELECT 2",
        "",
        "BEGIN",
        "COMMIT",
        "ROLLBACK",
        "DEALLOCATE ALL",
        "DEALLOCATE s1",
        "DISCARD ALL",
    ]
)
values = st.sampled_from([(), (), (b"1",), (b"5",), (b"0",), (b"x",), (None,), (b"x", b"2"), (b"2", b"x")])
queries = st.sampled_from(
    [
        "SELECT 1",
        "SELECT 1; SELECT 2",
        "",
        ";",
        "BEGIN",
        "BEGIN",
        "COMMIT",
        "ROLLBACK",
        "SELECT 1/0",
        "SELECT 1; SELECT 1/0; SELECT 3",
        "selec",
        "SELECT generate_series(1, 3)",
        "DEALLOCATE s1",
        "DEALLOCATE s2",
        "DEALLOCATE ALL",
        "DISCARD ALL",
        "SELECT 1; DEALLOCATE s1",
        "DO $$ BEGIN RAISE NOTICE 'n'; END $$",
    ]
)

extended: st.SearchStrategy[Sent] = st.one_of(
    st.builds(lambda n, t: (parse(n, t), "1", f"Parse({n!r}, {t!r})"), names, texts),
    st.builds(lambda n, t: (parse(n, t), "1", f"Parse({n!r}, {t!r})"), names, texts),
    st.builds(lambda p, n, v: (bind(p, n, v), "2", f"Bind({p!r}, {n!r}, {v})"), portals, names, values),
    st.builds(lambda p, n, v: (bind(p, n, v), "2", f"Bind({p!r}, {n!r}, {v})"), portals, names, values),
    st.builds(lambda n: (describe_statement(n), "tr", f"DescribeStatement({n!r})"), names),
    st.builds(lambda p: (describe_portal(p), "r", f"DescribePortal({p!r})"), portals),
    st.builds(lambda p, m: (execute(p, m), "x", f"Execute({p!r}, {m})"), portals, st.sampled_from([0, 0, 0, 1, 2])),
    st.builds(lambda n: (close_statement(n), "3", f"CloseStatement({n!r})"), names),
    st.builds(lambda p: (close_portal(p), "3", f"ClosePortal({p!r})"), portals),
)
usual: st.SearchStrategy[list[Sent]] = st.builds(
    lambda n, t, v, d: [
        (parse(n, t), "1", f"Parse({n!r}, {t!r})"),
        *([(describe_statement(n), "tr", f"DescribeStatement({n!r})")] if d == 1 else []),
        (bind("", n, v), "2", f"Bind('', {n!r}, {v})"),
        *([(describe_portal(""), "r", "DescribePortal('')")] if d == 2 else []),
        (execute(""), "x", "Execute('', 0)"),
    ],
    names,
    texts,
    values,
    st.integers(0, 2),
)
again: st.SearchStrategy[list[Sent]] = st.builds(
    lambda n, v: [(bind("", n, v), "2", f"Bind('', {n!r}, {v})"), (execute(""), "x", "Execute('', 0)")], names, values
)
pieces: st.SearchStrategy[list[Sent]] = st.one_of(
    usual, again, extended.map(lambda m: [m]), extended.map(lambda m: [m])
)
endings: st.SearchStrategy[Sent] = st.one_of(
    st.just((SYNC, "Z", "Sync")),
    st.just((SYNC, "Z", "Sync")),
    st.just((SYNC, "Z", "Sync")),
    st.just((FLUSH, "", "Flush")),
    st.builds(lambda q: (query(q), "q", f"Query({q!r})"), queries),
)


@dataclass(frozen=True)
class Step:
    """What one client sends in one go; read in full before anybody sends more, unless it ends open."""

    client: int
    messages: tuple[Sent, ...]


def _step(client: int, parts: list[list[Sent]], ending: Sent, more: list[Sent]) -> Step:
    flat = tuple(m for part in parts for m in part)
    return Step(client, (*flat, ending, *more))


several_queries = st.lists(st.builds(lambda q: (query(q), "q", f"Query({q!r})"), queries), max_size=2)
steps = st.builds(
    _step,
    st.sampled_from([0, 0, 1]),
    st.lists(pieces, max_size=4),
    endings,
    st.one_of(st.just([]), st.just([]), several_queries),
)
plans = st.lists(steps, min_size=1, max_size=8)


# -- reading what is owed


@dataclass
class Session:
    """One connection and what it is owed: ``1 2 3`` as they are, ``t`` ParameterDescription, ``r`` T or n, ``x`` up to
    C, I or s, ``q`` a whole Query, ``Z`` a Sync's."""

    client: WireClient
    owed: deque[str] = field(default_factory=deque)
    failed: bool = False
    #: Extended messages went out since the last Sync or Query: the server is held, whatever it said last.
    open_batch: bool = False
    status: bytes = b"I"

    def send(self, step: Step) -> None:
        failed = self.failed
        for _, replies, _ in step.messages:
            if replies == "Z":
                self.owed.append(replies)
                failed = self.open_batch = False
            elif replies and not failed:
                # What is sent before we know of an error is taken off in read_owed.
                self.owed.extend(replies)
                self.open_batch = replies != "q"
        self.client.send(b"".join(data for data, _, _ in step.messages))

    def read_owed(self) -> list[Message]:
        """Everything that is due; ends when nothing more can come before we send."""
        out: list[Message] = []
        while self.owed:
            got = self.client.read()
            out.append(got)
            head = self.owed[0]
            if got.kind in "NSA":
                continue
            if head == "q":
                if got.kind == "Z":
                    self._ready(got)
            elif got.kind == "E":
                self.failed = True
                while self.owed and self.owed[0] != "Z":
                    self.owed.popleft()
            elif head == "Z":
                assert got.kind == "Z", kinds(out)
                self._ready(got)
            elif head == "x":
                assert got.kind in "DCIs", kinds(out)
                if got.kind != "D":
                    self.owed.popleft()
            elif head == "r":
                assert got.kind in "Tn", kinds(out)
                self.owed.popleft()
            else:
                assert got.kind == head, (head, kinds(out))
                self.owed.popleft()
        return out

    def _ready(self, got: Message) -> None:
        self.owed.popleft()
        self.failed = False
        self.status = got.body


SYNC_STEP = ((SYNC, "Z", "Sync"),)
ROLLBACK_STEP = ((query("ROLLBACK"), "q", "Query('ROLLBACK')"),)


def settle(session: int, holding: Session) -> Iterator[Step]:
    """What brings a session that holds its server to let go of it."""
    if holding.open_batch or holding.failed:
        yield Step(session, SYNC_STEP)
    if holding.status != b"I":
        yield Step(session, ROLLBACK_STEP)


def run(doorman: Doorman, postgres: Postgres, database: str, servers: int, plan: list[Step]) -> None:
    with (
        postgres.wire() as direct_a,
        postgres.wire() as direct_b,
        doorman.wire(database) as pooled_a,
        doorman.wire(database) as pooled_b,
    ):
        direct = [Session(direct_a), Session(direct_b)]
        pooled = [Session(pooled_a), Session(pooled_b)]
        said: list[str] = []
        for one in (direct_a, direct_b, pooled_a, pooled_b):
            one.timeout = patience(4.0)  # a wrong count of replies shows as one that never comes

        def do(step: Step) -> None:
            said.append(f"client {step.client}: " + " ".join(text for _, _, text in step.messages))
            for side in (direct, pooled):
                side[step.client].send(step)
            try:
                expected = direct[step.client].read_owed()
            except BaseException:
                note("\n".join(said))
                raise
            try:
                got = pooled[step.client].read_owed()
            except BaseException:
                note("\n".join(said))
                note(f"expected {kinds(expected)}")
                raise
            if normal(got) != normal(expected):
                note("\n".join(said))
                note(f"expected {kinds(expected)}")
                note(f"got      {kinds(got)}")
            assert normal(got) == normal(expected)

        def settled(index: int) -> None:
            while rest := next(settle(index, direct[index]), None):
                do(rest)

        for step in plan:
            if servers == 1:
                settled(1 - step.client)
            do(step)
        for index in (0, 1):
            settled(index)
        for side in (pooled_a, pooled_b):
            assert side.is_quiet(0.001)


PROFILE: dict[str, Any] = {
    "max_examples": EXAMPLES or 150,
    "derandomize": not EXAMPLES,
    "deadline": None,
    "suppress_health_check": [HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    "print_blob": True,
}


@pytest.mark.timeout(3600 if EXAMPLES else 120)
@pytest.mark.parametrize(("database", "servers"), [("onedb", 1), ("twodb", 2), ("tinyone", 1), ("tinytwo", 2)])
def test_replies_are_postgresql_s(doorman: Doorman, postgres: Postgres, database: str, servers: int) -> None:
    @settings(**PROFILE)
    @given(plan=plans)
    def compare(plan: list[Step]) -> None:
        run(doorman, postgres, database, servers, plan)

    compare()
    until_idle(doorman, database)


def test_the_comparison_sees_a_difference(postgres: Postgres) -> None:
    """Streams that differ in one answer's place are not equal: the test above can fail."""
    with postgres.wire() as one, postgres.wire() as other:
        first = one.ask(parse("a", "SELECT 1") + bind("", "a") + execute() + SYNC)
        second = other.ask(parse("a", "SELECT 1") + bind("", "a") + execute() + SYNC)
        assert normal(first) == normal(second)
        assert normal(first) != normal([second[1], second[0], *second[2:]])
        assert normal(first) != normal(second[1:])
