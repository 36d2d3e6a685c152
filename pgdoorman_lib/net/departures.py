"""Parcels on their way out: offered, answered, and moved by the one frame that can't be taken back."""

from __future__ import annotations

from collections.abc import Callable

import gevent
from gevent.event import Event
from gevent.lock import BoundedSemaphore

from pgdoorman_lib.net.frames import MAX_DESCRIPTORS, PIECE, BadFrames, Outgoing
from pgdoorman_lib.net.packing import Malformed, pack, unpack
from pgdoorman_lib.net.parcel_terms import (
    GO,
    MAX_REASON,
    MAX_SIZE,
    OFFER,
    WINDOW,
    WITHDRAW,
    ChannelClosed,
    Parcel,
    ParcelError,
    Refused,
    TimedOut,
)


class Offer:
    """A parcel on its way. ``done`` is set when it has ``parcel.moved`` or ``failure`` says why it stays."""

    __slots__ = ("done", "failure", "go", "parcel", "progress", "whole")

    def __init__(self, parcel: Parcel) -> None:
        self.parcel = parcel
        #: its last piece was queued; the frame that moves it
        self.whole = False
        self.go: Outgoing | None = None
        self.failure: ParcelError | None = None
        #: set when a piece was sent
        self.progress = Event()
        self.done = Event()

    def note_sent(self, frame: Outgoing) -> None:
        """The kernel has the whole frame: a piece, or what moves the parcel."""
        if frame is self.go:
            self.parcel.moved = True
            self.done.set()
        self.progress.set()

    def fail(self, failure: ParcelError) -> None:
        """It stays, if that was not decided before; whoever calls has seen to it that it can't move."""
        if not (self.parcel.moved or self.failure):
            self.failure = failure
            self.done.set()
            self.progress.set()


class Departures:
    """The sending half of a channel.

    ``post`` queues a frame, ``break_off`` ends the channel before another byte is sent.
    """

    def __init__(self, post: Callable[[Outgoing], None], break_off: Callable[[ParcelError], None]) -> None:
        self._post = post
        self._break_off = break_off
        self._last_number = 0
        self._offers: dict[int, Offer] = {}
        self._window = BoundedSemaphore(WINDOW)
        self._turn = BoundedSemaphore(1)  # one parcel's pieces at a time
        #: why nothing is sent any more, or not yet
        self.closed: ParcelError | None = ChannelClosed("the channel was not started")

    def open(self, window: int) -> None:
        """The other side takes ``window`` parcels at once."""
        self._window = BoundedSemaphore(min(window, WINDOW))
        self.closed = None

    def send(self, parcel: Parcel, timeout: float) -> None:
        """As ``Channel.send``."""
        body = _packed(parcel)
        offer = Offer(parcel)
        limit = gevent.Timeout(timeout)
        with limit:
            try:
                with self._window:
                    self._offer(offer, body)
            except gevent.Timeout as exc:
                if exc is not limit:
                    raise
                offer.fail(TimedOut(f"no answer from the other process within {timeout:g} s"))
        if offer.failure is not None:
            raise offer.failure

    def _offer(self, offer: Offer, body: bytes) -> None:
        if self.closed is not None:
            raise self.closed
        self._last_number += 1
        number = self._last_number
        self._offers[number] = offer
        try:
            self._send_pieces(number, offer, body)
            offer.done.wait()
        finally:
            del self._offers[number]
            if not (offer.parcel.moved or isinstance(offer.failure, Refused)):
                self._keep(offer)
                self._post(Outgoing(WITHDRAW, number))

    def _send_pieces(self, number: int, offer: Offer, body: bytes) -> None:
        descriptors = offer.parcel.descriptors
        with self._turn:
            for start in range(0, len(body), PIECE):
                more = start + PIECE < len(body)
                piece = Outgoing(OFFER, number, body[start : start + PIECE], more=more, descriptors=descriptors)
                piece.on_sent = offer.note_sent
                descriptors = ()
                offer.whole = not more
                offer.progress.clear()
                self._post(piece)
                try:
                    while not piece.sent:
                        if offer.done.is_set():
                            return
                        offer.progress.wait()
                finally:
                    piece.cancelled = True  # the descriptors are the caller's again

    def _keep(self, offer: Offer) -> None:
        """See to it that nothing moves the parcel any more."""
        go = offer.go
        if go is None or go.sent:
            return
        go.cancelled = True
        if go.begun:
            # A part of it is over there and can't be taken back; without the rest it means nothing.
            self._break_off(ChannelClosed("given up in the middle of a frame"))

    def ready(self, number: int) -> None:
        """The receiver has made ready."""
        offer = self._offers.get(number)
        if offer is None or offer.failure is not None:
            return  # withdrawn meanwhile
        if not offer.whole or offer.go is not None:
            raise BadFrames("an answer to what was not asked")
        offer.go = Outgoing(GO, number)
        offer.go.on_sent = offer.note_sent
        self._post(offer.go)

    def refused(self, number: int, body: bytes) -> None:
        """The receiver does not want it."""
        reason = unpack(body)
        offer = self._offers.get(number)
        if offer is not None and offer.go is None:
            offer.fail(Refused(str(reason)[:MAX_REASON]))

    def close(self, failure: ParcelError) -> None:
        """What has not moved stays, and nothing more is offered."""
        self.closed = failure
        for offer in list(self._offers.values()):
            self._keep(offer)
            offer.fail(failure)


def _packed(parcel: Parcel) -> bytes:
    if len(parcel.descriptors) > MAX_DESCRIPTORS:
        raise Refused(f"{len(parcel.descriptors)} descriptors; {MAX_DESCRIPTORS} fit into a parcel")
    try:
        body = pack({"kind": parcel.kind, "needs": list(parcel.needs), "state": parcel.state})
    except Malformed as exc:
        raise Refused(f"the state can't be packed: {exc}") from exc
    if len(body) > MAX_SIZE:
        raise Refused(f"a state of {len(body)} bytes; {MAX_SIZE} fit into a parcel")
    return body
