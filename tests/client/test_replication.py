"""A replication client and its server, on both engines: bytes both ways, slow readers, and every way to end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gevent
import pytest
from core_fakes import ENGINES, PATIENCE, receive_all, running, server_pair, stream_pair, until
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pgdoorman_lib.client import replication as module
from pgdoorman_lib.client.registry import Clients
from pgdoorman_lib.client.replication import ENDED, WAIT, Forwarder, ReplicationSession
from pgdoorman_lib.errors import DoormanError, ProtocolViolation, ServerGone, ShuttingDown
from pgdoorman_lib.metrics.counters import PoolStats
from pgdoorman_lib.net.engine import Engine
from pgdoorman_lib.net.measures import BLOCK_SIZE
from pgdoorman_lib.net.stream import HIGH_WATER
from pgdoorman_lib.wire import messages
from pgdoorman_lib.wire.consts import PROCESS_BASE
from pgdoorman_lib.wire.framing import split

TERMINATE = messages.terminate()
GOODBYE = ShuttingDown("terminating connection due to administrator command")


def message(kind: bytes, body: bytes = b"") -> bytes:
    return kind + (len(body) + 4).to_bytes(4, "big") + body


def wal(size: int) -> bytes:
    return message(b"d", b"w" * size)


class Rig:
    """A session between two sockets; ``client`` and ``server`` are their far ends."""

    def __init__(self, engine: Engine, buffer: int = 0) -> None:
        self.engine = engine
        self.stream, self.client = stream_pair(engine, buffer=buffer)
        self.postgres, self.server = server_pair(engine, buffer=buffer)
        self.pool_stats = PoolStats()
        self.session = ReplicationSession(
            self.stream, self.postgres, 77, b"key!", "alice", "shop", self.pool_stats, "true"
        )
        self.reason = ""
        self.error: DoormanError | None = None
        self.greenlet = gevent.spawn(self._run)
        self.welcome = b""

    def _run(self) -> None:
        """What a client's connection does."""
        try:
            self.reason = self.session.serve()
        except DoormanError as exc:
            self.error = exc
            if not self.session.cut_off() and not self.stream.send_failed:
                self.stream.write(messages.error_from(exc))
        finally:
            self.stream.close()

    def welcomed(self) -> Rig:
        expected = len(self.session._welcome())
        with gevent.Timeout(PATIENCE):
            while len(self.welcome) < expected:
                self.welcome += self.client.recv(expected - len(self.welcome))
        return self

    def end(self) -> None:
        self.greenlet.join(PATIENCE)
        assert self.greenlet.ready(), "the session goes on"
        assert self.postgres.stream.closed and self.postgres.state == "closed"
        assert self.stream.closed
        assert self.session.task is None

    def close(self) -> None:
        self.greenlet.kill()
        for sock in (self.client, self.server):
            sock.close()
        self.postgres.stream.close()


def read(sock: Any, size: int) -> bytes:
    data = bytearray()
    with gevent.Timeout(PATIENCE, AssertionError(f"{len(data)} of {size} bytes")):
        while len(data) < size:
            part = sock.recv(min(65536, size - len(data)))
            assert part, f"closed after {len(data)} of {size} bytes"
            data += part
    return bytes(data)


def read_to_end(sock: Any) -> bytes:
    data = bytearray()
    with gevent.Timeout(PATIENCE, AssertionError("not closed")):
        while part := sock.recv(65536):
            data += part
    return bytes(data)


def read_reset(sock: Any) -> None:
    """Wait for the end of a connection that may be reset."""
    try:
        read_to_end(sock)
    except ConnectionResetError:
        pass


def kinds(data: bytes) -> str:
    frames, rest = split(data)
    assert rest == b""
    return "".join(chr(kind) for kind, _ in frames)


def sqlstate(data: bytes) -> str:
    """Of the last message, an ErrorResponse."""
    kind, body = split(data)[0][-1]
    assert chr(kind) == "E"
    return messages.parse_fields(body)["C"]


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    with running(request.param) as made:
        yield made


@pytest.fixture(autouse=True)
def no_time_runs_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """What ends by a time limit hangs, unless a test wants to see that."""
    monkeypatch.setattr(module, "FAREWELL_SECONDS", 10 * PATIENCE)
    monkeypatch.setattr(module, "LEAVING_SECONDS", 10 * PATIENCE)


@pytest.fixture
def rig(engine: Engine) -> Iterator[Rig]:
    made = Rig(engine).welcomed()
    yield made
    made.close()


@pytest.fixture
def narrow(engine: Engine) -> Iterator[Rig]:
    """One whose sockets hold little."""
    made = Rig(engine, buffer=4096).welcomed()
    yield made
    made.close()


# -- the welcome


def test_the_welcome_is_what_the_server_said_and_our_own_key(rig: Rig) -> None:
    frames, _ = split(rig.welcome)
    assert [chr(kind) for kind, _ in frames] == list("RSKZ")
    assert frames[1][1] == b"TimeZone\0Etc/UTC\0"
    assert frames[2][1] == (PROCESS_BASE + 77).to_bytes(4, "big") + b"key!"
    assert rig.session.info().state == "active" and rig.session.info().pinned == ""
    assert rig.postgres.state == "active"


def test_the_registry_has_it_as_any_client(rig: Rig) -> None:
    clients = Clients()
    clients.add(rig.session)
    assert list(clients) == clients.replicating == [rig.session]
    assert clients.by_key(PROCESS_BASE + 77, b"key!") is rig.session
    assert clients.by_key(PROCESS_BASE + 77, b"kez!") is None
    assert clients.by_key(77, b"key!") is None
    clients.remove(rig.session)
    assert not clients.replicating


# -- carrying


def test_both_ways_at_once(rig: Rig) -> None:
    """COPY BOTH: either side sends when it likes."""
    start = messages.query("START_REPLICATION SLOT s LOGICAL 0/0")
    rig.client.sendall(start)
    assert read(rig.server, len(start)) == start
    both = message(b"W", b"\0\0\0")
    rig.server.sendall(both)
    assert read(rig.client, len(both)) == both
    status = message(b"d", b"r" + bytes(33))
    for number in range(20):
        rig.server.sendall(wal(number * 100))
        rig.client.sendall(status)
        assert read(rig.client, 5 + number * 100) == wal(number * 100)
        assert read(rig.server, len(status)) == status
    for sender, receiver in ((rig.client, rig.server), (rig.server, rig.client)):
        sender.sendall(message(b"c"))
        assert read(receiver, 5) == message(b"c")
    assert rig.session.stats.received == len(start) + 20 * len(status) + 5


@pytest.mark.parametrize("direction", ["up", "down"])
def test_a_byte_at_a_time(rig: Rig, direction: str) -> None:
    sender, receiver = (rig.client, rig.server) if direction == "up" else (rig.server, rig.client)
    data = wal(3) + wal(0) + wal(700)
    heard = b""
    for index in range(len(data)):
        sender.sendall(data[index : index + 1])
        gevent.sleep(0)
        heard += receive_all(receiver)
    receiver.setblocking(True)
    assert heard + read(receiver, len(data) - len(heard)) == data


@pytest.mark.parametrize("direction", ["up", "down"])
def test_a_large_message_takes_little_memory(rig: Rig, direction: str) -> None:
    sender, receiver = (rig.client, rig.server) if direction == "up" else (rig.server, rig.client)
    data = wal(30_000_000) + wal(5)
    sending = gevent.spawn(sender.sendall, data)
    assert read(receiver, len(data)) == data
    sending.join()
    assert rig.engine.grown == 0
    assert len(rig.engine.blocks) <= 3 * (HIGH_WATER // BLOCK_SIZE + 1)


@pytest.mark.parametrize("direction", ["up", "down"])
def test_a_slow_reader_stops_its_source_and_nobody_else(narrow: Rig, direction: str) -> None:
    sender, receiver, forwarder = (
        (narrow.client, narrow.server, narrow.session.up)
        if direction == "up"
        else (narrow.server, narrow.client, narrow.session.down)
    )
    data = b"".join(wal(5000) for _ in range(400))
    sending = gevent.spawn(sender.sendall, data)
    until(lambda: forwarder.sink.out_pending >= HIGH_WATER)
    # The other direction goes on.
    for _ in range(50):
        receiver.sendall(wal(50))
        assert read(sender, 55) == wal(50)
        assert forwarder.sink.out_pending <= HIGH_WATER + BLOCK_SIZE
    assert not sending.ready()
    assert narrow.session.info().wait == ("write" if direction == "down" else "read")
    assert read(receiver, len(data)) == data
    sending.join()
    until(lambda: forwarder.sink.out_pending == 0 and forwarder.source.block is None)
    assert narrow.session.info().wait == "read"


def test_who_has_more_goes_on_after_the_others(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FAIRNESS", 1)
    for sender, receiver in ((rig.client, rig.server), (rig.server, rig.client)):
        sender.sendall(wal(100_000))
        assert read(receiver, 100_005) == wal(100_000)


def test_idle_it_holds_no_buffer(rig: Rig) -> None:
    rig.client.sendall(wal(100))
    read(rig.server, 105)
    until(lambda: rig.stream.block is None and rig.postgres.stream.out is None)
    assert rig.postgres.stream.block is None and rig.stream.out is None


def test_what_is_counted(rig: Rig) -> None:
    rig.client.sendall(wal(100))
    rig.server.sendall(wal(200))
    read(rig.server, 105)
    read(rig.client, 205)
    rig.client.close()
    rig.end()
    assert rig.pool_stats.received == rig.session.stats.received == 105
    assert rig.pool_stats.sent == rig.session.stats.sent == len(rig.welcome) + 205
    assert rig.postgres.stats.received == 205
    assert rig.postgres.stats.sent == 105 + len(TERMINATE)


@given(sizes=st.lists(st.integers(0, 40000), min_size=1, max_size=8), cuts=st.lists(st.integers(1, 50000), max_size=8))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_boundaries_are_known_however_it_is_cut(sizes: list[int], cuts: list[int]) -> None:
    with running("epoll") as engine:
        source, far = stream_pair(engine, cooperative=False)
        sink, receiver = stream_pair(engine, cooperative=False)
        forwarder = Forwarder(source, sink)
        data = b"".join(message(bytes([65 + index]), b"x" * size) for index, size in enumerate(sizes))
        ends = {0}
        for size in sizes:
            ends.add(max(ends) + 5 + size)
        heard = b""
        start = 0
        for cut in [*sorted(cuts), len(data)]:
            far.sendall(data[start:cut])
            start = max(start, min(cut, len(data)))
            source.readable = 1
            while forwarder.forward() != WAIT or sink.out_pending:
                sink.push()
                heard += receive_all(receiver)
                source.readable = 1
            heard += receive_all(receiver)
            assert heard == data[: len(heard)] and start - len(heard) < 5
            assert (forwarder.left == 0) == (len(heard) in ends)
        assert heard == data
        assert forwarder.kind == 64 + len(sizes)
        far.close()
        source.readable = 1
        assert forwarder.forward() == ENDED
        for stream in (source, sink):
            stream.close()
        receiver.close()


# -- the client goes


def test_the_client_says_terminate(rig: Rig) -> None:
    rig.client.sendall(TERMINATE)
    assert read(rig.server, 5) == TERMINATE
    rig.client.close()
    rig.end()
    assert rig.reason == "client closed the session"
    assert read_to_end(rig.server) == b""


def test_the_client_is_lost_between_messages(rig: Rig) -> None:
    rig.client.sendall(wal(10))
    rig.client.close()
    rig.end()
    assert rig.reason == "client closed the connection"
    assert read_to_end(rig.server) == wal(10) + TERMINATE


@pytest.mark.parametrize("part", [3, 7])
def test_the_client_is_lost_within_a_message(rig: Rig, part: int) -> None:
    """Of a message whose header is not there the server knows nothing: Terminate may be said."""
    rig.client.sendall(wal(10)[:part])
    rig.client.close()
    rig.end()
    assert read_to_end(rig.server) == (wal(10)[:part] if part >= 5 else TERMINATE)


def test_the_client_is_lost_while_it_is_sent_much(narrow: Rig) -> None:
    sending = gevent.spawn(narrow.server.sendall, b"".join(wal(5000) for _ in range(1000)))
    until(lambda: narrow.stream.out_pending >= HIGH_WATER)
    narrow.client.close()
    narrow.end()
    sending.join(PATIENCE)
    assert isinstance(sending.exception, (BrokenPipeError, ConnectionResetError))


def test_what_the_client_said_last_is_for_a_slow_server(narrow: Rig) -> None:
    """It has left, and its server does not read before it has said something itself."""
    data = b"".join(wal(5000) for _ in range(5))
    narrow.client.sendall(data)
    narrow.client.close()
    until(lambda: narrow.session.up.kind == 0x58)
    narrow.server.sendall(b"".join(wal(5000) for _ in range(20)))
    assert read_to_end(narrow.server) == data + TERMINATE
    narrow.end()


def test_a_server_that_does_not_read_is_left_in_the_end(narrow: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LEAVING_SECONDS", 0.05)
    narrow.client.sendall(b"".join(wal(5000) for _ in range(5)))
    narrow.client.close()
    narrow.end()
    assert narrow.reason == "client closed the connection"


def test_the_client_talks_nonsense(rig: Rig) -> None:
    rig.client.sendall(wal(4) + b"d\0\0\0\3xx")
    heard = read_to_end(rig.client)
    assert sqlstate(heard) == "08P01"
    rig.end()
    assert isinstance(rig.error, ProtocolViolation)
    assert read_to_end(rig.server) == wal(4) + TERMINATE


# -- the server goes


def test_the_server_ends_with_its_own_words(rig: Rig) -> None:
    fatal = messages.error_response("FATAL", "57P01", "terminating connection due to administrator command")
    rig.server.sendall(wal(10) + fatal)
    rig.server.close()
    assert read_to_end(rig.client) == wal(10) + fatal
    rig.end()
    assert rig.reason == "server ended the session"


def test_a_wal_sender_told_to_stop_says_that_the_command_is_complete(rig: Rig) -> None:
    words = message(b"c") + messages.command_complete("COPY 0")
    rig.server.sendall(words)
    rig.server.close()
    assert read_to_end(rig.client) == words
    rig.end()


def test_the_server_is_lost_between_messages(rig: Rig) -> None:
    rig.server.sendall(wal(10))
    rig.server.close()
    heard = read_to_end(rig.client)
    assert kinds(heard) == "dE"
    assert sqlstate(heard) == "08006"
    rig.end()
    assert isinstance(rig.error, ServerGone)


def test_the_server_is_lost_within_a_header(rig: Rig) -> None:
    """Its bytes were kept back, so the client can still be told."""
    rig.server.sendall(wal(10) + b"d\0\0")
    rig.server.close()
    assert kinds(read_to_end(rig.client)) == "dE"
    rig.end()


def test_the_server_is_lost_within_a_message(rig: Rig) -> None:
    rig.server.sendall(wal(100)[:50])
    rig.server.close()
    assert read_to_end(rig.client) == wal(100)[:50]
    rig.end()


def test_a_slow_client_gets_the_last_words_of_its_server(narrow: Rig) -> None:
    said = b"".join(wal(5000) for _ in range(5)) + messages.error_response("FATAL", "57P01", "the end")
    narrow.server.sendall(said)
    narrow.server.close()
    until(lambda: narrow.postgres.stream.closed)
    assert narrow.stream.out_pending
    narrow.client.sendall(wal(100))  # nobody is there to take it, and that must not reset the connection
    assert read_to_end(narrow.client) == said
    narrow.end()
    assert narrow.reason == "server ended the session"


def test_the_client_leaves_after_its_server(narrow: Rig) -> None:
    narrow.server.sendall(b"".join(wal(5000) for _ in range(5)))
    narrow.server.close()
    until(lambda: narrow.postgres.stream.closed)
    narrow.client.close()
    narrow.end()


def test_the_server_talks_nonsense(rig: Rig) -> None:
    rig.server.sendall(wal(4) + b"d\x7f\0\0\0")
    heard = read_to_end(rig.client)
    assert kinds(heard) == "dE"
    assert sqlstate(heard) == "08P01"
    rig.end()


# -- the pooler ends it


def test_dismissed(rig: Rig) -> None:
    rig.session.terminate_when_idle(GOODBYE)
    assert sqlstate(read_to_end(rig.client)) == "57P01"
    rig.end()
    assert read_to_end(rig.server) == TERMINATE


def test_dismissed_before_it_began(engine: Engine) -> None:
    rig = Rig(engine)
    rig.session.terminate_when_idle(GOODBYE)
    assert kinds(read_to_end(rig.client)) == "RSKZE"
    rig.end()
    rig.close()


def test_dismissed_within_a_message(narrow: Rig) -> None:
    """The message under way still comes whole, what is behind it does not."""
    sending = gevent.spawn(narrow.server.sendall, wal(200_000) + wal(7) * 10_000)
    until(lambda: narrow.stream.out_pending >= HIGH_WATER)
    narrow.session.terminate_when_idle(GOODBYE)
    heard = read_to_end(narrow.client)
    assert kinds(heard) == "dE"
    assert heard.startswith(wal(200_000))
    assert sqlstate(heard) == "57P01"
    narrow.end()
    sending.kill()


def test_dismissed_while_the_client_reads_nothing(narrow: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FAREWELL_SECONDS", 0.05)
    sending = gevent.spawn(narrow.server.sendall, wal(1_000_000))
    until(lambda: narrow.stream.out_pending >= HIGH_WATER)
    narrow.session.terminate_when_idle(GOODBYE)
    narrow.end()
    assert narrow.session.cut_off()
    assert narrow.error is GOODBYE
    sending.kill()


def test_dismissed_while_the_server_says_no_more(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FAREWELL_SECONDS", 0.05)
    rig.server.sendall(wal(100)[:50])
    read(rig.client, 50)
    rig.session.terminate_when_idle(GOODBYE)
    assert read_to_end(rig.client) == b""
    rig.end()


def test_dismissed_as_the_client_leaves(narrow: Rig) -> None:
    sending = gevent.spawn(narrow.server.sendall, wal(1_000_000))
    until(lambda: narrow.stream.out_pending >= HIGH_WATER)
    narrow.session.terminate_when_idle(GOODBYE)
    narrow.client.close()
    narrow.end()
    sending.kill()


def test_dismissed_within_a_message_whose_rest_the_client_does_not_wait_for(rig: Rig) -> None:
    rig.server.sendall(wal(100)[:50])
    read(rig.client, 50)
    rig.session.terminate_when_idle(GOODBYE)
    rig.client.close()
    rig.end()


@pytest.mark.parametrize("error", [gevent.GreenletExit, GOODBYE])
def test_killed(rig: Rig, error: Any) -> None:
    rig.greenlet.kill(error)
    rig.end()
    read_reset(rig.client)
    assert read_to_end(rig.server) == TERMINATE
