"""A TCP proxy that stands between two parties and spoils their traffic."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from typing import Literal

import pytest
from pace import patience

Direction = Literal["up", "down"]  # up: towards the target


class Proxy:
    """Listens on ``host:port`` and carries every connection to ``target``; two threads a connection.

    The knobs may be turned at any time. ``delay`` seconds before each piece; ``piece`` bytes at most in a send (0:
    as it came); ``hold(direction)`` stops carrying until ``release``; ``refuse`` closes new connections at once;
    ``cut_after(direction, n)`` cuts a connection after exactly n more bytes in that direction; ``drop()`` resets all
    there are, ``forget()`` swallows what they send from now on, as a middle box does. ``carried`` counts bytes.
    """

    def __init__(self, target: tuple[str, int]) -> None:
        self.target = target
        self.delay = 0.0
        self.piece = 0
        self.refuse = False
        self.accepted = 0
        self.carried: dict[Direction, int] = {"up": 0, "down": 0}
        self._budget: dict[Direction, int | None] = {"up": None, "down": None}
        self._open = {"up": threading.Event(), "down": threading.Event()}
        for event in self._open.values():
            event.set()
        self._lock = threading.Lock()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._forgotten: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._closing = False
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=200)
        self.host, self.port = self._listener.getsockname()[:2]
        self._spawn(self._accept)

    def _spawn(self, function: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=function, args=arguments, daemon=True)
        with self._lock:
            self._threads = [t for t in self._threads if t.is_alive()]
            self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            if self.refuse or self._closing:
                _reset(near)
                near.close()
                continue
            try:
                far = socket.create_connection(self.target, timeout=patience(10))
            except OSError:
                _reset(near)
                near.close()
                continue
            far.settimeout(None)
            for one in (near, far):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._pairs.append((near, far))
            self._spawn(self._carry, near, far, "up")
            self._spawn(self._carry, far, near, "down")

    def _carry(self, source: socket.socket, sink: socket.socket, direction: Direction) -> None:
        try:
            while data := source.recv(1 << 16):
                self._open[direction].wait()
                if source in self._forgotten:
                    continue
                data, cut = self._spend(direction, data)
                step = self.piece or len(data) or 1
                for start in range(0, len(data), step):
                    if self.delay:
                        time.sleep(self.delay)
                    sink.sendall(data[start : start + step])
                if cut:
                    _reset(source)
                    _reset(sink)
                    return
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            _reset(source)
            _reset(sink)
        finally:
            self._forget(source, sink, direction)

    def _spend(self, direction: Direction, data: bytes) -> tuple[bytes, bool]:
        with self._lock:
            self.carried[direction] += len(data)
            budget = self._budget[direction]
            if budget is None:
                return data, False
            data = data[:budget]
            self._budget[direction] = None if len(data) == budget else budget - len(data)
            return data, len(data) == budget

    def _forget(self, source: socket.socket, sink: socket.socket, direction: Direction) -> None:
        """The second of the two threads of a connection to end closes both sockets."""
        pair = (source, sink) if direction == "up" else (sink, source)
        with self._lock:
            if pair in self._pairs:
                self._pairs.remove(pair)
                return
        for one in pair:
            one.close()

    # -- the knobs

    def hold(self, direction: Direction) -> None:
        self._open[direction].clear()

    def release(self, direction: Direction | None = None) -> None:
        for one in (direction,) if direction else ("up", "down"):
            self._open[one].set()

    def cut_after(self, direction: Direction, size: int) -> None:
        with self._lock:
            self._budget[direction] = size

    def drop(self) -> None:
        """Reset every connection."""
        with self._lock:
            pairs = list(self._pairs)
        for pair in pairs:
            for one in pair:
                _reset(one)

    def forget(self) -> None:
        """Carry nothing more for the connections there are; new ones work."""
        with self._lock:
            for pair in self._pairs:
                self._forgotten.update(pair)

    @property
    def connections(self) -> int:
        """How many are carried in both directions now."""
        with self._lock:
            return len(self._pairs)

    def close(self) -> None:
        self._closing = True
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.release()
        self.drop()
        with self._lock:
            threads = list(self._threads)
        for thread in threads:
            thread.join(patience(10))
            assert not thread.is_alive()


def _reset(one: socket.socket) -> None:
    """End a connection with a RST, waking whoever reads it; the thread that carries it closes it."""
    with contextlib.suppress(OSError):
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        one.shutdown(socket.SHUT_RDWR)


MakeProxy = Callable[[tuple[str, int]], Proxy]


@pytest.fixture
def make_proxy() -> Iterator[MakeProxy]:
    """``make_proxy((host, port))`` gives a Proxy to there."""
    proxies: list[Proxy] = []

    def make(target: tuple[str, int]) -> Proxy:
        proxies.append(Proxy(target))
        return proxies[-1]

    yield make
    for proxy in proxies:
        proxy.close()
