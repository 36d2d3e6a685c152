"""The texts PL/pgSQL's EXECUTE may run, as far as they stand in the function: strings, format() and variables.

What is computed at run time is a HOLE in a text. A text is only told when the word it begins with stands in it whole.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import NamedTuple

from pgdoorman_lib.wire.lexer import QUOTED, SEMICOLON, STRING, SYMBOL, WORD, Lexer
from pgdoorman_lib.wire.tokens import Token

#: What stands for a computed piece. Tokens take it for a letter, no encoding of PostgreSQL's uses it in names.
HOLE = b"\xff"
#: Tokens of an expression, and of a statement in front of a variable, that are looked at; parentheses around others.
LONGEST = 500
_DEEPEST = 10

_FORMAT = re.compile(rb"%(?:(%)|(?:\d+\$)?-?(?:\*(?:\d+\$)?|\d+)?[sIL])")
_OPENING, _CLOSING = (b"(", b"["), (b")", b"]")
#: Behind these the expression of EXECUTE is over.
_STOPS = frozenset((b"into", b"using", b"loop", b"execute"))
#: Statements of PL/pgSQL in which a variable's name may stand where it gets a value.
_WRITERS = frozenset((b"call", b"get"))


class Text(NamedTuple):
    """One text that may be run; ``computed``: parts of it are not known."""

    text: bytes
    computed: bool


def beginnings(found: Sequence[Token], words: Sequence[bytes], openers: AbstractSet[bytes]) -> list[bool]:
    """For each token whether a statement may begin there."""
    marks = []
    begins = True
    for index, token in enumerate(found):
        marks.append(begins)
        begins = (
            token.kind == SEMICOLON
            or words[index] in openers
            or (bool(openers) and token.text == b">" and index > 0 and found[index - 1].text == b">")
        )
    return marks


class Dynamic:
    """The EXECUTEs of one body, of whose tokens ``begins`` marks those at which a statement may begin."""

    def __init__(self, found: Sequence[Token], words: Sequence[bytes], begins: Sequence[bool]) -> None:
        self.found = found
        self.words = words
        self.begins = begins
        #: where the declarations are over
        self.declared = words.index(b"begin") if b"begin" in words else 0
        self.variables: dict[bytes, list[Text] | None] = {}

    def texts(self, index: int) -> list[Text] | None:
        """What EXECUTE runs whose expression begins at ``index``; None if that can't be told.

        The texts of a variable are told once.
        """
        expression = _expression(self.found, self.words, index)
        if expression is None:
            return None
        whole = _literal(expression)
        if whole is not None:
            return [whole] if not whole.computed or _has_verb(whole.text) else None
        name = _variable(expression)
        if name is None:
            return None
        known = name in self.variables
        if not known:
            self.variables[name] = self._assigned(name)
        held = self.variables[name]
        if held is None:
            return None
        behind = [_literal(expression, first=False)] if len(expression) > 1 else []
        return [text for text in behind if text is not None] + ([] if known else held)

    def _assigned(self, name: bytes) -> list[Text] | None:
        """All texts the variable ``name`` may hold, in pieces; None unless every place that sets it is understood.

        It must be declared before the first BEGIN: else it may be a parameter.
        """
        found, words = self.found, self.words
        if b"alias" in words:
            return None
        results: list[Text] = []
        appended = False
        declared = False
        start = 0
        for at, token in enumerate(found):
            if self.begins[at]:
                start = at
            if token.value != name or token.kind not in (WORD, QUOTED):
                continue
            if at > start:
                if (at - 2 == start and found[at - 1].text == b".") or _may_set(found, words, start, at):
                    return None  # perhaps named with its block
                continue
            value = _value_at(found, words, at)
            if value is None or (not value and at >= self.declared):
                return None
            declared |= at < self.declared
            if not value:
                continue
            pieces = _literal(value)
            if pieces is None:
                if _variable(value) != name:
                    return None
                appended = True
                pieces = _literal(value, first=False)
                assert pieces is not None
            elif not _has_verb(pieces.text):
                return None
            results.append(pieces)
        if not declared or not results:
            return None
        return [Text(text, computed or appended) for text, computed in results]


def _has_verb(text: bytes) -> bool:
    """Whether the word ``text`` begins with stands in it whole, and something is behind it."""
    lexer = Lexer()
    lexer.begin(bytearray(text), 0, len(text), False)
    kind = lexer.next()
    while kind == SYMBOL and text[lexer.start : lexer.stop] == b"(":
        kind = lexer.next()
    return kind == WORD and lexer.stop < len(text) and HOLE not in text[lexer.start : lexer.stop]


def _expression(found: Sequence[Token], words: Sequence[bytes], index: int) -> Sequence[Token] | None:
    """The tokens of the expression at ``index``, without the parentheses around it; None if it is too long."""
    depth = 0
    stop = index
    while stop < len(found):
        if stop - index > LONGEST:
            return None
        text = found[stop].text
        if text in _OPENING:
            depth += 1
        elif text in _CLOSING:
            depth -= 1
        if found[stop].kind == SEMICOLON or depth < 0 or (depth == 0 and words[stop] in _STOPS):
            break
        stop += 1
    return _bare(found[index:stop])


def _bare(expression: Sequence[Token]) -> Sequence[Token]:
    for _ in range(_DEEPEST):
        if len(expression) < 2 or expression[0].text != b"(" or _closing(expression, 0) != len(expression) - 1:
            break
        expression = expression[1:-1]
    return expression


def _closing(expression: Sequence[Token], index: int) -> int:
    """Where the parenthesis at ``index`` is closed; -1 if it is not."""
    depth = 0
    for at in range(index, len(expression)):
        if expression[at].text in _OPENING:
            depth += 1
        elif expression[at].text in _CLOSING:
            depth -= 1
            if depth == 0:
                return at
    return -1


def _operands(expression: Sequence[Token]) -> list[Sequence[Token]]:
    """What ``||`` joins in an expression."""
    depth = 0
    operands: list[Sequence[Token]] = []
    start = 0
    for at, token in enumerate(expression):
        if token.text in _OPENING:
            depth += 1
        elif token.text in _CLOSING:
            depth -= 1
        elif depth == 0 and token.text == b"|" and at > start and expression[at - 1].text == b"|":
            operands.append(expression[start : at - 1])
            start = at + 1
    return [*operands, expression[start:]]


def _literal(expression: Sequence[Token], first: bool = True) -> Text | None:
    """The text of an expression that begins with a string; None for any other (if it is the ``first`` piece)."""
    pieces: list[bytes] = []
    computed = False
    for operand in _operands(expression):
        piece = _piece(_bare(operand))
        if piece is None:
            if first and not pieces:
                return None
            piece = Text(HOLE, True)
        pieces.append(piece.text)
        computed |= piece.computed
    return Text(b"".join(pieces), computed)


def _piece(operand: Sequence[Token]) -> Text | None:
    """What a string, or a call of format with one, stands for."""
    if not operand:
        return None
    if operand[0].kind == STRING and operand[0].value is not None:
        rest = b"".join(token.text for token in operand[1:]).lower()
        return Text(operand[0].value, False) if rest in (b"", b"::text", b"::varchar") else None
    at = 0
    if operand[0].value == b"pg_catalog" and len(operand) > 2 and operand[1].text == b".":
        at = 2
    if operand[at].kind not in (WORD, QUOTED) or operand[at].value != b"format" or len(operand) < at + 4:
        return None
    if operand[at + 1].text != b"(" or _closing(operand, at + 1) != len(operand) - 1:
        return None
    text = operand[at + 2]
    if text.kind != STRING or text.value is None or operand[at + 3].text not in (b",", b")"):
        return None
    return Text(*_formatted(text.value))


def _formatted(text: bytes) -> tuple[bytes, bool]:
    filled = _FORMAT.sub(lambda match: b"%" if match[1] else HOLE, text)
    return filled, HOLE in filled


def _variable(expression: Sequence[Token]) -> bytes | None:
    """The name of a variable that is, or begins, the expression."""
    first = _operands(expression)[0]
    if len(first) == 1 and first[0].kind in (WORD, QUOTED):
        return first[0].value
    return None


def _value_at(found: Sequence[Token], words: Sequence[bytes], index: int) -> Sequence[Token] | None:
    """What the variable at ``index``, where a statement begins, is given: empty for nothing, None if too long."""
    at = index + 1
    while at < len(found) and found[at].kind != SEMICOLON:
        if found[at].text == b"=" or words[at] == b"default":
            return _expression(found, words, at + 1)
        at += 1
    return ()


def _may_set(found: Sequence[Token], words: Sequence[bytes], start: int, index: int) -> bool:
    """Whether the statement at ``start`` may give the variable at ``index`` a value."""
    first = words[start]
    if first in _WRITERS or index - start > LONGEST:
        return True
    if first in (b"for", b"foreach"):
        return b"in" not in words[start:index]
    at = index - 1
    while at > start and (found[at].kind in (WORD, QUOTED) or found[at].text in (b",", b".", b"]", b"[")):
        if words[at] == b"into":
            return True
        at -= 1
    return False
