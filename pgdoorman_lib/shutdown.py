"""The end of the process: how it is asked for, and what becomes of the clients' connections.

Modes: ``drain`` tells idle clients to go and gives open transactions until shutdown_timeout; ``servers`` gives them all
the time they need, but nobody who waits for a server gets one; ``clients`` tells nobody anything, and waits until the
last client has left; ``now`` waits for nothing. One can be followed by another that waits less: so those at the console
stay meanwhile, although the last client may be another process's.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import gevent
import gevent.event

from pgdoorman_lib.client.connection import Connection
from pgdoorman_lib.client.pooler import GOODBYE, Pooler
from pgdoorman_lib.errors import ShuttingDown
from pgdoorman_lib.net.parcel_terms import ParcelError
from pgdoorman_lib.net.syscalls import clock
from pgdoorman_lib.pool.holding import Target
from pgdoorman_lib.views import Operations

log = logging.getLogger(__name__)

#: From the one that waits longest to the one that waits least.
MODES = ("clients", "servers", "drain", "now")

#: Seconds for clients that are ended to take our last words.
LAST_WORDS = 1.0
#: Seconds between two looks at who is left.
LOOK_INTERVAL = 0.02


class Shutdown:
    """The end of ``pooler``'s clients, once somebody has asked for it.

    ``operations`` acts on them, what ``everyones`` gives on those of all processes.
    """

    def __init__(self, pooler: Pooler, operations: Operations, everyones: Callable[[], Operations]) -> None:
        self._pooler = pooler
        self._operations = operations
        self._everyones = everyones
        self._asked = gevent.event.Event()
        self._hurry = gevent.event.Event()
        self._mode = MODES[0]

    def begin(self, mode: str) -> None:
        """Ask for the end, or for one that waits less than the last; from anywhere, no switch."""
        if not self._asked.is_set() or MODES.index(mode) > MODES.index(self._mode):
            self._mode = mode
        if mode == "now":
            self._hurry.set()
        self._asked.set()

    def hurry(self) -> None:
        """Wait for nothing any more; no switch."""
        self._hurry.set()

    def wait(self) -> None:
        """Wait until somebody asks for the end; may switch."""
        self._asked.wait()

    def carry_out(self, limit: float) -> None:
        """Have the clients' connections end, by the mode; ``limit`` is shutdown_timeout, seconds. May switch.

        Nobody comes in any more.
        """
        if self._mode == "clients":
            log.info("shutting down, waiting for the last client to leave")
            while self._mode == "clients" and self._is_for_clients() and not self._hurry.is_set():
                self._look_again()
        if self._mode == "servers":
            log.info("shutting down, waiting for open transactions")
            self._operations.pause(Target())
            self._operations.fail_waiters(ShuttingDown(GOODBYE))
            self._tell()
            while self._mode == "servers" and self._operations.clients(Target()) and not self._hurry.is_set():
                self._look_again()
        if self._mode == "drain":
            log.info("shutting down, waiting up to %g s for open transactions", limit)
        self._tell()
        deadline = clock() + limit
        while self._pooler.open and clock() < deadline and not self._hurry.is_set():
            self._look_again()
        if self._pooler.open:
            self._kill()

    def _is_for_clients(self) -> bool:
        """Whether there is a client, here, or for those at our console in any process; may switch."""
        if self._operations.clients(Target()):
            return True
        try:
            return bool(self._pooler.open) and bool(self._everyones().clients(Target()))
        except ParcelError:
            return False  # nobody can be asked any more

    def _look_again(self) -> None:
        self._hurry.wait(LOOK_INTERVAL)

    def _tell(self) -> None:
        for connection in list(self._pooler.open):
            connection.terminate_when_idle(ShuttingDown(GOODBYE))

    def _kill(self) -> None:
        left: set[Connection] = self._pooler.open
        log.warning(
            "graceful shutdown %s: %d clients are disconnected",
            "cut short" if self._hurry.is_set() else "timed out",
            len(left),
        )
        for connection in left:
            connection.kill(ShuttingDown(GOODBYE))
        deadline = clock() + LAST_WORDS
        while left and clock() < deadline:
            gevent.sleep(LOOK_INTERVAL / 2)
