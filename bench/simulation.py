"""What a pooler of several workers comes to on machines we don't have: simulated by events, of costs as measured here.

python -m bench.simulation                                    # the tables of docs/performance.md
python -m bench.simulation --workers 4 --clients 200 --servers 20 --cores 8
python -m bench.simulation --spread 40 1 --servers 2          # 40 clients at one worker, one at the other
python -m bench.simulation --check 1 2                        # beside pgbench through pgdoorman here, 1 and 2 workers

Clients ask again as soon as they have their answer (and have thought, if --think says so). A worker does one thing
after the other; so does a server; what is ready waits for a core in turn. Whoever has a server back looks who has
waited longest at the other workers. It goes there if that one has waited longer than the own first one by more than the
margin, and more than so many times as long, and that worker has less than its share of servers (policy "fair", as in
``pgdoorman_lib.pool.row``; "longest" goes by waiting alone); only one at a time is on its way to a worker's first.
"""

from __future__ import annotations

import argparse
import heapq
import random
import sys
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from bench.report import table
from pgdoorman_lib.pool import exchange, row

#: fair: a server goes to who has waited longest, but not where there are enough. longest: wherever that is. own: only
#: servers at rest go to others. apart: each worker has its part of the pool for good, as PgBouncer's processes have.
POLICIES = ("fair", "longest", "own", "apart")

WARM_UP = 0.1

#: µs that one which has come to rest stays, since it may be needed again.
REST = exchange.REST * 1e6


@dataclass(frozen=True)
class Costs:
    """µs. Those of the transaction are the least that was measured on the machine of docs/performance.md."""

    #: of a worker's CPU for a transaction
    relay: float = 32.0
    #: of PostgreSQL's, and of the client's
    service: float = 72.0
    generator: float = 24.0
    #: of CPU at the worker that gives a server away, and at the one that gets it
    move_out: float = 40.0
    move_in: float = 60.0
    #: of CPU to ring another worker, and of that one to look
    ring: float = 3.0
    look: float = 3.0
    #: until a worker that rests has noticed that it was rung, or got something; no CPU
    notice: float = 30.0
    #: between a client and its worker, one way; no CPU
    network: float = 20.0


@dataclass(frozen=True)
class Setup:
    """One simulation. ``spread``: how many clients each worker has; ``cores`` 0: those of PostgreSQL are no limit."""

    spread: tuple[int, ...]
    servers: int
    cores: int = 2
    #: PostgreSQL's own; None: it and the clients share the pooler's
    other_cores: int | None = None
    policy: str = "fair"
    #: another worker's first must have waited longer than the own one by so many µs, and so many times as long
    margin: float = row.MARGIN * 1e6
    ratio: float = row.RATIO
    #: µs between an answer and the next question, mean
    think: float = 0.0
    transactions: int = 20_000
    seed: int = 1
    costs: Costs = field(default_factory=Costs)


@dataclass(frozen=True)
class Outcome:
    """``tps``; waiting for a server in µs: mean, 99th percentile, worst; moves and pooler's CPU (µs) per transaction.

    ``worst_of``: each worker's worst; ``busiest``: the part of the time in which the busiest worker worked.
    """

    tps: float
    mean: float
    p99: float
    worst: float
    moves: float
    cpu: float
    busiest: float
    worst_of: tuple[float, ...]
    most_busy_servers: int


def evenly(clients: int, workers: int) -> tuple[int, ...]:
    """So many for each worker."""
    return tuple(clients // workers + (number < clients % workers) for number in range(workers))


Act = Callable[[], None]


class Cores:
    """What is ready to run gets a core in turn; what has one keeps it to the end of its job."""

    def __init__(self, world: World, count: int) -> None:
        self.world = world
        self.free = count
        self.ready: deque[Runner] = deque()

    def wake(self, runner: Runner) -> None:
        self.ready.append(runner)
        self.dispatch()

    def dispatch(self) -> None:
        while self.free and self.ready:
            self.free -= 1
            runner = self.ready.popleft()
            cost, act = runner.jobs.popleft()
            runner.spent += cost
            self.world.after(cost, self._done, runner, act)

    def _done(self, runner: Runner, act: Act) -> None:
        self.free += 1
        act()
        if runner.jobs:
            self.ready.append(runner)
        else:
            runner.scheduled = False
        self.dispatch()


class Runner:
    """Does one job after the other: a worker, a server's backend, a client."""

    def __init__(self, cores: Cores) -> None:
        self.cores = cores
        self.jobs: deque[tuple[float, Act]] = deque()
        self.scheduled = False
        self.spent = 0.0

    def does(self, cost: float, act: Act) -> None:
        self.jobs.append((cost, act))
        if not self.scheduled:
            self.scheduled = True
            self.cores.wake(self)


class Worker(Runner):
    def __init__(self, number: int, cores: Cores) -> None:
        super().__init__(cores)
        self.number = number
        self.resting: list[Runner] = []
        self.line: deque[Client] = deque()
        #: servers on their way here, and those that are here
        self.coming = 0
        self.held = 0
        #: how many were served or waited lately
        self.lately = 0.0
        self.worst = 0.0

    def busy(self) -> int:
        """How many are served or wait."""
        return self.held - len(self.resting) + len(self.line)

    def note_demand(self) -> None:
        """One is given back here."""
        self.lately += (self.busy() - self.lately) / row.LATELY

    def surplus(self, other: Worker) -> float:
        """How many of our servers are another's by what both have, and how many there are to be served by them."""
        ours, theirs = (max(worker.busy(), worker.lately) for worker in (self, other))
        share = (self.held + other.held) * theirs / (ours + theirs) if theirs else 0.0
        return share - other.held - (other.held - 1) * row.SLACK

    def is_better_off(self, other: Worker) -> bool:
        """Whether another worker has none, or far fewer than this one for as many."""
        ours, theirs = (max(worker.busy(), worker.lately) for worker in (self, other))
        clearly = theirs * self.held > ours * other.held * row.CLEARLY and self.surplus(other) >= row.ONE
        return not other.held or clearly

    def first_unserved(self) -> Client | None:
        """Who waits here first, unless a server is on its way."""
        return self.line[0] if self.line and not self.coming else None


class Client(Runner):
    def __init__(self, worker: Worker, cores: Cores) -> None:
        super().__init__(cores)
        self.worker = worker
        self.since = 0.0


class World:
    """The state and the clock, µs."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.random = random.Random(setup.seed)
        self.now = 0.0
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._number = 0
        cores = Cores(self, setup.cores)
        others = cores if setup.other_cores is None else Cores(self, setup.other_cores)
        self.workers = [Worker(number, cores) for number in range(len(setup.spread))]
        for number in range(setup.servers):
            worker = self.workers[number % len(self.workers)]
            worker.resting.append(Runner(others))
            worker.held += 1
        pairs = zip(self.workers, setup.spread, strict=True)
        self.clients = [Client(worker, others) for worker, count in pairs for _ in range(count)]
        self.done = self.moves = self.busy = self.most_busy = 0
        self.waits: list[float] = []
        self._began = 0.0
        self._spent_before = [0.0] * len(self.workers)

    def after(self, delay: float, function: Callable[..., None], *arguments: Any) -> None:
        self._number += 1
        heapq.heappush(self._events, (self.now + delay, self._number, function, arguments))

    def run(self) -> Outcome:
        setup = self.setup
        for client in self.clients:
            self.after(self.random.random() * 100, self.asks, client)
        first = int(setup.transactions * WARM_UP)
        self._until(first)
        self._began, self.waits, self.moves, self.most_busy = self.now, [], 0, self.busy
        self._spent_before = [worker.spent for worker in self.workers]
        for worker in self.workers:
            worker.worst = 0.0
        self._until(first + setup.transactions)
        elapsed = self.now - self._began
        spent = [worker.spent - before for worker, before in zip(self.workers, self._spent_before, strict=True)]
        # Who waits still has waited, too: nobody's wait is left out for not having ended.
        for worker in self.workers:
            for client in worker.line:
                worker.worst = max(worker.worst, self.now - client.since)
        ordered = sorted(self.waits)
        return Outcome(
            tps=setup.transactions / elapsed * 1e6,
            mean=sum(ordered) / len(ordered),
            p99=ordered[len(ordered) * 99 // 100],
            worst=max(worker.worst for worker in self.workers),
            moves=self.moves / setup.transactions,
            cpu=sum(spent) / setup.transactions,
            busiest=max(spent) / elapsed,
            worst_of=tuple(worker.worst for worker in self.workers),
            most_busy_servers=self.most_busy,
        )

    def _until(self, transactions: int) -> None:
        while self.done < transactions:
            self.now, _, function, arguments = heapq.heappop(self._events)
            function(*arguments)

    def some(self, mean: float) -> float:
        """A time that varies about ``mean``: half of it fixed, half exponential."""
        return mean / 2 + self.random.expovariate(2 / mean) if mean else 0.0

    # -- a transaction's way

    def asks(self, client: Client) -> None:
        costs = self.setup.costs
        arrive = costs.network + (self.random.expovariate(1 / self.setup.think) if self.setup.think else 0.0)
        client.does(
            costs.generator,
            lambda: self.after(arrive, client.worker.does, self.some(costs.relay / 2), lambda: self.needs(client)),
        )

    def needs(self, client: Client) -> None:
        worker = client.worker
        client.since = self.now
        if worker.resting:
            self.lend(worker.resting.pop(), client)
            return
        worker.line.append(client)
        if self.setup.policy != "apart":
            helper = next((other for other in self.workers if other.resting), None)
            if helper is not None:
                costs = self.setup.costs
                worker.does(costs.ring, lambda: self.after(costs.notice, self.rung, helper))

    def rung(self, worker: Worker) -> None:
        worker.does(self.setup.costs.look, lambda: self.answer_hands(worker))

    def answer_hands(self, worker: Worker) -> None:
        """Send servers at rest to who waits, as many as there are for all who do, or that are not needed here."""
        while worker.resting and (other := self.longest_waiting(worker)) is not None:
            count = min(len(other.line), len(worker.resting))
            if self.setup.policy == "fair":
                count = min(count, max(round(worker.surplus(other)), int(not other.held), not worker.busy()))
            for _ in range(count):
                self.move(worker.resting.pop(0), worker, other)
            if not count:
                break

    def longest_waiting(self, worker: Worker) -> Worker | None:
        """The other worker whose first has waited longest, if it is that one's turn and not our own first one's."""
        found = [other for other in self.workers if other is not worker and other.first_unserved()]
        if worker.line:
            found = [other for other in found if self.is_next(worker, other)]
        return min(found, key=lambda other: other.line[0].since, default=None)

    def is_next(self, worker: Worker, other: Worker) -> bool:
        """Whether it is the turn of another worker's first before that of ours."""
        own, theirs = self.now - worker.line[0].since, self.now - other.line[0].since
        if theirs <= own + self.setup.margin or theirs <= own * self.setup.ratio:
            return False
        if self.setup.policy != "fair" or not other.held or worker.surplus(other) >= row.ONE:
            return True
        return theirs > own * self.setup.ratio + self.setup.margin * row.STUCK

    def lend(self, server: Runner, client: Client) -> None:
        wait = self.now - client.since
        self.waits.append(wait)
        client.worker.worst = max(client.worker.worst, wait)
        self.busy += 1
        self.most_busy = max(self.most_busy, self.busy)
        relay = self.some(self.setup.costs.relay / 2)
        server.does(
            self.some(self.setup.costs.service),
            lambda: client.worker.does(relay, lambda: self.answered(server, client)),
        )

    def answered(self, server: Runner, client: Client) -> None:
        self.done += 1
        self.busy -= 1
        self.after(self.setup.costs.network, self.asks, client)
        self.comes_back(server, client.worker)

    def comes_back(self, server: Runner, worker: Worker) -> None:
        worker.note_demand()
        policy = self.setup.policy
        other = None
        if policy in ("fair", "longest") or (policy == "own" and not worker.line):
            other = self.longest_waiting(worker)
        if other is not None and policy == "fair" and not worker.line and not worker.is_better_off(other):
            self.after(REST, self.answer_hands, worker)
            other = None
        if other is not None:
            self.move(server, worker, other)
        else:
            self.serve(server, worker)

    def serve(self, server: Runner, worker: Worker) -> None:
        if worker.line:
            self.lend(server, worker.line.popleft())
        else:
            worker.resting.append(server)

    def move(self, server: Runner, worker: Worker, other: Worker) -> None:
        costs = self.setup.costs
        other.coming += 1
        self.moves += 1
        worker.held -= 1

        def arrived() -> None:
            other.coming -= 1
            other.held += 1
            self.serve(server, other)
            if other.resting:
                self.answer_hands(other)

        worker.does(costs.move_out, lambda: self.after(costs.notice, other.does, costs.move_in, arrived))


def simulate(setup: Setup) -> Outcome:
    """Run it to its end. The same setup comes to the same outcome."""
    if setup.policy == "apart" and setup.servers < len(setup.spread):
        raise ValueError(f"{setup.servers} servers can't be parted among {len(setup.spread)} workers")
    return World(setup).run()


# -- the command line

HEADER = ("workers", "tps", "ratio", "CPU µs/tx", "ratio", "wait ms, mean", "p99", "worst", "moves/tx", "busiest")


def rows(setups: Sequence[Setup]) -> list[list[str]]:
    """A row for each, ratios to the first."""
    found = []
    base: Outcome | None = None
    for setup in setups:
        outcome = simulate(setup)
        base = base or outcome
        found.append(
            [
                str(len(setup.spread)),
                f"{outcome.tps:,.0f}",
                f"{outcome.tps / base.tps:.2f}",
                f"{outcome.cpu:.1f}",
                f"{outcome.cpu / base.cpu:.2f}",
                *(f"{wait / 1000:.2f}" for wait in (outcome.mean, outcome.p99, outcome.worst)),
                f"{outcome.moves:.3f}",
                f"{outcome.busiest:.0%}",
            ]
        )
    return found


#: The tables of the documentation: title, clients, servers, cores, PostgreSQL elsewhere, think time (µs).
WORKERS = (1, 2, 4, 8, 16)
TABLES = (
    ("120 clients, 40 servers, 2 cores for all", 120, 40, 2, None, 0.0),
    ("40 clients, 4 servers, 2 cores for all", 40, 4, 2, None, 0.0),
    ("400 clients, 80 servers, 16 cores, PostgreSQL on 64 elsewhere", 400, 80, 16, 64, 0.0),
    ("400 clients, 16 servers, 16 cores, PostgreSQL on 64 elsewhere", 400, 16, 16, 64, 0.0),
    (
        "2,000 clients that think for 10 ms, 80 servers, 16 cores, PostgreSQL on 64 elsewhere",
        2000,
        80,
        16,
        64,
        10_000.0,
    ),
)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.simulation", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workers", type=int, nargs="+", metavar="N", help="instead of the tables: these")
    parser.add_argument("--spread", type=int, nargs="+", metavar="CLIENTS", help="of each worker, for one simulation")
    parser.add_argument("--clients", type=int, default=120)
    parser.add_argument("--servers", type=int, default=40)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--other-cores", type=int, help="PostgreSQL's and the clients' own (default: the same cores)")
    parser.add_argument("--policy", choices=POLICIES, default="fair")
    parser.add_argument("--margin", type=float, default=1000.0, help="µs, see above (default 1000)")
    parser.add_argument("--ratio", type=float, default=2.0, help="see above (default 2)")
    parser.add_argument("--think", type=float, default=0.0, help="µs (default 0)")
    parser.add_argument("--transactions", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    for cost in fields(Costs):
        name = f"--{cost.name.replace('_', '-')}"
        parser.add_argument(name, type=float, default=cost.default, help=f"µs (default {cost.default})")
    parser.add_argument("--check", type=int, nargs="+", metavar="N", help="measure here with N workers, and compare")
    parser.add_argument("--pgdoorman", metavar="COMMAND", help="for --check")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    costs = Costs(**{cost.name: getattr(options, cost.name) for cost in fields(Costs)})
    if options.check:
        from bench.calibration import compare

        print(compare(options.check, options.pgdoorman, costs))
        return 0
    base = Setup(
        spread=(1,),
        servers=options.servers,
        cores=options.cores,
        other_cores=options.other_cores,
        policy=options.policy,
        margin=options.margin,
        ratio=options.ratio,
        think=options.think,
        transactions=options.transactions,
        seed=options.seed,
        costs=costs,
    )
    if options.spread:
        print(table(HEADER, rows([replace(base, spread=tuple(options.spread))])))
    elif options.workers:
        print(table(HEADER, rows([replace(base, spread=evenly(options.clients, n)) for n in options.workers])))
    else:
        for title, clients, servers, cores, others, think in TABLES:
            setup = replace(base, servers=servers, cores=cores, other_cores=others, think=think)
            print(f"{title}:\n")
            print(table(HEADER, rows([replace(setup, spread=evenly(clients, n)) for n in WORKERS])), end="\n\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
