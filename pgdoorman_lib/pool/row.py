"""A row of the ledger (``pool.ledger``): how many of one thing each worker process has, and who of them waits for one.

Rules:
1. Each worker writes its own cell, others read it. Only ``NEWS`` and ``CLAIMED`` are written by others.
2. What must be exact (``take`` and what gives back) happens under the ledger's lock. Everything else is plain memory,
   so that the data path may look for the price of a load: what it sees may be old by a moment.
3. The supervisor, worker 0, has a cell, too. In a row that counts nothing it has how often something has happened that
   all go by (``announce``), which outlives the worker that has told of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_int = int
_float = float

#: Numbers (int64) of a cell: two lines of a processor's cache, of which the data path needs the first.
WIDTH = 16
#: Which is which: places taken; places of a process that has no cell (``set_elsewhere``); those at rest; who wait, and
#: since when the first does (monotonic µs, 0: nobody); the ``SINCE`` of a first to whom something is on its way; how
#: many were served or waited at a time lately (in parts); it will look by itself who waits elsewhere; somebody has
#: something to tell; rows that worker has joined.
HELD, ELSEWHERE, RESTING, WAITING, SINCE, CLAIMED, DEMAND, LOOKING, NEWS, JOINED = range(10)
_HELD = HELD
_ELSEWHERE = ELSEWHERE
_RESTING = RESTING
_WAITING = WAITING
_SINCE = SINCE
_CLAIMED = CLAIMED
_DEMAND = DEMAND
_LOOKING = LOOKING
_NEWS = NEWS
_WIDTH = WIDTH
#: What may have happened to a database: texts may mean something else, objects may leave something behind; to the users
#: who are looked up: somebody's secret is another.
TEXTS, OBJECTS, SECRETS = range(3)
#: It is another worker's turn when its first has waited for so many seconds more than ours, at least (``Row.margin``),
#: and so many times as long: fewer times where that has no server, since nothing else will be of use there.
MARGIN = 0.001
RATIO = 2.0
RATIO_OF_NONE = 1.25
_RATIO = RATIO
_RATIO_OF_NONE = RATIO_OF_NONE
#: Even if that has its share: when its first has waited for so many margins more than that.
STUCK = 20.0
_STUCK = STUCK
#: What is a server more than the share of a worker, nearly; and what of those that another has beyond its first is left
#: out of account, since how many there are to be served changes all the time.
ONE = 0.75
SLACK = 0.25
_ONE = ONE
_SLACK = SLACK
#: Another worker is clearly worse off when there are so many times as many for each of its servers.
CLEARLY = 4.0
_CLEARLY = CLEARLY
#: ``DEMAND`` is in so many parts, and goes by about so many of those that were given back last.
PARTS = 16384
LATELY = 256
_PARTS = PARTS
_LATELY = LATELY


class Row:
    """Worker ``worker``'s view of row ``number``; made by ``Ledger.row``. ``cells`` are its int64 numbers."""

    __slots__ = (
        "_end",
        "_mine",
        "aside",
        "cells",
        "elsewhere",
        "heard",
        "held",
        "ledger",
        "look_at",
        "margin",
        "number",
        "shy",
        "worker",
    )

    def __init__(self, ledger: Any, number: _int, cells: Any, worker: _int) -> None:
        self.ledger = ledger
        self.number = number
        self.worker = worker
        self.cells = cells
        self._mine = worker * WIDTH
        self._end = len(cells)
        #: places taken through this object, and those counted by ``set_elsewhere``
        self.held = 0
        self.elsewhere = 0
        #: servers that don't rest, but that no client uses (``Pool.set_aside``): others see them among those at rest
        self.aside = 0
        #: seconds, see MARGIN
        self.margin = MARGIN
        #: when it is next looked who waits elsewhere when one comes to rest here, monotonic seconds
        self.look_at = 0.0
        #: what rests here can't go elsewhere, and need not be asked for
        self.shy = False
        #: called when another worker has given something back, waits, or has died; no switch
        self.heard: Callable[[], object] | None = None

    # Counts.

    def total(self) -> _int:
        """Places taken by all workers."""
        found = 0
        at = 0
        while at < self._end:
            found += self.cells[at + _HELD] + self.cells[at + _ELSEWHERE]
            at += _WIDTH
        return found

    def take(self, limit: _int) -> bool:
        """Take a place if fewer than ``limit`` are taken by all workers; whether it is ours."""
        self.ledger.lock()
        try:
            if self.total() >= limit:
                return False
            self.cells[self._mine + _HELD] += 1
        finally:
            self.ledger.unlock()
        self.held += 1
        return True

    def add(self, number: _int = 1) -> None:
        """Take so many places whatever the limit is: what they are for is here already."""
        self.ledger.lock()
        try:
            self.cells[self._mine + _HELD] += number
        finally:
            self.ledger.unlock()
        self.held += number

    def give_back(self) -> None:
        """Give a place back, and ring those who wait; RuntimeError if none was taken."""
        if self.held <= 0:
            raise RuntimeError("a place was given back that nobody has taken")
        self.held -= 1
        self.ledger.lock()
        try:
            self.cells[self._mine + _HELD] -= 1
        finally:
            self.ledger.unlock()
        self.ring_waiting()

    def count(self, change: _int) -> None:
        """Have so many more here, or less, of what no place is taken for: each look at it may be old by a moment."""
        self.cells[self._mine + _HELD] += change
        self.held += change

    def set_elsewhere(self, number: _int) -> None:
        """So many places are taken by a process that is not among the workers, such as one before an upgrade."""
        self.ledger.lock()
        try:
            self.cells[self._mine + _ELSEWHERE] += number - self.elsewhere
        finally:
            self.ledger.unlock()
        fewer = number < self.elsewhere
        self.elsewhere = number
        if fewer:
            self.ring_waiting()

    def taken_outside(self) -> _int:
        """Places of processes that are not among the workers."""
        return sum(int(self.cells[at + ELSEWHERE]) for at in range(0, self._end, WIDTH))

    def is_overfull(self, limit: _int) -> bool:
        """Whether workers have taken more than ``limit`` places, those elsewhere not counted."""
        return sum(int(self.cells[at + HELD]) for at in range(0, self._end, WIDTH)) > limit

    def held_by(self, worker: _int) -> _int:
        """Places that a worker has taken."""
        return int(self.cells[worker * WIDTH + HELD])

    # The lines.

    def line_is(self, waiting: _int, since: _float) -> None:
        """So many wait here, the first since then (monotonic seconds; nobody: 0)."""
        self.cells[self._mine + _WAITING] = waiting
        self.cells[self._mine + _SINCE] = int(since * 1000000.0)

    def rest_is(self, resting: _int) -> None:
        """So many rest here."""
        self.cells[self._mine + _RESTING] = 0 if self.shy else resting + self.aside

    def set_aside(self, change: _int, resting: _int) -> None:
        """So many more that do not rest are in no client's use, or less; and so many rest here."""
        self.aside += change
        self.rest_is(resting)

    def rests_elsewhere(self) -> _int:
        """How many no client uses in other workers: they rest, or will in a moment."""
        found = 0
        at = 0
        while at < self._end:
            if at != self._mine:
                found += self.cells[at + _RESTING]
            at += _WIDTH
        return found

    def turn_of(self, since: _float, now: _float) -> _int:
        """The other worker that gets what is given back here now; 0: it stays.

        ``since`` is when our own first began to wait, 0 if nobody does; monotonic seconds.
        """
        self._note_demand()
        return self._oldest(True, since, now)

    def first_elsewhere(self) -> _int:
        """The other worker whose first has waited longest of those to whom nothing is on its way; 0: nobody waits."""
        return self._oldest(False, 0.0, 0.0)

    def _oldest(self, in_turn: bool, since: _float, now: _float) -> _int:
        """As ``first_elsewhere``, and if ``in_turn`` of those alone whose turn it is."""
        oldest = 0
        found = 0
        at = 0
        while at < self._end:
            theirs = self.cells[at + _SINCE]
            if (
                theirs
                and at != self._mine
                and not self.cells[at + _CLAIMED]
                and (not oldest or theirs < oldest)
                and (not in_turn or self._is_next(at, now - theirs / 1000000.0, since, now))
            ):
                oldest = theirs
                found = at
            at += _WIDTH
        return found // _WIDTH

    def _is_next(self, at: _int, waited: _float, since: _float, now: _float) -> bool:
        """Whether one is to go to the worker whose cell that is, where the first has ``waited`` so many seconds."""
        if since <= 0.0:
            # Nobody waits here, but that may be over before one that has gone could be back.
            return not self.cells[at + _HELD] or self._is_clearly_worse_off(at)
        own = now - since
        if waited <= own + self.margin:
            return False
        if not self.cells[at + _HELD]:
            return waited > own * _RATIO_OF_NONE
        # Those that it has come back there, too, and soon, unless something keeps them.
        return waited > own * _RATIO and (self._surplus(at) >= _ONE or waited > own * _RATIO + self.margin * _STUCK)

    def _note_demand(self) -> None:
        """One is given back here: how many there are with one, or who wait for one?"""
        at = self._mine + _DEMAND
        self.cells[at] += (self._load(self._mine) - self.cells[at]) // _LATELY

    def _load(self, at: _int) -> _int:
        """How many there are with one, or who wait for one, in the worker whose cell that is; in parts."""
        load: _int = (self.cells[at + _HELD] - self.cells[at + _RESTING] + self.cells[at + _WAITING]) * _PARTS
        return load

    def _demand(self, at: _int) -> _int:
        """How many there are in the worker whose cell that is, now or, if that is more, lately; in parts."""
        now = self._load(at)
        lately: _int = self.cells[at + _DEMAND]
        return now if now > lately else lately

    def _surplus(self, at: _int) -> _float:
        """How many of ours are another's by what both have, and how many there are to be served by them."""
        ours = self._demand(self._mine)
        theirs = self._demand(at)
        there = self.cells[at + _HELD]
        both = self.cells[self._mine + _HELD] + there
        return float(both) * theirs / (ours + theirs) - there - (there - 1) * _SLACK if theirs else 0.0

    def _is_clearly_worse_off(self, at: _int) -> bool:
        """Whether by far more are served there by each of its servers, and one of ours is theirs."""
        theirs = self._demand(at) * self.cells[self._mine + _HELD]
        ours = self._demand(self._mine) * self.cells[at + _HELD]
        return theirs > ours * _CLEARLY and self._surplus(at) >= _ONE

    def surplus(self, worker: _int) -> _float:
        """How many of ours are a worker's by what both have, and how many there are to be served by them."""
        return self._surplus(worker * _WIDTH)

    def is_clearly_worse_off(self, worker: _int) -> bool:
        """Whether a worker has none, or is clearly worse off than this one."""
        at = worker * _WIDTH
        return not self.cells[at + _HELD] or self._is_clearly_worse_off(at)

    def used(self) -> _int:
        """Places of all workers whose servers do not rest."""
        return self.total() - sum(int(self.cells[at + RESTING]) for at in range(0, self._end, WIDTH))

    def all_waiting(self) -> _int:
        """How many wait in all workers."""
        return sum(int(self.cells[at + WAITING]) for at in range(0, self._end, WIDTH))

    def waiting_since(self, worker: _int) -> _float:
        """Since when the first in a worker's line waits, monotonic seconds; 0 if nobody does."""
        return float(self.cells[worker * WIDTH + SINCE]) / 1000000.0

    def waiting(self, worker: _int) -> _int:
        """How many wait in a worker."""
        return int(self.cells[worker * WIDTH + WAITING])

    def oldest_elsewhere(self) -> _float:
        """Since when the first of all others waits, monotonic seconds; 0 if nobody does."""
        found = [since for worker in self.others() if (since := self.waiting_since(worker))]
        return min(found, default=0.0)

    def claim(self, worker: _int) -> _int:
        """Be the one who sends a worker something; a number for ``unclaim``, 0: another is, or nobody waits there."""
        at = worker * WIDTH
        self.ledger.lock()
        try:
            since = int(self.cells[at + SINCE])
            if not since or self.cells[at + CLAIMED]:
                return 0
            self.cells[at + CLAIMED] = since
        finally:
            self.ledger.unlock()
        return since

    def unclaim(self, worker: _int, since: _int) -> None:
        """What was on its way to a worker has come there, or will not."""
        at = worker * WIDTH
        self.ledger.lock()
        try:
            if self.cells[at + CLAIMED] == since:
                self.cells[at + CLAIMED] = 0
        finally:
            self.ledger.unlock()

    # What all go by.

    def announce(self, event: _int) -> None:
        """``event`` (TEXTS or OBJECTS) has happened once more; whoever looks from here on sees it."""
        self.ledger.lock()
        try:
            self.cells[event] += 1
        finally:
            self.ledger.unlock()

    def announced(self, event: _int) -> _int:
        """How often ``event`` has happened while anybody had joined the row."""
        return self.cells[event]  # type: ignore[no-any-return]

    # Telling each other.

    def others(self) -> list[_int]:
        """The other workers."""
        return [worker for worker in range(1, self._end // WIDTH) if worker != self.worker]

    def ring(self, worker: _int) -> None:
        """Have a worker look at this row."""
        self.cells[worker * WIDTH + NEWS] = 1
        self.ledger.ring(worker)

    def ring_waiting(self) -> None:
        """Have the others look in whom somebody waits."""
        for worker in self.others():
            if self.cells[worker * WIDTH + SINCE]:
                self.ring(worker)

    def ring_holders(self) -> None:
        """Have the others look that have places."""
        for worker in self.others():
            if self.cells[worker * WIDTH + HELD]:
                self.ring(worker)

    def ring_resting(self, number: _int) -> None:
        """Have as many of the others look as are needed for ``number`` that rest there, those with most first."""
        resting = [(int(self.cells[worker * WIDTH + RESTING]), worker) for worker in self.others()]
        for there, worker in sorted(resting, reverse=True):
            if there <= 0 or number <= 0:
                break
            if not self._is_aware(worker * WIDTH):
                self.ring(worker)
            number -= there

    def rest_unaware(self) -> bool:
        """Whether servers rest in another worker that does not know yet that it is to look who waits elsewhere."""
        at = 0
        while at < self._end:
            if at != self._mine and self.cells[at + _RESTING] and not self._is_aware(at):
                return True
            at += _WIDTH
        return False

    def _is_aware(self, at: _int) -> bool:
        """Whether the worker whose cell that is has been rung and not looked yet, or looks soon by itself."""
        return bool(self.cells[at + _LOOKING] or self.cells[at + _NEWS])

    def looks(self, soon: bool) -> None:
        """This worker looks soon by itself who waits elsewhere, and need not be rung for that; or not any more."""
        self.cells[self._mine + LOOKING] = int(soon)

    def leave(self) -> None:
        """Have nothing to do with the row any more: what was taken through this object is given back."""
        self.heard = None
        self.ledger.leave(self)
