"""Several hosts in one pool: which is taken, what becomes of it when the primary dies, and whom cancels go to."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import psycopg
import pytest
from eventually import eventually
from fix_doorman import Doorman, MakeDoorman, app_user, base_config
from pace import patience
from ports import free_port
from postgres_pair import Member

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Member]]:
    made = [Member(tmp_path_factory.mktemp(f"member{number}")) for number in range(2)]
    try:
        made[0].start()
        made[0].populate()
        made[0].sql("CREATE TABLE t (a int); GRANT ALL ON t TO app;", "testdb")
        yield made
    finally:
        for member in made:
            member.remove()


@pytest.fixture
def pair(members: list[Member]) -> tuple[Member, Member]:
    """A primary that runs, and a standby that streams from it."""
    one, two = members
    if two.running and not two.is_standby():
        one, two = two, one
    if not one.running:
        one.start()
    if not two.running or not two.is_standby():
        two.follow(one)
    members[:] = [one, two]
    return one, two


def config_for(*members: Member, attrs: str = "any", size: int = 4, **more: Any) -> dict[str, Any]:
    config = base_config(members[0], free_port())
    config["pools"] = {
        "testdb": {
            "server_host": ",".join(member.host for member in members),
            "server_port": [member.port for member in members],
            "target_session_attrs": attrs,
            "users": [app_user(members[0], size)],
            **more,
        }
    }
    return config


def port_of(connection: psycopg.Connection[Any]) -> int:
    row = connection.execute("SELECT inet_server_port()").fetchone()
    assert row is not None
    return int(row[0])


def ask(doorman: Doorman) -> int:
    with doorman.connect() as connection:
        return port_of(connection)


@pytest.mark.parametrize(
    ("attrs", "expected"),
    [("read-write", 0), ("primary", 0), ("standby", 1), ("read-only", 1), ("prefer-standby", 1), ("any", 1)],
)
def test_the_host_that_is_asked_for(
    pair: tuple[Member, Member], make_doorman: MakeDoorman, attrs: str, expected: int
) -> None:
    primary, standby = pair
    doorman = make_doorman(config=config_for(standby, primary, attrs=attrs))
    for _ in range(3):
        assert ask(doorman) == pair[expected].port
    role = {("primary", "standby")[expected]}

    def told() -> bool:
        rows = [row for row in doorman.admin("SHOW HOSTS") if row["port"] == pair[expected].port]
        assert {(row["host"], row["address"], row["breaker"]) for row in rows} == {("127.0.0.1", "127.0.0.1", "closed")}
        # A worker that has a server from another has not seen its login.
        assert role <= {row["role"] for row in rows} <= role | {""}
        return sum(row["servers"] for row in rows) == int(doorman.pool()["sv_idle"]) > 0

    eventually(told)


def test_none_is_what_is_asked_for(pair: tuple[Member, Member], make_doorman: MakeDoorman) -> None:
    config = config_for(pair[1], attrs="read-write")
    config["general"]["query_wait_timeout"] = "300ms"
    doorman = make_doorman(config=config)
    with pytest.raises(psycopg.OperationalError) as caught:
        doorman.connect().execute("SELECT 1")
    assert "session is read-only" in str(caught.value)
    assert {(row["port"], row["breaker"], row["servers"]) for row in doorman.admin("SHOW HOSTS")} == {
        (pair[1].port, "closed", 0)
    }
    doorman.wait_log("failed: session is read-only")


def test_at_random_both_are_taken(pair: tuple[Member, Member], make_doorman: MakeDoorman) -> None:
    doorman = make_doorman(config=config_for(*pair, size=8, load_balance_hosts="random"))
    connections = [doorman.connect(autocommit=False) for _ in range(8)]
    try:
        ports = {port_of(connection) for connection in connections}
        if len(ports) == 1:  # one time in 128
            pytest.skip("all eight have fallen on one")
        assert ports == {member.port for member in pair}
        # What was prepared goes by every server, and settings follow the client to any.
        for connection in connections:
            connection.rollback()
            connection.autocommit = True
        for number, connection in enumerate(connections):
            connection.execute(f"SET application_name = 'client {number}'")
        for _ in range(3):
            for number, connection in enumerate(connections):
                row = connection.execute(
                    "SELECT current_setting('application_name'), %s::int", (number,), prepare=True
                ).fetchone()
                assert row == (f"client {number}", number)
    finally:
        for connection in connections:
            connection.close()


def test_a_cancel_goes_to_the_host_where_the_statement_runs(
    pair: tuple[Member, Member], make_doorman: MakeDoorman
) -> None:
    primary, standby = pair
    for attrs, member in (("primary", primary), ("standby", standby)):
        doorman = make_doorman(config=config_for(standby, primary, attrs=attrs))
        with doorman.connect() as connection:
            assert port_of(connection) == member.port
            failures: list[Any] = []

            def sleep(connection: psycopg.Connection[Any] = connection, failures: list[Any] = failures) -> None:
                with pytest.raises(psycopg.errors.QueryCanceled) as caught:
                    connection.execute("SELECT pg_sleep(60)")
                failures.append(caught.value)

            thread = threading.Thread(target=sleep)
            thread.start()
            eventually(lambda member=member: [b for b in member.backends() if "pg_sleep(60)" in b["query"]])
            connection.cancel()
            thread.join(patience(20))
            assert len(failures) == 1


def test_what_runs_for_a_worker_that_dies_is_cancelled_where_it_runs(
    pair: tuple[Member, Member], make_doorman: MakeDoorman
) -> None:
    """PostgreSQL would go on with it, and only notice when it is done that nobody wants to know."""
    primary, standby = pair
    config = config_for(primary, standby, attrs="standby")
    config["general"]["worker_threads"] = 2
    doorman = make_doorman(config=config)
    with closing(doorman.connect()) as connection:
        connection.pgconn.send_query(b"SELECT pg_sleep(60)")

        def running() -> list[Any]:
            return [backend for backend in standby.backends() if "pg_sleep(60)" in backend["query"]]

        eventually(running)
        [worker] = [row["worker"] for row in doorman.admin("SHOW SERVERS") if row["state"] == "active"]
        [pid] = [row["process"] for row in doorman.admin("SHOW WORKERS") if row["worker"] == worker]
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: not running(), message="it was cancelled")


def test_the_primary_dies_and_the_standby_is_promoted(pair: tuple[Member, Member], make_doorman: MakeDoorman) -> None:
    primary, standby = pair
    doorman = make_doorman(config=config_for(primary, standby, attrs="read-write"))
    with doorman.connect() as kept:
        kept.execute("INSERT INTO t VALUES (1)", prepare=True)
        eventually(lambda: standby.has_caught_up(primary))
        with doorman.connect(autocommit=False) as inside:
            inside.execute("INSERT INTO t VALUES (2)")
            primary.kill()
            with pytest.raises(psycopg.OperationalError):
                inside.execute("SELECT 1")
        standby.promote()

        def writes() -> bool:
            with doorman.connect() as connection:
                try:
                    connection.execute("INSERT INTO t VALUES (3)")
                except psycopg.OperationalError:
                    return False
                return port_of(connection) == standby.port

        eventually(writes)
    doorman.wait_log("connected to the server again|new server connection")
    assert standby.rows("SELECT count(*) FILTER (WHERE a = 2) AS lost FROM t", dbname="testdb")[0]["lost"] == 0


def test_what_is_known_of_one_host_is_not_believed_of_another(
    pair: tuple[Member, Member], make_doorman: MakeDoorman
) -> None:
    """They have gone apart: on the second there is a function that sets something, and a table of other columns."""
    primary, standby = pair
    standby.promote()
    standby.sql(
        "CREATE FUNCTION innocent() RETURNS text LANGUAGE sql AS $$ SELECT set_config('work_mem', '123kB', false) $$;"
        " CREATE TABLE shaped (a text, b text); INSERT INTO shaped VALUES ('one', 'two'); GRANT ALL ON shaped TO app;",
        "testdb",
    )
    primary.sql("CREATE TABLE shaped (a int); INSERT INTO shaped VALUES (1); GRANT ALL ON shaped TO app;", "testdb")
    doorman = make_doorman(config=config_for(primary, standby, size=1))
    with doorman.connect() as kept, doorman.connect() as other:
        assert kept.execute("SELECT * FROM shaped", prepare=True).fetchall() == [(1,)]
        assert other.execute("SELECT * FROM shaped", prepare=True).fetchall() == [(1,)]
        usual = other.execute("SHOW work_mem").fetchone()
        assert usual != ("123kB",)
        primary.kill()

        def calls() -> bool:
            with doorman.connect() as caller:
                try:
                    return caller.execute("SELECT innocent()").fetchone() == ("123kB",)
                except psycopg.Error:
                    return False

        eventually(calls)
        with doorman.connect() as third:
            assert third.execute("SHOW work_mem").fetchone() == usual
            assert third.execute("SELECT * FROM shaped", prepare=True).fetchall() == [("one", "two")]
        for connection in (kept, other):
            try:
                found = connection.execute("SELECT * FROM shaped", prepare=True).fetchall()
            except psycopg.Error:
                continue  # as PostgreSQL refuses a cached plan that must not change its result type
            assert found == [("one", "two")]


def test_a_promoted_standby_is_left_by_who_asks_for_standbys(
    pair: tuple[Member, Member], make_doorman: MakeDoorman
) -> None:
    """PostgreSQL keeps its connections when it is promoted; the first statement behind that tells of it."""
    primary, standby = pair
    doorman = make_doorman(config=config_for(standby, primary, attrs="standby", size=1))
    with doorman.connect() as connection:
        assert port_of(connection) == standby.port
        primary.kill()
        standby.promote()
        connection.execute("SELECT 1")
        primary.start()  # nothing is right there any more, but it serves
        doorman.wait_log("not what target_session_attrs asks for any more: server is not in hot standby mode")
    primary.kill()


def test_who_is_made_read_only_is_left(pair: tuple[Member, Member], make_doorman: MakeDoorman) -> None:
    """As managed services do when a disk is full; connections stay, and only 25006 tells."""
    primary, standby = pair
    doorman = make_doorman(config=config_for(primary, standby, attrs="read-write", size=1))
    with doorman.connect() as connection:
        connection.execute("INSERT INTO t VALUES (4)")
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            connection.execute("BEGIN READ ONLY; INSERT INTO t VALUES (4)")
        connection.execute("ROLLBACK")
        connection.execute("INSERT INTO t VALUES (4)")
        assert len(primary.backends()) == 1
        [before] = primary.backends()
        primary.sql("ALTER SYSTEM SET default_transaction_read_only = on; SELECT pg_reload_conf();")
        try:

            def refused() -> bool:
                try:
                    connection.execute("INSERT INTO t VALUES (5)")
                except psycopg.errors.ReadOnlySqlTransaction:
                    return True
                return False

            eventually(refused)
            doorman.wait_log("not what target_session_attrs asks for any more: session is read-only")
            assert before["pid"] not in [backend["pid"] for backend in primary.backends()]
        finally:
            primary.sql(
                "SET default_transaction_read_only = off; ALTER SYSTEM RESET default_transaction_read_only;"
                " SELECT pg_reload_conf();"
            )
        eventually(lambda: writes_again(connection))


def writes_again(connection: psycopg.Connection[Any]) -> bool:
    try:
        connection.execute("INSERT INTO t VALUES (6)")
    except psycopg.Error:
        return False
    return True


def test_hosts_are_changed_by_reload_and_kept_by_an_upgrade(
    pair: tuple[Member, Member], make_doorman: MakeDoorman
) -> None:
    primary, standby = pair
    config = config_for(standby, primary, attrs="primary")
    doorman = make_doorman(config=config)
    with doorman.connect() as connection:
        assert port_of(connection) == primary.port
        [before] = primary.backends()
        doorman.upgrade()
        assert port_of(connection) == primary.port
        assert before["pid"] in [backend["pid"] for backend in primary.backends()]
        config["pools"]["testdb"]["target_session_attrs"] = "standby"
        doorman.reload(config)
        assert port_of(connection) == standby.port
        with doorman.admin_connect() as console:
            console.execute("PAUSE testdb")
            console.execute("RESUME testdb")
        assert port_of(connection) == standby.port


def test_a_host_that_does_not_answer_is_tried_once(pair: tuple[Member, Member], make_doorman: MakeDoorman) -> None:
    """It takes connections and says nothing, as one does that is stopped or lost behind a firewall."""
    with socket.create_server(("127.0.0.1", 0), backlog=50) as silent:
        config = config_for(pair[0], size=1)
        pool = config["pools"]["testdb"]
        pool["server_host"] = "127.0.0.1,127.0.0.1"
        pool["server_port"] = [silent.getsockname()[1], pair[0].port]
        pool["connect_timeout"] = "300ms"
        config["general"]["worker_threads"] = 1
        doorman = make_doorman(config=config)
        for _ in range(3):
            assert ask(doorman) == pair[0].port
            doorman.admin("RECONNECT testdb")
        silent.settimeout(patience(5))
        logins = 0
        for _ in range(2):
            connection, _ = silent.accept()
            with connection:
                # A login begins with protocol 3.0; a look whether it is there again asks for TLS, and comes later.
                logins += connection.recv(8)[4:8] == b"\x00\x03\x00\x00"
            if logins:
                break
        assert logins == 1
        silent.setblocking(False)
        more = 0
        try:
            while True:
                connection, _ = silent.accept()
                with connection:
                    connection.settimeout(patience(5))
                    more += connection.recv(8)[4:8] == b"\x00\x03\x00\x00"
        except BlockingIOError:
            pass
        assert more == 0


class FakePatroni:
    """The API of a cluster, as one of its members tells it: ``members`` as /cluster has them."""

    def __init__(self) -> None:
        self.members: list[dict[str, Any]] = []
        self.asked = 0
        patroni = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                patroni.asked += 1
                body = json.dumps({"members": patroni.members}).encode()
                self.send_response(200 if self.path == "/cluster" else 404)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self._thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    def tell(self, **roles: Member) -> None:
        self.members = [
            {"name": role, "role": role, "state": "running", "host": member.host, "port": member.port}
            for role, member in roles.items()
        ]

    def close(self) -> None:
        self.server.shutdown()
        self._thread.join()
        self.server.server_close()


@pytest.fixture
def patroni() -> Iterator[FakePatroni]:
    made = FakePatroni()
    yield made
    made.close()


def test_patroni_tells_where_else(pair: tuple[Member, Member], make_doorman: MakeDoorman, patroni: FakePatroni) -> None:
    primary, standby = pair
    patroni.tell(leader=primary, sync_standby=standby)
    config = config_for(primary, patroni_api_urls=["http://127.0.0.1:9", patroni.url], fallback_cooldown="2s")
    config["web"] = {"enabled": True, "port": free_port()}
    doorman = make_doorman(config=config)
    with doorman.connect() as connection:
        assert port_of(connection) == primary.port and not patroni.asked
        primary.kill()

    def moved() -> bool:
        try:
            return ask(doorman) == standby.port
        except psycopg.OperationalError:  # its server was lent to it before the end was noticed
            return False

    eventually(moved)
    assert patroni.asked
    assert str(doorman.pool()["fallback_active"]) == "1"
    doorman.wait_log("servers are opened at .* \\(sync_standby, by Patroni\\)")
    with urllib.request.urlopen(f"http://127.0.0.1:{config['web']['port']}/metrics") as page:
        text = page.read().decode()
    assert 'pg_doorman_fallback_active{pool="testdb"} 1' in text
    assert f'pg_doorman_fallback_host{{pool="testdb",host="127.0.0.1",port="{standby.port}"}} 1' in text
    with doorman.connect() as connection:
        before = port_of(connection)
        doorman.upgrade()
        assert (before, port_of(connection)) == (standby.port, standby.port)
    primary.start()
    eventually(lambda: ask(doorman) == primary.port)  # those at the standby live for 2 s, as it is kept
    eventually(lambda: str(doorman.pool()["fallback_active"]) == "0")
    primary.kill()


def test_patroni_knows_of_nobody(pair: tuple[Member, Member], make_doorman: MakeDoorman, patroni: FakePatroni) -> None:
    """The client is told what it is told without Patroni, and the log what was tried."""
    config = config_for(pair[0], patroni_api_urls=[patroni.url])
    config["pools"]["testdb"]["server_port"] = free_port()
    config["general"]["query_wait_timeout"] = "300ms"
    doorman = make_doorman(config=config)
    with pytest.raises(psycopg.OperationalError, match="Connection refused"):
        doorman.connect().execute("SELECT 1")
    doorman.wait_log("Patroni does not tell of another host: http://.*no member serves|no member serves")
