"""Names for statsd: safe for every server, and never the same for two."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgdoorman_lib.metrics.naming import LONGEST, PoolNames, escape


@pytest.mark.parametrize(
    ("name", "escaped"),
    [
        ("shop", "shop"),
        ("my_db", "my_db"),
        ("my-db", "my--db"),
        ("my.db", "my-2edb"),
        ("a:b|c@d#e", "a-3ab-7cc-40d-23e"),
        ("né", "n-c3-a9"),
        ("a\nb c", "a-0ab-20c"),
    ],
)
def test_other_characters_are_written_out(name: str, escaped: str) -> None:
    assert escape(name) == escaped


@given(st.text(max_size=80), st.text(max_size=80))
def test_two_names_never_become_one(one: str, other: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9_-]*", escape(one))
    assert (escape(one) == escape(other)) == (one == other)


@given(st.text(alphabet="-2e.x_", max_size=6), st.text(alphabet="-2e.x_", max_size=6))
def test_nor_do_names_that_look_escaped(one: str, other: str) -> None:
    assert (escape(one) == escape(other)) == (one == other)


def test_long_names_are_cut_and_still_differ() -> None:
    names = [escape("é" * 40 + "a" * 100 + end) for end in "bc"]
    assert [len(name) for name in names] == [LONGEST, LONGEST]
    assert names[0] != names[1]


@pytest.mark.parametrize(
    ("style", "plain", "coded"),
    [
        ("none", ("pools.a-2eb.u.queries", ""), ("pools.a-2eb.u.errors.42601", "")),
        (
            "datadog",
            ("pools.queries", "|#database:a-2eb,user:u"),
            ("pools.errors", "|#database:a-2eb,user:u,sqlstate:42601"),
        ),
        (
            "influx",
            ("pools.queries,database=a-2eb,user=u", ""),
            ("pools.errors,database=a-2eb,user=u,sqlstate=42601", ""),
        ),
        (
            "graphite",
            ("pools.queries;database=a-2eb;user=u", ""),
            ("pools.errors;database=a-2eb;user=u;sqlstate=42601", ""),
        ),
    ],
)
def test_each_style(style: str, plain: tuple[str, str], coded: tuple[str, str]) -> None:
    names = PoolNames(style, "a.b", "u")
    assert names.of("queries") == plain
    assert names.of("errors", "42601") == coded
