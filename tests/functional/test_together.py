"""Two real applications joined: what their console tells, and does, whichever of them is asked."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from eventually import eventually
from fix_doorman import Doorman, base_config
from fix_postgres import Postgres
from ports import free_port

from pgdoorman_lib.admin.dialects import PGBOUNCER, PGDOORMAN

pytestmark = pytest.mark.own_workers

PROGRAM = Path(__file__).resolve().parents[1] / "two_apps.py"


class Pair(Doorman):
    """``second`` is the port of worker 2; it says nothing while ``silence`` exists."""

    @staticmethod
    def command() -> list[str]:
        return [sys.executable, str(PROGRAM)]

    @property
    def silence(self) -> Path:
        return self.directory / "silence"

    def rows(self, sql: str, second: bool = False, database: str = "pgdoorman") -> list[dict[str, Any]]:
        """What the console of one of them answers."""
        with self.admin_connect(database, **({"port": self.second} if second else {})) as connection:
            self.notices: list[str] = []
            connection.add_notice_handler(lambda notice: self.notices.append(str(notice.message_primary)))
            cursor = connection.execute(sql)
            return cursor.fetchall() if cursor.description else []

    second: int


@pytest.fixture
def pair(postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pair]:
    pair = Pair(tmp_path, base_config(postgres, free_port()))
    pair.second = free_port()
    monkeypatch.setenv("TEST_SECOND_PORT", str(pair.second))
    monkeypatch.setenv("TEST_SILENCE", str(pair.silence))
    pair.start()
    pair.wait_log(rf"listening on .*:{pair.second}")
    yield pair
    pair.finish()


Clients = list[psycopg.Connection[tuple[Any, ...]]]


@pytest.fixture
def everybody(pair: Pair) -> Iterator[Clients]:
    """Three of the first and two of the second, each with a transaction and a statement behind it."""
    with ExitStack() as opened:
        ports = (pair.port, pair.port, pair.port, pair.second, pair.second)
        found = [opened.enter_context(closing(pair.connect(port=port))) for port in ports]
        for number, client in enumerate(found):
            client.execute("select %s::int", (number,), prepare=True)
        yield found


def test_both_are_told_of(pair: Pair, everybody: Clients) -> None:
    (counted,) = [row for row in pair.rows("SHOW STATS") if row["database"] == "testdb"]
    for second in (False, True):
        (pool,) = [row for row in pair.rows("SHOW POOLS", second) if row["database"] == "testdb"]
        assert (pool["cl_idle"], pool["sv_idle"]) == (5, pool["sv_idle"])
        (stats,) = [row for row in pair.rows("SHOW STATS", second) if row["database"] == "testdb"]
        assert stats["total_xact_count"] == counted["total_xact_count"] >= len(everybody)
        listed = [row for row in pair.rows("SHOW CLIENTS", second) if row["database"] == "testdb"]
        assert sorted(row["worker"] for row in listed) == [1, 1, 1, 2, 2]
        servers = pair.rows("SHOW SERVERS", second)
        assert {row["worker"] for row in servers} == {1, 2}
        assert len({row["server_id"] for row in servers}) == len(servers)
        assert [row["worker"] for row in pair.rows("SHOW WORKERS", second)] == [1, 2]
        (statement,) = pair.rows("SHOW PREPARED_STATEMENTS", second)
        assert statement["count_used"] == 5
        (connections,) = pair.rows("SHOW CONNECTIONS", second)
        assert connections["plain"] >= 5
        assert not pair.notices


@pytest.mark.parametrize("database", ["pgdoorman", "pgbouncer"])
def test_every_table(pair: Pair, everybody: Clients, database: str) -> None:
    dialect = PGDOORMAN if database == "pgdoorman" else PGBOUNCER
    with pair.admin_connect(database, port=pair.second) as connection:
        for name, show in dialect.shows.items():
            cursor = connection.execute(f"SHOW {name}")
            if name == "HELP" and cursor.description is None:
                continue
            assert cursor.description is not None
            names = [column.name for column in cursor.description]
            assert names == [column.name for column in show.columns] + ["worker"] * show.by_worker
            cursor.fetchall()


def test_one_that_says_nothing(pair: Pair, everybody: Clients) -> None:
    before = pair.rows("SHOW STATS")
    pair.silence.touch()
    assert pair.rows("SHOW STATS") == before
    assert pair.notices == ["worker 2 is not in this table, but for what it had counted"]
    assert len([row for row in pair.rows("SHOW CLIENTS") if row["database"] == "testdb"]) == 3
    with pytest.raises(psycopg.errors.SystemError, match="worker 2: it says nothing"):
        pair.rows("RECONNECT")
    pair.silence.unlink()


def test_commands_reach_both(pair: Pair, everybody: Clients) -> None:
    pair.rows("PAUSE testdb")
    for second in (True, False):
        assert [row["paused"] for row in pair.rows("SHOW POOLS", second) if row["database"] == "testdb"] == ["1"]
        assert [row for row in pair.rows("SHOW SERVERS", second) if row["database_name"] == "testdb"] == []
    pair.rows("RESUME testdb", second=True)
    for client in everybody:
        client.execute("select 1")
    victim = next(row for row in pair.rows("SHOW CLIENTS") if row["worker"] == 2 and row["database"] == "testdb")
    pair.rows(f"KILL_CLIENT {victim['client_id']}")
    eventually(lambda: len([row for row in pair.rows("SHOW CLIENTS") if row["database"] == "testdb"]) == 4)
    pair.rows("SET query_wait_timeout = '3s'")
    for second in (True, False):
        (key,) = [row for row in pair.rows("SHOW CONFIG", second) if row["key"] == "query_wait_timeout"]
        assert key["value"] == "3000"
    pair.rows("RELOAD")
    pair.rows("SET log_level = 'warn'", second=True)
    assert pair.rows("SHOW LOG_LEVEL") == [{"log_level": "warn"}]
    pair.rows("SHUTDOWN")
    assert pair.wait() == 0
