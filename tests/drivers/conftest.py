"""Drivers run through one pool of few servers, in transaction mode and in session mode."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from fix_postgres import Postgres


@pytest.fixture(scope="module")
def doorman_over(postgres: Postgres) -> Mapping[str, Any]:
    """``few``: three servers for everybody, so that statements and sessions move; ``own``: one each."""
    user = {
        "username": "app",
        "password": postgres.secret("app"),
        "server_username": "app",
        "server_password": postgres.password("app"),
    }
    here = {"server_host": postgres.host, "server_port": postgres.port, "server_database": "testdb"}
    return {
        "pools": {
            "few": {**here, "pool_mode": "transaction", "users": [{**user, "pool_size": 3}]},
            "own": {**here, "pool_mode": "session", "users": [{**user, "pool_size": 12}]},
        }
    }


@pytest.fixture(params=["few", "own"], ids=["transaction", "session"])
def database(request: pytest.FixtureRequest) -> str:
    """The database to connect to, once for each pool mode."""
    return str(request.param)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "/drivers/" in item.path.as_posix():
            item.add_marker("drivers")
