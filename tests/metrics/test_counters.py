"""The histogram's buckets and percentiles, against sorted lists of the same values."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgdoorman_lib.metrics.counters import (
    MAX_SQLSTATES,
    OTHER_SQLSTATES,
    ConnectionStats,
    Histogram,
    LinkStats,
    PoolStats,
    bucket_floor,
)
from pgdoorman_lib.metrics.measures import BOUNDS, BUCKETS, MAX_VALUE

durations = st.integers(0, MAX_VALUE)


def only_bucket(histogram: Histogram) -> int:
    (index,) = [index for index in range(BUCKETS) if histogram.buckets[index]]
    return index


@given(durations)
def test_value_falls_between_its_buckets_bounds(us: int) -> None:
    histogram = Histogram()
    histogram.add(us)
    index = only_bucket(histogram)
    assert bucket_floor(index) <= us < bucket_floor(index + 1)


def test_bounds_rise_and_are_tight() -> None:
    floors = [bucket_floor(index) for index in range(BUCKETS + 1)]
    assert floors == sorted(set(floors))
    assert floors[-1] == MAX_VALUE + 1
    assert all(after - before <= max(1, before / 32) for before, after in itertools.pairwise(floors))


@pytest.mark.parametrize(
    ("us", "index"), [(-5, 0), (0, 0), (1, 1), (63, 63), (64, 64), (MAX_VALUE, BUCKETS - 1), (1 << 60, BUCKETS - 1)]
)
def test_ends_of_the_scale(us: int, index: int) -> None:
    histogram = Histogram()
    histogram.add(us)
    assert only_bucket(histogram) == index
    assert 0 <= histogram.total <= MAX_VALUE


@given(st.lists(durations, min_size=1, max_size=200), st.sampled_from([1.0, 50.0, 90.0, 95.0, 99.0, 100.0]))
def test_percentile_is_in_the_bucket_of_the_exact_one(values: list[int], percent: float) -> None:
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    rank = max(1, -(-len(values) * percent // 100))
    exact = sorted(values)[int(rank) - 1]
    assert abs(histogram.percentile(percent) - exact) <= exact * 0.016


@given(st.lists(durations, max_size=200), st.sampled_from([100, 500, 1000]))
def test_coarse_counts_are_exact(values: list[int], bound: int) -> None:
    histogram = Histogram(bound)
    for value in values:
        histogram.add(value)
    bounds = [bound * 10**place for place in range(BOUNDS)]
    assert histogram.upto() == [sum(value <= limit for value in values) for limit in bounds]


def test_a_value_at_the_bound_is_within_it() -> None:
    histogram = Histogram(500)
    for us in (500, 501, 5_000_000, 5_000_001):
        histogram.add(us)
    assert histogram.upto() == [1, 2, 2, 2, 3]


def test_a_bucket_goes_round_and_differences_stay_right() -> None:
    older, histogram = Histogram(), Histogram()
    for one in (older, histogram):
        one.add(7)
        one.buckets[7] = 0xFFFFFFFF
    for _ in range(3):
        histogram.add(7)
    assert histogram.buckets[7] == 2
    newer = histogram.since(older)
    assert (newer.count, newer.buckets[7], newer.percentile(99)) == (3, 3, 7)


@pytest.mark.parametrize("kind", [PoolStats])
def test_what_rests_takes_no_buckets(kind: type) -> None:
    stats = kind()
    assert stats.query_hist.buckets is None
    assert stats.query_hist.copy().since(stats.query_hist).percentile(99) == 0


def test_percentile_of_nothing_is_zero() -> None:
    assert Histogram().percentile(99) == 0


@given(st.lists(durations, max_size=30), st.lists(durations, max_size=30))
def test_since_undoes_merge(first: list[int], second: list[int]) -> None:
    before, added, both = Histogram(), Histogram(), Histogram()
    for value in first:
        before.add(value)
    for value in second:
        added.add(value)
    both.merge(before)
    both.merge(added)
    assert (both.count, both.total) == (len(first) + len(second), sum(first) + sum(second))
    difference = both.since(before)
    assert list([] if difference.buckets is None else difference.buckets) == list(
        [] if added.buckets is None else added.buckets
    )
    assert difference.upto() == added.upto()
    assert (difference.count, difference.total) == (added.count, added.total)


def test_copy_is_independent() -> None:
    histogram = Histogram()
    histogram.add(10)
    copy = histogram.copy()
    histogram.add(10)
    assert (copy.count, histogram.count) == (1, 2)


@pytest.mark.parametrize("kind", [PoolStats, LinkStats])
def test_stats_start_at_zero_and_take_no_other_attribute(kind: type) -> None:
    stats = kind()
    assert (stats.xact_count, stats.query_count, stats.errors, stats.received, stats.sent) == (0, 0, 0, 0, 0)
    with pytest.raises(AttributeError):
        stats.misspelt = 1


def test_errors_are_counted_by_code_up_to_a_limit() -> None:
    stats = PoolStats()
    for number in range(MAX_SQLSTATES + 5):
        stats.count_error(f"X{number:04}")
    stats.count_error("X0000")
    assert stats.errors == sum(stats.sqlstates.values()) == MAX_SQLSTATES + 6
    assert len(stats.sqlstates) == MAX_SQLSTATES + 1
    assert (stats.sqlstates["X0000"], stats.sqlstates[OTHER_SQLSTATES]) == (2, 5)


def test_refused_connections_are_counted_by_reason() -> None:
    stats = ConnectionStats()
    for reason in ("hba", "hba", "too_many_clients"):
        stats.reject(reason)
    assert stats.rejected == {"hba": 2, "too_many_clients": 1}
