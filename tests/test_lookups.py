"""The connections by which users are looked up, before servers that answer anything: none is used again in doubt."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import gevent
import pytest
from core_fakes import Settings, running, server_pair, until
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pace import patience

from pgdoorman_lib.auth.answer import judge
from pgdoorman_lib.errors import (
    DoormanError,
    ServerGone,
    ServerProtocolViolation,
    ServerRefused,
    ServerUnavailable,
)
from pgdoorman_lib.lookups import Reader
from pgdoorman_lib.net.engine import Engine
from pgdoorman_lib.pool.pool import Pool
from pgdoorman_lib.server.connection import Server
from pgdoorman_lib.server.execute import run
from pgdoorman_lib.wire import messages
from pgdoorman_lib.wire.lookup import request
from pgdoorman_lib.wire.messages import command_complete, data_row, parameter_description, row_description
from pgdoorman_lib.wire.session_state import DIRTY_SESSION

SECRET = b"md5" + b"0" * 32
PARSED, BOUND, READY = b"1\0\0\0\4", b"2\0\0\0\4", messages.ready_for_query()
DESCRIBED = parameter_description([19]) + row_description([("passwd", 25, -1)])
ROLE = PARSED + BOUND + data_row([None, b"1", b"md5", b"4096"]) + command_complete("SELECT 1")
FOUND = PARSED + DESCRIBED + BOUND + data_row([SECRET]) + command_complete("SELECT 1") + ROLE + READY


class House:
    """A reader, and the far ends of its servers, which say ``answer`` to the first request, and then are PostgreSQL."""

    def __init__(self, engine: Engine, answer: bytes, **changes: Any) -> None:
        self.engine = engine
        self.answer = answer
        self.heard: list[bytes] = []
        self.tidied: list[Server] = []
        self.far: list[Any] = []
        self.greenlets: list[gevent.Greenlet[..., None]] = []
        self.pool = Pool(Settings(pool_size=1, pool_mode="session", **changes), engine, self._connect, self._tidy)
        self.reader = Reader(self.pool, "SELECT passwd FROM people WHERE name = $1")

    def _connect(self, pool: Pool) -> Server:
        server, far = server_pair(self.engine, pool.settings)
        self.far.append(far)
        self.greenlets.append(gevent.spawn(self._serve, far))
        return server

    def _serve(self, far: Any) -> None:
        try:
            self.heard.append(far.recv(1 << 16))
            if self.answer:
                far.sendall(self.answer)
            while far.recv(1 << 16):
                far.sendall(command_complete("DISCARD ALL") + READY)
        except OSError:
            pass

    def _tidy(self, pool: Pool, server: Server) -> None:
        assert server.dirty & DIRTY_SESSION
        self.tidied.append(server)
        run(server, "DISCARD ALL")
        server.dirty = 0
        pool.settle(server)

    def close(self) -> None:
        gevent.killall(self.greenlets)
        self.pool.retire("the end")
        for far in self.far:
            far.close()


@pytest.fixture
def engine() -> Iterator[Engine]:
    with running("epoll") as made:
        yield made


def test_an_answer(engine: Engine) -> None:
    house = House(engine, FOUND)
    found = house.reader.ask("O'Brien")
    assert judge(found).secret == SECRET.decode()
    assert house.heard == [request("SELECT passwd FROM people WHERE name = $1", "O'Brien")]
    assert house.heard[0].count(b"O'Brien") == 2 and b"name = $1\0" in house.heard[0]
    assert len(house.tidied) == 1 and house.pool.idle_count == 1, "it was cleaned, and rests"
    house.close()


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (PARSED + b"E" + struct.pack("!I", 19) + b"SERROR\0C22012\0\0" + READY, ServerRefused),
        (PARSED + DESCRIBED + BOUND + b"E" + struct.pack("!I", 19) + b"SERROR\0CP0001\0\0" + READY, ServerRefused),
    ],
)
def test_a_query_that_fails_leaves_the_connection(engine: Engine, answer: bytes, error: type[DoormanError]) -> None:
    house = House(engine, answer)
    with pytest.raises(error):
        house.reader.ask("alice")
    assert len(house.tidied) == 1 and house.pool.idle_count == 1
    house.close()


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"E" + struct.pack("!I", 26) + b"SFATAL\0VFATAL\0C57P01\0\0", ServerRefused),
        (READY, ServerProtocolViolation),
        (PARSED + b"G\0\0\0\7\0\0\0", ServerProtocolViolation),
        (PARSED + b"T\0\0\0\5\1", ServerProtocolViolation),
        (PARSED + b"D\0\0\0\3", ServerProtocolViolation),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", ServerProtocolViolation),
        (b"", ServerUnavailable),
        (FOUND[:-1], ServerUnavailable),
        (PARSED + DESCRIBED + BOUND + b"D" + struct.pack("!I", 1 << 29), ServerUnavailable),
    ],
)
def test_what_is_no_answer_ends_the_connection(engine: Engine, answer: bytes, error: type[DoormanError]) -> None:
    house = House(engine, answer, connect_timeout=patience(0.3 if error is ServerUnavailable else 5.0))
    with pytest.raises(error):
        house.reader.ask("alice")
    until(lambda: not house.pool.servers, "the server is closed")
    house.close()


def test_a_query_that_begins_a_transaction_has_its_connection_to_itself(engine: Engine) -> None:
    house = House(engine, FOUND[: -len(READY)] + messages.ready_for_query(b"T"))
    house.reader.ask("alice")
    until(lambda: not house.pool.servers, "the server is closed")
    house.close()


def test_a_server_that_goes_away(engine: Engine) -> None:
    house = House(engine, FOUND)
    house.reader.ask("alice")
    house.far[0].close()
    with pytest.raises(DoormanError):
        house.reader.ask("alice")
    assert ServerGone.fault == "server"
    house.close()


def test_a_row_that_is_too_long_is_passed_over(engine: Engine) -> None:
    house = House(engine, FOUND.replace(data_row([SECRET]), data_row([b"x" * 1_000_000])))
    verdict = judge(house.reader.ask("alice"))
    assert not verdict.secret and not verdict.usable
    assert house.pool.idle_count == 1
    house.close()


_pieces = st.sampled_from(
    [PARSED, BOUND, DESCRIBED, ROLE, READY, data_row([SECRET]), data_row([None]), command_complete("SELECT 1"), b"x"]
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(_pieces | st.binary(max_size=12), max_size=14))
def test_whatever_a_server_says(engine: Engine, pieces: list[bytes]) -> None:
    answer = b"".join(pieces)
    house = House(engine, answer, connect_timeout=0.05)
    try:
        verdict = judge(house.reader.ask("alice"))
    except DoormanError:
        pass
    else:
        assert not verdict.secret or answer.count(SECRET) == 1
    until(lambda: house.pool.borrowed_count == 0, "nobody has it")
    for server in house.pool.servers:
        assert server.is_reusable() and not server.dirty
    house.close()
