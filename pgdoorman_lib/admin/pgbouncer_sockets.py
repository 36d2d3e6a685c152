"""PgBouncer's tables of connections: SHOW CLIENTS, SERVERS, SOCKETS and ACTIVE_SOCKETS."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from typing import Any

from pgdoorman_lib.admin.rows import INT4, columns
from pgdoorman_lib.admin.tables import Row, all_infos, infos, is_used, microseconds_within_second, paced
from pgdoorman_lib.client.info import ClientInfo
from pgdoorman_lib.views import RunningPooler, ServerView, sorted_pools

SHORT = (
    columns("type user database replication state addr")
    + columns("port", INT4)
    + columns("local_addr")
    + columns("local_port", INT4)
    + columns("connect_time request_time")
    + columns("wait wait_us close_needed", INT4)
    + columns("ptr link")
    + columns("remote_pid", INT4)
    + columns("tls application_name")
    + columns("prepared_statements id", INT4)
)
WHOLE = SHORT + columns("recv_pos pkt_pos pkt_remain send_pos send_remain pkt_avail send_avail", INT4)

#: struct ucred of SO_PEERCRED: process, user, group.
_UCRED = struct.Struct("3i")
#: What a server is doing, in PgBouncer's words, and in those of SHOW SOCKETS.
_SERVER_STATES = {"login": "new", "cleaning": "tested"}
_SOCKET_STATES = {
    "idle": "sv_idle",
    "active": "sv_active",
    "used": "sv_used",
    "tested": "sv_tested",
    "new": "sv_login",
}


def _clock(pooler: RunningPooler) -> Callable[[float], str]:
    """A function from our monotonic seconds to the time of day, in UTC."""
    ahead = time.time() - pooler.now()

    def text(seconds: float) -> str:
        return datetime.fromtimestamp(seconds + ahead, timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")

    return text


def _ends(stream: Any, listens: int) -> tuple[str, int, str, int]:
    """The peer's address and port, and our own; a unix socket is called so, and has the port in its name."""
    if stream.is_unix:
        return "unix", listens, "unix", listens
    try:
        host, port = stream.sock.getsockname()[:2]
    except OSError:  # it has been closed
        host, port = "", 0
    return stream.peer_host, stream.peer_port, host, port


def _peer_process(stream: Any) -> int:
    """The process at the other end of a unix socket, where the system tells; else 0."""
    if not stream.is_unix or not hasattr(socket, "SO_PEERCRED"):
        return 0
    try:
        found = _UCRED.unpack(stream.sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    except OSError:  # it has been closed
        return 0
    return int(found[0])


def _tls(stream: Any) -> str:
    if stream.tls is None:
        return ""
    cipher = stream.tls.cipher()
    return f"{stream.tls.version()}/{cipher[0]}" if cipher else str(stream.tls.version())


def _buffers(stream: Any) -> Row:
    """What stands in a connection's buffers, as SHOW SOCKETS has it; of ``pkt_remain`` and ``send_remain`` nothing."""
    received = stream.end - stream.start
    return stream.end, stream.start, 0, stream.out_start, 0, received, stream.out_pending


def _client(client: ClientInfo, pooler: RunningPooler, clock: Callable[[float], str]) -> Row:
    waited = max(0.0, pooler.now() - client.waiting_since) if client.waiting_since else 0.0
    address, port, local_address, local_port = _ends(client.stream, pooler.config.general.port)
    return (
        "C",
        client.user,
        client.database,
        client.replication,
        client.state if client.server or client.state == "waiting" else "idle",
        address,
        port,
        local_address,
        local_port,
        clock(client.connected_at),
        clock(client.asked_at),
        int(waited),
        microseconds_within_second(waited),
        0,
        f"#c{client.id}",
        f"#s{client.server}" if client.server else "",
        _peer_process(client.stream),
        _tls(client.stream),
        client.application_name,
        len(client.statements.names) if client.statements is not None else 0,
        client.id,
    )


def _server(server: ServerView, link: ClientInfo | None, pooler: RunningPooler, clock: Callable[[float], str]) -> Row:
    state = "used" if is_used(server, pooler.now()) else server.state
    address, port, local_address, local_port = _ends(server.stream, server.settings.server_port)
    return (
        "S",
        server.settings.server_username,
        server.settings.database,
        link.replication if link is not None else "none",
        _SERVER_STATES.get(state, state),
        address,
        port,
        local_address,
        local_port,
        clock(server.created_at),
        clock(server.active_since),
        0,
        0,
        0,
        f"#s{server.id}",
        f"#c{link.id}" if link is not None else "",
        server.pid,
        _tls(server.stream),
        server.application_name,
        server.prepared_count,
        server.id,
    )


def _client_rows(pooler: RunningPooler) -> Iterator[tuple[Any, Row]]:
    clock = _clock(pooler)
    for client in all_infos(pooler):
        yield client.stream, _client(client, pooler, clock)


def _server_rows(pooler: RunningPooler) -> Iterator[tuple[Any, Row]]:
    clock = _clock(pooler)
    linked = {client.server: client for client in infos(pooler) if client.server}
    servers = [server for pool in sorted_pools(pooler) for server in pool.servers]
    for server in paced((*servers, *pooler.unpooled)):
        yield server.stream, _server(server, linked.get(server.id), pooler, clock)


def clients(pooler: RunningPooler) -> list[Row]:
    """SHOW CLIENTS."""
    return [row for _, row in _client_rows(pooler)]


def servers(pooler: RunningPooler) -> list[Row]:
    """SHOW SERVERS."""
    return [row for _, row in _server_rows(pooler)]


def _sockets(pooler: RunningPooler) -> Iterator[tuple[Any, Row]]:
    """SHOW SOCKETS, each row with its stream; states have the side in front, and a client is never idle."""
    for stream, row in _client_rows(pooler):
        state = "cl_waiting" if row[4] == "waiting" else "cl_active"
        yield stream, (*row[:4], state, *row[5:], *_buffers(stream))
    for stream, row in _server_rows(pooler):
        yield stream, (*row[:4], _SOCKET_STATES[str(row[4])], *row[5:], *_buffers(stream))


def sockets(pooler: RunningPooler) -> list[Row]:
    """SHOW SOCKETS."""
    return [row for _, row in _sockets(pooler)]


def active_sockets(pooler: RunningPooler) -> list[Row]:
    """SHOW ACTIVE_SOCKETS: those that have received what is not read yet, or have something to send."""
    return [row for stream, row in _sockets(pooler) if stream.end > stream.start or stream.out_pending]
