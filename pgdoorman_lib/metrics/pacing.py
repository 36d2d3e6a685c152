"""Long work in short pieces: whoever walks all pools or clients gives way to their traffic every half millisecond."""

from __future__ import annotations

import gevent

from pgdoorman_lib.net.syscalls import clock

#: Seconds of work in one piece.
PIECE = 0.0005


class Pace:
    """Ask ``breathe`` between steps that are short by themselves; it switches when the piece was long enough."""

    __slots__ = ("_since", "piece")

    def __init__(self, piece: float = PIECE) -> None:
        self.piece = piece
        self._since = clock()

    def breathe(self) -> None:
        """Let the others run, if they have waited for one piece; may switch."""
        if clock() - self._since >= self.piece:
            gevent.sleep(0)
            self._since = clock()
