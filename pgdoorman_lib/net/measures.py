"""Measures that several modules of ``net`` go by; compiled ones declare those they use as C variables."""

from __future__ import annotations

#: Bytes of one buffer. Larger ones save few system calls and cost cache; 16 KiB is also the TLS record size.
BLOCK_SIZE = 16384
#: Free blocks kept per process (16 MiB): what a burst needs again soon, but no more.
MAX_FREE_BLOCKS = 1024
#: Seconds a turn may go on, waiting included, before timers and the hub's own descriptors get theirs; callbacks of the
#: loop end it at once. It costs as much as a transaction: the way through the hub and back, and a timer of the kernel.
TURN_SECONDS = 0.004
#: A turn that follows the last one within so many seconds counts as traffic, and so many of them in a row as hot: then
#: the turn waits for more by itself, which spares the way through the hub.
CLOSE_SECONDS = 0.001
HOT_TURNS = 4
#: Greenlets kept at rest: to make one and let it end costs more than all its switches in a login.
SPARE_GREENLETS = 16
