"""Encoding of values, against what PostgreSQL's own send functions and a driver's decoder say."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.types.numeric import NumericBinaryLoader

from pgdoorman_lib.admin.rows import (
    BINARY_FORMAT,
    INT4,
    NUMERIC,
    OID,
    TEXT,
    TEXT_FORMAT,
    columns,
    encode,
    encode_numeric,
    row_description,
)


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        # select encode(numeric_send(...), 'hex')
        ("0", "0000000000000000"),
        ("0.00", "0000000000000002"),
        ("1", "00010000000000000001"),
        ("-1", "00010000400000000001"),
        ("10000", "00010001000000000001"),
        ("250000", "00010001000000000019"),
        ("12345678", "000200010000000004d2162e"),
        ("2.25", "0002000000000002000209c4"),
        ("0.0001", "0001ffff000000040001"),
        ("-1234567.891", "0003000140000003007b11d722ce"),
        ("1000000000000.5", "000500030000000100010000000000001388"),
    ],
)
def test_numeric_as_postgresql_sends_it(text: str, sent: str) -> None:
    assert encode_numeric(Decimal(text)) == bytes.fromhex(sent)


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**30), max_value=10**30))
def test_driver_reads_back_every_numeric(value: Decimal) -> None:
    loaded = NumericBinaryLoader(NUMERIC).load(encode_numeric(value))
    assert loaded == value


@pytest.mark.parametrize(
    ("value", "kind", "code", "sent"),
    [
        (None, TEXT, TEXT_FORMAT, None),
        (None, NUMERIC, BINARY_FORMAT, None),
        ("grün", TEXT, BINARY_FORMAT, "grün".encode()),
        (-5, INT4, BINARY_FORMAT, b"\xff\xff\xff\xfb"),
        (-5, INT4, TEXT_FORMAT, b"-5"),
        (16384, OID, BINARY_FORMAT, b"\x00\x00\x40\x00"),
        (2.25, NUMERIC, TEXT_FORMAT, b"2.25"),
        (1e-06, NUMERIC, TEXT_FORMAT, b"0.000001"),
        (10**20, NUMERIC, TEXT_FORMAT, b"1" + b"0" * 20),
    ],
)
def test_encode(value: object, kind: int, code: int, sent: bytes | None) -> None:
    assert encode(value, kind, code) == sent


def test_row_description_tells_each_format() -> None:
    described = row_description(columns("a", TEXT) + columns("b", INT4), (TEXT_FORMAT, BINARY_FORMAT))
    assert described == (
        b"T\0\0\0\x2e\0\x02a\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0"
        b"b\0\0\0\0\0\0\0\0\0\0\x17\0\x04\xff\xff\xff\xff\0\x01"
    )
