"""Parts of one traffic, each in a process of its own, joined: all tables and pages tell what one process would."""

from __future__ import annotations

import random
from typing import Any

import gevent
import pytest
from together.company import KEYS, Company, Worker, people, share_hosts, share_lookups, work

from pgdoorman_lib.admin import sockets
from pgdoorman_lib.admin.dialects import PGBOUNCER, PGDOORMAN
from pgdoorman_lib.admin.features import interner_top
from pgdoorman_lib.admin.tables import Dialect, Row, Show
from pgdoorman_lib.client.rejections import REASONS
from pgdoorman_lib.metrics.prometheus import Exposition
from pgdoorman_lib.together import kinds
from pgdoorman_lib.together.packed import NotAsked

#: Of processes, and of what each of them holds for itself: see the tests below.
OF_PROCESSES = {"WORKERS", "MEM"}


def split(count: int, seed: int = 1) -> tuple[Worker, list[Worker]]:
    """A pooler with some traffic behind it, and the same in ``count`` parts."""
    rng = random.Random(seed)
    whole, parts = Worker(), [Worker() for _ in range(count)]
    work(parts, whole, rng)
    for pooler in (whole, *parts):
        pooler.clock += 15
        pooler.averages.tick()
    work(parts, whole, rng)
    people(parts, whole, rng)
    share_lookups(parts, whole)
    share_hosts(parts, whole)
    for part in parts[1:]:
        (peer,) = part.peers
        parts[0].peers[0].waiting += 1
        whole.peers[0].waiting += 2
        peer.waiting, peer.connecting, peer.active = 1, 0, 0
    return whole, parts


def cells(rows: list[Row]) -> list[tuple[str, ...]]:
    return sorted(tuple(map(str, row)) for row in rows)


def without_workers(table: Show, pooler: Any, rows: list[Row]) -> list[Row]:
    behind = len(table.described(pooler)) - len(table.columns)
    return [row[: len(row) - behind] for row in rows]


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("dialect", [PGDOORMAN, PGBOUNCER], ids=["pgdoorman", "pgbouncer"])
@pytest.mark.parametrize("name", sorted(set(PGDOORMAN.shows) - OF_PROCESSES))
def test_every_table(name: str, dialect: Dialect, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: 1e9)
    whole, parts = split(count)
    table = dialect.shows[name]
    joined = Company(*parts).wholes[1].everyone(table.parts)
    assert joined.missing == {}
    found = without_workers(table, joined, table.rows(joined))
    assert cells(found) == cells(table.rows(whole))


@pytest.mark.parametrize("seed", range(5))
def test_percentiles_of_the_page_for_prometheus(seed: int) -> None:
    whole, parts = split(3, seed)
    company = Company(*parts)

    def page(pooler: Any) -> list[str]:
        pieces = Exposition(pooler, lambda one: {"tcp_listen": len(one.sockets()["tcp_listen"])}, REASONS).page().pieces
        lines = b"".join(pieces).decode().splitlines()
        return [line for line in lines if "workers" not in line and "total_memory" not in line]

    expected = sorted(page(whole))
    assert sorted(page(company.wholes[1])) == expected
    level = [line for line in expected if "log_level{" in line]
    assert [line for line in sorted(page(company.exported)) if "log_level{" not in line] == [
        line for line in expected if line not in level
    ]


@pytest.mark.parametrize("dialect", [PGDOORMAN, PGBOUNCER], ids=["pgdoorman", "pgbouncer"])
def test_each_table_asks_for_no_more_than_it_looks_at(dialect: Dialect, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without one of its parts it can't be made, or tells something else."""
    monkeypatch.setattr("time.time", lambda: 1e9)
    whole, parts = split(2)
    company = Company(*parts)
    for name, table in dialect.shows.items():
        for part in table.parts:
            rest = [other for other in table.parts if other != part]
            joined = company.wholes[1].everyone((*rest, kinds.MEMORY if part != kinds.MEMORY else kinds.SOCKETS))
            try:
                found = cells(without_workers(table, joined, table.rows(joined)))
            except NotAsked:
                continue
            assert found != cells(table.rows(whole)), (name, part)


def test_shared_statements_are_one() -> None:
    parts = [Worker(), Worker()]
    for worker, texts in zip(parts, ((b"select 1", b"select 2"), (b"select 2", b"select 3")), strict=True):
        for text in texts:
            statement = worker.pools[0].registry.get(text + b"\0\0\0", None, None, 100.0)
            statement.hold()
    whole = Company(*parts).wholes[2]
    table = PGDOORMAN.shows["PREPARED_STATEMENTS"]
    rows = table.rows(whole.everyone(table.parts))
    assert sorted((row[3], row[4]) for row in rows) == [("select 1", 1), ("select 2", 2), ("select 3", 1)]
    top = interner_top(2)
    assert len(top.rows(whole.everyone(top.parts))) == 2
    interner = PGDOORMAN.shows["INTERNER"]
    entries = interner.rows(whole.everyone(interner.parts))[0][1]
    assert entries == 4  # each process holds its own


def test_what_processes_hold_is_added_up() -> None:
    company = Company(Worker(), Worker())
    table = PGDOORMAN.shows["MEM"]
    assert table.rows(company.wholes[1].everyone(table.parts)) == [("buffers", 16384, 6, 10, 262144)]
    company.workers[1].inodes = {"tcp_listen": [1, 2], "tcp_established": [3]}
    company.workers[2].inodes = {"tcp_listen": [1, 2], "tcp_established": [4, 5]}
    table = PGDOORMAN.shows["SOCKETS"]
    (row,) = table.rows(company.wholes[1].everyone(table.parts))
    counted = dict(zip(sockets.NAMES, row, strict=True))
    assert (counted["tcp_listen"], counted["tcp_established"]) == (2, 3)


def test_workers_and_whose_each_client_and_server_is() -> None:
    whole, parts = split(2)
    company = Company(*parts)
    company.silent.add(2)
    table = PGDOORMAN.shows["WORKERS"]
    first, second = table.rows(company.wholes[1].everyone(table.parts))
    assert first[:4] == (1, first[1], "serving", len(parts[0].clients))
    assert second[0] == 2 and str(second[2]).startswith("missing: worker 2: no answer") and second[3] is None
    company.silent.clear()
    for name, people_of in (("CLIENTS", lambda worker: [*worker.clients, *worker.consoles]), ("SERVERS", servers_of)):
        table = PGDOORMAN.shows[name]
        joined = company.wholes[1].everyone(table.parts)
        assert [column.name for column in table.described(joined)][-1] == "worker"
        for number, worker in company.workers.items():
            named = {f"#{name[0].lower()}{one.id}" for one in people_of(worker)}
            assert {row[0] for row in table.rows(joined) if row[-1] == number} == named
        assert table.described(whole) == table.columns


def servers_of(worker: Worker) -> list[Any]:
    return [server for pool in worker.pools for server in pool.servers]


def test_clients_are_not_packed_to_be_counted() -> None:
    _, parts = split(1)
    company = Company(*parts)
    table = PGDOORMAN.shows["POOLS"]
    table.rows(company.wholes[1].everyone(table.parts))
    few = sum(company.sizes)
    company.sizes.clear()
    parts[0].clients *= 100
    joined = company.wholes[1].everyone(table.parts)
    assert sum(company.sizes) < few * 1.1
    count = sum(int(row[3]) + int(row[4]) + int(row[5]) for row in table.rows(joined))
    assert count == len(parts[0].clients)


def test_many_come_in_portions_while_others_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pgdoorman_lib.together.telling.ANSWER_BYTES", 1 << 14)
    monkeypatch.setattr("pgdoorman_lib.together.whole.WHOLE_SECONDS", 60.0)
    _, parts = split(2)
    for part in parts:
        part.clients *= 50
    company = Company(*parts)
    turns = 0

    def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            gevent.sleep(0)

    greenlet = gevent.spawn(others)
    table = PGBOUNCER.shows["CLIENTS"]
    joined = company.wholes[1].everyone(table.parts)
    greenlet.kill()
    assert joined.missing == {}
    assert len(list(joined.clients)) == sum(len(part.clients) for part in parts)
    assert max(company.sizes) < 5 << 14
    assert len([kind for kind, _ in company.asked if kind == kinds.MORE]) > 10
    assert turns > 50


def test_the_page_says_how_many_workers_there_are() -> None:
    company = Company(Worker(), Worker(), Worker())
    company.silent.add(3)
    page = b"".join(Exposition(company.exported, lambda _: {}, REASONS).page().pieces)
    assert b'workers{state="serving"} 2\n' in page and b'workers{state="missing"} 1\n' in page


def test_pools_that_only_some_processes_have() -> None:
    first, second = Worker(), Worker()
    del first.pools[0], second.pools[2]
    joined = Company(first, second).wholes[1].everyone((kinds.POOLS, kinds.STATS))
    assert sorted((pool.settings.database, pool.settings.user) for pool in joined.pools) == sorted(KEYS)


def test_a_pool_is_paused_when_it_is_everywhere() -> None:
    first, second = Worker(), Worker()
    first.pools[0].paused = second.pools[0].paused = first.pools[1].paused = True
    joined = Company(first, second).wholes[1].everyone((kinds.POOLS,))
    paused = {(pool.settings.database, pool.settings.user) for pool in joined.pools if pool.paused}
    assert paused == {KEYS[0]}
