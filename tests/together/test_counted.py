"""Nothing that a process counts is left out of what is told of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from pgdoorman_lib.metrics.counters import ConnectionStats, Histogram, LinkStats, OpeningStats, PoolStats
from pgdoorman_lib.together.counted import ProcessCounts, pack_counts, pack_link, pack_stats, unpack_link, unpack_stats


def values(counted: Any) -> Mapping[str, Any]:
    """All that an object of counters has, with histograms as numbers."""
    names = [name for name in dir(counted) if not name.startswith("_") and not callable(getattr(counted, name))]
    found = {name: getattr(counted, name) for name in names}
    return {name: one.count if isinstance(one, Histogram) else one for name, one in found.items()}


def filled(counted: Any) -> Any:
    """Each of an object's counters with a number of its own."""
    for number, (name, value) in enumerate(values(counted).items(), 1):
        if isinstance(value, dict):
            value["one"] = number
        elif isinstance(histogram := getattr(counted, name), Histogram):
            for _ in range(number):
                histogram.add(1)
        else:
            setattr(counted, name, number)
    return counted


@pytest.mark.parametrize(
    ("made", "pack", "unpack"), [(PoolStats, pack_stats, unpack_stats), (LinkStats, pack_link, unpack_link)]
)
def test_of_a_pool_and_of_a_connection(made: Any, pack: Any, unpack: Any) -> None:
    stats = filled(made())
    assert values(unpack(pack(stats))) == values(stats)


def test_of_a_process() -> None:
    connections, openings, consoles = filled(ConnectionStats()), filled(OpeningStats()), filled(PoolStats())
    counts = ProcessCounts()
    counts.add(pack_counts(connections, openings, consoles))
    assert values(counts.connections) == values(connections)
    assert values(counts.openings) == values(openings)
    assert values(counts.consoles) == values(consoles)
