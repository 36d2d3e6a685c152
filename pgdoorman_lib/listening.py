"""Where the pooler listens: every socket for clients, bound, inherited, set up, begun and closed together."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterator
from typing import Any

from pgdoorman_lib.config.general import General
from pgdoorman_lib.errors import ConfigError
from pgdoorman_lib.listener import Inherit, Listener, open_tcp, open_unix, remove_unix
from pgdoorman_lib.net import sockopt
from pgdoorman_lib.net.engine import Engine

log = logging.getLogger(__name__)


class Listening:
    """Has ``handle`` called for each client, see ``listener.Listener``."""

    def __init__(self, handle: Callable[[Any], None], engine: Engine) -> None:
        self._handle = handle
        self._engine = engine
        self._listeners: list[Listener] = []
        #: another process listens with the same sockets, and goes on
        self.handed_over = False

    def listen(self, general: General, inherit: Inherit) -> None:
        """Bind everything, then listen everywhere, at the first address last: when that answers, all others do.

        ``inherit`` gives sockets that listen already. ConfigError when that can't be.
        """
        backlog = general.backlog or max(1, general.max_connections)
        handle, engine = self._handle, self._engine
        try:
            for host, port in general.addresses():
                self._listeners += open_tcp(host, port, handle, engine, general.so_reuseport, inherit)
            directory = general.unix_socket_dir
            if directory is not None:
                self._listeners.append(
                    open_unix(directory, general.port, general.unix_socket_mode, handle, engine, inherit)
                )
            self.set_up(general)
            for listener in reversed(self._listeners):
                listener.listen(backlog)
        except OSError as exc:
            self.close()
            raise ConfigError(f"could not listen: {exc.strerror or exc}") from exc

    def start(self) -> None:
        """Let clients in."""
        for listener in self._listeners:
            listener.start()
            log.info("listening on %s", listener.name)

    def set_up(self, general: General) -> None:
        """Set the sockets of all clients up that come from now on."""
        # A client must get our last words: closing may not reset its connection.
        options = dataclasses.replace(sockopt.SocketOptions.of(general), so_linger=None)
        for listener in self._listeners:
            listener.set_up(options)

    def sockets(self) -> Iterator[tuple[str, Any]]:
        """Every listening socket with its name."""
        yield from ((listener.name, listener.socket) for listener in self._listeners)

    def pause(self) -> None:
        """Leave new clients in the backlog."""
        for listener in self._listeners:
            listener.stop_accepting()

    def resume(self) -> None:
        """Let them in again."""
        for listener in self._listeners:
            listener.start_accepting()

    def close(self) -> None:
        """Listen no more."""
        for listener in self._listeners:
            listener.close()
            if not self.handed_over:
                remove_unix(listener)
        self._listeners = []
