"""Every exception of the pooler: what the peer is told, whose fault it is, and how the log should weigh it.

Rules:
1. Whatever the pooler raises on purpose is a ``DoormanError``; any other exception that escapes is a bug of ours.
2. ``message``, ``detail`` and ``hint`` are fit for the peer: they never carry a password or a server's address.
3. ``fault`` names who must act: the ``client``, the ``server`` (PostgreSQL), the ``operator`` or the ``pooler``.
"""

from __future__ import annotations

from typing import ClassVar


class DoormanError(Exception):
    """An error with a SQLSTATE, fit to be sent as ErrorResponse.

    ``message`` is the primary text; ``detail`` and ``hint`` are optional; ``sqlstate`` (5 characters) overrides the
    class's own.
    """

    sqlstate: str = "XX000"
    severity: ClassVar[str] = "FATAL"
    fault: ClassVar[str] = "pooler"

    def __init__(
        self, message: str, *, detail: str | None = None, hint: str | None = None, sqlstate: str | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail
        self.hint = hint
        if sqlstate is not None:
            self.sqlstate = sqlstate


class ConfigError(DoormanError):
    """The configuration can't be used; the text names file, key path, what was found and what is accepted."""

    sqlstate = "F0000"
    fault = "operator"


class ProtocolViolation(DoormanError):
    """The peer sent bytes that are not the protocol."""

    sqlstate = "08P01"
    fault = "client"


class OtherProtocol(ProtocolViolation):
    """A client began with a protocol that is not PostgreSQL's, and that the text names."""


class UnsupportedFeature(DoormanError):
    """The client asked for something this pooler does not do."""

    sqlstate = "0A000"
    fault = "client"


class AuthenticationFailed(DoormanError):
    """Unknown user or database, or a wrong password: the text is the same for all three. Or a proof that is not bound
    to this connection's TLS."""

    sqlstate = "28P01"
    fault = "client"


class AuthenticationUnavailable(DoormanError):
    """A user who is not configured could not be looked up: nobody can say whether it is who it says."""

    sqlstate = "58000"
    fault = "server"


class Refusal(Exception):
    """The cause of AuthenticationFailed or NotPermitted: why a login was refused, for the log alone."""


class NoVerdict(Refusal):
    """Nobody could say whether a password is right, which is the operator's to see to."""


class NotPermitted(DoormanError):
    """An address rule (hba, pg_hba, tls_mode) refuses this connection."""

    sqlstate = "28000"
    fault = "client"


class TlsRequired(NotPermitted):
    """tls_mode asks for TLS, and the client has not."""


class NoSuchPool(DoormanError):
    """The pool a connected client used is not in the configuration any more."""

    sqlstate = "3D000"
    fault = "operator"


class Disabled(DoormanError):
    """DISABLE: no client may log in to this pool."""

    sqlstate = "55000"
    fault = "operator"


class TooManyClients(DoormanError):
    """max_connections is reached."""

    sqlstate = "53300"
    fault = "operator"


class TooManyLogins(TooManyClients):
    """There are more connections than may be logging in, or have a descriptor: the oldest gave way."""


class TooManyPins(DoormanError):
    """A session in transaction mode would keep a server connection, and max_pinned_servers are kept already."""

    sqlstate = "53400"
    fault = "operator"


class CheckoutTimeout(DoormanError):
    """No server connection came free within query_wait_timeout."""

    sqlstate = "53300"
    fault = "operator"


class TimedOut(DoormanError):
    """A client is over one of the limits in time; SQLSTATE and words are those of PostgreSQL's limit of that kind."""

    sqlstate = "57014"
    fault = "client"


class OutOfMemory(DoormanError):
    """A message, or the sum of those being read, is over its limit."""

    sqlstate = "53200"
    fault = "client"


class LocalResourcesExhausted(DoormanError):
    """This process is out of file descriptors or memory; it says nothing about the server."""

    sqlstate = "53000"
    fault = "operator"


class ShuttingDown(DoormanError):
    """The pooler is draining."""

    sqlstate = "57P01"
    fault = "operator"


class PeerGone(DoormanError):
    """The other end closed its connection, or the connection broke."""

    sqlstate = "08006"
    fault = "client"


class HandshakeFailed(PeerGone):
    """A client and the pooler could not agree on TLS: an alert has told the client, or nothing could."""


class ServerGone(DoormanError):
    """A server connection broke or PostgreSQL closed it."""

    sqlstate = "08006"
    fault = "server"


class ServerUnavailable(DoormanError):
    """No connection to PostgreSQL could be made: refused, unreachable or too slow."""

    sqlstate = "08006"
    fault = "server"


class UnsuitableHost(ServerUnavailable):
    """A server could be opened, but is not what target_session_attrs asks for; the words are libpq's."""


class ServerRefused(DoormanError):
    """PostgreSQL answered our login with an ErrorResponse; SQLSTATE and texts are its own."""

    fault = "server"


class ServerProtocolViolation(DoormanError):
    """The server sent bytes that are not the protocol."""

    sqlstate = "08P01"
    fault = "server"
