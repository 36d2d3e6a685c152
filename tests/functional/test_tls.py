"""TLS on both sides of the pooler."""

from __future__ import annotations

import contextlib
import copy
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from eventually import eventually
from fix_certs import Certificates
from fix_doorman import Doorman, MakeDoorman
from fix_postgres import Postgres
from fix_workers import Make
from pace import duration, patience
from storm import cancelled
from wire_client import SSL_REQUEST, WireClient, WireError, kinds, prepared, query, startup


def client_side(certs: Certificates, **more: Any) -> dict[str, Any]:
    return {
        "general": {
            "tls_certificate": str(certs.server.certificate),
            "tls_private_key": str(certs.server.private_key),
            **more,
        }
    }


@pytest.fixture(scope="module")
def doorman_over(certs: Certificates) -> dict[str, Any]:
    return client_side(certs)


# -- clients


def test_clients_by_tls(doorman: Doorman, certs: Certificates) -> None:
    for mode in ("require", "verify-full"):
        with doorman.connect(sslmode=mode, sslrootcert=str(certs.ca)) as connection:
            assert connection.pgconn.ssl_in_use
            for i in range(10):
                assert connection.execute("SELECT %s::int", (i,)).fetchone() == (i,)
            assert "true" in {str(r["tls"]).lower() for r in doorman.admin("SHOW CLIENTS")}


def test_clients_without_tls_where_it_is_allowed(doorman: Doorman) -> None:
    with doorman.connect(sslmode="disable") as connection:
        assert not connection.pgconn.ssl_in_use


def test_large_values_by_tls(doorman: Doorman) -> None:
    with doorman.connect(sslmode="require") as connection:
        row = connection.execute("SELECT %s || repeat('y', 5000000)", ("x" * 5_000_000,)).fetchone()
        assert row is not None
        assert len(row[0]) == 10_000_000
        with connection.cursor() as cursor, cursor.copy("COPY (SELECT generate_series(1, 100000)) TO STDOUT") as copy:
            assert sum(1 for _ in copy.rows()) == 100_000


def test_cancel_by_tls(doorman: Doorman, postgres: Postgres) -> None:
    with doorman.connect(sslmode="require") as connection:
        assert cancelled(connection, postgres, "by tls") == ["57014"]


def tls_client(doorman: Doorman, certs: Certificates, **more: Any) -> WireClient:
    client = doorman.raw()
    client.send(SSL_REQUEST)
    assert client.read_byte() == b"S"
    context = ssl.create_default_context(cafile=str(certs.ca))
    for name, value in more.items():
        setattr(context, name, value)
    client.socket = context.wrap_socket(client.socket, server_hostname="localhost")
    return client


def test_pipelines_by_tls(doorman: Doorman, certs: Certificates, postgres: Postgres) -> None:
    with tls_client(doorman, certs) as client:
        client.login("app", "testdb", postgres.password("app"))
        batch = b"".join(prepared("", f"SELECT {i}, repeat('x', 1000)") for i in range(300))
        assert kinds(client.ask(batch, 300)) == "12TDCZ" * 300


def test_a_renewed_certificate_is_taken_by_a_reload(
    make_doorman: MakeDoorman, certs: Certificates, tmp_path: Path
) -> None:
    """New handshakes are by the new one, who is in stays in, and a pair that does not fit changes nothing."""
    certificate, key = tmp_path / "server.crt", tmp_path / "server.key"

    def put(files: Any) -> None:
        certificate.write_bytes(files.certificate.read_bytes())
        key.write_bytes(files.private_key.read_bytes())

    put(certs.elsewhere)
    doorman = make_doorman({"general": {"tls_certificate": str(certificate), "tls_private_key": str(key)}})
    verified = {"sslmode": "verify-full", "sslrootcert": str(certs.ca), "host": "localhost"}
    with pytest.raises(psycopg.OperationalError, match="elsewhere"):
        doorman.connect(**verified)
    with doorman.connect(sslmode="require") as before:
        put(certs.server)
        mark = len(doorman.log_lines)
        doorman.admin("RELOAD")
        doorman.wait_log(f"reloaded: .*files read anew: {certificate}, {key}", after=mark)
        with doorman.connect(**verified) as after:
            assert after.execute("SELECT 1").fetchone() == (1,)
        assert before.execute("SELECT 1").fetchone() == (1,)
    key.write_bytes(certs.stranger.private_key.read_bytes())
    with pytest.raises(psycopg.Error, match="tls_private_key"):
        doorman.admin("RELOAD")
    doorman.connect(**verified).close()


def test_tls_by_a_reload(make_doorman: MakeDoorman, certs: Certificates) -> None:
    doorman = make_doorman()
    with pytest.raises(psycopg.OperationalError):
        doorman.connect(sslmode="require")
    config = copy.deepcopy(doorman.config)
    config["general"].update(client_side(certs)["general"])
    doorman.reload(config)
    doorman.wait_log(r"reloaded: .*changed: general\.tls_certificate, general\.tls_private_key")
    doorman.connect(sslmode="require").close()


def test_tls_is_at_least_1_2(doorman: Doorman, certs: Certificates) -> None:
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        with tls_client(doorman, certs, minimum_version=version, maximum_version=version) as client:
            assert client.socket.version() in ("TLSv1.2", "TLSv1.3")  # type: ignore[attr-defined]


@pytest.mark.parametrize("behind", [b"\0", startup(user="app", database="testdb"), query("SELECT 1")])
def test_bytes_in_clear_behind_an_ssl_request_are_refused(doorman: Doorman, behind: bytes) -> None:
    """CVE-2021-3935 and its like: what came in clear must not be taken for what came by TLS."""
    with doorman.raw() as client:
        client.send(SSL_REQUEST + behind)
        answer = client.read_to_end()
        assert answer in (b"", b"S") or answer.lstrip(b"S")[:1] == b"E"
        assert b"R\0\0\0" not in answer


def test_a_second_ssl_request_within_tls_is_refused(doorman: Doorman, certs: Certificates) -> None:
    with tls_client(doorman, certs) as client:
        client.send(SSL_REQUEST)
        answer = client.read_to_end()
        assert answer == b"" or answer[:1] == b"E"


def test_garbage_instead_of_a_handshake(doorman: Doorman) -> None:
    for garbage in (b"\0" * 100, b"\x16\x03\x01\x02\x00" + b"x" * 512, b"GET / HTTP/1.0\r\n\r\n"):
        with doorman.raw() as client:
            client.send(SSL_REQUEST)
            assert client.read_byte() == b"S"
            client.send(garbage)
            client.socket.shutdown(1)
            client.read_to_end()
    with doorman.connect(sslmode="require"):
        pass
    doorman.wait_log("INFO .*could not accept SSL connection")


def test_require_refuses_clear_text(make_doorman: MakeDoorman, certs: Certificates) -> None:
    doorman = make_doorman(client_side(certs, tls_mode="require"))
    with pytest.raises(WireError) as caught:
        doorman.wire()
    assert caught.value.message.sqlstate == "28000"
    with doorman.connect(sslmode="require") as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_verify_full_wants_a_certificate_of_our_authority(make_doorman: MakeDoorman, certs: Certificates) -> None:
    doorman = make_doorman(client_side(certs, tls_mode="verify-full", tls_ca_cert=str(certs.ca)))
    own = {"sslcert": str(certs.client.certificate), "sslkey": str(certs.client.private_key)}
    with doorman.connect(sslmode="require", **own) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    stranger = {"sslcert": str(certs.stranger.certificate), "sslkey": str(certs.stranger.private_key)}
    for bad in ({}, stranger):
        with pytest.raises(psycopg.OperationalError):
            doorman.connect(sslmode="require", **bad)


def test_disable_says_no(make_doorman: MakeDoorman, certs: Certificates) -> None:
    doorman = make_doorman(client_side(certs, tls_mode="disable"))
    with doorman.raw() as client:
        client.send(SSL_REQUEST)
        assert client.read_byte() == b"N"
        client.login("app", "testdb", Postgres.PASSWORDS["app"])


def test_hostssl_lines(make_doorman: MakeDoorman, certs: Certificates) -> None:
    doorman = make_doorman(
        client_side(
            certs, pg_hba="hostssl all all all scram-sha-256\nhostnossl all admin all md5\nhostnossl all all all reject"
        )
    )
    with doorman.connect(sslmode="require"):
        pass
    with pytest.raises(WireError) as caught:
        doorman.wire()
    assert caught.value.message.sqlstate == "28000"


def test_handshakes_wait_in_line(make_doorman: MakeDoorman, certs: Certificates) -> None:
    """All come to their turns, and none while those before them take the second."""
    doorman = make_doorman(client_side(certs, tls_rate_limit_per_second=100, worker_threads=1))
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(socket.create_connection((doorman.host, doorman.port))) for _ in range(40)]
        for client in clients:
            client.sendall(SSL_REQUEST)
        for number, client in enumerate(clients):
            assert client.recv(1) == b"S"
            if number % 2:
                continue  # who does not begin takes nobody's turn
            context = ssl.create_default_context(cafile=str(certs.ca))
            stack.enter_context(context.wrap_socket(client, server_hostname="localhost"))
    assert time.monotonic() - began >= 0.17  # twenty turns, of which the first two come at once
    config = copy.deepcopy(doorman.config)
    for rate, why in ((50, "should be > 100"), (150, "should be multiple 100")):
        config["general"]["tls_rate_limit_per_second"] = rate
        mark = len(doorman.log_lines)
        doorman.reload(config)
        doorman.wait_log(f"tls rate limit {why}", after=mark)


# -- servers


@pytest.fixture(scope="module")
def tls_postgres(own_postgres: Postgres, certs: Certificates) -> Iterator[Postgres]:
    """A cluster that speaks TLS, and clear text to nobody but ``app_trust`` and ``postgres``."""
    own_postgres.offer_tls(certs)
    own_postgres.write_hba(
        [
            "hostssl all app 127.0.0.1/32 scram-sha-256",
            "hostssl all app_two 127.0.0.1/32 scram-sha-256 clientcert=verify-ca",
            "hostnossl all app_trust 127.0.0.1/32 trust",
            "host all postgres 127.0.0.1/32 trust",
            "local all all trust",
        ]
    )
    own_postgres.restart()
    yield own_postgres


def server_side(postgres: Postgres, role: str = "app", **more: Any) -> dict[str, Any]:
    user = {
        "username": "someone",
        "password": "a plain secret",
        "pool_size": 2,
        "server_username": role,
        "server_password": postgres.password(role),
    }
    return {
        "general": {"query_wait_timeout": duration(2)},
        "pools": {"testdb": {"server_host": "127.0.0.1", "server_port": postgres.port, "users": [user], **more}},
    }


IN_USE = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"


def someone(doorman: Doorman) -> WireClient:
    return doorman.wire("testdb", "someone", "a plain secret")


@pytest.mark.parametrize("mode", ["allow", "prefer", "require", "verify-ca", "verify-full"])
def test_servers_by_tls(make_doorman: MakeDoorman, tls_postgres: Postgres, certs: Certificates, mode: str) -> None:
    """``allow`` comes in clear first and is refused by pg_hba, then by TLS."""
    more = {"server_tls_ca_cert": str(certs.ca)} if mode.startswith("verify") else {}
    doorman = make_doorman(server_side(tls_postgres, server_tls_mode=mode, **more))
    with someone(doorman) as client:
        assert client.value(IN_USE) == "t"
        assert len(client.value("SELECT repeat('x', 3000000)") or "") == 3_000_000
        client.send(query("SELECT pg_sleep(30), 'server tls'"))
        eventually(lambda: any("server tls" in b["query"] and b["state"] == "active" for b in tls_postgres.backends()))
        client.cancel()
        assert client.read_ready()[-2].sqlstate == "57014"


def test_servers_by_tls_go_where_somebody_waits(workers: Make, tls_postgres: Postgres) -> None:
    doorman = workers(1, over=tls_postgres, server_tls_mode="require")
    with doorman.client(1) as first, doorman.client(2) as second:
        pid = first.value("SELECT pg_backend_pid()")
        for size in range(0, 200_000, 20_000):
            for client in (first, second):
                assert client.value(f"SELECT pg_backend_pid() || repeat('x', {size})") == f"{pid}{'x' * size}"
                assert client.value(IN_USE) == "t"
                assert client.value(f"SELECT length('{'y' * size}')") == str(size)


def test_servers_by_tls_whose_secrets_are_not_kept_stay(workers: Make, tls_postgres: Postgres) -> None:
    doorman = workers(1, {"tls_handover": False}, over=tls_postgres, server_tls_mode="require")
    with doorman.client(1) as first, doorman.client(2) as second:
        pid = first.value("SELECT pg_backend_pid()")
        assert second.value("SELECT pg_backend_pid()") != pid


@pytest.mark.parametrize("kept", [True, False])
def test_servers_by_tls_in_an_upgrade(make_doorman: MakeDoorman, tls_postgres: Postgres, kept: bool) -> None:
    """With who keeps one between transactions, too."""
    config = server_side(tls_postgres, server_tls_mode="require")
    config["general"]["tls_handover"] = kept
    doorman = make_doorman(config)
    with someone(doorman) as client, someone(doorman) as listening:
        listening.ask_query("LISTEN news")
        pids = [each.value("SELECT pg_backend_pid()") for each in (client, listening)]
        for _ in range(2 if kept else 1):
            doorman.upgrade()
            assert client.value("SELECT 1") == "1"
            if not kept:
                listening.terminate()
            assert doorman.end_of_predecessor() == 0
        assert (client.value("SELECT pg_backend_pid()") == pids[0]) is kept
        if kept:
            assert listening.value("SELECT pg_backend_pid()") == pids[1]
            assert listening.value(IN_USE) == client.value(IN_USE) == "t"
            assert listening.value("SELECT pg_listening_channels()") == "news"


@pytest.mark.parametrize("mode", ["disable", "allow"])
def test_servers_in_clear(make_doorman: MakeDoorman, tls_postgres: Postgres, mode: str) -> None:
    doorman = make_doorman(server_side(tls_postgres, "app_trust", server_tls_mode=mode))
    with someone(doorman) as client:
        assert client.value(IN_USE) == "f"


def test_prefer_falls_back_to_clear(make_doorman: MakeDoorman, postgres: Postgres) -> None:
    doorman = make_doorman(server_side(postgres, server_tls_mode="prefer"))
    with someone(doorman) as client:
        assert client.value(IN_USE) == "f"


@pytest.mark.parametrize("why", ["no tls there", "another authority", "another name", "disabled", "no certificate"])
def test_servers_we_must_not_talk_to(
    make_doorman: MakeDoorman, postgres: Postgres, tls_postgres: Postgres, certs: Certificates, why: str
) -> None:
    there = {
        "no tls there": server_side(postgres, server_tls_mode="require"),
        "another authority": server_side(
            tls_postgres, server_tls_mode="verify-ca", server_tls_ca_cert=str(certs.other_ca)
        ),
        "another name": server_side(tls_postgres, server_tls_mode="verify-full", server_tls_ca_cert=str(certs.ca)),
        "disabled": server_side(tls_postgres, server_tls_mode="disable"),
        "no certificate": server_side(tls_postgres, "app_two", server_tls_mode="require"),
    }[why]
    if why == "another name":
        tls_postgres.install_file("server.crt", certs.elsewhere.certificate.read_bytes())
        tls_postgres.install_file("server.key", certs.elsewhere.private_key.read_bytes())
        tls_postgres.restart()
    try:
        doorman = make_doorman(there)
        with pytest.raises(WireError) as caught, someone(doorman) as client:
            client.send(query("SELECT 1"))
            raise WireError(client.read_until("E")[-1])
        assert caught.value.message.sqlstate in ("08006", "53300", "28000", "3D000")
    finally:
        if why == "another name":
            tls_postgres.install_file("server.crt", certs.server.certificate.read_bytes())
            tls_postgres.install_file("server.key", certs.server.private_key.read_bytes())
            tls_postgres.restart()


@pytest.mark.parametrize("mode", ["allow", "disable"])
def test_a_server_that_takes_nothing_but_tls_is_named(make_doorman: MakeDoorman, mode: str) -> None:
    """As stunnel before PostgreSQL: whoever begins otherwise than with an SSLRequest is closed without a word."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def close_all() -> None:
            with contextlib.suppress(OSError):
                while True:
                    peer, _ = listening.accept()
                    with peer:
                        peer.recv(1024)

        thread = threading.Thread(target=close_all)
        thread.start()
        try:
            pool = {"server_host": "127.0.0.1", "server_port": listening.getsockname()[1], "server_tls_mode": mode}
            doorman = make_doorman({"general": {"query_wait_timeout": "1s"}, "pools": {"testdb": pool}})
            with pytest.raises(WireError):
                doorman.wire()
            line = doorman.wait_log("closed the connection unexpectedly during login")
            assert ('server_tls_mode has to be "prefer" or "require"' in line) == (mode == "allow")
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join(patience(10))


def test_our_certificate_to_the_server(make_doorman: MakeDoorman, tls_postgres: Postgres, certs: Certificates) -> None:
    doorman = make_doorman(
        server_side(
            tls_postgres,
            "app_two",
            server_tls_mode="verify-full",
            server_tls_ca_cert=str(certs.ca),
            server_tls_certificate=str(certs.client.certificate),
            server_tls_private_key=str(certs.client.private_key),
        )
    )
    with someone(doorman) as client:
        assert client.value("SELECT current_user") == "app_two"


def test_tls_on_both_sides(make_doorman: MakeDoorman, tls_postgres: Postgres, certs: Certificates) -> None:
    configuration = server_side(tls_postgres, server_tls_mode="require")
    configuration["general"].update(client_side(certs)["general"])
    doorman = make_doorman(configuration)
    with doorman.connect(user="someone", password="a plain secret", sslmode="require") as connection:
        assert connection.execute(IN_USE).fetchone() == (True,)
        rows = connection.execute("SELECT i, repeat('r', 500) FROM generate_series(1, 20000) i").fetchall()
        assert len(rows) == 20000
