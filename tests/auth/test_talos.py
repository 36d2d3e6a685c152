"""[talos]: which user of which pool a token makes of whoever shows it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from token_keys import in_an_hour, pair, public_pem, signed, talos_token, token_for

from pgdoorman_lib.auth.talos import ROLES, Talos, Visitor
from pgdoorman_lib.auth.tokens import public_key
from pgdoorman_lib.errors import Refusal

KEYS = {name: public_key(public_pem(pair("rsa", number)), name) for number, name in enumerate(("first", "second"))}
TALOS = Talos(KEYS, ("billing", "inventory"), 0.0)


def access(**roles: list[str]) -> dict[str, object]:
    return {f"postgres.stg:{database}": {"roles": found} for database, found in roles.items()}


def role(granted: object, database: str = "billing", kid: str = "first", number: int = 0, **claims: object) -> str:
    return TALOS.judge(talos_token(kid, granted, number, **claims).encode(), database).role


@given(st.lists(st.sampled_from(ROLES), min_size=1, max_size=5))
def test_the_highest_role_counts(roles: list[str]) -> None:
    assert role(access(billing=roles)) == min(roles, key=ROLES.index)


def test_every_resource_of_that_database_counts() -> None:
    granted = access(billing=["read_only"]) | {"postgres.prod:billing": {"roles": ["read_write"]}}
    assert role(granted) == "read_write"


def test_a_role_in_another_database_is_none_here() -> None:
    granted = access(billing=["read_only"], inventory=["owner"])
    assert role(granted) == "read_only"
    assert role(granted, "inventory") == "owner"
    with pytest.raises(Refusal, match="no role in this database"):
        role(access(inventory=["owner"]))


def test_a_database_that_is_not_of_talos_lets_nobody_in() -> None:
    with pytest.raises(Refusal, match=r"not one of talos\.databases"):
        role(access(other=["owner"]), "other")


def test_the_kid_says_which_key() -> None:
    assert role(access(billing=["owner"]), kid="second", number=1) == "owner"
    with pytest.raises(Refusal, match="InvalidSignatureError"):
        role(access(billing=["owner"]), kid="second", number=0)


@pytest.mark.parametrize(
    "kid", ["third", "../first", "first.pem", "/etc/first", "FIRST", " first", "first\0", "x" * 5000]
)
def test_no_other_kid_leads_to_a_key(kid: str) -> None:
    with pytest.raises(Refusal, match="no key of") as refused:
        role(access(billing=["owner"]), kid=kid)
    assert len(str(refused.value)) < 600 and str(refused.value).isprintable()


@pytest.mark.parametrize(
    "granted",
    [
        None,
        [],
        "postgres:billing",
        {},
        {"billing": {"roles": ["owner"]}},
        {"postgres:billing": ["owner"]},
        {"postgres:billing": {}},
        {"postgres:billing": {"roles": "owner"}},
        {"postgres:billing": {"roles": [["owner"]]}},
        {"postgres:billing": {"roles": []}},
        {"postgres:billing": {"roles": ["superuser"]}},
        {"postgres:billing": {"roles": ["owner", "superuser"]}},
        {"postgres:billing:x": {"roles": ["owner"]}},
        {"postgres:Billing": {"roles": ["owner"]}},
    ],
)
def test_what_grants_nothing(granted: object) -> None:
    with pytest.raises(Refusal):
        role(granted)


@pytest.mark.parametrize("client_id", [None, 5, "a\0b", "a\nb", "\ud800"])
def test_a_name_that_is_none(client_id: object) -> None:
    with pytest.raises(Refusal):
        role(access(billing=["owner"]), clientId=client_id)


def test_whom_the_token_is_of() -> None:
    token = talos_token("first", access(billing=["owner"]), clientId="billing-service")
    assert TALOS.judge(token.encode(), "billing") == Visitor("owner", "billing-service")


@pytest.mark.parametrize("claims", [{"exp": 1}, {"exp": None}, {"nbf": 2**40}, {"exp": "x"}])
def test_its_times_count(claims: dict[str, object]) -> None:
    with pytest.raises(Refusal):
        role(access(billing=["owner"]), **claims)


def test_a_token_of_another_kind_is_none() -> None:
    with pytest.raises(Refusal):
        TALOS.judge(token_for("owner").encode(), "billing")
    with pytest.raises(Refusal):
        TALOS.judge(token_for("owner", headers={"kid": "first"}).encode(), "billing")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(ROLES) | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["roles", "x:billing", "x:inventory", ":billing", "billing"]), inner, max_size=3
        )
    ),
    max_leaves=8,
)


@given(JSON, JSON, JSON)
def test_whatever_an_issuer_writes(granted: object, client_id: object, kid: object) -> None:
    """It is a refusal, or one of the roles, and a name that may stand in a message and in the log."""
    claims = {"clientId": client_id, "exp": in_an_hour(), "resource_access": granted}
    token = signed({"alg": "RS256", "kid": kid}, json.dumps(claims).encode())
    with pytest.raises(Refusal):
        TALOS.judge(token.encode(), "billing")
    token = signed({"alg": "RS256", "kid": "first"}, json.dumps(claims).encode())
    try:
        found = TALOS.judge(token.encode(), "billing")
    except Refusal as refusal:
        assert str(refusal).isprintable()
        return
    assert found.role in ROLES and found.client_id.isprintable()
    assert isinstance(granted, dict) and any(resource.endswith(":billing") for resource in granted)
