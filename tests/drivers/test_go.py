"""Go's drivers: pgx with its pool, lib/pq through database/sql."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from driver_programs import Program

pytestmark = [pytest.mark.toolchain, pytest.mark.timeout(1200)]


def program(driver: str, name: str) -> Program:
    return Program(
        driver=driver,
        language="Go",
        folder="go",
        build=[["go", "build", "-buildvcs=false", "-o", f"bin/{name}", f"./{name}"]],
        run=[f"bin/{name}"],
        needs=["go"],
        environment={"GOTOOLCHAIN": "local"},
    )


def test_pgx(prove: Callable[[Program], None]) -> None:
    prove(program("pgx", "pgx"))


def test_lib_pq(prove: Callable[[Program], None]) -> None:
    prove(program("lib/pq", "pq"))
