"""Messages that are always the same, in the form in which a stream copies them."""

from __future__ import annotations

FLUSH = bytearray(b"H\x00\x00\x00\x04")
PARSE_COMPLETE = bytearray(b"1\x00\x00\x00\x04")
CLOSE_COMPLETE = bytearray(b"3\x00\x00\x00\x04")
#: ReadyForQuery outside of a transaction
READY_IDLE = bytearray(b"Z\x00\x00\x00\x05I")
