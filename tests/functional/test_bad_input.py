"""What nobody would send who means well, where no other test has it: nobody gets in by it, and the process lives."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Any

import pytest
from fix_certs import CertificateFiles, Certificates
from fix_doorman import ADMIN_PASSWORD, ADMIN_USER, Doorman
from fix_postgres import Postgres
from wire_client import SSL_REQUEST, prepared, query

#: More digits than Python reads as a number.
DIGITS = "9" * 5000


@pytest.fixture(scope="module")
def doorman_over(certs: Certificates) -> Mapping[str, Any]:
    return {
        "general": {
            "tls_certificate": str(certs.server.certificate),
            "tls_private_key": str(certs.server.private_key),
            "tls_ca_cert": str(certs.ca),
            "pg_hba": "hostssl testdb app all cert\nhost all all all md5\n",
        }
    }


# -- certificates that an authority should not have signed


def enter(doorman: Doorman, files: CertificateFiles) -> str | None:
    """Who is in by the certificate; None where the door stays shut."""
    with doorman.raw() as client:
        client.send(SSL_REQUEST)
        assert client.read_byte() == b"S"
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.load_cert_chain(files.certificate, files.private_key)
        try:
            client.socket = context.wrap_socket(client.socket)
            client.login("app", "testdb")
            return client.value("SELECT current_user")
        except (OSError, AssertionError):
            return None


@pytest.mark.parametrize(
    ("name", "alternative", "changed", "why"),
    [
        ("app", "--host--", None, ""),
        ("app", "--host--", (b"--host--", b"--\xff\xfest--"), "text in it that can't be read"),
        ("app-----", "", (b"app-----", b"app\0----"), "contains no user name"),
        ("app-----", "", (b"app-----", b"app\n\r\t\x1b-"), r"authenticated user name \(app\\n\\r\t\\x1b-\)"),
        ("app\u0131", "", None, "do not match"),
        ("APP", "", None, "do not match"),
        ("app ", "", None, "do not match"),
    ],
)
def test_certificates(
    doorman: Doorman,
    certs: Certificates,
    name: str,
    alternative: str,
    changed: tuple[bytes, bytes] | None,
    why: str,
) -> None:
    """The first one is good, which shows that the others are refused for what is changed in them."""
    names = (alternative,) if alternative else ()
    files = certs.authority.issue("bad", name, names, changed=changed)
    mark = len(doorman.log_lines)
    assert enter(doorman, files) == (None if why else "app")
    if why:
        doorman.wait_log(why, after=mark)


def test_a_certificate_with_a_name_of_many_kilobytes(doorman: Doorman, certs: Certificates) -> None:
    chain = "".join(f"{number:05}.example." for number in range(4000))
    files = certs.authority.issue("long", "app", (chain,))
    assert enter(doorman, files) in ("app", None)  # how much OpenSSL takes is its own affair
    assert doorman.running


# -- numbers that are none


@pytest.mark.parametrize(
    "sql",
    [
        f"SELECT set_config('application_name', ${DIGITS}, false)",
        f"SELECT set_config(${DIGITS}, 'x', false)",
        f"SELECT set_config(${DIGITS}::text, 'x', true)",
        f"SELECT {DIGITS}",
        f"SET work_mem = {DIGITS}",
        f"EXECUTE a({DIGITS})",
        f"SELECT '\\u{DIGITS}', E'\\x{DIGITS}', U&'\\+{DIGITS}'",
        f"SELECT pg_advisory_lock({DIGITS})",
        f"FETCH {DIGITS} FROM c",
        f"SELECT $0, $65536, ${2**31}, ${2**32}",
    ],
)
def test_numbers_in_statements(doorman: Doorman, postgres: Postgres, sql: str) -> None:
    """What PostgreSQL says of them is what the client hears, and the session goes on."""
    with doorman.wire() as pooled, postgres.wire() as direct:
        for ask in (query(sql), prepared("", sql)):
            kinds = ["".join(m.kind for m in client.ask(ask)) for client in (pooled, direct)]
            assert kinds[0] == kinds[1]
            assert pooled.value("SELECT 1") == "1"


@pytest.mark.parametrize(
    "sql",
    [
        f"SELECT * FROM pg_database WHERE oid = {DIGITS}",
        f"SELECT * FROM pg_database WHERE datname = '{DIGITS}'",
        f"SELECT pg_cancel_backend({DIGITS})",
        f"KILL_CLIENT {DIGITS}",
        f"SET connect_timeout = {DIGITS}",
        f"SET connect_timeout = '{DIGITS}s'",
        f"SHOW INTERNER TOP {DIGITS}",
        f"SELECT ${DIGITS}",
    ],
)
def test_numbers_at_the_console(doorman: Doorman, sql: str) -> None:
    for database in ("pgdoorman", "pgbouncer"):
        with doorman.raw() as client:
            client.login(ADMIN_USER, database, ADMIN_PASSWORD)
            assert [m.kind for m in client.ask_query(sql)][-1] == "Z"
            assert client.ask_query("SHOW VERSION")[-1].kind == "Z"
