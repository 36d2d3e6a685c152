"""Parcels coming in: put together, prepared for, and begun when the sender says so."""

from __future__ import annotations

import logging
from collections.abc import Callable

from gevent.event import Event

from pgdoorman_lib.net.frames import BadFrames, Frame, Outgoing, close_all
from pgdoorman_lib.net.packing import pack, unpack
from pgdoorman_lib.net.parcel_terms import MAX_REASON, MAX_SIZE, READY, REFUSED, WINDOW, Parcel, Receiver, Refused

log = logging.getLogger(__name__)


class _Partial:
    """A parcel of which not all pieces are there."""

    __slots__ = ("body", "descriptors", "lost", "number")

    def __init__(self, first: Frame) -> None:
        self.number = first.number
        self.body = bytearray()
        self.descriptors = first.descriptors
        self.lost = first.lost


class Arrivals:
    """The receiving half of a channel; its methods are called by the channel's reader. ``post`` queues a frame."""

    def __init__(self, receiver: Receiver, post: Callable[[Outgoing], None]) -> None:
        self._receiver = receiver
        self._post = post
        self._partial: _Partial | None = None
        self._prepared: dict[int, Parcel] = {}
        #: why new parcels are refused, if they are
        self.refusal = ""
        self._over = False
        #: set while there is no parcel for which we are bound to wait
        self.settled = Event()
        self.settled.set()

    def offered(self, frame: Frame) -> None:
        """A piece of a parcel."""
        if self._partial is None:
            if frame.number in self._prepared:
                close_all(frame.descriptors)
                raise BadFrames("the same number twice")
            self._partial = _Partial(frame)
        elif frame.descriptors or frame.lost or frame.number != self._partial.number:
            close_all(frame.descriptors)
            raise BadFrames("two parcels mixed up")
        partial = self._partial
        partial.body += frame.body
        if len(partial.body) > MAX_SIZE:
            raise BadFrames(f"a parcel of more than {MAX_SIZE} bytes")
        if not frame.more:
            self._partial = None
            self._arrived(partial)

    def _arrived(self, partial: _Partial) -> None:
        parcel = Parcel("", {}, partial.descriptors)
        ready = False
        try:
            self._prepare(parcel, partial)
            ready = not self._over  # the channel may have ended while the receiver made ready
            if not ready:
                self._receiver.drop(parcel)
        except Refused as exc:
            self._post(Outgoing(REFUSED, partial.number, pack(str(exc)[:MAX_REASON])))
        finally:
            if not ready:
                parcel.close()
        if ready:
            self._prepared[partial.number] = parcel
            self.settled.clear()
            self._post(Outgoing(READY, partial.number))

    def _prepare(self, parcel: Parcel, partial: _Partial) -> None:
        content = unpack(partial.body)
        if not isinstance(content, dict):
            raise BadFrames("a parcel without content")
        kind, state, needs = content.get("kind"), content.get("state"), content.get("needs")
        if not (isinstance(kind, str) and isinstance(state, dict) and isinstance(needs, list)):
            raise BadFrames("a parcel without kind, state or needs")
        if not all(isinstance(word, str) for word in needs):
            raise BadFrames("a need that is no word")
        if len(self._prepared) >= WINDOW:
            raise BadFrames(f"more than {WINDOW} parcels that nobody settles")
        if self.refusal:
            raise Refused(self.refusal)
        if partial.lost:
            raise Refused("the receiver is out of file descriptors")
        unknown = [word for word in needs if word not in self._receiver.knows]
        if unknown:
            raise Refused(f"not known to the receiver: {', '.join(map(repr, unknown))}")
        parcel.kind, parcel.state, parcel.needs = kind, state, tuple(needs)
        try:
            self._receiver.prepare(parcel)
        except Refused:
            raise
        except Exception as exc:
            log.exception("a fault of ours in preparing for a parcel of kind %r, which stays where it is", kind)
            raise Refused(f"a fault of the receiver's: {type(exc).__name__}") from exc

    def begun(self, number: int) -> None:
        """The sender says *go*: the parcel is ours."""
        parcel = self._prepared.pop(number, None)
        if parcel is None:
            raise BadFrames("a parcel begins that was not prepared")
        try:
            self._receiver.take(parcel)
        except Exception:
            log.exception("a fault of ours in taking a parcel of kind %r: its connection is lost", parcel.kind)
        finally:
            parcel.close()
            self._note_settled()

    def withdrawn(self, number: int) -> None:
        """The sender keeps it. It may have been refused already, or not have come as far as here."""
        if self._partial is not None and self._partial.number == number:
            self._forget_partial(self._partial)
        parcel = self._prepared.pop(number, None)
        if parcel is not None:
            self._drop(parcel)
            self._note_settled()

    def close(self) -> None:
        """The channel has ended: drop all for which there was no *go*."""
        self._over = True
        if self._partial is not None:
            self._forget_partial(self._partial)
        while self._prepared:
            self._drop(self._prepared.popitem()[1])
        self.settled.set()

    def _forget_partial(self, partial: _Partial) -> None:
        """What has come of a parcel is of no use any more."""
        close_all(partial.descriptors)
        self._partial = None

    def _drop(self, parcel: Parcel) -> None:
        try:
            self._receiver.drop(parcel)
        except Exception:
            log.exception("a fault of ours in dropping a parcel of kind %r", parcel.kind)
        finally:
            parcel.close()

    def _note_settled(self) -> None:
        if not self._prepared:
            self.settled.set()
