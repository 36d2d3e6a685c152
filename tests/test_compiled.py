"""Which build runs: all listed modules compiled or none, and no extension older than its source."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from pace import patience
from test_packaging import compiled_modules

import pgdoorman_lib

MODULES = [source.rpartition(".")[0].replace("/", ".") for source in compiled_modules()]
#: Where the package under test lives: the source tree, or what was installed.
HOME = Path(pgdoorman_lib.__path__[0]).parent


def extension_of(module: str) -> Path | None:
    path = HOME / module.replace(".", "/")
    tag = f"cpython-{sys.version_info[0]}{sys.version_info[1]}"
    found = [file for file in path.parent.glob(f"{path.name}.*.so") if tag in file.name]
    return found[0] if found else None


BUILT = [module for module in MODULES if extension_of(module) is not None]


def files(environment: dict[str, str]) -> dict[str, str]:
    """Where a fresh interpreter finds each module."""
    code = f"import importlib, json; print(json.dumps({{m: importlib.import_module(m).__file__ for m in {MODULES!r}}}))"
    clean = {name: value for name, value in os.environ.items() if name != "PGDOORMAN_PURE"}
    answer = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=HOME,
        env={**clean, **environment},
        timeout=patience(60),
    )
    assert answer.returncode == 0, answer.stderr
    return dict(json.loads(answer.stdout))


def test_all_are_built_or_none() -> None:
    """What they share, too."""
    assert BUILT in ([], MODULES)
    assert (extension_of("pgdoorman_lib.cython_shared") is not None) == bool(BUILT)


@pytest.mark.parametrize("module", MODULES)
def test_this_process_runs_one_build(module: str) -> None:
    file = importlib.import_module(module).__file__ or ""
    compiled = bool(BUILT) and not pgdoorman_lib.PURE
    assert file.endswith(".so" if compiled else ".py")
    assert pgdoorman_lib.build() == ("compiled" if compiled else "interpreted")


@pytest.mark.skipif(not BUILT, reason="nothing is built")
def test_extensions_win_in_a_fresh_interpreter() -> None:
    assert [module for module, file in files({}).items() if not file.endswith(".so")] == []


def test_the_switch_leaves_all_of_them_out() -> None:
    assert [module for module, file in files({"PGDOORMAN_PURE": "1"}).items() if not file.endswith(".py")] == []


@pytest.mark.skipif(
    not BUILT or pgdoorman_lib.PURE or not (HOME / "setup.py").exists(),
    reason="only where extensions stand beside sources that are edited; an installation's times say nothing",
)
@pytest.mark.parametrize("module", MODULES)
def test_no_extension_is_older_than_its_sources(module: str) -> None:
    # After a failed build the old extension would win over the edited source without a word.
    extension = extension_of(module)
    assert extension is not None
    base = HOME / module.replace(".", "/")
    sources = [path for path in (base.with_suffix(end) for end in (".pyx", ".py", ".pxd")) if path.is_file()]
    newest = max(sources, key=lambda path: path.stat().st_mtime)
    assert newest.stat().st_mtime <= extension.stat().st_mtime, f"{newest.name} was changed: build again"
