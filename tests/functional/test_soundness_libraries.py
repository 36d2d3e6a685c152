"""A setting PostgreSQL took before the library it belongs to was there goes on where the library is: dropped, never the client's end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import Any

import pytest
import twins
from eventually import eventually
from fix_doorman import Doorman
from fix_postgres import Postgres
from twins import Twins, rows
from wire_client import WireClient, query

LIBRARY = "SELECT show_limit()"


@pytest.fixture(scope="module")
def doorman_over(postgres: Postgres) -> Mapping[str, Any]:
    twins.populate(postgres)
    if not postgres.rows("SELECT 1 FROM pg_available_extensions WHERE name = 'pg_trgm'"):
        pytest.skip("PostgreSQL here has no pg_trgm")
    for database in (twins.POOLED, twins.DIRECT):
        postgres.sql("CREATE EXTENSION pg_trgm", database=database)
    return {
        "pools": {
            "two": twins.pool(postgres, 2),
            "reset": twins.pool(postgres, 2, session_state="reset"),
        }
    }


class Stage:
    """Two servers, of which one has the library; each is held by a client of its own until it is let go."""

    def __init__(self, both: Twins, stack: ExitStack) -> None:
        both.renew()
        self.with_library, self.without = (stack.enter_context(both.pooled()) for _ in range(2))
        for holder in (self.with_library, self.without):
            holder.ask_query("BEGIN")
        self.with_library.ask_query(LIBRARY)

    def only(self, free: WireClient) -> None:
        """Leave only that client's server free."""
        for holder in (self.with_library, self.without):
            holder.ask_query("BEGIN" if holder is not free else "SELECT 1")
        free.ask_query("COMMIT")


@pytest.fixture(params=["two", "reset"])
def both(request: pytest.FixtureRequest, doorman: Doorman, postgres: Postgres) -> Iterator[Twins]:
    with Twins(doorman, postgres, request.param) as made:
        yield made
        made.renew()


SETTINGS = [
    "SET pg_trgm.similarity_threshold = 7",
    "SET pg_trgm.similarity_threshold = 'a lot'",
    "SET pg_trgm.old_name = 1",
    "SELECT set_config('pg_trgm.old_name', '1', false)",
    "DO $$ BEGIN PERFORM set_config('pg_trgm.' || 'old_name', '1', false); END $$",
    "SET pg_trgm.similarity_threshold = 0.5; SET pg_trgm.old_name = 1; SET app.x = 'kept'; SET work_mem = '9MB'",
]


@pytest.mark.parametrize("text", SETTINGS)
def test_it_lands_where_the_library_is(both: Twins, text: str) -> None:
    with ExitStack() as stack:
        stage = Stage(both, stack)
        a, direct = stack.enter_context(both.pooled()), stack.enter_context(both.direct())
        stage.without.ask_query("COMMIT")
        a.ask_query(text)
        direct.ask_query(text)
        if text.startswith("DO") and both.database == "two":
            eventually(both.pinned)  # by a name that was computed
        else:
            stage.only(stage.with_library)
        a.ask_query(LIBRARY)
        direct.ask_query(LIBRARY)  # as good as coming to a server that has it
        assert a.value("SELECT 1") == "1", "the session goes on"
        if both.database == "two":
            for name in ("pg_trgm.similarity_threshold", "pg_trgm.old_name", "app.x", "work_mem"):
                show = query(f"SELECT coalesce(current_setting('{name}', true), '')")
                assert rows(a.ask(show)) == rows(direct.ask(show)), name
        a.terminate()
        with both.pooled() as b, both.direct() as fresh:
            fresh.ask_query(LIBRARY)
            assert twins.differences(twins.visible(b), twins.visible(fresh)) == {}


@pytest.mark.parametrize(
    "options",
    [
        "-c pg_trgm.old_name=1",
        "-c pg_trgm.similarity_threshold=7",
        "-c pg_trgm.similarity_threshold=0.5",
        "-c pg_trgm.old_name=1 -c work_mem=9MB -c app.x=begin",
    ],
)
@pytest.mark.parametrize("before", ["with library", "without"])
def test_in_a_startup_packet(both: Twins, options: str, before: str) -> None:
    with ExitStack() as stack:
        stage = Stage(both, stack)
        free = stage.with_library if before == "with library" else stage.without
        free.ask_query("COMMIT")
        a, direct = stack.enter_context(both.pooled(options=options)), stack.enter_context(both.direct(options=options))
        for _ in range(2):
            assert a.value("SELECT 1") == "1"
            for show in ("SHOW work_mem", "SELECT coalesce(current_setting('app.x', true), '')"):
                assert a.value(show) == direct.value(show)
            free = stage.with_library if free is stage.without else stage.without
            stage.only(free)
        direct.ask_query(LIBRARY)
        assert a.value(LIBRARY) == direct.value(LIBRARY)
