"""Which texts are known to leave nothing: every form of what may leave something is looked at closer."""

from __future__ import annotations

import itertools

import pytest
from fix_postgres import Postgres
from hypothesis import example, given
from hypothesis import strategies as st

from pgdoorman_lib.wire.lexer import hash_of
from pgdoorman_lib.wire.scan import (
    BACKSLASHES,
    HARMLESS_VERBS,
    MULTIBYTE,
    PLAIN,
    TELLING,
    UNCERTAIN,
    Lexicon,
    Scanner,
)
from pgdoorman_lib.wire.session_state import DIRTY_LOCKS
from pgdoorman_lib.wire.traces import ANYTHING, BUILTIN, BUILTIN_WRITTEN, UNREADABLE, Traces

#: A database with functions, a view and a table of which something is known.
LEXICON = Lexicon(
    {
        b"leaks": Traces(DIRTY_LOCKS),
        b"Has Blanks": UNREADABLE,
        "schlüssel".encode(): UNREADABLE,
        b"x" * 63: UNREADABLE,
        b"watched": UNREADABLE,
    },
    written=[b"watched"],
    calls=[b"leaks"],
)

HARMLESS = (
    "",
    ";",
    " ; ;\n",
    "SELECT 1",
    "select a, b FROM t WHERE c = $1 ORDER BY d LIMIT 10",
    "(SELECT 1) UNION (SELECT 2)",
    "((VALUES (1)))",
    "INSERT INTO orders (id, total) VALUES ($1, $2) RETURNING id",
    "MERGE INTO t USING s ON t.a = s.a WHEN MATCHED THEN DELETE",
    "UPDATE accounts SET balance = balance + 1 WHERE id = 7",
    "WITH a AS (SELECT 1) SELECT * FROM a",
    "BEGIN; SAVEPOINT a; ROLLBACK TO a; RELEASE a; COMMIT",
    "START TRANSACTION ISOLATION LEVEL SERIALIZABLE",
    "SELECT pg_advisory_xact_lock(1)",
    "SELECT 'set_config', 'temp', E'it''s \\' set_config', $$ temp $$ /* temp */ -- set_config",
    "SELECT temperature, holding, leak FROM templates",
    "SELECT * FROM watched, pg_settings",
    "select 1;\nselect '; set x = 1'",
    "FETCH 10 FROM c; CLOSE c",
    "DECLARE c CURSOR FOR SELECT 1",
    "COPY t FROM STDIN",
    "EXPLAIN (ANALYZE) SELECT 1",
    "SHOW work_mem",
    "select a.b.c, e'', 1e5, 0x1f, $1::text",
    "NOTIFY c, 'x'",
    "SELECT 'ü' AS ä",
)

#: Looked at closer wherever they stand in a statement.
ANYWHERE = [word.decode() for word in sorted({*TELLING, *BUILTIN} - BUILTIN_WRITTEN) if word != b"uescape"]
ANYWHERE += ["leaks", '"Has Blanks"', "schlüssel", "x" * 63, "pg_temp", "pg_temp_3", "pg_toast_temp" * 5, "into"]


def scan(text: str | bytes, reading: int = 0, scanner: Scanner | None = None) -> int:
    """With other bytes before and behind."""
    data = text if isinstance(text, bytes) else text.encode()
    found = (scanner or Scanner(LEXICON)).scan(bytearray(b"'\"" + data + b"' set"), 2, 2 + len(data), reading)
    assert found in (0, 1)
    return int(found)


@pytest.mark.parametrize("text", HARMLESS)
def test_the_common_is_left_alone(text: str) -> None:
    for form in (text, text + ";", f"\n {text}\n", f"/* a /* b */ */{text}", f"-- '\r{text}", f"SELECT 1;{text}"):
        assert scan(form) == 0, form


def mixed_case(text: str, bits: int) -> str:
    return "".join(c.swapcase() if c.isascii() and bits >> (i % 16) & 1 else c for i, c in enumerate(text))


BEFORE = ("", "SELECT ", "SELECT 'a', ", "SELECT 1; SELECT a.", "with a as (select ", "select 1, ", "/**/select/**/")
BEHIND = ("", "(1)", " x", ".y", "/**/", "--", "'a'", ";", "\0")


@pytest.mark.parametrize("word", ANYWHERE)
def test_words_are_found_anywhere(word: str) -> None:
    for before, behind in itertools.product(BEFORE, BEHIND):
        for form in [word] if '"' in word else [word, mixed_case(word, 0x5A5A), mixed_case(word, 0xFFFF)]:
            assert scan(before + form + behind), (before, form, behind)


@pytest.mark.parametrize("word", [w for w in ANYWHERE if w.isascii() and '"' not in w and w != "into"])
def test_words_are_found_in_quotes(word: str) -> None:
    """A name is the same in quotes; a keyword isn't, but no text has such names by chance."""
    assert scan(f'SELECT "{word}"(1)')
    assert scan(f'SELECT pg_catalog . "{word}" (1)')
    assert scan(f'SELECT U&"{word}"(1)')
    escaped = "".join(f"\\{ord(c):04x}" for c in word)
    assert scan(f'SELECT u&"{escaped}"(1)')
    assert scan('SELECT U&"' + escaped.replace("\\", "!") + '"(1)')


def test_relations_that_matter_only_when_they_are_written_to() -> None:
    for name in ("watched", "pg_settings"):
        assert not scan(f"SELECT * FROM {name}")
        assert scan(f"UPDATE {name} SET a = 1")
        assert scan(f'WITH a AS (UPDATE t SET a = 1) SELECT * FROM "{name}"')
        assert scan(f"INSERT INTO t SELECT * FROM {name}")


def test_select_into() -> None:
    assert scan("SELECT 1 INTO t") and scan("WITH a AS (INSERT INTO t VALUES (1)) SELECT 1")
    assert scan("INSERT INTO t VALUES (1); SELECT 1 INTO t")
    assert not scan("INSERT INTO t SELECT 1")


VERBS = [
    "SET",
    "RESET",
    "DISCARD",
    "LISTEN",
    "UNLISTEN",
    "LOAD",
    "DO",
    "CALL",
    "CREATE",
    "ALTER",
    "DROP",
    "COMMENT",
    "GRANT",
    "REVOKE",
    "SECURITY",
    "IMPORT",
    "REASSIGN",
    "PREPARE",
    "EXECUTE",
    "DEALLOCATE",
    "foo",
    "'a'",
    "1",
    "$1",
    "+",
    '"select"',
    'U&"select"',
    "$$a$$",
]


BEGINNINGS = (
    "", " ", "\n\t\r\f\v", "select 1;", "select 1 ;\n", "/**/", "/* a */ ", "-- a\n", "-- a\r", "--\n--\n/*/**/*/ ", ";;", " ; ",
    "select 1;/* ; */", "/* /* */ ' */", "/* " + "x" * 5000 + " */", "(", "((", "select ';';", "select $a$;$a$;",
)  # fmt: skip


@pytest.mark.parametrize("verb", VERBS)
def test_all_other_statements_are_looked_at(verb: str) -> None:
    for before in BEGINNINGS:
        assert scan(f"{before}{verb} x") and scan(f"{before}{verb.lower()} x"), before


@pytest.mark.postgres
def test_no_verb_is_taken_for_a_harmless_one(postgres: Postgres) -> None:
    """Other words may share their places in the table, but those that begin a statement must not."""
    keywords = [row["word"].encode() for row in postgres.rows("SELECT word FROM pg_get_keywords()")]
    assert len(keywords) > 400 and set(keywords) >= {b"set", b"create"}
    for word in keywords:
        text = bytearray(word + b" x")
        harmless = not Scanner(PLAIN).scan(text, 0, len(text), 0)
        assert harmless == (word in HARMLESS_VERBS), word
        # Nor would one in a database with names of its own.
        value = hash_of(word)
        slot = (value ^ (value >> 16)) & 0xFFFF
        assert bool(PLAIN.table[slot] & 2) == (word in HARMLESS_VERBS), word


@pytest.mark.parametrize(
    "text", ["SELECT 'a", 'SELECT "a', "SELECT $$a", "SELECT /* a", "SELECT E'a\\'", "SELECT $q$ a $$"]
)
def test_what_is_not_closed_is_looked_at(text: str) -> None:
    assert scan(text)


def test_readings() -> None:
    assert scan("SELECT 'it\\'s; set x = 1 --'")
    assert scan("SELECT 'it\\'s; set x = 1 --'", BACKSLASHES) == 0
    assert scan("SELECT 'a\\\\'; set x = 1 --'", BACKSLASHES)
    assert scan("SELECT 'a\\b'", UNCERTAIN) and not scan("SELECT 'ab'", UNCERTAIN)
    # A letter with a byte like a quote's or a backslash's; without one it is read as always.
    assert scan("SELECT 'ü'", MULTIBYTE) and not scan("SELECT 'u'", MULTIBYTE)
    assert scan("SELECT leaks()", MULTIBYTE | UNCERTAIN | BACKSLASHES)


def test_everything_is_looked_at_while_there_are_doubts() -> None:
    scanner = Scanner(LEXICON)
    scanner.doubts = 1
    assert scan("SELECT 1", 0, scanner) and scan("", 0, scanner)
    scanner.doubts = 0
    assert not scan("SELECT 1", 0, scanner)


def test_a_database_in_which_anything_may_leave_something() -> None:
    scanner = Scanner(Lexicon({ANYTHING: UNREADABLE}))
    assert scan("SELECT 1", 0, scanner) and scan("INSERT INTO t VALUES (1)", 0, scanner)
    scanner.use(LEXICON)
    assert not scan("SELECT 1", 0, scanner)


def test_words_that_only_share_a_place_in_the_table() -> None:
    """Of two that do the other one is told apart by its letters."""
    words = {(hash_of(name) ^ (hash_of(name) >> 16)) & 0xFFFF: name for name in BUILTIN}
    number = 0
    while True:
        other = b"c%d" % number
        value = hash_of(other)
        if (value ^ (value >> 16)) & 0xFFFF in words:
            break
        number += 1
    assert not scan(b"SELECT " + other)
    assert scan(b"SELECT " + words[(value ^ (value >> 16)) & 0xFFFF])


def test_a_nul_ends_the_text() -> None:
    assert not scan(b"SELECT 1\0set_config temp")
    assert scan(b"SELECT set_config\0")


# Whatever stands around it.

_blank = st.lists(
    st.sampled_from([" ", "\n", "\t", "\r\n", "/**/", "/* set ' */", '/* a /* b */ " */', "-- it's\n", "--\r", "\f"]),
    max_size=3,
).map("".join)
_aside = st.sampled_from(
    ["'a'", "'it''s'", "E'it\\'s'", "e'\\\\'", "$$'$$", "$a$ $$ ; $a$", '"a"', '"a""b"', "U&'\\0041'", "n'x'", "b'1'", "x'1f'", "1",
     "1.5", "$1", "a.b", "f(1)", "'a'\n'b'", "'a' -- 'c\n'b'", "E'a'\n'\\'b'", "ü", "'ü'", "+ - * /", "a -b", "a / b"]
)  # fmt: skip
_word = st.sampled_from([w for w in ANYWHERE if w != "into"])


@st.composite
def statements(draw: st.DrawFn) -> tuple[str, str]:
    """A text without the word, and the same one with it somewhere."""
    word = draw(_word)
    if '"' not in word:
        word = mixed_case(word, draw(st.integers(0, 1 << 16)))
        if word.isascii() and draw(st.booleans()):
            word = f'"{word.lower()}"'
    schema = draw(st.sampled_from(["", "s.", '"S" . ', "pg_catalog/**/."]))
    front = [f"{draw(_aside)}{draw(_blank)}," for _ in range(draw(st.integers(0, 4)))]
    behind = [f",{draw(_blank)}{draw(_aside)}" for _ in range(draw(st.integers(0, 3)))]
    first = draw(st.sampled_from(["", "select 1;", "begin ;", ";", "insert into t values ('x');"]))
    verb = draw(st.sampled_from(["select ", "SELECT\n", "values (", "update t set a = ", "with a as (select "]))
    before = first + draw(_blank) + verb + "".join(front) + draw(_blank) + " "
    after = " " + draw(_blank) + "".join(behind)
    return before + "x" + after, before + schema + word + draw(_blank) + "(" + after


@given(statements())
@example(("select 1", "select 1, 'a'\n'''' , set_config"))
def test_never_called_harmless(texts: tuple[str, str]) -> None:
    without, text = texts
    assert scan(without) == 0
    assert scan(text) == 1


@given(st.binary(max_size=300), st.integers(0, 300), st.integers(0, 300), st.integers(0, 7))
def test_garbage_raises_nothing(data: bytes, one: int, other: int, reading: int) -> None:
    start, end = sorted((min(one, len(data)), min(other, len(data))))
    assert Scanner(LEXICON).scan(bytearray(data), start, end, reading) in (0, 1, 2)


@given(
    st.lists(st.one_of(_aside, _blank, _word, st.sampled_from(list(HARMLESS))), max_size=8).map(" ".join),
    st.binary(max_size=9),
)
def test_nothing_outside_is_looked_at(text: str, noise: bytes) -> None:
    data = text.encode()
    block = bytearray(noise + data + noise)
    assert Scanner(LEXICON).scan(block, len(noise), len(noise) + len(data), 0) == scan(data)
