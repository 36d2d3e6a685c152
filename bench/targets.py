"""What is measured: pgdoorman, PgBouncer, a pooler that runs already, PostgreSQL itself; all configured alike."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
import shutil
import subprocess
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from ports import free_port
from throwaway_postgres import ThrowawayPostgres, private_directory, unprivileged

from bench.procfs import listening_sockets

#: The same for every pooler. Clients prove themselves by MD5, and so do the poolers to PostgreSQL.
DATABASE, USER, PASSWORD = "benchdb", "bench", "bench"
POOL_SIZE = 40
#: A database whose pool has few servers.
SMALL_DATABASE, SMALL_POOL_SIZE = "smalldb", 2
#: One whose clients wait for each other ten deep: with several workers, servers cross between them most there.
FOUR_DATABASE, FOUR_POOL_SIZE = "fourdb", 4
POOLS = ((DATABASE, POOL_SIZE), (SMALL_DATABASE, SMALL_POOL_SIZE), (FOUR_DATABASE, FOUR_POOL_SIZE))
#: The poolers' name for DATABASE where clients prove themselves by SCRAM-SHA-256, as this user.
SCRAM_DATABASE, SCRAM_USER = "scramdb", "bench_scram"
SCRAM_ITERATIONS = 4096
#: Their name for DATABASE by PostgreSQL's unix socket.
UNIX_DATABASE = "unixdb"
#: Their name for DATABASE where clients keep their servers.
SESSION_DATABASE = "sessiondb"
MAX_CLIENTS = 12_000
START_SECONDS = 20.0
#: PgBouncer's first version with named prepared statements in transaction mode, and with [peers].
PGBOUNCER_PREPARED, PGBOUNCER_PEERS = (1, 21), (1, 19)

PGDOORMAN_CONFIG = """\
[general]
host = "127.0.0.1"
port = {port}
worker_threads = {workers}
max_connections = {max_clients}
admin_username = "admin"
admin_password = "admin"
log_client_connections = false
log_client_disconnections = false
{tls}
"""

PGDOORMAN_TLS = """\
tls_certificate = "{certificate}"
tls_private_key = "{key}"
"""

PGDOORMAN_POOL = """\
[pools.{name}]
server_database = "{database}"
server_host = "{server_host}"
server_port = {server_port}
pool_mode = "{pool_mode}"

[[pools.{name}.users]]
username = "{user}"
password = "{secret}"
pool_size = {pool_size}
server_username = "{server_user}"
server_password = "{password}"

"""

PGBOUNCER_CONFIG = """\
[databases]
{databases}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir ={socket_directory}
auth_type = md5
auth_file = {directory}/users.txt
pool_mode = transaction
max_client_conn = {max_clients}
log_connections = 0
log_disconnections = 0
ignore_startup_parameters = extra_float_digits
{prepared}{tls}{several}"""

PGBOUNCER_TLS = """\
client_tls_sslmode = allow
client_tls_cert_file = {certificate}
client_tls_key_file = {key}
"""


class Target:
    """What speaks PostgreSQL's protocol on a port of this machine.

    ``pids`` are the processes to count, each with its descendants; none when its CPU is not asked.
    """

    pids: tuple[int, ...] = ()
    #: Can named prepared statements be used through it?
    prepared = True
    #: Does it take TLS?
    tls = False

    def __init__(self, name: str, host: str, port: int) -> None:
        self.name = name
        self.host = host
        self.port = port
        self.description = name

    def start(self) -> None:
        """Have it accept connections; no effect when it does."""

    def stop(self) -> None:
        """End it, if we started it."""


class Direct(Target):
    """PostgreSQL without a pooler. Its CPU says nothing about pooling and is not measured."""

    def __init__(self, postgres: ThrowawayPostgres) -> None:
        super().__init__("direct", postgres.host, postgres.port)
        self.max_clients = int(postgres.sql("SHOW max_connections")) - 20
        self.description = f"PostgreSQL {postgres.sql('SHOW server_version')}"


class External(Target):
    """A pooler somebody else started on this machine, given as HOST:PORT:PID[:NAME]."""

    def __init__(self, text: str) -> None:
        host, port, pid, *name = text.split(":")
        super().__init__(name[0] if name else f"pid {pid}", host, int(port))
        self.pids = (int(pid),)
        self.description = f"{self.name} at {host}:{port}, process {pid}"


class Started(Target):
    """A pooler started here; what differs is its commands, its configuration and whether it may be root."""

    drop_root = False

    def __init__(self, name: str, directory: Path) -> None:
        super().__init__(name, "127.0.0.1", free_port())
        self.directory = private_directory(directory, f"{type(self).__name__.lower()}-")
        self.log_path = self.directory / "log"
        self.certificate = make_certificate(directory)
        self.tls = self.certificate is not None
        #: one for each process that is started
        self.commands: Sequence[Sequence[str | Path]] = ()
        self.processes: list[subprocess.Popen[bytes]] = []

    def spawn(self) -> None:
        """Start what does not run."""
        if self.running:
            return
        self.stop()
        with open(self.log_path, "ab") as log:
            self.processes = [
                subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=self.directory,
                    start_new_session=True,
                    **(unprivileged() if self.drop_root else {}),
                )
                for command in self.commands
            ]
        self.pids = tuple(process.pid for process in self.processes)

    @property
    def running(self) -> bool:
        return bool(self.processes) and all(process.poll() is None for process in self.processes)

    def start(self) -> None:
        self.spawn()
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self.running:
            if listening_sockets(self.port) >= len(self.processes):
                return
            time.sleep(0.02)
        log_text = self.log_path.read_text(errors="replace")
        self.stop()
        raise RuntimeError(f"{self.name} does not listen on port {self.port}:\n{log_text}")

    def stop(self) -> None:
        processes, self.processes, self.pids = self.processes, [], ()
        for process in processes:
            if process.poll() is None:
                process.terminate()
        for process in processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


class Pgdoorman(Started):
    """pgdoorman by any command, so that builds can be compared, too."""

    def __init__(
        self, name: str, command: Sequence[str], directory: Path, server: ThrowawayPostgres, workers: int
    ) -> None:
        super().__init__(name, directory)
        self.commands = ([*command, str(self.directory / "pg_doorman.toml")],)
        host, socket_dir = server.host, str(server.socket_dir)
        pools = [(name, name, host, size, USER, md5_secret(), "transaction") for name, size in POOLS]
        pools.append((SCRAM_DATABASE, DATABASE, host, POOL_SIZE, SCRAM_USER, scram_secret(), "transaction"))
        pools.append((UNIX_DATABASE, DATABASE, socket_dir, POOL_SIZE, USER, md5_secret(), "transaction"))
        pools.append((SESSION_DATABASE, DATABASE, host, POOL_SIZE, USER, md5_secret(), "session"))
        (self.directory / "pg_doorman.toml").write_text(
            PGDOORMAN_CONFIG.format(
                port=self.port,
                workers=workers,
                max_clients=MAX_CLIENTS,
                tls=PGDOORMAN_TLS.format_map(self.certificate) if self.certificate else "",
            )
            + "".join(
                PGDOORMAN_POOL.format(
                    name=name,
                    server_host=host,
                    server_port=server.port,
                    pool_size=pool_size,
                    database=database,
                    user=user,
                    secret=secret,
                    pool_mode=pool_mode,
                    server_user=USER,
                    password=PASSWORD,
                )
                for name, database, host, pool_size, user, secret, pool_mode in pools
            )
        )
        version = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True)
        self.description = f"{version.stdout.strip()}, {workers} worker{'s' * (workers != 1)}"


class PgBouncer(Started):
    """The pgbouncer that is installed; several workers are processes, as its documentation has them.

    They listen at one port by so_reuseport, know each other by [peers] (for cancel requests), and share nothing: each
    has its part of every pool, or there would be so many times the servers.
    """

    drop_root = True

    def __init__(self, name: str, program: str, directory: Path, server: ThrowawayPostgres, workers: int) -> None:
        super().__init__(name, directory)
        answer = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
        match = re.search(r"PgBouncer (\d+)\.(\d+)", answer)
        version = (int(match.group(1)), int(match.group(2))) if match else (0, 0)
        self.prepared = version >= PGBOUNCER_PREPARED
        peers = workers > 1 and version >= PGBOUNCER_PEERS
        self.description = f"PgBouncer {version[0]}.{version[1]}"
        if workers > 1:
            self.description += f", {workers} processes of 1/{workers} pool each" + ", not peers" * (not peers)
        (self.directory / "users.txt").write_text(f'"{USER}" "{md5_secret()}"\n"{SCRAM_USER}" "{scram_secret()}"\n')
        homes = [private_directory(self.directory, "peer-") for _ in range(workers)] if peers else []
        files = []
        for number in range(workers):
            several = "so_reuseport = 1\n" if workers > 1 else ""
            if peers:
                several += f"peer_id = {number + 1}\n\n[peers]\n"
                several += "".join(f"{i} = host={home} port={self.port}\n" for i, home in enumerate(homes, 1))
            files.append(self.directory / f"pgbouncer-{number}.ini")
            files[-1].write_text(
                PGBOUNCER_CONFIG.format(
                    port=self.port,
                    max_clients=MAX_CLIENTS,
                    databases="\n".join(self._databases(server, workers)),
                    directory=self.directory,
                    socket_directory=f" {homes[number]}" if peers else "",
                    prepared="max_prepared_statements = 200\n" if self.prepared else "",
                    tls=PGBOUNCER_TLS.format_map(self.certificate) if self.certificate else "",
                    several=several,
                )
            )
        self.commands = [[program, file] for file in files]

    @staticmethod
    def _databases(server: ThrowawayPostgres, workers: int) -> list[str]:
        def line(name: str, pool_size: int, host: str, rest: str = "") -> str:
            return f"{name} = host={host} port={server.port} pool_size={max(1, pool_size // workers)}{rest}"

        same = f" dbname={DATABASE}"
        return [
            *(line(database, pool_size, server.host) for database, pool_size in POOLS),
            line(SCRAM_DATABASE, POOL_SIZE, server.host, f"{same} user={USER} password={PASSWORD}"),
            line(UNIX_DATABASE, POOL_SIZE, str(server.socket_dir), same),
            line(SESSION_DATABASE, POOL_SIZE, server.host, f"{same} pool_mode=session"),
        ]


def find_pgbouncer() -> str | None:
    """Debian installs it where only root's PATH leads."""
    return shutil.which("pgbouncer", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")


def md5_secret() -> str:
    """PostgreSQL's stored form of an MD5 password (pg_authid.rolpassword)."""
    return "md5" + hashlib.md5((PASSWORD + USER).encode()).hexdigest()


def scram_secret() -> str:
    """PostgreSQL's stored form of a SCRAM-SHA-256 password (RFC 5802)."""
    salt = bytes(16)
    salted = hashlib.pbkdf2_hmac("sha256", PASSWORD.encode(), salt, SCRAM_ITERATIONS)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    text = [base64.b64encode(part).decode() for part in (salt, stored, server)]
    return f"SCRAM-SHA-256${SCRAM_ITERATIONS}:{text[0]}${text[1]}:{text[2]}"


@cache
def make_certificate(directory: Path) -> dict[str, Path] | None:
    """A certificate that signs itself, and its key, for whoever may enter ``directory``; None without openssl."""
    program = shutil.which("openssl")
    if program is None:
        return None
    files = {"certificate": directory / "tls.crt", "key": directory / "tls.key"}
    command = [program, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", "/CN=localhost"]
    command += ["-out", str(files["certificate"]), "-keyout", str(files["key"])]
    subprocess.run(command, check=True, capture_output=True)
    files["key"].chmod(0o644)
    return files


def start_postgres(directory: Path, port: int = 0, version: int | None = None) -> ThrowawayPostgres:
    """The server all poolers share: role and database of the benchmark, MD5 on TCP."""
    postgres = ThrowawayPostgres(
        directory,
        version=version,
        port=port,
        settings={"password_encryption": "md5", "shared_buffers": "128MB"},
        hba=("host all all 127.0.0.1/32 md5", "local all all md5"),
    )
    try:
        postgres.start()
        postgres.sql(f"CREATE ROLE {USER} LOGIN PASSWORD '{PASSWORD}'")
        for database, _ in POOLS:
            postgres.sql(f"CREATE DATABASE {database} OWNER {USER}")
        postgres.sql(
            "CREATE TABLE bench_rows AS SELECT id, 0 AS value FROM generate_series(0, 4999) AS id;"
            f" ALTER TABLE bench_rows ADD PRIMARY KEY (id); ALTER TABLE bench_rows OWNER TO {USER};"
            f" CREATE TABLE bench_copied (line text); ALTER TABLE bench_copied OWNER TO {USER}",
            database=DATABASE,
        )
    except BaseException:
        postgres.remove()
        raise
    return postgres
