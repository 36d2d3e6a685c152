"""What an upgrade needs of the process that was started, on either side: one alone, or a supervisor of workers."""

from __future__ import annotations

import socket
from typing import Any, Protocol

from pgdoorman_lib.config.general import General
from pgdoorman_lib.errors import DoormanError
from pgdoorman_lib.listeners import Listeners
from pgdoorman_lib.supervisor.pid_file import PidFile
from pgdoorman_lib.supervisor.systemd import Systemd
from pgdoorman_lib.telemetry import Telemetry
from pgdoorman_lib.wire.handover import Plain

#: Numbers of clients that are left to the old side, for those who log in there until it accepts nobody any more.
NUMBERS_LEFT = 100_000


class UpgradeFailed(DoormanError):
    """The new process did not get so far: this one goes on."""

    sqlstate = "58000"


class Host(Protocol):
    """The process itself: what it listens with, who is told of it, how it ends."""

    listeners: Listeners
    pid_file: PidFile | None
    systemd: Systemd

    @property
    def general(self) -> General:
        """The [general] section in force."""

    @property
    def telemetry(self) -> Telemetry | None:
        """What answers by HTTP."""

    @property
    def draining(self) -> Any:
        """Whether it has been told to end."""

    def shutdown(self, mode: str = "drain") -> None:
        """Begin to end; returns at once."""


class Serving(Protocol):
    """Its processes that have clients, by number: workers from 1, or the process itself as the only one."""

    # On the old side.

    def numbers(self) -> list[int]:
        """Those that there are."""

    def part(self, number: int, end: socket.socket) -> Plain | None:
        """Have one take nobody in any more, and tell who has the other ``end`` what is to come; may switch.

        Returns how it has numbered its ``clients`` (``last``: the number given last, ``used``: those they have, int32
        each), and
        what the console has ``ordered``; None: it has ended.
        DoormanError: it goes on as it was.
        """

    def pass_to(self, number: int, end: socket.socket) -> None:
        """Have one that hands over already go on with whoever has the other ``end``; may switch. DoormanError."""

    def hand_over(self) -> None:
        """The new program is the pooler: have all hand over; they end when they have. Returns at once."""

    def resume(self) -> None:
        """Have those that are left serve again, in whatever state they are; returns at once."""

    # On the new side.

    def take(self, number: int, end: socket.socket) -> None:
        """Have one of them take what the old side's ``number`` sends to ``end``, which is taken over; no switch."""

    def go_on_behind(self, clients: Plain, ordered: Plain) -> None:
        """Give other numbers than the old side's ``clients`` have, and go by what was ordered there; no switch."""

    def end_of_old(self) -> None:
        """The old side's program has ended; no switch."""

    def wait_for_all(self) -> None:
        """Wait until nobody on the old side has anything left to send; may switch."""
