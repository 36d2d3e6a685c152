"""Measures that several modules of ``net`` go by; compiled ones declare those they use as C variables."""

from __future__ import annotations

#: Bytes of one buffer. Larger ones save few system calls and cost cache; 16 KiB is also the TLS record size.
BLOCK_SIZE = 16384
#: Free blocks kept per process (16 MiB): what a burst needs again soon, but no more.
MAX_FREE_BLOCKS = 1024
#: A turn that follows the last one within so many seconds counts as traffic.
CLOSE_SECONDS = 0.0004
