"""Rules that concern more than one key; each refuses with the place of the key that must change."""

from __future__ import annotations

import re
from collections.abc import Iterator

from pgdoorman_lib.config.decode import EVERY_DATABASE
from pgdoorman_lib.config.document import Path
from pgdoorman_lib.config.model import AuthQuery, General, Peer, Pool, User
from pgdoorman_lib.config.source import Source
from pgdoorman_lib.config.tokens import PRIVATE_KEY, PUBLIC_KEY, check_key

Parameters = tuple[tuple[str, str], ...]
"""Names and values of startup parameters."""

ADMIN_DATABASES = ("pgdoorman", "pgbouncer")
"""Database names that lead to the console; a pool of that name can't be reached."""

MAX_STARTUP_PACKET = 10_000
"""PostgreSQL refuses longer startup packets (MAX_STARTUP_PACKET_LENGTH in src/include/libpq/pqcomm.h)."""

STARTUP_PARAMETERS_BUDGET = MAX_STARTUP_PACKET - 512
"""What startup_parameters may take of it; the rest is for user, database and application_name."""

SHORTEST_SECRET = 16
"""Characters a secret should have that nobody has to remember, and that can be tried out off line."""

LEAST_RATE = 100
"""pg_doorman counts handshakes by hundredths of a second, and takes no other rates; its texts are kept."""

_RESERVED = ("user", "database", "replication", "options", "role", "session_authorization")
_RESERVED_PREFIX = "_pq_."
_GUC_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")
_USER_PARAMETER = re.compile(r"\$1(?![0-9])")
_SCRAM_PREFIX = "SCRAM-SHA-256$"


def validate(general: General, pools: dict[str, Pool], source: Source) -> None:
    """Check the whole; every rule broken and every warning is taken down in ``source``."""
    _listening(general, source)
    _console(general, source)
    _console_users(general, pools, source)
    _client_tls(general, source)
    _general_pools(general, source)
    _server_tls(general, None, ("general",), source)
    _patroni(general.patroni_api_urls, ("general",), source)
    _parameters(general.startup_parameters, ("general", "startup_parameters"), source)
    _fit(general.startup_parameters, ("general", "startup_parameters"), source)
    for name, pool in pools.items():
        _pool(name, pool, general, source)


def validate_peers(general: General, peers: dict[int, Peer], source: Source) -> None:
    """The same for the other poolers; that this one is among them is as it should be."""
    if peers and not general.peer_id:
        source.warn(
            ("peers",), "without general.peer_id no cancel request is passed on: give each pooler an id of its own"
        )


def _listening(general: General, source: Source) -> None:
    path: Path = ("general",)
    if not general.addresses() and general.unix_socket_dir is None:
        source.refuse((*path, "host"), "nothing to listen on: expected an address here, listen, or unix_socket_dir")
    if general.hba and general.pg_hba is not None:
        source.refuse((*path, "hba"), "general.hba and general.pg_hba cannot be specified at the same time")
    for network in general.proxy_protocol:
        if network.endswith("/0"):
            source.warn(
                (*path, "proxy_protocol"),
                f"'{network}' has everybody begin with a header and say in it to be anybody: list the balancers alone",
            )
    if len(general.mock_authentication_secret or "*" * SHORTEST_SECRET) < SHORTEST_SECRET:
        source.warn(
            (*path, "mock_authentication_secret"),
            f"fewer than {SHORTEST_SECRET} characters can be guessed from the salts made of it: take random ones",
        )
    if 0 < general.tcp_socket_buffer_size < 65536:
        source.warn(
            (*path, "tcp_socket_buffer_size"), "less than 64KB slows large results down; 0 lets the system tune"
        )


def _console(general: General, source: Source) -> None:
    check_key(general.admin_password, "", ("general", "admin_password"), source)
    if general.admin_password in ("", "admin", general.admin_username):
        source.warn(
            ("general", "admin_password"),
            "anybody can guess it, and whoever knows it can stop the pooler from the console: choose another",
        )


def _console_users(general: General, pools: dict[str, Pool], source: Source) -> None:
    for key in ("admin_users", "stats_users"):
        for name in getattr(general, key):
            known = {user.password for pool in pools.values() for user in pool.users if user.username == name}
            if name == general.admin_username:
                source.refuse(("general", key), f'"{name}" is admin_username, who has a password of his own')
            elif not known - {""}:
                source.refuse(("general", key), f'no pool has a user "{name}" with a password, which would be his here')
            elif len(known) > 1:
                source.refuse(("general", key), f'pools have different passwords of "{name}": which is his here?')
            for secret in known:
                check_key(secret, "", ("general", key), source)


def _client_tls(general: General, source: Source) -> None:
    path: Path = ("general",)
    certificate, key, mode = general.tls_certificate, general.tls_private_key, general.tls_mode
    if key is not None and certificate is None:
        source.refuse((*path, "tls_private_key"), "tls_private_key is set but tls_certificate is not")
    if certificate is not None and key is None:
        source.refuse((*path, "tls_certificate"), "tls_certificate is set but tls_private_key is not")
    if mode not in ("allow", "disable") and certificate is None:
        source.refuse((*path, "tls_mode"), f"tls_mode is {mode} but tls_certificate or tls_private_key is not")
    rate = general.tls_rate_limit_per_second
    if 0 < rate < LEAST_RATE:
        source.refuse((*path, "tls_rate_limit_per_second"), f"tls rate limit should be > {LEAST_RATE}")
    elif rate % LEAST_RATE:
        source.refuse((*path, "tls_rate_limit_per_second"), f"tls rate limit should be multiple {LEAST_RATE}")
    if general.tls_crl is not None and general.tls_ca_cert is None:
        source.refuse((*path, "tls_crl"), "tls_crl is set but tls_ca_cert is not")
    if mode == "verify-full" and general.tls_ca_cert is None:
        source.refuse((*path, "tls_mode"), "tls_mode is verify-full but tls_ca_cert is not set")


def _general_pools(general: General, source: Source) -> None:
    if general.prepared_statements and not general.prepared_statements_cache_size:
        _cache_size_zero(("general", "prepared_statements_cache_size"), source)


def _cache_size_zero(path: Path, source: Source) -> None:
    source.refuse(
        path,
        "The value of prepared_statements_cache should be greater than 0 if prepared_statements are enabled",
    )


def _server_tls(general: General, pool: Pool | None, path: Path, source: Source) -> None:
    """TLS to servers as ``general`` alone, or as ``pool`` with what it inherits."""

    def value(name: str) -> str | None:
        own = None if pool is None else getattr(pool, name)
        inherited: str | None = getattr(general, name)
        return inherited if own is None else own

    certificate, key = value("server_tls_certificate"), value("server_tls_private_key")
    if pool is not None and pool.server_tls_certificate is None and pool.server_tls_private_key is None:
        certificate = key = None  # a pair that is [general]'s is judged there
    if key is not None and certificate is None:
        source.refuse(
            (*path, "server_tls_private_key"), "server_tls_private_key is set but server_tls_certificate is not"
        )
    if certificate is not None and key is None:
        source.refuse(
            (*path, "server_tls_certificate"), "server_tls_certificate is set but server_tls_private_key is not"
        )
    mode = value("server_tls_mode")
    # What [general] leaves to the pools may be completed by them, so without a pool only the pairs are checked.
    if pool is not None and mode in ("verify-ca", "verify-full") and value("server_tls_ca_cert") is None:
        source.refuse((*path, "server_tls_mode"), f"server_tls_mode is '{mode}' but server_tls_ca_cert is not set")
    vain = value("server_tls_crl") is not None and mode not in ("verify-ca", "verify-full")
    if pool is not None and vain and (pool.server_tls_crl is not None or pool.server_tls_mode is None):
        source.warn(
            (*path, "server_tls_crl"),
            f"server_tls_crl has no effect: server_tls_mode is '{mode}', which checks no certificates",
        )
    if pool is not None and value("server_tls_negotiation") == "direct" and mode in ("disable", "allow", "prefer"):
        source.refuse(
            (*path, "server_tls_negotiation"),
            f"server_tls_negotiation is 'direct', which leaves no choice, and server_tls_mode is '{mode}': expected "
            "require, verify-ca or verify-full",
        )
    by_socket = pool is not None and any(host.startswith("/") for host in pool.server_host)
    never = mode in ("disable", "allow") or by_socket
    if pool is not None and value("server_channel_binding") == "require" and never:
        source.refuse(
            (*path, "server_channel_binding"),
            "server_channel_binding is 'require', which needs TLS from the beginning: expected a server_tls_mode of "
            "prefer at least, and no unix socket",
        )


def _parameters(parameters: tuple[tuple[str, str], ...], path: Path, source: Source) -> None:
    for problem in parameter_problems(parameters):
        source.refuse(path, problem)


def _fit(parameters: tuple[tuple[str, str], ...], path: Path, source: Source) -> None:
    problem = size_problem(parameters)
    if problem:
        source.refuse(path, problem)


def parameter_problems(parameters: Parameters) -> Iterator[str]:
    """What is wrong with startup parameters, each by itself."""
    seen: dict[str, str] = {}
    for name, value in parameters:
        if name.lower() in _RESERVED:
            yield f"'{name}' is reserved and managed by pgdoorman"
            continue
        if name.lower().startswith(_RESERVED_PREFIX):
            yield f"'{name}' uses the reserved '_pq_.' prefix"
            continue
        if not _GUC_NAME.fullmatch(name):
            yield f"'{name}' is not a valid GUC name (expected [A-Za-z_][A-Za-z0-9_.]*)"
            continue
        if "\0" in value:
            yield f"value for '{name}' contains a null byte"
        other = seen.setdefault(name.lower(), name)
        if other != name:
            yield f"'{other}' and '{name}' both refer to PG GUC '{name.lower()}'; keep one"


def size_problem(parameters: Parameters) -> str:
    """That they don't fit into a startup packet together; empty: they do."""
    size = sum(len(name.encode()) + len(value.encode()) + 2 for name, value in parameters)
    if size <= STARTUP_PARAMETERS_BUDGET:
        return ""
    return (
        f"serialized size {size} bytes exceeds {STARTUP_PARAMETERS_BUDGET} bytes "
        f"(PostgreSQL accepts startup packets of {MAX_STARTUP_PACKET} bytes)"
    )


def merged_parameters(*layers: Parameters) -> Parameters:
    """Startup parameters, each of the last layer that has it; PostgreSQL does not mind the case of names."""
    return tuple({name.lower(): (name, value) for layer in layers for name, value in layer}.values())


def _pool(name: str, pool: Pool, general: General, source: Source) -> None:
    path: Path = ("pools", name)
    if name in ADMIN_DATABASES:
        source.warn(path, "clients can't reach this pool: the name leads to the console")
    if general.prepared_statements and pool.prepared_statements_cache_size == 0:
        _cache_size_zero((*path, "prepared_statements_cache_size"), source)
    _hosts(pool, path, source)
    _patroni(pool.patroni_api_urls, path, source)
    _server_tls(general, pool, path, source)
    _parameters(pool.startup_parameters, (*path, "startup_parameters"), source)
    _fit(merged_parameters(general.startup_parameters, pool.startup_parameters), (*path, "startup_parameters"), source)
    places = source.data["pools"][name].get("users", [])
    keys: list[str | int] = list(range(len(places))) if isinstance(places, list) else sorted(places, key=int)
    usernames: set[str] = set()
    for key, user in zip(keys, pool.users, strict=True):
        at = (*path, "users", key)
        if user.username in usernames:
            source.refuse(at, f"duplicate username '{user.username}' in pool users")
        usernames.add(user.username)
        _user(user, at, source)
    if pool.auth_query is not None:
        _auth_query(name, pool.auth_query, usernames, source)
    if pool.max_db_connections:
        _coordinator(pool, pool.max_db_connections, general, path, source)
    else:
        for key in ("reserve_pool_size", "min_guaranteed_pool_size"):
            if getattr(pool, key):
                source.warn((*path, key), f"{key} has no effect without max_db_connections")


def _coordinator(pool: Pool, most: int, general: General, path: Path, source: Source) -> None:
    wanted = sum(user.min_pool_size or 0 for user in pool.users)
    if wanted > most:
        source.refuse(
            (*path, "max_db_connections"),
            f"sum of min_pool_size ({wanted}) exceeds max_db_connections ({most}); they could not all be kept open",
        )
    guaranteed = sum(max(user.min_pool_size or 0, pool.min_guaranteed_pool_size) for user in pool.users)
    if guaranteed > most >= wanted:
        source.warn(
            (*path, "min_guaranteed_pool_size"),
            f"users are guaranteed {guaranteed} connections of {most} (max_db_connections): who comes late gets none",
        )
    for user in pool.users:
        if user.pool_size > most:
            source.warn(
                (*path, "max_db_connections"),
                f"pool_size of '{user.username}' ({user.pool_size}) exceeds max_db_connections ({most})",
            )
    if pool.reserve_pool_size and 0 < general.query_wait_timeout < pool.reserve_pool_timeout:
        source.warn(
            (*path, "reserve_pool_timeout"),
            "reserve_pool_timeout exceeds query_wait_timeout: nobody waits for long enough to have the reserve",
        )


def _hosts(pool: Pool, path: Path, source: Source) -> None:
    hosts, ports = len(pool.server_host), len(pool.server_port)
    if ports not in (1, hosts):
        source.refuse(
            (*path, "server_port"),
            f"could not match {ports} port numbers to {hosts} hosts: expected one port, or one for each of server_host",
        )


def _patroni(urls: tuple[str, ...] | None, path: Path, source: Source) -> None:
    at = (*path, "patroni_api_urls")
    if urls == ():
        source.refuse(at, "patroni_api_urls cannot be an empty list; remove the key for no fallback")
    for url in urls or ():
        if not url.startswith(("http://", "https://")):
            source.refuse(at, f"invalid URL '{url}'; must start with http:// or https://")
        elif not _is_url(url):
            source.refuse(at, f"invalid URL '{url}'; expected a host and perhaps a port: http://10.0.0.1:8008")


def _is_url(url: str) -> bool:
    """Whether there is a host to ask, and nothing that is not for a URL of an API."""
    from urllib.parse import urlsplit  # 1 ms of each start, else

    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    plain = not (parts.query or parts.fragment or parts.username or parts.password)
    return bool(parts.hostname) and port != 0 and plain and url.isascii() and url.isprintable() and " " not in url


def _auth_query(name: str, looked_up: AuthQuery, usernames: set[str], source: Source) -> None:
    path: Path = ("pools", name, "auth_query")
    for key in ("query", "user"):
        if not getattr(looked_up, key):
            source.refuse((*path, key), f"auth_query.{key} cannot be empty")
    if looked_up.query and _USER_PARAMETER.search(looked_up.query) is None:
        source.refuse((*path, "query"), "expected $1 in it, which stands for the user's name")
    if looked_up.min_pool_size > looked_up.pool_size:
        source.refuse((*path, "min_pool_size"), "auth_query: min_pool_size must be <= pool_size")
    if looked_up.server_password is not None and looked_up.server_user is None:
        source.refuse((*path, "server_password"), "auth_query: server_password requires server_user to be set")
    if looked_up.server_user in usernames:
        source.refuse(
            (*path, "server_user"),
            f"'{looked_up.server_user}' has a pool of his own, under users: expected one who is not there, or no "
            "such user there",
        )
    if name == EVERY_DATABASE and looked_up.database is None:
        source.refuse(path, "expected database, where the query runs: this pool is for more than one")
    for key in ("password", "server_password"):
        _server_secret(getattr(looked_up, key) or "", (*path, key), source)


def _user(user: User, path: Path, source: Source) -> None:
    if user.min_pool_size is not None and user.min_pool_size > user.pool_size:
        source.refuse(
            (*path, "min_pool_size"),
            f"min_pool_size of {user.min_pool_size} cannot be larger than pool_size of {user.pool_size}",
        )
    without = None
    if user.auth_pam_service and not user.password:
        without = "nobody but the client knows the password that the server is told"
    elif user.password.startswith(_SCRAM_PREFIX):
        without = "the user's SCRAM secret alone can't log in to the server"
    if user.min_pool_size and user.server_password is None and without is not None:
        source.warn(
            (*path, "min_pool_size"),
            f"{without}: connections are opened once a client has logged in; server_username and server_password would "
            "do without",
        )
    if user.server_password is not None and user.server_username is None:
        source.refuse((*path, "server_password"), "server_password requires server_username to be set")
    check_key(user.password, PUBLIC_KEY, (*path, "password"), source)
    _server_secret(
        user.server_password or "",
        (*path, "server_password"),
        source,
        ", or no server_password if the client is to log in to the server as itself",
    )


def _server_secret(secret: str, path: Path, source: Source, otherwise: str = "") -> None:
    """What the pooler itself is to log in with at a server."""
    if secret.startswith(_SCRAM_PREFIX):
        source.refuse(
            path,
            'found a SCRAM secret, which proves nothing to a server; expected the plain password, or "md5..." for a '
            f"server that asks for MD5{otherwise}",
        )
    check_key(secret, PRIVATE_KEY, path, source)
