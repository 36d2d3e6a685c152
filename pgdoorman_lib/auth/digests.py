"""The interpreted twin of ``digests.pyx``: the digests are Python's own."""

from __future__ import annotations

from pgdoorman_lib.auth.python_digests import Hmac, sha256, xor

__all__ = ["DIRECT", "Hmac", "sha256", "xor"]

#: Whether libcrypto is called directly.
DIRECT = False
