"""What a statsd server gets: lines of a form that all of them read, and each count once."""

from __future__ import annotations

import logging
import re
import socket
from collections import Counter
from collections.abc import Iterator

import gevent
import pytest
from eventually import eventually
from metrics.fakes import FakePool, FakePooler, FakeSettings
from statsd_receiver import Receiver

from pgdoorman_lib.config.metrics import TAG_STYLES, Statsd
from pgdoorman_lib.metrics import statsd
from pgdoorman_lib.metrics.statsd import MAX_PACKET, StatsdExporter


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


@pytest.fixture
def exporters() -> Iterator[list[StatsdExporter]]:
    made: list[StatsdExporter] = []
    yield made
    for exporter in made:
        exporter._drop_client()


@pytest.fixture
def pooler() -> FakePooler:
    return FakePooler()


@pytest.fixture
def exporter(pooler: FakePooler, receiver: Receiver, exporters: list[StatsdExporter]) -> StatsdExporter:
    exporters.append(StatsdExporter(pooler, settings(receiver)))
    return exporters[0]


def settings(receiver: Receiver, **more: object) -> Statsd:
    return Statsd(host="127.0.0.1", port=receiver.port, **more)  # type: ignore[arg-type]


def work(pool: FakePool, count: int = 1) -> None:
    stats = pool.stats
    for _ in range(count):
        stats.xact_count += 1
        stats.query_count += 2
        stats.received += 30
        stats.sent += 400
        stats.query_hist.add(2000)
        stats.query_hist.add(3000)
        stats.xact_hist.add(5000)
        stats.wait_hist.add(100)
        stats.wait_count += 1
        stats.count_error("42601")
    stats.client_login_count += 1


def test_one_round(pooler: FakePooler, receiver: Receiver, exporter: StatsdExporter) -> None:
    work(pooler.pools[0], 3)
    pooler.connections.total += 5
    pooler.connections.reject("hba")
    exporter.send()
    values = receiver.values()
    pool = "pgdoorman.pools.exampledb.doorman."
    assert {name[len(pool) :]: value for name, value in values.items() if name.startswith(pool)} == {
        "clients.idle": "1|g",
        "clients.active": "2|g",
        "clients.waiting": "0|g",
        "servers.idle": "4|g",
        "servers.active": "2|g",
        "servers.opening": "1|g",
        "pool_size": "10|g",
        "maxwait_ms": "2250|g",
        "transactions": "3|c",
        "queries": "6|c",
        "bytes.received": "90|c",
        "bytes.sent": "1200|c",
        "logins": "1|c",
        "waits": "3|c",
        "errors.42601": "3|c",
        "query.p50": "1.999000|ms",
        "query.p95": "2.975000|ms",
        "query.p99": "2.975000|ms",
        "transaction.p50": "5.055000|ms",
        "transaction.p95": "5.055000|ms",
        "transaction.p99": "5.055000|ms",
        "wait.p50": "0.100000|ms",
        "wait.p95": "0.100000|ms",
        "wait.p99": "0.100000|ms",
    }
    assert values["pgdoorman.connections.total"] == "5|c"
    assert values["pgdoorman.rejected.hba"] == "1|c"
    assert re.fullmatch(r"[1-9]\d+\|g", values["pgdoorman.memory_bytes"])


def test_counters_are_what_came_since(pooler: FakePooler, receiver: Receiver, exporter: StatsdExporter) -> None:
    work(pooler.pools[0], 3)
    exporter.send()
    receiver.packets()
    exporter.send()
    assert not [line for line in receiver.lines() if line.endswith(("|c", "|ms"))]
    work(pooler.pools[0])
    exporter.send()
    values = receiver.values()
    assert values["pgdoorman.pools.exampledb.doorman.queries"] == "2|c"
    assert values["pgdoorman.pools.exampledb.doorman.errors.42601"] == "1|c"


LINE = {
    "none": r"[\w.-]+:\d+(\.\d+)?\|(g|c|ms)",
    "datadog": r"[\w.-]+:\d+(\.\d+)?\|(g|c|ms)(\|#\w+:[\w-]+(,\w+:[\w-]+)*)?",
    "influx": r"[\w.-]+(,\w+=[\w-]+)*:\d+(\.\d+)?\|(g|c|ms)",
    "graphite": r"[\w.-]+(;\w+=[\w-]+)*:\d+(\.\d+)?\|(g|c|ms)",
}


@pytest.mark.parametrize("style", TAG_STYLES)
@pytest.mark.parametrize("name", ["plain", "my.db", "a:1|c", "né\n", "x,y=z;w#"])
def test_every_line_is_well_formed(
    pooler: FakePooler, receiver: Receiver, exporters: list[StatsdExporter], style: str, name: str
) -> None:
    exporter = StatsdExporter(pooler, settings(receiver, tag_style=style, prefix="a.b"))
    exporters.append(exporter)
    pooler.pools = [FakePool(FakeSettings(name, name))]
    work(pooler.pools[0])
    exporter.send()
    lines = receiver.lines()
    assert len(lines) > 20
    assert [line for line in lines if re.fullmatch(LINE[style], line, re.ASCII) is None] == []
    assert all(line.startswith("a.b.") for line in lines)
    tagged = [line for line in lines if ".pools." in line]
    assert style == "none" or all("database" in line and "user" in line for line in tagged)


def test_packets_fit_and_nothing_is_left_out(pooler: FakePooler, receiver: Receiver, exporter: StatsdExporter) -> None:
    pooler.pools = [FakePool(FakeSettings(f"database{number}", "u" * 63)) for number in range(30)]
    for pool in pooler.pools:
        work(pool)
    exporter.send()
    packets = receiver.packets()
    assert max(map(len, packets)) <= MAX_PACKET
    assert len(packets) < 30 * 24 / 8, "packets are filled"
    names = Counter(line.split(":")[0] for packet in packets for line in packet.split("\n"))
    assert set(names.values()) == {1}
    assert sum(name.endswith(".queries") for name in names) == 30


@pytest.mark.parametrize("others", [0, 20])
def test_nothing_is_lost_while_the_receiver_is_away(
    pooler: FakePooler, receiver: Receiver, exporter: StatsdExporter, caplog: pytest.LogCaptureFixture, others: int
) -> None:
    """Neither what was sent to a closed port nor what was counted meanwhile; and nothing comes twice.

    With many other pools a round has many packets, and is given up where the first fails.
    """
    pooler.pools += [FakePool(FakeSettings(f"x{number}", "u" * 60)) for number in range(others)]
    caplog.set_level(logging.INFO, statsd.__name__)
    total = 0

    def taken() -> int:
        return sum(
            int(line.split(":")[1].split("|")[0])
            for line in receiver.lines()
            if line.startswith("pgdoorman.pools.exampledb.doorman.queries:")
        )

    for away in (False, True, True, True, False, False, True, False, False):
        for pool in pooler.pools:
            work(pool, 5)
        if away:
            receiver.close()
            exporter.send()
            receiver.open()
        else:
            exporter.send()
            total += taken()
    exporter.send()
    total += taken()
    assert total == pooler.pools[0].stats.query_count
    said = [record.message for record in caplog.records]
    assert [("can't send" in text, "again" in text) for text in said] == [(True, False), (False, True)] * 2


def test_counts_of_a_replaced_pool_are_not_lost(
    pooler: FakePooler, receiver: Receiver, exporter: StatsdExporter
) -> None:
    old = pooler.pools[0]
    work(old)
    exporter.send()
    work(old, 2)
    pooler.pools = [FakePool()]
    work(pooler.pools[0], 4)
    receiver.packets()
    exporter.send()
    queries = [line for line in receiver.lines() if ".queries:" in line]
    assert sorted(queries) == [f"pgdoorman.pools.exampledb.doorman.queries:{n}|c" for n in (4, 8)]
    exporter.send()
    exporter.send()
    assert len(exporter._pools) == 1


def test_a_name_that_is_not_found_is_tried_again(
    pooler: FakePooler, receiver: Receiver, exporters: list[StatsdExporter], monkeypatch: pytest.MonkeyPatch
) -> None:
    exporter = StatsdExporter(pooler, Statsd(host="statsd.example", port=receiver.port))
    exporters.append(exporter)
    work(pooler.pools[0])
    known = socket.getaddrinfo
    down = True

    def resolve(host: str, *arguments: object) -> object:
        if down:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return known("127.0.0.1", *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    exporter.send()
    exporter.send()
    down = False
    exporter.send()
    assert receiver.values()["pgdoorman.pools.exampledb.doorman.transactions"] == "1|c"
    # Found once, it is kept when the name is not found later.
    down = True
    exporter._resolve_at = 0.0
    work(pooler.pools[0])
    exporter.send()
    assert receiver.values()["pgdoorman.pools.exampledb.doorman.transactions"] == "1|c"


def test_ipv6(pooler: FakePooler, exporters: list[StatsdExporter]) -> None:
    try:
        receiver = Receiver(socket.AF_INET6)
    except OSError:
        pytest.skip("no IPv6 here")
    exporters.append(StatsdExporter(pooler, Statsd(host="::1", port=receiver.port)))
    exporters[0].send()
    assert receiver.lines()
    receiver.close()


def test_from_start_to_stop(pooler: FakePooler, receiver: Receiver) -> None:
    """What was counted before is not told, and the last counts are."""
    work(pooler.pools[0], 100)
    exporter = StatsdExporter(pooler, settings(receiver, interval=0.01))
    exporter.start()
    exporter.start()
    work(pooler.pools[0])
    taken = 0

    def queries() -> int:
        nonlocal taken
        gevent.sleep(0.01)
        taken += sum(int(line.split(":")[1][:-2]) for line in receiver.lines() if ".queries:" in line)
        return taken

    eventually(queries, message="a round with queries")
    work(pooler.pools[0], 2)
    exporter.stop()
    exporter.stop()
    assert queries() == 6


def test_a_short_life_is_told_of(pooler: FakePooler, receiver: Receiver) -> None:
    """The last round comes although none was due."""
    exporter = StatsdExporter(pooler, settings(receiver, interval=3600.0))
    exporter.start()
    gevent.sleep(0)
    work(pooler.pools[0])
    exporter.stop()
    assert receiver.values()["pgdoorman.pools.exampledb.doorman.queries"] == "2|c"


def test_other_settings(pooler: FakePooler, receiver: Receiver) -> None:
    exporter = StatsdExporter(pooler, Statsd())
    exporter.start()
    exporter.use(settings(receiver, interval=0.01, prefix="other"))

    def lines() -> list[str]:
        gevent.sleep(0.01)
        return receiver.lines()

    found = eventually(lines, message="lines")
    assert found is not None and all(line.startswith("other.") for line in found)
    exporter.use(Statsd())
    receiver.packets()
    gevent.sleep(0.03)
    assert receiver.packets() == []
