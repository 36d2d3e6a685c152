"""The daemon's pid file: one process's at a time, replaced when stale, never somebody else's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pgdoorman_lib.errors import ConfigError
from pgdoorman_lib.supervisor.pid_file import PidFile


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "pgdoorman.pid"


def taken(path: Path) -> PidFile:
    file = PidFile(str(path))
    file.take()
    return file


def refusal(path: Path) -> str:
    """Why it can't be taken; it must stay as it is."""
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(ConfigError) as caught:
        taken(path)
    assert (path.read_bytes() if path.is_file() else None) == before
    assert f"general.daemon_pid_file: '{path}'" in caught.value.message
    return caught.value.message


def ended() -> int:
    """The id of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_it_comes_and_goes(path: Path) -> None:
    before = os.umask(0o077)
    try:
        file = taken(path)
    finally:
        os.umask(before)
    assert path.read_text() == f"{os.getpid()}\n"
    assert path.stat().st_mode & 0o777 == 0o644
    assert not os.get_inheritable(file._fd)
    file.remove()
    assert not path.exists()
    file.remove()


def test_it_is_of_one_at_a_time(path: Path) -> None:
    first = taken(path)
    assert f"is held by process {os.getpid()}, which is running" in refusal(path)
    first.remove()
    taken(path).remove()


def test_the_lock_is_who_holds_the_descriptor(path: Path) -> None:
    """A process that has inherited it holds it on, when the one before has let it go."""
    first = taken(path)
    inherited = os.dup(first._fd)
    os.close(first._fd)
    assert "is held by" in refusal(path)
    os.close(inherited)
    taken(path).remove()


@pytest.mark.parametrize("content", [b"", b"\n", b"0\n", b"4194305\n", b"99999999999999999999\n"])
def test_what_an_ended_process_has_left_is_replaced(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    file = taken(path)
    assert path.read_text() == f"{os.getpid()}\n"
    file.remove()


def test_a_longer_one_is_replaced_whole(path: Path) -> None:
    path.write_text(f"{ended()}\n\n\n\n")
    file = taken(path)
    assert path.read_text() == f"{os.getpid()}\n"
    file.remove()


def test_of_a_running_process_it_stays(path: Path) -> None:
    """One that takes no lock, as PgBouncer."""
    path.write_text(f"{os.getppid()}\n")
    assert f"has the id of process {os.getppid()}, which is running" in refusal(path)


def test_ours_is_of_one_that_has_ended(path: Path) -> None:
    """In a container every process has the same id each time."""
    path.write_text(f"{os.getpid()}\n")
    taken(path).remove()


def test_an_id_that_another_process_has_got_later_is_stale(path: Path) -> None:
    path.write_text(f"{os.getppid()}\n")
    os.utime(path, (1_000_000_000, 1_000_000_000))
    taken(path).remove()


@pytest.mark.parametrize("content", ["[general]\n", "12 34", "-1\n"])
def test_what_is_no_pid_file_stays(path: Path, content: str) -> None:
    path.write_text(content)
    assert "has something else in it" in refusal(path)


def test_no_link_is_followed(path: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("")
    path.symlink_to(target)
    assert "can't be opened" in refusal(path)


def test_what_is_no_file(path: Path, tmp_path: Path) -> None:
    os.mkfifo(path)
    assert "is no file" in refusal(path)
    assert "can't be opened: No such file or directory" in refusal(tmp_path / "no" / "file")


def test_one_that_stands_there_by_now_is_left_alone(path: Path) -> None:
    file = taken(path)
    path.unlink()
    path.write_text("1\n")
    file.remove()
    assert path.read_text() == "1\n"
    path.unlink()
    taken(path).remove()


def test_taken_away_in_between(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process before ends after we have opened its file: what we locked is nobody's any more."""
    lock = PidFile._lock
    times = []

    def lock_late(self: PidFile, fd: int) -> None:
        if not times:
            path.unlink()
        times.append(fd)
        lock(self, fd)

    monkeypatch.setattr(PidFile, "_lock", lock_late)
    file = taken(path)
    assert len(times) == 2
    assert path.read_text() == f"{os.getpid()}\n"
    file.remove()


def test_a_process_that_has_ended_unasked_has_ended(path: Path) -> None:
    """Where nobody asks how its daemons have ended, as in many a container, they stay in the list of processes."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    try:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        path.write_text(f"{child.pid}\n")
        taken(path).remove()
    finally:
        child.wait()


def test_a_successor_inherits_it(path: Path) -> None:
    """The lock is on throughout, and whoever has left does not take the file away."""
    before = taken(path)
    after = PidFile(str(path))
    after.inherit(os.dup(before.fd))
    before.leave()
    before.remove()
    assert path.read_text() == f"{os.getpid()}\n"
    assert "is held by process" in refusal(path)
    after.remove()
    assert not path.exists()
