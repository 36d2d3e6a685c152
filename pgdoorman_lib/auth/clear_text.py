"""A client tells its password in clear text, and somebody says whether it is right.

Rules:
1. It is asked for, and judged, whoever the client says to be, so that nobody learns who is known here. An empty one is
   nobody's: to some who judge it means that there is nothing to prove (RFC 4513 section 5.1.2).
2. Who judges is handed in (abc.Judge); asking without keeping others waiting is ``auth.judges``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import field

from pgdoorman_lib.abc import Judge
from pgdoorman_lib.auth.judges import Judges
from pgdoorman_lib.auth.talos import Talos, Visitor
from pgdoorman_lib.auth.tokens import JWT
from pgdoorman_lib.auth.verify import MAX_PASSWORD_MESSAGE, Candidate, failed, told_password
from pgdoorman_lib.config.tokens import TALOS_USER
from pgdoorman_lib.errors import Refusal
from pgdoorman_lib.log import label
from pgdoorman_lib.net.stream import Stream
from pgdoorman_lib.record import record
from pgdoorman_lib.wire.messages import authentication_cleartext

log = logging.getLogger(__name__)

_REQUEST = authentication_cleartext()


@record(frozen=True)
class Claim:
    """Who a client says to be, its ``password`` as it came, and its numeric ``address``, empty on a unix socket."""

    user: str
    database: str
    password: bytes = field(repr=False)
    address: str


def ask_password(stream: Stream) -> bytes:
    """Have the client tell its password; may switch. ProtocolViolation, PeerGone."""
    stream.write(_REQUEST)
    kind, body = stream.read_message(MAX_PASSWORD_MESSAGE)
    return told_password(kind, body)


def authenticate_told(
    stream: Stream, candidate: Candidate, judge: Judge, judges: Judges, database: str, method: str
) -> str | None:
    """Have the client tell its password, and ``judge`` say that it is right; may switch.

    Returns what its servers may be told, None if nothing. ``method`` is for the words of AuthenticationFailed.
    ProtocolViolation, PeerGone.
    """
    password = ask_password(stream)
    if not password:
        raise candidate.failed("an empty password", method)
    refusal: str | None = candidate.refusal
    try:
        judges.ask(stream, judge, Claim(candidate.user, database, password, stream.peer_host))
    except Refusal as exc:
        refusal = refusal or str(exc)
    if refusal is not None:
        raise candidate.failed(refusal, method)
    candidate.succeeded()
    return _text(password) if judge.passes_on else None


def authenticate_visitor(
    stream: Stream, talos: Talos, database: str, find_user: Callable[[str, str], object | None]
) -> Visitor:
    """Have the user of [talos] show his token: who he is then in ``database``; may switch. As ``authenticate_told``."""
    token = ask_password(stream)
    try:
        visitor = talos.judge(token, database)
        if find_user(database, visitor.role) is None:
            raise Refusal(f'the pool has no user "{visitor.role}", which is the highest role in the token')
    except Refusal as exc:
        raise failed(TALOS_USER, str(exc), JWT) from exc
    who = label(visitor.role, database, address=stream.peer)
    log.info("%s is %s by a token of Talos", who, visitor.client_id or "without a name")
    return visitor


def _text(password: bytes) -> str | None:
    try:
        return password.decode()
    except UnicodeDecodeError:
        return None
