"""Interpreted twin of ``arenas.pyx``: without a compiler Python's memory is left to Python."""

from __future__ import annotations


def keep_chunks() -> None:
    """Keep the memory for the frames of greenlets, where this module is compiled."""


def kept_chunks() -> int:
    """How many chunks are at hand."""
    return 0
