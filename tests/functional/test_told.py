"""What clients are told: parameters, process ids, positions of errors; and what becomes of those who stop listening."""

from __future__ import annotations

import re
import struct
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from eventually import eventually
from fix_doorman import Doorman, MakeDoorman, app_pool, until_idle
from fix_postgres import Postgres
from pace import patience
from wire_client import SYNC, Message, WireClient, bind, cancel_request, execute, kinds, parse, query

#: Linux's largest process id.
LARGEST_PID = 1 << 22


@pytest.fixture
def postgres_of_ours(own_postgres: Postgres) -> Iterator[Postgres]:
    """What a test sets for roles, databases and in postgresql.conf is undone."""
    yield own_postgres
    own_postgres.sql("ALTER ROLE app RESET ALL; ALTER DATABASE testdb RESET ALL; ALTER SYSTEM RESET ALL")
    own_postgres.sql("SELECT pg_reload_conf()")


@pytest.fixture
def start(make_doorman: MakeDoorman, postgres_of_ours: Postgres) -> Callable[..., Doorman]:
    """Start a pooler over that PostgreSQL."""

    def start(**general: Any) -> Doorman:
        pools = {f"db{size}": app_pool(postgres_of_ours, size) for size in (1, 2)}
        return make_doorman({"general": general, "pools": pools})

    return start


def told(messages: list[Message]) -> dict[str, str]:
    """The ParameterStatus messages among them."""
    pairs = [m.body.split(b"\0") for m in messages if m.kind == "S"]
    return {name.decode(): value.decode() for name, value, _ in pairs}


def same(pooled: WireClient, direct: WireClient) -> None:
    """Both were told the same, but for what depends on the connection."""
    assert pooled.parameters == {**direct.parameters, "application_name": pooled.parameters["application_name"]}


@pytest.mark.parametrize(
    "setting",
    ["datestyle = 'German'", "client_encoding = 'latin1'", "timezone = 'Asia/Tokyo'", "intervalstyle = 'iso_8601'"],
)
def test_a_role_changes_while_the_pool_runs(
    start: Callable[..., Doorman], postgres_of_ours: Postgres, setting: str
) -> None:
    """Who logs in later is told what holds for him; who was there is told nothing, since nothing changes for him."""
    doorman = start()
    with doorman.wire("db2") as old, postgres_of_ours.wire() as direct_old:
        same(old, direct_old)
        postgres_of_ours.sql(f"ALTER ROLE app SET {setting}")
        old.ask_query("BEGIN")
        with doorman.wire("db2") as busy:
            busy.ask_query("SELECT 1")  # on a new server
        old.ask_query("COMMIT")
        with doorman.wire("db2") as young, postgres_of_ours.wire() as direct_young:
            same(young, direct_young)
            assert young.parameters != old.parameters
            sql = "SELECT length('\\303\\251'), current_setting('datestyle'), now()::timestamp(0) - now()::timestamp(0)"
            for _ in range(3):
                for client, direct in ((old, direct_old), (young, direct_young)):
                    answer = client.ask_query(sql)
                    assert not told(answer)
                    assert [m.body for m in answer if m.kind == "D"] == [
                        m.body for m in direct.ask_query(sql) if m.kind == "D"
                    ]


def test_a_reload_of_the_configuration(start: Callable[..., Doorman], postgres_of_ours: Postgres) -> None:
    """Every client hears of it once, at its next transaction at the latest; new ones at their login."""
    doorman = start()
    clients = [doorman.wire("db2") for _ in range(4)]
    mine = doorman.wire("db2", IntervalStyle="sql_standard")
    clients[0].ask_query("BEGIN")
    clients[1].ask_query("SELECT 1")
    clients[0].ask_query("COMMIT")
    postgres_of_ours.sql("ALTER SYSTEM SET intervalstyle = 'iso_8601'")
    postgres_of_ours.sql("SELECT pg_reload_conf()")

    def heard() -> bool:
        # PostgreSQL tells at its next answer, or the one after.
        for client in clients:
            news[client] |= told(client.ask_query("SELECT 1"))
        return all(news[client] == {"IntervalStyle": "iso_8601"} for client in clients)

    news: dict[WireClient, dict[str, str]] = {client: {} for client in clients}
    eventually(heard)
    for client in clients:
        answer = client.ask_query("SELECT current_setting('intervalstyle')")
        assert not told(answer)
        assert [m.columns for m in answer if m.kind == "D"] == [[b"iso_8601"]]
    for _ in range(2):
        answer = mine.ask_query("SHOW intervalstyle")
        assert not told(answer)
        assert [m.columns for m in answer if m.kind == "D"] == [[b"sql_standard"]]

    def young() -> str:
        with doorman.wire("db2") as client:
            return client.parameters["IntervalStyle"]

    # Another worker may hear of it a moment later.
    eventually(lambda: {young() for _ in range(4)} == {"iso_8601"})
    for client in (*clients, mine):
        client.close()


def test_settings_of_others_are_no_news(start: Callable[..., Doorman]) -> None:
    """What another client had set on the server is put right before anybody is told anything."""
    doorman = start()
    with doorman.wire("db1", application_name="one") as one, doorman.wire("db1", application_name="two") as two:
        assert told(one.ask_query("SET timezone = 'Asia/Tokyo'; SET datestyle = 'German'")) == {
            "TimeZone": "Asia/Tokyo",
            "DateStyle": "German, DMY",
        }
        for _ in range(3):
            assert not told(two.ask_query("SELECT 1"))
            assert not told(one.ask_query("SELECT 1"))
        assert told(one.ask_query("RESET timezone")) == {"TimeZone": "UTC"}


def test_what_is_taken_back_is_told(make_doorman: MakeDoorman) -> None:
    """Where parameters do not follow clients, a client whose SET is over hears of it."""
    doorman = make_doorman({"general": {"sync_server_parameters": False}})
    with doorman.wire("onedb") as client:
        assert told(client.ask_query("SET timezone = 'Asia/Tokyo'")) == {"TimeZone": "Asia/Tokyo"}
        assert told(client.ask_query("SHOW timezone")) == {"TimeZone": "UTC"}
        assert not told(client.ask_query("SHOW timezone"))


@pytest.mark.parametrize(
    "parameters",
    [
        {"application_name": "x" * 100},
        {"application_name": "x" * 63},
        {"application_name": "é" * 40},
        {"application_name": "tab\there"},
        {"options": "-c default_transaction_read_only=on"},
        {"options": "-c standard_conforming_strings=off"},
    ],
)
def test_parameters_are_reported_as_by_postgres(
    start: Callable[..., Doorman], postgres_of_ours: Postgres, parameters: dict[str, str]
) -> None:
    doorman = start()
    for _ in range(2):
        with doorman.wire("db1", **parameters) as pooled, postgres_of_ours.wire(**parameters) as direct:
            expected = dict(direct.parameters)
            if "application_name" not in parameters:
                expected["application_name"] = pooled.parameters["application_name"]
            assert pooled.parameters == expected
            answer = pooled.ask_query("SHOW application_name")
            assert not told(answer)
            assert answer[1].columns == [expected["application_name"].encode()]


# -- process ids


def notifications(messages: list[Message]) -> list[tuple[int, bytes]]:
    """(process id, channel) of the NotificationResponses among them."""
    return [(struct.unpack_from("!i", m.body)[0], m.body[4:].split(b"\0")[0]) for m in messages if m.kind == "A"]


@pytest.mark.parametrize("database", ["twodb", "sessiondb"])
def test_process_ids(doorman: Doorman, postgres: Postgres, database: str) -> None:
    """Those told to clients are nobody's on the server; one's own notifications carry one's own."""
    with doorman.wire(database) as one, doorman.wire(database) as two, postgres.wire() as direct:
        assert min(one.pid, two.pid) > LARGEST_PID
        assert one.pid != two.pid
        assert max(one.pid, two.pid) < 1 << 31
        one.ask_query("LISTEN news")
        assert notifications(one.ask_query("NOTIFY news")) == [(one.pid, b"news")]
        assert notifications(one.ask_query("SELECT pg_notify('news', 'x'), pg_notify('news', 'y')")) == [
            (one.pid, b"news"),
            (one.pid, b"news"),
        ]
        direct.ask_query("NOTIFY news")
        two.ask_query("NOTIFY news")
        found: list[tuple[int, bytes]] = []

        def all_there() -> bool:
            found.extend(notifications(one.ask_query("SELECT 1")))
            return len(found) == 2

        eventually(all_there)
        assert found[0] == (direct.pid, b"news")
        assert found[1][0] < LARGEST_PID
        assert two.value(f"SELECT pg_terminate_backend({one.pid})") == "f"


def test_a_cancel_key(doorman: Doorman, postgres: Postgres) -> None:
    """The number in it is the client's and nothing else's."""
    with doorman.wire("onedb") as client:
        client.send(query("SELECT pg_sleep(30), 'to be hit'"))
        eventually(lambda: any("to be hit" in b["query"] and b["state"] == "active" for b in postgres.backends()))
        for pid in (client.pid - LARGEST_PID, client.pid + 1):
            with doorman.raw() as other:
                other.send(cancel_request(pid, client.secret))
                assert other.read_to_end() == b""
        assert client.is_quiet(0.3)
        with doorman.raw() as other:
            other.send(cancel_request(client.pid, client.secret))
        assert [m.sqlstate for m in client.read_ready() if m.kind == "E"] == ["57014"]
        (row,) = [r for r in doorman.admin("SHOW CLIENTS") if r["database"] == "onedb"]
        assert re.fullmatch(r"#c\d{1,4}", str(row["id"])) if "id" in row else True


# -- positions


def position(messages: list[Message]) -> list[tuple[str, str | None]]:
    return [(m.sqlstate, m.fields.get("P")) for m in messages if m.kind == "E"]


BATCHES = [
    parse("", "EXECUTE foo") + bind("", "") + execute() + parse("", "SELECT nothing") + SYNC,
    parse("", "SELECT 1 FROM nowhere") + bind("", "") + execute() + parse("", "EXECUTE foo") + SYNC,
    parse("", "EXECUTE foo") + parse("b", "  EXECUTE foo (nothing") + SYNC,
    parse("a", "EXECUTE foo") + parse("b", "EXECUTE foo (1); EXECUTE foo") + SYNC,
    parse("a", "EXECUTE foo") + bind("", "a") + execute() + parse("c", "SELECT  none") + bind("", "c") + SYNC,
    query("EXECUTE foo") + query("SELECT nothing"),
    query("SELECT nothing") + query("EXECUTE foo; SELECT nothing"),
    query("EXECUTE foo; EXECUTE foo; SELECT nothing"),
]


@pytest.mark.parametrize("batch", BATCHES)
def test_positions_in_a_batch_of_texts(doorman: Doorman, postgres: Postgres, batch: bytes) -> None:
    """One text goes to the server in another form, one as it came: an error speaks of the one it is about."""
    answers = []
    for connect in (doorman.wire("onedb"), postgres.wire()):
        with connect as client:
            client.ask_query("PREPARE foo AS SELECT 1")
            client.send(batch)
            ready = 2 if batch.count(b"Q\0\0") == 2 else 1
            answers.append(position(client.read_ready(ready)))
            client.ask_query("DEALLOCATE ALL")
    assert answers[0] == answers[1]
    assert answers[0]


# -- who stops listening


def fresh_table(postgres: Postgres) -> None:
    postgres.sql("DROP TABLE IF EXISTS kept; CREATE TABLE kept (a int); GRANT ALL ON kept TO app", database="testdb")


@pytest.mark.parametrize(
    "said",
    [
        query("SELECT pg_sleep(0.3), 'slow'; INSERT INTO kept VALUES (1)"),
        query("SELECT 1") + query("INSERT INTO kept SELECT 1 FROM pg_sleep(0.2)") + query("SELECT 2"),
        parse("", "INSERT INTO kept SELECT 1 FROM pg_sleep(0.2)") + bind("", "") + execute() + SYNC,
        query("BEGIN") + query("INSERT INTO kept VALUES (1)") + query("COMMIT"),
        query("BEGIN") + query("INSERT INTO kept VALUES (1)"),
        query("INSERT INTO kept VALUES (1)") + query("SELECT")[:-3],
        query("INSERT INTO kept SELECT 1 / 0"),
        b"",
    ],
)
@pytest.mark.parametrize("waits", [False, True])
def test_a_half_close(doorman: Doorman, postgres: Postgres, said: bytes, waits: bool) -> None:
    """Behind whole messages: they are carried out and answered, then the session ends."""
    results = []
    for pooled in (False, True):
        fresh_table(postgres)
        holder = doorman.wire("onedb")
        with doorman.wire("onedb") if pooled else postgres.wire() as client:
            if waits and pooled:
                holder.ask_query("BEGIN")
            client.send(said)
            client.socket.shutdown(1)
            if waits and pooled:
                if said:
                    eventually(lambda: doorman.pool("onedb")["cl_waiting"] == 1)
                holder.ask_query("COMMIT")
            answers = client.read_messages_to_end()
        holder.terminate()
        until_idle(doorman, "onedb")
        count = postgres.rows("SELECT count(*) AS n FROM kept", dbname="testdb")[0]["n"]
        results.append((kinds(answers), count))
    assert results[0] == results[1]


def test_a_half_close_has_an_end(make_doorman: MakeDoorman, postgres: Postgres) -> None:
    """``client_eof_timeout`` limits it, 0 cancels at once; the transaction is rolled back."""
    for limit in ("300ms", "0"):
        doorman = make_doorman({"general": {"client_eof_timeout": limit}})
        fresh_table(postgres)
        with doorman.wire("onedb") as client:
            client.send(query("INSERT INTO kept VALUES (1); SELECT pg_sleep(120), 'half closed'"))
            eventually(lambda: any("half closed" in b["query"] and b["state"] == "active" for b in postgres.backends()))
            began = time.monotonic()
            client.socket.shutdown(1)
            assert client.read_messages_to_end() == []
            assert time.monotonic() - began < patience(5)
        until_idle(doorman, "onedb")
        assert postgres.rows("SELECT count(*) AS n FROM kept", dbname="testdb") == [{"n": 0}]


def test_who_has_vanished(doorman: Doorman, postgres: Postgres) -> None:
    """A statement under way is carried out, as by PostgreSQL; the next is not, since the first answer finds nobody."""
    fresh_table(postgres)
    client = doorman.wire("onedb")
    client.send(query("INSERT INTO kept SELECT 1 FROM pg_sleep(0.3)"))
    eventually(lambda: any("INTO kept" in b["query"] and b["state"] == "active" for b in postgres.backends()))
    client.close()
    eventually(lambda: postgres.rows("SELECT count(*) AS n FROM kept", dbname="testdb") == [{"n": 1}])
    until_idle(doorman, "onedb")
    client = doorman.wire("onedb")
    client.send(query("SELECT 1 FROM pg_sleep(0.5)") + query("SELECT pg_sleep(120), 'v'"))
    eventually(lambda: any("pg_sleep" in b["query"] and b["state"] == "active" for b in postgres.backends()))
    client.close()
    began = time.monotonic()
    until_idle(doorman, "onedb")
    assert time.monotonic() - began < patience(4)


# -- statements of the pooler's own


def test_a_small_statement_timeout(start: Callable[..., Doorman], postgres_of_ours: Postgres) -> None:
    """Of a role: putting a client's settings in effect is not ended by it."""
    postgres_of_ours.sql("ALTER ROLE app SET statement_timeout = '30ms'")
    doorman = start()
    with doorman.wire("db1") as one, doorman.wire("db1") as two:
        names = [f"app.x{number}" for number in range(80)]
        for client in (one, two):
            client.ask_query("SET statement_timeout = '10s'")
            client.ask_query("; ".join(f"SET {name} = '{client.pid}'" for name in names))
        for _ in range(10):
            for client in (one, two):
                assert client.value(f"SELECT current_setting('{names[-1]}')") == str(client.pid)


@pytest.mark.parametrize(
    ("option", "sqlstate"), [("plpgsql.extra_warnings", "22023"), ("plpgsql.variable_conflict", "42501")]
)
def test_a_library_refuses_an_option(
    start: Callable[..., Doorman], postgres_of_ours: Postgres, option: str, sqlstate: str
) -> None:
    """What was taken before a library was loaded is dropped with a warning where it is, and the session goes on."""
    doorman = start()
    work = "DO $$ BEGIN END $$"
    with postgres_of_ours.wire() as direct:
        direct.ask_query(f"SET {option} = 'nonsense'")
        assert [(m.fields["V"], m.sqlstate) for m in direct.ask_query(work) if m.kind == "N"] == [("WARNING", sqlstate)]
    with doorman.wire("db1") as one, doorman.wire("db1") as two:
        assert "E" not in kinds(one.ask_query(f"SET {option} = 'nonsense'; SET work_mem = '9MB'"))
        two.ask_query(work)
        answer = one.ask_query("SHOW work_mem")
        assert [m.columns for m in answer if m.kind == "D"] == [[b"9MB"]]
        assert [(m.fields["V"], m.sqlstate) for m in answer if m.kind == "N"] == [("WARNING", sqlstate)]
        for _ in range(2):
            two.ask_query(work)
            assert kinds(one.ask_query("SHOW work_mem")) == "TDCZ"


def test_options_of_a_login_that_a_library_refuses(start: Callable[..., Doorman]) -> None:
    """Directly the library is not loaded yet."""
    doorman = start()
    with doorman.wire("db1") as first:
        first.ask_query("DO $$ BEGIN END $$")
    with doorman.wire("db1", options="-c plpgsql.variable_conflict=nonsense -c work_mem=9MB") as client:
        assert client.value("SHOW work_mem") == "9MB"
