"""The lines about each pool: which pools have one, what stands in it, and that others have their turn between them."""

from __future__ import annotations

import logging

import gevent
import pytest
from admin.fakes import FakeClient, FakePool, FakePooler, FakeSettings

from pgdoorman_lib.metrics.summary import Summary


def told(pooler: FakePooler, caplog: pytest.LogCaptureFixture) -> list[str]:
    with caplog.at_level(logging.INFO):
        Summary(pooler, lambda: True).tell()
    return [record.getMessage() for record in caplog.records]


def test_a_line_on_the_last_period(caplog: pytest.LogCaptureFixture) -> None:
    pooler = FakePooler()
    pooler.pools.append(FakePool(FakeSettings(database="nobody's")))
    stats = pooler.pools[0].stats
    pooler.averages.tick()
    stats.query_count, stats.xact_count, stats.wait_time = 300, 150, 150 * 1500
    for _ in range(10):
        stats.query_hist.add(1000)
        stats.xact_hist.add(2000)
        stats.wait_hist.add(4)
    pooler.clock += 15
    pooler.averages.tick()
    (line,) = told(pooler, caplog)
    begin = "[doorman@exampledb] qps=20 tps=10 | clients=3 active=1 idle=1 wait=1 | servers=6 active=2 idle=4 | query_ms p50="
    assert line.startswith(begin)
    assert line.endswith(" | wait_ms p50=0.00 p90=0.00 p95=0.00 p99=0.00 | avg_wait=1.500ms")


def test_many_clients_do_not_hold_the_hub(caplog: pytest.LogCaptureFixture) -> None:
    pooler = FakePooler()
    pooler.clients = [FakeClient() for _ in range(1000)]
    pooler.pools = [FakePool(FakeSettings(user=f"u{number}")) for number in range(300)]
    pooler.clients += [FakeClient(user=f"u{number}") for number in range(300)]
    turns = 0

    def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            gevent.sleep(0)

    greenlet = gevent.spawn(others)
    try:
        assert len(told(pooler, caplog)) == 300
    finally:
        greenlet.kill()
    assert turns >= 10
