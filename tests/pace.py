"""How slow this machine is while the tests run: what they wait for may take so much longer.

A limit in a test says how long something takes on a machine with nothing else to do. ``patience`` turns it into how long to
wait here. Nothing waits longer for it that passes: only what does not come is given up later.
"""

from __future__ import annotations

import os
import time
from functools import cache
from pathlib import Path

#: Seconds of a processor that the loop of ``_loop_seconds`` takes on a machine as fast as needed.
REFERENCE_SECONDS = 0.03
#: However slow: what never comes must be given up before the whole run is.
SLOWEST = 12.0

_LOADAVG = Path("/proc/loadavg")


def patience(seconds: float) -> float:
    """How long to wait here for what takes at most ``seconds`` at full speed."""
    return seconds * slowness()


def duration(seconds: float) -> str:
    """The same as a value of the configuration: for a limit of the pooler that what is quick must keep here, too."""
    return f"{int(patience(seconds) * 1000)}ms"


def slowness() -> float:
    """How many times longer than at full speed things take now, 1 to SLOWEST."""
    processors = len(os.sched_getaffinity(0))
    # Workers of pytest-xdist start together: they are the load to come.
    load = float(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 1))
    if _LOADAVG.exists():
        minute, _, _, entities, _ = _LOADAVG.read_text().split()
        load = max(load, float(minute), float(entities.split("/")[0]))
    return min(SLOWEST, max(1.0, load / processors) * max(1.0, _loop_seconds() / REFERENCE_SECONDS))


@cache
def _loop_seconds() -> float:
    """What a fixed loop takes of a processor, measured once in a process; how long it waits for one is the load's part."""
    began = time.thread_time()
    for _ in range(1_000_000):
        pass
    return time.thread_time() - began
