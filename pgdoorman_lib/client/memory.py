"""What clients' messages and statements take of the pooler's memory (max_memory_usage), in all worker processes."""

from __future__ import annotations

from typing import Any

from pgdoorman_lib.net.engine import Engine
from pgdoorman_lib.pool.row import Row
from pgdoorman_lib.wire.statements import REMEMBERED

_int = int


def taken(engine: Engine) -> _int:
    """Bytes of messages that are being read, and of statements that clients hold."""
    row: Any = engine.memory
    return engine.grown + REMEMBERED.bytes if row is None else row.total()


def share(engine: Engine, row: Row) -> None:
    """Count them in ``row`` from now on, with those of the other worker processes."""
    row.count(engine.grown + REMEMBERED.bytes)
    engine.memory = REMEMBERED.row = row
