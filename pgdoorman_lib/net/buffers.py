"""Buffers of streams: of one size, kept for the next one that needs one, and counted where they are larger."""

from __future__ import annotations

from typing import Any

from pgdoorman_lib.net.line import Line
from pgdoorman_lib.net.measures import BLOCK_SIZE, MAX_FREE_BLOCKS

_int = int


class Buffers:
    """The free buffers of this process, and the memory that is in others."""

    def __init__(self) -> None:
        self.blocks = Line()
        #: bytes in buffers larger than a block, and how many there may be
        self.grown = 0
        self.memory_limit = 1 << 62
        #: what all worker processes count them in; None in one process
        self.memory: Any = None

    def take_block(self) -> bytearray:
        """A buffer of BLOCK_SIZE bytes from the free list."""
        blocks = self.blocks
        block: bytearray | None = blocks.top
        if block is None:
            block = blocks.take()
            return block if block is not None else bytearray(BLOCK_SIZE)
        blocks.top = None
        return block

    def count_grown(self, change: _int) -> None:
        """So many bytes more are in larger buffers, or less."""
        self.grown += change
        if self.memory is not None:
            self.memory.count(change)

    def give_block(self, block: bytearray) -> None:
        """Give a buffer back; one of another size, or beyond MAX_FREE_BLOCKS, is let go."""
        if len(block) != BLOCK_SIZE:
            self.count_grown(-len(block))
        elif self.blocks.older < MAX_FREE_BLOCKS - 1:
            self.blocks.add(block)
