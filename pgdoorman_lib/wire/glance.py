"""A quick look at a function's body: most have nothing in them that needs their tokens, and only name others.

Regular expressions take comments and strings away at the speed of C; a body in which that could go wrong is left to the
lexer, as is one with any word that ``bodies`` looks for.
"""

from __future__ import annotations

import re
from collections.abc import Set as AbstractSet

from pgdoorman_lib.wire.lexer import LONGEST_NAME
from pgdoorman_lib.wire.session_state import DIRTY_PARAMETERS, DIRTY_UNKNOWN
from pgdoorman_lib.wire.traces import BUILTIN, POSSIBLE, UNREADABLE, Traces, union

_HIDDEN = re.compile(rb"""('(?:[^']|'')*')|"(?:[^"]|"")*"|--[^\r\n]*|/\*.*?\*/""", re.DOTALL)
# Escapes, dollar quotes, nested comments and what else makes strings hard to tell.
_HARD = re.compile(rb"\\|\$(?!\d)|&[\"']|/\*(?:(?!\*/).)*/\*", re.DOTALL)
#: Words that say a body needs its tokens, wherever they stand, and those that do where a statement may begin.
_WORTH = frozenset((b"execute", b"temp", b"temporary", b"hold", *BUILTIN))
_VERBS = frozenset(b"set reset discard listen unlisten load prepare deallocate do".split())
_BEGINNING = re.compile(
    rb"(?:\A|;|>>|\b(?:begin|then|else|loop|declare)\b)\s*(?:" + b"|".join(sorted(_VERBS)) + rb")\b"
)
#: A word, with a dot in front and a parenthesis behind if they are there.
_WORD = re.compile(rb"(\.\s*)?([a-z_\x80-\xff][a-z0-9_$\x80-\xff]*)(\s*\()?")
_QUOTED = re.compile(rb'"((?:[^"]|"")*)"')
_DDL_WORDS = frozenset(b"create alter drop comment grant revoke security import reindex refresh".split())
#: Names of variables that procedural languages keep for the session.
_KEPT = re.compile(rb"\b(?:GD|SD|_SHARED)\b|\bglobal\b")
_SETS = re.compile(rb"set_config|\bset\s+(?!local\b)(?:session\s+)?[a-z_\"]", re.IGNORECASE)
_TCL_SETS = re.compile(rb"set_config", re.IGNORECASE)


def names(body: bytes) -> tuple[frozenset[bytes], frozenset[bytes]] | None:
    """All that could be a name or a keyword in ``body``, and those that may be called; None if it needs its tokens.

    In lower case unless quoted.
    """
    if _HARD.search(body):
        return None
    text = _HIDDEN.sub(_without, body)
    quoted = {name.replace(b'""', b'"')[:LONGEST_NAME] for name in _QUOTED.findall(text)} if b'"' in text else set()
    lower = (_QUOTED.sub(b' "" ', text) if quoted else text).lower()
    left = lower.replace(b"''", b"").replace(b'""', b"")
    if b"/*" in left or b"*/" in left or b"'" in left or b'"' in left:
        return None  # not closed
    seen = set(_WORD.findall(lower))
    found = {word[:LONGEST_NAME] for _, word, _ in seen}
    if not _WORTH.isdisjoint(found | quoted) or b"pg_temp" in text.lower():
        return None
    if not found.isdisjoint(_VERBS) and _BEGINNING.search(lower):
        return None
    called = {word[:LONGEST_NAME] for dot, word, parenthesis in seen if dot or parenthesis}
    return frozenset(found | quoted), frozenset(called | quoted)


def has_ddl(language: str, words: AbstractSet[bytes]) -> bool:
    """Whether DDL may stand among these words; SELECT INTO, which makes a table, is something else in PL/pgSQL."""
    return not words.isdisjoint(_DDL_WORDS) or (language == "sql" and b"select" in words and b"into" in words)


def _without(match: re.Match[bytes]) -> bytes:
    if match[1] is not None:
        return b" '' "
    return match.group() if match.group().startswith(b'"') else b" "


def foreign(language: str, body: bytes) -> Traces:
    """The traces of a procedural language that is not read."""
    found = UNREADABLE
    if _KEPT.search(body):
        found = union(found, Traces(DIRTY_UNKNOWN))
    if (_TCL_SETS if language.startswith("pltcl") else _SETS).search(body):
        found = union(found, Traces(DIRTY_PARAMETERS, (), POSSIBLE, True))
    return found
