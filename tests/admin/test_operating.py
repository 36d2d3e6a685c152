"""Commands that act on pools, clients and keys: what is asked of the pooler, and what is said in each dialect."""

from __future__ import annotations

import pytest
from admin.fakes import Answer, FakePooler, FakeStream, answers, execute, parse, query
from admin.fakes import bind as bound

from pgdoorman_lib.admin import console
from pgdoorman_lib.admin.settings import raw_of
from pgdoorman_lib.config.general import General
from pgdoorman_lib.config.keys import keys_of
from pgdoorman_lib.errors import ConfigError
from pgdoorman_lib.pool.holding import Target


def talk(sql: str, pooler: FakePooler | None = None, dialect: str = "pgdoorman") -> list[Answer]:
    stream = FakeStream(query(sql))
    console.serve(stream, pooler or FakePooler(), "admin", {}, dialect)
    found = answers(stream.outgoing)
    return found[[answer.kind for answer in found].index("Z") + 1 :]


def done(sql: str, dialect: str = "pgdoorman") -> list[str]:
    pooler = FakePooler()
    complete = [answer.value for answer in talk(sql, pooler, dialect) if answer.kind == "C"]
    assert complete == [sql.split()[0].upper()]
    return pooler.done


@pytest.mark.parametrize("dialect", ["pgdoorman", "pgbouncer"])
@pytest.mark.parametrize("verb", ["PAUSE", "RECONNECT", "KILL", "DISABLE"])
def test_names(verb: str, dialect: str) -> None:
    word = verb.lower()
    if verb != "DISABLE":
        assert done(verb, dialect) == [f"{word} None None"]
    for spelling in ("exampledb", '"exampledb"', "'exampledb'", "  exampledb  "):
        assert done(f"{verb} {spelling}", dialect) == [f"{word} exampledb None"]
    for spelling in ("exampledb, doorman", "exampledb,doorman", '"exampledb" "doorman"', "exampledb doorman"):
        assert done(f"{verb} {spelling}", dialect) == [f"{word} exampledb doorman"]


@pytest.mark.parametrize(
    ("sql", "ours", "theirs"),
    [
        ("PAUSE nowhere", ("3D000", 'No pool for database "nowhere"'), "no such database: nowhere"),
        ("PAUSE exampledb, x", ("3D000", 'database "exampledb" of user "x"'), "no such database: exampledb"),
        ("PAUSE pgbouncer", ("0A000", "the console itself"), "cannot pause admin db: pgbouncer"),
        ("WAIT_CLOSE pgdoorman", ("0A000", "the console itself"), "cannot wait in admin db: pgdoorman"),
        ("DISABLE", ("42601", "needs the name of a database"), "a database is required"),
        ("ENABLE", ("42601", "needs the name of a database"), "a database is required"),
        ("KILL_CLIENT x", ("42601", "needs the number"), "invalid client pointer supplied"),
        ("KILL_CLIENT 99", ("42704", "no client has the number 99"), "client not found"),
        ("SET port = 1", ("55P02", "cannot be changed without restarting"), "cannot be changed without restarting"),
    ],
)
def test_errors(sql: str, ours: tuple[str, str], theirs: str) -> None:
    failed, _ = talk(sql)
    assert (failed.value["S"], failed.value["C"]) == ("ERROR", ours[0])
    assert ours[1] in failed.value["M"]
    failed, _ = talk(sql, dialect="pgbouncer")
    assert (failed.value["S"], failed.value["C"]) == ("ERROR", "08P01")
    assert theirs in failed.value["M"]


@pytest.mark.parametrize("sql", ["PAUSE a, b, c", "PAUSE 'a", 'KILL "a" "b" "c"', "RESUME ,"])
def test_bad_names(sql: str) -> None:
    failed, _ = talk(sql)
    assert failed.value["C"] == "42601"


def test_pause_and_resume_twice() -> None:
    """PgBouncer's console minds, ours tells."""
    pooler = FakePooler()
    assert [answer.kind for answer in talk("RESUME", pooler)] == ["N", "C", "Z"]
    assert talk("RESUME", pooler, "pgbouncer")[0].value["M"] == "pooler is not paused/suspended"
    assert talk("RESUME exampledb", pooler, "pgbouncer")[0].value["M"] == "database exampledb is not paused"
    talk("PAUSE", pooler)
    assert talk("PAUSE", pooler)[0].value == "PAUSE"
    assert talk("PAUSE", pooler, "pgbouncer")[0].value["M"] == "already suspended/paused"
    assert talk("KILL", pooler, "pgbouncer")[0].value["M"] == "already suspended/paused"
    assert talk("RESUME exampledb", pooler)[0].value["C"] == "55000"
    assert talk("RESUME exampledb", pooler, "pgbouncer")[0].value["M"] == "database exampledb is not paused"
    assert talk("RESUME", pooler)[0].value == "RESUME"


def test_pause_waits_and_says_so_when_it_was_taken_back() -> None:
    pooler = FakePooler()
    pooler.operations.open = 5
    assert talk("PAUSE exampledb", pooler)[0].value == "PAUSE"
    assert pooler.operations.open == 0
    pooler.operations.open = 5
    pooler.operations.pause = lambda target: None  # type: ignore[method-assign]
    pooler.operations.paused.clear()
    assert talk("PAUSE", pooler)[0].value["C"] == "57014"


def test_wait_close_waits() -> None:
    pooler = FakePooler()
    assert talk("WAIT_CLOSE", pooler)[0].value == "WAIT_CLOSE"
    assert pooler.operations.condemned == 0


@pytest.mark.parametrize("spelling", ["12", "#c12", "c12", "'12'"])
def test_kill_client(spelling: str) -> None:
    assert done(f"KILL_CLIENT {spelling}") == ["kill_client 12"]


def test_reload_tells_what_has_changed() -> None:
    pooler = FakePooler()
    pooler.told = ["1 pools added", "general.port was changed: it is 1 after a restart"]
    *notices, complete, _ = talk("RELOAD", pooler)
    assert [(notice.kind, notice.value["S"], notice.value["C"]) for notice in notices] == [("N", "NOTICE", "00000")] * 2
    assert [notice.value["M"] for notice in notices] == pooler.told
    assert complete.value == "RELOAD"


@pytest.mark.parametrize(
    ("sql", "mode"),
    [("SHUTDOWN", "drain"), ("shutdown wait_for_servers", "servers"), ("SHUTDOWN WAIT_FOR_CLIENTS", "clients")],
)
def test_shutdown_modes(sql: str, mode: str) -> None:
    pooler = FakePooler()
    assert [answer.kind for answer in talk(sql, pooler)] == ["T", "D", "C", "Z"]
    assert [answer.kind for answer in talk(sql, pooler, "pgbouncer")] == ["C", "Z"]
    assert pooler.done == [f"shutdown {mode}", f"shutdown {'now' if mode == 'drain' else mode}"]


@pytest.mark.parametrize(
    ("sql", "dialect", "expected"),
    [
        ("SET query_wait_timeout = 5000", "pgdoorman", "set general.query_wait_timeout 5000"),
        ("SET query_wait_timeout = '5s'", "pgdoorman", "set general.query_wait_timeout '5s'"),
        ("SET general.query_wait_timeout = '5s'", "pgdoorman", "set general.query_wait_timeout '5s'"),
        ("SET query_wait_timeout=5", "pgbouncer", "set general.query_wait_timeout '5000ms'"),
        ("SET query_wait_timeout=0.25", "pgbouncer", "set general.query_wait_timeout '250ms'"),
        ("SET max_connections TO 7", "pgdoorman", "set general.max_connections 7"),
        ("SET log_client_connections = off", "pgdoorman", "set general.log_client_connections False"),
        ("SET hba = '10.0.0.0/8, ::1/128'", "pgdoorman", "set general.hba ['10.0.0.0/8', '::1/128']"),
        ("RESET query_wait_timeout", "pgdoorman", "reset general.query_wait_timeout"),
    ],
)
def test_keys(sql: str, dialect: str, expected: str) -> None:
    pooler = FakePooler()
    notice, complete, _ = talk(sql, pooler, dialect)
    assert pooler.done == [expected]
    assert "is" in notice.value["M"]
    tag = sql.split()[0]
    assert complete.value == (f"SET {sql.split()[1]}" if dialect == "pgbouncer" else tag)


def test_a_value_that_is_refused() -> None:
    pooler = FakePooler()
    pooler.failure = ConfigError("SET: general.max_connections: found 0")
    failed, _ = talk("SET max_connections = 0", pooler)
    assert (failed.value["C"], failed.value["M"]) == ("22023", "SET: general.max_connections: found 0")
    failed, _ = talk("SET max_connections = 0", pooler, "pgbouncer")
    assert (failed.value["C"], failed.value["M"]) == ("08P01", "SET failed")
    assert "found 0" in failed.value["H"]


def test_pgbouncers_name_of_a_key() -> None:
    failed, _ = talk("SET max_client_conn = 5")
    assert failed.value["C"] == "42704"
    assert "max_connections" in failed.value["H"]


def test_every_live_key_can_be_written() -> None:
    """Its default, written out, is read back."""
    for name, key in keys_of(General):
        if key.reload == "restart" or key.default is None or key.required:
            continue
        default = key.default
        text = ",".join(default) if isinstance(default, list) else "" if default == {} else str(default)
        assert key.read(raw_of(key, text)) == key.default_value(), name


def test_planning_has_no_effect() -> None:
    pooler = FakePooler()
    for sql in ("PAUSE", "KILL", "SET max_connections = 5", "RESET max_connections", "RELOAD"):
        console.serve(FakeStream(parse(sql) + bound()), pooler, "admin")
    assert pooler.done == []
    console.serve(FakeStream(parse("RECONNECT") + bound() + execute()), pooler, "admin")
    assert pooler.done == ["reconnect None None"]


def test_what_a_target_covers() -> None:
    assert Target().covers("a", "b") and Target().covers("a", None) and Target().covers(None, None)
    assert Target("a").covers("a", "b") and Target("a").covers("a", None)
    assert not Target("a").covers(None, None)
    assert not Target("a", "b").covers("a", None)
    assert not Target("a", "b").covers("a", "c")
