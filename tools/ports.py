"""Ports to start a server on: nobody else is given one meanwhile, and the kernel gives it to no connection.

Tests, benchmarks and the demo all ask here. Standard library only, like ``throwaway_postgres``.
"""

from __future__ import annotations

import atexit
import errno
import os
import socket
from pathlib import Path

#: Ports a process has for itself at a time, and the lowest one handed out.
BLOCK = 64
LOWEST = 20480
HIGHEST = 65535

#: The ports connections get by themselves: Linux's, or where there is no such file those of RFC 6335.
EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
DYNAMIC = (49152, 65535)

#: The names of locks, in Linux's abstract namespace, without the first port of the block.
LOCK = "\0pgdoorman-ports-"
#: The locks of this process, held until its end, and the ports of its last block that were not given yet.
locks: list[socket.socket] = []
_left: list[int] = []


class NoPortLeft(RuntimeError):
    """Running processes have taken every block."""


def free_port() -> int:
    """A TCP port nobody listens on, at no address; no other call gives the same one while this process lives."""
    while True:
        if not _left:
            start = _claim()
            _left.extend(range(start, start + BLOCK))
        port = _left.pop(0)
        if port_is_free(port):
            return port


def port_is_free(port: int) -> bool:
    """Can a server listen there, at any address?

    Asked with SO_REUSEADDR, as servers do: connections in TIME_WAIT don't count.
    """
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            with socket.socket(family) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                probe.bind(("", port))
        except OSError as exc:
            if exc.errno in (errno.EADDRINUSE, errno.EACCES):
                return False
            if family == socket.AF_INET:
                raise  # a machine without IPv6 is none without IPv4
    return True


def _claim() -> int:
    """The first port of a block that is this process's from now on; raises NoPortLeft.

    The lock is an address in Linux's abstract namespace: one network's ports have one such namespace, whoever's the
    processes are, and it is given up at the end of a process in whatever way that ends.
    """
    blocks = _blocks()
    # Not always from the first: a program that outlived the last run may still look for servers on its ports.
    turn = os.getpid() % len(blocks)
    for start in (*blocks[turn:], *blocks[:turn]):
        lock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            lock.bind(f"{LOCK}{start}")
        except OSError as exc:
            lock.close()
            if exc.errno != errno.EADDRINUSE:
                raise
        else:
            locks.append(lock)
            atexit.register(lock.close)
            return start
    raise NoPortLeft(f"running processes hold all {len(blocks)} blocks of {BLOCK} ports")


def _blocks() -> list[int]:
    """Where blocks start: all outside the range the kernel picks from; inside it if that leaves none."""
    low, high = DYNAMIC
    if EPHEMERAL.exists():
        low, high = map(int, EPHEMERAL.read_text().split())
    starts = range(LOWEST, HIGHEST + 1 - BLOCK, BLOCK)
    return [start for start in starts if start + BLOCK <= low or start > high] or list(starts)
