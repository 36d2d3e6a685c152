"""Which texts of pooler_check_query are answered without a server, and with what."""

from __future__ import annotations

import pytest

from pgdoorman_lib.pool.health import Health
from pgdoorman_lib.wire import messages

EMPTY = messages.EMPTY_QUERY_MESSAGE + messages.ready_for_query(b"I")


@pytest.mark.parametrize("sql", ["", ";", " ;; ", "/* ping */", "-- ping", "--\n/* a*b/c **/;"])
def test_nothing_to_do_is_answered_at_once(sql):
    health = Health(sql)
    assert (health.answer, health.question, health.message) == (EMPTY, None, messages.query(sql))


@pytest.mark.parametrize(
    "sql",
    [
        "select 1",
        "SELECT 1;",
        " /* ping */ select -1.5 as up , 'it is', true ok -- end",
        "select/**/null;;",
    ],
)
def test_constants_are_asked_for_once(sql):
    health = Health(sql)
    assert (health.answer, health.question) == (None, sql)
    health.learn(bytearray(b"row"))
    assert (health.answer, health.question) == (b"row", None)


def test_what_a_server_has_told_another_process():
    told, asking, other = Health("select 1"), Health("select 1"), Health("select 2")
    assert told.pack() is None
    told.learn(bytearray(b"row"))
    for health in (asking, other):
        health.hear(*told.pack())
    assert (asking.answer, asking.question) == (b"row", None)
    assert (other.answer, other.question) == (None, "select 2")
    blank = Health(";")
    blank.hear(blank.message, b"row")
    assert blank.answer == EMPTY


def test_a_refusal_is_no_answer():
    health = Health("select 1 as from")
    health.learn(None)
    assert (health.answer, health.question) == (None, None)


@pytest.mark.parametrize(
    "sql",
    [
        "select now()",
        "select f",
        "select current_user",
        "select 1; select 2",
        "select 1 from t",
        "select 'a\\'",
        "select 'ä'",
        "insert into t values (1)",
        "show x",
        "begin",
        "select",
        "/* open",
        "select 1 into t",
    ],
)
def test_anything_else_goes_to_a_server(sql):
    health = Health(sql)
    assert (health.answer, health.question) == (None, None)
