"""What a session keeps between transactions in transaction mode: parameters, prepared statements, pins; one server or few."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import Any

import psycopg
import pytest
from eventually import eventually
from fix_doorman import Doorman, MakeDoorman, app_pool, app_user, until_idle
from fix_postgres import Postgres
from pace import patience
from psycopg import errors
from wire_client import SYNC, bind, describe_portal, execute, kinds, parse

SUPER = {
    "username": "postgres",
    "password": "of the test",
    "server_username": "postgres",
    "server_password": "not asked",
}

Connection = psycopg.Connection[tuple[Any, ...]]


@pytest.fixture(scope="module")
def doorman_over(postgres: Postgres) -> Mapping[str, Any]:
    """``one``: a server for all; ``two``: two, of which one may be pinned; ``reset``: nothing is kept."""
    postgres.sql("CREATE ROLE app_other; GRANT app_other TO app")
    return {
        "general": {"query_wait_timeout": 3000},
        "pools": {
            "one": app_pool(postgres, 1, max_pinned_servers=1),
            "two": app_pool(postgres, 2),
            "reset": app_pool(postgres, 1, session_state="reset"),
            "super": app_pool(postgres, max_pinned_servers=1, users=[app_user(postgres, 1, **SUPER)]),
        },
    }


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


def value(connection: Connection, sql: str) -> Any:
    row = connection.execute(sql).fetchone()  # type: ignore[call-overload]
    return None if row is None else row[0]


def pair(doorman: Doorman, stack: ExitStack, database: str = "one", **parameters: Any) -> tuple[Connection, Connection]:
    """Two clients that share one server."""
    first = stack.enter_context(doorman.connect(dbname=database, **parameters))
    second = stack.enter_context(doorman.connect(dbname=database))
    return first, second


def prepared(connection: Connection, name: bytes, sql: bytes) -> None:
    result = connection.pgconn.prepare(name, sql)
    assert not result.error_message, result.error_message


# -- replayed


@pytest.mark.parametrize(
    ("statement", "question", "expected"),
    [
        ("SET statement_timeout = '7s'", "SHOW statement_timeout", "7s"),
        ("SET SESSION work_mem TO '5MB'", "SHOW work_mem", "5MB"),
        ("SET search_path = one, 'two'", "SHOW search_path", "one, two"),
        ("SET TIME ZONE 'Asia/Tokyo'", "SHOW timezone", "Asia/Tokyo"),
        ("SET datestyle = 'German'", "SELECT date '2026-11-25'::text", "25.11.2026"),
        ("SELECT set_config('lock_timeout', '3s', false)", "SHOW lock_timeout", "3s"),
        ("SET app.tenant = '42'", "SELECT current_setting('app.tenant', true)", "42"),
        (
            "SELECT set_config('app.tenant', 'it''s \\ 7', false)",
            "SELECT current_setting('app.tenant', true)",
            "it's \\ 7",
        ),
        ("SET ROLE app_other", "SELECT current_user::text", "app_other"),
        ("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", "SHOW default_transaction_read_only", "on"),
        (
            "DO $$ BEGIN PERFORM set_config('app.tenant', '43', false); END $$",
            "SELECT current_setting('app.tenant', true)",
            "43",
        ),
        ("DO $$ BEGIN SET work_mem TO '7MB'; END $$", "SHOW work_mem", "7MB"),
        ("SELECT 1; DO 'BEGIN IF true THEN SET work_mem TO ''7MB''; END IF; END'", "SHOW work_mem", "7MB"),
    ],
)
def test_what_is_set_is_in_effect_in_later_transactions_and_nowhere_else(
    doorman: Doorman, stack: ExitStack, statement: str, question: str, expected: str
) -> None:
    first, second = pair(doorman, stack)
    before = value(second, question)
    assert before != expected
    first.execute(statement)  # type: ignore[call-overload]
    for _ in range(3):
        assert value(first, question) == expected
        assert value(second, question) in (before, "")  # a customized option stays known to the server, empty
    first.execute("RESET ALL; RESET ROLE")
    assert value(first, question) in (before, "")


def test_a_parameter_set_by_bound_values_follows(doorman: Doorman, stack: ExitStack) -> None:
    first, second = pair(doorman, stack)
    first.execute("SELECT set_config(%s, %s, false)", ("app.user_id", "u-1"))
    assert not value(second, "SELECT current_setting('app.user_id', true)")
    assert value(first, "SELECT current_setting('app.user_id', true)") == "u-1"


def test_a_rolled_back_set_is_undone(doorman: Doorman, stack: ExitStack) -> None:
    first, second = pair(doorman, stack)
    first.execute("SET work_mem = '6MB'")
    first.execute("BEGIN")
    first.execute("SET work_mem = '9MB'")
    assert value(first, "SHOW work_mem") == "9MB"
    first.execute("ROLLBACK")
    value(second, "SELECT 1")
    assert value(first, "SHOW work_mem") == "6MB"
    first.execute("BEGIN; SAVEPOINT s; SET work_mem = '8MB'; ROLLBACK TO s; COMMIT")
    value(second, "SELECT 1")
    assert value(first, "SHOW work_mem") == "6MB"


def test_set_local_ends_with_its_transaction(doorman: Doorman, stack: ExitStack) -> None:
    first, second = pair(doorman, stack)
    first.execute("BEGIN")
    first.execute("SET LOCAL work_mem = '9MB'")
    first.execute("SELECT set_config('app.local', 'here', true)")
    assert value(first, "SHOW work_mem") == "9MB"
    first.execute("COMMIT")
    default = value(second, "SHOW work_mem")
    assert value(first, "SHOW work_mem") == default
    assert not value(first, "SELECT current_setting('app.local', true)")


def test_reset_goes_back_to_what_the_client_began_with(doorman: Doorman, stack: ExitStack) -> None:
    first, second = pair(doorman, stack, options="-c work_mem=3MB", application_name="mine")
    assert value(first, "SHOW work_mem") == "3MB"
    first.execute("SET work_mem = '4MB'")
    first.execute("RESET work_mem")
    value(second, "SELECT 1")
    assert value(first, "SHOW work_mem") == "3MB"
    for everything in ("RESET ALL", "DISCARD ALL"):
        first.execute("SET work_mem = '4MB'")
        first.execute(everything)  # type: ignore[call-overload]
        value(second, "SELECT 1")
        assert value(first, "SHOW work_mem") == "3MB"
        assert value(first, "SHOW application_name") == "mine"
        eventually(lambda: value(first, "SELECT 1") and first.info.parameter_status("application_name") == "mine")


def test_nothing_is_asked_for_a_transaction_that_sets_nothing(doorman: Doorman, stack: ExitStack) -> None:
    def asked() -> int:
        return int(next(row["asked"] for row in doorman.admin("SHOW POOLS") if row["database"] == "one"))

    first, second = pair(doorman, stack)
    first.execute("SELECT set_config('work_mem', '6MB', false)")
    for connection in (first, second, first):
        value(connection, "SELECT 1")
    assert asked() > 0

    def nothing_is_asked() -> bool:
        before = asked()
        for connection in (first, second, first):
            value(connection, "SELECT 2")
        return asked() == before

    eventually(nothing_is_asked)  # once what other tests have made is known


def test_statements_are_not_shared_across_search_paths(doorman: Doorman, stack: ExitStack) -> None:
    first, second = pair(doorman, stack, prepare_threshold=0)
    for number, connection in enumerate((first, second), 1):
        connection.execute(f"DROP SCHEMA IF EXISTS path{number} CASCADE")  # type: ignore[call-overload]
        connection.execute(f"CREATE SCHEMA path{number}")  # type: ignore[call-overload]
        connection.execute(f"CREATE TABLE path{number}.t AS SELECT {number} AS n")  # type: ignore[call-overload]
        connection.execute(f"SET search_path = path{number}")  # type: ignore[call-overload]
    for _ in range(3):
        assert value(first, "SELECT n FROM t") == 1
        assert value(second, "SELECT n FROM t") == 2


# -- owned


def test_sql_prepare_in_the_simple_protocol(doorman: Doorman, stack: ExitStack) -> None:
    # Without parameters psycopg sends a simple query.
    clients = [stack.enter_context(doorman.connect(dbname="two")) for _ in range(3)]
    first, second, third = clients
    for number, client in enumerate(clients):
        client.execute(f"PREPARE plan (int) AS SELECT $1 + {number * 100}")  # type: ignore[call-overload]
    with first.transaction():
        value(first, "SELECT 1")
        for _ in range(2):
            assert [value(client, "EXECUTE plan(1)") for client in (second, third, second)] == [101, 201, 101]
    assert value(first, "EXECUTE plan(2)") == 2
    cursor = first.execute("SELECT 1; EXECUTE plan(3); SELECT 5")
    found = [cursor.fetchall()]
    while cursor.nextset():
        found.append(cursor.fetchall())
    assert found == [[(1,)], [(3,)], [(5,)]]
    with pytest.raises(errors.DuplicatePreparedStatement, match='"plan" already exists'):
        first.execute("PREPARE plan AS SELECT 1")
    first.execute("DEALLOCATE plan")
    with pytest.raises(errors.InvalidSqlStatementName, match='"plan" does not exist'):
        first.execute("EXECUTE plan(1)")
    assert value(second, "EXECUTE plan(1)") == 101
    second.execute("DEALLOCATE ALL")
    with pytest.raises(errors.InvalidSqlStatementName):
        second.execute("EXECUTE plan(1)")
    assert "Result" in value(third, "EXPLAIN (COSTS OFF) EXECUTE plan(1)")
    third.execute("BEGIN; PREPARE kept AS SELECT 'kept'; ROLLBACK")  # PREPARE is not undone
    assert value(third, "EXECUTE kept") == "kept"
    with pytest.raises(errors.DivisionByZero):
        third.execute("SELECT 1/0; PREPARE never AS SELECT 1")
    with pytest.raises(errors.InvalidSqlStatementName):
        third.execute("EXECUTE never")


def test_sql_prepare_in_the_extended_protocol(doorman: Doorman, stack: ExitStack) -> None:
    clients = [stack.enter_context(doorman.connect(dbname="two", prepare_threshold=None)) for _ in range(4)]
    for number, client in enumerate(clients):
        # With parameters psycopg uses the extended protocol; an empty list of them has it, too.
        client.execute(f"PREPARE ext (int) AS SELECT $1 * {number}", binary=True)  # type: ignore[call-overload]
    for _ in range(3):
        for number, client in enumerate(clients):
            row = client.execute("EXECUTE ext(7)", binary=True).fetchone()
            assert row == (7 * number,)
    for client in clients:
        client.execute("DEALLOCATE ext", binary=True)
        with pytest.raises(errors.InvalidSqlStatementName):
            client.execute("EXECUTE ext(7)", binary=True)


def test_a_statement_that_executes_another_follows_what_the_name_means(doorman: Doorman, stack: ExitStack) -> None:
    first, second = pair(doorman, stack, "two", prepare_threshold=0)
    first.execute("PREPARE p AS SELECT 1")
    assert value(first, "EXECUTE p") == 1
    first.execute("DEALLOCATE p")
    first.execute("PREPARE p AS SELECT 2")
    value(second, "SELECT 1")
    assert value(first, "EXECUTE p") == 2


def test_statements_of_the_protocol_and_of_sql_share_their_names(doorman: Doorman, stack: ExitStack) -> None:
    first, second = pair(doorman, stack, "two")
    result = first.pgconn.prepare(b"both", b"SELECT $1::int + 1")
    assert not result.error_message
    with second.transaction():
        value(second, "SELECT 1")
        assert value(first, "EXECUTE both(1)") == 2
    first.execute("PREPARE by_sql (int) AS SELECT $1 + 5")
    with second.transaction():
        value(second, "SELECT 1")
        answer = first.pgconn.exec_prepared(b"by_sql", [b"6"])
        assert answer.get_value(0, 0) == b"11"


# -- pinned


def reasons(doorman: Doorman, what: str = "CLIENTS") -> list[str]:
    return [row["pinned"] for row in doorman.admin(f"SHOW {what}") if row["pinned"]]


def is_pinned(doorman: Doorman, reason: str) -> None:
    """Wait until one client keeps its server for this reason: that is found out behind its transaction."""
    eventually(lambda: reasons(doorman) == [reason], message=f"one is pinned: {reason}")


@pytest.mark.parametrize(
    ("take", "question", "expected", "let_go", "reason"),
    [
        ("CREATE TEMP TABLE mine AS SELECT 5 AS n", "SELECT n FROM mine", 5, "DROP TABLE mine", "temporary objects"),
        ("SELECT 6 AS n INTO TEMP mine", "SELECT n FROM mine", 6, "DISCARD TEMP", "temporary objects"),
        (
            "BEGIN; DECLARE c SCROLL CURSOR WITH HOLD FOR SELECT 7; COMMIT",
            "FETCH ABSOLUTE 1 FROM c",
            7,
            "CLOSE c",
            "cursors with hold",
        ),
        (
            "SELECT pg_advisory_lock(8)",
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()",
            1,
            "SELECT pg_advisory_unlock(8)",
            "advisory locks",
        ),
        ("LISTEN channel", "SELECT count(*) FROM pg_listening_channels()", 1, "UNLISTEN *", "listen"),
        ("LISTEN channel", "SELECT count(*) FROM pg_listening_channels()", 1, "DISCARD ALL", "listen"),
    ],
)
def test_what_cannot_be_moved_keeps_its_server_until_it_is_let_go(
    doorman: Doorman, stack: ExitStack, take: str, question: str, expected: int, let_go: str, reason: str
) -> None:
    first, second = pair(doorman, stack, "two")
    first.execute(take)  # type: ignore[call-overload]
    is_pinned(doorman, reason)
    assert reasons(doorman, "SERVERS") == [reason]
    for _ in range(3):
        assert value(second, "SELECT 1") == 1
        assert value(first, question) == expected
    first.execute(let_go)  # type: ignore[call-overload]
    eventually(lambda: not reasons(doorman), message="nothing is pinned")
    assert f"keeps its server connection between transactions: {reason}" in doorman.log_text()
    until_idle(doorman, "two")


def test_one_that_leaves_takes_everything_along(doorman: Doorman, stack: ExitStack, postgres: Postgres) -> None:
    with doorman.connect(dbname="one") as first:
        first.execute("LISTEN gone; CREATE TEMP TABLE gone (a int); SELECT pg_advisory_lock(99)")
        first.execute("SET work_mem = '7MB'")
        is_pinned(doorman, "listen, temporary objects, advisory locks")
        pid = value(first, "SELECT pg_backend_pid()")
    until_idle(doorman, "one")
    with doorman.connect(dbname="one") as second:
        assert value(second, "SELECT pg_backend_pid()") == pid
        assert value(second, "SELECT to_regclass('gone')") is None
        assert value(second, "SELECT count(*) FROM pg_listening_channels()") == 0
        assert value(second, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 99") == 0
        assert value(second, "SHOW work_mem") != "7MB"


def test_notifications_come_while_the_client_is_idle(doorman: Doorman, stack: ExitStack) -> None:
    first, second = pair(doorman, stack, "two")
    first.execute("LISTEN news")
    second.execute("NOTIFY news, 'hello'")
    (heard,) = first.notifies(timeout=patience(10), stop_after=1)
    assert (heard.channel, heard.payload) == ("news", "hello")


def test_a_temporary_table_of_one_transaction_pins_nothing(doorman: Doorman, stack: ExitStack) -> None:
    first, second = pair(doorman, stack)
    first.execute("BEGIN; CREATE TEMP TABLE t (a int) ON COMMIT DROP; INSERT INTO t VALUES (1); COMMIT")
    first.execute("BEGIN; CREATE TEMP TABLE t (a int); ROLLBACK")
    first.execute("BEGIN; SELECT pg_advisory_lock(1); SELECT pg_advisory_unlock(1); COMMIT")
    first.execute("BEGIN; LISTEN x; UNLISTEN x; COMMIT")
    assert value(second, "SELECT 1") == 1
    assert not reasons(doorman)


def test_a_server_with_a_loaded_library_is_never_lent_on(doorman: Doorman) -> None:
    with doorman.connect(dbname="super", user="postgres", password="of the test") as first:
        pid = value(first, "SELECT pg_backend_pid()")
        first.execute("LOAD 'plpgsql'")
        is_pinned(doorman, "loaded library")
    until_idle(doorman, "super", "postgres")
    with doorman.connect(dbname="super", user="postgres", password="of the test") as second:
        assert value(second, "SELECT pg_backend_pid()") != pid


def test_a_replication_origin_is_let_go(doorman: Doorman) -> None:
    with doorman.connect(dbname="super", user="postgres", password="of the test") as first:
        first.execute("SELECT pg_replication_origin_create('here')")
        first.execute("SELECT pg_replication_origin_session_setup('here')")
        is_pinned(doorman, "replication origin")
    until_idle(doorman, "super", "postgres")
    with doorman.connect(dbname="super", user="postgres", password="of the test") as second:
        assert value(second, "SELECT pg_replication_origin_session_is_setup()") is False
        second.execute("SELECT pg_replication_origin_drop('here')")


def test_an_authorization_never_reaches_another(doorman: Doorman, stack: ExitStack) -> None:
    first = stack.enter_context(doorman.connect(dbname="super", user="postgres", password="of the test"))
    second = stack.enter_context(doorman.connect(dbname="super", user="postgres", password="of the test"))
    first.execute("SET log_min_messages = 'error'")  # a superuser's to set
    first.execute("SET SESSION AUTHORIZATION app")
    first.execute("SET ROLE app_other")
    for _ in range(2):
        assert value(second, "SELECT session_user || current_user") == "postgrespostgres"
        assert value(first, "SELECT session_user || ' ' || current_user") == "app app_other"
    first.execute("RESET ROLE")
    assert value(second, "SELECT session_user::text") == "postgres"
    assert value(first, "SELECT session_user || ' ' || current_user") == "app app"
    first.execute("RESET SESSION AUTHORIZATION")
    assert value(first, "SHOW log_min_messages") == "error"
    assert value(second, "SHOW log_min_messages") != "error"


def test_no_more_than_may_be_are_pinned(doorman: Doorman, stack: ExitStack) -> None:
    first, second = pair(doorman, stack, "two")
    first.execute("LISTEN a")
    is_pinned(doorman, "listen")
    with pytest.raises(errors.ConfigurationLimitExceeded, match="cannot keep a server connection") as caught:
        second.execute("LISTEN b")
    assert "max_pinned_servers" in (caught.value.diag.message_hint or "")
    with pytest.raises(errors.ConfigurationLimitExceeded):
        second.execute("SELECT pg_advisory_lock(%s)", (1,))
    prepared(second, b"only_prepared", b"SELECT pg_advisory_lock(2)")  # it does not run
    assert value(second, "SELECT 1") == 1
    second.execute("BEGIN; CREATE TEMP TABLE short (a int) ON COMMIT DROP; COMMIT")
    second.execute("BEGIN")
    second.execute("CREATE TEMP TABLE t (a int)")
    with pytest.raises(psycopg.OperationalError):
        second.execute("COMMIT")
        second.execute("SELECT 1")
    second.close()  # libpq may have read the FATAL error and not yet the end behind it
    first.execute("UNLISTEN *")
    with doorman.connect(dbname="two") as third:
        third.execute("LISTEN b")
        is_pinned(doorman, "listen")


# -- not transparent on demand


def test_reset_keeps_nothing(doorman: Doorman, stack: ExitStack) -> None:
    first, second = pair(doorman, stack, "reset")
    default = value(second, "SHOW work_mem")
    first.execute("SET work_mem = '7MB'")
    assert value(first, "SHOW work_mem") == default
    first.execute("CREATE TEMP TABLE forgotten (a int)")
    assert value(second, "SELECT 1") == 1
    assert value(first, "SELECT to_regclass('forgotten')") is None


# -- not kept, and not another's


def test_nobody_is_told_what_another_took_from_a_sequence(
    doorman: Doorman, postgres: Postgres, stack: ExitStack
) -> None:
    postgres.sql(
        "DROP SEQUENCE IF EXISTS session_numbers; CREATE SEQUENCE session_numbers; GRANT ALL ON session_numbers TO app",
        database="testdb",
    )
    first, second = pair(doorman, stack, prepare_threshold=None)
    for sql, parameters in (
        ("SELECT lastval()", None),
        ("SELECT currval('session_numbers')", None),
        ("SELECT lastval(), %s::int", (1,)),
    ):
        with first.transaction():
            taken = value(first, "SELECT nextval('session_numbers')")
            assert value(first, "SELECT lastval()") == value(first, "SELECT currval('session_numbers')") == taken
        with pytest.raises(errors.ObjectNotInPrerequisiteState):
            second.execute(sql, parameters)  # type: ignore[call-overload]
    for prepared_name in (b"one", b"two"):
        prepared(second, prepared_name, b"SELECT lastval() /* " + prepared_name + b" */")
        value(first, "SELECT nextval('session_numbers')")
        answer = second.pgconn.exec_prepared(prepared_name, [])
        assert answer.error_field(psycopg.pq.DiagnosticField.SQLSTATE) == b"55000"


# -- without a server


def test_what_the_pool_knows_is_prepared_and_described_without_a_server(
    make_doorman: MakeDoorman, stack: ExitStack
) -> None:
    doorman = make_doorman({"general": {"worker_threads": 1}})  # another worker knows other texts
    first, second = pair(doorman, stack, "onedb")
    prepared(first, b"known", b"SELECT $1::int + 1 AS n")
    assert first.pgconn.describe_prepared(b"known").fname(0) == b"n"
    with first.transaction():
        value(first, "SELECT 1")  # the only server is taken
        prepared(second, b"other_name", b"SELECT $1::int + 1 AS n")
        described = second.pgconn.describe_prepared(b"other_name")
        assert (described.nparams, described.param_type(0), described.fname(0)) == (1, 23, b"n")
        second.pgconn.close_prepared(b"other_name") if hasattr(second.pgconn, "close_prepared") else None
    answer = second.pgconn.exec_prepared(b"other_name", [b"4"])
    assert answer.get_value(0, 0) in (b"5", None)


def test_a_described_statement_never_brings_other_columns(
    doorman: Doorman, postgres: Postgres, stack: ExitStack
) -> None:
    postgres.sql("DROP TABLE IF EXISTS changing; CREATE TABLE changing (a int, b text)", database="testdb")
    postgres.sql("GRANT ALL ON changing TO app; INSERT INTO changing VALUES (1, 'x')", database="testdb")
    first, second = pair(doorman, stack, "two")
    prepared(first, b"all", b"SELECT * FROM changing")
    assert first.pgconn.describe_prepared(b"all").nfields == 2
    postgres.sql("ALTER TABLE changing ADD COLUMN c int", database="testdb")  # nobody told the pooler
    with second.transaction():
        pid = value(second, "SELECT pg_backend_pid()")
        for _ in range(2):  # on either server
            answer = first.pgconn.exec_prepared(b"all", [])
            assert b"cached plan must not change result type" in answer.error_message
            assert answer.error_field(psycopg.pq.DiagnosticField.SQLSTATE) == b"0A000"
            # Some drivers know it by this.
            assert answer.error_field(psycopg.pq.DiagnosticField.SOURCE_FUNCTION) == b"RevalidateCachedQuery"
            with doorman.connect(dbname="two") as third:
                assert value(third, "SELECT pg_backend_pid()") != pid
    with first.transaction():
        value(first, "SELECT pg_backend_pid()")
        answer = first.pgconn.exec_prepared(b"all", [])
        assert b"cached plan must not change result type" in answer.error_message
        assert first.info.transaction_status == psycopg.pq.TransactionStatus.INERROR
        first.execute("ROLLBACK")
    prepared(first, b"again", b"SELECT * FROM changing")
    assert first.pgconn.describe_prepared(b"again").nfields == 3
    assert first.pgconn.exec_prepared(b"again", []).nfields == 3


def test_nor_does_one_whose_portal_was_described(doorman: Doorman, postgres: Postgres) -> None:
    postgres.sql("DROP TABLE IF EXISTS by_portal; CREATE TABLE by_portal (a int)", database="testdb")
    postgres.sql("GRANT ALL ON by_portal TO app; INSERT INTO by_portal VALUES (1)", database="testdb")
    with doorman.wire("two") as first, doorman.wire("two") as second:
        batch = bind("", "s1") + describe_portal() + execute() + SYNC
        assert kinds(first.ask(parse("s1", "SELECT * FROM by_portal") + batch)) == "12TDCZ"
        postgres.sql("ALTER TABLE by_portal ADD COLUMN b int", database="testdb")
        second.ask_query("BEGIN")
        for client in (first, second):  # whoever has which server
            found = first.ask(bind("", "s1") + execute() + SYNC)
            assert kinds(found) == "EZ"
            assert found[0].sqlstate == "0A000"
            client.ask_query("COMMIT" if client is second else "SELECT 1")
        assert kinds(first.ask(parse("s2", "SELECT * FROM by_portal") + bind("", "s2") + execute() + SYNC)) == "12DCZ"


def test_a_table_made_anew_is_no_other_result(doorman: Doorman, postgres: Postgres, stack: ExitStack) -> None:
    make = "DROP TABLE IF EXISTS anew; CREATE TABLE anew (a int, b text); GRANT ALL ON anew TO app"
    postgres.sql(make, database="testdb")
    first, second = pair(doorman, stack, "two")
    prepared(first, b"same", b"SELECT * FROM anew WHERE a = $1")
    first.pgconn.describe_prepared(b"same")
    pid = value(first, "SELECT pg_backend_pid()")
    postgres.sql(make, database="testdb")
    with second.transaction():
        for _ in range(2):
            if value(second, "SELECT pg_backend_pid()") == pid:
                break  # the other client gets the server that never had it
        answer = first.pgconn.exec_prepared(b"same", [b"1"])
        assert not answer.error_message, answer.error_message


def test_what_an_execute_returns_is_described_on_any_server(doorman: Doorman, stack: ExitStack) -> None:
    first, second = pair(doorman, stack, "two")
    first.execute("PREPARE described (int) AS SELECT $1 * 10 AS tens")
    with second.transaction():
        value(second, "SELECT 1")
        prepared(first, b"run", b"EXECUTE described (4)")
        assert first.pgconn.describe_prepared(b"run").fname(0) == b"tens"
        assert first.pgconn.exec_prepared(b"run", []).get_value(0, 0) == b"40"
    for _ in range(2):
        assert first.pgconn.exec_prepared(b"run", []).get_value(0, 0) == b"40"
