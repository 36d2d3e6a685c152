"""The process's life: drain, signals, reload."""

from __future__ import annotations

import copy
import json
import os
import signal
import subprocess
import threading
import time
from typing import Any

import psycopg
import pytest
import toml
from eventually import eventually
from fix_doorman import Doorman, MakeDoorman, app_user, elapsed
from fix_postgres import Postgres
from pace import patience
from ports import free_port
from wire_client import WireError, bound, kinds, prepared, query

STOPS = [signal.SIGTERM, signal.SIGINT]


# -- drain


@pytest.mark.parametrize("number", STOPS)
def test_idle_it_ends_at_once(make_doorman: MakeDoorman, number: signal.Signals) -> None:
    doorman = make_doorman({"general": {"shutdown_timeout": "120s"}})
    with doorman.wire() as client:
        client.ask_query("SELECT 1")
        client.terminate()
    began = time.monotonic()
    assert doorman.stop(number) == 0
    assert elapsed(began) < patience(3)


@pytest.mark.parametrize("number", STOPS)
def test_idle_clients_get_a_goodbye(make_doorman: MakeDoorman, number: signal.Signals) -> None:
    doorman = make_doorman({"general": {"shutdown_timeout": "120s"}})
    used, fresh, session = doorman.wire(), doorman.wire(), doorman.wire("sessiondb")
    used.ask_query("SELECT 1")
    session.ask_query("SELECT 1")
    began = time.monotonic()
    assert doorman.stop(number) == 0
    assert elapsed(began) < patience(3), "nobody was in a transaction: there was nothing to wait for"
    for client in (used, fresh, session):
        messages = client.read_messages_to_end()
        assert kinds(messages) == "E"
        assert (messages[0].fields["S"], messages[0].sqlstate) == ("FATAL", "57P01")


@pytest.mark.parametrize("number", STOPS)
def test_transactions_finish(make_doorman: MakeDoorman, postgres: Postgres, number: signal.Signals) -> None:
    doorman = make_doorman({"general": {"shutdown_timeout": "20s"}})
    with doorman.wire() as client, doorman.wire() as running:
        client.ask_query("DROP TABLE IF EXISTS drained; CREATE TABLE drained (a int)")
        client.ask_query("BEGIN")
        running.send(query("SELECT pg_sleep(2), 'running on'"))
        eventually(lambda: any("running on" in b["query"] and b["state"] == "active" for b in postgres.backends()))
        doorman.send_signal(number)
        # The transaction goes on, statement by statement.
        for i in range(5):
            assert kinds(client.ask_query(f"INSERT INTO drained VALUES ({i})")) == "CZ"
        assert kinds(running.read_ready()) == "TDCZ"
        assert doorman.running
        assert [m.tag for m in client.ask_query("COMMIT") if m.kind == "C"] == ["COMMIT"]
        assert doorman.wait() == 0
        for one in (client, running):
            assert [m.sqlstate for m in one.read_messages_to_end()] == ["57P01"]


def test_no_new_clients_while_draining(make_doorman: MakeDoorman) -> None:
    doorman = make_doorman({"general": {"shutdown_timeout": "20s"}})
    with doorman.wire() as client:
        client.ask_query("BEGIN")
        doorman.send_signal(signal.SIGTERM)

        def refused() -> bool:
            try:
                doorman.wire().close()
            except (ConnectionError, WireError) as exc:
                return not isinstance(exc, WireError) or exc.message.sqlstate in ("57P01", "57P03")
            return False

        eventually(refused)
        assert kinds(client.ask_query("COMMIT")) == "CZ"
    assert doorman.wait() == 0


def test_waiting_clients_are_told_while_draining(make_doorman: MakeDoorman) -> None:
    """Whoever waits for a server gets it or a goodbye, but no silence."""
    doorman = make_doorman({"general": {"shutdown_timeout": "20s", "query_wait_timeout": "20s"}})
    with doorman.wire("onedb") as holder, doorman.wire("onedb") as waiter:
        holder.ask_query("BEGIN")
        waiter.send(query("SELECT 1"))
        eventually(lambda: doorman.pool("onedb")["cl_waiting"] == 1)
        doorman.send_signal(signal.SIGTERM)
        holder.ask_query("COMMIT")
        messages = waiter.read_messages_to_end()
        assert kinds(messages) in ("E", "TDCZE")
        assert messages[-1].sqlstate == "57P01"
    assert doorman.wait() == 0


def test_shutdown_timeout_ends_what_does_not_end(make_doorman: MakeDoorman) -> None:
    doorman = make_doorman({"general": {"shutdown_timeout": "1s"}})
    with doorman.wire() as stuck, doorman.wire() as running:
        stuck.ask_query("BEGIN")
        running.send(query("SELECT pg_sleep(60)"))
        began = time.monotonic()
        assert doorman.stop(signal.SIGTERM) == 0
        assert 0.8 < elapsed(began) < patience(4)
        for client in (stuck, running):
            messages = client.read_messages_to_end()
            assert messages
            assert messages[-1].sqlstate == "57P01"
    doorman.wait_log("timed? ?out|timeout")


def test_the_statement_of_a_client_cut_off_is_cancelled(make_doorman: MakeDoorman, postgres: Postgres) -> None:
    doorman = make_doorman({"general": {"shutdown_timeout": "300ms"}})
    with doorman.wire() as running:
        running.send(query("SELECT pg_sleep(60), 'cut off'"))
        eventually(lambda: any("cut off" in b["query"] and b["state"] == "active" for b in postgres.backends()))
        doorman.stop()
    eventually(lambda: not any("cut off" in b["query"] for b in postgres.backends()))


@pytest.mark.parametrize("number", STOPS)
def test_a_second_one_ends_at_once(make_doorman: MakeDoorman, number: signal.Signals) -> None:
    doorman = make_doorman({"general": {"shutdown_timeout": "60s"}})
    with doorman.wire() as client:
        client.ask_query("BEGIN")
        doorman.send_signal(number)
        doorman.wait_log("shut|drain")
        assert doorman.running
        began = time.monotonic()
        doorman.send_signal(number)
        doorman.wait()
        assert elapsed(began) < patience(4)


def test_servers_are_left_the_polite_way(make_doorman: MakeDoorman, own_postgres: Postgres) -> None:
    """PostgreSQL's log tells of connections that vanished; after a drain there are none."""
    doorman = make_doorman(
        {"pools": {"testdb": {"server_port": own_postgres.port, "users": [app_user(own_postgres, 8)]}}}
    )
    clients = [doorman.wire() for _ in range(3)]
    for client in clients:
        client.ask_query("BEGIN")
    for client in clients:
        client.ask_query("COMMIT")
    assert doorman.stop() == 0
    eventually(lambda: not own_postgres.backends())
    assert "unexpected EOF" not in own_postgres.log_text()
    assert "could not receive data" not in own_postgres.log_text()


def test_started_again_on_the_same_port(make_doorman: MakeDoorman) -> None:
    doorman = make_doorman()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGKILL):
        with doorman.wire() as client:
            assert client.value("SELECT 1") == "1"
            if number == signal.SIGKILL:
                doorman.kill()
            else:
                doorman.stop(number)
        doorman.start()


# -- other signals, ports, stderr


@pytest.mark.parametrize("name", ["SIGUSR1", "SIGALRM", "SIGPIPE"])
def test_a_signal_without_meaning_ends_nothing(make_doorman: MakeDoorman, name: str) -> None:
    doorman = make_doorman()
    with doorman.wire() as client:
        doorman.send_signal(getattr(signal, name))
        if name != "SIGPIPE":
            doorman.wait_log(f"{name}.*ignored")
        assert client.value("SELECT 1") == "1"
        assert doorman.wire().value("SELECT 1") == "1"


def second(doorman: Doorman, **general: Any) -> subprocess.Popen[bytes]:
    """Another process on the same port."""
    path = doorman.directory / "second.toml"
    config = copy.deepcopy(doorman.config)
    config["general"].update(general)
    path.write_text(toml.dumps(config), encoding="utf-8")
    with (doorman.directory / "second.log").open("wb") as log:
        return subprocess.Popen(
            [*doorman.command(), str(path)], env=doorman.environment(), stdout=log, stderr=log, stdin=subprocess.DEVNULL
        )


def test_a_port_is_one_processs(make_doorman: MakeDoorman) -> None:
    doorman = make_doorman()
    other = second(doorman)
    assert other.wait(timeout=patience(30)) == 1
    text = (doorman.directory / "second.log").read_text()
    assert f"could not listen: {doorman.host}:{doorman.port}: Address already in use" in text
    for _ in range(4):
        assert doorman.wire().value("SELECT 1") == "1"


def test_a_port_shared_on_purpose(make_doorman: MakeDoorman) -> None:
    doorman = make_doorman({"general": {"so_reuseport": True}})
    other = second(doorman, so_reuseport=True)
    try:
        log = doorman.directory / "second.log"
        eventually(lambda: "is ready" in log.read_text(), message="the second is ready")
        assert other.poll() is None
    finally:
        other.terminate()
        other.wait(timeout=patience(30))


def started_with(doorman: Doorman, stderr: int | None) -> subprocess.Popen[bytes]:
    """Start ``doorman`` anew, with this descriptor for what it writes, or none at all."""
    doorman.stop()
    doorman.ended_by_test = True
    closed = (lambda: [os.close(number) for number in (0, 1, 2)]) if stderr is None else None
    process = subprocess.Popen(
        [*doorman.command(), "-l", "debug", str(doorman.config_path)],
        cwd=doorman.directory,
        env=doorman.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=stderr,
        preexec_fn=closed,
    )
    eventually(lambda: answers(doorman), message="it answers")
    return process


def answers(doorman: Doorman) -> bool:
    try:
        with doorman.wire() as client:
            return client.value("SELECT 1") == "1"
    except OSError:
        return False


@pytest.mark.parametrize("how", ["closed", "nobody reads", "reader has gone"])
def test_without_anybody_who_reads_the_log(make_doorman: MakeDoorman, how: str) -> None:
    """It lives, and serves; what would be a descriptor of the standard ones belongs to no client."""
    doorman = make_doorman()
    reader, writer = os.pipe()
    process = started_with(doorman, None if how == "closed" else writer)
    try:
        if how == "reader has gone":
            os.close(reader)
        for _ in range(300):
            assert answers(doorman)
        standard = [os.readlink(f"/proc/{process.pid}/fd/{number}") for number in range(3)]
        assert not [name for name in standard if name.startswith(("socket", "anon"))]
        assert process.poll() is None
    finally:
        process.terminate()
        assert process.wait(timeout=patience(30)) == 0
        os.close(writer)
        if how != "reader has gone":
            os.close(reader)


# -- reload


def test_a_live_value_applies_at_once(make_doorman: MakeDoorman) -> None:
    doorman = make_doorman({"general": {"query_wait_timeout": "60s", "max_connections": 50}})
    with doorman.wire("onedb") as holder:
        holder.ask_query("BEGIN")
        config = copy.deepcopy(doorman.config)
        config["general"]["max_connections"] = 1
        doorman.reload(config)
        with pytest.raises(WireError) as caught:
            for _ in range(3):
                doorman.wire()
        assert caught.value.message.sqlstate == "53300"
        # Who is in, stays in.
        assert holder.value("SELECT 1") == "1"
        holder.ask_query("COMMIT")


@pytest.mark.parametrize("signal_it", [True, False], ids=["SIGHUP", "RELOAD"])
@pytest.mark.parametrize(
    ("find", "replace"),
    [("pool_size", "pool_sise"), ("[general]", "[genral]"), ('"transaction"', '"nonsense"'), ("host", "host = [")],
)
def test_a_bad_file_changes_nothing_and_says_why(
    make_doorman: MakeDoorman, signal_it: bool, find: str, replace: str
) -> None:
    doorman = make_doorman()
    with doorman.wire() as client:
        before = doorman.admin("SHOW CONFIG")
        pid = client.value("SELECT pg_backend_pid()")
        mark = len(doorman.log_lines)
        doorman.config_path.write_text(doorman.config_path.read_text().replace(find, replace))
        if signal_it:
            doorman.send_signal(signal.SIGHUP)
        else:
            with pytest.raises(psycopg.Error):
                doorman.admin("RELOAD")
        doorman.wait_log(r"error|not reload|refused|keeps?|invalid|unknown", after=mark)
        assert doorman.admin("SHOW CONFIG") == before
        assert client.value("SELECT pg_backend_pid()") == pid


def test_only_the_changed_pool_is_rebuilt(make_doorman: MakeDoorman) -> None:
    doorman = make_doorman()
    with doorman.wire("onedb") as changed, doorman.wire("testdb") as untouched:
        first, other = (c.value("SELECT pg_backend_pid()") for c in (changed, untouched))
        config = copy.deepcopy(doorman.config)
        config["pools"]["onedb"]["users"][0]["pool_size"] = 2
        doorman.reload(config)
        eventually(lambda: doorman.pool("onedb")["pool_size"] == 2)
        # The client moves with its next transaction; it need not log in again.
        eventually(lambda: changed.value("SELECT pg_backend_pid()") != first)
        assert untouched.value("SELECT pg_backend_pid()") == other
        eventually(lambda: first not in {str(r["server_process_id"]) for r in doorman.admin("SHOW SERVERS")})


def test_a_transaction_stays_where_it_began_while_its_pool_is_rebuilt(make_doorman: MakeDoorman) -> None:
    doorman = make_doorman()
    with doorman.wire("onedb") as client:
        client.ask(query("BEGIN"))
        first = client.value("SELECT pg_backend_pid()")
        config = copy.deepcopy(doorman.config)
        config["pools"]["onedb"]["users"][0]["pool_size"] = 3
        doorman.reload(config)
        eventually(lambda: doorman.pool("onedb")["pool_size"] == 3)
        assert client.value("SELECT pg_backend_pid()") == first
        assert kinds(client.ask_query("COMMIT")) == "CZ"
        assert client.value("SELECT pg_backend_pid()") != first


def test_prepared_statements_move_with_their_client(make_doorman: MakeDoorman) -> None:
    doorman = make_doorman()
    with doorman.connect(dbname="onedb", prepare_threshold=0) as connection:
        for i in range(5):
            assert connection.execute("SELECT %s::int", (i,)).fetchone() == (i,)
        config = copy.deepcopy(doorman.config)
        config["pools"]["onedb"]["users"][0]["pool_size"] = 3
        doorman.reload(config)
        eventually(lambda: doorman.pool("onedb")["pool_size"] == 3)
        for i in range(5):
            assert connection.execute("SELECT %s::int", (i,)).fetchone() == (i,)


def test_a_new_pool_and_a_removed_pool(make_doorman: MakeDoorman) -> None:
    doorman = make_doorman()
    with doorman.wire("twodb") as client:
        client.ask_query("SELECT 1")
        config = copy.deepcopy(doorman.config)
        config["pools"]["newdb"] = config["pools"].pop("twodb")
        doorman.reload(config)
        with eventually(lambda: _try(doorman, "newdb")) as new:
            assert new.value("SELECT 1") == "1"
        client.send(query("SELECT 1"))
        answer = client.read()
        assert answer.kind == "E"
        assert answer.sqlstate in ("3D000", "57P01")
        with pytest.raises(WireError):
            doorman.wire("twodb")


def _try(doorman: Doorman, database: str):  # type: ignore[no-untyped-def]
    try:
        return doorman.wire(database)
    except WireError:
        return None


def test_a_changed_password_applies_to_new_logins(make_doorman: MakeDoorman) -> None:
    doorman = make_doorman(
        {
            "pools": {
                "testdb": {
                    "users": [
                        {
                            "username": "app",
                            "password": "before before",
                            "pool_size": 2,
                            "server_username": "app",
                            "server_password": Postgres.PASSWORDS["app"],
                        }
                    ]
                }
            }
        }
    )
    with doorman.wire(password="before before") as client:
        config = copy.deepcopy(doorman.config)
        config["pools"]["testdb"]["users"][0]["password"] = "after after"
        doorman.reload(config)

        def takes_new() -> bool:
            try:
                doorman.wire(password="after after").close()
            except WireError:
                return False
            return True

        eventually(takes_new)
        with pytest.raises(WireError):
            doorman.wire(password="before before")
        assert client.value("SELECT 1") == "1"


def test_what_needs_a_restart_is_said(make_doorman: MakeDoorman) -> None:
    doorman = make_doorman()
    mark = len(doorman.log_lines)
    config = copy.deepcopy(doorman.config)
    config["general"]["port"] = port = free_port()
    doorman.reload(config)
    doorman.wait_log(f"general.port was changed: it is {port} after a restart", after=mark)
    shown = {row["key"]: row for row in doorman.admin("SHOW CONFIG")}
    assert shown["port"]["value"] == str(doorman.port)
    assert shown["port"]["changeable"] == f"no, {port} after a restart"
    with doorman.wire() as client:
        assert client.value("SELECT 1") == "1"


def test_reloads_under_load_lose_nobody(make_doorman: MakeDoorman) -> None:
    doorman = make_doorman()
    stop, failures, done = threading.Event(), list[str](), [0]

    def work() -> None:
        try:
            with doorman.connect(dbname="twodb", prepare_threshold=0) as connection:
                while not stop.is_set():
                    with connection.transaction():
                        assert connection.execute("SELECT %s::int", (done[0],)).fetchone() is not None
                    done[0] += 1
        except BaseException as exc:
            failures.append(repr(exc))

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for size in (3, 1, 4, 2, 5, 2):
        config = copy.deepcopy(doorman.config)
        config["pools"]["twodb"]["users"][0]["pool_size"] = size
        before = done[0]
        doorman.reload(config)
        eventually(lambda size=size: doorman.pool("twodb")["pool_size"] == size, message=f"a pool of {size}")
        eventually(
            lambda before=before: failures or done[0] > before + 50,
            message=f"work goes on with a pool of {size}; {before} rounds before",
        )
    stop.set()
    for thread in threads:
        thread.join(patience(20))
    assert not failures


def test_a_reload_leaves_no_more_servers_than_there_may_be(make_doorman: MakeDoorman, postgres: Postgres) -> None:
    """Those lent by the pool that is replaced count: who comes waits until one of them is back."""
    doorman = make_doorman()
    with doorman.wire("onedb") as holder, doorman.wire("onedb") as other:
        pid = holder.value("BEGIN; SELECT pg_backend_pid()")
        config = copy.deepcopy(doorman.config)
        config["pools"]["onedb"]["server_lifetime"] = "7m"
        doorman.reload(config)
        other.send(query("SELECT pg_backend_pid()"))
        eventually(lambda: doorman.pool("onedb")["cl_waiting"] == 1)
        assert len(postgres.backends()) == 1
        holder.ask_query("COMMIT")
        row = next(message for message in other.read_ready() if message.kind == "D")
        assert row.columns[0].decode() != pid
        eventually(lambda: len(postgres.backends()) == 1)


# -- the log


def test_structured_log(make_doorman: MakeDoorman) -> None:
    doorman = make_doorman(arguments=("-F", "structured"))
    with doorman.wire() as client:
        client.ask_query("SELECT 1")
    with pytest.raises(WireError):
        doorman.wire(password="wrong")
    doorman.stop()
    lines = [json.loads(line) for line in doorman.log_lines]
    assert lines
    assert all({"timestamp", "level", "message"} <= set(line) for line in lines)


def test_the_log_names_user_database_and_connection(make_doorman: MakeDoorman) -> None:
    doorman = make_doorman({"general": {"log_client_connections": True, "log_client_disconnections": True}})
    with doorman.wire() as client:
        client.ask_query("SELECT 1")
        client.terminate()
    doorman.wait_log(r"\[app@testdb #\S+\].*connect")
    doorman.wait_log(r"\[app@testdb #\S+\].*(disconnect|closed|left)")


def test_statements_survive_the_replacement_of_their_pool(make_doorman: MakeDoorman) -> None:
    """What a client prepared before a reload and what others prepare after it live on one server."""
    doorman = make_doorman()
    with doorman.wire("onedb") as early, doorman.wire("onedb") as late:
        assert kinds(early.ask(prepared("mine", "SELECT 'early'::text"))) == "12TDCZ"
        config = copy.deepcopy(doorman.config)
        config["pools"]["onedb"]["application_name"] = "rebuilt"
        doorman.reload(config)
        eventually(lambda: late.value("SHOW application_name") == "rebuilt")
        assert kinds(late.ask(prepared("mine", "SELECT 'late'::text"))) == "12TDCZ"
        for client, text in ((early, b"early"), (late, b"late"), (early, b"early")):
            answer = client.ask(bound("mine"))
            assert kinds(answer).lstrip("S") in ("2TDCZ", "2DCZ")  # the new pool has an application_name of its own
            assert next(m for m in answer if m.kind == "D").body.endswith(text)
