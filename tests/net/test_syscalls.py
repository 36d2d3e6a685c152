"""The system calls' two twins, compiled and interpreted, by the same tests."""

from __future__ import annotations

import errno
import importlib.util
import os
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from pace import patience

import pgdoorman_lib.net

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="epoll is Linux's")


def _twins() -> dict[str, Path]:
    found: dict[str, Path] = {}
    for folder in pgdoorman_lib.net.__path__:
        found["interpreted"] = Path(folder, "syscalls.py")
        for extension in Path(folder).glob("syscalls.*.so"):
            if f"cpython-{sys.version_info[0]}{sys.version_info[1]}-" in extension.name:
                found["compiled"] = extension
    return found


@pytest.fixture(params=["interpreted", "compiled"], scope="module")
def calls(request: pytest.FixtureRequest) -> ModuleType:
    path = _twins().get(request.param)
    if path is None:
        pytest.skip("not built")
    # An extension's name must end as its file says.
    spec = importlib.util.spec_from_file_location(f"twin_{request.param}.syscalls", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    with ours, theirs:
        yield ours, theirs


def test_both_have_the_same_doors(calls: ModuleType) -> None:
    for name in ("recv_into", "send_from", "copy", "holds", "clock", "Epoll", "READABLE", "WRITABLE", "HANGUP"):
        assert hasattr(calls, name)
    assert (calls.READABLE, calls.WRITABLE, calls.HANGUP) == (1, 2, 4)


def test_clock_is_monotonic_seconds(calls: ModuleType) -> None:
    before = time.monotonic()
    assert before <= calls.clock() <= time.monotonic()


def test_receive(calls: ModuleType, pair: Any) -> None:
    ours, theirs = pair
    data = bytearray(b"........")
    assert calls.recv_into(ours.fileno(), data, 0, 8) == -errno.EAGAIN
    theirs.send(b"abcdef")
    assert calls.recv_into(ours.fileno(), data, 2, 4) == 4
    assert data == b"..abcd.."
    assert calls.recv_into(ours.fileno(), data, 6, 2) == 2
    assert data == b"..abcdef"
    theirs.close()
    assert calls.recv_into(ours.fileno(), data, 0, 8) == 0


def test_send(calls: ModuleType, pair: Any) -> None:
    ours, theirs = pair
    assert calls.send_from(ours.fileno(), bytearray(b"abcdef"), 1, 3) == 3
    assert theirs.recv(100) == b"bcd"
    big = bytearray(1 << 20)
    sent = 0
    while (n := calls.send_from(ours.fileno(), big, 0, len(big))) > 0:
        sent += n
    assert n == -errno.EAGAIN
    assert sent > 0
    theirs.close()
    assert calls.send_from(ours.fileno(), big, 0, 10) == -errno.EPIPE


def test_a_bad_descriptor_is_an_errno(calls: ModuleType) -> None:
    assert calls.recv_into(-1, bytearray(4), 0, 4) == -errno.EBADF
    assert calls.send_from(-1, bytearray(4), 0, 4) == -errno.EBADF


@pytest.mark.parametrize(("offset", "size"), [(-1, 2), (0, 5), (3, 2), (5, 0), (0, -1), (1 << 40, 1)])
def test_nothing_outside_the_buffer(calls: ModuleType, pair: Any, offset: int, size: int) -> None:
    ours, theirs = pair
    theirs.send(b"abcdef")
    with pytest.raises(ValueError):
        calls.recv_into(ours.fileno(), bytearray(4), offset, size)
    with pytest.raises(ValueError):
        calls.send_from(ours.fileno(), bytearray(4), offset, size)
    with pytest.raises(ValueError):
        calls.copy(bytearray(4), offset, bytearray(10), 0, size)
    with pytest.raises(ValueError):
        calls.copy(bytearray(10), 0, bytearray(4), offset, size)


def test_copy_overlapping(calls: ModuleType) -> None:
    data = bytearray(b"abcdef")
    calls.copy(data, 0, data, 2, 4)
    assert data == b"cdefef"
    calls.copy(data, 1, data, 0, 5)
    assert data == b"ccdefe"


@pytest.mark.parametrize("size", [0, 1, 3, 5000])
def test_holds(calls: ModuleType, size: int) -> None:
    wanted = bytes(index % 251 for index in range(size))
    data = bytearray(b"<" + wanted + b">")
    assert calls.holds(data, 1, 1 + size, wanted) == 1
    assert not calls.holds(data, 1, 2 + size, wanted)
    assert not calls.holds(data, 1, 1 + size, wanted + b">")
    for index in range(1, 1 + size, 499):
        data[index] ^= 1
        assert not calls.holds(data, 1, 1 + size, wanted)
        data[index] ^= 1


@pytest.mark.parametrize(("start", "stop"), [(-1, 2), (2, 1), (0, 5)])
def test_holds_outside_the_buffer(calls: ModuleType, start: int, stop: int) -> None:
    with pytest.raises(ValueError):
        calls.holds(bytearray(4), start, stop, b"abc")


@pytest.fixture
def epoll(calls: ModuleType) -> Iterator[Any]:
    made = calls.Epoll()
    yield made
    made.close()


def events(epoll: Any) -> dict[int, int]:
    return {epoll.fd_at(index): epoll.mask_at(index) for index in range(epoll.poll())}


def test_epoll_tells_each_edge_once(epoll: Any, pair: Any) -> None:
    ours, theirs = pair
    epoll.add(ours.fileno())
    assert events(epoll) == {}
    theirs.send(b"a")
    assert events(epoll) == {ours.fileno(): 1}
    assert events(epoll) == {}
    theirs.send(b"b")
    assert events(epoll) == {ours.fileno(): 1}


def test_epoll_tells_what_came_before(epoll: Any, pair: Any) -> None:
    ours, theirs = pair
    theirs.send(b"a")
    epoll.add(ours.fileno())
    assert events(epoll) == {ours.fileno(): 1}


def test_epoll_hang_up_with_data(epoll: Any, pair: Any) -> None:
    ours, theirs = pair
    epoll.add(ours.fileno())
    theirs.send(b"a")
    theirs.close()
    assert events(epoll) == {ours.fileno(): 1 | 4}


def test_epoll_writable_on_demand(epoll: Any, pair: Any) -> None:
    ours, _ = pair
    epoll.add(ours.fileno())
    epoll.want_write(ours.fileno(), True)
    assert events(epoll) == {ours.fileno(): 2}
    epoll.want_write(ours.fileno(), False)
    assert events(epoll) == {}


def test_epoll_waits_as_long_as_it_may(epoll: Any, pair: Any) -> None:
    ours, theirs = pair
    epoll.add(ours.fileno())
    for _ in range(3):
        began = time.monotonic()
        assert epoll.poll(0.01) == 0
        assert time.monotonic() - began < patience(5)
    theirs.send(b"x")
    while not (count := epoll.poll(0.01)):  # a wait may share its limit with the one before
        pass
    assert (count, epoll.fd_at(0)) == (1, ours.fileno())
    assert epoll.poll(0.01) == 0


def test_epoll_forgets(epoll: Any, pair: Any) -> None:
    ours, theirs = pair
    epoll.add(ours.fileno())
    theirs.send(b"a")
    epoll.remove(ours.fileno())
    assert events(epoll) == {}
    epoll.remove(ours.fileno())  # no error


def test_epoll_refusals_are_oserrors(epoll: Any, tmp_path: Path) -> None:
    nothing = (1 << 30) - 1
    with pytest.raises(OSError):
        epoll.add(nothing)
    with pytest.raises(OSError):
        epoll.want_write(nothing, True)
    with (tmp_path / "file").open("w") as regular, pytest.raises(OSError):
        epoll.add(regular.fileno())


def test_epoll_is_not_inherited_and_closes_once(calls: ModuleType) -> None:
    epoll = calls.Epoll()
    fd = epoll.fileno()
    assert not os.get_inheritable(fd)
    epoll.close()
    with pytest.raises(OSError):
        os.fstat(fd)
    epoll.close()
