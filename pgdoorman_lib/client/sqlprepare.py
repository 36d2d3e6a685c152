"""SQL's PREPARE, EXECUTE and DEALLOCATE: names in a client's texts put into the server's terms.

What a name stands for is made on a server that has not got it. Nothing here switches or waits.
"""

from __future__ import annotations

from typing import Any

from pgdoorman_lib.client import events
from pgdoorman_lib.client.deployment import Deployment
from pgdoorman_lib.client.fixed import FLUSH
from pgdoorman_lib.client.link import Turn
from pgdoorman_lib.client.texts import Texts
from pgdoorman_lib.client.tracking import bound_values, constants
from pgdoorman_lib.wire import consts, owed
from pgdoorman_lib.wire.effects import AwaitedParse, QueryParse, unnamed_close
from pgdoorman_lib.wire.framing import find_nul
from pgdoorman_lib.wire.meaning import impossible, truncated
from pgdoorman_lib.wire.messages import query
from pgdoorman_lib.wire.replies import Replies
from pgdoorman_lib.wire.rewritten import Rewriting
from pgdoorman_lib.wire.scan import BACKSLASHES
from pgdoorman_lib.wire.statements import PREFIX, Acts, Statement
from pgdoorman_lib.wire.text import Text

_int = int

_sync = bytearray(b"S\x00\x00\x00\x04")


class SqlPrepare:
    """Texts that name prepared statements, and what their answers are about."""

    __slots__ = ("deployment", "texts", "turn")

    def __init__(self, turn: Turn, deployment: Deployment, texts: Texts) -> None:
        self.turn = turn
        self.deployment = deployment
        self.texts = texts

    def query(self, replies: Replies) -> None:
        """A Query is sent where statements are shared: it drops the unnamed one, unless an error voids it before."""
        link = self.turn.link
        held = link.server.statements
        if replies.count == 0 and not replies.skipping:
            link.statements.unnamed = None
            held.unnamed = None
            replies.add(owed.QUERY)
        else:
            replies.add_effect(owed.QUERY, unnamed_close(link.statements, held))

    def query_text(self, data: bytearray, run: _int, pos: _int, size: _int, avail: _int) -> _int:
        """A Query in whose text ``scan`` found something.

        AS_IT_CAME, REPLACED, MORE or HELD.
        """
        link = self.turn.link
        batch = self.turn.batch
        if size > avail:
            return self.texts.cut(data, pos, pos + 5, pos + avail, size)
        stop = find_nul(data, pos + 5, pos + size)
        original = bytes(data[pos + 5 : stop if stop >= 0 else pos + size])
        text = self.texts.look(original)
        if text.sequences and not self.texts.sequences_settled():
            return events.HELD
        if not text.names or not link.shared:
            self.texts.runs(text, 1)
            if batch.resetting:
                batch.resetting = 2
            return events.AS_IT_CAME
        if not self.names_settled():
            return events.HELD
        if batch.awaited is not None and not batch.awaited.finished:
            return events.HELD
        if batch.in_batch and link.replies.skipping and (batch.awaited is None or not batch.awaited.failed):
            batch.awaited = None
            return events.AS_IT_CAME  # the server will pass over it
        acts = self.acts(text, original)
        if batch.in_batch and acts.needs:
            waits = self._awaits(acts, run, pos)
            if waits:
                return waits
        if link.replies.status == consts.TX_FAILED and not batch.in_batch and not self._has(acts.needs):
            if link.replies.count:
                return events.HELD  # it may be a ROLLBACK that is under way
            # Nothing can be prepared in a failed transaction, and little be run.
            self.texts.runs(text, 1)
            return events.AS_IT_CAME
        link.to_server_part(run, pos)
        front = self.act(acts, consts.QUERY, data, pos, pos)
        if front or acts.edits:
            self.rewritten(front, acts)
        self.query(link.replies)
        sql = front + acts.sql
        message = bytearray(query(sql))
        link.srv.send_copy(message, 0, len(message))
        if batch.resetting:
            batch.resetting = 2
        return events.REPLACED

    def _awaits(self, acts: Acts, run: _int, pos: _int) -> _int:
        """What a Query behind an open batch needs is made within that batch: a Sync of ours would commit it.

        AS_IT_CAME: it is there; STALLED: the Query has to wait for it; REPLACED: it can't be made, so the Query has
        failed, and a Sync stands in its place.
        """
        link = self.turn.link
        batch = self.turn.batch
        awaited = batch.awaited
        batch.awaited = None
        if awaited is not None and awaited.failed:
            link.replies.add(owed.SYNC)
            link.srv.send_copy(_sync, 0, 5)
            return events.REPLACED
        held = link.server.statements
        for statement in acts.needs:
            if not statement.by_sql and not held.has(statement):
                link.to_server_part(run, pos)
                self.deployment.missing(statement, acts)
                awaited = AwaitedParse(statement, held)
                batch.awaited = awaited
                self.deployment.inject(statement, awaited)
                link.srv.send_copy(FLUSH, 0, 5)
                return events.STALLED
        return events.AS_IT_CAME

    def _has(self, statements: Any) -> bool:
        """Whether the server has all of them."""
        held = self.turn.link.server.statements
        return not [statement for statement in statements if not held.has(statement)]

    def names_settled(self) -> bool:
        """Whether nothing is under way that may change what the client's names mean.

        If answers of the same batch have to tell, a Flush of ours makes PostgreSQL send them.
        """
        batch = self.turn.batch
        replies = self.turn.link.replies
        if replies.count == 0 or (
            replies.settled() and not batch.preparing and not batch.deallocating and not batch.group_ran
        ):
            batch.flushed = 0
            return True
        if batch.in_batch and not batch.flushed:
            batch.flushed = 1  # once everything before the message that is held has been sent
        return False

    def acts(self, text: Text, original: bytes) -> Acts:
        """What a text that names prepared statements means by the client's names as they are."""
        link = self.turn.link
        names = link.statements.names
        acts = Acts(text, original)
        pieces = []
        last = 0
        defined: dict[bytes, Statement] = {}
        dropped: set[bytes] = set()
        for found in text.names:
            name = truncated(found.name)
            known = names.get(name)
            if known is not None and found.verb == "execute":
                known = self.deployment.own(name, known)
            acts.resolved.append((name, known))
            statement = defined.get(name)
            if statement is None and name not in dropped:
                statement = known
            if found.verb == "prepare":
                if statement is not None:
                    acts.taken.append(name)
                    continue
                behind = original[found.end : found.stop]
                statement = link.registry.private(behind, Acts(self.texts.look(b"SELECT" + behind)), 1)
                defined[name] = statement
                acts.creates.append((name, statement))
                target = statement.name
            elif statement is None:
                if not name.startswith(PREFIX):
                    continue
                # Never one of ours: one that can't exist.
                target = b'"' + impossible(name).replace(b'"', b'""') + b'"'
            elif found.verb == "execute":
                if name not in defined and statement not in acts.needs:
                    acts.needs.append(statement)
                target = statement.name
            else:
                if name not in defined:
                    # The server keeps the shared statement: what it drops instead is an empty one made for the purpose.
                    statement = link.registry.private(b"\0\0\0")
                    acts.stand_ins.append(statement)
                defined.pop(name, None)
                dropped.add(name)
                acts.drops.append((name, statement))
                target = statement.name
            pieces += [original[last : found.start], target]
            acts.edits.append((found.start, found.end, len(target)))
            last = found.end
        if pieces:
            acts.sql = b"".join(pieces) + original[last:]
        return acts

    def renewed(self, name: bytes, statement: Statement) -> Statement:
        """The client's statement ``name``, made anew if the names in its text mean something else by now."""
        acts: Any = statement.acts
        if self.deployment.fits(acts):
            return statement
        fresh = self.acts(acts.text, acts.original)
        statement = self.turn.link.registry.private(fresh.sql + statement.body[len(acts.sql) :], fresh)
        self.turn.link.statements.enter(name, statement)
        return statement

    def act(self, acts: Acts, kind: _int, data: bytearray, start: _int, stop: _int) -> bytes:
        """Have on the server what running such a text needs, and note what it will do.

        ``kind`` is the message's: a Query (what is returned must stand in front of its SQL), a Bind, whose parameters
        at data[start:stop] may name options, or a Describe.
        """
        link = self.turn.link
        batch = self.turn.batch
        held = link.server.statements
        front = b""
        if acts.needs:
            batch.named = 1
        for statement in acts.needs:
            if kind != consts.DESCRIBE and (statement.seen is not link.scanner.lexicon or self.texts.in_doubt()):
                self.texts.look_again(statement, statement.sql())
            if statement.acts is not None and kind != consts.DESCRIBE:
                self.texts.runs(statement.acts.text, 0)
                if statement.acts.text.parameters:  # they stand in the text of EXECUTE
                    backslashes = bool(link.server.reading.flags & BACKSLASHES)
                    self.texts.names_options(constants(acts.original, backslashes) if acts.text.plain else None)
            if kind != consts.QUERY or held.has(statement):
                self.deployment.ensure(statement)
            elif statement.by_sql:
                self.deployment.missing(statement, acts)
                front += statement.prepare_sql() + b"; "
                batch.hidden += 1
                batch.preparing = [*(batch.preparing or ()), (None, statement)]
            else:
                # An error within a batch would have PostgreSQL skip the Query behind it: its own batch, then.
                self.deployment.missing(statement, acts)
                self.deployment.inject(statement, QueryParse(statement, held))
                link.replies.add(owed.SYNC | owed.SWALLOW)
                link.srv.send_copy(_sync, 0, 5)
        if kind == consts.DESCRIBE:
            return front
        text = acts.text
        self.texts.runs(text, kind == consts.QUERY)
        if text.parameters and kind == consts.BIND:
            self.texts.names_options(bound_values(bytes(data[start:stop]), text.parameters))
        for name in acts.taken:
            self.deployment.take(name)
        for statement in acts.stand_ins:
            message = statement.close_message() + statement.parse_message()
            link.replies.add(owed.CLOSE | owed.SWALLOW)
            link.replies.add(owed.PARSE | owed.SWALLOW)
            link.srv.send_copy(message, 0, len(message))
        if acts.creates:
            batch.preparing = [*(batch.preparing or ()), *acts.creates]
        if acts.drops:
            batch.deallocating = [*(batch.deallocating or ()), *acts.drops]
        return front

    def rewritten(self, front: bytes, acts: Acts) -> None:
        """A text goes to the server with ``front`` before it and other names in it, until the next ReadyForQuery."""
        self._goes(Rewriting(front, acts.original, acts.edits))

    def _goes(self, rewriting: Rewriting | None) -> None:
        """The next answer is about this text, or with None about one that goes as it came."""
        batch = self.turn.batch
        replies = self.turn.link.replies
        if batch.rewritings is None:
            batch.rewritings = []
        batch.rewritings.append((replies.popped + replies.count, rewriting))

    def another(self, kind: _int, data: bytearray, pos: _int, stop: _int) -> None:
        """A Query, Parse or Bind behind a text in another form: errors from here on are about what it brings."""
        acts = None
        statement: Any
        if kind == consts.BIND:
            begin = find_nul(data, pos + 5, stop) + 1
            end = find_nul(data, begin, stop)
            mine = self.turn.link.statements
            statement = mine.names.get(bytes(data[begin:end])) if begin < end else mine.unnamed
            acts = statement.acts if statement is not None else None
        if acts is not None and acts.edits:
            self.rewritten(b"", acts)
            return
        self._goes(None)

    def text_of(self, number: _int) -> Rewriting | None:
        """The rewritten text to which the answer of this number is about to come; None for a plain one."""
        found: Rewriting | None = None
        for first, rewriting in self.turn.batch.rewritings or ():
            if first > number:
                break
            found = rewriting
        return found

    def answered(self, number: _int) -> None:
        """Every text before the answer of this number has its answers."""
        left = [one for one in self.turn.batch.rewritings or () if one[0] >= number]
        self.turn.batch.rewritings = left or None
