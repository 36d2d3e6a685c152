"""The batch a server was sent last, as its client has sent it, for as long as nothing of it has been answered.

Should it meet a name of ours that is not there, or is there without our knowing, nothing of it has run: it can be sent
once more, when what it needs has been made.
"""

from __future__ import annotations

from pgdoorman_lib.net.syscalls import copy

_int = int

#: A larger batch is not kept, bytes.
MAX_KEPT = 8192


class Unanswered:
    """``data[:size]``; ``mark`` is how much its client had been sent before, ``tried`` the mark of one sent again."""

    __slots__ = ("data", "mark", "size", "tried")

    def __init__(self) -> None:
        self.data: bytearray | None = None
        self.size = 0
        self.mark = -1
        self.tried = -1

    def keep(self, source: bytearray, start: _int, stop: _int, mark: _int) -> None:
        """Remember ``source[start:stop]``, unless it is too large or was sent twice already."""
        size = stop - start
        self.size = 0
        if size <= MAX_KEPT and mark != self.tried:
            if self.data is None:
                self.data = bytearray(MAX_KEPT)
            copy(self.data, 0, source, start, size)
            self.size = size
            self.mark = mark

    def forget(self) -> None:
        """Somebody else sends from now on."""
        self.size = 0
        self.tried = -1
