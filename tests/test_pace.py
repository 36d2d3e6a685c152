"""How long tests wait on a machine that has other things to do."""

from __future__ import annotations

import os
from pathlib import Path

import pace
import pytest
from eventually import eventually


@pytest.fixture
def two_processors(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Fast ones, nobody else on them; the file that tells the load."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    monkeypatch.setattr(pace, "_loop_seconds", lambda: pace.REFERENCE_SECONDS / 2)
    monkeypatch.delenv("PYTEST_XDIST_WORKER_COUNT", raising=False)
    load = tmp_path / "loadavg"
    load.write_text("0.10 9.00 9.00 1/200 4242\n")
    monkeypatch.setattr(pace, "_LOADAVG", load)
    return load


@pytest.mark.parametrize(
    ("load", "longer"),
    [("0.10 9.00 9.00 1/200 1", 1), ("9.00 0.10 0.10 1/200 1", 4.5), ("0.10 0.10 0.10 7/200 1", 3.5)],
)
def test_by_the_load(two_processors: Path, load: str, longer: float) -> None:
    two_processors.write_text(load)
    assert pace.patience(10) == 10 * longer


def test_by_the_workers_to_come(two_processors: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_XDIST_WORKER_COUNT", "3")
    assert pace.slowness() == 1.5


def test_by_the_speed_of_a_processor(two_processors: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "_loop_seconds", lambda: pace.REFERENCE_SECONDS * 3)
    assert pace.slowness() == pytest.approx(3)
    two_processors.write_text("4.00 0.10 0.10 1/200 1")
    assert pace.slowness() == pytest.approx(6)


def test_never_for_ever(two_processors: Path) -> None:
    two_processors.write_text("900.00 0.10 0.10 1/200 1")
    assert pace.slowness() == pace.SLOWEST


def test_who_is_about_to_give_up_asks_again(two_processors: Path) -> None:
    asked = 0

    def comes_late() -> bool:
        nonlocal asked
        asked += 1
        if asked == 2:
            two_processors.write_text("900.00 0.10 0.10 1/200 1")
        return asked > 4

    eventually(comes_late, timeout=0.05, interval=0.04)
    assert asked == 5
    two_processors.write_text("0.10 0.10 0.10 1/200 1")
    with pytest.raises(AssertionError, match=r"not within 0\.1 s"):
        eventually(lambda: False, timeout=0.05)
