"""All pools by (database, user), and their exchange when the configuration is reloaded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pgdoorman_lib.pool.holding import Orders
from pgdoorman_lib.pool.pool import Pool


class Pools:
    """``make`` builds a pool from its settings; nothing is opened by that."""

    def __init__(self, make: Callable[[Any], Pool]) -> None:
        self._make = make
        self._pools: dict[tuple[str, str], Pool] = {}
        self._leaving: set[Pool] = set()
        #: what the console has ordered of them
        self.orders = Orders()

    def __iter__(self) -> Iterator[Pool]:
        return iter(list(self._pools.values()))

    def __len__(self) -> int:
        return len(self._pools)

    def find(self, database: str, user: str) -> Pool | None:
        """The pool that clients of (database, user) use now."""
        return self._pools.get((database, user))

    def apply(self, wanted: Mapping[tuple[str, str], Any]) -> None:
        """Have exactly these pools: unchanged ones stay, the others are retired and, if still wanted, made anew."""
        for key in list(self._pools):
            pool = self._pools[key]
            if wanted.get(key) != pool.settings:
                del self._pools[key]
                if pool.servers:
                    self._leaving.add(pool)
                replacement = wanted.get(key)
                if replacement is not None:
                    # A pool's replacement stands before its waiters are sent to look for it.
                    self._pools[key] = self._heir(pool, replacement)
                pool.retire("configuration was reloaded")
        for key, settings in wanted.items():
            if key not in self._pools:
                self._pools[key] = self._new(settings)
        self._leaving = {pool for pool in self._leaving if pool.servers}

    def _new(self, settings: Any) -> Pool:
        pool = self._make(settings)
        self.orders.obey(pool)
        return pool

    def _heir(self, pool: Pool, settings: Any) -> Pool:
        heir = self._new(settings)
        if settings.secret == pool.settings.secret:
            heir.credentials = pool.credentials
        return heir

    def obey(self) -> None:
        """Bring them all to what is ordered."""
        for pool in self._pools.values():
            self.orders.obey(pool)

    def all(self) -> Iterator[Pool]:
        """Every pool that still has servers, the retired ones included."""
        yield from list(self._pools.values())
        yield from [pool for pool in self._leaving if pool.servers]

    def close(self) -> None:
        """Retire everything."""
        for pool in self._pools.values():
            pool.retire("pooler is shutting down")
