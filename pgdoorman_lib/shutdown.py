"""The end of the clients' connections when the pooler shuts down."""

from __future__ import annotations

import logging
from collections.abc import Collection

import gevent
from gevent.event import Event

from pgdoorman_lib.client.connection import Connection
from pgdoorman_lib.client.pooler import GOODBYE
from pgdoorman_lib.errors import ShuttingDown
from pgdoorman_lib.net.syscalls import clock

log = logging.getLogger(__name__)


def drain(connections: Collection[Connection], limit: float, hurry: Event) -> None:
    """Let open transactions finish within ``limit`` seconds, or until ``hurry``; everybody else is told to go.

    ``connections`` are those that are open, which leave it as they end; may switch.
    """
    for connection in list(connections):
        connection.terminate_when_idle(ShuttingDown(GOODBYE))
    deadline = clock() + limit
    while connections and clock() < deadline and not hurry.is_set():
        hurry.wait(min(0.02, max(0.0, deadline - clock())))
    if connections:
        log.warning(
            "graceful shutdown %s: %d clients are disconnected",
            "cut short" if hurry.is_set() else "timed out",
            len(connections),
        )
        for connection in connections:
            connection.kill(ShuttingDown(GOODBYE))
        deadline = clock() + 1.0
        while connections and clock() < deadline:
            gevent.sleep(0.01)
