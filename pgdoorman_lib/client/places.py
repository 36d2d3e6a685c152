"""How many connections of clients the limit of open files has room for, and what is kept back of it for others."""

from __future__ import annotations

import logging
import resource

from pgdoorman_lib.record import record

log = logging.getLogger(__name__)

#: Descriptors where there is no limit.
MANY = 1 << 30
#: Clients that may be logging in at one time, however few max_connections are, unless the configuration says.
FEWEST_LOGINS = 100
#: Clients of the console that get in beyond max_connections.
CONSOLE_PLACES = 3

#: Descriptors of everything but connections of clients and pools: listeners, the engine's, the log, cancel requests on
#: their way, servers that are tidied up while others take their place, those of replication clients.
OTHERS = 64
#: Where there are few descriptors, others take no larger part of them than this, and servers and others none than that.
OTHERS_PART = 4
KEPT_PART = 2
#: The part of connections that only those can have who are logging in, the console's among them, and the least of it.
LOGINS_PART = 8
LOGINS_LEAST = 8


@record(frozen=True)
class Shares:
    """Of ``limit`` descriptors what clients may have: ``connections`` in all, ``clients`` that have logged in."""

    limit: int
    connections: int
    clients: int


def needed(servers: int, clients: int, logins: int) -> int:
    """Descriptors for ``servers`` of pools, ``clients`` that have logged in, ``logins`` under way, and all others."""
    return servers + clients + CONSOLE_PLACES + logins + OTHERS


def share(limit: int, servers: int, clients: int, logins: int) -> Shares:
    """Divide ``limit`` descriptors among those that ``needed`` names.

    Clients are refused before a server can't be opened, and those that have logged in before others can't try; only
    where the pools alone would take more than half of all there is less for them.
    """
    kept = min(servers + min(OTHERS, limit // OTHERS_PART), limit // KEPT_PART)
    connections = limit - kept
    if limit < needed(servers, clients, logins):
        entering = min(logins, max(connections // LOGINS_PART, LOGINS_LEAST))
        clients = max(1, min(clients, connections - entering - CONSOLE_PLACES))
    return Shares(limit, connections, clients)


def divide(servers: int, clients: int, logins: int) -> Shares:
    """Have as many descriptors as those may need, or as the system gives, and divide them; a warning when it is few."""
    wanted = needed(servers, clients, logins)
    shares = share(raise_limit(wanted), servers, clients, logins)
    if shares.clients < clients:
        log.warning(
            "max_connections, the pools and [web] may need %d open files, the system allows %d: no more than %d "
            "clients get in (ulimit -n, LimitNOFILE= of the unit)",
            *(wanted, shares.limit, shares.clients),
        )
    return shares


def raise_limit(wanted: int) -> int:
    """Have the system allow ``wanted`` descriptors, or as many as it gives; how many it allows now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return max(wanted, MANY)
    if soft >= wanted:
        return soft
    possible = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (possible, hard))
    return possible
