"""Node.js: node-postgres with its cursors and streams, postgres.js, and what Prisma's engine does."""

from __future__ import annotations

from collections.abc import Callable

import driver_programs
import pytest

pytestmark = [pytest.mark.toolchain, pytest.mark.timeout(1200)]


def program(driver: str, script: str) -> driver_programs.Program:
    return driver_programs.Program(
        driver=driver,
        language="Node.js",
        folder="node",
        needs=("node", "npm"),
        build=(("npm", "install", "--no-package-lock", "--no-audit", "--no-fund", "--loglevel=error"),),
        run=("node", "--no-deprecation", script),
    )


def test_node_postgres(prove: Callable[[driver_programs.Program], None]) -> None:
    prove(program("node-postgres", "pg.js"))


def test_postgres_js(prove: Callable[[driver_programs.Program], None]) -> None:
    prove(program("postgres.js", "postgres.js"))


def test_prisma(prove: Callable[[driver_programs.Program], None]) -> None:
    prove(program("Prisma's protocol", "prisma.js"))
