"""The clients of all worker processes, in all and by database, where there are several."""

from __future__ import annotations

from collections.abc import Callable

from pgdoorman_lib.pool.row import Row


class Headcount:
    """``row`` gives the row of the ledger for some words."""

    def __init__(self, row: Callable[..., Row]) -> None:
        self._row = row
        self._all = row("clients")
        #: of databases with clients here
        self._by_database: dict[str, Row] = {}

    @property
    def total(self) -> int:
        """Clients that have logged in."""
        return int(self._all.total())

    def admit(self, limit: int) -> bool:
        """Count one more unless there are ``limit``; whether it counts, and has to ``leave``."""
        return bool(self._all.take(limit))

    def leave(self) -> None:
        """One less."""
        self._all.give_back()

    def count_of(self, database: str) -> int:
        """Clients on ``database``, as clients name it."""
        row = self._by_database.get(database)
        if row is not None:
            return int(row.total())
        row = self._row("database", database)
        try:
            return int(row.total())
        finally:
            row.leave()

    def enter(self, database: str, limit: int) -> bool:
        """Count one more on ``database`` unless there are ``limit`` (0: any number); whether it has to ``exit``."""
        row = self._by_database.get(database) or self._row("database", database)
        if limit and not row.take(limit):
            if not row.held:
                row.leave()
            return False
        if not limit:
            row.add()
        self._by_database[database] = row
        return True

    def exit(self, database: str) -> None:
        """One less on ``database``."""
        row = self._by_database[database]
        row.give_back()
        if not row.held:
            del self._by_database[database]
            row.leave()

    def expect(self, database: str) -> None:
        """Count one whom another process has let in, in all and on ``database``."""
        self._all.add()
        self.enter(database, 0)
