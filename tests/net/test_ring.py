"""Batches of receives and sends by io_uring: what each gives is what a call of its own would have given."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from core_fakes import ENGINES

from pgdoorman_lib.net.ring import Ring

pytestmark = pytest.mark.skipif("uring" not in ENGINES, reason="no io_uring in this build or on this system")


@pytest.fixture
def ring() -> Iterator[Ring]:
    made = Ring(8)
    yield made
    made.close()


@pytest.fixture
def pairs() -> Iterator[list[Any]]:
    made = [socket.socketpair() for _ in range(4)]
    for ours, theirs in made:
        ours.setblocking(False)
        theirs.setblocking(False)
    yield made
    for ours, theirs in made:
        ours.close()
        theirs.close()


def test_receives(ring: Ring, pairs: list[Any]) -> None:
    pairs[0][1].send(b"first")
    pairs[2][1].send(b"third and more")
    pairs[3][1].close()
    blocks = [bytearray(8) for _ in pairs]
    for (ours, _), block in zip(pairs, blocks, strict=True):
        ring.receive(ours.fileno(), block, 1, 7)
    assert ring.run() == 4
    assert [ring.result(index) for index in range(4)] == [5, -errno.EAGAIN, 7, 0]
    assert bytes(blocks[0]) == b"\0first\0\0" and bytes(blocks[2]) == b"\0third a"
    assert bytes(blocks[1]) == bytes(8)


def test_sends(ring: Ring, pairs: list[Any]) -> None:
    pairs[1][1].close()
    for ours, _ in pairs:
        ring.send(ours.fileno(), bytearray(b"[hello]"), 1, 5)
    assert ring.run() == 4
    assert [ring.result(index) for index in range(4)] == [5, -errno.EPIPE, 5, 5]
    assert pairs[3][1].recv(100) == b"hello"


def test_a_send_takes_what_fits_and_does_not_wait(ring: Ring, pairs: list[Any]) -> None:
    ours, theirs = pairs[0]
    big = bytearray(os.urandom(1 << 22))
    ring.send(ours.fileno(), big, 0, len(big))
    ring.send(ours.fileno(), big, 0, len(big))
    ring.run()
    assert 0 < ring.result(0) < len(big)
    assert ring.result(1) == -errno.EAGAIN
    got = bytearray()
    while len(got) < ring.result(0):
        got += theirs.recv(1 << 20)
    assert got == big[: ring.result(0)]


def test_a_reset_is_told(ring: Ring) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        theirs.close()
        ours.setblocking(False)
        ring.receive(ours.fileno(), bytearray(8), 0, 8)
        ring.run()
        assert ring.result(0) == -errno.ECONNRESET
        ours.close()


def test_a_bad_descriptor_harms_nobody_else(ring: Ring, pairs: list[Any]) -> None:
    dead = pairs[0][0].fileno()
    pairs[0][0].close()
    ring.send(dead, bytearray(b"x"), 0, 1)
    ring.send(pairs[1][0].fileno(), bytearray(b"x"), 0, 1)
    ring.run()
    assert [ring.result(0), ring.result(1)] == [-errno.EBADF, 1]


def test_many_runs_go_round_the_ring(ring: Ring, pairs: list[Any]) -> None:
    ours, theirs = pairs[0]
    for number in range(100):
        text = bytearray(b"%04d" % number)
        block = bytearray(4)
        ring.send(theirs.fileno(), text, 0, 4)
        ring.receive(ours.fileno(), block, 0, 4)  # in order: it finds what has just been sent
        if number % 3 == 0:
            ring.receive(ours.fileno(), bytearray(4), 0, 4)
        assert ring.run() == 2 + (number % 3 == 0)
        assert block == text
        assert ring.count == 0


def test_full_and_empty(ring: Ring, pairs: list[Any]) -> None:
    assert ring.run() == 0
    for _ in range(ring.capacity):
        ring.send(pairs[0][0].fileno(), bytearray(b"x"), 0, 1)
    with pytest.raises(ValueError):
        ring.send(pairs[0][0].fileno(), bytearray(b"x"), 0, 1)
    assert ring.run() == ring.capacity
    assert pairs[0][1].recv(100) == b"x" * ring.capacity


@pytest.mark.parametrize(("offset", "size"), [(-1, 2), (0, 5), (3, 2), (5, 0), (0, -1), (1 << 40, 1)])
def test_nothing_outside_the_buffer(ring: Ring, pairs: list[Any], offset: int, size: int) -> None:
    fd = pairs[0][0].fileno()
    with pytest.raises(ValueError):
        ring.receive(fd, bytearray(4), offset, size)
    with pytest.raises(ValueError):
        ring.send(fd, bytearray(4), offset, size)
    assert ring.count == 0
    with pytest.raises(ValueError):
        ring.result(ring.capacity)


def test_closed_is_closed(ring: Ring) -> None:
    ring.close()
    ring.close()
    with pytest.raises(ValueError):
        ring.send(0, bytearray(1), 0, 1)
    with pytest.raises(ValueError):
        ring.fileno()
    assert ring.run() == 0


@pytest.mark.skipif(tuple(map(int, os.uname().release.split(".")[:2])) < (6, 0), reason="the kernel does not tell")
def test_a_ring_from_before_a_fork_is_a_fault_of_who_uses_it(ring: Ring, pairs: list[Any]) -> None:
    ours, theirs = pairs[0]
    child = os.fork()
    if child == 0:
        said = ""
        try:
            ring.send(ours.fileno(), bytearray(b"child"), 0, 5)
            ring.run()
        except RuntimeError as exc:
            said = str(exc)
        finally:
            os._exit(0 if "another process" in said and ring.count == 0 else 1)
    assert os.waitpid(child, 0)[1] == 0
    with pytest.raises(BlockingIOError):
        theirs.recv(1)
    ring.send(ours.fileno(), bytearray(b"parent"), 0, 6)
    assert ring.run() == 1 and ring.result(0) == 6
    assert theirs.recv(100) == b"parent", "the one who has made it goes on with it"


def test_nothing_is_left_open() -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(50):
        Ring(8).close()
        Ring(8)
    assert len(os.listdir("/proc/self/fd")) == before
