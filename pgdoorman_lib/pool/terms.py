"""What a limit on the servers of several pools is (``quota``), and what the tables have of one."""

from __future__ import annotations

from typing import NamedTuple

from pgdoorman_lib.pool.pool import Pool
from pgdoorman_lib.record import record


@record(frozen=True)
class Terms:
    """A limit: of the key ``name``, for the server user or database ``of``.

    ``guarantee`` servers, or its min_pool_size, a pool keeps; None: it keeps nothing. For the others see the rules.
    """

    name: str
    of: str
    limit: int
    min_age: float = 0.0
    guarantee: int | None = None
    reserve: int = 0
    reserve_after: float = 0.0

    def floor(self, pool: Pool) -> int:
        """How many servers of ``pool`` are not taken from it."""
        return 0 if self.guarantee is None else max(self.guarantee, int(pool.settings.min_pool_size))

    def limit_after(self, waited: float) -> int:
        """How many servers there may be for somebody who has waited so long."""
        return self.limit + (self.reserve if waited >= self.reserve_after else 0)


class Counts:
    """What has happened at a limit since the start."""

    __slots__ = ("evictions", "exhaustions", "reserve_acquisitions")

    def __init__(self) -> None:
        #: servers closed for another pool, places taken beyond the limit, clients who have waited in vain
        self.evictions = 0
        self.reserve_acquisitions = 0
        self.exhaustions = 0


class Turn:
    """Within it, what a pool has freed is the place of another: nobody else goes for it."""

    __slots__ = ("_depth",)

    def __init__(self) -> None:
        self._depth = 0

    def __bool__(self) -> bool:
        return self._depth > 0

    def __enter__(self) -> None:
        self._depth += 1

    def __exit__(self, *_: object) -> None:
        self._depth -= 1


class CoordinatorView(NamedTuple):
    """The limit of servers of a database, with its reserve; how many there ``current``ly are, and what has happened."""

    database: str
    max_db_connections: int
    reserve_pool_size: int
    current: int
    evictions: int
    reserve_acquisitions: int
    exhaustions: int

    @property
    def reserve_used(self) -> int:
        """Servers beyond the limit."""
        return max(0, self.current - self.max_db_connections)
