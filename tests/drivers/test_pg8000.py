"""pg8000: unnamed statements in both of its interfaces, its prepared statements, COPY."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator

import pg8000.dbapi
import pg8000.native
import pytest
from fix_doorman import Doorman, until_idle
from fix_postgres import Postgres
from pace import patience


@pytest.fixture
def native(doorman: Doorman, database: str) -> Iterator[pg8000.native.Connection]:
    connection = pg8000.native.Connection(
        "app", host=doorman.host, port=doorman.port, database=database, password=Postgres.PASSWORDS["app"]
    )
    yield connection
    connection.close()


def test_statements(native: pg8000.native.Connection) -> None:
    for i in range(20):
        assert native.run("SELECT CAST(:a AS int), CAST(:b AS text)", a=i, b="x" * i) == [[i, "x" * i]]
    with pytest.raises(pg8000.native.DatabaseError) as caught:
        native.run("SELECT * FROM no_such_table")
    assert caught.value.args[0]["C"] == "42P01"
    assert native.run("SELECT 1") == [[1]]
    assert [c["name"] for c in native.columns or ()] == ["?column?"]


def test_transactions(native: pg8000.native.Connection) -> None:
    native.run("DROP TABLE IF EXISTS by_pg8000")
    native.run("CREATE TABLE by_pg8000 (a int)")
    native.run("START TRANSACTION")
    native.run("INSERT INTO by_pg8000 VALUES (:a)", a=1)
    native.run("ROLLBACK")
    native.run("BEGIN")
    native.run("INSERT INTO by_pg8000 VALUES (:a)", a=2)
    native.run("COMMIT")
    assert native.run("SELECT a FROM by_pg8000") == [[2]]


def test_prepared(native: pg8000.native.Connection) -> None:
    statements = [native.prepare(f"SELECT {i}, CAST(:a AS int)") for i in range(5)]
    for round_ in range(5):
        for i, statement in enumerate(statements):
            assert statement.run(a=round_) == [[i, round_]]
    for statement in statements:
        statement.close()
    assert native.run("SELECT 1") == [[1]]


def test_copy(native: pg8000.native.Connection) -> None:
    native.run("DROP TABLE IF EXISTS copied_by_pg8000")
    native.run("CREATE TABLE copied_by_pg8000 (a int, b text)")
    text = "".join(f"{i}\trow {i}\n" for i in range(5000))
    native.run("COPY copied_by_pg8000 FROM STDIN", stream=io.StringIO(text))
    out = io.StringIO()
    native.run("COPY copied_by_pg8000 TO STDOUT", stream=out)
    assert out.getvalue() == text


def test_dbapi(doorman: Doorman, database: str) -> None:
    connection = pg8000.dbapi.connect(
        "app", host=doorman.host, port=doorman.port, database=database, password=Postgres.PASSWORDS["app"]
    )
    try:
        cursor = connection.cursor()
        cursor.execute("DROP TABLE IF EXISTS by_dbapi")
        cursor.execute("CREATE TABLE by_dbapi (a int)")
        connection.commit()
        cursor.executemany("INSERT INTO by_dbapi VALUES (%s)", [(i,) for i in range(100)])
        connection.rollback()
        cursor.executemany("INSERT INTO by_dbapi VALUES (%s)", [(i,) for i in range(50)])
        connection.commit()
        cursor.execute("SELECT sum(a), count(*) FROM by_dbapi")
        assert tuple(cursor.fetchone()) == (1225, 50)
        connection.autocommit = True
        cursor.execute("SELECT 1")
    finally:
        connection.close()


def test_many_at_once(doorman: Doorman) -> None:
    failures: list[str] = []

    def work(seed: int) -> None:
        try:
            connection = pg8000.native.Connection(
                "app", host=doorman.host, port=doorman.port, database="few", password=Postgres.PASSWORDS["app"]
            )
            try:
                for step in range(20):
                    if connection.run("SELECT CAST(:a AS int), CAST(:b AS int)", a=seed, b=step) != [[seed, step]]:
                        failures.append(f"{seed}/{step}")
            finally:
                connection.close()
        except BaseException as exc:
            failures.append(repr(exc))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(patience(40))
    assert not failures
    until_idle(doorman, "few")
