"""Code that nobody asks about drops statements of the pooler's, or makes some: who meets that first does not notice."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from eventually import eventually
from fix_doorman import Doorman, MakeDoorman, app_pool
from fix_postgres import Postgres
from wire_client import (
    SYNC,
    Message,
    WireClient,
    bind,
    bound,
    describe_portal,
    describe_statement,
    execute,
    kinds,
    parse,
    query,
)

#: "drop" what the pooler has made; "make" what it is going to make.
FUNCTIONS = """
CREATE OR REPLACE FUNCTION sa_drop() RETURNS void LANGUAGE plpgsql AS $$
begin execute 'deallocate all'; end $$;
CREATE OR REPLACE FUNCTION sa_make(name text) RETURNS void LANGUAGE plpgsql AS $$
begin execute format('prepare %I as select 0', name); end $$;
CREATE TABLE IF NOT EXISTS sa_rows (number int);
TRUNCATE sa_rows;
GRANT ALL ON sa_rows TO PUBLIC
"""


@pytest.fixture
def doorman(make_doorman: MakeDoorman, postgres: Postgres) -> Doorman:
    postgres.sql(FUNCTIONS, database="testdb")
    pool = {**app_pool(postgres, 1), "trusted_functions": ["public.sa_drop", "public.sa_make"]}
    return make_doorman({"pools": {"testdb": pool}})


@pytest.fixture
def client(doorman: Doorman) -> Iterator[WireClient]:
    with doorman.wire() as client:
        yield client


def lose(client: WireClient) -> None:
    """Have the server forget what is prepared, and the pooler not ask."""
    assert kinds(client.ask_query("SELECT sa_drop()")) == "TDCZ"


def errors(answer: list[Message]) -> list[str | None]:
    return [one.sqlstate for one in answer if one.kind == "E"]


BATCHES = {
    "bind": bound("s"),
    "describe": describe_statement("s") + SYNC,
    "bind described": bind("", "s") + describe_portal() + execute() + SYNC,
    "two": bind("a", "s") + bind("b", "t") + execute("a") + execute("b") + SYNC,
    "execute": query("EXECUTE p"),
    "more": query("EXECUTE p; SELECT 8"),
    "long": bind("", "v", [b"x" * 5000]) + execute() + SYNC,
}


@pytest.mark.parametrize("name", BATCHES)
def test_a_lost_statement_is_made_again(doorman: Doorman, client: WireClient, name: str) -> None:
    assert "E" not in kinds(
        client.ask(parse("s", "SELECT 7") + parse("t", "SELECT 8") + parse("v", "SELECT $1") + SYNC)
    )
    client.ask(bound("s"))
    client.ask(bound("t"))
    client.ask(bound("v", [b"y"]))
    client.ask_query("PREPARE p AS SELECT 9")
    expected = client.ask(BATCHES[name])
    assert "E" not in kinds(expected)
    for _ in range(3):
        lose(client)
        assert client.ask(BATCHES[name]) == expected
    with doorman.wire() as other:
        lose(other)
    assert client.ask(BATCHES[name]) == expected


def test_one_that_is_there_unknown_is_replaced(doorman: Doorman, client: WireClient, postgres: Postgres) -> None:
    """The pooler's own name for a statement is another statement's on a server where it has not made it yet."""
    for number in range(3):
        text = f"SELECT {number}"
        assert kinds(client.ask(parse(f"s{number}", text) + SYNC)) == "1Z"
        assert kinds(client.ask(bound(f"s{number}"))) == "2DCZ"
        name = client.value(f"SELECT name FROM pg_prepared_statements WHERE statement = '{text}'")
        server = client.value("SELECT pg_backend_pid()")
        postgres.terminate(int(server or 0))
        eventually(lambda server=server: client.value("SELECT pg_backend_pid()") != server)
        assert kinds(client.ask_query(f"SELECT sa_make('{name}')")) == "TDCZ"
        row = client.ask(bound(f"s{number}"))[1]
        assert row.kind == "D" and row.body.endswith(str(number).encode())


def test_what_has_run_does_not_run_twice(client: WireClient, postgres: Postgres) -> None:
    """The first statement of a batch is carried out; a failed second one takes it back, and the client is told."""
    client.ask(parse("i", "INSERT INTO sa_rows VALUES (1)") + parse("s", "SELECT 7") + SYNC)
    client.ask_query("PREPARE p AS SELECT 9")
    for batch in (
        parse("", "INSERT INTO sa_rows VALUES (1)") + bind("", "") + execute() + bind("", "s") + execute() + SYNC,
        query("INSERT INTO sa_rows VALUES (1); EXECUTE p"),
    ):
        assert not errors(client.ask(bound("s"))) and not errors(client.ask_query("EXECUTE p"))
        lose(client)
        assert errors(client.ask(batch)) == ["26000"]
        assert client.value("SELECT count(*) FROM sa_rows") == "0"
        assert not errors(client.ask(bound("s"))) and not errors(client.ask_query("EXECUTE p"))


def test_what_was_answered_is_not_taken_back(client: WireClient) -> None:
    """ParseComplete and BindComplete have gone to the client before PostgreSQL looks for the name."""
    client.ask_query("PREPARE p AS SELECT 9")
    batch = parse("", "EXECUTE p") + bind("", "") + execute() + SYNC
    assert kinds(client.ask(batch)) == "12DCZ"
    lose(client)
    assert errors(client.ask(batch)) == ["26000"]
    assert kinds(client.ask(batch)) == "12DCZ"


def test_in_a_transaction_it_fails_with_it(client: WireClient) -> None:
    client.ask(parse("s", "SELECT 7") + SYNC)
    client.ask(bound("s"))
    client.ask_query("BEGIN")
    lose(client)
    assert errors(client.ask(bound("s"))) == ["26000"]
    assert errors(client.ask_query("SELECT 1")) == ["25P02"]
    client.ask_query("ROLLBACK")
    assert kinds(client.ask(bound("s"))) == "2DCZ"


def test_in_a_pipeline_the_first_may_fail_alone(client: WireClient) -> None:
    client.ask(parse("s", "SELECT 7") + parse("i", "INSERT INTO sa_rows VALUES (1)") + SYNC)
    client.ask(bound("s"))
    client.ask(bound("i"))
    client.ask_query("TRUNCATE sa_rows")
    lose(client)
    client.send(bound("s") + query("INSERT INTO sa_rows VALUES (1)") + query("INSERT INTO sa_rows VALUES (2)"))
    answers = [client.read_until("Z") for _ in range(3)]
    assert [errors(answer) for answer in answers] == [["26000"], [], []]
    assert client.value("SELECT count(*) FROM sa_rows") == "2"


def test_who_has_said_goodbye_is_told(doorman: Doorman, client: WireClient) -> None:
    client.ask(parse("s", "SELECT 7") + SYNC)
    client.ask(bound("s"))
    lose(client)
    client.send(bound("s") + b"X\0\0\0\x04")
    assert errors(client.read_until("Z")) == ["26000"]
    with doorman.wire() as other:
        assert other.value("SELECT 1") == "1"
