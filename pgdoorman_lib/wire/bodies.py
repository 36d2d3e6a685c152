"""What the body of a function, or the code of a DO block, may leave behind, told by its tokens.

``read`` looks at a body by itself and says which names it mentions; ``body_traces`` adds what is known of those. It may
find too much, never too little of what the body's own text says. What is not read is said to be UNREADABLE.
"""

from __future__ import annotations

import re
from bisect import bisect
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from pgdoorman_lib.wire import dynamic, glance
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
    BUILTIN_WRITTEN,
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
#: Tokens of a statement or a call that are looked at: so many make the time linear, and need no more.
LONGEST = 200

_TEMPORARY_PATH = Traces(DIRTY_TEMPORARY, (), NAMED, True)
_DISTURBS = Traces(0, (), NAMED, True)
_ALL_RESET = setting(LISTED)
_NAMED_BY_PARAMETER = Traces(DIRTY_PARAMETERS | DIRTY_TEMPORARY, (), NAMED, True)
_CHARACTERISTICS = ("default_transaction_isolation", "default_transaction_read_only", "default_transaction_deferrable")
#: SET with a syntax of its own, and the setting it is about.
_SPECIAL = {
    b"time": b"timezone",
    b"names": b"client_encoding",
    b"schema": b"search_path",
    b"role": b"role",
    b"xml": b"xmloption",
}
#: Until the transaction's end, or none of the session at all.
_HARMLESS_SETS = frozenset((b"transaction", b"constraints", b"seed", b"catalog"))
#: Behind these words another statement begins in PL/pgSQL.
_OPENERS = frozenset((b"begin", b"then", b"else", b"loop", b"declare"))
_DDL_WORDS = frozenset(
    b"create alter drop comment grant revoke security import reindex refresh".split()
)
_TRUE = frozenset((b"t", b"tr", b"tru", b"true", b"y", b"ye", b"yes", b"on", b"1"))

_CAST = re.compile(rb"(?:::(?:pg_catalog\.)?(?:text|bool|boolean|varchar|name|unknown))*")
#: Names of variables that procedural languages keep for the session.
_KEPT = re.compile(rb"\b(?:GD|SD|_SHARED)\b|\bglobal\b")
_SETS = re.compile(rb"set_config|\bset\s+(?!local\b)(?:session\s+)?[a-z_\"]", re.IGNORECASE)
_TCL_SETS = re.compile(rb"set_config", re.IGNORECASE)


@dataclass(frozen=True)
class Body:
    """What a body says: what it leaves by itself, and the names it mentions, of functions, relations and anything else.

    ``calls``: those of the names that may be called, with a parenthesis behind or a dot in front. ``writes``: it may
    write to relations. ``parameters``: numbers of the parameters that name settings, of a text that a client sends.
    """

    traces: Traces = NOTHING
    names: frozenset[bytes] = frozenset()
    calls: frozenset[bytes] = frozenset()
    writes: bool = False
    parameters: frozenset[int] = frozenset()


EMPTY = Body()
OPAQUE = Body(UNREADABLE)


def body_traces(
    language: str,
    body: bytes,
    hazards: Mapping[bytes, Traces],
    writing: AbstractSet[bytes] = frozenset(),
    calls: AbstractSet[bytes] = frozenset(),
) -> Traces:
    """What ``body`` may leave behind when it runs, if ``hazards`` is what is known of names.

    ``writing``: those that matter only where something is written, ``calls``: those that are of functions only.
    """
    return said_traces(read(language, body), hazards, writing, calls)


def said_traces(
    said: Body, hazards: Mapping[bytes, Traces], writing: AbstractSet[bytes], calls: AbstractSet[bytes]
) -> Traces:
    """What runs may leave that says this, as ``body_traces``."""
    found = union(said.traces, hazards.get(ANYTHING, NOTHING))
    for name in said.names & hazards.keys():
        if (said.writes or name not in writing) and (name in said.calls or name not in calls):
            found = union(found, hazards[name])
    return found


def read(language: str, body: bytes) -> Body:
    """What a body of this language says."""
    if language not in ("sql", "plpgsql"):
        return Body(_foreign(language, body))
    seen = glance.names(body)
    if seen is not None:
        names, calls = seen
        return Body(NOTHING, names | {DDL} if _has_ddl(language, names) else names, calls, bool(names & WRITES))
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


def _has_ddl(language: str, words: AbstractSet[bytes]) -> bool:
    """Whether DDL may stand among these words; SELECT INTO, which makes a table, is something else in PL/pgSQL."""
    return not words.isdisjoint(_DDL_WORDS) or (language == "sql" and b"select" in words and b"into" in words)


def _joined(bodies: Iterable[Body]) -> Body:
    found = EMPTY
    for body in bodies:
        found = Body(
            union(found.traces, body.traces),
            found.names | body.names,
            found.calls | body.calls,
            found.writes or body.writes,
            found.parameters | body.parameters,
        )
    return found


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
        self.dynamic = dynamic.Dynamic(self.tokens, self.words, self.begins)
        self.traces = NOTHING
        self.others: list[Body] = []
        #: where ON COMMIT DROP stands
        self.drops = [at for at, word in enumerate(self.words) if word == b"drop" and self._behind(at, b"on", b"commit")]

    def body(self) -> Body:
        names = set()
        calls = set()
        for index, token in enumerate(self.tokens):
            if token.kind == WORD or token.kind == QUOTED:
                if token.value is None:
                    self.traces = EVERYTHING  # a name that can't be read
                    continue
                names.add(token.value)
                if self._symbol(index + 1) == b"(" or (index and self._symbol(index - 1) == b"."):
                    calls.add(token.value)
                self._word(index, token.value)
            if self.begins[index]:
                self._statement(index)
        words = {word for word in self.words if word}
        if _has_ddl(self.language, words):
            names.add(DDL)
        own = Body(
            self.traces, frozenset(names), frozenset(calls), bool(words & WRITES), frozenset(self.parameters)
        )
        return _joined((own, *self.others))

    def _add(self, traces: Traces) -> None:
        self.traces = union(self.traces, traces)

    def _end(self, index: int) -> int:
        """Where the statement ends in which the token at ``index`` stands, if it is not too long."""
        found = self.tokens
        stop = min(len(found), index + LONGEST)
        while index < stop and found[index].kind != SEMICOLON:
            index += 1
        return index

    def _behind(self, index: int, *words: bytes) -> bool:
        """Whether these words stand in front of the token at ``index``."""
        return tuple(self.words[max(0, index - len(words)) : index]) == words

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
        elif name in BUILTIN and (name not in BUILTIN_WRITTEN or b"update" in self.words):
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
        at = bisect(self.drops, index)
        dropped = at < len(self.drops) and self.drops[at] < self._end(index)
        self._add(_DISTURBS if dropped else _TEMPORARY_PATH)

    def _arguments(self, index: int) -> list[list[Token]] | None:
        """The arguments of a call whose parenthesis is to stand at ``index``; None without one, or its end."""
        if self._symbol(index) != b"(":
            return None
        depth = 0
        found: list[list[Token]] = [[]]
        for token in self.tokens[index : index + LONGEST]:
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
        local = _is_true(arguments[2])
        number = _parameter(arguments[0]) if self.sent else 0
        if not number:
            self._add(set_config_traces(_constant(arguments[0]), local, _constant(arguments[1])))
            return
        if not local:
            self.parameters.add(number)
        # With a path that is not known the next table may be a temporary one.
        self._add(_TEMPORARY_PATH if local else _NAMED_BY_PARAMETER)

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
        texts = self.dynamic.texts(index + 1)
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
                self._set(b"session_authorization", local)
            elif word in _SPECIAL:
                value = self.tokens[index + 1].value if index + 1 < len(self.tokens) else None
                self._set(_SPECIAL[word], local, value)
            else:
                self._set(None, local)
            return
        name, index = self._name(index)
        stop = self._end(index)
        pieces = [token.value for token in self.tokens[index + 1 : stop]]
        if stop - index >= LONGEST:
            pieces.append(None)
        value = b" ".join(piece for piece in pieces if piece is not None)
        self._set(name, local, None if None in pieces else value)

    def _set(self, name: bytes | None, local: bool, value: bytes | None = None) -> None:
        self._add(set_config_traces(name, local, value))

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


def set_config_traces(name: bytes | None, local: bool, value: bytes | None) -> Traces:
    """What it leaves to give the setting ``name`` a ``value``; None if they can't be told."""
    if name is None or HOLE in name:
        # With a path that is not known the next table may be a temporary one.
        return _TEMPORARY_PATH if local else BUILTIN[SET_CONFIG]
    option = option_name(name)
    found = NOTHING
    if option in PLANNING:
        found = _DISTURBS
    if option == "search_path" and (value is None or HOLE in value or b"pg_temp" in value.lower()):
        found = _TEMPORARY_PATH
    return found if local else union(found, setting(option))


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
