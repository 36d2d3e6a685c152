"""What texts leave behind, as far as they tell: whole, in parts, and in any encoding."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pgdoorman_lib.wire.reading import _CODECS, AS_USUAL, Reading, reading_of
from pgdoorman_lib.wire.scan import BACKSLASHES, MULTIBYTE, UNCERTAIN, Lexicon, Scanner
from pgdoorman_lib.wire.session_state import (
    DIRTY_CURSORS,
    DIRTY_LIBRARY,
    DIRTY_LISTEN,
    DIRTY_LOCKS,
    DIRTY_ORIGIN,
    DIRTY_PARAMETERS,
    DIRTY_SLOTS,
    DIRTY_TEMPORARY,
    DIRTY_UNKNOWN,
)
from pgdoorman_lib.wire.sqltext import LONGEST, Parts, analyse
from pgdoorman_lib.wire.text import NOTHING, RESETS, RESETS_ALL, RESETS_SETTINGS, UNREAD, Text, joined
from pgdoorman_lib.wire.traces import (
    ANYTHING,
    EVERYTHING,
    LISTED,
    NAMED,
    POSSIBLE,
    UNLIKELY,
    UNREADABLE,
    Traces,
    union,
)

LEXICON = Lexicon(
    {
        b"leaks": Traces(DIRTY_LOCKS),
        "schlüssel".encode(): Traces(DIRTY_LISTEN),
        b"watched": Traces(DIRTY_ORIGIN),
        b"x" * 63: Traces(DIRTY_SLOTS),
    },
    written=[b"watched"],
    calls=[b"leaks"],
)


@pytest.mark.parametrize(
    ("text", "bits", "options"),
    [
        ("SELECT 1", 0, ()),
        ("SET x = 1", DIRTY_PARAMETERS, ("x",)),
        ("SET Work_Mem TO '1MB'", DIRTY_PARAMETERS, ("work_mem",)),
        ('SET SESSION app.x = 1; SET a . "B" = 2', DIRTY_PARAMETERS, ("app.x", "a.b")),
        ("SET LOCAL x = 1", 0, ()),
        ("SET TRANSACTION READ ONLY", 0, ()),
        ("SET CONSTRAINTS ALL DEFERRED", 0, ()),
        ("SET TIME ZONE 'UTC'", DIRTY_PARAMETERS, ("timezone",)),
        ("SET NAMES 'latin1'", DIRTY_PARAMETERS, ("client_encoding",)),
        ("SET ROLE x", DIRTY_PARAMETERS, ("role",)),
        ("SET SESSION AUTHORIZATION x", DIRTY_PARAMETERS, ("session_authorization",)),
        ("SET search_path = a, pg_temp", DIRTY_PARAMETERS | DIRTY_TEMPORARY, ("search_path",)),
        ("RESET x", DIRTY_PARAMETERS, ("x",)),
        ("RESET ALL", DIRTY_PARAMETERS, (LISTED,)),
        ("SELECT set_config('a.b', 'x', true)", 0, ()),
        ("SELECT set_config('a.b', 'x', false)", DIRTY_PARAMETERS, ("a.b",)),
        ("SELECT set_config('a.b', 'x', $1)", DIRTY_PARAMETERS, ("a.b",)),
        ("SELECT set_config('A.B'::text, 'x', 't'::bool)", 0, ()),
        ("SELECT 'temp', \"temp\", temperature FROM t", 0, ()),
        ("CREATE TEMP TABLE t (a int)", DIRTY_TEMPORARY, ()),
        ("CREATE TEMP TABLE t (a int) ON COMMIT DROP", 0, ()),
        ("CREATE LOCAL TEMPORARY TABLE t (a int) ON COMMIT DELETE ROWS", DIRTY_TEMPORARY, ()),
        ("SELECT 1 INTO TEMP t", DIRTY_TEMPORARY, ()),
        ("CREATE TABLE pg_temp.t (a int)", DIRTY_TEMPORARY, ()),
        ("DECLARE c CURSOR WITHOUT HOLD FOR SELECT 1", 0, ()),
        ("DECLARE c CURSOR WITH HOLD FOR SELECT 1", DIRTY_CURSORS, ()),
        ("SELECT pg_advisory_lock(1)", DIRTY_LOCKS, ()),
        ("SELECT pg_create_logical_replication_slot('a', 'b', true)", DIRTY_SLOTS, ()),
        ("DO $$ BEGIN CREATE TEMP TABLE t (a int); SET a.b = 1; END $$", DIRTY_TEMPORARY | DIRTY_PARAMETERS, ("a.b",)),
        ("DO LANGUAGE plpgsql 'BEGIN LISTEN c; PERFORM pg_advisory_lock(1); END'", DIRTY_LISTEN | DIRTY_LOCKS, ()),
        ("SELECT leaks(), watched FROM watched", DIRTY_LOCKS, ()),
        ("SELECT leaks FROM t", 0, ()),
        ("SELECT U&\"le!0061ks\" UESCAPE '!' ()", DIRTY_LOCKS, ()),
        ("UPDATE watched SET a = 1", DIRTY_ORIGIN, ()),
        ('SELECT "schlüssel"()', DIRTY_LISTEN, ()),
        (f"SELECT {'x' * 90}()", DIRTY_SLOTS, ()),
    ],
)
def test_what_a_text_may_leave(text: str, bits: int, options: tuple[str, ...]) -> None:
    traces = analyse(text.encode(), LEXICON).traces
    assert (traces.bits, traces.options, traces.unnamed) == (bits, options, NAMED)


@pytest.mark.parametrize(
    ("text", "unnamed"),
    [
        ("SELECT set_config(a, 'x', false) FROM t", POSSIBLE),
        ("SELECT set_config(VARIADIC a)", POSSIBLE),
        ("SELECT set_config(setting_name => 'a.b', new_value => 'x', is_local => false)", POSSIBLE),
        ("DO $$ BEGIN EXECUTE format('SET %I = %L', a, b); END $$", POSSIBLE),
        ("DO $$ BEGIN EXECUTE 'SET ' || a; END $$", POSSIBLE),
        ("DO LANGUAGE plpython3u 'x'", UNLIKELY),
        ("SELECT query_to_xml('select 1' || a, true, true, '')", UNLIKELY),
    ],
)
def test_names_that_nobody_knows(text: str, unnamed: int) -> None:
    found = analyse(text.encode())
    assert found.traces.unnamed == unnamed and found.traces.bits & DIRTY_PARAMETERS


def test_a_parameter_that_names_a_setting() -> None:
    found = analyse(b"SELECT set_config($2, $1, false), set_config($11::text, 'x', $3)")
    assert found.parameters == (2, 11) and found.traces.unnamed == NAMED and found.traces.bits & DIRTY_PARAMETERS
    found = analyse(b"SELECT set_config($1, $2, true)")
    assert found.parameters == () and not found.traces.bits & DIRTY_PARAMETERS


def test_a_database_in_which_anything_may_leave_something() -> None:
    lexicon = Lexicon({ANYTHING: UNREADABLE})
    assert analyse(b"SELECT 1", lexicon).traces == UNREADABLE
    assert analyse(b"SELECT 1").traces == Traces()


@pytest.mark.parametrize(
    ("text", "keeps"),
    [
        ("CREATE TEMP TABLE t (a int)", DIRTY_TEMPORARY),
        ("CREATE TEMP TABLE t (a int) ON COMMIT DROP", 0),
        ("DO $$ BEGIN CREATE TEMP TABLE t (a int); END $$", 0),
        ("DECLARE c CURSOR WITH HOLD FOR SELECT 1", DIRTY_CURSORS),
        ("SELECT pg_advisory_lock(1)", DIRTY_LOCKS),
        ("SELECT pg_try_advisory_lock(1)", 0),
        ("SELECT pg_advisory_unlock_all()", 0),
        ("LISTEN c", DIRTY_LISTEN),
        ("LOAD 'x'", DIRTY_LIBRARY),
        ("SET x = 1", 0),
    ],
)
def test_what_a_text_surely_keeps(text: str, keeps: int) -> None:
    assert analyse(text.encode()).keeps == keeps


def test_names_of_statements_and_where_they_stand() -> None:
    text = b"PREPARE a (int) AS SELECT $1; EXECUTE \"B c\"(1); DEALLOCATE PREPARE d; DEALLOCATE ALL; PREPARE TRANSACTION 'x'"
    found = analyse(text).names
    assert [(name.verb, name.name) for name in found] == [("prepare", b"a"), ("execute", b"B c"), ("deallocate", b"d")]
    assert [text[name.start : name.end] for name in found] == [b"a", b'"B c"', b"d"]
    assert text[found[0].end : found[0].stop] == b" (int) AS SELECT $1"


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("CREATE TRIGGER t AFTER INSERT ON t EXECUTE FUNCTION f()", []),
        ("CREATE TABLE t AS EXECUTE p(1)", [b"p"]),
        ("EXPLAIN ANALYZE EXECUTE p", [b"p"]),
        ("EXECUTE function", [b"function"]),
        ("EXECUTE U&\"p!0071\" UESCAPE '!'(1)", [b"pq"]),
        ("SELECT 'a; execute p'", []),
        ("/* execute p */ EXECUTE/* a */p", [b"p"]),
    ],
)
def test_names(text: str, names: list[bytes]) -> None:
    data = text.encode()
    found = analyse(data).names
    assert [name.name for name in found] == names
    if "UESCAPE" in text:
        assert data[found[0].start : found[0].end] == b"U&\"p!0071\" UESCAPE '!'"


@pytest.mark.parametrize(
    ("text", "resets"),
    [
        ("RESET Work_Mem", (("work_mem", False),)),
        ("RESET a . b", (("a.b", False),)),
        ("RESET ALL", ((LISTED, False),)),
        ("DISCARD ALL", ((LISTED, False),)),
        ("RESET TIME ZONE", (("timezone", False),)),
        ("RESET SESSION AUTHORIZATION", (("session_authorization", False),)),
        ("SET x TO DEFAULT", (("x", False),)),
        ("SET LOCAL x = DEFAULT", (("x", True),)),
        ("SET TIME ZONE LOCAL", (("timezone", False),)),
        ("SET x = 1", ()),
        ("RESET x; SET x = 1", ()),
        ("RESET x; SELECT set_config('x', 'y', false)", ()),
        ("SET x = 'default'", ()),
    ],
)
def test_resets(text: str, resets: tuple[tuple[str, bool], ...]) -> None:
    assert analyse(text.encode()).resets == resets


@pytest.mark.parametrize(
    ("text", "bits"),
    [
        ("DISCARD ALL", RESETS | RESETS_ALL),
        ("DISCARD TEMP", RESETS),
        ("RESET ALL", RESETS | RESETS_SETTINGS),
        ("RESET x", RESETS),
        ("SELECT pg_advisory_unlock_all(); CLOSE ALL; UNLISTEN *; RESET ALL;", RESETS | RESETS_SETTINGS),
        ("DEALLOCATE ALL", RESETS),
        ("DEALLOCATE p", 0),
        ("SELECT pg_advisory_unlock_all(), leaks()", 0),
        ("SELECT pg_advisory_unlock_all() FROM t", 0),
        ("SELECT pg_advisory_lock(1); RESET ALL", 0),
        ("RESET ALL; SET x = 1", 0),
        ("SELECT 1", 0),
        ("", 0),
    ],
)
def test_texts_that_only_reset(text: str, bits: int) -> None:
    assert analyse(text.encode(), LEXICON).only_resets == bits


@pytest.mark.parametrize(
    ("text", "assigns"),
    [
        ("SET work_mem = '1MB'", ("work_mem", "1MB")),
        ("SET SESSION Work_Mem TO 100", ("work_mem", "100")),
        ("SET x = -1;", ("x", "-1")),
        ("SET app.x = E'a\\'b'", ("app.x", "a'b")),
        ("SET enable_seqscan = off", ("enable_seqscan", "off")),
        ("SET x = a, b", None),
        ("SET LOCAL x = 1", None),
        ("SET x = DEFAULT", None),
        ("SET x = 1; SELECT 1", None),
        ("SET search_path = a", None),
        ("SET role = a", None),
        ("SET DateStyle = German", None),
        ("SET x = 'ü'", None),
        ("SET TIME ZONE 'UTC'", None),
    ],
)
def test_a_text_that_is_one_assignment(text: str, assigns: tuple[str, str] | None) -> None:
    assert analyse(text.encode()).assigns == assigns


@pytest.mark.parametrize(
    ("text", "defines"),
    [
        ("CREATE TABLE t (a int)", True),
        ("ALTER TABLE t ADD b int", True),
        ("DROP TABLE t", True),
        ("GRANT SELECT ON t TO u", True),
        ("DO 'BEGIN END'", True),
        ("CALL p()", True),
        ("SELECT 1 INTO t", True),
        ("WITH a AS (SELECT 1) SELECT * INTO t FROM a", True),
        ("INSERT INTO t VALUES (1)", False),
        ("SELECT 1", False),
    ],
)
def test_what_changes_the_meaning_of_others(text: str, defines: bool) -> None:
    assert analyse(text.encode()).defines == defines


def test_what_nextval_gave() -> None:
    assert analyse(b"SELECT lastval()").sequences and analyse(b"SELECT pg_catalog.currval('s')").sequences
    assert not analyse(b"SELECT nextval('s'), 'lastval'").sequences


def test_joined() -> None:
    one, other = analyse(b"SET a = 1"), analyse(b"SELECT set_config($1, '', false), lastval()")
    both = joined(one, other)
    assert both.traces == union(one.traces, other.traces) and both.parameters == (1,) and both.sequences
    assert both.assigns is None and one.assigns is not None
    assert joined(one, NOTHING) is one


def test_what_is_found_is_remembered_for_a_lexicon_and_a_reading() -> None:
    text = b"SELECT 'a\\', leaks() --'"
    lexicon = Lexicon()
    assert analyse(text, lexicon) is analyse(text, lexicon)
    assert analyse(text, LEXICON).traces.bits == DIRTY_LOCKS and analyse(text, lexicon).traces.bits == 0
    assert analyse(text, LEXICON, Reading(BACKSLASHES, "")).traces.bits == 0


def test_backslashes_that_may_escape_or_not() -> None:
    text = b"SELECT 'a\\', leaks() --'"
    for flags in (0, BACKSLASHES):
        assert analyse(text, LEXICON, Reading(flags, ""), uncertain=True).traces.bits == DIRTY_LOCKS
    assert analyse(text + b"-" * LONGEST, LEXICON, uncertain=True) == UNREAD


# Every form in which a setting may be named.

OPTION = "app.x"
NAMES = (
    "'app.x'", "'APP.X'", "'app.'\n'x'", "'app' -- '\n'.x'", "E'app.\\x78'", "e'\\141pp.x'", "E'app.'\n'\\x78'", "U&'app.\\0078'",
    "u&'!0061pp.x' uescape '!'", "U&'app'\n'.!0078' UESCAPE '!'", "$q$app.x$q$", "$$app.x$$", "n'app.x'", "'app.x'::text",
    "'app.x'::pg_catalog.text", "''\n''\n'app.x'",
)  # fmt: skip
FUNCTIONS = (
    "set_config", "SET_CONFIG", "Set_Config", '"set_config"', "pg_catalog.set_config", 'pg_catalog . "set_config"',
    'U&"set\\005Fconfig"', "u&\"set!005Fconfig\" uescape '!'", "pg_catalog/**/./**/set_config",
)  # fmt: skip
SETS = (
    "SET app.x = 1", "set app . x to 'a'", "SET \"app\".\"x\" = a, b", "set/**/app/**/./**/x/**/=/**/1", "SET SESSION app.x TO DEFAULT",
    "set U&\"\\0061pp\".x = 1", "SET APP.X = 1", "RESET app.x", "reset\n\"app\" . x", "set --\napp.x=1",
)  # fmt: skip
_blank = st.sampled_from([" ", "\n", "\t", "/* ' */", "/* /* */ */", "-- '\n", " -- it's\r\n", "\f"])
_around = st.sampled_from(
    ["", "select 1;", "begin;", "select ';', $$;$$, \";\";", "select E'\\'; /*';", "/* ; */", "-- ;\n", "insert into t values ('''');",
     "select 'a'\n'b;c';", "select x'1f', 1.5e5;"]
)  # fmt: skip


@st.composite
def texts(draw: st.DrawFn) -> str:
    before = draw(_around) + draw(_around)
    if draw(st.booleans()):
        return before + draw(st.sampled_from(SETS)) + draw(st.sampled_from(["", ";", ";select 1", "--"]))
    a, b, c, d = (draw(_blank) for _ in range(4))
    call = f"{draw(st.sampled_from(FUNCTIONS))}{a}({b}{draw(st.sampled_from(NAMES))}{c},{d}$1, false)"
    front = draw(
        st.sampled_from(
            [
                "select ",
                "select 'a', ",
                "values (1, ",
                "update t set a = ",
                "select x from t where y = ",
                "with a as (select ",
            ]
        )
    )
    return before + front + call


@given(texts())
@example("select set_config('a'\n''\n'pp.x', '', false)")
@example("select U&\"set!005Fconfig\" UESCAPE '!' ('app.x', '', false)")
def test_no_form_hides_the_name(text: str) -> None:
    data = text.encode()
    assert Scanner(LEXICON).scan(bytearray(data), 0, len(data), 0) == 1
    traces = analyse(data, LEXICON).traces
    assert OPTION in traces.options
    assert traces.bits & DIRTY_PARAMETERS and traces.unnamed == NAMED


@given(texts(), st.lists(st.integers(0, 200), max_size=4))
def test_no_form_hides_it_in_parts(text: str, cuts: list[int]) -> None:
    data = text.encode()
    parts = Parts(LEXICON, AS_USUAL)
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    for index, (start, stop) in enumerate(itertools.pairwise(places)):
        block = bytearray(b"'" + data[start:stop] + b"'")
        parts.feed(block, 1, 1 + stop - start, index == len(places) - 2)
    traces = parts.found.traces
    assert traces.bits & DIRTY_PARAMETERS
    assert OPTION in traces.options or traces.unnamed == POSSIBLE


# In parts.


def in_parts(text: bytes, size: int, reading: Reading = AS_USUAL, uncertain: bool = False) -> Text:
    parts = Parts(LEXICON, reading, uncertain)
    for at in range(0, len(text), size):
        block = bytearray(text[at : at + size])
        parts.feed(block, 0, len(block), at + size >= len(text))
    return parts.found


@pytest.mark.parametrize("size", [1, 2, 3, 7, 16, 1000])
@pytest.mark.parametrize(
    ("text", "bits"),
    [
        (b"SELECT 'set_config', temperature FROM watched; INSERT INTO t VALUES (1)", 0),
        (b"SELECT leaks()", DIRTY_LOCKS),
        (b'SELECT "leaks"()', DIRTY_LOCKS),
        (b"SELECT 1; CREATE TEMP TABLE t (a int)", EVERYTHING.bits),
        (b"WITH a AS (SELECT 1) SELECT * INTO TEMP t", DIRTY_TEMPORARY),
        (b"DECLARE c CURSOR WITH HOLD FOR SELECT 1", DIRTY_CURSORS),
        (b"SELECT pg_advisory_lock(1)", DIRTY_LOCKS),
        (b"UPDATE watched SET a = 1", DIRTY_ORIGIN),
        (b"SELECT pg_temp.f()", EVERYTHING.bits),
        (b"DO $$ BEGIN END $$", EVERYTHING.bits),
        (b"SELECT U&\"le\\0061ks\"()", EVERYTHING.bits),
        (b"SELECT " + b"y" * 2000, EVERYTHING.bits),
    ],
)  # fmt: skip
def test_what_parts_tell(text: bytes, bits: int, size: int) -> None:
    assert in_parts(text, size).traces.bits == bits


def test_a_set_in_parts() -> None:
    found = in_parts(b"SET SESSION app . x = '" + b"a" * LONGEST + b"'", LONGEST)
    assert found.traces == Traces(DIRTY_PARAMETERS, ("app.x",))
    assert in_parts(b"SET app.x = 'a'", 5).traces == EVERYTHING, "its name came in two parts"
    assert in_parts(b"SET search_path = a", 99).traces.bits == DIRTY_PARAMETERS | DIRTY_TEMPORARY
    # What is behind one that was cut is still read as it should be.
    assert in_parts(b"SET a = 'b'; SELECT lastval()", 4).sequences


def test_parts_of_which_one_cannot_be_read() -> None:
    text = b'SELECT 1, "' + b"x" * 5000 + b'" --'
    found = in_parts(text, 500)
    assert found.traces.bits & DIRTY_UNKNOWN and found.traces.unnamed == POSSIBLE and found.defines


def test_parts_with_letters_or_backslashes_that_may_be_anything() -> None:
    latin = reading_of("on", "LATIN1")
    assert in_parts(b"SELECT 1", 5, latin) == NOTHING
    assert in_parts(b"SELECT '\xe4'", 5, latin).traces == EVERYTHING
    assert in_parts("SELECT 'ä'".encode(), 5) == NOTHING
    assert in_parts(b"SELECT '\\'", 5) == NOTHING
    assert in_parts(b"SELECT '\\'", 5, uncertain=True).traces == EVERYTHING


def test_a_long_text_is_read_as_parts_are() -> None:
    text = b"SELECT '" + b"-" * LONGEST + b"'; SET x = 1; EXECUTE p"
    found = analyse(text)
    assert found.traces.options == ("x",) and not found.names and found.defines


# Encodings.


def test_readings() -> None:
    assert reading_of("on", "UTF8") == AS_USUAL == Reading(0, "")
    assert reading_of("off", "UTF8") == Reading(BACKSLASHES, "")
    assert reading_of("on", "SQL_ASCII") == Reading(0, "")
    assert reading_of("on", "LATIN1") == Reading(MULTIBYTE, "iso8859-1")
    assert reading_of("off", "SJIS") == Reading(BACKSLASHES | MULTIBYTE, "cp932")
    assert reading_of("on", "MULE_INTERNAL") == Reading(MULTIBYTE, None)
    assert UNCERTAIN not in (BACKSLASHES, MULTIBYTE)


@pytest.mark.parametrize(("encoding", "codec"), [(name, codec) for name, codec in _CODECS.items() if codec])
def test_ascii_is_ascii_in_every_encoding(encoding: str, codec: str) -> None:
    """Whatever Python's codec makes of a backslash or a tilde."""
    letter = next(chr(code) for code in range(0xFF, 0x30FF) if _has(chr(code), codec))
    text = b"SELECT '" + letter.encode(codec) + b"', E'it\\'s ~ \\\\', leaks() -- '"
    assert analyse(text, LEXICON, reading_of("on", encoding)).traces.bits == DIRTY_LOCKS
    text = b"SELECT '" + letter.encode(codec) + b"', E'it\\', leaks() -- '"
    assert analyse(text, LEXICON, reading_of("on", encoding)).traces.bits == 0


def _has(letter: str, codec: str) -> bool:
    try:
        return not letter.encode(codec).isascii()
    except UnicodeEncodeError:
        return False


@pytest.mark.parametrize("encoding", ["SJIS", "BIG5", "GBK", "GB18030", "JOHAB", "SHIFT_JIS_2004"])
def test_a_letter_that_ends_in_a_backslash(encoding: str) -> None:
    """It neither escapes what is behind it nor ends anything."""
    codec = _CODECS[encoding]
    letter = next(chr(c) for c in range(0x3000, 0xFFE6) if _has(chr(c), codec) and chr(c).encode(codec)[-1:] in b"\\|~")
    for conforming in ("on", "off"):
        reading = reading_of(conforming, encoding)
        data = b"SELECT '" + letter.encode(codec) + b"', leaks() -- '"
        assert Scanner(LEXICON).scan(bytearray(data), 0, len(data), reading.flags) == 1
        assert analyse(data, LEXICON, reading).traces.bits == DIRTY_LOCKS


def test_names_in_other_encodings() -> None:
    for encoding in ("LATIN1", "WIN1252", "GB18030"):
        reading = reading_of("on", encoding)
        data = "SELECT Schlüssel(), set_config('app.schlüssel', '', false)".encode(reading.codec or "")
        assert Scanner(LEXICON).scan(bytearray(data), 0, len(data), reading.flags) == 1
        assert analyse(data, LEXICON, reading).traces == Traces(DIRTY_LISTEN | DIRTY_PARAMETERS, ("app.schlüssel",))


def test_what_cannot_be_converted() -> None:
    assert analyse(b"SELECT '\xe4'", reading=reading_of("on", "MULE_INTERNAL")) == UNREAD
    assert analyse(b"SELECT '\x80\xff'", reading=reading_of("on", "EUC_KR")) == UNREAD
    assert analyse(b"SELECT 'a'", reading=reading_of("on", "MULE_INTERNAL")) == NOTHING


@given(
    st.binary(max_size=300),
    st.sampled_from(["UTF8", "LATIN1", "SJIS", "GB18030", "?"]),
    st.sampled_from(["on", "off"]),
    st.booleans(),
)
def test_garbage_raises_nothing(data: bytes, encoding: str, conforming: str, uncertain: bool) -> None:
    analyse(data, LEXICON, reading_of(conforming, encoding), uncertain)
    in_parts(data, 50, reading_of(conforming, encoding), uncertain)
