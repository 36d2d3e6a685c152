"""How a connection ends by an error: what the log and the client are told of it, and what is counted."""

from __future__ import annotations

import logging
from typing import Any

from pgdoorman_lib.client.rejections import reason_of
from pgdoorman_lib.client.session import Session
from pgdoorman_lib.client.strangers import OncePerAddress
from pgdoorman_lib.errors import DoormanError, HandshakeFailed, OtherProtocol, PeerGone, Refusal, TooManyLogins
from pgdoorman_lib.log import Limited
from pgdoorman_lib.net.syscalls import clock
from pgdoorman_lib.wire.messages import error_from

log = logging.getLogger("pgdoorman_lib.client.connection")
#: Anybody can have them fail, as often as he likes: handshakes, what has not said who it is, what has to give way.
handshakes = Limited(log)
strangers = Limited(log)
crowd = Limited(log)
#: Who speaks another protocol does so again and again.
others = OncePerAddress(60.0)


def tell(connection: Any, error: DoormanError) -> None:
    """Tell the log why a ``client.connection.Connection`` ends, and queue that for the client; no switch."""
    stream, session = connection.stream, connection.session
    who = connection.label()
    if isinstance(error, HandshakeFailed):
        handshakes.info("%s %s", who, error.message)
    elif isinstance(error, OtherProtocol):
        if others.is_due(stream.peer_host, clock()):
            log.warning("%s closing client: %s (SQLSTATE %s)", who, error.message, error.sqlstate)
        _tell_client(connection, error)
    elif isinstance(error, PeerGone):
        log.debug("%s %s", who, error.message)
    else:
        line = (
            crowd.warning if isinstance(error, TooManyLogins) else log.warning if connection.user else strangers.warning
        )
        line("%s closing client: %s (SQLSTATE %s)", who, _for_the_log(error), error.sqlstate)
        if isinstance(session, Session):
            session.link.pool_stats.count_error(error.sqlstate)
        _tell_client(connection, error)


def count_rejected(connection: Any, error: DoormanError) -> None:
    """Count one that was refused, by the reason."""
    reason = reason_of(error, bool(connection.user))
    if reason is not None:
        connection.pooler.connections.reject(reason)


def _tell_client(connection: Any, error: DoormanError) -> None:
    """Queue ``error`` for the client, if it may be told."""
    stream, session = connection.stream, connection.session
    if stream.send_failed or (session is not None and session.cut_off()):
        return
    if not stream.eof or (isinstance(session, Session) and session.link.half_closed):
        stream.write(error_from(error))


def _for_the_log(error: DoormanError) -> str:
    """What the log says of an error: a refused client is not told why it was refused."""
    return f"{error.message}: {error.__cause__}" if isinstance(error.__cause__, Refusal) else error.message
