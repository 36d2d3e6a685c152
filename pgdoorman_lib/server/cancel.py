"""Cancelling the statement that runs on a server connection."""

from __future__ import annotations

import dataclasses
import time

from pgdoorman_lib.abc import ServerAddress
from pgdoorman_lib.errors import PeerGone, ServerUnavailable
from pgdoorman_lib.net.engine import Engine
from pgdoorman_lib.net.sockopt import SocketOptions
from pgdoorman_lib.net.stream import Stream
from pgdoorman_lib.server.login import PLAIN, TLS, TLS_IF_OFFERED, dial, time_limit
from pgdoorman_lib.wire.messages import cancel_request


def send_cancel(
    settings: ServerAddress,
    engine: Engine,
    pid: int,
    secret: bytes,
    timeout: float,
    *,
    tls: bool | None = None,
    address: str = "",
) -> None:
    """Send a CancelRequest on a connection of its own and wait until the server has closed that; may switch.

    PostgreSQL closes it after it has signalled the backend, so the cancel is through when this returns (whether a
    statement was still running is not told). ``address`` is that of the connection that is meant: its host may have
    others, which know nothing of it. ``tls`` says whether the connection that is meant has TLS; None leaves it
    to ``server_tls_mode``. ServerUnavailable and others as from ``login``; the socket is closed in any case.
    """
    deadline = time.monotonic() + timeout
    attempt = _attempt(settings) if tls is None else (TLS if tls else PLAIN)
    # Closing must never take back what was sent.
    options = dataclasses.replace(SocketOptions.of(settings), so_linger=None)
    with time_limit(settings, timeout, "send a cancel request to"):
        stream = dial(settings, engine, deadline - time.monotonic(), attempt, options, address=address)
        try:
            deliver(stream, cancel_request(pid, secret))
        finally:
            stream.close()


def deliver(stream: Stream, packet: bytes) -> None:
    """Send a CancelRequest and wait until the other side has closed the connection; may switch.

    ServerUnavailable when it can't be sent, or is answered.
    """
    _send(stream, packet)
    _await_close(stream)


def _send(stream: Stream, packet: bytes) -> None:
    try:
        stream.write(packet)
        stream.flush()
    except PeerGone as exc:
        raise ServerUnavailable("the server closed the connection before the cancel request was sent") from exc


def _await_close(stream: Stream) -> None:
    try:
        stream.read_exact(1)
    except PeerGone:
        return
    # PostgreSQL says nothing to a cancel request, but has an error for one that it could not start a process for.
    raise ServerUnavailable("the server answered the cancel request instead of carrying it out")


def _attempt(settings: ServerAddress) -> str:
    # ``allow`` prefers plain, and PostgreSQL takes cancels before it looks into pg_hba.conf.
    return {"disable": PLAIN, "allow": PLAIN, "prefer": TLS_IF_OFFERED}.get(settings.server_tls_mode, TLS)
