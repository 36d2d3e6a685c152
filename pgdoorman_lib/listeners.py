"""All that clients come in by: what the configuration names, or the sockets that were open when the process began."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from pgdoorman_lib.config.general import General
from pgdoorman_lib.errors import ConfigError
from pgdoorman_lib.listener import (
    Inherit,
    Inherited,
    Listener,
    address_name,
    adopt,
    defer,
    open_tcp,
    open_unix,
    resolve,
)
from pgdoorman_lib.net.engine import Engine
from pgdoorman_lib.net.sockopt import SocketOptions
from pgdoorman_lib.wire.unix_socket import socket_path

log = logging.getLogger(__name__)


class Listeners:
    """The listeners that give each client to ``take``; none before ``open``."""

    def __init__(self, take: Callable[[Any], None], engine: Engine) -> None:
        self._take = take
        self._engine = engine
        self._all: list[Listener] = []
        #: paths of unix sockets that we have made
        self._paths: list[str] = []
        #: the sockets were handed over by who started the service, in place of what the configuration names
        self.activated = False
        #: another process listens with the same sockets, and goes on
        self.handed_over = False

    def open(self, general: General, inherited: Sequence[Inherited], inherit: Inherit) -> None:
        """Listen, and leave clients in the backlog; ConfigError, and nobody listens, when that can't be.

        Inherited sockets stand in for all addresses of the configuration: what only one of both has is warned of. For
        single addresses of it, ``inherit`` may give sockets that listen already.
        """
        self.activated = bool(inherited)
        try:
            if inherited:
                self._adopt(inherited)
                self._compare(general)
            else:
                self._bind(general, inherit)
            self.set_up(general)
            backlog = general.backlog or max(1, general.max_connections)
            # At the first address last: when that answers, all others do.
            for listener in reversed(self._all):
                listener.listen(backlog)
        except ConfigError:
            self.close()
            raise
        except OSError as exc:
            self.close()
            raise ConfigError(f"could not listen: {exc.strerror or exc}") from exc

    def start(self) -> None:
        """Take clients in."""
        for listener in self._all:
            listener.start()
            log.info("listening on %s", listener.name)

    def set_up(self, general: General) -> None:
        """Have the sockets of all clients from now on as the configuration says; OSError when the kernel refuses."""
        # A client must get our last words: closing may not reset its connection.
        options = replace(SocketOptions.of(general), so_linger=None)
        for listener in self._all:
            listener.set_up(options)

    def sockets(self) -> Iterator[tuple[str, Any]]:
        """Every listening socket with its name."""
        yield from ((listener.name, listener.socket) for listener in self._all)

    def pause(self) -> None:
        """Leave new clients in the backlog."""
        for listener in self._all:
            listener.stop_accepting()

    def resume(self) -> None:
        """Take them in again."""
        for listener in self._all:
            listener.start_accepting()

    def close(self) -> None:
        """Listen no more."""
        for listener in self._all:
            listener.close()
        for path in () if self.handed_over else self._paths:
            try:
                os.unlink(path)
            except FileNotFoundError:
                log.debug("%s is gone already", path)
        self._all, self._paths = [], []

    def _bind(self, general: General, inherit: Inherit) -> None:
        """Bind to everything before anybody listens."""
        for host, port in general.addresses():
            self._all += open_tcp(host, port, self._take, self._engine, general.so_reuseport, inherit)
        if general.unix_socket_dir is not None:
            directory, port, mode = general.unix_socket_dir, general.port, general.unix_socket_mode
            self._all.append(open_unix(directory, port, mode, self._take, self._engine, inherit))
            self._paths.append(socket_path(directory, port))

    def _adopt(self, inherited: Sequence[Inherited]) -> None:
        for each in inherited:
            sock = adopt(each)
            if sock.family != socket.AF_UNIX:
                defer(sock)
            name = address_name(sock.family, sock.getsockname())
            self._all.append(Listener(sock, self._take, name, self._engine))

    def _compare(self, general: General) -> None:
        """Say where the inherited sockets and the configuration differ."""
        wanted = dict.fromkeys(_names(general))
        reached = {name for listener in self._all for name in _reached(listener)}
        for name in wanted:
            if name not in reached:
                log.warning(
                    "the configuration names %s, which is not among the sockets handed over: nobody listens there", name
                )
        for listener in self._all:
            if not wanted.keys() & set(_reached(listener)):
                log.warning("%s was handed over, and the configuration does not name it: it serves, too", listener.name)


def _names(general: General) -> Iterator[str]:
    """The addresses of the configuration."""
    for host, port in general.addresses():
        for family, _, _, address in resolve(host, port):
            yield address_name(family, address)
    if general.unix_socket_dir is not None:
        yield socket_path(general.unix_socket_dir, general.port)


def _reached(listener: Listener) -> Iterator[str]:
    """The addresses by which clients reach a listener, in the words of ``address_name``."""
    yield listener.name
    sock = listener.socket
    if sock.family == socket.AF_INET6:
        host, port = sock.getsockname()[:2]
        if host == "::" and not sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY):
            yield address_name(socket.AF_INET, ("0.0.0.0", port))
