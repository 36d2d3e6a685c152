"""Logging in to PostgreSQL: from an address to a server connection that is ready for its first query."""

from __future__ import annotations

import logging
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import gevent

from pgdoorman_lib.abc import ServerAddress, ServerLoginSettings
from pgdoorman_lib.errors import (
    ConfigError,
    DoormanError,
    PeerGone,
    ProtocolViolation,
    ServerGone,
    ServerProtocolViolation,
    ServerRefused,
    ServerUnavailable,
)
from pgdoorman_lib.net.connect import open_stream
from pgdoorman_lib.net.engine import Engine
from pgdoorman_lib.net.sockopt import SocketOptions
from pgdoorman_lib.net.stream import Stream
from pgdoorman_lib.net.tls import ALPN, server_facing_context
from pgdoorman_lib.net.tls_secrets import Keylog
from pgdoorman_lib.record import record
from pgdoorman_lib.server.auth import Authenticator, Binding, Credentials
from pgdoorman_lib.wire import consts
from pgdoorman_lib.wire.framing import int32
from pgdoorman_lib.wire.messages import (
    exception_from,
    parse_fields,
    parse_parameter_status,
    ssl_request,
    startup_message,
)

log = logging.getLogger(__name__)

#: Bytes a server may say from StartupMessage to ReadyForQuery; PostgreSQL needs less than one thousand.
_MAX_WELCOME = 1 << 20
#: Protocol 3.2 allows keys up to 256 bytes; 3.0 has exactly 4.
_MIN_SECRET = 4
_MAX_SECRET = 256

#: Whether to ask for TLS, attempt after attempt; the next one only after PostgreSQL refused with 28000 before
#: authentication, which is what pg_hba.conf's ``hostssl`` and ``hostnossl`` lead to (libpq's sslmode does the same).
PLAIN = "plain"
TLS_IF_OFFERED = "TLS if offered"
TLS = "TLS"
_ATTEMPTS = {
    "disable": (PLAIN,),
    "allow": (PLAIN, TLS),
    "prefer": (TLS_IF_OFFERED, PLAIN),
    "require": (TLS,),
    "verify-ca": (TLS,),
    "verify-full": (TLS,),
}
#: A server that takes nothing but TLS may say nothing before it closes a connection without: there is no other attempt.
_PERHAPS_TLS = (
    ', before it said anything: if it takes nothing but TLS, server_tls_mode has to be "prefer" or "require", which '
    'begin with TLS; "allow" does not'
)


#: The value of ``server_tls_negotiation`` that begins with TLS at once, and whoever closes a connection for that.
DIRECT = "direct"
_SINCE_17 = ': server_tls_negotiation is "direct", which PostgreSQL knows since 17'

GiveKeylog = Callable[[], Keylog | None]


@dataclass
class Stamps:
    """When the steps of a login were done, monotonic seconds; 0 for TLS that there is none of."""

    begun: float = 0.0
    connected: float = 0.0
    encrypted: float = 0.0
    authenticated: float = 0.0
    ready: float = 0.0


@record(frozen=True)
class LoggedIn:
    """A connection in state ``I``: what the server said of itself. ``secret`` is its cancel key (empty: none given)."""

    stream: Stream
    pid: int
    secret: bytes = field(repr=False)
    parameters: dict[str, str]
    stamps: Stamps = field(compare=False)


def login(
    settings: ServerLoginSettings,
    engine: Engine,
    credentials: Credentials,
    parameters: Mapping[str, str] | None = None,
    keylog: GiveKeylog | None = None,
    address: str = "",
) -> LoggedIn:
    """Connect, agree on TLS, authenticate and wait for ReadyForQuery; may switch.

    To ``address``, if it is given, one of those of the settings' host.

    ``parameters`` are run-time settings for this session; ``startup_parameters`` of the configuration win over them,
    and they over its ``application_name``. All of it has ``connect_timeout`` seconds. ``keylog`` as for ``dial``.

    ServerUnavailable: no connection, no agreement on TLS, or too slow (then ``__cause__`` is a TimeoutError; the cause
    tells the address, the message does not). ServerRefused: PostgreSQL's own ErrorResponse, or nothing we could
    authenticate with. ServerProtocolViolation: not PostgreSQL, or an impostor. LocalResourcesExhausted: it is us.
    ConfigError (53400): the parameters don't fit a startup packet. The socket is closed in every one of these cases.
    """
    packet = _startup_packet(settings, credentials, parameters or {})
    options = SocketOptions.of(settings)
    deadline = time.monotonic() + settings.connect_timeout
    refusal: ServerRefused | None = None
    with time_limit(settings, settings.connect_timeout, "log in to"):
        for attempt in _attempts(settings):
            if refusal is not None:
                log.debug("trying %s after: %s", attempt, refusal.message)
            stamps = Stamps(time.monotonic())
            try:
                left = deadline - time.monotonic()
                stream = dial(settings, engine, left, attempt, options, stamps, keylog, address)
            except _TlsNotOffered:
                if refusal is not None:
                    raise refusal from None
                raise
            binding = Binding(settings.server_channel_binding, stream.tls is not None, stream.end_point)
            conversation = _Conversation(stream, Authenticator(credentials, binding), stamps)
            try:
                return conversation.run(packet)
            except ServerRefused as exc:
                was_tls = stream.tls is not None
                stream.close()
                # Asking for what the server has just refused would only get the same answer.
                same = attempt == TLS_IF_OFFERED and not was_tls
                if exc.sqlstate != "28000" or conversation.asked_to_authenticate or same:
                    raise
                refusal = exc
            except ServerUnavailable as exc:
                stream.close()
                if settings.server_tls_mode == "allow" and attempt == PLAIN and stream.received == 0:
                    raise ServerUnavailable(f"{exc.message}{_PERHAPS_TLS}") from exc.__cause__
                raise
            except BaseException:
                stream.close()
                raise
    assert refusal is not None
    raise refusal


def dial(
    settings: ServerAddress,
    engine: Engine,
    timeout: float,
    attempt: str,
    options: SocketOptions,
    stamps: Stamps | None = None,
    keylog: GiveKeylog | None = None,
    address: str = "",
) -> Stream:
    """A connection to the server with TLS as ``attempt`` says (PLAIN, TLS_IF_OFFERED or TLS); may switch.

    It is made to ``address``, if that is given; certificates are for the settings' host in any case.
    A unix socket never has TLS. Raises as ``login`` does. ``timeout`` in seconds is for connecting; the caller limits
    the handshake by ``time_limit``. ``stamps`` takes down how long both took. What ``keylog`` gives has its secrets, so
    that another process can carry it on.
    """
    stamps = stamps or Stamps()
    context = None
    if attempt != PLAIN and not settings.server_host.startswith("/"):
        try:
            context = server_facing_context(settings, keylog() if keylog is not None else None)
        except ConfigError as exc:
            # The files changed since the configuration was checked; their paths are nothing for a client.
            raise ServerUnavailable("the files for TLS to the server can't be used") from exc
    stream = open_stream(address or settings.server_host, settings.server_port, engine, max(0.0, timeout), options)
    stamps.connected = time.monotonic()
    if context is None:
        return stream
    try:
        with as_server(stream):
            if settings.server_tls_negotiation == DIRECT:
                _begin_tls(stream, context, settings.server_host)
                stamps.encrypted = time.monotonic()
            elif ask_for_tls(stream):
                _start_tls(stream, context, settings.server_host)
                stamps.encrypted = time.monotonic()
            elif attempt == TLS:
                raise _TlsNotOffered("the server does not support TLS, which server_tls_mode requires")
    except BaseException:
        stream.close()
        raise
    return stream


class _TlsNotOffered(ServerUnavailable):
    """The server answered SSLRequest by ``N`` where TLS is a must."""


def _attempts(settings: ServerAddress) -> tuple[str, ...]:
    return (PLAIN,) if settings.server_host.startswith("/") else _ATTEMPTS[settings.server_tls_mode]


def ask_for_tls(stream: Stream) -> bool:
    """Send SSLRequest; whether the server agreed (PostgreSQL docs, "Protocol Flow: SSL Session Encryption")."""
    stream.write(ssl_request())
    stream.flush()
    answer = stream.read_exact(1)
    if answer == b"S":
        return True  # start_tls refuses clear bytes behind it
    if answer == b"N":
        return False
    if answer == b"E":
        # The text is not authenticated: it could be anybody's (CVE-2024-10977).
        raise ServerUnavailable("the server answered SSLRequest with an error")
    raise ServerProtocolViolation("the server's answer to SSLRequest is not PostgreSQL's")


def _begin_tls(stream: Stream, context: ssl.SSLContext, host: str) -> None:
    """TLS without asking for it (PostgreSQL docs, "SSL Session Encryption"); who takes it has to name PostgreSQL."""
    try:
        _start_tls(stream, context, host)
    except PeerGone as exc:
        raise ServerUnavailable(f"the server closed the connection unexpectedly{_SINCE_17}") from OSError(
            f"{stream.peer}: {exc.message}"
        )
    assert stream.tls is not None
    if stream.tls.selected_alpn_protocol() != ALPN:
        raise ServerUnavailable("direct SSL connection was established without ALPN protocol negotiation extension")


def _start_tls(stream: Stream, context: ssl.SSLContext, host: str) -> None:
    text = "could not agree on TLS with the server"
    try:
        stream.start_tls(context, server_side=False, server_hostname=host)
    except ssl.SSLCertVerificationError as exc:
        # The text may name the host.
        raise ServerUnavailable(f"{text}: its certificate was not accepted") from OSError(
            f"{stream.peer}: {exc.verify_message}"
        )
    except (ssl.SSLError, ValueError) as exc:  # ValueError: a host name that no certificate can carry
        raise ServerUnavailable(text) from OSError(f"{stream.peer}: {exc}")


@contextmanager
def time_limit(settings: ServerAddress, seconds: float, doing: str) -> Iterator[None]:
    """Limit what is inside to ``seconds``; then ServerUnavailable whose ``__cause__`` is a TimeoutError."""
    timer = gevent.Timeout.start_new(seconds)
    try:
        yield
    except gevent.Timeout as exc:
        if exc is not timer:
            raise
        cause = TimeoutError(f"{settings.server_host}:{settings.server_port}: not within {seconds:g} s")
        raise ServerUnavailable(f"could not {doing} the server: timeout expired") from cause
    finally:
        timer.close()


@contextmanager
def before_it_is_lent(stream: Stream) -> Iterator[None]:
    """Close a server's connection when what is asked of it behind the login fails; a loss is ServerUnavailable."""
    try:
        yield
    except (PeerGone, ServerGone, ProtocolViolation, ServerProtocolViolation) as exc:
        stream.close()
        raise ServerUnavailable("the server closed the connection unexpectedly during login") from exc
    except BaseException:
        stream.close()
        raise


@contextmanager
def as_server(stream: Stream) -> Iterator[None]:
    """Blame the server for what a Stream blames on whoever is at its other end."""
    try:
        yield
    except PeerGone:
        why = stream.fault or "end of stream"
        raise ServerUnavailable("the server closed the connection unexpectedly during login") from OSError(
            f"{stream.peer}: {why}"
        )
    except ProtocolViolation as exc:
        raise ServerProtocolViolation(f"{exc.message} from the server") from exc


class _Conversation:
    """From StartupMessage to ReadyForQuery on a connected stream."""

    def __init__(self, stream: Stream, authenticator: Authenticator, stamps: Stamps) -> None:
        self.stream = stream
        self.stamps = stamps
        self.authenticator = authenticator
        self.asked_to_authenticate = False
        self.pid = 0
        self.secret = b""
        self.parameters: dict[str, str] = {}

    def run(self, packet: bytes) -> LoggedIn:
        stream = self.stream
        with as_server(stream):
            stream.write(packet)
            stream.flush()
            left = _MAX_WELCOME
            while True:
                kind, body = stream.read_message(left)
                left -= 5 + len(body)
                if kind == consts.READY_FOR_QUERY:
                    self._check_ready(body)
                    self.stamps.ready = time.monotonic()
                    return LoggedIn(stream, self.pid, self.secret, self.parameters, self.stamps)
                self._take(kind, body)

    def _take(self, kind: int, body: bytes) -> None:
        if kind == consts.AUTHENTICATION:
            self.asked_to_authenticate = True
            message = self.authenticator.answer(body)
            if self.authenticator.done:
                self.stamps.authenticated = time.monotonic()
            if message is not None:
                self.stream.write(message)
                self.stream.flush()
        elif kind == consts.ERROR_RESPONSE:
            raise exception_from(body, ServerRefused, "the server refused the connection", "08006")
        elif kind == consts.NOTICE_RESPONSE:
            fields = parse_fields(body)
            log.info("server at login: %s: %s", fields.get("S", "NOTICE"), fields.get("M", ""))
        elif kind == consts.NEGOTIATE_PROTOCOL_VERSION:
            pass  # it speaks 3.0, as we do
        elif not self.authenticator.done:
            raise ServerProtocolViolation(f"unexpected message {kind:#04x} from the server before authentication")
        elif kind == consts.PARAMETER_STATUS:
            name, value = parse_parameter_status(body)
            self.parameters[name] = value
        elif kind == consts.BACKEND_KEY_DATA:
            if not _MIN_SECRET <= len(body) - 4 <= _MAX_SECRET:
                raise ServerProtocolViolation("malformed BackendKeyData from the server")
            self.pid = int32(body, 0)
            self.secret = body[4:]
        else:
            raise ServerProtocolViolation(f"unexpected message {kind:#04x} from the server during login")

    def _check_ready(self, body: bytes) -> None:
        if not self.authenticator.done:
            raise ServerProtocolViolation("the server is ready before authentication")
        if body != b"I":
            raise ServerProtocolViolation("the server is in a transaction after login")


def _startup_packet(settings: ServerLoginSettings, credentials: Credentials, parameters: Mapping[str, str]) -> bytes:
    # Names of settings know no case: one spelling of each, or the server would take the last.
    chosen: dict[str, tuple[str, str]] = {}
    fallback = {"application_name": settings.application_name} if settings.application_name else {}
    for source in (fallback, parameters, dict(settings.startup_parameters)):
        for name, value in source.items():
            chosen[name.lower()] = (name, value)
    chosen.pop("user", None)
    chosen.pop("database", None)
    try:
        packet = startup_message(
            {"user": credentials.user, "database": settings.server_database, **dict(chosen.values())}
        )
    except ValueError as exc:
        raise ConfigError("a startup parameter for the server contains a null byte") from exc
    if len(packet) > consts.MAX_STARTUP_PACKET:
        raise ConfigError(
            f"the startup parameters for the server take {len(packet)} bytes of at most {consts.MAX_STARTUP_PACKET}",
            sqlstate="53400",
        )
    return packet


def describe(exc: DoormanError) -> str:
    """What the log says of a failed login: the message, and the cause with the server's address."""
    return f"{exc.message} ({exc.__cause__})" if exc.__cause__ is not None else exc.message


def failure(settings: Any, exc: DoormanError) -> str:
    """What the log says when no server could be opened for a pool with these ``settings``: where, as whom, and why."""
    return (
        f"connecting to the server {settings.server_host}:{settings.server_port}"
        f" (database {settings.server_database!r}, user {settings.server_username!r}) failed: {describe(exc)}"
        f" (SQLSTATE {exc.sqlstate})"
    )
