"""psycopg 3 with threads."""

from __future__ import annotations

import datetime
import decimal
import ipaddress
import threading
import uuid
from typing import Any

import psycopg
from features import PREFIX, TIDY, ThreadClient, Threads, Wrong, until
from psycopg import errors, sql
from psycopg.pq import TransactionStatus
from psycopg.rows import dict_row, namedtuple_row
from psycopg.types.composite import CompositeInfo, register_composite
from psycopg.types.enum import EnumInfo, register_enum
from psycopg.types.json import Jsonb
from psycopg.types.multirange import Int4Multirange
from psycopg.types.range import Range
from psycopg_pool import ConnectionPool


def connect(**options: Any) -> psycopg.Connection[Any]:
    return psycopg.connect("", **{"autocommit": True, **options})


def plain(client: ThreadClient, k: int) -> bool:
    return client.connection.execute("SELECT %s::int + 1, %s", (k, client.number)).fetchone() == (k + 1, client.number)


program = Threads(connect, plain)
feature = program.feature


def show(connection: psycopg.Connection[Any], name: str) -> Any:
    return one(connection, f"SHOW {name}")


def one(connection: psycopg.Connection[Any], query: str, parameters: Any = None) -> Any:
    row = connection.execute(query, parameters).fetchone()
    return None if row is None else row[0]


@feature
def transactions(client: ThreadClient) -> None:
    table = client.name("tx")
    with connect(autocommit=False) as connection:
        connection.execute(f"CREATE TABLE {table} (id int PRIMARY KEY, word text)")
        client.equal(connection.info.transaction_status, TransactionStatus.INTRANS)
        connection.commit()
        client.equal(connection.info.transaction_status, TransactionStatus.IDLE)
        for i in range(5):
            connection.execute(f"INSERT INTO {table} VALUES (%s, %s)", (i, f"word {i}"))
            if i % 2:
                connection.rollback()
            else:
                connection.commit()
            client.equal(one(connection, f"SELECT count(*) FROM {table}"), i // 2 + 1)
            connection.rollback()
    with client.refused(ZeroDivisionError), client.connection.transaction():
        client.connection.execute(f"DELETE FROM {table}")
        raise ZeroDivisionError
    with client.connection.transaction():
        client.connection.execute(f"INSERT INTO {table} VALUES (100, 'kept')")
        client.equal(one(client.connection, "SELECT now() = statement_timestamp()"), False)
    client.equal([row[0] for row in client.connection.execute(f"SELECT id FROM {table} ORDER BY 1")], [0, 2, 4, 100])
    client.connection.execute(f"DROP TABLE {table}")


@feature
def isolation(client: ThreadClient) -> None:
    with connect(autocommit=False) as connection:
        for level, text in (
            (psycopg.IsolationLevel.SERIALIZABLE, "serializable"),
            (psycopg.IsolationLevel.REPEATABLE_READ, "repeatable read"),
            (psycopg.IsolationLevel.READ_COMMITTED, "read committed"),
            (None, "read committed"),
        ):
            connection.isolation_level = level
            client.equal(show(connection, "transaction_isolation"), text)
            connection.rollback()
        connection.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
        connection.read_only = True
        connection.deferrable = True
        client.equal(
            [show(connection, f"transaction_{what}") for what in ("isolation", "read_only", "deferrable")],
            ["serializable", "on", "on"],
        )
        with client.refused(errors.ReadOnlySqlTransaction):
            connection.execute(f"CREATE TABLE {client.name('never')} (a int)")
        connection.rollback()
    client.equal(show(client.connection, "transaction_read_only"), "off")


@feature
def savepoints(client: ThreadClient) -> None:
    connection, table = client.connection, client.name("sp")
    connection.execute(f"CREATE TABLE {table} (id int PRIMARY KEY)")
    with connection.transaction():
        connection.execute(f"INSERT INTO {table} VALUES (1)")
        with client.refused(errors.UniqueViolation), connection.transaction():
            connection.execute(f"INSERT INTO {table} VALUES (1)")
        with connection.transaction("named"):
            connection.execute(f"INSERT INTO {table} VALUES (2)")
        with connection.transaction() as inner:
            connection.execute(f"INSERT INTO {table} VALUES (3)")
            raise psycopg.Rollback(inner)
        with connection.transaction(force_rollback=True):
            connection.execute(f"INSERT INTO {table} VALUES (4)")
            client.equal(one(connection, f"SELECT count(*) FROM {table}"), 3)
        connection.execute("SAVEPOINT mine")
        connection.execute(f"INSERT INTO {table} VALUES (5)")
        connection.execute("ROLLBACK TO SAVEPOINT mine")
        connection.execute("RELEASE mine")
    client.equal(connection.execute(f"SELECT array_agg(id ORDER BY id) FROM {table}").fetchone(), ([1, 2],))
    connection.execute(f"DROP TABLE {table}")


@feature
def prepared_at_once(client: ThreadClient) -> None:
    with connect(prepare_threshold=0) as connection:
        for i in range(25):
            client.equal(
                connection.execute("SELECT %s::int * 2, %s::text", (i, f"c{client.number}")).fetchone(),
                (i * 2, f"c{client.number}"),
            )
        for i in range(5):
            with connection.transaction():
                client.equal(connection.execute("SELECT %s::int, now()", (i,)).fetchone()[0], i)  # type: ignore[index]
        with client.refused(errors.DivisionByZero):
            connection.execute("SELECT 1 / %s::int", (0,))
        client.equal(one(connection, "SELECT 1 / %s::int", (1,)), 1)


@feature
def prepared_by_default(client: ThreadClient) -> None:
    connection = client.connection
    for i in range(12):
        client.equal(one(connection, "SELECT %s::int + %s::int", (i, client.number)), i + client.number)
    for i in range(4):
        client.equal(
            one(
                connection,
                "SELECT %s::text || '!'",
                (str(i),),
            ),
            f"{i}!",
        )
    client.equal(connection.execute("SELECT %s::int", (1,), prepare=True).fetchone(), (1,))
    client.equal(connection.execute("SELECT %s::int", (2,), prepare=True).fetchone(), (2,))
    client.equal(connection.execute("SELECT %s::int", (3,), prepare=False).fetchone(), (3,))


@feature
def prepared_and_evicted(client: ThreadClient) -> None:
    """More statements than the driver keeps: it closes the oldest ones, by Close or by DEALLOCATE."""
    with connect(prepare_threshold=0) as connection:
        connection.prepared_max = 3
        for turn in range(3):
            for i in range(8):
                client.equal(one(connection, f"SELECT %s::int + {i}", (turn,)), turn + i)
        connection.prepared_max = 100
        connection.execute("SELECT 1")
        connection.execute("DEALLOCATE ALL")
        for turn in range(3):
            client.equal(one(connection, "SELECT %s::int + 100", (turn,)), turn + 100)


@feature
def prepared_none(client: ThreadClient) -> None:
    with connect(prepare_threshold=None) as connection:
        for i in range(12):
            client.equal(one(connection, "SELECT %s::int", (i,)), i)


@feature
def pipelines(client: ThreadClient) -> None:
    connection, table = client.connection, client.name("pipe")
    connection.execute(f"CREATE TABLE {table} (id int PRIMARY KEY)")
    for turn in range(3):
        with connection.pipeline():
            cursors = [connection.execute("SELECT %s::int, %s::int", (turn, i)) for i in range(40)]
            client.equal([cursor.fetchone() for cursor in cursors], [(turn, i) for i in range(40)])
    with connection.pipeline() as pipeline:
        connection.execute(f"INSERT INTO {table} VALUES (1)")
        pipeline.sync()
        connection.execute(f"INSERT INTO {table} VALUES (2)")
        with client.refused(errors.UniqueViolation):
            connection.execute(f"INSERT INTO {table} VALUES (1)").fetchone()
        pipeline.sync()
        connection.execute(f"INSERT INTO {table} VALUES (3)")
    client.equal(one(connection, f"SELECT array_agg(id ORDER BY id) FROM {table}"), [1, 3])
    with connection.pipeline(), connection.transaction():
        connection.execute(f"DELETE FROM {table}")
        with connection.cursor() as cursor:
            cursor.executemany(f"INSERT INTO {table} VALUES (%s)", [(i,) for i in range(50)])
    client.equal(one(connection, f"SELECT count(*) FROM {table}"), 50)
    with connect(prepare_threshold=0) as other, other.pipeline():
        cursors = [other.execute(f"SELECT %s::int + {i % 4}", (i,)) for i in range(40)]
        client.equal([cursor.fetchone() for cursor in cursors], [(i + i % 4,) for i in range(40)])
    connection.execute(f"DROP TABLE {table}")


@feature
def copy_in(client: ThreadClient) -> None:
    connection, table = client.connection, client.name("copy_in")
    connection.execute(f"CREATE TABLE {table} (id int PRIMARY KEY, word text, data bytea)")
    with connection.cursor() as cursor:
        with cursor.copy(f"COPY {table} (id, word) FROM STDIN") as copy:
            for i in range(1000):
                copy.write_row((i, f"w\t{i}\n" if i % 10 else None))
        client.equal(cursor.rowcount, 1000)
        with cursor.copy(f"COPY {table} FROM STDIN (FORMAT BINARY)") as copy:
            copy.set_types(["int4", "text", "bytea"])
            for i in range(1000, 1500):
                copy.write_row((i, "ä€", bytes([i % 256] * 50)))
        with cursor.copy(f"COPY {table} (id, word) FROM STDIN (FORMAT CSV)") as copy:
            copy.write('2000,"a,b"\n2001,plain\n')
        with client.refused(errors.UniqueViolation), cursor.copy(f"COPY {table} (id) FROM STDIN") as copy:
            copy.write_row((1,))
        with client.refused(errors.BadCopyFileFormat), cursor.copy(f"COPY {table} FROM STDIN") as copy:
            copy.write("3000\tonly two\n")
        with client.refused(KeyError), cursor.copy(f"COPY {table} (id) FROM STDIN") as copy:
            copy.write_row((4000,))
            raise KeyError
    client.equal(
        connection.execute(f"SELECT count(*), count(word), sum(id), sum(length(data)) FROM {table}").fetchone(),
        (1502, 1402, sum(range(1500)) + 4001, 25000),
    )
    client.equal(one(connection, f"SELECT word FROM {table} WHERE id = 2000"), "a,b")
    connection.execute(f"DROP TABLE {table}")


@feature
def copy_out(client: ThreadClient) -> None:
    with client.connection.cursor() as cursor:
        query = "COPY (SELECT i, i * %s, repeat('x', 20) FROM generate_series(1, 3000) i) TO STDOUT"
        with cursor.copy(query, (client.number,)) as copy:
            copy.set_types(["int4", "int4", "text"])
            rows = list(copy.rows())
        client.equal((len(rows), rows[2999]), (3000, (3000, 3000 * client.number, "x" * 20)))
        with cursor.copy(f"{query} (FORMAT BINARY)", (client.number,)) as copy:
            copy.set_types(["int4", "int4", "text"])
            client.equal(list(copy.rows()), rows)
        broken = "COPY (SELECT 1 / (500 - i) FROM generate_series(1, 1000) i) TO STDOUT"
        with client.refused(errors.DivisionByZero), cursor.copy(broken) as copy:
            for _ in copy:
                pass
        with client.refused(KeyError), cursor.copy(query, (1,)) as copy:
            client.equal(bytes(next(iter(copy)))[:4], b"1\t1\t")
            raise KeyError
        client.equal(cursor.execute("SELECT 1").fetchone(), (1,))


@feature
def server_cursors(client: ThreadClient) -> None:
    connection = client.connection
    with connection.transaction():
        with connection.cursor("rows") as cursor:
            cursor.itersize = 100
            cursor.execute("SELECT i, %s::int FROM generate_series(1, 1000) i", (client.number,))
            client.equal(cursor.fetchone(), (1, client.number))
            client.equal(len(cursor.fetchmany(50)), 50)
            client.equal(sum(1 for _ in cursor), 949)
        with connection.cursor("scrolled", scrollable=True) as cursor:
            cursor.execute("SELECT generate_series(0, 99)")
            cursor.scroll(50, mode="absolute")
            client.equal(cursor.fetchone(), (50,))
            cursor.scroll(-11)
            client.equal(cursor.fetchone(), (40,))
            client.equal(len(cursor.fetchall()), 59)
    with connection.transaction(), connection.cursor("rows") as cursor:
        cursor.execute("SELECT 'again'")
        client.equal(cursor.fetchall(), [("again",)])
    with connection.transaction():
        connection.execute("DECLARE mine CURSOR FOR SELECT generate_series(1, 5)")
        client.equal(connection.execute("FETCH 2 FROM mine").fetchall(), [(1,), (2,)])
        client.equal(connection.execute("MOVE 1 FROM mine").statusmessage, "MOVE 1")
        client.equal(connection.execute("FETCH ALL FROM mine").fetchall(), [(4,), (5,)])
        connection.execute("CLOSE mine")


@feature
def hold_cursors(client: ThreadClient) -> None:
    connection = client.connection

    def part() -> None:
        with connection.cursor("held", withhold=True) as cursor:
            cursor.execute("SELECT i * %s FROM generate_series(1, 500) i", (client.number,))
            for i in range(1, 11):
                client.equal(cursor.fetchone(), (i * client.number,))
                client.equal(one(connection, "SELECT %s::int", (i,)), i)
            client.equal(len(cursor.fetchall()), 490)
        with connect(autocommit=False) as other, other.cursor("held", withhold=True, scrollable=True) as cursor:
            cursor.execute("SELECT generate_series(1, 10)")
            other.commit()
            client.equal(cursor.fetchmany(3), [(1,), (2,), (3,)])
            other.commit()
            cursor.scroll(0, mode="absolute")
            client.equal(len(cursor.fetchall()), 10)
            cursor.close()
            other.commit()
        client.equal(one(connection, "SELECT count(*) FROM pg_cursors WHERE is_holdable"), 0)

    client.in_turn(part)


@feature
def listen_notify(client: ThreadClient) -> None:
    connection, channel = client.connection, client.name("channel")

    def part() -> None:
        connection.execute(f"LISTEN {channel}")
        with connect() as other:
            other.execute(f"NOTIFY {channel}, 'first'")
            other.execute("SELECT pg_notify(%s, %s)", (channel, "second"))
            client.equal([n.payload for n in connection.notifies(timeout=5, stop_after=2)], ["first", "second"])
            with client.refused(ValueError), other.transaction():
                other.execute("SELECT pg_notify(%s, 'never')", (channel,))
                raise ValueError
            with other.transaction():
                other.execute("SELECT pg_notify(%s, 'at commit')", (channel,))
        client.equal([n.payload for n in connection.notifies(timeout=5, stop_after=1)], ["at commit"])
        heard: list[psycopg.Notify] = []
        connection.add_notify_handler(heard.append)
        with connection.transaction():
            connection.execute("SELECT pg_notify(%s, 'to myself')", (channel,))
        until(lambda: connection.execute("SELECT 1") and heard)
        connection.remove_notify_handler(heard.append)
        client.equal([(n.channel, n.payload) for n in heard], [(channel, "to myself")])
        client.equal(connection.execute("SELECT pg_listening_channels()").fetchall(), [(channel,)])
        connection.execute(f"UNLISTEN {channel}")
        client.equal(connection.execute("SELECT pg_listening_channels()").fetchall(), [])
        connection.execute("UNLISTEN *")

    client.in_turn(part)


@feature
def settings_reported(client: ThreadClient) -> None:
    """Those of which the server tells."""
    connection = client.connection
    zone = f"Etc/GMT+{client.number}"
    connection.execute(f"SET TimeZone TO '{zone}'")
    connection.execute(sql.SQL("SET application_name TO {}").format(sql.Literal(client.name("app"))))
    connection.execute("SET DateStyle TO 'SQL, DMY'" if client.number % 2 else "SET DateStyle TO 'German'")
    connection.execute(f"SET IntervalStyle TO {'iso_8601' if client.number % 2 else 'postgres_verbose'}")
    style = "01/02/2026" if client.number % 2 else "01.02.2026"
    for _ in range(5):
        client.equal(show(connection, "TimeZone"), zone)
        client.equal(connection.info.parameter_status("TimeZone"), zone)
        client.equal(show(connection, "application_name"), client.name("app"))
        client.equal(one(connection, "SELECT '2026-02-01'::date::text"), style)
        client.equal(one(connection, "SELECT '1 hour'::interval::text"), "PT1H" if client.number % 2 else "@ 1 hour")
    with connection.transaction():
        connection.execute("SET LOCAL TimeZone TO 'Asia/Tokyo'")
        client.equal(show(connection, "TimeZone"), "Asia/Tokyo")
    client.equal(show(connection, "TimeZone"), zone)
    with client.refused(KeyError), connection.transaction():
        connection.execute("SET TimeZone TO 'Asia/Tokyo'")
        raise KeyError
    client.equal(show(connection, "TimeZone"), zone)
    client.equal(connection.info.parameter_status("TimeZone"), zone)
    for encoding in ("latin1", "utf8"):
        connection.execute(f"SET client_encoding TO {encoding}")
        for _ in range(3):
            client.equal(one(connection, "SELECT 'ä' || chr(252)"), "äü")
    with client.refused(errors.InvalidParameterValue):
        connection.execute("SET TimeZone TO 'Nowhere/Land'")
    client.equal(show(connection, "TimeZone"), zone)


@feature
def settings(client: ThreadClient) -> None:
    """Those of which the server does not tell."""
    connection, number = client.connection, client.number
    wanted = {
        "work_mem": f"{100 + number}kB",
        "statement_timeout": f"{20001 + number}ms",
        "lock_timeout": f"{10001 + number}ms",
        "enable_seqscan": "off" if number % 2 else "on",
        "extra_float_digits": str(number % 4),
        "myapp.tenant": f"tenant {number}",
        "bytea_output": "escape" if number % 2 else "hex",
    }
    for name, value in wanted.items():
        connection.execute(sql.SQL(f"SET {name} = {{}}").format(sql.Literal(value)))
    for _ in range(5):
        client.equal({name: show(connection, name) for name in wanted}, wanted)
        client.equal(one(connection, "SELECT current_setting('myapp.tenant')"), f"tenant {number}")
    with connection.transaction():
        connection.execute("SET LOCAL work_mem = '1MB'")
        connection.execute("SET myapp.tenant = 'changed inside'")
        client.equal(show(connection, "work_mem"), "1MB")
    for _ in range(3):
        client.equal(show(connection, "work_mem"), wanted["work_mem"])
        client.equal(show(connection, "myapp.tenant"), "changed inside")
    with client.refused(KeyError), connection.transaction():
        connection.execute("SET work_mem = '3MB'")
        raise KeyError
    with client.refused(errors.DivisionByZero), connection.transaction():
        connection.execute("SET work_mem = '4MB'")
        connection.execute("SELECT 1/0")
    for _ in range(3):
        client.equal(show(connection, "work_mem"), wanted["work_mem"])


@feature
def settings_reset(client: ThreadClient) -> None:
    connection = client.connection
    default = show(connection, "work_mem")
    for back in ("RESET work_mem", "SET work_mem TO DEFAULT", "RESET ALL", "DISCARD ALL"):
        connection.execute(f"SET work_mem = '{200 + client.number}kB'")
        connection.execute(f"SET myapp.number = '{client.number}'")
        for _ in range(2):
            client.equal(show(connection, "work_mem"), f"{200 + client.number}kB")
            client.equal(show(connection, "myapp.number"), str(client.number))
        connection.execute(back)
        for _ in range(2):
            client.equal(show(connection, "work_mem"), default)
    client.equal(one(connection, "SELECT coalesce(current_setting('myapp.number', true), '')"), "")


@feature
def settings_by_function(client: ThreadClient) -> None:
    connection, number = client.connection, client.number
    client.equal(one(connection, "SELECT set_config('myapp.person', %s, false)", (f"user {number}",)), f"user {number}")
    client.equal(
        one(connection, "SELECT set_config(%s, %s, false)", ("work_mem", f"{300 + number}kB")), f"{300 + number}kB"
    )
    for _ in range(5):
        client.equal(one(connection, "SELECT current_setting('myapp.person')"), f"user {number}")
        client.equal(show(connection, "work_mem"), f"{300 + number}kB")
    with connection.transaction():
        connection.execute("SELECT set_config('myapp.person', 'local', true)")
        client.equal(show(connection, "myapp.person"), "local")
    client.equal(show(connection, "myapp.person"), f"user {number}")
    with client.refused(KeyError), connection.transaction():
        connection.execute("SELECT set_config('myapp.person', 'rolled back', false)")
        raise KeyError
    for _ in range(3):
        client.equal(show(connection, "myapp.person"), f"user {number}")


@feature
def settings_at_connect(client: ThreadClient) -> None:
    number = client.number
    options = f"-c work_mem={400 + number}kB -c search_path=pg_catalog -c myapp.start=s{number}"
    with connect(options=options, application_name=client.name("options")) as connection:
        for _ in range(4):
            client.equal(show(connection, "work_mem"), f"{400 + number}kB")
            client.equal(show(connection, "search_path"), "pg_catalog")
            client.equal(show(connection, "myapp.start"), f"s{number}")
            client.equal(show(connection, "application_name"), client.name("options"))
        connection.execute("SET work_mem = '1MB'")
        client.equal(show(connection, "work_mem"), "1MB")
        connection.execute("RESET work_mem")
        client.equal(show(connection, "work_mem"), f"{400 + number}kB")


@feature
def search_path(client: ThreadClient) -> None:
    connection, schema = client.connection, client.name("schema")
    connection.execute(f"CREATE SCHEMA {schema}")
    connection.execute(f"SET search_path TO {schema}, public")
    connection.execute("CREATE TABLE things (owner int)")
    for i in range(5):
        connection.execute("INSERT INTO things VALUES (%s)", (client.number,))
        client.equal(
            connection.execute("SELECT DISTINCT owner, count(*) OVER () FROM things").fetchone(), (client.number, i + 1)
        )
        client.equal(one(connection, "SELECT current_schema()"), schema)
    client.equal(one(connection, "SELECT count(*) FROM pg_tables WHERE schemaname = %s", (schema,)), 1)
    connection.execute("RESET search_path")
    with client.refused(errors.UndefinedTable):
        connection.execute("SELECT * FROM things")
    connection.execute(f"DROP SCHEMA {schema} CASCADE")


@feature
def roles(client: ThreadClient) -> None:
    connection = client.connection
    role = "pg_read_all_stats" if client.number % 2 else "pg_signal_backend"
    me = one(connection, "SELECT session_user")
    connection.execute(f"SET ROLE {role}")
    for _ in range(5):
        client.equal(connection.execute("SELECT session_user, current_user").fetchone(), (me, role))
    with connection.transaction():
        connection.execute("SET LOCAL ROLE NONE")
        client.equal(one(connection, "SELECT current_user"), me)
    client.equal(one(connection, "SELECT current_user"), role)
    connection.execute("RESET ROLE")
    for _ in range(3):
        client.equal(one(connection, "SELECT current_user"), me)
    with client.refused(errors.InsufficientPrivilege):
        connection.execute("SET ROLE postgres")


@feature
def session_characteristics(client: ThreadClient) -> None:
    connection = client.connection
    level = "serializable" if client.number % 2 else "repeatable read"
    connection.execute(f"SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL {level}")
    for _ in range(3):
        with connection.transaction():
            client.equal(show(connection, "transaction_isolation"), level)
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL READ COMMITTED, READ ONLY")
        client.equal(show(connection, "transaction_isolation"), "read committed")
    client.equal(show(connection, "transaction_isolation"), level)
    client.equal(show(connection, "transaction_read_only"), "off")


@feature
def temporary_tables(client: ThreadClient) -> None:
    connection = client.connection
    with connection.transaction():
        connection.execute("CREATE TEMP TABLE short_lived (a int) ON COMMIT DROP")
        connection.execute("INSERT INTO short_lived SELECT generate_series(1, %s)", (client.number + 1,))
        client.equal(one(connection, "SELECT count(*) FROM short_lived"), client.number + 1)
    with client.refused(errors.UndefinedTable):
        connection.execute("SELECT * FROM short_lived")

    def part() -> None:
        connection.execute("CREATE TEMP TABLE mine (a int PRIMARY KEY)")
        for i in range(5):
            connection.execute("INSERT INTO mine VALUES (%s)", (i,))
            client.equal(one(connection, "SELECT count(*) FROM mine"), i + 1)
        connection.execute("DROP TABLE mine")
        connection.execute("CREATE TEMP TABLE emptied ON COMMIT DELETE ROWS AS SELECT 1 AS a")
        with connection.transaction():
            connection.execute("INSERT INTO emptied VALUES (2)")
            client.equal(one(connection, "SELECT count(*) FROM emptied"), 1)
        client.equal(one(connection, "SELECT count(*) FROM emptied"), 0)
        connection.execute("DISCARD TEMP")
        with client.refused(errors.UndefinedTable):
            connection.execute("SELECT * FROM emptied")

    client.in_turn(part)


@feature
def advisory_locks(client: ThreadClient) -> None:
    connection, key = client.connection, client.key(1)
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (key,))
        client.equal(one(connection, "SELECT pg_try_advisory_xact_lock(%s)", (key,)), True)
    for _ in range(3):
        client.equal(one(connection, "SELECT pg_try_advisory_xact_lock(%s)", (key,)), True)

    def part() -> None:
        connection.execute("SELECT pg_advisory_lock(%s)", (key,))
        with connect() as other:
            for _ in range(3):
                client.equal(one(other, "SELECT pg_try_advisory_xact_lock(%s)", (key,)), False)
            client.equal(
                one(connection, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"),
                1,
            )
            client.equal(one(connection, "SELECT pg_advisory_unlock(%s)", (key,)), True)
            client.equal(one(other, "SELECT pg_try_advisory_xact_lock(%s)", (key,)), True)
        client.equal(one(connection, "SELECT pg_try_advisory_lock(%s, %s)", (key % 1000, client.number)), True)
        connection.execute("SELECT pg_advisory_unlock_all()")

    client.in_turn(part)
    client.equal(one(connection, "SELECT pg_try_advisory_xact_lock(%s)", (key,)), True)


@feature
def prepared_in_sql(client: ThreadClient) -> None:
    """The same name means another statement for each client."""
    connection, number = client.connection, client.number
    connection.execute(f"PREPARE mine (int) AS SELECT $1 * 10 + {number}")
    for i in range(6):
        client.equal(one(connection, f"EXECUTE mine ({i})"), i * 10 + number)
    with client.refused(errors.DuplicatePreparedStatement):
        connection.execute("PREPARE mine AS SELECT 1")
    with connection.transaction():
        connection.execute("PREPARE inside AS SELECT 'inside'")
        client.equal(one(connection, "EXECUTE inside"), "inside")
    client.equal(one(connection, "EXECUTE inside"), "inside")
    connection.execute("DEALLOCATE mine")
    with client.refused(errors.InvalidSqlStatementName):
        connection.execute("EXECUTE mine (1)")
    connection.execute("DEALLOCATE ALL")
    with client.refused(errors.InvalidSqlStatementName):
        connection.execute("EXECUTE inside")


@feature
def cancel(client: ThreadClient) -> None:
    connection = client.connection
    with connection.transaction():
        connection.execute("SET LOCAL statement_timeout = 40")
        with client.refused(errors.QueryCanceled), connection.transaction():
            connection.execute("SELECT pg_sleep(20)")
        client.equal(one(connection, "SELECT 1"), 1)
    client.equal(one(connection, "SELECT 2"), 2)

    def part() -> None:
        for call in ("cancel", "cancel_safe"):
            mark = client.name(call)
            with connect() as watcher:

                def stop(watcher: Any = watcher, call: str = call, mark: str = mark) -> None:
                    until(
                        lambda: one(
                            watcher,
                            "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND pid <> pg_backend_pid()"
                            " AND query LIKE %s",
                            (f"%pg_sleep%{mark}",),
                        )
                    )
                    getattr(connection, call)()

                thread = threading.Thread(target=stop)
                thread.start()
                with client.refused(errors.QueryCanceled):
                    connection.execute(f"SELECT pg_sleep(20) -- {mark}")
                thread.join()
            client.equal(one(connection, "SELECT 3"), 3)

    client.in_turn(part)


@feature
def failures(client: ThreadClient) -> None:
    connection, table = client.connection, client.name("errors")
    connection.execute(
        f"CREATE TABLE {table} (id int CONSTRAINT {table}_key PRIMARY KEY, small int CHECK (small < 10))"
    )
    connection.execute(f"INSERT INTO {table} VALUES (1, 1)")
    for query, kind in (
        ("SELEC 1", errors.SyntaxError),
        ("SELECT nothing", errors.UndefinedColumn),
        (f"SELECT * FROM {table}_absent", errors.UndefinedTable),
        ("SELECT 1/0", errors.DivisionByZero),
        ("SELECT 'x'::int", errors.InvalidTextRepresentation),
        (f"INSERT INTO {table} VALUES (1, 2)", errors.UniqueViolation),
        (f"INSERT INTO {table} VALUES (2, 20)", errors.CheckViolation),
        (f"INSERT INTO {table} VALUES (NULL)", errors.NotNullViolation),
        ("SELECT pg_read_file('/etc/hostname')", errors.InsufficientPrivilege),
    ):
        with client.refused(kind):
            connection.execute(query)
        client.equal(one(connection, "SELECT 1"), 1)
    with client.refused(errors.UniqueViolation) as caught:
        connection.execute(f"INSERT INTO {table} VALUES (%s, %s)", (1, 2))
    said = caught[0].diag
    client.equal((said.constraint_name, said.table_name, said.sqlstate), (f"{table}_key", table, "23505"))
    with client.refused(errors.DivisionByZero), connection.transaction():
        with client.refused(errors.SyntaxError):
            connection.execute("FROM nowhere")
        with client.refused(errors.InFailedSqlTransaction):
            connection.execute("SELECT 1")
        raise errors.DivisionByZero
    heard: list[str | None] = []
    connection.add_notice_handler(lambda said: heard.append(said.message_primary))
    connection.execute(f"DO $$ BEGIN RAISE NOTICE 'from {client.number}'; END $$")
    client.equal(heard, [f"from {client.number}"])
    connection.execute(f"DROP TABLE {table}")


@feature
def large_values(client: ThreadClient) -> None:
    connection = client.connection
    text = f"{client.number}ä" * 150_000
    client.equal(one(connection, "SELECT %s::text", (text,)), text)
    data = bytes(range(256)) * 1000
    for binary in (False, True):
        client.equal(
            connection.execute("SELECT %s::bytea, length(%s)", (data, data), binary=binary).fetchone(),
            (data, len(data)),
        )
    client.equal(one(connection, "SELECT repeat('z', 2000000)"), "z" * 2_000_000)
    numbers = list(range(20_000))
    client.equal(one(connection, "SELECT %s::int[]", (numbers,)), numbers)
    client.equal(len(connection.execute("SELECT i, repeat('r', 30) FROM generate_series(1, 5000) i").fetchall()), 5000)
    wide = ", ".join(f"%s::int AS c{i}" for i in range(500))
    client.equal(connection.execute(f"SELECT {wide}", list(range(500))).fetchone(), tuple(range(500)))


@feature
def types(client: ThreadClient) -> None:
    connection = client.connection
    moment = datetime.datetime(2026, 3, 4, 5, 6, 7, 89, tzinfo=datetime.timezone.utc)
    for value, kind in (
        (True, "bool"),
        (-(2**15), "int2"),
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
        (ipaddress.ip_network("10.0.0.0/8"), "cidr"),
        ([1, None, 3], "int4[]"),
        ([["a", "b"], ["c", 'd "e"']], "text[]"),
        (Range(1, 10), "int4range"),
        (Range(moment, None), "tstzrange"),
        (Int4Multirange([Range(1, 3), Range(5, 8)]), "int4multirange"),
        (None, "text"),
    ):
        for binary in (False, True):
            row = connection.execute(f"SELECT %s::{kind}", (value,), binary=binary).fetchone()
            client.equal(row, (value,))
    document = {"a": [1, 2.5, None], "b": {"c": "ü"}}
    client.equal(one(connection, "SELECT %s::jsonb", (Jsonb(document),)), document)
    mood, pair = client.name("mood"), client.name("pair")
    connection.execute(f"CREATE TYPE {mood} AS ENUM ('sad', 'glad')")
    connection.execute(f"CREATE TYPE {pair} AS (number int, word text)")
    enum = EnumInfo.fetch(connection, mood)
    register_enum(enum, connection)  # type: ignore[arg-type]
    client.equal(one(connection, f"SELECT 'glad'::{mood}"), enum.enum.glad)  # type: ignore[union-attr]
    composite = CompositeInfo.fetch(connection, pair)
    register_composite(composite, connection)  # type: ignore[arg-type]
    client.equal(tuple(one(connection, f"SELECT ROW(1, 'one')::{pair}")), (1, "one"))
    connection.execute(f"DROP TYPE {mood}; DROP TYPE {pair}")


@feature
def results(client: ThreadClient) -> None:
    """Several results of one query, row factories, rows one by one, executemany."""
    connection, table = client.connection, client.name("results")
    cursor = connection.execute("SELECT 1; SELECT 2, 3; SELECT 4 WHERE false")
    client.equal([result.fetchall() for result in cursor.results()], [[(1,)], [(2, 3)], []])
    with client.refused(errors.DivisionByZero):
        connection.execute(f"CREATE TABLE {table} (a int); SELECT 1/0; SELECT 3")
    client.equal(one(connection, "SELECT to_regclass(%s)", (table,)), None)
    connection.execute(f"CREATE TABLE {table} (id serial, word text)")
    with connection.cursor(row_factory=dict_row) as words:
        words.executemany(
            f"INSERT INTO {table} (word) VALUES (%s) RETURNING id", [(str(i),) for i in range(20)], returning=True
        )
        client.equal([result.fetchone()["id"] for result in words.results()], list(range(1, 21)))
    with connection.cursor(row_factory=namedtuple_row) as words:
        client.equal(words.execute(f"SELECT word FROM {table} WHERE id = 3").fetchone().word, "2")
    with connection.cursor() as rows:
        client.equal(sum(1 for _ in rows.stream("SELECT generate_series(1, 700)")), 700)
        for row in rows.stream("SELECT generate_series(1, 700)"):
            if row[0] == 5:
                break
        client.equal(rows.execute(f"UPDATE {table} SET word = 'x' WHERE id <= 7").rowcount, 7)
    with psycopg.ClientCursor(connection) as bound:
        client.equal(bound.execute("SELECT %s, %s", ("it's", 5)).fetchone(), ("it's", 5))
    with psycopg.RawCursor(connection) as raw:
        client.equal(raw.execute("SELECT $1::int + $2::int", (1, 2)).fetchone(), (3,))
    connection.execute(f"DROP TABLE {table}")


@feature
def procedures(client: ThreadClient) -> None:
    """CALL of a procedure that commits, and a function with a result."""
    connection, table, name = client.connection, client.name("log"), client.name("routine")
    connection.execute(f"CREATE TABLE {table} (a int)")
    connection.execute(
        f"CREATE PROCEDURE {name}(INOUT n int) LANGUAGE plpgsql AS $$ BEGIN FOR i IN 1..n LOOP"
        f" INSERT INTO {table} VALUES (i); COMMIT; END LOOP; n := n * 2; END $$"
    )
    client.equal(connection.execute(f"CALL {name}(4)").fetchone(), (8,))
    client.equal(one(connection, f"SELECT sum(a) FROM {table}"), 10)
    connection.execute(f"DROP PROCEDURE {name}; DROP TABLE {table}")


@feature
def row_locks(client: ThreadClient) -> None:
    """All clients update the same row, each holding it locked in turn."""
    connection, table = client.connection, f"{PREFIX}counter"
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (client.key(0) - client.number,))
        connection.execute(f"CREATE TABLE IF NOT EXISTS {table} (id int PRIMARY KEY, n int)")
        connection.execute(f"INSERT INTO {table} VALUES (1, 0) ON CONFLICT DO NOTHING")
    before = -1
    for _ in range(5):
        with connection.transaction():
            seen = one(connection, f"SELECT n FROM {table} WHERE id = 1 FOR UPDATE")
            client.true(seen > before, "the count grows")
            connection.execute(f"UPDATE {table} SET n = %s WHERE id = 1", (seen + 1,))
            before = seen

    own = f"SELECT n FROM {table} WHERE id = {client.number + 10} FOR UPDATE"
    connection.execute(f"INSERT INTO {table} VALUES (%s, 0)", (client.number + 10,))

    def part() -> None:
        with connect() as other, connection.transaction():
            connection.execute(own)
            with client.refused(errors.LockNotAvailable):
                other.execute(f"{own} NOWAIT")
            client.equal(other.execute(f"{own} SKIP LOCKED").fetchall(), [])

    client.in_turn(part)


@feature
def two_phase(client: ThreadClient) -> None:
    table = client.name("twophase")
    allowed = int(show(client.connection, "max_prepared_transactions")) >= 8
    client.connection.execute(f"CREATE TABLE {table} (a int)")
    for i, end in enumerate(("commit", "rollback", "recover")):
        with connect(autocommit=False) as connection:
            xid = connection.xid(1, client.name("xid"), str(i))
            connection.tpc_begin(xid)
            connection.execute(f"INSERT INTO {table} VALUES (%s)", (i,))
            if not allowed:
                with client.refused(errors.ObjectNotInPrerequisiteState):
                    connection.tpc_prepare()
                connection.tpc_rollback()
                continue
            connection.tpc_prepare()
            if end == "commit":
                connection.tpc_commit()
            elif end == "rollback":
                connection.tpc_rollback()
            else:
                connection.close()
    if allowed:
        with connect(autocommit=False) as other:
            found = [x for x in other.tpc_recover() if x.gtrid == client.name("xid")]
            client.equal([x.bqual for x in found], ["2"])
            other.rollback()
            other.tpc_commit(found[0])
    kept = [0, 2] if allowed else None
    client.equal(one(client.connection, f"SELECT array_agg(a ORDER BY a) FROM {table}"), kept)
    client.connection.execute(f"DROP TABLE {table}")


@feature
def pooled_connections(client: ThreadClient) -> None:
    """psycopg_pool: what is given back is rolled back, checked before it is lent, and configured once."""

    def configure(connection: psycopg.Connection[Any]) -> None:
        connection.execute(f"SET application_name = '{client.name('pool')}'")
        connection.commit()

    with ConnectionPool(
        "", min_size=2, max_size=3, open=True, configure=configure, check=ConnectionPool.check_connection
    ) as pool:
        pool.wait(10)
        for i in range(10):
            with pool.connection() as connection:
                client.equal(one(connection, "SELECT %s::int", (i,)), i)
                client.equal(show(connection, "application_name"), client.name("pool"))
        with client.refused(errors.DivisionByZero), pool.connection() as connection:
            connection.execute("SELECT 1/0")
        with pool.connection() as connection:
            client.equal(connection.info.transaction_status, TransactionStatus.IDLE)


@feature
def reconnects(client: ThreadClient) -> None:
    for i in range(5):
        with connect() as connection:
            client.equal(one(connection, "SELECT %s::int", (i,)), i)
            client.equal(connection.info.server_version > 120000, True)
    broken = connect(autocommit=False)
    broken.execute(f"CREATE TABLE {client.name('gone')} (a int)")
    broken.close()
    until(lambda: one(client.connection, "SELECT to_regclass(%s) IS NULL", (client.name("gone"),)))
    with client.refused(psycopg.OperationalError):
        connect(password="wrong")
    client.equal(one(client.connection, "SELECT 1"), 1)


if __name__ == "__main__":
    if psycopg.pq.version() < 140000:
        raise Wrong("pipelines need libpq 14")
    with connect() as tidying:
        tidying.execute(TIDY)
        program.run()
        tidying.execute(TIDY)
