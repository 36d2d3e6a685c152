"""What the statements of a text betray by their words: what they set, reset, keep and name, told without a grammar."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from pgdoorman_lib.wire.lexer import NUMBER, PARAMETER, QUOTED, STRING, WORD
from pgdoorman_lib.wire.session_state import (
    DIRTY_CURSORS,
    DIRTY_LIBRARY,
    DIRTY_LISTEN,
    DIRTY_LOCKS,
    DIRTY_TEMPORARY,
)
from pgdoorman_lib.wire.text import RESETS, RESETS_ALL, RESETS_SETTINGS, Name
from pgdoorman_lib.wire.tokens import Token
from pgdoorman_lib.wire.traces import LISTED, RELEASES, option_name

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


class Finder:
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
