"""The command line: exit codes, the config test, environment variables, and no password in any output."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import toml
from fix_certs import Certificates
from fix_doorman import Doorman, MakeDoorman, base_config, merged
from fix_postgres import Postgres
from pace import patience
from ports import free_port


def run(
    *arguments: str, cwd: Path, environment: dict[str, str] | None = None, timeout: float = patience(20)
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*Doorman.command(), *arguments],
        cwd=cwd,
        env=Doorman.environment() | (environment or {}),
        text=True,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=timeout,
    )


@pytest.fixture
def config(postgres: Postgres, tmp_path: Path) -> Path:
    path = tmp_path / "pg_doorman.toml"
    path.write_text(toml.dumps(base_config(postgres, free_port())))
    return path


def written(tmp_path: Path, postgres: Postgres, over: dict[str, Any]) -> Path:
    path = tmp_path / "changed.toml"
    path.write_text(toml.dumps(merged(base_config(postgres, free_port()), over)))
    return path


def test_version(tmp_path: Path) -> None:
    for option in ("-V", "--version"):
        done = run(option, cwd=tmp_path)
        assert done.returncode == 0
        assert done.stdout.startswith("pgdoorman ")
        if os.environ.get("PGDOORMAN_PURE"):
            assert "interpreted" in done.stdout


def test_help(tmp_path: Path) -> None:
    for option in ("-h", "--help"):
        done = run(option, cwd=tmp_path)
        assert done.returncode == 0
        for word in ("--log-level", "--log-format", "--no-color", "--test-config", "-V"):
            assert word in done.stdout


def test_the_installed_command(tmp_path: Path) -> None:
    command = shutil.which("pgdoorman", path=str(Path(sys.executable).parent))
    if command is None:
        pytest.skip("pgdoorman is not installed for this Python")
    done = subprocess.run([command, "-V"], cwd=tmp_path, capture_output=True, text=True, timeout=patience(20))
    assert (done.returncode, done.stdout[:10]) == (0, "pgdoorman ")


@pytest.mark.parametrize(
    "arguments", [["--nonsense"], ["-l", "loud"], ["-F", "debug2"], ["a.toml", "b.toml"]], ids=" ".join
)
def test_bad_arguments(tmp_path: Path, arguments: list[str]) -> None:
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert "usage" in done.stderr.lower()
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("option", ["-t", "--test-config"])
def test_a_good_file(config: Path, option: str) -> None:
    done = run(option, str(config), cwd=config.parent)
    assert done.returncode == 0, done.stderr
    assert "syntax is ok" in done.stdout
    assert "test is successful" in done.stdout


def test_the_default_file_and_the_one_of_the_environment(config: Path, tmp_path: Path) -> None:
    assert run("-t", cwd=config.parent).returncode == 0
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    assert run("-t", cwd=elsewhere).returncode == 78
    assert run("-t", cwd=elsewhere, environment={"CONFIG_FILE": str(config)}).returncode == 0


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "unknown key": ({"general": {"max_conections": 5}}, "max_connections"),
    "unknown key of a pool": ({"pools": {"testdb": {"pool_moed": "session"}}}, "pool_mode"),
    "unknown section": ({"genral": {"port": 1}}, "general"),
    "wrong type": ({"general": {"port": "many"}}, "port"),
    "wrong duration": ({"general": {"connect_timeout": "5 fortnights"}}, "connect_timeout"),
    "wrong mode": ({"pools": {"testdb": {"pool_mode": "statement"}}}, "pool_mode"),
    "missing key": ({"general": {"admin_username": None}}, "admin_username"),
    "min above size": (
        {
            "pools": {
                "testdb": {
                    "users": [{"username": "app", "password": "some secret", "pool_size": 2, "min_pool_size": 3}]
                }
            }
        },
        "min_pool_size",
    ),
    "certificate missing": ({"general": {"tls_private_key": "/nowhere.key"}}, "tls_certificate"),
    "certificate not readable": (
        {"general": {"tls_private_key": "/nowhere.key", "tls_certificate": "/nowhere.crt"}},
        "nowhere",
    ),
    "bad pg_hba": ({"general": {"pg_hba": {"content": "host all all nonsense trust"}}}, "pg_hba"),
    "both hba": ({"general": {"hba": ["10.0.0.0/8"], "pg_hba": "host all all all trust"}}, "pg_hba"),
    "a feature to come": ({"general": {"server_tls": True}}, "not supported yet"),
    "a rate that is none": ({"general": {"tls_rate_limit_per_second": 150}}, "tls rate limit should be multiple 100"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files(tmp_path: Path, postgres: Postgres, name: str) -> None:
    """Exit code 78; the text names the file and what is meant; serving says the same as testing."""
    over, named = BAD[name]
    path = written(tmp_path, postgres, over)
    for arguments in (["-t", str(path)], [str(path)]):
        done = run(*arguments, cwd=tmp_path)
        assert done.returncode == 78, done.stderr
        text = done.stdout + done.stderr
        assert named in text
        assert "Traceback" not in text
        assert path.name in text or "certificate" in name
        assert postgres.password("app") not in text
        assert "console-password" not in text


@pytest.mark.parametrize("content", ["no toml = [", "\x00\x01", "[general]\nport = 1\nport = 2\n"])
def test_files_that_are_no_toml(tmp_path: Path, content: str) -> None:
    path = tmp_path / "broken.toml"
    path.write_text(content)
    done = run("-t", str(path), cwd=tmp_path)
    assert done.returncode == 78
    assert "broken.toml" in done.stderr + done.stdout
    assert "Traceback" not in done.stderr


def test_a_key_without_effect_warns_once(tmp_path: Path, postgres: Postgres) -> None:
    path = written(tmp_path, postgres, {"general": {"worker_stack_size": 1000000, "virtual_pool_count": 1}})
    done = run("-t", str(path), cwd=tmp_path)
    assert done.returncode == 0
    text = done.stdout + done.stderr
    for key in ("worker_stack_size", "virtual_pool_count"):
        assert text.count(key) == 1


STRAY = {
    "general": {"pool_mode": "session", "max_client_conn": 5},
    "pools": {"testdb": {"pool_size": 3}},
    "extra": {"a": 1},
}


def test_unknown_names_are_all_told_and_lenient_only_warns(tmp_path: Path, postgres: Postgres) -> None:
    path = written(tmp_path, postgres, STRAY)
    for arguments in (["-t", str(path)], [str(path)]):
        done = run(*arguments, cwd=tmp_path)
        assert done.returncode == 78
        for name in ("general.pool_mode", "general.max_client_conn", "pools.testdb.pool_size", "extra"):
            assert f" {name}: unknown" in done.stderr
    lenient = written(tmp_path, postgres, merged(STRAY, {"general": {"strict_config": False}}))
    for arguments in (["-t", "--lenient", str(path)], ["-t", str(lenient)]):
        done = run(*arguments, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("(ignored)") == 4
        assert "test is successful" in done.stdout


def test_what_only_its_user_can_judge_is_told_at_once_too(
    tmp_path: Path, postgres: Postgres, certs: Certificates
) -> None:
    """Secrets, rules and certificates, each of which another part of the program reads."""
    user = {"username": "x", "password": "SCRAM-SHA-256$nonsense", "pool_size": 1}
    tls = {"tls_certificate": str(certs.server.certificate), "tls_private_key": str(certs.client.private_key)}
    over = {"general": {"pg_hba": {"content": "host all nonsense"}, **tls}, "pools": {"testdb": {"users": [user]}}}
    done = run("-t", str(written(tmp_path, postgres, over)), cwd=tmp_path)
    assert done.returncode == 78
    lines = done.stderr.splitlines()
    assert len(lines) == 3
    assert 'user "x"' in lines[0] and "pg_hba" in lines[1] and "tls_private_key" in lines[2]


def test_a_lenient_start_reloads_leniently(make_doorman: MakeDoorman, postgres: Postgres) -> None:
    doorman = make_doorman(STRAY, arguments=("--lenient",))
    doorman.wait_log(r"warn.*general\.pool_mode: unknown key.*\(ignored\)")
    with doorman.wire() as client:
        assert client.value("SELECT 1") == "1"
    before = len(doorman.log_lines)
    doorman.reload(merged(doorman.config, {"general": {"max_connections": 77}}))
    doorman.wait_log("configuration reloaded", after=before)
    assert {row["key"]: row["value"] for row in doorman.admin("SHOW CONFIG")}["max_connections"] == "77"


def test_what_has_become_odd_since_is_warned_of_once(make_doorman: MakeDoorman) -> None:
    doorman = make_doorman()
    doorman.config_path.chmod(0o600)
    doorman.reload()
    before = len(doorman.log_lines)
    doorman.config_path.chmod(0o644)
    doorman.reload()
    doorman.reload()
    told = [line for line in doorman.log_lines[before:] if "can be read by everybody" in line]
    assert len(told) == 1


def test_a_failed_reload_tells_every_problem(make_doorman: MakeDoorman) -> None:
    doorman = make_doorman()
    doorman.reload(merged(doorman.config, {"general": {"prot": 1, "pool_mode": "session", "port": "x"}}))
    for name in ("prot", "pool_mode", "port"):
        doorman.wait_log(rf"error.*reload failed.*general\.{name}: ")


def test_what_is_odd_around_is_warned_of(
    tmp_path: Path, postgres: Postgres, make_doorman: MakeDoorman, short_directory: Path
) -> None:
    """By -t, whose exit code stays 0, and at the start in the log."""
    scram = {"username": "app", "password": postgres.secret("app"), "pool_size": 2, "min_pool_size": 1}
    odd = {
        "general": {"unix_socket_dir": str(tmp_path / "gone"), "admin_password": "admin"},
        "pools": {"testdb": {"users": [scram]}},
    }
    path = written(tmp_path, postgres, odd)
    path.chmod(0o644)
    done = run("-t", str(path), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    patterns = [
        r"general\.unix_socket_dir: '.*gone' is not there",
        r"general\.admin_password: anybody can guess it",
        r"users\[0\]\.min_pool_size: the user's SCRAM secret alone",
        r"\.toml holds secrets and can be read by everybody",
    ]
    if os.geteuid() == 0:
        patterns.append("running as root")
    for pattern in patterns:
        assert re.search(f"pgdoorman: warning: .*{pattern}", done.stderr), pattern
    path.chmod(0o640)
    assert "can be read by everybody" not in run("-t", str(path), cwd=tmp_path).stderr
    doorman = make_doorman(merged(odd, {"general": {"unix_socket_dir": str(short_directory)}}))
    for pattern in patterns[1:]:
        doorman.wait_log(f"warn.*{pattern}")


@pytest.mark.parametrize("wrong", ["mismatched", "no certificate", "no key", "protected", "no authority"])
def test_tls_files_that_cannot_be_used_are_errors(
    tmp_path: Path, postgres: Postgres, certs: Certificates, wrong: str
) -> None:
    certificate, key, authority = certs.server.certificate, certs.server.private_key, certs.ca
    garbage = tmp_path / "garbage.pem"
    garbage.write_text("-----BEGIN NOTHING-----\n")
    if wrong == "mismatched":
        key = certs.client.private_key
    elif wrong == "no certificate":
        certificate = garbage
    elif wrong == "no key":
        key = garbage
    elif wrong == "protected":
        certificate, key = certs.protected.certificate, certs.protected.private_key
    else:
        authority = garbage
    for side in ("", "server_"):
        files = {"tls_certificate": certificate, "tls_private_key": key, "tls_ca_cert": authority}
        path = written(tmp_path, postgres, {"general": {side + name: str(file) for name, file in files.items()}})
        done = run("-t", str(path), cwd=tmp_path)
        assert done.returncode == 78
        assert f"{side}tls_" in done.stderr
        assert "Traceback" not in done.stderr


def test_a_port_in_use(tmp_path: Path, postgres: Postgres) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        path = written(tmp_path, postgres, {"general": {"port": taken.getsockname()[1]}})
        done = run(str(path), cwd=tmp_path)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "in use" in (done.stderr + done.stdout).lower()


def test_log_level(make_doorman: MakeDoorman) -> None:
    quiet = make_doorman(arguments=("-l", "error"))
    with quiet.wire() as client:
        client.ask_query("SELECT 1")
    quiet.stop()
    assert quiet.log_text() == ""
    loud = make_doorman(arguments=("--log-level", "debug"))
    with loud.wire() as client:
        client.ask_query("SELECT 1")
    loud.wait_log("debug")


def test_no_escape_codes_in_a_file(make_doorman: MakeDoorman) -> None:
    for arguments in ((), ("-n",), ("--no-color",)):
        doorman = make_doorman(arguments=arguments)
        doorman.stop(signal.SIGTERM)
        assert "\x1b" not in doorman.log_text()


def test_both_forms_of_users(make_doorman: MakeDoorman, postgres: Postgres) -> None:
    user = {"username": "app", "password": postgres.secret("app"), "pool_size": 2}
    doorman = make_doorman({"pools": {"testdb": {"users": {"0": user}}}})
    with doorman.wire() as client:
        assert client.value("SELECT current_user") == "app"


def test_yaml(make_doorman: MakeDoorman, postgres: Postgres, tmp_path: Path) -> None:
    """A file of its own, tested and served; one included from TOML."""
    pool = f"    server_host: {postgres.host}\n    server_port: {postgres.port}\n    server_database: testdb\n"
    user = f"    users:\n    - username: app\n      password: '{postgres.secret('app')}'\n      pool_size: 2\n"
    extra = tmp_path / "extra.yml"
    extra.write_text("pools:\n  included:\n" + pool + user)
    doorman = make_doorman({"include": {"files": [str(extra)]}})
    with doorman.wire("included") as client:
        assert client.value("SELECT 1") == "1"
    whole = tmp_path / "pg_doorman.yaml"
    general = f"general:\n  port: {free_port()}\n  admin_username: admin\n  admin_password: a password\n"
    whole.write_text(general + extra.read_text())
    done = run("-t", str(whole), cwd=tmp_path)
    assert (done.returncode, "test is successful" in done.stdout) == (0, True), done.stderr
    whole.write_text(general + "  prot: 1\n" + extra.read_text().replace("pool_size: 2", "pool_size: two"))
    done = run(str(whole), cwd=tmp_path)
    assert done.returncode == 78
    assert f"{whole}:5: general.prot: unknown key; did you mean port?" in done.stderr
    assert f'{whole}:14: pools.included.users[0].pool_size: found "two"' in done.stderr


def test_includes(make_doorman: MakeDoorman, postgres: Postgres, tmp_path: Path) -> None:
    extra = tmp_path / "extra.toml"
    pool = base_config(postgres, 0)["pools"]["testdb"]
    extra.write_text(toml.dumps({"pools": {"included": pool}}))
    doorman = make_doorman({"include": {"files": [str(extra)]}})
    with doorman.wire("included") as client:
        assert client.value("SELECT 1") == "1"
