"""Rust's drivers: tokio-postgres, and sqlx with its pool, listener, locks and migrations."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from driver_programs import Program, rust

pytestmark = [pytest.mark.toolchain, pytest.mark.timeout(1200)]


def test_tokio_postgres(prove: Callable[[Program], None]) -> None:
    prove(rust("tokio-postgres", "tokio-postgres"))


def test_sqlx(prove: Callable[[Program], None]) -> None:
    prove(rust("sqlx", "sqlx"))
