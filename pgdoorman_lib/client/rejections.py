"""Why connections are refused, as pg_doorman's metrics name the reasons."""

from __future__ import annotations

from pgdoorman_lib.errors import (
    AuthenticationFailed,
    DoormanError,
    HandshakeFailed,
    NotPermitted,
    PeerGone,
    ProtocolViolation,
    ShuttingDown,
    TlsRequired,
    TooManyClients,
)

#: By the error, the first that fits; the last two reasons are ours.
_REASONS: tuple[tuple[type[DoormanError], str], ...] = (
    (TooManyClients, "too_many_clients"),
    (TlsRequired, "tls_required"),
    (HandshakeFailed, "tls_handshake_fail"),
    (NotPermitted, "hba"),
    (ProtocolViolation, "protocol_error"),
    (AuthenticationFailed, "authentication"),
    (ShuttingDown, "shutting_down"),
)
_BEFORE_A_NAME = "invalid_startup"

REASONS = (*(reason for _, reason in _REASONS), _BEFORE_A_NAME)


def reason_of(error: DoormanError, named: bool) -> str | None:
    """The reason why ``error`` kept a client out, one of REASONS; None if nobody refused it.

    ``named``: it had said who it is.
    """
    reason = next((reason for kind, reason in _REASONS if isinstance(error, kind)), None)
    if isinstance(error, PeerGone) and reason is None:
        return None
    return _BEFORE_A_NAME if reason in ("protocol_error", "hba") and not named else reason
