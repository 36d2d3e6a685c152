"""ErrorResponses: what a client gets of them, in its own terms, and what they say about the books and the server."""

from __future__ import annotations

import logging
import re
from typing import Any

from pgdoorman_lib.client.errands import Errands
from pgdoorman_lib.client.link import Turn
from pgdoorman_lib.client.prepared import PreparedStatements
from pgdoorman_lib.metrics.counters import OTHER_SQLSTATES
from pgdoorman_lib.wire import consts
from pgdoorman_lib.wire.effects import Refused
from pgdoorman_lib.wire.messages import is_fatal, parse_fields
from pgdoorman_lib.wire.rewritten import as_written
from pgdoorman_lib.wire.session_state import DIRTY_PREPARED
from pgdoorman_lib.wire.statements import OUR_NAME, PREFIX

_int = int

log = logging.getLogger(__name__)

# A name of ours in the text of an error.
_OURS = re.compile(OUR_NAME + rb"(?! \")")


class ErrorResponses:
    """Takes ErrorResponses in."""

    __slots__ = ("errands", "prepared", "turn")

    def __init__(self, turn: Turn, errands: Errands, prepared: PreparedStatements) -> None:
        self.turn = turn
        self.errands = errands
        self.prepared = prepared

    def instead(self, message: bytes, effect: Any, verdict: _int) -> bytes | None:
        """What the client gets instead of the ErrorResponse ``message``; None when it is not exchanged."""
        batch = self.turn.batch
        if isinstance(effect, Refused):
            return effect.message
        if verdict:
            return None
        held = batch.parse_error
        if held is not None:
            batch.parse_error = None
            return held if _is_consequence(message) else None
        if batch.failed is not None or PREFIX in message:
            return self._as_written(message)
        return None

    def _as_written(self, message: bytes) -> bytes:
        """An ErrorResponse in terms of what the client has sent."""
        return as_written(message, self.turn.batch.failed, self._client_name)

    def _client_name(self, name: bytes) -> bytes | None:
        """What the client calls the statement ``name``."""
        names: dict[bytes, Any] = self.turn.link.statements.names
        for mine, statement in names.items():
            if statement.name == name:
                return mine
        return None

    def holds(self, data: bytearray, pos: _int, size: _int) -> bool:
        """Keep the error of a QueryParse for the Query, unless it is the server's farewell; whether it is kept."""
        message = bytes(data[pos : pos + size])
        if is_fatal(message):
            return False
        if self.turn.batch.parse_error is None:
            self.turn.batch.parse_error = message
        return True

    def nothing_ran(self, message: bytes, passed: _int) -> bool:
        """Whether this error is the first answer to a batch, and about a name of ours, so that it can be sent again.

        ``passed``: bytes before it that are about to be passed on.
        """
        link = self.turn.link
        unanswered = link.server.unanswered
        if unanswered.size == 0 or link.client.sent + link.client.out_pending + passed != unanswered.mark:
            return False
        # With a context it comes from within a function, which may have done what no error takes back.
        return bool(link.replies.status == consts.TX_IDLE and _is_lost(message) and b"\0W" not in message)

    def sent_again(self, tx: _int) -> bool:
        """Behind an error that was kept back: put its batch to the front again; False if the client gets the error."""
        link = self.turn.link
        batch = self.turn.batch
        error = batch.lost
        batch.lost = None
        unanswered = link.server.unanswered
        again = tx == consts.TX_IDLE and link.replies.count == 0 and not batch.in_batch and not link.client_left
        if again and not link.terminated:
            batch.parse_error = None
            batch.rewritings = None
            unanswered.tried = unanswered.mark
            link.client.put_back(unanswered.data, unanswered.size)
            unanswered.size = 0
            return True
        if error is not None:
            link.client.write(error)
        return False

    def error_response(self, data: bytearray, pos: _int, avail: _int, verdict: _int) -> None:
        """Count an error and notice the server's farewell."""
        link = self.turn.link
        body = bytes(data[pos + 5 : pos + avail])
        if verdict:
            self.errands.refusal = body
            link.fault = "the server refused the session's parameters"
        else:
            if link.tracker is not None:
                link.tracker.failed = True
            self.turn.batch.told_sets = 0  # one of them may have failed: the tags of others are taken seriously
            link.pool_stats.count_error(_sqlstate_of(body))
            link.stats.errors += 1
            link.server.stats.errors += 1
            if b"C0A000\0" in body and b"RRevalidateCachedQuery\0" in body:
                # A shared plan has gone stale: who prepares the text again must get a new one.
                link.knowledge.forget_statements()
            elif self.turn.batch.used is not None and _may_be_outdated(body):
                self.prepared.doubt_used()
        if link.pool.standing is not None and b"\0C25006\0" in body:
            link.pool.standing.refused_to_write(link.server)
        if _is_lost(body):
            # Code has dropped what is ours, or made what we don't know of.
            link.server.statements.doubt(link.replies.effects)
            link.server.dirty |= DIRTY_PREPARED
        if is_fatal(body):
            link.server.fatal_received = 1
            words = parse_fields(body).get("M", "")
            log.info("%s PostgreSQL (pid %d) ends the session: %s", link.owner.label(), link.server.pid, words)


def _sqlstate_of(body: bytes) -> str:
    """The SQLSTATE in the body of an ErrorResponse, which is whole or begins there."""
    at = body.find(b"\0C")
    code = body[at + 2 : at + 7]
    return code.decode("ascii") if at >= 0 and len(code) == 5 and code.isalnum() else OTHER_SQLSTATES


def _is_lost(message: bytes) -> bool:
    """Whether an ErrorResponse, whole or its body alone, says that our books of the server's statements are wrong."""
    return (b"C26000\0" in message or b"C42P05\0" in message) and _OURS.search(message) is not None


def _may_be_outdated(body: bytes) -> bool:
    """Whether the body of an ErrorResponse may come from what a statement was taken for when it was analysed."""
    at = body.find(b"\0C")
    return at >= 0 and body[at + 2 : at + 4] in (b"22", b"42")


def _is_consequence(message: bytes) -> bool:
    """Whether an ErrorResponse only says that a statement is not there, or that an error has come before."""
    return b"\0C26000\0" in message or b"\0C25P02\0" in message
