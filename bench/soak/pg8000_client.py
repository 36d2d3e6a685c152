"""pg8000 in threads: a protocol implementation of its own, in pure Python."""

from __future__ import annotations

import contextlib
import io
import time
from typing import Any

import pg8000.native

from bench.soak.journal import Wrong
from bench.soak.workers import Threaded

CONNECT_SECONDS = 30


class Pg8000Client(Threaded):
    OPERATIONS = {"query": 10, "statement": 6, "transaction": 5, "told": 6, "copy_in": 1, "error": 2, "leave": 1}  # noqa: RUF012
    ERRORS = (pg8000.native.DatabaseError, pg8000.native.InterfaceError, OSError)

    c: Any = None

    @staticmethod
    def code(error: BaseException) -> str | None:
        details = error.args[0] if error.args else None
        return str(details.get("C")) if isinstance(details, dict) else None

    def connect(self) -> None:
        me = self.me
        self.c = pg8000.native.Connection(
            me.user, host="127.0.0.1", port=me.port, password=me.password, database=me.database, ssl_context=False,
            timeout=CONNECT_SECONDS, application_name=f"soak {me.number}",
        )  # fmt: skip

    def close(self) -> None:
        self.c.close()

    leave = close

    def forget(self) -> None:
        connection, self.c = self.c, None
        if connection is not None:
            with contextlib.suppress(*self.ERRORS):
                connection.close()

    def want(self, found: object, wanted: object) -> None:
        if found != wanted:
            raise Wrong(f"{str(found)[:100]!r} instead of {str(wanted)[:100]!r}")

    def query(self) -> None:
        token = self.me.token()
        rows = self.c.run("SELECT :token::text, current_setting('application_name')", token=token)
        self.want(rows, [[token, f"soak {self.me.number}"]])

    def statement(self) -> None:
        token = self.me.token()
        statement = self.c.prepare("SELECT cast(:token AS text), 1")
        self.want([statement.run(token=token) for _ in range(3)], [[[token, 1]]] * 3)
        statement.close()

    def transaction(self) -> None:
        self.c.run("BEGIN")
        first = self.c.run("SELECT pg_backend_pid()")
        time.sleep(self.me.random.random() * 0.02)
        self.want(self.c.run("SELECT pg_backend_pid()"), first)
        self.c.run("COMMIT")

    def told(self) -> None:
        transaction = self.me.journal.transaction(self.me.number)
        self.c.run("BEGIN")
        self.c.run(transaction.insert)
        transaction.committing()
        self.c.run("COMMIT")
        transaction.told("COMMIT")

    def copy_in(self) -> None:
        token = self.me.token()
        self.c.run("BEGIN")
        self.c.run("CREATE TEMP TABLE brought (token text) ON COMMIT DROP")
        self.c.run("COPY brought FROM STDIN", stream=io.StringIO(f"{token}\n" * 300))
        self.want(self.c.run("SELECT count(*), min(token), max(token) FROM brought"), [[300, token, token]])
        self.c.run("COMMIT")

    def error(self) -> None:
        try:
            self.c.run("SELECT 1/0")
        except pg8000.native.DatabaseError as error:
            if self.code(error) != "22012":
                raise
            self.query()
        else:
            raise Wrong("no error for a division by zero")
