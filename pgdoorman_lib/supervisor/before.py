"""Servers that workers of the program before this one still have: they count here even when one dies that counted them.

Each old worker has an heir among ours, which counts what it has (``heirs``). When that one dies the old worker goes on
with another; until it has told that one, what the dead one counted is counted on by the supervisor.
"""

from __future__ import annotations

from pgdoorman_lib.pool.ledger import Ledger


class Before:
    """The old workers, by their numbers there, and who counts for each; ``ledger`` is the supervisor's."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        #: by the old worker: those of ours that live and were made its heirs, and the last one that counts for it
        self._heirs: dict[int, set[int]] = {}
        self._counting: dict[int, int] = {}
        #: old workers whose heir has died, and no other counts yet
        self._orphaned: set[int] = set()

    def given(self, number: int, worker: int) -> None:
        """``worker`` was made the heir of old worker ``number``."""
        self._heirs.setdefault(number, set()).add(worker)

    def counted(self, number: int, worker: int) -> None:
        """``worker`` counts what old worker ``number`` has; one that has died meanwhile counts nothing."""
        if worker not in self._heirs.get(number, ()):
            return
        self._counting[number] = worker
        self._orphaned.discard(number)
        if not self._orphaned:
            self._ledger.let_go()

    def died(self, worker: int) -> None:
        """One of ours has died; ``bury`` follows."""
        for number, heirs in self._heirs.items():
            if worker in heirs:
                heirs.remove(worker)
                if self._counting.get(number, worker) == worker:
                    self._counting.pop(number, None)
                    self._orphaned.add(number)

    def bury(self, worker: int) -> None:
        """Give the places of one that has died back, but not those of old workers for whom nobody else counts."""
        self._ledger.reclaim(worker, bool(self._orphaned))

    def ended(self) -> None:
        """The program before this one has ended."""
        self._heirs.clear()
        self._counting.clear()
        self._orphaned.clear()
        self._ledger.let_go()
