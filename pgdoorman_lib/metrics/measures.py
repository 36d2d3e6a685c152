"""Measures of the histograms; compiled modules declare those they use as C variables."""

from __future__ import annotations

#: Buckets of a histogram: 32 in every power of two, so the middle of one is no more than 1.6 % from any value in it;
#: the last one starts at 63 * 2^27 µs (2 h 20 min) and takes everything above.
BUCKETS = 928
#: The largest value counted as itself; larger ones (a clock that jumped, a day-long transaction) count as this.
MAX_VALUE = (1 << 33) - 1
#: Bounds of the coarse counts beside the buckets, each ten times the one before; one count more is for all above.
BOUNDS = 5
