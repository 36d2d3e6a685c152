"""PHP: PDO's PostgreSQL driver, over libpq."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable

import driver_programs
import pytest

pytestmark = [pytest.mark.toolchain, pytest.mark.timeout(1200)]

PDO = driver_programs.Program(
    driver="PDO_pgsql",
    language="PHP",
    folder="php_pdo",
    needs=("php",),
    run=("php", "-d", "display_errors=stderr", "pdo.php"),
)


def test_pdo(prove: Callable[[driver_programs.Program], None]) -> None:
    if shutil.which("php"):
        modules = subprocess.run(["php", "-m"], capture_output=True, text=True).stdout.split()
        missing = [module for module in ("pdo_pgsql", "pcntl", "posix") if module not in modules]
        if missing:
            why = f"php has no {', '.join(missing)}"
            driver_programs.left_out[PDO.language, PDO.driver] = why
            pytest.skip(why)
    prove(PDO)
