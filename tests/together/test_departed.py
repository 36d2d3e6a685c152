"""Counters when workers die, are silent, or begin anew: what was told once is never taken back."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
from statsd_receiver import Receiver
from together.company import Company, Pool, Worker, people, work

from pgdoorman_lib.config.metrics import Statsd
from pgdoorman_lib.log import Limited
from pgdoorman_lib.metrics.counters import PoolStats
from pgdoorman_lib.metrics.statsd import StatsdExporter
from pgdoorman_lib.net.parcel_terms import ChannelClosed
from pgdoorman_lib.together import departed, kinds
from pgdoorman_lib.together import whole as whole_pooler
from pgdoorman_lib.together.counted import COUNTERS, HISTOGRAMS, pack_numbers, pack_stats, pack_whole, unpack_histogram
from pgdoorman_lib.together.whole import Whole


def company(count: int = 2) -> tuple[Worker, Company]:
    whole, parts = Worker(), [Worker() for _ in range(count)]
    work(parts, whole, random.Random(4))
    return whole, Company(*parts)


def told(who: Any, *more: str) -> dict[tuple[str, str], tuple[Any, ...]]:
    """All that pools have counted."""
    pooler = who.everyone((kinds.POOLS, kinds.STATS, kinds.PROCESS, *more))
    return {(pool.settings.database, pool.settings.user): flat(pool.stats) for pool in pooler.pools}


def flat(stats: PoolStats) -> tuple[Any, ...]:
    histograms = [(each.count, each.total, each.upto()) for each in (getattr(stats, name) for name in HISTOGRAMS)]
    return (*pack_numbers(stats, COUNTERS), tuple(sorted(stats.sqlstates.items())), histograms)


def test_a_worker_that_dies_has_counted() -> None:
    whole, those = company()
    everything = told(whole)
    assert told(those.wholes[1]) == everything
    those.gone.add(2)
    assert told(those.wholes[1]) == everything  # nobody has said that it is gone, it does not answer
    those.chair.gone(2)
    assert told(those.wholes[1]) == everything
    those.restart(2, Worker())
    assert told(those.wholes[1]) == everything
    work([those.workers[2]], whole, random.Random(5))
    assert told(those.wholes[1]) == told(whole)


def test_who_is_gone_is_known_by_who_comes() -> None:
    whole, those = company()
    those.chair.look()
    those.restart(2, Worker())
    assert told(those.wholes[1]) == told(whole)
    those.chair.gone(1)
    those.restart(1, Worker())
    assert told(those.wholes[2]) == told(whole)


def test_only_what_came_behind_the_last_look_is_lost() -> None:
    whole, those = company()
    those.chair.look()
    known = told(whole)
    work([those.workers[2]], Worker(), random.Random(6), 5)
    those.gone.add(2)
    those.chair.gone(2)
    assert told(those.wholes[1]) == known


def test_a_hundred_deaths() -> None:
    whole, those = company(3)
    rng = random.Random(7)
    for _ in range(100):
        number = rng.randrange(1, 4)
        work(list(those.workers.values()), whole, rng, 3)
        those.chair.look()
        if rng.random() < 0.5:
            those.chair.gone(number)
        those.restart(number, Worker())
    assert told(those.wholes[1], kinds.BUCKETS) == told(whole)
    connections = those.wholes[2].everyone((kinds.PROCESS,)).connections
    assert (connections.total, connections.rejected) == (whole.connections.total, whole.connections.rejected)


@pytest.mark.parametrize("size", [100, 1 << 18])
def test_who_watches_is_told_of_what_has_changed(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pgdoorman_lib.together.telling.ANSWER_BYTES", size)
    whole, those = company()
    those.chair.look()
    first = sum(those.sizes)
    those.sizes.clear()
    those.chair.look()
    assert sum(those.sizes) < first / 3
    those.workers[1].pools[1].stats.query_count += 5
    whole.pools[1].stats.query_count += 5
    those.lost.add(1)
    those.chair.look()
    those.lost.clear()
    those.chair.look()
    those.chair.gone(1)
    those.chair.gone(2)
    those.restart(1, Worker())
    those.restart(2, Worker())
    assert told(those.wholes[1], kinds.BUCKETS) == told(whole)


def test_a_late_answer_of_one_that_is_gone_counts_nothing() -> None:
    whole, those = company()
    answer = those.handlers[2][kinds.TELL]({"parts": [kinds.STATS]})
    those.chair.departed.see(2, answer)
    those.chair.gone(2)
    those.chair.departed.see(2, answer)
    those.restart(2, Worker())
    assert told(those.wholes[1]) == told(whole)


def test_a_pool_made_anew_goes_on_counting() -> None:
    whole, those = company()
    those.chair.look()
    before = told(whole)
    those.workers[1].pools[0] = Pool("a", "x")
    assert told(those.wholes[1]) == before
    work([those.workers[1]], whole, random.Random(8))
    assert told(those.wholes[2]) == told(whole)


def test_silent_workers_are_named_and_their_counters_are_told(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(whole_pooler, "missed", Limited(whole_pooler.missed._logger))  # other tests have logged it
    whole, those = company()
    people(list(those.workers.values()), whole, random.Random(9))
    everything = told(those.wholes[1])
    those.silent.add(2)
    pooler = those.wholes[1].everyone((kinds.POOLS, kinds.STATS, kinds.CLIENTS))
    assert list(pooler.missing) == [2]
    assert "no answer within 2" in pooler.missing[2]
    assert "worker 2 is not in what was told" in caplog.text
    assert {client.info().id for client in pooler.clients} == {client.id for client in those.workers[1].clients}
    assert told(those.wholes[1]) == everything


def test_one_that_falls_silent_in_the_middle_is_not_told_of_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pgdoorman_lib.together.telling.ANSWER_BYTES", 100)
    whole, those = company()
    everything = told(those.wholes[1])
    ask_workers = those.chair._ask_workers

    def ask(kind: str, state: Any, timeout: float | None) -> Any:
        if kind == kinds.MORE:
            those.silent.add(2)
        return ask_workers(kind, state, timeout)

    monkeypatch.setattr(those.chair, "_ask_workers", ask)
    pooler = those.wholes[1].everyone((kinds.POOLS, kinds.STATS))
    assert list(pooler.missing) == [2]
    those.silent.clear()
    assert told(those.wholes[1]) == everything == told(whole)


def test_it_comes_to_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pgdoorman_lib.together.telling.ANSWER_BYTES", 100)
    monkeypatch.setattr("pgdoorman_lib.together.whole.WHOLE_SECONDS", 0.0)
    whole, those = company()
    those.chair.look()
    pooler = those.wholes[1].everyone((kinds.POOLS, kinds.STATS))
    assert pooler.missing == dict.fromkeys((1, 2), "it had told only a part within 0 s")
    assert list(pooler.pools) == []
    monkeypatch.undo()
    assert told(those.wholes[1]) == told(whole)


def test_pools_of_the_dead_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(departed, "MOST_POOLS", 2)
    _, those = company()
    those.chair.look()
    those.chair.gone(1)
    those.chair.gone(2)
    assert len(list(those.chair.departed.rows((kinds.STATS,), ()))) == 2


def test_without_a_supervisor_this_process_tells_of_itself() -> None:
    worker = Worker()
    work([worker], Worker(), random.Random(3))

    def nobody(kind: str, state: Any, timeout: float | None) -> Any:
        raise ChannelClosed("the supervisor has gone")

    pooler = Whole(worker, nobody, 3).everyone((kinds.POOLS, kinds.STATS, kinds.PROCESS))
    assert list(pooler.missing) == [kinds.SUPERVISOR]
    assert [view.number for view in pooler.workers] == [3]
    assert told(worker) == {(pool.settings.database, pool.settings.user): flat(pool.stats) for pool in pooler.pools}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


def test_statsd_counts_each_once_over_deaths(receiver: Receiver) -> None:
    whole, those = company()
    exporter = StatsdExporter(those.exported, Statsd(host="127.0.0.1", port=receiver.port))
    sums = {"transactions": 0, "queries": 0}
    rng = random.Random(10)
    for number in (1, 2, 1, 2):
        exporter.send()
        for name, value in receiver.values().items():
            metric = name.split(".")[-1]
            if metric in sums:
                sums[metric] += int(value.split("|")[0])
        those.restart(number, Worker())
        work(list(those.workers.values()), whole, rng)
        those.chair.look()
    exporter.send()
    values = receiver.values()
    exporter._drop_client()
    for name, value in values.items():
        metric = name.split(".")[-1]
        if metric in sums:
            sums[metric] += int(value.split("|")[0])
    assert sums["transactions"] == sum(pool.stats.xact_count for pool in whole.pools)
    assert sums["queries"] == sum(pool.stats.query_count for pool in whole.pools)
    assert values["pgdoorman.workers.missing"] == "0|g"


@pytest.mark.parametrize("values", [(), (0,), (63, 64), (5, 5, 10**10), tuple(range(0, 5000, 7))])
def test_histograms_as_plain_values(values: tuple[int, ...]) -> None:
    stats = PoolStats()
    for value in values:
        stats.query_hist.add(value)
    again = unpack_histogram(pack_whole(stats.query_hist))
    assert flat_histogram(again) == flat_histogram(stats.query_hist)
    again.add(7)
    assert again.count == len(values) + 1
    coarse = unpack_histogram(pack_stats(stats)[2][0])
    assert (coarse.count, coarse.total, coarse.upto()) == (
        *(stats.query_hist.count, stats.query_hist.total),
        stats.query_hist.upto(),
    )


def flat_histogram(histogram: Any) -> tuple[Any, ...]:
    buckets = None if histogram.buckets is None else bytes(histogram.buckets)
    return histogram.bound, histogram.count, histogram.total, bytes(histogram.within), buckets
