"""What a client's SQL texts do to a server and to names: what they may leave; PREPARE, EXECUTE and DEALLOCATE.

What stands in a text is for ``wire.scan`` and ``wire.sqltext`` to say; here it is entered into the books, names are put
into the server's terms, and what a name stands for is made on a server that has not got it. Nothing here switches or
waits.
"""

from __future__ import annotations

from typing import Any

from pgdoorman_lib.client import events
from pgdoorman_lib.client.batch import HAS_ENABLED, MAY_HAVE_ALTERED, Batch
from pgdoorman_lib.client.tracking import Tracker, bound_values, constants, option_names
from pgdoorman_lib.net.stream import Stream
from pgdoorman_lib.pool.queue import Borrower
from pgdoorman_lib.wire import consts, owed
from pgdoorman_lib.wire.effect import Effect
from pgdoorman_lib.wire.effects import AwaitedParse, Eviction, InjectedParse, QueryParse, unnamed_close
from pgdoorman_lib.wire.framing import find_nul
from pgdoorman_lib.wire.meaning import impossible, truncated
from pgdoorman_lib.wire.messages import query
from pgdoorman_lib.wire.prepared import ClientStatements
from pgdoorman_lib.wire.replies import Replies
from pgdoorman_lib.wire.rewritten import Rewriting
from pgdoorman_lib.wire.scan import BACKSLASHES, DOUBTFUL_READING, UNCERTAIN, Scanner
from pgdoorman_lib.wire.session_state import DIRTY_PARAMETERS, DIRTY_PREPARED, DIRTY_TEMPORARY
from pgdoorman_lib.wire.settings import BASE
from pgdoorman_lib.wire.sqltext import LONGEST, Parts, analyse
from pgdoorman_lib.wire.statements import PREFIX, Acts, Handle, Statement
from pgdoorman_lib.wire.text import DOUBTFUL, NOTHING, Text, joined
from pgdoorman_lib.wire.traces import EVERYTHING, UNREADABLE

_int = int

#: The OIDs of lo_open, loread and their kin (pg_proc.dat), which drivers call: they leave nothing behind.
LARGE_OBJECT_FUNCTIONS = frozenset((715, 764, 952, 953, 954, 955, 956, 957, 958, 964, 1004, 3170, 3171, 3172))
#: The OID of set_config, and those of currval and lastval.
SET_CONFIG_FUNCTION = 2078
SEQUENCE_FUNCTIONS = frozenset((1575, 2559))

# The same numbers as C integers, where this module is compiled.
_DIRTY_TEMPORARY = DIRTY_TEMPORARY
_UNCERTAIN = UNCERTAIN
_MAY_HAVE_ALTERED = MAY_HAVE_ALTERED
_HAS_ENABLED = HAS_ENABLED
_DOUBTFUL_READING = DOUBTFUL_READING

#: Looks at texts for a session whose pool is not known yet; between two texts a scanner remembers nothing.
_no_words = Scanner()
_forget_sequences = bytearray(query(b"DISCARD SEQUENCES"))
_sync = bytearray(b"S\x00\x00\x00\x04")
_flush_all = bytearray(b"H\x00\x00\x00\x04")
#: The statement and portal by which a PREPARE of ours is run within an extended-protocol batch.
_ERRAND = PREFIX + b"errand"


class SqlPrepare(Borrower):
    """What a relay knows of its client, of the server it has borrowed if any, and of the statements between them."""

    __slots__ = (
        "asked_sequences",
        "batch",
        "by_transaction",
        "client",
        "drew",
        "fault",
        "knowledge",
        "noted",
        "parse_limit",
        "registry",
        "replies",
        "scanner",
        "server",
        "shared",
        "skip_to",
        "srv",
        "startup",
        "statements",
        "tracker",
    )

    def __init__(self, client: Stream) -> None:
        self.init_prepared(client)

    def init_prepared(self, client: Stream) -> None:
        """As ``init_borrower``."""
        self.init_borrower()
        self.client = client
        #: a server is given back after each transaction
        self.by_transaction = 1
        #: prepared statements are shared in the pool (in transaction mode)
        self.shared = 1
        # None while no server is borrowed. The methods that use them run only while one is, which types can't say; the
        # compiled build has the types from the .pxd.
        self.server: Any = None
        self.srv: Any = None
        self.replies: Any = None
        self.registry: Any = None
        #: the settings the session began with, to which RESET goes back
        self.startup: Any = BASE
        #: what is known of the database (pool.database)
        self.knowledge: Any = None
        #: largest Parse of the unnamed statement that is remembered, bytes
        self.parse_limit = 1 << 20
        #: what is under way on the server
        self.batch = Batch()
        self.statements = ClientStatements()
        #: what the transaction under way may leave
        self.tracker = Tracker()
        #: something of it is noted there
        self.noted = 0
        #: looks at texts with the words that matter in this database
        self.scanner = _no_words
        #: of this transaction, while ``drawing``: it may have taken a value from a sequence, and has asked for one
        self.drew = 0
        self.asked_sequences = 0
        #: where the batch ends that was answered without a server, 0 if none was
        self.skip_to = 0
        #: what a *_FAULT status is about
        self.fault = ""

    def _query(self, replies: Replies) -> None:
        """A Query is sent where statements are shared: it drops the unnamed one, unless an error voids it before."""
        held = self.server.statements
        if replies.count == 0 and not replies.skipping:
            self.statements.unnamed = None
            held.unnamed = None
            replies.add(owed.QUERY)
        else:
            replies.add_effect(owed.QUERY, unnamed_close(self.statements, held))

    def _own(self, name: bytes, statement: Statement) -> Statement:
        """The client's statement ``name``, or a copy of its own if using the shared one would change it for others.

        What a statement means is settled under the settings in effect when it is made on a server, and anew under those
        of whoever uses it next when PostgreSQL has forgotten its plan.
        """
        if not self._foreign(statement):
            return statement
        own: Statement = self.registry.private(statement.body, statement.acts)
        own.confirmed = statement.confirmed
        own.description = statement.description
        own.shape = statement.shape
        own.stale = statement.stale
        own.suspect = statement.suspect
        own.instead = (self.statements, name, statement)
        self.statements.enter(name, own)
        return own

    def _foreign(self, statement: Statement) -> bool:
        """Whether ``statement`` is shared, and other settings than its own are, or may be, in effect."""
        environment: Any = statement.environment
        if environment is None:
            return False
        if self.batch.altered and not self.server.statements.has(statement):
            return True  # made here, it would be what nobody else can see yet
        return bool(environment != self.settings.environment or self._apart())

    def _apart(self) -> bool:
        """Whether statements may mean something else here, and now, than they mean to others with the same settings."""
        return bool(self.batch.planning_changed or (self.server.dirty | self.server.pins) & _DIRTY_TEMPORARY)

    def _fits(self, acts: Acts) -> bool:
        """Whether a text still means what it meant, and may have what it needs made on this server."""
        if not acts.holds(self.statements.names):
            return False
        # A list, here and below: Cython makes no closures in methods of ours.
        return not [statement for statement in acts.needs if self._foreign(statement)]

    def _to_server_part(self, run: _int, pos: _int) -> None:
        """As _to_server, but the block stays: more of it is needed."""
        if pos > run:
            self.srv.send_copy(self.client.block, run, pos - run)

    def _ensure(self, statement: Statement) -> None:
        """Have ``statement`` on the server by the time the next message gets there."""
        held = self.server.statements
        if held.has(statement):
            held.touch(statement)
            self.server.stats.prepare_hit += 1
        else:
            self._missing(statement, statement.acts)
            if statement.by_sql:
                self._prepare_by_sql(statement)
            else:
                self._inject(statement, InjectedParse(statement, held))

    def _missing(self, statement: Statement, acts: Acts | None) -> None:
        """``statement`` will be made on the server: have room for it, but not for the price of what ``acts`` needs."""
        held = self.server.statements
        self.server.stats.prepare_miss += 1
        held.supersede(statement)
        self._evict(acts, statement.handle.size)
        if held.doubtful:
            self._close(statement.handle)

    def _close(self, handle: Handle) -> None:
        """Close on the server what may be there under this name."""
        message = handle.close_message()
        self.srv.send_copy(message, 0, len(message))
        self.replies.add_effect(owed.CLOSE | owed.SWALLOW, Eviction(handle, self.server.statements))

    def _inject(self, statement: Statement, effect: Effect) -> None:
        """Send the Parse of ``statement`` on our own account."""
        self.replies.add_effect(owed.PARSE | owed.SWALLOW, effect)
        message = statement.parse_message()
        self.srv.send_copy(message, 0, len(message))

    def _prepare_by_sql(self, statement: Statement) -> None:
        """Run a PREPARE of our own within an extended-protocol batch; its answers are swallowed."""
        self._run_errand(statement.prepare_sql(), InjectedParse(statement, self.server.statements))

    def _run_errand(self, sql: bytes, effect: Effect) -> None:
        """Run ``sql`` on our own account within an extended-protocol batch; its answers are swallowed."""
        replies = self.replies
        name = _ERRAND + b"\0"
        text = sql + b"\0"
        message = bytearray()
        for kind, body in (
            (b"C", b"S" + name),  # left there if an error came in between the last time
            (b"P", name + text + b"\0\0"),
            (b"B", name + name + b"\0\0\0\0\0\0"),
            (b"E", name + b"\0\0\0\0"),
            (b"C", b"P" + name),
        ):
            message += kind + (4 + len(body)).to_bytes(4, "big") + body
        replies.add(owed.CLOSE | owed.SWALLOW)
        replies.add(owed.PARSE | owed.SWALLOW)
        replies.add(owed.BIND | owed.SWALLOW)
        replies.add_effect(owed.EXECUTE | owed.SWALLOW, effect)
        replies.add(owed.CLOSE | owed.SWALLOW)
        self.srv.send_copy(message, 0, len(message))

    def _evict(self, acts: Acts | None, size: _int) -> None:
        """Close as many statements on the server as one more of ``size`` bytes needs room, but none ``acts`` needs."""
        held = self.server.statements
        while True:
            victim = held.surplus(acts, size)
            if victim is None:
                return
            self._close(victim)
            if self.replies.skipping:  # the effect was undone at once: the server ignores all of this
                return

    def _take(self, name: bytes) -> None:
        """Have the client's ``name`` exist on the server, so that PostgreSQL itself says that it is taken."""
        batch = self.batch
        dummy = bytearray(
            b"C" + (6 + len(name)).to_bytes(4, "big") + b"S" + name + b"\0"  # in case we did so before
            b"P" + (8 + len(name)).to_bytes(4, "big") + name + b"\0\0\0\0"
        )
        self.replies.add(owed.CLOSE | owed.SWALLOW)
        self.replies.add(owed.PARSE | owed.SWALLOW)
        self.srv.send_copy(dummy, 0, len(dummy))
        self.server.dirty |= DIRTY_PREPARED
        if batch.taken is None:
            batch.taken = set()
        batch.taken.add(name)

    def _reading(self) -> _int:
        """How a text that is sent now will be read, as flags for ``scan``."""
        flags: _int = self.server.reading_flags
        if not self.noted and not self.batch.altered:
            return flags
        if self.noted:
            flags |= _UNCERTAIN
        return flags | _DOUBTFUL_READING if self.batch.altered & _HAS_ENABLED else flags

    def _look(self, text: bytes) -> Text:
        """What a whole text is known to do in which ``scan`` found something."""
        found = analyse(text, self.scanner.lexicon, self.server.reading, bool(self.noted))
        return joined(found, DOUBTFUL) if self.scanner.doubts or self.batch.altered & _HAS_ENABLED else found

    def _look_again(self, statement: Any, text: bytes) -> None:
        """A statement (or the unnamed one) with this text was looked at with other words than matter now."""
        data = bytearray(text)
        found = self._look(text) if self.scanner.scan(data, 0, len(data), self._reading()) else NOTHING
        acts = statement.acts
        if acts is not None:
            acts.text = joined(acts.text, found) if acts.text.names != found.names or self._in_doubt() else found
        elif found != NOTHING:
            statement.acts = Acts(found)
            statement.suspect = 1
        if not self._in_doubt():
            statement.seen = self.scanner.lexicon

    def _in_doubt(self) -> bool:
        """Whether the words that matter may be others by now."""
        return bool(self.scanner.doubts or self.batch.altered & _HAS_ENABLED)

    def _runs(self, text: Text, simple: _int) -> None:
        """A statement with this text is about to run; ``simple``: as a Query, which surely runs all of it."""
        batch = self.batch
        replies = self.replies
        alone = simple and replies.count == 0 and replies.status == consts.TX_IDLE and not batch.in_batch
        self.server.dirty |= self.tracker.ran(text, bool(alone))
        self.noted = 1
        if text.sequences:
            self._hide_sequences()
        batch.told_sets += text.sets
        if text.disturbs:
            batch.planning_changed = 1
        if text.defines:
            batch.altered |= _MAY_HAVE_ALTERED | (_HAS_ENABLED if text.enables else 0)
        if text.resets or (text.hides and self.startup is not BASE):
            batch.resetting = 1

    def _names_options(self, values: Any) -> None:
        """Settings are set whose names are these values of parameters, None if they are not there."""
        names = None if values is None else option_names(values, self.server.reading)
        if names is None:
            self.server.dirty |= self.tracker.may(EVERYTHING)
        else:
            self.tracker.named(names)

    def _cut(self, data: bytearray, pos: _int, start: _int, stop: _int, size: _int) -> _int:
        """Of the text in the message at ``pos`` only data[start:stop] is there: the rest is looked at as it comes.

        MORE when there is something in it already, and it is not too long to be looked at whole; HELD; else AS_IT_CAME.
        """
        parts = Parts(self.scanner.lexicon, self.server.reading, bool(self.noted))
        found = parts.feed(data, start, stop, False)
        if found is not NOTHING and size <= LONGEST:
            return events.MORE
        if not self._sequences_settled():
            return events.HELD  # it may ask for values further on
        self.batch.cut = parts
        self._note_part(found)
        return events.AS_IT_CAME

    def _streamed(self, data: bytearray, start: _int, stop: _int, left: _int) -> None:
        """The next part of such a text; ``left`` bytes are still to come."""
        parts: Any = self.batch.cut
        self._note_part(parts.feed(data, start, stop, left == 0))
        if left == 0:
            self.batch.cut = None

    def _note_part(self, text: Text) -> None:
        if text is NOTHING:
            return
        self._runs(text, 0)
        unnamed = self.statements.unnamed
        if self.batch.in_batch and unnamed is not None and unnamed.body is None:
            # It may be bound once more, in another transaction.
            unnamed.acts = Acts(joined(unnamed.acts.text if unnamed.acts is not None else NOTHING, text))

    def _function_call(self, data: bytearray, pos: _int, size: _int, avail: _int) -> _int:
        """Any function may be called; if it sets an option, the name is among its arguments. AS_IT_CAME, or HELD."""
        function = int.from_bytes(data[pos + 5 : pos + 9], "big")
        if function in LARGE_OBJECT_FUNCTIONS:
            return events.AS_IT_CAME
        if function in SEQUENCE_FUNCTIONS and not self._sequences_settled():
            return events.HELD
        self.batch.planning_changed = 1
        self.tracker.ran(NOTHING, False)
        self.noted = 1
        if function == SET_CONFIG_FUNCTION:
            self.server.dirty |= DIRTY_PARAMETERS | DIRTY_TEMPORARY
            self._names_options(bound_values(bytes(data[pos + 9 : pos + avail]), (1,)))
        else:
            self.server.dirty |= self.tracker.may(UNREADABLE)
        return events.AS_IT_CAME

    def _hide_sequences(self) -> None:
        """What nextval gave others who had the server before must not be told: then there is nothing to tell."""
        server = self.server
        if not self.asked_sequences:
            self.asked_sequences = 1
            server.pool.learn_sequences(self.settings.values.get("application_name", ""))
        if server.drawn_by != self.number and self.batch.nothing_sent and self.replies.count == 0:
            self.forget_sequences()

    def forget_sequences(self) -> None:
        """Have the server forget what sequences have given others; nothing is under way, or only what is ours."""
        self.srv.send_copy(_forget_sequences, 0, len(_forget_sequences))
        self.replies.add(owed.QUERY | owed.SWALLOW)
        self.server.statements.unnamed = None
        self.server.drawn_by = self.number

    def _sequences_settled(self) -> bool:
        """Whether a text that asks for values of sequences may go on: what others have left can't be told it.

        In the midst of a transaction that may have taken values itself, the server is asked; not until it answers.
        """
        batch = self.batch
        replies = self.replies
        if self.server.drawn_by == self.number or replies.skipping or self._refused():
            return True
        if replies.count:
            if batch.in_batch and not batch.flushed:
                batch.flushed = 1  # once everything before the message that is held has been sent
            return False
        if batch.nothing_sent or (replies.status == consts.TX_IDLE and not batch.in_batch):
            self.forget_sequences()
            return True
        if not batch.in_batch:
            self.ask_sequences()
            return False
        # No query of ours may come into a batch, and it can't be told what those before it have done: in doubt, nothing
        # is told.
        batch.flushed = 0
        self._run_errand(b"DISCARD SEQUENCES", Effect())
        self.server.drawn_by = self.number
        return True

    def ask_sequences(self) -> None:
        """Ask whether the open transaction has used a sequence, and if not have the server forget them."""

    def _query_text(self, data: bytearray, run: _int, pos: _int, size: _int, avail: _int) -> _int:
        """A Query in whose text ``scan`` found something.

        AS_IT_CAME, REPLACED, MORE or HELD.
        """
        batch = self.batch
        if size > avail:
            return self._cut(data, pos, pos + 5, pos + avail, size)
        stop = find_nul(data, pos + 5, pos + size)
        original = bytes(data[pos + 5 : stop if stop >= 0 else pos + size])
        text = self._look(original)
        if text.sequences and not self._sequences_settled():
            return events.HELD
        if not text.names or not self.shared:
            self._runs(text, 1)
            if batch.resetting:
                batch.resetting = 2
            return events.AS_IT_CAME
        if not self._names_settled():
            return events.HELD
        if batch.awaited is not None and not batch.awaited.finished:
            return events.HELD
        if batch.in_batch and self.replies.skipping and (batch.awaited is None or not batch.awaited.failed):
            batch.awaited = None
            return events.AS_IT_CAME  # the server will pass over it
        acts = self._acts(text, original)
        if batch.in_batch and acts.needs:
            waits = self._awaits(acts, run, pos)
            if waits:
                return waits
        if self.replies.status == consts.TX_FAILED and not batch.in_batch and not self._has(acts.needs):
            if self.replies.count:
                return events.HELD  # it may be a ROLLBACK that is under way
            # Nothing can be prepared in a failed transaction, and little be run.
            self._runs(text, 1)
            return events.AS_IT_CAME
        self._to_server_part(run, pos)
        front = self._act(acts, consts.QUERY, data, pos, pos)
        if front or acts.edits:
            self._rewritten(front, acts)
        self._query(self.replies)
        sql = front + acts.sql
        message = bytearray(b"Q" + (5 + len(sql)).to_bytes(4, "big") + sql + b"\0")
        self.srv.send_copy(message, 0, len(message))
        if batch.resetting:
            batch.resetting = 2
        return events.REPLACED

    def _awaits(self, acts: Acts, run: _int, pos: _int) -> _int:
        """What a Query behind an open batch needs is made within that batch: a Sync of ours would commit it.

        AS_IT_CAME: it is there; STALLED: the Query has to wait for it; REPLACED: it can't be made, so the Query has
        failed, and a Sync stands in its place.
        """
        batch = self.batch
        awaited = batch.awaited
        batch.awaited = None
        if awaited is not None and awaited.failed:
            self.replies.add(owed.SYNC)
            self.srv.send_copy(_sync, 0, 5)
            return events.REPLACED
        held = self.server.statements
        for statement in acts.needs:
            if not statement.by_sql and not held.has(statement):
                self._to_server_part(run, pos)
                self._missing(statement, acts)
                awaited = AwaitedParse(statement, held)
                batch.awaited = awaited
                self._inject(statement, awaited)
                self.srv.send_copy(_flush_all, 0, 5)
                return events.STALLED
        return events.AS_IT_CAME

    def _rewritten(self, front: bytes, acts: Acts) -> None:
        """A text goes to the server with ``front`` before it and other names in it, until the next ReadyForQuery."""
        self._goes(Rewriting(front, acts.original, acts.edits))

    def _goes(self, rewriting: Rewriting | None) -> None:
        """The next answer is about this text, or with None about one that goes as it came."""
        batch = self.batch
        replies = self.replies
        if batch.rewritings is None:
            batch.rewritings = []
        batch.rewritings.append((replies.popped + replies.count, rewriting))

    def _has(self, statements: Any) -> bool:
        """Whether the server has all of them."""
        held = self.server.statements
        return not [statement for statement in statements if not held.has(statement)]

    def _refused(self) -> bool:
        """Whether the transaction has failed, and nothing is under way that may have ended it."""
        return self.replies.status == consts.TX_FAILED and self.replies.count == 0 and not self.batch.in_batch

    def _names_settled(self) -> bool:
        """Whether nothing is under way that may change what the client's names mean.

        If answers of the same batch have to tell, a Flush of ours makes PostgreSQL send them.
        """
        batch = self.batch
        replies = self.replies
        if replies.count == 0 or (
            replies.settled() and not batch.preparing and not batch.deallocating and not batch.group_ran
        ):
            batch.flushed = 0
            return True
        if batch.in_batch and not batch.flushed:
            batch.flushed = 1  # once everything before the message that is held has been sent
        return False

    def _acts(self, text: Text, original: bytes) -> Acts:
        """What a text that names prepared statements means by the client's names as they are."""
        names = self.statements.names
        acts = Acts(text, original)
        pieces = []
        last = 0
        defined: dict[bytes, Statement] = {}
        dropped: set[bytes] = set()
        for found in text.names:
            name = truncated(found.name)
            known = names.get(name)
            if known is not None and found.verb == "execute":
                known = self._own(name, known)
            acts.resolved.append((name, known))
            statement = defined.get(name)
            if statement is None and name not in dropped:
                statement = known
            if found.verb == "prepare":
                if statement is not None:
                    acts.taken.append(name)
                    continue
                behind = original[found.end : found.stop]
                statement = self.registry.private(behind, Acts(self._look(b"SELECT" + behind)), 1)
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
                    statement = self.registry.private(b"\0\0\0")
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

    def _renewed(self, name: bytes, statement: Statement) -> Statement:
        """The client's statement ``name``, made anew if the names in its text mean something else by now."""
        acts: Any = statement.acts
        if self._fits(acts):
            return statement
        fresh = self._acts(acts.text, acts.original)
        statement = self.registry.private(fresh.sql + statement.body[len(acts.sql) :], fresh)
        self.statements.enter(name, statement)
        return statement

    def _act(self, acts: Acts, kind: _int, data: bytearray, start: _int, stop: _int) -> bytes:
        """Have on the server what running such a text needs, and note what it will do.

        ``kind`` is the message's: a Query (what is returned must stand in front of its SQL), a Bind, whose parameters
        at data[start:stop] may name options, or a Describe.
        """
        batch = self.batch
        held = self.server.statements
        front = b""
        if acts.needs:
            batch.named = 1
        for statement in acts.needs:
            if kind != consts.DESCRIBE and (statement.seen is not self.scanner.lexicon or self._in_doubt()):
                self._look_again(statement, statement.sql())
            if statement.acts is not None and kind != consts.DESCRIBE:
                self._runs(statement.acts.text, 0)
                if statement.acts.text.parameters:  # they stand in the text of EXECUTE
                    backslashes = bool(self.server.reading.flags & BACKSLASHES)
                    self._names_options(constants(acts.original, backslashes) if acts.text.plain else None)
            if kind != consts.QUERY or held.has(statement):
                self._ensure(statement)
            elif statement.by_sql:
                self._missing(statement, acts)
                front += statement.prepare_sql() + b"; "
                batch.hidden += 1
                batch.preparing.append((None, statement))
            else:
                # An error within a batch would have PostgreSQL skip the Query behind it: its own batch, then.
                self._missing(statement, acts)
                self._inject(statement, QueryParse(statement, held))
                self.replies.add(owed.SYNC | owed.SWALLOW)
                self.srv.send_copy(_sync, 0, 5)
        if kind == consts.DESCRIBE:
            return front
        text = acts.text
        self._runs(text, kind == consts.QUERY)
        if text.parameters and kind == consts.BIND:
            self._names_options(bound_values(bytes(data[start:stop]), text.parameters))
        for name in acts.taken:
            self._take(name)
        for statement in acts.stand_ins:
            message = statement.close_message() + statement.parse_message()
            self.replies.add(owed.CLOSE | owed.SWALLOW)
            self.replies.add(owed.PARSE | owed.SWALLOW)
            self.srv.send_copy(message, 0, len(message))
        batch.preparing += acts.creates
        batch.deallocating += acts.drops
        return front
