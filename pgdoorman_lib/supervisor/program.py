"""How this program was started, so that it can be started once more, and the socket to the process before it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import gevent
from gevent.monkey import get_original

_signal: Any = get_original("signal", "signal")
_getsignal: Any = get_original("signal", "getsignal")

#: The descriptor of the socket to the process that hands itself over, for the one that it starts.
UPGRADE_FD = "PGDOORMAN_UPGRADE_FD"

#: Seconds for a process to end once it was told to.
END_SECONDS = 2.0


class Program:
    """What was run, where; made when the process begins, since it may change its directory."""

    def __init__(self, command: Sequence[str], directory: str) -> None:
        self.command = list(command)
        self.directory = directory

    @classmethod
    def running(cls) -> Program:
        """This one."""
        return cls(sys.orig_argv, os.getcwd())

    def start_successor(self, end: socket.socket) -> subprocess.Popen[bytes]:
        """Start it again, the version that is installed now, with one ``end`` of a socket pair; OSError. May switch."""
        environment = {**os.environ, UPGRADE_FD: str(end.fileno())}
        return subprocess.Popen(
            self.command, cwd=self.directory, env=environment, pass_fds=(end.fileno(),), stdin=subprocess.DEVNULL
        )


def end(child: subprocess.Popen[bytes]) -> int | None:
    """See that a process that was started has ended; its exit code, None if it had to be ended. May switch."""
    try:
        with suppress(subprocess.TimeoutExpired):
            return child.wait(END_SECONDS / 2)
        for number in (signal.SIGTERM, signal.SIGKILL):
            child.send_signal(number)
            with suppress(subprocess.TimeoutExpired):
                child.wait(END_SECONDS)
                break
        return None
    finally:
        _leave_other_children_alone()


def _leave_other_children_alone() -> None:
    """Have gevent's loop wait for children no more, as it does for all of them once there was one of ours.

    Modules of PAM start some in threads, and wait for them.
    """
    # Python does not know of the loop's handler: this is the one before.
    _signal(signal.SIGCHLD, _getsignal(signal.SIGCHLD) or signal.SIG_DFL)
    loop: Any = gevent.get_hub().loop
    loop.reset_sigchld()  # the next child of ours installs it again


def is_successor(environment: Mapping[str, str]) -> bool:
    """Whether a process hands itself over to this one."""
    return UPGRADE_FD in environment


def inherited() -> socket.socket | None:
    """The socket to the process that is to hand itself over to this one, None when nobody is; only the first call."""
    text = os.environ.pop(UPGRADE_FD, None)
    if text is None:
        return None
    found = socket.socket(fileno=int(text))
    os.set_inheritable(found.fileno(), False)
    return found


def let_go() -> None:
    """Close the socket to that process: it is not this one that takes over."""
    text = os.environ.pop(UPGRADE_FD, None)
    if text is not None:
        os.close(int(text))
