"""What a soak stands on: a PostgreSQL whose commits last, and the pooler before it, looked at from outside."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from ports import free_port
from throwaway_postgres import ThrowawayPostgres

from bench.procfs import children, listening_sockets, memory_kib
from bench.targets import PGDOORMAN_POOL, PGDOORMAN_TLS, make_certificate, md5_secret

USER, PASSWORD = "bench", "bench"
#: Databases and servers of their pools. The last one's servers come through a proxy that spoils their traffic.
MIX, TIGHT, ROUGH = "mixdb", "tightdb", "roughdb"
POOLS = {MIX: 8, TIGHT: 2, ROUGH: 4}
ADMIN = "admin"

START_SECONDS, UPGRADE_SECONDS, STOP_SECONDS = 60.0, 60.0, 60.0

CONFIG = """\
[general]
host = "127.0.0.1"
port = {port}
worker_threads = {workers}
admin_username = "{admin}"
admin_password = "{admin}"
query_wait_timeout = "30s"
connect_timeout = "10s"
shutdown_timeout = "20s"
server_lifetime = "{lifetime}s"
{tls}
"""

#: TCP_ESTABLISHED in include/net/tcp_states.h, as /proc/net/tcp has it.
ESTABLISHED = "01"

WRONG_IN_LOG = re.compile(r"Traceback \(most recent call last\)|Exception ignored in|ResourceWarning")


def make_postgres(directory: Path) -> ThrowawayPostgres:
    """Commits are written before they are told, so that a shutdown without tidying up keeps them."""
    postgres = ThrowawayPostgres(
        directory,
        settings={"password_encryption": "md5", "synchronous_commit": "on", "max_connections": 100},
        hba=("local all all trust", "host all all 127.0.0.1/32 md5"),
    )
    try:
        postgres.start()
        postgres.sql(f"CREATE ROLE {USER} LOGIN PASSWORD '{PASSWORD}'")
        for database in POOLS:
            postgres.sql(f"CREATE DATABASE {database} OWNER {USER}")
            postgres.sql(
                "CREATE TABLE told (worker int, number int, PRIMARY KEY (worker, number));"
                f" ALTER TABLE told OWNER TO {USER}",
                database=database,
            )
    except BaseException:
        postgres.remove()
        raise
    return postgres


class PoolerFailed(RuntimeError):
    """It did not start, upgrade or end as it should; the text has the end of its log."""


class Pooler:
    """One pgdoorman, whichever process it is by now. ``server_ports``: where each pool's servers are."""

    def __init__(self, command: Sequence[str], directory: Path, workers: int, server_ports: dict[str, int]) -> None:
        self.command = command
        self.directory = directory
        self.workers = workers
        self.server_ports = server_ports
        self.port = free_port()
        self.config_path = directory / "pg_doorman.toml"
        self.log_path = directory / "pgdoorman.log"
        self.certificate = make_certificate(directory)
        self.process: subprocess.Popen[bytes] | None = None
        self.pid = 0
        self.upgrades = 0
        self.lifetime = 60

    def write_config(self) -> None:
        text = CONFIG.format(
            port=self.port,
            workers=self.workers,
            admin=ADMIN,
            lifetime=self.lifetime,
            tls=PGDOORMAN_TLS.format_map(self.certificate) if self.certificate else "",
        )
        for name, size in POOLS.items():
            text += PGDOORMAN_POOL.format(
                name=name, database=name, server_host="127.0.0.1", server_port=self.server_ports[name], pool_size=size,
                user=USER, secret=md5_secret(), server_user=USER, password=PASSWORD, pool_mode="transaction",
            )  # fmt: skip
        self.config_path.write_text(text)

    def start(self) -> None:
        # Who takes over in an upgrade shall be our child when its parent has ended.
        ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER in linux/prctl.h
        self.write_config()
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                [*self.command, str(self.config_path)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.directory, start_new_session=True,
            )  # fmt: skip
        self.pid = self.process.pid
        deadline = time.monotonic() + START_SECONDS
        while not listening_sockets(self.port):
            if time.monotonic() > deadline or not self.running:
                raise PoolerFailed(f"pgdoorman does not listen:\n{self.log_text()[-3000:]}")
            time.sleep(0.02)

    def log_text(self) -> str:
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def wait_log(self, pattern: str, seconds: float, behind: int = 0) -> re.Match[str]:
        """What the log has of ``pattern`` from that place on."""
        deadline = time.monotonic() + seconds
        while True:
            found = re.search(pattern, self.log_text()[behind:])
            if found:
                return found
            if time.monotonic() > deadline or not self.alive(self.pid):
                raise PoolerFailed(
                    f"no {pattern!r} in pgdoorman's log within {seconds:.0f} s:\n{self.log_text()[-3000:]}"
                )
            time.sleep(0.02)

    @staticmethod
    def alive(pid: int) -> bool:
        """Whether it runs; what has ended is not waited for by us alone."""
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        except OSError:
            return False

    @property
    def running(self) -> bool:
        return self.alive(self.pid)

    def reload(self) -> str:
        """Have the pools made anew; what the log says of it."""
        self.lifetime = 61 if self.lifetime == 60 else 60
        self.write_config()
        behind = len(self.log_text())
        os.kill(self.pid, signal.SIGHUP)
        return self.wait_log(r"configuration reloaded|reload failed", 30.0, behind)[0]

    def upgrade(self, meanwhile: Callable[[int], object] | None = None) -> tuple[float, float]:
        """Until the process before has ended: only one takes over at a time.

        ``meanwhile`` is called with the number of the new process as soon as that is there. Seconds until the new one
        served, and until the old one was gone.
        """
        began = time.monotonic()
        behind = len(self.log_text())
        before = self.pid
        os.kill(before, signal.SIGUSR2)
        if meanwhile is not None:
            meanwhile(int(self.wait_log(r"upgrade: process (\d+) is version", UPGRADE_SECONDS, behind)[1]))
        found = self.wait_log(r"process (\d+) serves new clients|upgrade failed.*", UPGRADE_SECONDS, behind)
        if not found[1]:
            raise PoolerFailed(found[0])
        self.pid = int(found[1])
        self.upgrades += 1
        serves = time.monotonic() - began
        deadline = time.monotonic() + UPGRADE_SECONDS
        while self.alive(before):
            if time.monotonic() > deadline:
                raise PoolerFailed(f"process {before} lives on behind its upgrade:\n{self.log_text()[-3000:]}")
            time.sleep(0.02)
        if code := self.exit_code(before):
            raise PoolerFailed(f"exit code {code} of process {before} behind its upgrade:\n{self.log_text()[-3000:]}")
        return serves, time.monotonic() - began

    def exit_code(self, pid: int) -> int | None:
        """Of one that has ended; None if it was not our child: that of an upgrade is, once its parent has ended."""
        if self.process is not None and pid == self.process.pid:
            return self.process.wait()
        try:
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        except ChildProcessError:
            return None

    def processes(self) -> list[int]:
        """All that live: the command line tells one, whoever its parent is by now."""
        named = str(self.config_path).encode()
        found = []
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):  # it has ended meanwhile
                if entry.name.isdigit() and named in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
        return found

    def worker_processes(self, new: int = 0) -> list[int]:
        """The children of the nursery, which is the supervisor's; those of the process ``new`` of an upgrade, too."""
        return [
            worker
            for supervisor in (self.pid, new)
            for nursery in children(supervisor)
            if nursery != new
            for worker in children(nursery)
        ]

    def stop(self) -> list[str]:
        """End it in order; what was wrong about that."""
        try:
            os.kill(self.pid, signal.SIGTERM)
        except ProcessLookupError:
            return [f"process {self.pid} had ended by itself"]
        deadline = time.monotonic() + STOP_SECONDS
        while left := self.processes():
            if time.monotonic() > deadline:
                self.kill()
                return [f"processes {left} lived {STOP_SECONDS:.0f} s behind SIGTERM"]
            time.sleep(0.02)
        code = self.exit_code(self.pid)
        return [f"exit code {code} behind SIGTERM"] if code else []

    def kill(self) -> None:
        """Leave nothing behind."""
        for member in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(member, signal.SIGKILL)

    def wrong_in_log(self) -> list[str]:
        """Lines that never stand in the log of a process in order."""
        return [line for line in self.log_text().splitlines() if WRONG_IN_LOG.search(line)]

    # -- seen from outside

    def memory_kib(self) -> int:
        """But for programs and libraries: their part grows when others on the machine have them no more."""
        return memory_kib(self.processes(), without="Pss_File")

    def open_files(self) -> list[str]:
        """What each descriptor of all its processes is, as the kernel names it."""
        found = []
        for member in self.processes():
            try:
                for name in os.listdir(f"/proc/{member}/fd"):
                    found.append(os.readlink(f"/proc/{member}/fd/{name}"))
            except OSError:  # the process or the descriptor is gone
                continue
        return found

    def connections(self) -> tuple[int, int]:
        """TCP connections that its clients have to it, and that it has to PostgreSQL (or to the proxy before that)."""
        ours = set(self.open_files())
        held = [(local, remote) for local, remote, socket in established() if socket in ours]
        remote_ports = set(self.server_ports.values())
        return sum(local == self.port for local, _ in held), sum(remote in remote_ports for _, remote in held)


def established() -> set[tuple[int, int, str]]:
    """(local port, remote port, name of the socket) of each established TCP connection that a process here holds.

    The kernel tells it piece by piece: of what changes meanwhile it tells some twice, and may miss some.
    """
    found = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == ESTABLISHED and fields[9] != "0":
            found.add((int(fields[1][-4:], 16), int(fields[2][-4:], 16), f"socket:[{fields[9]}]"))
    return found
