"""Listening sockets: one StreamServer per address or unix socket, each handing connected sockets to one callable."""

from __future__ import annotations

import errno
import logging
import os
import socket
import stat
import sys
from collections.abc import Callable
from typing import Any

import gevent
from gevent.server import StreamServer
from greenlet import greenlet

from pgdoorman_lib.errors import ConfigError
from pgdoorman_lib.net.accept import Acceptor

log = logging.getLogger(__name__)

#: Seconds without accepting after the process ran out of descriptors or memory; clients wait in the backlog.
EXHAUSTED_PAUSE = 0.5
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Listener(StreamServer):
    """Accepts on one bound socket and spawns ``serve(sock, address)`` for each client.

    ``serve`` gets, and owns, a non-blocking ``net.accept.Accepted``; ``address`` is (host, port), None on unix sockets.
    """

    #: accepted in one go before others get their turn
    max_accept = 50

    def __init__(self, sock: Any, serve: Callable[[Any, Any], None], name: str) -> None:
        self._serve = serve
        self._hub = gevent.get_hub()
        self._resume: Any = None
        self.name = name
        super().__init__(sock, handle=serve)
        self._acceptor = Acceptor(sock)

    def do_read(self) -> Any:
        """The next client, or None; out of descriptors it says so once and pauses instead of spinning."""
        try:
            return self._acceptor.accept()
        except OSError as exc:
            if exc.errno not in _EXHAUSTED:
                raise
            log.error("cannot accept on %s: %s; pausing for %g s", self.name, exc.strerror, EXHAUSTED_PAUSE)
            self.stop_accepting()
            self._resume = gevent.spawn_later(EXHAUSTED_PAUSE, self.start_accepting)
            return None

    def do_handle(self, *args: Any) -> None:
        """Give the client a greenlet of its own, which begins at once; a bare one, for nobody waits for its end."""
        greenlet(self._run, self._hub).switch(*args)

    def _run(self, *args: Any) -> None:
        try:
            self._serve(*args)
        except Exception:
            self._hub.handle_error(self.name, *sys.exc_info())

    def close(self) -> None:
        """Stop listening."""
        if self._resume is not None:
            self._resume.kill()
            self._resume = None
        super().close()


def open_tcp(host: str, port: int, backlog: int, serve: Callable[[Any, Any], None]) -> list[Listener]:
    """Listeners on every address ``host`` stands for; OSError when one can't be bound."""
    wildcard = host in ("", "*")
    found: list[Any] = socket.getaddrinfo(
        None if wildcard else host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    listeners = []
    for family, kind, proto, _, address in dict.fromkeys(found):
        sock = socket.socket(family, kind, proto)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if hasattr(socket, "SO_REUSEPORT"):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind(address)
            sock.listen(backlog)
        except OSError:
            sock.close()
            raise
        shown = f"[{address[0]!s}]" if family == socket.AF_INET6 else str(address[0])
        listeners.append(Listener(sock, serve, f"{shown}:{address[1]}"))
    return listeners


def open_unix(directory: str, port: int, mode: int, backlog: int, serve: Callable[[Any, Any], None]) -> Listener:
    """A listener on ``directory/.s.PGSQL.port``; a socket nobody answers on is replaced.

    ConfigError when something else stands there or another process listens; OSError when it can't be bound.
    """
    path = os.path.join(directory, f".s.PGSQL.{port}")
    _remove_stale(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        before = os.umask(0o777 & ~mode)
        try:
            sock.bind(path)
        finally:
            os.umask(before)
        os.chmod(path, mode)
        sock.listen(backlog)
    except OSError:
        sock.close()
        raise
    return Listener(sock, serve, path)


def _remove_stale(path: str) -> None:
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise ConfigError(f"general.unix_socket_dir: {path} exists and is not a socket")
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        probe.connect(path)
    except (ConnectionRefusedError, FileNotFoundError):
        pass
    else:
        raise ConfigError(f"general.unix_socket_dir: another process listens on {path}")
    finally:
        probe.close()
    os.unlink(path)


def remove_unix(listener: Listener) -> None:
    """Take the socket file away after the listener was closed."""
    if listener.name.startswith("/"):
        try:
            os.unlink(listener.name)
        except FileNotFoundError:
            log.debug("%s is gone already", listener.name)
