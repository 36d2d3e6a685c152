"""Faults: PostgreSQL killed and restarted, clients and servers lost at every moment, no file descriptors left."""

from __future__ import annotations

import random
import resource
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import psycopg
import pytest
from eventually import eventually, stays
from fix_doorman import Doorman, MakeDoorman, app_user, until_idle
from fix_postgres import Postgres
from fix_proxy import MakeProxy
from pace import duration, patience
from wire_client import WireClient, WireError, kinds, parse, prepared, query

GONE = {"57P01", "57P02", "57P03", "08006", "08P01", "08003"}


def over(postgres: Postgres, general: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Pools of ``base_config`` on another cluster."""
    pool = {"server_host": postgres.host, "server_port": postgres.port, "users": [app_user(postgres, 4)]}
    return {"general": dict(general or {}), "pools": {"testdb": pool, "sessiondb": pool}}


# -- one server dies


@pytest.mark.parametrize("database", ["testdb", "sessiondb"])
def test_a_server_killed_in_a_query(make_doorman: MakeDoorman, postgres: Postgres, database: str) -> None:
    doorman = make_doorman()
    with doorman.wire(database) as client:
        client.send(query("SELECT pg_sleep(30), 'killed in a query'"))
        victim = eventually(
            lambda: next(
                (b["pid"] for b in postgres.backends() if "killed in a query" in b["query"] and b["state"] == "active"),
                0,
            )
        )
        postgres.terminate(victim)
        answer = client.read_until("E")[-1]
        assert answer.sqlstate == "57P01"  # PostgreSQL's own word
    with doorman.wire(database) as client:
        assert client.value("SELECT 1") == "1"
    until_idle(doorman, database)


def test_a_server_killed_in_an_idle_transaction(make_doorman: MakeDoorman, postgres: Postgres) -> None:
    """Noticed while the client is silent: the goodbye comes without being asked for."""
    doorman = make_doorman()
    with doorman.wire() as client:
        client.ask_query("BEGIN")
        postgres.terminate(int(client.value("SELECT pg_backend_pid()") or 0))
        answer = client.read()
        assert answer.kind == "E"
        assert answer.sqlstate in GONE
    until_idle(doorman)


def test_a_connection_cut_within_a_reply(make_doorman: MakeDoorman, make_proxy: MakeProxy, postgres: Postgres) -> None:
    """However far the reply had come: the client gets whole messages, then an ErrorResponse with a SQLSTATE."""
    proxy = make_proxy((postgres.host, postgres.port))
    # One server, so that the next connection is not another one that is just being opened.
    pool = {"server_host": proxy.host, "server_port": proxy.port, "users": [app_user(postgres, 1)]}
    doorman = make_doorman({"pools": {"testdb": pool}})
    for size in (1, 4, 5, 6, 30, 100, 4000, 70000, 150000):
        eventually(lambda: _works(doorman))
        with doorman.wire() as client:
            client.value("SELECT 1")
            proxy.cut_after("down", size)
            client.send(query("SELECT repeat('x', 1000) FROM generate_series(1, 200)"))
            messages = client.read_messages_to_end() if size else []
            assert messages, size
            assert messages[-1].kind == "E", (size, kinds(messages)[-20:])
            assert messages[-1].sqlstate in GONE


def test_a_connection_cut_within_a_large_row(
    make_doorman: MakeDoorman, make_proxy: MakeProxy, postgres: Postgres
) -> None:
    """A row that has begun can't be ended honestly: then the connection closes, and nothing false is said."""
    proxy = make_proxy((postgres.host, postgres.port))
    doorman = make_doorman({"pools": {"testdb": {"server_host": proxy.host, "server_port": proxy.port}}})
    with doorman.wire() as client:
        client.value("SELECT 1")
        proxy.cut_after("down", 3_000_000)
        client.send(query("SELECT repeat('x', 8000000)"))
        data = client.read_to_end()
        assert data[:1] == b"T"
        assert len(data) < 3_100_000
        # An ErrorResponse here would be taken for the row's data.
        assert b"FATAL" not in data
    eventually(lambda: _works(doorman))


@pytest.mark.parametrize("step", ["parse", "begin", "copy"])
def test_a_connection_cut_on_the_way_up(
    make_doorman: MakeDoorman, make_proxy: MakeProxy, postgres: Postgres, step: str
) -> None:
    proxy = make_proxy((postgres.host, postgres.port))
    doorman = make_doorman({"pools": {"testdb": {"server_host": proxy.host, "server_port": proxy.port}}})
    with doorman.wire() as client:
        client.value("SELECT 1")
        proxy.cut_after("up", 7)
        client.send(
            {"parse": prepared("s", "SELECT 1"), "begin": query("BEGIN"), "copy": query("COPY (SELECT 1) TO STDOUT")}[
                step
            ]
        )
        answer = client.read()
        assert answer.kind == "E"
        assert answer.sqlstate in GONE
    eventually(lambda: _works(doorman))


def test_a_connection_cut_while_it_opens(make_doorman: MakeDoorman, make_proxy: MakeProxy, postgres: Postgres) -> None:
    """However far the login or the reading of the catalogue had come, the waiting client gets the next server."""
    proxy = make_proxy((postgres.host, postgres.port))
    doorman = make_doorman({"pools": {"testdb": {"server_host": proxy.host, "server_port": proxy.port}}})
    with doorman.wire() as client:
        client.ask_query("")
    opening = proxy.carried["down"] - 50  # what was said of the time, and the answer
    for size in (1, opening // 8, opening // 2, opening):
        doorman.stop()
        accepted = proxy.accepted
        proxy.cut_after("down", size)
        doorman.start()
        with doorman.wire() as client:
            assert client.value("SELECT 1") == "1"
        assert proxy.accepted == accepted + 2, "it was cut on its way, and the next one served"


def test_other_clients_do_not_notice(make_doorman: MakeDoorman, postgres: Postgres) -> None:
    """One server dies under its client; transactions on the others go on."""
    doorman = make_doorman()
    with doorman.wire() as victim, doorman.wire() as other:
        for client in (victim, other):
            client.ask_query("BEGIN")
        postgres.terminate(int(victim.value("SELECT pg_backend_pid()") or 0))
        assert victim.read().sqlstate in GONE
        assert other.value("SELECT 1") == "1"
        assert [m.tag for m in other.ask_query("COMMIT") if m.kind == "C"] == ["COMMIT"]


def _works(doorman: Doorman) -> bool:
    try:
        with doorman.wire() as client:
            return client.value("SELECT 1") == "1"
    except (ConnectionError, WireError, AssertionError):
        return False


# -- all of PostgreSQL dies


@pytest.fixture
def cluster(own_postgres: Postgres) -> Iterator[Postgres]:
    own_postgres.start()
    yield own_postgres
    own_postgres.start()


def test_postgresql_killed_and_restarted_under_load(make_doorman: MakeDoorman, cluster: Postgres) -> None:
    """Who is between transactions keeps its connection and goes on; who is inside gets an error with a SQLSTATE."""
    doorman = make_doorman(over(cluster, {"query_wait_timeout": "30s"}))
    stop = threading.Event()
    failures: list[str] = []
    rounds = [0] * 6
    broken = [0]

    def work(index: int) -> None:
        rng = random.Random(index)
        client: WireClient | None = None
        try:
            while not stop.is_set():
                if client is None:
                    try:
                        client = doorman.wire()
                    except WireError as exc:
                        if exc.message.sqlstate not in GONE | {"53300", "3D000"}:
                            failures.append(f"login: {exc.message.fields}")
                        time.sleep(0.05)  # a client that tries again, no wait for a condition
                        continue
                batch = rng.choice([query("SELECT 1"), prepared("", "SELECT 1"), query("BEGIN; SELECT 1; COMMIT")])
                try:
                    client.send(batch)
                    while (got := client.read()).kind != "Z":
                        if got.kind == "E":
                            broken[0] += 1
                            if got.sqlstate not in GONE | {"53300"}:
                                failures.append(f"{got.fields}")
                            if got.fields["S"] == "FATAL":
                                client.close()
                                client = None
                                break
                    else:
                        rounds[index] += 1
                except ConnectionError as exc:
                    failures.append(f"closed without a word: {exc}")
                    client.close()
                    client = None
        except BaseException as exc:
            failures.append(repr(exc))
        finally:
            if client is not None:
                client.close()

    def idle_one() -> None:
        """Never inside a statement while PostgreSQL is down; it must not be disconnected."""
        try:
            with doorman.wire() as client:
                client.value("SELECT 1")
                stop.wait()
                client.value("SELECT 1")
        except BaseException as exc:
            failures.append(f"idle client: {exc!r}")

    threads = [threading.Thread(target=work, args=(i,)) for i in range(6)] + [threading.Thread(target=idle_one)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(2):
            before = list(rounds)
            eventually(lambda before=before: all(a > b + 20 for a, b in zip(rounds, before, strict=True)), timeout=20)
            cluster.kill()
            cluster.start()
        before = list(rounds)
        eventually(lambda: all(a > b + 20 for a, b in zip(rounds, before, strict=True)), timeout=20)
    finally:
        stop.set()
        for thread in threads:
            thread.join(patience(40))
    assert not failures
    until_idle(doorman)
    eventually(lambda: len(cluster.backends()) == doorman.pool()["sv_idle"])


def test_clients_wait_for_a_server_that_comes_back(make_doorman: MakeDoorman, cluster: Postgres) -> None:
    doorman = make_doorman(over(cluster, {"query_wait_timeout": "30s"}))
    with doorman.wire() as client:
        client.value("SELECT 1")
        cluster.stop("immediate")
        eventually(lambda: doorman.pool()["sv_idle"] == 0)
        client.send(query("SELECT 'back'"))
        assert client.is_quiet()
        cluster.start()
        messages = client.read_ready()
        assert kinds(messages) == "TDCZ"


def test_postgresql_in_recovery_or_shutting_down_is_not_the_client_s_fault(
    make_doorman: MakeDoorman, cluster: Postgres
) -> None:
    """ "the database system is starting up" is waited out, or told with its SQLSTATE; never a wrong password."""
    doorman = make_doorman(over(cluster, {"query_wait_timeout": duration(2)}))
    with doorman.wire() as client:
        client.value("SELECT 1")
    cluster.stop("fast")
    try:
        with pytest.raises(WireError) as caught, doorman.wire() as client:
            client.send(query("SELECT 1"))
            raise WireError(client.read_until("E")[-1])
        assert caught.value.message.sqlstate in GONE | {"53300"}
    finally:
        cluster.start()
    eventually(lambda: _works(doorman), timeout=15)


def test_the_pooler_starts_before_postgresql(make_doorman: MakeDoorman, cluster: Postgres) -> None:
    configuration = over(cluster, {"query_wait_timeout": duration(2)})
    cluster.stop()
    doorman = make_doorman(configuration)
    assert doorman.admin("SHOW POOLS")
    assert not _works(doorman)
    cluster.start()
    eventually(lambda: _works(doorman), timeout=15)


# -- clients die


def lost_at_random(doorman: Doorman, postgres: Postgres, seconds: float) -> None:
    """Clients that end at any moment of any kind of work; then the pool is as if nothing had been."""
    stop = time.monotonic() + seconds
    failures: list[str] = []
    with doorman.wire() as client:
        client.ask_query("DROP TABLE IF EXISTS lost; CREATE TABLE lost (a text)")
    works: list[Callable[[WireClient, random.Random], object]] = [
        lambda c, r: c.send(query("SELECT pg_sleep(0.01)")),
        lambda c, r: c.send(query("BEGIN") + query("INSERT INTO lost VALUES ('x')")),
        lambda c, r: c.ask_query("BEGIN"),
        lambda c, r: c.send(query("COPY lost FROM STDIN") + b"d\0\0\0\x06x\n"),
        lambda c, r: c.send(query("SELECT repeat('x', 1000) FROM generate_series(1, 5000)")),
        lambda c, r: c.send(prepared("s", "SELECT 1")[: r.randrange(1, 60)]),
        lambda c, r: c.send(parse("", "selec") + prepared("s", "SELECT 1")),
        lambda c, r: c.send(query("COPY (SELECT generate_series(1, 100000)) TO STDOUT")),
        lambda c, r: c.ask(prepared("t", f"SELECT {r.randrange(20)}")),
        lambda c, r: (c.send(query("SELECT pg_sleep(0.02)")), c.cancel()),
        lambda c, r: c.terminate(),
    ]

    def work(seed: int) -> None:
        rng = random.Random(seed)
        while time.monotonic() < stop:
            try:
                with doorman.wire(rng.choice(["testdb", "twodb", "sessiondb"])) as client:
                    for _ in range(rng.randrange(3)):
                        client.ask(prepared("", f"SELECT {rng.randrange(20)}"))
                    rng.choice(works)(client, rng)
                    if rng.random() < 0.5:
                        client.is_quiet(rng.uniform(0.0005, 0.01))
            except (ConnectionError, WireError, OSError):
                continue
            except BaseException as exc:
                failures.append(repr(exc))
                return

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(seconds + 30)
        assert not thread.is_alive()
    assert not failures
    for database in ("testdb", "twodb", "sessiondb"):
        until_idle(doorman, database)

    def as_shown() -> bool:
        shown = sorted(int(r["server_process_id"]) for r in doorman.admin("SHOW SERVERS"))
        there = postgres.backends()
        assert sorted(b["pid"] for b in there) == shown
        assert {b["state"] for b in there} <= {"idle"}
        assert not [b for b in there if b["xact_start"] is not None]
        return True

    eventually(as_shown)
    with doorman.wire() as client:
        assert client.value("SELECT count(*) FROM lost") == "0"
    # Every place of every pool can be had, and works.
    for database, size in (("testdb", 8), ("twodb", 2), ("sessiondb", 4)):
        clients = [doorman.wire(database) for _ in range(size)]
        for client in clients:
            assert kinds(client.ask_query("BEGIN")) == "CZ"
            assert kinds(client.ask(prepared("s", "SELECT 1"))) == "12TDCZ"
        for client in clients:
            client.close()
    assert not [r for r in doorman.admin("SHOW CLIENTS") if r["state"] == "waiting"]


def test_clients_lost_at_random(make_doorman: MakeDoorman, postgres: Postgres) -> None:
    eventually(lambda: not postgres.backends())
    lost_at_random(make_doorman({"general": {"max_connections": 200}}), postgres, 5)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_clients_lost_at_random_for_minutes(make_doorman: MakeDoorman, postgres: Postgres) -> None:
    eventually(lambda: not postgres.backends())
    doorman = make_doorman({"general": {"max_connections": 200}})
    lost_at_random(doorman, postgres, 60)
    before, files = doorman.rss(), doorman.open_files()
    lost_at_random(doorman, postgres, 120)
    assert doorman.rss() - before < 30 << 20
    assert doorman.open_files() - files < 20


# -- no file descriptors left


def test_out_of_file_descriptors_at_accept(make_doorman: MakeDoorman) -> None:
    """A log line, no spin, those inside go on; room made, newcomers come in."""
    # The limit is each process's own.
    doorman = make_doorman({"general": {"max_connections": 500, "worker_threads": 1}})
    inside = doorman.wire()
    assert inside.value("SELECT 1") == "1"
    # Behind its back: at its start it would have seen to it that clients are refused before files run out.
    resource.prlimit(doorman.pid, resource.RLIMIT_NOFILE, (64, 1024))
    crowd: list[WireClient] = []
    try:
        for _ in range(90):
            crowd.append(doorman.raw())
        doorman.wait_log(r"too many open files|file descriptors|EMFILE|resource")
        cpu, lines = doorman.cpu_seconds(), len(doorman.log_lines)
        assert stays(lambda: inside.value("SELECT 1") == "1", seconds=1.5, interval=0.1)
        assert doorman.cpu_seconds() - cpu < 0.7, "it spins"
        assert len(doorman.log_lines) - lines < 100, "it floods the log"
    finally:
        for client in crowd:
            client.close()
    eventually(lambda: _works(doorman), timeout=15)
    assert inside.value("SELECT 1") == "1"
    inside.close()


def test_out_of_file_descriptors_at_connect(make_doorman: MakeDoorman) -> None:
    """The pooler's own lack is not taken for the database's: clients wait or get an error, and it heals."""
    general = {"query_wait_timeout": duration(1), "max_connections": 500, "worker_threads": 1}
    doorman = make_doorman({"general": general})
    clients = [doorman.wire() for _ in range(6)]
    clients[0].ask_query("SELECT 1")
    eventually(lambda: doorman.pool()["sv_active"] == 0)
    # The limit is set to what is open now: not one socket more.
    limit = doorman.open_files()
    resource.prlimit(doorman.pid, resource.RLIMIT_NOFILE, (limit, 1024))
    try:
        for client in clients[:3]:
            client.send(query("BEGIN"))
        outcomes = []
        for client in clients[:3]:
            outcomes.append(client.read())
        assert "C" in kinds(outcomes)
        for got in outcomes:
            if got.kind == "E":
                assert got.sqlstate in ("53300", "53000", "08006")
        assert doorman.running
    finally:
        resource.prlimit(doorman.pid, resource.RLIMIT_NOFILE, (1024, 1024))
        for client in clients:
            client.close()
    eventually(lambda: _works(doorman), timeout=15)


# -- slow and silent parties


def test_a_slow_network_to_the_server(make_doorman: MakeDoorman, make_proxy: MakeProxy, postgres: Postgres) -> None:
    proxy = make_proxy((postgres.host, postgres.port))
    proxy.delay = 0.02
    doorman = make_doorman({"pools": {"testdb": {"server_host": proxy.host, "server_port": proxy.port}}})
    with doorman.connect() as connection, connection.transaction():
        for i in range(5):
            assert connection.execute("SELECT %s::int", (i,)).fetchone() == (i,)


def test_a_client_that_stops_reading_is_no_burden(make_doorman: MakeDoorman, postgres: Postgres) -> None:
    """Its rows are not gathered in memory: reading from its server stops."""
    doorman = make_doorman()
    with doorman.wire() as slow:
        slow.value("SELECT 1")
        before = doorman.rss()
        slow.send(query("SELECT repeat('x', 1000) FROM generate_series(1, 200000)"))  # 200 MB
        eventually(lambda: any(b["wait_event"] == "ClientWrite" for b in postgres.backends()))
        assert doorman.rss() - before < 40 << 20


def test_the_pooler_killed(make_doorman: MakeDoorman, postgres: Postgres) -> None:
    """PostgreSQL's sessions end with it, and a new one starts at once on the same port."""
    doorman = make_doorman()
    with doorman.wire() as client:
        client.ask_query("BEGIN")
        doorman.kill()
    eventually(lambda: not postgres.backends())
    doorman.start()
    assert _works(doorman)


def test_psycopg_sees_an_operational_error(make_doorman: MakeDoorman, cluster: Postgres) -> None:
    doorman = make_doorman(over(cluster))
    with doorman.connect(autocommit=False) as connection:
        connection.execute("SELECT 1")
        cluster.kill()
        with pytest.raises(psycopg.OperationalError) as caught:
            connection.execute("SELECT 1")
        connection.close()  # libpq may have read the FATAL error and not yet the end behind it
        assert caught.value.sqlstate in GONE
