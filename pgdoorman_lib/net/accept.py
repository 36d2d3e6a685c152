"""Interpreted twin of ``accept.pyx``: the next connection of a listening socket, with the same names and results."""

from __future__ import annotations

import _socket
from typing import Any


class Accepted(_socket.socket):
    """A connected, non-blocking socket without gevent's watchers, for the engine has its own."""

    __slots__ = ("host", "port")

    #: the peer's numeric address and port; empty and 0 on a unix socket
    host: str
    port: int


class Acceptor:
    """Takes connections from a listening, non-blocking socket, which it keeps but does not close."""

    def __init__(self, socket: Any) -> None:
        self._socket = socket

    def accept(self) -> Accepted | None:
        """The next connection, or None if there is none now; OSError."""
        listening = self._socket
        while True:
            try:
                fd, address = listening._accept()  # as gevent's own servers do
                break
            except BlockingIOError:
                return None
            except (ConnectionAbortedError, InterruptedError):
                continue  # others may stand behind this one, of whom nobody would tell again
        made = Accepted(listening.family, listening.type, listening.proto, fileno=fd)
        made.setblocking(False)
        made.host, made.port = address[:2] if isinstance(address, tuple) else ("", 0)
        return made
