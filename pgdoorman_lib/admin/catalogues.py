"""What the system catalogues would say at the console: nothing is in them but its own database.

Rules:
1. A query of them has no rows, unless SQL promises one: a SELECT without FROM has a row, whatever its subqueries find,
   and so has one of aggregates alone. GUIs take the first row without looking whether it is there.
2. In such a row EXISTS is false, what is answered without catalogues is as it always is, and all else is NULL.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from pgdoorman_lib.admin import own_database
from pgdoorman_lib.admin.expressions import AGGREGATE, REGROUPING, has_more, name_of, pieces, plain
from pgdoorman_lib.admin.rows import BOOL, INT8, TEXT, Column, Value
from pgdoorman_lib.admin.tables import Row

#: What is answered to which expression, in lower case and without blanks.
Answers = Mapping[str, tuple[Column, Value]]

_EXISTS = re.compile(r"(?P<no>not\s+)?exists\b", re.IGNORECASE)
#: Functions that make a row for each of what they find.
_MANY = re.compile(r"(?:pg_catalog\.)?unnest\b", re.IGNORECASE)


def answer(text: str, asked: Sequence[str], answers: Answers) -> tuple[tuple[Column, ...], Sequence[Row]]:
    """Return the columns and rows of a query about catalogues that asks for the expressions ``asked``."""
    names = [name_of(expression) for expression in asked]
    if (own := own_database.row(text, asked, answers)) is not None:
        types, row = own
        return tuple(Column(name, column.type) for name, column in zip(names, types, strict=True)), [row]
    if asked and all(map(_aggregates, asked)) and not has_more(text, REGROUPING):
        count = 0 if own_database.row(text, ("1",), answers) is None else 1
        totals = [_total(expression, count) for expression in asked]
        described = tuple(Column(name, kind) for name, (kind, _) in zip(names, totals, strict=True))
        return described, [tuple(value for _, value in totals)]
    if not asked or has_more(text) or any(_MANY.match(expression) for expression in asked):
        return tuple(map(Column, names)), ()
    found = [_value(expression, answers) for expression in asked]
    described = tuple(Column(name, column.type) for name, (column, _) in zip(names, found, strict=True))
    return described, [tuple(value for _, value in found)]


def _value(expression: str, answers: Answers) -> tuple[Column, Value]:
    """What an expression comes to where nothing is in the catalogues."""
    known = answers.get(plain(expression))
    if known is not None:
        return known
    if (exists := _EXISTS.match(expression)) and _is_in_parentheses(expression[exists.end() :]):
        return Column("exists", BOOL), "t" if exists["no"] else "f"
    return Column("", TEXT), None


def _aggregates(expression: str) -> bool:
    """Whether an expression makes one value of all rows."""
    return AGGREGATE.match(expression) is not None and not has_more(expression, ("OVER",))


def _total(expression: str, count: int) -> tuple[int, Value]:
    """Type and value of an aggregate over ``count`` rows; but for count itself it is NULL."""
    opening = expression.index("(")
    is_count = plain(expression[:opening]) == "count" and _is_in_parentheses(expression[opening:])
    return (INT8, count) if is_count else (TEXT, None)


def _is_in_parentheses(text: str) -> bool:
    """Whether there is something in parentheses, and nothing behind it but the column's name."""
    outside = [piece for piece, depth in pieces(text) if depth == 0]
    return outside[:2] == ["(", ")"] and (len(outside) <= 3 or [piece.upper() for piece in outside[2:-1]] == ["AS"])
