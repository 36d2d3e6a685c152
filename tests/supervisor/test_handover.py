"""What the new process knows for certain of the one before it."""

from __future__ import annotations

import socket
from types import SimpleNamespace
from typing import Any

import gevent

from pgdoorman_lib.net.parcel import Channel, Parcel, Receiver
from pgdoorman_lib.supervisor import kinds
from pgdoorman_lib.supervisor.handover import HandOver


class There(Receiver):
    """The new process: notes what it has taken."""

    def __init__(self) -> None:
        self.taken: list[str] = []

    def prepare(self, parcel: Parcel) -> None:
        """All of it is welcome."""

    def take(self, parcel: Parcel) -> None:
        self.taken.append(parcel.kind)


def test_servers_count_there_once_that_is_told() -> None:
    """A process that dies before it has taken what it was ready for would leave them to be opened by others."""
    app: Any = SimpleNamespace(pools=[], ordered=dict)
    nobody: Any = None
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    there = There()
    channels = [Channel(ours, Receiver()), Channel(theirs, there)]
    gevent.joinall([gevent.spawn(channel.start) for channel in channels], raise_error=True)
    try:
        HandOver(app, lambda: False, nobody, 1, 1)._tell_all(channels[0])
        assert kinds.BEGIN in there.taken
    finally:
        for channel in channels:
            channel.close(0.0)
