"""What holds for one pool of server connections once [general], the pool and the user are put over each other."""

from __future__ import annotations

import dataclasses
from typing import TypeVar

from pgdoorman_lib.config.decode import EVERY_DATABASE
from pgdoorman_lib.config.model import AuthQuery, Config, General, Pool, User, format_address
from pgdoorman_lib.config.validate import Parameters, merged_parameters, size_problem
from pgdoorman_lib.record import record

PoolKey = tuple[str, str]
"""(database as clients name it, user as clients name it)."""

_Value = TypeVar("_Value")


@record(frozen=True, kw_only=True)
class PoolSettings:
    """Everything a pool needs, in seconds and bytes. Two that compare equal need no rebuild on reload.

    ``servers`` are (host, port) of all its hosts; ``server_host`` and ``server_port`` are those of the only one, or
    stand for all of them in tables and lines of the log. Servers are opened with settings of a single one (``at``).
    ``own_parameters`` are those of ``startup_parameters`` that were looked up with the user.
    ``secret`` is the client's password or its hash; ``server_password`` None means the client's own credentials are
    passed on. ``server_tls_fingerprint`` changes when the bytes of a TLS file do.
    """

    database: str
    user: str
    secret: str = dataclasses.field(repr=False)
    pool_mode: str
    pool_size: int
    min_pool_size: int
    server_host: str
    server_port: int
    servers: tuple[tuple[str, int], ...]
    target_session_attrs: str
    load_balance_hosts: str
    server_database: str
    server_username: str
    server_password: str | None = dataclasses.field(repr=False)
    auth_pam_service: str | None
    application_name: str
    startup_parameters: Parameters
    own_parameters: Parameters = ()
    connect_timeout: float
    query_wait_timeout: float
    pooler_check_query: str
    idle_timeout: float
    server_lifetime: float
    server_idle_check_timeout: float
    server_round_robin: bool
    max_concurrent_creates: int
    scaling_max_parallel_creates: int
    cleanup_server_connections: bool
    session_state: str
    shared_backend: str
    client_eof_timeout: float
    max_pinned_servers: int
    trusted_functions: tuple[str, ...]
    forget_option_names: bool
    sync_server_parameters: bool
    log_client_parameter_status_changes: bool
    prepared_statements: bool
    prepared_statements_cache_size: int
    prepared_statements_cache_bytes: int
    server_prepared_statements_cache_size: int
    message_size_to_be_stream: int
    server_tls_mode: str
    server_tls_ca_cert: str | None
    server_tls_certificate: str | None
    server_tls_private_key: str | None
    server_tls_crl: str | None
    server_tls_fingerprint: str
    server_tls_min_version: str
    server_tls_ciphers: str | None
    server_tls_negotiation: str
    server_channel_binding: str
    patroni_api_urls: tuple[str, ...]
    patroni_api_timeout: float
    fallback_cooldown: float
    fallback_connect_timeout: float
    fallback_lifetime: float
    tcp_keepalives_idle: int
    tcp_keepalives_interval: int
    tcp_keepalives_count: int
    tcp_so_linger: int
    tcp_no_delay: bool
    tcp_user_timeout: int
    tcp_socket_buffer_size: int
    unix_socket_buffer_size: int

    def at(self, host: str, port: int) -> PoolSettings:
        """These settings for a server of that host alone."""
        place = (host, port)
        if self.servers == (place,):
            return self
        return dataclasses.replace(self, server_host=host, server_port=port, servers=(place,))


# Settings a pool takes from [general] alone.
_GENERAL_ONLY = (
    "query_wait_timeout",
    "pooler_check_query",
    "client_eof_timeout",
    "server_idle_check_timeout",
    "server_round_robin",
    "max_concurrent_creates",
    "scaling_max_parallel_creates",
    "sync_server_parameters",
    "prepared_statements",
    "message_size_to_be_stream",
    "tcp_keepalives_idle",
    "tcp_keepalives_interval",
    "tcp_keepalives_count",
    "tcp_so_linger",
    "tcp_no_delay",
    "tcp_user_timeout",
    "tcp_socket_buffer_size",
    "unix_socket_buffer_size",
)

#: By what a pool knows its servers, and is known to them; ``server_tls_fingerprint`` says which files those were.
SERVER_TLS = (
    "server_tls_mode",
    "server_tls_ca_cert",
    "server_tls_certificate",
    "server_tls_private_key",
    "server_tls_crl",
    "server_tls_min_version",
    "server_tls_ciphers",
    "server_tls_negotiation",
)

# Settings of the pool that [general] has a value for.
_POOL_OVER_GENERAL = (
    "connect_timeout",
    "idle_timeout",
    "prepared_statements_cache_size",
    "prepared_statements_cache_bytes",
    *SERVER_TLS,
    "server_channel_binding",
    "patroni_api_timeout",
    "fallback_cooldown",
    "fallback_connect_timeout",
)

# Settings only a pool has.
_POOL_ONLY = (
    "target_session_attrs",
    "load_balance_hosts",
    "application_name",
    "cleanup_server_connections",
    "session_state",
    "trusted_functions",
    "forget_option_names",
    "shared_backend",
    "log_client_parameter_status_changes",
)

#: What a session begins with that looks users up. The schema public is where operators keep functions for that.
_READING = {
    "client_encoding": "UTF8",
    "datestyle": "ISO, YMD",
    "search_path": "pg_catalog, public, pg_temp",
    "timezone": "UTC",
}


def effective(config: Config) -> dict[PoolKey, PoolSettings]:
    """The settings of every pool, by (database, user): the user's over the pool's over [general]'s.

    The pool that users share who are looked up is of their ``server_user``. [pools."*"] is none: see ``wildcard``.
    """
    fingerprints = dict(config.fingerprints)
    found = {
        (database, user.username): _settings(config.general, database, pool, user, fingerprints)
        for database, pool in config.pools.items()
        if database != EVERY_DATABASE
        for user in pool.users
    }
    found.update(
        {
            (database, settings.user): settings
            for database, settings in looked_up(config).items()
            if settings.user and database != EVERY_DATABASE
        }
    )
    return found


def wildcard(config: Config) -> dict[str, PoolSettings]:
    """What pools are made by, by user, for databases that [pools] does not name; see ``for_database``."""
    pool = config.pools.get(EVERY_DATABASE)
    if pool is None:
        return {}
    fingerprints = dict(config.fingerprints)
    return {user.username: _settings(config.general, EVERY_DATABASE, pool, user, fingerprints) for user in pool.users}


def for_database(template: PoolSettings, database: str) -> PoolSettings:
    """One of ``wildcard``'s for a certain database, which the server has under the same name unless it says other."""
    real = database if template.server_database == EVERY_DATABASE else template.server_database
    return dataclasses.replace(template, database=database, server_database=real)


def looked_up(config: Config) -> dict[str, PoolSettings]:
    """The pools of users who are looked up, by the name of the pool that has an auth_query; see ``for_user``."""
    return {
        database: _settings(config.general, database, pool, _found(pool.auth_query), dict(config.fingerprints))
        for database, pool in config.pools.items()
        if pool.auth_query is not None
    }


def for_user(template: PoolSettings, user: str, own: Parameters = ()) -> PoolSettings:
    """One of ``looked_up``'s for a certain user, unless all of them share it: then it has a user already.

    ``own``: startup parameters that were looked up with him; they win, as far as all fit into a startup packet.
    """
    if template.user:
        return template
    merged = merged_parameters(template.startup_parameters, own)
    if size_problem(merged):
        merged, own = template.startup_parameters, ()
    return dataclasses.replace(template, user=user, server_username=user, own_parameters=own, startup_parameters=merged)


def _found(auth_query: AuthQuery) -> User:
    """A user who is found, as if configured; all of them where they share a pool, else one who has no name yet."""
    shared = auth_query.server_user is not None
    return User(
        username=auth_query.server_user or "",
        password="",
        pool_size=auth_query.pool_size,
        min_pool_size=auth_query.min_pool_size,
        server_password=(auth_query.server_password or "") if shared else None,
    )


def lookups(config: Config) -> dict[str, PoolSettings]:
    """The connections by which users are looked up, by the name of the pool that has an auth_query.

    Nobody else's statements run there, under no settings but these: names in the query mean the same whoever logs in.
    """
    found = {}
    for database, pool in config.pools.items():
        if pool.auth_query is None:
            continue
        reader = User(
            username=pool.auth_query.user,
            password="",
            pool_size=pool.auth_query.workers,
            server_password=pool.auth_query.password,
        )
        settings = _settings(config.general, database, pool, reader, dict(config.fingerprints))
        limit = str(max(1, round(settings.connect_timeout * 1000)))
        kept = {
            name: value
            for name, value in settings.startup_parameters
            if name.lower() not in ("statement_timeout", *_READING)
        }
        found[database] = dataclasses.replace(
            settings,
            pool_mode="session",
            server_database=first(pool.auth_query.database, last=database),
            query_wait_timeout=settings.connect_timeout,
            pooler_check_query="",
            sync_server_parameters=False,
            startup_parameters=tuple((kept | _READING | {"statement_timeout": limit}).items()),
        )
    return found


def places(pool: Pool) -> tuple[tuple[str, int], ...]:
    """Host and port of each of a pool's servers, each once."""
    ports = pool.server_port * (len(pool.server_host) if len(pool.server_port) == 1 else 1)
    return tuple(dict.fromkeys(zip(pool.server_host, ports, strict=True)))


def first(*values: _Value | None, last: _Value) -> _Value:
    """The first of ``values`` that is set, else ``last``."""
    return next((value for value in values if value is not None), last)


def _settings(general: General, database: str, pool: Pool, user: User, fingerprints: dict[str, str]) -> PoolSettings:
    common = {name: getattr(general, name) for name in _GENERAL_ONLY}
    common.update({name: getattr(pool, name) for name in _POOL_ONLY})
    for name in _POOL_OVER_GENERAL:
        own = getattr(pool, name)
        common[name] = getattr(general, name) if own is None else own
    cache_size = common["prepared_statements_cache_size"]
    files = [common[f"server_tls_{name}"] for name in ("ca_cert", "crl", "certificate", "private_key")]
    servers = places(pool)
    ports = {port for _, port in servers}
    return PoolSettings(
        **common,
        servers=servers,
        patroni_api_urls=first(pool.patroni_api_urls, general.patroni_api_urls, last=()),
        fallback_lifetime=first(pool.fallback_lifetime, general.fallback_lifetime, last=common["fallback_cooldown"]),
        server_host=",".join(host if len(ports) == 1 else format_address(host, port) for host, port in servers),
        server_port=servers[0][1],
        database=database,
        user=user.username,
        secret=user.password,
        pool_mode=first(user.pool_mode, last=pool.pool_mode),
        pool_size=user.pool_size,
        min_pool_size=first(user.min_pool_size, last=0),
        max_pinned_servers=first(pool.max_pinned_servers, last=user.pool_size - 1),
        server_database=first(pool.server_database, last=database),
        server_username=first(user.server_username, last=user.username),
        server_password=user.server_password,
        auth_pam_service=user.auth_pam_service or None,
        server_lifetime=first(user.server_lifetime, pool.server_lifetime, last=general.server_lifetime),
        startup_parameters=merged_parameters(general.startup_parameters, pool.startup_parameters),
        server_prepared_statements_cache_size=first(
            pool.server_prepared_statements_cache_size,
            general.server_prepared_statements_cache_size,
            last=cache_size,
        ),
        server_tls_fingerprint=",".join(fingerprints.get(path, "") for path in files if path is not None),
    )
