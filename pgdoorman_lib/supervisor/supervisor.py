"""The process that was started, where there are several workers: it serves no client, and sees that they are."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import gevent
import gevent.event

from pgdoorman_lib import __version__, build
from pgdoorman_lib import log as logs
from pgdoorman_lib.admin import sockets
from pgdoorman_lib.config.general import General
from pgdoorman_lib.config.model import Config
from pgdoorman_lib.configuration import Configuration
from pgdoorman_lib.errors import ConfigError, DoormanError
from pgdoorman_lib.listener import Inherited
from pgdoorman_lib.listeners import Listeners
from pgdoorman_lib.metrics.summary import Summary
from pgdoorman_lib.net.engines import choose
from pgdoorman_lib.net.parcel import ParcelError
from pgdoorman_lib.pool.ledger import Ledger
from pgdoorman_lib.pool.roll import Roll
from pgdoorman_lib.shutdown import MODES
from pgdoorman_lib.signals import Signals
from pgdoorman_lib.supervisor.control import ALL, Unanswered
from pgdoorman_lib.supervisor.crew import Crew
from pgdoorman_lib.supervisor.nursery import Nursery
from pgdoorman_lib.supervisor.pid_file import PidFile
from pgdoorman_lib.supervisor.program import Program
from pgdoorman_lib.supervisor.rebalancing import Rebalancing
from pgdoorman_lib.supervisor.succession import Succession
from pgdoorman_lib.supervisor.systemd import Systemd
from pgdoorman_lib.supervisor.team import Team
from pgdoorman_lib.telemetry import HTTP, Telemetry
from pgdoorman_lib.together.chair import Chair
from pgdoorman_lib.together.failures import Answers, called, pack_answers
from pgdoorman_lib.together.kinds import ORDER, PROCESS, SUPERVISOR
from pgdoorman_lib.together.onlooker import Onlooker
from pgdoorman_lib.together.telling import Telling
from pgdoorman_lib.together.whole import Whole
from pgdoorman_lib.views import RunningPooler
from pgdoorman_lib.wire.handover import Plain

log = logging.getLogger(__name__)

#: Seconds for workers to end beyond what the configuration gives their clients.
END_SECONDS = 5.0
#: Seconds for the workers to open the log's file again, before it is said that it was.
REOPEN_SECONDS = 2.0
#: Seconds between two looks at whether to hurry.
LOOK_INTERVAL = 0.02


class Supervisor:
    """The workers' process; what it is given is as for ``app.App``."""

    def __init__(
        self,
        config: Config,
        systemd: Systemd,
        inherited: Sequence[Inherited],
        nursery: Nursery,
        ledger: Ledger,
        rolls: Mapping[int, Roll],
        program: Program,
        pid_file: PidFile | None = None,
    ) -> None:
        self.configuration = Configuration(config, self._use)
        self.systemd = systemd
        self.pid_file = pid_file
        self._inherited = inherited
        self._ledger = ledger
        self._engine = choose("gevent")
        self.listeners = Listeners(_refuse, self._engine)
        self.team = Team(
            nursery,
            ledger,
            rolls,
            self.configuration.without_set,
            self.listeners.sockets,
            lambda: self.listeners.activated,
            {
                ALL: self._answer_all,
                "upgrade": self._answer_upgrade,
                "another": self._answer_another,
                "cancel_beyond": lambda state: self._crew.cancel_beyond(state),
                "counted": lambda state: self._crew.counted(state),
            },
            lambda: self.chair,
        )
        self._crew = Crew(self.team)
        #: this process, which has neither clients nor servers, and with the workers' the whole of the pooler
        texts = {"version": __version__, "build": build(), "engine": "no"}
        self._onlooker = Onlooker(config, texts, sockets.by_state)
        own: dict[str, Callable[..., Any]] = {
            "reload": self._reload,
            "set_key": self.configuration.set_key,
            "reset_key": self.configuration.reset_key,
            "set_log_level": logs.set_level,
        }
        self.chair = Chair(
            self._ask_workers,
            Telling(cast(RunningPooler, self._onlooker)),
            own,
            {"shutdown": self.shutdown, "upgrade": lambda: self._succession.upgrade()},
        )
        self.whole = Whole(self._onlooker, self.chair.ask, SUPERVISOR)
        self.telemetry = Telemetry(self.whole, config)
        self._summary = Summary(self.whole, lambda: self.general.log_stats)
        self._succession = Succession(self, self._crew, program)
        self._stopping = gevent.event.Event()
        self._mode = MODES[0]
        self._hurried = False
        self._greenlets: list[gevent.Greenlet[..., None]] = []

    # Orders.

    def shutdown(self, mode: str = "drain") -> None:
        """Have all workers begin to end, in one of ``shutdown.MODES``; returns at once."""
        if not self._stopping.is_set() or MODES.index(mode) > MODES.index(self._mode):
            self._mode = mode
            self._tell_the_end()
        self.team.stopping = True
        self._onlooker.draining = 1
        self._stopping.set()

    def hurry(self) -> None:
        """Wait for nothing any more; returns at once."""
        self._hurried = True
        self._tell_the_end()

    def _tell_the_end(self) -> None:
        self.team.tell_all("stop", {"mode": self._mode})
        if self._hurried:
            self.team.tell_all("hurry", {})

    def _reload(self) -> list[str]:
        """The supervisor's part of a reload: what it refuses reaches no worker."""
        with self.systemd.reloading():
            return self.configuration.reload()

    def _obey(self, ordered: Plain) -> None:
        """Go by what was ordered of the process before this one, and have workers that start later go by it."""
        self.chair.ordered = ordered
        self.configuration.obey(cast("Any", ordered["set"]))
        if "log_level" in ordered:
            logs.set_level(str(ordered["log_level"]))

    def _reload_logged(self) -> None:
        try:
            self.whole.reload()
        except DoormanError as exc:
            log.log(logging.DEBUG if isinstance(exc, ConfigError) else logging.ERROR, "SIGHUP: %s", exc.message)

    @property
    def config(self) -> Config:
        """The configuration in force."""
        return self.configuration.config

    def _use(self, config: Config) -> None:
        """Go by ``config`` from now on."""
        self._onlooker.config = config
        self.telemetry.use(config)

    def _answer_all(self, state: Plain) -> Plain:
        return pack_answers(self.chair.ask(state["kind"], state["state"], state["timeout"]))

    def _ask_workers(self, kind: str, state: Plain, timeout: float | None) -> Answers:
        """As for ``Chair``."""
        found: Answers = {}
        for number, answer in self.team.ask_all(kind, state, timeout).items():
            if isinstance(answer, Unanswered):
                found[number] = answer.as_parcel_error()
            elif isinstance(answer, DoormanError):
                found[number] = ParcelError(f"{called(number)}: {answer.message}")
            else:
                found[number] = answer
        if kind == ORDER and state["verb"] == "reload":
            self.configuration.tell_of_reload()
        return found

    def _reopen(self) -> bool:
        gevent.joinall(self.team.tell_all("reopen", {}), timeout=REOPEN_SECONDS)
        return logs.reopen()

    def _answer_upgrade(self, state: Plain) -> Plain:
        self._succession.upgrade()
        return {}

    def _answer_another(self, state: Plain) -> Plain:
        return {"found": self._succession.find_another(state["number"])}

    # As ``host.Host``.

    @property
    def general(self) -> General:
        """The [general] section in force."""
        return self.config.general

    @property
    def draining(self) -> bool:
        """Whether it has been told to end."""
        return self._stopping.is_set()

    # Life.

    def run(self, on_ready: Callable[[], None]) -> None:
        """Have workers serve until told to stop; ConfigError when they can't. ``on_ready`` is called once they do."""
        with Signals(
            *(self.shutdown, self.hurry, self._reload_logged, self._reopen, self._succession.upgrade_logged),
            interrupt_upgrades=lambda: self.pid_file is not None or self.general.upgrade_on_sigint,
        ).handled():
            try:
                inherited = self._succession.come() or self._inherited
                self.telemetry.listen([each for each in inherited if each.called == HTTP], self._succession.inherit)
                self.listeners.open(
                    *(self.general, [each for each in inherited if each.called != HTTP]), self._succession.inherit
                )
                with self.chair.still():  # what is ordered meanwhile comes to all of them
                    self.team.start()
                    self._succession.begin()
                    if self._crew.ordered is not None:
                        self._obey(self._crew.ordered)
                    self.team.begin(self._crew.clients, self._crew.ordered)
                if self.draining:  # since before there were workers
                    self._tell_the_end()
                self._live(on_ready)
            finally:
                self._end()

    def _live(self, on_ready: Callable[[], None]) -> None:
        for name, _ in self.listeners.sockets():
            log.info("listening on %s", name)
        log.info("pgdoorman %s (%s, %d workers) is ready", __version__, build(), self._ledger.count)
        self._onlooker.averages.start(self._summary.due.set)
        for run in (self._summary.run, self.chair.run):
            self._greenlets.append(gevent.spawn(run))
        self.telemetry.start()
        on_ready()
        self._succession.wait_until_main()
        self.systemd.ready()
        self._greenlets += [
            gevent.spawn(self.systemd.watch, self._count),
            gevent.spawn(Rebalancing(self.team, lambda: self.general.rebalance).run),
        ]
        gevent.wait((self._stopping, self.team.ended), count=1)
        self.systemd.stopping()  # unless it is another process's service by now
        self.listeners.close()  # as the workers do: who comes is refused at once
        limit = self.config.general.shutdown_timeout + END_SECONDS
        while self._mode in ("clients", "servers") and not self._hurried and not self.team.ended.is_set():
            self.team.ended.wait(LOOK_INTERVAL)
        if not self.team.ended.wait(limit):
            self.team.kill()

    def _count(self) -> tuple[int, int]:
        """How many clients and servers there are; may switch."""
        workers = self.whole.everyone((PROCESS,)).workers
        return sum(worker.clients for worker in workers), sum(worker.servers for worker in workers)

    def _end(self) -> None:
        self.listeners.close()
        self._succession.end()
        self._onlooker.averages.stop()
        self.telemetry.stop()
        gevent.killall(self._greenlets)
        self.team.close()
        self._engine.close()
        self.systemd.close()
        log.info("pgdoorman has ended")


def _refuse(client: Any) -> None:
    raise AssertionError("the supervisor accepts nobody")
