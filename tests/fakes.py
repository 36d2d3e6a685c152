"""A stream that is two byte strings, for tests of what talks over one in blocking style."""

from __future__ import annotations

import ssl
from collections import deque
from collections.abc import Callable

from pgdoorman_lib.errors import PeerGone, ProtocolViolation
from pgdoorman_lib.net.stream import Stream


class FakeTls:
    """What there is after a handshake."""

    def __init__(self, alpn: str | None) -> None:
        self._alpn = alpn

    def selected_alpn_protocol(self) -> str | None:
        return self._alpn


class FakeStream(Stream):
    """Stands for ``net.stream.Stream`` in logins.

    ``arrivals`` come one after the other, each as one segment. When they are used up, ``answer`` is called with what
    was sent since the last time and gives the peer's next bytes; nothing, or no ``answer``: the peer is gone. What is
    queued is sent before a read waits, as by the real one.
    """

    def __init__(
        self,
        *arrivals: bytes,
        answer: Callable[[bytes], bytes] | None = None,
        peer_host: str = "127.0.0.1",
        is_unix: bool = False,
    ) -> None:
        self.is_unix = is_unix
        self.peer_host = "" if is_unix else peer_host
        self.peer_port = 54321
        self.tls = None
        #: what binds SCRAM to the TLS there will be
        self.will_bind: bytes | None = None
        self.end_point = None
        self.peer_certificate = None
        self.closed = False
        #: raised by the next handshake
        self.handshake_error: ssl.SSLError | None = None
        #: the protocol that it will agree on
        self.alpn: str | None = None
        #: contexts of the handshakes there were
        self.handshakes: list[ssl.SSLContext] = []
        self.flushed = b""
        self.queued = b""
        self._answer = answer
        self._answered = 0
        self._arrivals = deque(arrivals)
        self._buffer = b""

    @property
    def written(self) -> bytes:
        """All that was written, flushed or not."""
        return self.flushed + self.queued

    def read_exact(self, size: int) -> bytes:
        while len(self._buffer) < size:
            self._buffer += self._receive()
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data

    def _receive(self) -> bytes:
        self.flush()
        if self._arrivals:
            return self._arrivals.popleft()
        fresh, self._answered = self.flushed[self._answered :], len(self.flushed)
        data = self._answer(fresh) if self._answer is not None else b""
        if not data:
            raise PeerGone("connection closed by the other side")
        return data

    def read_message(self, max_length: int = 1 << 20) -> tuple[int, bytes]:
        head = self.read_exact(5)
        length = int.from_bytes(head[1:], "big")
        if not 4 <= length <= max_length:
            raise ProtocolViolation("invalid message length")
        return head[0], self.read_exact(length - 4)

    def write(self, data: bytes) -> int:  # type: ignore[override] # what compiled callers make of None is an error
        assert not self.closed
        self.queued += data
        return 0

    def flush(self) -> None:
        self.flushed, self.queued = self.written, b""

    def has_buffered(self) -> bool:
        return bool(self._buffer)

    def peek(self) -> int:
        while not self._buffer:
            self._buffer = self._receive()
        return self._buffer[0]

    def start_tls(
        self,
        context: ssl.SSLContext,
        *,
        server_side: bool,
        server_hostname: str | None = None,
        direct: bool = False,
    ) -> None:
        if direct:
            self._buffer = b""
        if self._buffer:
            raise ProtocolViolation("received unencrypted data after SSL request")
        self.flush()
        self.handshakes.append(context)
        if self.handshake_error is not None:
            raise self.handshake_error
        self.tls = FakeTls(self.alpn)  # type: ignore[assignment]
        self.end_point = self.will_bind

    def close(self) -> None:
        self.flush()
        self.closed = True
