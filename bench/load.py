"""One run of pgbench against one target: throughput, latency, and what the pooler's processes spent meanwhile."""

from __future__ import annotations

import re
import subprocess
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

from throwaway_postgres import find_program

from bench.procfs import cpu_seconds
from bench.targets import DATABASE, PASSWORD, USER, Target

SELECT_1 = "SELECT 1;\n"
ROWS_100 = "SELECT i, repeat('x', 20) FROM generate_series(1, 100) AS i;\n"
MEGABYTES_10 = "SELECT repeat('x', 1000) FROM generate_series(1, 10000);\n"
#: One batch of ten statements.
PIPELINE_10 = "\\startpipeline\n" + SELECT_1 * 10 + "\\endpipeline\n"
#: What an application does to a row of its own; the table is made by ``targets.start_postgres``.
UPDATE = """BEGIN;
UPDATE bench_rows SET value = value + 1 WHERE id = :client_id;
SELECT value FROM bench_rows WHERE id = :client_id;
COMMIT;
"""

#: Latencies are looked at for about so many transactions a run, to keep pgbench's own log from mattering.
LOGGED = 20_000

PROGRESS = re.compile(r"^progress: ([\d.]+) s, ([\d.]+) tps, lat ([\d.]+|NaN) ms.*?(?:, (\d+) failed)?$")


@dataclass(frozen=True)
class Case:
    """A workload: ``protocol`` as pgbench names it, ``script`` its SQL, ``reconnect`` a login for each transaction.

    With the protocol of ``bench.tasks``, ``reset`` is sent after each operation.
    """

    name: str
    protocol: str
    clients: int
    script: str = SELECT_1
    reconnect: bool = False
    database: str = DATABASE
    reset: str = ""
    user: str = USER
    tls: bool = False


@dataclass(frozen=True)
class Sample:
    """One run. ``cpu`` is µs of the pooler per transaction (None: not asked), the latencies are milliseconds."""

    tps: float
    cpu: float | None
    p50: float
    p99: float
    worst: float


class LoadFailed(RuntimeError):
    """pgbench failed, or a transaction did: the figures would mean nothing."""


def sample_of(target: Target, case: Case, times: Sequence[float], elapsed: float, spent: float) -> Sample:
    """Of operations that took ``times`` each, all within ``elapsed``; the pooler has ``spent`` that CPU (seconds)."""
    if not times:
        raise LoadFailed(f"{target.name}, {case.name}: not one operation")
    ordered = sorted(times)
    p50, p99 = (ordered[len(ordered) * part // 100] * 1000 for part in (50, 99))
    cpu = spent / len(ordered) * 1e6 if target.pids else None
    return Sample(len(ordered) / elapsed, cpu, p50, p99, ordered[-1] * 1000)


def run(target: Target, case: Case, seconds: int, expected_tps: float) -> Sample:
    """Measure over about ``seconds``, from pgbench's first progress line to its last: logins are not in it."""
    with TemporaryDirectory(prefix="bench-") as text:
        folder = Path(text)
        (folder / "script.sql").write_text(case.script)
        sampling = min(1.0, LOGGED / max(1.0, expected_tps * seconds))
        command = [str(find_program("pgbench")), "-n", "-f", "script.sql", "-M", case.protocol, "-P", "1"]
        command += ["-c", str(case.clients), "-j", str(2 if case.clients > 1 else 1), "-T", str(seconds + 1)]
        command += ["-l", f"--sampling-rate={sampling:.6f}"] + ["-C"] * case.reconnect
        command += ["-h", target.host, "-p", str(target.port), "-U", case.user, case.database]
        environment = {
            "PGPASSWORD": PASSWORD,
            "PATH": "/usr/bin:/bin",
            "LC_ALL": "C",
            "PGSSLMODE": "require" if case.tls else "disable",
        }
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        assert process.stderr is not None and process.stdout is not None
        marks: list[tuple[float, float, float]] = []
        said: list[str] = []
        try:
            for line in process.stderr:
                said.append(line)
                match = PROGRESS.match(line.strip())
                if match:
                    spent = cpu_seconds(target.pids)
                    marks.append((float(match.group(1)), float(match.group(2)), spent))
            said.append(process.stdout.read())
            status = process.wait()
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        output = "".join(said)
        failures = re.search(r"number of failed transactions: (\d+)", output)
        if status or (failures and int(failures.group(1))):
            raise LoadFailed(f"{target.name}, {case.name}: pgbench exit code {status}\n{output[-2000:]}")
        if len(marks) < 2:
            raise LoadFailed(f"{target.name}, {case.name}: no progress shown\n{output[-2000:]}")
        transactions = sum((now[0] - before[0]) * now[1] for before, now in pairwise(marks))
        elapsed = marks[-1][0] - marks[0][0]
        spent = marks[-1][2] - marks[0][2]
        latencies = percentiles(folder)
    if transactions <= 0:
        raise LoadFailed(f"{target.name}, {case.name}: not one transaction\n{output[-2000:]}")
    cpu = spent / transactions * 1e6 if target.pids else None
    return Sample(transactions / elapsed, cpu, *latencies)


def percentiles(folder: Path) -> tuple[float, float, float]:
    """Median, 99th percentile and worst, ms, of pgbench's per-transaction logs (third column: microseconds)."""
    times = array("q")
    for log in folder.glob("pgbench_log.*"):
        with open(log) as lines:
            times.extend(int(line.split()[2]) for line in lines)
    if not times:
        return float("nan"), float("nan"), float("nan")
    ordered = sorted(times)
    p99 = ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)]
    return ordered[len(ordered) // 2] / 1000, p99 / 1000, ordered[-1] / 1000
