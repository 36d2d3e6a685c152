"""How many servers the clients of a pool keep between their transactions, at most max_pinned_servers."""

from __future__ import annotations

from pgdoorman_lib.pool.row import Row

_int = int


class Pins:
    """``row`` has the count over all worker processes, and those kept but for a moment as resting; None in one process.

    The row's ``heard`` is for ``pool.sequences``.
    """

    __slots__ = ("limit", "own", "row")

    def __init__(self, limit: _int) -> None:
        self.limit = limit
        #: those of this process
        self.own = 0
        self.row: Row | None = None

    def share(self, row: Row) -> None:
        """Count together with the pools of the same database and user in other workers; right after it was made."""
        self.row = row

    def leave(self) -> None:
        """The pool is at its end: count for no other any more."""
        row, self.row = self.row, None
        if row is not None:
            row.leave()

    def taken(self) -> _int:
        """How many are kept, in all worker processes."""
        return self.own if self.row is None else self.row.total()

    def has_room(self) -> bool:
        """Whether one more may be kept."""
        return self.taken() < self.limit

    def take(self) -> bool:
        """Count one more if it may be kept; whether it counts, and has to be given back."""
        if self.row is None:
            if self.own >= self.limit:
                return False
        elif not self.row.take(self.limit):
            return False
        self.own += 1
        return True

    def add(self) -> None:
        """Count one more that is kept already."""
        self.own += 1
        if self.row is not None:
            self.row.add()

    def give_back(self) -> None:
        """One less is kept."""
        self.own -= 1
        if self.row is not None:
            self.row.give_back()
