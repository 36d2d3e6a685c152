"""``--daemon``: it serves when the launcher ends, has its pid file, and no hold on the terminal."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import toml
from eventually import eventually
from fix_doorman import Doorman, base_config, merged
from fix_postgres import Postgres
from throwaway_postgres import free_port
from wire_client import WireClient


class Daemon:
    """A configuration in a directory, and the daemon that was launched on it, if it is there."""

    def __init__(self, postgres: Postgres, directory: Path, **general: Any) -> None:
        self.directory = directory
        self.port = free_port()
        self.pid_file = directory / "pgdoorman.pid"
        self.log = directory / "pgdoorman.log"
        own = {"daemon_pid_file": str(self.pid_file), "log_file": str(self.log), **general}
        self.config = directory / "pg_doorman.toml"
        self.config.write_text(toml.dumps(merged(base_config(postgres, self.port), {"general": own})))
        self.pids: set[int] = set()

    def launch(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Launch it by a relative path, and wait for the launcher."""
        done = subprocess.run(
            [*Doorman.command(), *(arguments or ("-d",)), self.config.name],
            cwd=self.directory, env=Doorman.environment() | environment,
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        if self.pid_file.exists():
            self.pids.add(self.pid)
        return done

    @property
    def pid(self) -> int:
        return int(self.pid_file.read_text())

    def kill(self, number: signal.Signals) -> None:
        """Send it a signal, and wait for its end."""
        pid = self.pid
        os.kill(pid, number)
        eventually(lambda: not alive(pid), timeout=15, message="the daemon ends")

    def serves(self) -> bool:
        with WireClient(("127.0.0.1", self.port)) as client:
            return client.login("app", "testdb", Postgres.PASSWORDS["app"]).value("SELECT 1") == "1"


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


MakeDaemon = Callable[..., Daemon]


@pytest.fixture
def make_daemon(postgres: Postgres, tmp_path: Path) -> Iterator[MakeDaemon]:
    made: list[Daemon] = []

    def make(**general: Any) -> Daemon:
        made.append(Daemon(postgres, tmp_path, **general))
        return made[-1]

    yield make
    left = [pid for daemon in made for pid in daemon.pids if alive(pid)]
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left
    for daemon in made:
        assert "Traceback" not in (daemon.log.read_text() if daemon.log.exists() else "")


@pytest.mark.parametrize(("arguments", "environment"), [(["-d"], {}), (["--daemon"], {}), (["-n"], {"DAEMON": "true"})])
def test_it_serves_when_the_launcher_ends(
    make_daemon: MakeDaemon, arguments: list[str], environment: dict[str, str]
) -> None:
    daemon = make_daemon()
    done = daemon.launch(*arguments, **environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert daemon.serves()
    pid = daemon.pid
    process = psutil.Process(pid)
    assert os.getsid(pid) not in (pid, os.getsid(0)), "it can get no terminal"
    assert process.cwd() == str(daemon.directory)
    assert [os.readlink(f"/proc/{pid}/fd/{number}") for number in range(3)] == [
        "/dev/null",
        "/dev/null",
        str(daemon.log),
    ]
    os.kill(pid, signal.SIGHUP)
    eventually(lambda: "configuration reloaded" in daemon.log.read_text())
    daemon.kill(signal.SIGTERM)
    assert not daemon.pid_file.exists()
    assert "pgdoorman has ended" in daemon.log.read_text()


def test_standard_error_follows_the_log(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon()
    daemon.launch()
    moved = daemon.log.rename(daemon.directory / "old.log")
    assert os.readlink(f"/proc/{daemon.pid}/fd/2") == str(moved)
    os.kill(daemon.pid, signal.SIGUSR1)
    eventually(daemon.log.exists)
    eventually(lambda: os.readlink(f"/proc/{daemon.pid}/fd/2") == str(daemon.log))
    daemon.kill(signal.SIGTERM)


def test_without_a_log_it_warns(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon(log_file=None)
    done = daemon.launch()
    assert done.returncode == 0
    assert "--daemon with neither log_file nor syslog_prog_name" in done.stderr
    assert os.readlink(f"/proc/{daemon.pid}/fd/2") == "/dev/null"
    assert daemon.serves()
    daemon.kill(signal.SIGTERM)


def test_with_syslog(make_daemon: MakeDaemon, short_directory: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as syslog:
        syslog.bind(str(short_directory / "log"))
        syslog.settimeout(10)
        daemon = make_daemon(log_file=None, syslog_prog_name="doorman", syslog_socket=str(short_directory / "log"))
        done = daemon.launch()
        assert (done.returncode, done.stderr) == (0, "")
        assert f"doorman[{daemon.pid}]: " in syslog.recv(4096).decode()
        assert os.readlink(f"/proc/{daemon.pid}/fd/2") == "/dev/null"
        daemon.kill(signal.SIGTERM)


def test_why_it_can_not_listen(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", daemon.port))
        taken.listen()
        done = daemon.launch()
    assert done.returncode == 71
    assert f"could not listen: 127.0.0.1:{daemon.port}: Address already in use" in done.stderr
    assert "Address already in use" in daemon.log.read_text()
    assert not daemon.pid_file.exists()


@pytest.mark.parametrize("general", [{"port": "many"}, {"log_file": "/no/such/directory/log"}])
def test_a_configuration_that_can_not_be_used(make_daemon: MakeDaemon, general: dict[str, Any]) -> None:
    daemon = make_daemon(**general)
    done = daemon.launch()
    assert done.returncode == 78
    assert next(iter(general)) in done.stderr
    assert not daemon.pid_file.exists()


def test_only_one_has_the_pid_file(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon()
    daemon.launch()
    pid = daemon.pid
    done = daemon.launch()
    assert done.returncode == 71
    assert f"general.daemon_pid_file: '{daemon.pid_file}' is held by process {pid}, which is running" in done.stderr
    assert daemon.pid == pid
    assert daemon.serves()
    daemon.kill(signal.SIGTERM)


def test_what_a_killed_one_has_left_is_replaced(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon()
    daemon.launch()
    before = daemon.pid
    daemon.kill(signal.SIGKILL)
    assert daemon.pid == before
    assert daemon.launch().returncode == 0
    assert f"is of process {before}, which has ended" in daemon.log.read_text()
    assert daemon.pid != before
    assert daemon.serves()
    daemon.kill(signal.SIGTERM)


@pytest.mark.parametrize("number", [signal.SIGUSR2, signal.SIGINT])
def test_an_upgrade(make_daemon: MakeDaemon, number: signal.Signals) -> None:
    """The file has the new process's id, and goes when that ends."""
    daemon = make_daemon()
    daemon.launch()
    with WireClient(("127.0.0.1", daemon.port)) as client:
        client.login("app", "testdb", Postgres.PASSWORDS["app"])
        for _ in range(2):
            before = daemon.pid
            os.kill(before, number)
            eventually(lambda old=before: not alive(old), timeout=60, message="the old process ends")
            daemon.pids.add(daemon.pid)
            assert daemon.pid != before
            assert client.value("SELECT 1") == "1"
    assert daemon.serves()
    daemon.kill(signal.SIGTERM)
    assert not daemon.pid_file.exists()


def test_a_file_that_is_somebody_elses(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon()
    daemon.pid_file.write_text(f"{os.getpid()}\n")
    done = daemon.launch()
    daemon.pids.clear()
    assert done.returncode == 71
    assert f"has the id of process {os.getpid()}, which is running" in done.stderr
    assert daemon.pid == os.getpid()
    assert not daemon.log.exists() or "is ready" not in daemon.log.read_text()


def test_the_config_test_launches_nothing(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon()
    done = daemon.launch("-d", "-t")
    assert done.returncode == 0
    assert "test is successful" in done.stdout
    assert not daemon.pid_file.exists()
