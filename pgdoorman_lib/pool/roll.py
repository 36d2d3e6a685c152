"""The servers of a worker process, where they can be read when it has died: PostgreSQL goes on with what ran there.

Each worker writes in a roll of its own, shared memory that its supervisor reads once the worker is dead. A server that
may come to be another process's is off the roll before it goes: what stands there is the dead one's for certain, and a
cancel request can hit nobody else's statement.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from typing import NamedTuple

#: Servers that there is room for, and bytes for each; memory is used for those there have been.
PLACES = 4096
SIZE = 256

#: process id (0: the place is free), port, lengths of secret, database, user, host and address, which follow
_ENTRY = struct.Struct("=iHBBBBB")
_ROOM = SIZE - _ENTRY.size


class Orphan(NamedTuple):
    """A server of a worker that has died: its pool, its cancel key, and where it is: a host's address."""

    database: str
    user: str
    pid: int
    secret: bytes
    host: str
    port: int
    address: str


class Roll:
    """One worker's; made before the process is forked that it is shared with. No method switches."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, PLACES * SIZE)
        self._places: dict[tuple[int, bytes], int] = {}
        self._free: list[int] = []
        self._used = 0

    def add(self, entry: Orphan) -> None:
        """Have a server on it; one that there is no room for is not."""
        names = [name.encode() for name in (entry.database, entry.user, entry.host, entry.address)]
        text = entry.secret + b"".join(names)
        key = entry.pid, entry.secret
        if len(text) > _ROOM or key in self._places:
            return
        if self._free:
            place = self._free.pop()
        elif self._used < PLACES:
            place = self._used
            self._used += 1
        else:
            return
        at = place * SIZE
        # The process id last: whoever finds one finds the rest in order.
        self._memory[at + _ENTRY.size : at + _ENTRY.size + len(text)] = text
        _ENTRY.pack_into(self._memory, at, 0, entry.port, len(entry.secret), *map(len, names))
        struct.pack_into("=i", self._memory, at, entry.pid)
        self._places[key] = place

    def remove(self, pid: int, secret: bytes) -> None:
        """Have it on it no more, if it was."""
        place = self._places.pop((pid, secret), None)
        if place is not None:
            struct.pack_into("=i", self._memory, place * SIZE, 0)
            self._free.append(place)

    def read(self) -> Iterator[Orphan]:
        """All that stand on it, whoever has written them; for the supervisor, when the worker is dead."""
        for at in range(0, PLACES * SIZE, SIZE):
            pid, port, *lengths = _ENTRY.unpack_from(self._memory, at)
            if not pid:
                continue
            parts = []
            begin = at + _ENTRY.size
            for length in lengths:
                parts.append(self._memory[begin : begin + length])
                begin += length
            secret, *names = parts
            database, user, host, address = (name.decode() for name in names)
            yield Orphan(database, user, pid, secret, host, port, address)

    def clear(self) -> None:
        """Have nobody on it, before another worker writes there."""
        for at in range(0, PLACES * SIZE, SIZE):
            if _ENTRY.unpack_from(self._memory, at)[0]:
                struct.pack_into("=i", self._memory, at, 0)
