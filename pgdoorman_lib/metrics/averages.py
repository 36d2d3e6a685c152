"""Per-pool rates and latency windows, taken from the counters every 15 seconds.

Rules:
1. Averages (``avg_*``) are those of the last complete period, as in SHOW STATS of the poolers before us.
2. Percentiles look at the last complete period and the one running, so they are never empty just after a tick.
3. A pool that was rebuilt starts with new counters, and is known by them: its averages start over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import gevent

from pgdoorman_lib.metrics.counters import Histogram, PoolStats
from pgdoorman_lib.record import record
from pgdoorman_lib.views import HasStats

#: Seconds between two ticks: the reference's and PgBouncer's averages are over windows of this order.
PERIOD = 15.0

_COUNTERS = (
    "xact_count",
    "query_count",
    "received",
    "sent",
    "errors",
    "xact_time",
    "query_time",
    "wait_time",
    "assignments",
    "client_login_count",
    "client_parses",
    "prepare_miss",
    "binds",
)
#: The rates of those counters behind ``wait_time``.
_OTHER_RATES = (
    "assignments_per_second",
    "logins_per_second",
    "client_parses_per_second",
    "server_parses_per_second",
    "binds_per_second",
)
_HISTOGRAMS = ("query_hist", "xact_hist", "wait_hist")


@record(frozen=True, slots=True)
class PoolAverages:
    """One pool's last complete period: ``*_per_second`` are rates, ``*_time`` the mean µs of one transaction or query.

    ``wait_time`` is the mean wait for a server per transaction, also µs.
    """

    xacts_per_second: int = 0
    queries_per_second: int = 0
    received_per_second: int = 0
    sent_per_second: int = 0
    errors_per_second: int = 0
    xact_time: int = 0
    query_time: int = 0
    wait_time: int = 0
    assignments_per_second: int = 0
    logins_per_second: int = 0
    client_parses_per_second: int = 0
    server_parses_per_second: int = 0
    binds_per_second: int = 0


@record(frozen=True, slots=True)
class Latencies:
    """A pool's recent latencies: query, transaction and waiting time, as histograms of µs."""

    query: Histogram
    xact: Histogram
    wait: Histogram


#: How long a complete period was (seconds), and how much of each of _COUNTERS came in it.
Period = tuple[float, Sequence[int]]


def averages_over(periods: Sequence[Period]) -> PoolAverages:
    """The averages of a pool over the last periods of all processes that have a part of it, at least one."""
    lengths = {elapsed for elapsed, _ in periods}
    counted = [sum(numbers) for numbers in zip(*(came for _, came in periods), strict=True)]
    if len(lengths) == 1:
        (elapsed,) = lengths
        rates = [round(number / elapsed) for number in counted]
    else:
        each = [[number / elapsed for number in came] for elapsed, came in periods]
        rates = [round(sum(numbers)) for numbers in zip(*each, strict=True)]
    xacts, queries, _, _, _, xact_time, query_time, wait_time, *_ = counted
    xacts_rate, queries_rate, received_rate, sent_rate, errors_rate, _, _, _, *others = rates
    return PoolAverages(
        xacts_per_second=xacts_rate,
        queries_per_second=queries_rate,
        received_per_second=received_rate,
        sent_per_second=sent_rate,
        errors_per_second=errors_rate,
        xact_time=xact_time // xacts if xacts > 0 else 0,
        query_time=query_time // queries if queries > 0 else 0,
        wait_time=wait_time // xacts if xacts > 0 else 0,
        **dict(zip(_OTHER_RATES, others, strict=True)),
    )


@dataclass(slots=True)
class _Window:
    """What is kept of a pool between ticks: its counters at the last tick, its histograms at the last two."""

    stats: PoolStats
    counters: tuple[int, ...]
    last: tuple[Histogram, ...]
    before_last: tuple[Histogram, ...]
    period: Period
    averages: PoolAverages


class Averages:
    """Keep averages and latency windows of all pools; ``start`` runs the ticker, ``tick`` is one beat of it.

    ``pools`` returns the pools there are now; ``clock`` returns monotonic seconds.
    """

    def __init__(
        self, pools: Callable[[], Iterable[HasStats]], clock: Callable[[], float], period: float = PERIOD
    ) -> None:
        self._pools = pools
        self._clock = clock
        self._period = period
        self._windows: dict[int, _Window] = {}
        self._ticked_at = clock()
        self._ticker: gevent.Greenlet[..., None] | None = None

    def start(self, then: Callable[[], object] = lambda: None) -> None:
        """Start the ticker's greenlet; ``then`` is called behind each tick, and may not switch."""
        if self._ticker is None:
            self._ticker = gevent.spawn(self._run, then)

    def stop(self) -> None:
        """Stop the ticker and wait for its end; harmless when it does not run."""
        if self._ticker is not None:
            self._ticker.kill()
            self._ticker = None

    def of(self, stats: PoolStats) -> PoolAverages:
        """Return the averages of the pool that counts in ``stats``; zeros until its first period is complete."""
        window = self._windows.get(id(stats))
        return window.averages if window is not None else PoolAverages()

    def period(self, stats: PoolStats) -> Period | None:
        """Return what those averages are made of; None until the first period is complete."""
        window = self._windows.get(id(stats))
        return window.period if window is not None else None

    def latencies(self, stats: PoolStats) -> Latencies:
        """Return the recent latencies of the pool that counts in ``stats``."""
        window = self._windows.get(id(stats))
        now = [getattr(stats, name) for name in _HISTOGRAMS]
        if window is not None:
            now = [histogram.since(older) for histogram, older in zip(now, window.before_last, strict=True)]
        return Latencies(query=now[0], xact=now[1], wait=now[2])

    def tick(self) -> None:
        """Close the running period: compute its averages, forget pools that are gone."""
        now = self._clock()
        elapsed = now - self._ticked_at
        if elapsed <= 0:
            return
        self._ticked_at = now
        windows = {}
        for pool in self._pools():
            windows[id(pool.stats)] = self._close_window(pool.stats, elapsed)
        # A window holds its PoolStats, so the id it is kept under can't be another object's while it is in the map.
        self._windows = windows

    def _close_window(self, stats: PoolStats, elapsed: float) -> _Window:
        window = self._windows.get(id(stats))
        counters: tuple[int, ...] = tuple(getattr(stats, name) for name in _COUNTERS)
        histograms: tuple[Histogram, ...] = tuple(getattr(stats, name).copy() for name in _HISTOGRAMS)
        if window is None:
            before = (0,) * len(_COUNTERS)
            last = tuple(Histogram() for _ in _HISTOGRAMS)
        else:
            before, last = window.counters, window.last
        period = elapsed, tuple(new - old for new, old in zip(counters, before, strict=True))
        return _Window(stats, counters, histograms, last, period, averages_over([period]))

    def _run(self, then: Callable[[], object]) -> None:
        while True:
            gevent.sleep(self._period)
            self.tick()
            then()
