"""Moving messages between a client and the server it has borrowed, and knowing when the server is free again.

Rules:
1. Nothing here switches greenlets, waits or raises on account of a peer: each step does what can be done now and
   returns a status. Whoever polls the session calls ``step`` and decides.
2. A server is free when nothing is owed, the last ReadyForQuery said idle, the client's batch is closed, and no message
   is half sent.
"""

from __future__ import annotations

from pgdoorman_lib.client import events
from pgdoorman_lib.client.client_end import ClientEnd
from pgdoorman_lib.client.deployment import Deployment
from pgdoorman_lib.client.errands import Errands
from pgdoorman_lib.client.error_responses import ErrorResponses
from pgdoorman_lib.client.leftovers import Leftovers
from pgdoorman_lib.client.link import Link, Turn
from pgdoorman_lib.client.measures import FAIRNESS
from pgdoorman_lib.client.prepared import PreparedStatements
from pgdoorman_lib.client.reports import Reports
from pgdoorman_lib.client.requests import Requests
from pgdoorman_lib.client.responses import Responses
from pgdoorman_lib.client.sqlprepare import SqlPrepare
from pgdoorman_lib.client.texts import Texts
from pgdoorman_lib.client.unnamed import UnnamedStatement
from pgdoorman_lib.client.without_server import WithoutServer
from pgdoorman_lib.net.stream import HIGH_WATER
from pgdoorman_lib.wire import consts

_int = int

#: Relays at rest that are kept. A client that rests has none: that would be a third of the memory it takes, and who has
#: something to do finds what others have just used in the processor's caches.
MOST_AT_REST = 256
_at_rest: list[Relay] = []


def relay_for(link: Link) -> Relay:
    """One to serve ``link``, until ``rest``."""
    relay = _at_rest.pop() if _at_rest else Relay()
    relay.turn.take(link)
    return relay


class Relay:
    """Everything between a client and the server it has borrowed, put together, for who has something to do."""

    __slots__ = (
        "client_end",
        "errands",
        "leftovers",
        "reports",
        "requests",
        "responses",
        "texts",
        "turn",
        "without_server",
    )

    def __init__(self) -> None:
        self.turn = turn = Turn()
        self.errands = Errands(turn)
        deployment = Deployment(turn)
        self.texts = Texts(turn, self.errands, deployment)
        sqlprepare = SqlPrepare(turn, deployment, self.texts)
        unnamed = UnnamedStatement(turn, deployment, self.texts, sqlprepare)
        prepared = PreparedStatements(turn, deployment, self.texts, sqlprepare, unnamed)
        self.leftovers = Leftovers(turn, self.errands, self.texts)
        self.reports = Reports(turn)
        self.client_end = ClientEnd(turn)
        self.without_server = WithoutServer(turn, self.leftovers)
        self.requests = Requests(
            turn, self.texts, sqlprepare, unnamed, prepared, self.leftovers, self.client_end, self.without_server
        )
        self.responses = Responses(
            turn, self.errands, sqlprepare, prepared, self.reports, ErrorResponses(turn, self.errands, prepared)
        )

    def is_done(self) -> bool:
        """Whether nothing is left of what the client has said, and it waits for nothing."""
        return not (self.without_server.discarding or self.client_end.deadline is not None)

    def rest(self) -> None:
        """Who had it has nothing to do any more, and forgets it: be there for another."""
        self.turn.end()
        if len(_at_rest) < MOST_AT_REST:
            self.errands.forget()
            self.texts.forget()
            self.leftovers.forget()
            self.without_server.forget()
            _at_rest.append(self)

    def step(self) -> _int:
        """Do everything that can be done now: PENDING, or an event that is the session's to deal with."""
        link = self.turn.link
        batch = self.turn.batch
        rounds = 0
        while True:
            if link.srv is not None:
                if link.srv.has_news():
                    status = self.responses.pump_server()
                    if status:
                        return status
                if batch.settling:
                    # Nothing of the client's may run before its parameters are known to be in effect.
                    if link.replies.count:
                        return events.PENDING
                    batch.settling = 0
                    self.errands.own_answered()
                    if batch.announcing:
                        batch.announcing = 0
                        if link.replies.status == consts.TX_IDLE and link.by_transaction:
                            return events.RELEASE  # that was all: the client's transaction is over
                    if batch.examining:
                        status = self.leftovers.examined()
                        if status:
                            return status
                        continue
                    if link.server.reported is not link.told:
                        self.reports.tell()
            if not link.terminated and link.client.has_news():
                status = self.requests.pump_client()
                if status:
                    return status
            if link.terminated:
                if link.half_closed and (link.overdue or link.client.is_lost()):
                    return events.CLIENT_GONE  # nobody is there to read the answers
                if link.srv is None or link.replies.count == 0 or batch.in_batch or link.replies.copy_in:
                    # What was sent before Terminate has been carried out, as PostgreSQL would; a batch without its Sync
                    # is rolled back.
                    return events.TERMINATE
            if link.srv is None or not link.srv.readable or link.client.out_pending >= HIGH_WATER:
                return events.PENDING
            rounds += 1
            if rounds >= FAIRNESS:
                link.owner.task.engine.again(link.owner.task)
                return events.PENDING
