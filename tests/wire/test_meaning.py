"""Names as PostgreSQL cuts them, and constants that mean another time each time they are read."""

from __future__ import annotations

import time

import pytest
from pace import patience

from pgdoorman_lib.wire.meaning import MAX_NAME, impossible, truncated, varying


@pytest.mark.parametrize(
    "text",
    [
        "SELECT 'now'::timestamptz",
        "SELECT timestamp 'NOW'",
        "SELECT date ' today '",
        "INSERT INTO t VALUES ('a', 'tomorrow allballs')",
        "SELECT 'yesterday'",
        "SELECT 'it''s', 'now'",
        "SELECT $$now$$::date",
        "SELECT $a$ today $a$::date",
        "SELECT E'now'",
        "SELECT E'n\\x6fw'",
        "SELECT E'\\156ow'",
        "SELECT U&'n\\006fw'",
        "SELECT 'no'\n'w'",
        "SELECT 'no' \r\n 'w'",
        "/* ' */ SELECT 'now'",
        "-- '\nSELECT 'now'",
        "SELECT \"'\", 'now'",
        "SELECT 'a\\', 'now'",
    ],
)
def test_moments(text: str) -> None:
    assert varying(text.encode())


@pytest.mark.parametrize(
    "text",
    [
        "SELECT now()",
        "SELECT 'a', now(), 'b'",
        "SELECT * FROM today",
        "SELECT 'unknown'",
        "SELECT 'nowhere', 'todays'",
        "SELECT 'a' -- 'now'",
        "SELECT 'a' /* 'now' */",
        "SELECT \"now\", 'x'",
        "SELECT E'line\\n'",
        "SELECT 'no' 'w'",
        "SELECT $1 < now() AND b = 'x'",
        "",
    ],
)
def test_no_moments(text: str) -> None:
    assert not varying(text.encode())


def test_a_long_text_is_not_long_looked_at() -> None:
    text = b"SELECT " + b"'a', now(), " * 20000
    started = time.process_time()
    varying(text)
    assert time.process_time() - started < patience(1)


@pytest.mark.parametrize(
    ("name", "cut"),
    [
        ("n" * 63, "n" * 63),
        ("n" * 64, "n" * 63),
        ("é" * 32, "é" * 31),
        ("n" + "é" * 32, "n" + "é" * 31),
        ("n" * 61 + "€", "n" * 61),
        ("n" * 60 + "€", "n" * 60 + "€"),
        ("n" * 60 + "\U0001d538", "n" * 60),
    ],
)
def test_names(name: str, cut: str) -> None:
    assert truncated(name.encode()) == cut.encode()


def test_an_impossible_name_is_short_enough_to_stay_so() -> None:
    assert len(impossible(b"n" * 100)) == MAX_NAME and impossible(b"n" * 100).endswith(b" ")
    assert impossible(b"s") == b"s "
