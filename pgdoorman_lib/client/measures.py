"""Measures that several modules of ``client`` go by; compiled ones declare those they use as C variables."""

from __future__ import annotations

#: Messages up to this size are seen whole before they are acted on; it must be below the block size.
INSPECT = 8192
#: Fills in a row before others get their turn.
FAIRNESS = 16
#: Bodies of Parse messages that are remembered as harmless, for each pool: so many, and the longest.
MOST_KNOWN = 256
MAX_KNOWN = 1024
