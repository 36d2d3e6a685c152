"""Every module can be the first that is imported: no circle hides behind a lucky order."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from pace import patience

import pgdoorman_lib

HOME = Path(pgdoorman_lib.__path__[0]).parent

#: One interpreter, in which everything of ours is forgotten between two imports.
CODE = """
import gevent, importlib, sys
for name in sys.argv[1:]:
    for loaded in [m for m in sys.modules if m.split(".")[0] in ("pgdoorman_lib", "pgdoorman")]:
        del sys.modules[loaded]
    try:
        importlib.import_module(name)
    except Exception as exc:
        print(f"{name}: {type(exc).__name__}: {exc}")
"""


def test_each_module_first() -> None:
    names = [
        str(path.relative_to(HOME).with_suffix("")).replace("/", ".").removesuffix(".__init__")
        for path in sorted((HOME / "pgdoorman_lib").rglob("*.py"))
    ]
    assert len(names) > 40
    # Extension modules can't be loaded twice into one process.
    environment = {**os.environ, "PGDOORMAN_PURE": "1"}
    answer = subprocess.run(
        [sys.executable, "-c", CODE, *names],
        capture_output=True,
        text=True,
        cwd=HOME,
        env=environment,
        timeout=patience(60),
    )
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout == ""
