"""Why a session has ended: what the client is told, and what the log says."""

from __future__ import annotations

from typing import Any

from pgdoorman_lib.client import events
from pgdoorman_lib.client.link import Link
from pgdoorman_lib.errors import ProtocolViolation, ServerGone
from pgdoorman_lib.wire import consts, messages


def ended(session: Any, event: int) -> str:
    """What polling for ``session`` has come to at last, for the log; raises what the client must be told.

    But for a client that has left while it waited for nothing: that is ``ClientEnd.parting``.
    """
    link, relay = session.link, session.at_work()
    if event == events.CLIENT_GONE:
        return "client left while waiting for a server"
    if event == events.CLIENT_FAULT:
        raise ProtocolViolation(link.fault, sqlstate=link.fault_sqlstate)
    if event == events.TOO_MANY_PINS:
        raise relay.leftovers.too_many_pins()
    return server_ended(link, relay.errands.refusal, event)


def server_ended(link: Link, refusal: bytes | None, event: int) -> str:
    """The server is gone or not to be understood: tell the client, unless PostgreSQL has done so itself.

    ``refusal``: the body of the ErrorResponse to what was sent on our own account, if that is why. Returns the reason
    for the log; raises ServerGone.
    """
    server = link.server
    if event == events.SERVER_FAULT:
        server.fatal_received = 1  # whatever it says from here on: nobody else may get it
    if refusal is not None:
        raise messages.exception_from(refusal, ServerGone, link.fault, "08006")
    if event == events.SERVER_GONE and server.fatal_received:
        return "server ended the session"
    if event == events.SERVER_GONE and not server.replies.count and server.replies.status != consts.TX_IDLE:
        raise ServerGone("server closed the connection unexpectedly while client was idle in transaction")
    if event == events.SERVER_GONE:
        raise ServerGone(
            "server closed the connection unexpectedly",
            detail="The server process terminated before or while processing the request.",
        )
    raise ServerGone(link.fault, sqlstate="08P01")
