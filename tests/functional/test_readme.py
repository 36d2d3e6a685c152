"""What README tells to paste runs as it stands there."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import toml
from fix_doorman import Doorman, MakeDoorman
from fix_postgres import Postgres
from pace import patience
from ports import free_port

README = (Path(__file__).resolve().parents[2] / "README.md").read_text()
#: What the text around the file asks PostgreSQL to have.
DATABASE, USER, PASSWORD = "exampledb", "doorman", "password"


@pytest.fixture
def as_described(postgres: Postgres) -> Iterator[None]:
    """The database and the role."""
    postgres.sql(f"CREATE ROLE {USER} LOGIN PASSWORD '{PASSWORD}'")
    postgres.sql(f"CREATE DATABASE {DATABASE} OWNER {USER}")
    yield
    postgres.sql(f"DROP DATABASE {DATABASE}")
    postgres.sql(f"DROP ROLE {USER}")


def the_least_that_works() -> str:
    (text,) = re.findall(r"```toml\n(.*?)```", README, re.DOTALL)
    assert isinstance(text, str)
    return text


def test_the_least_that_works_passes_the_test(tmp_path: Path) -> None:
    path = tmp_path / "pg_doorman.toml"
    path.write_text(the_least_that_works())
    path.chmod(0o600)
    done = subprocess.run(
        [*Doorman.command(), "-t"],
        cwd=tmp_path,
        env=Doorman.environment(),
        capture_output=True,
        text=True,
        timeout=patience(20),
    )
    assert done.returncode == 0, done.stderr
    warnings = [line for line in done.stderr.splitlines() if "running as root" not in line]
    assert warnings == []


def test_the_least_that_works_runs(make_doorman: MakeDoorman, postgres: Postgres, as_described: None) -> None:
    """Only the ports are others, and where PostgreSQL is."""
    config = toml.loads(the_least_that_works())
    config["general"]["port"] = free_port()
    config["pools"][DATABASE].update(server_host=postgres.host, server_port=postgres.port)
    doorman = make_doorman(config=config)
    try:
        with doorman.connect(dbname=DATABASE, user=USER, password=PASSWORD) as connection:
            assert connection.execute("SELECT current_user, current_database()").fetchone() == (USER, DATABASE)
        general = config["general"]
        admin, password = general["admin_username"], general["admin_password"]
        with doorman.connect(dbname="pgdoorman", user=admin, password=password) as console:
            assert console.execute("SHOW POOLS").fetchall()
    finally:
        doorman.stop()
