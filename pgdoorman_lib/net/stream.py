"""A connected socket with its buffers: the only place that receives and sends.

Rules:
1. One task reads a stream. ``fill``, ``push``, ``write`` and ``send_*`` never switch greenlets; ``read_*``, ``flush``,
   ``start_tls`` may, and are for logins and the console.
2. Received bytes stand in ``block[start:end]``. Without bytes there is no block: an idle connection holds no buffer.
3. Bytes to send are queued and leave at the end of the turn. ``send_block`` hands over a whole block without copying.
4. A failed send is not a failed stream: what the peer said before it went away can still be read. ``eof`` says when
   there is nothing more.
5. TLS is the same stream; nobody above sees a difference. Its handshake is an ``ssl.SSLObject``'s with two memory BIOs.
   Behind that ``records`` has the connection if it is of TLS 1.3 and its secrets are known, else it stays there.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
from collections import deque
from errno import EAGAIN, EINTR, EPROTO, EWOULDBLOCK
from typing import Any

from pgdoorman_lib.errors import PeerGone, ProtocolViolation
from pgdoorman_lib.net.certificates import PeerCertificate, bound_to, shown_by_peer
from pgdoorman_lib.net.engine import Channel, Engine, Task
from pgdoorman_lib.net.measures import BLOCK_SIZE
from pgdoorman_lib.net.ring import Ring
from pgdoorman_lib.net.syscalls import copy, cut, put, recv_into, send_from
from pgdoorman_lib.net.tls13 import RAW_SIZE, SMALL_RECORDS, Tls13
from pgdoorman_lib.net.tls_secrets import CanNotMove, Handshake, keylog_of
from pgdoorman_lib.wire.framing import int32

_int = int
_bytes = bytes

#: Result of ``fill``: the peer has closed / nothing there now / the buffer is full.
EOF = 0
NOTHING = -1
FULL = -2

#: Queued bytes from which a writer should wait for the peer (two blocks: one in flight, one being filled).
HIGH_WATER = 2 * BLOCK_SIZE

#: Bytes of a block beyond which no record of TLS begins.
_SEALED = BLOCK_SIZE - 2 * SMALL_RECORDS

#: -1 where there are none
_AF_UNIX = int(getattr(socket, "AF_UNIX", -1))


#: What ``Stream.export`` says besides TLS.
_EXPORTED = {"peer_host": str, "peer_port": int, "received": int, "sent": int, "unread": bytes}


def check_exported(state: dict[str, Any]) -> None:
    """ValueError unless ``Stream.carry_on`` can go on from ``state``: for a receiver that must refuse it in time."""
    for key, kind in _EXPORTED.items():
        if not isinstance(state.get(key), kind):
            raise ValueError(f"{key} is {type(state.get(key)).__name__}, it must be {kind.__name__}")
    tls = state.get("tls")
    if isinstance(tls, dict):
        Tls13(tls)
    elif tls is not None:
        raise ValueError(f"tls is {type(tls).__name__}, it must be a dictionary or nothing")


class Stream(Channel):
    """A non-blocking connected socket, registered with an engine from here until ``close``.

    ``sock`` is taken over. ``peer_host`` is the numeric address, empty on a unix socket.
    """

    __slots__ = (
        "block",
        "cipher_in",
        "cipher_out",
        "closed",
        "end",
        "end_point",
        "eof",
        "error",
        "inbox",
        "inbox_error",
        "inbox_size",
        "is_unix",
        "more",
        "out",
        "out_end",
        "out_pending",
        "out_start",
        "peer_certificate",
        "peer_host",
        "peer_port",
        "received",
        "records",
        "send_failed",
        "sent",
        "sock",
        "start",
        "tls",
        "tls_end",
        "tls_out",
        "tls_start",
    )

    def __init__(self, sock: socket.socket, engine: Engine, peer_host: str = "", peer_port: _int = 0) -> None:
        self.init_channel(engine, sock.fileno())
        self.sock = sock
        self.peer_host = peer_host
        self.peer_port = peer_port
        self.is_unix = 1 if sock.family == _AF_UNIX else 0
        #: received and not consumed: block[start:end]
        self.block: bytearray | None = None
        self.start = 0
        self.end = 0
        #: received by the engine together with others' bytes, and not filled in yet: inbox[:inbox_size]
        self.inbox: bytearray | None = None
        self.inbox_size = 0
        self.inbox_error = 0
        #: nothing more will come; ``error`` is the errno behind it or 0
        self.eof = 0
        self.error = 0
        #: queued to send: out[out_start:out_end], then the (block, start, end) of ``more``
        self.out: bytearray | None = None
        self.out_start = 0
        self.out_end = 0
        self.more: deque[Any] | None = None
        self.out_pending = 0
        self.send_failed = 0
        self.closed = 0
        #: bytes over the connection's life, as the application sees them (TLS not counted)
        self.received = 0
        self.sent = 0
        self.tls: ssl.SSLObject | Tls13 | None = None
        #: what binds SCRAM to its TLS (``net.certificates``); None without, where there is no such hash, or moved here
        self.end_point: bytes | None = None
        #: what the client has shown in the handshake, if it was asked for that
        self.peer_certificate: PeerCertificate | None = None
        #: ``tls``, if that is ours
        self.records: Tls13 | None = None
        #: what OpenSSL reads from and writes to otherwise
        self.cipher_in: ssl.MemoryBIO | None = None
        self.cipher_out: ssl.MemoryBIO | None = None
        #: records to send: tls_out[tls_start:tls_end]
        self.tls_out: bytearray | None = None
        self.tls_start = 0
        self.tls_end = 0
        engine.register(self)
        # Bytes that came before the registration raise an edge at once; a level-triggered engine tells as well.

    @property
    def peer(self) -> str:
        """What logs and SHOW print: ``host:port``, ``[host]:port`` or ``unix``."""
        host = self.peer_host
        if not host:
            return "unix"
        return f"[{host}]:{self.peer_port}" if ":" in host else f"{host}:{self.peer_port}"

    @property
    def fault(self) -> str:
        """What has broken the connection, for logs; empty when it has ended in order."""
        if self.records is not None and self.records.error:
            return f"TLS: {self.records.error}"
        return os.strerror(self.error) if self.error else ""

    # Receiving.

    def fill(self) -> _int:
        """Receive once into the free room of the block.

        Returns the number of bytes, or EOF, NOTHING (none there now), FULL (no room: consume or ``grow`` first).
        """
        if not self.readable:
            return 0 if self.eof or self.closed else -1
        if self.closed:
            return 0
        if self.inbox is not None and self.tls is None:
            return self._take_inbox()
        block = self.block
        if block is None:
            block = self.engine.take_block()
            self.block = block
            self.start = 0
            self.end = 0
        elif self.start == self.end:
            self.start = 0
            self.end = 0
        room = len(block) - self.end
        if room == 0:
            if self.start == 0:
                return -2
            copy(block, 0, block, self.start, self.end - self.start)
            self.end -= self.start
            self.start = 0
            room = len(block) - self.end
        if self.records is not None:
            n = self._fill_records(block)
        elif self.tls is not None:
            n = self._fill_tls(block, room)
        elif self.inbox_error:
            n = -self.inbox_error  # the kernel tells it but once
        else:
            n = recv_into(self.fd, block, self.end, room)
            if n < room and not (self.hangup and n > 0):
                # The socket is drained: an edge will tell about the next bytes. After a hang-up there is no further
                # edge, so it stays readable until the end of the stream has been seen.
                self.readable = 0
                if self.engine.level_triggered and n > 0:
                    self.engine.rearm(self)
        if n > 0:
            self.end += n
            self.received += n
            return n
        self.release()
        if n == -EAGAIN or n == -EWOULDBLOCK:
            self.readable = 0
            if self.engine.level_triggered:
                self.engine.rearm(self)
            return -1
        self.eof = 1
        self.readable = 0
        if n < 0:
            self.error = -n
        return 0

    def begin_receive(self, ring: Ring) -> bool:
        if self.block is not None or self.inbox is not None or not self.readable or self.closed:
            return False
        if self.task is None or not self.task.parked:
            return False
        if self.tls is not None and (self.records is None or self.records.raw is not None):
            return False
        inbox = self.engine.take_block()
        ring.receive(self.fd, inbox, 0, len(inbox))
        self.inbox = inbox
        self.inbox_size = 0
        return True

    def end_receive(self, n: _int) -> None:
        inbox = self.inbox
        assert inbox is not None
        if n > 0:
            self.inbox_size = n
            self.drained = 1 if n < len(inbox) and not self.hangup else 0
        else:
            self.inbox = None
            self.engine.give_block(inbox)
            if n == -EAGAIN or n == -EWOULDBLOCK:
                self.readable = 0
            elif n < 0 and n != -EINTR:
                self.inbox_error = -n

    def _take_inbox(self) -> _int:
        """As ``fill``, of what was received for us with others: there was no block then, nor is there one now."""
        n = self.inbox_size
        self.block = self.inbox
        self.inbox = None
        self.start = 0
        self.end = n
        self.received += n
        if self.drained:
            self.readable = 0
        return n

    def release(self) -> None:
        """Give the receive block back if nothing is left in it."""
        block = self.block
        if block is not None and self.start == self.end:
            self.block = None
            self.start = 0
            self.end = 0
            self.engine.give_block(block)

    def grow(self, size: _int) -> None:
        """Make room for ``size`` unconsumed bytes in all, by a larger block that is let go once it is empty."""
        block = self.block
        if block is None or len(block) >= size:
            return
        larger = bytearray(size)
        self.engine.count_grown(size)
        copy(larger, 0, block, self.start, self.end - self.start)
        self.end -= self.start
        self.start = 0
        self.block = larger
        self.engine.give_block(block)

    def put_back(self, data: bytearray, size: _int) -> None:
        """Have ``data[:size]`` in front of what is there to be consumed."""
        block: Any
        if self.block is None:
            if self.inbox is not None and self.tls is None:
                self._take_inbox()
            else:
                self.block = self.engine.take_block()
                self.start = 0
                self.end = 0
        if self.start < size:
            self.grow(size + self.end - self.start)
            block = self.block
            copy(block, size, block, self.start, self.end - self.start)
            self.end += size - self.start
            self.start = size
        block = self.block
        self.start -= size
        copy(block, self.start, data, 0, size)

    def has_news(self) -> bool:
        """Whether ``fill`` may bring something, the end included, or bytes are there that nobody consumed."""
        return bool(self.readable or self.end > self.start or self.eof or self.closed)

    def is_lost(self) -> bool:
        """Whether the peer, whose end of the stream has been seen, is known not to read either: it has been reset."""
        if self.readable and self.eof and not self.closed:
            self.readable = 0  # a reset behind the end is not told by reading
            error = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if error:
                self.error = error
        return bool(self.send_failed or self.error or self.closed)

    def has_buffered(self) -> bool:
        """Whether bytes have been received that nobody consumed."""
        if self.records is not None:
            return bool(self.end > self.start or self.records.has_more())
        tls: Any = self.tls
        return bool(self.end > self.start or (tls is not None and tls.pending()))

    # Sending.

    def send_copy(self, data: bytearray, start: _int, size: _int) -> None:
        """Queue a copy of ``data[start:start+size]``."""
        if not (self.send_failed or self.closed):
            self.out_pending += size
            while size > 0:
                if self.more is not None:
                    tail, tail_start, tail_end = self.more.pop()
                    room = len(tail) - tail_end
                    part = size if size < room else room
                    if part > 0:
                        copy(tail, tail_end, data, start, part)
                    self.more.append((tail, tail_start, tail_end + part))
                    if part == 0:
                        self.more.append((self.engine.take_block(), 0, 0))
                else:
                    out = self.out
                    if out is None:
                        out = self.engine.take_block()
                        self.out = out
                        self.out_start = 0
                        self.out_end = 0
                    room = len(out) - self.out_end
                    part = size if size < room else room
                    if part > 0:
                        copy(out, self.out_end, data, start, part)
                        self.out_end += part
                    else:
                        self.more = deque()
                        self.more.append((self.engine.take_block(), 0, 0))
                start += part
                size -= part
            if not self.dirty:
                self.engine.defer(self)

    def send_block(self, block: bytearray, start: _int, end: _int) -> None:
        """Queue ``block[start:end]`` and take the block over: it goes back to the engine once it is sent."""
        if self.send_failed or self.closed:
            self.engine.give_block(block)
        else:
            self.out_pending += end - start
            if self.out is None:
                self.out = block
                self.out_start = start
                self.out_end = end
            else:
                if self.more is None:
                    self.more = deque()
                self.more.append((block, start, end))
            if not self.dirty:
                self.engine.defer(self)

    def write(self, data: _bytes) -> None:
        """Queue ``data``."""
        size = len(data)
        if size and not (self.send_failed or self.closed):
            out = self.out
            if out is None and size <= BLOCK_SIZE:
                out = self.engine.take_block()
                self.out = out
                self.out_start = 0
                self.out_end = 0
            if self.more is not None or out is None or size > len(out) - self.out_end:
                self.send_copy(bytearray(data), 0, size)
            else:
                put(out, self.out_end, data)
                self.out_end += size
                self.out_pending += size
                if not self.dirty:
                    self.engine.defer(self)

    def push(self) -> _int:
        """Send what is queued without waiting: 1 all gone, 0 the socket is full, -1 the connection is broken."""
        if self.closed:
            return -1
        if self.tls is not None:
            return self._push_tls()
        while self.out is not None:
            out = self.out
            n = send_from(self.fd, out, self.out_start, self.out_end - self.out_start)
            if n < 0:
                return self._unsent(-n)
            self.sent += n
            self.out_pending -= n
            self.out_start += n
            if self.out_start == self.out_end:
                self.engine.give_block(out)
                if self.more is None:
                    self.out = None
                    break
                self._next_segment()
        if self.armed:
            self._has_room()
        return 1

    def begin_send(self, ring: Ring) -> bool:
        out = self.out
        if self.records is not None and not self.closed and (self.tls_out is not None or self._seal()):
            raw: Any = self.tls_out
            ring.send(self.fd, raw, self.tls_start, self.tls_end - self.tls_start)
            return True
        if out is None or self.tls is not None or self.closed:
            self.push()
            return False
        ring.send(self.fd, out, self.out_start, self.out_end - self.out_start)
        return True

    def end_send(self, n: _int) -> None:
        if n == -EAGAIN or n == -EWOULDBLOCK or n == -EINTR:
            self.push()  # to say whether and for what to wait
        elif n < 0:
            self._drop_output(-n)
        elif self.records is not None:
            self._records_sent(n)
            if self.tls_out is not None or self.out is not None or self.armed:
                self.push()
        else:
            self.sent += n
            self.out_pending -= n
            self.out_start += n
            if self.out_start == self.out_end:
                out: Any = self.out
                self.engine.give_block(out)
                self._next_segment()
            if self.out is not None or self.armed:
                self.push()

    def _next_segment(self) -> None:
        more = self.more
        if more is None:
            self.out = None
        else:
            self.out, self.out_start, self.out_end = more.popleft()
            if not more:
                self.more = None

    def _unsent(self, error: _int) -> _int:
        """Nothing went, for this errno; as ``push``."""
        if error in (EAGAIN, EWOULDBLOCK):
            self.blocked = 1
            if not self.armed:
                self.engine.want_write(self, 1)
            return 0
        self._drop_output(error)
        return -1

    def _drop_output(self, error: _int) -> None:
        """The peer takes nothing any more: forget what was queued."""
        self.send_failed = 1
        self.error = error
        self._give_output_back()
        if self.eof and self.task is not None:
            self.engine.again(self.task)  # there is no other news to come
        if self.armed:
            self._has_room()

    def _has_room(self) -> None:
        """Nothing is queued any more: whoever met the full socket must not wait for an event that won't come now.

        The room may have been found by the engine at the end of the very turn in which it was missed.
        """
        self.engine.want_write(self, 0)
        if self.blocked:
            self.blocked = 0
            if self.task is not None:
                self.engine.again(self.task)

    def _give_output_back(self) -> None:
        while self.out is not None:
            self.engine.give_block(self.out)
            self._next_segment()
        self.out_pending = 0
        if self.records is not None and self.tls_out is not None:
            self.engine.give_block(self.tls_out)
        self.tls_out = None

    # TLS.

    def _fill_records(self, block: bytearray) -> _int:
        """As recv_into, of the content of records; ``readable`` is what it is to be behind it."""
        records: Any = self.records
        n: _int
        drained = False
        while True:
            if self.inbox is not None:
                drained = bool(self.drained)
                self._take_raw()
            n = records.take(block, self.end) - self.end
            if records.raw is not None and records.raw_start == records.raw_end and not records.content_end:
                self._give_raw_back()
            if n > 0:
                if drained and not records.has_more():
                    self.readable = 0
                    if self.engine.level_triggered:
                        self.engine.rearm(self)
                return n
            if records.over:
                return -EPROTO if records.error else 0
            if self.inbox_error:
                return -self.inbox_error  # the kernel tells it but once
            if drained:
                records.vain = 0
                return -EAGAIN
            raw = self._raw_room(BLOCK_SIZE // 2)
            room = len(raw) - records.raw_end
            n = recv_into(self.fd, raw, records.raw_end, room)
            if n <= 0:
                records.vain = 0
                if records.raw_start == records.raw_end:
                    self._give_raw_back()
                return n
            records.raw_end += n
            drained = n < room and not self.hangup

    def _take_raw(self) -> None:
        """Have what was received for us together with others' bytes among what is to be opened."""
        records: Any = self.records
        inbox: Any = self.inbox
        self.inbox = None
        if records.raw is None:
            records.raw = inbox
            records.raw_start = 0
            records.raw_end = self.inbox_size
        else:
            raw = self._raw_room(self.inbox_size)
            copy(raw, records.raw_end, inbox, 0, self.inbox_size)
            records.raw_end += self.inbox_size
            self.engine.give_block(inbox)

    def _raw_room(self, least: _int) -> bytearray:
        """The buffer of what is to be opened, with room for ``least`` bytes behind that."""
        records: Any = self.records
        raw: bytearray | None = records.raw
        if raw is None:
            raw = self.engine.take_block()
            records.raw = raw
            records.raw_start = 0
            records.raw_end = 0
        if len(raw) - records.raw_end < least:
            size = max(RAW_SIZE, records.raw_end + least)
            larger = bytearray(size)
            self.engine.count_grown(size)
            copy(larger, 0, raw, 0, records.raw_end)
            self.engine.give_block(raw)
            records.raw = larger
            return larger
        return raw

    def _give_raw_back(self) -> None:
        """Nothing is to be opened: its buffer may be others'."""
        records: Any = self.records
        self.engine.give_block(records.raw)
        records.raw = None

    def _take_unread(self) -> None:
        """Have what came before there were ``records`` among what is to be opened."""
        records: Any = self.records
        unread: bytes = records.unread
        if unread:
            put(self._raw_room(len(unread)), records.raw_end, unread)
            records.raw_end += len(unread)
            records.unread = b""

    def _fill_tls(self, block: bytearray, room: _int) -> _int:
        """As recv_into, through the SSL object; a TLS fault counts as a broken connection."""
        tls = self.tls
        cipher_in = self.cipher_in
        assert isinstance(tls, ssl.SSLObject)
        assert cipher_in is not None
        while True:
            if self.inbox is not None:  # it was received before TLS had begun
                raw = self.inbox
                self.inbox = None
                cipher_in.write(memoryview(raw)[: self.inbox_size])
                self.engine.give_block(raw)
            try:
                n = int(tls.read(room, memoryview(block)[self.end :]))
                if n == 0:
                    return 0
                return n
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLZeroReturnError:
                return 0
            except ssl.SSLError:
                return -EPROTO
            raw = self.engine.take_block()
            n = recv_into(self.fd, raw, 0, len(raw))
            if n > 0:
                cipher_in.write(memoryview(raw)[:n])
            self.engine.give_block(raw)
            if n <= 0:
                return n

    def _push_tls(self) -> _int:
        while self.tls_out is not None or (self._seal() if self.records is not None else self._encrypt()):
            raw: Any = self.tls_out
            n = send_from(self.fd, raw, self.tls_start, self.tls_end - self.tls_start)
            if n < 0:
                return self._unsent(-n)
            self._records_sent(n)
        if self.send_failed:
            return -1
        if self.armed:
            self._has_room()
        return 1

    def _records_sent(self, size: _int) -> None:
        self.tls_start += size
        if self.tls_start == self.tls_end:
            if self.records is not None:
                raw: Any = self.tls_out
                self.engine.give_block(raw)
            self.tls_out = None

    def _seal(self) -> bool:
        """Have records of what is queued in ``tls_out``, as many as a block holds; whether there are any."""
        records: Any = self.records
        if self.out is None and records.alert < 0:
            return False
        if records.error and self.out is not None:
            self._drop_output(EPROTO)
            if records.alert < 0:
                return False
        block = self.engine.take_block()
        end = 0
        while self.out is not None and end < _SEALED:
            out = self.out
            size = self.out_end - self.out_start
            if size > BLOCK_SIZE - SMALL_RECORDS - end:
                size = BLOCK_SIZE - SMALL_RECORDS - end
            end = records.seal(out, self.out_start, size, block, end)
            self.sent += size
            self.out_pending -= size
            self.out_start += size
            if self.out_start == self.out_end:
                self.engine.give_block(out)
                self._next_segment()
        if self.out is None and records.alert >= 0:
            end = records.seal_alert(block, end)
        self.tls_out = block
        self.tls_start = 0
        self.tls_end = end
        return True

    def _encrypt(self) -> bool:
        """As ``_seal``, by the SSL object."""
        tls = self.tls
        cipher_out = self.cipher_out
        assert isinstance(tls, ssl.SSLObject)
        assert cipher_out is not None
        out = self.out
        if out is not None:
            try:
                n = int(tls.write(memoryview(out)[self.out_start : self.out_end]))
            except ssl.SSLWantReadError:
                # Renegotiation does not exist in TLS 1.3 and is refused in 1.2: only a handshake could want it.
                n = 0
            except ssl.SSLError:
                self._drop_output(EPROTO)
                return False
            self.sent += n
            self.out_pending -= n
            self.out_start += n
            if self.out_start == self.out_end:
                self.engine.give_block(out)
                self._next_segment()
        if not cipher_out.pending:
            return False
        self.tls_out = bytearray(cipher_out.read())
        self.tls_start = 0
        self.tls_end = len(self.tls_out)
        return True

    def start_tls(
        self,
        context: ssl.SSLContext,
        *,
        server_side: bool,
        server_hostname: str | None = None,
        direct: bool = False,
    ) -> None:
        """Do the TLS handshake; may switch. ``direct``: the other side has begun it, with what is there.

        ProtocolViolation when bytes came in clear behind the request (RFC 2595 section 2.1's attack), PeerGone when the
        peer goes away, ssl.SSLError when it does not agree.
        """
        if self.end > self.start and not direct:
            raise ProtocolViolation(
                "received unencrypted data after SSL request",
                detail="This could be either a client-software bug or evidence of an attempted "
                "man-in-the-middle attack.",
            )
        self.flush()
        received, sent = self.received - (self.end - self.start), self.sent
        if server_side and not direct:
            self._fill_or_park()  # what a handshake takes is not for those who only ask for one
        cipher_in = ssl.MemoryBIO()
        cipher_out = ssl.MemoryBIO()
        tls = context.wrap_bio(cipher_in, cipher_out, server_side=server_side, server_hostname=server_hostname)
        keylog = keylog_of(context)
        handshake = Handshake(keylog) if keylog is not None else None
        records: Tls13 | None = None
        came = b""
        while True:
            failure: ssl.SSLError | None = None
            done = True
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                done = False
            except ssl.SSLError as exc:
                failure = exc  # the alert in cipher_out tells the peer why
            said = cipher_out.read()
            if handshake is not None:
                handshake.step()
                if not server_side:
                    handshake.client_says(said)
                if done:
                    records = handshake.connection(tls, said, came[len(came) - cipher_in.pending :])
            if said:
                self.write(said)
                self.flush()
            if failure is not None:
                raise failure
            if done:
                self.end_point = bound_to(tls)
                self.peer_certificate = shown_by_peer(tls)
                break
            if self.start == self.end:
                self._fill_or_park()
            block = self.block
            assert block is not None
            came = bytes(memoryview(block)[self.start : self.end])
            cipher_in.write(came)
            if handshake is not None and server_side:
                handshake.client_says(came)
            self.start = self.end
            self.release()
        if records is not None:
            self.tls = self.records = records
            self._take_unread()
        else:
            self.tls = tls
            self.cipher_in = cipher_in
            self.cipher_out = cipher_out
        self.received, self.sent = received, sent
        # Application data may have come in the same segment as the end of the handshake: no edge will tell.
        self.readable = 1

    # To another process.

    def may_move(self) -> bool:
        """Whether nothing is known that keeps ``export`` from telling all: not of TLS whose secrets are not known."""
        return self.tls is None or self.records is not None

    def export(self) -> dict[str, Any]:
        """What another process makes the same stream of (``carry_on``); this one stays as good as it is.

        It may hold secrets of TLS. CanNotMove when the peer does not take what is to be sent, the end has been seen, or
        TLS does not allow it. To be called when the engine does not receive for it any more (``Engine.unregister``).
        """
        if self.inbox is not None and self.tls is None and self.block is None:
            self._take_inbox()
        if self.records is not None:
            self._drain_records()
        if self.eof or self.closed or self.inbox is not None:
            raise CanNotMove("the connection has ended, or has bytes in hand")
        if self.push() != 1 or self.send_failed:
            raise CanNotMove("the other side does not take what is to be sent")
        block = self.block
        return {
            "peer_host": self.peer_host,
            "peer_port": self.peer_port,
            "received": self.received,
            "sent": self.sent,
            "unread": bytes(block[self.start : self.end]) if block is not None else b"",
            "tls": self._export_tls() if self.tls is not None else None,
        }

    def _drain_records(self) -> None:
        """Open what has been received: only a record that is not whole goes along as it came."""
        records: Any = self.records
        if self.inbox is not None:
            self._take_raw()
        if self.block is None:
            self.block = self.engine.take_block()
            self.start = 0
            self.end = 0
        while True:
            if self.end == len(self.block):
                self.grow(self.end - self.start + BLOCK_SIZE)
            end = records.take(self.block, self.end)
            if end == self.end:
                break
            self.received += end - self.end
            self.end = end
        self.release()
        if records.over:
            raise CanNotMove(f"TLS has ended: {records.error or 'the other side has closed it'}")

    def _export_tls(self) -> dict[str, Any]:
        tls: Any = self.tls
        if self.records is None:
            raise CanNotMove(f"{tls.version()}, or its secrets are not known")
        try:
            return self.records.export()
        except ValueError as exc:
            raise CanNotMove(f"TLS can't go on elsewhere: {exc}") from exc

    def carry_on(self, state: dict[str, Any]) -> None:
        """Be, right after it was made, what ``export`` has said in another process; ValueError if it can't."""
        check_exported(state)
        tls, unread = state.get("tls"), state["unread"]
        if tls is not None:
            self.tls = self.records = Tls13(tls)
            self._take_unread()
        self.received = state["received"]
        self.sent = state["sent"]
        if unread:
            self.put_back(bytearray(unread), len(unread))
        self.readable = 1

    def abandon(self) -> None:
        """Close without a byte: the connection is another process's."""
        self.send_failed = 1
        self.close()

    # Blocking style, for logins and the console.

    def _park(self) -> None:
        """Wait for news of this stream: a greenlet switch."""
        if self.task is None:
            task = Task(self.engine)
            self.task = task
            try:
                task.park()
            finally:
                self.task = None
        else:
            self.task.park()

    def _fill_or_park(self) -> _int:
        """Receive at least one byte, waiting for it; PeerGone at the end of the stream."""
        while True:
            n = self.fill()
            if n > 0 or n == -2:
                return n
            if n == 0:
                raise PeerGone("connection closed by the other side")
            self.release()  # who waits holds no buffer, however little has come
            self._park()

    def peek(self) -> _int:
        """The next byte, which stays; may switch. PeerGone when the stream ends first."""
        if self.start == self.end:
            self._fill_or_park()
        block: Any = self.block
        return block[self.start]  # type: ignore[no-any-return]

    def read_exact(self, size: _int) -> _bytes:
        """The next ``size`` bytes; may switch. PeerGone when the stream ends first."""
        if self.start == self.end and size > 0:
            self._fill_or_park()
        if 0 < size <= self.end - self.start:
            whole: Any = self.block
            taken = cut(whole, self.start, self.start + size)
            self.start += size
            self.release()
            return taken
        result = bytearray()
        while len(result) < size:
            if self.start == self.end:
                self._fill_or_park()
            block = self.block
            assert block is not None
            part = min(size - len(result), self.end - self.start)
            result += block[self.start : self.start + part]
            self.start += part
        self.release()
        return bytes(result)

    def read_message(self, max_length: _int = 1 << 20) -> tuple[_int, _bytes]:
        """The next message as (type byte, body); may switch.

        ProtocolViolation when its length word is below 4 or above ``max_length`` bytes, PeerGone at the end.
        """
        head = self.read_exact(5)
        length = int32(head, 1)
        if length < 4 or length > max_length:
            raise ProtocolViolation("invalid message length")
        return head[0], self.read_exact(length - 4)

    def flush(self) -> None:
        """Wait until everything queued was given to the kernel; may switch. PeerGone when it can't be."""
        while True:
            result = self.push()
            if result < 0 or self.send_failed:  # it may have failed in the engine's hands
                raise PeerGone("connection closed by the other side")
            if result == 1:
                return
            self._park()

    def close(self) -> None:
        """Send what can be sent at once, then close; idempotent."""
        if self.closed:
            return
        if not self.send_failed:
            if self.tls is not None and not self.error:
                self.push()  # nothing can be sent behind close_notify
                # close_notify is queued, also where the peer has closed its direction: without ours it can't tell our
                # end from a truncation. The peer's own is not waited for (RFC 8446 section 6.1).
                with contextlib.suppress(ssl.SSLError, OSError, ValueError):
                    self.tls.unwrap()
            self.push()
        self.closed = 1
        self.engine.unregister(self)
        self.on_idle = None
        self.task = None
        if self.block is not None:
            self.start = self.end
            self.release()
        if self.inbox is not None:
            self.engine.give_block(self.inbox)
            self.inbox = None
        if self.records is not None and self.records.raw is not None:
            self._give_raw_back()
        self._give_output_back()
        self.sock.close()
        self.fd = -1
