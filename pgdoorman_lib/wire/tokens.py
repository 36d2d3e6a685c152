"""What the tokens of an SQL text mean: words, names and strings without their quotes and escapes."""

from __future__ import annotations

import re
from typing import NamedTuple

from pgdoorman_lib.wire.lexer import END, LONGEST_NAME, QUOTED, STRING, WORD, Lexer

_int = int


class Token(NamedTuple):
    """A piece of a text at ``start:end``; ``text`` are its bytes, but for a UESCAPE behind them.

    ``value`` is what it means: a word in lower case, a name or a string without quotes and escapes; words and names are
    cut to LONGEST_NAME bytes. None: it can't be told (an escape that is wrong, or not ASCII).
    """

    kind: _int
    start: _int
    end: _int
    text: bytes
    value: bytes | None


def tokens(text: bytes, backslashes: bool = False) -> list[Token]:
    """All tokens of a whole text."""
    data = bytearray(text)
    lexer = Lexer()
    lexer.begin(data, 0, len(data), backslashes)
    found = []
    while True:
        kind = lexer.next()
        if kind == END:
            break
        piece = text[lexer.start : lexer.stop]
        value: bytes | None = piece
        if kind == WORD:
            value = piece[:LONGEST_NAME].lower()
        elif kind in (QUOTED, STRING):
            value = _meaning(piece, kind, lexer.prefix, backslashes)
        found.append(Token(kind, lexer.start, lexer.stop, piece, value))
    return _with_escape_characters(found)


#: A quote within a string: doubled, or behind it the string goes on on another line.
_QUOTE = re.compile(rb"('')|'(?:[^\S\r\n]|--[^\r\n]*)*[\r\n](?:\s|--[^\r\n]*[\r\n])*'")
_ESCAPE = re.compile(rb"\\(?:x([0-9A-Fa-f]{1,2})|([0-7]{1,3})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|(.))", re.DOTALL)
_ESCAPES = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}


def _meaning(piece: bytes, kind: _int, prefix: _int, backslashes: bool) -> bytes | None:
    """What a string or a quoted name means."""
    if prefix == 0x24:
        size = piece.index(b"$", 1) + 1
        return piece[size:-size]
    quote = b"'" if kind == STRING else b'"'
    inside = piece[piece.index(quote) + 1 : -1]
    escaped = kind == STRING and (prefix == 0x65 or (backslashes and prefix == 0))
    if kind == STRING:
        inside = _joined_escaped(inside) if escaped else _joined(inside)
    if prefix == 0x75:
        return _unicode(inside.replace(quote * 2, quote), b"\\", kind)
    if escaped:
        return _unescaped(inside)
    inside = inside.replace(quote * 2, quote)
    return inside[:LONGEST_NAME] if kind == QUOTED else inside


_ESCAPED_QUOTE = re.compile(rb"\\.|" + _QUOTE.pattern, re.DOTALL)


def _joined(inside: bytes) -> bytes:
    """The parts of a string on several lines, joined; quotes stay doubled."""
    return _QUOTE.sub(lambda match: match[1] or b"", inside)


def _joined_escaped(inside: bytes) -> bytes:
    """The parts of an escaped string on several lines, joined."""
    return _ESCAPED_QUOTE.sub(lambda match: match[0] if match[0][:1] == b"\\" else match[1] or b"", inside)


def _unescaped(inside: bytes) -> bytes | None:
    """The inside of an E'' string without its escapes; None for one that is not ASCII."""
    wrong = False

    def one(match: re.Match[bytes]) -> bytes:
        nonlocal wrong
        digits, octal, short, long, other = match.groups()
        if other is not None:
            return _ESCAPES.get(other, other)
        code = int(digits or short or long or b"0", 16) if octal is None else int(octal, 8)
        if not 0 < code < 128:
            wrong = True
            return b""
        return bytes((code,))

    value = _ESCAPE.sub(one, inside.replace(b"''", b"'"))
    return None if wrong else value


def _unicode(inside: bytes, escape: bytes, kind: _int) -> bytes | None:
    """The inside of a U& string or name without its escapes, which become UTF-8; None where one is wrong."""
    out = bytearray()
    units = bytearray()  # of UTF-16, of which two may be one letter
    at = 0
    while at < len(inside):
        byte = inside[at : at + 1]
        if byte != escape:
            out += byte
            at += 1
            continue
        if inside[at + 1 : at + 2] == escape:
            out += escape
            at += 2
            continue
        long = inside[at + 1 : at + 2] == b"+"
        digits = inside[at + 2 : at + 8] if long else inside[at + 1 : at + 5]
        if len(digits) != (6 if long else 4) or re.fullmatch(rb"[0-9A-Fa-f]+", digits) is None:
            return None
        code = int(digits, 16)
        if not 0 < code < 0x110000:
            return None
        at += 8 if long else 5
        if 0xD800 <= code < 0xE000:
            units += code.to_bytes(2, "big")
            if len(units) < 4:
                continue
            letter = units.decode("utf-16-be", "replace")
            units.clear()
        else:
            letter = chr(code)
        if len(letter) != 1 or units:
            return None
        out += letter.encode()
    if units:
        return None
    return bytes(out[:LONGEST_NAME] if kind == QUOTED else out)


def _with_escape_characters(found: list[Token]) -> list[Token]:
    """The tokens with ``UESCAPE 'c'`` as a part of the U& string or name whose escape character it tells."""
    if not any(token.value == b"uescape" for token in found):
        return found
    merged: list[Token] = []
    index = 0
    while index < len(found):
        token = found[index]
        index += 1
        if token.text[:2] in (b"u&", b"U&") and token.kind in (STRING, QUOTED) and index + 1 < len(found):
            word, character = found[index], found[index + 1]
            if word.value == b"uescape" and word.kind == WORD and character.kind == STRING and character.value:
                quote = b"'" if token.kind == STRING else b'"'
                inside = token.text[token.text.index(quote) + 1 : -1]
                inside = (_joined(inside) if token.kind == STRING else inside).replace(quote * 2, quote)
                value = _unicode(inside, character.value[:1], token.kind)
                token = Token(token.kind, token.start, character.end, token.text, value)
                index += 2
        merged.append(token)
    return merged
