"""The histogram's buckets and percentiles, against sorted lists of the same values."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgdoorman_lib.metrics.counters import BUCKETS, MAX_VALUE, Histogram, LinkStats, PoolStats, bucket_floor

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
    assert all(after - before <= max(1, before / 4) for before, after in itertools.pairwise(floors))


@pytest.mark.parametrize(("us", "index"), [(-5, 0), (0, 0), (1, 1), (MAX_VALUE, 127), (1 << 60, 127)])
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
    assert abs(histogram.percentile(percent) - exact) <= max(1, exact / 4)


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
    assert list(difference.buckets) == list(added.buckets)
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
