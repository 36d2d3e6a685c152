"""The clients that are connected: by number for the console, by cancel key for CancelRequest."""

from __future__ import annotations

import hmac
from collections.abc import Iterator

from pgdoorman_lib.auth.entropy import random_bytes
from pgdoorman_lib.client.replication import ReplicationSession
from pgdoorman_lib.client.session import Session
from pgdoorman_lib.wire.consts import PROCESS_BASE, PROTOCOL_3_2

_int = int

#: Bytes of the secret in a cancel key: four in protocol 3.0; PostgreSQL 18 uses 32 with 3.2.
SECRET_3_0 = 4
SECRET_3_2 = 32

#: The largest number of a client: its process id is an int32.
_LAST = 0x7FFFFFFF - PROCESS_BASE


class Clients:
    """All sessions of this process, those of replication clients included."""

    def __init__(self) -> None:
        self._sessions: dict[int, Session | ReplicationSession] = {}
        self._last = 0
        self._by_database: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    def __iter__(self) -> Iterator[Session | ReplicationSession]:
        return iter(list(self._sessions.values()))

    def __contains__(self, number: object) -> bool:
        return number in self._sessions

    @property
    def last(self) -> int:
        """The number given last."""
        return self._last

    def go_on_behind(self, number: _int) -> None:
        """Give numbers behind ``number`` from now on: those up to it are another process's clients'."""
        self._last = number

    def new_key(self, protocol: _int) -> tuple[int, bytes]:
        """A number nobody has, from 1, and a random secret of the length ``protocol`` allows."""
        while True:
            self._last = self._last + 1 if self._last < _LAST else 1
            number = self._last
            if number not in self._sessions:
                return number, random_bytes(SECRET_3_2 if protocol >= PROTOCOL_3_2 else SECRET_3_0)

    @property
    def replicating(self) -> list[ReplicationSession]:
        """The replication clients."""
        return [session for session in self._sessions.values() if isinstance(session, ReplicationSession)]

    def add(self, session: Session | ReplicationSession) -> None:
        """A session begins."""
        database = session.database
        self._sessions[session.id] = session
        self._by_database[database] = self._by_database.get(database, 0) + 1

    def remove(self, session: Session | ReplicationSession) -> None:
        """A session has ended."""
        if self._sessions.pop(session.id, None) is not None:
            database = session.database
            left = self._by_database[database] - 1
            if left:
                self._by_database[database] = left
            else:
                del self._by_database[database]

    def count_of(self, database: str) -> _int:
        """How many sessions are on ``database``, as clients name it."""
        return self._by_database.get(database, 0)

    def by_key(self, process: int, secret: bytes) -> Session | ReplicationSession | None:
        """The session of a cancel key, or None; takes equally long for a wrong secret."""
        session = self._sessions.get(process - PROCESS_BASE)
        if session is None or not hmac.compare_digest(session.secret, secret):
            return None
        return session
