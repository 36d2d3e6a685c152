"""Where the tokens of an SQL text begin and end, as PostgreSQL's scanner sees them (src/backend/parser/scan.l).

Rules:
1. One pass, in time linear to the text; each byte is looked at once or handed to ``find``.
2. A text may come in parts: what its end cuts off stays for the next part (``Source.feed``).
3. What PostgreSQL reads differently under other settings is told to the lexer: whether backslashes escape in plain
   strings (standard_conforming_strings off). A text in an encoding whose second bytes may be ASCII can't be read here.
4. Where versions differ (``1set``) both readings' words are tokens: rather one too many than one too few.
"""

from __future__ import annotations

import re

from pgdoorman_lib.wire.measures import LONGEST_KEPT
from pgdoorman_lib.wire.source import Source

_int = int

# What ``Lexer.next`` returns.
END = 0
WORD = 1
QUOTED = 2
STRING = 3
PARAMETER = 4
NUMBER = 5
SEMICOLON = 6
SYMBOL = 7

#: Bytes of a name that PostgreSQL keeps (NAMEDATALEN - 1).
LONGEST_NAME = 63
#: Bytes of a string that are looked at one by one before it is left to ``find``.
_SHORT = 48

# Classes of bytes.
_BLANK, _LETTER, _DIGIT, _DOLLAR, _OTHER = 1, 2, 3, 4, 0
_CLASSES = bytes(
    _BLANK
    if 0 < byte <= 0x20
    else _LETTER
    if (chr(byte).isascii() and chr(byte).isalpha()) or byte == 0x5F or byte >= 0x80
    else _DIGIT
    if 0x30 <= byte <= 0x39
    else _DOLLAR
    if byte == 0x24
    else _OTHER
    for byte in range(256)
)
#: Letters as they are compared: lower case, and all that is not ASCII alike, whatever its encoding.
_FOLDED = bytes(byte | 32 if 0x41 <= byte <= 0x5A else 0x80 if byte >= 0x80 else byte for byte in range(256))


_WORD_END = re.compile(rb"[^A-Za-z0-9_$\x80-\xff]")
_LINE_END = re.compile(rb"[\n\r]")
#: Where a comment may begin or end; or what may be half of that, at the end of a part.
_COMMENT_MARK = re.compile(rb"\*/|/\*|[*/]\Z")


class Lexer(Source):
    """The tokens of a text. ``next`` gives the kind of one after the other, END behind the last.

    ``start`` and ``stop`` are its place in ``data``, for a WORD and a QUOTED ``hash`` stands for its letters
    (``hash_of``).
    """

    __slots__ = ()

    def next(self) -> _int:
        """The kind of the next token; END when there is none (in this part)."""
        text = self.data
        classes = _CLASSES
        folded = _FOLDED
        end = self.end
        if self.mode:
            # The rest of what the last part of the text began.
            if self.mode == 5 or self.mode == 6:
                if not self._pass_comment(self.position):
                    return 0
            elif self.mode == 7:
                if not self._pass_word(self.position):
                    return 0
            else:
                kind = self.pending
                self.start = self.position
                return kind if self._pass_quoted(self.position) else 0
        position = self.position
        while position < end:
            c = text[position]
            kind = classes[c]
            if kind == 1:
                position += 1
                continue
            if kind == 2:  # a word, or the letter before a string
                start = position
                value = 5381
                while position < end:
                    c = text[position]
                    kind = classes[c]
                    if kind == 1 or kind == 0:
                        break
                    value = (value * 33 + folded[c]) & 0x7FFFFFFF
                    position += 1
                if position == end and not self.final:
                    if position - start < LONGEST_KEPT:
                        return self._wait(start)
                    self.mode = 7  # its beginning is all that counts
                if position - start == 1 and position < end:
                    c = text[position]
                    if c == 0x27 or c == 0x26:
                        status = self._prefixed(start, position)
                        if status >= 0:
                            return status
                self.start = start
                self.stop = position
                self.position = position
                self.hash = value
                return 1
            if c == 0x27:
                self.start = position
                self.prefix = 0
                return self._open(3, 2 if self.backslashes else 1, position + 1)
            if c == 0x3B:
                self.start = position
                self.stop = position + 1
                self.position = position + 1
                return 6
            if c == 0x22:
                self.start = position
                self.prefix = 0
                return self._open(2, 3, position + 1)
            if kind == 3:
                start = position
                while position < end and classes[text[position]] == 3:
                    position += 1
                if position == end and not self.final and position - start < LONGEST_KEPT:
                    return self._wait(start)
                self.start = start
                self.stop = position
                self.position = position
                return 5
            if c == 0x2D or c == 0x2F:
                if position + 1 >= end:
                    if not self.final:
                        return self._wait(position)
                elif c == 0x2D and text[position + 1] == 0x2D:
                    self.mode = 6
                    if not self._pass_comment(position + 2):
                        return 0
                    position = self.position
                    continue
                elif c == 0x2F and text[position + 1] == 0x2A:
                    self.mode = 5
                    self.depth = 1
                    if not self._pass_comment(position + 2):
                        return 0
                    position = self.position
                    continue
            elif c == 0x24:
                return self._dollar(position)
            elif c == 0:
                break  # what stands behind the text in its message
            self.start = position
            self.stop = position + 1
            self.position = position + 1
            return 7
        self.position = end
        return 0

    def _prefixed(self, start: _int, position: _int) -> _int:
        """A single letter with a quote or ``&`` behind it: the kind of what it begins, or -1 if it is just a word."""
        text = self.data
        letter = text[start] | 32
        if text[position] == 0x27:
            if letter == 0x65:  # E'…'
                self.start = start
                self.prefix = letter
                return self._open(3, 2, position + 1)
            if letter == 0x6E:  # N'…' is read as a plain one
                self.start = start
                self.prefix = 0
                return self._open(3, 2 if self.backslashes else 1, position + 1)
            if letter == 0x62 or letter == 0x78:  # bits
                self.start = start
                self.prefix = letter
                return self._open(3, 1, position + 1)
            return -1
        if letter != 0x75:
            return -1
        if position + 1 >= self.end:
            return self._wait(start) if not self.final else -1
        if text[position + 1] == 0x27:
            self.start = start
            self.prefix = letter
            return self._open(3, 1, position + 2)
        if text[position + 1] == 0x22:
            self.start = start
            self.prefix = letter
            return self._open(2, 3, position + 2)
        return -1

    def _open(self, kind: _int, mode: _int, position: _int) -> _int:
        """A string or quoted name begins, its inside at ``position``."""
        self.mode = mode
        self.pending = kind
        return kind if self._pass_quoted(position) else 0

    def _pass_quoted(self, position: _int) -> _int:
        """Go on to the end of what is open, from ``position`` on; 0 when it is not in this part."""
        text = self.data
        end = self.end
        mode = self.mode
        if mode == 4:
            found = text.find(self.tag, position, end)
            if found < 0:
                return self._cut(max(position, end - len(self.tag) + 1))
            self.mode = 0
            self.stop = found + len(self.tag)
            self.position = self.stop
            return 1
        quote = 0x22 if mode == 3 else 0x27
        value = 5381
        looked_at = 0
        while position < end:
            c = text[position]
            if c == quote:
                if position + 1 >= end:
                    if not self.final:
                        return self._cut(position)
                elif text[position + 1] == quote and self.prefix != 0x62 and self.prefix != 0x78:
                    value = (value * 33 + quote) & 0x7FFFFFFF
                    position += 2
                    continue
                if mode != 3:
                    again = self._continued(position + 1)
                    if again == -2:
                        return 0
                    if again >= 0:
                        position = again
                        continue
                self.mode = 0
                self.hash = value
                self.stop = position + 1
                self.position = position + 1
                return 1
            if mode == 2 and c == 0x5C:
                if position + 1 >= end:
                    return self._cut(position)
                position += 2
                continue
            if mode == 3:
                value = (value * 33 + _FOLDED[c]) & 0x7FFFFFFF
            else:
                looked_at += 1
                if looked_at > _SHORT and mode == 1:
                    position = text.find(b"'", position, end)
                    if position < 0:
                        return self._cut(end)
                    continue
            position += 1
        return self._cut(end)

    def _continued(self, position: _int) -> _int:
        """Where a string goes on that was closed before ``position``: behind a quote on another line; -1 nowhere.

        -2: only the next part of the text can tell; what of this one counts for that is kept.
        """
        text = self.data
        end = self.end
        newline = 0
        dashes = 0
        while position < end:
            c = text[position]
            if c == 0x0A or c == 0x0D:
                newline = 1
            elif c == 0x2D:
                dashes = 1
                if position + 1 >= end:
                    break
                if text[position + 1] != 0x2D:
                    return -1
                dashes = 2
                while position < end and text[position] != 0x0A and text[position] != 0x0D:
                    position += 1
                if position < end:
                    dashes = 0
                continue
            elif c == 0x27:
                return position + 1 if newline else -1
            elif c > 0x20:
                return -1
            position += 1
        if self.final:
            return -1
        self.rest = b"'" + (b"\n" if newline else b" ") + b"-" * dashes
        self.position = end
        return -2

    def _pass_comment(self, position: _int) -> _int:
        """Go on to the end of the comment, from ``position`` on; 0 when it is not in this part."""
        data = self.data
        end = self.end
        if self.mode == 6:
            found = _LINE_END.search(data, position, end)
            self.position = end if found is None else found.start()
            if found is None and not self.final:
                return 0
            self.mode = 0
            return 1
        while True:
            found = _COMMENT_MARK.search(data, position, end)
            if found is None:
                break
            position = found.end()
            if position - found.start() == 1:
                if not self.final:
                    return self._wait(position - 1)
                break
            if data[position - 1] == 0x2A:
                self.depth += 1
                continue
            self.depth -= 1
            if self.depth == 0:
                self.mode = 0
                self.position = position
                return 1
        self.position = end
        if self.final:
            self.incomplete = 1
            self.mode = 0
            return 1
        return 0

    def _pass_word(self, position: _int) -> bool:
        """Go on to the end of the word of which only the beginning was given; 0 when it is not in this part."""
        found = _WORD_END.search(self.data, position, self.end)
        if found is None:
            self.position = self.end
            return False
        self.mode = 0
        self.position = found.start()
        return True

    def _dollar(self, position: _int) -> _int:
        """A dollar sign: a parameter, a string in dollar quotes, or a stray one."""
        text = self.data
        end = self.end
        at = position + 1
        if at < end and _CLASSES[text[at]] == 3:
            while at < end and _CLASSES[text[at]] == 3:
                at += 1
            if at == end and not self.final and at - position < LONGEST_KEPT:
                return self._wait(position)
            self.start = position
            self.stop = at
            self.position = at
            return 4
        while at < end and (_CLASSES[text[at]] == 2 or (at > position + 1 and _CLASSES[text[at]] == 3)):
            at += 1
        if at >= end and not self.final:
            return self._wait(position) if at - position < LONGEST_KEPT else self._lose()
        self.start = position
        if at < end and text[at] == 0x24:
            self.tag = bytes(text[position : at + 1])
            self.prefix = 0x24
            return self._open(3, 4, at + 1)
        self.stop = position + 1
        self.position = position + 1
        return 7


def hash_of(name: bytes) -> _int:
    """What ``Lexer.hash`` is for a word of these letters, or for a quoted name of them."""
    value = 5381
    for byte in name:
        value = (value * 33 + _FOLDED[byte]) & 0x7FFFFFFF
    return value
