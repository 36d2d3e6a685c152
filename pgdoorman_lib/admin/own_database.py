"""The one row of pg_database: the console's own database, for tools that list databases and open what they find.

Rules:
1. There is a row only for a query that is understood to its end: of pg_database alone or with LEFT JOINs, with a WHERE
   of comparisons of its columns. Any other has none, as a query of any other catalogue.
2. A column that says nothing about a console is NULL.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pgdoorman_lib.admin.expressions import AGGREGATE, REGROUPING, column_of, pieces, plain
from pgdoorman_lib.admin.rows import BOOL, INT4, OID, TEXT, Column, Value
from pgdoorman_lib.admin.tables import Row

#: The first that PostgreSQL gives to what users make: tools leave out what is below.
_OID = 16384
#: UTF8 in pg_database.encoding.
_UTF8 = 6

#: How deep NOT and parentheses may be nested: more is nobody's query, and reading them is recursive.
_DEPTH = 20

#: As many digits as any number has that stands in a row.
_NUMBER = re.compile(r"[0-9]{1,18}")

_TAIL = ("ORDER", "LIMIT", "OFFSET")
_BEYOND = REGROUPING | {"WINDOW", "FOR", "FETCH"}
_OPERATORS: Mapping[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "<>": operator.ne,
    "!=": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
    "<=": operator.le,
    ">=": operator.ge,
}

_Operand = str | int | bool
#: Of what is in pg_database: the type, and what stands there.
_Columns = Mapping[str, tuple[int, _Operand]]


class _Unclear(Exception):
    """A piece of a condition that is not known here."""


def row(
    text: str, asked: Sequence[str], answers: Mapping[str, tuple[Column, Value]]
) -> tuple[tuple[Column, ...], Row] | None:
    """Return types (as columns without names) and values of the row that ``text`` has, None if it has none.

    ``answers`` are those to what needs no catalogue, in lower case and without blanks.
    """
    if "pg_database" not in text.lower():
        return None
    database = answers["current_database()"][1]
    assert isinstance(database, str)
    stored: _Columns = {
        "oid": (OID, _OID),
        "datname": (TEXT, database),
        "datallowconn": (BOOL, True),
        "datistemplate": (BOOL, False),
        "encoding": (INT4, _UTF8),
        "datconnlimit": (INT4, -1),
    }
    try:
        alias, condition = _clauses(text)
        if condition and not _Condition(condition, stored, alias, database).holds():
            return None
    except _Unclear:
        return None
    if any(expression.partition(" ")[0].endswith("*") or AGGREGATE.match(expression) for expression in asked):
        return None
    found = [_value(expression, stored, alias, answers) for expression in asked]
    return tuple(column for column, _ in found), tuple(value for _, value in found)


def _clauses(text: str) -> tuple[str, list[str]]:
    """Return the name that pg_database has in a query, and its condition in pieces; raises _Unclear."""
    every = list(pieces(text))
    top = {index: piece.upper() for index, (piece, depth) in enumerate(every) if depth == 0}
    if top.get(0) != "SELECT" or any(word in _BEYOND for word in top.values()):
        raise _Unclear
    start = next((index for index, word in top.items() if word == "FROM"), len(every))
    end = next((index for index, word in top.items() if index > start and word in _TAIL), len(every))
    where = next((index for index, word in top.items() if start < index < end and word == "WHERE"), end)
    tables = [word for index, word in top.items() if start < index < where]
    if not tables or tables[0] not in ("PG_DATABASE", "PG_CATALOG.PG_DATABASE") or "," in tables:
        raise _Unclear
    for index, word in enumerate(tables):
        if word == "JOIN" and tables[index - 1] != "LEFT" and tables[index - 2 : index] != ["LEFT", "OUTER"]:
            raise _Unclear
    named = [word for word in tables[1:3] if word != "AS"]
    alias = named[0].lower() if named and named[0] != "LEFT" else "pg_database"
    return alias, [piece for piece, _ in every[where + 1 : end]]


def _value(
    expression: str, stored: _Columns, alias: str, answers: Mapping[str, tuple[Column, Value]]
) -> tuple[Column, Value]:
    """What an expression comes to in the row."""
    core = plain(expression)
    if core in answers:
        return answers[core]
    if (name := column_of(expression, alias)) in stored:
        kind, value = stored[name]
        return Column("", kind), "ft"[value] if isinstance(value, bool) else value
    if core.startswith("pg_encoding_to_char("):
        return Column(""), "UTF8"
    if core.startswith("has_database_privilege("):
        return Column("", BOOL), "t" if "'connect'" in core else "f"
    return Column(""), "" if core == "''" else None


class _Condition:
    """A WHERE, read and judged in one go; whatever is not known raises _Unclear."""

    def __init__(self, condition: Sequence[str], stored: _Columns, alias: str, database: str) -> None:
        self._pieces = condition
        self._at = 0
        self._depth = 0
        self._stored = stored
        self._alias = alias
        self._database = database

    def holds(self) -> bool:
        result = self._either()
        if self._at != len(self._pieces):
            raise _Unclear
        return result

    def _next(self) -> str:
        return self._pieces[self._at].upper() if self._at < len(self._pieces) else ""

    def _take(self, word: str) -> bool:
        """Whether ``word`` is next; it is passed over then."""
        found = self._next() == word
        self._at += found
        return found

    def _expect(self, word: str) -> None:
        if not self._take(word):
            raise _Unclear

    def _either(self) -> bool:
        result = self._both()
        while self._take("OR"):
            result = self._both() or result
        return result

    def _both(self) -> bool:
        result = self._single()
        while self._take("AND"):
            result = self._single() and result
        return result

    def _single(self) -> bool:
        if self._next() in ("NOT", "("):
            self._depth += 1
            if self._depth > _DEPTH:
                raise _Unclear
            result = self._nested()
            self._depth -= 1
            return result
        return self._comparison()

    def _nested(self) -> bool:
        if self._take("NOT"):
            return not self._single()
        self._expect("(")
        result = self._either()
        self._expect(")")
        return result

    def _comparison(self) -> bool:
        left = self._operand()
        if self._take("IN"):
            return self._is_among(left)
        sign = ""
        while self._next() in ("=", "<", ">", "!"):
            sign += self._next()
            self._at += 1
        if sign:
            return _compare(left, sign, self._operand())
        if not isinstance(left, bool):
            raise _Unclear
        return left

    def _is_among(self, left: _Operand) -> bool:
        self._expect("(")
        result = _compare(left, "=", self._operand())
        while self._take(","):
            result = _compare(left, "=", self._operand()) or result
        self._expect(")")
        return result

    def _operand(self) -> _Operand:
        if self._at >= len(self._pieces):
            raise _Unclear
        piece = self._pieces[self._at]
        self._at += 1
        found: _Operand
        if piece.startswith("'"):
            found = piece[1:-1].replace("''", "'")
        elif _NUMBER.fullmatch(piece):
            found = int(piece)
        elif piece.upper() in ("TRUE", "FALSE"):
            found = piece.upper() == "TRUE"
        elif piece.lower().removeprefix("pg_catalog.") == "current_database":
            self._expect("(")
            self._expect(")")
            found = self._database
        elif (name := column_of(piece, self._alias)) in self._stored and self._next() != "(":
            found = self._stored[name][1]
        else:
            raise _Unclear
        while self._take(":"):
            self._expect(":")
            if self._next() not in ("OID", "TEXT", "NAME"):
                raise _Unclear
            self._at += 1
        return found


def _compare(left: _Operand, sign: str, right: _Operand) -> bool:
    """Compare two values, one of which may be a number in quotes; raises _Unclear for what can't be compared."""
    if isinstance(left, str) and _NUMBER.fullmatch(left) and isinstance(right, int):
        left = int(left)
    elif isinstance(right, str) and _NUMBER.fullmatch(right) and isinstance(left, int):
        right = int(right)
    if sign not in _OPERATORS or isinstance(left, str) != isinstance(right, str):
        raise _Unclear
    return _OPERATORS[sign](left, right)
