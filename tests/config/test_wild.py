"""Files as they are in the wild: everything wrong is told at once, and what pg_doorman ignores need not stop a start."""

from __future__ import annotations

import dataclasses

import pytest
import yaml

from pgdoorman_lib.config import effective, loader, model
from pgdoorman_lib.config.document import parse
from pgdoorman_lib.config.keys import keys_of
from pgdoorman_lib.config.names import _ABSENT, _RENAMED, hint
from pgdoorman_lib.errors import ConfigError

GENERAL = '[general]\nadmin_username = "admin"\nadmin_password = "adm1n-s3cret"\n'
USER = '[[pools.db.users]]\nusername = "alice"\npassword = "al1ce-s3cret"\npool_size = 5\n'


def problems(text: str, **how: bool) -> list[str]:
    """The lines of the error that ``text`` is refused with."""
    with pytest.raises(ConfigError) as caught:
        loader.loads(text, "f.toml", **how)
    assert "s3cret" not in caught.value.message
    return caught.value.message.splitlines()


#: Six names that are no keys where they stand, and nothing else wrong.
STRAY = (
    "[generall]\n"
    + GENERAL
    + 'max_conections = 5\npool_mode = "session"\ncancel_wait_timeout = 5\n'
    + "[pools.db]\npool_size = 3\n"
    + USER
    + "min_pool_sise = 1\n"
)

STRAY_LINES = [
    "f.toml:1: generall: unknown section; did you mean general?",
    "f.toml:5: general.max_conections: unknown key; did you mean max_connections?",
    "f.toml:6: general.pool_mode: unknown key; pool_mode belongs to [pools.NAME]",
    "f.toml:7: general.cancel_wait_timeout: unknown key; PgBouncer's cancel_wait_timeout: there is no such limit here",
    "f.toml:9: pools.db.pool_size: unknown key; pool_size belongs to [[pools.NAME.users]]",
    "f.toml:14: pools.db.users[0].min_pool_sise: unknown key; did you mean min_pool_size?",
]


def test_all_unknown_names_are_told_at_once():
    assert problems(STRAY) == STRAY_LINES


def test_all_problems_are_told_at_once_in_the_order_of_lines():
    text = STRAY.replace("pool_size = 5", 'pool_size = "five"').replace("[pools.db]", 'port = "x"\n[pools.db]')
    found = problems(text + '[web]\nport = 1.5\n[pools.x.users.al]\nusername = "x"\n')
    assert [line.split(": ")[1] for line in found] == [
        "generall",
        "general.max_conections",
        "general.pool_mode",
        "general.cancel_wait_timeout",
        "general.port",
        "pools.db.pool_size",
        "pools.db.users[0].pool_size",
        "pools.db.users[0].min_pool_sise",
        "web.port",
        "pools.x.users",
    ]
    assert all("found" in line or "unknown" in line or "invalid" in line for line in found)


def test_rules_over_several_keys_are_told_together_and_with_unknown_names():
    text = GENERAL + 'tls_private_key = "k"\nhots = "x"\n[pools.db]\nserver_tls_mode = "verify-ca"\n' + USER
    found = problems(text + "min_pool_size = 9\n[pools.e]\nstartup_parameters = { role = 'x', '_pq_.y' = 'z' }\n")
    assert [line.split(": ")[1] for line in found] == [
        "general.tls_private_key",
        "general.tls_private_key",  # and it can't be read either
        "general.hots",
        "pools.db.server_tls_mode",
        "pools.db.users[0].min_pool_size",
        "pools.e.startup_parameters",
        "pools.e.startup_parameters",
    ]


def test_problems_of_general_are_not_told_again_for_each_pool():
    wrong = "startup_parameters = { role = 'x' }\nserver_tls_private_key = '/none'\n"
    found = problems(GENERAL + wrong + "[pools.a]\n[pools.b]\n")
    assert {line.split(": ")[1].split(".")[0] for line in found} == {"general"}


def test_lenient_turns_names_into_warnings():
    for config in (
        loader.loads(STRAY, "f.toml", lenient=True),
        loader.loads(STRAY.replace("[pools.db]", "strict_config = false\n[pools.db]"), "f.toml"),
    ):
        assert sorted(line.split(": ", 1)[1] for line in config.warnings) == sorted(
            line.split(": ", 1)[1] + " (ignored)" for line in STRAY_LINES
        )
        assert config.general.max_connections == 8192
    assert loader.loads(STRAY, lenient=True).lenient


def test_lenient_does_not_excuse_values():
    found = problems(STRAY.replace("pool_size = 5", "pool_size = 0"), lenient=True)
    assert found == ["f.toml:13: pools.db.users[0].pool_size: found 0, expected an integer from 1 to 4294967295"]
    assert "found 5, expected true or false" in problems(GENERAL + "strict_config = 5\n[pools]\n")[0]
    assert "missing field `admin_password`" in problems('[general]\nadmin_username = "a"\n[pools]\n', lenient=True)[0]


def test_strict_config_in_an_included_file(tmp_path):
    lenient = tmp_path / "lenient.toml"
    lenient.write_text("[general]\nstrict_config = false\nprot = 1\n")
    main = tmp_path / "main.toml"
    main.write_text(f"{GENERAL}hots = 1\n[pools]\n[include]\nfiles = ['{lenient}']\nmore = 1\n")
    config = loader.load(str(main))
    assert [warning.split(": ")[1] for warning in config.warnings] == ["include.more", "general.hots", "general.prot"]
    assert config.secret_files == (str(main),)


# -- what is asked for and not there yet


@pytest.mark.parametrize("name", ["worker_threads", "workers"])
def test_worker_threads_are_worker_processes(name):
    config = loader.loads(f"{GENERAL}{name} = 4\n[pools]\n", "f.toml")
    assert config.general.worker_threads == config.general.worker_count == 4
    assert config.warnings == ()
    for number in (0, 65):
        assert (
            f"found {number}, expected an integer from 1 to 64" in problems(f"{GENERAL}{name} = {number}\n[pools]\n")[0]
        )


def test_what_would_change_who_gets_what_is_refused_all_the_same():
    (found,) = problems(f"{GENERAL}server_tls = true\n[pools.db]\n", lenient=True)
    assert "not supported yet" in found


def test_a_pool_for_every_database():
    config = loader.loads(
        GENERAL
        + """
[pools.shop]
users = [{username = "alice", password = "a", pool_size = 1}]
[pools."*"]
server_host = "db"
users = [{username = "bob", password = "b", pool_size = 2}]
"""
    )
    assert list(effective.effective(config)) == [("shop", "alice")]
    template = effective.wildcard(config)["bob"]
    made = effective.for_database(template, "mall")
    assert (made.database, made.server_database, made.server_host, made.pool_size) == ("mall", "mall", "db", 2)
    one = dataclasses.replace(template, server_database="real")
    assert effective.for_database(one, "mall").server_database == "real"


# -- from PgBouncer


@pytest.mark.parametrize(
    ("name", "phrase"),
    [
        ("max_client_conn", "max_connections in [general]"),
        ("server_idle_timeout", "idle_timeout in [general] or [pools.NAME] (a plain number counts seconds there"),
        ("cancel_wait_timeout", "there is no such limit here"),
        ("server_reset_query", "there is none here; see cleanup_server_connections"),
        ("listen_addr", "host in [general]"),
        ("default_pool_size", "pool_size of each user"),
        ("auth_file", "list the users under [[pools.NAME.users]]"),
        ("auth_query", "query in [pools.NAME.auth_query]"),
        ("auth_user", "user in [pools.NAME.auth_query]"),
        ("ignore_startup_parameters", "what a client sends at its login reaches the server"),
    ],
)
def test_names_of_pgbouncer(name, phrase):
    assert phrase in problems(f"{GENERAL}{name} = 1\n[pools]\n")[0]


def test_reserve_pool_size_has_its_place():
    assert problems(f"{GENERAL}reserve_pool_size = 1\n[pools]\n")[0].endswith("belongs to [pools.NAME]")


def test_what_is_said_of_pgbouncers_names_is_true():
    """None is a key here where it is said to be none, and every key named is one."""
    general, pool, user = ({name for name, _ in keys_of(m)} for m in (model.General, model.Pool, model.User))
    for name, text in {**_RENAMED, **_ABSENT}.items():
        assert name not in general
        for word in text.replace(",", " ").replace(";", " ").split():
            if "_" in word and word.isidentifier():
                known = {*general, *pool, *user, "startup_parameters"}
                if "in PostgreSQL" not in text:
                    assert word in known, (name, word)
    assert hint("tls_ca_file", sorted(general), {}) == "did you mean tls_ca_cert?"


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("query_wait_timeout = 120", '120 ms here; PgBouncer counts seconds: was "120s" meant?'),
        ("query_wait_timeout = '120'", '"120s"'),
        ("connect_timeout = 15", '"15s"'),
        ("idle_timeout = 600", '"600s"'),
        ("server_lifetime = 3600", '"3600s"'),
        ("client_login_timeout = 60", '"60s"'),
        ("tcp_user_timeout = 30000", '30000 s here; PgBouncer counts milliseconds: was "30000ms" meant?'),
    ],
)
def test_durations_in_another_unit_are_warned_of(line, meant):
    (warning,) = loader.loads(f"{GENERAL}{line}\n[pools]\n", "f.toml").warnings
    assert warning.startswith(f"f.toml:4: general.{line.split()[0]}: ")
    assert meant in warning


@pytest.mark.parametrize(
    "line",
    ["query_wait_timeout = 0", "query_wait_timeout = 5000", "query_wait_timeout = '120ms'", "connect_timeout = 500"],
)
def test_plausible_durations_are_not_warned_of(line):
    assert loader.loads(f"{GENERAL}{line}\n[pools]\n").warnings == ()


def test_a_default_is_plausible():
    for section in (model.General, model.Pool, model.User, model.AuthQuery):
        for name, key in keys_of(section):
            if key.kind == "duration" and key.default_value():
                assert key.implausible(round(key.default_value() * 1000)) is None, name


# -- whole files of pg_doorman, of the keys its own samples have

MANY_KEYS = (
    """
[include]
[general]
host = "127.0.0.1"
port = 7000
backlog = 0
connect_timeout = 3000
query_wait_timeout = 5000
idle_timeout = 600000
server_lifetime = 1200000
retain_connections_time = 30000
retain_connections_max = 3
server_idle_check_timeout = 60000
shutdown_timeout = 10000
proxy_copy_data_timeout = 15000
tcp_keepalives_idle = 5
tcp_keepalives_interval = 5
tcp_keepalives_count = 5
tcp_so_linger = 0
tcp_no_delay = true
tcp_user_timeout = 60
unix_socket_buffer_size = 1048576
unix_socket_mode = "0600"
max_connections = 100
max_concurrent_creates = 4
max_memory_usage = 268435456
scaling_warm_pool_ratio = 20
scaling_fast_retries = 10
scaling_max_parallel_creates = 2
log_client_connections = true
log_client_disconnections = true
worker_threads = 4
worker_cpu_affinity_pinning = false
server_round_robin = false
sync_server_parameters = false
message_size_to_be_stream = 1048576
pooler_check_query = ";"
prepared_statements = true
prepared_statements_cache_size = 8192
client_anonymous_prepared_cache_size = 256
admin_username = "boss"
admin_password = "adm1n-s3cret"
tls_mode = "allow"
tls_rate_limit_per_second = 0
server_tls_mode = "allow"
hba = []
[prometheus]
enabled = false
host = "127.0.0.1"
port = 9127
[pools.shop]
server_host = "127.0.0.1"
server_port = 5432
pool_mode = "transaction"
cleanup_server_connections = true
log_client_parameter_status_changes = false
[[pools.shop.users]]
username = "alice"
password = "md5"""
    + "0123456789abcdef" * 2
    + '"\npool_size = 40\n'
)

OLD_KEYS = """
[prometheus]
enabled = true
host = "127.0.0.1"
port = 9127
[general]
host = "127.0.0.1"
port = 7000
virtual_pool_count = 1
worker_threads = 2
default_tcp_so_linger = 0
max_message_size = 1048576
admin_username = "boss"
admin_password = "adm1n-s3cret"
pool_mode = "transaction"
pg_hba = { content = "host all all 0.0.0.0/0 md5" }
[pools.shop]
server_host = "127.0.0.1"
idle_timeout = 40000
application_name = "shop"
pool_size = 40
[pools.shop.users.0]
username = "alice"
password = ""
pool_size = 40
min_pool_size = 0
pool_mode = "session"
"""


def test_a_file_with_the_keys_of_the_sample():
    for lenient in (False, True):
        config = loader.loads(MANY_KEYS, "f.toml", lenient=lenient)
        assert len(config.warnings) == 1
        assert "retain_connections_max" in config.warnings[0]


@pytest.mark.parametrize("text", [MANY_KEYS, OLD_KEYS])
def test_the_same_files_in_yaml(text):
    """PyYAML writes what its rules of YAML 1.1 ask for, and ours read it."""
    in_yaml = yaml.safe_dump(parse(text, "f.toml").data, sort_keys=False)
    config = loader.loads(in_yaml, "f.yaml", lenient=True)
    same = loader.loads(text, "f.toml", lenient=True)
    assert (config.general, config.pools, config.web) == (same.general, same.pools, same.web)
    assert len(config.warnings) == len(same.warnings)


def test_a_file_with_keys_of_long_ago():
    strict = problems(OLD_KEYS)
    assert [line.split(": ")[1] for line in strict] == [
        "general.default_tcp_so_linger",
        "general.max_message_size",
        "general.pool_mode",
        "pools.shop.pool_size",
    ]
    config = loader.loads(OLD_KEYS, "f.toml", lenient=True)
    assert sum("(ignored)" in warning for warning in config.warnings) == 4
    assert "did you mean tcp_so_linger?" in strict[0]
    assert "did you mean message_size_to_be_stream?" in strict[1]
