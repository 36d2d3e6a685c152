"""What a statement with a telling text may leave behind on a server, and which prepared statements it names.

``analyse`` looks at the tokens of a text, once for each distinct one, without parsing SQL. It can't see what a function
does inside.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from functools import lru_cache

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
)

#: Texts whose analysis is remembered, and the length (bytes) beyond which a text is not analysed but taken for what
#: ``scan`` says: going through tokens costs about a microsecond each.
REMEMBERED = 1000
LONGEST = 16384


@dataclass(frozen=True)
class Name:
    """A statement's name in ``PREPARE``, ``EXECUTE`` or ``DEALLOCATE``.

    ``verb`` is that word in lower case; the name stands at ``start:end`` of the text, its statement ends at ``stop``.
    """

    verb: str
    start: int
    end: int
    stop: int
    name: bytes


@dataclass(frozen=True)
class Text:
    """What is known of a text: ``leaves``, the LEAVES bits of what it may leave behind.

    ``keeps``: bits of what it surely leaves, if it succeeds outside a transaction. ``local_sets``: how many of its SETs
    end with the transaction. ``custom``: names of customized options (``a.b``) it may set, since no catalogue lists
    them; ``dynamic``: it may set others, named by parameters. ``names``: statements it prepares, executes or drops.
    ``sequences``: it asks what nextval gave this session.
    """

    leaves: int = 0
    keeps: int = 0
    local_sets: int = 0
    custom: tuple[str, ...] = ()
    dynamic: bool = False
    names: tuple[Name, ...] = ()
    sequences: bool = False


NOTHING = Text()

_TOKEN = re.compile(
    rb"""
      (?P<blank> \s+ | --[^\n]* | /\*.*?\*/ )
    | (?P<quoted> "(?:[^"]|"")*" )
    | (?P<opaque> [eE]'(?:[^'\\]|\\.|'')*' | '(?:[^']|'')*' | \$(?P<tag>[A-Za-z_]?[A-Za-z0-9_]*)\$.*?\$(?P=tag)\$ )
    | (?P<word> [A-Za-z_\x80-\xff][A-Za-z0-9_$\x80-\xff]* )
    | (?P<end> ; )
    | (?P<other> . )
    """,
    re.VERBOSE | re.DOTALL,
)
# What must stand in a text for a closer look to find anything; it is cheap to see that it does not.
_WORTH = re.compile(
    rb"set_config|pg_(?:try_)?advisory|replication_origin_session|\bpg_temp|\btemp(?:orary)?\b|\bhold\b"
    rb"|\b(?:prepare|execute|deallocate|set|listen|load|currval|lastval)\b",
    re.IGNORECASE,
)
# The same inside a string, which may be run as code.
_CREATES_TEMPORARY = re.compile(
    rb"\b(?:create|into)\s+(?:(?:global|local)\s+)?temp(?:orary)?\b|\bpg_temp", re.IGNORECASE
)
_SETS = re.compile(rb"set_config|\bset\s+(?!local\b|transaction\b)\w", re.IGNORECASE)
_CUSTOM = re.compile(rb"[A-Za-z_][A-Za-z0-9_$]*(?:\.[A-Za-z_][A-Za-z0-9_$]*)+")
_ADVISORY = re.compile(rb"pg_(try_)?advisory_(un)?lock", re.IGNORECASE)


def rough(marks: int) -> Text:
    """What to take for granted of a text of which only the beginning is there, by ``scan`` of that."""
    return Text(leaves=(marks | (1 if marks & TEXT_SET else 0)) & LEAVES, sequences=bool(marks & TEXT_SEQUENCES))


def custom_names(data: bytes) -> tuple[str, ...]:
    """Everything in ``data`` that could be the name of a customized option."""
    return tuple({match.group().decode().lower(): None for match in _CUSTOM.finditer(data)})


def look(text: bytes, marks: int) -> Text:
    """What a whole text is known to do, given that ``scan`` found ``marks`` in it."""
    return analyse(text) if len(text) <= LONGEST else rough(marks)


@lru_cache(maxsize=REMEMBERED)
def analyse(text: bytes) -> Text:
    """What ``text``, one or more SQL statements, may leave behind and which prepared statements it names."""
    if _WORTH.search(text) is None:
        return NOTHING
    found = _Finder(text)
    statement: list[re.Match[bytes]] = []
    for token in _TOKEN.finditer(text):
        if token.lastgroup == "end":
            found.take(statement, token.start())
            statement = []
        elif token.lastgroup != "blank":
            statement.append(token)
    found.take(statement, len(text))
    return Text(
        found.leaves,
        found.keeps,
        found.local_sets,
        tuple(dict.fromkeys(found.custom)),
        found.dynamic,
        tuple(found.names),
        found.sequences,
    )


class _Finder:
    """Collects what the statements of one text betray."""

    def __init__(self, text: bytes) -> None:
        self.text = text
        self.leaves = 0
        self.keeps = 0
        self.local_sets = 0
        self.custom: list[str] = []
        self.dynamic = False
        self.names: list[Name] = []
        self.sequences = False

    def take(self, tokens: list[re.Match[bytes]], stop: int) -> None:
        """One statement, which ends at ``stop``."""
        if not tokens:
            return
        # Words as they are compared; quoted names and all else can't be keywords.
        words = [token.group().lower() if token.lastgroup == "word" else b"" for token in tokens]
        verb = words[0]
        if verb == b"set":
            self._set(tokens, words)
        elif verb == b"listen":
            self.keeps |= TEXT_LISTEN
        elif verb == b"load":
            self.keeps |= TEXT_LIBRARY
        elif verb == b"declare":
            self._declare(words)
        self._temporary(words)
        self._names(tokens, words, stop)
        for index, token in enumerate(tokens):
            if token.lastgroup == "opaque":
                self._opaque(token.group(), verb == b"do")
            elif token.lastgroup == "word":
                word = words[index]
                if word == b"set_config":
                    self._set_config(tokens[index + 1 :])
                elif word.startswith(b"pg_replication_origin_session"):
                    self.leaves |= TEXT_ORIGIN
                elif word in (b"currval", b"lastval"):
                    self.sequences = True
                elif b"advisory" in word:
                    self._advisory(word)

    def _set(self, tokens: list[re.Match[bytes]], words: list[bytes]) -> None:
        second = words[1] if len(words) > 1 else b""
        if second in (b"local", b"transaction"):
            self.local_sets += 1
        elif second != b"constraints":
            self.leaves |= TEXT_PARAMETERS
            self.custom += custom_names(self.text[tokens[0].end() : tokens[-1].end()].replace(b'"', b""))

    def _set_config(self, rest: list[re.Match[bytes]]) -> None:
        """The tokens behind the word ``set_config``."""
        depth = 0
        inside: list[re.Match[bytes]] = []
        for token in rest:
            symbol = token.group()
            depth += (symbol == b"(") - (symbol == b")")
            if depth == 0:
                break
            inside.append(token)
        local = inside[-1].group().lower().strip(b"'") if inside else b""
        if local in (b"true", b"t", b"on") and len(inside) > 2 and inside[-2].group() == b",":
            return
        self.leaves |= TEXT_PARAMETERS
        if len(inside) > 1 and inside[1].lastgroup == "opaque":
            self.custom += custom_names(inside[1].group())
        else:
            self.dynamic = True

    def _declare(self, words: list[bytes]) -> None:
        if any(word == b"with" and after == b"hold" for word, after in itertools.pairwise(words)):
            self.leaves |= TEXT_CURSORS
            self.keeps |= TEXT_CURSORS

    def _temporary(self, words: list[bytes]) -> None:
        made = words[0] == b"create" and any(word in (b"temp", b"temporary") for word in words[1:5])
        for word, after, last in zip(words, words[1:], [*words[2:], b""], strict=False):
            if word == b"into" and (after if after not in (b"global", b"local") else last) in (b"temp", b"temporary"):
                made = True
        if made and words[-1] == b"drop" and words[-2:-1] == [b"commit"]:
            return  # ON COMMIT DROP
        if made:
            self.leaves |= TEXT_TEMPORARY
            self.keeps |= TEXT_TEMPORARY
        elif any(word.startswith(b"pg_temp") for word in words):
            self.leaves |= TEXT_TEMPORARY

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
            self.custom += custom_names(text)

    def _names(self, tokens: list[re.Match[bytes]], words: list[bytes], stop: int) -> None:
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
        if token.lastgroup == "quoted":
            name = token.group()[1:-1].replace(b'""', b'"')
        elif token.lastgroup == "word" and not (verb == b"deallocate" and words[at] == b"all"):
            name = words[at]
        else:
            return
        self.names.append(Name(verb.decode(), token.start(), token.end(), stop, name))
