"""Having on the borrowed server what a client's messages need there: statements under our names, and room for them.

What is sent for it goes into the client's own batch; its answers are swallowed.
"""

from __future__ import annotations

from typing import Any

from pgdoorman_lib.client.fixed import FLUSH
from pgdoorman_lib.client.link import Turn
from pgdoorman_lib.wire import owed
from pgdoorman_lib.wire.effect import Effect
from pgdoorman_lib.wire.effects import Eviction, InjectedParse, Verification
from pgdoorman_lib.wire.measures import LARGE
from pgdoorman_lib.wire.messages import close_statement, parse_message
from pgdoorman_lib.wire.session_state import DIRTY_PREPARED, DIRTY_TEMPORARY
from pgdoorman_lib.wire.statements import PREFIX, Acts, Handle, Statement
from pgdoorman_lib.wire.told import was_told

_int = int


#: The statement and portal by which a PREPARE of ours is run within an extended-protocol batch.
_ERRAND = PREFIX + b"errand"


class Deployment:
    """Makes statements on the server, and closes them there."""

    __slots__ = ("turn",)

    def __init__(self, turn: Turn) -> None:
        self.turn = turn

    def own(self, name: bytes, statement: Statement) -> Statement:
        """The client's statement ``name``, or a copy of its own if using the shared one would change it for others.

        What a statement means is settled under the settings in effect when it is made on a server, and anew under those
        of whoever uses it next when PostgreSQL has forgotten its plan.
        """
        link = self.turn.link
        if not self._foreign(statement):
            return statement
        own: Statement = link.registry.private(statement.body, statement.acts)
        own.confirmed = statement.confirmed
        own.description = statement.description
        own.shape = statement.shape
        own.stale = statement.stale
        own.suspect = statement.suspect
        own.instead = (link.statements, name, statement)
        link.statements.enter(name, own)
        if self.turn.batch.altered:
            self.turn.batch.own(name, own, statement)
        return own

    def _foreign(self, statement: Statement) -> bool:
        """Whether ``statement`` is shared, and other settings than its own are, or may be, in effect."""
        environment: Any = statement.environment
        if environment is None:
            return False
        if self.turn.batch.altered and not self.turn.link.server.statements.has(statement):
            return True  # made here, it would be what nobody else can see yet
        return bool(environment != self.turn.link.owner.settings.environment or self.apart())

    def apart(self) -> bool:
        """Whether statements may mean something else here, and now, than they mean to others with the same settings."""
        server = self.turn.link.server
        return bool(self.turn.batch.planning_changed or (server.dirty | server.pins) & DIRTY_TEMPORARY)

    def fits(self, acts: Acts) -> bool:
        """Whether a text still means what it meant, and may have what it needs made on this server."""
        if not acts.holds(self.turn.link.statements.names):
            return False
        # A list, here and below: Cython makes no closures in methods of ours.
        return not [statement for statement in acts.needs if self._foreign(statement)]

    def ensure(self, statement: Statement) -> None:
        """Have ``statement`` on the server by the time the next message gets there."""
        held = self.turn.link.server.statements
        if held.has(statement):
            held.touch(statement)
            self.turn.link.server.stats.prepare_hit += 1
            self.turn.link.pool_stats.prepare_hit += 1
        else:
            self.missing(statement, statement.acts)
            if statement.by_sql:
                self._prepare_by_sql(statement)
            else:
                self.inject(statement, InjectedParse(statement, held))

    def missing(self, statement: Statement, acts: Acts | None) -> None:
        """``statement`` will be made on the server: have room for it, but not for the price of what ``acts`` needs."""
        held = self.turn.link.server.statements
        self.turn.link.server.stats.prepare_miss += 1
        self.turn.link.pool_stats.prepare_miss += 1
        held.supersede(statement)
        self._evict(acts, statement.handle.size)
        if held.doubtful:
            self._close(statement.handle)

    def _close(self, handle: Handle) -> None:
        """Close on the server what may be there under this name."""
        link = self.turn.link
        message = handle.close_message()
        link.srv.send_copy(message, 0, len(message))
        link.replies.add_effect(owed.CLOSE | owed.SWALLOW, Eviction(handle, link.server.statements))

    def inject(self, statement: Statement, effect: Effect) -> None:
        """Send the Parse of ``statement`` on our own account."""
        self.turn.link.replies.add_effect(owed.PARSE | owed.SWALLOW, effect)
        message = statement.parse_message()
        self.turn.link.srv.send_copy(message, 0, len(message))

    def _prepare_by_sql(self, statement: Statement) -> None:
        """Run a PREPARE of our own within an extended-protocol batch; its answers are swallowed."""
        self.run_errand(statement.prepare_sql(), InjectedParse(statement, self.turn.link.server.statements))

    def run_errand(self, sql: bytes, effect: Effect) -> None:
        """Run ``sql`` on our own account within an extended-protocol batch; its answers are swallowed."""
        replies = self.turn.link.replies
        name = _ERRAND + b"\0"
        text = sql + b"\0"
        message = bytearray()
        for kind, body in (
            (b"C", b"S" + name),  # left there if an error came in between the last time
            (b"P", name + text + b"\0\0"),
            (b"B", name + name + b"\0\0\0\0\0\0"),
            (b"E", name + b"\0\0\0\0"),
            (b"C", b"P" + name),
        ):
            message += kind + (4 + len(body)).to_bytes(4, "big") + body
        replies.add(owed.CLOSE | owed.SWALLOW)
        replies.add(owed.PARSE | owed.SWALLOW)
        replies.add(owed.BIND | owed.SWALLOW)
        replies.add_effect(owed.EXECUTE | owed.SWALLOW, effect)
        replies.add(owed.CLOSE | owed.SWALLOW)
        self.turn.link.srv.send_copy(message, 0, len(message))

    def _evict(self, acts: Acts | None, size: _int) -> None:
        """Close as many statements on the server as one more of ``size`` bytes needs room, but none ``acts`` needs."""
        held = self.turn.link.server.statements
        while True:
            victim = held.surplus(acts, size)
            if victim is None:
                return
            self._close(victim)
            if self.turn.link.replies.skipping:  # the effect was undone at once: the server ignores all of this
                return

    def take(self, name: bytes) -> None:
        """Have the client's ``name`` exist on the server, so that PostgreSQL itself says that it is taken."""
        link = self.turn.link
        batch = self.turn.batch
        # It is closed first in case we did so before.
        dummy = bytearray(close_statement(name) + parse_message(name, b"\0\0\0"))
        link.replies.add(owed.CLOSE | owed.SWALLOW)
        link.replies.add(owed.PARSE | owed.SWALLOW)
        link.srv.send_copy(dummy, 0, len(dummy))
        link.server.dirty |= DIRTY_PREPARED
        if batch.taken is None:
            batch.taken = set()
        batch.taken.add(name)

    def verified(self, statement: Statement) -> bool:
        """Whether ``statement``, described to a client before, is known to be the same on this server.

        If the server does not have it, it is made there and described to us first: the table may have changed, and a
        client that was told other columns would misread the rows. So it is described if another process has made it
        there, and has told its clients something else of it, or nothing.
        """
        link = self.turn.link
        batch = self.turn.batch
        verification = batch.verifying
        if verification is not None:
            if not verification.finished:
                return False
            batch.verifying = None
            return True
        held = link.server.statements
        if statement.stale or link.replies.skipping:
            return True
        if held.has(statement):
            if not held.foreign or was_told(held, statement):
                return True
        else:
            self.ensure(statement)
        verification = Verification(statement, link.registry, held)
        batch.verifying = verification
        body = b"S" + statement.name + b"\0"
        message = bytearray(b"D" + (4 + len(body)).to_bytes(4, "big") + body) + FLUSH
        link.replies.add_effect(owed.DESCRIBE | owed.SWALLOW, verification)
        link.srv.send_copy(message, 0, len(message))
        return False

    def unheld(self, statement: Statement) -> None:
        """A client has closed ``statement``: so does the server if it is of no use to others, or too large for that."""
        handle = statement.handle
        if handle.users or (handle.current and handle.size < LARGE):
            return
        self.turn.link.registry.discard(statement)
        if self.turn.link.server.statements.has(statement):
            self._close(handle)
