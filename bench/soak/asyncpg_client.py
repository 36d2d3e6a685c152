"""asyncpg in tasks of one event loop: binary results, its prepared statements, cursors, COPY, LISTEN, time limits."""

from __future__ import annotations

import asyncio
import contextlib
import io
from typing import Any

import asyncpg

from bench.soak.journal import GONE, Wrong
from bench.soak.workers import PAUSE, Self

CONNECT_SECONDS = 30
OPERATIONS = {
    "query": 12,
    "several": 6,
    "statement": 8,
    "transaction": 6,
    "told": 8,
    "many": 3,
    "cursor": 3,
    "copy_out": 2,
    "copy_in": 2,
    "listen": 2,
    "time_limit": 1,
    "error": 3,
    "reset": 2,
    "leave": 1,
}
ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, asyncio.TimeoutError)


class AsyncpgClient:
    """One task, one connection."""

    def __init__(self, me: Self) -> None:
        self.me = me
        self.c: Any = None

    async def run(self) -> None:
        me = self.me
        while not me.gate.over:
            if me.gate.rests(me.number):
                await asyncio.sleep(0.02)
                continue
            operation = me.choose(OPERATIONS) if self.c is not None else "connect"
            me.begins(operation)
            try:
                await getattr(self, operation)()
                me.did()
            except Exception as error:
                code = self.code(error)
                me.journal.judge(me.who, me.doing, error, code)
                if operation == "connect" or code in GONE:
                    await asyncio.sleep(PAUSE)
                if self.c is not None:
                    self.c.terminate()
                    self.c = None
            await asyncio.sleep(me.random.random() * 0.02)
        if self.c is not None:
            me.begins("close")
            with contextlib.suppress(*ERRORS):
                await self.c.close(timeout=10)
        me.begins("the end")

    def code(self, error: Exception) -> str | None:
        # A FATAL error came between two messages of one operation: its next one finds the connection in this state.
        unasked = isinstance(error, asyncpg.InternalClientError) and "another operation (2)" in str(error)
        known = isinstance(error, ERRORS) or unasked
        return getattr(error, "sqlstate", None) if known else type(error).__name__

    async def connect(self) -> None:
        me = self.me
        self.c = await asyncpg.connect(
            host="127.0.0.1", port=me.port, user=me.user, password=me.password, database=me.database, ssl=False,
            timeout=CONNECT_SECONDS, server_settings={"search_path": f"{me.schema}, public"},
        )  # fmt: skip

    async def leave(self) -> None:
        connection, self.c = self.c, None
        await connection.close(timeout=10)

    def want(self, found: object, wanted: object) -> None:
        if found != wanted:
            raise Wrong(f"{str(found)[:100]!r} instead of {str(wanted)[:100]!r}")

    async def query(self) -> None:
        token = self.me.token()
        row = await self.c.fetchrow("SELECT $1::text, current_setting('search_path')", token)
        self.want(tuple(row), (token, f"{self.me.schema}, public"))

    async def several(self) -> None:
        """Three statements in one simple query, the middle one a transaction's end."""
        token = self.me.token()
        await self.c.execute(f"BEGIN; SELECT '{token}'; COMMIT; SELECT 1")
        self.want(await self.c.fetchval(f"SELECT '{token}'"), token)

    async def statement(self) -> None:
        token = self.me.token()
        statement = await self.c.prepare("SELECT $1::text, $2::int")
        for number in range(3):
            self.want(tuple(await statement.fetchrow(token, number)), (token, number))

    async def transaction(self) -> None:
        async with self.c.transaction():
            first = await self.c.fetchval("SELECT pg_backend_pid()")
            await asyncio.sleep(self.me.random.random() * 0.02)
            self.want(await self.c.fetchval("SELECT pg_backend_pid()"), first)

    async def told(self) -> None:
        transaction = self.me.journal.transaction(self.me.number)
        await self.c.execute("BEGIN")
        await self.c.execute("INSERT INTO told VALUES ($1, $2)", transaction.worker, transaction.number)
        transaction.committing()
        transaction.told(await self.c.execute("COMMIT"))

    async def many(self) -> None:
        async with self.c.transaction():
            await self.c.execute("CREATE TEMP TABLE brought (number int) ON COMMIT DROP")
            await self.c.executemany("INSERT INTO brought VALUES ($1)", [(number,) for number in range(50)])
            self.want(await self.c.fetchval("SELECT sum(number) FROM brought"), 1225)

    async def cursor(self) -> None:
        token = self.me.token()
        async with self.c.transaction():
            sql = "SELECT $1::text || i FROM generate_series(1, 40) AS i"
            found = [row[0] async for row in self.c.cursor(sql, token, prefetch=7)]
        self.want(found, [f"{token}{i}" for i in range(1, 41)])

    async def copy_out(self) -> None:
        token = self.me.token()
        target = io.BytesIO()
        await self.c.copy_from_query(f"SELECT '{token}', i FROM generate_series(1, 500) AS i", output=target)
        lines = target.getvalue().decode().splitlines()
        self.want(lines, [f"{token}\t{i}" for i in range(1, 501)])

    async def copy_in(self) -> None:
        token = self.me.token()
        async with self.c.transaction():
            await self.c.execute("CREATE TEMP TABLE brought (token text, number int) ON COMMIT DROP")
            await self.c.copy_records_to_table("brought", records=[(token, number) for number in range(500)])
            row = await self.c.fetchrow("SELECT count(*), min(token), max(token) FROM brought")
            self.want(tuple(row), (500, token, token))

    async def listen(self) -> None:
        token = self.me.token()
        heard: asyncio.Queue[str] = asyncio.Queue()

        def hear(*note: Any) -> None:
            heard.put_nowait(note[3])

        channel = f"news{self.me.number}"
        await self.c.add_listener(channel, hear)
        await self.c.execute("SELECT pg_notify($1, $2)", channel, token)
        self.want(await asyncio.wait_for(heard.get(), 20), token)
        await self.c.remove_listener(channel, hear)

    async def time_limit(self) -> None:
        """asyncpg sends a cancel request when time is up, and waits for the error."""
        try:
            await self.c.fetchval("SELECT pg_sleep(3)", timeout=0.05 + self.me.random.random() * 0.2)
        except asyncio.TimeoutError:
            self.me.journal.did("cancel requests that hit")
        else:
            raise Wrong("three seconds were over before a quarter of one")
        self.me.begins("query behind a time limit")
        await self.query()

    async def error(self) -> None:
        try:
            await self.c.fetchval("SELECT 1/$1::int", 0)
        except asyncpg.DivisionByZeroError:
            await self.query()
        else:
            raise Wrong("no error for a division by zero")

    async def reset(self) -> None:
        """What its pool does with a connection that comes back."""
        await self.c.execute("SET lock_timeout = '99s'")
        await self.c.reset()
        self.want(await self.c.fetchval("SHOW lock_timeout"), "0")
        await self.query()
