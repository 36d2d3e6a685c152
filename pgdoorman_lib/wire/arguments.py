"""What the arguments of a call are, by their tokens: constants, parameters, or anything else."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pgdoorman_lib.wire.dynamic import HOLE
from pgdoorman_lib.wire.lexer import PARAMETER, STRING, WORD
from pgdoorman_lib.wire.tokens import Token

#: PostgreSQL has 65,535 parameters at most.
_MAX_DIGITS = 5

_TRUE = frozenset((b"t", b"tr", b"tru", b"true", b"y", b"ye", b"yes", b"on", b"1"))
_CAST = re.compile(rb"(?:::(?:pg_catalog\.)?(?:text|bool|boolean|varchar|name|unknown))*")


def constant(argument: Sequence[Token]) -> bytes | None:
    """The value of an argument that is one string, whatever it is cast to; None for any other."""
    if not argument or argument[0].kind != STRING:
        return None
    value = argument[0].value
    cast = b"".join(token.text for token in argument[1:]).lower()
    return value if value is not None and HOLE not in value and _CAST.fullmatch(cast) else None


def parameter(argument: Sequence[Token]) -> int:
    """The number of the parameter that an argument is, whatever it is cast to; 0 for any other."""
    if not argument or argument[0].kind != PARAMETER:
        return 0
    number = argument[0].text[1:]
    cast = b"".join(token.text for token in argument[1:]).lower()
    return int(number) if len(number) <= _MAX_DIGITS and _CAST.fullmatch(cast) else 0


def is_true(argument: Sequence[Token]) -> bool:
    """Whether an argument is surely true."""
    value = constant(argument)
    if value is not None:
        return value.strip().lower() in _TRUE
    if not argument or argument[0].kind != WORD or argument[0].value != b"true":
        return False
    return _CAST.fullmatch(b"".join(token.text for token in argument[1:]).lower()) is not None
