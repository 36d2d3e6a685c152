"""What SHOW CLIENTS tells of a client, whatever kind of client it is."""

from __future__ import annotations

from typing import Any, NamedTuple

from pgdoorman_lib.metrics.counters import LinkStats
from pgdoorman_lib.net.stream import Stream


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


def info_of(who: Any, client: Stream, stats: LinkStats, application_name: str, state: str, pinned: str) -> ClientInfo:
    """What is told of ``who``, of whatever class, whose client is at the other end of the stream ``client``."""
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
    )
