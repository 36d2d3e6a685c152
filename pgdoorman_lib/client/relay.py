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

from pgdoorman_lib.client import events
from pgdoorman_lib.client.prepared import FLUSH, READY_IDLE
from pgdoorman_lib.client.responses import FAIRNESS, INSPECT, Responses
from pgdoorman_lib.net.stream import HIGH_WATER, Stream
from pgdoorman_lib.server.connection import Server
from pgdoorman_lib.wire import consts, owed
from pgdoorman_lib.wire.effect import Effect
from pgdoorman_lib.wire.framing import find_nul, frame_size
from pgdoorman_lib.wire.replies import owed_for
from pgdoorman_lib.wire.settings import BASE
from pgdoorman_lib.wire.statements import REMEMBERED

_int = int
_float = float

# The same numbers as C integers, where this module is compiled.
_HIGH_WATER = HIGH_WATER
_INSPECT = INSPECT
_FAIRNESS = FAIRNESS
_remembered = REMEMBERED

_ready_idle = READY_IDLE
_flush = FLUSH
_empty_and_ready = bytearray(b"I\x00\x00\x00\x04Z\x00\x00\x00\x05I")


class Relay(Responses):
    """A client's stream, the server it has borrowed if any, and everything between them.

    ``shared`` is true where prepared statements are shared in the pool (transaction mode), ``by_transaction`` where the
    server is given back after each transaction.
    """

    __slots__ = (
        "check_query",
        "client_drop",
        "discarding",
        "fault_sqlstate",
        "half_closed",
        "overdue",
        "refusal_message",
        "terminated",
    )

    def __init__(self, client: Stream, stats: Any) -> None:
        self.init_relay(client, stats)

    def init_relay(self, client: Stream, stats: Any) -> None:
        """As ``init_borrower``."""
        self.init_responses(client, stats)
        #: the whole Query message that is answered without a server, or None
        self.check_query: bytes | None = None
        self.client_drop = 0
        #: the client has sent Terminate
        self.terminated = 0
        #: or has closed its side behind what it wants carried out
        self.half_closed = 0
        #: and its answers have taken too long
        self.overdue = 0
        #: 1: the statement at the front was cancelled while waiting, or refused; 2: its batch is dropped up to Sync
        self.discarding = 0
        self.refusal_message = b""
        self.fault_sqlstate = "08P01"

    def attach(self, server: Server) -> None:
        """Borrow ``server``: its events are ours from here to ``detach``."""
        self.server = server
        self.srv = server.stream
        self.replies = server.replies
        server.stream.task = self.task
        server.unanswered.forget()
        self.server_left = 0
        self.server_drop = 0
        self.batch.nothing_sent = 1
        self.xact_started = self.task.engine.now
        self.query_started = self.xact_started
        server.active_since = self.xact_started

    def detach(self) -> None:
        """The server is somebody else's from now on."""
        self._names_done()
        if self.srv is not None:
            self.srv.task = None
        self.server = None
        self.srv = None
        self.replies = None
        self.batch.reset()

    def step(self) -> _int:
        """Do everything that can be done now; what to do next (WAIT: park, something else is the session's)."""
        batch = self.batch
        rounds = 0
        while True:
            if self.srv is not None:
                if self.srv.has_news():
                    status = self.pump_server()
                    if status:
                        return status
                if batch.settling:
                    # Nothing of the client's may run before its parameters are known to be in effect.
                    if self.replies.count:
                        return events.PENDING
                    batch.settling = 0
                    self.own_answered()
                    if batch.announcing:
                        batch.announcing = 0
                        if self.replies.status == consts.TX_IDLE and self.by_transaction:
                            return events.RELEASE  # that was all: the client's transaction is over
                    if batch.examining:
                        status = self.examined()
                        if status:
                            return status
                        continue
                    if self.server.reported is not self.told:
                        self._tell()
            if not self.terminated and self.client.has_news():
                status = self.pump_client()
                if status:
                    return status
            if self.terminated:
                if self.half_closed and (self.overdue or self.client.is_lost()):
                    return events.CLIENT_GONE  # nobody is there to read the answers
                if self.srv is None or self.replies.count == 0 or batch.in_batch or self.replies.copy_in:
                    # What was sent before Terminate has been carried out, as PostgreSQL would; a batch without its Sync
                    # is rolled back.
                    return events.TERMINATE
            if self.srv is None or not self.srv.readable or self.client.out_pending >= _HIGH_WATER:
                return events.PENDING
            rounds += 1
            if rounds >= _FAIRNESS:
                self.task.engine.again(self.task)
                return events.PENDING

    def own_answered(self) -> None:
        """What was sent on our own account has been answered, and was not refused."""

    def at_eof(self) -> _int:
        """The client has closed its side of the connection; a status as of ``step``."""
        return events.CLIENT_GONE

    def reads_on(self) -> bool:
        """As in Responses."""
        return not self.terminated

    def restore(self) -> bool:
        """Put what was reset within a transaction back to the session's beginning; whether to wait for that."""
        return False

    def examined(self) -> _int:
        """The server has answered what a transaction left on it; a status as of ``step``."""
        return events.PENDING

    def pump_client(self) -> _int:
        """Take what the client has sent as far as it goes."""
        client = self.client
        fills = 0
        while True:
            if self.srv is not None and self.srv.out_pending >= _HIGH_WATER:
                self.srv.push()
                if self.srv.out_pending >= _HIGH_WATER:
                    return events.PENDING
            if client.end > client.start:
                status = self._client_frames()
                if status == events.HELD:
                    return events.PENDING
                if status and status != events.MORE:
                    return status
            fills += 1
            if fills > _FAIRNESS:
                self.task.engine.again(self.task)
                return events.PENDING
            n = client.fill()
            if n > 0:
                continue
            if n == -1:
                return events.PENDING
            if n == 0:
                return self.at_eof()
            if not self._make_room():
                return events.CLIENT_FAULT

    def _make_room(self) -> bool:
        """The message at the front does not fit its block: a larger one, unless that is too much for all together.

        A Parse is wanted whole, of others what their names need. What can't be had is refused (``no_room``); if that is
        no way out either, the session ends: 0.
        """
        client = self.client
        block: Any = client.block
        size = frame_size(block, client.start, client.end)
        if block[client.start] != consts.PARSE and size > 2 * len(block):
            size = 2 * len(block)
        if client.engine.grown + _remembered.bytes + size > client.engine.memory_limit:
            if self.batch.no_room:
                self.fault = "Server is temporarily out of memory."
                self.fault_sqlstate = "53200"
                return False
            self.batch.no_room = 1
            return True
        client.grow(size + 1024)
        return True

    def _client_frames(self) -> _int:
        """Go through the client's messages that are there: WAIT when all went, else why not."""
        batch = self.batch
        client = self.client
        data: Any = client.block
        pos = client.start
        end = client.end
        run = pos
        status = events.PENDING
        late = 0
        first = -1
        told = client.sent + client.out_pending
        if self.client_left:
            avail = end - pos
            if avail > self.client_left:
                avail = self.client_left
            self.client_left -= avail
            if batch.cut is not None and self.srv is not None:
                self._streamed(data, pos, pos + avail, self.client_left)
            pos += avail
            if self.client_drop:
                run = pos
            elif self.client_left == 0:
                late = 1
        elif self.srv is not None and self.replies.count == 0 and not batch.in_batch:
            first = pos
        while pos < end:
            size = frame_size(data, pos, end)
            if size < 0:
                if size == -2:
                    self.fault = "invalid message length"
                    status = events.CLIENT_FAULT
                else:
                    status = events.MORE
                break
            avail = end - pos
            kind = data[pos]
            if size > avail:
                # What is streamed is looked at once its first INSPECT bytes are there: they hold every name.
                if size <= _INSPECT or (avail < _INSPECT and kind != consts.COPY_DATA):
                    status = events.MORE
                    break
            else:
                avail = size
            if self.srv is None:
                status = self._without_server(data, pos, size, avail, kind)
                if status:
                    if status == events.HELD:  # answered or dropped
                        status = events.PENDING
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
            if batch.resetting == 2 and kind != consts.COPY_DATA:
                if replies.count:
                    status = events.HELD
                    break
                batch.resetting = 0
                if self.restore():
                    status = events.HELD
                    break
            if replies.count == 0 and kind != consts.COPY_DATA:
                self.query_started = self.task.engine.now
            if batch.rewritings is not None and (kind == consts.QUERY or kind == consts.PARSE or kind == consts.BIND):
                self._another(kind, data, pos, pos + avail)
            if kind == consts.QUERY:
                if (self.by_transaction or self.startup is not BASE) and (
                    size > avail or self.scanner.scan(data, pos + 5, pos + avail, self._reading())
                ):
                    status = self._query_text(data, run, pos, size, avail)
                    if status == events.REPLACED:
                        status = events.PENDING
                        batch.in_batch = 0
                        batch.group_unnamed = 0
                        pos += avail
                        run = pos
                        continue
                    if status == events.STALLED:  # everything before it was sent
                        status = events.HELD
                        run = pos
                    if status:
                        break
                if self.shared:
                    self._query(replies)
                else:
                    replies.add(owed.QUERY)
                batch.in_batch = 0
                batch.group_unnamed = 0
            elif kind == consts.SYNC:
                replies.add(owed.SYNC)
                if batch.resetting:
                    batch.resetting = 2
                batch.in_batch = 0
                batch.group_unnamed = 0
                if batch.group_suspect:
                    if batch.group_ran:
                        batch.suspect_portals = 0
                    batch.group_suspect = batch.suspect_portals
                    batch.group_ran = 0
            elif kind == consts.PARSE or kind == consts.BIND or kind == consts.DESCRIBE or kind == consts.CLOSE:
                if kind == consts.PARSE and self.shared and not batch.in_batch:
                    plain = self._plain_batch(data, pos, end)
                    if plain:
                        batch.group_unnamed = 0
                        batch.group_suspect = batch.suspect_portals
                        batch.group_ran = 0
                        batch.bound = None
                        batch.used = None
                        pos = plain
                        continue
                if not self.shared:
                    if kind == consts.PARSE and (self.by_transaction or self.startup is not BASE):
                        status = self._parse_text(data, pos, size, avail)
                        if status:
                            break
                    replies.add(owed_for(kind))
                else:
                    status = self._statement(data, run, pos, size, avail, kind)
                    if status == events.REPLACED or status == events.REFUSED:  # sent in another form, or refused
                        batch.in_batch = 1
                        pos += avail
                        run = pos
                        if size > avail:
                            self.client_left = size - avail
                            self.client_drop = status == events.REFUSED
                        status = events.PENDING
                        continue
                    if status == events.STALLED:  # everything before it was sent
                        status = events.HELD
                        batch.in_batch = 1
                        run = pos
                    if status:
                        break
                batch.in_batch = 1
            elif kind == consts.EXECUTE:
                if batch.group_suspect:  # until it is answered, the books are not settled
                    batch.group_ran = 1
                    replies.add_effect(owed.EXECUTE, Effect())
                else:
                    replies.add(owed.EXECUTE)
                batch.in_batch = 1
            elif kind == consts.COPY_DATA or kind == consts.FLUSH:
                pass
            elif kind == consts.COPY_DONE or kind == consts.COPY_FAIL:
                replies.add(owed.COPY_END)
            elif kind == consts.FUNCTION_CALL:
                if self.by_transaction:
                    status = self._function_call(data, pos, size, avail)
                    if status:
                        break
                replies.add(owed.FUNCTION)
            elif kind == consts.TERMINATE:
                self.terminated = 1
                status = events.TERMINATE
                break
            else:
                self.fault = f"invalid frontend message type {kind}"
                status = events.CLIENT_FAULT
                break
            pos += avail
            if size > avail:
                self.client_left = size - avail
                self.client_drop = 0
        if pos > client.start:
            batch.nothing_sent = 0
            batch.no_room = 0
        if batch.named:
            batch.named = 0
            whole = first >= 0 and status == events.PENDING and not batch.in_batch and not self.client_left
            if whole and self.replies.status == consts.TX_IDLE and client.sent + client.out_pending == told:
                self.server.unanswered.keep(data, first, pos, told)
        self._to_server(run, pos)
        if batch.flushed == 1:
            batch.flushed = 2
            self.srv.send_copy(_flush, 0, 5)
        if client.block is not None:
            client.start = pos
            client.release()
        if self.srv is not None:
            if status == events.TERMINATE:
                return events.HELD
            if late and (status == events.PENDING or status == events.MORE) and self._free():
                return events.RELEASE  # its answer (the copy's failure) came before the message had gone
        return status

    def _parse_text(self, data: bytearray, pos: _int, size: _int, avail: _int) -> _int:
        """Look at the text of a Parse where statements are not shared; AS_IT_CAME, MORE or HELD."""
        start = find_nul(data, pos + 5, pos + avail) + 1
        if size > avail:
            return self._cut(data, pos, start, pos + avail, size)
        if self.scanner.scan(data, start, pos + avail, self._reading()):
            stop = find_nul(data, start, pos + avail)
            if stop >= 0:
                text = self._look(bytes(data[start:stop]))
                if text.sequences and not self._sequences_settled():
                    return events.HELD
                self._runs(text, 0)
        return events.AS_IT_CAME

    def _free(self) -> bool:
        """Whether nothing keeps the server from being given back."""
        replies = self.replies
        if not self.by_transaction or self.batch.in_batch or self.client_left:
            return False
        return replies.count == 0 and not replies.skipping and replies.status == consts.TX_IDLE

    def _to_server(self, run: _int, pos: _int) -> None:
        """Queue the client's bytes block[run:pos] for the server; the block goes along if nothing else is in it."""
        size = pos - run
        client = self.client
        block: Any = client.block
        if size <= 0 or self.srv is None:
            pass
        elif pos == client.end and self.srv.out is None:
            client.block = None
            client.start = 0
            client.end = 0
            self.srv.send_block(block, run, pos)
        else:
            self.srv.send_copy(block, run, size)

    def _without_server(self, data: bytearray, pos: _int, size: _int, avail: _int, kind: _int) -> _int:
        """What to do with a message while no server is borrowed: HELD means it is dealt with."""
        if self.discarding and kind != consts.TERMINATE:
            return self._discard(kind)
        if kind == consts.TERMINATE:
            self.terminated = 1
            return events.TERMINATE
        if kind == consts.SYNC:  # an empty batch
            self.client.send_copy(_ready_idle, 0, 6)
            return events.HELD
        if kind == consts.FLUSH or kind == consts.COPY_DATA or kind == consts.COPY_DONE or kind == consts.COPY_FAIL:
            # Flush with nothing to flush; copy messages outside a copy are ignored by PostgreSQL, too.
            return events.HELD
        if kind == consts.QUERY:
            check = self.check_query
            if check is not None and size == avail and size == len(check) and data[pos : pos + size] == check:
                self.client.send_copy(_empty_and_ready, 0, 11)
                return events.HELD
            if self.refuses(data, pos + 5, pos + avail):
                self.discarding = 1
                return self._discard(kind)
            return events.NEED_SERVER
        alone = self.shared and (
            (kind == consts.PARSE and data[pos + 5] != 0) or kind == consts.DESCRIBE or kind == consts.CLOSE
        )
        if alone and self._answer_alone(data, pos, self.client.end):
            return events.HELD
        if kind == consts.PARSE:
            start = find_nul(data, pos + 5, pos + avail) + 1
            if self.refuses(data, start, pos + avail) and self._executes(data, pos, self.client.end):
                self.discarding = 1
                return self._discard(kind)
            return events.NEED_SERVER
        if (
            kind == consts.BIND
            or kind == consts.DESCRIBE
            or kind == consts.CLOSE
            or kind == consts.EXECUTE
            or kind == consts.FUNCTION_CALL
        ):
            return events.NEED_SERVER
        self.fault = f"invalid frontend message type {kind}"
        return events.CLIENT_FAULT

    def _executes(self, data: bytearray, pos: _int, end: _int) -> bool:
        """Whether the batch that begins at ``pos`` has an Execute, as far as it is there."""
        while True:
            size = frame_size(data, pos, end)
            if size < 0 or data[pos] == consts.SYNC:
                return False
            if data[pos] == consts.EXECUTE:
                return True
            pos += size

    def refuses(self, data: bytearray, start: _int, stop: _int) -> bool:
        """Whether the statement with the text data[start:stop] is to be answered with ``refusal_message``."""
        return False

    def _discard(self, kind: _int) -> _int:
        """Answer a statement that was cancelled before it got a server, or refused; drop the rest of its batch."""
        if self.discarding == 1:
            self.client.write(self.refusal_message)
            self.discarding = 2
            if kind == consts.QUERY or kind == consts.FUNCTION_CALL:
                self.discarding = 0
        elif kind == consts.SYNC:
            self.discarding = 0
        if self.discarding == 0:
            self.client.send_copy(_ready_idle, 0, 6)
        return events.HELD
