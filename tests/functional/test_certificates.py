"""Clients that are known by their certificates, or have to show one: pg_hba's cert, clientcert, clientname and map.

PostgreSQL itself goes by the same rules beside us, and has to say the same.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from fix_certs import CertificateFiles, Certificates
from fix_doorman import Doorman, MakeDoorman
from fix_postgres import Postgres

MAPS = r"""
people   app                    app_two
people   /^(.*)@example\.com$   \1
names    CN=app                 app_clear
names    "/^CN=.*,O=elsewhere$" app_clear
"""

#: By role, so that one text has all.
RULES = """
hostssl all app        127.0.0.1/32 cert
hostssl all app_two    127.0.0.1/32 cert clientcert=verify-full map=people
hostssl all app_md5    127.0.0.1/32 md5 clientcert=verify-full
hostssl all app_trust  127.0.0.1/32 trust clientcert=verify-ca
hostssl all app_clear  127.0.0.1/32 cert clientname=DN map=names
host    all postgres   127.0.0.1/32 trust
local   all all                     trust
"""
ROLES = ("app", "app_two", "app_md5", "app_trust", "app_clear")


@pytest.fixture(scope="module")
def tls_postgres(own_postgres: Postgres, certs: Certificates) -> Iterator[Postgres]:
    own_postgres.offer_tls(certs)
    own_postgres.configure(ident_file=str(own_postgres.install_file("people.conf", MAPS.encode())))
    own_postgres.write_hba(RULES.splitlines())
    own_postgres.restart()
    yield own_postgres


@pytest.fixture(scope="module")
def doorman_over(certs: Certificates, postgres: Postgres) -> dict[str, Any]:
    general = {
        "tls_certificate": str(certs.server.certificate),
        "tls_private_key": str(certs.server.private_key),
        "tls_ca_cert": str(certs.ca),
        "pg_hba": RULES + "host all admin all md5\n",
        "pg_ident": {"content": MAPS},
    }
    users = [
        {
            "username": role,
            "password": postgres.secret(role),
            "pool_size": 2,
            "server_username": role,
            "server_password": postgres.password(role),
        }
        for role in ROLES
    ]
    return {"general": general, "pools": {"testdb": {"users": users}}}


Connect = Callable[..., psycopg.Connection[Any]]


@pytest.fixture(params=["pgdoorman", "PostgreSQL"])
def connect(request: pytest.FixtureRequest, doorman: Doorman, tls_postgres: Postgres) -> Connect:
    return doorman.connect if request.param == "pgdoorman" else tls_postgres.connect


def showing(files: CertificateFiles) -> dict[str, str]:
    return {"sslmode": "require", "sslcert": str(files.certificate), "sslkey": str(files.private_key)}


def refused(connect: Connect, user: str, **more: Any) -> tuple[str | None, str]:
    """The text PostgreSQL's or our error begins with."""
    with pytest.raises(psycopg.OperationalError) as caught:
        connect(user=user, **more).close()
    return caught.value.sqlstate, str(caught.value)


@pytest.mark.parametrize("role", ROLES)
def test_who_has_the_right_one(connect: Connect, certs: Certificates, role: str) -> None:
    name = {"app_md5": "app_md5", "app_trust": "whoever"}.get(role, "app")
    files = certs.authority.issue(f"right-{role}", name)
    for _ in range(2):
        with connect(user=role, **showing(files)) as connection:
            assert connection.execute("SELECT session_user").fetchone() == (role,)


@pytest.mark.parametrize("role", ROLES)
def test_who_has_none(connect: Connect, role: str) -> None:
    _, text = refused(connect, role, sslmode="require", sslcert="/nowhere", sslkey="/nowhere")
    assert "FATAL:  connection requires a valid client certificate" in text


@pytest.mark.parametrize("role", ROLES)
def test_who_has_that_of_a_stranger(connect: Connect, certs: Certificates, role: str) -> None:
    """He does not come to be told: the handshake fails, whatever he wants."""
    _, text = refused(connect, role, **showing(certs.stranger))
    assert "alert unknown ca" in text or "certificate" in text or "closed the connection" in text
    assert "connection requires" not in text


@pytest.mark.parametrize(
    ("role", "words"),
    [
        ("app", "certificate authentication failed"),
        ("app_two", "certificate authentication failed"),
        ("app_md5", "password authentication failed"),
        ("app_clear", "certificate authentication failed"),
    ],
)
def test_who_has_that_of_another(connect: Connect, certs: Certificates, role: str, words: str) -> None:
    files = certs.authority.issue(f"wrong-{role}", "somebody")
    assert f'FATAL:  {words} for user "{role}"' in refused(connect, role, **showing(files))[1]


def test_a_password_is_needed_beside_the_certificate(connect: Connect, certs: Certificates) -> None:
    files = certs.authority.issue("md5-again", "app_md5")
    text = refused(connect, "app_md5", password="wrong", **showing(files))[1]
    assert 'FATAL:  password authentication failed for user "app_md5"' in text


def test_maps_by_regular_expressions(connect: Connect, certs: Certificates) -> None:
    files = certs.authority.issue("mail", "app_two@example.com")
    connect(user="app_two", **showing(files)).close()
    files = certs.authority.issue("mail-other", "app@example.com")
    assert "certificate authentication failed" in refused(connect, "app_two", **showing(files))[1]


def test_without_tls_the_rules_are_none(connect: Connect) -> None:
    assert "no pg_hba.conf entry for host" in refused(connect, "app", sslmode="disable")[1]


# -- ours alone


def test_who_is_nobody_is_told_the_same(
    make_doorman: MakeDoorman, doorman_over: dict[str, Any], certs: Certificates
) -> None:
    """By a good certificate of that name: whether there is such a user is not told, and the log knows why."""
    over = copy.deepcopy(doorman_over)
    over["general"]["pg_hba"] = "hostssl all all all cert\nhostnossl all admin all md5"
    doorman = make_doorman(over)
    files = certs.authority.issue("nobody", "nobody")
    for user, why in (
        ("nobody", "no such user in a pool of that name"),
        ("app", r"provided user name \(app\) and authenticated user name \(nobody\) do not match"),
    ):
        told = refused(doorman.connect, user, **showing(files))[1]
        assert f'FATAL:  certificate authentication failed for user "{user}"' in told
        doorman.wait_log(why)


def test_the_console_by_certificate(
    make_doorman: MakeDoorman, doorman_over: dict[str, Any], certs: Certificates
) -> None:
    over = copy.deepcopy(doorman_over)
    over["general"]["pg_hba"] = "hostssl pgdoorman admin all cert\nhostnossl all all all md5"
    doorman = make_doorman(over)
    files = certs.authority.issue("admin", "admin")
    with doorman.admin_connect(**showing(files)) as connection:
        assert connection.execute("SHOW VERSION").fetchall()
    with pytest.raises(psycopg.OperationalError, match='certificate authentication failed for user "admin"'):
        doorman.admin_connect(**showing(certs.client))


def test_a_certificate_that_is_revoked(
    make_doorman: MakeDoorman, doorman_over: dict[str, Any], certs: Certificates, tmp_path: Path
) -> None:
    """From the reload on behind which the list has it."""
    files = certs.authority.issue("soon-revoked", "app")
    crl = certs.authority.revoke(tmp_path / "crl.pem")
    over = copy.deepcopy(doorman_over)
    over["general"]["tls_crl"] = str(crl)
    doorman = make_doorman(over)
    doorman.connect(**showing(files)).close()
    certs.authority.revoke(crl, files)
    mark = len(doorman.log_lines)
    with doorman.admin_connect(sslmode="disable") as console:
        console.execute("RELOAD")
    doorman.wait_log(f"files read anew: {crl}", after=mark)
    with pytest.raises(psycopg.OperationalError):
        doorman.connect(**showing(files))
    doorman.wait_log("could not accept SSL connection", after=mark)
    doorman.connect(**showing(certs.client)).close()


def test_rules_by_a_reload(make_doorman: MakeDoorman, certs: Certificates, tmp_path: Path) -> None:
    """Also those of maps, whose file is read again."""
    people = tmp_path / "pg_ident.conf"
    people.write_text("m somebody app\n")
    tls = {"tls_certificate": str(certs.server.certificate), "tls_private_key": str(certs.server.private_key)}
    doorman = make_doorman({"general": tls})
    doorman.connect(**showing(certs.stranger)).close()  # nobody asks for it
    config = copy.deepcopy(doorman.config)
    config["general"] |= {
        "pg_hba": "hostssl all app all cert map=m\nhost all all all md5",
        "pg_ident": {"path": str(people)},
    }
    mark = len(doorman.log_lines)
    doorman.reload(config)
    doorman.wait_log("root certificate store is available", after=mark)
    config["general"]["tls_ca_cert"] = str(certs.ca)
    doorman.reload(config)
    with pytest.raises(psycopg.OperationalError, match="certificate authentication failed"):
        doorman.connect(**showing(certs.client))
    people.write_text("m somebody app\nm app app\n")
    mark = len(doorman.log_lines)
    doorman.admin("RELOAD")
    doorman.wait_log(f"files read anew: {people}", after=mark)
    doorman.connect(**showing(certs.client)).close()
    people.write_text("m app\n")
    with pytest.raises(psycopg.Error, match="pg_ident"):
        doorman.admin("RELOAD")
    doorman.connect(**showing(certs.client)).close()
