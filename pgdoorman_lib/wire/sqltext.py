"""What a statement with a telling text may leave behind on a server, and which prepared statements it names.

``analyse`` looks at the tokens of a text, once for each distinct one, without parsing SQL. It can't see what a function
does inside.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

from pgdoorman_lib.wire.scan import (
    LEAVES,
    TEXT_CURSORS,
    TEXT_LIBRARY,
    TEXT_LISTEN,
    TEXT_LOCKS,
    TEXT_ORIGIN,
    TEXT_PARAMETERS,
    TEXT_SEQUENCES,
    TEXT_SET,
    TEXT_TEMPORARY,
    scan,
)
from pgdoorman_lib.wire.session_state import PLANNING

#: Texts whose analysis is remembered, and the length (bytes) beyond which a text is not analysed but taken for what
#: ``scan`` says: going through tokens costs about a microsecond each.
REMEMBERED = 1000
LONGEST = 16384
#: Bytes at the end of a part of a text in which the beginning of what ``scan`` looks for may stand.
LONGEST_WORD = 16


@dataclass(frozen=True)
class Name:
    """A statement's name in ``PREPARE``, ``EXECUTE`` or ``DEALLOCATE``.

    ``verb`` is that word in lower case; the name stands at ``start:end`` of the text, its statement ends at ``stop``.
    ``plain``: what is behind it are constants, whose values stand in the text.
    """

    verb: str
    start: int
    end: int
    stop: int
    name: bytes
    plain: bool = True


@dataclass(frozen=True)
class Text:
    """What is known of a text: ``leaves``, the LEAVES bits of what it may leave behind.

    ``keeps``: bits of what it surely leaves, if it succeeds outside a transaction. ``sets``: how many SETs are in it.
    ``custom``: names of customized options (``a.b``) it may set, since no catalogue lists them; ``dynamic``: it may set
    others, named by parameters; ``unknown``: others whose names can't be told. ``disturbs``: it may change, if only for
    the transaction, what other statements mean. ``names``: statements it prepares, executes or drops.
    ``sequences``: it asks what nextval gave this session. ``resets``: parameters that are back at their beginning
    behind it, ``ALL`` of them if that stands first.
    """

    leaves: int = 0
    keeps: int = 0
    sets: int = 0
    custom: tuple[str, ...] = ()
    dynamic: bool = False
    unknown: bool = False
    disturbs: bool = False
    names: tuple[Name, ...] = ()
    sequences: bool = False
    resets: tuple[str, ...] = ()

    @property
    def plain(self) -> bool:
        """Whether every statement it names is given constants."""
        return all(name.plain for name in self.names)


NOTHING = Text()

_TOKEN = re.compile(
    rb"""
      (?P<blank> \s+ | --[^\n\r]* )
    | (?P<comment> /\* )
    | (?P<quoted> "(?:[^"]|"")*" )
    | (?P<opaque> [eE]'(?:[^'\\]|\\.|'')*' | '(?:[^']|'')*' )
    | (?P<dollar> \$(?:[A-Za-z_\x80-\xff][A-Za-z0-9_\x80-\xff]*)?\$ )
    | (?P<parameter> \$[0-9]+ )
    | (?P<number> [0-9]+ )
    | (?P<word> [A-Za-z_\x80-\xff][A-Za-z0-9_$\x80-\xff]* )
    | (?P<end> ; )
    | (?P<open> ['"] )
    | (?P<other> . )
    """,
    re.VERBOSE | re.DOTALL,
)
# What opens and closes comments, which nest.
_COMMENT = re.compile(rb"/\*|\*/")
# What must stand in a text for a closer look to find anything; it is cheap to see that it does not.
_WORTH = re.compile(
    rb"set_config|pg_(?:try_)?advisory|replication_origin_session|\bpg_temp|\btemp(?:orary)?\b|\bhold\b"
    rb"|\b(?:prepare|execute|deallocate|set|reset|discard|listen|load|currval|lastval)\b",
    re.IGNORECASE,
)
# The same inside a string, which may be run as code.
_CREATES_TEMPORARY = re.compile(
    rb"\b(?:create|into)\s+(?:(?:global|local)\s+)?temp(?:orary)?\b|\bpg_temp", re.IGNORECASE
)
_SETS = re.compile(rb"set_config|\bset\s+(?!local\b|transaction\b)\w", re.IGNORECASE)
# A set_config whose first argument is not a constant.
_SETS_UNKNOWN = re.compile(rb"set_config\s*\((?!\s*'{1,4}[^']*'{1,4}\s*,)", re.IGNORECASE)
# Bounded, since it may be held against megabytes of letters.
_CUSTOM = re.compile(rb"[A-Za-z_][A-Za-z0-9_$]{0,99}(?:\.[A-Za-z_][A-Za-z0-9_$]{0,99})+")
# What may stand between constants.
_LIST = (b"(", b",", b")", b"-", b".")
_ADVISORY = re.compile(rb"pg_(try_)?advisory_(un)?lock", re.IGNORECASE)


#: What a call of any function by the protocol's FunctionCall may leave behind. Few may set an origin up, and only they
#: may ask about it.
FUNCTION_CALL = Text(leaves=LEAVES & ~TEXT_ORIGIN)


def rough(marks: int, beginning: bytes = b"") -> Text:
    """What to take for granted of a text of which only a part is there, by ``scan`` of that.

    If it is the ``beginning``, what is set there has its name there, too; else nobody knows the name.
    """
    leaves = (marks | (TEXT_PARAMETERS if marks & TEXT_SET else 0)) & LEAVES
    if not leaves & TEXT_PARAMETERS:
        return Text(leaves, sequences=bool(marks & TEXT_SEQUENCES))
    found = _find(beginning)
    return Text(
        leaves,
        custom=tuple(dict.fromkeys(found.custom)),
        unknown=found.unknown or not beginning,
        disturbs=True,
        sequences=bool(marks & TEXT_SEQUENCES),
    )


def custom_names(data: bytes) -> tuple[str, ...]:
    """Everything in ``data`` that could be the name of a customized option."""
    found: dict[str, None] = {}
    for match in _CUSTOM.finditer(data):
        name = match.group()
        found[name.decode().lower()] = None
        if name[0] == len(name) - 1:  # a letter, or the length in front of a bound value
            found[name[1:].decode().lower()] = None
    return tuple(found)


def look(text: bytes, marks: int) -> Text:
    """What a whole text is known to do, given that ``scan`` found ``marks`` in it."""
    if len(text) <= LONGEST:
        return analyse(text)
    known = rough(marks, text[:LONGEST])
    rest = bytearray(text[LONGEST - LONGEST_WORD :])
    if known.leaves & TEXT_PARAMETERS and scan(rest, 0, len(rest)) & (TEXT_PARAMETERS | TEXT_SET):
        return replace(known, unknown=True)
    return known


@lru_cache(maxsize=REMEMBERED)
def analyse(text: bytes) -> Text:
    """What ``text``, one or more SQL statements, may leave behind and which prepared statements it names."""
    if _WORTH.search(text) is None:
        return NOTHING
    found = _find(text)
    return Text(
        found.leaves,
        found.keeps,
        found.sets,
        tuple(dict.fromkeys(found.custom)),
        found.dynamic,
        found.unknown,
        found.disturbs,
        tuple(found.names),
        found.sequences,
        tuple(found.resets),
    )


def _find(text: bytes) -> _Finder:
    """Go through the statements of ``text``."""
    found = _Finder(text)
    statement: list[Token] = []
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        assert match is not None  # any byte is a token
        start, at, kind = at, match.end(), str(match.lastgroup)
        if kind == "end":
            found.take(statement, start)
            statement = []
        elif kind == "comment":
            at = _comment_end(text, at)
        elif kind != "blank":
            if kind == "dollar":
                kind = "opaque"
                end = text.find(match.group(), at)
                at = end + len(match.group()) if end >= 0 else len(text)
            elif kind == "open":  # PostgreSQL will refuse it
                kind = "opaque"
                at = len(text)
            statement.append(Token(kind, start, at, text[start:at]))
    found.take(statement, len(text))
    return found


def _comment_end(text: bytes, start: int) -> int:
    """Where the comment ends whose inside begins at ``start``."""
    depth = 1
    for mark in _COMMENT.finditer(text, start):
        depth += 1 if mark.group() == b"/*" else -1
        if depth == 0:
            return mark.end()
    return len(text)


class Token(NamedTuple):
    """A piece of a text, at ``start:end``; ``kind`` is a group of _TOKEN."""

    kind: str
    start: int
    end: int
    text: bytes


class _Finder:
    """Collects what the statements of one text betray."""

    def __init__(self, text: bytes) -> None:
        self.text = text
        self.leaves = 0
        self.keeps = 0
        self.sets = 0
        self.custom: list[str] = []
        self.dynamic = False
        self.unknown = False
        self.disturbs = False
        self.names: list[Name] = []
        self.sequences = False
        self.resets: list[str] = []

    def take(self, tokens: list[Token], stop: int) -> None:
        """One statement, which ends at ``stop``."""
        if not tokens:
            return
        # Words as they are compared; quoted names and all else can't be keywords.
        words = [token.text.lower() if token.kind == "word" else b"" for token in tokens]
        verb = words[0]
        if verb == b"set":
            self._set(tokens, words)
        elif verb == b"reset" or verb == b"discard":
            self._reset(verb, words[1:], tokens[1:])
        elif verb == b"listen":
            self.keeps |= TEXT_LISTEN
        elif verb == b"load":
            self.keeps |= TEXT_LIBRARY
        elif verb == b"declare":
            self._declare(words)
        self._temporary(words)
        self._names(tokens, words, stop)
        for index, token in enumerate(tokens):
            if token.kind == "opaque":
                self._opaque(token.text, verb == b"do")
                continue
            word = words[index] or _unquoted(token)
            if word == b"set_config":
                self._set_config(tokens[index + 1 :])
            elif word.startswith(b"pg_temp"):
                self.leaves |= TEXT_TEMPORARY
            elif word.startswith(b"pg_replication_origin_session"):
                self.leaves |= TEXT_ORIGIN
            elif word in (b"currval", b"lastval"):
                self.sequences = True
            elif b"advisory" in word:
                self._advisory(word)

    def _set(self, tokens: list[Token], words: list[bytes]) -> None:
        second = words[1] if len(words) > 1 else b""
        if second == b"constraints":
            return
        self.sets += 1
        if second == b"transaction":
            return
        if second != b"local":
            self.leaves |= TEXT_PARAMETERS
            self.custom += custom_names(self.text[tokens[0].end : tokens[-1].end].replace(b'"', b""))
        at = 2 if second in (b"local", b"session") else 1
        if len(tokens) > at + 1 and (words[at + 1] == b"to" or tokens[at + 1].text in (b"=", b".")):
            name = words[at] or _unquoted(tokens[at])
            self._planning(name)
            if second != b"local" and words[-1] == b"default" and tokens[at + 1].text != b".":
                self.resets.append(name.decode("utf-8", "replace").lower())
                return
        else:
            self.disturbs = True  # ROLE, TIME ZONE and their like
        self.resets.clear()  # one of them may be set by now

    def _reset(self, verb: bytes, words: list[bytes], rest: list[Token]) -> None:
        if words and words[0] == b"all":
            self.resets = ["ALL"]
        elif verb == b"reset" and words == [b"time", b"zone"]:
            self.resets.append("timezone")
        elif verb == b"reset" and words:
            parts = [words[index] or _unquoted(token) or token.text for index, token in enumerate(rest)]
            self.resets.append(b"".join(parts).decode("utf-8", "replace").lower())

    def _planning(self, name: bytes) -> None:
        """The parameter ``name`` changes, or one that is an option of that class."""
        if name.decode("utf-8", "replace").lower() in PLANNING:
            self.disturbs = True

    def _set_config(self, rest: list[Token]) -> None:
        """The tokens behind the word ``set_config``."""
        depth = 0
        inside: list[Token] = []
        for token in rest:
            symbol = token.text
            depth += (symbol == b"(") - (symbol == b")")
            if depth == 0:
                break
            inside.append(token)
        local = inside[-1].text.lower().strip(b"'") if inside else b""
        name = inside[1] if len(inside) > 1 else None
        alone = len(inside) > 2 and inside[2].text in (b",", b":")  # it may have a cast, but is no operand
        constant = name is not None and name.kind == "opaque" and alone
        if name is not None and constant:
            self._planning(name.text.strip(b"'"))
        else:
            self.disturbs = True
        if local in (b"true", b"t", b"on") and len(inside) > 2 and inside[-2].text == b",":
            return
        self.leaves |= TEXT_PARAMETERS
        self.resets.clear()
        if name is not None and constant:
            self.custom += custom_names(name.text)
        elif name is not None and name.kind == "parameter" and alone:
            self.dynamic = True
        elif not (alone and _name_of_a_setting(inside[1], rest)):
            self.unknown = True
            for token in rest:  # perhaps it is one of these
                if token.kind == "opaque":
                    self.custom += custom_names(token.text)

    def _declare(self, words: list[bytes]) -> None:
        if any(word == b"with" and after == b"hold" for word, after in itertools.pairwise(words)):
            self.leaves |= TEXT_CURSORS
            self.keeps |= TEXT_CURSORS

    def _temporary(self, words: list[bytes]) -> None:
        made = False
        if words[0] == b"create" or words[0] == b"explain":
            at = words.index(b"create") if b"create" in words else len(words)
            made = any(word in (b"temp", b"temporary") for word in words[at + 1 : at + 5])
        for word, after, last in zip(words, words[1:], [*words[2:], b""], strict=False):
            if word == b"into" and (after if after not in (b"global", b"local") else last) in (b"temp", b"temporary"):
                made = True
        self.disturbs |= made
        if made and words[-3:] == [b"on", b"commit", b"drop"]:
            return
        if made:
            self.leaves |= TEXT_TEMPORARY
            self.keeps |= TEXT_TEMPORARY

    def _advisory(self, word: bytes) -> None:
        match = _ADVISORY.match(word)
        if match is not None:
            self.leaves |= TEXT_LOCKS
            if match[1] is None and match[2] is None:  # one that is tried may not be got
                self.keeps |= TEXT_LOCKS

    def _opaque(self, text: bytes, code: bool) -> None:
        """A string constant; one that looks like SQL may be run by what it is handed to."""
        if _CREATES_TEMPORARY.search(text):
            self.leaves |= TEXT_TEMPORARY
        if _ADVISORY.search(text):
            self.leaves |= TEXT_LOCKS
        if b"set_config" in text.lower() or (code and _SETS.search(text)):
            self.leaves |= TEXT_PARAMETERS
            self.disturbs = True
            self.custom += custom_names(text)
            self.unknown |= code and _SETS_UNKNOWN.search(text) is not None

    def _names(self, tokens: list[Token], words: list[bytes], stop: int) -> None:
        verb = words[0]
        at = 0
        if verb in (b"explain", b"create"):
            at = next((index for index, word in enumerate(words) if word == b"execute"), 0)
            verb = words[at]
        if verb not in (b"prepare", b"execute", b"deallocate") or at + 1 >= len(tokens):
            return
        at += 1
        if verb == b"prepare" and words[at] == b"transaction":
            return
        if verb == b"deallocate" and words[at] == b"prepare" and at + 1 < len(tokens):
            at += 1
        token = tokens[at]
        if token.kind == "quoted":
            name = _unquoted(token)
        elif token.kind == "word" and not (verb == b"deallocate" and words[at] == b"all"):
            name = words[at]
        else:
            return
        plain = not any(token.kind in ("opaque", "word", "quoted", "parameter") for token in tokens[at + 1 :]) or all(
            token.kind in ("opaque", "number") or words[index] in (b"true", b"false", b"null") or token.text in _LIST
            for index, token in enumerate(tokens[at + 1 :], at + 1)
        )
        self.names.append(Name(verb.decode(), token.start, token.end, stop, name, plain))


def _name_of_a_setting(name: Token, rest: list[Token]) -> bool:
    """Whether the ``name`` behind a ``set_config`` is a column of pg_settings, as in pg_dump's queries.

    A customized option that no library has defined, which only its name could betray, is not listed there.
    """
    words = [token.text.lower() for token in rest if token.kind == "word"]
    if name.kind != "word" or name.text.lower() != b"name" or words.count(b"from") != 1:
        return False
    origin = words[words.index(b"from") + 1 :]
    if origin[:1] == [b"pg_catalog"]:
        del origin[0]
    return origin[:1] == [b"pg_settings"] and origin[1:2] in ([], [b"where"])


def _unquoted(token: Token) -> bytes:
    """The name in a quoted token, else nothing."""
    return token.text[1:-1].replace(b'""', b'"') if token.kind == "quoted" else b""
