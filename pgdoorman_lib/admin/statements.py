"""Splitting a query string into statements, without comments."""

from __future__ import annotations

import re

from pgdoorman_lib.errors import DoormanError

# An E'' string first, since only there a backslash escapes; then what may hide a semicolon; then runs of the rest.
# Each alternative is decided by its first characters and scans forward only, so splitting takes linear time.
_TOKEN = re.compile(
    r"""
    (?P<escape> \b[eE]'(?:[^'\\]|\\.|'')*' )
  | (?P<quoted> '[^']*' | "[^"]*" )
  | (?P<comment> --[^\n]* | /\*.*?\*/ )
  | (?P<end> ; )
  | (?P<open> ['"] | /\* )
  | (?P<word> \w+ )
  | (?P<other> . )
    """,
    re.VERBOSE | re.DOTALL,
)


class StatementError(DoormanError):
    """A statement to the console that can't be read (42601)."""

    sqlstate = "42601"
    fault = "client"


def split_statements(sql: str) -> list[str]:
    """Return the statements of a simple query: stripped, comments replaced by a blank, empty ones left out.

    Raises StatementError for an unterminated string, quoted name or comment.
    """
    statements = []
    current: list[str] = []
    for token in _TOKEN.finditer(sql):
        kind, text = token.lastgroup, token.group()
        if kind == "end":
            statements.append("".join(current).strip())
            current = []
        elif kind == "open":
            what = {"'": "quoted string", '"': "quoted identifier"}.get(text, "/* comment")
            raise StatementError(f"unterminated {what}")
        else:
            current.append(" " if kind == "comment" else text)
    statements.append("".join(current).strip())
    return [statement for statement in statements if statement]
