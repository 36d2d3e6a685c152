"""Clients of this worker that go to a calmer one, as the supervisor wants it (``rebalance``)."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING

from pgdoorman_lib.client import handover as clients
from pgdoorman_lib.client.departure import Departure
from pgdoorman_lib.client.session import Session
from pgdoorman_lib.net.parcel import Channel, ParcelError
from pgdoorman_lib.net.syscalls import clock
from pgdoorman_lib.net.tls_secrets import CanNotMove
from pgdoorman_lib.supervisor.moving import send_client
from pgdoorman_lib.wire.handover import Plain

if TYPE_CHECKING:
    from pgdoorman_lib.app import App

log = logging.getLogger(__name__)

#: Seconds for a client that was asked to come to an end of its transaction.
PATIENCE = 2.0
#: Seconds in which one that has come, or could not go, is left alone.
REST = 10.0


class Transfers:
    """Those of ``app``, by the channels to its ``peers``; ``departed`` is told number and secret of who has gone."""

    def __init__(self, app: App, peers: Mapping[int, Channel], departed: Callable[[int, bytes], None]) -> None:
        self._app = app
        self._peers = peers
        self._departed = departed
        #: who was asked to go: by number, the session, how it was asked, when
        self._asked: dict[int, tuple[Session, Departure, float]] = {}
        #: by number of a client, until when it is left alone
        self._resting: dict[int, float] = {}
        self._looked_at = clock()

    def load(self) -> Plain:
        """What ``balance.Load`` needs to be found out; no switch.

        ``clients``, ``working`` (since the last call), ``cpu``: seconds of it that the process has used in its life.
        """
        since, self._looked_at = self._looked_at, clock()
        self._ask_no_more(self._looked_at - PATIENCE)
        self._resting = {number: until for number, until in self._resting.items() if until > self._looked_at}
        working = sum(1 for session in self._sessions() if session.link.query_started >= since)
        return {"clients": len(self._app.clients), "working": working, "cpu": time.process_time()}

    def move(self, target: int, count: int, working: bool) -> None:
        """Have so many clients go to worker ``target``, those that work or those that rest; no switch."""
        if self._app.draining or target not in self._peers:
            return
        now = clock()
        for session in self._chosen(count, working):
            departure = Departure(partial(self._take, target))
            session.termination = departure
            self._asked[session.id] = session, departure, now
            session.task.wake()

    def _sessions(self) -> Iterator[Session]:
        return (session for session in self._app.clients if isinstance(session, Session))

    def _chosen(self, count: int, working: bool) -> list[Session]:
        """Those who lose least by it: who waits for a server would have to wait anew."""
        able = [session for session in self._sessions() if self._is_able(session)]
        sign = -1.0 if working else 1.0
        able.sort(key=lambda session: (session.waiting, sign * session.link.query_started))
        return able[:count]

    def _is_able(self, session: Session) -> bool:
        """Whether a client could go by itself: one that keeps a server stays with it."""
        if session.task is None or session.leaving or session.termination is not None or session.id in self._resting:
            return False
        link = session.link
        return bool(link.by_transaction and not link.pins and not session.kept and not clients.hindrance(session))

    def _take(self, target: int, session: Session) -> bool:
        """See ``Departure``: this is the client's greenlet."""
        self._asked.pop(session.id, None)
        channel = self._peers.get(target)
        if channel is None or session.link.server is not None:
            return False
        try:
            send_client(channel, self._app, session)  # switch
        except (CanNotMove, ParcelError) as exc:
            log.debug("%s stays with this worker: %s", session.label(), exc)
            self.rest(session.id)
            return False
        self._departed(session.id, session.secret)
        return True

    def rest(self, number: int) -> None:
        """Leave the client of this number alone for a while."""
        self._resting[number] = clock() + REST

    def stop(self) -> None:
        """Ask nobody any more; no switch."""
        self._ask_no_more(clock())

    def _ask_no_more(self, until: float) -> None:
        """Those who were asked before are not to go any more."""
        for number, (session, departure, since) in list(self._asked.items()):
            if since <= until or session.termination is not departure:
                del self._asked[number]
                if session.termination is departure:
                    session.termination = None
                    self.rest(number)
