"""Outgoing connections: name or unix directory in, connected Stream out, within a deadline.

What a failure says to the peer carries no address; its ``__cause__`` does, for the log.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import time
from typing import Any, NoReturn

import gevent
from gevent.monkey import get_original
from gevent.socket import getaddrinfo, wait_write

from pgdoorman_lib.errors import LocalResourcesExhausted, ServerUnavailable
from pgdoorman_lib.net.engine import Engine
from pgdoorman_lib.net.sockopt import SocketOptions, apply
from pgdoorman_lib.net.stream import Stream
from pgdoorman_lib.wire.unix_socket import socket_path

# The engine waits for readiness itself: a plain socket, patched or not.
_Socket: type[socket.socket] = get_original("socket", "socket")
_getaddrinfo = get_original("socket", "getaddrinfo")

#: It is us who lack something; trying another address or another server would not help.
_OUR_FAULT = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))
_IN_PROGRESS = frozenset((errno.EINPROGRESS, errno.EALREADY, errno.EINTR))
#: Pauses in seconds while a unix socket's backlog is full: the kernel tells nobody when it is not any more.
_FIRST_PAUSE = 0.005
_LONGEST_PAUSE = 0.1

_Address = tuple[int, Any, str, str]  # family, socket address, name for logs, numeric host


def open_stream(host: str, port: int, engine: Engine, timeout: float | None, options: SocketOptions) -> Stream:
    """Connect to ``host`` (a name, an address, or a directory with ``.s.PGSQL.<port>`` in it); may switch.

    A name's addresses are tried in the resolver's order. ``timeout`` (seconds, None for no limit) is for all of it, the
    resolver included; an address that does not answer may use up its share, not the time of those behind it.
    ServerUnavailable when none accepts (``__cause__`` is a TimeoutError if time was up), LocalResourcesExhausted when
    this process lacks descriptors or buffers.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    addresses = _resolve(host, port, deadline)
    failures: list[str] = []
    last: OSError = OSError(errno.EADDRNOTAVAIL, "no address")
    for index, (family, address, name, numeric_host) in enumerate(addresses):
        left = None
        if deadline is not None:
            left = max(0.0, deadline - time.monotonic()) / (len(addresses) - index)
        try:
            sock = _connect(family, address, left, options)
        except OSError as exc:
            if exc.errno in _OUR_FAULT:
                raise _exhausted(exc) from exc
            last = exc
            failures.append(f"{name}: {exc.strerror or exc}")
            continue
        try:
            return Stream(sock, engine, numeric_host, port)
        except BaseException:
            sock.close()
            raise
    text = f"{host}:{port}: " + "; ".join(failures)
    if isinstance(last, TimeoutError):
        raise ServerUnavailable("could not connect to the server: timeout expired") from TimeoutError(text)
    raise ServerUnavailable(f"could not connect to the server: {last.strerror}") from OSError(last.errno, text)


def resolve(host: str, port: int, timeout: float | None) -> list[str]:
    """The numeric addresses of ``host`` in the resolver's order; a directory's is itself; may switch.

    Raises as ``open_stream`` does.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    return [numeric_host or host for _, _, _, numeric_host in _resolve(host, port, deadline)]


def is_numeric(host: str) -> bool:
    """Whether ``host`` is an address or a directory, so that there is nothing to resolve."""
    if host.startswith("/"):
        return True
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _resolve(host: str, port: int, deadline: float | None) -> list[_Address]:
    if host.startswith("/"):
        path = socket_path(host, port)
        return [(socket.AF_UNIX, path, path, "")]
    if is_numeric(host):
        # No need to trouble the resolver's threads.
        found = _getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    else:
        found = _look_up(host, port, deadline)
    addresses: list[_Address] = []
    for family, _, _, _, address in found:
        numeric_host = str(address[0])
        name = f"[{numeric_host}]:{port}" if family == socket.AF_INET6 else f"{numeric_host}:{port}"
        if (family, address, name, numeric_host) not in addresses:
            addresses.append((family, address, name, numeric_host))
    return addresses


def _look_up(host: str, port: int, deadline: float | None) -> list[Any]:
    left = None if deadline is None else max(0.0, deadline - time.monotonic())
    text = "could not resolve the server's host name"
    try:
        with gevent.Timeout(left, TimeoutError(f"{host}: the resolver did not answer")):
            return list(getaddrinfo(host, port, type=socket.SOCK_STREAM))
    except TimeoutError as exc:
        raise ServerUnavailable(f"{text}: timeout expired") from exc
    except socket.gaierror as exc:
        _check_descriptors()
        raise ServerUnavailable(text) from OSError(f"{host}: {exc.strerror}")
    except UnicodeError as exc:  # a label that is empty or too long
        raise ServerUnavailable(text) from OSError(f"{host}: {exc}")


def _check_descriptors() -> None:
    """LocalResourcesExhausted if the resolver's "temporary failure" was our lack of descriptors."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError as exc:
        raise _exhausted(exc) from exc


def _exhausted(exc: OSError) -> LocalResourcesExhausted:
    return LocalResourcesExhausted(f"could not open a connection to the server: {exc.strerror}")


def _connect(family: int, address: Any, timeout: float | None, options: SocketOptions) -> socket.socket:
    """A connected non-blocking socket; OSError (TimeoutError after ``timeout`` seconds). May switch."""
    sock = _Socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        apply(sock, options)  # before connecting: the window's scale is agreed on in the handshake
        with gevent.Timeout(timeout, TimeoutError(errno.ETIMEDOUT, "timeout expired")):
            _finish_connect(sock, address)
        # A port of the ephemeral range that nobody listens on can be connected to itself.
        if family != getattr(socket, "AF_UNIX", None) and sock.getsockname() == sock.getpeername():
            _fail(errno.ECONNREFUSED)
    except BaseException:
        sock.close()
        raise
    return sock


def _finish_connect(sock: socket.socket, address: Any) -> None:
    pause = _FIRST_PAUSE
    while True:
        code = sock.connect_ex(address)
        if code in (0, errno.EISCONN):
            return
        if code in _IN_PROGRESS or (code == errno.EWOULDBLOCK and os.name == "nt"):
            wait_write(sock.fileno())
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code == 0:
                return
        elif code == errno.EAGAIN:  # a unix socket with a full backlog
            gevent.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
            continue
        _fail(code)


def _fail(code: int) -> NoReturn:
    raise OSError(code, os.strerror(code))
