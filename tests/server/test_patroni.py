"""What is believed of answers of Patroni's REST API, and how hostile ones end."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import pytest
from gevent.pool import Pool
from gevent.server import StreamServer
from hypothesis import given
from hypothesis import strategies as st
from pace import patience

from pgdoorman_lib.server.patroni import MAX_BODY, MAX_MEMBERS, Member, PatroniError, ask, members_of

LEADER = {"name": "a", "role": "leader", "state": "running", "host": "10.0.0.1", "port": 5432, "timeline": 3}
SYNC = {"name": "b", "role": "sync_standby", "state": "streaming", "host": "db2", "port": 5433, "lag": 0}


def cluster(*members: object) -> bytes:
    return json.dumps({"members": list(members), "scope": "main"}).encode()


def reply(body: bytes, status: str = "200 OK", *more: str) -> bytes:
    lines = [f"HTTP/1.0 {status}", "Content-Type: application/json", *more, "", ""]
    return "\r\n".join(lines).encode() + body


class Api:
    """Answers every connection by ``handle``; ``requests`` are first lines."""

    def __init__(self) -> None:
        self.requests: list[bytes] = []
        self.handle: Callable[[Any], None] = lambda sock: sock.sendall(reply(cluster(LEADER, SYNC)))
        self.server = StreamServer(("127.0.0.1", 0), self._serve, spawn=Pool())
        self.server.start()

    def _serve(self, sock: Any, address: object) -> None:
        try:
            data = b""
            while b"\r\n\r\n" not in data:
                part = sock.recv(65536)
                if not part:
                    return
                data += part
            self.requests.append(data.partition(b"\r\n")[0])
            self.handle(sock)
        except OSError:
            pass
        finally:
            sock.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def api() -> Iterator[Api]:
    made = Api()
    yield made
    made.server.stop()


def test_members(api: Api) -> None:
    expected = [Member("10.0.0.1", 5432, "leader"), Member("db2", 5433, "sync_standby")]
    assert ask(api.url, patience(5.0)) == expected
    assert ask(f"{api.url}/prefix/", patience(5.0)) == expected
    assert api.requests == [b"GET /cluster HTTP/1.1", b"GET /prefix/cluster HTTP/1.1"]


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        (reply(b""), "not JSON"),
        (reply(b"<html>"), "not JSON"),
        (reply(b"\xff\xfe"), "not JSON"),
        (reply(b"[" * 100_000), "not JSON"),
        (reply(b"[]"), "without a list of members"),
        (reply(b'{"members": {}}'), "without a list of members"),
        (reply(cluster(*[SYNC] * (MAX_MEMBERS + 1))), "more than 100 members"),
        (reply(b" " * (MAX_BODY + 1)), "more than 262144 bytes"),
        (reply(cluster(LEADER), "503 Service Unavailable"), "status 503"),
        (reply(b"", "302 Found", "Location: http://127.0.0.1:1/"), "status 302"),
        (b"nonsense\r\n\r\n", "nonsense"),
        (b"HTTP/1.0 200 OK\r\n" + b"X: " + b"y" * 70_000 + b"\r\n\r\n", "header line"),
        (b"HTTP/1.0 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n", "100 headers"),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 1000\r\n\r\n{}", "without a list|not JSON|Incomplete"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "IncompleteRead|zz"),
        (b"", "PatroniError|closed|Remote"),
    ],
)
def test_what_is_no_answer(api: Api, sent: bytes, told: str) -> None:
    api.handle = lambda sock: sock.sendall(sent)
    with pytest.raises(PatroniError, match=told) as caught:
        ask(api.url, patience(5.0))
    assert api.url in caught.value.message and len(caught.value.message) < 300


def test_byte_by_byte_has_an_end(api: Api) -> None:
    def slowly(sock: Any) -> None:
        sock.sendall(reply(b"")[:-2])
        while True:
            sock.sendall(b"X: y\r\n")
            gevent.sleep(0.01)

    api.handle = slowly
    with pytest.raises(PatroniError, match=r"no answer within 0.2 s|100 headers"):
        ask(api.url, 0.2)


def test_an_endless_body_is_not_taken_in(api: Api) -> None:
    def endless(sock: Any) -> None:
        sock.sendall(reply(b'{"members": [', "200 OK"))
        while True:
            sock.sendall(b" " * 65536)

    api.handle = endless
    with pytest.raises(PatroniError, match="more than"):
        ask(api.url, patience(5.0))


def test_nobody_there(api: Api) -> None:
    api.server.stop()
    with pytest.raises(PatroniError, match="refused"):
        ask(api.url, patience(5.0))


def test_by_https_it_has_to_be_trusted(api: Api) -> None:
    with pytest.raises(PatroniError):
        ask(api.url.replace("http:", "https:"), patience(5.0))


def test_members_that_make_no_sense_are_left_out() -> None:
    odd: list[object] = [
        None,
        5,
        {},
        [],
        {**SYNC, "host": ""},
        {**SYNC, "host": 5},
        {**SYNC, "host": "/tmp"},
        {**SYNC, "host": "a b"},
        {**SYNC, "host": "a\0b"},
        {**SYNC, "host": "x" * 256},
        {**SYNC, "port": "5432"},
        {**SYNC, "port": True},
        {**SYNC, "port": 0},
        {**SYNC, "port": 65536},
        {**SYNC, "port": 5432.0},
        {**SYNC, "role": None},
        {**SYNC, "state": "stopped"},
        {**SYNC, "state": ["running"]},
        {**SYNC, "state": "start failed"},
    ]
    assert members_of(cluster(*odd, SYNC, SYNC)) == [Member("db2", 5433, "sync_standby")]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["members", "host", "port", "role", "state"]) | st.text(max_size=5), inner)
    ),
    max_leaves=20,
)


@given(json_values | st.builds(lambda rows: {"members": rows}, st.lists(json_values, max_size=5)))
def test_any_json(value: object) -> None:
    try:
        found = members_of(json.dumps(value).encode())
    except ValueError:
        return
    assert all(isinstance(each, Member) and each.host and 0 < each.port <= 65535 for each in found)


@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    try:
        members_of(data)
    except ValueError:
        pass
