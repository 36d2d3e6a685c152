"""A small HTTP server: GET and HEAD of HTTP/1.0 and 1.1, with a bound on everything that a peer can make grow.

Requests are read by the standard library's ``BaseHTTPRequestHandler``, out of a head that was taken in whole, within a
size and a time, before. Nothing here reads a body: a request with one is refused.
"""

from __future__ import annotations

import logging
import socket
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from email.message import Message
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from io import BytesIO
from typing import Any

import gevent
from gevent.server import StreamServer

from pgdoorman_lib.config.model import format_address
from pgdoorman_lib.listener import Exhausted
from pgdoorman_lib.record import record
from pgdoorman_lib.web.measures import MAX_CONNECTIONS

log = logging.getLogger(__name__)

#: Bytes of a request, up to the empty line behind its headers.
MAX_HEAD = 8192
#: Seconds for a request to come, from its first byte on, and for an answer to be taken.
HEAD_LIMIT = 10.0
ANSWER_LIMIT = 30.0
#: Seconds that a connection may rest before its first request, and between two.
IDLE_LIMIT = 60.0
#: Bytes read at a time.
_READ = 4096
_END = b"\r\n\r\n"
METHODS = ("GET", "HEAD")
BACKLOG = 64


@record(frozen=True)
class Request:
    """What is asked for: ``path`` is without its query, ``headers`` don't mind the case of names.

    ``peer`` is who asks, ``host:port``.
    """

    method: str
    path: str
    headers: Message
    peer: str


@record(frozen=True)
class Response:
    """What is answered. ``body`` is sent piece by piece, and may switch before each; ``length`` is its bytes, if known.

    ``headers`` are more (name, value); ``compressible``: who takes gzip gets it so. ``pause`` are seconds before it is
    sent, in which the connection rests.
    """

    status: HTTPStatus
    content_type: str
    body: Iterable[bytes]
    length: int | None = None
    headers: tuple[tuple[str, str], ...] = ()
    compressible: bool = False
    pause: float = 0.0


Answer = Callable[[Request], Response]


def text(status: HTTPStatus, words: str, *headers: tuple[str, str]) -> Response:
    """A short answer in words."""
    body = f"{words}\n".encode()
    return Response(status, "text/plain; charset=utf-8", (body,), len(body), headers)


class _Late(TimeoutError):
    """The peer has had its time."""


class HttpServer(StreamServer):
    """Answers requests on ``sock``, a bound stream socket, by ``answer``, which may switch."""

    def __init__(self, sock: socket.socket, answer: Answer) -> None:
        super().__init__(sock, handle=self._serve)
        self._answer = answer
        #: those there are, in the order in which they began to rest; True while they do
        self._connections: dict[_Connection, bool] = {}

    def do_read(self) -> Any:
        """As StreamServer's; where accepting fails, as without descriptors, it pauses, and the log says so."""
        try:
            return super().do_read()
        except OSError as exc:
            if self.is_fatal_error(exc):
                raise
            log.error("cannot accept by HTTP: %s; pausing for %g s", exc.strerror or exc, self.delay)
            raise Exhausted from exc

    def _serve(self, sock: Any, address: Any) -> None:
        connection = _Connection(sock, format_address(*address[:2]), self._answer, self._rests)
        try:
            if len(self._connections) >= MAX_CONNECTIONS and not self._make_room():
                connection.refuse(HTTPStatus.SERVICE_UNAVAILABLE, "too many connections")
                return
            self._connections[connection] = True
            connection.serve()
        except OSError as exc:
            log.debug("HTTP from %s: %s", address, exc)
        finally:
            self._connections.pop(connection, None)
            connection.close()

    def _rests(self, connection: _Connection, rests: bool) -> None:
        """A connection begins to rest, or goes to work."""
        if self._connections.pop(connection, None) is not None:
            self._connections[connection] = rests

    def _make_room(self) -> bool:
        """Close the connection that has rested longest; whether there was one."""
        for connection, rests in self._connections.items():
            if rests:
                del self._connections[connection]
                connection.hang_up()
                return True
        return False

    def stop(self, timeout: float | None = None) -> None:
        """Listen no more, and end what connections there are."""
        super().stop(timeout)
        for connection in list(self._connections):
            connection.hang_up()


class _Connection:
    """One peer."""

    def __init__(self, sock: Any, peer: str, answer: Answer, rests: Callable[[_Connection, bool], None]) -> None:
        # A head and its body are two small packets, of which the second would wait for the peer's word about the first.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sock = sock
        self._peer = peer
        self._answer = answer
        self._rests = rests
        self._buffer = bytearray()

    def serve(self) -> None:
        """Answer one request after the other; may switch. OSError when the peer is gone or late."""
        while True:
            # In the midst of a request, too: whoever sends halves of them would keep all others out.
            self._rests(self, True)
            head = self._read_head()
            self._rests(self, False)
            if head is None:
                return
            with gevent.Timeout(ANSWER_LIMIT, _Late):
                if not self._respond(head):
                    return

    def hang_up(self) -> None:
        """End it wherever it waits."""
        try:
            self._sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            log.debug("an HTTP connection was closed already")

    def close(self) -> None:
        self._sock.close()

    def refuse(self, status: HTTPStatus, words: str) -> None:
        """Tell the peer why nothing more comes from here; may switch. OSError when it is gone or does not take it."""
        with gevent.Timeout(ANSWER_LIMIT, _Late):
            _Handler(b"", self._send).refuse(status, words)

    def _read_head(self) -> bytes | None:
        """The next request up to the empty line; None when there is none, and the peer was told why if that helps."""
        if not self._buffer:
            with suppress(_Late), gevent.Timeout(IDLE_LIMIT, _Late):
                self._buffer += self._sock.recv(_READ)
            if not self._buffer:
                return None
        try:
            with gevent.Timeout(HEAD_LIMIT, _Late):
                while _END not in self._buffer:
                    if len(self._buffer) > MAX_HEAD:
                        break
                    data = self._sock.recv(_READ)
                    if not data:
                        return None
                    self._buffer += data
        except _Late:
            self.refuse(HTTPStatus.REQUEST_TIMEOUT, "the request did not come in time")
            return None
        end = self._buffer.find(_END) + len(_END)
        if not len(_END) <= end <= MAX_HEAD:
            self.refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"a request has {MAX_HEAD} bytes at most")
            return None
        head = bytes(self._buffer[:end])
        del self._buffer[:end]
        return head

    def _respond(self, head: bytes) -> bool:
        """Answer one request; whether another may follow."""
        handler = _Handler(head, self._send)
        if not handler.parse_request() or not handler.may_ask():
            return False
        if handler.command in METHODS:
            request = Request(handler.command, _path_of(handler.path), handler.headers, self._peer)
            response = self._answer(request)
        else:
            response = text(HTTPStatus.METHOD_NOT_ALLOWED, "GET or HEAD", ("Allow", ", ".join(METHODS)))
        if response.pause:
            self._rests(self, True)
            gevent.sleep(response.pause)
            self._rests(self, False)
        handler.send(response)
        # Who sends many requests in one packet doesn't keep the others waiting.
        gevent.sleep(0)
        return not handler.close_connection

    def _send(self, data: bytes) -> None:
        self._sock.sendall(data)


class _Writer:
    """As a file, for the library."""

    def __init__(self, send: Callable[[bytes], None]) -> None:
        self.write = send

    def flush(self) -> None:
        """Nothing is kept back."""


class _Handler(BaseHTTPRequestHandler):
    """The library's reading of one request and writing of headers, out of bytes and into a callable."""

    protocol_version = "HTTP/1.1"
    #: of a request without one: its answer has a head all the same
    default_request_version = "HTTP/1.0"
    error_message_format = "%(message)s: %(explain)s\n"
    error_content_type = "text/plain; charset=utf-8"

    def __init__(self, head: bytes, send: Callable[[bytes], None]) -> None:
        """``head``: the request up to its empty line. Nothing is read yet."""
        self.rfile: Any = BytesIO(head)
        self.wfile: Any = _Writer(send)
        self.client_address = ("", 0)
        self.requestline = ""
        self.request_version = self.protocol_version
        self.command = ""
        self.close_connection = True
        self.raw_requestline = self.rfile.readline()

    def version_string(self) -> str:
        return "pgdoorman"

    def log_message(self, format: str, *args: Any) -> None:
        log.debug("HTTP: " + format, *args)

    def refuse(self, status: HTTPStatus, words: str) -> None:
        """Answer with an error, behind which the connection ends."""
        self.send_error(status, explain=words)

    def may_ask(self) -> bool:
        """Whether a request that was read is of a kind that is answered; else it was refused."""
        if len(self.requestline.split()) != 3:
            self.refuse(HTTPStatus.BAD_REQUEST, "expected a version of HTTP")
            return False
        lengths = self.headers.get_all("Content-Length", [])
        if "Transfer-Encoding" in self.headers or any(length.strip() != "0" for length in lengths):
            self.refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "a request has no body here")
            return False
        return True

    def handle_expect_100(self) -> bool:
        self.refuse(HTTPStatus.EXPECTATION_FAILED, "a request has no body here")
        return False

    def send(self, response: Response) -> None:
        """Send ``response``, with its length, in chunks, or up to the connection's end; may switch."""
        compressed = response.compressible and _takes_gzip(self.headers.get_all("Accept-Encoding", []))
        length = None if compressed else response.length
        whole = self.command != "HEAD"
        chunked = whole and length is None and self.request_version >= "HTTP/1.1"
        self.send_response(response.status)
        self.send_header("Content-Type", response.content_type)
        for name, value in response.headers:
            self.send_header(name, value)
        if response.compressible:
            self.send_header("Vary", "Accept-Encoding")
        if compressed:
            self.send_header("Content-Encoding", "gzip")
        if length is not None:
            self.send_header("Content-Length", str(length))
        elif chunked:
            self.send_header("Transfer-Encoding", "chunked")
        elif whole:
            self.close_connection = True
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if not whole:
            return
        for piece in _gzip(response.body) if compressed else response.body:
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
            gevent.sleep(0)
        if chunked:
            self.wfile.write(b"0\r\n\r\n")


def _path_of(target: str) -> str:
    """The path of a request's target, which may be a whole URL (RFC 9112, 3.2.2)."""
    path = target.partition("?")[0]
    if path.startswith(("http://", "https://")):
        return "/" + path.partition("://")[2].partition("/")[2]
    return path


def _takes_gzip(accepted: Iterable[str]) -> bool:
    """Whether a peer that sent these values of Accept-Encoding takes gzip."""
    for item in ",".join(accepted).lower().split(","):
        name, *parameters = (part.replace(" ", "").replace("\t", "") for part in item.split(";"))
        if name in ("gzip", "x-gzip"):
            return not any(parameter.rstrip("0") in ("q=", "q=0.") for parameter in parameters)
    return False


def _gzip(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The same in gzip, never an empty piece."""
    compressor = zlib.compressobj(level=1, wbits=16 + zlib.MAX_WBITS)
    for piece in pieces:
        data = compressor.compress(piece)
        if data:
            yield data
        else:
            gevent.sleep(0)
    yield compressor.flush()


def bind(host: str, port: int, inherit: Callable[[Any], Any] = lambda address: None) -> list[socket.socket]:
    """A listening socket for each address of ``host``; OSError, naming it, when one can't be.

    ``inherit`` gives one that listens at an address already, or None.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    sockets: list[socket.socket] = []
    for family, kind, protocol, _, address in dict.fromkeys(found):
        inherited = inherit(address)
        if inherited is not None:
            sockets.append(inherited)
            continue
        sock = socket.socket(family, kind, protocol)
        sockets.append(sock)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind(address)
            sock.listen(BACKLOG)
        except OSError as exc:
            for each in sockets:
                each.close()
            raise OSError(exc.errno, f"{address[0]}:{port}: {exc.strerror}") from exc
    return sockets
