"""What a function leaves behind where no pool of the database keeps sessions' state: it is taken back all the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import twins
from fix_doorman import Doorman
from fix_postgres import Postgres
from twins import extended, run, visible
from wire_client import query


@pytest.fixture(scope="module")
def doorman_over(postgres: Postgres) -> Mapping[str, Any]:
    twins.populate(
        postgres,
        "CREATE FUNCTION leaves() RETURNS text LANGUAGE plpgsql AS"
        " $$ BEGIN SET work_mem = '9MB'; PERFORM pg_advisory_lock(7); RETURN set_config('app.x', 'v', false); END $$",
    )
    kinds = {"reset": {"session_state": "reset"}, "session": {"pool_mode": "session"}}
    return {"pools": {name: twins.pool(postgres, 1, **more) for name, more in kinds.items()}}


@pytest.mark.parametrize("protocol", ["simple", "extended"])
@pytest.mark.parametrize("kind", ["reset", "session"])
def test_nothing_is_left(doorman: Doorman, postgres: Postgres, kind: str, protocol: str) -> None:
    def login() -> Any:
        return doorman.wire(kind, twins.USER, twins.password_of(twins.USER))

    with login() as client:
        fresh = visible(client)
    with login() as client:
        client.ask(query("SELECT leaves()") if protocol == "simple" else extended(run("SELECT leaves()")))
    with login() as client:
        assert visible(client) == fresh
