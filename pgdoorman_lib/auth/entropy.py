"""Random bytes for salts and cancel keys, a few at a time.

They are drawn from the system in larger portions: a system call for each is a good part of what a login costs. None is
given out twice, and a child process does not inherit what its parent has drawn.
"""

from __future__ import annotations

import os

_int = int
_bytes = bytes

#: Bytes drawn at once.
PORTION = 4096


class Entropy:
    """A portion of random bytes, and how many of them have been given out."""

    def __init__(self) -> None:
        self._drawn = b""
        self._used = 0

    def take(self, size: _int) -> _bytes:
        """``size`` (0 ≤ size ≤ PORTION) bytes that nobody has had; OSError when the system has none."""
        start = self._used
        if start + size > len(self._drawn):
            self._drawn = os.urandom(PORTION)
            start = 0
        self._used = start + size
        drawn = self._drawn
        return drawn[start : start + size]

    def forget(self) -> None:
        """Draw anew with the next ``take``."""
        self._drawn = b""
        self._used = 0


#: This process's.
_entropy = Entropy()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_entropy.forget)


def random_bytes(size: _int) -> _bytes:
    """``size`` (0 ≤ size ≤ PORTION) random bytes; OSError when the system has none."""
    return _entropy.take(size)
