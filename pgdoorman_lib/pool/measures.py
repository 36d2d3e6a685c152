"""Measures that several modules of ``pool`` go by; compiled ones declare those they use as C variables."""

from __future__ import annotations

#: The first in the line is passed over so often at most, for one of so many behind it.
NEAR = 8
#: Seconds for which a server on its way between two processes is waited for by whoever may not wait as long for others.
MOVING_SECONDS = 5.0
