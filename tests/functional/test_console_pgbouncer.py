"""The console in PgBouncer's dialect: beside the real one where it is installed, and asked as its collectors ask."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psycopg
import pytest
from eventually import eventually
from fix_doorman import ADMIN_PASSWORD, ADMIN_USER, Doorman, MakeDoorman, app_pool, app_user
from fix_postgres import Postgres
from pace import patience
from pgbouncer_columns import COLUMNS
from ports import free_port
from psycopg.rows import dict_row
from throwaway_postgres import find_program, private_directory, unprivileged
from wire_client import SYNC, WireClient, bind, describe_statement, execute, kinds, parse

#: A collector's user.
WATCHER = "app_md5"

#: What older PgBouncers call some columns.
RENAMED = {"reserve_pool": "reserve_pool_size", "cl_cancel_req": "cl_active_cancel_req"}
#: What only later ones have.
LATER = re.compile(r"(total_|avg_)?client_login_count")


@pytest.fixture(scope="module")
def doorman_over(postgres: Postgres) -> Mapping[str, Any]:
    """A database with three users, one of whom may look at the console; another operates it."""
    users = [
        app_user(postgres, 3),
        app_user(postgres, 2, username="app_two", password=postgres.secret("app_two")),
        app_user(postgres, 1, username=WATCHER, password=postgres.secret(WATCHER)),
    ]
    return {
        "general": {"stats_users": [WATCHER], "admin_users": ["app_two"]},
        "pools": {"testdb": app_pool(postgres, users=users)},
    }


def console(doorman: Doorman, user: str = ADMIN_USER, password: str = ADMIN_PASSWORD) -> psycopg.Connection[Any]:
    return psycopg.connect(
        doorman.dsn(dbname="pgbouncer", user=user, password=password),
        autocommit=True,
        row_factory=dict_row,
        cursor_factory=psycopg.ClientCursor,
    )


def show(doorman: Doorman, name: str) -> list[dict[str, Any]]:
    with console(doorman) as connection:
        return connection.execute(f"SHOW {name}").fetchall()


# -- beside PgBouncer


def find_pgbouncer() -> str | None:
    """The one that PGDOORMAN_PGBOUNCER names, else the one installed; Debian's is where only root's PATH leads."""
    named = os.environ.get("PGDOORMAN_PGBOUNCER")
    return named or shutil.which("pgbouncer", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")


class PgBouncer:
    """A PgBouncer with one database, whose console is asked by the users ``admin`` and ``stats``."""

    def __init__(self, program: str, directory: Path, server_port: int) -> None:
        self.port = free_port()
        answer = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
        found = re.match(r"PgBouncer (\d+)\.(\d+)", answer)
        assert found is not None, answer
        self.version = int(found[1]), int(found[2])
        home = private_directory(directory, "pgbouncer-")
        ini = home / "pgbouncer.ini"
        ini.write_text(
            f"[databases]\ntestdb = host=127.0.0.1 port={server_port} user=app_trust\n[pgbouncer]\n"
            f"listen_addr = 127.0.0.1\nlisten_port = {self.port}\nunix_socket_dir =\nauth_type = any\n"
            "admin_users = admin\nstats_users = stats\npool_mode = transaction\n"
        )
        ini.chmod(0o644)
        self.log = (home / "log").open("wb")
        self.process = subprocess.Popen(
            [program, str(ini)], stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, **unprivileged()
        )

    def connect(self, database: str = "pgbouncer", user: str = "admin") -> psycopg.Connection[Any]:
        return psycopg.connect(
            f"host=127.0.0.1 port={self.port} dbname={database} user={user} sslmode=disable gssencmode=disable",
            autocommit=True,
            cursor_factory=psycopg.ClientCursor,
        )

    def listens(self) -> bool:
        assert self.process.poll() is None, "pgbouncer has ended"
        try:
            self.connect().close()
        except psycopg.OperationalError:
            return False
        return True

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        self.log.close()


@pytest.fixture(scope="module")
def pgbouncer(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PgBouncer]:
    program = find_pgbouncer()
    if program is None:
        pytest.skip("no pgbouncer here; tests/pgbouncer_columns.py has what one sends")
    running = PgBouncer(program, tmp_path_factory.mktemp("pgbouncer"), postgres.port)
    try:
        eventually(running.listens, timeout=20, message="pgbouncer answers")
        with running.connect("testdb", "app_trust") as client:
            client.execute("SELECT 1")
        yield running
    finally:
        running.stop()


def described(connection: psycopg.Connection[Any], name: str) -> list[tuple[str, int]]:
    description = connection.execute(f"SHOW {name}").description
    assert description is not None
    return [(RENAMED.get(column.name, column.name), column.type_code) for column in description]


@pytest.mark.parametrize("name", COLUMNS)
def test_columns_are_those_of_the_real_one(doorman: Doorman, pgbouncer: PgBouncer, name: str) -> None:
    with pgbouncer.connect() as theirs, console(doorman) as ours:
        try:
            wanted = described(theirs, name)
        except psycopg.errors.ProtocolViolation:
            assert pgbouncer.version < (1, 24), f"SHOW {name} is gone"
            pytest.skip(f"PgBouncer {pgbouncer.version} has no SHOW {name}")
        found = described(ours, name)
    names = [column for column, _ in wanted]
    assert [column for column in found if column[0] in names] == wanted
    if pgbouncer.version >= (1, 24):
        assert [column for column, _ in found if column not in names and not LATER.fullmatch(column)] == []


@pytest.mark.parametrize("name", ["LISTS", "TOTALS", "CONFIG", "STATE"])
def test_rows_are_called_as_those_of_the_real_one(doorman: Doorman, pgbouncer: PgBouncer, name: str) -> None:
    if pgbouncer.version < (1, 24):
        pytest.skip(f"PgBouncer {pgbouncer.version} has other rows")
    with pgbouncer.connect() as theirs:
        wanted = [row[0] for row in theirs.execute(f"SHOW {name}").fetchall()]
    found = [next(iter(row.values())) for row in show(doorman, name)]
    assert [row for row in wanted if row not in found] == []
    if name != "CONFIG":  # whose order is by name only since later
        assert [row for row in found if row in wanted] == wanted


@pytest.mark.parametrize("name", ["DATABASES", "STATS", "STATS_TOTALS", "STATS_AVERAGES"])
def test_there_are_rows_for_the_same_things(doorman: Doorman, pgbouncer: PgBouncer, name: str) -> None:
    with pgbouncer.connect() as theirs:
        wanted = {row[0] for row in theirs.execute(f"SHOW {name}").fetchall()}
    found = [next(iter(row.values())) for row in show(doorman, name)]
    assert wanted == {"testdb", "pgbouncer"}
    assert wanted <= set(found)
    assert set(Counter(found).values()) == {1}


@pytest.mark.parametrize("sql", ["SELECT 1", "show nonsense", "frobnicate", "SHOW POOLS extra", "SELECT now()"])
def test_it_refuses_in_the_same_words(doorman: Doorman, pgbouncer: PgBouncer, sql: str) -> None:
    assert _refusal(console(doorman), sql) == _refusal(pgbouncer.connect(), sql)


def test_it_refuses_who_may_only_look_in_the_same_words(doorman: Doorman, pgbouncer: PgBouncer) -> None:
    ours = console(doorman, WATCHER, Postgres.password(WATCHER))
    assert _refusal(ours, "RELOAD") == _refusal(pgbouncer.connect(user="stats"), "RELOAD")


def _refusal(connection: psycopg.Connection[Any], sql: str) -> tuple[str | None, str | None, str | None]:
    """SQLSTATE, severity and words; the session goes on."""
    with connection, pytest.raises(psycopg.Error) as caught:
        connection.execute(sql)
    assert connection.info.status is not None
    diag = caught.value.diag
    return diag.sqlstate, diag.severity, diag.message_primary


# -- as collectors ask

#: What each reads, in its order and spelling, and the columns it takes as labels; of the rest it wants numbers.
COLLECTORS = {
    "pgbouncer_exporter 0.12": {
        "SHOW STATS;": (),
        "SHOW VERSION;": ("version",),
        "SHOW LISTS;": ("list",),
        "SHOW CONFIG;": ("key",),
        "SHOW CLIENTS;": (),
        "SHOW DATABASES;": ("name", "host", "port", "database", "force_user", "pool_mode"),
        "SHOW STATS_TOTALS;": ("database",),
        "SHOW POOLS;": ("database", "user"),
    },
    "telegraf 1.37": {
        "SHOW STATS": ("database",),
        "SHOW POOLS": ("database", "user", "pool_mode"),
        "SHOW LISTS": ("list",),
        "SHOW DATABASES": ("name", "pool_mode"),
    },
    "datadog": {
        "SHOW STATS": ("database",),
        "SHOW POOLS": ("database", "user"),
        "SHOW DATABASES": ("name",),
        "SHOW CONFIG": ("key",),
        "SHOW CLIENTS": ("id",),
        "SHOW SERVERS": ("id",),
        "SHOW VERSION;": ("version",),
    },
    "netdata": {
        "SHOW VERSION;": ("version",),
        "SHOW CONFIG;": ("key",),
        "SHOW DATABASES;": ("name",),
        "SHOW STATS;": ("database",),
        "SHOW POOLS;": ("database", "user"),
    },
    "check_postgres 2.25": {
        "SHOW POOLS": ("database", "user"),
        "SHOW CONFIG": ("key",),
        "SHOW CLIENTS": ("id",),
    },
}

#: Columns without which one of them has a gap.
WANTED = {
    "STATS": "database total_xact_count total_query_count total_received total_sent total_xact_time total_query_time"
    " total_wait_time avg_xact_time avg_query_time avg_wait_time",
    "STATS_TOTALS": "query_count query_time bytes_received bytes_sent wait_time xact_count xact_time client_parse_count"
    " server_parse_count bind_count server_assignment_count",
    "POOLS": "cl_active cl_waiting cl_active_cancel_req cl_waiting_cancel_req sv_active sv_active_cancel"
    " sv_being_canceled sv_idle sv_used sv_tested sv_login maxwait maxwait_us pool_mode",
    "DATABASES": "pool_size reserve_pool_size pool_mode max_connections current_connections paused disabled"
    " max_client_connections current_client_connections",
    "CLIENTS": "database user state application_name connect_time request_time wait",
    "SERVERS": "database user state connect_time request_time",
}

_NUMBER = re.compile(rb"-?\d+")


@pytest.mark.parametrize("protocol", ["simple", "extended"])
@pytest.mark.parametrize("collector", COLLECTORS)
def test_collectors_queries(doorman: Doorman, collector: str, protocol: str) -> None:
    """As a user of stats_users, while clients of two users are on, one of them in a transaction."""
    with (
        doorman.wire("testdb") as holder,
        doorman.wire("testdb", "app_two"),
        doorman.wire("pgbouncer", WATCHER, Postgres.password(WATCHER)) as client,
    ):
        holder.ask_query("BEGIN")
        for sql, labels in COLLECTORS[collector].items():
            names, types, rows = _ask(client, sql, protocol == "extended")
            assert rows, sql
            missing = set(WANTED.get(sql.rstrip(";").split()[1], "").split()) - set(names)
            assert not missing, (sql, missing)
            seen = Counter(tuple(row[names.index(label)] for label in labels) for row in rows)
            assert not labels or set(seen.values()) == {1}, (sql, seen)
            for row in rows:
                for name, kind, value in zip(names, types, row, strict=True):
                    if kind != 25 and value is not None:
                        assert _NUMBER.fullmatch(value), (sql, name, value)
        holder.ask_query("ROLLBACK")


def _ask(client: WireClient, sql: str, extended: bool) -> tuple[list[str], list[int], list[list[bytes | None]]]:
    if extended:
        answer = client.ask(parse("s", sql) + describe_statement("s") + bind("", "s") + execute() + SYNC)
        client.ask_query("DEALLOCATE s")
    else:
        answer = client.ask_query(sql)
    assert "E" not in kinds(answer), answer
    (table,) = [message for message in answer if message.kind == "T"]
    return table.column_names, table.column_types, [message.columns for message in answer if message.kind == "D"]


def test_version_is_one_netdata_and_others_take(doorman: Doorman) -> None:
    (row,) = show(doorman, "VERSION")
    found = re.search(r"\d+\.\d+\.\d+", row["version"])
    assert row["version"].startswith("PgBouncer ")
    assert found is not None and found[0] == "1.25.2"


def test_what_clients_do_is_seen_as_in_pgbouncer(doorman: Doorman) -> None:
    with doorman.wire("onedb", application_name="holder") as holder, doorman.wire("onedb") as waiter:
        holder.ask_query("BEGIN")
        waiter.send(b"Q\0\0\0\x0dSELECT 1\0")

        def pool() -> dict[str, Any]:
            return next(row for row in show(doorman, "POOLS") if row["database"] == "onedb")

        eventually(lambda: pool()["cl_waiting"] == 1)
        row = pool()
        assert (row["cl_active"], row["sv_active"], row["sv_idle"]) == (1, 1, 0)
        clients = {client["state"]: client for client in show(doorman, "CLIENTS") if client["database"] == "onedb"}
        (server,) = [server for server in show(doorman, "SERVERS") if server["database"] == "onedb"]
        assert set(clients) == {"active", "waiting"}
        assert clients["active"]["link"] == server["ptr"]
        assert server["link"] == clients["active"]["ptr"]
        assert clients["active"]["application_name"] == "holder"
        assert clients["active"]["addr"] == "127.0.0.1"
        assert clients["active"]["local_port"] == doorman.port
        assert (server["port"], server["state"]) == (int(doorman.config["pools"]["onedb"]["server_port"]), "active")
        assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", clients["active"]["connect_time"])
        eventually(lambda: pool()["maxwait"] * 10**6 + pool()["maxwait_us"] > 10_000)
        holder.ask_query("COMMIT")
        waiter.read_ready()
    consoles = [client for client in show(doorman, "CLIENTS") if client["database"] == "pgbouncer"]
    assert [client["user"] for client in consoles] == [ADMIN_USER]


def test_stats_count_what_clients_did(doorman: Doorman) -> None:
    def stats() -> dict[str, int]:
        row = next(row for row in show(doorman, "STATS_TOTALS") if row["database"] == "twodb")
        return {name: int(value) for name, value in row.items() if name != "database"}

    before = stats()
    with doorman.wire("twodb") as client:
        for _ in range(3):
            client.ask_query("SELECT 1")
        client.ask(parse("p", "SELECT 2") + SYNC)
        for _ in range(2):
            client.ask(bind("", "p") + execute() + SYNC)
    eventually(lambda: stats()["xact_count"] - before["xact_count"] == 6)
    gained = {name: value - before[name] for name, value in stats().items()}
    assert (gained["server_assignment_count"], gained["client_login_count"]) == (6, 1)
    assert (gained["client_parse_count"], gained["bind_count"]) == (1, 2)
    assert 1 <= gained["server_parse_count"] <= 2


def test_a_client_by_unix_socket(make_doorman: MakeDoorman, short_directory: Path) -> None:
    doorman = make_doorman({"general": {"unix_socket_dir": str(short_directory)}})
    with doorman.connect(host=str(short_directory)) as client:
        client.execute("SELECT 1")
        (row,) = [row for row in show(doorman, "CLIENTS") if row["database"] == "testdb"]
        assert (row["addr"], row["port"], row["remote_pid"]) == ("unix", doorman.port, os.getpid())


# -- who may look


@pytest.mark.parametrize("database", ["pgdoorman", "pgbouncer"])
def test_stats_users_look_and_change_nothing(doorman: Doorman, database: str) -> None:
    with doorman.wire(database, WATCHER, Postgres.password(WATCHER)) as client:
        assert kinds(client.ask_query("SHOW VERSION")) == "TDCZ"
        for sql in ("RELOAD", "SHUTDOWN", "SET log_level = 'debug'"):
            answer = client.ask_query(sql)
            assert kinds(answer) == "EZ"
            assert (answer[0].sqlstate, answer[0].fields["M"]) == ("08P01", "admin access needed")
        assert kinds(client.ask_query("SHOW VERSION")) == "TDCZ"


def test_admin_users_may_all(doorman: Doorman) -> None:
    with doorman.wire("pgbouncer", "app_two", Postgres.password("app_two")) as client:
        assert kinds(client.ask_query("RELOAD")).strip("N") == "CZ"


def test_nobody_else_gets_in(doorman: Doorman) -> None:
    for user, password in (("app", Postgres.password("app")), (WATCHER, "wrong"), ("nobody", "x")):
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            console(doorman, user, password)
    doorman.wait_log("not a user of the console")


def test_users_of_the_console_need_a_password_in_a_pool(make_doorman: MakeDoorman) -> None:
    doorman = make_doorman(start=False)
    doorman.config["general"]["stats_users"] = ["stranger"]
    doorman.write_config(doorman.config)
    done = subprocess.run(
        [*doorman.command(), "-t", str(doorman.config_path)], capture_output=True, text=True, env=doorman.environment()
    )
    assert done.returncode == 78
    assert 'no pool has a user "stranger" with a password' in done.stderr


# -- psql


def test_psql_lists_completes_and_watches(doorman: Doorman) -> None:
    """Listings are empty, not errors; a table is shown again and again by \\watch."""
    for database in ("pgdoorman", "pgbouncer"):
        script = "\\d\n\\dt\n\\l\n\\du\n\\dn\n\\df\n\\d pools\nSHOW VERSION;\n"
        out = _psql(doorman, database, script)
        assert "ERROR" not in out
        assert "doorman" in out.lower()
    watching = subprocess.Popen(
        _psql_command(doorman, "pgbouncer"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=doorman.environment() | {"PGPASSWORD": ADMIN_PASSWORD},
    )
    try:
        assert watching.stdin is not None and watching.stdout is not None
        watching.stdin.write("SHOW STATE \\watch 0.1\n")
        watching.stdin.flush()
        seen = 0
        while seen < 3:
            line = watching.stdout.readline()
            assert line, "psql has ended"
            seen += line.startswith("active")
    finally:
        watching.kill()
        watching.communicate()


def _psql_command(doorman: Doorman, database: str) -> list[str]:
    dsn = f"host={doorman.host} port={doorman.port} user={ADMIN_USER} dbname={database} sslmode=disable"
    return [str(find_program("psql")), "-XAt", dsn]


def _psql(doorman: Doorman, database: str, script: str) -> str:
    done = subprocess.run(
        _psql_command(doorman, database),
        input=script,
        capture_output=True,
        text=True,
        timeout=patience(30),
        env=doorman.environment() | {"PGPASSWORD": ADMIN_PASSWORD, "PGGSSENCMODE": "disable"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr
