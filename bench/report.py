"""The samples as Markdown tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import median

from bench.load import Sample

#: Samples of all rounds by (name of the case, name of the target).
Results = Mapping[tuple[str, str], Sequence[Sample]]

DASH = "-"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, columns padded so that it reads as plain text, too; the first is left-aligned."""
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(header, widths, strict=True)) + " |"]
    lines.append("|" + "|".join("-" * (width + 1) + ("-" if i == 0 else ":") for i, width in enumerate(widths)) + "|")
    for row in rows:
        cells = (
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def cpu_table(results: Results, cases: Sequence[str], targets: Sequence[str]) -> str:
    """µs of CPU per transaction, minimum and median of the rounds; ratios are of minima, the first pooler to each."""

    def cost(case: str, target: str) -> tuple[float, float] | None:
        figures = [sample.cpu for sample in results.get((case, target), ()) if sample.cpu is not None]
        return (min(figures), median(figures)) if figures else None

    poolers = [name for name in targets if any(cost(case, name) for case in cases)]
    rows = []
    for case in cases:
        costs = {name: cost(case, name) for name in poolers}
        row = [case] + [f"{pair[0]:.1f} / {pair[1]:.1f}" if (pair := costs[name]) else DASH for name in poolers]
        row += [ratio(first(costs[poolers[0]]), first(costs[name])) for name in poolers[1:]]
        rows.append(row)
    header = ["CPU µs/transaction, min / median", *poolers, *(f"{poolers[0]} : {name}" for name in poolers[1:])]
    return table(header, rows)


def speed_table(results: Results, cases: Sequence[str], targets: Sequence[str]) -> str:
    """Transactions per second, median of the rounds, and their ratio to the others."""
    return median_table("tps, median", results, cases, targets, lambda sample: sample.tps, "{:,.0f}")


def latency_table(results: Results, cases: Sequence[str], targets: Sequence[str]) -> str:
    """p50 and p99 in ms, medians of the rounds."""
    rows = []
    for case in cases:
        row = [case]
        for name in targets:
            samples = results.get((case, name))
            if samples:
                row.append(f"{median(s.p50 for s in samples):.2f} / {median(s.p99 for s in samples):.2f}")
            else:
                row.append(DASH)
        rows.append(row)
    return table(["latency ms, p50 / p99", *targets], rows)


def memory_table(figures: Mapping[str, float], count: int) -> str:
    """KiB per idle client."""
    base = next(iter(figures.values()))
    rows = [[name, f"{kib:.1f}", ratio(base, kib)] for name, kib in figures.items()]
    return table([f"KiB per idle client at {count:,}", "PSS", "ratio"], rows)


def start_table(figures: Mapping[str, float]) -> str:
    """ms from the start of a pooler to the answer of its first query."""
    base = next(iter(figures.values()))
    rows = [[name, f"{seconds * 1000:.0f}", ratio(base, seconds)] for name, seconds in figures.items()]
    return table(["start to first answer", "ms, least", "ratio"], rows)


def median_table(
    title: str,
    results: Results,
    cases: Sequence[str],
    targets: Sequence[str],
    figure: Callable[[Sample], float],
    form: str,
) -> str:
    rows = []
    for case in cases:
        middles = {
            name: median(figure(sample) for sample in results[case, name]) if results.get((case, name)) else None
            for name in targets
        }
        row = [case] + [form.format(value) if (value := middles[name]) is not None else DASH for name in targets]
        row += [ratio(middles[targets[0]], middles[name]) for name in targets[1:]]
        rows.append(row)
    return table([title, *targets, *(f"{targets[0]} : {name}" for name in targets[1:])], rows)


def first(pair: tuple[float, float] | None) -> float | None:
    return None if pair is None else pair[0]


def ratio(ours: float | None, theirs: float | None) -> str:
    return DASH if ours is None or not theirs else f"{ours / theirs:.2f}"
