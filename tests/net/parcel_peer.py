"""The other process of the tests of parcels: ``python parcel_peer.py CHANNEL receive|send STEP [CLIENT]``.

CHANNEL and CLIENT are inherited descriptors, STEP says what goes wrong and when. It prints a line of JSON for what has
happened.
"""

from __future__ import annotations

import gevent.monkey

gevent.monkey.patch_all()

import json  # noqa: E402
import os  # noqa: E402
import resource  # noqa: E402
import signal  # noqa: E402
import socket  # noqa: E402
import sys  # noqa: E402
from collections.abc import Callable  # noqa: E402
from typing import Any  # noqa: E402

from pgdoorman_lib.net.frames import Outgoing  # noqa: E402
from pgdoorman_lib.net.parcel import Channel, Parcel, ParcelError, Receiver, Refused  # noqa: E402
from pgdoorman_lib.net.parcel_terms import GO, OFFER, READY  # noqa: E402


def say(**what: Any) -> None:
    print(json.dumps(what), flush=True)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd")) - 1


class Peer(Receiver):
    """Tells each client whom it takes who it is, and closes; a "count" is said."""

    knows = frozenset({"patience"})

    def __init__(self, step: str) -> None:
        self.step = step
        self.taken = 0

    def prepare(self, parcel: Parcel) -> None:
        if parcel.kind == "unwanted":
            raise Refused("not wanted")
        if parcel.kind == "exhaust":  # no descriptor more from here on
            limit = os.dup(0)  # the lowest that is free
            os.close(limit)
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, 4096))
        if parcel.kind == "recover":
            resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
        if self.step == "die in prepare":
            die()
        if self.step == "stop in prepare":
            os.kill(os.getpid(), signal.SIGSTOP)
        if self.step == "fault":
            raise RuntimeError("a fault")

    def take(self, parcel: Parcel) -> None:
        if self.step == "die in take":
            die()
        self.taken += 1
        if parcel.kind == "count":
            say(descriptors=descriptors(), taken=self.taken)
        for descriptor in parcel.detach():
            assert not os.get_inheritable(descriptor)
            with socket.socket(fileno=descriptor) as client:
                client.sendall(f"{os.getpid()} {parcel.state.get('name')}".encode())

    def drop(self, parcel: Parcel) -> None:
        say(dropped=parcel.kind)


def at(step: str, kind: int, post: Callable[[Outgoing], None]) -> Callable[[Outgoing], None]:
    """``post`` that dies "before" or "behind" the sending of a frame of that kind."""

    def watched(frame: Outgoing) -> None:
        if frame.data[4] == kind:
            if step.startswith("before"):
                die()
            frame.on_sent = lambda _: die()
        post(frame)

    return watched


def main() -> None:
    role, step = sys.argv[2], sys.argv[3]
    channel = Channel(socket.socket(fileno=int(sys.argv[1])), Peer(step), product="the peer")
    channel.start()
    if role == "receive":
        if step == "behind ready":
            channel._arrivals._post = at(step, READY, channel._post)  # type: ignore[method-assign]
        say(ready=True)
        channel.ended.wait()
        say(end=str(channel.failure), descriptors=descriptors())
        return
    client = int(sys.argv[4])
    if step:
        kind = GO if step.endswith("go") else OFFER
        channel._departures._post = at(step, kind, channel._post)  # type: ignore[method-assign]
    try:
        channel.send(Parcel("client", {"name": "moved"}, (client,)))
    except ParcelError as exc:
        say(failed=str(exc))
    channel.close()
    say(sent=True)


if __name__ == "__main__":
    main()
