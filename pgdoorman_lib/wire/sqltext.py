"""What the text of a statement betrays of what it may leave behind on a server, found without parsing SQL.

``scan`` is one pass over the bytes of every statement that is parsed or sent as a simple query: it may find too much
(a word in a comment costs a cleaning), and it can't see what a function does inside.
"""

from __future__ import annotations

import re

_int = int

# Bits of ``scan``: the first three are session_state's DIRTY_* of the same value.
TEXT_PARAMETERS = 1
TEXT_TEMPORARY = 16
TEXT_LOCKS = 64
#: DEALLOCATE stands somewhere
TEXT_DEALLOCATE = 256


def scan(data: bytearray, start: _int, end: _int) -> _int:
    """The TEXT_* bits of ``data[start:end]``: set_config, TEMP, pg_advisory_lock and its kin, DEALLOCATE."""
    found = 0
    position = start + 2
    last = end - 4
    while position < last:
        c = data[position] | 32
        if c == 0x7F:  # "_"
            b = data[position - 1] | 32
            if b == 0x74:  # se"t_c"onfig
                if data[position - 2] | 32 == 0x65 and data[position + 1] | 32 == 0x63:
                    found |= 1
            elif b == 0x67 and data[position - 2] | 32 == 0x70:  # "pg_"
                c = data[position + 1] | 32
                if c == 0x61 and data[position + 2] | 32 == 0x64 and data[position + 3] | 32 == 0x76:  # advisory
                    if position + 10 >= end or data[position + 10] | 32 != 0x78:  # not pg_advisory_xact_lock
                        found |= 64
                elif (
                    c == 0x74
                    and data[position + 3] | 32 == 0x79  # try_advisory
                    and (position + 14 >= end or data[position + 14] | 32 != 0x78)
                ):
                    found |= 64
        elif c == 0x6D:  # te"m"p
            if data[position - 1] | 32 == 0x65 and data[position - 2] | 32 == 0x74 and data[position + 1] | 32 == 0x70:
                found |= 16
        elif (
            c == 0x6C  # dea"l"locate
            and data[position + 1] | 32 == 0x6C
            and data[position - 1] | 32 == 0x61
            and data[position - 2] | 32 == 0x65
            and data[position + 2] | 32 == 0x6F
        ):
            found |= 256
        position += 1
    return found


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


def deallocations(text: bytes) -> list[tuple[int, int, bytes]]:
    """Every ``DEALLOCATE [PREPARE] name`` among the statements of ``text``: (start, end) of the name, and the name.

    DEALLOCATE ALL is none of them.
    """
    found = []
    tokens = [match for match in _TOKEN.finditer(text) if match.lastgroup != "blank"]
    beginning = True
    for index, token in enumerate(tokens):
        if beginning and token.group().lower() == b"deallocate":
            rest = tokens[index + 1 : index + 3]
            if len(rest) > 1 and rest[0].group().lower() == b"prepare" and rest[1].lastgroup in ("word", "quoted"):
                rest = rest[1:]
            if rest and rest[0].lastgroup == "quoted":
                found.append((*rest[0].span(), rest[0].group()[1:-1].replace(b'""', b'"')))
            elif rest and rest[0].lastgroup == "word" and rest[0].group().lower() != b"all":
                found.append((*rest[0].span(), rest[0].group().lower()))
        beginning = token.lastgroup == "end"
    return found
