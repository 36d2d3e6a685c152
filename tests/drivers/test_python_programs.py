"""Programs in Python, one a driver: every feature by eight connections at once, directly and through two servers."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest
from driver_programs import Program


def python(driver: str, script: str, *modules: str) -> Program:
    return Program(driver, "Python", "python", run=(sys.executable, script), modules=modules)


PROGRAMS = [
    python("psycopg", "with_psycopg.py", "psycopg", "psycopg_pool"),
]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.driver)
def test_program(program: Program, prove: Callable[[Program], None]) -> None:
    prove(program)
