"""What messages and statements take is counted over all worker processes."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from pgdoorman_lib.client import memory
from pgdoorman_lib.net.engine import Engine
from pgdoorman_lib.net.engines import choose
from pgdoorman_lib.net.measures import BLOCK_SIZE
from pgdoorman_lib.pool.ledger import Ledger
from pgdoorman_lib.wire.statements import REMEMBERED, Statement


@pytest.fixture
def engine() -> Iterator[Engine]:
    made = choose("gevent")
    yield made
    REMEMBERED.row = None
    made.close()


def test_in_one_process(engine: Engine) -> None:
    before, remembered = memory.taken(engine), REMEMBERED.bytes
    engine.count_grown(5000)
    statement = Statement(b"s", b"SELECT 1\0\0\0")
    statement.hold()
    assert memory.taken(engine) == before + 5000 + REMEMBERED.bytes - remembered > before + 5000
    statement.drop()
    engine.count_grown(-5000)
    assert memory.taken(engine) == before


def test_in_several(engine: Engine) -> None:
    ledger = Ledger.create(2)
    ledgers = [Ledger.join([os.dup(fd) for fd in ledger.descriptors()], number) for number in (1, 2)]
    mine, other = (each.row("memory") for each in ledgers)
    engine.count_grown(100)
    memory.share(engine, mine)
    other.count(10_000)
    before = memory.taken(engine)
    assert before == other.total() == 10_100 + REMEMBERED.bytes
    statement = Statement(b"s", b"SELECT 1\0\0\0")
    statement.hold()
    assert other.total() == memory.taken(engine) > before
    statement.drop()
    block = bytearray(2 * BLOCK_SIZE)
    engine.count_grown(len(block))
    assert other.total() == before + len(block)
    engine.give_block(block)
    assert other.total() == before
    other.leave()
    assert memory.taken(engine) == 100 + REMEMBERED.bytes
    for each in (ledger, *ledgers):
        each.close()
