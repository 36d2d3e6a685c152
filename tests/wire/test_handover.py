"""Prepared statements as they go from one process to another: what comes out is what went in."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgdoorman_lib.net.packing import pack, unpack
from pgdoorman_lib.wire import statements
from pgdoorman_lib.wire.handover import Book, pack_client, pack_server, unpack_client, unpack_server
from pgdoorman_lib.wire.prepared import ClientStatements, ServerStatements
from pgdoorman_lib.wire.statements import Acts, Registry, Statement, Unnamed
from pgdoorman_lib.wire.text import NOTHING, Name, Text
from pgdoorman_lib.wire.told import was_told
from pgdoorman_lib.wire.traces import Traces

BODY = b"select $1::int\0\0\1\0\0\0\x17"

texts = st.builds(
    Text,
    traces=st.builds(
        Traces,
        bits=st.integers(0, 1 << 20),
        options=st.lists(st.text()).map(tuple),
        unnamed=st.integers(0, 2),
        disturbs=st.booleans(),
        locally=st.lists(st.text()).map(tuple),
    ),
    parameters=st.lists(st.integers(1, 9)).map(tuple),
    keeps=st.integers(0, 1 << 20),
    sets=st.integers(0, 9),
    sequences=st.booleans(),
    resets=st.lists(st.tuples(st.text(), st.booleans())).map(tuple),
    defines=st.booleans(),
    assigns=st.none() | st.tuples(st.text(), st.text()),
    only_resets=st.integers(0, 7),
    hides=st.booleans(),
    enables=st.booleans(),
)


def sent(state: dict[str, Any]) -> Any:
    """As it comes out at the other side."""
    return unpack(pack(state))


def moved(mine: ClientStatements, book: Book | None = None) -> ClientStatements:
    other = ClientStatements()
    unpack_client(other, sent(pack_client(mine)), book or Book())
    return other


@given(st.binary(), texts, st.binary(), st.booleans(), st.none() | st.binary(), st.floats(0, 1e9))
def test_a_statement_is_what_it_was(
    body: bytes, text: Text, original: bytes, suspect: bool, description: bytes | None, analysed_at: float
) -> None:
    mine = ClientStatements()
    statement = Statement(b"pgdoorman_1_2", body, Acts(text, original))
    statement.suspect = int(suspect)
    statement.description = description
    statement.analysed_at = analysed_at
    statement.environment = (("search_path", "a, b"), ("timezone", "UTC"))
    mine.enter(b"s", statement)
    found = moved(mine).names[b"s"]
    assert (found.name, found.body, found.environment) == (statement.name, body, statement.environment)
    assert (bool(found.suspect), found.description, found.analysed_at) == (suspect, description, analysed_at)
    assert found.acts is not None
    assert (found.acts.text, found.acts.original) == (text, original)
    assert bytes(found.cname) == b"pgdoorman_1_2\0"
    assert found.seen is None, "it is looked at again with the words of the other process"
    assert found.handle.users == 1


def test_the_unnamed_statement_goes_too() -> None:
    mine = ClientStatements()
    mine.unnamed = Unnamed(BODY, Acts(Text(sequences=True)))
    mine.unnamed.suspect = 2
    found = moved(mine).unnamed
    assert found is not None
    assert (found.body, found.suspect, found.seen) == (BODY, 2, None)
    assert found.acts is not None
    assert found.acts.text.sequences


def test_what_was_shared_is_shared_again() -> None:
    registry = Registry(10)
    statement = registry.get(BODY, ())
    one, other, held = ClientStatements(), ClientStatements(), ServerStatements(10)
    one.enter(b"a", statement)
    other.enter(b"b", statement)
    held.enter(statement)
    book = Book()
    there = ServerStatements(10)
    unpack_server(there, sent(pack_server(held)), book)
    a, b = moved(one, book).names[b"a"], moved(other, book).names[b"b"]
    assert a is b
    assert there.has(a), "nobody has to make it again"
    assert there.bytes == len(BODY)
    assert a.handle.users == 2
    assert there.versions == {a.handle.line: a.handle}


interpreted = pytest.mark.skipif(
    not (statements.__file__ or "").endswith(".py"), reason="what a compiled module keeps can't be set back"
)


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a worker among several."""
    monkeypatch.setattr(statements, "_handles", None)
    monkeypatch.setattr(statements, "_statements", None)
    statements.keep_handles()


@interpreted
@pytest.mark.usefixtures("kept")
def test_what_comes_back_is_what_there_is() -> None:
    """A client that has been away, and servers with what it had made, mean the statement that others here have."""
    registry = Registry(10)
    statement = registry.get(BODY, ())
    private = registry.private(BODY)
    mine, held = ClientStatements(), ServerStatements(10)
    mine.enter(b"shared", statement)
    mine.enter(b"own", private)
    held.enter(statement)
    client, server = sent(pack_client(mine)), sent(pack_server(held))
    back, there = ClientStatements(), ServerStatements(10)
    unpack_client(back, client, Book(abroad=True))
    unpack_server(there, server, Book(abroad=True))
    assert back.names == {b"shared": statement, b"own": private}
    assert there.has(statement)
    assert statement.handle.users == 2
    assert not statement.handle.abroad


@interpreted
@pytest.mark.usefixtures("kept")
def test_a_client_means_what_a_server_has_brought() -> None:
    """In whatever order they come, and by whatever way."""
    registry = Registry(10)
    mine, held = ClientStatements(), ServerStatements(10)
    statement = registry.get(BODY, ())
    mine.enter(b"a", statement)
    held.enter(statement)
    line = statement.handle.line
    client, server = sent(pack_client(mine)), sent(pack_server(held))
    statements._handles.clear()
    statements._statements.clear()
    there, then = ServerStatements(10), ServerStatements(10)
    come, other = ClientStatements(), ClientStatements()
    unpack_server(there, server, Book(abroad=True))
    unpack_client(come, client, Book(abroad=True))
    unpack_client(other, client, Book(abroad=True))
    unpack_server(then, server, Book(abroad=True))
    found = come.names[b"a"]
    assert other.names[b"a"] is found
    assert there.has(found)
    assert then.has(found)
    assert found.handle.line == line


def test_servers_keep_the_order_of_use() -> None:
    registry = Registry(10)
    held = ServerStatements(2)
    for number in range(2):
        held.enter(registry.get(b"select %d\0\0\0" % number, ()))
    held.doubtful = 1
    there = ServerStatements(2)
    unpack_server(there, sent(pack_server(held)), Book())
    assert [handle.name for handle in there.prepared] == [handle.name for handle in held.prepared]
    assert there.doubtful


@pytest.mark.parametrize("theirs", [None, Unnamed(b"select 1\0\0\0")])
def test_nobodys_unnamed_statement_is_taken_for_none(theirs: Unnamed | None) -> None:
    """Who has none asks for one in vain there, too; that of another client is not his."""
    held = ServerStatements(2)
    held.unnamed = theirs
    there = ServerStatements(2)
    unpack_server(there, sent(pack_server(held)), Book())
    assert (there.unnamed is None) == (theirs is None)


def test_a_text_that_names_statements_is_looked_up_again() -> None:
    """What it named were objects of the other process."""
    name = Name("execute", 8, 9, 9, b"x")
    acts = Acts(Text(names=(name,)), b"EXECUTE x")
    acts.sql = b"EXECUTE pgdoorman_9_9"
    acts.edits = [(8, 9, 13)]
    acts.resolved.append((b"x", None))
    mine = ClientStatements()
    mine.enter(b"s", Statement(b"pgdoorman_1_1", b"EXECUTE pgdoorman_9_9\0\0\0", acts))
    theirs = moved(mine)
    found = theirs.names[b"s"].acts
    assert found is not None
    assert (found.sql, found.edits, found.text.names) == (acts.sql, acts.edits, (name,))
    assert acts.holds({})
    assert not found.holds(theirs.names)


@pytest.mark.parametrize("missing", ["body", "acts", "line", "environment", "stale"])
def test_what_lacks_something_is_refused(missing: str) -> None:
    mine = ClientStatements()
    mine.enter(b"s", Statement(b"pgdoorman_1_1", BODY, Acts(NOTHING)))
    state = sent(pack_client(mine))
    del state["statements"][0][1][missing]
    with pytest.raises(KeyError):
        unpack_client(ClientStatements(), state, Book())


# What clients were told.

DESCRIBED = b"t\0\0\0\x06\0\0T\0\0\0\x1b\0\1a\0\0\0\0\0\0\0\0\0\0\x17\0\4\xff\xff\xff\xff\0\0"
OTHERWISE = DESCRIBED.replace(b"\0\1a\0", b"\0\1b\0")


@pytest.fixture
def shared(kept: None) -> Statement:
    """A statement this process has, and finds by its name."""
    return Registry(9).get(BODY, None)


def one_like(statement: Statement, description: bytes | None, shape: bytes | None = None) -> ClientStatements:
    """Of a client of another process, who was told ``description`` of it."""
    theirs = Statement(b"another's", statement.body)
    theirs.name = statement.name
    theirs.description, theirs.shape = description, shape
    mine = ClientStatements()
    mine.enter(b"s", theirs)
    return mine


@interpreted
@pytest.mark.parametrize(
    ("here", "there", "same"),
    [
        (None, None, True),
        (DESCRIBED, None, True),
        (DESCRIBED, DESCRIBED, True),
        (None, DESCRIBED, False),
        (OTHERWISE, DESCRIBED, False),
    ],
)
def test_who_was_told_more_or_something_else_gets_a_statement_of_his_own(
    shared: Statement, here: bytes | None, there: bytes | None, same: bool
) -> None:
    shared.description = here
    found = moved(one_like(shared, there), Book(abroad=True)).names[b"s"]
    assert (found is shared) is same
    assert found.description == (here if same else there)
    assert (found.name == shared.name) is same
    assert same or not (found.handle.line or found.handle.abroad or found.handle.current), "nobody else's"


@interpreted
def test_a_server_s_statement_is_believed_where_the_same_was_told(shared: Statement) -> None:
    held = ServerStatements(9)
    held.enter(shared)

    def comes(told_there: bytes | None, told_here: bytes | None) -> bool:
        shared.description = told_there
        state = sent(pack_server(held))
        came = ServerStatements(9)
        unpack_server(came, state, Book(abroad=True))
        assert came.has(shared)
        shared.description = told_here
        return was_told(came, shared)

    assert comes(DESCRIBED, DESCRIBED)
    assert not comes(None, DESCRIBED)
    assert not comes(OTHERWISE, DESCRIBED)
    shared.stale = 1
    assert not comes(DESCRIBED, DESCRIBED), "where it was told otherwise"
