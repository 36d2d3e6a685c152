"""What the running pooler tells of itself without being asked by a client: statsd, and HTTP with metrics and tables."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import gevent

from pgdoorman_lib.admin import sockets
from pgdoorman_lib.admin.show import SHOWS
from pgdoorman_lib.client.rejections import REASONS
from pgdoorman_lib.config.metrics import Web
from pgdoorman_lib.config.model import Config, format_address
from pgdoorman_lib.errors import ConfigError
from pgdoorman_lib.listener import Inherit, Inherited, adopt
from pgdoorman_lib.metrics.statsd import StatsdExporter
from pgdoorman_lib.views import RunningPooler
from pgdoorman_lib.web.measures import MAX_CONNECTIONS

if TYPE_CHECKING:
    from pgdoorman_lib.web.server import HttpServer

log = logging.getLogger(__name__)

#: What an inherited socket for HTTP is called.
HTTP = "http"


class Telemetry:
    """Tells about ``pooler`` as ``config`` says: ``listen``, ``start``, and ``stop`` in the end.

    ``silent``: another process tells about this one.
    """

    def __init__(self, pooler: RunningPooler, config: Config, *, silent: bool = False) -> None:
        self._pooler = pooler
        self._silent = silent
        self._config = config
        self._statsd = StatsdExporter(pooler, config.statsd)
        self._servers: list[HttpServer] = []

    def listen(self, inherited: Sequence[Inherited], inherit: Inherit) -> None:
        """Listen where [web] says, or on ``inherited`` sockets in its place; ConfigError when that can't be.

        For single addresses of [web], ``inherit`` may give sockets that listen already.
        """
        web = self._config.web
        if self._silent:
            return
        if not web.enabled:
            for each in inherited:
                log.warning(
                    "the socket called %s was handed over, and [web] is not enabled: nobody answers", each.called
                )
            return
        # The library's HTTP, a twentieth of the start of those that don't need it; [web] is begun with or not at all.
        from pgdoorman_lib.metrics.prometheus import CONTENT_TYPE, Exposition
        from pgdoorman_lib.web.pages import Pages
        from pgdoorman_lib.web.server import HttpServer, bind

        exposition = Exposition(self._pooler, _count_sockets, REASONS)
        pages = Pages(self._pooler, SHOWS, exposition.page, CONTENT_TYPE)
        try:
            sockets = [_adopt_tcp(each) for each in inherited] or bind(
                web.host, web.port, lambda address: inherit(_name(address))
            )
            self._servers = [HttpServer(sock, pages.answer) for sock in sockets]
        except OSError as exc:
            raise ConfigError(f"could not listen for HTTP: {exc.strerror or exc}") from exc

    def start(self) -> None:
        """Answer, and send."""
        if not self._silent:
            self._statsd.start()
        for server in self._servers:
            server.start()
            log.info("listening for HTTP on %s", format_address(*server.address[:2]))

    def sockets(self) -> Iterator[tuple[str, Any]]:
        """Every socket that is listened with for HTTP, with its name."""
        yield from ((_name(server.address), server.socket) for server in self._servers)

    def pause(self) -> None:
        """Leave who comes by HTTP in the backlog."""
        for server in self._servers:
            server.stop_accepting()

    def resume(self) -> None:
        """Answer who comes by HTTP again."""
        for server in self._servers:
            server.start_accepting()

    def use(self, config: Config) -> None:
        """Go by another configuration as far as that needs no restart; what is still to be sent takes its time."""
        if not self._silent:
            gevent.spawn(self._statsd.use, config.statsd)

    def stop(self) -> None:
        """Send what is left, and listen no more; may switch."""
        self._statsd.stop()
        for server in self._servers:
            server.stop()


def _adopt_tcp(inherited: Inherited) -> socket.socket:
    sock = adopt(inherited)
    if sock.family == socket.AF_UNIX:
        sock.close()
        raise ConfigError(f"the socket called {inherited.called} is a unix socket: HTTP is by TCP only")
    return sock


def _name(address: Any) -> str:
    """What a listening socket for HTTP is called between processes."""
    return f"{HTTP} {format_address(*address[:2])}"


def most_connections(web: Web) -> int:
    """How many connections there may be at a time by HTTP."""
    return MAX_CONNECTIONS if web.enabled else 0


def _count_sockets(pooler: RunningPooler) -> dict[str, int]:
    """The pooler's, by the names of ``admin.sockets``; may switch."""
    return dict(zip(sockets.NAMES, sockets.counts(pooler.sockets()), strict=True))
