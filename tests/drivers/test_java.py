"""Java: pgjdbc, alone and below HikariCP."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from driver_programs import Program, java

pytestmark = [pytest.mark.toolchain, pytest.mark.timeout(1200)]


def test_pgjdbc(prove: Callable[[Program], None]) -> None:
    prove(java("pgjdbc", "PgJdbc", "Feature.java", "PgJdbc.java"))
