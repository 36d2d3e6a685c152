"""The protection of TLS 1.3's records behind a handshake, one way: keys from a traffic secret, and records by number.

RFC 8446, sections 5 and 7. What a record is for is ``net.tls13``'s, the ciphers are ``net.aead``'s.
"""

from __future__ import annotations

import hmac
import struct
from typing import NamedTuple

from pgdoorman_lib.net import tls_terms
from pgdoorman_lib.net.aead import Aead

_int = int
_bytes = bytes

#: Records under one key before it is changed: section 5.5 allows AES-GCM 2^24.5.
_MAX_RECORDS = 1 << 23


class Suite(NamedTuple):
    """A cipher suite: its AEAD as ``net.aead`` names it, bytes of its key, its hash, and its bits as ssl tells them."""

    aead: str
    key_size: int
    hash_name: str
    bits: int


SUITES = {
    "TLS_AES_128_GCM_SHA256": Suite("AESGCM", 16, "sha256", 128),
    "TLS_AES_256_GCM_SHA384": Suite("AESGCM", 32, "sha384", 256),
    "TLS_CHACHA20_POLY1305_SHA256": Suite("ChaCha20Poly1305", 32, "sha256", 256),
}


class RecordError(Exception):
    """The other side broke the protocol; ``alert`` is the AlertDescription that tells it so."""

    def __init__(self, alert: int, text: str) -> None:
        super().__init__(text)
        self.alert = alert


def expand_label(suite: Suite, secret: bytes, label: str, size: int) -> bytes:
    """HKDF-Expand-Label (section 7.1) with an empty context, of at most one hash's ``size`` in bytes."""
    full = b"tls13 " + label.encode()
    info = struct.pack(">HB", size, len(full)) + full + b"\0"
    return hmac.digest(secret, info + b"\1", suite.hash_name)[:size]


class Direction:
    """What goes one way: the traffic secret of now, and the number of the next record."""

    __slots__ = ("_aead", "kind", "limit", "secret", "sequence", "suite")

    def __init__(self, suite: Suite, secret: _bytes, sequence: _int = 0) -> None:
        self.suite = suite
        self.secret = secret
        self.sequence = sequence
        #: records under one key of ours
        self.limit = _MAX_RECORDS
        #: of the record that was opened last
        self.kind = 0
        self._aead: Aead | None = None  # made when it is used first

    def _cipher(self) -> Aead:
        if self._aead is None:
            suite = self.suite
            key = expand_label(suite, self.secret, "key", suite.key_size)
            self._aead = Aead(suite.aead, key, expand_label(suite, self.secret, "iv", 12))
        return self._aead

    def update(self) -> None:
        """Go on to the next secret (section 7.2)."""
        self.secret = expand_label(self.suite, self.secret, "traffic upd", len(self.secret))
        self.sequence = 0
        self._aead = None

    def seal(self, kind: _int, data: bytearray, start: _int, size: _int, out: bytearray, at: _int) -> _int:
        """Put the next record, of ``data[start:start+size]``, at ``out[at:]``; where it ends."""
        end = self._cipher().seal(self.sequence, kind, data, start, size, out, at)
        self.sequence += 1
        return end

    def body_size(self, data: bytearray, at: _int) -> _int:
        """Bytes behind the header at ``data[at:]``; RecordError for one that can't be of a protected record."""
        kind = data[at]
        size = data[at + 3] << 8 | data[at + 4]
        if kind != tls_terms.APPLICATION_DATA:
            raise RecordError(tls_terms.UNEXPECTED_MESSAGE, f"a record of type {kind} in clear")
        if size > tls_terms.MAX_BODY:
            raise RecordError(tls_terms.RECORD_OVERFLOW, f"a record of {size} bytes")
        if size < tls_terms.OVERHEAD:
            raise RecordError(tls_terms.DECODE_ERROR, f"a record of {size} bytes")
        return size

    def open(self, record: bytearray, at: _int, body: _int, out: bytearray, to: _int) -> _int:
        """Put the content of the next record, which is ``record[at:]``, at ``out[to:]``; its size, and ``kind``.

        ``out`` has room for all of its ``body`` but the tag. RecordError when it is none.
        """
        size = self._cipher().open(self.sequence, record, at, body, out, to)
        if size < 0:
            raise RecordError(tls_terms.BAD_RECORD_MAC, "a record that is not authentic")
        self.sequence += 1
        if size > tls_terms.MAX_CONTENT + 1:
            raise RecordError(tls_terms.RECORD_OVERFLOW, "a record with too much in it")
        last = to + size - 1
        while last >= to and out[last] == 0:  # padding (section 5.4)
            last -= 1
        if last < to:
            raise RecordError(tls_terms.UNEXPECTED_MESSAGE, "a record without a type")
        self.kind = out[last]
        return last - to
