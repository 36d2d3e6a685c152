"""What the pools of one database share: knowledge of its objects, which DDL seen in any of them makes old."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakSet, WeakValueDictionary

from pgdoorman_lib.wire.statements import Registry


class Database:
    """One database of one PostgreSQL server, as long as any pool of it lives."""

    __slots__ = ("__weakref__", "catalogue", "registries")

    def __init__(self, catalogue: Any = None) -> None:
        #: what is known of its objects (``pool.catalogue.Catalogue``); None where nobody asks for it
        self.catalogue = catalogue
        #: the shared statements of its pools; a pool that was replaced leaves with its last client
        self.registries: WeakSet[Registry] = WeakSet()

    def join(self, registry: Registry) -> None:
        """One more pool's statements."""
        self.registries.add(registry)

    def forget_statements(self) -> None:
        """What was parsed so far may mean something else by now: nobody who parses the same is given it any more."""
        for registry in list(self.registries):
            registry.forget()

    def ddl_seen(self, enabling: bool) -> None:
        """Objects were made, changed or dropped: when the statement's tag came, and once more when it was committed.

        ``enabling``: they may leave something behind where they are used.
        """
        self.forget_statements()
        if enabling:
            self.doubt()

    def doubt(self) -> None:
        """What the catalogue says may be old."""
        if self.catalogue is not None:
            self.catalogue.doubt()


class Databases:
    """All of them; pools come and go with reloads, the database they share stays."""

    def __init__(self, make_catalogue: Callable[[], Any]) -> None:
        self._make_catalogue = make_catalogue
        self._known: WeakValueDictionary[tuple[str, int, str], Database] = WeakValueDictionary()

    def of(self, settings: Any) -> Database:
        """The database that a pool with these settings is of."""
        key = (settings.server_host, settings.server_port, settings.server_database)
        database = self._known.get(key)
        if database is None:
            database = Database(self._make_catalogue())
            self._known[key] = database
        return database
