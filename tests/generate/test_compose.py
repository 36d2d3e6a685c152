"""What is written of a server's roles and databases, and what is left out."""

from __future__ import annotations

from typing import Any

import pytest

from pgdoorman_lib.auth import hba
from pgdoorman_lib.config.loader import loads
from pgdoorman_lib.config.model import Config
from pgdoorman_lib.generate.compose import compose
from pgdoorman_lib.generate.survey import Role, Survey

MD5 = "md5" + "0" * 32


def made(form: str = "toml", *, roles: tuple[Role, ...], databases: tuple[str, ...] = ("db",), **more: Any):
    options: dict[str, Any] = {
        "server_host": "pg", "server_port": 5433, "tls": False, "trusted": True, "pool_size": 3,
        "pool_mode": "session", "form": form, "comments": True, "source": "Written by a test.", **more,
    }  # fmt: skip
    text, notes = compose(Survey(roles, databases), **options)
    return loads(text, f"file.{form}"), notes


def rule_for(config: Config, user: str, address: str, database: str = "db") -> str | None:
    gate = hba.gate((), config.general.pg_hba)
    return gate.admit(is_unix=not address, tls=False, address=address, database=database, user=user).method


@pytest.mark.parametrize("form", ["toml", "yaml"])
def test_names_of_every_kind(form: str) -> None:
    names = ["a b", "null", "12", 'q"uote', "back\\slash", "l\nine", "ctrl\x01\x7f\x85", "é𝄞", "a.b", "[x]", "#", "'''"]
    roles = tuple(Role(name, MD5) for name in names)
    config, notes = made(form, roles=roles, databases=tuple(names))
    assert list(config.pools) == names
    for name, pool in config.pools.items():
        assert (pool.server_database, pool.server_host, pool.server_port, pool.pool_mode) == (
            name,
            ("pg",),
            (5433,),
            "session",
        )
        assert [(user.username, user.password, user.pool_size) for user in pool.users] == [(n, MD5, 3) for n in names]
    assert notes == []
    assert config.warnings == ()


@pytest.mark.parametrize("form", ["toml", "yaml"])
def test_roles_without_a_password_are_trusted_from_here_alone(form: str) -> None:
    names = ['q"uote', "back\\slash", "all", "a b", "+x", "@x", "é"]
    odd = ("/x", "l\nine", "it'''s", "ends\\")
    roles = (*(Role(name, None) for name in (*names, *odd)), Role("proven", MD5))
    config, notes = made(form, roles=roles)
    assert [user.username for user in config.pools["db"].users] == [*names, "proven"]
    assert len(notes) == len(odd)
    for name in names:
        for address in ("", "127.0.0.1", "::1"):
            assert rule_for(config, name, address) == "trust"
            assert rule_for(config, name, address, "pgdoorman") == rule_for(config, name, address, "pgbouncer") == "md5"
        assert rule_for(config, name, "192.0.2.1") == "md5"
    for address in ("", "127.0.0.1", "192.0.2.1"):
        assert rule_for(config, "proven", address) == "md5"
    config, notes = made(form, roles=roles, trusted=False)
    assert [user.username for user in config.pools["db"].users] == ["proven"]
    assert config.general.pg_hba is None


def test_what_nobody_could_ask_for_is_left_out() -> None:
    roles = (Role("old", MD5, expired=True), Role("new", MD5))
    config, notes = made(roles=roles, databases=("pgdoorman", "pgbouncer", "*", "db"))
    assert list(config.pools) == ["db"]
    assert [user.username for user in config.pools["db"].users] == ["new"]
    assert len(notes) == 4 and all("left out" in note for note in notes)


def test_no_roles_and_no_databases() -> None:
    config, _ = made(roles=(), databases=("db",))
    assert config.pools["db"].users == ()
