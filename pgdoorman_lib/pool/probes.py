"""Idle servers that are asked whether they are still there before they are lent, and how long that is waited for.

A server that has rested for server_idle_check_timeout may be gone without anybody having said so. The borrower waits
for its answer instead of opening another connection; but not for long: a middle box that has forgotten the connection
swallows the question.
"""

from __future__ import annotations

from typing import Any

from pgdoorman_lib.net.deadlines import Deadline
from pgdoorman_lib.net.syscalls import clock
from pgdoorman_lib.server import states
from pgdoorman_lib.server.connection import Server

#: Seconds a borrower waits for a server's answer before he is given, or opens, another.
PATIENCE = 0.3


class Probes:
    """The probes of one pool that are under way and still waited for; ``count`` of them."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool
        self.count = 0
        #: since when (monotonic seconds), by server, in order; and when the first is waited for no longer
        self._asked: dict[Server, float] = {}
        self._deadline = Deadline(self._overdue)

    def begin(self, server: Server) -> None:
        """Have the janitor ask a server that was just taken, who calls ``ended`` and gives it back; no switch."""
        now = clock()
        self._asked[server] = now
        self.count += 1
        self._arm(now)
        server.enter(states.CLEANING)
        self._pool.tidy(self._pool, server)

    def ended(self, server: Server) -> None:
        """It has answered, or will not any more; nothing if it was not asked, or is not waited for."""
        if self._asked.pop(server, None) is not None:
            self.count -= 1
            if not self.count:
                self._deadline.clear()

    def _arm(self, now: float) -> None:
        """A deadline for the first: all are waited for equally long."""
        if self._deadline.due == 0.0 and self._asked:
            self._deadline.set(next(iter(self._asked.values())) + PATIENCE, now)

    def _overdue(self) -> None:
        """Wait for some no longer: a waiter gets a new connection, in their place if there is no room for more."""
        pool = self._pool
        now = clock()
        for server, since in list(self._asked.items()):
            if since + PATIENCE > now + 0.0005:
                break
            if server not in self._asked:
                continue  # it has ended by what was done for one before it
            self.ended(server)
            if not pool.queue.waiting:
                continue
            if pool.has_room():
                pool.opening.grow(now)
            else:
                pool.discard(server, f"has not answered a probe within {PATIENCE:g} s")
        self._arm(now)
