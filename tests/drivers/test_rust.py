"""Rust's drivers: tokio-postgres, and sqlx with its pool, listener, locks and migrations."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from driver_programs import Program

pytestmark = [pytest.mark.toolchain, pytest.mark.timeout(1200)]


def program(driver: str) -> Program:
    package = f"program-{driver}"
    return Program(
        driver=driver,
        language="Rust",
        folder="rust",
        build=[["cargo", "build", "--quiet", "--package", package]],
        run=[f"target/debug/{package}"],
        needs=["cargo"],
    )


def test_tokio_postgres(prove: Callable[[Program], None]) -> None:
    prove(program("tokio-postgres"))


def test_sqlx(prove: Callable[[Program], None]) -> None:
    prove(program("sqlx"))
