"""What may be chosen of TLS on both sides: versions, cipher suites, what is revoked; statements are cancelled by all."""

from __future__ import annotations

import copy
import os
import re
import ssl
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psycopg
import pytest
from fix_certs import CertificateFiles, Certificates
from fix_doorman import Doorman, MakeDoorman
from fix_postgres import HBA, Postgres
from pace import duration, patience
from storm import cancelled
from throwaway_postgres import find_program
from wire_client import SSL_REQUEST, WireClient, kinds, prepared

#: One of each kind that there is for our certificates: AES-GCM, ChaCha20-Poly1305, CCM, and CBC.
SUITES_OF_1_2 = (
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-ECDSA-AES256-CCM",
    "ECDHE-ECDSA-AES128-SHA256",
)
#: All there are. The two of CCM are off unless OpenSSL's own configuration has them, and stay OpenSSL's here.
SUITES_OF_1_3 = (
    "TLS_AES_128_GCM_SHA256",
    "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256",
    "TLS_AES_128_CCM_SHA256",
    "TLS_AES_128_CCM_8_SHA256",
)

WHICH = "SELECT version || ' ' || cipher FROM pg_stat_ssl WHERE pid = pg_backend_pid()"


OPENSSL_CONF = """
openssl_conf = programs
[programs]
ssl_conf = contexts
[contexts]
system_default = all
[all]
Ciphersuites = {}
"""


@pytest.fixture(scope="module")
def tls_postgres(own_postgres: Postgres, certs: Certificates) -> Iterator[Postgres]:
    own_postgres.offer_tls(certs)
    own_postgres.restart()
    yield own_postgres


@pytest.fixture
def old_postgres(tls_postgres: Postgres) -> Iterator[Postgres]:
    """It does not speak TLS 1.3."""
    tls_postgres.configure(ssl_max_protocol_version="TLSv1.2")
    tls_postgres.restart()
    yield tls_postgres
    tls_postgres.configure(ssl_max_protocol_version="")
    tls_postgres.restart()


def both_sides(certs: Certificates, postgres: Postgres, **more: Any) -> dict[str, Any]:
    """The configuration: TLS from clients, and to a server that is checked."""
    return {
        "general": {
            "tls_certificate": str(certs.server.certificate),
            "tls_private_key": str(certs.server.private_key),
            "server_tls_mode": "verify-full",
            "server_tls_ca_cert": str(certs.ca),
            "query_wait_timeout": duration(2),
            **more,
        },
        "pools": {"testdb": {"server_host": "127.0.0.1", "server_port": postgres.port}},
    }


def by_tls_1_2(doorman: Doorman, certs: Certificates, suites: Sequence[str]) -> WireClient:
    client = doorman.raw()
    client.send(SSL_REQUEST)
    assert client.read_byte() == b"S"
    context = ssl.create_default_context(cafile=str(certs.ca))
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(":".join(suites))
    try:
        client.socket = context.wrap_socket(client.socket, server_hostname="localhost")
        return client.login("app", "testdb", Postgres.PASSWORDS["app"])
    except BaseException:
        client.close()
        raise


def showing(files: CertificateFiles) -> dict[str, str]:
    return {"sslcert": str(files.certificate), "sslkey": str(files.private_key)}


def cancels(doorman: Doorman, postgres: Postgres, **how: Any) -> None:
    """A statement is cancelled by libpq at the pooler, and by that at the server, each as its connection has come."""
    with doorman.connect(**{"sslmode": "require", **how}) as connection:
        assert connection.pgconn.ssl_in_use
        assert connection.execute(WHICH).fetchone() is not None
        assert cancelled(connection, postgres, "by options") == ["57014"]


@pytest.mark.parametrize("suite", SUITES_OF_1_2)
def test_suites_of_tls_1_2(make_doorman: MakeDoorman, old_postgres: Postgres, certs: Certificates, suite: str) -> None:
    """What we can't carry on ourselves is OpenSSL's to the end, data of all sizes both ways."""
    doorman = make_doorman(both_sides(certs, old_postgres, tls_ciphers=suite, server_tls_ciphers=suite))
    with by_tls_1_2(doorman, certs, SUITES_OF_1_2) as client:
        assert client.value(WHICH) == f"TLSv1.2 {suite}"
        assert client.socket.cipher()[0] == suite  # type: ignore[attr-defined]
        assert len(client.value("SELECT repeat('x', 3000000)") or "") == 3_000_000
        assert client.value(f"SELECT length('{'y' * 300_000}')") == "300000"
        batch = b"".join(prepared("", f"SELECT {i}, repeat('x', 1000)") for i in range(200))
        assert kinds(client.ask(batch, 200)) == "12TDCZ" * 200
    if "CCM" not in suite:  # which libpq has no way to ask for
        cancels(doorman, old_postgres, ssl_max_protocol_version="TLSv1.2")
    with pytest.raises(ssl.SSLError):
        by_tls_1_2(doorman, certs, [each for each in SUITES_OF_1_2 if each != suite])


@pytest.mark.parametrize("suite", SUITES_OF_1_3)
def test_suites_of_tls_1_3(
    make_doorman: MakeDoorman,
    tls_postgres: Postgres,
    certs: Certificates,
    suite: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """psql, the pooler and PostgreSQL, by OpenSSL's own configuration: the only way there is to choose them."""
    conf = tls_postgres.install_file("openssl.cnf", OPENSSL_CONF.format(suite), 0o644)
    monkeypatch.setenv("OPENSSL_CONF", str(conf))
    tls_postgres.restart()
    try:
        doorman = make_doorman(both_sides(certs, tls_postgres, tls_min_version="tlsv1.3"))
        script = f"{WHICH};\n\\conninfo\nSELECT length(repeat('x', 3000000)), length('{'y' * 300_000}');\n"
        done = subprocess.run(
            [str(find_program("psql")), "-XAtq", doorman.dsn(sslmode="require"), "-f", "-"],
            input=script,
            capture_output=True,
            text=True,
            timeout=patience(30),
            env={**os.environ, "PGPASSWORD": Postgres.PASSWORDS["app"]},
        )
        assert done.stdout.count(suite) == 2, (done.stdout, done.stderr)
        assert "3000000|300000" in done.stdout
    finally:
        monkeypatch.delenv("OPENSSL_CONF")
        tls_postgres.restart()


def test_the_oldest_version_of_clients(make_doorman: MakeDoorman, tls_postgres: Postgres, certs: Certificates) -> None:
    doorman = make_doorman(both_sides(certs, tls_postgres, tls_min_version="tlsv1.3"))
    with pytest.raises(ssl.SSLError, match=r"(?i)version"):
        by_tls_1_2(doorman, certs, SUITES_OF_1_2)
    doorman.wait_log("could not accept SSL connection: UNSUPPORTED_PROTOCOL")
    cancels(doorman, tls_postgres, ssl_min_protocol_version="TLSv1.3")
    config = copy.deepcopy(doorman.config)
    config["general"]["tls_min_version"] = "tlsv1.2"
    doorman.reload(config)
    by_tls_1_2(doorman, certs, SUITES_OF_1_2).close()


def test_the_oldest_version_of_servers(make_doorman: MakeDoorman, old_postgres: Postgres, certs: Certificates) -> None:
    """A pool's own word counts before [general]'s."""
    config = both_sides(certs, old_postgres, server_tls_min_version="tlsv1.3")
    config["pools"]["tolerant"] = {
        **config["pools"]["testdb"],
        "server_tls_min_version": "tlsv1.2",
        "server_database": "testdb",
        "users": [{"username": "app", "password": old_postgres.password("app"), "pool_size": 1}],
    }
    doorman = make_doorman(config)
    with pytest.raises(psycopg.OperationalError):
        doorman.connect().execute("SELECT 1")
    doorman.wait_log("(?i)TLS.*(version|protocol)")
    with doorman.connect(dbname="tolerant") as connection:
        found = connection.execute(WHICH).fetchone()
        assert found is not None and found[0].startswith("TLSv1.2 ")


def test_cancelling_by_certificates(make_doorman: MakeDoorman, tls_postgres: Postgres, certs: Certificates) -> None:
    """Both the pooler and PostgreSQL want one of whoever comes, cancel requests included."""
    tls_postgres.write_hba(
        [
            "hostssl all app 127.0.0.1/32 scram-sha-256 clientcert=verify-full",
            "host all postgres 127.0.0.1/32 trust",
            "local all all trust",
        ]
    )
    tls_postgres.restart()
    doorman = make_doorman(
        both_sides(
            certs,
            tls_postgres,
            tls_mode="verify-full",
            tls_ca_cert=str(certs.ca),
            server_tls_certificate=str(certs.client.certificate),
            server_tls_private_key=str(certs.client.private_key),
        )
    )
    try:
        cancels(doorman, tls_postgres, **showing(certs.client))
        if psycopg.pq.version() >= 170000:
            cancels(doorman, tls_postgres, sslnegotiation="direct", **showing(certs.client))
    finally:
        tls_postgres.write_hba(HBA)
        tls_postgres.restart()


def test_servers_that_are_revoked(
    make_doorman: MakeDoorman, tls_postgres: Postgres, certs: Certificates, tmp_path: Path
) -> None:
    """From the reload on behind which the list has them; who is connected is connected anew."""
    crl = certs.authority.revoke(tmp_path / "crl.pem")
    doorman = make_doorman(both_sides(certs, tls_postgres, server_tls_crl=str(crl)))
    cancels(doorman, tls_postgres, sslmode="require")
    certs.authority.revoke(crl, certs.server)
    mark = len(doorman.log_lines)
    doorman.admin("RELOAD")
    doorman.wait_log(f"files read anew: {crl}", after=mark)
    with pytest.raises(psycopg.OperationalError):
        doorman.connect().execute("SELECT 1")
    doorman.wait_log("(?i)certificate revoked", after=mark)
    certs.authority.revoke(crl)
    doorman.admin("RELOAD")
    with doorman.connect() as connection:
        connection.execute("SELECT 1")


def test_what_can_not_be_used_is_said(make_doorman: MakeDoorman, tls_postgres: Postgres, certs: Certificates) -> None:
    doorman = make_doorman(both_sides(certs, tls_postgres))
    good = doorman.config
    for key, value, why in (
        ("tls_min_version", "1.2", 'expected "tlsv1.2" or "tlsv1.3"'),
        ("server_tls_min_version", "TLSv1.1", 'expected "tlsv1.2" or "tlsv1.3"'),
        ("tls_ciphers", "secure", "names no cipher suites of TLS 1.2"),
        ("server_tls_ciphers", "TLS_AES_128_GCM_SHA256", "names no cipher suites of TLS 1.2"),
        ("server_tls_crl", "/nowhere/crl.pem", "Could not open '/nowhere/crl.pem'"),
    ):
        config = copy.deepcopy(good)
        config["general"][key] = value
        mark = len(doorman.log_lines)
        doorman.reload(config)
        doorman.wait_log(rf"{key}: .*{re.escape(why)}", after=mark)
    doorman.connect(sslmode="require").close()
