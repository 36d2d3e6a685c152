"""Counters as plain values, and their sums: exact ones, histograms included, since buckets are counts, too.

A coarse histogram has no buckets: its count, its total, and how many kept within each bound.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from typing import Any

from pgdoorman_lib.metrics.counters import (
    MAX_SQLSTATES,
    OTHER_SQLSTATES,
    ConnectionStats,
    Histogram,
    LinkStats,
    OpeningStats,
    PoolStats,
)
from pgdoorman_lib.metrics.measures import BUCKETS

COUNTERS = (
    *("xact_count", "query_count", "received", "sent", "xact_time", "query_time", "wait_time", "errors"),
    *("client_login_count", "prepare_hit", "prepare_miss", "wait_count", "open_count", "open_failures"),
    *("asked", "asked_unknown", "assignments", "client_parses", "binds"),
)
HISTOGRAMS = ("query_hist", "xact_hist", "wait_hist")
LINK_COUNTERS = ("xact_count", "query_count", "errors", "received", "sent", "prepare_hit", "prepare_miss")
CONNECTION_COUNTERS = ("total", "errors", "tls", "plain", "cancel", "passed_on", "not_passed_on")
PHASES = ("tcp_connect", "tls", "auth", "startup")

_WORD = array("I").itemsize

Packed = list[Any]


def pack_coarse(histogram: Histogram) -> Packed:
    """A histogram without its buckets."""
    return [histogram.bound, histogram.count, histogram.total, bytes(histogram.within)]


def pack_whole(histogram: Histogram) -> Packed:
    """A histogram; of its buckets what lies between the first and the last that are not empty."""
    if histogram.buckets is None:
        return [*pack_coarse(histogram), 0, b""]
    every = bytes(histogram.buckets)
    end = -(-len(every.rstrip(b"\0")) // _WORD) * _WORD
    start = (len(every) - len(every.lstrip(b"\0"))) // _WORD
    return [*pack_coarse(histogram), start, every[start * _WORD : end]]


def unpack_histogram(packed: Sequence[Any]) -> Histogram:
    """The histogram that either has packed; ValueError when it has other buckets than ours."""
    bound, count, total, within, *buckets = packed
    histogram = Histogram(bound)
    histogram.count, histogram.total = count, total
    kept = array("q", within)
    if len(kept) != len(histogram.within):
        raise ValueError(f"a histogram of {len(kept)} bounds, ours have {len(histogram.within)}")
    histogram.within = kept
    if buckets and buckets[1]:
        start, some = buckets
        behind = BUCKETS - start - len(some) // _WORD
        if behind < 0:
            raise ValueError(f"a histogram of more than {BUCKETS} buckets")
        histogram.buckets = array("I", bytes(start * _WORD) + some + bytes(behind * _WORD))
    return histogram


def pack_numbers(counted: Any, names: Iterable[str]) -> list[int]:
    """The counters of these names."""
    return [getattr(counted, name) for name in names]


def add_numbers(counted: Any, names: Sequence[str], more: Sequence[int]) -> None:
    """Add what ``pack_numbers`` has packed; who has counted less than we do has counted none of it."""
    for name, number in zip(names, more, strict=False):
        setattr(counted, name, getattr(counted, name) + number)


def add_each(total: dict[str, int], more: dict[str, int]) -> None:
    """Add counts by name."""
    for name, number in more.items():
        total[name] = total.get(name, 0) + number


def pack_stats(stats: PoolStats) -> Packed:
    """Totals, with coarse histograms."""
    coarse = [pack_coarse(getattr(stats, name)) for name in HISTOGRAMS]
    return [pack_numbers(stats, COUNTERS), dict(stats.sqlstates), coarse]


def unpack_stats(packed: Sequence[Any]) -> PoolStats:
    """What ``pack_stats`` has packed."""
    numbers, sqlstates, coarse = packed
    stats = PoolStats()
    add_numbers(stats, COUNTERS, numbers)
    stats.sqlstates = dict(sqlstates)
    for name, histogram in zip(HISTOGRAMS, coarse, strict=True):
        setattr(stats, name, unpack_histogram(histogram))
    return stats


def add_stats(total: PoolStats, more: PoolStats) -> None:
    """Add all that another pool has counted. Of codes beyond the most that are counted each the rest is one."""
    add_numbers(total, COUNTERS, pack_numbers(more, COUNTERS))
    counted = total.sqlstates
    for sqlstate, number in more.sqlstates.items():
        name = sqlstate if sqlstate in counted or len(counted) < MAX_SQLSTATES else OTHER_SQLSTATES
        counted[name] = counted.get(name, 0) + number
    for name in HISTOGRAMS:
        getattr(total, name).merge(getattr(more, name))


def copy_stats(into: PoolStats, stats: PoolStats) -> None:
    """Have ``into`` say what ``stats`` says; the histograms are the same ones afterwards."""
    for name in (*COUNTERS, *HISTOGRAMS, "sqlstates"):
        setattr(into, name, getattr(stats, name))


def pack_link(stats: LinkStats) -> list[int]:
    """Totals of one connection."""
    return pack_numbers(stats, LINK_COUNTERS)


def unpack_link(packed: Sequence[int]) -> LinkStats:
    """What ``pack_link`` has packed."""
    stats = LinkStats()
    add_numbers(stats, LINK_COUNTERS, packed)
    return stats


class ProcessCounts:
    """What a process counts beside its pools: ``consoles`` are the console's totals."""

    def __init__(self) -> None:
        self.connections = ConnectionStats()
        self.openings = OpeningStats()
        self.consoles = PoolStats()

    def add(self, packed: Sequence[Any]) -> None:
        """Add what ``pack_counts`` has packed."""
        numbers, rejected, openings, consoles = packed
        add_numbers(self.connections, CONNECTION_COUNTERS, numbers)
        add_each(self.connections.rejected, rejected)
        for name, histogram in zip(PHASES, openings, strict=True):
            getattr(self.openings, name).merge(unpack_histogram(histogram))
        add_stats(self.consoles, unpack_stats(consoles))


def pack_counts(connections: ConnectionStats, openings: OpeningStats, consoles: PoolStats) -> Packed:
    """The counters of a process."""
    return [
        pack_numbers(connections, CONNECTION_COUNTERS),
        dict(connections.rejected),
        [pack_coarse(getattr(openings, name)) for name in PHASES],
        pack_stats(consoles),
    ]
