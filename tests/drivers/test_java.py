"""Java: pgjdbc, alone and below HikariCP."""

from __future__ import annotations

from collections.abc import Callable

import driver_programs
import pytest

pytestmark = [pytest.mark.toolchain, pytest.mark.timeout(1200)]

PGJDBC = driver_programs.Program(
    driver="pgjdbc",
    language="Java",
    folder="java_pgjdbc",
    needs=("mvn", "javac", "java"),
    build=(
        ("mvn", "-q", "-B", "dependency:copy-dependencies", "-DoutputDirectory=lib"),
        ("javac", "-d", "classes", "-cp", "lib/*", "Feature.java", "PgJdbc.java"),
    ),
    run=("java", "-Xmx512m", "-cp", "classes:lib/*", "PgJdbc"),
)


def test_pgjdbc(prove: Callable[[driver_programs.Program], None]) -> None:
    prove(PGJDBC)
