"""What ``python -m bench`` starts and counts."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import bench_package
import pytest
from eventually import eventually

bench_package.make_importable()

from bench import __main__ as program  # noqa: E402
from bench import procfs, targets  # noqa: E402

#: Where there is none.
SERVER: Any = SimpleNamespace(host="127.0.0.1", port=5432, socket_dir=Path("/run/postgresql"))

#: Says a line when its child runs, both until their input ends.
PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
print(child.pid, flush=True)
sys.stdin.read()
child.communicate()
"""


def test_processes_are_counted_with_their_children() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert procfs.families([parent.pid]) == {parent.pid, child}
        assert procfs.families([parent.pid, child]) == {parent.pid, child}

        def are_parts() -> bool:
            private, alone = procfs.memory_kib([child], without="Pss_File"), procfs.memory_kib([child])
            return 0 < private < alone < procfs.memory_kib([parent.pid])

        eventually(are_parts, message="sizes of a process that is starting yet")
    finally:
        parent.communicate()


def test_processes_that_were_waited_for_still_count() -> None:
    before = procfs.cpu_seconds([os.getpid()])
    subprocess.run([sys.executable, "-c", "import time\nwhile time.process_time() < 0.2: pass"], check=True)
    assert procfs.cpu_seconds([os.getpid()]) - before >= 0.2 - 1.5 * procfs.TICK


def test_sockets_that_listen_at_one_port() -> None:
    with socket.socket() as first, socket.socket() as second:
        for one in (first, second):
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        first.bind(("127.0.0.1", 0))
        port = first.getsockname()[1]
        assert procfs.listening_sockets(port) == 0
        first.listen()
        assert procfs.listening_sockets(port) == 1
        second.bind(("127.0.0.1", port))
        second.listen()
        assert procfs.listening_sockets(port) == 2


def fake_pgbouncer(directory: Path, version: str) -> str:
    program = directory / "pgbouncer"
    program.write_text(f"#!/bin/sh\necho 'PgBouncer {version}'\n")
    program.chmod(0o755)
    return str(program)


def files_of(pooler: targets.PgBouncer) -> list[ConfigParser]:
    found = []
    for _, file in pooler.commands:
        found.append(ConfigParser(interpolation=None))
        found[-1].read(file)
    return found


def test_one_pgbouncer_shares_with_nobody(tmp_path: Path) -> None:
    (file,) = files_of(targets.PgBouncer("pgbouncer", fake_pgbouncer(tmp_path, "1.25.0"), tmp_path, SERVER, 1))
    assert "so_reuseport" not in file["pgbouncer"] and "peers" not in file
    assert "pool_size=40" in file["databases"]["benchdb"]


def test_several_pgbouncers_are_peers_with_their_parts_of_the_pools(tmp_path: Path) -> None:
    pooler = targets.PgBouncer("pgbouncer", fake_pgbouncer(tmp_path, "1.25.0"), tmp_path, SERVER, 4)
    files = files_of(pooler)
    assert [file["pgbouncer"]["peer_id"] for file in files] == ["1", "2", "3", "4"]
    for number, file in enumerate(files, 1):
        assert file["pgbouncer"]["so_reuseport"] == "1"
        assert set(file["peers"]) == {"1", "2", "3", "4"}
        assert file["peers"][str(number)] == f"host={file['pgbouncer']['unix_socket_dir']} port={pooler.port}"
        assert "pool_size=10" in file["databases"]["benchdb"] and "pool_size=1" in file["databases"]["smalldb"]
    assert len({file["pgbouncer"]["unix_socket_dir"] for file in files}) == 4


def test_old_pgbouncers_do_not_know_each_other_and_the_table_says_so(tmp_path: Path) -> None:
    pooler = targets.PgBouncer("pgbouncer", fake_pgbouncer(tmp_path, "1.18.0"), tmp_path, SERVER, 2)
    assert all("peers" not in file and file["pgbouncer"]["so_reuseport"] == "1" for file in files_of(pooler))
    assert pooler.description == "PgBouncer 1.18, 2 processes of 1/2 pool each, not peers"


@pytest.mark.parametrize("numbers", [["0"], ["2", "2"]])
def test_numbers_of_workers_that_make_no_sense(numbers: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        program.parse(["--workers", *numbers])
    assert "--workers takes different numbers from 1" in capsys.readouterr().err
