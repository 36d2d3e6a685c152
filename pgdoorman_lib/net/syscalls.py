"""Interpreted twin of syscalls.pyx: the system calls of the data path, with the same names, results and checks.

Results below zero are ``-errno``.
"""

from __future__ import annotations

import errno
import os
import select
import sys
import time

from gevent.monkey import get_original

#: Bits of ``Epoll.mask_at``.
READABLE = 1
WRITABLE = 2
HANGUP = 4

clock = time.monotonic


def recv_into(fd: int, data: bytearray, offset: int, size: int) -> int:
    """Receive up to ``size`` bytes into ``data[offset:]``; the count, 0 at end of stream, or ``-errno``."""
    if offset < 0 or size < 0 or offset + size > len(data):
        raise ValueError("recv_into outside the buffer")
    try:
        with memoryview(data) as whole, whole[offset : offset + size] as room:
            return os.readv(fd, [room])
    except OSError as exc:
        return -(exc.errno or errno.EIO)


def send_from(fd: int, data: bytearray, offset: int, size: int) -> int:
    """Send ``data[offset:offset+size]``; the count sent, or ``-errno``."""
    if offset < 0 or size < 0 or offset + size > len(data):
        raise ValueError("send_from outside the buffer")
    try:
        with memoryview(data) as whole, whole[offset : offset + size] as part:
            return os.write(fd, part)
    except OSError as exc:
        return -(exc.errno or errno.EIO)


def copy(target: bytearray, at: int, source: bytearray, offset: int, size: int) -> int:
    """``target[at:at+size] = source[offset:offset+size]``; the two may be the same and overlap."""
    if size < 0 or at < 0 or offset < 0 or at + size > len(target) or offset + size > len(source):
        raise ValueError("copy outside the buffer")
    target[at : at + size] = source[offset : offset + size]
    return 0


def cut(data: bytearray, start: int, end: int) -> bytes:
    """``data[start:end]`` as bytes."""
    if not 0 <= start <= end <= len(data):
        raise ValueError("cut outside the buffer")
    return bytes(data[start:end])


def put(target: bytearray, at: int, data: bytes) -> int:
    """``target[at:at+len(data)] = data``."""
    if at < 0 or at + len(data) > len(target):
        raise ValueError("put outside the buffer")
    target[at : at + len(data)] = data
    return 0


def holds(data: bytearray, start: int, stop: int, expected: bytes) -> int:
    """Whether ``data[start:stop]`` is ``expected``."""
    if start < 0 or stop < start or stop > len(data):
        raise ValueError("holds outside the buffer")
    return 1 if stop - start == len(expected) and data.startswith(expected, start) else 0


if sys.platform == "linux":
    # gevent's monkey patching takes select.epoll away; this is the one place that knows how to use it beside a hub.
    _new_epoll = get_original("select", "epoll")
    _READ = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET
    _GONE = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR


class Epoll:
    """An edge-triggered epoll instance: each descriptor is registered once, for reading and hang-up."""

    def __init__(self) -> None:
        self._epoll = _new_epoll(flags=select.EPOLL_CLOEXEC)
        self._events: list[tuple[int, int]] = []

    def fileno(self) -> int:
        """The instance's own descriptor: readable when anything registered is."""
        number: int = self._epoll.fileno()
        return number

    def add(self, fd: int) -> int:
        """Register ``fd``; OSError when the kernel refuses."""
        self._epoll.register(fd, _READ)
        return 0

    def want_write(self, fd: int, wanted: bool) -> int:
        """Tell (or cease to tell) when ``fd`` can be written to; an edge is raised at once if it can."""
        self._epoll.modify(fd, _READ | select.EPOLLOUT if wanted else _READ)
        return 0

    def remove(self, fd: int) -> int:
        """Forget ``fd``; one that is not registered any more is no error."""
        try:
            self._epoll.unregister(fd)
        except OSError as exc:
            if exc.errno not in (errno.ENOENT, errno.EBADF):
                raise
        return 0

    def poll(self, seconds: float = 0.0) -> int:
        """Collect what is ready, waiting at most ``seconds``; how many there are, at most 512."""
        self._events = self._epoll.poll(seconds, 512)
        return len(self._events)

    def fd_at(self, index: int) -> int:
        """The descriptor of event ``index`` of the last poll."""
        return self._events[index][0]

    def mask_at(self, index: int) -> int:
        """READABLE, WRITABLE and HANGUP bits of event ``index`` of the last poll."""
        events = self._events[index][1]
        mask = 0
        if events & select.EPOLLIN:
            mask |= READABLE
        if events & select.EPOLLOUT:
            mask |= WRITABLE
        if events & _GONE:
            mask |= HANGUP | READABLE
        return mask

    def close(self) -> None:
        """Give the descriptor back; idempotent."""
        self._epoll.close()
