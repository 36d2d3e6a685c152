"""Cancel requests for clients that are another process's, or on their way from one to the other in an upgrade.

A request is for whoever has the client now: who is asked refuses a parcel with a key of nobody it has, and then the
client is here, is on its way, or is nobody. So all are asked again, and it is looked for here, until one has it. Among
several workers the one that was asked has the supervisor ask all of them for those beyond (``cancel_beyond``).
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Sequence

import gevent
from gevent.event import AsyncResult

from pgdoorman_lib.client.registry import Clients
from pgdoorman_lib.net.parcel import Channel, Parcel, ParcelError, Refused
from pgdoorman_lib.net.syscalls import clock
from pgdoorman_lib.supervisor import kinds

log = logging.getLogger(__name__)

#: Seconds for which a client that nobody has may be on its way, and between two looks.
ON_ITS_WAY = 2.0
LOOK_INTERVAL = 0.01
#: Seconds for another process to have carried one out: longer than ``cancel.CANCEL_TIMEOUT``, when it gives up.
DONE_SECONDS = 7.0


class Questions:
    """CANCEL parcels that other processes have taken, by number, until those say DONE."""

    def __init__(self) -> None:
        self._last = 0
        self._waiting: dict[int, AsyncResult[bool]] = {}

    def ask(self, channel: Channel, number: int, secret: bytes, seconds: float) -> bool | None:
        """Have the other process carry a request out, and wait until it has, for so many ``seconds``; may switch.

        Whether it had such a client yet; None: it has not said so. Refused: it has none; ParcelError.
        """
        self._last += 1
        ask = self._last
        answer = self._waiting[ask] = AsyncResult()
        try:
            channel.send(Parcel(kinds.CANCEL, {"number": number, "secret": secret, "ask": ask}), ON_ITS_WAY)
            gevent.wait((answer, channel.ended), timeout=seconds, count=1)
            return bool(answer.get()) if answer.ready() else None
        finally:
            del self._waiting[ask]

    def answered(self, ask: int, done: bool) -> None:
        """The other process has carried out question ``ask``, or had no such client any more; no switch."""
        if ask in self._waiting:
            self._waiting[ask].set(done)


class Asked:
    """What this process and those at the other ends of channels ask each other to cancel.

    Who has asked waits until it is carried out, and only then the client's connection for its request is closed: what
    came behind that would hit the client's next statement.
    """

    def __init__(self) -> None:
        self._questions = Questions()

    def pass_on(
        self, channels: Sequence[Channel], cancel_here: Callable[[int, bytes], bool], number: int, secret: bytes
    ) -> None:
        """Have a process at the other end of one of ``channels`` carry it out, or ``cancel_here``; may switch."""
        deadline = clock() + ON_ITS_WAY
        while channels and clock() < deadline:
            channels, found = self.ask_once(channels, number, secret)
            if found or cancel_here(number, secret):
                return
            gevent.sleep(LOOK_INTERVAL)  # switch: it comes, or goes back

    def ask_once(self, channels: Sequence[Channel], number: int, secret: bytes) -> tuple[list[Channel], bool]:
        """The channels to those who have no such client, and whether another has one and did it; may switch."""
        refused: list[Channel] = []
        for channel in channels:
            try:
                self._questions.ask(channel, number, secret, DONE_SECONDS)
                return refused, True
            except Refused:
                refused.append(channel)
            except ParcelError as exc:
                log.debug("a cancel request was not passed on: %s", exc)
        return refused, False

    def is_done(self, parcel: Parcel) -> None:
        """Another process has carried out what it was asked; no switch."""
        self._questions.answered(int(parcel.state["ask"]), True)

    def carry_out(self, channel: Channel, parcel: Parcel, cancel: Callable[[int, bytes], object]) -> None:
        """Do what was asked for by ``channel``, as ``wanted`` has prepared it, and tell that; may switch."""
        cancel(*parcel.prepared)
        with contextlib.suppress(ParcelError):  # it has ended
            channel.send(Parcel(kinds.DONE, {"ask": parcel.state["ask"], "done": True}), ON_ITS_WAY)


def wanted(parcel: Parcel, clients: Clients) -> tuple[int, bytes]:
    """The key of a request that the other process has passed on; Refused unless such a client is here, and stays."""
    number, secret = int(parcel.state["number"]), bytes(parcel.state["secret"])
    session = clients.by_key(number, secret)
    if session is None or getattr(session, "leaving", False):
        raise Refused("no client with this key is here")
    return number, secret
