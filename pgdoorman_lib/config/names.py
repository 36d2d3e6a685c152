"""What to say of a name that is no key here: the key that was meant, where it belongs, or why there is none."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping

_PLAIN_MS = " (a plain number counts seconds there, milliseconds here)"
_NONE = "there is none here"
_NO_LIMIT = "there is no such limit here"
_OPENSSL = "there is none here: OpenSSL's own choice"
_LOOKED_UP = "{} in [pools.NAME.auth_query]"

#: Settings of PgBouncer (https://www.pgbouncer.org/config.html) that have another name here.
_RENAMED = {
    "listen_addr": "host in [general]",
    "listen_port": "port in [general]",
    "listen_backlog": "backlog in [general]",
    "tcp_keepcnt": "tcp_keepalives_count in [general]",
    "tcp_keepidle": "tcp_keepalives_idle in [general]",
    "tcp_keepintvl": "tcp_keepalives_interval in [general]",
    "tcp_socket_buffer": "tcp_socket_buffer_size in [general]",
    "dbname": "server_database in [pools.NAME]",
    "user": "server_username in [[pools.NAME.users]]",
    "max_client_conn": "max_connections in [general]",
    "default_pool_size": "pool_size of each user in [[pools.NAME.users]]; there is no default",
    "max_prepared_statements": "server_prepared_statements_cache_size in [general]",
    "auth_hba_file": 'pg_hba = { path = "..." } in [general]',
    "auth_ident_file": 'pg_ident = { path = "..." } in [general]',
    "server_idle_timeout": "idle_timeout in [general] or [pools.NAME]" + _PLAIN_MS,
    "server_connect_timeout": "connect_timeout in [general] or [pools.NAME]" + _PLAIN_MS,
    "server_check_delay": "server_idle_check_timeout in [general]" + _PLAIN_MS,
    "client_tls_sslmode": "tls_mode in [general]",
    "client_tls_key_file": "tls_private_key in [general]",
    "client_tls_cert_file": "tls_certificate in [general]",
    "client_tls_ca_file": "tls_ca_cert in [general]",
    "client_tls_protocols": "tls_min_version in [general]",
    "client_tls_ciphers": "tls_ciphers in [general]",
    "server_tls_protocols": "server_tls_min_version in [general] or [pools.NAME]",
    "server_tls_sslmode": "server_tls_mode in [general] or [pools.NAME]",
    "server_tls_ca_file": "server_tls_ca_cert in [general] or [pools.NAME]",
    "server_tls_key_file": "server_tls_private_key in [general] or [pools.NAME]",
    "server_tls_cert_file": "server_tls_certificate in [general] or [pools.NAME]",
    "auth_user": _LOOKED_UP.format("user"),
    "auth_query": _LOOKED_UP.format("query"),
    "auth_dbname": _LOOKED_UP.format("database"),
    "log_connections": "log_client_connections in [general]",
    "log_disconnections": "log_client_disconnections in [general]",
    "logfile": "log_file in [general]",
    "verbose": "the option --log-level",
    "syslog": "syslog_prog_name in [general]",
    "syslog_ident": "syslog_prog_name in [general]",
}

#: Its sections, and settings that have no counterpart: what to say of them.
_ABSENT = {
    "pgbouncer": "its settings belong to [general]",
    "databases": "each line there is a table [pools.NAME] here",
    "users": "each user belongs to a pool: [[pools.NAME.users]]",
    "unix_socket_group": "there is none here; see unix_socket_mode in [general]",
    "tcp_defer_accept": _NONE,
    "tcp_keepalive": "always on here; see tcp_keepalives_idle in [general]",
    "connect_query": _NONE + "; see startup_parameters",
    "client_encoding": _NONE + "; see startup_parameters",
    "datestyle": _NONE + "; see startup_parameters",
    "timezone": _NONE + "; see startup_parameters",
    "auth_file": "there is none here; list the users under [[pools.NAME.users]]",
    "auth_type": "there is none here: each user's secret says how it is asked for; see pg_hba in [general]",
    "auth_ldap_options": "there is none here: they are options of the method ldap in pg_hba",
    "scram_iterations": "there is none here: a stored secret has its own",
    "server_check_query": "there is none here; see server_idle_check_timeout in [general]",
    "server_login_retry": "there is none here: connects are tried again with growing pauses",
    "server_reset_query": "there is none here; see cleanup_server_connections and session_state in [pools.NAME]",
    "server_reset_query_always": "there is none here; see session_state in [pools.NAME]",
    "server_fast_close": _NONE,
    "ignore_startup_parameters": "there is none here: what a client sends at its login reaches the server",
    "track_extra_parameters": "there is none here: every parameter a client sets follows it",
    "disable_pqexec": _NONE,
    "cancel_wait_timeout": _NO_LIMIT,
    "suspend_timeout": "there is none here; see shutdown_timeout in [general]",
    "dns_max_ttl": _NONE,
    "dns_nxdomain_ttl": _NONE,
    "dns_zone_check_period": _NONE,
    "resolv_conf": _NONE,
    "max_packet_size": "there is none here; see max_memory_usage in [general]",
    "pkt_buf": _NONE,
    "sbuf_loopcnt": _NONE,
    "client_tls13_ciphers": _OPENSSL,
    "server_tls13_ciphers": _OPENSSL,
    "client_tls_ecdhcurve": _OPENSSL,
    "client_tls_dheparams": _OPENSSL,
    "log_pooler_errors": "there is none here: they are logged",
    "stats_period": _NONE,
    "pidfile": _NONE,
    "syslog_facility": _NONE,
    "login_notify_message": _NONE,
    "pool_idle_timeout": 'there is none here; pools of [pools."*"] go after autodb_idle_timeout in [general]',
    "conffile": _NONE,
    "service_name": _NONE,
    "job_name": _NONE,
}

#: What pg_doorman had at some time, or its documentation has by mistake.
_PG_DOORMAN = {
    "default_tcp_so_linger": "tcp_so_linger",
    "max_message_size": "message_size_to_be_stream",
    "tls_ca_file": "tls_ca_cert",
    "log_level": "the option --log-level",
}

_FEW = 8
"""As many names are listed when none is near."""


def near(name: str, known: Iterable[str]) -> str:
    """A question to be put behind an error about ``name``, "" if none of ``known`` is like it."""
    found = difflib.get_close_matches(name, list(known), n=1)
    return f'; did you mean "{found[0]}"?' if found else ""


def hint(name: str, known: Iterable[str], elsewhere: Mapping[str, str]) -> str:
    """What was meant by ``name``, which is none of ``known``, the names where it stands; "" if nothing comes to mind.

    ``elsewhere`` maps the names of all other sections to those sections.
    """
    known = list(known)
    if f"server_{name}" in known:
        return f"did you mean server_{name}?"
    if name in _PG_DOORMAN:
        return f"did you mean {_PG_DOORMAN[name]}?"
    if name in _RENAMED:
        return f"PgBouncer's {name} is {_RENAMED[name]}"
    if name in _ABSENT:
        return f"PgBouncer's {name}: {_ABSENT[name]}"
    if name in elsewhere and name not in known:
        return f"{name} belongs to {elsewhere[name]}"
    alike = difflib.get_close_matches(name, known, n=1)
    if alike:
        return f"did you mean {alike[0]}?"
    if len(known) <= _FEW:
        return f"known here: {', '.join(known)}"
    return "nothing here has a name like it; conf/reference.toml lists all"
