"""Kernel options of a connection's socket: keepalive, delay, time-outs, lingering, buffer sizes."""

from __future__ import annotations

import socket
import struct
import sys
from typing import Any

from pgdoorman_lib.abc import SocketSettings
from pgdoorman_lib.record import record

#: TCP_KEEPALIVE of macOS, the idle time in seconds, which not every Python names.
_MACOS_TCP_KEEPALIVE = 0x10
_MAX_SECONDS = 32767  # Linux: MAX_TCP_KEEPIDLE, MAX_TCP_KEEPINTVL
_MAX_PROBES = 127  # Linux: MAX_TCP_KEEPCNT


@record(frozen=True)
class SocketOptions:
    """Options of one socket; times in seconds, sizes in bytes; 0 leaves the system's own value.

    The exception is ``so_linger``: 0 means that closing resets the connection (what was not sent yet is lost), None
    that the kernel goes on sending behind our back.
    """

    no_delay: bool = True
    keepalives_idle: float = 0
    keepalives_interval: float = 0
    keepalives_count: int = 0
    user_timeout: float = 0
    so_linger: float | None = None
    buffer_size: int = 0
    unix_buffer_size: int = 0

    @classmethod
    def of(cls, settings: SocketSettings) -> SocketOptions:
        """The options a configuration asks for."""
        return cls(
            no_delay=settings.tcp_no_delay,
            keepalives_idle=settings.tcp_keepalives_idle,
            keepalives_interval=settings.tcp_keepalives_interval,
            keepalives_count=settings.tcp_keepalives_count,
            user_timeout=settings.tcp_user_timeout,
            so_linger=settings.tcp_so_linger,
            buffer_size=settings.tcp_socket_buffer_size,
            unix_buffer_size=settings.unix_socket_buffer_size,
        )


def apply(sock: Any, options: SocketOptions) -> None:
    """Set ``options`` on a TCP or unix socket, before or after it is connected.

    What the system does not know is left out. OSError when the kernel refuses, as macOS does (EINVAL) for a socket
    whose peer has gone already.
    """
    if sock.family == getattr(socket, "AF_UNIX", None):
        _set_buffers(sock, options.unix_buffer_size)
        return
    if options.no_delay:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    idle = getattr(socket, "TCP_KEEPIDLE", _MACOS_TCP_KEEPALIVE if sys.platform == "darwin" else None)
    _set_tcp(sock, idle, _whole(options.keepalives_idle, _MAX_SECONDS))
    _set_tcp(sock, getattr(socket, "TCP_KEEPINTVL", None), _whole(options.keepalives_interval, _MAX_SECONDS))
    _set_tcp(sock, getattr(socket, "TCP_KEEPCNT", None), _whole(options.keepalives_count, _MAX_PROBES))
    # Linux only; in milliseconds (tcp(7)).
    _set_tcp(sock, getattr(socket, "TCP_USER_TIMEOUT", None), _whole(options.user_timeout * 1000, 0x7FFFFFFF))
    if options.so_linger is not None:
        # struct linger is two ints, but two shorts on Windows.
        layout = "hh" if sys.platform == "win32" else "ii"
        seconds = _whole(options.so_linger, _MAX_SECONDS)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack(layout, 1, seconds))
    _set_buffers(sock, options.buffer_size)


def _whole(value: float, limit: int) -> int:
    """``value`` rounded, at least 1 unless it is 0 (which would mean "off"), at most ``limit``."""
    return min(max(1, round(value)), limit) if value > 0 else 0


def _set_tcp(sock: socket.socket, option: Any, value: int) -> None:
    if option is not None and value > 0:
        sock.setsockopt(socket.IPPROTO_TCP, option, value)


def _set_buffers(sock: socket.socket, size: int) -> None:
    if size > 0:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)
