"""The workers of a supervisor in an upgrade: who of them hands over to whom, and who takes from whom."""

from __future__ import annotations

import logging
import socket
from typing import Any

import gevent

from pgdoorman_lib.errors import DoormanError
from pgdoorman_lib.supervisor import kinds
from pgdoorman_lib.supervisor.cancels import ON_ITS_WAY
from pgdoorman_lib.supervisor.control import Unanswered
from pgdoorman_lib.supervisor.host import UpgradeFailed
from pgdoorman_lib.supervisor.team import Team, Worker
from pgdoorman_lib.wire.handover import Plain

log = logging.getLogger(__name__)

#: Seconds for a worker to take nobody in any more, and to tell its heir what is to come.
PART_SECONDS = 20.0


class Crew:
    """``team`` as ``host.Serving``."""

    def __init__(self, team: Team) -> None:
        self._team = team
        #: what the old side has said of its clients' numbers and the console's orders; None: there was none
        self.clients: Plain | None = None
        self.ordered: Plain | None = None

    # On the old side.

    def numbers(self) -> list[int]:
        """As ``Serving.numbers``. From here on nobody is started in the place of one that ends."""
        self._team.retiring = True
        return [worker.number for worker in self._team.serving() if worker.admitted]

    def part(self, number: int, end: socket.socket) -> Plain | None:
        """As ``Serving.part``."""
        worker = self._give(number, end)
        if worker is None:
            return None
        try:
            return worker.line.ask("part", {}, PART_SECONDS)
        except Unanswered:
            if worker.serves:
                raise
            log.warning("upgrade: %s has ended with its clients", worker.line.name)
            return None

    def pass_to(self, number: int, end: socket.socket) -> None:
        """As ``Serving.pass_to``."""
        worker = self._give(number, end)
        if worker is None:
            raise UpgradeFailed(f"worker {number} has ended")
        worker.line.ask("pass", {}, PART_SECONDS)

    def _give(self, number: int, end: socket.socket) -> Worker | None:
        """Give a worker the way to its heir; it, or None when it has ended. May switch."""
        worker = self._team.find(number)
        try:
            if worker is not None:
                worker.line.tell(kinds.SUCCESSOR, {}, (end.fileno(),))
            return worker
        except Unanswered:
            if worker is not None and worker.serves:
                raise
            return None
        finally:
            end.close()

    def hand_over(self) -> None:
        """As ``Serving.hand_over``."""
        gevent.spawn(self._team.ask_all, "hand_over", {}, None)

    def resume(self) -> None:
        """As ``Serving.resume``."""
        gevent.spawn(self._resume)

    def _resume(self) -> None:
        for number, answer in self._team.ask_all("resume", {}, None).items():
            if isinstance(answer, DoormanError) and self._team.find(number) is not None:
                log.error("worker %d does not serve again: %s", number, answer.message)
        self._team.retiring = False
        self._team.fill_up()

    # Either.

    def cancel_beyond(self, state: Plain) -> Plain:
        """As ``Itself.cancel_beyond``, of all workers; may switch."""
        told: list[Any] = [
            answer
            for answer in self._team.ask_all("cancel_beyond", state, ON_ITS_WAY).values()
            if not isinstance(answer, DoormanError)
        ]
        return {name: any(answer[name] for answer in told) for name in ("any", "found")}

    # On the new side.

    def take(self, number: int, end: socket.socket) -> None:
        """As ``Serving.take``."""
        gevent.spawn(self._take, number, end)

    def _take(self, number: int, end: socket.socket) -> None:
        try:
            count = self._team.count
            worker = self._team.find((number - 1) % count + 1) or next(iter(self._team.serving()), None)
            if worker is not None:
                self._team.before.given(number, worker.number)
                worker.line.tell(kinds.HEIR, {"number": number}, (end.fileno(),))
        except Unanswered as exc:  # the old side asks again
            log.warning("upgrade: %s", exc.message)
        finally:
            end.close()

    def counted(self, state: Plain) -> Plain:
        """A worker counts what an old one has told it of, by which that one has an heir."""
        self._team.before.counted(state["number"], state["worker"])
        return {}

    def end_of_old(self) -> None:
        """As ``Serving.end_of_old``."""
        self._team.before.ended()

    def go_on_behind(self, clients: Plain, ordered: Plain) -> None:
        """As ``Serving.go_on_behind``."""
        self.clients, self.ordered = clients, ordered

    def wait_for_all(self) -> None:
        """As ``Serving.wait_for_all``."""
        self._team.ask_all("wait_for_heirs", {}, None)
