"""Connections that have not logged in: they are bounded, cost little, and keep nobody out."""

from __future__ import annotations

import resource
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from eventually import eventually
from fix_certs import Certificates
from fix_doorman import ADMIN_PASSWORD, ADMIN_USER, Doorman, MakeDoorman, app_pool
from fix_postgres import Postgres
from ports import free_port
from wire_client import SSL_REQUEST, WireClient, WireError, kinds, message, query, startup

from pgdoorman_lib.web.server import MAX_CONNECTIONS

CHALLENGE_ME = startup(user="app", database="testdb")


@contextmanager
def crowd(doorman: Doorman, count: int, said: bytes, source: str = "127.0.0.1") -> Iterator[list[socket.socket]]:
    """``count`` connections from ``source`` that have each ``said`` so much and no more."""
    sockets: list[socket.socket] = []
    try:
        for _ in range(count):
            one = socket.create_connection((doorman.host, doorman.port), 10, source_address=(source, 0))
            sockets.append(one)
            one.sendall(said)
        yield sockets
    finally:
        for one in sockets:
            one.close()


def standing(sockets: list[socket.socket]) -> list[bool]:
    """Which of them are still open, whatever they were told before."""
    found = []
    for one in sockets:
        one.setblocking(False)
        try:
            while one.recv(4096):
                pass
            found.append(False)
        except BlockingIOError:
            found.append(True)
        except ConnectionError:
            found.append(False)
    return found


def works(doorman: Doorman) -> None:
    """A client and one of the console get in, and are served."""
    with doorman.wire() as client:
        assert client.value("SELECT 1") == "1"
    with WireClient((doorman.host, doorman.port)) as console:
        console.login(ADMIN_USER, "pgdoorman", ADMIN_PASSWORD)
        assert kinds(console.ask_query("SHOW VERSION")) == "TDCZ"


@pytest.mark.parametrize(
    "said", [b"\0", SSL_REQUEST, CHALLENGE_ME], ids=["a byte", "asked for TLS", "at the challenge"]
)
def test_the_oldest_give_way(make_doorman: MakeDoorman, said: bytes) -> None:
    """Nobody who means it is kept out, though far more stand at the door than may be in; the log has a line or two."""
    # Workers have each their part of the limit.
    limits = {"max_connections": 20, "max_login_connections": 30, "worker_threads": 1}
    doorman = make_doorman({"general": limits})
    before = doorman.open_files()
    with crowd(doorman, 200, said) as sockets:
        eventually(lambda: sum(standing(sockets)) == 30, message="30 are left")
        assert standing(sockets)[-30:] == [True] * 30, "those who came last"
        assert doorman.open_files() - before < 30 + 20
        works(doorman)
        line = doorman.wait_log(r"too many connections that have not logged in.*\(max_login_connections\)")
        assert "53300" in line
        assert sum("have not logged in" in line for line in doorman.log_lines) < 20
    eventually(lambda: doorman.open_files() - before < 20)


def test_they_are_told(make_doorman: MakeDoorman) -> None:
    doorman = make_doorman({"general": {"max_login_connections": 1, "worker_threads": 1}})
    with doorman.raw() as first, doorman.raw() as second:
        first.send(CHALLENGE_ME)
        assert first.read().kind == "R"
        second.send(CHALLENGE_ME)
        assert first.read().sqlstate == "53300"
        assert second.read().kind == "R"


def test_who_stands_at_the_door_takes_no_place_inside(make_doorman: MakeDoorman) -> None:
    """Peers stopped at the challenge do not count against max_connections; those that prove themselves do."""
    doorman = make_doorman({"general": {"max_connections": 3}})
    with crowd(doorman, 50, CHALLENGE_ME) as sockets:
        for one in sockets:
            assert one.recv(1) == b"R"
        with doorman.wire(), doorman.wire(), doorman.wire():
            with pytest.raises(WireError) as caught:
                doorman.wire()
            assert caught.value.message.sqlstate == "53300"
            assert caught.value.message.fields["M"] == "sorry, too many clients already"
        eventually(lambda: works(doorman) is None)


def test_a_crowd_from_one_address_costs_no_other_its_place(make_doorman: MakeDoorman, postgres: Postgres) -> None:
    """Somebody slow stays, although all of the crowd came after it."""
    # Workers have each their part of the limit.
    doorman = make_doorman({"general": {"max_login_connections": 20, "worker_threads": 1}})
    with doorman.raw() as slow:
        slow.send(CHALLENGE_ME)
        first = slow.read()
        with crowd(doorman, 100, CHALLENGE_ME, "127.0.0.2") as sockets:
            eventually(lambda: sum(standing(sockets)) == 19)
            answer = postgres_answer(slow, first.body, postgres.password("app"))
            assert answer == "Z"


def postgres_answer(client: WireClient, challenge: bytes, password: str) -> str:
    """Go on with a login at the challenge; the type of the last message."""
    client.unread(message("R", challenge))
    return client.authenticate("app", password)[-1].kind


def test_a_limit_for_each_address(make_doorman: MakeDoorman) -> None:
    doorman = make_doorman({"general": {"max_login_connections_per_address": 5, "worker_threads": 1}})
    with crowd(doorman, 5, CHALLENGE_ME) as few, crowd(doorman, 20, CHALLENGE_ME, "127.0.0.2") as many:
        eventually(lambda: sum(standing(many)) == 5)
        assert standing(many)[-5:] == [True] * 5
        assert all(standing(few))
        doorman.wait_log(r"127\.0\.0\.2:.*\(max_login_connections_per_address\)")
    config = doorman.config
    config["general"]["max_login_connections_per_address"] = 0
    doorman.reload(config)
    with crowd(doorman, 50, CHALLENGE_ME) as many:
        works(doorman)
        assert all(standing(many))


def test_a_limit_for_each_address_behind_a_balancer(make_doorman: MakeDoorman) -> None:
    """It holds for the addresses in the headers, and not for the balancer's own, from which all come."""
    limits = {"max_login_connections_per_address": 5, "worker_threads": 1}
    doorman = make_doorman({"general": {"proxy_protocol": ["127.0.0.2"], **limits}})
    header = "PROXY TCP4 {} 127.0.0.1 4711 6432\r\n".format
    many, few = header("192.0.2.7").encode(), header("198.51.100.9").encode()
    with crowd(doorman, 20, many[:-1], "127.0.0.2") as undecided, crowd(doorman, 5, few, "127.0.0.2") as others:
        with crowd(doorman, 20, many, "127.0.0.2") as crowded:
            eventually(lambda: sum(standing(crowded)) == 5)
            assert standing(crowded)[-5:] == [True] * 5
            doorman.wait_log(r"192\.0\.2\.7:4711.*\(max_login_connections_per_address\)")
        assert all(standing(undecided) + standing(others))


def test_the_unix_socket_is_no_address(make_doorman: MakeDoorman, short_directory: Path) -> None:
    """All of the machine's clients may come by it at one time."""
    directory = str(short_directory)
    doorman = make_doorman({"general": {"unix_socket_dir": directory, "max_login_connections_per_address": 2}})
    sockets = [socket.socket(socket.AF_UNIX) for _ in range(20)]
    try:
        for one in sockets:
            one.connect(f"{directory}/.s.PGSQL.{doorman.port}")
            one.sendall(CHALLENGE_ME)
            assert one.recv(1) == b"R"
        works(doorman)
        assert all(standing(sockets))
    finally:
        for one in sockets:
            one.close()


def limited(soft: int, hard: int) -> Callable[[], None]:
    def preexec() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    return preexec


@pytest.mark.parametrize("http", [0, MAX_CONNECTIONS], ids=["", "HTTP"])
def test_clients_are_refused_before_a_server_can_not_be_opened(
    make_doorman: MakeDoorman, postgres: Postgres, http: int
) -> None:
    """The limit of open files is raised as far as it can be; what it lacks then, new clients lack, and are told so."""
    config: dict[str, Any] = {
        # The limit is each process's own.
        "general": {"max_connections": 1000, "query_wait_timeout": "5s", "worker_threads": 1},
        "web": {"enabled": http > 0, "port": free_port()},
        "pools": {"testdb": app_pool(postgres, 30)},
    }
    doorman = make_doorman(config, preexec=limited(50, 300))
    doorman.wait_log(r"open files, the system allows 300: no more than \d+ clients get in")
    clients: list[WireClient] = []
    asking = [socket.create_connection(("127.0.0.1", config["web"]["port"]), 10) for _ in range(http)]
    try:
        with crowd(doorman, 200, CHALLENGE_ME):
            with pytest.raises(WireError) as caught:
                while len(clients) < 300:
                    clients.append(doorman.wire())
            fields = caught.value.message.fields
            assert fields["C"] == "53300"
            assert "limit of 300 open files" in fields["M"]
            assert len(clients) > 130 - http
            # Every place in the pool can be had by those who are in, and the console answers.
            for client in clients[:30]:
                client.send(query("BEGIN"))
            for client in clients[:30]:
                assert kinds(client.read_ready()) == "CZ"
            assert doorman.pool()["sv_active"] == 30
            assert doorman.open_files() <= 300
            for client in clients[:30]:
                client.ask_query("ROLLBACK")
            clients.pop().terminate()
            eventually(lambda: works(doorman) is None)
    finally:
        for one in (*clients, *asking):
            one.close()


#: Descriptors that may have been about to be closed when they were counted.
LEAVING = 4


@pytest.mark.parametrize("said", [b"", b"\0", SSL_REQUEST], ids=["nothing", "a byte", "asked for TLS"])
def test_what_they_cost(make_doorman: MakeDoorman, certs: Certificates, said: bytes) -> None:
    """A few KiB each until there is a startup packet, and what they took is there again when they are gone."""
    count = 800
    doorman = make_doorman(
        {
            "general": {
                # A process keeps room for the largest crowd it has had: of several each for its part of each of them.
                "worker_threads": 1,
                "max_login_connections": count,
                "tls_certificate": str(certs.server.certificate),
                "tls_private_key": str(certs.server.private_key),
            }
        }
    )
    works(doorman)
    idle = doorman.open_files()
    before = doorman.rss()
    taken = []
    for _ in range(3):
        with crowd(doorman, count, said) as sockets:
            # Connections of those who had just left may have been among the idle one's.
            eventually(lambda: doorman.open_files() >= idle + count - LEAVING)
            taken.append((doorman.rss() - before) // count)
            assert all(standing(sockets))
        eventually(lambda: doorman.open_files() <= idle)
    assert max(taken) < 16 << 10, taken
    assert taken[2] < taken[1] + 1024, taken
