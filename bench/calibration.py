"""The simulation's costs by measurement, and what it makes of them beside what was measured."""

from __future__ import annotations

import resource
import shlex
import shutil
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from statistics import median

from bench.__main__ import default_command
from bench.load import Case, run
from bench.procfs import cpu_seconds
from bench.report import table
from bench.simulation import Costs, Setup, evenly, simulate
from bench.targets import FOUR_DATABASE, FOUR_POOL_SIZE, POOL_SIZE, Pgdoorman, start_postgres

CELLS = (
    (Case("simple-40", "simple", 40), POOL_SIZE),
    (Case("simple-120", "simple", 120), POOL_SIZE),
    (Case("four-simple-40", "simple", 40, database=FOUR_DATABASE), FOUR_POOL_SIZE),
)
ROUNDS, SECONDS, CORES = 3, 4, 2


def compare(counts: list[int], command: str | None, costs: Costs) -> str:
    """A table: each cell with each number of workers, measured, and simulated by the costs measured with the first."""
    with ExitStack() as stack:
        directory = Path(tempfile.mkdtemp(prefix="bench-"))
        directory.chmod(0o755)
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        postgres = start_postgres(directory)
        stack.callback(postgres.remove)
        words = shlex.split(command or default_command())
        poolers = {n: Pgdoorman(f"pgdoorman-{n}", words, directory, postgres.port, n) for n in counts}
        for pooler in poolers.values():
            stack.callback(pooler.stop)
            pooler.start()
        rows = []
        for case, servers in CELLS:
            found: dict[int, list[tuple[float, float, float, float]]] = {n: [] for n in counts}
            for _ in range(ROUNDS):
                for n, pooler in poolers.items():
                    found[n].append(measure(pooler, case, postgres.pid))
            middle = {n: [median(column) for column in zip(*samples, strict=True)] for n, samples in found.items()}
            _, relay, service, generator = middle[counts[0]]
            measured_costs = replace(costs, relay=relay, service=service, generator=generator)
            for n in counts:
                tps, cpu = middle[n][:2]
                made = simulate(Setup(evenly(case.clients, n), servers, CORES, costs=measured_costs))
                rows.append(
                    [
                        f"{case.name}, {n}",
                        *(f"{cost:.1f}" for cost in (relay, service, generator)),
                        f"{tps:,.0f}",
                        f"{made.tps:,.0f}",
                        f"{made.tps / tps:.2f}",
                        f"{cpu:.1f}",
                        f"{made.cpu:.1f}",
                        f"{made.moves:.3f}",
                    ]
                )
    header = ["cell, workers", "relay µs", "PostgreSQL µs", "pgbench µs", "tps", "simulated", "ratio"]
    return table([*header, "CPU µs/tx", "simulated", "moves/tx, simulated"], rows)


def measure(pooler: Pgdoorman, case: Case, postgres: int) -> tuple[float, float, float, float]:
    """tps, and µs of CPU per transaction of the pooler, of PostgreSQL and of pgbench. Logins are in the last two."""
    before, own_before = cpu_seconds([postgres]), children_seconds()
    sample = run(pooler, case, SECONDS, 1e9)
    transactions = sample.tps * (SECONDS + 1)
    assert sample.cpu is not None
    behind = (cpu_seconds([postgres]) - before) / transactions * 1e6
    return sample.tps, sample.cpu, behind, (children_seconds() - own_before) / transactions * 1e6


def children_seconds() -> float:
    """CPU of the ended children of this process: of one pgbench more each time."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
