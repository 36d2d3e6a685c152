"""The process that worker processes are forked from: the program as it was started, before it did anything.

A worker that is started later is of the same version as the others, whatever is installed by then, and nothing that
runs in the supervisor (greenlets, a hub, its epoll) is in it. The nursery has no hub, no thread and nothing but its
socket to the supervisor; it ends when that has gone, and the workers see to their own end.
"""

from __future__ import annotations

import _socket
import array
import json
import logging
import os
import pickle
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple, NoReturn

import gevent
from gevent.monkey import get_original
from gevent.socket import wait_read, wait_write

from pgdoorman_lib.config.model import Config

log = logging.getLogger(__name__)

# gevent's own would make a hub, or wait by one.
_fork: Callable[[], int] = get_original("os", "fork")
_waitpid: Callable[[int, int], tuple[int, int]] = get_original("os", "waitpid")
_Socket: type[socket.socket] = get_original("socket", "socket")
_signal: Callable[..., Any] = get_original("signal", "signal")
_poll: Callable[[], Any] = get_original("select", "poll")

#: Seconds between two looks at whether it has ended.
END_INTERVAL = 0.001
#: Bytes of a message between the two; the configuration goes in a file of its own.
_MOST = 4096
#: Signals that a terminal or a service manager sends to all processes of the service: the supervisor goes by them.
ITS_SUPERVISORS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM)


class Birth(NamedTuple):
    """What a new worker is given: its number, the socket to its supervisor, and the configuration it begins with."""

    number: int
    control: int
    config: Config


class Ended(NamedTuple):
    """A worker that has ended: exit code, or the number of a signal below zero; None where nobody has seen how."""

    pid: int
    code: int | None


class Nursery:
    """The nursery as the supervisor sees it."""

    def __init__(self, sock: Any, pid: int) -> None:
        self._socket = sock
        self._pid = pid
        sock.setblocking(False)

    def bear(self, birth: Birth) -> None:
        """Have a worker started; ``birth.control`` stays the caller's to close. OSError: there is no nursery any more.

        Its process id is told by ``hear``. May switch.
        """
        with os.fdopen(os.memfd_create("config", os.MFD_CLOEXEC), "wb") as file:
            pickle.dump(birth.config, file)
            file.flush()
            message = json.dumps({"number": birth.number}).encode()
            rights = array.array("i", [birth.control, file.fileno()])
            while True:
                try:
                    self._socket.sendmsg([message], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
                    return
                except BlockingIOError:
                    wait_write(self._socket.fileno())

    def hear(self, born: Callable[[int, int], None], ended: Callable[[Ended], None]) -> None:
        """Tell of workers ``born`` (number, process id) and ``ended``, until the nursery has gone; may switch."""
        while True:
            try:
                message = self._socket.recv(_MOST)
            except BlockingIOError:
                wait_read(self._socket.fileno())
                continue
            except ConnectionResetError:
                return
            if not message:
                return
            told = json.loads(message)
            if "number" in told:
                born(told["number"], told["pid"])
            else:
                ended(Ended(told["pid"], told["code"]))

    def close(self) -> None:
        """Have it end, and see that it has; may switch for a moment."""
        self._socket.close()
        # Once a process was started by gevent's subprocess, its hub waits for all that end.
        with suppress(ChildProcessError):
            while _waitpid(self._pid, os.WNOHANG)[0] == 0:
                gevent.sleep(END_INTERVAL)


def found(let_go: Callable[[], None]) -> Nursery | Birth:
    """Fork the nursery, which calls ``let_go`` to close what is the supervisor's alone.

    Returns in the supervisor, and once in each worker there will be. No hub may have been made before.
    """
    # Python's own ``socketpair`` makes sockets of whatever class stands in its module by now: gevent's, with a hub.
    ours, theirs = (_Socket(fileno=each.detach()) for each in _socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET))
    sys.stdout.flush()
    sys.stderr.flush()
    pid = _fork()
    if pid:
        theirs.close()
        return Nursery(ours, pid)
    ours.close()
    let_go()
    for number in ITS_SUPERVISORS:
        signal.signal(number, signal.SIG_IGN)
    return _Midwife(theirs).serve()


def pin(number: int) -> None:
    """Have this process, worker ``number``, run on one processor alone, of those that it may run on."""
    processors = sorted(os.sched_getaffinity(0))
    mine = processors[(number - 1) % len(processors)]
    os.sched_setaffinity(0, {mine})
    log.info("runs on processor %d alone", mine)


class _Midwife:
    """What the nursery does."""

    def __init__(self, sock: Any) -> None:
        self._socket = sock
        self._reading, self._writing = os.pipe()
        os.set_blocking(self._reading, False)
        os.set_blocking(self._writing, False)
        signal.set_wakeup_fd(self._writing)
        _signal(signal.SIGCHLD, lambda number, frame: None)

    def serve(self) -> Birth:
        """Fork whom the supervisor wants, and tell it of those that have ended; returns only in a worker."""
        poll = _poll()
        poll.register(self._socket.fileno(), 1)  # POLLIN
        poll.register(self._reading, 1)
        while True:
            ready = [fd for fd, _ in poll.poll()]
            if self._reading in ready:
                os.read(self._reading, _MOST)
                self._reap()
            if self._socket.fileno() in ready:
                birth = self._asked()
                if birth is not None:
                    return birth

    def _asked(self) -> Birth | None:
        space = socket.CMSG_SPACE(2 * array.array("i").itemsize)
        try:
            message, ancillary, _, _ = self._socket.recvmsg(_MOST, space, socket.MSG_CMSG_CLOEXEC)
        except ConnectionResetError:  # it was killed, and has not read what it was told
            self._end()
        if not message:
            self._end()
        descriptors = array.array("i")
        for _, _, data in ancillary:
            descriptors.frombytes(data)
        control, file = descriptors
        number = json.loads(message)["number"]
        pid = _fork()
        if pid:
            os.close(control)
            os.close(file)
            self._tell({"number": number, "pid": pid})
            return None
        self._socket.close()
        signal.set_wakeup_fd(-1)
        _signal(signal.SIGCHLD, signal.SIG_DFL)
        os.close(self._reading)
        os.close(self._writing)
        with os.fdopen(file, "rb") as config:
            config.seek(0)
            return Birth(number, control, pickle.load(config))

    def _reap(self) -> None:
        while True:
            try:
                pid, status = _waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            self._tell({"pid": pid, "code": os.waitstatus_to_exitcode(status)})

    def _tell(self, what: dict[str, int]) -> None:
        try:
            self._socket.send(json.dumps(what).encode())
        except (BrokenPipeError, ConnectionResetError):
            self._end()

    @staticmethod
    def _end() -> NoReturn:
        os._exit(0)
