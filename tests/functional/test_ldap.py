"""LDAP judges passwords by pg_hba's method: a real pooler before a directory of our own."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from eventually import eventually
from fix_doorman import Doorman, MakeDoorman, app_pool, app_user
from fix_postgres import Postgres, server_user
from ldap_server import BOUND, SUCCESS, LdapServer, result
from wire_client import startup

BASE = "ou=people,dc=example,dc=net"


@pytest.fixture
def people() -> Iterator[LdapServer]:
    server = LdapServer()
    server.add("app_two", f"uid=app_two,{BASE}", Postgres.PASSWORDS["app_two"])
    server.add("app", f"uid=app,{BASE}", "by ldap alone")
    server.add("stranger", f"uid=stranger,{BASE}", "right")
    yield server
    server.close()


def rules(people: LdapServer) -> str:
    where = f"ldapserver=127.0.0.1 ldapport={people.port}"
    return f"""
host bound all 127.0.0.1/32 ldap {where} ldapprefix="uid=" ldapsuffix=",{BASE}"
host found all 127.0.0.1/32 ldap {where} ldapbasedn="{BASE}"
host all all 127.0.0.1/32 scram-sha-256
"""


def config(postgres: Postgres, people: LdapServer, **general: Any) -> dict[str, Any]:
    users = [{"username": "app_two", "password": "", "pool_size": 2}, app_user(postgres, 2)]
    return {
        "general": {"pg_hba": {"content": rules(people)}, **general},
        "pools": {name: app_pool(postgres, users=users) for name in ("bound", "found")},
    }


@pytest.fixture
def ldap_doorman(make_doorman: MakeDoorman, postgres: Postgres, people: LdapServer) -> Doorman:
    return make_doorman(config(postgres, people))


@pytest.mark.parametrize("database", ["bound", "found"])
def test_who_is_right_gets_in(ldap_doorman: Doorman, people: LdapServer, database: str) -> None:
    with ldap_doorman.connect(dbname=database, user="app_two") as connection:
        assert server_user(connection) == "app_two", "what was told goes on to the server"
    with ldap_doorman.connect(dbname=database, user="app", password="by ldap alone") as connection:
        assert server_user(connection) == "app", "unless that has a password of its own"
    assert f"bind uid=app_two,{BASE}" in people.asked
    eventually(lambda: people.open_connections == 0)


@pytest.mark.parametrize("database", ["bound", "found"])
@pytest.mark.parametrize(
    ("user", "password"),
    [("app_two", "wrong"), ("app", Postgres.PASSWORDS["app"]), ("stranger", "right"), ("nobody", "x"), ("*", "x")],
)
def test_nobody_else_gets_in(
    ldap_doorman: Doorman, people: LdapServer, database: str, user: str, password: str
) -> None:
    told = ldap_doorman.refusal(dbname=database, user=user, password=password)
    assert f'FATAL:  LDAP authentication failed for user "{user}"' in told
    assert people.asked, "whoever it is"
    ldap_doorman.wait_log(r"LDAP authentication failed for user .*: (wrong password|LDAP finds|no such user)")


def test_an_empty_password_is_not_judged(ldap_doorman: Doorman, people: LdapServer) -> None:
    with ldap_doorman.raw() as client:
        client.send(startup(user="app_two", database="bound"))
        assert client.read().body == b"\0\0\0\x03"
        client.send(b"p\0\0\0\x05\0")
        error = client.read()
        assert error.kind == "E" and error.sqlstate == "28000"
    assert people.asked == []


def test_a_slow_directory_holds_up_nobody_else(ldap_doorman: Doorman, people: LdapServer) -> None:
    people.gate.clear()
    with ThreadPoolExecutor(3) as several:
        slow = [several.submit(ldap_doorman.connect, dbname="bound", user="app_two") for _ in range(3)]
        eventually(lambda: len(people.asked) == 3)
        with ldap_doorman.connect(dbname="testdb") as connection:
            assert server_user(connection) == "app"
        assert not any(login.done() for login in slow)
        people.gate.set()
        for login in slow:
            login.result().close()


def test_who_goes_away_leaves_nothing_behind(make_doorman: MakeDoorman, postgres: Postgres, people: LdapServer) -> None:
    doorman = make_doorman(config(postgres, people, worker_threads=1, max_concurrent_auths=1))
    people.gate.clear()
    with doorman.raw() as client:
        client.send(startup(user="nobody", database="bound"))
        assert client.read().body == b"\0\0\0\x03"
        client.send(b"p\0\0\0\x08abc\0")
        eventually(lambda: people.asked)
        before = doorman.open_files()
    eventually(lambda: doorman.open_files() == before - 2, message="neither the client is there, nor what asked for it")
    people.gate.set()
    doorman.connect(dbname="bound", user="app_two").close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_nobody_keeps_the_pooler_from_its_end(
    ldap_doorman: Doorman, people: LdapServer, number: signal.Signals
) -> None:
    people.gate.clear()
    with ThreadPoolExecutor(1) as several:
        login = several.submit(ldap_doorman.refusal, dbname="bound", user="app_two")
        eventually(lambda: people.asked)
        ldap_doorman.stop(number)
        assert login.result()


def test_time_is_limited_and_then_nobody_is_in(
    make_doorman: MakeDoorman, postgres: Postgres, people: LdapServer
) -> None:
    doorman = make_doorman(config(postgres, people, auth_timeout="300ms"))
    people.gate.clear()
    assert "LDAP authentication failed" in doorman.refusal(dbname="found", user="app_two")
    doorman.wait_log(r"WARN .*LDAP server 127\.0\.0\.1:\d+.*: nobody gets in by that")
    people.gate.set()
    doorman.connect(dbname="found", user="app_two").close()


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x30\x84\x7f\xff\xff\xff", bytes(1000)])
def test_answers_that_are_none_let_nobody_in(ldap_doorman: Doorman, people: LdapServer, answer: bytes) -> None:
    people.answer = lambda tag, number: answer
    for database in ("bound", "found"):
        assert "LDAP authentication failed" in ldap_doorman.refusal(dbname=database, user="app_two")
    people.answer = lambda tag, number: result(number + 1, BOUND, SUCCESS)
    assert "LDAP authentication failed" in ldap_doorman.refusal(dbname="bound", user="app_two")
    people.answer = None
    ldap_doorman.connect(dbname="bound", user="app_two").close()


def test_a_reload_changes_where_is_asked(ldap_doorman: Doorman, people: LdapServer) -> None:
    other = LdapServer()
    try:
        other.add("app_two", f"uid=app_two,{BASE}", Postgres.PASSWORDS["app_two"])
        ldap_doorman.config["general"]["pg_hba"] = {"content": rules(other)}
        ldap_doorman.reload(ldap_doorman.config)
        ldap_doorman.connect(dbname="bound", user="app_two").close()
        assert other.asked and not people.asked
    finally:
        other.close()


def test_rules_that_make_no_sense_are_told_of(make_doorman: MakeDoorman) -> None:
    doorman = make_doorman({"general": {"pg_hba": {"content": "host all all all ldap ldapserver=x\n"}}}, start=False)
    doorman.start(wait=False)
    doorman.ended_by_test = True
    assert doorman.process is not None
    assert doorman.process.wait(60) == 78
    assert 'line 1: authentication method "ldap" requires argument "ldapbasedn"' in doorman.log_text()
