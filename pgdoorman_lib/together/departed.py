"""Counters of workers that have gone: the pooler's never go back because a process has ended.

Rules:
1. Every answer that tells counters passes here before anybody shows it, so nobody has seen more of a process than is
   remembered of it. What it counted behind the last look is lost with it.
2. A process that is asked and does not answer counts as it did when it answered last; once it is gone, for ever.
3. A pool that a RELOAD has made anew begins to count anew in its process: what it had counted before stays, as of a
   process that has gone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from pgdoorman_lib.metrics.counters import Histogram, PoolStats
from pgdoorman_lib.together import kinds
from pgdoorman_lib.together.counted import (
    HISTOGRAMS,
    ProcessCounts,
    add_stats,
    pack_counts,
    pack_stats,
    pack_whole,
    unpack_histogram,
    unpack_stats,
)
from pgdoorman_lib.together.joining import rows_of
from pgdoorman_lib.together.packed import Told

#: Pools of which counters of processes that have gone are kept; the one that was added to longest ago goes first.
MOST_POOLS = 10_000
_MOST_ENDED = 1000

_PoolKey = tuple[str, str]
_Row = tuple[str, list[Any]]


class _Pool:
    """What is known of one pool in one process: totals as they were told last, and histograms as told last whole."""

    __slots__ = ("histograms", "life", "stats")

    def __init__(self, life: int) -> None:
        self.life = life
        self.stats = PoolStats()
        self.histograms: list[Histogram] = []


class _Sum:
    """What several processes have counted of one pool."""

    __slots__ = ("histograms", "stats")

    def __init__(self) -> None:
        self.stats = PoolStats()
        self.histograms = [getattr(self.stats, name).copy() for name in HISTOGRAMS]

    def add(self, stats: PoolStats, histograms: Sequence[Histogram]) -> None:
        add_stats(self.stats, stats)
        for own, more in zip(self.histograms, histograms, strict=False):
            own.merge(more)

    def rows(self, key: _PoolKey, parts: Collection[str]) -> Iterator[_Row]:
        if kinds.STATS in parts:
            yield kinds.STATS, [*key, 0, pack_stats(self.stats)]
        if kinds.BUCKETS in parts:
            yield kinds.BUCKETS, [*key, 0, [pack_whole(histogram) for histogram in self.histograms]]


class _Process:
    """What is known of a process."""

    def __init__(self, token: str) -> None:
        self.token = token
        self.columns: dict[str, Sequence[str]] = {}
        self.pools: dict[_PoolKey, _Pool] = {}
        #: its own counters, packed
        self.counts: Any = None


class Departed:
    """Remembers the counters of workers; ``see`` every answer, and say which are ``gone``."""

    def __init__(self) -> None:
        self._present: dict[int, _Process] = {}
        self._sums: dict[_PoolKey, _Sum] = {}
        self._counts = ProcessCounts()
        self._any_counts = False
        #: tokens of processes that are known to be gone: an answer of theirs may still be on its way
        self._ended: deque[str] = deque(maxlen=_MOST_ENDED)

    def see(self, number: int, told: Mapping[str, Any]) -> None:
        """Worker ``number`` has answered TELL or MORE. Malformed, LookupError or ValueError if that is no answer."""
        token = told.get("process")
        process = self._present.get(number)
        if token is not None:
            if token in self._ended:
                return
            if process is None or process.token != token:
                self.gone(number)
                process = self._present[number] = _Process(token)
            process.columns.update(told["columns"])
        if process is None:
            return
        for part, packed in told.get("portions", ()):
            if part in (kinds.STATS, kinds.BUCKETS, kinds.PROCESS):
                for row in rows_of(packed, process.columns[part]):
                    self._note(process, part, row)

    def _note(self, process: _Process, part: str, row: Told) -> None:
        if part == kinds.PROCESS:
            process.counts = row["counts"]
            return
        key = row["database"], row["user"]
        pool = process.pools.get(key)
        if pool is None or pool.life != row["life"]:
            if pool is not None:
                self._add(key, pool)
            pool = process.pools[key] = _Pool(row["life"])
        if part == kinds.STATS:
            pool.stats = unpack_stats(row["stats"])
        else:
            pool.histograms = [unpack_histogram(packed) for packed in row["histograms"]]

    def gone(self, number: int) -> None:
        """The process that was worker ``number`` has ended: what it has counted stays."""
        process = self._present.pop(number, None)
        if process is None:
            return
        self._ended.append(process.token)
        for key, pool in process.pools.items():
            self._add(key, pool)
        if process.counts is not None:
            self._counts.add(process.counts)
            self._any_counts = True

    def _add(self, key: _PoolKey, pool: _Pool) -> None:
        total = self._sums.pop(key, None) or _Sum()
        total.add(pool.stats, pool.histograms)
        self._sums[key] = total
        while len(self._sums) > MOST_POOLS:
            del self._sums[next(iter(self._sums))]

    def rows(self, parts: Collection[str], answered: Collection[int]) -> Iterator[_Row]:
        """Counters of those that are gone, and of those not ``answered``: rows of STATS, BUCKETS and PROCESS."""
        silent = [process for number, process in self._present.items() if number not in answered]
        if kinds.PROCESS in parts:
            for counts in [process.counts for process in silent if process.counts is not None]:
                yield kinds.PROCESS, _process_row(counts)
            if self._any_counts:
                counts = self._counts
                yield (
                    kinds.PROCESS,
                    _process_row(pack_counts(counts.connections, counts.openings, counts.consoles)),
                )
        if kinds.STATS in parts or kinds.BUCKETS in parts:
            for key, total in list(self._sums.items()):
                yield from total.rows(key, parts)
            for process in silent:
                for key, pool in list(process.pools.items()):
                    total = _Sum()
                    total.add(pool.stats, pool.histograms)
                    yield from total.rows(key, parts)


def _process_row(counts: Any) -> list[Any]:
    """A row of PROCESS of nobody who lives."""
    return [0, 0, 0.0, counts, 0, 0, 0]
