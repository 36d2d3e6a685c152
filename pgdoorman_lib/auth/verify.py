"""Choosing how a client must prove who it is, and letting it.

Rules:
1. A refused proof looks the same whoever asked: unknown user, unknown database, wrong password. So every login has a
   secret to go by, if need be a made-up one, and goes through the whole exchange.
2. A password in plain text counts as the SCRAM secret that PostgreSQL would have made of it. MD5 is done for MD5 hashes
   alone, as PostgreSQL does, and for the console.
3. Behind TLS whose server's certificate has a hash to bind to, SCRAM-SHA-256-PLUS is offered first. It is the stream
   that says so, at each login.
4. Why a login was refused is told to the log, as the cause of AuthenticationFailed, and not to the client.

PostgreSQL docs, "Password Authentication" and "Protocol Flow: Start-up"; its auth.c.
"""

from __future__ import annotations

import hmac
from typing import Any

from pgdoorman_lib.auth.demand import CERT, LDAP, MD5, PAM, PEER, SCRAM_SHA_256, WITHOUT_SECRET, Demand
from pgdoorman_lib.auth.identity import VERIFY_FULL, check_certificate, check_peer
from pgdoorman_lib.auth.md5 import Md5Challenge, hash_password, is_hash
from pgdoorman_lib.auth.oauth import OAUTH
from pgdoorman_lib.auth.scram import (
    ScramExchange,
    ScramSecret,
    ScramVerifier,
    mock_salt,
    mock_secret,
)
from pgdoorman_lib.auth.tokens import JWT
from pgdoorman_lib.errors import AuthenticationFailed, ProtocolViolation, Refusal
from pgdoorman_lib.net.stream import Stream
from pgdoorman_lib.wire import consts
from pgdoorman_lib.wire.messages import (
    authentication_sasl,
    authentication_sasl_continue,
    authentication_sasl_final,
)
from pgdoorman_lib.wire.sasl import parse_initial_response
from pgdoorman_lib.wire.scram import MECHANISM, MECHANISM_PLUS

#: Longest answers taken, length word included: PostgreSQL's PG_MAX_AUTH_TOKEN_LENGTH and PG_MAX_SASL_MESSAGE_LENGTH.
MAX_PASSWORD_MESSAGE = 65535
MAX_SASL_MESSAGE = 1024

#: What a ScramProof waits for.
_INITIAL, _FIRST, _FINAL = range(3)

#: What PostgreSQL calls the method by which somebody is refused, where that is not a password of its own.
_WORDS = {CERT: "certificate", PEER: "Peer", OAUTH: "OAuth bearer", PAM: "PAM", LDAP: "LDAP"}

_MECHANISM = MECHANISM.encode()
_MECHANISM_PLUS = MECHANISM_PLUS.encode()
_OFFERED = (_MECHANISM,)
_OFFERED_PLUS = (_MECHANISM_PLUS, _MECHANISM)
_SASL = authentication_sasl((MECHANISM,))
_SASL_PLUS = authentication_sasl((MECHANISM_PLUS, MECHANISM))

_int = int


class Candidate:
    """Who wants to log in, and the ``secret`` that the exchange goes by; ``refusal``: why no proof may succeed.

    ``finding`` is what was looked up of the user (``auth.lookup.Finding``), None of one who is configured. ``judge``:
    no secret counts, but what this one (abc.Judge) says of a password in clear text.
    """

    __slots__ = ("_hash", "_verifier", "finding", "judge", "refusal", "secret", "user")

    def __init__(
        self, user: str, secret: str, refusal: str | None = None, finding: Any = None, judge: Any = None
    ) -> None:
        self.user = user
        self.secret = secret
        self.refusal = refusal
        self.finding = finding
        self.judge = judge
        self._hash: str | None = None
        self._verifier: ScramVerifier | None = None

    def is_current(self) -> bool:
        """Whether another login may go by it."""
        return self.finding is None or bool(self.finding.is_current())

    def succeeded(self) -> None:
        """The client has proven who it is."""
        if self.finding is not None:
            self.finding.succeeded()

    def failed(self, why: str, method: str = SCRAM_SHA_256) -> AuthenticationFailed:
        """It has not, or it does not matter: the error to raise."""
        if self.finding is not None:
            self.finding.failed()
        return failed(self.user, why, method)

    def stored_hash(self) -> str:
        """What PostgreSQL would have stored of the secret for MD5; made once, for a candidate may come again."""
        if self._hash is None:
            self._hash = self.secret if is_hash(self.secret) else hash_password(self.secret, self.user)
        return self._hash

    def verifier(self, key: bytes) -> ScramVerifier:
        """What goes by the secret in SCRAM, or for an MD5 hash by one that nobody knows; made once, too.

        ``key`` is that of ``Users``, always the same.
        """
        if self._verifier is None:
            if is_hash(self.secret):
                secret = mock_secret(self.user, key)
            elif ScramSecret.looks_like(self.secret):
                secret = ScramSecret.parse(self.secret)
            else:
                secret = ScramSecret.derive(self.secret, mock_salt(self.user, key))
            self._verifier = ScramVerifier(secret)
        return self._verifier


def authenticate(stream: Stream, candidate: Candidate, method: str, key: bytes) -> bytes | None:
    """Make the client prove itself by a method of ``hba`` but ``reject``; may switch. ``identify`` belongs to it.

    ``key`` is that of ``Users``. Returns the SCRAM ClientKey (32 bytes) if the client has proven to know one. Nothing
    is sent after the exchange itself, whose last message is queued, not flushed. AuthenticationFailed,
    ProtocolViolation, UnsupportedFeature, PeerGone.
    """
    if method in WITHOUT_SECRET:
        if candidate.refusal is not None:
            raise candidate.failed(candidate.refusal, method)
        candidate.succeeded()
        return None
    proof = proof_by(method, candidate, key, stream.end_point)
    stream.write(proof.request)
    while not proof.done:
        advance(stream, proof)
    return proof.client_key


def identify(stream: Stream, user: str, demand: Demand, method: str) -> None:
    """What a rule wants known of a client beside the proof by ``method``, after that; may switch.

    AuthenticationFailed.
    """
    try:
        if method == PEER:
            check_peer(stream, demand.idents, user)
        if demand.certificate == VERIFY_FULL:
            check_certificate(stream, demand.name, demand.idents, user)
    except Refusal as exc:
        raise failed(user, str(exc), method) from exc


def advance(stream: Stream, proof: Proof) -> None:
    """Have the proof take the client's next message; may switch if that is not there. Raises as ``authenticate``."""
    kind, body = stream.read_message(proof.limit)
    answer = proof.take(kind, body)
    if answer:
        stream.write(answer)


def method_for(secret: str, rule: str | None) -> str:
    """The method for a user's secret when ``hba`` says ``rule`` (None: nothing): ``md5`` only ever means MD5 hashes."""
    if rule is not None and rule != MD5:
        return rule
    return MD5 if is_hash(secret) else SCRAM_SHA_256


def console_method_for(secret: str, rule: str | None) -> str:
    """The same for the console, whose clients know MD5: it is done for a password in plain text, too."""
    if rule is not None and rule != MD5:
        return rule
    return SCRAM_SHA_256 if ScramSecret.looks_like(secret) else MD5


def knows_password(user: str, secret: str, password: str) -> bool:
    """Whether ``password``, which the user has told, is the one of a configured secret of any form."""
    if is_hash(secret):
        return hmac.compare_digest(hash_password(password, user), secret)
    if ScramSecret.looks_like(secret):
        return ScramSecret.parse(secret).is_of(password)
    return hmac.compare_digest(password.encode(), secret.encode())


def failed(user: str, why: str, method: str = SCRAM_SHA_256) -> AuthenticationFailed:
    """The error for any login that was refused; ``why`` becomes its cause. Some methods have words of their own."""
    words = _WORDS.get(method)
    if method == JWT:
        error = AuthenticationFailed("JWT token validation failed. Please provide a valid token.")
    elif words is None:
        error = AuthenticationFailed(f'password authentication failed for user "{user}"')
    else:
        error = AuthenticationFailed(f'{words} authentication failed for user "{user}"', sqlstate="28000")
    error.__cause__ = Refusal(why)
    return error


class Proof:
    """A client proves who it is: its messages in, ours out. No waiting, no switch.

    ``request`` asks for it, ``limit`` is the longest message taken, length word included; when it is ``done`` the
    client is who it says, and ``client_key`` the SCRAM ClientKey (32 bytes) that it has proven to know, if any.
    """

    __slots__ = ("candidate", "client_key", "done", "limit", "request")

    def init_proof(self, candidate: Candidate, request: bytes, limit: _int) -> None:
        """As ``__init__`` of those who inherit."""
        self.candidate = candidate
        self.request = request
        self.limit = limit
        self.done = 0
        self.client_key: bytes | None = None

    def take(self, kind: _int, body: bytes) -> bytes:
        """What the client is answered, empty for nothing; raises as ``authenticate``."""
        raise NotImplementedError


class Md5Proof(Proof):
    """By the answer to one challenge."""

    __slots__ = ("_challenge",)

    def __init__(self, candidate: Candidate) -> None:
        self._challenge = Md5Challenge()
        self.init_proof(candidate, self._challenge.message(), MAX_PASSWORD_MESSAGE)

    def take(self, kind: _int, body: bytes) -> bytes:
        candidate = self.candidate
        proven = self._challenge.check(candidate.stored_hash(), told_password(kind, body))
        if candidate.refusal is not None:
            raise candidate.failed(candidate.refusal)
        if not proven:
            raise candidate.failed("wrong password")
        candidate.succeeded()
        self.done = 1
        return b""


class ScramProof(Proof):
    """By SCRAM-SHA-256 within SASL's messages, or SCRAM-SHA-256-PLUS where there is an ``end_point``."""

    __slots__ = ("_exchange", "_expects", "_offers_plus", "_plus", "_refusal")

    def __init__(self, candidate: Candidate, key: bytes, end_point: bytes | None = None) -> None:
        self._offers_plus = end_point is not None
        self._plus = False
        self.init_proof(candidate, _SASL_PLUS if self._offers_plus else _SASL, MAX_SASL_MESSAGE)
        self._exchange = ScramExchange(candidate.verifier(key), None, end_point)
        self._expects = _INITIAL
        self._refusal: str | None = candidate.refusal
        if is_hash(candidate.secret) and candidate.refusal is None:
            self._refusal = "the user's secret is an MD5 hash, the method scram-sha-256"

    def take(self, kind: _int, body: bytes) -> bytes:
        _expect(kind, "SASL response")
        if self._expects == _FINAL:
            return self._final(body)
        first = self._initial(body) if self._expects == _INITIAL else body
        if first is None:
            # The client asks us to begin; SCRAM has nothing to say before it does.
            self._expects = _FIRST
            return authentication_sasl_continue(b"")
        self._expects = _FINAL
        return authentication_sasl_continue(self._exchange.first(first, self._plus))

    def _initial(self, body: bytes) -> bytes | None:
        """The data in a SASLInitialResponse, None if there is none; ProtocolViolation for what was not offered."""
        mechanism, first = parse_initial_response(body, _OFFERED_PLUS if self._offers_plus else _OFFERED)
        self._plus = mechanism == _MECHANISM_PLUS
        return first

    def _final(self, body: bytes) -> bytes:
        client_key = self._exchange.final(body)
        candidate = self.candidate
        if self._refusal is not None:
            raise candidate.failed(self._refusal)
        if client_key is None:
            raise candidate.failed("wrong password")
        candidate.succeeded()
        self.client_key = client_key
        self.done = 1
        return authentication_sasl_final(self._exchange.server_final)


def proof_by(method: str, candidate: Candidate, key: bytes, end_point: bytes | None) -> Proof:
    """The proof that a method of ``hba`` but ``trust`` asks for; ``key`` is that of ``Users``.

    ``end_point`` is the stream's: what SCRAM can be bound to.
    """
    if method == MD5:
        return Md5Proof(candidate)
    if method == SCRAM_SHA_256:
        return ScramProof(candidate, key, end_point)
    raise ValueError(f"no such authentication method: {method}")


def _expect(kind: _int, what: str) -> None:
    if kind != consts.PASSWORD:
        raise ProtocolViolation(f"expected {what}, got message type {kind}")


def told_password(kind: _int, body: bytes) -> bytes:
    """What a PasswordMessage says, in clear text or not; ProtocolViolation if it is none."""
    _expect(kind, "password response")
    size = len(body) - 1
    if size < 0 or body[size] != 0:
        raise ProtocolViolation("invalid password packet size")
    password = body[:size]
    if b"\0" in password:
        raise ProtocolViolation("invalid password packet size")
    return password
