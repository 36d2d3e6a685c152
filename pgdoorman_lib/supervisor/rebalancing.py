"""The supervisor's look at its workers, once a second: who of them has clients to give, and to whom."""

from __future__ import annotations

import logging
from collections.abc import Callable

import gevent

from pgdoorman_lib.errors import DoormanError
from pgdoorman_lib.net.syscalls import clock
from pgdoorman_lib.supervisor.balance import Balance, Load
from pgdoorman_lib.supervisor.team import Team

log = logging.getLogger(__name__)

#: Seconds between two looks, and for a worker to answer.
INTERVAL = 1.0
ANSWER_SECONDS = 3.0


class Rebalancing:
    """Of ``team``, while ``wanted`` says so."""

    def __init__(self, team: Team, wanted: Callable[[], bool]) -> None:
        self._team = team
        self._wanted = wanted
        self._balance = Balance()
        #: by process id: seconds of processor used, and when that was
        self._used: dict[int, tuple[float, float]] = {}

    def run(self) -> None:
        """Look, and have clients go, for ever."""
        while True:
            gevent.sleep(INTERVAL)
            if self._wanted() and not (self._team.retiring or self._team.stopping):
                self._look()

    def _look(self) -> None:
        loads = {}
        used = {}
        for worker in self._team.serving():
            try:
                told = worker.line.ask("load", {}, ANSWER_SECONDS)
            except DoormanError as exc:
                log.debug("no look at who has most clients: %s", exc.message)
                return
            now = clock()
            before, since = self._used.get(worker.pid, (told["cpu"], now - INTERVAL))
            used[worker.pid] = told["cpu"], now
            loads[worker.number] = Load(told["clients"], told["working"], (told["cpu"] - before) / (now - since))
        self._used = used
        for move in self._balance.plan(loads, clock()):
            giver = self._team.find(move.source)
            if giver is None:
                continue
            log.debug("%d clients of worker %d should go to worker %d", move.clients, move.source, move.target)
            order = {"target": move.target, "clients": move.clients, "working": move.working}
            try:
                giver.line.ask("move", order, ANSWER_SECONDS)
            except DoormanError as exc:
                log.debug("worker %d gives no clients: %s", move.source, exc.message)
