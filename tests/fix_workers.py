"""Two worker processes of one pooler, each with a port of its own: which of them a client is at is the test's to say."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from fix_doorman import Doorman, app_pool, base_config, merged
from fix_postgres import Postgres
from ports import free_port
from wire_client import WireClient

RIG = Path(__file__).resolve().parent / "worker_rig.py"


class Workers(Doorman):
    """Two workers; ``at`` gives one's port."""

    def __init__(self, directory: Path, config: dict[str, Any], ports: list[int]) -> None:
        super().__init__(directory, config)
        self.ports = ports

    @staticmethod
    def command() -> list[str]:
        return [sys.executable, str(RIG)]

    def _listens(self) -> bool:
        assert self.running, self.log_text()
        return self.log_text().count(" serves\n") == len(self.ports)

    def at(self, number: int) -> int:
        return self.ports[number - 1]

    def pid_of(self, number: int) -> int:
        return int(re.findall(rf"worker {number} \((\d+)\) serves", self.log_text())[-1])

    def client(self, number: int, database: str = "testdb", user: str = "app") -> WireClient:
        client = WireClient((self.host, self.at(number)))
        try:
            return client.login(user, database, Postgres.PASSWORDS[user])
        except BaseException:
            client.close()
            raise

    def ended_well(self) -> None:
        """All counts were given back in the end."""
        assert self.stop() == 0, self.log_text()
        assert "rows left: 0\n" in self.log_text()
        self.check_log()


Make = Callable[..., Workers]


@pytest.fixture
def workers(postgres: Postgres, tmp_path: Path) -> Iterator[Make]:
    made: list[Workers] = []

    def make(
        size: int = 2, general: Mapping[str, Any] | None = None, over: Postgres = postgres, **pool: Any
    ) -> Workers:
        config = base_config(postgres, free_port())
        config = merged(config, {"general": {"worker_threads": 1, **(general or {})}})
        config["pools"] = {"testdb": app_pool(over, size, **pool)}
        doorman = Workers(tmp_path, config, [config["general"]["port"], free_port()])
        made.append(doorman)
        doorman.start(*map(str, doorman.ports))
        return doorman

    yield make
    for each in made:
        if each.running:
            each.ended_well()
