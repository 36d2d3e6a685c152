"""What a server tells of itself for ``generate``: its roles with the secrets they log in by, and its databases.

pg8000 asks. It is imported by the first question only: it is not needed to serve.
"""

from __future__ import annotations

import dataclasses
import ssl
from collections.abc import Iterator
from typing import Any

from pgdoorman_lib.errors import DoormanError
from pgdoorman_lib.record import record
from pgdoorman_lib.wire.unix_socket import socket_path

#: Seconds for each answer of the server's.
TIMEOUT = 30.0

#: Names come as UTF-8 whatever the database's encoding is.
_PARAMETERS = {"client_encoding": "UTF8"}
_ROLES = "SELECT usename, passwd, coalesce(valuntil <= now(), false) FROM pg_catalog.pg_shadow ORDER BY 1"
_DATABASES = (
    'SELECT datname FROM pg_catalog.pg_database WHERE NOT datistemplate AND datallowconn ORDER BY datname COLLATE "C"'
)

_INSUFFICIENT_PRIVILEGE = "42501"
_INVALID_AUTHORIZATION = "28000"
_INVALID_PASSWORD = "28P01"


@record(frozen=True)
class Role:
    """A role that may log in. ``secret`` as pg_shadow has it, None without one; ``expired``: past its VALID UNTIL."""

    name: str
    secret: str | None = dataclasses.field(repr=False)
    expired: bool = False


@record(frozen=True)
class Survey:
    """A server's roles and databases, sorted by name; templates and databases nobody may connect to are left out."""

    roles: tuple[Role, ...]
    databases: tuple[str, ...]


def ask(host: str, port: int, user: str, password: str, database: str, tls: bool) -> Survey:
    """Ask the server; ``host`` may be a directory with its unix socket, ``tls`` demands TLS and checks no certificate.

    Raises ``DoormanError`` that says who was refused what, and what to do about it. Blocks.
    """
    import pg8000.native
    import scramp

    where = f'{host}:{port} as "{user}"'
    # pg8000 has no password where there must be one: SCRAM fails with an AttributeError when it is None.
    options: dict[str, Any] = {
        "user": user,
        "password": password,
        "database": database,
        "timeout": TIMEOUT,
        "application_name": "pgdoorman generate",
        "startup_params": _PARAMETERS,
    }
    if host.startswith("/"):
        if tls:
            raise DoormanError(f"there is no TLS on the unix socket in {host}: leave --ssl out, or name an address")
        options |= {"unix_sock": socket_path(host, port), "ssl_context": False}
    else:
        options |= {"host": host, "port": port, "ssl_context": _unchecked() if tls else False}
    try:
        with pg8000.native.Connection(**options) as connection:
            roles = connection.run(_ROLES)
            databases = connection.run(_DATABASES)
    except (pg8000.native.Error, scramp.ScramException, OSError, UnicodeError) as exc:
        raise explained(exc, where, user, password, database, tls) from exc
    return Survey(tuple(Role(*row) for row in roles or ()), tuple(name for (name,) in databases or ()))


def _unchecked() -> ssl.SSLContext:
    """What ``server_tls_mode = "require"``, which is written for such a server, does."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def explained(exc: BaseException, where: str, user: str, password: str, database: str, tls: bool) -> DoormanError:
    """The reason that is behind ``exc``, raised for a login or a question at ``where``, with what to do about it."""
    refusal = _refusal(exc)
    if refusal is None:
        return DoormanError(f"could not ask {where}: {_reason(exc)}")
    text, code = refusal.get("M", "no reason given"), refusal.get("C", "")
    if code == _INSUFFICIENT_PRIVILEGE:
        return DoormanError(
            f'"{user}" may not read the stored passwords ({text}). Connect as a superuser, or have one run in database '
            f'"{database}": GRANT SELECT ON pg_catalog.pg_shadow TO {_identifier(user)}. Where nobody may (managed '
            "services), begin with --reference and write the users yourself"
        )
    hint = ""
    if code in (_INVALID_PASSWORD, _INVALID_AUTHORIZATION) and not password:
        hint = "; no password was given: use PGPASSWORD or --password"
    if code == _INVALID_AUTHORIZATION and not tls and "no encryption" in text:
        hint = "; the server may want TLS: --ssl"
    return DoormanError(f"{where} was refused: {text}{hint}")


def _chain(exc: BaseException | None) -> Iterator[BaseException]:
    """``exc`` and what it came from: pg8000 says goodbye after a refusal, and a failure of that hides the refusal."""
    while exc is not None:
        yield exc
        exc = exc.__cause__ or exc.__context__


def _refusal(exc: BaseException) -> dict[str, str] | None:
    """The fields of PostgreSQL's error, if it sent one."""
    for found in _chain(exc):
        if found.args and isinstance(found.args[0], dict):
            return found.args[0]
    return None


def _reason(exc: BaseException) -> str:
    """Why there was no answer: the system's word if it has one, else the library's."""
    for found in _chain(exc):
        if isinstance(found, OSError) and found.strerror:
            return found.strerror
    return str(exc) or type(exc).__name__


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
