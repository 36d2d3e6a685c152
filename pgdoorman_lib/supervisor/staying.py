"""The clients that stay with the old process of an upgrade, and the servers that are kept there for them."""

from __future__ import annotations

from collections.abc import Iterable

from pgdoorman_lib.client import handover as clients
from pgdoorman_lib.client.connection import Connection
from pgdoorman_lib.client.session import Session
from pgdoorman_lib.pool.holding import open_servers
from pgdoorman_lib.pool.pool import Pool


class Staying:
    """Sessions that can't go, or that the new process does not want, in ``worker`` of ``workers`` old processes."""

    def __init__(self, worker: int = 1, workers: int = 1) -> None:
        self._worker = worker
        self._workers = workers
        self._sessions: set[Session] = set()
        self._count_of: dict[tuple[str, str], int] = {}

    def __contains__(self, session: Session) -> bool:
        return session in self._sessions

    def add(self, session: Session) -> None:
        """One more, unless it is among them."""
        if session not in self._sessions:
            self._sessions.add(session)
            settings = session.link.pool.settings  # its user need not be the client's
            key = settings.database, settings.user
            self._count_of[key] = self._count_of.get(key, 0) + 1

    def find(self, connections: Iterable[Connection]) -> list[tuple[Session, str]]:
        """Add those that can't go whenever they are asked; these, and why."""
        found = []
        for connection in connections:
            session = connection.session
            if isinstance(session, Session) and (reason := clients.hindrance(session)):
                found.append((session, reason))
                self.add(session)
        return found

    def kept(self, pool: Pool) -> int:
        """How many servers of ``pool`` are kept for them."""
        return min(self._count_of.get((pool.settings.database, pool.settings.user), 0), self.most_kept(pool))

    def room(self, pool: Pool) -> int:
        """How many servers ``pool`` may have in this process: those it has, and those kept for them.

        Beyond what it has only where no other pool may have taken the place (``pool.quota``).
        """
        number = open_servers(pool)
        return number if pool.quota is not None else max(number, min(self.kept(pool), pool.size))

    def most_kept(self, pool: Pool) -> int:
        """How many servers of a pool may be kept for clients that stay: this process's part of half of them."""
        each, more = divmod(int(pool.settings.pool_size) // 2, self._workers)
        return each + (self._worker <= more)
