"""Clients behind load balancers that say by the PROXY protocol whose connection it is."""

from __future__ import annotations

import copy
import re
import socket
import ssl
import struct
from typing import Any

import pytest
from fix_certs import Certificates
from fix_doorman import ADMIN_PASSWORD, ADMIN_USER, Doorman, MakeDoorman
from fix_postgres import Postgres
from wire_client import SSL_REQUEST, WireClient, WireError, cancel_request, kinds, startup

#: What of the loopback network is the balancer; clients without one come from 127.0.0.1.
BALANCER = "127.0.0.2"
CLIENT = "192.0.2.7"
OTHER = "198.51.100.9"

V1 = f"PROXY TCP4 {CLIENT} 127.0.0.1 4711 6432\r\n".encode()
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


def v2(client: str = CLIENT, command: int = 1, tlvs: bytes = b"") -> bytes:
    """A header of version 2 for a client that has come by IPv4."""
    body = socket.inet_aton(client) + socket.inet_aton("127.0.0.1") + struct.pack("!HH", 4711, 6432) + tlvs
    return SIGNATURE + bytes([0x20 | command, 0x11]) + struct.pack("!H", len(body)) + body


def balancer(doorman: Doorman, header: bytes = b"") -> WireClient:
    """A connection of the balancer's, which begins with ``header``."""
    client = doorman.raw()
    client.socket.close()
    client.socket = socket.create_connection(
        (doorman.host, doorman.port), timeout=client.timeout, source_address=(BALANCER, 0)
    )
    client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client.send(header)
    return client


def log_in(client: WireClient, postgres: Postgres) -> WireClient:
    return client.login("app", "testdb", postgres.password("app"))


def refused(client: WireClient) -> dict[str, str]:
    """The fields of the only message that is left for a client."""
    (message,) = client.read_messages_to_end()
    assert message.kind == "E"
    return message.fields


@pytest.fixture(scope="module")
def doorman_over(certs: Certificates) -> dict[str, Any]:
    return {
        "general": {
            "proxy_protocol": [f"{BALANCER}/32"],
            "tls_certificate": str(certs.server.certificate),
            "tls_private_key": str(certs.server.private_key),
            "pg_hba": f"host all all {OTHER}/32 reject\nhost all all {BALANCER}/32 reject\nhost all all all md5",
        }
    }


@pytest.mark.parametrize("header", [V1, v2(), v2(tlvs=b"\x04\0\x03abc" + b"\xea\0\x80" + bytes(128))])
def test_the_client_s_address_counts(doorman: Doorman, postgres: Postgres, header: bytes) -> None:
    """For pg_hba, which refuses the balancer itself; for SHOW CLIENTS; and for the log."""
    mark = len(doorman.log_lines)
    with log_in(balancer(doorman, header), postgres) as client:
        assert client.value("SELECT 1") == "1"
        assert f"{CLIENT}:4711" in [row["addr"] for row in doorman.admin("SHOW CLIENTS")]
        doorman.wait_log(rf"client connected from {CLIENT}:4711", after=mark)
    with balancer(doorman, header.replace(CLIENT.encode(), OTHER.encode()) if header == V1 else v2(OTHER)) as client:
        client.send(startup(user="app", database="testdb"))
        assert refused(client)["C"] == "28000"
        doorman.wait_log(rf"app@testdb {OTHER}:4711.*pg_hba", after=mark)


def test_a_header_in_pieces(doorman: Doorman, postgres: Postgres) -> None:
    for header in (V1, v2(tlvs=b"\x04\0\x03abc")):
        with balancer(doorman) as client:
            client.dribble(header + startup(user="app", database="testdb"))
            client.authenticate("app", postgres.password("app"))
            assert client.value("SELECT 1") == "1"


def test_tls_behind_the_header(doorman: Doorman, certs: Certificates, postgres: Postgres) -> None:
    for header in (V1, v2()):
        with balancer(doorman, header + SSL_REQUEST) as client:
            assert client.read_byte() == b"S"
            context = ssl.create_default_context(cafile=str(certs.ca))
            client.socket = context.wrap_socket(client.socket, server_hostname="localhost")
            log_in(client, postgres)
            (row,) = [row for row in doorman.admin("SHOW CLIENTS") if row["addr"] == f"{CLIENT}:4711"]
            assert str(row["tls"]).lower() == "true"


def test_a_cancel_request_and_the_console_behind_the_header(doorman: Doorman, postgres: Postgres) -> None:
    with balancer(doorman, V1) as console:
        console.login(ADMIN_USER, "pgdoorman", ADMIN_PASSWORD)
        assert kinds(console.ask_query("SHOW VERSION")) == "TDCZ"
    with log_in(balancer(doorman, V1), postgres) as client:
        client.send(b"Q" + struct.pack("!i", 24) + b"SELECT pg_sleep(30)\0")
        with balancer(doorman, v2() + cancel_request(client.pid, client.secret)) as other:
            assert other.read_to_end() == b""
        assert client.read_until("E")[-1].sqlstate == "57014"


@pytest.mark.parametrize("header", [b"PROXY UNKNOWN\r\n", v2(command=0), SIGNATURE + b"\x21\0\0\0"])
def test_a_connection_of_the_balancer_s_own(doorman: Doorman, header: bytes) -> None:
    """A check of health has no client: it counts as what it is, which pg_hba refuses here."""
    mark = len(doorman.log_lines)
    with balancer(doorman, header) as client:
        client.send(startup(user="app", database="testdb"))
        assert refused(client)["C"] == "28000"
    doorman.wait_log(rf"app@testdb {BALANCER}:\d+.*pg_hba", after=mark)


@pytest.mark.parametrize(
    "said",
    [
        SSL_REQUEST,
        startup(user="app", database="testdb"),
        b"GET / HTTP/1.1\r\n\r\n",
        b"PROXY TCP5 a b c d\r\n",
        b"PROXY " + b"x" * 200,
        SIGNATURE + b"\x21\x11\0\4abcd",
        SIGNATURE + b"\x21\x11\xff\xff",
    ],
)
def test_no_header_where_there_must_be_one(doorman: Doorman, said: bytes) -> None:
    """The protocol's own rule: nothing is guessed, or anybody could say who he is."""
    with balancer(doorman, said) as client:
        fields = refused(client)
        assert fields["C"] == "08P01"
        assert "PROXY protocol header" in fields["M"]


def test_a_header_from_elsewhere_is_refused_and_named_once_a_minute(
    make_doorman: MakeDoorman, postgres: Postgres
) -> None:
    doorman = make_doorman()
    for header, version in ((V1, 1), (v2(), 2), (V1, 1)):
        with doorman.raw() as client:
            client.send(header + startup(user="app", database="testdb"))
            fields = refused(client)
            assert fields["C"] == "08P01"
            assert f"PROXY protocol header (version {version})" in fields["M"]
            assert "proxy_protocol" in fields["M"]
    with doorman.raw() as client:
        client.socket.close()
        client.socket = socket.create_connection((doorman.host, doorman.port), 5, source_address=(BALANCER, 0))
        client.send(v2() + SSL_REQUEST)
        assert refused(client)["C"] == "08P01"
    doorman.wait_log(rf"\[{BALANCER}:.* PROXY protocol header \(version 2\)")
    # Each worker names an address of its own accord.
    named = [line for line in doorman.log_lines if "PROXY protocol header" in line]
    by_whom = [(re.findall(r" worker \d+: ", line), *re.findall(r"\[([0-9.]+):\d+", line)) for line in named]
    assert {address for _, address in by_whom} == {"127.0.0.1", BALANCER}
    assert all(by_whom.count(each) == 1 for each in by_whom), named
    # It is the reload that lets the balancer in.
    config = copy.deepcopy(doorman.config)
    config["general"]["proxy_protocol"] = [f"{BALANCER}/32", "::1/128"]
    doorman.reload(config)
    with log_in(balancer(doorman, V1), postgres) as client:
        assert client.value("SELECT 1") == "1"


@pytest.mark.parametrize(
    ("said", "seen"),
    [
        (b"GET / HTTP/1.1\r\nHost: db\r\n\r\n", "an HTTP request"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "an SSH client"),
    ],
)
def test_other_protocols_are_named(make_doorman: MakeDoorman, said: bytes, seen: str) -> None:
    doorman = make_doorman()
    with doorman.raw() as client:
        client.send(said)
        assert seen in refused(client)["M"]
    doorman.wait_log(seen)


def test_networks_that_are_none(make_doorman: MakeDoorman) -> None:
    doorman = make_doorman()
    config = copy.deepcopy(doorman.config)
    config["general"]["proxy_protocol"] = ["balancer.example"]
    mark = len(doorman.log_lines)
    doorman.reload(config)
    doorman.wait_log(
        r"reload failed.*general\.proxy_protocol: found \"balancer.example\", expected a network", after=mark
    )


def test_wrong_passwords_name_the_client(doorman: Doorman) -> None:
    mark = len(doorman.log_lines)
    with balancer(doorman, V1) as client, pytest.raises(WireError):
        client.login("app", "testdb", "wrong")
    doorman.wait_log(rf"{CLIENT}:4711.*password authentication failed", after=mark)


def test_a_remembered_login_is_that_address_s(make_doorman: MakeDoorman, postgres: Postgres) -> None:
    """What was decided for one client behind a balancer is nothing to the next, who sends the same packet."""
    user = {"username": "app_md5", "password": postgres.secret("app_md5"), "pool_size": 1}
    doorman = make_doorman(
        {
            "general": {
                "proxy_protocol": [BALANCER],
                "pg_hba": f"host all all {OTHER}/32 reject\nhost all all all md5",
            },
            "pools": {"testdb": {"users": [user]}},
        }
    )
    for _ in range(2):
        with balancer(doorman, v2()) as client:
            client.login("app_md5", "testdb", postgres.password("app_md5"))
        with balancer(doorman, v2(OTHER)) as client:
            client.send(startup(user="app_md5", database="testdb"))
            assert refused(client)["C"] == "28000"
