"""The reference's tables about the whole pooler: the columns, and a function from the running pooler to rows.

Rules:
1. Names, order and types of columns are the reference's (newest version); what it always shows as 0 is 0 here too.
2. ``database`` of SHOW DATABASES is the server's database, as in PgBouncer; the reference repeats the pool's name.
"""

from __future__ import annotations

from collections import Counter

from pgdoorman_lib.admin import sockets
from pgdoorman_lib.admin.features import FEATURES
from pgdoorman_lib.admin.rows import INT4, NUMERIC, columns
from pgdoorman_lib.admin.tables import (
    Row,
    Show,
    all_infos,
    boolean,
    clients_by_state,
    connections,
    console_infos,
    flag,
    infos,
    microseconds_within_second,
    paced,
    server_limits,
    whose,
)
from pgdoorman_lib.config.model import show_rows
from pgdoorman_lib.together import kinds
from pgdoorman_lib.views import RunningPooler, ServerView, sorted_pools


def _version(pooler: RunningPooler) -> list[Row]:
    build = pooler.build
    return [(f"PgDoorman {build['version']} ({build['build']}, {build['engine']} engine)",)]


def _databases(pooler: RunningPooler) -> list[Row]:
    rows: list[Row] = []
    for pool in sorted_pools(pooler):
        settings = pool.settings
        rows.append(
            (
                settings.database,
                settings.server_host,
                str(settings.server_port),
                settings.server_database,
                settings.user,
                settings.pool_size,
                settings.min_pool_size,
                server_limits(pooler, settings.database)[1],
                settings.pool_mode,
                settings.pool_size,
                connections(pool),
            )
        )
    return rows


def _pools_rows(pooler: RunningPooler) -> list[Row]:
    now = pooler.now()
    clients = clients_by_state(pooler)
    falling_back = {of.database for of in pooler.fallbacks if of.members}
    rows: list[Row] = []
    for pool in sorted_pools(pooler):
        settings = pool.settings
        max_wait = pool.max_wait(now)
        oldest = max((now - server.active_since for server in pool.servers if server.state == "active"), default=0.0)
        rows.append(
            (
                settings.database,
                settings.user,
                settings.pool_mode,
                clients(pool, "idle"),
                clients(pool, "active"),
                clients(pool, "waiting"),
                0,
                pool.borrowed_count,
                pool.idle_count,
                0,
                pool.opening_count,
                settings.pool_size,
                int(max_wait),
                microseconds_within_second(max_wait),
                pooler.averages.of(pool.stats).xact_time,
                flag(pool.paused),
                flag(settings.database in falling_back),
                max(0, int(oldest * 1000)),
                pool.stats.asked,
                pool.stats.asked_unknown,
            )
        )
    return rows


def _pools_extended(pooler: RunningPooler) -> list[Row]:
    now = pooler.now()
    clients = clients_by_state(pooler)
    rows: list[Row] = []
    for pool in sorted_pools(pooler):
        settings, stats = pool.settings, pool.stats
        max_wait = pool.max_wait(now)
        latencies = pooler.averages.latencies(stats)
        percentiles = [
            histogram.percentile(percent)
            for percent in (99.0, 95.0, 50.0)
            for histogram in (latencies.query, latencies.xact)
        ]
        rows.append(
            (
                settings.database,
                settings.user,
                clients(pool, "active"),
                clients(pool, "waiting"),
                pool.borrowed_count,
                pool.idle_count,
                0,
                pool.opening_count,
                settings.pool_size,
                round(max_wait, 6),
                microseconds_within_second(max_wait),
                settings.pool_mode,
                stats.received,
                stats.sent,
                *percentiles,
            )
        )
    return rows


def _stats(pooler: RunningPooler) -> list[Row]:
    rows: list[Row] = []
    for pool in sorted_pools(pooler):
        stats, averages = pool.stats, pooler.averages.of(pool.stats)
        rows.append(
            (
                pool.settings.database,
                pool.settings.user,
                stats.xact_count,
                stats.query_count,
                stats.received,
                stats.sent,
                stats.xact_time,
                stats.query_time,
                stats.wait_time,
                stats.errors,
                averages.xacts_per_second,
                averages.queries_per_second,
                averages.received_per_second,
                averages.sent_per_second,
                averages.errors_per_second,
                averages.xact_time,
                averages.query_time,
                averages.wait_time,
            )
        )
    return rows


def _clients(pooler: RunningPooler) -> list[Row]:
    now = pooler.now()
    return [
        (
            f"#c{client.id}",
            client.database,
            client.user,
            client.application_name,
            client.peer,
            boolean(client.tls),
            client.state,
            client.wait,
            client.stats.xact_count,
            client.stats.query_count,
            client.stats.errors,
            max(0, int(now - client.connected_at)),
            client.pinned,
            *whose(pooler, client),
        )
        for client in all_infos(pooler)
    ]


def _server_row(server: ServerView, pooler: RunningPooler, now: float) -> Row:
    stats = server.stats
    return (
        f"#s{server.id}",
        str(server.pid),
        server.settings.database,
        server.settings.user,
        server.application_name,
        boolean(server.tls),
        server.state,
        server.wait,
        stats.xact_count,
        stats.query_count,
        stats.sent,
        stats.received,
        max(0, int(now - server.created_at)),
        stats.prepare_hit,
        stats.prepare_miss,
        server.prepared_count,
        server.pinned,
        *whose(pooler, server),
    )


def _servers(pooler: RunningPooler) -> list[Row]:
    now = pooler.now()
    servers = [server for pool in sorted_pools(pooler) for server in pool.servers]
    return [_server_row(server, pooler, now) for server in paced((*servers, *pooler.unpooled))]


def _users(pooler: RunningPooler) -> list[Row]:
    return [(pool.settings.user, pool.settings.pool_mode) for pool in sorted_pools(pooler)]


def _lists(pooler: RunningPooler) -> list[Row]:
    pools = sorted_pools(pooler)
    states = Counter(client.state for client in (*infos(pooler), *console_infos(pooler)))
    # The admin database, its user and its pool count too, as in the reference.
    counts = {
        "databases": len({pool.settings.database for pool in pools}) + 1,
        "users": len({pool.settings.user for pool in pools}) + 1,
        "pools": len(pools) + 1,
        "free_clients": states["idle"],
        "used_clients": states["active"] + states["waiting"],
        "login_clients": 0,
        "free_servers": sum(pool.idle_count for pool in pools),
        "used_servers": sum(pool.borrowed_count for pool in pools) + sum(1 for _ in pooler.unpooled),
        "dns_names": 0,
        "dns_zones": 0,
        "dns_queries": 0,
        "dns_pending": 0,
    }
    return list(counts.items())


def _connections_rows(pooler: RunningPooler) -> list[Row]:
    counted = pooler.connections
    return [(counted.total, counted.errors, counted.tls, counted.plain, counted.cancel)]


def _workers(pooler: RunningPooler) -> list[Row]:
    now = pooler.now()
    return [
        (worker.number, None, f"missing: {worker.missing}", None, None, None, None)
        if worker.missing
        else (
            worker.number,
            worker.pid,
            "serving",
            worker.clients,
            worker.servers,
            worker.resident,
            max(0, int(now - worker.started_at)),
        )
        for worker in pooler.workers
    ]


_NAME = columns("database user")

SHOWS: dict[str, Show] = {
    "VERSION": Show(columns("version"), _version, "version, build and engine"),
    "CONFIG": Show(
        columns("key value default changeable"),
        lambda pooler: list(show_rows(pooler.config)),
        "every key of the configuration, and whether it changes by RELOAD",
    ),
    "DATABASES": Show(
        columns("name host port database force_user")
        + columns("pool_size min_pool_size reserve_pool", INT4)
        + columns("pool_mode")
        + columns("max_connections current_connections", INT4),
        _databases,
        "each pool's server, size and connections",
        (kinds.POOLS,),
    ),
    "POOLS": Show(
        _NAME
        + columns("pool_mode")
        + columns("cl_idle cl_active cl_waiting cl_cancel_req sv_active sv_idle sv_used sv_login", NUMERIC)
        + columns("pool_size maxwait maxwait_us avg_xact_time", NUMERIC)
        + columns("paused fallback_active")
        + columns("oldest_active_age_ms asked asked_unknown", NUMERIC),
        _pools_rows,
        "each pool: its clients, servers, and who waits how long",
        (kinds.POOLS, kinds.SERVERS, kinds.COUNTS, kinds.STATS, kinds.PERIODS, kinds.FALLBACKS),
    ),
    "POOLS_EXTENDED": Show(
        _NAME
        + columns("cl_active cl_waiting sv_active sv_idle sv_used sv_login pool_size maxwait maxwait_us", NUMERIC)
        + columns("pool_mode")
        # "recieved" is the reference's spelling; dashboards select it by name.
        + columns("bytes_recieved bytes_sent query_0.99 transaction_0.99", NUMERIC)
        + columns("query_0.95 transaction_0.95 query_0.5 transaction_0.5", NUMERIC),
        _pools_extended,
        "the same with bytes and percentiles of times (µs)",
        (kinds.POOLS, kinds.COUNTS, kinds.STATS, kinds.LATENCIES),
    ),
    "CLIENTS": Show(
        columns("client_id database user application_name addr tls state wait")
        + columns("transaction_count query_count error_count age_seconds", NUMERIC)
        + columns("pinned"),
        _clients,
        "each client: what it is, does and has done",
        (kinds.CLIENTS,),
        by_worker=True,
    ),
    "SERVERS": Show(
        columns("server_id server_process_id database_name user application_name tls state wait")
        + columns("transaction_count query_count bytes_sent bytes_received age_seconds", NUMERIC)
        + columns("prepare_cache_hit prepare_cache_miss prepare_cache_size", NUMERIC)
        + columns("pinned"),
        _servers,
        "each server connection, and what keeps a client on it",
        (kinds.POOLS, kinds.SERVERS, kinds.UNPOOLED),
        by_worker=True,
    ),
    "USERS": Show(columns("name pool_mode"), _users, "users of pools, and their mode", (kinds.POOLS,)),
    "STATS": Show(
        _NAME
        + columns("total_xact_count total_query_count total_received total_sent", NUMERIC)
        + columns("total_xact_time total_query_time total_wait_time total_errors", NUMERIC)
        + columns("avg_xact_count avg_query_count avg_recv avg_sent avg_errors", NUMERIC)
        + columns("avg_xact_time avg_query_time avg_wait_time", NUMERIC),
        _stats,
        "each pool's totals and its averages over 15 s",
        (kinds.POOLS, kinds.STATS, kinds.PERIODS),
    ),
    "LISTS": Show(
        columns("list") + columns("items", INT4),
        _lists,
        "how many there are of everything",
        (kinds.POOLS, kinds.COUNTS, kinds.UNPOOLED),
    ),
    "SOCKETS": Show(
        columns(" ".join(sockets.NAMES), NUMERIC),
        lambda pooler: [sockets.counts(pooler.sockets())],
        "the pooler's sockets by state",
        (kinds.SOCKETS,),
    ),
    "MEM": Show(
        columns("name") + columns("size used free memtotal", NUMERIC),
        lambda pooler: list(pooler.memory()),
        "where memory is",
        (kinds.MEMORY,),
    ),
    "CONNECTIONS": Show(
        columns("total errors tls plain cancel", NUMERIC),
        _connections_rows,
        "connections accepted since the start, by kind",
        (kinds.PROCESS,),
    ),
    "LOG_LEVEL": Show(columns("log_level"), lambda pooler: [(pooler.log_level,)], "the log's levels in force"),
    "WORKERS": Show(
        columns("worker process", INT4)
        + columns("state")
        + columns("clients servers", INT4)
        + columns("memory age_seconds", NUMERIC),
        _workers,
        "the processes that serve clients",
        (kinds.PROCESS,),
    ),
    **FEATURES,
}
