"""Listening sockets in an engine's turns: nobody is left in the backlog, and a fault only pauses."""

from __future__ import annotations

import errno
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import gevent
import pytest
from core_fakes import ENGINES, running, until

from pgdoorman_lib.listener import Listener, open_tcp
from pgdoorman_lib.net import sockopt
from pgdoorman_lib.net.engine import Engine
from pgdoorman_lib.net.syscalls import clock


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    with running(request.param) as engine:
        yield engine


class Street:
    """A listener, and who came in."""

    def __init__(self, engine: Engine) -> None:
        self.served: list[Any] = []
        (self.listener,) = open_tcp("127.0.0.1", 0, self._serve, engine)
        self.listener.listen(200)
        self.address = self.listener.socket.getsockname()
        self.listener.start()

    def _serve(self, sock: Any) -> None:
        self.served.append((sock.host, sock.port))
        sock.close()

    def come(self, stack: ExitStack) -> socket.socket:
        client = stack.enter_context(socket.create_connection(self.address))
        client.sendall(b"hello")
        return client


@pytest.fixture
def street(engine: Engine) -> Iterator[Street]:
    made = Street(engine)
    yield made
    made.listener.close()


def test_more_at_once_than_are_accepted_in_one_go(street: Street) -> None:
    with ExitStack() as stack:
        for _ in range(2):
            came = {street.come(stack).getsockname() for _ in range(2 * Listener.max_accept)}
            until(lambda: len(street.served) >= 2 * Listener.max_accept)
            assert set(street.served) == came
            street.served.clear()


def test_so_many_in_a_turn_and_no_more(engine: Engine) -> None:
    """Also when the kernel goes on telling of more: what newcomers cost, those inside wait for."""
    turns: Counter[float] = Counter()
    came: list[socket.socket] = []

    def serve(sock: Any) -> None:
        turns[engine.began] += 1
        sock.close()
        if len(came) < 200:
            came.append(socket.create_connection(address))
            came[-1].sendall(b"hello")

    (listener,) = open_tcp("127.0.0.1", 0, serve, engine)
    listener.listen(200)
    address = listener.socket.getsockname()
    listener.start()
    try:
        for _ in range(3 * Listener.max_accept):
            came.append(socket.create_connection(address))
            came[-1].sendall(b"hello")
        until(lambda: turns.total() == len(came) >= 200)
        assert max(turns.values()) <= Listener.max_accept
    finally:
        listener.close()
        for client in came:
            client.close()


def test_nobody_is_left_in_the_backlog_by_a_turn_that_looks_again(street: Street) -> None:
    """An engine may look several times in one turn: who was put off is for the next, although nobody new comes."""
    engine, most = street.listener._engine, Listener.max_accept
    street.listener.max_accept = 0
    with ExitStack() as stack:
        for _ in range(most + 5):
            street.come(stack)
        channel = street.listener._channel
        assert channel is not None
        until(lambda: channel.put_off > 0)
        gevent.sleep(0.05)  # the kernel has told of all of them, and will not again
        street.listener.max_accept = most
        engine.began = engine.now = clock()
        for _ in range(3):
            engine.run()
        assert len(street.served) == most
        until(lambda: len(street.served) == most + 5)


def test_a_fault_pauses_and_the_backlog_waits(street: Street, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Listener, "min_delay", 0.01)
    acceptor = street.listener._acceptor
    tries: list[int] = []

    class Exhausted:
        def accept(self) -> Any:
            tries.append(1)
            if len(tries) < 3:
                raise OSError(errno.EMFILE, "too many open files")
            return acceptor.accept()

    street.listener._acceptor = Exhausted()  # type: ignore[assignment]
    with ExitStack() as stack:
        street.come(stack)
        until(lambda: len(street.served) == 1)
        assert len(tries) >= 3


def test_closed_nobody_comes_in(street: Street) -> None:
    street.listener.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(street.address)


def test_bound_is_not_listening_yet(engine: Engine) -> None:
    """Several are bound first, so that whoever reaches one reaches all."""
    (listener,) = open_tcp("127.0.0.1", 0, lambda sock: None, engine)
    try:
        address = listener.socket.getsockname()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address)
        listener.listen(5)
        socket.create_connection(address).close()
    finally:
        listener.close()


def test_a_fault_about_one_keeps_nobody_out(street: Street, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []
    monkeypatch.setattr(gevent.get_hub(), "handle_error", lambda *fault: told.append(fault))
    apply, faults = sockopt.apply, iter([OSError(errno.EINVAL, "it has gone")])

    def fail_once(sock: Any, options: Any) -> None:
        for fault in faults:
            sock.close()
            raise fault
        apply(sock, options)

    monkeypatch.setattr(sockopt, "apply", fail_once)
    channel = street.listener._channel
    assert channel is not None
    channel.options = sockopt.SocketOptions()
    with ExitStack() as stack:
        for _ in range(3):
            street.come(stack)
        until(lambda: len(street.served) == 2)
    assert len(told) == 1
    assert street.listener.delay == Listener.min_delay  # nor does it pause
