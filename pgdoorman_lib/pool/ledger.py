"""What worker processes have together: a table of counts in memory they share, and a doorbell for each of them.

The table is one memfd that the supervisor and all workers map. A row is found by its key (a digest of words, such as
those that name a pool); a worker *joins* it, and leaves it in the end: a row that nobody has joined is used again.

**The lock** is a POSIX lock of the memfd. The kernel frees it when its owner dies; whatever the owner was about, the
table is right then once the supervisor has taken away what the dead one held (``reclaim``): each change is one int64
written to the worker's own cell, sums are made by reading. It is held for a microsecond, and never taken on the path of
a transaction.

**A doorbell** is an eventfd. Who rings one has marked what it is about (``row.NEWS``).
"""

from __future__ import annotations

import mmap
import os
import struct
from array import array
from collections.abc import Iterator, Sequence
from fcntl import LOCK_EX, LOCK_UN, lockf
from hashlib import blake2b
from typing import Any

import gevent

from pgdoorman_lib.errors import ConfigError, LocalResourcesExhausted
from pgdoorman_lib.pool.row import CLAIMED, ELSEWHERE, HELD, JOINED, NEWS, SINCE, WIDTH, Row

#: Rows there may be at one time.
ROWS = 65_536

#: The table: a page with what it is (magic, workers, rows ever used), the keys, the rows.
_MAGIC = 0x7067_646F_6F72_0001
_HEAD = struct.Struct("=qqq")
_USED = 2  # the place of that number
_PAGE = 4096
_KEY = 16
_NOBODY = bytes(_KEY)
_READ = 1


class Ledger:
    """``worker``'s view of the table, 0 being the supervisor; made by ``create`` and ``join``.

    ``count`` is the number of workers.
    """

    def __init__(self, table: int, bells: Sequence[int], worker: int) -> None:
        self.worker = worker
        self._table = table
        #: of worker 1, 2, …
        self._bells = tuple(bells)
        self._map: Any = mmap.mmap(table, os.fstat(table).st_size)
        magic, self.count, _ = _HEAD.unpack_from(self._map)
        if magic != _MAGIC or self.count != len(self._bells) or not 0 <= worker <= self.count:
            self._map.close()
            raise ConfigError("descriptor is no ledger of this version, or one for other workers")
        self._words = memoryview(self._map).cast("q")
        #: those this process has joined, by number
        self._joined: dict[int, list[Row]] = {}
        #: those in which this one, the supervisor's, counts for a dead worker
        self._kept: set[int] = set()
        self._watcher: Any = None

    @classmethod
    def create(cls, count: int) -> Ledger:
        """The supervisor's, for ``count`` workers, with nothing in it. LocalResourcesExhausted."""
        opened: list[int] = []
        try:
            opened.append(os.memfd_create("pgdoorman ledger", os.MFD_CLOEXEC))
            os.ftruncate(opened[0], _PAGE + ROWS * (_KEY + _row_size(count)))
            os.pwrite(opened[0], _HEAD.pack(_MAGIC, count, 0), 0)
            for _ in range(count):
                opened.append(os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK))
        except OSError as exc:
            for fd in opened:
                os.close(fd)
            raise LocalResourcesExhausted(f"worker processes can't share what they count: {exc}") from exc
        return cls(opened[0], opened[1:], 0)

    @classmethod
    def join(cls, descriptors: Sequence[int], worker: int) -> Ledger:
        """``worker``'s, of what ``descriptors`` are, which are taken over; ConfigError when they are no ledger."""
        table, *bells = descriptors
        return cls(table, bells, worker)

    def joined(self, worker: int) -> Ledger:
        """``worker``'s, which was forked from the supervisor's process."""
        return Ledger.join(self.descriptors(), worker)

    def descriptors(self) -> tuple[int, ...]:
        """What another process needs for ``join``: the table first, then all doorbells."""
        return (self._table, *self._bells)

    # The lock.

    def lock(self) -> None:
        """Have the table to ourselves: nobody else changes what must be exact until ``unlock``."""
        lockf(self._table, LOCK_EX)

    def unlock(self) -> None:
        """See ``lock``."""
        lockf(self._table, LOCK_UN)

    # Rows.

    def row(self, *words: str) -> Row:
        """Join the row for these words. LocalResourcesExhausted when there is no room for one more."""
        key = _digest(words)
        self.lock()
        try:
            number = self._find(key)
            if number < 0:
                number = self._make(key)
            self._words[self._cell(number, self.worker) + JOINED] += 1
        finally:
            self.unlock()
        row = Row(self, number, self._words[self._start(number) : self._start(number + 1)], self.worker)
        self._joined.setdefault(number, []).append(row)
        return row

    def leave(self, row: Row) -> None:
        """See ``Row.leave``."""
        same = self._joined[row.number]
        same.remove(row)
        at = self._cell(row.number, self.worker)
        words = self._words
        self.lock()
        try:
            words[at + HELD] -= row.held
            words[at + ELSEWHERE] -= row.elsewhere
            if not same:
                del self._joined[row.number]
                self._clear(at)
                if not self._is_joined(row.number):
                    self._set_key(row.number, _NOBODY)
            else:
                words[at + JOINED] -= 1
        finally:
            self.unlock()
        if row.held or row.elsewhere:
            row.held = row.elsewhere = 0
            row.ring_waiting()
        row.cells = array("q", bytes(_row_size(self.count)))  # the row may be others' from here on

    def rows_in_use(self) -> int:
        """How many rows anybody has joined."""
        return sum(1 for number in range(self._words[_USED]) if self._is_joined(number))

    def _find(self, key: bytes) -> int:
        """The number of the row with this key, -1 if there is none."""
        begin, end = _PAGE, _PAGE + int(self._words[_USED]) * _KEY
        while True:
            at = int(self._map.find(key, begin, end))
            if at < 0 or at % _KEY == 0:
                return -1 if at < 0 else (at - _PAGE) // _KEY
            begin = at + 1

    def _make(self, key: bytes) -> int:
        """A row for ``key``, with nothing in it."""
        number = self._find(_NOBODY)
        used = int(self._words[_USED])
        if number < 0:
            if used == ROWS:
                raise LocalResourcesExhausted(
                    f"the table of what worker processes share is full: {ROWS} pools, databases and users are in use"
                )
            number = used
        for worker in range(self.count + 1):
            self._clear(self._cell(number, worker))
        self._set_key(number, key)
        if number == used:
            self._words[_USED] = used + 1
        return number

    def _start(self, number: int) -> int:
        return (_PAGE + ROWS * _KEY + number * _row_size(self.count)) // 8

    def _cell(self, number: int, worker: int) -> int:
        return self._start(number) + worker * WIDTH

    def _clear(self, at: int) -> None:
        for each in range(at, at + WIDTH):
            self._words[each] = 0

    def _is_joined(self, number: int) -> bool:
        return any(self._words[self._cell(number, worker) + JOINED] for worker in range(self.count + 1))

    def _set_key(self, number: int, key: bytes) -> None:
        at = _PAGE + number * _KEY
        self._map[at : at + _KEY] = key

    # The dead.

    def reclaim(self, worker: int, keep_elsewhere: bool = False) -> None:
        """A worker has died: take away all that it had, and tell the others; by the supervisor.

        ``keep_elsewhere``: what it has counted by ``Row.set_elsewhere`` is counted here from now on, until ``let_go``.
        """
        self.lock()
        try:
            for number in range(self._words[_USED]):
                if keep_elsewhere:
                    self._keep(number, worker)
                self._clear(self._cell(number, worker))
                if not self._is_joined(number):
                    self._set_key(number, _NOBODY)
                    continue
                for other in range(1, self.count + 1):
                    self._words[self._cell(number, other) + CLAIMED] = 0  # by whom is not known
                self._is_news(number)
        finally:
            self.unlock()
        self._ring_all(worker)

    def _keep(self, number: int, worker: int) -> None:
        counted = self._words[self._cell(number, worker) + ELSEWHERE]
        if counted:
            at = self._cell(number, self.worker)
            self._words[at + ELSEWHERE] += counted
            self._words[at + JOINED] += number not in self._kept
            self._kept.add(number)

    def let_go(self) -> None:
        """Count nothing any more of what was kept of the dead, and tell those who wait."""
        if not self._kept:
            return
        self.lock()
        try:
            for number in self._kept:
                at = self._cell(number, self.worker)
                self._words[at + ELSEWHERE] = 0
                self._words[at + JOINED] -= 1
                if not self._is_joined(number):
                    self._set_key(number, _NOBODY)
                self._is_news(number)
        finally:
            self.unlock()
        self._kept.clear()
        self._ring_all()

    def _is_news(self, number: int) -> None:
        """Have those who wait in a row look at it when they are rung."""
        for worker in range(1, self.count + 1):
            at = self._cell(number, worker)
            if self._words[at + SINCE]:
                self._words[at + NEWS] = 1

    def _ring_all(self, dead: int = 0) -> None:
        for worker in range(1, self.count + 1):
            if worker != dead:
                self.ring(worker)

    # Doorbells.

    def ring(self, worker: int) -> None:
        """Have a worker look at the rows that were marked for it."""
        os.eventfd_write(self._bells[worker - 1], 1)

    def listen(self) -> None:
        """From now on have ``Row.heard`` called, by the hub, where there are news for this worker."""
        bell = self._bells[self.worker - 1]
        self._watcher = gevent.get_hub().loop.io(bell, _READ)
        self._watcher.start(self.answer)

    def answer(self) -> None:
        """Call ``Row.heard`` of the rows that were marked since; no switch."""
        try:
            os.eventfd_read(self._bells[self.worker - 1])
        except BlockingIOError:
            return
        for row in list(self._news()):
            if row.heard is not None:
                row.heard()

    def _news(self) -> Iterator[Row]:
        for number, rows in self._joined.items():
            at = self._cell(number, self.worker) + NEWS
            if self._words[at]:
                self._words[at] = 0  # before anybody looks: what is told from here on is news again
                yield from rows

    # The end.

    def close(self) -> None:
        """Leave all rows, and close what is open in this process."""
        for rows in list(self._joined.values()):
            for row in list(rows):
                row.leave()
        if self._watcher is not None:
            self._watcher.stop()
            self._watcher.close()
        for fd in self.descriptors():
            os.close(fd)
        self._bells = ()
        self._table = -1
        self._words.release()
        self._map.close()


def _row_size(count: int) -> int:
    """Bytes of a row for so many workers: the supervisor's cell, then theirs."""
    return (1 + count) * WIDTH * 8


def _digest(words: Sequence[str]) -> bytes:
    made = blake2b(digest_size=_KEY)
    for word in words:
        encoded = word.encode(errors="surrogateescape")
        made.update(len(encoded).to_bytes(4, "big") + encoded)
    return made.digest()
