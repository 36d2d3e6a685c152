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
from binascii import a2b_base64, b2a_base64
from dataclasses import dataclass, field
from functools import lru_cache
from hmac import compare_digest

from pgdoorman_lib.auth.digests import Hmac, sha256, xor
from pgdoorman_lib.auth.entropy import random_bytes
from pgdoorman_lib.errors import AuthenticationFailed, ConfigError, ProtocolViolation, UnsupportedFeature
from pgdoorman_lib.wire.scram import BASE64, BINDING, MAX_ITERATIONS, MECHANISM, prepared

_int = int
_Fields = list[bytes]

#: PostgreSQL's own: iterations of a new secret, bytes of its salt.
ITERATIONS = 4096
SALT_SIZE = 16

_PREFIX = f"{MECHANISM}$"
_SECRET = re.compile(rf"{MECHANISM}\$([1-9][0-9]{{0,8}}):({BASE64})\$({BASE64}):({BASE64})")

#: Bytes of a digest, of a key and of a proof; of our part of the nonce.
_SIZE = 32
_NONCE_SIZE = 18
#: Letters of attributes, and what stands behind them.
_C, _N, _P, _R, _EQUALS = b"cnpr="
#: The gs2-cbind-flags (RFC 5802 section 7): of who can't bind, who could and thinks that we can't, and who does.
_UNABLE, _UNASKED, _BOUND = b"n", b"y", b"p=" + BINDING.encode()


@dataclass(frozen=True)  # the one decorator that Cython knows of a cdef class
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
            if not salt or len(stored_key) != _SIZE or len(server_key) != _SIZE:
                raise ValueError
        except ValueError:
            raise ConfigError(
                "malformed SCRAM-SHA-256 secret, expected SCRAM-SHA-256$iterations:salt$key:key"
            ) from None
        iterations = int(match[1])
        if iterations > MAX_ITERATIONS:
            raise ConfigError(f"a SCRAM-SHA-256 secret of {iterations} iterations, expected {MAX_ITERATIONS} at most")
        return cls(iterations, salt, stored_key, server_key)

    @classmethod
    def derive(cls, password: str, salt: bytes, iterations: int = ITERATIONS) -> ScramSecret:
        """The secret for a password in plain text: a millisecond of work, but for those derived lately."""
        return _derive(password, salt, iterations)

    def is_of(self, password: str) -> bool:
        """Whether it is the secret of a password, which anybody may have given: none is remembered."""
        found = _derived(password, self.salt, self.iterations)
        return compare_digest(found.stored_key, self.stored_key)

    def __str__(self) -> str:
        parts = (base64.b64encode(part).decode() for part in (self.salt, self.stored_key, self.server_key))
        return "{}${}:{}${}:{}".format(MECHANISM, self.iterations, *parts)


def mock_secret(user: str, key: bytes, iterations: int = ITERATIONS, salt_size: int = SALT_SIZE) -> ScramSecret:
    """A secret nobody can prove to know, always the same for a user: a salt that changes would give it away."""
    none = bytes(_SIZE)
    return ScramSecret(iterations, mock_salt(user, key, salt_size), none, none)


def mock_salt(user: str, key: bytes, size: int = SALT_SIZE) -> bytes:
    """A salt (up to 32 bytes) that is always the same for a user, and that nobody without ``key`` can foretell."""
    return hmac.digest(key, user.encode(errors="replace"), "sha256")[:size]


class ScramVerifier:
    """What an exchange needs of a secret, made once for all of them."""

    def __init__(self, secret: ScramSecret) -> None:
        self.stored_key = secret.stored_key
        #: what server-first-message says behind the nonce
        self.shown = b",s=%s,i=%d" % (b2a_base64(secret.salt, newline=False), secret.iterations)
        #: make the ClientSignature and the ServerSignature
        self.client = Hmac(secret.stored_key)
        self.server = Hmac(secret.server_key)


class ScramExchange:
    """One client's exchange: ``first``, then ``final``.

    ``end_point`` is what it can be bound to by SCRAM-SHA-256-PLUS, None where that is not offered. ProtocolViolation or
    UnsupportedFeature for messages that are not SCRAM's, AuthenticationFailed for another binding; they depend on the
    messages and the connection alone, not on the secret.
    """

    def __init__(self, verifier: ScramVerifier, nonce: bytes | None = None, end_point: bytes | None = None) -> None:
        self._verifier = verifier
        self._end_point = end_point
        self._bound = False
        self._server_nonce = b2a_base64(random_bytes(_NONCE_SIZE), newline=False) if nonce is None else nonce
        self._binding = b""
        self._nonce = b""
        self._messages = b""
        #: server-final-message, for a proof that was right
        self.server_final = b""

    def first(self, message: bytes, plus: bool = False) -> bytes:
        """server-first-message for the client-first-message; ``plus``: the client has chosen SCRAM-SHA-256-PLUS."""
        # gs2-header, then "n=" user "," "r=" nonce [extensions]: RFC 5802 section 7.
        parts = message.split(b",", 2)
        if len(parts) != 3 or b"\0" in message:
            raise _not_first()
        flag = parts[0]
        bare = parts[2]
        self._check_flag(flag, plus)
        if parts[1]:
            raise UnsupportedFeature("client uses authorization identity, but it is not supported")
        if bare.startswith(b"m="):
            raise UnsupportedFeature("client requires an unsupported SCRAM extension")
        fields = bare.split(b",")
        count = len(fields)
        if count < 2 or not (_is(fields[0], _N) and _is(fields[1], _R) and _are_extensions(fields, 2, count)):
            raise _not_first()
        nonce = fields[1][2:]
        if not _is_printable(nonce):
            raise ProtocolViolation("non-printable characters in SCRAM nonce")
        self._bound = plus
        end_point = self._end_point
        header = flag + b",,"
        self._binding = b2a_base64(header + end_point if plus and end_point is not None else header, newline=False)
        self._nonce = nonce + self._server_nonce
        server_first = b"r=" + self._nonce + self._verifier.shown
        self._messages = bare + b"," + server_first + b","
        return server_first

    def _check_flag(self, flag: bytes, plus: bool) -> None:
        """Whether the client may say so of channel binding: what somebody in between has taken away is found here."""
        if flag in (_UNABLE, _UNASKED):
            if plus:
                raise _malformed(
                    "The client selected SCRAM-SHA-256-PLUS, but the SCRAM message does not include channel binding "
                    "data."
                )
            if flag == _UNASKED and self._end_point is not None:
                raise AuthenticationFailed(
                    "SCRAM channel binding negotiation error",
                    detail="The client supports SCRAM channel binding but thinks the server does not.  However, this "
                    "server does support channel binding.",
                    sqlstate="28000",
                )
        elif not flag.startswith(b"p="):
            raise _not_first()
        elif not plus:
            raise _malformed(
                "The client selected SCRAM-SHA-256 without channel binding, but the SCRAM message includes channel "
                "binding data."
            )
        elif flag != _BOUND:
            kind = flag[2:].decode("ascii", "replace")
            raise ProtocolViolation(f'unsupported SCRAM channel-binding type "{kind}"')

    def final(self, message: bytes) -> bytes | None:
        """The ClientKey (32 bytes) that the client-final-message proves to know; None if the proof is wrong."""
        # "c=" binding "," "r=" nonce [extensions] "," "p=" proof.
        fields = message.split(b",")
        last = len(fields) - 1
        if (
            last < 2
            or b"\0" in message
            or not (_is(fields[0], _C) and _is(fields[1], _R) and _is(fields[last], _P))
            or not _are_extensions(fields, 2, last)
        ):
            raise _malformed("The message is not a SCRAM client-final-message.")
        if fields[0][2:] != self._binding:
            if self._bound:
                raise AuthenticationFailed("SCRAM channel binding check failed", sqlstate="28000")
            raise ProtocolViolation("unexpected SCRAM channel-binding attribute in client-final-message")
        if not compare_digest(fields[1][2:], self._nonce):
            raise ProtocolViolation("invalid SCRAM response", detail="Nonce does not match.")
        encoded = fields[last][2:]
        try:
            proof = a2b_base64(encoded)
        except binascii.Error:
            proof = b""
        # What is no base64 is passed over in decoding, and so is not there any more.
        if len(proof) != _SIZE or b2a_base64(proof, newline=False) != encoded:
            raise _malformed("Malformed proof in client-final-message.")
        verifier = self._verifier
        auth_message = self._messages + message[: len(message) - len(fields[last]) - 1]
        client_key = xor(proof, verifier.client.digest(auth_message))
        if not compare_digest(sha256(client_key), verifier.stored_key):
            return None
        self.server_final = b"v=" + b2a_base64(verifier.server.digest(auth_message), newline=False)
        return client_key


def _is(field: bytes, letter: _int) -> bool:
    """Whether a field of a message is the attribute of that letter."""
    return len(field) >= 2 and field[0] == letter and field[1] == _EQUALS


def _are_extensions(fields: _Fields, start: _int, end: _int) -> bool:
    """Whether each of ``fields[start:end]`` is some attribute, as extensions are."""
    for at in range(start, end):  # noqa: SIM110 - compiled, and most often there are none
        if not (fields[at][:1].isalpha() and _is(fields[at], fields[at][0])):
            return False
    return True


def _is_printable(nonce: bytes) -> bool:
    """Whether it is something, in ASCII and without a space."""
    for byte in nonce:
        if byte <= 0x20 or byte >= 0x7F:
            return False
    return len(nonce) > 0


def _derived(password: str, salt: bytes, iterations: int) -> ScramSecret:
    salted = hashlib.pbkdf2_hmac("sha256", prepared(password).encode(), salt, iterations)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    server_key = hmac.digest(salted, b"Server Key", "sha256")
    return ScramSecret(iterations, salt, sha256(client_key), server_key)


# Passwords in the configuration are few; a burst of logins pays for each once.
_derive = lru_cache(maxsize=4096)(_derived)


def _not_first() -> ProtocolViolation:
    return _malformed("The message is not a SCRAM client-first-message.")


def _malformed(detail: str) -> ProtocolViolation:
    return ProtocolViolation("malformed SCRAM message", detail=detail)
