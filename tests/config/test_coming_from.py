"""docs/coming-from.md: each setting of PgBouncer's sample file, told as the configuration tells it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pgdoorman_lib.config.keys import keys_of
from pgdoorman_lib.config.model import General, Pool, User
from pgdoorman_lib.config.names import hint

PAGE = Path(__file__).resolve().parents[2] / "docs" / "coming-from.md"
OURS = {name: key for model in (User, Pool, General) for name, key in keys_of(model)}
ROW = re.compile(r"\| ((?:`\w+`(?:, )?)+) \| (.+) \|")
#: A plain number means another unit there; the page says it in fewer words than the configuration.
UNITS = re.compile(r" \((?:a plain number counts|milliseconds where|seconds here).*\)")

#: Those of PgBouncer's etc/pgbouncer.ini.
SAMPLE = [
    "logfile",
    "pidfile",
    "listen_addr",
    "listen_port",
    "unix_socket_dir",
    "unix_socket_mode",
    "unix_socket_group",
    "peer_id",
    "query_wait_notify",
    "login_notify_message",
    "client_tls_sslmode",
    "client_tls_ca_file",
    "client_tls_key_file",
    "client_tls_cert_file",
    "client_tls_ciphers",
    "client_tls13_ciphers",
    "client_tls_protocols",
    "client_tls_dheparams",
    "client_tls_ecdhcurve",
    "server_tls_sslmode",
    "server_tls_ca_file",
    "server_tls_key_file",
    "server_tls_cert_file",
    "server_tls_protocols",
    "server_tls_ciphers",
    "server_tls13_ciphers",
    "auth_type",
    "auth_file",
    "auth_hba_file",
    "auth_ident_file",
    "auth_ldap_options",
    "auth_query",
    "auth_dbname",
    "auth_pam_confdir",
    "admin_users",
    "stats_users",
    "pool_mode",
    "max_prepared_statements",
    "scram_iterations",
    "server_reset_query",
    "server_reset_query_always",
    "track_extra_parameters",
    "ignore_startup_parameters",
    "server_check_query",
    "server_check_delay",
    "server_fast_close",
    "application_name_add_host",
    "stats_period",
    "max_client_conn",
    "default_pool_size",
    "min_pool_size",
    "reserve_pool_size",
    "reserve_pool_timeout",
    "max_db_connections",
    "max_user_connections",
    "server_round_robin",
    "syslog",
    "syslog_facility",
    "syslog_ident",
    "log_connections",
    "log_disconnections",
    "log_pooler_errors",
    "log_stats",
    "verbose",
    "server_lifetime",
    "server_idle_timeout",
    "server_connect_timeout",
    "server_login_retry",
    "query_timeout",
    "query_wait_timeout",
    "cancel_wait_timeout",
    "client_idle_timeout",
    "client_login_timeout",
    "pool_idle_timeout",
    "autodb_idle_timeout",
    "idle_transaction_timeout",
    "pkt_buf",
    "listen_backlog",
    "sbuf_loopcnt",
    "max_packet_size",
    "so_reuseport",
    "tcp_defer_accept",
    "tcp_socket_buffer",
    "tcp_keepalive",
    "tcp_keepcnt",
    "tcp_keepidle",
    "tcp_keepintvl",
    "tcp_user_timeout",
    "dns_max_ttl",
    "dns_zone_check_period",
    "dns_nxdomain_ttl",
    "resolv_conf",
    "disable_pqexec",
    "conffile",
    "service_name",
    "job_name",
]


def told() -> dict[str, str]:
    rows = ROW.findall(PAGE.read_text())
    return {name: text for names, text in rows for name in re.findall(r"\w+", names)}


def test_each_setting_has_its_place_in_the_table() -> None:
    assert list(told()) == SAMPLE


@pytest.mark.parametrize("name", SAMPLE)
def test_the_table_says_what_the_configuration_says(name: str) -> None:
    text = UNITS.sub("", told()[name])
    key = OURS.get(name)
    if key is not None:
        assert text.startswith("the same in ")
        assert text.endswith("not supported yet") == (key.support != "yes")
    else:
        assert UNITS.sub("", hint(name, (), {})) in (f"PgBouncer's {name} is {text}", f"PgBouncer's {name}: {text}")


def test_durations_say_that_plain_numbers_mean_something_else() -> None:
    for name, text in told().items():
        if name in OURS and OURS[name].kind == "duration" and OURS[name].support == "yes":
            assert "milliseconds where it has no unit" in text, name
