"""What a text means besides its bytes: names as PostgreSQL cuts them, and constants that it reads by the clock."""

from __future__ import annotations

import re

#: Bytes of a name that count (NAMEDATALEN - 1). Of the names of statements in protocol messages, too: PostgreSQL takes
#: those for the same that begin with the same so many bytes.
MAX_NAME = 63

# Words that are a time of their own each time they are read, by date, time and timestamp input.
_MOMENT = re.compile(rb"\b(?:now|today|tomorrow|yesterday)\b", re.IGNORECASE)
# What must stand in a text for that, in lower case; or a constant in two parts.
_WORTH = (b"now", b"today", b"tomorrow", b"yesterday", b"e'", b"u&'")
_PARTS = re.compile(rb"'\s*[\r\n]\s*'")
# Constants that continue behind a line break are one.
_STRING = rb"'(?:[^']|'')*'(?:[ \t\f\v]*[\r\n]\s*'(?:[^']|'')*')*"
_PIECE = re.compile(
    rb"--[^\r\n]*|/\*.*?\*/|\"(?:[^\"]|\"\")*\""
    rb"|(?P<unicode>\b[uU]&" + _STRING + rb")"
    rb"|(?P<escaped>\b[eE]'(?:[^'\\]|\\.|'')*'(?:[ \t\f\v]*[\r\n]\s*'(?:[^'\\]|\\.|'')*')*)"
    rb"|(?P<plain>" + _STRING + rb")"
    rb"|(?P<dollar>\$(?P<tag>[A-Za-z_\x80-\xff][\w\x80-\xff]*|)\$.*?\$(?P=tag)\$)",
    re.DOTALL,
)
_JOINT = re.compile(rb"'\s*'")
_SPELLED = re.compile(rb"\\[xuU0-7]")


def varying(text: bytes) -> bool:
    """Whether a constant in ``text`` may be a time that depends on when the text is analysed."""
    low = text.lower()
    if not any(word in low for word in _WORTH) and _PARTS.search(text) is None:
        return False
    if b"\\" in text and _MOMENT.search(text) is not None:
        return True  # where strings end may depend on standard_conforming_strings
    for piece in _PIECE.finditer(text):
        kind = piece.lastgroup
        if kind is None:
            continue
        constant = piece.group()
        if kind == "unicode" or (kind == "escaped" and _SPELLED.search(constant) is not None):
            return True  # what it spells is not worth finding out
        if kind == "dollar" or kind == "tag":
            if _MOMENT.search(constant) is not None:
                return True
        elif _MOMENT.search(_JOINT.sub(b"", constant)) is not None:
            return True
    return False


def truncated(name: bytes) -> bytes:
    """An SQL name as PostgreSQL cuts it: at most MAX_NAME bytes, and no half character of UTF-8."""
    if len(name) <= MAX_NAME:
        return name
    stop = MAX_NAME
    while stop > MAX_NAME - 4 and name[stop] & 0xC0 == 0x80:
        stop -= 1
    return name[:stop]


def impossible(name: bytes) -> bytes:
    """A name that no statement on a server has, and that looks like ``name``: we make none that ends so."""
    return name[: MAX_NAME - 1] + b" "
