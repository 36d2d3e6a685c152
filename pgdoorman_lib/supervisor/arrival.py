"""The new process of an upgrade: it takes listeners, clients and servers from the old one (``supervisor.upgrade``)."""

from __future__ import annotations

import logging
import os
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import gevent
import gevent.event
from gevent.lock import BoundedSemaphore

from pgdoorman_lib.client import handover as clients
from pgdoorman_lib.client.handover import Arrived, Unwanted
from pgdoorman_lib.errors import ConfigError, DoormanError
from pgdoorman_lib.listener import Inherited
from pgdoorman_lib.net import tls13
from pgdoorman_lib.net.engine import Task
from pgdoorman_lib.net.parcel import Channel, Parcel, ParcelError, Receiver, Refused
from pgdoorman_lib.net.stream import Stream, check_exported
from pgdoorman_lib.net.syscalls import clock
from pgdoorman_lib.pool import handover as pools
from pgdoorman_lib.pool.holding import open_servers
from pgdoorman_lib.pool.lending import take_settings_back
from pgdoorman_lib.pool.pool import Pool
from pgdoorman_lib.server import handover as servers
from pgdoorman_lib.server import states
from pgdoorman_lib.server.connection import Server
from pgdoorman_lib.supervisor import kinds
from pgdoorman_lib.supervisor.cancels import pass_on, wanted
from pgdoorman_lib.wire.handover import Book

if TYPE_CHECKING:
    from pgdoorman_lib.app import App

log = logging.getLogger(__name__)

#: Seconds for the old process to say what comes next.
STEP_SECONDS = 30.0
#: Seconds for a process that has closed its sockets to be dead.
DEATH_SECONDS = 0.5
#: Numbers of clients that are left to the old process, for those who log in there until it accepts nobody any more.
NUMBERS_LEFT = 100_000


class Arrival(Receiver):
    """What comes from the process at the other end of ``sock``, for ``app``."""

    def __init__(self, app: App, sock: socket.socket) -> None:
        self._app = app
        self._channel = Channel(sock, self)
        self._old_process = os.getppid()
        #: it has died too early
        self._alone = False
        self._begun = gevent.event.Event()
        self._listening = gevent.event.Event()
        self._main = gevent.event.Event()
        #: its sockets stand in for those of the configuration
        self._activated = False
        #: daemon_pid_file, open
        self._pid_file = -1
        self._book = Book()
        self._asking = BoundedSemaphore(1)
        #: what its clients had when this one became the pooler
        self._numbers: list[int] = []
        #: listening sockets nobody has claimed, by name
        self._sockets: dict[str, socket.socket] = {}

    # Before it is the pooler.

    def take_listeners(self) -> list[Inherited]:
        """Have the old process's listening sockets; may switch. ConfigError: there is no such process any more.

        Returns those that are to stand in for all that the configuration names; for the others see ``listener``.
        """
        try:
            self._channel.start(STEP_SECONDS)
        except ParcelError as exc:
            self._given_up(str(exc))
        self._await(self._listening)
        if not self._activated:
            return []
        sockets, self._sockets = self._sockets, {}
        return [Inherited(sock.detach(), name.partition(" ")[0]) for name, sock in sockets.items()]

    def listener(self, name: str) -> socket.socket | None:
        """The socket that listens at ``name`` in the old process, to go on with; None if it does not listen there."""
        return self._sockets.pop(name, None)

    def be_the_pooler(self) -> None:
        """Tell the old process that this one can listen, and wait until it may; may switch. ConfigError: it may not.

        Should the old one have died by then, there is nobody to ask.
        """
        paths = [name for name, sock in self._sockets.items() if sock.family == socket.AF_UNIX]
        for name, sock in self._sockets.items():
            log.info("%s is listened at no more", name)
            sock.close()
        self._sockets = {}
        if self._app.general.tls_certificate:
            tls13.load()  # not while clients wait
        try:
            self._channel.send(Parcel(kinds.READY, {}), STEP_SECONDS)
        except ParcelError as exc:
            self._given_up(str(exc))
        self._await(self._begun)
        for path in paths:  # the old process leaves it to this one
            with suppress(FileNotFoundError):
                os.unlink(path)
        if self._app.pid_file is not None and self._pid_file >= 0:
            self._app.pid_file.inherit(self._pid_file)
        elif self._app.pid_file is not None:
            self._app.pid_file.take()
        gevent.spawn(self._wait_for_its_end)

    def wait_until_main(self) -> None:
        """Wait until who watches the service knows that this is its process, or nobody will tell; may switch."""
        gevent.wait((self._main, self._channel.ended), timeout=STEP_SECONDS, count=1)

    def _await(self, event: gevent.event.Event) -> None:
        gevent.wait((event, self._channel.ended), timeout=STEP_SECONDS, count=1)
        if not event.is_set():
            self._given_up("the old process has said nothing more")

    def _given_up(self, reason: str) -> None:
        """ConfigError, unless the old process has died: then this one is alone, and the pooler."""
        if self._alone:
            return
        self._channel.close(0.0)
        deadline = clock() + DEATH_SECONDS
        while os.getppid() == self._old_process:
            if clock() >= deadline:
                raise ConfigError(f"the upgrade was given up: {reason}")
            gevent.sleep(DEATH_SECONDS / 50)  # switch: a process that dies closes its sockets first
        self._alone = True
        log.warning("upgrade: the old process has died before it had handed anything over; this one serves")

    def _wait_for_its_end(self) -> None:
        self._channel.ended.wait()
        log.info("upgrade: the old process has ended")
        consoles = self._app.consoles
        self._app.clients.release(number for number in self._numbers if number not in consoles)
        self._numbers = []
        self._book = Book()
        for pool in self._app.pools:
            if pool.elsewhere:
                pools.elsewhere(pool, 0)

    def wait_for_its_end(self) -> None:
        """Wait until the old process has handed everything over, or has gone; may switch.

        Whoever hands over to a third process meanwhile would be one that has gone, to the first.
        """
        if not self._channel.ended.is_set():
            log.info("upgrade: waiting for the end of the process before this one")
            self._channel.ended.wait()

    def pass_cancel_on(self, number: int, secret: bytes) -> None:
        """Somebody has asked us, and we have not got that client; may switch."""
        if not self._channel.ended.is_set():
            pass_on(self._channel, self._app.cancel_here, number, secret)

    # As Receiver; in the channel's greenlet, which must not wait.

    def prepare(self, parcel: Parcel) -> None:
        try:
            getattr(self, f"_prepare_{parcel.kind}", super().prepare)(parcel)
        except (Unwanted, KeyError, TypeError, ValueError) as exc:
            raise Refused(str(exc) if isinstance(exc, Unwanted) else f"{type(exc).__name__}: {exc}") from exc

    def take(self, parcel: Parcel) -> None:
        getattr(self, f"_take_{parcel.kind}")(parcel)

    def _prepare_listener(self, parcel: Parcel) -> None:
        (_,) = parcel.descriptors

    def _take_listener(self, parcel: Parcel) -> None:
        (fd,) = parcel.detach()
        self._sockets[parcel.state["name"]] = socket.socket(fileno=fd)

    def _prepare_listeners(self, parcel: Parcel) -> None:
        if parcel.state["count"] != len(self._sockets):
            raise Refused("some are missing")

    def _take_listeners(self, parcel: Parcel) -> None:
        self._activated = bool(parcel.state["activated"])
        self._listening.set()

    def _prepare_pid_file(self, parcel: Parcel) -> None:
        (_,) = parcel.descriptors
        if self._app.pid_file is None or os.path.realpath(self._app.pid_file.path) != parcel.state["path"]:
            raise Refused("the configuration names another")

    def _take_pid_file(self, parcel: Parcel) -> None:
        (self._pid_file,) = parcel.detach()

    def _prepare_main(self, parcel: Parcel) -> None:
        pass

    def _take_main(self, parcel: Parcel) -> None:
        self._main.set()

    def _prepare_begin(self, parcel: Parcel) -> None:
        numbers = [int(number) for number in parcel.state.get("numbers", ())]
        parcel.prepared = parcel.state["pools"], int(parcel.state["clients"]), numbers

    def _take_begin(self, parcel: Parcel) -> None:
        told, last, self._numbers = parcel.prepared
        self._app.clients.go_on_behind(last, NUMBERS_LEFT)
        self._app.clients.reserve(self._numbers)
        self._app.obey(parcel.state)
        for state in told:
            pool = self._app.find_pool(state["database"], state["user"])
            if pool is not None:
                pools.unpack(pool, state)
        self._begun.set()

    def _prepare_held(self, parcel: Parcel) -> None:
        parcel.prepared = [(database, user, int(number)) for database, user, number in parcel.state["pools"]]

    def _take_held(self, parcel: Parcel) -> None:
        for database, user, number in parcel.prepared:
            pool = self._app.find_pool(database, user)
            if pool is not None:
                pools.elsewhere(pool, number)

    def _prepare_cancel(self, parcel: Parcel) -> None:
        parcel.prepared = wanted(parcel, self._app.clients)

    def _take_cancel(self, parcel: Parcel) -> None:
        gevent.spawn(self._app.cancel_here, *parcel.prepared)

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

    def _refuse_at_the_end(self) -> None:
        """Refused when this process has been told to end."""
        if self._app.draining:
            raise Refused("this process ends")

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
