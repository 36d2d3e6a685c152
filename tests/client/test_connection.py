"""Clients from their first byte to their session, on all engines: those never seen before, and those like earlier ones."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import gevent
import pytest
from core_fakes import ENGINES, PATIENCE, Settings, running, until
from gevent import socket as gsocket
from scramp import ScramClient

from pgdoorman_lib.auth import hba
from pgdoorman_lib.auth.md5 import hash_password
from pgdoorman_lib.auth.users import Users
from pgdoorman_lib.auth.verify import Candidate
from pgdoorman_lib.client.connection import Connection, accept
from pgdoorman_lib.client.login import Accepted
from pgdoorman_lib.client.login_cache import MAX_PACKET, MAX_REMEMBERED, LoginCache
from pgdoorman_lib.client.logins import Logins
from pgdoorman_lib.client.pooler import Pooler
from pgdoorman_lib.client.registry import Clients
from pgdoorman_lib.errors import ShuttingDown
from pgdoorman_lib.listener import open_tcp
from pgdoorman_lib.metrics.counters import ConnectionStats
from pgdoorman_lib.net.engine import Engine
from pgdoorman_lib.pool.pool import Pool
from pgdoorman_lib.wire.baseline import UNKNOWN
from pgdoorman_lib.wire.reported import Reported

KEY = b"k" * 32
SSL = struct.pack("!ii", 8, 80877103)
GSS = struct.pack("!ii", 8, 80877104)
TERMINATE = b"X\0\0\0\4"
PASSWORD = "open sesame"


def startup(protocol: int = 196608, **parameters: str) -> bytes:
    body = b"".join(k.encode() + b"\0" + v.encode() + b"\0" for k, v in parameters.items()) + b"\0"
    return struct.pack("!ii", len(body) + 8, protocol) + body


HELLO = startup(user="alice", database="shop", application_name="till")


def answer(challenge: bytes, password: str = PASSWORD, user: str = "alice") -> bytes:
    """The PasswordMessage to an AuthenticationMD5Password."""
    assert challenge[:9] == b"R\0\0\0\x0c\0\0\0\5", challenge
    inner = hashlib.md5((password + user).encode()).hexdigest().encode()
    text = b"md5" + hashlib.md5(inner + challenge[9:13]).hexdigest().encode() + b"\0"
    return b"p" + struct.pack("!I", len(text) + 4) + text


class General:
    tls_mode = "allow"
    admin_username = "admin"
    admin_password = "console"
    max_connections = 10
    max_login_connections = 0
    max_login_connections_per_address = 0
    proxy_protocol: tuple[str, ...] = ()
    max_db_client_connections = 0
    max_user_client_connections = 0
    application_name_add_host = False
    log_client_connections = False
    log_client_disconnections = False


class User:
    def __init__(self, name: str, password: str) -> None:
        self.username = name
        self.password = password


class Inn(Pooler):
    """The application around the connections: one pool of two users, whose servers are never needed."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(General())  # type: ignore[arg-type]
        self.engine = engine
        self.clients = Clients()
        self.connections = ConnectionStats()
        self.limit = 0.0
        self.logins = Logins(lambda: self.limit)
        self.govern(self.general)
        self.pool: Pool | None = self.new_pool()
        self.configure(PASSWORD)
        #: logins about which everything had to be decided
        self.decided = 0
        self.came: list[Connection] = []
        self.cancelled: list[tuple[int, bytes]] = []
        (self.listener,) = open_tcp("127.0.0.1", 0, self._let_in, engine)
        self.listener.listen(50)
        self.listener.start()

    def _let_in(self, sock: Any) -> None:
        before = set(self.open)
        accept(self, sock)
        self.came += self.open - before

    def new_pool(self) -> Pool:
        pool = Pool(Settings(), self.engine, self._no_server, self._no_server)
        pool.beginnings.reported = Reported.of({"server_version": "17.0"})
        pool.beginnings.base = UNKNOWN
        return pool

    def _no_server(self, *args: Any) -> Any:
        raise AssertionError("nobody needs a server here")

    def configure(self, password: str) -> None:
        """As a reload does."""
        accounts = [
            User("alice", hash_password(password, "alice")),
            User("bob", "md5" + "0" * 32),
            User("carol", password),
        ]
        users = Users({"shop": SimpleNamespace(users=accounts)}, KEY)
        self.policy = SimpleNamespace(
            general=self.general,
            tls_context=None,
            handshakes=None,
            hba=SimpleNamespace(admit=self._decide),
            cache=LoginCache(),
            mock_secret=KEY,
            find_user=users.find,
            database_of=users.database_of,
            looks_up=lambda database: False,
            stand_in=lambda user, found: users.stand_in(user),
            judge=lambda database, user, found: users.judge(database, user),
            is_admin_database=lambda name: name == "pgdoorman",
            console_secret={self.general.admin_username: self.general.admin_password}.get,
        )

    def _decide(self, **client: Any) -> str | None:
        self.decided += 1
        return hba.AddressList().admit(**client)

    def find_pool(self, database: str, user: str) -> Pool | None:
        return self.pool

    def abandon(self, *args: Any) -> None:
        raise AssertionError("there is no server")

    def cancel(self, number: int, secret: bytes) -> None:
        self.cancelled.append((number, secret))

    def close(self) -> None:
        self.listener.close()
        self.logins.close()
        until(lambda: not self.open)
        assert self.admitted == 0
        assert len(self.logins) == 0
        assert len(self.clients) == 0


class Guest:
    """A client."""

    def __init__(self, inn: Inn, first: bytes = HELLO) -> None:
        self.socket = gsocket.create_connection(inn.listener.socket.getsockname())
        self.socket.settimeout(PATIENCE)
        self.say(first)

    def say(self, data: bytes) -> None:
        self.socket.sendall(data)

    def hear(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = self.socket.recv(size - len(data))
            assert part, data
            data += part
        return data

    def hear_one(self) -> tuple[str, bytes]:
        """A message's type and body."""
        head = self.hear(5)
        return chr(head[0]), self.hear(int.from_bytes(head[1:], "big") - 4)

    def hear_ready(self) -> list[tuple[str, bytes]]:
        """Messages up to ReadyForQuery."""
        heard: list[tuple[str, bytes]] = []
        while not heard or heard[-1][0] != "Z":
            heard.append(self.hear_one())
        return heard

    def hear_end(self) -> bytes:
        data = b""
        while part := self.socket.recv(4096):
            data += part
        self.socket.close()
        return data

    def enter(self, password: str = PASSWORD) -> list[tuple[str, bytes]]:
        self.say(answer(self.hear(13), password))
        return self.hear_ready()

    def leave(self) -> None:
        self.say(TERMINATE)
        assert self.hear_end() == b""


@pytest.fixture(params=ENGINES)
def inn(request: pytest.FixtureRequest) -> Iterator[Inn]:
    """One in which somebody like HELLO was before."""
    with running(request.param) as engine:
        made = Inn(engine)
        guest = Guest(made)
        guest.enter()
        guest.leave()
        assert len(made.policy.cache) == 1
        made.came.clear()
        made.decided = 0
        yield made
        made.close()


def came(inn: Inn) -> Connection:
    until(lambda: len(inn.came) == 1)
    return inn.came[0]


def test_about_one_like_another_nothing_is_decided(inn: Inn) -> None:
    guest = Guest(inn)
    challenge = guest.hear(13)
    guest.say(answer(challenge))
    heard = guest.hear_ready()
    assert inn.decided == 0
    (session,) = inn.clients
    assert session.task.greenlet is None  # nor has it a stack
    other = Guest(inn)
    assert other.hear(13)[9:] != challenge[9:]  # a salt of its own
    stranger = Guest(inn, startup(user="alice", database="shop", application_name="other"))
    until(lambda: inn.decided == 1)
    without_key = [[body for kind, body in messages if kind != "K"] for messages in (heard, stranger.enter())]
    assert without_key[0] == [body.replace(b"other", b"till") for body in without_key[1]]
    assert inn.connections.plain == 3
    guest.leave()
    stranger.leave()
    other.socket.close()
    until(lambda: inn.connections.errors == 1)


def test_the_session_has_the_settings_of_the_first(inn: Inn) -> None:
    guest = Guest(inn)
    guest.enter()
    (session,) = inn.clients
    assert session.application_name == "till"
    assert session.info().peer == "{}:{}".format(*guest.socket.getsockname())
    guest.leave()


def test_about_strangers_no_more_is_decided_than_about_those_that_exist(inn: Inn) -> None:
    """Or the time that the challenge takes would tell who exists; nor do they make others be forgotten."""
    packet = startup(user="mallory", database="shop")
    for _ in range(3):
        guest = Guest(inn, packet)
        guest.say(answer(guest.hear(13)))
        assert b"28P01" in guest.hear_end()
        assert inn.decided == 1
    cache = inn.policy.cache
    assert len(cache) == 1
    candidate = Candidate("mallory", "md5" + "0" * 32, "no such user")
    for number in range(3 * MAX_REMEMBERED):
        cache.meet("192.0.2.1", False, b"packet %d" % number, (candidate, None))
    assert len(cache._met) <= MAX_REMEMBERED
    assert cache.find("127.0.0.1", False, HELLO[4:]) is not None


@pytest.mark.parametrize("at", [1, 4, 8, len(HELLO) - 1])
def test_a_packet_in_two_parts(inn: Inn, at: int) -> None:
    guest = Guest(inn, HELLO[:at])
    until(lambda: bool(inn.open) and next(iter(inn.open)).stream.received == at)
    guest.say(HELLO[at:])
    guest.enter()
    guest.leave()


@pytest.mark.parametrize("at", [1, 5, 40])
def test_a_proof_in_two_parts(inn: Inn, at: int) -> None:
    guest = Guest(inn)
    proof = answer(guest.hear(13))
    guest.say(proof[:at])
    until(lambda: came(inn).stream.received == len(HELLO) + at)
    guest.say(proof[at:])
    guest.hear_ready()
    guest.leave()


def test_all_in_bytes(inn: Inn) -> None:
    guest = Guest(inn, b"")
    for byte in HELLO:
        guest.say(bytes([byte]))
        gevent.sleep(0)
    for byte in answer(guest.hear(13)):
        guest.say(bytes([byte]))
        gevent.sleep(0)
    guest.hear_ready()
    guest.leave()


def waits_without_a_greenlet(connection: Connection) -> bool:
    return connection.familiar is not None and connection.task is not None and connection.task.greenlet is None


def test_who_is_like_another_needs_no_greenlet_while_he_is_waited_for(inn: Inn) -> None:
    guest = Guest(inn)
    proof = answer(guest.hear(13))
    assert waits_without_a_greenlet(came(inn))
    guest.say(proof[:7])
    until(lambda: came(inn).stream.received == len(HELLO) + 7)
    assert waits_without_a_greenlet(came(inn))
    guest.say(proof[7:])
    guest.hear_ready()
    guest.leave()


def test_who_is_like_another_has_his_session_on_the_task_of_his_login(inn: Inn) -> None:
    guest = Guest(inn)
    challenge = guest.hear(13)
    connection = came(inn)
    task = connection.task
    assert task is not None
    guest.say(answer(challenge))
    guest.hear_ready()
    (session,) = inn.clients
    assert (session.task, task.pollable, task.greenlet) == (task, session, None)
    assert connection.stream.task is task
    assert connection.task is None
    assert (connection.admitted, len(inn.logins), inn.connections.plain) == (1, 0, 2)
    connection.terminate_when_idle(ShuttingDown("closing time"))
    assert b"closing time" in guest.hear_end()


def test_who_is_like_another_waits_for_his_beginning_in_a_greenlet(inn: Inn) -> None:
    guest = Guest(inn)
    challenge = guest.hear(13)
    task = came(inn).task
    assert inn.pool is not None
    inn.pool.beginnings.reports.clear()
    guest.say(answer(challenge))
    guest.hear_ready()
    (session,) = inn.clients
    assert session.task is not task
    assert (inn.admitted, inn.decided, inn.connections.plain) == (1, 0, 2)
    guest.leave()


def test_who_is_like_another_and_wants_a_name_with_his_address(inn: Inn) -> None:
    inn.add_host = 1
    for _ in range(2):  # the second time, that name's beginning is known; the address is another each time
        guest = Guest(inn)
        guest.enter()
        (session,) = inn.clients
        assert session.application_name == "till - {}:{}".format(*guest.socket.getsockname())
        guest.leave()
        until(lambda: not inn.open)


CAROL = startup(user="carol", database="shop")


@pytest.mark.parametrize("at", [None, 1, 9])
def test_scram_of_one_like_another(inn: Inn, at: int | None) -> None:
    """Each of his words in two parts, too."""
    for known in (False, True):
        guest = Guest(inn, CAROL)
        client = ScramClient(["SCRAM-SHA-256"], "carol", PASSWORD)
        assert guest.hear_one() == ("R", struct.pack("!I", 10) + b"SCRAM-SHA-256\0\0")
        for step in range(2):
            until(lambda: bool(inn.open))
            (connection,) = inn.open
            assert waits_without_a_greenlet(connection) == known
            if step == 0:
                first = client.get_client_first().encode()
                body = b"SCRAM-SHA-256\0" + struct.pack("!i", len(first)) + first
            else:
                body = client.get_client_final().encode()
            data = b"p" + struct.pack("!I", len(body) + 4) + body
            before = connection.stream.received
            if at is not None:
                guest.say(data[:at])
                until(lambda: connection.stream.received == before + at)  # noqa: B023 - called here
            guest.say(data if at is None else data[at:])
            _, told = guest.hear_one()
            if step == 0:
                client.set_server_first(told[4:].decode())
            else:
                client.set_server_final(told[4:].decode())
        guest.hear_ready()
        guest.leave()
        until(lambda: not inn.open)
    assert inn.decided == 1


def test_an_answer_too_long_to_be_waited_for_without_a_greenlet(inn: Inn) -> None:
    guest = Guest(inn)
    guest.hear(13)
    guest.say(b"p" + struct.pack("!I", 4 + 5001) + b"x" * 3000)
    until(lambda: came(inn).task.greenlet is not None)
    guest.say(b"x" * 2000 + b"\0")
    assert b"C28P01" in guest.hear_end()


def test_who_leaves_in_place_of_an_answer(inn: Inn) -> None:
    guest = Guest(inn)
    guest.say(answer(guest.hear(13))[:9])
    guest.socket.close()
    until(lambda: inn.connections.errors == 1)


def test_what_comes_behind_the_proof_is_the_session_s(inn: Inn) -> None:
    guest = Guest(inn)
    guest.say(answer(guest.hear(13)) + TERMINATE)
    guest.hear_ready()
    assert guest.hear_end() == b""


def test_what_comes_behind_the_packet_is_the_proof(inn: Inn) -> None:
    guest = Guest(inn, HELLO + b"p\0\0\0\x08bad\0")
    guest.hear(13)
    assert b"28P01" in guest.hear_end()


@pytest.mark.parametrize(
    ("said", "sqlstate"),
    [
        (b"", b"28P01"),  # the answer to another salt
        (b"p\0\0\0\x08bad\0", b"28P01"),
        (b"p\0\0\0\x28md5" + b"0" * 33, b"08P01"),  # without its NUL
        (b"p\0\0\0\4", b"08P01"),
        (b"Q\0\0\0\x28" + b"md5" + b"0" * 32 + b"\0", b"08P01"),
        (b"p\x7f\0\0\x28md5" + b"0" * 32 + b"\0", b"08P01"),
    ],
)
def test_no_proof_no_session(inn: Inn, said: bytes, sqlstate: bytes) -> None:
    guest = Guest(inn)
    challenge = guest.hear(13)
    guest.say(said or answer(challenge[:9] + bytes(4)))
    assert b"C" + sqlstate in guest.hear_end()
    assert inn.connections.errors == 1
    assert inn.connections.plain == 1


@pytest.mark.parametrize(
    "packet",
    [
        startup(user="alice", database="shop", application_name="tilt"),
        startup(user="bob", database="shop", application_name="till"),
        startup(user="alice", database="shop", application_name="till", options=""),
        HELLO[:4] + b"\0\3\0\2" + HELLO[8:],
    ],
)
def test_another_packet_is_another_client(inn: Inn, packet: bytes) -> None:
    guest = Guest(inn, packet)
    guest.hear(13)
    assert inn.decided == 1
    guest.socket.close()


def test_from_another_address_it_is_another_client(inn: Inn) -> None:
    guest = Guest(inn)
    guest.socket.close()
    cache = inn.policy.cache
    assert cache.find("127.0.0.1", False, HELLO[4:]) is not None
    assert cache.find("127.0.0.2", False, HELLO[4:]) is None


def test_another_configuration_knows_nobody(inn: Inn) -> None:
    halfway = Guest(inn)
    challenge = halfway.hear(13)
    inn.configure("another password")
    guest = Guest(inn)
    guest.say(answer(guest.hear(13)))
    assert b"C28P01" in guest.hear_end()
    assert len(inn.policy.cache) == 0
    # Who has been asked already goes by what he was asked.
    halfway.say(answer(challenge))
    halfway.hear_ready()
    halfway.leave()


def test_who_began_before_is_not_known_to_the_new_configuration(inn: Inn) -> None:
    packet = startup(user="alice", database="shop")
    guest = Guest(inn, packet)
    challenge = guest.hear(13)
    inn.configure(PASSWORD)
    guest.say(answer(challenge))
    guest.hear_ready()
    assert len(inn.policy.cache) == 0
    guest.leave()


def test_a_house_that_fills_up_meanwhile(inn: Inn) -> None:
    """Between what is asked of one like another and his answer."""
    guest = Guest(inn)
    challenge = guest.hear(13)
    inn.max_connections = 0
    guest.say(answer(challenge))
    assert b"C53300" in guest.hear_end()
    assert inn.connections.errors == 1
    other = Guest(inn, startup(user="alice", database="shop"))
    assert b"C53300" in other.hear_end()


def test_a_database_that_fills_up_meanwhile(inn: Inn) -> None:
    first = Guest(inn)
    first.enter()
    guest = Guest(inn)
    challenge = guest.hear(13)
    inn.max_db_clients = 1
    guest.say(answer(challenge))
    assert b'too many connections for database "shop"' in guest.hear_end()
    until(lambda: len(inn.open) == 1)
    assert inn.admitted == 1
    first.leave()


def test_a_full_house(inn: Inn) -> None:
    inn.max_connections = 1
    first = Guest(inn)
    first.enter()
    assert b"C53300" in Guest(inn).hear_end()
    first.leave()
    until(lambda: not inn.open)
    again = Guest(inn)
    again.enter()
    again.leave()


def test_nobody_comes_in_at_the_end(inn: Inn) -> None:
    inn.draining = 1  # type: ignore[assignment]
    assert b"C57P01" in Guest(inn).hear_end()


@pytest.mark.parametrize("asked", [SSL, GSS, SSL + GSS, GSS + SSL])
def test_encryption_is_refused_first(inn: Inn, asked: bytes) -> None:
    guest = Guest(inn, b"")
    for start in range(0, len(asked), 8):
        guest.say(asked[start : start + 8])
        assert guest.hear(1) == b"N"
    guest.say(HELLO)
    guest.enter()
    if asked == SSL:
        assert inn.decided == 0
    guest.leave()


@pytest.mark.parametrize("again", [SSL, SSL + HELLO])
def test_encryption_is_asked_for_once(inn: Inn, again: bytes) -> None:
    guest = Guest(inn, SSL)
    assert guest.hear(1) == b"N"
    guest.say(again)
    assert b"C0A000" in guest.hear_end()


def test_clear_bytes_behind_a_request_for_encryption(inn: Inn) -> None:
    guest = Guest(inn, SSL + HELLO)
    assert b"C08P01" in guest.hear_end()


def test_a_cancel_request_of_any_length(inn: Inn) -> None:
    for secret in (b"abcd", b"k" * 32):
        guest = Guest(inn, struct.pack("!iii", 12 + len(secret), 80877102, 7) + secret)
        assert guest.hear_end() == b""
        assert inn.cancelled.pop() == (7, secret)


@pytest.mark.parametrize("said", [b"", HELLO[:3], HELLO])
def test_one_that_leaves(inn: Inn, said: bytes) -> None:
    guest = Guest(inn, said)
    if said == HELLO:
        guest.hear(13)
    guest.socket.close()
    until(lambda: inn.connections.errors == 1, 3.0)
    until(lambda: not inn.open)


def test_one_that_says_no_more(inn: Inn) -> None:
    inn.limit = 0.05
    inn.logins.limit_changed()
    guest = Guest(inn)
    guest.hear(13)
    assert b"C57014" in guest.hear_end()


def test_one_that_is_told_to_go(inn: Inn) -> None:
    guest = Guest(inn)
    guest.hear(13)
    came(inn).terminate_when_idle(ShuttingDown("closing time"))
    assert b"closing time" in guest.hear_end()


def test_what_a_server_reports_is_not_known_any_more(inn: Inn) -> None:
    assert inn.pool is not None
    inn.pool.beginnings.reports.clear()
    guest = Guest(inn)
    assert ("S", b"application_name\0till\0") in guest.enter()
    guest.leave()


def test_a_pool_that_was_replaced(inn: Inn) -> None:
    old = inn.pool
    before = Guest(inn)
    before.enter()
    assert old is not None
    old.retired = old.held = 1
    inn.pool = inn.new_pool()
    guest = Guest(inn)
    guest.enter()
    assert {session.link.pool for session in inn.clients} == {old, inn.pool}  # type: ignore[union-attr]
    guest.leave()
    before.leave()


def test_a_pool_that_is_gone(inn: Inn) -> None:
    assert inn.pool is not None
    inn.pool.retired = inn.pool.held = 1
    inn.pool = None
    guest = Guest(inn)
    guest.say(answer(guest.hear(13)))
    assert b"No pool configured" in guest.hear_end()


# -- what is remembered


def test_no_more_is_remembered_than_has_room() -> None:
    cache = LoginCache()
    known = Candidate("alice", PASSWORD), Accepted("alice", "shop", (), 196608, False)
    cache.remember("h", False, bytes(MAX_PACKET + 1), known)
    assert len(cache) == 0
    for number in range(MAX_REMEMBERED):
        cache.remember("h", False, b"%d" % number, known)
    assert len(cache) == MAX_REMEMBERED
    cache.remember("h", False, b"one more", known)
    assert len(cache) == 1


@pytest.mark.parametrize("packet", [b"", HELLO[4:-1], HELLO[4:] + b"\0", HELLO])
def test_only_the_whole_packet_is_found(packet: bytes) -> None:
    cache = LoginCache()
    known = Candidate("alice", PASSWORD), Accepted("alice", "shop", (), 196608, False)
    cache.remember("", False, HELLO[4:], known)
    assert cache.find("", False, HELLO[4:]) is known
    assert cache.find("", False, packet) is None


@pytest.mark.parametrize("head", [b"\1\0\0", b"\0\1\0", b"\0\0\0\4", b"\0\0\0\7abc"])
def test_an_impossible_length(inn: Inn, head: bytes) -> None:
    guest = Guest(inn, head + HELLO[len(head) :])
    assert b"invalid length of startup packet" in guest.hear_end()
    assert inn.decided == 0
