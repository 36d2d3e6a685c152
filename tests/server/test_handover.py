"""Which pools take a server that another process has opened."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from core_fakes import running, server_pair

from pgdoorman_lib.config import loader
from pgdoorman_lib.config.effective import PoolSettings, effective
from pgdoorman_lib.net.engine import Engine
from pgdoorman_lib.server import handover

CONFIG = """
[general]
admin_username = "admin"
admin_password = "admin"

[pools.db]
{pool}

[[pools.db.users]]
username = "alice"
password = "al1ce-s3cret"
pool_size = 5
"""


@pytest.fixture
def engine() -> Iterator[Engine]:
    with running("epoll") as made:
        yield made


def settings(**pool: str) -> PoolSettings:
    text = CONFIG.replace("{pool}", "\n".join(f'{key} = "{value}"' for key, value in pool.items()))
    return effective(loader.loads(text))["db", "alice"]


def packed(engine: Engine, of: PoolSettings) -> Any:
    server, peer = server_pair(engine, of)
    try:
        return handover.pack(server)
    finally:
        server.stream.close()
        peer.close()


@pytest.mark.parametrize(
    ("before", "now", "suits"),
    [
        ({}, {}, True),
        ({}, {"server_host": "127.0.0.2"}, False),
        ({}, {"server_database": "other"}, False),
        ({}, {"application_name": "other"}, False),
        ({}, {"server_tls_mode": "require"}, False),
        ({"server_tls_mode": "require"}, {"server_tls_mode": "require"}, True),
        ({"server_tls_mode": "require"}, {"server_tls_mode": "require", "server_tls_min_version": "tlsv1.3"}, False),
        ({"server_tls_mode": "require"}, {"server_tls_mode": "require", "server_tls_ciphers": "HIGH"}, False),
        ({"server_tls_mode": "require"}, {"server_tls_mode": "require", "server_tls_negotiation": "direct"}, False),
        ({"server_tls_mode": "disable"}, {"server_tls_mode": "disable", "server_tls_min_version": "tlsv1.3"}, True),
    ],
)
def test_a_server_goes_where_it_would_have_been_opened(
    engine: Engine, before: dict[str, str], now: dict[str, str], suits: bool
) -> None:
    assert handover.suits(packed(engine, settings(**before)), settings(**now)) is suits


def test_certificates_that_were_exchanged(engine: Engine, tmp_path: Path) -> None:
    """Whoever was known by those before is to show that he is known by these."""
    ca = tmp_path / "ca.crt"
    ca.write_text("one")
    tls = {"server_tls_mode": "verify-ca", "server_tls_ca_cert": str(ca)}
    state = packed(engine, settings(**tls))
    assert handover.suits(state, settings(**tls))
    ca.write_text("two")
    assert not handover.suits(state, settings(**tls))
