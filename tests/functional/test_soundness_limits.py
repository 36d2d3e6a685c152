"""What acts on a server while it rests or serves another: limits and modes that one client has set end nothing of others'."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import twins
from eventually import eventually
from fix_doorman import Doorman, MakeDoorman, until_idle
from fix_postgres import Postgres
from pace import patience
from twins import Twins, rows
from wire_client import WireClient, WireError, kinds, query

LIMITS = """
    CREATE FUNCTION limited(text, text) RETURNS text LANGUAGE sql AS $$ SELECT set_config($1, $2, false) $$;
"""

#: A role whose sessions PostgreSQL ends when they rest.
RESTLESS = "twin_restless"
REST = 0.08


@pytest.fixture(scope="module")
def doorman_over(postgres: Postgres) -> Iterator[Mapping[str, Any]]:
    twins.populate(postgres, LIMITS)
    postgres.sql(
        f"CREATE ROLE {RESTLESS} LOGIN PASSWORD '{twins.OTHERS_PASSWORD.replace(chr(39), chr(39) * 2)}';"
        f" ALTER ROLE {RESTLESS} SET idle_session_timeout = '{int(REST * 1000)}ms'"
    )
    yield {
        "pools": {
            "one": twins.pool(postgres, 1),
            "reset": twins.pool(postgres, 1, session_state="reset"),
            "session": twins.pool(postgres, 1, pool_mode="session"),
            "restless": twins.pool(postgres, 1, RESTLESS),
        }
    }


@pytest.fixture(scope="module", params=["one", "reset"])
def pair(request: pytest.FixtureRequest, doorman: Doorman, postgres: Postgres) -> Iterator[Twins]:
    with Twins(doorman, postgres, request.param) as made:
        yield made


def set_by(way: str, name: str, value: str) -> bytes:
    return query(
        {
            "SET": f"SET {name} = '{value}'",
            "set_config": f"SELECT set_config('{name}', '{value}', false)",
            "DO": f"DO $$ BEGIN EXECUTE format('SET %I = %L', '{name}', '{value}'); END $$",
            "function": f"SELECT limited('{name[:4]}' || '{name[4:]}', '{value}')",
            "transaction": f"BEGIN; SET {name} = '{value}'; COMMIT",
        }[way]
    )


WAYS = ("SET", "set_config", "DO", "function", "transaction")


@pytest.mark.parametrize("way", WAYS)
def test_a_server_does_not_end_while_it_rests(pair: Twins, way: str) -> None:
    """idle_session_timeout is a session's; the server that one has lent is nobody's while it rests."""
    a, b = pair.pooled(), pair.pooled()
    assert kinds(a.ask(set_by(way, "idle_session_timeout", "50ms")))[-1] == "Z"
    for number in range(12):
        b.is_quiet(0.044 + number * 0.001)  # as long as it takes PostgreSQL to end the session, or a little less
        assert b.value("SELECT 1") == "1"
    a.close()
    until_idle(pair.doorman, pair.database, pair.user)
    b.is_quiet(0.12)
    assert b.value("SELECT 1") == "1"
    with pair.pooled() as other:
        assert other.value("SHOW idle_session_timeout") == "0"


def test_nor_in_session_mode(doorman: Doorman, postgres: Postgres) -> None:
    with Twins(doorman, postgres, "session") as both:
        with both.pooled() as a:
            a.ask_query("SET idle_session_timeout = '50ms'")
            a.terminate()
        with both.pooled() as b:
            b.is_quiet(0.12)
            assert b.value("SELECT 1") == "1"
            b.terminate()


def test_a_server_that_ends_as_it_is_lent(doorman: Doorman, postgres: Postgres) -> None:
    """PostgreSQL's own limit for a role: what it says as the server is lent is no client's business."""
    with Twins(doorman, postgres, "restless", RESTLESS) as both:
        client = both.pooled()
        for number in range(30):
            client.is_quiet(REST + (number - 15) * 0.001)
            assert client.value(f"SELECT {number}") == str(number)
        client.terminate()


@pytest.mark.parametrize(
    ("name", "value"),
    [("statement_timeout", "1ms"), ("lock_timeout", "1ms"), ("idle_in_transaction_session_timeout", "1ms")],
)
@pytest.mark.parametrize("way", WAYS)
def test_limits_of_one_are_not_another_s(pair: Twins, name: str, value: str, way: str) -> None:
    """Nor do they hit what the pooler itself says to the server."""
    b = pair.pooled()
    for number in range(6):
        with pair.pooled() as a:
            a.send(set_by(way, name, value))
            b.send(query("SELECT pg_sleep(0.005)"))
            answer = a.read_ready()
            # PostgreSQL may find that the statement that sets it has lasted too long.
            errors = [m.sqlstate for m in answer if m.kind == "E"]
            assert errors in ([], ["57014"])
            if not pair.answered_or_pinned(b) or number % 2:
                a.terminate()
            assert kinds(b.read_ready()) == "TDCZ"
        assert b.value(f"SHOW {name}") == "0"
    b.terminate()


@pytest.mark.parametrize("way", WAYS)
def test_what_a_client_with_no_time_has_set_is_taken_back(pair: Twins, way: str) -> None:
    """The pooler's own statements run under none of the client's limits."""
    for number in range(5):
        with pair.pooled() as a:
            a.ask_query(f"BEGIN; SET work_mem = '{number + 1}MB'; SET app.x = 'mine'; SELECT pg_advisory_lock(7)")
            a.ask(set_by(way, "statement_timeout", "1ms") if way != "transaction" else query("SET statement_timeout=1"))
            a.ask_query("COMMIT")
            a.terminate()
        with pair.pooled() as b, pair.direct() as fresh:
            assert twins.differences(twins.visible(b), twins.visible(fresh)) == {}
            b.terminate()


@pytest.fixture
def serializable_writer(postgres: Postgres) -> Iterator[list[WireClient]]:
    """A serializable transaction in both databases that has written: a deferrable one waits for its end."""
    writers = [postgres.wire(database, twins.USER) for database in (twins.POOLED, twins.DIRECT)]
    for writer in writers:
        writer.ask_query("BEGIN ISOLATION LEVEL SERIALIZABLE; INSERT INTO whose VALUES ('written')")
    yield writers
    for writer in writers:
        writer.close()


@pytest.mark.parametrize(
    "text",
    [
        "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ ONLY, DEFERRABLE",
        "SET default_transaction_isolation = serializable; SET default_transaction_read_only = on;"
        " SET default_transaction_deferrable = on",
        "SELECT set_config('default_transaction_isolation', 'serializable', false),"
        " set_config('default_transaction_read_only', 'on', false),"
        " set_config('default_transaction_deferrable', 'on', false)",
        "DO $$ BEGIN SET default_transaction_isolation = serializable; SET default_transaction_read_only = on;"
        " SET default_transaction_deferrable = on; END $$",
    ],
    ids=twins.label,
)
@pytest.mark.usefixtures("serializable_writer")
def test_a_deferrable_transaction_of_one_hangs_nobody(pair: Twins, text: str) -> None:
    b = pair.pooled()
    with pair.pooled() as a:
        a.ask_query(text)
        assert b.value("SELECT 1") == "1"
        assert b.value("SHOW default_transaction_isolation") == "read committed"
        a.terminate()
    with pair.pooled() as other:
        assert other.value("SELECT 1") == "1"
        other.terminate()
    b.terminate()


@pytest.mark.parametrize(
    "setting",
    [
        "SET default_transaction_read_only = on",
        "SET default_transaction_isolation = serializable",
        "SET transaction_timeout = 1",
        "SET client_min_messages = error",
        "SET row_security = off",
        "SET check_function_bodies = off",
        "SET bytea_output = escape; SET extra_float_digits = -5; SET standard_conforming_strings = off",
        "SET client_encoding = LATIN1",
        "SET quote_all_identifiers = on; SET escape_string_warning = off; SET backslash_quote = off",
        "SET exit_on_error = on",
        "SET enable_seqscan = off; SET max_stack_depth = '100kB'",
        "SET work_mem = '64kB'; SET hash_mem_multiplier = 1000; SET enable_hashagg = off",
        "SET search_path = ''",
        "SET transform_null_equals = on; SET array_nulls = off; SET xmloption = document",
        "SET vacuum_cost_delay = 100; SET log_min_messages = fatal",
    ],
    ids=twins.label,
)
def test_modes_of_one_do_not_mislead_what_the_pooler_says(pair: Twins, setting: str) -> None:
    twins.leaves_nothing(
        pair, twins.said(setting, "SET app.x = 'it''s \\ mine'", "SET work_mem = '9MB'"), kept=pair.database == "one"
    )


def test_a_client_ended_by_its_own_limit_takes_nobody_along(make_doorman: MakeDoorman, postgres: Postgres) -> None:
    """PostgreSQL ends a session in an idle transaction at the client's own wish: that client's end, nobody else's."""
    doorman = make_doorman({"pools": {"one": twins.pool(postgres, 1)}})
    with Twins(doorman, postgres) as both:
        a, b = both.pooled(), both.pooled()
        a.ask_query("SET idle_in_transaction_session_timeout = '50ms'")
        a.ask_query("BEGIN")
        started = time.monotonic()
        b.send(query("SELECT 1"))
        assert a.read_until("E")[-1].sqlstate == "25P03"
        assert rows(b.read_ready()) == [(b"1",)]
        assert time.monotonic() - started < patience(10)
        eventually(lambda: _works(both))


def _works(both: Twins) -> bool:
    try:
        with both.pooled() as client:
            return client.value("SELECT 1") == "1"
    except (WireError, ConnectionError):
        return False
