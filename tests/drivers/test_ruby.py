"""Ruby: pg, over libpq."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable

import driver_programs
import pytest

pytestmark = [pytest.mark.toolchain, pytest.mark.timeout(1200)]

PG = driver_programs.Program(
    driver="ruby-pg",
    language="Ruby",
    folder="ruby_pg",
    needs=("ruby",),
    run=("ruby", "-w", "pg.rb"),
)


def test_pg(prove: Callable[[driver_programs.Program], None]) -> None:
    if shutil.which("ruby") and subprocess.run(["ruby", "-e", "require 'pg'"], capture_output=True).returncode:
        driver_programs.left_out[PG.language, PG.driver] = "ruby has no pg"
        pytest.skip("ruby has no pg")
    prove(PG)
