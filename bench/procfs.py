"""What a process and its children cost, read from Linux's /proc."""

from __future__ import annotations

import os
from pathlib import Path

TICK = 1 / os.sysconf("SC_CLK_TCK")


def family(pid: int) -> list[int]:
    """The process and all its living descendants."""
    found = [pid]
    for member in found:
        try:
            tasks = list(Path(f"/proc/{member}/task").iterdir())
        except OSError:
            continue
        for task in tasks:
            try:
                found += [int(child) for child in (task / "children").read_text().split()]
            except OSError:  # the thread ended while we looked
                continue
    return found


def cpu_seconds(pid: int) -> float:
    """User and system time of the process, its living descendants, and the dead ones it waited for."""
    total = 0
    for member in family(pid):
        try:
            text = Path(f"/proc/{member}/stat").read_text()
        except OSError:
            continue
        # proc(5): utime, stime, cutime, cstime are fields 14 to 17; the name before them may hold blanks.
        fields = text.rpartition(")")[2].split()
        total += sum(int(field) for field in fields[11:15])
    return total * TICK


def memory_kib(pid: int) -> int:
    """Proportional set size of the process and its descendants, KiB: shared pages are counted once in all."""
    total = 0
    for member in family(pid):
        for line in Path(f"/proc/{member}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1])
    return total
