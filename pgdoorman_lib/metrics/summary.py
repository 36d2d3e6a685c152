"""The lines that the log has every 15 seconds: one of each pool with clients, on its last complete period."""

from __future__ import annotations

import logging
from collections.abc import Callable

import gevent
import gevent.event

from pgdoorman_lib.log import of_pool
from pgdoorman_lib.metrics.counters import Histogram
from pgdoorman_lib.metrics.pacing import Pace
from pgdoorman_lib.metrics.reading import PoolReading, pool_readings
from pgdoorman_lib.together import kinds
from pgdoorman_lib.views import AveragesView, RunningPooler

log = logging.getLogger(__name__)

PERCENTS = (50, 90, 95, 99)
_PARTS = (kinds.POOLS, kinds.COUNTS, kinds.STATS, kinds.PERIODS, kinds.LATENCIES)


class Summary:
    """Logs the lines; ``run`` is its greenlet, and ``due`` is set when a period has ended.

    ``enabled`` says whether it is to be done.
    """

    def __init__(self, pooler: RunningPooler, enabled: Callable[[], bool]) -> None:
        self._pooler = pooler
        self._enabled = enabled
        self.due = gevent.event.Event()

    def run(self) -> None:
        """Log at the end of each period, for ever."""
        while True:
            self.due.wait()
            self.due.clear()
            if self._enabled() and log.isEnabledFor(logging.INFO):
                self.tell()

    def tell(self) -> None:
        """Log a line of each pool that has clients; switches now and then."""
        pooler = self._pooler.everyone(_PARTS)
        for reading in pool_readings(pooler, Pace()):
            if reading.clients_active or reading.clients_idle or reading.clients_waiting:
                self._line(reading, pooler.averages)

    def _line(self, reading: PoolReading, of_period: AveragesView) -> None:
        pool = reading.pool
        active, idle, waiting = reading.clients_active, reading.clients_idle, reading.clients_waiting
        averages = of_period.of(pool.stats)
        latencies = of_period.latencies(pool.stats)
        servers = pool.borrowed_count, pool.idle_count
        log.info(
            "%s qps=%d tps=%d | clients=%d active=%d idle=%d wait=%d | servers=%d active=%d idle=%d"
            " | query_ms %s | xact_ms %s | wait_ms %s | avg_wait=%.3fms",
            of_pool(pool.settings),
            averages.queries_per_second,
            averages.xacts_per_second,
            active + idle + waiting,
            active,
            idle,
            waiting,
            sum(servers),
            *servers,
            *map(_percentiles, (latencies.query, latencies.xact, latencies.wait)),
            averages.wait_time / 1000,
        )


def _percentiles(histogram: Histogram) -> str:
    """``p50=1.20 p90=...``, in milliseconds."""
    return " ".join(f"p{percent}={histogram.percentile(percent) / 1000:.2f}" for percent in PERCENTS)
