"""What logins go by, where parts of it are not to be had."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest

from pgdoorman_lib import policy
from pgdoorman_lib.lookups import Lookups
from pgdoorman_lib.pool.pool import Pool


def test_tls_stays_with_openssl_where_there_are_no_ciphers(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither libcrypto nor the package cryptography, which is no dependency: it is said once, and TLS works."""

    def load() -> None:
        raise ImportError("No module named 'cryptography'")

    monkeypatch.setattr(policy, "aead", SimpleNamespace(load=load, DIRECT=False))
    rules: Any = policy.ConfiguredPolicy(Lookups(Pool, lambda name: None))
    rules.general = SimpleNamespace(tls_handover=True)
    with caplog.at_level(logging.INFO, "pgdoorman.tls"):
        assert rules.keylog() is None
        assert rules.keylog() is None
        assert not rules.load_ciphers(), "as a worker, or who takes over, does at its start"
    assert len(caplog.records) == 1
    assert "No module named 'cryptography'" in caplog.text and "tls_handover" in caplog.text
