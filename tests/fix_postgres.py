"""PostgreSQL for the tests: one cluster for the session, and ones of their own for tests that break theirs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import psutil
import psycopg
import pytest
from eventually import eventually
from fix_certs import CertificateFiles, Certificates
from fix_leaks import looked_after
from psycopg.rows import dict_row
from throwaway_postgres import ThrowawayPostgres
from wire_client import DEFAULT_TIMEOUT, WireClient

#: Lines of pg_hba.conf: one role for each way a server can ask for a password.
HBA = (
    "local all all trust",
    *(
        f"host {database} {role} {address} {method}"
        for address in ("127.0.0.1/32", "::1/128")
        for database, role, method in (
            ("all", "postgres", "trust"),
            ("all", "app_trust", "trust"),
            ("all", "app_clear", "password"),
            ("all", "app_md5", "md5"),
            ("all", "all", "scram-sha-256"),
        )
    ),
)

SETTINGS: Mapping[str, object] = {
    "max_connections": 300,
    "log_connections": "off",
    "log_min_messages": "warning",
    "log_min_error_statement": "panic",
    "max_prepared_transactions": 20,
}


def conninfo(**parameters: Any) -> str:
    """A conninfo string; by default ``testdb`` as ``app``, by the password of the user."""
    given: dict[str, Any] = {
        "dbname": "testdb",
        "user": "app",
        "sslmode": "disable",
        "gssencmode": "disable",
        "connect_timeout": math.ceil(DEFAULT_TIMEOUT),
        **parameters,
    }
    given.setdefault("password", Postgres.PASSWORDS.get(given["user"], ""))
    return psycopg.conninfo.make_conninfo("", **given)


def server_user(connection: psycopg.Connection[Any]) -> str:
    """Whom PostgreSQL has at the other end."""
    found = connection.execute("SELECT current_user::text").fetchone()
    assert found is not None
    return str(found[0])


class Postgres(ThrowawayPostgres):
    """A cluster with the roles and databases the tests speak of."""

    #: Roles: ``app`` and ``app_two`` by SCRAM, the others as their names say. ``postgres`` is trusted.
    PASSWORDS: ClassVar[dict[str, str]] = {
        "app": "app's secret 1",
        "app_two": "second secret",
        "app_md5": "md5 secret 22",
        "app_clear": "clear secret 333",
        "app_trust": "never asked for",
        "postgres": "",
    }

    def __init__(self, directory: Path, settings: Mapping[str, object] | None = None, **more: Any) -> None:
        super().__init__(directory, settings={**SETTINGS, **(settings or {})}, hba=HBA, **more)
        self._secrets: dict[str, str] = {}

    def offer_tls(self, certs: Certificates, files: CertificateFiles | None = None) -> None:
        """Have it speak TLS by a certificate, ``certs.server``'s if none is given; holds from the next start on."""
        files = files or certs.server
        paths = {
            setting: str(self.install_file(path.name, path.read_bytes()))
            for setting, path in (
                ("ssl_cert_file", files.certificate),
                ("ssl_key_file", files.private_key),
                ("ssl_ca_file", certs.ca),
            )
        }
        self.configure(ssl="on", **paths)

    def populate(self) -> None:
        """Make the roles and the databases ``testdb`` and ``otherdb``."""
        lines = []
        for role, password in self.PASSWORDS.items():
            if role != "postgres":
                kind = "md5" if role == "app_md5" else "scram-sha-256"
                quoted = password.replace("'", "''")
                lines.append(f"SET password_encryption = '{kind}'; CREATE ROLE {role} LOGIN PASSWORD '{quoted}';")
        lines += [f"CREATE DATABASE {name} OWNER app;" for name in ("testdb", "otherdb")]
        lines += ["GRANT pg_read_all_stats, pg_signal_backend TO app;"]
        self.sql("\n".join(lines))
        for name in ("testdb", "otherdb"):
            self.sql("GRANT ALL ON SCHEMA public TO PUBLIC;", database=name)

    def start(self) -> None:
        super().start()
        looked_after.add(self.pid)

    @classmethod
    def password(cls, role: str) -> str:
        return cls.PASSWORDS[role]

    def secret(self, role: str) -> str:
        """What pg_authid stores for a role: ``SCRAM-SHA-256$…`` or ``md5…``."""
        if role not in self._secrets:
            self._secrets[role] = self.sql(f"SELECT rolpassword FROM pg_authid WHERE rolname = '{role}'")
        return self._secrets[role]

    def dsn(self, **parameters: Any) -> str:
        """A conninfo string; by default ``testdb`` as ``app``."""
        return conninfo(**{"host": self.host, "port": self.port, **parameters})

    def connect(self, *, autocommit: bool = True, **parameters: Any) -> psycopg.Connection[tuple[Any, ...]]:
        """A direct psycopg connection, by default to ``testdb`` as ``app``."""
        return psycopg.connect(self.dsn(**parameters), autocommit=autocommit)

    def wire(self, database: str = "testdb", user: str = "app", **parameters: str) -> WireClient:
        """A direct raw client, logged in."""
        client = WireClient((self.host, self.port))
        try:
            return client.login(user, database, self.PASSWORDS.get(user, ""), **parameters)
        except BaseException:
            client.close()
            raise

    def rows(self, sql: str, parameters: Any = (), **where: Any) -> list[dict[str, Any]]:
        """Rows of a statement run as the superuser, by column name."""
        where.setdefault("user", "postgres")
        with psycopg.connect(self.dsn(**where), autocommit=True, row_factory=dict_row) as connection:
            return connection.execute(sql, parameters or None).fetchall()

    def backends(self, user: str = "app", database: str = "testdb") -> list[dict[str, Any]]:
        """The rows of pg_stat_activity of a role in a database."""
        return self.rows(
            "SELECT pid, state, query, application_name, backend_start, xact_start, wait_event FROM pg_stat_activity"
            " WHERE usename = %s AND datname = %s AND backend_type = 'client backend' ORDER BY backend_start",
            (user, database),
        )

    def terminate(self, pid: int) -> None:
        """End a backend, and wait until it is gone: what it had to say stands on its connection then."""
        self.rows("SELECT pg_terminate_backend(%s)", (pid,))
        eventually(lambda: not psutil.pid_exists(pid), message=f"backend {pid} is gone")


@cache
def supports_tcp6() -> bool:
    """Whether this machine has ::1."""
    import socket

    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """The cluster shared by all tests; who stops it or changes its files asks for ``own_postgres``."""
    with Postgres(tmp_path_factory.mktemp("postgres")) as cluster:
        assert isinstance(cluster, Postgres)
        cluster.populate()
        yield cluster


@pytest.fixture(scope="module")
def own_postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """A cluster of this module's own, to be killed, restarted and reconfigured. It runs when a test begins."""
    with Postgres(tmp_path_factory.mktemp("own_postgres")) as cluster:
        assert isinstance(cluster, Postgres)
        cluster.populate()
        yield cluster
