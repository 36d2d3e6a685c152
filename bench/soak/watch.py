"""Looks on from PostgreSQL's side: that no pool has more servers than it may, and that the console tells what is so."""

from __future__ import annotations

import threading
import time
from collections import Counter
from datetime import datetime, timezone
from typing import Any

import psycopg
from psycopg.rows import dict_row
from throwaway_postgres import ThrowawayPostgres

from bench.soak.ground import ADMIN, POOLS, ROUGH, Pooler, established

#: Seconds between two looks.
INTERVAL = 0.1
#: Columns of SHOW POOLS that have each client in one of them.
CLIENTS = ("cl_idle", "cl_active", "cl_waiting")
#: A backend takes a moment to end behind its connection: more of them than servers is wrong only for so long.
LINGER = 3.0

BACKENDS = (
    "SELECT datname, client_port, pid, state, wait_event, left(query, 80) FROM pg_stat_activity"
    " WHERE backend_type = 'client backend' AND usename = 'bench' AND datname = ANY(%s)"
)


class Watch:
    """Counts backends all the time, in a thread. ``wrong`` has what should not have been, ``most`` the highest counts.

    A backend counts while its connection is held at the other end before and behind the look: what the pooler has
    closed, and PostgreSQL has yet to notice, does not. Where servers come through the proxy at ``proxy_port``, that has
    the other end, and may keep it a little longer; the pooler's connections to it are servers and cancel requests. So
    the lesser of the two counts.
    """

    def __init__(self, postgres: ThrowawayPostgres, proxy_port: int) -> None:
        self.postgres = postgres
        self.proxy_port = proxy_port
        self.wrong: list[str] = []
        self.most: Counter[str] = Counter()
        self.looks = 0
        self._since: dict[str, float] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()

    def backends(self, connection: psycopg.Connection[Any]) -> tuple[Counter[str], list[tuple[Any, ...]]]:
        """By database how many backends somebody holds; and the rows of all."""
        before = established()
        rows = connection.execute(BACKENDS, (list(POOLS),)).fetchall()
        all_along = before & established()
        ports = {local for local, remote, _ in all_along if remote == self.postgres.port}
        held = Counter(name for name, port, *_ in rows if port in ports)
        held[ROUGH] = min(held[ROUGH], sum(remote == self.proxy_port for _, remote, _ in all_along))
        return held, rows

    def connect(self) -> psycopg.Connection[Any]:
        return psycopg.connect(
            host=str(self.postgres.socket_dir), port=self.postgres.port, user="postgres", dbname="postgres",
            autocommit=True, connect_timeout=10,
        )  # fmt: skip

    def _run(self) -> None:
        connection: psycopg.Connection[Any] | None = None
        while not self._over.wait(INTERVAL):
            try:
                if connection is None:
                    connection = self.connect()
                self._look(*self.backends(connection))
            except psycopg.OperationalError:  # PostgreSQL is being restarted
                connection = None
        if connection is not None:
            connection.close()

    def _look(self, held: Counter[str], rows: list[tuple[Any, ...]]) -> None:
        self.looks += 1
        every = Counter(name for name, *_ in rows)
        now = time.monotonic()
        for name, size in POOLS.items():
            self.most[name] = max(self.most[name], held[name])
            if held[name] > size:
                self.wrong.append(f"{held[name]} servers of {name}, whose pool_size is {size}, at {clock()}")
            if every[name] <= size:
                self._since[name] = now
            elif now - self._since.setdefault(name, now) > LINGER:
                found = [row[1:] for row in rows if row[0] == name]
                self.wrong.append(f"backends of {name}, {LINGER:.0f} s long over {size}, at {clock()}: {found}")
                self._since[name] = now


def clock() -> str:
    """Now, as it stands in the log."""
    return datetime.now(timezone.utc).strftime("%H:%M:%S.%f")[:-3]


def console(pooler: Pooler) -> psycopg.Connection[dict[str, Any]]:
    return psycopg.connect(
        host="127.0.0.1", port=pooler.port, user=ADMIN, password=ADMIN, dbname="pgdoorman", autocommit=True,
        sslmode="disable", gssencmode="disable", connect_timeout=20, row_factory=dict_row,
    )  # fmt: skip


def shown(pooler: Pooler) -> list[str]:
    """What the console tells of pools, clients and servers."""
    with console(pooler) as connection:
        return [
            f"{table}: {' '.join(f'{name}={value}' for name, value in row.items())}"
            for table in ("POOLS", "CLIENTS", "SERVERS")
            for row in connection.execute(f"SHOW {table}")
        ]


def differences(pooler: Pooler, watch: Watch) -> list[str]:
    """Where the console's tables and reality differ at this moment, while every client rests."""
    found = []
    with console(pooler) as connection, watch.connect() as postgres:
        clients = pooler.connections()[0] - 1
        pools = {row["database"]: row for row in connection.execute("SHOW POOLS") if row["user"] == "bench"}
        shown = len(connection.execute("SHOW CLIENTS").fetchall()) - 1
        servers = Counter(row["database_name"] for row in connection.execute("SHOW SERVERS"))
        held, _ = watch.backends(postgres)
    if shown != clients:
        found.append(f"SHOW CLIENTS has {shown} clients of {clients}")
    counted = sum(int(row[name]) for row in pools.values() for name in row if name in CLIENTS)
    if counted != clients:
        found.append(f"SHOW POOLS has {counted} clients of {clients}")
    for name in POOLS:
        row = pools.get(name, {})
        figures = {column: int(row.get(column, 0)) for column in row if column.startswith("sv_")}
        if sum(figures.values()) != held[name]:
            found.append(f"SHOW POOLS has {figures} servers of {name}, PostgreSQL {held[name]}")
        if servers[name] != held[name]:
            found.append(f"SHOW SERVERS has {servers[name]} servers of {name}, PostgreSQL {held[name]}")
        busy = figures.get("sv_active", 0) + figures.get("sv_login", 0)
        if busy:
            found.append(f"{busy} servers of {name} are busy while every client rests")
    return found
