"""What the tables of connections look at of a stream that is another process's."""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence
from typing import Any

#: struct ucred of SO_PEERCRED: process, user, group.
_UCRED_SIZE = struct.calcsize("3i")


def pack_stream(stream: Any) -> list[Any]:
    """Addresses, the process at the other end of a unix socket, TLS, and what stands in the buffers."""
    return [
        bool(stream.is_unix),
        stream.peer_host,
        stream.peer_port,
        None if stream.is_unix else _own_address(stream.sock),
        _credentials(stream.sock) if stream.is_unix else None,
        None if stream.tls is None else [str(stream.tls.version()), _cipher(stream.tls)],
        stream.start,
        stream.end,
        stream.out_start,
        stream.out_pending,
    ]


def _own_address(sock: Any) -> list[Any] | None:
    try:
        return list(sock.getsockname()[:2])
    except OSError:  # it has been closed
        return None


def _credentials(sock: Any) -> bytes | None:
    if not hasattr(socket, "SO_PEERCRED"):
        return None
    try:
        return bytes(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED_SIZE))
    except OSError:  # it has been closed
        return None


def _cipher(tls: Any) -> list[Any] | None:
    cipher = tls.cipher()
    return list(cipher) if cipher else None


class PackedStream:
    """As ``net.stream.Stream``, and its socket and TLS, as far as tables look."""

    __slots__ = (
        "_credentials",
        "_own_address",
        "_tls",
        "end",
        "is_unix",
        "out_pending",
        "out_start",
        "peer_host",
        "peer_port",
        "start",
    )

    def __init__(self, packed: Sequence[Any]) -> None:
        (
            self.is_unix,
            self.peer_host,
            self.peer_port,
            self._own_address,
            self._credentials,
            self._tls,
            self.start,
            self.end,
            self.out_start,
            self.out_pending,
        ) = packed[:10]

    @property
    def sock(self) -> PackedStream:
        """Its socket."""
        return self

    def getsockname(self) -> tuple[Any, ...]:
        """The address on our side; OSError when it was closed."""
        if self._own_address is None:
            raise OSError("it has been closed")
        return tuple(self._own_address)

    def getsockopt(self, level: int, option: int, size: int) -> bytes:
        """SO_PEERCRED; OSError when that was not known."""
        if self._credentials is None:
            raise OSError("it has been closed")
        return bytes(self._credentials)

    @property
    def tls(self) -> PackedStream | None:
        """Its TLS."""
        return None if self._tls is None else self

    def version(self) -> str:
        """The version of TLS."""
        return str(self._tls[0])

    def cipher(self) -> tuple[Any, ...] | None:
        """The cipher, as ``ssl.SSLObject.cipher``."""
        return None if self._tls[1] is None else tuple(self._tls[1])
