"""[pools.NAME.auth_query]: what is read, what is refused, what a reload makes of it."""

from __future__ import annotations

import pytest

from pgdoorman_lib.check import check
from pgdoorman_lib.config.diff import diff
from pgdoorman_lib.config.loader import loads
from pgdoorman_lib.config.model import Config, show_rows
from pgdoorman_lib.errors import ConfigError

HEAD = '[general]\nadmin_username = "admin"\nadmin_password = "not to be guessed"\n'
USERS = '[[pools.db.users]]\nusername = "carol"\npassword = "c"\npool_size = 1\n'
LEAST = 'query = "SELECT f($1)"\nuser = "reader"\n'


def read(keys: str = LEAST, name: str = "db") -> Config:
    return loads(f'{HEAD}{USERS}[pools."{name}".auth_query]\n{keys}')


def test_what_is_read() -> None:
    config = read(
        'query = "SELECT f($1)"\nuser = "reader"\npassword = "p"\ndatabase = "people"\nworkers = 3\nserver_user = "all"\n'
        'server_password = "s"\npool_size = 9\nmin_pool_size = 2\ncache_ttl = "2h"\ncache_failure_ttl = "5s"\n'
        'min_interval = "500ms"\n'
    )
    check(config)
    assert config.warnings == ()
    found = config.pools["db"].auth_query
    assert found is not None
    assert (found.query, found.user, found.password, found.database) == ("SELECT f($1)", "reader", "p", "people")
    assert (found.workers, found.server_user, found.server_password) == (3, "all", "s")
    assert (found.pool_size, found.min_pool_size) == (9, 2)
    assert (found.cache_ttl, found.cache_failure_ttl, found.min_interval) == (7200.0, 5.0, 0.5)
    shown = {key: value for key, value, _, _ in show_rows(config) if "auth_query" in key}
    assert shown["pools.db.auth_query.cache_ttl"] == "7200000"
    assert shown["pools.db.auth_query.password"] == shown["pools.db.auth_query.server_password"] == "********"


def test_its_defaults_are_the_references() -> None:
    found = read().pools["db"].auth_query
    assert found is not None
    assert (found.password, found.database, found.workers, found.server_user) == ("", None, 2, None)
    assert (found.pool_size, found.min_pool_size) == (40, 0)
    assert (found.cache_ttl, found.cache_failure_ttl, found.min_interval) == (3600.0, 30.0, 1.0)


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ('user = "reader"\n', "missing field `query`"),
        ('query = "SELECT f($1)"\n', "missing field `user`"),
        ('query = ""\nuser = "reader"\n', "auth_query.query cannot be empty"),
        ('query = "SELECT f($1)"\nuser = ""\n', "auth_query.user cannot be empty"),
        ('query = "SELECT f($10)"\nuser = "reader"\n', "expected $1 in it"),
        (LEAST + "workers = 0\n", "workers: found 0, must be > 0"),
        (LEAST + "min_pool_size = 41\n", "auth_query: min_pool_size must be <= pool_size"),
        (LEAST + 'server_password = "s"\n', "auth_query: server_password requires server_user to be set"),
        (LEAST + 'server_user = "carol"\n', "'carol' has a pool of his own"),
        (LEAST + 'password = "SCRAM-SHA-256$4096:x$y:z"\n', "proves nothing to a server"),
        (LEAST + 'server_user = "a"\nserver_password = "SCRAM-SHA-256$4096:x$y:z"\n', "proves nothing to a server"),
        (LEAST + 'password = "jwt-pkey-fpath:/key"\n', "expected jwt-priv-key-fpath:PATH"),
        (LEAST + 'password = "jwt-priv-key-fpath:/nowhere"\n', "Could not open '/nowhere'"),
        (LEAST + "default_pool_size = 3\n", "default_pool_size"),
    ],
)
def test_what_is_refused(keys: str, problem: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read(keys)
    (line,) = refused.value.message.splitlines()
    assert "pools.db.auth_query" in line and problem in line


def test_for_every_database_it_has_to_say_where_it_runs() -> None:
    with pytest.raises(ConfigError, match="expected database, where the query runs"):
        read(name="*")
    check(read(LEAST + 'database = "people"\n', name="*"))


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (LEAST, "0 pools added, 0 removed, 0 rebuilt"),
        (LEAST.replace("f(", "g("), "0 pools added, 0 removed, 0 rebuilt; changed: pools.db.auth_query"),
        (LEAST + "pool_size = 5\n", "0 pools added, 0 removed, 1 rebuilt; changed: pools.db.auth_query"),
        (LEAST + 'server_user = "all"\n', "1 pools added, 1 removed, 0 rebuilt; changed: pools.db.auth_query"),
    ],
)
def test_what_a_reload_says(keys: str, said: str) -> None:
    assert str(diff(read(), read(keys))) == said


def test_a_reload_that_adds_it_or_takes_it_away() -> None:
    without = loads(HEAD + USERS)
    assert str(diff(without, read())) == "1 pools added, 0 removed, 0 rebuilt; changed: pools.db.auth_query"
    assert str(diff(read(), without)) == "0 pools added, 1 removed, 0 rebuilt; changed: pools.db.auth_query"
