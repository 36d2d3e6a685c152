"""SHA-256 and its HMAC for short messages, by Python's modules alone."""

from __future__ import annotations

# Python's own: OpenSSL's, by hashlib, costs nearly twice as much for a digest.
try:
    from _sha2 import sha256 as _sha256  # type: ignore[import-not-found]
except ImportError:  # before Python 3.12
    try:
        from _sha256 import sha256 as _sha256  # type: ignore[import-not-found]
    except ImportError:  # Python was built without
        from hashlib import sha256 as _sha256

#: Bytes of a digest.
SIZE = 32
#: Bytes of a block, which HMAC fills up keys to.
_BLOCK = 64
_INNER = bytes(byte ^ 0x36 for byte in range(256))
_OUTER = bytes(byte ^ 0x5C for byte in range(256))


def sha256(data: bytes) -> bytes:
    """The SHA-256 of ``data``, 32 bytes."""
    digest: bytes = _sha256(data).digest()
    return digest


def xor(one: bytes, other: bytes) -> bytes:
    """Of two digests."""
    if len(one) != SIZE or len(other) != SIZE:
        raise ValueError("no digests")
    return bytes(a ^ b for a, b in zip(one, other, strict=True))


class Hmac:
    """HMAC-SHA-256 (RFC 2104) with a key of up to 64 bytes that is taken in once: half of the work for a message."""

    def __init__(self, key: bytes) -> None:
        if len(key) > _BLOCK:
            raise ValueError("a key of more than 64 bytes")
        block = key.ljust(_BLOCK, b"\0")
        self._inner = _sha256(block.translate(_INNER))
        self._outer = _sha256(block.translate(_OUTER))

    def digest(self, message: bytes) -> bytes:
        """32 bytes."""
        inner = self._inner.copy()
        inner.update(message)
        outer = self._outer.copy()
        outer.update(inner.digest())
        digest: bytes = outer.digest()
        return digest
