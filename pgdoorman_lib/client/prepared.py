"""Prepared statements in transaction mode: a client's Parse, Bind, Describe and Close put into the server's terms.

The books (whose name means what, what a server has) are ``wire.prepared``'s; here is what is sent, what is answered by
us, and what has to wait until the books are certain. Like all of the relay nothing here switches or waits.
"""

from __future__ import annotations

from typing import Any

from pgdoorman_lib.client import events
from pgdoorman_lib.client.sqlprepare import SqlPrepare
from pgdoorman_lib.net.buffers import BLOCK_SIZE
from pgdoorman_lib.net.syscalls import cut, holds
from pgdoorman_lib.wire import consts, owed
from pgdoorman_lib.wire.effects import (
    Described,
    NameClosed,
    NamedParse,
    Refused,
    UnnamedInjected,
    Verification,
    unnamed_close,
    unnamed_parse,
)
from pgdoorman_lib.wire.framing import find_nul, frame_size, put_header
from pgdoorman_lib.wire.meaning import MAX_NAME, impossible, varying
from pgdoorman_lib.wire.messages import describe_statement, error_response
from pgdoorman_lib.wire.prepared import LARGE
from pgdoorman_lib.wire.replies import owed_for
from pgdoorman_lib.wire.statements import OVERHEAD, PREFIX, REMEMBERED, Acts, Statement, Unnamed
from pgdoorman_lib.wire.text import NOTHING, UNREAD

_int = int

#: A named Parse is kept whole, to be made again on other servers; one of more bytes is refused.
MAX_NAMED_PARSE = 64 << 20
#: A longer text is not worth looking whether it may be shared.
MAX_SHARED = 256 << 10
#: Statements whose errors may still be owed that are remembered, in a pipeline of many.
MAX_USED = 16

# The same numbers as C integers, where this module is compiled.
_LARGE = LARGE
_MAX_SHARED = MAX_SHARED
_MAX_NAME = MAX_NAME
_BLOCK_SIZE = BLOCK_SIZE
_MAX_USED = MAX_USED
_remembered = REMEMBERED

_scratch = bytearray(64)
_parse_complete = bytearray(b"1\x00\x00\x00\x04")
_close_complete = bytearray(b"3\x00\x00\x00\x04")
_close_unnamed = bytearray(b"C\x00\x00\x00\x06S\x00")
FLUSH = bytearray(b"H\x00\x00\x00\x04")
READY_IDLE = bytearray(b"Z\x00\x00\x00\x05I")
#: Words with which statements begin that change neither what others mean nor which names there are. What the functions
#: in them may do is for ``sqlprepare`` to know.
TAME = frozenset(
    (
        b"select insert update delete merge values table with begin start commit end rollback abort savepoint release"
        b" fetch close move show copy lock notify"
    ).split()
)
_TAME = frozenset(int.from_bytes(word[:3], "big") for word in TAME)
_SELECT = int.from_bytes(b"sel", "big")
_WITH = int.from_bytes(b"wit", "big")

#: What has PostgreSQL refuse a message of which we refuse to take more: a statement that can't exist.
_nobody = bytearray(describe_statement(PREFIX + b"none "))
_too_large = error_response(
    "ERROR",
    "53200",
    "out of memory",
    detail="The pooler can't keep a prepared statement of this size.",
    hint="The limits are max_memory_usage and 64 MB for one statement; the unnamed statement has none.",
)
_stale = error_response("ERROR", "0A000", "cached plan must not change result type", routine="RevalidateCachedQuery")


class PreparedStatements(SqlPrepare):
    """The messages about prepared statements."""

    __slots__ = ()

    def _plain_batch(self, data: bytearray, pos: _int, end: _int) -> _int:
        """Where the batch ends that begins at ``pos`` with Parse, if it is a plain one (see ``replies``), else 0.

        It has been entered in the books then, and goes as it came. For most drivers that is every statement they send,
        and one entry instead of five saves a tenth of what it costs.
        """
        replies = self.replies
        if data[pos + 5] != 0 or replies.count or replies.skipping:
            return 0
        size = frame_size(data, pos, end)
        if size < 8 or size > end - pos:
            return 0
        at = pos + size
        stop = at
        if end - at < 7 or data[at] != consts.BIND or data[at + 5] != 0 or data[at + 6] != 0:
            return 0
        size = frame_size(data, at, end)
        if size < 7 or size > end - at:
            return 0
        at += size
        if end - at >= 7 and data[at] == consts.DESCRIBE:
            if frame_size(data, at, end) != 7 or data[at + 5] != consts.PORTAL or data[at + 6] != 0:
                return 0
            at += 7
        if end - at < 15 or data[at] != consts.EXECUTE or frame_size(data, at, end) != 10 or data[at + 5] != 0:
            return 0
        at += 10
        if data[at] != consts.SYNC or frame_size(data, at, end) != 5:
            return 0
        start = pos + 6
        if self.scanner.scan(data, start, stop, self._reading()):
            return 0
        mine = self.statements
        unnamed: Any = mine.unnamed
        body = unnamed.body if unnamed is not None and unnamed.acts is None else None
        if body is None or not holds(data, start, stop, body):
            unnamed = Unnamed(bytes(data[start:stop]))
            unnamed.suspect = 2
            mine.unnamed = unnamed
        unnamed.seen = self.scanner.lexicon
        self.server.statements.unnamed = unnamed
        replies.add(owed.PLAIN)
        return at + 5

    def _statement(self, data: bytearray, run: _int, pos: _int, size: _int, avail: _int, kind: _int) -> _int:
        """Parse, Bind, Describe or Close where statements are shared.

        AS_IT_CAME, REPLACED, STALLED, REFUSED, MORE or HELD, as in ``events``.
        """
        batch = self.batch
        replies = self.replies
        stop = pos + avail
        begin = pos + 5
        if kind == consts.BIND:
            begin = find_nul(data, begin, stop) + 1
            if begin == 0:
                if size > avail:
                    return self._refuse(run, pos) if batch.no_room else events.MORE
                replies.add(owed.BIND)  # malformed: PostgreSQL says so
                return events.AS_IT_CAME
        elif kind != consts.PARSE:
            if size < 7 or data[begin] != consts.STATEMENT:  # a portal, or malformed
                if (
                    kind == consts.DESCRIBE
                    and size == 7
                    and batch.bound is not None
                    and batch.bound.shape is None
                    and not batch.altered
                ):
                    replies.add_effect(owed.DESCRIBE, Described(batch.bound, 1))
                else:
                    replies.add(owed_for(kind))
                return events.AS_IT_CAME
            begin += 1
        name_end = find_nul(data, begin, stop)
        if name_end < 0:
            if size > avail:
                return self._refuse(run, pos) if batch.no_room else events.MORE
            replies.add(owed_for(kind))
            return events.AS_IT_CAME
        if kind == consts.PARSE:
            return self._parse(data, run, pos, size, avail, name_end)
        if name_end == begin:
            return self._use_unnamed(data, run, pos, kind)
        if not replies.settled() or (batch.group_ran and not self._names_settled()):
            return events.HELD
        name = cut(data, begin, name_end if name_end - begin < _MAX_NAME else begin + _MAX_NAME)
        if kind == consts.BIND:
            batch.bound = None
        if kind == consts.CLOSE:
            self._to_server_part(run, pos)
            closed = NameClosed(self.statements, name)
            replies.add_effect(owed.MADE_CLOSE, closed)
            self.emit_made()
            if closed.statement is not None:
                self._unheld(closed.statement)
            return events.REPLACED
        statement = self.statements.names.get(name)
        if statement is None:
            if name.startswith(PREFIX) or (batch.taken is not None and name in batch.taken):
                # Never let a client reach what we have made: what it asks for does not exist, and a name that can't
                # exist on the server makes PostgreSQL say so.
                self._to_server_part(run, pos)
                replies.add(owed_for(kind))
                self._send_renamed(data, pos, size, avail, kind, begin, name_end, bytearray(impossible(name) + b"\0"))
                return events.REPLACED
            replies.add(owed_for(kind))
            return events.AS_IT_CAME
        if statement.acts is not None and statement.acts.text.names:
            if not self._names_settled():
                return events.HELD
            statement = self._renewed(name, statement)
        if (
            kind == consts.BIND
            and statement.acts is not None
            and statement.acts.text.sequences
            and not self._sequences_settled()
        ):
            return events.HELD
        if kind == consts.BIND and (statement.seen is not self.scanner.lexicon or self._in_doubt()):
            self._look_again(statement, statement.sql())
        statement = self._own(name, statement)
        self._to_server_part(run, pos)
        if statement.acts is not None and statement.acts.needs:
            self._act(statement.acts, consts.DESCRIBE, data, 0, 0)  # before the statement itself is made there
        if (statement.description is not None or statement.shape is not None) and not self._verified(statement):
            return events.STALLED
        if statement.acts is not None:
            self._act(statement.acts, kind, data, name_end + 1, stop)
        if statement.stale:
            # A name that can't exist has PostgreSQL refuse it in place; the client gets the text that fits.
            replies.add_effect(owed.BIND if kind == consts.BIND else owed.DESCRIBE, Refused(_stale))
            self._send_renamed(data, pos, size, avail, kind, begin, name_end, bytearray(impossible(name) + b"\0"))
            return events.REPLACED
        self._ensure(statement)
        batch.named = 1
        if kind == consts.BIND:
            replies.add(owed.BIND)
            if begin == pos + 6:
                batch.bound = statement
            if statement is not batch.used:
                self._uses(statement)
            if statement.suspect:
                batch.group_suspect = 1
                batch.suspect_portals = 1
        elif statement.description is None and not batch.altered:
            replies.add_effect(owed.DESCRIBE, Described(statement))
        else:
            replies.add(owed.DESCRIBE)
        self._send_renamed(data, pos, size, avail, kind, begin, name_end, statement.cname)
        return events.REPLACED

    def _uses(self, statement: Statement) -> None:
        """``statement`` is bound: an error may be about it."""
        batch = self.batch
        before = batch.used
        batch.used = statement
        if self.replies.count == 0:  # of those before it nothing is owed any more
            batch.used_before = None
        elif before is not None:
            if batch.used_before is None:
                batch.used_before = []
            if len(batch.used_before) < _MAX_USED:
                batch.used_before.append(before)

    def doubt_used(self) -> None:
        """Binding or executing a statement has failed for what it is, or for its values: share it no more.

        It may have been analysed for other types than a Parse would find now.
        """
        batch = self.batch
        if batch.used is not None:
            self.registry.discard(batch.used)
        if batch.used_before is not None:
            for statement in batch.used_before:
                self.registry.discard(statement)

    def _unheld(self, statement: Statement) -> None:
        """A client has closed ``statement``: so does the server if it is of no use to others, or too large for that."""
        handle = statement.handle
        if handle.users or (handle.current and handle.size < _LARGE):
            return
        self.registry.discard(statement)
        if self.server.statements.has(statement):
            self._close(handle)

    def _refuse(self, run: _int, pos: _int) -> _int:
        """Refuse the message at ``pos``: for want of memory, as PostgreSQL would."""
        self.batch.no_room = 0
        self._to_server_part(run, pos)
        self.replies.add_effect(owed.DESCRIBE, Refused(_too_large))
        self.srv.send_copy(_nobody, 0, len(_nobody))
        return events.REFUSED

    def _verified(self, statement: Statement) -> bool:
        """Whether ``statement``, described to a client before, is known to be the same on this server.

        If the server does not have it, it is made there and described to us first: the table may have changed, and a
        client that was told other columns would misread the rows.
        """
        batch = self.batch
        verification = batch.verifying
        if verification is not None:
            if not verification.finished:
                return False
            batch.verifying = None
            return True
        held = self.server.statements
        if held.has(statement) or statement.stale or self.replies.skipping:
            return True
        self._ensure(statement)
        verification = Verification(statement, self.registry)
        batch.verifying = verification
        body = b"S" + statement.name + b"\0"
        message = bytearray(b"D" + (4 + len(body)).to_bytes(4, "big") + body) + FLUSH
        self.replies.add_effect(owed.DESCRIBE | owed.SWALLOW, verification)
        self.srv.send_copy(message, 0, len(message))
        return False

    def _answer_alone(self, data: bytearray, pos: _int, end: _int) -> bool:
        """Answer the batch at ``pos`` if no server is needed for that (it ends at ``skip_to``); whether it was.

        That is so when it only parses statements the pool knows, under names that are free, describes such as have been
        described, and closes; and when it is there whole, up to its Sync or Flush. What is known is believed for a
        moment only (BELIEVED): then a server is asked again.
        """
        mine = self.statements
        names = mine.names
        now = self.client.engine.now
        entered: dict[bytes, Statement | None] = {}
        answers: list[bytes | bytearray] = []
        at = pos
        while True:
            size = frame_size(data, at, end)
            if size < 0 or size > end - at:
                return False
            kind = data[at]
            if kind == consts.SYNC or kind == consts.FLUSH:
                break
            begin = at + 5
            if kind != consts.PARSE:
                if (kind != consts.DESCRIBE and kind != consts.CLOSE) or size < 8 or data[begin] != consts.STATEMENT:
                    return False
                begin += 1
            name_end = find_nul(data, begin, at + size)
            if name_end <= begin:
                return False
            name = bytes(data[begin : name_end if name_end - begin < _MAX_NAME else begin + _MAX_NAME])
            statement = entered[name] if name in entered else names.get(name)
            if kind == consts.CLOSE:
                entered[name] = None
                answers.append(_close_complete)
            elif kind == consts.DESCRIBE:
                if statement is None or statement.description is None or statement.stale:
                    return False
                if self.registry.find(statement.body, self.settings.environment, now) is not statement:
                    return False
                answers.append(statement.description)
            else:
                if statement is not None or name.startswith(PREFIX):
                    return False
                statement = self.registry.find(bytes(data[name_end + 1 : at + size]), self.settings.environment, now)
                if statement is None or not statement.confirmed or statement.stale:
                    return False
                entered[name] = statement
                answers.append(_parse_complete)
            at += size
        for name, statement in entered.items():
            if statement is None:
                mine.leave(name)
            else:
                mine.enter(name, statement)
        if kind == consts.SYNC:
            answers.append(READY_IDLE)
        self.client.write(b"".join(answers))
        self.skip_to = at + size
        return True

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
    ) -> None:
        """Send the message at ``pos`` with the name data[begin:name_end] replaced; the part of it that is there."""
        srv = self.srv
        head = _scratch
        put_header(head, kind, size - (name_end + 1 - begin) + len(cname))
        srv.send_copy(head, 0, 5)
        srv.send_copy(data, pos + 5, begin - pos - 5)
        srv.send_copy(cname, 0, len(cname))
        srv.send_copy(data, name_end + 1, pos + avail - name_end - 1)

    def _parse(self, data: bytearray, run: _int, pos: _int, size: _int, avail: _int, name_end: _int) -> _int:
        """A Parse: unnamed as it came, a named one under our name unless the server has it already."""
        batch = self.batch
        replies = self.replies
        held = self.server.statements
        named = name_end > pos + 5
        if named:
            if size > avail:
                return self._refuse(run, pos) if size > MAX_NAMED_PARSE or batch.no_room else events.MORE
            if replies.syncs or not replies.settled():
                return events.HELD  # in a transaction that has failed by then the answer is not ours to make
            if batch.group_ran and not self._names_settled():
                return events.HELD
        elif size > avail and size <= self.parse_limit and not batch.no_room:
            return events.MORE
        private = batch.group_suspect
        suspect = unsettling(data, name_end + 1, pos + avail)
        acts = None
        if size > avail:
            status = self._cut(data, pos, name_end + 1, pos + avail, size)
            if status == events.MORE and batch.no_room:
                return self._refuse(run, pos)
            if status:
                return status
        elif self.scanner.scan(data, name_end + 1, pos + size, self._reading()):
            stop = find_nul(data, name_end + 1, pos + size)
            text = self._look(bytes(data[name_end + 1 : stop])) if stop >= 0 else NOTHING
            if text.sequences and not self._sequences_settled():
                return events.HELD
            if text.names and not self._names_settled():
                return events.HELD
            if text.names and not self._refused():
                acts = self._acts(text, bytes(data[name_end + 1 : stop]))
                suspect = True
                private = 1
            elif text != NOTHING:
                acts = Acts(text)
                if text.disturbs or text.defines or text.sets or text.only_resets or text.traces.bits:
                    suspect = True
        if suspect:
            batch.group_suspect = 1
        if size > avail:
            cut: Any = batch.cut
            acts = Acts(cut.found) if cut.found is not NOTHING else None
            replies.add_effect(owed.PARSE, unnamed_parse(self.statements, held, None, acts))
            if self.statements.unnamed is not None:
                self.statements.unnamed.suspect = suspect
                self.statements.unnamed.seen = self.scanner.lexicon
            batch.group_unnamed = 1
            return events.AS_IT_CAME
        if acts is not None and acts.text.sequences:
            self._hide_sequences()
        if acts is not None and acts.needs:
            # What EXECUTE will return is settled when it is parsed.
            self._to_server_part(run, pos)
            run = pos
            self._act(acts, consts.DESCRIBE, data, 0, 0)
        if acts is not None and acts.sql is not acts.original:
            self._rewritten(b"", acts)
            body = acts.sql + bytes(data[find_nul(data, name_end + 1, pos + size) : pos + size])
        else:
            body = bytes(data[name_end + 1 : pos + size])
        if not named:
            batch.group_unnamed = 1
            replies.add_effect(owed.PARSE, unnamed_parse(self.statements, held, body, acts))
            if self.statements.unnamed is not None:
                self.statements.unnamed.suspect = suspect
                self.statements.unnamed.seen = self.scanner.lexicon
            if acts is None or (acts.sql is acts.original and not acts.needs):
                return events.AS_IT_CAME
            self._to_server_part(run, pos)
            message = bytearray(b"P" + (5 + len(body)).to_bytes(4, "big") + b"\0" + body)
            self.srv.send_copy(message, 0, len(message))
            return events.REPLACED
        name = bytes(data[pos + 5 : name_end if name_end - pos - 5 < _MAX_NAME else pos + 5 + _MAX_NAME])
        self._to_server_part(run, pos)
        if name in self.statements.names:
            self._take(name)
            replies.add(owed.PARSE)
            self.srv.send_copy(data, pos, size)
            return events.REPLACED
        statement = None
        if not private and not batch.altered and not self._apart() and replies.status != consts.TX_FAILED:
            # Changed parameters would be frozen into a plan others use; in a failed transaction PostgreSQL must see the
            # message to refuse it.
            now = self.client.engine.now
            statement = self.registry.find(body, self.settings.environment, now)
            if statement is None and len(body) <= _MAX_SHARED and not varying(body):
                statement = self.registry.get(body, self.settings.environment, acts, now)
        if statement is None:
            statement = self.registry.private(body, acts)
        statement.suspect = suspect
        if statement.handle.users == 0 and self._overfull(len(body)):
            self.registry.discard(statement)
            return self._refuse(run, pos)
        if held.has(statement):
            self.server.stats.prepare_hit += 1
            held.touch(statement)
            replies.add_effect(owed.MADE_PARSE, NamedParse(self.statements, name, statement, held, 1))
            self.emit_made()
            return events.REPLACED
        self._missing(statement, acts)
        batch.named = 1
        replies.add_effect(owed.PARSE, NamedParse(self.statements, name, statement, held, 0))
        if acts is not None and acts.sql is not acts.original:
            message = statement.parse_message()
            self.srv.send_copy(message, 0, len(message))
            return events.REPLACED
        self._send_renamed(data, pos, size, avail, consts.PARSE, pos + 5, name_end, statement.cname)
        return events.REPLACED

    def _overfull(self, size: _int) -> bool:
        """Whether remembering ``size`` more bytes for the client would be too much, besides what is being read."""
        engine = self.client.engine
        block = self.client.block
        taken = engine.grown + _remembered.bytes + size + OVERHEAD
        if block is not None and len(block) > _BLOCK_SIZE:
            taken -= len(block)  # the message itself, which goes when it was sent
        return taken > engine.memory_limit

    def _use_unnamed(self, data: bytearray, run: _int, pos: _int, kind: _int) -> _int:
        """Bind, Describe or Close of the unnamed statement: the client's own must be on this server."""
        batch = self.batch
        replies = self.replies
        held = self.server.statements
        mine = self.statements
        if kind == consts.BIND:
            batch.bound = None
        if kind == consts.CLOSE:
            replies.add_effect(owed.CLOSE, unnamed_close(mine, held))
            return events.AS_IT_CAME
        if kind == consts.BIND and mine.unnamed is not None:
            batch.used = None  # no error is about a shared one
            if suspicious(mine.unnamed):
                batch.group_suspect = 1
                batch.suspect_portals = 1
            if mine.unnamed.seen is not self.scanner.lexicon or self._in_doubt():
                if mine.unnamed.body is not None:
                    self._look_again(mine.unnamed, bytes(mine.unnamed.body.partition(b"\0")[0]))
                elif mine.unnamed.acts is None:
                    mine.unnamed.acts = Acts(UNREAD)
        if mine.unnamed is not None and mine.unnamed.acts is not None:
            return self._use_acting(data, run, pos, kind)
        if not batch.group_unnamed:
            if not replies.settled():
                return events.HELD
            if held.unnamed is not mine.unnamed:
                self._to_server_part(run, pos)
                self._remake_unnamed()
                replies.add(owed_for(kind))
                self._send_as_it_came(data, pos)
                return events.REPLACED
        replies.add(owed_for(kind))
        return events.AS_IT_CAME

    def _send_as_it_came(self, data: bytearray, pos: _int) -> None:
        """Send the message at ``pos``, or the part of it that is there."""
        size = frame_size(data, pos, self.client.end)
        avail = self.client.end - pos
        if avail > size:
            avail = size
        self.srv.send_copy(data, pos, avail)

    def _use_acting(self, data: bytearray, run: _int, pos: _int, kind: _int) -> _int:
        """As _use_unnamed, where the statement's text betrays something."""
        mine = self.statements
        unnamed: Any = mine.unnamed
        if not self.batch.group_unnamed and not self.replies.settled():
            return events.HELD
        acts = unnamed.acts
        if kind == consts.BIND and acts.text.sequences and not self._sequences_settled():
            return events.HELD
        remake = not self.batch.group_unnamed and self.server.statements.unnamed is not unnamed
        if acts.text.names:
            if not self._names_settled():
                return events.HELD
            if unnamed.body is not None and not self._fits(acts):
                tail = unnamed.body[len(acts.sql) :]
                acts = self._acts(acts.text, acts.original)
                mine.unnamed = Unnamed(acts.sql + tail, acts)
                remake = True
        self._to_server_part(run, pos)
        if remake:
            if acts.needs:
                self._act(acts, consts.DESCRIBE, data, 0, 0)
            self._remake_unnamed()
        stop = pos + frame_size(data, pos, self.client.end)
        if stop > self.client.end:
            stop = self.client.end
        self._act(acts, kind, data, find_nul(data, pos + 5, stop) + 2, stop)  # behind the portal's name, and no name
        self.replies.add(owed_for(kind))
        self._send_as_it_came(data, pos)
        return events.REPLACED

    def _remake_unnamed(self) -> None:
        """Make the client's unnamed statement on this server, or see to it that there is none."""
        replies = self.replies
        held = self.server.statements
        mine = self.statements.unnamed
        if mine is None or mine.body is None:
            # Close is what makes PostgreSQL answer "unnamed prepared statement does not exist" by itself.
            replies.add_effect(owed.CLOSE | owed.SWALLOW, UnnamedInjected(held, mine if mine is None else None))
            self.srv.send_copy(_close_unnamed, 0, len(_close_unnamed))
            return
        replies.add_effect(owed.PARSE | owed.SWALLOW, UnnamedInjected(held, mine))
        message = bytearray(b"P" + (5 + len(mine.body)).to_bytes(4, "big") + b"\0" + mine.body)
        self.srv.send_copy(message, 0, len(message))

    def emit_made(self) -> None:
        """Send the client the answers of ours whose turn has come."""
        code = self.replies.made_next()
        while code:
            if code == owed.MADE_PARSE:
                self.client.send_copy(_parse_complete, 0, 5)
            else:
                self.client.send_copy(_close_complete, 0, 5)
            code = self.replies.made_next()


def suspicious(unnamed: Unnamed) -> _int:
    """Whether running a client's unnamed statement may change what other texts mean."""
    if unnamed.suspect == 2:  # nobody has asked yet
        body = bytearray(unnamed.body or b"")
        unnamed.suspect = unsettling(body, 0, len(body))
    return unnamed.suspect


def unsettling(data: bytearray, start: _int, stop: _int) -> bool:
    """Whether running the text data[start:stop] may change what other texts mean, or which names there are.

    All may but those that begin with a word of TAME and have no INTO in them, as SELECT INTO has.
    """
    at = start
    while at < stop and data[at] <= 0x20 and data[at]:
        at += 1
    if stop - at < 3:
        return False
    word = (data[at] | 32) << 16 | (data[at + 1] | 32) << 8 | data[at + 2] | 32
    if word not in _TAME:
        return bool(data[at])
    if word != _SELECT and word != _WITH:
        return False
    return b"into" in data[at:stop].lower()
