"""From a client to the server it has borrowed: each message as it came, or in the server's terms.

Rules:
1. Bytes leave as they came, in runs as long as possible. Only Query, Parse, Bind, Describe and Close are looked into,
   and only where the pool shares prepared statements.
2. A message larger than INSPECT is streamed; one that must be seen whole first (Parse) may grow its buffer up to a
   limit.
"""

from __future__ import annotations

from typing import Any

from pgdoorman_lib.client import events
from pgdoorman_lib.client.client_end import ClientEnd
from pgdoorman_lib.client.fixed import FLUSH
from pgdoorman_lib.client.leftovers import Leftovers
from pgdoorman_lib.client.link import Turn
from pgdoorman_lib.client.measures import FAIRNESS, INSPECT
from pgdoorman_lib.client.memory import taken
from pgdoorman_lib.client.prepared import PreparedStatements
from pgdoorman_lib.client.sqlprepare import SqlPrepare
from pgdoorman_lib.client.texts import Texts
from pgdoorman_lib.client.unnamed import UnnamedStatement
from pgdoorman_lib.client.without_server import WithoutServer
from pgdoorman_lib.net.stream import HIGH_WATER
from pgdoorman_lib.wire import consts, owed
from pgdoorman_lib.wire.effect import Effect
from pgdoorman_lib.wire.framing import find_nul, frame_size
from pgdoorman_lib.wire.replies import owed_for
from pgdoorman_lib.wire.settings import BASE

_int = int


class Requests:
    """The client's side of a relay."""

    __slots__ = ("client_end", "leftovers", "prepared", "sqlprepare", "texts", "turn", "unnamed", "without_server")

    def __init__(
        self,
        turn: Turn,
        texts: Texts,
        sqlprepare: SqlPrepare,
        unnamed: UnnamedStatement,
        prepared: PreparedStatements,
        leftovers: Leftovers,
        client_end: ClientEnd,
        without_server: WithoutServer,
    ) -> None:
        self.turn = turn
        self.texts = texts
        self.sqlprepare = sqlprepare
        self.unnamed = unnamed
        self.prepared = prepared
        self.leftovers = leftovers
        self.client_end = client_end
        self.without_server = without_server

    def pump_client(self) -> _int:
        """Take what the client has sent as far as it goes."""
        link = self.turn.link
        client = link.client
        fills = 0
        while True:
            if link.srv is not None and link.srv.out_pending >= HIGH_WATER:
                link.srv.push()
                if link.srv.out_pending >= HIGH_WATER:
                    return events.PENDING
            if client.end > client.start:
                status = self._client_frames()
                if status == events.HELD:
                    return events.PENDING
                if status and status != events.MORE:
                    return status
            fills += 1
            if fills > FAIRNESS:
                link.owner.task.engine.again(link.owner.task)
                return events.PENDING
            n = client.fill()
            if n > 0:
                continue
            if n == -1:
                return events.PENDING
            if n == 0:
                return self.client_end.at_eof()
            if not self._make_room():
                return events.CLIENT_FAULT

    def _make_room(self) -> bool:
        """The message at the front does not fit its block: a larger one, unless that is too much for all together.

        A Parse is wanted whole, of others what their names need. What can't be had is refused (``no_room``); if that is
        no way out either, the session ends: 0.
        """
        link = self.turn.link
        client = link.client
        block: Any = client.block
        size = frame_size(block, client.start, client.end)
        if block[client.start] != consts.PARSE and size > 2 * len(block):
            size = 2 * len(block)
        if taken(client.engine) + size > client.engine.memory_limit:
            if self.turn.batch.no_room:
                link.fault = "Server is temporarily out of memory."
                link.fault_sqlstate = "53200"
                return False
            self.turn.batch.no_room = 1
            return True
        client.grow(size + 1024)
        return True

    def _client_frames(self) -> _int:
        """Go through the client's messages that are there: PENDING when all went, else why not."""
        link = self.turn.link
        if link.knowledge.row is not None:
            link.knowledge.catch_up()
        batch = self.turn.batch
        client = link.client
        data: Any = client.block
        pos = client.start
        end = client.end
        run = pos
        status = events.PENDING
        late = 0
        first = -1
        told = client.sent + client.out_pending
        if link.client_left:
            avail = end - pos
            if avail > link.client_left:
                avail = link.client_left
            link.client_left -= avail
            if batch.cut is not None and link.srv is not None:
                self.texts.streamed(data, pos, pos + avail, link.client_left)
            pos += avail
            if link.client_drop:
                run = pos
            elif link.client_left == 0:
                late = 1
        elif link.srv is not None and link.replies.count == 0 and not batch.in_batch:
            first = pos
        while pos < end:
            size = frame_size(data, pos, end)
            if size < 0:
                if size == -2:
                    link.fault = "invalid message length"
                    status = events.CLIENT_FAULT
                else:
                    status = events.MORE
                break
            avail = end - pos
            kind = data[pos]
            if size > avail:
                # What is streamed is looked at once its first INSPECT bytes are there: they hold every name.
                if size <= INSPECT or (avail < INSPECT and kind != consts.COPY_DATA):
                    status = events.MORE
                    break
            else:
                avail = size
            if link.srv is None:
                status = self.without_server.answer(data, pos, size, avail, kind)
                if status:
                    if status == events.HELD:  # answered or dropped
                        status = events.PENDING
                        pos += avail
                        if self.without_server.skip_to:
                            pos = self.without_server.skip_to
                            self.without_server.skip_to = 0
                            size = avail
                        run = pos
                        if size > avail:
                            link.client_left = size - avail
                            link.client_drop = 1
                        continue
                    break
            replies = link.replies
            if batch.resetting == 2 and kind != consts.COPY_DATA:
                if replies.count:
                    status = events.HELD
                    break
                batch.resetting = 0
                if self.leftovers.restore():
                    status = events.HELD
                    break
            if replies.count == 0 and kind != consts.COPY_DATA:
                link.query_started = client.engine.now
                if replies.status == consts.TX_IDLE and not batch.in_batch:
                    link.xact_started = link.query_started
            if batch.rewritings is not None and (kind == consts.QUERY or kind == consts.PARSE or kind == consts.BIND):
                self.sqlprepare.another(kind, data, pos, pos + avail)
            if kind == consts.QUERY:
                if (link.by_transaction or link.startup is not BASE) and (
                    size > avail or link.scanner.scan(data, pos + 5, pos + avail, self.texts.reading())
                ):
                    status = self.sqlprepare.query_text(data, run, pos, size, avail)
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
                if link.shared:
                    self.sqlprepare.query(replies)
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
                if kind == consts.PARSE and link.shared:
                    past = self.unnamed.groups(data, pos, end)
                    if past:
                        pos = past
                        continue
                if not link.shared:
                    if kind == consts.PARSE and (link.by_transaction or link.startup is not BASE):
                        status = self._parse_text(data, pos, size, avail)
                        if status:
                            break
                    replies.add(owed_for(kind))
                else:
                    status = self.prepared.statement(data, run, pos, size, avail, kind)
                    if status == events.REPLACED or status == events.REFUSED:  # sent in another form, or refused
                        batch.in_batch = 1
                        pos += avail
                        run = pos
                        if size > avail:
                            link.client_left = size - avail
                            link.client_drop = status == events.REFUSED
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
                if link.by_transaction:
                    status = self.texts.function_call(data, pos, size, avail)
                    if status:
                        break
                replies.add(owed.FUNCTION)
            elif kind == consts.TERMINATE:
                link.terminated = 1
                status = events.TERMINATE
                break
            else:
                link.fault = f"invalid frontend message type {kind}"
                status = events.CLIENT_FAULT
                break
            pos += avail
            if size > avail:
                link.client_left = size - avail
                link.client_drop = 0
        if pos > client.start:
            batch.nothing_sent = 0
            batch.no_room = 0
        if batch.named:
            batch.named = 0
            whole = first >= 0 and status == events.PENDING and not batch.in_batch and not link.client_left
            if whole and link.replies.status == consts.TX_IDLE and client.sent + client.out_pending == told:
                link.server.unanswered.keep(data, first, pos, told)
        self._to_server(run, pos)
        if batch.flushed == 1:
            batch.flushed = 2
            link.srv.send_copy(FLUSH, 0, 5)
        if client.block is not None:
            client.start = pos
            client.release()
        if link.srv is not None:
            if status == events.TERMINATE:
                return events.HELD
            if late and (status == events.PENDING or status == events.MORE) and self._free():
                return events.RELEASE  # its answer (the copy's failure) came before the message had gone
        return status

    def _parse_text(self, data: bytearray, pos: _int, size: _int, avail: _int) -> _int:
        """Look at the text of a Parse where statements are not shared; AS_IT_CAME, MORE or HELD."""
        start = find_nul(data, pos + 5, pos + avail) + 1
        if size > avail:
            return self.texts.cut(data, pos, start, pos + avail, size)
        if self.turn.link.scanner.scan(data, start, pos + avail, self.texts.reading()):
            stop = find_nul(data, start, pos + avail)
            if stop >= 0:
                text = self.texts.look(bytes(data[start:stop]))
                if text.sequences and not self.texts.sequences_settled():
                    return events.HELD
                self.texts.runs(text, 0)
        return events.AS_IT_CAME

    def _free(self) -> bool:
        """Whether nothing keeps the server from being given back."""
        link = self.turn.link
        replies = link.replies
        if not link.by_transaction or self.turn.batch.in_batch or link.client_left:
            return False
        return replies.count == 0 and not replies.skipping and replies.status == consts.TX_IDLE

    def _to_server(self, run: _int, pos: _int) -> None:
        """Queue the client's bytes block[run:pos] for the server; the block goes along if nothing else is in it."""
        link = self.turn.link
        size = pos - run
        client = link.client
        block: Any = client.block
        if size <= 0 or link.srv is None:
            pass
        elif pos == client.end and link.srv.out is None:
            client.block = None
            client.start = 0
            client.end = 0
            link.srv.send_block(block, run, pos)
        else:
            link.srv.send_copy(block, run, size)
