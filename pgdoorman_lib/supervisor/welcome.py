"""Servers and clients that come from another process, and how they become this one's: in an upgrade, and from workers.

The methods are called as those of ``net.parcel.Receiver``: ``prepare…`` makes ready (Refused), ``take…`` begins,
``drop…`` undoes the first. From ``prepare`` on a server has its place in its pool.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import gevent
from gevent.lock import BoundedSemaphore

from pgdoorman_lib.client import handover as clients
from pgdoorman_lib.client.handover import Arrived
from pgdoorman_lib.errors import DoormanError
from pgdoorman_lib.net.engine import Task
from pgdoorman_lib.net.parcel import Parcel, Refused
from pgdoorman_lib.net.stream import Stream, check_exported
from pgdoorman_lib.net.syscalls import clock
from pgdoorman_lib.pool.holding import open_servers
from pgdoorman_lib.pool.lending import take_settings_back
from pgdoorman_lib.pool.opening import RENEWED
from pgdoorman_lib.pool.pool import Pool
from pgdoorman_lib.server import handover as servers
from pgdoorman_lib.server import states
from pgdoorman_lib.server.connection import Server
from pgdoorman_lib.wire.handover import Book

if TYPE_CHECKING:
    from pgdoorman_lib.app import App


class Welcome:
    """Takes them in for ``app``; ``book`` gives what has the statements that have come with others."""

    def __init__(self, app: App, book: Callable[[], Book]) -> None:
        self._app = app
        self._book = book
        #: what comes is another pooler's, of the process before this one
        self.from_before = False
        self._asking = BoundedSemaphore(1)

    def refuse_at_the_end(self) -> None:
        """Refused when this process has been told to end."""
        if self._app.draining:
            raise Refused("this process ends")

    # Servers.

    def prepare_server(self, parcel: Parcel) -> None:
        """Of kind SERVER."""
        (_,) = parcel.descriptors
        self.refuse_at_the_end()
        state = parcel.state
        pool = self._app.find_pool(state["database"], state["user"])
        if pool is None or pool.held:
            raise Refused("there is no such pool, or it is paused")
        check_exported(state["stream"])
        if not servers.suits(state, pool.settings):
            raise Refused("by the configuration of its pool it would be another")
        pool.expect()
        pool.set_aside(1)
        parcel.prepared = pool

    def drop_server(self, parcel: Parcel) -> None:
        """Of kind SERVER."""
        parcel.prepared.free_place()
        parcel.prepared.set_aside(-1)

    def take_server(self, parcel: Parcel) -> None:
        """Of kind SERVER."""
        pool: Pool = parcel.prepared
        (fd,) = parcel.detach()
        try:
            server = self._server(pool, fd, parcel.state)
        except BaseException:
            pool.set_aside(-1)
            raise
        if self._app.connector.knows(pool, server) and pool.beginnings.reported is not None:
            self._lend(pool, server)
        else:
            gevent.spawn(self._welcome, pool, server)

    def _lend(self, pool: Pool, server: Server) -> None:
        """From here on it rests, or whoever waits here has it; no switch."""
        self._app.engine.now = clock()  # no turn of the engine has told the time
        if pool.queue.waiting:
            pool.set_aside(-1)
            pool.settle(server)
        else:
            pool.settle(server)
            pool.set_aside(-1)  # not before it rests: there is one at any time, for who looks

    def _server(self, pool: Pool, fd: int, state: dict[str, Any]) -> Server:
        """A server that has come, which counts as borrowed."""
        try:
            told = state["stream"]
            stream = Stream(socket.socket(fileno=fd), self._app.engine, told["peer_host"], told["peer_port"])
            stream.carry_on(told)
            server = servers.unpack(state, stream, pool.settings, self._book())
        except BaseException:
            pool.free_place()
            raise
        pool.adopt(server)
        pool.beginnings.meet(server)
        if open_servers(pool) > pool.size or self._is_overfull(pool):
            server.condemn("the pool has as many servers as it may have by now")
        elif server.created_at < pool.opening.renewed_at:
            server.condemn(RENEWED)
        return server

    def _is_overfull(self, pool: Pool) -> bool:
        """Whether all workers together have more than the pool may have, as when it was larger before an upgrade.

        Of servers from other workers this can't be told: both count one that is on its way.
        """
        return self.from_before and pool.row is not None and bool(pool.row.is_overfull(pool.most))

    def _know(self, pool: Pool, server: Server) -> bool:
        """Have known what must be of a database before its first server is lent; whether it is. May switch."""
        connector = self._app.connector
        with self._asking:  # once for all that have come
            try:
                if not connector.knows(pool, server):
                    connector.know(pool, server)
            except DoormanError as exc:
                pool.discard(server, exc.message)
        return server.stage != states.CLOSED

    def _welcome(self, pool: Pool, server: Server) -> None:
        """Have a server that has come lent once enough is known; may switch."""
        try:
            lendable = self._is_in_order(pool, server) and self._know(pool, server)
        except BaseException:
            pool.set_aside(-1)
            raise
        if lendable:
            self._lend(pool, server)
        else:
            pool.set_aside(-1)

    def _is_in_order(self, pool: Pool, server: Server) -> bool:
        """Whether nothing is in effect on a server that its last client has set; it is closed if not. May switch."""
        server.stream.task = Task(self._app.engine)
        try:
            take_settings_back(server)
        except DoormanError as exc:
            pool.discard(server, exc.message)
            return False
        finally:
            server.stream.task = None
        if pool.beginnings.reported is None:
            pool.beginnings.learn(server)
        return True

    # Clients.

    def prepare_client(self, parcel: Parcel) -> None:
        """Of kind CLIENT."""
        self.refuse_at_the_end()
        kept = parcel.state.get("server")
        if len(parcel.descriptors) != (1 if kept is None else 2):
            raise Refused("a client has one socket, and one more with the server that it keeps")
        if kept is not None:
            check_exported(kept["stream"])
        pool = parcel.prepared = clients.find_pool(self._app, parcel.state)
        if kept is not None and not servers.suits_its_client(kept, pool.settings):
            raise Refused("it keeps a server, and its pool has others")
        self._app.expect(parcel.state["database"], parcel.state["user"])
        if kept is not None:
            pool.expect()

    def drop_client(self, parcel: Parcel) -> None:
        """Of kind CLIENT."""
        self._app.dismiss(parcel.state["database"], parcel.state["user"])
        if parcel.state.get("server") is not None:
            parcel.prepared.free_place()

    def take_client(self, parcel: Parcel) -> None:
        """Of kind CLIENT."""
        pool: Pool = parcel.prepared
        state = parcel.state
        fd, *more = parcel.detach()
        sock = Arrived(fileno=fd)
        if not more:
            clients.arrive(self._app, sock, pool, state, None, self._book())
            return
        server = self._server(pool, more[0], state["server"])
        server.enter(states.ACTIVE)
        if not servers.suits(state["server"], pool.settings):
            server.condemn("the configuration of its pool has changed")
        if self._app.connector.knows(pool, server):
            clients.arrive(self._app, sock, pool, state, server, self._book())
        else:
            gevent.spawn(self._welcome_with, sock, pool, state, server)

    def _welcome_with(self, sock: Arrived, pool: Pool, state: dict[str, Any], server: Server) -> None:
        """Serve a client that keeps its server, once enough is known; may switch."""
        if self._know(pool, server):
            clients.arrive(self._app, sock, pool, state, server, self._book())
        else:
            sock.close()
            self._app.dismiss(state["database"], state["user"])
