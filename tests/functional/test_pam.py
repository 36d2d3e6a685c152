"""PAM judges passwords, by pg_hba's method and by ``auth_pam_service``: a real stack of its modules."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest
from eventually import eventually
from fix_doorman import Doorman, MakeDoorman, app_pool, app_user
from fix_postgres import Postgres, server_user
from pam_stack import PamStack
from wire_client import startup

RULES = """
host passed all 127.0.0.1/32 pam pamservice=doors
host pgdoorman operator 127.0.0.1/32 pam pamservice=doors
host other all 127.0.0.1/32 pam pamservice=other_doors
host broken all 127.0.0.1/32 pam pamservice=broken
host missing all 127.0.0.1/32 pam pamservice=no_such_doors
host named all 127.0.0.1/32 pam pamservice=doors pam_use_hostname=1
host all all 127.0.0.1/32 scram-sha-256
"""


@pytest.fixture
def pam(tmp_path: Path) -> Iterator[PamStack]:
    stack = PamStack(tmp_path, "doors", "other_doors")
    stack.set_password("app_two", Postgres.PASSWORDS["app_two"])
    stack.set_password("app", "by pam alone")
    stack.set_password("stranger", "right")
    stack.set_password("operator", "right")
    stack.write("broken", "auth required pam_no_such_module.so\n")
    yield stack
    stack.open()


def config(postgres: Postgres, pam: PamStack, **general: Any) -> dict[str, Any]:
    """``passed``: what is told goes on to the server; ``own``: who asks PAM is the user's affair."""
    passed = {"username": "app_two", "password": "", "pool_size": 2}
    judged = app_user(postgres, 2, password="", auth_pam_service="doors")
    return {
        "general": {
            "auth_pam_confdir": str(pam.directory),
            "pg_hba": {"content": RULES},
            "admin_users": ["operator"],
            **general,
        },
        "pools": {
            "passed": app_pool(postgres, users=[passed, app_user(postgres, 2)]),
            "other": app_pool(postgres, users=[passed]),
            "broken": app_pool(postgres, users=[passed]),
            "named": app_pool(postgres, users=[passed]),
            "missing": app_pool(postgres, users=[passed]),
            "own": app_pool(postgres, users=[judged, app_user(postgres, 1, username="operator", password="unused")]),
        },
    }


@pytest.fixture
def pam_doorman(make_doorman: MakeDoorman, postgres: Postgres, pam: PamStack) -> Doorman:
    return make_doorman(config(postgres, pam))


def test_what_is_told_goes_on_to_the_server(pam_doorman: Doorman, pam: PamStack) -> None:
    with pam_doorman.connect(dbname="passed", user="app_two") as connection:
        assert server_user(connection) == "app_two"
    assert pam.asked == ["doors app_two 127.0.0.1"]


def test_a_server_password_comes_first(pam_doorman: Doorman) -> None:
    with pam_doorman.connect(dbname="passed", user="app", password="by pam alone") as connection:
        assert server_user(connection) == "app"
    assert 'PAM authentication failed for user "app"' in pam_doorman.refusal(dbname="passed", user="app")


@pytest.mark.parametrize(
    ("user", "password"),
    [("app_two", "wrong"), ("app_two", "x" * 600), ("stranger", "right"), ("stranger", "wrong"), ("nobody", "wrong")],
)
def test_nobody_else_gets_in(pam_doorman: Doorman, pam: PamStack, user: str, password: str) -> None:
    told = pam_doorman.refusal(dbname="passed", user=user, password=password)
    assert f'FATAL:  PAM authentication failed for user "{user}"' in told
    assert pam.asked == ([] if len(password) > 511 else [f"doors {user} 127.0.0.1"]), "whoever it is"


@pytest.mark.parametrize("user", ["app_two", "nobody"])
def test_an_empty_password_is_not_judged(pam_doorman: Doorman, pam: PamStack, user: str) -> None:
    pam.set_password(user, "")
    with pam_doorman.raw() as client:
        client.send(startup(user=user, database="passed"))
        assert client.read().body == b"\0\0\0\x03"
        client.send(b"p\0\0\0\x05\0")
        error = client.read()
        assert error.kind == "E" and error.sqlstate == "28000"
        assert error.fields["M"] == f'PAM authentication failed for user "{user}"'
    assert pam.asked == []


def test_an_account_may_be_locked(pam_doorman: Doorman, pam: PamStack) -> None:
    pam.lock("app_two")
    assert 'PAM authentication failed for user "app_two"' in pam_doorman.refusal(dbname="passed", user="app_two")
    pam_doorman.wait_log("pam_acct_mgmt")


def test_modules_may_be_told_a_name(pam_doorman: Doorman, pam: PamStack) -> None:
    pam_doorman.connect(dbname="named", user="app_two").close()
    assert pam.asked[0].split()[-1] != "127.0.0.1"


def test_a_user_may_have_a_service_of_his_own(pam_doorman: Doorman, pam: PamStack) -> None:
    with pam_doorman.connect(dbname="own", user="app", password="by pam alone") as connection:
        assert server_user(connection) == "app"
    told = pam_doorman.refusal(dbname="own", user="app")
    assert 'FATAL:  password authentication failed for user "app"' in told
    assert pam.asked == ["doors app 127.0.0.1"] * 2


def test_the_console(pam_doorman: Doorman) -> None:
    with pam_doorman.connect(dbname="pgdoorman", user="operator", password="right") as connection:
        assert connection.execute("SHOW VERSION").fetchall()
    told = pam_doorman.refusal(dbname="pgdoorman", user="operator", password="wrong")
    assert "PAM authentication failed" in told


def test_a_service_that_fails_lets_nobody_in(pam_doorman: Doorman) -> None:
    assert 'PAM authentication failed for user "app_two"' in pam_doorman.refusal(dbname="broken", user="app_two")
    pam_doorman.wait_log(r'WARN .*PAM service "broken": .*: nobody gets in by that')


def test_a_service_that_is_not_there_is_told_of(pam_doorman: Doorman, pam: PamStack) -> None:
    assert 'PAM authentication failed for user "app_two"' in pam_doorman.refusal(dbname="missing", user="app_two")
    pam_doorman.wait_log(
        rf'"no_such_doors" \(not in {pam.directory}: the service "other" was asked\): pam_authenticate'
    )


def test_a_slow_service_holds_up_nobody_else(pam_doorman: Doorman, pam: PamStack) -> None:
    pam.close()
    with ThreadPoolExecutor(3) as several:
        slow = [several.submit(pam_doorman.connect, dbname="passed", user="app_two") for _ in range(3)]
        eventually(lambda: len(pam.asked) == 3)
        with pam_doorman.connect(dbname="testdb") as connection:
            assert server_user(connection) == "app"
        assert not any(login.done() for login in slow)
        pam.open()
        for login in slow:
            with login.result() as connection:
                assert server_user(connection) == "app_two"


def test_a_line_stands_before_one_service_alone(make_doorman: MakeDoorman, postgres: Postgres, pam: PamStack) -> None:
    doorman = make_doorman(config(postgres, pam, worker_threads=1, max_concurrent_auths=1, auth_timeout="1s"))
    pam.close()
    with ThreadPoolExecutor(3) as several:
        first = several.submit(doorman.refusal, dbname="passed", user="app_two")
        eventually(lambda: len(pam.asked) == 1)
        second = several.submit(doorman.refusal, dbname="passed", user="app_two")
        third = several.submit(doorman.refusal, dbname="other", user="app_two")
        for login in (first, second, third):
            assert 'PAM authentication failed for user "app_two"' in login.result()
    assert pam.asked == ["doors app_two 127.0.0.1", "other_doors app_two 127.0.0.1"]
    doorman.wait_log(r'PAM service "doors" has not answered within auth_timeout \(1 s\)')
    doorman.wait_log(r'PAM service "doors" has others to answer who came before')
    pam.open()
    eventually(lambda: not refused_or_none(doorman))


def refused_or_none(doorman: Doorman) -> str:
    """What is said to one who tries again."""
    try:
        doorman.connect(dbname="passed", user="app_two").close()
    except psycopg.OperationalError as exc:
        return str(exc)
    return ""


def test_who_goes_away_is_not_asked_about(make_doorman: MakeDoorman, postgres: Postgres, pam: PamStack) -> None:
    doorman = make_doorman(config(postgres, pam, worker_threads=1, max_concurrent_auths=1))
    pam.close()
    with ThreadPoolExecutor(1) as several:
        first = several.submit(doorman.connect, dbname="passed", user="app_two")
        eventually(lambda: len(pam.asked) == 1)
        before = doorman.open_files()
        for _ in range(5):
            with doorman.raw() as client:
                client.send(startup(user="nobody", database="passed"))
                assert client.read().body == b"\0\0\0\x03"
                client.send(b"p\0\0\0\x08abc\0")
        eventually(lambda: doorman.open_files() <= before, message="they are gone before they could be asked about")
        pam.open()
        first.result().close()
    doorman.connect(dbname="passed", user="app_two").close()
    assert pam.asked == ["doors app_two 127.0.0.1"] * 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_nobody_keeps_the_pooler_from_its_end(pam_doorman: Doorman, pam: PamStack, number: signal.Signals) -> None:
    pam.close()
    with ThreadPoolExecutor(1) as several:
        login = several.submit(pam_doorman.refusal, dbname="passed", user="app_two")
        eventually(lambda: pam.asked)
        pam_doorman.send_signal(number)
        eventually(lambda: not pam_doorman.running)
        assert login.result()
    pam.open()  # the module's own process, which nobody else can end
    pam_doorman.ended_by_test = True


def test_a_reload_changes_who_judges(pam_doorman: Doorman, pam: PamStack) -> None:
    held = pam_doorman.connect(dbname="passed", user="app_two")
    pam_doorman.config["general"]["pg_hba"] = {"content": RULES.replace("pamservice=doors", "pamservice=other_doors")}
    pam_doorman.reload(pam_doorman.config)
    pam_doorman.connect(dbname="passed", user="app_two").close()
    assert pam.asked == ["doors app_two 127.0.0.1", "other_doors app_two 127.0.0.1"]
    pam_doorman.config["general"]["pg_hba"] = {"content": "host all all 127.0.0.1/32 scram-sha-256\n"}
    pam_doorman.reload(pam_doorman.config)
    told = pam_doorman.refusal(dbname="passed", user="app_two")
    assert 'password authentication failed for user "app_two"' in told
    assert server_user(held) == "app_two"
    held.close()
    assert len(pam.asked) == 2


@pytest.mark.parametrize("workers", [1, 2])
def test_an_upgrade_takes_what_was_told_along(
    make_doorman: MakeDoorman, postgres: Postgres, pam: PamStack, workers: int
) -> None:
    doorman = make_doorman(config(postgres, pam, worker_threads=workers))
    with doorman.connect(dbname="passed", user="app_two") as held:
        assert server_user(held) == "app_two"
        doorman.upgrade_by_console()
        assert server_user(held) == "app_two"
        doorman.admin("RECONNECT")
        assert server_user(held) == "app_two", "a server can be opened there, too"
        with doorman.connect(dbname="passed", user="app_two") as another:
            assert server_user(another) == "app_two"
    assert len(pam.asked) == 2


def test_the_package_is_asked_for_at_the_start(
    make_doorman: MakeDoorman, postgres: Postgres, pam: PamStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "hides").mkdir()
    (tmp_path / "hides" / "pamela.py").write_text("raise ModuleNotFoundError('pamela')\n")
    doorman = make_doorman(config(postgres, pam), start=False)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "hides"), prepend=":")
    doorman.start(wait=False)
    assert doorman.process is not None
    assert doorman.process.wait(60) == 78
    doorman.ended_by_test = True
    assert "PAM needs the package pamela: pip install 'pgdoorman[pam]'" in doorman.log_text()
