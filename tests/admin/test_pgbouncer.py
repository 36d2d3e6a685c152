"""PgBouncer's tables: their shapes as its releases send them, and what their numbers mean."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from admin.fakes import FakeBuffers, FakeClient, FakePool, FakePooler, FakeServer, FakeSettings, FakeSocket
from pgbouncer_columns import COLUMNS, CONFIG_KEYS, LIST_ITEMS, OIDS, TOTALS

from pgdoorman_lib.admin.dialects import PGBOUNCER
from pgdoorman_lib.admin.tables import Row

SHOWS = PGBOUNCER.shows


def rows(pooler: FakePooler, name: str) -> list[Row]:
    return SHOWS[name].rows(pooler)


def table(pooler: FakePooler, name: str) -> list[dict[str, object]]:
    names = [column.name for column in SHOWS[name].columns]
    return [dict(zip(names, row, strict=True)) for row in rows(pooler, name)]


def two_users() -> FakePooler:
    """A database with two users, another with one; the console's client."""
    pooler = FakePooler()
    pooler.pools = [
        FakePool(FakeSettings(database=database, user=user)) for database, user in (("b", "x"), ("a", "y"), ("a", "x"))
    ]
    pooler.clients = [
        FakeClient(id=1, database="a", user="x"),
        FakeClient(id=2, database="a", user="x", state="active", server=7),
        FakeClient(id=3, database="a", user="y", state="waiting", waiting_since=997.5),
    ]
    pooler.consoles.add(4, FakeClient(id=4, database="pgbouncer", user="admin", state="active"))
    return pooler


@pytest.mark.parametrize("name", COLUMNS)
def test_columns_are_pgbouncers(name: str) -> None:
    letters, names = COLUMNS[name]
    described = SHOWS[name].columns
    assert [column.name for column in described] == names.split()
    assert [column.type for column in described] == [OIDS[letter] for letter in letters]


def test_names_of_lists_totals_and_keys_are_pgbouncers() -> None:
    pooler = two_users()
    assert [row[0] for row in rows(pooler, "LISTS")] == LIST_ITEMS.split()
    assert [row[0] for row in rows(pooler, "TOTALS")] == TOTALS.split()
    assert [row[0] for row in rows(pooler, "CONFIG")] == CONFIG_KEYS.split()


#: By what each table's rows are labelled by those who collect it.
LABELS = {
    "DATABASES": ("name",),
    "POOLS": ("database", "user"),
    "STATS": ("database",),
    "STATS_TOTALS": ("database",),
    "STATS_AVERAGES": ("database",),
    "TOTALS": ("name",),
    "LISTS": ("list",),
    "CONFIG": ("key",),
    "USERS": ("name",),
    "MEM": ("name",),
    "CLIENTS": ("id",),
}


@pytest.mark.parametrize("name", LABELS)
def test_no_two_rows_have_the_same_labels(name: str) -> None:
    labels = Counter(tuple(row[label] for label in LABELS[name]) for row in table(two_users(), name))
    assert labels
    assert set(labels.values()) == {1}


def test_databases_are_summed_over_their_users() -> None:
    found = {row["name"]: row for row in table(two_users(), "DATABASES")}
    assert list(found) == ["a", "b", "pgbouncer"]
    a = found["a"]
    assert (a["pool_size"], a["min_pool_size"], a["current_connections"]) == (20, 4, 14)
    assert (a["host"], a["port"], a["database"], a["force_user"]) == ("db.internal", 5432, "real", None)
    assert (a["server_lifetime"], a["current_client_connections"], a["paused"], a["disabled"]) == (1200, 3, 0, 0)
    assert (found["pgbouncer"]["pool_mode"], found["pgbouncer"]["current_client_connections"]) == ("statement", 1)


def test_active_clients_are_those_that_rest_too() -> None:
    found = {(row["database"], row["user"]): row for row in table(two_users(), "POOLS")}
    assert list(found) == [("a", "x"), ("a", "y"), ("b", "x"), ("pgbouncer", "pgbouncer")]
    assert (found["a", "x"]["cl_active"], found["a", "x"]["cl_waiting"]) == (2, 0)
    assert (found["a", "y"]["cl_active"], found["a", "y"]["cl_waiting"]) == (0, 1)
    assert (found["a", "y"]["maxwait"], found["a", "y"]["maxwait_us"]) == (2, 250_000)
    assert found["pgbouncer", "pgbouncer"]["cl_active"] == 1
    assert dict(rows(two_users(), "LISTS"))["used_clients"] == 4


def test_servers_by_state() -> None:
    pooler = FakePooler()
    pooler.pools[0].servers = [
        FakeServer(),
        FakeServer(state="idle", idle_since=990.0),
        FakeServer(state="idle", idle_since=900.0),
        FakeServer(state="idle", idle_since=800.0),
        FakeServer(state="cleaning"),
        FakeServer(state="cleaning", cancels=2),
    ]
    row = table(pooler, "POOLS")[0]
    names = "sv_active sv_idle sv_used sv_tested sv_being_canceled sv_active_cancel cl_active_cancel_req sv_login"
    assert [row[name] for name in names.split()] == [1, 1, 2, 1, 1, 2, 2, 1]
    assert [server["state"] for server in table(pooler, "SERVERS")] == [
        "active",
        "idle",
        "used",
        "used",
        *["tested"] * 2,
    ]


def test_stats_are_summed_over_the_users_of_a_database() -> None:
    pooler = two_users()
    for pool, times in zip(pooler.pools, (1, 2, 3), strict=True):
        stats = pool.stats
        stats.assignments, stats.xact_count, stats.query_count = 15 * times, 15 * times, 30 * times
        stats.received, stats.sent, stats.client_login_count = 150 * times, 1500 * times, 15 * times
        stats.xact_time, stats.query_time, stats.wait_time = 150 * times * times, 30 * times, 15 * times
        stats.client_parses, stats.prepare_miss, stats.binds = 45, 30, 15
    pooler.consoles.stats.query_count = 7
    pooler.clock += 15
    pooler.averages.tick()
    found = {row[0]: tuple(row[1:]) for row in rows(pooler, "STATS")}
    assert list(found) == ["a", "b", "pgbouncer"]
    totals = (75, 75, 150, 750, 7500, 1950, 150, 75, 90, 60, 30, 75)
    averages = (5, 5, 10, 50, 500, 26, 1, 1, 6, 4, 2, 5)
    assert found["a"] == totals + averages
    assert found["pgbouncer"][2] == 7
    assert rows(pooler, "STATS_TOTALS")[0] == ("a", *totals)
    assert rows(pooler, "STATS_AVERAGES")[0] == ("a", *averages)
    whole = dict(rows(pooler, "TOTALS"))
    assert (whole["total_query_count"], whole["avg_query_count"], whole["total_ps_bind_count"]) == (187, 12, 45)


def test_a_slow_pool_counts_in_the_mean_however_rare_its_transactions_are() -> None:
    pooler = two_users()
    pooler.pools[1].stats.xact_count, pooler.pools[1].stats.xact_time = 1, 9000
    pooler.clock += 15
    pooler.averages.tick()
    row = table(pooler, "STATS")[0]
    assert (row["avg_xact_count"], row["avg_xact_time"]) == (0, 9000)


def test_clients_and_servers_and_their_links() -> None:
    pooler = two_users()
    pooler.clients[0].stream = FakeBuffers(is_unix=True, sock=FakeSocket())
    pooler.pools[2].servers = [FakeServer(stream=FakeBuffers(peer_host="10.0.0.9", peer_port=5432))]
    clients = table(pooler, "CLIENTS")
    assert [(row["type"], row["state"], row["link"], row["id"]) for row in clients] == [
        ("C", "idle", "", 1),
        ("C", "active", "#s7", 2),
        ("C", "waiting", "", 3),
        ("C", "idle", "", 4),
    ]
    assert (clients[0]["addr"], clients[0]["port"], clients[0]["local_addr"]) == ("unix", 5432, "unix")
    assert (clients[0]["remote_pid"], clients[1]["remote_pid"]) == (4242, 0)
    assert (clients[1]["addr"], clients[1]["port"], clients[1]["local_port"]) == ("127.0.0.1", 5555, 6432)
    assert (clients[2]["wait"], clients[2]["wait_us"]) == (2, 500_000)
    server = next(row for row in table(pooler, "SERVERS") if row["database"] == "exampledb")
    assert server["type"] == "S"
    (own,) = [row for row in table(pooler, "SERVERS") if row["addr"] == "10.0.0.9"]
    assert (own["user"], own["link"], own["remote_pid"], own["prepared_statements"]) == ("owner", "#c2", 4711, 3)


def test_active_sockets_are_those_with_something_in_their_buffers() -> None:
    pooler = two_users()
    assert rows(pooler, "ACTIVE_SOCKETS") == []
    pooler.clients[1].stream = FakeBuffers(start=5, end=12)
    pooler.pools[0].servers[0].stream = FakeBuffers(out_pending=9)
    found = table(pooler, "ACTIVE_SOCKETS")
    assert [(row["state"], row["recv_pos"], row["pkt_avail"], row["send_avail"]) for row in found] == [
        ("cl_active", 12, 7, 0),
        ("sv_active", 0, 0, 9),
    ]
    assert len(rows(pooler, "SOCKETS")) == 7


def test_users() -> None:
    pooler = two_users()
    pooler.pools[0].settings.pool_size = 3
    found = {row["name"]: row for row in table(pooler, "USERS")}
    assert list(found) == ["pgbouncer", "x", "y"]
    assert [found[name]["pool_size"] for name in found] == ["", "", "10"]
    assert [found[name]["current_connections"] for name in found] == [0, 14, 7]
    assert [found[name]["current_client_connections"] for name in found] == [1, 2, 1]


def test_state() -> None:
    pooler = two_users()
    assert rows(pooler, "STATE") == [("active", "yes"), ("paused", "no"), ("suspended", "no")]
    pooler.pools[0].paused = True
    assert rows(pooler, "STATE")[1] == ("paused", "no")
    for pool in pooler.pools:
        pool.paused = True
    assert rows(pooler, "STATE") == [("active", "no"), ("paused", "yes"), ("suspended", "no")]


def test_config_has_our_values_under_its_names_in_its_units() -> None:
    found = {row[0]: row[1:] for row in rows(FakePooler(), "CONFIG")}
    assert found["max_client_conn"] == ("8192", "8192", "yes")
    assert found["max_user_connections"][0] == "0"
    assert found["query_wait_timeout"] == ("5", "5", "yes")
    assert found["listen_port"] == ("5432", "5432", "no")
    assert found["tcp_user_timeout"][0] == "60000"
    assert found["unix_socket_mode"][0] == "0600"
    assert found["max_prepared_statements"][0] == "8192"
    assert found["admin_users"][0] == "admin"
    assert "top secret" not in repr(found)


@pytest.mark.parametrize(
    ("ours", "told"),
    [
        ({}, {"log_stats": "1", "logfile": "", "syslog": "0", "syslog_ident": ""}),
        ({"log_stats": False}, {"log_stats": "0"}),
        ({"log_file": "/var/log/pooler.log"}, {"logfile": "/var/log/pooler.log", "syslog": "0"}),
        ({"syslog_prog_name": "pooler"}, {"syslog": "1", "syslog_ident": "pooler", "logfile": ""}),
    ],
)
def test_config_tells_where_the_log_goes(ours: dict[str, Any], told: dict[str, str]) -> None:
    pooler = FakePooler()
    pooler.config = replace(pooler.config, general=replace(pooler.config.general, **ours))
    found = {row[0]: row[1:] for row in rows(pooler, "CONFIG")}
    assert {key: found[key][0] for key in told} == told
    assert {key: found[key][1] for key in ("log_stats", "logfile", "syslog", "syslog_ident")} == {
        "log_stats": "1",
        "logfile": "",
        "syslog": "0",
        "syslog_ident": "",
    }


def test_version_begins_as_tools_expect_it() -> None:
    assert rows(FakePooler(), "VERSION") == [("PgBouncer 1.25.2 (pgdoorman 0.1.0, interpreted, gevent engine)",)]


def test_memory_beyond_an_int4_is_told_as_the_most_it_holds() -> None:
    class Large(FakePooler):
        def memory(self) -> list[tuple[str, int, int, int, int]]:
            return [("process_peak", 0, 1, 0, 1 << 33)]

    assert rows(Large(), "MEM") == [("process_peak", 0, 1, 0, (1 << 31) - 1)]
