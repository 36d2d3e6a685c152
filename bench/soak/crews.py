"""The processes of clients: which there are, and how they are told what to do."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from throwaway_postgres import PostgresNotFound, find_program

from bench.soak.ground import MIX, PASSWORD, ROUGH, TIGHT, USER
from bench.soak.workers import CHARACTERS

ROOT = Path(__file__).resolve().parent.parent.parent

#: Of each kind: its part of the clients, their databases in turn, and their ways to the pooler.
PSYCOPG = {"part": 0.5, "databases": (MIX, MIX, TIGHT, MIX, MIX, ROUGH, MIX), "characters": CHARACTERS}
ASYNCPG = {"part": 0.3, "databases": (MIX, TIGHT, MIX, MIX, ROUGH, MIX, MIX), "characters": CHARACTERS}
PG8000 = {"part": 0.15, "databases": (MIX, TIGHT, MIX), "characters": ("clean", "crumbs", "rough", "clean", "mute")}
PGBENCH = {"part": 0.05, "databases": (MIX, TIGHT), "characters": ("clean", "slow", "rough")}
KINDS = {"psycopg": PSYCOPG, "asyncpg": ASYNCPG, "pg8000": PG8000, "pgbench": PGBENCH}


class Crew:
    """One process."""

    def __init__(self, work: dict[str, Any]) -> None:
        self.name = str(work["kind"])
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bench.soak.crew", json.dumps(work)], cwd=ROOT, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        self.hear()

    def tell(self, word: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()

    def hear(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the {self.name} clients' process has ended")
        said: dict[str, Any] = json.loads(line)
        return said

    def end(self) -> dict[str, Any]:
        """Have all clients leave; what they have seen."""
        self.tell("end")
        report = self.hear()
        self.process.communicate()
        return report

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


def available(kind: str) -> bool:
    if kind != "pgbench":
        return find_spec(kind) is not None
    try:
        find_program(kind)
    except PostgresNotFound:
        return False
    return True


def make_crews(port: int, seed: int, clients: int) -> list[Crew]:
    """One for each kind of client there is; says which is missing."""
    crews = []
    for number, (kind, what) in enumerate(KINDS.items(), 1):
        if not available(kind):
            print(f"soak: {kind} is not installed, so it is left out", file=sys.stderr)
            continue
        work = {"kind": kind, "crew": number, "seed": seed, "port": port, "user": USER, "password": PASSWORD}
        part = what["part"]
        assert isinstance(part, float)
        work |= {"clients": max(1, round(clients * part)), **{k: what[k] for k in ("databases", "characters")}}
        crews.append(Crew(work))
    return crews


def all_rest(crews: Sequence[Crew]) -> list[str]:
    """Have them rest; who does not, and what that one does."""
    for crew in crews:
        crew.tell("rest")
    return [f"does not come to rest: {who}" for crew in crews for who in crew.hear()["busy"]]
