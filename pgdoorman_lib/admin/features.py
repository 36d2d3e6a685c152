"""The reference's tables about single features: prepared statements, growth of pools, parameters of server sessions.

What stands for a feature that is not built yet has the reference's columns and no rows.
"""

from __future__ import annotations

from collections import defaultdict

from pgdoorman_lib.admin.rows import INT4, NUMERIC, columns
from pgdoorman_lib.admin.tables import Row, Show, infos, whose
from pgdoorman_lib.config.validate import merged_parameters
from pgdoorman_lib.together import kinds
from pgdoorman_lib.views import RunningPooler, sorted_pools
from pgdoorman_lib.wire.prepared import ClientStatements
from pgdoorman_lib.wire.statements import Statement


def _text(sql: bytes) -> str:
    return sql.decode("utf-8", "replace")


def _sizes(statements: ClientStatements) -> tuple[int, int, int]:
    """How many names a client has, whether it has an unnamed statement (1 or 0), and the bytes of all their texts."""
    size = sum(statement.handle.size for statement in statements.names.values())
    unnamed = statements.unnamed
    if unnamed is None:
        return len(statements.names), 0, size
    return len(statements.names), 1, size + len(unnamed.body or b"")


def _pools_memory(pooler: RunningPooler) -> list[Row]:
    held: dict[tuple[str, str], list[tuple[int, int, int]]] = defaultdict(list)
    for client in infos(pooler):
        if client.statements is not None:
            held[client.database, client.pool_user].append(_sizes(client.statements))
    rows: list[Row] = []
    for pool in sorted_pools(pooler):
        key = pool.settings.database, pool.settings.user
        named, unnamed, size = (sum(numbers) for numbers in zip((0, 0, 0), *held[key], strict=True))
        shared = pool.registry
        # An unnamed statement is never evicted here, and none needs a name of its own for being sent with Flush.
        rows.append((*key, len(shared.known), shared.bytes, named + unnamed, size, named, unnamed, 0, 0))
    return rows


def _prepared_statements(pooler: RunningPooler) -> list[Row]:
    return [
        (
            f"{pool.settings.user}@{pool.settings.database}",
            statement.handle.line,
            _text(statement.name),
            _text(statement.sql()),
            statement.handle.users,
            "named",
        )
        for pool in sorted_pools(pooler)
        for statement in list(pool.registry.known.values())
    ]


def _interner(pooler: RunningPooler) -> list[Row]:
    # Unnamed statements are kept by the clients that sent them, and shared with nobody.
    pools = list(pooler.pools)
    named = sum(len(pool.registry.known) for pool in pools)
    return [("named", named, sum(pool.registry.bytes for pool in pools)), ("anonymous", 0, 0)]


def interner_top(count: int) -> Show:
    """SHOW INTERNER N: the ``count`` longest texts that pools share; ``idle_ms``: since the server was last asked."""

    def rows(pooler: RunningPooler) -> list[Row]:
        shared = [statement for pool in pooler.pools for statement in list(pool.registry.known.values())]
        shared.sort(key=_size, reverse=True)
        now = pooler.now()
        return [
            (
                statement.handle.line,
                "named",
                _size(statement),
                max(0, int((now - statement.analysed_at) * 1000)),
                _text(statement.sql()),
            )
            for statement in shared[:count]
        ]

    described = columns("hash", NUMERIC) + columns("kind") + columns("bytes idle_ms", NUMERIC) + columns("query")
    return Show(described, rows, "the longest of these texts", (kinds.POOLS, kinds.STATEMENTS))


def _size(statement: Statement) -> int:
    return statement.handle.size


def _auth_query(pooler: RunningPooler) -> list[Row]:
    rows = sorted(pooler.lookups)
    return [(of.database, of.entries, *of.counted, len(of.users), of.made, of.dropped) for of in rows]


def _hosts(pooler: RunningPooler) -> list[Row]:
    return [
        (
            host.host,
            host.port,
            host.address,
            host.role,
            host.servers,
            host.state,
            host.failures,
            int(host.retry_in * 1000),
            host.reason,
            *whose(pooler, host),
        )
        for host in sorted(pooler.hosts)
    ]


def _startup_parameters(pooler: RunningPooler) -> list[Row]:
    rows: list[Row] = []
    for pool in sorted_pools(pooler):
        settings = pool.settings
        configured = pooler.config.pools.get(settings.database)
        of_pool = configured.startup_parameters if configured is not None else ()
        merged = merged_parameters(pooler.config.general.startup_parameters, of_pool)
        everybodys = {(name.lower(), value) for name, value in merged}
        own = {name.lower() for name, _ in of_pool}
        for name, value in settings.startup_parameters:
            source = "pool" if name.lower() in own else "general"
            if (name.lower(), value) not in everybodys:
                source = "auth_query"
            rows.append((settings.user, settings.database, name, value, source, "applied"))
    return rows


def _pool_coordinator(pooler: RunningPooler) -> list[Row]:
    return [
        (
            of.database,
            of.max_db_connections,
            of.current,
            of.reserve_pool_size,
            of.reserve_used,
            of.evictions,
            of.reserve_acquisitions,
            of.exhaustions,
        )
        for of in sorted(pooler.coordinators)
    ]


def _pool_scaling(pooler: RunningPooler) -> list[Row]:
    # Of the reference's ways to wait before it opens a server (gate, anticipation, fallback) there is none here.
    return [
        (pool.settings.user, pool.settings.database, pool.opening_count, pool.opened_count, *(0,) * 6)
        for pool in sorted_pools(pooler)
    ]


FEATURES: dict[str, Show] = {
    "POOLS_MEMORY": Show(
        columns("database user")
        + columns("pool_prepared_count pool_prepared_bytes client_prepared_count client_prepared_bytes", NUMERIC)
        + columns("client_named_count client_anonymous_count client_anonymous_evictions_alive async_clients", NUMERIC),
        _pools_memory,
        "prepared statements that each pool and its clients hold",
        (kinds.POOLS, kinds.COUNTS, kinds.SIZES),
    ),
    "PREPARED_STATEMENTS": Show(
        columns("pool")
        + columns("hash", NUMERIC)
        + columns("name query")
        + columns("count_used", NUMERIC)
        + columns("kind"),
        _prepared_statements,
        "statements that clients of a pool share",
        (kinds.POOLS, kinds.STATEMENTS),
    ),
    "INTERNER": Show(
        columns("kind") + columns("entries bytes", NUMERIC),
        _interner,
        "texts of those statements in all pools; INTERNER <n>: the n longest",
        (kinds.POOLS,),
    ),
    "AUTH_QUERY": Show(
        columns("database")
        + columns("cache_entries cache_hits cache_misses cache_refetches cache_rate_limited", NUMERIC)
        + columns("auth_success auth_failure executor_queries executor_errors", NUMERIC)
        + columns("dynamic_pools_current dynamic_pools_created dynamic_pools_destroyed", NUMERIC),
        _auth_query,
        "users looked up in the server: what was asked, and who has a pool by it",
        (kinds.LOOKUPS,),
    ),
    "HOSTS": Show(
        columns("host")
        + columns("port", INT4)
        + columns("address role")
        + columns("servers", INT4)
        + columns("breaker")
        + columns("failures retry_in_ms", NUMERIC)
        + columns("error"),
        _hosts,
        "the addresses where servers are opened, and which of them are known to be down",
        (kinds.HOSTS,),
        by_worker=True,
    ),
    "STARTUP_PARAMETERS": Show(
        columns("user database parameter value source state"),
        _startup_parameters,
        "parameters that server sessions begin with",
        (kinds.POOLS,),
    ),
    "POOL_COORDINATOR": Show(
        columns("database")
        + columns("max_db_conn current reserve_size reserve_used evictions reserve_acq exhaustions", NUMERIC),
        _pool_coordinator,
        "databases with max_db_connections: their servers, the reserve, and who had to make room",
        (kinds.COORDINATORS,),
    ),
    "POOL_SCALING": Show(
        columns("user database")
        + columns("inflight creates gate_waits gate_budget_ex", NUMERIC)
        + columns("antic_notify antic_timeout create_fallback replenish_def", NUMERIC),
        _pool_scaling,
        "server connections being made, and made so far",
        (kinds.POOLS,),
    ),
}
