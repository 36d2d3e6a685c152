"""What the body of a function, or the code of a DO block, may leave behind, told by its tokens.

``read`` looks at a body by itself and says which names it mentions; ``body_traces`` adds what is known of those. It may
find too much, never too little of what the body's own text says. What is not read is said to be UNREADABLE.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import reduce

from pgdoorman_lib.wire import dynamic
from pgdoorman_lib.wire.dynamic import HOLE
from pgdoorman_lib.wire.lexer import PARAMETER, QUOTED, SEMICOLON, STRING, WORD, Token, tokens
from pgdoorman_lib.wire.session_state import (
    DIRTY_CURSORS,
    DIRTY_LIBRARY,
    DIRTY_LISTEN,
    DIRTY_PARAMETERS,
    DIRTY_PREPARED,
    DIRTY_TEMPORARY,
    DIRTY_UNKNOWN,
    PLANNING,
)
from pgdoorman_lib.wire.traces import (
    ANYTHING,
    ASKABLE,
    BUILTIN,
    DDL,
    EVERYTHING,
    LISTED,
    NAMED,
    NOTHING,
    POSSIBLE,
    RUNS_STRINGS,
    SET_CONFIG,
    UNREADABLE,
    WRITES,
    Traces,
    setting,
    union,
)

#: Strings within strings that are read as code; deeper ones count as unreadable.
DEEPEST = 6

_TEMPORARY_PATH = Traces(DIRTY_TEMPORARY, (), NAMED, True)
_DISTURBS = Traces(0, (), NAMED, True)
_ALL_RESET = setting(LISTED)
_NAMED_BY_PARAMETER = Traces(DIRTY_PARAMETERS | DIRTY_TEMPORARY, (), NAMED, True)
_CHARACTERISTICS = ("default_transaction_isolation", "default_transaction_read_only", "default_transaction_deferrable")
#: SET with a syntax of its own, and the setting it is about.
_SPECIAL = {
    b"time": "timezone",
    b"names": "client_encoding",
    b"schema": "search_path",
    b"role": "role",
    b"xml": "xmloption",
}
#: Until the transaction's end, or none of the session at all.
_HARMLESS_SETS = frozenset((b"transaction", b"constraints", b"seed", b"catalog"))
#: Behind these words another statement begins in PL/pgSQL.
_OPENERS = frozenset((b"begin", b"then", b"else", b"loop", b"declare"))
_DDL_WORDS = frozenset(
    b"create alter drop comment grant revoke security import reindex refresh into truncate".split()
)
_TRUE = frozenset((b"t", b"tr", b"tru", b"true", b"y", b"ye", b"yes", b"on", b"1"))

_CAST = re.compile(rb"(?:::(?:pg_catalog\.)?(?:text|bool|boolean|varchar|name|unknown))*")
#: Names of variables that procedural languages keep for the session.
_KEPT = re.compile(rb"\b(?:GD|SD|_SHARED)\b|\bglobal\b")
_SETS = re.compile(rb"set_config|\bset\s+(?!local\b)(?:session\s+)?[a-z_\"]", re.IGNORECASE)
_TCL_SETS = re.compile(rb"set_config", re.IGNORECASE)


@dataclass(frozen=True)
class Body:
    """What a body says: what it leaves by itself, the names it mentions (of functions, relations and anything else),
    and whether it may write to relations. ``parameters``: numbers of the parameters that name settings, of a text that
    a client sends."""

    traces: Traces = NOTHING
    names: frozenset[bytes] = frozenset()
    writes: bool = False
    parameters: frozenset[int] = frozenset()

    def with_names(self, hazards: Mapping[bytes, Traces], writing: AbstractSet[bytes] = frozenset()) -> Traces:
        """Its traces with those of what it mentions; ``writing``: names that matter only where something is written."""
        found = self.traces
        for name in self.names & hazards.keys():
            if self.writes or name not in writing:
                found = union(found, hazards[name])
        return found


EMPTY = Body()
OPAQUE = Body(UNREADABLE)


def body_traces(language: str, body: bytes, hazards: Mapping[bytes, Traces]) -> Traces:
    """What ``body`` may leave behind when it runs, if ``hazards`` is what is known of names."""
    found = read(language, body).with_names(hazards)
    return union(found, hazards.get(ANYTHING, NOTHING))


def read(language: str, body: bytes) -> Body:
    """What a body of this language says."""
    if language not in ("sql", "plpgsql"):
        return Body(_foreign(language, body))
    found = _code(language, body, False, 0)
    if b"\\" in body:  # standard_conforming_strings may be off where it runs
        found = _joined((found, _code(language, body, True, 0)))
    return found


def read_text(text: bytes, backslashes: bool) -> Body:
    """What a text says that a client sends to be run.

    What its command tags and the pooler's own books tell is left out: LISTEN, LOAD, PREPARE, EXECUTE and their like.
    """
    return _Reader("sql", text, backslashes, 0, True).body()


def _foreign(language: str, body: bytes) -> Traces:
    """The traces of a procedural language that is not read."""
    found = UNREADABLE
    if _KEPT.search(body):
        found = union(found, Traces(DIRTY_UNKNOWN))
    if (_TCL_SETS if language.startswith("pltcl") else _SETS).search(body):
        found = union(found, Traces(DIRTY_PARAMETERS, (), POSSIBLE, True))
    return found


def _joined(bodies: Iterable[Body]) -> Body:
    return reduce(_with, bodies, EMPTY)


def _with(a: Body, b: Body) -> Body:
    return Body(union(a.traces, b.traces), a.names | b.names, a.writes or b.writes, a.parameters | b.parameters)


def _code(language: str, text: bytes, backslashes: bool, depth: int) -> Body:
    if depth > DEEPEST:
        return Body(EVERYTHING)
    return _Reader(language, text, backslashes, depth).body()


class _Reader:
    """Goes through the tokens of one text."""

    def __init__(self, language: str, text: bytes, backslashes: bool, depth: int, sent: bool = False) -> None:
        self.language = language
        #: a client sends it
        self.sent = sent
        self.parameters: set[int] = set()
        self.backslashes = backslashes
        self.depth = depth
        self.tokens = tokens(text, backslashes)
        # Words as they are compared; nothing else can be a keyword.
        self.words = [(token.value or b"") if token.kind == WORD else b"" for token in self.tokens]
        self.begins = dynamic.beginnings(self.tokens, self.words, _OPENERS if language == "plpgsql" else frozenset())
        self.traces = NOTHING
        self.others: list[Body] = []

    def body(self) -> Body:
        names = set()
        for index, token in enumerate(self.tokens):
            if token.kind == WORD or token.kind == QUOTED:
                if token.value is None:
                    self.traces = EVERYTHING  # a name that can't be read
                    continue
                names.add(token.value)
                self._word(index, token.value)
            if self.begins[index]:
                self._statement(index)
        words = {word for word in self.words if word}
        if words & _DDL_WORDS:
            names.add(DDL)
        said = Body(self.traces, frozenset(names), bool(words & WRITES), frozenset(self.parameters))
        return _joined((said, *self.others))

    def _add(self, traces: Traces) -> None:
        self.traces = union(self.traces, traces)

    def _end(self, index: int) -> int:
        """Where the statement ends in which the token at ``index`` stands."""
        found = self.tokens
        while index < len(found) and found[index].kind != SEMICOLON:
            index += 1
        return index

    def _at(self, index: int) -> bytes:
        return self.words[index] if index < len(self.words) else b""

    def _symbol(self, index: int) -> bytes:
        return self.tokens[index].text if index < len(self.tokens) else b""

    # -- words anywhere

    def _word(self, index: int, name: bytes) -> None:
        if name == SET_CONFIG:
            self._set_config(index + 1)
        elif name in RUNS_STRINGS:
            self._runs_string(index + 1)
        elif name in BUILTIN:
            self._add(BUILTIN[name])
        elif name.startswith(b"pg_temp"):
            self._add(_TEMPORARY_PATH)
        word = self.words[index]
        if not word:
            return
        if word in (b"temp", b"temporary"):
            self._temporary(index)
        elif word == b"hold" and self._at(index - 1) == b"with":
            self._add(Traces(DIRTY_CURSORS))
        elif word == b"execute":
            self._execute(index)

    def _temporary(self, index: int) -> None:
        before = self.words[max(0, index - 5) : index]
        if b"create" not in before and b"into" not in before:
            return
        words = self.words[index : self._end(index)]
        drops = any(
            words[at : at + 3] == [b"on", b"commit", b"drop"] for at, word in enumerate(words) if word == b"on"
        )
        self._add(_DISTURBS if drops else _TEMPORARY_PATH)

    def _arguments(self, index: int) -> list[list[Token]] | None:
        """The arguments of a call whose parenthesis is to stand at ``index``; None without one, or without its end."""
        if self._symbol(index) != b"(":
            return None
        depth = 0
        found: list[list[Token]] = [[]]
        for token in self.tokens[index:]:
            if token.text in (b"(", b"["):
                depth += 1
                if depth == 1:
                    continue
            elif token.text in (b")", b"]"):
                depth -= 1
                if depth == 0:
                    return found
            elif token.text == b"," and depth == 1:
                found.append([])
                continue
            found[-1].append(token)
        return None

    def _set_config(self, index: int) -> None:
        arguments = self._arguments(index)
        if arguments is None or len(arguments) != 3:
            self._add(BUILTIN[SET_CONFIG])
            return
        name = _constant(arguments[0])
        value = _constant(arguments[1])
        local = _is_true(arguments[2])
        number = _parameter(arguments[0]) if self.sent else 0
        if number:
            if not local:
                self.parameters.add(number)
            self._add(_TEMPORARY_PATH if local else _NAMED_BY_PARAMETER)
            return
        if name is None or HOLE in name:
            # With a path that is not known the next table may be a temporary one.
            self._add(_TEMPORARY_PATH if local else BUILTIN[SET_CONFIG])
            return
        self._set(name, local, value)

    def _set(self, name: bytes, local: bool, value: bytes | None) -> None:
        """The setting ``name`` gets a ``value``, None if that is unknown."""
        option = option_name(name)
        if option == "search_path" and (value is None or HOLE in value or b"pg_temp" in value.lower()):
            self._add(_TEMPORARY_PATH)
        if not local:
            self._add(setting(option))
        elif option in PLANNING:
            self._add(_DISTURBS)

    def _runs_string(self, index: int) -> None:
        arguments = self._arguments(index)
        text = _constant(arguments[0]) if arguments and self._symbol(index - 1).lower().startswith(b"query") else None
        if text is None or HOLE in text:
            self._add(UNREADABLE)
        else:
            self.others.append(_code("sql", text, self.backslashes, self.depth + 1))

    def _execute(self, index: int) -> None:
        if self.sent:
            return
        after = self._at(index + 1)
        if after == b"on" or self._at(index - 1) in (b"grant", b"revoke"):
            return  # the privilege
        if after in (b"function", b"procedure") and (
            self.tokens[index + 2 : index + 3] and self.tokens[index + 2].kind in (WORD, QUOTED)
        ):
            if self._at(index + 2) not in (b"into", b"using", b"loop"):
                return  # of CREATE TRIGGER
        if self.language != "plpgsql":
            self._add(EVERYTHING)  # a prepared statement of the session's
            return
        texts = dynamic.texts(self.tokens, self.words, self.begins, index + 1)
        if texts is None:
            self._add(EVERYTHING)
            return
        for text in texts:
            if text.computed:
                self._add(UNREADABLE)
            self.others.append(_code("sql", text.text, self.backslashes, self.depth + 1))

    # -- statements

    def _statement(self, index: int) -> None:
        verb = self.words[index]
        if self._symbol(index + 1) in (b":", b"=", b".", b"["):
            return  # a variable of that name
        if verb == b"set":
            self._set_statement(index + 1)
        elif verb == b"reset":
            self._reset(index + 1)
        elif verb == b"do":
            self._do(index + 1)
        elif self.sent:
            return
        elif verb == b"discard":
            self._add(_TEMPORARY_PATH if self._at(index + 1) in (b"temp", b"temporary") else Traces(ASKABLE))
        elif verb == b"listen" or verb == b"unlisten":
            self._add(Traces(DIRTY_LISTEN))
        elif verb == b"load":
            self._add(Traces(DIRTY_LIBRARY | DIRTY_PARAMETERS))
        elif verb == b"prepare" or verb == b"deallocate":
            self._add(Traces(DIRTY_PREPARED))

    def _set_statement(self, index: int) -> None:
        local = self._at(index) == b"local"
        if local or (self._at(index) == b"session" and self._symbol(index + 1) not in (b"=", b".", b":")):
            index += 1
        word = self._at(index)
        named = self._symbol(index + 1) in (b"=", b".") or self._at(index + 1) == b"to"
        if not named:
            if word in _HARMLESS_SETS:
                return
            if word == b"characteristics":
                self._add(setting(*_CHARACTERISTICS))
            elif word == b"authorization" or word == b"session":
                self._set(b"session_authorization", local, None)
            elif word in _SPECIAL:
                value = self.tokens[index + 1].value if index + 1 < len(self.tokens) else None
                self._set(_SPECIAL[word].encode(), local, value)
            else:
                self._add(_TEMPORARY_PATH if local else BUILTIN[SET_CONFIG])
            return
        name, index = self._name(index)
        if name is None:
            self._add(_TEMPORARY_PATH if local else BUILTIN[SET_CONFIG])
            return
        stop = self._end(index)
        pieces = [token.value for token in self.tokens[index + 1 : stop]]
        value = b" ".join(piece for piece in pieces if piece is not None)
        self._set(name, local, None if None in pieces else value)

    def _name(self, index: int) -> tuple[bytes | None, int]:
        """The setting's name at ``index`` and where it ends; None if it can't be told."""
        parts: list[bytes] = []
        while index < len(self.tokens) and self.tokens[index].kind in (WORD, QUOTED):
            value = self.tokens[index].value
            if value is None or HOLE in value:
                return None, index
            parts.append(value)
            if self._symbol(index + 1) != b".":
                return b".".join(parts), index + 1
            index += 2
        return None, index

    def _reset(self, index: int) -> None:
        word = self._at(index)
        if word == b"all" and self._symbol(index + 1) != b".":
            self._add(_ALL_RESET)
        elif word == b"session" and self._at(index + 1) == b"authorization":
            self._set(b"session_authorization", False, b"")
        elif word == b"time" and self._at(index + 1) == b"zone":
            self._set(b"timezone", False, b"")
        else:
            name, _ = self._name(index)
            if name is None:
                self._add(_ALL_RESET)
            else:
                self._set(name, False, b"")

    def _do(self, index: int) -> None:
        """A DO block within: its string is code, and its language stands before or behind it."""
        language = "plpgsql"
        code: bytes | None = None
        for token in self.tokens[index : self._end(index)]:
            if token.kind == STRING and code is None:
                code = token.value
            elif token.kind in (WORD, QUOTED, STRING) and token.value not in (None, b"language"):
                language = (token.value or b"").decode("latin-1").lower()
        if code is None or HOLE in code:
            self._add(EVERYTHING)
        elif language in ("sql", "plpgsql"):
            self.others.append(_code(language, code, self.backslashes, self.depth + 1))
        else:
            self._add(_foreign(language, code))


def option_name(name: bytes) -> str:
    """A setting's name as it is compared: only ASCII letters have a case there."""
    return name.lower().decode(errors="surrogateescape")


def _constant(argument: list[Token]) -> bytes | None:
    """The value of an argument that is one string, whatever it is cast to; None for any other."""
    if not argument or argument[0].kind != STRING or argument[0].value is None:
        return None
    cast = b"".join(token.text for token in argument[1:]).lower()
    return argument[0].value if _CAST.fullmatch(cast) else None


def _parameter(argument: list[Token]) -> int:
    """The number of the parameter that an argument is, whatever it is cast to; 0 for any other."""
    if not argument or argument[0].kind != PARAMETER:
        return 0
    cast = b"".join(token.text for token in argument[1:]).lower()
    return int(argument[0].text[1:]) if _CAST.fullmatch(cast) else 0


def _is_true(argument: list[Token]) -> bool:
    """Whether an argument is surely true."""
    value = _constant(argument)
    if value is not None:
        return value.strip().lower() in _TRUE
    if not argument or argument[0].kind != WORD or argument[0].value != b"true":
        return False
    return _CAST.fullmatch(b"".join(token.text for token in argument[1:]).lower()) is not None
