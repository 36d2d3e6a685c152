"""Which workers should give clients to which, from how many each has and how busy each is: a plan for the next second.

Rules:
1. By number: while one worker has clearly more clients than another, and is not clearly calmer, it gives some of those
   who rest. What has begun goes on until they are even.
2. By load: while one has been clearly busier than another for a while, it gives some of those who work, as many as
   don't make the other one busier than itself: one client that keeps a worker busy by itself stays where it is. The
   difference in numbers that comes of it is left alone.
3. None goes the other way between two workers soon after one has gone, and few go at a time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

#: Clients that go from one worker in one look.
MOST = 8
MOST_WORKING = 2
#: The difference in numbers from which on clients go: this many, and this share of what a worker has on average.
CLEARLY_MORE = 4
CLEARLY_MORE_SHARE = 0.25
#: The difference in load, in processors, from which on clients that work go, and up to which those that rest may.
CLEARLY_BUSIER = 0.3
ABOUT_AS_BUSY = 0.15
#: How much of the last look goes into what a worker's load is taken for.
WEIGHT = 0.4
#: Looks in a row for which one must have been busier.
LOOKS = 3
#: Seconds in which none goes back, and for which a difference in numbers that came of load is left alone.
NO_RETURN = 30.0
ACCEPTED = 600.0


class Load(NamedTuple):
    """A worker at one look: clients, how many of them have worked since the last, processors it has used since."""

    clients: int
    working: int
    busy: float


class Move(NamedTuple):
    """Clients that should change workers; ``working``: those that work, else those that rest."""

    source: int
    target: int
    clients: int
    working: bool


class Balance:
    """Remembers from look to look; ``plan`` is one."""

    def __init__(self) -> None:
        #: by worker: its load as it is taken for
        self._busy: dict[int, float] = {}
        #: (source, target) between which clients go by number, until they are even
        self._levelling: set[tuple[int, int]] = set()
        #: looks in a row at which source was busier than target
        self._busier: dict[tuple[int, int], int] = {}
        #: when a client went last
        self._gone: dict[tuple[int, int], float] = {}
        #: what target has more than source because of load, and when that came about
        self._accepted: dict[tuple[int, int], tuple[int, float]] = {}

    def plan(self, loads: Mapping[int, Load], now: float) -> list[Move]:
        """What should go where by now (monotonic seconds); at most one move from each worker, and one to each."""
        self._busy = {
            worker: load.busy * WEIGHT + self._busy.get(worker, load.busy) * (1 - WEIGHT)
            for worker, load in loads.items()
        }
        moves: list[Move] = []
        free = set(loads)
        for source, target in self._pairs(loads):
            if source not in free or target not in free:
                continue
            count, working = self._by_number(source, target, loads, now), False
            if not count:
                count, working = self._by_load(source, target, loads), True
            if not count or now - self._gone.get((target, source), -NO_RETURN) < NO_RETURN:
                continue
            free -= {source, target}
            self._gone[source, target] = now
            if working:
                self._busier[source, target] = 0
                more = loads[target].clients - loads[source].clients + 2 * count
                self._accepted[source, target] = max(0, more), now
            moves.append(Move(source, target, count, working))
        return moves

    def _pairs(self, loads: Mapping[int, Load]) -> list[tuple[int, int]]:
        """All (source, target), those that differ most first."""
        pairs = [(source, target) for source in loads for target in loads if source != target]
        return sorted(pairs, key=lambda pair: loads[pair[1]].clients - loads[pair[0]].clients)

    def _by_number(self, source: int, target: int, loads: Mapping[int, Load], now: float) -> int:
        """How many should go for the number of clients."""
        pair = source, target
        more = loads[source].clients - loads[target].clients
        accepted, since = self._accepted.get((target, source), (0, -ACCEPTED))
        if now - since < ACCEPTED:
            more -= accepted
        mean = sum(load.clients for load in loads.values()) / len(loads)
        if more <= 1 or self._busy[source] < self._busy[target] - ABOUT_AS_BUSY:
            self._levelling.discard(pair)
            return 0
        if more > max(CLEARLY_MORE, CLEARLY_MORE_SHARE * mean):
            self._levelling.add(pair)
        return min(MOST, more // 2) if pair in self._levelling else 0

    def _by_load(self, source: int, target: int, loads: Mapping[int, Load]) -> int:
        """How many should go for the load."""
        pair = source, target
        difference = self._busy[source] - self._busy[target]
        if difference < CLEARLY_BUSIER:
            self._busier.pop(pair, None)
            return 0
        looks = self._busier[pair] = self._busier.get(pair, 0) + 1
        if looks < LOOKS or not loads[source].working:
            return 0
        each = self._busy[source] / loads[source].working
        return min(MOST_WORKING, int(difference / 2 / each))
