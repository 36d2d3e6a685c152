"""What Prometheus is told of users who are looked up: names and labels are pg_doorman's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pgdoorman_lib.auth.lookup import LookupStats
from pgdoorman_lib.metrics.families import OLD, family, quoted
from pgdoorman_lib.views import LookupView

#: A family's label and its values, with the counters they are of.
_COUNTED = (
    (
        "auth_query_cache",
        "What became of logins' questions for a user.",
        "type",
        (
            ("hits", "cache_hits"),
            ("misses", "cache_misses"),
            ("refetches", "cache_refetches"),
            ("rate_limited", "cache_rate_limited"),
        ),
    ),
    (
        "auth_query_auth",
        "Logins of users who are not configured.",
        "result",
        (("success", "auth_success"), ("failure", "auth_failure")),
    ),
    (
        "auth_query_executor",
        "Questions to PostgreSQL.",
        "type",
        (("queries", "executor_queries"), ("errors", "executor_errors")),
    ),
)


def write_lookups(lookups: Sequence[LookupView]) -> Iterator[str]:
    """The families about these; nothing where there are none."""
    if not lookups:
        return
    for name, doc, label, values in _COUNTED:
        samples = [
            (f'{label}="{value}",database={quoted(of.database)}', of.counted[LookupStats.NAMES.index(counter)])
            for of in lookups
            for value, counter in values
        ]
        gauges = [(f'{label}="entries",database={quoted(of.database)}', of.entries) for of in lookups]
        yield family(f"{name}_total", "counter", doc, samples)
        more = gauges if name == "auth_query_cache" else []
        yield family(name, "gauge", OLD.format(f"{name}_total") + doc, [*more, *samples])
    pools = [
        (f'type="{what}",database={quoted(of.database)}', number)
        for of in lookups
        for what, number in (("created", of.made), ("destroyed", of.dropped))
    ]
    now = [(f'type="current",database={quoted(of.database)}', len(of.users)) for of in lookups]
    doc = "Pools that users who were found have to themselves."
    yield family("auth_query_dynamic_pools_total", "counter", doc, pools)
    yield family("auth_query_dynamic_pools", "gauge", doc, [*now, *pools])
