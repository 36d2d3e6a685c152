"""Where the salts of made-up secrets come from: what stays over restarts, and is nobody's to know."""

from __future__ import annotations

from pathlib import Path

from pgdoorman_lib.auth.mock import mock_key, random_key

ID = "0123456789abcdef0123456789abcdef"


def test_the_configured_secret(tmp_path: Path) -> None:
    path = tmp_path / "machine-id"
    path.write_text(ID)
    key = mock_key("a secret", str(path))
    assert key == mock_key("a secret", str(tmp_path / "another"))
    assert key != mock_key("another secret", str(path))
    assert key is not None and len(key) == 32


def test_the_machine_s_id(tmp_path: Path) -> None:
    path = tmp_path / "machine-id"
    path.write_text(ID + "\n")
    key = mock_key(None, str(path))
    assert key is not None and len(key) == 32
    assert key == mock_key(None, str(path))
    assert ID.encode() not in key and bytes.fromhex(ID) not in key
    path.write_text(ID[::-1])
    assert mock_key(None, str(path)) != key


def test_neither(tmp_path: Path) -> None:
    path = tmp_path / "machine-id"
    assert mock_key(None, str(path)) is None
    for nothing in ("", "\n", "uninitialized\n", ID + "0"):
        path.write_text(nothing)
        assert mock_key(None, str(path)) is None
    assert len(random_key()) == 32
    assert random_key() != random_key()
