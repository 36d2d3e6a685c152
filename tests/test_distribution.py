"""What leaves the repository: the source archive, what is installed from it, and the Debian package.

Nothing is compiled here; the steps are those of docs/packages.md.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
from pathlib import Path

import pytest

import pgdoorman_lib

ROOT = Path(__file__).resolve().parent.parent
DEBIAN = ROOT / "packaging" / "debian"
UNIT = ROOT / "conf" / "pgdoorman.service"
#: What only a repository needs.
STAYS = {".gitignore", ".ci/run"}
VERSION = f"pgdoorman {pgdoorman_lib.__version__} (interpreted, Python "

ENVIRONMENT = {**os.environ, "PGDOORMAN_PURE": "1"}
ENVIRONMENT.pop("PYTHONPATH", None)


def run(*command: str | Path, cwd: Path = Path("/")) -> str:
    done = subprocess.run(
        command, cwd=cwd, env=ENVIRONMENT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=550
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def tracked() -> list[str]:
    if not (ROOT / ".git").exists():
        pytest.skip("not in a repository")
    return run("git", "ls-files", "--cached", "--others", "--exclude-standard", cwd=ROOT).splitlines()


@pytest.fixture(scope="module")
def sdist(tracked: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive as made from a fresh checkout: what an earlier build has left would get into it."""
    work = tmp_path_factory.mktemp("sdist")
    for name in tracked:
        (work / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, work / "tree" / name)
    run(sys.executable, "-m", "build", "--sdist", "--outdir", work, work / "tree")
    (archive,) = work.glob("*.tar.gz")
    return archive


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_archive_has_everything(sdist: Path, tracked: list[str]) -> None:
    with tarfile.open(sdist) as archive:
        names = {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}
    assert set(tracked) - STAYS - names == set()
    added = {name for name in names - set(tracked) if not name.startswith("pgdoorman.egg-info/")}
    assert added == {"PKG-INFO"}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_what_is_installed_from_the_archive_runs(sdist: Path, tmp_path: Path) -> None:
    """In an environment of its own, with what it requires and no more."""
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    run(python, "-m", "pip", "install", "--disable-pip-version-check", sdist)
    assert run(python, "-m", "pip", "check").strip() == "No broken requirements found."
    command = tmp_path / "venv" / "bin" / "pgdoorman"
    assert run(command, "--version").startswith(VERSION)
    assert "usage: pgdoorman generate" in run(command, "generate", "--help")
    assert "test is successful" in run(command, "-t", ROOT / "conf" / "pg_doorman.toml")


@pytest.mark.parametrize("name", ["postinst", "prerm", "postrm"])
def test_scripts_of_the_debian_package_are_sound(name: str) -> None:
    script = DEBIAN / f"pgdoorman.{name}"
    run("sh", "-n", script)
    lines = script.read_text().splitlines()
    assert lines[:2] == ["#!/bin/sh", "set -e"]
    assert "#DEBHELPER#" in lines  # where debhelper adds its own


def test_logrotate_s_file_is_the_one_described() -> None:
    described = re.findall(r"```\n(/var/log/pgdoorman/.*?)```", (ROOT / "docs" / "install.md").read_text(), re.DOTALL)
    assert described == [(DEBIAN / "pgdoorman.logrotate").read_text()]


def test_files_of_the_debian_package_are_there() -> None:
    for listed in (DEBIAN / "pgdoorman.docs", DEBIAN / "pgdoorman.examples"):
        for name in listed.read_text().split():
            assert (ROOT / name).exists(), name


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(shutil.which("dh") is None, reason="debhelper is not installed")
def test_the_debian_package(tmp_path: Path) -> None:
    """It builds, and what is in it runs, from another place here than where it is to be."""
    run(ROOT / "packaging" / "build-deb", tmp_path)
    (package,) = tmp_path.glob("pgdoorman_*.deb")
    tree = tmp_path / "tree"
    run("dpkg-deb", "--extract", package, tree)
    assert run(tree / "opt" / "pgdoorman" / "bin" / "python", "-m", "pgdoorman", "--version").startswith(VERSION)
    assert (tree / "opt/pgdoorman/bin/pgdoorman").read_text().startswith("#!/opt/pgdoorman/bin/python")
    assert os.readlink(tree / "usr/bin/pgdoorman") == "/opt/pgdoorman/bin/pgdoorman"
    assert [path.read_bytes() for path in tree.rglob("pgdoorman.service")] == [UNIT.read_bytes()]
    assert (tree / "usr/share/man/man1/pgdoorman.1.gz").is_file()
    assert (tree / "usr/share/bash-completion/completions/pgdoorman").is_file()
    # Passwords.
    assert (tree / "etc/pgdoorman").stat().st_mode & 0o7777 == 0o750
    assert (tree / "etc/pgdoorman/pg_doorman.toml").stat().st_mode & 0o7777 == 0o640
    assert (tree / "etc/logrotate.d/pgdoorman").is_file()
    depends = run("dpkg-deb", "--field", package, "Depends")
    assert re.search(r"\bpython3\.\d+\b", depends)
