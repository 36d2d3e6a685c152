"""scan on bytes: at every place, in every piece of a text that comes in parts, and the same in both builds."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import itertools
import time
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import pgdoorman_lib
from pgdoorman_lib.wire.scan import (
    LONGEST_COMMENT,
    TEXT_CURSORS,
    TEXT_LIBRARY,
    TEXT_LISTEN,
    TEXT_LOCKS,
    TEXT_NAMES,
    TEXT_ORIGIN,
    TEXT_PARAMETERS,
    TEXT_RESET,
    TEXT_SEQUENCES,
    TEXT_SET,
    TEXT_TEMPORARY,
    beginning,
    behind_comments,
    scan,
)
from pgdoorman_lib.wire.sqltext import LONGEST_WORD, analyse, custom_names


@pytest.fixture(scope="module")
def interpreted() -> ModuleType:
    """The module as its source says, whatever build is running."""
    path = Path(pgdoorman_lib.__path__[0]) / "wire" / "scan.py"
    spec = importlib.util.spec_from_loader(
        "scan_interpreted", importlib.machinery.SourceFileLoader("scan_interpreted", str(path))
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


#: Found wherever they stand.
ANYWHERE = {
    b"set_config(": TEXT_PARAMETERS,
    b'"set_config"(': TEXT_PARAMETERS,
    b" temp ": TEXT_TEMPORARY,
    b"pg_temp.": TEXT_TEMPORARY,
    b"TEMPORARY ": TEXT_TEMPORARY,
    b"with hold for": TEXT_CURSORS,
    b"pg_advisory_lock(1)": TEXT_LOCKS,
    b"pg_advisory_unlock_all()": TEXT_LOCKS,
    b"pg_try_advisory_lock_shared": TEXT_LOCKS,
    b"prepare p as": TEXT_NAMES,
    b"execute p;": TEXT_NAMES,
    b"deallocate p": TEXT_NAMES,
    b"pg_replication_origin_session_setup": TEXT_ORIGIN,
    b"currval('s')": TEXT_SEQUENCES,
    b"lastval()": TEXT_SEQUENCES,
}
#: Found where a statement begins.
FIRST = {
    b"set x": TEXT_SET,
    b"do 'x'": TEXT_SET,
    b"do $$x$$": TEXT_SET,
    b"reset x": TEXT_RESET,
    b"discard all": TEXT_RESET,
    b"listen x": TEXT_LISTEN,
    b"load 'x'": TEXT_LIBRARY,
}


def mixed_case(word: bytes, bits: int) -> bytes:
    return bytes(c ^ 32 if chr(c).isalpha() and bits >> (i % 16) & 1 else c for i, c in enumerate(word))


@pytest.mark.parametrize("word", ANYWHERE)
def test_at_every_place(word: bytes) -> None:
    for before in range(40):
        for behind in (4, 5, 9):  # a text is never the end of its message: a NUL, or more
            data = bytearray(b"#" * before + b" " + word + b"#" * behind)
            assert scan(data, 0, len(data)) & ANYWHERE[word], (before, behind)
            assert not scan(data, 0, before) & ANYWHERE[word]


@pytest.mark.parametrize("word", FIRST)
@pytest.mark.parametrize(
    "before",
    [b"", b" ", b"\n\t\r ", b"select 1;", b"select 1 ;\n", b"/**/", b"/* a */ ", b"-- a\n", b"-- a\r", b"--\n--\n/*/**/*/ ",
     b";;", b" ; ", b"select 1;/* ; */", b"/* /* */ ' */", b"/* " + b"x" * (LONGEST_COMMENT * 2) + b" */"],
)  # fmt: skip
def test_at_every_beginning(word: bytes, before: bytes) -> None:
    data = bytearray(before + word + b"\0")
    found = scan(data, 0, len(data))
    # A long comment is not gone through: what is behind it may be a SET, which has the text looked at.
    assert found & (FIRST[word] | (TEXT_SET if len(before) > LONGEST_COMMENT else 0))


def test_not_within_another_statement() -> None:
    for word in FIRST:
        data = bytearray(b"select " + word + b"\0")
        assert scan(data, 0, len(data)) == 0


def test_comments() -> None:
    for text, expected in [
        (b"", 0),
        (b"a", 0),
        (b"  a", 2),
        (b"/*", -2),
        (b"/*/", -2),
        (b"/**/a", 4),
        (b"/*/**/a*/b", 9),
        (b"--", 2),
        (b"-- a\n b", 6),
        (b"- a", 0),
        (b"/ a", 0),
    ]:
        assert behind_comments(bytearray(text), 0, len(text)) == expected, text
    for text in (b"-" * 5000, b"/*" * 5000, b"/**/" * 5000):
        assert behind_comments(bytearray(text), 0, 5000) == -2


fragments = st.one_of(
    st.sampled_from([*ANYWHERE, *FIRST]),
    st.sampled_from([*ANYWHERE, *FIRST]),
    st.sampled_from(
        [b"select ", b"'", b"''", b'"', b"$$", b"$a$", b";", b"(", b")", b",", b"/*", b"*/", b"--", b"\n", b"\r"]
    ),
    st.sampled_from(
        [b" ", b"\t", b"x", b"create ", b"into ", b"do ", b"local ", b"declare c cursor ", b"'app.x'", b"true"]
    ),
    st.binary(max_size=6),
)
texts = st.lists(st.builds(mixed_case, fragments, st.integers(0, 1 << 16)), max_size=25).map(b"".join)


@given(texts)
@example(b"do 'set x")
def test_what_analyse_finds_scan_has_marked(text: bytes) -> None:
    text = text.replace(b"\0", b" ")
    if text[:1].lower() not in (b"s", b"l", b"r", b"d"):
        text = b"do " + text  # no statement begins with a function
    found = analyse(text)
    data = bytearray(text + b"\0")
    marks = scan(data, 0, len(data))
    leaves = found.leaves
    if leaves & TEXT_PARAMETERS and marks & TEXT_SET:
        leaves &= ~TEXT_PARAMETERS
    if leaves or found.names or found.sequences or found.resets or found.sets or found.keeps:
        assert marks, "it would not even be looked at"
    assert not found.names or marks & (TEXT_NAMES | TEXT_SET)


@given(texts, st.lists(st.integers(0, 300), max_size=4))
@example(b"; /* a comment that is cut */ do 'set x'", [20])
@example(b"; -- a comment that is cut\n do 'set x'", [20])
@example(b"; /* a comment that is whole */ do 'set x'", [47])
def test_parts_show_what_the_whole_shows(text: bytes, cuts: list[int]) -> None:
    """As the relay looks at a text that comes in parts: each of them, and where two meet."""
    text = b"/* " + b"y" * LONGEST_WORD + b" */" + text + b" " * 5
    whole = scan(bytearray(text), 0, len(text))
    places = sorted({LONGEST_WORD, *(LONGEST_WORD + cut for cut in cuts if LONGEST_WORD + cut < len(text)), len(text)})
    data = bytearray(text)
    found = scan(data, 0, places[0])
    tail = text[: places[0]][-LONGEST_WORD:]
    for start, stop in itertools.pairwise(places):
        head = data[start : min(stop, start + LONGEST_WORD)]
        joint = bytearray(tail) + head
        found |= scan(joint, 0, len(joint)) | scan(data, start, stop)
        tail = bytes(joint[-LONGEST_WORD:]) if start + LONGEST_WORD >= stop else text[stop - LONGEST_WORD : stop]
    # Other words at the beginning of a statement are told by the tags of its answer, if a comment was cut.
    first = TEXT_RESET | TEXT_LISTEN | TEXT_LIBRARY | (TEXT_NAMES if b"/*" in text or b"--" in text else 0)
    assert whole & ~found & ~first == 0


@given(st.binary(max_size=200), st.integers(0, 200), st.integers(0, 200))
def test_both_builds_agree(interpreted: ModuleType, data: bytes, one: int, other: int) -> None:
    start, end = sorted((min(one, len(data)), min(other, len(data))))
    block = bytearray(data)
    assert scan(block, start, end) == interpreted.scan(block, start, end)
    assert beginning(block, start, end) == interpreted.beginning(block, start, end)
    assert behind_comments(block, start, end) == interpreted.behind_comments(block, start, end)


@given(texts)
def test_both_builds_agree_on_texts(interpreted: ModuleType, text: bytes) -> None:
    block = bytearray(text)
    assert scan(block, 0, len(block)) == interpreted.scan(block, 0, len(block))


@given(texts, st.binary(max_size=20), st.binary(max_size=20))
def test_nothing_outside_is_looked_at(text: bytes, before: bytes, behind: bytes) -> None:
    block = bytearray(before + text + behind)
    assert scan(block, len(before), len(before) + len(text)) == scan(bytearray(text), 0, len(text))


@pytest.mark.parametrize(
    "piece",
    [b"x", b"'", b'"', b"$", b"$a$ ", b"/*", b"*/", b"--", b"-- \n", b";", b"; /*", b"e'", b"\\", b"set ", b"set_config(", b"''",
     b"$1", b"a.", b"prepare ", b"pg_advisory_", b"\xff", b"(", b"execute a("],
)  # fmt: skip
def test_no_text_takes_long(piece: bytes) -> None:
    """What takes a time that grows with the square of a text's length would stop everybody."""
    text = b"set x = 1; " + piece * (16000 // len(piece))
    began = time.monotonic()
    scan(bytearray(text), 0, len(text))
    analyse(text)
    custom_names(text)
    assert time.monotonic() - began < 5.0
