"""No test leaves greenlets, threads, child processes or file descriptors behind in the test process."""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import ports
import psutil
import pytest
from pace import patience

#: How long what a test used may take to go away after it.
GRACE_SECONDS = patience(3.0)

_FD_DIRECTORY = Path("/proc/self/fd")
#: Of Linux, where each of its directories mostly has a file ``children``.
_TASKS = Path("/proc/self/task")

#: Process ids of children that fixtures look after, who may be replaced in a test (a restarted PostgreSQL).
looked_after: set[int] = set()

#: Descriptors a library opens once and keeps: gevent's event loop and its wake-up, randomness.
_KEPT = ("anon_inode:[eventpoll]", "anon_inode:[eventfd]", "/dev/urandom", "/dev/null")


def _descriptors() -> dict[int, str]:
    found = {}
    kept = {lock.fileno() for lock in ports.locks}
    if _FD_DIRECTORY.is_dir():
        for name in os.listdir(_FD_DIRECTORY):
            try:
                target = os.readlink(_FD_DIRECTORY / name)
            except FileNotFoundError:
                continue  # the descriptor listdir itself used
            if not target.startswith(_KEPT) and int(name) not in kept:
                found[int(name)] = target
    return found


def _threads() -> set[threading.Thread]:
    return {t for t in threading.enumerate() if t.is_alive()}


def _children() -> set[int]:
    if not (_TASKS / str(os.getpid()) / "children").exists():
        found = {p.pid for p in psutil.Process().children()}
    else:  # without walking all processes of the machine, which takes longer than most tests
        found = set()
        for task in os.listdir(_TASKS):
            with contextlib.suppress(FileNotFoundError):  # a thread that has ended has handed its children on
                found.update(map(int, (_TASKS / task / "children").read_text().split()))
    return {pid for pid in found - looked_after if not _is_zombie(pid)}


def _is_zombie(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _greenlets() -> int:
    """How many started and unfinished gevent greenlets there are; 0 while nobody has imported gevent."""
    if "gevent" not in sys.modules:
        return 0
    from gevent import Greenlet

    return sum(1 for o in gc.get_objects() if issubclass(type(o), Greenlet) and o.started and not o.dead)


def _leftovers(
    descriptors: dict[int, str], threads: set[threading.Thread], children: set[int], greenlets: int
) -> list[str]:
    now = _descriptors()
    left = [f"file descriptor {fd}: {what}" for fd, what in now.items() if descriptors.get(fd) != what]
    left += [f"thread {t.name}" for t in _threads() - threads]
    left += [f"child process {pid}" for pid in _children() - children]
    if not left and greenlets >= 0:
        more = _greenlets() - greenlets
        left += [f"{more} greenlets"] if more > 0 else []
    return left


#: How many there were behind the last file: nobody has begun one since.
_greenlets_left = 0


@pytest.fixture(autouse=True, scope="module")
def no_leaked_greenlets() -> Iterator[None]:
    """The same for greenlets, once for each file: looking through all objects takes longer than most tests."""
    global _greenlets_left
    before = _greenlets_left
    yield
    deadline = time.monotonic() + GRACE_SECONDS
    while (now := _greenlets()) > before:
        if time.monotonic() > deadline:
            _greenlets_left = now  # the next file is not to blame for them
            pytest.fail(f"left behind: {now - before} greenlets")
        gc.collect()
        time.sleep(0.02)
    _greenlets_left = now


@pytest.fixture(autouse=True)
def no_leaks(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail the test that leaves something behind; ``@pytest.mark.may_leak(reason)`` excuses one."""
    before = (_descriptors(), _threads(), _children(), -1)
    yield
    if request.node.get_closest_marker("may_leak"):
        return
    if not _leftovers(*before):
        return
    deadline = time.monotonic() + GRACE_SECONDS
    while left := _leftovers(*before):
        if time.monotonic() > deadline:
            pytest.fail("left behind: " + "; ".join(left))
        gc.collect()
        time.sleep(0.02)
