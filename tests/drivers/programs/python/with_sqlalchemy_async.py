"""SQLAlchemy on asyncpg: one engine with a pool, as many tasks as clients."""

from __future__ import annotations

import asyncio
import datetime
import decimal
import uuid
from typing import Any

from features import CLIENTS, TIDY, TaskClient, Tasks
from sa_models import Author, Base, Book, Mood, Thing, url
from sqlalchemy import delete, func, insert, inspect, literal, select, text
from sqlalchemy.dialects.postgresql import Range
from sqlalchemy.exc import DBAPIError, IntegrityError, ProgrammingError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import selectinload

engine = create_async_engine(url("asyncpg"), pool_size=CLIENTS, max_overflow=CLIENTS, pool_pre_ping=True)


async def plain(client: TaskClient, k: int) -> bool:
    async with engine.connect() as connection:
        found = await connection.execute(select(literal(k) + 1, literal(client.number)))
        return bool(found.one() == (k + 1, client.number))


program = Tasks(None, plain)
feature = program.feature


@feature
async def core(client: TaskClient) -> None:
    mine = Author.client == client.number + 100
    async with engine.begin() as connection:
        await connection.execute(insert(Author), [{"client": client.number + 100, "name": f"n{i}"} for i in range(60)])
    async with engine.connect() as connection:
        for i in range(0, 60, 10):
            client.equal(await connection.scalar(select(Author.name).where(mine, Author.name == f"n{i}")), f"n{i}")
        await connection.rollback()
        with client.refused(IntegrityError):
            await connection.execute(insert(Author).values(client=client.number + 100, name="n1"))
        await connection.rollback()
        client.equal((await connection.execute(delete(Author).where(mine))).rowcount, 60)
        await connection.commit()


@feature
async def orm(client: TaskClient) -> None:
    number = client.number
    async with AsyncSession(engine, expire_on_commit=False) as session:
        session.add_all(
            Author(client=number, name=f"a{i}", books=[Book(title=f"b{i}.{j}") for j in range(3)]) for i in range(5)
        )
        await session.commit()
        query = select(Author).where(Author.client == number).order_by(Author.name).options(selectinload(Author.books))
        authors = (await session.scalars(query)).all()
        client.equal([len(author.books) for author in authors], [3] * 5)
        async with session.begin_nested():
            session.add(Author(client=number, name="kept"))
        with client.refused(IntegrityError):
            async with session.begin_nested():
                session.add(Author(client=number, name="kept"))
        await session.commit()
        client.equal(await session.scalar(select(func.count(Author.id)).where(Author.client == number)), 6)
        await session.refresh(authors[0], ["books"])
        await session.delete(authors[0])
        await session.execute(delete(Author).where(Author.client == number))
        await session.commit()


@feature
async def isolation(client: TaskClient) -> None:
    for level in ("SERIALIZABLE", "REPEATABLE READ", "READ COMMITTED"):
        async with engine.connect() as connection:
            await connection.execution_options(isolation_level=level)
            client.equal(await connection.scalar(text("SHOW transaction_isolation")), level.lower())
    async with engine.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        ids = {await connection.scalar(text("SELECT pg_current_xact_id()::text")) for _ in range(3)}
        client.equal(len(ids), 3)
    async with engine.connect() as connection:
        client.equal(await connection.scalar(text("SHOW transaction_isolation")), "read committed")


@feature
async def streaming(client: TaskClient) -> None:
    query = text("SELECT i, repeat('x', 50) FROM generate_series(1, 600) i")
    async with engine.connect() as connection:
        result = await connection.stream(query)
        client.equal(len([row async for row in result]), 600)
        parts = (await connection.stream(query)).partitions(250)
        client.equal([len(part) async for part in parts], [250, 250, 100])
    async with AsyncSession(engine) as session:
        found = await session.stream_scalars(select(literal(1)).select_from(func.generate_series(1, 200)))
        client.equal(len([value async for value in found]), 200)


@feature
async def reflection(client: TaskClient) -> None:
    def names(connection: Any) -> tuple[list[str], list[str]]:
        inspector = inspect(connection)
        return inspector.get_table_names(), [c["name"] for c in inspector.get_columns(Author.__tablename__)]

    async with engine.connect() as connection:
        tables, columns = await connection.run_sync(names)
    client.true({Author.__tablename__, Book.__tablename__} <= set(tables))
    client.equal(columns, ["id", "client", "name"])


@feature
async def its_pool(client: TaskClient) -> None:
    own = create_async_engine(url("asyncpg"), pool_size=1, max_overflow=0, pool_pre_ping=True)
    async with own.connect() as connection:
        await connection.execute(text(f"CREATE TABLE {client.name('pool')} (a int)"))
    for i in range(5):
        async with own.connect() as connection:
            client.equal(await connection.scalar(select(literal(i))), i)
            client.equal(await connection.scalar(text(f"SELECT to_regclass('{client.name('pool')}')::text")), None)
    await own.dispose()


@feature
async def settings(client: TaskClient) -> None:
    start = {"server_settings": {"application_name": client.name("app"), "work_mem": f"{200 + client.number}kB"}}
    own = create_async_engine(url("asyncpg"), pool_size=1, max_overflow=0, connect_args=start)
    async with own.begin() as connection:
        await connection.execute(text(f"SET myapp.tenant = 'tenant {client.number}'"))
    for _ in range(4):
        async with own.connect() as connection:
            client.equal(await connection.scalar(text("SHOW myapp.tenant")), f"tenant {client.number}")
            client.equal(await connection.scalar(text("SHOW work_mem")), f"{200 + client.number}kB")
            client.equal(await connection.scalar(text("SHOW application_name")), client.name("app"))
    await own.dispose()


@feature
async def row_locks(client: TaskClient) -> None:
    async with engine.begin() as connection:
        await connection.execute(
            text(f"INSERT INTO {Author.__tablename__} VALUES (10000000, -2, '0') ON CONFLICT DO NOTHING")
        )
    for _ in range(4):
        async with AsyncSession(engine) as session, session.begin():
            author = await session.get(Author, 10_000_000, with_for_update=True)
            before = int(author.name)  # type: ignore[union-attr]
            author.name = str(before + 1)  # type: ignore[union-attr]
        async with engine.connect() as connection:
            now = await connection.scalar(select(Author.name).where(Author.id == 10_000_000))
            client.true(int(now or 0) > before)


@feature
async def types(client: TaskClient) -> None:
    moment = datetime.datetime(2026, 3, 4, 5, 6, 7, 89, tzinfo=datetime.timezone.utc)
    values: dict[str, Any] = {
        "id": uuid.uuid4(),
        "client": client.number,
        "made": moment,
        "price": decimal.Decimal("1234.5600"),
        "document": {"a": [1, None, {"b": "ü"}]},
        "numbers": [3, 1, 2],
        "span": Range(1, 10),
        "data": b"\x00\xff",
        "lasts": datetime.timedelta(days=2, seconds=3),
        "mood": Mood.glad,
    }
    async with AsyncSession(engine) as session:
        session.add(Thing(**values))
        await session.commit()
        thing = await session.get(Thing, values["id"], populate_existing=True)
        client.equal({name: getattr(thing, name) for name in values}, values)
        await session.delete(thing)
        await session.commit()


@feature
async def failures(client: TaskClient) -> None:
    async with engine.connect() as connection:
        for query, kind in (
            ("SELEC 1", ProgrammingError),
            ("SELECT 1/0", DBAPIError),
            ("SELECT nothing", ProgrammingError),
        ):
            with client.refused(kind) as caught:
                await connection.execute(text(query))
            client.equal(caught[0].connection_invalidated, False)
            await connection.rollback()
            client.equal(await connection.scalar(text("SELECT 1")), 1)

    async def part() -> None:
        own = create_async_engine(url("asyncpg"), pool_size=1, max_overflow=0, pool_pre_ping=True)
        async with own.connect() as connection:
            with client.refused(DBAPIError):
                await connection.scalar(text("SELECT pg_terminate_backend(pg_backend_pid())"))
        async with own.connect() as connection:
            client.equal(await connection.scalar(text("SELECT 1")), 1)
        await own.dispose()

    await client.in_turn(part)


async def main() -> None:
    async with engine.connect() as tidying:
        await tidying.execution_options(isolation_level="AUTOCOMMIT")
        await tidying.execute(text(TIDY))
        await tidying.run_sync(Base.metadata.create_all)
        await program.run()
        await tidying.run_sync(Base.metadata.drop_all)
        await tidying.execute(text(TIDY))
    await engine.dispose()


if __name__ == "__main__":
    asyncio.run(main())
