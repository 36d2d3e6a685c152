"""Go's drivers: pgx with its pool, lib/pq through database/sql."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from driver_programs import Program, go

pytestmark = [pytest.mark.toolchain, pytest.mark.timeout(1200)]


def test_pgx(prove: Callable[[Program], None]) -> None:
    prove(go("pgx", "pgx"))


def test_lib_pq(prove: Callable[[Program], None]) -> None:
    prove(go("lib/pq", "pq"))
