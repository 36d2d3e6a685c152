"""An application's pool of connections as a load: asyncpg's, whose tasks give theirs back after each operation.

What such a pool sends when a connection comes back (the reset) goes through the pooler after every operation: the cells
``pool-*`` tell what it costs. ``python -m bench.tasks`` is the process that makes the load.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bench.load import Case, LoadFailed, Sample
from bench.procfs import cpu_seconds
from bench.targets import PASSWORD, USER, Target

PROTOCOL = "asyncpg"
#: What asyncpg sends by default when a connection comes back to its pool.
ASYNCPG_RESET = "SELECT pg_advisory_unlock_all();\nCLOSE ALL;\nUNLISTEN *;\nRESET ALL;"
TASKS = 20
WARM_UP_SECONDS = 0.5

#: Lines of the process: the warm-up is over, so is the measured time.
BEGIN, END = "begin", "end"


def available() -> bool:
    """Whether the driver is installed."""
    return find_spec("asyncpg") is not None


def run(target: Target, case: Case, seconds: int) -> Sample:
    """Measure over ``seconds``; logins and a short warm-up are not in it."""
    work = {
        "host": target.host,
        "port": target.port,
        "database": case.database,
        "clients": case.clients,
        "operation": case.script,
        "reset": case.reset,
        "seconds": seconds,
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.tasks", json.dumps(work)], cwd=Path(__file__).resolve().parent.parent,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    spent: dict[str, float] = {}
    figures: list[str] = []
    try:
        for line in process.stdout:
            word, *figures = line.split()
            spent[word] = cpu_seconds(target.pids)
        errors = process.stderr.read() if process.stderr is not None else ""
        status = process.wait()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    if status or END not in spent:
        raise LoadFailed(f"{target.name}, {case.name}: exit code {status}\n{errors[-2000:]}")
    operations, elapsed, p50, p99, worst = (float(figure) for figure in figures)
    if not operations:
        raise LoadFailed(f"{target.name}, {case.name}: not one operation")
    cpu = (spent[END] - spent[BEGIN]) / operations * 1e6 if target.pids else None
    return Sample(operations / elapsed, cpu, p50, p99, worst)


async def make_load(work: dict[str, Any]) -> None:
    """Run ``TASKS`` tasks over one pool, and print BEGIN, END and the figures.

    Each line of an operation is a simple query: what is prepared would be lost with a DISCARD ALL.
    """
    import asyncpg

    class Connection(asyncpg.Connection):  # type: ignore[misc, unused-ignore]
        def get_reset_query(self) -> str:
            return str(work["reset"])

    pool = await asyncpg.create_pool(
        host=work["host"],
        port=work["port"],
        user=USER,
        password=PASSWORD,
        database=work["database"],
        ssl=False,
        min_size=work["clients"],
        max_size=work["clients"],
        connection_class=Connection,
    )
    statements = work["operation"].splitlines()
    over = False
    times: list[float] = []

    async def task() -> None:
        while not over:
            begun = time.perf_counter()
            async with pool.acquire() as connection:
                for statement in statements:
                    await connection.execute(statement)
            times.append(time.perf_counter() - begun)

    tasks = [asyncio.create_task(task()) for _ in range(TASKS)]
    await asyncio.sleep(WARM_UP_SECONDS)
    times.clear()
    begun = time.perf_counter()
    print(BEGIN, flush=True)
    await asyncio.sleep(work["seconds"])
    count, elapsed = len(times), time.perf_counter() - begun
    ordered = sorted(times) or [float("nan")]
    p50, p99 = (ordered[len(ordered) * part // 100] * 1000 for part in (50, 99))
    print(END, count, elapsed, p50, p99, ordered[-1] * 1000, flush=True)
    over = True
    await asyncio.gather(*tasks)
    await pool.close()


if __name__ == "__main__":
    asyncio.run(make_load(json.loads(sys.argv[1])))
