"""psycopg in threads: all of libpq's ways, cancel requests, COPY, cursors, pipelines, and going without a word."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from typing import Any

import psycopg

from bench.soak.journal import Wrong
from bench.soak.workers import Self, Threaded

CONNECT_SECONDS = 30
#: What a slow reader reads: rows of about a thousand bytes, so many for each of its naps.
SLOW_ROWS, ROWS_A_NAP, NAP = 6000, 500, 0.1
#: A statement to be cancelled takes so long if it is not.
SLEEP = 3.0
#: The request comes so many seconds behind it, when it has been sent: before, there is nothing to cancel.
ASKED = (0.3, 0.6)


class PsycopgClient(Threaded):
    OPERATIONS = {  # noqa: RUF012
        "simple": 10,
        "extended": 10,
        "prepared": 10,
        "transaction": 6,
        "told": 8,
        "rolled_back": 2,
        "settings": 6,
        "setting_changed": 2,
        "big": 2,
        "pipeline": 6,
        "cursor": 4,
        "copy_out": 2,
        "copy_in": 2,
        "slow_reader": 1,
        "listen": 3,
        "error": 4,
        "cancel": 1,
        "abrupt": 1,
        "leave": 1,
    }
    ERRORS = (psycopg.Error, OSError)

    def __init__(self, me: Self) -> None:
        super().__init__(me)
        self.connection: psycopg.Connection[tuple[Any, ...]] | None = None
        self.tls = me.number % 3 == 0

    @staticmethod
    def code(error: BaseException) -> str | None:
        return getattr(error, "sqlstate", None)

    # -- connections

    def connect(self) -> None:
        me = self.me
        self.connection = psycopg.connect(
            host="127.0.0.1", port=me.port, user=me.user, password=me.password, dbname=me.database, autocommit=True,
            sslmode="require" if self.tls else "disable", gssencmode="disable", connect_timeout=CONNECT_SECONDS,
            application_name=f"soak {me.number}",
            prepare_threshold=me.random.choice([0, 2, 5, None]),
        )  # fmt: skip
        self.connection.execute(f"SET search_path = {me.schema}, public")

    @property
    def c(self) -> psycopg.Connection[tuple[Any, ...]]:
        assert self.connection is not None
        return self.connection

    def close(self) -> None:
        self.c.close()

    leave = close

    def forget(self) -> None:
        connection, self.connection = self.connection, None
        if connection is not None:
            with contextlib.suppress(psycopg.Error):
                connection.close()

    def one(self, sql: str, *parameters: object, **options: Any) -> Any:
        row = self.c.execute(sql, parameters or None, **options).fetchone()
        return row[0] if row else None

    def want(self, found: object, wanted: object) -> None:
        if found != wanted:
            raise Wrong(f"{str(found)[:100]!r} instead of {str(wanted)[:100]!r}")

    # -- operations

    def simple(self) -> None:
        token = self.me.token()
        row = psycopg.ClientCursor(self.c).execute("SELECT %s::text", (token,)).fetchone()
        self.want(row, (token,))

    def extended(self) -> None:
        token = self.me.token()
        self.want(self.one("SELECT %s::text", token, prepare=False), token)

    def prepared(self) -> None:
        """A few texts, so that others prepare the same, and some that are this client's own."""
        token = self.me.token()
        number = self.me.random.randrange(20)
        text = f"SELECT %s::text, {number}" if number < 15 else f"SELECT %s::text, {number} AS a{self.me.number}"
        row = self.c.execute(text, (token,), prepare=True).fetchone()
        self.want(row, (token, number))

    def transaction(self) -> None:
        """One server throughout, and one that has this transaction's settings."""
        token = self.me.token()
        with self.c.transaction():
            self.c.execute(f"SET LOCAL application_name = '{token}'")
            first = self.one("SELECT pg_backend_pid()")
            time.sleep(self.me.random.random() * 0.02)
            row = self.c.execute("SELECT pg_backend_pid(), current_setting('application_name')").fetchone()
            self.want(row, (first, token))
        self.want(self.one("SHOW application_name"), f"soak {self.me.number}")

    def told(self) -> None:
        transaction = self.me.journal.transaction(self.me.number)
        c = self.c
        c.execute("BEGIN")
        if self.me.random.random() < 0.2:
            c.execute("SAVEPOINT s")
            try:
                c.execute("SELECT 1/0")
            except psycopg.errors.DivisionByZero:
                c.execute("ROLLBACK TO SAVEPOINT s")
        c.execute(transaction.insert)
        transaction.committing()
        transaction.told(c.execute("COMMIT").statusmessage or "")

    def rolled_back(self) -> None:
        transaction = self.me.journal.transaction(self.me.number)
        self.c.execute("BEGIN")
        self.c.execute(transaction.insert)
        self.want(self.c.execute("ROLLBACK").statusmessage, "ROLLBACK")

    def settings(self) -> None:
        self.want(self.one("SHOW search_path"), f"{self.me.schema}, public")
        self.want(self.one("SHOW application_name"), f"soak {self.me.number}")

    def setting_changed(self) -> None:
        value = f"{self.me.random.randrange(60, 3000)}s"
        self.c.execute(f"SET lock_timeout = '{value}'")
        milliseconds = self.one("SELECT setting FROM pg_settings WHERE name = 'lock_timeout'")
        self.want(milliseconds, f"{int(value[:-1]) * 1000}")
        self.c.execute("RESET lock_timeout")

    def big(self) -> None:
        text = self.me.token() * self.me.random.randrange(1, 20000)
        self.want(self.one("SELECT %s::text", text), text)

    def pipeline(self) -> None:
        tokens = [self.me.token() for _ in range(8)]
        with self.c.pipeline():
            cursors = [self.c.execute("SELECT %s::text", (token,)) for token in tokens]
        self.want([cursor.fetchone() for cursor in cursors], [(token,) for token in tokens])

    def cursor(self) -> None:
        token = self.me.token()
        with self.c.transaction(), self.c.cursor("walk") as cursor:
            cursor.itersize = 7
            cursor.execute("SELECT %s::text || i FROM generate_series(1, 40) AS i", (token,))
            self.want([row[0] for row in cursor], [f"{token}{i}" for i in range(1, 41)])

    def copy_out(self) -> None:
        self.read_rows(self.me.random.randrange(1, 3000), 0.0)

    def slow_reader(self) -> None:
        self.read_rows(SLOW_ROWS, NAP)

    def read_rows(self, count: int, nap: float) -> None:
        token = self.me.token()
        tail = "x" * 1000
        sql = f"COPY (SELECT '{token}', i, '{tail}' FROM generate_series(1, {count}) AS i) TO STDOUT"
        found = 0
        with self.c.cursor().copy(sql) as copy:
            for row in copy.rows():
                found += 1
                self.want(row, (token, str(found), tail))
                if nap and found % ROWS_A_NAP == 0:
                    time.sleep(nap)
        self.want(found, count)

    def copy_in(self) -> None:
        token = self.me.token()
        count = self.me.random.randrange(1, 2000)
        with self.c.transaction():
            self.c.execute("CREATE TEMP TABLE brought (token text, number int) ON COMMIT DROP")
            with self.c.cursor().copy("COPY brought FROM STDIN") as copy:
                for number in range(count):
                    copy.write_row((token, number))
            row = self.c.execute("SELECT count(*), min(token), max(token), max(number) FROM brought").fetchone()
            self.want(row, (count, token, token, count - 1))

    def listen(self) -> None:
        token = self.me.token()
        self.c.execute(f"LISTEN news{self.me.number}")
        self.one(f"SELECT pg_notify('news{self.me.number}', %s)", token)
        self.want([note.payload for note in self.c.notifies(timeout=20, stop_after=1)], [token])
        self.c.execute("UNLISTEN *")

    def error(self) -> None:
        token = self.me.token()
        try:
            self.c.execute("SELECT 1/0")
        except psycopg.errors.DivisionByZero:
            self.want(self.one("SELECT %s::text", token), token)
        else:
            raise Wrong("no error for a division by zero")

    def cancel(self) -> None:
        connection = self.c
        asked = threading.Event()

        def ask() -> None:
            with contextlib.suppress(psycopg.Error):
                connection.cancel_safe(timeout=10)
                asked.set()

        timer = threading.Timer(self.me.random.uniform(*ASKED), ask)
        timer.start()
        try:
            connection.execute(f"SELECT pg_sleep({SLEEP}), '{self.me.token()}'", prepare=False)
        except psycopg.errors.QueryCanceled:
            self.me.journal.did("cancel requests that hit")
        else:
            error = Wrong("the cancel request was sent" if asked.is_set() else "the cancel request found no connection")
            self.me.journal.is_lost(self.me.who, "cancel", error, "cancel")
        finally:
            timer.join()
        self.extended()

    def abrupt(self) -> None:
        """Go while an answer is under way, without a word."""
        cursor = self.c.cursor()
        self.c.pgconn.send_query(b"SELECT repeat('x', 1000), pg_sleep(0.0005) FROM generate_series(1, 2000)")
        time.sleep(self.me.random.random() * 0.3)
        with socket.fromfd(self.c.fileno(), socket.AF_INET, socket.SOCK_STREAM) as end:
            if self.me.random.random() < 0.5:
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            end.shutdown(socket.SHUT_RDWR)
        cursor.close()
        self.forget()
        self.connect()
