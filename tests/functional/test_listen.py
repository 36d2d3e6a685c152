"""Where the pooler listens: several addresses, IPv6, the unix socket; and servers behind one."""

from __future__ import annotations

import copy
import os
import pwd
import signal
import socket
import stat
import time
from pathlib import Path

import psycopg
import pytest
from fix_doorman import START_DEADLINE, MakeDoorman
from fix_postgres import Postgres, supports_tcp6
from pace import patience
from wire_client import SSL_REQUEST, WireClient, WireError


def test_several_addresses(make_doorman: MakeDoorman) -> None:
    hosts = ["127.0.0.1", "127.0.0.2", *(["::1"] if supports_tcp6() else [])]
    doorman = make_doorman({"general": {"host": hosts}})
    for host in hosts:
        with doorman.connect(host=host) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
    with pytest.raises(psycopg.OperationalError):
        doorman.connect(host="127.0.0.3")
    if "::1" in hosts:
        assert doorman.stop() == 0


def test_ipv6_alone(make_doorman: MakeDoorman, postgres: Postgres) -> None:
    if not supports_tcp6():
        pytest.skip("this machine has no ::1")
    doorman = make_doorman({"general": {"host": "::1", "pg_hba": "host all all ::1/128 scram-sha-256"}})
    with doorman.connect() as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_host_by_name(make_doorman: MakeDoorman) -> None:
    doorman = make_doorman({"general": {"host": "localhost"}, "pools": {"testdb": {"server_host": "localhost"}}})
    with doorman.connect(host="localhost") as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


@pytest.mark.parametrize("mode", [None, "0600", "0777", "0660"])
def test_the_unix_socket(make_doorman: MakeDoorman, short_directory: Path, mode: str | None) -> None:
    doorman = make_doorman({"general": {"unix_socket_dir": str(short_directory), "unix_socket_mode": mode}})
    path = short_directory / f".s.PGSQL.{doorman.port}"
    assert stat.S_ISSOCK(path.stat().st_mode)
    assert stat.S_IMODE(path.stat().st_mode) == int(mode or "0600", 8)
    with doorman.connect(host=str(short_directory)) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
        assert {r["addr"].split(":")[0] for r in doorman.admin("SHOW CLIENTS")} >= {"unix"}
    with WireClient(str(path)) as client:
        # TLS makes no sense there; PostgreSQL says no, too.
        client.send(SSL_REQUEST)
        assert client.read_byte() == b"N"
        client.login("app", "testdb", Postgres.PASSWORDS["app"])
        client.cancel()
    assert doorman.stop() == 0
    assert not path.exists()


def test_pg_hba_local_lines(make_doorman: MakeDoorman, short_directory: Path) -> None:
    doorman = make_doorman(
        {
            "general": {
                "unix_socket_dir": str(short_directory),
                "pg_hba": "local all app trust\nlocal all all reject\nhost all all all scram-sha-256",
            }
        }
    )
    with WireClient(str(short_directory / f".s.PGSQL.{doorman.port}")) as client:
        client.login("app", "testdb", "no password needed")
    with pytest.raises(WireError):
        doorman.wire(password="no password needed")


@pytest.mark.skipif(not hasattr(socket, "SO_PEERCRED"), reason="this system does not tell")
def test_peer(make_doorman: MakeDoorman, short_directory: Path) -> None:
    """The system says who is there, each time anew, and the map whom that leads to; no secret is asked for."""
    me = pwd.getpwuid(os.getuid()).pw_name
    general = {
        "unix_socket_dir": str(short_directory),
        "pg_hba": "local testdb app peer map=m\nlocal onedb app peer\nlocal all all peer map=m\nhost all all all md5",
        "pg_ident": f"m {me} app\nm {me} admin\nm {me} nobody",
    }
    doorman = make_doorman({"general": general})
    for _ in range(3):
        with doorman.connect(host=str(short_directory), password="") as connection:
            assert connection.execute("SELECT session_user").fetchone() == ("app",)
    with doorman.admin_connect(host=str(short_directory)) as console:
        assert console.execute("SHOW VERSION").fetchall()
    for user, database, why in (
        ("app", "onedb", f"authenticated user name \\({me}\\) do not match"),
        ("nobody", "testdb", "no such user in a pool of that name"),
        ("app_two", "testdb", "no such user in a pool of that name"),
    ):
        with pytest.raises(psycopg.OperationalError, match=f'Peer authentication failed for user "{user}"'):
            doorman.connect(host=str(short_directory), user=user, dbname=database)
        doorman.wait_log(why)


def test_the_address_list_is_not_for_the_unix_socket(make_doorman: MakeDoorman, short_directory: Path) -> None:
    doorman = make_doorman({"general": {"unix_socket_dir": str(short_directory), "hba": ["10.0.0.0/8"]}})
    with doorman.connect(host=str(short_directory)) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_the_socket_of_a_pooler_that_was_killed_is_taken_over(make_doorman: MakeDoorman, short_directory: Path) -> None:
    doorman = make_doorman({"general": {"unix_socket_dir": str(short_directory)}})
    doorman.kill()
    assert (short_directory / f".s.PGSQL.{doorman.port}").exists()
    doorman.start()
    with doorman.connect(host=str(short_directory)) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_server_behind_a_unix_socket(make_doorman: MakeDoorman, postgres: Postgres) -> None:
    doorman = make_doorman({"pools": {"testdb": {"server_host": str(postgres.socket_dir)}}})
    with doorman.connect() as connection:
        assert connection.execute("SELECT inet_server_addr() IS NULL").fetchone() == (True,)
        row = connection.execute("SELECT length(%s || repeat('y', 3000000))", ("x" * 3_000_000,)).fetchone()
        assert row == (6_000_000,)


def test_a_server_by_ipv6(make_doorman: MakeDoorman, own_postgres: Postgres) -> None:
    if not supports_tcp6():
        pytest.skip("this machine has no ::1")
    own_postgres.configure(listen_addresses="127.0.0.1,::1")
    own_postgres.restart()
    users = [{"username": "app", "password": own_postgres.secret("app"), "pool_size": 2}]
    doorman = make_doorman(
        {"pools": {"testdb": {"server_host": "::1", "server_port": own_postgres.port, "users": users}}}
    )
    with doorman.connect() as connection:
        assert connection.execute("SELECT host(inet_server_addr())").fetchone() == ("::1",)


def test_idle_clients_are_cheap(make_doorman: MakeDoorman) -> None:
    """A smoke test of memory per idle client; the benchmark measures it in earnest."""
    doorman = make_doorman({"general": {"max_connections": 1000}})
    clients = [doorman.wire() for _ in range(50)]
    for client in clients:
        client.value("SELECT 1")
    before = doorman.rss()
    more = [doorman.wire() for _ in range(400)]
    for client in more:
        client.value("SELECT 1")
    grown = doorman.rss() - before
    assert grown / 400 < 48 * 1024
    for client in [*clients, *more]:
        client.terminate()
    # What it took is given back to those who come after.
    for _ in range(3):
        again = [doorman.wire() for _ in range(400)]
        for client in again:
            client.value("SELECT 1")
            client.terminate()
    assert doorman.rss() - before < grown + (12 << 20)


def test_who_sees_the_first_address_answer_may_rely_on_the_rest(
    make_doorman: MakeDoorman, short_directory: Path
) -> None:
    """The other addresses answer, and signals are obeyed by then: scripts take that answer for the end of the start."""
    hosts = [f"127.0.1.{number}" for number in range(1, 200)]
    doorman = make_doorman({"general": {"host": hosts, "unix_socket_dir": str(short_directory)}}, start=False)
    doorman.start(wait=False)
    deadline = time.monotonic() + patience(START_DEADLINE)
    while True:
        try:
            first = socket.create_connection((hosts[0], doorman.port), timeout=patience(1))
            break
        except OSError:
            assert doorman.running, doorman.log_text()
            assert time.monotonic() < deadline
    os.kill(doorman.pid, signal.SIGHUP)
    with first, socket.socket(socket.AF_UNIX) as client:
        client.connect(str(short_directory / f".s.PGSQL.{doorman.port}"))
        for host in hosts:
            socket.create_connection((host, doorman.port), timeout=patience(1)).close()
    doorman.wait_log("configuration reloaded")


def test_a_reload_while_listening_on_several(make_doorman: MakeDoorman) -> None:
    doorman = make_doorman({"general": {"host": ["127.0.0.1", "127.0.0.2"]}})
    config = copy.deepcopy(doorman.config)
    config["general"]["max_connections"] = 100
    doorman.reload(config)
    for host in ("127.0.0.1", "127.0.0.2"):
        with doorman.connect(host=host):
            pass
