"""What is passed on to another pooler, bounded in number and time; the peer is a function on bytes."""

from __future__ import annotations

import logging
import struct
from collections.abc import Iterator
from typing import Any

import gevent
import pytest
from gevent.server import StreamServer
from pace import patience

from pgdoorman_lib import peers
from pgdoorman_lib.config.model import General, Peer
from pgdoorman_lib.log import Limited
from pgdoorman_lib.metrics.counters import ConnectionStats
from pgdoorman_lib.net.engine import Engine
from pgdoorman_lib.net.engines import choose
from pgdoorman_lib.peers import Peers
from pgdoorman_lib.wire.cancel_keys import PEER_SPACE
from pgdoorman_lib.wire.consts import PROCESS_BASE

KEY = (PROCESS_BASE + 2 * PEER_SPACE + 17, b"abcd")
#: What goes to peer 2: the key with its mark.
PACKET = struct.pack("!IIi", 16, 80877102, KEY[0] - (1 << 31)) + KEY[1]


@pytest.fixture(params=["epoll", "gevent"])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    made = choose(request.param)
    yield made
    made.close()


class Other:
    """A listening peer: takes requests down, and closes each connection once ``let`` is set."""

    def __init__(self, answer: bytes = b"") -> None:
        self.answer = answer
        self.packets: list[bytes] = []
        self.open = self.most = 0
        self.let = gevent.event.Event()
        self.server = StreamServer(("127.0.0.1", 0), self.serve)
        self.server.start()

    def serve(self, sock: Any, address: object) -> None:
        self.open += 1
        self.most = max(self.most, self.open)
        self.packets.append(sock.recv(1000))
        self.let.wait(patience(10))
        self.open -= 1
        sock.sendall(self.answer)
        sock.close()


@pytest.fixture
def other() -> Iterator[Other]:
    made = Other()
    yield made
    made.let.set()
    made.server.stop()


def general(own: int) -> General:
    return General(admin_username="a", admin_password="b", peer_id=own)


def poolers(engine: Engine, other: Other, own: int = 1, **more: Any) -> tuple[Peers, ConnectionStats]:
    stats = ConnectionStats()
    made = Peers(engine, stats)
    made.use(general(own), {2: Peer(host="127.0.0.1", port=other.server.server_port, **more)})
    return made, stats


def counts(stats: ConnectionStats) -> tuple[int, int]:
    return stats.passed_on, stats.not_passed_on


def test_returns_when_the_peer_has_closed(engine: Engine, other: Other) -> None:
    made, stats = poolers(engine, other)
    asking = gevent.spawn(made.pass_on, *KEY, False)
    while not other.packets:
        gevent.sleep(0.01)
    gevent.sleep(0.05)
    assert not asking.ready()
    (peer,) = made
    assert (peer.waiting, peer.connecting, peer.active) == (0, 0, 1)
    other.let.set()
    assert asking.get(timeout=patience(5)) is True
    assert other.packets == [PACKET]
    assert counts(stats) == (1, 0)
    assert (peer.waiting, peer.connecting, peer.active) == (0, 0, 0)


def test_a_header_first(engine: Engine, other: Other) -> None:
    made, _ = poolers(engine, other, proxy_protocol=True)
    other.let.set()
    assert made.pass_on(*KEY, False)
    assert other.packets == [b"PROXY UNKNOWN\r\n" + PACKET]


@pytest.mark.parametrize(("own", "hopped", "anothers"), [(0, False, False), (2, False, False), (2, True, False)])
def test_what_stays_here(engine: Engine, other: Other, own: int, hopped: bool, anothers: bool) -> None:
    made, stats = poolers(engine, other, own)
    assert made.pass_on(*KEY, hopped) is anothers
    assert not other.packets
    assert counts(stats) == (0, 0)


def test_what_was_passed_on_goes_no_further(
    engine: Engine, other: Other, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(peers, "strays", Limited(peers.log))
    made, stats = poolers(engine, other)
    with caplog.at_level(logging.WARNING):
        assert made.pass_on(*KEY, True)
    assert "for peer 2 was passed on to this one, which is 1" in caplog.text
    assert not other.packets
    assert counts(stats) == (0, 1)


def test_no_more_at_one_time_than_there_are_places(engine: Engine, other: Other) -> None:
    made, stats = poolers(engine, other, pool_size=3)
    asking = [gevent.spawn(made.pass_on, *KEY, False) for _ in range(10)]
    while len(other.packets) < 3:
        gevent.sleep(0.01)
    (peer,) = made
    gevent.sleep(0.05)
    assert (peer.waiting, peer.active, len(other.packets)) == (7, 3, 3)
    other.let.set()
    gevent.joinall(asking, timeout=patience(5), raise_error=True)
    assert (len(other.packets), other.most) == (10, 3)
    assert counts(stats) == (10, 0)


def test_a_peer_that_hangs(
    engine: Engine, other: Other, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Each has its time, with the wait for a place in it; then all is as before."""
    monkeypatch.setattr(peers, "PASSING_TIMEOUT", 0.2)
    made, stats = poolers(engine, other, pool_size=2)
    asking = [gevent.spawn(made.pass_on, *KEY, False) for _ in range(5)]
    gevent.joinall(asking, timeout=patience(5), raise_error=True)
    assert all(each.value is True for each in asking)
    assert counts(stats) == (0, 5)
    (peer,) = made
    assert (peer.waiting, peer.connecting, peer.active) == (0, 0, 0)
    assert "not be passed on to peer 2 (127.0.0.1:" in caplog.text
    other.let.set()
    assert made.pass_on(*KEY, False)
    assert counts(stats) == (1, 5)


def test_a_peer_that_answers(engine: Engine, other: Other, caplog: pytest.LogCaptureFixture) -> None:
    other.answer = b"E"
    other.let.set()
    made, stats = poolers(engine, other)
    assert made.pass_on(*KEY, False)
    assert counts(stats) == (0, 1)
    assert "peer 2 (127.0.0.1:" in caplog.text


def test_a_peer_that_is_down(engine: Engine, other: Other, caplog: pytest.LogCaptureFixture) -> None:
    other.server.stop()
    made, stats = poolers(engine, other)
    assert made.pass_on(*KEY, False)
    assert counts(stats) == (0, 1)
    assert "Connection refused" in caplog.text


def test_another_list_disturbs_nothing(engine: Engine, other: Other) -> None:
    made, stats = poolers(engine, other)
    (peer,) = made
    asking = gevent.spawn(made.pass_on, *KEY, False)
    while not other.packets:
        gevent.sleep(0.01)
    made.use(general(1), {2: peer.settings, 3: peer.settings})
    assert [each.id for each in made] == [2, 3]
    assert next(iter(made)) is peer
    assert made.most == 40
    made.use(general(2), {2: peer.settings, 3: peer.settings})
    assert made.most == 20
    made.use(general(0), {2: peer.settings})
    assert made.most == 0
    made.use(general(1), {})
    assert len(made) == 0
    other.let.set()
    asking.get(timeout=patience(5))
    assert counts(stats) == (1, 0)


def test_who_asks_is_ended(engine: Engine, other: Other) -> None:
    made, _ = poolers(engine, other, pool_size=1)
    (peer,) = made
    asking = [gevent.spawn(made.pass_on, *KEY, False) for _ in range(2)]
    while not other.packets:
        gevent.sleep(0.01)
    gevent.killall(asking)
    assert (peer.waiting, peer.connecting, peer.active) == (0, 0, 0)
    other.let.set()
    assert made.pass_on(*KEY, False)
