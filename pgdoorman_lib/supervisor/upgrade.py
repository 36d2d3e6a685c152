"""The old process of an upgrade: it starts the new one, and hands its listeners, clients and servers over.

Rules:
1. Until the new process has said that it can listen (READY) nothing changes here; whatever goes wrong before that, it
   is ended and this process goes on as if nothing had been.
2. With BEGIN the new process is the pooler. This one accepts nobody any more, opens no server, and hands over what
   has nothing under way: servers at rest first, then clients, each when its transaction has ended.
3. A client or server belongs to exactly one of the two (``net.parcel``). Should the new process die, this one is the
   pooler again, for those it still has.
4. Both together have no more servers than pool_size: the new one counts ours (HELD).
"""

from __future__ import annotations

import logging
import os
import socket
import subprocess
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import gevent
import gevent.event
from gevent.pool import Pool as Greenlets

from pgdoorman_lib.client import handover as clients
from pgdoorman_lib.client.connection import Connection
from pgdoorman_lib.client.departure import Departure
from pgdoorman_lib.client.pooler import GOODBYE
from pgdoorman_lib.client.session import Session
from pgdoorman_lib.errors import ConfigError, DoormanError, ShuttingDown
from pgdoorman_lib.net.parcel import Channel, Parcel, ParcelError, Receiver, Refused
from pgdoorman_lib.net.syscalls import clock
from pgdoorman_lib.net.tls_secrets import CanNotMove
from pgdoorman_lib.pool import handover as pools
from pgdoorman_lib.pool.pool import Pool
from pgdoorman_lib.server import handover as servers
from pgdoorman_lib.server.connection import Server
from pgdoorman_lib.supervisor import kinds
from pgdoorman_lib.supervisor.cancels import pass_on, wanted
from pgdoorman_lib.supervisor.program import END_SECONDS, Program, end
from pgdoorman_lib.supervisor.staying import Staying, most_kept

if TYPE_CHECKING:
    from pgdoorman_lib.app import App

log = logging.getLogger(__name__)

#: Seconds for one client or server to go over.
PARCEL_SECONDS = 10.0
#: Seconds there are for it all, however short shutdown_timeout is: those who have nothing under way need some.
LEAST_SECONDS = 5.0
#: Seconds between two looks at what can go.
LOOK_INTERVAL = 0.005
#: Clients asked to leave in one go.
PORTION = 200


class UpgradeFailed(DoormanError):
    """The new process did not get so far: this one goes on."""

    sqlstate = "58000"


class Upgrade:
    """One attempt to hand ``app`` over to a new process."""

    def __init__(self, app: App, program: Program) -> None:
        self._app = app
        self._program = program
        self._channel: Channel | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._ready = gevent.event.Event()
        #: the new process is the pooler
        self.begun = app.listeners.handed_over = False
        self._moving = Greenlets()
        self._staying = Staying()
        self._told: dict[tuple[str, str], int] = {}
        self._moved_clients = 0
        self._moved_servers = 0

    # The new process.

    def start(self) -> None:
        """Start the new process, and have it be the pooler; may switch. UpgradeFailed: it is not."""
        try:
            self._start_child()
            self._hand_listeners_over()
            self._wait_until_ready()
            self._begin()
        except (OSError, ParcelError) as exc:
            raise self._failed(str(exc)) from exc
        except BaseException:
            self._end_child()
            raise

    def _start_child(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            log.info("upgrade: starting %s", " ".join(self._program.command))
            self._child = self._program.start_successor(theirs)  # switch
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        self._channel = Channel(ours, _FromSuccessor(self._app, self._ready.set))
        self._channel.start(self._app.general.upgrade_timeout)  # switch
        log.info("upgrade: process %d is version %s", self._child.pid, self._channel.peer_product)

    def _hand_listeners_over(self) -> None:
        app = self._app
        listening = [*app.listeners.sockets(), *app.telemetry.sockets()]
        for name, sock in listening:
            self._send(kinds.LISTENER, {"name": name}, [sock.fileno()])
        if app.pid_file is not None:
            self._send(kinds.PID_FILE, {"path": os.path.realpath(app.pid_file.path)}, [app.pid_file.fd])
        self._send(kinds.LISTENERS, {"count": len(listening), "activated": app.listeners.activated})

    def _wait_until_ready(self) -> None:
        assert self._channel is not None
        limit = self._app.general.upgrade_timeout
        gevent.wait((self._ready, self._channel.ended), timeout=limit, count=1)
        if self._app.draining:
            raise self._failed("this process was told to end")
        if self._ready.is_set():
            return
        raise self._failed("it has ended" if self._channel.ended.is_set() else f"it was not ready within {limit:g} s")

    def _begin(self) -> None:
        """From here on the new process accepts clients; no server is opened here any more."""
        app = self._app
        app.listeners.pause()
        app.telemetry.pause()
        staying = self._staying.find(app.open)
        app.listeners.handed_over = True  # should this process be told to end while it is
        try:
            for pool in app.pools:
                pool.size = self._staying.room(pool)
            state = {
                "clients": app.clients.last,
                "numbers": app.clients.numbers(),
                "pools": [pools.pack(pool) for pool in app.pools],
                **app.ordered(),
            }
            self._send(kinds.BEGIN, state)  # switch
        except BaseException:
            self._resume()
            raise
        self.begun = True
        app.take_away = self._take
        if app.pid_file is not None:
            app.pid_file.leave()
        app.systemd.main_pid(self._pid)
        app.systemd.close()
        log.info("upgrade: process %d serves new clients; those here move to it", self._pid)
        try:
            self._send(kinds.MAIN, {})
        except ParcelError as exc:
            log.debug("upgrade: it could not be told that it is the service's process: %s", exc)
        for session, reason in staying:
            self._stays(session, reason)

    def _failed(self, reason: str) -> UpgradeFailed:
        """End the new process, and say why."""
        code = self._end_child()
        if code is not None and code >= 0:
            reason = f"{reason} (exit code {code})"
        log.error("upgrade failed, this process goes on: %s", reason)
        return UpgradeFailed(f"upgrade failed: {reason}", hint="The log of the new process says more.")

    def _end_child(self) -> int | None:
        """See that the new process has ended; its exit code, None if it was ended. May switch."""
        if self._channel is not None:
            self._channel.close(0.0)
        return end(self._child) if self._child is not None else None

    @property
    def _pid(self) -> int:
        assert self._child is not None
        return int(self._child.pid)

    def _send(self, kind: str, state: dict[str, Any], descriptors: Iterable[int] = ()) -> None:
        """Send a parcel; may switch. ParcelError: it has not gone."""
        assert self._channel is not None
        self._channel.send(Parcel(kind, state, list(descriptors)), PARCEL_SECONDS)

    # Handing over.

    def carry_out(self) -> str:
        """Hand over until nobody is left, or shutdown_timeout; may switch.

        Returns how this process is to end, in one of ``shutdown.MODES``; empty: it is the pooler again.
        """
        channel = self._channel
        assert channel is not None
        deadline = clock() + max(LEAST_SECONDS, self._app.general.shutdown_timeout)
        self._ask_to_leave()
        channel.ended.wait(LOOK_INTERVAL)  # switch: before servers go, those that are refused are known
        while self._app.open and clock() < deadline and not channel.ended.is_set():
            self._ask_to_leave()
            self._move_servers()
            self._tell_counts()
            channel.ended.wait(LOOK_INTERVAL)  # switch
            if not any(self._may_leave(connection) for connection in self._app.open):
                self._dismiss_consoles()
        self._moving.join()
        while self._move_servers():
            self._moving.join()
        self._tell_counts()
        if channel.ended.is_set():
            return self._outlive()
        log.info(
            "upgrade: process %d has taken %d clients and %d servers; %d clients are left here",
            *(self._pid, self._moved_clients, self._moved_servers, len(self._app.open)),
        )
        return "now"

    def _outlive(self) -> str:
        """The new process has ended before this one: as ``carry_out``."""
        assert self._child is not None
        try:
            code = self._child.wait(END_SECONDS)  # switch
        except subprocess.TimeoutExpired:
            code = 0  # it goes on without us
        if code == 0:
            # It was told to end, or hands over by now: there must be no second pooler.
            log.warning("upgrade: process %d needs nobody here any more; this one ends, too", self._pid)
            self._app.take_away = None
            return "drain"
        self._resume()
        return ""

    def _stays(self, session: Session, reason: str) -> None:
        """A client is left to this process; where that can keep no server for it, it ends with its transaction."""
        self._staying.add(session)
        log.info("%s stays with this process: %s", session.label(), reason)
        if not most_kept(session.link.pool):
            session.terminate_when_idle(ShuttingDown(GOODBYE))

    def _may_leave(self, connection: Connection) -> bool:
        """Whether a client may yet go over: one that logs in may, too."""
        session = connection.session
        if session is None:
            return not self._is_console(connection)
        return isinstance(session, Session) and session not in self._staying

    def _is_console(self, connection: Connection) -> bool:
        return bool(connection.admitted) and self._app.policy.is_admin_database(connection.database)

    def _ask_to_leave(self) -> None:
        asked = 0
        for connection in list(self._app.open):
            session = connection.session
            if not isinstance(session, Session) or session.task is None:
                continue
            if session.leaving or session.termination is not None or session in self._staying:
                continue
            session.termination = Departure(self._take)
            session.task.wake()
            asked += 1
            if asked == PORTION:
                break

    def _take(self, session: Session) -> bool:
        """See ``Departure``: this is the client's greenlet."""
        link = session.link
        server = link.server
        session.leaving = 1
        try:
            state = clients.pack(session)
            descriptors = [link.client.fd]
            if server is not None:
                descriptors.append(server.stream.fd)
                state["server"] = servers.pack(server)
            self._send(kinds.CLIENT, state, descriptors)  # switch: nobody else touches its sockets meanwhile
        except (CanNotMove, Refused) as exc:
            self._stays(session, str(exc))
            return False
        except ParcelError as exc:
            log.debug("%s could not go: %s", session.label(), exc)
            return False
        finally:
            session.leaving = 0
        self._moved_clients += 1
        if server is not None:
            clients.part_from_server(session)
        link.client.abandon()
        return True

    def _move_servers(self) -> int:
        """Begin to move what rests and is not needed by those who stay; how many."""
        begun = 0
        entering = {
            (connection.database, connection.user)
            for connection in self._app.open
            if connection.session is None and connection.user
        }
        for pool in self._app.pools:
            while self._may_spare(pool, entering):
                server = pools.begin(pool)
                if server is None:
                    break
                begun += 1
                self._moving.spawn(self._move_server, pool, server)
        return begun

    def _may_spare(self, pool: Pool, entering: set[tuple[str, str]]) -> bool:
        """Whether a server of ``pool`` at rest can go: some are for clients that stay, one for who is ``entering``.

        A login may have to ask a server (``client.begin``), and none is opened here any more.
        """
        kept = self._staying.kept(pool)
        if (pool.settings.database, pool.settings.user) in entering:
            kept = max(kept, 1)
        return not pool.queue.waiting and len(pool.servers) > kept

    def _move_server(self, pool: Pool, server: Server) -> None:
        of_pool = {"database": pool.settings.database, "user": pool.settings.user}
        try:
            state = {**servers.pack(server), **of_pool}
            self._send(kinds.SERVER, state, [server.stream.fd])  # switch
        except (CanNotMove, ParcelError) as exc:
            pool.discard(server, f"the new process does not take it: {exc}")
            return
        self._moved_servers += 1
        pools.gone(pool, server)

    def _tell_counts(self) -> None:
        """Tell the new process of how many servers it has to leave room, where that has changed."""
        changed = []
        for pool in self._app.pools:
            key = (pool.settings.database, pool.settings.user)
            number = self._staying.room(pool)
            pool.size = min(pool.size, number)  # what was closed is the new process's to open
            if self._told.get(key) != number:
                self._told[key] = number
                changed.append([*key, number])
        if changed:
            try:
                self._send(kinds.HELD, {"pools": changed})  # switch
            except ParcelError as exc:
                log.debug("upgrade: counts were not told: %s", exc)

    def _dismiss_consoles(self) -> None:
        """Nobody else is left: whoever sits at the console has to come again."""
        for connection in list(self._app.open):
            if self._is_console(connection):
                connection.terminate_when_idle(ShuttingDown(GOODBYE))

    def _resume(self) -> None:
        """The new process is none any more: be the pooler again."""
        app = self._app
        app.take_away = None
        if self.begun:
            log.error("upgrade: process %d has gone with %d clients; this one goes on", self._pid, self._moved_clients)
        self.begun = app.listeners.handed_over = False
        for connection in list(app.open):
            session = connection.session
            if isinstance(session, Session) and isinstance(session.termination, Departure):
                session.termination = None
        for pool in app.pools:
            pool.size = pool.settings.pool_size
            pool.opening.grow(clock())
        app.listeners.resume()
        app.telemetry.resume()
        if app.pid_file is not None and app.pid_file.fd < 0:
            try:
                app.pid_file.take()
            except ConfigError as exc:
                log.error("%s", exc.message)

    def pass_cancel_on(self, number: int, secret: bytes) -> None:
        """Somebody has asked us, and we have not got that client; may switch."""
        if self.begun and self._channel is not None:
            pass_on(self._channel, self._app.cancel_here, number, secret)


class _FromSuccessor(Receiver):
    """What the new process says, to ``app``; ``ready`` is called when it can listen."""

    def __init__(self, app: App, ready: Callable[[], object]) -> None:
        self._app = app
        self._ready = ready

    def prepare(self, parcel: Parcel) -> None:
        if parcel.kind == kinds.CANCEL:
            parcel.prepared = wanted(parcel, self._app.clients)
        elif parcel.kind != kinds.READY:
            super().prepare(parcel)

    def take(self, parcel: Parcel) -> None:
        if parcel.kind == kinds.READY:
            self._ready()
        else:
            gevent.spawn(self._app.cancel, *parcel.prepared)  # which finds those, too, that go meanwhile
