"""Who waits for a server of a pool, first come first served, and how it is handed over.

The discipline is that of gevent's queues (waiters in order, what is put goes to the first of them without resting), but
for ``Waiters.take_with``; nothing here switches.
"""

from __future__ import annotations

from typing import Any

from pgdoorman_lib.net.pollable import Pollable
from pgdoorman_lib.server.connection import Server

_int = int

#: The first in the queue is passed over so often at most, for one of so many behind it.
NEAR = 8

_NEAR = NEAR


class Moved(Exception):
    """The pool was replaced by a reload: ask the registry again."""


class Borrower(Pollable):
    """Somebody who may wait for a server: a client's session, or an errand of our own."""

    __slots__ = (
        "assigned",
        "behind",
        "drawing",
        "number",
        "option_names",
        "settings",
        "task",
        "wait_error",
        "waiting_since",
    )

    def __init__(self) -> None:
        self.init_borrower()

    def init_borrower(self) -> None:
        """What ``__init__`` does, for those who derive: compiled, a call of it costs next to nothing."""
        #: the task that waits; set by the greenlet that owns the borrower
        self.task: Any = None
        #: the server handed over, None while waiting
        self.assigned: Server | None = None
        self.wait_error: BaseException | None = None
        self.waiting_since = 0.0
        #: the next in the queue
        self.behind: Borrower | None = None
        #: who it is for ``Server.drawn_by``, and whether it may ask for what sequences have given it
        self.number = 0
        self.drawing = 0
        #: the ``Settings`` it has on its server
        self.settings: Any = None
        #: customized options it has ever set, None before the first (``pool.names``)
        self.option_names: set[str] | None = None

    def set(self, server: Server) -> None:
        """Hand ``server`` over to a waiting borrower, whose turn is in this turn of the engine; no switch."""
        self.assigned = server
        self.task.wake()

    def fail(self, error: BaseException) -> None:
        """Tell a waiting borrower that there is no server for it; no switch."""
        self.wait_error = error
        self.task.wake()


class Waiters:
    """The borrowers who wait, first come first; each knows who stands behind it."""

    __slots__ = ("count", "first", "last", "passed")

    def __init__(self) -> None:
        self.first: Borrower | None = None
        self.last: Borrower | None = None
        self.count = 0
        #: how often the first has seen another served
        self.passed = 0

    def __len__(self) -> int:
        return int(self.count)

    def add(self, borrower: Borrower) -> None:
        """Put ``borrower`` at the end."""
        if self.last is None:
            self.first = borrower
        else:
            self.last.behind = borrower
        self.last = borrower
        self.count += 1

    def take(self) -> Borrower:
        """Take the first off; there must be one."""
        borrower: Any = self.first
        self.passed = 0
        self._unlink(borrower, None)
        return borrower  # type: ignore[no-any-return]

    def take_with(self, settings: Any) -> Borrower:
        """As ``take``, but one of the next few if it has these settings and the first has others.

        To put the first one's in effect takes a round trip, in which nobody has use of the server.
        """
        before: Any = self.first
        if before.settings is not settings and self.passed < _NEAR:
            for _ in range(_NEAR):
                borrower = before.behind
                if borrower is None:
                    break
                if borrower.settings is settings:
                    self.passed += 1
                    self._unlink(borrower, before)
                    return borrower  # type: ignore[no-any-return]
                before = borrower
        return self.take()

    def remove(self, borrower: Borrower) -> None:
        """Take ``borrower`` off, wherever it stands; ValueError when it does not wait."""
        before = None
        one = self.first
        while one is not borrower:
            if one is None:
                raise ValueError("not in the queue")
            before = one
            one = one.behind
        self._unlink(borrower, before)

    def _unlink(self, borrower: Borrower, before: Borrower | None) -> None:
        if before is None:
            self.first = borrower.behind
        else:
            before.behind = borrower.behind
        if borrower.behind is None:
            self.last = before
        borrower.behind = None
        self.count -= 1
