"""psycopg2."""

from __future__ import annotations

import datetime
import decimal
import io
import select
import threading
import uuid
from typing import Any

import psycopg2
from features import TIDY, ThreadClient, Threads, until
from psycopg2 import errors, extensions, extras, sql
from psycopg2.pool import ThreadedConnectionPool


def connect(**options: Any) -> Any:
    return psycopg2.connect("", **options)


def connect_autocommit(**options: Any) -> Any:
    connection = connect(**options)
    connection.autocommit = True
    return connection


def rows(connection: Any, query: Any, parameters: Any = None) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(query, parameters)
        return cursor.fetchall() if cursor.description else None


def one(connection: Any, query: Any, parameters: Any = None) -> Any:
    found = rows(connection, query, parameters)
    return found[0][0] if found else None


def show(connection: Any, name: str) -> Any:
    return one(connection, f"SHOW {name}")


def plain(client: ThreadClient, k: int) -> bool:
    return bool(rows(client.connection, "SELECT %s + 1, %s", (k, client.number)) == [(k + 1, client.number)])


program = Threads(connect_autocommit, plain)
feature = program.feature


@feature
def transactions(client: ThreadClient) -> None:
    table = client.name("tx")
    connection = connect()
    rows(connection, f"CREATE TABLE {table} (id int PRIMARY KEY)")
    client.equal(connection.status, extensions.STATUS_BEGIN)
    connection.commit()
    client.equal(connection.get_transaction_status(), extensions.TRANSACTION_STATUS_IDLE)
    for i in range(6):
        rows(connection, f"INSERT INTO {table} VALUES (%s)", (i,))
        if i % 2:
            connection.rollback()
        else:
            connection.commit()
    client.equal(one(connection, f"SELECT array_agg(id ORDER BY id) FROM {table}"), [0, 2, 4])
    connection.rollback()
    with connection, connection.cursor() as cursor:
        cursor.execute(f"INSERT INTO {table} VALUES (10)")
    with client.refused(KeyError), connection, connection.cursor() as cursor:
        cursor.execute(f"INSERT INTO {table} VALUES (11)")
        raise KeyError
    client.equal(one(client.connection, f"SELECT array_agg(id ORDER BY id) FROM {table}"), [0, 2, 4, 10])
    connection.rollback()
    rows(connection, f"DROP TABLE {table}")
    connection.commit()
    connection.close()


@feature
def isolation(client: ThreadClient) -> None:
    connection = connect()
    for level, text in (
        ("SERIALIZABLE", "serializable"),
        ("REPEATABLE READ", "repeatable read"),
        (extensions.ISOLATION_LEVEL_READ_COMMITTED, "read committed"),
    ):
        connection.set_session(isolation_level=level)
        for _ in range(2):
            client.equal(show(connection, "transaction_isolation"), text)
            connection.commit()
    connection.set_session(isolation_level="SERIALIZABLE", readonly=True, deferrable=True)
    client.equal(
        [show(connection, f"transaction_{what}") for what in ("isolation", "read_only", "deferrable")],
        ["serializable", "on", "on"],
    )
    with client.refused(errors.ReadOnlySqlTransaction):
        rows(connection, f"CREATE TABLE {client.name('never')} (a int)")
    connection.rollback()
    connection.close()
    client.equal(show(client.connection, "transaction_read_only"), "off")


@feature
def session_in_autocommit(client: ThreadClient) -> None:
    """In autocommit, psycopg2 sets the session's defaults: SET default_transaction_isolation and the like."""
    connection = client.connection
    connection.set_session(isolation_level="SERIALIZABLE", readonly=bool(client.number % 2))
    for _ in range(4):
        client.equal(show(connection, "default_transaction_isolation"), "serializable")
        client.equal(show(connection, "transaction_isolation"), "serializable")
        client.equal(show(connection, "transaction_read_only"), "on" if client.number % 2 else "off")
    connection.set_session(isolation_level="DEFAULT", readonly="DEFAULT")
    for _ in range(2):
        client.equal(show(connection, "transaction_isolation"), "read committed")
        client.equal(show(connection, "transaction_read_only"), "off")


@feature
def savepoints(client: ThreadClient) -> None:
    table = client.name("sp")
    connection = connect()
    rows(connection, f"CREATE TABLE {table} (id int PRIMARY KEY)")
    for i in range(6):
        rows(connection, "SAVEPOINT one")
        rows(connection, f"INSERT INTO {table} VALUES (%s)", (i,))
        if i % 3 == 1:
            with client.refused(errors.UniqueViolation):
                rows(connection, f"INSERT INTO {table} VALUES (0)")
            client.equal(connection.get_transaction_status(), extensions.TRANSACTION_STATUS_INERROR)
        rows(connection, "ROLLBACK TO one" if i % 3 == 1 else "RELEASE one")
    connection.commit()
    client.equal(one(connection, f"SELECT array_agg(id ORDER BY id) FROM {table}"), [0, 2, 3, 5])
    rows(connection, f"DROP TABLE {table}")
    connection.commit()
    connection.close()


@feature
def batches(client: ThreadClient) -> None:
    table = client.name("batch")
    connection = connect()
    with connection, connection.cursor() as cursor:
        cursor.execute(f"CREATE TABLE {table} (id int PRIMARY KEY, word text)")
        extras.execute_batch(cursor, f"INSERT INTO {table} VALUES (%s, %s)", [(i, f"w{i}") for i in range(250)], 50)
        found = extras.execute_values(
            cursor,
            f"INSERT INTO {table} VALUES %s RETURNING id",
            [(i, f"it's {i}") for i in range(250, 500)],
            page_size=100,
            fetch=True,
        )
        client.equal([row[0] for row in found], list(range(250, 500)))
        cursor.executemany(f"UPDATE {table} SET word = %s WHERE id = %s", [("x", i) for i in range(30)])
    with client.refused(errors.UniqueViolation), connection, connection.cursor() as cursor:
        extras.execute_batch(cursor, f"INSERT INTO {table} VALUES (%s)", [(1000,), (1001,), (3,), (1002,)], 2)
    client.equal(rows(connection, f"SELECT count(*), sum(id) FROM {table} WHERE word <> 'x'"), [(470, 124750 - 435)])
    connection.rollback()
    with connection:
        rows(connection, f"DROP TABLE {table}")
    connection.close()


@feature
def copies(client: ThreadClient) -> None:
    connection, table = client.connection, client.name("copy")
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE TABLE {table} (id int PRIMARY KEY, word text)")
        cursor.copy_from(io.StringIO("".join(f"{i}\tw{i}\n" for i in range(2000))), table, columns=("id", "word"))
        client.equal(cursor.rowcount, 2000)
        cursor.copy_expert(f"COPY {table} FROM STDIN WITH (FORMAT csv, HEADER)", io.StringIO('id,word\n3000,"a,b"\n'))
        got = io.StringIO()
        cursor.copy_expert(f"COPY (SELECT * FROM {table} ORDER BY id DESC) TO STDOUT WITH CSV", got)
        lines = got.getvalue().splitlines()
        client.equal((len(lines), lines[0], lines[-1]), (2001, '3000,"a,b"', "0,w0"))
        out = io.BytesIO()
        cursor.copy_expert(f"COPY {table} TO STDOUT (FORMAT binary)", out)
        client.equal(out.getvalue()[:11], b"PGCOPY\n\xff\r\n\0")
        cursor.execute(f"TRUNCATE {table}")
        out.seek(0)
        cursor.copy_expert(f"COPY {table} FROM STDIN (FORMAT binary)", out)
        got = io.StringIO()
        cursor.copy_to(got, table, sep="|")
        client.equal(got.getvalue().count("|"), 2001)
        with client.refused(errors.BadCopyFileFormat):
            cursor.copy_from(io.StringIO("5000\n"), table)
        with client.refused(errors.UniqueViolation):
            cursor.copy_from(io.StringIO("1\tagain\n"), table)

        class Broken:
            def read(self, size: int) -> str:
                raise KeyError("in the middle")

        with client.refused(errors.QueryCanceled):
            cursor.copy_expert(f"COPY {table} FROM STDIN", Broken())
        client.equal(one(connection, f"SELECT count(*) FROM {table}"), 2001)
        cursor.execute(f"DROP TABLE {table}")


@feature
def named_cursors(client: ThreadClient) -> None:
    connection = connect()
    with connection, connection.cursor("rows") as cursor:
        cursor.itersize = 100
        cursor.execute("SELECT i, %s FROM generate_series(1, 1000) i", (client.number,))
        client.equal(cursor.fetchone(), (1, client.number))
        client.equal(len(cursor.fetchmany(99)), 99)
        client.equal(sum(1 for _ in cursor), 900)
    with connection, connection.cursor("scrolled", scrollable=True) as cursor:
        cursor.execute("SELECT generate_series(0, 99)")
        cursor.scroll(50, mode="absolute")
        client.equal(cursor.fetchone(), (50,))
        cursor.scroll(-11)
        client.equal(cursor.fetchone(), (40,))
    with connection, connection.cursor("dicts", cursor_factory=extras.RealDictCursor) as cursor:
        cursor.execute("SELECT generate_series(1, 5) AS n")
        client.equal([row["n"] for row in cursor.fetchall()], [1, 2, 3, 4, 5])
    with client.refused(psycopg2.ProgrammingError), connection.cursor("rows") as cursor:
        cursor.execute("SELECT 1")
        connection.commit()
        cursor.fetchone()
    connection.rollback()
    connection.close()


@feature
def hold_cursors(client: ThreadClient) -> None:
    def part() -> None:
        connection = connect()
        cursor = connection.cursor("held", withhold=True)
        cursor.execute("SELECT i * %s FROM generate_series(1, 500) i", (client.number,))
        connection.commit()
        for i in range(1, 6):
            client.equal(cursor.fetchone(), (i * client.number,))
            connection.commit()
        cursor.itersize = 200
        client.equal(sum(1 for _ in cursor), 495)
        cursor.close()
        connection.commit()
        client.equal(one(connection, "SELECT count(*) FROM pg_cursors"), 0)
        connection.close()

    client.in_turn(part)


@feature
def notifies(client: ThreadClient) -> None:
    connection, channel = client.connection, client.name("channel")

    def heard(count: int) -> list[tuple[str, str]]:
        def arrived() -> bool:
            if len(connection.notifies) < count:
                select.select([connection], [], [], 0.5)
                connection.poll()
            return len(connection.notifies) >= count

        until(arrived, 5)
        got = [(n.channel, n.payload) for n in connection.notifies]
        connection.notifies.clear()
        return got

    def part() -> None:
        rows(connection, f"LISTEN {channel}")
        other = connect()
        rows(other, f"NOTIFY {channel}, 'first'")
        rows(other, "SELECT pg_notify(%s, 'second')", (channel,))
        client.equal(connection.notifies, [])
        other.commit()
        client.equal(heard(2), [(channel, "first"), (channel, "second")])
        rows(other, f"NOTIFY {channel}, 'never'")
        other.rollback()
        rows(other, f"NOTIFY {channel}")
        other.commit()
        client.equal(heard(1), [(channel, "")])
        other.close()
        rows(connection, f"NOTIFY {channel}, 'to myself'")
        client.equal(heard(1), [(channel, "to myself")])
        rows(connection, "UNLISTEN *")
        client.equal(rows(connection, "SELECT pg_listening_channels()"), [])

    client.in_turn(part)


@feature
def settings(client: ThreadClient) -> None:
    connection, number = client.connection, client.number
    wanted = {
        "work_mem": f"{100 + number}kB",
        "statement_timeout": f"{20001 + number}ms",
        "myapp.tenant": f"tenant {number}",
        "TimeZone": f"Etc/GMT+{number}",
        "application_name": client.name("app"),
        "search_path": f"{client.name('nowhere')}, public",
    }
    for name, value in wanted.items():
        assignment = sql.SQL("SET {} TO {}").format(
            sql.SQL(name), sql.SQL(value) if name == "search_path" else sql.Literal(value)
        )
        rows(connection, assignment)
    for _ in range(5):
        client.equal({name: show(connection, name) for name in wanted}, wanted)
    client.equal(connection.get_parameter_status("TimeZone"), wanted["TimeZone"])
    one(connection, "SELECT set_config('myapp.tenant', %s, false)", (f"other {number}",))
    for _ in range(3):
        client.equal(show(connection, "myapp.tenant"), f"other {number}")
    other = connect()
    rows(other, f"SET work_mem = '{600 + number}kB'")
    client.equal(show(other, "work_mem"), f"{600 + number}kB")
    other.rollback()
    client.true(show(other, "work_mem") != f"{600 + number}kB")
    rows(other, f"SET work_mem = '{700 + number}kB'")
    other.commit()
    for _ in range(3):
        client.equal(show(other, "work_mem"), f"{700 + number}kB")
        other.commit()
    other.close()


@feature
def encodings(client: ThreadClient) -> None:
    connection = client.connection
    for encoding in ("LATIN1", "UTF8"):
        connection.set_client_encoding(encoding)
        for _ in range(3):
            client.equal(one(connection, "SELECT %s || chr(252)", ("ä",)), "äü")
            client.equal(show(connection, "client_encoding"), encoding)
    client.equal(connection.encoding, "UTF8")


@feature
def session_reset(client: ThreadClient) -> None:
    """connection.reset(): ABORT, RESET ALL, SET SESSION AUTHORIZATION DEFAULT."""
    connection = connect()
    default = show(connection, "work_mem")
    for _ in range(3):
        rows(connection, f"SET work_mem = '{800 + client.number}kB'")
        rows(connection, "SET TimeZone = 'Asia/Tokyo'")
        connection.commit()
        client.equal(show(connection, "work_mem"), f"{800 + client.number}kB")
        client.equal(show(connection, "TimeZone"), "Asia/Tokyo")
        connection.reset()
        client.equal((show(connection, "work_mem"), show(connection, "TimeZone")), (default, "UTC"))
        connection.commit()
    connection.close()


@feature
def roles(client: ThreadClient) -> None:
    connection = client.connection
    role = "pg_read_all_stats" if client.number % 2 else "pg_signal_backend"
    me = one(connection, "SELECT session_user")
    rows(connection, f"SET ROLE {role}")
    for _ in range(4):
        client.equal(rows(connection, "SELECT session_user, current_user"), [(me, role)])
    rows(connection, "RESET ROLE")
    for _ in range(2):
        client.equal(one(connection, "SELECT current_user"), me)


@feature
def temporary_tables(client: ThreadClient) -> None:
    connection = client.connection

    def part() -> None:
        rows(connection, "CREATE TEMP TABLE mine (a int)")
        for i in range(4):
            rows(connection, "INSERT INTO mine VALUES (%s)", (i,))
            client.equal(one(connection, "SELECT count(*) FROM mine"), i + 1)
        rows(connection, "DROP TABLE mine")
        with client.refused(errors.UndefinedTable):
            rows(connection, "SELECT * FROM mine")

    client.in_turn(part)


@feature
def advisory_locks(client: ThreadClient) -> None:
    connection, key = client.connection, client.key(2)

    def part() -> None:
        client.equal(one(connection, "SELECT pg_try_advisory_lock(%s)", (key,)), True)
        other = connect()
        for _ in range(3):
            client.equal(one(other, "SELECT pg_try_advisory_xact_lock(%s)", (key,)), False)
            other.commit()
        client.equal(one(connection, "SELECT pg_advisory_unlock(%s)", (key,)), True)
        client.equal(one(other, "SELECT pg_try_advisory_xact_lock(%s)", (key,)), True)
        other.rollback()
        other.close()

    client.in_turn(part)


@feature
def prepared_in_sql(client: ThreadClient) -> None:
    connection, number = client.connection, client.number
    rows(connection, f"PREPARE mine AS SELECT $1::int * 10 + {number}")
    for i in range(6):
        client.equal(one(connection, "EXECUTE mine (%s)", (i,)), i * 10 + number)
    rows(connection, "DEALLOCATE mine")
    with client.refused(errors.InvalidSqlStatementName):
        rows(connection, "EXECUTE mine (1)")


@feature
def large_objects(client: ThreadClient) -> None:
    connection = connect()
    data = bytes(range(256)) * 400
    large = connection.lobject(0, "wb")
    number = large.oid
    large.write(data)
    large.close()
    connection.commit()
    large = connection.lobject(number, "rwb")
    client.equal(large.read(), data)
    large.seek(256)
    client.equal((large.read(3), large.tell()), (b"\0\1\2", 259))
    large.truncate(300)
    large.close()
    connection.commit()
    large = connection.lobject(number, "rb")
    client.equal(len(large.read()), 300)
    large.unlink()
    connection.commit()
    with client.refused(psycopg2.OperationalError, errors.UndefinedObject):
        connection.lobject(number, "rb")
    connection.rollback()
    connection.close()


@feature
def cancel(client: ThreadClient) -> None:
    connection = client.connection
    own = connect()
    rows(own, "SET LOCAL statement_timeout = 40")
    with client.refused(errors.QueryCanceled):
        rows(own, "SELECT pg_sleep(20)")
    own.rollback()
    client.equal(one(own, "SELECT 1"), 1)
    own.close()

    def part() -> None:
        watcher, mark = connect_autocommit(), client.name("cancel")

        def stop() -> None:
            query = (
                "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND pid <> pg_backend_pid()"
                " AND query LIKE %s"
            )
            until(lambda: one(watcher, query, (f"%pg_sleep%{mark}",)))
            connection.cancel()

        thread = threading.Thread(target=stop)
        thread.start()
        with client.refused(errors.QueryCanceled):
            rows(connection, f"SELECT pg_sleep(20) -- {mark}")
        thread.join()
        watcher.close()
        client.equal(one(connection, "SELECT 3"), 3)

    client.in_turn(part)


@feature
def failures(client: ThreadClient) -> None:
    connection, table = client.connection, client.name("errors")
    rows(connection, f"CREATE TABLE {table} (id int CONSTRAINT {table}_key PRIMARY KEY)")
    rows(connection, f"INSERT INTO {table} VALUES (1)")
    for query, kind, code in (
        ("SELEC 1", errors.SyntaxError, "42601"),
        ("SELECT nothing", errors.UndefinedColumn, "42703"),
        ("SELECT 1/0", errors.DivisionByZero, "22012"),
        (f"INSERT INTO {table} VALUES (1)", errors.UniqueViolation, "23505"),
        ("SELECT 1; SELECT 1/0; SELECT 2", errors.DivisionByZero, "22012"),
        (
            "DO $$ BEGIN RAISE EXCEPTION USING errcode = 'P1234', detail = 'told'; END $$",
            psycopg2.DatabaseError,
            "P1234",
        ),
    ):
        with client.refused(kind) as caught:
            rows(connection, query)
        client.equal(caught[0].pgcode, code)
        client.equal(one(connection, "SELECT 1"), 1)
    client.equal(caught[0].diag.message_detail, "told")
    other = connect()
    with client.refused(errors.DivisionByZero):
        rows(other, "SELECT 1/0")
    with client.refused(errors.InFailedSqlTransaction):
        rows(other, "SELECT 1")
    other.rollback()
    client.equal(one(other, "SELECT 1"), 1)
    other.close()
    rows(connection, f"DO $$ BEGIN RAISE NOTICE 'from {client.number}'; END $$")
    client.equal(connection.notices, [f"NOTICE:  from {client.number}\n"])
    rows(connection, f"DROP TABLE {table}")


@feature
def types(client: ThreadClient) -> None:
    connection = client.connection
    moment = datetime.datetime(2026, 3, 4, 5, 6, 7, 89, tzinfo=datetime.timezone.utc)
    extras.register_uuid(conn_or_curs=connection)
    for value, kind in (
        (True, "bool"),
        (2**31 - 1, "int4"),
        (-(2**62), "int8"),
        (0.1, "float8"),
        (decimal.Decimal("12345678901234567890.000100"), "numeric"),
        ("häß 'quoted' \\ \"x\" €", "text"),
        (moment, "timestamptz"),
        (moment.replace(tzinfo=None), "timestamp"),
        (moment.date(), "date"),
        (moment.time(), "time"),
        (datetime.timedelta(days=3, seconds=4, microseconds=5), "interval"),
        (uuid.UUID(int=client.number + 1), "uuid"),
        ([1, None, 3], "int4[]"),
        ([["a", "b"], ["c", 'd "e"']], "text[]"),
        (extras.NumericRange(1, 10), "int4range"),
        (extras.DateTimeTZRange(moment, None), "tstzrange"),
        (None, "text"),
    ):
        client.equal(one(connection, f"SELECT %s::{kind}", (value,)), value)
    client.equal(bytes(one(connection, "SELECT %s::bytea", (b"\x00\xff\\'",))), b"\x00\xff\\'")
    document = {"a": [1, 2.5, None], "b": {"c": "ü"}}
    client.equal(one(connection, "SELECT %s::jsonb", (extras.Json(document),)), document)
    pair = client.name("pair")
    rows(connection, f"CREATE TYPE {pair} AS (number int, word text)")
    extras.register_composite(pair, connection)
    client.equal(tuple(one(connection, f"SELECT (1, 'one')::{pair}")), (1, "one"))
    rows(connection, f"DROP TYPE {pair}")


@feature
def large_values(client: ThreadClient) -> None:
    connection = client.connection
    text = f"{client.number}ä" * 150_000
    client.equal(one(connection, "SELECT %s", (text,)), text)
    data = bytes(range(256)) * 1000
    client.equal(bytes(one(connection, "SELECT %s", (data,))), data)
    client.equal(one(connection, "SELECT repeat('z', 2000000)"), "z" * 2_000_000)
    client.equal(len(rows(connection, "SELECT i, repeat('r', 30) FROM generate_series(1, 5000) i")), 5000)


@feature
def two_phase(client: ThreadClient) -> None:
    table = client.name("twophase")
    allowed = int(show(client.connection, "max_prepared_transactions")) >= 8
    rows(client.connection, f"CREATE TABLE {table} (a int)")
    for i, end in enumerate(("tpc_commit", "tpc_rollback")):
        connection = connect()
        connection.tpc_begin(connection.xid(2, client.name("xid"), str(i)))
        rows(connection, f"INSERT INTO {table} VALUES (%s)", (i,))
        if not allowed:
            with client.refused(psycopg2.DatabaseError):
                connection.tpc_prepare()
        else:
            connection.tpc_prepare()
            client.equal(one(client.connection, f"SELECT count(*) FROM {table}"), i)
            getattr(connection, end)()
        connection.close()
    client.equal(one(client.connection, f"SELECT count(*) FROM {table}"), int(allowed))
    rows(client.connection, f"DROP TABLE {table}")


@feature
def pooled_connections(client: ThreadClient) -> None:
    """What is given back to psycopg2's own pool is rolled back."""
    pool = ThreadedConnectionPool(1, 3, "")
    for i in range(6):
        connection = pool.getconn()
        client.equal(one(connection, "SELECT %s", (i,)), i)
        pool.putconn(connection)
        client.equal(connection.get_transaction_status(), extensions.TRANSACTION_STATUS_IDLE)
    pool.closeall()


@feature
def asynchronous(client: ThreadClient) -> None:
    def wait(connection: Any) -> None:
        while (state := connection.poll()) != extensions.POLL_OK:
            if state == extensions.POLL_READ:
                select.select([connection], [], [], 10)
            else:
                select.select([], [connection], [], 10)

    connection = psycopg2.connect("", async_=True)
    wait(connection)
    cursor = connection.cursor()
    for i in range(5):
        cursor.execute("SELECT %s, pg_sleep(0.001)", (i,))
        wait(connection)
        client.equal(cursor.fetchone()[0], i)
    connection.close()


@feature
def procedures(client: ThreadClient) -> None:
    connection, name = client.connection, client.name("routine")
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE FUNCTION {name}(a int, b text) RETURNS text LANGUAGE sql AS $$ SELECT b || a $$")
        cursor.callproc(name, (client.number, "n"))
        client.equal(cursor.fetchone(), (f"n{client.number}",))
        client.equal(cursor.mogrify("SELECT %s, %s", ("it's", None)), b"SELECT 'it''s', NULL")
        cursor.execute(f"DROP FUNCTION {name}")
    with connection.cursor(cursor_factory=extras.NamedTupleCursor) as cursor:
        cursor.execute("SELECT 1 AS a, 'b' AS b")
        row = cursor.fetchone()
        client.equal((row.a, row.b), (1, "b"))


if __name__ == "__main__":
    tidying = connect_autocommit()
    rows(tidying, TIDY)
    program.run()
    rows(tidying, TIDY)
    tidying.close()
