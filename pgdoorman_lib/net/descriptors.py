"""How many descriptors this process may have open."""

from __future__ import annotations

import logging
import resource

log = logging.getLogger(__name__)

#: Descriptors a process needs beyond its connections.
SPARE = 64


def raise_limit(connections: int) -> None:
    """Allow as many as ``connections`` may need, or as the system gives; what it does not give is logged."""
    wanted = connections + SPARE
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    possible = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (possible, hard))
    if possible < wanted:
        log.warning("max_connections and the pools may need %d descriptors, the system allows %d", wanted, possible)
