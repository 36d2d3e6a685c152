"""Parsing the bodies of Parse, Bind, Describe, Execute and Close, as far as the console needs them."""

from __future__ import annotations

import struct

from pgdoorman_lib.admin.statements import StatementError
from pgdoorman_lib.errors import ProtocolViolation
from pgdoorman_lib.record import record


@record(frozen=True, slots=True)
class BindRequest:
    """A Bind: the names, how many parameters, and the result format codes as sent (none, one for all, or one each)."""

    portal: str
    statement: str
    parameters: int
    result_formats: tuple[int, ...]

    def check(self, wanted: int) -> None:
        """Raise StatementError (08P01, the session goes on) unless it has as many parameters as are ``wanted``."""
        if self.parameters != wanted:
            raise StatementError(
                f'bind message supplies {self.parameters} parameters, but prepared statement "{self.statement}"'
                f" requires {wanted}",
                sqlstate="08P01",
            )


class _Body:
    """A message body read from the front; every read is checked, ``end`` tells whether all of it was used."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._at = 0

    def string(self) -> str:
        end = self._body.find(b"\0", self._at)
        if end < 0:
            raise ProtocolViolation("invalid string in message")
        text = self._body[self._at : end].decode("utf-8", "replace")
        self._at = end + 1
        return text

    def take(self, size: int) -> bytes:
        if size < 0 or size > len(self._body) - self._at:
            raise ProtocolViolation("insufficient data left in message")
        data = self._body[self._at : self._at + size]
        self._at += size
        return data

    def int16(self) -> int:
        return int(struct.unpack("!h", self.take(2))[0])

    def int32(self) -> int:
        return int(struct.unpack("!i", self.take(4))[0])

    def int16s(self) -> tuple[int, ...]:
        count = self.int16()
        return struct.unpack(f"!{count}h", self.take(2 * count)) if count > 0 else ()

    def end(self) -> None:
        if self._at != len(self._body):
            raise ProtocolViolation("invalid message format")


def parse_parse(body: bytes) -> tuple[str, str]:
    """Return (name, SQL) of a Parse; the parameter types it may carry are ignored, no parameter has an effect."""
    reader = _Body(body)
    name, sql = reader.string(), reader.string()
    reader.take(4 * max(0, reader.int16()))
    reader.end()
    return name, sql


def parse_bind(body: bytes) -> BindRequest:
    """Return a Bind, without the values of its parameters."""
    reader = _Body(body)
    portal, statement = reader.string(), reader.string()
    reader.int16s()
    parameters = reader.int16()
    for _ in range(parameters):
        length = reader.int32()
        if length >= 0:
            reader.take(length)
    formats = reader.int16s()
    reader.end()
    return BindRequest(portal, statement, max(0, parameters), formats)


def parse_named(body: bytes) -> tuple[str, str]:
    """Return ("S" or "P", name) of a Describe or Close."""
    reader = _Body(body)
    kind = reader.take(1)
    if kind not in (b"S", b"P"):
        raise ProtocolViolation("invalid subtype in message")
    name = reader.string()
    reader.end()
    return kind.decode(), name


def parse_execute(body: bytes) -> tuple[str, int]:
    """Return (portal, maximum of rows; 0 or less for all) of an Execute."""
    reader = _Body(body)
    portal, max_rows = reader.string(), reader.int32()
    reader.end()
    return portal, max_rows
