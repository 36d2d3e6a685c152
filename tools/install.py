"""Install pgdoorman into a virtual environment, and show how far compiling has come: ``tools/install.py DIRECTORY``.

What is missing to compile is said before anything is downloaded, also with ``--interpreted``, which installs what a
compiled build is to follow.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PURE = os.environ.get("PGDOORMAN_PURE", "") not in ("", "0") or sys.platform != "linux"
#: What ``setup.py`` writes for each module, in the output of ``pip --verbose``.
BEGUN = re.compile(r"compiling (\d+) of (\d+): (\S+)")
#: Lines of pip's output that are shown when it fails.
TAIL = 40


def missing() -> str:
    """What is not there that compiling needs, with what to do about it; empty when all is."""
    packages = []
    compiler = os.environ.get("CC", "").split()[:1] or [(sysconfig.get_config_var("CC") or "cc").split()[0]]
    if shutil.which(compiler[0]) is None and shutil.which("cc") is None:
        packages.append("gcc libc6-dev")
    if not Path(sysconfig.get_path("include"), "Python.h").is_file():
        packages.append("python3-dev")
    if not packages:
        return ""
    return (
        f"{' and '.join('a C compiler' if 'gcc' in p else 'the headers of Python' for p in packages)} missing:"
        f" install them (apt-get install {' '.join(packages)}), or do without compiling: PGDOORMAN_PURE=1"
    )


def install(directory: Path, interpreted: bool = False) -> int:
    """Make the environment if it is not there, and install; returns the exit code."""
    python = directory / "bin" / "python"
    if not python.exists():
        venv.create(directory, with_pip=True)
    command = [str(python), "-m", "pip", "install", "--verbose", "--disable-pip-version-check", str(ROOT)]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", **({"PGDOORMAN_PURE": "1"} if interpreted else {})}
    lines: list[str] = []
    terminal = sys.stdout.isatty()
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as pip:
        assert pip.stdout is not None
        for line in pip.stdout:
            lines.append(line)
            begun = BEGUN.search(line)
            if begun:
                text = f"compiling {begun[1]} of {begun[2]}: {begun[3]}"
                print(f"\r{text:<78}" if terminal else text, end="" if terminal else "\n", flush=True)
    if terminal:
        print()
    if pip.returncode:
        sys.stderr.writelines(lines[-TAIL:])
    return pip.returncode


def main() -> int:
    """The command line; returns the exit code."""
    arguments = sys.argv[1:]
    interpreted = arguments[:1] == ["--interpreted"]
    if len(arguments) != 1 + interpreted:
        print("usage: python3 tools/install.py [--interpreted] DIRECTORY", file=sys.stderr)
        return 2
    lacking = "" if PURE else missing()
    if lacking:
        print(f"pgdoorman: {lacking}", file=sys.stderr)
        return 1
    return install(Path(arguments[-1]), interpreted)


if __name__ == "__main__":
    sys.exit(main())
