"""A replication client and the server connection it owns, outside every pool: bytes pass both ways until either ends.

Rules:
1. Nothing in a message is looked into but its header: where it ends, and of which type the last one was. So both sides
   can be told of the end between two messages.
2. Each direction holds a few blocks at most. One whose receiver is slow stops reading its source, and only that.
3. ``serve`` is the client's greenlet from the welcome on; while it is parked, news of either stream resume it.

PostgreSQL docs, "Streaming Replication Protocol" and "Protocol Flow: COPY Operations" (both sides may send).
"""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Any

import gevent

from pgdoorman_lib.client.info import ClientInfo, info_of
from pgdoorman_lib.client.lingering import FAIRNESS, TimeIsUp, discard
from pgdoorman_lib.errors import DoormanError, ProtocolViolation, ServerGone
from pgdoorman_lib.log import Label, label
from pgdoorman_lib.metrics.counters import LinkStats, PoolStats
from pgdoorman_lib.net.engine import Task
from pgdoorman_lib.net.stream import EOF, HIGH_WATER, NOTHING, Stream
from pgdoorman_lib.net.syscalls import clock
from pgdoorman_lib.server import states
from pgdoorman_lib.server.connection import Server
from pgdoorman_lib.wire import consts, messages
from pgdoorman_lib.wire.framing import INCOMPLETE, frame_size
from pgdoorman_lib.wire.startup import PHYSICAL

log = logging.getLogger("pgdoorman.client")

# Results of ``Forwarder.forward``: nothing more now, more but others first, nothing more ever.
WAIT, MORE, ENDED = range(3)

#: Seconds for a client whose session is ended by us to take the message under way and our last words.
FAREWELL_SECONDS = 2.0
#: Seconds for a server to take what its client sent before it left.
LEAVING_SECONDS = 5.0


class Forwarder:
    """One direction: from ``source`` to ``sink``."""

    __slots__ = ("closing", "kind", "left", "sink", "source")

    def __init__(self, source: Stream, sink: Stream) -> None:
        self.source = source
        self.sink = sink
        #: bytes of the message under way still to come; 0 between two messages
        self.left = 0
        #: type byte of the last message begun
        self.kind = 0
        #: go no further than the end of the message under way
        self.closing = False

    def forward(self) -> int:
        """Move what is there as far as the sink takes it, without switching: WAIT, MORE or ENDED.

        ProtocolViolation for an impossible length; what came before it has been passed on.
        """
        source, sink = self.source, self.sink
        for _ in range(FAIRNESS):
            if self.closing and not self.left:
                return ENDED
            if sink.out_pending >= HIGH_WATER:
                sink.push()
                if sink.out_pending >= HIGH_WATER:
                    return WAIT
            n = source.fill()
            if n == NOTHING:
                return WAIT
            if n == EOF:
                return ENDED
            self._pass_on()
        return MORE

    def _pass_on(self) -> None:
        """Queue what was received up to its last whole header."""
        source = self.source
        block: Any = source.block
        begin, end = source.start, source.end
        position = begin + min(self.left, end - begin)
        self.left -= position - begin
        size = 0
        while position < end and not self.closing:
            size = frame_size(block, position, end)
            if size < 0:
                break
            self.kind = block[position]
            self.left = max(0, size - (end - position))
            position += size - self.left
        if position == end and self.sink.out is None:
            source.block = None
            source.start = source.end = 0
            self.sink.send_block(block, begin, end)
        elif position > begin:
            self.sink.send_copy(block, begin, position - begin)
            source.start = position
            source.release()
        if size < 0 and size != INCOMPLETE:
            raise ProtocolViolation("invalid message length")


class ReplicationSession:
    """A logged-in replication client; to the console and the registry it is a client like any other.

    ``id`` is its number, from which the process id in its cancel key is made, ``secret`` the rest of it; a cancel goes
    to ``server`` whatever runs there. ``pool_stats`` get the bytes; ``replication`` is PHYSICAL or LOGICAL.
    """

    __slots__ = (
        "client",
        "connected_at",
        "database",
        "down",
        "id",
        "physical",
        "pool_stats",
        "secret",
        "server",
        "stats",
        "task",
        "termination",
        "up",
        "user",
    )

    def __init__(
        self,
        client: Stream,
        server: Server,
        id: int,
        secret: bytes,
        user: str,
        database: str,
        pool_stats: PoolStats,
        replication: str,
    ) -> None:
        self.client = client
        self.server = server
        self.id = id
        self.secret = secret
        self.user = user
        self.database = database
        self.connected_at = clock()
        self.stats = LinkStats()
        self.pool_stats = pool_stats
        self.physical = replication == PHYSICAL
        self.up = Forwarder(client, server.stream)
        self.down = Forwarder(server.stream, client)
        #: waits on both streams; None before and after ``serve``
        self.task: Any = None
        self.termination: DoormanError | None = None
        server.enter(states.ACTIVE)

    @property
    def state(self) -> str:
        """As in ``ClientInfo``: it is never without its server."""
        return "active"

    @property
    def held(self) -> tuple[int, int]:
        """As in ClientView."""
        return 0, 0

    @property
    def pool_user(self) -> str:
        """The user whose pool its server would be of."""
        return str(self.server.settings.user)

    def label(self) -> Label:
        """Who it is, for the log."""
        return label(self.user, self.database, self.id, self.client.peer)

    def info(self) -> ClientInfo:
        """What SHOW CLIENTS tells; nothing pins the server."""
        kind = "physical" if self.physical else "logical"
        return info_of(
            self,
            self.client,
            self.stats,
            self.server.application_name,
            self.state,
            server=self.server,
            replication=kind,
            pool_user=self.pool_user,
        )

    # Its life.

    def serve(self) -> str:
        """Welcome the client, then carry until either side ends; may switch. Returns why it ended, for the log.

        DoormanError: what the client must still be told, unless ``cut_off``. The server connection is closed in any
        case, also when the greenlet is killed; the client's is the caller's.
        """
        client, server = self.client, self.server
        try:
            task = self.task = Task(client.engine)
            client.task = server.stream.task = task
            client.write(self._welcome())
            while self.termination is None:
                up, down = self.up.forward(), self._down()
                self._account()
                if down == ENDED:
                    return self._server_ended()
                if up == ENDED or client.send_failed:
                    return self._client_ended()
                if MORE in (up, down):
                    task.engine.again(task)
                task.park()  # switch: the end may come meanwhile
            self._reach_the_end_of_a_message()
            raise self.termination
        finally:
            self._account()
            self._leave_server()
            client.task = None
            self.task = None

    def end(self, error: DoormanError) -> None:
        """As ``Session.end``."""
        self.task.throw(error)

    def terminate_when_idle(self, error: DoormanError) -> None:
        """End it with ``error``, soon; no switch."""
        self.termination = error
        if self.task is not None:
            self.task.wake()

    def cut_off(self) -> bool:
        """Whether the client has been sent only the beginning of a message: nothing can be told it any more."""
        return self.down.left > 0

    def _welcome(self) -> bytes:
        """What a login ends with: the server's reports, our cancel key."""
        key = messages.backend_key_data(consts.PROCESS_BASE + self.id, self.secret)
        return b"".join(
            (messages.authentication_ok(), self.server.reported.messages(), key, messages.ready_for_query())
        )

    def _down(self) -> int:
        try:
            return self.down.forward()
        except ProtocolViolation as exc:
            raise ServerGone(f"{exc.message} from the server", sqlstate=exc.sqlstate) from exc

    def _account(self) -> None:
        """Add what went over the wire since the last time to all totals."""
        client, stats, server = self.client, self.stats, self.server
        self.pool_stats.received += client.received - stats.received
        self.pool_stats.sent += client.sent - stats.sent
        stats.received, stats.sent = client.received, client.sent
        server.stats.received, server.stats.sent = server.stream.received, server.stream.sent

    # Its ends.

    def _server_ended(self) -> str:
        """The server is gone: the client gets all it has said, at its own pace; may switch."""
        client = self.client
        self.server.stream.close()
        while client.push() == 0 and self.termination is None:
            # Read on: closing over unread bytes would reset the connection, and our last words with it.
            if not discard(client):
                return "client closed the connection"
            self.task.park()
        if client.send_failed:
            return f"connection to client lost: {client.fault}"
        if self._terminated():
            return "client closed the session"
        if not self.down.left and self.down.kind in (consts.ERROR_RESPONSE, consts.COMMAND_COMPLETE):
            # PostgreSQL has said why; a WAL sender that was told to stop says CommandComplete.
            return "server ended the session"
        raise ServerGone(
            "server closed the connection unexpectedly",
            detail="The server process terminated before or while processing the request.",
        )

    def _client_ended(self) -> str:
        """The client is gone: what it said before is for the server, as if it were there itself; may switch."""
        stream = self.server.stream
        reason = "client closed the session" if self._terminated() else "client closed the connection"
        self._terminate()
        with suppress(TimeIsUp), gevent.Timeout(LEAVING_SECONDS, TimeIsUp):
            # Read on: a server that can't send would not read.
            while stream.push() == 0 and self.termination is None and discard(stream):
                self.task.park()
        fault = self.client.fault
        return f"connection to client lost: {fault}" if fault else reason

    def _reach_the_end_of_a_message(self) -> None:
        """Let the client have the message under way, within FAREWELL_SECONDS; may switch."""
        client = self.client
        self.down.closing = True
        with suppress(TimeIsUp), gevent.Timeout(FAREWELL_SECONDS, TimeIsUp):
            while True:
                status = self._down()
                if status == ENDED and client.push() != 0:
                    return
                if client.send_failed or not discard(client):
                    return
                if status == MORE:
                    self.task.engine.again(self.task)
                self.task.park()

    def _terminated(self) -> bool:
        return self.up.kind == consts.TERMINATE and not self.up.left

    def _terminate(self) -> None:
        """Say Terminate to the server, where a message may begin and it has not been said."""
        stream = self.server.stream
        if not (stream.closed or stream.eof or stream.send_failed or self.up.left or self._terminated()):
            stream.write(messages.terminate())
            self.up.kind = consts.TERMINATE

    def _leave_server(self) -> None:
        server = self.server
        if server.stage == states.CLOSED:
            return
        self._terminate()
        server.stream.task = None
        server.stream.close()
        server.enter(states.CLOSED)
        log.info("%s closing server #%d (pid %d)", self.label(), server.id, server.pid)
