"""Servers at rest: what they say unasked, which of them have rested or lived too long, and how many there are to be."""

from __future__ import annotations

from typing import Any

from pgdoorman_lib.errors import ServerProtocolViolation
from pgdoorman_lib.net.syscalls import clock
from pgdoorman_lib.server import states
from pgdoorman_lib.server.connection import Server
from pgdoorman_lib.wire import consts
from pgdoorman_lib.wire.framing import frame_size
from pgdoorman_lib.wire.messages import parse_fields, parse_parameter_status


def heard(pool: Any, server: Server) -> None:
    """News from a server nobody has borrowed: its end, or an aside; no switch."""
    if server.stage != states.IDLE:
        return
    stream = server.stream
    reason = ""
    while not reason:
        n = stream.fill()
        if n == -1:
            break
        if n <= 0:
            reason = "server closed the connection while idle"
            break
        reason = _asides(server)
    if reason or stream.hangup:
        pool.queue.remove(server)
        pool.forget(server, reason or "server closed the connection while idle")
        if pool.queue.waiting:
            pool.opening.grow(clock())


def sweep(pool: Any, now: float) -> None:
    """Close what rested or lived too long, then open up to min_pool_size; no switch."""
    if pool.held:
        return
    settings = pool.settings
    keep = settings.min_pool_size
    for server in list(pool.queue):
        if server.stage != states.IDLE:
            continue  # to close the one before it has let another pool take its place (``quota``)
        if now > server.expires_at:
            pool.queue.remove(server)
            pool.forget(server, "server_lifetime reached")
        elif settings.idle_timeout > 0 and now - server.idle_since > settings.idle_timeout and _spares(pool, keep):
            pool.queue.remove(server)
            pool.forget(server, "idle_timeout reached")
    limit = settings.scaling_max_parallel_creates
    opening = pool.opening
    keep = min(keep, pool.size)
    while (
        pool.count_all() < keep
        and opening.count < limit
        and now >= opening.retry_at
        and (pool.quota is None or pool.quota.has_room())
        and opening.start(keep)
    ):
        pass
    opening.grow(now)
    if pool.standing is not None:
        pool.standing.sweep(now)
    if pool.exchange is not None:
        pool.exchange.sweep(now)
        if pool.quota is not None:
            pool.quota.show()


def _spares(pool: Any, keep: int) -> bool:
    """Whether ``pool`` has more than the ``keep`` servers that stay however long they rest."""
    return (len(pool.servers) if pool.row is None else pool.row.total()) > keep


def _asides(server: Server) -> str:
    """Take the notices and parameters an idle server sent; a reason to close it, or an empty string."""
    stream = server.stream
    while stream.end > stream.start:
        block = stream.block
        assert block is not None
        size = frame_size(block, stream.start, stream.end)
        if size == -2 or size > 8192:
            return "unexpected data while idle"
        if size < 0 or size > stream.end - stream.start:
            return ""
        kind = block[stream.start]
        body = bytes(block[stream.start + 5 : stream.start + size])
        stream.start += size
        if kind == consts.ERROR_RESPONSE:
            server.fatal_received = 1
            return "server said: " + parse_fields(body).get("M", "")
        if kind == consts.PARAMETER_STATUS:
            try:
                name, value = parse_parameter_status(body)
            except ServerProtocolViolation:
                return "unexpected data while idle"
            server.report(name, value)
            if name.lower() not in server.applied.values:
                server.pool.beginnings.hears(name, value)  # the configuration was reloaded
        elif kind != consts.NOTICE_RESPONSE and kind != consts.NOTIFICATION_RESPONSE:
            return "unexpected message while idle"
    stream.release()
    return ""
