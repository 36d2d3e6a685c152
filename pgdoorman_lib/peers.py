"""The other poolers behind the same address, [peers]: cancel requests for their clients that came here go on to them.

Rules:
1. Who is asked stands in the key (``wire.cancel_keys``), which anybody may invent: whatever it says costs no more than
   one short connection to a peer that is configured, of which there are ``pool_size`` at one time; others wait.
2. A request that was passed on is marked, and goes no further.
3. As PostgreSQL does it the client's connection is closed when the request is through: when the peer has closed the one
   on which it was passed on, at the latest after PASSING_TIMEOUT. Nothing is told but that; why it failed is logged.
4. There is no TLS between poolers yet: keys go in clear, as they do from a client without TLS.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator, Mapping

import gevent
from gevent.lock import BoundedSemaphore

from pgdoorman_lib.config import peers as config
from pgdoorman_lib.config.general import General
from pgdoorman_lib.config.model import format_address
from pgdoorman_lib.errors import DoormanError
from pgdoorman_lib.log import Limited
from pgdoorman_lib.metrics.counters import ConnectionStats
from pgdoorman_lib.net.connect import open_stream
from pgdoorman_lib.net.engine import Engine
from pgdoorman_lib.net.sockopt import SocketOptions
from pgdoorman_lib.server.cancel import deliver
from pgdoorman_lib.wire import cancel_keys
from pgdoorman_lib.wire.messages import cancel_request
from pgdoorman_lib.wire.proxy import UNKNOWN
from pgdoorman_lib.wire.unix_socket import socket_path

log = logging.getLogger(__name__)
#: Anybody can have these lines written, by keys that he invents.
strays = Limited(log)

#: Seconds for a request to be carried out by a peer, with the wait for others; PgBouncer's cancel_wait_timeout.
PASSING_TIMEOUT = 10.0


class Peer:
    """One other pooler, and how many requests for its clients are on their way."""

    def __init__(self, number: int, settings: config.Peer) -> None:
        self.id = number
        self.settings = settings
        self._places = BoundedSemaphore(settings.pool_size)
        #: where failures are logged; as many as there are keys that anybody invents
        self.failures = Limited(log)
        #: requests that wait for a place, whose connection is being made, that the peer carries out
        self.waiting = 0
        self.connecting = 0
        self.active = 0

    def __str__(self) -> str:
        host, port = self.settings.host, self.settings.port
        return f"peer {self.id} ({socket_path(host, port) if host.startswith('/') else format_address(host, port)})"

    def pass_on(self, packet: bytes, engine: Engine, options: SocketOptions) -> None:
        """Send ``packet`` and wait until the peer closes the connection; may switch. DoormanError when it can't be."""
        self.waiting += 1
        try:
            self._places.acquire()
        finally:
            self.waiting -= 1
        try:
            self._deliver(packet, engine, options)
        finally:
            self._places.release()

    def _deliver(self, packet: bytes, engine: Engine, options: SocketOptions) -> None:
        self.connecting += 1
        try:
            stream = open_stream(self.settings.host, self.settings.port, engine, None, options)
        finally:
            self.connecting -= 1
        self.active += 1
        try:
            if self.settings.proxy_protocol:
                stream.write(UNKNOWN)
            deliver(stream, packet)
        finally:
            self.active -= 1
            stream.close()


class Peers:
    """All other poolers. ``stats`` counts what was passed on to them."""

    def __init__(self, engine: Engine, stats: ConnectionStats) -> None:
        self._engine = engine
        self._stats = stats
        self._own = 0
        self._options = SocketOptions()
        self._peers: dict[int, Peer] = {}

    def use(self, general: General, peers: Mapping[int, config.Peer]) -> None:
        """Go by these from now on; requests that are on their way are not disturbed."""
        self._own = general.peer_id
        # Closing must never take back what was sent.
        self._options = dataclasses.replace(SocketOptions.of(general), so_linger=None)
        known = self._peers
        self._peers = {
            number: known[number] if number in known and known[number].settings == peer else Peer(number, peer)
            for number, peer in peers.items()
        }

    @property
    def most(self) -> int:
        """Connections to peers there may be at one time."""
        return sum(peer.settings.pool_size for peer in self if self._own not in (0, peer.id))

    def __iter__(self) -> Iterator[Peer]:
        return iter(list(self._peers.values()))

    def __len__(self) -> int:
        return len(self._peers)

    def pass_on(self, process: int, secret: bytes, hopped: bool) -> bool:
        """Have the pooler that has given this key out cancel the statement; may switch. Whether it was another's.

        ``hopped``: the request has been passed on to this one.
        """
        owner = cancel_keys.peer_of(process) if self._own else 0
        if not owner or owner == self._own:
            return False
        if hopped:
            strays.warning(
                "a cancel request for peer %d was passed on to this one, which is %d: the ids and addresses in [peers] "
                "don't fit together",
                owner,
                self._own,
            )
        elif (peer := self._peers.get(owner)) is None:
            strays.warning("a cancel request is for peer %d, which is not in [peers]", owner)
        else:
            self._pass_on_to(peer, cancel_request(cancel_keys.passed_on(process), secret))
            return True
        self._stats.not_passed_on += 1
        return True

    def _pass_on_to(self, peer: Peer, packet: bytes) -> None:
        try:
            with gevent.Timeout(PASSING_TIMEOUT, _TookTooLong()):
                peer.pass_on(packet, self._engine, self._options)
        except DoormanError as exc:
            self._stats.not_passed_on += 1
            peer.failures.warning("a cancel request could not be passed on to %s: %s", peer, exc.message)
        else:
            self._stats.passed_on += 1
            log.debug("a cancel request was passed on to %s", peer)


class _TookTooLong(DoormanError):
    """A peer was not done with a request in time."""

    def __init__(self) -> None:
        super().__init__(f"it was not done with it within {PASSING_TIMEOUT:g} s")
