"""psycopg 3: sync and async, pipelines, server cursors, COPY, cancel, the pool."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import psycopg
import pytest
from eventually import eventually
from fix_doorman import Doorman, until_idle
from fix_postgres import Postgres
from pace import patience
from psycopg import sql


@pytest.fixture
def table(doorman: Doorman) -> str:
    with doorman.connect(dbname="few") as connection:
        connection.execute("DROP TABLE IF EXISTS by_psycopg")
        connection.execute("CREATE TABLE by_psycopg (id int PRIMARY KEY, data text)")
    return "by_psycopg"


@pytest.mark.parametrize("threshold", [0, 5, None], ids=["always", "usual", "never"])
def test_statements(doorman: Doorman, database: str, threshold: int | None) -> None:
    with doorman.connect(dbname=database, prepare_threshold=threshold) as connection:
        for i in range(30):
            assert connection.execute("SELECT %s::int, %s::text", (i, "x" * i)).fetchone() == (i, "x" * i)
            with pytest.raises(psycopg.errors.UndefinedTable):
                connection.execute("SELECT * FROM no_such_table WHERE a = %s", (i,))
        assert connection.execute("SELECT %s::int", (None,), binary=True).fetchone() == (None,)


def test_more_statements_than_the_driver_keeps(doorman: Doorman, database: str) -> None:
    """psycopg deallocates what it evicts (prepared_max)."""
    with doorman.connect(dbname=database, prepare_threshold=0) as connection:
        connection.prepared_max = 5
        for _ in range(3):
            for i in range(20):
                assert connection.execute(f"SELECT {i}, %s::int", (i,)).fetchone() == (i, i)


def test_transactions(doorman: Doorman, database: str, table: str) -> None:
    with doorman.connect(dbname=database, autocommit=False) as connection:
        for i in range(10):
            connection.execute(f"INSERT INTO {table} VALUES (%s, %s)", (i, "one"))
        connection.rollback()
        with connection.transaction():
            connection.execute(f"INSERT INTO {table} VALUES (1, 'kept')")
            with pytest.raises(psycopg.errors.UniqueViolation), connection.transaction():
                connection.execute(f"INSERT INTO {table} VALUES (1, 'again')")
            with connection.transaction(force_rollback=True):
                connection.execute(f"UPDATE {table} SET data = 'changed'")
        assert connection.execute(f"SELECT * FROM {table}").fetchall() == [(1, "kept")]
        with pytest.raises(psycopg.errors.DivisionByZero):
            connection.execute("SELECT 1/0")
        with pytest.raises(psycopg.errors.InFailedSqlTransaction):
            connection.execute("SELECT 1")
        connection.rollback()
        connection.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
        connection.read_only = True
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            connection.execute(f"DELETE FROM {table}")


def test_server_cursors(doorman: Doorman, database: str) -> None:
    with doorman.connect(dbname=database, autocommit=False) as connection:
        with connection.cursor("named", scrollable=True) as cursor:
            cursor.itersize = 100
            cursor.execute("SELECT generate_series(1, %s)", (2500,))
            assert cursor.fetchmany(10) == [(i,) for i in range(1, 11)]
            cursor.scroll(-5)
            assert cursor.fetchone() == (6,)
            assert sum(1 for _ in cursor) == 2494
        connection.commit()


def test_executemany_and_returning(doorman: Doorman, database: str, table: str) -> None:
    with doorman.connect(dbname=database) as connection, connection.cursor() as cursor:
        cursor.executemany(
            f"INSERT INTO {table} VALUES (%s, %s) RETURNING id", [(i, str(i)) for i in range(500)], returning=True
        )
        got = [cursor.fetchone()]
        while cursor.nextset():
            got.append(cursor.fetchone())
        assert got == [(i,) for i in range(500)]


def test_pipeline(doorman: Doorman, database: str, table: str) -> None:
    with doorman.connect(dbname=database, prepare_threshold=0) as connection:
        with connection.pipeline():
            connection.execute("BEGIN")
            cursors = [
                connection.execute(f"INSERT INTO {table} VALUES (%s, %s) RETURNING id", (i, "p")) for i in range(300)
            ]
            connection.execute("COMMIT")
            assert [c.fetchone() for c in cursors] == [(i,) for i in range(300)]
        with pytest.raises(psycopg.errors.UniqueViolation), connection.pipeline():
            connection.execute(f"INSERT INTO {table} VALUES (1, 'again')")
            connection.execute("SELECT 1")
        with connection.pipeline() as pipeline:
            first = connection.execute("SELECT %s::int", (1,))
            pipeline.sync()
            second = connection.execute("SELECT %s::text", ("two",))
            assert (first.fetchone(), second.fetchone()) == ((1,), ("two",))


def test_pipelines_of_many_clients(doorman: Doorman) -> None:
    failures: list[str] = []

    def work(seed: int) -> None:
        try:
            with doorman.connect(dbname="few", prepare_threshold=0) as connection:
                for step in range(10):
                    with connection.pipeline():
                        cursors = [
                            connection.execute("SELECT %s::int, %s::int, %s::int", (seed, step, i)) for i in range(20)
                        ]
                        got = [c.fetchone() for c in cursors]
                    if got != [(seed, step, i) for i in range(20)]:
                        failures.append(f"{seed}: {got}")
        except BaseException as exc:
            failures.append(repr(exc))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(patience(40))
    assert not failures
    until_idle(doorman, "few")


def test_copy(doorman: Doorman, database: str, table: str) -> None:
    with doorman.connect(dbname=database) as connection, connection.cursor() as cursor:
        with cursor.copy(f"COPY {table} FROM STDIN") as copy:
            for i in range(20000):
                copy.write_row((i, f"row {i}"))
        with cursor.copy(f"COPY (SELECT * FROM {table} ORDER BY id) TO STDOUT (FORMAT BINARY)") as copy:
            copy.set_types(["int4", "text"])
            rows = list(copy.rows())
        assert (len(rows), rows[19999]) == (20000, (19999, "row 19999"))
        with pytest.raises(psycopg.errors.UniqueViolation), cursor.copy(f"COPY {table} FROM STDIN") as copy:
            copy.write_row((1, "again"))
        with pytest.raises(RuntimeError), cursor.copy(f"COPY {table} FROM STDIN") as copy:
            copy.write_row((30000, "never"))
            raise RuntimeError("in the middle")
        assert connection.execute(f"SELECT count(*) FROM {table}").fetchone() == (20000,)


def test_statement_timeout(doorman: Doorman, database: str) -> None:
    with doorman.connect(dbname=database, autocommit=False) as connection:
        connection.execute("SET LOCAL statement_timeout = 100")
        with pytest.raises(psycopg.errors.QueryCanceled):
            connection.execute("SELECT pg_sleep(10)")
        connection.rollback()
        assert connection.execute("SHOW statement_timeout").fetchone() == ("0",)


def test_settings_given_at_connect(doorman: Doorman, database: str) -> None:
    with (
        doorman.connect(dbname=database, options="-c statement_timeout=4321", application_name="by psycopg") as one,
        doorman.connect(dbname=database, client_encoding="latin1") as two,
    ):
        for _ in range(5):
            assert one.execute("SHOW statement_timeout").fetchone() == ("4321ms",)
            assert one.execute("SHOW application_name").fetchone() == ("by psycopg",)
            assert two.execute("SHOW client_encoding").fetchone() == ("LATIN1",)
            assert two.execute("SELECT 'ä'").fetchone() == ("ä",)
            assert one.execute("SELECT 'ä€'").fetchone() == ("ä€",)


def test_notices(doorman: Doorman, database: str) -> None:
    heard: list[str | None] = []
    with doorman.connect(dbname=database) as connection:
        connection.add_notice_handler(lambda diagnostic: heard.append(diagnostic.message_primary))
        connection.execute("DO $$ BEGIN RAISE NOTICE 'heard'; END $$")
        assert heard == ["heard"]


def test_notifications_in_session_mode(doorman: Doorman) -> None:
    with doorman.connect(dbname="own") as listener, doorman.connect(dbname="few") as notifier:
        listener.execute("LISTEN psycopg_channel")
        notifier.execute("NOTIFY psycopg_channel, 'payload'")
        got = list(listener.notifies(timeout=patience(15), stop_after=1))
        assert [(n.channel, n.payload) for n in got] == [("psycopg_channel", "payload")]


def test_compose_and_types(doorman: Doorman, database: str) -> None:
    with doorman.connect(dbname=database) as connection:
        query = sql.SQL("SELECT {}, %s::jsonb, %s::int[], %s::timestamptz").format(sql.Literal("it's"))
        row = connection.execute(query, ('{"a": 1}', [1, 2, 3], "2026-01-02 03:04:05+00")).fetchone()
        assert row is not None
        assert row[:3] == ("it's", {"a": 1}, [1, 2, 3])


# -- async


def run_async(coroutine: Any) -> Any:
    return asyncio.run(coroutine)


def test_async(doorman: Doorman, database: str, table: str) -> None:
    async def main() -> None:
        async with await psycopg.AsyncConnection.connect(doorman.dsn(dbname=database), autocommit=True) as connection:
            for i in range(20):
                cursor = await connection.execute("SELECT %s::int", (i,))
                assert await cursor.fetchone() == (i,)
            async with connection.transaction(), connection.cursor("named") as named:
                await named.execute("SELECT generate_series(1, 1000)")
                assert [row async for row in named] == [(i,) for i in range(1, 1001)]
            async with connection.pipeline():
                cursors = [await connection.execute("SELECT %s::int", (i,)) for i in range(100)]
                assert [await c.fetchone() for c in cursors] == [(i,) for i in range(100)]
            async with connection.cursor() as cursor, cursor.copy(f"COPY {table} FROM STDIN") as copy:
                for i in range(1000):
                    await copy.write_row((i, "a"))

    run_async(main())


def test_async_many_at_once(doorman: Doorman) -> None:
    async def one(seed: int) -> None:
        async with await psycopg.AsyncConnection.connect(doorman.dsn(dbname="few"), prepare_threshold=0) as connection:
            for step in range(20):
                async with connection.transaction():
                    cursor = await connection.execute("SELECT %s::int, %s::int", (seed, step))
                    assert await cursor.fetchone() == (seed, step)

    async def main() -> None:
        await asyncio.gather(*(one(seed) for seed in range(30)))

    run_async(main())


def test_async_cancellation(doorman: Doorman, postgres: Postgres, database: str) -> None:
    """A task cancelled in a query cancels it on the server, too; the connection is closed by psycopg or good."""

    async def main() -> None:
        async with await psycopg.AsyncConnection.connect(doorman.dsn(dbname=database), autocommit=True) as connection:
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(connection.execute("SELECT pg_sleep(30), 'cancelled task'"), 0.3)
            cursor = await connection.execute("SELECT 1")
            assert await cursor.fetchone() == (1,)

    run_async(main())
    eventually(lambda: not any("cancelled task" in b["query"] and b["state"] == "active" for b in postgres.backends()))


def test_cancel_from_another_thread(doorman: Doorman, postgres: Postgres, database: str) -> None:
    with doorman.connect(dbname=database) as connection:

        def cancel() -> None:
            eventually(
                lambda: any("from a thread" in b["query"] and b["state"] == "active" for b in postgres.backends())
            )
            connection.cancel()

        thread = threading.Thread(target=cancel)
        thread.start()
        with pytest.raises(psycopg.errors.QueryCanceled):
            connection.execute("SELECT pg_sleep(30), 'from a thread'")
        thread.join(patience(10))
        assert connection.execute("SELECT 1").fetchone() == (1,)


# -- its lower half


def test_chunked_and_single_rows(doorman: Doorman, database: str) -> None:
    with doorman.connect(dbname=database) as connection, connection.cursor() as cursor:
        assert sum(1 for _ in cursor.stream("SELECT generate_series(1, 5000)")) == 5000
        assert sum(1 for _ in cursor.stream("SELECT generate_series(1, 5000)", size=100)) == 5000
        for row in cursor.stream("SELECT generate_series(1, 5000)"):
            if row[0] == 3:
                break
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_large_values(doorman: Doorman, database: str) -> None:
    with doorman.connect(dbname=database) as connection:
        value = bytes(range(256)) * 20000
        row = connection.execute("SELECT %b::bytea, length(%b)", (value, value), binary=True).fetchone()
        assert row == (value, len(value))
