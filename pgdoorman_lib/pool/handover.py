"""A pool whose servers and clients go to another process, and the one there that they come to.

While a pool is in two processes, the one it comes to counts the servers of the other (``Pool.elsewhere``) as if they
were its own, so that both together never have more than pool_size.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pgdoorman_lib.net.syscalls import clock
from pgdoorman_lib.pool.backends import share_backends
from pgdoorman_lib.pool.pool import Pool
from pgdoorman_lib.pool.registry import Pools
from pgdoorman_lib.server import handover as servers
from pgdoorman_lib.server import states
from pgdoorman_lib.server.connection import Server
from pgdoorman_lib.wire.handover import Plain


def pack(pool: Pool) -> Plain:
    """What a pool knows of its servers and clients, and how many servers it keeps room for."""
    beginnings: Any = pool.beginnings
    known = beginnings.base is not None and beginnings.reported is not None
    return {
        "database": pool.settings.database,
        "user": pool.settings.user,
        "servers": pool.size,
        "base": servers.pack_base(beginnings.base) if known else None,
        "reported": servers.pack_reported(beginnings.reported) if known else None,
        "carried": sorted(beginnings.carried),
        "began_at": beginnings.began_at,
        "news": [[name, value, at] for name, (value, at) in beginnings.news.items()],
        **pack_proofs(pool),
        "sequences": sorted(pool.sequences.names) if pool.sequences is not None else [],
        "moved": servers.address(pool.settings) if pool.moved else None,
        "health": pool.health.pack(),
    }


def has_learnt(pool: Pool) -> bool:
    """Whether there is anything in what ``pack`` tells."""
    known = pool.beginnings.reported is not None or pool.credentials is not None
    known = known or pool.secret != pool.settings.secret
    return bool(known or pool.sequences is not None or pool.moved)


def know(pool: Pool, state: Mapping[str, Any]) -> None:
    """Have ``pool`` know what another process's has learnt, as ``pack`` has told; no switch."""
    beginnings: Any = pool.beginnings
    if state["reported"] is not None:
        base, reported = servers.unpack_base(state["base"]), servers.unpack_reported(state["reported"])
        news = state.get("news", ())  # versions before did not tell
        beginnings.hear(base, reported, state["carried"], float(state["began_at"]), news)
    know_proofs(pool, state)
    for program in state.get("sequences", ()):  # versions before did not tell
        pool.know_sequences(program)
    if state.get("moved") == servers.address(pool.settings):
        share_backends(pool)
    if state.get("health") is not None:
        pool.health.hear(*state["health"])


def pack_proofs(pool: Pool) -> Plain:
    """What clients have proven to know: each that goes to another process takes it along."""
    return {
        "credentials": pool.credentials,
        "secret": pool.secret if pool.secret != pool.settings.secret else "",
        "parameters": [list(each) for each in pool.settings.own_parameters],
    }


def prepare(pools: Pools, state: Mapping[str, Any], proofs: Mapping[str, Any]) -> None:
    """Before the pool of ``state`` is looked for: have it begin its servers' sessions as the other; no switch.

    ``proofs`` is what ``pack_proofs`` has told; versions before did not tell this.
    """
    own = tuple((str(name), str(value)) for name, value in proofs.get("parameters", ()))
    if own and (state["database"], state["user"]) not in pools:  # what a pool goes by that is there was found later
        pools.learn_parameters(state["database"], state["user"], own)


def know_proofs(pool: Pool, state: Mapping[str, Any]) -> None:
    """Have ``pool`` know what ``pack_proofs`` has told; no switch. Versions before did not tell all of it."""
    if state.get("secret"):
        if pool.settings.secret:
            return  # that is of one who was looked up; here one is configured by that name
        pool.secret = state["secret"]
    if state.get("credentials") is not None:
        pool.credentials = state["credentials"]


def elsewhere(pool: Pool, number: int) -> None:
    """The other process has so many servers of ``pool`` left; no switch."""
    pool.count_elsewhere(number)
    pool.opening.grow(clock())
    if pool.quota is not None:
        pool.quota.freed(pool)


def may_go(server: Server) -> bool:
    """Whether nothing of a server's would be lost on the way, and nothing of it is under way."""
    return server.is_reusable() and not server.condemned and not server.replies.copy_in


def begin(pool: Pool) -> Server | None:
    """Take a server that rests, and may go, out of the hands of borrowers; None if there is none; no switch."""
    for server in pool.queue:
        if may_go(server) and not server.dirty:
            lift(pool, server)
            return server
    return None


def lift(pool: Pool, server: Server) -> None:
    """Take a server that rests off the others: it counts as borrowed; no switch."""
    pool.queue.remove(server)
    pool.borrowed += 1
    server.enter(states.ACTIVE)


def gone(pool: Pool, server: Server) -> None:
    """A server, which counted as borrowed, is the other process's; no switch."""
    pool.borrowed -= 1
    pool.servers.discard(server)
    pool.strike_off(server)
    server.enter(states.CLOSED)
    server.stream.abandon()
    pool.free_place()


def lose_place(pool: Pool) -> None:
    """One server less may be in this process: the other one may have it."""
    pool.size = max(0, pool.size - 1)
