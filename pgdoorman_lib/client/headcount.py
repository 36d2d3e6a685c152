"""The clients of all worker processes, in all, by database and by user, where there are several."""

from __future__ import annotations

from collections.abc import Callable

from pgdoorman_lib.pool.row import Row

#: What clients are counted by, beside all of them: the database, or the user, that they have logged in to, or as.
DATABASE = "database"
USER = "clients of user"


class Headcount:
    """``row`` gives the row of the ledger for some words."""

    def __init__(self, row: Callable[..., Row]) -> None:
        self._row = row
        self._all = row("clients")
        #: of what has clients here: what it is, and its name
        self._rows: dict[tuple[str, str], Row] = {}

    @property
    def total(self) -> int:
        """Clients that have logged in."""
        return int(self._all.total())

    def admit(self, limit: int) -> bool:
        """Count one more unless there are ``limit``; whether it counts, and has to ``leave``."""
        return bool(self._all.take(limit))

    def expect(self) -> None:
        """Count one whom another process has let in."""
        self._all.add()

    def leave(self) -> None:
        """One less."""
        self._all.give_back()

    def count_of(self, kind: str, name: str) -> int:
        """Clients of a database or user, ``kind``, as clients name it."""
        row = self._rows.get((kind, name))
        if row is not None:
            return int(row.total())
        row = self._row(kind, name)
        try:
            return int(row.total())
        finally:
            row.leave()

    def enter(self, kind: str, name: str, limit: int = 0) -> bool:
        """Count one more there unless there are ``limit`` (0: any number); whether it has to ``exit``."""
        row = self._rows.get((kind, name)) or self._row(kind, name)
        if limit and not row.take(limit):
            if not row.held:
                row.leave()
            return False
        if not limit:
            row.add()
        self._rows[kind, name] = row
        return True

    def exit(self, kind: str, name: str) -> None:
        """One less there."""
        row = self._rows[kind, name]
        row.give_back()
        if not row.held:
            del self._rows[kind, name]
            row.leave()
