"""What the clients of a crew have seen: answers, losses, wrong answers, transactions; the soak joins it."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterable
from typing import Any

#: SQLSTATEs a client may get when its connection, or the server it had, is gone; None for errors of the drivers' own.
GONE = {None, "57P01", "57P02", "57P03", "08000", "08001", "08003", "08004", "08006", "08P01"}

#: So many wrong answers are kept with their texts.
KEPT = 20


class Wrong(Exception):
    """An answer that is not what was asked for."""


class Journal:
    """Written by all clients of a crew; ``data`` is what it comes to."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.done: Counter[str] = Counter()
        self.lost: list[dict[str, Any]] = []
        self.wrong: list[str] = []
        self.wrongs = 0
        #: by worker: the number of its last transaction, those that must not be in the table, those that may be
        self.last: dict[int, int] = {}
        self.absent: dict[int, set[int]] = {}
        self.doubtful: dict[int, set[int]] = {}

    def did(self, operation: str) -> None:
        with self._lock:
            self.done[operation] += 1

    def is_wrong(self, text: str) -> None:
        with self._lock:
            self.wrongs += 1
            if len(self.wrong) < KEPT:
                self.wrong.append(text)

    def is_lost(self, who: dict[str, Any], operation: str, error: BaseException, code: str | None) -> None:
        """A connection was lost, or its server; whether there was a reason for it is judged behind the run."""
        text = f"{type(error).__name__}: {str(error).strip()}"[:200]
        with self._lock:
            self.lost.append({**who, "time": time.monotonic(), "operation": operation, "code": code, "text": text})

    def judge(self, who: dict[str, Any], operation: str, error: BaseException, code: str | None) -> None:
        """An operation ended by ``error``, whose SQLSTATE is ``code``."""
        if code in GONE and not isinstance(error, Wrong):
            self.is_lost(who, operation, error, code)
        else:
            what = f"{code or ''} {type(error).__name__}: {str(error).strip()[:300]}"
            self.is_wrong(f"{who} {operation}, {time.monotonic() - who['begun']:.3f} s: {what}")

    def transaction(self, worker: int) -> Transaction:
        """The next one of a client: it must not be there until ``committing``, may until ``told``, must from then."""
        with self._lock:
            number = self.last[worker] = self.last.get(worker, 0) + 1
            self.absent.setdefault(worker, set()).add(number)
        return Transaction(self, worker, number)

    def data(self) -> dict[str, Any]:
        with self._lock:
            workers = {
                worker: [last, sorted(self.absent.get(worker, ())), sorted(self.doubtful.get(worker, ()))]
                for worker, last in self.last.items()
            }
            return {
                "done": dict(self.done),
                "lost": self.lost,
                "wrong": self.wrong,
                "wrongs": self.wrongs,
                "transactions": workers,
            }


class Transaction:
    """A row of ``told`` that a worker inserts."""

    def __init__(self, journal: Journal, worker: int, number: int) -> None:
        self._journal = journal
        self.worker = worker
        self.number = number

    @property
    def insert(self) -> str:
        return f"INSERT INTO told VALUES ({self.worker}, {self.number})"

    def committing(self) -> None:
        """COMMIT is about to be sent."""
        with self._journal._lock:
            self._journal.absent[self.worker].discard(self.number)
            self._journal.doubtful.setdefault(self.worker, set()).add(self.number)

    def told(self, tag: str) -> None:
        """The answer to COMMIT has come."""
        if tag != "COMMIT":
            raise Wrong(f"COMMIT was answered by {tag}")
        with self._journal._lock:
            self._journal.doubtful[self.worker].discard(self.number)


class Gate:
    """Where the clients of a crew rest when they are asked to."""

    def __init__(self, members: int) -> None:
        self.closed = False
        self.over = False
        self.members = members
        self._resting: set[object] = set()
        self._lock = threading.Lock()

    def rests(self, member: object) -> bool:
        """Whether the member has to rest now; asked again and again, between two operations, until it has not."""
        with self._lock:
            if self.closed and not self.over:
                self._resting.add(member)
                return True
            self._resting.discard(member)
            return False

    def lets_by(self, member: object) -> bool:
        """Rest as long as one has to; False at the end."""
        while self.rests(member):
            time.sleep(0.02)
        return not self.over

    def busy(self, members: Iterable[object]) -> list[object]:
        """Those that do not rest."""
        with self._lock:
            return [member for member in members if member not in self._resting]

    @property
    def all_rest(self) -> bool:
        with self._lock:
            return len(self._resting) >= self.members
