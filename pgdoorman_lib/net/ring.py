"""Interpreted twin of ring.pyx: says that there is no io_uring here."""

from __future__ import annotations

import errno


class Ring:
    """Many receives or sends in one system call, which needs the compiled build: OSError (ENOSYS)."""

    capacity: int
    count: int

    def __init__(self, entries: int) -> None:
        raise OSError(errno.ENOSYS, "io_uring needs the compiled build")

    def fileno(self) -> int:
        """The ring's descriptor; ValueError when it is closed."""
        raise NotImplementedError

    def receive(self, fd: int, data: bytearray, offset: int, size: int) -> int:
        """Queue receiving up to ``size`` bytes into ``data[offset:]``; its index."""
        raise NotImplementedError

    def send(self, fd: int, data: bytearray, offset: int, size: int) -> int:
        """Queue sending ``data[offset:offset+size]``; its index."""
        raise NotImplementedError

    def run(self) -> int:
        """Do everything queued, in order; returns when all of it is done. ``result`` tells of each."""
        raise NotImplementedError

    def result(self, index: int) -> int:
        """What operation ``index`` of the last ``run`` gave: a number of bytes, or ``-errno``."""
        raise NotImplementedError

    def close(self) -> None:
        """Give everything back; idempotent."""
