"""A client between two of its transactions as it goes to another process, and as it comes from one.

Rules:
1. A client goes where nothing of its is under way: with a server only if it keeps that one between transactions, and
   with the bytes it has sent that nobody has looked at yet.
2. From ``pack`` on nobody in this process reads or writes its connection, until the other one has refused it or taken
   it; whoever has taken it closes nothing but descriptors here.
"""

from __future__ import annotations

import _socket
from collections.abc import Mapping
from typing import Any

from pgdoorman_lib.client.connection import Connection
from pgdoorman_lib.client.pooler import Pooler
from pgdoorman_lib.client.session import Session
from pgdoorman_lib.errors import DoormanError
from pgdoorman_lib.metrics.counters import LinkStats
from pgdoorman_lib.net.stream import check_exported
from pgdoorman_lib.pool import handover as pools
from pgdoorman_lib.pool.pool import Pool
from pgdoorman_lib.server import handover as servers
from pgdoorman_lib.server.connection import Server
from pgdoorman_lib.wire import handover as statements
from pgdoorman_lib.wire.handover import Book, Plain
from pgdoorman_lib.wire.settings import Settings

_COUNTERS = ("xact_count", "query_count", "errors", "received", "sent", "prepare_hit", "prepare_miss")


class Unwanted(DoormanError):
    """A client that cannot go on in this process; the other one keeps it."""


class Arrived(_socket.socket):
    """A client's connection that another process has accepted; as ``net.accept.Accepted``."""

    host: str
    port: int


def hindrance(session: Session) -> str:
    """Why a client can't go to another process, whenever that is asked; empty: nothing like that is known."""
    stream = session.link.client
    if stream.tls is None or stream.may_move():
        return ""
    return f"{stream.tls.version()}, or its secrets are not known"


def pack(pooler: Pooler, session: Session) -> Plain:
    """All there is to know of a client of ``pooler`` that may leave (``Departure.suits``), without its sockets.

    CanNotMove when its connection can't go, as with an older version of TLS.
    """
    link = session.link
    return {
        "stream": link.client.export(),
        "id": session.id,
        "secret": session.secret,
        "user": session.user,
        "database": session.database,
        "looked_up": pooler.is_looked_up(session.database, session.user),
        "connected_at": session.connected_at,
        "settings": session.settings.values,
        "startup": link.startup.values,
        "base": servers.pack_base(link.base),
        "told": servers.pack_reported(link.told),
        "statements": statements.pack_client(link.statements),
        "option_names": None if session.option_names is None else sorted(session.option_names),
        "in_vain": session.in_vain,
        "pins": link.pins,
        "proofs": pools.pack_proofs(link.pool),
        "query_started": link.query_started,
        "stats": {name: getattr(link.stats, name) for name in _COUNTERS},
    }


def find_pool(pooler: Pooler, state: Mapping[str, Any]) -> Pool:
    """The pool of a client that comes; Unwanted when there is none, or its number is taken.

    ValueError when its connection can't be carried on.
    """
    check_exported(state["stream"])
    if state["id"] in pooler.clients:
        raise Unwanted(f"there is a client #{state['id']} already")
    looked_up = pooler.is_looked_up(state["database"], state["user"])
    if state.get("looked_up", looked_up) != looked_up:  # versions before did not tell
        raise Unwanted(f"user {state['user']} of database {state['database']} is another here")
    pools.prepare(pooler.pools, state, state.get("proofs", {}))
    pool = pooler.find_pool(state["database"], state["user"])
    if pool is None or pool.retired:
        raise Unwanted(f"no pool for database {state['database']}, user {state['user']}")
    pools.know_proofs(pool, state.get("proofs", {}))
    return pool


def arrive(
    pooler: Pooler, sock: Arrived, pool: Pool, state: Mapping[str, Any], server: Server | None, book: Book
) -> None:
    """Serve a client that comes with ``sock``, and with ``server`` if it keeps one, from here on; no switch.

    It was counted by ``Pooler.expect``.
    """
    sock.host, sock.port = state["stream"]["peer_host"], state["stream"]["peer_port"]
    connection = Connection(pooler, sock)
    connection.user, connection.database = state["user"], state["database"]
    connection.admitted = 1
    connection.entered = state["database"], state["user"]
    pooler.admitted += 1
    pooler.open.add(connection)
    stream = connection.stream
    stream.carry_on(state["stream"])
    session = Session(
        stream,
        state["id"],
        state["secret"],
        state["user"],
        state["database"],
        float(state["connected_at"]),
        pooler.find_pool,
        pooler.abandon,
        connection.close,
    )
    link = session.link
    link.use(pool)
    link.begin_with(
        Settings.of(state["startup"]), servers.unpack_reported(state["told"]), servers.unpack_base(state["base"])
    )
    session.settings = Settings.of(state["settings"])
    if state["option_names"] is not None:
        session.option_names = set(state["option_names"])
    session.in_vain = state["in_vain"]
    _count_on(link.stats, state["stats"])
    statements.unpack_client(link.statements, state["statements"], book)
    connection.session = session
    pooler.clients.add(session)
    task = session.start()
    if server is not None:
        session.assigned = server
        link.attach(server)
        if state["pins"]:
            session.at_work().leftovers.pin(state["pins"])
    link.query_started = float(state["query_started"])
    task.wake()  # nobody tells of what came while it was on its way


def _count_on(stats: LinkStats, counted: Mapping[str, int]) -> None:
    for name in _COUNTERS:
        setattr(stats, name, counted.get(name, 0))


def part_from_server(session: Session) -> None:
    """The server that a client has kept is another process's."""
    server = session.link.server
    if session.link.pins:
        session.at_work().leftovers.pin(0)
    session.link.detach()
    session.assigned = None
    pools.gone(server.pool, server)
