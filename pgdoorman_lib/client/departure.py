"""How a session is asked to leave for another process, and where it may; what goes there is for ``client.handover``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pgdoorman_lib.wire import consts


class Departure(Exception):
    """Stands as a session's ``termination`` and is raised where that may leave.

    ``take`` is called then with the session; it may switch, and says whether the client has left. Who has not goes on
    where it is.
    """

    def __init__(self, take: Callable[[Any], bool]) -> None:
        super().__init__("the client goes to another process")
        self.take = take

    def suits(self, session: Any) -> bool:
        """Whether nothing of the client's is under way but what it has sent, or waits with; no switch."""
        link = session.link
        client = link.client
        if link.terminated or link.client_left or link.server_left or link.noted or session.kept:
            return False
        if not (session.relay is None or session.relay.is_done()) or client.eof or client.send_failed or client.closed:
            return False
        if session.waiting and link.pool.timeout <= 0:
            return False  # what it waits for is opened for it here
        if link.server is None:
            return True
        batch, replies = link.batch, link.replies
        if batch.settling or batch.in_batch or replies.count or replies.status != consts.TX_IDLE:
            return False
        return bool(link.server.is_reusable())
