"""The end of a connection whose client has not taken its answers yet: they come, and our last words behind them."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from eventually import eventually
from fix_doorman import Doorman, MakeDoorman, until_idle
from fix_postgres import Postgres
from wire_client import TERMINATE, Message, WireClient, kinds, query

#: Bytes of a row. What the kernel takes of them is little; the rest waits with us when the server is given back.
SIZES = range(5_000, 35_000, 3_000)


@pytest.fixture
def crowded(make_doorman: MakeDoorman, short_directory: Path, request: pytest.FixtureRequest) -> Doorman:
    """With small sockets; the parameter is its io_engine."""
    engine = getattr(request, "param", "auto")
    return make_doorman(
        {"general": {"unix_socket_dir": str(short_directory), "unix_socket_buffer_size": 4096, "io_engine": engine}}
    )


@pytest.fixture
def clients(crowded: Doorman, short_directory: Path) -> Iterator[dict[int, WireClient]]:
    """Each has asked for a row of a size and reads nothing; all servers are back in the pool."""
    made: dict[int, WireClient] = {}
    try:
        for size in SIZES:
            made[size] = WireClient(f"{short_directory}/.s.PGSQL.{crowded.port}")
            made[size].login("app", "testdb", Postgres.PASSWORDS["app"])
        for size, client in made.items():
            client.send(query(f"SELECT repeat('x', {size})"))
        yield made
    finally:
        for client in made.values():
            client.close()


def all_wait(doorman: Doorman) -> None:
    """Servers are free again, while clients have not taken what is theirs."""
    eventually(lambda: doorman.pool()["sv_active"] == 0)
    eventually(lambda: sum(r["wait"] == "write" for r in doorman.admin("SHOW CLIENTS")) > len(SIZES) / 2)


def answered(messages: list[Message], size: int) -> bool:
    return kinds(messages)[:4] == "TDCZ" and messages[1].columns == [b"x" * size]


@pytest.mark.parametrize("crowded", ["auto", "gevent"], indirect=True)
def test_terminate(crowded: Doorman, clients: dict[int, WireClient]) -> None:
    """Who says it may still read."""
    all_wait(crowded)
    for client in clients.values():
        client.send(TERMINATE)
    eventually(lambda: not [r for r in crowded.admin("SHOW CLIENTS") if r["user"] == "app"])
    for size, client in clients.items():
        messages = client.read_messages_to_end()
        assert answered(messages, size) and len(messages) == 4, size


@pytest.mark.parametrize("crowded", ["auto", "gevent"], indirect=True)
def test_shutdown(crowded: Doorman, clients: dict[int, WireClient]) -> None:
    """An answer under way is a transaction under way; who has it is told to go."""
    all_wait(crowded)
    crowded.send_signal(signal.SIGTERM)
    crowded.wait_log("waiting up to")
    for size, client in clients.items():
        messages = client.read_messages_to_end()
        assert answered(messages, size), size
        assert [m.sqlstate for m in messages[4:]] == ["57P01"], size
    assert crowded.wait() == 0


def test_a_pool_is_removed(crowded: Doorman, clients: dict[int, WireClient]) -> None:
    all_wait(crowded)
    config = dict(crowded.config)
    config["pools"] = {name: pool for name, pool in config["pools"].items() if name != "testdb"}
    crowded.reload(config)
    for size, client in clients.items():
        assert answered(client.read_ready(), size), size
        client.send(query("SELECT 1"))
        assert [m.sqlstate for m in client.read_messages_to_end()] == ["3D000"], size


def test_the_server_is_terminated(crowded: Doorman, clients: dict[int, WireClient], postgres: Postgres) -> None:
    """Its last words come behind what it has said before."""
    client = clients[20_000]
    assert answered(client.read_ready(), 20_000)
    assert kinds(client.ask(query("BEGIN"))) == "CZ"
    pid = client.value("SELECT pg_backend_pid()")
    client.send(query("SELECT repeat('x', 20000)"))
    eventually(lambda: any(r["wait"] == "write" and r["state"] == "active" for r in crowded.admin("SHOW CLIENTS")))
    postgres.terminate(int(pid or 0))
    # The session is over before its client reads.
    eventually(lambda: sum(r["user"] == "app" for r in crowded.admin("SHOW CLIENTS")) == len(clients) - 1)
    messages = client.read_messages_to_end()
    assert answered(messages, 20_000)
    assert [m.sqlstate for m in messages[4:]] == ["57P01"]


def test_who_reads_nothing_keeps_nobody(crowded: Doorman, clients: dict[int, WireClient]) -> None:
    """Neither a descriptor nor the end of the process."""
    all_wait(crowded)
    before = crowded.open_files()
    for client in clients.values():
        client.send(TERMINATE)
    eventually(lambda: crowded.open_files() <= before - len(SIZES), timeout=15)
    until_idle(crowded, "testdb")
