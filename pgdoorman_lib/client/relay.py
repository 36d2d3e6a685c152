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
from pgdoorman_lib.client.link import Link, Owner
from pgdoorman_lib.client.measures import FAIRNESS
from pgdoorman_lib.client.prepared import PreparedStatements
from pgdoorman_lib.client.reports import Reports
from pgdoorman_lib.client.requests import Requests
from pgdoorman_lib.client.responses import Responses
from pgdoorman_lib.client.sqlprepare import SqlPrepare
from pgdoorman_lib.client.texts import Texts
from pgdoorman_lib.client.unnamed import UnnamedStatement
from pgdoorman_lib.client.without_server import WithoutServer
from pgdoorman_lib.metrics.counters import LinkStats
from pgdoorman_lib.net.stream import HIGH_WATER, Stream
from pgdoorman_lib.wire import consts

_int = int

#: Relays whose sessions are over that may wait for others: making one and letting it go is a good part of a login.
MOST_AT_REST = 64
_at_rest: list[Relay] = []


def relay_for(owner: Owner, client: Stream) -> Relay:
    """One for a session that begins."""
    stats = LinkStats()
    if not _at_rest:
        return Relay(Link(owner, client, stats))
    relay = _at_rest.pop()
    relay.link.begin(owner, client, stats)
    return relay


class Relay:
    """A client, the server it has borrowed if any, and everything between them, put together."""

    __slots__ = (
        "batch",
        "client_end",
        "errands",
        "leftovers",
        "link",
        "reports",
        "requests",
        "responses",
        "texts",
        "without_server",
    )

    def __init__(self, link: Link) -> None:
        self.link = link
        self.batch = link.batch
        self.errands = Errands(link)
        deployment = Deployment(link)
        self.texts = Texts(link, self.errands, deployment)
        sqlprepare = SqlPrepare(link, deployment, self.texts)
        unnamed = UnnamedStatement(link, deployment, self.texts, sqlprepare)
        prepared = PreparedStatements(link, deployment, self.texts, sqlprepare, unnamed)
        self.leftovers = Leftovers(link, self.errands, self.texts)
        self.reports = Reports(link)
        self.client_end = ClientEnd(link)
        self.without_server = WithoutServer(link, self.leftovers)
        self.requests = Requests(
            link, self.texts, sqlprepare, unnamed, prepared, self.leftovers, self.client_end, self.without_server
        )
        self.responses = Responses(
            link, self.errands, sqlprepare, prepared, self.reports, ErrorResponses(link, self.errands, prepared)
        )

    def rest(self) -> None:
        """Its session is over, and nobody has that any more: be there for another."""
        if len(_at_rest) < MOST_AT_REST:
            self.link.rest()
            self.errands.forget()
            self.texts.forget()
            self.leftovers.forget()
            self.client_end.wait_no_more()
            self.without_server.forget()
            _at_rest.append(self)

    def step(self) -> _int:
        """Do everything that can be done now: PENDING, or an event that is the session's to deal with."""
        link = self.link
        batch = self.batch
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
