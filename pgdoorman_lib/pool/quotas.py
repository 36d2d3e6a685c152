"""All limits of servers over several pools, by the configuration, and a pool that is under more than one of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from pgdoorman_lib.config.decode import EVERY_DATABASE
from pgdoorman_lib.config.model import Config
from pgdoorman_lib.net.syscalls import clock
from pgdoorman_lib.pool.pool import Pool
from pgdoorman_lib.pool.quota import Quota, take_all
from pgdoorman_lib.pool.terms import CoordinatorView, Counts, Terms, Turn
from pgdoorman_lib.server.connection import Server

USER = "max_user_connections"
DATABASE = "max_db_connections"

#: The key, and the server user or database that it is for.
_Key = tuple[str, str]


class Several:
    """The quotas of a pool that has more than one, as if they were one."""

    def __init__(self, quotas: tuple[Quota, ...]) -> None:
        self.quotas = quotas

    def take(self, pool: Pool) -> bool:
        """As of a Quota; all these are."""
        return take_all(self.quotas, pool)

    def add(self) -> None:
        for quota in self.quotas:
            quota.add()

    def give_back(self) -> None:
        for quota in self.quotas:
            quota.give_back()

    def count_elsewhere(self) -> None:
        for quota in self.quotas:
            quota.count_elsewhere()

    def show(self) -> None:
        for quota in self.quotas:
            quota.show()

    def freed(self, pool: Pool) -> None:
        for quota in self.quotas:
            quota.freed(pool)

    def has_room(self) -> bool:
        return all(quota.has_room() for quota in self.quotas)

    def may_grow(self, pool: Pool) -> bool:
        return all(quota.may_grow(pool) for quota in self.quotas)

    def is_owed(self, pool: Pool, server: Server) -> bool:
        return any(quota.is_owed(pool, server) for quota in self.quotas)

    def exhausted(self, pool: Pool) -> str:
        return next((text for quota in self.quotas if (text := quota.exhausted(pool))), "")


class Quotas:
    """All there are; ``row`` gives what counts one over all worker processes, by its key, None in one process.

    ``slowness`` tells how long a pool's transactions take: of one database, the slowest gives way first.
    """

    def __init__(
        self, row: Callable[[str, str], Any] | None = None, slowness: Callable[[Pool], float] | None = None
    ) -> None:
        self._row = row
        self._slowness = slowness
        self._config: Config | None = None
        self._known: dict[_Key, Quota] = {}
        self._counts: dict[_Key, Counts] = {}
        self._turn = Turn()

    def join(self, pool: Pool) -> None:
        """Have ``pool`` under the limits that hold for it now."""
        quotas = tuple(self._quota(terms) for terms in self._terms(pool))
        for quota in quotas:
            quota.join(pool)
        if not quotas:
            pool.quota = None
        else:
            pool.quota = quotas[0] if len(quotas) == 1 else Several(quotas)

    def _quota(self, terms: Terms) -> Quota:
        key = terms.name, terms.of
        quota = self._known.get(key)
        if quota is None:
            places = self._row(*key) if self._row is not None else None
            counts = self._counts.setdefault(key, Counts())
            slowness = self._slowness if terms.name == DATABASE else None
            quota = self._known[key] = Quota(terms, places, self._turn, slowness, counts)
        quota.terms = terms
        return quota

    def _terms(self, pool: Pool) -> Iterator[Terms]:
        config, settings = self._config, pool.settings
        if config is None:
            return
        limit = config.general.max_user_connections
        if limit:
            yield Terms(USER, settings.server_username, limit)
        section = config.pools.get(settings.database, config.pools.get(EVERY_DATABASE))
        if section is not None and section.max_db_connections:
            yield Terms(
                DATABASE,
                settings.database,
                section.max_db_connections,
                section.min_connection_lifetime,
                section.min_guaranteed_pool_size,
                section.reserve_pool_size,
                section.reserve_pool_timeout,
            )

    def govern(self, config: Config, pools: Iterable[Pool]) -> None:
        """Go by ``config`` from now on; what is open beyond a limit is closed as it comes to rest."""
        self._config = config
        pools = list(pools)
        for pool in pools:
            self.join(pool)
        self._end_unused(pools)
        now = clock()
        for pool in pools:
            pool.opening.grow(now)
            if pool.quota is not None:
                pool.quota.freed(pool)

    def drop_unused(self, pools: Iterable[Pool]) -> None:
        """Pools are gone, and ``pools`` are left: forget what none of them is under; any client may name some."""
        self._end_unused(pools)
        for key in self._counts.keys() - self._known.keys():
            del self._counts[key]

    def _end_unused(self, pools: Iterable[Pool]) -> None:
        wanted = {(terms.name, terms.of) for pool in pools for terms in self._terms(pool)}
        for key in self._known.keys() - wanted:
            self._known.pop(key).end()

    def databases(self) -> Iterator[CoordinatorView]:
        """What there is of each database with a limit."""
        for (name, database), quota in self._known.items():
            if name == DATABASE:
                terms, places, counts = quota.terms, quota.places, quota.counts
                yield CoordinatorView(
                    database,
                    terms.limit,
                    terms.reserve,
                    int(places.held + places.elsewhere),
                    counts.evictions,
                    counts.reserve_acquisitions,
                    counts.exhaustions,
                )
