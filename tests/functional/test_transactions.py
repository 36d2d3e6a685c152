"""Sharing servers between clients: a transaction is one server's, and nothing of a session goes to another client."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Mapping
from typing import Any

import psycopg
import pytest
from eventually import eventually, stays
from fix_doorman import Doorman, app_pool, app_user, until_idle
from fix_postgres import Postgres
from pace import patience
from wire_client import TERMINATE, WireError, kinds, prepared, query


@pytest.fixture(scope="module")
def doorman_over(postgres: Postgres) -> Mapping[str, Any]:
    def user(name: str, size: int, **more: Any) -> dict[str, Any]:
        return app_user(postgres, size, username=name, password=postgres.password("app"), **more)

    users = [user("by_pool", 1), user("by_user", 2, pool_mode="session")]
    return {"pools": {"mixed": app_pool(postgres, pool_mode="transaction", users=users)}}


def test_a_server_is_lent_for_a_transaction(doorman: Doorman) -> None:
    """Two clients, one server: between transactions it changes hands, within one it does not."""
    with doorman.wire("onedb") as one, doorman.wire("onedb") as two:
        assert one.value("SELECT pg_backend_pid()") == two.value("SELECT pg_backend_pid()")
        one.ask_query("BEGIN")
        two.send(query("SELECT 2"))
        assert two.is_quiet()
        assert one.value("SELECT 1") == "1"
        one.ask_query("COMMIT")
        assert kinds(two.read_ready()) == "TDCZ"


def test_a_failed_transaction_is_held_until_its_end(doorman: Doorman) -> None:
    with doorman.wire("onedb") as one, doorman.wire("onedb") as two:
        one.ask_query("BEGIN")
        assert one.ask_query("SELECT 1/0")[-1].body == b"E"
        two.send(query("SELECT 2"))
        assert two.is_quiet()
        assert [m.sqlstate for m in one.ask_query("SELECT 1") if m.kind == "E"] == ["25P02"]
        answer = one.ask_query("COMMIT")
        assert (answer[0].tag, answer[-1].body) == ("ROLLBACK", b"I")
        assert kinds(two.read_ready()) == "TDCZ"


def test_session_mode_holds_its_server_for_the_client_s_life(doorman: Doorman) -> None:
    with doorman.wire("sessiondb") as client:
        client.ask_query("CREATE TEMP TABLE mine (a int)")
        client.ask_query("SET statement_timeout = 54321")
        first = client.value("SELECT pg_backend_pid()")
        with doorman.wire("sessiondb") as other:
            assert other.value("SELECT pg_backend_pid()") != first
            assert other.value("SHOW statement_timeout") == "0"
        assert client.value("SELECT pg_backend_pid()") == first
        assert client.value("SELECT count(*) FROM mine") == "0"


def test_session_mode_waits_for_a_free_server(doorman: Doorman) -> None:
    clients = [doorman.wire("sessiondb") for _ in range(4)]
    for client in clients:
        client.ask_query("SELECT 1")
    fifth = doorman.wire("sessiondb")
    fifth.send(query("SELECT 'fifth'"))
    assert fifth.is_quiet()
    clients[2].terminate()
    assert kinds(fifth.read_ready()) == "TDCZ"


def test_pool_mode_of_a_user_wins_over_the_pool_s(doorman: Doorman) -> None:
    password = Postgres.PASSWORDS["app"]
    with doorman.wire("mixed", "by_user", password) as session, doorman.wire("mixed", "by_user", password) as other:
        first = session.value("SELECT pg_backend_pid()")
        assert other.value("SELECT pg_backend_pid()") != first
    with doorman.wire("mixed", "by_pool", password) as one, doorman.wire("mixed", "by_pool", password) as two:
        assert one.value("SELECT pg_backend_pid()") == two.value("SELECT pg_backend_pid()")
    modes = {r["user"]: r["pool_mode"] for r in doorman.admin("SHOW POOLS") if r["database"] == "mixed"}
    assert modes == {"by_pool": "transaction", "by_user": "session"}


# -- nothing goes over to the next client

LEFT_BEHIND = {
    "a reported parameter": ("SET TimeZone = 'Asia/Tokyo'", "SHOW TimeZone", "UTC"),
    "application_name": ("SET application_name = 'somebody'", "SHOW application_name", None),
    "client_encoding": ("SET client_encoding = 'LATIN1'", "SHOW client_encoding", "UTF8"),
    "a parameter not reported": ("SET statement_timeout = 7777", "SHOW statement_timeout", "0"),
    "search_path": ("SET search_path = pg_catalog", "SHOW search_path", '"$user", public'),
    "by set_config": ("SELECT set_config('work_mem', '7777kB', false)", "SHOW work_mem", "4MB"),
    "in a transaction": ("BEGIN; SET lock_timeout = 5555; COMMIT", "SHOW lock_timeout", "0"),
    "behind a SELECT": ("SELECT 1; SET lock_timeout = 5555", "SHOW lock_timeout", "0"),
    "a role": ("SET ROLE pg_read_all_stats", "SELECT current_user", "app"),
    "session characteristics": (
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
        "SHOW default_transaction_read_only",
        "off",
    ),
    "a custom setting": ("SET app.tenant = '42'", "SELECT coalesce(current_setting('app.tenant', true), '')", ""),
}


@pytest.mark.parametrize("database", ["onedb", "sessiondb"])
@pytest.mark.parametrize("name", LEFT_BEHIND)
@pytest.mark.parametrize("extended", [False, True], ids=["simple", "extended"])
def test_what_a_client_sets_is_not_seen_by_the_next(doorman: Doorman, database: str, name: str, extended: bool) -> None:
    leave, look, clean = LEFT_BEHIND[name]
    if extended and ";" in leave:
        pytest.skip("several statements are for the simple protocol")
    for _ in range(4 if database == "sessiondb" else 1):  # whichever server of the session pool it was
        with doorman.wire(database) as first:
            answer = first.ask(prepared("", leave) if extended else query(leave))
            assert "E" not in kinds(answer)
            first.terminate()
    with doorman.wire(database) as second:
        got = second.value(look)
        assert got == clean if clean is not None else got != "somebody"


@pytest.mark.parametrize("name", ["a reported parameter", "application_name", "client_encoding"])
def test_reported_parameters_stay_each_client_s_own_while_a_server_changes_hands(doorman: Doorman, name: str) -> None:
    leave, look, clean = LEFT_BEHIND[name]
    with doorman.wire("onedb") as one, doorman.wire("onedb") as two:
        for _ in range(3):
            one.ask_query(leave)
            mine = one.value(look)
            theirs = two.value(look)
            assert mine != theirs
            assert one.value(look) == mine
        assert two.value(look) == theirs
        if clean is not None:
            assert theirs == clean


def test_a_set_rolled_back_is_not_kept(doorman: Doorman) -> None:
    with doorman.wire("onedb") as one, doorman.wire("onedb") as two:
        one.ask_query("BEGIN")
        answer = one.ask_query("SET TimeZone = 'Asia/Tokyo'")
        assert "S" in kinds(answer)
        answer = one.ask_query("ROLLBACK")
        assert [m.body for m in answer if m.kind == "S"] == [b"TimeZone\0UTC\0"]
        assert two.value("SHOW TimeZone") == "UTC"
        assert one.value("SHOW TimeZone") == "UTC"


def test_set_local_ends_with_its_transaction(doorman: Doorman) -> None:
    with doorman.wire("onedb") as one, doorman.wire("onedb") as two:
        one.ask_query("BEGIN")
        one.ask_query("SET LOCAL TimeZone = 'Asia/Tokyo'")
        assert one.value("SHOW TimeZone") == "Asia/Tokyo"
        one.ask_query("COMMIT")
        assert two.value("SHOW TimeZone") == "UTC"
        assert one.value("SHOW TimeZone") == "UTC"


def test_values_are_quoted_when_they_are_set_again(doorman: Doorman) -> None:
    """A parameter's value is data, whatever quotes it holds."""
    nasty = "a'; CREATE TABLE hacked (a int); --\\"
    with doorman.wire("onedb", application_name=nasty) as one, doorman.wire("onedb") as two:
        for _ in range(3):
            assert one.value("SHOW application_name") == nasty
            assert two.value("SHOW application_name") != nasty
        assert two.value("SELECT to_regclass('hacked') IS NULL") == "t"


def test_temporary_tables_do_not_go_over(doorman: Doorman) -> None:
    with doorman.wire("sessiondb") as first:
        first.ask_query("CREATE TEMP TABLE left_over AS SELECT 1 AS a")
        first.terminate()
    until_idle(doorman, "sessiondb")
    clients = [doorman.wire("sessiondb") for _ in range(4)]
    for client in clients:
        assert client.value("SELECT to_regclass('pg_temp.left_over') IS NULL") == "t"


def test_locks_listens_and_cursors_do_not_go_over_in_session_mode(doorman: Doorman, postgres: Postgres) -> None:
    with doorman.wire("sessiondb") as first:
        first.ask_query("SELECT pg_advisory_lock(4711)")
        first.ask_query("LISTEN somewhere")
        first.ask_query("DECLARE held CURSOR WITH HOLD FOR SELECT 1")
        first.ask_query("PREPARE by_sql AS SELECT 1")
        first.terminate()
    until_idle(doorman, "sessiondb")
    eventually(lambda: not postgres.rows("SELECT 1 FROM pg_locks WHERE locktype = 'advisory'"))
    clients = [doorman.wire("sessiondb") for _ in range(4)]
    for client in clients:
        assert client.value("SELECT count(*) FROM pg_cursors") == "0"
        assert client.value("SELECT count(*) FROM pg_prepared_statements WHERE name = 'by_sql'") == "0"
        assert client.value("SELECT count(*) FROM pg_listening_channels()") == "0"


@pytest.mark.parametrize("database", ["onedb", "sessiondb"])
@pytest.mark.parametrize("polite", [True, False], ids=["Terminate", "lost"])
def test_an_abandoned_transaction_is_rolled_back(doorman: Doorman, database: str, polite: bool) -> None:
    with doorman.wire(database) as client:
        client.ask_query("DROP TABLE IF EXISTS abandoned")
        client.ask_query("CREATE TABLE abandoned (a int)")
        client.ask_query("BEGIN")
        client.ask_query("INSERT INTO abandoned VALUES (1)")
        if polite:
            client.terminate()
    with doorman.wire(database) as other:
        assert other.value("SELECT count(*) FROM abandoned") == "0"
        other.ask_query("SET lock_timeout = 5000")
        assert "E" not in kinds(other.ask_query("DROP TABLE abandoned"))


@pytest.mark.parametrize("busy", [False, True], ids=["free", "busy"])
@pytest.mark.parametrize("database", ["onedb", "sessiondb"])
def test_what_is_said_before_terminate_is_carried_out(doorman: Doorman, database: str, busy: bool) -> None:
    """A client need not stay for the answer: its connection is closed right behind its last words."""
    with doorman.wire("onedb") as other:
        other.ask_query("DROP TABLE IF EXISTS parting; CREATE TABLE parting (a int)")
        keepers = [doorman.wire(database) for _ in range(4 if database == "sessiondb" else 1)]
        for keeper in keepers if busy else ():
            keeper.ask_query("BEGIN")
        with doorman.wire(database) as client:
            insert = "INSERT INTO parting VALUES"
            client.send(query(f"{insert} (1)") + prepared("", f"{insert} (2)") + query(f"{insert} (3)") + TERMINATE)
            client.close()
        for keeper in keepers:
            keeper.terminate()
            keeper.close()
        eventually(lambda: other.value("SELECT sum(a) FROM parting") == "6")


def test_a_clients_running_statement_ends_with_it(doorman: Doorman, postgres: Postgres) -> None:
    """Client gone while its statement runs: it is cancelled, not waited for."""
    with doorman.wire("onedb") as client:
        client.send(query("SELECT pg_sleep(60), 'to be cancelled'"))
        eventually(lambda: any("to be cancelled" in b["query"] and b["state"] == "active" for b in postgres.backends()))
    began = time.monotonic()
    with doorman.wire("onedb") as other:
        assert other.value("SELECT 1") == "1"
    assert time.monotonic() - began < patience(4)
    assert not any(b["state"] == "active" and "to be cancelled" in b["query"] for b in postgres.backends())


def test_the_usual_reset_costs_nothing_when_nothing_was_touched(doorman: Doorman, postgres: Postgres) -> None:
    """Reset at check-in only for what was touched: after plain queries nothing is said to the server that takes back."""
    with doorman.wire("onedb") as client:
        client.ask_query("SELECT 'plain work'")
        client.ask_query("SELECT 'plain work'")
        pid = int(client.value("SELECT pg_backend_pid() -- plain work") or 0)
    taken_back = re.compile("RESET|DISCARD|DEALLOCATE|UNLISTEN|CLOSE|unlock|session_user")

    def quiet() -> bool:
        return any(b["pid"] == pid and not taken_back.search(b["query"]) for b in postgres.backends())

    assert stays(quiet, seconds=0.3)


def test_transactions_of_many_clients_do_not_mix(doorman: Doorman) -> None:
    with doorman.connect() as connection:
        connection.execute("DROP TABLE IF EXISTS accounts")
        connection.execute("CREATE TABLE accounts (who int, amount int)")
        connection.execute("INSERT INTO accounts SELECT i, 100 FROM generate_series(0, 9) i")
    failures: list[str] = []

    def work(seed: int) -> None:
        try:
            with doorman.connect(dbname="twodb", autocommit=False) as connection:
                for step in range(30):
                    source, target = seed % 10, (seed + step + 1) % 10
                    try:
                        for who, change in sorted(((source, -1), (target, 1))):
                            connection.execute("UPDATE accounts SET amount = amount + %s WHERE who = %s", (change, who))
                        if step % 5 == 0:
                            connection.rollback()
                        elif step % 7 == 0:
                            with pytest.raises(psycopg.errors.DivisionByZero):
                                connection.execute("SELECT 1/0")
                            connection.commit()
                        else:
                            connection.commit()
                    except psycopg.errors.DeadlockDetected:
                        connection.rollback()
        except BaseException as exc:
            failures.append(repr(exc))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(patience(50))
    assert not failures
    with doorman.connect() as connection:
        assert connection.execute("SELECT sum(amount), count(*) FROM accounts").fetchone() == (1000, 10)


def test_each_client_gets_its_own_rows(doorman: Doorman) -> None:
    """The first promise: never another client's rows."""
    failures: list[str] = []

    def work(seed: int) -> None:
        try:
            with doorman.connect(dbname="twodb") as connection:
                for step in range(120):
                    mark = f"{seed}/{step}"
                    row = connection.execute("SELECT %s::text, repeat(%s, %s)", (mark, "x", step * 50)).fetchone()
                    if row != (mark, "x" * (step * 50)):
                        failures.append(f"{mark}: {str(row)[:80]}")
        except BaseException as exc:
            failures.append(repr(exc))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(patience(50))
    assert not failures


def test_a_login_to_a_database_the_server_lacks(make_doorman: Any, postgres: Postgres) -> None:
    doorman = make_doorman(
        {"pools": {"testdb": {"server_database": "not_there"}}, "general": {"query_wait_timeout": "2s"}}
    )
    with pytest.raises(WireError) as caught, doorman.wire() as client:
        client.ask_query("SELECT 1")
    assert caught.value.message.sqlstate in ("3D000", "08006", "53300")


def test_nothing_runs_under_parameters_that_were_refused(doorman: Doorman, postgres: Postgres) -> None:
    """A client whose role has gone since its login gets PostgreSQL's error, and its statement is not carried out."""
    with postgres.connect(user="postgres") as superuser:
        superuser.execute("DROP TABLE IF EXISTS refused")
        superuser.execute("DROP ROLE IF EXISTS passing")
        superuser.execute("CREATE TABLE refused (a int)")
        superuser.execute("GRANT ALL ON refused TO public")
        superuser.execute("CREATE ROLE passing")
        superuser.execute("GRANT passing TO app")
        with doorman.wire("onedb", options="-c role=passing") as client, doorman.wire("onedb") as other:
            assert client.value("SELECT current_user") == "passing"
            assert other.value("SELECT current_user") == "app"
            superuser.execute("DROP ROLE passing")
            client.send(query("INSERT INTO refused VALUES (1)"))
            answer = client.read_messages_to_end()
            assert [m.sqlstate for m in answer] == ["22023"]
            assert other.value("SELECT count(*) FROM refused") == "0"
        superuser.execute("DROP TABLE refused")


def test_postgresql_s_own_words_at_the_end_are_logged(doorman: Doorman) -> None:
    with doorman.wire("onedb") as client:
        client.ask_query("SET idle_in_transaction_session_timeout = '50ms'")
        client.ask_query("BEGIN")
        assert client.read_messages_to_end()[-1].sqlstate == "25P03"
    doorman.wait_log(r"\[app@onedb #\d+\] PostgreSQL \(pid \d+\) ends the session: .*idle-in-transaction timeout")
