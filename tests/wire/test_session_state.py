"""What a session leaves behind: settings compared, applied, quoted; traces and their cleaning."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import psycopg
import pytest
from eventually import eventually
from fix_postgres import Postgres
from hypothesis import given
from hypothesis import strategies as st
from psycopg import pq

from pgdoorman_lib.wire.baseline import baseline_sql, read_baseline
from pgdoorman_lib.wire.literals import quote_literal
from pgdoorman_lib.wire.question import Findings, question
from pgdoorman_lib.wire.session_state import (
    ASKED,
    DIRTY_CURSORS,
    DIRTY_CUSTOM,
    DIRTY_LIBRARY,
    DIRTY_LISTEN,
    DIRTY_LOCKS,
    DIRTY_ORIGIN,
    DIRTY_PARAMETERS,
    DIRTY_PREPARED,
    DIRTY_SESSION,
    DIRTY_SLOTS,
    DIRTY_TAKEN_BACK,
    DIRTY_TEMPORARY,
    DIRTY_UNKNOWN,
    PINS,
    cleaning_sql,
    reasons,
    trace_of,
)
from pgdoorman_lib.wire.settings import BASE, Settings, restore_sql, valid_name

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
    found = Findings.of([row(b"1", b"app.a", b"J\xf6rg".hex().encode())])
    value = found.values["app.a"]
    assert value is not None and b"J\xf6rg".hex() in Settings.of({"app.a": value}).sql_from(BASE)


def test_customized_options_are_reset_whatever_their_name_is() -> None:
    """In a statement it would be cut, and be read in the client's encoding."""
    theirs = Settings.of({"app." + "x" * 100: "1", "app.schlüssel": "2", "work_mem": "1MB"})
    sql = BASE.sql_from(theirs)
    assert 'RESET "work_mem"' in sql and sql.count("NULL, false)") == 2 and sql.isascii() and "x" * 100 in sql


def test_those_that_reset_is_about() -> None:
    settings = Settings.of({"a": "1", "b": "2", "role": "x"})
    assert settings.among(("a",)).values == {"a": "1"}
    assert settings.among(("*",)).values == {"a": "1", "b": "2"}
    assert settings.among(("role",)).values == {"role": "x"}
    assert settings.among(("c",)) is BASE
    assert settings.without(("a", "role")).values == {"b": "2"}
    assert settings.identity().values == {"role": "x"}
    assert settings.joined(Settings.of({"a": "2", "c": "3"})).values == {"a": "2", "b": "2", "c": "3", "role": "x"}


def test_what_is_restored_only_if_it_is_as_at_the_login() -> None:
    lasting, local = (restore_sql("work_mem", "9MB", "", local) for local in (False, True))
    assert "'9MB', false)" in lasting and "'9MB', true)" in local and "source" in lasting
    custom = restore_sql("app.x", "begin", "role's", False)
    assert "current_setting('app.x', true)" in custom and "'role''s'" in custom


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
    "bit",
    [DIRTY_CURSORS, DIRTY_LISTEN, DIRTY_TEMPORARY, DIRTY_LOCKS, DIRTY_ORIGIN, DIRTY_SLOTS, DIRTY_PREPARED],
)
def test_exactly_what_was_touched_is_asked(bit: int) -> None:
    sql = question(bit | DIRTY_LIBRARY | DIRTY_CUSTOM | DIRTY_UNKNOWN, ["app.a"])
    assert f"'{bit}'" in sql
    assert [other for other in PINS if other != bit and f"'{other}'" in sql] == []
    assert "'app.a'" in sql and "pg_settings" not in sql
    assert ("pg_settings" in question(bit, [], listed=True)) and "SET" not in sql


def test_settings_of_the_transaction_are_not_asked_for() -> None:
    assert question(0, ["transaction_isolation", "seed", "is_superuser"]) == question(0, [])


def test_names_of_options_are_quoted() -> None:
    assert "'it''s.a'" in question(DIRTY_PARAMETERS, ["it's.a"])
    assert question(DIRTY_PARAMETERS, ["app.schlüssel", "app.\udcfc"]).isascii()


def test_what_is_found() -> None:
    found = Findings.of(
        [
            row(b"-1", None, b"4711", b"1", b"work_mem", b"9MB".hex().encode(), b"1", b"app.a", None),
            parameter(b"TimeZone", b"Asia/Tokyo"),
            parameter(b"work_mem", b"0"),  # the first counts
            parameter(b"app.a", b"x"),
            parameter(b"transaction_isolation", b"serializable"),
            parameter(b"seed", b"unavailable"),
            parameter(b"role", b"none"),
            parameter(b"~" + "app.schlüssel".encode().hex().encode(), b"y"),
            row(b"8", None, b"x", b"64", None, b"x", b"16", None, None),
            row(b"0", None, b"17"),
        ]
    )
    assert found.values == {
        "work_mem": "9MB", "app.a": "x", "timezone": "Asia/Tokyo", "role": "none", "app.schlüssel": "y"
    }  # fmt: skip
    assert reasons(found.pins) == "listen, advisory locks"
    assert (found.ours, found.backend) == (17, 4711)
    assert Findings.of([]) == Findings({}, 0, -1, -1)


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
        row(b"3", None, b"x"),
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
        Findings.of([row(b"8", None, b"x"), body])


@given(st.lists(st.one_of(st.binary(max_size=40), st.builds(row, *[st.one_of(st.none(), st.binary(max_size=5))] * 3))))
def test_no_row_raises_anything_else(rows: list[bytes]) -> None:
    try:
        found = Findings.of(rows)
    except ValueError:
        return
    assert found.pins & ~sum(PINS) == 0


def test_options_of_unknown_names_are_cleaned_like_others() -> None:
    assert cleaning_sql(DIRTY_CUSTOM) == cleaning_sql(DIRTY_TAKEN_BACK) == cleaning_sql(DIRTY_PARAMETERS)


# The question, asked.


class Session:
    """A session of PostgreSQL's that is asked."""

    def __init__(self, connection: psycopg.Connection[tuple[object, ...]]) -> None:
        self.connection = connection
        self.run = connection.execute

    def ask(self, sql: str) -> Findings:
        return Findings.of(self.rows(sql))

    def rows(self, sql: str) -> list[bytes]:
        """The bodies of the DataRows."""
        pgconn = self.connection.pgconn
        pgconn.send_query(sql.encode())
        rows = []
        while (result := pgconn.get_result()) is not None:
            if result.status == pq.ExecStatus.FATAL_ERROR:
                while pgconn.get_result() is not None:
                    pass
                raise Refused((result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode())
            rows += [row(*(result.get_value(i, j) for j in range(result.nfields))) for i in range(result.ntuples)]
        return rows

    def ask_nothing(self, sql: str) -> None:
        """Several statements whose rows are of no interest."""
        self.run(sql.encode())
        assert self.connection.info.transaction_status == pq.TransactionStatus.IDLE

    def settings(self) -> dict[str, object]:
        return {str(name): value for name, value, *_ in self.run("SHOW ALL").fetchall()}


class Refused(Exception):
    """PostgreSQL refuses to tell."""


@pytest.fixture
def session(postgres: Postgres) -> Iterator[Session]:
    """An ordinary user's."""
    with postgres.connect() as connection:
        yield Session(connection)


@pytest.fixture
def superuser(postgres: Postgres) -> Iterator[Session]:
    with postgres.connect(user="postgres") as connection:
        yield Session(connection)


ORDINARY = ASKED & ~DIRTY_ORIGIN | DIRTY_PREPARED


@pytest.mark.postgres
def test_a_fresh_session_has_nothing(session: Session, superuser: Session) -> None:
    found = session.ask(question(ORDINARY, ["work_mem", "app.x", "session_authorization", "role"], listed=True))
    # psycopg has set what it wants to have by the startup packet, which is no setting of the session.
    assert found.values == {"work_mem": None, "app.x": None, "session_authorization": "app", "role": "none"}
    assert found.pins == 0 and found.ours == 0
    assert found.backend == session.run("SELECT pg_backend_pid()").fetchone()[0]  # type: ignore[index]
    assert superuser.ask(question(ASKED, [], listed=True)).pins == 0


@pytest.mark.postgres
@pytest.mark.parametrize(
    ("statement", "bit"),
    [
        ("LISTEN c", DIRTY_LISTEN),
        ("DECLARE c CURSOR WITH HOLD FOR SELECT 1", DIRTY_CURSORS),
        ("PREPARE p AS SELECT 1", DIRTY_PREPARED),
        ("PREPARE pgdoorman_1 AS SELECT 1", 0),
        ("CREATE TEMP TABLE t (a int)", DIRTY_TEMPORARY),
        ("CREATE TEMP TABLE t (a int); DROP TABLE t", 0),
        ("CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql AS 'SELECT 1'", DIRTY_TEMPORARY),
        ("CREATE TYPE pg_temp.e AS ENUM ('a')", DIRTY_TEMPORARY),
        ("SELECT pg_advisory_lock(1)", DIRTY_LOCKS),
        ("SELECT pg_advisory_lock_shared(1, 2)", DIRTY_LOCKS),
        ("SELECT pg_advisory_xact_lock(1)", 0),
        ("SELECT pg_create_physical_replication_slot('session_state', true, true)", DIRTY_SLOTS),
        ("SELECT pg_replication_origin_create('o'), pg_replication_origin_session_setup('o')", DIRTY_ORIGIN),
    ],
)
def test_what_is_there_is_found(superuser: Session, statement: str, bit: int) -> None:
    superuser.run(statement.encode())
    found = superuser.ask(question(ASKED | DIRTY_PREPARED, []))
    assert found.pins == bit
    assert found.ours == (1 if "pgdoorman" in statement else 0)
    superuser.run(
        b"SELECT pg_replication_origin_session_reset(), pg_replication_origin_drop('o')" if bit == DIRTY_ORIGIN else b""
    )


@pytest.mark.postgres
def test_settings_are_told_that_were_set_here(session: Session) -> None:
    session.run(b"SET work_mem = '9MB'; SET app.x = 'J\xc3\xb6rg'; SET LOCAL app.z = '1'; SET TimeZone = 'Asia/Tokyo'")
    names = ["work_mem", "app.x", "app.y", "timezone", "datestyle"]
    found = session.ask(question(DIRTY_PARAMETERS, names))
    assert found.values == {
        "work_mem": "9MB",
        "app.x": "Jörg",
        "app.y": None,
        "timezone": "Asia/Tokyo",
        "datestyle": None,
    }
    found = session.ask(question(DIRTY_PARAMETERS, ["work_mem"], listed=True))
    assert found.values["timezone"] == "Asia/Tokyo" and found.values["work_mem"] == "9MB"
    session.run(b"RESET work_mem")
    assert session.ask(question(0, ["work_mem"])).values == {"work_mem": None}
    assert session.ask(question(0, ["work_mem"], defaults={"work_mem": "4MB"})).values == {"work_mem": "4MB"}


@pytest.mark.postgres
def test_whether_a_setting_was_set_is_told_by_what_it_was(session: Session, superuser: Session) -> None:
    """The view is only asked where the value is another one, or where that would not tell."""
    base, _, loaded = read_baseline(session.rows(baseline_sql()))
    default = base.values["work_mem"]

    def ask(applied: str | None, began: str | None = default, since: str = loaded) -> str | None:
        sql = question(
            DIRTY_PARAMETERS,
            ["work_mem"],
            usual={} if began is None else {"work_mem": began},
            applied={} if applied is None else {"work_mem": applied},
            loaded=since,
        )
        return session.ask(sql).values["work_mem"]

    assert ask(None) is ask("9MB") is ask(default, None) is ask("9MB", default, "") is ask("9MB", "8MB") is None
    session.run("SET work_mem = '9MB'")
    assert ask(None) == ask("9MB") == ask("8MB") == ask("9MB", "9MB") == ask("8MB", "9MB", "") == "9MB"
    session.run(f"SET work_mem = '{default}'")
    assert ask(None) is None and ask(default) is None, "as if it was not set; nor is it any more"
    session.run(f"SET work_mem = '{default}'")
    assert ask(default) == ask(None, None) == default, "where that would not tell, the view does"
    superuser.run("SELECT pg_reload_conf()")
    eventually(lambda: read_baseline(session.rows(baseline_sql()))[2] != loaded)
    assert ask(None) == default, "the configuration was read again: it may have been another value"


@pytest.mark.postgres
@pytest.mark.parametrize("name", ["statement_timeout", "lock_timeout", "work_mem"])
def test_an_unhindered_question_resets_nothing(session: Session, name: str) -> None:
    """It has some settings as they usually are while it runs."""
    base, _, loaded = read_baseline(session.rows(baseline_sql()))
    session.run(f"SET {name} = '9000'")
    value = session.settings()[name]
    for listed in (False, True):
        sql = question(
            DIRTY_PARAMETERS, [name], listed=listed, unhindered=True, usual=base.values, applied={}, loaded=loaded
        )
        assert session.ask(sql).values[name] == value == session.settings()[name]


@pytest.mark.postgres
def test_many_settings_at_once(session: Session) -> None:
    names = [f"app.n{number}" for number in range(700)]
    session.run(b"SET app.n0 = 'a'; SET app.n699 = 'b'")
    values = session.ask(question(ORDINARY, names)).values
    assert len(values) == 700 and (values["app.n0"], values["app.n350"], values["app.n699"]) == ("a", None, "b")


@pytest.mark.postgres
def test_names_and_values_in_another_encoding(session: Session) -> None:
    session.run("SELECT set_config('app.schlüssel', 'ä', false)".encode())
    session.run(b"SET client_encoding = latin1")
    assert session.ask(question(0, ["app.schlüssel"])).values == {"app.schlüssel": "ä"}


@pytest.mark.postgres
def test_a_search_path_changes_nothing(superuser: Session) -> None:
    superuser.run(b"CREATE SCHEMA lies")
    try:
        for statement in (
            "FUNCTION lies.pg_backend_pid() RETURNS int LANGUAGE sql AS 'SELECT -1'",
            "FUNCTION lies.pg_my_temp_schema() RETURNS oid LANGUAGE sql AS 'SELECT 0::oid'",
            "FUNCTION lies.current_setting(text, bool) RETURNS text LANGUAGE sql AS $$SELECT 'no'$$",
            "FUNCTION lies.lower(text) RETURNS text LANGUAGE sql AS $$SELECT 'no'$$",
            "FUNCTION lies.is(text, text) RETURNS bool LANGUAGE sql AS 'SELECT false'",
            "OPERATOR lies.= (FUNCTION = lies.is, LEFTARG = text, RIGHTARG = text)",
            "VIEW lies.pg_settings AS SELECT 'work_mem'::text AS name, 'no'::text AS setting, 'session'::text AS source",
            "VIEW lies.pg_locks AS SELECT 1 WHERE false",
        ):
            superuser.run(b"CREATE " + statement.encode())
        superuser.run(b"SET search_path = lies, pg_catalog; SET work_mem = '9MB'; CREATE TEMP TABLE t (a int)")
        superuser.run(b"SELECT pg_advisory_lock(1)")
        found = superuser.ask(question(ASKED, ["work_mem"], listed=True, unhindered=True))
        assert found.pins == DIRTY_TEMPORARY | DIRTY_LOCKS and found.backend > 0
        assert found.values["work_mem"] == "9MB" and found.values["search_path"] == "lies, pg_catalog"
    finally:
        superuser.run(b"DROP SCHEMA lies CASCADE")


@pytest.mark.postgres
def test_the_second_question_takes_as_long_as_it_takes(session: Session) -> None:
    session.run(b"SET lock_timeout = '20ms'; SET statement_timeout = '20ms'")
    names = ["work_mem"] * 300  # each is looked up in the view of all
    with pytest.raises(Refused, match="57014"):
        session.ask(question(ORDINARY, names))
    found = session.ask(question(ORDINARY, names, unhindered=True))
    assert found.values["statement_timeout"] == "20ms" == found.values["lock_timeout"]
    assert session.run("SHOW statement_timeout").fetchone() == ("20ms",)


@pytest.mark.postgres
def test_the_second_question_waits_for_no_snapshot(session: Session, superuser: Session) -> None:
    superuser.run(b"BEGIN ISOLATION LEVEL SERIALIZABLE; CREATE TEMP TABLE t (a int)")
    session.run(b"SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ ONLY, DEFERRABLE;")
    session.run(b"BEGIN ISOLATION LEVEL READ COMMITTED; SET statement_timeout = '200ms'; COMMIT")
    with pytest.raises(Refused, match="57014"):
        session.ask(question(ORDINARY, []))
    found = session.ask(question(ORDINARY, ["default_transaction_deferrable"], unhindered=True))
    assert found.values["default_transaction_deferrable"] == "on"
    superuser.run(b"ROLLBACK")


@pytest.mark.postgres
def test_the_second_question_sees_what_others_must_not(superuser: Session) -> None:
    superuser.run(b"SET dynamic_library_path = '/nowhere'")
    superuser.run(b"SET ROLE app")
    names = ["dynamic_library_path", "role", "session_authorization"]
    assert superuser.ask(question(0, names)).values["dynamic_library_path"] is None
    found = superuser.ask(question(0, names, unhindered=True))
    assert found.values == {
        "dynamic_library_path": "/nowhere",
        "role": "app",
        "session_authorization": "postgres",
        "statement_timeout": "0",
        "lock_timeout": "0",
    }
    superuser.run(b"SET SESSION AUTHORIZATION app")
    assert superuser.ask(question(ASKED, names, unhindered=True)).values["session_authorization"] == "app"


@pytest.mark.postgres
def test_questions_leave_nothing_behind(session: Session) -> None:
    session.run(
        b"SET work_mem = '9MB'; SET statement_timeout = '5s'; SET default_transaction_isolation = 'serializable'"
    )
    before = session.settings()
    session.ask(question(ORDINARY, ["work_mem", "app.never"], listed=True))
    session.ask(question(ORDINARY, ["work_mem", "app.never"], listed=True, unhindered=True))
    assert session.settings() == before
    assert session.run("SELECT current_setting('app.never', true)").fetchone() == (None,)
    assert session.connection.info.transaction_status == pq.TransactionStatus.IDLE


@pytest.mark.postgres
def test_settings_that_are_applied_are_found_and_taken_back(session: Session) -> None:
    values = {
        "work_mem": "9MB",
        "app.schlüssel": "it's \\ ä",
        "app." + "x" * 100: "y",
        "statement_timeout": "5s",
        "search_path": '"$user", public',
        "role": "app",
    }
    settings = Settings.of(values)
    session.ask_nothing(settings.sql_from(BASE))
    assert session.ask(question(0, values)).values == values
    session.ask_nothing(BASE.sql_from(settings))
    found = session.ask(question(0, values)).values
    # What was there once is empty instead of unknown.
    assert {name: value for name, value in found.items() if value} == {"role": "none"}


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
    assert (
        Settings.of({"work_mem": "9MB"}).sql_from(theirs).startswith("SET LOCAL transaction_deferrable = off; RESET ")
    )


def test_the_role_sessions_begin_with_comes_back() -> None:
    assert cleaning_sql(DIRTY_SESSION, role=True) == ["DISCARD ALL", "RESET ROLE"]
    for role in (True, False):
        assert cleaning_sql(DIRTY_PARAMETERS, role=role)[:2] == ["SET SESSION AUTHORIZATION DEFAULT", "RESET ROLE"]
