"""Lending a server to the running greenlet for the length of a ``with``: logins, probes, the catalogue's reader."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pgdoorman_lib.net.engine import Task
from pgdoorman_lib.pool.queue import Borrower
from pgdoorman_lib.server.connection import Server
from pgdoorman_lib.server.execute import run
from pgdoorman_lib.wire.session_state import DIRTY_PARAMETERS
from pgdoorman_lib.wire.settings import BASE

if TYPE_CHECKING:
    from pgdoorman_lib.pool.pool import Pool


@contextmanager
def lent(pool: Pool) -> Iterator[Server]:
    """See ``Pool.connection``."""
    borrower = Borrower()
    borrower.task = Task(pool.engine)
    server = pool.checkout(borrower)
    server.stream.task = borrower.task
    rested_since = server.idle_since
    pool.set_aside(1)
    try:
        take_settings_back(server)
        yield server
    finally:
        server.stream.task = None
        pool.checkin(server)
        pool.set_aside(-1)
        if server.state == "idle":
            server.idle_since = rested_since


def take_settings_back(server: Server) -> None:
    """Have nothing in effect that the last client of ``server`` has set; may switch. Raises what ``run`` does."""
    if server.applied is not BASE:
        sql = BASE.sql_from(server.applied)
        server.dirty |= DIRTY_PARAMETERS  # until that is done
        run(server, sql)
        server.applied = BASE
        server.dirty &= ~DIRTY_PARAMETERS
