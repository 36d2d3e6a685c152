"""The keys of [general]."""

from __future__ import annotations

from pgdoorman_lib.config.keys import REQUIRED, HbaSource, setting
from pgdoorman_lib.config.processors import processors
from pgdoorman_lib.record import record
from pgdoorman_lib.wire.cancel_keys import MAX_PEER_ID

U16 = 65535
U32 = 2**32 - 1
CLIENT_TLS_MODES = ("allow", "disable", "require", "verify-full")
TLS_VERSIONS = ("tlsv1.2", "tlsv1.3")
TLS_NEGOTIATIONS = ("postgres", "direct")
CHANNEL_BINDINGS = ("disable", "prefer", "require")
SERVER_TLS_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
QUICK = (0.1, float("inf"))
SLOW = (30.0, float("inf"))
"""Seconds that plain numbers are believed to mean: of limits for what takes milliseconds, and of connections' lives."""
NO_EFFECT = "no effect"
NOT_YET = "not yet"
#: Each has a channel to each other one.
MOST_WORKERS = 64
#: PostgreSQL and the applications want processors, too, and few pools have servers for more (docs/performance.md).
MOST_UNLESS_TOLD = 4


def workers_unless_told() -> int:
    """How many worker processes there are where the configuration does not say."""
    return min(MOST_UNLESS_TOLD, processors())


@record(frozen=True, kw_only=True)
class General:
    """[general]: the process, its listeners, and the defaults of every pool."""

    # -- listening
    host: tuple[str, ...] = setting(
        "hosts",
        "0.0.0.0",
        "Address or list of addresses to listen on; [] with unix_socket_dir: no TCP.",
        reload="restart",
    )
    port: int = setting(
        "integer", 5432, "Port to listen on, also in the unix socket's name.", reload="restart", maximum=U16
    )
    listen: tuple[tuple[str, int], ...] = setting(
        "addresses", [], 'More addresses to listen on, each "host:port".', reload="restart", ours=True
    )
    backlog: int = setting(
        "integer", 0, "Length of the accept queue; 0 = max_connections.", reload="restart", maximum=2**31 - 1
    )
    so_reuseport: bool = setting(
        "boolean",
        False,
        "Let other processes listen on the same ports: the kernel divides clients between all of them.",
        reload="restart",
        ours=True,
    )
    peer_id: int = setting(
        "integer",
        0,
        "Of several poolers behind one address, which this is: another id for each; see [peers]. 0 = none.",
        reload="live",
        maximum=MAX_PEER_ID,
        ours=True,
    )
    unix_socket_dir: str | None = setting(
        "path", None, "Directory of the unix socket .s.PGSQL.<port>.", reload="restart", unset="no unix socket"
    )
    unix_socket_mode: int = setting(
        "mode", "0600", "Permissions of the unix socket, only bits of 0o777.", reload="restart"
    )
    max_connections: int = setting(
        "integer",
        8192,
        "Clients connected at one time; one more gets 53300, but for three of the console.",
        reload="live",
        minimum=1,
    )
    max_db_client_connections: int = setting(
        "integer", 0, "Clients of a database at one time; one more gets 53300. 0 = no limit.", reload="live", ours=True
    )
    max_user_client_connections: int = setting(
        "integer", 0, "Clients of a user at one time, over all databases; as above.", reload="live", ours=True
    )
    max_user_connections: int = setting(
        "integer",
        0,
        "Server connections of one server_username, over all pools; who needs one more waits, or takes the place of "
        "one that rests in another pool. 0 = no limit.",
        reload="live",
        ours=True,
    )
    application_name_add_host: bool = setting(
        "boolean", False, "Add a client's address to the application_name of its login.", reload="live", ours=True
    )
    autodb_idle_timeout: float = setting(
        "duration", "1h", 'After this a pool of [pools."*"] that nobody uses is taken away.', reload="live", ours=True
    )
    client_login_timeout: float = setting(
        "duration",
        "60s",
        "A client that has not logged in after this is disconnected; 0 = never.",
        reload="live",
        ours=True,
    )
    max_login_connections: int = setting(
        "integer",
        0,
        "Connections that have not logged in, at one time: for one more the oldest of the address with the most gives "
        "way; 0 = as many as max_connections, but at least 100.",
        reload="live",
        maximum=2**30,
        ours=True,
    )
    max_login_connections_per_address: int = setting(
        "integer",
        0,
        "The same for those of one address; 0 = no limit of its own.",
        reload="live",
        maximum=2**30,
        ours=True,
    )
    proxy_protocol: tuple[str, ...] = setting(
        "networks",
        [],
        "Networks of load balancers that begin each connection with a PROXY protocol header (version 1 or 2): the "
        "client it names is who counts. One from elsewhere is refused, and so is a connection from there without one.",
        reload="live",
        ours=True,
    )
    mock_authentication_secret: str | None = setting(
        "secret",
        None,
        "From this the salts come that SCRAM shows for users who are unknown or have a plain password: the same in all "
        "poolers behind one address.",
        reload="live",
        unset="from the machine's id",
        ours=True,
    )
    oauth_validator_command: tuple[str, ...] = setting(
        "strings",
        [],
        "What pg_hba's method oauth runs, an absolute path and arguments: it reads a token, and says whose it is.",
        reload="live",
        ours=True,
    )
    jwt_issuer: str | None = setting(
        "text",
        None,
        "The iss that tokens of users must have.",
        reload="live",
        unset="anybody who has the key",
        ours=True,
    )
    jwt_audience: tuple[str, ...] = setting(
        "strings",
        [],
        "Tokens of users must have one of these as aud, or among it; empty: aud is not looked at.",
        reload="live",
        ours=True,
    )
    jwt_leeway: float = setting(
        "duration",
        0,
        "How far clocks may differ when exp and nbf of a client's token are looked at.",
        reload="live",
        ours=True,
    )
    hba: tuple[str, ...] = setting(
        "networks", [], "Networks clients may connect from; empty = all. Not with pg_hba.", reload="live"
    )
    pg_hba: HbaSource | None = setting(
        "pg_hba",
        None,
        'Rules in the syntax of pg_hba.conf: the text itself, {path = "FILE"} or {content = "TEXT"}.',
        reload="live",
        unset="no rules",
    )
    pg_ident: HbaSource | None = setting(
        "pg_ident",
        None,
        "Maps of names in the syntax of pg_ident.conf, for the option map of pg_hba's methods cert and peer; given as "
        "pg_hba is.",
        reload="live",
        unset="no maps",
        ours=True,
    )
    auth_pam_confdir: str | None = setting(
        "path",
        None,
        "Directory of the PAM services that pg_hba's method pam and auth_pam_service name.",
        reload="live",
        unset="the system's",
        ours=True,
    )
    auth_ldap_ca_cert: str | None = setting(
        "path",
        None,
        "Certificates that sign those of LDAP servers (PEM).",
        reload="live",
        unset="the system's",
        ours=True,
    )
    max_concurrent_auths: int = setting(
        "integer",
        16,
        "How many passwords of clients one PAM service or one set of LDAP servers is asked about at one time, by each "
        "process; the others wait.",
        reload="live",
        minimum=1,
        maximum=1000,
        ours=True,
    )
    auth_timeout: float = setting(
        "duration",
        "15s",
        "A client whose password PAM or LDAP has not judged within this, the wait for others included, is refused.",
        reload="live",
        positive=True,
        plausible=QUICK,
        ours=True,
    )

    # -- the console
    admin_username: str = setting("text", REQUIRED, "User of the console (database pgdoorman).", reload="live")
    admin_password: str = setting("secret", REQUIRED, "Password of that user.", reload="live", empty=True)
    admin_users: tuple[str, ...] = setting(
        "strings",
        [],
        "More users of the console, each by the password he has in a pool.",
        reload="live",
        ours=True,
    )
    stats_users: tuple[str, ...] = setting(
        "strings", [], "The same, who may look (SHOW) and change nothing.", reload="live", ours=True
    )

    # -- time limits
    connect_timeout: float = setting(
        "duration", "3s", "Limit for connecting and logging in to a server.", positive=True, plausible=QUICK
    )
    query_wait_timeout: float = setting(
        "duration", "5s", "How long a client waits for a free server connection; 0 = not at all."
    )
    query_wait_notify: float = setting(
        "duration", "0", "A client that waits for longer is told so, once; 0 = never.", reload="live", ours=True
    )
    query_timeout: float = setting(
        "duration", "0", "Limit for a statement with its wait; over it 57014. 0 = none.", reload="live", ours=True
    )
    idle_transaction_timeout: float = setting(
        "duration", "0", "Limit for idling in a transaction; over it 25P03. 0 = none.", reload="live", ours=True
    )
    transaction_timeout: float = setting(
        "duration", "0", "Limit for a transaction; over it 25P04. 0 = none.", reload="live", ours=True
    )
    client_idle_timeout: float = setting(
        "duration", "0", "Limit for a client without a server to say nothing; over it 57P05.", reload="live", ours=True
    )
    idle_timeout: float = setting(
        "duration",
        "10m",
        "A server connection idle for this long is closed; 0 = never. Jitter of 20 %.",
        plausible=SLOW,
    )
    server_lifetime: float = setting(
        "duration",
        "20m",
        "A server connection older than this is closed once it is idle; 0 = never. Jitter of 20 %.",
        plausible=SLOW,
    )
    client_eof_timeout: float = setting(
        "duration",
        "5s",
        "Limit for what a client has asked for before it closed its side of the connection; then it is cancelled, with "
        "0 at once.",
        ours=True,
        plausible=QUICK,
    )
    retain_connections_time: float = setting(
        "duration",
        "30s",
        "How often pools are swept for what is too old or too few, at the latest every second.",
        reload="restart",
        positive=True,
    )
    retain_connections_max: int = setting(
        "integer",
        3,
        "Connections closed in one sweep; here all that are due (docs/coming-from.md).",
        reload="restart",
        support=NO_EFFECT,
    )
    server_idle_check_timeout: float = setting(
        "duration", "60s", "A connection idle for longer is probed before it is lent; 0 = never."
    )
    shutdown_timeout: float = setting(
        "duration", "10s", "How long a drain waits for transactions to finish.", reload="live"
    )
    tls_handover: bool = setting(
        "boolean",
        True,
        "Connections by TLS 1.3, of clients and to servers, go along in an upgrade and from one worker to another, "
        "and cost less: their sessions' secrets are kept in memory for that.",
        reload="live",
        ours=True,
    )
    upgrade_timeout: float = setting(
        "duration",
        "30s",
        "How long an upgrade waits for the new process to be ready, before it is ended and nothing has changed.",
        reload="live",
        ours=True,
    )
    upgrade_on_sigint: bool = setting(
        "boolean",
        False,
        "SIGINT upgrades (docs/upgrade.md) in the foreground, too, as with --daemon; else it drains.",
        reload="live",
        ours=True,
    )
    proxy_copy_data_timeout: float = setting(
        "duration",
        "15s",
        "Limit for one streamed message; here a slow peer holds up its own session only (docs/coming-from.md).",
        support=NO_EFFECT,
    )

    # -- memory
    message_size_to_be_stream: int = setting("size", "1MB", "Larger messages pass through in pieces; 0 = none do.")
    max_memory_usage: int = setting(
        "size",
        "256MB",
        "Limit for the sum of client messages being read and prepared statements held for clients; beyond it 53200.",
        reload="live",
    )

    # -- sockets
    tcp_keepalives_idle: int = setting("seconds", 5, "TCP_KEEPIDLE of both sides.")
    tcp_keepalives_interval: int = setting("seconds", 5, "TCP_KEEPINTVL of both sides.")
    tcp_keepalives_count: int = setting("integer", 5, "TCP_KEEPCNT of both sides.", maximum=U32)
    tcp_so_linger: int = setting("seconds", 0, "SO_LINGER; 0 = RST on close.")
    tcp_no_delay: bool = setting("boolean", True, "TCP_NODELAY.")
    tcp_user_timeout: int = setting("seconds", 60, "TCP_USER_TIMEOUT (Linux); 0 = the system's.", plausible=(0, 3600))
    tcp_socket_buffer_size: int = setting("size", 0, "SO_RCVBUF and SO_SNDBUF; 0 = the system tunes them.")
    unix_socket_buffer_size: int = setting("size", "1MB", "The same for unix sockets.")

    # -- the process
    strict_config: bool = setting(
        "boolean",
        True,
        "Refuse a configuration with names that are no keys, or not where they stand; false or --lenient: ignore them "
        "with a warning, as pg_doorman does without one. Wrong values are refused in any case.",
        reload="live",
        ours=True,
    )
    worker_threads: int | None = setting(
        "integer",
        None,
        "Worker processes, which share the pools.",
        reload="restart",
        minimum=1,
        maximum=MOST_WORKERS,
        aliases=("workers",),
        unset="one for each processor, four at most",
    )
    worker_cpu_affinity_pinning: bool = setting(
        "boolean", False, "Have each worker run on one processor alone, in turn.", reload="restart"
    )
    rebalance: bool = setting(
        "boolean",
        True,
        "Clients go from busy workers to calmer ones, between two transactions (docs/workers.md).",
        reload="live",
        ours=True,
    )
    io_engine: str = setting(
        "choice",
        "auto",
        "How sockets are waited for: uring (Linux 5.8+), epoll (Linux), gevent (anywhere), auto = the best there is.",
        reload="restart",
        choices=("auto", "uring", "epoll", "gevent"),
        ours=True,
    )
    log_client_connections: bool = setting("boolean", True, "Log each login.", reload="live")
    log_client_disconnections: bool = setting("boolean", True, "Log each client's end.", reload="live")
    log_stats: bool = setting(
        "boolean",
        True,
        "Each 15 seconds, log a line of every pool that has clients: rates, connections, latencies.",
        reload="live",
        ours=True,
    )
    log_file: str | None = setting(
        "path",
        None,
        "Log to this file; SIGUSR1 and SIGHUP open it again, for logrotate.",
        reload="restart",
        unset="log to stderr",
        ours=True,
    )
    daemon_pid_file: str = setting(
        "path", "/tmp/pg_doorman.pid", "Where --daemon writes its process id.", reload="restart"
    )
    syslog_prog_name: str | None = setting(
        "text",
        None,
        "Log to this machine's syslog under this name; with log_file to both.",
        reload="restart",
        empty=True,
        unset="log to stderr",
    )
    syslog_socket: str = setting("path", "/dev/log", "The syslog's datagram socket.", reload="restart", ours=True)

    # -- pools
    server_round_robin: bool = setting(
        "boolean", False, "Lend the connection idle for longest (true) or for shortest (false)."
    )
    max_concurrent_creates: int = setting(
        "integer", 4, "Server connections one pool may be opening at one time.", minimum=1, maximum=U32
    )
    scaling_max_parallel_creates: int = setting(
        "integer", 2, "The same limit once the pool is warm; the lower of the two holds.", minimum=1, maximum=U32
    )
    sync_server_parameters: bool = setting(
        "boolean",
        True,
        "Apply a client's parameters to each server it gets. pg_doorman's default is false: there a SET "
        "leaks to other clients or is lost with the server.",
    )
    pooler_check_query: str = setting(
        "text",
        ";",
        "A simple query of exactly this text is answered without a server: an empty one at once, a SELECT of constants "
        "as the first server did. Any other is asked of a server each time.",
        empty=True,
    )

    # -- prepared statements
    prepared_statements: bool = setting(
        "boolean", True, "Share prepared statements among the clients of a pool in transaction mode."
    )
    prepared_statements_cache_size: int = setting("integer", 8192, "Statements remembered by a pool.", maximum=U32)
    server_prepared_statements_cache_size: int | None = setting(
        "integer",
        None,
        "Statements kept prepared on one server connection.",
        maximum=U32,
        unset="prepared_statements_cache_size",
    )
    prepared_statements_cache_bytes: int = setting(
        "size",
        "2MB",
        "Limit for the texts of the statements a pool remembers, and of those kept prepared on one server connection. "
        "PostgreSQL takes 40 to 250 times as much for them. What no client holds goes first.",
    )
    client_anonymous_prepared_cache_size: int | None = setting(
        "integer",
        None,
        "Unnamed statements remembered for one client; here it is the last one, as in PostgreSQL.",
        maximum=U32,
        support=NO_EFFECT,
        unset="prepared_statements_cache_size",
        aliases=("client_prepared_statements_cache_size",),
    )
    startup_parameters: tuple[tuple[str, str], ...] = setting(
        "parameters", {}, "Parameters sent to every server when a connection is opened."
    )

    # -- TLS to clients
    tls_certificate: str | None = setting("path", None, "Certificate (PEM).", reload="live", unset="no TLS")
    tls_private_key: str | None = setting("path", None, "Its private key (PEM).", reload="live", unset="no TLS")
    tls_ca_cert: str | None = setting(
        "path", None, "Certificates that sign those of clients (PEM).", reload="live", unset="none"
    )
    tls_crl: str | None = setting(
        "path",
        None,
        "Which of those are revoked (PEM), a list of each authority in tls_ca_cert.",
        reload="live",
        unset="nothing is revoked",
        ours=True,
    )
    tls_min_version: str = setting(
        "choice", "tlsv1.2", "The oldest version that is spoken.", reload="live", choices=TLS_VERSIONS, ours=True
    )
    tls_ciphers: str | None = setting(
        "text",
        None,
        "Cipher suites of TLS 1.2, a list as OpenSSL has it; those of TLS 1.3 can't be chosen.",
        reload="live",
        unset="those with forward secrecy and AES or ChaCha20",
        ours=True,
    )
    tls_mode: str = setting(
        "choice",
        "allow",
        "allow: the client decides; verify-full: TLS with a certificate signed by tls_ca_cert.",
        reload="live",
        choices=CLIENT_TLS_MODES,
        invalid="Invalid tls_mode: {}",
    )
    tls_rate_limit_per_second: int = setting(
        "integer",
        0,
        "TLS handshakes with clients a second, a multiple of 100, for which they wait in line; 0 = no limit.",
        reload="live",
    )

    # -- TLS to servers
    server_tls_mode: str = setting(
        "choice",
        "allow",
        "allow: TLS only if the server refuses without; prefer: if the server can; require: always, "
        "unchecked; verify-ca, verify-full: checked as libpq does.",
        choices=SERVER_TLS_MODES,
        invalid="invalid server_tls_mode {}",
    )
    server_tls_ca_cert: str | None = setting("path", None, "Certificates that sign the servers' (PEM).", unset="none")
    server_tls_certificate: str | None = setting("path", None, "Our certificate for servers (PEM).", unset="none")
    server_tls_private_key: str | None = setting("path", None, "Its private key (PEM).", unset="none")
    server_tls_crl: str | None = setting(
        "path",
        None,
        "Which of the servers' are revoked (PEM), a list of each authority in server_tls_ca_cert, for verify-ca and "
        "verify-full.",
        unset="nothing is revoked",
        ours=True,
    )
    server_tls_min_version: str = setting(
        "choice", "tlsv1.2", "As tls_min_version, with servers.", choices=TLS_VERSIONS, ours=True
    )
    server_tls_ciphers: str | None = setting(
        "text", None, "As tls_ciphers, with servers.", unset="as for tls_ciphers", ours=True
    )
    server_tls_negotiation: str = setting(
        "choice",
        "postgres",
        "libpq's sslnegotiation: TLS is asked for first (postgres), or begun at once (direct), which saves a round "
        "trip, and needs PostgreSQL 17 and a server_tls_mode of require or more.",
        choices=TLS_NEGOTIATIONS,
        ours=True,
    )
    server_channel_binding: str = setting(
        "choice",
        "prefer",
        "libpq's channel_binding: logins by SCRAM are bound to their TLS, by SCRAM-SHA-256-PLUS, if the server offers "
        "that (prefer), never (disable), or there is no login (require).",
        choices=CHANNEL_BINDINGS,
        ours=True,
    )

    # -- Patroni
    patroni_api_urls: tuple[str, ...] | None = setting(
        "strings",
        None,
        "Patroni's REST API at one or more members: asked for another host when no server can be opened.",
        unset="no fallback",
    )
    fallback_cooldown: float = setting(
        "duration", "30s", "How long the found host is kept.", positive=True, plausible=QUICK
    )
    patroni_api_timeout: float = setting(
        "duration", "5s", "Limit for one such request.", positive=True, plausible=QUICK
    )
    fallback_connect_timeout: float = setting(
        "duration", "5s", "Limit for a login at that host.", positive=True, plausible=QUICK
    )
    fallback_lifetime: float | None = setting(
        "duration", None, "Lifetime of its connections.", positive=True, unset="fallback_cooldown", plausible=SLOW
    )

    # -- what older versions had
    server_tls: bool = setting(
        "boolean", False, 'Old; write server_tls_mode = "require".', support=NOT_YET, off=(False,)
    )
    verify_server_certificate: bool = setting(
        "boolean", False, 'Old; write server_tls_mode = "verify-full".', support=NOT_YET, off=(False,)
    )

    # -- what tunes another runtime
    virtual_pool_count: int = setting("integer", 1, "Parts of each pool.", support=NO_EFFECT, minimum=1, maximum=U16)
    worker_stack_size: int | None = setting(
        "size", None, "Stack of a thread.", reload="restart", support=NO_EFFECT, unset="the runtime's"
    )
    max_blocking_threads: int | None = setting(
        "integer", None, "Threads for what blocks.", reload="restart", support=NO_EFFECT, unset="the runtime's"
    )
    tokio_global_queue_interval: int | None = setting(
        "integer", None, "Tuning of the scheduler.", reload="restart", support=NO_EFFECT, unset="the runtime's"
    )
    tokio_event_interval: int | None = setting(
        "integer", None, "Tuning of the scheduler.", reload="restart", support=NO_EFFECT, unset="the runtime's"
    )
    query_interner_gc_interval_seconds: int = setting(
        "integer", 60, "Sweep of shared query texts.", reload="restart", support=NO_EFFECT, positive=True
    )
    query_interner_anon_idle_ttl_seconds: int = setting(
        "integer", 60, "Age of unused query texts.", reload="live", support=NO_EFFECT
    )
    scaling_warm_pool_ratio: int = setting(
        "integer", 20, "Percent of a pool opened without waiting first.", support=NO_EFFECT, maximum=100
    )
    scaling_fast_retries: int = setting("integer", 10, "Turns spent waiting first.", support=NO_EFFECT, maximum=U32)

    def addresses(self) -> tuple[tuple[str, int], ...]:
        """Every TCP address to listen on as (host, port), in order, each once."""
        return tuple(dict.fromkeys([*((host, self.port) for host in self.host), *self.listen]))

    @property
    def worker_count(self) -> int:
        """Worker processes there are to be."""
        return workers_unless_told() if self.worker_threads is None else self.worker_threads
