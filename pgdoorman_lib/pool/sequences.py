"""Programs that ask what a sequence gave them (``lastval``, ``currval``) in a transaction of their own, in one pool.

Rules:
1. Never another's value. ``Server.drawn_by`` tells whose values may be there: one borrower's ``number``, nobody's (0)
   or several ones' (MIXED). Who asks and is not the one has them discarded first.
2. Which programs ask is learnt, by application_name; the others cost nothing and are not kept anywhere.
3. A session of such a program that has inserted keeps its server for a moment, since what it asks next is told only
   there. It gives way: at once to those who wait for more than HURRY when more servers are kept than may be, else after
   HOLD; and it is not kept any more if it has not asked for long (PATIENCE). Those who wait and those who keep are
   counted over all worker processes.
"""

from __future__ import annotations

from typing import Any

from pgdoorman_lib.net.deadlines import Deadline
from pgdoorman_lib.net.syscalls import clock

_int = int
_float = float

#: ``Server.drawn_by`` when it may be several borrowers' values.
MIXED = -1
#: What SHOW calls a server kept for its values.
REASON = "sequence values"
#: Seconds a server is kept, and when others wait who could otherwise have it: a program asks right behind its INSERT.
HOLD = 1.0
HURRY = 0.01
#: Transactions that insert after which a session that never asks is not kept any more.
PATIENCE = 100
#: Names of applications remembered.
MAX_NAMES = 1000


def _program(application_name: str) -> str:
    """Whose name that is, without the address that application_name_add_host has put behind it."""
    return application_name.rpartition(" - ")[0] or application_name


class Sequences:
    """What a pool has learnt, and the sessions that keep their server."""

    __slots__ = ("deadline", "kept", "names", "pool")

    def __init__(self, pool: Any) -> None:
        self.pool = pool
        self.names: set[str] = set()
        #: since when (monotonic seconds), by session
        self.kept: dict[Any, float] = {}
        #: when the longest kept may have to go
        self.deadline = Deadline(self._let_go)
        if pool.pins.row is not None:
            pool.pins.row.heard = self.heard

    def learn(self, name: str) -> bool:
        """An application of this name asks; whether that is new."""
        program = _program(name)
        if program in self.names or len(self.names) >= MAX_NAMES:
            return False
        self.names.add(program)
        return True

    def lent(self, session: Any, server: Any) -> _int:
        """``session`` has just borrowed ``server``: if it may ask, there must be nothing of anybody else."""
        session.drawing = session.in_vain < PATIENCE and _program(session.application_name) in self.names
        session.drew = 0
        session.asked_sequences = 0
        if session.drawing and server.drawn_by != session.number:
            session.forget_sequences()
        return 0

    def take_own(self, borrower: Any) -> Any:
        """Take the idle server that has the values of ``borrower`` and nobody else's off the others, or None."""
        number = borrower.number
        for server in self.pool.queue:
            if server.drawn_by == number:
                self.pool.queue.remove(server)
                return server
        return None

    def over(self, session: Any) -> _int:
        """A transaction of ``session`` is over: it keeps its server for a moment (1), or not (0)."""
        now = clock()
        since = self._drop(session, now)
        asked, drew = session.asked_sequences, session.drew
        session.asked_sequences = 0
        session.drew = 0
        if asked:
            session.in_vain = 0
        elif drew:
            session.in_vain += 1
        if asked or not drew or session.in_vain >= PATIENCE or self.pool.held:
            return 0
        if not self._crowded(1):
            since = now
        elif now - since >= HURRY:
            return 0  # it has had its moment, and inserts on
        self.kept[session] = since
        self._show()
        if self.deadline.due == 0.0 or since < now:
            self._arm(now)
        return 1

    def leave(self, session: Any) -> _int:
        """``session`` does not keep a server any more."""
        self._drop(session, 0.0)
        return 0

    def hurry(self, now: _float) -> _int:
        """Somebody waits for a server, here."""
        self._heard(now)
        row = self.pool.pins.row
        if row is not None and self.pool.queue.waiting == 1:
            row.ring_resting(row.rests_elsewhere())
        return 0

    def heard(self) -> None:
        """Somebody waits for a server in another worker process."""
        self._heard(clock())

    def _heard(self, now: _float) -> None:
        if self.kept:
            self._arm(now)

    def close(self) -> None:
        """The pool is replaced: nothing is kept."""
        self.deadline.clear()
        for session in list(self.kept):
            self._drop(session, 0.0)
            session.let_go()

    def _crowded(self, more: _int) -> bool:
        """Whether somebody waits, and with ``more`` of them more servers are kept or pinned than may be."""
        pool = self.pool
        pins = pool.pins
        if not (pool.queue.waiting or (pool.row is not None and pool.row.turn_of(0.0, clock()))):
            return False
        kept = len(self.kept) + (pins.row.rests_elsewhere() if pins.row is not None else 0)
        return bool(pins.taken() + kept + more > pins.limit)

    def _drop(self, session: Any, default: _float) -> _float:
        """Keep ``session`` no more; since when it was kept, ``default`` if it was not."""
        since = self.kept.pop(session, None)
        if since is None:
            return default
        self._show()
        return since

    def _show(self) -> None:
        """Have the other worker processes see how many are kept here."""
        row = self.pool.pins.row
        if row is not None:
            row.rest_is(len(self.kept))

    def _arm(self, now: _float) -> None:
        """A deadline for the longest kept."""
        if self.kept:
            self.deadline.set(min(self.kept.values()) + (HURRY if self._crowded(0) else HOLD), now)
        else:
            self.deadline.clear()

    def _let_go(self) -> None:
        """Let go of those that are due and idle; who is in a transaction leaves at its end."""
        now = clock()
        for session, since in list(self.kept.items()):
            if now + 0.0005 < since + (HURRY if self._crowded(0) else HOLD):
                continue
            self._drop(session, 0.0)
            session.let_go()
        self._arm(now)
