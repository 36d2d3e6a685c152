"""Limits in time for what clients do: a statement, a transaction, idling in one, idling altogether, waiting.

Rules:
1. The data path knows nothing of them. It notes when a statement and a transaction began, for the statistics; that
   is looked at when the next limit may be reached, by a deadline. While every limit is off there is none.
2. Whoever is over a limit is disconnected, as by PgBouncer, and told why in PostgreSQL's words. A server he has is
   condemned first: what runs there is cancelled, and nobody gets it.
3. Nobody is told too early. Lateness is a twentieth of the limit, TICK at least.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from pgdoorman_lib.client.session import Session
from pgdoorman_lib.config.general import General
from pgdoorman_lib.config.units import format_duration
from pgdoorman_lib.errors import TimedOut
from pgdoorman_lib.net.deadlines import Deadline
from pgdoorman_lib.net.syscalls import clock
from pgdoorman_lib.pool.pool import Pool
from pgdoorman_lib.wire import consts
from pgdoorman_lib.wire.messages import notice_response

#: The keys, each with what a client over it is told: SQLSTATE and words are those of PostgreSQL's own limits.
QUERY = "query_timeout"
IDLE_TRANSACTION = "idle_transaction_timeout"
TRANSACTION = "transaction_timeout"
CLIENT_IDLE = "client_idle_timeout"
_WORDS = {
    QUERY: ("57014", "canceling statement due to statement timeout"),
    IDLE_TRANSACTION: ("25P03", "terminating connection due to idle-in-transaction timeout"),
    TRANSACTION: ("25P04", "terminating connection due to transaction timeout"),
    CLIENT_IDLE: ("57P05", "terminating connection due to idle-session timeout"),
}
#: PgBouncer's words for one who waits.
WAITING = notice_response("NOTICE", "00000", "No server connection available in postgres backend, client being queued")

#: Seconds between two looks at least, and the part of the shortest limit that they are apart.
TICK = 0.01
SHARE = 1 / 20
#: Seconds between two rounds over the clients without a server at most, and how many are looked at in one go.
LONGEST = 30.0
PORTION = 500

_NEVER = float("inf")


class Limits:
    """``general`` gives [general] as it is now, ``pools`` all pools with servers, ``clients`` all sessions."""

    def __init__(
        self, general: Callable[[], General], pools: Callable[[], Iterable[Pool]], clients: Iterable[Any]
    ) -> None:
        self._general = general
        self._pools = pools
        self._clients = clients
        self._deadline = Deadline(self._look)
        self._idle_deadline = Deadline(self._look_at_idle)
        #: who was told that he waits, with the beginning of that wait
        self._told: dict[Session, float] = {}
        #: of clients without a server: bytes received from them, and since when there were no more
        self._idle: dict[Session, tuple[int, float]] = {}
        self._next_idle: dict[Session, tuple[int, float]] = {}
        self._round: list[Any] = []

    def changed(self) -> None:
        """Go by what ``general`` gives now; at the start, too."""
        self.close()
        general = self._general()
        if self._shortest(general) < _NEVER:
            _look_in(self._deadline, 0.0)
        if general.client_idle_timeout > 0:
            _look_in(self._idle_deadline, 0.0)

    def close(self) -> None:
        """No limit holds any more."""
        self._deadline.clear()
        self._idle_deadline.clear()
        self._told = {}
        self._idle = {}
        self._next_idle = {}
        self._round = []

    @staticmethod
    def _shortest(general: General) -> float:
        """The shortest limit for those who have a server or wait for one."""
        values = (
            general.query_timeout,
            general.idle_transaction_timeout,
            general.transaction_timeout,
            general.query_wait_notify,
        )
        return min((value for value in values if value > 0), default=_NEVER)

    # Those with a server, and those who wait.

    def _look(self) -> None:
        """Deal with all that is due, and come back when the next may be."""
        general = self._general()
        shortest = self._shortest(general)
        now = clock()
        over: list[tuple[Session, str]] = []
        due = now + shortest  # of what begins from now on
        told: dict[Session, float] = {}
        for pool in self._pools():
            for server in pool.servers:
                session = _session_on(server)
                if session is not None:
                    which, at = _next_limit(session, general)
                    if at <= now:
                        over.append((session, which))
                    elif at < due:
                        due = at
            due = min(due, self._look_at_waiters(pool, general, now, over, told))
        self._told = told
        _look_in(self._deadline, max(due - now, shortest * SHARE))
        for session, which in over:
            _strike(session, which, general)

    def _look_at_waiters(
        self, pool: Pool, general: General, now: float, over: list[tuple[Session, str]], told: dict[Session, float]
    ) -> float:
        """Those in a pool's line, the longest waiting first; when the next of them is due."""
        due = _NEVER
        borrower = pool.queue.first
        while borrower is not None:
            since = borrower.waiting_since
            if isinstance(borrower, Session):
                if general.query_timeout > 0:
                    if since + general.query_timeout <= now:
                        over.append((borrower, QUERY))
                    due = min(due, max(now, since + general.query_timeout))
                if general.query_wait_notify > 0:
                    if self._told.get(borrower) == since:
                        told[borrower] = since
                    elif since + general.query_wait_notify <= now:
                        told[borrower] = since
                        borrower.link.client.write(WAITING)
                    else:
                        due = min(due, since + general.query_wait_notify)
            borrower = borrower.behind
        return due

    # Those without.

    def _look_at_idle(self) -> None:
        """Look at some clients, whether they have no server, and come back for others or a new round."""
        general = self._general()
        limit = general.client_idle_timeout
        if not self._round:
            self._round = list(self._clients)
        portion, self._round = self._round[:PORTION], self._round[PORTION:]
        now = clock()
        over = []
        for session in portion:
            if not isinstance(session, Session) or session.task is None or session.waiting:
                continue
            link = session.link
            if link.server is not None:
                continue
            received, since = self._idle.get(session, (-1, now))
            if received != link.client.received:
                since = now
            elif since + limit <= now:
                over.append(session)
                continue
            self._next_idle[session] = (link.client.received, since)
        if not self._round:
            self._idle, self._next_idle = self._next_idle, {}
        _look_in(self._idle_deadline, 0.0 if self._round else min(LONGEST, limit * SHARE))
        for session in over:
            _strike(session, CLIENT_IDLE, general)


def _look_in(deadline: Deadline, seconds: float) -> None:
    now = clock()
    deadline.set(now + max(TICK, seconds), now)


def _session_on(server: Any) -> Session | None:
    """The session that has borrowed ``server``; None when it rests, or is lent to something of ours."""
    task = server.stream.task
    if server.state != "active" or task is None:
        return None
    return task.pollable if isinstance(task.pollable, Session) else None


def _next_limit(session: Session, general: General) -> tuple[str, float]:
    """Which limit a session with a server reaches first as things are, and when."""
    link = session.link
    replies = link.replies
    which, at = "", _NEVER
    running = bool(replies.count or session.batch.in_batch)
    if running:
        if general.query_timeout > 0:
            which, at = QUERY, link.query_started + general.query_timeout
    elif replies.status == consts.TX_IDLE:
        return which, at  # it only keeps its server
    elif general.idle_transaction_timeout > 0:
        which, at = IDLE_TRANSACTION, link.query_started + general.idle_transaction_timeout
    if general.transaction_timeout > 0 and link.xact_started + general.transaction_timeout < at:
        which, at = TRANSACTION, link.xact_started + general.transaction_timeout
    return which, at


def _strike(session: Session, which: str, general: General) -> None:
    """Disconnect a session that is over its limit; only a deadline may call this."""
    server = session.link.server
    if server is not None:
        server.condemn(f"its client was over {which}")
    sqlstate, words = _WORDS[which]
    limit = format_duration(getattr(general, which))
    session.end(TimedOut(words, detail=f"{which} of the pooler is {limit}.", sqlstate=sqlstate))
