"""The plain integers and fixed-size histograms that the data path adds to.

Rules:
1. Nothing here is ever reset: readers keep their own older copy and subtract (``metrics.averages``), so that two
   readers never spoil each other's window and a monotonic counter is what it says.
2. The data path adds to attributes directly; ``Histogram.add`` is the only method it calls for each query.
3. Times are whole microseconds, sizes are bytes.
"""

from __future__ import annotations

from array import array
from itertools import accumulate
from math import ceil
from typing import Any

from pgdoorman_lib.metrics.measures import BOUNDS, BUCKETS, MAX_VALUE

_int = int

#: The least of those bounds (µs), by what is counted: those of pg_doorman's histograms for Prometheus.
QUERY_BOUND, XACT_BOUND, WAIT_BOUND = 500, 1000, 100
#: SQLSTATEs that are counted each for itself; code can invent as many as it likes (RAISE ... USING ERRCODE).
MAX_SQLSTATES = 100
#: What all further ones are counted under.
OTHER_SQLSTATES = "other"
#: Counts of buckets go round at 2^32, which differences don't notice.
_MASK = 0xFFFFFFFF


def bucket_floor(index: _int) -> _int:
    """Return the smallest value (µs) that falls into bucket ``index`` (0 ≤ index ≤ BUCKETS)."""
    if index < 64:
        return index
    return (32 + index % 32) << (index // 32 - 1)


class Histogram:
    """Counts of durations (µs), of a fixed size: 4 KiB from the first one on.

    ``count`` and ``total`` are of all durations; ``within`` counts exactly how many are at most ``bound``, ten times
    that, and so on, each by the least bound it keeps to; ``buckets``, for percentiles over a time, go round at 2^32.
    """

    __slots__ = ("bound", "buckets", "count", "total", "within")

    def __init__(self, bound: _int = XACT_BOUND) -> None:
        self.bound = bound
        #: None while nothing was counted: most pools of many rest
        self.buckets: Any = None
        self.within = array("q", bytes(8 * (BOUNDS + 1)))
        self.count = 0
        self.total = 0

    def add(self, us: _int) -> None:
        """Count one duration; negative ones (a clock set back) count as 0."""
        if us < 0:
            us = 0
        elif us > MAX_VALUE:
            us = MAX_VALUE
        self.count += 1
        self.total += us
        place = 0
        bound = self.bound
        while place < BOUNDS and us > bound:
            bound *= 10
            place += 1
        self.within[place] += 1
        # The six leading bits choose the bucket: the first is the power of two, the next five the part of it.
        shift = 0
        while us >> shift > 1023:
            shift += 4
        while us >> shift > 63:
            shift += 1
        us = (us >> shift) + 32 * shift
        if self.buckets is None:
            self.buckets = array("I", bytes(4 * BUCKETS))
        self.buckets[us] = (self.buckets[us] + 1) & _MASK

    def copy(self) -> Histogram:
        """Return an independent copy."""
        other = Histogram(self.bound)
        other.count = self.count
        other.total = self.total
        other.within = array("q", bytes(self.within))
        if self.buckets is not None:
            other.buckets = array("I", bytes(self.buckets))
        return other

    def merge(self, other: Histogram) -> None:
        """Add all that ``other``, of the same ``bound``, counted."""
        self.count += other.count
        self.total += other.total
        for place in range(BOUNDS + 1):
            self.within[place] += other.within[place]
        if other.buckets is None:
            return
        if self.buckets is None:
            self.buckets = array("I", bytes(4 * BUCKETS))
        for index in range(BUCKETS):
            self.buckets[index] = (self.buckets[index] + other.buckets[index]) & _MASK

    def since(self, older: Histogram) -> Histogram:
        """Return what was added after ``older``, an earlier copy of this histogram."""
        newer = Histogram(self.bound)
        newer.count = self.count - older.count
        if newer.count == 0:
            return newer
        newer.total = self.total - older.total
        for place in range(BOUNDS + 1):
            newer.within[place] = self.within[place] - older.within[place]
        newer.buckets = array("I", bytes(self.buckets))
        if older.buckets is not None:
            for index in range(BUCKETS):
                newer.buckets[index] = (newer.buckets[index] - older.buckets[index]) & _MASK
        return newer

    def percentile(self, percent: float) -> _int:
        """Return the duration (µs) that ``percent`` (0..100) of those counted do not exceed, within 1.6 %.

        0 when nothing was counted. Only of a histogram over a time (``since``) in which fewer than 2^32 were added.
        """
        if self.count <= 0:
            return 0
        rank = max(1, ceil(self.count * percent / 100.0))
        below = 0
        index = 0
        while index < BUCKETS - 1:
            below += self.buckets[index]
            if below >= rank:
                break
            index += 1
        floor = bucket_floor(index)
        return floor + (bucket_floor(index + 1) - 1 - floor) // 2

    def upto(self) -> list[int]:
        """Return how many were at most ``bound``, ten times that, and so on: BOUNDS numbers, each with those before."""
        return list(accumulate(self.within))[:BOUNDS]


class PoolStats:
    """Totals of one pool since it was made; times and the three histograms are µs, ``received``/``sent`` are bytes.

    ``received`` is what clients sent, ``sent`` what they were sent (PgBouncer's SHOW STATS). ``errors`` are those told
    to clients, ``sqlstates`` the same by code. ``assignments``: how often a client was given a server; ``wait_hist``
    has every borrow, ``wait_count`` those that had to wait. ``open_count``, ``open_failures``: servers that were to be
    opened, and could not be. ``client_parses`` and ``binds`` of named statements that clients have sent where they are
    shared; ``prepare_hit``, ``prepare_miss``: statements that a server had already, and had not. ``asked``:
    transactions at whose end the server was asked what they have left, ``asked_unknown``: those that may have left
    anything.
    """

    __slots__ = (
        "asked",
        "asked_unknown",
        "assignments",
        "binds",
        "client_login_count",
        "client_parses",
        "errors",
        "open_count",
        "open_failures",
        "prepare_hit",
        "prepare_miss",
        "query_count",
        "query_hist",
        "query_time",
        "received",
        "sent",
        "sqlstates",
        "wait_count",
        "wait_hist",
        "wait_time",
        "xact_count",
        "xact_hist",
        "xact_time",
    )

    def __init__(self) -> None:
        self.xact_count = 0
        self.query_count = 0
        self.received = 0
        self.sent = 0
        self.xact_time = 0
        self.query_time = 0
        self.wait_time = 0
        self.errors = 0
        self.client_login_count = 0
        self.prepare_hit = 0
        self.prepare_miss = 0
        self.wait_count = 0
        self.open_count = 0
        self.open_failures = 0
        self.asked = 0
        self.asked_unknown = 0
        self.assignments = 0
        self.client_parses = 0
        self.binds = 0
        self.sqlstates: dict[str, int] = {}
        self.query_hist = Histogram(QUERY_BOUND)
        self.xact_hist = Histogram(XACT_BOUND)
        self.wait_hist = Histogram(WAIT_BOUND)

    def count_error(self, sqlstate: str) -> None:
        """Count an error told to a client."""
        self.errors += 1
        counted = self.sqlstates
        if sqlstate not in counted and len(counted) >= MAX_SQLSTATES:
            sqlstate = OTHER_SQLSTATES
        counted[sqlstate] = counted.get(sqlstate, 0) + 1


class LinkStats:
    """Totals of one connection, a client's or a server's; ``received`` and ``sent`` are bytes from and to that peer."""

    __slots__ = ("errors", "prepare_hit", "prepare_miss", "query_count", "received", "sent", "xact_count")

    def __init__(self) -> None:
        self.xact_count = 0
        self.query_count = 0
        self.errors = 0
        self.received = 0
        self.sent = 0
        self.prepare_hit = 0
        self.prepare_miss = 0


class ConnectionStats:
    """Connections accepted since start, by what they turned out to be (SHOW CONNECTIONS).

    ``total`` counts every accept; each ends as one of ``tls`` or ``plain`` (authenticated sessions), ``cancel`` (cancel
    requests) or ``errors`` (refused, failed or gone before they were any of the others). ``rejected`` has those that
    were refused, by the reason. ``passed_on`` are cancel requests that another pooler has carried out (``peers``),
    ``not_passed_on`` those that it should have.
    """

    __slots__ = ("cancel", "errors", "not_passed_on", "passed_on", "plain", "rejected", "tls", "total")

    def __init__(self) -> None:
        self.total = 0
        self.errors = 0
        self.tls = 0
        self.plain = 0
        self.cancel = 0
        self.passed_on = 0
        self.not_passed_on = 0
        self.rejected: dict[str, int] = {}

    def reject(self, reason: str) -> None:
        """Count one that was refused."""
        self.rejected[reason] = self.rejected.get(reason, 0) + 1


class OpeningStats:
    """How long the steps of opening a server take, over all pools: histograms of µs."""

    __slots__ = ("auth", "startup", "tcp_connect", "tls")

    def __init__(self) -> None:
        self.tcp_connect = Histogram()
        self.tls = Histogram()
        self.auth = Histogram()
        self.startup = Histogram()
