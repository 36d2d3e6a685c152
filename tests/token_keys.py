"""Pairs of keys, and tokens of every kind made with them: the good ones, and those no issuer would make."""

from __future__ import annotations

import base64
import functools
import hashlib
import hmac
import json
import time
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

ALGORITHMS = {"rsa": "RS256", "ec": "ES256", "ed25519": "EdDSA"}


def pair(kind: str = "rsa", number: int = 0) -> Any:
    """A private key; the same each time for a kind and a number."""
    return _pair(kind, number)


@functools.cache
def _pair(kind: str, number: int) -> Any:
    if kind.startswith("rsa"):
        return rsa.generate_private_key(public_exponent=65537, key_size=int(kind[3:] or 2048))
    if kind == "ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    curves = {"ec": ec.SECP256R1(), "p384": ec.SECP384R1(), "k1": ec.SECP256K1()}
    return ec.generate_private_key(curves[kind])


def private_pem(key: Any) -> bytes:
    return bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


def public_pem(key: Any) -> bytes:
    return bytes(
        key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )


def write_pair(directory: Path, name: str, kind: str = "rsa", number: int = 0) -> tuple[Path, Path]:
    """The files of its public and its private half."""
    key = pair(kind, number)
    public, private = directory / f"{name}.pem", directory / f"{name}.key"
    public.write_bytes(public_pem(key))
    private.write_bytes(private_pem(key))
    return public, private


def in_an_hour() -> int:
    return int(time.time()) + 3600


def token_for(user: str, kind: str = "rsa", number: int = 0, headers: Any = None, **claims: Any) -> str:
    """A good one unless ``claims`` say otherwise: None leaves one out."""
    said = {"preferred_username": user, "exp": in_an_hour()} | claims
    said = {name: value for name, value in said.items() if value is not None}
    return jwt.encode(said, pair(kind, number), algorithm=ALGORITHMS[kind], headers=headers)


def talos_token(kid: str, access: Any, number: int = 0, **claims: Any) -> str:
    """One of Talos, with ``access`` as its resource_access."""
    said = {"clientId": "billing-service", "exp": in_an_hour(), "resource_access": access} | claims
    said = {name: value for name, value in said.items() if value is not None}
    return jwt.encode(said, pair("rsa", number), algorithm="RS256", headers={"kid": kid})


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def signed(header: Any, payload: bytes, kind: str = "rsa", number: int = 0) -> str:
    """Any ``payload`` at all under any ``header``, with a signature that is right for the key."""
    head = base64url(json.dumps(header).encode() if not isinstance(header, bytes) else header)
    text = f"{head}.{base64url(payload)}"
    algorithm = jwt.get_algorithm_by_name(ALGORITHMS[kind])
    return f"{text}.{base64url(algorithm.sign(text.encode(), pair(kind, number)))}"


def unsigned(claims: Any) -> str:
    """Of the algorithm "none"."""
    return f"{base64url(json.dumps({'alg': 'none'}).encode())}.{base64url(json.dumps(claims).encode())}."


def by_public_key_as_secret(claims: Any, key: Any) -> str:
    """Signed by HMAC with the public key, which everybody may know, as the secret."""
    head = base64url(json.dumps({"alg": "HS256", "typ": "JWT"}).encode())
    text = f"{head}.{base64url(json.dumps(claims).encode())}"
    return f"{text}.{base64url(hmac.digest(public_pem(key), text.encode(), hashlib.sha256))}"


def hostile_tokens(user: str) -> dict[str, str]:
    """Tokens by which nobody may get in as ``user``, by what is wrong with them; the key is ``pair()``."""
    good = {"preferred_username": user, "exp": in_an_hour()}
    whole = token_for(user)
    head, body, signature = whole.split(".")
    rs256 = {"alg": "RS256", "typ": "JWT"}

    def says(text: str) -> str:
        return signed(rs256, text.encode())

    past, far = int(time.time()) - 10, "9" * 400
    return {
        "empty": "",
        "no token": "secret",
        "only dots": "..",
        "four parts": f"{whole}.x",
        "two parts": f"{head}.{body}",
        "no signature": f"{head}.{body}.",
        "another signature": f"{head}.{body}.{base64url(b'x' * 256)}",
        "another body": f"{head}.{base64url(json.dumps(good | {'x': 1}).encode())}.{signature}",
        "algorithm none": unsigned(good),
        "the public key as a secret": by_public_key_as_secret(good, pair()),
        "another key": token_for(user, number=1),
        "another kind of key": token_for(user, "ec"),
        "header of another algorithm": signed({"alg": "ES256"}, json.dumps(good).encode()),
        "header is a list": signed(b"[]", json.dumps(good).encode()),
        "header is nothing": signed(b"", json.dumps(good).encode()),
        "header nested without end": signed(b"[" * 20_000, json.dumps(good).encode()),
        "critical extension": signed(rs256 | {"crit": ["x"], "x": 1}, json.dumps(good).encode()),
        "kid is a number": signed(rs256 | {"kid": 1}, json.dumps(good).encode()),
        "not JSON": says("{"),
        "no object": says("[]"),
        "a number": says("1"),
        "not UTF-8": signed(rs256, b'{"exp": 1, "x": "\xff"}'),
        "nested without end": says("[" * 20_000),
        "expired": token_for(user, exp=past),
        "not yet": token_for(user, nbf=past + 600),
        "no exp": token_for(user, exp=None),
        "exp is text": says(json.dumps(good | {"exp": str(good["exp"])})),
        "exp is true": says(json.dumps(good | {"exp": True})),
        "exp is null": says(json.dumps(good | {"exp": None})),
        "exp is a list": says(json.dumps(good | {"exp": [good["exp"]]})),
        "exp is NaN": says(f'{{"preferred_username": "{user}", "exp": NaN}}'),
        "exp is infinite": says(f'{{"preferred_username": "{user}", "exp": Infinity}}'),
        "exp overflows": says(f'{{"preferred_username": "{user}", "exp": 1e999}}'),
        "exp has more digits than Python reads": says(f'{{"preferred_username": "{user}", "exp": {far * 20}}}'),
        "nbf is text": says(json.dumps(good | {"nbf": "1"})),
        "nbf is NaN": says(f'{{"preferred_username": "{user}", "exp": {good["exp"]}, "nbf": NaN}}'),
        "no user": token_for(user, preferred_username=None),
        "user is a list": token_for(user, preferred_username=[user]),
        "user is another": token_for(f"{user}x"),
        "user in other letters": token_for(user.upper()),
        "user with a zero": token_for(f"{user}\0"),
        "user is half a surrogate": says(f'{{"preferred_username": "\\ud800", "exp": {good["exp"]}}}'),
        "user of sub": token_for(user, preferred_username=None, sub=user),
    }
