"""Cancel requests: from the key a client gives to what it has under way on a server, and to nobody else's."""

from __future__ import annotations

import logging

import gevent

from pgdoorman_lib.client.registry import Clients
from pgdoorman_lib.client.session import Session
from pgdoorman_lib.errors import DoormanError
from pgdoorman_lib.net.engine import Engine
from pgdoorman_lib.server.cancel import send_cancel
from pgdoorman_lib.server.connection import Server
from pgdoorman_lib.wire.messages import error_response

log = logging.getLogger(__name__)

#: Seconds for a cancel request to reach PostgreSQL.
CANCEL_TIMEOUT = 5.0
#: Seconds between looks at a client whose statement waits for its parameters.
SETTLING_PAUSE = 0.02
#: Seconds after which a cancel is sent again, each counted from the one before, while PostgreSQL has said nothing: it
#: ignores one that comes before it has read the statement, and on a busy machine that can take any time.
CANCEL_AGAIN = (0.02, 0.1, 0.5, 2.0, 5.0)


class Canceller:
    """Carries cancel requests of ``clients`` to PostgreSQL."""

    def __init__(self, engine: Engine, clients: Clients) -> None:
        self.engine = engine
        self.clients = clients
        #: those that look whether a cancel has to be repeated
        self._watching: set[gevent.Greenlet[..., None]] = set()

    def cancel(self, number: int, secret: bytes) -> bool:
        """Carry a client's cancel request to the server that runs its statement, if any; may switch.

        Returns whether there is a client with this key.
        """
        session = self.clients.by_key(number, secret)
        while isinstance(session, Session) and session.leaving:
            gevent.sleep(SETTLING_PAUSE)  # switch: it may come to be another process's
            session = self.clients.by_key(number, secret)
        if session is None:
            return False
        try:
            if isinstance(session, Session):
                self._cancel_statement(session)
            else:
                self.cancel_server(session.server)
        except DoormanError as exc:
            log.warning("%s cancel request failed: %s", session.label(), exc.message)
        return True

    def _cancel_statement(self, session: Session) -> None:
        """Cancel what a session has under way, and nothing of anybody else's; may switch."""
        link = session.link
        server = link.server
        if session.waiting and session.wait_error is None:
            cancel_waiting(session)
        while server is not None and link.server is server and link.batch.settling:
            gevent.sleep(SETTLING_PAUSE)  # switch: the client's statement waits for its parameters
        if server is None or link.server is not server or not server.replies.count:
            return
        statement = _Statement(session, server)
        self.cancel_server(server)
        # The client waits for its request to be through, and not for what comes of it.
        greenlet = gevent.spawn(self._cancel_again, statement)
        self._watching.add(greenlet)
        greenlet.rawlink(self._watching.discard)

    def _cancel_again(self, statement: _Statement) -> None:
        """Repeat a cancel that PostgreSQL may have ignored; may switch."""
        for pause in CANCEL_AGAIN:
            gevent.sleep(pause)  # switch: the statement may end, and the server be another's
            if not statement.is_silent():
                return
            try:
                self.cancel_server(statement.server)
            except DoormanError as exc:
                log.warning("%s repeated cancel failed: %s", statement.session.label(), exc.message)
                return

    def close(self) -> None:
        """Repeat nothing any more; may switch."""
        gevent.killall(list(self._watching))

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
                address=server.stream.peer_host,
            )
        finally:
            server.cancels -= 1


def cancel_waiting(session: Session) -> None:
    """Cancel a statement that waits for a server, as PostgreSQL cancels one that runs; no switch."""
    session.link.pool.withdraw(session)
    session.waiting = 0
    session.at_work().without_server.refuse(error_response("ERROR", "57014", "canceling statement due to user request"))
    session.task.wake()


class _Statement:
    """What a session has under way on a server, as it was when it was to be cancelled."""

    def __init__(self, session: Session, server: Server) -> None:
        self.session = session
        self.server = server
        self._started = session.link.query_started
        self._received = server.stream.received

    def is_silent(self) -> bool:
        """Whether it is still under way, and PostgreSQL has said nothing since: it may not have read it yet.

        Bytes that nobody has read, as of a client that is slow, may be the end of it already, and what comes behind it
        in a pipeline is not to be cancelled.
        """
        link, server = self.session.link, self.server
        if link.server is not server or link.query_started != self._started or not server.replies.count:
            return False
        return bool(server.stream.received == self._received and not server.stream.readable)
