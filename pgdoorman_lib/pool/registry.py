"""All pools by (database, user), and their exchange when the configuration is reloaded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from pgdoorman_lib.config.decode import EVERY_DATABASE
from pgdoorman_lib.config.effective import for_database, for_user
from pgdoorman_lib.config.validate import Parameters
from pgdoorman_lib.pool.holding import Orders, open_servers
from pgdoorman_lib.pool.pool import Pool

#: Seconds between two looks whether anybody uses a pool that a user who was looked up has to himself.
LOOK_INTERVAL = 10.0

#: Database and user.
_Key = tuple[str, str]


class Pools:
    """``make`` builds a pool from its settings; nothing is opened by that."""

    def __init__(self, make: Callable[[Any], Pool]) -> None:
        self._make = make
        self._pools: dict[_Key, Pool] = {}
        self._leaving: set[Pool] = set()
        #: what pools are made by, by user, for databases that are not named; those that are; when one was unused first
        self._templates: Mapping[str, Any] = {}
        self._named: Collection[str] = ()
        #: the same for users who are looked up, by the name of the pool they are looked up for
        self._looked_up: Mapping[str, Any] = {}
        #: pools that such users had to themselves, made and taken away, by that name
        self.made: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()
        self._unused: dict[_Key, float] = {}
        #: startup parameters that were looked up with a user who has a pool to himself
        self._own: dict[_Key, Parameters] = {}
        #: those that are there whoever comes
        self._wanted: frozenset[_Key] = frozenset()
        #: what the console has ordered of them
        self.orders = Orders()

    def __iter__(self) -> Iterator[Pool]:
        return iter(list(self._pools.values()))

    def __len__(self) -> int:
        return len(self._pools)

    def __contains__(self, key: object) -> bool:
        return key in self._pools

    def find(self, database: str, user: str) -> Pool | None:
        """The pool that clients of (database, user), who have proven to be that, use now: made if need be."""
        pool = self._pools.get((database, user))
        return pool if pool is not None else self._on_demand(database, user)

    def _on_demand(self, database: str, user: str) -> Pool | None:
        template = self._template(database, user)
        if template is None:
            return None
        key = database, template.user or user
        pool = self._pools.get(key)
        if pool is None:
            pool = self._new(self._settled(template, key))
            self._pools[key] = pool
            if not template.user:
                self.made[self._section(database)] += 1
        return pool

    def _section(self, database: str) -> str:
        """The name of the pool in the configuration that is for ``database``."""
        return database if database in self._named else EVERY_DATABASE

    def _template(self, database: str, user: str) -> Any:
        """What a pool is made by when a client comes; None: by nothing."""
        section = self._section(database)
        configured = self._templates.get(user) if section == EVERY_DATABASE else None
        return configured or self._looked_up.get(section)

    def _settled(self, template: Any, key: _Key) -> Any:
        """The settings for one database and user by their template."""
        database, user = key
        settings = for_user(template, user, self._own.get(key, ()))
        return settings if database in self._named else for_database(settings, database)

    def may_have(self, database: str, user: str | None) -> bool:
        """Whether a pool is made when a client comes to this database, as this user if it is not None."""
        if user is not None:
            return self._template(database, user) is not None
        section = self._section(database)
        return section in self._looked_up or (section == EVERY_DATABASE and bool(self._templates))

    def of_found_users(self) -> Iterator[tuple[str, Pool]]:
        """The pools that users who were looked up have to themselves, with the name of the pool they are found for."""
        for key, pool in list(self._pools.items()):
            if self._is_own(key):
                yield self._section(key[0]), pool

    def _is_own(self, key: _Key) -> bool:
        """Whether a pool is the own one of a user who was looked up: made on demand, by a template without a user."""
        if key in self._wanted:
            return False
        template = self._template(*key)
        return template is not None and not template.user

    def learn_parameters(self, database: str, user: str, parameters: Parameters) -> None:
        """What was looked up with a user: his servers' sessions begin with these from now on; no switch."""
        key = database, user
        if parameters == self._own.get(key, ()):
            return
        if not self._is_own(key):
            return  # he shares a pool, or is configured by now
        if parameters:
            self._own[key] = parameters
        else:
            del self._own[key]
        pool = self._pools.get(key)
        if pool is not None:
            settings = self._settled(self._template(*key), key)
            if settings != pool.settings:
                self._replace(key, settings, "startup_parameters of its user have changed")

    def _replace(self, key: _Key, settings: Any, reason: str) -> None:
        """Have another pool with these settings, None: no other; it stands before waiters are sent to look for it."""
        pool = self._pools.pop(key)
        if open_servers(pool):
            self._leaving.add(pool)
        if settings is not None:
            self._pools[key] = self._heir(pool, settings)
        pool.retire(reason)

    def apply(
        self,
        wanted: Mapping[_Key, Any],
        templates: Mapping[str, Any] | None = None,
        named: Collection[str] = (),
        looked_up: Mapping[str, Any] | None = None,
    ) -> None:
        """Have exactly these pools: unchanged ones stay, the others are retired and, if still wanted, made anew.

        ``templates`` are the settings, by user, for databases that are not ``named``, whose pools are made when a
        client comes; ``looked_up`` those for users who are looked up, by database, EVERY_DATABASE for all not named.
        """
        self._templates = templates or {}
        self._named = named
        self._looked_up = looked_up or {}
        self._wanted = frozenset(wanted)
        wanted = dict(wanted)
        for key in self._pools:
            template = None if key in wanted else self._template(*key)
            if template is not None and template.user in ("", key[1]):
                wanted[key] = self._settled(template, key)
        for key, pool in list(self._pools.items()):
            if wanted.get(key) != pool.settings:
                self._replace(key, wanted.get(key), "configuration was reloaded")
        self._own = {key: own for key, own in self._own.items() if key in self._pools}
        for key, settings in wanted.items():
            if key not in self._pools:
                self._pools[key] = self._new(settings)
        self._leaving = {pool for pool in self._leaving if open_servers(pool)}

    def drop_unused(self, now: float, limit: float, in_use: Callable[[], Collection[Pool]]) -> None:
        """Take pools that were made on demand away, ``limit`` seconds after their last server and client.

        Those that never had a server, since PostgreSQL knows no such database or user, go at once; so do those of users
        who were looked up, unless servers are to be kept open. ``in_use``: the pools that clients have.
        """
        unused = {}
        used: Collection[Pool] | None = None
        for key, pool in list(self._pools.items()):
            if key in self._wanted or pool.paused or pool.elsewhere:
                continue
            if pool.servers or pool.opening.count or pool.queue.waiting:
                continue
            since = unused[key] = self._unused.get(key, now)
            own = self._is_own(key)
            at_once = pool.beginnings.reported is None or (own and not pool.settings.min_pool_size)
            if now < since or (not at_once and now - since < limit):
                continue
            used = in_use() if used is None else used
            if pool in used:
                unused[key] = now + LOOK_INTERVAL if at_once else now
                continue
            del self._pools[key], unused[key]
            self._own.pop(key, None)
            if own:
                self.dropped[self._section(key[0])] += 1
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
            heir.secret = pool.secret
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
