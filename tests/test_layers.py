"""The rule of layers: a module imports only from lower layers or from its own package, told from the syntax tree."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "pgdoorman_lib"

#: Layer by module, the longest prefix counts.
LAYERS = {
    "pgdoorman_lib": 7,  # the package itself: everybody may ask its version, it asks which build runs
    "pgdoorman_lib.wire": 0,
    "pgdoorman_lib.errors": 0,
    "pgdoorman_lib.record": 0,
    "pgdoorman_lib.abc": 0,
    "pgdoorman_lib.views": 0,
    "pgdoorman_lib.net": 1,
    "pgdoorman_lib.config": 1,
    "pgdoorman_lib.log": 1,
    "pgdoorman_lib.metrics.counters": 1,
    "pgdoorman_lib.metrics.measures": 1,
    "pgdoorman_lib.metrics.averages": 2,  # what reads the counters, for admin and exporters alike
    "pgdoorman_lib.metrics.pacing": 2,
    "pgdoorman_lib.metrics": 6,
    "pgdoorman_lib.server": 2,
    "pgdoorman_lib.auth": 2,
    "pgdoorman_lib.pool": 3,
    "pgdoorman_lib.client": 4,
    "pgdoorman_lib.listener": 5,
    "pgdoorman_lib.listeners": 6,
    "pgdoorman_lib.lookups": 4,
    "pgdoorman_lib.policy": 5,
    "pgdoorman_lib.check": 5,
    "pgdoorman_lib.configuration": 6,
    "pgdoorman_lib.cancel": 5,
    "pgdoorman_lib.peers": 5,
    "pgdoorman_lib.connector": 5,
    "pgdoorman_lib.fallback": 4,
    "pgdoorman_lib.operations": 5,
    "pgdoorman_lib.shutdown": 5,
    "pgdoorman_lib.signals": 5,
    "pgdoorman_lib.together": 5,
    "pgdoorman_lib.admin.consoles": 2,  # who is there; what they say is above
    "pgdoorman_lib.admin": 6,
    "pgdoorman_lib.web": 6,
    "pgdoorman_lib.generate": 6,
    "pgdoorman_lib.supervisor": 7,
    "pgdoorman_lib.app": 7,
    "pgdoorman_lib.shown": 7,
    "pgdoorman_lib.start": 7,
    "pgdoorman_lib.verdict": 7,
    "pgdoorman_lib.telemetry": 7,
    "pgdoorman": 7,
}

#: What a pure module may not touch: no hub, socket, clock, file, thread or log.
IMPURE = {
    "gevent",
    "greenlet",
    "socket",
    "ssl",
    "time",
    "logging",
    "select",
    "os",
    "threading",
    "subprocess",
    "selectors",
}


def layer_of(module: str) -> int:
    name = module
    while name not in LAYERS:
        name, _, rest = name.rpartition(".")
        assert rest and name, f"{module} has no layer: add it to the table"
        if name == "pgdoorman_lib":
            raise AssertionError(f"{module} has no layer: add it to the table")
    return LAYERS[name]


def package_of(module: str) -> str:
    """pgdoorman_lib.pool.janitor → pgdoorman_lib.pool"""
    return ".".join(module.split(".")[:2])


def modules() -> Iterator[tuple[str, Path]]:
    yield "pgdoorman", ROOT / "pgdoorman.py"
    for path in sorted(PACKAGE.rglob("*.py")):
        name = str(path.relative_to(ROOT).with_suffix("")).replace("/", ".")
        yield name.removesuffix(".__init__"), path


#: Where the seams between the layers stand: they name their types, and import none of them when they run.
SEAMS = {
    "pgdoorman_lib.abc",
    "pgdoorman_lib.views",
    "pgdoorman_lib.supervisor.host",
}


def for_types_only(tree: ast.AST) -> set[ast.AST]:
    """What stands below ``if TYPE_CHECKING``."""
    return {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for statement in node.body
        for inner in ast.walk(statement)
    }


def imports(module: str, tree: ast.AST, is_package: bool) -> Iterator[tuple[str, int]]:
    """Everything imported anywhere in a module, with its line."""
    passed_over = for_types_only(tree) if module in SEAMS else set()
    for node in ast.walk(tree):
        if node in passed_over:
            continue
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".")
                parts = parts[: len(parts) - node.level + (1 if is_package else 0)]
                base = ".".join([*parts, base] if base else parts)
            yield base, node.lineno
            for alias in node.names:
                yield f"{base}.{alias.name}", node.lineno


def faults(module: str, tree: ast.AST, known: set[str], is_package: bool = False) -> list[str]:
    found = []
    for name, line in imports(module, tree, is_package):
        top = name.split(".")[0]
        if layer_of(module) == 0 and top in IMPURE:
            found.append(f"{module}:{line} imports {name}, and is pure")
        if name not in known or name == "pgdoorman_lib":
            continue
        mine, its = layer_of(module), layer_of(name)
        equals = its == mine and (package_of(name) == package_of(module) or mine in (0, 7))
        if its >= mine and not equals:
            found.append(f"{module}:{line} imports {name}, layer {its} from layer {mine}")
    return found


KNOWN = {name for name, _ in modules()}


@pytest.mark.parametrize(("module", "path"), list(modules()), ids=[name for name, _ in modules()])
def test_imports_go_down(module: str, path: Path) -> None:
    assert faults(module, ast.parse(path.read_text()), KNOWN, path.name == "__init__.py") == []


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("pgdoorman_lib.wire.x", "import gevent"),
        ("pgdoorman_lib.wire.x", "def f():\n    import time"),
        ("pgdoorman_lib.wire.x", "from socket import socket"),
        ("pgdoorman_lib.wire.x", "from pgdoorman_lib.net import stream"),
        ("pgdoorman_lib.net.x", "from pgdoorman_lib.pool.pool import Pool"),
        ("pgdoorman_lib.net.x", "from ..pool.pool import Pool"),
        ("pgdoorman_lib.pool.x", "import pgdoorman_lib.client.session"),
        ("pgdoorman_lib.client.x", "from pgdoorman_lib.admin import show"),
        ("pgdoorman_lib.client.x", "from pgdoorman_lib.app import App"),
        ("pgdoorman_lib.metrics.counters", "from pgdoorman_lib.metrics.averages import Averages"),
        ("pgdoorman_lib.abc", "from pgdoorman_lib.config.model import Config"),
        ("pgdoorman_lib.wire.x", "if TYPE_CHECKING:\n    from pgdoorman_lib.config.model import Config"),
    ],
)
def test_the_check_finds(module: str, text: str) -> None:
    assert len(faults(module, ast.parse(text), KNOWN)) >= 1


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("pgdoorman_lib.pool.x", "from pgdoorman_lib.pool.pool import Pool"),
        ("pgdoorman_lib.pool.x", "import gevent\nfrom pgdoorman_lib.net.engine import Task"),
        ("pgdoorman_lib.wire.x", "from pgdoorman_lib.errors import DoormanError"),
        ("pgdoorman_lib.app", "from pgdoorman_lib.client.session import Session"),
        ("pgdoorman_lib.abc", "if TYPE_CHECKING:\n    from pgdoorman_lib.config.model import Config"),
    ],
)
def test_the_check_allows(module: str, text: str) -> None:
    assert faults(module, ast.parse(text), KNOWN) == []


def protocols(tree: ast.AST) -> list[str]:
    """The classes that are Protocols."""
    return [
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        for base in node.bases
        if isinstance(base.value if isinstance(base, ast.Subscript) else base, ast.Name)
        and (base.value if isinstance(base, ast.Subscript) else base).id == "Protocol"  # type: ignore[attr-defined]
    ]


def test_the_seams_stand_in_their_places() -> None:
    found = {name for name, path in modules() if protocols(ast.parse(path.read_text()))}
    assert found == SEAMS


# Size and numbers.

MAX_LINES = 400
#: Longer ones, each with what is to become of it; a name leaves when its file is shorter.
LONG = {
    "pgdoorman_lib.config.general": "every key of [general] with its words; keys of one subject may leave it",
    "pgdoorman_lib.net.stream": "a compiled class can't be spread over files; TLS stands in it, since filling and pushing must not take a call more",
    "pgdoorman_lib.pool.pool": "a hundred lines are its slots and what they begin with; borrowing and giving back belong together",
    "pgdoorman_lib.net.engine": "task, channel and engine know each other's C types",
}


def test_files_are_short() -> None:
    long = {name for name, path in modules() if len(path.read_text().splitlines()) > MAX_LINES}
    assert long == set(LONG)


#: What is named in ``consts``, ``owed`` or ``events``: names of variables that hold one.
NAMED = {"status", "event", "kind", "verdict", "code"}
#: Packages whose modules write such a number out nowhere.
WITH_NAMES = {"pgdoorman_lib.client", "pgdoorman_lib.pool"}


def is_number(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and type(node.value) is int


def numbers(tree: ast.AST) -> list[int]:
    """The lines in which a status, a message type or the like is a bare number."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            named = any(isinstance(side, ast.Name) and side.id in NAMED for side in sides)
            if named and any(is_number(side) for side in sides):
                found.append(node.lineno)
        elif isinstance(node, ast.Assign) and is_number(node.value):
            found += [node.lineno for target in node.targets if isinstance(target, ast.Name) and target.id in NAMED]
        elif isinstance(node, ast.Return) and node.value is not None and is_number(node.value):
            found += [] if ast.literal_eval(node.value) in (0, 1) else [node.lineno]
    return sorted(found)


@pytest.mark.parametrize(
    ("module", "path"),
    [(name, path) for name, path in modules() if package_of(name) in WITH_NAMES],
    ids=[name for name, _ in modules() if package_of(name) in WITH_NAMES],
)
def test_no_bare_numbers(module: str, path: Path) -> None:
    assert numbers(ast.parse(path.read_text())) == []


def test_the_numbers_are_found() -> None:
    text = "def f(kind):\n    if kind == 90:\n        status = 3\n    return 9"
    assert numbers(ast.parse(text)) == [2, 3, 4]
