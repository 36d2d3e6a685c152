"""What a new server's session begins with: asked once, behind the login and before anybody gets it."""

from __future__ import annotations

import logging

from pgdoorman_lib.errors import ServerRefused
from pgdoorman_lib.server.connection import Server
from pgdoorman_lib.server.execute import run
from pgdoorman_lib.server.login import before_it_is_lent, time_limit
from pgdoorman_lib.wire.baseline import baseline_sql, read_baseline

log = logging.getLogger(__name__)

_SQL = baseline_sql()


def ask(server: Server) -> None:
    """Put what ``server`` answers into its ``base``, ``backend`` and ``loaded``; may switch.

    ServerUnavailable or ServerRefused, and the connection is closed, when it is lost or takes longer than
    ``connect_timeout``.
    """
    settings = server.settings
    with before_it_is_lent(server.stream), time_limit(settings, settings.connect_timeout, "log in to"):
        try:
            server.base, server.backend, server.loaded = read_baseline(run(server, _SQL))
        except (ServerRefused, ValueError) as exc:
            if server.fatal_received:
                raise
            # Not PostgreSQL's own catalogue, perhaps: its sessions are all taken to begin alike.
            text = exc.message if isinstance(exc, ServerRefused) else str(exc)
            log.warning("server (pid %d) does not tell what its sessions begin with: %s", server.pid, text)
