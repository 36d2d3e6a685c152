"""Splitting at semicolons, and only at those that end a statement."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgdoorman_lib.admin.statements import StatementError, split_statements


@pytest.mark.parametrize(
    ("sql", "statements"),
    [
        ("", []),
        (";", []),
        (" ; ;\n;", []),
        ("-- only a comment", []),
        ("/* a; b */ ;", []),
        ("SHOW POOLS", ["SHOW POOLS"]),
        ("  show pools ;", ["show pools"]),
        ("SHOW POOLS; SHOW LISTS;", ["SHOW POOLS", "SHOW LISTS"]),
        ("SET a = 'x;y'; SHOW b", ["SET a = 'x;y'", "SHOW b"]),
        ("SET a = 'it''s; fine'", ["SET a = 'it''s; fine'"]),
        ("SET a = E'it\\'s; fine'; b", ["SET a = E'it\\'s; fine'", "b"]),
        ("SET a = 'back\\'; b", ["SET a = 'back\\'", "b"]),
        ('PAUSE "a;b"', ['PAUSE "a;b"']),
        ("SHOW/**/POOLS--;\n;b", ["SHOW POOLS", "b"]),
        ("a - b / c", ["a - b / c"]),
        ("grün; größe", ["grün", "größe"]),
    ],
)
def test_split(sql: str, statements: list[str]) -> None:
    assert split_statements(sql) == statements


@pytest.mark.parametrize("sql", ["SET a = 'x", 'PAUSE "x', "SHOW /* x", "'''", "; '"])
def test_unterminated(sql: str) -> None:
    with pytest.raises(StatementError) as caught:
        split_statements(sql)
    assert caught.value.sqlstate == "42601"


@given(st.text(alphabet="ab;'\"-/*\\E\n ", max_size=60))
def test_any_text_splits_or_is_refused(sql: str) -> None:
    try:
        statements = split_statements(sql)
    except StatementError:
        return
    assert all(statement == statement.strip() != "" for statement in statements)
