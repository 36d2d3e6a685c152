"""Limits in time for what clients do: what each tells them, what becomes of their servers, and whom it leaves alone."""

from __future__ import annotations

import time

import pytest
from eventually import eventually
from fix_doorman import ADMIN_PASSWORD, ADMIN_USER, Doorman, MakeDoorman, until_idle
from fix_postgres import Postgres
from pace import patience
from wire_client import SYNC, WireClient, bind, execute, kinds, message, parse, query

#: For what strikes at once.
SOON = "250ms"


def kept_by_the_quick(seconds: float) -> tuple[str, float]:
    """A limit that strikes soon, but nobody who is quick on a machine at rest: as a setting, and in seconds.

    An odd number of milliseconds, so that it is told in these, too.
    """
    milliseconds = int(patience(seconds) * 1000) | 1
    return f"{milliseconds}ms", milliseconds / 1000


def limited(make_doorman: MakeDoorman, **general: object) -> Doorman:
    return make_doorman({"general": general})


def ended(client: WireClient) -> tuple[str, str, str]:
    """The FATAL error that the connection ends with: SQLSTATE, text, detail."""
    last = client.read_messages_to_end()[-1]
    assert last.kind == "E" and last.fields["S"] == "FATAL"
    return last.sqlstate, last.fields["M"], last.fields.get("D", "")


def is_gone(postgres: Postgres, pid: str | None) -> None:
    def gone() -> bool:
        with postgres.connect() as direct:
            row = direct.execute(f"SELECT count(*) FROM pg_stat_activity WHERE pid = {pid}").fetchone()
        return row is not None and row[0] == 0

    eventually(gone, message="what ran at PostgreSQL has ended")


@pytest.mark.parametrize("database", ["onedb", "sessiondb"])
def test_query_timeout(make_doorman: MakeDoorman, postgres: Postgres, database: str) -> None:
    limit, seconds = kept_by_the_quick(0.25)
    doorman = limited(make_doorman, query_timeout=limit)
    with doorman.wire(database) as slow, doorman.wire(database) as patient:
        pid = slow.value("SELECT pg_backend_pid()")
        began = time.monotonic()
        slow.send(query("SELECT pg_sleep(60)"))
        assert ended(slow) == (
            "57014",
            "canceling statement due to statement timeout",
            f"query_timeout of the pooler is {limit}.",
        )
        assert time.monotonic() - began >= seconds
        is_gone(postgres, pid)
        assert patient.value("SELECT pg_backend_pid()") != pid
        for _ in range(10):  # only the statement counts
            assert patient.value(f"SELECT pg_sleep({seconds / 5})") == ""
        patient.ask_query("BEGIN")
        assert patient.is_quiet(2 * seconds)
        patient.ask_query("COMMIT")
    until_idle(doorman, database)


def test_query_timeout_counts_waiting_and_unfinished_batches(make_doorman: MakeDoorman) -> None:
    doorman = limited(make_doorman, query_timeout=kept_by_the_quick(0.25)[0])
    with doorman.wire("onedb") as holder, doorman.wire("onedb") as waiting, doorman.wire("twodb") as silent:
        holder.ask_query("BEGIN")
        waiting.send(query("SELECT 1"))
        assert ended(waiting)[0] == "57014"
        holder.ask_query("COMMIT")
        silent.send(parse("", "SELECT 1") + bind("", "") + execute() + message("H"))
        assert ended(silent)[0] == "57014"
        until_idle(doorman, "twodb")
        assert holder.value("SELECT 1") == "1"


def test_idle_transaction_timeout(make_doorman: MakeDoorman, postgres: Postgres) -> None:
    limit, seconds = kept_by_the_quick(0.25)
    doorman = limited(make_doorman, idle_transaction_timeout=limit)
    with doorman.wire("onedb") as client, doorman.wire("onedb") as other:
        client.ask_query("BEGIN")
        pid = client.value("SELECT pg_backend_pid()")
        for _ in range(4):
            assert client.value(f"SELECT pg_sleep({seconds / 2.5})") == ""
        client.send(query(f"SELECT pg_sleep({2 * seconds})"))  # at work, not idle
        assert kinds(client.read_ready()) == "TDCZ"
        assert ended(client)[:2] == ("25P03", "terminating connection due to idle-in-transaction timeout")
        is_gone(postgres, pid)
        assert other.value("SELECT pg_backend_pid()") != pid
        assert other.is_quiet(1.6 * seconds), "nor is one idle without a transaction"
        assert other.value("SELECT 1") == "1"


@pytest.mark.parametrize("database", ["onedb", "sessiondb"])
def test_transaction_timeout(make_doorman: MakeDoorman, postgres: Postgres, database: str) -> None:
    limit, seconds = kept_by_the_quick(0.4)
    doorman = limited(make_doorman, transaction_timeout=limit)
    with doorman.wire(database) as client:
        for _ in range(8):  # each a transaction of its own
            assert client.value(f"SELECT pg_sleep({seconds / 4})") == ""
        assert client.is_quiet(1.25 * seconds)
        began = time.monotonic()
        client.ask_query("BEGIN")
        pid = client.value("SELECT pg_backend_pid()")
        client.send(b"".join(query(f"SELECT pg_sleep({seconds / 4})") for _ in range(20)))
        assert ended(client)[:2] == ("25P04", "terminating connection due to transaction timeout")
        assert time.monotonic() - began >= seconds
        is_gone(postgres, pid)
    until_idle(doorman, database)


def test_client_idle_timeout(make_doorman: MakeDoorman) -> None:
    limit, seconds = kept_by_the_quick(0.6)
    doorman = limited(make_doorman, client_idle_timeout=limit)
    with doorman.wire() as idle, doorman.wire() as asking, doorman.wire() as busy, doorman.wire("sessiondb") as kept:
        idle.value("SELECT 1")
        kept.value("SELECT 1")
        busy.ask_query("BEGIN")
        until = time.monotonic() + 2.5 * seconds
        while time.monotonic() < until:  # what is answered without a server counts, too
            assert kinds(asking.ask_query(";")) == "IZ"
            time.sleep(seconds / 6)
        assert ended(idle)[:2] == ("57P05", "terminating connection due to idle-session timeout")
        assert busy.value("SELECT 1") == "1"
        assert kept.value("SELECT 1") == "1"
        assert kinds(asking.ask(SYNC)) == "Z"
        busy.ask_query("COMMIT")
        assert ended(busy)[0] == "57P05"


def test_a_client_that_waits_is_told(make_doorman: MakeDoorman) -> None:
    doorman = limited(make_doorman, query_wait_notify=SOON)
    with doorman.wire("onedb") as holder, doorman.wire("onedb") as waiting:
        for _ in range(2):
            holder.ask_query("BEGIN")
            began = time.monotonic()
            waiting.send(query("SELECT 1"))
            notice = waiting.read()
            assert time.monotonic() - began >= 0.25
            assert (notice.kind, notice.fields["S"], notice.sqlstate) == ("N", "NOTICE", "00000")
            assert notice.fields["M"] == "No server connection available in postgres backend, client being queued"
            assert waiting.is_quiet(0.4), "once"
            holder.ask_query("COMMIT")
            assert kinds(waiting.read_ready()) == "TDCZ"


def test_limits_come_and_go_with_set_and_reload(make_doorman: MakeDoorman) -> None:
    doorman = limited(make_doorman)
    with doorman.wire("pgdoorman", ADMIN_USER, ADMIN_PASSWORD) as admin, doorman.wire() as client:
        assert client.value("SELECT pg_sleep(0.4)") == ""
        client.send(query("SELECT pg_sleep(60)"))
        eventually(lambda: doorman.pool()["sv_active"] == 1)
        admin.ask_query(f"SET query_timeout = '{SOON}'")
        assert ended(client)[0] == "57014"
        with doorman.wire() as client:
            doorman.reload()
            assert client.value("SELECT pg_sleep(0.4)") == ""


def test_a_server_is_not_lent_on_by_a_statement_cut_short(make_doorman: MakeDoorman) -> None:
    """Many that are cut short and many that are not, over few servers: nobody gets another's answer."""
    doorman = limited(make_doorman, query_timeout=kept_by_the_quick(0.15)[0])
    clients = [doorman.wire("twodb") for _ in range(6)]
    try:
        for round_ in range(6):
            clients[0].send(query("SELECT pg_sleep(60)"))
            for number, client in enumerate(clients[1:]):
                client.send(query(f"SELECT {round_ * 100 + number}"))
            for number, client in enumerate(clients[1:]):
                assert client.read_ready()[1].columns == [str(round_ * 100 + number).encode()]
            assert ended(clients[0])[0] == "57014"
            clients[0].close()
            clients[0] = doorman.wire("twodb")
        until_idle(doorman, "twodb")
    finally:
        for client in clients:
            client.close()
