"""Servers that can't be opened: the log says which, as whom and why, once; clients hear of it, whatever the server is."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from eventually import eventually
from fix_doorman import WORKERS, Doorman, MakeDoorman
from fix_postgres import Postgres
from pace import patience
from ports import free_port
from wire_client import Message, WireError, query

AUTHENTICATION_OK = b"R\0\0\0\x08\0\0\0\0"

NO_SERVERS = {
    "HTTP": b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
    "garbage": bytes(range(256)),
    "nothing": b"",
    "a length below four": b"R\0\0\0\x02",
    "a message too long": b"R\x7f\xff\xff\xff",
    "a cut message": b"R\0\0\0\x08\0",
    "an AuthenticationOk without a number": b"R\0\0\0\x04",
    "an error without fields": b"E\0\0\0\x04",
    "an error in pieces": b"E\0\0\0\x0aSFATAL",
    "a status without a value": AUTHENTICATION_OK + b"S\0\0\0\x08abc\0",
    "a key that is none": AUTHENTICATION_OK + b"K\0\0\0\x06\0\0",
    "ready too early": b"Z\0\0\0\x05I",
    "ready in a transaction": AUTHENTICATION_OK + b"Z\0\0\0\x05T",
    "SCRAM without a mechanism": b"R\0\0\0\x09\0\0\0\x0a\0",
}


@contextmanager
def answering(data: bytes) -> Iterator[tuple[int, list[int]]]:
    """The port of a server that says this to everybody and hangs up, and how many have come."""
    listening = socket.create_server(("127.0.0.1", 0))
    came = [0]

    def serve() -> None:
        while True:
            try:
                client, _ = listening.accept()
            except OSError:
                return
            with client:
                came[0] += 1
                try:
                    client.recv(10_000)
                    client.sendall(data)
                    client.shutdown(socket.SHUT_WR)
                    while client.recv(10_000):
                        pass
                except OSError:
                    pass

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listening.getsockname()[1], came
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join(patience(10))


def told(doorman: Doorman, password: str | None = None) -> Message:
    """The error a client gets: at its login if nobody has been there before, or for its first statement."""
    try:
        with doorman.wire(password=password) as client:
            client.send(query("SELECT 1"))
            return client.read()
    except WireError as exc:
        return exc.message


def over(port: int, **general: Any) -> dict[str, Any]:
    return {"general": general, "pools": {"testdb": {"server_port": port}}}


@pytest.mark.parametrize("wait", ["400ms", 0])
@pytest.mark.parametrize("kind", NO_SERVERS)
def test_what_is_no_postgresql(make_doorman: MakeDoorman, kind: str, wait: str | int) -> None:
    """The client is told in time, others try less and less often, and no traceback is logged."""
    with answering(NO_SERVERS[kind]) as (port, came):
        doorman = make_doorman(over(port, query_wait_timeout=wait, connect_timeout="2s"))
        error = told(doorman)
        assert error.kind == "E"
        assert error.sqlstate in ("08006", "08P01", "53300")
        doorman.wait_log(f"connecting to the server 127.0.0.1:{port} .*failed: ")
        assert came[0] < 15


def test_the_log_tells_once_and_then_counts(make_doorman: MakeDoorman) -> None:
    port = free_port()
    users = [{"username": "app", "password": "x", "pool_size": 2, "min_pool_size": 2}]
    pool = {"pools": {"testdb": {"server_port": port, "users": users}}}
    doorman = make_doorman({"general": {"query_wait_timeout": "300ms"}, **pool})

    def failures() -> list[str]:
        return [line for line in doorman.log_lines if "connecting to the server" in line]

    eventually(failures, message="it is logged")
    for _ in range(4):
        assert told(doorman, "x").sqlstate == "08006"
    assert 1 <= len(failures()) <= WORKERS  # each worker says it once
    assert f"127.0.0.1:{port} (database 'testdb', user 'app')" in failures()[0]
    assert "refused" in failures()[0]


def test_that_it_is_there_again_is_logged(make_doorman: MakeDoorman, own_postgres: Postgres) -> None:
    doorman = make_doorman(over(own_postgres.port, query_wait_timeout="20s"))
    with doorman.wire() as client:
        own_postgres.stop()
        client.send(query("SELECT 1"))
        doorman.wait_log("connecting to the server")
        own_postgres.start()
        client.read_ready()
    doorman.wait_log(r"connected to the server again, after \d+ failed attempts")


@pytest.mark.parametrize(
    ("user", "origin"),
    [
        ({"password": "wrong"}, "the user's password, as no server_password is set"),
        ({"password": "x", "server_username": "app", "server_password": "wrong"}, "server_password"),
    ],
)
def test_whose_password_was_wrong(make_doorman: MakeDoorman, user: dict[str, Any], origin: str) -> None:
    """In the log and to the client, which would take a plain 28P01 for its own; no password is shown."""
    doorman = make_doorman({"pools": {"testdb": {"users": [{"username": "app", "pool_size": 1, **user}]}}})
    error = told(doorman, user["password"])
    assert error.sqlstate == "28P01"
    text = f'the pooler\'s login as "app" with {origin} was refused: password authentication failed'
    assert text in error.fields["M"]
    line = doorman.wait_log("connecting to the server")
    assert text in line
    assert "wrong" not in line and "wrong" not in error.fields["M"]


def test_a_database_that_is_not_there(make_doorman: MakeDoorman) -> None:
    doorman = make_doorman({"pools": {"testdb": {"server_database": "nowhere"}}})
    error = told(doorman)
    assert error.sqlstate == "3D000"
    assert 'database "nowhere" does not exist' in error.fields["M"]
    doorman.wait_log(
        r"\(database 'nowhere', user 'app'\) failed: the pooler's login .* was refused: database \"nowhere\""
    )
