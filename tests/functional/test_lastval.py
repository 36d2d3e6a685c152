"""``lastval()`` and ``currval()`` in a transaction of their own: the client's own value or SQLSTATE 55000, never another's."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import Any

import psycopg
import pytest
from eventually import eventually
from fix_doorman import Doorman, app_pool
from fix_postgres import Postgres
from psycopg import errors
from wire_client import SYNC, WireClient, bind, execute, function_call, parse, query

Connection = psycopg.Connection[tuple[Any, ...]]

FORMS = ("simple", "extended", "prepared")


@pytest.fixture(scope="module")
def doorman_over(postgres: Postgres) -> Mapping[str, Any]:
    return {
        "general": {"query_wait_timeout": 5000},
        "pools": {f"of{size}": app_pool(postgres, size) for size in (1, 2)},
    }


@pytest.fixture(scope="module", autouse=True)
def tables(postgres: Postgres) -> Iterator[None]:
    """Two tables whose keys can't be taken for each other's, and a role that may fill them."""
    for table in ("people", "things"):
        postgres.sql(
            f"CREATE TABLE {table} (id serial PRIMARY KEY, name text); GRANT ALL ON {table}, {table}_id_seq TO app",
            database="testdb",
        )
    postgres.sql("CREATE SEQUENCE numbers; GRANT ALL ON numbers TO app", database="testdb")
    yield
    postgres.sql("DROP TABLE people, things; DROP SEQUENCE numbers", database="testdb")


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


class Program:
    """A client that asks for the key of what it has inserted as programs do which know no RETURNING."""

    def __init__(self, connection: Connection, form: str = "simple") -> None:
        self.connection = connection
        self.form = form
        connection.prepare_threshold = 0 if form == "prepared" else None

    def run(self, sql: str, *values: Any) -> Any:
        return self.connection.execute(sql, values or (None if self.form == "simple" else ()))  # type: ignore[call-overload]

    def insert(self, name: str, table: str = "people") -> None:
        if self.form == "simple":
            self.run(f"INSERT INTO {table} (name) VALUES ('{name}')")
        else:
            self.run(f"INSERT INTO {table} (name) VALUES (%s)", name)

    def ask(self, sql: str = "SELECT lastval()") -> Any:
        """The value; None where PostgreSQL says that there is none."""
        try:
            return self.run(sql).fetchone()[0]
        except errors.ObjectNotInPrerequisiteState:
            return None

    def key_of(self, name: str, table: str = "people") -> int:
        return int(self.run(f"SELECT id FROM {table} WHERE name = '{name}'").fetchone()[0])


def program(doorman: Doorman, stack: ExitStack, database: str, form: str = "simple", **parameters: Any) -> Program:
    return Program(stack.enter_context(doorman.connect(dbname=database, **parameters)), form)


def teach(doorman: Doorman, database: str, application: str) -> None:
    """Let the pool see that programs of this name ask."""
    with doorman.connect(dbname=database, application_name=application) as connection:
        Program(connection).ask()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("question", ["SELECT lastval()", "SELECT currval('people_id_seq')"])
@pytest.mark.parametrize("database", ["of1", "of2"])
def test_a_program_that_has_been_learnt_is_told_its_own(
    doorman: Doorman, stack: ExitStack, database: str, form: str, question: str
) -> None:
    name = f"{form} {question[7:11]} {database}"
    teach(doorman, database, name)
    first = program(doorman, stack, database, form, application_name=name)
    second = program(doorman, stack, database, "simple")
    for number in range(5):
        first.insert(f"{name} {number}")
        told = first.ask(question)
        second.run("SELECT 1")
        assert told == first.key_of(f"{name} {number}")


@pytest.mark.parametrize("form", FORMS)
def test_others_come_between_without_harm(doorman: Doorman, stack: ExitStack, form: str) -> None:
    """Two servers: the second client has the other one meanwhile."""
    teach(doorman, "of2", "between")
    first = program(doorman, stack, "of2", form, application_name="between")
    second = program(doorman, stack, "of2", form, application_name="other")
    for number in range(5):
        first.insert(f"mine {form} {number}")
        second.insert(f"theirs {form} {number}", "things")
        second.run("SELECT 1")
        assert first.ask() == first.key_of(f"mine {form} {number}")


def test_two_programs_at_once(doorman: Doorman, stack: ExitStack) -> None:
    """Each keeps a server for a moment; in a pool of one they take turns, and then one may be told that there is none."""
    for database in ("of1", "of2"):
        teach(doorman, database, "pair")
        programs = [program(doorman, stack, database, application_name="pair") for _ in range(2)]
        for number in range(5):
            for which, one in enumerate(programs):
                one.insert(f"pair {database} {number} {which}")
            for which, one in enumerate(programs):
                assert one.ask() in (None, one.key_of(f"pair {database} {number} {which}"))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("learnt", [False, True])
def test_never_anothers_within_a_transaction(doorman: Doorman, stack: ExitStack, form: str, learnt: bool) -> None:
    """BEGIN comes first: the text that asks is not the first one on its server."""
    name = f"within {form} {learnt}"
    if learnt:
        teach(doorman, "of1", name)
    first = program(doorman, stack, "of1", form, application_name=name)
    second = program(doorman, stack, "of1", "simple", application_name="stranger")
    second.insert("a stranger")
    with pytest.raises(errors.ObjectNotInPrerequisiteState), first.connection.transaction():
        first.run("SELECT lastval()")


@pytest.mark.parametrize("form", FORMS)
def test_the_first_who_ever_asks_within_a_transaction_is_told(doorman: Doorman, stack: ExitStack, form: str) -> None:
    first = program(doorman, stack, "of1", form, application_name=f"the first {form}")
    second = program(doorman, stack, "of1", "simple", application_name="stranger")
    second.insert("a stranger")
    with first.connection.transaction():
        first.insert(f"inside {form}")
        told = first.ask()
    assert told == first.key_of(f"inside {form}")


def answers(client: WireClient, *messages: bytes, ready: int = 1) -> list[str | bytes | None]:
    """First columns and SQLSTATEs."""
    client.send(b"".join(messages))
    found: list[str | bytes | None] = []
    while ready:
        message = client.read()
        if message.kind == "D":
            found.append(message.columns[0])
        elif message.kind == "E":
            found.append(message.sqlstate)
        elif message.kind == "Z":
            ready -= 1
    return found


def run(sql: str) -> bytes:
    return parse("", sql) + bind("", "") + execute()


@pytest.mark.parametrize(
    ("asked", "ready"),
    [
        ([query("BEGIN"), query("SELECT lastval()"), query("ROLLBACK")], 3),
        ([run("BEGIN"), run("SELECT lastval()"), SYNC, query("ROLLBACK")], 2),
        ([query("BEGIN"), run("SELECT lastval()"), SYNC, query("ROLLBACK")], 3),
        ([query("BEGIN"), parse("s", "SELECT lastval()"), SYNC, bind("", "s"), execute(), SYNC, query("ROLLBACK")], 4),
        ([query("BEGIN"), query("SELECT /*" + "x" * 20000 + "*/ lastval()"), query("ROLLBACK")], 3),
        ([query("SELECT 1; SELECT lastval()")], 1),
        ([query("SELECT 1"), query("SELECT lastval()"), query("SELECT /*" + "x" * 20000 + "*/ 1")], 3),
        ([query("BEGIN"), function_call(2559, []), query("ROLLBACK")], 3),
        ([query("PREPARE p AS SELECT lastval()"), query("EXECUTE p"), query("DEALLOCATE p")], 3),
    ],
)
def test_never_anothers_in_one_go(doorman: Doorman, stack: ExitStack, asked: list[bytes], ready: int) -> None:
    stranger = program(doorman, stack, "of1", application_name="stranger")
    stranger.insert("a stranger")
    with doorman.wire("of1", application_name=f"in one go {hash(tuple(asked))}") as client:
        assert [told for told in answers(client, *asked, ready=ready) if told != b"1"] == ["55000"]


@pytest.mark.parametrize(
    ("asked", "ready"),
    [
        ([query("ROLLBACK"), query("SELECT lastval()")], 2),
        ([query("ROLLBACK"), run("SELECT lastval()"), SYNC], 2),
        ([run("ROLLBACK"), SYNC, query("SELECT lastval()")], 2),
        ([run("ROLLBACK"), SYNC, run("SELECT lastval()"), SYNC], 2),
        ([query("ROLLBACK"), function_call(2559, [])], 2),
        ([run("ROLLBACK"), run("SELECT lastval()"), SYNC], 1),
    ],
)
def test_never_anothers_behind_a_failed_transaction(
    doorman: Doorman, stack: ExitStack, asked: list[bytes], ready: int
) -> None:
    stranger = program(doorman, stack, "of1", application_name="stranger")
    stranger.insert("a stranger")
    with doorman.wire("of1", application_name=f"failed {hash(tuple(asked))}") as client:
        client.ask(query("BEGIN; SELECT 1/0"))
        assert answers(client, *asked, ready=ready) == ["55000"]


def test_a_kept_server_is_shown_and_given_up(doorman: Doorman, stack: ExitStack) -> None:
    teach(doorman, "of2", "shown")
    first = program(doorman, stack, "of2", application_name="shown")

    def shown() -> list[Any]:
        return [c["pinned"] for c in doorman.admin("SHOW CLIENTS") if c["application_name"] == "shown"]

    def kept() -> bool:
        first.insert("shown")
        return shown() == ["sequence values"]

    eventually(kept, message="it is looked at within the second for which it is kept")
    eventually(lambda: shown() == [""], message="the server is given back when nothing is asked")
    first.insert("shown again")
    first.run("SELECT 1")
    assert shown() == [""]


def test_a_kept_server_goes_to_those_who_wait(doorman: Doorman, stack: ExitStack) -> None:
    teach(doorman, "of2", "eager")
    first = program(doorman, stack, "of2", application_name="eager")
    second = program(doorman, stack, "of2")
    third = program(doorman, stack, "of2")
    first.insert("eager")
    with second.connection.transaction():
        second.run("SELECT 1")
        assert third.run("SELECT 2").fetchone() == (2,)


def test_many_at_random(doorman: Doorman, stack: ExitStack, postgres: Postgres) -> None:
    """What PostgreSQL would say to this client, or 55000. Each draws from a sequence of its own: values tell whose they are."""
    seed = random.randrange(1 << 30)
    chance = random.Random(seed)
    for number in range(3):
        postgres.sql(
            f"CREATE TABLE own{number} (id serial, name text); ALTER SEQUENCE own{number}_id_seq RESTART {number + 1}000000;"
            f" GRANT ALL ON own{number}, own{number}_id_seq TO app",
            database="testdb",
        )
    given = [number * 1000000 - 1 for number in range(1, 4)]
    told_right = 0
    for database in ("of1", "of2"):
        programs = [
            program(
                doorman, stack, database, chance.choice(FORMS), application_name=f"{database} {chance.choice('ab')}"
            )
            for _ in given
        ]
        begun = given.copy()
        for _ in range(150):
            which = chance.randrange(len(programs))
            mine = programs[which]
            inside = mine.connection.info.transaction_status == psycopg.pq.TransactionStatus.INTRANS
            what = chance.randrange(8)
            if what < 3:
                mine.insert("random", f"own{which}")
                given[which] += 1
            elif what == 3:
                mine.run("SELECT 1")
            elif what == 4 and not any(p.connection.info.transaction_status for p in programs):
                mine.run("BEGIN")
            elif inside and what < 7:
                mine.run("COMMIT")
            elif not inside:
                told = mine.ask(chance.choice(("SELECT lastval()", f"SELECT currval('own{which}_id_seq')")))
                right = given[which] if given[which] > begun[which] else None
                assert told in (None, right), (seed, which, told, given)
                told_right += told is not None
            if mine.connection.info.transaction_status and database == "of1":
                mine.run("COMMIT")  # the others need the server
        for one in programs:
            one.run("ROLLBACK")
    assert told_right, seed
