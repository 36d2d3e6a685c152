"""Several worker processes: they serve as one pooler, and their ends and beginnings concern nobody else."""

from __future__ import annotations

import os
import re
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
from eventually import eventually, stays
from fix_doorman import Doorman, MakeDoorman, app_pool, be_subreaper
from fix_postgres import Postgres
from pace import patience
from wire_client import WireError
from worker_processes import worker_of

pytestmark = pytest.mark.own_workers

WORKERS = 2


@pytest.fixture
def pooler(make_doorman: MakeDoorman) -> Doorman:
    """It listens; its workers may yet be starting."""
    return make_doorman({"general": {"worker_threads": WORKERS}})


def nursery(doorman: Doorman) -> psutil.Process:
    """The process that workers are forked from."""
    (found,) = psutil.Process(doorman.pid).children()
    return found


def open_in(process: psutil.Process) -> Iterator[str]:
    """What its descriptors are; some may be closed meanwhile."""
    for path in Path(f"/proc/{process.pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            yield str(path.readlink())


def workers(doorman: Doorman) -> list[psutil.Process]:
    """All of them, as soon as they have been forked."""

    def forked() -> list[psutil.Process] | None:
        found = nursery(doorman).children()
        return found if len(found) == WORKERS else None

    return eventually(forked, message="both workers") or []


@contextmanager
def clients_of_both(doorman: Doorman) -> Iterator[dict[int, psycopg.Connection[Any]]]:
    """One client of each worker, by the worker's process id."""
    with ExitStack() as stack:
        found: dict[int, psycopg.Connection[Any]] = {}

        def another() -> bool:
            connection = stack.enter_context(closing(doorman.connect(autocommit=True)))
            found.setdefault(worker_of(doorman, connection).pid, connection)
            return len(found) == WORKERS

        eventually(another, message="clients come to both workers")
        yield found


@contextmanager
def consoles_of_both(doorman: Doorman) -> Iterator[dict[int, psycopg.Connection[Any]]]:
    """One client of the console at each worker, by the worker's process id."""
    with ExitStack() as stack:
        found: dict[int, psycopg.Connection[Any]] = {}

        def another() -> bool:
            console = stack.enter_context(closing(doorman.admin_connect()))
            found.setdefault(worker_of(doorman, console).pid, console)
            return len(found) == WORKERS

        eventually(another, message="consoles come to both workers")
        yield found


def test_both_serve(pooler: Doorman) -> None:
    with clients_of_both(pooler) as clients:
        for connection in clients.values():
            assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_killed_worker_is_replaced(pooler: Doorman) -> None:
    """Its clients are disconnected, the others notice nothing."""
    with clients_of_both(pooler) as clients:
        (killed, lost), (_, kept) = clients.items()
        kept.execute("BEGIN")
        os.kill(killed, signal.SIGKILL)
        assert kept.execute("SELECT 1").fetchone() == (1,)
        kept.execute("COMMIT")
        with pytest.raises(psycopg.OperationalError):
            lost.execute("SELECT 1")
        pooler.wait_log(rf"worker \d \(pid {killed}\) was ended by signal 9")
        pooler.wait_log(r"worker \d \(pid \d+\) serves")
        assert workers(pooler)
    with clients_of_both(pooler) as clients:
        assert killed not in clients
        for connection in clients.values():
            assert connection.execute("SELECT 1").fetchone() == (1,)


#: A statement that goes on for a while when it is cancelled, and its process at PostgreSQL with it.
LINGERS = """
    DO $$ BEGIN PERFORM pg_sleep(30); EXCEPTION WHEN query_canceled THEN PERFORM pg_sleep(0.25); END $$
"""


def test_places_of_a_killed_worker_are_free_when_postgresql_has_ended_its_servers(
    make_doorman: MakeDoorman, postgres: Postgres
) -> None:
    pooler = make_doorman({"general": {"worker_threads": WORKERS}, "pools": {"testdb": app_pool(postgres, 2)}})
    backends = "SELECT count(*), pg_sleep(0.005) FROM pg_stat_activity WHERE usename = 'app' AND datname = 'testdb'"
    with clients_of_both(pooler) as clients, ExitStack() as stack:
        (killed, lost), (kept, _) = clients.items()
        asking = []
        while len(asking) < 2:
            connection = stack.enter_context(closing(pooler.connect(autocommit=True)))
            if worker_of(pooler, connection).pid == kept:
                asking.append(connection)
        lost.pgconn.send_query(LINGERS.encode())
        eventually(lambda: any("query_canceled" in one["query"] for one in postgres.backends("app", "testdb")))
        seen: list[int] = []

        def ask(connection: psycopg.Connection[Any]) -> None:
            while not re.search(r"worker \d \(pid \d+\) serves", pooler.log_text()):
                seen.extend(row[0] for row in connection.execute(backends))

        os.kill(killed, signal.SIGKILL)
        with ThreadPoolExecutor() as threads:
            list(threads.map(ask, asking))
        assert max(seen) <= 2


def test_limits_of_clients_hold_over_all_workers_and_count_no_dead(pooler: Doorman) -> None:
    def refused() -> str:
        try:
            pooler.wire("twodb").close()
        except WireError as exc:
            return f"{exc.message.sqlstate} {exc.message.fields['M']}"
        return ""

    with clients_of_both(pooler) as clients, ExitStack() as stack:
        present = len([row for row in pooler.admin("SHOW CLIENTS") if row["user"] == "app"])
        pooler.admin(f"SET max_user_client_connections = {present}")
        too_many = '53300 too many connections for role "app"'
        assert [refused() for _ in range(8)] == [too_many] * 8, "whichever worker it comes to"
        killed, lost = next(iter(clients.items()))
        os.kill(killed, signal.SIGKILL)
        pooler.wait_log(rf"worker \d \(pid {killed}\) was ended by signal 9")
        with pytest.raises(psycopg.OperationalError):
            lost.execute("SELECT 1")
        eventually(lambda: not refused(), message="the places of the lost ones are free")
        left = len([row for row in pooler.admin("SHOW CLIENTS") if row["user"] == "app"])
        while left < present:
            stack.enter_context(pooler.connect())
            left += 1
        eventually(lambda: refused() == too_many, message="as many as before, whoever came in between has left")


@pytest.mark.parametrize("log", ["stderr", "syslog"])
def test_workers_come_from_a_process_without_a_hub(make_doorman: MakeDoorman, short_directory: Path, log: str) -> None:
    """Its epoll would be one for all of them."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as syslog:
        syslog.bind(str(short_directory / "log"))
        to_syslog = {"syslog_prog_name": "pooler", "syslog_socket": str(short_directory / "log")}
        general = {"worker_threads": WORKERS, **(to_syslog if log == "syslog" else {})}
        pooler = make_doorman({"general": general})
        assert not [what for what in open_in(nursery(pooler)) if "eventpoll" in what]


def test_a_worker_is_no_service(pooler: Doorman) -> None:
    """A terminal's or a service manager's signals reach all processes: only the supervisor goes by them."""
    before = {process.pid for process in workers(pooler)}
    for process in (nursery(pooler), *workers(pooler)):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM):
            process.send_signal(number)
    with clients_of_both(pooler) as clients:
        assert set(clients) == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_end_while_they_start(pooler: Doorman, number: signal.Signals) -> None:
    """Nobody has to be killed for it."""
    assert pooler.stop(number) == 0
    assert "is killed" not in pooler.log_text()


def test_a_reload_while_they_start(pooler: Doorman) -> None:
    """It is told of when all go by it."""
    pooler.reload({**pooler.config, "general": {**pooler.config["general"], "max_connections": 77}})
    with clients_of_both(pooler):
        for _ in range(10):
            rows = pooler.admin("SHOW CONFIG")
            assert [row["value"] for row in rows if row["key"] == "max_connections"] == ["77"]


def test_the_console_stays_until_the_last_client_has_left(pooler: Doorman) -> None:
    """Whosever that is: it may want to wait no longer."""
    with clients_of_both(pooler) as clients, closing(pooler.admin_connect()) as admin:
        consoles = worker_of(pooler, admin).pid
        for worker, client in clients.items():
            if worker == consoles:
                client.close()
        admin.execute("SHUTDOWN WAIT_FOR_CLIENTS")
        pooler.wait_log("waiting for the last client")
        assert stays(lambda: bool(admin.execute("SHOW VERSION").fetchall()), seconds=0.5)
        admin.execute("SHUTDOWN")
        assert pooler.wait() == 0


def test_one_that_starts_when_the_log_can_not_be_opened(make_doorman: MakeDoorman, tmp_path: Path) -> None:
    """It goes on where the supervisor's log was."""
    directory = tmp_path / "logs"
    directory.mkdir()
    general = {"worker_threads": WORKERS, "log_file": str(directory / "own.log")}
    pooler = make_doorman({"general": general})
    moved = tmp_path / "moved"
    with clients_of_both(pooler) as clients:
        directory.rename(moved)
        os.kill(next(iter(clients)), signal.SIGKILL)
        eventually(lambda: re.search(r"worker \d \(pid \d+\) serves", (moved / "own.log").read_text()))
    with clients_of_both(pooler):
        assert re.search(r"worker \d: .*own\.log.*: the log goes on where it was", (moved / "own.log").read_text())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_end_waits_for_transactions(pooler: Doorman, number: signal.Signals) -> None:
    with clients_of_both(pooler) as clients:
        for connection in clients.values():
            connection.execute("BEGIN")
        pooler.send_signal(number)
        pooler.wait_log("shutting down, waiting up to")
        for connection in clients.values():
            assert connection.execute("SELECT 1").fetchone() == (1,)
            connection.execute("COMMIT")
        assert pooler.wait() == 0


def test_a_second_signal_hurries(pooler: Doorman) -> None:
    with clients_of_both(pooler) as clients:
        for connection in clients.values():
            connection.execute("BEGIN")
        pooler.send_signal(signal.SIGTERM)
        pooler.wait_log("shutting down, waiting up to")
        pooler.send_signal(signal.SIGTERM)
        assert pooler.wait() == 0


def test_workers_end_with_their_supervisor(pooler: Doorman) -> None:
    """Nobody would start it again while they hold its ports."""
    be_subreaper(True)
    try:
        left = [nursery(pooler), *workers(pooler)]
        pooler.ended_by_test = True
        pooler.send_signal(signal.SIGKILL)
        assert not psutil.wait_procs(left, timeout=patience(15))[1]
    finally:
        be_subreaper(False)


def test_without_the_process_that_workers_come_from(pooler: Doorman) -> None:
    """Those there are go on."""
    be_subreaper(True)
    try:
        left = workers(pooler)
        with clients_of_both(pooler) as clients:
            nursery(pooler).kill()
            pooler.wait_log("no other can take the place")
            for connection in clients.values():
                assert connection.execute("SELECT 1").fetchone() == (1,)
        left[0].kill()
        pooler.wait_log(rf"worker \d \(pid {left[0].pid}\) has ended \(nobody has seen how\)")
        assert pooler.stop() == 0
        assert not psutil.wait_procs(left, timeout=patience(15))[1]
    finally:
        be_subreaper(False)


def test_what_one_can_not_begin_with_ends_all(make_doorman: MakeDoorman, pooler: Doorman) -> None:
    """A port that is taken is found out by the supervisor, and there is nothing left behind."""
    second = make_doorman({"general": {"worker_threads": WORKERS, "port": pooler.port}}, start=False)
    second.start(wait=False)
    assert second.wait() == 1
    assert "address already in use" in second.log_text().lower()


def test_one_that_stands_still_is_named(pooler: Doorman) -> None:
    """A process that the kernel does not let run reads nothing, either: by a stopped cgroup, or where memory is short."""
    with consoles_of_both(pooler) as consoles:
        still, running = consoles
        notices: list[str | None] = []
        consoles[running].add_notice_handler(lambda diagnostic: notices.append(diagnostic.message_primary))
        rows = consoles[running].execute("SHOW WORKERS").fetchall()
        (number,) = (row["worker"] for row in rows if row["process"] == still)
        os.kill(still, signal.SIGSTOP)
        try:
            consoles[running].execute("SHOW POOLS")
            assert notices == [f"worker {number} is not in this table, but for what it had counted"]
            with pytest.raises(
                psycopg.Error, match=rf"everywhere: worker {number} was not asked: .*; carried out by"
            ) as caught:
                consoles[running].execute("RECONNECT")
            assert caught.value.sqlstate == "58000"
        finally:
            os.kill(still, signal.SIGCONT)
        consoles[running].execute("RECONNECT")


def test_a_reload_reaches_both(pooler: Doorman) -> None:
    with clients_of_both(pooler), pooler.admin_connect() as admin:
        admin.execute("SET log_level = 'debug'")
        pooler.reload({**pooler.config, "general": {**pooler.config["general"], "max_connections": 77}})
        for number in range(1, WORKERS + 1):
            pooler.wait_log(rf"worker {number}: .*configuration reloaded: .*max_connections")


def kill_one(doorman: Doorman) -> None:
    """Kill a worker, and wait until another serves in its place."""
    seen = len(doorman.log_lines)
    workers(doorman)[0].kill()
    doorman.wait_log(r"worker \d \(pid \d+\) serves", after=seen)


def timeouts(doorman: Doorman) -> set[str]:
    """What each worker has as ``query_wait_timeout``."""
    with consoles_of_both(doorman) as consoles:
        rows = [row for console in consoles.values() for row in console.execute("SHOW CONFIG").fetchall()]
    return {row["value"] for row in rows if row["key"] == "query_wait_timeout"}


@pytest.mark.parametrize("back", ["RESET query_wait_timeout", "RELOAD"])
def test_what_was_set_is_taken_back_in_those_that_came_later_too(pooler: Doorman, back: str) -> None:
    before = timeouts(pooler)
    pooler.admin("SET query_wait_timeout = '77s'")
    kill_one(pooler)
    assert len(before) == 1 and timeouts(pooler) == {"77000"}
    pooler.admin(back)
    assert timeouts(pooler) == before


def test_orders_from_before_an_upgrade_hold_for_workers_that_come_later(pooler: Doorman) -> None:
    pooler.admin("SET query_wait_timeout = '77s'")
    pooler.admin("DISABLE testdb")
    pooler.upgrade()
    pooler.wait_log("upgrade: the old process has ended")
    kill_one(pooler)
    assert timeouts(pooler) == {"77000"}
    for _ in range(8):
        with pytest.raises(psycopg.OperationalError, match="not currently accepting connections"):
            pooler.connect()
    pooler.admin("ENABLE testdb")
    pooler.admin("RESET query_wait_timeout")
    assert timeouts(pooler) != {"77000"}
    with clients_of_both(pooler):
        pass


def test_each_on_a_processor_of_its_own(make_doorman: MakeDoorman) -> None:
    over = {"worker_threads": WORKERS, "worker_cpu_affinity_pinning": True}
    doorman = make_doorman({"general": over})
    processors = sorted(os.sched_getaffinity(0))
    expected = sorted([processors[number % len(processors)]] for number in range(WORKERS))
    eventually(lambda: sorted(process.cpu_affinity() for process in workers(doorman)) == expected)


def test_lines_say_whose_they_are(pooler: Doorman) -> None:
    for number in range(1, WORKERS + 1):
        pooler.wait_log(rf"INFO worker {number}: pgdoorman_lib.*is ready")
