"""Buffers of streams: of one size, kept for the next one that needs one, and counted where they are larger."""

from __future__ import annotations

from pgdoorman_lib.net.line import Line

_int = int

#: Bytes of one buffer. Larger ones save few system calls and cost cache; 16 KiB is also the TLS record size.
BLOCK_SIZE = 16384
#: Free blocks kept per process (16 MiB): what a burst needs again soon, but no more.
MAX_FREE_BLOCKS = 1024

# The same numbers as C integers, where this module is compiled.
_BLOCK_SIZE = BLOCK_SIZE
_MAX_FREE_BLOCKS = MAX_FREE_BLOCKS


class Buffers:
    """The free buffers of this process, and the memory that is in others."""

    def __init__(self) -> None:
        self.blocks = Line()
        #: bytes in buffers larger than a block, and how many there may be
        self.grown = 0
        self.memory_limit = 1 << 62

    def take_block(self) -> bytearray:
        """A buffer of BLOCK_SIZE bytes from the free list."""
        blocks = self.blocks
        block: bytearray | None = blocks.top
        if block is None:
            block = blocks.take()
            return block if block is not None else bytearray(_BLOCK_SIZE)
        blocks.top = None
        return block

    def give_block(self, block: bytearray) -> None:
        """Give a buffer back; one of another size, or beyond MAX_FREE_BLOCKS, is let go."""
        if len(block) != _BLOCK_SIZE:
            self.grown -= len(block)
        elif self.blocks.older < _MAX_FREE_BLOCKS - 1:
            self.blocks.add(block)
