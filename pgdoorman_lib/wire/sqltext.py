"""What a client's text may leave behind on a server, and which prepared statements it names.

``analyse`` looks at the tokens of a whole text in which ``scan`` has found something, once for each distinct one,
without parsing SQL. What it calls known is known by the words of the text and by a lexicon of what functions, triggers
and the like in that database are able to do; all else has to be asked.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

from pgdoorman_lib.wire.bodies import read, read_text, said_traces
from pgdoorman_lib.wire.lexer import LONGEST_NAME, LOST, NUMBER, PARAMETER, QUOTED, SEMICOLON, STRING, SYMBOL, WORD
from pgdoorman_lib.wire.scan import BACKSLASHES, MULTIBYTE, PLAIN, Lexicon, Scanner
from pgdoorman_lib.wire.session_state import (
    DIRTY_CURSORS,
    DIRTY_LIBRARY,
    DIRTY_LISTEN,
    DIRTY_LOCKS,
    DIRTY_PREPARED,
    DIRTY_TEMPORARY,
    DIRTY_UNKNOWN,
)
from pgdoorman_lib.wire.tokens import Token, tokens
from pgdoorman_lib.wire.traces import (
    EVERYTHING,
    LISTED,
    NAMED,
    RELEASES,
    UNREADABLE,
    Traces,
    option_name,
    setting,
    union,
)
from pgdoorman_lib.wire.traces import NOTHING as NO_TRACES

#: Texts whose analysis is remembered for a lexicon, and the length (bytes) of those that are.
REMEMBERED = 1000
LONGEST_REMEMBERED = 4096
#: Length (bytes) up to which a text in which something was found is waited for, and looked at whole.
LONGEST = 65536


class Reading(NamedTuple):
    """How a session's texts are to be read: ``flags`` for ``scan``, and the Python codec of its encoding.

    The codec is empty for UTF-8 (and where bytes are just bytes), and None when there is none.
    """

    flags: int
    codec: str | None


AS_USUAL = Reading(0, "")

#: PostgreSQL's client encodings that are not ASCII's superset byte by byte, or are spelt otherwise by Python.
_CODECS = {
    "UTF8": "",
    "SQL_ASCII": "",
    "UNICODE": "",
    "SJIS": "cp932",
    "SHIFT_JIS_2004": "shift_jis_2004",
    "BIG5": "cp950",
    "GBK": "gbk",
    "UHC": "cp949",
    "GB18030": "gb18030",
    "JOHAB": "johab",
    "EUC_JIS_2004": "euc_jis_2004",
    "EUC_JP": "euc_jp",
    "EUC_KR": "euc_kr",
    "EUC_CN": "gb2312",
    **{f"LATIN{number}": f"iso8859-{part}" for number, part in enumerate((1, 2, 3, 4, 9, 10, 13, 14, 15, 16), 1)},
    **{f"ISO_8859_{part}": f"iso8859-{part}" for part in (5, 6, 7, 8)},
    **{f"WIN{page}": f"cp{page}" for page in (866, 874, 1250, 1251, 1252, 1253, 1254, 1255, 1256, 1257, 1258)},
    "KOI8R": "koi8_r",
    "KOI8U": "koi8_u",
}


@lru_cache(maxsize=64)
def reading_of(conforming: str, encoding: str) -> Reading:
    """The reading under these values of standard_conforming_strings and client_encoding."""
    codec = _CODECS.get(encoding)
    return Reading((BACKSLASHES if conforming == "off" else 0) | (0 if codec == "" else MULTIBYTE), codec)


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
    """What is known of a text.

    ``traces``: what it may leave behind. ``parameters``: the numbers of its parameters that name settings it sets.
    ``keeps``: bits of what it surely leaves, if it succeeds outside a transaction. ``sets``: how many SETs are in it.
    ``names``: statements it prepares, executes or drops. ``sequences``: it asks what nextval gave this session.
    ``resets``: settings that are back at their beginning behind it, and whether only until the transaction's end;
    LISTED for all of them. ``defines``: it changes what others mean (DDL), and nobody can see it yet. ``assigns``: it
    is nothing but a SET of this setting to this value. ``only_resets``: it does nothing but reset; RESETS_* bits.
    ``hides``: code runs that may do more than its text says. ``enables``: it makes what may do something by itself.
    """

    traces: Traces = NO_TRACES
    parameters: tuple[int, ...] = ()
    keeps: int = 0
    sets: int = 0
    names: tuple[Name, ...] = ()
    sequences: bool = False
    resets: tuple[tuple[str, bool], ...] = ()
    defines: bool = False
    assigns: tuple[str, str] | None = None
    only_resets: int = 0
    hides: bool = False
    enables: bool = False

    @property
    def disturbs(self) -> bool:
        """Whether it may change, if only for the transaction, what other statements mean."""
        return self.traces.disturbs

    @property
    def plain(self) -> bool:
        """Whether every statement it names is given constants."""
        return all(name.plain for name in self.names)


NOTHING = Text()
#: Of a text nobody has read.
UNREAD = Text(EVERYTHING, defines=True)
#: What any may leave while the lexicon may be old.
DOUBTFUL = Text(UNREADABLE)

# Bits of ``Text.only_resets``.
RESETS = 1
#: all settings are reset, but who one is
RESETS_SETTINGS = 2
#: everything is
RESETS_ALL = 4
#: Settings whose new value depends on the present one, or that are a list where a single name is another thing.
_NOT_ASSIGNED = frozenset(
    [
        "datestyle",
        "search_path",
        "role",
        "session_authorization",
        "session_characteristics",
        "seed",
        "transaction_isolation",
        "transaction_read_only",
        "transaction_deferrable",
        "temp_tablespaces",
        "local_preload_libraries",
        "session_preload_libraries",
        "log_destination",
        "wal_consistency_checking",
        "createrole_self_grant",
        "debug_io_direct",
        "restrict_nonsystem_relation_kind",
        "search_path",
        "unix_socket_directories",
        "listen_addresses",
        "synchronous_standby_names",
        "shared_preload_libraries",
        "synchronized_standby_slots",
        "timezone_abbreviations",
        "log_connections",
    ]
)
_DEFINES = frozenset(b"create alter drop comment grant revoke security import reassign".split())
#: What does nothing by itself, by the word behind CREATE or ALTER.
_PASSIVE = frozenset(
    b"table index unique sequence schema role user group database statistics tablespace collation publication"
    b" subscription default system server materialized temp temporary unlogged global local".split()
)


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
            both = _converted(text, reading.codec)
            if both is None:
                return UNREAD
            meant, seen = both
    body = read_text(meant, backslashes)
    traces = said_traces(body, lexicon.named, lexicon.written, lexicon.calls)
    finder = _Finder(text)
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
    keeps = finder.keeps & (traces.bits | DIRTY_LISTEN | DIRTY_LIBRARY)
    return Text(
        traces=traces,
        parameters=tuple(sorted(body.parameters)),
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


def _converted(text: bytes, codec: str) -> tuple[bytes, bytes] | None:
    """A text in UTF-8, and as long as it is with letters that are no tokens' ends; None if it can't be read."""
    meant = bytearray()
    seen = bytearray()
    try:
        for letter in text.decode(codec):
            data = letter.encode(codec)
            # What is a byte of ASCII is ASCII for PostgreSQL, whatever a codec makes of it (0x5C a currency's sign).
            is_ascii = len(data) == 1 and data.isascii()
            meant += data if is_ascii else letter.encode()
            seen += data if is_ascii else b"\x80" * len(data)
    except UnicodeError:
        return None
    return (bytes(meant), bytes(seen)) if len(seen) == len(text) else None


def joined(one: Text, other: Text) -> Text:
    """``one`` with what the ``other`` may leave, too."""
    if other in (one, NOTHING):
        return one
    return replace(
        one,
        traces=union(one.traces, other.traces),
        parameters=tuple(sorted({*one.parameters, *other.parameters})),
        sequences=one.sequences or other.sequences,
        defines=one.defines or other.defines,
        assigns=None,
        only_resets=0,
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


class _Finder:
    """Collects what the statements of one text betray."""

    def __init__(self, text: bytes) -> None:
        self.text = text
        self.keeps = 0
        self.sets = 0
        self.statements = 0
        self.names: list[Name] = []
        self.sequences = False
        self.resets: list[tuple[str, bool]] = []
        self.defines = False
        self.assigns: tuple[str, str] | None = None
        self.only_resets = 0
        self.hides = False
        self.enables = False
        #: language and code of functions that are made
        self.bodies: list[tuple[str, bytes | None]] = []
        self._other = False

    def take(self, found: list[Token], stop: int) -> None:
        """One statement, which ends at ``stop``."""
        if not found:
            return
        self.statements += 1
        # Words as they are compared; quoted names and all else can't be keywords.
        words = [token.value or b"" if token.kind == WORD else b"" for token in found]
        verb = words[0]
        self._only_resets(words)
        if verb == b"set":
            self._set(found, words)
        elif verb == b"reset" or verb == b"discard":
            self._reset(verb, found[1:], words[1:])
        elif verb == b"listen":
            self.keeps |= DIRTY_LISTEN
        elif verb == b"load":
            self.keeps |= DIRTY_LIBRARY
        elif verb == b"declare" and any(a == b"with" and b == b"hold" for a, b in itertools.pairwise(words)):
            self.keeps |= DIRTY_CURSORS
        self.hides |= verb in (b"do", b"call")
        self.enables |= verb == b"do"
        if verb in (b"create", b"alter"):
            self._makes(found, words)
        if verb in _DEFINES or verb == b"do" or verb == b"call":
            self.defines = True
        if b"temp" in words or b"temporary" in words:
            self.keeps |= DIRTY_TEMPORARY
        if b"into" in words and verb not in (b"insert", b"merge"):
            self.defines = True
        if b"pg_advisory_lock" in words or b"pg_advisory_lock_shared" in words:
            self.keeps |= DIRTY_LOCKS
        if b"set_config" in words:
            self._set_config(found, words)
        if b"currval" in words or b"lastval" in words:
            self.sequences = True
        self._names(found, words, stop)

    def _makes(self, found: list[Token], words: list[bytes]) -> None:
        """Something is made or changed, whose code a statement behind it in the same text may run."""
        at = 3 if words[1:3] == [b"or", b"replace"] else 1
        self.enables |= not _PASSIVE.intersection(words[at : at + 1])
        if words[at : at + 1] not in ([b"function"], [b"procedure"]):
            return
        language = "sql"
        if b"language" in words[:-1]:
            told = found[words.index(b"language") + 1]
            language = (told.value or b"").decode("latin-1").lower()
        self.bodies += [(language, token.value) for token in found if token.kind == STRING]

    def _set_config(self, found: list[Token], words: list[bytes]) -> None:
        """A set_config with NULL for the value is a reset."""
        self.resets.clear()  # one of them may be set by now
        for index, word in enumerate(words):
            if word == b"set_config" and words[index + 4 : index + 5] == [b"null"]:
                local = words[index + 6 : index + 7] == [b"true"]
                self.resets.append((option_name(found[index + 2].value or b""), local))

    def _only_resets(self, words: list[bytes]) -> None:
        """Note whether all statements so far do nothing but reset."""
        verb = words[0]
        if self._other:
            return
        bits = 0
        if verb == b"reset":
            bits = RESETS | (RESETS_SETTINGS if words[1:] == [b"all"] else 0)
        elif verb == b"discard" and len(words) == 2:
            bits = RESETS | (RESETS_ALL if words[1] == b"all" else 0)
        elif (
            (verb in (b"close", b"deallocate") and words[1:] == [b"all"])
            or (verb == b"unlisten")
            or (verb == b"select" and len(words) == 4 and words[1] in RELEASES)
        ):
            bits = RESETS
        if not bits:
            self._other = True
            self.only_resets = 0
        else:
            self.only_resets |= bits

    def _set(self, found: list[Token], words: list[bytes]) -> None:
        second = words[1] if len(words) > 1 else b""
        if second == b"constraints":
            return
        self.sets += 1
        if second == b"transaction":
            return
        local = second == b"local"
        at = 2 if local or (second == b"session" and len(found) > 2 and found[2].text not in (b"=", b".")) else 1
        parts: list[bytes] = []
        while at < len(found) and found[at].kind in (WORD, QUOTED) and found[at].value is not None:
            parts.append(found[at].value or b"")
            at += 1
            if at < len(found) and found[at].text == b".":
                at += 1
                continue
            break
        if at < len(found) and (found[at].text == b"=" or words[at] == b"to"):
            name = option_name(b".".join(parts))
            if words[at + 1 :] == [b"default"]:
                self.resets.append((name, local))
                return
            if not local:
                self._assigns(name, found[at + 1 :])
        elif words[-1] in (b"default", b"local") and words[-3:-1] == [b"time", b"zone"]:
            self.resets.append(("timezone", local))
            return
        self.resets.clear()  # one of them may be set by now

    def _assigns(self, name: str, value: Sequence[Token]) -> None:
        """Note a SET to one constant, which sets the same wherever it is done again."""
        if name in _NOT_ASSIGNED or not name.isascii():
            return
        sign = ""
        if len(value) == 2 and value[0].text == b"-" and value[1].kind == NUMBER:
            sign, value = "-", value[1:]
        if len(value) != 1 or value[0].kind not in (WORD, STRING, NUMBER) or value[0].value is None:
            return
        if not value[0].value.isascii() or b"$" in value[0].text[:1]:
            return
        self.assigns = (name, sign + value[0].value.decode())

    def _reset(self, verb: bytes, rest: list[Token], words: list[bytes]) -> None:
        if words[:1] == [b"all"]:
            self.resets = [(LISTED, False)]
        elif verb == b"reset" and words == [b"time", b"zone"]:
            self.resets.append(("timezone", False))
        elif verb == b"reset" and words == [b"session", b"authorization"]:
            self.resets.append(("session_authorization", False))
        elif verb == b"reset":
            parts = [token.value or b"" for token in rest if token.kind in (WORD, QUOTED)]
            self.resets.append((option_name(b".".join(parts)), False))

    def _names(self, found: list[Token], words: list[bytes], stop: int) -> None:
        verb = words[0]
        at = 0
        if verb in (b"explain", b"create"):
            at = next((index for index, word in enumerate(words) if word == b"execute"), 0)
            if at and verb == b"create" and at + 1 < len(words) and words[at + 1] in (b"function", b"procedure"):
                return  # what a trigger calls
            verb = words[at]
        if verb not in (b"prepare", b"execute", b"deallocate") or at + 1 >= len(found):
            return
        at += 1
        if verb == b"prepare" and words[at] == b"transaction":
            return
        if verb == b"deallocate" and words[at] == b"prepare" and at + 1 < len(found):
            at += 1
        token = found[at]
        if token.value is None or token.kind not in (WORD, QUOTED) or (verb == b"deallocate" and words[at] == b"all"):
            return
        piece = self.text[token.start : token.end]
        name = token.value if piece.isascii() else piece.strip(b'"').replace(b'""', b'"')
        self.names.append(
            Name(verb.decode(), token.start, token.end, stop, name, _is_plain(found[at + 1 :], words[at + 1 :]))
        )


# What may stand between constants.
_LIST = (b"(", b",", b")", b"-", b".")


def _is_plain(found: list[Token], words: list[bytes]) -> bool:
    """Whether there are only constants."""
    return not any(token.kind in (STRING, WORD, QUOTED, PARAMETER) for token in found) or all(
        token.kind in (STRING, NUMBER) or words[index] in (b"true", b"false", b"null") or token.text in _LIST
        for index, token in enumerate(found)
    )
