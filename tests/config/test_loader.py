"""From files to the model: every form, every refusal with file, line and key, and no secret in any text."""

from __future__ import annotations

import dataclasses

import pytest

from pgdoorman_lib.config import loader, model
from pgdoorman_lib.config.keys import keys_of
from pgdoorman_lib.errors import ConfigError

GENERAL = '[general]\nadmin_username = "admin"\nadmin_password = "adm1n-s3cret"\n'
USER = '[[pools.db.users]]\nusername = "alice"\npassword = "al1ce-s3cret"\npool_size = 5\n'
POOL = "[pools.db]\n" + USER


def load(*, general: str = "", pool: str = "", user: str = "", more: str = "") -> model.Config:
    """A small configuration with lines added to its sections."""
    return loader.loads(f"{GENERAL}{general}\n[pools.db]\n{pool}\n{USER}{user}\n{more}\n")


def refusal(**sections: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(**sections)
    assert "s3cret" not in caught.value.message
    return caught.value.message


def test_the_smallest():
    config = loader.loads(GENERAL + "[pools]\n")
    assert config.pools == {}
    assert config.general.port == 5432
    assert config.warnings == ()


def test_defaults_and_traps_of_the_reference():
    general = load().general
    assert (general.log_client_connections, general.log_client_disconnections) == (True, True)
    assert (general.idle_timeout, general.server_lifetime) == (600.0, 1200.0)
    assert (general.worker_threads, general.sync_server_parameters) == (None, True)
    assert general.unix_socket_mode == 0o600


@pytest.mark.parametrize("section", ["general", "pool"])
@pytest.mark.parametrize(("raw", "seconds"), [("2500", 2.5), ('"3s"', 3.0), ('"2m"', 120.0), ("0", 0.0)])
def test_durations_in_either_section(section, raw, seconds):
    config = load(**{section: f"idle_timeout = {raw}"})
    where = config.general if section == "general" else config.pools["db"]
    assert where.idle_timeout == seconds


def test_users_as_a_numbered_map_are_ordered_by_number():
    text = GENERAL
    for number in (10, 2, 1):
        text += f'[pools.db.users.{number}]\nusername = "u{number}"\npassword = ""\npool_size = 1\n'
    assert [user.username for user in loader.loads(text).pools["db"].users] == ["u1", "u2", "u10"]


def test_users_by_name_are_refused():
    text = GENERAL + '[pools.db.users.alice]\nusername = "a"\npassword = ""\npool_size = 1\n'
    with pytest.raises(ConfigError, match=r"invalid user key 'alice': expected numeric index or use array format"):
        loader.loads(text)


def test_host_is_a_string_or_a_list():
    assert load(general='host = "::1"\nport = 7').general.addresses() == (("::1", 7),)
    general = load(general='host = ["127.0.0.1", "::1"]\nport = 7\nlisten = ["10.0.0.1:8", "[::1]:7"]').general
    assert general.addresses() == (("127.0.0.1", 7), ("::1", 7), ("10.0.0.1", 8))
    assert "nothing to listen on" in refusal(general="host = []")
    assert load(general='host = []\nunix_socket_dir = "/tmp"').general.addresses() == ()


@pytest.mark.parametrize(
    ("sections", "phrases"),
    [
        ({"general": "prot = 1"}, ("pg_doorman.toml:4: general.prot:", "did you mean port?")),
        ({"general": 'tls_ca_file = "x"'}, ("unknown key; did you mean tls_ca_cert?",)),
        ({"general": 'pool_mode = "session"'}, ("unknown key; pool_mode belongs to [pools.NAME]",)),
        ({"pool": 'host = "x"'}, ("pools.db.host: unknown key; did you mean server_host?",)),
        ({"pool": "pool_size = 3"}, ("belongs to [[pools.NAME.users]]",)),
        ({"user": "min_pool_sise = 3"}, ("pools.db.users[0].min_pool_sise", "did you mean min_pool_size?")),
        ({"more": "[genral]"}, ("genral: unknown section; did you mean general?",)),
        ({"more": "[include]\nfile = []"}, ("include.file", "did you mean files?")),
        ({"more": "[web]\nprot = 1"}, ("web.prot", "did you mean port?")),
        ({"more": "[talos]\nkey = []"}, ("talos.key", "did you mean keys?")),
        ({"general": "pg_hba = {file = 'x'}"}, ('unknown field "file", expected "path" or "content"',)),
    ],
)
def test_unknown_keys_are_refused_at_every_level(sections, phrases):
    message = refusal(**sections)
    for phrase in phrases:
        assert phrase in message


@pytest.mark.parametrize(
    ("sections", "phrases"),
    [
        ({"general": 'port = "x"'}, ("general.port", 'found "x"', "an integer from 0 to 65535")),
        ({"general": "port = 65536"}, ("found 65536",)),
        ({"general": "port = true"}, ("found true",)),
        ({"general": "port = 1.5"}, ("found 1.5",)),
        ({"general": "port = 2020-01-01"}, ("found a date or time",)),
        ({"general": "host = 5"}, ("a string or a list of strings",)),
        ({"general": "host = [5]"}, ("found 5",)),
        ({"general": 'host = ""'}, ("empty string",)),
        ({"general": 'tcp_no_delay = "yes"'}, ("true or false",)),
        ({"general": 'idle_timeout = "5x"'}, ("invalid duration format: '5x'",)),
        ({"general": "idle_timeout = -1"}, ("duration cannot be negative",)),
        ({"general": "idle_timeout = 1.5"}, ("found 1.5", "milliseconds")),
        ({"general": "connect_timeout = 0"}, ("must be > 0",)),
        ({"general": 'max_memory_usage = "1TB"'}, ("invalid byte size format",)),
        ({"general": 'unix_socket_mode = "888"'}, ("not a valid octal number",)),
        ({"general": 'unix_socket_mode = "4755"'}, ("sets bits outside 0o777",)),
        ({"general": 'tls_mode = "maybe"'}, ("Invalid tls_mode", '"verify-full"')),
        ({"general": 'hba = ["10.0.0.0/99"]'}, ("a network such as",)),
        ({"general": 'listen = ["nohost"]'}, ('"host:port"',)),
        ({"general": "startup_parameters = {work_mem = 5}"}, ("'work_mem' is an integer", "expected a string")),
        ({"general": 'startup_parameters.a.b = "x"'}, ("quote a dotted name",)),
        ({"general": "scaling_max_parallel_creates = 0"}, ("integer from 1",)),
        ({"general": 'admin_username = "x"'}, ("defined twice, first on line 2",)),
        ({"pool": 'pool_mode = "statement"'}, ('unknown variant "statement"', '"transaction" or "session"')),
        ({"pool": 'server_tls_mode = "yes"'}, ("pools.db.server_tls_mode: invalid server_tls_mode",)),
        ({"pool": "scaling_warm_pool_ratio = 101"}, ("from 0 to 100",)),
        ({"pool": "server_port = 0"}, ("from 1 to 65535",)),
        ({"pool": "server_port = true"}, ("found true", "from 1 to 65535")),
        ({"pool": "server_port = [5432, 65536]"}, ("found 65536", "from 1 to 65535")),
        ({"pool": 'server_port = "5432,x"'}, ('found "x"', "from 1 to 65535")),
        ({"pool": "server_port = []"}, ("found an empty list",)),
        ({"pool": "server_host = []"}, ("found an empty list",)),
        ({"pool": 'server_host = "a,,b"'}, ("found an empty string", "hosts")),
        ({"pool": 'server_host = ["a", 5]'}, ("found 5",)),
        ({"pool": 'server_host = "a:5432,b"'}, ('found "a:5432"', "ports stand in server_port")),
        (
            {"pool": 'server_host = "a,b,c"\nserver_port = [1, 2]'},
            ("pools.db.server_port: could not match 2 port numbers to 3 hosts",),
        ),
        ({"pool": 'server_host = "a"\nserver_port = "1,2"'}, ("could not match 2 port numbers to 1 hosts",)),
        ({"pool": "patroni_api_urls = []"}, ("pools.db.patroni_api_urls: patroni_api_urls cannot be an empty list",)),
        ({"general": "patroni_api_urls = []"}, ("general.patroni_api_urls", "cannot be an empty list")),
        ({"pool": 'patroni_api_urls = ["p:8008"]'}, ("invalid URL 'p:8008'; must start with http:// or https://",)),
        ({"pool": 'patroni_api_urls = ["http://:8008"]'}, ("invalid URL", "expected a host")),
        ({"pool": 'patroni_api_urls = ["http://p:x"]'}, ("invalid URL", "expected a host")),
        ({"pool": 'patroni_api_urls = ["http://u:p@h/?x"]'}, ("invalid URL", "expected a host")),
        *(
            ({"pool": f"{key} = 0"}, (f"pools.db.{key}: found 0, must be > 0",))
            for key in ("fallback_cooldown", "patroni_api_timeout", "fallback_connect_timeout", "fallback_lifetime")
        ),
        ({"pool": 'target_session_attrs = "readwrite"'}, ("unknown variant", 'did you mean "read-write"?')),
        ({"pool": 'target_session_attrs = "prefer_standby"'}, ('did you mean "prefer-standby"?',)),
        ({"pool": 'target_session_attrs = "master"'}, ("unknown variant", '"prefer-standby"')),
        ({"pool": 'load_balance_hosts = "rand"'}, ('did you mean "random"?',)),
        ({"pool": 'server_host = "a\\u0000b"'}, ("null byte",)),
        ({"user": 'pool_mode = "x"'}, ("unknown variant",)),
        ({"user": "pools.x = 1"}, ("pools.db.users[0].pools: unknown key", "the top level: [pools]")),
        ({"more": "[pools.x]\nusers = 3"}, ("pools.x.users: found an integer",)),
    ],
)
def test_wrong_values_say_what_was_found_and_what_is_accepted(sections, phrases):
    message = refusal(**sections)
    for phrase in phrases:
        assert phrase in message


@pytest.mark.parametrize("mode", ["session", "Session", "transaction", "Transaction"])
def test_pool_mode_may_be_capitalised(mode):
    assert load(pool=f'pool_mode = "{mode}"').pools["db"].pool_mode == mode.lower()


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        ("[pools]\n", "missing field `general`"),
        (GENERAL, "missing field `pools`"),
        ('[general]\nadmin_username = "a"\n[pools]\n', "general: missing field `admin_password`"),
        (GENERAL + "[[pools.db.users]]\nusername = 'x'\npassword = ''\n", "users[0]: missing field `pool_size`"),
        ("general = 3\n[pools]\n", "general: found an integer, expected a table"),
        (GENERAL + "[[pools]]\n", "pools: found an array"),
    ],
)
def test_missing_and_misshapen_sections(text, phrase):
    with pytest.raises(ConfigError) as caught:
        loader.loads(text)
    assert phrase in caught.value.message


@pytest.mark.parametrize(
    ("section", "line"),
    [
        ("general", "server_tls = true"),
        ("general", "verify_server_certificate = true"),
    ],
)
def test_what_is_not_there_yet_is_refused(section, line):
    assert "not supported yet" in refusal(**{section: line})


@pytest.mark.parametrize(
    ("section", "line"),
    [
        ("general", "worker_threads = 1"),
        ("general", 'fallback_cooldown = "30s"'),
        ("general", "server_tls = false"),
        ("general", 'daemon_pid_file = "/tmp/x.pid"'),
        ("pool", "max_db_connections = 0\nreserve_pool_size = 0\nreserve_pool_timeout = 3000"),
        ("pool", 'max_db_connections = 5\nreserve_pool_size = 2\nmin_connection_lifetime = "5s"'),
        ("more", "[talos]\nkeys = []\ndatabases = ['a']"),
        ("more", "[web]\nenabled = true\nui = false"),
        ("more", "[prometheus]\nenabled = false\nport = 9127"),
        ("more", "[include]\n"),
    ],
)
def test_what_is_not_there_yet_may_be_off(section, line):
    assert load(**{section: line}).warnings == ()


def test_keys_without_effect_make_one_warning():
    config = load(general="tokio_event_interval = 1\nworker_stack_size = '8MB'", pool="scaling_fast_retries = 3")
    assert len(config.warnings) == 1
    for name in ("general.tokio_event_interval", "general.worker_stack_size", "pools.db.scaling_fast_retries"):
        assert name in config.warnings[0]
    assert "found" in refusal(general='tokio_event_interval = "x"')


def test_other_names():
    config = load(general="client_prepared_statements_cache_size = 7")
    assert config.general.client_anonymous_prepared_cache_size == 7
    assert "old name" in config.warnings[0]
    assert "another name of worker_threads" in refusal(general="workers = 1\nworker_threads = 1")
    assert "another name of [web]" in refusal(more="[web]\n[prometheus]\n")


@pytest.mark.parametrize(
    ("sections", "phrase"),
    [
        ({"general": 'tls_private_key = "k"'}, "tls_private_key is set but tls_certificate is not"),
        ({"general": 'tls_certificate = "k"'}, "tls_certificate is set but tls_private_key is not"),
        ({"general": 'tls_mode = "require"'}, "tls_mode is require but tls_certificate or tls_private_key is not"),
        (
            {"general": 'tls_mode = "verify-full"\ntls_certificate = "c"\ntls_private_key = "k"'},
            "tls_mode is verify-full but tls_ca_cert is not set",
        ),
        (
            {"general": 'tls_certificate = "/none/c"\ntls_private_key = "/none/k"'},
            "general.tls_certificate: tls is incorrectly configured: Could not open '/none/c'",
        ),
        ({"general": 'hba = ["::1/128"]\npg_hba = "x"'}, "cannot be specified at the same time"),
        ({"general": "prepared_statements_cache_size = 0"}, "prepared_statements_cache should be greater than 0"),
        ({"pool": "prepared_statements_cache_size = 0"}, "prepared_statements_cache should be greater than 0"),
        ({"pool": 'server_tls_mode = "verify-ca"'}, "server_tls_mode is 'verify-ca' but server_tls_ca_cert is not set"),
        ({"general": 'server_tls_mode = "verify-full"'}, "pools.db.server_tls_mode: server_tls_mode is 'verify-full'"),
        ({"pool": 'server_tls_certificate = "c"'}, "server_tls_certificate is set but server_tls_private_key is not"),
        (
            {"general": 'server_tls_private_key = "c"'},
            "server_tls_private_key is set but server_tls_certificate is not",
        ),
        ({"general": 'server_tls_ca_cert = "/none/ca"'}, "Could not open '/none/ca'"),
        ({"user": "min_pool_size = 6"}, "min_pool_size of 6 cannot be larger than pool_size of 5"),
        ({"user": 'server_password = "s3cret"'}, "server_password requires server_username to be set"),
        (
            {"user": 'server_username = "x"\nserver_password = "SCRAM-SHA-256$4096:s3cret"'},
            "pools.db.users[0].server_password: found a SCRAM secret, which proves nothing to a server; expected the plain",
        ),
        ({"more": USER}, "pools.db.users[1]: duplicate username 'alice' in pool users"),
        ({"general": 'startup_parameters = {USER = "x"}'}, "'USER' is reserved and managed by"),
        ({"general": 'startup_parameters = {role = "x"}'}, "'role' is reserved"),
        ({"pool": 'startup_parameters = {"_pq_.x" = "x"}'}, "uses the reserved '_pq_.' prefix"),
        ({"pool": 'startup_parameters = {"a b" = "x"}'}, "is not a valid GUC name"),
        ({"pool": 'startup_parameters = {a = "s3cret\\u0000"}'}, "value for 'a' contains a null byte"),
        ({"pool": 'startup_parameters = {a = "1", A = "2"}'}, "both refer to PG GUC 'a'; keep one"),
        ({"pool": f'startup_parameters = {{a = "{"x" * 9500}"}}'}, "exceeds 9488"),
    ],
)
def test_rules_over_several_keys(sections, phrase):
    assert phrase in refusal(**sections)


@pytest.mark.parametrize(
    ("limits", "phrase"),
    [
        ("max_db_connections = 3", "sum of min_pool_size (4) exceeds max_db_connections (3)"),
        ("max_db_connections = 4\nmin_guaranteed_pool_size = 3", "users are guaranteed 6 connections of 4"),
        ("max_db_connections = 4", "pool_size of 'a' (5) exceeds max_db_connections (4)"),
        (
            "max_db_connections = 9\nreserve_pool_size = 1\nreserve_pool_timeout = 9000",
            "reserve_pool_timeout exceeds query_wait_timeout",
        ),
    ],
)
def test_limits_of_a_database_that_do_not_go_together(limits, phrase):
    users = "".join(
        f'[[pools.db.users]]\nusername = "{name}"\npassword = "x"\npool_size = 5\nmin_pool_size = 2\n' for name in "ab"
    )
    text = f"{GENERAL}[pools.db]\n{limits}\n{users}"
    if phrase.startswith("sum"):
        with pytest.raises(ConfigError) as caught:
            loader.loads(text)
        assert phrase in caught.value.message
    else:
        assert any(phrase in str(warning) for warning in loader.loads(text).warnings)


@pytest.mark.parametrize("key", ["reserve_pool_size", "min_guaranteed_pool_size"])
def test_what_goes_with_a_limit_that_is_not_set_is_warned_of(key):
    (warning,) = load(pool=f"{key} = 2").warnings
    assert f"{key}: {key} has no effect without max_db_connections" in warning
    assert load(pool=f"{key} = 2\nmax_db_connections = 50").warnings == ()


def test_old_keys_are_refused_with_the_new_one():
    assert 'accepted is false. Old; write server_tls_mode = "require".' in refusal(general="server_tls = true")


def test_startup_parameters_must_fit_together():
    half = "x" * 5000
    message = refusal(general=f'startup_parameters = {{a = "{half}"}}', pool=f'startup_parameters = {{b = "{half}"}}')
    assert "pools.db.startup_parameters" in message


@pytest.mark.parametrize(("user", "password"), [("admin", "admin"), ("boss", "boss"), ("boss", "")])
def test_a_console_password_that_anybody_guesses_is_warned_of(user, password):
    text = f'[general]\nadmin_username = "{user}"\nadmin_password = "{password}"\n[pools]\n'
    (warning,) = loader.loads(text).warnings
    assert "pg_doorman.toml:3: general.admin_password: anybody can guess it" in warning


def test_a_scram_secret_with_min_pool_size_is_warned_of():
    scram = '[[pools.x.users]]\nusername = "u"\npassword = "SCRAM-SHA-256$x"\npool_size = 5\n'
    (warning,) = load(more=scram + "min_pool_size = 1").warnings
    assert "pools.x.users[0].min_pool_size: the user's SCRAM secret alone can't log in" in warning
    assert load(more=scram + "min_pool_size = 0").warnings == ()
    assert load(more=scram + 'min_pool_size = 1\nserver_username = "s"\nserver_password = "p"').warnings == ()
    assert load(user="min_pool_size = 1").warnings == ()


def test_warnings():
    config = load(general="tcp_socket_buffer_size = 1", more="[pools.pgbouncer]")
    assert [warning.split(": ")[1] for warning in config.warnings] == [
        "general.tcp_socket_buffer_size",
        "pools.pgbouncer",
    ]


@pytest.mark.parametrize(
    ("line", "warning"),
    [
        ('proxy_protocol = ["10.0.0.0/8", "::/0"]', "general.proxy_protocol: '::/0' has everybody"),
        ('mock_authentication_secret = "a short one"', "general.mock_authentication_secret: fewer than 16 characters"),
    ],
)
def test_what_gives_too_much_away_is_warned_of(line, warning):
    (found,) = load(general=line).warnings
    assert warning in found
    assert "a short one" not in found
    fine = 'proxy_protocol = ["10.0.0.0/8"]\nmock_authentication_secret = "sixteen letters!"'
    assert load(general=fine).warnings == ()


@pytest.mark.parametrize(
    "line", ["admin_password = 5", "admin_password = ['x-s3cret']", "admin_password = 's3cret\\u0000'"]
)
def test_a_wrong_secret_is_not_shown(line):
    text = f'[general]\nadmin_username = "a"\n{line}\n[pools]\n'.replace("'s3cret\\u0000'", '"s3cret\\u0000"')
    with pytest.raises(ConfigError) as caught:
        loader.loads(text)
    assert "general.admin_password" in caught.value.message
    assert "s3cret" not in caught.value.message
    assert "5" not in caught.value.message


def test_secrets_are_not_in_any_representation():
    config = load(user='server_username = "s"\nserver_password = "serv3r-s3cret"')
    assert "s3cret" not in repr(config)
    assert "s3cret" not in repr(model.show_rows(config))


def test_show_rows():
    config = load(general='idle_timeout = "5s"', pool='pool_mode = "session"')
    rows = {key: rest for key, *rest in model.show_rows(config)}
    assert rows["idle_timeout"] == ["5000", "600000", "yes"]
    assert rows["port"] == ["5432", "5432", "no"]
    assert rows["pools.db.pool_mode"] == ["session", "transaction", "yes"]
    assert rows['pools."db".users'] == ["alice", "-", "yes"]
    assert rows["admin_password"][0] == "********"
    assert {name for name, _ in keys_of(model.General)} <= rows.keys()


def test_every_key_says_what_it_is():
    once = (model.General, model.Talos, model.Web, model.Statsd, model.Include)
    for section in (*once, model.Pool, model.User, model.AuthQuery):
        documented = {name for name, _ in keys_of(section)}
        assert {field.name for field in dataclasses.fields(section)} - documented <= {"users", "auth_query"}
        for name, key in keys_of(section):
            assert key.doc.rstrip().endswith("."), name
            assert key.default is not None or key.unset, name


# -- files


def test_a_missing_file(tmp_path):
    with pytest.raises(ConfigError, match=r"^Could not open '.*nowhere.toml': No such file"):
        loader.load(str(tmp_path / "nowhere.toml"))


def test_a_directory_or_other_bytes(tmp_path):
    with pytest.raises(ConfigError, match="Could not open"):
        loader.load(str(tmp_path))
    file = tmp_path / "x.toml"
    file.write_bytes(b"a = 1\nb = '\xff'\n")
    with pytest.raises(ConfigError, match=r"x\.toml:2: this is not UTF-8"):
        loader.load(str(file))


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Writes files by name into the working directory, each name without a suffix."""
    monkeypatch.chdir(tmp_path)

    def write(**texts: str) -> None:
        for name, text in texts.items():
            (tmp_path / f"{name}.toml").write_text(text)

    return write


INCLUDE = '[include]\nfiles = ["a.toml", "b.toml"]\n'


def test_includes_are_merged_in_order(files):
    files(
        main=GENERAL + "port = 1\nhba = ['10.0.0.0/8']\n[general.startup_parameters]\na = '1'\n" + POOL + INCLUDE,
        a="[general]\nport = 2\nbacklog = 2\nhba = ['::1/128']\n[general.startup_parameters]\nb = '2'\n",
        b="[general]\nport = 3\n[[pools.db.users]]\nusername = 'bob'\npassword = ''\npool_size = 1\n[pools.other]\n",
    )
    config = loader.load("main.toml")
    assert (config.general.port, config.general.backlog) == (3, 2)
    assert config.general.hba == ("10.0.0.0/8", "::1/128")
    assert config.general.startup_parameters == (("a", "1"), ("b", "2"))
    assert [user.username for user in config.pools["db"].users] == ["alice", "bob"]
    assert list(config.pools) == ["db", "other"]


def test_errors_name_the_included_file_and_its_line(files):
    files(
        main=GENERAL + POOL + INCLUDE,
        a="",
        b="# b\n[[pools.db.users]]\nusername = 'bob'\npassword = ''\npool_size = 1\npool_sice = 1\n",
    )
    with pytest.raises(ConfigError, match=r"^b\.toml:6: pools\.db\.users\[1\]\.pool_sice: unknown key"):
        loader.load("main.toml")


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        (
            "[general]\nport = {a = 1}\n",
            r"^Could not merge config file b\.toml:2: general\.port is a table here and a value",
        ),
        ("[pools.db.users.0]\nusername = 'x'\n", r"Could not merge config file b\.toml:1: pools\.db\.users is a table"),
        ("[include]\nfiles = []\n", r"^b\.toml:1: include: an included file can't include others"),
        ("x = [", r"^b\.toml:1: "),
    ],
)
def test_includes_that_do_not_fit(files, text, phrase):
    files(main=GENERAL + "port = 1\n" + POOL + INCLUDE, a="", b=text)
    with pytest.raises(ConfigError, match=phrase):
        loader.load("main.toml")


def test_a_missing_include(files):
    files(main=GENERAL + POOL + INCLUDE, a="")
    with pytest.raises(ConfigError, match=r"Could not open 'b\.toml'"):
        loader.load("main.toml")


def test_pg_hba_in_three_forms(files):
    files(rules="host all all all reject\n")
    assert load(general='pg_hba = """\nlocal all all trust"""').general.pg_hba.text == "local all all trust"
    inline = load(general='pg_hba = { content = """\nlocal all all trust\n""" }').general.pg_hba
    assert (inline.name, inline.text) == ("general.pg_hba", "local all all trust\n")
    path = load(general='pg_hba = { path = "rules.toml" }').general.pg_hba
    assert (path.name, path.text) == ("rules.toml", "host all all all reject\n")
    assert "general.pg_hba: Could not open 'gone'" in refusal(general='pg_hba = { path = "gone" }')


# -- [statsd] and [web]


def test_statsd_is_off_unless_a_host_is_named():
    statsd = load().statsd
    assert (statsd.host, statsd.port, statsd.prefix, statsd.interval, statsd.tag_style) == (
        *(None, 8125, "pgdoorman", 10.0, "none"),
    )
    statsd = load(more='[statsd]\nhost = "h"\nprefix = "a.b-c_d"\ntag_style = "datadog"\ninterval = "1s"').statsd
    assert (statsd.host, statsd.prefix, statsd.interval, statsd.tag_style) == ("h", "a.b-c_d", 1.0, "datadog")


@pytest.mark.parametrize("prefix", ["", "a..b", ".a", "a.", "a:b", "a b", "a|b", "é", "a\\n"])
def test_a_prefix_is_parts_of_a_name(prefix):
    assert "statsd.prefix: found" in refusal(more=f'[statsd]\nprefix = "{prefix}"')


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ('tag_style = "prometheus"', "statsd.tag_style: unknown variant"),
        ("port = 0", "an integer from 1 to 65535"),
        ("interval = 0", "must be > 0"),
        ("hots = 'x'", "did you mean host?"),
    ],
)
def test_what_statsd_does_not_take(line, text):
    assert text in refusal(more=f"[statsd]\n{line}")


def test_web_listens_on_loopback_unless_told_otherwise():
    for name in ("web", "prometheus"):
        config = load(more=f"[{name}]\nenabled = true")
        assert (config.web.enabled, config.web.host, config.web.port, config.warnings) == (True, "127.0.0.1", 9127, ())


@pytest.mark.parametrize("key", ["ui", "sso_enabled"])
def test_pages_and_tokens_are_warned_of(key):
    (warning,) = load(more=f"[web]\nenabled = true\n{key} = true").warnings
    assert f"web.{key}: not supported yet" in warning


def test_peers_by_id():
    more = """[peers.10]
host = "/run/other"
pool_size = 3
proxy_protocol = true
[peers.2]
host = "10.0.0.2"
port = 6432
"""
    config = load(general="peer_id = 2", more=more)
    assert config.general.peer_id == 2
    assert config.warnings == ()
    assert list(config.peers) == [2, 10]
    assert dataclasses.astuple(config.peers[2]) == ("10.0.0.2", 6432, 20, False)
    assert dataclasses.astuple(config.peers[10]) == ("/run/other", 5432, 3, True)
    shown = {row[0]: row[1] for row in model.show_rows(config)}
    assert (shown["peer_id"], shown["peers.2.port"], shown["peers.10.host"]) == ("2", "6432", "/run/other")


def test_peers_in_yaml():
    text = """
general: {admin_username: admin, admin_password: adm1n-s3cret, peer_id: 1}
pools: {}
peers:
  2: {host: 10.0.0.2, port: 6432}
  "3": {host: other.example}
"""
    config = loader.loads(text, "pg_doorman.yaml")
    assert {number: (peer.host, peer.port) for number, peer in config.peers.items()} == {
        2: ("10.0.0.2", 6432),
        3: ("other.example", 5432),
    }


def test_peers_without_an_id_of_ones_own_are_warned_of():
    (warning,) = load(more='[peers.2]\nhost = "h"').warnings
    assert "peers: without general.peer_id no cancel request is passed on" in warning
    assert load().general.peer_id == 0


@pytest.mark.parametrize(
    ("more", "phrase"),
    [
        ("[peers.0]\nhost = 'h'", 'peers.0: found "0", expected the peer_id of a pooler, an integer from 1 to 2000'),
        ("[peers.2001]\nhost = 'h'", 'found "2001", expected the peer_id'),
        ("[peers.02]\nhost = 'h'", 'found "02", expected the peer_id'),
        ("[peers.-1]\nhost = 'h'", 'found "-1", expected the peer_id'),
        ("[peers.two]\nhost = 'h'", 'found "two", expected the peer_id'),
        ("[peers.\"\u0662\"]\nhost = 'h'", "expected the peer_id"),
        ("[peers.99999999999999999999]\nhost = 'h'", "expected the peer_id"),
        ("[peers.2]\nport = 1", "peers.2: missing field `host`"),
        ("[peers.2]\nhost = ''", "peers.2.host: found an empty string"),
        ("[peers.2]\nhost = 'h'\nport = 0", "peers.2.port: found 0, expected an integer from 1 to 65535"),
        ("[peers.2]\nhost = 'h'\npool_size = 0", "peers.2.pool_size: found 0, expected an integer of at least 1"),
        ("[peers.2]\nhost = 'h'\nuser = 'x'", "peers.2.user: unknown key"),
        ("[peers]\n2 = 'host=h port=1'", "peers.2: found a string, expected a table"),
        ("[[peers]]\nhost = 'h'", "peers: found an array, expected tables [peers.ID]"),
    ],
)
def test_peers_that_are_refused(more, phrase):
    message = refusal(general="peer_id = 1", more=more)
    assert phrase in message
    assert message.startswith("pg_doorman.toml:")


@pytest.mark.parametrize("peer_id", ["-1", "2001", "true", "'1'"])
def test_ids_that_are_none(peer_id):
    assert "general.peer_id: found" in refusal(general=f"peer_id = {peer_id}")
