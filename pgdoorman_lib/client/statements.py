"""Prepared statements in transaction mode: a client's Parse, Bind, Describe and Close put into the server's terms.

The books (whose name means what, what a server has) are ``wire.prepared``'s; here is what is sent, what is answered by
us, and what has to wait until the books are certain. Like all of the relay nothing here switches or waits.
"""

from __future__ import annotations

from typing import Any

from pgdoorman_lib.net.stream import Stream
from pgdoorman_lib.net.syscalls import holds
from pgdoorman_lib.pool.pool import Borrower
from pgdoorman_lib.wire.framing import find_nul, frame_size, put_header
from pgdoorman_lib.wire.messages import error_response, query
from pgdoorman_lib.wire.prepared import (
    PREFIX,
    Acts,
    ClientStatements,
    Described,
    Eviction,
    InjectedParse,
    NameClosed,
    NamedParse,
    Refused,
    Statement,
    Unnamed,
    UnnamedInjected,
    Verification,
    unnamed_close,
    unnamed_parse,
)
from pgdoorman_lib.wire.replies import (
    BIND,
    CLOSE,
    DESCRIBE,
    EXECUTE,
    MADE_CLOSE,
    MADE_PARSE,
    PARSE,
    PLAIN,
    QUERY,
    SWALLOW,
    SYNC,
    Replies,
)
from pgdoorman_lib.wire.scan import scan
from pgdoorman_lib.wire.session_state import DIRTY_CUSTOM, DIRTY_PARAMETERS, DIRTY_PREPARED, DIRTY_TEMPORARY
from pgdoorman_lib.wire.sqltext import FUNCTION_CALL, LONGEST_WORD, NOTHING, Text, analyse, custom_names, look, rough

_int = int

#: The message at the front is not whole yet.
MORE = 8
#: The message at the front depends on answers still owed.
HELD = 9
#: The client broke the protocol (also a status of the relay).
CLIENT_FAULT = 6

# The same numbers as C integers, where this module is compiled.
_QUERY = QUERY
_PARSE = PARSE
_PLAIN = PLAIN
_BIND = BIND
_DESCRIBE = DESCRIBE
_CLOSE = CLOSE
_MADE_PARSE = MADE_PARSE
_MADE_CLOSE = MADE_CLOSE
_SWALLOW = SWALLOW
_SYNC = SYNC
_EXECUTE = EXECUTE
_DIRTY_PARAMETERS = DIRTY_PARAMETERS
_DIRTY_TEMPORARY = DIRTY_TEMPORARY
#: The OIDs of lo_open, loread and their kin (pg_proc.dat), which drivers call: they leave nothing behind.
LARGE_OBJECT_FUNCTIONS = frozenset((715, 764, 952, 953, 954, 955, 956, 957, 958, 964, 1004, 3170, 3171, 3172))
#: Names of customized options remembered for one client; one with more keeps its server.
MAX_CUSTOM = 100

_scratch = bytearray(64)
_parse_complete = bytearray(b"1\x00\x00\x00\x04")
_close_complete = bytearray(b"3\x00\x00\x00\x04")
_close_unnamed = bytearray(b"C\x00\x00\x00\x06S\x00")
_forget_sequences = bytearray(query(b"DISCARD SEQUENCES"))
FLUSH = bytearray(b"H\x00\x00\x00\x04")
_sync = bytearray(b"S\x00\x00\x00\x04")
READY_IDLE = bytearray(b"Z\x00\x00\x00\x05I")
_stale = error_response("ERROR", "0A000", "cached plan must not change result type", routine="RevalidateCachedQuery")
#: The statement and portal by which a PREPARE of ours is run within an extended-protocol batch.
_ERRAND = PREFIX + b"errand"


class StatementDesk(Borrower):
    """What a relay knows of its client, of the server it has borrowed if any, and of the statements between them."""

    __slots__ = (
        "altered",
        "bound",
        "by_transaction",
        "client",
        "custom",
        "cut",
        "deallocating",
        "disturbed",
        "fault",
        "flushed",
        "fresh",
        "group_ran",
        "group_suspect",
        "group_unnamed",
        "hidden",
        "in_batch",
        "parse_limit",
        "preparing",
        "registry",
        "replies",
        "reset",
        "resetting",
        "server",
        "settings",
        "shared",
        "skip_to",
        "srv",
        "statements",
        "taken",
        "told_sets",
        "verifying",
    )

    def __init__(self, client: Stream) -> None:
        self.init_desk(client)

    def init_desk(self, client: Stream) -> _int:
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
        self.settings: Any = None
        #: largest Parse of the unnamed statement that is remembered, bytes
        self.parse_limit = 1 << 20
        self.statements = ClientStatements()
        #: the unnamed statement was parsed within this batch
        self.group_unnamed = 0
        #: something in this batch may change parameters or drop statements: those it prepares are not shared
        self.group_suspect = 0
        #: and it was executed
        self.group_ran = 0
        #: extended-protocol messages were sent since the last Sync: an implicit transaction may be open
        self.in_batch = 0
        #: nothing of the client's has been sent to this server yet
        self.fresh = 1
        #: a message is held for answers of its own batch: a Flush of ours is due (1) or under way (2)
        self.flushed = 0
        #: (name, Statement) of the SQL PREPAREs under way; the name is None where we prepare on our own account
        self.preparing: list[Any] = []
        #: (name, Statement) of the SQL DEALLOCATEs under way
        self.deallocating: list[Any] = []
        #: answers to PREPARE in front of the client's own that it must not see
        self.hidden = 0
        #: SETs sent whose text was looked at: their tags tell nothing new
        self.told_sets = 0
        #: parameters on which the meaning of statements depends may be other than ``settings`` says
        self.disturbed = 0
        #: tables were changed in this transaction, which nobody else can see yet
        self.altered = 0
        #: parameters that a text sent resets, and whether what comes next must wait until the client's own beginning is
        #: back: 1 from the next Sync on, 2 at once
        self.reset: tuple[str, ...] = ()
        self.resetting = 0
        #: names of customized options the client may have set: no catalogue lists them
        self.custom: dict[str, None] = {}
        #: the last bytes of a text that comes in parts, else None
        self.cut: bytes | None = None
        #: names we have taken on this server, so that PostgreSQL refuses them to the client
        self.taken: set[bytes] | None = None
        #: the statement the unnamed portal is bound to, if it has a name
        self.bound: Statement | None = None
        #: the question whether a statement made again is what it was, which its Bind waits for
        self.verifying: Verification | None = None
        #: where the batch ends that was answered without a server, 0 if none was
        self.skip_to = 0
        #: what a *_FAULT status is about
        self.fault = ""
        return 0

    def _query(self, replies: Replies) -> _int:
        """A Query is sent where statements are shared: it drops the unnamed one, unless an error voids it before."""
        held = self.server.statements
        if replies.count == 0 and not replies.skipping:
            self.statements.unnamed = None
            held.unnamed = None
            return replies.add(_QUERY)
        return replies.add_effect(_QUERY, unnamed_close(self.statements, held))

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
        if end - at < 7 or data[at] != 0x42 or data[at + 5] != 0 or data[at + 6] != 0:
            return 0
        size = frame_size(data, at, end)
        if size < 7 or size > end - at:
            return 0
        at += size
        if end - at >= 7 and data[at] == 0x44:
            if frame_size(data, at, end) != 7 or data[at + 5] != 0x50 or data[at + 6] != 0:
                return 0
            at += 7
        if end - at < 15 or data[at] != 0x45 or frame_size(data, at, end) != 10 or data[at + 5] != 0:
            return 0
        at += 10
        if data[at] != 0x53 or frame_size(data, at, end) != 5:
            return 0
        start = pos + 6
        first = (data[start] | 32) << 8 | data[start + 2] | 32
        if first == 0x7374 or first == 0x7273 or first == 0x6473 or first == 0x6461 or scan(data, start, stop):
            return 0
        mine = self.statements
        unnamed = mine.unnamed
        body = unnamed.body if unnamed is not None and unnamed.acts is None else None
        if body is None or not holds(data, start, stop, body):
            unnamed = Unnamed(bytes(data[start:stop]))
            mine.unnamed = unnamed
        self.server.statements.unnamed = unnamed
        replies.add(_PLAIN)
        return at + 5

    def _statement(self, data: bytearray, run: _int, pos: _int, size: _int, avail: _int, kind: _int) -> _int:
        """Parse, Bind, Describe or Close where statements are shared.

        0: let it go as it came; 1: it was sent in another form (everything before it too); 2: everything before it was
        sent, and it waits for an answer; MORE, HELD, CLIENT_FAULT.
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
                if (
                    kind == 0x44
                    and size == 7
                    and self.bound is not None
                    and self.bound.shape is None
                    and not self.altered
                ):
                    replies.add_effect(_DESCRIBE, Described(self.bound, 1))
                else:
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
        if not replies.settled() or (self.group_ran and not self._names_settled()):
            return 9
        name = bytes(data[begin:name_end])
        if kind == 0x42:
            self.bound = None
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
        if statement.acts is not None and statement.acts.text.names:
            if not self._names_settled():
                return 9
            statement = self._renewed(name, statement)
        statement = self._own(name, statement)
        self._to_server_part(run, pos)
        if statement.acts is not None and statement.acts.needs:
            self._act(statement.acts, 0x44, data, 0, 0)  # before the statement itself is made there
        if (statement.description is not None or statement.shape is not None) and not self._verified(statement):
            return 2
        if statement.acts is not None:
            self._act(statement.acts, kind, data, name_end, stop)
        if statement.stale:
            # A name that can't exist has PostgreSQL refuse it in place; the client gets the text that fits.
            replies.add_effect(_BIND if kind == 0x42 else _DESCRIBE, Refused(_stale))
            self._send_renamed(data, pos, size, avail, kind, begin, name_end, bytearray(name + b" \0"))
            return 1
        self._ensure(statement)
        if kind == 0x42:
            replies.add(_BIND)
            if begin == pos + 6:
                self.bound = statement
        elif statement.description is None and not self.altered:
            replies.add_effect(_DESCRIBE, Described(statement))
        else:
            replies.add(_DESCRIBE)
        self._send_renamed(data, pos, size, avail, kind, begin, name_end, statement.cname)
        return 1

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
        own.instead = (self.statements.names, name, statement)
        self.statements.names[name] = own
        return own

    def _foreign(self, statement: Statement) -> _int:
        """Whether ``statement`` is shared, and other settings than its own are, or may be, in effect."""
        environment: Any = statement.environment
        if environment is None:
            return 0
        if self.altered and statement not in self.server.statements.prepared:
            return 1  # made here, it would be what nobody else can see yet
        return 1 if environment != self.settings.environment or self._apart() else 0

    def _apart(self) -> _int:
        """Whether statements may mean something else here, and now, than they mean to others with the same settings."""
        return 1 if self.disturbed or (self.server.dirty | self.server.pins) & _DIRTY_TEMPORARY else 0

    def _fits(self, acts: Acts) -> _int:
        """Whether a text still means what it meant, and may have what it needs made on this server."""
        if not acts.holds(self.statements.names):
            return 0
        for statement in acts.needs:
            if self._foreign(statement):
                return 0
        return 1

    def _verified(self, statement: Statement) -> _int:
        """Whether ``statement``, described to a client before, is known to be the same on this server.

        If the server does not have it, it is made there and described to us first: the table may have changed, and a
        client that was told other columns would misread the rows.
        """
        verification = self.verifying
        if verification is not None:
            if not verification.finished:
                return 0
            self.verifying = None
            return 1
        held = self.server.statements
        if statement in held.prepared or statement.stale or self.replies.skipping:
            return 1
        self._ensure(statement)
        verification = Verification(statement, self.registry)
        self.verifying = verification
        body = b"S" + statement.name + b"\0"
        message = bytearray(b"D" + (4 + len(body)).to_bytes(4, "big") + body) + FLUSH
        self.replies.add_effect(_DESCRIBE | _SWALLOW, verification)
        self.srv.send_copy(message, 0, len(message))
        return 0

    def _answer_alone(self, data: bytearray, pos: _int, end: _int) -> _int:
        """Answer the batch at ``pos`` if no server is needed for that: 1 (it ends at ``skip_to``), else 0.

        That is so when it only parses statements the pool knows, under names that are free, describes such as have been
        described, and closes; and when it is there whole, up to its Sync or Flush.
        """
        names = self.statements.names
        entered: dict[bytes, Statement | None] = {}
        answers: list[bytes | bytearray] = []
        at = pos
        while True:
            size = frame_size(data, at, end)
            if size < 0 or size > end - at:
                return 0
            kind = data[at]
            if kind == 0x53 or kind == 0x48:
                break
            begin = at + 5
            if kind != 0x50:
                if (kind != 0x44 and kind != 0x43) or size < 8 or data[begin] != 0x53:
                    return 0
                begin += 1
            name_end = find_nul(data, begin, at + size)
            if name_end <= begin:
                return 0
            name = bytes(data[begin:name_end])
            statement = entered[name] if name in entered else names.get(name)
            if kind == 0x43:
                entered[name] = None
                answers.append(_close_complete)
            elif kind == 0x44:
                if statement is None or statement.description is None or statement.stale:
                    return 0
                if self.registry.find(statement.body, self.settings.environment) is not statement:
                    return 0
                answers.append(statement.description)
            else:
                if statement is not None or name.startswith(PREFIX):
                    return 0
                statement = self.registry.find(bytes(data[name_end + 1 : at + size]), self.settings.environment)
                if statement is None or not statement.confirmed or statement.stale:
                    return 0
                entered[name] = statement
                answers.append(_parse_complete)
            at += size
        for name, statement in entered.items():
            if statement is None:
                names.pop(name, None)
            else:
                names[name] = statement
        if kind == 0x53:
            answers.append(READY_IDLE)
        self.client.write(b"".join(answers))
        self.skip_to = at + size
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
        if statement in held.prepared:
            held.touch(statement)
            self.server.stats.prepare_hit += 1
            return 0
        self.server.stats.prepare_miss += 1
        self._evict(statement.acts)
        if statement.by_sql:
            return self._prepare_by_sql(statement)
        self.replies.add_effect(_PARSE | _SWALLOW, InjectedParse(statement, held))
        message = statement.parse_message()
        self.srv.send_copy(message, 0, len(message))
        return 0

    def _prepare_by_sql(self, statement: Statement) -> _int:
        """Run a PREPARE of our own within an extended-protocol batch; its answers are swallowed."""
        replies = self.replies
        name = _ERRAND + b"\0"
        text = statement.prepare_sql() + b"\0"
        message = bytearray()
        for kind, body in (
            (b"C", b"S" + name),  # left there if an error came in between the last time
            (b"P", name + text + b"\0\0"),
            (b"B", name + name + b"\0\0\0\0\0\0"),
            (b"E", name + b"\0\0\0\0"),
            (b"C", b"P" + name),
        ):
            message += kind + (4 + len(body)).to_bytes(4, "big") + body
        replies.add(_CLOSE | _SWALLOW)
        replies.add(_PARSE | _SWALLOW)
        replies.add(_BIND | _SWALLOW)
        replies.add_effect(_EXECUTE | _SWALLOW, InjectedParse(statement, self.server.statements))
        replies.add(_CLOSE | _SWALLOW)
        self.srv.send_copy(message, 0, len(message))
        return 0

    def _evict(self, acts: Acts | None) -> _int:
        """Close as many statements on the server as one more needs room, but none that ``acts`` needs."""
        held = self.server.statements
        while True:
            victim = held.surplus(acts)
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
        named = name_end > pos + 5
        if named:
            if size > avail:
                return 8
            if replies.syncs or not replies.settled():
                return 9  # in a transaction that has failed by then the answer is not ours to make
            if self.group_ran and not self._names_settled():
                return 9
        elif size > avail and size <= self.parse_limit:
            return 8
        first = 0
        if name_end + 4 < pos + avail:
            # SET, RESET, DISCARD, DEALLOCATE by their first and third letter; neither SELECT nor DELETE.
            first = (data[name_end + 1] | 32) << 8 | data[name_end + 3] | 32
        acts = None
        marks = scan(data, name_end + 1, pos + avail)
        if marks:
            if size > avail:
                acts = Acts(rough(marks, bytes(data[name_end + 1 : pos + avail])))
            else:
                stop = find_nul(data, name_end + 1, pos + size)
                text = look(bytes(data[name_end + 1 : stop]), marks)
                if text.names and not self._names_settled():
                    return 9
                if text.names and replies.status != 0x45:  # refused anyway in a failed transaction
                    acts = self._acts(text, bytes(data[name_end + 1 : stop]))
                    self.group_suspect = 1
                elif text != NOTHING:
                    acts = Acts(text)
                    if text.leaves & _DIRTY_PARAMETERS:
                        self.group_suspect = 1
        if first == 0x7374 or first == 0x7273 or first == 0x6473 or first == 0x6461:
            self._suspect(data, name_end + 1)
        if size > avail:
            self._cut(data, pos, pos + avail)
            replies.add_effect(_PARSE, unnamed_parse(self.statements, held, None, acts))
            self.group_unnamed = 1
            return 0
        if acts is not None and acts.text.sequences:
            self._hide_sequences()
        if acts is not None and acts.needs:
            # What EXECUTE will return is settled when it is parsed.
            self._to_server_part(run, pos)
            run = pos
            self._act(acts, 0x44, data, 0, 0)
        if acts is not None and acts.sql is not acts.original:
            body = acts.sql + bytes(data[find_nul(data, name_end + 1, pos + size) : pos + size])
        else:
            body = bytes(data[name_end + 1 : pos + size])
        if not named:
            self.group_unnamed = 1
            replies.add_effect(_PARSE, unnamed_parse(self.statements, held, body, acts))
            if acts is None or (acts.sql is acts.original and not acts.needs):
                return 0
            self._to_server_part(run, pos)
            message = bytearray(b"P" + (5 + len(body)).to_bytes(4, "big") + b"\0" + body)
            self.srv.send_copy(message, 0, len(message))
            return 1
        name = bytes(data[pos + 5 : name_end])
        self._to_server_part(run, pos)
        if name in self.statements.names:
            self._take(name)
            replies.add(_PARSE)
            self.srv.send_copy(data, pos, size)
            return 1
        if self.group_suspect or self.altered or self._apart() or replies.status == 0x45:
            # Changed parameters would be frozen into a plan others use; in a failed transaction PostgreSQL must see the
            # message to refuse it.
            statement = self.registry.private(body, acts)
        else:
            statement = self.registry.get(body, self.settings.environment, acts)
        if statement in held.prepared:
            self.server.stats.prepare_hit += 1
            held.touch(statement)
            replies.add_effect(_MADE_PARSE, NamedParse(self.statements, name, statement, held, 1))
            self.emit_made()
            return 1
        self.server.stats.prepare_miss += 1
        self._evict(acts)
        replies.add_effect(_PARSE, NamedParse(self.statements, name, statement, held, 0))
        message = statement.parse_message()
        self.srv.send_copy(message, 0, len(message))
        return 1

    def _take(self, name: bytes) -> _int:
        """Have the client's ``name`` exist on the server, so that PostgreSQL itself says that it is taken."""
        dummy = bytearray(
            b"C" + (6 + len(name)).to_bytes(4, "big") + b"S" + name + b"\0"  # in case we did so before
            b"P" + (8 + len(name)).to_bytes(4, "big") + name + b"\0\0\0\0"
        )
        self.replies.add(_CLOSE | _SWALLOW)
        self.replies.add(_PARSE | _SWALLOW)
        self.srv.send_copy(dummy, 0, len(dummy))
        self.server.dirty |= DIRTY_PREPARED
        if self.taken is None:
            self.taken = set()
        self.taken.add(name)
        return 0

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
        if kind == 0x42:
            self.bound = None
        if kind == 0x43:
            replies.add_effect(_CLOSE, unnamed_close(mine, held))
            return 0
        if mine.unnamed is not None and mine.unnamed.acts is not None:
            return self._use_acting(data, run, pos, kind)
        if not self.group_unnamed:
            if not replies.settled():
                return 9
            if held.unnamed is not mine.unnamed:
                self._to_server_part(run, pos)
                self._remake_unnamed()
                replies.add(_BIND if kind == 0x42 else _DESCRIBE)
                self._send_as_it_came(data, pos)
                return 1
        replies.add(_BIND if kind == 0x42 else _DESCRIBE)
        return 0

    def _send_as_it_came(self, data: bytearray, pos: _int) -> _int:
        """Send the message at ``pos``, or the part of it that is there."""
        size = frame_size(data, pos, self.client.end)
        avail = self.client.end - pos
        if avail > size:
            avail = size
        self.srv.send_copy(data, pos, avail)
        return 0

    def _use_acting(self, data: bytearray, run: _int, pos: _int, kind: _int) -> _int:
        """As _use_unnamed, where the statement's text betrays something."""
        mine = self.statements
        unnamed: Any = mine.unnamed
        if not self.group_unnamed and not self.replies.settled():
            return 9
        acts = unnamed.acts
        remake = not self.group_unnamed and self.server.statements.unnamed is not unnamed
        if acts.text.names:
            if not self._names_settled():
                return 9
            if unnamed.body is not None and not self._fits(acts):
                tail = unnamed.body[len(acts.sql) :]
                acts = self._acts(acts.text, acts.original)
                mine.unnamed = Unnamed(acts.sql + tail, acts)
                remake = True
        self._to_server_part(run, pos)
        if remake:
            if acts.needs:
                self._act(acts, 0x44, data, 0, 0)
            self._remake_unnamed()
        self._act(acts, kind, data, pos + 5, self.client.end)
        self.replies.add(_BIND if kind == 0x42 else _DESCRIBE)
        self._send_as_it_came(data, pos)
        return 1

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
        replies.add_effect(_PARSE | _SWALLOW, UnnamedInjected(held, mine))
        message = bytearray(b"P" + (5 + len(mine.body)).to_bytes(4, "big") + b"\0" + mine.body)
        self.srv.send_copy(message, 0, len(message))
        return 0

    # What the text of statements betrays.

    def _leaves(self, text: Text) -> _int:
        """A statement with this text is about to run."""
        self.server.dirty |= text.leaves
        if text.sequences:
            self._hide_sequences()
        self.told_sets += text.sets
        if text.disturbs:
            self.disturbed = 1
        if text.resets:
            self.reset = text.resets
            self.resetting = 1
        if text.unknown:
            self.server.dirty |= DIRTY_CUSTOM
        if text.custom:
            self._options(text.custom)
        return 0

    def _options(self, names: Any) -> _int:
        """Options of these names may be set."""
        for name in names:
            if name in self.custom:
                continue
            if len(self.custom) >= MAX_CUSTOM:
                self.server.dirty |= DIRTY_CUSTOM
                return 0
            self.custom[name] = None
        return 0

    def _cut(self, data: bytearray, pos: _int, stop: _int) -> _int:
        """Of the Query or Parse at ``pos`` only data[pos:stop] is there; its other parts have yet to be looked at."""
        self.cut = bytes(data[stop - LONGEST_WORD : stop])
        return 0

    def _streamed(self, data: bytearray, start: _int, stop: _int, left: _int) -> _int:
        """The next part of such a text, and what stands where two parts meet; ``left`` bytes are still to come."""
        head = stop if stop - start < LONGEST_WORD else start + LONGEST_WORD
        joint = bytearray(self.cut or b"") + data[start:head]
        marks = scan(joint, 0, len(joint)) | scan(data, start, stop)
        if marks:
            text = rough(marks)
            self._leaves(text)
            unnamed = self.statements.unnamed
            if self.in_batch and unnamed is not None and unnamed.body is None:
                # It may be bound once more, in another transaction.
                before = unnamed.acts.text if unnamed.acts is not None else NOTHING
                unnamed.acts = Acts(
                    Text(text.leaves | before.leaves, unknown=text.unknown or before.unknown, disturbs=True)
                )
        if left == 0:
            self.cut = None
        else:
            self.cut = bytes(joint[len(joint) - LONGEST_WORD :] if head == stop else data[stop - LONGEST_WORD : stop])
        return 0

    def _function_call(self, data: bytearray, pos: _int, size: _int, avail: _int) -> _int:
        """Any function may be called; if it sets an option, the name is among its arguments."""
        if int.from_bytes(data[pos + 5 : pos + 9], "big") in LARGE_OBJECT_FUNCTIONS:
            return 0
        self._leaves(FUNCTION_CALL)
        self._options(custom_names(bytes(data[pos + 5 : pos + avail])))
        if size > avail:
            self.server.dirty |= DIRTY_CUSTOM
        return 0

    def _hide_sequences(self) -> _int:
        """What nextval gave the one who had the server before must not be told: then there is nothing to tell."""
        if self.fresh and self.replies.count == 0:
            self.fresh = 0
            self.srv.send_copy(_forget_sequences, 0, len(_forget_sequences))
            self.replies.add(_QUERY | _SWALLOW)
            self.server.statements.unnamed = None
        return 0

    def _query_text(self, data: bytearray, run: _int, pos: _int, size: _int, avail: _int, marks: _int) -> _int:
        """A Query in whose text ``scan`` found ``marks``: 0 it goes as it came, 1 it was sent otherwise, or HELD."""
        if size > avail:
            self._leaves(rough(marks, bytes(data[pos + 5 : pos + avail])))
            return 0
        original = bytes(data[pos + 5 : pos + size - 1])
        text = look(original, marks)
        if not text.names or not self.shared:
            self._leaves(text)
            if text.resets:
                self.resetting = 2
            return 0
        if not self._names_settled():
            return 9
        acts = self._acts(text, original)
        if self.replies.status == 0x45 and not self._has(acts.needs):
            # Nothing can be prepared in a failed transaction, and little be run.
            self._leaves(text)
            return 0
        self._to_server_part(run, pos)
        front = self._act(acts, 0x51, data, pos, pos)
        self._query(self.replies)
        sql = front + acts.sql
        message = bytearray(b"Q" + (5 + len(sql)).to_bytes(4, "big") + sql + b"\0")
        self.srv.send_copy(message, 0, len(message))
        if text.resets:
            self.resetting = 2
        return 1

    def _has(self, statements: Any) -> _int:
        """Whether the server has all of them."""
        held = self.server.statements
        for statement in statements:
            if statement not in held.prepared:
                return 0
        return 1

    def _names_settled(self) -> _int:
        """Whether nothing is under way that may change what the client's names mean.

        If answers of the same batch have to tell, a Flush of ours makes PostgreSQL send them.
        """
        replies = self.replies
        if replies.count == 0 or (
            replies.settled() and not self.preparing and not self.deallocating and not self.group_ran
        ):
            self.flushed = 0
            return 1
        if self.in_batch and not self.flushed:
            self.flushed = 1  # once everything before the message that is held has been sent
        return 0

    def _acts(self, text: Text, original: bytes) -> Acts:
        """What a text that names prepared statements means by the client's names as they are."""
        names = self.statements.names
        acts = Acts(text, original)
        pieces = []
        last = 0
        defined: dict[bytes, Statement] = {}
        dropped: set[bytes] = set()
        for found in text.names:
            known = names.get(found.name)
            if known is not None and found.verb == "execute":
                known = self._own(found.name, known)
            acts.resolved.append((found.name, known))
            statement = defined.get(found.name)
            if statement is None and found.name not in dropped:
                statement = known
            if found.verb == "prepare":
                if statement is not None:
                    acts.taken.append(found.name)
                    continue
                behind = original[found.end : found.stop]
                statement = self.registry.private(behind, Acts(analyse(b"SELECT" + behind)), 1)
                defined[found.name] = statement
                acts.creates.append((found.name, statement))
                target = statement.name
            elif statement is None:
                if not found.name.startswith(PREFIX):
                    continue
                target = b'"' + found.name.replace(b'"', b'""') + b' "'  # never one of ours: one that can't exist
            elif found.verb == "execute":
                if found.name not in defined:
                    acts.needs.append(statement)
                target = statement.name
            else:
                if found.name not in defined:
                    # The server keeps the shared statement: what it drops instead is an empty one made for the purpose.
                    statement = self.registry.private(b"\0\0\0")
                    acts.stand_ins.append(statement)
                defined.pop(found.name, None)
                dropped.add(found.name)
                acts.drops.append((found.name, statement))
                target = statement.name
            pieces += [original[last : found.start], target]
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
        self.statements.names[name] = statement
        return statement

    def _act(self, acts: Acts, kind: _int, data: bytearray, start: _int, stop: _int) -> bytes:
        """Have on the server what running such a text needs, and note what it will do.

        ``kind`` is the message's: a Query (what is returned must stand in front of its SQL), a Bind, whose parameters
        at data[start:stop] may name options, or a Describe.
        """
        held = self.server.statements
        front = b""
        for statement in acts.needs:
            if statement.acts is not None and kind != 0x44:
                self._leaves(statement.acts.text)
                if statement.acts.text.dynamic:  # its parameters stand in the text of EXECUTE
                    self._options(custom_names(acts.original))
                    if not acts.text.plain:
                        self.server.dirty |= DIRTY_CUSTOM
            if kind != 0x51 or statement in held.prepared:
                self._ensure(statement)
            elif statement.by_sql:
                self.server.stats.prepare_miss += 1
                self._evict(acts)
                front += statement.prepare_sql() + b"; "
                self.hidden += 1
                self.preparing.append((None, statement))
            else:
                # An error within a batch would have PostgreSQL skip the Query behind it: its own batch, then.
                self._ensure(statement)
                self.replies.add(_SYNC | _SWALLOW)
                self.srv.send_copy(_sync, 0, 5)
        if kind == 0x44:
            return front
        text = acts.text
        self._leaves(text)
        if text.dynamic and kind == 0x42:
            self._options(custom_names(bytes(data[start:stop])))
        for name in acts.taken:
            self._take(name)
        for statement in acts.stand_ins:
            message = statement.close_message() + statement.parse_message()
            self.replies.add(_CLOSE | _SWALLOW)
            self.replies.add(_PARSE | _SWALLOW)
            self.srv.send_copy(message, 0, len(message))
        self.preparing += acts.creates
        self.deallocating += acts.drops
        return front

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
