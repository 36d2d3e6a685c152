"""forget_option_names: a customized option that a client never has set is NULL to it, as in a session of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import twins
from fix_doorman import Doorman, MakeDoorman, merged
from fix_postgres import Postgres
from twins import Twins, ascii_only, ask, extended, rows, run, said
from wire_client import query

NAMES = ("app.x", "app.y", "app.schlüssel")
READ = f"SELECT current_setting(n, true) FROM unnest(ARRAY[{', '.join(map(ascii_only, NAMES))}]) AS n"

FUNCTIONS = """
    CREATE FUNCTION set_x() RETURNS text LANGUAGE sql AS $$ SELECT set_config('app.x', 'by a function', false) $$;
    CREATE FUNCTION set_locally() RETURNS text LANGUAGE plpgsql AS
        $$ BEGIN PERFORM set_config('app.x', 'locally', true); RETURN ''; END $$;
    CREATE FUNCTION of_its_own() RETURNS int LANGUAGE sql SET app.x = 'its own' AS $$ SELECT 1 $$;
    CREATE FUNCTION dynamic(text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN EXECUTE $1; END $$;
    CREATE TABLE guarded (a int);
    CREATE VIEW viewed AS SELECT set_config('app.x', 'by a view', true) AS x;
    GRANT ALL ON ALL TABLES IN SCHEMA public TO PUBLIC;
"""

WAYS: Mapping[str, list[str | bytes]] = {
    "SET": ["SET app.x = 'a'"],
    "SET, RESET": ["SET app.x = 'a'", "RESET app.x"],
    "SET, RESET ALL": ["SET app.x = 'a'", "RESET ALL"],
    "SET, DISCARD ALL": ["SET app.x = 'a'", "DISCARD ALL"],
    "SET LOCAL": ["BEGIN; SET LOCAL app.x = 'a'", "COMMIT"],
    "rolled back": ["BEGIN", "SET app.y = 'a'", "ROLLBACK"],
    "set_config": ["SELECT set_config('app.schlüssel', 'a', false)"],
    "set_config, locally": ["SELECT set_config('app.schlüssel', 'a', true)"],
    "bound": [extended(run("SELECT set_config($1, $2, false)", b"app.y", b"a"))],
    "bound, locally": [extended(run("SELECT set_config($1, $2, true)", b"app.y", b"a"))],
    "DO": ["DO $$ BEGIN PERFORM set_config('app.x', 'a', true); END $$"],
    "DO with a name made up": ["DO $$ BEGIN EXECUTE format('SET %s = 1', 'app.x'); END $$"],
    "function": ["SELECT set_x()"],
    "function, locally": ["SELECT set_locally()"],
    "function with a value of its own": ["SELECT of_its_own()"],
    "dynamic SQL": ["SELECT dynamic('SET app.x = 1')"],
    "view": ["SELECT * FROM viewed"],
    "streamed": ["SELECT set_config('app.x', 'a', true), '" + "x" * 100_000 + "'"],
}
#: Nobody knows the name, so the client may keep its server until it leaves.
PINNED = ("DO with a name made up", "dynamic SQL", "streamed")


@pytest.fixture(scope="module")
def doorman_over(postgres: Postgres) -> Mapping[str, Any]:
    twins.populate(postgres, FUNCTIONS)
    forget = {"forget_option_names": True}
    return {
        "pools": {
            "one": twins.pool(postgres, 1, **forget),
            "reset": twins.pool(postgres, 1, session_state="reset", **forget),
            "two": twins.pool(postgres, 2, **forget),
        }
    }


@pytest.fixture(params=["one", "reset"])
def both(request: pytest.FixtureRequest, doorman: Doorman, postgres: Postgres) -> Iterator[Twins]:
    with Twins(doorman, postgres, request.param) as made:
        yield made


@pytest.mark.parametrize("way", WAYS)
def test_a_name_is_there_for_who_has_set_it(both: Twins, way: str) -> None:
    a, b, own_a, own_b = both.pooled(), both.pooled(), both.direct(), both.direct()
    for step in said(*WAYS[way]):
        ask(a, step)
        ask(own_a, step)
    untouched = rows(own_b.ask(query(READ)))
    b.send(query(READ))
    if not both.answered_or_pinned(b):  # nobody knows what a has set, so it keeps its server
        a.terminate()
    assert rows(b.read_ready()) == untouched == [(None,)] * len(NAMES)


@pytest.mark.parametrize("way", [way for way in WAYS if way not in PINNED])
def test_who_has_set_it_finds_it(doorman: Doorman, postgres: Postgres, way: str) -> None:
    with Twins(doorman, postgres, "one") as both:
        a, b, own_a = both.pooled(), both.pooled(), both.direct()
        for step in said(*WAYS[way]):
            ask(a, step)
            ask(own_a, step)
        b.ask(query("SELECT 1"))
        assert rows(a.ask(query(READ))) == rows(own_a.ask(query(READ)))


def test_servers_stay_where_all_set_the_same(
    make_doorman: MakeDoorman, doorman_over: Mapping[str, Any], postgres: Postgres
) -> None:
    """Who sets what all set costs nothing more: the backend is the same all the time."""
    # Such a server stays with its worker.
    doorman = make_doorman(merged(doorman_over, {"general": {"worker_threads": 1}}))
    with Twins(doorman, postgres, "one") as both:
        a, b = both.pooled(), both.pooled()
        for client in (a, b):
            client.ask(query("SET app.x = 'mine'"))
        backend = a.value("SELECT pg_backend_pid()")
        for client in (b, a, b):
            assert client.value("SELECT pg_backend_pid()") == backend


def test_a_server_that_suits_is_taken_first(doorman: Doorman, postgres: Postgres) -> None:
    with Twins(doorman, postgres, "two") as both:
        a, b = both.pooled(), both.pooled()
        of_a = a.value("SELECT set_config('app.x', pg_backend_pid()::text, false)")
        of_b = b.value("SELECT pg_backend_pid()")
        assert of_a != of_b
        for _ in range(3):
            assert a.value("SELECT pg_backend_pid()") == of_a
            assert b.value("SELECT pg_backend_pid()") == of_b
