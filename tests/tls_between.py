"""Somebody in between: ends the TLS of clients by a certificate of his own, and has TLS of his own with the server."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from types import TracebackType

from fix_certs import CertificateFiles
from pace import patience

SSL_REQUEST = struct.pack("!ii", 8, 80877103)
_OFFER = b"SCRAM-SHA-256-PLUS\0"

Change = Callable[[bytes], bytes]


def unchanged(data: bytes) -> bytes:
    return data


def without_plus(data: bytes) -> bytes:
    """What a server says, with SCRAM-SHA-256-PLUS taken out of the mechanisms that it offers."""
    at = data.find(struct.pack("!i", 10) + _OFFER)
    if at < 0:
        return data
    (length,) = struct.unpack_from("!i", data, at - 4)
    return data[: at - 4] + struct.pack("!i", length - len(_OFFER)) + data[at:].replace(_OFFER, b"", 1)


class Between:
    """Listens at ``port``; ``change`` is done to what servers say."""

    def __init__(self, target: tuple[str, int], files: CertificateFiles, change: Change = unchanged) -> None:
        self._target = target
        self._change = change
        self._accepting = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._accepting.load_cert_chain(files.certificate, files.private_key)
        self._connecting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._connecting.check_hostname = False
        self._connecting.verify_mode = ssl.CERT_NONE
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def __enter__(self) -> Between:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for sock in self._open:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
        for thread in self._threads:
            thread.join(patience(10))
            assert not thread.is_alive()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listening.accept()
                thread = threading.Thread(target=self._serve, args=(sock,))
                self._threads.append(thread)
                thread.start()

    def _serve(self, sock: socket.socket) -> None:
        # A side that breaks off breaks the other off: the test sees what its client says of that.
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            stack.enter_context(sock)
            sock.settimeout(patience(10))
            assert sock.recv(8, socket.MSG_WAITALL) == SSL_REQUEST
            sock.sendall(b"S")
            self._open.append(sock.dup())
            client = stack.enter_context(self._accepting.wrap_socket(sock, server_side=True))
            plain = stack.enter_context(socket.create_connection(self._target, patience(10)))
            plain.sendall(SSL_REQUEST)
            assert plain.recv(1) == b"S"
            server = stack.enter_context(self._connecting.wrap_socket(plain))
            self._pump(client, server)

    def _pump(self, client: ssl.SSLSocket, server: ssl.SSLSocket) -> None:
        """Until one side ends; each speaks in turn at a login, so one thread does."""
        while True:
            ready, _, _ = select.select([client, server], [], [], patience(10))
            if not ready:
                return
            for source in ready:
                data = b"".join(_records(source))
                if not data:
                    return
                if source is server:
                    client.sendall(self._change(data))
                else:
                    server.sendall(data)


def _records(source: ssl.SSLSocket) -> Iterator[bytes]:
    yield source.recv(65536)
    while source.pending():
        yield source.recv(65536)
