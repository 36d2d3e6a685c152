"""Borrowing a server for a statement of our own, in blocking style."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from pgdoorman_lib.net.engine import Task
from pgdoorman_lib.pool.pool import Borrower, Pool
from pgdoorman_lib.server.connection import Server
from pgdoorman_lib.server.execute import run
from pgdoorman_lib.wire.session_state import DIRTY_PARAMETERS
from pgdoorman_lib.wire.settings import BASE

Result = TypeVar("Result")


class Errand(Borrower):
    """The running greenlet, waiting for a server."""

    __slots__ = ()


def with_server(pool: Pool, do: Callable[[Server], Result]) -> Result:
    """Call ``do`` with a borrowed server and give it back; may switch. Raises what ``checkout`` and ``do`` raise.

    Nothing that its last client has set is in effect. It counts as resting meanwhile: an errand is no use of it.
    """
    errand = Errand()
    errand.task = Task(pool.engine)
    server = pool.checkout(errand)
    server.stream.task = errand.task
    rested_since = server.idle_since
    try:
        if server.applied is not BASE:
            sql = BASE.sql_from(server.applied)
            server.dirty |= DIRTY_PARAMETERS  # until that is done
            run(server, sql)
            server.applied = BASE
            server.dirty &= ~DIRTY_PARAMETERS
        return do(server)
    finally:
        server.stream.task = None
        pool.checkin(server)
        if server.state == "idle":
            server.idle_since = rested_since
