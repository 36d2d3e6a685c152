"""Idle servers that are asked whether they are still there before they are lent, and how long that is waited for.

A server that has rested for server_idle_check_timeout may be gone without anybody having said so. The borrower waits
for its answer instead of opening another connection; but not for long: a middle box that has forgotten the connection
swallows the question.
"""

from __future__ import annotations

from typing import Any

from pgdoorman_lib.net.syscalls import clock
from pgdoorman_lib.server.connection import Server

#: Seconds a borrower waits for a server's answer before he is given, or opens, another.
PATIENCE = 0.3


class Probes:
    """The probes of one pool that are under way and still waited for; ``count`` of them."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool
        self.count = 0
        #: timers on the hub's loop, by server
        self._timers: dict[Server, Any] = {}

    def begin(self, server: Server) -> None:
        """Have the janitor ask a server that was just taken, who calls ``ended`` and gives it back; no switch."""
        timer = self._pool.engine.loop.timer(PATIENCE)
        self._timers[server] = timer
        self.count += 1
        timer.start(self._overdue, server)
        server.state = "cleaning"
        self._pool.tidy(self._pool, server)

    def ended(self, server: Server) -> None:
        """It has answered, or will not any more; nothing if it was not asked, or is not waited for."""
        timer = self._timers.pop(server, None)
        if timer is not None:
            self.count -= 1
            timer.stop()
            timer.close()

    def _overdue(self, server: Server) -> None:
        """Wait for it no longer: the next waiter gets a new connection, in its place if there is no room for more."""
        self.ended(server)
        pool = self._pool
        if not pool.queue.waiting:
            return
        if pool.has_room():
            pool.opening.grow(clock())
        else:
            pool.discard(server, f"has not answered a probe within {PATIENCE:g} s")
