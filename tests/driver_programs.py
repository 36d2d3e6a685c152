"""Programs in the drivers' own languages: built where their toolchain is, run on PostgreSQL itself, then through us.

A program is a folder of ``tests/drivers/programs``. It finds the server in PGHOST, PGPORT, PGUSER, PGPASSWORD,
PGDATABASE, runs every feature with CLIENTS connections at once, and keeps to tables whose names begin with PREFIX. On its
standard output it says ``ok FEATURE CHECKS`` or ``not ok FEATURE WHY``, one line a feature, and ``done`` at the end.
"""

from __future__ import annotations

import filecmp
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pace import patience

ROOT = Path(__file__).resolve().parent.parent
PROGRAMS = ROOT / "tests" / "drivers" / "programs"
#: Where programs are built and their packages installed; kept between runs.
CACHE = ROOT / ".drivers"
#: Seconds for fetching packages and compiling, and for one run.
BUILD_SECONDS = 900
RUN_SECONDS = 150
#: Seconds after which a program says itself where it hangs, if it reads the variable DEADLINE.
DEADLINE_SECONDS = 28
#: Connections that run each feature at the same time.
CLIENTS = 8

_LINE = re.compile(r"^(ok|not ok) (\S+)(?: (.*))?$")


@dataclass(frozen=True)
class Program:
    """``build`` are commands run in a copy of the folder below CACHE, ``run`` the command that starts it there.

    ``needs`` are the programs of the toolchain, ``modules`` what Python must have installed; one that is missing skips
    the test. ``environment`` is added to ours.
    """

    driver: str
    language: str
    folder: str
    run: Sequence[str]
    build: Sequence[Sequence[str]] = ()
    needs: Sequence[str] = ()
    modules: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


def go(driver: str, name: str) -> Program:
    return Program(
        driver=driver,
        language="Go",
        folder="go",
        build=[["go", "build", "-buildvcs=false", "-o", f"bin/{name}", f"./{name}"]],
        run=[f"bin/{name}"],
        needs=["go"],
        environment={"GOTOOLCHAIN": "local"},
    )


def java(driver: str, main: str, *sources: str) -> Program:
    return Program(
        driver=driver,
        language="Java",
        folder="java_pgjdbc",
        needs=("mvn", "javac", "java"),
        build=(
            ("mvn", "-q", "-B", "dependency:copy-dependencies", "-DoutputDirectory=lib"),
            ("javac", "-d", "classes", "-cp", "lib/*", *sources),
        ),
        run=("java", "-Xmx512m", "-cp", "classes:lib/*", main),
    )


def node(driver: str, script: str) -> Program:
    return Program(
        driver=driver,
        language="Node.js",
        folder="node",
        needs=("node", "npm"),
        build=(("npm", "install", "--no-package-lock", "--no-audit", "--no-fund", "--loglevel=error"),),
        run=("node", "--no-deprecation", script),
    )


def rust(driver: str, name: str) -> Program:
    package = f"program-{name}"
    return Program(
        driver=driver,
        language="Rust",
        folder="rust",
        build=[["cargo", "build", "--quiet", "--package", package]],
        run=[f"target/debug/{package}"],
        needs=["cargo"],
    )


@dataclass
class Outcome:
    """Checks passed by feature, and what failed."""

    passed: dict[str, int] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)


#: Outcomes of this test run: (language, driver) → where ("directly" or "pooled") → Outcome.
table: dict[tuple[str, str], dict[str, Outcome]] = {}
#: Why a driver was not run.
left_out: dict[tuple[str, str], str] = {}


def prepare(program: Program) -> Path:
    """The folder of the built program; skips the test where its toolchain is missing."""
    missing = [tool for tool in program.needs if shutil.which(tool) is None]
    missing += [module for module in program.modules if find_spec(module) is None]
    if missing:
        why = f"{' and '.join(missing)} not installed"
        left_out[program.language, program.driver] = why
        pytest.skip(f"{program.driver}: {why}")
    target = CACHE / program.folder
    shutil.copytree(PROGRAMS / program.folder, target, copy_function=_copy, dirs_exist_ok=True)
    for command in program.build:
        done = subprocess.run(
            command,
            cwd=target,
            env=_environment(program),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=patience(BUILD_SECONDS),
        )
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return target


def _copy(source: str, target: str) -> None:
    if not os.path.exists(target) or not filecmp.cmp(source, target, shallow=False):
        _write(Path(target), lambda path: shutil.copy2(source, path))


def _write(target: Path, write: Callable[[str], object]) -> None:
    """Have ``write`` make a file, which is never there by half: the suite of the other build may run meanwhile."""
    with tempfile.NamedTemporaryFile(dir=target.parent, delete=False) as made:
        write(made.name)
    os.replace(made.name, target)


def run(program: Program, folder: Path, server: Mapping[str, str], prefix: str) -> Outcome:
    """Run the built program against ``server`` (the PG* variables); AssertionError when it did not come to its end."""
    mine = {"CLIENTS": str(CLIENTS), "PREFIX": prefix, "DEADLINE": str(patience(DEADLINE_SECONDS))}
    done = subprocess.run(
        program.run,
        cwd=folder,
        env=_environment(program) | dict(server) | mine,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=patience(RUN_SECONDS),
    )
    outcome = Outcome()
    lines = done.stdout.splitlines()
    for line in lines:
        match = _LINE.match(line)
        if match and match[1] == "ok":
            outcome.passed[match[2]] = int(match[3])
        elif match:
            outcome.failed[match[2]] = match[3] or "no reason given"
    assert "done" in lines, f"exit code {done.returncode}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return outcome


def prove(program: Program, direct: Mapping[str, str], pooled: Mapping[str, str]) -> None:
    """Every check passes on PostgreSQL itself, and then through the pooler, which must pass exactly as many."""
    folder = prepare(program)
    slug = re.sub(r"\W+", "_", program.driver).lower()
    found = table.setdefault((program.language, program.driver), {})
    for where, server in (("directly", direct), ("pooled", pooled)):
        known = _known_direct_run(program, server) if where == "directly" else None
        if known is not None and known.exists():
            found[where] = Outcome(passed=json.loads(known.read_text()))
            continue
        found[where] = run(program, folder, server, f"{slug}_{where[:1]}_")
        assert not found[where].failed, (where, found[where].failed)
        if known is not None:
            known.parent.mkdir(exist_ok=True)
            _write(known, lambda path, passed=found[where].passed: Path(path).write_text(json.dumps(passed)))
    assert found["directly"].passed
    assert found["pooled"].passed == found["directly"].passed


def _known_direct_run(program: Program, server: Mapping[str, str]) -> Path | None:
    """The file of what the program passed on PostgreSQL itself, so that the suites of both builds run that once.

    Its name has all of it that can matter: the program, every package, Python, PostgreSQL. None for a program that is
    built: what its toolchain fetches is not known.
    """
    if program.build:
        return None
    sources = sorted(path for path in (PROGRAMS / program.folder).rglob("*") if "__pycache__" not in path.parts)
    packages = sorted((one.name, one.version) for one in metadata.distributions() if one.name != "pgdoorman")
    with psycopg.connect(
        host=server["PGHOST"], port=server["PGPORT"], user=server["PGUSER"], password=server["PGPASSWORD"],
        dbname=server["PGDATABASE"], sslmode="disable", gssencmode="disable",
    ) as connection:  # fmt: skip
        version = connection.execute("SELECT version()").fetchone()
    # Each build has a Python of its own, of one version.
    everything = [
        str(program).replace(sys.executable, "python"),
        sys.version,
        str(CLIENTS),
        str(version),
        str(packages),
    ]
    everything += [f"{path} {path.read_bytes()!r}" for path in sources if path.is_file()]
    digest = hashlib.sha256("\n".join(everything).encode()).hexdigest()
    return CACHE / "direct" / f"{digest}.json"


def summary() -> list[str]:
    """A line for each driver, which ran or was left out, feature by feature: checks passed directly and pooled."""
    lines = []
    for (language, driver), found in sorted(table.items()):
        features = {name for outcome in found.values() for name in (*outcome.passed, *outcome.failed)}
        cells = []
        for name in sorted(features):
            counts = [
                "FAILED" if where not in found or name in found[where].failed else str(found[where].passed.get(name, 0))
                for where in ("directly", "pooled")
            ]
            cells.append(f"{name} {'/'.join(counts)}")
        lines.append(f"{language:8} {driver:24} {', '.join(cells)}")
    for (language, driver), why in sorted(left_out.items()):
        lines.append(f"{language:8} {driver:24} {_NOT_RUN} {why}")
    return lines


# As a plugin of pytest: where several processes share the tests, each tells the first what it has run.

_NOT_RUN = "not run:"
_elsewhere: list[str] = []


def pytest_sessionfinish(session: pytest.Session) -> None:
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["drivers"] = summary()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    _elsewhere.extend(getattr(node, "workeroutput", {}).get("drivers", []))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    lines = sorted(summary() + _elsewhere)
    for line in lines:
        terminalreporter.write_line(line)
    if lines:
        out = sum(_NOT_RUN in line for line in lines)
        terminalreporter.write_line(f"{len(lines) - out} driver programs ran, {out} were left out")


def _environment(program: Program) -> dict[str, str]:
    libpq = re.compile(r"PG(?!DOORMAN_)")
    mine = {name: value for name, value in os.environ.items() if not libpq.match(name)}
    return mine | {"PGSSLMODE": "disable", "PGGSSENCMODE": "disable"} | dict(program.environment)
