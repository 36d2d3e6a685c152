"""All that users are looked up by: what each pool's auth_query has found, and the connections that it runs on.

These connections are in a pool that no client can borrow from, of ``workers`` servers for all worker processes
together: each has its share, and at least one. A session there begins with settings of our own
(``config.effective.lookups``), and behind each question everything is taken back (DISCARD ALL).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

from pgdoorman_lib.auth.lookup import Finding, Lookup, LookupStats
from pgdoorman_lib.config.decode import EVERY_DATABASE
from pgdoorman_lib.config.effective import PoolSettings, lookups
from pgdoorman_lib.config.model import Config
from pgdoorman_lib.config.validate import Parameters
from pgdoorman_lib.errors import AuthenticationUnavailable, ServerUnavailable
from pgdoorman_lib.pool.pool import Pool
from pgdoorman_lib.pool.queue import Moved
from pgdoorman_lib.pool.row import SECRETS, Row
from pgdoorman_lib.server.lookup import look_up
from pgdoorman_lib.wire.lookup import Answer


class Reader:
    """Asks ``query`` about users by the servers of ``pool``."""

    def __init__(self, pool: Pool, query: str) -> None:
        self.pool = pool
        self._query = query

    def ask(self, user: str) -> Answer:
        """What PostgreSQL says of ``user``; may switch. DoormanError."""
        try:
            with self.pool.connection() as server:
                return look_up(server, self._query, user)
        except Moved as exc:
            raise ServerUnavailable("auth_query was changed meanwhile") from exc


class SecretChanges:
    """``Changes`` of a row of the ledger."""

    def __init__(self, row: Row) -> None:
        self._row = row

    def announce(self) -> None:
        """As in ``Changes``."""
        self._row.announce(SECRETS)

    def announced(self) -> int:
        """As in ``Changes``."""
        return self._row.announced(SECRETS)


class Lookups:
    """Those of the configuration in force; ``make_pool`` makes a pool that is in no registry.

    ``row`` gives that by which worker processes tell each other of a pool's users, None in one process.
    """

    def __init__(self, make_pool: Callable[[PoolSettings], Pool], row: Callable[[str], Row | None]) -> None:
        self._make_pool = make_pool
        self._row = row
        self._rows: dict[str, Row | None] = {}
        self._by_name: dict[str, tuple[Lookup, Reader]] = {}
        self._stats: dict[str, LookupStats] = {}
        self._leaving: list[Pool] = []
        self._named: frozenset[str] = frozenset()

    def use(self, config: Config, processes: int) -> None:
        """Go by ``config`` from now on, one of so many processes; what has been found so far is forgotten."""
        before, self._by_name = self._by_name, {}
        self._named = frozenset(config.pools)
        for name, settings in lookups(config).items():
            settings = dataclasses.replace(settings, pool_size=-(-settings.pool_size // processes))
            auth_query: Any = config.pools[name].auth_query
            pool = before.pop(name)[1].pool if name in before and before[name][1].pool.settings == settings else None
            reader = Reader(pool or self._make_pool(settings), auth_query.query)
            stats = self._stats.setdefault(name, LookupStats())
            if name not in self._rows:
                self._rows[name] = self._row(name)
            row = self._rows[name]
            changes = SecretChanges(row) if row is not None else None
            self._by_name[name] = Lookup(name, auth_query, reader.ask, stats, changes), reader
        for _, reader in before.values():
            reader.pool.retire("configuration was reloaded")
            self._leaving.append(reader.pool)
        self._leaving = [pool for pool in self._leaving if pool.servers or pool.opening.count]

    def of(self, database: str) -> Lookup | None:
        """What looks users of ``database`` up, None if they are not."""
        found = self._by_name.get(database if database in self._named else EVERY_DATABASE)
        return found[0] if found is not None else None

    def look_up(self, database: str, user: str) -> Finding:
        """What is found of ``user``; may switch. AuthenticationUnavailable."""
        while True:
            lookup = self.of(database)
            if lookup is None:
                raise AuthenticationUnavailable("users of this database are not looked up any more")
            try:
                return lookup.look_up(user)
            except AuthenticationUnavailable:
                if self.of(database) is lookup:
                    raise

    def parameters_of(self, database: str, user: str) -> Parameters:
        """The startup parameters in what was found of ``user``."""
        lookup = self.of(database)
        known = lookup.known(user) if lookup is not None else None
        return known.parameters if known is not None else ()

    def secret_of(self, user: str) -> str:
        """What was found of ``user`` in any database, empty if nothing was."""
        return next((known.secret for lookup in self if (known := lookup.known(user)) and known.secret), "")

    def __iter__(self) -> Iterator[Lookup]:
        return (lookup for lookup, _ in self._by_name.values())

    def pools(self) -> list[Pool]:
        """Those of the connections."""
        return [reader.pool for _, reader in self._by_name.values()] + self._leaving

    @property
    def most(self) -> int:
        """Connections there may be at one time."""
        return sum(pool.size for pool in self.pools())

    def close(self) -> None:
        """Look nobody up any more; may switch."""
        for lookup, reader in self._by_name.values():
            lookup.close()
            reader.pool.retire("pooler is shutting down")
