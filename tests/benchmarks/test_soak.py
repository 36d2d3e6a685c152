"""What the soak takes for wrong, and what not."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import bench_package
import pytest

bench_package.make_importable()

from bench.soak.ground import POOLS, Pooler  # noqa: E402
from bench.soak.journal import Gate, Journal, Wrong  # noqa: E402
from bench.soak.trouble import GRACE, Trouble  # noqa: E402
from bench.soak.verdict import Quiet, Verdict  # noqa: E402
from bench.soak.workers import Self  # noqa: E402
from pgdoorman_lib.config.loader import load  # noqa: E402

WHO: dict[str, Any] = {
    **{"client": 101, "kind": "psycopg", "character": "clean", "database": "mixdb"},
    **{"begun": 10.0, "heard": 10.0},
}


class Silent:
    """Stands for PostgreSQL: ``psql`` prints these rows of ``told``, all in the first database."""

    def __init__(self, *rows: tuple[int, int]) -> None:
        self.rows = rows

    def sql(self, text: str, database: str = "") -> str:
        return "\n".join(f"{worker}|{number}" for worker, number in self.rows) if database == "mixdb" else ""


def reported(journal: Journal) -> dict[str, Any]:
    """As a crew does, through JSON."""
    data = journal.data()
    data["transactions"] = {
        str(worker): {"database": "mixdb", "last": last, "absent": absent, "doubtful": doubtful}
        for worker, (last, absent, doubtful) in data["transactions"].items()
    }
    return data


def test_the_pooler_takes_its_configuration(tmp_path: Path) -> None:
    pooler = Pooler(["pgdoorman"], tmp_path, 2, dict.fromkeys(POOLS, 5432))
    pooler.write_config()
    config = load(str(pooler.config_path))
    assert set(config.pools) == set(POOLS) and config.general.worker_threads == 2


@pytest.fixture
def journal() -> Journal:
    """Transactions 1: told, 2: sent, 3: begun, 4: in doubt, of client 5."""
    journal = Journal()
    for ends in ("told", "told", "begun", "sent"):
        transaction = journal.transaction(5)
        if ends != "begun":
            transaction.committing()
        if ends == "told":
            transaction.told("COMMIT")
    return journal


@pytest.mark.parametrize(
    ("there", "wrong"),
    [
        ((1, 2), ""),
        ((1, 2, 4), ""),
        ((1,), "client 5: [2] of 4 was told but is not there"),
        ((1, 2, 3), "client 5: [3] of 4 is there though it was not committed"),
        ((1, 2, 5), "client 5: [5] of 4 is there though nobody has sent it"),
    ],
)
def test_transactions(journal: Journal, there: tuple[int, ...], wrong: str) -> None:
    verdict = Verdict()
    postgres: Any = Silent(*((5, number) for number in there))
    verdict._transactions([reported(journal)], postgres)
    assert verdict.wrong == ([wrong] if wrong else [])


def test_a_transaction_of_nobody(journal: Journal) -> None:
    verdict = Verdict()
    postgres: Any = Silent((5, 1), (5, 2), (6, 1))
    verdict._transactions([reported(journal)], postgres)
    assert verdict.wrong == ["transactions of clients that are unknown: [6]"]


def test_a_commit_that_was_answered_by_rollback() -> None:
    transaction = Journal().transaction(1)
    transaction.committing()
    with pytest.raises(Wrong, match="ROLLBACK"):
        transaction.told("ROLLBACK")


@pytest.mark.parametrize("code", [None, "57P01", "08006"])
def test_a_lost_connection_is_no_wrong_answer(code: str | None) -> None:
    journal = Journal()
    journal.judge(WHO, "simple", OSError("gone"), code)
    assert (len(journal.lost), journal.wrongs) == (1, 0)


@pytest.mark.parametrize(("error", "code"), [(Wrong("b instead of a"), None), (OSError("?"), "57014")])
def test_a_wrong_answer_and_a_cancel_of_nobody(error: Exception, code: str | None) -> None:
    journal = Journal()
    journal.judge(WHO, "simple", error, code)
    assert (len(journal.lost), journal.wrongs) == (0, 1)


def trouble() -> Trouble:
    nothing: Any = None
    found = Trouble(nothing, nothing, nothing, 1)
    found.excuses.append((20.0, 21.0, "restart"))
    return found


@pytest.mark.parametrize(
    ("who", "time", "reason"),
    [
        ({}, 20.5, "restart"),
        ({}, 19.0, "none"),
        ({"heard": 22.0 + GRACE}, 30.0, "none"),
        ({"begun": 22.0 + GRACE}, 30.0, "restart"),  # it was at rest until then, and could not notice
        ({"character": "rough"}, 12.0, "way rough"),
        ({"database": "roughdb"}, 12.0, "servers' proxy"),
    ],
)
def test_a_loss_has_a_reason_in_time(who: dict[str, Any], time: float, reason: str) -> None:
    verdict = Verdict()
    verdict._losses([{**WHO, **who, "time": time, "operation": "simple", "code": None, "text": ""}], trouble())
    assert dict(verdict.losses) == {reason: 1}
    assert bool(verdict.wrong) == (reason == "none")


def test_a_connection_was_in_order_until_what_last_came_to_a_right_end() -> None:
    nothing: Any = None
    me = Self(1, "psycopg", "clean", "mixdb", 1, {}, "", "", Journal(), nothing)
    me.begins("connect")
    begun = me.heard
    assert begun == me.since > 0
    me.did()
    me.begins("simple")
    assert begun < me.heard < me.since
    assert me.journal.done == {"psycopg connect": 1}


def test_workers_are_the_children_of_the_nursery(tmp_path: Path) -> None:
    pooler = Pooler(["sh"], tmp_path, 2, {})
    script = "sh -c 'echo $$; sleep 600 & echo $!; sleep 600 & echo $!; wait' & wait"
    with subprocess.Popen(["sh", "-c", script, str(pooler.config_path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        nursery, *workers = (int(process.stdout.readline()) for _ in range(3))
        try:
            pooler.pid = process.pid
            assert sorted(pooler.worker_processes()) == sorted(workers)
            assert pooler.processes() == [process.pid]
        finally:
            for pid in (process.pid, nursery, *workers):
                os.kill(pid, signal.SIGKILL)
    assert pooler.processes() == []


def looks(*kib: int, others: int = 11) -> list[Quiet]:
    return [Quiet(float(i), False, 0, size, others + 15, 10, 5) for i, size in enumerate(kib)]


def test_memory_may_warm_up_and_must_not_grow() -> None:
    verdict = Verdict(quiet=looks(100, 150, 200, 201, 199, 204))
    verdict._growth()
    assert verdict.wrong == []
    verdict.quiet = looks(100, 150, 200, 201, 214, 215)
    verdict._growth()
    assert len(verdict.wrong) == 1 and "memory has grown from 200 to 214 KiB" in verdict.wrong[0]


def test_descriptors_must_not_become_more() -> None:
    same = (100, 100)
    verdict = Verdict(quiet=[*looks(*same), *looks(100, others=17), *looks(*same), *looks(100, others=13)])
    verdict._growth()
    assert verdict.wrong == []
    verdict.quiet = [*looks(*same), *looks(*same, others=12), *looks(*same, others=14)]
    verdict._growth()
    assert verdict.wrong == ["descriptors besides connections: [11, 11, 12, 12, 14, 14]"]


def test_the_gate_holds_all_until_it_opens() -> None:
    gate = Gate(2)
    gate.closed = True
    assert gate.rests("first") and not gate.all_rest
    assert gate.rests("second") and gate.all_rest
    gate.closed = False
    assert not gate.rests("first") and gate.lets_by("second")
    gate.closed = gate.over = True
    assert not gate.rests("first") and not gate.lets_by("second")
