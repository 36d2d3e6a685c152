"""What an operator does to the running pools and clients from the console: hold them, begin anew, end them.

Everything here is done when the call returns, but for what borrowers have to give back first: ``open_servers`` and
``condemned_servers`` tell how much of that there is. No method switches.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from pgdoorman_lib.client.connection import Connection
from pgdoorman_lib.client.pooler import GOODBYE, Pooler
from pgdoorman_lib.errors import DoormanError, ShuttingDown
from pgdoorman_lib.pool import holding
from pgdoorman_lib.pool.holding import Target
from pgdoorman_lib.pool.pool import Pool
from pgdoorman_lib.pool.registry import Pools

#: Seconds between two looks at what a command waits for.
LOOK_INTERVAL = 0.02
#: Why a server is closed whose client was ended with it.
KILLED = "KILL by the console"


class Operations:
    """Acts on ``pools`` and on the connections of ``pooler``."""

    look_interval = LOOK_INTERVAL

    def __init__(self, pools: Pools, pooler: Pooler) -> None:
        self._pools = pools
        self._pooler = pooler

    def knows(self, target: Target) -> bool:
        """Whether there is a pool of ``target``, or one is made for whoever comes."""
        if target.database is not None and self._pools.may_have(target.database, target.user):
            return True
        return any(target.covers(pool.settings.database, pool.settings.user) for pool in self._pools)

    def _of(self, target: Target) -> Iterator[Pool]:
        """Its pools, those included that a reload has replaced and that still have servers."""
        return (pool for pool in self._pools.all() if target.covers(pool.settings.database, pool.settings.user))

    def ordered(self) -> dict[str, list[list[str | None]]]:
        """What is paused and disabled, for ``obey`` in another process."""
        orders = self._pools.orders
        return {
            "paused": [list(target) for target in orders.paused],
            "disabled": [list(target) for target in orders.disabled],
        }

    def obey(self, state: Mapping[str, Iterable[Iterable[str | None]]]) -> None:
        """Hold what was held in another process, as its ``ordered`` tells it."""
        orders = self._pools.orders
        orders.paused = {Target(*target) for target in state["paused"]}
        orders.disabled = {Target(*target) for target in state["disabled"]}
        self._pools.obey()

    # Holding.

    def pause(self, target: Target) -> None:
        """Lend no server any more, and close them all, as they come back; see ``open_servers``."""
        self._pools.orders.paused.add(target)
        self._pools.obey()

    def is_paused(self, target: Target) -> bool:
        """Whether all of it is paused."""
        return any(order.covers(*target) for order in self._pools.orders.paused)

    def resume(self, target: Target) -> bool:
        """Take back every PAUSE and KILL of ``target`` or a part of it; whether there was one."""
        found = holding.take_back(self._pools.orders.paused, target)
        self._pools.obey()
        return found

    def unpause(self, target: Target) -> None:
        """Take back the PAUSE of ``target`` itself alone: those of parts of it are others' orders."""
        self._pools.orders.paused.discard(target)
        self._pools.obey()

    def disable(self, target: Target) -> None:
        """Let no client log in any more; those who are there stay."""
        self._pools.orders.disabled.add(target)
        self._pools.obey()

    def enable(self, target: Target) -> bool:
        """Take back every DISABLE of ``target`` or a part of it; whether there was one."""
        found = holding.take_back(self._pools.orders.disabled, target)
        self._pools.obey()
        return found

    # Closing.

    def reconnect(self, target: Target) -> None:
        """Close every server there is, as it comes back; see ``condemned_servers``."""
        for pool in self._of(target):
            holding.renew(pool)

    def open_servers(self, target: Target) -> int:
        """How many connections to PostgreSQL its pools have, those being made included."""
        return sum(holding.open_servers(pool) for pool in self._of(target))

    def condemned_servers(self, target: Target) -> int:
        """How many of them are to be closed, and only waited for."""
        return sum(holding.condemned_servers(pool) for pool in self._of(target))

    def kill(self, target: Target) -> None:
        """Pause, and end every client, with what it has under way, and its server."""
        self.pause(target)
        for pool in self._of(target):
            holding.renew(pool, KILLED)
        for connection in self.clients(target):
            connection.kill(ShuttingDown(GOODBYE))

    def fail_waiters(self, error: DoormanError) -> None:
        """Tell everybody who waits for a server that there will be none."""
        for pool in self._of(Target()):
            while pool.queue.waiting:
                pool.queue.next().fail(error)

    def clients(self, target: Target) -> list[Connection]:
        """The connections of its clients, those that log in included, and not those that have been told the end."""
        is_console = self._pooler.policy.is_admin_database
        return [
            connection
            for connection in self._pooler.open
            if connection.admitted and not is_console(connection.database) and target.covers(*whose(connection))
        ]

    def kill_client(self, number: int) -> bool:
        """End the client of that number (SHOW CLIENTS), with what it has under way; whether there is one."""
        for connection in self._pooler.open:
            session = connection.session
            if session is not None and session.id == number:
                connection.kill(ShuttingDown(GOODBYE))
                return True
        return False


def whose(connection: Connection) -> tuple[str, str]:
    """Database and user of a client, or what it claims while it logs in."""
    return connection.database, connection.user
