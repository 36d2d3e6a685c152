"""What happens to a binary upgrade, and to clients, in the middle of it, or with another configuration behind it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psycopg
import pytest
from eventually import eventually
from fix_certs import Certificates
from fix_doorman import Doorman, MakeDoorman, Successor, be_subreaper, merged, of_workers
from fix_postgres import Postgres
from pace import patience
from wire_client import SYNC, bind, bound, execute, parse, startup

pytestmark = pytest.mark.own_workers


@pytest.fixture(params=[1, 2], ids=["alone", "workers"])
def workers(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def make_doorman(make_doorman: MakeDoorman, workers: int) -> MakeDoorman:
    return of_workers(make_doorman, workers)


LONG = {"general": {"shutdown_timeout": "60s"}}


def test_who_logs_in_meanwhile_goes_over_without_a_word(make_doorman: MakeDoorman) -> None:
    """One that was accepted by the old process, and is ready only when the new one is the pooler."""
    doorman = make_doorman(LONG)
    with doorman.connect() as other:
        other.execute("SELECT 1")
    with doorman.raw() as client:
        client.send(startup(user="app", database="testdb"))
        asked = client.read()
        doorman.upgrade()
        client.unread(_again(asked))
        client.authenticate("app", Postgres.PASSWORDS["app"])
        assert doorman.end_of_predecessor() == 0
        assert client.value("SELECT 'served'") == "served"


def _again(message: object) -> bytes:
    body = message.body  # type: ignore[attr-defined]
    return message.kind.encode() + (len(body) + 4).to_bytes(4, "big") + body  # type: ignore[attr-defined]


def test_the_end_of_the_new_process_is_the_end_of_both(make_doorman: MakeDoorman) -> None:
    """SIGTERM to the one whose id the service has: the old one must not come back as the pooler."""
    doorman = make_doorman(LONG)
    with doorman.connect(autocommit=False) as client:
        client.execute("SELECT 1")
        doorman.upgrade()
        doorman.send_signal(signal.SIGTERM)
        doorman.goes_on()
        doorman.wait_log("this one ends, too")
        eventually(lambda: is_refused(doorman), message="nobody listens")
        client.execute("SELECT 2")
        client.commit()
        assert doorman.wait() == 0


def is_refused(doorman: Doorman) -> bool:
    """Whether nobody listens any more; nobody may serve whoever comes before all have ceased to."""
    with pytest.raises(psycopg.OperationalError) as caught:
        doorman.connect()
    return "refused" in str(caught.value)


def test_one_upgrade_after_the_other(make_doorman: MakeDoorman) -> None:
    """The second is asked for while the first process still has a transaction, and begins behind the end of that."""
    doorman = make_doorman(LONG)
    with doorman.connect(autocommit=False) as busy, doorman.connect() as idle:
        busy.execute("SELECT 1")
        doorman.upgrade()
        before = len(doorman.log_lines)
        doorman.send_signal(signal.SIGUSR2)
        doorman.wait_log("waiting for the end of the process before this one", after=before)
        assert idle.execute("SELECT 1").fetchone() == (1,)
        busy.execute("SELECT 2")
        busy.commit()
        assert doorman.end_of_predecessor() == 0
        line = doorman.wait_log(r"process \d+ serves new clients", after=before, timeout=60)
        found = re.search(r"process (\d+) serves", line)
        assert found is not None
        assert doorman.process is not None
        doorman.predecessors.append(doorman.process)
        doorman.process = Successor(int(found[1]))
        assert doorman.end_of_predecessor() == 0
        assert "this one goes on" not in doorman.log_text()
        assert busy.execute("SELECT 3").fetchone() == (3,)
        busy.commit()
        assert idle.execute("SELECT 1").fetchone() == (1,)


def test_nobody_has_to_wait_where_nobody_may(make_doorman: MakeDoorman) -> None:
    """query_wait_timeout = 0: the new process has no server yet, and no room for one."""
    doorman = make_doorman({"general": {"query_wait_timeout": "0s"}})
    done = threading.Event()
    with doorman.connect(dbname="twodb") as client, doorman.connect(dbname="twodb") as other:
        with client.transaction(), other.transaction():
            client.execute("SELECT 1")
            other.execute("SELECT 1")
        failed: list[Exception] = []

        def work() -> None:
            try:
                while not done.is_set():
                    client.execute("SELECT 1")
            except psycopg.Error as exc:
                failed.append(exc)

        thread = threading.Thread(target=work)
        thread.start()
        try:
            for _ in range(2):
                doorman.upgrade()
                assert doorman.end_of_predecessor() == 0
        finally:
            done.set()
            thread.join()
        assert not failed


def test_clients_at_rest_need_no_time_limit(make_doorman: MakeDoorman) -> None:
    """shutdown_timeout = 0 is for those in a transaction."""
    doorman = make_doorman({"general": {"shutdown_timeout": "0s"}})
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(doorman.connect()) for _ in range(300)]
        doorman.upgrade()
        assert doorman.end_of_predecessor() == 0
        for client in clients:
            assert client.execute("SELECT 1").fetchone() == (1,)


def test_who_stays_is_served_by_a_pool_that_had_no_server(make_doorman: MakeDoorman, certs: Certificates) -> None:
    served = {"tls_certificate": str(certs.server.certificate), "tls_private_key": str(certs.server.private_key)}
    doorman = make_doorman({"general": {"tls_mode": "allow", **served}})
    with doorman.connect(sslmode="require", ssl_max_protocol_version="TLSv1.2") as client:
        client.execute("SELECT 1")
        doorman.admin("RECONNECT")
        doorman.upgrade()
        doorman.wait_log("stays with this process: ")
        assert client.execute("SELECT 2").fetchone() == (2,)


def test_a_smaller_pool_takes_no_more_servers_than_it_may_have(make_doorman: MakeDoorman, postgres: Postgres) -> None:
    doorman = make_doorman()
    clients = [doorman.connect(autocommit=False) for _ in range(6)]
    for client in clients:
        client.execute("SELECT 1")
    for client in clients:
        client.commit()
    assert len(postgres.backends()) >= 6, "and one more where the catalogue was read beside them"
    pool = {**doorman.config["pools"]["testdb"]}
    pool["users"] = [{**pool["users"][0], "pool_size": 2}]
    doorman.write_config(merged(doorman.config, {"pools": {"testdb": pool}}))
    doorman.upgrade()
    assert doorman.end_of_predecessor() == 0
    eventually(lambda: len(postgres.backends()) <= 2, message="as many servers as the pool may have")
    for client in clients:
        assert client.execute("SELECT 1").fetchone() == (1,)
        client.close()


def test_a_server_of_another_address_is_lent_to_nobody(make_doorman: MakeDoorman, postgres: Postgres) -> None:
    """Who keeps a server that the new configuration does not have stays with it."""
    doorman = make_doorman()
    with doorman.connect(dbname="twodb") as client:
        client.execute("CREATE TEMP TABLE mine AS SELECT 7 AS kept")
        doorman.write_config(merged(doorman.config, {"pools": {"twodb": {"server_database": "postgres"}}}))
        doorman.upgrade()
        doorman.wait_log("stays with this process: ")
        assert client.execute("SELECT kept FROM mine").fetchone() == (7,)
        client.execute("DROP TABLE mine")
    with doorman.connect(dbname="twodb") as other:
        assert other.execute("SELECT current_database()").fetchone() == ("postgres",)


def test_a_session_stays_when_its_pool_becomes_one_by_transaction(make_doorman: MakeDoorman) -> None:
    """What it has left on its server is not cleaned there, and would be the next client's."""
    doorman = make_doorman()
    with doorman.connect(dbname="sessiondb") as client:
        client.execute("CREATE TEMP TABLE hers (a int)")
        doorman.write_config(merged(doorman.config, {"pools": {"sessiondb": {"pool_mode": "transaction"}}}))
        doorman.upgrade()
        doorman.wait_log("stays with this process: ")
        client.execute("INSERT INTO hers VALUES (1)")
    with doorman.connect(dbname="sessiondb") as other:
        assert other.execute("SELECT to_regclass('hers')").fetchone() == (None,)


def test_the_file_of_a_unix_socket_that_is_listened_at_no_more_goes(make_doorman: MakeDoorman, tmp_path: Path) -> None:
    doorman = make_doorman({"general": {"unix_socket_dir": str(tmp_path)}})
    assert list(tmp_path.glob(".s.PGSQL.*"))
    doorman.write_config(merged(doorman.config, {"general": {"unix_socket_dir": None}}))
    doorman.upgrade()
    assert doorman.end_of_predecessor() == 0
    assert not list(tmp_path.glob(".s.PGSQL.*"))


def test_sigterm_ends_an_upgrade_that_has_not_begun(make_doorman: MakeDoorman) -> None:
    doorman = make_doorman(LONG)
    os.rename(doorman.config_path, doorman.config_path.with_suffix(".kept"))
    os.mkfifo(doorman.config_path)
    with doorman.connect(autocommit=False) as client:
        client.execute("SELECT 1")
        doorman.send_signal(signal.SIGUSR2)
        doorman.wait_log("upgrade: starting")
        doorman.send_signal(signal.SIGTERM)
        doorman.wait_log("shutting down")
        doorman.config_path.write_text(doorman.config_path.with_suffix(".kept").read_text())
        doorman.wait_log("upgrade failed, this process ends: this process was told to end", timeout=30)
        client.execute("SELECT 2")
        client.commit()
    assert doorman.wait() == 0


@pytest.mark.parametrize("database", ["sessiondb", "testdb"])
def test_the_unnamed_statement_is_kept(make_doorman: MakeDoorman, database: str) -> None:
    doorman = make_doorman()
    with doorman.wire(database) as client:
        client.ask_query("CREATE TEMP TABLE mine (a int)")
        client.ask(parse("", "SELECT 'unnamed', $1::text") + SYNC)
        client.ask(parse("named", "SELECT 'named', $1::text") + SYNC)
        doorman.upgrade()
        assert doorman.end_of_predecessor() == 0
        assert b"named" in client.ask(bound("named", [b"x"]))[1].body
        assert b"unnamed" in client.ask(bind("", "", [b"x"]) + execute() + SYNC)[1].body


#: Stands for the old process: it starts the new one, and dies where it is told to.
OLD = """
import json, os, signal, socket, subprocess, sys
import gevent.monkey; gevent.monkey.patch_all()
import gevent, gevent.event
from pgdoorman_lib.net.parcel import Channel, Parcel, Receiver
from pgdoorman_lib.supervisor.program import UPGRADE_FD

step, port, command = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
ready = gevent.event.Event()
class FromNew(Receiver):
    def prepare(self, parcel):
        pass
    def take(self, parcel):
        ready.set()
ours, theirs = socket.socketpair()
child = subprocess.Popen(command, env={**os.environ, UPGRADE_FD: str(theirs.fileno())}, pass_fds=[theirs.fileno()])
theirs.close()
print(child.pid, flush=True)
channel = Channel(ours, FromNew())
channel.start(60)
if step != "greeting":
    listening = socket.create_server(("127.0.0.1", port))
    channel.send(Parcel("listener", {"name": f"127.0.0.1:{port}"}, [listening.fileno()]), 60)
    channel.send(Parcel("listeners", {"count": 1, "activated": False}), 60)
    ready.wait(60)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("step", ["greeting", "ready"])
def test_an_old_process_that_dies_first_leaves_a_pooler(make_doorman: MakeDoorman, step: str) -> None:
    doorman = make_doorman(start=False)
    doorman.write_config(doorman.config)
    be_subreaper(True)
    command = json.dumps([*doorman.command(), str(doorman.config_path)])
    with doorman.log_path.open("ab") as log:
        old = subprocess.Popen(
            [sys.executable, "-c", OLD, step, str(doorman.port), command],
            env=doorman.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
        )
    assert old.stdout is not None
    with old.stdout:
        doorman.process = Successor(int(old.stdout.readline()))
        assert old.wait(patience(60)) == -signal.SIGKILL
    doorman.wait_log("this one serves", timeout=60)
    eventually(lambda: "is ready" in doorman.log_text(), timeout=30, message="it serves")
    with doorman.connect() as client:
        assert client.execute("SELECT 1").fetchone() == (1,)
