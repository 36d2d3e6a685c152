"""All engines: events are remembered, turns resume once, what is queued leaves at the end of the turn."""

from __future__ import annotations

import errno
import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import gevent
import pytest
from core_fakes import ENGINES, receive_all, running, stream_pair, until
from pace import patience

from pgdoorman_lib.errors import ConfigError
from pgdoorman_lib.net import engines
from pgdoorman_lib.net.engine import Engine, Task
from pgdoorman_lib.net.engines import choose
from pgdoorman_lib.net.measures import BLOCK_SIZE, MAX_FREE_BLOCKS
from pgdoorman_lib.net.pollable import PENDING, Pollable
from pgdoorman_lib.net.stream import Stream


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    with running(request.param) as made:
        yield made


def test_choice() -> None:
    for name in (*ENGINES, "auto"):
        engine = choose(name)
        assert engine.name in ENGINES
        engine.close()
    with pytest.raises(ValueError):
        choose("magic")


@pytest.mark.skipif("epoll" not in ENGINES, reason="epoll is Linux's")
@pytest.mark.parametrize(
    ("number", "reason"), [(errno.EPERM, "forbidden"), (errno.ENOSYS, "not in this kernel"), (errno.EBADF, "Bad file")]
)
def test_without_io_uring(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, number: int, reason: str
) -> None:
    def refuse() -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(engines, "UringEngine", refuse)
    caplog.set_level("INFO")
    engine = choose("auto")
    assert engine.name == "epoll"
    engine.close()
    assert [record for record in caplog.messages if reason in record and "using epoll" in record]
    with pytest.raises(ConfigError, match=reason):
        choose("uring")


def test_blocks_come_from_the_free_list(engine: Engine) -> None:
    block = engine.take_block()
    assert len(block) == BLOCK_SIZE
    engine.give_block(block)
    assert engine.take_block() is block


def test_free_list_takes_only_its_size_and_so_many(engine: Engine) -> None:
    engine.give_block(bytearray(10))
    engine.give_block(bytearray(BLOCK_SIZE * 2))
    assert not engine.blocks
    for _ in range(MAX_FREE_BLOCKS + 3):
        engine.give_block(bytearray(BLOCK_SIZE))
    assert len(engine.blocks) == MAX_FREE_BLOCKS


class Waiting:
    """A greenlet parked on a stream that counts how often it is resumed."""

    def __init__(self, engine: Engine, stream: Any) -> None:
        self.resumed = 0
        self.error: BaseException | None = None
        self.engine = engine
        self.stream = stream
        self.task: Task | None = None
        self.greenlet = gevent.spawn(self._run)
        until(lambda: self.task is not None and self.task.parked, "parking")

    def _run(self) -> None:
        self.task = Task(self.engine)
        self.stream.task = self.task
        while True:
            self.task.park()
            self.resumed += 1

    def end(self) -> None:
        self.greenlet.kill()
        self.stream.task = None
        self.stream.close()


@pytest.fixture
def waiting(engine: Engine) -> Iterator[Any]:
    stream, peer = stream_pair(engine)
    made = Waiting(engine, stream)
    yield made, peer
    made.end()
    peer.close()


def test_data_resumes_the_task(waiting: Any) -> None:
    waiter, peer = waiting
    peer.sendall(b"x")
    until(lambda: waiter.resumed)
    assert waiter.stream.readable
    assert waiter.stream.fill() == 1


def test_an_event_nobody_acted_on_is_not_told_again(waiting: Any) -> None:
    waiter, peer = waiting
    peer.sendall(b"x")
    until(lambda: waiter.resumed)
    for _ in range(20):
        gevent.sleep(0)
    assert waiter.resumed == 1
    assert waiter.stream.readable


def test_close_of_the_peer_resumes_the_task(waiting: Any) -> None:
    waiter, peer = waiting
    peer.close()
    until(lambda: waiter.resumed)
    assert waiter.stream.fill() == 0


def test_wake_resumes_once(waiting: Any) -> None:
    waiter, _ = waiting
    for _ in range(3):
        waiter.task.wake()
    until(lambda: waiter.resumed)
    for _ in range(10):
        gevent.sleep(0)
    assert waiter.resumed == 1


def test_again_resumes_in_another_turn(waiting: Any) -> None:
    waiter, _ = waiting
    waiter.engine.again(waiter.task)
    waiter.engine.again(waiter.task)
    assert waiter.resumed == 0
    until(lambda: waiter.resumed)
    assert waiter.resumed == 1


def test_a_killed_task_is_left_alone(waiting: Any) -> None:
    waiter, peer = waiting
    waiter.task.wake()
    waiter.greenlet.kill()
    resumed = waiter.resumed
    peer.sendall(b"x")
    for _ in range(10):
        gevent.sleep(0)
    assert waiter.resumed == resumed and waiter.greenlet.dead


def test_a_timeout_reaches_a_parked_task(engine: Engine) -> None:
    stream, peer = stream_pair(engine)
    stream.task = Task(engine)
    with pytest.raises(gevent.Timeout), gevent.Timeout(0.01):
        while True:
            stream.task.park()
    assert not stream.task.parked
    stream.close()
    peer.close()


class Steps(Pollable):
    def __init__(self, *results: Any) -> None:
        self.results = list(results)
        self.calls = 0

    def poll(self) -> int:
        self.calls += 1
        result = self.results.pop(0)
        if isinstance(result, Exception):
            raise result
        return int(result)


def test_polling_saves_the_switch(waiting: Any) -> None:
    waiter, peer = waiting
    pollable = Steps(PENDING, 1)
    waiter.task.pollable = pollable
    peer.sendall(b"x")
    until(lambda: pollable.calls == 1)
    assert waiter.resumed == 0
    waiter.stream.fill()
    peer.sendall(b"x")
    until(lambda: waiter.resumed == 1)
    assert pollable.calls == 2


def test_what_poll_raises_is_raised_in_the_greenlet(engine: Engine) -> None:
    stream, peer = stream_pair(engine)
    caught = []

    def run() -> None:
        task = Task(engine)
        stream.task = task
        task.pollable = Steps(KeyError("mine"))
        try:
            task.park()
        except KeyError as exc:
            caught.append(exc)

    greenlet = gevent.spawn(run)
    gevent.sleep(0)
    peer.sendall(b"x")
    greenlet.join(patience(5))
    assert len(caught) == 1
    stream.close()
    peer.close()


class Quiet:
    """Instead of the hub's error handler, which prints."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.errors: list[Any] = []
        monkeypatch.setattr(gevent.get_hub(), "handle_error", lambda context, *info: self.errors.append(info[0]))


def test_one_faulty_stream_costs_the_others_nothing(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = Quiet(monkeypatch)
    pairs = [stream_pair(engine) for _ in range(3)]
    told = []

    def faulty() -> None:
        raise RuntimeError("a fault of one stream")

    for number, (stream, _) in enumerate(pairs):
        stream.on_idle = faulty if number == 0 else (lambda number=number: told.append(number))
    for _, peer in pairs:
        peer.sendall(b"x")
    until(lambda: len(told) == 2)
    assert hub.errors == [RuntimeError]
    for stream, peer in pairs:
        stream.close()
        peer.close()


def test_one_faulty_push_costs_the_others_nothing(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = Quiet(monkeypatch)
    pairs = [stream_pair(engine) for _ in range(3)]
    faulty = pairs[0][0]
    for stream, _ in pairs:
        stream.write(b"hello")
    faulty.tls = object()  # type: ignore[assignment]  # its push raises
    engine.flush()
    assert [receive_all(peer) for _, peer in pairs] == [b"", b"hello", b"hello"]
    assert len(hub.errors) == 1
    faulty.tls = None
    for stream, peer in pairs:
        stream.close()
        peer.close()


def test_idle_streams_are_told_without_a_task(engine: Engine) -> None:
    stream, peer = stream_pair(engine)
    told = []
    stream.on_idle = lambda: told.append(stream.readable)
    peer.close()
    until(lambda: told)
    assert told == [1]
    stream.close()


def test_what_is_queued_in_a_turn_leaves_at_its_end(engine: Engine) -> None:
    stream, peer = stream_pair(engine)
    stream.write(b"one ")
    stream.write(b"two")
    assert receive_all(peer) == b""
    gevent.sleep(0.01)
    assert receive_all(peer) == b"one two"
    stream.close()
    peer.close()


def test_parking_sends_what_the_greenlet_queued(engine: Engine) -> None:
    stream, peer = stream_pair(engine)

    def run() -> None:
        stream.task = Task(engine)
        stream.write(b"question")
        stream.task.park()

    greenlet = gevent.spawn(run)
    gevent.sleep(0)
    assert receive_all(peer) == b"question"
    greenlet.kill()
    stream.close()
    peer.close()


def test_a_full_socket_is_sent_on_when_there_is_room(engine: Engine) -> None:
    stream, peer = stream_pair(engine, buffer=4096)
    data = bytes(range(256)) * 4096
    stream.write(data)
    engine.flush()
    assert stream.blocked and stream.armed and stream.out_pending > 0
    got = bytearray()
    with gevent.Timeout(patience(10)):
        while len(got) < len(data):
            peer.setblocking(True)
            got += peer.recv(1 << 16)
    assert got == data
    until(lambda: not stream.out_pending)
    assert not stream.armed and not stream.blocked and stream.out is None
    stream.close()
    peer.close()


def meet_a_full_socket(stream: Stream) -> None:
    """Queue bytes until one push leaves some behind; the rest stays on the engine's queue."""
    while stream.push() == 1:
        stream.write(b"x" * 1000)
    assert stream.blocked and stream.dirty


@pytest.mark.parametrize("within_a_turn", [False, True])
@pytest.mark.parametrize("ending", ["room", "closed"])
def test_room_found_by_the_last_push_resumes_the_task(engine: Engine, within_a_turn: bool, ending: str) -> None:
    """A socket is full when its task decides to wait, and is not any more when the turn's bytes are sent."""
    stream, peer = stream_pair(engine, buffer=4096)
    steps = []

    def run() -> None:
        task = stream.task = Task(engine)
        if within_a_turn:
            engine.again(task)
            task.park()
            assert engine.in_turn
        meet_a_full_socket(stream)
        if ending == "room":
            receive_all(peer)
        else:
            peer.close()
        steps.append("waiting")
        task.park()
        steps.append("resumed")

    greenlet = gevent.spawn(run)
    until(lambda: steps == ["waiting", "resumed"], "the task is resumed")
    greenlet.join(patience(1))
    assert greenlet.successful()
    assert not stream.blocked and not stream.armed and not stream.out_pending
    stream.close()
    peer.close()


class Writer(Pollable):
    """Writes as a relay does: what meets a full socket is left for later."""

    def __init__(self, stream: Stream, peer: Any) -> None:
        self.stream = stream
        self.peer = peer
        self.calls = 0

    def poll(self) -> int:
        self.calls += 1
        if self.calls == 1:
            meet_a_full_socket(self.stream)
            receive_all(self.peer)
        return PENDING


def test_room_found_by_the_last_push_has_it_polled(engine: Engine) -> None:
    stream, peer = stream_pair(engine, buffer=4096)
    writer = Writer(stream, peer)
    stream.task = Task(engine, writer)
    stream.task.wake()
    until(lambda: writer.calls == 2, "the next step")
    gevent.sleep(0.01)
    assert writer.calls == 2
    stream.close()
    peer.close()


def test_a_descriptor_is_used_again(engine: Engine) -> None:
    for _ in range(20):
        stream, peer = stream_pair(engine)
        told = []
        stream.on_idle = lambda told=told: told.append(1)
        peer.sendall(b"x")
        until(lambda told=told: told)
        stream.close()
        peer.close()
    assert not getattr(engine, "watchers", ())
    assert not any(getattr(engine, "channels", ()))


def test_closed_in_the_turn_that_brings_its_event(engine: Engine) -> None:
    # Two streams have news in one turn; the first closes the second, whose descriptor a new one takes.
    first, first_peer = stream_pair(engine)
    second, second_peer = stream_pair(engine)
    made = []

    def replace() -> None:
        if not made:
            (second if first.readable else first).close()
            made.append(stream_pair(engine))

    first.on_idle = second.on_idle = replace
    first_peer.sendall(b"x")
    second_peer.sendall(b"x")
    until(lambda: made)
    gevent.sleep(0.01)
    third, third_peer = made[0]
    assert third.fill() == -1
    third_peer.sendall(b"new")
    until(lambda: third.readable)
    assert third.fill() == 3
    for closing in (first, first_peer, second, second_peer, third, third_peer):
        closing.close()


def test_a_turn_after_close_does_nothing(engine: Engine) -> None:
    engine.kick()
    engine.close()
    gevent.sleep(0.01)


class Reader(Pollable):
    """Reads what its stream brings, in the engine's time, and answers if told to."""

    def __init__(self, engine: Engine, stream: Any, answer: bytes = b"") -> None:
        self.stream = stream
        self.got = bytearray()
        self.ended = False
        self.answer = answer
        self.task = Task(engine)
        self.task.greenlet = gevent.Greenlet(lambda: None)
        self.task.parked = 1
        self.task.pollable = self
        stream.task = self.task

    def poll(self) -> int:
        while (n := self.stream.fill()) > 0:
            self.got += self.stream.block[self.stream.start : self.stream.end]
            self.stream.start = self.stream.end
            self.stream.release()
            if self.answer:
                self.stream.write(self.answer)
        self.ended = self.ended or n == 0
        return PENDING

    def close(self) -> None:
        self.stream.task = None
        self.stream.close()


@pytest.fixture
def many(engine: Engine) -> Iterator[Any]:
    made = []
    for number in range(40):
        stream, peer = stream_pair(engine, buffer=4096 if number % 4 == 0 else 0)
        made.append((Reader(engine, stream, b"answer %d" % number), peer))
    yield made
    for reader, peer in made:
        reader.close()
        peer.close()


def test_many_at_once_get_each_their_own(engine: Engine, many: Any) -> None:
    for round_number in range(20):
        for number, (reader, peer) in enumerate(many):
            reader.got.clear()
            peer.sendall(b"%d in round %d" % (number, round_number))
        until(lambda: all(reader.got for reader, _ in many))
        gevent.sleep(0.001)
        for number, (reader, peer) in enumerate(many):
            assert reader.got == b"%d in round %d" % (number, round_number)
            assert receive_all(peer) == b"answer %d" % number
            assert reader.stream.block is None and reader.stream.out is None


def test_many_at_once_some_large_some_gone(engine: Engine, many: Any) -> None:
    large = bytes(range(256)) * 400
    for number, (_, peer) in enumerate(many):
        if number % 3 == 0:
            peer.close()
        elif number % 3 == 1 and number % 4:
            peer.sendall(large)
        else:
            peer.sendall(b"small")
            peer.close()
    until(
        lambda: all(len(r.got) == len(large) if n % 3 == 1 and n % 4 else r.ended for n, (r, _) in enumerate(many)),
        "all bytes and ends",
    )
    for number, (reader, _) in enumerate(many):
        wanted = b"" if number % 3 == 0 else large if number % 3 == 1 and number % 4 else b"small"
        assert reader.got == wanted


def test_many_full_sockets_are_sent_on(engine: Engine) -> None:
    data = bytes(range(256)) * 1024
    pairs = [stream_pair(engine, buffer=4096) for _ in range(12)]
    for stream, _ in pairs:
        stream.write(data)
    got = [bytearray() for _ in pairs]

    def drain() -> bool:
        for index, (_, peer) in enumerate(pairs):
            got[index] += receive_all(peer)
        return all(len(part) == len(data) for part in got)

    until(drain, "everything sent")
    assert all(part == data for part in got)
    until(lambda: all(not stream.out_pending and not stream.armed for stream, _ in pairs))
    for stream, peer in pairs:
        stream.close()
        peer.close()


def test_closed_and_replaced_among_many(engine: Engine, many: Any) -> None:
    # Within a turn one stream closes others whose bytes may have been received, and their descriptors are used again.
    fresh: list[Any] = []
    first = many[0][0]

    class Axe(Reader):
        def poll(self) -> int:
            Reader.poll(self)
            if not fresh:
                for reader, _ in many[1:20]:
                    reader.close()
                fresh.extend(stream_pair(engine) for _ in range(19))
            return PENDING

    axe = Axe(engine, first.stream)
    for _, peer in many:
        peer.sendall(b"old")
    until(lambda: fresh)
    readers = [Reader(engine, stream) for stream, _ in fresh]
    gevent.sleep(0.01)
    assert not any(reader.got for reader in readers)
    for number, (_, peer) in enumerate(fresh):
        peer.sendall(b"new %d" % number)
    until(lambda: all(reader.got for reader in readers))
    for number, reader in enumerate(readers):
        assert reader.got == b"new %d" % number
    assert axe.got == b"old"
    assert all(reader.got == b"old" for reader, _ in many[20:])
    for reader, (_, peer) in zip(readers, fresh, strict=True):
        reader.close()
        peer.close()


def test_hot_traffic_leaves_time_for_others(engine: Engine) -> None:
    # Two streams of ours talk to each other without end; timers, new greenlets and signals still get theirs soon.
    one, other = stream_pair(engine)

    other.setblocking(False)
    peer = Stream(other, engine)
    readers = [Reader(engine, one, b"ping"), Reader(engine, peer, b"pong")]
    one.write(b"start")
    until(lambda: len(readers[0].got) > 20000)
    late = []
    for _ in range(20):
        before = time.monotonic()
        gevent.sleep(0.002)
        late.append(time.monotonic() - before - 0.002)
        before = time.monotonic()
        gevent.spawn(lambda: None).join()
        late.append(time.monotonic() - before)
    assert sorted(late)[len(late) // 2] < patience(0.25)  # seconds; left without their turn they would wait for ever
    told: list[int] = []
    previous = signal.signal(signal.SIGUSR2, lambda number, frame: told.append(number))
    try:
        os.kill(os.getpid(), signal.SIGUSR2)
        until(lambda: told)
    finally:
        signal.signal(signal.SIGUSR2, previous)
    for reader in readers:
        reader.close()


def test_nothing_to_do_costs_nothing(engine: Engine) -> None:
    stream, peer = stream_pair(engine)
    reader = Reader(engine, stream, b"x")
    for _ in range(50):
        peer.sendall(b"y")
        gevent.sleep(0)
    gevent.sleep(0.05)
    turns = engine.began
    gevent.sleep(0.2)
    assert engine.began == turns
    reader.close()
    peer.close()
