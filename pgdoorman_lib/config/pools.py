"""The keys of [pools.NAME] with its users and its auth_query."""

from __future__ import annotations

from pgdoorman_lib.config.general import (
    CHANNEL_BINDINGS,
    NO_EFFECT,
    QUICK,
    SERVER_TLS_MODES,
    SLOW,
    TLS_NEGOTIATIONS,
    TLS_VERSIONS,
    U32,
)
from pgdoorman_lib.config.keys import REQUIRED, setting
from pgdoorman_lib.record import record

POOL_MODES = ("transaction", "session")
SESSION_ATTRS = ("any", "read-write", "read-only", "primary", "standby", "prefer-standby")
GENERAL = "[general]'s"
POOLS = "the pool's"


@record(frozen=True, kw_only=True)
class User:
    """[[pools.NAME.users]]: one user of a pool, who has a pool of server connections to himself."""

    username: str = setting("text", REQUIRED, "Name the client logs in with.")
    password: str = setting(
        "secret",
        REQUIRED,
        'Plain text, or "md5..." or "SCRAM-SHA-256$..." as pg_shadow has it; "jwt-pkey-fpath:PATH": he shows a token '
        "(JWT) signed with the key whose public half is there; empty: only trusted by pg_hba.",
        empty=True,
    )
    pool_size: int = setting("integer", REQUIRED, "Server connections at most.", minimum=1, maximum=U32)
    min_pool_size: int | None = setting("integer", None, "Server connections kept open.", maximum=U32, unset="0")
    pool_mode: str | None = setting("choice", None, "Overrides the pool's.", choices=POOL_MODES, unset=POOLS)
    server_lifetime: float | None = setting("duration", None, "Overrides the pool's.", unset=POOLS, plausible=SLOW)
    server_username: str | None = setting("text", None, "User to log in to the server as.", unset="username")
    server_password: str | None = setting(
        "secret",
        None,
        'His password: plain text, "md5..." for a server that asks for MD5, or "jwt-priv-key-fpath:PATH", the private '
        "key to sign a token (JWT) with.",
        unset="the client's own credentials are passed on",
        empty=True,
    )
    max_user_client_connections: int | None = setting(
        "integer", None, "Overrides [general]'s.", reload="live", maximum=U32, ours=True, unset=GENERAL
    )
    auth_pam_service: str | None = setting(
        "text",
        None,
        "He tells his password in clear text, which this PAM service judges; password does not count.",
        empty=True,
        unset="no PAM",
    )


@record(frozen=True, kw_only=True)
class AuthQuery:
    """[pools.NAME.auth_query]: users who are not under [[pools.NAME.users]] are looked up in the server."""

    query: str = setting(
        "text",
        REQUIRED,
        "Query for the user's secret; $1 is his name. It is the column passwd, or else password, or the only one.",
        reload="live",
        empty=True,
    )
    user: str = setting("text", REQUIRED, "Who runs it.", reload="live", empty=True)
    password: str = setting(
        "secret", "", 'His password, or "md5..." for a server that asks for MD5.', reload="live", empty=True
    )
    database: str | None = setting("text", None, "Where it runs.", reload="live", unset="the pool's name")
    workers: int = setting(
        "integer", 2, "Server connections for it at most.", reload="live", positive=True, maximum=U32
    )
    server_user: str | None = setting(
        "text",
        None,
        "All users found share one pool, which logs in to the server as this user.",
        unset="each has a pool of his own and logs in as himself",
    )
    server_password: str | None = setting(
        "secret", None, 'Password of server_user, as "server_password" of a user.', unset="none", empty=True
    )
    pool_size: int = setting("integer", 40, "Server connections of such a pool at most.", minimum=1, maximum=U32)
    min_pool_size: int = setting("integer", 0, "Server connections of such a pool kept open.", maximum=U32)
    cache_ttl: float = setting("duration", "1h", "How long a user's secret is kept.", reload="live", plausible=SLOW)
    cache_failure_ttl: float = setting(
        "duration", "30s", "How long is kept that there is no such user.", reload="live", plausible=QUICK
    )
    min_interval: float = setting(
        "duration",
        "1s",
        "After a wrong password, least time between two questions for a user.",
        reload="live",
        plausible=QUICK,
    )


@record(frozen=True, kw_only=True)
class Pool:
    """[pools.NAME]: one database as clients see it."""

    pool_mode: str = setting(
        "choice",
        "transaction",
        "transaction: a server for a transaction; session: for the client's life.",
        choices=POOL_MODES,
    )
    server_host: tuple[str, ...] = setting(
        "servers",
        "127.0.0.1",
        "The server; a leading / is a directory with its unix socket. Several, as a list or with commas between them, "
        "are hosts with the same database, of which one is taken that is what target_session_attrs asks for.",
    )
    server_port: tuple[int, ...] = setting("ports", 5432, "Its port; one for all hosts, or one for each.")
    target_session_attrs: str = setting(
        "choice",
        "any",
        "As libpq's: what a host has to be for a server to be opened there.",
        choices=SESSION_ATTRS,
        ours=True,
    )
    load_balance_hosts: str = setting(
        "choice",
        "disable",
        "As libpq's: hosts, and a host's addresses, are tried in their order (disable), or in another each time "
        "(random).",
        choices=("disable", "random"),
        ours=True,
    )
    server_database: str | None = setting("text", None, "The database's name there.", unset="the pool's name")
    application_name: str = setting("text", "pg_doorman", "application_name of server sessions.", empty=True)
    connect_timeout: float | None = setting(
        "duration", None, "Overrides [general]'s.", positive=True, unset=GENERAL, plausible=QUICK
    )
    idle_timeout: float | None = setting("duration", None, "Overrides [general]'s.", unset=GENERAL, plausible=SLOW)
    server_lifetime: float | None = setting("duration", None, "Overrides [general]'s.", unset=GENERAL, plausible=SLOW)
    cleanup_server_connections: bool = setting(
        "boolean", True, "Reset what a client left behind before another gets the server."
    )
    session_state: str = setting(
        "choice",
        "transparent",
        "In transaction mode, what a client SETs follows it and what can't be moved (LISTEN, temporary tables, cursors "
        "WITH HOLD, advisory locks) keeps it on its server (transparent), or all of that is taken back after each "
        "transaction (reset).",
        choices=("transparent", "reset"),
    )
    shared_backend: str = setting(
        "choice",
        "warn",
        "When the server proves to be another pooler that exchanges backends between transactions: warn once and go on "
        'as with session_state = "reset", or refuse clients.',
        choices=("warn", "refuse"),
        ours=True,
    )
    max_pinned_servers: int | None = setting(
        "integer", None, "Server connections clients may keep so.", maximum=U32, unset="pool_size - 1"
    )
    trusted_functions: tuple[str, ...] = setting(
        "strings",
        [],
        'Functions that are taken to leave nothing behind, whatever they do, as "schema.name" or "name"; * and ? stand '
        "for any letters. Others that may set something are asked about after each transaction that names them.",
        ours=True,
    )
    forget_option_names: bool = setting(
        "boolean",
        False,
        "In transaction mode, close a server on which a customized option (app.tenant) was ever set before it is lent "
        "to a client that never has set it: else that reads an empty string instead of NULL, as PostgreSQL has it "
        "behind a RESET. Costs a login at the server each time.",
        ours=True,
    )
    log_client_parameter_status_changes: bool = setting("boolean", False, "Log parameters that clients change.")
    prepared_statements_cache_size: int | None = setting(
        "integer", None, "Overrides [general]'s.", maximum=U32, unset=GENERAL
    )
    server_prepared_statements_cache_size: int | None = setting(
        "integer", None, "Overrides [general]'s.", maximum=U32, unset=GENERAL
    )
    prepared_statements_cache_bytes: int | None = setting("size", None, "Overrides [general]'s.", unset=GENERAL)
    startup_parameters: tuple[tuple[str, str], ...] = setting("parameters", {}, "Added to [general]'s, key by key.")
    server_tls_mode: str | None = setting(
        "choice",
        None,
        "Overrides [general]'s.",
        choices=SERVER_TLS_MODES,
        invalid="invalid server_tls_mode {}",
        unset=GENERAL,
    )
    server_tls_ca_cert: str | None = setting("path", None, "Overrides [general]'s.", unset=GENERAL)
    server_tls_certificate: str | None = setting("path", None, "Overrides [general]'s.", unset=GENERAL)
    server_tls_private_key: str | None = setting("path", None, "Overrides [general]'s.", unset=GENERAL)
    server_tls_crl: str | None = setting("path", None, "Overrides [general]'s.", ours=True, unset=GENERAL)
    server_tls_min_version: str | None = setting(
        "choice", None, "Overrides [general]'s.", choices=TLS_VERSIONS, ours=True, unset=GENERAL
    )
    server_tls_ciphers: str | None = setting("text", None, "Overrides [general]'s.", ours=True, unset=GENERAL)
    server_tls_negotiation: str | None = setting(
        "choice", None, "Overrides [general]'s.", choices=TLS_NEGOTIATIONS, ours=True, unset=GENERAL
    )
    server_channel_binding: str | None = setting(
        "choice", None, "Overrides [general]'s.", choices=CHANNEL_BINDINGS, ours=True, unset=GENERAL
    )
    max_db_client_connections: int | None = setting(
        "integer", None, "Overrides [general]'s.", reload="live", maximum=U32, ours=True, unset=GENERAL
    )
    max_db_connections: int | None = setting(
        "integer",
        None,
        "Server connections of all users together; who needs one more waits, or takes the place of one that rests in "
        "another user's pool.",
        reload="live",
        maximum=U32,
        unset="0, no limit",
    )
    min_connection_lifetime: float = setting(
        "duration", "30s", "Connections younger than this are not taken from another user.", reload="live"
    )
    reserve_pool_size: int = setting(
        "integer",
        0,
        "Connections beyond max_db_connections, for those who have waited longest.",
        reload="live",
        maximum=U32,
    )
    reserve_pool_timeout: float = setting(
        "duration", "3s", "How long they have waited before those are used.", reload="live"
    )
    min_guaranteed_pool_size: int = setting(
        "integer",
        0,
        "Connections of a user, or min_pool_size of them, that are not taken for another.",
        reload="live",
        maximum=U32,
    )
    patroni_api_urls: tuple[str, ...] | None = setting("strings", None, "Overrides [general]'s.", unset=GENERAL)
    fallback_cooldown: float | None = setting(
        "duration", None, "Overrides [general]'s.", positive=True, unset=GENERAL, plausible=QUICK
    )
    patroni_api_timeout: float | None = setting(
        "duration", None, "Overrides [general]'s.", positive=True, unset=GENERAL, plausible=QUICK
    )
    fallback_connect_timeout: float | None = setting(
        "duration", None, "Overrides [general]'s.", positive=True, unset=GENERAL, plausible=QUICK
    )
    fallback_lifetime: float | None = setting(
        "duration", None, "Overrides [general]'s.", positive=True, unset=GENERAL, plausible=SLOW
    )
    scaling_warm_pool_ratio: int | None = setting(
        "integer", None, "Overrides [general]'s.", support=NO_EFFECT, maximum=100, unset=GENERAL
    )
    scaling_fast_retries: int | None = setting(
        "integer", None, "Overrides [general]'s.", support=NO_EFFECT, maximum=U32, unset=GENERAL
    )
    auth_query: AuthQuery | None = None
    users: tuple[User, ...] = ()
