"""Cancel requests: from the key a client gives to what it has under way on a server, and to nobody else's."""

from __future__ import annotations

import logging

import gevent

from pgdoorman_lib.client.registry import Clients
from pgdoorman_lib.client.session import Session
from pgdoorman_lib.errors import DoormanError
from pgdoorman_lib.net.engine import Engine
from pgdoorman_lib.net.syscalls import clock
from pgdoorman_lib.server.cancel import send_cancel
from pgdoorman_lib.server.connection import Server

log = logging.getLogger(__name__)

#: Seconds for a cancel request to reach PostgreSQL.
CANCEL_TIMEOUT = 5.0
#: Seconds a statement may be on its way to PostgreSQL; one as young as that is cancelled a second time after a pause.
CANCEL_YOUNG = 0.02
CANCEL_PAUSE = 0.02


class Canceller:
    """Carries cancel requests of ``clients`` to PostgreSQL."""

    def __init__(self, engine: Engine, clients: Clients) -> None:
        self.engine = engine
        self.clients = clients

    def cancel(self, number: int, secret: bytes) -> None:
        """Carry a client's cancel request to the server that runs its statement, if any; may switch."""
        session = self.clients.by_key(number, secret)
        if session is None:
            log.debug("a cancel request with a key that nobody has")
            return
        try:
            if isinstance(session, Session):
                self._cancel_statement(session)
            else:
                self.cancel_server(session.server)
        except DoormanError as exc:
            log.warning("%s cancel request failed: %s", session.label(), exc.message)

    def _cancel_statement(self, session: Session) -> None:
        """Cancel what a session has under way, and nothing of anybody else's; may switch."""
        link = session.link
        server = link.server
        if session.waiting and session.wait_error is None:
            session.cancel_waiting()
        while server is not None and link.server is server and link.batch.settling:
            gevent.sleep(CANCEL_PAUSE)  # switch: the client's statement waits for its parameters
        if server is None or link.server is not server or not server.replies.count:
            return
        started = link.query_started
        young = clock() - started < CANCEL_YOUNG
        self.cancel_server(server)
        if young:
            # PostgreSQL ignores one that comes before it has read the statement.
            gevent.sleep(CANCEL_PAUSE)
            if link.server is server and link.query_started == started and server.replies.count:
                self.cancel_server(server)

    def cancel_server(self, server: Server) -> None:
        """Have PostgreSQL cancel what runs on ``server``; may switch. It is not lent on before this returns."""
        server.cancels += 1
        try:
            send_cancel(
                server.settings,
                self.engine,
                server.pid,
                server.secret,
                CANCEL_TIMEOUT,
                tls=server.stream.tls is not None,
            )
        finally:
            server.cancels -= 1
