"""The clients that are connected: by number for the console, by cancel key for CancelRequest.

Which numbers there are to give stands in ``wire.cancel_keys``.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterable, Iterator

from pgdoorman_lib.auth.entropy import random_bytes
from pgdoorman_lib.client.replication import ReplicationSession
from pgdoorman_lib.client.session import Session
from pgdoorman_lib.errors import TooManyClients
from pgdoorman_lib.wire.cancel_keys import first_of, peer_of, space_of
from pgdoorman_lib.wire.consts import PROCESS_BASE, PROTOCOL_3_2

_int = int

#: Bytes of the secret in a cancel key: four in protocol 3.0; PostgreSQL 18 uses 32 with 3.2.
SECRET_3_0 = 4
SECRET_3_2 = 32


class Clients:
    """All sessions of this process, those of replication clients included.

    Of ``workers`` processes of one pooler this is the one of number ``worker`` (from 1); 0: there is one alone.
    """

    def __init__(self, worker: _int = 0, workers: _int = 1) -> None:
        self._sessions: dict[int, Session | ReplicationSession] = {}
        self._by_database: dict[str, int] = {}
        self._by_user: dict[str, int] = {}
        self.be_one_of_several(worker, workers)
        #: peer_id; where the pooler's numbers begin, and how many there are
        self.peer = 0
        self._first = 0
        self._space = space_of(0)
        #: called with the number of each session that is here no more
        self.on_end: Callable[[int], object] | None = None
        #: numbers in use that no session here has
        self._reserved: set[int] = set()

    def be_one_of_several(self, worker: _int, workers: _int) -> None:
        """Give the numbers of this worker, before any was given; as for the constructor."""
        self.worker = worker
        self._workers = workers
        #: what this worker's numbers leave when divided by ``workers``
        self._rest = max(worker, 1) - 1
        #: the number given last, counted from where the pooler's begin
        self._last = self._rest

    def __len__(self) -> int:
        return len(self._sessions)

    def __iter__(self) -> Iterator[Session | ReplicationSession]:
        return iter(list(self._sessions.values()))

    def __contains__(self, number: object) -> bool:
        return number in self._sessions

    def use_peer(self, peer: _int) -> None:
        """Give out the numbers of the pooler with this peer_id from now on, 0: without one."""
        self.peer = peer
        self._first = first_of(peer)
        self._space = space_of(peer)

    @property
    def last(self) -> int:
        """The number given last, counted from where the pooler's begin."""
        return self._last

    def go_on_behind(self, last: _int, left: _int) -> None:
        """Give numbers behind ``last`` of another process from now on, which has ``left`` more to give.

        What its clients have by now is to be reserved.
        """
        last = (last + min(left, self._space // 2)) % self._space
        self._last = last - last % self._workers + self._rest

    def reserve(self, numbers: Iterable[int]) -> None:
        """Give none of these out, which others have: consoles, clients that are with other processes."""
        self._reserved.update(numbers)

    def release(self, numbers: Iterable[int]) -> None:
        """Nobody else has these any more."""
        self._reserved.difference_update(numbers)

    def numbers(self) -> list[int]:
        """All that are in use, those that are reserved included."""
        return [*self._sessions, *self._reserved]

    def new_key(self, protocol: _int) -> tuple[int, bytes]:
        """A number nobody has, from 1, and a random secret of the length ``protocol`` allows.

        TooManyClients when this worker has no number left.
        """
        for _ in range(self._space // self._workers):
            self._last += self._workers
            if self._last >= self._space:
                self._last = self._workers + self._rest
            number = self._first + self._last
            if number not in self._sessions and not (self._reserved and number in self._reserved):
                return number, random_bytes(SECRET_3_2 if protocol >= PROTOCOL_3_2 else SECRET_3_0)
        raise TooManyClients("sorry, too many clients already: there is no number left for one more")

    def owner_of(self, process: _int) -> tuple[int, int]:
        """(peer, worker) that have given out this process id; 0: none with a number of its own.

        The client may have moved to another worker since, and anybody may invent a process id.
        """
        number = process - PROCESS_BASE
        if number <= 0:
            return 0, 0
        return (peer_of(process) if self.peer else 0), (number % self._space % self._workers + 1 if self.worker else 0)

    @property
    def replicating(self) -> list[ReplicationSession]:
        """The replication clients."""
        return [session for session in self._sessions.values() if isinstance(session, ReplicationSession)]

    def add(self, session: Session | ReplicationSession) -> None:
        """A session begins."""
        self._sessions[session.id] = session
        if self._reserved:
            self._reserved.discard(session.id)
        _count(self._by_database, session.database, 1)
        _count(self._by_user, session.user, 1)

    def remove(self, session: Session | ReplicationSession) -> None:
        """A session has ended."""
        if self._sessions.pop(session.id, None) is not None:
            _count(self._by_database, session.database, -1)
            _count(self._by_user, session.user, -1)
            if self.on_end is not None:
                self.on_end(session.id)

    def count_of(self, database: str) -> _int:
        """How many sessions are on ``database``, as clients name it."""
        return self._by_database.get(database, 0)

    def count_of_user(self, user: str) -> _int:
        """How many sessions are a user's, by the name that he has logged in as."""
        return self._by_user.get(user, 0)

    def by_key(self, process: int, secret: bytes) -> Session | ReplicationSession | None:
        """The session of a cancel key, or None; takes equally long for a wrong secret."""
        session = self._sessions.get(process - PROCESS_BASE)
        if session is None or not hmac.compare_digest(session.secret, secret):
            return None
        return session


def _count(counts: dict[str, int], name: str, change: _int) -> None:
    """So many more of ``name``, or less; what there are none of is not kept."""
    left = counts.get(name, 0) + change
    if left:
        counts[name] = left
    else:
        del counts[name]
