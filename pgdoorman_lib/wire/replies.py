"""The answers a server still owes, in order, and what becomes of each: passed on, swallowed, or made by us.

Rules:
1. Every message sent to a server adds the answer it will bring (``add``); every message from the server is held against
   the head (``account``). Messages we answer ourselves stand in the same queue (MADE_*), so that their answers come
   exactly where PostgreSQL would have sent them.
2. An ErrorResponse to an extended-protocol message voids everything up to the next Sync, as the server does
   (PostgreSQL docs, "Extended Query"): those answers never come, those of ours are not made, their effects are undone.
3. The batch nearly every driver sends (Parse and Bind of what has no name, perhaps Describe, Execute, Sync) stands
   there as one entry, PLAIN; should it begin a copy, it becomes the two that are still open then. For RUN see ``runs``.
4. Sync and Flush in copy-in mode are ignored by the server, hence not owed. A copy that fails may have failed before
   such a Sync was read, which is then honoured: where that leaves open which Sync a ReadyForQuery answers, the
   connection is ``uncertain``, and must be closed when its borrower gives it back.
"""

from __future__ import annotations

from typing import Any

from pgdoorman_lib.wire import consts, owed
from pgdoorman_lib.wire.effect import Effect
from pgdoorman_lib.wire.effects import take_back

_int = int


def owed_for(kind: _int) -> _int:
    """The code of the answer to a Parse, Bind, Describe or Close, by its type byte."""
    if kind == consts.PARSE:
        return owed.PARSE
    if kind == consts.BIND:
        return owed.BIND
    return owed.DESCRIBE if kind == consts.DESCRIBE else owed.CLOSE


class Replies:
    """The queue of one server connection."""

    __slots__ = (
        "barrier",
        "copy_in",
        "count",
        "effects",
        "head",
        "ignored",
        "made",
        "parsed",
        "popped",
        "queries",
        "ring",
        "size",
        "skipping",
        "status",
        "swallowed_error",
        "syncs",
        "uncertain",
        "unparsed",
    )

    def __init__(self) -> None:
        self.ring = bytearray(64)
        self.size = 64
        self.head = 0
        self.count = 0
        #: how many have been taken off: the number of the one at the head
        self.popped = 0
        #: a list, since a compiled one is faster at the few that stand here than a deque
        self.effects: list[Effect] = []
        #: effects that stand before the last Sync: their fate is open although the client may go on
        self.barrier = 0
        #: simple queries and plain batches of the client under way
        self.queries = 0
        #: Syncs of the client under way: whether its transaction still stands is open
        self.syncs = 0
        #: MADE_* entries in the queue
        self.made = 0
        #: the Parse of the plain batch at the head has succeeded
        self.parsed = 0
        #: that of one has failed, so there is no unnamed statement any more
        self.unparsed = 0
        #: an error voided the batch and its Sync was not sent yet
        self.skipping = 0
        #: between CopyInResponse and the client's CopyDone or CopyFail
        self.copy_in = 0
        #: Syncs taken for ignored by the copy under way, or by one that failed
        self.ignored = 0
        #: a ReadyForQuery more or less than expected may come
        self.uncertain = 0
        #: transaction status byte of the last ReadyForQuery
        self.status = consts.TX_IDLE
        #: the server refused something we sent on our own account
        self.swallowed_error = 0

    def add(self, op: _int) -> None:
        """One more answer is owed: an operation code, perhaps with SWALLOW."""
        if self._brings_answer(op):
            if self.count == self.size:
                self._enlarge()
            self.ring[(self.head + self.count) & (self.size - 1)] = op
            self.count += 1

    def _brings_answer(self, op: _int) -> bool:
        """Take note of what is sent; whether an answer to it will come."""
        code = op & owed.CODE
        if self.skipping:
            if code != owed.SYNC:
                return False
            self.skipping = 0
            if self.ignored:
                self.uncertain = 1
        if code == owed.SYNC:
            if self.copy_in:
                self.ignored += 1
                return False
            self.barrier = len(self.effects)
            self.syncs += 1
        elif code == owed.QUERY:
            if not op & owed.SWALLOW:
                self.queries += 1
        elif code == owed.PLAIN:
            self.queries += 1
            self.syncs += 1
        elif code == owed.COPY_END:
            if self.copy_in:  # the copy under way ends; a marker is for one whose CopyInResponse is still to come
                self.copy_in = 0
                return False
            return self.count != 0
        elif code >= owed.MADE_PARSE:
            self.made += 1
        return True

    def add_effect(self, op: _int, effect: Effect) -> None:
        """As ``add``, for an operation whose effect has been entered in the books."""
        if self.skipping:
            effect.undone(0)
        else:
            self.effects.append(effect)
            self.add(op | owed.EFFECT)

    def _enlarge(self) -> None:
        """Double the ring (it is full)."""
        size = self.size
        ring = bytearray(size * 2)
        for index in range(size):
            ring[index] = self.ring[(self.head + index) & (size - 1)]
        self.ring = ring
        self.head = 0
        self.size = size * 2

    def _pop(self) -> None:
        """Take the head off, confirming its effect."""
        op = self.ring[self.head]
        self.head = (self.head + 1) & (self.size - 1)
        self.count -= 1
        self.popped += 1
        if op & owed.EFFECT:
            effect = self.effects.pop(0)
            if self.barrier:
                self.barrier -= 1
            effect.done()
        code = op & owed.CODE
        if code == owed.SYNC:
            self.syncs -= 1
        elif code == owed.QUERY:
            if not op & owed.SWALLOW:
                self.queries -= 1
        elif code == owed.PLAIN:
            self.queries -= 1
            self.syncs -= 1
            self.parsed = 0
        elif code >= owed.MADE_PARSE:
            self.made -= 1
        if self.count == 0:
            if self.size > 1024:  # a huge pipeline must not cost memory for ever
                self.ring = bytearray(64)
                self.size = 64
            self.head = 0

    def _skip_markers(self) -> None:
        while self.count and self.ring[self.head] == owed.COPY_END:
            self._pop()

    def made_next(self) -> _int:
        """The MADE_* code whose turn it is (taken off the queue), or 0."""
        if not self.made or not self.count:
            return 0
        self._skip_markers()
        if not self.count:
            return 0
        code = self.ring[self.head] & owed.CODE
        if code < owed.MADE_PARSE:
            return 0
        self._pop()
        return code

    def due(self) -> Effect | None:
        """The effect of the message whose answer is due, if it has one; else None."""
        if not self.count or not self.effects:
            return None
        return self.effects[0] if self.ring[self.head] & owed.EFFECT else None

    def settled(self) -> bool:
        """Whether the books are certain: nothing before the last Sync, and no simple query, is still open.

        In a copy the server has no use for the message in question and ends the session; it must get it for that.
        """
        return bool((self.barrier == 0 and self.queries == 0) or self.copy_in)

    def account(self, kind: _int) -> _int:
        """Hold a server message of type byte ``kind`` against the queue: PASS, DROP (swallow) or DESYNC.

        For ReadyForQuery the caller sets ``status`` itself. NoticeResponse, NotificationResponse and ParameterStatus
        may come at any time and settle nothing.
        """
        if kind == consts.NOTIFICATION_RESPONSE:
            return owed.PASS
        if self.count == 0:
            return self._unasked(kind)
        op = self.ring[self.head]
        if op == owed.COPY_END:
            self._skip_markers()
            if self.count == 0:
                return self._unasked(kind)
            op = self.ring[self.head]
        verdict = owed.DROP if op & owed.SWALLOW else owed.PASS
        code = op & owed.CODE
        if (
            kind == consts.DATA_ROW
            or kind == consts.NOTICE_RESPONSE
            or kind == consts.PARAMETER_STATUS
            or kind == consts.COPY_DATA
        ):
            return verdict
        if kind == consts.READY_FOR_QUERY:
            if code != owed.QUERY and code != owed.PLAIN and code != owed.SYNC and code != owed.FUNCTION:
                return owed.DESYNC
            self._pop()
            self.copy_in = 0
            self._skip_markers()
            return verdict
        if kind == consts.ERROR_RESPONSE:
            return owed.DROP if self._error(op, code) else owed.PASS
        if code == owed.RUN:
            return owed.PASS if self._goes_on(kind) else owed.DESYNC
        if kind == consts.COMMAND_COMPLETE or kind == consts.EMPTY_QUERY_RESPONSE or kind == consts.PORTAL_SUSPENDED:
            if code == owed.EXECUTE:
                self._pop()
                self.copy_in = 0
            elif code != owed.QUERY and code != owed.PLAIN:
                return owed.DESYNC
            self.ignored = 0
            return verdict
        if code == owed.QUERY:
            if kind == consts.COPY_IN_RESPONSE or kind == consts.COPY_BOTH_RESPONSE:
                self._copy_begins()
            elif kind == consts.PARSE_COMPLETE:  # pg_doorman sends it for DEALLOCATE ALL; libpq does not mind
                return owed.DROP
            elif kind != consts.ROW_DESCRIPTION and kind != consts.COPY_OUT_RESPONSE and kind != consts.COPY_DONE:
                return owed.DESYNC
            return verdict
        if code == owed.PLAIN:
            if kind == consts.PARSE_COMPLETE:
                self.parsed = 1
            elif kind == consts.COPY_IN_RESPONSE or kind == consts.COPY_BOTH_RESPONSE:
                self._unfold()
                self._copy_begins()
            elif (
                kind != consts.BIND_COMPLETE
                and kind != consts.ROW_DESCRIPTION
                and kind != consts.NO_DATA
                and kind != consts.COPY_OUT_RESPONSE
                and kind != consts.COPY_DONE
            ):
                return owed.DESYNC
            return verdict
        if code == owed.FUNCTION:
            return verdict if kind == consts.FUNCTION_CALL_RESPONSE else owed.DESYNC
        if kind == consts.PARSE_COMPLETE and code == owed.EXECUTE:
            return owed.DROP  # a stray one, as in an answer to a simple query
        if (
            (kind == consts.PARSE_COMPLETE and code == owed.PARSE)
            or (kind == consts.BIND_COMPLETE and code == owed.BIND)
            or (kind == consts.CLOSE_COMPLETE and code == owed.CLOSE)
            or ((kind == consts.ROW_DESCRIPTION or kind == consts.NO_DATA) and code == owed.DESCRIBE)
        ):
            self._pop()
            return verdict
        if kind == consts.PARAMETER_DESCRIPTION:
            return verdict if code == owed.DESCRIBE else owed.DESYNC
        if code != owed.EXECUTE:
            return owed.DESYNC
        if kind == consts.COPY_IN_RESPONSE or kind == consts.COPY_BOTH_RESPONSE:
            self._copy_begins()
        elif kind != consts.COPY_OUT_RESPONSE and kind != consts.COPY_DONE:
            return owed.DESYNC
        return verdict

    def _unasked(self, kind: _int) -> _int:
        """The verdict while nothing is owed: a notice, a parameter or the server's farewell may come at any time."""
        if kind == consts.READY_FOR_QUERY and self.ignored:
            # The copy failed before the server read a Sync that we took for ignored: it was honoured.
            self.ignored -= 1
            self.skipping = 0
            if self.ignored:
                self.uncertain = 1
            return owed.PASS
        return (
            owed.PASS
            if kind == consts.NOTICE_RESPONSE or kind == consts.PARAMETER_STATUS or kind == consts.ERROR_RESPONSE
            else owed.DESYNC
        )

    def _goes_on(self, kind: _int) -> bool:
        """Whether ``kind`` is what the run at the head has to come to next; take it off if it was the last."""
        run: Any = self.effects[0]
        if not run.answered(kind):
            return False
        if run.due == owed.PARSE:
            self.ignored = 0
        if not run.left:
            self._pop()
        return True

    def _unfold(self) -> None:
        """Of the plain batch at the head only Execute and Sync are still open: have them as such."""
        self.queries -= 1
        self.parsed = 0
        if self.count == self.size:
            self._enlarge()
        mask = self.size - 1
        self.head = (self.head - 1) & mask
        self.count += 1
        self.popped -= 1
        self.ring[self.head] = owed.EXECUTE
        self.ring[(self.head + 1) & mask] = owed.SYNC

    def _copy_begins(self) -> None:
        """CopyInResponse: the server ignores every Sync sent since, up to the end of the copy."""
        keep = bytearray()
        ended = 0
        stop = 0
        for index in range(1, self.count):
            op = self.ring[(self.head + index) & (self.size - 1)]
            if not stop:
                if op == owed.SYNC:
                    self.ignored += 1
                    self.syncs -= 1
                    continue
                stop = 1
                if op == owed.COPY_END:
                    ended = 1
                    continue
            keep.append(op)
        mask = self.size - 1
        for index in range(len(keep)):
            self.ring[(self.head + 1 + index) & mask] = keep[index]
        self.count = 1 + len(keep)
        self.copy_in = 0 if ended else 1

    def _error(self, op: _int, code: _int) -> bool:
        """ErrorResponse: within a simple query nothing else changes; an extended batch is void up to its Sync."""
        self.copy_in = 0
        if code == owed.PLAIN and not self.parsed:
            self.unparsed = 1
        if code in (owed.QUERY, owed.PLAIN, owed.FUNCTION, owed.SYNC):
            if self.ignored:
                self.uncertain = 1
            if op & owed.SWALLOW:
                self.swallowed_error = 1
                return True
            return False
        mask = self.size - 1
        index = 0
        undo = 0
        while index < self.count:
            op = self.ring[(self.head + index) & mask]
            code = op & owed.CODE
            if code == owed.SYNC:
                break
            if op & owed.EFFECT:
                undo += 1
            if code == owed.QUERY and not op & owed.SWALLOW:
                self.queries -= 1
            elif code >= owed.MADE_PARSE:
                self.made -= 1
            index += 1
        first_has_effect = self.ring[self.head] & owed.EFFECT
        if index == self.count:
            self.skipping = 1
        elif self.ignored:
            self.uncertain = 1
        self.head = (self.head + index) & mask
        self.count -= index
        self.popped += index
        if undo:
            voided = self.effects[:undo]
            del self.effects[:undo]
            self.barrier = self.barrier - undo if self.barrier > undo else 0
            take_back(voided, 1 if first_has_effect else 0, self.effects)
        return False
