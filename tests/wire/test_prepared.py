"""The books of prepared statements: sharing, eviction, and taking back what failed or was skipped."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgdoorman_lib.wire import messages
from pgdoorman_lib.wire.prepared import (
    PREFIX,
    ClientStatements,
    Eviction,
    InjectedParse,
    NameClosed,
    NamedParse,
    Registry,
    ServerStatements,
    Statement,
    Unnamed,
    UnnamedInjected,
    UnnamedParse,
)
from pgdoorman_lib.wire.replies import CLOSE, MADE_CLOSE, MADE_PARSE, PARSE, SWALLOW, SYNC, Replies

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


# Eviction.


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
