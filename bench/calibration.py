"""The simulation's costs by measurement, and what it makes of them beside what was measured."""

from __future__ import annotations

import os
import resource
import shlex
import shutil
import tempfile
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from statistics import median

from bench.__main__ import default_command
from bench.load import Case, run
from bench.procfs import TICK, cpu_seconds
from bench.report import table
from bench.simulation import Costs, Setup, evenly, simulate
from bench.targets import FOUR_DATABASE, FOUR_POOL_SIZE, POOL_SIZE, Pgdoorman, start_postgres

CELLS = (
    (Case("simple-40", "simple", 40), POOL_SIZE),
    (Case("simple-120", "simple", 120), POOL_SIZE),
    (Case("four-simple-40", "simple", 40, database=FOUR_DATABASE), FOUR_POOL_SIZE),
)
ROUNDS, SECONDS = 3, 4


def compare(counts: list[int], command: str | None, costs: Costs) -> str:
    """A table: each cell with each number of workers, measured, and simulated by the costs measured with the first."""
    with ExitStack() as stack:
        directory = Path(tempfile.mkdtemp(prefix="bench-"))
        directory.chmod(0o755)
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        postgres = start_postgres(directory)
        stack.callback(postgres.remove)
        words = shlex.split(command or default_command())
        poolers = {n: Pgdoorman(f"pgdoorman-{n}", words, directory, postgres, n) for n in counts}
        for pooler in poolers.values():
            stack.callback(pooler.stop)
            pooler.start()
        rows = []
        for case, servers in CELLS:
            found: dict[int, list[tuple[float, ...]]] = {n: [] for n in counts}
            for _ in range(ROUNDS):
                for n, pooler in poolers.items():
                    found[n].append(measure(pooler, case, postgres.pid))
            middle = {n: [median(column) for column in zip(*samples, strict=True)] for n, samples in found.items()}
            _, relay, service, generator, _ = middle[counts[0]]
            for n in counts:
                tps, cpu, _, _, left = middle[n]
                # What others took of the cores makes everything take so much longer.
                slower = cores() / max(left, 0.01)
                slowed = replace(costs, relay=relay * slower, service=service * slower, generator=generator * slower)
                made = simulate(Setup(evenly(case.clients, n), servers, cores(), costs=slowed))
                rows.append(
                    [
                        f"{case.name}, {n}",
                        *(f"{cost:.1f}" for cost in (relay, service, generator)),
                        f"{tps:,.0f}",
                        f"{made.tps:,.0f}",
                        f"{made.tps / tps:.2f}",
                        f"{left:.2f}",
                        f"{cpu:.1f}",
                        f"{made.cpu / slower:.1f}",
                        f"{made.moves:.3f}",
                    ]
                )
    header = ["cell, workers", "relay µs", "PostgreSQL µs", "pgbench µs", "tps", "simulated", "ratio"]
    return table([*header, "cores left", "CPU µs/tx", "simulated", "moves/tx, simulated"], rows)


def cores() -> int:
    return os.cpu_count() or 1


def measure(pooler: Pgdoorman, case: Case, postgres: int) -> tuple[float, ...]:
    """tps, µs of CPU per transaction of the pooler, of PostgreSQL and of pgbench, and the cores that others left.

    Logins are in the figures of PostgreSQL and pgbench.
    """
    began, busy_before = time.monotonic(), busy_seconds()
    ours_before = (cpu_seconds(pooler.pids), cpu_seconds([postgres]), children_seconds())
    sample = run(pooler, case, SECONDS, 1e9)
    elapsed, busy = time.monotonic() - began, busy_seconds() - busy_before
    ours_behind = (cpu_seconds(pooler.pids), cpu_seconds([postgres]), children_seconds())
    ours = [behind - before for behind, before in zip(ours_behind, ours_before, strict=True)]
    assert sample.cpu is not None
    _, service, generator = (seconds / (sample.tps * (SECONDS + 1)) * 1e6 for seconds in ours)
    return sample.tps, sample.cpu, service, generator, cores() - max(0.0, busy - sum(ours)) / elapsed


def busy_seconds() -> float:
    """What all cores of this machine have worked since it was started."""
    user, nice, system, _idle, _waiting, *interrupts = Path("/proc/stat").read_text().split("\n")[0].split()[1:9]
    return sum(int(ticks) for ticks in (user, nice, system, *interrupts)) * TICK


def children_seconds() -> float:
    """CPU of the ended children of this process: of one pgbench more each time."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
