"""What texts of statements betray: scan and analyse on bytes alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgdoorman_lib.wire.scan import (
    LEAVES,
    TEXT_CURSORS,
    TEXT_LIBRARY,
    TEXT_LISTEN,
    TEXT_LOCKS,
    TEXT_NAMES,
    TEXT_ORIGIN,
    TEXT_PARAMETERS,
    TEXT_SEQUENCES,
    TEXT_SET,
    TEXT_TEMPORARY,
    scan,
)
from pgdoorman_lib.wire.sqltext import LONGEST, NOTHING, analyse, custom_names, look

TELLING = {
    "SET work_mem = '1MB'": TEXT_SET,
    "select 1; set x = 2": TEXT_SET,
    "SELECT set_config('a.b', $1, false)": TEXT_PARAMETERS,
    "CREATE TEMP TABLE t (a int)": TEXT_TEMPORARY,
    "SELECT 1 INTO TEMPORARY t": TEXT_TEMPORARY,
    "DECLARE c CURSOR WITH HOLD FOR SELECT 1": TEXT_CURSORS,
    "SELECT pg_advisory_lock(1)": TEXT_LOCKS,
    "SELECT pg_try_advisory_lock_shared(1)": TEXT_LOCKS,
    "SELECT pg_replication_origin_session_setup('x')": TEXT_ORIGIN,
    "PREPARE p AS SELECT 1": TEXT_NAMES,
    "EXECUTE p(1)": TEXT_NAMES,
    "EXPLAIN EXECUTE p(1)": TEXT_NAMES,
    "DEALLOCATE p": TEXT_NAMES,
    "LISTEN c": TEXT_LISTEN,
    "LOAD 'x'": TEXT_LIBRARY,
    "SELECT lastval()": TEXT_SEQUENCES,
    "SELECT currval('s')": TEXT_SEQUENCES,
}
PLAIN = (
    "SELECT 1",
    "SELECT a, b FROM t WHERE c = $1 ORDER BY d LIMIT 10",
    "INSERT INTO orders (id, total) VALUES ($1, $2) RETURNING id",
    "UPDATE accounts SET balance = balance + 1 WHERE id = 7",
    "BEGIN",
    "SELECT pg_advisory_xact_lock(1)",
)


def marks(text: str) -> int:
    data = text.encode()
    return scan(bytearray(b"??" + data + b"??"), 2, 2 + len(data))


@pytest.mark.parametrize("text", TELLING)
def test_scan_sees_what_it_looks_for_in_any_case_and_place(text: str) -> None:
    for form in (text, text.lower(), text.upper(), f"  \n\t{text}", f"SELECT 1 ;\n {text}", f"/* why */ {text} ;"):
        if "/*" in form and TELLING[text] in (TEXT_SET, TEXT_LISTEN, TEXT_LIBRARY):
            continue  # these are told by their tags, too
        assert marks(form) & TELLING[text], form


@pytest.mark.parametrize("text", PLAIN)
def test_scan_leaves_the_common_alone(text: str) -> None:
    assert marks(text) & LEAVES == 0
    assert analyse(text.encode()) == NOTHING


@given(st.sampled_from(sorted(TELLING)), st.text("abc'\"$ ;-\n", max_size=30), st.integers(0, 60))
def test_scan_never_misses_what_analyse_finds(text: str, noise: str, at: int) -> None:
    mixed = f"SELECT '{noise.replace(chr(39), '')}'; {text}"
    found = analyse(mixed.encode())
    assert found.leaves & ~TEXT_PARAMETERS & ~marks(mixed) == 0
    if found.leaves & TEXT_PARAMETERS:
        assert marks(mixed) & (TEXT_PARAMETERS | TEXT_SET)
    if found.names:
        assert marks(mixed) & TEXT_NAMES


@given(st.binary(max_size=300), st.integers(0, 300), st.integers(0, 300))
def test_garbage_raises_nothing(data: bytes, start: int, stop: int) -> None:
    first, last = sorted((min(start, len(data)), min(stop, len(data))))
    scan(bytearray(data), first, last)
    analyse(data)
    custom_names(data)


@pytest.mark.parametrize(
    ("text", "leaves", "keeps"),
    [
        ("SET x = 1", TEXT_PARAMETERS, 0),
        ("SET LOCAL x = 1", 0, 0),
        ("SET TRANSACTION READ ONLY", 0, 0),
        ("SET CONSTRAINTS ALL DEFERRED", 0, 0),
        ("SELECT set_config('a.b', 'x', true)", 0, 0),
        ("SELECT set_config('a.b', 'x', false)", TEXT_PARAMETERS, 0),
        ("SELECT set_config('a.b', 'x', $1)", TEXT_PARAMETERS, 0),
        ("SELECT 'temp', \"temp\", temperature FROM t", 0, 0),
        ("CREATE TEMP TABLE t (a int)", TEXT_TEMPORARY, TEXT_TEMPORARY),
        ("CREATE TEMP TABLE t (a int) ON COMMIT DROP", 0, 0),
        ("CREATE LOCAL TEMPORARY TABLE t (a int) ON COMMIT DELETE ROWS", TEXT_TEMPORARY, TEXT_TEMPORARY),
        ("DO $$ BEGIN CREATE TEMP TABLE t (a int); END $$", TEXT_TEMPORARY, 0),
        ("DECLARE c CURSOR WITHOUT HOLD FOR SELECT 1", 0, 0),
        ("DECLARE c CURSOR WITH HOLD FOR SELECT 1", TEXT_CURSORS, TEXT_CURSORS),
        ("SELECT pg_advisory_lock(1)", TEXT_LOCKS, TEXT_LOCKS),
        ("SELECT pg_try_advisory_lock(1)", TEXT_LOCKS, 0),
        ("SELECT pg_advisory_unlock_all()", TEXT_LOCKS, 0),
        ("LISTEN c", 0, TEXT_LISTEN),
        ("LOAD 'x'", 0, TEXT_LIBRARY),
    ],
)
def test_what_a_text_leaves_and_keeps(text: str, leaves: int, keeps: int) -> None:
    found = analyse(text.encode())
    assert (found.leaves, found.keeps) == (leaves, keeps)


def test_names_of_statements_and_where_they_stand() -> None:
    text = b"PREPARE a (int) AS SELECT $1; EXECUTE \"B c\"(1); DEALLOCATE PREPARE d; DEALLOCATE ALL; PREPARE TRANSACTION 'x'"
    found = analyse(text).names
    assert [(name.verb, name.name) for name in found] == [("prepare", b"a"), ("execute", b"B c"), ("deallocate", b"d")]
    assert [text[name.start : name.end] for name in found] == [b"a", b'"B c"', b"d"]
    assert text[found[0].end : found[0].stop] == b" (int) AS SELECT $1"


def test_customized_options_by_name() -> None:
    assert analyse(b"SET my.option = 1").custom == ("my.option",)
    assert "a.b" in analyse(b"SELECT set_config('a.b', 'x', false)").custom
    assert analyse(b"SELECT set_config($1, 'x', false)").dynamic


def test_a_text_too_long_is_taken_for_what_scan_says() -> None:
    text = b"SELECT '" + b"-" * LONGEST + b"'; SET x = 1; EXECUTE p"
    found = look(text, scan(bytearray(text), 0, len(text)))
    assert found.leaves == TEXT_PARAMETERS and found.unknown and not found.names


@pytest.mark.parametrize(
    ("sql", "unknown"),
    [
        ("SELECT set_config(name, 'x', false) FROM pg_catalog.pg_settings WHERE name = 'work_mem'", False),
        ("SELECT pg_catalog.set_config(Name, setting, false) FROM pg_settings", False),
        ("SELECT set_config(name, 'x', false) FROM pg_settings AS s(setting, name)", True),
        ("SELECT set_config(name, 'x', false) FROM pg_settings, app", True),
        ("SELECT set_config(name, 'x', false) FROM app.pg_settings", True),
        ("SELECT set_config(name, 'x', false) FROM app WHERE EXISTS (SELECT FROM pg_settings)", True),
        ("SELECT set_config(\"name\", 'x', false) FROM pg_settings", True),
        ("SELECT set_config(setting, 'x', false) FROM pg_settings", True),
        ("SELECT set_config(name || 'a.b', 'x', false) FROM pg_settings", True),
        ("SELECT set_config(name, 'x', false)", True),
    ],
)
def test_a_name_that_is_a_column(sql: str, unknown: bool) -> None:
    """What pg_settings lists can be asked for again; a customized option that nobody has defined can't."""
    found = analyse(sql.encode())
    assert found.leaves == TEXT_PARAMETERS and found.disturbs
    assert found.unknown == unknown
