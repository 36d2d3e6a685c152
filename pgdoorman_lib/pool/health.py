"""The health query of a pool (pooler_check_query), and the answer that its clients get without a server.

Rules:
1. A text without a statement is answered as PostgreSQL does, with EmptyQueryResponse.
2. A SELECT of constants has one answer for everybody at any time: the first server that is opened gives it.
3. Any other text may have another answer each time, or do something: it goes to a server like any query.
"""

from __future__ import annotations

import re

from pgdoorman_lib.wire.messages import query

_BLANK = r"(?:[ \t\r\n\f\v]|--[^\r\n]*(?:[\r\n]|\Z)|/\*(?:[^*/]|\*(?!/)|/(?!\*))*\*/)"
_CONSTANT = r"(?:[+-]?[0-9]+(?:\.[0-9]+)?|'[^'\\]*'|true|false|null)"
_COLUMN = rf"{_BLANK}*{_CONSTANT}(?:{_BLANK}+(?:as{_BLANK}+)?[a-z_][a-z0-9_]*)?{_BLANK}*"
# Not compiled before there is a query to look at, which would be a hundredth of the time that a start takes.
_NOTHING = rf"(?:{_BLANK}|;)*"
_CONSTANTS = rf"(?ai){_BLANK}*select{_BLANK}{_COLUMN}(?:,{_COLUMN})*(?:{_BLANK}|;)*"

_EMPTY_AND_READY = b"I\x00\x00\x00\x04Z\x00\x00\x00\x05I"


class Health:
    """``message`` is the whole Query; ``answer`` what is said to it, up to ReadyForQuery, None while a server has to be
    asked; ``question`` the text that the next new server is asked for that answer, None if there is nothing to ask."""

    __slots__ = ("answer", "message", "question")

    def __init__(self, sql: str) -> None:
        self.message = query(sql)
        self.answer: bytearray | None = bytearray(_EMPTY_AND_READY) if re.fullmatch(_NOTHING, sql) else None
        asked = self.answer is None and sql.isascii() and re.fullmatch(_CONSTANTS, sql)
        self.question = sql if asked else None

    def pack(self) -> list[bytes] | None:
        """What is known, for ``hear`` in another process."""
        return [self.message, bytes(self.answer)] if self.answer is not None else None

    def hear(self, message: bytes, answer: bytes) -> None:
        """Know what another process knows, unless it was asked something else."""
        if self.question is not None and message == self.message:
            self.learn(bytearray(answer))

    def learn(self, answer: bytearray | None) -> None:
        """Take a server's whole answer; None if it refused, and is not asked again."""
        self.answer = answer
        self.question = None
