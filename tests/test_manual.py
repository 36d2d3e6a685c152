"""The manual page and the completion in packaging/ are what the command line and the model say, and work."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE, COMPLETION = ROOT / "packaging" / "pgdoorman.1", ROOT / "packaging" / "pgdoorman.bash"


def test_they_are_current() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "manual.py"), "--check"], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_page_has_what_help_has() -> None:
    text = PAGE.read_text("utf-8").replace("\\-", "-")
    for words in (
        "--daemon",
        "[env LOG_LEVEL]; one of error, warn",
        "--session-pool-mode",
        "default 40",
        "\n.SS [web]\n",
    ):
        assert words in text
    assert '\\fBdaemon_pid_file\\fR\nWhere --daemon writes its process id. (default "/tmp/pg_doorman.pid")' in text


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not installed")
def test_the_page_is_roff() -> None:
    done = subprocess.run(
        ["groff", "-man", "-ww", "-Kutf8", "-Tutf8", str(PAGE)], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")


def completed(tmp_path: Path, *words: str) -> set[str]:
    script = (
        'source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _pgdoorman; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ["bash", "-uc", script, "bash", str(COMPLETION), "pgdoorman", *words], cwd=tmp_path,
        capture_output=True, text=True, timeout=20,
    )  # fmt: skip
    assert done.stderr == ""
    return set(done.stdout.split())


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_completion(tmp_path: Path) -> None:
    (tmp_path / "general.toml").touch()
    assert completed(tmp_path, "--log-l") == {"--log-level"}
    assert completed(tmp_path, "-l", "") == {"error", "warn", "info", "debug", "trace"}
    assert completed(tmp_path, "gen") == {"generate", "general.toml"}
    assert completed(tmp_path, "-t", "gen") == {"generate", "general.toml"}
    assert completed(tmp_path, "generate", "--po") == {"--port", "--pool-size"}
    assert completed(tmp_path, "generate", "--format", "t") == {"toml"}
    assert completed(tmp_path, "generate", "-o", "gen") == {"general.toml"}
    assert completed(tmp_path, "generate", "--host", "") == set()
