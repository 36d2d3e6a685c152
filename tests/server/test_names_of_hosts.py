"""Names of hosts by gevent's resolver, whose answers are stubs, and servers that listen at the addresses they give."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import gevent
import pytest
from gevent import socket as gsocket
from pace import patience
from scripted_postgres import AUTH_OK, WELCOME, Connection, FakePostgres, Settings

from pgdoorman_lib.net import connect
from pgdoorman_lib.net.engine import Engine
from pgdoorman_lib.server.auth import Credentials
from pgdoorman_lib.server.cancel import send_cancel
from pgdoorman_lib.server.hosts import Hosts
from pgdoorman_lib.server.login import login

ONE, TWO = "127.0.0.1", "127.0.0.2"


class NamedSettings(Settings):
    """Of a host ``db``."""

    target_session_attrs = "any"
    load_balance_hosts = "disable"

    @property
    def servers(self) -> tuple[tuple[str, int], ...]:
        return (("db", self.server_port),)

    def at(self, host: str, port: int) -> NamedSettings:
        return self


def trusting(connection: Connection) -> None:
    connection.startup()
    connection.send(AUTH_OK, WELCOME)
    assert connection.gone()


@pytest.fixture
def both() -> Iterator[dict[str, FakePostgres]]:
    """A PostgreSQL at each address, on the same port."""
    made = {}
    for address in (ONE, TWO):
        listener = gsocket.socket(gsocket.AF_INET, gsocket.SOCK_STREAM)
        listener.bind((address, made[ONE].port if made else 0))
        listener.listen(8)
        made[address] = FakePostgres(listener)
    yield made
    for server in made.values():
        server.close()


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What names lead to."""
    made: dict[str, Any] = {}

    def getaddrinfo(host: str, port: int, **more: Any) -> list[Any]:
        found = made[host]
        if isinstance(found, Callable):  # type: ignore[arg-type]
            found()
            raise socket.gaierror(socket.EAI_AGAIN, "try again")
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", (address, port)) for address in found]

    monkeypatch.setattr(connect, "getaddrinfo", getaddrinfo)
    return made


def open_once(hosts: Hosts, engine: Engine, settings: Any) -> str:
    """Where a server was opened."""

    def attempt(settings: Any, address: str, wanted: str) -> Any:
        made = login(settings, engine, Credentials("app", password="secret"), address=address)
        made.stream.close()
        return SimpleNamespace(at=address, reported=SimpleNamespace(values={}))

    return str(hosts.open(settings, attempt).at)  # type: ignore[attr-defined]


def test_dns_changes(engine: Engine, both: dict[str, FakePostgres], names: dict[str, Any]) -> None:
    hosts = Hosts(engine)
    settings = NamedSettings(server_port=both[ONE].port)
    for address in (ONE, TWO, ONE):
        both[address].play(trusting)
        names["db"] = [address]
        assert open_once(hosts, engine, settings) == address


def test_all_addresses_are_tried(engine: Engine, both: dict[str, FakePostgres], names: dict[str, Any]) -> None:
    names["db"] = ["127.0.0.3", TWO]
    both[TWO].play(trusting)
    assert open_once(Hosts(engine), engine, NamedSettings(server_port=both[ONE].port)) == TWO


def test_a_cancel_goes_to_the_address_of_its_connection(
    engine: Engine, both: dict[str, FakePostgres], names: dict[str, Any]
) -> None:
    """Which the name may not lead to any more."""
    names["db"] = [ONE]
    both[TWO].play(lambda connection: connection.packet())
    settings = NamedSettings(server_host="db", server_port=both[ONE].port)
    send_cancel(settings, engine, 7, b"key!", patience(5.0), tls=False, address=TWO)
    [packet] = both[TWO].join()
    assert packet.endswith(b"key!")


def test_a_resolver_that_hangs_holds_nobody_up(
    engine: Engine, both: dict[str, FakePostgres], names: dict[str, Any]
) -> None:
    """One name hangs, the other host is opened as soon as its time is over, and all greenlets run meanwhile."""
    names["slow"] = lambda: gevent.sleep(patience(30))
    names["db"] = [ONE]

    class Two(NamedSettings):
        @property
        def servers(self) -> tuple[tuple[str, int], ...]:
            return (("slow", self.server_port), ("db", self.server_port))

    hosts = Hosts(engine)
    settings = Two(server_port=both[ONE].port, connect_timeout=0.3)
    both[ONE].play(trusting)
    turns = 0

    def count() -> None:
        nonlocal turns
        while True:
            gevent.sleep(0.01)
            turns += 1

    counting = gevent.spawn(count)
    assert open_once(hosts, engine, settings) == ONE
    counting.kill()
    assert turns > 3
    both[ONE].play(trusting)
    began = time.monotonic()
    assert open_once(hosts, engine, settings) == ONE  # not asked again before its turn
    assert time.monotonic() - began < patience(30)
    [place] = [place for place, breaker in hosts.known() if breaker.failures]
    assert (place.host, place.address) == ("slow", "")
