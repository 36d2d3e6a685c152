"""From a server to its client: what of it is the client's, and what it tells about the server and the session.

Rules:
1. Bytes leave as they came, in runs as long as possible; ``wire.replies`` says what each message answers.
2. What we have asked on our own account is not the client's: its answers are taken in and not passed on.
3. A message larger than INSPECT is streamed.
"""

from __future__ import annotations

import re
from typing import Any

from pgdoorman_lib.client import events
from pgdoorman_lib.client.batch import HAS_ALTERED, HAS_ENABLED, MAY_HAVE_ALTERED
from pgdoorman_lib.client.prepared import PreparedStatements, suspicious
from pgdoorman_lib.net.stream import HIGH_WATER, Stream
from pgdoorman_lib.net.syscalls import copy
from pgdoorman_lib.wire import consts, letters, owed
from pgdoorman_lib.wire.effects import Described, QueryParse, Refused, Verification
from pgdoorman_lib.wire.framing import find_nul, frame_size
from pgdoorman_lib.wire.reported import NOTHING_REPORTED, Reported
from pgdoorman_lib.wire.rewritten import Rewriting, as_written
from pgdoorman_lib.wire.session_state import (
    ASKED,
    DIRTY_CURSORS,
    DIRTY_CUSTOM,
    DIRTY_LISTEN,
    DIRTY_PARAMETERS,
    DIRTY_PREPARED,
    DIRTY_TEMPORARY,
    trace_of,
)
from pgdoorman_lib.wire.settings import BASE, PLANNING, TRACKED
from pgdoorman_lib.wire.statements import PREFIX

_int = int

#: Messages up to this size are seen whole before they are acted on; it must be below the block size.
INSPECT = 8192
#: Fills in a row before others get their turn.
FAIRNESS = 16
#: The largest value of a parameter that follows its client, bytes as they come from the server.
MAX_FINDING = 1 << 20

# The same numbers as C integers, where this module is compiled.
_HIGH_WATER = HIGH_WATER
_INSPECT = INSPECT
_FAIRNESS = FAIRNESS
#: Bytes of a NotificationResponse up to the process id in it.
_NOTIFIER = 9
_HAS_ALTERED = HAS_ALTERED
_HAS_ENABLED = HAS_ENABLED
_MAY_HAVE_ALTERED = MAY_HAVE_ALTERED
#: Bytes it is cheaper to copy than to hand their block over.
_COPY_MORE = 512


#: What is made, changed or dropped that does nothing by itself, as tags have it.
PASSIVE = frozenset(
    b"TABLE,INDEX,SEQUENCE,SCHEMA,MATERIALIZED VIEW,ROLE,DATABASE,STATISTICS,TABLESPACE,COLLATION,PUBLICATION,"
    b"SUBSCRIPTION,DEFAULT PRIVILEGES,SYSTEM,SERVER,USER MAPPING".split(b",")
)
# A name of ours in the text of an error.
_OURS = re.compile(re.escape(PREFIX) + rb"\d+(?! \")")


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


def _is_fatal(message: bytes) -> bool:
    """Whether an ErrorResponse, whole or its body alone, is the last that the server says."""
    return b"\0VFATAL\0" in message or b"\0VPANIC\0" in message


class Responses(PreparedStatements):
    """The server's side of a relay."""

    __slots__ = (
        "client_left",
        "forgotten",
        "log_parameters",
        "pins",
        "pool_stats",
        "process",
        "query_started",
        "refusal",
        "server_drop",
        "server_left",
        "stats",
        "sync_parameters",
        "told",
        "transparent",
        "xact_started",
    )

    def init_responses(self, client: Stream, stats: Any) -> None:
        """As ``init_borrower``."""
        self.init_prepared(client)
        self.stats = stats
        self.pool_stats: Any = None
        self.sync_parameters = 1
        #: what the client was told last of the parameters a server reports
        self.told: Reported = NOTHING_REPORTED
        #: the process id it knows as its own
        self.process = 0
        #: what a transaction leaves is found out and stays the client's, instead of being cleaned away
        self.transparent = 0
        #: what keeps the client on its server, bits of session_state.PINS
        self.pins = 0
        #: those of them that are surely gone
        self.forgotten = 0
        #: bytes of the message under way still to come from the client (forwarded, or dropped if client_drop)
        self.client_left = 0
        self.server_left = 0
        self.server_drop = 0
        #: parameters that change are logged
        self.log_parameters = 0
        #: body of the ErrorResponse to something we sent on our own account
        self.refusal: bytes | None = None
        self.query_started = 0.0
        self.xact_started = 0.0

    def _names_done(self) -> None:
        """No PREPARE or DEALLOCATE is under way any more: those not heard of have failed or never ran."""
        batch = self.batch
        batch.hidden = 0
        if batch.preparing:
            batch.preparing.clear()
        if batch.deallocating:  # one that failed leaves its stand-in behind
            if self.server is not None:
                self.server.dirty |= DIRTY_PREPARED
            batch.deallocating.clear()

    def pump_server(self) -> _int:
        """Take what the server has sent as far as it goes."""
        srv = self.srv
        client = self.client
        fills = 0
        while True:
            if client.out_pending >= _HIGH_WATER:
                client.push()
                if client.out_pending >= _HIGH_WATER:
                    return events.PENDING
            if srv.end > srv.start:
                status = self._server_frames()
                if status and status != events.MORE:
                    return status
            fills += 1
            if fills > _FAIRNESS:
                self.task.engine.again(self.task)
                return events.PENDING
            n = srv.fill()
            if n > 0:
                continue
            if n == -1:
                return events.PENDING
            if n == 0:
                return events.SERVER_GONE
            srv.grow(len(srv.block) * 2)

    def _server_frames(self) -> _int:
        """Go through the server's messages that are there."""
        batch = self.batch
        srv = self.srv
        replies = self.replies
        data: Any = srv.block
        pos = srv.start
        end = srv.end
        run = pos
        status = events.PENDING
        if self.server_left:
            avail = end - pos
            if avail > self.server_left:
                avail = self.server_left
            self.server_left -= avail
            pos += avail
            if self.server_drop:
                run = pos
        while pos < end:
            if replies.made:
                self._server_made(run, pos)
                run = pos
            size = frame_size(data, pos, end)
            if size < 0:
                if size == -2:
                    self.fault = "invalid message length from server"
                    status = events.SERVER_FAULT
                else:
                    status = events.MORE
                break
            kind = data[pos]
            avail = end - pos
            if size > avail:
                # Small messages go whole: if the server dies, its client can still be told at a message boundary.
                if size <= _INSPECT or (batch.examining and size <= MAX_FINDING):
                    status = events.MORE
                    break
            else:
                avail = size
            if kind == consts.READY_FOR_QUERY and size != 6:
                self.fault = "invalid ReadyForQuery from server"
                status = events.SERVER_FAULT
                break
            effect = None
            if replies.effects:
                if kind == consts.PARAMETER_DESCRIPTION or kind == consts.ROW_DESCRIPTION or kind == consts.NO_DATA:
                    effect = replies.due()
                    if effect is not None:
                        self._described(effect, data, pos, size, avail)
                elif kind == consts.ERROR_RESPONSE:
                    effect = replies.due()
            if kind == consts.ERROR_RESPONSE:
                batch.failed = self._text_of(replies.popped) if batch.rewritings is not None else None
            verdict = replies.account(kind)
            if kind == consts.DATA_ROW and verdict == owed.PASS and size == avail:
                batch.rows_told = 1
                # Rows come in hundreds, and what holds for the first holds for all that follow it.
                pos += size
                while pos < end and data[pos] == consts.DATA_ROW:
                    size = frame_size(data, pos, end)
                    if size < 0 or size > end - pos:
                        break
                    pos += size
                continue
            if verdict == owed.DESYNC:
                self.fault = f"unexpected message type {kind} from server"
                status = events.SERVER_FAULT
                break
            if kind == consts.COMMAND_COMPLETE:
                if size == avail and verdict == owed.PASS and self._command_complete(data, pos, size):
                    verdict = owed.DROP
            elif kind == consts.PARAMETER_STATUS:
                if size == avail:
                    self._parameter_status(data, pos, size, verdict)
                    if batch.announcing:
                        verdict = owed.PASS
            elif kind == consts.DATA_ROW:
                batch.rows_told = 1
                if verdict and batch.examining:
                    self._found(data, pos, size, avail)
            elif kind == consts.NOTIFICATION_RESPONSE:
                if avail < _NOTIFIER:
                    status = events.MORE
                    break
                self._notification(data, pos)
            elif kind == consts.ROW_DESCRIPTION:
                batch.rows_told = 1
            elif kind == consts.BIND_COMPLETE:
                batch.rows_told = 0
            elif (
                kind == consts.ERROR_RESPONSE
                and size == avail
                and isinstance(effect, QueryParse)
                and self._holds(data, pos, size)
            ):
                verdict = owed.DROP
            elif kind == consts.ERROR_RESPONSE:
                self._error_response(data, pos, avail, verdict)
                if replies.unparsed:
                    replies.unparsed = 0
                    self.statements.unnamed = None
                    self.server.statements.unnamed = None
                if size == avail:
                    message = bytes(data[pos : pos + size])
                    instead = self._instead(message, effect, verdict)
                    if verdict == owed.PASS and self._nothing_ran(message, pos - run):
                        batch.lost = message if instead is None else instead
                        verdict = owed.DROP
                    elif instead is not None:
                        self._to_client_part(run, pos)
                        self.client.write(instead)
                        run = pos + avail
            elif kind == consts.READY_FOR_QUERY and batch.lost is not None and self._sent_again(data[pos + 5]):
                verdict = owed.DROP
            if verdict:
                self._to_client_part(run, pos)
                pos += avail
                run = pos
                if size > avail:
                    self.server_left = size - avail
                    self.server_drop = 1
                if kind == consts.READY_FOR_QUERY:
                    replies.status = data[pos - 1]
                    if replies.swallowed_error:
                        if batch.examining:
                            batch.findings = None
                        else:
                            status = self.refused()
                            if status:
                                break
                        replies.swallowed_error = 0
                continue
            pos += avail
            if size > avail:
                self.server_left = size - avail
                self.server_drop = 0
                break
            if kind == consts.READY_FOR_QUERY:
                batch.parse_error = None
                if batch.rewritings is not None:
                    self._answered(replies.popped)
                replies.status = data[pos - 1]
                if self._ready(replies.status):
                    if replies.made:
                        self._server_made(run, pos)
                        run = pos
                    status = events.RELEASE
                    break
        if replies.made and self.server_left == 0:
            self._server_made(run, pos)
            run = pos
        if not self._to_client(run, pos) and srv.block is not None:
            srv.start = pos
            srv.release()
        return status

    def _server_made(self, run: _int, pos: _int) -> None:
        """Responses of ours may be due behind what stands before ``pos``."""
        self._to_client_part(run, pos)
        self.emit_made()

    def _to_client_part(self, run: _int, pos: _int) -> None:
        if pos > run:
            self.client.send_copy(self.srv.block, run, pos - run)

    def _to_client(self, run: _int, pos: _int) -> bool:
        """Queue the server's bytes block[run:pos] for the client; the block goes along if little or nothing is left."""
        size = pos - run
        if size <= 0:
            return False
        srv = self.srv
        client = self.client
        block: Any = srv.block
        rest = srv.end - pos
        if client.out is None and (rest == 0 or rest + _COPY_MORE < size):
            srv.block = None
            srv.start = 0
            srv.end = 0
            if rest > 0:
                fresh = srv.engine.take_block()
                copy(fresh, 0, block, pos, rest)
                srv.block = fresh
                srv.end = rest
            client.send_block(block, run, pos)
            return True
        client.send_copy(block, run, size)
        return False

    def _ready(self, tx: _int) -> bool:
        """A ReadyForQuery for the client went by; whether the server is free now."""
        batch = self.batch
        now = self.task.engine.now
        stats = self.pool_stats
        spent = int((now - self.query_started) * 1000000.0)
        stats.query_count += 1
        stats.query_time += spent
        stats.query_hist.add(spent)
        self.stats.query_count += 1
        self.server.stats.query_count += 1
        self.query_started = now
        if self.replies.count == 0 and not batch.in_batch and (batch.preparing or batch.deallocating or batch.hidden):
            self._names_done()
        if batch.altered and tx == consts.TX_IDLE:
            # Others may have parsed since, and seen what was before.
            if batch.altered & _HAS_ALTERED:
                self.knowledge.ddl_seen(bool(batch.altered & _HAS_ENABLED))
            elif batch.altered:
                self.knowledge.doubt()
            batch.altered = _MAY_HAVE_ALTERED if self.replies.count else 0  # what is under way may do so
        if tx != consts.TX_IDLE or self.replies.count or batch.in_batch or self.client_left:
            return False
        batch.suspect_portals = 0  # portals end with their transaction
        batch.group_suspect = 0
        spent = int((now - self.xact_started) * 1000000.0)
        stats.xact_count += 1
        stats.xact_time += spent
        stats.xact_hist.add(spent)
        self.stats.xact_count += 1
        self.server.stats.xact_count += 1
        self.xact_started = now
        return bool(self.by_transaction)

    def _command_complete(self, data: bytearray, pos: _int, size: _int) -> bool:
        """Look for the few tags that leave something behind; SELECT, INSERT and their like are told by three bytes.

        True when the message is not for the client: the answer to a PREPARE of ours in front of its statement.
        """
        if size < 8:
            return False
        first = data[pos + 5]
        third = data[pos + 7]
        told = self.batch.rows_told
        self.batch.rows_told = 0
        if first == letters.S:  # SET, not SELECT
            if third != letters.T:
                if third == letters.L and not told:
                    self._without_rows(data, pos, size)
                return False
        elif first == letters.D:  # DEALLOCATE, DISCARD, DECLARE CURSOR, not DELETE
            if third == letters.L:
                return False
        elif first == letters.R:  # RESET takes back what was applied for the client, too; not ROLLBACK, REVOKE, RELEASE
            if third != letters.S or (self.server.applied is BASE and self.startup is BASE and not self.server.dirty):
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
            if not self.pins or (third != letters.L and third != letters.O):
                return False
        elif first != letters.P and first != letters.L:  # PREPARE, LISTEN, LOAD
            if self.drawing and (first == letters.I or first == letters.M):  # INSERT, MERGE
                self.drew = 1
            return False
        return self._tag(bytes(data[pos + 5 : pos + size - 1]))

    def _has_altered(self, active: bool) -> None:
        """Objects were made, changed or dropped, perhaps in a transaction that is still open.

        ``active``: they may do something by themselves. Others only do if what stands in their definition does, which
        is known of the statement's text.
        """
        batch = self.batch
        batch.altered |= _HAS_ALTERED
        if active or self.server.dirty & ASKED:
            batch.altered |= _HAS_ENABLED
        self.knowledge.ddl_seen(bool(batch.altered & _HAS_ENABLED))

    def _without_rows(self, data: bytearray, pos: _int, size: _int) -> None:
        """The tag SELECT at ``pos``, without a row or a description of rows: CREATE TABLE AS and SELECT INTO have it.

        A query has it that finds nothing, in the extended protocol if its portal was not described.
        """
        replies = self.replies
        simple = replies.count and replies.ring[replies.head] & owed.CODE == owed.QUERY
        if data[pos + 12] == letters.ZERO and not simple:  # SELECT 0
            if self.batch.used is not None:
                if not self.batch.used.suspect:
                    return
            else:
                unnamed = self.statements.unnamed
                if unnamed is None or not suspicious(unnamed):
                    return
        self._has_altered(False)

    def _tag(self, tag: bytes) -> bool:
        """As _command_complete, for a tag that deserves it."""
        batch = self.batch
        server = self.server
        if tag == b"SET" and batch.told_sets > 0 and self.transparent:
            batch.told_sets -= 1
        elif tag == b"DEALLOCATE ALL" or tag == b"DISCARD ALL":
            pending = self.replies.effects
            server.statements.clear(pending)
            self.statements.clear(pending)
            if tag == b"DISCARD ALL":
                server.dirty = (server.dirty | self.pins) & ~DIRTY_CUSTOM
                self.forgotten = self.pins & DIRTY_CUSTOM
                if server.applied is not BASE or self.startup is not BASE or self.forgotten:
                    server.dirty |= DIRTY_PARAMETERS  # what of the client's settings was reset is in effect no more
                    self.tracker.listed = True
        elif tag == b"DEALLOCATE" and batch.deallocating:
            name, statement = batch.deallocating.pop(0)
            self.statements.leave(name)
            server.statements.leave(statement.handle)
        elif tag == b"PREPARE" and batch.preparing:
            name, statement = batch.preparing.pop(0)
            server.statements.enter(statement)
            if name is not None:
                self.statements.enter(name, statement)
            elif batch.hidden:
                batch.hidden -= 1
                return True
        elif tag.startswith(b"DROP "):
            self._has_altered(False)
            server.dirty |= self.pins & DIRTY_TEMPORARY
        elif tag == b"DO":
            batch.altered |= _MAY_HAVE_ALTERED
        elif tag == b"UNLISTEN":
            server.dirty |= self.pins & DIRTY_LISTEN
        elif tag == b"CLOSE CURSOR" or tag == b"CLOSE CURSOR ALL":
            server.dirty |= self.pins & DIRTY_CURSORS
        elif tag == b"DISCARD TEMP":
            server.dirty |= self.pins & DIRTY_TEMPORARY
        elif tag == b"DECLARE CURSOR" and self.transparent:
            pass  # it ends with the transaction, unless its text has HOLD
        else:
            if tag == b"RESET":
                batch.planning_changed = 1
                if not self.tracker.texts:
                    self.tracker.untold()
            elif tag == b"SET":
                batch.planning_changed = 1
                self.tracker.untold()
            server.dirty |= trace_of(tag)
        return False

    def _parameter_status(self, data: bytearray, pos: _int, size: _int, verdict: _int) -> None:
        """The server reports a parameter: remember it, and that the client's may have changed."""
        name, _, rest = bytes(data[pos + 5 : pos + size]).partition(b"\0")
        key = name.decode("utf-8", "surrogateescape")
        value = rest[: len(rest) - 1].decode("utf-8", "surrogateescape")
        server = self.server
        before = server.reported
        server.report(key, value)
        if not verdict or self.batch.announcing:
            self.told = server.reported if self.told is before else self.told.changed(key, value)
        if verdict:
            return
        if self.log_parameters:
            self.parameter_changed(key, value)
        if self.transparent:
            # Whether it lasts is asked at the transaction's end; a change may also come from inside a function.
            lower = key.lower()
            if key != "in_hot_standby" and not self.tracker.reported(lower):
                server.dirty |= DIRTY_PARAMETERS
                self.tracker.named((lower,))
            if lower in PLANNING:
                self.batch.planning_changed = 1
        elif self.sync_parameters and key.lower() in TRACKED:
            server.applied = server.applied.changed(key, value)
            began = self.startup.values.get(key.lower())
            if began is not None and self.tracker.may_be_reset(key.lower()):
                value = began
            self.settings = self.settings.changed(key, value)

    def _tell(self) -> None:
        """Tell the client what its server has reported otherwise than the client was told last."""
        server = self.server
        reported = server.reported
        told = self.told
        self.client.write(reported.news_for(told))
        self.told = reported
        pool = server.pool
        if pool is not None and server.applied is self.settings and server.base is pool.beginnings.base:
            # What is not this client's setting is the configuration's, and new clients are told so.
            for name, value in reported.values.items():
                if told.values.get(name) != value and name.lower() not in self.settings.values:
                    pool.beginnings.hears(name, value)

    def _notification(self, data: bytearray, pos: _int) -> None:
        """A NotificationResponse: those of its own server the client knows as its own."""
        process = self.process
        if process and int.from_bytes(data[pos + 5 : pos + 9], "big", signed=True) == self.server.pid:
            data[pos + 5] = process >> 24 & 0xFF
            data[pos + 6] = process >> 16 & 0xFF
            data[pos + 7] = process >> 8 & 0xFF
            data[pos + 8] = process & 0xFF

    def refused(self) -> _int:
        """The server has refused what was sent on our own account: 0 if the session goes on, else SERVER_FAULT."""
        return events.SERVER_FAULT

    def parameter_changed(self, name: str, value: str) -> None:
        """Called for each reported parameter the client changed, if ``log_parameters``."""

    def _found(self, data: bytearray, pos: _int, size: _int, avail: _int) -> None:
        """A row of the server's answer about what was left on it."""
        findings = self.batch.findings
        if size > avail:
            self.batch.findings = None
        elif findings is not None:
            findings.append(bytes(data[pos + 5 : pos + size]))

    def _described(self, effect: Any, data: bytearray, pos: _int, size: _int, avail: _int) -> None:
        """Part of the answer to a Describe that is to be remembered."""
        if not isinstance(effect, (Described, Verification)):
            return
        if size > avail or effect.broken:
            effect.broken = 1
        else:
            effect.answer += bytes(data[pos : pos + size])

    def _instead(self, message: bytes, effect: Any, verdict: _int) -> bytes | None:
        """What the client gets instead of the ErrorResponse ``message``; None when it is not exchanged."""
        batch = self.batch
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
        return as_written(message, self.batch.failed, self._client_name)

    def _another(self, kind: _int, data: bytearray, pos: _int, stop: _int) -> None:
        """A Query, Parse or Bind behind a text in another form: errors from here on are about what it brings."""
        acts = None
        statement: Any
        if kind == consts.BIND:
            begin = find_nul(data, pos + 5, stop) + 1
            end = find_nul(data, begin, stop)
            statement = self.statements.names.get(bytes(data[begin:end])) if begin < end else self.statements.unnamed
            acts = statement.acts if statement is not None else None
        if acts is not None and acts.edits:
            self._rewritten(b"", acts)
            return
        self._goes(None)

    def _text_of(self, number: _int) -> Rewriting | None:
        """The rewritten text to which the answer of this number is about to come; None for a plain one."""
        found: Rewriting | None = None
        for first, rewriting in self.batch.rewritings or ():
            if first > number:
                break
            found = rewriting
        return found

    def _answered(self, number: _int) -> None:
        """Every text before the answer of this number has its answers."""
        left = [one for one in self.batch.rewritings or () if one[0] >= number]
        self.batch.rewritings = left or None

    def _client_name(self, name: bytes) -> bytes | None:
        """What the client calls the statement ``name``."""
        for mine, statement in self.statements.names.items():
            if statement.name == name:
                return mine
        return None

    def _holds(self, data: bytearray, pos: _int, size: _int) -> bool:
        """Keep the error of a QueryParse for the Query, unless it is the server's farewell; whether it is kept."""
        message = bytes(data[pos : pos + size])
        if _is_fatal(message):
            return False
        if self.batch.parse_error is None:
            self.batch.parse_error = message
        return True

    def _nothing_ran(self, message: bytes, passed: _int) -> bool:
        """Whether this error is the first answer to a batch, and about a name of ours, so that it can be sent again.

        ``passed``: bytes before it that are about to be passed on.
        """
        unanswered = self.server.unanswered
        if unanswered.size == 0 or self.client.sent + self.client.out_pending + passed != unanswered.mark:
            return False
        # With a context it comes from within a function, which may have done what no error takes back.
        return bool(self.replies.status == consts.TX_IDLE and _is_lost(message) and b"\0W" not in message)

    def _sent_again(self, tx: _int) -> bool:
        """Behind an error that was kept back: put its batch to the front again; False if the client gets the error."""
        batch = self.batch
        error = batch.lost
        batch.lost = None
        unanswered = self.server.unanswered
        again = tx == consts.TX_IDLE and self.replies.count == 0 and not batch.in_batch and not self.client_left
        if again and self.reads_on():
            batch.parse_error = None
            batch.rewritings = None
            unanswered.tried = unanswered.mark
            self.client.put_back(unanswered.data, unanswered.size)
            unanswered.size = 0
            return True
        if error is not None:
            self.client.write(error)
        return False

    def reads_on(self) -> bool:
        """Whether messages of the client's are still taken."""
        return True

    def _error_response(self, data: bytearray, pos: _int, avail: _int, verdict: _int) -> None:
        """Count an error and notice the server's farewell."""
        body = bytes(data[pos + 5 : pos + avail])
        if verdict:
            self.refusal = body
            self.fault = "the server refused the session's parameters"
        else:
            self.tracker.failed = True
            self.batch.told_sets = 0  # one of them may have failed: the tags of others are taken seriously
            self.pool_stats.errors += 1
            self.stats.errors += 1
            self.server.stats.errors += 1
            if b"C0A000\0" in body and b"RRevalidateCachedQuery\0" in body:
                # A shared plan has gone stale: who prepares the text again must get a new one.
                self.knowledge.forget_statements()
            elif self.batch.used is not None and _may_be_outdated(body):
                self.doubt_used()
        if _is_lost(body):
            # Code has dropped what is ours, or made what we don't know of.
            self.server.statements.doubt(self.replies.effects)
            self.server.dirty |= DIRTY_PREPARED
        if _is_fatal(body):
            self.server.fatal_received = 1
