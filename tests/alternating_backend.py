"""A backend that is not one session: what a pooler in transaction mode looks like to who is in front of it.

Speaks PostgreSQL's protocol on a port of its own and carries each transaction out on the next of a few connections to a
real PostgreSQL. Named statements are made on all of them, as poolers do that know of these. Nothing else follows.
"""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from pace import patience
from wire_client import SYNC, Message, WireClient, message, query


@dataclass
class Session:
    """One connection to PostgreSQL, used by one client at a time."""

    wire: WireClient
    free: threading.Lock = field(default_factory=threading.Lock)
    state: bytes = b"I"

    def ask(self, data: bytes) -> list[Message]:
        answer = self.wire.ask(data)
        self.state = answer[-1].body
        return answer


class AlternatingBackend:
    """``connect`` opens one of ``count`` connections to PostgreSQL, which all clients share. ``stray``: see ``_answer``."""

    def __init__(self, connect: Callable[[], WireClient], count: int = 3, stray: bool = False) -> None:
        self.stray = stray
        self._sessions = [Session(connect()) for _ in range(count)]
        self._turn = itertools.cycle(self._sessions)
        self._clients: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.host, self.port = self._listener.getsockname()[:2]
        self._spawn(self._accept)

    def _spawn(self, function: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=function, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def close(self) -> None:
        for one in (self._listener, *self._clients):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        for thread in self._threads:
            thread.join(patience(10))
            assert not thread.is_alive()
        for session in self._sessions:
            session.wire.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._clients.append(client)
            self._spawn(self._serve, client)

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(ConnectionError, OSError):
            self._welcome(client)
            while self._transaction(client):
                pass

    def _welcome(self, client: socket.socket) -> None:
        while True:
            body = _exactly(client, int.from_bytes(_exactly(client, 4), "big") - 4)
            if int.from_bytes(body[:4], "big") >> 16 == 3:
                break
            client.sendall(b"N")  # no TLS, no GSS
        welcome = [message(m.kind, m.body) for m in self._sessions[0].wire.welcome if m.kind in "SKZ"]
        client.sendall(message("R", bytes(4)) + b"".join(welcome))

    def _transaction(self, client: socket.socket) -> bool:
        """Carry out one transaction on the next session; False at the client's end."""
        session: Session | None = None
        try:
            while True:
                batch = _batch(client)
                if not batch:
                    return False
                if session is None:
                    session = next(self._turn)
                    session.free.acquire()
                    self._share(batch, session)
                client.sendall(self._answer(session.ask(b"".join(batch))))
                if session.state == b"I":
                    return True
        finally:
            if session is not None:
                if session.state != b"I":
                    session.ask(query("ROLLBACK"))
                session.free.release()

    def _share(self, batch: list[bytes], session: Session) -> None:
        """Make named statements on the other sessions, too."""
        named = [part for part in batch if (part[:1] == b"P" and part[5]) or part[:2] == b"CS"]
        for other in self._sessions if named else ():
            if other is not session:
                with other.free:
                    other.ask(b"".join(named) + SYNC)

    def _answer(self, messages: list[Message]) -> bytes:
        """As PostgreSQL said it; with ``stray`` a ParseComplete too many before the tag of DEALLOCATE ALL or DISCARD ALL."""
        out = b""
        for m in messages:
            if self.stray and m.kind == "C" and m.tag in ("DEALLOCATE ALL", "DISCARD ALL"):
                out += message("1")
            out += message(m.kind, m.body)
        return out


def _exactly(client: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = client.recv(size - len(data))
        if not piece:
            raise ConnectionError("the client has gone")
        data += piece
    return data


def _batch(client: socket.socket) -> list[bytes]:
    """Messages up to one that ReadyForQuery answers; none at the client's end."""
    batch: list[bytes] = []
    while True:
        header = _exactly(client, 5)
        body = _exactly(client, int.from_bytes(header[1:], "big") - 4)
        if header[:1] == b"X":
            return []
        batch.append(header + body)
        if header[:1] in b"QSF":
            return batch
