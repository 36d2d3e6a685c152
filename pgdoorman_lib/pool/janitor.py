"""Servers between two borrowers: cleaning what was left behind, ending what was abandoned, closing what is too old.

Each server in its hands has one greenlet and one deadline; whatever goes wrong closes the server.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import gevent
from gevent.pool import Group

from pgdoorman_lib.errors import DoormanError, ServerGone
from pgdoorman_lib.net.engine import Task
from pgdoorman_lib.net.syscalls import clock
from pgdoorman_lib.pool.pool import Pool
from pgdoorman_lib.pool.resting import sweep
from pgdoorman_lib.server import states
from pgdoorman_lib.server.attributes import unmet
from pgdoorman_lib.server.connection import Server
from pgdoorman_lib.server.execute import drain, run
from pgdoorman_lib.wire import consts, messages
from pgdoorman_lib.wire.baseline import NO_ROLE
from pgdoorman_lib.wire.owed import COPY_END, EXECUTE, SWALLOW, SYNC
from pgdoorman_lib.wire.session_state import (
    DIRTY_CUSTOM,
    DIRTY_DOUBTED,
    DIRTY_LIBRARY,
    DIRTY_PARAMETERS,
    DIRTY_PREPARED,
    DIRTY_SESSION,
    DIRTY_SLOTS,
    DIRTY_TAKEN_BACK,
    DIRTY_UNKNOWN,
    cleaning_sql,
)
from pgdoorman_lib.wire.settings import BASE

log = logging.getLogger(__name__)

#: Seconds for cleaning one server, or ending what a lost client left running.
CLEANING_TIMEOUT = 5.0
#: Seconds for a server to tell what its host is: where that is down, there is no answer.
ASKING_TIMEOUT = 1.0
#: A portal nobody has.
NO_PORTAL = b"\x01pgdoorman: no such portal"
#: Seconds between two sweeps over all pools, at most.
SWEEP_INTERVAL = 1.0


class Janitor:
    """``cancel`` asks PostgreSQL to cancel what runs on a server (may switch; DoormanError when it can't)."""

    def __init__(self, cancel: Callable[[Server], None]) -> None:
        self._cancel = cancel
        self._at_work = Group()

    def tidy(self, pool: Pool, server: Server) -> None:
        """Clean ``server`` and give it back to ``pool``; returns at once."""
        self._at_work.spawn(self._guarded, pool, server, False, False)

    def abandon(self, pool: Pool, server: Server, in_batch: bool, half_sent: bool) -> None:
        """As tidy, for a server whose client vanished.

        ``in_batch``: a Sync is missing; ``half_sent``: a message was cut off, the server can't be saved.
        """
        server.enter(states.CLEANING)
        if half_sent or server.fatal_received or server.stream.eof or server.stream.send_failed:
            pool.discard(server, "client left in the middle of a message" if half_sent else "server has gone")
            return
        if server.condemned:
            self._at_work.spawn(self._cut_short, pool, server)
            return
        self._at_work.spawn(self._guarded, pool, server, True, in_batch)

    def finish(self) -> None:
        """Wait until every server in hand has been dealt with; may switch, for CLEANING_TIMEOUT at most."""
        self._at_work.join()

    def _cut_short(self, pool: Pool, server: Server) -> None:
        """Close a server nobody is to have any more, and have PostgreSQL end what runs there; may switch."""
        try:
            if server.replies.count:
                self._cancel(server)
        except DoormanError as exc:
            log.warning("what ran on server #%d (pid %d) was not cancelled: %s", server.id, server.pid, exc.message)
        finally:
            pool.discard(server, server.condemned)

    def _guarded(self, pool: Pool, server: Server, abandoned: bool, in_batch: bool) -> None:
        """The greenlet: one deadline around everything, and the server goes somewhere in any case."""
        reason = ""
        server.stream.task = Task(pool.engine)
        try:
            with gevent.Timeout(CLEANING_TIMEOUT, ServerGone("cleaning took too long")):
                while server.cancels:
                    gevent.sleep(0.002)
                if abandoned:
                    self._end(server, in_batch)
                self._clean(server, pool)
        except DoormanError as exc:
            reason = f"cleaning failed: {exc.message}"
        finally:
            # Runs for GreenletExit, too: a server must never stay with a janitor that has gone.
            server.stream.task = None
            pool.probes.ended(server)
            if reason or not server.is_reusable() or server.dirty:
                pool.discard(server, reason or "cleaning was cut short")
            else:
                pool.settle(server)

    def _end(self, server: Server, in_batch: bool) -> None:
        """Bring an abandoned server to the end of its transaction; may switch."""
        replies = server.replies
        stream = server.stream
        if replies.copy_in:
            stream.write(messages.copy_fail("client has gone"))
            replies.add(COPY_END)
            in_batch = in_batch or replies.count == 1
        if in_batch or replies.skipping:
            # A Sync commits the batch that its client did not finish, unless something in it fails first.
            stream.write(messages.execute(NO_PORTAL) + messages.sync())
            replies.add(EXECUTE | SWALLOW)
            replies.add(SYNC | SWALLOW)
        stream.flush()
        if replies.count:
            self._cancel(server)
            drain(server)
        if replies.skipping:  # an error, and no Sync of the client's behind it
            stream.write(messages.sync())
            replies.add(SYNC | SWALLOW)
            drain(server)
        if replies.status != consts.TX_IDLE:
            run(server, "ROLLBACK")

    def _clean(self, server: Server, pool: Pool) -> None:
        """Take away what the session left, or if it left nothing see that the server is alive; may switch."""
        if server.dirty & DIRTY_DOUBTED:
            if pool.standing is not None:
                with gevent.Timeout(ASKING_TIMEOUT, ServerGone("has not told what its host is")):
                    why = unmet(server, pool.settings.target_session_attrs)
                pool.standing.judge(server, why)
            server.dirty &= ~DIRTY_DOUBTED
            if not server.dirty:
                return
        dirty = server.dirty
        if not dirty:
            run(server, "")
            return
        if dirty & (DIRTY_LIBRARY | DIRTY_SLOTS | DIRTY_UNKNOWN):
            raise ServerGone("what its client left on it can't be taken away")
        if not pool.settings.cleanup_server_connections and pool.settings.session_state != "transparent":
            server.dirty = 0
            return
        for sql in cleaning_sql(dirty, server.base.role != NO_ROLE):
            run(server, sql)
        if dirty & (DIRTY_PARAMETERS | DIRTY_CUSTOM | DIRTY_TAKEN_BACK | DIRTY_SESSION):
            server.applied = BASE
        if dirty & (DIRTY_PREPARED | DIRTY_SESSION):
            server.statements.clear()
        server.dirty = 0

    def sweep_forever(self, pools: Callable[[], Sequence[Pool]], interval: float) -> None:
        """The janitor's greenlet: every ``interval`` seconds, close what is too old and keep the warm minimum."""
        while True:
            for pool in pools():
                sweep(pool, clock())
            gevent.sleep(interval)
