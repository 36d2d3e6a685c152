"""Measures that several modules of ``client`` go by; compiled ones declare those they use as C variables."""

from __future__ import annotations

#: Messages up to this size are seen whole before they are acted on; it must be below the block size.
INSPECT = 8192
#: Fills in a row before others get their turn.
FAIRNESS = 16
