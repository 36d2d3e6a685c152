"""The page for Prometheus, written in short pieces: a scrape of a thousand pools holds nobody's query up.

Rules:
1. Families stand together, as the format wants; so all pools are read first, each in one go, and then joined.
2. One page is written at a time, and who asks while it is young shares it.
3. No label is taken from what clients say but for names of pools, and SQLSTATEs, of which there is a limited number.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from operator import attrgetter

import gevent.lock

from pgdoorman_lib.metrics.coordinator import write_coordinators
from pgdoorman_lib.metrics.counters import XACT_BOUND
from pgdoorman_lib.metrics.fallbacks import write_fallbacks
from pgdoorman_lib.metrics.families import (
    OLD,
    POOL_FAMILIES,
    PREFIX,
    bounds_text,
    head,
    labels_of,
    quoted,
    write_histogram,
)
from pgdoorman_lib.metrics.lookups import write_lookups
from pgdoorman_lib.metrics.pacing import Pace
from pgdoorman_lib.metrics.reading import PARTS, pool_readings
from pgdoorman_lib.net.syscalls import clock
from pgdoorman_lib.together import kinds
from pgdoorman_lib.views import RunningPooler

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

#: Seconds for which a page that somebody is still reading is everybody's.
SHARED_FOR = 1.0
#: Seconds between two looks at the process's sockets, which cost more than all the rest.
SOCKETS_EVERY = 15.0
#: Lines joined into one piece of the page: 16 to 32 KB.
LINES_IN_A_PIECE = 250

#: What connections were, as pg_doorman calls it.
CONNECTION_TYPES = ("plain", "tls", "cancel", "total")
#: The steps of opening a server, attributes of OpeningStats.
PHASES = ("tcp_connect", "tls", "auth", "startup")
SOCKET_TYPES = ("tcp", "tcp6", "unix", "unknown")


@dataclass
class Page:
    """A whole page as pieces of text in UTF-8."""

    pieces: list[bytes] = field(default_factory=list)

    def __len__(self) -> int:
        return sum(map(len, self.pieces))


class Exposition:
    """Writes pages about ``pooler``.

    ``sockets`` counts the pooler's sockets by kind and state ("tcp_established"), and may switch; ``reasons`` are
    those that connections may be refused for.
    """

    def __init__(
        self,
        pooler: RunningPooler,
        sockets: Callable[[RunningPooler], Mapping[str, int]],
        reasons: tuple[str, ...],
    ) -> None:
        self._pooler = pooler
        self._sockets = sockets
        self._reasons = reasons
        self._sockets_text = ""
        self._sockets_at = float("-inf")
        self._labels: dict[tuple[str, str], str] = {}
        self._writing = gevent.lock.RLock()
        self._latest: weakref.ref[Page] | None = None
        self._written_at = 0.0

    def page(self) -> Page:
        """Return the page as it is now, or was within SHARED_FOR seconds; may switch."""
        with self._writing:
            page = self._latest() if self._latest is not None else None
            if page is None or clock() - self._written_at >= SHARED_FOR:
                page = Page()
                self._written_at = clock()
                self._write(page.pieces)
                self._latest = weakref.ref(page)
            return page

    def _write(self, pieces: list[bytes]) -> None:
        pace = Pace()
        look_at_sockets = clock() - self._sockets_at >= SOCKETS_EVERY
        pooler = self._pooler.everyone((*PARTS, kinds.SOCKETS) if look_at_sockets else PARTS)
        if look_at_sockets:
            self._count_sockets(pooler)
        pieces.append("".join(self._process(pooler)).encode())
        columns: list[list[str]] = [[family.head] for family in POOL_FAMILIES]
        encrypted: dict[str, int] = {}
        known = self._labels
        self._labels = {}
        for reading in pool_readings(pooler, pace):
            reading.look_closer(pooler)
            key = (reading.database, reading.user)
            labels = self._labels[key] = known.get(key) or labels_of(*key)
            for family, out in zip(POOL_FAMILIES, columns, strict=True):
                family.write(out, labels, reading)
            encrypted[reading.database] = encrypted.get(reading.database, 0) + reading.tls_servers
        columns.append([head("server_tls_connections", "gauge", "Server connections with TLS."), *_by_pool(encrypted)])
        for column in columns:
            for at in range(0, len(column), LINES_IN_A_PIECE):
                pieces.append("".join(column[at : at + LINES_IN_A_PIECE]).encode())
                pace.breathe()
            column.clear()

    # The process.

    def _process(self, pooler: RunningPooler) -> Iterator[str]:
        connections = pooler.connections
        yield head("total_memory", "gauge", "Bytes of the process in memory.")
        yield f"{PREFIX}total_memory {pooler.resident()}\n"
        if pooler.several:
            yield head("workers", "gauge", "Worker processes; what those that are missing do is not told.")
            missing = sum(1 for worker in pooler.workers if worker.missing)
            yield f'{PREFIX}workers{{state="serving"}} {len(pooler.workers) - missing}\n'
            yield f'{PREFIX}workers{{state="missing"}} {missing}\n'
        yield head("build_info", "gauge", "1, with the version.")
        yield f"{PREFIX}build_info{{version={quoted(pooler.build['version'])}}} 1\n"
        yield head("log_level", "gauge", "1, with the level in force.")
        yield f"{PREFIX}log_level{{level={quoted(pooler.log_level)}}} 1\n"
        for name, kind, doc in (
            ("connections_total", "counter", "Connections accepted, by what they were."),
            ("connection_count", "gauge", OLD.format("connections_total") + "The same."),
        ):
            yield head(name, kind, doc)
            for what in CONNECTION_TYPES:
                yield f'{PREFIX}{name}{{type="{what}"}} {getattr(connections, what)}\n'
        yield head("cancel_requests_passed_on_total", "counter", "Cancel requests for clients of other poolers.")
        for result, number in (("done", connections.passed_on), ("failed", connections.not_passed_on)):
            yield f'{PREFIX}cancel_requests_passed_on_total{{result="{result}"}} {number}\n'
        yield head("listener_rejections_total", "counter", "Connections refused.")
        for reason in self._reasons:
            yield f'{PREFIX}listener_rejections_total{{reason="{reason}"}} {connections.rejected.get(reason, 0)}\n'
        name = "backend_create_duration_seconds"
        yield head(name, "histogram", "Steps of opening server connections.")
        lines: list[str] = []
        for phase in PHASES:
            histogram = getattr(pooler.openings, phase)
            write_histogram(lines, name, bounds_text(XACT_BOUND), f'phase="{phase}"', histogram)
        yield from lines
        yield from write_lookups(sorted(pooler.lookups))
        yield from write_fallbacks(sorted(pooler.fallbacks, key=attrgetter("database")))
        yield from write_coordinators(sorted(pooler.coordinators))
        if self._sockets_text:
            yield head("sockets", "gauge", "Sockets of the process.")
            yield self._sockets_text

    def _count_sockets(self, pooler: RunningPooler) -> None:
        self._sockets_at = clock()
        counts = dict.fromkeys(SOCKET_TYPES, 0)
        for name, count in self._sockets(pooler).items():
            counts[name.split("_")[0]] += count
        self._sockets_text = "".join(f'{PREFIX}sockets{{type="{kind}"}} {n}\n' for kind, n in counts.items())


def _by_pool(counts: Mapping[str, int]) -> Iterator[str]:
    for database, count in counts.items():
        yield f"{PREFIX}server_tls_connections{{pool={quoted(database)}}} {count}\n"
