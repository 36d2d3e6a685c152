"""Whether the text of a statement may leave something behind on a server: one pass over its bytes.

Every statement that is parsed or sent as a simple query is looked at. It may find too much (a word in a comment), never
too little of what it looks for; ``sqltext`` then looks at the tokens of the few texts in which something was found.
"""

from __future__ import annotations

_int = int

# Bits of ``scan``. Those that may have to be cleaned are session_state's DIRTY_* of the same value.
TEXT_PARAMETERS = 1
TEXT_CURSORS = 4
TEXT_LISTEN = 8
TEXT_TEMPORARY = 16
TEXT_LOCKS = 64
TEXT_LIBRARY = 128
#: PREPARE, EXECUTE or DEALLOCATE stands somewhere
TEXT_NAMES = 256
#: a statement begins with SET, or with DO: its code may set something at a place that only tokens show
TEXT_SET = 512
TEXT_ORIGIN = 1024
#: currval or lastval
TEXT_SEQUENCES = 4096
#: a statement begins with RESET or DISCARD
TEXT_RESET = 8192

#: What a statement with such a text may have left once it has run; LISTEN, LOAD and SET are told by their tags.
LEAVES = TEXT_PARAMETERS | TEXT_CURSORS | TEXT_TEMPORARY | TEXT_LOCKS | TEXT_ORIGIN

#: The rare letters at which ``scan`` looks around: those of the words it knows that other words seldom have.
_PIVOTS = bytes(1 if chr(byte | 32) in "pxchv;" or byte == 0x5F else 0 for byte in range(256))
_SEMICOLON = 0x3B
#: Bytes of comments in front of a statement that are passed over: each semicolon may stand before one.
LONGEST_COMMENT = 1000
_longest = LONGEST_COMMENT


def scan(data: bytearray, start: _int, end: _int) -> _int:
    """The TEXT_* bits of ``data[start:end]``."""
    pivots = _PIVOTS
    text = data
    position = start
    while position < end and position < start + 3 and (text[position] == 0x3B or text[position] <= 0x20):
        position += 1  # no pivot is looked for there
    found = beginning(data, position, end)
    position = start + 3
    last = end - 4
    while position < last:
        c = text[position]
        if pivots[c] == 0:
            position += 1
            continue
        if c == 0x5F:  # "_"
            b = text[position - 1] | 32
            if b == 0x74:  # se"t_c"onfig
                if text[position - 2] | 32 == 0x65 and text[position + 1] | 32 == 0x63:
                    found |= 1
            elif b == 0x67:
                if text[position - 2] | 32 == 0x70:  # "pg_"
                    c = text[position + 1] | 32
                    if c == 0x61 and text[position + 2] | 32 == 0x64 and text[position + 3] | 32 == 0x76:  # advisory
                        if position + 10 >= end or text[position + 10] | 32 != 0x78:  # not pg_advisory_xact_lock
                            found |= 64
                    elif (
                        c == 0x74
                        and text[position + 3] | 32 == 0x79  # try_advisory
                        and (position + 14 >= end or text[position + 14] | 32 != 0x78)
                    ):
                        found |= 64
            elif (
                b == 0x6E and text[position + 1] | 32 == 0x6F and text[position + 2] | 32 == 0x72
            ):  # replicatio"n_or"igin
                found |= 1024
        elif c == _SEMICOLON:
            found |= beginning(data, position + 1, end)
        else:
            c |= 32
            a = text[position - 1] | 32
            b = text[position + 1] | 32
            if c == 0x70:
                if a == 0x6D:  # te"mp"
                    if text[position - 2] | 32 == 0x65 and text[position - 3] | 32 == 0x74:
                        found |= 16
                elif a == 0x65 and b == 0x61 and text[position - 2] | 32 == 0x72:  # pr"epa"re
                    found |= 256
            elif c == 0x78:  # "exec"ute
                if a == 0x65 and b == 0x65 and text[position + 2] | 32 == 0x63:
                    found |= 256
            elif c == 0x63:  # deal"loca"te
                if a == 0x6F and b == 0x61 and text[position - 2] | 32 == 0x6C:
                    found |= 256
            elif c == 0x76:  # lastval, currval
                if (a == 0x74 or a == 0x72) and b == 0x61 and text[position + 2] | 32 == 0x6C:
                    found |= 4096
            elif c == 0x68 and b == 0x6F and text[position + 2] | 32 == 0x6C and text[position + 3] | 32 == 0x64:
                found |= 4  # "hold"
        position += 1
    while position < end:  # of these words only TEMP may stand so near the end
        if (
            text[position] | 32 == 0x70
            and text[position - 1] | 32 == 0x6D
            and text[position - 2] | 32 == 0x65
            and text[position - 3] | 32 == 0x74
        ):
            found |= 16
        position += 1
    return found


def beginning(data: bytearray, start: _int, end: _int) -> _int:
    """The TEXT_* bits of the word a statement at ``data[start:end]`` begins with, as SET, DO, RESET, EXECUTE."""
    text = data
    position = start
    while position < end and text[position] <= 0x20:
        position += 1
    if end - position < 4:
        return 0
    if text[position] == 0x2F or text[position] == 0x2D:
        position = behind_comments(data, position, end)
        if position < 0:
            return 512
        if end - position < 4:
            return 512 if text[end - 1] else 0  # no NUL: the next part of the text may begin with such a word
    a = text[position] | 32
    b = text[position + 1] | 32
    c = text[position + 2] | 32
    if a == 0x73:
        if b == 0x65 and c == 0x74:
            return 512
    elif a == 0x6C:
        if b == 0x69 and c == 0x73:
            return 8
        if b == 0x6F and c == 0x61:
            return 128
    elif a == 0x64 and b == 0x6F:
        return 512
    elif (a == 0x72 and b == 0x65 and c == 0x73) or (a == 0x64 and b == 0x69 and c == 0x73):
        return 8192
    elif (a == 0x65 and b == 0x78 and c == 0x65) or (a == 0x70 and b == 0x72 and c == 0x65):
        return 256
    return 0


def behind_comments(data: bytearray, start: _int, end: _int) -> _int:
    """Where the blanks and comments at ``data[start:end]`` are over; -2 if that is unknown or not worth knowing."""
    text = data
    position = start
    depth = 0
    while position < end:
        if position - start > _longest:
            return -2
        c = text[position]
        after = text[position + 1] if position + 1 < end else 0
        if c == 0x2F and after == 0x2A:  # "/*", which nests
            depth += 1
            position += 2
        elif depth:
            if c == 0x2A and after == 0x2F:
                depth -= 1
                position += 1
            position += 1
        elif c == 0x2D and after == 0x2D:
            while position < end and text[position] != 0x0A and text[position] != 0x0D:
                position += 1
                if position - start > _longest:
                    return -2
        elif c <= 0x20:
            position += 1
        else:
            break
    return -2 if depth else position
