"""What SHOW CLIENTS tells of a client, whatever kind of client it is."""

from __future__ import annotations

from typing import Any, NamedTuple

from pgdoorman_lib.metrics.counters import LinkStats
from pgdoorman_lib.net.stream import Stream
from pgdoorman_lib.pool.sequences import REASON
from pgdoorman_lib.wire.prepared import ClientStatements
from pgdoorman_lib.wire.session_state import reasons


class ClientInfo(NamedTuple):
    """One client as it is now."""

    id: int
    user: str
    database: str
    #: what the client calls itself
    application_name: str
    #: its address as logs show it
    peer: str
    #: whether its connection is encrypted
    tls: bool
    #: ``active`` with a server, ``waiting`` for one, else ``idle``: also with one that it only keeps
    state: str
    #: ``write`` while it does not take its answers, ``read`` while its server works, else ``idle``
    wait: str
    stats: LinkStats
    #: monotonic seconds
    connected_at: float
    #: what keeps it on its server between transactions, in words; empty when nothing does
    pinned: str
    #: its connection
    stream: Stream
    #: the number of the server it has, 0 for none
    server: int
    #: its prepared statements, None where it has none of its own
    statements: ClientStatements | None
    #: monotonic seconds: since when it waits for a server (0: it does not), and when it has asked for something last
    waiting_since: float
    asked_at: float
    #: ``none``, ``logical`` or ``physical``
    replication: str
    #: the user whose pool it is a client of, empty for the console's: not his own where users who are found share one
    pool_user: str
    #: the worker process that it is a client of, 0: this process
    worker: int = 0


def session_info(session: Any) -> ClientInfo:
    """What is told of a ``Session``."""
    link = session.link
    return info_of(
        *(session, link.client, link.stats, session.application_name, session.state),
        pinned=", ".join(filter(None, (reasons(link.pins), REASON if session.kept else ""))),
        link=link,
        waiting_since=session.waiting_since if session.waiting else 0.0,
        pool_user=session.pool_user,
    )


def info_of(
    who: Any,
    client: Any,
    stats: LinkStats,
    application_name: str,
    state: str,
    *,
    pinned: str = "",
    server: Any = None,
    link: Any = None,
    waiting_since: float = 0.0,
    replication: str = "none",
    pool_user: str = "",
) -> ClientInfo:
    """What is told of ``who``, of whatever class, whose client is at the other end of the stream ``client``.

    A session has a ``link``; who has none may have a ``server`` of its own.
    """
    if link is not None:
        server = link.server
    return ClientInfo(
        who.id,
        who.user,
        who.database,
        application_name,
        str(client.peer),
        client.tls is not None,
        state,
        "write" if client.blocked else "read" if state == "active" else "idle",
        stats,
        who.connected_at,
        pinned,
        client,
        server.id if server is not None else 0,
        link.statements if link is not None else None,
        waiting_since,
        max(link.query_started, who.connected_at) if link is not None else who.connected_at,
        replication,
        pool_user,
    )
