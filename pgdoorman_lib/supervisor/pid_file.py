"""The file with the daemon's process id: it is one process's at a time, never somebody else's, and goes when that ends.

The lock (flock) is the open file's: whoever inherits the descriptor holds it on.
"""

from __future__ import annotations

import fcntl
import logging
import os
import stat
from contextlib import suppress
from pathlib import Path

from pgdoorman_lib.errors import ConfigError

log = logging.getLogger(__name__)

_FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NOCTTY | os.O_NONBLOCK
#: Everybody may know it, whatever the umask.
_MODE = 0o644
#: What is read of a file that may be anything.
_MOST_READ = 64
#: Seconds by which the kernel's time of boot may be off.
_CLOCK_ERROR = 2.0
#: The state of a process that has ended.
_ZOMBIE = "Z"


class PidFile:
    """The file at ``path``; between ``take`` and ``remove``, or within it, it is this process's."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._fd = -1

    def __enter__(self) -> None:
        self.take()

    def __exit__(self, *exc_info: object) -> None:
        self.remove()

    def take(self) -> None:
        """Have this process's id in it. ConfigError, and it stays as it was, when it is another's, or can't be had."""
        while self._fd < 0:
            try:
                fd = os.open(self.path, _FLAGS, _MODE)
            except OSError as exc:
                raise self._refused(f"can't be opened: {exc.strerror}") from exc
            try:
                self._lock(fd)
                if self._is_at_path(fd):
                    self._replace(fd)
                    self._fd, fd = fd, -1
            except OSError as exc:
                raise self._refused(f"can't be written: {exc.strerror}") from exc
            finally:
                if fd >= 0:
                    os.close(fd)

    @property
    def fd(self) -> int:
        """The open file, -1 while it is not this process's."""
        return self._fd

    def inherit(self, fd: int) -> None:
        """Have it from the process before this one, whose open file ``fd`` is; that one's ``leave`` follows."""
        self._fd = fd
        self._write(fd)

    def leave(self) -> None:
        """It is another process's, which has inherited it."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def remove(self) -> None:
        """Take the file away, unless another stands there by now."""
        if self._fd < 0:
            return
        if self._is_at_path(self._fd):
            os.unlink(self.path)
        self.leave()

    def _lock(self, fd: int) -> None:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise self._refused("is no file")
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _content(fd).decode("ascii", "replace").strip() or "another"
            raise self._refused(f"is held by process {holder}, which is running") from None

    def _replace(self, fd: int) -> None:
        """Write over what an ended process has left, and over nothing else."""
        before = _content(fd).strip()
        if before:
            if not before.isdigit():
                raise self._refused("has something else in it than the id of a process")
            if _may_have_written(int(before), os.fstat(fd).st_mtime):
                raise self._refused(f"has the id of process {int(before)}, which is running")
            log.info("%s is of process %d, which has ended: it is replaced", self.path, int(before))
        self._write(fd)

    @staticmethod
    def _write(fd: int) -> None:
        os.ftruncate(fd, 0)
        os.pwrite(fd, b"%d\n" % os.getpid(), 0)
        os.fchmod(fd, _MODE)

    def _is_at_path(self, fd: int) -> bool:
        """Whether the open file is still what the path names: the process before may have taken it away meanwhile."""
        try:
            return os.path.samestat(os.fstat(fd), os.stat(self.path, follow_symlinks=False))
        except FileNotFoundError:
            return False

    def _refused(self, reason: str) -> ConfigError:
        return ConfigError(f"general.daemon_pid_file: '{self.path}' {reason}")


def _content(fd: int) -> bytes:
    return os.pread(fd, _MOST_READ, 0)


def _may_have_written(pid: int, written: float) -> bool:
    """Whether a process of this id runs that is as old as the file, and not one that got a free id later."""
    if pid in (0, os.getpid()):
        return False
    try:
        with suppress(PermissionError):  # it is another user's
            os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    fields = _fields(pid)
    if fields and fields[0] == _ZOMBIE:
        return False  # it has ended, and only its parent has not asked how
    began = _began(fields)
    return began is None or began <= written + _CLOCK_ERROR


def _fields(pid: int) -> list[str]:
    """What the system says of a process (proc(5)), from its state on; empty when it does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return []


def _began(fields: list[str]) -> float | None:
    """When a process began, in seconds since 1970, by its ``_fields``; None when the system does not say."""
    if not fields:
        return None
    try:
        boot = next(line.split()[1] for line in Path("/proc/stat").read_text().splitlines() if line.startswith("btime"))
    except (OSError, StopIteration):
        return None
    return int(boot) + int(fields[19]) / os.sysconf("SC_CLK_TCK")
