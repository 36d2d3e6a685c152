"""Places counted by one process alone: has the verbs of ``row.Row``, which several share, and nobody else is there."""

from __future__ import annotations

from collections.abc import Callable


class Tally:
    """How many places are taken, here and by a process that is none of the workers."""

    __slots__ = ("elsewhere", "heard", "held")

    #: the number of this process among the workers
    worker = 1

    def __init__(self) -> None:
        self.held = 0
        self.elsewhere = 0
        #: as in Row: nobody calls it
        self.heard: Callable[[], object] | None = None

    def total(self) -> int:
        """As in Row."""
        return self.held + self.elsewhere

    def take(self, limit: int) -> bool:
        """As in Row."""
        if self.total() >= limit:
            return False
        self.held += 1
        return True

    def add(self, number: int = 1) -> None:
        """As in Row."""
        self.held += number

    def give_back(self) -> None:
        """As in Row."""
        if self.held <= 0:
            raise RuntimeError("a place was given back that nobody has taken")
        self.held -= 1

    def set_elsewhere(self, number: int) -> None:
        """As in Row."""
        self.elsewhere = number

    def taken_outside(self) -> int:
        """As in Row."""
        return self.elsewhere

    def line_is(self, waiting: int, since: float) -> None:
        """As in Row: nobody looks."""

    def waiting(self, worker: int) -> int:
        """As in Row."""
        return 0

    def oldest_elsewhere(self) -> float:
        """As in Row."""
        return 0.0

    def ring_holders(self) -> None:
        """As in Row."""

    def leave(self) -> None:
        """As in Row."""
