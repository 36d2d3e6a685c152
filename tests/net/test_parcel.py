"""Parcels: connections moved between processes, of which each is with exactly one whatever dies, hangs or lies."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest
from core_fakes import until
from gevent.socket import wait_read, wait_write
from hypothesis import given, settings
from hypothesis import strategies as st
from pace import patience

from pgdoorman_lib.net import arrivals
from pgdoorman_lib.net.frames import MAX_DESCRIPTORS, PIECE, FrameSocket, Outgoing
from pgdoorman_lib.net.packing import pack
from pgdoorman_lib.net.parcel import BadPeer, Channel, ChannelClosed, Parcel, Receiver, Refused, TimedOut
from pgdoorman_lib.net.parcel_terms import GO, HELLO, OFFER, READY, REFUSED, WINDOW, WITHDRAW

KINDS = [socket.SOCK_STREAM, socket.SOCK_SEQPACKET]
PEER = Path(__file__).with_name("parcel_peer.py")

both_kinds = pytest.mark.parametrize("kind", KINDS, ids=["stream", "seqpacket"])


class Taker(Receiver):
    """Keeps what it takes."""

    knows = frozenset({"patience"})

    def __init__(self) -> None:
        self.prepared: list[Parcel] = []
        self.taken: list[Parcel] = []
        self.dropped: list[Parcel] = []
        self.descriptors: list[int] = []

    def prepare(self, parcel: Parcel) -> None:
        if parcel.kind == "unwanted":
            raise Refused("not wanted")
        if parcel.kind == "faulty":
            raise RuntimeError("a fault")
        self.prepared.append(parcel)

    def take(self, parcel: Parcel) -> None:
        if parcel.kind == "badly taken":
            raise RuntimeError("a fault")
        self.taken.append(parcel)
        if parcel.kind != "left":
            self.descriptors += parcel.detach()

    def drop(self, parcel: Parcel) -> None:
        self.dropped.append(parcel)


@contextlib.contextmanager
def channels(kind: int = socket.SOCK_STREAM) -> Iterator[tuple[Channel, Channel, Taker]]:
    """A sender and a receiver, which have greeted each other, in one process."""
    left, right = socket.socketpair(socket.AF_UNIX, kind)
    taker = Taker()
    sender, receiver = Channel(left, product="one"), Channel(right, taker, product="two")
    starting = gevent.spawn(sender.start)
    receiver.start()
    starting.get()
    try:
        yield sender, receiver, taker
    finally:
        closing = gevent.spawn(sender.close)
        receiver.close()
        closing.get()
        for descriptor in taker.descriptors:
            os.close(descriptor)


class Process:
    """The peer as a process of its own."""

    def __init__(self, role: str, step: str, sock: socket.socket, client: socket.socket | None = None, **run: Any):
        inherited = [sock.fileno()] + ([client.fileno()] if client is not None else [])
        command = [sys.executable, str(PEER), str(sock.fileno()), role, step]
        command += [str(client.fileno())] if client is not None else []
        self.process = subprocess.Popen(
            command, pass_fds=inherited, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, **run
        )
        sock.close()
        if client is not None:
            client.close()
        self._text = b""

    def says(self) -> Any:
        """The next line, or None at its end."""
        assert self.process.stdout is not None
        descriptor = self.process.stdout.fileno()
        with gevent.Timeout(20):
            while b"\n" not in self._text:
                wait_read(descriptor)
                data = os.read(descriptor, 65536)
                if not data:
                    return None
                self._text += data
        line, _, self._text = self._text.partition(b"\n")
        return json.loads(line)

    def end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGKILL)
        until(lambda: self.process.poll() is not None, "the end of the peer")
        assert self.process.stdout is not None
        self.process.stdout.close()


@contextlib.contextmanager
def receiving(step: str = "", kind: int = socket.SOCK_STREAM, **run: Any) -> Iterator[tuple[Channel, Process]]:
    """A channel here whose other end receives in a process of its own."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
    peer = Process("receive", step, theirs, **run)
    channel = Channel(ours)
    try:
        channel.start(patience(20))
        assert peer.says() == {"ready": True}
        yield channel, peer
    finally:
        channel.close()
        peer.end()


class Client:
    """A connection to be moved: ``ours`` is what moves, ``theirs`` what a client has in hand."""

    def __init__(self) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.theirs.setblocking(False)

    def parcel(self, kind: str = "client", **state: Any) -> Parcel:
        return Parcel(kind, state, (self.ours.fileno(),))

    def receives(self) -> bytes:
        """What comes next; b"" when every process has closed it."""
        with gevent.Timeout(10):
            wait_read(self.theirs.fileno())
        return self.theirs.recv(1000)

    def is_still_ours(self) -> bool:
        """Whether it is here and nobody has touched it."""
        self.ours.sendall(b"still here")
        return self.receives() == b"still here"

    def close(self) -> None:
        self.ours.close()
        self.theirs.close()


@pytest.fixture
def client() -> Iterator[Client]:
    made = Client()
    yield made
    made.close()


def here() -> int:
    """How many descriptors this process has."""
    return len(os.listdir("/proc/self/fd"))


# What arrives.


@both_kinds
def test_a_parcel(kind: int, client: Client) -> None:
    with channels(kind) as (sender, receiver, taker):
        state = {"text": "ä", "bytes": bytes(range(256)), "numbers": [1, -2, 3.5], "more": {"none": None, "yes": True}}
        parcel = Parcel("client", state, (client.ours.fileno(),), needs=["patience"])
        sender.send(parcel)
        assert parcel.moved
        client.ours.close()
        until(lambda: taker.taken, "the parcel")
        assert (taker.taken[0].kind, taker.taken[0].state, taker.taken[0].needs) == ("client", state, ("patience",))
        (descriptor,) = taker.descriptors
        assert not os.get_inheritable(descriptor)
        os.write(descriptor, b"hello")
        assert client.receives() == b"hello"
        assert (sender.format, sender.peer_product, receiver.peer_product) == (1, "two", "one")


@both_kinds
def test_both_ways_at_once(kind: int) -> None:
    left, right = socket.socketpair(socket.AF_UNIX, kind)
    takers = Taker(), Taker()
    ends = [Channel(left, takers[0]), Channel(right, takers[1])]
    gevent.joinall([gevent.spawn(end.start) for end in ends], raise_error=True)
    size = 300_000  # more than the sockets hold, so that both sides are full
    sends = [gevent.spawn(end.send, Parcel("blob", {"n": n, "blob": b"x" * size})) for end in ends for n in range(40)]
    gevent.joinall(sends, raise_error=True)
    for taker in takers:
        until(lambda taker=taker: len(taker.taken) == 40, "all parcels")
        assert sorted(parcel.state["n"] for parcel in taker.taken) == list(range(40))
    gevent.joinall([gevent.spawn(end.close) for end in ends], raise_error=True)


@both_kinds
@pytest.mark.parametrize("size", [0, PIECE - 100, PIECE, PIECE + 1, 5 * PIECE, 20 << 20])
def test_sizes(kind: int, size: int) -> None:
    blob = os.urandom(min(size, 1 << 20)) * max(1, size >> 20)
    with channels(kind) as (sender, _, taker):
        sender.send(Parcel("blob", {"blob": blob}), 60)
        until(lambda: taker.taken, "the parcel")
        assert taker.taken[0].state["blob"] == blob


def test_what_is_too_large(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    with channels() as (sender, receiver, _):
        with pytest.raises(Refused, match="67108864 fit"):
            sender.send(Parcel("blob", {"blob": bytes(64 << 20)}))
        with pytest.raises(Refused, match="64 fit"):
            sender.send(Parcel("many", {}, [client.ours.fileno()] * (MAX_DESCRIPTORS + 1)))
        with pytest.raises(Refused, match="type object"):
            sender.send(Parcel("odd", {"odd": object()}))
        monkeypatch.setattr(arrivals, "MAX_SIZE", 100_000)
        with pytest.raises(ChannelClosed):
            sender.send(Parcel("blob", {"blob": bytes(200_000)}))
        assert isinstance(receiver.failure, BadPeer)


def test_many_descriptors_in_order() -> None:
    clients = [Client() for _ in range(MAX_DESCRIPTORS)]
    with channels() as (sender, _, taker):
        sender.send(Parcel("many", {}, [client.ours.fileno() for client in clients]))
        until(lambda: taker.taken, "the parcel")
        for number, descriptor in enumerate(taker.descriptors):
            os.write(descriptor, b"%d" % number)
        assert [int(client.receives()) for client in clients] == list(range(MAX_DESCRIPTORS))
    for client in clients:
        client.close()


def test_what_is_not_detached_is_closed(client: Client) -> None:
    with channels() as (sender, _, taker):
        before = here()
        sender.send(client.parcel("left"))
        until(lambda: taker.taken, "the parcel")
        assert here() == before
        client.ours.close()
        assert client.receives() == b""


def test_a_byte_at_a_time(client: Client) -> None:
    """What the kernel may do with a stream, and does when its buffers are full."""
    left, middle_left = socket.socketpair()
    middle_right, right = socket.socketpair()

    def forward(source: socket.socket, target: socket.socket) -> None:
        source.setblocking(False)
        while True:
            wait_read(source.fileno())
            data, ancillary, _, _ = source.recvmsg(1, 1000)
            if not data:
                return
            wait_write(target.fileno())
            target.sendmsg([data], ancillary)
            for _, _, packed in ancillary:
                for (descriptor,) in struct.iter_unpack("i", packed):
                    os.close(descriptor)

    forwarders = [gevent.spawn(forward, middle_left, middle_right), gevent.spawn(forward, middle_right, middle_left)]
    taker = Taker()
    sender, receiver = Channel(left), Channel(right, taker)
    gevent.joinall([gevent.spawn(sender.start), gevent.spawn(receiver.start)], raise_error=True)
    sends = [gevent.spawn(sender.send, client.parcel(number=number)) for number in range(5)]
    gevent.joinall(sends, raise_error=True)
    until(lambda: len(taker.taken) == 5, "all parcels")
    for descriptor in taker.descriptors:
        os.write(descriptor, b".")
    assert client.receives() == b"....."
    gevent.killall(forwarders)
    for sock in (middle_left, middle_right):
        sock.close()
    gevent.joinall([gevent.spawn(sender.close), gevent.spawn(receiver.close)], raise_error=True)
    for descriptor in taker.descriptors:
        os.close(descriptor)


def test_blocking_mode_is_left_alone(client: Client) -> None:
    for blocking in (True, False):
        client.ours.setblocking(blocking)
        with channels() as (sender, _, taker):
            sender.send(client.parcel())
            until(lambda taker=taker: taker.taken, "the parcel")
            assert os.get_blocking(client.ours.fileno()) is blocking
            assert os.get_blocking(taker.descriptors[0]) is blocking


# What stays.


def test_refused(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    with channels() as (sender, _, taker):
        for parcel, reason in (
            (client.parcel("unwanted"), "not wanted"),
            (client.parcel("faulty"), "a fault of the receiver's: RuntimeError"),
            (Parcel("client", {}, (client.ours.fileno(),), needs=["patience", "magic"]), "not known.*'magic'$"),
        ):
            before = here()
            with pytest.raises(Refused, match=reason):
                sender.send(parcel)
            assert not parcel.moved
            assert client.is_still_ours()
            assert here() == before
        assert "in preparing for a parcel of kind 'faulty'" in caplog.text
        sender.send(client.parcel())  # the channel is as good as before
        until(lambda: taker.taken, "the parcel")


def test_nobody_receives(client: Client) -> None:
    with channels() as (_, receiver, _), pytest.raises(Refused, match="kind 'client' are not taken"):
        receiver.send(client.parcel())


def test_a_fault_in_taking_closes(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    with channels() as (sender, _, taker):
        parcel = client.parcel("badly taken")
        sender.send(parcel)
        assert parcel.moved
        client.ours.close()
        assert client.receives() == b""
        assert "its connection is lost" in caplog.text
        sender.send(Parcel("control", {}))
        until(lambda: taker.taken, "the next parcel")


class Slow(Taker):
    """Does not come to an end of making ready before it may."""

    def __init__(self) -> None:
        super().__init__()
        self.may = gevent.event.Event()

    def prepare(self, parcel: Parcel) -> None:
        self.may.wait()
        super().prepare(parcel)


@contextlib.contextmanager
def slow_channels() -> Iterator[tuple[Channel, Channel, Slow]]:
    with channels() as (sender, receiver, _):
        slow = Slow()
        receiver._arrivals._receiver = slow
        yield sender, receiver, slow
        for descriptor in slow.descriptors:
            os.close(descriptor)


def test_a_late_answer_has_no_effect(client: Client) -> None:
    with slow_channels() as (sender, _, slow):
        before = here()
        parcel = client.parcel()
        with pytest.raises(TimedOut, match=r"within 0\.05 s"):
            sender.send(parcel, 0.05)
        assert not parcel.moved
        slow.may.set()
        until(lambda: slow.dropped, "the parcel dropped")
        assert not slow.taken
        assert client.is_still_ours()
        until(lambda: here() == before, "no descriptor more than before")
        sender.send(client.parcel())
        until(lambda: slow.taken, "the parcel")


@pytest.mark.parametrize("stop", ["kill", "timeout"])
def test_an_interrupted_sender_keeps_it(client: Client, stop: str) -> None:
    with slow_channels() as (sender, _, slow):
        parcel = client.parcel()
        sending = gevent.spawn(sender.send, parcel)
        gevent.sleep(0)
        sending.kill(gevent.GreenletExit if stop == "kill" else gevent.Timeout)
        assert not parcel.moved
        slow.may.set()
        sender.send(Parcel("control", {}))
        until(lambda: slow.taken, "what came behind it")
        assert [taken.kind for taken in slow.taken] == ["control"]
        assert client.is_still_ours()


@both_kinds
def test_a_go_that_can_not_leave_is_taken_back(kind: int, client: Client) -> None:
    """The receiver said ready, and then reads nothing more; the socket is full."""
    left, right = socket.socketpair(socket.AF_UNIX, kind)
    sender = Channel(left)
    peer = FrameSocket(right)
    hello = {"magic": "pgdoorman parcels", "oldest": 1, "newest": 1, "product": "", "window": WINDOW}
    peer.send(Outgoing(HELLO, 0, pack(hello)))
    sender.start()
    parcel = client.parcel()
    sending = gevent.spawn(sender.send, parcel, 0.5)
    frames = peer.receive()
    assert [next(frames).kind for _ in range(1)] == [HELLO]
    offer = next(frames)
    filling = gevent.spawn(sender.send, Parcel("blob", {"blob": bytes(4 << 20)}), 0.5)
    gevent.sleep(0.05)  # until the socket is full
    peer.send(Outgoing(READY, offer.number))
    with pytest.raises(TimedOut):
        sending.get()
    assert not parcel.moved
    with pytest.raises(TimedOut):
        filling.get()
    kinds = set()
    with gevent.Timeout(5):
        for frame in frames:
            kinds.add((frame.kind, frame.number))
            if {(WITHDRAW, 1), (WITHDRAW, 2)} <= kinds:
                break
    assert (GO, 1) not in kinds
    assert client.is_still_ours()
    os.close(offer.descriptors[0])
    peer.close()
    sender.close()


def test_close_while_parcels_are_on_their_way(client: Client) -> None:
    with slow_channels() as (sender, _, slow):
        sending = [gevent.spawn(sender.send, client.parcel()) for _ in range(WINDOW + 10)]
        gevent.sleep(0)
        sender.close()
        for greenlet in sending:
            with pytest.raises(ChannelClosed):
                greenlet.get()
        with pytest.raises(ChannelClosed):
            sender.send(client.parcel())
        slow.may.set()
        until(lambda: len(slow.dropped) == len(slow.prepared), "the parcels dropped")
        assert not slow.taken
        assert client.is_still_ours()


def test_a_receiver_that_closes_waits_for_the_word(client: Client) -> None:
    """It has said ready: the parcel may be its own already."""
    left, right = socket.socketpair()
    taker = Taker()
    receiver, peer = Channel(right, taker), FrameSocket(left)
    hello = {"magic": "pgdoorman parcels", "oldest": 1, "newest": 1, "product": "", "window": WINDOW}
    peer.send(Outgoing(HELLO, 0, pack(hello)))
    receiver.start()
    body = pack({"kind": "client", "needs": [], "state": {}})
    peer.send(Outgoing(OFFER, 1, body, descriptors=(client.ours.fileno(),)))
    frames = peer.receive()
    assert [next(frames).kind, next(frames).kind] == [HELLO, READY]
    closing = gevent.spawn(receiver.close)
    gevent.sleep(0)
    peer.send(Outgoing(OFFER, 2, body, descriptors=(client.ours.fileno(),)))
    assert next(frames).kind == REFUSED
    assert not closing.ready()
    peer.send(Outgoing(GO, 1))
    closing.get(timeout=5)
    assert len(taker.taken) == 1
    peer.close()
    os.close(taker.descriptors[0])


# Frames.


@both_kinds
def test_what_was_sent_counts_when_the_sender_has_gone(kind: int) -> None:
    """With something unread at the sender the kernel says "connection reset", for SOCK_SEQPACKET before the data."""
    left, right = (FrameSocket(sock) for sock in socket.socketpair(socket.AF_UNIX, kind))
    right.send(Outgoing(READY, 1))
    for number in range(5):
        left.send(Outgoing(GO, number))
    left.close()
    assert [frame.number for frame in right.receive()] == [0, 1, 2, 3, 4]
    right.close()


def test_only_unix_sockets() -> None:
    with socket.socket(socket.AF_INET) as sock, pytest.raises(ValueError, match="AF_UNIX"):
        FrameSocket(sock)


HELLO_FRAME = Outgoing(
    HELLO, 0, pack({"magic": "pgdoorman parcels", "oldest": 1, "newest": 1, "product": "x", "window": WINDOW})
).data


def feed(data: bytes, kind: int, descriptors: int = 0) -> tuple[Channel, Taker]:
    """What becomes of a receiver that is sent these bytes by a peer that then goes away."""
    left, right = socket.socketpair(socket.AF_UNIX, kind)
    taker = Taker()
    receiver = Channel(right, taker)
    sent = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", 0) * descriptors)]
    left.sendmsg([data], sent if descriptors else [])
    left.close()
    with contextlib.suppress(BadPeer, ChannelClosed):
        receiver.start()
    assert receiver.ended.wait(patience(10))
    receiver.close()
    return receiver, taker


@both_kinds
@settings(max_examples=200)
@given(data=st.binary(max_size=300), greeted=st.booleans(), descriptors=st.integers(0, 3))
def test_garbage(kind: int, data: bytes, greeted: bool, descriptors: int) -> None:
    before = here()
    _, taker = feed((HELLO_FRAME if greeted else b"") + data, kind, descriptors if greeted or data else 0)
    assert not taker.taken
    assert len(taker.dropped) == len(taker.prepared)
    assert here() == before


BODY = pack({"kind": "client", "needs": [], "state": {}})
FRAMES = st.builds(
    lambda kind, number, body, more, count: Outgoing(kind, number, body, more=more, descriptors=[0] * count).data,
    st.integers(0, 7),
    st.integers(0, 3),
    st.sampled_from([b"", BODY, BODY[:5], pack({"kind": 1}), pack("x"), pack({"kind": "", "needs": [[]], "state": {}})])
    | st.binary(max_size=20),
    st.booleans(),
    st.sampled_from([0, 0, 0, 1]),
)


@settings(max_examples=300)
@given(st.lists(FRAMES, max_size=12))
def test_frames_out_of_order(frames: list[bytes]) -> None:
    before = here()
    _, taker = feed(HELLO_FRAME + b"".join(frames), socket.SOCK_STREAM)
    assert len(taker.dropped) + len(taker.taken) == len(taker.prepared)
    assert here() == before


@pytest.mark.parametrize(
    ("data", "descriptors", "says"),
    [
        (b"x" * 16, 0, "a header of length"),
        (Outgoing(GO, 1).data, 0, "no greeting"),
        (Outgoing(OFFER, 1, BODY).data, 1, "no greeting"),
        (Outgoing(HELLO, 0, pack({"magic": "other"})).data, 0, "no greeting"),
        (Outgoing(HELLO, 0, b"?").data, 0, "no kind of value"),
        (HELLO_FRAME + Outgoing(GO, 1).data, 0, "was not prepared"),
        (HELLO_FRAME + HELLO_FRAME, 0, "no kind of frame is 0"),
        (HELLO_FRAME + Outgoing(9, 1).data, 0, "no kind of frame is 9"),
        (HELLO_FRAME + Outgoing(OFFER, 1, BODY).data * 2, 0, "the same number twice"),
        (HELLO_FRAME + Outgoing(OFFER, 1, BODY, more=True).data + Outgoing(OFFER, 2, BODY).data, 0, "mixed up"),
        (HELLO_FRAME + Outgoing(OFFER, 1, pack([])).data, 0, "without content"),
        (HELLO_FRAME + Outgoing(OFFER, 1, BODY, descriptors=[0]).data, 0, "1 descriptors announced, none"),
        (Outgoing(OFFER, 1, BODY, descriptors=[0, 0]).data, 1, "2 descriptors announced, 1 came"),
        (HELLO_FRAME + Outgoing(READY, 1).data, 1, "descriptors that no frame announces"),
        (b"".join(Outgoing(OFFER, n, BODY).data for n in range(WINDOW + 1)), 0, "no greeting"),
        (HELLO_FRAME + b"".join(Outgoing(OFFER, n, BODY).data for n in range(WINDOW + 1)), 0, "that nobody settles"),
    ],
)
def test_a_peer_that_lies(data: bytes, descriptors: int, says: str) -> None:
    before = here()
    receiver, _ = feed(data, socket.SOCK_STREAM, descriptors)
    with pytest.raises(BadPeer, match=says):
        raise receiver.failure or AssertionError("no failure")
    assert here() == before


# Versions.


def greet(theirs: tuple[int, int]) -> tuple[list[str], list[int]]:
    """What comes of a greeting between formats 1 to 1 and these: what both say, and what they speak."""
    sockets = socket.socketpair()
    ends = [Channel(sockets[0], product="1.0", formats=(1, 1)), Channel(sockets[1], product="2.0", formats=theirs)]
    failures = []

    def start(end: Channel) -> None:
        try:
            end.start()
        except BadPeer as exc:
            failures.append(str(exc))

    gevent.joinall([gevent.spawn(start, end) for end in ends], raise_error=True)
    formats = [end.format for end in ends]
    gevent.joinall([gevent.spawn(end.close) for end in ends], raise_error=True)
    return sorted(failures), formats


def test_a_newer_version() -> None:
    assert greet((1, 7)) == ([], [1, 1])


def test_no_common_version() -> None:
    assert greet((2, 3)) == (
        [
            "the other process (1.0) speaks formats 1 to 1, this one 2 to 3",
            "the other process (2.0) speaks formats 2 to 3, this one 1 to 1",
        ],
        [0, 0],
    )


def test_both_learn_that_there_is_no_common_version() -> None:
    left, right = socket.socketpair()
    channel, peer = Channel(left), FrameSocket(right)
    hello = {"magic": "pgdoorman parcels", "oldest": 2, "newest": 3, "product": "2.0", "window": 1, "later": [1]}
    peer.send(Outgoing(HELLO, 0, pack(hello)))
    with pytest.raises(BadPeer):
        channel.start()
    assert [frame.kind for frame in peer.receive()] == [HELLO]
    peer.close()


def test_no_greeting() -> None:
    left, right = socket.socketpair()
    channel = Channel(left)
    with pytest.raises(TimedOut, match="no greeting"):
        channel.start(0.05)
    assert channel.ended.is_set()
    right.close()


# Between processes.


@both_kinds
def test_thousands(kind: int) -> None:
    """Pipelined, and no descriptor more in either process at the end."""
    with receiving(kind=kind) as (channel, peer):
        channel.send(Parcel("count", {}))
        first = peer.says()
        before = here()
        moved = []

        def move(names: Iterator[int]) -> None:
            for name in names:
                client = Client()
                channel.send(client.parcel(name=name, blob=bytes(name % 5000)), 30)
                client.ours.close()
                assert client.receives() == f"{peer.process.pid} {name}".encode()
                client.close()
                moved.append(name)

        names = iter(range(3000))
        gevent.joinall([gevent.spawn(move, names) for _ in range(50)], raise_error=True)
        assert sorted(moved) == list(range(3000))
        assert here() == before
        channel.send(Parcel("count", {}))
        assert peer.says() == {"descriptors": first["descriptors"], "taken": first["taken"] + 3001}


@both_kinds
@pytest.mark.parametrize("step", ["die in prepare", "stop in prepare", "behind ready", "fault"])
def test_it_stays_with_a_sender_whose_receiver_fails(kind: int, step: str, client: Client) -> None:
    with receiving(step, kind) as (channel, _):
        parcel = client.parcel()
        try:
            channel.send(parcel, 1.0)
        except (ChannelClosed, TimedOut, Refused) as exc:
            expected = {"stop in prepare": TimedOut, "fault": Refused}
            assert isinstance(exc, expected.get(step, ChannelClosed))
            assert not parcel.moved
            assert client.is_still_ours()
        else:
            # Ready and dead: if there was time to say go, the client has gone with it.
            assert step == "behind ready" and parcel.moved
            client.ours.close()
            assert client.receives() == b""


def test_it_goes_with_a_receiver_that_dies_behind_go(client: Client) -> None:
    with receiving("die in take") as (channel, _):
        channel.send(client.parcel())
        client.ours.close()
        assert client.receives() == b""
        assert channel.ended.wait(patience(10))
        other = Client()
        with pytest.raises(ChannelClosed, match="has gone"):
            channel.send(other.parcel())
        assert other.is_still_ours()
        other.close()


@both_kinds
@pytest.mark.parametrize("step", ["before the offer", "behind the offer", "before go", "behind go", ""])
def test_a_sender_that_dies(kind: int, step: str, client: Client) -> None:
    """Only behind go it is with us; else its client sees the end of the connection, and we have nothing."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
    before = here() - 1
    peer = Process("send", step, theirs, client.ours)
    taker = Taker()
    channel = Channel(ours, taker)
    with contextlib.suppress(ChannelClosed):  # it may be dead before we have seen its greeting
        channel.start(patience(20))
    assert channel.ended.wait(patience(10))
    if step in ("behind go", ""):
        until(lambda: taker.taken, "the parcel")
        os.write(taker.descriptors[0], b"ours")
        assert client.receives() == b"ours"
        os.close(taker.descriptors[0])
    else:
        assert client.receives() == b""
        assert not taker.taken
        assert len(taker.dropped) == len(taker.prepared) == (1 if step == "before go" else len(taker.prepared))
    channel.close()
    peer.end()
    assert here() <= before


@both_kinds
def test_a_receiver_out_of_descriptors_refuses(kind: int, client: Client) -> None:
    with receiving(kind=kind) as (channel, peer):
        channel.send(Parcel("exhaust", {}))
        for count in (1, 5):
            parcel = Parcel("client", {}, [client.ours.fileno()] * count)
            with pytest.raises(Refused, match="out of file descriptors"):
                channel.send(parcel)
            assert not parcel.moved
        assert client.is_still_ours()
        channel.send(Parcel("recover", {}))
        channel.send(client.parcel(name="x"))
        client.ours.close()
        assert client.receives() == f"{peer.process.pid} x".encode()
        assert client.receives() == b""


IN_FLIGHT = """
import os, resource, socket
import test_parcel
from pgdoorman_lib.net.parcel import Channel
resource.setrlimit(resource.RLIMIT_NOFILE, (60, 4096))
os.setuid(65534)
ours, theirs = socket.socketpair()
if os.fork():
    theirs.close()
    channel = Channel(ours)
    channel.start()
    test_parcel.crowd(channel)
else:
    ours.close()
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
    channel = Channel(theirs, test_parcel.Taker())
    channel.start()
    channel.ended.wait()
"""


def crowd(channel: Channel) -> None:
    """Send many descriptors in many parcels, from a process that may have few in flight."""
    sends = [gevent.spawn(channel.send, Parcel("left", {}, [0] * 20), 20) for _ in range(300)]
    gevent.joinall(sends, raise_error=True)
    channel.close()
    print("done", flush=True)


@pytest.mark.skipif(
    os.geteuid() != 0, reason="needs to become another user, as whom nobody else has descriptors in flight"
)
def test_too_many_descriptors_in_flight_are_waited_for() -> None:
    done = subprocess.run(
        [sys.executable, "-c", IN_FLIGHT],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, str(PEER.parent)]), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True, text=True, timeout=50,
    )  # fmt: skip
    assert (done.stdout, done.returncode) == ("done\n", 0), done.stderr
