"""What PgBouncer's console sends: its tables' columns with a letter for each type, the rows of those with fixed names.

Columns, order and types were seen with 1.24.1 (test_console_beside_pgbouncer.py compares them with whichever PgBouncer
is installed); ``client_login_count`` is what later ones have more.
"""

from __future__ import annotations

#: Type OIDs: text, int4, int8, numeric.
OIDS = {"s": 25, "i": 23, "q": 20, "N": 1700}

_SOCKETS = (
    "type user database replication state addr port local_addr local_port connect_time request_time wait wait_us"
    " close_needed ptr link remote_pid tls application_name prepared_statements id"
)
_DEBUG = " recv_pos pkt_pos pkt_remain send_pos send_remain pkt_avail send_avail"
_COUNTED = "server_assignment_count xact_count query_count"
_TIMES = "xact_time query_time wait_time"

COLUMNS = {
    "CONFIG": ("ssss", "key value default changeable"),
    "DATABASES": (
        "ssissiiiissiiiiii",
        "name host port database force_user pool_size min_pool_size reserve_pool_size server_lifetime pool_mode"
        " load_balance_hosts max_connections current_connections max_client_connections current_client_connections"
        " paused disabled",
    ),
    "POOLS": (
        "ss" + "i" * 13 + "ss",
        "database user cl_active cl_waiting cl_active_cancel_req cl_waiting_cancel_req sv_active sv_active_cancel"
        " sv_being_canceled sv_idle sv_used sv_tested sv_login maxwait maxwait_us pool_mode load_balance_hosts",
    ),
    "CLIENTS": ("ssssssisissiiississii", _SOCKETS),
    "SERVERS": ("ssssssisissiiississii", _SOCKETS),
    "SOCKETS": ("ssssssisissiiississii" + "i" * 7, _SOCKETS + _DEBUG),
    "ACTIVE_SOCKETS": ("ssssssisissiiississii" + "i" * 7, _SOCKETS + _DEBUG),
    "USERS": (
        "ssssiiii",
        "name pool_size reserve_pool_size pool_mode max_user_connections current_connections"
        " max_user_client_connections current_client_connections",
    ),
    "VERSION": ("s", "version"),
    "PEERS": ("isii", "peer_id host port pool_size"),
    "PEER_POOLS": ("iiiii", "peer_id cl_active_cancel_req cl_waiting_cancel_req sv_active_cancel sv_login"),
    "LISTS": ("si", "list items"),
    "MEM": ("siiii", "name size used free memtotal"),
    "STATE": ("ss", "key value"),
    "DNS_HOSTS": ("sqs", "hostname ttl addrs"),
    "DNS_ZONES": ("sqi", "zonename serial count"),
    "STATS": (
        "s" + "N" * 24,
        "database total_server_assignment_count total_xact_count total_query_count total_received total_sent"
        " total_xact_time total_query_time total_wait_time total_client_parse_count total_server_parse_count"
        " total_bind_count total_client_login_count avg_server_assignment_count avg_xact_count avg_query_count avg_recv"
        " avg_sent avg_xact_time avg_query_time avg_wait_time avg_client_parse_count avg_server_parse_count"
        " avg_bind_count avg_client_login_count",
    ),
    "STATS_TOTALS": (
        "s" + "N" * 12,
        f"database {_COUNTED} bytes_received bytes_sent {_TIMES} client_parse_count server_parse_count bind_count"
        " client_login_count",
    ),
    "STATS_AVERAGES": (
        "s" + "N" * 12,
        f"database {_COUNTED} bytes_received bytes_sent {_TIMES} avg_client_parse_count avg_server_parse_count"
        " avg_bind_count client_login_count",
    ),
    "TOTALS": ("sN", "name value"),
}

LIST_ITEMS = (
    "databases users peers pools peer_pools free_clients used_clients login_clients free_servers used_servers dns_names"
    " dns_zones dns_queries dns_pending"
)

_TOTALS = (
    f"{_COUNTED} client_bytes server_bytes {_TIMES} ps_client_parse_count ps_server_parse_count ps_bind_count"
    " client_login_count"
)
TOTALS = " ".join(f"{prefix}_{name}" for prefix in ("total", "avg") for name in _TOTALS.split())

CONFIG_KEYS = (
    "admin_users application_name_add_host auth_dbname auth_file auth_hba_file auth_ident_file auth_ldap_options"
    " auth_query auth_type auth_user autodb_idle_timeout cancel_wait_timeout client_idle_timeout client_login_timeout"
    " client_tls13_ciphers client_tls_ca_file client_tls_cert_file client_tls_ciphers client_tls_dheparams"
    " client_tls_ecdhcurve client_tls_key_file client_tls_protocols client_tls_sslmode conffile default_pool_size"
    " disable_pqexec dns_max_ttl dns_nxdomain_ttl dns_zone_check_period idle_transaction_timeout"
    " ignore_startup_parameters job_name listen_addr listen_backlog listen_port log_connections log_disconnections"
    " log_pooler_errors log_stats logfile max_client_conn max_db_client_connections max_db_connections max_packet_size"
    " max_prepared_statements max_user_client_connections max_user_connections min_pool_size peer_id pidfile pkt_buf"
    " pool_mode query_timeout query_wait_notify query_wait_timeout reserve_pool_size reserve_pool_timeout resolv_conf"
    " sbuf_loopcnt scram_iterations server_check_delay server_check_query server_connect_timeout server_fast_close"
    " server_idle_timeout server_lifetime server_login_retry server_reset_query server_reset_query_always"
    " server_round_robin server_tls13_ciphers server_tls_ca_file server_tls_cert_file server_tls_ciphers"
    " server_tls_key_file server_tls_protocols server_tls_sslmode so_reuseport stats_period stats_users suspend_timeout"
    " syslog syslog_facility syslog_ident tcp_defer_accept tcp_keepalive tcp_keepcnt tcp_keepidle tcp_keepintvl"
    " tcp_socket_buffer tcp_user_timeout track_extra_parameters transaction_timeout unix_socket_dir unix_socket_group"
    " unix_socket_mode user verbose"
)
