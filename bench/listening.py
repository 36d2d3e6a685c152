"""LISTEN as a load: each operation is a NOTIFY that all but one of the clients wait for, on servers of their own."""

from __future__ import annotations

import time
from contextlib import ExitStack

from bench.clients import Client
from bench.load import Case, Sample, sample_of
from bench.procfs import cpu_seconds
from bench.targets import Target

PROTOCOL = "listen"
CHANNEL = "bench_channel"
NOTIFY = f"NOTIFY {CHANNEL}, 'something has changed'"
WARM_UP = 20


def run(target: Target, case: Case, seconds: int) -> Sample:
    """Measure over ``seconds`` from each NOTIFY until the last has heard of it; logins are not in it."""
    with ExitStack() as stack:
        clients = [stack.enter_context(Client(target.host, target.port, case.database)) for _ in range(case.clients)]
        notifier, *listeners = clients
        for client in listeners:
            client.query(f"LISTEN {CHANNEL}")

        def notify() -> None:
            notifier.query(case.script)
            for client in listeners:
                client.notification()

        for _ in range(WARM_UP):
            notify()
        times: list[float] = []
        now = begun = time.perf_counter()
        spent = cpu_seconds(target.pids)
        while now < begun + seconds:
            notify()
            before, now = now, time.perf_counter()
            times.append(now - before)
        return sample_of(target, case, times, now - begun, cpu_seconds(target.pids) - spent)
