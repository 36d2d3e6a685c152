"""Where the log of a running pooler goes, what it says by itself, and that nobody waits for it."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import toml
from eventually import eventually, stays
from fix_doorman import WORKERS, Doorman, MakeDoorman, base_config, merged
from fix_postgres import Postgres
from pace import patience
from ports import free_port
from wire_client import WireError, query


def text_of(path: Path) -> str:
    return path.read_text("utf-8") if path.exists() else ""


def logged(path: Path, pattern: str) -> str:
    """The first line of a file that matches, which it must come to have."""
    found = eventually(lambda: re.search(f".*{pattern}.*", text_of(path)), message=f"{path.name} has {pattern!r}")
    assert found is not None
    return found[0]


def one_client(doorman: Doorman) -> None:
    with doorman.wire() as client:
        assert client.value("SELECT 1") == "1"


# A file


@pytest.mark.parametrize("name", ["SIGUSR1", "SIGHUP"])
def test_a_file_that_is_rotated(make_doorman: MakeDoorman, tmp_path: Path, name: str) -> None:
    path, moved = tmp_path / "own.log", tmp_path / "own.log.1"
    doorman = make_doorman({"general": {"log_file": str(path)}})
    one_client(doorman)
    logged(path, r"INFO (worker \d: )?pgdoorman_lib/client/connection\.py.*client connected")
    assert path.stat().st_mode & 0o007 == 0
    path.rename(moved)
    one_client(doorman)
    eventually(lambda: text_of(moved).count("client disconnected") == 2)
    doorman.send_signal(getattr(signal, name))
    logged(path, "opened again" if name == "SIGUSR1" else "configuration reloaded")
    before = text_of(moved)
    one_client(doorman)
    logged(path, "client connected")
    assert text_of(moved) == before
    assert doorman.log_text() == ""
    assert doorman.stop() == 0
    assert "pgdoorman has ended" in text_of(path)


def test_a_file_that_can_not_be_opened_again(make_doorman: MakeDoorman, tmp_path: Path) -> None:
    """The log goes on where it was, and says so."""
    directory = tmp_path / "logs"
    directory.mkdir()
    doorman = make_doorman({"general": {"log_file": str(directory / "own.log")}})
    directory.rename(tmp_path / "moved")
    doorman.send_signal(signal.SIGUSR1)
    logged(tmp_path / "moved" / "own.log", f"could not open {directory}/own.log again, .*No such file or directory")
    one_client(doorman)
    logged(tmp_path / "moved" / "own.log", "client connected")


def run(tmp_path: Path, postgres: Postgres, **general: Any) -> subprocess.CompletedProcess[str]:
    path = tmp_path / "pg_doorman.toml"
    path.write_text(toml.dumps(merged(base_config(postgres, free_port()), {"general": general})))
    return subprocess.run(
        [*Doorman.command(), str(path)],
        cwd=tmp_path, env=Doorman.environment(), capture_output=True, text=True, timeout=patience(30),
    )  # fmt: skip


def test_a_file_that_can_not_be_opened_refuses_the_start(tmp_path: Path, postgres: Postgres) -> None:
    done = run(tmp_path, postgres, log_file=str(tmp_path / "no" / "own.log"))
    assert done.returncode == 78
    assert f"general.log_file: could not open '{tmp_path}/no/own.log': No such file or directory" in done.stderr


def test_why_a_start_fails_stands_on_stderr_too(tmp_path: Path, postgres: Postgres) -> None:
    path = tmp_path / "own.log"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = run(tmp_path, postgres, log_file=str(path), port=taken.getsockname()[1])
    assert done.returncode == 1
    assert "in use" in done.stderr
    assert "in use" in path.read_text()


def test_the_config_test_makes_no_file(tmp_path: Path, postgres: Postgres) -> None:
    path = tmp_path / "pg_doorman.toml"
    for directory, warned in ((tmp_path, False), (tmp_path / "no", True)):
        over = {"general": {"log_file": str(directory / "own.log")}}
        path.write_text(toml.dumps(merged(base_config(postgres, free_port()), over)))
        done = subprocess.run(
            [*Doorman.command(), "-t", str(path)],
            cwd=tmp_path, env=Doorman.environment(), capture_output=True, text=True, timeout=patience(30),
        )  # fmt: skip
        assert done.returncode == 0
        assert ("general.log_file" in done.stderr) == warned
        assert not (tmp_path / "own.log").exists()


# Syslog


class Syslog:
    """The syslog of a machine: a datagram socket at a path, which takes a few messages and then no more."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.received: list[str] = []
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.setblocking(False)

    def read(self) -> list[str]:
        """All that has come."""
        while True:
            try:
                self.received.append(self.socket.recv(1 << 17).decode())
            except BlockingIOError:
                return self.received

    def wait(self, pattern: str) -> str:
        def match() -> str | None:
            return next((text for text in self.read() if re.search(pattern, text, re.DOTALL)), None)

        found = eventually(match, message=f"syslog has {pattern!r}")
        assert found is not None
        return found

    def close(self) -> None:
        self.socket.close()
        self.path.unlink()


@pytest.fixture
def syslogs(short_directory: Path) -> Iterator[Any]:
    made: list[Syslog] = []

    def make() -> Syslog:
        made.append(Syslog(short_directory / "log"))
        return made[-1]

    yield make
    for syslog in made:
        syslog.socket.close()


def to_syslog(directory: Path) -> dict[str, Any]:
    return {"general": {"syslog_prog_name": "pooler", "syslog_socket": str(directory / "log")}}


def test_syslog(make_doorman: MakeDoorman, syslogs: Any, short_directory: Path) -> None:
    syslog = syslogs()
    doorman = make_doorman(to_syslog(short_directory))
    syslog.wait("is ready")  # and so there is room for more
    one_client(doorman)
    # 8 * LOG_USER + LOG_INFO, the name and process, no time of ours.
    line = syslog.wait(
        r"^<14>pooler\[\d+\]: (worker \d: )?pgdoorman_lib/client/connection\.py(:\d+)?: \[app@testdb #\d+\] client connected"
    )
    (pid,) = re.findall(r"^<14>pooler\[(\d+)\]", line)
    assert int(pid) in [row["process"] for row in doorman.admin("SHOW WORKERS")]
    with pytest.raises(WireError):
        doorman.wire(password="wrong")
    syslog.wait(r"^<12>pooler.*closing client")
    # It is started anew.
    syslog.close()
    syslog = syslogs()
    one_client(doorman)
    syslog.wait("client connected")
    assert doorman.log_text() == ""


def test_a_full_syslog_stops_nobody(make_doorman: MakeDoorman, syslogs: Any, short_directory: Path) -> None:
    syslog = syslogs()
    doorman = make_doorman(to_syslog(short_directory))
    for _ in range(300):
        one_client(doorman)
    assert len(syslog.read()) < 300
    one_client(doorman)
    syslog.wait(
        r"^<12>pooler\[\d+\]: (worker \d: )?pgdoorman_lib/log/sinks\.py.*\d+ lines of the log were lost: syslog \(.*/log\) was full"
    )


def test_no_syslog_stops_nobody(make_doorman: MakeDoorman, syslogs: Any, short_directory: Path) -> None:
    doorman = make_doorman(to_syslog(short_directory))
    doorman.wait_log(r"warn .*syslog is not to be reached at .*/log \(No such file or directory\)")
    one_client(doorman)
    syslog = syslogs()
    one_client(doorman)
    syslog.wait(r"\d+ lines of the log were lost: syslog")
    syslog.wait("client connected")


def test_a_file_and_syslog(make_doorman: MakeDoorman, syslogs: Any, short_directory: Path) -> None:
    syslog = syslogs()
    path = short_directory / "own.log"
    doorman = make_doorman(merged(to_syslog(short_directory), {"general": {"log_file": str(path)}}))
    syslog.wait("is ready")  # and so there is room for more
    one_client(doorman)
    logged(path, "client connected")
    syslog.wait("client connected")


# Fields


def entries(doorman: Doorman) -> list[dict[str, Any]]:
    return [json.loads(line) for line in doorman.log_lines]


def entry(doorman: Doorman, words: str) -> dict[str, Any]:
    doorman.wait_log(words)
    return next(found for found in entries(doorman) if re.search(words, found["message"]))


def test_structured_lines_say_whom_they_are_about(make_doorman: MakeDoorman, short_directory: Path) -> None:
    doorman = make_doorman({"general": {"unix_socket_dir": str(short_directory)}}, arguments=("-F", "structured"))
    with doorman.wire() as client:
        assert client.value("SELECT 1") == "1"
        host, port = client.socket.getsockname()
    address = f"{host}:{port}"
    for words in ("client connected", "client disconnected"):
        found = entry(doorman, words)
        assert {name: found.get(name) for name in ("user", "database", "address")} == {
            "user": "app", "database": "testdb", "address": address,
        }  # fmt: skip
        assert WORKERS <= found["id"] < 2 * WORKERS, "the first of one of the workers"
    with pytest.raises(WireError):
        doorman.wire("testdb", "nobody]@x", "wrong")
    found = entry(doorman, "closing client")
    assert (found["user"], found["database"], found["level"]) == ("nobody]@x", "testdb", "WARN")
    assert found["address"].startswith("127.0.0.1:") and "id" not in found
    found = entry(doorman, "new server connection")
    assert (found["user"], found["database"]) == ("app", "testdb")
    assert "id" not in found and "address" not in found
    doorman.admin("SHOW VERSION")
    assert entry(doorman, "console client connected")["user"] == "admin"
    assert "user" not in entry(doorman, "is ready")


# What it says by itself


NUMBERS = r"p50=\d+\.\d\d p90=\d+\.\d\d p95=\d+\.\d\d p99=\d+\.\d\d"


def test_each_pool_with_clients_has_a_line_every_15_seconds(make_doorman: MakeDoorman) -> None:
    began = time.monotonic()
    quiet = make_doorman({"general": {"log_stats": False}})
    doorman = make_doorman()
    pattern = (
        r" INFO pgdoorman_lib/metrics/summary\.py:\d+: \[app@testdb\] qps=[1-9]\d* tps=[1-9]\d*"
        r" \| clients=2 active=1 idle=1 wait=0 \| servers=\d+ active=1 idle=\d+"
        rf" \| query_ms {NUMBERS} \| xact_ms {NUMBERS} \| wait_ms {NUMBERS} \| avg_wait=\d+\.\d{{3}}ms$"
    )
    with doorman.wire() as client, doorman.wire(), quiet.wire():
        for _ in range(60):
            client.ask_query("SELECT 1")
        client.ask_query("BEGIN")
        doorman.wait_log(pattern, timeout=30)
        assert time.monotonic() - began > 14
        lines = [line for line in doorman.log_lines if " qps=" in line]
        assert len(lines) == 1, lines  # the other pools have nobody
        assert "qps=" not in quiet.log_text()
        client.ask_query("COMMIT")


def test_a_long_wait_for_a_server_is_warned_of(make_doorman: MakeDoorman) -> None:
    doorman = make_doorman()
    with doorman.wire("onedb") as holder, doorman.wire("onedb") as waiter:
        for seconds in (0.1, 0.7):
            holder.ask_query("BEGIN")
            waiter.send(query("SELECT 1"))
            eventually(lambda: doorman.pool("onedb")["cl_waiting"] == 1)
            waited = time.monotonic()
            eventually(lambda: time.monotonic() - waited > seconds)  # noqa: B023
            if seconds < 0.5:
                assert "was waited for" not in doorman.log_text()
            holder.ask_query("COMMIT")
            waiter.read_ready()
        line = doorman.wait_log(
            r"warn .*\[app@onedb\] a server was waited for \d+ ms: 1 of 1 are in use, \d+ more wait"
        )
        waited_ms = re.search(r"waited for (\d+) ms", line)
        assert waited_ms is not None and 600 <= int(waited_ms[1]) < 30_000
        assert stays(lambda: doorman.log_text().count("was waited for") == 1, seconds=0.2)
