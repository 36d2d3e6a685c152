"""asyncpg: its pool with RESET on release, named statements with Flush, cursors, COPY, cancellation."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import pytest
from eventually import eventually
from fix_doorman import Doorman, until_idle
from fix_postgres import Postgres
from pace import patience


def parameters(doorman: Doorman, database: str) -> dict[str, Any]:
    return {
        "host": doorman.host,
        "port": doorman.port,
        "user": "app",
        "password": Postgres.PASSWORDS["app"],
        "database": database,
        "ssl": False,
        "timeout": 15,
    }


def run(doorman: Doorman, database: str, work: Callable[[asyncpg.Connection], Awaitable[None]], **more: Any) -> None:
    async def main() -> None:
        connection = await asyncpg.connect(**parameters(doorman, database), **more)
        try:
            await work(connection)
        finally:
            await connection.close(timeout=patience(10))

    asyncio.run(main())


def test_statements(doorman: Doorman, database: str) -> None:
    async def work(connection: asyncpg.Connection) -> None:
        for i in range(50):
            assert await connection.fetchval("SELECT $1::int + 1", i) == i + 1
        with pytest.raises(asyncpg.UndefinedTableError):
            await connection.fetch("SELECT * FROM no_such_table")
        with pytest.raises(asyncpg.DivisionByZeroError):
            await connection.fetch("SELECT 1/$1::int", 0)
        assert await connection.fetchval("SELECT 1") == 1
        assert [tuple(r) for r in await connection.fetch("SELECT generate_series(1, 3), 'x'")] == [
            (1, "x"),
            (2, "x"),
            (3, "x"),
        ]

    run(doorman, database, work)


def test_more_statements_than_the_driver_keeps(doorman: Doorman, database: str) -> None:
    async def work(connection: asyncpg.Connection) -> None:
        for _ in range(3):
            for i in range(20):
                assert await connection.fetchrow(f"SELECT {i}, $1::int", i) == (i, i)

    run(doorman, database, work, statement_cache_size=5)


def test_no_statement_cache(doorman: Doorman, database: str) -> None:
    async def work(connection: asyncpg.Connection) -> None:
        for i in range(20):
            assert await connection.fetchval("SELECT $1::int", i) == i

    run(doorman, database, work, statement_cache_size=0)


def test_prepared(doorman: Doorman, database: str) -> None:
    async def work(connection: asyncpg.Connection) -> None:
        statement = await connection.prepare("SELECT $1::int AS a, $2::text AS b")
        assert [a.name for a in statement.get_attributes()] == ["a", "b"]
        for i in range(10):
            assert await statement.fetchrow(i, str(i)) == (i, str(i))
        assert await statement.fetchmany([(1, "a"), (2, "b")]) == [(1, "a"), (2, "b")]
        assert "Result" in str(await statement.explain(1, "x"))

    run(doorman, database, work)


def test_transactions_and_cursors(doorman: Doorman, database: str) -> None:
    async def work(connection: asyncpg.Connection) -> None:
        await connection.execute(
            "DROP TABLE IF EXISTS by_asyncpg; CREATE TABLE by_asyncpg (id int PRIMARY KEY, d text)"
        )
        async with connection.transaction():
            await connection.executemany("INSERT INTO by_asyncpg VALUES ($1, $2)", [(i, str(i)) for i in range(200)])
            with pytest.raises(asyncpg.UniqueViolationError):
                async with connection.transaction():
                    await connection.execute("INSERT INTO by_asyncpg VALUES (1, 'x')")
            assert await connection.fetchval("SELECT count(*) FROM by_asyncpg") == 200
        async with connection.transaction(isolation="serializable", readonly=True):
            got = [r["id"] async for r in connection.cursor("SELECT id FROM by_asyncpg ORDER BY id", prefetch=7)]
            assert got == list(range(200))
            cursor = await connection.cursor("SELECT generate_series(1, 100)")
            assert len(await cursor.fetch(10)) == 10
            await cursor.forward(50)
            assert await cursor.fetchrow() == (61,)

    run(doorman, database, work)


def test_copy(doorman: Doorman, database: str) -> None:
    async def work(connection: asyncpg.Connection) -> None:
        await connection.execute(
            "DROP TABLE IF EXISTS copied_by_asyncpg; CREATE TABLE copied_by_asyncpg (a int, b text)"
        )
        records = [(i, f"row {i}") for i in range(20000)]
        assert await connection.copy_records_to_table("copied_by_asyncpg", records=records) == "COPY 20000"
        out = io.BytesIO()
        assert await connection.copy_from_query("SELECT * FROM copied_by_asyncpg", output=out) == "COPY 20000"
        assert out.getvalue().count(b"\n") == 20000
        with pytest.raises(asyncpg.BadCopyFileFormatError):
            await connection.copy_to_table("copied_by_asyncpg", source=io.BytesIO(b"a\tb\tc\n"))
        assert await connection.fetchval("SELECT count(*) FROM copied_by_asyncpg") == 20000

    run(doorman, database, work)


def test_cancellation_by_timeout(doorman: Doorman, postgres: Postgres, database: str) -> None:
    async def work(connection: asyncpg.Connection) -> None:
        for _ in range(3):
            with pytest.raises(asyncio.TimeoutError):
                await connection.fetch("SELECT pg_sleep(30), 'asyncpg timeout'", timeout=0.2)
            assert await connection.fetchval("SELECT 1") == 1

    run(doorman, database, work)
    eventually(lambda: not any("asyncpg timeout" in b["query"] and b["state"] == "active" for b in postgres.backends()))


def test_pool(doorman: Doorman, database: str) -> None:
    """Its release runs pg_advisory_unlock_all, CLOSE ALL, UNLISTEN *, RESET ALL: harmless through the pooler."""

    async def main() -> None:
        async with asyncpg.create_pool(**parameters(doorman, database), min_size=2, max_size=10) as pool:

            async def one(seed: int) -> None:
                for step in range(20):
                    async with pool.acquire() as connection, connection.transaction():
                        assert await connection.fetchrow("SELECT $1::int, $2::int", seed, step) == (seed, step)

            await asyncio.gather(*(one(seed) for seed in range(30)))

    asyncio.run(main())
    until_idle(doorman, database)


def test_server_settings(doorman: Doorman, database: str) -> None:
    async def work(connection: asyncpg.Connection) -> None:
        other = await asyncpg.connect(**parameters(doorman, database))
        try:
            for _ in range(3):
                assert await connection.fetchval("SHOW application_name") == "by asyncpg"
                assert await connection.fetchval("SHOW lock_timeout") == "4321ms"
                assert await other.fetchval("SHOW lock_timeout") == "0"
        finally:
            await other.close()

    run(doorman, database, work, server_settings={"application_name": "by asyncpg", "lock_timeout": "4321"})


def test_listen_in_session_mode(doorman: Doorman) -> None:
    async def work(connection: asyncpg.Connection) -> None:
        heard: asyncio.Queue[str] = asyncio.Queue()
        await connection.add_listener("asyncpg_channel", lambda c, pid, channel, payload: heard.put_nowait(payload))
        await connection.execute("NOTIFY asyncpg_channel, 'payload'")
        assert await asyncio.wait_for(heard.get(), 15) == "payload"
        await connection.remove_listener("asyncpg_channel", lambda *a: None)

    run(doorman, "own", work)


def test_types_are_introspected(doorman: Doorman, database: str) -> None:
    """A composite type makes asyncpg query the catalogue by a long prepared statement first."""

    async def work(connection: asyncpg.Connection) -> None:
        await connection.execute("DROP TYPE IF EXISTS pair_of_things CASCADE")
        await connection.execute("CREATE TYPE pair_of_things AS (a int, b text)")
        row = await connection.fetchval("SELECT ROW(1, 'x')::pair_of_things")
        assert tuple(row) == (1, "x")

    run(doorman, database, work)
