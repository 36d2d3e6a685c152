"""Authentication towards PostgreSQL: what is answered to each of its requests.

Rules:
1. Bytes in, bytes out; the caller owns the connection. Only deriving keys from a password may switch greenlets.
2. A server asks once. AuthenticationOk is believed at once (``trust``) or after a complete exchange: in the middle of
   SCRAM it would be an impostor skipping its own proof.
3. Nothing is sent that is weaker than what was asked for, and no secret is shown by ``repr`` or an error.
4. Channel binding is libpq's ``channel_binding``: what it refuses is refused here, in its words. Each connection is
   bound to its own TLS, so nothing of that is passed through: only the keys are, which are the same on both sides.

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
from pgdoorman_lib.wire.scram import BASE64, BINDING, MAX_ITERATIONS, MECHANISM, MECHANISM_PLUS, prepared

#: Requests we have no answer for, by the name PostgreSQL's documentation gives them.
_UNSUPPORTED = {2: "Kerberos V5", 6: "SCM credentials", 7: "GSSAPI", 9: "SSPI"}

#: (password, salt, iterations) whose keys are remembered: the servers of a pool share one salt, so a burst of logins
#: pays for one derivation.
_REMEMBERED_KEYS = 256

#: The gs2-header of who does not bind, could but was not offered it, and does (RFC 5802 section 7).
_UNBOUND, _UNASKED, _BOUND = b"n,,", b"y,,", f"p={BINDING},,".encode()
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

    ``password`` is plain text; ``token`` is one, which only goes by clear text; ``md5_hash`` what PostgreSQL stores,
    ``md5`` and 32 hex digits; ``client_key`` is the SCRAM ClientKey a client has proven, ``server_key`` that of the
    stored secret. ``origin`` says whose they are.
    """

    user: str
    password: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    md5_hash: str | None = field(default=None, repr=False)
    client_key: bytes | None = field(default=None, repr=False)
    server_key: bytes | None = field(default=None, repr=False)
    origin: str = "credentials"


@record(frozen=True)
class Binding:
    """How SCRAM is to be bound to the connection's TLS: by ``server_channel_binding``, if it has ``tls``.

    ``end_point`` is what to bind to, None where the server's certificate has no hash for that.
    """

    wanted: str = "prefer"
    tls: bool = False
    end_point: bytes | None = None


class Authenticator:
    """One login's authentication exchange: ``answer`` each request until ``done``."""

    def __init__(self, credentials: Credentials, binding: Binding = Binding()) -> None:  # noqa: B008 - it is frozen
        self.credentials = credentials
        self._binding = binding
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
        if self._binding.wanted == "require" and code != AUTH_SASL and (scram is None or not scram.bound):
            raise _refused(
                "channel binding required, but the server authenticated the client without channel binding"
                if code == AUTH_OK
                else "channel binding required but not supported by the server's authentication request"
            )
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
        if self.credentials.token is not None:
            return self.credentials.token.encode()
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
        mechanism, header = self._mechanism(payload[:-2].split(b"\0"))
        password, client_key = self.credentials.password, self.credentials.client_key
        if password is not None:
            self._scram = ScramClient(lambda salt, iterations: derive_keys(password, salt, iterations), header)
        elif client_key is not None:
            keys = ScramKeys(client_key, self.credentials.server_key)
            self._scram = ScramClient(lambda salt, iterations: keys, header)
        else:
            raise _nothing_to_answer("a SCRAM-SHA-256 proof", self.credentials)
        return sasl_initial_response(mechanism, self._scram.first())

    def _mechanism(self, offered: list[bytes]) -> tuple[str, Gs2Binding]:
        """The mechanism to take of those offered, and what its messages say of channel binding."""
        binding = self._binding
        may_bind = MECHANISM_PLUS.encode() in offered
        if binding.wanted == "disable":
            may_bind = False
        elif may_bind and not binding.tls:
            # Somebody in between has taken the TLS away.
            raise _refused("the server offered SCRAM-SHA-256-PLUS authentication over a connection without TLS")
        elif may_bind and binding.end_point is not None:
            return MECHANISM_PLUS, Gs2Binding(_BOUND, binding.end_point)
        if binding.wanted == "require":
            raise _refused(
                "channel binding is required, but the server's certificate has a signature without a hash function"
                if may_bind
                else "channel binding is required, but the server did not offer an authentication method that supports "
                "channel binding"
            )
        if MECHANISM.encode() not in offered:
            raise _refused("the server offers no SASL mechanism that is supported")
        can_bind = binding.end_point is not None and binding.wanted != "disable"
        return MECHANISM, Gs2Binding(_UNASKED if can_bind else _UNBOUND)


@record(frozen=True)
class Gs2Binding:
    """What the client's messages say of channel binding: the gs2-header, and what they are bound to, if they are."""

    header: bytes
    end_point: bytes = b""


class ScramClient:
    """The client's side of one SCRAM-SHA-256 exchange (RFC 5802 section 3).

    ``keys`` gives the keys for (salt, iterations). Written out here because scramp's client takes nothing but a
    password, and neither PostgreSQL's empty user name nor fewer than 4096 iterations.
    """

    # The legal order of calls: first, final, verify.
    NEW, FIRST, FINAL, VERIFIED = range(4)

    def __init__(self, keys: Callable[[bytes, int], ScramKeys], binding: Gs2Binding, nonce: str | None = None) -> None:
        self.stage = self.NEW
        self._keys_for = keys
        self._binding = binding
        #: the exchange proves that nobody stands in between
        self.bound = bool(binding.end_point)
        self._nonce = nonce or base64.b64encode(secrets.token_bytes(18)).decode("ascii")
        self._first_bare = f"n=,r={self._nonce}"  # PostgreSQL takes the user from the StartupMessage
        self._server_signature: bytes | None = None

    def first(self) -> bytes:
        """client-first-message."""
        self.stage = self.FIRST
        return self._binding.header + self._first_bare.encode("ascii")

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
        binding = base64.b64encode(self._binding.header + self._binding.end_point).decode()
        without_proof = f"c={binding},r={nonce}"
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
    if credentials.token is not None:
        known = "only a token, which is a password in clear text,"
        hint = "Have the server ask for a password in clear text, or set server_password to the plain password,"
    elif credentials.md5_hash is not None:
        known = "only an MD5 hash, which answers no more than a request for MD5,"
        hint = "Set server_username, and server_password to the plain password,"
    return ServerRefused(
        f"the server asks for {wanted}, and {known} is known for this user",
        hint=f"{hint} in the pooler's configuration.",
        sqlstate="28P01",
    )
