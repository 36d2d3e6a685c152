"""asyncpg, whose statements are all prepared."""

from __future__ import annotations

import asyncio
import datetime
import decimal
import io
import json
import uuid
from typing import Any

import asyncpg
from features import TIDY, TaskClient, Tasks, until_async


async def connect(**options: Any) -> Any:
    return await asyncpg.connect(**options)


async def plain(client: TaskClient, k: int) -> bool:
    row = await client.connection.fetchrow("SELECT $1::int + 1, $2::int", k, client.number)
    return bool(tuple(row) == (k + 1, client.number))


program = Tasks(connect, plain)
feature = program.feature


async def show(connection: Any, name: str) -> Any:
    return await connection.fetchval(f"SHOW {name}")


@feature
async def transactions(client: TaskClient) -> None:
    connection, table = client.connection, client.name("tx")
    await connection.execute(f"CREATE TABLE {table} (id int PRIMARY KEY)")
    for i in range(6):
        try:
            async with connection.transaction():
                client.equal(await connection.execute(f"INSERT INTO {table} VALUES ($1)", i), "INSERT 0 1")
                client.equal(connection.is_in_transaction(), True)
                if i % 2:
                    raise KeyError
        except KeyError:
            client.equal(i % 2, 1)
    async with connection.transaction():
        with client.refused(asyncpg.UniqueViolationError):
            async with connection.transaction():
                await connection.execute(f"INSERT INTO {table} VALUES ($1)", 0)
        nested = connection.transaction()
        await nested.start()
        await connection.execute(f"INSERT INTO {table} VALUES ($1)", 10)
        await nested.rollback()
        await connection.execute(f"INSERT INTO {table} VALUES ($1)", 11)
    client.equal(await connection.fetchval(f"SELECT array_agg(id ORDER BY id) FROM {table}"), [0, 2, 4, 11])
    await connection.execute(f"DROP TABLE {table}")


@feature
async def isolation(client: TaskClient) -> None:
    connection = client.connection
    for level in ("serializable", "repeatable_read", "read_committed"):
        async with connection.transaction(isolation=level):
            client.equal(await show(connection, "transaction_isolation"), level.replace("_", " "))
    async with connection.transaction(isolation="serializable", readonly=True, deferrable=True):
        client.equal(await show(connection, "transaction_read_only"), "on")
        client.equal(await show(connection, "transaction_deferrable"), "on")
    with client.refused(asyncpg.ReadOnlySQLTransactionError):
        async with connection.transaction(readonly=True):
            await connection.execute(f"CREATE TABLE {client.name('never')} (a int)")
    client.equal(await show(connection, "transaction_read_only"), "off")


@feature
async def prepared(client: TaskClient) -> None:
    connection = client.connection
    statement = await connection.prepare(f"SELECT $1::int * 10 + {client.number}, $2::text AS word")
    for i in range(8):
        client.equal(tuple(await statement.fetchrow(i, "w")), (i * 10 + client.number, "w"))
    client.equal([a.name for a in statement.get_attributes()], ["?column?", "word"])
    client.equal([p.name for p in statement.get_parameters()], ["int4", "text"])
    many = await statement.fetchmany([(i, "m") for i in range(20)])
    client.equal([row[0] for row in many], [i * 10 + client.number for i in range(20)])
    async with connection.transaction():
        client.equal(await statement.fetchval(1, "w", column=1), "w")
    client.true("Result" in json.dumps(await statement.explain(1, "w")))
    named = await connection.prepare("SELECT $1::int", name="mine")
    for i in range(4):
        client.equal(await named.fetchval(i), i)
    client.equal(named.get_name(), "mine")


@feature
async def statement_cache(client: TaskClient) -> None:
    """More statements than the cache holds, and none cached at all."""
    for size in (4, 0):
        connection = await connect(statement_cache_size=size)
        for turn in range(3):
            for i in range(7):
                client.equal(await connection.fetchval(f"SELECT $1::int + {i}", turn), turn + i)
        with client.refused(asyncpg.DivisionByZeroError):
            await connection.fetchval("SELECT 1 / $1::int", 0)
        client.equal(await connection.fetchval("SELECT 1 / $1::int", 1), 1)
        await connection.close()


@feature
async def changed_tables(client: TaskClient) -> None:
    """A table that changed under a prepared statement: asyncpg prepares it anew when told of it."""
    connection, table = client.connection, client.name("changed")
    await connection.execute(f"CREATE TABLE {table} (a int)")
    await connection.execute(f"INSERT INTO {table} VALUES (1)")
    for _ in range(3):
        client.equal(tuple(await connection.fetchrow(f"SELECT * FROM {table}")), (1,))
    await connection.execute(f"ALTER TABLE {table} ADD COLUMN b text DEFAULT 'b'")
    for _ in range(3):
        client.equal(tuple(await connection.fetchrow(f"SELECT * FROM {table}")), (1, "b"))
    await connection.execute(f"ALTER TABLE {table} ALTER COLUMN a TYPE text")
    for _ in range(3):
        client.equal(tuple(await connection.fetchrow(f"SELECT * FROM {table}")), ("1", "b"))
    await connection.execute(f"DROP TABLE {table}")


@feature
async def pool(client: TaskClient) -> None:
    """Its pool runs its long query of RESETs whenever a connection is given back."""
    async with asyncpg.create_pool(min_size=1, max_size=3, max_inactive_connection_lifetime=0) as pool:

        async def use(i: int) -> None:
            async with pool.acquire() as connection:
                client.equal(await connection.fetchval("SELECT $1::int", i), i)
                client.equal(await show(connection, "work_mem"), "4MB")
                client.equal(await show(connection, "TimeZone"), "UTC")
                await connection.execute("SET work_mem = '1MB'")
                await connection.execute("SET TimeZone = 'Asia/Tokyo'")
                client.equal(await show(connection, "TimeZone"), "Asia/Tokyo")
                client.equal(await show(connection, "work_mem"), "1MB")

        await asyncio.gather(*(use(i) for i in range(6)))
        client.equal(await pool.fetchval("SELECT $1::text", "x"), "x")
        await pool.executemany("SELECT $1::int", [(i,) for i in range(5)])
        with client.refused(asyncpg.DivisionByZeroError):
            async with pool.acquire() as connection, connection.transaction():
                await connection.execute("SELECT 1/0")
        client.equal(await pool.fetchval("SELECT 1"), 1)


@feature
async def pool_hooks(client: TaskClient) -> None:
    async def init(connection: Any) -> None:
        await connection.set_type_codec("jsonb", encoder=json.dumps, decoder=json.loads, schema="pg_catalog")

    settings = {"application_name": client.name("pool"), "statement_timeout": "7001"}
    async with asyncpg.create_pool(min_size=1, max_size=2, init=init, server_settings=settings) as pool:
        for i in range(4):
            async with pool.acquire() as connection:
                client.equal(await connection.fetchval("SELECT $1::jsonb", {"i": [i]}), {"i": [i]})
                client.equal(await show(connection, "application_name"), client.name("pool"))
                client.equal(await show(connection, "statement_timeout"), "7001ms")


@feature
async def cursors(client: TaskClient) -> None:
    connection = client.connection
    async with connection.transaction():
        got = [
            tuple(r) async for r in connection.cursor("SELECT i, $1::int FROM generate_series(1, 300) i", client.number)
        ]
        client.equal(got, [(i, client.number) for i in range(1, 301)])
        cursor = await connection.cursor("SELECT generate_series(1, 100)")
        await cursor.forward(10)
        client.equal((await cursor.fetchrow())[0], 11)
        client.equal(len(await cursor.fetch(20)), 20)
        statement = await connection.prepare("SELECT generate_series(1, $1::int)")
        client.equal(len([r async for r in statement.cursor(70, prefetch=30)]), 70)
    with client.refused(asyncpg.NoActiveSQLTransactionError):
        async for _ in connection.cursor("SELECT 1"):
            pass


@feature
async def hold_cursors(client: TaskClient) -> None:
    connection = client.connection

    async def part() -> None:
        await connection.execute(
            f"DECLARE held CURSOR WITH HOLD FOR SELECT i * {client.number} FROM generate_series(1, 20) i"
        )
        for i in range(1, 6):
            client.equal(await connection.fetchval("FETCH 1 FROM held"), i * client.number)
        client.equal(len(await connection.fetch("FETCH ALL FROM held")), 15)
        await connection.execute("CLOSE held")

    await client.in_turn(part)


@feature
async def listeners(client: TaskClient) -> None:
    connection, channel = client.connection, client.name("channel")

    async def part() -> None:
        heard: asyncio.Queue[tuple[str, str]] = asyncio.Queue()

        def listener(connection: Any, pid: int, channel: str, payload: object) -> None:
            heard.put_nowait((channel, str(payload)))

        await connection.add_listener(channel, listener)
        other = await connect()
        await other.execute("SELECT pg_notify($1, $2)", channel, "first")
        async with other.transaction():
            await other.execute(f"NOTIFY {channel}, 'second'")
        await other.close()
        for payload in ("first", "second"):
            client.equal(await asyncio.wait_for(heard.get(), 5), (channel, payload))
        await connection.execute(f"NOTIFY {channel}, 'to myself'")
        client.equal(await asyncio.wait_for(heard.get(), 5), (channel, "to myself"))
        await connection.remove_listener(channel, listener)
        client.equal(await connection.fetch("SELECT pg_listening_channels()"), [])
        await connection.execute("UNLISTEN *")

    await client.in_turn(part)


@feature
async def copies(client: TaskClient) -> None:
    connection, table = client.connection, client.name("copy")
    await connection.execute(f"CREATE TABLE {table} (id int PRIMARY KEY, word text, at timestamptz)")
    now = datetime.datetime(2026, 1, 2, tzinfo=datetime.timezone.utc)
    records = [(i, f"w\t{i}", now) for i in range(1500)]
    client.equal(await connection.copy_records_to_table(table, records=records), "COPY 1500")
    out = io.BytesIO()
    client.equal(
        await connection.copy_from_query(f"SELECT id, word FROM {table} WHERE id >= $1", 500, output=out), "COPY 1000"
    )
    client.equal(out.getvalue().count(b"\n"), 1000)
    out = io.BytesIO()
    await connection.copy_from_table(table, output=out, format="csv", columns=["id"])
    client.equal(out.getvalue().split(), [str(i).encode() for i in range(1500)])
    await connection.execute(f"TRUNCATE {table}")
    out.seek(0)
    client.equal(await connection.copy_to_table(table, source=out, format="csv", columns=["id"]), "COPY 1500")

    async def slowly() -> Any:
        for i in range(2000, 2100):
            await asyncio.sleep(0)
            yield (i, "async", now)

    client.equal(await connection.copy_records_to_table(table, records=slowly()), "COPY 100")
    with client.refused(asyncpg.UniqueViolationError):
        await connection.copy_records_to_table(table, records=records[:1])
    with client.refused(asyncpg.BadCopyFileFormatError):
        await connection.copy_to_table(table, source=io.BytesIO(b"1,2,3,4\n"), format="csv")
    with client.refused(asyncpg.DivisionByZeroError):
        await connection.copy_from_query("SELECT 1 / (500 - i) FROM generate_series(1, 1000) i", output=io.BytesIO())
    client.equal(await connection.fetchval(f"SELECT count(*) FROM {table}"), 1600)
    await connection.execute(f"DROP TABLE {table}")


@feature
async def settings(client: TaskClient) -> None:
    connection, number = client.connection, client.number
    wanted = {
        "work_mem": f"{100 + number}kB",
        "lock_timeout": f"{20001 + number}ms",
        "myapp.tenant": f"tenant {number}",
        "TimeZone": f"Etc/GMT+{number}",
        "application_name": client.name("app"),
        "search_path": f"{client.name('nowhere')}, public",
    }
    for name, value in wanted.items():
        await connection.execute(f"SET {name} TO {value}" if name == "search_path" else f"SET {name} TO '{value}'")
    for _ in range(4):
        client.equal({name: await show(connection, name) for name in wanted}, wanted)
    client.equal(connection.get_settings().TimeZone, wanted["TimeZone"])
    await connection.execute("SELECT set_config('myapp.tenant', $1, false)", f"other {number}")
    for _ in range(3):
        client.equal(await show(connection, "myapp.tenant"), f"other {number}")
    async with connection.transaction():
        await connection.execute("SELECT set_config('myapp.tenant', 'local', true)")
        client.equal(await show(connection, "myapp.tenant"), "local")
    client.equal(await show(connection, "myapp.tenant"), f"other {number}")
    await connection.reset()
    client.equal((await show(connection, "work_mem"), await show(connection, "TimeZone")), ("4MB", "UTC"))


@feature
async def roles(client: TaskClient) -> None:
    connection = client.connection
    role = "pg_read_all_stats" if client.number % 2 else "pg_signal_backend"
    me = await connection.fetchval("SELECT session_user::text")
    await connection.execute(f"SET ROLE {role}")
    for _ in range(4):
        client.equal(await connection.fetchval("SELECT current_user::text"), role)
    await connection.execute("RESET ROLE")
    for _ in range(2):
        client.equal(await connection.fetchval("SELECT current_user::text"), me)


@feature
async def temporary_tables(client: TaskClient) -> None:
    connection = client.connection

    async def part() -> None:
        await connection.execute("CREATE TEMP TABLE mine (a int)")
        await connection.copy_records_to_table("mine", records=[(i,) for i in range(client.number)])
        for _ in range(4):
            client.equal(await connection.fetchval("SELECT count(*) FROM mine"), client.number)
        await connection.execute("DROP TABLE mine")

    await client.in_turn(part)


@feature
async def advisory_locks(client: TaskClient) -> None:
    connection, key = client.connection, client.key(4)

    async def part() -> None:
        client.equal(await connection.fetchval("SELECT pg_try_advisory_lock($1)", key), True)
        other = await connect()
        for _ in range(3):
            client.equal(await other.fetchval("SELECT pg_try_advisory_xact_lock($1)", key), False)
        client.equal(await connection.fetchval("SELECT pg_advisory_unlock($1)", key), True)
        client.equal(await other.fetchval("SELECT pg_try_advisory_xact_lock($1)", key), True)
        await other.close()

    await client.in_turn(part)


@feature
async def prepared_in_sql(client: TaskClient) -> None:
    connection, number = client.connection, client.number
    await connection.execute(f"PREPARE mine (int) AS SELECT $1 * 10 + {number}")
    for i in range(5):
        client.equal(await connection.fetchval(f"EXECUTE mine ({i})"), i * 10 + number)
    await connection.execute("DEALLOCATE mine")
    with client.refused(asyncpg.InvalidSQLStatementNameError):
        await connection.execute("EXECUTE mine (1)")


@feature
async def time_limits(client: TaskClient) -> None:
    """A query that takes too long is cancelled on the server, and the connection goes on."""
    connection = client.connection

    async def part() -> None:
        mark = client.name("cancel")
        with client.refused(asyncio.TimeoutError):
            await connection.execute(f"SELECT pg_sleep(20) -- {mark}", timeout=0.04)
        client.equal(await connection.fetchval("SELECT 1"), 1)

        async def gone() -> Any:
            query = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query = $1"
            return await connection.fetchval(query, f"SELECT pg_sleep(20) -- {mark}") == 0

        await until_async(gone)
        task = asyncio.create_task(connection.fetchval("SELECT pg_sleep(20)"))
        await asyncio.sleep(0.02)
        task.cancel()
        with client.refused(asyncio.CancelledError):
            await task
        client.equal(await connection.fetchval("SELECT 2"), 2)

    await client.in_turn(part)


@feature
async def failures(client: TaskClient) -> None:
    connection, table = client.connection, client.name("errors")
    await connection.execute(f"CREATE TABLE {table} (id int CONSTRAINT {table}_key PRIMARY KEY)")
    for query, kind in (
        ("SELEC 1", asyncpg.PostgresSyntaxError),
        ("SELECT nothing", asyncpg.UndefinedColumnError),
        ("SELECT 1/0", asyncpg.DivisionByZeroError),
        (f"INSERT INTO {table} VALUES (1), (1)", asyncpg.UniqueViolationError),
        ("SELECT 1; SELECT 1/0; SELECT 2", asyncpg.DivisionByZeroError),
    ):
        for call in (connection.execute, connection.fetch):
            if ";" in query and call == connection.fetch:
                continue
            with client.refused(kind) as caught:
                await call(query)
            client.equal(await connection.fetchval("SELECT 1"), 1)
    client.equal(caught[0].sqlstate, "22012")
    with client.refused(asyncpg.InFailedSQLTransactionError):
        async with connection.transaction():
            with client.refused(asyncpg.DivisionByZeroError):
                await connection.execute("SELECT 1/0")
            await connection.execute("SELECT 1")
    with client.refused(asyncpg.UniqueViolationError) as caught:
        await connection.executemany(f"INSERT INTO {table} VALUES ($1)", [(1,), (2,), (1,)])
    client.equal((caught[0].constraint_name, caught[0].table_name), (f"{table}_key", table))
    client.equal(await connection.fetchval(f"SELECT count(*) FROM {table}"), 0)
    heard: list[str] = []
    connection.add_log_listener(lambda connection, message: heard.append(message.message))
    await connection.execute(f"DO $$ BEGIN RAISE NOTICE 'from {client.number}'; END $$")
    await until_async(lambda: asyncio.sleep(0, bool(heard)))
    client.equal(heard, [f"from {client.number}"])
    await connection.execute(f"DROP TABLE {table}")


@feature
async def types(client: TaskClient) -> None:
    """Types of the user's own are looked up in the catalogues with a long recursive query, without JIT."""
    connection = client.connection
    mood, pair, small = client.name("mood"), client.name("pair"), client.name("small")
    await connection.execute(f"CREATE TYPE {mood} AS ENUM ('sad', 'glad')")
    await connection.execute(f"CREATE DOMAIN {small} AS int CHECK (value < 100)")
    await connection.execute(f"CREATE TYPE {pair} AS (number {small}, mood {mood}, at date)")
    date = datetime.date(2026, 2, 3)
    for _ in range(3):
        client.equal(await connection.fetchval(f"SELECT $1::{mood}", "glad"), "glad")
        client.equal(tuple(await connection.fetchval(f"SELECT $1::{pair}", (1, "sad", date))), (1, "sad", date))
        got = await connection.fetchval(f"SELECT ARRAY[ROW(2, 'glad', $1::date)::{pair}]", date)
        client.equal([tuple(row) for row in got], [(2, "glad", date)])
        client.equal(await connection.fetchval(f"SELECT $1::{mood}[]", ["sad", "glad"]), ["sad", "glad"])
    await connection.set_type_codec(mood, encoder=str.lower, decoder=str.upper)
    client.equal(await connection.fetchval(f"SELECT $1::{mood}", "GLAD"), "GLAD")
    moment = datetime.datetime(2026, 3, 4, 5, 6, 7, 89, tzinfo=datetime.timezone.utc)
    for value, kind in (
        (True, "bool"),
        (-(2**63), "int8"),
        (0.1, "float8"),
        (decimal.Decimal("12345678901234567890.000100"), "numeric"),
        ("häß 'quoted' €", "text"),
        (b"\x00\xff\\", "bytea"),
        (moment, "timestamptz"),
        (moment.replace(tzinfo=None), "timestamp"),
        (datetime.timedelta(days=3, seconds=4, microseconds=5), "interval"),
        (uuid.UUID(int=client.number + 1), "uuid"),
        ([[1, 2], [3, None]], "int4[]"),
        (asyncpg.Range(1, 10), "int4range"),
        (asyncpg.Point(1, 2), "point"),
        (asyncpg.BitString("10110"), "varbit"),
        ('{"a": 1}', "jsonb"),
        (None, "text"),
    ):
        client.equal(await connection.fetchval(f"SELECT $1::{kind}", value), value)
    await connection.execute(f"DROP TYPE {pair}; DROP DOMAIN {small}; DROP TYPE {mood}")


@feature
async def large_values(client: TaskClient) -> None:
    connection = client.connection
    text = f"{client.number}ä" * 150_000
    client.equal(await connection.fetchval("SELECT $1::text", text), text)
    data = bytes(range(256)) * 2000
    client.equal(tuple(await connection.fetchrow("SELECT $1::bytea, length($1)", data)), (data, len(data)))
    numbers = list(range(20_000))
    client.equal(await connection.fetchval("SELECT $1::int[]", numbers), numbers)
    client.equal(len(await connection.fetch("SELECT i, repeat('r', 30) FROM generate_series(1, 5000) i")), 5000)


@feature
async def batches(client: TaskClient) -> None:
    connection, table = client.connection, client.name("batch")
    await connection.execute(f"CREATE TABLE {table} (id int, word text); INSERT INTO {table} VALUES (-1, 'script')")
    await connection.executemany(f"INSERT INTO {table} VALUES ($1, $2)", [(i, str(i)) for i in range(600)])
    rows = await connection.fetchmany(f"SELECT word FROM {table} WHERE id = $1", [(i,) for i in range(0, 50, 5)])
    client.equal([row["word"] for row in rows], [str(i) for i in range(0, 50, 5)])
    client.equal(await connection.execute(f"UPDATE {table} SET word = 'x' WHERE id < $1", 100), "UPDATE 101")
    client.equal(await connection.fetchval(f"SELECT count(*) FROM {table}"), 601)
    await connection.execute(f"DROP TABLE {table}")


async def main() -> None:
    tidying = await connect()
    await tidying.execute(TIDY)
    await program.run()
    await tidying.execute(TIDY)
    await tidying.close()


if __name__ == "__main__":
    asyncio.run(main())
