"""The tokens of SQL texts: by example, in parts, and as PostgreSQL's own scanner sees them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator

import psycopg
import pytest
from fix_postgres import Postgres
from hypothesis import example, given, settings
from hypothesis import strategies as st
from psycopg import pq

from pgdoorman_lib.wire.lexer import (
    END,
    LONGEST_NAME,
    NUMBER,
    PARAMETER,
    QUOTED,
    SEMICOLON,
    STRING,
    SYMBOL,
    WORD,
    Lexer,
    hash_of,
)
from pgdoorman_lib.wire.source import LOST
from pgdoorman_lib.wire.tokens import Token, tokens

#: Kinds as the examples name them.
KINDS = {
    WORD: "word",
    QUOTED: "name",
    STRING: "string",
    PARAMETER: "parameter",
    NUMBER: "number",
    SEMICOLON: ";",
    SYMBOL: "symbol",
}


def said(text: bytes, backslashes: bool = False) -> list[tuple[str, bytes | None]]:
    return [(KINDS[token.kind], token.value) for token in tokens(text, backslashes)]


def string(value: bytes | None) -> list[tuple[str, bytes | None]]:
    return [("string", value)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"", []),
        (b" \t\n\r\f\v", []),
        (b"a\0set b", [("word", b"a")]),  # a NUL ends the text in its message
        (b"SELECT Foo_1$x", [("word", b"select"), ("word", b"foo_1$x")]),
        (b"a.b", [("word", b"a"), ("symbol", b"."), ("word", b"b")]),
        (b"x" * 70, [("word", b"x" * LONGEST_NAME)]),
        (b";;", [(";", b";")] * 2),
        (b"\xc3\xa4b", [("word", b"\xc3\xa4b")]),
        # Names in quotes.
        (b'"a""B ;"', [("name", b'a"B ;')]),
        (b'"' + b"x" * 70 + b'"', [("name", b"x" * LONGEST_NAME)]),
        (b'u&"set\\005Fconfig"', [("name", b"set_config")]),
        (b'U&"a!0062" UESCAPE \'!\'', [("name", b"ab")]),
        (b'U&"a\\00e4"', [("name", "aä".encode())]),
        (b'U&"a\\zz"', [("name", None)]),
        (b'U & "a"', [("word", b"u"), ("symbol", b"&"), ("name", b"a")]),
        # Strings.
        (b"'a''b'", string(b"a'b")),
        (b"''", string(b"")),
        (b"''''", string(b"'")),
        (b"'a\\'", string(b"a\\")),
        (b"'a\\';'b'", [("string", b"a\\"), (";", b";"), ("string", b"b")]),
        (b"'" + b"x" * 100 + b"''" + b"y" * 100 + b"'", string(b"x" * 100 + b"'" + b"y" * 100)),
        (b"e'a\\'b'", string(b"a'b")),
        (b"E'\\x73\\145t\\u005f\\U00000063\\n\\q\\\\'", string(b"set_c\nq\\")),
        (b"E'\\xe4'", string(None)),
        (b"E'\\0'", string(None)),
        (b"E'a''b'", string(b"a'b")),
        (b"N'a'", string(b"a")),
        (b"b'01' X'1f'", [("string", b"01"), ("string", b"1f")]),
        (b"x'1''2'", [("string", b"1"), ("string", b"2")]),  # no quote is doubled in bits
        (b"U&'d!0061t\\0061'", string(b"d!0061ta")),
        (b"u&'d!0061' uescape '!'", string(b"da")),
        (b"U&'\\+000061\\\\'", string(b"a\\")),
        (b"ae'a\\'", [("word", b"ae"), ("string", b"a\\")]),
        (b"e 'a\\'", [("word", b"e"), ("string", b"a\\")]),
        # On several lines.
        (b"'a'\n'b'", string(b"ab")),
        (b"'a' -- c'd\r\n -- e'f\n 'b'", string(b"ab")),
        (b"'a' 'b'", [("string", b"a"), ("string", b"b")]),
        (b"'a' /* */\n'b'", [("string", b"a"), ("string", b"b")]),
        (b"E'a'\n'b\\'c'", string(b"ab'c")),
        (b"E'a\\\n'", string(b"a\n")),
        (b"'a'\nE'b'", [("string", b"a"), ("string", b"b")]),
        (b"U&'\\0061'\n'\\0062'", string(b"ab")),
        (b'"a"\n"b"', [("name", b"a"), ("name", b"b")]),
        # In dollar quotes.
        (b"$$a'b$$", string(b"a'b")),
        (b"$q$a$$b$Q$c$q$", string(b"a$$b$Q$c")),
        (b"$\xc3\xa4$a$\xc3\xa4$", string(b"a")),
        (b"$1$a", [("parameter", b"$1"), ("symbol", b"$"), ("word", b"a")]),
        (b"$12, $", [("parameter", b"$12"), ("symbol", b","), ("symbol", b"$")]),
        (b"a$$b$$", [("word", b"a$$b$$")]),
        (b"1$$b$$", [("number", b"1"), ("string", b"b")]),
        # Comments.
        (b"a--b\nc--d\re--", [("word", b"a"), ("word", b"c"), ("word", b"e")]),
        (b"a/*b/*c*/d*/e", [("word", b"a"), ("word", b"e")]),
        (b"a/*/b*/c", [("word", b"a"), ("word", b"c")]),
        (b"a/**/b", [("word", b"a"), ("word", b"b")]),
        (b"/* -- */a", [("word", b"a")]),
        (b"-- /*\na", [("word", b"a")]),
        (b"- -/ *", [("symbol", b"-"), ("symbol", b"-"), ("symbol", b"/"), ("symbol", b"*")]),
        # Numbers, and what is stuck to them.
        (b"12abc", [("number", b"12"), ("word", b"abc")]),
        (b"1set", [("number", b"1"), ("word", b"set")]),
        (b"1.5", [("number", b"1"), ("symbol", b"."), ("number", b"5")]),
    ],
)  # fmt: skip
def test_tokens(text: bytes, expected: list[tuple[str, bytes | None]]) -> None:
    assert said(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"'it\\'s; execute foo ; '", string(b"it's; execute foo ; ")),
        (b"'a\\\\';", [*string(b"a\\"), (";", b";")]),
        (b"N'a\\'b'", string(b"a'b")),
        (b"'a'\n'b\\'c'", string(b"ab'c")),
        (b"x'1\\'", string(b"1\\")),
        (b"U&'a\\0062'", string(b"ab")),
        (b"$$a\\$$", string(b"a\\")),
        (b'"a\\"', [("name", b"a\\")]),
    ],
)
def test_backslashes_escape_in_plain_strings(text: bytes, expected: list[tuple[str, bytes | None]]) -> None:
    assert said(text, True) == expected


@pytest.mark.parametrize(
    "text",
    [b"'a", b"'a''", b"E'a\\'", b"E'a\\", b'"a', b'"a""', b"$$a$", b"$q$a$$", b"/* a", b"/* /* */", b"u&'a", b"'a'\n'b",
     b"'" + b"a" * 100],
)  # fmt: skip
def test_unterminated(text: bytes) -> None:
    lexer = Lexer()
    lexer.begin(bytearray(text), 0, len(text), 0)
    while lexer.next():
        assert not lexer.incomplete or lexer.stop == len(text)
    assert lexer.incomplete


@pytest.mark.parametrize(
    "text", [b"'a'", b"''''", b'""""', b"$$a$$", b"/* */", b"-- a", b"a", b"1", b"$1", b"$", b"u&"]
)
def test_terminated(text: bytes) -> None:
    lexer = Lexer()
    lexer.begin(bytearray(text), 0, len(text), 0)
    while lexer.next():
        pass
    assert not lexer.incomplete


def test_only_what_is_within_bounds_is_looked_at() -> None:
    data = bytearray(b"'abc set x = 1; '")
    lexer = Lexer()
    lexer.begin(data, 5, 14, 0)
    found = []
    while kind := lexer.next():
        found.append((kind, bytes(data[lexer.start : lexer.stop])))
    assert found == [(WORD, b"set"), (WORD, b"x"), (SYMBOL, b"="), (NUMBER, b"1")]


@given(st.text("abcXYZ_09$ä", min_size=1, max_size=20))
def test_words_and_names_are_told_by_their_hash(name: str) -> None:
    """In any case, bare or in quotes."""
    data = name.encode()
    for text in (b"x" + data, b"X" + data, b'"x' + data + b'"', (b"x" + data).swapcase()):
        lexer = Lexer()
        lexer.begin(bytearray(text), 0, len(text), 0)
        assert lexer.next() in (WORD, QUOTED)
        assert lexer.hash == hash_of(b"x" + data) == hash_of((b"x" + data).lower())


# In parts.

#: Bytes that are kept of what a part ends within.
LONG = 1024

PIECES = [
    b"'", b'"', b"$$", b"$a$", b"--", b"/*", b"*/", b"\n", b" ", b"a", b"set", b"E'", b"u&'", b'u&"', b";", b"\\", b"1",
    b"$1", b"-", b"/", b"\xc3\xa4", b"$", b"N'", b"x'", b"''", b'""', b"(", b".", b"uescape '!'", b"'\n'", b"e", b"\r",
    b"y" * 60,
]  # fmt: skip
texts = st.lists(st.sampled_from(PIECES), max_size=14).map(b"".join)


def whole(text: bytes, backslashes: bool) -> tuple[list[tuple[int, int]], int]:
    lexer = Lexer()
    lexer.begin(bytearray(text), 0, len(text), backslashes)
    return drained(lexer), lexer.incomplete


def drained(lexer: Lexer) -> list[tuple[int, int]]:
    found = []
    while kind := lexer.next():
        # A name without an end has no hash.
        found.append((kind, lexer.hash if kind in (WORD, QUOTED) and not lexer.incomplete else 0))
    assert lexer.next() == END, "END stays"
    return found


@given(texts, st.booleans(), st.lists(st.integers(0, 40), max_size=5))
@example(b"'a'\n'b'", False, [3])
@example(b"'a''b'", False, [3])
@example(b"E'a\\'b'", False, [4])
@example(b"u&'a'", False, [1])
@example(b"u&'a'", False, [2])
@example(b"$a$b$a$", False, [6])
@example(b"/*/**/*/", False, [1, 3, 4, 7])
@example(b"sets", False, [3])
@example(b'"sets"', False, [3])
@example(b"'a''b'\"", False, [4])
def test_parts_have_the_tokens_of_the_whole(text: bytes, backslashes: bool, cuts: list[int]) -> None:
    """However it is cut, with what stands around each part left alone."""
    lexer = Lexer()
    lexer.begin_parts(backslashes)
    found = []
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    for index, (start, stop) in enumerate(itertools.pairwise(places)):
        part = text[start:stop]
        lexer.feed(bytearray(b"'\"" + part + b"*/'"), 2, 2 + len(part), index == len(places) - 2)
        found += drained(lexer)
    assert (found, lexer.incomplete) == whole(text, backslashes)


@pytest.mark.parametrize("filler", [b"x", b"1", b" ", b"\n", b"--x\n", b"-- x", b"$", b"'' ", b'"a" '])
@pytest.mark.parametrize(
    ("before", "behind"),
    [
        (b"", b" ' b'"),
        (b"'a'", b"\n'b' c"),
        (b"/*", b"*/ c"),
        (b"$$", b"$$ b"),
        (b"'", b"' b"),
        (b'"a" ', b"b"),
        (b"$1", b" b"),
    ],
)
def test_what_is_long_comes_in_many_parts(before: bytes, filler: bytes, behind: bytes) -> None:
    """Neither kept nor gone through again with each: at most a bit of it."""
    text = before + filler * 5000 + behind
    lexer = Lexer()
    lexer.begin_parts(0)
    found = []
    for at in range(0, len(text), 100):
        part = bytearray(text[at : at + 100])
        lexer.feed(part, 0, len(part), at + 100 >= len(text))
        found += [kind for kind, _ in drained(lexer) if kind != NUMBER]
        assert len(lexer.rest) < 1200
    kinds, incomplete = whole(text, False)
    assert (found, lexer.incomplete) == ([kind for kind, _ in kinds if kind != NUMBER], incomplete)


@pytest.mark.parametrize("text", [b'"' + b"x" * 5000 + b'" set', b"$" + b"x" * 5000 + b"$ set"])
def test_a_part_ends_in_too_long_a_name(text: bytes) -> None:
    lexer = Lexer()
    lexer.begin_parts(0)
    for at in range(0, len(text), 100):
        part = bytearray(text[at : at + 100])
        lexer.feed(part, 0, len(part), at + 100 >= len(text))
        while lexer.next():
            pass
        assert lexer.incomplete == (LOST if at + 100 > LONG else 0)
    assert [token.kind for token in tokens(text)] == [QUOTED, WORD] if text[:1] == b'"' else [STRING]


@given(st.one_of(texts, st.binary(max_size=60)), st.booleans())
def test_tokens_stand_one_behind_the_other(text: bytes, backslashes: bool) -> None:
    at = 0
    for token in tokens(text, backslashes):
        assert at <= token.start < token.end <= len(text)
        assert text[token.start : token.end].startswith(token.text)
        at = token.end


# As PostgreSQL sees them.


class Scanner:
    """PostgreSQL's scanner, by the errors of its parser."""

    #: Behind these words no token is allowed but a semicolon.
    BEFORE = b"COMMIT AND NO CHAIN "

    def __init__(self, connection: psycopg.Connection[tuple[object, ...]]) -> None:
        self.run = connection.pgconn.exec_

    def first(self, text: bytes) -> tuple[int, bytes] | str:
        """Where the first token of ``text`` begins and its bytes; or what else PostgreSQL says to it."""
        result = self.run(self.BEFORE + text)
        if result.status != pq.ExecStatus.FATAL_ERROR:
            return "end"
        message = result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or b""
        if message == b"syntax error at end of input":
            return "end"
        near = re.fullmatch(rb'syntax error at or near "(.*)"', message, re.DOTALL)
        if near is None:
            return message.decode()
        position = int(result.error_field(pq.DiagnosticField.STATEMENT_POSITION) or b"")
        return len(text.decode()[: position - 1 - len(self.BEFORE)].encode()), near[1]


@pytest.fixture(scope="module", params=["on", "off"])
def scanner(request: pytest.FixtureRequest, postgres: Postgres) -> Iterator[tuple[Scanner, bool]]:
    """One for each value of standard_conforming_strings, and whether backslashes escape."""
    with postgres.connect(client_encoding="utf8") as connection:
        connection.execute(f"SET standard_conforming_strings = {request.param}".encode())
        connection.execute(b"SET escape_string_warning = off")
        connection.execute(b"SET backslash_quote = on")
        yield Scanner(connection), request.param == "off"


@pytest.mark.postgres
@settings(deadline=None)
@given(text=texts)
@example(text=b"'a'\n'b' 'c'")
@example(text=b"//*a*/ b")
@example(text=b"1.5e10 a$b$ $a$ ;$a$")
def test_postgres_begins_its_tokens_at_the_same_places(scanner: tuple[Scanner, bool], text: bytes) -> None:
    """Token for token; an operator or a number of PostgreSQL's is made of several of ours."""
    judge, backslashes = scanner
    found: list[Token] = tokens(text, backslashes)
    at = 0  # in the text
    index = 0
    while True:
        if index < len(found) and found[index].kind == SEMICOLON:
            at = found[index].end
            index += 1
            continue
        seen = judge.first(text[at:])
        if isinstance(seen, str):
            if seen == "end":
                assert index == len(found), "PostgreSQL sees no more tokens"
            elif seen.startswith("unterminated"):
                lexer = Lexer()
                lexer.begin(bytearray(text), 0, len(text), backslashes)
                while lexer.next():
                    pass
                assert lexer.incomplete
            else:
                # A wrong escape, or one that is not allowed: the statement fails.
                assert re.match(
                    "invalid Unicode|unsafe use|trailing junk|zero-length|unsafe|invalid|UESCAPE|syntax error|operator too",
                    seen,
                ), seen
            return
        begin, piece = seen
        token = found[index]
        assert token.start == at + begin, (token, seen)
        at = token.end
        index += 1
        if token.kind in (NUMBER, SYMBOL):
            end = token.start + max(len(piece), 1)
            while index < len(found) and found[index].start < end:
                at = found[index].end
                index += 1
        elif token.text[:2].lower() == b"n'":
            # The letter is a token of its own there, and what is behind it a plain string.
            behind = judge.first(text[token.start + 1 :])
            refused = isinstance(behind, str) and behind.startswith(("unterminated", "invalid Unicode"))
            assert piece.lower() == b"n" and (behind == (0, token.text[1:]) or refused)
        elif token.text[1:2] == b"&":
            assert piece.startswith(token.text)  # it looks for UESCAPE
        else:
            assert token.text == piece, "it ends elsewhere"


_INSIDE = st.lists(
    st.sampled_from(
        ["a", "B", "''", '""', "\\\\", "\\'", "\\n", "\\x41", "\\101", "\\u0061", "\\U00000062", "\\0061", "\\+000062", "!0061", "\\q",
         "'\n'", "' --x'y\n  '", "ä", " ", "$", "$$", "--", "/*", "\\", "!!", "'\r\n \t'", "\n"]
    ),
    max_size=8,
).map("".join)  # fmt: skip
_LITERALS = st.one_of(
    st.builds("'{}'".format, _INSIDE),
    st.builds("E'{}'".format, _INSIDE),
    st.builds("n'{}'".format, _INSIDE),
    st.builds("u&'{}'".format, _INSIDE),
    st.builds("U&'{}' uescape '!'".format, _INSIDE),
    st.builds("$${}$$".format, _INSIDE),
    st.builds("$ä1${}$ä1$".format, _INSIDE),
)


@pytest.mark.postgres
@settings(deadline=None)
@given(literal=_LITERALS)
@example(literal="E'a''' -- '\n'\\''")
def test_strings_mean_what_they_mean_to_postgres(scanner: tuple[Scanner, bool], literal: str) -> None:
    judge, backslashes = scanner
    result = judge.run(b"SELECT " + literal.encode())
    if result.status != pq.ExecStatus.TUPLES_OK or result.nfields != 1:
        return
    found = tokens(literal.encode(), backslashes)
    if len(found) > 1:
        return  # the string ended early, with something behind it that is SQL, too
    value = result.get_value(0, 0)
    assert value is not None and found[0].kind == STRING
    if found[0].value is None:
        assert not value.isascii()
    else:
        assert found[0].value == value


_NAMES = st.one_of(
    st.builds('"x{}"'.format, _INSIDE),
    st.builds('u&"x{}"'.format, _INSIDE),
    st.builds("U&\"x{}\" UESCAPE '!'".format, _INSIDE),
    st.from_regex(r"[a-zA-Zä_][a-zA-Zä0-9_$]{0,70}", fullmatch=True),
)


@pytest.mark.postgres
@settings(deadline=None)
@given(name=_NAMES)
@example(name='"' + "x" * 70 + '"')
def test_names_mean_what_they_mean_to_postgres(scanner: tuple[Scanner, bool], name: str) -> None:
    judge, backslashes = scanner
    result = judge.run(b"SELECT 1 AS " + name.encode())
    found = tokens(name.encode(), backslashes)
    if result.status != pq.ExecStatus.TUPLES_OK or len(found) > 1:
        return
    if len(name.encode()) > LONGEST_NAME and not name.isascii():
        return  # PostgreSQL cuts no letter in two
    value = result.fname(0)
    assert value is not None
    if found[0].value is None:
        assert not value.isascii()
    else:
        assert found[0].value == value
