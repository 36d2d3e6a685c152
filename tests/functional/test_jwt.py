"""Logins by tokens: clients', by keys of the configuration and by Talos, and the pooler's own at servers."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import jwt
import pg8000.dbapi
import psycopg
import pytest
from fix_certs import Certificates
from fix_doorman import ADMIN_PASSWORD, ADMIN_USER, Doorman, MakeDoorman, app_pool, app_user
from fix_postgres import Postgres
from token_gate import TokenGate
from token_keys import hostile_tokens, pair, private_pem, public_pem, talos_token, token_for, write_pair
from wire_client import WireError

REFUSED = "JWT token validation failed. Please provide a valid token."

RULES = """
host   all all            127.0.0.1/32 scram-sha-256
local  all all                         jwt
"""


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("keys")
    write_pair(directory, "issuer")
    write_pair(directory, "curve", "ec")
    write_pair(directory, "edwards", "ed25519")
    write_pair(directory, "talos-1", number=2)
    return directory


@pytest.fixture(scope="module")
def doorman_over(
    postgres: Postgres, keys: Path, certs: Certificates, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    def user(name: str, password: str) -> dict[str, Any]:
        return app_user(postgres, 2, username=name, password=password)

    def by_key(name: str) -> str:
        return f"jwt-pkey-fpath:{keys / name}.pem"

    users = [
        user("alice", by_key("issuer")),
        user("bob", by_key("issuer")),
        user("curve", by_key("curve")),
        user("edwards", by_key("edwards")),
        user("by_password", "a plain secret"),
        user("owner", ""),
        user("read_only", ""),
    ]
    return {
        "general": {
            "tls_certificate": str(certs.server.certificate),
            "tls_private_key": str(certs.server.private_key),
            "unix_socket_dir": str(tmp_path_factory.mktemp("socket")),
            "pg_hba": RULES,
        },
        "pools": {
            "testdb": {"users": users},
            # Nobody gets there, nor to the console by what its users have.
            "pgdoorman": app_pool(postgres, users=[user(ADMIN_USER, by_key("issuer"))]),
        },
        "talos": {"keys": [str(keys / "talos-1.pem")], "databases": ["testdb", "onedb", "nowhere"]},
    }


def refusal(doorman: Doorman, user: str, token: str, database: str = "testdb") -> None:
    """The client is told nothing but that."""
    with pytest.raises(psycopg.OperationalError) as caught:
        doorman.connect(user=user, password=token, dbname=database).close()
    assert str(caught.value).splitlines()[-1].strip().endswith(f"FATAL:  {REFUSED}")


def who(connection: Any) -> Any:
    with connection:
        return connection.execute("SELECT session_user").fetchone()[0]


@pytest.mark.parametrize(("user", "kind"), [("alice", "rsa"), ("curve", "ec"), ("edwards", "ed25519")])
def test_whoever_has_a_token_gets_in(doorman: Doorman, user: str, kind: str) -> None:
    for _ in range(2):
        assert who(doorman.connect(user=user, password=token_for(user, kind))) == "app"


def test_by_tls_by_the_unix_socket_and_by_other_drivers(doorman: Doorman) -> None:
    token = token_for("alice", padding="x" * 3000)
    assert who(doorman.connect(user="alice", password=token, sslmode="require")) == "app"
    assert (
        who(doorman.connect(user="alice", password=token, host=doorman.config["general"]["unix_socket_dir"])) == "app"
    )
    by_pg8000 = pg8000.dbapi.connect("alice", doorman.host, "testdb", doorman.port, token)
    cursor = by_pg8000.cursor()
    cursor.execute("SELECT session_user")
    assert cursor.fetchone() == ["app"]
    by_pg8000.close()

    async def by_asyncpg() -> Any:
        connection = await asyncpg.connect(
            host=doorman.host, port=doorman.port, user="alice", password=token, database="testdb", ssl=False
        )
        try:
            return await connection.fetchval("SELECT session_user")
        finally:
            await connection.close()

    assert asyncio.run(by_asyncpg()) == "app"


@pytest.mark.parametrize("what", sorted(hostile_tokens("alice").keys() - {"empty"}))
def test_nobody_gets_in_by_a_token_that_is_wrong(doorman: Doorman, what: str) -> None:
    refusal(doorman, "alice", hostile_tokens("alice")[what].replace("\0", ""))


def test_what_no_driver_would_send(doorman: Doorman) -> None:
    for password in (b"", b"\xff" * 100, b"e" * 60_000, b"." * 60_000, b"\x01"):
        client = doorman.raw()
        with client, pytest.raises(WireError) as caught:
            client.login("alice", "testdb", password.decode("latin-1"))
        assert caught.value.message.sqlstate == "28P01" and caught.value.message.fields["M"] == REFUSED
    assert who(doorman.connect(user="alice", password=token_for("alice"))) == "app"


def test_the_path_of_the_key_is_no_password(doorman: Doorman) -> None:
    for user in doorman.config["pools"]["testdb"]["users"]:
        if user["password"].startswith("jwt"):
            refusal(doorman, user["username"], user["password"])


def test_anothers_token(doorman: Doorman) -> None:
    refusal(doorman, "bob", token_for("alice"))
    refusal(doorman, "curve", token_for("curve"))


def test_a_token_of_a_user_who_is_not_there(doorman: Doorman) -> None:
    """Where all have to show one, nobody stands out: he is refused in the same words."""
    directory = doorman.config["general"]["unix_socket_dir"]
    for user, database in (("nobody", "testdb"), ("alice", "nowhere"), ("by_password", "testdb")):
        with pytest.raises(psycopg.OperationalError) as caught:
            doorman.connect(host=directory, user=user, password=token_for(user), dbname=database).close()
        assert str(caught.value).splitlines()[-1].strip().endswith(f"FATAL:  {REFUSED}")
    refusal(doorman, "alice", token_for("alice"), "nowhere")


def test_nobody_gets_to_the_console_by_a_token(doorman: Doorman) -> None:
    directory = doorman.config["general"]["unix_socket_dir"]
    for user in (ADMIN_USER, "alice", "nobody"):
        for password in (ADMIN_PASSWORD, token_for(user)):
            with pytest.raises(psycopg.OperationalError) as caught:
                doorman.connect(host=directory, user=user, password=password, dbname="pgdoorman").close()
            assert str(caught.value).splitlines()[-1].strip().endswith(f"FATAL:  {REFUSED}")


def test_the_log_says_why_and_shows_no_token(doorman: Doorman) -> None:
    before = len(doorman.log_lines)
    token = token_for("alice", exp=1)
    refusal(doorman, "alice", token)
    line = doorman.wait_log("ExpiredSignatureError", after=before)
    assert "alice" in line
    assert token not in doorman.log_text() and token.split(".")[1] not in doorman.log_text()


def test_who_has_a_password_goes_by_it(doorman: Doorman) -> None:
    assert who(doorman.connect(user="by_password", password="a plain secret")) == "app"


# -- Talos


def talos(*roles: str, database: str = "testdb", **claims: Any) -> str:
    return talos_token("talos-1", {f"postgres.stg:{database}": {"roles": list(roles)}}, 2, **claims)


def test_a_token_of_talos_leads_to_the_pool_of_its_role(doorman: Doorman) -> None:
    with doorman.connect(user="talos", password=talos("read_only", "owner"), application_name="mine") as connection:
        assert connection.execute("SELECT session_user, current_setting('application_name')").fetchone() == (
            "app",
            "billing-service",
        )
        (row,) = [row for row in doorman.admin("SHOW CLIENTS") if row["application_name"] == "billing-service"]
        assert (row["user"], row["database"]) == ("owner", "testdb")
    assert any("billing-service" in line and "owner" in line for line in doorman.log_lines)


def test_a_token_of_talos_without_a_name_leaves_the_clients_own(doorman: Doorman) -> None:
    with doorman.connect(user="talos", password=talos("read_only", clientId=""), application_name="mine") as connection:
        assert connection.execute("SHOW application_name").fetchone() == ("mine",)


#: By what is wrong with it: the token, and where it is shown.
STRANGERS: dict[str, Callable[[], tuple[str, str]]] = {
    "no such user in the pool": lambda: (talos("read_write"), "testdb"),
    "a role elsewhere": lambda: (talos("owner", database="onedb"), "testdb"),
    "no such pool": lambda: (talos("owner", database="nowhere"), "nowhere"),
    "no database of Talos": lambda: (talos("owner", database="twodb"), "twodb"),
    "expired": lambda: (talos("owner", exp=1), "testdb"),
    "a name of two lines": lambda: (talos("owner", clientId="a\nb"), "testdb"),
    "a path as kid": lambda: (talos_token("../talos-1", {"x:testdb": {"roles": ["owner"]}}, 2), "testdb"),
    "another key": lambda: (talos_token("talos-1", {"x:testdb": {"roles": ["owner"]}}, 3), "testdb"),
    "a user's token": lambda: (token_for("talos"), "testdb"),
    "no token": lambda: ("secret", "testdb"),
}


@pytest.mark.parametrize("what", sorted(STRANGERS))
def test_who_is_none_of_talos(doorman: Doorman, what: str) -> None:
    refusal(doorman, "talos", *STRANGERS[what]())


def test_the_users_of_roles_do_not_log_in_themselves(doorman: Doorman) -> None:
    for password in ("", talos("owner"), token_for("owner")):
        with pytest.raises(psycopg.OperationalError):
            doorman.connect(user="owner", password=password).close()


# -- keys that change


def test_a_reload_reads_the_keys_again(make_doorman: MakeDoorman, postgres: Postgres, tmp_path: Path) -> None:
    public, _ = write_pair(tmp_path, "k")
    user = app_user(postgres, 2, username="alice", password=f"jwt-pkey-fpath:{public}")
    doorman = make_doorman({"general": {"worker_threads": 2}, "pools": {"testdb": {"users": [user]}}})
    old, new = token_for("alice"), token_for("alice", number=1)
    session = doorman.connect(user="alice", password=old)
    public.write_bytes(public_pem(pair("rsa", 1)))
    assert who(doorman.connect(user="alice", password=old)) == "app"
    doorman.reload(signal_it=False)
    assert f"files read anew: {public}" in doorman.log_text()
    for _ in range(6):  # each worker
        refusal(doorman, "alice", old)
        assert who(doorman.connect(user="alice", password=new)) == "app"
    assert session.execute("SELECT 1").fetchone() == (1,)
    session.close()

    public.write_bytes(b"")
    with pytest.raises(psycopg.Error, match="is no public key in PEM"):
        doorman.reload(signal_it=False)
    for _ in range(4):
        assert who(doorman.connect(user="alice", password=new)) == "app"


def test_an_upgrade_goes_by_tokens_too(make_doorman: MakeDoorman, postgres: Postgres, keys: Path) -> None:
    user = app_user(postgres, 2, username="alice", password=f"jwt-pkey-fpath:{keys / 'issuer.pem'}")
    doorman = make_doorman(
        {"pools": {"testdb": {"users": [user, app_user(postgres, 2, username="owner", password="")]}}}
        | {"talos": {"keys": [str(keys / "talos-1.pem")], "databases": ["testdb"]}}
    )
    with (
        doorman.connect(user="alice", password=token_for("alice")) as first,
        doorman.connect(user="talos", password=talos("owner")) as second,
    ):
        doorman.upgrade()
        for connection in (first, second):
            assert connection.execute("SELECT session_user").fetchone() == ("app",)
        assert who(doorman.connect(user="alice", password=token_for("alice"))) == "app"
        refusal(doorman, "alice", token_for("alice", number=1))
    assert doorman.end_of_predecessor() == 0


# -- servers


@pytest.fixture
def gate(postgres: Postgres) -> Iterator[TokenGate]:
    gate = TokenGate((postgres.host, postgres.port), pair().public_key())
    yield gate
    gate.close()


def test_the_pooler_logs_in_by_a_token(
    make_doorman: MakeDoorman, postgres: Postgres, gate: TokenGate, tmp_path: Path
) -> None:
    _, private = write_pair(tmp_path, "k")
    user = app_user(postgres, 3, password="a plain secret", server_username="app_trust")
    user["server_password"] = f"jwt-priv-key-fpath:{private}"
    pool = {"server_port": gate.port, "pool_mode": "session", "users": [user]}
    doorman = make_doorman({"general": {"connect_timeout": "3s"}, "pools": {"testdb": pool}})
    with (
        doorman.connect(password="a plain secret") as first,
        doorman.connect(password="a plain secret") as second,
    ):
        for connection in (first, second):
            assert connection.execute("SELECT session_user").fetchone() == ("app_trust",)
        # A key that is not the right one any more: the server says so, and the client is told as ever.
        private.write_bytes(private_pem(pair("rsa", 1)))
        doorman.reload()
        doorman.admin("RECONNECT")  # one that rests would do without a login
        with pytest.raises(psycopg.OperationalError, match="with a token, by the key in server_password was refused"):
            who(doorman.connect(password="a plain secret"))
        gate.key = pair("rsa", 1).public_key()
        assert who(doorman.connect(password="a plain secret")) == "app_trust"
    assert gate.tokens
    for token in gate.tokens:
        assert token not in doorman.log_text()


def test_a_token_is_no_password_for_other_methods(
    make_doorman: MakeDoorman, postgres: Postgres, tmp_path: Path
) -> None:
    _, private = write_pair(tmp_path, "k")
    users = []
    for role in ("app", "app_md5"):
        user = app_user(postgres, 1, username=role, password="a plain secret", server_username=role)
        users.append(user | {"server_password": f"jwt-priv-key-fpath:{private}"})
    doorman = make_doorman({"pools": {"testdb": {"users": copy.deepcopy(users)}}})
    for role in ("app", "app_md5"):
        with pytest.raises(psycopg.OperationalError, match="only a token, which is a password in clear text, is known"):
            doorman.connect(user=role, password="a plain secret").close()


def test_users_are_looked_up_by_a_token(
    make_doorman: MakeDoorman, postgres: Postgres, gate: TokenGate, tmp_path: Path
) -> None:
    """Both who looks up and the pool of all who are found; a token lets none of them in, for none has a key."""
    public, private = write_pair(tmp_path, "k")
    looked_up = {
        "query": "SELECT passwd FROM pg_shadow WHERE usename = $1",
        "user": "postgres",
        "database": "testdb",
        "password": f"jwt-priv-key-fpath:{private}",
        "server_user": "app_trust",
        "server_password": f"jwt-priv-key-fpath:{private}",
        "pool_size": 2,
    }
    alice = app_user(postgres, 1, username="alice", password=f"jwt-pkey-fpath:{public}")
    doorman = make_doorman(
        {
            "general": {"unix_socket_dir": str(tmp_path), "pg_hba": RULES},
            "pools": {"testdb": {"server_port": gate.port, "auth_query": looked_up, "users": [alice]}},
        }
    )
    assert who(doorman.connect(user="app", password=postgres.password("app"))) == "app_trust"
    assert {user_of(token) for token in gate.tokens} == {"postgres", "app_trust"}
    for user in ("app", "nobody"):
        for password in (token_for(user), postgres.password("app")):
            with pytest.raises(psycopg.OperationalError, match=REFUSED):
                doorman.connect(host=str(tmp_path), user=user, password=password).close()


def user_of(token: str) -> Any:
    return jwt.decode(token, options={"verify_signature": False})["preferred_username"]


def test_talos_in_the_pool_for_every_database(make_doorman: MakeDoorman, postgres: Postgres, keys: Path) -> None:
    every = app_pool(postgres, users=[app_user(postgres, 1, username="read_only", password="")])
    doorman = make_doorman(
        {
            "pools": {"*": every},
            "talos": {"keys": [str(keys / "talos-1.pem")], "databases": ["elsewhere"]},
        }
    )
    assert (
        who(doorman.connect(user="talos", password=talos("read_only", database="elsewhere"), dbname="elsewhere"))
        == "app"
    )
    refusal(doorman, "talos", talos("read_only", database="elsewhere"), "otherdb")
    refusal(doorman, "talos", talos("read_only", database="otherdb"), "otherdb")
