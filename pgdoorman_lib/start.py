"""Starting the pooler with a configuration file, or testing the file alone, and the exit codes of both."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import gevent

from pgdoorman_lib import log as logs
from pgdoorman_lib.app import App
from pgdoorman_lib.check import check
from pgdoorman_lib.config.loader import load
from pgdoorman_lib.config.model import Config
from pgdoorman_lib.config.surroundings import notices
from pgdoorman_lib.errors import ConfigError
from pgdoorman_lib.net.arenas import keep_chunks
from pgdoorman_lib.supervisor.daemon import EXIT_NOT_STARTED, launch
from pgdoorman_lib.supervisor.pid_file import PidFile
from pgdoorman_lib.supervisor.program import Program, is_successor
from pgdoorman_lib.supervisor.systemd import Systemd, handed_over

log = logging.getLogger(__name__)

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_CONFIG = 78


def _say_unusable(exc: ConfigError) -> int:
    """Tell on stderr what is wrong with the configuration, a line for each problem; returns the exit code."""
    for problem in exc.message.splitlines():
        print(f"Config parse error: Configuration error: {problem}", file=sys.stderr)
    return EXIT_CONFIG


def test_config(path: str, *, lenient: bool = False) -> int:
    """Check a configuration for ``-t``; prints the verdict and returns the exit code."""
    try:
        config = load(path, lenient=lenient)
        check(config)
    except ConfigError as exc:
        return _say_unusable(exc)
    for warning in (*config.warnings, *notices(config)):
        print(f"pgdoorman: warning: {warning}", file=sys.stderr)
    print(f"pgdoorman: the configuration file {path} syntax is ok")
    print(f"pgdoorman: configuration file {path} test is successful")
    return EXIT_OK


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
        return _say_unusable(exc)
    try:
        inherited = handed_over(os.environ)
        systemd = Systemd.of(os.environ)
    except ConfigError as exc:
        return _say_failed(exc)
    make = partial(App, config, systemd, inherited, Program.running())
    if not daemon:
        return _serve(config, log_format, make, nullcontext(), lambda: None)
    pid_file = PidFile(config.general.daemon_pid_file)
    make = partial(make, pid_file)
    if is_successor(os.environ):  # of a daemon: it is in the background already, and the file has an owner
        try:
            return _serve(config, log_format, make, nullcontext(), lambda: None)
        finally:
            pid_file.remove()
    return launch(partial(_serve_detached, config, log_format, make, pid_file))


def _serve_detached(
    config: Config, log_format: str, make: Callable[[], App], pid_file: PidFile, ready: Callable[[], None]
) -> int:
    """As ``_serve``, in a daemon, whose id stands in ``pid_file`` meanwhile."""
    general = config.general
    if general.log_file is None and not general.syslog_prog_name:
        log.warning("--daemon with neither log_file nor syslog_prog_name: from its start on, what is logged is lost")
    code = _serve(config, log_format, make, pid_file, ready)
    return EXIT_NOT_STARTED if code == EXIT_FAILED else code


def _serve(
    config: Config,
    log_format: str,
    make: Callable[[], App],
    held: AbstractContextManager[object],
    ready: Callable[[], None],
) -> int:
    """Run what ``make`` makes, within ``held``; it calls ``ready`` when it serves. Returns the exit code."""
    general = config.general
    try:
        logs.direct(log_format, general.log_file, general.syslog_prog_name, general.syslog_socket)
        app = make()
    except ConfigError as exc:
        return _say_unusable(exc)
    for warning in (*config.warnings, *app.notices):
        log.warning("%s", warning)
    try:
        with held:
            app.run(ready)
        return EXIT_OK
    except ConfigError as exc:
        log.error("%s", exc.message)
        if logs.is_directed():  # whoever has started it looks there
            _say_failed(exc)
        return EXIT_FAILED


def _say_failed(exc: ConfigError) -> int:
    """Tell on stderr why it can't start; returns the exit code."""
    print(f"pgdoorman: {exc.message}", file=sys.stderr)
    return EXIT_FAILED
