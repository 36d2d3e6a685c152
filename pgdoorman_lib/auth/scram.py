"""SCRAM-SHA-256, the server's side: stored secrets, and the exchange in which a client proves to know one.

Bytes in, bytes out, no switch of greenlets. Written out here because scramp's server refuses what PostgreSQL's clients
send: an empty user name (libpq; the one in the startup packet counts), and secrets of fewer than 4096 iterations.

RFC 5802, RFC 7677; PostgreSQL docs, "SASL Authentication"; error texts are those of its auth-scram.c.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field
from functools import lru_cache

from pgdoorman_lib.errors import ConfigError, ProtocolViolation, UnsupportedFeature
from pgdoorman_lib.wire.scram import BASE64, MECHANISM, prepared

#: PostgreSQL's own: iterations of a new secret, bytes of its salt.
ITERATIONS = 4096
SALT_SIZE = 16

_PREFIX = f"{MECHANISM}$"
_SECRET = re.compile(rf"{MECHANISM}\$([1-9][0-9]{{0,8}}):({BASE64})\$({BASE64}):({BASE64})")

# gs2-header, then "n=" user "," "r=" nonce [extensions]: RFC 5802 section 7. What is wrong is told apart by group.
_FIRST = re.compile(rb"(?P<gs2>(?P<flag>[ny]|p=[^,\0]*),(?P<authzid>[^,\0]*),)(?P<bare>(?P<rest>[^\0]*))")
_BARE = re.compile(rb"n=[^,\0]*,r=(?P<nonce>[^,\0]*)(?:,[A-Za-z]=[^,\0]*)*")
_FINAL = re.compile(
    rb"(?P<unproven>c=(?P<binding>[^,\0]*),r=(?P<nonce>[^,\0]*)(?:,[A-Za-z]=[^,\0]*)*?),p=(?P<proof>[^,\0]*)"
)
_NONCE = re.compile(rb"[\x21-\x2b\x2d-\x7e]+")


@dataclass(frozen=True)
class ScramSecret:
    """What a server stores instead of a password: enough to check a proof, not to make one."""

    iterations: int
    salt: bytes
    stored_key: bytes = field(repr=False)
    server_key: bytes = field(repr=False)

    @staticmethod
    def looks_like(secret: str) -> bool:
        """Whether a configured secret is meant to be a stored one."""
        return secret.startswith(_PREFIX)

    @classmethod
    def parse(cls, text: str) -> ScramSecret:
        """``SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey``; ConfigError, which does not show it, otherwise."""
        match = _SECRET.fullmatch(text)
        try:
            if match is None:
                raise ValueError
            salt, stored_key, server_key = (base64.b64decode(part, validate=True) for part in match.group(2, 3, 4))
            if not salt or len(stored_key) != 32 or len(server_key) != 32:
                raise ValueError
        except ValueError:
            raise ConfigError(
                "malformed SCRAM-SHA-256 secret, expected SCRAM-SHA-256$iterations:salt$key:key"
            ) from None
        return cls(int(match[1]), salt, stored_key, server_key)

    @classmethod
    def derive(cls, password: str, salt: bytes, iterations: int = ITERATIONS) -> ScramSecret:
        """The secret for a password in plain text: a millisecond of work, but for those derived lately."""
        return _derive(password, salt, iterations)

    def is_of(self, password: str) -> bool:
        """Whether it is the secret of a password, which anybody may have given: none is remembered."""
        found = _derived(password, self.salt, self.iterations)
        return hmac.compare_digest(found.stored_key, self.stored_key)

    def __str__(self) -> str:
        parts = (base64.b64encode(part).decode() for part in (self.salt, self.stored_key, self.server_key))
        return "{}${}:{}${}:{}".format(MECHANISM, self.iterations, *parts)


def mock_secret(user: str, key: bytes, iterations: int = ITERATIONS, salt_size: int = SALT_SIZE) -> ScramSecret:
    """A secret nobody can prove to know, always the same for a user: a salt that changes would give it away."""
    none = bytes(32)
    return ScramSecret(iterations, mock_salt(user, key, salt_size), none, none)


def mock_salt(user: str, key: bytes, size: int = SALT_SIZE) -> bytes:
    """A salt (up to 32 bytes) that is always the same for a user, and that nobody without ``key`` can foretell."""
    return hmac.digest(key, user.encode(errors="replace"), "sha256")[:size]


class ScramExchange:
    """One client's exchange: ``first``, then ``final``. Channel binding is neither offered nor taken.

    ProtocolViolation or UnsupportedFeature for messages that are not SCRAM's; they depend on the messages alone, not on
    the secret.
    """

    def __init__(self, secret: ScramSecret, nonce: bytes | None = None) -> None:
        self._secret = secret
        self._server_nonce = nonce or base64.b64encode(secrets.token_bytes(18))
        self._gs2 = b""
        self._nonce = b""
        self._messages = b""
        #: server-final-message, for a proof that was right
        self.server_final = b""

    def first(self, message: bytes) -> bytes:
        """server-first-message for the client-first-message."""
        match = _FIRST.fullmatch(message)
        if match is None:
            raise _malformed("The message is not a SCRAM client-first-message.")
        if match["flag"].startswith(b"p"):
            raise _malformed(
                "The client selected SCRAM-SHA-256 without channel binding, but the SCRAM message includes channel "
                "binding data."
            )
        if match["authzid"]:
            raise UnsupportedFeature("client uses authorization identity, but it is not supported")
        if match["bare"].startswith(b"m="):
            raise UnsupportedFeature("client requires an unsupported SCRAM extension")
        bare = _BARE.fullmatch(match["bare"])
        if bare is None:
            raise _malformed("The message is not a SCRAM client-first-message.")
        if _NONCE.fullmatch(bare["nonce"]) is None:
            raise ProtocolViolation("non-printable characters in SCRAM nonce")
        self._gs2 = match["gs2"]
        self._nonce = bare["nonce"] + self._server_nonce
        salt = base64.b64encode(self._secret.salt)
        server_first = b"r=%s,s=%s,i=%d" % (self._nonce, salt, self._secret.iterations)
        self._messages = b"%s,%s," % (match["bare"], server_first)
        return server_first

    def final(self, message: bytes) -> bytes | None:
        """The ClientKey (32 bytes) that the client-final-message proves to know; None if the proof is wrong."""
        match = _FINAL.fullmatch(message)
        if match is None:
            raise _malformed("The message is not a SCRAM client-final-message.")
        if match["binding"] != base64.b64encode(self._gs2):
            raise ProtocolViolation("unexpected SCRAM channel-binding attribute in client-final-message")
        if not hmac.compare_digest(match["nonce"], self._nonce):
            raise ProtocolViolation("invalid SCRAM response", detail="Nonce does not match.")
        try:
            proof = base64.b64decode(match["proof"], validate=True)
        except binascii.Error:
            proof = b""
        if len(proof) != 32:
            raise _malformed("Malformed proof in client-final-message.")
        auth_message = self._messages + match["unproven"]
        signature = hmac.digest(self._secret.stored_key, auth_message, "sha256")
        client_key = bytes(a ^ b for a, b in zip(proof, signature, strict=True))
        if not hmac.compare_digest(hashlib.sha256(client_key).digest(), self._secret.stored_key):
            return None
        server_signature = hmac.digest(self._secret.server_key, auth_message, "sha256")
        self.server_final = b"v=" + base64.b64encode(server_signature)
        return client_key


def _derived(password: str, salt: bytes, iterations: int) -> ScramSecret:
    salted = hashlib.pbkdf2_hmac("sha256", prepared(password).encode(), salt, iterations)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    server_key = hmac.digest(salted, b"Server Key", "sha256")
    return ScramSecret(iterations, salt, hashlib.sha256(client_key).digest(), server_key)


# Passwords in the configuration are few; a burst of logins pays for each once.
_derive = lru_cache(maxsize=4096)(_derived)


def _malformed(detail: str) -> ProtocolViolation:
    return ProtocolViolation("malformed SCRAM message", detail=detail)
