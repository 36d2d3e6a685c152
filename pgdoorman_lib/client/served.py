"""Who is served: a borrower with the link to the server it borrows, and a relay while it has something to do."""

from __future__ import annotations

from typing import Any

from pgdoorman_lib.client.link import Link, Owner
from pgdoorman_lib.client.relay import Relay, relay_for
from pgdoorman_lib.metrics.counters import LinkStats
from pgdoorman_lib.net.stream import Stream
from pgdoorman_lib.wire import consts


class Served(Owner):
    """A client between its login and its end, as far as messages go."""

    __slots__ = ("batch", "link", "relay", "waiting")

    def init_served(self, client: Stream) -> None:
        """As ``init_borrower``."""
        self.init_owner()
        self.link = Link(self, client, LinkStats())
        self.batch = self.link.batch
        #: what it is served by, None while it rests or waits for a server; see ``at_work`` (types can't say so)
        self.relay: Any = None
        #: it waits for a server
        self.waiting = 0

    def at_work(self) -> Relay:
        """What it is served by while there is something to do."""
        if self.relay is None:
            self.relay = relay_for(self.link)
        return self.relay  # type: ignore[no-any-return]

    def put_down(self) -> None:
        """It has no server: be served by nothing, unless something is left to do without one."""
        relay = self.relay
        if relay is not None and relay.is_done():
            self.relay = None
            relay.rest()

    def idle(self) -> bool:
        """Whether the client has nothing under way: no message begun, no statement, no transaction."""
        link = self.link
        if self.waiting or link.client.end > link.client.start:
            return False
        if link.server is None:
            return True
        replies = link.replies
        if self.batch.settling or replies.count or replies.status != consts.TX_IDLE:
            return False
        return not (self.batch.in_batch or link.client_left)

    def resting(self) -> bool:
        """Whether there is no server, and nothing from the client that asks for one or for the end."""
        link = self.link
        return not (link.server is not None or link.terminated or link.client.has_news())

    def cut_off(self) -> bool:
        """Whether the client has been sent only the beginning of a message: nothing can be told it any more."""
        return bool(self.link.server_left and not self.link.server_drop)
