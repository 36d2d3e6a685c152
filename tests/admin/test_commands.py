"""What commands do to the pooler, and what drivers send on their own account."""

from __future__ import annotations

import pytest
from admin.fakes import Answer, FakePooler, FakeStream, answers, bind, execute, parse, query

from pgdoorman_lib.admin import console
from pgdoorman_lib.errors import ConfigError


def talk(*sent: bytes, pooler: FakePooler | None = None) -> list[Answer]:
    stream = FakeStream(b"".join(sent))
    console.serve(stream, pooler or FakePooler(), "admin", {"application_name": "first"})
    found = answers(stream.outgoing)
    return found[[answer.kind for answer in found].index("Z") + 1 :]


def tags(sql: str, pooler: FakePooler | None = None) -> list[str]:
    found = talk(query(sql), pooler=pooler)
    assert not [answer.value for answer in found if answer.kind == "E"]
    return [answer.value for answer in found if answer.kind == "C"]


def fields(sql: str) -> list[list[bytes | None]]:
    return [answer.value for answer in talk(query(sql)) if answer.kind == "D"]


def test_reload() -> None:
    pooler = FakePooler()
    assert tags("RELOAD", pooler) == ["RELOAD"]
    assert pooler.done == ["reload"]


def test_reload_of_a_bad_file_says_why_and_the_session_goes_on() -> None:
    pooler = FakePooler()
    pooler.failure = ConfigError("pg_doorman.toml: general.port: found 99999", hint="a port")
    failed, *_, ready = talk(query("RELOAD"), query("SHOW USERS"), pooler=pooler)
    assert (failed.value["S"], failed.value["C"], failed.value["H"]) == ("ERROR", "F0000", "a port")
    assert "general.port" in failed.value["M"]
    assert ready.value == "I"


def test_shutdown() -> None:
    pooler = FakePooler()
    described, row, complete, _ = talk(query("shutdown;"), pooler=pooler)
    assert ([column[0] for column in described.value], row.value, complete.value) == (["success"], [b"t"], "SHUTDOWN")
    assert pooler.done == ["shutdown drain"]


@pytest.mark.parametrize(
    ("sql", "text"),
    [
        ("SET log_level = 'warn,pgdoorman_lib.pool=debug'", "warn,pgdoorman_lib.pool=debug"),
        ("set LOG_LEVEL to debug", "debug"),
        ("SET log_level='default';", "default"),
        ("SET log_level = 'it''s'", "it's"),
    ],
)
def test_set_log_level(sql: str, text: str) -> None:
    pooler = FakePooler()
    assert tags(sql, pooler) == ["SET"]
    assert pooler.done == [f"log_level {text}"]


def test_reset_log_level() -> None:
    pooler = FakePooler()
    assert tags("RESET log_level", pooler) == ["RESET"]
    assert pooler.done == ["log_level default"]


@pytest.mark.parametrize("failure", [ValueError("no level loud"), ConfigError("no level loud")])
def test_bad_log_level(failure: Exception) -> None:
    pooler = FakePooler()
    pooler.failure = failure
    failed, _ = talk(query("SET log_level = 'loud'"), pooler=pooler)
    assert (failed.value["S"], failed.value["C"]) == ("ERROR", "42601")
    assert "no level loud" in failed.value["M"]


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("BEGIN", "BEGIN"),
        ("BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY", "BEGIN"),
        ("START TRANSACTION", "START TRANSACTION"),
        ("COMMIT", "COMMIT"),
        ("END", "COMMIT"),
        ("ROLLBACK", "ROLLBACK"),
        ("ABORT", "ROLLBACK"),
        ("SAVEPOINT a", "SAVEPOINT"),
        ("RELEASE SAVEPOINT a", "RELEASE"),
        ("ROLLBACK TO SAVEPOINT a", "ROLLBACK"),
        ("SET application_name TO 'x'", "SET"),
        ("SET SESSION extra_float_digits = 3", "SET"),
        ("SET client_encoding TO 'UTF8'", "SET"),
        ("SET NAMES 'utf-8'", "SET"),
        ("SET TIME ZONE 'Europe/Berlin'", "SET"),
        ("SET DateStyle = ISO, MDY", "SET"),
        ("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", "SET"),
        ("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", "SET"),
        ("RESET ALL", "RESET"),
        ("RESET application_name", "RESET"),
        ("DISCARD ALL", "DISCARD ALL"),
        ("DEALLOCATE ALL", "DEALLOCATE ALL"),
        ("CLOSE ALL", "CLOSE CURSOR ALL"),
        ("UNLISTEN *", "UNLISTEN"),
        ("SELECT 1", "SELECT 1"),
    ],
)
def test_housekeeping_of_drivers(sql: str, expected: str) -> None:
    assert tags(sql) == [expected]


def test_asyncpgs_reset_query() -> None:
    expected = ["SELECT 1", "CLOSE CURSOR ALL", "UNLISTEN", "RESET"]
    assert tags("SELECT pg_advisory_unlock_all();\nCLOSE ALL;\nUNLISTEN *;\nRESET ALL;") == expected


@pytest.mark.parametrize(
    ("statements", "statuses"),
    [
        (["BEGIN", "SHOW USERS", "COMMIT"], "TTI"),
        (["START TRANSACTION", "FOO", "ROLLBACK"], "TTI"),
        (["BEGIN", "SAVEPOINT a", "ROLLBACK TO a", "END"], "TTTI"),
        (["BEGIN", "COMMIT AND CHAIN", "ROLLBACK AND NO CHAIN"], "TTI"),
        (["COMMIT", "SAVEPOINT a"], "II"),
        (["BEGIN; SHOW USERS; COMMIT"], "I"),
    ],
)
def test_transaction_status(statements: list[str], statuses: str) -> None:
    found = talk(*map(query, statements))
    assert "".join(answer.value for answer in found if answer.kind == "Z") == statuses


@pytest.mark.parametrize(
    ("sql", "value"),
    [
        ("SHOW transaction isolation level", b"read committed"),
        ("SHOW transaction_isolation", b"read committed"),
        ("SHOW TIME ZONE", b"Etc/UTC"),
        ("SHOW timezone", b"Etc/UTC"),
        ("SHOW standard_conforming_strings", b"on"),
        ("SHOW client_encoding", b"UTF8"),
        ("SHOW application_name", b"first"),
        ("SET statement_timeout = '5s'; SHOW statement_timeout", b"5s"),
        ("SET application_name = 'second'; RESET ALL; SHOW application_name", b"first"),
        ("SELECT 1", b"1"),
        ("SELECT current_user", b"admin"),
        ("select pg_catalog.version()", b"PostgreSQL 14.0 (pgdoorman 0.1.0)"),
        ("SELECT current_schema()", None),
    ],
)
def test_what_drivers_ask_about_the_server(sql: str, value: bytes | None) -> None:
    assert fields(sql)[-1] == [value]


def test_changed_parameters_are_reported_once() -> None:
    found = talk(query("SET application_name = 'second'"), query("SHOW USERS"), query("RESET application_name"))
    assert [answer.value for answer in found if answer.kind == "S"] == [
        ("application_name", "second"),
        ("application_name", "first"),
    ]
    found = talk(parse("SET application_name = 'second'"), bind(), execute())
    assert [answer.kind for answer in found] == ["1", "2", "S", "C"]


@pytest.mark.parametrize(
    ("sql", "names"),
    [
        (
            "SELECT name FROM (SELECT pg_catalog.lower(name) AS name FROM pg_catalog.pg_settings UNION ALL SELECT"
            " 'all') ss WHERE substring(name,1,4)='pool'",
            [b"pool_coordinator", b"pool_scaling", b"pools", b"pools_extended", b"pools_memory"],
        ),
        (
            "SELECT pg_catalog.lower(name) FROM pg_catalog.pg_settings WHERE pg_catalog.lower(name) LIKE"
            " pg_catalog.lower('ver%')",
            [b"version"],
        ),
        (
            "SELECT pg_catalog.lower(name) FROM pg_catalog.pg_settings  WHERE context IN ('user', 'superuser')    AND"
            " pg_catalog.lower(name) LIKE pg_catalog.lower('log\\_l%')\nLIMIT 1000",
            [b"log_level"],
        ),
        (
            "SELECT pg_catalog.lower(name) FROM pg_catalog.pg_settings  WHERE context IN ('user', 'superuser')    AND"
            " pg_catalog.lower(name) LIKE pg_catalog.lower('query\\_w%')\nLIMIT 1000",
            [b"query_wait_notify", b"query_wait_timeout"],
        ),
        ("SELECT name FROM pg_catalog.pg_settings WHERE name LIKE 'zzz%' LIMIT 1000", []),
        ("SELECT vartype FROM pg_catalog.pg_settings WHERE pg_catalog.lower(name) = pg_catalog.lower('log_level')", []),
    ],
)
def test_completion_of_psql(sql: str, names: list[bytes]) -> None:
    assert fields(sql) == [[name] for name in names]
