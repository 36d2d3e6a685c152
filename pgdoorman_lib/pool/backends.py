"""What becomes of a pool whose server turns out to be another pooler, which exchanges backends between transactions."""

from __future__ import annotations

import logging
from typing import Any

from pgdoorman_lib.errors import ServerUnavailable
from pgdoorman_lib.log import of_pool
from pgdoorman_lib.server.connection import Server

log = logging.getLogger(__name__)


def backend_moved(server: Server, process: int) -> None:
    """The backend behind ``server`` is another process than it was: what a session sets is not its own there."""
    server.backend = process
    pool: Any = server.pool
    if not pool.moved:
        share_backends(pool)
        pool.learned()


def share_backends(pool: Any) -> None:
    """The servers of ``pool`` exchange their backends; no switch."""
    if pool.moved:
        return
    pool.moved = 1
    pool.transparent = 0
    settings = pool.settings
    text = (
        f"{settings.server_host}:{settings.server_port} is not a PostgreSQL session, but a pooler that exchanges"
        " backends between transactions"
    )
    if settings.shared_backend == "refuse":
        log.error("%s %s: the pool refuses its clients", of_pool(settings), text)
        pool.refusal = ServerUnavailable(text)
        pool.retire("the server shares its backends")
        return
    log.warning(
        "%s %s. Nothing a client sets, locks or listens to is safe there; from now on the pool works as with"
        ' session_state = "reset"',
        of_pool(settings),
        text,
    )
