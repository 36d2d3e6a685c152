"""How far a long run is, and what has failed so far: a line a minute, and one for each failure when it happens.

tox may run several suites at once: there, each says whole lines alone, with its name before them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any

import pytest

#: Seconds between two lines.
INTERVAL = 60.0


class Progress:
    """Counts the tests that have ended, in the process that reports them. ``suite`` is the name of tox's environment."""

    def __init__(self, config: pytest.Config, suite: str | None) -> None:
        self.config = config
        self.suite = suite
        self.began = self.told = time.monotonic()
        self.session: pytest.Session | None = None
        self.done = 0
        self.failed = 0

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        self.session = session

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.done += report.when == "teardown"
        if report.failed:
            self.failed += 1
            where = "" if report.when == "call" else f" ({report.when})"
            self._say(f"FAILED {report.nodeid}{where}")
        if time.monotonic() - self.told >= INTERVAL:
            self.told = time.monotonic()
            self._say(self.line())

    @pytest.hookimpl(wrapper=True)
    def pytest_report_teststatus(self) -> Iterator[tuple[str, Any, Any]]:
        """No letter for each test where other suites run at the same time."""
        category, letter, word = yield  # type: ignore[misc]
        return (category, letter, word) if self.suite is None else (category, "", "")

    def line(self) -> str:
        """For example ``1234 of 8332 tests in 4:05, 0 failures``."""
        minutes, seconds = divmod(int(time.monotonic() - self.began), 60)
        assert self.session is not None
        of = f"{self.done} of {self.session.testscollected} tests"
        return f"{of} in {minutes}:{seconds:02}, {self.failed} failures"

    def _say(self, text: str) -> None:
        reporter: Any = self.config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            reporter.write(f"\n{text}\n" if self.suite is None else f"{self.suite}: {text}\n", flush=True)


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):  # workers of pytest-xdist tell theirs the process that started them
        config.pluginmanager.register(Progress(config, os.environ.get("TOX_ENV_NAME")))
