"""What all kinds of clients have in common: who one is, its tokens, and its life from connection to connection."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bench.soak.ground import TIGHT
from bench.soak.journal import GONE, Gate, Journal

#: By the way its connection takes: as it is; slowly; in crumbs; cut and reset; forgotten by a middle box.
CHARACTERS = ("clean", "slow", "crumbs", "rough", "mute")
#: Those whose connections end at any time.
SPOILED = {"rough", "mute"}
#: Operations with much data, too many crumbs for a byte at a time.
HEAVY = {"big", "copy_out", "copy_in", "slow_reader", "pgbench"}

#: Those that keep a server for a while, which a pool of two lets one client do at a time.
KEEPING = {"listen"}

#: Between two attempts to connect.
PAUSE = 0.2


@dataclass
class Self:
    """One client: ``number`` is unlike all others', ``ports`` lead to the pooler by each character."""

    number: int
    kind: str
    character: str
    database: str
    seed: int
    ports: Mapping[str, int]
    user: str
    password: str
    journal: Journal
    gate: Gate
    random: random.Random = field(init=False)
    doing: str = "nothing yet"
    since: float = 0.0
    #: until when the connection was in order
    heard: float = 0.0
    _tokens: int = 0

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed * 1000 + self.number)

    @property
    def port(self) -> int:
        return self.ports[self.character]

    @property
    def who(self) -> dict[str, Any]:
        return {
            "client": self.number,
            "kind": self.kind,
            "character": self.character,
            "database": self.database,
            "begun": round(self.since, 3),
            "heard": round(self.heard, 3),
        }

    @property
    def schema(self) -> str:
        """What this client, and no other, has in its search_path."""
        return f"s{self.number}"

    def token(self) -> str:
        """Never the same twice, in the whole run."""
        self._tokens += 1
        return f"{self.number}-{self._tokens}-{self.random.getrandbits(32):08x}"

    def choose(self, operations: Mapping[str, int]) -> str:
        """One of them by their weights; none that is too much for this one's way."""
        without = (HEAVY if self.character == "crumbs" else set()) | (KEEPING if self.database == TIGHT else set())
        able = {name: weight for name, weight in operations.items() if name not in without}
        return self.random.choices(list(able), list(able.values()))[0]

    def begins(self, operation: str) -> None:
        self.doing = operation
        self.since = time.monotonic()
        if operation == "connect":
            self.heard = self.since

    def did(self) -> None:
        """What was begun has come to a right end."""
        self.heard = time.monotonic()
        self.journal.did(f"{self.kind} {self.doing}")


class Threaded:
    """A client in a thread of its own; what differs is the driver.

    ``connect``, ``close`` and ``forget`` (close without a word that could fail) are the driver's, ``OPERATIONS`` the
    names of methods with their weights, and ``code`` tells an error's SQLSTATE.
    """

    OPERATIONS: Mapping[str, int] = {}
    #: what the driver raises
    ERRORS: tuple[type[BaseException], ...] = (OSError,)

    def __init__(self, me: Self) -> None:
        self.me = me
        self.connected = False

    def connect(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError

    def forget(self) -> None:
        raise NotImplementedError

    @staticmethod
    def code(error: BaseException) -> str | None:
        raise NotImplementedError

    def run(self) -> None:
        me = self.me
        while me.gate.lets_by(me.number):
            operation = me.choose(self.OPERATIONS) if self.connected else "connect"
            me.begins(operation)
            try:
                action: Callable[[], None] = getattr(self, operation)
                action()
                self.connected = operation != "leave"
                me.did()
            except Exception as error:
                known = isinstance(error, self.ERRORS)
                code = self.code(error) if known else type(error).__name__
                me.journal.judge(me.who, operation, error, code)
                if operation == "connect" or code in GONE:
                    time.sleep(PAUSE)
                self.connected = False
                self.forget()
            if me.random.random() < 0.3:
                time.sleep(me.random.random() * 0.05)
        if self.connected:
            me.begins("close")
            try:
                self.close()
            except self.ERRORS as error:
                me.journal.judge(me.who, "close", error, self.code(error))
        me.begins("the end")
