"""The plain integers and fixed-size histograms that the data path adds to.

Rules:
1. Nothing here is ever reset: readers keep their own older copy and subtract (``metrics.averages``), so that two
   readers never spoil each other's window and a monotonic counter is what it says.
2. The data path adds to attributes directly; ``Histogram.add`` is the only method it calls.
3. Times are whole microseconds, sizes are bytes.
"""

from __future__ import annotations

from array import array

_int = int

#: Buckets of a histogram: four in every power of two, so a value is known to 25 % of itself or better; the last one
#: starts at 7.5 * 2^30 µs (2 h 14 min) and takes everything above.
BUCKETS = 128
#: The largest value counted as itself; larger ones (a clock that jumped, a day-long transaction) count as this.
MAX_VALUE = (1 << 33) - 1
# The same number as a C integer, where this module is compiled.
_MAX_VALUE = MAX_VALUE


def bucket_floor(index: _int) -> _int:
    """Return the smallest value (µs) that falls into bucket ``index`` (0 ≤ index ≤ BUCKETS)."""
    if index < 8:
        return index
    return (4 + index % 4) << (index // 4 - 1)


class Histogram:
    """Counts of durations (µs) in log-scale buckets: 1 KiB, whatever is added."""

    __slots__ = ("buckets", "count", "total")

    def __init__(self) -> None:
        self.buckets = array("q", bytes(8 * BUCKETS))
        self.count = 0
        self.total = 0

    def add(self, us: _int) -> None:
        """Count one duration; negative ones (a clock set back) count as 0."""
        if us < 0:
            us = 0
        elif us > _MAX_VALUE:
            us = _MAX_VALUE
        self.count += 1
        self.total += us
        # The three leading bits choose the bucket: the first is the power of two, the next two the quarter of it.
        shift = 0
        while us >> shift > 7:
            shift += 1
        if shift > 0:
            us = (us >> shift) + 4 * shift
        self.buckets[us] += 1

    def copy(self) -> Histogram:
        """Return an independent copy."""
        other = Histogram()
        other.merge(self)
        return other

    def merge(self, other: Histogram) -> None:
        """Add all that ``other`` counted."""
        self.count += other.count
        self.total += other.total
        for index in range(BUCKETS):
            self.buckets[index] += other.buckets[index]

    def since(self, older: Histogram) -> Histogram:
        """Return what was added after ``older``, an earlier copy of this histogram."""
        newer = Histogram()
        newer.count = self.count - older.count
        newer.total = self.total - older.total
        for index in range(BUCKETS):
            newer.buckets[index] = self.buckets[index] - older.buckets[index]
        return newer

    def percentile(self, percent: float) -> _int:
        """Return the duration (µs) that ``percent`` (0..100) of those counted do not exceed.

        0 when nothing was counted. Inside a bucket the values are taken as evenly spread.
        """
        if self.count <= 0:
            return 0
        rank = self.count * percent / 100.0
        below = 0
        top = 0
        for index in range(BUCKETS):
            inside = self.buckets[index]
            if inside <= 0:
                continue
            floor = bucket_floor(index)
            top = bucket_floor(index + 1) - 1
            if below + inside >= rank:
                return floor + round((top - floor) * max(rank - below, 0.0) / inside)
            below += inside
        return top


class PoolStats:
    """Totals of one pool since it was made; times and the three histograms are µs, ``received``/``sent`` are bytes.

    ``received`` is what clients sent, ``sent`` what they were sent (PgBouncer's SHOW STATS). ``asked``: transactions at
    whose end the server was asked what they have left, ``asked_unknown``: those that may have left anything.
    ``assignments``: how often a client was given a server. ``client_parses`` and ``binds`` of named statements that
    clients have sent where they are shared; ``prepare_hit``, ``prepare_miss``: statements that a server had already,
    and had not.
    """

    __slots__ = (
        "asked",
        "asked_unknown",
        "assignments",
        "binds",
        "client_login_count",
        "client_parses",
        "errors",
        "prepare_hit",
        "prepare_miss",
        "query_count",
        "query_hist",
        "query_time",
        "received",
        "sent",
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
        self.asked = 0
        self.asked_unknown = 0
        self.client_login_count = 0
        self.prepare_hit = 0
        self.prepare_miss = 0
        self.assignments = 0
        self.client_parses = 0
        self.binds = 0
        self.query_hist = Histogram()
        self.xact_hist = Histogram()
        self.wait_hist = Histogram()


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
    requests) or ``errors`` (refused, failed or gone before they were any of the others).
    """

    __slots__ = ("cancel", "errors", "plain", "tls", "total")

    def __init__(self) -> None:
        self.total = 0
        self.errors = 0
        self.tls = 0
        self.plain = 0
        self.cancel = 0
