"""An old process of an upgrade that has clients and servers, and hands them over to one of the new processes.

Rules:
1. From ``begin`` on this one accepts nobody, and opens no server but for those that stay. With ``go`` the new program
   is the pooler, and what has nothing under way goes: servers at rest first, then clients, each behind its transaction.
2. A client or server belongs to exactly one of the two (``net.parcel``). Should the process that takes them die, the
   rest goes to another one of the same program, if there is one; if the program itself has ended, ``resume``.
3. Both together have no more servers than pool_size: the new one counts ours (HELD).
"""

from __future__ import annotations

import logging
import socket
from array import array
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import gevent
from gevent.pool import Pool as Greenlets

from pgdoorman_lib.client.connection import Connection
from pgdoorman_lib.client.departure import Departure
from pgdoorman_lib.client.pooler import GOODBYE
from pgdoorman_lib.client.session import Session
from pgdoorman_lib.errors import ShuttingDown
from pgdoorman_lib.net.parcel import Channel, Parcel, ParcelError, Receiver, Refused
from pgdoorman_lib.net.syscalls import clock
from pgdoorman_lib.net.tls_secrets import CanNotMove
from pgdoorman_lib.pool import handover as pools
from pgdoorman_lib.pool.measures import MOVING_SECONDS
from pgdoorman_lib.pool.pool import Pool
from pgdoorman_lib.server import handover as servers
from pgdoorman_lib.server.connection import Server
from pgdoorman_lib.supervisor import kinds
from pgdoorman_lib.supervisor.cancels import Asked, wanted
from pgdoorman_lib.supervisor.host import UpgradeFailed
from pgdoorman_lib.supervisor.moving import PARCEL_SECONDS, send_client
from pgdoorman_lib.supervisor.staying import Staying
from pgdoorman_lib.wire.handover import Plain

if TYPE_CHECKING:
    from pgdoorman_lib.app import App

log = logging.getLogger(__name__)

#: Seconds there are for it all, however short shutdown_timeout is: those who have nothing under way need some.
LEAST_SECONDS = 5.0
#: Seconds between two looks at what can go.
LOOK_INTERVAL = 0.005
#: Clients asked to leave in one go.
PORTION = 200


class HandOver:
    """``app``'s to a new process; ``app`` is ``worker`` of ``workers``.

    ``asked`` is what is to be cancelled there and here.
    ``find_another`` has ``meet`` called with the way to another one when that one has died. It may switch, and says
    whether there is one; if not, who has started the new program sees to what comes next.
    """

    def __init__(self, app: App, find_another: Callable[[], bool], asked: Asked, worker: int, workers: int) -> None:
        self._app = app
        self._asked = asked
        self._find_another = find_another
        self._channel: Channel | None = None
        #: somebody takes over; the new program is the pooler; that is none any more
        self.parted = False
        self.going = False
        self._given_up = False
        self._moving = Greenlets()
        self._staying = Staying(worker, workers)
        self._found: list[tuple[Session, str]] = []
        self._told: dict[tuple[str, str], int] = {}
        self._moved_clients = 0
        self._moved_servers = 0

    def begin(self, end: socket.socket) -> Plain:
        """Accept nobody any more, and tell who has the other ``end`` of our pools; may switch. As ``Serving.part``."""
        app = self._app
        if app.draining:
            end.close()
            raise UpgradeFailed("this process was told to end")
        try:
            self._channel = channel = self._greet(end)
            app.listeners.pause()
            self._found = self._staying.find(app.open)
            for pool in app.pools:
                pool.size = self._staying.room(pool)
                # What another worker has goes to the new process: whoever waits here is served there.
                pool.limit_wait(max(pool.timeout, MOVING_SECONDS))
            self._tell_all(channel)
            if self._given_up:
                raise UpgradeFailed("the upgrade was given up")
        except ParcelError as exc:
            self.resume()
            raise UpgradeFailed(f"the new process took nothing: {exc}") from exc
        except BaseException:
            self.resume()
            raise
        self.parted = True
        return {
            "clients": {"last": app.clients.last, "used": array("i", app.clients.numbers()).tobytes()},
            "ordered": app.ordered(),
        }

    def meet(self, end: socket.socket) -> None:
        """Go on with the process that has the other ``end``; may switch. UpgradeFailed: it does not take anything."""
        try:
            channel = self._greet(end)
            try:
                self._told = {}
                self._tell_all(channel)
            except BaseException:
                channel.close(0.0)
                raise
        except ParcelError as exc:
            raise UpgradeFailed(f"the new process took nothing: {exc}") from exc
        self._channel = channel

    def _greet(self, end: socket.socket) -> Channel:
        receiver = _FromHeir(self._app, self._asked)
        channel = receiver.channel = Channel(end, receiver)
        channel.start(PARCEL_SECONDS)
        return channel

    def _tell_all(self, channel: Channel) -> None:
        """Say what is to come; may switch. ParcelError.

        When it returns our servers count there, whatever becomes of that process: one that is ready for a second parcel
        has taken the first.
        """
        state = {"pools": [pools.pack(pool) for pool in self._app.pools], "ordered": self._app.ordered()}
        channel.send(Parcel(kinds.BEGIN, state), PARCEL_SECONDS)
        channel.send(Parcel(kinds.HELD, {"pools": []}), PARCEL_SECONDS)

    def _send(self, kind: str, state: dict[str, Any], *descriptors: int) -> None:
        """Send a parcel; may switch. ParcelError: it has not gone."""
        assert self._channel is not None
        self._channel.send(Parcel(kind, state, descriptors), PARCEL_SECONDS)

    def go(self) -> None:
        """The new program is the pooler: hand over, and end; returns at once."""
        self.going = True
        self._app.take_away = self._take
        for session, reason in self._found:
            self._stays(session, reason)
        self._found = []
        gevent.spawn(self._carry_out)

    def resume(self) -> None:
        """The new program is none any more: serve again; no switch."""
        app = self._app
        app.take_away = None
        self._given_up = True
        self.going = self.parted = False
        for connection in list(app.open):
            session = connection.session
            if isinstance(session, Session) and isinstance(session.termination, Departure):
                session.termination = None
        for pool in app.pools:
            pool.size = pool.settings.pool_size
            pool.limit_wait(pool.settings.query_wait_timeout)
            pool.opening.grow(clock())
        if not app.draining:
            app.listeners.resume()
        if self._channel is not None:
            gevent.spawn(self._channel.close, 0.0)

    def channels(self) -> list[Channel]:
        """The one to the new process, if that may have clients of ours."""
        channel = self._channel
        return [channel] if channel is not None and self.going and not channel.ended.is_set() else []

    # Until nobody is left.

    def _carry_out(self) -> None:
        """Hand over until nobody is left, or shutdown_timeout, and end; may switch."""
        deadline = clock() + max(LEAST_SECONDS, self._app.general.shutdown_timeout)
        self._ask_to_leave()
        self._pause()  # before servers go, those that are refused are known
        while self._app.open and clock() < deadline and self.going:
            if not self._has_heir():
                return
            self._ask_to_leave()
            self._move_servers()
            self._tell_counts()
            self._pause()
            if not any(self._may_leave(connection) for connection in self._app.open):
                self._dismiss_consoles()
        self._moving.join()
        while self.going and self._move_servers():
            self._moving.join()
        self._tell_counts()
        if not self.going or not self._has_heir():
            return
        log.info(
            "upgrade: the new process has taken %d clients and %d servers; %d clients are left here",
            *(self._moved_clients, self._moved_servers, len(self._app.open)),
        )
        self._app.shutdown("now")

    def _pause(self) -> None:
        assert self._channel is not None
        self._channel.ended.wait(LOOK_INTERVAL)  # switch

    def _has_heir(self) -> bool:
        """Whether there is anybody who takes something, be it another one; may switch."""
        assert self._channel is not None
        if not self._channel.ended.is_set():
            return True
        log.warning("upgrade: the process that took over from this one has gone with %d clients", self._moved_clients)
        found = self._find_another() and self.going
        if not found:
            self._app.take_away = None
        return found

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
        assert self._channel is not None
        try:
            send_client(self._channel, self._app, session)  # switch
        except (CanNotMove, Refused) as exc:
            self._stays(session, str(exc))
            return False
        except ParcelError as exc:
            log.debug("%s could not go: %s", session.label(), exc)
            return False
        self._moved_clients += 1
        return True

    def _stays(self, session: Session, reason: str) -> None:
        """A client is left to this process; where that can keep no server for it, it ends with its transaction."""
        self._staying.add(session)
        log.info("%s stays with this process: %s", session.label(), reason)
        link = session.link
        if not self._staying.most_kept(link.pool) and (link.server is None or link.pool.settings.pool_size == 1):
            session.terminate_when_idle(ShuttingDown(GOODBYE))

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
            pool.strike_off(server)
            self._send(kinds.SERVER, state, server.stream.fd)  # switch
        except (CanNotMove, ParcelError) as exc:
            pool.discard(server, f"the new process does not take it: {exc}")
            return
        self._moved_servers += 1
        pools.lose_place(pool)
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


class _FromHeir(Receiver):
    """What the new process says by ``channel``, to ``app``."""

    channel: Channel

    def __init__(self, app: App, asked: Asked) -> None:
        self._app = app
        self._asked = asked

    def prepare(self, parcel: Parcel) -> None:
        if parcel.kind == kinds.CANCEL:
            parcel.prepared = wanted(parcel, self._app.clients)
        elif parcel.kind != kinds.DONE:
            super().prepare(parcel)

    def take(self, parcel: Parcel) -> None:
        if parcel.kind == kinds.DONE:
            self._asked.is_done(parcel)
        else:  # ``cancel`` finds those, too, that go meanwhile
            gevent.spawn(self._asked.carry_out, self.channel, parcel, self._app.cancel)
