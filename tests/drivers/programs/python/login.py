"""Logs in once, by the driver that is named, as the environment says, and tells who it is then."""

from __future__ import annotations

import asyncio
import os
import ssl
import sys
from collections.abc import Callable, Mapping
from typing import Any


def context(env: Mapping[str, str]) -> ssl.SSLContext | None:
    if env["PGSSLMODE"] == "disable":
        return None
    made = ssl.create_default_context(cafile=env["PGSSLROOTCERT"])
    if "PGSSLCERT" in env:
        made.load_cert_chain(env["PGSSLCERT"], env["PGSSLKEY"])
    return made


def by_psycopg(env: Mapping[str, str]) -> Any:
    import psycopg

    with psycopg.connect() as connection:
        row = connection.execute("SELECT current_user").fetchone()
        assert row is not None
        return row[0]


def by_psycopg2(env: Mapping[str, str]) -> Any:
    import psycopg2

    connection = psycopg2.connect("")
    try:
        cursor = connection.cursor()
        cursor.execute("SELECT current_user")
        row = cursor.fetchone()
        assert row is not None
        return row[0]
    finally:
        connection.close()


def by_asyncpg(env: Mapping[str, str]) -> Any:
    import asyncpg

    async def login() -> Any:
        connection = await asyncpg.connect(
            host=env["PGHOST"],
            port=int(env["PGPORT"]),
            user=env["PGUSER"],
            password=env.get("PGPASSWORD"),
            database=env["PGDATABASE"],
            ssl=context(env) or False,
        )
        try:
            return await connection.fetchval("SELECT current_user")
        finally:
            connection.terminate()  # without a word: who stands in between has none for the end of TLS

    return asyncio.run(login())


def by_pg8000(env: Mapping[str, str]) -> Any:
    import pg8000.native

    host, port = env["PGHOST"], env["PGPORT"]
    where: dict[str, Any] = {"host": host, "port": int(port)}
    if host.startswith("/"):
        where = {"unix_sock": f"{host}/.s.PGSQL.{port}"}
    connection = pg8000.native.Connection(
        env["PGUSER"],
        database=env["PGDATABASE"],
        password=env.get("PGPASSWORD"),
        ssl_context=context(env) or False,
        **where,
    )
    try:
        return connection.run("SELECT current_user")[0][0]
    finally:
        connection.close()


DRIVERS: Mapping[str, Callable[[Mapping[str, str]], Any]] = {
    "psycopg": by_psycopg,
    "psycopg2": by_psycopg2,
    "asyncpg": by_asyncpg,
    "pg8000": by_pg8000,
}

if __name__ == "__main__":
    try:
        print(DRIVERS[sys.argv[1]](os.environ))
    except Exception as exc:  # whatever each driver has: the test reads what it says
        sys.exit(f"{type(exc).__name__}: {exc}")
