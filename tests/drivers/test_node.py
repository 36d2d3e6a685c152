"""Node.js: node-postgres with its cursors and streams, postgres.js, and what Prisma's engine does."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from driver_programs import Program, node

pytestmark = [pytest.mark.toolchain, pytest.mark.timeout(1200)]


def test_node_postgres(prove: Callable[[Program], None]) -> None:
    prove(node("node-postgres", "pg.js"))


def test_postgres_js(prove: Callable[[Program], None]) -> None:
    prove(node("postgres.js", "postgres.js"))


def test_prisma(prove: Callable[[Program], None]) -> None:
    prove(node("Prisma's protocol", "prisma.js"))
