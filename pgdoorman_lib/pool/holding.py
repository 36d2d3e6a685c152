"""What the console has ordered of pools: which lend nothing, which no client may log in to, which are to begin anew.

An order is for all pools, those of a database, or one; it holds for pools that come later, too, until it is taken back.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from pgdoorman_lib.net.syscalls import clock
from pgdoorman_lib.pool.opening import RENEWED
from pgdoorman_lib.pool.pool import Pool


class Target(NamedTuple):
    """Which pools an order is for: None stands for every database, or every user."""

    database: str | None = None
    user: str | None = None

    def covers(self, database: str | None, user: str | None) -> bool:
        """Whether the pools of (database, user) are among them; None as above."""
        return (self.database is None or self.database == database) and (self.user is None or self.user == user)


class Orders:
    """The orders in force."""

    def __init__(self) -> None:
        self.paused: set[Target] = set()
        self.disabled: set[Target] = set()

    def obey(self, pool: Pool) -> None:
        """Bring a pool to what is ordered of it; no switch."""
        database, user = pool.settings.database, pool.settings.user
        pool.disabled = any(target.covers(database, user) for target in self.disabled)
        paused = any(target.covers(database, user) for target in self.paused)
        if paused and not pool.paused:
            pause(pool)
        elif pool.paused and not paused:
            resume(pool)


def take_back(orders: set[Target], target: Target) -> bool:
    """Take back those of ``orders`` that are for pools of ``target`` alone; whether there were any."""
    gone = {order for order in orders if target.covers(*order)}
    orders -= gone
    return bool(gone)


def pause(pool: Pool) -> None:
    """Lend nothing any more, and close every server: those at rest now, the others as they come back; no switch."""
    pool.paused = True
    pool.held = 1
    pool.reconnect("pool is paused")
    if pool.sequences is not None:
        pool.sequences.close()


def resume(pool: Pool) -> None:
    """Lend again, first of all to those who wait; no switch."""
    pool.paused = False
    if not pool.retired:
        pool.held = 0
        pool.opening.grow(clock())


def renew(pool: Pool, reason: str = RENEWED) -> None:
    """Close every server there is: those at rest now, the others as they come back; no switch."""
    pool.opening.generation += 1
    pool.opening.renewed_at = clock()
    pool.reconnect(reason)
    for server in pool.servers:
        server.condemn(reason)


def open_servers(pool: Any) -> int:
    """How many connections a pool still has, those being made included."""
    return len(pool.servers) + int(pool.opening.count)


def condemned_servers(pool: Any) -> int:
    """How many of them are only waited for, to be closed."""
    return len(pool.servers) if pool.retired else sum(1 for server in pool.servers if server.condemned)
