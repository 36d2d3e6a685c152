"""A program's run on PostgreSQL itself, which the suite of the other build need not repeat."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import driver_programs
import pytest
from driver_programs import Program

SAYS = """
import os
with open(os.environ["RUNS"], "a") as runs:
    print(os.environ["PGDATABASE"], file=runs)
print("ok something {number}")
print("done")
"""


def test_a_run_on_postgres_is_repeated_when_anything_is_another(
    prove: Callable[[Program], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver_programs, "PROGRAMS", tmp_path / "programs")
    monkeypatch.setattr(driver_programs, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(driver_programs, "table", {})
    source = tmp_path / "programs" / "python" / "script.py"
    source.parent.mkdir(parents=True)
    runs = tmp_path / "runs"
    program = Program("some", "Python", "python", (sys.executable, "script.py"), environment={"RUNS": str(runs)})

    def databases(program: Program = program) -> list[str]:
        prove(program)
        said = runs.read_text().split()
        runs.unlink()
        return said

    source.write_text(SAYS.format(number=1))
    assert databases() == ["testdb", "two"]
    assert databases() == ["two"]
    elsewhere = tmp_path / "python"
    elsewhere.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    elsewhere.chmod(0o755)
    with monkeypatch.context() as other_build:
        other_build.setattr(sys, "executable", str(elsewhere))
        assert databases(replace(program, run=(sys.executable, "script.py"))) == ["two"]
    source.write_text(SAYS.format(number=2))
    assert databases() == ["testdb", "two"]
    assert driver_programs.table["Python", "some"]["directly"].passed == {"something": 2}
    monkeypatch.setattr(driver_programs.metadata, "distributions", list)
    assert databases() == ["testdb", "two"]
