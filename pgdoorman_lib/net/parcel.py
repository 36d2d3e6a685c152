"""A connection moved to another process: its descriptors by SCM_RIGHTS, its state in a versioned message.

**Whose it is.** A parcel goes in three steps, of which only the last one moves it:

1. *offer*: the sender, who has ceased to read and write, sends descriptors and state.
2. *ready* or *refused*: the receiver has made ready (``Receiver.prepare``) without a byte read or written.
3. *go*: the sender says that it is the receiver's, who begins (``Receiver.take``).

The one moment is when the kernel has taken the whole *go*. Before it the parcel is the sender's, whatever happens: a
refusal, a time-out, the end of the other process or of the connection between them. Behind it the parcel is the
receiver's and shares its fate; the sender never touches it again and closes its copies. So ``Channel.send`` has two
outcomes: it returns, and the parcel is the other's; or it raises, and it is still ours. None is in doubt.

A receiver that said *ready* is bound: it does nothing before *go*. When the channel ends without it, it can't know
whether the sender has died or given it up, so it closes its copies (and shuts nothing down): if the sender lives, its
client notices nothing; if not, the client sees its connection closed, as with any process that dies.

**Flow.** At most ``WINDOW`` parcels are offered and unanswered, since the descriptors in flight of one user are limited
(RLIMIT_NOFILE, then ETOOMANYREFS, which is waited out). A receiver short of descriptors of its own refuses.

**Versions.** Each side says first which formats it speaks (``OLDEST`` to ``NEWEST``), and both use the newest they
share; without one nothing is moved. ``state`` is a dictionary: a receiver passes over keys that it does not know, so a
new one needs no new format if older receivers do right without it. If they don't, the sender names a word in ``needs``,
and a receiver that does not know it refuses. A new format is for a change of the steps or frames themselves.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import gevent
from gevent.event import Event

from pgdoorman_lib import __version__
from pgdoorman_lib.net.arrivals import Arrivals
from pgdoorman_lib.net.departures import Departures
from pgdoorman_lib.net.frames import BadFrames, Frame, FrameSocket, Outgoing, close_all
from pgdoorman_lib.net.packing import Malformed, pack, unpack
from pgdoorman_lib.net.parcel_terms import (
    GO,
    HELLO,
    OFFER,
    READY,
    REFUSED,
    WINDOW,
    WITHDRAW,
    BadPeer,
    ChannelClosed,
    Parcel,
    ParcelError,
    Receiver,
    Refused,
    TimedOut,
)

__all__ = [
    "NEWEST",
    "OLDEST",
    "BadPeer",
    "Channel",
    "ChannelClosed",
    "Parcel",
    "ParcelError",
    "Receiver",
    "Refused",
    "TimedOut",
]

#: The formats spoken here.
OLDEST = 1
NEWEST = 1

_MAGIC = "pgdoorman parcels"


class Channel:
    """One end of a way for parcels: an AF_UNIX socket, which is taken over. ``start`` first, ``close`` at the end.

    ``receiver`` gets what arrives; without one everything is refused. ``product`` is how the other side names our
    version, ``formats`` are the oldest and newest spoken.
    Blocking style: any number of greenlets may be in ``send`` at once, and their parcels are pipelined.
    """

    def __init__(
        self,
        sock: Any,
        receiver: Receiver | None = None,
        *,
        product: str = __version__,
        formats: tuple[int, int] = (OLDEST, NEWEST),
    ) -> None:
        self._socket = FrameSocket(sock)
        self._product = product
        self._oldest, self._newest = formats
        #: the format both speak, 0 before ``start``; the other's version in its own words
        self.format = 0
        self.peer_product = ""
        #: set when the channel has ended, for the reason in ``failure``
        self.ended = Event()
        self.failure: ParcelError | None = None
        self._departures = Departures(self._post, self._end)
        self._arrivals = Arrivals(receiver if receiver is not None else Receiver(), self._post)
        self._greeted = Event()
        self._closing = False
        self._outbox: deque[Outgoing] = deque()
        self._news = Event()  # there is something in the outbox
        self._drained = Event()  # there is nothing
        self._greenlets: list[gevent.Greenlet[[], None]] = []
        self._running = 0

    def start(self, timeout: float = 10.0) -> None:
        """Agree on a format; may switch. BadPeer, ChannelClosed or TimedOut: the channel has ended then."""
        formats = {"oldest": self._oldest, "newest": self._newest}
        greeting = {"magic": _MAGIC, **formats, "product": self._product, "window": WINDOW}
        self._post(Outgoing(HELLO, 0, pack(greeting)))
        # The writer first: who does not like the other's greeting has sent its own, which tells why.
        self._greenlets = [gevent.spawn(self._write), gevent.spawn(self._read)]
        self._running = len(self._greenlets)
        for greenlet in self._greenlets:
            greenlet.link(self._greenlet_ended)
        if not self._greeted.wait(timeout):
            self._end(TimedOut(f"no greeting from the other process within {timeout:g} s"))
        if self.failure is not None:
            self.ended.wait()
            raise self.failure

    def send(self, parcel: Parcel, timeout: float = 10.0) -> None:
        """Move a parcel; may switch. When it returns the parcel is the other process's: close the descriptors.

        Refused, TimedOut (after ``timeout`` seconds in all), ChannelClosed, BadPeer: it is still ours, and was never
        the other's. Should anything else interrupt the caller (GreenletExit, gevent.Timeout), ``parcel.moved`` tells.

        From before the call nobody here may read, write or watch these descriptors. (An epoll instance watches what is
        behind a descriptor, even when that is closed here and open elsewhere, so it has to be told.)
        """
        self._departures.send(parcel, timeout)

    def close(self, timeout: float = 5.0) -> None:
        """End the channel; may switch. Parcels still being sent stay ours, new ones are refused.

        Those for which we have said *ready* may be ours already, so their senders' word is waited for, ``timeout``
        seconds at most. Not to be called by the receiver from within its methods.
        """
        if not self._closing:
            self._closing = True
            failure = ChannelClosed("the channel was closed")
            self._departures.close(failure)
            self._arrivals.refusal = "the receiver is closing the channel"
            if self._running:
                self._arrivals.settled.wait(timeout)
                self._drained.wait(timeout)
            self._end(failure)
        self.ended.wait()

    # Sending.

    def _post(self, frame: Outgoing) -> None:
        self._outbox.append(frame)
        self._drained.clear()
        self._news.set()

    def _write(self) -> None:
        while True:
            while not self._outbox:
                self._drained.set()
                self._news.clear()
                self._news.wait()
            frame = self._outbox.popleft()
            try:
                self._socket.send(frame)
            except (BrokenPipeError, ConnectionResetError):
                return  # the other side has gone; what it had sent counts, so the reader says when it is over
            except OSError as exc:
                self._end(ChannelClosed(f"sending failed: {exc}"))
                return

    # Receiving.

    def _read(self) -> None:
        failure: ParcelError = ChannelClosed("reading has ended")  # by an end of this greenlet, or a fault of ours
        try:
            for frame in self._socket.receive():
                self._dispatch(frame)
                if self.failure is not None:
                    return
            failure = ChannelClosed("the other process has gone")
        except (BadFrames, Malformed) as exc:
            failure = BadPeer(f"the other process does not keep to the protocol: {exc}")
        except OSError as exc:
            failure = ChannelClosed(f"receiving failed: {exc}")
        finally:
            self._end(failure)

    def _dispatch(self, frame: Frame) -> None:
        kind, number = frame.kind, frame.number
        if kind == OFFER and self.format:
            self._arrivals.offered(frame)
            return
        if frame.descriptors or frame.lost:
            close_all(frame.descriptors)
            raise BadFrames("descriptors where none belong")
        if kind == HELLO and not self.format:
            self._agree(frame.body)
        elif not self.format:
            raise BadFrames("no greeting")
        elif kind == READY:
            self._departures.ready(number)
        elif kind == REFUSED:
            self._departures.refused(number, frame.body)
        elif kind == GO:
            self._arrivals.begun(number)
        elif kind == WITHDRAW:
            self._arrivals.withdrawn(number)
        else:
            raise BadFrames(f"no kind of frame is {kind}")

    def _agree(self, body: bytes) -> None:
        greeting = unpack(body)
        if not isinstance(greeting, dict) or greeting.get("magic") != _MAGIC:
            raise BadFrames("no greeting")
        oldest, newest, window = (greeting.get(key) for key in ("oldest", "newest", "window"))
        if not (isinstance(oldest, int) and isinstance(newest, int) and isinstance(window, int) and window > 0):
            raise BadFrames("a greeting without its numbers")
        self.peer_product = str(greeting.get("product", ""))
        agreed = min(newest, self._newest)
        if agreed < max(oldest, self._oldest):
            theirs, ours = f"{oldest} to {newest}", f"{self._oldest} to {self._newest}"
            self._end(BadPeer(f"the other process ({self.peer_product}) speaks formats {theirs}, this one {ours}"))
            return
        self.format = agreed
        self._departures.open(window)
        self._greeted.set()

    # The end.

    def _end(self, failure: ParcelError) -> None:
        """Send no byte and receive nothing from here on; the socket is closed when both greenlets have seen it."""
        if self.failure is not None:
            return
        self.failure = failure
        self._socket.stop()
        self._departures.close(failure)
        self._arrivals.close()
        self._greeted.set()
        self._drained.set()
        for greenlet in self._greenlets:
            if greenlet is not gevent.getcurrent():
                greenlet.kill(block=False)
        if not self._running:
            self._finish()

    def _greenlet_ended(self, greenlet: gevent.Greenlet[[], None]) -> None:
        self._running -= 1
        if not self._running and self.failure is not None:
            self._finish()

    def _finish(self) -> None:
        self._socket.close()
        self.ended.set()
