"""Authentication towards PostgreSQL: what is answered to each of its requests.

Rules:
1. Bytes in, bytes out; the caller owns the connection. Only deriving keys from a password may switch greenlets.
2. A server asks once. AuthenticationOk is believed at once (``trust``) or after a complete exchange: in the middle of
   SCRAM it would be an impostor skipping its own proof.
3. Nothing is sent that is weaker than what was asked for, and no secret is shown by ``repr`` or an error.

PostgreSQL docs, "Protocol Flow: Start-up" and "SASL Authentication"; RFC 5802 and RFC 7677 for SCRAM-SHA-256.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import field

import gevent

from pgdoorman_lib.errors import ServerProtocolViolation, ServerRefused
from pgdoorman_lib.record import record
from pgdoorman_lib.wire.consts import (
    AUTH_CLEARTEXT,
    AUTH_MD5,
    AUTH_OK,
    AUTH_SASL,
    AUTH_SASL_CONTINUE,
    AUTH_SASL_FINAL,
)
from pgdoorman_lib.wire.framing import int32
from pgdoorman_lib.wire.messages import password_message, sasl_initial_response, sasl_response
from pgdoorman_lib.wire.scram import BASE64, MECHANISM, prepared

#: Requests we have no answer for, by the name PostgreSQL's documentation gives them.
_UNSUPPORTED = {2: "Kerberos V5", 6: "SCM credentials", 7: "GSSAPI", 9: "SSPI"}

#: PostgreSQL uses 4096 (scram_iterations). More than this would keep a core busy for a second at a server's whim.
MAX_ITERATIONS = 1_000_000
#: (password, salt, iterations) whose keys are remembered: the servers of a pool share one salt, so a burst of logins
#: pays for one derivation.
_REMEMBERED_KEYS = 256

_GS2_HEADER = "n,,"
# Behind what we know there may be extensions (RFC 5802 section 7), to be ignored.
_SERVER_FIRST = re.compile(rf"r=([\x21-\x2b\x2d-\x7e]+),s=({BASE64}),i=([1-9][0-9]{{0,9}})(?:,.*)?", re.DOTALL)
_SERVER_FINAL = re.compile(rf"v=({BASE64})(?:,.*)?", re.DOTALL)


@record(frozen=True)
class ScramKeys:
    """ClientKey (32 bytes) proves who we are, ServerKey (32 bytes, None if unknown) checks the server's proof."""

    client_key: bytes = field(repr=False)
    server_key: bytes | None = field(default=None, repr=False)


@record(frozen=True)
class Credentials:
    """Whom to log in as, and with what: as much as is known.

    ``password`` is plain text; ``md5_hash`` what PostgreSQL stores, ``md5`` and 32 hex digits; ``client_key`` is the
    SCRAM ClientKey a client has proven, ``server_key`` that of the stored secret. ``origin`` says whose they are.
    """

    user: str
    password: str | None = field(default=None, repr=False)
    md5_hash: str | None = field(default=None, repr=False)
    client_key: bytes | None = field(default=None, repr=False)
    server_key: bytes | None = field(default=None, repr=False)
    origin: str = "credentials"


class Authenticator:
    """One login's authentication exchange: ``answer`` each request until ``done``."""

    def __init__(self, credentials: Credentials) -> None:
        self.credentials = credentials
        self.done = False
        #: A request was answered: the server may not ask for something else now.
        self._answered = False
        self._scram: ScramClient | None = None

    def answer(self, body: bytes) -> bytes | None:
        """The message to send for the body of an AuthenticationXXX message; None if nothing is to be sent.

        ServerRefused when we can't answer, ServerProtocolViolation when the server does not follow the protocol or
        fails to prove that it knows the password.
        """
        if len(body) < 4 or self.done:
            raise ServerProtocolViolation("unexpected authentication message from the server")
        code = int32(body, 0)
        payload = body[4:]
        scram = self._scram
        if scram is not None:
            if code == AUTH_SASL_CONTINUE and scram.stage == ScramClient.FIRST:
                return sasl_response(scram.final(payload))
            if code == AUTH_SASL_FINAL and scram.stage == ScramClient.FINAL:
                scram.verify(payload)
                return None
            if code == AUTH_OK and scram.stage != ScramClient.VERIFIED:
                raise ServerProtocolViolation("the server ended SCRAM authentication without proving its identity")
        if code == AUTH_OK:
            self.done = True
            return None
        if code in (AUTH_SASL_CONTINUE, AUTH_SASL_FINAL):
            raise ServerProtocolViolation("unexpected authentication message from the server")
        if self._answered:
            raise ServerProtocolViolation("the server asked for a second authentication method")
        self._answered = True
        if code == AUTH_CLEARTEXT:
            return password_message(self._cleartext())
        if code == AUTH_MD5:
            if len(payload) != 4:
                raise ServerProtocolViolation("malformed MD5 authentication request from the server")
            return password_message(self._md5(payload))
        if code == AUTH_SASL:
            return self._start_sasl(payload)
        name = _UNSUPPORTED.get(code, f"method {code}")
        raise _refused(f"the server asks for {name} authentication, which is not supported")

    def _cleartext(self) -> bytes:
        if self.credentials.password is None:
            raise _nothing_to_answer("a password in clear text", self.credentials)
        if "\0" in self.credentials.password:
            raise _refused("the password for the server contains a null byte")
        return self.credentials.password.encode()

    def _md5(self, salt: bytes) -> bytes:
        password, stored = self.credentials.password, self.credentials.md5_hash
        if password is not None:
            inner = _md5_hex(password.encode() + self.credentials.user.encode())
        elif stored is not None and stored.startswith("md5"):
            inner = stored[3:].lower()
        else:
            raise _nothing_to_answer("an MD5 password", self.credentials)
        return b"md5" + _md5_hex(inner.encode() + salt).encode()

    def _start_sasl(self, payload: bytes) -> bytes:
        if not payload.endswith(b"\0\0"):
            raise ServerProtocolViolation("malformed SASL authentication request from the server")
        mechanisms = payload[:-2].split(b"\0")
        if MECHANISM.encode() not in mechanisms:
            raise _refused("the server offers no SASL mechanism that is supported")
        password, client_key = self.credentials.password, self.credentials.client_key
        if password is not None:
            self._scram = ScramClient(lambda salt, iterations: derive_keys(password, salt, iterations))
        elif client_key is not None:
            keys = ScramKeys(client_key, self.credentials.server_key)
            self._scram = ScramClient(lambda salt, iterations: keys)
        else:
            raise _nothing_to_answer("a SCRAM-SHA-256 proof", self.credentials)
        return sasl_initial_response(MECHANISM, self._scram.first())


class ScramClient:
    """The client's side of one SCRAM-SHA-256 exchange, without channel binding (RFC 5802 section 3).

    ``keys`` gives the keys for (salt, iterations). Written out here because scramp's client takes nothing but a
    password, and neither PostgreSQL's empty user name nor fewer than 4096 iterations.
    """

    # The legal order of calls: first, final, verify.
    NEW, FIRST, FINAL, VERIFIED = range(4)

    def __init__(self, keys: Callable[[bytes, int], ScramKeys], nonce: str | None = None) -> None:
        self.stage = self.NEW
        self._keys_for = keys
        self._nonce = nonce or base64.b64encode(secrets.token_bytes(18)).decode("ascii")
        self._first_bare = f"n=,r={self._nonce}"  # PostgreSQL takes the user from the StartupMessage
        self._server_signature: bytes | None = None

    def first(self) -> bytes:
        """client-first-message."""
        self.stage = self.FIRST
        return (_GS2_HEADER + self._first_bare).encode("ascii")

    def final(self, server_first: bytes) -> bytes:
        """client-final-message for the server-first-message; ServerProtocolViolation if that is not one."""
        text = _ascii(server_first)
        match = _SERVER_FIRST.fullmatch(text)
        if match is None:
            raise ServerProtocolViolation("malformed SCRAM message from the server")
        nonce, salt, iterations = match[1], _decode_base64(match[2]), int(match[3])
        if not nonce.startswith(self._nonce) or nonce == self._nonce:
            raise ServerProtocolViolation("invalid SCRAM nonce from the server")
        if iterations > MAX_ITERATIONS:
            raise ServerProtocolViolation(f"the server asks for more than {MAX_ITERATIONS} SCRAM iterations")
        without_proof = f"c={base64.b64encode(_GS2_HEADER.encode()).decode()},r={nonce}"
        auth_message = f"{self._first_bare},{text},{without_proof}".encode("ascii")
        keys = self._keys_for(salt, iterations)
        stored_key = hashlib.sha256(keys.client_key).digest()
        signature = _hmac(stored_key, auth_message)
        proof = bytes(a ^ b for a, b in zip(keys.client_key, signature, strict=True))
        if keys.server_key is not None:
            self._server_signature = _hmac(keys.server_key, auth_message)
        self.stage = self.FINAL
        return f"{without_proof},p={base64.b64encode(proof).decode()}".encode("ascii")

    def verify(self, server_final: bytes) -> None:
        """Check the server-final-message; without a ServerKey only its form."""
        text = _ascii(server_final)
        if text.startswith("e="):
            raise _refused("the server refused our SCRAM proof")
        match = _SERVER_FINAL.fullmatch(text)
        if match is None:
            raise ServerProtocolViolation("malformed SCRAM message from the server")
        signature = _decode_base64(match[1])
        if self._server_signature is not None and not hmac.compare_digest(signature, self._server_signature):
            raise ServerProtocolViolation("the server could not prove that it knows the password")
        self.stage = self.VERIFIED


_derived: OrderedDict[tuple[str, bytes, int], ScramKeys] = OrderedDict()


def derive_keys(password: str, salt: bytes, iterations: int) -> ScramKeys:
    """ClientKey and ServerKey of a password (RFC 5802 section 3); may switch: thousands of hashes run in a thread."""
    key = (password, salt, iterations)
    keys = _derived.get(key)
    if keys is None:
        salted = gevent.get_hub().threadpool.apply(
            hashlib.pbkdf2_hmac, ("sha256", prepared(password).encode(), salt, iterations)
        )
        keys = ScramKeys(_hmac(salted, b"Client Key"), _hmac(salted, b"Server Key"))
        _derived[key] = keys
        if len(_derived) > _REMEMBERED_KEYS:
            _derived.popitem(last=False)
    else:
        _derived.move_to_end(key)
    return keys


def _hmac(key: bytes, data: bytes) -> bytes:
    return hmac.digest(key, data, "sha256")


def _md5_hex(data: bytes) -> str:
    # Where MD5 is forbidden for secrets (FIPS) PostgreSQL itself does not ask for it.
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def _ascii(data: bytes) -> str:
    try:
        return data.decode("ascii")
    except UnicodeDecodeError:
        raise ServerProtocolViolation("malformed SCRAM message from the server") from None


def _decode_base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise ServerProtocolViolation("malformed SCRAM message from the server") from None


def _refused(message: str) -> ServerRefused:
    return ServerRefused(message, sqlstate="28000")


def _nothing_to_answer(wanted: str, credentials: Credentials) -> ServerRefused:
    known, hint = "nothing to answer with", "Set server_username and server_password for the user"
    if credentials.md5_hash is not None:
        known = "only an MD5 hash, which answers no more than a request for MD5,"
        hint = "Set server_username, and server_password to the plain password,"
    return ServerRefused(
        f"the server asks for {wanted}, and {known} is known for this user",
        hint=f"{hint} in the pooler's configuration.",
        sqlstate="28P01",
    )
