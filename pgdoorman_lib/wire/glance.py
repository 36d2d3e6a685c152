"""A quick look at a function's body: most have nothing in them that needs their tokens, and only name others.

Regular expressions take comments and strings away at the speed of C; a body in which that could go wrong is left to the
lexer, as is one with any word that ``bodies`` looks for.
"""

from __future__ import annotations

import re

from pgdoorman_lib.wire.lexer import LONGEST_NAME
from pgdoorman_lib.wire.traces import BUILTIN

_HIDDEN = re.compile(rb"""('(?:[^']|'')*')|"(?:[^"]|"")*"|--[^\r\n]*|/\*.*?\*/""", re.DOTALL)
# Escapes, dollar quotes, nested comments and what else makes strings hard to tell.
_HARD = re.compile(rb"\\|\$(?!\d)|&[\"']|/\*(?:(?!\*/).)*/\*", re.DOTALL)
_WORTH = re.compile(
    rb"\b(?:execute|temp|temporary|hold|set_config|pg_temp\w*|"
    + b"|".join(sorted(BUILTIN))
    + rb")\b|(?:\A|;|>>|\b(?:begin|then|else|loop|declare)\b)\s*"
    rb"(?:set|reset|discard|listen|unlisten|load|prepare|deallocate|do)\b"
)
_WORD = re.compile(rb"[a-z_\x80-\xff][a-z0-9_$\x80-\xff]*")
_QUOTED = re.compile(rb'"((?:[^"]|"")*)"')
#: A name with a parenthesis behind it, or a dot in front.
_CALLED = re.compile(rb"([a-z_\x80-\xff][a-z0-9_$\x80-\xff]*)\s*\(|\.\s*([a-z_\x80-\xff][a-z0-9_$\x80-\xff]*)")


def names(body: bytes) -> tuple[frozenset[bytes], frozenset[bytes]] | None:
    """All that could be a name or a keyword in ``body``, and those that may be called; None if it needs its tokens.

    In lower case unless quoted.
    """
    if _HARD.search(body):
        return None
    text = _HIDDEN.sub(_without, body)
    if b"/*" in text or b"*/" in text or b"'" in text.replace(b"''", b""):
        return None  # not closed
    lower = text.lower()
    if _WORTH.search(lower):
        return None
    found = {word[:LONGEST_NAME] for word in _WORD.findall(lower)}
    called = {word[:LONGEST_NAME] for pair in _CALLED.findall(lower) for word in pair}
    if b'"' in text:
        quoted = {name.replace(b'""', b'"')[:LONGEST_NAME] for name in _QUOTED.findall(text)}
        found |= quoted
        called |= quoted
    return frozenset(found), frozenset(called)


def _without(match: re.Match[bytes]) -> bytes:
    if match[1] is not None:
        return b" '' "
    return match.group() if match.group().startswith(b'"') else b" "
