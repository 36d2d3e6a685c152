"""The console's clients that are connected, and the totals of what they have asked."""

from __future__ import annotations

from collections.abc import Iterator

from pgdoorman_lib.metrics.counters import PoolStats
from pgdoorman_lib.views import ListedClient


class Consoles:
    """All console sessions of this process; ``stats`` counts each command as a query and a transaction."""

    def __init__(self) -> None:
        self._sessions: dict[int, ListedClient] = {}
        self.stats = PoolStats()

    def __iter__(self) -> Iterator[ListedClient]:
        return iter(list(self._sessions.values()))

    def __contains__(self, number: object) -> bool:
        return number in self._sessions

    def __len__(self) -> int:
        return len(self._sessions)

    def add(self, number: int, session: ListedClient) -> None:
        """A session begins; ``number`` is no other client's."""
        self._sessions[number] = session
        self.stats.client_login_count += 1

    def remove(self, number: int) -> None:
        """A session has ended."""
        self._sessions.pop(number, None)
