"""pg8000, by its DB-API and by its native interface; it knows nothing of libpq's variables."""

from __future__ import annotations

import datetime
import decimal
import io
import ipaddress
import os
import uuid
from typing import Any

import pg8000.dbapi
import pg8000.native
from features import TIDY, ThreadClient, Threads, until

LOGIN: dict[str, Any] = {
    "user": os.environ["PGUSER"],
    "password": os.environ["PGPASSWORD"],
    "host": os.environ["PGHOST"],
    "port": int(os.environ["PGPORT"]),
    "database": os.environ["PGDATABASE"],
    "ssl_context": False,
}
Refused = pg8000.dbapi.DatabaseError


def connect(**options: Any) -> Any:
    return pg8000.dbapi.connect(**LOGIN, **options)


def connect_autocommit(**options: Any) -> Any:
    connection = connect(**options)
    connection.autocommit = True
    return connection


def native(**options: Any) -> Any:
    return pg8000.native.Connection(**LOGIN, **options)


def rows(connection: Any, query: str, parameters: Any = ()) -> Any:
    cursor = connection.cursor()
    cursor.execute(query, parameters)
    return [tuple(row) for row in cursor.fetchall()] if cursor.description else None


def one(connection: Any, query: str, parameters: Any = ()) -> Any:
    return rows(connection, query, parameters)[0][0]


def show(connection: Any, name: str) -> Any:
    return one(connection, f"SHOW {name}")


def plain(client: ThreadClient, k: int) -> bool:
    found = rows(client.connection, "SELECT cast(%s AS int) + 1, cast(%s AS int)", (k, client.number))
    return bool(found == [(k + 1, client.number)])


def code(caught: list[Any]) -> Any:
    return caught[0].args[0]["C"]


program = Threads(connect_autocommit, plain)
feature = program.feature


@feature
def transactions(client: ThreadClient) -> None:
    table = client.name("tx")
    connection = connect()
    rows(connection, f"CREATE TABLE {table} (id int PRIMARY KEY)")
    connection.commit()
    for i in range(6):
        rows(connection, f"INSERT INTO {table} VALUES (%s)", (i,))
        if i % 2:
            connection.rollback()
        else:
            connection.commit()
    client.equal(one(connection, f"SELECT array_agg(id ORDER BY id) FROM {table}"), [0, 2, 4])
    connection.rollback()
    rows(connection, "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
    client.equal(show(connection, "transaction_isolation"), "serializable")
    connection.commit()
    client.equal(show(connection, "transaction_isolation"), "read committed")
    for i in range(6):
        rows(connection, "SAVEPOINT one")
        rows(connection, f"INSERT INTO {table} VALUES (%s)", (10 + i,))
        if i % 3 == 1:
            with client.refused(Refused) as caught:
                rows(connection, f"INSERT INTO {table} VALUES (0)")
            client.equal(code(caught), "23505")
        rows(connection, "ROLLBACK TO SAVEPOINT one" if i % 3 == 1 else "RELEASE one")
    connection.commit()
    client.equal(one(client.connection, f"SELECT array_agg(id ORDER BY id) FROM {table}"), [0, 2, 4, 10, 12, 13, 15])
    connection.rollback()
    rows(connection, f"DROP TABLE {table}")
    connection.commit()
    connection.close()


@feature
def prepared(client: ThreadClient) -> None:
    """Every statement with parameters is prepared, and closed or kept by the driver as it likes."""
    connection = client.connection
    for turn in range(3):
        for i in range(6):
            client.equal(one(connection, f"SELECT cast(%s AS int) + {i}", (turn,)), turn + i)
    own = native()
    statement = own.prepare("SELECT cast(:a AS int) * 10, cast(:b AS text)")
    other = own.prepare("SELECT cast(:a AS text)")
    for i in range(8):
        client.equal(statement.run(a=i, b=f"c{client.number}"), [[i * 10, f"c{client.number}"]])
        client.equal(other.run(a="x"), [["x"]])
    statement.close()
    client.equal(other.run(a="after"), [["after"]])
    other.close()
    own.close()


@feature
def native_interface(client: ThreadClient) -> None:
    own, table = native(), client.name("native")
    own.run(f"CREATE TABLE {table} (id serial, word text)")
    client.equal(own.run(f"INSERT INTO {table} (word) VALUES (:w), (:v) RETURNING id", w="a", v="b"), [[1], [2]])
    client.equal(own.row_count, 2)
    client.equal([column["name"] for column in own.columns], ["id"])
    client.equal(own.run("SELECT 1; SELECT 2"), [[1], [2]])
    own.run("START TRANSACTION")
    own.run(f"DELETE FROM {table}")
    own.run("ROLLBACK")
    client.equal(own.run(f"SELECT count(*) FROM {table}"), [[2]])
    client.equal(own.run("SELECT array_agg(x) FROM unnest(cast(:v AS int[])) x", v=[1, 2, 3]), [[[1, 2, 3]]])
    with client.refused(pg8000.native.DatabaseError):
        own.run("SELECT 1/0")
    client.equal(own.run("SELECT 1"), [[1]])
    own.run(f"DROP TABLE {table}")
    own.close()


@feature
def copies(client: ThreadClient) -> None:
    connection, table = client.connection, client.name("copy")
    cursor = connection.cursor()
    cursor.execute(f"CREATE TABLE {table} (id int PRIMARY KEY, word text)")
    text = "".join(f"{i}\tw{i}\n" for i in range(1500))
    cursor.execute(f"COPY {table} FROM STDIN", stream=io.BytesIO(text.encode()))
    client.equal(cursor.rowcount, 1500)
    out = io.BytesIO()
    cursor.execute(f"COPY (SELECT * FROM {table} ORDER BY id) TO STDOUT", stream=out)
    client.equal(out.getvalue().decode(), text)
    with client.refused(Refused) as caught:
        cursor.execute(f"COPY {table} FROM STDIN", stream=io.BytesIO(b"1\tagain\n"))
    client.equal(code(caught), "23505")
    out = io.StringIO()
    cursor.execute(f"COPY {table} TO STDOUT WITH (FORMAT CSV, HEADER)", stream=out)
    client.equal(len(out.getvalue().splitlines()), 1501)
    cursor.execute(f"DROP TABLE {table}")


@feature
def sql_cursors(client: ThreadClient) -> None:
    connection = connect()
    rows(connection, f"DECLARE mine SCROLL CURSOR FOR SELECT i * {client.number} FROM generate_series(1, 50) i")
    client.equal(one(connection, "FETCH ABSOLUTE 10 FROM mine"), 10 * client.number)
    client.equal(len(rows(connection, "FETCH ALL FROM mine")), 40)
    connection.commit()
    with client.refused(Refused):
        rows(connection, "FETCH 1 FROM mine")
    connection.rollback()
    connection.close()

    def part() -> None:
        own = client.connection
        rows(own, f"DECLARE held CURSOR WITH HOLD FOR SELECT i * {client.number} FROM generate_series(1, 20) i")
        for i in range(1, 6):
            client.equal(one(own, "FETCH 1 FROM held"), i * client.number)
        rows(own, "CLOSE held")

    client.in_turn(part)


@feature
def notifications(client: ThreadClient) -> None:
    channel = client.name("channel")

    def part() -> None:
        own = native()
        own.run(f"LISTEN {channel}")
        rows(client.connection, f"NOTIFY {channel}, 'first'")
        rows(client.connection, "SELECT pg_notify(%s, %s)", (channel, "second"))
        until(lambda: own.run("SELECT 1") and len(own.notifications) >= 2, 4)
        client.equal([n[1:] for n in own.notifications], [(channel, "first"), (channel, "second")])
        own.run("UNLISTEN *")
        own.close()

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
        rows(connection, f"SET {name} TO {value}" if name == "search_path" else f"SET {name} TO '{value}'")
    for _ in range(4):
        client.equal({name: show(connection, name) for name in wanted}, wanted)
    rows(connection, "SELECT set_config('myapp.tenant', %s, false)", (f"other {number}",))
    for _ in range(3):
        client.equal(show(connection, "myapp.tenant"), f"other {number}")
    rows(connection, "RESET work_mem")
    client.equal(show(connection, "work_mem"), "4MB")


@feature
def settings_at_connect(client: ThreadClient) -> None:
    startup = {"work_mem": f"{400 + client.number}kB", "options": "-c lock_timeout=4321"}
    connection = connect_autocommit(application_name=client.name("start"), startup_params=startup)
    for _ in range(3):
        client.equal(show(connection, "application_name"), client.name("start"))
        client.equal(show(connection, "work_mem"), startup["work_mem"])
        client.equal(show(connection, "lock_timeout"), "4321ms")
    connection.close()


@feature
def roles(client: ThreadClient) -> None:
    connection = client.connection
    role = "pg_read_all_stats" if client.number % 2 else "pg_signal_backend"
    rows(connection, f"SET ROLE {role}")
    for _ in range(4):
        client.equal(one(connection, "SELECT current_user"), role)
    rows(connection, "RESET ROLE")
    client.equal(one(connection, "SELECT current_user"), LOGIN["user"])


@feature
def temporary_tables(client: ThreadClient) -> None:
    connection = client.connection

    def part() -> None:
        rows(connection, "CREATE TEMP TABLE mine (a int)")
        for i in range(4):
            rows(connection, "INSERT INTO mine VALUES (%s)", (i,))
            client.equal(one(connection, "SELECT count(*) FROM mine"), i + 1)
        rows(connection, "DROP TABLE mine")

    client.in_turn(part)


@feature
def advisory_locks(client: ThreadClient) -> None:
    connection, key = client.connection, client.key(5)

    def part() -> None:
        client.equal(one(connection, "SELECT pg_try_advisory_lock(%s)", (key,)), True)
        other = connect_autocommit()
        for _ in range(3):
            client.equal(one(other, "SELECT pg_try_advisory_xact_lock(%s)", (key,)), False)
        client.equal(one(connection, "SELECT pg_advisory_unlock(%s)", (key,)), True)
        client.equal(one(other, "SELECT pg_try_advisory_xact_lock(%s)", (key,)), True)
        other.close()

    client.in_turn(part)


@feature
def prepared_in_sql(client: ThreadClient) -> None:
    connection, number = client.connection, client.number
    rows(connection, f"PREPARE mine AS SELECT $1::int * 10 + {number}")
    for i in range(6):
        client.equal(one(connection, f"EXECUTE mine ({i})"), i * 10 + number)
    rows(connection, "DEALLOCATE mine")
    with client.refused(Refused) as caught:
        rows(connection, "EXECUTE mine (1)")
    client.equal(code(caught), "26000")


@feature
def failures(client: ThreadClient) -> None:
    connection, table = client.connection, client.name("errors")
    rows(connection, f"CREATE TABLE {table} (id int PRIMARY KEY)")
    rows(connection, f"INSERT INTO {table} VALUES (1)")
    for query, parameters, state in (
        ("SELEC 1", (), "42601"),
        ("SELECT nothing", (), "42703"),
        ("SELECT 1 / cast(%s AS int)", (0,), "22012"),
        ("SELECT cast(%s AS int)", ("x",), "22P02"),
        (f"INSERT INTO {table} VALUES (%s)", (1,), "23505"),
        ("SELECT pg_read_file('/etc/hostname')", (), "42501"),
    ):
        with client.refused(Refused) as caught:
            rows(connection, query, parameters)
        client.equal(code(caught), state)
        client.equal(one(connection, "SELECT 1"), 1)
    other = connect()
    rows(other, "SET LOCAL statement_timeout = 30")
    with client.refused(Refused) as caught:
        rows(other, "SELECT pg_sleep(20)")
    client.equal(code(caught), "57014")
    with client.refused(Refused) as caught:
        rows(other, "SELECT 1")
    client.equal(code(caught), "25P02")
    other.rollback()
    client.equal(show(other, "statement_timeout"), "0")
    other.close()
    rows(connection, f"DO $$ BEGIN RAISE NOTICE 'from {client.number}'; END $$")
    client.equal([said[b"M"] for said in connection.notices], [f"from {client.number}".encode()])
    rows(connection, f"DROP TABLE {table}")


@feature
def types(client: ThreadClient) -> None:
    connection = client.connection
    moment = datetime.datetime(2026, 3, 4, 5, 6, 7, 89, tzinfo=datetime.timezone.utc)
    for value, kind in (
        (True, "bool"),
        (2**31 - 1, "int4"),
        (-(2**63), "int8"),
        (0.1, "float8"),
        (decimal.Decimal("12345678901234567890.000100"), "numeric"),
        ("häß 'quoted' \\ \"x\" €", "text"),
        (b"\x00\xff\\", "bytea"),
        (moment, "timestamptz"),
        (moment.replace(tzinfo=None), "timestamp"),
        (moment.date(), "date"),
        (moment.time(), "time"),
        (datetime.timedelta(days=3, seconds=4, microseconds=5), "interval"),
        (uuid.UUID(int=client.number + 1), "uuid"),
        (ipaddress.ip_address("10.0.0.1"), "inet"),
        ([[1, 2], [3, None]], "int4[]"),
        (["a", 'd "e"'], "text[]"),
        ({"a": [1, 2.5, None], "b": {"c": "ü"}}, "jsonb"),
        (pg8000.Range(1, 10), "int4range"),
        (None, "text"),
    ):
        client.equal(one(connection, f"SELECT cast(%s AS {kind})", (value,)), value)
    mood = client.name("mood")
    rows(connection, f"CREATE TYPE {mood} AS ENUM ('sad', 'glad')")
    client.equal(one(connection, f"SELECT cast(%s AS {mood})", ("glad",)), "glad")
    rows(connection, f"DROP TYPE {mood}")


@feature
def large_values(client: ThreadClient) -> None:
    connection = client.connection
    text = f"{client.number}ä" * 60_000
    client.equal(one(connection, "SELECT cast(%s AS text)", (text,)), text)
    data = bytes(range(256)) * 500
    client.equal(one(connection, "SELECT cast(%s AS bytea)", (data,)), data)
    client.equal(len(rows(connection, "SELECT i, repeat('r', 30) FROM generate_series(1, 1500) i")), 1500)


@feature
def batches(client: ThreadClient) -> None:
    table = client.name("batch")
    connection = connect()
    cursor = connection.cursor()
    cursor.execute(f"CREATE TABLE {table} (id int, word text)")
    cursor.executemany(f"INSERT INTO {table} VALUES (%s, %s)", [(i, str(i)) for i in range(60)])
    client.equal(cursor.rowcount, 60)
    connection.commit()
    cursor.execute(f"SELECT id FROM {table} ORDER BY id")
    client.equal([cursor.fetchone()[0], len(cursor.fetchmany(9)), len(cursor.fetchall())], [0, 9, 50])
    cursor.execute(f"DROP TABLE {table}")
    connection.commit()
    connection.close()


@feature
def two_phase(client: ThreadClient) -> None:
    table = client.name("twophase")
    allowed = int(show(client.connection, "max_prepared_transactions")) >= 8
    rows(client.connection, f"CREATE TABLE {table} (a int)")
    for i, end in enumerate(("tpc_commit", "tpc_rollback")):
        connection = connect()
        connection.tpc_begin(connection.xid(0, client.name(f"xid{i}"), ""))
        rows(connection, f"INSERT INTO {table} VALUES (%s)", (i,))
        if not allowed:
            with client.refused(Refused):
                connection.tpc_prepare()
        else:
            connection.tpc_prepare()
            getattr(connection, end)()
        connection.close()
    client.equal(one(client.connection, f"SELECT count(*) FROM {table}"), int(allowed))
    rows(client.connection, f"DROP TABLE {table}")


if __name__ == "__main__":
    tidying = connect_autocommit()
    rows(tidying, TIDY)
    program.run()
    rows(tidying, TIDY)
    tidying.close()
