"""What a soak comes to: tables, and everything that was wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from fault_proxy import Mischief
from throwaway_postgres import ThrowawayPostgres

from bench.report import table
from bench.soak.ground import POOLS, ROUGH, Pooler
from bench.soak.trouble import Trouble
from bench.soak.watch import Watch
from bench.soak.workers import SPOILED

#: Memory may grow by so much from the second to the last third of the time in which no process is replaced.
GROWTH = 1.05
#: So many quiet moments are needed on each side to compare them.
FEWEST = 2
#: Descriptors that are no connections may be so many more: connections on their way in or out.
FLUTTER = 2
#: So many texts of one sort are told.
TOLD = 8


@dataclass(frozen=True)
class Quiet:
    """The pooler at a moment when every client rests; ``storm``: processes were still being replaced."""

    passed: float
    storm: bool
    upgrades: int
    kib: int
    descriptors: int
    clients: int
    servers: int

    @property
    def others(self) -> int:
        """Descriptors that are no connection."""
        return self.descriptors - self.clients - self.servers

    def __str__(self) -> str:
        mib = self.kib / 1024
        return f"{mib:.1f} MiB, {self.descriptors} descriptors of {self.clients} clients, {self.servers} servers"


@dataclass
class Verdict:
    quiet: list[Quiet] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    losses: Counter[str] = field(default_factory=Counter)

    def judge(
        self,
        reports: Sequence[dict[str, Any]],
        trouble: Trouble,
        watch: Watch,
        pooler: Pooler,
        postgres: ThrowawayPostgres,
    ) -> None:
        """Everything there is to find; ends the pooler on the way."""
        for report in reports:
            self.wrong += some(report["wrong"], report["wrongs"])
        self.wrong += trouble.wrong
        self._losses([loss for report in reports for loss in report["lost"]], trouble)
        self._transactions(reports, postgres)
        watch.stop()
        self.wrong += some(sorted(set(watch.wrong)))
        self._growth()
        if pooler.running:
            self.wrong += pooler.stop()
        self.wrong += some([f"in the log: {line}" for line in pooler.wrong_in_log()])

    def _losses(self, losses: Iterable[dict[str, Any]], trouble: Trouble) -> None:
        """Those of clients whose way and servers are spoiled have their reason, the others must have one in time."""
        unexcused = []
        for loss in losses:
            if loss["character"] in SPOILED:
                reason = f"way {loss['character']}"
            elif loss["database"] == ROUGH:
                reason = "servers' proxy"
            else:
                reason = trouble.excused(loss["heard"], loss["time"])
            self.losses[reason or "none"] += 1
            if not reason:
                unexcused.append(
                    f"lost without a reason: {loss['kind']} {loss['client']} ({loss['character']}, {loss['database']})"
                    f" in {loss['operation']} at {loss['time']:.2f}: {loss['code']} {loss['text']}"
                )
        self.wrong += some(unexcused)

    def _transactions(self, reports: Sequence[dict[str, Any]], postgres: ThrowawayPostgres) -> None:
        """What was told is there, what was not is not, and of those in doubt nothing is known."""
        there: dict[int, set[int]] = {}
        for database in POOLS:
            for line in postgres.sql("SELECT worker, number FROM told", database=database).splitlines():
                worker, number = line.split("|")
                there.setdefault(int(worker), set()).add(int(number))
        for report in reports:
            for text, work in report["transactions"].items():
                found, absent = there.pop(int(text), set()), set(work["absent"])
                told = set(range(1, work["last"] + 1)) - absent - set(work["doubtful"])
                for what, numbers in (
                    ("was told but is not there", told - found),
                    ("is there though it was not committed", found & absent),
                    ("is there though nobody has sent it", found - set(range(1, work["last"] + 1))),
                ):
                    if numbers:
                        self.wrong.append(f"client {text}: {sorted(numbers)[:TOLD]} of {work['last']} {what}")
        if there:
            self.wrong.append(f"transactions of clients that are unknown: {sorted(there)}")

    def _growth(self) -> None:
        """Memory and descriptors of the part of the time in which no process is replaced."""
        calm = [look for look in self.quiet if not look.storm and look.clients]
        part = len(calm) // 3
        if part >= FEWEST:
            # The first third is the warm-up of the last process.
            first, last = (median(look.kib for look in looks) for looks in (calm[part : 2 * part], calm[-part:]))
            if last > first * GROWTH:
                self.wrong.append(f"memory has grown from {first:,.0f} to {last:,.0f} KiB")
            others = [look.others for look in calm]
            if median(others[-part:]) > median(others[:part]) + FLUTTER:
                self.wrong.append(f"descriptors besides connections: {others}")

    def report(
        self,
        reports: Sequence[dict[str, Any]],
        trouble: Trouble,
        mischief: Mischief,
        watch: Watch,
        pools: Mapping[str, int],
    ) -> str:
        """Tables of what was done and seen."""
        done: Counter[str] = Counter()
        for report in reports:
            done.update(report["done"])
        transactions = [work for report in reports for work in report["transactions"].values()]
        told = sum(work["last"] - len(work["absent"]) - len(work["doubtful"]) for work in transactions)
        doubtful = sum(len(work["doubtful"]) for work in transactions)
        kinds: Counter[str] = Counter()
        for name, count in done.items():
            kinds[name.partition(" ")[0] if not name.startswith("cancel") else name] += count
        parts = [
            table(["operations, right", "count"], rows(kinds)),
            table(
                ["trouble", "count"],
                rows(trouble.done + Counter({f"servers' {k}": v for k, v in mischief.done.items()})),
            ),
            table(["connections lost, reason", "count"], rows(self.losses)),
            table(
                ["pool", "pool_size", "most servers seen"],
                [[name, str(size), str(watch.most[name])] for name, size in pools.items()],
            ),
            table(
                ["minute", "upgrades", "MiB", "descriptors", "clients", "servers", "others"],
                [
                    [
                        f"{look.passed / 60:.1f}",
                        str(look.upgrades),
                        f"{look.kib / 1024:.1f}",
                        *(str(n) for n in (look.descriptors, look.clients, look.servers, look.others)),
                    ]
                    for look in self.quiet
                ],
            ),
        ]
        if trouble.upgrades:
            parts.append(
                f"upgrades took {min(trouble.upgrades):.1f} to {max(trouble.upgrades):.1f} s to the old one's end"
            )
        parts.append(f"{told:,} transactions told, {doubtful} in doubt; {watch.looks:,} looks at pg_stat_activity")
        return "\n\n".join(parts)


def rows(counts: Mapping[str, int]) -> list[list[str]]:
    return [[name, f"{count:,}"] for name, count in sorted(counts.items(), key=lambda pair: -pair[1])]


def some(texts: Sequence[str], count: int | None = None) -> list[str]:
    """The first of them, and how many more there are."""
    more = (len(texts) if count is None else count) - TOLD
    return [*texts[:TOLD], *([f"… and {more} more like this"] if more > 0 else [])]
