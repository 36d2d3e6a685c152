"""Many logged-in, idle clients held by this process, to see what each costs the pooler."""

from __future__ import annotations

import hashlib
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from bench.procfs import memory_kib
from bench.targets import DATABASE, PASSWORD, START_SECONDS, USER, Started, Target

SETTLE_SECONDS = 15.0
WARM_UP = 60
#: ReadyForQuery, outside a transaction.
READY = b"Z\0\0\0\5I"


class UnexpectedAnswer(RuntimeError):
    """The pooler refused a client or a query, or said what nobody had asked for."""


class Client:
    """A blocking connection that can log in and run a query, and holds next to nothing."""

    def __init__(self, host: str, port: int, database: str = DATABASE) -> None:
        self.database = database
        self.socket = socket.create_connection((host, port), timeout=30)
        self._buffer = b""
        try:
            self._login()
        except BaseException:
            self.socket.close()
            raise

    def query(self, sql: str) -> None:
        """Run ``sql``, drop what comes back."""
        self._send_query(sql)
        self._until_ready()

    def _send_query(self, sql: str) -> None:
        text = sql.encode() + b"\0"
        self.socket.sendall(b"Q" + struct.pack("!i", len(text) + 4) + text)

    def copy_out(self, sql: str) -> None:
        """Run ``sql``, a COPY TO STDOUT of what has no ReadyForQuery in it, and drop what comes."""
        self._send_query(sql)
        tail = b""
        room = memoryview(bytearray(1 << 18))
        while tail != READY:
            size = self.socket.recv_into(room)
            if not size:
                raise UnexpectedAnswer("the pooler closed the connection")
            tail = (tail + room[max(0, size - len(READY)) : size])[-len(READY) :]

    def copy_in(self, sql: str, messages: bytes) -> None:
        """Run ``sql``, a COPY FROM STDIN, of these messages."""
        self._send_query(sql)
        kind, body = self._message()
        if kind != b"G":
            raise UnexpectedAnswer(f"no copy begins: {body!r}")
        self.socket.sendall(messages)
        self._until_ready()

    def notification(self) -> None:
        """Wait for a notification."""
        kind, body = self._message()
        if kind != b"A":
            raise UnexpectedAnswer(f"no notification: {body!r}")

    def close(self) -> None:
        with self.socket:
            self.socket.sendall(b"X\0\0\0\4")

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _login(self) -> None:
        options = b"".join(part.encode() + b"\0" for part in ("user", USER, "database", self.database)) + b"\0"
        self.socket.sendall(struct.pack("!ii", len(options) + 8, 196608) + options)
        while True:
            kind, body = self._message()
            if kind != b"R":
                raise UnexpectedAnswer(f"message {kind!r} during the login: {body!r}")
            method = int.from_bytes(body[:4], "big")
            if method == 0:
                break
            if method == 3:
                answer = PASSWORD
            elif method == 5:
                inner = hashlib.md5((PASSWORD + USER).encode()).hexdigest().encode()
                answer = "md5" + hashlib.md5(inner + body[4:8]).hexdigest()
            else:
                raise UnexpectedAnswer(f"authentication method {method} is not known here: set the pooler to MD5")
            self.socket.sendall(b"p" + struct.pack("!i", len(answer) + 5) + answer.encode() + b"\0")
        self._until_ready()

    def _until_ready(self) -> None:
        while True:
            kind, body = self._message()
            if kind == b"E":
                raise UnexpectedAnswer(f"the pooler says {body!r}")
            if kind == b"Z":
                return

    def _message(self) -> tuple[bytes, bytes]:
        head = self._exactly(5)
        return head[:1], self._exactly(int.from_bytes(head[1:], "big") - 4)

    def _exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            piece = self.socket.recv(8192)
            if not piece:
                raise UnexpectedAnswer("the pooler closed the connection")
            self._buffer += piece
        taken, self._buffer = self._buffer[:size], self._buffer[size:]
        return taken


@contextmanager
def held(target: Target, count: int) -> Iterator[None]:
    """``count`` clients that have logged in and run a query, and rest meanwhile."""
    with ExitStack() as stack:
        for _ in range(count):
            stack.enter_context(Client(target.host, target.port)).query("SELECT 1")
        yield


def warm_up(target: Target) -> None:
    """Some clients come and go, so that servers and one-time costs are there."""
    for _ in range(2):
        with held(target, WARM_UP):
            pass


def kib_per_client(target: Target, count: int) -> float:
    """PSS that ``count`` idle clients add to the pooler, KiB each; every one has logged in and run a query."""
    warm_up(target)
    baseline = settled(target)
    with held(target, count):
        return (settled(target) - baseline) / count


def start_to_answer(target: Started) -> float:
    """Seconds from the start of the pooler, which is ended first, to the answer of its first query."""
    target.stop()
    begun = time.perf_counter()
    target.spawn()
    while True:
        try:
            with Client(target.host, target.port) as client:
                client.query("SELECT 1")
                took = time.perf_counter() - begun
        except (OSError, UnexpectedAnswer):
            if time.perf_counter() - begun > START_SECONDS or not target.running:
                raise
            time.sleep(0.001)
        else:
            target.start()
            return took


def settled(target: Target) -> int:
    """The memory of the pooler, KiB, once it stays within 0.1 % for a second."""
    assert target.pids
    deadline = time.monotonic() + SETTLE_SECONDS
    before = memory_kib(target.pids)
    while True:
        time.sleep(1)
        now = memory_kib(target.pids)
        if abs(now - before) <= now / 1000 or time.monotonic() > deadline:
            return now
        before = now
