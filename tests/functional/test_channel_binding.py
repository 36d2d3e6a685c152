"""SCRAM-SHA-256-PLUS with clients and with servers, and against who stands in between; PostgreSQL says the same."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pg8000.native
import psycopg
import pytest
from fix_certs import Authority, Certificates
from fix_doorman import Doorman, MakeDoorman
from fix_postgres import Postgres
from tls_between import Between, Change, unchanged, without_plus


@pytest.fixture(scope="module")
def tls_postgres(own_postgres: Postgres, certs: Certificates) -> Iterator[Postgres]:
    own_postgres.offer_tls(certs)
    own_postgres.restart()
    yield own_postgres


def by_tls(certs: Certificates, **more: Any) -> dict[str, Any]:
    files = {"tls_certificate": str(certs.server.certificate), "tls_private_key": str(certs.server.private_key)}
    return {"general": {**files, **more}}


@pytest.fixture(scope="module")
def doorman_over(certs: Certificates) -> dict[str, Any]:
    return by_tls(certs)


Connect = Callable[..., psycopg.Connection[Any]]


@pytest.fixture(params=["pgdoorman", "PostgreSQL"])
def connect(request: pytest.FixtureRequest, doorman: Doorman, tls_postgres: Postgres) -> Connect:
    """To the pooler, and to PostgreSQL itself, which must do the same."""
    there: Connect = doorman.connect if request.param == "pgdoorman" else tls_postgres.connect
    return there


@pytest.mark.parametrize("binding", ["require", "prefer", "disable"])
def test_libpq_binds(connect: Connect, binding: str) -> None:
    for _ in range(3):  # those like an earlier one, too
        with connect(sslmode="require", channel_binding=binding) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)


def test_without_tls_there_is_nothing_to_bind_to(connect: Connect) -> None:
    for binding in ("prefer", "disable", "require", "prefer", "require"):
        if binding == "require":
            with pytest.raises(psycopg.OperationalError, match="channel binding required, but SSL not in use"):
                connect(sslmode="disable", channel_binding=binding)
        else:
            connect(sslmode="disable", channel_binding=binding).close()


@pytest.fixture
def between(connect: Connect, doorman: Doorman, tls_postgres: Postgres, certs: Certificates) -> Iterator[Any]:
    """``between(change)`` is a port at which somebody stands in between."""
    is_ours = connect == doorman.connect
    target = (doorman.host, doorman.port) if is_ours else (tls_postgres.host, tls_postgres.port)
    opened: list[Between] = []

    def make(change: Change = unchanged) -> int:
        opened.append(Between(target, certs.stranger, change))
        return opened[-1].port

    yield make
    for each in opened:
        each.__exit__(None, None, None)


def test_somebody_in_between_is_found_out(connect: Connect, between: Any) -> None:
    port = between()
    where = {"host": "127.0.0.1", "port": port, "sslmode": "require"}
    connect(channel_binding="disable", **where).close()  # who does not look for him
    for binding in ("require", "prefer", "require"):
        connect(sslmode="require", channel_binding=binding).close()
        with pytest.raises(psycopg.OperationalError, match="SCRAM channel binding check failed"):
            connect(channel_binding=binding, **where)


def test_somebody_who_takes_the_binding_away_is_found_out(connect: Connect, between: Any) -> None:
    port = between(without_plus)
    where = {"host": "127.0.0.1", "port": port, "sslmode": "require"}
    with pytest.raises(psycopg.OperationalError, match="SCRAM channel binding negotiation error") as caught:
        connect(channel_binding="prefer", **where)
    assert "The client supports SCRAM channel binding but thinks the server does not." in str(caught.value)
    with pytest.raises(psycopg.OperationalError, match="did not offer an authentication method that supports"):
        connect(channel_binding="require", **where)


def test_drivers_with_scram_of_their_own(doorman: Doorman, certs: Certificates) -> None:
    """pg8000 binds, asyncpg does not know how to."""
    context = ssl.create_default_context(cafile=str(certs.ca))
    password = Postgres.PASSWORDS["app"]
    for _ in range(2):
        connection = pg8000.native.Connection(
            "app", host=doorman.host, port=doorman.port, database="testdb", password=password, ssl_context=context
        )
        assert connection.run("SELECT 1") == [[1]]
        connection.close()

    async def by_asyncpg() -> None:
        where: dict[str, Any] = {"host": doorman.host, "port": doorman.port, "user": "app", "database": "testdb"}
        connection = await asyncpg.connect(password=password, ssl=context, **where)
        assert await connection.fetchval("SELECT 1") == 1
        await connection.close()

    for _ in range(2):
        asyncio.run(by_asyncpg())


def test_pg8000_finds_somebody_in_between(doorman: Doorman, certs: Certificates) -> None:
    context = ssl.create_default_context(cafile=str(certs.other_ca))
    password = Postgres.PASSWORDS["app"]
    refused = pytest.raises(pg8000.native.DatabaseError, match="SCRAM channel binding check failed")
    with Between((doorman.host, doorman.port), certs.stranger) as between, refused:
        pg8000.native.Connection(
            "app", host="127.0.0.1", port=between.port, database="testdb", password=password, ssl_context=context
        )


def test_the_binding_is_to_the_certificate_that_is_shown(make_doorman: MakeDoorman, certs: Certificates) -> None:
    doorman = make_doorman(by_tls(certs))
    for files in (certs.server, certs.elsewhere, certs.server):
        config = doorman.config
        config["general"]["tls_certificate"] = str(files.certificate)
        config["general"]["tls_private_key"] = str(files.private_key)
        doorman.reload(config)
        doorman.connect(sslmode="require", channel_binding="require").close()


def test_a_certificate_without_a_hash_is_not_offered_to_bind_to(make_doorman: MakeDoorman, tmp_path: Path) -> None:
    """PostgreSQL offers that, and libpq does not get in at all unless told not to bind."""
    files = Authority(tmp_path, "ed25519", ed25519=True).issue("server", "localhost")
    doorman = make_doorman(
        {"general": {"tls_certificate": str(files.certificate), "tls_private_key": str(files.private_key)}}
    )
    doorman.connect(sslmode="require").close()
    with pytest.raises(psycopg.OperationalError, match="did not offer an authentication method that supports"):
        doorman.connect(sslmode="require", channel_binding="require")


# -- servers


def over(postgres: Postgres, port: int | None = None, *, passed: bool, **more: Any) -> dict[str, Any]:
    """A pool over ``postgres``; ``passed``: clients' keys are passed through."""
    user = {"username": "app", "password": postgres.secret("app"), "pool_size": 2}
    if not passed:
        user |= {"server_username": "app", "server_password": postgres.password("app")}
    where = {"server_host": "127.0.0.1", "server_port": port or postgres.port, "server_tls_mode": "require"}
    return {"general": {"query_wait_timeout": "1s"}, "pools": {"testdb": {**where, "users": [user], **more}}}


@pytest.mark.parametrize("passed", [False, True])
@pytest.mark.parametrize("binding", ["disable", "prefer", "require"])
def test_servers_are_bound_to(
    make_doorman: MakeDoorman, tls_postgres: Postgres, certs: Certificates, binding: str, passed: bool
) -> None:
    """Each side to its own TLS, also where what the client has proven is passed through."""
    config = over(tls_postgres, passed=passed, server_channel_binding=binding)
    config["general"] |= by_tls(certs)["general"]
    doorman = make_doorman(config)
    with doorman.connect(sslmode="require", channel_binding="require") as connection:
        assert connection.execute("SELECT current_user").fetchone() == ("app",)


@pytest.mark.parametrize("passed", [False, True])
def test_somebody_before_the_server_is_found_out(
    make_doorman: MakeDoorman, tls_postgres: Postgres, certs: Certificates, passed: bool
) -> None:
    with Between((tls_postgres.host, tls_postgres.port), certs.stranger) as between:
        doorman = make_doorman(over(tls_postgres, between.port, passed=passed, server_channel_binding="disable"))
        doorman.connect().close()
        for binding in ("prefer", "require"):
            doorman = make_doorman(over(tls_postgres, between.port, passed=passed, server_channel_binding=binding))
            with pytest.raises(psycopg.OperationalError):
                doorman.connect().execute("SELECT 1")
            doorman.wait_log("SCRAM channel binding check failed")
    with Between((tls_postgres.host, tls_postgres.port), certs.stranger, without_plus) as between:
        for binding, why in (("prefer", "SCRAM channel binding negotiation error"), ("require", "did not offer")):
            doorman = make_doorman(over(tls_postgres, between.port, passed=passed, server_channel_binding=binding))
            with pytest.raises(psycopg.OperationalError):
                doorman.connect().execute("SELECT 1")
            doorman.wait_log(why)


@pytest.mark.parametrize("method", ["trust", "md5", "password"])
def test_a_server_that_does_not_bind(make_doorman: MakeDoorman, tls_postgres: Postgres, method: str) -> None:
    role = {"trust": "app_trust", "md5": "app_md5", "password": "app_clear"}[method]
    config = over(tls_postgres, passed=False, server_channel_binding="require")
    config["pools"]["testdb"]["users"][0] |= {"server_username": role, "server_password": tls_postgres.password(role)}
    doorman = make_doorman(config)
    with pytest.raises(psycopg.OperationalError):
        doorman.connect().execute("SELECT 1")
    doorman.wait_log("channel binding required")
