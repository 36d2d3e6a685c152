"""The name of PostgreSQL's unix socket in its directory (PostgreSQL docs, unix_socket_directories)."""

from __future__ import annotations


def socket_path(directory: str, port: int) -> str:
    """The path of the socket in ``directory`` that belongs to ``port``."""
    return f"{directory.rstrip('/')}/.s.PGSQL.{port}"
