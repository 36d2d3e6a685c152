"""Where lines of the log go: standard error, a file, syslog. None of them ever waits, which would stop all clients.

What is not taken at once is lost, and counted in the next line that is taken.
"""

from __future__ import annotations

import errno
import logging
import logging.handlers
import os
import select
import socket
import sys
from typing import Any, TextIO

from gevent.monkey import get_original

# gevent's own would switch, which the hub, where much is logged, can't; and make a hub, which nobody may have yet when
# the log is directed: worker processes are forked later.
_poll = get_original("select", "poll")
_Socket: type[socket.socket] = get_original("socket", "socket")

_FILE_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
#: Names and addresses of clients stand in the file.
_FILE_MODE = 0o640


class Sink(logging.Handler):
    """A handler that loses lines rather than wait or fail; ``where`` names it."""

    where = ""

    def __init__(self) -> None:
        logging.Handler.__init__(self)  # not what else one who derives derives from
        #: lines lost since the last that was not
        self.lost = 0

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record)
            if self.lost:
                told = self._lost_record(record)
                self.put(told, self.format(told))
                self.lost = 0
            self.put(record, text)
        except Exception:
            self.handleError(record)

    def put(self, record: logging.LogRecord, text: str) -> None:
        """Write the text of a record; OSError when it is not taken at once."""
        raise NotImplementedError

    def _lost_record(self, record: logging.LogRecord) -> logging.LogRecord:
        """What is logged ahead of ``record``."""
        return logging.makeLogRecord(
            {
                "name": __name__,
                "levelno": logging.WARNING,
                "levelname": "WARNING",
                "created": record.created,
                "msg": f"{self.lost} lines of the log were lost: {self.where} was full or gone",
            }
        )

    def handleError(self, record: logging.LogRecord) -> None:
        # Anything else than the system's refusal is a mistake in the call that logs, which logging reports.
        if isinstance(sys.exc_info()[1], OSError):
            self.lost += 1
        else:
            super().handleError(record)


class _Descriptor(Sink):
    """Writes to an open file."""

    def __init__(self) -> None:
        super().__init__()
        self.fd = -1
        #: only a part of the last line was taken
        self._cut = False

    def put(self, record: logging.LogRecord, text: str) -> None:
        data = f"{text}\n".encode(errors="backslashreplace")
        if self._cut:
            data = b"\n" + data
        while data:
            if not _is_writable(self.fd):
                raise BlockingIOError(errno.EAGAIN, f"nobody reads {self.where}")
            written = os.write(self.fd, data[: select.PIPE_BUF])  # so much is taken at once where any is
            data = data[written:]
            self._cut = bool(data)


class StreamHandler(_Descriptor):
    """Standard error, or another stream that may have no descriptor."""

    where = "stderr"

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self.stream = stream
        self._bare = False
        try:
            self.fd = stream.fileno()
        except (AttributeError, OSError, ValueError):
            self._bare = True

    def put(self, record: logging.LogRecord, text: str) -> None:
        if not self._bare:
            super().put(record, text)
        elif self.stream.closed:
            raise BrokenPipeError(errno.EPIPE, "the stream is closed")
        else:
            self.stream.write(f"{text}\n")
            self.stream.flush()


class FileHandler(_Descriptor):
    """A file by its path, made if it is not there; ``open`` again when it was moved away. OSError if it can't be."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.where = path
        self._has_stderr = False
        self.open()

    def open(self) -> None:
        """Open the file of this name that is there now; OSError, and the one before is kept, when that fails."""
        opened = os.open(self.where, _FILE_FLAGS, _FILE_MODE)
        before, self.fd = self.fd, opened
        self._cut = False
        if before >= 0:
            os.close(before)
        if self._has_stderr:
            os.dup2(self.fd, 2)

    def take_stderr(self) -> None:
        """Have standard error go there, too, from now on."""
        self._has_stderr = True
        os.dup2(self.fd, 2)

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
        super().close()


class SyslogHandler(Sink, logging.handlers.SysLogHandler):
    """The syslog of this machine by the datagram socket at ``path``, under ``name``; it may come and go.

    The library's handler says what a priority is; sending is ours, since its own would wait for a socket that is full.
    """

    priority_map = {**logging.handlers.SysLogHandler.priority_map, "TRACE": "debug"}  # noqa: RUF012

    def __init__(self, path: str, name: str) -> None:
        Sink.__init__(self)
        self.where = f"syslog ({path})"
        self.path = path
        self.facility = self.LOG_USER
        self.ident = f"{name}[{os.getpid()}]: "
        self.socket: Any = None

    def connect(self) -> None:
        """Connect, unless it is; OSError when nobody is there."""
        if self.socket is None:
            made = _Socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            made.setblocking(False)
            try:
                made.connect(self.path)
            except OSError:
                made.close()
                raise
            self.socket = made

    def put(self, record: logging.LogRecord, text: str) -> None:
        priority = self.encodePriority(self.facility, self.mapPriority(record.levelname))
        data = f"<{priority}>{self.ident}{text}".encode(errors="backslashreplace")
        connected = self.socket is not None
        self.connect()
        try:
            self.socket.send(data)
        except BlockingIOError:
            raise
        except OSError as exc:
            self._disconnect()
            if not connected or exc.errno == errno.EMSGSIZE:
                raise
            self.connect()  # it was started anew
            self.socket.send(data)

    def _disconnect(self) -> None:
        if self.socket is not None:
            self.socket.close()
            self.socket = None

    def close(self) -> None:
        self._disconnect()
        logging.Handler.close(self)


def _is_writable(fd: int) -> bool:
    """Whether a write does not wait, or fails at once; no switch."""
    poll = _poll()
    poll.register(fd, select.POLLOUT)
    return bool(poll.poll(0))
