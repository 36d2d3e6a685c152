"""Binary upgrades between different numbers of worker processes, and what the end of any one of them does to the rest."""

from __future__ import annotations

import os
import re
import signal
import threading
from contextlib import ExitStack, suppress
from typing import Any

import psutil
import psycopg
import pytest
from eventually import eventually
from fix_doorman import Doorman, MakeDoorman, merged, pgbench_at_work
from fix_postgres import Postgres
from wire_client import WireClient, query
from worker_processes import serving, worker_of

pytestmark = pytest.mark.own_workers

CLIENTS = 12


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1), (3, 2)])
def test_another_number_of_workers(make_doorman: MakeDoorman, before: int, after: int) -> None:
    doorman = make_doorman({"general": {"worker_threads": before}})
    with ExitStack() as stack:
        clients = [stack.enter_context(doorman.connect()) for _ in range(CLIENTS)]
        for number, client in enumerate(clients):
            client.execute(f"SET application_name = 'client {number}'")
        doorman.write_config(merged(doorman.config, {"general": {"worker_threads": after}}))
        doorman.upgrade()
        assert doorman.end_of_predecessor() == 0
        for number, client in enumerate(clients):
            assert client.execute("SHOW application_name").fetchone() == (f"client {number}",)
        with doorman.connect() as other:
            assert other.execute("SELECT 1").fetchone() == (1,)


def test_pgbench_does_not_notice_the_number_of_workers(make_doorman: MakeDoorman) -> None:
    doorman = make_doorman()
    with pgbench_at_work(doorman, 20):
        for workers in (2, 1):
            doorman.write_config(merged(doorman.config, {"general": {"worker_threads": workers}}))
            doorman.upgrade()
            assert doorman.end_of_predecessor() == 0


def test_an_old_supervisor_that_is_killed_disconnects_nobody(make_doorman: MakeDoorman) -> None:
    """Its workers have what they need to hand over without it."""
    doorman = make_doorman({"general": {"worker_threads": 2, "shutdown_timeout": "60s"}})
    with ExitStack() as stack:
        clients = [stack.enter_context(doorman.connect(autocommit=False)) for _ in range(6)]
        for client in clients:
            client.execute("SELECT 1")
        doorman.upgrade()
        old = doorman.predecessors.pop()
        workers = [p for p in psutil.Process(old.pid).children(recursive=True) if p.pid != doorman.pid]
        old.send_signal(signal.SIGKILL)
        old.wait(60)
        doorman.wait_log("this worker hands over, and ends")
        for client in clients:
            client.execute("SELECT 2")
            client.commit()
            assert client.execute("SELECT 3").fetchone() == (3,)
            client.commit()
        mine = {doorman.pid, *(p.pid for p in psutil.Process(doorman.pid).children(recursive=True))}
        left = [worker for worker in workers if worker.pid not in mine]
        eventually(lambda: not any(is_alive(worker) for worker in left), timeout=30, message="the old workers end")


def is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running()) and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize("generation", ["old", "new"])
def test_a_worker_that_is_killed_disconnects_its_own(make_doorman: MakeDoorman, generation: str) -> None:
    """The others', and those that have still to go, are served."""
    doorman = make_doorman({"general": {"worker_threads": 2, "shutdown_timeout": "60s"}})
    with ExitStack() as stack:
        clients: list[psycopg.Connection[Any]] = []
        while len({worker_of(doorman, client).pid for client in clients}) < 2 or len(clients) < 8:
            clients.append(stack.enter_context(doorman.connect(autocommit=False)))
        for client in clients:
            client.execute("SELECT 1")
        old = serving(doorman)
        doorman.upgrade()
        victim = old[0] if generation == "old" else serving(doorman)[0]
        os.kill(victim.pid, signal.SIGKILL)
        doorman.wait_log(rf"worker \d \(pid {victim.pid}\) was ended by signal 9")
        lost = 0
        for client in clients:
            try:
                client.execute("SELECT 2")
                client.commit()
            except psycopg.OperationalError:
                lost += 1
        assert doorman.end_of_predecessor() == 0
        assert lost < len(clients)
        assert generation == "old" or not lost, "they had not gone there yet"
        for client in clients:
            if not client.closed:
                assert client.execute("SELECT 3").fetchone() == (3,)
                client.rollback()
        for _ in range(4):
            with doorman.connect() as other:
                assert other.execute("SELECT 4").fetchone() == (4,)


def suspended_before_it_serves(doorman: Doorman) -> psutil.Process:
    """A worker in the place of one that is killed."""
    for _ in range(20):
        before = serving(doorman)
        os.kill(before[0].pid, signal.SIGKILL)
        (late,) = eventually(lambda seen=before: set(serving(doorman)) - set(seen), interval=0.001, message="another")
        late.suspend()
        with doorman.admin_connect() as console:  # whatever it has said before has come by then
            console.execute("SHOW VERSION")
        if not re.search(rf"worker \d \(pid {late.pid}\) serves", doorman.log_text()):
            return late
        late.resume()
    raise AssertionError("each served before it could be suspended")


def test_a_worker_that_is_ready_too_late_for_an_upgrade_serves_nobody(make_doorman: MakeDoorman) -> None:
    """It would be a pooler beside the new one."""
    doorman = make_doorman({"general": {"worker_threads": 2}})
    doorman.wait_log(r"2 workers\) is ready")
    late = suspended_before_it_serves(doorman)
    doorman.upgrade()
    late.resume()
    assert doorman.end_of_predecessor() == 0
    assert not re.search(rf"worker \d \(pid {late.pid}\) serves", doorman.log_text())
    with doorman.connect() as client:
        assert client.execute("SELECT 1").fetchone() == (1,)


def process_of(doorman: Doorman, client: WireClient) -> psutil.Process:
    """The worker that has a client."""
    mine = client.socket.getsockname()
    return next(
        process
        for process in serving(doorman)
        if any(one.raddr == mine for one in process.net_connections(kind="tcp4") if one.raddr)
    )


def waiting_in_both(doorman: Doorman, stack: ExitStack) -> dict[int, list[WireClient]]:
    """Clients who wait for a server of ``twodb``, by the worker's process id; in each there is one at least."""
    found: dict[int, list[WireClient]] = {}

    def another() -> bool:
        client = stack.enter_context(doorman.wire("twodb"))
        client.send(query("SELECT 1"))
        found.setdefault(process_of(doorman, client).pid, []).append(client)
        return len(found) == 2

    eventually(another, message="clients come to both workers")
    return found


def waits(client: WireClient) -> bool:
    """Whether it has no answer yet; False: it had gone to the worker that was killed."""
    with suppress(ConnectionError):
        if client.is_quiet():
            return True
        assert client.read_to_end() == b"", "it has a server beside those of pool_size"
    return False


def test_servers_that_a_killed_worker_counted_for_an_old_one_are_counted_on(
    make_doorman: MakeDoorman, postgres: Postgres
) -> None:
    """Nobody else gets their places, whoever has died."""
    doorman = make_doorman({"general": {"worker_threads": 2, "shutdown_timeout": "60s", "query_wait_timeout": "60s"}})
    with ExitStack() as stack:
        holders = [stack.enter_context(doorman.connect(dbname="twodb", autocommit=False)) for _ in range(2)]
        for holder in holders:
            holder.execute("SELECT 1")
        doorman.upgrade()
        for victim in serving(doorman):
            waiting = waiting_in_both(doorman, stack)
            del waiting[victim.pid]
            seen = len(doorman.log_lines)
            os.kill(victim.pid, signal.SIGKILL)
            doorman.wait_log(r"worker \d \(pid \d+\) serves", after=seen)
            (others,) = waiting.values()
            left = [client for client in others if waits(client)]
            assert len(postgres.backends()) == 2
        for holder in holders:
            holder.commit()
        for client in left:
            client.read_ready()
        assert doorman.end_of_predecessor() == 0


def test_a_new_program_that_is_killed_is_none_for_any_worker(make_doorman: MakeDoorman) -> None:
    """Its supervisor, and with it its workers; those of the old one serve again, and can be upgraded again."""
    doorman = make_doorman({"general": {"worker_threads": 2, "shutdown_timeout": "60s"}})
    with ExitStack() as stack:
        clients = [stack.enter_context(doorman.connect(autocommit=False)) for _ in range(6)]
        for client in clients:
            client.execute("SELECT 1")
        doorman.upgrade()
        for process in (psutil.Process(doorman.pid), *psutil.Process(doorman.pid).children(recursive=True)):
            os.kill(process.pid, signal.SIGKILL)
        doorman.goes_on()
        doorman.wait_log("this one goes on")
        for client in clients:
            client.execute("SELECT 2")
            client.commit()
        doorman.upgrade()
        assert doorman.end_of_predecessor() == 0
        for client in clients:
            assert client.execute("SELECT 3").fetchone() == (3,)
            client.rollback()


def test_comers_are_served_all_the_time(make_doorman: MakeDoorman, postgres: Postgres) -> None:
    doorman = make_doorman({"general": {"worker_threads": 2}})
    refused: list[Exception] = []
    served = 0
    done = threading.Event()

    def come_and_go() -> None:
        nonlocal served
        while not done.is_set():
            try:
                with doorman.connect() as client:
                    client.execute("SELECT 1")
                    served += 1
            except psycopg.Error as exc:
                refused.append(exc)

    thread = threading.Thread(target=come_and_go)
    thread.start()
    try:
        for _ in range(2):
            doorman.upgrade()
            assert doorman.end_of_predecessor() == 0
    finally:
        done.set()
        thread.join()
    assert not refused
    assert served
    eventually(lambda: len(postgres.backends()) <= 16, message="pool_size of each worker")
    assert not re.search("goes on", doorman.log_text())
