"""The HTTP server by itself, before answers that take their time."""

from __future__ import annotations

from functools import partial
from http import HTTPStatus

import gevent.event
import gevent.socket

from pgdoorman_lib.web.server import MAX_CONNECTIONS, HttpServer, Request, Response, bind, text

ASK = b"GET / HTTP/1.0\r\n\r\n"


def test_busy_connections_are_a_limited_number() -> None:
    """Who comes while all are being answered is told so."""
    go_on = gevent.event.Event()

    def answer(request: Request) -> Response:
        go_on.wait()
        return text(HTTPStatus.OK, "ok")

    (sock,) = bind("127.0.0.1", 0)
    sock.setblocking(False)
    server = HttpServer(sock, answer)
    server.start()
    clients = []
    try:
        for _ in range(MAX_CONNECTIONS + 1):
            client = gevent.socket.create_connection(sock.getsockname(), 10)
            clients.append(client)
            client.sendall(ASK)
        assert clients[-1].recv(12) == b"HTTP/1.1 503"
        go_on.set()
        for client in clients[:-1]:
            assert b"".join(iter(partial(client.recv, 4096), b"")).startswith(b"HTTP/1.1 200")
    finally:
        for client in clients:
            client.close()
        server.stop()
