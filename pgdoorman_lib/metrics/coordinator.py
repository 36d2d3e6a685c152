"""What Prometheus is told of databases with a limit of servers: names and labels are pg_doorman's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pgdoorman_lib.metrics.families import family, quoted
from pgdoorman_lib.pool.terms import CoordinatorView

#: Values of the label ``type``, with the fields they are of.
_GAUGES = (
    ("connections", "current"),
    ("reserve_in_use", "reserve_used"),
    ("max_connections", "max_db_connections"),
    ("reserve_pool_size", "reserve_pool_size"),
)
_COUNTERS = (
    ("evictions", "evictions"),
    ("reserve_acquisitions", "reserve_acquisitions"),
    ("exhaustions", "exhaustions"),
)


def write_coordinators(coordinators: Sequence[CoordinatorView]) -> Iterator[str]:
    """The families about these; nothing where there are none."""
    if not coordinators:
        return
    for name, kind, doc, values in (
        ("pool_coordinator", "gauge", "Servers of a database with max_db_connections, and its limits.", _GAUGES),
        ("pool_coordinator_total", "counter", "What has happened at those limits.", _COUNTERS),
    ):
        samples = [
            (f'type="{value}",database={quoted(of.database)}', getattr(of, field))
            for of in coordinators
            for value, field in values
        ]
        yield family(name, kind, doc, samples)
