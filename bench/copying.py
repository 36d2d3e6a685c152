"""COPY as a load: each operation takes ten megabytes out of PostgreSQL, or puts ten in that it drops."""

from __future__ import annotations

import threading
import time

from bench.clients import Client
from bench.load import Case, LoadFailed, Sample, sample_of
from bench.procfs import cpu_seconds
from bench.targets import Target

PROTOCOL = "copy"
ROWS = 10_000
OUT = f"COPY (SELECT repeat('x', 1000) FROM generate_series(1, {ROWS})) TO STDOUT"
IN = "COPY bench_copied FROM STDIN WHERE false"
#: A CopyData message for a row, and CopyDone (PostgreSQL docs, "Message Formats").
_ROW = b"d" + (4 + 1001).to_bytes(4, "big") + b"x" * 1000 + b"\n"
_ALL = _ROW * ROWS + b"c\0\0\0\4"
WARM_UP_SECONDS = 0.5


def run(target: Target, case: Case, seconds: int) -> Sample:
    """Measure over ``seconds`` what ``case.clients`` do, one operation after the other; logins are not in it."""
    over = threading.Event()
    times: list[float] = []
    failures: list[Exception] = []

    def work() -> None:
        try:
            with Client(target.host, target.port) as client:
                while not over.is_set():
                    begun = time.perf_counter()
                    if case.script == OUT:
                        client.copy_out(OUT)
                    else:
                        client.copy_in(case.script, _ALL)
                    times.append(time.perf_counter() - begun)
        except Exception as exc:
            failures.append(exc)

    threads = [threading.Thread(target=work) for _ in range(case.clients)]
    for thread in threads:
        thread.start()
    over.wait(WARM_UP_SECONDS)
    times.clear()
    begun, spent = time.perf_counter(), cpu_seconds(target.pids)
    over.wait(seconds)
    measured, elapsed, spent = times[:], time.perf_counter() - begun, cpu_seconds(target.pids) - spent
    over.set()
    for thread in threads:
        thread.join()
    if failures:
        raise LoadFailed(f"{target.name}, {case.name}: {failures}")
    return sample_of(target, case, measured, elapsed, spent)
