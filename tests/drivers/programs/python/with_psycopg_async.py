"""psycopg 3 on asyncio."""

from __future__ import annotations

import asyncio
from typing import Any

import psycopg
from features import TIDY, TaskClient, Tasks, until_async
from psycopg import errors
from psycopg.rows import class_row, dict_row
from psycopg_pool import AsyncConnectionPool


async def connect(**options: Any) -> psycopg.AsyncConnection[Any]:
    return await psycopg.AsyncConnection.connect("", **{"autocommit": True, **options})


async def plain(client: TaskClient, k: int) -> bool:
    cursor = await client.connection.execute("SELECT %s::int + 1, %s::int", (k, client.number))
    return bool(await cursor.fetchone() == (k + 1, client.number))


program = Tasks(connect, plain)
feature = program.feature


async def rows(connection: psycopg.AsyncConnection[Any], query: str, parameters: Any = None) -> Any:
    cursor = await connection.execute(query, parameters)
    return await cursor.fetchall() if cursor.description else None


async def one(connection: psycopg.AsyncConnection[Any], query: str, parameters: Any = None) -> Any:
    found = await rows(connection, query, parameters)
    return found[0][0] if found else None


async def show(connection: psycopg.AsyncConnection[Any], name: str) -> Any:
    return await one(connection, f"SHOW {name}")


@feature
async def transactions(client: TaskClient) -> None:
    connection, table = client.connection, client.name("tx")
    await rows(connection, f"CREATE TABLE {table} (id int PRIMARY KEY)")
    for i in range(6):
        try:
            async with connection.transaction():
                await rows(connection, f"INSERT INTO {table} VALUES (%s)", (i,))
                if i % 2:
                    raise KeyError
        except KeyError:
            client.equal(i % 2, 1)
    async with connection.transaction():
        with client.refused(errors.UniqueViolation):
            async with connection.transaction():
                await rows(connection, f"INSERT INTO {table} VALUES (0)")
        async with connection.transaction("named"):
            await rows(connection, f"INSERT INTO {table} VALUES (10)")
        async with connection.transaction(force_rollback=True):
            await rows(connection, f"INSERT INTO {table} VALUES (11)")
    client.equal(await one(connection, f"SELECT array_agg(id ORDER BY id) FROM {table}"), [0, 2, 4, 10])
    async with await connect(autocommit=False) as other:
        await other.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
        await other.set_read_only(True)
        client.equal(await show(other, "transaction_isolation"), "repeatable read")
        with client.refused(errors.ReadOnlySqlTransaction):
            await rows(other, f"DELETE FROM {table}")
        await other.rollback()
        client.equal(await one(other, f"SELECT count(*) FROM {table}"), 4)
    await rows(connection, f"DROP TABLE {table}")


@feature
async def prepared(client: TaskClient) -> None:
    for threshold in (0, 5):
        async with await connect(prepare_threshold=threshold) as connection:
            connection.prepared_max = 5
            for turn in range(4):
                for i in range(7):
                    query = f"SELECT %s::int + {i}, %s::text"
                    client.equal(await rows(connection, query, (turn, str(i))), [(turn + i, str(i))])
            with client.refused(errors.DivisionByZero):
                await rows(connection, "SELECT 1 / %s::int", (0,))
            client.equal(await one(connection, "SELECT 1 / %s::int", (1,)), 1)


@feature
async def pipelines(client: TaskClient) -> None:
    connection = client.connection
    for turn in range(3):
        async with connection.pipeline():
            cursors = [await connection.execute("SELECT %s::int, %s::int", (turn, i)) for i in range(30)]
            client.equal([await cursor.fetchone() for cursor in cursors], [(turn, i) for i in range(30)])
    async with connection.pipeline() as pipeline:
        with client.refused(errors.DivisionByZero):
            await (await connection.execute("SELECT 1/0")).fetchone()
        await pipeline.sync()
        client.equal(await (await connection.execute("SELECT 1")).fetchone(), (1,))
    async with connection.pipeline(), connection.transaction():
        await connection.execute(f"CREATE TABLE {client.name('pipe')} (a int)")
        async with connection.cursor() as cursor:
            await cursor.executemany(f"INSERT INTO {client.name('pipe')} VALUES (%s)", [(i,) for i in range(30)])
    client.equal(await one(connection, f"SELECT sum(a) FROM {client.name('pipe')}"), 435)
    await rows(connection, f"DROP TABLE {client.name('pipe')}")


@feature
async def copies(client: TaskClient) -> None:
    connection, table = client.connection, client.name("copy")
    await rows(connection, f"CREATE TABLE {table} (id int PRIMARY KEY, word text)")
    async with connection.cursor() as cursor:
        async with cursor.copy(f"COPY {table} FROM STDIN (FORMAT BINARY)") as copy:
            copy.set_types(["int4", "text"])
            for i in range(800):
                await copy.write_row((i, f"w{i}"))
        async with cursor.copy(f"COPY (SELECT * FROM {table} ORDER BY id) TO STDOUT") as copy:
            copy.set_types(["int4", "text"])
            client.equal([row async for row in copy.rows()], [(i, f"w{i}") for i in range(800)])
        with client.refused(errors.UniqueViolation):
            async with cursor.copy(f"COPY {table} FROM STDIN") as copy:
                await copy.write_row((1, "again"))
        with client.refused(KeyError):
            async with cursor.copy(f"COPY {table} FROM STDIN") as copy:
                await copy.write_row((10000, "never"))
                raise KeyError
        with client.refused(KeyError):
            async with cursor.copy("COPY (SELECT generate_series(1, 100000)) TO STDOUT") as copy:
                async for _ in copy:
                    raise KeyError
    client.equal(await one(connection, f"SELECT count(*) FROM {table}"), 800)
    await rows(connection, f"DROP TABLE {table}")


@feature
async def server_cursors(client: TaskClient) -> None:
    connection = client.connection
    async with connection.transaction(), connection.cursor("rows", scrollable=True) as cursor:
        cursor.itersize = 100
        await cursor.execute("SELECT i, %s::int FROM generate_series(1, 600) i", (client.number,))
        client.equal(await cursor.fetchone(), (1, client.number))
        client.equal(len(await cursor.fetchmany(50)), 50)
        client.equal(len([row async for row in cursor]), 549)
        await cursor.scroll(0, mode="absolute")
        client.equal(await cursor.fetchone(), (1, client.number))
    async with connection.cursor() as cursor:
        client.equal(len([row async for row in cursor.stream("SELECT generate_series(1, 300)")]), 300)

    async def part() -> None:
        async with connection.cursor("held", withhold=True) as cursor:
            await cursor.execute("SELECT i * %s FROM generate_series(1, 300) i", (client.number,))
            for i in range(1, 6):
                client.equal(await cursor.fetchone(), (i * client.number,))
                client.equal(await one(connection, "SELECT %s::int", (i,)), i)
            client.equal(len(await cursor.fetchall()), 295)

    await client.in_turn(part)


@feature
async def listen_notify(client: TaskClient) -> None:
    connection, channel = client.connection, client.name("channel")

    async def part() -> None:
        await rows(connection, f"LISTEN {channel}")
        async with await connect() as other:
            for payload in ("first", "second"):
                await rows(other, "SELECT pg_notify(%s, %s)", (channel, payload))
            heard = [n.payload async for n in connection.notifies(timeout=5, stop_after=2)]
            client.equal(heard, ["first", "second"])

            async def soon() -> None:
                async with other.transaction():
                    await rows(other, f"NOTIFY {channel}, 'while waiting'")

            task = asyncio.create_task(soon())
            client.equal([n.payload async for n in connection.notifies(timeout=5, stop_after=1)], ["while waiting"])
            await task
        await rows(connection, "UNLISTEN *")
        client.equal(await rows(connection, "SELECT pg_listening_channels()"), [])

    await client.in_turn(part)


@feature
async def settings(client: TaskClient) -> None:
    connection, number = client.connection, client.number
    wanted = {
        "work_mem": f"{100 + number}kB",
        "lock_timeout": f"{20001 + number}ms",
        "myapp.tenant": f"tenant {number}",
        "TimeZone": f"Etc/GMT+{number}",
        "application_name": client.name("app"),
    }
    for name, value in wanted.items():
        client.equal(await one(connection, "SELECT set_config(%s, %s, false)", (name, value)), value)
    await rows(connection, f"SET search_path TO {client.name('nowhere')}, public")
    wanted["search_path"] = f"{client.name('nowhere')}, public"
    for _ in range(5):
        client.equal({name: await show(connection, name) for name in wanted}, wanted)
    async with connection.transaction(force_rollback=True):
        await rows(connection, "SET work_mem = '5MB'")
        await rows(connection, "SET TimeZone = 'UTC'")
    async with connection.pipeline():
        await rows(connection, f"SET myapp.tenant = 'in a pipeline {number}'")
    wanted["myapp.tenant"] = f"in a pipeline {number}"
    for _ in range(3):
        client.equal({name: await show(connection, name) for name in wanted}, wanted)
    await rows(connection, "RESET ALL")
    client.equal((await show(connection, "work_mem"), await show(connection, "TimeZone")), ("4MB", "UTC"))


@feature
async def roles(client: TaskClient) -> None:
    connection = client.connection
    role = "pg_read_all_stats" if client.number % 2 else "pg_signal_backend"
    me = await one(connection, "SELECT session_user")
    await rows(connection, f"SET ROLE {role}")
    for _ in range(4):
        client.equal(await rows(connection, "SELECT session_user, current_user"), [(me, role)])
    await rows(connection, "SET ROLE NONE")
    client.equal(await one(connection, "SELECT current_user"), me)


@feature
async def temporary_tables(client: TaskClient) -> None:
    connection = client.connection

    async def part() -> None:
        await rows(connection, "CREATE TEMP TABLE mine AS SELECT generate_series(1, %s::int) AS a", (client.number,))
        for _ in range(4):
            client.equal(await one(connection, "SELECT count(*) FROM mine"), client.number)
        await rows(connection, "DROP TABLE mine")

    await client.in_turn(part)


@feature
async def advisory_locks(client: TaskClient) -> None:
    connection, key = client.connection, client.key(3)

    async def part() -> None:
        client.equal(await one(connection, "SELECT pg_try_advisory_lock(%s::bigint)", (key,)), True)
        async with await connect() as other:
            for _ in range(3):
                client.equal(await one(other, "SELECT pg_try_advisory_xact_lock(%s::bigint)", (key,)), False)
            client.equal(await one(connection, "SELECT pg_advisory_unlock(%s::bigint)", (key,)), True)
            client.equal(await one(other, "SELECT pg_try_advisory_xact_lock(%s::bigint)", (key,)), True)

    await client.in_turn(part)


@feature
async def prepared_in_sql(client: TaskClient) -> None:
    connection, number = client.connection, client.number
    await rows(connection, f"PREPARE mine (int) AS SELECT $1 * 10 + {number}")
    for i in range(6):
        client.equal(await one(connection, f"EXECUTE mine ({i})"), i * 10 + number)
    await rows(connection, "DEALLOCATE mine")
    with client.refused(errors.InvalidSqlStatementName):
        await rows(connection, "EXECUTE mine (1)")


@feature
async def cancelled_tasks(client: TaskClient) -> None:
    """A task that is cancelled in a query cancels it on the server; so does a time limit."""
    connection = client.connection

    async def part() -> None:
        mark = client.name("cancel")
        async with await connect() as watcher:

            async def active() -> Any:
                query = (
                    "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND pid <> pg_backend_pid()"
                    " AND query LIKE %s"
                )
                return await one(watcher, query, (f"%pg_sleep%{mark}",))

            async def inactive() -> bool:
                return not await active()

            task = asyncio.create_task(rows(connection, f"SELECT pg_sleep(20) -- {mark}"))
            await until_async(active)
            task.cancel()
            with client.refused(asyncio.CancelledError):
                await task
            await until_async(inactive)
        async with await connect() as own:
            with client.refused(asyncio.TimeoutError):
                await asyncio.wait_for(rows(own, "SELECT pg_sleep(20)"), 0.03)
        client.equal(await one(client.connection, "SELECT 3"), 3)

    await client.in_turn(part)


@feature
async def failures(client: TaskClient) -> None:
    connection = client.connection
    for query, kind in (
        ("SELEC 1", errors.SyntaxError),
        ("SELECT nothing", errors.UndefinedColumn),
        ("SELECT 1/0", errors.DivisionByZero),
        ("SELECT %s::int", errors.InvalidTextRepresentation),
    ):
        with client.refused(kind):
            await rows(connection, query, ("x",) if "%s" in query else None)
        client.equal(await one(connection, "SELECT 1"), 1)
    with client.refused(errors.InFailedSqlTransaction):
        async with connection.transaction():
            with client.refused(errors.DivisionByZero):
                await rows(connection, "SELECT 1/0")
            await rows(connection, "SELECT 1")
    heard: list[str | None] = []
    connection.add_notice_handler(lambda said: heard.append(said.message_primary))
    await rows(connection, f"DO $$ BEGIN RAISE NOTICE 'from {client.number}'; END $$")
    client.equal(heard, [f"from {client.number}"])


@feature
async def values(client: TaskClient) -> None:
    connection = client.connection
    text = f"{client.number}ä" * 100_000
    client.equal(await one(connection, "SELECT %s::text", (text,)), text)
    data = bytes(range(256)) * 1000
    cursor = await connection.execute("SELECT %s::bytea, length(%s)", (data, data), binary=True)
    client.equal(await cursor.fetchone(), (data, len(data)))
    async with connection.cursor(row_factory=dict_row) as dicts:
        await dicts.execute("SELECT 1 AS a, ARRAY[1, 2] AS b, '{\"c\": 3}'::jsonb AS d")
        client.equal(await dicts.fetchone(), {"a": 1, "b": [1, 2], "d": {"c": 3}})
    async with connection.cursor(row_factory=class_row(dict)) as dicts:
        await dicts.execute("SELECT i AS n FROM generate_series(1, 5) i")
        client.equal([row["n"] async for row in dicts], [1, 2, 3, 4, 5])


@feature
async def pooled_connections(client: TaskClient) -> None:
    async def configure(connection: psycopg.AsyncConnection[Any]) -> None:
        await connection.execute(f"SET application_name = '{client.name('pool')}'")
        await connection.commit()

    async with AsyncConnectionPool(
        "", min_size=2, max_size=3, open=False, configure=configure, check=AsyncConnectionPool.check_connection
    ) as pool:
        await pool.wait(10)

        async def use(i: int) -> None:
            async with pool.connection() as connection:
                client.equal(await one(connection, "SELECT %s::int", (i,)), i)
                client.equal(await show(connection, "application_name"), client.name("pool"))

        await asyncio.gather(*(use(i) for i in range(8)))
        with client.refused(errors.DivisionByZero):
            async with pool.connection() as connection:
                await rows(connection, "SELECT 1/0")
        client.equal(pool.get_stats().get("requests_errors", 0), 0)


async def main() -> None:
    async with await connect() as tidying:
        await rows(tidying, TIDY)
        await program.run()
        await rows(tidying, TIDY)


if __name__ == "__main__":
    asyncio.run(main())
