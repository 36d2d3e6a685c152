"""The messages of the SASL mechanism OAUTHBEARER: what the client says, and how it is told that its token is none.

RFC 7628; of it as much as PostgreSQL's auth-oauth.c takes: no authorization identity, no channel binding.
"""

from __future__ import annotations

import json
import re

from pgdoorman_lib.errors import ProtocolViolation

MECHANISM = "OAUTHBEARER"

#: What a client answers to being told that its token is none: it has nothing to add (RFC 7628 section 3.2.3).
DUMMY = b"\x01"

_SEPARATOR = b"\x01"
# gs2-header without an identity; that of who binds begins with p=, that of who names somebody has a=.
_HEADER = re.compile(rb"[ny],,")
_PAIR = re.compile(rb"([A-Za-z]+)=([\x21-\x7e \t\r\n]*)")
# RFC 6750 section 2.1, the scheme in any case (RFC 9110 section 11.1).
_BEARER = re.compile(rb"[Bb][Ee][Aa][Rr][Ee][Rr] +([A-Za-z0-9\-._~+/]+=*)")


def token_in(message: bytes) -> bytes | None:
    """The token in the client's first message; None if there is none, which asks where to get one.

    ProtocolViolation for what is no such message; empty if something else than a token stands in its place.
    """
    header = _HEADER.match(message)
    if header is None:
        if message.startswith(b"p="):
            raise _malformed("client selected OAUTHBEARER with channel binding, which it does not have")
        if re.match(rb"[ny],a=", message):
            raise _malformed("client uses authorization identity, but it is not supported")
        raise _malformed("malformed OAUTHBEARER message")
    rest = message[header.end() :]
    if not rest.startswith(_SEPARATOR) or not rest.endswith(_SEPARATOR * 2):
        raise _malformed("malformed OAUTHBEARER message")
    value: bytes | None = None
    for pair in rest[1:-2].split(_SEPARATOR):
        match = _PAIR.fullmatch(pair)
        if match is None:
            raise _malformed("malformed OAUTHBEARER message")
        if match[1] == b"auth":
            if value is not None:
                raise _malformed("malformed OAUTHBEARER message: more than one auth value")
            value = match[2]
    if value is None:
        raise _malformed("malformed OAUTHBEARER message: no auth value")
    if not value:
        return None
    bearer = _BEARER.fullmatch(value)
    return bearer[1] if bearer is not None else b""


def no_token(issuer: str, scope: str) -> bytes:
    """What tells the client that it has shown none, and where it can get one (RFC 7628 section 3.2.2)."""
    where = issuer if "/.well-known/" in issuer else f"{issuer.rstrip('/')}/.well-known/openid-configuration"
    return json.dumps({"status": "invalid_token", "openid-configuration": where, "scope": scope}).encode()


def _malformed(message: str) -> ProtocolViolation:
    return ProtocolViolation(message)
