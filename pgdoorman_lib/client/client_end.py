"""The client's end: it has closed its side, and may still want the answers to what it has sent."""

from __future__ import annotations

from typing import Any

from pgdoorman_lib.client import events
from pgdoorman_lib.client.link import Turn
from pgdoorman_lib.net.deadlines import Deadline
from pgdoorman_lib.net.syscalls import clock
from pgdoorman_lib.wire import consts
from pgdoorman_lib.wire.framing import frame_size

_int = int


class ClientEnd:
    """Whether the client is gone, and how long it is waited for."""

    __slots__ = ("deadline", "turn")

    def __init__(self, turn: Turn) -> None:
        self.turn = turn
        #: until when the client, which has closed its side, waits for its answers
        self.deadline: Deadline | None = None

    def gone(self) -> bool:
        """Whether the client has closed its connection and does not want what it waits for; never switches.

        Who closes it behind a Terminate has sent all it had to say: PostgreSQL would carry that out.
        """
        client = self.turn.link.client
        while client.readable and client.fill() > 0:
            pass
        if not (client.eof or client.hangup):
            return False
        said = 0 if client.error or self.turn.link.overdue else self._has_said_all()
        if said == 2 and client.eof:
            self._close_half()
        return not said

    def _has_said_all(self) -> _int:
        """Whether whole messages wait for a server: 1 up to a Terminate, 2 such as may be answered to a client that has
        closed its side.
        """
        link = self.turn.link
        client = link.client
        data: Any = client.block
        pos = client.start
        if link.client_left:
            return 0
        lasting = 2 if link.pool.eof_timeout > 0 else 0
        whole = 0
        while pos < client.end:
            size = frame_size(data, pos, client.end)
            if size < 0 or pos + size > client.end:
                break
            if data[pos] == consts.TERMINATE:
                return 1
            whole = lasting
            pos += size
        return whole

    def at_eof(self) -> _int:
        """The client has closed its side of the connection; a status as of ``Relay.step``.

        What was wholly received is carried out and answered, for a while, as by PostgreSQL. A client that has vanished
        looks the same until it is sent something.
        """
        link = self.turn.link
        if link.client.error or link.client_left or link.pool.eof_timeout <= 0:
            return events.CLIENT_GONE
        if link.server is None or not link.replies.count:
            return events.CLIENT_GONE
        link.terminated = 1
        self._close_half()
        return events.PENDING

    def _close_half(self) -> None:
        """The client has closed its side: begin to count the time."""
        link = self.turn.link
        link.half_closed = 1
        if self.deadline is None:
            now = clock()
            self.deadline = Deadline(self._overdue)
            self.deadline.set(now + link.pool.eof_timeout, now)

    def _overdue(self) -> None:
        self.turn.link.overdue = 1
        self.turn.link.owner.task.wake()

    def wait_no_more(self) -> None:
        """The session is over, and so is the time the client had."""
        if self.deadline is not None:
            self.deadline.clear()
            self.deadline = None

    def parting(self, event: _int) -> str:
        """How the client has left, CLIENT_GONE or TERMINATE, for the log."""
        if event == events.TERMINATE and not self.turn.link.half_closed:
            return "client closed the session"
        fault = self.turn.link.client.fault
        return f"connection to client lost: {fault}" if fault else "client closed the connection"
