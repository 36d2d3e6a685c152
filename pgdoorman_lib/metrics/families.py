"""What Prometheus is told, as data: names and labels are pg_doorman's, so that its dashboards and alerts go on working.

A family writes its lines of one pool, or of the process, into a list; text format 0.0.4. Gauges marked old are those
that pg_doorman deprecates in favour of counters and histograms, and still serves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter

from pgdoorman_lib.metrics.averages import Latencies
from pgdoorman_lib.metrics.counters import QUERY_BOUND, WAIT_BOUND, XACT_BOUND, Histogram, PoolStats
from pgdoorman_lib.metrics.measures import BOUNDS
from pgdoorman_lib.metrics.reading import PoolReading
from pgdoorman_lib.wire.measures import OVERHEAD as STATEMENT_OVERHEAD

PREFIX = "pg_doorman_"
OLD = "Old, see {}. "

PERCENTILES = (50, 90, 95, 99)
#: What errors are told as: connection exceptions, insufficient resources, operator's intervention, a failed
#: transaction, a statement that is not there.
SQLSTATES = ("08", "53", "57", "25P02", "26000", "other")

Value = Callable[[PoolReading], float]


def quoted(value: str) -> str:
    """``value`` as a label's, in quotes; what is not UTF-8 is written out, so that two never become one."""
    text = value.encode("utf-8", "backslashreplace").decode("utf-8")
    text = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{text}"'


def labels_of(database: str, user: str) -> str:
    """The labels that all samples of a pool have."""
    return f"user={quoted(user)},database={quoted(database)}"


def head(name: str, kind: str, doc: str) -> str:
    """The two lines before a family's samples."""
    return f"# HELP {PREFIX}{name} {doc}\n# TYPE {PREFIX}{name} {kind}\n"


def family(name: str, kind: str, doc: str, samples: Iterable[tuple[str, int]]) -> str:
    """A family of a few samples, each its labels and its value."""
    return head(name, kind, doc) + "".join(f"{PREFIX}{name}{{{labels}}} {value}\n" for labels, value in samples)


class Family:
    """One metric of pools: ``write`` appends the lines of a pool with these ``labels``."""

    def __init__(self, name: str, kind: str, doc: str) -> None:
        self.name = name
        self.kind = kind
        self.head = head(name, kind, doc)

    def write(self, out: list[str], labels: str, reading: PoolReading) -> None:
        raise NotImplementedError


class Values(Family):
    """A gauge or counter; ``samples`` are pairs of a label of its own, may be empty, and where the value comes from."""

    def __init__(self, name: str, kind: str, doc: str, *samples: tuple[str, Value]) -> None:
        super().__init__(name, kind, doc)
        self._samples = [
            (f"{PREFIX}{name}{{{label},", value) if label else (f"{PREFIX}{name}{{", value) for label, value in samples
        ]

    def write(self, out: list[str], labels: str, reading: PoolReading) -> None:
        for begin, value in self._samples:
            out.append(f"{begin}{labels}}} {value(reading)}\n")


class Errors(Family):
    """A counter with the SQLSTATE as a label, as pg_doorman has it: classes, two codes, and all others together."""

    def write(self, out: list[str], labels: str, reading: PoolReading) -> None:
        counts = dict.fromkeys(SQLSTATES, 0)
        for sqlstate, count in reading.pool.stats.sqlstates.items():
            label = sqlstate if sqlstate in counts else sqlstate[:2]
            counts[label if label in counts else "other"] += count
        for label, count in counts.items():
            out.append(f'{PREFIX}{self.name}{{sqlstate="{label}",{labels}}} {count}\n')


class ErrorsByCode(Family):
    """The same with every SQLSTATE there was."""

    def write(self, out: list[str], labels: str, reading: PoolReading) -> None:
        for sqlstate, count in reading.pool.stats.sqlstates.items():
            out.append(f'{PREFIX}{self.name}{{sqlstate="{sqlstate}",{labels}}} {count}\n')


class Users(Family):
    """One for each user that is configured, with its mode."""

    def write(self, out: list[str], labels: str, reading: PoolReading) -> None:
        out.append(f'{PREFIX}{self.name}{{pool_mode="{reading.pool.settings.pool_mode}",{labels}}} 1\n')


class Percentiles(Family):
    """Percentiles of the last complete period and the running one, ms."""

    def __init__(self, name: str, doc: str, histogram: Callable[[Latencies], Histogram]) -> None:
        super().__init__(name, "gauge", doc)
        self._histogram = histogram

    def write(self, out: list[str], labels: str, reading: PoolReading) -> None:
        assert reading.latencies is not None
        histogram = self._histogram(reading.latencies)
        for percent in PERCENTILES:
            value = histogram.percentile(percent) / 1000
            out.append(f'{PREFIX}{self.name}{{percentile="{percent}",{labels}}} {value}\n')


def bounds_text(bound: int) -> list[str]:
    """The upper bounds (seconds) of a histogram with this ``bound``, as labels have them."""
    return [f"{bound * 10**place / 1e6:g}" for place in range(BOUNDS)]


def write_histogram(out: list[str], name: str, bounds: Sequence[str], labels: str, histogram: Histogram) -> None:
    """The lines of a histogram (µs) in seconds."""
    count = histogram.count
    for bound, within in zip(bounds, histogram.upto(), strict=True):
        out.append(f'{PREFIX}{name}_bucket{{{labels},le="{bound}"}} {within}\n')
    out.append(f'{PREFIX}{name}_bucket{{{labels},le="+Inf"}} {count}\n')
    out.append(f"{PREFIX}{name}_sum{{{labels}}} {histogram.total / 1e6}\n")
    out.append(f"{PREFIX}{name}_count{{{labels}}} {count}\n")


class Durations(Family):
    """A histogram."""

    def __init__(self, name: str, doc: str, bound: int, histogram: Callable[[PoolStats], Histogram]) -> None:
        super().__init__(name, "histogram", doc)
        self._bounds = bounds_text(bound)
        self._histogram = histogram

    def write(self, out: list[str], labels: str, reading: PoolReading) -> None:
        write_histogram(out, self.name, self._bounds, labels, self._histogram(reading.pool.stats))


def _counted(name: str) -> Value:
    return attrgetter(f"pool.stats.{name}")


def _of(name: str) -> Value:
    return attrgetter(name)


def _held(reading: PoolReading) -> float:
    return reading.named + reading.unnamed


_DIRECTIONS = (
    ('direction="received"', _counted("received")),
    ('direction="sent"', _counted("sent")),
)


POOL_FAMILIES: tuple[Family, ...] = (
    Values(
        "pools_clients",
        "gauge",
        "Clients by what they do.",
        ('status="idle"', _of("clients_idle")),
        ('status="waiting"', _of("clients_waiting")),
        ('status="active"', _of("clients_active")),
    ),
    Values(
        "pools_servers",
        "gauge",
        "Server connections by what they do.",
        ('status="active"', _of("pool.borrowed_count")),
        ('status="idle"', _of("pool.idle_count")),
    ),
    Values("pool_size", "gauge", "Server connections a pool may have.", ("", _of("pool.settings.pool_size"))),
    Values(
        "pool_scaling",
        "gauge",
        "Server connections being opened.",
        ('type="inflight_creates"', _of("pool.opening_count")),
    ),
    Values(
        "pool_scaling_total",
        "counter",
        "Server connections that were to be opened.",
        ('type="creates_started"', _counted("open_count")),
    ),
    Values(
        "pools_opening_failures_total",
        "counter",
        "Server connections that could not be opened.",
        ("", _counted("open_failures")),
    ),
    Values("pools_paused", "gauge", "1 for a pool that is paused.", ("", lambda reading: int(reading.pool.paused))),
    Values(
        "pools_maxwait_microseconds",
        "gauge",
        "How long the first in the queue has waited for a server.",
        ("", _of("max_wait")),
    ),
    Values(
        "pools_oldest_active_age_ms",
        "gauge",
        "How long the longest-lent server has been lent.",
        ("", _of("oldest_active_ms")),
    ),
    Values("pools_avg_wait_time", "gauge", "Mean wait for a server a transaction, ms.", ("", _of("wait_ms"))),
    Values("pools_queries_total", "counter", "Queries.", ("", _counted("query_count"))),
    Values("pools_transactions_total", "counter", "Transactions.", ("", _counted("xact_count"))),
    Values("pools_bytes_total", "counter", "Bytes from and to clients.", *_DIRECTIONS),
    Errors("pools_errors_total", "counter", "Errors told to clients, by class."),
    ErrorsByCode("pools_errors_by_code_total", "counter", "Errors told to clients, by SQLSTATE."),
    Values("pools_logins_total", "counter", "Clients that logged in.", ("", _counted("client_login_count"))),
    Values(
        "servers_prepared_hits_total",
        "counter",
        "Times that a server had the statement already.",
        ("", _counted("prepare_hit")),
    ),
    Values(
        "servers_prepared_misses_total",
        "counter",
        "Times that a statement had to be prepared on a server.",
        ("", _counted("prepare_miss")),
    ),
    Durations(
        "pools_query_duration_seconds",
        "Time of a query.",
        QUERY_BOUND,
        attrgetter("query_hist"),
    ),
    Durations("pools_transaction_duration_seconds", "Time of a transaction.", XACT_BOUND, attrgetter("xact_hist")),
    Durations(
        "pools_wait_duration_seconds", "Wait for a server, of all who got one.", WAIT_BOUND, attrgetter("wait_hist")
    ),
    Values(
        "pool_prepared_cache_entries",
        "gauge",
        "Statements a pool remembers.",
        ("", lambda reading: len(reading.pool.registry.known)),
    ),
    Values("pool_prepared_cache_bytes", "gauge", "Bytes of their texts.", ("", _of("pool.registry.bytes"))),
    Values("clients_prepared_cache_entries", "gauge", "Statements that clients hold.", ("", _held)),
    Values("clients_prepared_named_entries", "gauge", "Those of them with a name.", ("", _of("named"))),
    Values("clients_prepared_anonymous_entries", "gauge", "Those without.", ("", _of("unnamed"))),
    Values(
        "clients_prepared_cache_bytes",
        "gauge",
        "Bytes they take beside the texts, which are the pool's.",
        ("", lambda reading: _held(reading) * STATEMENT_OVERHEAD),
    ),
    Users("users_configured", "gauge", "1 for each user."),
    # What pg_doorman deprecates.
    Values(
        "pools_queries_count", "gauge", OLD.format("pools_queries_total") + "Queries.", ("", _counted("query_count"))
    ),
    Values(
        "pools_transactions_count",
        "gauge",
        OLD.format("pools_transactions_total") + "Transactions.",
        ("", _counted("xact_count")),
    ),
    Values(
        "pools_queries_total_time",
        "gauge",
        OLD.format("pools_query_duration_seconds") + "Time of all queries, ms.",
        ("", lambda reading: reading.pool.stats.query_time / 1000),
    ),
    Values(
        "pools_transactions_total_time",
        "gauge",
        OLD.format("pools_transaction_duration_seconds") + "Time of all transactions, ms.",
        ("", lambda reading: reading.pool.stats.xact_time / 1000),
    ),
    Values("pools_bytes", "gauge", OLD.format("pools_bytes_total") + "Bytes from and to clients.", *_DIRECTIONS),
    Percentiles(
        "pools_queries_percentile",
        OLD.format("pools_query_duration_seconds") + "Time of a query, ms.",
        attrgetter("query"),
    ),
    Percentiles(
        "pools_transactions_percentile",
        OLD.format("pools_transaction_duration_seconds") + "Time of a transaction, ms.",
        attrgetter("xact"),
    ),
    Values(
        "servers_prepared_hits",
        "gauge",
        OLD.format("servers_prepared_hits_total") + "The same, of servers there are now.",
        ("", _of("prepare_hits")),
    ),
    Values(
        "servers_prepared_misses",
        "gauge",
        OLD.format("servers_prepared_misses_total") + "The same, of servers there are now.",
        ("", _of("prepare_misses")),
    ),
)
