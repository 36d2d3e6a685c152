"""Settings that limit what one client may take, and what is written about it."""

from __future__ import annotations

import sys

import pytest
from eventually import eventually
from fix_doorman import MakeDoorman, app_pool, until_idle
from fix_postgres import Postgres
from wire_client import SYNC, kinds, parse, query


def test_messages_being_read_have_a_limit_in_all(make_doorman: MakeDoorman) -> None:
    """max_memory_usage: a statement that must be read whole and does not fit is refused; others don't notice."""
    doorman = make_doorman({"general": {"max_memory_usage": "1MB"}})
    with doorman.wire() as client, doorman.wire() as bystander:
        answer = client.ask(parse("large", "SELECT '" + "x" * 2_000_000 + "'") + SYNC)
        assert [m.sqlstate for m in answer if m.kind == "E"] == ["53200"] and kinds(answer) == "EZ"
        assert client.value("SELECT 1") == "1"
        assert bystander.value("SELECT 1") == "1"
    with doorman.wire() as client:  # nothing of it is left on the account
        assert kinds(client.ask(parse("fits", "SELECT '" + "x" * 900_000 + "'") + SYNC)) == "1Z"
    with doorman.wire() as client:
        assert kinds(client.ask(parse("fits", "SELECT '" + "x" * 900_000 + "'") + SYNC)) == "1Z"


def test_changed_parameters_are_logged_on_demand(make_doorman: MakeDoorman) -> None:
    doorman = make_doorman({"pools": {"testdb": {"log_client_parameter_status_changes": True}}})
    with doorman.wire() as client:
        client.ask_query("SET application_name = 'renamed here'")
        doorman.wait_log(r"parameter application_name is now 'renamed here'")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="TCP_USER_TIMEOUT is Linux's")
def test_a_client_that_stopped_reading_amid_a_row_is_ended_and_disturbs_nobody(
    make_doorman: MakeDoorman, postgres: Postgres
) -> None:
    """What proxy_copy_data_timeout is for elsewhere: tcp_user_timeout does it, and counts only time without progress."""
    doorman = make_doorman({"general": {"tcp_user_timeout": 2}, "pools": {"testdb": app_pool(postgres, 2)}})
    with doorman.wire() as stalled, doorman.wire() as other:
        stalled.ask_query("SELECT 1")
        stalled.send(query(f"SELECT repeat('x', {64 << 20})"))
        eventually(lambda: doorman.pool()["sv_active"] == 1, message="the row is under way")
        before = doorman.rss()
        assert other.value("SELECT 2") == "2"
        until_idle(doorman, timeout=30.0)
        assert doorman.rss() - before < 16 << 20
        assert other.value("SELECT 3") == "3"
