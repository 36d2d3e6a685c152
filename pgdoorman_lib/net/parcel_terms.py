"""What is moved between processes, who takes it, and why it may stay: the words of ``net.parcel``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pgdoorman_lib.net.frames import close_all

#: Parcels one side has offered and the other has not answered.
WINDOW = 32
#: Bytes of a parcel's kind, needs and state.
MAX_SIZE = 64 * 1024 * 1024
#: Characters of a reason that go over.
MAX_REASON = 1000

# Kinds of frames. HELLO keeps its number and form in all formats.
HELLO = 0
OFFER = 1
READY = 2
REFUSED = 3
GO = 4
WITHDRAW = 5


class ParcelError(Exception):
    """A parcel was not moved: it is still the sender's. The text is the reason."""


class Refused(ParcelError):
    """The receiver does not want it; raised by ``Receiver.prepare``, and there again by the sender's ``send``."""


class ChannelClosed(ParcelError):
    """The other process has gone or ceased to listen, or this side has closed the channel."""


class TimedOut(ParcelError):
    """The other process did not answer in time. What it may answer yet has no effect."""


class BadPeer(ParcelError):
    """The other side does not speak this protocol, or no format of it that is spoken here."""


class Parcel:
    """What is moved: a kind ("client", "server", "listener", "control", …), state, descriptors.

    ``state`` holds what ``net.packing`` can pack. ``descriptors`` of a parcel that is sent stay the caller's to close,
    on both outcomes; those of one that was received are the channel's until ``detach``. ``prepared`` is for what a
    receiver has made ready. ``moved`` is the truth on the sender's side, even for whom ``send`` was interrupted.
    """

    __slots__ = ("descriptors", "kind", "moved", "needs", "prepared", "state")

    def __init__(
        self, kind: str, state: dict[str, Any], descriptors: Sequence[int] = (), *, needs: Sequence[str] = ()
    ) -> None:
        self.kind = kind
        self.state = state
        self.descriptors = tuple(descriptors)
        self.needs = tuple(needs)
        self.prepared: Any = None
        self.moved = False

    def detach(self) -> tuple[int, ...]:
        """The descriptors, from now on the caller's to close."""
        descriptors, self.descriptors = self.descriptors, ()
        return descriptors

    def close(self) -> None:
        """Close the descriptors of a received parcel that were not detached."""
        close_all(self.detach())


class Receiver:
    """What becomes of parcels that arrive; derive from it. As it is it refuses all.

    The calls come from the channel's own greenlet, one after the other: what lasts belongs into another.
    """

    #: the words of ``Parcel.needs`` that are understood
    knows: frozenset[str] = frozenset()

    def prepare(self, parcel: Parcel) -> None:
        """Make ready for the parcel, and do nothing yet that its peer or the sender could notice.

        Refused(reason) when it is not wanted; any other exception counts as one, and is logged. The descriptors must be
        neither detached nor wrapped in anything that closes them.
        """
        raise Refused(f"parcels of kind {parcel.kind!r} are not taken here")

    def take(self, parcel: Parcel) -> None:
        """The parcel is ours: begin. Descriptors that were not detached when it returns are closed."""

    def drop(self, parcel: Parcel) -> None:
        """A prepared parcel will not come after all: undo ``prepare``. Its descriptors are closed behind this."""
