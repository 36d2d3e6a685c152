"""Sockets, settings and servers for tests of the data path: everything real but PostgreSQL at the far end."""

from __future__ import annotations

import dataclasses
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import gevent
from gevent import socket as gsocket
from gevent.event import Event
from mini_postgres import MiniPostgres
from pace import patience

from pgdoorman_lib.errors import ConfigError
from pgdoorman_lib.net.engine import Engine
from pgdoorman_lib.net.engines import choose
from pgdoorman_lib.net.stream import Stream
from pgdoorman_lib.net.syscalls import clock
from pgdoorman_lib.server.connection import Server

#: Seconds nothing in these tests may take.
PATIENCE = patience(10.0)


def _available() -> tuple[str, ...]:
    """The engines this build and this kernel have."""
    names = ["gevent"]
    for name in ("epoll", "uring"):
        try:
            choose(name).close()
        except (ConfigError, NameError, OSError):
            continue
        names.append(name)
    return tuple(names)


ENGINES = _available()


#: What servers report at their login.
REPORTED = {"TimeZone": "Etc/UTC"}


@dataclass(frozen=True)
class Settings:
    """The part of a pool's settings that the data path reads."""

    user: str = "alice"
    database: str = "shop"
    secret: str = ""
    server_password: str | None = None
    server_host: str = "127.0.0.1"
    server_port: int = 5432
    connect_timeout: float = patience(5.0)
    pool_mode: str = "transaction"
    pool_size: int = 3
    min_pool_size: int = 0
    query_wait_timeout: float = patience(5.0)
    pooler_check_query: str = ";"
    idle_timeout: float = 0.0
    server_idle_check_timeout: float = 0.0
    server_round_robin: bool = False
    scaling_max_parallel_creates: int = 2
    max_concurrent_creates: int = 4
    log_client_parameter_status_changes: bool = False
    cleanup_server_connections: bool = True
    session_state: str = "reset"
    shared_backend: str = "warn"
    server_host: str = "127.0.0.1"
    server_port: int = 5432
    server_database: str = "shop"
    client_eof_timeout: float = 0.0
    max_pinned_servers: int = 2
    server_username: str = "alice"
    own_parameters: tuple[tuple[str, str], ...] = ()
    sync_server_parameters: bool = True
    prepared_statements: bool = True
    prepared_statements_cache_size: int = 100
    prepared_statements_cache_bytes: int = 2 << 20
    server_prepared_statements_cache_size: int = 100
    message_size_to_be_stream: int = 1 << 20
    application_name: str = "pg_doorman"
    forget_option_names: bool = False
    target_session_attrs: str = "any"
    patroni_api_urls: tuple[str, ...] = ()

    @property
    def servers(self) -> tuple[tuple[str, int], ...]:
        return ((self.server_host, self.server_port),)

    def at(self, host: str, port: int) -> Settings:
        return dataclasses.replace(self, server_host=host, server_port=port)


@contextmanager
def running(name: str) -> Iterator[Engine]:
    """An engine, and at the end nothing of it."""
    engine = choose(name)
    try:
        yield engine
    finally:
        gevent.sleep(0)  # a turn that was asked for has its chance
        engine.close()


def stream_pair(engine: Engine, *, buffer: int = 0, cooperative: bool = True) -> tuple[Stream, Any]:
    """A stream and the socket at its other end; ``buffer`` limits what the kernel holds, bytes."""
    ours, theirs = (gsocket if cooperative else socket).socketpair()
    if buffer:
        for sock in (ours, theirs):
            sock.setsockopt(gsocket.SOL_SOCKET, gsocket.SO_SNDBUF, buffer)
            sock.setsockopt(gsocket.SOL_SOCKET, gsocket.SO_RCVBUF, buffer)
    ours.setblocking(False)
    return Stream(ours, engine), theirs


def server_pair(
    engine: Engine, settings: Any = None, *, buffer: int = 0, cooperative: bool = True
) -> tuple[Server, Any]:
    """A logged-in server connection, and PostgreSQL's end of it."""
    stream, theirs = stream_pair(engine, buffer=buffer, cooperative=cooperative)
    settings = settings if settings is not None else Settings()
    server = Server(stream, settings, 4711, b"key!", REPORTED, clock(), float("inf"))
    return server, theirs


def receive_all(sock: Any) -> bytes:
    """What is there to read now, without waiting."""
    data = b""
    if sock.fileno() < 0:
        return data
    sock.setblocking(False)
    try:
        while part := sock.recv(1 << 20):
            data += part
    except (BlockingIOError, ConnectionResetError):
        pass
    return data


class Postgres:
    """A MiniPostgres behind a socket, in a greenlet; it answers while ``awake`` is set."""

    def __init__(self, sock: Any) -> None:
        self.sock = sock
        self.mini = MiniPostgres()
        self.awake = Event()
        self.awake.set()
        #: everything it was sent, and asides: the connections it was asked to cancel
        self.heard = b""
        self.greenlet = gevent.spawn(self._serve)

    def _serve(self) -> None:
        try:
            while data := self.sock.recv(65536):
                self.heard += data
                self.mini.receive(data)
                while self.mini.inbox and not self.mini.ended:
                    self.awake.wait()
                    self.mini.work(1)
                    if answer := self.mini.take():
                        self.sock.sendall(answer)
        except OSError:
            pass
        finally:
            self.sock.close()

    def close(self) -> None:
        self.greenlet.kill()
        self.sock.close()


def until(probe: Callable[[], object], what: str = "the condition") -> None:
    """Let the other greenlets run until ``probe`` is true."""
    with gevent.Timeout(PATIENCE, AssertionError(f"{what}: not within {PATIENCE} s")):
        while not probe():
            gevent.sleep(0.001)
