"""What an answer to an auth_query means: who gets in by it, and that nobody else does."""

from __future__ import annotations

import math
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgdoorman_lib.auth.answer import judge, usual_look
from pgdoorman_lib.auth.md5 import hash_password, is_hash
from pgdoorman_lib.auth.scram import ScramSecret
from pgdoorman_lib.wire import consts, messages
from pgdoorman_lib.wire.lookup import Answer
from pgdoorman_lib.wire.scram import MAX_ITERATIONS

SCRAM = str(ScramSecret.derive("secret", b"salt" * 4)).encode()
MD5 = hash_password("secret", "alice").encode()
NOW = 1_700_000_000.5
ROLE: tuple[bytes | None, ...] = (None, str(NOW).encode(), b"scram-sha-256", b"4096")


def answer(columns: list[bytes], *rows: list[bytes | None], role: tuple[bytes | None, ...] = ROLE) -> Answer:
    return Answer(columns, rows, role)


@pytest.mark.parametrize("secret", [SCRAM, MD5])
@pytest.mark.parametrize(
    ("columns", "place"),
    [
        ([b"passwd"], 0),
        ([b"password"], 0),
        ([b"whatever"], 0),
        ([b"usename", b"passwd"], 1),
        ([b"password", b"passwd"], 1),
        ([b"a", b"password", b"b"], 1),
    ],
)
def test_one_secret_in_its_place(secret: bytes, columns: list[bytes], place: int) -> None:
    row: list[bytes | None] = [b"something else"] * len(columns)
    row[place] = secret
    verdict = judge(answer(columns, row))
    assert (verdict.secret, verdict.seconds, verdict.usable) == (secret.decode(), math.inf, True)
    assert secret.decode() not in repr(verdict)


@pytest.mark.parametrize("row", [[None], [b""]])
def test_no_password_is_no_user(row: list[bytes | None]) -> None:
    verdict = judge(answer([b"passwd"], row))
    assert not verdict.secret and verdict.why and verdict.usable
    verdict = judge(answer([b"passwd"]))
    assert not verdict.secret and "no such user" in verdict.why and verdict.usable


@pytest.mark.parametrize(
    ("columns", "rows"),
    [
        ([b"passwd"], [[SCRAM], [SCRAM]]),
        ([b"a", b"b"], [[SCRAM, SCRAM]]),
        ([], [[]]),
        ([b"passwd", b"passwd"], [[SCRAM, SCRAM]]),
        ([b"passwd"], [[SCRAM, SCRAM]]),
        ([b"passwd", b"b"], [[SCRAM]]),
        ([b"passwd"], [[b"hunter2"]]),
        ([b"passwd"], [[b"********"]]),
        ([b"passwd"], [[b"alice"]]),
        ([b"passwd"], [[SCRAM[:-1]]]),
        ([b"passwd"], [[SCRAM + b" "]]),
        ([b"passwd"], [[b" " + SCRAM]]),
        ([b"passwd"], [[b"SCRAM-SHA-256$4096:$:"]]),
        ([b"passwd"], [[b"SCRAM-SHA-256$0:c2FsdA==$" + b"A" * 43 + b"=:" + b"A" * 43 + b"="]]),
        ([b"passwd"], [[MD5.upper()]]),
        ([b"passwd"], [[b"md5"]]),
        ([b"passwd"], [[b"{" + MD5 + b"}"]]),
        ([b"passwd"], [[b"\\x" + MD5.hex().encode()]]),
        ([b"passwd"], [["пароль".encode()]]),
        ([b"passwd"], [[b"\xff\xfe"]]),
        ([b"passwd"], [[b"x" * 60_000]]),
        ([b"passwd", b"valuntil"], [[SCRAM, b"tomorrow"]]),
        ([b"passwd", b"valuntil"], [[SCRAM, b"2040-01-01"]]),
        ([b"passwd", b"valuntil"], [[SCRAM, b"2040-01-01 00:00:00"]]),
        ([b"passwd", b"valuntil"], [[SCRAM, b""]]),
    ],
)
def test_what_is_no_answer(columns: list[bytes], rows: list[list[bytes | None]]) -> None:
    verdict = judge(answer(columns, *rows))
    assert not verdict.secret and not verdict.usable
    assert verdict.why.startswith("auth_query returns ")
    for row in rows:
        for value in row:
            assert not value or value.decode(errors="replace") not in verdict.why, "a secret is shown"


def test_what_is_too_long_is_no_answer() -> None:
    found = answer([b"passwd"], [SCRAM])
    found.is_too_long = True
    assert not judge(found).secret


@pytest.mark.parametrize(
    ("until", "seconds"),
    [
        (None, math.inf),
        (b"Infinity", math.inf),
        (str(NOW + 5).encode(), 5),
        (str(NOW - 1).encode(), None),
        (b"-Infinity", None),
        (b"0", None),
    ],
)
def test_valid_until_of_the_role(until: bytes | None, seconds: float | None) -> None:
    verdict = judge(answer([b"passwd"], [SCRAM], role=(until, *ROLE[1:])))
    assert bool(verdict.secret) == (seconds is not None)
    assert seconds is None or verdict.seconds == seconds
    assert verdict.usable


@pytest.mark.parametrize("column", [b"valuntil", b"rolvaliduntil"])
@pytest.mark.parametrize(
    ("until", "valid"),
    [
        (None, True),
        (b"infinity", True),
        (b"-infinity", False),
        (b"2023-11-14 22:13:20+00", False),
        (b"2023-11-14 22:13:20.6+00", True),
        (b"294276-12-31 23:59:59.999999+00", True),
        (b"4000-01-01 00:00:00+00 BC", False),
        (b"1969-12-31 23:59:59+00", False),
    ],
)
def test_a_query_that_says_itself_how_long_is_believed(column: bytes, until: bytes | None, valid: bool) -> None:
    expired: tuple[bytes | None, ...] = (b"0", *ROLE[1:])
    verdict = judge(answer([b"passwd", column], [SCRAM, until], role=expired))
    assert bool(verdict.secret) is valid, verdict.why


@pytest.mark.parametrize(
    "role",
    [(), (None,), (None, None, b"x", b"y"), (None, b"soon", b"x", b"y"), (b"NaN", *ROLE[1:]), (b"x", *ROLE[1:])],
)
def test_without_a_clock_nobody_gets_in(role: tuple[bytes | None, ...]) -> None:
    assert not judge(answer([b"passwd"], [SCRAM], role=role)).secret


@pytest.mark.parametrize(
    ("encryption", "iterations", "look"),
    [
        (b"scram-sha-256", b"4096", (4096, 16)),
        (b"scram-sha-256", b"10000", (10000, 16)),
        (b"scram-sha-256", None, (4096, 16)),
        (b"scram-sha-256", b"0", (4096, 16)),
        (b"scram-sha-256", b"2147483647", (MAX_ITERATIONS, 16)),  # as much as PostgreSQL takes
        (b"scram-sha-256", b"9" * 5000, (4096, 16)),
        (b"md5", b"4096", None),
        (b"on", None, None),
    ],
)
def test_who_is_not_there_looks_as_postgresql_would_have_it(encryption: bytes, iterations: Any, look: Any) -> None:
    assert usual_look(answer([], role=(None, b"1", encryption, iterations)), (4096, 16)) == look


_values = st.none() | st.binary(max_size=80) | st.sampled_from([SCRAM, MD5, b"infinity", b"2040-01-01 00:00:00+00"])
_names = st.sampled_from([b"passwd", b"password", b"valuntil", b"rolvaliduntil", b"usename", b"?column?", b""])


@given(
    columns=st.lists(_names, max_size=4),
    rows=st.lists(st.lists(_values, max_size=4), max_size=3),
    role=st.lists(st.none() | st.floats().map(lambda number: str(number).encode()) | st.binary(max_size=9), max_size=5),
)
def test_no_answer_whatever_opens_a_door_that_its_secret_does_not(columns: Any, rows: Any, role: Any) -> None:
    verdict = judge(answer(columns, *rows, role=tuple(role)))
    if verdict.secret:
        assert len(rows) == 1
        assert verdict.secret.encode() in rows[0]
        assert is_hash(verdict.secret) or ScramSecret.parse(verdict.secret)
        assert verdict.seconds > 0 and not verdict.why
    else:
        assert verdict.why


@given(st.lists(st.tuples(st.sampled_from(b"TDCIsnt12NSAZEGHWd!"), st.binary(max_size=60)), max_size=12))
def test_any_messages_are_an_answer_or_an_error(sent: list[tuple[int, bytes]]) -> None:
    found = Answer()
    try:
        for kind, body in sent:
            found.take(kind, body)
    except ValueError:
        return
    judge(found)


def test_rows_of_the_query_and_what_is_said_of_the_role() -> None:
    found = Answer()
    for message in (
        messages.row_description([("usename", 19, 64), ("passwd", 25, -1)]),
        messages.data_row([b"alice", SCRAM]),
        messages.command_complete("SELECT 1"),
        messages.data_row(ROLE),
        messages.command_complete("SELECT 1"),
    ):
        found.take(message[0], message[5:])
    assert (found.columns, found.rows, found.role) == ([b"usename", b"passwd"], [[b"alice", SCRAM]], list(ROLE))
    with pytest.raises(ValueError, match="does not end"):
        found.take(consts.ROW_DESCRIPTION, struct.pack("!H", 1) + b"name\0" + b"\0" * 17)
