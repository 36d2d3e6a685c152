"""A real process under a systemd of our own: what it is told, by a path and by a name; the sockets it hands over."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from eventually import eventually
from fix_doorman import Doorman, MakeDoorman
from fix_postgres import Postgres, supports_tcp6
from throwaway_postgres import free_port
from wire_client import WireClient

#: Runs what is named behind the descriptors, which become 3 and what follows, as systemd does.
HAND_OVER = """
import fcntl, json, os, sys
moved = [fcntl.fcntl(fd, fcntl.F_DUPFD, 100) for fd in json.loads(sys.argv[1])]
for fd in range(3, 3 + len(moved)):
    os.dup2(moved[fd - 3], fd)
os.closerange(3 + len(moved), 256)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.argv[2], sys.argv[2:])
"""


class Manager:
    """systemd, as far as a service sees it: its notify socket, and sockets to hand over (names and sockets)."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self.socket.setblocking(False)
        self.sockets: list[tuple[str, socket.socket]] = []
        #: the lines of all messages
        self._told: list[str] = []

    def told(self) -> list[str]:
        """What came, from the first on, a line each."""
        while True:
            try:
                self._told += self.socket.recv(4096).decode().split("\n")
            except BlockingIOError:
                return self._told

    def wait(self, line: str, timeout: float = 15) -> None:
        eventually(lambda: any(re.fullmatch(line, told) for told in self.told()), timeout=timeout, message=line)

    def count(self, line: str) -> int:
        return sum(re.fullmatch(line, told) is not None for told in self.told())

    def environment(self) -> dict[str, str]:
        own = {"NOTIFY_SOCKET": self.address}
        if self.sockets:
            own["LISTEN_FDS"] = str(len(self.sockets))
            own["LISTEN_FDNAMES"] = ":".join(name for name, _ in self.sockets)
        return own

    def open(self, name: str, family: int, address: Any, kind: int = socket.SOCK_STREAM) -> socket.socket:
        """A socket to hand over, which listens."""
        sock = socket.socket(family, kind)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind(address)
        if kind == socket.SOCK_STREAM:
            sock.listen()
        self.sockets.append((name, sock))
        return sock

    def close(self) -> None:
        self.socket.close()
        for _, sock in self.sockets:
            sock.close()


class Service(Doorman):
    """A pooler that ``manager`` has started, with ``variables`` more."""

    manager: Manager
    variables: dict[str, str]

    def start(self, *arguments: str, **_: Any) -> Service:
        self.write_config(self.config)
        command = [*self.command(), *arguments, str(self.config_path)]
        descriptors = [sock.fileno() for _, sock in self.manager.sockets]
        if descriptors:
            command = [sys.executable, "-c", HAND_OVER, json.dumps(descriptors), *command]
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=self.directory, env=self.environment() | self.manager.environment() | self.variables,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=descriptors,
            )  # fmt: skip
        return self


@pytest.fixture(params=["a path"])
def manager(request: pytest.FixtureRequest, short_directory: Path) -> Iterator[Manager]:
    path = str(short_directory / "notify")
    made = Manager(path if request.param == "a path" else f"@{path}")
    yield made
    made.close()


def service(make: MakeDoorman, manager: Manager, over: dict[str, Any] | None = None, **variables: str) -> Service:
    """One that ``make`` looks after like any other, not started yet."""
    made = make(over, start=False)
    made.__class__ = Service
    assert isinstance(made, Service)
    made.manager, made.variables = manager, variables
    return made


@pytest.mark.parametrize("manager", ["a path", "a name"], indirect=True)
def test_from_start_to_end(make_doorman: MakeDoorman, manager: Manager) -> None:
    doorman = service(make_doorman, manager, {"general": {"shutdown_timeout": "30s"}})
    doorman.start()
    manager.wait("READY=1", timeout=60)
    with doorman.wire() as client:  # at the first try
        manager.wait("STATUS=0 clients, 0 servers")
        client.ask_query("BEGIN")
        manager.wait("STATUS=1 clients, [12] servers")
        assert "WATCHDOG=1" not in manager.told()
        doorman.reload()
        manager.wait("RELOADING=1")
        assert manager.count(r"MONOTONIC_USEC=\d+") == 1
        eventually(lambda: manager.count("READY=1") == 2)
        doorman.send_signal(signal.SIGTERM)
        manager.wait("STOPPING=1")
        manager.wait("STATUS=shutting down: 1 clients, [12] servers")
        manager.wait("EXTEND_TIMEOUT_USEC=15000000")
        client.ask_query("COMMIT")
    assert doorman.wait() == 0


def test_a_reload_that_is_refused(make_doorman: MakeDoorman, manager: Manager) -> None:
    doorman = service(make_doorman, manager)
    doorman.start()
    manager.wait("READY=1", timeout=60)
    good = doorman.config
    doorman.reload({**good, "general": {**good["general"], "port": "many"}})
    manager.wait("STATUS=0 clients, 0 servers; the last reload was refused, see the log")
    assert (manager.count("RELOADING=1"), manager.count("READY=1")) == (1, 2)
    doorman.write_config(good)
    doorman.admin("RELOAD")
    eventually(lambda: manager.count("RELOADING=1") == 2)
    eventually(lambda: re.fullmatch("STATUS=. clients, 0 servers", manager.told()[-1]))


def test_the_watchdog(make_doorman: MakeDoorman, manager: Manager) -> None:
    doorman = service(make_doorman, manager, WATCHDOG_USEC="400000")
    doorman.start()
    eventually(lambda: manager.count("WATCHDOG=1") >= 3, timeout=60)
    doorman.send_signal(signal.SIGSTOP)
    before = manager.count("WATCHDOG=1")
    doorman.send_signal(signal.SIGCONT)
    eventually(lambda: manager.count("WATCHDOG=1") > before)


def test_a_watchdog_of_another_process(make_doorman: MakeDoorman, manager: Manager) -> None:
    doorman = service(make_doorman, manager, WATCHDOG_USEC="400000", WATCHDOG_PID="1")
    doorman.start()
    manager.wait("STATUS=0 clients, 0 servers", timeout=60)
    assert doorman.stop() == 0
    assert manager.count("WATCHDOG=1") == 0


def test_one_that_is_gone(make_doorman: MakeDoorman, manager: Manager) -> None:
    doorman = service(make_doorman, manager)
    doorman.start()
    manager.wait("READY=1", timeout=60)
    manager.socket.close()
    doorman.reload()
    doorman.wait_log("systemd was not told .*: Connection refused")
    with doorman.wire() as client:
        assert client.value("SELECT 1") == "1"


def test_an_upgrade(make_doorman: MakeDoorman, manager: Manager) -> None:
    """systemd is told which process it is before that one says anything, and nothing of the old one's end."""
    doorman = service(make_doorman, manager)
    doorman.start()
    manager.wait("READY=1", timeout=60)
    doorman.upgrade()
    assert doorman.process is not None
    manager.wait(f"MAINPID={doorman.process.pid}")
    eventually(lambda: manager.count("READY=1") == 2, message="the new process is ready")
    told = manager.told()
    assert told.index(f"MAINPID={doorman.process.pid}") < len(told) - 1 - told[::-1].index("READY=1")
    assert doorman.end_of_predecessor() == 0
    assert manager.count("STOPPING=1") == 0
    with doorman.wire() as client:
        assert client.value("SELECT 1") == "1"


def test_an_upgrade_keeps_the_sockets_handed_over(make_doorman: MakeDoorman, manager: Manager) -> None:
    """Also those that the configuration does not name."""
    doorman = service(make_doorman, manager)
    other = manager.open("clients", socket.AF_INET, ("127.0.0.1", 0)).getsockname()
    doorman.start()
    manager.wait("READY=1", timeout=60)
    for _ in range(2):
        doorman.upgrade()
        assert doorman.end_of_predecessor() == 0
        with WireClient(other) as client:
            assert client.login("app", "testdb", Postgres.PASSWORDS["app"]).value("SELECT 1") == "1"


# Sockets handed over.


def test_sockets(make_doorman: MakeDoorman, manager: Manager, short_directory: Path) -> None:
    """Who comes before the process is there is served when it is, and what is not ours outlives us."""
    doorman = service(make_doorman, manager)
    path = short_directory / f".s.PGSQL.{doorman.port}"
    doorman.config["general"]["unix_socket_dir"] = str(short_directory)
    doorman.config["web"] = {"enabled": True, "host": "127.0.0.1", "port": free_port()}
    manager.open("clients", socket.AF_INET, ("127.0.0.1", doorman.port))
    manager.open("clients", socket.AF_UNIX, str(path))
    web = manager.open("http", socket.AF_INET, ("127.0.0.1", 0))
    with WireClient(("127.0.0.1", doorman.port)) as early, WireClient(str(path)) as local:
        doorman.start()
        for client in (early, local):
            assert client.login("app", "testdb", Postgres.PASSWORDS["app"]).value("SELECT 1") == "1"
        doorman.wait_log("listening on 127.0.0.1:")
        doorman.wait_log(f"listening on {path}")
        with urllib.request.urlopen(f"http://127.0.0.1:{web.getsockname()[1]}/health", timeout=10) as answer:
            assert answer.status == 200
        assert not re.search("handed over", doorman.log_text())
        assert doorman.stop() == 0
    assert path.is_socket()
    with socket.create_connection(("127.0.0.1", doorman.port), timeout=5), socket.socket(socket.AF_UNIX) as late:
        late.connect(str(path))  # waits for the next process


def test_others_than_the_configuration_names(make_doorman: MakeDoorman, manager: Manager) -> None:
    doorman = service(make_doorman, manager)
    other = manager.open("", socket.AF_INET, ("127.0.0.1", 0)).getsockname()[1]
    manager.open("http", socket.AF_INET, ("127.0.0.1", 0))
    doorman.start()
    doorman.wait_log("is ready", timeout=60)
    doorman.wait_log(
        f"names 127.0.0.1:{doorman.port}, which is not among the sockets handed over: nobody listens there"
    )
    doorman.wait_log(f"127.0.0.1:{other} was handed over, and the configuration does not name it: it serves, too")
    doorman.wait_log(r"called http was handed over, and \[web\] is not enabled")
    with pytest.raises(ConnectionRefusedError):
        doorman.raw()
    with WireClient(("127.0.0.1", other)) as client:
        assert client.login("app", "testdb", Postgres.PASSWORDS["app"]).value("SELECT 1") == "1"


def test_one_for_both_kinds_of_addresses(make_doorman: MakeDoorman, manager: Manager) -> None:
    """What ListenStream=6432 opens stands for 0.0.0.0, too."""
    if not supports_tcp6():
        pytest.skip("this machine has no ::1")
    doorman = service(make_doorman, manager, {"general": {"host": "0.0.0.0"}})
    manager.open("", socket.AF_INET6, ("::", doorman.port))
    doorman.start()
    doorman.wait_log("is ready", timeout=60)
    assert "handed over" not in doorman.log_text()
    doorman.host = "127.0.0.1"
    with doorman.wire() as client:
        assert client.value("SELECT 1") == "1"


@pytest.mark.parametrize(
    ("name", "family", "kind", "text"),
    [
        ("clients", socket.AF_INET, socket.SOCK_DGRAM, r"inherited descriptor 3 \(clients\) is no listening stream"),
        ("http", socket.AF_UNIX, socket.SOCK_STREAM, "the socket called http is a unix socket: HTTP is by TCP only"),
    ],
)
def test_ones_that_can_not_be_used(
    make_doorman: MakeDoorman, manager: Manager, short_directory: Path, name: str, family: int, kind: int, text: str
) -> None:
    doorman = service(make_doorman, manager, {"web": {"enabled": True, "host": "127.0.0.1", "port": free_port()}})
    address: Any = str(short_directory / "socket") if family == socket.AF_UNIX else ("127.0.0.1", 0)
    manager.open(name, family, address, kind)
    doorman.start()
    assert doorman.wait(60) == 1
    assert re.search(text, doorman.log_text())
    assert "READY=1" not in manager.told()


def test_a_variable_that_is_wrong(make_doorman: MakeDoorman, manager: Manager) -> None:
    doorman = service(make_doorman, manager, LISTEN_FDS="many")
    manager.open("", socket.AF_INET, ("127.0.0.1", 0))
    doorman.start()
    assert doorman.wait(60) == 1
    assert "pgdoorman: LISTEN_FDS: 'many' is no number" in doorman.log_text()
