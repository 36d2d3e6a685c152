"""pg_hba's method oauth, on the wire: OAUTHBEARER with a validator command of the operator's."""

from __future__ import annotations

import json
import stat
import struct
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from fix_doorman import Doorman, app_user
from fix_postgres import Postgres
from pace import patience
from wire_client import Message, WireClient, cstring, message, query, startup

RULES = """
host all slow  127.0.0.1/32 oauth issuer=https://issuer.example scope="openid db"
host all admin 127.0.0.1/32 md5
host all app   127.0.0.1/32 scram-sha-256
host all all   127.0.0.1/32 oauth issuer=https://issuer.example scope="openid db" map=people
"""

#: The token says whose it is; one of ``slow`` never gets an answer.
VALIDATOR = """#!/bin/sh
token=$(cat)
case "$PGDOORMAN_USER" in slow) sleep 1000;; esac
case "$token" in good-*) echo "${token#good-}@example.com";; *) exit 1;; esac
"""


@pytest.fixture(scope="module")
def doorman_over(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    validator = tmp_path_factory.mktemp("validator") / "validate"
    validator.write_text(VALIDATOR)
    validator.chmod(stat.S_IRWXU)
    users = [app_user(postgres, 2, username=name, password="") for name in ("alice", "slow")]
    return {
        "general": {
            "pg_hba": RULES,
            "pg_ident": r"people /^(.*)@example\.com$ \1",
            "oauth_validator_command": [str(validator)],
            "auth_timeout": "2s",
        },
        "pools": {"testdb": {"users": [*users, app_user(postgres, 2)]}},
    }


def begin(doorman: Doorman, user: str, database: str = "testdb") -> WireClient:
    client = doorman.raw()
    client.send(startup(user=user, database=database))
    asked = client.read()
    assert (asked.kind, asked.body) == ("R", struct.pack("!i", 10) + b"OAUTHBEARER\0\0")
    return client


def initial(data: bytes | None) -> bytes:
    size = struct.pack("!i", -1 if data is None else len(data))
    return message("p", cstring("OAUTHBEARER") + size + (data or b""))


def shown(token: str) -> bytes:
    return f"n,,\x01auth=Bearer {token}\x01\x01".encode()


def outcome(client: WireClient) -> Message:
    """What ends the login: AuthenticationOk, or the error behind being told where to get a token."""
    got = client.read()
    if got.body[:4] == struct.pack("!i", 11):
        said = json.loads(got.body[4:])
        assert said == {
            "status": "invalid_token",
            "openid-configuration": "https://issuer.example/.well-known/openid-configuration",
            "scope": "openid db",
        }
        client.send(message("p", b"\x01"))
        got = client.read()
    return got


def ask(doorman: Doorman, user: str, data: bytes, database: str = "testdb") -> Message:
    with begin(doorman, user, database) as client:
        client.send(initial(data))
        return outcome(client)


def test_whoever_shows_his_token_gets_in(doorman: Doorman) -> None:
    for _ in range(3):
        with begin(doorman, "alice") as client:
            client.send(initial(shown("good-alice")))
            assert outcome(client).body == struct.pack("!i", 0)
            client.read_until("Z")
            client.send(query("SELECT session_user"))
            assert client.read_until("Z")[1].columns == [b"app"]


def test_a_client_may_wait_for_being_asked(doorman: Doorman) -> None:
    with begin(doorman, "alice") as client:
        client.send(initial(None))
        assert client.read().body == struct.pack("!i", 11)
        client.send(message("p", shown("good-alice")))
        assert outcome(client).body == struct.pack("!i", 0)


@pytest.mark.parametrize("token", ["", "good-bob", "bad", "good-", "good-alice=x", "good-alice extra"])
def test_who_shows_none_that_counts_is_told_where_to_get_one(doorman: Doorman, token: str) -> None:
    data = shown(token) if token else b"n,,\x01auth=\x01\x01"
    refused = ask(doorman, "alice", data)
    assert (refused.kind, refused.sqlstate) == ("E", "28000")
    assert refused.fields["M"] == 'OAuth bearer authentication failed for user "alice"'


def test_who_is_not_there_hears_the_same(doorman: Doorman) -> None:
    for user, database in (("nobody", "testdb"), ("alice", "nowhere")):
        refused = ask(doorman, user, shown(f"good-{user}"), database)
        assert refused.fields["M"] == f'OAuth bearer authentication failed for user "{user}"'


@pytest.mark.parametrize(
    "data",
    [
        message("p", cstring("SCRAM-SHA-256") + struct.pack("!i", 3) + b"n,,"),
        message("p", cstring("OAUTHBEARER") + struct.pack("!i", 5) + b"n,,"),
        message("p", cstring("OAUTHBEARER")),
        message("p", b"OAUTHBEARER"),
        message("p"),
        initial(b"p=tls-unique,,\x01auth=Bearer good-alice\x01\x01"),
        initial(b"n,a=alice,\x01auth=Bearer good-alice\x01\x01"),
        initial(b"\xff" * 50_000),
        query("SELECT 1"),
    ],
    ids=range(9),
)
def test_what_is_no_such_message(doorman: Doorman, data: bytes) -> None:
    with begin(doorman, "alice") as client:
        client.send(data)
        refused = client.read()
        assert (refused.kind, refused.sqlstate) == ("E", "08P01")


def test_who_answers_the_error_is_refused(doorman: Doorman) -> None:
    with begin(doorman, "alice") as client:
        client.send(initial(shown("bad")))
        client.read()
        client.send(message("p", shown("good-alice")))
        assert client.read().sqlstate == "08P01"


def test_a_validator_that_does_not_answer_keeps_nobody_else_waiting(doorman: Doorman) -> None:
    refused: list[Message] = []
    threads = [
        threading.Thread(target=lambda: refused.append(ask(doorman, "slow", shown("good-slow")))) for _ in range(3)
    ]
    before = len(doorman.log_lines)
    with doorman.connect() as connection:
        for thread in threads:
            thread.start()
        begun = time.monotonic()
        while any(thread.is_alive() for thread in threads) and time.monotonic() - begun < 1:
            assert connection.execute("SELECT 1").fetchone() == (1,)
        for thread in threads:
            thread.join(patience(15))
    assert [one.fields["M"] for one in refused] == ['OAuth bearer authentication failed for user "slow"'] * 3
    doorman.wait_log("has not ended in time|has not answered within auth_timeout", after=before)


def test_without_a_command_the_method_is_refused(doorman: Doorman, tmp_path: Path) -> None:
    from pgdoorman_lib.check import check
    from pgdoorman_lib.config.loader import loads
    from pgdoorman_lib.errors import ConfigError

    general = '[general]\nadmin_username = "a"\nadmin_password = "console"\n[pools]\n'
    rule = 'pg_hba = "host all all all oauth issuer=https://i scope=s"\n'
    for command, problem in (
        ("", "needs general.oauth_validator_command"),
        ('oauth_validator_command = ["validate"]\n', "found 'validate', expected the absolute path"),
        (f'oauth_validator_command = ["{tmp_path}"]\n', "expected the absolute path of a file that may be run"),
    ):
        with pytest.raises(ConfigError, match=problem):
            check(loads(general.replace("[pools]", rule + command + "[pools]")))
