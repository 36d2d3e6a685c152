"""Interpreted twin of ``accept.pyx``: the next connection of a listening socket, with the same names and results."""

from __future__ import annotations

import _socket
from typing import Any

#: A plain socket without gevent's watchers, for the engine has its own.
Accepted = _socket.socket


class Acceptor:
    """Takes connections from a listening, non-blocking socket, which it keeps but does not close."""

    def __init__(self, socket: Any) -> None:
        self._socket = socket

    def accept(self) -> tuple[Any, tuple[str, int] | None] | None:
        """The next connection as (Accepted, peer), or None if there is none now; OSError.

        ``peer`` is the numeric host and the port, None on a unix socket.
        """
        listening = self._socket
        try:
            fd, address = listening._accept()  # as gevent's own servers do
        except (BlockingIOError, ConnectionAbortedError, InterruptedError):
            return None
        made = Accepted(listening.family, listening.type, listening.proto, fileno=fd)
        made.setblocking(False)
        return made, (address[:2] if isinstance(address, tuple) else None)
