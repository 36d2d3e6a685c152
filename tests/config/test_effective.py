"""The settings of each pool, and what a reload changes in them."""

from __future__ import annotations

import dataclasses
import pathlib

import pytest

from pgdoorman_lib.config import loader, reference
from pgdoorman_lib.config.diff import Changes, diff, in_force
from pgdoorman_lib.config.effective import PoolSettings, effective
from pgdoorman_lib.config.model import Config, show_rows

CONF = pathlib.Path(__file__).parents[2] / "conf"

BASE = """
[general]
admin_username = "admin"
admin_password = "admin"
connect_timeout = "1s"
idle_timeout = "1m"
server_lifetime = "1h"
startup_parameters = { work_mem = "1MB", "a.b" = "general" }

[pools.db]
{pool}

[[pools.db.users]]
username = "alice"
password = "al1ce-s3cret"
pool_size = 5
{user}

[[pools.db.users]]
username = "bob"
password = "bob-s3cret"
pool_size = 6
"""


def config(pool: str = "", user: str = "", general: str = "") -> Config:
    text = BASE.replace("{pool}", pool).replace("{user}", user)
    return loader.loads(text.replace("[pools.db]", f"{general}\n[pools.db]"))


def alice(**sections: str) -> PoolSettings:
    return effective(config(**sections))["db", "alice"]


def test_general_is_the_default():
    settings = alice()
    assert (settings.connect_timeout, settings.idle_timeout, settings.server_lifetime) == (1.0, 60.0, 3600.0)
    assert (settings.database, settings.server_database) == ("db", "db")
    assert (settings.user, settings.server_username, settings.server_password) == ("alice", "alice", None)
    assert (settings.pool_mode, settings.min_pool_size) == ("transaction", 0)
    assert settings.server_prepared_statements_cache_size == 8192


def test_the_pool_overrides_general():
    settings = alice(
        pool='connect_timeout = 2000\nidle_timeout = 0\nserver_lifetime = "2h"\nserver_database = "real"\n'
        "prepared_statements_cache_size = 7\nserver_tls_mode = 'disable'\n"
        "startup_parameters = { WORK_MEM = '2MB', c = 'pool' }"
    )
    assert (settings.connect_timeout, settings.idle_timeout, settings.server_lifetime) == (2.0, 0.0, 7200.0)
    assert (settings.server_database, settings.server_tls_mode) == ("real", "disable")
    assert settings.server_prepared_statements_cache_size == 7
    assert settings.startup_parameters == (("WORK_MEM", "2MB"), ("a.b", "general"), ("c", "pool"))


def test_the_user_overrides_the_pool():
    both = effective(config(pool='server_lifetime = "2h"', user='pool_mode = "session"\nserver_lifetime = 0'))
    assert (both["db", "alice"].pool_mode, both["db", "alice"].server_lifetime) == ("session", 0.0)
    assert (both["db", "bob"].pool_mode, both["db", "bob"].server_lifetime) == ("transaction", 7200.0)


@pytest.mark.parametrize(
    ("pool", "servers", "host", "port"),
    [
        ("", (("127.0.0.1", 5432),), "127.0.0.1", 5432),
        ('server_host = "a"\nserver_port = 1', (("a", 1),), "a", 1),
        ('server_host = "a, b"', (("a", 5432), ("b", 5432)), "a,b", 5432),
        ('server_host = ["a", "b"]\nserver_port = 1', (("a", 1), ("b", 1)), "a,b", 1),
        ('server_host = ["a", "::1"]\nserver_port = "1, 2"', (("a", 1), ("::1", 2)), "a:1,[::1]:2", 1),
        ('server_host = ["a", "a", "b"]\nserver_port = [1, 1, 2]', (("a", 1), ("b", 2)), "a:1,b:2", 1),
    ],
)
def test_hosts_and_ports(pool, servers, host, port):
    settings = alice(pool=pool)
    assert (settings.servers, settings.server_host, settings.server_port) == (servers, host, port)
    for server in servers:
        one = settings.at(*server)
        assert (one.server_host, one.server_port, one.servers) == (*server, (server,))
        assert (one is settings) == (len(servers) == 1)


def test_patroni():
    assert alice().patroni_api_urls == ()
    settings = alice(pool='patroni_api_urls = ["http://p:8008", "https://q"]\nfallback_cooldown = "10s"')
    assert settings.patroni_api_urls == ("http://p:8008", "https://q")
    assert (settings.fallback_cooldown, settings.fallback_lifetime) == (10.0, 10.0)
    assert (settings.patroni_api_timeout, settings.fallback_connect_timeout) == (5.0, 5.0)


def test_settings_hide_secrets():
    assert "s3cret" not in repr(alice(user='server_username = "s"\nserver_password = "serv3r-s3cret"'))
    assert alice().secret == "al1ce-s3cret"


def test_every_setting_of_a_pool_counts_as_a_change():
    settings = alice()
    for field in dataclasses.fields(settings):
        assert dataclasses.replace(settings, **{field.name: "other"}) != settings


def test_nothing_changed():
    changes = diff(config(), config())
    assert changes == Changes()
    assert not changes


@pytest.mark.parametrize(
    ("new", "expected"),
    [
        (config(user="min_pool_size = 1"), Changes(changed=(("db", "alice"),))),
        (config(pool='server_host = "x"'), Changes(changed=(("db", "alice"), ("db", "bob")))),
        (config(pool="min_connection_lifetime = 1"), Changes()),
        (
            loader.loads(BASE.replace("{pool}", "").replace("{user}", "").replace('"1m"', '"2m"')),
            Changes(changed=(("db", "alice"), ("db", "bob"))),
        ),
        (
            loader.loads(BASE.replace("{pool}", "").replace("{user}", "").replace('"bob"', '"carol"')),
            Changes(added=(("db", "carol"),), removed=(("db", "bob"),)),
        ),
        (
            loader.loads(
                BASE.replace("{pool}", "")
                .replace("{user}", "")
                .replace("[general]", "[general]\nport = 1\nbacklog = 2")
            ),
            Changes(restart=(("general.port", "1"), ("general.backlog", "2"))),
        ),
        (
            loader.loads(
                BASE.replace("{pool}", "").replace("{user}", "").replace("[general]", "[general]\nmax_connections = 3")
            ),
            Changes(live=("general.max_connections",)),
        ),
    ],
)
def test_what_a_reload_changes(new, expected):
    assert diff(config(), new) == expected


def test_a_certificate_replaced_in_place_is_a_change(tmp_path):
    ca = tmp_path / "ca.pem"
    ca.write_text("one")
    pool = f"server_tls_ca_cert = '{ca}'"
    old = config(pool=pool)
    assert not diff(old, config(pool=pool))
    ca.write_text("two")
    assert diff(old, config(pool=pool)).changed == (("db", "alice"), ("db", "bob"))


def test_what_waits_for_a_restart_is_not_in_force():
    def at(port, connections):
        general = f"[general]\nport = {port}\nmax_connections = {connections}"
        return loader.loads(BASE.replace("{pool}", "").replace("{user}", "").replace("[general]", general))

    old, new = at(1, 5), at(2, 6)
    after = in_force(old, new, diff(old, new))
    assert (after.general.port, after.general.max_connections) == (1, 6)
    assert after.pending == (("general.port", "2"),)
    rows = {key: (value, changeable) for key, value, _, changeable in show_rows(after)}
    assert rows["port"] == ("1", "no, 2 after a restart")
    assert rows["max_connections"] == ("6", "yes")
    again = in_force(after, new, diff(after, new))
    assert again.pending == after.pending, "it is told with each reload"
    assert not in_force(again, old, diff(again, old)).pending


def test_files_of_clients_tls_and_rules_read_anew(tmp_path):
    files = {name: tmp_path / name for name in ("tls_certificate", "tls_private_key", "hba")}

    def load():
        general = "[general]\n" + "\n".join(f"{name} = '{files[name]}'" for name in files if name != "hba")
        general += f"\npg_hba = {{path = '{files['hba']}'}}"
        return loader.loads(BASE.replace("{pool}", "").replace("{user}", "").replace("[general]", general))

    for path in files.values():
        path.write_text("host all all all md5")
    old = load()
    assert not diff(old, load())
    files["tls_private_key"].write_text("another")
    files["hba"].write_text("host all all all scram-sha-256")
    changes = diff(old, load())
    assert changes.files == (str(files["tls_private_key"]), str(files["hba"]))
    assert f"files read anew: {files['tls_private_key']}, {files['hba']}" in str(changes)


# -- the files in conf/


def test_the_sample_runs_as_it_is():
    sample = loader.load(str(CONF / "pg_doorman.toml"))
    settings = effective(sample)["exampledb", "doorman"]
    assert sample.warnings == ()
    assert sample.general.addresses() == (("127.0.0.1", 6432),)
    assert (settings.secret, settings.pool_size, settings.server_port) == ("password", 40, 5432)


def test_the_reference_is_what_the_model_says():
    path = CONF / "reference.toml"
    assert path.read_text() == reference.render(), "run: python -m pgdoorman_lib.config.reference > conf/reference.toml"


def test_the_reference_is_valid_and_says_the_defaults():
    written = loader.load(str(CONF / "reference.toml"))
    least = loader.loads(
        '[general]\nadmin_username = "admin"\nadmin_password = "change-me"\n[[pools.exampledb.users]]\n'
        'username = "doorman"\npassword = "password"\npool_size = 40\n'
    )
    assert written.warnings == ()
    assert (written.general, written.pools) == (least.general, least.pools)


def test_peers_change_one_by_one():
    def of(*peers):
        tables = "".join(f'[peers.{number}]\nhost = "{host}"\n' for number, host in peers)
        return loader.loads(BASE.replace("{pool}", "").replace("{user}", "").replace("[general]", f"{tables}[general]"))

    old, new = of((1, "a"), (2, "b"), (3, "c")), of((2, "b"), (3, "d"), (4, "e"))
    changes = diff(old, new)
    assert changes == Changes(live=("peers.1", "peers.3", "peers.4"))
    assert in_force(old, new, changes).peers == new.peers
    assert not diff(new, new)
