"""Prepared statements in transaction mode: a client's Parse, Bind, Describe and Close put into the server's terms.

The books (whose name means what, what a server has) are ``wire.prepared``'s; here is what is sent, what is answered by
us, and what has to wait until the books are certain. Like all of the relay nothing here switches or waits.
"""

from __future__ import annotations

from typing import Any

from pgdoorman_lib.net.stream import Stream
from pgdoorman_lib.pool.pool import Borrower
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
from pgdoorman_lib.wire.replies import BIND, CLOSE, DESCRIBE, MADE_CLOSE, MADE_PARSE, PARSE, QUERY, SWALLOW, Replies
from pgdoorman_lib.wire.session_state import DIRTY_PARAMETERS, DIRTY_PREPARED
from pgdoorman_lib.wire.sqltext import (
    TEXT_DEALLOCATE,
    TEXT_LOCKS,
    TEXT_PARAMETERS,
    TEXT_TEMPORARY,
    deallocations,
    scan,
)

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
_BIND = BIND
_DESCRIBE = DESCRIBE
_CLOSE = CLOSE
_MADE_PARSE = MADE_PARSE
_MADE_CLOSE = MADE_CLOSE
_SWALLOW = SWALLOW
_DIRTY_PARAMETERS = DIRTY_PARAMETERS
_TEXT_DEALLOCATE = TEXT_DEALLOCATE
_DIRTY = TEXT_PARAMETERS | TEXT_TEMPORARY | TEXT_LOCKS

_scratch = bytearray(64)
_parse_complete = bytearray(b"1\x00\x00\x00\x04")
_close_complete = bytearray(b"3\x00\x00\x00\x04")
_close_unnamed = bytearray(b"C\x00\x00\x00\x06S\x00")


class StatementDesk(Borrower):
    """What a relay knows of its client, of the server it has borrowed if any, and of the statements between them."""

    __slots__ = (
        "client",
        "deallocating",
        "fault",
        "group_suspect",
        "group_unnamed",
        "parse_limit",
        "registry",
        "replies",
        "server",
        "settings",
        "srv",
        "statements",
        "taken",
    )

    def __init__(self, client: Stream) -> None:
        Borrower.__init__(self)
        self.client = client
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
        #: the client's names in the SQL DEALLOCATEs under way
        self.deallocating: list[Any] = []
        #: names we have taken on this server, so that PostgreSQL refuses them to the client
        self.taken: set[bytes] | None = None
        #: what a *_FAULT status is about
        self.fault = ""

    def _query(self, replies: Replies) -> _int:
        """A Query is sent where statements are shared: it drops the unnamed one, unless an error voids it before."""
        held = self.server.statements
        if replies.count == 0 and not replies.skipping:
            self.statements.unnamed = None
            held.unnamed = None
            return replies.add(_QUERY)
        return replies.add_effect(_QUERY, unnamed_close(self.statements, held))

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
