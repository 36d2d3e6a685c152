"""Whether the text of a statement is known to leave nothing behind on a server: one pass over its tokens.

Every text that is parsed or sent as a simple query is looked at. One that has none of a lexicon's words outside of its
strings, and whose statements begin with harmless verbs, leaves nothing; ``sqltext`` takes a closer look at the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from pgdoorman_lib.wire.lexer import Lexer, hash_of
from pgdoorman_lib.wire.traces import ANYTHING, BUILTIN, BUILTIN_WRITTEN, POSSIBLE, UNLIKELY, WRITES, Traces

_int = int

# How a session's texts are to be read, as bits.
#: backslashes escape in plain strings
BACKSLASHES = 1
#: letters that are not ASCII are not the lexicon's UTF-8, and may have ASCII bytes in them: they have to be converted
MULTIBYTE = 2
#: whether they do may change before the text is read
UNCERTAIN = 4
#: the words that matter may be others by then
DOUBTFUL_READING = 8

#: Bytes of a text that is not kept until the next one is looked at.
_LONG = 65536

# Classes of words in a lexicon's table.
_HAZARD = 1
_HARMLESS = 2
_INSERTING = 4
_INTO = 8
_WRITES = 16
_WRITTEN = 32

#: Statements that leave nothing unless something they name does. CREATE, ALTER, DROP and their like are not among them:
#: they change what others mean.
HARMLESS_VERBS = frozenset(
    b"select with values table insert update delete merge begin start commit end rollback abort savepoint release show"
    b" fetch move copy explain analyze analyse vacuum lock checkpoint notify truncate declare refresh reindex cluster"
    b" close".split()
)
#: Words that tell of something wherever they stand; what else can be dangerous is a name.
TELLING = frozenset(b"temp temporary hold prepare execute deallocate currval lastval uescape".split())
_SIZE = 1 << 16


class Lexicon:
    """The words to look for: PostgreSQL's own, and the ``hazards`` that a database's catalogue names.

    ``written``: those among them that matter only where a relation of that name is written to; ``calls``: those that
    are of functions only; ``names_matter``: see ``Traces.with_names``.
    """

    __slots__ = ("calls", "hazards", "known", "named", "names_matter", "table", "written")

    def __init__(
        self,
        hazards: Mapping[bytes, Traces] | None = None,
        written: Iterable[bytes] = (),
        calls: Iterable[bytes] = (),
        names_matter: bool = False,
    ) -> None:
        self.names_matter = names_matter
        #: those that the catalogue names
        self.named: dict[bytes, Traces] = dict(hazards or {})
        if ANYTHING in self.named and self.named[ANYTHING].unnamed == POSSIBLE:
            # What any statement at all may do can't keep every client on its server: it is taken back.
            self.named[ANYTHING] = replace(self.named[ANYTHING], unnamed=UNLIKELY)
        self.hazards: dict[bytes, Traces] = {**BUILTIN, **self.named}
        self.written = frozenset(written) | BUILTIN_WRITTEN
        self.calls = frozenset(calls)
        #: what ``sqltext`` has found out about texts with these words
        self.known: dict[object, object] = {}
        table = bytearray(_SIZE)
        for words, mark in (
            (TELLING, _HAZARD),
            ((name for name in self.hazards if name not in self.written), _HAZARD),
            (self.written, _WRITTEN),
            (HARMLESS_VERBS, _HARMLESS),
            ((b"insert", b"merge"), _INSERTING),
            ((b"into",), _INTO),
            (WRITES, _WRITES),
        ):
            for word in words:
                table[_slot(hash_of(word))] |= mark
        if ANYTHING in self.hazards:
            table = bytearray(bytes((_HAZARD | _WRITTEN,)) * _SIZE)
        self.table = table


def _slot(value: _int) -> _int:
    return (value ^ (value >> 16)) & (_SIZE - 1)


#: What holds for every database.
PLAIN = Lexicon()


class Scanner(Lexer):
    """Looks at texts with the words of ``lexicon``."""

    __slots__ = ("begins", "doubts", "inserting", "known", "lexicon", "table", "writing")

    def __init__(self, lexicon: Lexicon = PLAIN) -> None:
        Lexer.__init__(self)
        self.use(lexicon)
        #: the lexicon may be old: every text has to be looked at
        self.doubts = 0
        #: a statement begins at the next word; the one under way is an INSERT or MERGE; the text writes to relations
        self.begins = 1
        self.inserting = 0
        self.writing = 0

    def use(self, lexicon: Lexicon) -> None:
        """Look for these words from now on."""
        self.lexicon = lexicon
        self.table = lexicon.table
        #: a place for texts in which nothing was found, for who asks (``client.unnamed``)
        self.known: dict[bytes, Any] = {}

    def scan(self, data: bytearray, start: _int, end: _int, reading: _int) -> _int:
        """Whether the whole text ``data[start:end]`` (a NUL ends it earlier) has to be looked at closer."""
        if self.doubts:
            return 1
        if reading and (
            reading & 8
            or (reading & 2 and _not_ascii(data, start, end))
            or (reading & 4 and data.find(b"\\", start, end) >= 0)
        ):
            return 1
        self.begin(data, start, end, reading & 1)
        self.begins = 1
        self.inserting = 0
        self.writing = 0
        found = self.seek()
        if end - start > _LONG:
            self.data = bytearray()  # the next may be long in coming, and this one's memory is wanted
        return found

    def seek(self) -> _int:
        """Go on to the next word at which the text has to be looked at: 1, or 0 when there is none in this part."""
        table = self.table
        text = self.data
        begins = self.begins
        while True:
            kind = self.next()
            if kind == 1 or kind == 2:
                mark = table[(self.hash ^ (self.hash >> 16)) & 0xFFFF]
                if mark & 16:
                    self.writing = 1
                if begins:
                    begins = 0
                    self.begins = 0
                    self.inserting = mark & 4
                    if kind == 2 or not mark & 2:
                        return 1
                if mark & 41 and (
                    (mark & 8 and not self.inserting)
                    or (mark & 1 and self._is_meant())
                    or (mark & 32 and self.writing and self._is_meant())
                ):
                    return 1
                if kind == 2 and self.prefix:  # U&"…"
                    return 1
                if self.stop - self.start >= 7:
                    if self.stop - self.start > 63:
                        return 1
                    at = self.start + (1 if kind == 2 else 0)
                    if text[at + 2] == 0x5F and text[at + 3] | 32 == 0x74 and self._is_temporary(at):
                        return 1
            elif kind == 6:
                begins = 1
                self.begins = 1
            elif kind == 0:
                return self.incomplete
            elif begins and (kind != 7 or text[self.start] != 0x28):
                begins = 0
                self.begins = 0
                return 1

    def _is_meant(self) -> bool:
        """Whether the word is one of the lexicon's, not one that shares its place in the table."""
        word = self.word()
        hazards = self.lexicon.hazards
        return word in hazards or word in TELLING or ANYTHING in hazards

    def word(self) -> bytes:
        """The word or the quoted name just found, as PostgreSQL compares it."""
        piece = bytes(self.data[self.start : self.stop])
        if piece[:1] == b'"':
            return piece[1 : len(piece) - 1].replace(b'""', b'"')
        return piece.lower()

    def _is_temporary(self, at: _int) -> bool:
        """Whether a name at ``at`` is a temporary schema's."""
        return bytes(self.data[at : at + 7]).lower() == b"pg_temp"


def _not_ascii(data: bytearray, start: _int, end: _int) -> bool:
    return not data[start:end].isascii()
