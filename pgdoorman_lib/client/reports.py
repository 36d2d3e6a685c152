"""What a server's answers tell about it and the session beside what they answer: tags of commands, parameters."""

from __future__ import annotations

import logging

from pgdoorman_lib.client.batch import HAS_ALTERED, HAS_ENABLED, MAY_HAVE_ALTERED
from pgdoorman_lib.client.link import Turn
from pgdoorman_lib.client.unnamed import suspicious
from pgdoorman_lib.wire import letters, owed
from pgdoorman_lib.wire.session_state import (
    ASKED,
    DIRTY_CURSORS,
    DIRTY_CUSTOM,
    DIRTY_LISTEN,
    DIRTY_PARAMETERS,
    DIRTY_TEMPORARY,
    trace_of,
)
from pgdoorman_lib.wire.settings import BASE, PLANNING, TRACKED

_int = int

log = logging.getLogger(__name__)

#: What is made, changed or dropped that does nothing by itself, as tags have it.
PASSIVE = frozenset(
    b"TABLE,INDEX,SEQUENCE,SCHEMA,MATERIALIZED VIEW,ROLE,DATABASE,STATISTICS,TABLESPACE,COLLATION,PUBLICATION,"
    b"SUBSCRIPTION,DEFAULT PRIVILEGES,SYSTEM,SERVER,USER MAPPING".split(b",")
)


class Reports:
    """Reads CommandComplete, ParameterStatus and NotificationResponse."""

    __slots__ = ("turn",)

    def __init__(self, turn: Turn) -> None:
        self.turn = turn

    def command_complete(self, data: bytearray, pos: _int, size: _int) -> bool:
        """Look for the few tags that leave something behind; SELECT, INSERT and their like are told by three bytes.

        True when the message is not for the client: the answer to a PREPARE of ours in front of its statement.
        """
        link = self.turn.link
        if size < 8:
            return False
        first = data[pos + 5]
        third = data[pos + 7]
        told = self.turn.batch.rows_told
        self.turn.batch.rows_told = 0
        if first == letters.S:  # SET, not SELECT
            if third != letters.T:
                if third == letters.L and not told:
                    self._without_rows(data, pos, size)
                return False
        elif first == letters.D:  # DEALLOCATE, DISCARD, DECLARE CURSOR, not DELETE
            if third == letters.L:
                return False
        elif first == letters.R:  # RESET takes back what was applied for the client, too; not ROLLBACK, REVOKE, RELEASE
            if third != letters.S or (link.server.applied is BASE and link.startup is BASE and not link.server.dirty):
                return False
        elif (
            first == letters.A
            or (first == letters.C and third == letters.E)
            or (first == letters.I and third == letters.P)
        ):
            # ALTER, CREATE, IMPORT FOREIGN SCHEMA; not INSERT
            self._has_altered(bytes(data[pos + 5 : pos + size - 1]).partition(b" ")[2] not in PASSIVE)
            return False
        elif first == letters.C and third == letters.M and size > 12:  # COMMIT PREPARED: of what, nobody knows
            self._has_altered(True)
            return False
        elif first == letters.U or first == letters.C:  # UNLISTEN, CLOSE CURSOR; not UPDATE, COMMIT, COPY
            if not link.pins or (third != letters.L and third != letters.O):
                return False
        elif first != letters.P and first != letters.L:  # PREPARE, LISTEN, LOAD
            if link.owner.drawing and (first == letters.I or first == letters.M):  # INSERT, MERGE
                link.owner.drew = 1
            return False
        return self._tag(bytes(data[pos + 5 : pos + size - 1]))

    def _has_altered(self, active: bool) -> None:
        """Objects were made, changed or dropped, perhaps in a transaction that is still open.

        ``active``: they may do something by themselves. Others only do if what stands in their definition does, which
        is known of the statement's text.
        """
        batch = self.turn.batch
        batch.altered |= HAS_ALTERED
        if active or self.turn.link.server.dirty & ASKED:
            batch.altered |= HAS_ENABLED
        self.turn.link.knowledge.ddl_seen(bool(batch.altered & HAS_ENABLED))

    def _without_rows(self, data: bytearray, pos: _int, size: _int) -> None:
        """The tag SELECT at ``pos``, without a row or a description of rows: CREATE TABLE AS and SELECT INTO have it.

        A query has it that finds nothing, in the extended protocol if its portal was not described.
        """
        replies = self.turn.link.replies
        simple = replies.count and replies.ring[replies.head] & owed.CODE == owed.QUERY
        if data[pos + 12] == letters.ZERO and not simple:  # SELECT 0
            if self.turn.batch.used is not None:
                if not self.turn.batch.used.suspect:
                    return
            else:
                unnamed = self.turn.link.statements.unnamed
                if unnamed is None or not suspicious(unnamed):
                    return
        self._has_altered(False)

    def _tag(self, tag: bytes) -> bool:
        """As _command_complete, for a tag that deserves it."""
        link = self.turn.link
        batch = self.turn.batch
        server = link.server
        if tag == b"SET" and batch.told_sets > 0 and link.transparent:
            batch.told_sets -= 1
        elif tag == b"DEALLOCATE ALL" or tag == b"DISCARD ALL":
            pending = link.replies.effects
            server.statements.clear(pending)
            link.statements.clear(pending)
            if tag == b"DISCARD ALL":
                server.dirty = (server.dirty | link.pins) & ~DIRTY_CUSTOM
                link.forgotten = link.pins & DIRTY_CUSTOM
                if server.applied is not BASE or link.startup is not BASE or link.forgotten:
                    server.dirty |= DIRTY_PARAMETERS  # what of the client's settings was reset is in effect no more
                    link.notes().listed = True
        elif tag == b"DEALLOCATE" and batch.deallocating:
            name, statement = batch.deallocating.pop(0)
            link.statements.leave(name)
            server.statements.leave(statement.handle)
        elif tag == b"PREPARE" and batch.preparing:
            name, statement = batch.preparing.pop(0)
            server.statements.enter(statement)
            if name is not None:
                link.statements.enter(name, statement)
            elif batch.hidden:
                batch.hidden -= 1
                return True
        elif tag.startswith(b"DROP "):
            self._has_altered(False)
            server.dirty |= link.pins & DIRTY_TEMPORARY
        elif tag == b"DO":
            batch.altered |= MAY_HAVE_ALTERED
        elif tag == b"UNLISTEN":
            server.dirty |= link.pins & DIRTY_LISTEN
        elif tag == b"CLOSE CURSOR" or tag == b"CLOSE CURSOR ALL":
            server.dirty |= link.pins & DIRTY_CURSORS
        elif tag == b"DISCARD TEMP":
            server.dirty |= link.pins & DIRTY_TEMPORARY
        elif tag == b"DECLARE CURSOR" and link.transparent:
            pass  # it ends with the transaction, unless its text has HOLD
        else:
            if tag == b"RESET":
                batch.planning_changed = 1
                if not link.notes().texts:
                    link.notes().untold()
            elif tag == b"SET":
                batch.planning_changed = 1
                link.notes().untold()
            server.dirty |= trace_of(tag)
        return False

    def parameter_status(self, data: bytearray, pos: _int, size: _int, verdict: _int) -> None:
        """The server reports a parameter: remember it, and that the client's may have changed."""
        link = self.turn.link
        name, _, rest = bytes(data[pos + 5 : pos + size]).partition(b"\0")
        key = name.decode("utf-8", "surrogateescape")
        value = rest[: len(rest) - 1].decode("utf-8", "surrogateescape")
        server = link.server
        before = server.reported
        server.report(key, value)
        if not verdict or self.turn.batch.announcing:
            link.told = server.reported if link.told is before else link.told.changed(key, value)
        if verdict:
            return
        if link.log_parameters:
            log.info("%s parameter %s is now %r", link.owner.label(), key, value)
        if link.transparent:
            # Whether it lasts is asked at the transaction's end; a change may also come from inside a function.
            lower = key.lower()
            if key != "in_hot_standby" and not link.notes().reported(lower):
                server.dirty |= DIRTY_PARAMETERS
                link.notes().named((lower,))
            if lower in PLANNING:
                self.turn.batch.planning_changed = 1
        elif link.sync_parameters and key.lower() in TRACKED:
            server.applied = server.applied.changed(key, value)
            began = link.startup.values.get(key.lower())
            if began is not None and link.notes().may_be_reset(key.lower()):
                value = began
            link.owner.settings = link.owner.settings.changed(key, value)

    def tell(self) -> None:
        """Tell the client what its server has reported otherwise than the client was told last."""
        link = self.turn.link
        server = link.server
        reported = server.reported
        told = link.told
        link.client.write(reported.news_for(told))
        link.told = reported
        pool = server.pool
        if pool is not None and server.applied is link.owner.settings and server.base is pool.beginnings.base:
            # What is not this client's setting is the configuration's, and new clients are told so.
            for name, value in reported.values.items():
                if told.values.get(name) != value and name.lower() not in link.owner.settings.values:
                    pool.beginnings.hears(name, value)

    def notification(self, data: bytearray, pos: _int) -> None:
        """A NotificationResponse: those of its own server the client knows as its own."""
        process = self.turn.link.process
        if process and int.from_bytes(data[pos + 5 : pos + 9], "big", signed=True) == self.turn.link.server.pid:
            data[pos + 5] = process >> 24 & 0xFF
            data[pos + 6] = process >> 16 & 0xFF
            data[pos + 7] = process >> 8 & 0xFF
            data[pos + 8] = process & 0xFF
