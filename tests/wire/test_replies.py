"""The queue of owed answers, held against a PostgreSQL of bytes under every interleaving hypothesis finds."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mini_postgres import MiniPostgres, tokens

from pgdoorman_lib.wire import messages, owed
from pgdoorman_lib.wire.effect import Effect
from pgdoorman_lib.wire.framing import split
from pgdoorman_lib.wire.owed import (
    BIND,
    CLOSE,
    COPY_END,
    DESCRIBE,
    DESYNC,
    DROP,
    EXECUTE,
    FUNCTION,
    MADE_CLOSE,
    MADE_PARSE,
    PARSE,
    PASS,
    QUERY,
    RUN,
    SWALLOW,
    SYNC,
)
from pgdoorman_lib.wire.prepared import ClientStatements, ServerStatements
from pgdoorman_lib.wire.replies import Replies
from pgdoorman_lib.wire.runs import UnnamedRun
from pgdoorman_lib.wire.statements import Unnamed

OPERATIONS = {
    "P": PARSE, "B": BIND, "D": DESCRIBE, "E": EXECUTE, "C": CLOSE, "S": SYNC, "Q": QUERY, "F": FUNCTION,
    "c": COPY_END, "f": COPY_END,
}  # fmt: skip


def copy_data(body: bytes) -> bytes:
    return b"d" + (len(body) + 4).to_bytes(4, "big") + body


COPY_DONE = b"c\0\0\0\x04"
FUNCTION_CALL = b"F\0\0\0\x0e" + bytes(10)


class Booked(Effect):
    """Writes down its fate."""

    def __init__(self, log: list[tuple[int, str]], number: int) -> None:
        self.log = log
        self.number = number

    def done(self) -> int:
        self.log.append((self.number, "done"))
        return 0

    def undone(self, failed: int) -> int:
        self.log.append((self.number, "failed" if failed else "skipped"))
        return 0


class Line:
    """A client's messages to one backend, and what a pooler with ``Replies`` would let the client see."""

    def __init__(self) -> None:
        self.backend = MiniPostgres()
        self.direct = MiniPostgres()
        self.replies = Replies()
        self.seen: list[tuple[str, bytes]] = []
        self.fates: list[tuple[int, str]] = []
        self.effects = 0
        self.ambiguous = False
        self.names = 0

    def client(self, message: bytes) -> None:
        """The client sends a message that goes to the server."""
        self.direct.receive(message)
        self.backend.receive(message)
        operation = OPERATIONS.get(chr(message[0]))
        if operation is None:
            return
        if operation in (PARSE, CLOSE):
            self._effect(operation)
        else:
            self.replies.add(operation)

    def _effect(self, operation: int) -> None:
        self.effects += 1
        self.replies.add_effect(operation, Booked(self.fates, self.effects))

    def made(self, operation: int) -> None:
        """The client sends one that we answer; a server it was connected to directly would just say yes."""
        self.names += 1
        name = b"made%d" % self.names
        is_parse = operation == MADE_PARSE
        self.direct.receive(messages.parse(name, b"select") if is_parse else messages.close_statement(name))
        self._effect(operation)
        self._emit()

    def injected(self, fails: bool) -> None:
        """We send a Parse of our own in front of a Bind that needs it; when it fails, so does the Bind."""
        self.names += 1
        name = b"injected%d" % self.names
        self.effects += 1
        self.replies.add_effect(PARSE | SWALLOW, Booked(self.fates, self.effects))
        self.backend.receive(messages.parse(name, b"bad" if fails else b"select"))
        if fails:
            self.direct.receive(messages.parse(name, b"bad"))  # a failed Parse of the unnamed one would drop that
            self.backend.receive(messages.bind(b"", name))
        else:
            self.direct.receive(messages.bind(b"", b"ready"))
            self.backend.receive(messages.bind(b"", name))
        self.replies.add(BIND)

    def _emit(self) -> None:
        while code := self.replies.made_next():
            self.seen.append(("1" if code == MADE_PARSE else "3", b""))

    def server(self, count: int) -> None:
        """The server carries out ``count`` messages and we read what it says."""
        self.backend.work(count)
        for kind, body in split(self.backend.take())[0]:
            self._emit()
            verdict = self.replies.account(kind)
            if self.replies.uncertain:
                self.ambiguous = True
                return
            assert verdict != DESYNC, (chr(kind), self.seen)
            if kind == 0x5A:
                self.replies.status = body[0]
            if verdict == PASS:
                self.seen += tokens(bytes([kind]) + (len(body) + 4).to_bytes(4, "big") + body)
        self._emit()


plain = st.sampled_from(
    [
        messages.parse(b"", b"select"),
        messages.parse(b"", b"bad"),
        messages.parse(b"", b"fail"),
        messages.parse(b"twice", b"select"),
        messages.bind(b"", b""),
        messages.describe_statement(b""),
        messages.describe_statement(b"none"),
        messages.execute(),
        messages.close_statement(b"twice"),
        messages.sync(),
        messages.sync(),
        messages.flush(),
        messages.query("select"),
        messages.query("fail"),
        messages.query(""),
        messages.query("copy out"),
        messages.terminate()[:0] + copy_data(b"stray"),
        COPY_DONE,
        FUNCTION_CALL,
    ]
)
copy_body = st.lists(st.sampled_from([copy_data(b"row"), copy_data(b"poison"), messages.flush()]), max_size=3)
copy_end = st.sampled_from([COPY_DONE, messages.copy_fail("enough")])


@st.composite
def extended_copy(draw: st.DrawFn) -> list[bytes]:
    unit = [messages.parse(b"", draw(st.sampled_from([b"copy in", b"copy view"]))), messages.bind(b"", b"")]
    unit.append(messages.execute())
    unit += [messages.sync()] * draw(st.integers(0, 2))
    unit += draw(copy_body)
    # Behind it nothing is left that would copy again.
    return [*unit, draw(copy_end), messages.sync(), messages.parse(b"", b"select")]


@st.composite
def simple_copy(draw: st.DrawFn) -> list[bytes]:
    query = messages.query(draw(st.sampled_from(["copy in", "copy view"])))
    return [query, *draw(copy_body), draw(copy_end)]


steps = st.lists(
    st.one_of(
        st.integers(0, 6),
        plain.map(lambda message: [message]),
        plain.map(lambda message: [message]),
        extended_copy(),
        simple_copy(),
        st.sampled_from(["made parse", "made close", "injected", "injected bad"]),
    ),
    max_size=40,
)


@settings(max_examples=200, deadline=None)
@given(steps, st.lists(st.integers(0, 3), max_size=60))
def test_client_sees_what_postgresql_would_say(script: Sequence[int | str | list[bytes]], pauses: list[int]) -> None:
    line = Line()
    line.direct.statements[b"ready"] = b"select"
    left = list(pauses)
    for step in script:
        if isinstance(step, int):
            line.server(step)
        elif step == "made parse":
            line.made(MADE_PARSE)
        elif step == "made close":
            line.made(MADE_CLOSE)
        elif isinstance(step, str):
            line.injected(step == "injected bad")
        else:
            for message in step:
                line.client(message)
                line.server(left.pop() if left else 0)
        if line.ambiguous:
            return
    line.client(messages.sync())
    line.server(1 << 20)
    if line.ambiguous:
        return
    line.direct.work()
    assert line.seen == tokens(line.direct.take())
    assert line.replies.count == 0 and not line.replies.effects
    assert line.replies.settled() and not line.replies.skipping and not line.replies.made and not line.replies.syncs
    assert sorted(number for number, _ in line.fates) == list(range(1, line.effects + 1))


def fates_of(queue: Replies, *operations: int) -> list[tuple[int, str]]:
    log: list[tuple[int, str]] = []
    for number, operation in enumerate(operations):
        if operation in (SYNC, QUERY, EXECUTE, BIND):
            queue.add(operation)
        else:
            queue.add_effect(operation, Booked(log, number))
    return log


def test_an_error_undoes_backwards_and_says_which_one_failed() -> None:
    queue = Replies()
    log = fates_of(queue, PARSE, PARSE, CLOSE, SYNC, PARSE)
    assert queue.account(ord("1")) == PASS
    assert queue.account(ord("E")) == PASS
    assert log == [(0, "done"), (2, "skipped"), (1, "failed")]
    assert queue.account(ord("Z")) == PASS
    assert queue.account(ord("1")) == PASS
    assert log[-1] == (4, "done")


def test_an_error_of_a_message_without_effect_blames_nobody() -> None:
    queue = Replies()
    log = fates_of(queue, BIND, PARSE, SYNC)
    queue.account(ord("E"))
    assert log == [(1, "skipped")]


def test_what_is_sent_behind_an_error_has_no_effect_until_sync() -> None:
    queue = Replies()
    queue.add(BIND)
    queue.account(ord("E"))
    log = fates_of(queue, PARSE, MADE_CLOSE, SYNC, PARSE)
    assert log == [(0, "skipped"), (1, "skipped")]
    assert queue.made_next() == 0
    assert [queue.account(ord(kind)) for kind in "Z1"] == [PASS, PASS]
    assert log[2:] == [(3, "done")]


def test_settled_waits_for_what_stands_before_the_last_sync() -> None:
    queue = Replies()
    fates_of(queue, PARSE, SYNC)
    assert not queue.settled()
    queue.account(ord("1"))
    assert queue.settled()
    queue.add(QUERY)
    assert not queue.settled()
    queue.account(ord("Z"))
    assert not queue.settled()  # that was the Sync's
    queue.account(ord("Z"))
    assert queue.settled()


def test_swallowed_answers() -> None:
    queue = Replies()
    queue.add(QUERY | SWALLOW)
    queue.add(QUERY)
    assert [queue.account(ord(kind)) for kind in "SNTDCZ"] == [DROP] * 6
    assert [queue.account(ord(kind)) for kind in "SNTDCZ"] == [PASS] * 6


def test_a_notification_is_never_swallowed() -> None:
    queue = Replies()
    queue.add(QUERY | SWALLOW)
    assert queue.account(ord("A")) == PASS
    assert Replies().account(ord("A")) == PASS


def test_a_refusal_of_our_own_query_is_remembered() -> None:
    queue = Replies()
    queue.add(QUERY | SWALLOW)
    assert queue.account(ord("E")) == DROP
    assert queue.swallowed_error


def test_error_at_sync_is_passed_on() -> None:
    # A deferred constraint fails when the implicit transaction is committed.
    queue = Replies()
    queue.add(SYNC)
    assert [queue.account(ord(kind)) for kind in "EZ"] == [PASS, PASS]
    assert queue.count == 0


@pytest.mark.parametrize("kind", "NSE")
def test_asides_of_an_idle_server(kind: str) -> None:
    assert Replies().account(ord(kind)) == PASS


@pytest.mark.parametrize("kind", "ZCDT123InstGHVWRKcd?")
def test_answers_nobody_is_owed(kind: str) -> None:
    assert Replies().account(ord(kind)) == DESYNC


def test_a_stray_parse_complete_before_the_answer_to_a_query() -> None:
    """pg_doorman behind us sends one for DEALLOCATE ALL, which libpq does not mind: nobody's, and no disorder."""
    queue = Replies()
    queue.add(QUERY)
    assert [queue.account(ord(kind)) for kind in "1CZ"] == [DROP, PASS, PASS]
    assert not queue.count


def test_entries_are_numbered() -> None:
    """The head's number tells which of them an answer is about."""
    queue = Replies()
    for operation in (PARSE, BIND, EXECUTE, SYNC):
        queue.add(operation)
    assert queue.popped == 0
    queue.account(ord("1"))
    assert queue.popped == 1
    queue.account(ord("E"))
    assert queue.popped == 3
    queue.account(ord("Z"))
    assert queue.popped == 4 and queue.count == 0


@pytest.mark.parametrize(
    ("operation", "wrong"),
    [
        (PARSE, "23TnCZtsIGHVR"),
        (BIND, "13TnCZtsIGHVR"),
        (DESCRIBE, "123CZsIGHVR"),
        (EXECUTE, "23TntZVR"),
        (CLOSE, "12TnCZtsIGHVR"),
        (SYNC, "123TntCsIGHVR"),
        (QUERY, "23ntRKv"),
        (FUNCTION, "123ntRKvCI"),
    ],
)
def test_answers_to_something_else(operation: int, wrong: str) -> None:
    for kind in wrong:
        queue = Replies()
        queue.add(operation)
        assert queue.account(ord(kind)) == DESYNC, kind


@given(st.lists(st.integers(QUERY, MADE_CLOSE), max_size=30), st.binary(max_size=60))
def test_garbage_gives_a_verdict(operations: list[int], kinds: bytes) -> None:
    queue = Replies()
    for operation in operations:
        if operation == RUN:
            queue.add_effect(RUN, run_of(ClientStatements(), ServerStatements(3), b"select 1", b"select 2"))
        else:
            queue.add(operation)
    for kind in kinds:
        while queue.made_next():
            pass
        assert queue.account(kind) in (PASS, DROP, DESYNC)
        assert min(queue.count, queue.queries, queue.made, queue.syncs) >= 0


def run_of(mine: ClientStatements, held: ServerStatements, *texts: bytes, described: bool = True) -> UnnamedRun:
    run = UnnamedRun(mine, held, described)
    for text in texts:
        run.enter(Unnamed(text))
    return run


@pytest.mark.parametrize(
    ("answers", "left"),
    [
        ("E", None),
        ("1E", b"one"),
        ("12E", b"one"),
        ("12TE", b"one"),
        ("12TDDCE", None),
        ("12nI1E", b"two"),
        ("12nI12TDsE", None),
        ("12nC12nC12TDE", b"three"),
    ],
)
def test_an_error_in_a_run_leaves_the_statement_parsed_before_it(answers: str, left: bytes | None) -> None:
    queue, mine, held = Replies(), ClientStatements(), ServerStatements(3)
    mine.unnamed = held.unnamed = Unnamed(b"old")
    queue.add_effect(RUN, run_of(mine, held, b"one", b"two", b"three"))
    queue.add(SYNC)
    assert not queue.settled()
    assert [queue.account(ord(answer)) for answer in answers] == [PASS] * len(answers)
    assert mine.unnamed is held.unnamed and (mine.unnamed and mine.unnamed.body) == left
    assert queue.count == 1 and queue.settled() and queue.account(ord("Z")) == PASS


def test_a_run_behind_an_error_was_never_there() -> None:
    queue, mine, held = Replies(), ClientStatements(), ServerStatements(3)
    mine.unnamed = held.unnamed = old = Unnamed(b"old")
    queue.add(BIND)
    queue.add_effect(RUN, run_of(mine, held, b"one", b"two"))
    assert queue.account(ord("E")) == PASS
    assert mine.unnamed is old and held.unnamed is old and queue.skipping


def test_a_run_that_fails_spares_what_was_parsed_behind_it() -> None:
    queue, mine, held = Replies(), ClientStatements(), ServerStatements(3)
    queue.add_effect(RUN, run_of(mine, held, b"one"))
    queue.add(SYNC)
    queue.add_effect(RUN, run_of(mine, held, b"two"))
    queue.add(SYNC)
    assert [queue.account(ord(answer)) for answer in "EZ"] == [PASS, PASS]
    assert mine.unnamed is held.unnamed and mine.unnamed is not None and mine.unnamed.body == b"two"
    assert [queue.account(ord(answer)) for answer in "12TDCZ"] == [PASS] * 6
    assert queue.count == 0 and queue.settled()


@pytest.mark.parametrize(
    "answers", ["2", "T", "C", "3", "G", "Z", "11", "1T", "12C", "122", "12T2", "12TT", "12TCC", "12TH"]
)
def test_a_run_is_answered_in_its_order(answers: str) -> None:
    queue = Replies()
    queue.add_effect(RUN, run_of(ClientStatements(), ServerStatements(3), b"one", b"two"))
    queue.add(SYNC)
    assert [queue.account(ord(answer)) for answer in answers] == [PASS] * (len(answers) - 1) + [DESYNC]


def test_a_run_without_describe() -> None:
    queue = Replies()
    queue.add_effect(RUN, run_of(ClientStatements(), ServerStatements(3), b"one", b"two", described=False))
    queue.add(SYNC)
    assert [queue.account(ord(answer)) for answer in "12DNASC12CZ"] == [PASS] * 11
    assert queue.count == 0


def test_a_huge_pipeline_does_not_keep_its_memory() -> None:
    queue = Replies()
    for _ in range(5000):
        queue.add(SYNC)
    assert queue.size >= 5000
    for _ in range(5000):
        assert queue.account(ord("Z")) == PASS
    assert queue.size == 64 and queue.count == 0


# Copies.


def test_a_sync_in_a_copy_is_not_owed() -> None:
    queue = Replies()
    queue.add(EXECUTE)
    queue.add(SYNC)  # on its way before the copy was known
    assert queue.account(ord("G")) == PASS
    assert queue.copy_in
    queue.add(SYNC)
    queue.add(COPY_END)
    queue.add(SYNC)
    assert [queue.account(ord(kind)) for kind in "CZ"] == [PASS, PASS]
    assert queue.count == 0 and not queue.uncertain


def test_two_copies_in_one_query() -> None:
    queue = Replies()
    queue.add(QUERY)
    for _ in range(2):
        queue.account(ord("G"))
        assert queue.copy_in
        queue.add(COPY_END)
        assert not queue.copy_in
        queue.account(ord("C"))
    assert queue.account(ord("Z")) == PASS
    assert queue.count == 0


def test_two_copies_sent_ahead() -> None:
    queue = Replies()
    for operation in (QUERY, COPY_END, COPY_END):
        queue.add(operation)
    for _ in range(2):
        queue.account(ord("G"))
        assert not queue.copy_in
        queue.account(ord("C"))
    assert queue.account(ord("Z")) == PASS
    assert queue.count == 0


def test_a_copy_that_fails_before_its_sync_was_read() -> None:
    # "cannot copy to view" comes after CopyInResponse, and the Sync sent along with Execute is honoured then.
    queue = Replies()
    queue.add(EXECUTE)
    queue.add(SYNC)
    assert [queue.account(ord(kind)) for kind in "GEZ"] == [PASS, PASS, PASS]
    assert queue.count == 0 and not queue.skipping and not queue.uncertain


def test_a_failed_copy_whose_ready_can_be_either_syncs() -> None:
    queue = Replies()
    for operation in (EXECUTE, SYNC, COPY_END, SYNC):
        queue.add(operation)
    assert [queue.account(ord(kind)) for kind in "GEZ"] == [PASS, PASS, PASS]
    assert queue.uncertain  # another ReadyForQuery may follow, or not: this server can't be lent on


def test_a_client_that_talks_on_in_a_copy_is_not_held_up() -> None:
    queue = Replies()
    queue.add(QUERY)
    queue.account(ord("G"))
    assert queue.settled()  # PostgreSQL ends such a session; it must get the message to do so


def test_operations_fit_their_mask() -> None:
    assert all(0 < code < 16 for code in range(QUERY, MADE_CLOSE + 1))
    assert owed.EFFECT & owed.SWALLOW == 0
