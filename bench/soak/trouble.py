"""What is done to the pooler and its PostgreSQL meanwhile, and when: a loss in such a moment has its reason."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence

import psycopg
from throwaway_postgres import ThrowawayPostgres

from bench.soak.ground import MIX, TIGHT, Pooler, PoolerFailed
from bench.soak.watch import Watch, console

#: A loss is told so many seconds behind its reason at most.
GRACE = 3.0

TABLES = ("POOLS", "CLIENTS", "SERVERS", "STATS", "LISTS", "DATABASES", "CONFIG")

#: Seconds in which a new process of an upgrade begins to serve, and clients and servers go to it.
HANDING_OVER = 1.5
#: What the log says when nothing came of an upgrade, as when a new worker has ended before it was ready.
FAILED_START = "upgrade failed, this process goes on"

#: Weights, by what may be done: always, in a storm only (where processes come and go), and with several workers only.
ALWAYS = {"reload": 4, "terminate": 6, "look": 4, "strangers": 4, "reconnect": 1, "pause": 1, "restart": 1}
STORM = {"upgrade": 4}
WORKERS = {"kill_worker": 5, "kill_in_upgrade": 3}
ALL = ALWAYS | STORM | WORKERS

CANCEL_REQUEST, SSL_REQUEST, PROTOCOL_3 = 80877102, 80877103, 196608


class Trouble:
    """``step`` does one thing. ``excuses`` are the times when connections may be lost by it, ``wrong`` what failed."""

    def __init__(
        self, pooler: Pooler, postgres: ThrowawayPostgres, watch: Watch, seed: int, without: Collection[str] = ()
    ) -> None:
        self.pooler = pooler
        self.postgres = postgres
        self.watch = watch
        self.random = random.Random(seed)
        self.without = set(without)
        self.done: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.excuses: list[tuple[float, float, str]] = []
        #: seconds each upgrade took until the process before had ended
        self.upgrades: list[float] = []

    def step(self, storm: bool) -> None:
        able = ALWAYS | (STORM if storm else {}) | (WORKERS if storm and self.pooler.workers > 1 else {})
        able = {name: weight for name, weight in able.items() if name not in self.without}
        name = self.random.choices(list(able), list(able.values()))[0]
        action: Callable[[], None] = getattr(self, name)
        began = time.monotonic()
        try:
            action()
            self.done[name] += 1
        except PoolerFailed as problem:
            self.wrong.append(f"{name}: {problem}")
        except psycopg.Error as problem:
            # The console's, or PostgreSQL's own for the one who looks on.
            self.wrong.append(f"{name}, {time.monotonic() - began:.1f} s: {type(problem).__name__} {problem}")

    def excused(self, began: float, ended: float) -> str:
        """What was going on at some time between the two, or nothing."""
        for first, last, what in self.excuses:
            if first <= ended and began <= last + GRACE:
                return what
        return ""

    # -- what may lose somebody a connection

    def terminate(self) -> None:
        database = self.random.choice((MIX, TIGHT))
        with self.watch.connect() as connection:
            rows = connection.execute(
                "SELECT pid FROM pg_stat_activity WHERE datname = %s AND usename = 'bench' ORDER BY pid", (database,)
            ).fetchall()
            if rows:
                began = time.monotonic()
                connection.execute("SELECT pg_terminate_backend(%s)", self.random.choice(rows))
                self.excuses.append((began, time.monotonic(), "terminate"))

    def restart(self) -> None:
        began = time.monotonic()
        self.postgres.restart(self.random.choice(("fast", "immediate")))
        self.excuses.append((began, time.monotonic() + 2, "restart"))

    def kill_worker(self) -> None:
        workers = self.pooler.worker_processes()
        if not workers:
            raise PoolerFailed(f"no worker of process {self.pooler.pid} lives")
        self._kill(workers, "kill_worker")

    def _kill(self, workers: Sequence[int], what: str) -> None:
        began = time.monotonic()
        with contextlib.suppress(ProcessLookupError):  # it was about to end
            os.kill(self.random.choice(workers), signal.SIGKILL)
        self.excuses.append((began, time.monotonic(), what))

    def kill_in_upgrade(self) -> None:
        """A worker that hands over, or one that takes over, or has yet to begin."""

        def meanwhile(new: int) -> None:
            time.sleep(self.random.uniform(0.0, HANDING_OVER))
            if workers := self.pooler.worker_processes(new):
                self._kill(workers, "kill_in_upgrade")

        try:
            self.pooler.upgrade(meanwhile)
        except PoolerFailed as problem:
            if FAILED_START not in str(problem):
                raise
            self.done["upgrades that failed by a kill"] += 1

    # -- what nobody may notice

    def reload(self) -> None:
        said = self.pooler.reload()
        if "failed" in said:
            raise PoolerFailed(said)

    def upgrade(self) -> None:
        began = time.monotonic()
        self.pooler.upgrade()
        self.upgrades.append(time.monotonic() - began)

    def look(self) -> None:
        with console(self.pooler) as connection:
            for table in TABLES:
                connection.execute(f"SHOW {table}").fetchall()

    def reconnect(self) -> None:
        with console(self.pooler) as connection:
            connection.execute("RECONNECT")

    def pause(self) -> None:
        with console(self.pooler) as connection:
            connection.execute("PAUSE")
            time.sleep(0.2)
            connection.execute("RESUME")

    def strangers(self) -> None:
        """Who comes in and has no business here: nobody else may notice."""
        number = self.random.getrandbits(31)
        words = (
            b"",
            b"GET / HTTP/1.1\r\n\r\n",
            struct.pack("!ii", 8, SSL_REQUEST),
            struct.pack("!ii", 8, SSL_REQUEST) + b"\x16\x03\x01\x02\x00\x01",
            struct.pack("!iiii", 16, CANCEL_REQUEST, number % 100_000, number),
            struct.pack("!ii", 60, PROTOCOL_3) + b"user\0bench\0data",
            struct.pack("!ii", 2**31 - 1, PROTOCOL_3),
            self.random.randbytes(200),
        )
        for word in words:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.pooler.port), 5) as one:
                if word:
                    one.sendall(word)
                one.settimeout(0.05)
                with contextlib.suppress(TimeoutError):
                    one.recv(100)
                if self.random.random() < 0.5:
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
