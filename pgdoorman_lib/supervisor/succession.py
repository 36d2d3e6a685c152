"""The processes before and behind this one: whose listeners, clients and servers it takes, and who takes its own."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import gevent

from pgdoorman_lib.listener import Inherited
from pgdoorman_lib.supervisor.arrival import Arrival
from pgdoorman_lib.supervisor.program import Program, inherited
from pgdoorman_lib.supervisor.upgrade import Upgrade, UpgradeFailed

if TYPE_CHECKING:
    from pgdoorman_lib.app import App

log = logging.getLogger(__name__)


class Succession:
    """``app``'s place in the line; ``program`` is how to start it once more."""

    #: there is just one process
    worker = 0

    def __init__(self, app: App, program: Program) -> None:
        self._app = app
        self._program = program
        self._arrival: Arrival | None = None
        self._upgrade: Upgrade | None = None

    # The one before.

    def come(self) -> list[Inherited]:
        """Have the listeners of the process before this one, if any; may switch. ConfigError when that has gone.

        Returns sockets that stand in for all addresses of the configuration, as whoever started the service had it.
        """
        handed = inherited()
        if handed is None:
            return []
        self._arrival = Arrival(self._app, handed)
        return self._arrival.take_listeners()

    def inherit(self, name: str) -> Any:
        """The socket that the process before this one listens with at ``name``, None: there is none."""
        return self._arrival.listener(name) if self._arrival is not None else None

    def begin(self) -> None:
        """Have the process before this one, if there is one, hand itself over; may switch."""
        if self._arrival is not None:
            self._arrival.be_the_pooler()

    def wait_until_main(self) -> None:
        """Wait until who watches the service knows of this process; may switch."""
        if self._arrival is not None:
            self._arrival.wait_until_main()

    # The one behind.

    def upgrade(self) -> None:
        """Have a new process of this program serve everybody; may switch. Returns once it serves those who come.

        UpgradeFailed when it can't, and nothing has changed.
        """
        if self._upgrade is not None or self._app.draining:
            refusal = UpgradeFailed("an upgrade, or the end of this process, is under way already")
            log.warning("an upgrade was asked for: %s", refusal.message)
            raise refusal
        upgrade = self._upgrade = Upgrade(self._app, self._program)
        try:
            if self._arrival is not None:
                self._arrival.wait_for_its_end()
            upgrade.start()
        except BaseException:
            self._upgrade = None
            raise
        gevent.spawn(self._hand_over, upgrade)

    def upgrade_logged(self) -> None:
        """As ``upgrade``, where there is nobody to tell but the log."""
        try:
            self.upgrade()
        except UpgradeFailed as exc:
            log.debug("SIGUSR2 changed nothing: %s", exc.message)

    def _hand_over(self, upgrade: Upgrade) -> None:
        end = upgrade.carry_out()
        if end:
            self._app.shutdown(end)
        else:
            self._upgrade = None

    # Either.

    def pass_cancel_on(self, number: int, secret: bytes) -> None:
        """Somebody wants a client's statement cancelled that is not here; may switch."""
        for other in (self._upgrade, self._arrival):
            if other is not None:
                other.pass_cancel_on(number, secret)
