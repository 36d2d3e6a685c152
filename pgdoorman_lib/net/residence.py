"""How much memory this process has."""

from __future__ import annotations

import os


def resident_bytes() -> int:
    """Bytes of this process in memory (Linux; 0 where there is no /proc)."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except FileNotFoundError:
        return 0
