"""A session's own statements on the server it has borrowed, whose answers its client never sees.

They put the client's parameters in effect, and take back what must not act where they are nobody's. The client's next
message waits until they are done. What refuses them is told here from what ends the session.
"""

from __future__ import annotations

from typing import Any

from pgdoorman_lib.client import events
from pgdoorman_lib.client.relay import Relay
from pgdoorman_lib.net.stream import Stream
from pgdoorman_lib.wire import consts, messages
from pgdoorman_lib.wire.baseline import UNKNOWN, Base
from pgdoorman_lib.wire.owed import QUERY, SWALLOW
from pgdoorman_lib.wire.settings import AT_REST, PLANNING, Settings

_int = int

#: A cancel request has hit a statement, or a timeout.
QUERY_CANCELED = "57014"
#: In front of a statement, in the same message: it may take its time.
PATIENTLY = "SET LOCAL statement_timeout = 0; "


class Errands(Relay):
    """A relay that sends statements of its own."""

    __slots__ = ("base",)

    def init_errands(self, client: Stream, stats: Any) -> None:
        """As ``init_borrower``."""
        self.init_relay(client, stats)
        #: the defaults the session began with, as far as they are known
        self.base: Base = UNKNOWN

    def own_answered(self) -> None:
        """As in Relay."""
        self.batch.errand = None
        self.batch.replaced = None

    def _rebase(self, base: Base) -> None:
        """The server began with other defaults: those that the client began with are settings of its own there."""
        mine = self.base
        self.base = base
        extra = mine.difference(base)
        if not extra and not self.startup.values:
            return
        startup = self.startup.over(extra).values
        settings = self.settings.over(extra).values
        # What this server has anyway need not be set, unless statements are told apart by it.
        # Lists, here and below: Cython makes no closures in methods of ours.
        there = [
            name
            for name in mine.owned | base.owned
            if name not in PLANNING and name in startup and startup[name] == settings.get(name) == base.value(name)
        ]
        self.startup = Settings.of(startup).without(tuple(there))
        self.settings = Settings.of(settings).without(tuple(there))

    def _apply(self) -> None:
        """Put the client's parameters in effect on its server: what it sends waits until they are."""
        server = self.server
        if server.base is not self.base:
            self._rebase(server.base)
        present = server.applied
        if present is self.settings:
            return
        sql = self.settings.sql_from(present)
        server.applied = self.settings
        if sql:
            self._ask_server(sql)
            self.batch.replaced = present

    def _ask_server(self, sql: str) -> None:
        """Send a query of our own, whose answer the client does not see and which it has to wait for."""
        batch = self.batch
        server = self.server
        server.stream.write(messages.query(sql.encode(errors="surrogateescape")))
        server.replies.add(QUERY | SWALLOW)
        server.statements.unnamed = None  # every simple query drops it
        batch.settling = 1
        batch.errand = sql
        batch.replaced = None

    def refused(self) -> _int:
        """As in Relay: try again what a late cancel request or a small statement_timeout has hit, and do without a
        customized option that a library on this server does not take, as PostgreSQL does when it loads it.
        """
        batch = self.batch
        assert self.refusal is not None
        fields = messages.parse_fields(self.refusal)
        sqlstate = fields.get("C", "")
        errand = batch.errand
        replaced = batch.replaced
        if sqlstate == QUERY_CANCELED:
            if self.replies.status == consts.TX_FAILED:
                self.refusal = None
                return events.PENDING  # the client's transaction has failed by it, as by a cancel that comes in time
            if errand and self.replies.status == consts.TX_IDLE:
                self.refusal = None
                self._ask_server(PATIENTLY + errand)
                batch.errand = None  # not a third time
                batch.replaced = replaced
                return events.PENDING
        if replaced is None:
            return events.SERVER_FAULT
        name = self.settings.refused(sqlstate, fields.get("M", ""))
        if name is None:
            return events.SERVER_FAULT
        self.refusal = None
        self.server.applied = replaced
        self.settings = self.settings.without((name,))
        self.startup = self.startup.without((name,))
        self.client.write(messages.notice_response("WARNING", sqlstate, fields.get("M", ""), detail=fields.get("D")))
        self._apply()
        return events.PENDING

    def _calm(self) -> None:
        """Take back what would act on the server while it rests, or is another's."""
        server = self.server
        self._ask_server("; ".join([f"RESET {name}" for name in AT_REST]))
        server.applied = server.applied.without(AT_REST)
        self.batch.announcing = 1
