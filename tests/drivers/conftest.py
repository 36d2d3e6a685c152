"""Drivers run through one pool of few servers, in transaction mode and in session mode."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import driver_programs
import pytest
from fix_doorman import Doorman, app_pool
from fix_postgres import Postgres


@pytest.fixture(scope="module")
def doorman_over(postgres: Postgres) -> Mapping[str, Any]:
    """``few``: three servers for everybody, so that statements and sessions move; ``own``: one each; ``two``: two."""
    return {
        "pools": {
            "few": app_pool(postgres, 3, pool_mode="transaction"),
            "own": app_pool(postgres, 12, pool_mode="session"),
            "two": app_pool(postgres, 2, pool_mode="transaction"),
        }
    }


@pytest.fixture(params=["few", "own"], ids=["transaction", "session"])
def database(request: pytest.FixtureRequest) -> str:
    """The database to connect to, once for each pool mode."""
    return str(request.param)


@pytest.fixture
def prove(postgres: Postgres, doorman: Doorman) -> Callable[[driver_programs.Program], None]:
    """``prove(program)``: its checks pass on PostgreSQL itself, then through a transaction-mode pool of two servers."""
    login = {"PGUSER": "app", "PGPASSWORD": postgres.password("app")}
    direct = {**login, "PGHOST": postgres.host, "PGPORT": str(postgres.port), "PGDATABASE": "testdb"}
    pooled = {**login, "PGHOST": doorman.host, "PGPORT": str(doorman.port), "PGDATABASE": "two"}
    return lambda program: driver_programs.prove(program, direct, pooled)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if "/drivers/" in item.path.as_posix():
            item.add_marker("drivers")
        if item.get_closest_marker("toolchain") and not config.getoption("--toolchains"):
            item.add_marker(
                pytest.mark.skip(reason="another language's toolchain; run by --toolchains (tox -e drivers)")
            )
