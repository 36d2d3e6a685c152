"""Two poolers behind one address: a cancel request finds its client whichever of them it comes to, and nobody else's."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
from eventually import eventually
from fix_doorman import WORKERS, Doorman, MakeDoorman
from fix_postgres import Postgres
from fix_proxy import Proxy
from pace import patience
from ports import free_port
from prometheus_client.parser import text_string_to_metric_families
from storm import CancelStorm
from wire_client import PROTOCOL_3_0, PROTOCOL_3_2, WireClient, cancel_request, query

PROCESS_BASE = 1 << 22
NUMBERS = 1 << 20

Pair = tuple[Doorman, Doorman]


def peer(doorman: Doorman, **more: Any) -> dict[str, Any]:
    return {"host": doorman.host, "port": doorman.port, **more}


@pytest.fixture
def pair(make_doorman: MakeDoorman) -> Pair:
    """Two poolers with the ids 1 and 2, and the same list."""
    ports = {number: free_port() for number in (1, 2)}
    peers = {str(number): {"host": "127.0.0.1", "port": port} for number, port in ports.items()}
    one, two = (
        make_doorman({"general": {"peer_id": number, "port": port}, "peers": peers}) for number, port in ports.items()
    )
    return one, two


@pytest.fixture
def balancer(pair: Pair) -> Iterator[Proxy]:
    """The one address. ``target`` is where the next connection goes."""
    proxy = Proxy((pair[0].host, pair[0].port))
    yield proxy
    proxy.close()


def at(doorman: Doorman) -> tuple[str, int]:
    return doorman.host, doorman.port


def runs(postgres: Postgres, mark: str) -> bool:
    return any(mark in b["query"] and b["state"] == "active" for b in postgres.backends())


def login(doorman: Doorman, protocol: int = PROTOCOL_3_0, database: str = "testdb") -> WireClient:
    return WireClient(at(doorman)).login("app", database, Postgres.PASSWORDS["app"], protocol)


def cancel_by(address: tuple[str, int] | str, process: int, secret: bytes) -> None:
    """Send a cancel request there; it is closed without a word."""
    with WireClient(address) as other:
        other.send(cancel_request(process, secret))
        assert other.read_to_end() == b""


def sleeps(client: WireClient, postgres: Postgres, mark: str) -> None:
    client.send(query(f"SELECT pg_sleep(30), '{mark}'"))
    eventually(lambda: runs(postgres, mark))


def was_cancelled(client: WireClient) -> bool:
    return bool(client.read_ready()[-2].sqlstate == "57014") and client.value("SELECT 1") == "1"


def counted(doorman: Doorman) -> dict[str, int]:
    """How many requests went on to others, and could not."""
    port = doorman.config["web"]["port"]
    with socket.create_connection((doorman.host, port), timeout=patience(5)) as asking:
        asking.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        page = b""
        while part := asking.recv(1 << 16):
            page += part
    text = page.partition(b"\r\n\r\n")[2].decode()
    return {
        sample.labels["result"]: int(sample.value)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "pg_doorman_cancel_requests_passed_on_total"
    }


# -- what it is for


@pytest.mark.parametrize("version", ["3.0", "3.2"])
def test_a_driver_behind_a_balancer(pair: Pair, balancer: Proxy, postgres: Postgres, version: str) -> None:
    if version == "3.2" and psycopg.pq.version() < 180000:
        pytest.skip("this libpq knows protocol 3.0 alone")
    options = {"max_protocol_version": version} if psycopg.pq.version() >= 180000 else {}
    with pair[0].connect(host=balancer.host, port=balancer.port, **options) as connection:
        key = connection.pgconn.backend_pid - PROCESS_BASE
        assert key // NUMBERS == 1
        for number in range(3):
            errors = []

            def sleep(number: int = number, errors: list[str | None] = errors) -> None:
                try:
                    connection.execute(f"SELECT pg_sleep(30), 'balanced {number}'")
                except psycopg.Error as exc:
                    errors.append(exc.sqlstate)

            thread = threading.Thread(target=sleep)
            thread.start()
            eventually(lambda number=number: runs(postgres, f"balanced {number}"))
            balancer.target = at(pair[1])
            connection.cancel_safe(timeout=patience(10))
            thread.join(patience(10))
            assert errors == ["57014"]
            assert connection.execute("SELECT 1").fetchone() == (1,)


@pytest.mark.parametrize(("protocol", "size"), [(PROTOCOL_3_0, 4), (PROTOCOL_3_2, 32)])
@pytest.mark.parametrize("mine", [0, 1])
def test_by_whichever_pooler(pair: Pair, postgres: Postgres, protocol: int, size: int, mine: int) -> None:
    with login(pair[mine], protocol) as client:
        assert len(client.secret) == size
        assert (client.pid - PROCESS_BASE) // NUMBERS == mine + 1
        for doorman in pair:
            sleeps(client, postgres, "either")
            cancel_by(at(doorman), client.pid, client.secret)
            assert was_cancelled(client)


def test_a_command_of_the_console(pair: Pair) -> None:
    one, two = pair
    with one.wire() as holder, one.wire("pgdoorman", "admin", "console-password") as console:
        holder.ask_query("BEGIN")
        console.send(query("PAUSE"))
        assert console.is_quiet()
        cancel_by(at(two), console.pid, console.secret)
        assert console.read_ready()[-2].sqlstate == "57014"


def test_a_client_that_has_moved_in_an_upgrade(pair: Pair, postgres: Postgres) -> None:
    one, two = pair
    with login(one) as client, login(one) as stays:
        assert stays.ask_query("BEGIN")[-1].body == b"T"
        one.upgrade()
        assert client.value("SELECT 1") == "1"
        sleeps(stays, postgres, "in the old process")
        cancel_by(at(two), stays.pid, stays.secret)
        assert stays.read_ready()[-2].sqlstate == "57014"
        assert stays.ask_query("ROLLBACK")[-1].body == b"I"
        assert one.end_of_predecessor() == 0
        with login(one) as fresh:
            for each in (client, stays, fresh):
                assert (each.pid - PROCESS_BASE) // NUMBERS == 1
                sleeps(each, postgres, "in the new process")
                cancel_by(at(two), each.pid, each.secret)
                assert was_cancelled(each)


# -- when it is through


def test_the_clients_connection_is_closed_when_the_peer_is_done(make_doorman: MakeDoorman, postgres: Postgres) -> None:
    two = make_doorman({"general": {"peer_id": 2}})
    between = Proxy(at(two))
    peers = {"2": {"host": between.host, "port": between.port, "pool_size": 1}}
    # Each worker has places of its own.
    one = make_doorman({"general": {"peer_id": 1, "worker_threads": 1}, "peers": peers})
    try:
        with login(two) as client, WireClient(at(one)) as first, WireClient(at(one)) as second:
            sleeps(client, postgres, "not yet")
            between.hold("up")
            first.send(cancel_request(client.pid, client.secret))
            eventually(lambda: one.admin("SHOW PEER_POOLS")[0]["sv_active_cancel"] == 1)
            second.send(cancel_request(client.pid, client.secret))
            wanted = {
                "peer_id": 2,
                "cl_active_cancel_req": 1,
                "cl_waiting_cancel_req": 1,
                "sv_active_cancel": 1,
                "sv_login": 0,
            }
            eventually(lambda: one.admin("SHOW PEER_POOLS") == [wanted])
            assert first.is_quiet(0.3)
            assert runs(postgres, "not yet")
            between.release()
            assert first.read_to_end() == second.read_to_end() == b""
            assert client.read_ready()[-2].sqlstate == "57014"
            eventually(lambda: one.admin("SHOW PEER_POOLS")[0]["sv_active_cancel"] == 0)
    finally:
        between.close()


# -- nobody else's


@pytest.mark.parametrize("spoil", ["secret", "number", "short", "long", "marked"])
def test_a_key_that_is_wrong(pair: Pair, postgres: Postgres, spoil: str) -> None:
    one, two = pair
    with login(two) as client, login(two) as bystander:
        sleeps(client, postgres, "goes on")
        sleeps(bystander, postgres, "goes on, too")
        process, secret = client.pid, client.secret
        key = {
            "secret": (process, bytes([secret[0] ^ 1]) + secret[1:]),
            "number": (bystander.pid, secret),
            "short": (process, secret[:3]),
            "long": (process, secret + b"\0"),
            "marked": (process - (1 << 31), secret),  # as passed on: to this one it is nobody's
        }[spoil]
        cancel_by(at(one), *key)
        assert client.is_quiet(0.3)
        assert bystander.is_quiet()
        for each in (client, bystander):
            cancel_by(at(one), each.pid, each.secret)
            assert was_cancelled(each)


def test_cancels_hit_only_their_own_clients(pair: Pair) -> None:
    """Cancellers fire at the wrong pooler all the time, while servers change hands in both."""
    storm = CancelStorm()
    for seed in range(6):
        there, wrong = pair[seed % 2], at(pair[1 - seed % 2])
        storm.victim(partial(login, there), lambda client, to=wrong: cancel_by(to, client.pid, client.secret), seed)
    for seed in range(4):
        storm.bystander(partial(login, pair[seed % 2]), seed)
    storm.rage(3)


# -- what goes wrong


def test_peers_that_are_none(make_doorman: MakeDoorman, postgres: Postgres) -> None:
    """Not in the list, down, hanging: the log has their names, and all others go on."""
    hanging = socket.create_server(("127.0.0.1", 0))
    one = make_doorman(
        {
            "general": {"peer_id": 1},
            "web": {"enabled": True, "port": free_port()},
            "peers": {
                "3": {"host": "127.0.0.1", "port": free_port()},
                "4": {"host": "127.0.0.1", "port": hanging.getsockname()[1], "pool_size": 2},
                "5": {"host": "/nowhere", "port": 6432},
            },
        }
    )
    with hanging, one.wire() as client, contextlib.ExitStack() as stack:
        for number, said in ((2, "is for peer 2, which is not in"), (3, r"peer 3 \(127"), (5, r"peer 5 \(/nowhere/.s")):
            cancel_by(at(one), PROCESS_BASE + number * NUMBERS + 7, b"abcd")
            one.wait_log(said)
        assert counted(one) == {"done": 0, "failed": 3}
        asking = [stack.enter_context(WireClient(at(one))) for _ in range(6)]
        for each in asking:
            each.send(cancel_request(PROCESS_BASE + 4 * NUMBERS + 7, b"abcd"))
        shown = {row["peer_id"]: row for row in one.admin("SHOW PEER_POOLS")}
        assert list(shown) == [3, 4, 5]

        def each_has_its_place() -> bool:
            """Each worker passes on as many as pool_size at a time, the others wait there."""
            row = one.admin("SHOW PEER_POOLS")[1]
            active, waiting = row["sv_active_cancel"], row["cl_waiting_cancel_req"]
            return 2 <= active <= 2 * WORKERS and active + waiting == len(asking)

        eventually(each_has_its_place)
        sleeps(client, postgres, "beside those that hang")
        client.cancel()
        assert was_cancelled(client)
        hanging.settimeout(0.1)

        def all_are_through() -> bool:
            """Each had its turn, or its time was over."""
            with contextlib.suppress(TimeoutError):
                hanging.accept()[0].close()
            return sum(counted(one).values()) == 3 + len(asking)

        eventually(all_are_through, timeout=20)
        for each in asking:
            assert each.read_to_end() == b""
        processes = [psutil.Process(one.pid), *psutil.Process(one.pid).children(recursive=True)]
        port = hanging.getsockname()[1]

        def none_is_left() -> bool:
            connections = [c for process in processes for c in process.net_connections("tcp")]
            return not any(c.raddr and c.raddr.port == port for c in connections)

        eventually(none_is_left)


def test_a_request_goes_in_no_circle(make_doorman: MakeDoorman) -> None:
    """Each takes the other for peer 3, as after a mistake with addresses."""
    ports = [free_port(), free_port()]
    mistaken = [{"3": {"host": "127.0.0.1", "port": port}} for port in reversed(ports)]
    one, two = (
        make_doorman({"general": {"peer_id": number + 1, "port": ports[number]}, "peers": mistaken[number]})
        for number in (0, 1)
    )
    cancel_by(at(one), PROCESS_BASE + 3 * NUMBERS, b"abcd")
    two.wait_log("is for peer 3|for peer 3 was passed on to this one, which is 2")
    assert int(one.admin("SHOW CONNECTIONS")[0]["cancel"]) == 1
    assert int(two.admin("SHOW CONNECTIONS")[0]["cancel"]) == 1


# -- the configuration


def test_by_unix_socket_and_with_a_header(make_doorman: MakeDoorman, postgres: Postgres, tmp_path: Path) -> None:
    by_socket = make_doorman({"general": {"peer_id": 2, "unix_socket_dir": str(tmp_path)}})
    behind = make_doorman({"general": {"peer_id": 3}})
    headed = {"general": {"proxy_protocol": ["127.0.0.1/32"], "peer_id": 3}}
    one = make_doorman(
        {
            "general": {"peer_id": 1},
            "peers": {
                "2": {"host": str(tmp_path), "port": by_socket.port},
                "3": peer(behind, proxy_protocol=True),
            },
        }
    )
    for doorman in (by_socket, behind):
        with login(doorman) as client:
            sleeps(client, postgres, "elsewhere")
            if doorman is behind:
                behind.config["general"].update(headed["general"])
                behind.reload(behind.config)
            cancel_by(at(one), client.pid, client.secret)
            assert was_cancelled(client)


def test_a_reload_changes_peers(make_doorman: MakeDoorman, postgres: Postgres) -> None:
    one, two = make_doorman(), make_doorman({"general": {"peer_id": 2}})
    assert one.admin("SHOW PEERS") == []
    with login(one) as early, login(two) as client:
        assert early.pid < PROCESS_BASE + NUMBERS
        config = one.config
        config["general"]["peer_id"] = 1
        config["peers"] = {"1": peer(one), "2": peer(two, pool_size=3)}
        one.reload(config)
        line = one.wait_log("configuration reloaded")
        assert "general.peer_id, peers.1, peers.2" in line
        assert one.admin("SHOW PEERS") == [
            {"peer_id": 1, "host": one.host, "port": one.port, "pool_size": 20},
            {"peer_id": 2, "host": two.host, "port": two.port, "pool_size": 3},
        ]
        shown = {row["key"]: row["value"] for row in one.admin("SHOW CONFIG")}
        assert (shown["peer_id"], shown["peers.2.host"], shown["peers.2.pool_size"]) == ("1", two.host, "3")
        sleeps(client, postgres, "of two")
        cancel_by(at(one), client.pid, client.secret)
        assert was_cancelled(client)
        sleeps(early, postgres, "of one, from before")
        early.cancel()
        assert was_cancelled(early)
        del config["peers"]["2"]
        one.reload(config)
        sleeps(client, postgres, "of two again")
        cancel_by(at(one), client.pid, client.secret)
        one.wait_log("is for peer 2, which is not in")
        assert client.is_quiet()
        client.cancel()
        assert was_cancelled(client)
