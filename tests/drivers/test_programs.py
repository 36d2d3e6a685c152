"""psql and pgbench: what operators have at hand."""

from __future__ import annotations

import re
import signal
import subprocess
from pathlib import Path

import pytest
from eventually import eventually
from fix_doorman import ADMIN_PASSWORD, ADMIN_USER, Doorman, MakeDoorman, app_pool, until_idle
from fix_postgres import Postgres
from pace import patience
from throwaway_postgres import find_program


def command(doorman: Doorman, program: str, *arguments: str) -> list[str]:
    return [str(find_program(program)), "-h", doorman.host, "-p", str(doorman.port), "-U", "app", *arguments]


def environment(password: str = Postgres.PASSWORDS["app"]) -> dict[str, str]:
    return Doorman.environment() | {"PGPASSWORD": password, "PGSSLMODE": "disable", "PGGSSENCMODE": "disable"}


def psql(doorman: Doorman, database: str, script: str, *options: str, timeout: float = patience(30)) -> str:
    done = subprocess.run(
        command(doorman, "psql", "-XAtq", "-d", database, *options),
        input=script,
        capture_output=True,
        text=True,
        env=environment(),
        timeout=timeout,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


# -- psql


def test_psql_scripts(doorman: Doorman, database: str) -> None:
    out = psql(
        doorman,
        database,
        """
        SELECT 1; SELECT 'two' AS b, NULL;
        BEGIN; CREATE TEMP TABLE t (a int) ON COMMIT DROP; INSERT INTO t SELECT generate_series(1, 3);
        SELECT sum(a) FROM t; COMMIT;
        SELECT $1::int + 1 \\bind 41 \\g
        \\copy (SELECT generate_series(1, 3)) TO STDOUT
        SELECT 1/0;
        SELECT 'after';
    """
        if _has_bind()
        else "SELECT 1; SELECT 'two' AS b, NULL; SELECT 1/0; SELECT 'after';",
    )
    assert "1\ntwo|\n" in out
    assert "division by zero" in out
    assert out.index("after") > 0


def _has_bind() -> bool:
    text = subprocess.run([find_program("psql"), "--version"], capture_output=True, text=True).stdout
    match = re.search(r"(\d+)", text.split(")")[-1])
    return match is not None and int(match[1]) >= 16


def test_psql_catalogue_queries(doorman: Doorman, database: str) -> None:
    psql(doorman, database, "DROP TABLE IF EXISTS for_psql; CREATE TABLE for_psql (a int PRIMARY KEY, b text);")
    out = psql(doorman, database, "\\d for_psql\n\\dt\n\\l\n\\conninfo\n\\dn\n\\du", "-P", "tuples_only=off")
    assert "for_psql_pkey" in out
    assert "ERROR" not in out


def test_psql_cursor_fetches(doorman: Doorman, database: str) -> None:
    out = psql(doorman, database, "\\set FETCH_COUNT 100\nSELECT generate_series(1, 1000);")
    assert len(out.split()) == 1000


def test_ctrl_c_in_psql(doorman: Doorman, postgres: Postgres, database: str) -> None:
    with subprocess.Popen(
        command(doorman, "psql", "-XAtq", "-d", database, "-c", "SELECT pg_sleep(30), 'ctrl-c'", "-c", "SELECT 'next'"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    ) as process:
        try:
            eventually(lambda: any("ctrl-c" in b["query"] and b["state"] == "active" for b in postgres.backends()))
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=patience(15))
        finally:
            process.kill()
    assert "canceling statement due to user request" in err or process.returncode != 0
    eventually(lambda: not any("ctrl-c" in b["query"] and b["state"] == "active" for b in postgres.backends()))
    if database == "few":
        until_idle(doorman, "few")


def test_psql_at_the_console(doorman: Doorman) -> None:
    for name in ("pgdoorman", "pgbouncer"):
        done = subprocess.run(
            [
                str(find_program("psql")),
                "-X",
                "-h",
                doorman.host,
                "-p",
                str(doorman.port),
                "-U",
                ADMIN_USER,
                "-d",
                name,
            ],
            input="SHOW HELP;\nSHOW POOLS;\nSHOW VERSION;\nSHOW NONSENSE;\n;\nSHOW STATS;\n",
            capture_output=True,
            text=True,
            env=environment(ADMIN_PASSWORD),
            timeout=patience(20),
        )
        assert done.returncode == 0, done.stderr
        assert "sv_active" in done.stdout
        assert "total_xact_count" in done.stdout
        assert "ERROR" in done.stderr


# -- pgbench


@pytest.fixture(scope="module")
def accounts(postgres: Postgres) -> None:
    """pgbench's tables, made directly."""
    subprocess.run(
        [
            str(find_program("pgbench")),
            "-h",
            postgres.host,
            "-p",
            str(postgres.port),
            "-U",
            "app",
            "-i",
            "-q",
            "-s",
            "4",
            "testdb",
        ],
        check=True,
        capture_output=True,
        env=environment(),
        timeout=patience(60),
    )


def pgbench(doorman: Doorman, database: str, *options: str, timeout: float = patience(50)) -> str:
    done = subprocess.run(
        command(doorman, "pgbench", "-n", *options, database),
        capture_output=True,
        text=True,
        env=environment(),
        timeout=timeout,
    )
    assert done.returncode == 0, done.stderr
    assert "aborted" not in done.stderr
    failed = re.search(r"number of failed transactions: (\d+)", done.stdout)
    assert failed is None or failed[1] == "0", done.stdout
    processed = re.search(r"number of transactions actually processed: (\d+)", done.stdout)
    assert processed is not None
    assert int(processed[1]) > 0
    return done.stdout


@pytest.mark.parametrize("protocol", ["simple", "extended", "prepared"])
@pytest.mark.parametrize("script", ["select-only", "tpcb-like", "simple-update"])
def test_pgbench(doorman: Doorman, accounts: None, protocol: str, script: str) -> None:
    # A thread a client: while pgbench prepares for one client it stops all others of the thread, who may hold servers.
    pgbench(doorman, "few", "-M", protocol, "-b", script, "-c", "12", "-j", "12", "-T", "1")
    until_idle(doorman, "few")


def test_pgbench_session_mode(doorman: Doorman, accounts: None) -> None:
    pgbench(doorman, "own", "-M", "prepared", "-c", "8", "-j", "2", "-T", "2")


def test_pgbench_with_reconnects(doorman: Doorman, accounts: None) -> None:
    pgbench(doorman, "few", "-M", "prepared", "-S", "-C", "-c", "8", "-j", "2", "-T", "2")


def test_pgbench_pipelines(doorman: Doorman, accounts: None, tmp_path: Path) -> None:
    script = tmp_path / "pipeline.sql"
    script.write_text(
        "\\set a random(1, 1000)\n\\startpipeline\nSELECT :a;\nSELECT abalance FROM pgbench_accounts WHERE aid = :a;\n"
        "SELECT :a + 1;\n\\endpipeline\n\\startpipeline\nBEGIN;\nUPDATE pgbench_accounts SET abalance = abalance + 1"
        " WHERE aid = :a;\nCOMMIT;\n\\endpipeline\n"
    )
    for protocol in ("extended", "prepared"):
        pgbench(doorman, "few", "-M", protocol, "-f", str(script), "-c", "10", "-j", "2", "-T", "2")
    until_idle(doorman, "few")


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("options", [["-M", "prepared"], []], ids=["prepared", "tpcb-like"])
def test_pgbench_forty_clients(doorman: Doorman, accounts: None, options: list[str]) -> None:
    pgbench(doorman, "few", *options, "-c", "40", "-j", "40", "-T", "30", timeout=patience(90))


# -- pg_dump


def test_pg_dump_and_pg_restore_by_several_workers(
    make_doorman: MakeDoorman, postgres: Postgres, tmp_path: Path
) -> None:
    """Workers share a snapshot, each in a transaction of a server of its own; what is restored is what was dumped."""
    over = {"few": app_pool(postgres, 3), "other": app_pool(postgres, 3, server_database="otherdb")}
    doorman = make_doorman({"pools": over})
    psql(
        doorman,
        "few",
        """
        CREATE SCHEMA dumped;
        CREATE TABLE dumped.parents AS SELECT i AS id, md5(i::text) AS text, ARRAY[i, i + 1] AS a, '{"k": null}'::json AS j
            FROM generate_series(1, 5000) i;
        ALTER TABLE dumped.parents ADD PRIMARY KEY (id);
        CREATE TABLE dumped.children (id bigserial, parent int REFERENCES dumped.parents, b bytea);
        INSERT INTO dumped.children (parent, b) SELECT id, decode(text, 'hex') FROM dumped.parents;
        CREATE INDEX ON dumped.children (parent);
        CREATE VIEW dumped.both AS SELECT p.text, c.b FROM dumped.parents p JOIN dumped.children c ON c.parent = p.id;
        CREATE FUNCTION dumped.f(int) RETURNS int LANGUAGE sql AS 'SELECT $1 + 1';
        """,
    )
    look = """
        SELECT md5(string_agg(p::text, '' ORDER BY id)) FROM dumped.parents p;
        SELECT md5(string_agg(c::text, '' ORDER BY id)), nextval('dumped.children_id_seq') FROM dumped.children c;
        SELECT count(*), dumped.f(1) FROM dumped.both;
    """
    for program, database, *options in (
        ("pg_dump", "few", "-Fd", "-j2", "-n", "dumped", "-f", str(tmp_path / "dump")),
        ("pg_restore", "other", "-j2", str(tmp_path / "dump")),
    ):
        done = subprocess.run(
            command(doorman, program, "-d", database, *options),
            capture_output=True,
            text=True,
            env=environment(),
            timeout=patience(50),
        )
        assert (done.returncode, done.stderr) == (0, "")
    assert psql(doorman, "other", look) == psql(doorman, "few", look)
    for database in over:
        psql(doorman, database, "SET client_min_messages = error; DROP SCHEMA dumped CASCADE")
        until_idle(doorman, database)
