"""A TCP proxy that stands between two parties and spoils their traffic, at one's word or at random.

Standard library only, as all of ``tools``: the tests and ``bench.soak`` share it.
"""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Literal

Direction = Literal["up", "down"]  # up: towards the target


class Proxy:
    """Listens on ``host:port`` and carries every connection to ``target``; two threads a connection.

    The knobs may be turned at any time. ``delay`` seconds before each piece; ``piece`` bytes at most in a send (0:
    as it came); ``hold(direction)`` stops carrying until ``release``; ``refuse`` closes new connections at once;
    ``cut_after(direction, n)`` cuts a connection after exactly n more bytes in that direction; ``drop()`` resets all
    there are, ``forget()`` swallows what they send from now on, as a middle box does. ``carried`` counts bytes.
    ``limit``: seconds until the target must have answered a connection, and a thread have ended.
    """

    def __init__(self, target: tuple[str, int], limit: float = 10.0) -> None:
        self.target = target
        self.limit = limit
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
                far = socket.create_connection(self.target, timeout=self.limit)
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
                while data:
                    if self.delay:
                        time.sleep(self.delay)
                    step = self.piece or len(data)
                    sink.sendall(data[:step])
                    data = data[step:]
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
            thread.join(self.limit)
            assert not thread.is_alive()


def _reset(one: socket.socket) -> None:
    """End a connection with a RST, waking whoever reads it; the thread that carries it closes it."""
    with contextlib.suppress(OSError):
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        one.shutdown(socket.SHUT_RDWR)


#: What happens to the connections of a proxy: one is cut after some bytes; all are reset; nothing is carried for them
#: for some seconds, after which they are reset; one direction stands still for a moment; for a moment all comes in
#: crumbs.
Way = Literal["cut", "drop", "forget", "hold", "crumbs"]

#: A cut comes after at most so many bytes: often in the middle of a message's head.
LONGEST_BEFORE_CUT = 4000
#: Seconds of what lasts.
FORGOTTEN, HELD = 2.0, 0.5
LARGEST_CRUMB = 7


class Mischief:
    """Does something to a proxy's connections every ``pause`` seconds on average, while it is entered.

    What and when comes from ``seed`` alone; which connection it meets depends on who talks then. ``done`` counts.
    Nothing is begun while it is ``resting``.
    """

    def __init__(self, proxy: Proxy, seed: int, ways: Sequence[Way], pause: float) -> None:
        self.proxy = proxy
        self.ways = tuple(ways)
        self.pause = pause
        self.resting = False
        self.done: dict[Way, int] = dict.fromkeys(self.ways, 0)
        self._random = random.Random(seed)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Mischief:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(self._random.uniform(0.2, 1.8) * self.pause):
            way = self._random.choice(self.ways)
            direction: Direction = self._random.choice(("up", "down"))
            size = self._random.randrange(LONGEST_BEFORE_CUT)
            if self.resting:
                continue
            self._do(way, direction, size)
            self.done[way] += 1

    def _do(self, way: Way, direction: Direction, size: int) -> None:
        if way == "cut":
            self.proxy.cut_after(direction, size)
        elif way == "drop":
            self.proxy.drop()
        elif way == "forget":
            self.proxy.forget()
            self._over.wait(FORGOTTEN)
            self.proxy.drop()
        elif way == "hold":
            self.proxy.hold(direction)
            self._over.wait(HELD)
            self.proxy.release(direction)
        else:
            self.proxy.piece = 1 + size % LARGEST_CRUMB
            self._over.wait(HELD)
            self.proxy.piece = 0
