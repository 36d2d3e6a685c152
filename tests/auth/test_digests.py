"""SHA-256 and its HMAC, by libcrypto and by Python's own: those of the library."""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgdoorman_lib import build
from pgdoorman_lib.auth import digests, python_digests

EVERY = [digests, python_digests]


def test_the_compiled_one_calls_libcrypto() -> None:
    assert build() == "interpreted" or digests.DIRECT


@pytest.mark.parametrize("made", EVERY, ids=str)
@given(key=st.binary(max_size=64), messages=st.lists(st.binary(max_size=200), max_size=3))
def test_hmacs_are_those_of_the_library(made: Any, key: bytes, messages: list[bytes]) -> None:
    """Also with the second message, for which the key is not taken in again."""
    ours = made.Hmac(key)
    for message in messages:
        assert ours.digest(message) == hmac.digest(key, message, "sha256")


@pytest.mark.parametrize("made", EVERY, ids=str)
@given(data=st.binary(max_size=200))
def test_digests_are_those_of_the_library(made: Any, data: bytes) -> None:
    assert made.sha256(data) == hashlib.sha256(data).digest()


@pytest.mark.parametrize("made", EVERY, ids=str)
def test_a_key_of_more_than_a_block_is_refused(made: Any) -> None:
    """It would have to be hashed first, which nobody here needs."""
    assert made.Hmac(bytes(64)).digest(b"") == hmac.digest(bytes(64), b"", "sha256")
    with pytest.raises(ValueError, match="64 bytes"):
        made.Hmac(bytes(65))


@pytest.mark.parametrize("made", EVERY, ids=str)
def test_xor(made: Any) -> None:
    one, other = bytes(range(32)), bytes(range(100, 132))
    assert made.xor(one, made.xor(one, other)) == other
    for short, long in ((one[1:], other), (one, other + b"x")):
        with pytest.raises(ValueError, match="digests"):
            made.xor(short, long)
