"""What an operator does from the console: holding pools, beginning anew, ending clients, keys, the end of the process."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from eventually import eventually
from fix_doorman import ADMIN_PASSWORD, ADMIN_USER, Doorman, MakeDoorman, until_idle
from fix_postgres import Postgres
from pace import duration, patience
from wire_client import Message, WireClient, WireError, kinds, query

GOODBYE = "terminating connection due to administrator command"


def console(doorman: Doorman, dialect: str = "pgdoorman") -> WireClient:
    return doorman.wire(dialect, ADMIN_USER, ADMIN_PASSWORD)


@contextmanager
def resumed(doorman: Doorman) -> Iterator[WireClient]:
    """A console, and at the end nothing is paused or disabled."""
    with console(doorman) as admin:
        yield admin
        admin.ask_query("RESUME")
        for database in doorman.config["pools"]:
            admin.ask_query(f"ENABLE {database}")


def failure(answer: list[Message]) -> tuple[str, str]:
    (error,) = (message for message in answer if message.kind == "E")
    return error.sqlstate, error.fields["M"]


def tag(answer: list[Message]) -> str:
    return next((message.tag for message in answer if message.kind == "C"), "")


def servers(doorman: Doorman, database: str) -> set[str]:
    return {row["server_process_id"] for row in doorman.admin("SHOW SERVERS") if row["database_name"] == database}


def test_pause_waits_for_transactions_and_clients_wait_for_resume(doorman: Doorman) -> None:
    with resumed(doorman) as admin, doorman.wire() as busy, doorman.wire() as other:
        busy.ask_query("BEGIN")
        assert other.value("SELECT 1") == "1"
        admin.send(query("PAUSE testdb"))
        other_is_waiting(doorman, other)
        assert admin.is_quiet()
        assert busy.value("SELECT 2") == "2"  # its transaction goes on
        busy.ask_query("COMMIT")
        assert tag(admin.read_ready()) == "PAUSE"
        assert not servers(doorman, "testdb")
        busy.send(query("SELECT 3"))
        assert other.is_quiet() and busy.is_quiet()
        assert doorman.pool()["paused"] == 1
        with doorman.wire("twodb") as elsewhere:
            assert elsewhere.value("SELECT 4") == "4"
        assert tag(admin.ask_query("RESUME testdb")) == "RESUME"
        assert kinds(other.read_ready()) == "TDCZ"
        assert kinds(busy.read_ready()) == "TDCZ"
    assert doorman.pool()["paused"] == 0


def other_is_waiting(doorman: Doorman, client: WireClient, database: str = "testdb") -> None:
    """Have ``client`` ask for something where lending is paused, and see that it waits for a server."""
    eventually(lambda: doorman.pool(database)["paused"] == 1, message="no worker lends any more")
    client.send(query("SELECT 1"))
    eventually(lambda: doorman.pool(database)["cl_waiting"] == 1, message="the client waits")


@pytest.mark.parametrize("dialect", ["pgdoorman", "pgbouncer"])
def test_pause_all_and_clients_that_log_in(doorman: Doorman, dialect: str) -> None:
    with resumed(doorman), console(doorman, dialect) as admin:
        with doorman.wire() as client:
            client.value("SELECT 1")
        assert tag(admin.ask_query("PAUSE")) == "PAUSE"
        assert not doorman.admin("SHOW SERVERS")
        with doorman.wire() as client:  # what it is told is known
            client.send(query("SELECT 1"))
            assert client.is_quiet()
            assert tag(admin.ask_query("RESUME")) == "RESUME"
            assert kinds(client.read_ready()) == "TDCZ"


def test_pause_of_one_user_in_session_mode_waits_for_the_client(doorman: Doorman) -> None:
    with resumed(doorman) as admin:
        client = doorman.wire("sessiondb")
        client.value("SELECT 1")
        admin.send(query("PAUSE sessiondb, app"))
        assert admin.is_quiet()
        assert client.value("SELECT 2") == "2"
        client.terminate()
        assert tag(admin.read_ready()) == "PAUSE"
        admin.ask_query("RESUME sessiondb, app")


def test_a_client_that_waits_for_too_long_while_paused(make_doorman: MakeDoorman) -> None:
    """As in PgBouncer and pg_doorman: query_wait_timeout goes on counting, unless it is SET."""
    doorman = make_doorman({"general": {"query_wait_timeout": duration(0.3)}})
    with console(doorman) as admin, doorman.wire() as hasty, doorman.wire() as patient:
        hasty.value("SELECT 1")
        admin.ask_query("PAUSE testdb")
        hasty.send(query("SELECT 1"))
        assert [m.sqlstate for m in hasty.read_messages_to_end()] == ["53300"]
        admin.ask_query("SET query_wait_timeout = '60s'")
        assert doorman.pool()["paused"] == 1, "the pool that came with the new key is paused, too"
        patient.send(query("SELECT 1"))
        assert patient.is_quiet(0.6)
        admin.ask_query("RESUME")
        assert kinds(patient.read_ready()) == "TDCZ"


def test_resume_ends_a_pause_that_still_waits(doorman: Doorman) -> None:
    with resumed(doorman) as admin, console(doorman) as waiting, doorman.wire() as busy:
        busy.ask_query("BEGIN")
        waiting.send(query("PAUSE testdb"))
        eventually(lambda: doorman.pool()["paused"] == 1)
        admin.ask_query("RESUME")
        assert failure(waiting.read_ready())[0] == "57014"
        busy.ask_query("COMMIT")


def test_a_console_that_leaves_while_it_waits(doorman: Doorman) -> None:
    with resumed(doorman), doorman.wire() as busy:
        busy.ask_query("BEGIN")
        leaving = console(doorman)
        leaving.send(query("PAUSE testdb"))
        eventually(lambda: doorman.pool()["paused"] == 1)
        before = len(doorman.log_lines)
        leaving.close()
        assert doorman.pool()["paused"] == 1
        busy.ask_query("COMMIT")
        eventually(lambda: not servers(doorman, "testdb"))
        assert not [line for line in doorman.log_lines[before:] if "rror" in line]


def test_a_pause_that_is_cancelled_is_taken_back(doorman: Doorman) -> None:
    with resumed(doorman), console(doorman) as waiting, doorman.wire() as busy, doorman.wire() as other:
        busy.ask_query("BEGIN")
        waiting.send(query("PAUSE testdb"))
        eventually(lambda: doorman.pool()["paused"] == 1)
        other_is_waiting(doorman, other)
        waiting.cancel()
        assert failure(waiting.read_ready()) == ("57014", "canceling statement due to user request")
        assert kinds(other.read_ready()) == "TDCZ"
        busy.ask_query("COMMIT")
        assert tag(waiting.ask_query("PAUSE testdb")) == "PAUSE", "a cancel is for one command"


def test_a_pause_is_cancelled_from_another_console_as_guis_do(doorman: Doorman) -> None:
    with resumed(doorman) as admin, console(doorman) as waiting, doorman.wire() as busy:
        busy.ask_query("BEGIN")
        process = int(waiting.value("SELECT pg_backend_pid()") or 0)
        assert admin.value(f"SELECT pg_cancel_backend({process});") == "f"
        waiting.send(query("PAUSE testdb"))
        eventually(lambda: doorman.pool()["paused"] == 1)
        assert admin.value(f"SELECT pg_cancel_backend({process + 1000})") == "f"
        assert admin.value(f"SELECT pg_catalog.pg_cancel_backend({process})") == "t"
        assert failure(waiting.read_ready())[0] == "57014"
        assert doorman.pool()["paused"] == 0


def test_a_cancelled_pause_takes_back_itself_alone_and_kill_follows(doorman: Doorman) -> None:
    """Another operator's PAUSE of a part holds on; and whoever does not want to wait any longer goes on with KILL."""
    with resumed(doorman) as admin, console(doorman) as waiting, doorman.wire() as busy:
        assert tag(admin.ask_query("PAUSE onedb")) == "PAUSE"
        busy.ask_query("BEGIN")
        waiting.send(query("PAUSE"))
        eventually(lambda: doorman.pool()["paused"] == 1)
        waiting.cancel()
        assert failure(waiting.read_ready())[0] == "57014"
        assert (doorman.pool()["paused"], doorman.pool("onedb")["paused"]) == (0, 1)
        assert tag(waiting.ask_query("KILL testdb")) == "KILL"
        assert [m.sqlstate for m in busy.read_messages_to_end()] == ["57P01"]


def test_pgbouncers_words(doorman: Doorman) -> None:
    with resumed(doorman), console(doorman, "pgbouncer") as admin:
        assert failure(admin.ask_query("RESUME")) == ("08P01", "pooler is not paused/suspended")
        assert failure(admin.ask_query("PAUSE nowhere")) == ("08P01", "no such database: nowhere")
        assert failure(admin.ask_query("DISABLE")) == ("08P01", "a database is required")
        assert failure(admin.ask_query("KILL_CLIENT 1000000")) == ("08P01", "client not found")
        admin.ask_query("PAUSE")
        assert failure(admin.ask_query("PAUSE")) == ("08P01", "already suspended/paused")
    with console(doorman) as admin:
        assert failure(admin.ask_query("PAUSE nowhere")) == ("3D000", 'No pool for database "nowhere"')
        assert failure(admin.ask_query("SUSPEND"))[0] == "0A000"


def test_reconnect_closes_what_rests_now_and_the_rest_when_it_comes_back(doorman: Doorman) -> None:
    with console(doorman) as admin, doorman.wire() as busy, doorman.wire() as other:
        busy.ask_query("BEGIN")
        held = busy.value("SELECT pg_backend_pid()")
        assert other.value("SELECT 1") == "1"
        assert tag(admin.ask_query("RECONNECT testdb")) == "RECONNECT"
        assert servers(doorman, "testdb") == {held}
        assert busy.value("SELECT pg_backend_pid()") == held
        fresh = other.value("SELECT pg_backend_pid()")
        assert fresh != held
        admin.send(query("WAIT_CLOSE testdb"))
        assert admin.is_quiet()
        busy.ask_query("COMMIT")
        assert tag(admin.read_ready()) == "WAIT_CLOSE"
        assert servers(doorman, "testdb") == {fresh}
        doorman.wait_log(r"closing server .*RECONNECT")
        assert tag(admin.ask_query("WAIT_CLOSE")) == "WAIT_CLOSE"


@pytest.mark.parametrize("dialect", ["pgdoorman", "pgbouncer"])
def test_a_disabled_database_takes_no_new_clients(doorman: Doorman, dialect: str) -> None:
    with resumed(doorman), console(doorman, dialect) as admin, doorman.wire() as inside:
        assert tag(admin.ask_query("DISABLE testdb")) == "DISABLE"
        assert inside.value("SELECT 1") == "1"
        with pytest.raises(WireError) as caught:
            doorman.wire()
        refused = caught.value.message
        assert refused.sqlstate == "55000"
        assert refused.fields["M"] == 'database "testdb" is not currently accepting connections'
        with pytest.raises(WireError) as caught:  # nothing is told to who has not proven to be somebody
            doorman.wire(password="wrong")
        assert caught.value.message.sqlstate == "28P01"
        doorman.wire("twodb").close()
        assert tag(admin.ask_query("ENABLE testdb")) == "ENABLE"
        doorman.wire().close()


def test_what_is_ordered_outlasts_a_reload(make_doorman: MakeDoorman) -> None:
    doorman = make_doorman()
    with console(doorman) as admin:
        admin.ask_query("PAUSE testdb")
        admin.ask_query("DISABLE twodb")
        changed = copy.deepcopy(doorman.config)
        for pool in changed["pools"].values():
            pool["users"][0]["pool_size"] += 1
        doorman.reload(changed)
        assert doorman.pool("testdb")["pool_size"] == 9
        assert doorman.pool("testdb")["paused"] == 1
        with pytest.raises(WireError) as caught:
            doorman.wire("twodb")
        assert caught.value.message.sqlstate == "55000"


def test_kill_ends_clients_and_servers_and_holds_who_comes(doorman: Doorman, postgres: Postgres) -> None:
    with resumed(doorman) as admin, doorman.wire("twodb") as bystander:
        idle, busy, open_, waiting = (doorman.wire() for _ in range(4))
        open_.ask_query("BEGIN")
        busy.send(query("SELECT pg_sleep(60)"))
        eventually(lambda: doorman.pool()["sv_active"] == 2)
        running = servers(doorman, "testdb")
        assert tag(admin.ask_query("KILL testdb")) == "KILL"
        for client in (idle, busy, open_, waiting):
            (last,) = client.read_messages_to_end()
            assert (last.kind, last.fields["S"], last.sqlstate, last.fields["M"]) == ("E", "FATAL", "57P01", GOODBYE)
            client.close()
        assert bystander.value("SELECT 1") == "1"
        assert not servers(doorman, "testdb")

        def gone() -> bool:
            with postgres.connect() as direct:
                pids = ",".join(running)
                row = direct.execute(f"SELECT count(*) FROM pg_stat_activity WHERE pid IN ({pids})").fetchone()
            return row is not None and row[0] == 0

        eventually(gone, message="what ran is cancelled")
        with doorman.wire() as late:
            late.send(query("SELECT 1"))
            assert late.is_quiet()
            admin.ask_query("RESUME testdb")
            assert kinds(late.read_ready()) == "TDCZ"


def test_kill_everything(make_doorman: MakeDoorman) -> None:
    doorman = make_doorman()
    with console(doorman, "pgbouncer") as admin, doorman.wire() as one, doorman.wire("sessiondb") as two:
        two.value("SELECT 1")
        assert tag(admin.ask_query("KILL")) == "KILL"
        for client in (one, two):
            assert [m.sqlstate for m in client.read_messages_to_end()] == ["57P01"]
        assert not doorman.admin("SHOW SERVERS")
        assert tag(admin.ask_query("RESUME")) == "RESUME"
        with doorman.wire() as client:
            assert client.value("SELECT 1") == "1"


def test_kill_client(doorman: Doorman) -> None:
    with console(doorman) as admin, doorman.wire(application_name="victim") as victim, doorman.wire() as other:
        number = next(r for r in doorman.admin("SHOW CLIENTS") if r["application_name"] == "victim")["client_id"]
        victim.ask_query("BEGIN")
        assert tag(admin.ask_query(f"KILL_CLIENT {number}")) == "KILL_CLIENT"
        (last,) = victim.read_messages_to_end()
        assert (last.sqlstate, last.fields["M"]) == ("57P01", GOODBYE)
        assert failure(admin.ask_query(f"KILL_CLIENT {number}"))[0] == "42704"
        assert other.value("SELECT 1") == "1"
        until_idle(doorman)


def test_reload_tells_its_client(make_doorman: MakeDoorman) -> None:
    doorman = make_doorman()
    changed = copy.deepcopy(doorman.config)
    changed["general"] |= {"port": 1, "max_connections": 77}
    changed["pools"]["testdb"]["users"][0]["pool_size"] = 3
    doorman.write_config(changed)
    with console(doorman) as admin:
        admin.ask_query("SET shutdown_timeout = '7s'")
        *notices, complete, _ = admin.ask_query("RELOAD")
        told = [notice.fields["M"] for notice in notices]
        assert all(notice.kind == "N" for notice in notices) and complete.tag == "RELOAD"
        assert told[0] == "general.shutdown_timeout is as in the file again, not as it was SET"
        assert "1 rebuilt; changed: general.max_connections" in told[1]
        assert "general.port was changed: it is 1 after a restart" in told
        doorman.config_path.write_text("general = 1")
        assert failure(admin.ask_query("RELOAD"))[0] == "F0000"


def logged_in(doorman: Doorman) -> WireClient | None:
    """A client, unless there are too many."""
    try:
        return doorman.wire()
    except WireError as exc:
        assert exc.message.sqlstate == "53300"
        return None


def test_set_of_a_key_holds_until_reset_or_reload(make_doorman: MakeDoorman) -> None:
    doorman = make_doorman()

    def value(key: str) -> str:
        return str(next(row for row in doorman.admin("SHOW CONFIG") if row["key"] == key)["value"])

    with console(doorman) as admin, console(doorman, "pgbouncer") as other:
        before = value("max_connections")
        notice, complete, _ = admin.ask_query("SET max_connections = 3")
        assert notice.fields["M"] == "max_connections is 3 until RELOAD or a restart"
        assert complete.tag == "SET"
        assert value("max_connections") == "3"
        # As with PostgreSQL, who has just left may still count.
        eventually(lambda: len(doorman.admin("SHOW CLIENTS")) == 3, message="both consoles, and the one that asks")
        with eventually(lambda: logged_in(doorman), message="room for one"), pytest.raises(WireError) as caught:
            doorman.wire()
        assert caught.value.message.sqlstate == "53300"
        assert failure(admin.ask_query("SET max_connections = 0"))[0] == "22023"
        assert failure(admin.ask_query("SET max_connections = many"))[0] == "22023"
        assert value("max_connections") == "3"
        admin.ask_query("RESET max_connections")
        assert value("max_connections") == before
        assert other.ask_query("SET query_wait_timeout = 2")[-2].tag == "SET query_wait_timeout=2"
        assert value("query_wait_timeout") == "2000"
        admin.ask_query("SET idle_timeout = '5m'")
        assert value("query_wait_timeout") == "2000"
        doorman.reload(signal_it=False)
        written = doorman.config["general"]["query_wait_timeout"].removesuffix("ms")
        assert (value("query_wait_timeout"), value("idle_timeout")) == (written, "600000")
        assert failure(admin.ask_query("SET worker_threads = 3"))[0] == "55P02"


def test_shutdown_waits_for_servers(make_doorman: MakeDoorman) -> None:
    """As long as it takes, whatever shutdown_timeout says; who waits for a server gets none."""
    doorman = make_doorman({"general": {"shutdown_timeout": "100ms"}})
    with console(doorman) as admin, doorman.wire("onedb") as busy, doorman.wire("onedb") as waiting:
        with doorman.wire() as idle:
            busy.ask_query("BEGIN")
            waiting.send(query("SELECT 1"))
            eventually(lambda: doorman.pool("onedb")["cl_waiting"] == 1)
            admin.ask_query("SHUTDOWN WAIT_FOR_SERVERS")
            assert [m.sqlstate for m in idle.read_messages_to_end()] == ["57P01"]
            assert [m.sqlstate for m in waiting.read_messages_to_end()] == ["57P01"]
            assert busy.is_quiet(0.5)
            assert busy.value("SELECT 1") == "1"
            busy.send(query("COMMIT"))
            assert kinds(busy.read_messages_to_end()) == "CZE"
        assert doorman.wait() == 0


def test_a_shutdown_that_waited_for_clients_waits_for_servers(make_doorman: MakeDoorman) -> None:
    """It is still as long as it takes: shutdown_timeout is not for the one who has asked for that."""
    doorman = make_doorman({"general": {"shutdown_timeout": "100ms"}})
    with console(doorman) as admin, doorman.wire() as busy:
        busy.ask_query("BEGIN")
        admin.ask_query("SHUTDOWN WAIT_FOR_CLIENTS")
        doorman.wait_log("waiting for the last client")
        admin.ask_query("SHUTDOWN WAIT_FOR_SERVERS")
        assert busy.is_quiet(1.0)
        assert busy.value("SELECT 1") == "1"
        busy.send(query("COMMIT"))
        assert kinds(busy.read_messages_to_end()) == "CZE"
        assert doorman.wait() == 0


@pytest.mark.parametrize("end", ["the client leaves", "another SHUTDOWN"])
def test_shutdown_waits_for_clients(make_doorman: MakeDoorman, end: str) -> None:
    doorman = make_doorman()
    with console(doorman) as admin, doorman.wire() as client:
        admin.ask_query("SHUTDOWN WAIT_FOR_CLIENTS")
        doorman.wait_log("waiting for the last client")
        with pytest.raises((ConnectionError, WireError)):
            doorman.wire()
        assert client.is_quiet(0.3)
        assert client.value("SELECT 1") == "1"
        if end == "the client leaves":
            client.terminate()
        else:
            admin.ask_query("SHUTDOWN")
            assert [m.sqlstate for m in client.read_messages_to_end()] == ["57P01"]
        assert doorman.wait() == 0


def test_shutdown_at_pgbouncers_console_waits_for_nothing(make_doorman: MakeDoorman) -> None:
    doorman = make_doorman({"general": {"shutdown_timeout": "300s"}})
    with console(doorman, "pgbouncer") as admin, doorman.wire() as busy:
        busy.ask_query("BEGIN")
        began = time.monotonic()
        assert tag(admin.ask_query("SHUTDOWN")) == "SHUTDOWN"
        assert [m.sqlstate for m in busy.read_messages_to_end()] == ["57P01"]
        assert doorman.wait() == 0
        assert time.monotonic() - began < patience(10)
