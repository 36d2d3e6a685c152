"""Cancel requests for clients that are another process's, or on their way from one to the other in an upgrade.

A request is for whoever has the client now: who is asked refuses a parcel with a key of nobody it has, and then the
client is here, is on its way, or is nobody. So all are asked again, and it is looked for here, until one has it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import gevent

from pgdoorman_lib.client.registry import Clients
from pgdoorman_lib.net.parcel import Channel, Parcel, ParcelError, Refused
from pgdoorman_lib.net.syscalls import clock
from pgdoorman_lib.supervisor import kinds

log = logging.getLogger(__name__)

#: Seconds for which a client that nobody has may be on its way, and between two looks.
ON_ITS_WAY = 2.0
LOOK_INTERVAL = 0.01


def pass_on(channels: Sequence[Channel], cancel_here: Callable[[int, bytes], bool], number: int, secret: bytes) -> None:
    """Have a process at the other end of one of ``channels`` carry a request out, or ``cancel_here``; may switch."""
    deadline = clock() + ON_ITS_WAY
    while channels and clock() < deadline:
        refused = []
        for channel in channels:
            try:
                channel.send(Parcel(kinds.CANCEL, {"number": number, "secret": secret}), ON_ITS_WAY)
                return
            except Refused:
                refused.append(channel)
            except ParcelError as exc:
                log.debug("a cancel request was not passed on: %s", exc)
        channels = refused  # the others have gone
        if cancel_here(number, secret):
            return
        gevent.sleep(LOOK_INTERVAL)  # switch: it comes, or goes back


def wanted(parcel: Parcel, clients: Clients) -> tuple[int, bytes]:
    """The key of a request that the other process has passed on; Refused unless such a client is here, and stays."""
    number, secret = int(parcel.state["number"]), bytes(parcel.state["secret"])
    session = clients.by_key(number, secret)
    if session is None or getattr(session, "leaving", False):
        raise Refused("no client with this key is here")
    return number, secret
