"""From a server to its client: what of it is the client's, and what it tells about the server and the session.

Rules:
1. Bytes leave as they came, in runs as long as possible; ``wire.replies`` says what each message answers.
2. What we have asked on our own account is not the client's: its answers are taken in and not passed on.
3. A message larger than INSPECT is streamed.
"""

from __future__ import annotations

from typing import Any

from pgdoorman_lib.client import events
from pgdoorman_lib.client.batch import HAS_ALTERED, HAS_ENABLED, MAY_HAVE_ALTERED
from pgdoorman_lib.client.errands import Errands
from pgdoorman_lib.client.error_responses import ErrorResponses
from pgdoorman_lib.client.link import Turn
from pgdoorman_lib.client.measures import FAIRNESS, INSPECT
from pgdoorman_lib.client.prepared import PreparedStatements
from pgdoorman_lib.client.reports import Reports
from pgdoorman_lib.client.sqlprepare import SqlPrepare
from pgdoorman_lib.net.stream import HIGH_WATER
from pgdoorman_lib.net.syscalls import copy
from pgdoorman_lib.wire import consts, owed
from pgdoorman_lib.wire.effects import Described, QueryParse, Verification, first_unnamed
from pgdoorman_lib.wire.framing import frame_size

_int = int

#: The largest value of a parameter that follows its client, bytes as they come from the server.
MAX_FINDING = 1 << 20


#: Bytes of a NotificationResponse up to the process id in it.
_NOTIFIER = 9
#: Bytes it is cheaper to copy than to hand their block over.
_COPY_MORE = 512


class Responses:
    """The server's side of a relay."""

    __slots__ = ("errands", "error_responses", "prepared", "reports", "sqlprepare", "turn")

    def __init__(
        self,
        turn: Turn,
        errands: Errands,
        sqlprepare: SqlPrepare,
        prepared: PreparedStatements,
        reports: Reports,
        error_responses: ErrorResponses,
    ) -> None:
        self.turn = turn
        self.errands = errands
        self.sqlprepare = sqlprepare
        self.prepared = prepared
        self.reports = reports
        self.error_responses = error_responses

    def pump_server(self) -> _int:
        """Take what the server has sent as far as it goes."""
        link = self.turn.link
        srv = link.srv
        client = link.client
        fills = 0
        while True:
            if client.out_pending >= HIGH_WATER:
                client.push()
                if client.out_pending >= HIGH_WATER:
                    return events.PENDING
            if srv.end > srv.start:
                status = self._server_frames()
                if status and status != events.MORE:
                    return status
            fills += 1
            if fills > FAIRNESS:
                link.owner.task.engine.again(link.owner.task)
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
        link = self.turn.link
        batch = self.turn.batch
        srv = link.srv
        replies = link.replies
        data: Any = srv.block
        pos = srv.start
        end = srv.end
        run = pos
        status = events.PENDING
        if link.server_left:
            avail = end - pos
            if avail > link.server_left:
                avail = link.server_left
            link.server_left -= avail
            pos += avail
            if link.server_drop:
                run = pos
        while pos < end:
            if replies.made:
                self._server_made(run, pos)
                run = pos
            size = frame_size(data, pos, end)
            if size < 0:
                if size == -2:
                    link.fault = "invalid message length from server"
                    status = events.SERVER_FAULT
                else:
                    status = events.MORE
                break
            kind = data[pos]
            avail = end - pos
            if size > avail:
                # Small messages go whole: if the server dies, its client can still be told at a message boundary.
                if size <= INSPECT or (batch.examining and size <= MAX_FINDING):
                    status = events.MORE
                    break
            else:
                avail = size
            if kind == consts.READY_FOR_QUERY and size != 6:
                link.fault = "invalid ReadyForQuery from server"
                status = events.SERVER_FAULT
                break
            effect = None
            if replies.effects:
                if kind == consts.PARSE_COMPLETE and replies.ring[replies.head] == owed.RUN | owed.EFFECT:
                    at = self._pass_run(data, pos, end)
                    if at > pos:
                        pos = at
                        continue
                if kind == consts.PARAMETER_DESCRIPTION or kind == consts.ROW_DESCRIPTION or kind == consts.NO_DATA:
                    effect = replies.due()
                    if effect is not None:
                        self._described(effect, data, pos, size, avail)
                elif kind == consts.ERROR_RESPONSE:
                    effect = replies.due()
            if kind == consts.ERROR_RESPONSE:
                batch.failed = self.sqlprepare.text_of(replies.popped) if batch.rewritings is not None else None
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
                link.fault = f"unexpected message type {kind} from server"
                status = events.SERVER_FAULT
                break
            if kind == consts.COMMAND_COMPLETE:
                if size == avail and verdict == owed.PASS and self.reports.command_complete(data, pos, size):
                    verdict = owed.DROP
            elif kind == consts.PARAMETER_STATUS:
                if size == avail:
                    self.reports.parameter_status(data, pos, size, verdict)
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
                self.reports.notification(data, pos)
            elif kind == consts.ROW_DESCRIPTION:
                batch.rows_told = 1
            elif kind == consts.BIND_COMPLETE:
                batch.rows_told = 0
            elif (
                kind == consts.ERROR_RESPONSE
                and size == avail
                and isinstance(effect, QueryParse)
                and self.error_responses.holds(data, pos, size)
            ):
                verdict = owed.DROP
            elif kind == consts.ERROR_RESPONSE:
                self.error_responses.error_response(data, pos, avail, verdict)
                if replies.unparsed:
                    replies.unparsed = 0
                    self._unparsed()
                if size == avail:
                    message = bytes(data[pos : pos + size])
                    instead = self.error_responses.instead(message, effect, verdict)
                    if verdict == owed.PASS and self.error_responses.nothing_ran(message, pos - run):
                        batch.lost = message if instead is None else instead
                        verdict = owed.DROP
                    elif instead is not None:
                        self._to_client_part(run, pos)
                        link.client.write(instead)
                        run = pos + avail
            elif (
                kind == consts.READY_FOR_QUERY
                and batch.lost is not None
                and self.error_responses.sent_again(data[pos + 5])
            ):
                verdict = owed.DROP
            if verdict:
                self._to_client_part(run, pos)
                pos += avail
                run = pos
                if size > avail:
                    link.server_left = size - avail
                    link.server_drop = 1
                if kind == consts.READY_FOR_QUERY:
                    replies.status = data[pos - 1]
                    if replies.swallowed_error:
                        if batch.examining:
                            batch.findings = None
                        else:
                            status = self.errands.refused()
                            if status:
                                break
                        replies.swallowed_error = 0
                continue
            pos += avail
            if size > avail:
                link.server_left = size - avail
                link.server_drop = 0
                break
            if kind == consts.READY_FOR_QUERY:
                batch.parse_error = None
                if batch.rewritings is not None:
                    self.sqlprepare.answered(replies.popped)
                replies.status = data[pos - 1]
                if self._ready(replies.status):
                    if replies.made:
                        self._server_made(run, pos)
                        run = pos
                    status = events.RELEASE
                    break
        if replies.made and link.server_left == 0:
            self._server_made(run, pos)
            run = pos
        if not self._to_client(run, pos) and srv.block is not None:
            srv.start = pos
            srv.release()
        return status

    def _pass_run(self, data: bytearray, pos: _int, end: _int) -> _int:
        """Where the answers of the run at the head end that are there and bring nothing but what it is waiting for.

        The last one is left to the long way, on which each of them would come to the same.
        """
        batch = self.turn.batch
        run: Any = self.turn.link.replies.effects[0]
        if batch.hidden or self.turn.link.replies.ignored:
            return pos
        while pos < end:
            size = frame_size(data, pos, end)
            if size < 0 or size > end - pos:
                break
            kind = data[pos]
            if kind == consts.DATA_ROW:
                batch.rows_told = 1
            elif kind == consts.COMMAND_COMPLETE:
                if run.due != owed.EXECUTE or run.left == 1:
                    break
                run.answered(kind)
                self.reports.command_complete(data, pos, size)
            elif kind == consts.ROW_DESCRIPTION or kind == consts.BIND_COMPLETE:
                if run.due != (owed.BIND if kind == consts.BIND_COMPLETE else owed.DESCRIBE):
                    break
                run.answered(kind)
                batch.rows_told = 1 if kind == consts.ROW_DESCRIPTION else 0
            elif kind == consts.PARSE_COMPLETE and run.due == owed.PARSE:
                run.answered(kind)
            else:
                break
            pos += size
        return pos

    def _server_made(self, run: _int, pos: _int) -> None:
        """Responses of ours may be due behind what stands before ``pos``."""
        self._to_client_part(run, pos)
        self.prepared.emit_made()

    def _to_client_part(self, run: _int, pos: _int) -> None:
        if pos > run:
            self.turn.link.client.send_copy(self.turn.link.srv.block, run, pos - run)

    def _to_client(self, run: _int, pos: _int) -> bool:
        """Queue the server's bytes block[run:pos] for the client; the block goes along if little or nothing is left."""
        size = pos - run
        if size <= 0:
            return False
        srv = self.turn.link.srv
        client = self.turn.link.client
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
        link = self.turn.link
        batch = self.turn.batch
        now = link.client.engine.now
        stats = link.pool_stats
        spent = int((now - link.query_started) * 1000000.0)
        stats.query_count += 1
        stats.query_time += spent
        stats.query_hist.add(spent)
        link.stats.query_count += 1
        link.server.stats.query_count += 1
        link.query_started = now
        if link.replies.count == 0 and not batch.in_batch and (batch.preparing or batch.deallocating or batch.hidden):
            link.names_done()
        if batch.altered and tx == consts.TX_IDLE:
            # Others may have parsed since, and seen what was before.
            if batch.altered & HAS_ALTERED:
                link.knowledge.ddl_seen(bool(batch.altered & HAS_ENABLED))
            elif batch.altered:
                link.knowledge.doubt()
            if batch.owned is not None:
                batch.disown(link.statements)
            batch.altered = MAY_HAVE_ALTERED if link.replies.count else 0  # what is under way may do so
        if tx != consts.TX_IDLE or link.replies.count or batch.in_batch or link.client_left:
            return False
        batch.suspect_portals = 0  # portals end with their transaction
        batch.group_suspect = 0
        spent = int((now - link.xact_started) * 1000000.0)
        stats.xact_count += 1
        stats.xact_time += spent
        stats.xact_hist.add(spent)
        link.stats.xact_count += 1
        link.server.stats.xact_count += 1
        link.xact_started = now
        return bool(link.by_transaction)

    def _unparsed(self) -> None:
        """The Parse of a plain batch has failed: there is no unnamed statement, unless one is on its way already."""
        link = self.turn.link
        behind = first_unnamed(link.replies.effects)
        if behind is not None:
            behind.old_client = behind.old_server = None
        else:
            link.statements.unnamed = None
            link.server.statements.unnamed = None

    def _found(self, data: bytearray, pos: _int, size: _int, avail: _int) -> None:
        """A row of the server's answer about what was left on it."""
        findings = self.turn.batch.findings
        if size > avail:
            self.turn.batch.findings = None
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
