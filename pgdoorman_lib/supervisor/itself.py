"""The clients and servers of this very process in an upgrade: they go to another one, or come from those before."""

from __future__ import annotations

import socket
from array import array
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import gevent

from pgdoorman_lib.net.parcel import Channel
from pgdoorman_lib.supervisor.cancels import Asked
from pgdoorman_lib.supervisor.handover import HandOver
from pgdoorman_lib.supervisor.heirs import Heirs, obey
from pgdoorman_lib.supervisor.host import NUMBERS_LEFT, UpgradeFailed
from pgdoorman_lib.wire.handover import Plain

if TYPE_CHECKING:
    from pgdoorman_lib.app import App


class Itself:
    """``app`` as the only one that serves (``host.Serving``), or as ``worker`` of several ``workers``.

    ``find_another`` is as for ``HandOver``. ``counted`` is called once the servers of an old worker are counted here,
    with its number; it may switch.
    """

    def __init__(
        self,
        app: App,
        find_another: Callable[[], bool],
        worker: int = 1,
        workers: int = 1,
        counted: Callable[[int], object] = lambda number: None,
    ) -> None:
        self._app = app
        self._worker = worker
        self._workers = workers
        self._find_another = find_another
        self._counted = counted
        self._asked = Asked()
        self._heirs = Heirs(app, self._asked)
        self._handover: HandOver | None = None

    @property
    def hands_over(self) -> bool:
        """Whether somebody is about to take over."""
        return self._handover is not None and self._handover.parted

    # On the old side.

    def numbers(self) -> list[int]:
        """As ``Serving.numbers``."""
        return [1]

    def part(self, number: int, end: socket.socket) -> Plain:
        """As ``Serving.part``."""
        handover = self._handover = HandOver(self._app, self._find_another, self._asked, self._worker, self._workers)
        try:
            return handover.begin(end)
        except BaseException:
            if self._handover is handover:
                self._handover = None
            raise

    def pass_to(self, number: int, end: socket.socket) -> None:
        """As ``Serving.pass_to``."""
        if self._handover is None or not self._handover.going:
            end.close()
            raise UpgradeFailed("no upgrade is under way here")
        self._handover.meet(end)

    def hand_over(self) -> None:
        """As ``Serving.hand_over``."""
        if self._handover is not None and self._handover.parted and not self._handover.going:
            self._handover.go()

    def resume(self) -> None:
        """As ``Serving.resume``."""
        handover, self._handover = self._handover, None
        if handover is not None:
            handover.resume()

    # On the new side.

    def take(self, number: int, end: socket.socket) -> None:
        """As ``Serving.take``."""
        self._heirs.take(end, lambda: self._counted(number))

    def go_on_behind(self, clients: Plain, ordered: Plain | None) -> None:
        """As ``Serving.go_on_behind``; ``ordered`` is None where nobody could tell."""
        numbers = self._app.clients
        numbers.go_on_behind(clients["last"], NUMBERS_LEFT)
        used = array("i")
        used.frombytes(clients["used"])
        numbers.reserve(used)
        gevent.spawn(self._release, used)
        if ordered is not None:
            obey(self._app, ordered)

    def end_of_old(self) -> None:
        """As ``Serving.end_of_old``: nobody counts for it but this one."""

    def _release(self, used: Iterable[int]) -> None:
        """Give out again what the old side's clients had as numbers, once they are all here; may switch."""
        self.wait_for_all()
        self._app.clients.release(number for number in used if number not in self._app.consoles)

    def wait_for_all(self) -> None:
        """As ``Serving.wait_for_all``."""
        self._heirs.wait_for_all()

    # Either.

    def channels(self) -> list[Channel]:
        """Those to processes that may have clients of ours, or we theirs."""
        return [*(self._handover.channels() if self._handover is not None else ()), *self._heirs.channels()]

    def cancel_beyond(self, number: int, secret: bytes) -> Plain:
        """Ask those processes once for a client: ``any``, are there some, and have they ``found`` it? May switch."""
        channels = self.channels()
        return {"any": bool(channels), "found": self._asked.ask_once(channels, number, secret)[1]}

    def pass_cancel_on(self, number: int, secret: bytes) -> None:
        """As in ``Kin``."""
        self._asked.pass_on(self.channels(), self._app.cancel_here, number, secret)
