"""The table of counts that workers share."""

from __future__ import annotations


class Ledger:
    """As long as there is none."""

    def __init__(self, count: int) -> None:
        self.count = count

    @classmethod
    def create(cls, count: int) -> Ledger:
        """For so many workers."""
        return cls(count)

    def joined(self, worker: int) -> Ledger:
        """As that worker has it."""
        return self

    def reclaim(self, worker: int) -> None:
        """A worker has died."""
