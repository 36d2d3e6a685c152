"""Several fake poolers in one process that ask each other as workers do, over packed bytes."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import gevent
from admin.fakes import FakeClient, FakeOperations, FakePool, FakePooler, FakeServer, FakeSettings
from eventually import eventually

from pgdoorman_lib.client.info import ClientInfo
from pgdoorman_lib.fallback import FallbackView
from pgdoorman_lib.metrics.averages import Averages
from pgdoorman_lib.metrics.counters import Histogram
from pgdoorman_lib.net.packing import pack, unpack
from pgdoorman_lib.net.parcel_terms import ChannelClosed, TimedOut
from pgdoorman_lib.pool.terms import CoordinatorView
from pgdoorman_lib.server.hosts import HostView
from pgdoorman_lib.together import kinds
from pgdoorman_lib.together.chair import Chair
from pgdoorman_lib.together.failures import Answers, pack_answers, unpack_answers
from pgdoorman_lib.together.onlooker import Onlooker
from pgdoorman_lib.together.telling import Telling
from pgdoorman_lib.together.whole import Whole
from pgdoorman_lib.views import LookupView
from pgdoorman_lib.wire.prepared import ClientStatements

KEYS = (("a", "x"), ("a", "y"), ("b", "x"))


class Pool(FakePool):
    """A pool that counts from nothing."""

    def __init__(self, database: str, user: str) -> None:
        super().__init__(FakeSettings(database=database, user=user))
        self.idle_count = self.borrowed_count = self.opening_count = self.waiting_count = self.opened_count = 0
        self.servers = []
        self.longest = 0.0

    def max_wait(self, now: float) -> float:
        return self.longest


class Client(FakeClient):
    """A client with statements of its own."""

    @property
    def held(self) -> tuple[int, int]:  # type: ignore[override]
        assert self.statements is not None
        return len(self.statements.names), int(self.statements.unnamed is not None)

    @held.setter
    def held(self, value: object) -> None:
        pass

    def info(self) -> ClientInfo:
        return super().info()._replace(worker=0)


class Operations(FakeOperations):
    """Notes what it is told; ``open`` servers stay until they are taken away."""

    def __init__(self, pooler: Worker) -> None:
        super().__init__(pooler)
        self.open = self.condemned = 0
        self.numbers: set[int] = set()

    def open_servers(self, target: Any) -> int:
        return self.open

    def condemned_servers(self, target: Any) -> int:
        return self.condemned

    def unpause(self, target: Any) -> None:
        self.pooler._do(f"unpause {target.database} {target.user}")
        self.paused.discard(target)

    def kill_client(self, number: int) -> bool:
        self.pooler._do(f"kill_client {number}")
        return number in self.numbers


class Worker(FakePooler):
    """A process's part."""

    operations: Operations

    def __init__(self) -> None:
        super().__init__()
        self.pools = [Pool(*key) for key in KEYS]
        self.clients = []
        self.averages = Averages(lambda: self.pools, self.now)
        self.operations = Operations(self)

    def ordered(self) -> dict[str, Any]:
        return {"set": [], "paused": [list(target) for target in self.operations.paused], "disabled": []}


def soon(probe: Callable[[], object]) -> None:
    """Let others run until ``probe`` is true; AssertionError when it is not within some seconds."""

    def look() -> bool:
        gevent.sleep(0.001)
        return bool(probe())

    eventually(look, interval=0)


class Company:
    """``workers`` by number, and the supervisor with its ``chair``; ``silent`` ones do not answer, answers of ``lost`` come too late."""

    def __init__(self, *workers: Worker) -> None:
        self.workers = dict(enumerate(workers, 1))
        self.silent: set[int] = set()
        self.gone: set[int] = set()
        self.lost: set[int] = set()
        self.asked: list[tuple[str, Any]] = []
        self.sizes: list[int] = []
        self.own: dict[str, Any] = {}
        self.lead: dict[str, Any] = {}
        first = next(iter(self.workers.values()))
        boss: Any = Onlooker(first.config, first.build, dict)
        boss.now = first.now
        self.chair = Chair(self.ask_workers, Telling(boss), self.own, self.lead)
        self.exported = Whole(boss, self.chair.ask, kinds.SUPERVISOR)
        self.wholes = {number: Whole(worker, self.ask_through, number) for number, worker in self.workers.items()}
        self.handlers = {number: whole.handlers() for number, whole in self.wholes.items()}

    def ask_workers(self, kind: str, state: Any, timeout: float | None) -> Answers:
        """All handlers, each value by way of its bytes."""
        self.asked.append((kind, state))
        answers: Answers = {}
        question = pack(state)
        for number, handlers in self.handlers.items():
            if number in self.gone:
                answers[number] = ChannelClosed("it has ended")
            elif number in self.silent:
                answers[number] = TimedOut(f"worker {number}: no answer within {timeout} s")
            else:
                answer = pack(handlers[kind](unpack(question)))
                self.sizes.append(len(answer))
                answers[number] = TimedOut("too late") if number in self.lost else unpack(answer)
        gevent.sleep(0)
        return answers

    def ask_through(self, kind: str, state: Any, timeout: float | None) -> Answers:
        """As a worker does: through the supervisor."""
        return unpack_answers(unpack(pack(pack_answers(self.chair.ask(kind, unpack(pack(state)), timeout)))))

    def restart(self, number: int, worker: Worker) -> None:
        """Another process has this number now."""
        self.workers[number] = worker
        self.wholes[number] = Whole(worker, self.ask_through, number)
        self.handlers[number] = self.wholes[number].handlers()
        self.gone.discard(number)


def work(parts: list[Worker], whole: Worker, rng: random.Random, count: int = 200) -> None:
    """Some traffic: each piece of it in one of ``parts``, and all of it in ``whole``."""
    for _ in range(count):
        index = rng.randrange(len(KEYS))
        part = rng.choice(parts)
        numbers = [rng.randrange(1, 100) for _ in range(8)]
        times = [int(rng.lognormvariate(8, 2)) for _ in range(3)]
        code = rng.choice(("42601", "08006", "25P02"))
        for pooler in (part, whole):
            stats = pooler.pools[index].stats
            stats.xact_count += 1
            stats.query_count += numbers[0]
            stats.received += numbers[1]
            stats.sent += numbers[2]
            stats.xact_time += times[1]
            stats.query_time += times[0]
            stats.wait_time += times[2]
            stats.assignments += 1
            stats.client_parses += numbers[3]
            stats.binds += numbers[4]
            stats.prepare_hit += numbers[5]
            stats.prepare_miss += numbers[6]
            stats.open_count += 1
            stats.asked += 1
            stats.client_login_count += numbers[7]
            stats.query_hist.add(times[0])
            stats.xact_hist.add(times[1])
            stats.wait_hist.add(times[2])
            stats.count_error(code)
            pooler.connections.total += 1
            pooler.connections.tls += 1
            pooler.connections.reject("hba")
            pooler.openings.auth.add(times[2])
            pooler.consoles.stats.query_count += 1


def share_lookups(parts: list[Worker], whole: Worker) -> None:
    """What each of ``parts`` knows of users who are looked up and of limits, and ``whole`` of all."""
    everybody = {("a", f"user {number}") for number in range(len(parts) + 1)}
    whole.lookups = [
        LookupView("a", 5 * len(parts), (len(parts),) * 8, 2 * len(parts), len(parts), frozenset(everybody))
    ]
    whole.coordinators = [CoordinatorView("a", 10, 3, 4 * len(parts), len(parts), 2 * len(parts), 3 * len(parts))]
    for number, part in enumerate(parts):
        users = frozenset({("a", f"user {number}"), ("a", f"user {number + 1}")})
        part.coordinators = [CoordinatorView("a", 10, 3, 4, 1, 2, 3)]
        part.lookups = [LookupView("a", 5, (1,) * 8, 2, 1, users)]


def share_hosts(parts: list[Worker], whole: Worker) -> None:
    """Addresses that each of ``parts`` knows, and what it counts of a fallback; and ``whole`` with them all."""
    whole.fallbacks = []
    for number, part in enumerate(parts):
        part.hosts = [HostView(0, f"db{number}", 5432, "10.0.0.1", "closed", "primary", 0, 0.0, "", number)]
        duration = Histogram()
        duration.add(5000)
        part.fallbacks = [FallbackView("a", (("10.0.0.9", 1),), (1, 0, number, 2), {"connect": 1}, duration)]
    total = Histogram()
    for part in parts:
        total.merge(part.fallbacks[0].duration)
    counted = len(parts), 0, sum(range(len(parts))), 2 * len(parts)
    whole.fallbacks = [FallbackView("a", (("10.0.0.9", 1),), counted, {"connect": len(parts)}, total)]
    whole.hosts = [host for part in parts for host in part.hosts]


def people(parts: list[Worker], whole: Worker, rng: random.Random, count: int = 60) -> None:
    """Clients and servers, each in one of ``parts`` and in ``whole``."""
    for number in range(1, count + 1):
        part = rng.choice(parts)
        index = rng.randrange(len(KEYS))
        database, user = KEYS[index]
        text = b"select %d, %d\0\0\0" % (number % 3, parts.index(part))
        shared = whole.pools[index].registry.get(text, None)
        own = part.pools[index].registry
        if text not in own.known:
            own.known[text] = shared
            own.bytes += len(text)
        state = rng.choice(("idle", "active", "waiting"))
        console = rng.random() < 0.1
        statements = ClientStatements()
        statements.enter(b"s1", shared)
        client = Client(
            id=number,
            user="admin" if console else f"{user}{number % 2}",
            pool_user="" if console else user,
            database="pgbouncer" if console else database,
            state=state,
            server=number if state == "active" and not console else 0,
            waiting_since=990.0 + number / 100 if state == "waiting" else 0.0,
            statements=statements,
        )
        for pooler in (part, whole):
            if console:
                pooler.consoles.add(number, client)
            else:
                pooler.clients.append(client)
            if not client.server and number % 5:
                continue
            pool = pooler.pools[index]
            pool.servers.append(
                FakeServer(
                    id=number,
                    pid=1000 + number,
                    settings=pool.settings,
                    state="active" if client.server else "idle",
                    active_since=900.0 + number,
                )
            )
            pool.borrowed_count += 1 if client.server else 0
            pool.idle_count += 0 if client.server else 1
            pool.opened_count += 1
            pool.longest = max(pool.longest, number / 16)  # type: ignore[attr-defined]
