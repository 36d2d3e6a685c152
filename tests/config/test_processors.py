"""How many processors there are, by what a process is bound to and by quotas of control groups."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pgdoorman_lib.config import general
from pgdoorman_lib.config.loader import loads
from pgdoorman_lib.config.processors import processors


@pytest.fixture
def bound_to_six(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)), raising=False)


@pytest.mark.parametrize(
    ("quotas", "expected"),
    [
        ({}, 6),
        ({"": "max 100000", "a.slice/b.service": "max 100000"}, 6),
        ({"a.slice/b.service": "50000 100000"}, 1),
        ({"a.slice/b.service": "250000 100000"}, 3),
        ({"": "200000 100000", "a.slice": "max 100000", "a.slice/b.service": "500000 100000"}, 2),
        ({"a.slice": "100000 50000", "a.slice/b.service": "max 100000", "other": "1000 100000"}, 2),
        ({"a.slice/b.service": "900000 100000"}, 6),
    ],
)
def test_quotas(bound_to_six: None, tmp_path: Path, quotas: dict[str, str], expected: int) -> None:
    groups, group = tmp_path / "cgroup", tmp_path / "of_process"
    group.write_text("0::/a.slice/b.service\n")
    for directory, quota in quotas.items():
        (groups / directory).mkdir(parents=True, exist_ok=True)
        (groups / directory / "cpu.max").write_text(quota + "\n")
    (tmp_path / "cpu.max").write_text("1000 100000\n")  # of no group
    assert processors(groups, group) == expected


@pytest.mark.parametrize("said", [None, "0::/../elsewhere\n", "1:name=systemd:/\n", ""])
def test_groups_that_are_not_there(bound_to_six: None, tmp_path: Path, said: str | None) -> None:
    if said is not None:
        (tmp_path / "of_process").write_text(said)
    assert processors(tmp_path / "cgroup", tmp_path / "of_process") == 6


def test_where_nobody_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert processors() == 1


@pytest.mark.parametrize(("there", "expected"), [(1, 1), (3, 3), (4, 4), (64, 4)])
def test_workers_unless_told(monkeypatch: pytest.MonkeyPatch, there: int, expected: int) -> None:
    monkeypatch.setattr(general, "processors", lambda: there)
    required = '[general]\nadmin_username = "admin"\nadmin_password = "s3cret"\n'
    assert loads(f"{required}[pools]\n").general.worker_count == expected
    assert loads(f"{required}worker_threads = 7\n[pools]\n").general.worker_count == 7
