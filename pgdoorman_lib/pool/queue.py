"""The servers at rest of a pool, and who waits for one: the verbs and the discipline of gevent's queues.

``put``, ``get``, ``get_nowait`` and ``qsize`` are those of ``gevent.queue.LifoQueue`` (of ``Queue`` where servers take
turns), and ``tests/pool/test_queue.py`` holds both to the same behaviour. It is a class of our own since most who wait
here have no greenlet: what is put goes straight to the first in the line, who is polled in the same turn of the engine,
where gevent's would ask the hub for a callback and switch (CONTRIBUTING has the figures).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gevent
from gevent.queue import Empty

from pgdoorman_lib.net.engine import Engine, Task
from pgdoorman_lib.net.line import Line
from pgdoorman_lib.net.pollable import Pollable
from pgdoorman_lib.pool.measures import NEAR
from pgdoorman_lib.pool.row import Row
from pgdoorman_lib.server.connection import Server

_int = int


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
        #: the next in the line
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

    def park(self) -> None:
        """Wait for ``set`` or ``fail``; may switch. The running greenlet is the one of ``task``."""
        while self.assigned is None and self.wait_error is None:
            self.task.park()  # switch: hand-offs, timeouts and retirement come meanwhile

    def result(self) -> Server:
        """The server that ``set`` has brought; raises what ``fail`` has."""
        if self.wait_error is not None:
            error = self.wait_error
            self.wait_error = None
            raise error
        assert self.assigned is not None
        return self.assigned


class ServerQueue:
    """Servers that may be lent, and the line of those who wait for one; there are never both.

    ``lifo``: the server that came last goes first (LifoQueue), else the one that came first (Queue). ``by_settings``: a
    server with a borrower's settings may go to it before its turn. Nothing but ``get`` switches.
    """

    __slots__ = ("by_settings", "engine", "first", "last", "lifo", "passed", "resting", "row", "waiting")

    def __init__(self, engine: Engine, lifo: bool = True, by_settings: bool = False) -> None:
        self.engine = engine
        self.lifo = lifo
        self.by_settings = by_settings
        #: the longest at rest first
        self.resting = Line()
        #: the ends of the line of those who wait, each knows who stands behind it; and how many they are
        self.first: Borrower | None = None
        self.last: Borrower | None = None
        self.waiting = 0
        #: how often the first has seen another served
        self.passed = 0
        #: where other worker processes see how many rest, and who waits; None in one process
        self.row: Row | None = None

    def qsize(self) -> _int:
        """How many servers rest."""
        return self.resting.size()

    def __iter__(self) -> Iterator[Server]:
        """Those that rest, the longest at rest first."""
        return iter(self.resting)

    # Servers.

    def put(self, server: Server) -> Borrower | None:
        """Give ``server`` to who is next in the line, and tell whom; or None: nobody waits, and it rests."""
        if not self.waiting:
            self.resting.add(server)
            if self.row is not None:
                self.row.rest_is(self.resting.size())
            return None
        borrower = self._next_for(server.applied) if self.by_settings else self.next()
        borrower.set(server)
        return borrower

    def get_nowait(self) -> Server:
        """Take a server that rests; Empty if there is none."""
        server: Server | None = self.resting.take() if self.lifo else self.resting.take_first()
        if server is None:
            raise Empty
        if self.row is not None:
            self.row.rest_is(self.resting.size())
        return server

    def get(self, timeout: float | None = None) -> Server:
        """Take a server, or wait for one up to ``timeout`` seconds (None: as long as it takes); may switch. Empty."""
        if self.resting.size():
            return self.get_nowait()
        borrower = Borrower()
        borrower.task = Task(self.engine)
        self.join(borrower)
        try:
            with gevent.Timeout(timeout, Empty):
                borrower.park()
        except BaseException:
            if borrower.assigned is not None:
                self.put(borrower.assigned)
            elif borrower.wait_error is None:
                self.leave(borrower)
            raise
        return borrower.result()

    def remove(self, server: Server) -> None:
        """Take this one out of those that rest; ValueError when it is not there."""
        self.resting.remove(server)
        if self.row is not None:
            self.row.rest_is(self.resting.size())

    # The line.

    def join(self, borrower: Borrower) -> None:
        """Put ``borrower`` at the end of the line; it is told by its ``set`` or ``fail``."""
        if self.last is None:
            self.first = borrower
        else:
            self.last.behind = borrower
        self.last = borrower
        self.waiting += 1
        if self.row is not None:
            self._show_line()

    def leave(self, borrower: Borrower) -> None:
        """Take ``borrower`` out of the line, wherever it stands; ValueError when it does not wait."""
        before = None
        one = self.first
        while one is not borrower:
            if one is None:
                raise ValueError("not in the queue")
            before = one
            one = one.behind
        self._unlink(borrower, before)

    def next(self) -> Borrower:
        """Take the first off the line; there must be one."""
        borrower: Any = self.first
        self.passed = 0
        self._unlink(borrower, None)
        return borrower  # type: ignore[no-any-return]

    def _next_for(self, settings: Any) -> Borrower:
        """As ``next``, but one of the next few if it has these settings and the first has others.

        To put the first one's in effect takes a round trip, in which nobody has use of the server.
        """
        before: Any = self.first
        if before.settings is not settings and self.passed < NEAR:
            for _ in range(NEAR):
                borrower = before.behind
                if borrower is None:
                    break
                if borrower.settings is settings:
                    self.passed += 1
                    self._unlink(borrower, before)
                    return borrower  # type: ignore[no-any-return]
                before = borrower
        return self.next()

    def _unlink(self, borrower: Borrower, before: Borrower | None) -> None:
        if before is None:
            self.first = borrower.behind
        else:
            before.behind = borrower.behind
        if borrower.behind is None:
            self.last = before
        borrower.behind = None
        self.waiting -= 1
        if self.row is not None:
            self._show_line()

    def _show_line(self) -> None:
        """Let the other workers see who waits."""
        row: Any = self.row
        first = self.first
        row.line_is(self.waiting, first.waiting_since if first is not None else 0.0)
