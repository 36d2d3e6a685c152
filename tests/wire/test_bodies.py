"""What bodies of functions may leave: a form at a time, generated relatives, and how long it takes."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgdoorman_lib.wire import glance
from pgdoorman_lib.wire.bodies import _code, body_traces, read
from pgdoorman_lib.wire.session_state import (
    DIRTY_CURSORS,
    DIRTY_LIBRARY,
    DIRTY_LISTEN,
    DIRTY_LOCKS,
    DIRTY_ORIGIN,
    DIRTY_PARAMETERS,
    DIRTY_PREPARED,
    DIRTY_SLOTS,
    DIRTY_UNKNOWN,
)
from pgdoorman_lib.wire.traces import (
    ANYTHING,
    BUILTIN,
    DDL,
    DISTURBS,
    EVERYTHING,
    LISTED,
    MAKES_TEMPORARY,
    NOTHING,
    POSSIBLE,
    SET_CONFIG,
    UNLIKELY,
    UNREADABLE,
    Traces,
    setting,
    union,
)

X = setting("app.x")
UNKNOWN_NAME = BUILTIN[SET_CONFIG]


def traces(body: str, language: str = "plpgsql", hazards: dict[bytes, Traces] | None = None) -> Traces:
    return body_traces(language, body.encode(), hazards or {}).with_names(False)


@pytest.mark.parametrize(
    "statement",
    [
        "RETURN 1;",
        "UPDATE t SET work_mem = 1;",
        "UPDATE t SET a = 1, listen = 2 WHERE set = 3;",
        "INSERT INTO t VALUES (1) ON CONFLICT (a) DO UPDATE SET a = 2;",
        "MERGE INTO t USING u ON t.a = u.a WHEN MATCHED THEN UPDATE SET a = 1;",
        "ALTER TABLE t ALTER a SET DEFAULT 1;",
        "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE;",
        "SET CONSTRAINTS ALL DEFERRED;",
        "SET LOCAL work_mem = '1MB';",
        "SET LOCAL app.x = 'a';",
        "PERFORM set_config('app.x', 'a', true);",
        "PERFORM set_config('work_mem', x, 't'::boolean);",
        "PERFORM current_setting('app.x');",
        "PERFORM pg_advisory_xact_lock(1);",
        "PERFORM 'set work_mem = 1; listen x';",
        "-- SET work_mem = 1;\nRETURN 1;",
        "/* SET x = 1; /* LISTEN x; */ SET x = 2; */ RETURN 1;",
        "RAISE NOTICE 'execute %', 'set_config(''a.b'', 1, false)';",
        "set := 1; reset := 2; load = 3; listen[1] := 4;",
        "CREATE TRIGGER x BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION f();",
        "CREATE TRIGGER x BEFORE INSERT ON t FOR EACH ROW EXECUTE PROCEDURE s.f();",
        "GRANT EXECUTE ON FUNCTION f() TO x;",
        "REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA public FROM x;",
        "OPEN c FOR SELECT 1; FETCH c INTO x; CLOSE c;",
        "SELECT setting INTO x FROM pg_settings;",
        "EXECUTE 'SELECT 1';",
        "EXECUTE $q$UPDATE t SET a = $1$q$ USING 1;",
        "EXECUTE ('INSERT INTO ' 't VALUES (1)') INTO x;".replace("' '", "'\n'"),
    ],
)
def test_harmless(statement: str) -> None:
    assert traces(f"BEGIN {statement} END") == NOTHING


@pytest.mark.parametrize(
    ("statement", "names"),
    [
        ("SET LOCAL App.X = 'a';", ("app.x",)),
        (
            "PERFORM set_config('app.x', 'a', true); SET LOCAL app.y TO 1; SET LOCAL work_mem = '1MB';",
            ("app.x", "app.y"),
        ),
        ("PERFORM set_config(x, 'a', true);", (LISTED,)),
        ("EXECUTE 'SET LOCAL app.x = ' || quote_literal(y);", ("app.x",)),
        ("SET app.x TO 'a';", ()),
    ],
)
def test_names_that_stay(statement: str, names: tuple[str, ...]) -> None:
    assert body_traces("plpgsql", f"BEGIN {statement} END".encode(), {}).locally == names


@pytest.mark.parametrize(
    ("statement", "left"),
    [
        ("SET work_mem = '1MB';", setting("work_mem")),
        ("SET app.x TO 'a';", X),
        ('SET "App" . "X" = 1;', X),
        ("SET app/**/./* */x = 1;", X),
        ("SET SESSION app.x = 1;", X),
        ('set\nU&"app".x to 1;', X),
        ("IF a THEN SET app.x = 1; END IF;", X),
        ("IF a THEN b := 1; ELSE SET app.x = 1; END IF;", X),
        ("LOOP SET app.x = 1; END LOOP;", X),
        ("<<here>> SET app.x = 1;", X),
        ("BEGIN a := 1; EXCEPTION WHEN others THEN SET app.x = 1; END;", X),
        ("SET TIME ZONE 'UTC';", setting("timezone")),
        ("SET ROLE x;", setting("role")),
        ("SET SESSION AUTHORIZATION x;", setting("session_authorization")),
        ("SET NAMES 'latin1';", setting("client_encoding")),
        ("SET SCHEMA 'x';", setting("search_path")),
        ("SET LOCAL ROLE x;", DISTURBS),
        ("SET LOCAL timezone = 'UTC';", DISTURBS),
        ("SET LOCAL search_path = public, pg_temp;", MAKES_TEMPORARY),
        ("SET search_path = pg_temp;", union(MAKES_TEMPORARY, setting("search_path"))),
        ("RESET app.x;", X),
        ("RESET ALL;", setting(LISTED)),
        ("RESET ROLE;", setting("role")),
        ("DISCARD TEMP;", MAKES_TEMPORARY),
        ("LISTEN x;", Traces(DIRTY_LISTEN)),
        ("UNLISTEN *;", Traces(DIRTY_LISTEN)),
        ("LOAD 'x';", Traces(DIRTY_LIBRARY | DIRTY_PARAMETERS)),
        ("PREPARE a AS SELECT 1;", Traces(DIRTY_PREPARED)),
        ("DEALLOCATE ALL;", Traces(DIRTY_PREPARED)),
        ("CREATE TEMP TABLE a (b int);", MAKES_TEMPORARY),
        ("CREATE LOCAL TEMPORARY TABLE IF NOT EXISTS a AS SELECT 1;", MAKES_TEMPORARY),
        ("CREATE OR REPLACE TEMP VIEW a AS SELECT 1;", MAKES_TEMPORARY),
        ("CREATE TABLE pg_temp.a (b int);", MAKES_TEMPORARY),
        ('DROP TABLE "pg_temp_3".a;', MAKES_TEMPORARY),
        ("CREATE TEMP TABLE a (b int) ON COMMIT DROP;", DISTURBS),
        ("CREATE TEMP TABLE a (b int); CREATE TEMP TABLE c (b int) ON COMMIT DROP;", MAKES_TEMPORARY),
        ("PERFORM pg_advisory_lock(1);", Traces(DIRTY_LOCKS)),
        ("a := pg_try_advisory_lock_shared(1);", Traces(DIRTY_LOCKS)),
        ('PERFORM pg_catalog . "pg_advisory_lock"(1);', Traces(DIRTY_LOCKS)),
        ("PERFORM pg_replication_origin_session_setup('x');", Traces(DIRTY_ORIGIN)),
        ("PERFORM pg_create_physical_replication_slot('x', false, true);", Traces(DIRTY_SLOTS)),
        ("PERFORM pg_backup_start('x');", Traces(DIRTY_UNKNOWN)),
        ("UPDATE pg_settings SET setting = 'x' WHERE name = 'search_path';", BUILTIN[b"pg_settings"]),
        ("PERFORM set_config('app.x', 'a', false);", X),
        ("PERFORM set_config('App.X'::text, x, a OR b);", X),
        ("PERFORM set_config(E'app.\\x78', 'a', false);", X),
        ("PERFORM set_config(U&'app.\\0078', 'a', false);", X),
        ("PERFORM set_config(U&'app.!0078' UESCAPE '!', 'a', false);", X),
        ("PERFORM set_config($q$app.x$q$, 'a', false);", X),
        ("PERFORM set_config('app'\n'.x', 'a', false);", X),
        ("PERFORM U&\"set\\005Fconfig\"('app.x', 'a', false);", X),
        ("PERFORM set_config('app.' || x, 'a', false);", UNKNOWN_NAME),
        ("PERFORM set_config(x, 'a', false);", UNKNOWN_NAME),
        ("PERFORM set_config(VARIADIC x);", UNKNOWN_NAME),
        ("PERFORM set_config(x, 'a', true);", MAKES_TEMPORARY),
        ("PERFORM set_config('search_path', x, true);", MAKES_TEMPORARY),
        ("PERFORM set_config('search_path', 'a', true);", DISTURBS),
        ("PERFORM query_to_xml('select set_config(''app.x'', ''a'', false)', true, true, '');", X),
        ("PERFORM query_to_xml(x, true, true, '');", UNREADABLE),
        ("PERFORM table_to_xml('t', true, true, '');", UNREADABLE),
        ("PERFORM ts_stat('select x');", UNREADABLE),
    ],
)
def test_what_statements_leave(statement: str, left: Traces) -> None:
    assert traces(f"BEGIN {statement} END") == left
    assert traces(f"BEGIN x := 1; {statement} END") == left


@pytest.mark.parametrize(
    ("statement", "left"),
    [
        ("EXECUTE 'SET app.x = 1';", X),
        ("EXECUTE 'SELECT 1; SET app.x = 1';", X),
        ("EXECUTE $q$SELECT set_config('app.x', $1, false)$q$ USING a;", X),
        ("EXECUTE 'LISTEN x';", Traces(DIRTY_LISTEN)),
        ("EXECUTE 'deallocate all';", Traces(DIRTY_PREPARED)),
        ("EXECUTE 'declare c cursor with hold for select 1';", Traces(DIRTY_CURSORS)),
        ("EXECUTE 'DO $a$ BEGIN LISTEN x; END $a$';", Traces(DIRTY_LISTEN)),
        ("EXECUTE 'DO LANGUAGE plpython3u $a$ 1 $a$';", UNREADABLE),
        ("FOR r IN EXECUTE 'SELECT pg_advisory_lock(1)' LOOP x := 1; END LOOP;", Traces(DIRTY_LOCKS)),
        ("RETURN QUERY EXECUTE 'SELECT pg_advisory_lock(1)';", Traces(DIRTY_LOCKS)),
        ("OPEN c FOR EXECUTE 'SELECT pg_advisory_lock(1)' USING a;", Traces(DIRTY_LOCKS)),
        ("EXECUTE 'SELECT * FROM ' || quote_ident(x);", UNREADABLE),
        ("EXECUTE format('INSERT INTO %I VALUES (%L)', x, y);", UNREADABLE),
        ("EXECUTE pg_catalog.format($f$DELETE FROM %1$I$f$, x) USING y;", UNREADABLE),
        ("EXECUTE 'SET LOCAL app.x = ' || quote_literal(y);", UNREADABLE),
        ("EXECUTE format('SET app.x = %L', y);", union(UNREADABLE, X)),
        ("EXECUTE 'SELECT set_config(''app.x'', ' || quote_literal(y) || ', false)';", union(UNREADABLE, X)),
        ("EXECUTE format('SET %I = %L', x, y);", EVERYTHING),
        ("EXECUTE 'SET ' || x;", EVERYTHING),
        ("EXECUTE 'SET' || x;", EVERYTHING),
        ("EXECUTE 'SELECT set_config(''app.' || x || ''', ''a'', false)';", EVERYTHING),
        ("EXECUTE 'SE' || 'T app.x = 1';", X),
        ("EXECUTE 'select' || x;", EVERYTHING),
        ("EXECUTE 'SELECT 1; SET ' || x;", EVERYTHING),
        ("EXECUTE x;", EVERYTHING),
        ("EXECUTE $1;", EVERYTHING),
        ("EXECUTE format('%s', x);", EVERYTHING),
        ("EXECUTE format(x, y);", EVERYTHING),
        ("EXECUTE replace('SELECT 1', 'SELECT', x);", EVERYTHING),
        ("EXECUTE x || ' SELECT';", EVERYTHING),
        ("EXECUTE 'EXECUTE foo';", EVERYTHING),
        ("EXECUTE 'DO ' || x;", EVERYTHING),
        ("EXECUTE CASE WHEN a THEN 'SELECT 1' ELSE x END;", EVERYTHING),
        ("EXECUTE (SELECT q FROM t);", EVERYTHING),
    ],
)
def test_dynamic_sql(statement: str, left: Traces) -> None:
    assert traces(f"BEGIN {statement} END") == left


@pytest.mark.parametrize(
    ("body", "left"),
    [
        ("DECLARE q text; BEGIN q := 'SELECT 1 '; EXECUTE q; END", NOTHING),
        ("DECLARE q text := 'SELECT ' || x; BEGIN EXECUTE q INTO y; END", UNREADABLE),
        (
            "DECLARE q text DEFAULT 'SELECT * '; BEGIN q = q || 'FROM ' || t; RAISE NOTICE '%', q; EXECUTE q; END",
            UNREADABLE,
        ),
        ("DECLARE q text; BEGIN q := format('SET app.x = %L', y); EXECUTE q; END", union(UNREADABLE, X)),
        ("DECLARE q text; BEGIN IF a THEN q := 'SELECT 1 '; ELSE q := 'LISTEN x'; END IF; EXECUTE q; END", Traces(8)),
        ("DECLARE q text := 'SELECT 1 '; BEGIN EXECUTE q || 'LIMIT 1'; END", UNREADABLE),
        ("DECLARE q text := 'SELECT 1 '; BEGIN INSERT INTO log(a) VALUES (q); EXECUTE q; END", NOTHING),
        ("DECLARE q text := 'SELECT '; BEGIN q := q || '; SET ' || x; EXECUTE q; END", EVERYTHING),
        ("DECLARE q text := 'SELECT '; BEGIN q := 'SET ' || q; EXECUTE q; END", EVERYTHING),
        ("DECLARE q text := ''; BEGIN q := q || 'SET x = 1'; EXECUTE q; END", EVERYTHING),
        ("DECLARE q text := 'SELECT'; BEGIN q := q || x; EXECUTE q; END", EVERYTHING),
        ("DECLARE q text := 'SELECT 1 '; BEGIN SELECT a INTO q FROM t; EXECUTE q; END", EVERYTHING),
        ("DECLARE q text := 'SELECT 1 '; BEGIN SELECT a, b INTO STRICT x, q FROM t; EXECUTE q; END", EVERYTHING),
        ("DECLARE q text := 'SELECT 1 '; BEGIN FOR q IN SELECT a FROM t LOOP EXECUTE q; END LOOP; END", EVERYTHING),
        ("DECLARE q text := 'SELECT 1 '; BEGIN FOREACH q IN ARRAY a LOOP EXECUTE q; END LOOP; END", EVERYTHING),
        ("DECLARE q text := 'SELECT 1 '; BEGIN CALL p(q); EXECUTE q; END", EVERYTHING),
        ("DECLARE q text := 'SELECT 1 '; BEGIN GET STACKED DIAGNOSTICS q = MESSAGE_TEXT; EXECUTE q; END", EVERYTHING),
        ("<<b>> DECLARE q text := 'SELECT 1 '; BEGIN b.q := x; EXECUTE q; END", EVERYTHING),
        ("DECLARE q text := 'SELECT 1 '; z ALIAS FOR q; BEGIN z := x; EXECUTE q; END", EVERYTHING),
        ("BEGIN q := 'SELECT 1 '; EXECUTE q; END", EVERYTHING),  # perhaps a parameter
        ("BEGIN DECLARE q text := 'SELECT 1 '; BEGIN x := 1; END; EXECUTE q; END", EVERYTHING),
        ("DECLARE q text := current_setting('a.b'); BEGIN EXECUTE q; END", EVERYTHING),
        ("DECLARE q text; BEGIN EXECUTE q; END", EVERYTHING),
    ],
)
def test_dynamic_sql_in_variables(body: str, left: Traces) -> None:
    assert traces(body) == left


@pytest.mark.parametrize(
    ("body", "left"),
    [
        ("SELECT 1", NOTHING),
        ("SELECT set_config('app.x', 'a', false)", X),
        ("UPDATE t SET a = 1; SET app.x = 1", X),
        ("DECLARE c CURSOR WITH HOLD FOR SELECT 1", Traces(DIRTY_CURSORS)),
        ("SELECT 1 INTO TEMP t", MAKES_TEMPORARY),
        ("EXECUTE foo", EVERYTHING),
        ("CREATE TABLE t AS EXECUTE foo", EVERYTHING),
        ("DISCARD PLANS", Traces(UNREADABLE.bits)),
    ],
)
def test_bodies_in_sql(body: str, left: Traces) -> None:
    assert traces(body, "sql") == left


def test_backslashes_may_mean_either() -> None:
    """standard_conforming_strings is the session's, not the function's."""
    assert traces("SELECT '\\'; SELECT set_config('''app.x', 'a', false); --'", "sql") != NOTHING
    assert traces("SELECT 'it\\'; LISTEN x; --'", "sql").bits & DIRTY_LISTEN
    assert traces("SELECT 'it\\'''; LISTEN x; --'", "sql").bits & DIRTY_LISTEN
    assert traces("SELECT set_config('app.\\x78', 'a', false)", "sql").options == ("app.\\x78", "app.x")


@pytest.mark.parametrize(
    ("language", "body", "left"),
    [
        ("plpython3u", "return 1", UNREADABLE),
        ("plpython3u", "GD['a'] = 1", union(UNREADABLE, Traces(DIRTY_UNKNOWN))),
        ("plperl", "$_SHARED{a} = 1", union(UNREADABLE, Traces(DIRTY_UNKNOWN))),
        ("plpython3u", "global a", union(UNREADABLE, Traces(DIRTY_UNKNOWN))),
        ("plpython3u", "plpy.execute(\"SELECT set_config('a.b', 'c', false)\")", EVERYTHING),
        ("plpython3u", "plpy.execute('set app.x = 1')", EVERYTHING),
        ("pltcl", "set a 1", UNREADABLE),
    ],
)
def test_other_languages(language: str, body: str, left: Traces) -> None:
    found = traces(body, language)
    assert (found.bits, found.unnamed, found.disturbs) == (left.bits, left.unnamed, left.disturbs)


def test_names() -> None:
    hazards = {b"f": X, b"G": Traces(DIRTY_LISTEN), "ü".encode(): Traces(DIRTY_LOCKS)}
    assert traces("BEGIN PERFORM F(); END", hazards=hazards) == X
    assert traces("BEGIN PERFORM s . f (1); END", hazards=hazards) == X
    assert traces('BEGIN PERFORM "F"(), g(); END', hazards=hazards) == NOTHING
    assert traces('BEGIN PERFORM s."G"(); END', hazards=hazards) == Traces(DIRTY_LISTEN)
    assert traces("BEGIN EXECUTE 'SELECT ü()'; END", hazards=hazards) == Traces(DIRTY_LOCKS)
    assert traces("BEGIN PERFORM 'f()'; /* f() */ END", hazards=hazards) == NOTHING
    assert traces("SELECT 1", "sql", {ANYTHING: X}) == X
    assert traces("BEGIN DROP TABLE t; END", hazards={DDL: X}) == X
    assert traces("BEGIN EXECUTE 'DROP TABLE t'; END", hazards={DDL: X}) == X
    assert traces("SELECT 1 INTO t", "sql", {DDL: X}) == X
    assert traces("BEGIN SELECT 1 INTO t; END", hazards={DDL: X}) == NOTHING


def test_what_may_be_called_and_whether_anything_is_written() -> None:
    said = read("plpgsql", b'BEGIN SELECT a, f(b), s.g, "H"(1) INTO x FROM t; END')
    assert said.calls & {b"a", b"f", b"b", b"g", b"H", b"x", b"t"} == {b"f", b"g", b"H"}
    assert {b"a", b"t", b"s", b"H"} <= said.names
    assert not said.writes
    assert read("plpgsql", b"BEGIN EXECUTE 'TRUNCATE t'; END").writes
    assert read("sql", b"INSERT INTO t VALUES (1)").writes


# Pieces of bodies: a quick look must never see less than the tokens do.
_PIECES = st.sampled_from(
    [
        "BEGIN ", " END", "; ", " THEN ", " ELSE ", ">> ", "-- c\n", "/* c ' */", "/* /* */ */", "'", '"', "''", "$$", "$1",
        "\\", "E'\\''", "SET ", "app.x = 1", "LISTEN x", "set_config", "('app.x', 'a', false)", "f(", "f", "(", ")", ".g",
        "EXECUTE ", "'SELECT 1'", "format('SET %I', x)", " || ", "q", "q := ", "DECLARE ", "CREATE ", "TEMP ", "TABLE t ",
        " ON COMMIT DROP", "WITH HOLD ", "pg_temp.", "U&'a'", "pg_advisory_lock(1)", "UPDATE t SET a = 1", " ", "\n", "x",
        "DO ", "RESET ", "*/", "/*",
    ]
)  # fmt: skip


@given(st.lists(_PIECES, max_size=30).map("".join), st.sampled_from(["sql", "plpgsql"]))
def test_a_quick_look_sees_no_less(text: str, language: str) -> None:
    body = text.encode()
    quick = glance.names(body)
    exact = _code(language, body, False, 0)
    if quick is not None:
        assert exact.traces == NOTHING
        assert exact.names - {DDL} <= quick[0]
        assert exact.calls <= quick[1]
        assert read(language, body).writes >= exact.writes
        assert (DDL in read(language, body).names) >= (DDL in exact.names)


_SETTERS = st.sampled_from(
    [
        "SET app.x = 1;",
        "PERFORM set_config('app.x', 'a', false);",
        "EXECUTE 'SET app.x = 1';",
        "EXECUTE format('SET app.x = %L', 1);",
        "EXECUTE x;",
    ]
)
_HARMLESS = st.sampled_from(
    [
        "x := 'it''s';",
        "-- a comment; with 'quotes\n",
        "/* one /* in */ another; */",
        "UPDATE t SET a = $q$;'$q$;",
        'PERFORM "a""b;"(1);',
        "RAISE NOTICE E'\\';';",
        "IF a THEN b := 1; END IF;",
        "PERFORM U&'\\0041;';",
    ]
)


@given(st.lists(_HARMLESS), _SETTERS, st.lists(_HARMLESS))
def test_nothing_around_hides_a_setting(before: list[str], setter: str, after: list[str]) -> None:
    found = traces("BEGIN " + " ".join([*before, setter, *after]) + " END")
    assert "app.x" in found.options or found.unnamed == POSSIBLE


@given(st.lists(_HARMLESS))
def test_what_is_harmless_stays_so(parts: list[str]) -> None:
    assert traces("BEGIN " + " ".join(parts) + " END") == NOTHING


@given(st.text(), st.sampled_from(["sql", "plpgsql", "plperl"]))
def test_any_text_is_read(text: str, language: str) -> None:
    assert traces(text, language).unnamed in (0, UNLIKELY, POSSIBLE)


@given(st.binary())
def test_any_bytes_are_read(body: bytes) -> None:
    read("plpgsql", body)


@pytest.mark.parametrize(
    ("head", "piece", "tail"),
    [
        ("BEGIN ", "set_config(a,", ""),
        ("BEGIN ", "execute ", ""),
        ("BEGIN ", "execute (", ""),
        ("BEGIN execute ", "(", ""),
        ("BEGIN execute ", "'a' || ", ""),
        ("DECLARE v text; BEGIN ", "v := 'select x '; execute v; ", ""),
        ("DECLARE v text; BEGIN ", "v := 'select x ' || v; execute v || 'x'; ", ""),
        ("DECLARE v text; BEGIN for ", "v ", "execute v;"),
        ("DECLARE v text; BEGIN select ", "v ", "; execute v;"),
        ("DECLARE v text; ", "v text := 'select ' ", "; BEGIN execute v;"),
        ("BEGIN ", "then set x=1 ", ""),
        ("BEGIN ", "create temp ", ""),
        ("BEGIN ", "create temp on commit drop ", ""),
        ("", "/*", ""),
        ("", "/**", "/"),
        ("", "'", ""),
        ("", '"', ""),
        ("BEGIN ", "do ", ""),
        ("BEGIN do ", "x ", ""),
        ("BEGIN ", "a.", ""),
        ("BEGIN ", "$a", ""),
    ],
)
def test_time_is_linear(head: str, piece: str, tail: str) -> None:
    """Four times the text takes about four times as long; sixteen times would be the square."""

    def spent(size: int) -> float:
        text = head + piece * (size // len(piece)) + tail
        started = time.process_time()
        traces(text)
        return time.process_time() - started

    # Sixteen times is far beyond what another program beside this one makes of four, but once may be chance.
    ratios = [spent(32000) / max(spent(8000), 0.001) for _ in range(3)]
    while min(ratios) >= 9 and len(ratios) < 9:
        ratios.append(spent(32000) / max(spent(8000), 0.001))
    assert min(ratios) < 9, ratios
