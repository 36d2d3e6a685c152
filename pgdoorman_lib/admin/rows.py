"""The console's column types, and their values as PostgreSQL sends them, in text and in binary."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from decimal import Decimal

from pgdoorman_lib.record import record
from pgdoorman_lib.wire.consts import ROW_DESCRIPTION

#: Type OIDs and sizes of pg_type; a negative size means variable.
TEXT, BOOL, INT8, INT4, OID, NUMERIC, VOID = 25, 16, 20, 23, 26, 1700, 2278
_SIZES = {TEXT: -1, BOOL: 1, INT8: 8, INT4: 4, OID: 4, NUMERIC: -1, VOID: 4}

#: The largest value of an int4 column.
INT4_MAX = (1 << 31) - 1

#: Format codes (PostgreSQL docs, "Formats and Format Codes").
TEXT_FORMAT, BINARY_FORMAT = 0, 1

Value = str | int | float | Decimal | None


@record(frozen=True, slots=True)
class Column:
    """One result column: its name and the OID of its type."""

    name: str
    type: int = TEXT


def columns(names: str, kind: int = TEXT) -> tuple[Column, ...]:
    """Return columns of one type, from their names separated by blanks."""
    return tuple(Column(name, kind) for name in names.split())


def row_description(described: Sequence[Column], formats: Sequence[int]) -> bytes:
    """Return RowDescription with a format code for each column, as Describe of a portal must tell it."""
    body = bytearray(struct.pack("!h", len(described)))
    for column, code in zip(described, formats, strict=True):
        body += column.name.encode() + b"\0"
        # Table OID, attribute number, type OID, type size, type modifier, format code.
        body += struct.pack("!ihihih", 0, 0, column.type, _SIZES[column.type], -1, code)
    return struct.pack("!Bi", ROW_DESCRIPTION, 4 + len(body)) + bytes(body)


def encode(value: Value, kind: int, code: int) -> bytes | None:
    """Return ``value`` as a DataRow field of type ``kind`` in format ``code``; None for NULL."""
    if value is None:
        return None
    if code == BINARY_FORMAT:
        if kind in (INT4, OID):
            return struct.pack("!i", int(value))
        if kind == BOOL:
            return b"\x01" if value == "t" else b"\x00"
        if kind == INT8:
            return struct.pack("!q", int(value))
        if kind == NUMERIC:
            return encode_numeric(_decimal(value))
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, int):
        return b"%d" % value
    return format(_decimal(value), "f").encode()


def encode_numeric(value: Decimal) -> bytes:
    """Return a finite Decimal as ``numeric_send`` does: count, weight, sign, scale, then base-10000 digits."""
    sign, digits, exponent = value.as_tuple()
    assert isinstance(exponent, int), "numeric columns hold finite values"
    scale = max(0, -exponent)
    # Padded right so that the digits end at a group of four behind the point, left so that they begin at one.
    text = "".join(map(str, digits)) + "0" * (max(0, exponent) + -scale % 4)
    text = text.rjust(-(-len(text) // 4) * 4, "0")
    groups = [int(text[at : at + 4]) for at in range(0, len(text), 4)]
    weight = len(groups) - 1 - -(-scale // 4)
    while groups and groups[0] == 0:
        del groups[0]
        weight -= 1
    while groups and groups[-1] == 0:
        del groups[-1]
    if not groups:
        sign = weight = 0
    return struct.pack(f"!hhHh{len(groups)}h", len(groups), weight, 0x4000 if sign else 0, scale, *groups)


def _decimal(value: Value) -> Decimal:
    # Through str, so that a float shows its shortest text and not its binary expansion.
    return value if isinstance(value, Decimal) else Decimal(str(value))
