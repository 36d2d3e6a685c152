"""Kill a primary under load again and again, promote its standby, and measure for how long nothing could be written.

python -m bench.failover                    # five failovers with a list of hosts, five with Patroni's fallback
python -m bench.failover --failovers 3 --workers 2 --only list

The primary is ended by SIGKILL, all of its processes, and two seconds later its standby is told to be primary: a
cluster's manager takes a while to notice, too. Patroni is a stand-in that names the standby as sync_standby all along.
Eight writers insert a row at a time, and connect again when they have lost their connection, as an application does;
pgbench inserts beside them, and is begun again when it ends. Exit code 1 when service does not come back.
"""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any

import psycopg
import streaming
from ports import free_port
from throwaway_postgres import DEFAULT_HBA, find_program

from bench.__main__ import default_command
from bench.procfs import listening_sockets
from bench.report import table

WRITERS = 8
#: Clients of pgbench, and its transactions a second.
CLIENTS, RATE = 8, 400
#: Seconds of writing before the primary is killed, and for service to come back.
BEFORE, LIMIT = 2.0, 60.0
#: Seconds from the kill until the standby is told to take over.
NOTICE = 2.0
#: Seconds of writing behind the promotion.
AFTER = 1.0
START_SECONDS = 60.0

CONFIG = """\
[general]
host = "127.0.0.1"
port = {port}
worker_threads = {workers}
admin_username = "admin"
admin_password = "a password"
connect_timeout = "3s"

[pools.testdb]
server_database = "postgres"
target_session_attrs = "read-write"
{hosts}

[[pools.testdb.users]]
username = "postgres"
password = "md5{secret}"
pool_size = 16
server_username = "postgres"
server_password = ""
"""
#: md5("postgres" + "postgres"), as PostgreSQL stores a password.
SECRET = "3175bce1d3201d16594cebf9d7eb3f9d"
SCRIPT = "INSERT INTO written VALUES (0);\n"


@dataclass
class Outcome:
    """Seconds: from the kill until the standby was a primary, without service, and of that behind the promotion."""

    promotion: float
    without_service: float
    behind_promotion: float
    lost_connections: int


class Writers:
    """Who insert by the pooler at ``port`` and note when each commit was told."""

    def __init__(self, port: int) -> None:
        self._conninfo = psycopg.conninfo.make_conninfo(
            "", host="127.0.0.1", port=port, dbname="testdb", user="postgres", password="postgres", connect_timeout=5
        )
        self.commits: list[float] = []
        self.lost = 0
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._write) for _ in range(WRITERS)]

    def __enter__(self) -> Writers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _write(self) -> None:
        while not self._ended.is_set():
            try:
                with psycopg.connect(self._conninfo, autocommit=True) as connection:
                    while not self._ended.is_set():
                        connection.execute("INSERT INTO written VALUES (1)")
                        self.commits.append(time.monotonic())
                        time.sleep(0.002)
            except psycopg.Error:
                self.lost += 1
                time.sleep(0.01)

    def longest_pause(self, begin: float, end: float) -> tuple[float, float]:
        """Between which two commits, told one after the other, most time has passed of what begins or ends in there."""
        pauses = [pair for pair in pairwise(sorted(self.commits)) if pair[0] <= end and pair[1] >= begin]
        return max(pauses, key=lambda pair: pair[1] - pair[0])


@contextmanager
def pgbench(port: int, directory: Path) -> Iterator[None]:
    """pgbench by the pooler, begun again whenever it ends: it gives up where connections are lost."""
    (directory / "script.sql").write_text(SCRIPT)
    command = [str(find_program("pgbench")), "-n", "-f", "script.sql", "-c", str(CLIENTS), "-j", "1", "-R", str(RATE)]
    command += ["-T", "600", "-h", "127.0.0.1", "-p", str(port), "-U", "postgres", "testdb"]
    ended = threading.Event()
    running: list[subprocess.Popen[bytes]] = []

    def run() -> None:
        while not ended.is_set():
            process = subprocess.Popen(
                command, cwd=directory, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                env={"PGPASSWORD": "postgres", "PATH": "/usr/bin:/bin", "PGSSLMODE": "disable"},
            )  # fmt: skip
            running[:] = [process]
            process.wait()
            ended.wait(0.2)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        for process in running:
            process.terminate()
        thread.join()


@contextmanager
def pooler(command: list[str], directory: Path, workers: int, hosts: str) -> Iterator[int]:
    """One, while this is entered; its port."""
    port = free_port()
    path = directory / "pg_doorman.toml"
    path.write_text(CONFIG.format(port=port, workers=workers, hosts=hosts, secret=SECRET))
    with open(directory / "pgdoorman.log", "ab") as log:
        process = subprocess.Popen([*command, str(path)], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + START_SECONDS
        while not listening_sockets(port):
            if time.monotonic() > deadline or process.poll() is not None:
                raise RuntimeError((directory / "pgdoorman.log").read_text()[-3000:])
            time.sleep(0.02)
        yield port
    finally:
        process.terminate()
        process.wait()


@contextmanager
def patroni(primary: streaming.StreamingPostgres, standby: streaming.StreamingPostgres) -> Iterator[str]:
    """A stand-in for the API; its URL."""
    members = [
        {"name": role, "role": role, "state": "running", "host": member.host, "port": member.port}
        for role, member in (("leader", primary), ("sync_standby", standby))
    ]
    body = json.dumps({"members": members}).encode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def fail_over(primary: streaming.StreamingPostgres, standby: streaming.StreamingPostgres, writers: Writers) -> Outcome:
    """Kill the one, promote the other, and see when something could be written again."""
    with psycopg.connect(host=standby.host, port=standby.port, user="postgres", autocommit=True) as watch:
        time.sleep(BEFORE)
        lost = writers.lost
        killed = time.monotonic()
        primary.kill()
        time.sleep(NOTICE)
        promoting = threading.Thread(target=standby.promote)
        promoting.start()
        while watch.execute("SELECT pg_is_in_recovery()").fetchone() == (True,):
            time.sleep(0.002)
        promoted = time.monotonic()
        promoting.join()
    while writers.commits[-1] < promoted + AFTER:
        if time.monotonic() > promoted + LIMIT:
            raise RuntimeError(f"nothing could be written within {LIMIT:g} s")
        time.sleep(0.005)
    before, again = writers.longest_pause(killed, promoted)
    return Outcome(promoted - killed, again - before, again - promoted, writers.lost - lost)


def measure(how: str, options: argparse.Namespace, directory: Path) -> list[Outcome]:
    """Failovers of one kind, each with clusters that are in order and a pooler that has just been started."""
    command = shlex.split(options.command or default_command())
    found = []
    with ExitStack() as stack:
        one, two = (stack.enter_context(closing(directory / f"{how}{number}")) for number in range(2))
        one.start()
        one.sql("CREATE TABLE written (a int)")
        for number in range(options.failovers):
            two.follow(one)
            with ExitStack() as inner:
                if how == "patroni":
                    url = inner.enter_context(patroni(one, two))
                    hosts = f'server_host = "{one.host}"\nserver_port = {one.port}\npatroni_api_urls = ["{url}"]'
                else:
                    hosts = f'server_host = "{one.host},{two.host}"\nserver_port = "{one.port},{two.port}"'
                port = inner.enter_context(pooler(command, directory, options.workers, hosts))
                inner.enter_context(pgbench(port, directory))
                writers = inner.enter_context(Writers(port))
                found.append(fail_over(one, two, writers))
            print(f"{how} {number + 1}: {found[-1]}", file=sys.stderr)
            one, two = two, one
    return found


@contextmanager
def closing(directory: Path) -> Iterator[streaming.StreamingPostgres]:
    """A cluster that is not started yet."""
    made = streaming.StreamingPostgres(
        directory, settings={**streaming.SETTINGS, "max_connections": 100}, hba=(*streaming.HBA, *DEFAULT_HBA)
    )
    try:
        yield made
    finally:
        with suppress(OSError):
            made.remove()


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.failover", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--failovers", type=int, default=5, help="of each kind")
    parser.add_argument("--workers", type=int, default=1, help="worker processes of the pooler")
    parser.add_argument("--only", choices=("list", "patroni"), help="one kind alone")
    parser.add_argument("--command", help="the pooler's")
    options = parser.parse_args()
    rows = []
    for how in [options.only] if options.only else ["list", "patroni"]:
        with tempfile.TemporaryDirectory(prefix="failover-") as directory:
            outcomes = measure(how, options, Path(directory))
        for name, values in (
            ("kill to promoted", [each.promotion for each in outcomes]),
            ("without service", [each.without_service for each in outcomes]),
            ("of that behind the promotion", [each.behind_promotion for each in outcomes]),
        ):
            figures = (min(values), statistics.median(values), max(values))
            rows.append([how, name, *(f"{1000 * value:.0f}" for value in figures)])
    print(table(["hosts by", "time (ms)", "min", "median", "max"], rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
