"""Upgrade the pooler again and again under pgbench and a stream of newcomers, and count what anybody noticed.

python -m bench.upgrades                          # ten upgrades, one process
python -m bench.upgrades --workers 2 --upgrades 20

50 clients of pgbench stay connected all the time: 17 simple, 17 prepared, 16 prepared by TLS; newcomers log in, ask and
leave. A client of pgbench that loses its connection does not come back, so its end shows in the exit code. Exit code 1
when anything failed, was refused, or more servers were seen than pool_size.
"""

from __future__ import annotations

import argparse
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from throwaway_postgres import find_program

from bench.__main__ import default_command
from bench.report import table
from bench.soak.ground import MIX, PASSWORD, POOLS, USER, Pooler, make_postgres
from bench.soak.watch import Watch

#: (clients, protocol, sslmode) of each pgbench.
CROWDS = ((17, "simple", "disable"), (17, "prepared", "disable"), (16, "prepared", "require"))
SCRIPT = "\\set token random(1, 1000000)\nSELECT :token;\n"
#: Transactions a second of each pgbench, which leave processors for the others.
RATE = 700
#: Newcomers a second, as far as they keep up, and how many at a time.
NEWCOMERS, AT_A_TIME = 200, 4
#: Seconds between an upgrade that is over and the next one.
PAUSE = 1.0

PROCESSED = re.compile(r"number of transactions actually processed: (\d+)")
FAILED = re.compile(r"number of failed transactions: (\d+)")


class Crowd:
    """One pgbench, which runs for its time however long the upgrades take."""

    def __init__(self, port: int, directory: Path, clients: int, protocol: str, sslmode: str, seconds: int) -> None:
        self.name = f"pgbench -c {clients} -M {protocol}{' by TLS' if sslmode == 'require' else ''}"
        command = [str(find_program("pgbench")), "-n", "-f", "script.sql", "-M", protocol, "-c", str(clients)]
        command += ["-j", "1", "-R", str(RATE), "-T", str(seconds), "-h", "127.0.0.1", "-p", str(port), "-U", USER, MIX]
        environment = {"PGPASSWORD": PASSWORD, "PATH": "/usr/bin:/bin", "LC_ALL": "C", "PGSSLMODE": sslmode}
        self.process = subprocess.Popen(
            command, cwd=directory, env=environment, stdin=subprocess.DEVNULL, text=True, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )  # fmt: skip
        self.processed = self.failed = 0
        self.errors = ""
        self.in_order = False

    def end(self) -> None:
        """Wait for it; ``in_order`` is whether nobody lost a transaction or a connection."""
        out, self.errors = self.process.communicate()
        processed, failed = PROCESSED.search(out), FAILED.search(out)
        self.processed = int(processed[1]) if processed else 0
        self.failed = int(failed[1]) if failed else 0
        self.in_order = processed is not None and self.failed == 0 and self.process.returncode == 0

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()


@dataclass
class Newcomers:
    """Log in, ask and leave, NEWCOMERS times a second, in threads."""

    port: int
    seconds: list[float] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(AT_A_TIME)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        due = time.monotonic()
        while not self._over.wait(max(0.0, due - time.monotonic())):
            began = time.monotonic()
            due = max(due + AT_A_TIME / NEWCOMERS, began)
            try:
                with psycopg.connect(
                    host="127.0.0.1", port=self.port, user=USER, password=PASSWORD, dbname=MIX, autocommit=True,
                    sslmode="disable", gssencmode="disable",
                ) as client:  # fmt: skip
                    client.execute("SELECT 1")
            except psycopg.Error as exc:
                self.refused.append(str(exc))
            self.seconds.append(time.monotonic() - began)


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    with ExitStack() as stack:
        directory = Path(tempfile.mkdtemp(prefix="upgrades-"))
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        directory.chmod(0o755)
        (directory / "script.sql").write_text(SCRIPT)
        postgres = make_postgres(directory)
        stack.callback(postgres.remove)
        pooler = Pooler(shlex.split(options.pgdoorman), directory, options.workers, dict.fromkeys(POOLS, postgres.port))
        stack.callback(pooler.kill)
        pooler.start()
        watch = Watch(postgres, postgres.port)
        watch.start()
        stack.callback(watch.stop)
        crowds = []
        for clients, protocol, sslmode in CROWDS:
            crowds.append(Crowd(pooler.port, directory, clients, protocol, sslmode, options.seconds))
            stack.callback(crowds[-1].kill)
        newcomers = Newcomers(pooler.port)
        stack.callback(newcomers.stop)
        rows = upgrade_again_and_again(pooler, options.upgrades, crowds)
        newcomers.stop()
        for crowd in crowds:
            crowd.end()
        wrong = pooler.stop() + pooler.wrong_in_log() + watch.wrong
    print(table(["process", "serves after s", "old one gone after s", "descriptors", "MB (PSS)"], rows))
    who = [[c.name, f"{c.processed:,}", f"{c.failed}", "yes" if c.in_order else "no"] for c in crowds]
    stay = newcomers.seconds
    who.append([f"newcomers, {max(stay):.2f} s at most", f"{len(stay):,}", f"{len(newcomers.refused)}", "-"])
    print(table(["who", "transactions", "failed", "connected to the end"], who))
    print(f"most servers of {MIX}: {watch.most[MIX]} of {POOLS[MIX]}")
    wrong += [f"{crowd.name}: {crowd.errors[-500:]}" for crowd in crowds if not crowd.in_order]
    wrong += newcomers.refused[:5]
    if len(rows) <= options.upgrades:
        wrong.append(f"only {len(rows) - 1} upgrades while pgbench ran: give it more --seconds")
    for text in wrong:
        print(f"WRONG: {text}")
    return int(bool(wrong))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.upgrades", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--upgrades", type=int, default=10, help="default 10")
    parser.add_argument("--seconds", type=int, default=60, help="for which pgbench runs (default 60)")
    parser.add_argument("--workers", type=int, default=1, help="worker_threads (default 1)")
    parser.add_argument("--pgdoorman", default=default_command(), metavar="COMMAND", help="how it is started")
    return parser.parse_args(arguments)


def upgrade_again_and_again(pooler: Pooler, count: int, crowds: Sequence[Crowd]) -> list[list[str]]:
    """A row for the first process and one for each that took over, as long as pgbench runs."""
    rows = []
    serves, gone = "-", "-"
    for number in range(count + 1):
        time.sleep(PAUSE)
        if any(crowd.process.poll() is not None for crowd in crowds):
            break
        rows.append([str(number + 1), serves, gone, str(len(pooler.open_files())), f"{pooler.memory_kib() / 1024:.1f}"])
        if number < count:
            serves, gone = (f"{seconds:.2f}" for seconds in pooler.upgrade())
    return rows


if __name__ == "__main__":
    sys.exit(main())
