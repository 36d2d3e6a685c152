"""Replication through the pooler: physical and logical, by PostgreSQL's own programs and byte by byte, and every end."""

from __future__ import annotations

import os
import signal
import ssl
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from eventually import eventually
from fix_certs import Certificates
from fix_doorman import Doorman, MakeDoorman, base_config, elapsed, until_idle
from fix_postgres import HBA, Postgres
from fix_proxy import MakeProxy
from pace import patience
from ports import free_port
from throwaway_postgres import PostgresNotFound, find_program
from wire_client import (
    COPY_DONE,
    SSL_REQUEST,
    WireClient,
    WireError,
    copy_data,
    kinds,
    prepared,
    query,
    startup,
)

MB = 1 << 20

RULES = (
    "hostssl replication app_two 127.0.0.1/32 scram-sha-256",
    "host replication app 127.0.0.1/32 scram-sha-256",
    "host replication postgres 127.0.0.1/32 trust",
    "hostnossl all app_two 127.0.0.1/32 reject",
)


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory, certs: Certificates) -> Iterator[Postgres]:
    """A cluster that can decode its WAL, and lets ``app`` replicate; ``app_two`` too, by TLS alone."""
    cluster = Postgres(
        tmp_path_factory.mktemp("postgres"),
        {"wal_level": "logical", "max_wal_senders": 30, "max_replication_slots": 30},
    )
    cluster.write_hba((*RULES, *HBA))
    cluster.configure(ssl_cert_file="server.crt", ssl_key_file="server.key")
    with cluster:
        for name, source in (("server.crt", certs.server.certificate), ("server.key", certs.server.private_key)):
            path = cluster.install_file(name, Path(source).read_bytes())
            path.rename(cluster.data / name)
        cluster.configure(ssl="on")
        cluster.reload()
        cluster.populate()
        cluster.sql("ALTER ROLE app REPLICATION; ALTER ROLE app_two REPLICATION;")
        cluster.sql("CREATE TABLE changes (a int PRIMARY KEY, b text); GRANT ALL ON changes TO app;", "testdb")
        cluster.sql("CREATE PUBLICATION everything FOR ALL TABLES;", "testdb")
        yield cluster


def only(kind: str, messages: list[Any]) -> Any:
    found = [m for m in messages if m.kind == kind]
    assert len(found) == 1, messages
    return found[0]


def walsenders(postgres: Postgres) -> list[dict[str, Any]]:
    return postgres.rows("SELECT * FROM pg_stat_activity WHERE backend_type = 'walsender'")


@pytest.fixture(autouse=True)
def no_walsender_is_left(postgres: Postgres) -> Iterator[None]:
    yield
    if postgres.running:
        eventually(lambda: not walsenders(postgres), message="every walsender has ended")


def logical(doorman: Doorman, database: str = "testdb", **parameters: str) -> WireClient:
    return doorman.wire(database, replication="database", **parameters)


def physical(doorman: Doorman, **parameters: str) -> WireClient:
    """A client that names no database, as libpq's is by default."""
    client = doorman.raw()
    client.send(startup(user="app", **{"replication": "true", **parameters}))
    client.welcome = client.authenticate("app", Postgres.PASSWORDS["app"])
    for m in client.welcome:
        if m.kind == "K":
            client.pid, client.secret = struct.unpack("!i", m.body[:4])[0], m.body[4:]
    return client


def lsn(text: str) -> int:
    high, low = text.split("/")
    return (int(high, 16) << 32) | int(low, 16)


def status_update(position: int) -> bytes:
    """Standby status update: written, flushed and applied up to there."""
    return copy_data(b"r" + struct.pack("!QQQQB", position, position, position, 0, 0))


class Subscription:
    """A client that has begun to stream changes by pgoutput from a temporary slot."""

    def __init__(self, client: WireClient, name: str = "s", options: str = "") -> None:
        self.client = client
        made = client.ask_query(f"CREATE_REPLICATION_SLOT {name} TEMPORARY LOGICAL pgoutput")
        # Behind a copy that has ended, PostgreSQL may still send a keep-alive.
        assert kinds(m for m in made if m.kind != "d") == "TDCZ", made
        client.send(
            query(
                f"START_REPLICATION SLOT {name} LOGICAL 0/0"
                f" (proto_version '1', publication_names 'everything'{options})"
            )
        )
        assert client.read().kind == "W"
        self.position = 0

    def read(self) -> bytes:
        """The next change; keep-alives are answered."""
        while True:
            m = self.client.read()
            assert m.kind == "d", (m.kind, m.body)
            if m.body[:1] == b"w":
                self.position = struct.unpack("!Q", m.body[9:17])[0]
                return m.body[25:]
            assert m.body[:1] == b"k"
            self.position = max(self.position, struct.unpack("!Q", m.body[1:9])[0])
            if m.body[17]:
                self.client.send(status_update(self.position))

    def read_until(self, kind: str) -> list[bytes]:
        changes = [self.read()]
        while changes[-1][:1] != kind.encode():
            changes.append(self.read())
        return changes

    def stop(self) -> None:
        """CopyDone both ways: the connection is good for more."""
        self.client.send(COPY_DONE)
        rest = self.client.read_ready()
        assert kinds(m for m in rest if m.kind != "d") in ("cCZ", "cCCZ"), rest


# -- logging in


def test_identify_system(doorman: Doorman, postgres: Postgres) -> None:
    name = {"application_name": "standby"}
    with physical(doorman, **name) as client, postgres.wire("testdb", "app", replication="true", **name) as direct:
        row = only("D", client.ask_query("IDENTIFY_SYSTEM")).columns
        expected = only("D", direct.ask_query("IDENTIFY_SYSTEM")).columns
        assert (row[0], row[1], row[3]) == (expected[0], expected[1], None)
        # What the server reports of itself is passed on; the cancel key is ours.
        reported = {m.body for m in client.welcome if m.kind == "S"}
        assert reported == {m.body for m in direct.welcome if m.kind == "S"}
        assert (client.pid, client.secret) != (direct.pid, direct.secret)
    with logical(doorman) as client:
        assert only("D", client.ask_query("IDENTIFY_SYSTEM")).columns[3] == b"testdb"


@pytest.mark.parametrize("value", ["true", "on", "yes", "1", "T"])
@pytest.mark.parametrize("database", [{}, {"database": "replication"}, {"database": "onedb"}, {"database": "nowhere"}])
def test_physical_replication_by_any_name(doorman: Doorman, value: str, database: dict[str, str]) -> None:
    with physical(doorman, replication=value, **database) as client:
        assert kinds(client.ask_query("IDENTIFY_SYSTEM")) == "TDCZ"
        shown = only("D", client.ask_query("SHOW wal_level")).columns
        assert shown == [b"logical"]
        expected = {"onedb" if database.get("database") == "onedb" else "testdb"}
        eventually(lambda: {r["database"] for r in doorman.admin("SHOW CLIENTS") if r["user"] == "app"} == expected)


@pytest.mark.parametrize(
    "who",
    [
        {"user": "nobody", "replication": "true"},
        {"user": "nobody", "database": "testdb", "replication": "database"},
        {"user": "app", "database": "nowhere", "replication": "database"},
        {"user": "app", "database": "testdb", "replication": "database"},
        {"user": "app", "replication": "true"},
    ],
)
def test_the_unknown_and_a_wrong_password_look_alike(doorman: Doorman, who: dict[str, str]) -> None:
    with doorman.raw() as client:
        client.send(startup(**who))
        with pytest.raises(WireError) as caught:
            client.authenticate(who["user"], "wrong")
        fields = caught.value.message.fields
        assert (fields["C"], fields["M"]) == ("28P01", f'password authentication failed for user "{who["user"]}"')
        assert client.read_to_end() == b""


def test_the_client_s_parameters_reach_the_server(make_doorman: MakeDoorman, postgres: Postgres) -> None:
    """Its name, by which ``synchronous_standby_names`` knows it, wins over all that is configured."""
    pool = {
        "application_name": "pooler",
        "startup_parameters": {"application_name": "fixed", "statement_timeout": "7s"},
    }
    doorman = make_doorman({"pools": {"testdb": pool}})
    settings = {"options": "-c work_mem=123kB --geqo=off", "DateStyle": "German"}
    with logical(doorman, application_name="standby one", **settings) as client:
        assert [w["application_name"] for w in walsenders(postgres)] == ["standby one"]
        assert client.parameters["application_name"] == "standby one"
        for name, value in (
            ("work_mem", "123kB"),
            ("geqo", "off"),
            ("DateStyle", "German, DMY"),
            ("statement_timeout", "7s"),
        ):
            assert client.value(f"SHOW {name}") == value
        assert client.parameters["DateStyle"] == "German, DMY"
    with logical(doorman) as client:
        assert client.value("SHOW application_name") == "fixed"


def test_a_parameter_postgresql_refuses(doorman: Doorman) -> None:
    with pytest.raises(WireError) as caught:
        logical(doorman, work_mem="much")
    assert caught.value.message.sqlstate == "22023"


def test_the_console_has_no_replication(doorman: Doorman) -> None:
    with doorman.raw() as client:
        client.send(startup(user="admin", database="pgdoorman", replication="database"))
        answer = client.read()
        assert (answer.kind, answer.sqlstate) == ("E", "0A000")


def test_the_limit_of_clients_holds_for_those_who_come_together(make_doorman: MakeDoorman) -> None:
    """While each waits for its server the others do, too."""
    doorman = make_doorman({"general": {"max_db_client_connections": 1}})
    told: list[str] = []
    done = threading.Event()

    def come() -> None:
        try:
            with logical(doorman) as client:
                client.send(query("IDENTIFY_SYSTEM"))
                answer = client.read()
                told.append(answer.sqlstate if answer.kind == "E" else answer.kind)
                done.wait(patience(30))
        except WireError as exc:
            told.append(exc.message.sqlstate)

    threads = [threading.Thread(target=come) for _ in range(8)]
    for thread in threads:
        thread.start()
    eventually(lambda: len(told) == len(threads))
    done.set()
    for thread in threads:
        thread.join(patience(10))
    assert sorted(told) == ["53300"] * 7 + ["T"]


def test_scram_pass_through(make_doorman: MakeDoorman, postgres: Postgres) -> None:
    """The server is entered by the proof the client gave, though nobody has used the pool before."""
    config = base_config(postgres, free_port())
    for pool in config["pools"].values():
        pool["users"] = [{"username": "app", "password": postgres.secret("app"), "pool_size": 1}]
    doorman = make_doorman(config=config)
    with physical(doorman) as client:
        assert kinds(client.ask_query("IDENTIFY_SYSTEM")) == "TDCZ"


def test_rules(make_doorman: MakeDoorman, postgres: Postgres) -> None:
    """``replication`` is for physical replication, and nothing else is; with ``database`` it is of that database."""
    rules = "host replication app 127.0.0.1/32 scram-sha-256\nhost twodb all all md5\nhost all admin all md5"
    doorman = make_doorman({"general": {"pg_hba": {"content": rules}}})
    with physical(doorman), logical(doorman, "twodb"):
        pass
    with pytest.raises(WireError) as caught:
        logical(doorman)
    assert caught.value.message.sqlstate == "28000"
    assert 'database "testdb"' in caught.value.message.fields["M"]
    closed = make_doorman({"general": {"pg_hba": {"content": "host all all all md5"}}})
    with logical(closed):
        pass
    with pytest.raises(WireError) as caught:
        physical(closed)
    assert caught.value.message.sqlstate == "28000"
    assert caught.value.message.fields["M"].startswith("no pg_hba.conf entry for replication connection from host")


def test_no_server(make_doorman: MakeDoorman) -> None:
    patient = {"query_wait_timeout": "60s", "connect_timeout": "60s"}
    doorman = make_doorman({"general": patient, "pools": {"testdb": {"server_port": free_port()}}})
    began = time.monotonic()
    with pytest.raises(WireError) as caught:
        logical(doorman)
    assert caught.value.message.sqlstate == "08006"
    assert elapsed(began) < patience(4)
    doorman.wait_log(r"connecting to the server 127\.0\.0\.1:\d+ \(database .testdb., user .app.\) failed")


# -- logical replication


def test_changes(doorman: Doorman) -> None:
    """Begin, changes made by another client of the pooler, status updates, the end of the copy, and SQL behind it."""
    with logical(doorman) as client, doorman.connect() as writer:
        subscription = Subscription(client)
        for number in range(20):
            writer.execute("INSERT INTO changes VALUES (%s, %s)", (number, f"text {number}"))
            changes = subscription.read_until("C")
            assert b"".join(c[:1] for c in changes) == (b"BRIC" if number == 0 else b"BIC")
            assert f"text {number}".encode() in changes[-2]
            client.send(status_update(subscription.position))
        writer.execute("UPDATE changes SET b = repeat('x', 2000000) WHERE a = 1")
        assert len(subscription.read_until("C")[-2]) > 2_000_000
        writer.execute("DELETE FROM changes")
        assert b"".join(c[:1] for c in subscription.read_until("C")) == b"B" + b"D" * 20 + b"C"
        subscription.stop()
        assert client.value("SELECT 'and SQL'") == "and SQL"
        assert kinds(client.ask_query("DROP_REPLICATION_SLOT s")) == "CZ"


def test_status_updates_arrive(doorman: Doorman, postgres: Postgres) -> None:
    with logical(doorman, application_name="confirming") as client, doorman.connect() as writer:
        subscription = Subscription(client)
        writer.execute("INSERT INTO changes VALUES (100, 'x')")
        subscription.read_until("C")
        client.send(status_update(subscription.position))

        def confirmed() -> bool:
            rows = postgres.rows(
                "SELECT flush_lsn::text AS at FROM pg_stat_replication WHERE application_name = 'confirming'"
            )
            return bool(rows) and rows[0]["at"] is not None and lsn(rows[0]["at"]) >= subscription.position

        eventually(confirmed)
        writer.execute("DELETE FROM changes")
        subscription.stop()


def test_a_subscription(doorman: Doorman, postgres: Postgres) -> None:
    """PostgreSQL itself as the client: what is there is copied by one connection of its, what comes by another."""
    postgres.sql("CREATE TABLE changes (a int PRIMARY KEY, b text);", "otherdb")
    postgres.sql("INSERT INTO changes VALUES (500, 'was there');", "testdb")
    postgres.sql("SELECT pg_create_logical_replication_slot('sub', 'pgoutput');", "testdb")
    try:
        dsn = doorman.dsn().replace("'", "''")
        postgres.sql(
            f"CREATE SUBSCRIPTION sub CONNECTION '{dsn}' PUBLICATION everything WITH (create_slot = false);", "otherdb"
        )

        def copied() -> str:
            return postgres.sql("SELECT string_agg(b, ',' ORDER BY a) FROM changes", "otherdb")

        eventually(lambda: copied() == "was there", timeout=30)
        names = {w["application_name"] for w in walsenders(postgres)}
        assert "sub" in names
        with doorman.connect() as writer:
            writer.execute("INSERT INTO changes VALUES (501, 'is new')")
        eventually(lambda: copied() == "was there,is new", timeout=30)
    finally:
        for sql in ("DISABLE", "SET (slot_name = NONE)"):
            postgres.sql(f"ALTER SUBSCRIPTION sub {sql};", "otherdb")
        postgres.sql("DROP SUBSCRIPTION sub; DROP TABLE changes;", "otherdb")
        eventually(lambda: not walsenders(postgres))
        postgres.sql("SELECT pg_drop_replication_slot('sub'); DELETE FROM changes;", "testdb")


def test_sql_on_a_logical_connection(doorman: Doorman, postgres: Postgres) -> None:
    with logical(doorman) as client, postgres.wire("testdb", "app", replication="database") as direct:
        assert client.value("SELECT current_database() || ' ' || current_user") == "testdb app"
        client.ask_query("BEGIN")
        client.ask_query("SET search_path = nowhere")
        assert client.ask_query("SELECT 1/0")[-1].body == b"E"
        assert client.ask_query("ROLLBACK")[-1].body == b"I"
        assert kinds(client.ask_query("COPY (SELECT generate_series(1, 10)) TO STDOUT")) == "H" + "d" * 10 + "cCZ"
        # A walsender knows no extended protocol; what it says then is its own.
        for asked in (client, direct):
            asked.send(prepared("", "SELECT 1"))
        assert client.read_ready()[0].fields["M"] == direct.read_ready()[0].fields["M"]


def test_cancel(doorman: Doorman, postgres: Postgres) -> None:
    with logical(doorman) as client, doorman.connect() as bystander:
        client.send(query("SELECT pg_sleep(30), 'a walsender'"))
        eventually(lambda: any("a walsender" in w["query"] and w["state"] == "active" for w in walsenders(postgres)))
        with WireClient((doorman.host, doorman.port)) as stranger:
            stranger.pid, stranger.secret = client.pid, bytes(len(client.secret))
            stranger.cancel()
        assert client.is_quiet()
        client.cancel()
        answer = client.read_ready()
        assert answer[-2].sqlstate == "57014"
        assert client.value("SELECT 1") == "1"
        assert bystander.execute("SELECT 1").fetchone() == (1,)


# -- physical replication


def test_wal_by_hand(doorman: Doorman) -> None:
    with physical(doorman) as client, doorman.connect() as writer:
        row = only("D", client.ask_query("IDENTIFY_SYSTEM")).columns
        start = (row[2] or b"").decode()
        client.send(query(f"START_REPLICATION PHYSICAL {start}"))
        assert client.read().kind == "W"
        writer.execute("INSERT INTO changes VALUES (200, 'some wal')")
        wal = b""
        while b"some wal" not in wal:
            m = client.read()
            assert m.kind == "d"
            wal += m.body[25:] if m.body[:1] == b"w" else b""
        writer.execute("DELETE FROM changes")
        client.send(COPY_DONE)
        assert kinds(m for m in client.read_ready() if m.kind != "d")[:2] == "cC"
        assert kinds(client.ask_query("IDENTIFY_SYSTEM")) == "TDCZ"


def program(name: str) -> str:
    try:
        return str(find_program(name))
    except PostgresNotFound:
        pytest.skip(f"no {name} here")


def environment(**more: str) -> dict[str, str]:
    return {**Doorman.environment(), "PGPASSWORD": Postgres.PASSWORDS["app"], **more}


def connection_options(doorman: Doorman) -> list[str]:
    return ["-h", doorman.host, "-p", str(doorman.port), "-U", "app"]


@pytest.mark.parametrize("wal", ["stream", "fetch"])
def test_pg_basebackup(doorman: Doorman, tmp_path: Path, wal: str) -> None:
    command = [program("pg_basebackup"), *connection_options(doorman), "-D", str(tmp_path / "copy")]
    answer = subprocess.run(
        [*command, "-X", wal, "-c", "fast", "--no-sync"],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=patience(50),
    )
    assert answer.returncode == 0, answer.stderr
    assert (tmp_path / "copy" / "PG_VERSION").exists()
    assert list((tmp_path / "copy" / "pg_wal").glob("0*"))


def test_pg_receivewal(doorman: Doorman, postgres: Postgres, tmp_path: Path) -> None:
    command = [program("pg_receivewal"), *connection_options(doorman), "-D", str(tmp_path), "--no-loop", "--no-sync"]
    receiving = subprocess.Popen(command, env=environment(), stderr=subprocess.PIPE, text=True)
    try:
        eventually(lambda: postgres.rows("SELECT 1 FROM pg_stat_replication WHERE application_name = 'pg_receivewal'"))
        for _ in range(3):
            postgres.rows("SELECT pg_logical_emit_message(false, 'x', 'y')")
            postgres.rows("SELECT pg_switch_wal()")
        eventually(lambda: len([p for p in tmp_path.glob("0*") if not p.name.endswith(".partial")]) >= 2)
        receiving.send_signal(signal.SIGINT)
        _, words = receiving.communicate(timeout=patience(20))
        assert receiving.returncode == 0, words
    finally:
        if receiving.poll() is None:
            receiving.kill()
            receiving.communicate()


def test_pg_recvlogical(doorman: Doorman, postgres: Postgres, tmp_path: Path) -> None:
    base = [program("pg_recvlogical"), *connection_options(doorman), "-d", "testdb", "-S", "by_program"]
    output = tmp_path / "changes"
    create = subprocess.run(
        [*base, "--create-slot", "-P", "pgoutput"],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=patience(30),
    )
    assert create.returncode == 0, create.stderr
    options = ["-o", "proto_version=1", "-o", "publication_names=everything", "--no-loop", "-F", "0"]
    receiving = subprocess.Popen(
        [*base, "--start", "-f", str(output), *options], env=environment(), stderr=subprocess.PIPE, text=True
    )
    try:
        eventually(lambda: postgres.rows("SELECT 1 FROM pg_stat_replication WHERE application_name = 'pg_recvlogical'"))
        with doorman.connect() as writer:
            writer.execute("INSERT INTO changes VALUES (300, 'by a program')")
            eventually(lambda: output.exists() and b"by a program" in output.read_bytes())
            writer.execute("DELETE FROM changes")
        receiving.send_signal(signal.SIGINT)
        _, words = receiving.communicate(timeout=patience(20))
        assert receiving.returncode == 0, words
    finally:
        if receiving.poll() is None:
            receiving.kill()
            receiving.communicate()
        eventually(lambda: not walsenders(postgres))
        postgres.rows("SELECT pg_drop_replication_slot('by_program')")


# -- much data, slow readers


def test_a_hundred_megabytes_to_a_slow_reader(doorman: Doorman, postgres: Postgres) -> None:
    """While it does not read, the pooler holds little and serves others; then it gets every byte."""
    with logical(doorman) as client, doorman.connect() as other:
        subscription = Subscription(client, options=", messages 'true'")
        before = doorman.rss()
        with postgres.connect(user="postgres") as writer:
            writer.execute(
                "SELECT pg_logical_emit_message(false, 'big', repeat('0123456789', 100000)) FROM generate_series(1, 100)"
            )
        eventually(lambda: any(r["wait"] == "write" for r in doorman.admin("SHOW CLIENTS")))
        for _ in range(20):
            assert other.execute("SELECT 1").fetchone() == (1,)
        assert doorman.rss() - before < 16 * MB
        size = 0
        while size < 100_000_000:
            change = subscription.read()
            if change[:1] == b"M":
                assert change.endswith(b"0123456789" * 100_000)
                size += 1_000_000
        assert doorman.rss() - before < 16 * MB
        subscription.stop()


def test_a_hundred_megabytes_up(doorman: Doorman) -> None:
    with logical(doorman) as client:
        client.ask_query("CREATE TEMP TABLE up (a text)")
        before = doorman.rss()
        client.send(query("COPY up FROM STDIN"))
        assert client.read().kind == "G"
        line = copy_data(b"x" * (MB - 1) + b"\n")
        for _ in range(100):
            client.send(line)
        client.send(COPY_DONE)
        assert only("C", client.read_ready()).tag == "COPY 100"
        assert doorman.rss() - before < 16 * MB


# -- TLS


def tls(client: WireClient, certs: Certificates) -> WireClient:
    client.send(SSL_REQUEST)
    assert client.read_byte() == b"S"
    context = ssl.create_default_context(cafile=str(certs.ca))
    client.socket = context.wrap_socket(client.socket, server_hostname="localhost")
    return client


@pytest.mark.parametrize("sides", ["client", "server", "both"])
def test_tls(make_doorman: MakeDoorman, postgres: Postgres, certs: Certificates, sides: str) -> None:
    over: dict[str, Any] = {"general": {}, "pools": {"testdb": {}}}
    if sides != "server":
        over["general"]["tls_certificate"] = str(certs.server.certificate)
        over["general"]["tls_private_key"] = str(certs.server.private_key)
    role = "app"
    if sides != "client":
        over["pools"]["testdb"]["server_tls_mode"] = "require"
        role = "app_two"
    user = {"username": "app", "password": postgres.secret("app"), "pool_size": 1}
    over["pools"]["testdb"]["users"] = [{**user, "server_username": role, "server_password": postgres.password(role)}]
    doorman = make_doorman(over)
    with doorman.raw() as client:
        if sides != "server":
            tls(client, certs)
        client.login("app", "testdb", postgres.password("app"), replication="database")
        seen = postgres.rows(
            "SELECT s.ssl FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid) WHERE a.usename = %s"
            " AND a.backend_type = 'walsender'",
            (role,),
        )
        assert [r["ssl"] for r in seen] == [sides != "client"]
        rows = [r for r in doorman.admin("SHOW CLIENTS") if r["user"] == "app"]
        assert [r["tls"] for r in rows] == ["true" if sides != "server" else "false"]
        subscription = Subscription(client, options=", messages 'true'")
        with postgres.connect(user="postgres") as writer:
            writer.execute(
                "SELECT pg_logical_emit_message(false, 'x', repeat('y', 1000000)) FROM generate_series(1, 20)"
            )
        size = 0
        while size < 20_000_000:
            size += sum(1_000_000 for change in [subscription.read()] if change[:1] == b"M")
        subscription.stop()
        client.send(query("SELECT pg_sleep(30)"))
        eventually(lambda: any("pg_sleep" in w["query"] and w["state"] == "active" for w in walsenders(postgres)))
        with doorman.raw() as other:
            other.pid, other.secret = client.pid, client.secret
            other.cancel()
        assert client.read_ready()[-2].sqlstate == "57014"


# -- limits and the console


def test_it_counts_as_a_client_and_not_in_the_pool(make_doorman: MakeDoorman) -> None:
    doorman = make_doorman({"general": {"max_connections": 4}})
    with logical(doorman, "onedb", application_name="standby") as one, logical(doorman, "onedb") as two:
        # One console for all questions: another could be refused while the last one's place is not yet given back.
        with doorman.connect(dbname="onedb") as client, doorman.admin_connect() as console:

            def show(what: str) -> list[dict[str, Any]]:
                return console.execute(f"SHOW {what}").fetchall()  # type: ignore[call-overload,no-any-return]

            assert client.execute("SELECT 1").fetchone() == (1,)
            assert [r["sv_idle"] for r in show("POOLS") if r["database"] == "onedb"] == [1]
            row = next(r for r in show("CLIENTS") if r["application_name"] == "standby")
            assert (row["database"], row["user"], row["state"], row["wait"]) == ("onedb", "app", "active", "read")
            servers = [r for r in show("SERVERS") if r["application_name"] == "standby"]
            assert [(r["database_name"], r["state"]) for r in servers] == [("onedb", "active")]
            lists = {r["list"]: int(r["items"]) for r in show("LISTS")}
            assert (lists["used_servers"], lists["free_servers"], lists["used_clients"]) == (2, 1, 3)
            for refused in (logical, physical):
                with pytest.raises(WireError) as caught:
                    refused(doorman)
                assert caught.value.message.sqlstate == "53300"
        one.terminate()
        two.terminate()
    until_idle(doorman, "onedb")
    assert [r for r in doorman.admin("SHOW SERVERS") if r["state"] == "active"] == []


def test_its_bytes_are_counted(doorman: Doorman) -> None:
    def sent() -> int:
        return next(int(r["total_sent"]) for r in doorman.admin("SHOW STATS") if r["database"] == "twodb")

    before = sent()
    with logical(doorman, "twodb") as client:
        assert len(client.value("SELECT repeat('x', 100000)") or "") == 100_000
    eventually(lambda: sent() - before > 100_000)


# -- the ends


@pytest.mark.parametrize("streaming", [True, False])
def test_the_server_is_told_to_end(doorman: Doorman, postgres: Postgres, streaming: bool) -> None:
    with logical(doorman) as client:
        if streaming:
            Subscription(client)
        (sender,) = walsenders(postgres)
        postgres.terminate(sender["pid"])
        last = client.read_messages_to_end()[-1]
        assert (last.kind, last.sqlstate) == ("E", "57P01")
        assert "administrator" in last.fields["M"]


def test_the_server_is_lost(make_doorman: MakeDoorman, make_proxy: MakeProxy, postgres: Postgres) -> None:
    proxy = make_proxy((postgres.host, postgres.port))
    doorman = make_doorman({"pools": {"testdb": {"server_host": proxy.host, "server_port": proxy.port}}})
    with logical(doorman) as client:
        Subscription(client)
        proxy.drop()
        last = client.read_messages_to_end()[-1]
        assert (last.kind, last.sqlstate) == ("E", "08006")
    eventually(lambda: doorman.pool()["cl_active"] == 0)


@pytest.mark.parametrize("how", ["terminate", "close", "reset", "within a message"])
def test_the_client_goes(doorman: Doorman, postgres: Postgres, how: str) -> None:
    """Its walsender ends (the fixture waits for that), whatever is under way."""
    client = logical(doorman)
    subscription = Subscription(client)
    with doorman.connect() as writer:
        writer.execute("INSERT INTO changes VALUES (400, 'x')")
        subscription.read_until("C")
        writer.execute("DELETE FROM changes")
    assert len(walsenders(postgres)) == 1
    if how == "terminate":
        client.terminate()
    elif how == "within a message":
        client.send(status_update(0)[:9])
    elif how == "reset":
        with suppress(OSError):
            client.socket.setsockopt(1, 13, struct.pack("ii", 1, 0))  # SO_LINGER
    client.close()
    eventually(lambda: not walsenders(postgres))
    eventually(lambda: doorman.pool()["cl_active"] == 0)


def test_the_client_goes_while_much_is_sent(doorman: Doorman, postgres: Postgres) -> None:
    client = logical(doorman)
    Subscription(client, options=", messages 'true'")
    with postgres.connect(user="postgres") as writer:
        writer.execute("SELECT pg_logical_emit_message(false, 'x', repeat('y', 1000000)) FROM generate_series(1, 30)")
    eventually(lambda: any(r["wait"] == "write" for r in doorman.admin("SHOW CLIENTS")))
    client.close()
    eventually(lambda: not walsenders(postgres))


def test_nothing_is_left_behind(doorman: Doorman, postgres: Postgres) -> None:
    with logical(doorman) as client:
        client.value("SELECT 1")
    eventually(lambda: not walsenders(postgres))
    until_idle(doorman)
    before = doorman.open_files()
    for _ in range(10):
        clients = [logical(doorman) for _ in range(6)] + [physical(doorman)]
        for number, client in enumerate(clients):
            if number % 3 == 0:
                client.send(query("SELECT repeat('x', 10000000)"))
            if number % 2:
                client.terminate()
            else:
                client.close()
        with suppress(WireError):
            logical(doorman, work_mem="no")
    eventually(lambda: not walsenders(postgres))
    eventually(lambda: doorman.open_files() <= before)
    assert doorman.pool()["cl_active"] == 0


@pytest.mark.parametrize("reading", [True, False])
def test_sigterm(make_doorman: MakeDoorman, postgres: Postgres, reading: bool) -> None:
    doorman = make_doorman({"general": {"shutdown_timeout": "120s"}})
    with logical(doorman) as client:
        subscription = Subscription(client, options=", messages 'true'")
        if not reading:
            with postgres.connect(user="postgres") as writer:
                writer.execute("SELECT pg_logical_emit_message(false, 'x', repeat('y', 30000000))")
            eventually(lambda: any(r["wait"] == "write" for r in doorman.admin("SHOW CLIENTS")))
        began = time.monotonic()
        doorman.send_signal(signal.SIGTERM)
        if reading:
            last = client.read_messages_to_end()[-1]
            assert (last.kind, last.sqlstate) == ("E", "57P01")
        assert doorman.wait() == 0
        assert elapsed(began) < patience(9)
        del subscription


def test_sigterm_while_the_login_waits_for_its_server(
    make_doorman: MakeDoorman, make_proxy: MakeProxy, postgres: Postgres
) -> None:
    proxy = make_proxy((postgres.host, postgres.port))
    doorman = make_doorman(
        {
            "general": {
                "shutdown_timeout": "120s",
                "connect_timeout": "30s",
                "pg_hba": {"content": "host replication all all trust"},
            },
            "pools": {"testdb": {"server_host": proxy.host, "server_port": proxy.port}},
        }
    )
    proxy.hold("down")
    with doorman.raw() as client:
        client.send(startup(user="app", replication="true"))
        eventually(lambda: proxy.accepted == 1)
        began = time.monotonic()
        doorman.send_signal(signal.SIGTERM)
        assert client.read_messages_to_end()[-1].sqlstate == "57P01"
        assert doorman.wait() == 0
        assert elapsed(began) < patience(9)


def test_a_reload_ends_those_whose_pool_is_gone_and_no_others(make_doorman: MakeDoorman) -> None:
    doorman = make_doorman()
    with logical(doorman) as kept, logical(doorman, "twodb") as ended:
        Subscription(kept, "kept")
        Subscription(ended, "ended")
        config = dict(doorman.config)
        config["pools"] = {name: dict(pool) for name, pool in config["pools"].items() if name != "twodb"}
        config["pools"]["testdb"]["idle_timeout"] = "77s"  # its pool is rebuilt
        doorman.reload(config)
        last = ended.read_messages_to_end()[-1]
        assert (last.kind, last.sqlstate) == ("E", "3D000")
        kept.send(COPY_DONE)
        assert kinds(m for m in kept.read_ready() if m.kind != "d")[:2] == "cC"
        assert kept.value("SELECT 1") == "1"


def test_the_server_crashes(make_doorman: MakeDoorman, postgres: Postgres) -> None:
    """The last test of this file: PostgreSQL starts anew behind it."""
    doorman = make_doorman()
    with logical(doorman) as client:
        Subscription(client)
        (sender,) = walsenders(postgres)
        os.kill(sender["pid"], signal.SIGKILL)
        last = client.read_messages_to_end()[-1]
        assert (last.kind, last.sqlstate) == ("E", "08006")

    eventually(lambda: "reinitializing" in postgres.log_text(), timeout=30)

    def works() -> bool:
        try:
            with logical(doorman) as client:
                return client.value("SELECT 1") == "1"
        except WireError as exc:
            assert exc.message.sqlstate in ("57P03", "08006")
            return False

    eventually(works, timeout=30)
