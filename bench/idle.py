"""Thousands of clients at rest beside active ones: what they cost those, and what memory each of them takes."""

from __future__ import annotations

import resource
from dataclasses import dataclass
from statistics import median

from bench.clients import held, settled, warm_up
from bench.load import Case, Sample, run
from bench.report import ratio, table
from bench.targets import Target

CLIENTS = 10_000
ACTIVE = Case("idle", "simple", 100)
#: Descriptors that are not idle clients': servers, active clients, files.
OTHER_DESCRIPTORS = 300
#: Less than there are, so that the log has every transaction, and the worst one for certain.
EXPECTED_TPS = 1.0


@dataclass(frozen=True)
class Beside:
    """One round: the active clients alone, and with the others at rest; KiB (PSS) of each of those."""

    alone: Sample
    beside: Sample
    kib: float


def most_clients() -> int:
    """CLIENTS, or what the limit of descriptors leaves room for, here and in the poolers."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return min(CLIENTS, soft - OTHER_DESCRIPTORS)


def measure(target: Target, count: int, seconds: int) -> Beside:
    """One round, on a pooler started anew: memory that other loads left free would hide what clients take."""
    target.stop()
    target.start()
    warm_up(target)
    alone = run(target, ACTIVE, seconds, EXPECTED_TPS)
    before = settled(target)
    with held(target, count):
        kib = (settled(target) - before) / count
        beside = run(target, ACTIVE, seconds, EXPECTED_TPS)
    return Beside(alone, beside, kib)


def report(results: dict[str, list[Beside]], count: int) -> str:
    """A row for each pooler: medians of the rounds; of the worst latencies, which others may cause, the least."""
    rows = []
    for name, rounds in results.items():
        if not rounds:
            continue
        pairs = [(r.alone, r.beside) for r in rounds]
        p99 = [median(sample.p99 for sample in samples) for samples in zip(*pairs, strict=True)]
        tps = [median(sample.tps for sample in samples) for samples in zip(*pairs, strict=True)]
        worst = [min(sample.worst for sample in samples) for samples in zip(*pairs, strict=True)]
        row = [name, f"{p99[0]:.2f} / {p99[1]:.2f}", ratio(p99[1], p99[0]), f"{worst[0]:.0f} / {worst[1]:.0f}"]
        rows.append([*row, f"{tps[0]:,.0f} / {tps[1]:,.0f}", f"{median(r.kib for r in rounds):.1f}"])
    title = f"{ACTIVE.clients} active, without / with {count:,} idle"
    return table([title, "p99 ms", "ratio", "worst ms", "tps", "KiB per idle client"], rows)
