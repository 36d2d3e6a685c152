"""What systemd hands over and is told, by a notify socket of our own: at a path, and under a name."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import gevent
import pytest

from pgdoorman_lib.errors import ConfigError
from pgdoorman_lib.listener import Inherited
from pgdoorman_lib.supervisor import systemd
from pgdoorman_lib.supervisor.systemd import Systemd, handed_over


class Manager:
    """systemd's end of the protocol. ``address`` is what stands in NOTIFY_SOCKET."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address.replace("@", "\0", 1) if address.startswith("@") else address)
        self.socket.setblocking(False)

    def told(self) -> list[list[str]]:
        """The messages since the last call, each by its lines."""
        found = []
        while True:
            try:
                found.append(self.socket.recv(4096).decode().split("\n"))
            except BlockingIOError:
                return found


@pytest.fixture(params=["a path", "a name"])
def manager(request: pytest.FixtureRequest, short_directory: Path) -> Iterator[Manager]:
    path = str(short_directory / "notify")
    made = Manager(path if request.param == "a path" else f"@{path}")
    yield made
    made.socket.close()


@pytest.fixture
def told(manager: Manager) -> Iterator[Systemd]:
    made = Systemd(manager.address)
    yield made
    made.close()


def test_the_way_of_a_process(manager: Manager, told: Systemd) -> None:
    told.ready()
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    with told.reloading():
        ((reloading, when),) = manager.told()[1:]
        assert reloading == "RELOADING=1"
        name, _, value = when.partition("=")
        assert name == "MONOTONIC_USEC"
        assert before <= int(value) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    assert manager.told() == [["READY=1"]]
    told.main_pid(77)
    told.stopping()
    assert manager.told() == [["MAINPID=77"], ["STOPPING=1", "STATUS=shutting down"]]
    with told.reloading():
        assert manager.told() == []
    assert manager.told() == []


def test_what_is_counted(manager: Manager, told: Systemd) -> None:
    counts = [3, 2]
    look = lambda: told.look(lambda: (counts[0], counts[1]))  # noqa: E731
    look()
    look()
    assert manager.told() == [["STATUS=3 clients, 2 servers"]], "what it knows it is not told again"
    counts[0] = 1
    look()
    assert manager.told() == [["STATUS=1 clients, 2 servers"]]
    told.stopping()
    look()
    assert manager.told()[1:] == [["STATUS=shutting down: 1 clients, 2 servers", "EXTEND_TIMEOUT_USEC=15000000"]]
    look()
    assert manager.told() == [["EXTEND_TIMEOUT_USEC=15000000"]], "it asks for more time as long as it takes"


def test_a_reload_that_was_refused(manager: Manager, told: Systemd) -> None:
    with pytest.raises(ConfigError), told.reloading():
        raise ConfigError("no")
    told.look(lambda: (0, 0))
    assert manager.told()[1:] == [
        ["READY=1"],
        ["STATUS=0 clients, 0 servers; the last reload was refused, see the log"],
    ]
    with told.reloading():
        pass
    told.look(lambda: (0, 0))
    assert manager.told()[2:] == [["STATUS=0 clients, 0 servers"]]


def test_the_watchdog(manager: Manager, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(systemd, "STATUS_INTERVAL", 0.5)
    watched = Systemd(manager.address, 0.04)
    greenlet = gevent.spawn(watched.watch, lambda: (0, 0))
    began = time.monotonic()
    seen: list[list[str]] = []
    while len(seen) < 6:
        assert time.monotonic() < began + 10
        gevent.sleep(0.005)
        seen += manager.told()
    assert seen[0] == ["STATUS=0 clients, 0 servers", "WATCHDOG=1"]
    assert all(each == ["WATCHDOG=1"] for each in seen[1:])
    assert time.monotonic() - began >= 0.08, "one each half of the limit, and no more"
    watched.close()
    greenlet.join(timeout=10)
    assert greenlet.ready()


def test_one_that_is_not_there(short_directory: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is warned of once, until it was there again."""
    address = str(short_directory / "notify")
    told = Systemd(address)
    told.ready()
    told.ready()
    told.look(lambda: (0, 0))
    assert [record.getMessage() for record in caplog.records] == [
        "systemd was not told READY=1: No such file or directory"
    ]
    manager = Manager(address)
    told.look(lambda: (0, 0))
    assert manager.told() == [["STATUS=0 clients, 0 servers"]]
    manager.socket.close()
    told.stopping()
    assert caplog.records[-1].getMessage() == "systemd was not told STOPPING=1: Connection refused"
    told.close()


def test_one_that_does_not_read(manager: Manager, caplog: pytest.LogCaptureFixture) -> None:
    """Nobody waits for it."""
    told = Systemd(manager.address)
    manager.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    for _ in range(2000):
        told.ready()
    assert "systemd was not told READY=1: Resource temporarily unavailable" in caplog.text
    told.close()


def test_without_it_nothing_is_told() -> None:
    nobody = Systemd.of({})
    nobody.ready()
    with nobody.reloading():
        pass
    nobody.stopping()
    nobody.watch(lambda: (0, 0))
    nobody.close()


def test_of_an_environment(manager: Manager) -> None:
    own, limit = str(os.getpid()), "3000000"
    names = {"NOTIFY_SOCKET": manager.address}
    for given, watched, left in (
        ({}, False, {}),
        ({"WATCHDOG_USEC": limit}, True, {"WATCHDOG_USEC": limit}),
        ({"WATCHDOG_USEC": limit, "WATCHDOG_PID": own}, True, {"WATCHDOG_USEC": limit}),
        ({"WATCHDOG_USEC": limit, "WATCHDOG_PID": "1"}, False, {}),
        ({"WATCHDOG_USEC": "0"}, False, {}),
    ):
        environment = names | given
        made = Systemd.of(environment)
        made.look(lambda: (0, 0))
        assert manager.told() == [["STATUS=0 clients, 0 servers", *(["WATCHDOG=1"] if watched else [])]]
        assert environment == names | left, "as a process needs it that takes our place"
        made.close()


def test_an_address_of_another_kind() -> None:
    with pytest.raises(ConfigError, match="NOTIFY_SOCKET: 'vsock:2:9999' is no path"):
        Systemd.of({"NOTIFY_SOCKET": "vsock:2:9999"})


# Sockets handed over.


@pytest.fixture
def open_at_three(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Descriptors that follow each other, as systemd leaves them: without close-on-exec."""
    found = [os.open(os.devnull, os.O_RDONLY) for _ in range(2)]
    while found[-1] != found[-2] + 1:
        found.append(os.open(os.devnull, os.O_RDONLY))
    for fd in found:
        os.set_inheritable(fd, True)
    monkeypatch.setattr(systemd, "FIRST_DESCRIPTOR", found[-2])
    yield found[-2:]
    for fd in found:
        os.close(fd)


@pytest.mark.parametrize(
    ("names", "called"), [(None, ["", ""]), ("clients", ["clients", ""]), ("clients:http", ["clients", "http"])]
)
def test_handed_over(open_at_three: list[int], names: str | None, called: list[str]) -> None:
    environment = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "2", "PATH": "/bin"}
    if names is not None:
        environment["LISTEN_FDNAMES"] = names
    assert handed_over(environment) == [Inherited(fd, name) for fd, name in zip(open_at_three, called, strict=True)]
    assert environment == {"PATH": "/bin"}
    assert not any(os.get_inheritable(fd) for fd in open_at_three)


@pytest.mark.parametrize(
    "environment", [{}, {"LISTEN_PID": "1", "LISTEN_FDS": "2"}, {"LISTEN_FDS": "2"}, {"LISTEN_PID": "1"}]
)
def test_nothing_for_this_process(environment: dict[str, str]) -> None:
    assert handed_over(environment) == []
    assert environment == {}, "nor for one that this starts"


@pytest.mark.parametrize(
    ("count", "text"), [("many", "LISTEN_FDS: 'many' is no number"), ("900", "LISTEN_FDS: descriptor .*: Bad file")]
)
def test_what_contradicts_itself(open_at_three: list[int], count: str, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        handed_over({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": count})
