"""Logins like an earlier one: what was decided about a startup packet, for the next client that sends the same.

Rules:
1. Only decisions are remembered: which user of which pool that is, by which secret and method it proves that, what it
   asked for; and of SCRAM the ClientKey, which is the same for whoever proves to know it. They hang on the packet, the
   client's address and the configuration; with another configuration all are forgotten. Of a user who was looked up
   they hold as long as what was found (``Candidate.is_current``).
2. Only of clients that were asked for a proof, and that wanted a pool and nothing out of the ordinary; by TLS and in
   clear apart, for rules tell them apart. The proof is asked for each time.
3. Whether the user exists or not, or else how long the challenge takes to come would tell. Those that have proven who
   they are are remembered apart from those that have not, who may be anybody and any number.
"""

from __future__ import annotations

from typing import Any

from pgdoorman_lib.auth.verify import Candidate

_bytes = bytes

#: Packets remembered, and the longest of them, bytes; they are all forgotten when there are too many.
MAX_REMEMBERED = 1000
MAX_PACKET = 1024

#: By whose secret and by which method of ``auth.hba`` a client was let in, and as what (client.login.Accepted).
KnownLogin = tuple[Candidate, str, Any]


class LoginCache:
    """What is known under one configuration."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, bool, bytes], KnownLogin] = {}
        self._met: dict[tuple[str, bool, bytes], KnownLogin] = {}

    def __len__(self) -> int:
        return len(self._known)

    def meet(self, host: str, tls: bool, packet: _bytes, known: KnownLogin) -> None:
        """A client from ``host`` (empty: the unix socket) is asked for a proof; ``packet`` is without length word."""
        if len(packet) > MAX_PACKET:
            return
        if len(self._met) >= MAX_REMEMBERED:
            self._met.clear()
        self._met[host, tls, packet] = known

    def remember(self, host: str, tls: bool, packet: _bytes, known: KnownLogin) -> None:
        """The same client was let in."""
        if len(packet) > MAX_PACKET:
            return
        self._met.pop((host, tls, packet), None)
        if len(self._known) >= MAX_REMEMBERED:
            self._known.clear()
        self._known[host, tls, packet] = known

    def find(self, host: str, tls: bool, packet: _bytes) -> KnownLogin | None:
        """What is known of a client from ``host`` that has sent ``packet``."""
        key = (host, tls, packet)
        known = self._known.get(key)
        if known is None:
            known = self._met.get(key)
        if known is not None:
            candidate: Any = known[0]
            if not candidate.is_current():
                return None
        return known
