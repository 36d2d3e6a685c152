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

from collections import deque
from typing import Any

from pgdoorman_lib.net.stream import HIGH_WATER, Stream
from pgdoorman_lib.net.syscalls import copy
from pgdoorman_lib.pool.pool import Borrower
from pgdoorman_lib.server.connection import Server
from pgdoorman_lib.wire.framing import find_nul, frame_size, put_header
from pgdoorman_lib.wire.prepared import (
    PREFIX,
    ClientStatements,
    Eviction,
    InjectedParse,
    NameClosed,
    NamedParse,
    Statement,
    UnnamedInjected,
    unnamed_close,
    unnamed_parse,
)
from pgdoorman_lib.wire.replies import (
    BIND,
    CLOSE,
    COPY_END,
    DESCRIBE,
    EXECUTE,
    FUNCTION,
    MADE_CLOSE,
    MADE_PARSE,
    PARSE,
    QUERY,
    SWALLOW,
    SYNC,
    Effect,
    Replies,
)
from pgdoorman_lib.wire.session_state import BASE, DIRTY_PARAMETERS, DIRTY_PREPARED, TRACKED, trace_of
from pgdoorman_lib.wire.sqltext import (
    TEXT_DEALLOCATE,
    TEXT_LOCKS,
    TEXT_PARAMETERS,
    TEXT_TEMPORARY,
    deallocations,
    scan,
)

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
#: internal: the message at the front is not whole yet
MORE = 8
#: internal: the message at the front depends on answers still owed
HELD = 9

#: Messages up to this size are seen whole before they are acted on; it must be below the block size.
INSPECT = 8192
#: Fills in a row before others get their turn.
FAIRNESS = 16
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
_MADE_PARSE = MADE_PARSE
_MADE_CLOSE = MADE_CLOSE
_SWALLOW = SWALLOW
_HIGH_WATER = HIGH_WATER
_INSPECT = INSPECT
_FAIRNESS = FAIRNESS
#: Bytes it is cheaper to copy than to hand their block over.
_COPY_MORE = 512
_DIRTY_PARAMETERS = DIRTY_PARAMETERS
_TEXT_DEALLOCATE = TEXT_DEALLOCATE
_DIRTY = TEXT_PARAMETERS | TEXT_TEMPORARY | TEXT_LOCKS

_scratch = bytearray(64)
_parse_complete = bytearray(b"1\x00\x00\x00\x04")
_close_complete = bytearray(b"3\x00\x00\x00\x04")
_ready_idle = bytearray(b"Z\x00\x00\x00\x05I")
_empty_and_ready = bytearray(b"I\x00\x00\x00\x04Z\x00\x00\x00\x05I")
_close_unnamed = bytearray(b"C\x00\x00\x00\x06S\x00")


class Relay(Borrower):
    """A client's stream, the server it has borrowed if any, and everything between them.

    ``shared`` is true where prepared statements are shared in the pool (transaction mode), ``by_transaction`` where the
    server is given back after each transaction.
    """

    __slots__ = (
        "by_transaction",
        "cancelled_message",
        "check_query",
        "client",
        "client_drop",
        "client_left",
        "deallocating",
        "discarding",
        "fault",
        "group_suspect",
        "group_unnamed",
        "in_batch",
        "parse_limit",
        "pool_stats",
        "query_started",
        "refusal",
        "registry",
        "replies",
        "server",
        "server_drop",
        "server_left",
        "settings",
        "shared",
        "srv",
        "statements",
        "stats",
        "sync_parameters",
        "taken",
        "terminated",
        "xact_started",
    )

    def __init__(self, client: Stream, stats: Any) -> None:
        Borrower.__init__(self)
        self.client = client
        self.stats = stats
        self.pool_stats: Any = None
        # None while no server is borrowed. The methods that use them run only while one is, which types can't say; the
        # compiled build has the types from the .pxd.
        self.server: Any = None
        self.srv: Any = None
        self.replies: Any = None
        self.registry: Any = None
        self.settings: Any = None
        self.sync_parameters = 1
        self.shared = 1
        self.by_transaction = 1
        #: the whole Query message that is answered without a server, or None
        self.check_query: bytes | None = None
        #: largest Parse of the unnamed statement that is remembered, bytes
        self.parse_limit = 1 << 20
        self.statements = ClientStatements()
        #: bytes of the message under way still to come from the client (forwarded, or dropped if client_drop)
        self.client_left = 0
        self.client_drop = 0
        self.server_left = 0
        self.server_drop = 0
        #: extended-protocol messages were sent since the last Sync: an implicit transaction may be open
        self.in_batch = 0
        #: the unnamed statement was parsed within this batch
        self.group_unnamed = 0
        #: something in this batch may change parameters or drop statements: those it prepares are not shared
        self.group_suspect = 0
        #: the client's names in the SQL DEALLOCATEs under way
        self.deallocating: deque[Any] = deque()
        #: names we have taken on this server, so that PostgreSQL refuses them to the client
        self.taken: set[bytes] | None = None
        #: the client has sent Terminate
        self.terminated = 0
        #: 1: the statement at the front was cancelled while waiting; 2: its batch is dropped up to Sync
        self.discarding = 0
        self.cancelled_message = b""
        #: what a *_FAULT status is about
        self.fault = ""
        #: body of the ErrorResponse to something we sent on our own account
        self.refusal: bytes | None = None
        self.query_started = 0.0
        self.xact_started = 0.0

    def attach(self, server: Server) -> _int:
        """Borrow ``server``: its events are ours from here to ``detach``."""
        self.server = server
        self.srv = server.stream
        self.replies = server.replies
        server.stream.task = self.task
        self.server_left = 0
        self.server_drop = 0
        self.xact_started = self.task.engine.now
        self.query_started = self.xact_started
        server.active_since = self.xact_started
        return 0

    def detach(self) -> _int:
        """The server is somebody else's from now on."""
        if self.srv is not None:
            self.srv.task = None
            if self.deallocating:  # one that failed leaves its stand-in behind
                self.server.dirty |= DIRTY_PREPARED
        self.server = None
        self.srv = None
        self.replies = None
        self.taken = None
        self.in_batch = 0
        self.group_unnamed = 0
        self.group_suspect = 0
        if self.deallocating:
            self.deallocating.clear()
        return 0

    def step(self) -> _int:
        """Do everything that can be done now; what to do next (WAIT: park, something else is the session's)."""
        rounds = 0
        while True:
            if self.srv is not None:
                status = self.pump_server()
                if status:
                    return status
            if not self.terminated:
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
            self.fault = "message exceeds the maximum allowed size"
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
                        run = pos
                        if size > avail:
                            self.client_left = size - avail
                            self.client_drop = 1
                        continue
                    break
            replies = self.replies
            if replies.count == 0 and kind != 0x64:
                self.query_started = self.task.engine.now
            if kind == 0x51:  # Query
                if self.shared:
                    marks = scan(data, pos + 5, pos + avail)
                    if marks:
                        if marks & _TEXT_DEALLOCATE and size == avail:
                            if not replies.settled():
                                status = 9
                                break
                            text = self._renamed_deallocations(bytes(data[pos + 5 : pos + size - 1]), run, pos)
                            if text is not None:
                                message = bytearray(b"Q" + (5 + len(text)).to_bytes(4, "big") + text + b"\0")
                                self._query(replies)
                                self.srv.send_copy(message, 0, len(message))
                                self.in_batch = 0
                                self.group_unnamed = 0
                                pos += avail
                                run = pos
                                continue
                        self.server.dirty |= marks & _DIRTY
                    self._query(replies)
                else:
                    replies.add(_QUERY)
                self.in_batch = 0
                self.group_unnamed = 0
            elif kind == 0x53:  # Sync
                replies.add(_SYNC)
                self.in_batch = 0
                self.group_unnamed = 0
                self.group_suspect = 0
            elif kind == 0x50 or kind == 0x42 or kind == 0x44 or kind == 0x43:
                self.in_batch = 1
                if not self.shared:
                    replies.add(
                        _PARSE if kind == 0x50 else _BIND if kind == 0x42 else _DESCRIBE if kind == 0x44 else _CLOSE
                    )
                else:
                    status = self._statement(data, run, pos, size, avail, kind)
                    if status == 1:  # sent in another form
                        status = 0
                        pos += avail
                        run = pos
                        if size > avail:
                            self.client_left = size - avail
                            self.client_drop = 0
                        continue
                    if status:
                        break
            elif kind == 0x45:  # Execute
                if self.group_suspect:  # until it is answered, the books are not settled
                    replies.add_effect(_EXECUTE, Effect())
                else:
                    replies.add(_EXECUTE)
                self.in_batch = 1
            elif kind == 0x64 or kind == 0x48:  # CopyData, Flush
                pass
            elif kind == 0x63 or kind == 0x66:  # CopyDone, CopyFail
                replies.add(_COPY_END)
            elif kind == 0x46:  # FunctionCall
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
        self._to_server(run, pos)
        if client.block is not None:
            client.start = pos
            client.release()
        if self.srv is not None:
            if status == 4:
                return 9
            if late and (status == 0 or status == 8) and self._free():
                return 2  # its answer (the copy's failure) came before the message had gone
        return status

    def _free(self) -> _int:
        """Whether nothing keeps the server from being given back."""
        replies = self.replies
        if not self.by_transaction or self.in_batch or self.client_left:
            return 0
        return 1 if replies.count == 0 and not replies.skipping and replies.status == 0x49 else 0

    def _query(self, replies: Replies) -> _int:
        """A Query is sent where statements are shared: it drops the unnamed one, unless an error voids it before."""
        held = self.server.statements
        if replies.count == 0 and not replies.skipping:
            self.statements.unnamed = None
            held.unnamed = None
            return replies.add(_QUERY)
        return replies.add_effect(_QUERY, unnamed_close(self.statements, held))

    def _to_server(self, run: _int, pos: _int) -> _int:
        """Queue the client's bytes block[run:pos] for the server; the block itself goes along if nothing else is in it."""
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
            return 1
        if kind == 0x50 or kind == 0x42 or kind == 0x44 or kind == 0x43 or kind == 0x45 or kind == 0x46:
            return 1
        self.fault = f"invalid frontend message type {kind}"
        return 6

    def _discard(self, kind: _int) -> _int:
        """Answer a statement that was cancelled before it got a server, and drop the rest of its batch."""
        if self.discarding == 1:
            self.client.write(self.cancelled_message)
            self.discarding = 2
            if kind == 0x51 or kind == 0x46:
                self.discarding = 0
        elif kind == 0x53:
            self.discarding = 0
        if self.discarding == 0:
            self.client.send_copy(_ready_idle, 0, 6)
        return 9

    def _statement(self, data: bytearray, run: _int, pos: _int, size: _int, avail: _int, kind: _int) -> _int:
        """Parse, Bind, Describe or Close where statements are shared.

        0: let it go as it came; 1: it was sent in another form (everything before it too); MORE, HELD, CLIENT_FAULT.
        """
        replies = self.replies
        stop = pos + avail
        begin = pos + 5
        if kind == 0x42:
            begin = find_nul(data, begin, stop) + 1
            if begin == 0:
                if size > avail:
                    self.fault = "portal name too long"
                    return 6
                replies.add(_BIND)  # malformed: PostgreSQL says so
                return 0
        elif kind != 0x50:
            if size < 7 or data[begin] != 0x53:  # a portal, or malformed
                replies.add(_DESCRIBE if kind == 0x44 else _CLOSE)
                return 0
            begin += 1
        name_end = find_nul(data, begin, stop)
        if name_end < 0:
            if size > avail:
                self.fault = "statement name too long"
                return 6
            replies.add(_PARSE if kind == 0x50 else _BIND if kind == 0x42 else _DESCRIBE if kind == 0x44 else _CLOSE)
            return 0
        if kind == 0x50:
            return self._parse(data, run, pos, size, avail, name_end)
        if name_end == begin:
            return self._use_unnamed(data, run, pos, kind)
        if not replies.settled():
            return 9
        name = bytes(data[begin:name_end])
        if kind == 0x43:
            self._to_server_part(run, pos)
            replies.add_effect(_MADE_CLOSE, NameClosed(self.statements, name))
            self.emit_made()
            return 1
        statement = self.statements.names.get(name)
        if statement is None:
            if name.startswith(PREFIX) or (self.taken is not None and name in self.taken):
                # Never let a client reach what we have made: what it asks for does not exist, and a name that can't
                # exist on the server makes PostgreSQL say so.
                self._to_server_part(run, pos)
                replies.add(_BIND if kind == 0x42 else _DESCRIBE)
                self._send_renamed(data, pos, size, avail, kind, begin, name_end, bytearray(name + b" \0"))
                return 1
            replies.add(_BIND if kind == 0x42 else _DESCRIBE)
            return 0
        self._to_server_part(run, pos)
        self._ensure(statement)
        replies.add(_BIND if kind == 0x42 else _DESCRIBE)
        self._send_renamed(data, pos, size, avail, kind, begin, name_end, statement.cname)
        return 1

    def _to_server_part(self, run: _int, pos: _int) -> _int:
        """As _to_server, but the block stays: more of it is needed."""
        if pos > run:
            self.srv.send_copy(self.client.block, run, pos - run)
        return 0

    def _send_renamed(
        self,
        data: bytearray,
        pos: _int,
        size: _int,
        avail: _int,
        kind: _int,
        begin: _int,
        name_end: _int,
        cname: bytearray,
    ) -> _int:
        """Send the message at ``pos`` with the name data[begin:name_end] replaced; the part of it that is there."""
        srv = self.srv
        head = _scratch
        put_header(head, kind, size - (name_end + 1 - begin) + len(cname))
        srv.send_copy(head, 0, 5)
        srv.send_copy(data, pos + 5, begin - pos - 5)
        srv.send_copy(cname, 0, len(cname))
        srv.send_copy(data, name_end + 1, pos + avail - name_end - 1)
        return 0

    def _ensure(self, statement: Statement) -> _int:
        """Have ``statement`` on the server by the time the next message gets there."""
        held = self.server.statements
        if statement.marks:
            self.server.dirty |= statement.marks & _DIRTY
        if statement in held.prepared:
            held.touch(statement)
            self.server.stats.prepare_hit += 1
            return 0
        self.server.stats.prepare_miss += 1
        self._evict()
        self.replies.add_effect(_PARSE | _SWALLOW, InjectedParse(statement, held))
        message = statement.parse_message()
        self.srv.send_copy(message, 0, len(message))
        return 0

    def _evict(self) -> _int:
        """Close as many statements on the server as one more needs room."""
        held = self.server.statements
        while True:
            victim = held.surplus()
            if victim is None:
                return 0
            message = victim.close_message()
            self.srv.send_copy(message, 0, len(message))
            self.replies.add_effect(_CLOSE | _SWALLOW, Eviction(victim, held))
            if self.replies.skipping:  # the effect was undone at once: the server ignores all of this
                return 0

    def _parse(self, data: bytearray, run: _int, pos: _int, size: _int, avail: _int, name_end: _int) -> _int:
        """A Parse: unnamed as it came, a named one under our name unless the server has it already."""
        replies = self.replies
        held = self.server.statements
        first = 0
        if name_end + 4 < pos + avail:
            # SET, RESET, DISCARD, DEALLOCATE by their first and third letter; neither SELECT nor DELETE.
            first = (data[name_end + 1] | 32) << 8 | data[name_end + 3] | 32
        if name_end == pos + 5:
            if size > avail:
                if size <= self.parse_limit:
                    return 8
                replies.add_effect(_PARSE, unnamed_parse(self.statements, held, None))
                self.group_unnamed = 1
                return 0
            marks = scan(data, name_end + 1, pos + size)
            if marks:
                if marks & _TEXT_DEALLOCATE:
                    if not replies.settled():
                        return 9
                    stop = find_nul(data, name_end + 1, pos + size)
                    text = self._renamed_deallocations(bytes(data[name_end + 1 : stop]), run, pos)
                    if text is not None:
                        body = b"\0" + text + bytes(data[stop : pos + size])
                        message = bytearray(b"P" + (4 + len(body)).to_bytes(4, "big") + body)
                        self.srv.send_copy(message, 0, len(message))
                        self.group_suspect = 1
                        # It names a statement of this server: it can't be made again elsewhere.
                        replies.add_effect(_PARSE, unnamed_parse(self.statements, held, None))
                        self.group_unnamed = 1
                        return 1
                self.server.dirty |= marks & _DIRTY
                if marks & _DIRTY_PARAMETERS:
                    self.group_suspect = 1
            if first == 0x7374 or first == 0x7273 or first == 0x6473 or first == 0x6461:
                self._suspect(data, name_end + 1)
            body = bytes(data[name_end + 1 : pos + size])
            replies.add_effect(_PARSE, unnamed_parse(self.statements, held, body))
            self.group_unnamed = 1
            return 0
        if size > avail:
            return 8
        if replies.syncs or not replies.settled():
            return 9  # in a transaction that has failed by then the answer is not ours to make
        if first == 0x7374 or first == 0x7273 or first == 0x6473 or first == 0x6461:
            self._suspect(data, name_end + 1)
        name = bytes(data[pos + 5 : name_end])
        body = bytes(data[name_end + 1 : pos + size])
        self._to_server_part(run, pos)
        if name in self.statements.names:
            # PostgreSQL itself shall say that the name is taken, where and as it says it: take the name there, then let
            # the client's message fail on it.
            dummy = bytearray(
                b"C" + (6 + len(name)).to_bytes(4, "big") + b"S" + name + b"\0"  # in case we did so before
                b"P" + (8 + len(name)).to_bytes(4, "big") + name + b"\0\0\0\0"
            )
            replies.add(_CLOSE | _SWALLOW)
            replies.add(_PARSE | _SWALLOW)
            self.srv.send_copy(dummy, 0, len(dummy))
            replies.add(_PARSE)
            self.srv.send_copy(data, pos, size)
            self.server.dirty |= DIRTY_PREPARED
            if self.taken is None:
                self.taken = set()
            self.taken.add(name)
            return 1
        if self.group_suspect or self.server.dirty & _DIRTY_PARAMETERS or replies.status == 0x45:
            # Changed parameters would be frozen into a plan others use; in a failed transaction PostgreSQL must see the
            # message to refuse it.
            statement = self.registry.private(body)
        else:
            statement = self.registry.get(body, self.settings.environment)
        if statement in held.prepared:
            self.server.stats.prepare_hit += 1
            held.touch(statement)
            replies.add_effect(_MADE_PARSE, NamedParse(self.statements, name, statement, held, 1))
            self.emit_made()
            return 1
        self.server.stats.prepare_miss += 1
        self._evict()
        replies.add_effect(_PARSE, NamedParse(self.statements, name, statement, held, 0))
        message = statement.parse_message()
        self.srv.send_copy(message, 0, len(message))
        return 1

    def _suspect(self, data: bytearray, start: _int) -> _int:
        """Note whether the text at ``start`` is SET, RESET, DEALLOCATE or DISCARD."""
        word = bytes(data[start : start + 7]).lower()
        if word.startswith((b"set", b"reset", b"dealloc", b"discard")):
            self.group_suspect = 1
        return 0

    def _use_unnamed(self, data: bytearray, run: _int, pos: _int, kind: _int) -> _int:
        """Bind, Describe or Close of the unnamed statement: the client's own must be on this server."""
        replies = self.replies
        held = self.server.statements
        mine = self.statements
        if kind == 0x43:
            replies.add_effect(_CLOSE, unnamed_close(mine, held))
            return 0
        if not self.group_unnamed:
            if not replies.settled():
                return 9
            if held.unnamed is not mine.unnamed:
                self._to_server_part(run, pos)
                self._remake_unnamed()
                run = pos
                # The message itself follows as it came.
                replies.add(_BIND if kind == 0x42 else _DESCRIBE)
                size = frame_size(data, pos, self.client.end)
                avail = self.client.end - pos
                if avail > size:
                    avail = size
                self.srv.send_copy(data, pos, avail)
                return 1
        replies.add(_BIND if kind == 0x42 else _DESCRIBE)
        return 0

    def _remake_unnamed(self) -> _int:
        """Make the client's unnamed statement on this server, or see to it that there is none."""
        replies = self.replies
        held = self.server.statements
        mine = self.statements.unnamed
        if mine is None or mine.body is None:
            # Close is what makes PostgreSQL answer "unnamed prepared statement does not exist" by itself.
            replies.add_effect(_CLOSE | _SWALLOW, UnnamedInjected(held, mine if mine is None else None))
            self.srv.send_copy(_close_unnamed, 0, len(_close_unnamed))
            return 0
        self.server.dirty |= scan(bytearray(mine.body), 0, len(mine.body)) & _DIRTY
        replies.add_effect(_PARSE | _SWALLOW, UnnamedInjected(held, mine))
        message = bytearray(b"P" + (5 + len(mine.body)).to_bytes(4, "big") + b"\0" + mine.body)
        self.srv.send_copy(message, 0, len(message))
        return 0

    def _renamed_deallocations(self, text: bytes, run: _int, pos: _int) -> Any:
        """``text`` with other names in its DEALLOCATEs of statements the client prepared by protocol; None without any.

        The server keeps the shared statements: what it drops instead are empty ones made for the purpose, which no
        error can prevent. They are on the server, and so is everything before ``pos``, when this returns.
        """
        names = self.statements.names
        mine = [found for found in deallocations(text) if found[2] in names]
        if not mine or self.replies.status == 0x45:  # refused anyway in a failed transaction
            return None
        self._to_server_part(run, pos)
        pieces = []
        last = 0
        for start, end, name in mine:
            stand_in = self.registry.private(b"\0\0\0")
            message = stand_in.parse_message()
            self.replies.add(_PARSE | _SWALLOW)
            self.srv.send_copy(message, 0, len(message))
            pieces += [text[last:start], stand_in.name]
            last = end
            self.deallocating.append(name)
        pieces.append(text[last:])
        return b"".join(pieces)

    def emit_made(self) -> _int:
        """Send the client the answers of ours whose turn has come."""
        while True:
            code = self.replies.made_next()
            if code == 0:
                return 0
            if code == _MADE_PARSE:
                self.client.send_copy(_parse_complete, 0, 5)
            else:
                self.client.send_copy(_close_complete, 0, 5)

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
                if size <= _INSPECT:
                    status = 8
                    break
            else:
                avail = size
            if kind == 0x5A and size != 6:
                self.fault = "invalid ReadyForQuery from server"
                status = 7
                break
            verdict = replies.account(kind)
            if verdict == 2:
                self.fault = f"unexpected message type {kind} from server"
                status = 7
                break
            if kind == 0x43:
                if size == avail:
                    self._command_complete(data, pos, size)
            elif kind == 0x53:
                if size == avail:
                    self._parameter_status(data, pos, size, verdict)
            elif kind == 0x45:
                self._error_response(data, pos, avail, verdict)
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
                        status = 7
                        break
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
        """Queue the server's bytes block[run:pos] for the client; the block goes along if little else is in it."""
        size = pos - run
        if size <= 0:
            return 0
        srv = self.srv
        client = self.client
        block: Any = srv.block
        rest = srv.end - pos
        if client.out is None and rest + _COPY_MORE < size:
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
        """Look for the few tags that leave something behind; SELECT, INSERT and their like are told by three bytes."""
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
            if third != 0x53 or self.server.applied is BASE:
                return 0
        elif first == 0x41:  # ALTER
            self.registry.forget()
            return 0
        elif first != 0x50 and first != 0x4C:  # PREPARE, LISTEN
            return 0
        tag = bytes(data[pos + 5 : pos + size - 1])
        server = self.server
        if tag == b"DEALLOCATE ALL" or tag == b"DISCARD ALL":
            pending = self.replies.effects
            server.statements.clear(pending)
            self.statements.clear(pending)
            if tag == b"DISCARD ALL" and server.applied is not BASE:
                server.dirty |= DIRTY_PARAMETERS  # what of the client's settings was reset is not in effect any more
        elif tag == b"DEALLOCATE" and self.deallocating:
            self.statements.names.pop(self.deallocating.popleft(), None)
        elif tag.startswith(b"DROP "):
            self.registry.forget()
        else:
            server.dirty |= trace_of(tag)
        return 0

    def _parameter_status(self, data: bytearray, pos: _int, size: _int, verdict: _int) -> _int:
        """The server reports a parameter: remember it, and for the client too if it is one that follows it."""
        name, _, rest = bytes(data[pos + 5 : pos + size]).partition(b"\0")
        key = name.decode("utf-8", "replace")
        value = rest[: len(rest) - 1].decode("utf-8", "replace")
        server = self.server
        server.parameters[key] = value
        if not verdict and self.sync_parameters and key.lower() in TRACKED:
            self.settings = self.settings.changed(key, value)
            server.applied = server.applied.changed(key, value)
        return 0

    def _error_response(self, data: bytearray, pos: _int, avail: _int, verdict: _int) -> _int:
        """Count an error and notice the server's farewell."""
        body = bytes(data[pos + 5 : pos + avail])
        if verdict:
            self.refusal = body
            self.fault = "the server refused the session's parameters"
        else:
            self.pool_stats.errors += 1
            self.stats.errors += 1
            self.server.stats.errors += 1
            if b"C0A000\0" in body and b"RRevalidateCachedQuery\0" in body:
                # A shared plan has gone stale: who prepares the text again must get a new one.
                self.registry.forget()
        if b"\0VFATAL\0" in body or b"\0VPANIC\0" in body:
            self.server.farewell = 1
        return 0
