"""What a client's text may leave behind on a server, and which prepared statements it names.

``analyse`` looks at the tokens of a whole text in which ``scan`` has found something, once for each distinct one,
without parsing SQL. What it calls known is known by the words of the text and by a lexicon of what functions, triggers
and the like in that database are able to do; all else has to be asked.
"""

from __future__ import annotations

from dataclasses import replace

from pgdoorman_lib.wire.bodies import read, read_text
from pgdoorman_lib.wire.body import said_traces
from pgdoorman_lib.wire.finder import Finder
from pgdoorman_lib.wire.lexer import LONGEST_NAME, QUOTED, SEMICOLON, SYMBOL, WORD
from pgdoorman_lib.wire.reading import AS_USUAL, Reading, converted
from pgdoorman_lib.wire.scan import BACKSLASHES, MULTIBYTE, PLAIN, Lexicon, Scanner
from pgdoorman_lib.wire.session_state import (
    DIRTY_CURSORS,
    DIRTY_LIBRARY,
    DIRTY_LISTEN,
    DIRTY_PREPARED,
    DIRTY_TEMPORARY,
    DIRTY_UNKNOWN,
)
from pgdoorman_lib.wire.source import LOST
from pgdoorman_lib.wire.text import NOTHING, UNREAD, Text, joined
from pgdoorman_lib.wire.tokens import Token, tokens
from pgdoorman_lib.wire.traces import EVERYTHING, NAMED, Traces, option_name, setting, union

#: Texts whose analysis is remembered for a lexicon, and the length (bytes) of those that are.
REMEMBERED = 1000
LONGEST_REMEMBERED = 4096
#: Length (bytes) up to which a text in which something was found is waited for, and looked at whole.
LONGEST = 65536


def analyse(text: bytes, lexicon: Lexicon = PLAIN, reading: Reading = AS_USUAL, uncertain: bool = False) -> Text:
    """What ``text``, one or more SQL statements, may leave behind and which prepared statements it names.

    ``uncertain``: whether backslashes escape may have changed by the time it is read.
    """
    if len(text) > LONGEST:
        return Parts(lexicon, reading, uncertain).feed(bytearray(text), 0, len(text), True)
    if uncertain and b"\\" in text:
        other = Reading(reading.flags ^ BACKSLASHES, reading.codec)
        return joined(analyse(text, lexicon, reading), analyse(text, lexicon, other))
    key = (text, reading)
    found = lexicon.known.get(key)
    if found is None:
        found = _analysed(text, lexicon, reading)
        if len(text) <= LONGEST_REMEMBERED:
            if len(lexicon.known) >= REMEMBERED:
                lexicon.known.clear()
            lexicon.known[key] = found
    assert isinstance(found, Text)
    return found


def _analysed(text: bytes, lexicon: Lexicon, reading: Reading) -> Text:
    backslashes = bool(reading.flags & BACKSLASHES)
    meant = text  # in UTF-8, as the lexicon's names
    seen = text  # with letters that are no tokens' ends
    if not text.isascii():
        if reading.codec is None:
            return UNREAD
        if reading.codec:
            both = converted(text, reading.codec)
            if both is None:
                return UNREAD
            meant, seen = both
    body = read_text(meant, backslashes)
    traces = said_traces(body, lexicon.named, lexicon.written, lexicon.calls)
    finder = Finder(text)
    statement: list[Token] = []
    for token in tokens(seen, backslashes):
        if token.kind == SEMICOLON:
            finder.take(statement, token.start)
            statement = []
        else:
            statement.append(token)
    finder.take(statement, len(text))
    if finder.statements > 1:
        for language, code in finder.bodies:
            made = EVERYTHING
            if code is not None:
                made = said_traces(read(language, code), lexicon.named, lexicon.written, lexicon.calls)
            traces = union(traces, made)
    parameters = body.parameters | traces.parameters if lexicon.names_matter else body.parameters
    traces = traces.with_names(lexicon.names_matter)
    keeps = finder.keeps & (traces.bits | DIRTY_LISTEN | DIRTY_LIBRARY)
    return Text(
        traces=traces,
        parameters=tuple(sorted(parameters)),
        keeps=keeps,
        sets=finder.sets,
        names=tuple(finder.names),
        sequences=finder.sequences,
        resets=tuple(finder.resets),
        defines=finder.defines or traces.unnamed > NAMED,
        assigns=finder.assigns if finder.statements == 1 else None,
        only_resets=finder.only_resets,
        hides=finder.hides or traces.unnamed > NAMED,
        enables=finder.enables,
    )


#: What words tell of that are not in the lexicon, of a text that is not there whole; all others that are found begin a
#: statement that may do anything.
_TOLD_BY = {
    **dict.fromkeys((b"temp", b"temporary"), Text(Traces(DIRTY_TEMPORARY, (), NAMED, True))),
    b"hold": Text(Traces(DIRTY_CURSORS)),
    b"into": NOTHING,
    **dict.fromkeys((b"currval", b"lastval"), Text(sequences=True)),
    **dict.fromkeys((b"prepare", b"execute", b"deallocate"), Text(Traces(DIRTY_PREPARED))),
}

#: Of a text in parts of which one could not be read, nor what is behind it.
_LOST = Text(union(EVERYTHING, Traces(DIRTY_UNKNOWN)), defines=True)


class Parts:
    """Looks at a text of which only a part is there at a time, and so can't tell what is done with what it names."""

    def __init__(self, lexicon: Lexicon, reading: Reading, uncertain: bool = False) -> None:
        self._scanner = Scanner(lexicon)
        self._scanner.begin_parts(bool(reading.flags & BACKSLASHES))
        self._unread = bool(reading.flags & MULTIBYTE)
        self._uncertain = uncertain
        #: what all parts so far may leave
        self.found = NOTHING

    def feed(self, data: bytearray, start: int, end: int, last: bool) -> Text:
        """What the next part, ``data[start:end]``, may leave behind."""
        found = self._read(data, start, end, last)
        self.found = joined(self.found, found)
        return found

    def _read(self, data: bytearray, start: int, end: int, last: bool) -> Text:
        if (self._unread and not data[start:end].isascii()) or (self._uncertain and data.find(b"\\", start, end) >= 0):
            return UNREAD
        scanner = self._scanner
        scanner.feed(data, start, end, last)
        found = NOTHING
        while scanner.seek() and not scanner.incomplete:
            word = scanner.word()
            traces = scanner.lexicon.hazards.get(word[:LONGEST_NAME])
            if traces is not None:
                told = Text(traces)
            elif word == b"set":
                told = self._set()
            else:
                told = _TOLD_BY.get(word, UNREAD)
            found = replace(joined(found, told), defines=True)
        return _LOST if scanner.incomplete == LOST else found

    def _set(self) -> Text:
        """What the SET does whose word was found: its name stands behind it, the value may be long."""
        scanner = self._scanner
        name = b""
        while True:
            kind = scanner.next()
            piece = bytes(scanner.data[scanner.start : scanner.stop])
            if kind == WORD or (kind == QUOTED and not scanner.prefix):
                word = scanner.word()[:LONGEST_NAME]
                if name and not name.endswith(b"."):
                    if kind == WORD and word == b"to":
                        break
                    if name not in (b"session", b"local"):
                        return UNREAD
                    name = b""
                name += word
            elif kind == SYMBOL and piece == b"." and name:
                name += b"."
            elif kind == SYMBOL and piece == b"=" and name:
                break
            else:
                return UNREAD
        traces = union(setting(option_name(name)), Traces(DIRTY_TEMPORARY if name == b"search_path" else 0))
        return Text(traces)
