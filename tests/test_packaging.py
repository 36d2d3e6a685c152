"""What is installed: the right build, every module, the command line's exit codes; each in a fresh interpreter."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from pace import patience

import pgdoorman_lib

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "pgdoorman_lib"
EXPECTED = os.environ.get("PGDOORMAN_EXPECT_BUILD")


def compiled_modules() -> tuple[str, ...]:
    """The list in setup.py, which can't be imported (setuptools need not be there)."""
    for node in ast.parse((ROOT / "setup.py").read_text()).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "COMPILED":
            return tuple(ast.literal_eval(node.value))
    raise AssertionError("setup.py has no list COMPILED")


def python(code: str, **environment: str) -> str:
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **environment}, cwd="/"
    )
    assert answer.returncode == 0, answer.stderr
    return answer.stdout.strip()


def pgdoorman(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {
        name: value for name, value in os.environ.items() if name not in ("CONFIG_FILE", "LOG_LEVEL", "LOG_FORMAT")
    }
    return subprocess.run(
        [sys.executable, "-m", "pgdoorman", *arguments],
        capture_output=True, text=True, env={**clean, **environment}, cwd="/", timeout=patience(30),
    )  # fmt: skip


def test_every_folder_of_modules_is_a_package() -> None:
    # setuptools leaves a folder without __init__.py out of the wheel.
    folders = {module.parent for module in PACKAGE.rglob("*.py")}
    assert [folder for folder in sorted(folders) if not (folder / "__init__.py").is_file()] == []


@pytest.mark.parametrize("module", compiled_modules())
def test_listed_module_and_its_types_exist(module: str) -> None:
    source = ROOT / module
    assert source.is_file()
    assert source.with_suffix(".py" if source.suffix == ".pyx" else ".pxd").is_file()


#: Numbers that compiled modules take from there; the module beside it is Python for all.
ONLY_CONSTANTS = {
    "pgdoorman_lib/wire/consts",
    "pgdoorman_lib/wire/owed",
    "pgdoorman_lib/wire/letters",
    "pgdoorman_lib/client/events",
    "pgdoorman_lib/server/states",
    "pgdoorman_lib/net/tls_terms",
}


#: Functions that each compiled module has a copy of; there is no module of that name.
ONLY_INLINE = {"pgdoorman_lib/net/libcrypto"}


def test_no_types_without_being_listed() -> None:
    listed = {str(Path(module).with_suffix("")) for module in compiled_modules()}
    found = {str(path.relative_to(ROOT).with_suffix("")) for path in PACKAGE.rglob("*.pxd")}
    assert found <= listed | ONLY_CONSTANTS | ONLY_INLINE
    for name in ONLY_INLINE:
        assert "cdef inline" in (ROOT / name).with_suffix(".pxd").read_text()
    for name in ONLY_CONSTANTS:
        assert "cdef enum" in (ROOT / name).with_suffix(".pxd").read_text()


@pytest.mark.skipif(EXPECTED is None, reason="only tox says which build it installed")
def test_the_expected_build_is_installed_whole() -> None:
    names = [
        str(path.relative_to(ROOT).with_suffix("")).replace("/", ".").removesuffix(".__init__")
        for path in sorted(PACKAGE.rglob("*.py"))
    ]
    code = "import gevent.monkey as m; m.patch_all(); import importlib, json\n"
    code += f"print(json.dumps({{name: importlib.import_module(name).__file__ for name in {names!r}}}))"
    files = {name: Path(file) for name, file in json.loads(python(code)).items()}
    assert not [str(file) for file in files.values() if file.is_relative_to(PACKAGE)], "the source tree is in the way"
    compiled = {module.rpartition(".")[0].replace("/", ".") for module in compiled_modules()}
    assert {name for name, file in files.items() if file.suffix == ".so"} == (
        compiled if EXPECTED == "compiled" else set()
    )


@pytest.mark.skipif(EXPECTED is None, reason="only tox says which build it installed")
def test_these_very_tests_import_what_was_installed() -> None:
    assert not Path(pgdoorman_lib.__file__).is_relative_to(ROOT / "pgdoorman_lib")


@pytest.mark.parametrize("options", [[], ["--interpreted"]])
def test_what_compiling_lacks_is_said_at_once(tmp_path: Path, options: list[str]) -> None:
    """Before anything is downloaded, with the way out; also where compiling comes later."""
    installer = [sys.executable, str(ROOT / "tools" / "install.py"), *options]
    environment = {"PATH": str(tmp_path), "CC": str(tmp_path / "cc")}
    done = subprocess.run(
        [*installer, str(tmp_path / "venv")], env=environment, capture_output=True, text=True, timeout=patience(20)
    )
    assert done.returncode == 1
    assert "a C compiler missing: install them (apt-get install gcc libc6-dev" in done.stderr
    assert "PGDOORMAN_PURE=1" in done.stderr
    assert not (tmp_path / "venv").exists()
    assert subprocess.run(installer, env=environment, capture_output=True, timeout=patience(20)).returncode == 2


def test_pure_switch_passes_over_extensions() -> None:
    code = (
        "import pgdoorman_lib.net.stream as m, pgdoorman_lib; print(m.__file__.endswith('.py'), pgdoorman_lib.build())"
    )
    assert python(code, PGDOORMAN_PURE="1") == "True interpreted"


def test_version_names_the_build() -> None:
    answer = pgdoorman("--version")
    assert answer.returncode == 0
    assert answer.stdout.startswith(f"pgdoorman {pgdoorman_lib.__version__} ({EXPECTED or ''}")


def test_gevent_patches_before_anything_of_ours_is_imported() -> None:
    code = "import pgdoorman, socket, gevent.socket; print(socket.socket is gevent.socket.socket)"
    assert python(code) == "True"


@pytest.mark.parametrize(
    ("arguments", "environment", "code"),
    [
        (["--no-such-option"], {}, 2),
        (["a.toml", "b.toml"], {}, 2),
        (["--log-level", "loud"], {}, 2),
        ([], {"LOG_FORMAT": "yaml"}, 2),
        ([], {"DAEMON": "maybe"}, 2),
        (["--help"], {"LOG_LEVEL": "INFO"}, 0),
        (["generate", "--host", "127.0.0.1", "--port", "1"], {}, 1),
        (["generate"], {"PGPORT": "http"}, 2),
        (["-t", "/no/such/file.toml"], {}, 78),
        (["/no/such/file.toml"], {}, 78),
        ([], {"CONFIG_FILE": "/no/such/file.toml"}, 78),
    ],
)
def test_exit_codes(arguments: list[str], environment: dict[str, str], code: int) -> None:
    answer = pgdoorman(*arguments, **environment)
    assert answer.returncode == code, answer.stderr
    assert "Traceback" not in answer.stderr
    if code:
        assert answer.stderr


def test_config_test_prints_two_lines() -> None:
    example = ROOT / "conf" / "pg_doorman.toml"
    answer = pgdoorman("--test-config", str(example))
    assert answer.returncode == 0, answer.stderr
    first, second = answer.stdout.splitlines()
    assert str(example) in first and first.endswith("syntax is ok")
    assert str(example) in second and second.endswith("test is successful")


def test_packages_are_not_asked_for_plugins() -> None:
    """gevent asks all that are installed, thirty times, and what it imports for that alone is a tenth of a start."""
    code = (
        "import sys; from gevent import events; asking = events.notify_and_call_entry_points; import pgdoorman\n"
        "print('importlib.metadata' in sys.modules, events.notify_and_call_entry_points is asking)"
    )
    assert python(code) == "False True"


@pytest.mark.parametrize("module", ["scramp", "asn1crypto", "http.server", "yaml", "cryptography", "pg8000"])
def test_a_start_waits_for_nothing_that_few_need(module: str) -> None:
    assert python(f"import pgdoorman, pgdoorman_lib.start, sys; print({module!r} in sys.modules)") == "False"


def test_the_collector_rests_only_while_modules_come() -> None:
    code = (
        "import gc, pgdoorman; print(gc.isenabled())\n"
        "with pgdoorman.importing(): print(gc.isenabled())\n"
        "print(gc.isenabled(), gc.get_freeze_count() > 1000)"
    )
    assert python(code).split() == ["True", "False", "True", "True"]
