"""Logins like an earlier one: what was decided about a startup packet, for the next client that sends the same.

Rules:
1. Only decisions are remembered: which user of which pool that is, by which method it may come in, what it asked for.
   They hang on the packet, the client's address and the configuration; with another configuration all are forgotten.
2. Only of clients that have proven who they are, by MD5 and without TLS, and that wanted a pool and nothing out of the
   ordinary. The proof is asked for each time.
"""

from __future__ import annotations

from typing import Any

from pgdoorman_lib.auth.verify import Candidate, stored_md5
from pgdoorman_lib.net.syscalls import cut

_int = int
_bytes = bytes

#: Packets remembered, and the longest of them, bytes; they are all forgotten when there are too many.
MAX_REMEMBERED = 1000
MAX_PACKET = 1024

_MAX_PACKET = MAX_PACKET


class KnownLogin:
    """A client like this has been let in: by ``candidate``'s secret, as ``accepted`` (client.login.Accepted)."""

    __slots__ = ("accepted", "asked", "candidate", "digits", "pool")

    def __init__(self, candidate: Candidate, accepted: Any) -> None:
        self.candidate = candidate
        #: the digits of its secret's stored form
        self.digits = stored_md5(candidate)[3:].encode()
        self.accepted = accepted
        #: its settings, as what they can be looked up by
        self.asked = tuple(accepted.parameters.items())
        #: the pool it led to; None until somebody has gone there
        self.pool: Any = None


class LoginCache:
    """What is known under one configuration."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, bytes], KnownLogin] = {}

    def __len__(self) -> int:
        return len(self._known)

    def remember(self, host: str, packet: _bytes, known: KnownLogin) -> None:
        """A client from ``host`` (empty: the unix socket) was let in with ``packet``, the length word left out."""
        if len(packet) > MAX_PACKET:
            return
        if len(self._known) >= MAX_REMEMBERED:
            self._known.clear()
        self._known[host, packet] = known

    def find(self, host: str, data: bytearray, start: _int, end: _int) -> KnownLogin | None:
        """What is known of a client from ``host`` that has sent ``data[start:end]``: one startup packet, no more."""
        size = end - start
        if not 8 <= size <= _MAX_PACKET:
            return None
        text = data
        if text[start] or text[start + 1] or (text[start + 2] << 8) + text[start + 3] != size:
            return None
        return self._known.get((host, cut(data, start + 4, end)))
