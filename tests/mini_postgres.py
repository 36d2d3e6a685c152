"""A PostgreSQL of bytes: its replies to messages, its statements, portals and transactions, in 300 lines.

It follows ``PostgresMain`` where a pooler can tell the difference: what is skipped after an error and until when, what a
Sync means in a copy, when the unnamed statement goes, which commands an aborted transaction takes.

Its SQL: ``begin``, ``commit``, ``rollback``, ``set X``, ``reset all``, ``prepare N``, ``deallocate N``,
``deallocate all``, ``discard all``, ``copy in``, ``copy out``, ``copy view`` (CopyInResponse, then an error), ``fail``
and ``select fail`` (run into an error), ``bad`` and ``select bad`` (do not parse), an empty text; everything else
returns itself as one row.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from pgdoorman_lib.wire import messages
from pgdoorman_lib.wire.framing import split

_EXITS = ("commit", "rollback")
_DO_NOT_PARSE = (b"bad", b"select bad")


class Failure(Exception):
    """An ErrorResponse."""

    def __init__(self, sqlstate: str, text: str) -> None:
        super().__init__(text)
        self.sqlstate = sqlstate
        self.text = text


def tokens(data: bytes) -> list[tuple[str, bytes]]:
    """Backend messages as (type, body), error texts reduced to their SQLSTATE; AssertionError if one is cut."""
    frames, rest = split(data)
    assert rest == b"", f"cut message {rest!r}"
    result = []
    for kind, body in frames:
        letter = chr(kind)
        if letter in "EN":
            body = messages.parse_fields(body)["C"].encode()
        result.append((letter, body))
    return result


class MiniPostgres:
    """One backend. ``receive`` takes bytes, ``work`` carries out messages, ``sent`` is what it has answered."""

    def __init__(self) -> None:
        self.sent = bytearray()
        self.inbox: list[tuple[int, bytes]] = []
        self.rest = b""
        self.statements: dict[bytes, bytes] = {}
        self.unnamed: bytes | None = None
        self.portals: dict[bytes, bytes] = {}
        self.status = "I"
        self.skipping = False
        self.ended = False
        #: what goes on behind a CopyInResponse: called with what ended the copy
        self.copying: Callable[[str], None] | None = None
        #: everything that was carried out, for tests that ask what really happened
        self.executed: list[bytes] = []

    def receive(self, data: bytes) -> None:
        frames, self.rest = split(self.rest + data)
        self.inbox += frames

    def work(self, count: int = 1 << 30) -> None:
        """Carry out up to ``count`` messages."""
        while self.inbox and count > 0 and not self.ended:
            kind, body = self.inbox.pop(0)
            self._message(chr(kind), body)
            count -= 1

    def take(self) -> bytes:
        """What was answered since the last time."""
        data = bytes(self.sent)
        self.sent.clear()
        return data

    def converse(self, data: bytes) -> bytes:
        """Receive, work, take."""
        self.receive(data)
        self.work()
        return self.take()

    def _message(self, kind: str, body: bytes) -> None:
        if self.copying is not None:
            self._copy_message(kind, body)
            return
        if kind == "X":
            self.ended = True
        elif kind == "S":
            self.skipping = False
            if self.status == "I":
                self.portals.clear()
            self._ready()
        elif self.skipping or kind in "dcfH":
            pass
        elif kind == "Q":
            self._query(body[:-1])
        elif kind == "F":
            self.sent += b"V\0\0\0\x08\xff\xff\xff\xff"
            self._ready()
        elif kind in "PBDEC":
            try:
                {"P": self._parse, "B": self._bind, "D": self._describe, "E": self._execute, "C": self._close}[kind](
                    body
                )
            except Failure as failure:
                self._fail(failure)
                self.skipping = True
        else:
            raise AssertionError(f"a backend never expects {kind!r}")

    def _ready(self) -> None:
        self.sent += messages.ready_for_query(self.status.encode())

    def _fail(self, failure: Failure) -> None:
        self.sent += messages.error_response("ERROR", failure.sqlstate, failure.text)
        self.portals.clear()
        if self.status == "T":
            self.status = "E"

    def _allowed(self, sql: bytes) -> None:
        if self.status == "E" and sql and sql.decode().lower() not in _EXITS:
            raise Failure("25P02", "current transaction is aborted")

    def query_aside(self, sql: str) -> None:
        """Carry out a statement between two borrowers, outside any transaction."""
        self.work()  # a Flush that was sent behind the last query is still there
        assert self.status == "I" and not self.skipping and self.copying is None and not self.sent
        if sql == "SET SESSION AUTHORIZATION DEFAULT":
            sql = "set authorization"
        elif sql.split()[0] in ("CLOSE", "UNLISTEN", "SELECT"):
            sql = ""
        self._query(sql.lower().encode())
        assert b"ERROR" not in self.sent, bytes(self.sent)
        self.sent.clear()

    # Extended protocol.

    def _parse(self, body: bytes) -> None:
        name, sql, _ = body.split(b"\0", 2)
        if name == b"":
            self.unnamed = None
        if sql in _DO_NOT_PARSE:
            raise Failure("42601", "syntax error")
        self._allowed(sql)
        if name == b"":
            self.unnamed = sql
        elif name in self.statements:
            raise Failure("42P05", f"prepared statement {name!r} already exists")
        else:
            self.statements[name] = sql
        self.sent += messages.PARSE_COMPLETE_MESSAGE

    def _statement(self, name: bytes) -> bytes:
        sql = self.statements.get(name) if name else self.unnamed
        if sql is None:
            raise Failure("26000", f"prepared statement {name!r} does not exist")
        return sql

    def _bind(self, body: bytes) -> None:
        portal, name, _ = body.split(b"\0", 2)
        sql = self._statement(name)
        self._allowed(sql)
        if portal and portal in self.portals:
            raise Failure("42P03", "cursor already exists")
        self.portals[portal] = sql
        self.sent += messages.BIND_COMPLETE_MESSAGE

    def _describe(self, body: bytes) -> None:
        name = body[1:-1]
        if body[:1] == b"S":
            sql = self._statement(name)
            self._allowed(b"" if not _rows(sql) else sql)
            self.sent += messages.parameter_description([])
        elif name in self.portals:
            sql = self.portals[name]
        else:
            raise Failure("34000", f"portal {name!r} does not exist")
        self.sent += messages.row_description([("x", 25, -1)]) if _rows(sql) else messages.NO_DATA_MESSAGE

    def _execute(self, body: bytes) -> None:
        name = body.split(b"\0", 1)[0]
        if name not in self.portals:
            raise Failure("34000", f"portal {name!r} does not exist")
        self._run(self.portals[name], extended=True)

    def _close(self, body: bytes) -> None:
        name = body[1:-1]
        if body[:1] == b"P":
            self.portals.pop(name, None)
        elif name == b"":
            self.unnamed = None
        else:
            self.statements.pop(name, None)
        self.sent += messages.CLOSE_COMPLETE_MESSAGE

    # Running.

    def _query(self, sql: bytes) -> None:
        self.unnamed = None
        try:
            if sql in _DO_NOT_PARSE:
                raise Failure("42601", "syntax error")
            if _rows(sql):
                self._allowed(sql)
                self.sent += messages.row_description([("x", 25, -1)])
            self._run(sql, extended=False)
        except Failure as failure:
            self._fail(failure)
        if self.copying is None:
            if self.status == "I":
                self.portals.clear()
            self._ready()

    def _run(self, sql: bytes, *, extended: bool) -> None:
        self._allowed(sql)
        self.executed.append(sql)
        text = sql.decode()
        if text.lower() in _EXITS:
            text = text.lower()
        tag = ""
        if text == "":
            self.sent += messages.EMPTY_QUERY_MESSAGE
            return
        if text == "begin":
            self.status = "T"
            tag = "BEGIN"
        elif text in _EXITS:
            tag = "ROLLBACK" if text == "rollback" or self.status == "E" else "COMMIT"
            self.status = "I"
            self.portals.clear()
        elif text in ("fail", "select fail"):
            raise Failure("22012", "division by zero")
        elif text.startswith("set "):
            tag = "SET"
        elif text == "reset all":
            tag = "RESET"
        elif text.startswith("prepare "):
            name = text[8:].encode()
            if name in self.statements:
                raise Failure("42P05", "already exists")
            self.statements[name] = b"by sql"
            tag = "PREPARE"
        elif match := re.match(r"(deallocate|discard) all\Z", text, re.I):
            if match[1].lower() == "discard" and (self.status != "I" or extended):
                raise Failure("25001", "DISCARD ALL cannot run inside a transaction block")
            self.statements.clear()
            tag = match[0].upper()
        elif match := re.match(r'\s*deallocate\s+(?:prepare\s+)?"?([^";\s]*)"?\s*;?\s*\Z', text, re.I):
            if match[1].encode() not in self.statements:
                raise Failure("26000", f"prepared statement {match[1]!r} does not exist")
            del self.statements[match[1].encode()]
            tag = "DEALLOCATE"
        elif text in ("copy in", "copy view"):
            self.sent += b"G\0\0\0\x09\0\0\x01\0\0"
            if text == "copy view":
                raise Failure("42809", "cannot copy to view")
            self.copying = lambda how: self._copied(how, extended)
            return
        elif text == "copy out":
            self.sent += b"H\0\0\0\x09\0\0\x01\0\0" + b"d\0\0\0\x06a\n" + b"c\0\0\0\x04"
            tag = "COPY 1"
        else:
            self.sent += messages.data_row([sql])
            tag = "SELECT 1"
        self.sent += messages.command_complete(tag)

    def _copy_message(self, kind: str, body: bytes) -> None:
        assert self.copying is not None
        if kind in "HS":
            return
        if kind == "d" and body != b"poison":
            return
        assert kind in "dcf", f"message {kind!r} in a copy ends a real backend"
        finish, self.copying = self.copying, None
        finish(kind)

    def _copied(self, how: str, extended: bool) -> None:
        if how == "c":
            self.sent += messages.command_complete("COPY 1")
        else:
            self._fail(Failure("57014" if how == "f" else "22P04", "copy failed"))
            self.skipping = extended
        if not extended:
            self._ready()


def _rows(sql: bytes) -> bool:
    return sql not in (b"", b"begin", b"commit", b"rollback", b"fail", b"copy in", b"copy out", b"copy view") and not (
        sql.lower().lstrip().startswith((b"set ", b"reset ", b"prepare ", b"deallocate", b"discard"))
    )
