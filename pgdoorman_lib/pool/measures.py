"""Measures that several modules of ``pool`` go by; compiled ones declare those they use as C variables."""

from __future__ import annotations

#: The first in the line is passed over so often at most, for one of so many behind it.
NEAR = 8
