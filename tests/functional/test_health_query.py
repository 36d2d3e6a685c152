"""pooler_check_query: answered without a server."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
from eventually import eventually
from fix_doorman import MakeDoorman, merged
from fix_postgres import Postgres
from fix_proxy import MakeProxy
from wire_client import WireClient, kinds, prepared, query


@pytest.mark.parametrize(("setting", "asked"), [(None, ";"), ("select 1", "select 1"), ("/* ping */", "/* ping */")])
def test_answered_although_no_server_is_free(make_doorman: MakeDoorman, setting: str | None, asked: str) -> None:
    doorman = make_doorman({"general": {"pooler_check_query": setting}})
    with doorman.wire("onedb") as before:
        # The first answer may be PostgreSQL's, kept for later.
        first = before.ask_query(asked)
    assert kinds(first) == ("TDCZ" if "select" in asked else "IZ")

    with doorman.wire("onedb") as holder, ExitStack() as stack:
        holder.ask_query("BEGIN")

        def answered() -> WireClient | None:
            """A client that is; what one worker was told all know in a moment."""
            another = stack.enter_context(doorman.wire("onedb"))
            another.send(query(asked))
            return None if another.is_quiet() else another

        client = eventually(answered)
        assert client is not None
        answer = client.read_ready()
        assert answer[-1].body == b"I"
        assert [(m.kind, m.body) for m in answer] == [(m.kind, m.body) for m in first]
        # Another one does wait.
        client.send(query("SELECT 2"))
        assert client.is_quiet()
        holder.ask_query("COMMIT")
        assert kinds(client.read_ready()) == "TDCZ"


def test_answered_although_no_server_can_be_had(
    make_doorman: MakeDoorman, make_proxy: MakeProxy, postgres: Postgres
) -> None:
    proxy = make_proxy((postgres.host, postgres.port))
    doorman = make_doorman({"pools": {"testdb": {"server_host": proxy.host, "server_port": proxy.port}}})
    with doorman.wire() as client:
        assert kinds(client.ask_query(";")) == "IZ"
        proxy.refuse = True
        proxy.drop()
        for _ in range(3):
            assert kinds(client.ask_query(";")) == "IZ"


def test_only_the_very_same_bytes_outside_a_transaction(make_doorman: MakeDoorman) -> None:
    """Inside a transaction, in a batch, or spelt otherwise it is a statement like any."""
    doorman = make_doorman({"general": {"pooler_check_query": "select 1"}})
    with doorman.wire() as client:
        client.ask_query("select 1")
        client.ask_query("BEGIN")
        assert client.ask_query("select 1")[-1].body == b"T"
        client.ask_query("SELECT 1/0")
        assert kinds(client.ask_query("select 1")) == "EZ"
        client.ask_query("ROLLBACK")
        assert kinds(client.ask_query("select  1")) == "TDCZ"
        assert kinds(client.ask(prepared("", "select 1"))) == "12TDCZ"
        # Sent together with others it is answered in its turn.
        answer = client.ask(query("SELECT 2") + query("select 1") + query("SELECT 3"), 3)
        assert kinds(answer).startswith("TDCZ")
        assert kinds(answer).endswith("TDCZ")


def test_a_row_is_what_drivers_get_although_no_server_can_be_had(
    make_doorman: MakeDoorman, make_proxy: MakeProxy, postgres: Postgres
) -> None:
    proxy = make_proxy((postgres.host, postgres.port))
    over = {"testdb": {"server_host": proxy.host, "server_port": proxy.port}}
    doorman = make_doorman({"general": {"pooler_check_query": "select 'up' as state, 1"}, "pools": over})
    with doorman.wire() as client:
        first = client.ask_query("select 'up' as state, 1")
        proxy.refuse = True
        proxy.drop()
        for _ in range(3):
            again = client.ask_query("select 'up' as state, 1")
            assert [(m.kind, m.body) for m in again] == [(m.kind, m.body) for m in first]
        assert client.value("select 'up' as state, 1") == "up"


def test_what_may_change_is_asked_each_time_and_what_fails_fails(make_doorman: MakeDoorman) -> None:
    doorman = make_doorman({"general": {"pooler_check_query": "select txid_current()"}})
    with doorman.wire() as client:
        assert client.value("select txid_current()") != client.value("select txid_current()")
    doorman = make_doorman({"general": {"pooler_check_query": "select 1 limit"}})
    with doorman.wire() as client:
        for _ in range(2):
            assert kinds(client.ask_query("select 1 limit")) == "EZ"
        assert client.value("SELECT 2") == "2"
    assert len([line for line in doorman.log_lines if "pooler_check_query fails" in line]) == 1


def test_a_reload_changes_it(make_doorman: MakeDoorman) -> None:
    """Connected clients, too, get the new one answered, and the old one as any query."""
    doorman = make_doorman()
    with doorman.wire("onedb") as client, doorman.wire("onedb") as other:
        assert kinds(client.ask_query(";")) == "IZ"
        assert client.value("SELECT 1") == "1"
        doorman.reload(merged(doorman.config, {"general": {"pooler_check_query": "select 5"}}))
        assert client.value("select 5") == "5"
        other.ask_query("BEGIN")
        assert client.value("select 5") == "5"
        client.send(query(";"))
        assert client.is_quiet()
        other.ask_query("COMMIT")
        assert kinds(client.read_ready()) == "IZ"
