"""How descriptors are divided, and what is said of strangers how often."""

from __future__ import annotations

import resource

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgdoorman_lib.client.places import CONSOLE_PLACES, LOGINS_LEAST, OTHERS, needed, raise_limit, share
from pgdoorman_lib.client.strangers import MAX_ADDRESSES, OncePerAddress


@given(st.integers(64, 1 << 20), st.integers(0, 5000), st.integers(1, 20000), st.integers(1, 20000))
def test_what_is_there_is_never_given_twice(limit: int, servers: int, clients: int, logins: int) -> None:
    shares = share(limit, servers, clients, logins)
    assert 1 <= shares.clients <= clients
    kept = limit - shares.connections
    assert kept >= min(servers + OTHERS, limit // 4)
    if limit >= needed(servers, clients, logins):
        assert shares.clients == clients
        assert shares.connections >= clients + CONSOLE_PLACES + logins
    else:
        assert shares.clients + CONSOLE_PLACES + min(logins, LOGINS_LEAST) <= shares.connections


def test_few_descriptors() -> None:
    assert share(1024, servers=40, clients=8192, logins=8192).clients == 1024 - 40 - 64 - 115 - 3
    assert share(300, servers=45, clients=1000, logins=1000).connections == 300 - 45 - 64
    assert share(100, servers=1000, clients=1000, logins=1000).connections == 50


@pytest.mark.parametrize(
    ("limits", "wanted", "allowed", "after"),
    [
        ((1024, 4096), 1000, 1024, None),
        ((1024, 4096), 2000, 2000, (2000, 4096)),
        ((1024, 4096), 9000, 4096, (4096, 4096)),
        ((1024, resource.RLIM_INFINITY), 9000, 9000, (9000, resource.RLIM_INFINITY)),
        ((resource.RLIM_INFINITY, resource.RLIM_INFINITY), 9000, 1 << 30, None),
    ],
)
def test_the_limit_is_raised_as_far_as_it_is_needed(
    monkeypatch: pytest.MonkeyPatch,
    limits: tuple[int, int],
    wanted: int,
    allowed: int,
    after: tuple[int, int] | None,
) -> None:
    raised: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda what: limits)
    monkeypatch.setattr(resource, "setrlimit", lambda what, new: raised.append(new))
    assert raise_limit(wanted) == allowed
    assert raised == ([after] if after else [])


def test_once_per_address() -> None:
    said = OncePerAddress(60.0)
    assert said.is_due("192.0.2.1", 0.0)
    assert not said.is_due("192.0.2.1", 59.0)
    assert said.is_due("192.0.2.2", 59.0)
    assert said.is_due("192.0.2.1", 60.0)
    assert not said.is_due("192.0.2.1", 119.0)
    for number in range(MAX_ADDRESSES):
        assert said.is_due(f"2001:db8::{number:x}", 119.0)
    assert len(said._said) <= MAX_ADDRESSES
