"""The console: what monitoring reads and what operators type."""

from __future__ import annotations

import json
import re
import signal
from typing import Any

import asyncpg
import pg8000.native
import psycopg
import pytest
from eventually import eventually
from fix_doorman import ADMIN_PASSWORD, ADMIN_USER, Doorman, MakeDoorman, until_idle
from fix_postgres import Postgres
from wire_client import SYNC, WireClient, WireError, bind, describe_statement, execute, kinds, parse, prepared, query

#: The columns the reference pooler has, in its order; ours may have more behind them.
COLUMNS = {
    "DATABASES": "name host port database force_user pool_size min_pool_size reserve_pool pool_mode max_connections"
    " current_connections",
    "POOLS": "database user pool_mode cl_idle cl_active cl_waiting cl_cancel_req sv_active sv_idle sv_used sv_login"
    " pool_size maxwait maxwait_us avg_xact_time paused fallback_active oldest_active_age_ms",
    "POOLS_EXTENDED": "database user cl_active cl_waiting sv_active sv_idle sv_used sv_login pool_size maxwait"
    " maxwait_us pool_mode bytes_recieved bytes_sent query_0.99 transaction_0.99 query_0.95 transaction_0.95 query_0.5"
    " transaction_0.5",
    "STATS": "database user total_xact_count total_query_count total_received total_sent total_xact_time"
    " total_query_time total_wait_time total_errors avg_xact_count avg_query_count avg_recv avg_sent avg_errors"
    " avg_xact_time avg_query_time avg_wait_time",
    "CLIENTS": "client_id database user application_name addr tls state wait transaction_count query_count error_count"
    " age_seconds",
    "SERVERS": "server_id server_process_id database_name user application_name tls state wait transaction_count"
    " query_count bytes_sent bytes_received age_seconds prepare_cache_hit prepare_cache_miss prepare_cache_size",
    "LISTS": "list items",
    "USERS": "name pool_mode",
    "VERSION": "version",
    "CONFIG": "key value default changeable",
}

LIST_ITEMS = {
    "databases",
    "users",
    "pools",
    "free_clients",
    "used_clients",
    "login_clients",
    "free_servers",
    "used_servers",
    "dns_names",
    "dns_zones",
    "dns_queries",
    "dns_pending",
}


def console(doorman: Doorman) -> WireClient:
    return doorman.wire("pgdoorman", ADMIN_USER, ADMIN_PASSWORD)


@pytest.mark.parametrize("show", COLUMNS)
def test_columns(doorman: Doorman, show: str) -> None:
    expected = COLUMNS[show].split()
    with console(doorman) as client:
        answer = client.ask_query(f"SHOW {show}")
        assert kinds(answer).strip("D") == kinds(answer)
        assert answer[0].column_names[: len(expected)] == expected
        assert kinds(answer[1:]).lstrip("D") == "CZ"
        assert {len(m.columns) for m in answer if m.kind == "D"} <= {len(answer[0].column_names)}


@pytest.mark.parametrize("show", [*COLUMNS, "HELP", "SOCKETS", "MEM"])
@pytest.mark.parametrize("spelling", ["SHOW {}", "show {};", "  Show   {} ; ", "SHOW {};;"])
def test_spellings(doorman: Doorman, show: str, spelling: str) -> None:
    with console(doorman) as client:
        text = spelling.format(show.lower() if spelling.startswith("show") else show)
        assert kinds(client.ask_query(text)).replace("D", "") == "TCZ"


@pytest.mark.parametrize("show", [*COLUMNS, "HELP", "SOCKETS", "MEM"])
def test_simple_and_extended_protocol_agree(doorman: Doorman, show: str) -> None:
    with console(doorman) as client:
        simple = client.ask_query(f"SHOW {show}")
        extended = client.ask(prepared("", f"SHOW {show}"))
        assert kinds(extended).replace("D", "") == "12TCZ"
        names = next(m for m in extended if m.kind == "T").column_names
        assert names == simple[0].column_names
        named = client.ask(parse("s", f"SHOW {show}") + describe_statement("s") + bind("", "s") + execute() + SYNC)
        assert kinds(named).replace("D", "") == "1tT2CZ"


@pytest.mark.parametrize("text", ["", ";", " ; ", "-- nothing"])
def test_an_empty_command_gets_an_empty_answer(doorman: Doorman, text: str) -> None:
    with console(doorman) as client:
        answer = client.ask_query(text)
        assert kinds(answer) == "IZ"
        assert kinds(client.ask_query("SHOW VERSION")) == "TDCZ"


@pytest.mark.parametrize(
    "text", ["SELECT nonsense()", "SHOW", "SHOW NONSENSE", "DROP TABLE x", "SHOW POOLS EXTRA WORDS", "\x01", "x" * 9000]
)
@pytest.mark.parametrize("extended", [False, True], ids=["simple", "extended"])
def test_an_unknown_command_gets_an_error_and_the_session_goes_on(doorman: Doorman, text: str, extended: bool) -> None:
    with console(doorman) as client:
        answer = client.ask(prepared("", text) if extended else query(text))
        errors = [m for m in answer if m.kind == "E"]
        assert len(errors) == 1
        assert re.fullmatch(r"[0-9A-Z]{5}", errors[0].sqlstate)
        assert kinds(client.ask_query("SHOW VERSION")) == "TDCZ"


def test_garbage_at_the_console_harms_nobody(doorman: Doorman) -> None:
    with doorman.wire() as bystander:
        for data in (b"\0" * 20, b"Q\0\0\0\2", b"?\0\0\0\4", b"P\0\0\0\5x", b"Q\x7f\xff\xff\xff", b"B\0\0\0\5\0"):
            with console(doorman) as client:
                client.send(data + SYNC)
                assert client.read_until("E")[-1].sqlstate in ("08P01", "58000", "53200")
        assert bystander.value("SELECT 1") == "1"


def test_the_console_when_all_places_are_taken(make_doorman: MakeDoorman) -> None:
    """Who looks for the reason gets in, and it is logged who did, and what they have set; others don't."""
    doorman = make_doorman({"general": {"max_connections": 2}})
    with doorman.wire(), doorman.wire():
        with pytest.raises(WireError) as caught:
            doorman.wire()
        assert caught.value.message.sqlstate == "53300"
        with console(doorman) as one, console(doorman), console(doorman):
            assert kinds(one.ask_query("SHOW VERSION")) == "TDCZ"
            one.ask_query("SET log_level = 'debug'")
            with pytest.raises(WireError) as caught:
                console(doorman)
            assert caught.value.message.sqlstate == "53300"
    doorman.wait_log("console client connected from 127.0.0.1")
    doorman.wait_log("has set log_level to 'debug' by the console")


def test_drivers_at_the_console(doorman: Doorman) -> None:
    for database in ("pgdoorman", "pgbouncer"):
        with doorman.admin_connect(database) as connection:
            assert "gdoorman" in connection.execute("SHOW VERSION").fetchall()[0]["version"].lower()
            assert len(connection.execute("SHOW POOLS").fetchall()) >= 4
    native = pg8000.native.Connection(
        ADMIN_USER,
        host=doorman.host,
        port=doorman.port,
        database="pgdoorman",
        password=ADMIN_PASSWORD,
        ssl_context=None,
    )
    try:
        assert native.run("SHOW USERS")
    finally:
        native.close()

    async def by_asyncpg() -> list[Any]:
        connection = await asyncpg.connect(
            host=doorman.host,
            port=doorman.port,
            user=ADMIN_USER,
            password=ADMIN_PASSWORD,
            database="pgdoorman",
            ssl=False,
        )
        try:
            return await connection.fetch("SHOW DATABASES")
        finally:
            await connection.close()

    import asyncio

    rows = asyncio.run(by_asyncpg())
    assert {r["name"] for r in rows} >= {"testdb", "onedb", "twodb", "sessiondb"}


def test_the_welcome(doorman: Doorman) -> None:
    with console(doorman) as client:
        assert set(client.parameters) >= {
            "client_encoding",
            "DateStyle",
            "TimeZone",
            "server_version",
            "server_encoding",
            "standard_conforming_strings",
        }


# -- what the numbers say


def test_pools_and_clients_show_what_goes_on(doorman: Doorman) -> None:
    with doorman.wire("onedb", application_name="the holder") as holder, doorman.wire("onedb") as waiter:
        holder.ask_query("BEGIN")
        waiter.send(query("SELECT 1"))
        eventually(lambda: doorman.pool("onedb")["cl_waiting"] == 1)
        row = doorman.pool("onedb")
        assert (row["sv_active"], row["sv_idle"], row["pool_size"], row["pool_mode"]) == (1, 0, 1, "transaction")
        assert row["cl_active"] == 1
        eventually(lambda: doorman.pool("onedb")["maxwait"] * 10**6 + doorman.pool("onedb")["maxwait_us"] > 50_000)
        clients = [r for r in doorman.admin("SHOW CLIENTS") if r["database"] == "onedb"]
        assert sorted(c["state"] for c in clients) == ["active", "waiting"]
        assert {c["application_name"] for c in clients} >= {"the holder"}
        assert all(re.fullmatch(r"127\.0\.0\.1(:\d+)?", c["addr"]) for c in clients)
        assert {str(c["tls"]).lower() for c in clients} == {"false"}
        holder.ask_query("COMMIT")
        waiter.read_ready()
    until_idle(doorman, "onedb")
    eventually(lambda: not [r for r in doorman.admin("SHOW CLIENTS") if r["database"] == "onedb"])


def test_servers_show_postgresql_s_processes(doorman: Doorman, postgres: Postgres) -> None:
    with doorman.wire("onedb") as client:
        client.ask_query("BEGIN")
        pid = client.value("SELECT pg_backend_pid()")
        rows = [r for r in doorman.admin("SHOW SERVERS") if r["database_name"] == "onedb"]
        assert [str(r["server_process_id"]) for r in rows] == [pid]
        assert rows[0]["state"] == "active"
        client.ask_query("COMMIT")
    until_idle(doorman, "onedb")
    rows = [r for r in doorman.admin("SHOW SERVERS") if r["database_name"] == "onedb"]
    assert [r["state"] for r in rows] == ["idle"]


def test_stats_count_transactions_queries_and_bytes(doorman: Doorman) -> None:
    def stats() -> dict[str, int]:
        row = next(r for r in doorman.admin("SHOW STATS") if (r["database"], r["user"]) == ("twodb", "app"))
        return {k: int(v) for k, v in row.items() if k.startswith("total_")}

    with doorman.wire("twodb") as client:
        client.ask_query("SELECT 1")
        until_idle(doorman, "twodb")
        before = stats()
        for _ in range(10):
            client.ask_query("SELECT 1")
        client.ask_query("BEGIN")
        for _ in range(5):
            client.ask(prepared("", "SELECT 1"))
        client.ask_query("COMMIT")
        client.ask_query("SELECT repeat('x', 100000)")
        client.ask_query("SELECT pg_sleep(0.2)")
        client.ask_query("SELECT 1/0")
    until_idle(doorman, "twodb")
    gained = {k: v - before[k] for k, v in stats().items()}
    assert gained["total_xact_count"] == 10 + 1 + 3
    assert gained["total_query_count"] == 10 + 7 + 3
    assert gained["total_errors"] == 1
    assert 150_000 < gained["total_query_time"] < 5_000_000
    assert 100_000 < max(gained["total_sent"], gained["total_received"]) < 200_000
    assert 200 < min(gained["total_sent"], gained["total_received"]) < 5_000


def test_lists_and_users_and_databases(doorman: Doorman, postgres: Postgres) -> None:
    lists = {r["list"]: int(r["items"]) for r in doorman.admin("SHOW LISTS")}
    assert set(lists) >= LIST_ITEMS
    assert {r["name"] for r in doorman.admin("SHOW USERS")} >= {"app"}
    rows = {r["name"]: r for r in doorman.admin("SHOW DATABASES")}
    assert int(rows["testdb"]["pool_size"]) == 8
    assert str(rows["testdb"]["port"]) == str(postgres.port)
    assert rows["sessiondb"]["pool_mode"] == "session"


def test_no_secret_is_shown(doorman: Doorman) -> None:
    for show in [*COLUMNS, "HELP", "SOCKETS", "MEM", "POOLS_MEMORY", "PREPARED_STATEMENTS"]:
        try:
            text = json.dumps(doorman.admin(f"SHOW {show}"), default=str)
        except psycopg.Error:
            continue
        for secret in doorman.secrets():
            assert secret not in text, show


def test_the_console_needs_no_server(make_doorman: MakeDoorman, postgres: Postgres) -> None:
    from ports import free_port

    doorman = make_doorman({"pools": {"testdb": {"server_port": free_port()}}})
    assert doorman.admin("SHOW POOLS")
    assert doorman.admin("SHOW DATABASES")


# -- commands


def test_set_log_level(make_doorman: MakeDoorman) -> None:
    doorman = make_doorman()
    doorman.admin("SET log_level = 'error'")
    before = len(doorman.log_lines)
    with doorman.wire() as client:
        client.ask_query("SELECT 1")
    doorman.admin("SET log_level = 'debug'")
    with doorman.wire(application_name="heard") as client:
        client.ask_query("SELECT 1")
    heard = doorman.wait_log(r"app@testdb.*connected", after=before)
    # Only the second connection of the two was told of.
    with pytest.raises(psycopg.Error), doorman.connect(password="wrong"):
        pass
    assert len([line for line in doorman.log_lines[before:] if re.search(r"app@testdb.* connected", line)]) == 1, heard
    doorman.admin("SET log_level = 'default'")
    with pytest.raises(psycopg.Error) as caught:
        doorman.admin("SET log_level = 'loud'")
    assert caught.value.sqlstate == "42601"


def test_reload_tells_what_is_wrong(make_doorman: MakeDoorman) -> None:
    doorman = make_doorman()
    good = doorman.config_path.read_text()
    for bad in (good.replace("pool_size", "pool_sise", 1), good + "\n[nonsense]\n", "no toml = ["):
        doorman.config_path.write_text(bad)
        with pytest.raises(psycopg.Error) as caught:
            doorman.admin("RELOAD")
        assert caught.value.sqlstate
        with doorman.wire() as client:
            assert client.value("SELECT 1") == "1"
    doorman.config_path.write_text(good)
    doorman.admin("RELOAD")


def test_shutdown(make_doorman: MakeDoorman) -> None:
    doorman = make_doorman()
    with doorman.wire() as client:
        client.ask_query("BEGIN")
        with console(doorman) as admin:
            answer = admin.ask_query("SHUTDOWN")
            assert "E" not in kinds(answer)
        assert client.value("SELECT 1") == "1"
        client.ask_query("COMMIT")
    assert doorman.wait() == 0


def test_a_signal_while_the_console_is_open(make_doorman: MakeDoorman) -> None:
    doorman = make_doorman()
    with console(doorman) as admin:
        assert kinds(admin.ask_query("SHOW VERSION")) == "TDCZ"
        assert doorman.stop(signal.SIGTERM) == 0
