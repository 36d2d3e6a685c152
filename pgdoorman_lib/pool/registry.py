"""All pools by (database, user), and their exchange when the configuration is reloaded."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from pgdoorman_lib.config.effective import for_database
from pgdoorman_lib.pool.holding import Orders, open_servers
from pgdoorman_lib.pool.pool import Pool


class Pools:
    """``make`` builds a pool from its settings; nothing is opened by that."""

    def __init__(self, make: Callable[[Any], Pool]) -> None:
        self._make = make
        self._pools: dict[tuple[str, str], Pool] = {}
        self._leaving: set[Pool] = set()
        #: what pools are made by, by user, for databases that are not named; those that are; when one was unused first
        self._templates: Mapping[str, Any] = {}
        self._named: Collection[str] = ()
        self._unused: dict[tuple[str, str], float] = {}
        #: what the console has ordered of them
        self.orders = Orders()

    def __iter__(self) -> Iterator[Pool]:
        return iter(list(self._pools.values()))

    def __len__(self) -> int:
        return len(self._pools)

    def find(self, database: str, user: str) -> Pool | None:
        """The pool that clients of (database, user), who have proven to be that, use now: made if need be."""
        pool = self._pools.get((database, user))
        if pool is None and user in self._templates and database not in self._named:
            pool = self._new(for_database(self._templates[user], database))
            self._pools[database, user] = pool
        return pool

    def may_have(self, database: str, user: str | None) -> bool:
        """Whether a pool is made when a client comes to this database, as this user if it is not None."""
        if database in self._named:
            return False
        return user in self._templates if user is not None else bool(self._templates)

    def apply(
        self,
        wanted: Mapping[tuple[str, str], Any],
        templates: Mapping[str, Any] | None = None,
        named: Collection[str] = (),
    ) -> None:
        """Have exactly these pools: unchanged ones stay, the others are retired and, if still wanted, made anew.

        ``templates`` are the settings, by user, for databases that are not ``named``, whose pools are made when a
        client comes.
        """
        self._templates = templates or {}
        self._named = named
        wanted = dict(wanted)
        for database, user in self._pools:
            if database not in named and user in self._templates:
                wanted[database, user] = for_database(self._templates[user], database)
        for key in list(self._pools):
            pool = self._pools[key]
            if wanted.get(key) != pool.settings:
                del self._pools[key]
                if open_servers(pool):
                    self._leaving.add(pool)
                replacement = wanted.get(key)
                if replacement is not None:
                    # A pool's replacement stands before its waiters are sent to look for it.
                    self._pools[key] = self._heir(pool, replacement)
                pool.retire("configuration was reloaded")
        for key, settings in wanted.items():
            if key not in self._pools:
                self._pools[key] = self._new(settings)
        self._leaving = {pool for pool in self._leaving if open_servers(pool)}

    def drop_unused(self, now: float, limit: float, clients_of: Callable[[str], int]) -> None:
        """Take pools of databases that are not named away, ``limit`` seconds after their last server and client.

        Those that never had a server, since PostgreSQL knows no such database, go at once.
        """
        unused = {}
        for key, pool in list(self._pools.items()):
            database, user = key
            if database in self._named or user not in self._templates or pool.paused:
                continue
            if pool.servers or pool.opening.count or pool.queue.waiting or clients_of(database):
                continue
            since = unused[key] = self._unused.get(key, now)
            if now - since >= limit or pool.beginnings.reported is None:
                del self._pools[key], unused[key]
                pool.retire("nobody uses it any more")
        self._unused = unused

    def _new(self, settings: Any) -> Pool:
        pool = self._make(settings)
        self.orders.obey(pool)
        return pool

    def _heir(self, pool: Pool, settings: Any) -> Pool:
        heir = self._new(settings)
        heir.follow(pool)
        heir.count_elsewhere(pool.elsewhere)
        if settings.secret == pool.settings.secret:
            heir.credentials = pool.credentials
        return heir

    def obey(self) -> None:
        """Bring them all to what is ordered."""
        for pool in self._pools.values():
            self.orders.obey(pool)

    def all(self) -> Iterator[Pool]:
        """Every pool, and of the retired ones those that still have servers or open one."""
        yield from list(self._pools.values())
        yield from [pool for pool in self._leaving if open_servers(pool)]

    def close(self) -> None:
        """Retire everything."""
        for pool in self._pools.values():
            pool.retire("pooler is shutting down")
