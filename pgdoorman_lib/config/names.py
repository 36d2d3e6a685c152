"""What to say of a name that is no key here: the key that was meant, where it belongs, or why there is none."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping

_PLAIN_MS = " (a plain number counts seconds there, milliseconds here)"
_CLIENT_TLS = "tls_certificate, tls_private_key, tls_ca_cert and tls_mode in [general]"
_SET_AT_SERVER = "there is no such limit here; set {} in PostgreSQL or in startup_parameters"
_OPENSSL = "there is none here: TLS 1.2 and later with OpenSSL's own choice"
_LOOKED_UP = "users looked up in the server are not supported yet; list them under [[pools.NAME.users]]"

#: Names of PgBouncer's settings (https://www.pgbouncer.org/config.html) that are not the same here.
_PGBOUNCER = {
    # Sections.
    "pgbouncer": "its settings belong to [general]",
    "databases": "each line there is a table [pools.NAME] here",
    "users": "each user belongs to a pool: [[pools.NAME.users]]",
    "peers": "there are none here",
    # Listening.
    "listen_addr": "host in [general]",
    "listen_port": "port in [general]",
    "listen_backlog": "backlog in [general]",
    "unix_socket_group": "there is none here; see unix_socket_mode in [general]",
    "tcp_defer_accept": "there is none here",
    "tcp_keepalive": "always on here; see tcp_keepalives_idle in [general]",
    "tcp_keepcnt": "tcp_keepalives_count in [general]",
    "tcp_keepidle": "tcp_keepalives_idle in [general]",
    "tcp_keepintvl": "tcp_keepalives_interval in [general]",
    "tcp_socket_buffer": "tcp_socket_buffer_size in [general]",
    # Databases.
    "dbname": "server_database in [pools.NAME]",
    "user": "server_username in [[pools.NAME.users]]",
    "connect_query": "there is none here; see startup_parameters",
    "client_encoding": "there is none here; see startup_parameters",
    "datestyle": "there is none here; see startup_parameters",
    "timezone": "there is none here; see startup_parameters",
    # Sizes.
    "max_client_conn": "max_connections in [general]",
    "default_pool_size": "pool_size of each user in [[pools.NAME.users]]; there is no default",
    "max_user_connections": "there is none here; pool_size of each user in [[pools.NAME.users]] is the limit",
    "max_db_client_connections": "there is none here; see max_connections in [general]",
    "max_user_client_connections": "there is none here; see max_connections in [general]",
    "max_prepared_statements": "server_prepared_statements_cache_size in [general]",
    # Who comes in.
    "auth_file": "there is none here; list the users under [[pools.NAME.users]]",
    "auth_type": "there is none here: each user's secret says how it is asked for; see pg_hba in [general]",
    "auth_hba_file": 'pg_hba = { path = "..." } in [general]',
    "auth_ident_file": "there is none here",
    "auth_ldap_options": "there is none here",
    "auth_user": _LOOKED_UP,
    "auth_query": _LOOKED_UP,
    "auth_dbname": _LOOKED_UP,
    "admin_users": "admin_username and admin_password in [general]",
    "stats_users": "there is none here; the console has one user, admin_username in [general]",
    "scram_iterations": "there is none here: a stored secret has its own",
    # Servers and clients.
    "server_idle_timeout": "idle_timeout in [general] or [pools.NAME]" + _PLAIN_MS,
    "server_connect_timeout": "connect_timeout in [general] or [pools.NAME]" + _PLAIN_MS,
    "server_check_delay": "server_idle_check_timeout in [general]" + _PLAIN_MS,
    "server_check_query": "there is none here; see server_idle_check_timeout in [general]",
    "server_login_retry": "there is none here: connects are tried again with growing pauses",
    "server_reset_query": "there is none here; see cleanup_server_connections and session_state in [pools.NAME]",
    "server_reset_query_always": "there is none here; see session_state in [pools.NAME]",
    "server_fast_close": "there is none here",
    "ignore_startup_parameters": "there is none here: what a client sends at its login reaches the server",
    "track_extra_parameters": "there is none here: every parameter a client sets follows it",
    "application_name_add_host": "there is none here",
    "disable_pqexec": "there is none here",
    "query_timeout": _SET_AT_SERVER.format("statement_timeout"),
    "idle_transaction_timeout": _SET_AT_SERVER.format("idle_in_transaction_session_timeout"),
    "transaction_timeout": _SET_AT_SERVER.format("transaction_timeout"),
    "client_idle_timeout": "there is no such limit here",
    "cancel_wait_timeout": "there is no such limit here",
    "suspend_timeout": "there is none here; see shutdown_timeout in [general]",
    "autodb_idle_timeout": "there is none here",
    "dns_max_ttl": "there is none here",
    "dns_nxdomain_ttl": "there is none here",
    "dns_zone_check_period": "there is none here",
    "resolv_conf": "there is none here",
    "max_packet_size": "there is none here; see max_memory_usage in [general]",
    "pkt_buf": "there is none here",
    "sbuf_loopcnt": "there is none here",
    "peer_id": "there is none here",
    # TLS.
    **{f"client_tls_{name}": _CLIENT_TLS for name in ("sslmode", "key_file", "cert_file", "ca_file")},
    "server_tls_sslmode": "server_tls_mode in [general] or [pools.NAME]",
    "server_tls_ca_file": "server_tls_ca_cert in [general] or [pools.NAME]",
    "server_tls_key_file": "server_tls_private_key in [general] or [pools.NAME]",
    "server_tls_cert_file": "server_tls_certificate in [general] or [pools.NAME]",
    **{
        f"{side}_tls{name}": _OPENSSL
        for side in ("client", "server")
        for name in ("_protocols", "_ciphers", "13_ciphers")
    },
    "client_tls_ecdhcurve": _OPENSSL,
    "client_tls_dheparams": _OPENSSL,
    # The process and its log.
    "log_connections": "log_client_connections in [general]",
    "log_disconnections": "log_client_disconnections in [general]",
    "log_pooler_errors": "there is none here: they are logged",
    "log_stats": "there is none here; see SHOW STATS",
    "stats_period": "there is none here",
    "verbose": "the option --log-level",
    "logfile": "there is none here: the log goes to standard error",
    "pidfile": "there is none here",
    "syslog": "syslog_prog_name in [general]",
    "syslog_ident": "syslog_prog_name in [general]",
    "syslog_facility": "there is none here",
    "service_name": "there is none here",
    "job_name": "there is none here",
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


def hint(name: str, known: Iterable[str], elsewhere: Mapping[str, str]) -> str:
    """What was meant by ``name``, which is none of ``known``, the names where it stands; "" if nothing comes to mind.

    ``elsewhere`` maps the names of all other sections to those sections.
    """
    known = list(known)
    if f"server_{name}" in known:
        return f"did you mean server_{name}?"
    if name in _PG_DOORMAN:
        return f"did you mean {_PG_DOORMAN[name]}?"
    if name in _PGBOUNCER:
        return f"PgBouncer's {name}: {_PGBOUNCER[name]}"
    if name in elsewhere and name not in known:
        return f"{name} belongs to {elsewhere[name]}"
    near = difflib.get_close_matches(name, known, n=1)
    if near:
        return f"did you mean {near[0]}?"
    if len(known) <= _FEW:
        return f"known here: {', '.join(known)}"
    return "nothing here has a name like it; conf/reference.toml lists all"
