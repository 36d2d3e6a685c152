"""What Prometheus is told of pools that have a Patroni cluster to fall back on: names and labels are pg_doorman's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pgdoorman_lib.fallback import FallbackStats, FallbackView
from pgdoorman_lib.metrics.counters import XACT_BOUND
from pgdoorman_lib.metrics.families import PREFIX, bounds_text, head, quoted, write_histogram

_COUNTED = (
    ("patroni_api_requests_total", "api_requests", "Requests to Patroni's API."),
    ("patroni_api_errors_total", "api_errors", "Those without an answer that is one."),
    ("fallback_connections_total", "connections", "Server connections opened at another member."),
    ("fallback_cache_hits_total", "cache_hits", "Those of them opened where the one before was."),
)
_DURATION = "patroni_api_duration_seconds"


def write_fallbacks(fallbacks: Sequence[FallbackView]) -> Iterator[str]:
    """The families about these; nothing where there are none."""
    if not fallbacks:
        return
    named = [(f"pool={quoted(of.database)}", of) for of in fallbacks]
    yield head("fallback_active", "gauge", "1 while servers are opened at another member of the cluster.")
    yield from (f"{PREFIX}fallback_active{{{pool}}} {int(bool(of.members))}\n" for pool, of in named)
    yield head("fallback_host", "gauge", "1, with that member.")
    for pool, of in named:
        for host, port in of.members:
            yield f'{PREFIX}fallback_host{{{pool},host={quoted(host)},port="{port}"}} 1\n'
    for name, counter, doc in _COUNTED:
        yield head(name, "counter", doc)
        place = FallbackStats.NAMES.index(counter)
        yield from (f"{PREFIX}{name}{{{pool}}} {of.counted[place]}\n" for pool, of in named)
    name = "fallback_candidate_failures_total"
    yield head(name, "counter", "Members where none could be opened, by reason.")
    for pool, of in named:
        for reason, number in sorted(of.failures.items()):
            yield f'{PREFIX}{name}{{{pool},reason="{reason}"}} {number}\n'
    yield head(_DURATION, "histogram", "How long Patroni's API takes.")
    lines: list[str] = []
    for pool, of in named:
        write_histogram(lines, _DURATION, bounds_text(XACT_BOUND), pool, of.duration)
    yield from lines
