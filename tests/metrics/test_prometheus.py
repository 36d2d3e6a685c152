"""The page for Prometheus, read by its own parser."""

from __future__ import annotations

import gc
import re
import time

import gevent
import pytest
from metrics.fakes import FakeClient, FakePool, FakePooler, FakeSettings
from prometheus_client.parser import text_string_to_metric_families

from pgdoorman_lib.client.rejections import REASONS
from pgdoorman_lib.fallback import FallbackView
from pgdoorman_lib.metrics.counters import Histogram
from pgdoorman_lib.metrics.prometheus import Exposition
from pgdoorman_lib.pool.terms import CoordinatorView
from pgdoorman_lib.views import LookupView

Labels = frozenset[tuple[str, str]]


def exposition(pooler: FakePooler) -> Exposition:
    return Exposition(pooler, lambda _: {"tcp_established": 3, "tcp_listen": 1, "unix_dgram": 2, "unknown": 1}, REASONS)


class Scraped:
    """A page's samples, by name and labels; none comes twice."""

    def __init__(self, page: bytes) -> None:
        self.families = list(text_string_to_metric_families(page.decode()))
        told = re.findall(r"^# TYPE pg_doorman_(\w+) (\w+)$", page.decode(), re.MULTILINE)
        self.types = dict(told)
        assert len(self.types) == len(told), "a family stands in two places"
        samples = [(s.name, frozenset(s.labels.items()), s.value) for family in self.families for s in family.samples]
        self.samples = {(name, labels): value for name, labels, value in samples}
        assert len(self.samples) == len(samples)

    def get(self, name: str, **labels: str) -> float:
        return self.samples["pg_doorman_" + name, frozenset(labels.items())]

    def pool(self, name: str, database: str = "exampledb", user: str = "doorman", **labels: str) -> float:
        return self.get(name, database=database, user=user, **labels)


def scrape(pooler: FakePooler) -> Scraped:
    return Scraped(b"".join(exposition(pooler).page().pieces))


@pytest.fixture
def pooler() -> FakePooler:
    pooler = FakePooler()
    stats = pooler.pools[0].stats
    stats.xact_count, stats.query_count, stats.received, stats.sent = 3, 5, 700, 9000
    stats.query_time, stats.xact_time = 12_500, 30_000
    stats.client_login_count, stats.prepare_hit, stats.prepare_miss = 2, 40, 4
    for us in (400, 500, 4000, 40_000, 9_000_000):
        stats.query_hist.add(us)
    stats.xact_hist.add(1000)
    stats.wait_hist.add(100)
    for sqlstate in ("42601", "25P01", "25P02", "08006", "08P01"):
        stats.count_error(sqlstate)
    stats.open_count, stats.open_failures = 9, 4
    server = pooler.pools[0].servers[0]
    server.stats.prepare_hit, server.stats.prepare_miss = 6, 1
    return pooler


def test_one_pool(pooler: FakePooler) -> None:
    page = scrape(pooler)
    expected = {
        ("pools_clients", "status", "idle"): 1,
        ("pools_clients", "status", "active"): 2,
        ("pools_clients", "status", "waiting"): 0,
        ("pools_servers", "status", "active"): 2,
        ("pools_servers", "status", "idle"): 4,
        ("pool_scaling", "type", "inflight_creates"): 1,
        ("pools_bytes_total", "direction", "received"): 700,
        ("pools_bytes", "direction", "sent"): 9000,
        ("pools_errors_total", "sqlstate", "08"): 2,
        ("pools_errors_total", "sqlstate", "25P02"): 1,
        ("pools_errors_total", "sqlstate", "26000"): 0,
        ("pools_errors_total", "sqlstate", "other"): 2,
        ("pools_errors_by_code_total", "sqlstate", "25P01"): 1,
        ("pool_scaling_total", "type", "creates_started"): 9,
        ("users_configured", "pool_mode", "transaction"): 1,
        ("pools_queries_percentile", "percentile", "50"): 3.999,
        ("pools_transactions_percentile", "percentile", "99"): 0.999,
        ("pools_query_duration_seconds_bucket", "le", "0.0005"): 2,
        ("pools_query_duration_seconds_bucket", "le", "0.005"): 3,
        ("pools_query_duration_seconds_bucket", "le", "0.05"): 4,
        ("pools_query_duration_seconds_bucket", "le", "5"): 4,
        ("pools_query_duration_seconds_bucket", "le", "+Inf"): 5,
        ("pools_transaction_duration_seconds_bucket", "le", "0.001"): 1,
        ("pools_transaction_duration_seconds_bucket", "le", "10"): 1,
        ("pools_wait_duration_seconds_bucket", "le", "0.0001"): 1,
        ("pools_wait_duration_seconds_bucket", "le", "1"): 1,
    }
    assert {key: page.pool(key[0], **{key[1]: key[2]}) for key in expected} == expected
    plain = {
        "pool_size": 10,
        "pools_paused": 0,
        "pools_maxwait_microseconds": 2_250_000,
        "pools_oldest_active_age_ms": 1500,
        "pools_queries_total": 5,
        "pools_transactions_total": 3,
        "pools_logins_total": 2,
        "servers_prepared_hits_total": 40,
        "servers_prepared_misses_total": 4,
        "servers_prepared_hits": 6,
        "servers_prepared_misses": 1,
        "pool_prepared_cache_entries": 2,
        "pool_prepared_cache_bytes": 77,
        "pools_opening_failures_total": 4,
        "clients_prepared_cache_entries": 9,
        "clients_prepared_named_entries": 6,
        "clients_prepared_anonymous_entries": 3,
        "clients_prepared_cache_bytes": 9 * 512,
        "pools_queries_count": 5,
        "pools_transactions_count": 3,
        "pools_queries_total_time": 12.5,
        "pools_transactions_total_time": 30,
        "pools_avg_wait_time": 0,
        "pools_query_duration_seconds_count": 5,
        "pools_query_duration_seconds_sum": 9.0449,
    }
    assert {name: page.pool(name) for name in plain} == plain


def test_the_process(pooler: FakePooler) -> None:
    pooler.connections.total, pooler.connections.tls, pooler.connections.plain = 9, 3, 4
    pooler.connections.reject("hba")
    pooler.openings.tls.add(3000)
    page = scrape(pooler)
    assert page.get("total_memory") > 1_000_000
    assert page.get("connections_total", type="total") == page.get("connection_count", type="total") == 9
    assert page.get("connections_total", type="tls") == 3
    assert page.get("listener_rejections_total", reason="hba") == 1
    assert page.get("listener_rejections_total", reason="tls_required") == 0
    assert page.get("backend_create_duration_seconds_count", phase="tls") == 1
    assert page.get("backend_create_duration_seconds_bucket", phase="tls", le="0.001") == 0
    assert page.get("backend_create_duration_seconds_bucket", phase="tls", le="0.01") == 1
    assert [page.get("sockets", type=kind) for kind in ("tcp", "tcp6", "unix", "unknown")] == [4, 0, 2, 1]
    assert page.get("build_info", version="0.1.0") == 1
    assert page.get("log_level", level="info") == 1
    assert page.get("server_tls_connections", pool="exampledb") == 1


def test_types_are_those_of_the_reference(pooler: FakePooler) -> None:
    """Gauges of old end in names that other libraries take for counters."""
    types = scrape(pooler).types
    assert {kind for name, kind in types.items() if name.endswith("_total")} == {"counter"}
    assert {kind for name, kind in types.items() if name.endswith("_seconds")} == {"histogram"}
    others = {name: kind for name, kind in types.items() if not name.endswith(("_total", "_seconds"))}
    assert set(others.values()) == {"gauge"}
    assert {"pools_transactions_count", "pools_queries_total_time", "pools_bytes"} <= others.keys()


@pytest.mark.parametrize("name", ['a"b', "back\\slash", "back\\n", "new\nline", "né", "\udce9", "{},=#", " "])
def test_names_of_any_kind(pooler: FakePooler, name: str) -> None:
    pooler.pools = [FakePool(FakeSettings(name, "u"), servers=[])]
    pooler.clients = [FakeClient(name, "u", "idle")]
    shown = name if name != "\udce9" else "\\udce9"
    assert scrape(pooler).pool("pools_clients", shown, "u", status="idle") == 1


def test_two_users_and_two_databases(pooler: FakePooler) -> None:
    pooler.pools = [FakePool(FakeSettings(database, user), servers=[]) for database in "ab" for user in "xy"]
    page = scrape(pooler)
    assert {page.pool("pool_size", database, user) for database in "ab" for user in "xy"} == {10.0}


def test_a_page_is_shared_while_somebody_reads_it(pooler: FakePooler, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = exposition(pooler)
    page = writer.page()
    assert writer.page() is page
    first = id(page)
    del page
    gc.collect()
    assert writer._latest is not None and writer._latest() is None, "nobody reads it: it is not kept"
    page = writer.page()
    monkeypatch.setattr("pgdoorman_lib.metrics.prometheus.SHARED_FOR", 0.0)
    assert writer.page() is not page
    assert first


def test_a_thousand_pools_are_written_in_short_pieces(pooler: FakePooler) -> None:
    """Others run in between, often: how long a piece takes is for the benchmark to say."""
    pooler.pools = [FakePool(FakeSettings(f"database{n}", "user"), servers=[]) for n in range(1000)]
    for pool in pooler.pools:
        pool.stats.query_hist.add(100)
        pool.stats.count_error("42601")
    pooler.clients = [FakeClient(f"database{n % 1000}", "user") for n in range(5000)]
    turns = 0

    def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            gevent.sleep(0)

    other = gevent.spawn(others)
    before = time.process_time()
    page = exposition(pooler).page()
    spent = time.process_time() - before
    other.kill()
    assert turns >= spent / 0.005
    assert max(map(len, page.pieces)) < 64 * 1024
    assert b"".join(page.pieces).count(b"\n") > 60_000


def test_limits_of_databases() -> None:
    pooler = FakePooler()
    assert not [family.name for family in scrape(pooler).families if "coordinator" in family.name]
    pooler.coordinators = [CoordinatorView("shop", 10, 3, 12, 5, 4, 1)]
    page = scrape(pooler)
    for name, expected in (
        ("pool_coordinator", {"connections": 12, "reserve_in_use": 2, "max_connections": 10, "reserve_pool_size": 3}),
        ("pool_coordinator_total", {"evictions": 5, "reserve_acquisitions": 4, "exhaustions": 1}),
    ):
        for value, number in expected.items():
            assert page.get(name, type=value, database="shop") == number


def test_users_who_are_looked_up() -> None:
    pooler = FakePooler()
    assert not [family.name for family in scrape(pooler).families if "auth_query" in family.name]
    pooler.lookups = [LookupView("shop", 3, (8, 7, 6, 5, 4, 3, 2, 1), 2, 1, frozenset({("shop", "bob")}))]
    page = scrape(pooler)
    for name, label, expected in (
        ("auth_query_cache", "type", {"entries": 3, "hits": 8, "misses": 7, "refetches": 6, "rate_limited": 5}),
        ("auth_query_cache_total", "type", {"hits": 8, "misses": 7, "refetches": 6, "rate_limited": 5}),
        ("auth_query_auth", "result", {"success": 4, "failure": 3}),
        ("auth_query_auth_total", "result", {"success": 4, "failure": 3}),
        ("auth_query_executor_total", "type", {"queries": 2, "errors": 1}),
        ("auth_query_dynamic_pools", "type", {"current": 1, "created": 2, "destroyed": 1}),
        ("auth_query_dynamic_pools_total", "type", {"created": 2, "destroyed": 1}),
    ):
        for value, number in expected.items():
            assert page.get(name, **{label: value}, database="shop") == number


def test_pools_that_fall_back_on_a_cluster() -> None:
    pooler = FakePooler()
    assert not [family.name for family in scrape(pooler).families if "fallback" in family.name]
    duration = Histogram()
    duration.add(20_000)
    member = ("10.0.0.9", 5433)
    pooler.fallbacks = [
        FallbackView("shop", (member,), (4, 1, 3, 2), {"connect": 5, "timeout": 1}, duration),
        FallbackView("other", (), (0, 0, 0, 0), {}, Histogram()),
    ]
    page = scrape(pooler)
    assert page.get("fallback_active", pool="shop") == 1 and page.get("fallback_active", pool="other") == 0
    assert page.get("fallback_host", pool="shop", host="10.0.0.9", port="5433") == 1
    for name, number in (
        ("patroni_api_requests_total", 4),
        ("patroni_api_errors_total", 1),
        ("fallback_connections_total", 3),
        ("fallback_cache_hits_total", 2),
        ("patroni_api_duration_seconds_count", 1),
    ):
        assert page.get(name, pool="shop") == number
    assert page.get("fallback_candidate_failures_total", pool="shop", reason="connect") == 5
