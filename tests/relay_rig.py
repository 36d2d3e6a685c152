"""Relays between scripted or byte-level PostgreSQLs, driven step by step without a hub: nothing runs but what a test says."""

from __future__ import annotations

from typing import Any

from core_fakes import Settings, receive_all, server_pair, stream_pair
from mini_postgres import MiniPostgres

from pgdoorman_lib.client.events import CLIENT_GONE, NEED_SERVER, RELEASE
from pgdoorman_lib.client.link import Link, Owner
from pgdoorman_lib.client.relay import relay_for
from pgdoorman_lib.metrics.counters import LinkStats
from pgdoorman_lib.net.engine import Engine, Task
from pgdoorman_lib.pool.pool import Pool
from pgdoorman_lib.server.connection import Server
from pgdoorman_lib.wire.session_state import DIRTY_PREPARED, DIRTY_SESSION, cleaning_sql
from pgdoorman_lib.wire.settings import BASE
from pgdoorman_lib.wire.statements import Registry


class Backend:
    """A server connection; what is at its far end is a MiniPostgres, or the test itself."""

    def __init__(self, engine: Engine, settings: Any = None, *, buffer: int = 0) -> None:
        self.engine = engine
        self.server, self.socket = server_pair(engine, settings, buffer=buffer, cooperative=False)
        self.postgres = MiniPostgres()

    def hear(self) -> bytes:
        """What has been sent to PostgreSQL since the last time."""
        self.engine.flush()
        self.server.stream.push()  # what met a full socket, as an event would
        return receive_all(self.socket)

    def say(self, data: bytes) -> None:
        """PostgreSQL says ``data``."""
        self.socket.setblocking(True)
        if data:
            self.socket.sendall(data)
        self.server.stream.readable = 1

    def work(self, count: int = 1 << 30) -> None:
        """Let the MiniPostgres carry out so many messages."""
        self.postgres.receive(self.hear())
        self.postgres.work(count)
        self.say(self.postgres.take())

    def clean(self) -> None:
        """What the janitor does before a server is lent on."""
        dirty = self.server.dirty
        for sql in cleaning_sql(dirty):
            self.postgres.query_aside(sql)
        if dirty & (DIRTY_PREPARED | DIRTY_SESSION):
            self.server.statements.clear()
        if dirty:
            self.server.statements.unnamed = None
        self.server.dirty = 0

    def close(self) -> None:
        self.server.stream.close()
        self.socket.close()


def _no_server(pool: Pool) -> Server:
    raise AssertionError("what is borrowed is said by the test")


def _no_janitor(pool: Pool, server: Server) -> None:
    raise AssertionError("what is given back is cleaned by the test")


class Client:
    """A relay and the far end of its client."""

    def __init__(self, engine: Engine, registry: Registry | None = None, *, buffer: int = 0) -> None:
        self.engine = engine
        self.stream, self.socket = stream_pair(engine, buffer=buffer, cooperative=False)
        self.owner = Owner()
        self.owner.task = Task(engine)
        self.owner.settings = BASE
        self.stream.task = self.owner.task
        self.link = Link(self.owner, self.stream, LinkStats())
        self.link.use(Pool(Settings(), engine, _no_server, _no_janitor))
        if registry is not None:
            self.link.registry = registry
            self.link.knowledge.join(registry)
        self.relay = relay_for(self.link)
        self.backend: Backend | None = None
        #: how often it has borrowed one
        self.borrows = 0
        self.heard = b""
        self.most_pending = 0

    def say(self, data: bytes) -> None:
        self.socket.setblocking(True)
        if data:
            self.socket.sendall(data)
        self.stream.readable = 1

    def step(self) -> int:
        """One step of the relay, and all sends."""
        self.stream.readable = 1
        if self.link.srv is not None:
            self.link.srv.readable = 1
        status = self.relay.step()
        pending = self.stream.out_pending + (self.link.srv.out_pending if self.link.srv is not None else 0)
        self.most_pending = max(self.most_pending, pending)
        self.engine.flush()
        self.stream.push()  # what met a full socket, as an event would
        self.heard += receive_all(self.socket)
        return int(status)

    def borrow(self, backend: Backend) -> None:
        self.borrows += 1
        self.backend = backend
        self.link.attach(backend.server)

    def give_back(self) -> Backend:
        backend = self.backend
        assert backend is not None
        self.link.detach()
        self.backend = None
        return backend

    def go(self, free: list[Backend]) -> int:
        """Step until something else must happen first, borrowing from ``free`` and giving back to it."""
        while True:
            status = self.step()
            if status == NEED_SERVER and free:
                self.borrow(free.pop())
            elif status == RELEASE:
                backend = self.give_back()
                assert backend.server.is_reusable(), "a server is given back in an unknown state"
                backend.clean()
                free.append(backend)
            else:
                return status

    def close(self) -> None:
        self.stream.close()
        self.socket.close()


__all__ = ["CLIENT_GONE", "Backend", "Client", "Server", "Settings"]
