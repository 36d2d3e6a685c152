"""The ciphers of TLS 1.3's records by the package cryptography, for ``net.aead`` where that can't have them otherwise.

It takes 100 ms and 7 MB to import, which is done when the first key is used, or by ``load``.
"""

from __future__ import annotations

import struct
from typing import Any

from pgdoorman_lib.net.tls_terms import APPLICATION_DATA, HEADER_SIZE, LEGACY_VERSION, MAX_CONTENT, TAG_SIZE

_HEADER = struct.Struct(">BHH")
_IV_SIZE = 12
_KEY_SIZES = {"AESGCM": (16, 32), "ChaCha20Poly1305": (32,)}


def load() -> Any:
    """The module with the ciphers."""
    from cryptography.hazmat.primitives.ciphers import aead

    return aead


class Aead:
    """As ``Aead`` of ``aead.pyx``."""

    def __init__(self, name: str, key: bytes, iv: bytes) -> None:
        if len(key) not in _KEY_SIZES.get(name, ()) or len(iv) != _IV_SIZE:
            raise ValueError(f"no key and IV of {name}")
        self._aead: Any = getattr(load(), name)(key)
        self._iv = int.from_bytes(iv, "big")

    def seal(self, number: int, kind: int, data: bytearray, start: int, size: int, out: bytearray, at: int) -> int:
        """Put the record ``number``, of ``data[start:start+size]``, at ``out[at:]``; where it ends."""
        body = size + 1 + TAG_SIZE
        end = at + HEADER_SIZE + body
        if start < 0 or size < 0 or start + size > len(data) or at < 0 or end > len(out):
            raise ValueError("seal outside the buffer")
        if size > MAX_CONTENT:
            raise ValueError("too much for a record")
        header = _HEADER.pack(APPLICATION_DATA, LEGACY_VERSION, body)
        content = bytes(data[start : start + size]) + bytes((kind,))
        out[at:end] = header + self._aead.encrypt(self._nonce(number), content, header)
        return end

    def open(self, number: int, record: bytearray, at: int, body: int, out: bytearray, to: int) -> int:
        """Put what the record ``number`` at ``record[at:]``, ``body`` bytes behind its header, holds at ``out[to:]``.

        ``out`` may be ``record``, with ``to`` right behind the header. The number of bytes, -1 if it is not authentic.
        """
        size = body - TAG_SIZE
        start = at + HEADER_SIZE
        if size < 0 or at < 0 or start + body > len(record) or to < 0 or to + size > len(out):
            raise ValueError("open outside the buffer")
        from cryptography.exceptions import InvalidTag  # there by now

        try:
            inner = self._aead.decrypt(
                self._nonce(number), bytes(record[start : start + body]), bytes(record[at:start])
            )
        except InvalidTag:
            return -1
        out[to : to + size] = inner
        return size

    def _nonce(self, number: int) -> bytes:
        return (self._iv ^ number).to_bytes(_IV_SIZE, "big")
