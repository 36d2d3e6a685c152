"""What the pools of one database share: knowledge of its objects, which DDL seen in any of them makes old.

In several worker processes each has a ``Database`` of its own. What makes it old is counted in the ledger (``row``)
before whoever has done it is told, and each looks there before it goes through what a client has sent (``catch_up``):
who was told of DDL, or by somebody who was, finds that any worker knows of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakSet, WeakValueDictionary

from pgdoorman_lib.pool.row import OBJECTS, TEXTS, Row
from pgdoorman_lib.wire.statements import Registry


class Database:
    """One database of one PostgreSQL server, as long as any pool of it lives."""

    __slots__ = ("__weakref__", "_objects", "_texts", "address", "catalogue", "registries", "row")

    def __init__(self, catalogue: Any = None) -> None:
        #: what is known of its objects (``pool.catalogue.Catalogue``); None where nobody asks for it
        self.catalogue = catalogue
        #: where a server has come from or was looked at last, None before there was one (``server.hosts.address_of``)
        self.address: Any = None
        #: the shared statements of its pools; a pool that was replaced leaves with its last client
        self.registries: WeakSet[Registry] = WeakSet()
        #: what all worker processes have of it together, None in one process; and how much of that is known here
        self.row: Row | None = None
        self._texts = 0
        self._objects = 0

    def share(self, row: Row) -> None:
        """Hear of what other worker processes see, and tell what is seen here; right after it was made."""
        self.row = row
        self._texts = row.announced(TEXTS)
        self._objects = row.announced(OBJECTS)

    def catch_up(self) -> None:
        """Know what other worker processes have seen; ``row`` is there."""
        row: Any = self.row
        texts = row.announced(TEXTS)
        objects = row.announced(OBJECTS)
        if texts != self._texts:
            self._texts = texts
            self._forget_statements()
        if objects != self._objects:
            self._objects = objects
            self._doubt()

    def join(self, registry: Registry) -> None:
        """One more pool's statements."""
        self.registries.add(registry)

    def forget_statements(self) -> None:
        """What was parsed so far may mean something else by now: nobody who parses the same is given it any more."""
        if self.row is not None:
            self.row.announce(TEXTS)
            self._texts += 1  # not all there is: another's may be among it
        self._forget_statements()

    def _forget_statements(self) -> None:
        for registry in list(self.registries):
            registry.forget()

    def ddl_seen(self, enabling: bool) -> None:
        """Objects were made, changed or dropped: when the statement's tag came, and once more when it was committed.

        ``enabling``: they may leave something behind where they are used.
        """
        self.forget_statements()
        if enabling:
            self.doubt()

    def moved_to(self, address: Any) -> None:
        """A server at ``address`` comes, where there was none: what is known from another may not hold there."""
        if self.address is not None:
            self.ddl_seen(enabling=True)
        self.address = address

    def doubt(self) -> None:
        """What the catalogue says may be old."""
        self.objects_moved()
        self._doubt()

    def objects_moved(self) -> None:
        """Have other worker processes doubt it, too."""
        if self.row is not None:
            self.row.announce(OBJECTS)
            self._objects += 1

    def _doubt(self) -> None:
        if self.catalogue is not None:
            self.catalogue.doubt()


class Databases:
    """All of them; pools come and go with reloads, the database they share stays.

    ``share`` makes a new one, of (host, port, name), one with those of other worker processes, if there are any.
    """

    def __init__(
        self, make_catalogue: Callable[[], Any], share: Callable[[Database, tuple[str, int, str]], None] | None = None
    ) -> None:
        self._make_catalogue = make_catalogue
        self._share = share
        self._known: WeakValueDictionary[tuple[str, int, str], Database] = WeakValueDictionary()

    def of(self, settings: Any) -> Database:
        """The database that a pool with these settings is of."""
        key = (settings.server_host, settings.server_port, settings.server_database)
        database = self._known.get(key)
        if database is None:
            database = Database(self._make_catalogue())
            if self._share is not None:
                self._share(database, key)
            self._known[key] = database
        return database
