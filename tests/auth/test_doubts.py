"""What is said of rules and users that are right, and likely meant otherwise."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pgdoorman_lib.auth.doubts import doubts
from pgdoorman_lib.config import loader

TEXT = """[general]
admin_username = "admin"
admin_password = "a password"
oauth_validator_command = ["/bin/true"]
auth_pam_confdir = "{services}"
{general}
[pools.db]
[[pools.db.users]]
username = "alice"
password = ""
pool_size = 1
{user}
"""
#: Any file will do: it is only looked at later.
TLS = f'tls_certificate = "{__file__}"\ntls_private_key = "{__file__}"\n'
Told = Callable[..., list[str]]


@pytest.fixture
def told(tmp_path: Path) -> Told:
    (tmp_path / "there").write_text("auth required pam_deny.so\n")

    def of(rule: str = "", general: str = "", user: str = "") -> list[str]:
        rules = f"pg_hba = '''\n{rule}\n'''\n" if rule else ""
        return doubts(loader.loads(TEXT.format(services=tmp_path, general=general + rules, user=user)))

    return of


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ("hostssl all all all md5", "general.pg_hba, line 1: hostssl is for nobody"),
        ("host all all 10.0.0.0/8 pam pamservice=there", "line 1: pam has clients tell passwords over the network"),
        ("host all all all jwt", "jwt has clients tell tokens over the network in clear"),
        ("hostnossl all all samenet oauth issuer=https://i scope=s", "oauth has clients tell tokens"),
        ("local all all ldap ldapserver=ldap1 ldapprefix=x", "LDAP server ldap1:389 is told passwords in clear"),
        ("local all all pam pamservice=gone", 'line 1: PAM service "gone" is not in'),
        ("local all all pam", 'PAM service "postgresql" is not in'),
    ],
)
def test_of_rules(told: Told, rule: str, text: str) -> None:
    (found,) = told(rule)
    assert text in found


@pytest.mark.parametrize(
    "rule",
    [
        "host all all all scram-sha-256",
        "host all all 127.0.0.1/32 pam pamservice=there",
        "local all all pam pamservice=there",
        "local all all ldap ldapserver=ldap1 ldaptls=1 ldapprefix=x",
        "local all all ldap ldapserver=ldap1 ldapscheme=ldaps ldapprefix=x",
        "local all all ldap ldapserver=localhost ldapprefix=x",
    ],
)
def test_of_these_nothing(told: Told, rule: str) -> None:
    assert told(rule) == []


def test_of_tls(told: Told, tmp_path: Path) -> None:
    assert told("hostssl all all all jwt", TLS) == []
    assert told("host all all all jwt", TLS + 'tls_mode = "require"\n') == []
    (found,) = told("hostssl all all all md5", TLS + 'tls_mode = "disable"\n')
    assert "hostssl is for nobody" in found


def test_of_users_whom_pam_judges(told: Told) -> None:
    service = 'auth_pam_service = "there"'
    (found,) = told(user=service)
    assert "general.tls_mode: 'allow' lets users with auth_pam_service tell their passwords" in found
    assert told(user=service, general=TLS + 'tls_mode = "require"\n') == []
    assert told("local all all md5", user=service) == []
    (found,) = told("local all all md5", user='auth_pam_service = "gone"')
    assert found.startswith("pools.db: user 'alice': PAM service \"gone\" is not in")
