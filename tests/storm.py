"""Cancelling: one statement, or clients that cancel theirs all the time beside others that nobody cancels."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import Any

import psycopg
from eventually import eventually
from fix_postgres import Postgres
from pace import patience
from wire_client import WireClient, kinds, query

Login = Callable[[], WireClient]


class CancelStorm:
    """Takes part in by ``victim`` and ``bystander``; ``rage`` runs all of them, and fails if any was hit wrongly."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._wrong: list[str] = []
        self._cancelled = 0
        self._answered = 0
        self._threads: list[threading.Thread] = []

    def victim(self, login: Login, cancel: Callable[[WireClient], object], seed: int) -> None:
        """One that has its statements cancelled: only those, and each as PostgreSQL says it."""
        rng = random.Random(seed)

        def turn(client: WireClient) -> None:
            client.send(query(f"SELECT pg_sleep({rng.uniform(0, 0.04):.4f})"))
            time.sleep(rng.uniform(0, 0.02))  # not waiting for anything: the moment of the cancel varies
            cancel(client)
            answer = client.read_ready()
            if "E" in kinds(answer):
                self._cancelled += 1
                if answer[-2].sqlstate != "57014":
                    self._wrong.append(f"victim: {answer[-2].sqlstate}")
            # The cancel is through: what comes now is not hit by it.
            if kinds(client.ask_query("SELECT pg_sleep(0.002)")) != "TDCZ":
                self._wrong.append("the next statement of a victim")

        self._add("victim", login, turn)

    def bystander(self, login: Login, seed: int) -> None:
        """One that is never cancelled."""
        rng = random.Random(seed)

        def turn(client: WireClient) -> None:
            answer = client.ask_query(f"SELECT pg_sleep({rng.uniform(0, 0.003):.4f}), {seed}")
            self._answered += 1
            if kinds(answer) != "TDCZ":
                self._wrong.append(f"bystander: {kinds(answer)}")

        self._add("bystander", login, turn)

    def rage(self, seconds: float) -> None:
        """So long, and until there were enough of both."""
        for thread in self._threads:
            thread.start()
        self._stop.wait(seconds)
        eventually(lambda: self._wrong or (self._cancelled > 10 and self._answered > 50), timeout=20)
        self._stop.set()
        for thread in self._threads:
            thread.join(patience(30))
        assert not self._wrong

    def _add(self, who: str, login: Login, turn: Callable[[WireClient], None]) -> None:
        def run() -> None:
            try:
                with login() as client:
                    while not self._stop.is_set():
                        turn(client)
            except BaseException as exc:
                self._wrong.append(f"{who}: {exc!r}")

        self._threads.append(threading.Thread(target=run))


def cancelled(connection: psycopg.Connection[Any], postgres: Postgres, mark: str) -> list[str | None]:
    """What errors a statement that is cancelled by libpq, the way the connection has come, ends with; ``mark`` is in it."""
    found: list[str | None] = []

    def sleep() -> None:
        try:
            connection.execute(f"SELECT pg_sleep(30), '{mark}'")
        except psycopg.Error as exc:
            found.append(exc.sqlstate)

    thread = threading.Thread(target=sleep)
    thread.start()
    eventually(lambda: any(f"'{mark}'" in b["query"] and b["state"] == "active" for b in postgres.backends()))
    connection.cancel_safe(timeout=patience(5))
    thread.join(patience(10))
    return found
