"""Sending metrics to a statsd server: one greenlet, a round each interval, nothing on the data's way.

Rules:
1. Counters and timings are what came since the last round that arrived as far as can be known: the socket is connected,
   so that a port nobody listens on is told by the kernel, and that round's counts are sent again with the next.
2. The client is made in the greenlet: who it sends to may not be found when the pooler starts, or move later.
3. Whatever fails is logged once, and again when it is over; the pools never notice.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field

import gevent
import gevent.event
import gevent.lock
from statsd.client.udp import Pipeline, StatsClient

from pgdoorman_lib.config.metrics import Statsd
from pgdoorman_lib.metrics.counters import Histogram, PoolStats
from pgdoorman_lib.metrics.naming import PoolNames
from pgdoorman_lib.metrics.pacing import Pace
from pgdoorman_lib.metrics.reading import PoolReading, pool_readings
from pgdoorman_lib.net.syscalls import clock
from pgdoorman_lib.together import kinds
from pgdoorman_lib.views import PoolView, RunningPooler

log = logging.getLogger(__name__)

#: Bytes of a packet: what fits into Ethernet's 1500 behind the headers of IPv6 and UDP, and a tunnel's.
MAX_PACKET = 1432
#: Seconds after which the server's name is resolved again.
RESOLVE_EVERY = 300.0
#: Packets in a row before a pause, seconds: a receiver's buffer holds some 90 of them (Linux' rmem_default), and what
#: finds no room there is lost without a word.
PACKETS_IN_A_ROW = 16
PAUSE = 0.01
#: Lines that are collected before they go out as packets.
LINES_AT_ONCE = 200
#: Seconds for the last round.
STOP_LIMIT = 2.0

PERCENTILES = (50, 95, 99)

#: (metric, attribute of PoolStats)
COUNTERS = (
    ("transactions", "xact_count"),
    ("queries", "query_count"),
    ("bytes.received", "received"),
    ("bytes.sent", "sent"),
    ("logins", "client_login_count"),
    ("waits", "wait_count"),
    ("openings", "open_count"),
    ("opening_failures", "open_failures"),
)
TIMINGS = (("query", "query_hist"), ("transaction", "xact_hist"), ("wait", "wait_hist"))
#: What connections may have been, attributes of ConnectionStats.
CONNECTIONS = ("total", "tls", "plain", "cancel", "errors", "passed_on", "not_passed_on")

#: What is looked at of the whole pooler.
_PARTS = (kinds.POOLS, kinds.COUNTS, kinds.STATS, kinds.BUCKETS, kinds.PROCESS)

_Counts = dict[tuple[str, str], int]


class _Lines(Pipeline):  # type: ignore[misc]
    """Collects lines; ``suffix`` is written behind the next ones."""

    suffix = ""

    def _prepare(self, stat: str, value: str, rate: float) -> str:
        return str(super()._prepare(stat, value, rate)) + self.suffix

    def __len__(self) -> int:
        return len(self._stats)


class _Client(StatsClient):  # type: ignore[misc]
    """The package's client on a connected socket, which tells failures as OSError instead of passing over them."""

    def __init__(self, host: str, port: int, prefix: str) -> None:
        """Resolve ``host``; OSError (gaierror) when it has no address. May switch."""
        try:
            super().__init__(host, port, prefix=prefix, maxudpsize=MAX_PACKET)
        except socket.gaierror:
            super().__init__(host, port, prefix=prefix, maxudpsize=MAX_PACKET, ipv6=True)
        self._packets = 0
        try:
            self._sock.connect(self._addr)
        except OSError:
            self.close()
            raise

    def _send(self, data: str) -> None:
        self._sock.send(data.encode("ascii"))
        self._packets += 1
        if self._packets % PACKETS_IN_A_ROW == 0:
            gevent.sleep(PAUSE)

    def check(self) -> None:
        """OSError if something sent before has not arrived."""
        code = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code))

    def pipeline(self) -> _Lines:
        return _Lines(self)


@dataclass(slots=True)
class _Mark:
    """Where counts stood."""

    counts: _Counts = field(default_factory=dict)
    histograms: tuple[Histogram, ...] = ()


@dataclass(slots=True)
class _Book:
    """What was sent of one thing that counts: up to ``base`` it has arrived, up to ``sent`` that is not known yet."""

    base: _Mark
    sent: _Mark | None = None

    def settle(self, arrived: bool) -> None:
        """The last round has arrived, or has not."""
        if arrived and self.sent is not None:
            self.base = self.sent
        self.sent = None

    def added(self, counts: _Counts) -> Iterator[tuple[str, str, int]]:
        """What ``counts`` has more than ``base``: (metric, SQLSTATE, number)."""
        for (metric, part), number in counts.items():
            more = number - self.base.counts.get((metric, part), 0)
            if more > 0:
                yield metric, part, more


@dataclass(slots=True)
class _PoolBook(_Book):
    """Of a pool: what it counts in, and the names it has."""

    stats: PoolStats = field(default_factory=PoolStats)
    names: PoolNames = field(default_factory=lambda: PoolNames("none", "", ""))


class StatsdExporter:
    """Sends what ``pooler`` counts as ``settings`` say, from ``start`` to ``stop``."""

    def __init__(self, pooler: RunningPooler, settings: Statsd) -> None:
        self._pooler = pooler
        self._settings = settings
        self._client: _Client | None = None
        self._resolve_at = 0.0
        self._process = _Book(_Mark(_process_counts(pooler)))
        #: by the id of their PoolStats, which each holds
        self._pools: dict[int, _PoolBook] = {}
        self._failure = ""
        self._greenlet: gevent.Greenlet[..., None] | None = None
        self._stopping = gevent.event.Event()
        self._changing = gevent.lock.RLock()

    def start(self) -> None:
        """Begin with what is counted from now on; nothing happens without a host. May switch."""
        if self._settings.host is None or self._greenlet is not None:
            return
        pooler = self._pooler.everyone(_PARTS)
        self._process = _Book(_Mark(_process_counts(pooler)))
        self._pools = {id(pool.stats): self._book_of(pool, _mark_of(pool.stats)) for pool in pooler.pools}
        self._stopping.clear()
        self._greenlet = gevent.spawn(self._run)

    def stop(self) -> None:
        """Send what is left, unless the last round has failed, and end; may switch."""
        with self._changing:
            if self._greenlet is None:
                return
            self._stopping.set()
            self._greenlet.join(STOP_LIMIT)
            self._greenlet.kill()
            self._greenlet = None
            self._drop_client()

    def use(self, settings: Statsd) -> None:
        """Go by other settings from now on; may switch."""
        with self._changing:
            if settings != self._settings:
                self.stop()
                self._settings = settings
                self._failure = ""
                self.start()

    def _run(self) -> None:
        due = clock() + self._settings.interval
        while not self._stopping.wait(max(0.0, due - clock())):
            due = max(due + self._settings.interval, clock())
            try:
                self.send()
            except Exception:  # a fault of ours: the next round may do better, and tells the same
                log.exception("statsd: a round has failed")
        if not self._failure:  # else it would only fail again, and take its time
            self.send()

    def send(self) -> None:
        """Send one round; may switch. What fails is logged, and its counts are sent again by the next."""
        try:
            client = self._connected()
            self._settle(client)
            lines = client.pipeline()
            pooler = self._pooler.everyone(_PARTS)
            self._tell_process(lines, pooler)
            pace = Pace()
            seen = set()
            for reading in pool_readings(pooler, pace):
                seen.add(id(reading.pool.stats))
                self._tell_pool(lines, reading, pooler.now())
                if len(lines) >= LINES_AT_ONCE:
                    lines.send()
            for gone in self._pools.keys() - seen:
                self._tell_rest(lines, gone)
            lines.send()
        except OSError as exc:
            self._settle(None)
            if exc.errno != errno.ECONNREFUSED:
                self._drop_client()
            self._say(f"{exc.strerror or exc}")
            return

    def _say(self, failure: str) -> None:
        """Log a failure that is another than the last."""
        if failure != self._failure:
            where = f"{self._settings.host}:{self._settings.port}"
            log.warning("statsd: can't send to %s: %s; counts are kept until that can be done", where, failure)
            self._failure = failure

    # The other side.

    def _connected(self) -> _Client:
        """The client, made anew from time to time; OSError when there is none. May switch."""
        settings = self._settings
        assert settings.host is not None, "without a host nothing runs"
        now = clock()
        if self._client is None or now >= self._resolve_at:
            try:
                fresh = _Client(settings.host, settings.port, settings.prefix)
            except OSError as exc:
                if self._client is None:
                    raise
                log.debug("statsd: %s is not found any more: %s", settings.host, exc)
                fresh = self._client
            if fresh is not self._client:
                if self._client is not None:
                    self._settle(self._client)
                self._drop_client()
                self._client = fresh
            self._resolve_at = now + RESOLVE_EVERY
        assert self._client is not None
        return self._client

    def _drop_client(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    def _settle(self, client: _Client | None) -> None:
        """Find out by ``client`` whether the last round has arrived; without it, it has not."""
        arrived = False
        if client is not None:
            try:
                client.check()
                arrived = True
                if self._failure and self._process.sent is not None:
                    log.info("statsd: sending to %s:%d again", self._settings.host, self._settings.port)
                    self._failure = ""
            except OSError as exc:
                self._say(f"{exc.strerror or exc}")
        for book in (self._process, *self._pools.values()):
            book.settle(arrived)

    # What is told.

    def _tell_process(self, lines: _Lines, pooler: RunningPooler) -> None:
        counts = _process_counts(pooler)
        lines.suffix = ""
        for metric, _, more in self._process.added(counts):
            lines.incr(metric, more)
        self._process.sent = _Mark(counts)
        lines.gauge("memory_bytes", pooler.resident())
        if pooler.several:
            lines.gauge("workers.missing", sum(1 for worker in pooler.workers if worker.missing))

    def _book_of(self, pool: PoolView, base: _Mark) -> _PoolBook:
        """A book for a pool, of which is told what it counts beyond ``base``."""
        names = PoolNames(self._settings.tag_style, pool.settings.database, pool.settings.user)
        return _PoolBook(base, None, pool.stats, names)

    def _tell_pool(self, lines: _Lines, reading: PoolReading, now: float) -> None:
        pool, stats = reading.pool, reading.pool.stats
        book = self._pools.get(id(stats))
        if book is None:
            book = self._pools[id(stats)] = self._book_of(pool, _Mark())
        for metric, value in (
            ("clients.idle", reading.clients_idle),
            ("clients.active", reading.clients_active),
            ("clients.waiting", reading.clients_waiting),
            ("servers.idle", pool.idle_count),
            ("servers.active", pool.borrowed_count),
            ("servers.opening", pool.opening_count),
            ("pool_size", pool.settings.pool_size),
            ("maxwait_ms", round(pool.max_wait(now) * 1000)),
        ):
            name, lines.suffix = book.names.of(metric)
            lines.gauge(name, value)
        _tell_counts(lines, book)

    def _tell_rest(self, lines: _Lines, key: int) -> None:
        """What a pool that was replaced or removed has counted at last; when that was all, it is forgotten."""
        if not _tell_counts(lines, self._pools[key]):
            del self._pools[key]


def _process_counts(pooler: RunningPooler) -> _Counts:
    connections = pooler.connections
    counts = {(f"connections.{kind}", ""): getattr(connections, kind) for kind in CONNECTIONS}
    counts.update({(f"rejected.{reason}", ""): number for reason, number in connections.rejected.items()})
    return counts


def _counts(stats: PoolStats) -> _Counts:
    counts = {(metric, ""): getattr(stats, attribute) for metric, attribute in COUNTERS}
    counts.update({("errors", sqlstate): number for sqlstate, number in stats.sqlstates.items()})
    return counts


def _copies(stats: PoolStats) -> tuple[Histogram, ...]:
    return tuple(getattr(stats, attribute).copy() for _, attribute in TIMINGS)


def _mark_of(stats: PoolStats) -> _Mark:
    return _Mark(_counts(stats), _copies(stats))


def _tell_counts(lines: _Lines, book: _PoolBook) -> bool:
    """Counters and timings since ``book.base``; whether there were any."""
    stats = book.stats
    counts = _counts(stats)
    if counts == book.base.counts:
        return False
    told = False
    for metric, sqlstate, more in book.added(counts):
        name, lines.suffix = book.names.of(metric, sqlstate)
        lines.incr(name, more)
        told = True
    histograms = _copies(stats)
    before = book.base.histograms or tuple(Histogram(histogram.bound) for histogram in histograms)
    for (metric, _), now, base in zip(TIMINGS, histograms, before, strict=True):
        added = now.since(base)
        if added.count > 0:
            for percent in PERCENTILES:
                name, lines.suffix = book.names.of(f"{metric}.p{percent}")
                lines.timing(name, added.percentile(percent) / 1000)
    book.sent = _Mark(counts, histograms)
    return told
