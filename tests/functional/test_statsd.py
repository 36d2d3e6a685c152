"""statsd of a real process: what clients do arrives, each count once, whatever becomes of the receiver."""

from __future__ import annotations

import re
import signal
from collections import Counter
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from eventually import eventually
from fix_doorman import Doorman, MakeDoorman
from statsd_receiver import Receiver

POOL = "pgdoorman.pools.testdb.app."


class Totals:
    """Counters summed up, gauges and timings as they came last."""

    def __init__(self, receiver: Receiver) -> None:
        self.receiver = receiver
        self.counters: Counter[str] = Counter()
        self.last: dict[str, str] = {}

    def take(self) -> Counter[str]:
        for line in self.receiver.lines():
            name, _, value = line.partition(":")
            number, _, kind = value.partition("|")
            if kind == "c":
                self.counters[name] += int(number)
            else:
                self.last[name] = value
        return self.counters

    def wait(self, name: str, least: int) -> None:
        eventually(lambda: self.take()[name] >= least, message=f"{least} of {name}: {self.counters}")


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


def over(receiver: Receiver, **more: Any) -> dict[str, Any]:
    return {"statsd": {"host": "127.0.0.1", "port": receiver.port, "interval": "50ms", **more}}


def run(doorman: Doorman, count: int) -> None:
    with doorman.connect(prepare_threshold=None) as connection:
        for _ in range(count):
            connection.execute("SELECT 1")


def test_what_clients_do(make_doorman: MakeDoorman, receiver: Receiver) -> None:
    doorman = make_doorman(over(receiver))
    totals = Totals(receiver)
    with doorman.connect(prepare_threshold=None) as connection:
        for _ in range(20):
            connection.execute("SELECT pg_sleep(0.01)")
        totals.wait(POOL + "queries", 20)
        # What runs 10 ms is told to have taken that, and not a second.
        query = float(totals.last[POOL + "query.p50"].split("|")[0])
        assert 9.8 <= query < 1000
        with pytest.raises(psycopg.errors.UndefinedColumn):
            connection.execute("SELECT nonsense")
        totals.wait(POOL + "errors.42703", 1)
        totals.wait(POOL + "queries", 21)
        eventually(lambda: totals.take() and totals.last[POOL + "clients.idle"] == "1|g", message="a client at rest")
    assert totals.counters[POOL + "logins"] == 1
    assert totals.counters[POOL + "transactions"] == 21
    assert totals.counters[POOL + "bytes.received"] > 20 * len("SELECT pg_sleep(0.01)")
    assert totals.counters[POOL + "bytes.sent"] > 20
    assert totals.last[POOL + "pool_size"] == "8|g"
    assert doorman.stop() == 0
    assert totals.take()[POOL + "queries"] == 21


def test_counters_survive_a_restart_of_the_receiver(make_doorman: MakeDoorman, receiver: Receiver) -> None:
    doorman = make_doorman(over(receiver))
    totals = Totals(receiver)
    run(doorman, 10)
    totals.wait(POOL + "queries", 10)
    receiver.close()
    run(doorman, 25)
    doorman.wait_log("statsd: can't send to 127.0.0.1:.*: Connection refused")
    run(doorman, 5)
    receiver.open()
    totals.wait(POOL + "queries", 40)
    doorman.wait_log("statsd: sending to 127.0.0.1:.* again")
    run(doorman, 3)
    totals.wait(POOL + "queries", 43)
    doorman.stop()
    assert totals.take()[POOL + "queries"] == 43
    assert totals.counters[POOL + "logins"] == 4


def test_a_name_that_is_not_found_keeps_nobody_from_starting(make_doorman: MakeDoorman, receiver: Receiver) -> None:
    doorman = make_doorman(over(receiver, host="statsd.invalid"))
    run(doorman, 2)
    doorman.wait_log("statsd: can't send to statsd.invalid:")
    lines = [line for line in doorman.log_lines if "statsd" in line]
    run(doorman, 2)
    assert len(lines) == 1
    # Set right, it begins; what was counted before is history.
    doorman.reload({**doorman.config, **over(receiver)})
    eventually(receiver.lines, message="lines")
    totals = Totals(receiver)
    run(doorman, 2)
    totals.wait(POOL + "queries", 2)
    assert totals.counters[POOL + "queries"] == 2


def test_reload_changes_and_ends_it(make_doorman: MakeDoorman, receiver: Receiver) -> None:
    doorman = make_doorman(over(receiver))
    eventually(receiver.lines, message="lines")
    doorman.reload({**doorman.config, **over(receiver, tag_style="datadog", prefix="x.y")})
    eventually(
        lambda: [
            line for line in receiver.lines() if re.match(r"x\.y\.pools\.pool_size:8\|g\|#database:testdb,", line)
        ],
        message="tagged lines",
    )
    config = dict(doorman.config)
    del config["statsd"]
    doorman.reload(config)
    eventually(lambda: not receiver.packets(), message="nothing comes any more")
    assert doorman.stop(signal.SIGTERM) == 0
    assert receiver.packets() == []
