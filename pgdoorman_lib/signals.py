"""What signals mean to the process: stop, hurry, reload, reopen, upgrade; others are logged and change nothing."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import gevent
from gevent.signal import signal as set_signal

log = logging.getLogger(__name__)

STOPS = (signal.SIGTERM, signal.SIGINT)
#: They would end the process, but nobody who sends them to a pooler wants that. SIGPIPE Python ignores by itself.
WITHOUT_MEANING = (signal.SIGALRM,)


class Signals:
    """``stop`` is called for the first SIGTERM or SIGINT, ``hurry`` for each after it.

    SIGINT is as SIGUSR2 while ``interrupt_upgrades`` says so. ``reopen`` is called for SIGUSR1 and SIGHUP, and says
    whether there was a file to open again; ``reload`` for SIGHUP, behind it, and ``upgrade`` for SIGUSR2, both in
    greenlets of their own. The others must not switch.
    """

    def __init__(
        self,
        stop: Callable[[], None],
        hurry: Callable[[], None],
        reload: Callable[[], None],
        reopen: Callable[[], bool],
        upgrade: Callable[[], None],
        interrupt_upgrades: Callable[[], bool],
    ) -> None:
        self._stop = stop
        self._hurry = hurry
        self._reload = reload
        self._reopen = reopen
        self._upgrade = upgrade
        self._interrupt_upgrades = interrupt_upgrades
        self._stopping = False

    @contextmanager
    def handled(self) -> Iterator[None]:
        """Go by them within; afterwards they mean what they meant before."""
        handlers: dict[signal.Signals, Callable[[int, Any], None]] = {
            **dict.fromkeys(STOPS, self._on_stop),
            signal.SIGHUP: self._on_reload,
            signal.SIGUSR1: self._on_reopen,
            signal.SIGUSR2: self._on_upgrade,
            **dict.fromkeys(WITHOUT_MEANING, self._on_nothing),
        }
        previous = [(number, set_signal(number, handler)) for number, handler in handlers.items()]
        try:
            yield
        finally:
            for number, handler in previous:
                set_signal(number, handler)

    def _on_stop(self, number: int, frame: Any) -> None:
        if number == signal.SIGINT and not self._stopping and self._interrupt_upgrades():
            gevent.spawn(self._upgrade)
            return
        if self._stopping:
            self._hurry()
        self._stopping = True
        self._stop()

    def _on_reload(self, number: int, frame: Any) -> None:
        gevent.spawn(self._reopen_and_reload)

    def _reopen_and_reload(self) -> None:
        self._reopen()
        self._reload()

    def _on_reopen(self, number: int, frame: Any) -> None:
        gevent.spawn(self._reopen_logged)

    def _reopen_logged(self) -> None:
        if self._reopen():
            log.info("SIGUSR1: the log's file was opened again")
        else:
            log.warning("SIGUSR1: ignored, there is no log_file to open again")

    def _on_upgrade(self, number: int, frame: Any) -> None:
        gevent.spawn(self._upgrade)

    def _on_nothing(self, number: int, frame: Any) -> None:
        log.warning("%s has no meaning here: ignored", signal.Signals(number).name)
