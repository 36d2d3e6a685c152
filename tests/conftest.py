"""What all tests share: paths, plugins, markers, the header."""

from __future__ import annotations

import gc
import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

_HERE = Path(__file__).resolve().parent
for _path in (_HERE, _HERE.parent / "tools"):
    if str(_path) not in sys.path:
        sys.path.insert(0, str(_path))

from pace import patience, slowness  # noqa: E402

pytest.register_assert_rewrite("wire_client", "eventually", "fix_doorman", "fix_postgres", "fix_certs", "twins")

pytest_plugins = [
    "fix_leaks",
    "fix_postgres",
    "fix_doorman",
    "fix_workers",
    "fix_proxy",
    "fix_certs",
    "fix_progress",
    "driver_programs",
]

# CI must say the same of the same commit; everywhere else each run tries other cases. How long one takes says nothing on a
# machine that has other things to do.
settings.register_profile("ci", derandomize=True, deadline=None)
settings.register_profile("any", deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "any")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "may_leak(reason): excused from the check for leaks in the test process")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the tests marked slow, too")
    parser.addoption("--toolchains", action="store_true", help="run drivers of other languages, too, and build them")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    usual = config.getoption("timeout") or float(config.getini("timeout"))
    for item in items:
        mark = item.get_closest_marker("timeout")
        item.add_marker(pytest.mark.timeout(patience(mark.args[0] if mark else usual)), append=False)
    if config.getoption("--slow"):
        return
    skip = pytest.mark.skip(reason="slow; run by --slow")
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(skip)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """What is collected stays until the end: neither the collector of garbage nor ``fix_leaks`` looks through it again."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """``--numprocesses auto``: three for two processors. Tests wait now and then; more would wait for each other."""
    return math.ceil(1.5 * len(os.sched_getaffinity(0)))


def pytest_report_header() -> list[str]:
    build = "interpreted (PGDOORMAN_PURE)" if os.environ.get("PGDOORMAN_PURE") else "as installed"
    return [f"pgdoorman build: {build}", f"limits of time: {slowness():.1f} times those of a machine at rest"]
