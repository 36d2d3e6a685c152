"""Averages and latency windows, over a clock moved by hand."""

from __future__ import annotations

import gevent
import pytest
from pace import patience

from pgdoorman_lib.metrics.averages import Averages, PoolAverages
from pgdoorman_lib.metrics.counters import PoolStats


class FakePool:
    def __init__(self) -> None:
        self.stats = PoolStats()


class Bench:
    def __init__(self, period: float = 15.0) -> None:
        self.now = 100.0
        self.pools = [FakePool()]
        self.averages = Averages(lambda: self.pools, lambda: self.now, period)

    def tick(self, seconds: float = 15.0) -> None:
        self.now += seconds
        self.averages.tick()


def test_rates_are_those_of_the_last_period() -> None:
    bench = Bench()
    stats = bench.pools[0].stats
    stats.xact_count, stats.query_count, stats.received, stats.sent, stats.errors = 150, 300, 1500, 15000, 30
    stats.xact_time, stats.query_time, stats.wait_time = 150 * 40, 300 * 10, 150 * 7
    assert bench.averages.of(stats) == PoolAverages()
    bench.tick()
    assert bench.averages.of(stats) == PoolAverages(10, 20, 100, 1000, 2, 40, 10, 7)
    stats.xact_count += 15
    bench.tick()
    assert bench.averages.of(stats) == PoolAverages(xacts_per_second=1)
    bench.tick()
    assert bench.averages.of(stats) == PoolAverages()


def test_rebuilt_pool_starts_over_and_old_one_is_forgotten() -> None:
    bench = Bench()
    old = bench.pools[0].stats
    old.xact_count = 1500
    bench.tick()
    bench.pools = [FakePool()]
    bench.pools[0].stats.xact_count = 30
    bench.tick()
    assert bench.averages.of(bench.pools[0].stats).xacts_per_second == 2
    assert bench.averages.of(old) == PoolAverages()


def test_percentiles_cover_the_last_and_the_running_period() -> None:
    bench = Bench()
    stats = bench.pools[0].stats
    stats.query_hist.add(1000)
    assert bench.averages.latencies(stats).query.count == 1
    bench.tick()
    stats.query_hist.add(1000)
    assert bench.averages.latencies(stats).query.count == 2
    bench.tick()
    assert bench.averages.latencies(stats).query.count == 1
    bench.tick()
    assert bench.averages.latencies(stats).query.count == 0
    assert stats.query_hist.count == 2


def test_two_ticks_at_one_instant_divide_by_nothing() -> None:
    bench = Bench()
    bench.averages.tick()
    assert bench.averages.of(bench.pools[0].stats) == PoolAverages()


def test_ticker_runs_until_stopped() -> None:
    bench = Bench(period=0.001)
    stats = bench.pools[0].stats
    stats.query_count = 15
    bench.now += 15
    bench.averages.start()
    with gevent.Timeout(patience(5)):
        while bench.averages.of(stats).queries_per_second != 1:
            gevent.sleep(0.001)
    bench.averages.stop()
    bench.averages.stop()
    before = bench.averages.of(stats)
    bench.now += 15
    gevent.sleep(0.01)
    assert bench.averages.of(stats) is before


def test_short_counter_names_are_real_attributes() -> None:
    from pgdoorman_lib.metrics import averages

    stats = PoolStats()
    for name in (*averages._COUNTERS, *averages._HISTOGRAMS):
        assert getattr(stats, name) is not None


@pytest.mark.parametrize("percent", [50, 95, 99])
def test_latencies_of_an_unknown_pool_are_all_it_counted(percent: int) -> None:
    bench = Bench()
    stats = PoolStats()
    stats.xact_hist.add(7)
    assert bench.averages.latencies(stats).xact.percentile(percent) in range(5, 8)
