"""A session's own statements on the server it has borrowed, whose answers its client never sees.

They put the client's parameters in effect, and take back what must not act where they are nobody's. The client's next
message waits until they are done. What refuses them is told here from what ends the session.
"""

from __future__ import annotations

from pgdoorman_lib.client import events
from pgdoorman_lib.client.link import Turn
from pgdoorman_lib.wire import consts, messages
from pgdoorman_lib.wire.baseline import Base
from pgdoorman_lib.wire.owed import QUERY, SWALLOW
from pgdoorman_lib.wire.settings import AT_REST, PLANNING, Settings

_int = int

#: A cancel request has hit a statement, or a timeout.
QUERY_CANCELED = "57014"
#: In front of a statement, in the same message: it may take its time.
PATIENTLY = "SET LOCAL statement_timeout = 0; "


class Errands:
    """Sends statements of the session's own, one at a time."""

    __slots__ = ("refusal", "turn")

    def __init__(self, turn: Turn) -> None:
        self.turn = turn
        self.forget()

    def forget(self) -> None:
        """As before anybody has anything to do with it."""
        #: body of the ErrorResponse to something we sent on our own account
        self.refusal: bytes | None = None

    def own_answered(self) -> None:
        """What was sent on our own account has been answered, and was not refused."""
        self.turn.batch.errand = None
        self.turn.batch.replaced = None

    def _rebase(self, base: Base) -> None:
        """The server began with other defaults: those that the client began with are settings of its own there."""
        link = self.turn.link
        mine = link.base
        link.base = base
        extra = mine.difference(base)
        if not extra and not link.startup.values:
            return
        startup = link.startup.over(extra).values
        settings = link.owner.settings.over(extra).values
        # What this server has anyway need not be set, unless statements are told apart by it.
        # Lists, here and below: Cython makes no closures in methods of ours.
        there = [
            name
            for name in mine.owned | base.owned
            if name not in PLANNING and name in startup and startup[name] == settings.get(name) == base.value(name)
        ]
        link.startup = Settings.of(startup).without(tuple(there))
        link.owner.settings = Settings.of(settings).without(tuple(there))

    def apply(self) -> None:
        """Put the client's parameters in effect on its server: what it sends waits until they are."""
        link = self.turn.link
        server = link.server
        if server.base is not link.base:
            self._rebase(server.base)
        present = server.applied
        if present is link.owner.settings:
            return
        sql = link.owner.settings.sql_from(present)
        server.applied = link.owner.settings
        if sql:
            self.ask_server(sql)
            self.turn.batch.replaced = present

    def ask_server(self, sql: str) -> None:
        """Send a query of our own, whose answer the client does not see and which it has to wait for."""
        batch = self.turn.batch
        server = self.turn.link.server
        server.stream.write(messages.query(sql.encode(errors="surrogateescape")))
        server.replies.add(QUERY | SWALLOW)
        server.statements.unnamed = None  # every simple query drops it
        batch.settling = 1
        batch.errand = sql
        batch.replaced = None

    def refused(self) -> _int:
        """The server has refused what was sent on our own account: PENDING if the session goes on, else SERVER_FAULT.

        What a late cancel request or a small statement_timeout has hit is tried again, and a customized option done
        without that a library on this server does not take, as PostgreSQL does when it loads it.
        """
        link = self.turn.link
        batch = self.turn.batch
        assert self.refusal is not None
        fields = messages.parse_fields(self.refusal)
        sqlstate = fields.get("C", "")
        errand = batch.errand
        replaced = batch.replaced
        if sqlstate == QUERY_CANCELED:
            if link.replies.status == consts.TX_FAILED:
                self.refusal = None
                return events.PENDING  # the client's transaction has failed by it, as by a cancel that comes in time
            if errand and link.replies.status == consts.TX_IDLE:
                self.refusal = None
                self.ask_server(PATIENTLY + errand)
                batch.errand = None  # not a third time
                batch.replaced = replaced
                return events.PENDING
        if replaced is None:
            return events.SERVER_FAULT
        name = link.owner.settings.refused(sqlstate, fields.get("M", ""))
        if name is None:
            return events.SERVER_FAULT
        self.refusal = None
        link.server.applied = replaced
        link.owner.settings = link.owner.settings.without((name,))
        link.startup = link.startup.without((name,))
        link.client.write(messages.notice_response("WARNING", sqlstate, fields.get("M", ""), detail=fields.get("D")))
        self.apply()
        return events.PENDING

    def calm(self) -> None:
        """Take back what would act on the server while it rests, or is another's."""
        server = self.turn.link.server
        self.ask_server("; ".join([f"RESET {name}" for name in AT_REST]))
        server.applied = server.applied.without(AT_REST)
        self.turn.batch.announcing = 1
