"""TLS without a request for it: libpq's ``sslnegotiation=direct``, from clients and to servers."""

from __future__ import annotations

import copy
import random
import socket
import ssl
import time
from collections.abc import Iterator
from typing import Any

import psycopg
import psycopg2
import pytest
from eventually import eventually
from fix_certs import Certificates
from fix_doorman import Doorman, MakeDoorman, app_user
from fix_postgres import Postgres
from pace import duration, patience
from storm import cancelled
from wire_client import SSL_REQUEST, WireClient, query


def by_tls(certs: Certificates, **more: Any) -> dict[str, Any]:
    files = {"tls_certificate": str(certs.server.certificate), "tls_private_key": str(certs.server.private_key)}
    return {"general": {**files, **more}}


@pytest.fixture(scope="module")
def doorman_over(certs: Certificates) -> dict[str, Any]:
    return by_tls(certs)


needs_libpq_17 = pytest.mark.skipif(psycopg.pq.version() < 170000, reason="this libpq asks before it begins TLS")


@needs_libpq_17
def test_libpq(doorman: Doorman, certs: Certificates) -> None:
    for more in (
        {"sslmode": "require"},
        {"sslmode": "verify-full", "sslrootcert": str(certs.ca), "host": "localhost"},
        {"sslmode": "require", "channel_binding": "require"},
    ):
        with doorman.connect(sslnegotiation="direct", **more) as connection:
            assert connection.pgconn.ssl_in_use
            assert connection.execute("SELECT repeat('x', 100000)").fetchone() == ("x" * 100000,)


@pytest.mark.skipif(psycopg2.__libpq_version__ < 170000, reason="this libpq asks before it begins TLS")
def test_another_build_of_libpq(doorman: Doorman) -> None:
    connection = psycopg2.connect(doorman.dsn(sslmode="require", sslnegotiation="direct"))
    connection.close()


@needs_libpq_17
def test_cancel(doorman: Doorman, postgres: Postgres) -> None:
    """The cancel request comes the same way."""
    with doorman.connect(sslmode="require", sslnegotiation="direct") as connection:
        assert cancelled(connection, postgres, "direct") == ["57014"]


def direct(
    doorman: Doorman, certs: Certificates, alpn: list[str] | None = None, version: ssl.TLSVersion | None = None
) -> WireClient:
    client = doorman.raw()
    context = ssl.create_default_context(cafile=str(certs.ca))
    if alpn:
        context.set_alpn_protocols(alpn)
    if version is not None:
        context.minimum_version = context.maximum_version = version
    client.socket = context.wrap_socket(client.socket, server_hostname="localhost")
    return client


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_versions(doorman: Doorman, certs: Certificates, postgres: Postgres, version: ssl.TLSVersion) -> None:
    with direct(doorman, certs, ["postgresql"], version) as client:
        client.login("app", "testdb", postgres.password("app"))
        assert client.value("SELECT 1") == "1"


def test_the_client_hello_in_pieces(doorman: Doorman, certs: Certificates, postgres: Postgres) -> None:
    """However it comes, and with what is said behind it at once."""
    for size in (1, 3, 5, 100):
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = ssl.create_default_context(cafile=str(certs.ca))
        context.set_alpn_protocols(["postgresql"])
        tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
        with socket.create_connection((doorman.host, doorman.port), patience(10)) as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while True:
                try:
                    tls.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    hello = outgoing.read()
                    for at in range(0, len(hello), size):
                        sock.sendall(hello[at : at + size])
                    incoming.write(sock.recv(65536))
            # The end of the handshake and the first word, in one segment.
            tls.write(SSL_REQUEST)
            sock.sendall(outgoing.read())
            data = b""
            while not data:
                incoming.write(sock.recv(65536))
                try:
                    data = tls.read(100)
                except ssl.SSLWantReadError:
                    continue
            assert data == b"N"


@pytest.mark.parametrize("alpn", [None, ["h2", "http/1.1"]])
def test_tls_that_is_not_meant_for_postgresql(doorman: Doorman, certs: Certificates, alpn: list[str] | None) -> None:
    with direct(doorman, certs, alpn) as client:
        assert client.socket.recv(100) == b""
    doorman.wait_log("without ALPN protocol negotiation extension")  # one line a second at most


def test_garbage_behind_the_first_byte(doorman: Doorman) -> None:
    """Whoever sends it is closed, and nobody else notices."""
    chance = random.Random(15)
    for size in (1, 4, 5, 11, 100, 5000):
        for _ in range(5):
            with doorman.raw() as client:
                client.send(b"\x16" + chance.randbytes(size))
                client.socket.shutdown(socket.SHUT_WR)
                assert not client.socket.recv(100).startswith((b"E", b"R", b"S", b"N"))
    doorman.connect(sslmode="require").close()


@needs_libpq_17
def test_where_tls_is_not_offered(make_doorman: MakeDoorman) -> None:
    """The connection is closed without a word, as by PostgreSQL; the log has one."""
    doorman = make_doorman({"general": {"client_login_timeout": duration(20)}})
    began = time.monotonic()
    with pytest.raises(psycopg.OperationalError, match=r"(?i)SSL|EOF|closed"):
        doorman.connect(sslmode="require", sslnegotiation="direct")
    assert time.monotonic() - began < patience(10)
    doorman.wait_log("received direct SSL connection request, and TLS is not offered here")
    assert [row for row in doorman.admin("SHOW CLIENTS") if row["user"] == "app"] == []


# -- servers: those of Debian's PostgreSQL 15 don't know it, a pooler does


@pytest.fixture
def behind(make_doorman: MakeDoorman, certs: Certificates) -> Iterator[Doorman]:
    """A pooler to be the server."""
    yield make_doorman(by_tls(certs, tls_mode="require"))


def before(server: Doorman | Postgres, certs: Certificates, **more: Any) -> dict[str, Any]:
    pool = {
        "server_host": "127.0.0.1",
        "server_port": server.port,
        "server_tls_mode": "verify-full",
        "server_tls_ca_cert": str(certs.ca),
        "server_tls_negotiation": "direct",
    }
    return {"general": {"query_wait_timeout": duration(2)}, "pools": {"testdb": {**pool, **more}}}


def test_servers(make_doorman: MakeDoorman, behind: Doorman, certs: Certificates, postgres: Postgres) -> None:
    doorman = make_doorman(before(behind, certs, server_channel_binding="require"))
    with doorman.wire() as client:
        assert client.value("SELECT 1") == "1"
        client.send(query("SELECT pg_sleep(30), 'direct to the server'"))
        eventually(lambda: any("to the server" in b["query"] and b["state"] == "active" for b in postgres.backends()))
        client.cancel()
        assert client.read_ready()[-2].sqlstate == "57014"


@pytest.fixture(scope="module")
def new_postgres(own_postgres: Postgres, certs: Certificates) -> Postgres:
    if int(own_postgres.sql("SHOW server_version_num")) < 170000 or not own_postgres.sql("SHOW ssl_library"):
        pytest.skip("PostgreSQL is older than 17 here, or without TLS")
    own_postgres.offer_tls(certs)
    own_postgres.restart()
    return own_postgres


@pytest.mark.parametrize("mode", ["require", "verify-ca", "verify-full"])
def test_postgresql_itself(make_doorman: MakeDoorman, new_postgres: Postgres, certs: Certificates, mode: str) -> None:
    binding = {"server_channel_binding": "require", "users": [app_user(new_postgres, 1)]}
    doorman = make_doorman(before(new_postgres, certs, server_tls_mode=mode, **binding))
    with doorman.connect() as connection:
        assert connection.execute("SELECT ssl, version FROM pg_stat_ssl WHERE pid = pg_backend_pid()").fetchone() == (
            True,
            "TLSv1.3",
        )
        assert cancelled(connection, new_postgres, "direct to PostgreSQL") == ["57014"]
        assert connection.execute("SELECT length(repeat('x', 3000000))").fetchone() == (3_000_000,)


def test_a_server_that_does_not_know_it(make_doorman: MakeDoorman, postgres: Postgres, certs: Certificates) -> None:
    if int(postgres.sql("SHOW server_version_num")) >= 170000:
        pytest.skip("it does")
    doorman = make_doorman(before(make_doorman(), certs, server_port=postgres.port))
    with pytest.raises(psycopg.OperationalError):
        doorman.connect().execute("SELECT 1")
    doorman.wait_log('server_tls_negotiation is "direct", which PostgreSQL knows since 17')


def test_direct_leaves_no_choice(make_doorman: MakeDoorman, certs: Certificates) -> None:
    doorman = make_doorman()
    for mode in ("disable", "allow", "prefer"):
        config = copy.deepcopy(doorman.config)
        config["pools"]["testdb"] |= {"server_tls_negotiation": "direct", "server_tls_mode": mode}
        mark = len(doorman.log_lines)
        doorman.reload(config)
        doorman.wait_log(f"'direct', which leaves no choice, and server_tls_mode is '{mode}'", after=mark)
