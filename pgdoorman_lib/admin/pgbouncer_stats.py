"""PgBouncer's tables of statistics: totals since the start, averages of the last period, by database and over all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from pgdoorman_lib.admin.rows import NUMERIC, columns
from pgdoorman_lib.admin.tables import Row
from pgdoorman_lib.metrics.averages import PoolAverages
from pgdoorman_lib.metrics.counters import PoolStats
from pgdoorman_lib.views import RunningPooler, sorted_pools

#: What is counted, in PgBouncer's order, as SHOW TOTALS calls it.
_NAMES = (
    *("server_assignment_count", "xact_count", "query_count", "client_bytes", "server_bytes", "xact_time"),
    *("query_time", "wait_time", "ps_client_parse_count", "ps_server_parse_count", "ps_bind_count"),
    "client_login_count",
)
_COUNTED = "server_assignment_count xact_count query_count"
_TIMES = "xact_time query_time wait_time"
_PREPARED = "client_parse_count server_parse_count bind_count"

TOTALS = columns("database") + columns(
    f"{_COUNTED} bytes_received bytes_sent {_TIMES} {_PREPARED} client_login_count", NUMERIC
)
# The names of three of them are PgBouncer's slip, which tools have got used to.
AVERAGES = columns("database") + columns(
    f"{_COUNTED} bytes_received bytes_sent {_TIMES} avg_client_parse_count avg_server_parse_count avg_bind_count"
    " client_login_count",
    NUMERIC,
)


def _prefixed(prefix: str, received: str) -> str:
    names = f"{_COUNTED} {received} sent {_TIMES} {_PREPARED} client_login_count".split()
    return " ".join(f"{prefix}_{name}" for name in names)


STATS = (
    columns("database") + columns(_prefixed("total", "received"), NUMERIC) + columns(_prefixed("avg", "recv"), NUMERIC)
)

_Numbers = Sequence[int]


def _totals_of(counted: Sequence[PoolStats]) -> _Numbers:
    """The totals over all of ``counted``, in the order of _NAMES."""
    return (
        sum(one.assignments for one in counted),
        sum(one.xact_count for one in counted),
        sum(one.query_count for one in counted),
        sum(one.received for one in counted),
        sum(one.sent for one in counted),
        sum(one.xact_time for one in counted),
        sum(one.query_time for one in counted),
        sum(one.wait_time for one in counted),
        sum(one.client_parses for one in counted),
        sum(one.prepare_miss for one in counted),
        sum(one.binds for one in counted),
        sum(one.client_login_count for one in counted),
    )


def _averages_of(found: Sequence[PoolAverages]) -> _Numbers:
    """The same of averages: rates add up, mean times are weighted by what they are the mean of."""
    return (
        sum(one.assignments_per_second for one in found),
        sum(one.xacts_per_second for one in found),
        sum(one.queries_per_second for one in found),
        sum(one.received_per_second for one in found),
        sum(one.sent_per_second for one in found),
        _mean((one.xact_time, one.xacts_per_second) for one in found),
        _mean((one.query_time, one.queries_per_second) for one in found),
        _mean((one.wait_time, one.xacts_per_second) for one in found),
        sum(one.client_parses_per_second for one in found),
        sum(one.server_parses_per_second for one in found),
        sum(one.binds_per_second for one in found),
        sum(one.logins_per_second for one in found),
    )


def _mean(weighted: Iterable[tuple[int, int]]) -> int:
    """The mean of (mean, rate) pairs; one that has a mean counts, however low its rate."""
    total = weight = 0
    for mean, rate in weighted:
        share = max(rate, 1) if mean else rate
        total += mean * share
        weight += share
    return total // weight if weight else 0


def _counted(pooler: RunningPooler) -> Iterator[tuple[str, list[PoolStats]]]:
    """What is counted of each database, the console's among them, by name."""
    counted = [(str(pool.settings.database), pool.stats) for pool in sorted_pools(pooler)]
    counted.append(("pgbouncer", pooler.consoles.stats))
    counted.sort(key=lambda found: found[0])
    for database, found in groupby(counted, lambda found: found[0]):
        yield database, [stats for _, stats in found]


def _averages_by(pooler: RunningPooler, counted: Sequence[PoolStats]) -> _Numbers:
    return _averages_of([pooler.averages.of(stats) for stats in counted])


def stats(pooler: RunningPooler) -> list[Row]:
    """SHOW STATS."""
    return [(database, *_totals_of(counted), *_averages_by(pooler, counted)) for database, counted in _counted(pooler)]


def totals(pooler: RunningPooler) -> list[Row]:
    """SHOW STATS_TOTALS."""
    return [(database, *_totals_of(counted)) for database, counted in _counted(pooler)]


def averages(pooler: RunningPooler) -> list[Row]:
    """SHOW STATS_AVERAGES."""
    return [(database, *_averages_by(pooler, counted)) for database, counted in _counted(pooler)]


def all_totals(pooler: RunningPooler) -> list[Row]:
    """SHOW TOTALS."""
    counted = [stats for _, found in _counted(pooler) for stats in found]
    rows: list[Row] = []
    for prefix, numbers in (("total", _totals_of(counted)), ("avg", _averages_by(pooler, counted))):
        rows += [(f"{prefix}_{name}", number) for name, number in zip(_NAMES, numbers, strict=True)]
    return rows
