"""SASLInitialResponse: the mechanism that a client has chosen, and its first message.

PostgreSQL docs, "SASL Authentication" and "Message Formats".
"""

from __future__ import annotations

from collections.abc import Sequence

from pgdoorman_lib.errors import ProtocolViolation
from pgdoorman_lib.wire.framing import int32


def parse_initial_response(body: bytes, offered: Sequence[bytes]) -> tuple[bytes, bytes | None]:
    """The mechanism's name, and what the client begins with, None if it leaves that to its next message.

    ProtocolViolation, also for a mechanism that is not among those ``offered``.
    """
    end = body.find(b"\0")
    begin = end + 5  # behind the length word
    if end < 0 or begin > len(body):
        raise ProtocolViolation("invalid message format")
    mechanism = body[:end]
    if mechanism not in offered:
        raise ProtocolViolation("client selected an invalid SASL authentication mechanism")
    size = int32(body, end + 1)
    if size == -1 and begin == len(body):
        return mechanism, None
    if size != len(body) - begin:
        raise ProtocolViolation("invalid message format")
    return mechanism, body[begin:]
