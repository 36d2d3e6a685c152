"""systemd as whoever started us: what it hands over in the environment, and what it wants to be told (sd_notify(3)).

Without it, nothing is handed over and nobody is told.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager

import gevent
from gevent.monkey import get_original

from pgdoorman_lib.errors import ConfigError
from pgdoorman_lib.listener import Inherited

log = logging.getLogger(__name__)

#: The first descriptor that systemd hands over (SD_LISTEN_FDS_START).
FIRST_DESCRIPTOR = 3
#: Seconds between two looks at what STATUS= says.
STATUS_INTERVAL = 5.0
#: Each look while the process ends asks for as many more seconds before systemd may kill it.
MORE_TIME = 3 * STATUS_INTERVAL

# gevent's own would make a hub, and a daemon is still to fork.
_socket = get_original("socket", "socket")


class Systemd:
    """What systemd is told of this process, at ``address`` (None: nobody is); ``watchdog`` is its limit in seconds.

    No method switches but ``watch``. A message that can't be sent is warned of, and so is not the next one like it.
    """

    def __init__(self, address: str | None, watchdog: float | None = None) -> None:
        self._address = _sockaddr(address)
        # One for life: without descriptors left the watchdog's messages must still go out.
        self._socket = _socket(socket.AF_UNIX, socket.SOCK_DGRAM) if address else None
        if self._socket is not None:
            self._socket.setblocking(False)
        self._interval = STATUS_INTERVAL if watchdog is None else min(STATUS_INTERVAL, watchdog / 2)
        self._watched = watchdog is not None
        self._stopping = False
        self._status = ""
        #: how the last reload went wrong, as STATUS= says it
        self._trouble = ""
        self._unreachable = False

    @classmethod
    def of(cls, environment: MutableMapping[str, str]) -> Systemd:
        """The one that ``environment`` names; it is left as a successor of this process needs it."""
        own = environment.pop("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        limit = environment.get("WATCHDOG_USEC", "")
        watchdog = int(limit) / 1_000_000 if own and limit.isdigit() and int(limit) else None
        if watchdog is None:
            environment.pop("WATCHDOG_USEC", None)
        return cls(environment.get("NOTIFY_SOCKET") or None, watchdog)

    def ready(self) -> None:
        """We serve."""
        self._send("READY=1")

    @contextmanager
    def reloading(self) -> Iterator[None]:
        """Within, the configuration is read again; ConfigError passes on, and is told of until it is read well."""
        if not self._stopping:
            # Newer ones want the time, by the same clock as theirs; older ones pass over it.
            self._send("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")
        self._trouble = ""
        try:
            yield
        except ConfigError:
            self._trouble = "; the last reload was refused, see the log"
            raise
        finally:
            if not self._stopping:
                self.ready()

    def stopping(self) -> None:
        """We end, and take our time."""
        self._stopping = True
        self._send("STOPPING=1", "STATUS=shutting down")

    def main_pid(self, pid: int) -> None:
        """Another process is the service from now on; what it says itself is not listened to before."""
        self._send(f"MAINPID={pid}")

    def watch(self, count: Callable[[], tuple[int, int]]) -> None:
        """Tell, for ever, what ``count`` gives, numbers of clients and servers, and that we are alive."""
        while self._socket is not None:
            self.look(count)
            gevent.sleep(self._interval)

    def look(self, count: Callable[[], tuple[int, int]]) -> None:
        """Tell what there is to tell by now."""
        clients, servers = count()
        status = f"{'shutting down: ' if self._stopping else ''}{clients} clients, {servers} servers{self._trouble}"
        told = []
        if status != self._status:
            told.append(f"STATUS={status}")
        if self._watched:
            told.append("WATCHDOG=1")
        if self._stopping:
            told.append(f"EXTEND_TIMEOUT_USEC={round(MORE_TIME * 1_000_000)}")
        if told and self._send(*told):
            self._status = status

    def close(self) -> None:
        """Tell nothing any more."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, *lines: str) -> bool:
        """Send one message of such assignments; whether it was taken."""
        if self._socket is None:
            return False
        try:
            self._socket.sendto("\n".join(lines).encode(), self._address)
        except OSError as exc:
            if not self._unreachable:
                log.warning("systemd was not told %s: %s", lines[0], exc.strerror or exc)
            self._unreachable = True
            return False
        self._unreachable = False
        return True


def _sockaddr(address: str | None) -> str:
    """NOTIFY_SOCKET as the kernel wants it: @ begins a name that is in no directory. ConfigError for another kind."""
    if address is None:
        return ""
    if address.startswith("@"):
        return "\0" + address[1:]
    if not address.startswith("/"):
        raise ConfigError(f"NOTIFY_SOCKET: '{address}' is no path of a unix socket, nor a name that begins with @")
    return address


def handed_over(environment: MutableMapping[str, str]) -> list[Inherited]:
    """The sockets of socket activation (sd_listen_fds(3)), if they are this process's; ``environment`` forgets them.

    ConfigError when it contradicts itself.
    """
    owner = environment.pop("LISTEN_PID", "")
    count = environment.pop("LISTEN_FDS", "")
    names = environment.pop("LISTEN_FDNAMES", "")
    if owner != str(os.getpid()) or not count:
        return []
    if not count.isdigit():
        raise ConfigError(f"LISTEN_FDS: '{count}' is no number")
    called = names.split(":") if names else []
    called += [""] * (int(count) - len(called))
    found = [Inherited(FIRST_DESCRIPTOR + i, name) for i, name in enumerate(called)]
    for each in found:
        try:
            os.set_inheritable(each.fd, False)  # systemd leaves that to us
        except OSError as exc:
            raise ConfigError(f"LISTEN_FDS: descriptor {each.fd} of {count}: {exc.strerror}") from exc
    return found
