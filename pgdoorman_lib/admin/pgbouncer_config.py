"""SHOW CONFIG as PgBouncer has it: its keys in its units, each with what holds here.

A key for something that is not here has the value that says so there (a limit of 0, an empty text), and can't be
changed. Durations are seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pgdoorman_lib.admin.tables import Row, flag
from pgdoorman_lib.config.general import General
from pgdoorman_lib.config.keys import keys_of
from pgdoorman_lib.config.model import Config
from pgdoorman_lib.net.measures import BLOCK_SIZE
from pgdoorman_lib.record import record
from pgdoorman_lib.views import RunningPooler


@record(frozen=True, slots=True)
class _Key:
    """One of PgBouncer's keys: ``ours`` is the key of [general] that it is here, ``value`` makes its text."""

    name: str
    value: Callable[[Any], str | None]
    ours: str = ""


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _or_empty(value: str | None) -> str:
    return value or ""


def _seconds(value: float) -> str:
    return f"{value:g}"


def _names(value: tuple[str, ...]) -> str:
    return ",".join(value)


def _octal(value: int) -> str:
    return f"{value:04o}"


def _ciphers(value: str | None) -> str:
    return value or "default"


def _protocols(oldest: str) -> str:
    return "secure" if oldest == "tlsv1.2" else oldest


def _fixed(value: str | None) -> Callable[[Any], str | None]:
    return lambda _: value


def _absent(names: str, value: str | None) -> tuple[_Key, ...]:
    return tuple(_Key(name, _fixed(value)) for name in names.split())


_KEYS = sorted(
    (
        _Key("application_name_add_host", flag, "application_name_add_host"),
        _Key("autodb_idle_timeout", _seconds, "autodb_idle_timeout"),
        _Key("client_idle_timeout", _seconds, "client_idle_timeout"),
        _Key("idle_transaction_timeout", _seconds, "idle_transaction_timeout"),
        _Key("max_db_client_connections", _text, "max_db_client_connections"),
        _Key("max_user_client_connections", _text, "max_user_client_connections"),
        _Key("max_user_connections", _text, "max_user_connections"),
        _Key("query_timeout", _seconds, "query_timeout"),
        _Key("query_wait_notify", _seconds, "query_wait_notify"),
        _Key("transaction_timeout", _seconds, "transaction_timeout"),
        _Key("auth_type", _fixed("hba")),
        _Key("client_login_timeout", _seconds, "client_login_timeout"),
        _Key("client_tls_ca_file", _text, "tls_ca_cert"),
        _Key("client_tls_cert_file", _text, "tls_certificate"),
        _Key("client_tls_key_file", _text, "tls_private_key"),
        _Key("client_tls_ciphers", _ciphers, "tls_ciphers"),
        _Key("client_tls_protocols", _protocols, "tls_min_version"),
        _Key("client_tls_sslmode", _text, "tls_mode"),
        _Key("listen_addr", _names, "host"),
        _Key("listen_backlog", _text, "backlog"),
        _Key("listen_port", _text, "port"),
        _Key("log_connections", flag, "log_client_connections"),
        _Key("log_disconnections", flag, "log_client_disconnections"),
        _Key("log_stats", flag, "log_stats"),
        _Key("logfile", _or_empty, "log_file"),
        _Key("max_client_conn", _text, "max_connections"),
        _Key("query_wait_timeout", _seconds, "query_wait_timeout"),
        _Key("server_check_delay", _seconds, "server_idle_check_timeout"),
        _Key("server_connect_timeout", _seconds, "connect_timeout"),
        _Key("server_idle_timeout", _seconds, "idle_timeout"),
        _Key("server_lifetime", _seconds, "server_lifetime"),
        _Key("server_round_robin", flag, "server_round_robin"),
        _Key("server_tls_ca_file", _text, "server_tls_ca_cert"),
        _Key("server_tls_cert_file", _text, "server_tls_certificate"),
        _Key("server_tls_key_file", _text, "server_tls_private_key"),
        _Key("server_tls_ciphers", _ciphers, "server_tls_ciphers"),
        _Key("server_tls_protocols", _protocols, "server_tls_min_version"),
        _Key("server_tls_sslmode", _text, "server_tls_mode"),
        _Key("so_reuseport", flag, "so_reuseport"),
        _Key("stats_users", _names, "stats_users"),
        _Key("peer_id", _text, "peer_id"),
        _Key("suspend_timeout", _seconds, "shutdown_timeout"),
        _Key("syslog", lambda name: flag(name is not None), "syslog_prog_name"),
        _Key("syslog_ident", _or_empty, "syslog_prog_name"),
        _Key("tcp_keepalive", _fixed("1")),
        _Key("tcp_keepcnt", _text, "tcp_keepalives_count"),
        _Key("tcp_keepidle", _text, "tcp_keepalives_idle"),
        _Key("tcp_keepintvl", _text, "tcp_keepalives_interval"),
        _Key("tcp_socket_buffer", _text, "tcp_socket_buffer_size"),
        _Key("tcp_user_timeout", lambda seconds: str(seconds * 1000), "tcp_user_timeout"),
        _Key("unix_socket_dir", _text, "unix_socket_dir"),
        _Key("unix_socket_mode", _octal, "unix_socket_mode"),
        *_absent("log_pooler_errors", "1"),
        *_absent("cancel_wait_timeout server_login_retry", "0"),
        *_absent("dns_max_ttl dns_nxdomain_ttl dns_zone_check_period", "0"),
        *_absent("max_db_connections", "0"),
        *_absent("default_pool_size min_pool_size reserve_pool_size reserve_pool_timeout", "0"),
        *_absent("disable_pqexec server_fast_close server_reset_query_always tcp_defer_accept", "0"),
        *_absent("auth_dbname auth_file auth_ident_file auth_ldap_options auth_query auth_user", None),
        *_absent("client_tls13_ciphers server_tls13_ciphers user", None),
        *_absent("auth_hba_file ignore_startup_parameters job_name pidfile resolv_conf", ""),
        *_absent("server_check_query server_reset_query syslog_facility unix_socket_group", ""),
        *_absent("client_tls_dheparams client_tls_ecdhcurve", "auto"),
        _Key("pkt_buf", _fixed(str(BLOCK_SIZE))),
        _Key("max_packet_size", _fixed(str((1 << 31) - 1))),
        _Key("pool_mode", _fixed("transaction")),
        _Key("sbuf_loopcnt", _fixed("0")),
        _Key("scram_iterations", _fixed("4096")),
        _Key("stats_period", _fixed("15")),
        _Key("track_extra_parameters", _fixed("*")),
        _Key("verbose", _fixed("0")),
    ),
    key=lambda key: key.name,
)


def _made_of_several(config: Config) -> dict[str, str]:
    """Keys that are more than one of ours, or none of [general]'s."""
    general = config.general
    kept = general.server_prepared_statements_cache_size
    if kept is None:
        kept = general.prepared_statements_cache_size
    return {
        "admin_users": _names((general.admin_username, *general.admin_users)),
        "conffile": config.path,
        "max_prepared_statements": str(kept if general.prepared_statements else 0),
    }


def config_rows(pooler: RunningPooler) -> list[Row]:
    """SHOW CONFIG: (key, value in force, default, changeable), by name; NULL is unset or without default."""
    general: General = pooler.config.general
    known = dict(keys_of(general))
    rows: list[Row] = [(name, value, None, "yes") for name, value in _made_of_several(pooler.config).items()]
    for key in _KEYS:
        if not key.ours:
            rows.append((key.name, key.value(None), key.value(None), "no"))
            continue
        ours = known[key.ours]
        changeable = "no" if ours.reload == "restart" else "yes"
        default = key.value(ours.default_value())
        rows.append((key.name, key.value(getattr(general, key.ours)), default, changeable))
    return sorted(rows, key=lambda row: str(row[0]))
