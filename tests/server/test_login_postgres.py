"""Logging in to a real PostgreSQL and cancelling there: its passwords, its TLS, its words."""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterator
from typing import Any

import gevent
import pytest
from fix_certs import Certificates
from fix_postgres import Postgres
from pace import patience
from scripted_postgres import Settings

from pgdoorman_lib.errors import ServerRefused, ServerUnavailable
from pgdoorman_lib.net.engine import Engine
from pgdoorman_lib.server.auth import Credentials, derive_keys
from pgdoorman_lib.server.cancel import send_cancel
from pgdoorman_lib.server.login import LoggedIn, login

pytestmark = pytest.mark.postgres


def settings(cluster: Postgres, **changes: Any) -> Settings:
    return Settings(
        **{"server_host": cluster.host, "server_port": cluster.port, "server_database": "testdb", **changes}
    )


def query(session: LoggedIn, sql: str) -> tuple[list[str], dict[str, str]]:
    """The first column of each row, and the fields of an ErrorResponse."""
    stream = session.stream
    text = sql.encode() + b"\0"
    stream.write(b"Q" + struct.pack("!I", len(text) + 4) + text)
    stream.flush()
    rows: list[str] = []
    fields: dict[str, str] = {}
    while True:
        kind, body = stream.read_message()
        if kind == ord("D"):
            (length,) = struct.unpack("!i", body[2:6])
            rows.append(body[6 : 6 + length].decode())
        elif kind == ord("E"):
            fields = {chr(part[0]): part[1:].decode() for part in body.split(b"\0") if part}
        elif kind == ord("Z"):
            return rows, fields


def works(cluster: Postgres, engine: Engine, credentials: Credentials, **changes: Any) -> LoggedIn:
    """Log in, ask the server who we are, close."""
    session = login(settings(cluster, **changes), engine, credentials)
    try:
        assert query(session, "SELECT current_user") == ([credentials.user], {})
        assert query(session, "SELECT pg_backend_pid()") == ([str(session.pid)], {})
        assert session.parameters["server_encoding"] == "UTF8"
        assert len(session.secret) >= 4
    finally:
        session.stream.close()
    return session


class TestPasswords:
    @pytest.mark.parametrize("role", ["app", "app_md5", "app_clear", "app_trust"])
    def test_password(self, postgres: Postgres, engine: Engine, role: str) -> None:
        works(postgres, engine, Credentials(role, password=postgres.password(role)))

    @pytest.mark.parametrize("role", ["app", "app_md5", "app_clear"])
    def test_wrong_password(self, postgres: Postgres, engine: Engine, role: str) -> None:
        with pytest.raises(ServerRefused) as caught:
            login(settings(postgres), engine, Credentials(role, password="wrong"))
        assert caught.value.sqlstate == "28P01"
        assert role in caught.value.message

    def test_md5_by_stored_hash(self, postgres: Postgres, engine: Engine) -> None:
        works(postgres, engine, Credentials("app_md5", md5_hash=postgres.secret("app_md5")))

    def test_scram_by_keys(self, postgres: Postgres, engine: Engine) -> None:
        iterations, salt = postgres.secret("app").split("$")[1].split(":")
        stored_key, server_key = postgres.secret("app").split("$")[2].split(":")
        keys = derive_keys(postgres.password("app"), base64.b64decode(salt), int(iterations))
        assert keys.server_key == base64.b64decode(server_key)
        works(postgres, engine, Credentials("app", client_key=keys.client_key, server_key=keys.server_key))
        works(postgres, engine, Credentials("app", client_key=keys.client_key))
        with pytest.raises(ServerRefused) as caught:
            login(settings(postgres), engine, Credentials("app", client_key=base64.b64decode(stored_key)))
        assert caught.value.sqlstate == "28P01"

    def test_unix_socket(self, postgres: Postgres, engine: Engine) -> None:
        changes = {"server_host": str(postgres.socket_dir), "server_tls_mode": "verify-full"}
        assert works(postgres, engine, Credentials("app"), **changes).stream.is_unix


class TestRefusals:
    def test_database(self, postgres: Postgres, engine: Engine) -> None:
        with pytest.raises(ServerRefused) as caught:
            login(settings(postgres, server_database="nowhere"), engine, Credentials("postgres"))
        assert (caught.value.sqlstate, caught.value.message) == ("3D000", 'database "nowhere" does not exist')

    def test_startup_parameter(self, postgres: Postgres, engine: Engine) -> None:
        with pytest.raises(ServerRefused) as caught:
            login(settings(postgres, startup_parameters=(("no_such_thing", "1"),)), engine, Credentials("postgres"))
        assert caught.value.sqlstate == "42704"

    def test_parameters_hold(self, postgres: Postgres, engine: Engine) -> None:
        where = settings(postgres, startup_parameters=(("search_path", "a, b"),), application_name="näme")
        session = login(where, engine, Credentials("postgres"), {"TimeZone": "Asia/Tokyo"})
        assert session.parameters["TimeZone"] == "Asia/Tokyo"
        assert query(session, "SHOW search_path")[0] == ["a, b"]
        session.stream.close()


@pytest.fixture(scope="module")
def tls_postgres(own_postgres: Postgres, certs: Certificates) -> Iterator[Postgres]:
    """A cluster with TLS; ``app_trust`` needs it, ``app_clear`` must not have it, ``app`` needs a certificate."""
    own_postgres.offer_tls(certs)
    own_postgres.write_hba(
        [
            "hostssl all app_trust 127.0.0.1/32 trust",
            "hostnossl all app_clear 127.0.0.1/32 trust",
            "hostssl all app 127.0.0.1/32 cert",
            "host all app_md5 127.0.0.1/32 md5",
        ]
    )
    own_postgres.restart()
    yield own_postgres


@pytest.mark.parametrize(
    ("role", "mode", "encrypted"),
    [
        ("app_trust", "disable", None),
        ("app_trust", "allow", True),
        ("app_trust", "prefer", True),
        ("app_trust", "require", True),
        ("app_trust", "verify-ca", True),
        ("app_trust", "verify-full", True),
        ("app_clear", "disable", False),
        ("app_clear", "allow", False),
        ("app_clear", "prefer", False),
        ("app_clear", "require", None),
        ("app_md5", "allow", False),
        ("app_md5", "prefer", True),
    ],
)
def test_tls_modes(
    tls_postgres: Postgres, engine: Engine, certs: Certificates, role: str, mode: str, encrypted: bool | None
) -> None:
    credentials = Credentials(role, password=tls_postgres.password(role))
    changes = {"server_tls_mode": mode, "server_tls_ca_cert": str(certs.ca)}
    if encrypted is None:
        with pytest.raises(ServerRefused) as caught:
            login(settings(tls_postgres, **changes), engine, credentials)
        assert caught.value.sqlstate == "28000"
    else:
        assert (works(tls_postgres, engine, credentials, **changes).stream.tls is not None) is encrypted


def test_tls_certificate_of_another_authority(tls_postgres: Postgres, engine: Engine, certs: Certificates) -> None:
    where = settings(tls_postgres, server_tls_mode="verify-ca", server_tls_ca_cert=str(certs.other_ca))
    with pytest.raises(ServerUnavailable, match="certificate"):
        login(where, engine, Credentials("app_trust"))


def test_our_certificate(tls_postgres: Postgres, engine: Engine, certs: Certificates) -> None:
    files = {
        "server_tls_certificate": str(certs.client.certificate),
        "server_tls_private_key": str(certs.client.private_key),
    }
    works(tls_postgres, engine, Credentials("app"), server_tls_mode="require", **files)
    with pytest.raises(ServerRefused) as caught:
        login(settings(tls_postgres, server_tls_mode="require"), engine, Credentials("app"))
    assert caught.value.sqlstate == "28000"


@pytest.mark.parametrize("mode", ["disable", "require"])
def test_cancel(tls_postgres: Postgres, engine: Engine, mode: str) -> None:
    where = settings(tls_postgres, server_tls_mode=mode)
    role = "app_clear" if mode == "disable" else "app_trust"
    session = login(where, engine, Credentials(role))
    watcher = login(where, engine, Credentials(role))
    try:
        for _ in range(2):  # a second cancel works as the first
            sleeping = gevent.spawn(query, session, "SELECT pg_sleep(30)")
            active = f"SELECT count(*) FROM pg_stat_activity WHERE pid = {session.pid} AND wait_event = 'PgSleep'"
            with gevent.Timeout(patience(10)):
                while query(watcher, active)[0] != ["1"]:
                    gevent.sleep(0.01)
            send_cancel(where, engine, session.pid, session.secret, 5.0)
            assert sleeping.get(timeout=patience(5))[1]["C"] == "57014"
        send_cancel(where, engine, session.pid, b"\0\0\0\0", 5.0)  # a wrong key is nobody's: no word of it
        assert query(session, "SELECT 1") == (["1"], {})
    finally:
        session.stream.close()
        watcher.stream.close()
