"""How this program was started, so that it can be started once more, and the socket to the process before it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gevent
from gevent.monkey import get_original

from pgdoorman_lib.net.syscalls import clock

_signal: Any = get_original("signal", "signal")
_getsignal: Any = get_original("signal", "getsignal")
_waitpid: Callable[[int, int], tuple[int, int]] = get_original("os", "waitpid")

#: The descriptor of the socket to the process that hands itself over, for the one that it starts.
UPGRADE_FD = "PGDOORMAN_UPGRADE_FD"

#: Seconds for a process to end once it was told to.
END_SECONDS = 2.0
#: And between two looks whether it has.
LOOK_INTERVAL = 0.02


class Program:
    """What was run, where; made when the process begins, since it may change its directory."""

    def __init__(self, command: Sequence[str], directory: str) -> None:
        self.command = list(command)
        self.directory = directory

    @classmethod
    def running(cls) -> Program:
        """This one."""
        return cls(sys.orig_argv, os.getcwd())

    def start_successor(self, end: socket.socket) -> Successor:
        """Start it again, the version that is installed now, with one ``end`` of a socket pair; OSError. May switch."""
        environment = {**os.environ, UPGRADE_FD: str(end.fileno())}
        try:
            child = subprocess.Popen(
                self.command, cwd=self.directory, env=environment, pass_fds=(end.fileno(),), stdin=subprocess.DEVNULL
            )
        finally:
            _leave_other_children_alone()
        return Successor(child)


class Successor:
    """A process that was started."""

    def __init__(self, child: subprocess.Popen[bytes]) -> None:
        self._child = child
        self._code: int | None = None

    @property
    def pid(self) -> int:
        """The number of the process."""
        return int(self._child.pid)

    def wait(self, seconds: float) -> int | None:
        """How it has ended, negative: by which signal; None if it has not by then. May switch."""
        until = clock() + seconds
        while self._code is None and not self._has_ended() and clock() < until:
            gevent.sleep(LOOK_INTERVAL)
        return self._code

    def end(self) -> int | None:
        """See that it has ended; its exit code, None if it had to be ended. May switch."""
        code = self.wait(END_SECONDS / 2)
        if code is None:
            for number in (signal.SIGTERM, signal.SIGKILL):
                os.kill(self.pid, number)  # nobody but us waits for it: the number is its own yet
                if self.wait(END_SECONDS) is not None:
                    break
        return code

    def _has_ended(self) -> bool:
        if self._child.returncode is not None:  # the loop has seen it, before it was told not to look
            self._code = self._child.returncode
            return True
        pid, status = _waitpid(self.pid, os.WNOHANG)
        if pid:
            self._code = os.waitstatus_to_exitcode(status)
        return bool(pid)


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
