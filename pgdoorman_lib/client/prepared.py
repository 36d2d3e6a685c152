"""Prepared statements in transaction mode: a client's Parse, Bind, Describe and Close put into the server's terms.

The books (whose name means what, what a server has) are ``wire.prepared``'s; here is what is sent, what is answered by
us, and what has to wait until the books are certain. Like all of the relay nothing here switches or waits.
"""

from __future__ import annotations

from typing import Any

from pgdoorman_lib.client import events
from pgdoorman_lib.client.deployment import Deployment
from pgdoorman_lib.client.fixed import CLOSE_COMPLETE, PARSE_COMPLETE
from pgdoorman_lib.client.link import Turn
from pgdoorman_lib.client.memory import taken
from pgdoorman_lib.client.sqlprepare import SqlPrepare
from pgdoorman_lib.client.texts import Texts
from pgdoorman_lib.client.unnamed import UnnamedStatement, unsettling
from pgdoorman_lib.net.measures import BLOCK_SIZE
from pgdoorman_lib.net.syscalls import cut
from pgdoorman_lib.wire import consts, owed
from pgdoorman_lib.wire.effects import Described, NameClosed, NamedParse, Refused, unnamed_parse
from pgdoorman_lib.wire.framing import find_nul, put_header
from pgdoorman_lib.wire.meaning import MAX_NAME, impossible, varying
from pgdoorman_lib.wire.measures import OVERHEAD
from pgdoorman_lib.wire.messages import describe_statement, error_response, parse_message
from pgdoorman_lib.wire.replies import owed_for
from pgdoorman_lib.wire.statements import PREFIX, Acts, Statement
from pgdoorman_lib.wire.text import NOTHING

_int = int

#: A named Parse is kept whole, to be made again on other servers; one of more bytes is refused.
MAX_NAMED_PARSE = 64 << 20
#: A longer text is not worth looking whether it may be shared.
MAX_SHARED = 256 << 10
#: Statements whose errors may still be owed that are remembered, in a pipeline of many.
MAX_USED = 16


_scratch = bytearray(64)
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


class PreparedStatements:
    """The messages about prepared statements."""

    __slots__ = ("deployment", "sqlprepare", "texts", "turn", "unnamed")

    def __init__(
        self, turn: Turn, deployment: Deployment, texts: Texts, sqlprepare: SqlPrepare, unnamed: UnnamedStatement
    ) -> None:
        self.turn = turn
        self.deployment = deployment
        self.texts = texts
        self.sqlprepare = sqlprepare
        self.unnamed = unnamed

    def statement(self, data: bytearray, run: _int, pos: _int, size: _int, avail: _int, kind: _int) -> _int:
        """Parse, Bind, Describe or Close where statements are shared.

        AS_IT_CAME, REPLACED, STALLED, REFUSED, MORE or HELD, as in ``events``.
        """
        link = self.turn.link
        batch = self.turn.batch
        replies = link.replies
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
            return self.unnamed.use_unnamed(data, run, pos, kind)
        if not replies.settled() or (batch.group_ran and not self.sqlprepare.names_settled()):
            return events.HELD
        name = cut(data, begin, name_end if name_end - begin < MAX_NAME else begin + MAX_NAME)
        if kind == consts.BIND:
            batch.bound = None
        if kind == consts.CLOSE:
            link.to_server_part(run, pos)
            closed = NameClosed(link.statements, name)
            replies.add_effect(owed.MADE_CLOSE, closed)
            self.emit_made()
            if closed.statement is not None:
                self.deployment.unheld(closed.statement)
            return events.REPLACED
        statement = link.statements.names.get(name)
        if statement is None:
            if name.startswith(PREFIX) or (batch.taken is not None and name in batch.taken):
                # Never let a client reach what we have made: what it asks for does not exist, and a name that can't
                # exist on the server makes PostgreSQL say so.
                link.to_server_part(run, pos)
                replies.add(owed_for(kind))
                self._send_renamed(data, pos, size, avail, kind, begin, name_end, bytearray(impossible(name) + b"\0"))
                return events.REPLACED
            replies.add(owed_for(kind))
            return events.AS_IT_CAME
        if statement.acts is not None and statement.acts.text.names:
            if not self.sqlprepare.names_settled():
                return events.HELD
            statement = self.sqlprepare.renewed(name, statement)
        if (
            kind == consts.BIND
            and statement.acts is not None
            and statement.acts.text.sequences
            and not self.texts.sequences_settled()
        ):
            return events.HELD
        if kind == consts.BIND and (statement.seen is not link.scanner.lexicon or self.texts.in_doubt()):
            self.texts.look_again(statement, statement.sql())
        statement = self.deployment.own(name, statement)
        link.to_server_part(run, pos)
        if statement.acts is not None and statement.acts.needs:
            self.sqlprepare.act(
                statement.acts, consts.DESCRIBE, data, 0, 0
            )  # before the statement itself is made there
        if (statement.description is not None or statement.shape is not None) and not self.deployment.verified(
            statement
        ):
            return events.STALLED
        if statement.acts is not None:
            self.sqlprepare.act(statement.acts, kind, data, name_end + 1, stop)
        if statement.stale:
            # A name that can't exist has PostgreSQL refuse it in place; the client gets the text that fits.
            replies.add_effect(owed.BIND if kind == consts.BIND else owed.DESCRIBE, Refused(_stale))
            self._send_renamed(data, pos, size, avail, kind, begin, name_end, bytearray(impossible(name) + b"\0"))
            return events.REPLACED
        self.deployment.ensure(statement)
        batch.named = 1
        if kind == consts.BIND:
            link.pool_stats.binds += 1
            replies.add(owed.BIND)
            if begin == pos + 6:
                batch.bound = statement
            if statement is not batch.used:
                self._uses(statement)
            if statement.suspect:
                batch.group_suspect = 1
                batch.suspect_portals = 1
        elif statement.description is None and (not batch.altered or statement.environment is None):
            replies.add_effect(owed.DESCRIBE, Described(statement))
        else:
            replies.add(owed.DESCRIBE)
        self._send_renamed(data, pos, size, avail, kind, begin, name_end, statement.cname)
        return events.REPLACED

    def _parse(self, data: bytearray, run: _int, pos: _int, size: _int, avail: _int, name_end: _int) -> _int:
        """A Parse: unnamed as it came, a named one under our name unless the server has it already."""
        link = self.turn.link
        batch = self.turn.batch
        replies = link.replies
        held = link.server.statements
        named = name_end > pos + 5
        if named:
            if size > avail:
                return self._refuse(run, pos) if size > MAX_NAMED_PARSE or batch.no_room else events.MORE
            if replies.syncs or not replies.settled():
                return events.HELD  # in a transaction that has failed by then the answer is not ours to make
            if batch.group_ran and not self.sqlprepare.names_settled():
                return events.HELD
        elif size > avail and size <= link.parse_limit and not batch.no_room:
            return events.MORE
        private = batch.group_suspect
        suspect = unsettling(data, name_end + 1, pos + avail)
        acts = None
        if size > avail:
            status = self.texts.cut(data, pos, name_end + 1, pos + avail, size)
            if status == events.MORE and batch.no_room:
                return self._refuse(run, pos)
            if status:
                return status
        elif link.scanner.scan(data, name_end + 1, pos + size, self.texts.reading()):
            stop = find_nul(data, name_end + 1, pos + size)
            text = self.texts.look(bytes(data[name_end + 1 : stop])) if stop >= 0 else NOTHING
            if text.sequences and not self.texts.sequences_settled():
                return events.HELD
            if text.names and not self.sqlprepare.names_settled():
                return events.HELD
            if text.names and not link.has_failed():
                acts = self.sqlprepare.acts(text, bytes(data[name_end + 1 : stop]))
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
            replies.add_effect(owed.PARSE, unnamed_parse(link.statements, held, None, acts))
            if link.statements.unnamed is not None:
                link.statements.unnamed.suspect = suspect
                link.statements.unnamed.seen = link.scanner.lexicon
            batch.group_unnamed = 1
            return events.AS_IT_CAME
        if acts is not None and acts.text.sequences:
            self.texts.hide_sequences()
        if acts is not None and acts.needs:
            # What EXECUTE will return is settled when it is parsed.
            link.to_server_part(run, pos)
            run = pos
            self.sqlprepare.act(acts, consts.DESCRIBE, data, 0, 0)
        if acts is not None and acts.sql is not acts.original:
            self.sqlprepare.rewritten(b"", acts)
            body = acts.sql + bytes(data[find_nul(data, name_end + 1, pos + size) : pos + size])
        else:
            body = bytes(data[name_end + 1 : pos + size])
        if not named:
            batch.group_unnamed = 1
            replies.add_effect(owed.PARSE, unnamed_parse(link.statements, held, body, acts))
            if link.statements.unnamed is not None:
                link.statements.unnamed.suspect = suspect
                link.statements.unnamed.seen = link.scanner.lexicon
            if acts is None or (acts.sql is acts.original and not acts.needs):
                return events.AS_IT_CAME
            link.to_server_part(run, pos)
            message = bytearray(parse_message(b"", body))
            link.srv.send_copy(message, 0, len(message))
            return events.REPLACED
        name = bytes(data[pos + 5 : name_end if name_end - pos - 5 < MAX_NAME else pos + 5 + MAX_NAME])
        link.pool_stats.client_parses += 1
        link.to_server_part(run, pos)
        if name in link.statements.names:
            self.deployment.take(name)
            replies.add(owed.PARSE)
            link.srv.send_copy(data, pos, size)
            return events.REPLACED
        statement = None
        if not private and not batch.altered and not self.deployment.apart() and replies.status != consts.TX_FAILED:
            # Changed parameters would be frozen into a plan others use; in a failed transaction PostgreSQL must see the
            # message to refuse it.
            now = link.client.engine.now
            statement = link.registry.find(body, link.owner.settings.environment, now)
            if statement is None and len(body) <= MAX_SHARED and not varying(body):
                statement = link.registry.get(body, link.owner.settings.environment, acts, now)
        if statement is None:
            statement = link.registry.private(body, acts)
        statement.suspect = suspect
        if statement.handle.users == 0 and self._overfull(len(body)):
            link.registry.discard(statement)
            return self._refuse(run, pos)
        if held.has(statement):
            link.server.stats.prepare_hit += 1
            link.pool_stats.prepare_hit += 1
            held.touch(statement)
            replies.add_effect(owed.MADE_PARSE, NamedParse(link.statements, name, statement, held, 1))
            self.emit_made()
            return events.REPLACED
        self.deployment.missing(statement, acts)
        batch.named = 1
        replies.add_effect(owed.PARSE, NamedParse(link.statements, name, statement, held, 0))
        if acts is not None and acts.sql is not acts.original:
            message = statement.parse_message()
            link.srv.send_copy(message, 0, len(message))
            return events.REPLACED
        self._send_renamed(data, pos, size, avail, consts.PARSE, pos + 5, name_end, statement.cname)
        return events.REPLACED

    def _uses(self, statement: Statement) -> None:
        """``statement`` is bound: an error may be about it."""
        batch = self.turn.batch
        before = batch.used
        batch.used = statement
        if self.turn.link.replies.count == 0:  # of those before it nothing is owed any more
            batch.used_before = None
        elif before is not None:
            if batch.used_before is None:
                batch.used_before = []
            if len(batch.used_before) < MAX_USED:
                batch.used_before.append(before)

    def doubt_used(self) -> None:
        """Binding or executing a statement has failed for what it is, or for its values: share it no more.

        It may have been analysed for other types than a Parse would find now.
        """
        batch = self.turn.batch
        if batch.used is not None:
            self.turn.link.registry.discard(batch.used)
        if batch.used_before is not None:
            for statement in batch.used_before:
                self.turn.link.registry.discard(statement)

    def _refuse(self, run: _int, pos: _int) -> _int:
        """Refuse the message at ``pos``: for want of memory, as PostgreSQL would."""
        link = self.turn.link
        self.turn.batch.no_room = 0
        link.to_server_part(run, pos)
        link.replies.add_effect(owed.DESCRIBE, Refused(_too_large))
        link.srv.send_copy(_nobody, 0, len(_nobody))
        return events.REFUSED

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
        srv = self.turn.link.srv
        head = _scratch
        put_header(head, kind, size - (name_end + 1 - begin) + len(cname))
        srv.send_copy(head, 0, 5)
        srv.send_copy(data, pos + 5, begin - pos - 5)
        srv.send_copy(cname, 0, len(cname))
        srv.send_copy(data, name_end + 1, pos + avail - name_end - 1)

    def _overfull(self, size: _int) -> bool:
        """Whether remembering ``size`` more bytes for the client would be too much, besides what is being read."""
        engine = self.turn.link.client.engine
        block = self.turn.link.client.block
        wanted = taken(engine) + size + OVERHEAD
        if block is not None and len(block) > BLOCK_SIZE:
            wanted -= len(block)  # the message itself, which goes when it was sent
        return bool(wanted > engine.memory_limit)

    def emit_made(self) -> None:
        """Send the client the answers of ours whose turn has come."""
        link = self.turn.link
        code = link.replies.made_next()
        while code:
            if code == owed.MADE_PARSE:
                link.client.send_copy(PARSE_COMPLETE, 0, 5)
            else:
                link.client.send_copy(CLOSE_COMPLETE, 0, 5)
            code = link.replies.made_next()
