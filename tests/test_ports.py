"""The ports servers are started on: each is given to one process, once."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import ports
import pytest

ASK = "import ports; print(*(ports.free_port() for _ in range(3 * ports.BLOCK)), flush=True); input()"


def test_no_two_processes_get_the_same_one() -> None:
    """However many they ask for, and never one that the kernel could give a connection."""
    low, high = map(int, ports.EPHEMERAL.read_text().split())
    asking = [
        subprocess.Popen(
            [sys.executable, "-c", ASK], cwd=Path(ports.__file__).parent, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for _ in range(3)
    ]
    given: list[int] = []
    for process in asking:
        assert process.stdout is not None
        given += map(int, process.stdout.readline().split())
    given += [ports.free_port() for _ in range(ports.BLOCK)]  # before theirs are anybody's again
    for process in asking:
        process.communicate(b"\n")
    assert len(set(given)) == len(given) == 10 * ports.BLOCK
    assert low <= ports.LOWEST or not [port for port in given if low <= port <= high]


@pytest.fixture
def two_blocks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """There are only two, both ours, and we have asked for nothing yet."""
    starts = [ports._claim(), ports._claim()]
    ours = [ports.locks.pop(), ports.locks.pop()]
    monkeypatch.setattr(ports, "LOCK", f"{ports.LOCK}{os.getpid()}-")
    monkeypatch.setattr(ports, "_blocks", lambda: starts)
    monkeypatch.setattr(ports, "_left", [])
    monkeypatch.setattr(ports, "locks", [*ports.locks])
    before = len(ports.locks)
    yield
    for lock in [*ports.locks[before:], *ours]:
        lock.close()


def test_when_all_are_taken(two_blocks: None) -> None:
    given = [ports.free_port() for _ in range(2 * ports.BLOCK)]
    assert len(set(given)) == 2 * ports.BLOCK
    with pytest.raises(ports.NoPortLeft, match=f"hold all 2 blocks of {ports.BLOCK} ports"):
        ports.free_port()
    ports.locks.pop().close()
    assert ports.free_port() in given


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.9", "0.0.0.0", "::1", "::"])
def test_one_that_somebody_listens_on_is_passed_over(two_blocks: None, address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    first = ports.free_port() + 1
    try:
        taken = socket.create_server((address, first), family=family)
    except OSError:
        pytest.skip(f"no {address} here")
    with taken:
        assert ports.free_port() == first + 1


def test_a_machine_whose_kernel_picks_from_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(ports, "EPHEMERAL", tmp_path / "range")
    for low, high in ((32768, 60999), (1024, 65535), (15000, 40000)):
        ports.EPHEMERAL.write_text(f"{low}\t{high}\n")
        found = ports._blocks()
        assert len(found) > 20
        if (low, high) != (1024, 65535):
            assert not [start for start in found if start <= high and start + ports.BLOCK > low]
