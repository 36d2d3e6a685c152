"""OAUTHBEARER's messages: a token, a question for where to get one, or none of both."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgdoorman_lib.errors import ProtocolViolation
from pgdoorman_lib.wire.oauthbearer import no_token, token_in


def message(auth: bytes, header: bytes = b"n,,", more: bytes = b"") -> bytes:
    return header + b"\x01auth=" + auth + b"\x01" + more + b"\x01"


@given(st.from_regex(rb"[A-Za-z0-9\-._~+/]+=*", fullmatch=True), st.sampled_from([b"n,,", b"y,,"]))
def test_the_token_in_it(token: bytes, header: bytes) -> None:
    assert token_in(message(b"Bearer " + token, header)) == token
    assert token_in(message(b"bEARER   " + token, header, b"host=db.example\x01port=5432\x01")) == token


def test_no_token_asks_for_where_to_get_one() -> None:
    assert token_in(message(b"")) is None


@pytest.mark.parametrize(
    "auth", [b"Bearer", b"Bearer ", b"Basic abc", b"Bearer a b", b"Bearer a=b", b" Bearer a", b"x"]
)
def test_what_is_no_token(auth: bytes) -> None:
    assert token_in(message(auth)) == b""


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b"", "malformed"),
        (b"n", "malformed"),
        (b"n,,", "malformed"),
        (b"n,,\x01", "malformed"),
        (b"n,,\x01\x01", "malformed"),
        (b"n,,\x01auth=Bearer a\x01", "malformed"),
        (b"n,,auth=Bearer a\x01\x01", "malformed"),
        (b"p=tls-server-end-point,,\x01auth=Bearer a\x01\x01", "channel binding"),
        (b"n,a=alice,\x01auth=Bearer a\x01\x01", "authorization identity"),
        (b"x,,\x01auth=Bearer a\x01\x01", "malformed"),
        (b"n,,\x01host=x\x01\x01", "no auth value"),
        (b"n,,\x01auth=Bearer a\x01auth=Bearer b\x01\x01", "more than one auth value"),
        (b"n,,\x01auth=Bearer a\x01\x01\x01", "malformed"),
        (b"n,,\x01auth=Bearer a\x01\x01x", "malformed"),
        (b"n,,\x01auth=Bearer a\0\x01\x01", "malformed"),
        (b"n,,\x01au1h=Bearer a\x01\x01", "malformed"),
        (b"n,,\x01=Bearer a\x01\x01", "malformed"),
        (b"n,,\x01auth\x01\x01", "malformed"),
        (b"n,,\x01auth=Bearer \xff\x01\x01", "malformed"),
    ],
)
def test_what_is_no_such_message(text: bytes, problem: str) -> None:
    with pytest.raises(ProtocolViolation, match=problem):
        token_in(text)


@given(st.binary(max_size=100), st.booleans())
def test_any_bytes_are_a_message_or_none(data: bytes, framed: bool) -> None:
    try:
        token = token_in(message(data) if framed else data)
    except ProtocolViolation:
        return
    assert token is None or token == b"" or token in data


def test_where_to_get_a_token() -> None:
    said = json.loads(no_token("https://issuer.example/", "openid db"))
    where = "https://issuer.example/.well-known/openid-configuration"
    assert said == {"status": "invalid_token", "openid-configuration": where, "scope": "openid db"}
    own = "https://issuer.example/.well-known/oauth-authorization-server"
    assert json.loads(no_token(own, ""))["openid-configuration"] == own
