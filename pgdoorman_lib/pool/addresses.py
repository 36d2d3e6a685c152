"""Servers whose host's name has come to lead elsewhere: they are closed, those in use when they come back.

Who opens a server resolves its name anew (``server.hosts``); this looks after the servers that are there. Names that
give another part of their addresses each time are left alone: an address is only taken for gone when two looks in a row
have not shown it. A name that can't be resolved says nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any

import gevent

from pgdoorman_lib.errors import DoormanError
from pgdoorman_lib.net.connect import is_numeric, resolve
from pgdoorman_lib.net.syscalls import clock
from pgdoorman_lib.server import states
from pgdoorman_lib.server.connection import Server

log = logging.getLogger(__name__)

#: Seconds between two looks, and for one name at the most.
INTERVAL = 15.0
RESOLVE_SECONDS = 5.0

REASON = "its host's name leads elsewhere by now"

_Name = tuple[str, int]


class NameWatch:
    """The greenlet that looks."""

    def __init__(self) -> None:
        #: what names led to at the last look
        self._last: dict[_Name, set[str]] = {}

    def run(self, pools: Callable[[], Iterable[Any]]) -> None:
        """Look for ever; ``pools`` gives the pools there are."""
        while True:
            gevent.sleep(INTERVAL)
            self.round(pools())

    def round(self, pools: Iterable[Any]) -> None:
        """Look once at the names of all servers; may switch."""
        by_name: dict[_Name, list[Server]] = {}
        for pool in list(pools):
            for server in pool.servers:
                name = server.settings.server_host, server.settings.server_port
                if not is_numeric(name[0]):
                    by_name.setdefault(name, []).append(server)
        last, self._last = self._last, {}
        for name, servers in by_name.items():
            try:
                found = set(resolve(*name, RESOLVE_SECONDS))  # switch
            except DoormanError as exc:
                log.debug("%s was not looked at: %s", name[0], exc.message)
                if name in last:
                    self._last[name] = last[name]
                continue
            self._last[name] = found
            if name in last:
                for server in servers:
                    if server.stream.peer_host not in found | last[name]:
                        _leave(server)


def _leave(server: Server) -> None:
    """Have nobody use it any more; no switch."""
    pool = server.pool
    if server.stage == states.IDLE:
        pool.queue.remove(server)
        pool.forget(server, REASON)
        if pool.queue.waiting:
            pool.opening.grow(clock())
    elif server.stage != states.CLOSED and not server.condemned:
        server.condemn(REASON)
