"""Pools that are made on demand: for users who were looked up, each his own or all one, and when they go again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from core_fakes import running

from pgdoorman_lib.config.effective import effective, looked_up, lookups, wildcard
from pgdoorman_lib.config.loader import loads
from pgdoorman_lib.config.model import Config
from pgdoorman_lib.net.engine import Engine
from pgdoorman_lib.pool import handover
from pgdoorman_lib.pool.pool import Pool
from pgdoorman_lib.pool.registry import LOOK_INTERVAL, Pools

CONFIG = """
[general]
admin_username = "admin"
admin_password = "not to be guessed"
[pools.own]
users = [{username = "carol", password = "c", pool_size = 7}]
auth_query = {query = "SELECT f($1)", user = "reader", pool_size = 3}
[pools.shared]
server_database = "real"
users = [{username = "carol", password = "c", pool_size = 7}]
auth_query = {query = "SELECT f($1)", user = "reader", password = "r", server_user = "all", pool_size = 5, workers = 4}
[pools.plain]
users = [{username = "carol", password = "c", pool_size = 7}]
[pools."*"]
users = [{username = "dave", password = "d", pool_size = 2}]
auth_query = {query = "SELECT f($1)", user = "reader", database = "people", min_pool_size = 1}
"""


def config(text: str = CONFIG) -> Config:
    return loads(text)


@pytest.fixture
def pools() -> Iterator[Pools]:
    with running("epoll") as engine:
        yield made(engine)


def made(engine: Engine) -> Pools:
    pools = Pools(lambda settings: Pool(settings, engine, _no, _no))
    use(pools, config())
    return pools


def _no(*arguments: Any) -> Any:
    raise AssertionError("nobody needs a server here")


def use(pools: Pools, wanted: Config) -> None:
    pools.apply(effective(wanted), wildcard(wanted), wanted.pools, looked_up(wanted))


def found(pools: Pools, database: str, user: str) -> Pool:
    pool = pools.find(database, user)
    assert pool is not None
    return pool


def test_who_is_configured_has_what_is_configured(pools: Pools) -> None:
    assert {(pool.settings.database, pool.settings.user) for pool in pools} == {
        ("own", "carol"),
        ("shared", "carol"),
        ("shared", "all"),
        ("plain", "carol"),
    }
    assert found(pools, "own", "carol").size == found(pools, "shared", "carol").size == 7
    assert found(pools, "elsewhere", "dave").size == 2
    assert not pools.made


def test_who_was_found_has_a_pool_of_his_own(pools: Pools) -> None:
    alice, bob = found(pools, "own", "alice"), found(pools, "own", "bob")
    assert alice is not bob and alice is found(pools, "own", "alice")
    settings = alice.settings
    assert (settings.user, settings.server_username, settings.server_password) == ("alice", "alice", None)
    assert (settings.pool_size, settings.secret) == (3, "")
    assert dict(pools.made) == {"own": 2}
    assert [(section, pool.settings.user) for section, pool in pools.of_found_users()] == [
        ("own", "alice"),
        ("own", "bob"),
    ]


def test_or_all_have_one(pools: Pools) -> None:
    alice = found(pools, "shared", "alice")
    assert alice is found(pools, "shared", "bob") is found(pools, "shared", "all")
    settings = alice.settings
    assert (settings.server_username, settings.server_password, settings.server_database) == ("all", "", "real")
    assert settings.pool_size == 5
    alice.learn_secret("md5" + "0" * 32)
    alice.learn_credentials(b"a client's key")
    assert (alice.secret, alice.credentials) == ("", None), "one of many is not what all log in with"
    assert not list(pools.of_found_users()) and not pools.made


def test_in_every_database(pools: Pools) -> None:
    alice = found(pools, "elsewhere", "alice")
    assert (alice.settings.server_database, alice.settings.min_pool_size, alice.size) == ("elsewhere", 1, 40)
    assert pools.find("plain", "alice") is None
    assert dict(pools.made) == {"*": 1}


def test_what_there_may_be(pools: Pools) -> None:
    assert pools.may_have("own", "anybody") and pools.may_have("own", None)
    assert pools.may_have("elsewhere", "anybody") and pools.may_have("elsewhere", None)
    assert not pools.may_have("plain", "anybody") and not pools.may_have("plain", None)
    use(pools, config(CONFIG.partition('[pools."*"]')[0]))
    assert not pools.may_have("elsewhere", "dave") and pools.find("elsewhere", "dave") is None


def test_what_clients_have_proven_goes_along(pools: Pools) -> None:
    alice = found(pools, "own", "alice")
    alice.learn_secret("a secret")
    alice.learn_credentials(b"a key")
    told = handover.pack_proofs(alice)
    other = found(pools, "own", "bob")
    handover.know_proofs(other, told)
    assert (other.secret, other.credentials) == ("a secret", b"a key")
    assert handover.has_learnt(other)
    other.learn_secret("a secret")
    assert other.credentials == b"a key"
    other.learn_secret("another")
    assert (other.secret, other.credentials) == ("another", None), "a key is good for the secret it was proven by"
    handover.know_proofs(other, {"credentials": None})  # from a version that did not tell
    assert other.secret == "another"
    configured = found(pools, "own", "carol")
    nothing = {"credentials": None, "secret": "", "parameters": []}
    assert handover.pack_proofs(configured) == nothing
    handover.know_proofs(configured, told)
    assert handover.pack_proofs(configured) == nothing, "who is configured is another"


def test_startup_parameters_of_a_user_who_was_looked_up(pools: Pools) -> None:
    pools.learn_parameters("own", "alice", (("WORK_MEM", "2MB"), ("a.b", "c")))
    alice = found(pools, "own", "alice")
    assert dict(alice.settings.startup_parameters) == {"WORK_MEM": "2MB", "a.b": "c"}
    pools.learn_parameters("own", "alice", (("WORK_MEM", "2MB"), ("a.b", "c")))
    assert found(pools, "own", "alice") is alice
    state = {"database": "own", "user": "bob"}
    handover.prepare(pools, state, handover.pack_proofs(alice))
    bob = found(pools, "own", "bob")
    assert bob.settings.startup_parameters == alice.settings.startup_parameters
    handover.prepare(pools, state, {"secret": ""})  # from a version that did not tell
    assert found(pools, "own", "bob") is bob
    handover.prepare(pools, state, {"parameters": [["a", "older"]]})
    assert found(pools, "own", "bob") is bob, "it was found later"
    use(pools, config(CONFIG))
    assert found(pools, "own", "alice") is alice, "a reload forgets nothing of it"
    pools.learn_parameters("own", "alice", ())
    other = found(pools, "own", "alice")
    assert alice.retired and other is not alice and not other.settings.startup_parameters
    pools.learn_parameters("own", "carol", (("a", "b"),))
    assert not found(pools, "own", "carol").settings.startup_parameters, "she is configured"
    pools.learn_parameters("own", "dave", (("a", "x" * 9480),))
    assert len(found(pools, "own", "dave").settings.startup_parameters) == 1
    use(pools, config(CONFIG.replace("[pools.own]", '[pools.own]\nstartup_parameters = {b = "some bytes"}')))
    assert dict(found(pools, "own", "dave").settings.startup_parameters) == {"b": "some bytes"}, (
        "it does not fit any more"
    )


def test_a_reload_keeps_what_has_not_changed(pools: Pools) -> None:
    alice, carol = found(pools, "own", "alice"), found(pools, "own", "carol")
    alice.learn_secret("a secret")
    alice.learn_credentials(b"a key")
    use(pools, config(CONFIG.replace("SELECT f($1)", "SELECT g($1)")))
    assert found(pools, "own", "alice") is alice
    use(pools, config(CONFIG.replace("pool_size = 3", "pool_size = 4")))
    heir = found(pools, "own", "alice")
    assert alice.retired and heir.size == 4 and found(pools, "own", "carol") is carol
    assert (heir.secret, heir.credentials) == ("a secret", b"a key")
    use(pools, config(CONFIG.replace('auth_query = {query = "SELECT f($1)", user = "reader", pool_size = 3}', "")))
    assert heir.retired and pools.find("own", "alice") is None
    use(pools, config(CONFIG.replace('server_user = "all", ', "")))
    assert pools.find("shared", "all") is not None and found(pools, "shared", "alice").settings.user == "alice"


def test_who_needs_no_pool_any_more(pools: Pools) -> None:
    in_use: set[Pool] = set()
    looks = 0

    def look() -> set[Pool]:
        nonlocal looks
        looks += 1
        return in_use

    def sweep(now: float) -> set[str]:
        pools.drop_unused(now, 100.0, look)
        return {pool.settings.user for pool in pools if pool.settings.database in ("own", "elsewhere")} - {"carol"}

    assert sweep(0.0) == set() and looks == 0, "those that are configured stay, and nobody is counted"
    alice, bob = found(pools, "own", "alice"), found(pools, "own", "bob")
    dave, every = found(pools, "elsewhere", "dave"), found(pools, "elsewhere", "erin")
    for pool in (alice, bob, dave, every):
        pool.beginnings.reported = object()
    in_use.add(dave)
    bob.elsewhere = 1
    assert sweep(1.0) == {"bob", "dave", "erin"}, "alice has neither servers nor clients"
    assert alice.retired and dict(pools.dropped) == {"own": 1}
    bob.elsewhere = 0
    in_use.add(bob)
    assert sweep(2.0) == {"bob", "dave", "erin"}
    in_use.discard(bob)
    assert sweep(2.0 + LOOK_INTERVAL / 2) == {"bob", "dave", "erin"}, "clients are not counted each second"
    assert sweep(2.0 + LOOK_INTERVAL) == {"dave", "erin"}
    assert sweep(101.0) == {"dave"}, "with min_pool_size it may come back for as long as others"
    assert sweep(102.0) == {"dave"}
    in_use.clear()
    assert sweep(200.0) == {"dave"}
    assert sweep(203.0) == set()
    assert dict(pools.dropped) == {"own": 2, "*": 1}


def test_the_connections_that_ask_have_settings_of_their_own() -> None:
    text = CONFIG.replace(
        "[pools.own]\n",
        '[pools.own]\nstartup_parameters = {Search_Path = "evil", statement_timeout = "0", work_mem = "1MB"}\n',
    )
    readers = lookups(config(text))
    assert set(readers) == {"own", "shared", "*"}
    own = dict(readers["own"].startup_parameters)
    assert own == {
        "work_mem": "1MB",
        "client_encoding": "UTF8",
        "datestyle": "ISO, YMD",
        "search_path": "pg_catalog, public, pg_temp",
        "timezone": "UTC",
        "statement_timeout": "3000",
    }
    shared = readers["shared"]
    assert (shared.server_username, shared.server_password, shared.pool_size) == ("reader", "r", 4)
    assert (shared.server_database, readers["*"].server_database) == ("shared", "people")
    assert shared.pool_mode == "session" and shared.query_wait_timeout == shared.connect_timeout
