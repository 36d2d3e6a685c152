"""The proxy that spoils traffic does what it is told, and at random the same for the same seed."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from eventually import eventually, stays
from fault_proxy import Direction, Mischief, Proxy, Way
from fix_proxy import MakeProxy
from pace import patience


class Ends:
    """Both ends of one connection through a proxy."""

    def __init__(self, near: socket.socket, far: socket.socket, proxy: Proxy) -> None:
        self.near = near
        self.far = far
        self.proxy = proxy

    def exactly(self, size: int) -> bytes:
        """What has come to the far end."""
        found = b""
        while len(found) < size:
            piece = self.far.recv(size - len(found))
            assert piece, f"the connection ended after {found!r}"
            found += piece
        return found

    def ended(self) -> bool:
        """Whether nothing comes any more: a FIN goes before each RST."""
        try:
            return self.far.recv(1) == b""
        except ConnectionResetError:
            return True


@pytest.fixture
def ends(make_proxy: MakeProxy) -> Iterator[Ends]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        proxy = make_proxy(listener.getsockname()[:2])
        with socket.create_connection((proxy.host, proxy.port)) as near:
            far, _ = listener.accept()
            with far:
                for one in (near, far):
                    one.settimeout(patience(10))
                eventually(lambda: proxy.connections == 1)  # the far end is open before the proxy knows of both
                yield Ends(near, far, proxy)


def test_what_is_sent_arrives_both_ways(ends: Ends) -> None:
    ends.near.sendall(b"question")
    assert ends.exactly(8) == b"question"
    ends.far.sendall(b"answer")
    assert ends.near.recv(100) == b"answer"
    assert ends.proxy.carried == {"up": 8, "down": 6}


def test_a_byte_at_a_time(ends: Ends) -> None:
    ends.proxy.piece, ends.proxy.delay = 1, 0.02
    ends.near.sendall(b"abc")
    assert [ends.far.recv(100) for _ in range(3)] == [b"a", b"b", b"c"]


def test_the_rest_comes_as_it_is_once_there_are_no_crumbs_any_more(ends: Ends) -> None:
    ends.proxy.piece, ends.proxy.delay = 1, 0.05
    sent = b"x" * 60_000
    ends.near.sendall(sent)
    assert ends.far.recv(100) == b"x"
    ends.proxy.piece = 0
    assert b"x" + ends.exactly(len(sent) - 1) == sent


def test_cut_in_the_middle_of_a_message(ends: Ends) -> None:
    ends.proxy.cut_after("up", 5)
    ends.near.sendall(b"Q\0\0\0\x0dSELECT 1\0")
    assert ends.exactly(5) == b"Q\0\0\0\x0d"
    assert ends.ended()


def test_a_middle_box_forgets(ends: Ends) -> None:
    ends.proxy.forget()
    ends.near.sendall(b"unheard")
    ends.far.settimeout(0)

    def silent() -> bool:
        with pytest.raises(BlockingIOError):
            ends.far.recv(1)
        return True

    assert stays(silent, seconds=0.2)


def test_held_until_released(ends: Ends) -> None:
    ends.proxy.hold("up")
    ends.near.sendall(b"late")
    ends.far.settimeout(0.1)
    with pytest.raises(TimeoutError):
        ends.far.recv(1)
    ends.proxy.release("up")
    ends.far.settimeout(patience(10))
    assert ends.exactly(4) == b"late"


class Noted(Proxy):
    """Writes down what it would do."""

    def __init__(self) -> None:
        self.notes: list[tuple[str, ...]] = []

    def cut_after(self, direction: Direction, size: int) -> None:
        self.notes.append(("cut", direction, str(size)))

    def drop(self) -> None:
        self.notes.append(("drop",))


class Draws(random.Random):
    """Counts what was chosen, two choices an act."""

    choices_made = 0

    def choice(self, seq: Any) -> Any:
        self.choices_made += 1
        return super().choice(seq)


def acts(seed: int) -> list[tuple[str, ...]]:
    proxy = Noted()
    ways: tuple[Way, ...] = ("cut", "drop")
    with Mischief(proxy, seed, ways, 0.001) as mischief:
        eventually(lambda: sum(mischief.done.values()) >= 20, message="twenty acts")
    return proxy.notes[:20]


def test_mischief_is_the_same_for_the_same_seed() -> None:
    assert acts(7) == acts(7) != acts(8)


def test_mischief_that_rests_does_nothing() -> None:
    proxy = Noted()
    mischief = Mischief(proxy, 7, ("cut", "drop"), 0.001)
    mischief.resting = True
    mischief._random = draws = Draws(7)
    with mischief:
        eventually(lambda: draws.choices_made >= 20, message="ten acts left out")
    assert not proxy.notes and mischief.done == {"cut": 0, "drop": 0}


def test_mischief_resets_whom_it_forgot_when_it_ends(ends: Ends) -> None:
    with Mischief(ends.proxy, 1, ("forget",), 0.001) as mischief:
        eventually(lambda: bool(ends.proxy._forgotten), message="the connection is forgotten")
    assert mischief.done == {"forget": 1}
    assert ends.ended()
