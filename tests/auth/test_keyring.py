"""Who judges whose tokens, and how users without a key look where tokens are asked for."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

import pytest
from token_keys import token_for, write_pair

from pgdoorman_lib.auth.clear_text import Claim
from pgdoorman_lib.auth.judges import configured_judge
from pgdoorman_lib.auth.keyring import Keyring
from pgdoorman_lib.auth.tokens import JWT
from pgdoorman_lib.auth.users import Users
from pgdoorman_lib.config.loader import loads
from pgdoorman_lib.config.model import Config
from pgdoorman_lib.errors import Refusal

USER = '[[pools.{}.users]]\nusername = "{}"\npassword = "{}"\npool_size = 1\n'


@pytest.fixture
def config(tmp_path: Path) -> Config:
    for number, name in enumerate(("first", "second")):
        write_pair(tmp_path, name, number=number)
    first, second = (f"jwt-pkey-fpath:{tmp_path / name}.pem" for name in ("first", "second"))
    users = [("a", "alice", first), ("a", "bob", second), ("a", "carol", first), ("b", "dora", "a password")]
    general = '[general]\nadmin_username = "admin"\nadmin_password = "console"\ntls_mode = "allow"\njwt_leeway = 0\n'
    return loads(general + "[pools.a]\n[pools.b]\n" + "".join(USER.format(*user) for user in users))


def claim(user: str, token: str) -> Claim:
    return Claim(user, "a", token.encode(), "127.0.0.1")


def users_of(config: Config) -> Users:  # type: ignore[type-arg]
    return Users(config.pools, b"k" * 32, partial(configured_judge, settings=None, keyring=Keyring(config)))


def test_everybody_by_his_own_key(config: Config) -> None:
    users = users_of(config)
    for user, number in (("alice", 0), ("bob", 1)):
        judge = users.judge("a", user)
        assert judge is not None and (judge.method, judge.passes_on, judge.line) == (JWT, False, "")
        judge.judge(claim(user, token_for(user, number=number)), 0.0)
        for wrong in (token_for(user, number=1 - number), token_for("carol", number=number), ""):
            with pytest.raises(Refusal):
                judge.judge(claim(user, wrong), 0.0)
    assert users.judge("b", "dora") is None


def test_who_is_not_there_is_asked_as_elsewhere_or_as_most_are(config: Config) -> None:
    users = users_of(config)
    assert users.judge("b", "bob") is users.judge("a", "bob")
    assert users.judge("nowhere", "bob") is users.judge("a", "bob")
    assert users.judge("a", "nobody") is users.judge("a", "alice")


def test_the_stand_in_looks_at_tokens_and_lets_nobody_in(config: Config) -> None:
    judge = Keyring(config).stand_in
    with pytest.raises(Refusal, match="has no key"):
        judge.judge(claim("dora", token_for("dora")), 0.0)
    with pytest.raises(Refusal, match="InvalidSignature"):
        judge.judge(claim("dora", token_for("dora", number=1)), 0.0)


def test_without_any_key_nobody_has_one() -> None:
    general = '[general]\nadmin_username = "admin"\nadmin_password = "console"\n[pools]\n'
    keyring = Keyring(loads(general))
    assert not keyring.talos
    with pytest.raises(Refusal, match="there is no key"):
        keyring.stand_in.judge(claim("alice", token_for("alice")), 0.0)


def test_the_configuration_says_how_closely_it_is_looked(config: Config, tmp_path: Path) -> None:
    text = (
        '[general]\nadmin_username = "admin"\nadmin_password = "console"\njwt_issuer = "https://i"\n'
        'jwt_audience = ["db"]\njwt_leeway = "1h"\n[pools.a]\n'
        + USER.format("a", "alice", f"jwt-pkey-fpath:{tmp_path / 'first.pem'}")
    )
    judge = users_of(loads(text)).judge("a", "alice")
    assert judge is not None
    judge.judge(claim("alice", token_for("alice", iss="https://i", aud="db", exp=int(time.time()) - 60)), 0.0)
    for claims in (
        {"aud": "db"},
        {"iss": "https://i"},
        {"iss": "https://i", "aud": "db", "exp": int(time.time()) - 7200},
    ):
        with pytest.raises(Refusal):
            judge.judge(claim("alice", token_for("alice", **claims)), 0.0)
