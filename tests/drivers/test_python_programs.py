"""Programs in Python, one a driver: every feature by eight connections at once, directly and through two servers."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest
from driver_programs import Program


def python(driver: str, script: str, *modules: str) -> Program:
    return Program(driver, "Python", "python", run=(sys.executable, "-W", "error", script), modules=modules)


PROGRAMS = [
    python("psycopg", "with_psycopg.py", "psycopg", "psycopg_pool"),
    python("psycopg async", "with_psycopg_async.py", "psycopg", "psycopg_pool"),
    python("psycopg2", "with_psycopg2.py", "psycopg2"),
    python("asyncpg", "with_asyncpg.py", "asyncpg"),
    python("pg8000", "with_pg8000.py", "pg8000"),
    python("SQLAlchemy psycopg", "with_sqlalchemy.py", "sqlalchemy", "psycopg"),
    python("SQLAlchemy asyncpg", "with_sqlalchemy_async.py", "sqlalchemy", "asyncpg"),
    python("Alembic", "with_alembic.py", "alembic", "sqlalchemy", "psycopg"),
    python("Django", "with_django.py", "django", "psycopg", "psycopg_pool"),
]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.driver.replace(" ", "-"))
def test_program(program: Program, prove: Callable[[Program], None]) -> None:
    prove(program)
