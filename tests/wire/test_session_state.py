"""What a session leaves behind: settings compared, applied, quoted; traces and their cleaning."""

from __future__ import annotations

import gc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgdoorman_lib.wire.session_state import (
    ASKED,
    BASE,
    DIRTY_CURSORS,
    DIRTY_CUSTOM,
    DIRTY_LIBRARY,
    DIRTY_LISTEN,
    DIRTY_LOCKS,
    DIRTY_ORIGIN,
    DIRTY_PARAMETERS,
    DIRTY_PREPARED,
    DIRTY_SESSION,
    DIRTY_TEMPORARY,
    PINS,
    Findings,
    Settings,
    cleaning_sql,
    question,
    quote_literal,
    reasons,
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


def statements(sql: str) -> list[str]:
    return sql.split("; ") if sql else []


def test_who_one_is_is_undone_first_and_set_last() -> None:
    # A predecessor may have become somebody who may not set what it had set.
    mine = Settings.of({"role": "other", "session_authorization": "somebody", "a": "1", "b": "2"})
    theirs = Settings.of({"role": "third", "b": "2", "c": "3"})
    said = statements(mine.sql_from(theirs))
    assert said[:2] == ["RESET SESSION AUTHORIZATION", "RESET ROLE"]
    assert said[2:4] == [
        'RESET "c"',
        "SELECT pg_catalog.set_config('a', '1', false)",
    ]
    # The authorization before the role, which it would take back.
    assert ["session_authorization" in part for part in said[4:]] == [True, False]
    assert "'role'" in said[5]


def test_the_same_role_is_taken_on_anew_behind_other_changes() -> None:
    one = Settings.of({"role": "other"})
    said = statements(Settings.of({"role": "other", "a": "1"}).sql_from(one))
    assert said[:2] == ["RESET SESSION AUTHORIZATION", "RESET ROLE"] and "'role'" in said[-1]


def test_the_time_a_predecessor_allows_its_statements_is_taken_back_first() -> None:
    theirs = Settings.of({"statement_timeout": "1", "transaction_timeout": "2", "role": "x", "a": "1"})
    said = statements(Settings.of({"statement_timeout": "1"}).sql_from(theirs))
    assert said[:2] == ['RESET "statement_timeout"', 'RESET "transaction_timeout"']
    assert sum("statement_timeout" in part for part in said) == 2, "one's own is set again"
    assert len(said) == len(set(said))


@given(st.text(min_size=1, max_size=20))
def test_statements_to_set_parameters_are_ascii(value: str) -> None:
    if "\0" in value:
        return
    sql = Settings.of({"app.a": value}).sql_from(BASE)
    assert sql.isascii()
    if not value.isascii():
        assert value.encode(errors="surrogateescape").hex() in sql


def test_bytes_that_are_no_utf8_come_back_as_they_were() -> None:
    found = Findings.of([row(b"1", b"app.a", b"J\xf6rg".hex().encode())], "app")
    assert b"J\xf6rg".hex() in Settings.of(found.values).sql_from(BASE)


def test_those_that_reset_is_about() -> None:
    settings = Settings.of({"a": "1", "b": "2", "role": "x"})
    assert settings.among(("a",)).values == {"a": "1"}
    assert settings.among(("ALL",)).values == {"a": "1", "b": "2"}
    assert settings.among(("ROLE", "c")) is BASE


@pytest.mark.parametrize(
    ("path", "temporary"), [("", False), ("public", False), ("pg_temp", True), ('public, "pg_temp"', True)]
)
def test_where_tables_become_temporary(path: str, temporary: bool) -> None:
    assert Settings.of({"search_path": path}).temporary is temporary


# What a server is asked, and says.


def row(*values: bytes | None) -> bytes:
    """The body of a DataRow."""
    body = len(values).to_bytes(2, "big")
    for value in values:
        body += b"\xff\xff\xff\xff" if value is None else len(value).to_bytes(4, "big") + value
    return body


def parameter(name: bytes, value: bytes) -> bytes:
    return row(b"1", name, value.hex().encode())


@pytest.mark.parametrize(
    "bit", [DIRTY_PARAMETERS, DIRTY_CURSORS, DIRTY_LISTEN, DIRTY_TEMPORARY, DIRTY_LOCKS, DIRTY_ORIGIN]
)
def test_exactly_what_was_touched_is_asked(bit: int) -> None:
    sql = question(bit, ["app.a"])
    assert f"'{bit}'" in sql
    assert [other for other in PINS if other != bit and f"'{other}'" in sql] == []
    assert ("app.a" in sql) == (bit == DIRTY_PARAMETERS)


def test_nothing_to_ask() -> None:
    assert question(0, []) == question(DIRTY_LIBRARY | DIRTY_CUSTOM, ["app.a"]) == question(0, [], True) == ""


def test_the_second_question_takes_as_long_as_it_takes() -> None:
    once, again = question(ASKED, ["app.a"]), question(ASKED, ["app.a"], True)
    assert again.endswith(once)
    assert "SET LOCAL statement_timeout = 0; " in again


def test_names_of_options_are_quoted() -> None:
    assert "'it''s'" in question(DIRTY_PARAMETERS, ["it's"])


def test_what_is_found() -> None:
    rows = [
        parameter(b"work_mem", b"9216"),
        parameter(b"TimeZone", b"Asia/Tokyo"),
        parameter(b"work_mem", b"0"),  # the first counts
        parameter(b"transaction_isolation", b"serializable"),
        parameter(b"seed", b"unavailable"),
        parameter(b"role", b"none"),
        parameter(b"session_authorization", b"app"),
        row(b"1", b"app.a", None),
        row(b"8", None, None),
        row(b"8", None, None),
        row(b"64", None, None),
    ]
    found = Findings.of(rows, "app")
    assert found.values == {"work_mem": "9216", "timezone": "Asia/Tokyo"}
    assert reasons(found.pins) == "listen, advisory locks"
    found = Findings.of([parameter(b"role", b"x"), parameter(b"session_authorization", b"other")], "app")
    assert found.values == {"role": "x", "session_authorization": "other"}
    assert Findings.of([], "app") == Findings({}, 0)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\0",
        row(),
        row(b"1", b"a"),
        row(b"1", b"a", b"41", b"x"),
        row(b"x", b"a", b"41"),
        row(None, b"a", b"41"),
        row(b"2", None, None),
        row(b"-8", None, None),
        row(b"1", b"a", b"4"),
        row(b"1", b"a", b"no"),
        row(b"1", b"\xff", b"41"),
        row(b"1", b"a", b"41")[:-1],
        row(b"1", b"a", b"41") + b"x",
    ],
)
def test_rows_that_can_be_no_answer(body: bytes) -> None:
    with pytest.raises(ValueError):
        Findings.of([row(b"8", None, None), body], "app")


@given(st.lists(st.one_of(st.binary(max_size=40), st.builds(row, *[st.one_of(st.none(), st.binary(max_size=5))] * 3))))
def test_no_row_raises_anything_else(rows: list[bytes]) -> None:
    try:
        found = Findings.of(rows, "app")
    except ValueError:
        return
    assert found.pins & ~sum(PINS) == 0


def test_options_of_unknown_names_are_cleaned_like_others() -> None:
    assert cleaning_sql(DIRTY_CUSTOM) == cleaning_sql(DIRTY_PARAMETERS)


def test_settings_that_act_at_rest() -> None:
    assert Settings.of({"idle_session_timeout": "1s"}).restless and not Settings.of({"work_mem": "9MB"}).restless


def test_without_and_over() -> None:
    mine = Settings.of({"a": "1", "b": "2"})
    assert mine.without(("a", "x")).values == {"b": "2"}
    assert mine.over({"a": "9", "c": "3"}).values == {"a": "1", "b": "2", "c": "3"}
    assert mine.over({}) is mine


@pytest.mark.parametrize(
    ("sqlstate", "message", "name"),
    [
        ("22023", '7 is outside the valid range for parameter "pg_trgm.limit_x" (0 .. 1)', "pg_trgm.limit_x"),
        ("42602", 'invalid configuration parameter name "pg_trgm.limit"', "pg_trgm.limit"),
        ("42501", 'permission denied to set parameter "pg_trgm.limit"', "pg_trgm.limit"),
        ("22023", 'invalid value for parameter "work_mem"', None),
        ("57014", 'canceling "pg_trgm.limit"', None),
    ],
)
def test_the_option_a_library_refuses(sqlstate: str, message: str, name: str | None) -> None:
    mine = Settings.of({"pg_trgm.limit": "7", "pg_trgm.limit_x": "8", "work_mem": "x"})
    assert mine.refused(sqlstate, message) == name


def test_deferrable_is_left_before_anything_is_asked() -> None:
    theirs = Settings.of({"default_transaction_deferrable": "on"})
    assert Settings.of({"work_mem": "9MB"}).sql_from(theirs).startswith("SET TRANSACTION NOT DEFERRABLE; RESET ")


def test_the_role_sessions_begin_with_comes_back() -> None:
    assert cleaning_sql(DIRTY_SESSION, role=True) == ["DISCARD ALL", "RESET ROLE"]
    assert "RESET ROLE" in cleaning_sql(DIRTY_PARAMETERS, role=True)
    assert cleaning_sql(DIRTY_SESSION) == ["DISCARD ALL"]
