"""Starting the pooler with a configuration file, and its exit codes."""

from __future__ import annotations

import gc
import logging
import os
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import NoReturn

import gevent

from pgdoorman_lib import log as logs
from pgdoorman_lib.app import App
from pgdoorman_lib.check import check
from pgdoorman_lib.config.loader import load
from pgdoorman_lib.config.model import Config
from pgdoorman_lib.errors import ConfigError
from pgdoorman_lib.listener import Inherited
from pgdoorman_lib.net.arenas import keep_chunks
from pgdoorman_lib.pool.ledger import Ledger
from pgdoorman_lib.pool.roll import Roll
from pgdoorman_lib.supervisor.daemon import EXIT_NOT_STARTED, Launcher, launch
from pgdoorman_lib.supervisor.membership import Membership
from pgdoorman_lib.supervisor.nursery import Birth, found, pin
from pgdoorman_lib.supervisor.pid_file import PidFile
from pgdoorman_lib.supervisor.program import Program, is_successor, let_go
from pgdoorman_lib.supervisor.succession import Alone
from pgdoorman_lib.supervisor.supervisor import Supervisor
from pgdoorman_lib.supervisor.systemd import Systemd, handed_over
from pgdoorman_lib.verdict import EXIT_OK, say_unusable

log = logging.getLogger(__name__)

EXIT_FAILED = 1


def run(path: str, *, log_level: str, log_format: str, color: bool, lenient: bool = False, daemon: bool = False) -> int:
    """Run the pooler with the configuration at ``path`` until it is told to stop; returns the exit code.

    ``lenient``: names in it that are no keys are only warned of. ``daemon``: in the background, and this process's
    exit code says whether it serves.
    """
    logs.keep_standard_descriptors()
    logs.setup(log_level, log_format, None if color else False)
    keep_chunks()
    # Who spawned whom, with its stack, is only for debuggers, and a good part of what a greenlet costs.
    gevent.config.track_greenlet_tree = False
    try:
        config = load(path, lenient=lenient)
        check(config)
    except ConfigError as exc:
        return say_unusable(exc)
    try:
        inherited = handed_over(os.environ)
        systemd = Systemd.of(os.environ)
    except ConfigError as exc:
        return _say_failed(exc)
    start = _Start(config, log_format, systemd, inherited, PidFile(config.general.daemon_pid_file) if daemon else None)
    if start.pid_file is None:
        return start.serve(nullcontext(), Launcher.none())
    if is_successor(os.environ):  # of a daemon: it is in the background already, and the file has an owner
        try:
            return start.serve(nullcontext(), Launcher.none())
        finally:
            start.pid_file.remove()
    return launch(start.serve_detached)


class _Start:
    """What the process is started with, all of which has been read; a daemon has a ``pid_file``."""

    def __init__(
        self,
        config: Config,
        log_format: str,
        systemd: Systemd,
        inherited: Sequence[Inherited],
        pid_file: PidFile | None,
    ) -> None:
        self.config = config
        self.log_format = log_format
        self.systemd = systemd
        self.inherited = inherited
        self.pid_file = pid_file

    def serve_detached(self, launcher: Launcher) -> int:
        """As ``serve``, in a daemon, whose id stands in its file meanwhile."""
        general = self.config.general
        if general.log_file is None and not general.syslog_prog_name:
            log.warning(
                "--daemon with neither log_file nor syslog_prog_name: from its start on, what is logged is lost"
            )
        assert self.pid_file is not None
        code = self.serve(self.pid_file, launcher)
        return EXIT_NOT_STARTED if code == EXIT_FAILED else code

    def serve(self, held: AbstractContextManager[object], launcher: Launcher) -> int:
        """Serve, in several processes if so configured, within ``held``; ``launcher`` is told. Returns an exit code."""
        try:
            self._direct_log()
            pooler = self._alone() if self.config.general.worker_count == 1 else self._supervisor(launcher)
        except ConfigError as exc:
            return say_unusable(exc)
        for warning in (*self.config.warnings, *pooler.configuration.notices):
            log.warning("%s", warning)
        try:
            with held:
                pooler.run(launcher.ready)
            return EXIT_OK
        except ConfigError as exc:
            log.error("%s", exc.message)
            if logs.is_directed():  # whoever has started it looks there
                _say_failed(exc)
            return EXIT_FAILED

    def _direct_log(self) -> None:
        general = self.config.general
        logs.direct(self.log_format, general.log_file, general.syslog_prog_name, general.syslog_socket)

    def _direct_workers_log(self) -> None:
        """As ``_direct_log``, in a process that has the supervisor's log: that one as it was, if it can't be opened."""
        try:
            self._direct_log()
        except ConfigError as exc:
            log.error("%s: the log goes on where it was", exc.message)

    def _alone(self) -> App:
        alone = partial(Alone, program=Program.running())
        return App(self.config, self.systemd, self.inherited, alone, self.pid_file)

    def _supervisor(self, launcher: Launcher) -> Supervisor:
        """The supervisor; this returns in its process only."""
        count = self.config.general.worker_count
        ledger = Ledger.create(count)
        rolls = {number: Roll() for number in range(1, count + 1)}
        nursery = found(partial(self._be_nursery, launcher))
        if isinstance(nursery, Birth):
            self._be_worker(nursery, ledger, rolls[nursery.number])
        program = Program.running()
        return Supervisor(self.config, self.systemd, self.inherited, nursery, ledger, rolls, program, self.pid_file)

    def _be_nursery(self, launcher: Launcher) -> None:
        """Let go of what is the supervisor's."""
        for each in self.inherited:
            os.close(each.fd)
        self.systemd.close()
        let_go()
        launcher.close()
        if self.pid_file is not None:
            logs.detach()
        gc.freeze()  # workers share what there is by now

    def _be_worker(self, birth: Birth, ledger: Ledger, roll: Roll) -> NoReturn:
        """Live a worker's life; what stands below on the stack is the supervisor's."""
        code = EXIT_FAILED
        try:
            logs.name_worker(birth.number)
            self._direct_workers_log()
            if birth.config.general.worker_cpu_affinity_pinning:
                pin(birth.number)
            membership = partial(Membership, birth=birth, ledger=ledger.joined(birth.number), roll=roll)
            App(birth.config, Systemd(None), [], membership).run(lambda: None)
            code = EXIT_OK
        except ConfigError as exc:
            log.error("%s", exc.message)
        except Exception:
            log.critical("worker %d has failed", birth.number, exc_info=True)
        finally:
            logging.shutdown()
            os._exit(code)


def _say_failed(exc: ConfigError) -> int:
    """Tell on stderr why it can't start; returns the exit code."""
    print(f"pgdoorman: {exc.message}", file=sys.stderr)
    return EXIT_FAILED
