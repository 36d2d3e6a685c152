"""A server that asks for a password in clear text, takes nothing but a good token, and is PostgreSQL from there on."""

from __future__ import annotations

import socket
import struct
import threading
from typing import Any

import jwt
from pace import patience

CLEARTEXT = struct.pack("!ciI", b"R", 8, 3)


class TokenGate:
    """On ``port`` of the loopback; tokens are checked by ``key``, and those shown are in ``tokens``."""

    def __init__(self, server: tuple[str, int], key: Any) -> None:
        self.key = key
        self.tokens: list[str] = []
        self._server = server
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for sock in self._sockets:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            sock.close()
        for thread in self._threads:
            thread.join(patience(10))

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._sockets.append(client)
            thread = threading.Thread(target=self._serve, args=(client,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, client: socket.socket) -> None:
        try:
            with client.makefile("rb") as stream:
                startup = stream.read(4)
                startup += stream.read(struct.unpack("!i", startup)[0] - 4)
                if startup[4:8] != struct.pack("!i", 196608):
                    return  # a cancel request
                client.sendall(CLEARTEXT)
                kind, length = struct.unpack("!ci", stream.read(5))
                token = stream.read(length - 4).rstrip(b"\0").decode()
            self.tokens.append(token)
            words = startup[8:].split(b"\0")
            user = dict(zip(words[::2], words[1::2], strict=False))[b"user"].decode()
            claims = jwt.decode(token, self.key, ["RS256"])
            if kind != b"p" or claims["preferred_username"] != user:
                raise jwt.InvalidTokenError
        except jwt.InvalidTokenError:
            body = b"SFATAL\0VFATAL\0C28P01\0Mthe gate wants another token\0\0"
            client.sendall(struct.pack("!ci", b"E", len(body) + 4) + body)
            client.close()
            return
        except (OSError, struct.error):
            return
        server = socket.create_connection(self._server)
        self._sockets.append(server)
        server.sendall(startup)
        other = threading.Thread(target=_pump, args=(server, client))
        self._threads.append(other)
        other.start()
        _pump(client, server)


def _pump(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        return
