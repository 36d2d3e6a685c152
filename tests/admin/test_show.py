"""The tables' shapes against the reference's, and their values against a pooler made of plain values."""

from __future__ import annotations

import pytest
from admin.fakes import FakeClient, FakePool, FakePooler, FakeServer, FakeSettings

from pgdoorman_lib.admin.dialects import PGBOUNCER, PGDOORMAN
from pgdoorman_lib.admin.rows import INT4, INT8, NUMERIC, TEXT
from pgdoorman_lib.admin.tables import Dialect, Row
from pgdoorman_lib.config.model import Pool
from pgdoorman_lib.wire.statements import Statement, Unnamed

SHOWS = PGDOORMAN.shows

# One letter a column: text, int4, int8, numeric.
LETTERS = {TEXT: "t", INT4: "i", INT8: "q", NUMERIC: "n"}

SHAPES = {
    "HELP": ("t", "item"),
    "VERSION": ("t", "version"),
    "CONFIG": ("tttt", "key value default changeable"),
    "DATABASES": (
        "tttttiiitii",
        "name host port database force_user pool_size min_pool_size reserve_pool pool_mode max_connections"
        " current_connections",
    ),
    "POOLS": (
        "ttt" + "n" * 12 + "ttnnn",
        "database user pool_mode cl_idle cl_active cl_waiting cl_cancel_req sv_active sv_idle sv_used sv_login"
        " pool_size maxwait maxwait_us avg_xact_time paused fallback_active oldest_active_age_ms asked"
        " asked_unknown",
    ),
    "POOLS_EXTENDED": (
        "tt" + "n" * 9 + "t" + "n" * 8,
        "database user cl_active cl_waiting sv_active sv_idle sv_used sv_login pool_size maxwait maxwait_us pool_mode"
        " bytes_recieved bytes_sent query_0.99 transaction_0.99 query_0.95 transaction_0.95 query_0.5 transaction_0.5",
    ),
    "CLIENTS": (
        "ttttttttnnnnt",
        "client_id database user application_name addr tls state wait transaction_count query_count error_count"
        " age_seconds pinned",
    ),
    "SERVERS": (
        "ttttttttnnnnnnnnt",
        "server_id server_process_id database_name user application_name tls state wait transaction_count query_count"
        " bytes_sent bytes_received age_seconds prepare_cache_hit prepare_cache_miss prepare_cache_size pinned",
    ),
    "USERS": ("tt", "name pool_mode"),
    "STATS": (
        "tt" + "n" * 16,
        "database user total_xact_count total_query_count total_received total_sent total_xact_time total_query_time"
        " total_wait_time total_errors avg_xact_count avg_query_count avg_recv avg_sent avg_errors avg_xact_time"
        " avg_query_time avg_wait_time",
    ),
    "LISTS": ("ti", "list items"),
    "MEM": ("tnnnn", "name size used free memtotal"),
    "CONNECTIONS": ("nnnnn", "total errors tls plain cancel"),
    "LOG_LEVEL": ("t", "log_level"),
    "POOLS_MEMORY": (
        "tt" + "n" * 8,
        "database user pool_prepared_count pool_prepared_bytes client_prepared_count client_prepared_bytes"
        " client_named_count client_anonymous_count client_anonymous_evictions_alive async_clients",
    ),
    "WORKERS": ("iitiinn", "worker process state clients servers memory age_seconds"),
    "PREPARED_STATEMENTS": ("tnttnt", "pool hash name query count_used kind"),
    "INTERNER": ("tnn", "kind entries bytes"),
    "AUTH_QUERY": (
        "t" + "n" * 12,
        "database cache_entries cache_hits cache_misses cache_refetches cache_rate_limited auth_success auth_failure"
        " executor_queries executor_errors dynamic_pools_current dynamic_pools_created dynamic_pools_destroyed",
    ),
    "HOSTS": ("tittitnnt", "host port address role servers breaker failures retry_in_ms error"),
    "STARTUP_PARAMETERS": ("tttttt", "user database parameter value source state"),
    "POOL_COORDINATOR": (
        "t" + "n" * 7,
        "database max_db_conn current reserve_size reserve_used evictions reserve_acq exhaustions",
    ),
    "POOL_SCALING": (
        "tt" + "n" * 8,
        "user database inflight creates gate_waits gate_budget_ex antic_notify antic_timeout create_fallback"
        " replenish_def",
    ),
}

#: Tables of features that are not built, or that there is nothing of here.
EMPTY = {"PREPARED_STATEMENTS", "DNS_HOSTS", "DNS_ZONES"}


def rows(pooler: FakePooler, name: str) -> list[Row]:
    return SHOWS[name].rows(pooler)


def only(pooler: FakePooler, name: str) -> dict[str, object]:
    (row,) = rows(pooler, name)
    return dict(zip([column.name for column in SHOWS[name].columns], row, strict=True))


@pytest.mark.parametrize("name", SHAPES)
def test_columns_are_the_references(name: str) -> None:
    letters, names = SHAPES[name]
    described = SHOWS[name].columns
    assert [column.name for column in described] == names.split()
    assert "".join(LETTERS[column.type] for column in described) == letters


def test_every_table_of_the_reference_has_its_shape_tested() -> None:
    assert set(SHOWS) == set(SHAPES) | {"SOCKETS"} | set(PGBOUNCER.shows)


@pytest.mark.parametrize("dialect", [PGDOORMAN, PGBOUNCER], ids=["pgdoorman", "pgbouncer"])
@pytest.mark.parametrize("name", SHOWS)
def test_values_fit_their_columns(name: str, dialect: Dialect) -> None:
    show = dialect.shows[name]
    described = show.columns
    assert show.about
    assert len({column.name for column in described}) == len(described)
    made = show.rows(FakePooler())
    assert made or name in EMPTY | {"ACTIVE_SOCKETS"}
    for row in made:
        for value, column in zip(row, described, strict=True):
            if value is not None:
                assert isinstance(value, str if column.type == TEXT else int | float), column.name


def test_pool_coordinator() -> None:
    assert rows(FakePooler(), "POOL_COORDINATOR") == [("exampledb", 10, 12, 3, 2, 5, 4, 1)]


def test_auth_query() -> None:
    assert rows(FakePooler(), "HOSTS") == [
        ("db", 5432, "10.0.0.1", "primary", 0, "open", 3, 2500, "could not connect"),
        ("db", 5432, "10.0.0.2", "standby", 4, "closed", 0, 0, ""),
    ]
    assert rows(FakePooler(), "AUTH_QUERY") == [("exampledb", 3, 8, 7, 6, 5, 4, 3, 2, 1, 1, 2, 1)]


def test_clients_of_users_who_share_a_pool_are_the_pools() -> None:
    pooler = FakePooler()
    pooler.clients = [FakeClient(user="alice", pool_user="doorman"), FakeClient(user="bob", pool_user="doorman")]
    assert only(pooler, "POOLS")["cl_idle"] == 2
    assert {row[2] for row in rows(pooler, "CLIENTS")} == {"alice", "bob"}


def test_databases() -> None:
    assert rows(FakePooler(), "DATABASES") == [
        ("exampledb", "db.internal", "5432", "real", "doorman", 10, 2, 0, "transaction", 10, 7)
    ]


def test_pools() -> None:
    pooler = FakePooler()
    pooler.clients.append(FakeClient(id=15, user="other"))
    pooler.pools[0].servers += [FakeServer(active_since=990.0), FakeServer(state="idle", active_since=1.0)]
    pooler.pools[0].stats.xact_count = 2
    pooler.pools[0].stats.xact_time = 90
    row = only(pooler, "POOLS")
    assert (row["cl_idle"], row["cl_active"], row["cl_waiting"]) == (1, 1, 1)
    assert (row["sv_active"], row["sv_idle"], row["sv_login"], row["pool_size"]) == (2, 4, 1, 10)
    assert (row["maxwait"], row["maxwait_us"]) == (2, 250_000)
    assert (row["paused"], row["oldest_active_age_ms"]) == ("0", 10_000)
    pooler.pools[0].paused = True
    pooler.pools[0].servers = []
    row = only(pooler, "POOLS")
    assert (row["paused"], row["oldest_active_age_ms"]) == ("1", 0)


def test_pools_extended_percentiles() -> None:
    pooler = FakePooler()
    stats = pooler.pools[0].stats
    stats.received, stats.sent = 11, 22
    for _ in range(100):
        stats.query_hist.add(1000)
        stats.xact_hist.add(5000)
    row = only(pooler, "POOLS_EXTENDED")
    assert (row["maxwait"], row["maxwait_us"]) == (2.25, 250_000)
    assert (row["bytes_recieved"], row["bytes_sent"]) == (11, 22)
    for quantile in ("0.99", "0.95", "0.5"):
        assert 750 <= row[f"query_{quantile}"] <= 1250
        assert 3750 <= row[f"transaction_{quantile}"] <= 6250


def test_stats_totals_and_averages() -> None:
    pooler = FakePooler()
    stats = pooler.pools[0].stats
    stats.xact_count, stats.query_count, stats.received, stats.sent = 150, 300, 3000, 4500
    stats.xact_time, stats.query_time, stats.wait_time, stats.errors = 1500, 600, 450, 15
    pooler.clock += 15
    pooler.averages.tick()
    (row,) = rows(pooler, "STATS")
    assert row == ("exampledb", "doorman", 150, 300, 3000, 4500, 1500, 600, 450, 15, 10, 20, 200, 300, 1, 10, 2, 3)


def test_clients_and_servers() -> None:
    pooler = FakePooler()
    assert rows(pooler, "CLIENTS")[0] == (
        *("#c12", "exampledb", "doorman", "psql", "127.0.0.1:5555", "false", "idle", "idle"),
        *(0, 0, 0, 100, "listen"),
    )
    stats = pooler.pools[0].servers[0].stats
    stats.xact_count, stats.query_count, stats.sent, stats.received, stats.prepare_hit, stats.prepare_miss = range(6)
    assert rows(pooler, "SERVERS") == [
        (
            *("#s7", "4711", "exampledb", "doorman", "app", "true", "active", "read"),
            *(0, 1, 2, 3, 60, 4, 5, 3, "listen"),
        )
    ]


def test_rows_are_sorted_by_pool_and_lists_counts_each_thing_once() -> None:
    pooler = FakePooler()
    pooler.pools = [
        FakePool(FakeSettings(database=database, user=user)) for database, user in (("b", "x"), ("a", "y"), ("a", "x"))
    ]
    assert [row[:2] for row in rows(pooler, "POOLS")] == [("a", "x"), ("a", "y"), ("b", "x")]
    counts = dict(rows(pooler, "LISTS"))
    assert (counts["databases"], counts["users"], counts["pools"]) == (3, 3, 4)
    assert (counts["free_clients"], counts["used_clients"]) == (1, 2)
    assert (counts["free_servers"], counts["used_servers"]) == (12, 6)


def test_servers_outside_the_pools() -> None:
    pooler = FakePooler()
    pooler.unpooled = [FakeServer(id=9, application_name="standby")]
    assert [(row[0], row[4]) for row in rows(pooler, "SERVERS")] == [("#s7", "app"), ("#s9", "standby")]
    assert dict(rows(pooler, "LISTS"))["used_servers"] == 3


def test_connections() -> None:
    pooler = FakePooler()
    counted = pooler.connections
    counted.total, counted.errors, counted.tls, counted.plain, counted.cancel = 15, 1, 2, 4, 8
    assert rows(pooler, "CONNECTIONS") == [(15, 1, 2, 4, 8)]


def test_version_tells_build_and_engine() -> None:
    (text,) = only(FakePooler(), "VERSION").values()
    assert str(text).startswith("PgDoorman 0.1.0")
    assert "interpreted" in str(text) and "gevent" in str(text)


def test_config_shows_no_secret() -> None:
    shown = {row[0]: row[1:] for row in rows(FakePooler(), "CONFIG")}
    assert shown["port"][2] == "no"
    assert shown["idle_timeout"][2] == "yes"
    assert "top secret" not in repr(shown)


def test_help_names_every_table() -> None:
    text = "\n".join(str(row[0]) for row in rows(FakePooler(), "HELP"))
    assert all(f"SHOW {name}: {show.about}" in text for name, show in SHOWS.items())
    assert all(name in text for name in ("RELOAD", "SHUTDOWN", "SET <key>"))


def test_prepared_statements_of_pools_and_their_clients() -> None:
    pooler = FakePooler()
    registry = pooler.pools[0].registry
    shared = registry.get(b"SELECT 1\0\0\0", None)
    other = registry.get(b"SELECT 22\0\0\0", None)
    names = [client.statements for client in pooler.clients]
    assert names[0] is not None and names[1] is not None
    names[0].enter(b"a", shared)
    names[1].enter(b"b", shared)
    names[1].enter(b"c", Statement(b"pgdoorman_0_1", b"SELECT 3\0\0\0"))
    names[1].unnamed = Unnamed(b"SELECT 4444\0\0\0")
    assert rows(pooler, "POOLS_MEMORY") == [("exampledb", "doorman", 2, 23, 4, 3 * 11 + 14, 3, 1, 0, 0)]
    assert rows(pooler, "PREPARED_STATEMENTS") == [
        ("doorman@exampledb", shared.handle.line, shared.name.decode(), "SELECT 1", 2, "named"),
        ("doorman@exampledb", other.handle.line, other.name.decode(), "SELECT 22", 0, "named"),
    ]
    assert rows(pooler, "INTERNER") == [("named", 2, 23), ("anonymous", 0, 0)]


def test_parameters_that_servers_begin_with() -> None:
    pooler = FakePooler()
    assert rows(pooler, "STARTUP_PARAMETERS") == [("doorman", "exampledb", "work_mem", "8MB", "general", "applied")]
    pooler.config.pools["exampledb"] = Pool(startup_parameters=(("Work_Mem", "8MB"),))
    pooler.pools[0].settings.startup_parameters = (("WORK_MEM", "8MB"),)
    assert only(pooler, "STARTUP_PARAMETERS")["source"] == "pool"
    pooler.pools[0].settings.startup_parameters = (("WORK_MEM", "9MB"),)
    assert only(pooler, "STARTUP_PARAMETERS")["source"] == "auth_query"


def test_pool_scaling() -> None:
    assert rows(FakePooler(), "POOL_SCALING") == [("doorman", "exampledb", 1, 9, 0, 0, 0, 0, 0, 0)]


def test_the_consoles_own_client_is_shown() -> None:
    pooler = FakePooler()
    pooler.consoles.add(99, FakeClient(id=99, database="pgdoorman", user="admin", state="active"))
    assert [row[0] for row in rows(pooler, "CLIENTS")] == ["#c12", "#c13", "#c14", "#c99"]
    counts = dict(rows(pooler, "LISTS"))
    assert (counts["free_clients"], counts["used_clients"]) == (1, 3)
