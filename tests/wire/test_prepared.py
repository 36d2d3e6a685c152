"""The books of prepared statements: sharing, eviction, and taking back what failed or was skipped."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgdoorman_lib.wire import consts, messages
from pgdoorman_lib.wire.effects import (
    UNTOLD,
    AwaitedParse,
    Described,
    Eviction,
    InjectedParse,
    NameClosed,
    NamedParse,
    UnnamedInjected,
    UnnamedParse,
    Verification,
)
from pgdoorman_lib.wire.measures import BELIEVED, LARGE, OVERHEAD
from pgdoorman_lib.wire.owed import CLOSE, DESCRIBE, MADE_CLOSE, MADE_PARSE, PARSE, SWALLOW, SYNC
from pgdoorman_lib.wire.prepared import ClientStatements, ServerStatements
from pgdoorman_lib.wire.replies import Replies
from pgdoorman_lib.wire.statements import (
    OUR_NAME,
    PREFIX,
    REMEMBERED,
    TOKEN_SIZE,
    Registry,
    Statement,
    Unnamed,
    name_process,
)
from pgdoorman_lib.wire.told import was_told

BODY = b"select 1\0\0\0"


def body(number: int) -> bytes:
    return b"select %d\0\0\0" % number


# Sharing.


def test_messages_of_a_statement() -> None:
    statement = Registry(10).get(BODY, ())
    assert bytes(statement.parse_message()) == messages.parse(statement.name, b"select 1")
    assert bytes(statement.close_message()) == messages.close_statement(statement.name)
    assert bytes(statement.cname) == statement.name + b"\0"


def test_the_same_bytes_are_the_same_statement() -> None:
    registry = Registry(10)
    assert registry.get(BODY, ()) is registry.get(BODY, ())
    assert registry.get(BODY, ()) is not registry.get(b"select 1\0\0\x01\0\0\0\x17", ())
    assert registry.find(BODY, ()) is registry.get(BODY, ())
    assert registry.find(b"select 2\0\0\0", ()) is None


def test_other_settings_are_another_statement() -> None:
    registry = Registry(10)
    plain = registry.get(BODY, ())
    other = registry.get(BODY, (("search_path", "x"),))
    assert plain is not other and plain.name != other.name
    assert registry.get(BODY, (("search_path", "x"),)) is other


def test_a_private_statement_is_never_shared() -> None:
    registry = Registry(10)
    private = registry.private(BODY)
    assert registry.get(BODY, ()) is not private
    assert private.name.startswith(PREFIX)


@pytest.mark.parametrize("capacity", [1, 2, 3])
def test_the_least_recently_parsed_is_forgotten(capacity: int) -> None:
    registry = Registry(capacity)
    first = registry.get(body(0), ())
    for number in range(1, capacity):
        registry.get(body(number), ())
    registry.get(body(0), ())
    registry.get(body(99), ())
    assert len(registry.known) == capacity
    if capacity > 1:
        assert registry.get(body(0), ()) is first


@given(st.lists(st.integers(0, 6), max_size=60), st.integers(1, 3))
def test_names_never_come_back(numbers: list[int], capacity: int) -> None:
    registry = Registry(capacity)
    seen: dict[bytes, tuple[bytes, Statement]] = {}
    for number in numbers:
        statement = registry.get(body(number), ())
        assert statement.body == body(number)
        known = seen.setdefault(statement.name, (statement.body, statement))
        assert known == (statement.body, statement)
        assert len(registry.known) <= capacity


# Names.

#: PostgreSQL's NAMEDATALEN - 1.
LONGEST_NAME = 63
ENVIRONMENT = (("search_path", "x, y"), ("standard_conforming_strings", "off"))


def test_a_shared_name_is_made_of_what_the_statement_is() -> None:
    """Any process makes the same of it: these are what every version of it begins with."""
    expected = {
        (BODY, ()): b"09ab94580f6905cfdea1d69733498f37",
        (BODY, ENVIRONMENT): b"931f99031e144902bb0013999deb232b",
    }
    for (text, environment), beginning in expected.items():
        names = [Registry(10).get(text, environment, None, now).name for now in (5.0, 7000.5)]
        assert [name.rpartition(b"_")[0] for name in names] == [PREFIX + beginning] * 2
        assert names[0] != names[1]


def test_what_a_name_tells_of_when_it_was_analysed() -> None:
    later = 1e7 + 0.25  # later than what other tests have said
    stamps = [Registry(10).get(BODY, (), None, later).name.rpartition(b"_")[2] for _ in range(3)]
    assert [int(stamp, 16) for stamp in stamps] == [10000000250, 10000000251, 10000000252]


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.floats(0, 1e9)), max_size=30))
def test_no_name_is_another_s(made: list[tuple[int, bool, float]]) -> None:
    statements = []
    for number, shared, now in made:
        registry = Registry(10)
        statements.append(registry.get(body(number), (), None, now) if shared else registry.private(body(number)))
    names = [statement.name for statement in statements]
    assert len(set(names)) == len(names)
    for name in names:
        assert len(name) <= LONGEST_NAME
        assert re.fullmatch(OUR_NAME, name)
        assert re.fullmatch(rb"[a-z_][a-z0-9_]*", name), "SQL need not quote it"


def test_a_process_has_names_of_its_own() -> None:
    before = Registry(10).private(BODY).name
    try:
        name_process(b"\x00\x01abcd")
        name = Registry(10).private(BODY).name
        assert name.startswith(PREFIX + b"000161626364_")
        assert name.rpartition(b"_")[0] != before.rpartition(b"_")[0]
        with pytest.raises(ValueError, match="6 bytes"):
            name_process(b"short")
    finally:
        name_process(bytes(TOKEN_SIZE))


# Versions.


def test_what_was_analysed_is_believed_for_a_moment_only() -> None:
    registry = Registry(10)
    first = registry.get(BODY, (), None, 100.0)
    assert registry.get(BODY, (), None, 100.0 + BELIEVED) is first is registry.find(BODY, (), 100.0 + BELIEVED)
    later = 100.0 + BELIEVED + 0.001
    assert registry.find(BODY, (), later) is None
    second = registry.get(BODY, (), None, later)
    assert second is not first and second.name != first.name
    assert second.body is first.body, "one copy of the text"
    assert registry.find(BODY, (), later) is second
    assert second.handle.line == first.handle.line
    assert second.handle.current and not first.handle.current
    assert len(registry.known) == 1


def test_a_use_does_not_make_it_younger() -> None:
    registry = Registry(10)
    first = registry.get(BODY, (), None, 100.0)
    assert registry.get(BODY, (), None, 100.0 + BELIEVED * 0.9) is first
    assert registry.get(BODY, (), None, 100.0 + BELIEVED * 1.1) is not first


def test_what_is_discarded_or_forgotten_is_not_given_again() -> None:
    registry = Registry(10)
    first, second = registry.get(body(1), ("x",)), registry.get(body(2), ())
    registry.discard(first)
    registry.discard(first)
    assert registry.find(body(1), ("x",)) is None and registry.find(body(2), ()) is second
    assert registry.bytes == len(body(2))
    registry.forget()
    assert registry.find(body(2), ()) is None and registry.bytes == 0
    assert not first.handle.current and not second.handle.current
    registry.discard(second)
    assert registry.bytes == 0


def test_a_registry_is_bounded_by_bytes() -> None:
    registry = Registry(1000, 50)
    statements = [registry.get(body(number), ()) for number in range(100)]
    assert registry.bytes == sum(len(statement.body) for statement in registry.known.values()) <= 50
    assert list(registry.known.values()) == statements[-len(registry.known) :]
    assert [statement.handle.current for statement in statements].count(1) == len(registry.known)
    large = registry.get(b"x" * 51, ())
    assert large.environment is None and registry.find(b"x" * 51, ()) is None, "it is nobody else's"


class Holding:
    """A server on which versions are made as the relay makes them."""

    def __init__(self, capacity: int = 100, capacity_bytes: int = 1 << 20) -> None:
        self.held = ServerStatements(capacity, capacity_bytes)
        self.closed: list[bytes] = []

    def make(self, statement: Statement) -> list[bytes]:
        """The names closed for it."""
        if self.held.has(statement):
            return []
        closed = []
        self.held.supersede(statement)
        while (victim := self.held.surplus(None, statement.handle.size)) is not None:
            Eviction(victim, self.held)
            closed.append(victim.name)
        InjectedParse(statement, self.held)
        assert self.held.bytes == sum(handle.size for handle in self.held.prepared)
        return closed


def test_a_superseded_version_is_closed_with_the_parse_of_the_next() -> None:
    registry, server, client = Registry(10), Holding(), ClientStatements()
    versions = [registry.get(BODY, (), None, number * 10.0) for number in range(1)]
    client.enter(b"mine", versions[0])
    server.make(versions[0])
    for number in range(1, 6):
        fresh = registry.get(BODY, (), None, number * 10.0)
        closed = server.make(fresh)
        # The first is held by a client; all others leave as soon as there is a newer one.
        assert closed == ([versions[-1].name] if number > 1 else [])
        versions.append(fresh)
    client.leave(b"mine")
    other = registry.get(body(2), (), None, 100.0)
    assert server.make(other) == [versions[0].name], "now nobody holds it"
    assert list(server.held.prepared) == [versions[-1].handle, other.handle]


def test_a_superseded_version_is_closed_after_the_registry_forgot_it() -> None:
    registry, server = Registry(10), Holding()
    first = registry.get(BODY, ())
    server.make(first)
    registry.forget()
    assert server.make(registry.get(BODY, ())) == [first.name]


# Eviction.


def test_servers_are_bounded_by_bytes() -> None:
    registry, server = Registry(100), Holding(100, 60)
    statements = [registry.get(body(number), ()) for number in range(30)]
    for statement in statements:
        server.make(statement)
        assert server.held.bytes <= 60
    assert server.held.has(statements[-1])
    huge = registry.private(b"x" * 100)
    server.make(huge)
    assert list(server.held.prepared) == [huge.handle], "one that is larger than all may be is there alone"


def test_what_nobody_holds_is_evicted_first() -> None:
    registry, server, client = Registry(100), Holding(10), ClientStatements()
    kept = [registry.get(body(number), ()) for number in range(5)]
    for number, statement in enumerate(kept):
        client.enter(b"%d" % number, statement)
        server.make(statement)
    useless = registry.private(body(50))
    server.make(registry.get(body(49), ()))
    server.make(useless)
    for number in range(60, 63):
        server.make(registry.get(body(number), ()))
    assert server.make(registry.get(body(70), ())) == [useless.name], "nobody can ever use it again"
    for number in range(71, 171):
        server.make(registry.get(body(number), ()))
    assert all(server.held.has(statement) for statement in kept)


def test_large_statements_that_nobody_holds_leave_before_there_is_need() -> None:
    registry, server = Registry(1000), Holding(1000, 8 * LARGE)
    for number in range(100):
        server.make(registry.get(body(number).ljust(LARGE), ()))
        assert server.held.bytes <= 3 * LARGE


# Who holds what.


def test_what_clients_hold_is_counted_once() -> None:
    registry, one, two = Registry(10), ClientStatements(), ClientStatements()
    before = REMEMBERED.bytes
    statement = registry.get(BODY, ())
    assert REMEMBERED.bytes == before
    one.enter(b"a", statement)
    two.enter(b"b", statement)
    two.enter(b"b", statement)
    assert statement.handle.users == 2 and REMEMBERED.bytes == before + len(BODY) + OVERHEAD
    other = registry.get(body(7), ())
    two.enter(b"b", other)
    assert statement.handle.users == 1 and other.handle.users == 1
    one.release()
    two.release()
    assert REMEMBERED.bytes == before and not one.names
    two.enter(b"b", other)  # an effect taken back behind its client
    assert REMEMBERED.bytes == before and not two.names


def test_a_close_that_is_taken_back_counts_again() -> None:
    books = Books()
    before = REMEMBERED.bytes
    statement = books.parse(b"a", 1)
    books.answer("1")
    books.queue.add(PARSE)
    books.queue.add_effect(MADE_CLOSE, NameClosed(books.client, b"a"))
    assert statement.handle.users == 0
    books.queue.add(SYNC)
    books.answer("EZ")
    assert statement.handle.users == 1
    books.client.release()
    assert REMEMBERED.bytes == before


def test_books_that_were_wrong() -> None:
    books = Books()
    books.parse(b"a", 1)
    books.queue.add(SYNC)
    books.answer("1Z")
    late = books.parse(b"b", 2)
    books.held.doubt(books.queue.effects)
    assert books.held.doubtful and list(books.held.prepared) == [late.handle]
    # A Close in front of a Parse takes nothing from the books, and gives nothing back.
    fresh = books.registry.private(body(3))
    books.queue.add_effect(CLOSE | SWALLOW, Eviction(fresh.handle, books.held))
    books.queue.add_effect(PARSE | SWALLOW, InjectedParse(fresh, books.held))
    books.queue.add(SYNC)
    books.answer("EZ")
    assert not books.held.prepared
    books.held.clear()
    assert not books.held.doubtful


@pytest.mark.parametrize(("answers", "failed"), [("1", 0), ("E", 1)])
def test_an_awaited_parse(answers: str, failed: int) -> None:
    books = Books()
    awaited = AwaitedParse(books.registry.get(BODY, ()), books.held)
    books.queue.add_effect(PARSE | SWALLOW, awaited)
    books.answer(answers)
    assert awaited.finished and awaited.failed == failed
    assert books.held.has(awaited.statement) != failed


def test_an_awaited_parse_that_was_skipped() -> None:
    books = Books()
    books.queue.add(PARSE)
    awaited = AwaitedParse(books.registry.get(BODY, ()), books.held)
    books.queue.add_effect(PARSE | SWALLOW, awaited)
    books.answer("E")
    assert awaited.finished and not awaited.failed


@pytest.mark.parametrize("capacity", [1, 2, 3])
def test_room_is_made_for_one_more(capacity: int) -> None:
    held = ServerStatements(capacity)
    registry = Registry(100)
    statements = [registry.get(body(number), ()) for number in range(10)]
    for statement in statements:
        while (victim := held.surplus()) is not None:
            Eviction(victim, held)
        InjectedParse(statement, held)
        assert len(held.prepared) <= capacity
    assert list(held.prepared) == [statement.handle for statement in statements[-capacity:]]


def test_use_keeps_a_statement() -> None:
    held = ServerStatements(3)
    registry = Registry(100)
    first, second, third = (registry.get(body(number), ()) for number in range(3))
    for statement in (first, second, third):
        InjectedParse(statement, held)
    held.touch(first)
    assert held.surplus() is second.handle


def test_a_server_that_may_hold_none() -> None:
    held = ServerStatements(0)
    assert held.surplus() is None  # nothing to evict: one statement is held all the same
    InjectedParse(Registry(1).get(BODY, ()), held)
    assert held.surplus() is not None


# What is described.


def read_over(effect: Any) -> None:
    """The answer to a Describe comes when its client is gone: it is counted, and nobody reads it."""
    replies = Replies()
    replies.add_effect(DESCRIBE, effect)
    for kind in (consts.PARAMETER_DESCRIPTION, consts.ROW_DESCRIPTION):
        replies.account(kind)
    assert not replies.count


@pytest.mark.parametrize("portal", [0, 1])
def test_a_description_that_nobody_has_read_is_none(portal: int) -> None:
    statement = Registry(10).get(BODY, ())
    read_over(Described(statement, portal))
    assert statement.description is None and statement.shape is None


def test_a_statement_that_nobody_has_compared_is_asked_about_again() -> None:
    registry, held = Registry(10), ServerStatements(10)
    statement = registry.get(BODY, ())
    statement.description = b"t\0\0\0\x06\0\0n\0\0\0\x04"
    held.enter(statement)
    assert was_told(held, statement), "it was made before it was described"
    read_over(Verification(statement, registry, held))
    assert not statement.stale and registry.get(BODY, ()) is statement
    assert held.foreign[statement.handle] == UNTOLD and not was_told(held, statement)


# Effects, taken back.


class Books:
    """One client's and one server's."""

    def __init__(self) -> None:
        self.registry = Registry(100)
        self.client = ClientStatements()
        self.held = ServerStatements(100)
        self.queue = Replies()

    def parse(self, name: bytes, number: int) -> Statement:
        statement = self.registry.get(body(number), ())
        made = self.held.has(statement)
        effect = NamedParse(self.client, name, statement, self.held, 1 if made else 0)
        self.queue.add_effect(MADE_PARSE if made else PARSE, effect)
        return statement

    def answer(self, kinds: str) -> None:
        for kind in kinds:
            while self.queue.made_next():
                pass
            assert self.queue.account(ord(kind)) != 2
        while self.queue.made_next():
            pass


def test_a_failed_parse_leaves_nothing() -> None:
    books = Books()
    books.parse(b"a", 1)
    books.queue.add(SYNC)
    books.answer("EZ")
    assert not books.client.names and not books.held.prepared


def test_a_failed_parse_leaves_the_good_ones_of_its_batch() -> None:
    books = Books()
    good = books.parse(b"good", 1)
    books.parse(b"bad", 2)
    books.parse(b"skipped", 3)
    books.queue.add(SYNC)
    books.answer("1EZ")
    assert books.client.names == {b"good": good}
    assert list(books.held.prepared) == [good.handle]
    assert good.confirmed


def test_a_statement_is_known_before_its_parse_was_answered_but_not_confirmed() -> None:
    books = Books()
    statement = books.parse(b"a", 1)
    assert books.held.has(statement) and not statement.confirmed


def test_twice_in_a_batch_and_the_first_fails() -> None:
    books = Books()
    books.parse(b"a", 1)
    books.parse(b"b", 1)  # ours to answer: the server will have it
    books.queue.add(SYNC)
    books.answer("EZ")
    assert not books.client.names and not books.held.prepared


def test_close_and_parse_again_taken_back_backwards() -> None:
    books = Books()
    old = books.parse(b"a", 1)
    books.queue.add(SYNC)
    books.answer("1Z")
    books.queue.add(PARSE)  # fails, and what is behind it is skipped
    books.queue.add_effect(MADE_CLOSE, NameClosed(books.client, b"a"))
    books.parse(b"a", 2)
    books.queue.add(SYNC)
    books.answer("EZ")
    assert books.client.names == {b"a": old}
    assert list(books.held.prepared) == [old.handle]


def test_close_of_an_unknown_name() -> None:
    books = Books()
    books.queue.add_effect(MADE_CLOSE, NameClosed(books.client, b"never"))
    books.answer("")
    assert books.queue.count == 0 and not books.client.names


def test_an_eviction_that_was_skipped() -> None:
    books = Books()
    statement = books.parse(b"a", 1)
    books.queue.add(SYNC)
    books.answer("1Z")
    books.queue.add(PARSE)
    books.queue.add_effect(CLOSE | SWALLOW, Eviction(statement.handle, books.held))
    assert not books.held.has(statement)
    books.queue.add(SYNC)
    books.answer("EZ")
    assert books.held.has(statement)


def test_an_injected_parse_that_failed() -> None:
    books = Books()
    statement = books.registry.get(BODY, ())
    books.queue.add_effect(PARSE | SWALLOW, InjectedParse(statement, books.held))
    books.queue.add(SYNC)
    books.answer("EZ")
    assert not books.held.prepared


# The unnamed statement.


def unnamed(books: Books, statement: Unnamed | None) -> None:
    operation = PARSE if statement is not None else CLOSE
    books.queue.add_effect(operation, UnnamedParse(books.client, books.held, statement))


def test_a_failed_unnamed_parse_leaves_none() -> None:
    # PostgreSQL drops the old one before it parses the new.
    books = Books()
    unnamed(books, Unnamed(BODY))
    books.queue.add(SYNC)
    books.answer("1Z")
    unnamed(books, Unnamed(b"bad"))
    books.queue.add(SYNC)
    books.answer("EZ")
    assert books.client.unnamed is None and books.held.unnamed is None


def test_a_skipped_unnamed_parse_leaves_the_old_one() -> None:
    books = Books()
    old = Unnamed(BODY)
    unnamed(books, old)
    books.queue.add(SYNC)
    books.answer("1Z")
    books.queue.add(PARSE)
    unnamed(books, Unnamed(b"new"))
    unnamed(books, Unnamed(b"newer"))
    unnamed(books, None)
    books.queue.add(SYNC)
    books.answer("EZ")
    assert books.client.unnamed is old and books.held.unnamed is old


@pytest.mark.parametrize(("answer", "left"), [("1Z", "mine"), ("EZ", None)])
def test_an_unnamed_statement_made_again(answer: str, left: str | None) -> None:
    books = Books()
    mine = Unnamed(BODY)
    books.held.unnamed = Unnamed(b"somebody else's")
    books.queue.add_effect(PARSE | SWALLOW, UnnamedInjected(books.held, mine))
    assert books.held.unnamed is mine
    books.queue.add(SYNC)
    books.answer(answer)
    assert books.held.unnamed is (mine if left else None)


def test_clear_forgets_what_a_server_had() -> None:
    books = Books()
    books.parse(b"a", 1)
    books.answer("1")
    books.held.clear()
    assert not books.held.prepared


def sequence(books: Books, names: Sequence[bytes]) -> None:
    for number, name in enumerate(names):
        books.parse(name, number)


def test_dealloc_all_does_not_take_what_is_still_being_parsed() -> None:
    # DEALLOCATE ALL, then a Parse of a new statement, in one pipeline: the first one's answer comes when the second
    # has been entered already.
    books = Books()
    sequence(books, [b"old"])
    books.answer("1")
    new = books.registry.get(body(7), ())
    books.queue.add_effect(PARSE, NamedParse(books.client, b"new", new, books.held, 0))
    books.held.clear(books.queue.effects)
    books.client.clear(books.queue.effects)
    assert list(books.held.prepared) == [new.handle]
    assert books.client.names == {b"new": new}


def test_names_are_unique_among_pools() -> None:
    """A client takes its statements along when a reload replaces its pool: they must not meet namesakes."""
    names = [Registry(10).get(body, ()).name for body in (b"a", b"b", b"a")]
    assert len(set(names)) == 3
