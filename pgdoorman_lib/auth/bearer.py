"""OAUTHBEARER: a client shows a token within SASL's messages, and somebody says whether it is its user's.

Rules:
1. Whoever shows none that counts is told where to get one, once, and refused then (RFC 7628 section 3.2.3).
2. What it is told depends on nothing but its token and the rule: the issuer's address is public.
"""

from __future__ import annotations

from pgdoorman_lib.auth.clear_text import Claim
from pgdoorman_lib.auth.judges import Judges
from pgdoorman_lib.auth.oauth import OAuthValidator
from pgdoorman_lib.auth.verify import MAX_PASSWORD_MESSAGE, Candidate
from pgdoorman_lib.errors import ProtocolViolation, Refusal
from pgdoorman_lib.net.stream import Stream
from pgdoorman_lib.wire import consts
from pgdoorman_lib.wire.messages import authentication_sasl, authentication_sasl_continue
from pgdoorman_lib.wire.oauthbearer import DUMMY, MECHANISM, no_token, token_in
from pgdoorman_lib.wire.sasl import parse_initial_response

_OFFERED = (MECHANISM.encode(),)
_REQUEST = authentication_sasl((MECHANISM,))


def authenticate_bearer(
    stream: Stream, candidate: Candidate, validator: OAuthValidator, judges: Judges, database: str, method: str
) -> None:
    """Have the client show a token, and ``validator`` say whether it is its user's; may switch.

    Its servers are told nothing of that. AuthenticationFailed, ProtocolViolation, PeerGone.
    """
    stream.write(_REQUEST)
    _, first = parse_initial_response(_answer(stream), _OFFERED)
    if first is None:
        stream.write(authentication_sasl_continue(b""))
        first = _answer(stream)
    token = token_in(first)
    refusal: str | None = candidate.refusal
    try:
        if not token:
            raise Refusal("no token was shown" if token is None else "what was shown is no bearer token")
        judges.ask(stream, validator, Claim(candidate.user, database, token, stream.peer_host))
    except Refusal as exc:
        refusal = refusal or str(exc)
    if refusal is None:
        candidate.succeeded()
        return
    stream.write(authentication_sasl_continue(no_token(validator.issuer, validator.scope)))
    if _answer(stream) != DUMMY:
        raise ProtocolViolation("malformed OAUTHBEARER message: expected nothing but its end")
    raise candidate.failed(refusal, method)


def _answer(stream: Stream) -> bytes:
    kind, body = stream.read_message(MAX_PASSWORD_MESSAGE)
    if kind != consts.PASSWORD:
        raise ProtocolViolation(f"expected SASL response, got message type {kind}")
    return body
