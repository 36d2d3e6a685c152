"""What a session leaves behind: settings compared, applied, quoted; traces and their cleaning."""

from __future__ import annotations

import gc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgdoorman_lib.wire.session_state import (
    BASE,
    DIRTY_CURSORS,
    DIRTY_LISTEN,
    DIRTY_PARAMETERS,
    DIRTY_PREPARED,
    DIRTY_SESSION,
    DIRTY_TEMPORARY,
    Settings,
    cleaning_sql,
    quote_literal,
    trace_of,
    valid_name,
)

values = st.dictionaries(st.sampled_from(["a", "b", "c", "search_path"]), st.text("xy'\\", max_size=3), max_size=4)


def test_equal_values_are_one_object() -> None:
    assert Settings.of({"A": "1", "b": "2"}) is Settings.of({"b": "2", "a": "1"})
    assert Settings.of({}) is BASE


def test_changed() -> None:
    one = Settings.of({"application_name": "x"})
    assert one.changed("TimeZone", "UTC").values == {"application_name": "x", "timezone": "UTC"}
    assert one.changed("application_name", "x") is one


def test_nobody_keeps_settings_alive() -> None:
    Settings.of({"only": "here"})
    gc.collect()
    assert (("only", "here"),) not in Settings._known


def test_environment_is_what_statements_depend_on() -> None:
    assert Settings.of({"application_name": "x"}).environment == ()
    first = Settings.of({"application_name": "x", "search_path": "s"})
    second = Settings.of({"application_name": "y", "search_path": "s"})
    assert first.environment == second.environment == (("search_path", "s"),)


@given(values, values)
def test_sql_names_exactly_what_differs(have: dict[str, str], want: dict[str, str]) -> None:
    present, wanted = Settings.of(have), Settings.of(want)
    sql = wanted.sql_from(present)
    assert (sql == "") == (have == want)
    for name in {*have, *want}:
        gone = name in have and name not in want
        assert (f'RESET "{name}"' in sql) == gone
        assert (f"set_config('{name}'" in sql) == (name in want and have.get(name) != want[name])


def decode(literal: str) -> str:
    """What PostgreSQL makes of a literal with standard_conforming_strings on."""
    escaped = literal.startswith("E")
    inside = literal[2:-1] if escaped else literal[1:-1]
    result = ""
    position = 0
    while position < len(inside):
        if inside[position] == "'":
            assert inside[position + 1] == "'", "the string ends early"
            position += 1
        elif inside[position] == "\\":
            assert escaped
            position += 1
            assert inside[position] == "\\"
        result += inside[position]
        position += 1
    return result


@given(st.text("a'\\ü;"))
def test_literals_mean_the_same_under_both_conventions(value: str) -> None:
    literal = quote_literal(value)
    assert decode(literal) == value
    # A plain string has no backslash, whose meaning depends on standard_conforming_strings.
    assert literal.startswith("E") or "\\" not in literal


@pytest.mark.parametrize(
    ("name", "valid"),
    [("search_path", True), ("a.b", True), ("a.b.c$1", True), ("", False), ("a b", False), ("a;b", False), ("1a", False),
     ("a.", False), ("a\n", False), ("a'", False)],
)  # fmt: skip
def test_names(name: str, valid: bool) -> None:
    assert valid_name(name) is valid


@pytest.mark.parametrize(
    ("tag", "trace"),
    [
        (b"SET", DIRTY_PARAMETERS),
        (b"RESET", DIRTY_PARAMETERS),
        (b"PREPARE", DIRTY_PREPARED),
        (b"DEALLOCATE", DIRTY_PREPARED),
        (b"DECLARE CURSOR", DIRTY_CURSORS),
        (b"LISTEN", DIRTY_LISTEN),
        (b"SELECT 1", 0),
        (b"SET CONSTRAINTS", 0),
        (b"PREPARE TRANSACTION", 0),
        (b"INSERT 0 1", 0),
        (b"DELETE 1", 0),
        (b"COMMIT", 0),
        (b"", 0),
    ],
)
def test_traces(tag: bytes, trace: int) -> None:
    assert trace_of(tag) == trace


def test_cleaning_is_exactly_what_was_touched() -> None:
    assert cleaning_sql(0) == []
    assert cleaning_sql(DIRTY_LISTEN) == ["UNLISTEN *"]
    assert cleaning_sql(DIRTY_PREPARED) == ["DEALLOCATE ALL"]
    assert cleaning_sql(DIRTY_CURSORS) == ["CLOSE ALL"]
    assert cleaning_sql(DIRTY_TEMPORARY) == ["DISCARD TEMP"]
    assert "RESET ALL" in cleaning_sql(DIRTY_PARAMETERS)
    assert cleaning_sql(DIRTY_SESSION | DIRTY_LISTEN) == ["DISCARD ALL"]
