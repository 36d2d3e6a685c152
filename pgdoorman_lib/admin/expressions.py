"""The text of a query taken apart: the expressions of its SELECT, their names, and what stands behind them.

It is no parser: enough of SQL for what tools ask a console, and everything else comes out as something nobody knows.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterator

#: Pieces of a query for finding where its list of expressions ends, and what stands in it at the top.
_PIECE = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|[()\[\],]|[\w$.*]+|\S""")
_WORD = re.compile(r"[\w$]+|\"(?:[^\"]|\"\")*\"")
_PATH = re.compile(r"[\w$.]+|\"(?:[^\"]|\"\")*\"")
#: Words that make more or fewer rows of those that there are.
REGROUPING = frozenset(("GROUP", "HAVING", "UNION", "EXCEPT", "INTERSECT"))
#: Functions that make one value of many rows.
AGGREGATE = re.compile(
    r"(?:pg_catalog\.)?(?:count|sum|min|max|avg|every|bool_\w+|(?:array|string|jsonb?(?:_object)?)_agg)\s*\(",
    re.IGNORECASE,
)
#: Words that end the list.
_ENDS = frozenset(("FROM", "WHERE", "UNION", "ORDER", "LIMIT", "GROUP", "HAVING", "INTO"))


def pieces(text: str) -> Iterator[tuple[str, int]]:
    """The pieces of a query with the depth of the parentheses they stand in."""
    depth = 0
    for piece in _PIECE.findall(text):
        depth -= piece in (")", "]")
        yield piece, depth
        depth += piece in ("(", "[")


def _own_pieces(text: str) -> Iterator[tuple[str, int]]:
    """The pieces with the depth counted from the query's own SELECT, which may stand in parentheses itself."""
    every = list(pieces(text))
    base = next((depth for piece, depth in every if piece != "("), 0)
    return ((piece, depth - base) for piece, depth in every)


def has_more(text: str, words: Container[str] = _ENDS) -> bool:
    """Whether there is anything but a list of expressions, or one of these ``words``."""
    return any(depth <= 0 and piece.upper() in words for piece, depth in _own_pieces(text))


def expressions_of(text: str) -> Iterator[str]:
    """The expressions of a query's own SELECT, as they are written, blanks aside."""
    current: list[str] | None = None
    for piece, depth in _own_pieces(text):
        word = piece.upper()
        if current is None:
            if depth == 0 and word == "SELECT":
                current = []
        elif depth < 0 or (depth == 0 and word in _ENDS):
            break
        elif depth == 0 and piece == ",":
            yield " ".join(current)
            current = []
        elif current or word not in ("DISTINCT", "ALL"):
            current.append(piece)
    if current:
        yield " ".join(current)


def alias_of(expression: str) -> str:
    """The name behind AS; empty when there is none."""
    before, found, name = expression.rpartition(" AS ") if " AS " in expression else expression.rpartition(" as ")
    return _folded(name) if found and before and _WORD.fullmatch(name) else ""


def plain(expression: str) -> str:
    """An expression without its alias, schema and blanks, in lower case."""
    alias = alias_of(expression)
    if alias:
        expression = expression[: expression.lower().rindex(" as ")]
    return expression.lower().replace(" ", "").removeprefix("pg_catalog.")


def column_of(expression: str, table: str) -> str:
    """The column of ``table`` that an expression is, alias aside, in lower case; empty when it is none."""
    name, *rest = expression.split() or [""]
    if len(rest) > 2 or (len(rest) == 2 and rest[0].upper() != "AS") or not all(map(_WORD.fullmatch, rest)):
        return ""
    owner, _, column = name.lower().rpartition(".")
    return column if owner in ("", table) else ""


def name_of(expression: str) -> str:
    """The name PostgreSQL would give the column, more or less: the alias, the column or the function."""
    parts = expression.split()
    alias = alias_of(expression)
    if alias or not parts:
        return alias or "?column?"
    if parts[0].upper() == "CASE":
        return "case"
    is_call = len(parts) > 2 and parts[1] == "(" and parts[-1] == ")"
    if len(parts) > 1 and not is_call:
        behind = parts[-2] == ")" or _PATH.fullmatch(parts[-2])
        return _folded(parts[-1]) if behind and _WORD.fullmatch(parts[-1]) else "?column?"
    name = _folded(parts[0].rpartition(".")[2])
    return name if _WORD.fullmatch(name) and not name[0].isdigit() else "?column?"


def _folded(name: str) -> str:
    """A name as PostgreSQL reads it: in lower case, or what stands in its quotes."""
    return name[1:-1].replace('""', '"') if name.startswith('"') else name.lower()
