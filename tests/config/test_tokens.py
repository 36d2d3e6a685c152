"""Keys in the place of passwords: which files they are in, what is refused, and what a reload tells of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from token_keys import pair, private_pem, public_pem, write_pair

from pgdoorman_lib.auth.keyring import Keyring
from pgdoorman_lib.check import check
from pgdoorman_lib.config import loader
from pgdoorman_lib.config.diff import diff
from pgdoorman_lib.config.model import Config, show_rows
from pgdoorman_lib.errors import ConfigError

GENERAL = '[general]\nadmin_username = "admin"\nadmin_password = "adm1n-s3cret"\ntls_mode = "allow"\n'


def read(user: str = "", *, general: str = "", pool: str = "", more: str = "") -> Config:
    text = f"{GENERAL}{general}\n[pools.db]\n{pool}\n[[pools.db.users]]\n"
    text += f'username = "alice"\npool_size = 1\n{user}\n{more}\n'
    return loader.loads(text, "pg_doorman.toml")


def refusal(user: str = 'password = ""', **sections: str) -> str:
    with pytest.raises(ConfigError) as caught:
        check(read(user, **sections))
    assert "s3cret" not in caught.value.message
    return caught.value.message


def test_what_looks_like_a_path_of_a_key_and_is_none_is_warned_of() -> None:
    warnings = read(
        'password = "jwt-pkey-path:/s3cret.pem"', more='server_username = "s"\nserver_password = "x"'
    ).warnings
    (warning,) = (warning for warning in warnings if "jwt-" in warning)
    assert warning.endswith(
        'password: begins with "jwt-", and is taken as a password in plain text, as it is not jwt-pkey-fpath:PATH'
    ), warning


def by_token(path: Path) -> str:
    return f'password = "jwt-pkey-fpath:{path}"'


def to_servers(path: Path) -> str:
    return f'password = ""\nserver_username = "s"\nserver_password = "jwt-priv-key-fpath:{path}"'


def test_the_keys_are_read(tmp_path: Path) -> None:
    public, private = write_pair(tmp_path, "k")
    config = read(
        by_token(public) + f'\nserver_username = "s"\nserver_password = "jwt-priv-key-fpath:{private}"',
        more=f'[talos]\nkeys = ["{public}"]\ndatabases = ["db"]',
    )
    check(config)
    keyring = Keyring(config)
    assert dict(config.keys).keys() == {str(public), str(private)}
    assert keyring.public[str(public)].algorithm == keyring.private[str(private)].algorithm == "RS256"
    assert keyring.talos and keyring.judge_of(config.pools["db"].users[0]) is not None
    assert "PRIVATE" not in repr(config)
    rows = {name: value for name, value, _, _ in show_rows(config)}
    assert rows["talos.databases"] == "db" and not any("fpath" in value for value in rows.values())


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    message = refusal(by_token(nowhere))
    assert message == (
        f"pg_doorman.toml:11: pools.db.users[0].password: Could not open '{nowhere}': No such file or directory"
    )
    assert "users[0].server_password: Could not open" in refusal(to_servers(nowhere))
    assert "talos.keys: Could not open" in refusal(more=f'[talos]\nkeys = ["{nowhere}"]\ndatabases = ["db"]')
    assert "Could not open" in refusal(by_token(tmp_path))


def test_a_file_that_is_no_key(tmp_path: Path) -> None:
    public, private = write_pair(tmp_path, "k")
    assert f'pool "db", user "alice": \'{private}\' has a private key' in refusal(by_token(private))
    assert f"user \"alice\": '{public}' is no private key" in refusal(to_servers(public))
    assert f"talos.keys: '{private}' has a private key" in refusal(more=f'[talos]\nkeys = ["{private}"]')
    public.write_bytes(b"x" * 70_000)
    assert "longer than 65536 bytes" in refusal(by_token(public))


def test_all_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    bad, worse = tmp_path / "bad", tmp_path / "worse"
    bad.write_bytes(b"")
    worse.write_bytes(public_pem(pair("p384")))
    lines = refusal(by_token(bad), more=f'[talos]\nkeys = ["{worse}"]\ndatabases = ["db"]').splitlines()
    assert len(lines) == 2 and all(line.startswith("pg_doorman.toml: ") for line in lines)


@pytest.mark.parametrize(
    ("user", "problem"),
    [
        ('password = "jwt-pkey-fpath:"', "password: found jwt-pkey-fpath: without a path"),
        ('password = "jwt-priv-key-fpath:/k"', "password: found jwt-priv-key-fpath:..., by which tokens for servers"),
        (
            'password = ""\nserver_username = "s"\nserver_password = "jwt-pkey-fpath:/k"',
            "server_password: found jwt-pkey-fpath:..., by which clients' tokens are checked; expected "
            "jwt-priv-key-fpath:PATH, or a password",
        ),
    ],
)
def test_the_wrong_key_in_the_wrong_place(user: str, problem: str) -> None:
    assert problem in refusal(user)


def test_the_console_takes_passwords_alone(tmp_path: Path) -> None:
    """Or the path of a key, which is no secret, would be one."""
    public, _ = write_pair(tmp_path, "k")
    assert "admin_users: found jwt-pkey-fpath:" in refusal(by_token(public), general='admin_users = ["alice"]')
    assert "stats_users: found jwt-pkey-fpath:" in refusal(by_token(public), general='stats_users = ["alice"]')
    text = GENERAL.replace("adm1n-s3cret", f"jwt-pkey-fpath:{public}") + "[pools]\n"
    with pytest.raises(
        ConfigError, match=r"admin_password: found jwt-pkey-fpath:\.\.\., by which .*; expected a password"
    ):
        loader.loads(text)


def test_two_keys_of_talos_by_one_name(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_pair(tmp_path / name, "k")
    keys = f'["{tmp_path}/a/k.pem", "{tmp_path}/b/k.pem"]'
    assert 'are both the key "k"' in refusal(more=f'[talos]\nkeys = {keys}\ndatabases = ["db"]')


def test_what_is_warned_of(tmp_path: Path) -> None:
    public, _ = write_pair(tmp_path, "k")
    (warning,) = read(by_token(public)).warnings
    assert "general.tls_mode: 'allow' lets clients send their tokens in clear" in warning
    config = read(
        by_token(public).replace("alice", "talos"),
        more=f'[talos]\nkeys = ["{public}"]\n[[pools.db.users]]\nusername = "talos"\npassword = ""\npool_size = 1',
    )
    assert [text.split(": ", 2)[1] for text in config.warnings] == ["talos.keys", "general.tls_mode", "pools.db"]


def test_tokens_to_servers_want_tls(tmp_path: Path) -> None:
    _, private = write_pair(tmp_path, "k")
    (warning,) = read(to_servers(private)).warnings
    assert "pools.db: with server_tls_mode = 'allow' its tokens may go to servers in clear" in warning
    assert not read(to_servers(private), pool='server_tls_mode = "require"').warnings
    assert not read(to_servers(private), pool='server_host = "/run/postgresql"').warnings
    looked_up = f'query = "SELECT f($1)"\nuser = "r"\npassword = "jwt-priv-key-fpath:{private}"'
    (warning,) = read('password = ""', more=f"[pools.db.auth_query]\n{looked_up}").warnings
    assert "may go to servers in clear" in warning


def test_another_key_in_the_same_file_is_told_of_and_rebuilds_no_pool(tmp_path: Path) -> None:
    public, private = write_pair(tmp_path, "k")
    user = by_token(public) + f'\nserver_username = "s"\nserver_password = "jwt-priv-key-fpath:{private}"'
    before = read(user)
    private.write_bytes(private_pem(pair("rsa", 1)))
    public.write_bytes(public_pem(pair("rsa", 1)))
    changes = diff(before, read(user))
    assert sorted(changes.files) == [str(private), str(public)]
    assert not changes.changed and not changes.removed


def test_talos_needs_no_restart(tmp_path: Path) -> None:
    public, _ = write_pair(tmp_path, "k")
    user = 'password = "x"'
    changes = diff(read(user), read(user, more=f'[talos]\nkeys = ["{public}"]\ndatabases = ["db"]'))
    assert changes.live == ("talos.keys", "talos.databases") and not changes.restart and not changes.changed
