"""Login: secrets, pg_hba, limits, negotiation, and bytes that are no startup packet."""

from __future__ import annotations

import random
import struct
import threading
import time
from collections.abc import Mapping
from typing import Any

import psycopg
import pytest
from eventually import eventually
from fix_doorman import ADMIN_PASSWORD, ADMIN_USER, Doorman, MakeDoorman, app_pool, app_user
from fix_postgres import Postgres
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pace import patience
from wire_client import (
    GSSENC_REQUEST,
    PROTOCOL_3_0,
    PROTOCOL_3_2,
    SSL_REQUEST,
    WireClient,
    WireError,
    cancel_request,
    cstring,
    kinds,
    message,
    query,
    startup,
)

from pgdoorman_lib.auth.mock import mock_key

PG_HBA = """
# type  database     user            address         method
host    all          barred          127.0.0.1/32    reject
host    all          barred          127.0.0.1/32    trust
hostssl all          ssl_only        all             trust
host    "kinds"      open            127.0.0.1 255.255.255.255  trust
host    kinds,testdb strict_md5      samehost        scram-sha-256
host    all          "all"           127.0.0.1/32    reject
host    all          all             127.0.0.1/32    md5
"""


@pytest.fixture(scope="module")
def doorman_over(postgres: Postgres) -> Mapping[str, Any]:
    def user(name: str, secret: str, **more: Any) -> dict[str, Any]:
        return app_user(postgres, 2, username=name, password=secret, **more)

    users = [
        user("scram", postgres.secret("app")),
        user("app_md5", postgres.secret("app_md5")),
        user("plain", "a plain secret"),
        user("barred", "a plain secret"),
        user("open", "a plain secret"),
        user("ssl_only", "a plain secret"),
        user("strict_md5", postgres.secret("app_md5")),
        user("unruled", "a plain secret"),
        # Pass-through: the configuration has nothing but what PostgreSQL has.
        {"username": "app", "password": postgres.secret("app"), "pool_size": 2},
        {"username": "app_two", "password": postgres.secret("app_two"), "pool_size": 2},
    ]
    md5_users = [{"username": "app_md5", "password": postgres.secret("app_md5"), "pool_size": 2}]
    here = {"server_host": postgres.host, "server_port": postgres.port, "server_database": "testdb"}
    return {
        "general": {"pg_hba": {"content": PG_HBA}, "client_login_timeout": "1s"},
        "pools": {
            "kinds": {**here, "users": users},
            "passed": {**here, "users": md5_users},
            "plain": {**here, "users": [user("plain", "a plain secret")]},
        },
    }


# -- secrets


@pytest.mark.parametrize(
    ("user", "password"),
    [("scram", Postgres.PASSWORDS["app"]), ("app_md5", Postgres.PASSWORDS["app_md5"]), ("plain", "a plain secret")],
)
def test_each_kind_of_stored_secret(doorman: Doorman, user: str, password: str) -> None:
    with doorman.connect(dbname="kinds", user=user, password=password) as connection:
        assert connection.execute("SELECT current_user, current_database()").fetchone() == ("app", "testdb")


@pytest.mark.parametrize("user", ["scram", "app_md5", "plain", "app"])
@pytest.mark.parametrize("password", ["wrong", "x" * 900])
def test_a_wrong_password_is_refused(doorman: Doorman, user: str, password: str) -> None:
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        doorman.connect(dbname="kinds", user=user, password=password)


@pytest.mark.parametrize("user", ["app", "app_two"])
def test_scram_pass_through(doorman: Doorman, user: str) -> None:
    """The configuration has only the SCRAM secret; the server is entered by the proof the client gave."""
    for _ in range(3):
        with doorman.connect(dbname="kinds", user=user) as connection:
            assert connection.execute("SELECT current_user").fetchone() == (user,)


def test_md5_pass_through(doorman: Doorman) -> None:
    with doorman.connect(dbname="passed", user="app_md5") as connection:
        assert connection.execute("SELECT current_user").fetchone() == ("app_md5",)


def test_no_database_means_the_user_s_name(doorman: Doorman) -> None:
    with doorman.raw() as client:
        client.send(startup(user="plain"))
        client.authenticate("plain", "a plain secret")
        assert client.value("SELECT current_database()") == "testdb"


def test_no_user_is_refused_as_postgresql_does(doorman: Doorman, postgres: Postgres) -> None:
    answers = []
    for address in ((postgres.host, postgres.port), (doorman.host, doorman.port)):
        with WireClient(address) as client:
            client.send(startup(database="testdb"))
            answers.append(client.read())
    assert [(a.kind, a.fields["S"], a.sqlstate) for a in answers] == [("E", "FATAL", "28000")] * 2


@pytest.mark.parametrize("server_role", ["app", "app_md5", "app_clear", "app_trust"])
def test_every_way_a_server_asks_for_a_password(
    make_doorman: MakeDoorman, postgres: Postgres, server_role: str
) -> None:
    user = {
        "username": "someone",
        "password": "a plain secret",
        "pool_size": 1,
        "server_username": server_role,
        "server_password": postgres.password(server_role),
    }
    doorman = make_doorman({"pools": {"testdb": {"users": [user]}}})
    with doorman.connect(user="someone", password="a plain secret") as connection:
        assert connection.execute("SELECT current_user").fetchone() == (server_role,)


def test_a_stored_md5_hash_as_server_password(make_doorman: MakeDoorman, postgres: Postgres) -> None:
    """It logs in where MD5 is asked for; where it is SCRAM, log and client learn what is missing, and no secret."""

    def user(role: str, stored: str) -> dict[str, Any]:
        return {
            "username": "someone",
            "password": "a plain secret",
            "pool_size": 1,
            "server_username": role,
            "server_password": stored,
        }

    stored = postgres.secret("app_md5")
    pools = {
        "testdb": app_pool(postgres, users=[user("app_md5", stored)]),
        "scram": app_pool(postgres, users=[user("app", stored)]),
    }
    doorman = make_doorman({"pools": pools})
    with doorman.connect(user="someone", password="a plain secret") as connection:
        assert connection.execute("SELECT current_user").fetchone() == ("app_md5",)
    with doorman.raw() as client:
        client.send(startup(user="someone", database="scram"))
        with pytest.raises(WireError) as caught:
            client.authenticate("someone", "a plain secret")
            client.ask_query("SELECT 1")
        assert caught.value.message.sqlstate
    doorman.wait_log("the server asks for a SCRAM-SHA-256 proof, and only an MD5 hash")
    assert stored not in doorman.log_text()


def test_a_server_that_refuses_our_password_is_told_with_its_sqlstate(
    make_doorman: MakeDoorman, postgres: Postgres
) -> None:
    user = {
        "username": "someone",
        "password": "a plain secret",
        "pool_size": 1,
        "server_username": "app",
        "server_password": "not the server's",
    }
    doorman = make_doorman({"pools": {"testdb": {"users": [user]}}, "general": {"query_wait_timeout": "2s"}})
    with doorman.raw() as client:
        client.send(startup(user="someone", database="testdb"))
        with pytest.raises(WireError) as caught:
            client.authenticate("someone", "a plain secret")
            client.ask_query("SELECT 1")
        assert caught.value.message.sqlstate in ("28P01", "08006", "53300", "3D000")
    # The pooler goes on.
    assert doorman.admin("SHOW VERSION")


# -- nothing is told about who exists


def exchange(doorman: Doorman, user: str, database: str, password: str) -> list[tuple[str, bytes]]:
    """The whole refused login, message by message, with the name and what is random in SCRAM blotted out."""
    seen: list[tuple[str, bytes]] = []
    with doorman.raw() as client:
        original = client.read

        def reading() -> Any:
            got = original()
            body = got.body.replace(user.encode(), b"<user>")
            if got.kind == "R" and body[:4] == struct.pack("!i", 11):
                nonce, salt, rounds = (part.split(b"=", 1) for part in body[4:].split(b",", 2))
                assert (nonce[0], salt[0], rounds[0]) == (b"r", b"s", b"i")
                # libpq's nonce varies in length; the server's part does not, and the salt is 16 bytes in base64.
                body = b"%d %s" % (len(salt[1]), rounds[1])
            seen.append((got.kind, body))
            return got

        client.read = reading  # type: ignore[method-assign]
        client.send(startup(user=user, database=database))
        with pytest.raises(WireError) as caught:
            client.authenticate(user, password)
        assert caught.value.message.sqlstate == "28P01"
        assert client.read_to_end() == b""
    return seen


def test_unknown_user_unknown_database_and_wrong_password_are_the_same_bytes(doorman: Doorman) -> None:
    wrong_password = exchange(doorman, "scram", "kinds", "wrong")
    assert [kind for kind, _ in wrong_password] == ["R", "R", "E"]
    assert exchange(doorman, "nobody-known", "kinds", "wrong") == wrong_password
    assert exchange(doorman, "scram", "no-such-database", "wrong") == wrong_password
    assert exchange(doorman, "nobody-known", "no-such-database", "wrong") == wrong_password
    # Even with a password that would be right for another database.
    assert exchange(doorman, "scram", "no-such-database", Postgres.PASSWORDS["app"]) == wrong_password


def server_first(doorman: Doorman, user: str) -> tuple[bytes, bytes]:
    """Salt and iterations offered to a user."""
    with doorman.raw() as client:
        client.send(startup(user=user, database="kinds"))
        assert client.read().body == struct.pack("!i", 10) + b"SCRAM-SHA-256\0\0"
        first = b"n,,n=,r=fyko+d2lbbFgONRv9qkxdawL"
        client.send(message("p", cstring("SCRAM-SHA-256") + struct.pack("!i", len(first)) + first))
        _, salt, rounds = client.read().body[4:].split(b",", 2)
        return salt, rounds


def test_the_salt_made_up_for_an_unknown_user_is_always_the_same(doorman: Doorman) -> None:
    known, unknown = server_first(doorman, "scram"), server_first(doorman, "nobody-known")
    assert server_first(doorman, "scram") == known
    assert server_first(doorman, "nobody-known") == unknown
    assert server_first(doorman, "nobody-else") != unknown
    assert len(known[0]) == len(unknown[0])
    assert known[1] == unknown[1]


# -- pg_hba


def test_the_salt_made_up_for_an_unknown_user_survives_a_restart(make_doorman: MakeDoorman, postgres: Postgres) -> None:
    """As a stored secret's does, or asking again after one would tell who exists."""
    pools = {"scram": app_pool(postgres, 1)}
    secret = {"mock_authentication_secret": "from a good generator"}
    doorman = make_doorman({"general": secret, "pools": pools})
    unknown = server_first(doorman, "nobody-known")
    doorman.stop()
    doorman.start()
    assert server_first(doorman, "nobody-known") == unknown
    # Another process of the same configuration, elsewhere, makes the same; one with another secret does not.
    assert server_first(make_doorman({"general": secret, "pools": pools}), "nobody-known") == unknown
    config = doorman.config
    config["general"]["mock_authentication_secret"] = "from another generator"
    doorman.reload(config)
    assert server_first(doorman, "nobody-known") != unknown


@pytest.mark.skipif(mock_key(None) is None, reason="this machine has no id")
def test_the_machine_s_id_is_enough_for_that(make_doorman: MakeDoorman) -> None:
    doorman = make_doorman()
    unknown = server_first(doorman, "nobody-known")
    doorman.stop()
    doorman.start()
    assert server_first(doorman, "nobody-known") == unknown


def test_trust_asks_for_nothing(doorman: Doorman) -> None:
    with doorman.raw() as client:
        client.send(startup(user="open", database="kinds"))
        welcome = client.authenticate("open", "")
        assert welcome[0].body == struct.pack("!i", 0)
        assert client.value("SELECT 1") == "1"


def test_reject_comes_before_a_later_trust(doorman: Doorman) -> None:
    with doorman.raw() as client, pytest.raises(WireError) as caught:
        client.send(startup(user="barred", database="kinds"))
        client.authenticate("barred", "a plain secret")
    assert caught.value.message.sqlstate == "28000"


def test_a_hostssl_line_does_not_apply_without_tls(doorman: Doorman) -> None:
    """The next line that matches does, and it asks for a password."""
    with pytest.raises(psycopg.OperationalError):
        doorman.connect(dbname="kinds", user="ssl_only", password="wrong")
    with doorman.connect(dbname="kinds", user="ssl_only", password="a plain secret"):
        pass


def test_the_method_scram_does_not_take_an_md5_secret(doorman: Doorman) -> None:
    """As in PostgreSQL: the right password does not help, and the client can't tell why."""
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        doorman.connect(dbname="kinds", user="strict_md5", password=Postgres.PASSWORDS["app_md5"])


def test_a_quoted_all_is_a_name(doorman: Doorman) -> None:
    """``"all"`` with quotes means the user called all, so the line rejects nobody here."""
    with doorman.connect(dbname="kinds", user="unruled", password="a plain secret") as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_no_line_that_matches_refuses(make_doorman: MakeDoorman) -> None:
    doorman = make_doorman({"general": {"pg_hba": "host all app 10.255.255.0/24 trust\nhost all admin all md5"}})
    with doorman.raw() as client, pytest.raises(WireError) as caught:
        client.send(startup(user="app", database="testdb"))
        client.authenticate("app", Postgres.PASSWORDS["app"])
    assert caught.value.message.sqlstate == "28000"


def test_the_hba_address_list(make_doorman: MakeDoorman) -> None:
    doorman = make_doorman({"general": {"hba": ["10.0.0.0/8"]}}, start=False)
    doorman.start()
    with doorman.raw() as client, pytest.raises(WireError) as caught:
        client.send(startup(user="app", database="testdb"))
        client.authenticate("app", Postgres.PASSWORDS["app"])
    assert caught.value.message.sqlstate == "28000"


def test_the_console_asks_for_its_own_password(doorman: Doorman) -> None:
    for database in ("pgdoorman", "pgbouncer"):
        with doorman.admin_connect(database) as connection:
            assert connection.execute("SHOW VERSION").fetchall()
        with pytest.raises(psycopg.OperationalError):
            doorman.connect(dbname=database, user=ADMIN_USER, password="wrong")
        with pytest.raises(psycopg.OperationalError):
            doorman.connect(dbname=database, user="plain", password="a plain secret")
    with pytest.raises(psycopg.OperationalError):
        doorman.connect(dbname="kinds", user=ADMIN_USER, password=ADMIN_PASSWORD)


# -- limits


@pytest.mark.parametrize(
    "said",
    [b"", b"\0\0", SSL_REQUEST, struct.pack("!i", 60), startup(user="scram", database="kinds")],
    ids=["nothing", "half a length", "SSLRequest", "a length", "a startup packet"],
)
def test_who_says_too_little_is_closed_after_the_login_timeout(doorman: Doorman, said: bytes) -> None:
    with doorman.raw() as client:
        client.timeout = patience(6)
        client.send(said)
        began = time.monotonic()
        client.read_to_end()
        assert 0.5 < time.monotonic() - began < patience(4)


def test_max_connections_is_exact(make_doorman: MakeDoorman) -> None:
    doorman = make_doorman({"general": {"max_connections": 5}})
    clients = [doorman.wire() for _ in range(5)]
    try:
        with pytest.raises(WireError) as caught:
            doorman.wire()
        assert caught.value.message.sqlstate == "53300"
        assert "too many clients" in caught.value.message.fields["M"]
        # A cancel is no client: it is served although the house is full.
        clients[0].send(query("SELECT pg_sleep(30)"))
        eventually(lambda: _is_cancelled(clients[0]), message="the statement is cancelled")
        clients.pop().terminate()
        eventually(lambda: _can_enter(doorman, clients), message="a freed place is given")
    finally:
        for client in clients:
            client.close()


def _is_cancelled(client: WireClient) -> bool:
    client.cancel()
    if client.is_quiet(0.3):
        return False
    assert client.read_until("E")[-1].sqlstate == "57014"
    return True


def _can_enter(doorman: Doorman, clients: list[WireClient]) -> bool:
    try:
        clients.append(doorman.wire())
    except WireError:
        return False
    return True


def test_max_connections_is_exact_in_a_rush(make_doorman: MakeDoorman) -> None:
    doorman = make_doorman({"general": {"max_connections": 10}})
    entered: list[WireClient] = []
    refused: list[str] = []
    barrier = threading.Barrier(30)

    def enter() -> None:
        barrier.wait(patience(10))
        try:
            entered.append(doorman.wire())
        except WireError as exc:
            refused.append(exc.message.sqlstate)

    threads = [threading.Thread(target=enter) for _ in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(patience(30))
    for client in entered:
        client.close()
    assert (len(entered), refused) == (10, ["53300"] * 20)


# -- the start of the conversation


def test_ssl_and_gss_requests_get_n_and_the_login_goes_on(doorman: Doorman) -> None:
    for requests in ([SSL_REQUEST], [GSSENC_REQUEST], [GSSENC_REQUEST, SSL_REQUEST], [SSL_REQUEST, GSSENC_REQUEST]):
        with doorman.raw() as client:
            for one in requests:
                client.send(one)
                assert client.read_byte() == b"N"
            client.login("plain", "plain", "a plain secret")
            assert client.value("SELECT 1") == "1"


def test_the_welcome_is_in_order(doorman: Doorman, postgres: Postgres) -> None:
    """Same parameters as PostgreSQL's own, with its values; then the key; then ReadyForQuery."""
    with doorman.wire("plain", "plain", "a plain secret") as client, postgres.wire() as direct:
        after_auth = kinds(client.welcome).lstrip("R")
        assert after_auth.endswith("KZ")
        assert set(after_auth[:-2]) == {"S"}
        assert client.welcome[-1].body == b"I"
        assert set(client.parameters) >= set(direct.parameters)
        own = ("application_name", "session_authorization", "is_superuser")
        for name, value in direct.parameters.items():
            if name not in own:
                assert client.parameters[name] == value, name
        assert len(client.secret) == 4


def test_keys_of_clients_differ(doorman: Doorman) -> None:
    clients = [doorman.wire("plain", "plain", "a plain secret") for _ in range(8)]
    assert len({(c.pid, c.secret) for c in clients}) == 8
    assert len({c.secret for c in clients}) == 8
    for client in clients:
        client.close()


def test_protocol_3_2_is_spoken(doorman: Doorman) -> None:
    with doorman.raw() as client:
        client.send(startup(PROTOCOL_3_2, user="plain", database="plain"))
        welcome = client.authenticate("plain", "a plain secret")
        assert "v" not in kinds(welcome)
        assert 4 <= len(client.secret) <= 256
        assert client.value("SELECT 1") == "1"


@pytest.mark.parametrize(
    ("protocol", "options", "minor", "named"),
    [
        (PROTOCOL_3_0, {"_pq_.unheard_of": "1"}, 0, [b"_pq_.unheard_of"]),
        (PROTOCOL_3_2, {"_pq_.a": "1", "_pq_.b": "2"}, 2, [b"_pq_.a", b"_pq_.b"]),
        (PROTOCOL_3_0 + 9999, {}, 2, []),
        (PROTOCOL_3_0 + 3, {"_pq_.c": ""}, 2, [b"_pq_.c"]),
    ],
)
def test_negotiation(doorman: Doorman, protocol: int, options: dict[str, str], minor: int, named: list[bytes]) -> None:
    """NegotiateProtocolVersion comes first, names the newest minor we speak, and what we don't know."""
    with doorman.raw() as client:
        client.send(startup(protocol, user="plain", database="plain", **options))
        welcome = client.authenticate("plain", "a plain secret")
        assert welcome[0].kind == "v"
        assert kinds(welcome).count("v") == 1
        version, count = struct.unpack("!ii", welcome[0].body[:8])
        # PostgreSQL 9.3 to 17 told the whole version, later ones too: (3 << 16) | minor; some tell the minor alone.
        assert version & 0xFFFF == minor
        assert count == len(named)
        assert sorted(welcome[0].body[8:].split(b"\0")[:-1]) == named
        assert client.value("SELECT 1") == "1"


@pytest.mark.parametrize("protocol", [0, 1 << 16, 2 << 16, 4 << 16, (1234 << 16) | 5681])
def test_another_major_version_is_refused(doorman: Doorman, protocol: int) -> None:
    with doorman.raw() as client:
        client.send(startup(protocol, user="plain", database="plain"))
        answer = client.read()
        assert answer.kind == "E"
        assert answer.sqlstate in ("0A000", "08P01")
        assert client.read_to_end() == b""


@pytest.mark.parametrize(("value", "sqlstate"), [("database", "42501"), ("true", "28000"), ("maybe", "22023")])
def test_replication_is_refused(doorman: Doorman, value: str, sqlstate: str) -> None:
    """By PostgreSQL, whose role may not; by pg_hba, which has no rule for it; by us."""
    with doorman.raw() as client:
        client.send(startup(user="plain", database="plain", replication=value))
        with pytest.raises(WireError) as caught:
            client.authenticate("plain", "a plain secret")
        assert caught.value.message.sqlstate == sqlstate
        assert "replication" in caught.value.message.fields["M"]
        assert client.read_to_end() == b""


def test_replication_said_to_be_off_is_no_replication(doorman: Doorman) -> None:
    with doorman.wire("plain", "plain", "a plain secret", replication="false") as client:
        assert client.value("SELECT 1") == "1"


def test_startup_parameters_reach_the_server(doorman: Doorman) -> None:
    """Those reported back, those that are not, and those in ``options``, each seen only by who asked for them."""
    plain = ("plain", "plain", "a plain secret")
    with (
        doorman.wire(*plain, application_name="one", TimeZone="Asia/Tokyo", extra_float_digits="2") as one,
        doorman.wire(
            *plain,
            application_name="two",
            options=r"-c search_path=pg_catalog,\ public -cstatement_timeout=12345 --DateStyle=German",
        ) as two,
    ):
        assert one.parameters["TimeZone"] == "Asia/Tokyo"
        assert two.parameters["DateStyle"].startswith("German")
        for _ in range(3):
            assert one.value("SHOW TimeZone") == "Asia/Tokyo"
            assert one.value("SHOW extra_float_digits") == "2"
            assert one.value("SHOW application_name") == "one"
            assert one.value("SHOW statement_timeout") == "0"
            assert one.value("SHOW DateStyle") == "ISO, MDY"
            assert two.value("SHOW TimeZone") == "UTC"
            assert two.value("SHOW search_path") == "pg_catalog, public"
            assert two.value("SHOW statement_timeout") == "12345ms"
            assert two.value("SHOW application_name") == "two"
            assert two.value("SHOW DateStyle").startswith("German")  # type: ignore[union-attr]


@pytest.mark.parametrize("parameters", [{"TimeZone": "No/Where"}, {"options": "-c no_such_setting=1"}])
def test_a_startup_parameter_the_server_does_not_take(
    doorman: Doorman, postgres: Postgres, parameters: dict[str, str]
) -> None:
    """PostgreSQL refuses the login; the pooler tells its SQLSTATE at the latest at the first statement."""
    with pytest.raises(WireError) as direct:
        postgres.wire(**parameters)
    with doorman.raw() as client:
        client.send(startup(user="plain", database="plain", **parameters))
        try:
            client.authenticate("plain", "a plain secret")
            client.send(query("SELECT 1"))
            answer = next(m for m in iter(client.read, None) if m.kind in "ED")
        except WireError as exc:
            answer = exc.message
        assert answer.kind == "E"
        assert answer.sqlstate == direct.value.message.sqlstate
    with doorman.wire("plain", "plain", "a plain secret") as other:
        assert other.value("SELECT 1") == "1"


def test_a_login_needs_no_free_server(make_doorman: MakeDoorman) -> None:
    """Once the server's parameters are known, the welcome comes although the only server is lent."""
    doorman = make_doorman()
    with doorman.wire("onedb") as busy:
        assert busy.ask_query("BEGIN")[-1].body == b"T"
        with doorman.wire("onedb") as second:
            assert second.parameters["server_version"] == busy.parameters["server_version"]
            second.send(query("SELECT 1"))
            assert second.is_quiet()
            busy.ask_query("COMMIT")
            assert kinds(second.read_ready()) == "TDCZ"


# -- garbage

LENGTHS = [-(1 << 31), -1, 0, 3, 4, 7, 8, 9, 10000, 10001, 10004, 65536, (1 << 31) - 1]


def answered_or_closed(client: WireClient) -> None:
    """What the pooler says, if anything, is an ``N`` to a request or one ErrorResponse; then it closes."""
    data = client.read_to_end().lstrip(b"N")
    assert data == b"" or data[:1] in (b"E", b"R", b"v"), data


def test_lengths_of_startup_packets(doorman: Doorman) -> None:
    """An absurd length does not wait for the bytes it promises; a fair one that never comes ends by the timeout."""
    clients = []
    try:
        for length in LENGTHS:
            for code in (PROTOCOL_3_0, 80877102, 80877103, 80877104):
                clients.append(doorman.raw())
                clients[-1].send(struct.pack("!ii", length, code) + b"user\0x\0\0")
        for client in clients:
            answered_or_closed(client)
    finally:
        for client in clients:
            client.close()


STARTUP_BODIES = [
    b"",
    b"user",
    b"user\0",
    b"user\0plain",
    b"user\0plain\0",
    b"user\0plain\0\0trailing",
    b"\0",
    b"\0\0\0\0",
    b"user\0plain\0database\0",
    b"user\0pl\xff\xfein\0\0",
    b"options\0-c\0user\0plain\0\0",
    b"user\0plain\0options\0-c TimeZone\0\0",
    b"user\0" + b"x" * 9000 + b"\0\0",
    b"user\0plain\0user\0app\0\0",
]


@pytest.mark.parametrize("body", STARTUP_BODIES, ids=lambda b: repr(b[:40]))
def test_bodies_of_startup_packets(doorman: Doorman, body: bytes) -> None:
    with doorman.raw() as client:
        client.send(struct.pack("!ii", len(body) + 8, PROTOCOL_3_0) + body)
        answered_or_closed(client)


@pytest.mark.parametrize(
    "answer",
    [
        message("p", b""),
        message("p", b"\0"),
        message("p", cstring("SCRAM-SHA-256") + struct.pack("!i", -1)),
        message("p", cstring("SCRAM-SHA-256") + struct.pack("!i", 1 << 30)),
        message("p", cstring("SCRAM-SHA-256-PLUS") + struct.pack("!i", 3) + b"p=x"),
        message("p", cstring("SCRAM-SHA-256") + struct.pack("!i", 4) + b"junk"),
        message("p", cstring("SCRAM-SHA-256") + struct.pack("!i", 9) + b"n,,n=,r=\xff"),
        query("SELECT 1"),
        b"p" + struct.pack("!i", 3),
        b"p" + struct.pack("!i", -5),
        b"p" + struct.pack("!i", 1 << 29),
        b"p" + struct.pack("!i", 1 << 20) + b"x" * 1000,
        b"\xff" * 100,
    ],
)
def test_garbage_for_a_password(doorman: Doorman, answer: bytes) -> None:
    with doorman.raw() as client:
        client.send(startup(user="scram", database="kinds"))
        assert client.read().kind == "R"
        client.send(answer)
        # PostgreSQL answers "no initial response" by an empty challenge; all else is an error.
        rest = client.read_to_end()
        assert rest == b"" or rest[:1] == b"E" or (b"\xff" * 4 in answer and rest[:1] == b"R")


def test_a_cancel_with_an_unknown_key_is_ignored(doorman: Doorman) -> None:
    for packet in (
        cancel_request(1, b"abcd"),
        cancel_request(-1, b"\0" * 4),
        cancel_request(7, b"x" * 32),
        cancel_request(0, b""),
    ):
        with doorman.raw() as client:
            client.send(packet)
            assert client.read_to_end() == b""


startup_bytes = st.one_of(
    st.binary(max_size=400),
    st.builds(
        lambda code, body, off: struct.pack("!ii", (len(body) + 8 + off) & 0x7FFFFFFF, code) + body,
        st.sampled_from([PROTOCOL_3_0, PROTOCOL_3_2, 80877102, 80877103, 80877104, 0, -1]),
        st.one_of(
            st.binary(max_size=200),
            st.lists(st.sampled_from([b"user", b"plain", b"database", b"options", b"-c", b"_pq_.x", b"", b"\xff"])).map(
                lambda parts: b"\0".join(parts) + b"\0\0"
            ),
        ),
        st.sampled_from([0, 0, 0, 1, -1, 4]),
    ),
)


@given(first=startup_bytes, second=startup_bytes)
@settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_random_startups_leave_the_process_alive(doorman: Doorman, first: bytes, second: bytes) -> None:
    with doorman.raw() as client:
        try:
            client.send(first)
            client.send(second)
            client.socket.shutdown(1)
        except OSError:
            pass
        client.read_to_end()
    assert doorman.running


def test_random_bytes_leave_memory_and_others_alone(doorman: Doorman) -> None:
    rng = random.Random(3)
    with doorman.wire("plain", "plain", "a plain secret") as bystander:
        before = doorman.rss()
        for _ in range(300):
            with doorman.raw() as client:
                try:
                    client.send(rng.randbytes(rng.randrange(2000)))
                    client.socket.shutdown(1)
                except OSError:
                    pass
                client.read_to_end()
        assert bystander.value("SELECT 1") == "1"
        assert doorman.rss() - before < 16 << 20
    eventually(lambda: sum(int(r["cl_active"]) + int(r["cl_waiting"]) for r in doorman.admin("SHOW POOLS")) == 0)


# -- the log


@pytest.mark.parametrize(
    ("user", "database", "password", "reason"),
    [
        ("app", "testdb", "wrong", "wrong password"),
        ("nobody", "testdb", "wrong", "no such user in a pool of that name"),
        ("app", "nowhere", "wrong", "no such user in a pool of that name"),
    ],
)
def test_the_log_says_who_was_refused_and_why(
    doorman: Doorman, user: str, database: str, password: str, reason: str
) -> None:
    """The client hears the same in every case."""
    mark = len(doorman.log_lines)
    with pytest.raises(WireError) as caught:
        doorman.wire(database, user, password)
    assert caught.value.message.fields["M"] == f'password authentication failed for user "{user}"'
    line = doorman.wait_log("closing client", after=mark)
    assert f"[{user}@{database} 127.0.0.1:" in line
    assert f": {reason} (SQLSTATE 28P01)" in line


def test_the_log_names_the_line_that_rejects(make_doorman: MakeDoorman) -> None:
    rules = "host all app_two all reject\nhost all all all scram-sha-256\n"
    doorman = make_doorman({"general": {"pg_hba": {"content": rules}}})
    with pytest.raises(WireError) as caught:
        doorman.wire("testdb", "app_two", "x")
    assert "line" not in caught.value.message.fields["M"]
    assert ": line 1 (SQLSTATE 28000)" in doorman.wait_log("app_two@testdb 127.0.0.1:.* closing client")
