"""Going to the background: the launcher waits until the daemon serves or has failed, and has its exit code.

There may be no hub of gevent's, and so no engine, when this forks: its epoll or ring would be one for both processes.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable

from gevent.monkey import get_original

from pgdoorman_lib import log as logs
from pgdoorman_lib.errors import ConfigError

#: Exit code of a daemon that could not start (EX_OSERR of sysexits.h).
EXIT_NOT_STARTED = 71

#: What files are made with that say nothing of their mode.
_UMASK = 0o027

# gevent's own have a hub watch the child.
_fork: Callable[[], int] = get_original("os", "fork")
_waitpid: Callable[[int, int], tuple[int, int]] = get_original("os", "waitpid")


def launch(serve: Callable[[Launcher], int]) -> int:
    """Run ``serve(launcher)`` in a daemon: a session of its own, no terminal, the same working directory.

    Returns an exit code in both processes. In the launcher: 0 as soon as ``serve`` has called its ``ready``, else what
    it returned, or EXIT_NOT_STARTED if the daemon died. Until then standard error is shared: ``serve`` tells there why
    it fails.
    """
    reading, writing = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    child = _fork()
    if child:
        os.close(writing)
        _waitpid(child, 0)
        return _outcome(reading)
    os.close(reading)
    os.setsid()
    if _fork():
        os._exit(0)  # the daemon leads no session, and so no terminal becomes its own
    os.umask(_UMASK)
    launcher = Launcher(writing)
    code = serve(launcher)
    launcher.tell(code)
    return code


class Launcher:
    """The process that waits, as its daemon sees it; ``writing`` is a pipe to it, -1: nobody waits."""

    def __init__(self, writing: int) -> None:
        self._writing = writing

    @classmethod
    def none(cls) -> Launcher:
        """Of a process that is no daemon, or is one already."""
        return cls(-1)

    def ready(self) -> None:
        """Let go of the terminal, then of the launcher; ConfigError when that is gone."""
        if self._writing < 0:
            return
        logs.detach()
        if not self.tell(0):
            raise ConfigError("whoever launched the daemon was ended before it was ready")

    def tell(self, code: int) -> bool:
        """Let it end with ``code``, if it was not told before; whether it is still there to hear that."""
        writing, self._writing = self._writing, -1
        if writing < 0:
            return True
        try:
            os.write(writing, b"%d" % code)
        except BrokenPipeError:
            return False
        finally:
            os.close(writing)
        return True

    def close(self) -> None:
        """This is another process than the one that tells it."""
        writing, self._writing = self._writing, -1
        if writing >= 0:
            os.close(writing)


def _outcome(reading: int) -> int:
    """What the daemon says, which may take its time; an interrupt ends the launcher, and so the daemon, too."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read()
    if said:
        return int(said)
    print("pgdoorman: the daemon died before it was ready", file=sys.stderr)
    return EXIT_NOT_STARTED
