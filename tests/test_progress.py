"""What a long run tells of itself: each failure when it happens, and in tox nothing but whole lines that name the suite."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from pace import patience

TESTS = """
import pytest

def test_passes():
    pass

def test_fails():
    assert False

@pytest.mark.skip
def test_skipped():
    pass

@pytest.mark.xfail
def test_fails_as_expected():
    assert False
"""


@pytest.mark.parametrize(
    ("suite", "said"),
    [
        ({}, ".F\nFAILED test_some.py::test_fails\nsx"),
        ({"TOX_ENV_NAME": "py3-pure"}, "py3-pure: FAILED test_some.py::test_fails\n"),
    ],
    ids=["alone", "in tox"],
)
def test_what_is_said_on_the_way(tmp_path: Path, suite: dict[str, str], said: str) -> None:
    (tmp_path / "test_some.py").write_text(TESTS)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("TOX_", "PYTEST_"))}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "fix_progress", "-p", "no:cacheprovider", "-q", "test_some.py"],
        cwd=tmp_path,
        env=environment | suite | {"PYTHONPATH": str(Path(__file__).parent)},
        capture_output=True,
        text=True,
        timeout=patience(60),
    )
    assert done.returncode == 1, done.stderr
    assert done.stdout.startswith(said), done.stdout
    assert "1 failed, 1 passed, 1 skipped, 1 xfailed" in done.stdout
