"""Listening sockets: one StreamServer per address or unix socket, each handing connected sockets to one callable.

They stand with the engine like any stream, so that accepting is part of its turns: what new clients are sent leaves
together with what others are.
"""

from __future__ import annotations

import logging
import os
import socket
import stat
import sys
from collections.abc import Callable
from typing import Any

import gevent
from gevent.server import StreamServer

from pgdoorman_lib.errors import ConfigError
from pgdoorman_lib.net import sockopt
from pgdoorman_lib.net.accept import Acceptor
from pgdoorman_lib.net.engine import Channel, Engine
from pgdoorman_lib.net.ring import Ring
from pgdoorman_lib.net.sockopt import SocketOptions

_int = int

log = logging.getLogger(__name__)

#: Seconds without accepting after it failed, as without descriptors or memory; clients wait in the backlog.
PAUSE = 0.5
#: Seconds the kernel keeps a connection back while the client says nothing: it has to speak first.
DEFER_SECONDS = 1


class Door(Channel):
    """What the engine knows of a listening socket."""

    __slots__ = ()

    def begin_receive(self, ring: Ring) -> bool:
        return False


class Listener(StreamServer):
    """Accepts on one bound socket and calls ``serve(sock)`` in the hub for each client, which must not switch there.

    ``serve`` gets, and owns, a non-blocking ``net.accept.Accepted``.
    """

    #: accepted in one go before others get their turn
    max_accept = 50

    def __init__(self, sock: Any, serve: Callable[[Any], None], name: str, engine: Engine) -> None:
        self._serve = serve
        self._hub = gevent.get_hub()
        self._engine = engine
        self._door: Door | None = None
        self._resume: Any = None
        #: what each client's socket is set up with, where it does not inherit that from the listening one
        self._options: SocketOptions | None = None
        self.name = name
        sock.setblocking(False)
        handle: Any = serve  # which gevent would call with an address, in a greenlet for each; it is not asked to
        super().__init__(sock, handle=handle)
        self._acceptor = Acceptor(sock)

    def set_up(self, options: SocketOptions) -> None:
        """Have the sockets of all clients from now on so; OSError when the kernel refuses."""
        sockopt.apply(self.socket, options)
        # A unix socket's size is the system's own again in each connection.
        unix = self.socket.family == getattr(socket, "AF_UNIX", None)
        self._options = options if unix and options.unix_buffer_size > 0 else None

    def listen(self, backlog: _int) -> None:
        """Have the kernel take clients in, before anybody accepts them; OSError when another process listens there."""
        try:
            self.socket.listen(backlog)
        except OSError as exc:
            raise _naming(exc, self.name) from exc

    def start_accepting(self) -> None:
        """Let the engine tell about clients."""
        if self._door is None:
            self._door = Door(self._engine, self.socket.fileno())
            self._door.on_idle = self._accept
            self._engine.register(self._door)

    def stop_accepting(self) -> None:
        """Leave clients in the backlog."""
        door = self._door
        if door is not None:
            self._door = None
            door.on_idle = None
            self._engine.unregister(door)

    def _accept(self) -> None:
        """Let each client in that is there."""
        door = self._door
        assert door is not None
        engine = self._engine
        for _ in range(self.max_accept):
            try:
                client = self._acceptor.accept()
            except OSError as exc:
                log.error("cannot accept on %s: %s; pausing for %g s", self.name, exc.strerror or exc, PAUSE)
                self.stop_accepting()
                self._resume = gevent.spawn_later(PAUSE, self.start_accepting)
                return
            if client is None:
                engine.rearm(door)
                return
            try:
                if self._options is not None:
                    sockopt.apply(client, self._options)
                self._serve(client)
            except Exception:
                # A fault about one client must not keep the others out.
                self._hub.handle_error(self.name, *sys.exc_info())
            if self._door is not door:
                return  # closed meanwhile
        engine.note(door, 1)
        engine.kick()

    def close(self) -> None:
        """Stop listening."""
        if self._resume is not None:
            self._resume.kill()
            self._resume = None
        super().close()


def open_tcp(
    host: str, port: int, serve: Callable[[Any], None], engine: Engine, reuse_port: bool = False
) -> list[Listener]:
    """One for each address ``host`` stands for, bound and not listening yet; OSError, naming it, when one can't be.

    ``reuse_port``: other processes may listen on the same port, and the kernel divides clients between all of them.
    """
    wildcard = host in ("", "*")
    found: list[Any] = socket.getaddrinfo(
        None if wildcard else host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    listeners: list[Listener] = []
    for family, kind, proto, _, address in dict.fromkeys(found):
        shown = f"[{address[0]!s}]" if family == socket.AF_INET6 else str(address[0])
        name = f"{shown}:{address[1]}"
        sock = socket.socket(family, kind, proto)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if reuse_port:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if hasattr(socket, "TCP_DEFER_ACCEPT"):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, DEFER_SECONDS)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind(address)
        except OSError as exc:
            sock.close()
            for listener in listeners:
                listener.close()
            raise _naming(exc, name) from exc
        listeners.append(Listener(sock, serve, name, engine))
    return listeners


def _naming(exc: OSError, name: str) -> OSError:
    """The same error, which tells what it is about."""
    return OSError(exc.errno, f"{name}: {os.strerror(exc.errno or 0)}")


def open_unix(directory: str, port: int, mode: int, serve: Callable[[Any], None], engine: Engine) -> Listener:
    """One bound to ``directory/.s.PGSQL.port``, not listening yet; a socket nobody answers on is replaced.

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
    except OSError as exc:
        sock.close()
        raise _naming(exc, path) from exc
    return Listener(sock, serve, path, engine)


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
