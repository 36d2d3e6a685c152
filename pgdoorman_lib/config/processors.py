"""How many processors there are for this process."""

from __future__ import annotations

import math
import os
from contextlib import suppress
from pathlib import Path

#: Where the system has control groups (version 2), and where it says in which a process is.
_GROUPS = Path("/sys/fs/cgroup")
_GROUP = Path("/proc/self/cgroup")
#: More processors than there are.
_NO_QUOTA = float(2**31)


def processors(groups: Path = _GROUPS, group: Path = _GROUP) -> int:
    """Those it may run on, or what the quotas of its control groups are worth, if that is less; 1 where nobody says."""
    if not hasattr(os, "sched_getaffinity"):
        return 1
    return min(len(os.sched_getaffinity(0)), max(1, math.ceil(_quota(groups, group))))


def _quota(groups: Path, group: Path) -> float:
    """Seconds of processors in a second that its control group and those above it leave to it."""
    found = _NO_QUOTA
    with suppress(OSError):  # there are none, or of version 1
        for line in group.read_text().splitlines():
            if line.startswith("0::"):
                directory = groups / line[3:].lstrip("/")
                for each in (directory, *directory.parents):
                    if each.is_relative_to(groups):
                        found = min(found, _quota_of(each))
    return found


def _quota_of(directory: Path) -> float:
    """What one of them leaves, any number if it does not say."""
    with suppress(OSError):
        quota, period = (directory / "cpu.max").read_text().split()
        if quota != "max":
            return int(quota) / int(period)
    return _NO_QUOTA
