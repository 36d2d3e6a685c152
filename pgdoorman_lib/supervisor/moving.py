"""A client, with the server that it keeps, on its way to another process by a channel."""

from __future__ import annotations

from pgdoorman_lib.client import handover as clients
from pgdoorman_lib.client.pooler import Pooler
from pgdoorman_lib.client.session import Session
from pgdoorman_lib.net.parcel import Channel, Parcel
from pgdoorman_lib.pool import handover as pools
from pgdoorman_lib.server import handover as servers
from pgdoorman_lib.supervisor import kinds

#: Seconds for one client or server to go over.
PARCEL_SECONDS = 10.0


def send_client(channel: Channel, pooler: Pooler, session: Session) -> None:
    """Have the process at the other end serve a client of ``pooler``, where ``Departure`` has called; may switch.

    This is the client's greenlet. CanNotMove, ParcelError: it is still ours, and nothing has changed.
    """
    link = session.link
    server = link.server
    session.leaving = 1
    try:
        state = clients.pack(pooler, session)
        descriptors = [link.client.fd]
        if server is not None:
            descriptors.append(server.stream.fd)
            state["server"] = servers.pack(server)
            server.pool.strike_off(server)
        # switch: nobody else touches its sockets meanwhile
        channel.send(Parcel(kinds.CLIENT, state, descriptors), PARCEL_SECONDS)
    except BaseException:
        if server is not None:
            server.pool.enrol(server)
        raise
    finally:
        session.leaving = 0
    if server is not None:
        pools.lose_place(server.pool)
        clients.part_from_server(session)
    link.client.abandon()
