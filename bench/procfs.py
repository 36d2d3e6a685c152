"""What processes and their children cost, read from Linux's /proc."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

TICK = 1 / os.sysconf("SC_CLK_TCK")


def children(pid: int) -> list[int]:
    """The living processes that this one has started."""
    found: list[int] = []
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return found
    for task in tasks:
        try:
            found += [int(child) for child in (task / "children").read_text().split()]
        except OSError:  # the thread ended while we looked
            continue
    return found


def family(pid: int) -> list[int]:
    """The process and all its living descendants."""
    found = [pid]
    for member in found:
        found += children(member)
    return found


def families(pids: Iterable[int]) -> set[int]:
    """The processes and all their living descendants."""
    return {member for pid in pids for member in family(pid)}


def cpu_seconds(pids: Iterable[int]) -> float:
    """User and system time of the processes, their living descendants, and the dead ones that were waited for."""
    total = 0
    for member in families(pids):
        try:
            text = Path(f"/proc/{member}/stat").read_text()
        except OSError:
            continue
        # proc(5): utime, stime, cutime, cstime are fields 14 to 17; the name before them may hold blanks.
        fields = text.rpartition(")")[2].split()
        total += sum(int(field) for field in fields[11:15])
    return total * TICK


def memory_kib(pids: Iterable[int], without: str = "") -> int:
    """Proportional set size of the processes and their descendants, KiB: shared pages are counted once in all.

    ``without`` a part of it, such as ``Pss_File``: pages of programs and libraries, of which others may have a share.
    """
    total = 0
    for member in families(pids):
        try:
            text = Path(f"/proc/{member}/smaps_rollup").read_text()
        except OSError:  # it ended while we looked
            continue
        sizes = {line.split(":")[0]: int(line.split()[1]) for line in text.splitlines()[1:]}
        total += sizes.get("Pss", 0) - sizes.get(without, 0)
    return total


def listening_sockets(port: int) -> int:
    """How many sockets listen at a TCP port; several by SO_REUSEPORT."""
    listening = "0A"  # TCP_LISTEN in include/net/tcp_states.h
    count = 0
    for name in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
            fields = line.split()
            count += fields[3] == listening and int(fields[1].rpartition(":")[2], 16) == port
    return count
