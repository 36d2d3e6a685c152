"""MD5 authentication: PostgreSQL's hash, a fresh salt for each challenge, and answers that are wrong."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgdoorman_lib.auth.md5 import Md5Challenge, hash_password, is_hash

#: What PostgreSQL stores for user "app" with the password "secret".
STORED = "md5" + hashlib.md5(b"secretapp").hexdigest()


def test_the_stored_form() -> None:
    assert hash_password("secret", "app") == STORED
    assert is_hash(STORED)


@pytest.mark.parametrize(
    "text",
    ["", "md5", "md5sum of something", STORED[:-1], STORED + "0", STORED.upper(), STORED[:-1] + "g", STORED + "\n"],
)
def test_what_is_a_password_and_no_hash(text: str) -> None:
    assert not is_hash(text)


def test_the_answer_is_salted() -> None:
    inner = hashlib.md5(b"secretapp").hexdigest()
    right = "md5" + hashlib.md5(inner.encode() + b"\1\2\3\4").hexdigest()
    challenge = Md5Challenge(b"\1\2\3\4")
    assert challenge.check(STORED, right.encode())
    assert not Md5Challenge(b"\1\2\3\5").check(STORED, right.encode())
    assert not challenge.check(hash_password("secret", "other"), right.encode())
    assert not challenge.check(STORED, STORED.encode())


def test_salts_are_fresh() -> None:
    salts = {Md5Challenge().salt for _ in range(20)}
    assert len(salts) == 20
    assert all(len(salt) == 4 for salt in salts)


@given(answer=st.binary(max_size=50))
def test_garbage_is_a_wrong_answer(answer: bytes) -> None:
    assert not Md5Challenge(b"\1\2\3\4").check(STORED, answer)
