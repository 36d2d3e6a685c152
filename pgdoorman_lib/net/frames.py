"""Frames with descriptors over a unix socket: what ``net.parcel`` speaks, below its meaning.

A frame is a header (length of the body, kind, flags, number of descriptors, number of the parcel) and a body of at most
``MAX_BODY`` bytes. On SOCK_SEQPACKET each is a packet, on SOCK_STREAM they may arrive in any pieces. Descriptors go by
SCM_RIGHTS with the frame's first byte; the kernel never joins those of two frames in one ``recvmsg``.
"""

from __future__ import annotations

import array
import errno
import os
import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import gevent
from gevent.monkey import get_original
from gevent.socket import wait_read, wait_write

#: Bytes of a body we send, and accept: a later version may send larger ones to whom says that they are welcome.
PIECE = 32 * 1024
MAX_BODY = 64 * 1024
#: Descriptors of one frame; the kernel takes up to 253 (SCM_MAX_FD).
MAX_DESCRIPTORS = 64

#: Another piece of the same parcel follows.
MORE = 1

_HEADER = struct.Struct(">IBBHQ")
_RECEIVE_SIZE = _HEADER.size + MAX_BODY
_ANCILLARY_SIZE = socket.CMSG_SPACE(MAX_DESCRIPTORS * array.array("i").itemsize)
_CLOEXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0)
#: The pause in seconds after ETOOMANYREFS, when the kernel tells nobody that there is room again.
_PAUSE = 0.01

_Socket: type[socket.socket] = get_original("socket", "socket")


class BadFrames(Exception):
    """The other side does not speak this protocol, or breaks it; the text says how."""


class Frame(NamedTuple):
    """One frame as received.

    ``descriptors`` are close-on-exec, and whoever takes the frame closes them; ``lost`` says that some did not arrive.
    """

    kind: int
    number: int
    body: bytes
    more: bool
    descriptors: tuple[int, ...]
    lost: bool


class Outgoing:
    """A frame to be sent, and how far that has come; ``descriptors`` stay the sender's."""

    __slots__ = ("begun", "cancelled", "data", "descriptors", "on_sent", "sent")

    def __init__(
        self, kind: int, number: int, body: bytes = b"", *, more: bool = False, descriptors: Sequence[int] = ()
    ) -> None:
        self.data = _HEADER.pack(len(body), kind, MORE if more else 0, len(descriptors), number) + body
        self.descriptors = tuple(descriptors)
        #: do not send it, if not begun
        self.cancelled = False
        #: a part of it is the kernel's, or all of it
        self.begun = False
        self.sent = False
        #: called when it is sent
        self.on_sent: Callable[[Outgoing], None] | None = None


class FrameSocket:
    """A connected AF_UNIX socket (SOCK_STREAM or SOCK_SEQPACKET), which is taken over.

    One greenlet may be in ``receive`` and one in ``send``; both wait in the hub.
    """

    def __init__(self, sock: Any) -> None:
        if sock.family != socket.AF_UNIX or sock.type not in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET):
            raise ValueError(f"parcels go over AF_UNIX, SOCK_STREAM or SOCK_SEQPACKET, not over {sock!r}")
        self._sock = _Socket(fileno=sock.detach())
        self._sock.setblocking(False)
        self._packets = self._sock.type == socket.SOCK_SEQPACKET
        self._buffer = bytearray()
        #: of the frame that is not whole yet: its descriptors, and whether some were lost
        self._arrived: tuple[tuple[int, ...], bool] | None = None
        self._stopped = False

    def stop(self) -> None:
        """From now on not a byte is sent."""
        self._stopped = True

    def close(self) -> None:
        """Close the socket and the descriptors of a frame that never became whole; idempotent."""
        if self._arrived is not None:
            close_all(self._arrived[0])
            self._arrived = None
        self._sock.close()

    def send(self, frame: Outgoing) -> None:
        """Give a frame to the kernel, waiting for room; ``frame.sent`` unless it was cancelled before it had begun.

        OSError when the other side is gone, or the kernel refuses.
        """
        view = memoryview(frame.data)
        ancillary: list[Any] = []
        if frame.descriptors:
            ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", frame.descriptors))]
        while view and (frame.begun or not frame.cancelled):
            if self._stopped:
                raise BrokenPipeError(errno.EPIPE, "the channel has ended")
            try:
                size = self._sock.sendmsg([view], ancillary, getattr(socket, "MSG_NOSIGNAL", 0))
            except InterruptedError:
                continue
            except BlockingIOError:
                wait_write(self._sock.fileno())
                continue
            except OSError as exc:
                if exc.errno not in (errno.ETOOMANYREFS, errno.ENOBUFS, errno.ENOMEM):
                    raise
                # Too many descriptors are in flight between all processes of this user, not only between these two.
                gevent.sleep(_PAUSE)
                continue
            frame.begun = True
            ancillary = []
            view = view[size:]
        frame.sent = not view
        if frame.sent and frame.on_sent is not None:
            frame.on_sent(frame)

    def receive(self) -> Iterator[Frame]:
        """The frames as they arrive, to the end of the connection. BadFrames at what is no frame."""
        was_reset = False
        while True:
            try:
                data, ancillary, flags, _ = self._sock.recvmsg(_RECEIVE_SIZE, _ANCILLARY_SIZE, _CLOEXEC)
            except InterruptedError:
                continue
            except BlockingIOError:
                wait_read(self._sock.fileno())
                continue
            except ConnectionResetError:
                # The other side went away with something of ours unread. SOCK_SEQPACKET tells it before what it had
                # sent, which still counts.
                if was_reset:
                    break
                was_reset = True
                continue
            self._note_descriptors(ancillary, bool(flags & socket.MSG_CTRUNC))
            if flags & socket.MSG_TRUNC:
                raise BadFrames(f"a packet of more than {_RECEIVE_SIZE} bytes")
            if not data:
                break
            self._buffer += data
            yield from self._whole_frames()

    def _note_descriptors(self, ancillary: list[tuple[int, int, bytes]], truncated: bool) -> None:
        found = array.array("i")
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                found.frombytes(data[: len(data) - len(data) % found.itemsize])
        if not found and not truncated:
            return
        if not _CLOEXEC:
            for descriptor in found:
                os.set_inheritable(descriptor, False)
        if self._arrived is not None:
            close_all(found)
            raise BadFrames("descriptors twice with one frame")
        self._arrived = tuple(found), truncated

    def _whole_frames(self) -> Iterator[Frame]:
        buffer = self._buffer
        while len(buffer) >= _HEADER.size:
            length, kind, flags, count, number = _HEADER.unpack_from(buffer)
            if length > MAX_BODY or count > MAX_DESCRIPTORS or flags & ~MORE:
                raise BadFrames(f"a header of length {length}, flags {flags}, {count} descriptors")
            end = _HEADER.size + length
            if len(buffer) < end:
                break
            body = bytes(buffer[_HEADER.size : end])
            del buffer[:end]
            descriptors: tuple[int, ...] = ()
            lost = False
            if count:
                if self._arrived is None:
                    raise BadFrames(f"{count} descriptors announced, none came")
                descriptors, lost = self._arrived
                self._arrived = None
                if len(descriptors) != count and not lost:
                    close_all(descriptors)
                    raise BadFrames(f"{count} descriptors announced, {len(descriptors)} came")
            yield Frame(kind, number, body, bool(flags & MORE), descriptors, lost)
        if self._packets and buffer:
            raise BadFrames("a packet that is not one frame")
        if self._arrived is not None and not buffer:
            raise BadFrames("descriptors that no frame announces")


def close_all(descriptors: Sequence[int]) -> None:
    """Close each, none of which may be closed already; what is behind them is not shut down."""
    for descriptor in descriptors:
        os.close(descriptor)
