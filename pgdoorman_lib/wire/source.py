"""A text that is gone through once, from its beginning to its end, though it may come in parts.

What the end of a part cuts off stays for the next one.
"""

from __future__ import annotations

from pgdoorman_lib.wire.measures import LONGEST_KEPT

_int = int

_INCOMPLETE = 1
#: ``Source.incomplete``: a part could not be read, nor can those behind it
LOST = 2


class Source:
    """Where one is in a text, and what of it was begun.

    ``incomplete``: the text ended within a string, a quoted name or a comment, or is LOST.
    """

    __slots__ = (
        "backslashes",
        "data",
        "depth",
        "end",
        "final",
        "hash",
        "incomplete",
        "mode",
        "pending",
        "position",
        "prefix",
        "rest",
        "start",
        "stop",
        "tag",
    )

    def __init__(self) -> None:
        self.data = bytearray()
        self.rest = b""
        self.begin(self.data, 0, 0, 0)

    def begin(self, data: bytearray, start: _int, end: _int, backslashes: _int) -> None:
        """Begin with the whole text ``data[start:end]``; ``backslashes``: they escape in plain strings."""
        self.data = data
        self.position = start
        self.end = end
        self.backslashes = backslashes
        self.final = 1
        #: what the part before has left open: nothing (0), a string, plain (1) or with escapes (2), a quoted name (3),
        #: a dollar quote (4), a comment (5), one to the line's end (6), or a word whose beginning was given (7)
        self.mode = 0
        self.pending = 0
        self.depth = 0
        self.incomplete = 0
        self.start = start
        self.stop = start
        self.hash = 0
        self.prefix = 0
        self.tag = b""

    def begin_parts(self, backslashes: _int) -> None:
        """Begin with a text that comes in parts (``feed``)."""
        self.begin(bytearray(), 0, 0, backslashes)
        self.final = 0
        self.rest = b""

    def feed(self, data: bytearray, start: _int, end: _int, last: _int) -> None:
        """The next part; after the END of its tokens comes the next one, unless it was the ``last``."""
        if self.incomplete == 2:
            return
        joined = bytearray(self.rest)
        joined += data[start:end]
        self.data = joined
        self.position = 0
        self.end = len(joined)
        self.final = last
        self.rest = b""

    def _wait(self, position: _int) -> _int:
        """What begins at ``position`` may go on in the next part."""
        if position < self.end:  # else it is there already
            self.rest = bytes(self.data[position : self.end])
        self.position = self.end
        return 0

    def _cut(self, position: _int) -> _int:
        """The part, or the text, ends within what is open."""
        if self.final:
            self.incomplete = _INCOMPLETE
            self.mode = 0
            self.stop = self.end
            self.position = self.end
            return 1
        if self.mode == 3:  # a name counts whole
            self.mode = 0
            return self._wait(self.start) if self.end - self.start < LONGEST_KEPT else self._lose()
        return self._wait(position)

    def _lose(self) -> _int:
        """What the part ends within is too long to be kept: from here on nothing can be told."""
        self.incomplete = 2
        self.position = self.end
        return 0
