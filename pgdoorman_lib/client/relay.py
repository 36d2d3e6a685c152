"""Moving messages between a client and the server it has borrowed, and knowing when the server is free again.

Rules:
1. Nothing here switches greenlets, waits or raises on account of a peer: each step does what can be done now and
   returns a status. The session's greenlet (or whoever hands a server over) calls ``step`` and decides.
2. Bytes leave as they came, in runs as long as possible. Only Query, Parse, Bind, Describe and Close are looked into,
   and only where the pool shares prepared statements.
3. A message larger than INSPECT is streamed; one that must be seen whole first (Parse) may grow its buffer up to a
   limit.
4. A server is free when nothing is owed, the last ReadyForQuery said idle, the client's batch is closed, and no message
   is half sent.
"""

from __future__ import annotations

from typing import Any

from pgdoorman_lib.client.statements import FLUSH, READY_IDLE, StatementDesk
from pgdoorman_lib.net.stream import HIGH_WATER, Stream
from pgdoorman_lib.net.syscalls import copy
from pgdoorman_lib.server.connection import Server
from pgdoorman_lib.wire.framing import find_nul, frame_size
from pgdoorman_lib.wire.prepared import Described, Refused, Verification
from pgdoorman_lib.wire.replies import (
    BIND,
    CLOSE,
    COPY_END,
    DESCRIBE,
    EXECUTE,
    FUNCTION,
    PARSE,
    QUERY,
    SYNC,
    Effect,
)
from pgdoorman_lib.wire.scan import scan
from pgdoorman_lib.wire.session_state import (
    BASE,
    DIRTY_CURSORS,
    DIRTY_CUSTOM,
    DIRTY_LISTEN,
    DIRTY_PARAMETERS,
    DIRTY_PREPARED,
    DIRTY_TEMPORARY,
    PLANNING,
    TRACKED,
    trace_of,
)
from pgdoorman_lib.wire.sqltext import look, rough

_int = int
_float = float

# Statuses of ``step``.
WAIT = 0
NEED_SERVER = 1
RELEASE = 2
CLIENT_GONE = 3
TERMINATE = 4
SERVER_GONE = 5
CLIENT_FAULT = 6
SERVER_FAULT = 7
TOO_MANY_PINS = 10
# 8 and 9 (MORE, HELD) stay between the relay and its statement desk.

#: Messages up to this size are seen whole before they are acted on; it must be below the block size.
INSPECT = 8192
#: Fills in a row before others get their turn.
FAIRNESS = 16
#: The largest value of a parameter that follows its client, bytes as they come from the server.
MAX_FINDING = 1 << 20
#: A named Parse is kept whole, to be made again on other servers.
MAX_NAMED_PARSE = 64 << 20

# The same numbers as C integers, where this module is compiled.
_QUERY = QUERY
_FUNCTION = FUNCTION
_SYNC = SYNC
_PARSE = PARSE
_BIND = BIND
_DESCRIBE = DESCRIBE
_EXECUTE = EXECUTE
_CLOSE = CLOSE
_COPY_END = COPY_END
_HIGH_WATER = HIGH_WATER
_INSPECT = INSPECT
_FAIRNESS = FAIRNESS
#: Bytes it is cheaper to copy than to hand their block over.
_COPY_MORE = 512

_ready_idle = READY_IDLE
_flush = FLUSH
_empty_and_ready = bytearray(b"I\x00\x00\x00\x04Z\x00\x00\x00\x05I")


class Relay(StatementDesk):
    """A client's stream, the server it has borrowed if any, and everything between them.

    ``shared`` is true where prepared statements are shared in the pool (transaction mode), ``by_transaction`` where the
    server is given back after each transaction.
    """

    __slots__ = (
        "announcing",
        "check_query",
        "client_drop",
        "client_left",
        "discarding",
        "examining",
        "fault_sqlstate",
        "findings",
        "forgotten",
        "log_parameters",
        "pins",
        "pool_stats",
        "query_started",
        "refusal",
        "refusal_message",
        "server_drop",
        "server_left",
        "settling",
        "startup",
        "stats",
        "sync_parameters",
        "terminated",
        "transparent",
        "was_reset",
        "xact_started",
    )

    def __init__(self, client: Stream, stats: Any) -> None:
        self.init_relay(client, stats)

    def init_relay(self, client: Stream, stats: Any) -> _int:
        """As ``init_borrower``."""
        self.init_desk(client)
        self.stats = stats
        self.pool_stats: Any = None
        self.sync_parameters = 1
        #: what a transaction leaves is found out and stays the client's, instead of being cleaned away
        self.transparent = 0
        #: the settings the session began with, to which RESET goes back
        self.startup: Any = BASE
        #: what keeps the client on its server, bits of session_state.PINS
        self.pins = 0
        #: those of them that are surely gone
        self.forgotten = 0
        #: parameters went back to what the server began with
        self.was_reset = 0
        #: bits the server is being asked about, and the rows of its answer; None when it can't be read
        self.examining = 0
        self.findings: list[bytes] | None = None
        #: the whole Query message that is answered without a server, or None
        self.check_query: bytes | None = None
        #: bytes of the message under way still to come from the client (forwarded, or dropped if client_drop)
        self.client_left = 0
        self.client_drop = 0
        self.server_left = 0
        self.server_drop = 0
        #: the client has sent Terminate
        self.terminated = 0
        #: 1: the statement at the front was cancelled while waiting, or refused; 2: its batch is dropped up to Sync
        self.discarding = 0
        self.refusal_message = b""
        self.fault_sqlstate = "08P01"
        #: the client's parameters are being set on the server, or asked from it
        self.settling = 0
        #: those being set are news to the client, too
        self.announcing = 0
        #: parameters that change are logged
        self.log_parameters = 0
        #: body of the ErrorResponse to something we sent on our own account
        self.refusal: bytes | None = None
        self.query_started = 0.0
        self.xact_started = 0.0
        return 0

    def attach(self, server: Server) -> _int:
        """Borrow ``server``: its events are ours from here to ``detach``."""
        self.server = server
        self.srv = server.stream
        self.replies = server.replies
        server.stream.task = self.task
        self.server_left = 0
        self.server_drop = 0
        self.fresh = 1
        self.xact_started = self.task.engine.now
        self.query_started = self.xact_started
        server.active_since = self.xact_started
        return 0

    def detach(self) -> _int:
        """The server is somebody else's from now on."""
        self._names_done()
        if self.srv is not None:
            self.srv.task = None
        self.server = None
        self.srv = None
        self.replies = None
        self.taken = None
        self.settling = 0
        self.announcing = 0
        self.examining = 0
        self.in_batch = 0
        self.flushed = 0
        self.group_unnamed = 0
        self.group_suspect = 0
        self.group_ran = 0
        self.told_sets = 0
        self.disturbed = 0
        self.altered = 0
        self.verifying = None
        self.bound = None
        self.cut = None
        self.was_reset = 0
        self.resetting = 0
        return 0

    def _names_done(self) -> _int:
        """No PREPARE or DEALLOCATE is under way any more: those not heard of have failed or never ran."""
        self.hidden = 0
        if self.preparing:
            self.preparing.clear()
        if self.deallocating:  # one that failed leaves its stand-in behind
            if self.server is not None:
                self.server.dirty |= DIRTY_PREPARED
            self.deallocating.clear()
        return 0

    def step(self) -> _int:
        """Do everything that can be done now; what to do next (WAIT: park, something else is the session's)."""
        rounds = 0
        while True:
            if self.srv is not None:
                if self.srv.has_news():
                    status = self.pump_server()
                    if status:
                        return status
                if self.settling:
                    # Nothing of the client's may run before its parameters are known to be in effect.
                    if self.replies.count:
                        return 0
                    self.settling = 0
                    if self.announcing:
                        self.announcing = 0
                        if self.replies.status == 0x49:
                            return 2  # that was all: the client's transaction is over
                    if self.examining:
                        status = self.examined()
                        if status:
                            return status
                        continue
            if not self.terminated and self.client.has_news():
                status = self.pump_client()
                if status:
                    return status
            if self.terminated and (
                self.srv is None or self.replies.count == 0 or self.in_batch or self.replies.copy_in
            ):
                # What was sent before Terminate has been carried out, as PostgreSQL would; a batch without its Sync is
                # rolled back.
                return 4
            if self.srv is None or not self.srv.readable or self.client.out_pending >= _HIGH_WATER:
                return 0
            rounds += 1
            if rounds >= _FAIRNESS:
                self.task.engine.again(self.task)
                return 0

    def restore(self) -> _int:
        """Put what was reset within a transaction back to the session's beginning; 1 if that has to be waited for."""
        return 0

    def examined(self) -> _int:
        """The server has answered what a transaction left on it; a status as of ``step``."""
        return 0

    # Client to server.

    def pump_client(self) -> _int:
        """Take what the client has sent as far as it goes."""
        client = self.client
        fills = 0
        while True:
            if self.srv is not None and self.srv.out_pending >= _HIGH_WATER:
                self.srv.push()
                if self.srv.out_pending >= _HIGH_WATER:
                    return 0
            if client.end > client.start:
                status = self._client_frames()
                if status == 9:
                    return 0
                if status and status != 8:
                    return status
            fills += 1
            if fills > _FAIRNESS:
                self.task.engine.again(self.task)
                return 0
            n = client.fill()
            if n > 0:
                continue
            if n == -1:
                return 0
            if n == 0:
                return 3
            if not self._make_room():
                return 6

    def _make_room(self) -> _int:
        """The message at the front does not fit its block: a larger one, up to the limit for such messages."""
        client = self.client
        block: Any = client.block
        size = frame_size(block, client.start, client.end)
        if size > MAX_NAMED_PARSE:
            self.fault = "Message exceeds maximum allowed size."
            self.fault_sqlstate = "53200"
            return 0
        if client.engine.grown + size > client.engine.memory_limit:
            self.fault = "Server is temporarily out of memory."
            self.fault_sqlstate = "53200"
            return 0
        client.grow(size + 1024)
        return 1

    def _client_frames(self) -> _int:
        """Go through the client's messages that are there: WAIT when all went, else why not."""
        client = self.client
        data: Any = client.block
        pos = client.start
        end = client.end
        run = pos
        status = 0
        late = 0
        if self.client_left:
            avail = end - pos
            if avail > self.client_left:
                avail = self.client_left
            self.client_left -= avail
            if self.cut is not None and self.srv is not None:
                self._streamed(data, pos, pos + avail, self.client_left)
            pos += avail
            if self.client_drop:
                run = pos
            elif self.client_left == 0:
                late = 1
        while pos < end:
            size = frame_size(data, pos, end)
            if size < 0:
                if size == -2:
                    self.fault = "invalid message length"
                    status = 6
                else:
                    status = 8
                break
            avail = end - pos
            kind = data[pos]
            if size > avail:
                # What is streamed is looked at once its first INSPECT bytes are there: they hold every name.
                if size <= _INSPECT or (avail < _INSPECT and kind != 0x64):
                    status = 8
                    break
            else:
                avail = size
            if self.srv is None:
                status = self._without_server(data, pos, size, avail, kind)
                if status:
                    if status == 9:  # answered or dropped
                        status = 0
                        pos += avail
                        if self.skip_to:
                            pos = self.skip_to
                            self.skip_to = 0
                            size = avail
                        run = pos
                        if size > avail:
                            self.client_left = size - avail
                            self.client_drop = 1
                        continue
                    break
            replies = self.replies
            if self.resetting == 2 and kind != 0x64:
                if replies.count:
                    status = 9
                    break
                self.resetting = 0
                if self.restore():
                    status = 9
                    break
            if replies.count == 0 and kind != 0x64:
                self.query_started = self.task.engine.now
            if kind == 0x51:  # Query
                if self.by_transaction:
                    if size > avail:
                        self._cut(data, pos, pos + avail)
                    marks = scan(data, pos + 5, pos + avail)
                    if marks:
                        status = self._query_text(data, run, pos, size, avail, marks)
                        if status == 1:
                            status = 0
                            self.in_batch = 0
                            self.group_unnamed = 0
                            pos += avail
                            run = pos
                            continue
                        if status:
                            break
                if self.shared:
                    self._query(replies)
                else:
                    replies.add(_QUERY)
                self.in_batch = 0
                self.group_unnamed = 0
            elif kind == 0x53:  # Sync
                replies.add(_SYNC)
                if self.resetting:
                    self.resetting = 2
                self.in_batch = 0
                self.group_unnamed = 0
                self.group_suspect = 0
                self.group_ran = 0
            elif kind == 0x50 or kind == 0x42 or kind == 0x44 or kind == 0x43:
                if kind == 0x50 and self.shared and not self.in_batch:
                    plain = self._plain_batch(data, pos, end)
                    if plain:
                        self.group_unnamed = 0
                        self.group_suspect = 0
                        self.group_ran = 0
                        self.bound = None
                        pos = plain
                        continue
                if not self.shared:
                    if kind == 0x50 and self.by_transaction:
                        self._parse_text(data, pos, size, avail)
                    replies.add(
                        _PARSE if kind == 0x50 else _BIND if kind == 0x42 else _DESCRIBE if kind == 0x44 else _CLOSE
                    )
                else:
                    status = self._statement(data, run, pos, size, avail, kind)
                    if status == 1:  # sent in another form
                        status = 0
                        self.in_batch = 1
                        pos += avail
                        run = pos
                        if size > avail:
                            self.client_left = size - avail
                            self.client_drop = 0
                        continue
                    if status == 2:  # everything before it was sent
                        status = 9
                        self.in_batch = 1
                        run = pos
                    if status:
                        break
                self.in_batch = 1
            elif kind == 0x45:  # Execute
                if self.group_suspect:  # until it is answered, the books are not settled
                    self.group_ran = 1
                    replies.add_effect(_EXECUTE, Effect())
                else:
                    replies.add(_EXECUTE)
                self.in_batch = 1
            elif kind == 0x64 or kind == 0x48:  # CopyData, Flush
                pass
            elif kind == 0x63 or kind == 0x66:  # CopyDone, CopyFail
                replies.add(_COPY_END)
            elif kind == 0x46:  # FunctionCall
                if self.by_transaction:
                    self._function_call(data, pos, size, avail)
                replies.add(_FUNCTION)
            elif kind == 0x58:  # Terminate
                self.terminated = 1
                status = 4
                break
            else:
                self.fault = f"invalid frontend message type {kind}"
                status = 6
                break
            pos += avail
            if size > avail:
                self.client_left = size - avail
                self.client_drop = 0
        if pos > client.start:
            self.fresh = 0
        self._to_server(run, pos)
        if self.flushed == 1:
            self.flushed = 2
            self.srv.send_copy(_flush, 0, 5)
        if client.block is not None:
            client.start = pos
            client.release()
        if self.srv is not None:
            if status == 4:
                return 9
            if late and (status == 0 or status == 8) and self._free():
                return 2  # its answer (the copy's failure) came before the message had gone
        return status

    def _parse_text(self, data: bytearray, pos: _int, size: _int, avail: _int) -> _int:
        """Look at the text of a Parse where statements are not shared."""
        start = find_nul(data, pos + 5, pos + avail) + 1
        marks = scan(data, start, pos + avail)
        if marks:
            stop = find_nul(data, start, pos + avail)
            if size == avail and stop > start:
                self._leaves(look(bytes(data[start:stop]), marks))
            else:
                self._leaves(rough(marks, bytes(data[start : pos + avail])))
        if size > avail:
            self._cut(data, pos, pos + avail)
        return 0

    def _free(self) -> _int:
        """Whether nothing keeps the server from being given back."""
        replies = self.replies
        if not self.by_transaction or self.in_batch or self.client_left:
            return 0
        return 1 if replies.count == 0 and not replies.skipping and replies.status == 0x49 else 0

    def _to_server(self, run: _int, pos: _int) -> _int:
        """Queue the client's bytes block[run:pos] for the server; the block goes along if nothing else is in it."""
        size = pos - run
        if size <= 0 or self.srv is None:
            return 0
        client = self.client
        block: Any = client.block
        if pos == client.end and self.srv.out is None:
            client.block = None
            client.start = 0
            client.end = 0
            self.srv.send_block(block, run, pos)
        else:
            self.srv.send_copy(block, run, size)
        return 0

    def _without_server(self, data: bytearray, pos: _int, size: _int, avail: _int, kind: _int) -> _int:
        """What to do with a message while no server is borrowed: HELD means it is dealt with."""
        if self.discarding and kind != 0x58:
            return self._discard(kind)
        if kind == 0x58:
            self.terminated = 1
            return 4
        if kind == 0x53:  # an empty batch
            self.client.send_copy(_ready_idle, 0, 6)
            return 9
        if kind == 0x48 or kind == 0x64 or kind == 0x63 or kind == 0x66:
            # Flush with nothing to flush; copy messages outside a copy are ignored by PostgreSQL, too.
            return 9
        if kind == 0x51:
            check = self.check_query
            if check is not None and size == avail and size == len(check) and data[pos : pos + size] == check:
                self.client.send_copy(_empty_and_ready, 0, 11)
                return 9
            if self.refuses(data, pos + 5, pos + avail):
                self.discarding = 1
                return self._discard(kind)
            return 1
        alone = self.shared and ((kind == 0x50 and data[pos + 5] != 0) or kind == 0x44 or kind == 0x43)
        if alone and self._answer_alone(data, pos, self.client.end):
            return 9
        if kind == 0x50:
            start = find_nul(data, pos + 5, pos + avail) + 1
            if self.refuses(data, start, pos + avail) and self._executes(data, pos, self.client.end):
                self.discarding = 1
                return self._discard(kind)
            return 1
        if kind == 0x42 or kind == 0x44 or kind == 0x43 or kind == 0x45 or kind == 0x46:
            return 1
        self.fault = f"invalid frontend message type {kind}"
        return 6

    def _executes(self, data: bytearray, pos: _int, end: _int) -> _int:
        """Whether the batch that begins at ``pos`` has an Execute, as far as it is there."""
        while True:
            size = frame_size(data, pos, end)
            if size < 0 or data[pos] == 0x53:
                return 0
            if data[pos] == 0x45:
                return 1
            pos += size

    def refuses(self, data: bytearray, start: _int, stop: _int) -> _int:
        """Whether the statement with the text data[start:stop] is to be answered with ``refusal_message``."""
        return 0

    def _discard(self, kind: _int) -> _int:
        """Answer a statement that was cancelled before it got a server, or refused; drop the rest of its batch."""
        if self.discarding == 1:
            self.client.write(self.refusal_message)
            self.discarding = 2
            if kind == 0x51 or kind == 0x46:
                self.discarding = 0
        elif kind == 0x53:
            self.discarding = 0
        if self.discarding == 0:
            self.client.send_copy(_ready_idle, 0, 6)
        return 9

    # Server to client.

    def pump_server(self) -> _int:
        """Take what the server has sent as far as it goes."""
        srv = self.srv
        client = self.client
        fills = 0
        while True:
            if client.out_pending >= _HIGH_WATER:
                client.push()
                if client.out_pending >= _HIGH_WATER:
                    return 0
            if srv.end > srv.start:
                status = self._server_frames()
                if status and status != 8:
                    return status
            fills += 1
            if fills > _FAIRNESS:
                self.task.engine.again(self.task)
                return 0
            n = srv.fill()
            if n > 0:
                continue
            if n == -1:
                return 0
            if n == 0:
                return 5
            srv.grow(len(srv.block) * 2)

    def _server_frames(self) -> _int:
        """Go through the server's messages that are there."""
        srv = self.srv
        replies = self.replies
        data: Any = srv.block
        pos = srv.start
        end = srv.end
        run = pos
        status = 0
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
                    status = 7
                else:
                    status = 8
                break
            kind = data[pos]
            avail = end - pos
            if size > avail:
                # Small messages go whole: if the server dies, its client can still be told at a message boundary.
                if size <= _INSPECT or (self.examining and size <= MAX_FINDING):
                    status = 8
                    break
            else:
                avail = size
            if kind == 0x5A and size != 6:
                self.fault = "invalid ReadyForQuery from server"
                status = 7
                break
            effect = None
            if replies.effects:
                if kind == 0x74 or kind == 0x54 or kind == 0x6E:
                    effect = replies.due()
                    if effect is not None:
                        self._described(effect, data, pos, size, avail)
                elif kind == 0x45:
                    effect = replies.due()
            verdict = replies.account(kind)
            if kind == 0x44 and verdict == 0 and size == avail:
                # Rows come in hundreds, and what holds for the first holds for all that follow it.
                pos += size
                while pos < end and data[pos] == 0x44:
                    size = frame_size(data, pos, end)
                    if size < 0 or size > end - pos:
                        break
                    pos += size
                continue
            if verdict == 2:
                self.fault = f"unexpected message type {kind} from server"
                status = 7
                break
            if kind == 0x43:
                if size == avail and verdict == 0:
                    verdict = self._command_complete(data, pos, size)
            elif kind == 0x53:
                if size == avail:
                    self._parameter_status(data, pos, size, verdict)
                    if self.announcing:
                        verdict = 0
            elif kind == 0x44:
                if verdict and self.examining:
                    self._found(data, pos, size, avail)
            elif kind == 0x45:
                self._error_response(data, pos, avail, verdict)
                if replies.unparsed:
                    replies.unparsed = 0
                    self.statements.unnamed = None
                    self.server.statements.unnamed = None
                if effect is not None and isinstance(effect, Refused) and size == avail:
                    self._to_client_part(run, pos)
                    self.client.write(effect.message)
                    run = pos + avail
            if verdict:
                self._to_client_part(run, pos)
                pos += avail
                run = pos
                if size > avail:
                    self.server_left = size - avail
                    self.server_drop = 1
                if kind == 0x5A:
                    replies.status = data[pos - 1]
                    if replies.swallowed_error:
                        if not self.examining:
                            status = 7
                            break
                        replies.swallowed_error = 0
                        self.findings = None
                continue
            pos += avail
            if size > avail:
                self.server_left = size - avail
                self.server_drop = 0
                break
            if kind == 0x5A:
                replies.status = data[pos - 1]
                if self._ready(replies.status):
                    if replies.made:
                        self._server_made(run, pos)
                        run = pos
                    status = 2
                    break
        if replies.made and self.server_left == 0:
            self._server_made(run, pos)
            run = pos
        if not self._to_client(run, pos) and srv.block is not None:
            srv.start = pos
            srv.release()
        return status

    def _server_made(self, run: _int, pos: _int) -> _int:
        """Answers of ours may be due behind what stands before ``pos``."""
        self._to_client_part(run, pos)
        self.emit_made()
        return 0

    def _to_client_part(self, run: _int, pos: _int) -> _int:
        if pos > run:
            self.client.send_copy(self.srv.block, run, pos - run)
        return 0

    def _to_client(self, run: _int, pos: _int) -> _int:
        """Queue the server's bytes block[run:pos] for the client; the block goes along if little or nothing is left."""
        size = pos - run
        if size <= 0:
            return 0
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
            return 1
        client.send_copy(block, run, size)
        return 0

    def _ready(self, tx: _int) -> _int:
        """A ReadyForQuery for the client went by; whether the server is free now."""
        now = self.task.engine.now
        stats = self.pool_stats
        spent = int((now - self.query_started) * 1000000.0)
        stats.query_count += 1
        stats.query_time += spent
        stats.query_hist.add(spent)
        self.stats.query_count += 1
        self.server.stats.query_count += 1
        self.query_started = now
        if self.replies.count == 0 and not self.in_batch and (self.preparing or self.deallocating or self.hidden):
            self._names_done()
        if tx != 0x49 or self.replies.count or self.in_batch or self.client_left:
            return 0
        spent = int((now - self.xact_started) * 1000000.0)
        stats.xact_count += 1
        stats.xact_time += spent
        stats.xact_hist.add(spent)
        self.stats.xact_count += 1
        self.server.stats.xact_count += 1
        self.xact_started = now
        return 1 if self.by_transaction else 0

    def _command_complete(self, data: bytearray, pos: _int, size: _int) -> _int:
        """Look for the few tags that leave something behind; SELECT, INSERT and their like are told by three bytes.

        1 when the message is not for the client: the answer to a PREPARE of ours in front of its statement.
        """
        if size < 8:
            return 0
        first = data[pos + 5]
        third = data[pos + 7]
        if first == 0x53:  # SET, not SELECT
            if third != 0x54:
                return 0
        elif first == 0x44:  # DEALLOCATE, DISCARD, DECLARE CURSOR, not DELETE
            if third == 0x4C:
                return 0
        elif first == 0x52:  # RESET takes back what was applied for the client, too; not ROLLBACK, REVOKE, RELEASE
            if third != 0x53 or (self.server.applied is BASE and self.startup is BASE and not self.server.dirty):
                return 0
        elif first == 0x41:  # ALTER
            self.registry.forget()
            self.altered = 1
            return 0
        elif first == 0x43 and third == 0x45:  # CREATE
            self.altered = 1
            return 0
        elif first == 0x55 or first == 0x43:  # UNLISTEN, CLOSE CURSOR; not UPDATE, COMMIT, COPY
            if not self.pins or (third != 0x4C and third != 0x4F):
                return 0
        elif first != 0x50 and first != 0x4C:  # PREPARE, LISTEN, LOAD
            return 0
        return self._tag(bytes(data[pos + 5 : pos + size - 1]))

    def _tag(self, tag: bytes) -> _int:
        """As _command_complete, for a tag that deserves it."""
        server = self.server
        if tag == b"SET" and self.told_sets > 0 and self.transparent:
            self.told_sets -= 1
        elif tag == b"DEALLOCATE ALL" or tag == b"DISCARD ALL":
            pending = self.replies.effects
            server.statements.clear(pending)
            self.statements.clear(pending)
            if tag == b"DISCARD ALL":
                self.was_reset = 1
                server.dirty = (server.dirty | self.pins) & ~DIRTY_CUSTOM
                self.forgotten = self.pins & DIRTY_CUSTOM
                if server.applied is not BASE or self.startup is not BASE or self.forgotten:
                    server.dirty |= DIRTY_PARAMETERS  # what of the client's settings was reset is in effect no more
        elif tag == b"DEALLOCATE" and self.deallocating:
            name, statement = self.deallocating.pop(0)
            self.statements.names.pop(name, None)
            server.statements.prepared.pop(statement, None)
        elif tag == b"PREPARE" and self.preparing:
            name, statement = self.preparing.pop(0)
            server.statements.prepared[statement] = None
            if name is not None:
                self.statements.names[name] = statement
            elif self.hidden:
                self.hidden -= 1
                return 1
        elif tag.startswith(b"DROP "):
            self.registry.forget()
            self.altered = 1
            server.dirty |= self.pins & DIRTY_TEMPORARY
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
                self.was_reset = 1
                self.disturbed = 1
            elif tag == b"SET":
                self.disturbed = 1
            server.dirty |= trace_of(tag)
        return 0

    def _parameter_status(self, data: bytearray, pos: _int, size: _int, verdict: _int) -> _int:
        """The server reports a parameter: remember it, and that the client's may have changed."""
        name, _, rest = bytes(data[pos + 5 : pos + size]).partition(b"\0")
        key = name.decode("utf-8", "replace")
        value = rest[: len(rest) - 1].decode("utf-8", "replace")
        server = self.server
        server.parameters[key] = value
        if verdict:
            return 0
        if self.log_parameters:
            self.parameter_changed(key, value)
        if self.transparent:
            # Whether it lasts is asked at the transaction's end; a change may also come from inside a function.
            if key != "in_hot_standby":
                server.dirty |= DIRTY_PARAMETERS
                if key.lower() in PLANNING:
                    self.disturbed = 1
        elif self.sync_parameters and key.lower() in TRACKED:
            self.settings = self.settings.changed(key, value)
            server.applied = server.applied.changed(key, value)
        return 0

    def _found(self, data: bytearray, pos: _int, size: _int, avail: _int) -> _int:
        """A row of the server's answer about what was left on it."""
        findings = self.findings
        if size > avail:
            self.findings = None
        elif findings is not None:
            findings.append(bytes(data[pos + 5 : pos + size]))
        return 0

    def _described(self, effect: Any, data: bytearray, pos: _int, size: _int, avail: _int) -> _int:
        """Part of the answer to a Describe that is to be remembered."""
        if not isinstance(effect, (Described, Verification)):
            return 0
        if size > avail or effect.broken:
            effect.broken = 1
        else:
            effect.answer += bytes(data[pos : pos + size])
        return 0

    def parameter_changed(self, name: str, value: str) -> None:
        """Called for each reported parameter the client changed, if ``log_parameters``."""

    def _error_response(self, data: bytearray, pos: _int, avail: _int, verdict: _int) -> _int:
        """Count an error and notice the server's farewell."""
        body = bytes(data[pos + 5 : pos + avail])
        if verdict:
            self.refusal = body
            self.fault = "the server refused the session's parameters"
        else:
            self.told_sets = 0  # one of them may have failed: the tags of others are taken seriously
            self.pool_stats.errors += 1
            self.stats.errors += 1
            self.server.stats.errors += 1
            if b"C0A000\0" in body and b"RRevalidateCachedQuery\0" in body:
                # A shared plan has gone stale: who prepares the text again must get a new one.
                self.registry.forget()
        if b"\0VFATAL\0" in body or b"\0VPANIC\0" in body:
            self.server.farewell = 1
        return 0
