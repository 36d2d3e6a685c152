"""The interpreted twin of ``aead.pyx``: the ciphers are the package cryptography's."""

from __future__ import annotations

from pgdoorman_lib.net.pyca import Aead, load

__all__ = ["DIRECT", "Aead", "load"]

#: Whether libcrypto is called directly.
DIRECT = False
