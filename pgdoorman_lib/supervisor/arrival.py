"""The new program of an upgrade: it takes listeners, and the place, from the one that has started it.

What its clients and servers come by is for ``heirs``; the other side of this is ``supervisor.upgrade``.
"""

from __future__ import annotations

import logging
import os
import socket
from contextlib import suppress

import gevent
import gevent.event

from pgdoorman_lib.errors import ConfigError
from pgdoorman_lib.listener import Inherited
from pgdoorman_lib.net.parcel import Channel, Parcel, ParcelError, Receiver, Refused
from pgdoorman_lib.net.syscalls import clock
from pgdoorman_lib.supervisor import kinds
from pgdoorman_lib.supervisor.host import Host, Serving

log = logging.getLogger(__name__)

#: Seconds for the old process to say what comes next.
STEP_SECONDS = 30.0
#: Seconds for a process that has closed its sockets to be dead.
DEATH_SECONDS = 0.5


class Arrival(Receiver):
    """What comes from the process at the other end of ``sock``, for ``host`` and those that serve for it."""

    def __init__(self, host: Host, serving: Serving, sock: socket.socket) -> None:
        self._host = host
        self._serving = serving
        self._channel = Channel(sock, self)
        self._old_process = os.getppid()
        #: it has died too early
        self._alone = False
        self._begun = gevent.event.Event()
        self._listening = gevent.event.Event()
        self._main = gevent.event.Event()
        #: its sockets stand in for those of the configuration
        self._activated = False
        #: daemon_pid_file, open
        self._pid_file = -1
        #: listening sockets nobody has claimed, by name
        self._sockets: dict[str, socket.socket] = {}

    # Before it is the pooler.

    def take_listeners(self) -> list[Inherited]:
        """Have the old process's listening sockets; may switch. ConfigError: there is no such process any more.

        Returns those that are to stand in for all that the configuration names; for the others see ``listener``.
        """
        try:
            self._channel.start(STEP_SECONDS)
        except ParcelError as exc:
            self._given_up(str(exc))
        self._await(self._listening)
        if not self._activated:
            return []
        sockets, self._sockets = self._sockets, {}
        return [Inherited(sock.detach(), name.partition(" ")[0]) for name, sock in sockets.items()]

    def listener(self, name: str) -> socket.socket | None:
        """The socket that listens at ``name`` in the old process, to go on with; None if it does not listen there."""
        return self._sockets.pop(name, None)

    def be_the_pooler(self) -> None:
        """Tell the old process that this one can listen, and wait until it may; may switch. ConfigError: it may not.

        Should the old one have died by then, there is nobody to ask.
        """
        paths = [name for name, sock in self._sockets.items() if sock.family == socket.AF_UNIX]
        for name, sock in self._sockets.items():
            log.info("%s is listened at no more", name)
            sock.close()
        self._sockets = {}
        try:
            self._channel.send(Parcel(kinds.READY, {}), STEP_SECONDS)
        except ParcelError as exc:
            self._given_up(str(exc))
        self._await(self._begun)
        for path in paths:  # the old process leaves it to this one
            with suppress(FileNotFoundError):
                os.unlink(path)
        if self._host.pid_file is not None and self._pid_file >= 0:
            self._host.pid_file.inherit(self._pid_file)
        elif self._host.pid_file is not None:
            self._host.pid_file.take()
        gevent.spawn(self._note_its_end)

    def wait_until_main(self) -> None:
        """Wait until who watches the service knows that this is its process, or nobody will tell; may switch."""
        gevent.wait((self._main, self._channel.ended), timeout=STEP_SECONDS, count=1)

    def _await(self, event: gevent.event.Event) -> None:
        gevent.wait((event, self._channel.ended), timeout=STEP_SECONDS, count=1)
        if not event.is_set():
            self._given_up("the old process has said nothing more")

    def _given_up(self, reason: str) -> None:
        """ConfigError, unless the old process has died: then this one is alone, and the pooler."""
        if self._alone:
            return
        self._channel.close(0.0)
        deadline = clock() + DEATH_SECONDS
        while os.getppid() == self._old_process:
            if clock() >= deadline:
                raise ConfigError(f"the upgrade was given up: {reason}")
            gevent.sleep(DEATH_SECONDS / 50)  # switch: a process that dies closes its sockets first
        self._alone = True
        log.warning("upgrade: the old process has died before it had handed anything over; this one serves")

    def _note_its_end(self) -> None:
        self._channel.ended.wait()
        log.info("upgrade: the old process has ended")
        self._serving.end_of_old()

    def wait_for_its_end(self) -> None:
        """Wait until the old process has handed everything over, or has gone; may switch.

        Whoever hands over to a third process meanwhile would be one that has gone, to the first.
        """
        if not self._channel.ended.is_set():
            log.info("upgrade: waiting for the end of the process before this one")
            self._channel.ended.wait()
        self._serving.wait_for_all()

    # As Receiver; in the channel's greenlet, which must not wait.

    def prepare(self, parcel: Parcel) -> None:
        try:
            getattr(self, f"_prepare_{parcel.kind}", super().prepare)(parcel)
        except (KeyError, TypeError, ValueError) as exc:
            raise Refused(f"{type(exc).__name__}: {exc}") from exc

    def take(self, parcel: Parcel) -> None:
        getattr(self, f"_take_{parcel.kind}")(parcel)

    def drop(self, parcel: Parcel) -> None:
        getattr(self, f"_drop_{parcel.kind}", super().drop)(parcel)

    def _prepare_listener(self, parcel: Parcel) -> None:
        (_,) = parcel.descriptors

    def _take_listener(self, parcel: Parcel) -> None:
        (fd,) = parcel.detach()
        self._sockets[parcel.state["name"]] = socket.socket(fileno=fd)

    def _prepare_listeners(self, parcel: Parcel) -> None:
        if parcel.state["count"] != len(self._sockets):
            raise Refused("some are missing")

    def _take_listeners(self, parcel: Parcel) -> None:
        self._activated = bool(parcel.state["activated"])
        self._listening.set()

    def _prepare_pid_file(self, parcel: Parcel) -> None:
        (_,) = parcel.descriptors
        ours = self._host.pid_file
        if ours is None or os.path.realpath(ours.path) != parcel.state["path"]:
            raise Refused("the configuration names another")

    def _take_pid_file(self, parcel: Parcel) -> None:
        (self._pid_file,) = parcel.detach()

    def _prepare_heir(self, parcel: Parcel) -> None:
        (_,) = parcel.descriptors
        parcel.prepared = int(parcel.state["number"])
        if self._host.draining:
            raise Refused("this process ends")

    def _take_heir(self, parcel: Parcel) -> None:
        (fd,) = parcel.detach()
        self._serving.take(parcel.prepared, socket.socket(fileno=fd))

    def _prepare_begin(self, parcel: Parcel) -> None:
        parcel.prepared = dict(parcel.state["clients"]), dict(parcel.state["ordered"])

    def _take_begin(self, parcel: Parcel) -> None:
        self._serving.go_on_behind(*parcel.prepared)
        self._begun.set()

    def _prepare_main(self, parcel: Parcel) -> None:
        pass

    def _take_main(self, parcel: Parcel) -> None:
        self._main.set()
