"""The lines that the log has every 15 seconds: one of each pool with clients, on its last complete period."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable

import gevent
import gevent.event

from pgdoorman_lib.log import of_pool
from pgdoorman_lib.metrics.counters import Histogram
from pgdoorman_lib.views import PoolView, RunningPooler

log = logging.getLogger(__name__)

PERCENTS = (50, 90, 95, 99)

#: Clients or pools looked at in one piece: others have their turn in between.
_PIECE = 100


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
        clients: Counter[tuple[str, str, str]] = Counter()
        for number, client in enumerate(self._pooler.clients, 1):
            info = client.info()
            clients[info.database, info.user, info.state] += 1
            if number % _PIECE == 0:
                gevent.sleep(0)
        told = 0
        for pool in list(self._pooler.pools):
            key = pool.settings.database, pool.settings.user
            states = [clients[key[0], key[1], state] for state in ("active", "idle", "waiting")]
            if any(states):
                self._line(pool, *states)
                told += 1
                if told % _PIECE == 0:
                    gevent.sleep(0)

    def _line(self, pool: PoolView, active: int, idle: int, waiting: int) -> None:
        averages = self._pooler.averages.of(pool.stats)
        latencies = self._pooler.averages.latencies(pool.stats)
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
