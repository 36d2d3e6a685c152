"""Tokens: whose they are, and everything by which nobody may be let in."""

from __future__ import annotations

import json
import time

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from token_keys import (
    ALGORITHMS,
    base64url,
    hostile_tokens,
    in_an_hour,
    pair,
    private_pem,
    public_pem,
    signed,
    token_for,
)

from pgdoorman_lib.auth import tokens
from pgdoorman_lib.auth.tokens import Demands, Key, Signer, claims_of, key_id_of, private_key, public_key, user_of
from pgdoorman_lib.errors import ConfigError, Refusal

KINDS = sorted(ALGORITHMS)
NOTHING_MORE = Demands()


def key(kind: str = "rsa", number: int = 0) -> Key:
    return public_key(public_pem(pair(kind, number)), "key.pem")


def user(token: str, demands: Demands = NOTHING_MORE, of: Key | None = None) -> str:
    """As a login has it."""
    return user_of(claims_of(token.encode(), of or key(), demands))


@pytest.mark.parametrize("kind", KINDS)
def test_a_token_says_whose_it_is(kind: str) -> None:
    found = key(kind)
    assert found.algorithm == ALGORITHMS[kind]
    assert user(token_for("alice", kind), of=found) == "alice"
    assert user(token_for("älice 🐘", kind), of=found) == "älice 🐘"


@pytest.mark.parametrize("what", sorted(hostile_tokens("alice")))
def test_nobody_gets_in_by_a_token_that_is_wrong(what: str) -> None:
    token = hostile_tokens("alice")[what]
    try:
        found = user(token)
    except Refusal as refusal:
        assert str(refusal).isprintable() and len(str(refusal)) < 300
    else:
        assert found != "alice"


@given(st.binary(max_size=300))
def test_no_bytes_are_a_token(data: bytes) -> None:
    with pytest.raises(Refusal):
        claims_of(data, key(), NOTHING_MORE)


@given(st.sampled_from(KINDS), st.data())
def test_no_token_with_a_byte_of_it_changed_is_one(kind: str, data: st.DataObject) -> None:
    token = token_for("alice", kind).encode()
    at = data.draw(st.integers(0, len(token) - 1))
    other = bytearray(token)
    other[at] = data.draw(st.integers(0, 255).filter(lambda byte: byte != token[at]))
    try:
        claims = claims_of(bytes(other), key(kind), NOTHING_MORE)
    except Refusal:
        return
    # What stands in the last letter of a part beyond its last byte is nothing (RFC 4648 section 3.5).
    assert claims == jwt.decode(token, options={"verify_signature": False})
    assert other[at + 1 : at + 2] in (b".", b"")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(["exp", "nbf", "iat", "iss", "aud", "sub", "jti", "x"]), JSON), JSON)
def test_what_claims_are_is_looked_at(claims: dict[str, object], name: object) -> None:
    """Whatever an issuer writes there: a refusal, or a token with times that are numbers."""
    token = signed({"alg": "RS256"}, json.dumps(claims | {"preferred_username": name}).encode())
    try:
        found = claims_of(token.encode(), key(), Demands(issuer="i", audience=("a",)))
    except Refusal:
        return
    assert type(found["exp"]) in (int, float) and found["exp"] > time.time()
    assert found["iss"] == "i" and found["aud"] in ("a", ["a"])


@given(JSON, st.binary(max_size=50))
def test_a_header_is_anything(header: object, rest: bytes) -> None:
    token = f"{base64url(json.dumps(header).encode())}.{base64url(rest)}.{base64url(rest)}".encode()
    with pytest.raises(Refusal):
        claims_of(token, key(), NOTHING_MORE)
    try:
        kid = key_id_of(token)
    except Refusal:
        return
    assert isinstance(header, dict) and header["kid"] == kid


def test_issuer_and_audience_if_they_are_demanded() -> None:
    demands = Demands(issuer="https://i", audience=("db", "pool"))
    assert user(token_for("alice", iss="https://i", aud="pool"), demands) == "alice"
    assert user(token_for("alice", iss="https://i", aud=["x", "db"]), demands) == "alice"
    for claims in (
        {},
        {"iss": "https://i"},
        {"aud": "db"},
        {"iss": "https://i", "aud": "d"},
        {"iss": "https://i", "aud": ["x"]},
        {"iss": "https://ii", "aud": "db"},
        {"iss": "https", "aud": "db"},
    ):
        with pytest.raises(Refusal):
            user(token_for("alice", **claims), demands)
    assert user(token_for("alice", iss="anybody", aud="anything")) == "alice"
    with pytest.raises(Refusal):
        user(signed({"alg": "RS256"}, json.dumps({"exp": in_an_hour(), "iss": ["https://i"]}).encode()), demands)


def test_clocks_may_differ_as_far_as_is_said() -> None:
    now = int(time.time())
    late, early = token_for("alice", exp=now - 20), token_for("alice", nbf=now + 30)
    for token in (late, early):
        with pytest.raises(Refusal):
            user(token)
        assert user(token, Demands(leeway=60.0)) == "alice"


def test_times_may_have_fractions() -> None:
    assert user(token_for("alice", exp=time.time() + 60.5, nbf=0.5)) == "alice"


@pytest.mark.parametrize(
    ("kind", "what"),
    [("rsa1024", "an RSA key of 1024 bits"), ("p384", "an EC key on secp384r1"), ("k1", "an EC key on secp256k1")],
)
def test_a_key_that_is_not_taken(kind: str, what: str) -> None:
    for load, pem in ((public_key, public_pem), (private_key, private_pem)):
        with pytest.raises(ConfigError, match=rf"'there' has {what}, expected RSA of 2048"):
            load(pem(pair(kind)), "there")


def test_a_file_that_is_no_key() -> None:
    with pytest.raises(ConfigError, match="'there' has a private key, expected the public half alone"):
        public_key(private_pem(pair()), "there")
    for text in (b"", b"x", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", b"\xff" * 100):
        with pytest.raises(ConfigError, match="'there' is no public key in PEM"):
            public_key(text, "there")
    with pytest.raises(ConfigError, match="'there' is no private key in PEM"):
        private_key(public_pem(pair()), "there")


def test_a_private_key_with_a_password_is_none() -> None:
    from cryptography.hazmat.primitives import serialization

    pem = pair().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"s3cret"),
    )
    with pytest.raises(ConfigError, match="without a password"):
        private_key(pem, "there")


@pytest.mark.parametrize("kind", KINDS)
def test_tokens_for_servers(kind: str) -> None:
    signer = Signer()
    signer.use({"/k": private_key(private_pem(pair(kind)), "/k")})
    token = signer.token("/k", "bob")
    claims = claims_of(token.encode(), key(kind), NOTHING_MORE)
    assert claims.keys() == {"preferred_username", "exp"} and user_of(claims) == "bob"
    assert 118 <= claims["exp"] - time.time() <= 120
    assert jwt.get_unverified_header(token) == {"alg": ALGORITHMS[kind], "typ": "JWT"}
    assert user_of(claims_of(signer.token("/k", "carol").encode(), key(kind), NOTHING_MORE)) == "carol"


def test_a_token_for_servers_is_made_anew_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1e9
    monkeypatch.setattr(tokens.time, "time", lambda: now)
    signer = Signer()
    signer.use({"/k": private_key(private_pem(pair("ec")), "/k")})

    def ends() -> int:
        said = jwt.decode(signer.token("/k", "bob"), options={"verify_signature": False})
        return int(said["exp"])

    assert ends() == 1e9 + 120
    now += 59
    assert ends() == 1e9 + 120
    now += 1
    assert ends() == now + 120
    now -= 3600  # the clock is put right
    assert ends() == now + 120
    first = signer.token("/k", "bob")
    signer.use({"/k": private_key(private_pem(pair("ec", 1)), "/k")})
    assert signer.token("/k", "bob") != first
    claims_of_new = jwt.decode(signer.token("/k", "bob"), key("ec", 1).key, ["ES256"], options={"verify_exp": False})
    assert claims_of_new["preferred_username"] == "bob"


def test_no_key_is_shown() -> None:
    assert "PRIVATE" not in repr(private_key(private_pem(pair()), "/k"))
    assert "RSA" not in repr(key())
