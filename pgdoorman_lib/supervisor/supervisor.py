"""The process that was started, where there are several workers: it serves no client, and sees that they are."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gevent
import gevent.event

from pgdoorman_lib import __version__, build
from pgdoorman_lib import log as logs
from pgdoorman_lib.check import check
from pgdoorman_lib.config.diff import diff, in_force
from pgdoorman_lib.config.general import General
from pgdoorman_lib.config.loader import load
from pgdoorman_lib.config.model import Config
from pgdoorman_lib.errors import ConfigError, DoormanError
from pgdoorman_lib.listener import Inherited
from pgdoorman_lib.listeners import Listeners
from pgdoorman_lib.net.engines import choose
from pgdoorman_lib.pool.ledger import Ledger
from pgdoorman_lib.pool.roll import Roll
from pgdoorman_lib.shutdown import MODES
from pgdoorman_lib.signals import Signals
from pgdoorman_lib.supervisor.crew import Crew
from pgdoorman_lib.supervisor.nursery import Nursery
from pgdoorman_lib.supervisor.pid_file import PidFile
from pgdoorman_lib.supervisor.program import Program
from pgdoorman_lib.supervisor.succession import Succession
from pgdoorman_lib.supervisor.systemd import Systemd
from pgdoorman_lib.supervisor.team import Team
from pgdoorman_lib.wire.handover import Plain

log = logging.getLogger(__name__)

#: Seconds for workers to end beyond what the configuration gives their clients.
END_SECONDS = 5.0
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
        self.config = config
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
            lambda: self.config,
            self.listeners.sockets,
            lambda: self.listeners.activated,
            {"shutdown": self._answer_shutdown, "upgrade": self._answer_upgrade, "another": self._answer_another},
        )
        self._crew = Crew(self.team)
        self.telemetry = None
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
            gevent.spawn(self.team.ask_all, "stop", {"mode": mode}, None)
        self.team.stopping = True
        self._stopping.set()

    def hurry(self) -> None:
        """Wait for nothing any more; returns at once."""
        self._hurried = True
        gevent.spawn(self.team.ask_all, "hurry", {}, None)

    def _answer_shutdown(self, state: Plain) -> Plain:
        self.shutdown(state["mode"])
        return {}

    def reload(self) -> list[str]:
        """As ``app.App.reload``, in all workers; may switch."""
        with self.systemd.reloading():
            try:
                config = load(self.config.path, lenient=self.config.lenient)
                check(config)
            except ConfigError as exc:
                for problem in exc.message.splitlines():
                    log.error("reload failed, the configuration stays as it was: %s", problem)
                raise
            self.config = in_force(self.config, config, diff(self.config, config))
            told: dict[str, None] = {}
            for number, answer in self.team.ask_all("reload", {}, None).items():
                if isinstance(answer, DoormanError):
                    log.error("worker %d goes by the configuration as it was: %s", number, answer.message)
                else:
                    told.update(dict.fromkeys(answer["told"]))
            return list(told)

    def _reload_logged(self) -> None:
        try:
            self.reload()
        except ConfigError as exc:
            log.debug("SIGHUP changed nothing: %s", exc.message)

    def _reopen(self) -> bool:
        gevent.spawn(self.team.ask_all, "reopen", {}, None)
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
                self.listeners.open(self.config.general, inherited, self._succession.inherit)
                self.team.start()
                self._succession.begin()
                self.team.begin(self._crew.clients, self._crew.ordered)
                self._live(on_ready)
            finally:
                self._end()

    def _live(self, on_ready: Callable[[], None]) -> None:
        for name, _ in self.listeners.sockets():
            log.info("listening on %s", name)
        log.info("pgdoorman %s (%s, %d workers) is ready", __version__, build(), self._ledger.count)
        on_ready()
        self._succession.wait_until_main()
        self.systemd.ready()
        self._greenlets.append(gevent.spawn(self.systemd.watch, self._count))
        gevent.wait((self._stopping, self.team.ended), count=1)
        self.systemd.stopping()  # unless it is another process's service by now
        limit = self.config.general.shutdown_timeout + END_SECONDS
        while self._mode in ("clients", "servers") and not self._hurried and not self.team.ended.is_set():
            self.team.ended.wait(LOOK_INTERVAL)
        if not self.team.ended.wait(limit):
            self.team.kill()

    def _count(self) -> tuple[int, int]:
        """How many clients and servers there are."""
        return 0, 0

    def _end(self) -> None:
        self.listeners.close()
        self._succession.end()
        gevent.killall(self._greenlets)
        self.team.close()
        self._engine.close()
        self.systemd.close()
        log.info("pgdoorman has ended")


def _refuse(client: Any) -> None:
    raise AssertionError("the supervisor accepts nobody")
