"""Workers in one process, with real channels between them, that hand clients around while these are to be cancelled."""

from __future__ import annotations

import random
import socket
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import pytest
from core_fakes import until
from pace import patience

from pgdoorman_lib.client.registry import Clients
from pgdoorman_lib.net.parcel import Channel, Parcel, Receiver, Refused
from pgdoorman_lib.supervisor import kinds, worker_cancels
from pgdoorman_lib.supervisor.worker_cancels import WorkerCancels
from pgdoorman_lib.wire.consts import PROCESS_BASE, PROTOCOL_3_0

SLOW = "slow"


class Session:
    """A client: how often it was cancelled."""

    database, user = "shop", "customer"

    def __init__(self, number: int, secret: bytes, cancels: int = 0) -> None:
        self.id = number
        self.secret = secret
        self.cancels = cancels
        self.leaving = 0
        #: those that are cancelled now: what has something under way does not leave
        self.busy = 0


class FromWorker(Receiver):
    """What comes to ``worker`` from the one of number ``sender``."""

    def __init__(self, worker: Worker, sender: int) -> None:
        self.worker = worker
        self.sender = sender

    def prepare(self, parcel: Parcel) -> None:
        if parcel.kind in (kinds.CANCEL, kinds.DONE, kinds.NUMBERS):
            self.worker.asked += parcel.kind == kinds.CANCEL
            self.worker.cancels.prepare(parcel)
        elif parcel.kind == kinds.CLIENT and self.worker.refuses:
            raise Refused("not now")
        elif parcel.kind not in (kinds.CLIENT, SLOW):
            super().prepare(parcel)

    def take(self, parcel: Parcel) -> None:
        if parcel.kind == kinds.CLIENT:
            state = parcel.state
            self.worker.join(Session(state["id"], state["secret"], state["cancels"]))
        elif parcel.kind == SLOW:
            gevent.sleep(parcel.state["seconds"])  # nothing more is read from this worker meanwhile
        else:
            self.worker.cancels.take(parcel, self.sender)


class Worker:
    """One worker with its clients."""

    def __init__(self, number: int, count: int) -> None:
        self.number = number
        self.clients = Clients(number, count)
        self.peers: dict[int, Channel] = {}
        self.commands: dict[tuple[int, bytes], str] = {}
        self.cancels = WorkerCancels(self.clients, self.peers, self.carry_out, self.commands)
        self.pause: Callable[[], float] = lambda: 0.0
        self.refuses = False
        self.asked = 0

    def join(self, session: Session) -> Session:
        kept: Any = session
        self.clients.add(kept)
        return session

    def login(self) -> Session:
        return self.join(Session(*self.clients.new_key(PROTOCOL_3_0)))

    def end(self, session: Session) -> None:
        gone: Any = session
        self.clients.remove(gone)
        self.cancels.ended(session.id)

    def find(self, process: int, secret: bytes) -> Session | None:
        found: Any = self.clients.by_key(process, secret)
        return found  # type: ignore[no-any-return]

    def carry_out(self, process: int, secret: bytes) -> bool:
        """As ``App.cancel_here``."""
        if self.commands.pop((process, secret), None):
            return True
        gevent.sleep(self.pause())
        while (session := self.find(process, secret)) is not None and session.leaving:
            gevent.sleep(0.001)
        if session is None:
            return False
        session.cancels += 1
        session.busy += 1
        gevent.sleep(self.pause())
        session.busy -= 1
        return True

    def cancel(self, process: int, secret: bytes) -> bool:
        """As ``App.cancel``."""
        return self.carry_out(process, secret) or self.cancels.pass_on(process, secret)

    def move(self, session: Session, worker: int) -> bool:
        """Hand a client over, as a rebalance does; whether it has gone."""
        if session.leaving or session.busy:
            return False
        session.leaving = 1
        try:
            gevent.sleep(self.pause())
            state = {"id": session.id, "secret": session.secret, "cancels": session.cancels}
            self.peers[worker].send(Parcel(kinds.CLIENT, state), patience(10))
        except Refused:
            return False
        finally:
            session.leaving = 0
        self.cancels.departed(session.id, session.secret)
        gone: Any = session
        self.clients.remove(gone)
        return True


def link(one: Worker, other: Worker) -> None:
    left, right = socket.socketpair(socket.AF_UNIX)
    one.peers[other.number] = Channel(left, FromWorker(one, other.number))
    other.peers[one.number] = Channel(right, FromWorker(other, one.number))
    starting = gevent.spawn(one.peers[other.number].start)
    other.peers[one.number].start()
    starting.get()


Made = list[Worker]


@pytest.fixture
def make() -> Iterator[Callable[[int], Made]]:
    """``make(count)`` gives so many workers, each connected to each."""
    made: Made = []

    def workers(count: int) -> Made:
        made.extend(Worker(number, count) for number in range(1, count + 1))
        for index, one in enumerate(made):
            for other in made[index + 1 :]:
                link(one, other)
        return made

    yield workers
    channels = [channel for worker in made for channel in worker.peers.values()]
    gevent.joinall([gevent.spawn(channel.close) for channel in channels], raise_error=True)


def key(session: Session) -> tuple[int, bytes]:
    return PROCESS_BASE + session.id, session.secret


def holder(workers: Made, session: Session) -> Session:
    """The client as whoever has it has it, once it has arrived."""
    until(lambda: any(worker.find(*key(session)) for worker in workers), "it has arrived")
    (found,) = [found for worker in workers if (found := worker.find(*key(session))) is not None]
    return found


def test_the_worker_in_the_number_is_asked_alone(make: Callable[[int], Made]) -> None:
    workers = make(4)
    session = workers[2].login()
    for worker in workers:
        assert worker.cancel(*key(session))
    assert session.cancels == 4
    assert [worker.asked for worker in workers] == [0, 0, 3, 0]


def test_a_client_that_has_moved(make: Callable[[int], Made]) -> None:
    workers = make(4)
    session = workers[0].login()
    assert workers[0].move(session, 3)
    assert workers[2].move(holder(workers, session), 4)
    for worker in workers:
        assert worker.cancel(*key(session))
    assert holder(workers, session).cancels == 4
    assert session.cancels == 0


@pytest.mark.parametrize("spoil", ["secret", "short", "number", "far", "negative"])
def test_what_nobody_has_costs_a_question_each(make: Callable[[int], Made], spoil: str) -> None:
    workers = make(4)
    sessions = [worker.login() for worker in workers]
    gone = workers[0].login()
    assert workers[0].move(gone, 2)  # for who does not know its secret, too
    process, secret = key(sessions[1])
    wrong = {
        "secret": (PROCESS_BASE + gone.id, bytes([gone.secret[0] ^ 1]) + gone.secret[1:]),
        "short": (process, secret[:3]),
        "number": (PROCESS_BASE + 99_999, secret),
        "far": (0x7FFFFFFF, secret),
        "negative": (-5, secret),
    }[spoil]
    assert not workers[3].cancel(*wrong)
    assert [worker.asked for worker in workers] == [1, 1, 1, 0]
    assert all(session.cancels == 0 for session in sessions)


def test_it_is_through_when_it_has_been_carried_out(make: Callable[[int], Made]) -> None:
    one, other = make(2)
    session = one.login()
    one.pause = lambda: 0.1
    asking = gevent.spawn(other.cancel, *key(session))
    until(lambda: session.busy, "the cancel is under way")
    assert not asking.ready()
    assert asking.get(timeout=patience(5)) is True
    assert not session.busy


def test_a_command_of_the_console(make: Callable[[int], Made]) -> None:
    one, other = make(2)
    number, secret = one.clients.new_key(PROTOCOL_3_0)
    one.commands[PROCESS_BASE + number, secret] = "PAUSE"
    assert other.cancel(PROCESS_BASE + number, secret)
    assert not one.commands
    assert not other.cancel(PROCESS_BASE + number, secret)


def test_between_two_workers(make: Callable[[int], Made]) -> None:
    """It has left the one, and the other, whose channel to it is busy, has not got it yet."""
    one, other, third = make(3)
    session = one.login()
    busy = [gevent.spawn(one.peers[2].send, Parcel(SLOW, {"seconds": 0.3}), patience(10))]
    moving = gevent.spawn(one.move, session, 2)
    assert moving.get(timeout=patience(5))
    assert all(worker.find(*key(session)) is None for worker in (one, other, third))
    asking = [gevent.spawn(worker.cancel, *key(session)) for worker in (one, other, third)]
    gevent.joinall([*asking, *busy], timeout=patience(5), raise_error=True)
    assert [each.value for each in asking] == [True] * 3
    assert holder([one, other, third], session).cancels == 3


def test_one_that_comes_back(make: Callable[[int], Made]) -> None:
    one, other, third = make(3)
    session = one.login()
    other.refuses = True
    assert not one.move(session, 2)
    assert third.cancel(*key(session))
    other.refuses = False
    assert one.move(session, 2)
    assert other.move(holder([one, other, third], session), 1)
    for worker in (one, other, third):
        assert worker.cancel(*key(session))
    assert holder([one, other, third], session).cancels == 4


def test_one_that_has_ended_where_it_went(make: Callable[[int], Made], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_cancels, "ON_ITS_WAY", 0.1)
    one, other = make(2)
    session = one.login()
    assert one.move(session, 2)
    other.end(holder([one, other], session))
    assert not other.cancel(*key(session))
    assert not one.cancel(*key(session))


def test_what_is_known_of_those_who_left_is_forgotten(
    make: Callable[[int], Made], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_cancels, "REMEMBERED", 0.0)
    one, _ = make(2)
    for _ in range(20):
        assert one.move(one.login(), 2)
    assert len(one.cancels._left) <= 2


def test_a_worker_that_dies_while_it_is_asked(make: Callable[[int], Made]) -> None:
    one, other, third = make(3)
    session = one.login()
    one.pause = lambda: 0.5
    asking = gevent.spawn(third.cancel, *key(session))
    until(lambda: one.asked, "it is asked")
    for channel in one.peers.values():
        channel.close(0.0)
    assert asking.get(timeout=patience(5)) is False
    assert other.cancel(*key(other.login()))


def test_a_worker_that_does_not_carry_it_out(make: Callable[[int], Made], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_cancels, "DONE_SECONDS", 0.1)
    one, other = make(2)
    session = one.login()
    one.pause = lambda: 0.5
    assert other.cancel(*key(session))
    until(lambda: session.cancels and not session.busy, "the end of it")


@pytest.mark.parametrize("seed", range(3))
def test_none_is_lost_and_none_hits_a_stranger(
    make: Callable[[int], Made], monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Clients move all the time; each cancel, from whichever worker, is carried out once, for its own client."""
    # They move so often that one may be run after for a while, the more so on a busy machine.
    monkeypatch.setattr(worker_cancels, "ON_ITS_WAY", patience(20))
    dice = random.Random(seed)
    workers = make(4)
    for worker in workers:
        worker.pause = lambda: dice.choice((0.0, 0.0, 0.001, 0.003))
    sessions = [worker.login() for worker in workers for _ in range(3)]
    sent = dict.fromkeys((session.id for session in sessions), 0)
    lost: list[int] = []
    moved = [0]
    over = False

    def mover() -> None:
        while not over:
            worker, target = dice.sample(workers, 2)
            here: list[Any] = list(worker.clients)
            if here:
                moved[0] += worker.move(dice.choice(here), target.number)
            gevent.sleep(0.002)

    def canceller() -> None:
        for _ in range(40):
            session = dice.choice(sessions)
            if dice.random() < 0.2:
                wrong = bytes(dice.randrange(256) for _ in range(4))
                assert not dice.choice(workers).cancel(PROCESS_BASE + session.id, wrong)
                continue
            sent[session.id] += 1
            if not dice.choice(workers).cancel(*key(session)):
                lost.append(session.id)

    movers = [gevent.spawn(mover) for _ in range(5)]
    cancellers = [gevent.spawn(canceller) for _ in range(5)]
    try:
        gevent.joinall(cancellers, timeout=patience(40), raise_error=True)
    finally:
        over = True
        gevent.joinall(movers, timeout=patience(10), raise_error=True)
    until(lambda: sum(len(worker.clients) for worker in workers) == len(sessions), "all have arrived")
    assert not lost
    assert {session.id: holder(workers, session).cancels for session in sessions} == sent
    assert moved[0] > 20


# -- numbers that go along


def test_a_number_is_its_owners_again_when_its_client_has_ended(make: Callable[[int], Made]) -> None:
    one, other, third = make(3)
    session = one.login()
    assert one.move(session, 2)
    assert session.id in one.clients.numbers()
    assert other.move(holder([one, other, third], session), 3)
    assert session.id in one.clients.numbers()
    third.end(holder([one, other, third], session))
    until(lambda: session.id not in one.clients.numbers(), "it is told")
    here = one.login()
    one.end(here)
    assert one.clients.numbers() == []


def test_one_that_comes_home_has_its_number(make: Callable[[int], Made]) -> None:
    one, other = make(2)
    session = one.login()
    assert one.move(session, 2)
    assert other.move(holder([one, other], session), 1)
    until(lambda: one.find(*key(session)), "it is home")
    assert one.clients.numbers() == [session.id]
    assert other.clients.numbers() == []


def test_a_worker_that_is_begun_anew(make: Callable[[int], Made]) -> None:
    """It gives out no number that a client of its predecessor's has taken elsewhere."""
    one, other, third = make(3)
    taken = [one.login() for _ in range(5)]
    for session in taken:
        assert one.move(session, 2)
    anew = Worker(1, 3)
    for worker in (other, third):
        one.peers.pop(worker.number).close(0.0)
        worker.peers.pop(1).close(0.0)
        link(anew, worker)
        worker.cancels.greet(1)
    try:
        until(lambda: len(anew.clients.numbers()) == len(taken), "it is told")
        assert not {anew.login().id for _ in range(10)} & {session.id for session in taken}
    finally:
        for channel in anew.peers.values():
            channel.close(0.0)
