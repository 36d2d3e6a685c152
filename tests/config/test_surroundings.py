"""What is odd about the machine a configuration is to run on."""

from __future__ import annotations

import os

import pytest
from token_keys import write_pair

from pgdoorman_lib.config import loader, surroundings

TEXT = '[general]\nadmin_username = "admin"\nadmin_password = "a password"\n[pools]\n'


@pytest.fixture
def notices(monkeypatch, tmp_path):
    """What is said of a configuration with these lines added, read as somebody else than root."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    def of(general: str = "", more: str = "", mode: int = 0o600) -> list[str]:
        path = tmp_path / "f.toml"
        path.write_text(TEXT.replace("[pools]", f"{general}\n[pools]\n{more}"))
        path.chmod(mode)
        return surroundings.notices(loader.load(str(path)))

    return of


def test_nothing_odd(notices, tmp_path):
    assert notices() == []
    assert notices(f"unix_socket_dir = '{tmp_path}'", mode=0o640) == []


def test_root(notices, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert notices() == ["running as root, which is never needed: give the process a user of its own"]


def test_the_directory_of_the_socket(notices, tmp_path, monkeypatch):
    (text,) = notices(f"unix_socket_dir = '{tmp_path}/gone'")
    assert "is not there" in text
    (tmp_path / "file").write_text("")
    (text,) = notices(f"unix_socket_dir = '{tmp_path}/file'")
    assert "no directory" in text
    long = tmp_path / ("x" * 100)
    long.mkdir()
    (text,) = notices(f"unix_socket_dir = '{long}'")
    assert "too long" in text
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    (text,) = notices(f"unix_socket_dir = '{tmp_path}'")
    assert "can't be written to by user 1000" in text


def test_only_files_with_secrets_need_to_be_hidden(notices, tmp_path):
    assert notices(mode=0o604) == [
        f"{tmp_path}/f.toml holds secrets and can be read by everybody: chmod o-r {tmp_path}/f.toml"
    ]
    open_file, secret = tmp_path / "open.toml", tmp_path / "secret.toml"
    open_file.write_text("[general]\nport = 7000\n")
    secret.write_text("[[pools.db.users]]\nusername = 'u'\npassword = 'p'\npool_size = 1\n")
    for file in (open_file, secret):
        file.chmod(0o644)
    (text,) = notices(more=f"[include]\nfiles = ['{open_file}', '{secret}']")
    assert text.startswith(f"{secret} holds secrets")


def test_private_keys(notices, tmp_path):
    key = tmp_path / "server.key"
    key.write_text("")
    key.chmod(0o644)
    for side in ("", "server_"):
        lines = f"{side}tls_private_key = '{key}'\n{side}tls_certificate = '{key}'"
        (text,) = notices(lines)
        assert text.startswith(f"{key} holds secrets")
    key.chmod(0o640)
    assert notices(lines) == []


def test_keys_of_tokens_and_passwords_for_ldap(notices, tmp_path):
    public, private = write_pair(tmp_path, "token")
    rules = tmp_path / "pg_hba.conf"
    rules.write_text("local all all ldap ldapserver=l ldapbasedn=d ldapbinddn=n ldapbindpasswd=s3cret\n")
    users = (
        f"[[pools.db.users]]\nusername = 'u'\npassword = 'jwt-pkey-fpath:{public}'\npool_size = 1\n"
        f"server_username = 's'\nserver_password = 'jwt-priv-key-fpath:{private}'"
    )
    for file in (public, private, rules):
        file.chmod(0o644)
    texts = notices(f"tls_mode = 'disable'\npg_hba = {{ path = '{rules}' }}", users)
    assert [text.split()[0] for text in texts] == [str(private), str(rules)]
    rules.write_text("local all all md5\n")
    private.chmod(0o600)
    assert notices(f"tls_mode = 'disable'\npg_hba = {{ path = '{rules}' }}", users) == []
