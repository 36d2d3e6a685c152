"""The syntax that pg_hba.conf and pg_ident.conf share: lines, columns, lists, quotes and comments."""

from __future__ import annotations

from collections.abc import Iterator

from pgdoorman_lib.record import record


@record(frozen=True)
class Token:
    """A word of a line; in quotes a keyword is a name."""

    text: str
    quoted: bool

    def is_keyword(self, word: str) -> bool:
        return not self.quoted and self.text == word


def lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines with their numbers; a backslash at the end joins the next one."""
    joined, first = "", 0
    for number, line in enumerate(text.split("\n"), 1):
        first = first or number
        line = line.removesuffix("\r")
        if line.endswith("\\"):
            joined += line[:-1]
            continue
        yield first, joined + line
        joined, first = "", 0
    if first:
        yield first, joined


def fields(line: str) -> Iterator[tuple[Token, ...]]:
    """The columns of a line, each a list of tokens: what ends in a comma goes on with the next word."""
    column: list[Token] = []
    for token, comma in _tokens(line):
        column.append(token)
        if not comma:
            yield tuple(column)
            column = []
    if column:
        yield tuple(column)


def single(column: tuple[Token, ...], what: str) -> str:
    if len(column) > 1:
        raise ValueError(f"multiple values specified for {what}")
    return column[0].text


def _tokens(line: str) -> Iterator[tuple[Token, bool]]:
    """The words of a line, and whether a comma follows at once (PostgreSQL's next_token, to the letter)."""
    at, end = 0, len(line)
    while True:
        while at < end and line[at] in " \t\r,":
            at += 1
        if at == end or line[at] == "#":
            return
        text, quoting, quoted, doubled, comma = "", False, line[at] == '"', False, False
        while at < end and (quoting or line[at] not in " \t\r"):
            char = line[at]
            if not quoting and char == "#":
                at = end
                break
            at += 1
            if not quoting and char == ",":
                comma = True
                break
            if char != '"' or doubled:
                text += char
            # Two quotes within quotes are one that is meant.
            doubled = not doubled if quoting and char == '"' else False
            if char == '"':
                quoting = not quoting
        if quoting:
            raise ValueError("unterminated quoted string")
        yield Token(text, quoted), comma
