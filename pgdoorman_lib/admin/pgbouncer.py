"""PgBouncer's tables: names, order, types and meaning of 1.25's columns, filled from our pools.

Rules:
1. What tools label by database alone has one row for each database, summed over its users: two rows of the same labels
   make exporters fail or overwrite one by the other. POOLS has one for each (database, user), as there.
2. Numbers have the types they have there: int4, and numeric in the tables of statistics.
3. The console counts as database, pool, user and clients of its own, as there.
4. ``free_clients`` and ``free_servers`` of LISTS are memory kept for later there, and of that there is none here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import groupby

from pgdoorman_lib.admin.pgbouncer_config import config_rows
from pgdoorman_lib.admin.pgbouncer_sockets import SHORT, WHOLE, active_sockets, clients, servers, sockets
from pgdoorman_lib.admin.pgbouncer_stats import AVERAGES, STATS, TOTALS, all_totals, averages, stats, totals
from pgdoorman_lib.admin.rows import INT4, INT4_MAX, INT8, NUMERIC, columns
from pgdoorman_lib.admin.tables import (
    Row,
    Show,
    clients_by_state,
    connections,
    infos,
    is_used,
    microseconds_within_second,
    no_rows,
    server_limits,
)
from pgdoorman_lib.together import kinds
from pgdoorman_lib.views import PoolView, RunningPooler, sorted_pools

#: The console's database, pool and user, as PgBouncer shows them, and the size of that pool there.
CONSOLE = "pgbouncer"
_CONSOLE_SIZE = 2
#: The release whose console this is.
PGBOUNCER_VERSION = "1.25.2"


def _by_database(pooler: RunningPooler) -> list[tuple[str, list[PoolView]]]:
    return [
        (database, list(pools))
        for database, pools in groupby(sorted_pools(pooler), lambda pool: str(pool.settings.database))
    ]


def _with_console(rows: Iterable[Row], console: Row) -> list[Row]:
    """Rows by their first column, the console's among them."""
    return sorted((*rows, console), key=lambda row: str(row[0]))


def _version(pooler: RunningPooler) -> list[Row]:
    build = pooler.build
    # Tools look for the name and take the first number: behind it everybody may read what this is.
    ours = f"pgdoorman {build['version']}, {build['build']}, {build['engine']} engine"
    return [(f"PgBouncer {PGBOUNCER_VERSION} ({ours})",)]


def _databases(pooler: RunningPooler) -> list[Row]:
    present = Counter(client.database for client in infos(pooler))

    def row(database: str, pools: Sequence[PoolView]) -> Row:
        settings = pools[0].settings
        most, reserve = server_limits(pooler, database)
        return (
            database,
            settings.server_host,
            settings.server_port,
            settings.server_database,
            None,  # force_user: each of ours has a pool of its own
            sum(pool.settings.pool_size for pool in pools),
            sum(pool.settings.min_pool_size for pool in pools),
            reserve,
            int(settings.server_lifetime),
            pooler.config.pools[database].pool_mode if database in pooler.config.pools else settings.pool_mode,
            None,
            most,
            sum(connections(pool) for pool in pools),
            _client_limit(pooler, database),
            present[database],
            int(all(pool.paused for pool in pools)),
            int(all(pool.disabled for pool in pools)),
        )

    listens = pooler.config.general.port
    console = (CONSOLE, None, listens, CONSOLE, CONSOLE, _CONSOLE_SIZE, 0, 0, 0, "statement", None, 0, 0, 0)
    users = len(pooler.consoles)
    return _with_console((row(*found) for found in _by_database(pooler)), (*console, users, 0, 0))


def _client_limit(pooler: RunningPooler, database: str) -> int:
    """max_db_client_connections in force; 0 for none."""
    pool = pooler.config.pools.get(database)
    own = pool.max_db_client_connections if pool is not None else None
    return pooler.config.general.max_db_client_connections if own is None else own


def _pools(pooler: RunningPooler) -> list[Row]:
    now = pooler.now()
    count = clients_by_state(pooler)
    rows: list[Row] = []
    for pool in sorted_pools(pooler):
        settings = pool.settings
        states: Counter[str] = Counter()
        cancels = 0
        for server in pool.servers:
            state = "used" if is_used(server, now) else server.state
            if state == "cleaning" and server.cancels:
                state = "being_canceled"
            states[state] += 1
            cancels += server.cancels
        max_wait = pool.max_wait(now)
        rows.append(
            (
                settings.database,
                settings.user,
                count(pool, "idle") + count(pool, "active"),
                count(pool, "waiting"),
                cancels,
                0,
                states["active"],
                cancels,
                states["being_canceled"],
                states["idle"],
                states["used"],
                states["cleaning"],
                pool.opening_count,
                int(max_wait),
                microseconds_within_second(max_wait),
                settings.pool_mode,
                None,
            )
        )
    users = len(pooler.consoles)
    return _with_console(rows, (CONSOLE, CONSOLE, users, *(0,) * 12, "statement", None))


def _users(pooler: RunningPooler) -> list[Row]:
    present = Counter(client.user for client in infos(pooler))
    present[CONSOLE] += len(pooler.consoles)
    pools = sorted(pooler.pools, key=lambda pool: str(pool.settings.user))
    rows: dict[str, Row] = {CONSOLE: (CONSOLE, "", "", None, 0, 0, 0, present[CONSOLE])}
    for user, found in groupby(pools, lambda pool: str(pool.settings.user)):
        of_user = list(found)
        sizes = {pool.settings.pool_size for pool in of_user}
        modes = {pool.settings.pool_mode for pool in of_user}
        rows[user] = (
            user,
            str(sizes.pop()) if len(sizes) == 1 else "",
            "",
            modes.pop() if len(modes) == 1 else None,
            pooler.config.general.max_user_connections,
            sum(connections(pool) for pool in of_user),
            _clients_of_user(pooler, user),
            present[user],
        )
    return [rows[user] for user in sorted(rows)]


def _clients_of_user(pooler: RunningPooler, user: str) -> int:
    """max_user_client_connections in force: that of his own, or [general]'s where his pools don't agree; 0 for none."""
    own = {
        each.max_user_client_connections
        for pool in pooler.config.pools.values()
        for each in pool.users
        if each.username == user
    }
    limit = own.pop() if len(own) == 1 else None
    return pooler.config.general.max_user_client_connections if limit is None else limit


def _lists(pooler: RunningPooler) -> list[Row]:
    pools = list(pooler.pools)
    peers = sum(1 for _ in pooler.peers)
    counts = {
        "databases": len({pool.settings.database for pool in pools} | {CONSOLE}),
        "users": len({pool.settings.user for pool in pools} | {CONSOLE}),
        "peers": peers,
        "pools": len(pools) + 1,
        "peer_pools": peers,
        "free_clients": 0,
        "used_clients": sum(1 for _ in pooler.clients) + len(pooler.consoles),
        "login_clients": pooler.login_count,
        "free_servers": 0,
        "used_servers": sum(connections(pool) for pool in pools) + sum(1 for _ in pooler.unpooled),
        "dns_names": 0,
        "dns_zones": 0,
        "dns_queries": 0,
        "dns_pending": 0,
    }
    return list(counts.items())


def _peers(pooler: RunningPooler) -> list[Row]:
    return [(peer.id, peer.settings.host, peer.settings.port, peer.settings.pool_size) for peer in pooler.peers]


def _peer_pools(pooler: RunningPooler) -> list[Row]:
    return [
        (peer.id, peer.active, peer.waiting + peer.connecting, peer.active, peer.connecting) for peer in pooler.peers
    ]


def _memory(pooler: RunningPooler) -> list[Row]:
    # Bytes beyond what an int4 holds are told as the most it holds.
    return [(name, *(min(number, INT4_MAX) for number in numbers)) for name, *numbers in pooler.memory()]


def _state(pooler: RunningPooler) -> list[Row]:
    pools = list(pooler.pools)
    paused = bool(pools) and all(pool.paused for pool in pools)
    return [("active", _yes(not paused)), ("paused", _yes(paused)), ("suspended", "no")]


def _yes(value: bool) -> str:
    return "yes" if value else "no"


_SOCKETS = (kinds.POOLS, kinds.CLIENTS, kinds.SERVERS, kinds.UNPOOLED, kinds.STREAMS)
_TOTALS = (kinds.POOLS, kinds.STATS, kinds.PROCESS)
_AVERAGES = (kinds.POOLS, kinds.PERIODS, kinds.PROCESS)
_STATISTICS = (*_TOTALS, kinds.PERIODS)

PGBOUNCER_SHOWS: dict[str, Show] = {
    "CONFIG": Show(
        columns("key value default changeable"), config_rows, "the configuration under PgBouncer's names, in its units"
    ),
    "DATABASES": Show(
        columns("name host")
        + columns("port", INT4)
        + columns("database force_user")
        + columns("pool_size min_pool_size reserve_pool_size server_lifetime", INT4)
        + columns("pool_mode load_balance_hosts")
        + columns("max_connections current_connections max_client_connections current_client_connections", INT4)
        + columns("paused disabled", INT4),
        _databases,
        "each database: where it is, its size and connections",
        (kinds.POOLS, kinds.COUNTS),
    ),
    "POOLS": Show(
        columns("database user")
        + columns("cl_active cl_waiting cl_active_cancel_req cl_waiting_cancel_req", INT4)
        + columns("sv_active sv_active_cancel sv_being_canceled sv_idle sv_used sv_tested sv_login", INT4)
        + columns("maxwait maxwait_us", INT4)
        + columns("pool_mode load_balance_hosts"),
        _pools,
        "each pool: its clients, servers, and who waits how long",
        (kinds.POOLS, kinds.SERVERS, kinds.COUNTS),
    ),
    "CLIENTS": Show(SHORT, clients, "each client", (kinds.CLIENTS, kinds.STREAMS)),
    "SERVERS": Show(
        SHORT,
        servers,
        "each server connection",
        (kinds.POOLS, kinds.SERVERS, kinds.UNPOOLED, kinds.LINKED, kinds.STREAMS),
    ),
    "USERS": Show(
        columns("name pool_size reserve_pool_size pool_mode")
        + columns("max_user_connections current_connections", INT4)
        + columns("max_user_client_connections current_client_connections", INT4),
        _users,
        "users of pools, and their connections",
        (kinds.POOLS, kinds.COUNTS),
    ),
    "VERSION": Show(columns("version"), _version, "version, build and engine"),
    "PEERS": Show(
        columns("peer_id", INT4) + columns("host") + columns("port pool_size", INT4),
        _peers,
        "the other poolers behind the same address: [peers]",
    ),
    "PEER_POOLS": Show(
        columns("peer_id cl_active_cancel_req cl_waiting_cancel_req sv_active_cancel sv_login", INT4),
        _peer_pools,
        "cancel requests on their way to each",
        (kinds.PEERS,),
    ),
    "SOCKETS": Show(WHOLE, sockets, "clients and servers with what their buffers hold", _SOCKETS),
    "ACTIVE_SOCKETS": Show(WHOLE, active_sockets, "those whose buffers hold anything", _SOCKETS),
    "LISTS": Show(
        columns("list") + columns("items", INT4),
        _lists,
        "how many there are of everything",
        (kinds.POOLS, kinds.COUNTS, kinds.UNPOOLED, kinds.PROCESS, kinds.PEERS),
    ),
    "MEM": Show(
        columns("name") + columns("size used free memtotal", INT4), _memory, "where memory is", (kinds.MEMORY,)
    ),
    "STATE": Show(columns("key value"), _state, "whether everything is paused", (kinds.POOLS,)),
    "DNS_HOSTS": Show(
        columns("hostname") + columns("ttl", INT8) + columns("addrs"),
        no_rows,
        "no rows: the system resolves names, for each connection anew",
    ),
    "DNS_ZONES": Show(columns("zonename") + columns("serial", INT8) + columns("count", INT4), no_rows, "no rows"),
    "STATS": Show(STATS, stats, "each database's totals, and its averages over 15 s", _STATISTICS),
    "STATS_TOTALS": Show(TOTALS, totals, "the totals alone", _TOTALS),
    "STATS_AVERAGES": Show(AVERAGES, averages, "the averages alone", _AVERAGES),
    "TOTALS": Show(columns("name") + columns("value", NUMERIC), all_totals, "the same over all databases", _STATISTICS),
}

REFUSED = {
    "FDS": "SHOW FDS hands clients over to another process, and shows their secrets: there is no such thing here",
}
