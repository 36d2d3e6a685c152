"""The pooler of several processes, as one of them sees it: what the console and the exporters of that one are given.

Looking at it, this is the process itself, until ``everyone`` is called; what is ordered of it reaches every process.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from pgdoorman_lib.admin.consoles import Consoles
from pgdoorman_lib.fallback import FallbackView
from pgdoorman_lib.log import Limited
from pgdoorman_lib.metrics.counters import ConnectionStats, OpeningStats
from pgdoorman_lib.metrics.pacing import Pace
from pgdoorman_lib.net.packing import Malformed
from pgdoorman_lib.net.parcel_terms import ParcelError
from pgdoorman_lib.net.syscalls import clock
from pgdoorman_lib.pool.terms import CoordinatorView
from pgdoorman_lib.server.hosts import HostView
from pgdoorman_lib.together import kinds, orders
from pgdoorman_lib.together.asker import OfAsker
from pgdoorman_lib.together.failures import called
from pgdoorman_lib.together.joined import Together
from pgdoorman_lib.together.joining import Answer, Totals
from pgdoorman_lib.together.orders import RELOAD_SECONDS, AskAll, JoinedOperations, Orders
from pgdoorman_lib.together.telling import Telling
from pgdoorman_lib.views import (
    AveragesView,
    ClientView,
    LookupView,
    Operations,
    PeerView,
    PoolView,
    RunningPooler,
    ServerView,
    WorkerView,
)
from pgdoorman_lib.wire.handover import Plain

#: Seconds for each process to say something, and for all to have told all.
TELL_SECONDS = 2.0
WHOLE_SECONDS = 15.0

missed = Limited(logging.getLogger(__name__))

Handler = Callable[[Plain], Plain]


class Whole(OfAsker):
    """The pooler that ``mine``, the part of it in process ``number``, belongs to.

    ``ask_all(kind, state, timeout)`` asks every worker, this one included, and returns what each has answered, or why
    it has not, by its number; number 0 is the supervisor's. ParcelError: nobody could be asked.
    """

    def __init__(self, mine: Any, ask_all: AskAll, number: int) -> None:
        super().__init__(mine)
        self._ask_all = ask_all
        self._number = number
        self._orders = Orders(ask_all)
        self._operations = JoinedOperations(self._orders, mine.operations)
        self._telling = Telling(mine)
        self._totals = Totals()

    def handlers(self) -> dict[str, Handler]:
        """What this process answers when it is asked, by kind; each may switch."""
        return {
            kinds.TELL: self._telling.tell,
            kinds.MORE: self._telling.more,
            kinds.COUNT: lambda question: orders.count(self._asker, question),
            kinds.ORDER: lambda order: orders.carry_out(self._asker, order),
        }

    # Looking.

    def everyone(self, parts: Collection[str] = ()) -> RunningPooler:
        """As views.RunningPooler: without those that say nothing for TELL_SECONDS, and within WHOLE_SECONDS."""
        if not parts:
            return self
        look = _Look(self._ask_all, parts)
        try:
            look.take()
        except ParcelError as exc:
            look.missing[kinds.SUPERVISOR] = str(exc)
            look.answers = {self._number: self._own(parts)}
        for number, reason in look.missing.items():
            missed.warning("%s is not in what was told of the whole pooler: %s", called(number), reason)
        return Together(self, frozenset(parts), look.answers, look.missing, self._totals)

    def _own(self, parts: Collection[str]) -> Answer:
        """What this process tells; may switch."""
        answer = Answer()
        told = self._telling.tell({"parts": list(parts)})
        answer.add(told, Pace())
        while told.get("rest"):
            told = self._telling.more({"rest": [told["rest"]]})
            answer.add(told, Pace())
        return answer

    # Orders.

    @property
    def operations(self) -> Operations:
        """On all processes."""
        return self._operations

    def cancel_commands(self, number: int, user: str | None) -> Sequence[str]:
        """As views.RunningPooler, wherever they wait."""
        return [waiting for found in self._orders.counts("cancel_commands", number, user) if found for waiting in found]

    def reload(self) -> list[str]:
        """In all processes: what all tell of it, and what only some of them do."""
        told = self._orders.order("reload", seconds=RELOAD_SECONDS)
        lines: dict[str, list[int]] = {}
        for number, said in told.items():
            for line in said or ():
                lines.setdefault(line, []).append(number)
        workers = [number for number in told if number != kinds.SUPERVISOR]
        return [
            line
            if set(workers) <= set(numbers) or numbers == [kinds.SUPERVISOR]
            else f"{', '.join(called(number) for number in numbers)}: {line}"
            for line, numbers in lines.items()
        ]

    def set_key(self, section: str, name: str, raw: object) -> str:
        """In all processes."""
        return _last(self._orders.order("set_key", section, name, raw))

    def reset_key(self, section: str, name: str) -> str:
        """In all processes."""
        return _last(self._orders.order("reset_key", section, name))

    def set_log_level(self, text: str) -> None:
        """In all processes."""
        self._orders.order("set_log_level", text)

    def shutdown(self, mode: str = "drain") -> None:
        """Has the supervisor begin to end all."""
        self._orders.lead("shutdown", mode)

    def upgrade(self) -> None:
        """Has the supervisor do it."""
        self._orders.lead("upgrade")

    # This process's part, for whoever does not ask for everyone.

    @property
    def pools(self) -> Iterable[PoolView]:
        """This process's."""
        return self._asker.pools

    @property
    def unpooled(self) -> Iterable[ServerView]:
        """This process's."""
        return self._asker.unpooled

    @property
    def clients(self) -> Iterable[ClientView]:
        """This process's."""
        return self._asker.clients

    @property
    def consoles(self) -> Consoles:
        """This process's."""
        return self._asker.consoles

    @property
    def peers(self) -> Iterable[PeerView]:
        """This process's."""
        return self._asker.peers

    @property
    def lookups(self) -> Iterable[LookupView]:
        """This process's."""
        return self._asker.lookups

    @property
    def hosts(self) -> Iterable[HostView]:
        """This process's."""
        return self._asker.hosts

    @property
    def fallbacks(self) -> Iterable[FallbackView]:
        """This process's."""
        return self._asker.fallbacks

    @property
    def coordinators(self) -> Iterable[CoordinatorView]:
        """This process's."""
        return self._asker.coordinators

    @property
    def login_count(self) -> int:
        """This process's."""
        return self._asker.login_count

    @property
    def averages(self) -> AveragesView:
        """This process's."""
        return self._asker.averages

    @property
    def connections(self) -> ConnectionStats:
        """This process's."""
        return self._asker.connections

    @property
    def openings(self) -> OpeningStats:
        """This process's."""
        return self._asker.openings

    @property
    def several(self) -> bool:
        """There are several processes."""
        return True

    @property
    def missing(self) -> Mapping[int, str]:
        """Nobody was asked."""
        return {}

    @property
    def workers(self) -> Sequence[WorkerView]:
        """This process alone."""
        return self._asker.workers

    def memory(self) -> Iterable[tuple[str, int, int, int, int]]:
        """This process's."""
        return self._asker.memory()

    def resident(self) -> int:
        """This process's."""
        return self._asker.resident()

    def sockets(self) -> Mapping[str, Sequence[int]]:
        """This process's."""
        return self._asker.sockets()


def _last(found: Mapping[int, Any]) -> str:
    """What was said last: all have the same configuration."""
    return str(list(found.values())[-1])


class _Look:
    """One question to all and its answers, ``answers`` by number, and in ``missing`` why those that are not there."""

    def __init__(self, ask_all: AskAll, parts: Collection[str]) -> None:
        self._ask_all = ask_all
        self._parts = sorted(parts)
        self._deadline = clock() + WHOLE_SECONDS
        self._pace = Pace()
        self._rests: dict[int, str] = {}
        self.answers: dict[int, Answer] = {}
        self.missing: dict[int, str] = {}

    def take(self) -> None:
        """Ask until all is told, or it is late; may switch."""
        self._add(self._ask_all(kinds.TELL, {"parts": self._parts}, TELL_SECONDS))
        while workers := {number: rest for number, rest in self._rests.items() if number != kinds.SUPERVISOR}:
            if clock() >= self._deadline:
                for number in workers:
                    self._lose(number, f"it had told only a part within {WHOLE_SECONDS:g} s")
                break
            self._ask_on(workers)
        if kinds.SUPERVISOR in self._rests:
            # Last of all: it tells the counters of those that are missing, as they were known.
            while rest := self._rests.get(kinds.SUPERVISOR):
                self._ask_on({kinds.SUPERVISOR: rest})

    def _ask_on(self, rests: Mapping[int, str]) -> None:
        answered = [number for number in self.answers if number != kinds.SUPERVISOR]
        found = self._ask_all(kinds.MORE, {"rest": list(rests.values()), "answered": answered}, TELL_SECONDS)
        for number in rests:
            del self._rests[number]
            if not found.get(number):
                found[number] = ParcelError("it has forgotten what it was asked for")
        self._add({number: found[number] for number in rests})

    def _add(self, found: Mapping[int, Any]) -> None:
        for number, told in found.items():
            if isinstance(told, Exception):
                self._lose(number, str(told))
                continue
            try:
                self.answers.setdefault(number, Answer()).add(told, self._pace)
            except (Malformed, LookupError, TypeError, ValueError) as exc:
                self._lose(number, f"what it has told can't be read: {exc}")
                continue
            if told.get("rest"):
                self._rests[number] = told["rest"]

    def _lose(self, number: int, reason: str) -> None:
        """A process is not in the answer: neither are its first rows."""
        self.missing[number] = reason
        self.answers.pop(number, None)
        self._rests.pop(number, None)
