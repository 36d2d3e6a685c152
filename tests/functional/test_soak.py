"""A minute of ``python -m bench.soak``: every kind of client, every trouble, and nothing wrong behind it."""

from __future__ import annotations

import shlex
import subprocess
import sys

import bench_package
import pytest
from fix_doorman import WORKERS, Doorman


@pytest.mark.slow
@pytest.mark.postgres
@pytest.mark.timeout(600)
def test_a_minute_of_everything() -> None:
    options = ["--minutes", "1", "--workers", str(WORKERS), "--pgdoorman", shlex.join(Doorman.command())]
    answer = subprocess.run(
        [sys.executable, "-m", "bench.soak", *options],
        cwd=bench_package.ROOT,
        env=Doorman.environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "all was as it should be" in answer.stdout
