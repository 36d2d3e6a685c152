"""What a process that serves takes over from those that served before it, each by a channel of its own.

Until the other side has gone, its servers are counted here (``pool.handover.elsewhere``), and requests to cancel what
its clients have under way are passed on.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import gevent
import gevent.event

from pgdoorman_lib.net.parcel import Channel, Parcel, ParcelError
from pgdoorman_lib.pool import handover as pools
from pgdoorman_lib.supervisor.cancels import Asked, wanted
from pgdoorman_lib.supervisor.intake import Intake
from pgdoorman_lib.wire.handover import Book

if TYPE_CHECKING:
    from pgdoorman_lib.app import App

log = logging.getLogger(__name__)

#: Seconds for the other side to say something at first.
GREETING_SECONDS = 30.0

#: Database and user.
_Key = tuple[str, str]


class Heir(Intake):
    """Takes what one process sends for ``app``: what every process may, and BEGIN, HELD, CANCEL and DONE."""

    def __init__(self, app: App, heirs: Heirs, sock: socket.socket, counted: Callable[[], object]) -> None:
        super().__init__(app, lambda: heirs.book)
        self._welcome.from_before = True
        self._heirs = heirs
        self._counted = counted
        self.channel = Channel(sock, self)
        #: servers that the other side has
        self.held: dict[_Key, int] = {}

    def _prepare_begin(self, parcel: Parcel) -> None:
        parcel.prepared = parcel.state["pools"], parcel.state["ordered"]

    def _take_begin(self, parcel: Parcel) -> None:
        told, ordered = parcel.prepared
        obey(self._app, ordered)
        for state in told:
            pools.prepare(self._app.pools, state, state)
            pool = self._app.find_pool(state["database"], state["user"])
            if pool is not None:
                self._heirs.count(self, state["database"], state["user"], int(state["servers"]))
                pools.know(pool, state)
        gevent.spawn(self._counted)

    def _prepare_cancel(self, parcel: Parcel) -> None:
        parcel.prepared = wanted(parcel, self._app.clients)

    def _take_cancel(self, parcel: Parcel) -> None:
        gevent.spawn(self._heirs.asked.carry_out, self.channel, parcel, self._app.cancel_here)

    def _prepare_done(self, parcel: Parcel) -> None:
        pass

    def _take_done(self, parcel: Parcel) -> None:
        self._heirs.asked.is_done(parcel)

    def _prepare_held(self, parcel: Parcel) -> None:
        parcel.prepared = [(database, user, int(number)) for database, user, number in parcel.state["pools"]]

    def _take_held(self, parcel: Parcel) -> None:
        for database, user, number in parcel.prepared:
            self._heirs.count(self, database, user, number)


class Heirs:
    """All channels of ``app`` to processes that hand over to it; ``asked`` is what each has the other cancel."""

    def __init__(self, app: App, asked: Asked) -> None:
        self._app = app
        self.asked = asked
        self._all: list[Heir] = []
        #: what their clients and servers have in common, who may have come from one to the other before
        self.book = Book()
        self._none = gevent.event.Event()
        self._none.set()

    def take(self, sock: socket.socket, counted: Callable[[], object]) -> None:
        """Take over what comes from ``sock``; no switch.

        ``counted`` is called, in a greenlet of its own, once the other side's servers count here.
        """
        self._none.clear()
        gevent.spawn(self._take, sock, counted)

    def _take(self, sock: socket.socket, counted: Callable[[], object]) -> None:
        self._app.load_ciphers()
        heir = Heir(self._app, self, sock, counted)
        self._all.append(heir)
        try:
            heir.channel.start(GREETING_SECONDS)
            heir.channel.ended.wait()
        except ParcelError as exc:
            log.warning("upgrade: nothing came from the process before this one: %s", exc)
        finally:
            self._all.remove(heir)
            for database, user in list(heir.held):
                self.count(heir, database, user, 0)
            if not self._all:
                self.book = Book()
                self._none.set()

    def count(self, heir: Heir, database: str, user: str, number: int) -> None:
        """Who sends to ``heir`` has so many servers of a pool; no switch."""
        heir.held[database, user] = number
        pool = self._app.find_pool(database, user)
        if pool is not None:
            # One that has just ended has none.
            pools.elsewhere(pool, sum(one.held.get((database, user), 0) for one in {heir, *self._all}))

    def wait_for_all(self) -> None:
        """Wait until nobody hands over any more; may switch."""
        self._none.wait()

    def channels(self) -> list[Channel]:
        """Those to processes that may have clients yet."""
        return [heir.channel for heir in self._all if not heir.channel.ended.is_set()]


def obey(app: App, ordered: Mapping[str, Any]) -> None:
    """Go by what was ordered of the processes before, unless that is done already; no switch."""
    if ordered != app.ordered():
        app.obey(ordered)
