"""The old program of an upgrade: it starts the new one, and hands its listeners, and the place, over.

Rules:
1. Until the new program has said that it can listen (READY) nothing changes here; whatever goes wrong before that, it
   is ended and this one goes on as if nothing had been.
2. Then each process that serves here has an heir there, by a socket of their own (``handover``, ``heirs``), and accepts
   nobody any more. With BEGIN the new program is the pooler.
3. Should it end before this one has, with an error, this one is the pooler again, for those it still has.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Iterable
from typing import Any

import gevent
import gevent.event

from pgdoorman_lib.errors import ConfigError, DoormanError
from pgdoorman_lib.net.parcel import Channel, Parcel, ParcelError, Receiver
from pgdoorman_lib.supervisor import kinds
from pgdoorman_lib.supervisor.host import Host, Serving, UpgradeFailed
from pgdoorman_lib.supervisor.moving import PARCEL_SECONDS
from pgdoorman_lib.supervisor.program import END_SECONDS, Program, Successor
from pgdoorman_lib.wire.handover import Plain

log = logging.getLogger(__name__)

#: Seconds before an heir is looked for again.
LOOK_INTERVAL = 0.1


class Upgrade:
    """One attempt to have a new process of ``program`` in the place of ``host`` and those that serve for it.

    ``given_up`` is called when that has ended, and this one is the pooler again.
    """

    def __init__(self, host: Host, serving: Serving, program: Program, given_up: Callable[[], None]) -> None:
        self._host = host
        self._serving = serving
        self._program = program
        self._given_up = given_up
        self._channel: Channel | None = None
        self._child: Successor | None = None
        self._ready = gevent.event.Event()
        #: the new process is the pooler
        self._begun = False

    # The new process.

    def start(self) -> None:
        """Start the new process, and have it be the pooler; may switch. UpgradeFailed: it is not."""
        try:
            self._start_child()
            self._hand_listeners_over()
            self._wait_until_ready()
            self._begin()
        except (OSError, ParcelError) as exc:
            raise self._failed(str(exc)) from exc
        except BaseException:
            self._end_child()
            raise

    def _start_child(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            log.info("upgrade: starting %s", " ".join(self._program.command))
            self._child = self._program.start_successor(theirs)  # switch
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        self._channel = Channel(ours, _FromSuccessor(self._ready.set))
        self._channel.start(self._host.general.upgrade_timeout)  # switch
        log.info("upgrade: process %d is version %s", self._child.pid, self._channel.peer_product)

    def _hand_listeners_over(self) -> None:
        host = self._host
        listening = [*host.listeners.sockets(), *(host.telemetry.sockets() if host.telemetry is not None else ())]
        for name, sock in listening:
            self._send(kinds.LISTENER, {"name": name}, [sock.fileno()])
        if host.pid_file is not None:
            self._send(kinds.PID_FILE, {"path": os.path.realpath(host.pid_file.path)}, [host.pid_file.fd])
        self._send(kinds.LISTENERS, {"count": len(listening), "activated": host.listeners.activated})

    def _wait_until_ready(self) -> None:
        assert self._channel is not None
        limit = self._host.general.upgrade_timeout
        gevent.wait((self._ready, self._channel.ended), timeout=limit, count=1)
        if self._host.draining:
            raise self._failed("this process was told to end")
        if self._ready.is_set():
            return
        raise self._failed("it has ended" if self._channel.ended.is_set() else f"it was not ready within {limit:g} s")

    def _begin(self) -> None:
        """From here on the new process accepts clients; no server is opened here any more."""
        host = self._host
        if host.telemetry is not None:
            host.telemetry.pause()
        host.listeners.handed_over = True  # should this process be told to end while it is
        try:
            parting = [gevent.spawn(self._part, number) for number in self._serving.numbers()]
            gevent.joinall(parting)
            told = []
            for answer in (greenlet.get() for greenlet in parting):
                if isinstance(answer, DoormanError):
                    raise self._failed(answer.message)
                if answer is not None:
                    told.append(answer)
            if not told:
                raise self._failed("no process serves here any more")
            ordered = told[0]["ordered"]
            clients = {
                "last": max(state["clients"]["last"] for state in told),
                "used": b"".join(state["clients"]["used"] for state in told),
            }
            self._send(kinds.BEGIN, {"clients": clients, "ordered": ordered})  # switch
        except BaseException:
            self._resume()
            raise
        self._begun = True
        log.info("upgrade: process %d serves new clients; those here move to it", self._pid)
        self._serving.hand_over()
        if host.pid_file is not None:
            host.pid_file.leave()
        host.systemd.main_pid(self._pid)
        host.systemd.close()
        gevent.spawn(self._watch)
        try:
            self._send(kinds.MAIN, {})
        except ParcelError as exc:
            log.debug("upgrade: it could not be told that it is the service's process: %s", exc)

    def _part(self, number: int) -> Plain | DoormanError | None:
        """As ``Serving.part``, with an heir at the other end, or why not; may switch."""
        try:
            return self._serving.part(number, self._heir_of(number))
        except DoormanError as exc:
            return exc
        except (OSError, ParcelError) as exc:
            return UpgradeFailed(str(exc))

    def _heir_of(self, number: int) -> socket.socket:
        """The way to a new process that takes over from an old one; may switch. ParcelError, OSError: there is none."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._send(kinds.HEIR, {"number": number}, [theirs.fileno()])
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        return ours

    def appoint(self, number: int) -> bool:
        """Have one that hands over go on with another heir; may switch. False: the new program has ended."""
        assert self._channel is not None
        while not self._channel.ended.is_set():
            try:
                self._serving.pass_to(number, self._heir_of(number))
                return True
            except (OSError, ParcelError, DoormanError) as exc:
                log.debug("upgrade: nobody takes over from %d now: %s", number, exc)
                self._channel.ended.wait(LOOK_INTERVAL)  # switch
        return False

    def _failed(self, reason: str) -> UpgradeFailed:
        """End the new process, and say why."""
        code = self._end_child()
        if code is not None and code >= 0:
            reason = f"{reason} (exit code {code})"
        log.error("upgrade failed, this process %s: %s", "ends" if self._host.draining else "goes on", reason)
        return UpgradeFailed(f"upgrade failed: {reason}", hint="The log of the new process says more.")

    def _end_child(self) -> int | None:
        """See that the new process has ended; its exit code, None if it was ended. May switch."""
        if self._channel is not None:
            self._channel.close(0.0)
        return self._child.end() if self._child is not None else None

    @property
    def _pid(self) -> int:
        assert self._child is not None
        return self._child.pid

    def _send(self, kind: str, state: dict[str, Any], descriptors: Iterable[int] = ()) -> None:
        """Send a parcel; may switch. ParcelError: it has not gone."""
        assert self._channel is not None
        self._channel.send(Parcel(kind, state, list(descriptors)), PARCEL_SECONDS)

    # If it ends.

    def _watch(self) -> None:
        """See to it that there is one pooler when the new process has ended before this one; may switch."""
        assert self._channel is not None
        assert self._child is not None
        self._channel.ended.wait()
        code = self._child.wait(END_SECONDS)  # switch
        if not code:  # or it goes on without us
            # It was told to end, or hands over by now: there must be no second pooler.
            log.warning("upgrade: process %d needs nobody here any more; this one ends, too", self._pid)
            self._host.shutdown("drain")
            return
        log.error("upgrade: process %d has gone; this one goes on", self._pid)
        self._resume()
        self._given_up()

    def _resume(self) -> None:
        """The new process is none any more: be the pooler again."""
        host = self._host
        self._begun = host.listeners.handed_over = False
        self._serving.resume()
        if host.telemetry is not None:
            host.telemetry.resume()
        if host.pid_file is not None and host.pid_file.fd < 0:
            try:
                host.pid_file.take()
            except ConfigError as exc:
                log.error("%s", exc.message)

    def end(self) -> None:
        """This process ends: so does the new one, unless that is the pooler by now; may switch."""
        if not self._begun and self._child is not None:
            self._end_child()


class _FromSuccessor(Receiver):
    """What the new process says; ``ready`` is called when it can listen."""

    def __init__(self, ready: Callable[[], object]) -> None:
        self._ready = ready

    def prepare(self, parcel: Parcel) -> None:
        if parcel.kind != kinds.READY:
            super().prepare(parcel)

    def take(self, parcel: Parcel) -> None:
        self._ready()
