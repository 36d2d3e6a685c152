"""``pgdoorman generate`` before real servers: what it writes starts as it is, and who may not ask is told what to do."""

from __future__ import annotations

import os
import re
import shlex
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from fix_certs import Certificates
from fix_doorman import Doorman
from fix_leaks import looked_after
from pace import patience
from ports import free_port
from throwaway_postgres import ThrowawayPostgres

METHODS = ("trust", "md5", "scram-sha-256")
BOSS, BOSS_PASSWORD = "the boss", "boss's password"
USER, PASSWORD = 'o"neil, x', "user's password"
DATABASE = 'it\'s "quoted".db \\é'


class Server(ThrowawayPostgres):
    """A cluster that asks everybody who comes by TCP for a password by one method."""

    def __init__(self, directory: Path, method: str) -> None:
        hba = [f"host all all {address} {method}" for address in ("127.0.0.1/32", "::1/128")]
        super().__init__(directory, hba=["local all all trust", *hba])
        self.method = method

    def start(self) -> None:
        super().start()
        looked_after.add(self.pid)

    def populate(self) -> None:
        for role, password, more in ((BOSS, BOSS_PASSWORD, "SUPERUSER"), (USER, PASSWORD, "")):
            text = f"CREATE ROLE {quoted(role)} LOGIN {more}"
            if self.method != "trust":
                text = f"SET password_encryption = '{self.method}'; {text} PASSWORD {literal(password)}"
            self.sql(text)
        self.sql(f"CREATE DATABASE {quoted(DATABASE)} OWNER {quoted(USER)}")
        self.sql("CREATE DATABASE pgbouncer; CREATE DATABASE closed ALLOW_CONNECTIONS false")
        self.sql("CREATE ROLE plain LOGIN; CREATE ROLE nobody_logs_in")
        self.sql(f"CREATE ROLE expired LOGIN PASSWORD {literal(PASSWORD)} VALID UNTIL '2020-01-01'")


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


@pytest.fixture(scope="module", params=METHODS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("server"), request.param) as cluster:
        assert isinstance(cluster, Server)
        cluster.populate()
        yield cluster


@pytest.fixture(scope="module")
def scram(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("scram"), "scram-sha-256") as cluster:
        assert isinstance(cluster, Server)
        cluster.populate()
        yield cluster


def generate(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*Doorman.command(), "generate", *arguments],
        cwd=cwd,
        env=Doorman.environment() | environment,
        text=True,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=patience(30),
    )


def asked(server: Server, cwd: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """As the superuser, unless the environment says other."""
    as_boss = {"PGHOST": server.host, "PGPORT": str(server.port), "PGUSER": BOSS}
    if server.method != "trust":
        as_boss["PGPASSWORD"] = BOSS_PASSWORD
    return generate(*arguments, cwd=cwd, **as_boss | environment)


class Running(Doorman):
    """The pooler on a file as it was written; only the port is another, since tests share a machine."""

    def __init__(self, path: Path) -> None:
        self.port = free_port()
        text = path.read_text("utf-8")
        self.text, changed = re.subn(r"(?m)^( *port(?: =|:)) 6432$", rf"\1 {self.port}", text)
        assert changed == 1
        super().__init__(path.parent, {"general": {"host": "127.0.0.1", "port": self.port}})
        self.config_path = path

    def write_config(self, config: dict[str, Any]) -> None:
        self.config_path.write_text(self.text, "utf-8")


@pytest.fixture
def running() -> Iterator[Any]:
    started: list[Running] = []

    def start(path: Path) -> Running:
        started.append(Running(path))
        started[-1].start()
        return started[-1]

    yield start
    for doorman in started:
        doorman.finish()


def checked(path: Path) -> None:
    """The file passes the test as it is, and nothing is odd about it."""
    done = subprocess.run(
        [*Doorman.command(), "-t", str(path)],
        cwd=path.parent, env=Doorman.environment(), capture_output=True, text=True, timeout=patience(20),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stderr.splitlines() if "running as root" not in line] == []


@pytest.mark.parametrize("name", ["pg_doorman.toml", "pg_doorman.yaml"])
def test_the_result_starts_as_it_is(server: Server, tmp_path: Path, running: Any, name: str) -> None:
    done = asked(server, tmp_path, "-o", name)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert 'database "pgbouncer" left out' in done.stderr
    assert 'role "expired" left out' in done.stderr
    path = tmp_path / name
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    checked(path)
    doorman = running(path)
    for user, password in ((USER, PASSWORD), (BOSS, BOSS_PASSWORD)):
        with doorman.connect(dbname=DATABASE, user=user, password=password) as connection:
            found = connection.execute("SELECT current_user, current_database()").fetchone()
            assert found == (user, DATABASE)
    # Whom the server lets in without a password is served, as long as it does.
    with_plain = {"dbname": "postgres", "user": "plain", "password": "x"}
    if server.method == "trust":
        with doorman.connect(**with_plain) as connection:
            assert connection.execute("SELECT current_user").fetchone() == ("plain",)
    else:
        assert 'role "plain" left out: it has no password stored' in done.stderr
        with pytest.raises(psycopg.OperationalError):
            doorman.connect(dbname=DATABASE, user=USER, password="wrong")
        with pytest.raises(psycopg.OperationalError):
            doorman.connect(**with_plain)
    for database in ("closed", "template1"):
        with pytest.raises(psycopg.OperationalError):
            doorman.connect(dbname=database, user=USER, password=PASSWORD)


def keys(text: str) -> dict[str, str]:
    """Assignments of TOML outside comments, the last of each name."""
    return dict(re.findall(r"(?m)^(\w+) = (.*)$", text))


def test_each_key_has_a_line_of_comment(scram: Server, tmp_path: Path) -> None:
    done = asked(scram, tmp_path)
    general = done.stdout.partition("[general]\n")[2].partition("\n[pools.")[0]
    for block in general.strip().split("\n\n"):
        comment, key = block.split("\n")
        assert comment.startswith("# ") and re.match(r"(# )?\w+ = ", key)
    bare = asked(scram, tmp_path, "--no-comments").stdout
    assert "#" not in bare
    assert set(keys(bare)) == set(keys(done.stdout))


def test_what_is_asked_for_is_written(scram: Server, tmp_path: Path) -> None:
    done = asked(scram, tmp_path, "-s", "--pool-size", "7", "--server-host", "db.example.org", "--no-comments")
    found = keys(done.stdout)
    assert found["pool_mode"] == '"session"'
    assert (found["pool_size"], found["server_host"]) == ("7", '"db.example.org"')
    assert (found["server_port"], found["port"]) == (str(scram.port), "6432")
    assert len(found["admin_password"]) > 20
    # Options win over the environment.
    options = ["--host", scram.host, "-p", str(scram.port), "-u", BOSS, "--password", BOSS_PASSWORD, "-d", DATABASE]
    wrong = {"PGHOST": "192.0.2.1", "PGPORT": "1", "PGUSER": "x", "PGPASSWORD": "x", "PGDATABASE": "x"}
    done = asked(scram, tmp_path, *options, "-f", "yaml", **wrong)
    assert done.returncode == 0, done.stderr
    assert '    server_database: "postgres"\n' in done.stdout


def test_by_unix_socket(scram: Server, tmp_path: Path) -> None:
    done = asked(scram, tmp_path, "--host", str(scram.socket_dir), "-u", "postgres", PGPASSWORD="")
    assert done.returncode == 0, done.stderr
    assert keys(done.stdout)["server_host"] == f'"{scram.socket_dir}"'
    encrypted = asked(scram, tmp_path, "--host", str(scram.socket_dir), "--ssl")
    assert encrypted.returncode == 1
    assert "there is no TLS on the unix socket" in encrypted.stderr
    # The server may know us by our account there: nobody is trusted for that.
    assert 'role "plain" left out' in done.stderr
    assert "trust" not in "".join(line for line in done.stdout.splitlines(True) if not line.startswith("#"))


def test_who_may_not_read_passwords_is_told_what_to_grant(scram: Server, tmp_path: Path) -> None:
    as_user = {"PGUSER": USER, "PGPASSWORD": PASSWORD}
    done = asked(scram, tmp_path, "-o", "file.toml", **as_user)
    assert (done.returncode, done.stdout) == (1, "")
    assert not (tmp_path / "file.toml").exists()
    assert "Traceback" not in done.stderr
    grant = re.search(r"GRANT .* TO .*\"(?=\.)", done.stderr)
    assert grant is not None, done.stderr
    scram.sql(grant[0])
    try:
        done = asked(scram, tmp_path, **as_user)
        assert done.returncode == 0, done.stderr
        assert keys(done.stdout)["username"] == f'"{BOSS}"'
    finally:
        scram.sql(grant[0].replace("GRANT", "REVOKE").replace(" TO ", " FROM "))


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"PGPASSWORD": "wrong"}, ["password authentication failed"]),
        ({"PGPASSWORD": ""}, ["password authentication failed", "no password was given"]),
        ({"PGDATABASE": "not there"}, ['database "not there" does not exist']),
        ({"PGHOST": "/nowhere"}, ["No such file or directory"]),
        ({"PGPORT": str(free_port())}, ["Connection refused"]),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_went_wrong_is_said(scram: Server, tmp_path: Path, environment: dict[str, str], words: list[str]) -> None:
    done = asked(scram, tmp_path, **environment)
    assert (done.returncode, done.stdout) == (1, "")
    assert "Traceback" not in done.stderr and BOSS_PASSWORD not in done.stderr
    for word in words:
        assert word in done.stderr


def test_a_refusal_by_unix_socket_is_told(scram: Server, tmp_path: Path) -> None:
    """The library says goodbye to a server that has closed; its failure must not hide the refusal."""
    done = asked(scram, tmp_path, "--host", str(scram.socket_dir), PGDATABASE="not there")
    assert 'database "not there" does not exist' in done.stderr


def test_by_tls(scram: Server, tmp_path: Path, certs: Certificates, running: Any) -> None:
    done = asked(scram, tmp_path, "--ssl")
    assert (done.returncode, done.stdout) == (1, "")
    assert "Server refuses SSL" in done.stderr
    hba = scram.hba
    scram.install_file("server.crt", certs.server.certificate.read_bytes())
    scram.install_file("server.key", certs.server.private_key.read_bytes())
    scram.configure(ssl="on", ssl_cert_file=str(scram.home / "server.crt"), ssl_key_file=str(scram.home / "server.key"))
    scram.write_hba(["local all all trust", "hostssl all all 127.0.0.1/32 scram-sha-256"])
    scram.restart()
    try:
        done = asked(scram, tmp_path)
        assert done.returncode == 1
        assert "--ssl" in done.stderr
        done = asked(scram, tmp_path, "--ssl", "-o", "tls.toml")
        assert done.returncode == 0, done.stderr
        path = tmp_path / "tls.toml"
        assert keys(path.read_text("utf-8"))["server_tls_mode"] == '"require"'
        checked(path)
        doorman = running(path)
        with doorman.connect(dbname=DATABASE, user=USER, password=PASSWORD) as connection:
            encrypted = connection.execute("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").fetchone()
            assert encrypted == (True,)
    finally:
        scram.configure(ssl="off")
        scram.write_hba(hba)
        scram.restart()


@pytest.mark.parametrize("form", ["toml", "yaml"])
@pytest.mark.parametrize("comments", [[], ["--no-comments"]], ids=["comments", "bare"])
def test_the_reference_needs_no_server(tmp_path: Path, form: str, comments: list[str]) -> None:
    name = f"reference.{form}"
    done = generate("--reference", "-o", name, *comments, cwd=tmp_path, PGHOST="/nowhere")
    assert done.returncode == 0, done.stderr
    checked(tmp_path / name)
    text = (tmp_path / name).read_text("utf-8")
    assert ("#" in text) == (not comments)
    assert ("\n  port: 5432" in text) == (form == "yaml")


def test_a_file_that_can_not_be_written(tmp_path: Path) -> None:
    done = generate("--reference", "-o", "no/such/directory.toml", cwd=tmp_path)
    assert done.returncode == 1
    assert "could not write no/such/directory.toml: No such file or directory" in done.stderr


def test_without_standard_output(tmp_path: Path) -> None:
    command = shlex.join([*Doorman.command(), "generate", "--reference"])
    done = subprocess.run(
        ["sh", "-c", f"{command} >&-"], cwd=tmp_path, env=Doorman.environment(), stdin=subprocess.DEVNULL, text=True,
        stderr=subprocess.PIPE, timeout=patience(30),
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.endswith("could not write standard output: it is closed\n")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [["-p", "0"], ["-p", "http"], ["--pool-size", "0"], ["-f", "xml"], ["--russian-comments"], ["--ru"], ["more"]],
    ids=" ".join,
)
def test_bad_arguments(tmp_path: Path, arguments: list[str]) -> None:
    done = generate(*arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr


def test_a_password_is_not_in_the_help(tmp_path: Path) -> None:
    done = generate("--help", cwd=tmp_path, PGPASSWORD="my password")
    assert done.returncode == 0
    assert "my password" not in done.stdout
    assert os.environ.get("PGPASSWORD", "") != "my password"


def test_options_before_the_command(tmp_path: Path) -> None:
    """As in pg_doorman: they are read, and have nothing to do."""
    done = subprocess.run(
        [*Doorman.command(), "-l", "debug", "some.toml", "generate", "--reference"],
        cwd=tmp_path, env=Doorman.environment(), capture_output=True, text=True, timeout=patience(20),
    )  # fmt: skip
    assert done.returncode == 0
    assert "[general]" in done.stdout
