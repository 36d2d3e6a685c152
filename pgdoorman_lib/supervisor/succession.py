"""The programs before and behind this one: whose place it takes, and who takes its own."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from pgdoorman_lib.listener import Inherited
from pgdoorman_lib.supervisor.arrival import Arrival
from pgdoorman_lib.supervisor.host import Host, Serving, UpgradeFailed
from pgdoorman_lib.supervisor.itself import Itself
from pgdoorman_lib.supervisor.program import Program, inherited
from pgdoorman_lib.supervisor.upgrade import Upgrade

if TYPE_CHECKING:
    from pgdoorman_lib.app import App

log = logging.getLogger(__name__)


class Succession:
    """The place in the line of ``host``, and of those that serve for it; ``program`` is how to start it once more."""

    def __init__(self, host: Host, serving: Serving, program: Program) -> None:
        self._host = host
        self._serving = serving
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
        self._arrival = Arrival(self._host, self._serving, handed)
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
        if self._upgrade is not None or self._host.draining:
            refusal = UpgradeFailed("an upgrade, or the end of this process, is under way already")
            log.warning("an upgrade was asked for: %s", refusal.message)
            raise refusal
        upgrade = self._upgrade = Upgrade(self._host, self._serving, self._program, self._given_up)
        try:
            if self._arrival is not None:
                self._arrival.wait_for_its_end()
            upgrade.start()
        except BaseException:
            self._upgrade = None
            raise

    def upgrade_logged(self) -> None:
        """As ``upgrade``, where there is nobody to tell but the log."""
        try:
            self.upgrade()
        except UpgradeFailed as exc:
            log.debug("SIGUSR2 changed nothing: %s", exc.message)

    def _given_up(self) -> None:
        self._upgrade = None

    def find_another(self, number: int) -> bool:
        """As ``Upgrade.appoint``, for one that hands over."""
        return self._upgrade is not None and self._upgrade.appoint(number)

    def end(self) -> None:
        """This process ends: nobody is to take its place any more who has not by now; may switch."""
        if self._upgrade is not None:
            self._upgrade.end()


class Alone(Succession):
    """As ``Kin`` for ``app``, which has all clients itself."""

    worker = 0
    neighbours = None

    def __init__(self, app: App, program: Program) -> None:
        self._itself = Itself(app, lambda: self.find_another(1))
        super().__init__(app, self._itself, program)

    def pass_cancel_on(self, number: int, secret: bytes) -> None:
        """Somebody wants a client's statement cancelled that is not here; may switch."""
        self._itself.pass_cancel_on(number, secret)
