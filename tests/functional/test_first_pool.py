"""What docs/first-pool.md tells to type works, step by step, as it stands there; only the ports are others."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from eventually import eventually
from fix_doorman import Doorman
from fix_postgres import Postgres
from pace import patience
from ports import free_port
from throwaway_postgres import find_program

PAGE = Path(__file__).resolve().parents[2] / "docs" / "first-pool.md"


class Reader:
    """A new user, who types one block after the other in one directory."""

    def __init__(self, home: Path, postgres: Postgres) -> None:
        self.home = home
        self.ports = {"5432": str(postgres.port), "6432": str(free_port())}
        self.blocks = re.findall(r"```sh\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
        commands = home / "bin"
        commands.mkdir()
        self.command("pgdoorman", f'exec "{sys.executable}" -m pgdoorman "$@"')
        self.command("psql", f'exec "{find_program("psql")}" -X "$@"')
        self.environment = Doorman.environment() | {"PATH": f"{commands}:{os.environ['PATH']}"}

    def command(self, name: str, text: str) -> None:
        path = self.home / "bin" / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    def script(self, block: str) -> list[str]:
        for number, other in self.ports.items():
            block = block.replace(number, other)
        return ["sh", "-e", "-c", block]

    def types(self, block: str) -> str:
        done = subprocess.run(
            self.script(block), cwd=self.home, env=self.environment, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=patience(40),
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def reader(postgres: Postgres, tmp_path: Path) -> Iterator[Reader]:
    yield Reader(tmp_path, postgres)


def test_the_page(reader: Reader) -> None:
    write, check, start, connect, look = reader.blocks
    reader.types(write)
    path = reader.home / "pg_doorman.toml"
    path.write_text(path.read_text("utf-8").replace("port = 6432", f"port = {reader.ports['6432']}"), "utf-8")
    assert "test is successful" in reader.types(check)
    log_path = reader.home / "log"
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            reader.script(f"exec {start}"), cwd=reader.home, env=reader.environment,
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        eventually(
            lambda: "is ready" in log_path.read_text(), timeout=60, message=f"it is ready: {log_path.read_text()}"
        )
        assert f"listening on 0.0.0.0:{reader.ports['6432']}" in log_path.read_text()
        assert "(1 row)" in reader.types(connect)
        assert re.search(r"postgres +\| postgres +\| transaction", reader.types(look))
    finally:
        process.terminate()
        assert process.wait(timeout=patience(30)) == 0
    assert "Traceback" not in log_path.read_text()
