"""The supervisor's side of questions and orders to the whole pooler, its own and those that workers bring to it.

Rules:
1. Orders are given one after the other, so that all processes get them in the same order; within ``still`` there is
   none, and a worker that is started there by what was ordered so far misses nothing.
2. An order that the supervisor has to carry out, too, it carries out first: one that it refuses reaches nobody.
3. It answers as number 0, with its own part and with what ``departed`` remembers.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from typing import Any

import gevent
import gevent.lock

from pgdoorman_lib.errors import DoormanError
from pgdoorman_lib.net.packing import Malformed
from pgdoorman_lib.net.parcel_terms import ChannelClosed, TimedOut
from pgdoorman_lib.together import kinds
from pgdoorman_lib.together.departed import Departed
from pgdoorman_lib.together.failures import Answers, pack_error
from pgdoorman_lib.together.orders import AskAll
from pgdoorman_lib.together.telling import COLUMNS, MOST_PENDING, Rests, Telling, make_token, portions
from pgdoorman_lib.wire.handover import Plain

log = logging.getLogger(__name__)

#: Seconds between two looks at the counters of all workers.
LOOK_INTERVAL = 1.0
#: What is looked at: all that must not go back.
_COUNTED = (kinds.PROCESS, kinds.STATS, kinds.BUCKETS)


class Chair:
    """``ask`` is what ``Whole`` is given in the supervisor, and what is called for a worker that asks all.

    ``ask_workers(kind, state, timeout)`` asks every worker at once. ``own`` are orders that the supervisor carries out
    as well, by their verb, with the arguments of ``orders.ORDERS`` behind the pooler; ``lead`` are those of kind LEAD.
    ``telling`` tells of the supervisor's process.
    """

    def __init__(
        self,
        ask_workers: AskAll,
        telling: Telling,
        own: Mapping[str, Callable[..., Any]],
        lead: Mapping[str, Callable[..., Any]],
    ) -> None:
        self._ask_workers = ask_workers
        self._telling = telling
        self._own = own
        self._lead = lead
        self._ordering = gevent.lock.RLock()
        self._rests = Rests()
        #: parts that are told at the end, by the token for them
        self._asked: dict[str, Collection[str]] = {}
        #: the word of the last answer that was had whole, by the process
        self._watched: Plain = {}
        self.departed = Departed()
        #: what was ordered and holds: for ``obey`` of a worker that starts; None before the first order
        self.ordered: Plain | None = None

    def ask(self, kind: str, state: Plain, timeout: float | None) -> Answers:
        """What everybody answers, by number; may switch."""
        if kind == kinds.TELL:
            return self._tell(state, timeout)
        if kind == kinds.MORE:
            return self._more(state, timeout)
        if kind == kinds.ORDER:
            return self._order(state, timeout)
        if kind == kinds.LEAD:
            return {kinds.SUPERVISOR: _done(self._lead, state)}
        return self._ask_workers(kind, state, timeout)

    # Telling.

    def _tell(self, state: Plain, timeout: float | None) -> Answers:
        answers = self._ask_workers(kinds.TELL, state, timeout)
        self._see(answers)
        parts = [part for part in state["parts"] if part in COLUMNS]
        token = make_token()
        self._asked[token] = parts
        if len(self._asked) > MOST_PENDING:
            del self._asked[next(iter(self._asked))]
        answers[kinds.SUPERVISOR] = {
            "process": self._telling.token,
            "pid": 0,
            "columns": {part: list(COLUMNS[part]) for part in parts},
            "portions": [],
            "rest": token,
        }
        return answers

    def _more(self, state: Plain, timeout: float | None) -> Answers:
        token = next((rest for rest in state["rest"] if rest in self._asked), None)
        if token is not None:
            parts = self._asked.pop(token)
            rows = chain(self._telling.rows(parts, ()), self.departed.rows(parts, state["answered"]))
            return {kinds.SUPERVISOR: self._rests.begin(portions(rows))}
        if found := self._rests.go_on(state["rest"]):
            return {kinds.SUPERVISOR: found}
        answers = self._ask_workers(kinds.MORE, state, timeout)
        self._see(answers)
        return answers

    def _see(self, answers: Mapping[int, Any]) -> None:
        for number, told in answers.items():
            if isinstance(told, Exception):
                continue
            try:
                self.departed.see(number, told)
            except (Malformed, LookupError, TypeError, ValueError) as exc:
                log.warning("what worker %d tells of its counters can't be read: %s", number, exc)

    def look(self) -> None:
        """Remember what all workers have counted since the last look; may switch."""
        answers = self._ask_workers(kinds.TELL, {"parts": list(_COUNTED), "watch": self._watched}, LOOK_INTERVAL)
        begun = {number: told for number, told in answers.items() if isinstance(told, dict)}
        self._see(answers)
        watched: Plain = {}
        while answers:
            rests = []
            for number, told in answers.items():
                if isinstance(told, dict) and told.get("rest"):
                    rests.append(told["rest"])
                elif isinstance(told, dict) and told and number in begun:
                    watched[begun[number]["process"]] = begun[number].get("watch")
            answers = self._ask_workers(kinds.MORE, {"rest": rests, "answered": []}, LOOK_INTERVAL) if rests else {}
            self._see(answers)
        self._watched = watched

    def run(self) -> None:
        """Look for ever, each LOOK_INTERVAL; the body of a greenlet."""
        while True:
            gevent.sleep(LOOK_INTERVAL)
            self.look()

    # Orders.

    def _order(self, state: Plain, timeout: float | None) -> Answers:
        if not self._ordering.acquire(timeout=timeout):
            return {kinds.SUPERVISOR: TimedOut("another order is under way")}
        try:
            answers: Answers = {}
            if state["verb"] in self._own:
                answers[kinds.SUPERVISOR] = _done(self._own, state)
                if "error" in answers[kinds.SUPERVISOR]:
                    return answers
            found = self._ask_workers(kinds.ORDER, state, timeout)
            for answer in found.values():
                if not isinstance(answer, Exception) and "error" not in answer:
                    self.ordered = answer["ordered"]
            return answers | found
        finally:
            self._ordering.release()

    @contextmanager
    def still(self) -> Iterator[Plain | None]:
        """Within there is no order under way: what was ordered so far. May switch."""
        with self._ordering:
            yield self.ordered

    def gone(self, number: int) -> None:
        """Worker ``number`` has ended."""
        self.departed.gone(number)


def _done(verbs: Mapping[str, Callable[..., Any]], state: Plain) -> Any:
    """What an order comes to in the supervisor; may switch."""
    verb = verbs.get(state["verb"])
    if verb is None:
        return ChannelClosed(f"the supervisor does not know {state['verb']}")
    try:
        return {"result": verb(*state["arguments"])}
    except DoormanError as exc:
        return {"error": pack_error(exc)}
