"""The real pgdoorman process, started on a generated configuration, and watched until it ended as it should."""

from __future__ import annotations

import copy
import ctypes
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
import toml
from eventually import eventually
from fix_postgres import Postgres, conninfo
from pace import duration, patience
from ports import free_port
from psycopg.rows import dict_row
from throwaway_postgres import find_program
from wire_client import SYNC, WireClient, bind, execute, parse, unclosed

#: How long any start or any end of the process may take, in seconds of a machine with nothing else to do.
START_DEADLINE = 60.0
STOP_DEADLINE = 15.0

#: What never stands in a log of a process in order: a bug's traceback, or a secret of ours.
TRACEBACK = re.compile(r"Traceback \(most recent call last\)|Exception ignored in|ResourceWarning")

#: How many worker processes the poolers have whose tests don't say: not as many as there are processors here.
WORKERS = int(os.environ.get("PGDOORMAN_TEST_WORKERS", "1"))

ADMIN_USER = "admin"
ADMIN_PASSWORD = "console-password"

TomlTable = dict[str, Any]


def merged(base: TomlTable, over: Mapping[str, Any]) -> TomlTable:
    """``base`` with ``over`` laid on it, table by table; lists and values replace; None removes the key."""
    out = copy.deepcopy(base)
    for key, value in over.items():
        if value is None:
            out.pop(key, None)
        elif isinstance(value, Mapping) and isinstance(out.get(key), dict):
            out[key] = merged(out[key], value)
        else:
            out[key] = copy.deepcopy(value)
    return out


class Successor:
    """The process that has taken over from one that was started here, with what is used of ``subprocess.Popen``.

    It becomes this process's child when that one has ended (``PR_SET_CHILD_SUBREAPER``).
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:
                return None if psutil.pid_exists(self.pid) else 0
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float) -> int:
        deadline = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(str(self.pid), timeout)
            time.sleep(0.01)
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)


def be_subreaper(wanted: bool) -> None:
    """Be the parent of what the processes started here leave behind, or be it no more."""
    option = 36  # PR_SET_CHILD_SUBREAPER in linux/prctl.h
    ctypes.CDLL(None).prctl(option, int(wanted), 0, 0, 0)


class Doorman:
    """One pooler process. ``config`` is the TOML as a dict; ``host`` and ``port`` are where it listens."""

    def __init__(self, directory: Path, config: TomlTable) -> None:
        self.directory = directory
        self.config = config
        self.host = config["general"]["host"]
        if isinstance(self.host, list):
            self.host = self.host[0]
        self.port: int = config["general"]["port"]
        self.config_path = directory / "pg_doorman.toml"
        self.log_path = directory / "pgdoorman.log"
        self.process: subprocess.Popen[bytes] | Successor | None = None
        #: those that have been upgraded, and may still hand over
        self.predecessors: list[subprocess.Popen[bytes] | Successor] = []
        #: A test that provokes something logged as a traceback on purpose says why here.
        self.allowed_in_log: re.Pattern[str] | None = None
        #: Set by a test that ends the process itself.
        self.ended_by_test = False
        self._offspring: list[psutil.Process] = []
        #: how many bytes of the log have been looked through
        self._checked = 0

    # -- life

    def write_config(self, config: TomlTable) -> None:
        self.config = config
        self.config_path.write_text(toml.dumps(config), encoding="utf-8")

    @staticmethod
    def command() -> list[str]:
        """How the process is started: what the Python that runs the tests has installed."""
        return [sys.executable, "-m", "pgdoorman"]

    @staticmethod
    def environment() -> dict[str, str]:
        """Ours, without what would stand in for options."""
        hidden = ("CONFIG_FILE", "LOG_LEVEL", "LOG_FORMAT", "NO_COLOR", "DAEMON")
        libpq = re.compile(r"PG(?!DOORMAN_)")
        return {name: value for name, value in os.environ.items() if name not in hidden and not libpq.match(name)}

    def start(self, *arguments: str, preexec: Callable[[], None] | None = None, wait: bool = True) -> Doorman:
        self.write_config(self.config)
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.command(), *arguments, str(self.config_path)],
                cwd=self.directory,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=preexec,
            )
        self.ended_by_test = False
        if wait:
            eventually(self._listens, timeout=START_DEADLINE, message="pgdoorman listens")
        return self

    def _listens(self) -> bool:
        """Everywhere it should, not only at the first of several addresses."""
        assert self.process is not None
        if self.process.poll() is not None:
            pytest.fail(f"pgdoorman ended at start with {self.process.returncode}\n{self.log_text()}")
        general = self.config["general"]
        hosts = general["host"] if isinstance(general["host"], list) else [general["host"]]
        try:
            for host in hosts:
                socket.create_connection((host, self.port), timeout=patience(1)).close()
            if directory := general.get("unix_socket_dir"):
                with socket.socket(socket.AF_UNIX) as client:
                    client.connect(f"{directory}/.s.PGSQL.{self.port}")
        except OSError:
            return False
        return True

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the process, which must be running."""
        assert self.process is not None
        assert self.running, self.log_text()
        self._remember_offspring()
        self.process.send_signal(number)

    def kill(self) -> None:
        """End it by SIGKILL, as a crash would."""
        self.ended_by_test = True
        if self.running:
            self.send_signal(signal.SIGKILL)
        assert self.process is not None
        self.process.wait(patience(STOP_DEADLINE))
        for child in self._offspring:
            child.wait(patience(STOP_DEADLINE))

    def wait(self, timeout: float = STOP_DEADLINE) -> int:
        """Wait for its end and give the exit code; AssertionError when it lives on."""
        assert self.process is not None
        try:
            code = self.process.wait(patience(timeout))
        except subprocess.TimeoutExpired:
            self._abandon()
            raise AssertionError(f"pgdoorman did not end within {patience(timeout):.0f} s\n{self.log_text()}") from None
        self.ended_by_test = True
        left = [p.pid for p in self._offspring if _alive(p)]
        assert not left, f"processes left behind by pgdoorman: {left}"
        return code

    def stop(self, number: signal.Signals = signal.SIGTERM, timeout: float = STOP_DEADLINE) -> int:
        """Signal it and wait for its end; the exit code."""
        self.send_signal(number)
        return self.wait(timeout)

    def upgrade(self, number: signal.Signals = signal.SIGUSR2) -> None:
        """Have a new process take over by a signal: from then on it is the one that is looked after."""
        self._upgrade(lambda: self.send_signal(number))

    def upgrade_by_console(self) -> str:
        """As ``upgrade``, by UPGRADE; what the console says."""
        said: list[str] = []

        def ask() -> None:
            with self.admin_connect() as connection:
                said.append(str(connection.execute("UPGRADE").statusmessage))

        self._upgrade(ask)
        return said[0]

    def _upgrade(self, ask: Callable[[], None]) -> None:
        be_subreaper(True)
        before = len(self.log_lines)
        ask()
        line = self.wait_log(r"process \d+ serves new clients|upgrade failed", after=before, timeout=START_DEADLINE)
        found = re.search(r"process (\d+) serves", line)
        assert found is not None, self.log_text()
        assert self.process is not None
        self.predecessors.append(self.process)
        self.process = Successor(int(found[1]))

    def goes_on(self) -> None:
        """The process before this one is the one to look after again, and the last one, whose end is the test's."""
        assert self.predecessors, "there was no upgrade"
        self.process = self.predecessors.pop()

    def end_of_predecessor(self) -> int:
        """Wait until the process before this one has ended; its exit code."""
        try:
            return self.predecessors.pop().wait(patience(STOP_DEADLINE))
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the old process does not end\n{self.log_text()}") from None

    def _remember_offspring(self) -> None:
        try:
            self._offspring = psutil.Process(self.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            self._offspring = []

    def _abandon(self) -> None:
        """Leave nothing behind after a failure."""
        assert self.process is not None
        self.ended_by_test = True
        known = (psutil.Process(one.pid) for one in self.predecessors if one.poll() is None)
        for process in [*self._offspring, *known, psutil.Process(self.pid)]:
            if _alive(process):
                process.kill()
        self.process.wait(patience(STOP_DEADLINE))

    def finish(self) -> None:
        """The end of its use: SIGTERM must end it with exit code 0 in time, with no traceback in its log."""
        if self.process is not None and not self.ended_by_test:
            if not self.running:
                raise AssertionError(f"pgdoorman ended by itself with {self.process.returncode}\n{self.log_text()}")
            for one in self.predecessors:
                one.send_signal(signal.SIGTERM)
            while self.predecessors:
                self.end_of_predecessor()
            code = self.stop()
            assert code == 0, f"exit code {code} after SIGTERM\n{self.log_text()}"
        if isinstance(self.process, Successor):
            be_subreaper(False)
        self.check_log()

    def check_log(self) -> None:
        """Fail on a traceback or a secret in the lines of the log that have come since the last call."""
        new = self._log_from(self._checked)
        if self.running:
            new = new[: new.rfind(b"\n") + 1]
        self._checked += len(new)
        text = new.decode("utf-8", "replace")
        for line in text.splitlines():
            if TRACEBACK.search(line) and not (self.allowed_in_log and self.allowed_in_log.search(line)):
                pytest.fail(f"in pgdoorman's log: {line}\n{self.log_text()}")
        for secret in self.secrets():
            assert secret not in text, "a secret of the configuration stands in the log"

    def secrets(self) -> list[str]:
        """Every password and stored secret of the configuration that is long enough to be looked for."""
        found = [self.config["general"].get("admin_password", "")]
        for pool in self.config.get("pools", {}).values():
            users = pool.get("users", [])
            for user in users.values() if isinstance(users, dict) else users:
                found += [user.get("password", ""), user.get("server_password", "")]
            looked_up = pool.get("auth_query", {})
            found += [looked_up.get("password", ""), looked_up.get("server_password", "")]
        return [s for s in found if len(s) >= 8]

    # -- its log

    def log_text(self) -> str:
        return self._log_from(0).decode("utf-8", "replace")

    def log_size(self) -> int:
        """Bytes logged so far."""
        return self.log_path.stat().st_size if self.log_path.exists() else 0

    def log_since(self, size: int) -> list[str]:
        """The lines logged since it had so many bytes."""
        return self._log_from(size).decode("utf-8", "replace").splitlines()

    def _log_from(self, start: int) -> bytes:
        if not self.log_path.exists():
            return b""
        with self.log_path.open("rb") as log:
            log.seek(start)
            return log.read()

    @property
    def log_lines(self) -> list[str]:
        return self.log_text().splitlines()

    def wait_log(self, pattern: str, *, timeout: float = 10.0, after: int = 0, flags: int = re.IGNORECASE) -> str:
        """The first line from line number ``after`` on that matches."""

        def match() -> str | None:
            return next((line for line in self.log_lines[after:] if re.search(pattern, line, flags)), None)

        found = eventually(match, timeout=timeout, message=f"a log line like {pattern!r}")
        assert found is not None
        return found

    # -- connections to it

    def dsn(self, **parameters: Any) -> str:
        """A conninfo string; by default database ``testdb`` as user ``app``."""
        return conninfo(**{"host": self.host, "port": self.port, **parameters})

    def connect(self, *, autocommit: bool = True, **parameters: Any) -> psycopg.Connection[tuple[Any, ...]]:
        """A psycopg connection, by default to ``testdb`` as ``app``."""
        options = {
            k: parameters.pop(k)
            for k in ("prepare_threshold", "row_factory", "cursor_factory", "context")
            if k in parameters
        }
        return psycopg.connect(self.dsn(**parameters), autocommit=autocommit, **options)

    def refusal(self, **parameters: Any) -> str:
        """What psycopg says of a connection that is refused."""
        with pytest.raises(psycopg.OperationalError) as failed:
            self.connect(**parameters)
        return str(failed.value)

    def wire(
        self, database: str = "testdb", user: str = "app", password: str | None = None, **parameters: str
    ) -> WireClient:
        """A raw client, logged in."""
        client = WireClient((self.host, self.port))
        try:
            return client.login(
                user, database, Postgres.PASSWORDS.get(user, "") if password is None else password, **parameters
            )
        except BaseException:
            client.close()
            raise

    def raw(self) -> WireClient:
        """A raw client that has sent nothing yet."""
        return WireClient((self.host, self.port))

    # -- its console

    def admin_connect(self, database: str = "pgdoorman", **parameters: Any) -> psycopg.Connection[dict[str, Any]]:
        return psycopg.connect(
            self.dsn(dbname=database, user=ADMIN_USER, password=ADMIN_PASSWORD, **parameters),
            autocommit=True,
            row_factory=dict_row,
        )

    def admin(self, sql: str) -> list[dict[str, Any]]:
        """The rows of a console command, by column name."""
        with self.admin_connect() as connection:
            cursor = connection.execute(sql)
            return cursor.fetchall() if cursor.description else []

    def pool(self, database: str = "testdb", user: str = "app") -> dict[str, Any]:
        """The row of SHOW POOLS of one pool, numbers as int."""
        rows = [r for r in self.admin("SHOW POOLS") if r["database"] == database and r["user"] == user]
        assert len(rows) == 1, rows
        return {k: int(v) if str(v).lstrip("-").isdigit() else v for k, v in rows[0].items()}

    def reload(self, config: TomlTable | None = None, *, signal_it: bool = True) -> None:
        """Write ``config`` and reload by SIGHUP, or by RELOAD; returns when the log says it is done or refused."""
        if config is not None:
            self.write_config(config)
        before = len(self.log_lines)
        if signal_it:
            self.send_signal(signal.SIGHUP)
            self.wait_log("configuration reloaded|reload failed", after=before)
        else:
            self.admin("RELOAD")

    # -- the process seen from outside

    def _processes(self) -> list[psutil.Process]:
        process = psutil.Process(self.pid)
        return [process, *process.children(recursive=True)]

    def rss(self) -> int:
        """Resident bytes of all its processes."""
        return sum(p.memory_info().rss for p in self._processes())

    def peak_rss(self) -> int:
        """The most bytes that were ever resident, over its processes (Linux)."""
        total = 0
        for process in self._processes():
            status = Path(f"/proc/{process.pid}/status").read_text()
            found = re.search(r"VmHWM:\s+(\d+) kB", status)
            assert found is not None
            total += int(found[1]) * 1024
        return total

    def cpu_seconds(self) -> float:
        """User and system time of all its processes."""
        return sum(t.user + t.system for t in (p.cpu_times() for p in self._processes()))

    def open_files(self) -> int:
        """Open file descriptors of all its processes."""
        return sum(p.num_fds() for p in self._processes())


def _alive(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running()) and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def app_user(postgres: Postgres, size: int, **more: Any) -> TomlTable:
    """User ``app`` with a pool of ``size`` servers."""
    return {
        "username": "app",
        "password": postgres.secret("app"),
        "pool_size": size,
        "server_username": "app",
        "server_password": postgres.password("app"),
        **more,
    }


def app_pool(postgres: Postgres, size: int = 8, **more: Any) -> TomlTable:
    """A pool over ``testdb``, of ``size`` servers for user ``app`` unless others are given as ``users``."""
    return {
        "server_host": postgres.host,
        "server_port": postgres.port,
        "server_database": "testdb",
        "users": [app_user(postgres, size)],
        **more,
    }


def base_config(postgres: Postgres, port: int) -> TomlTable:
    """What most tests run on: WORKERS, pools over one database in every mode, secrets of every kind."""
    return {
        "general": {
            "host": "127.0.0.1",
            "port": port,
            "worker_threads": WORKERS,
            "connect_timeout": duration(5),
            "query_wait_timeout": duration(10),
            "shutdown_timeout": "5s",
            "admin_username": ADMIN_USER,
            "admin_password": ADMIN_PASSWORD,
        },
        "pools": {
            "testdb": app_pool(postgres, 8, pool_mode="transaction"),
            "onedb": app_pool(postgres, 1, pool_mode="transaction"),
            "twodb": app_pool(postgres, 2, pool_mode="transaction"),
            "sessiondb": app_pool(postgres, 4, pool_mode="session"),
        },
    }


#: The processes in use, for the report of a failed test.
_live: list[Doorman] = []


MakeDoorman = Callable[..., Doorman]


def _factory(postgres: Postgres, directory: Path, started: list[Doorman]) -> MakeDoorman:
    def make(
        over: Mapping[str, Any] | None = None,
        *,
        config: TomlTable | None = None,
        start: bool = True,
        preexec: Callable[[], None] | None = None,
        arguments: tuple[str, ...] = (),
    ) -> Doorman:
        home = directory / f"doorman{len(started)}"
        home.mkdir()
        if config is None:
            config = base_config(postgres, free_port())
        config = merged({"general": {"worker_threads": WORKERS}}, config)
        if over is not None:
            config = merged(config, over)
        if engine := os.environ.get("PGDOORMAN_TEST_ENGINE"):
            config = merged({"general": {"io_engine": engine}}, config)
        doorman = Doorman(home, config)
        started.append(doorman)
        _live.append(doorman)
        if start:
            doorman.start(*arguments, preexec=preexec)
        return doorman

    return make


def _finish(started: list[Doorman]) -> None:
    failures = []
    for doorman in started:
        try:
            doorman.finish()
        except (AssertionError, pytest.fail.Exception) as exc:
            failures.append(str(exc))
        finally:
            if doorman.running:
                doorman._abandon()
            _live.remove(doorman)
    if failures:
        pytest.fail("\n".join(failures), pytrace=False)


@pytest.fixture
def make_doorman(postgres: Postgres, tmp_path: Path) -> Iterator[MakeDoorman]:
    """Start a pooler for this test alone: ``make_doorman({"general": {…}})`` lays the given over ``base_config``."""
    started: list[Doorman] = []
    yield _factory(postgres, tmp_path, started)
    _finish(started)


def of_workers(make: MakeDoorman, workers: int) -> MakeDoorman:
    """``make_doorman`` with so many worker processes unless it is told otherwise."""

    def make_of_workers(over: Mapping[str, Any] | None = None, **more: Any) -> Doorman:
        return make(merged({"general": {"worker_threads": workers}}, over or {}), **more)

    return make_of_workers


@pytest.fixture(scope="module")
def doorman_over() -> Mapping[str, Any]:
    """What a module's shared pooler has other than ``base_config``; a module overrides this fixture."""
    return {}


@pytest.fixture(scope="module")
def doorman(
    postgres: Postgres, tmp_path_factory: pytest.TempPathFactory, doorman_over: Mapping[str, Any]
) -> Iterator[Doorman]:
    """A pooler shared by the tests of a module. Who changes it asks ``make_doorman`` for one of their own."""
    started: list[Doorman] = []
    yield _factory(postgres, tmp_path_factory.mktemp("doorman"), started)(doorman_over)
    _finish(started)


@pytest.fixture(autouse=True)
def _doorman_in_order(request: pytest.FixtureRequest) -> Iterator[None]:
    """After each test: its poolers are alive (unless the test ended them) and logged no traceback."""
    marks = {id(d): d.log_size() for d in _live}
    request.node.stash[_marks_key] = marks
    yield
    for client in list(unclosed):
        client.close()
    for doorman in list(_live):
        if doorman.process is not None and not doorman.ended_by_test:
            assert doorman.running, f"pgdoorman ended by itself\n{doorman.log_text()}"
        doorman.check_log()


_marks_key: pytest.StashKey[dict[int, int]] = pytest.StashKey()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Show what the poolers logged during a failed test."""
    report: Any = yield  # type: ignore[misc]
    if report.failed:
        marks = item.stash.get(_marks_key, {})
        for doorman in _live:
            lines = doorman.log_since(marks.get(id(doorman), 0))
            report.sections.append((f"log of pgdoorman on port {doorman.port}", "\n".join(lines[-300:])))
    return report


def until_idle(doorman: Doorman, database: str = "testdb", user: str = "app", timeout: float = 10.0) -> dict[str, Any]:
    """Wait until a pool has nothing lent, opened or waited for; its row of SHOW POOLS."""

    def idle() -> dict[str, Any] | None:
        row = doorman.pool(database, user)
        busy = row["sv_active"] + row["sv_login"] + row["cl_active"] + row["cl_waiting"]
        return row if busy == 0 else None

    found = eventually(idle, timeout=timeout, message=f"pool {user}@{database} is idle")
    assert found is not None
    return found


def until_statements_stay(client: WireClient) -> None:
    """What was altered just now is known by then: until it is, a server forgets all behind each transaction."""
    names = (f"stays_{number}" for number in count())

    def stay() -> bool:
        name = next(names)
        client.ask(parse(name, "SELECT 1") + bind("", name) + execute() + SYNC)
        return client.value("SELECT count(*) FROM pg_prepared_statements") != "0"

    eventually(stay)


def elapsed(since: float) -> float:
    """Seconds since a time.monotonic()."""
    return time.monotonic() - since


@contextmanager
def pgbench_at_work(doorman: Doorman, seconds: int) -> Iterator[None]:
    """Two pgbench with 8 clients each, of simple queries and prepared ones; in the end none may have failed."""
    script = doorman.directory / "script.sql"
    script.write_text("SELECT 1;\nBEGIN;\nSELECT 2;\nCOMMIT;\n")
    environment: dict[str, Any] = {**os.environ, "PGPASSWORD": Postgres.PASSWORDS["app"], "PGSSLMODE": "disable"}
    benches = [
        subprocess.Popen(
            [
                *(find_program("pgbench"), "-n", "-c", "8", "-T", str(seconds), "-M", mode, "-f", str(script)),
                *("-h", doorman.host, "-p", str(doorman.port), "-U", "app", "testdb"),
            ],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for mode in ("simple", "prepared")
    ]
    try:
        yield
        results = [bench.communicate(timeout=patience(seconds + 60)) for bench in benches]
    finally:
        for bench in benches:
            if bench.poll() is None:
                bench.kill()
                bench.communicate()
    for bench, (out, err) in zip(benches, results, strict=True):
        assert bench.returncode == 0, err
        assert b"number of failed transactions: 0" in out or b"failed" not in out, out


@pytest.fixture
def short_directory() -> Iterator[Path]:
    """A directory whose path leaves room for a socket's name (about 100 characters in all)."""
    path = Path(tempfile.mkdtemp(prefix="dm-"))
    yield path
    shutil.rmtree(path)
