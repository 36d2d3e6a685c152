"""What new sessions of a pool begin with, and what they are told: as the newest of its servers has it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from pgdoorman_lib.net.engine import Task
from pgdoorman_lib.net.syscalls import clock
from pgdoorman_lib.pool.queue import Borrower
from pgdoorman_lib.server.connection import Server
from pgdoorman_lib.wire.baseline import Base
from pgdoorman_lib.wire.reported import Reported
from pgdoorman_lib.wire.settings import PLANNING

if TYPE_CHECKING:
    from pgdoorman_lib.pool.pool import Pool

#: Seconds for which new clients are told that the servers are standbys without asking one again.
STANDBY_SECONDS = 1.0


class Told(Exception):
    """What was asked for is known without a server: look again."""


class Beginnings:
    """``base`` and ``reported`` are None until the first server was there."""

    __slots__ = ("asking", "base", "began_at", "carried", "engine", "heard_at", "news", "pool", "reported", "reports")

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.engine = pool.engine
        #: those who wait for a server only to have this known
        self.asking: set[Borrower] = set()
        #: what the newest server began with and has reported
        self.base: Base | None = None
        self.reported: Reported | None = None
        #: and when that was (monotonic seconds)
        self.began_at = 0.0
        #: parameters that have changed for every session since: the value, and when that was heard (monotonic seconds)
        self.news: dict[str, tuple[str, float]] = {}
        #: when that was last asked of a server, or was of no importance (see ``stale``)
        self.heard_at = 0.0
        #: by the parameters of a startup packet: the ``client.begin.Beginning`` of such a session
        self.reports: dict[Any, Any] = {}
        #: names of parameters that sessions carry from their beginning, whatever their server began with: statements
        #: depend on them, and servers have begun with different values
        self.carried: frozenset[str] = frozenset()

    def ask(self) -> None:
        """Have it known by borrowing a server; may switch. Told when it is known before; what ``checkout`` raises.

        Others may keep every server there is, while another process has told long since what they began with.
        """
        borrower = Borrower()
        borrower.task = Task(self.engine)
        self.asking.add(borrower)
        try:
            server = self.pool.checkout(borrower)
        finally:
            self.asking.remove(borrower)
        self.pool.checkin(server)

    def learn(self, server: Server) -> None:
        """A server fresh from its login: new clients are told what it has told, and begin with what it began with."""
        self._go_by(server.base, server.reported, server.created_at)

    def hear(
        self,
        base: Base,
        reported: Reported,
        carried: Iterable[str],
        began_at: float,
        news: Iterable[tuple[str, str, float]] = (),
    ) -> None:
        """Another process has this of its newest server, and has heard ``news`` since: a name, its value, and when."""
        if not self.carried.issuperset(carried):
            self.carried = self.carried.union(carried)
            self.reports.clear()
        if began_at > self.began_at:
            self._go_by(base, reported, began_at)
        else:
            self._meet(base)
        for name, value, at in news:
            if at > self.began_at and at > self._heard_of(name):
                self._change(name, value, at)

    def _go_by(self, base: Base, reported: Reported, began_at: float) -> None:
        """New clients are told this from now on."""
        if self.base is not base:
            self._meet(base)
            self.base = base
            self.reports.clear()
        if self.reported is not reported:
            self.reported = reported
            self.reports.clear()
        self.began_at = began_at
        self.heard_at = self.engine.now
        news, self.news = self.news, {}
        for name, (value, at) in news.items():
            if at > began_at:
                self._change(name, value, at)
        for borrower in self.asking:
            if borrower.assigned is None:
                self.pool.withdraw(borrower)
                borrower.fail(Told())

    def meet(self, server: Server) -> None:
        """A server comes whose session another process has begun, maybe with other values than those here."""
        self._meet(server.base)

    def _meet(self, base: Base) -> None:
        carried = set(self.carried)
        if self.base is not None and self.base is not base and self.base.owned | base.owned:
            carried |= PLANNING.intersection(self.base.difference(base))
        if base.temporary:
            carried.add("search_path")  # for whoever looks at a client's settings to see it
        if carried != self.carried:
            self.carried = frozenset(carried)
            self.reports.clear()

    def hears(self, name: str, value: str) -> None:
        """A parameter is ``value`` in every session that has not set it; the other processes are told if it is new."""
        if self.reported is not None and self.reported.values.get(name) != value:
            self._change(name, value, clock())
            self.pool.learned()

    def _heard_of(self, name: str) -> float:
        return self.news[name][1] if name in self.news else 0.0

    def _change(self, name: str, value: str, at: float) -> None:
        self.news[name] = (value, at)
        reported: Any = self.reported
        self.reported = reported.changed(name, value)
        self.reports.clear()

    def stale(self) -> bool:
        """Whether new clients may be told to look elsewhere by what is true no more: a standby can be promoted."""
        now = self.engine.now
        if now - self.heard_at <= STANDBY_SECONDS:
            return False
        reported = self.reported
        if reported is not None and reported.values.get("in_hot_standby") == "on":
            return True
        self.heard_at = now  # no standby: that is looked at no more often either
        return False
