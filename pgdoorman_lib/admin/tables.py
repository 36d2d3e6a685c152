"""What a table of the console is, in whichever dialect, and how the running pooler is walked to fill one.

Rules:
1. A rows function only reads, and does not switch greenlets while it adds up what live pools or clients have.
2. One that has a row for each connection lets others run after every few (``paced``): there may be thousands, and each
   row is made of one connection alone, which can be told of even when it has ended meanwhile.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

import gevent

from pgdoorman_lib.admin.rows import INT4, Column, Value, columns
from pgdoorman_lib.client.info import ClientInfo
from pgdoorman_lib.config.decode import EVERY_DATABASE
from pgdoorman_lib.record import record
from pgdoorman_lib.server.hosts import HostView
from pgdoorman_lib.views import PoolView, RunningPooler, ServerView

Row = Sequence[Value]
_Item = TypeVar("_Item")

#: Rows of connections that are made or sent before others may run: a millisecond's work, compiled or not.
_PACE = 50


@record(frozen=True, slots=True)
class Show:
    """One SHOW: its columns, ``rows(pooler)``, and in a few words what it tells (SHOW HELP).

    ``parts`` are those of the whole pooler that ``rows`` looks at (``together.kinds``). ``by_worker``: where there are
    several, each row has its worker's number behind the rest.
    """

    columns: tuple[Column, ...]
    rows: Callable[[RunningPooler], list[Row]]
    about: str
    parts: tuple[str, ...] = ()
    by_worker: bool = False

    def described(self, pooler: RunningPooler) -> tuple[Column, ...]:
        """The columns there are for ``pooler``."""
        return (*self.columns, *columns("worker", INT4)) if self.by_worker and pooler.several else self.columns


@record(frozen=True, slots=True)
class Dialect:
    """What a session at one of the console's databases speaks.

    ``database``: the name that leads to it; ``shows``: its tables by name; ``refused``: SHOWs that there will not be,
    and why; ``pgbouncer``: unknown commands, SELECT and SHOW HELP are answered as PgBouncer does.
    """

    database: str
    shows: Mapping[str, Show]
    refused: Mapping[str, str]
    pgbouncer: bool = False


def flag(value: bool) -> str:
    """A yes or no in a text column of digits."""
    return "1" if value else "0"


def boolean(value: bool) -> str:
    """A yes or no in words."""
    return "true" if value else "false"


def paced(items: Iterable[_Item]) -> Iterator[_Item]:
    """The items there are now, with others running in between; may switch."""
    for count, item in enumerate(list(items), 1):
        yield item
        if count % _PACE == 0:
            gevent.sleep(0)


def infos(pooler: RunningPooler) -> Iterator[ClientInfo]:
    """The clients of the pools, those of replication included; not those of the console."""
    return (client.info() for client in pooler.clients)


def all_infos(pooler: RunningPooler) -> Iterator[ClientInfo]:
    """All clients, those of the console last; paced."""
    return (client.info() for client in paced((*pooler.clients, *pooler.consoles)))


def console_infos(pooler: RunningPooler) -> Iterator[ClientInfo]:
    """The clients of the console."""
    return (client.info() for client in pooler.consoles)


def clients_by_state(pooler: RunningPooler) -> Callable[[PoolView, str], int]:
    """Return a function from a pool and a state to the number of the pool's clients in it."""
    counts = Counter((client.database, client.pool_user, client.state) for client in infos(pooler))
    return lambda pool, state: counts[pool.settings.database, pool.settings.user, state]


def whose(pooler: RunningPooler, one: ClientInfo | ServerView | HostView) -> Row:
    """The last cell of a row in a table ``by_worker``."""
    return (one.worker,) if pooler.several else ()


def connections(pool: PoolView) -> int:
    """The pool's server connections, those being made included."""
    return pool.idle_count + pool.borrowed_count + pool.opening_count


def server_limits(pooler: RunningPooler, database: str) -> tuple[int, int]:
    """max_db_connections of a database, 0 for none, and its reserve."""
    pools = pooler.config.pools
    section = pools.get(database, pools.get(EVERY_DATABASE))
    if section is None or not section.max_db_connections:
        return 0, 0
    return section.max_db_connections, section.reserve_pool_size


def is_used(server: ServerView, now: float) -> bool:
    """Whether PgBouncer would call a server used instead of idle: it is probed before it is lent."""
    return server.state == "idle" and 0 < server.settings.server_idle_check_timeout < now - server.idle_since


def no_rows(pooler: RunningPooler) -> list[Row]:
    """The rows of a table about what is not here."""
    return []


def microseconds_within_second(seconds: float) -> int:
    """What ``maxwait_us`` has beside ``maxwait``, the whole seconds."""
    return int(seconds * 1_000_000) % 1_000_000
