"""Every way to log in by every driver: the table of docs/authentication.md, run.

A login program finds all it needs in libpq's environment variables, logs in once, prints the current user and ends
with 0; or it says on standard error what was wrong.
"""

from __future__ import annotations

import getpass
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import driver_programs
import pytest
from cryptography.hazmat.primitives import serialization
from driver_programs import Program, go, java, node, rust
from fix_certs import Certificates
from fix_doorman import Doorman
from fix_postgres import Postgres
from pace import patience
from pam_stack import PamStack, has_pam_exec
from throwaway_postgres import find_program
from tls_between import Between
from token_keys import token_for, write_pair

from pgdoorman_lib.auth.md5 import hash_password
from pgdoorman_lib.auth.scram import ScramSecret

SECRET = "somebody's secret"

RULES = """
local   all by_peer  peer map=system
local   all all      scram-sha-256
host    all by_trust 127.0.0.1/32 trust
hostssl all by_cert  127.0.0.1/32 cert map=certificates
hostssl all by_jwt   127.0.0.1/32 jwt
host    all by_scram 127.0.0.1/32 scram-sha-256
host    all all      127.0.0.1/32 md5
"""
MAPS = f"system {getpass.getuser()} by_peer\ncertificates app by_cert\n"


PAM_RULE = "hostssl all by_pam 127.0.0.1/32 pam pamservice=doors\n"


@dataclass(frozen=True)
class Driver:
    """``program`` logs in once. What it can: bind SCRAM to TLS, demand that, connect by unix sockets."""

    program: Program
    binds: bool = True
    demands_binding: bool = True
    unix: bool = True


def python(driver: str, **can: bool) -> Driver:
    command = (sys.executable, "-W", "error", "login.py", driver)
    return Driver(Program(driver, "Python", "python", run=command, modules=(driver,)), **can)


def other(program: Program, **can: bool) -> Any:
    driver = Driver(program, **can)
    return pytest.param(driver, marks=[pytest.mark.toolchain, pytest.mark.timeout(1200)], id=program.driver)


DRIVERS = [
    pytest.param(
        Driver(Program("psql", "C", "python", run=(str(find_program("psql")), "-XAtqc", "SELECT current_user"))),
        id="psql",
    ),
    pytest.param(python("psycopg"), id="psycopg"),
    pytest.param(python("psycopg2"), id="psycopg2"),
    pytest.param(python("asyncpg", binds=False, demands_binding=False), id="asyncpg"),
    pytest.param(python("pg8000", demands_binding=False), id="pg8000"),
    other(java("pgjdbc", "Login", "Login.java"), unix=False),
    other(go("pgx", "login")),
    other(node("node-postgres", "login.js"), demands_binding=False),
    other(rust("tokio-postgres", "login")),
]


@dataclass(frozen=True)
class Method:
    """Who comes how: the variables of libpq, ``{…}`` in them filled in; who he is then."""

    user: str
    password: str = ""
    is_then: str = "app"
    database: str = "testdb"
    tls: bool = False
    certificate: bool = False
    unix: bool = False
    more: Mapping[str, str] = field(default_factory=dict)
    refusal: str = 'password authentication failed for user "{user}"'


METHODS = {
    "trust": Method("by_trust"),
    "md5": Method("by_md5", SECRET),
    "scram": Method("by_scram", SECRET),
    "scram over TLS": Method("by_scram", SECRET, tls=True),
    "scram-plus": Method("by_scram", SECRET, tls=True, more={"PGCHANNELBINDING": "require"}),
    "cert": Method("by_cert", tls=True, certificate=True),
    "pam": Method("by_pam", SECRET, tls=True, refusal='PAM authentication failed for user "{user}"'),
    "jwt": Method("by_jwt", token_for("by_jwt"), tls=True, refusal="JWT token validation failed"),
    "peer": Method("by_peer", unix=True),
    "scram on a unix socket": Method("by_scram", SECRET, unix=True),
    "auth_query dedicated": Method("app_two", Postgres.PASSWORDS["app_two"], database="shared"),
    "auth_query pass-through": Method("app_two", Postgres.PASSWORDS["app_two"], is_then="app_two", database="own"),
    "auth_query pass-through, md5": Method("app_md5", Postgres.PASSWORDS["app_md5"], is_then="app_md5", database="own"),
}


Login = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def sockets() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="pg-") as directory:  # their paths are short
        yield Path(directory)


@pytest.fixture(scope="module")
def doorman_over(
    postgres: Postgres, certs: Certificates, sockets: Path, tmp_path_factory: pytest.TempPathFactory
) -> Mapping[str, Any]:
    directory = tmp_path_factory.mktemp("logins")
    issuer, _ = write_pair(directory, "issuer")
    pam: dict[str, Any] = {}
    if has_pam_exec():
        stack = PamStack(directory, "doors")
        stack.set_password("by_pam", SECRET)
        pam["auth_pam_confdir"] = str(stack.directory)
    secrets = {
        "by_trust": SECRET,
        "by_md5": hash_password(SECRET, "by_md5"),
        "by_scram": str(ScramSecret.derive(SECRET, b"salt of sixteen.")),
        "by_cert": SECRET,
        "by_peer": SECRET,
        "by_pam": "",
        "by_jwt": f"jwt-pkey-fpath:{issuer}",
    }
    users = [
        {
            "username": name,
            "password": secret,
            "pool_size": 2,
            "server_username": "app",
            "server_password": postgres.password("app"),
        }
        for name, secret in secrets.items()
    ]
    looked_up = {
        "query": "SELECT passwd FROM pg_shadow WHERE usename = $1",
        "user": "postgres",
        "database": "testdb",
        "pool_size": 2,
    }
    where = {"server_host": postgres.host, "server_port": postgres.port, "server_database": "testdb"}
    dedicated = {"server_user": "app", "server_password": postgres.password("app")}
    return {
        "general": {
            "tls_certificate": str(certs.server.certificate),
            "tls_private_key": str(certs.server.private_key),
            "tls_ca_cert": str(certs.ca),
            "unix_socket_dir": str(sockets),
            "pg_hba": (PAM_RULE if pam else "") + RULES,
            "pg_ident": MAPS,
            **pam,
        },
        "pools": {
            "testdb": {"users": users},
            "shared": {**where, "auth_query": {**looked_up, **dedicated}},
            "own": {**where, "auth_query": looked_up},
        },
    }


@pytest.fixture(scope="module")
def key_of_java(certs: Certificates) -> Path:
    """The client's key as pgjdbc wants it."""
    key = serialization.load_pem_private_key(certs.client.private_key.read_bytes(), None)
    path = certs.directory / "client.pk8"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    path.chmod(0o600)
    return path


@pytest.fixture
def login(doorman: Doorman, certs: Certificates, sockets: Path, key_of_java: Path) -> Login:
    def run(driver: Driver, method: Method, **more: str) -> subprocess.CompletedProcess[str]:
        environment = {
            "PGHOST": str(sockets) if method.unix else doorman.host,
            "PGPORT": str(doorman.port),
            "PGUSER": method.user,
            "PGPASSWORD": method.password,
            "PGDATABASE": method.database,
            "PGSSLMODE": "verify-full" if method.tls else "disable",
            "PGSSLROOTCERT": str(certs.ca),
            "PGGSSENCMODE": "disable",
            "PGCONNECT_TIMEOUT": "20",
            **method.more,
        }
        if not method.password:
            del environment["PGPASSWORD"]
        if method.certificate:
            environment["PGSSLCERT"] = str(certs.client.certificate)
            environment["PGSSLKEY"] = str(certs.client.private_key)
            environment["PGSSLKEY_PKCS8_DER"] = str(key_of_java)
        return subprocess.run(
            driver.program.run,
            cwd=driver_programs.prepare(driver.program),
            env=Doorman.environment() | dict(driver.program.environment) | environment | more,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=patience(60),
        )

    return run


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("driver", DRIVERS)
def test_who_may(driver: Driver, name: str, login: Login) -> None:
    method = METHODS[name]
    if method.unix and not driver.unix:
        pytest.skip("it knows no unix sockets")
    if name == "scram-plus" and not driver.demands_binding:
        pytest.skip("it can't demand that" if driver.binds else "it can't bind")
    if name == "pam" and not has_pam_exec():
        pytest.skip("no pam_exec here")
    done = login(driver, method)
    assert (done.returncode, done.stdout.strip()) == (0, method.is_then), done.stderr


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if method.password])
@pytest.mark.parametrize("driver", DRIVERS)
def test_who_may_not(driver: Driver, name: str, login: Login) -> None:
    """He is told so, and not that something is broken."""
    method = METHODS[name]
    if (
        (method.unix and not driver.unix)
        or (name == "scram-plus" and not driver.demands_binding)
        or (name == "pam" and not has_pam_exec())
    ):
        pytest.skip("it can't come so")
    done = login(driver, method, PGPASSWORD="another's secret")
    assert done.returncode != 0
    if method.unix and driver.program.driver == "pg8000" and "network error" in done.stderr:
        return  # it says that of the goodbye it has for who is gone: findings/pg8000-unix-error.sh
    assert method.refusal.format(user=method.user) in done.stderr


@pytest.mark.parametrize("driver", DRIVERS)
def test_who_binds_finds_somebody_in_between(
    driver: Driver, login: Login, doorman: Doorman, certs: Certificates
) -> None:
    with Between((doorman.host, doorman.port), certs.stranger) as between:
        done = login(driver, METHODS["scram over TLS"], PGPORT=str(between.port), PGSSLROOTCERT=str(certs.other_ca))
    assert (done.returncode == 0) is not driver.binds, (done.stdout, done.stderr)
    assert not driver.binds or "SCRAM channel binding check failed" in done.stderr
