"""Clients and servers that come from another process, the one before this one or another worker, and go on here."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import gevent
from gevent.lock import BoundedSemaphore

from pgdoorman_lib.client import handover as clients
from pgdoorman_lib.client.handover import Arrived, Unwanted
from pgdoorman_lib.errors import DoormanError
from pgdoorman_lib.net.engine import Task
from pgdoorman_lib.net.parcel import Parcel, Receiver, Refused
from pgdoorman_lib.net.stream import Stream, check_exported
from pgdoorman_lib.pool.holding import open_servers
from pgdoorman_lib.pool.lending import take_settings_back
from pgdoorman_lib.pool.pool import Pool
from pgdoorman_lib.server import handover as servers
from pgdoorman_lib.server import states
from pgdoorman_lib.server.connection import Server
from pgdoorman_lib.supervisor.cancels import wanted
from pgdoorman_lib.wire.handover import Book

if TYPE_CHECKING:
    from pgdoorman_lib.app import App


class Intake(Receiver):
    """Takes what one other process sends for ``app``: SERVER, CLIENT, CANCEL.

    A kind more is a method ``_prepare_KIND`` and one ``_take_KIND`` in a class derived from this. They are called in
    the channel's greenlet, which must not wait.
    """

    def __init__(self, app: App) -> None:
        self._app = app
        #: what many of its clients and servers have in common
        self._book = Book()
        self._asking = BoundedSemaphore(1)

    def prepare(self, parcel: Parcel) -> None:
        try:
            getattr(self, f"_prepare_{parcel.kind}", super().prepare)(parcel)
        except (Unwanted, KeyError, TypeError, ValueError) as exc:
            raise Refused(str(exc) if isinstance(exc, Unwanted) else f"{type(exc).__name__}: {exc}") from exc

    def take(self, parcel: Parcel) -> None:
        getattr(self, f"_take_{parcel.kind}")(parcel)

    def _refuse_at_the_end(self) -> None:
        """Refused when this process has been told to end."""
        if self._app.draining:
            raise Refused("this process ends")

    # Cancel requests.

    def _prepare_cancel(self, parcel: Parcel) -> None:
        parcel.prepared = wanted(parcel, self._app.clients)

    def _take_cancel(self, parcel: Parcel) -> None:
        gevent.spawn(self._app.cancel_here, *parcel.prepared)

    # Servers.

    def _prepare_server(self, parcel: Parcel) -> None:
        (_,) = parcel.descriptors
        self._refuse_at_the_end()
        state = parcel.state
        pool = self._app.find_pool(state["database"], state["user"])
        if pool is None or pool.held:
            raise Refused("there is no such pool, or it is paused")
        check_exported(state["stream"])
        if not servers.suits(state, pool.settings):
            raise Refused("by the configuration of its pool it would be another")
        parcel.prepared = pool

    def _take_server(self, parcel: Parcel) -> None:
        pool: Pool = parcel.prepared
        (fd,) = parcel.detach()
        server = self._server(pool, fd, parcel.state)
        if self._app.connector.knows(pool):
            pool.settle(server)
        else:
            gevent.spawn(self._welcome, pool, server)

    def _server(self, pool: Pool, fd: int, state: dict[str, Any]) -> Server:
        """A server that has come, which counts as borrowed."""
        told = state["stream"]
        stream = Stream(socket.socket(fileno=fd), self._app.engine, told["peer_host"], told["peer_port"])
        stream.carry_on(told)
        server = servers.unpack(state, stream, pool.settings, self._book)
        pool.adopt(server)
        if open_servers(pool) > pool.size:
            server.condemn("the pool has as many servers as it may have by now")
        return server

    def _know(self, pool: Pool, server: Server) -> bool:
        """Have known what must be of a database before its first server is lent; whether it is. May switch."""
        connector = self._app.connector
        with self._asking:  # once for all that have come
            try:
                if not connector.knows(pool):
                    connector.know(pool, server)
            except DoormanError as exc:
                pool.discard(server, exc.message)
        return server.stage != states.CLOSED

    def _welcome(self, pool: Pool, server: Server) -> None:
        server.stream.task = Task(self._app.engine)
        try:
            take_settings_back(server)
        except DoormanError as exc:
            pool.discard(server, exc.message)
            return
        finally:
            server.stream.task = None
        if self._know(pool, server):
            pool.settle(server)

    # Clients.

    def _prepare_client(self, parcel: Parcel) -> None:
        self._refuse_at_the_end()
        kept = parcel.state.get("server")
        if len(parcel.descriptors) != (1 if kept is None else 2):
            raise Refused("a client has one socket, and one more with the server that it keeps")
        if kept is not None:
            check_exported(kept["stream"])
        pool = parcel.prepared = clients.find_pool(self._app, parcel.state)
        if kept is not None and not servers.suits_its_client(kept, pool.settings):
            raise Refused("it keeps a server, and its pool has others")

    def _take_client(self, parcel: Parcel) -> None:
        pool: Pool = parcel.prepared
        state = parcel.state
        fd, *more = parcel.detach()
        sock = Arrived(fileno=fd)
        if not more:
            clients.arrive(self._app, sock, pool, state, None, self._book)
            return
        server = self._server(pool, more[0], state["server"])
        server.enter(states.ACTIVE)
        if not servers.suits(state["server"], pool.settings):
            server.condemn("the configuration of its pool has changed")
        if self._app.connector.knows(pool):
            clients.arrive(self._app, sock, pool, state, server, self._book)
        else:
            gevent.spawn(self._welcome_with, sock, pool, state, server)

    def _welcome_with(self, sock: Arrived, pool: Pool, state: dict[str, Any], server: Server) -> None:
        """Serve a client that keeps its server, once enough is known; may switch."""
        if self._know(pool, server):
            clients.arrive(self._app, sock, pool, state, server, self._book)
        else:
            sock.close()
