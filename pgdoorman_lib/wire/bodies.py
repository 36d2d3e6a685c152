"""What the body of a function, or the code of a DO block, may leave behind, told by its tokens.

``read`` looks at a body by itself and says which names it mentions; ``body_traces`` adds what is known of those. It may
find too much, never too little of what the body's own text says. What is not read is said to be UNREADABLE.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Mapping

from pgdoorman_lib.wire import arguments, dynamic, glance
from pgdoorman_lib.wire.body import Body, joined, said_traces
from pgdoorman_lib.wire.dynamic import HOLE
from pgdoorman_lib.wire.lexer import QUOTED, SEMICOLON, STRING, WORD
from pgdoorman_lib.wire.session_state import (
    DIRTY_CURSORS,
    DIRTY_LIBRARY,
    DIRTY_LISTEN,
    DIRTY_PARAMETERS,
    DIRTY_PREPARED,
)
from pgdoorman_lib.wire.tokens import Token, tokens
from pgdoorman_lib.wire.traces import (
    ASKABLE,
    BUILTIN,
    BUILTIN_WRITTEN,
    DDL,
    DISTURBS,
    EVERYTHING,
    LISTED,
    MAKES_TEMPORARY,
    NOTHING,
    RUNS_STRINGS,
    SET_CONFIG,
    UNREADABLE,
    WRITES,
    Traces,
    locally,
    set_config_traces,
    setting,
    union,
)

#: Strings within strings that are read as code; deeper ones count as unreadable.
DEEPEST = 6
#: Tokens of a statement or a call that are looked at: so many make the time linear, and need no more.
LONGEST = 200

_ALL_RESET = setting(LISTED)
_NAMED_BY_PARAMETER = union(Traces(DIRTY_PARAMETERS), MAKES_TEMPORARY)
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
_ON_COMMIT = [b"on", b"commit"]


def body_traces(language: str, body: bytes, hazards: Mapping[bytes, Traces]) -> Traces:
    """What ``body`` may leave behind when it runs, if ``hazards`` is what is known of names."""
    return said_traces(read(language, body), hazards)


def read(language: str, body: bytes) -> Body:
    """What a body of this language says."""
    if language not in ("sql", "plpgsql"):
        return Body(glance.foreign(language, body))
    seen = glance.names(body)
    if seen is not None:
        names, calls = seen
        return Body(NOTHING, names | {DDL} if glance.has_ddl(language, names) else names, calls, bool(names & WRITES))
    found = _code(language, body, False, 0)
    if b"\\" in body:  # standard_conforming_strings may be off where it runs
        found = joined((found, _code(language, body, True, 0)))
    return found


def read_text(text: bytes, backslashes: bool) -> Body:
    """What a text says that a client sends to be run.

    What its command tags and the pooler's own books tell is left out: LISTEN, LOAD, PREPARE, EXECUTE and their like.
    """
    return _Reader("sql", text, backslashes, 0, True).body()


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
        self.updates = b"update" in self.words
        #: where ON COMMIT DROP stands
        self.drops = [
            at
            for at, word in enumerate(self.words)
            if word == b"drop" and self.words[max(0, at - 2) : at] == _ON_COMMIT
        ]

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
        if glance.has_ddl(self.language, words):
            names.add(DDL)
        own = Body(self.traces, frozenset(names), frozenset(calls), bool(words & WRITES), frozenset(self.parameters))
        return joined((own, *self.others))

    def _add(self, traces: Traces) -> None:
        self.traces = union(self.traces, traces)

    def _end(self, index: int) -> int:
        """Where the statement ends in which the token at ``index`` stands, if it is not too long."""
        found = self.tokens
        stop = min(len(found), index + LONGEST)
        while index < stop and found[index].kind != SEMICOLON:
            index += 1
        return index

    def _at(self, index: int) -> bytes:
        return self.words[index] if 0 <= index < len(self.words) else b""

    def _symbol(self, index: int) -> bytes:
        return self.tokens[index].text if index < len(self.tokens) else b""

    # -- words anywhere

    def _word(self, index: int, name: bytes) -> None:
        if name == SET_CONFIG:
            self._set_config(index + 1)
        elif name in RUNS_STRINGS:
            self._runs_string(index + 1)
        elif name in BUILTIN and (name not in BUILTIN_WRITTEN or self.updates):
            self._add(BUILTIN[name])
        elif name.startswith(b"pg_temp"):
            self._add(MAKES_TEMPORARY)
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
        self._add(DISTURBS if dropped else MAKES_TEMPORARY)

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
        given = self._arguments(index)
        if given is None or len(given) != 3:
            self._add(BUILTIN[SET_CONFIG])
            return
        local = arguments.is_true(given[2])
        if self.sent and not local and self._names_a_setting(given[0]):
            self._add(setting(LISTED))
            return
        number = arguments.parameter(given[0]) if self.sent else 0
        if number and not local:
            self.parameters.add(number)
            self._add(_NAMED_BY_PARAMETER)
        elif number:
            self._add(union(MAKES_TEMPORARY, locally(f"${number}")))
        else:
            self._add(set_config_traces(arguments.constant(given[0]), local, arguments.constant(given[1])))

    def _names_a_setting(self, argument: list[Token]) -> bool:
        """Whether an argument is the column ``name`` of pg_settings, as in pg_dump's queries.

        A customized option that no library has defined, which only its name could betray, is not listed there.
        """
        words = [word for word in self.words if word and word != b"pg_catalog"]
        if [token.value for token in argument] != [b"name"] or words.count(b"from") != 1:
            return False
        at = words.index(b"from") + 1
        return words[at : at + 1] == [b"pg_settings"] and words[at + 1 : at + 2] in ([], [b"where"])

    def _runs_string(self, index: int) -> None:
        given = self._arguments(index)
        text = arguments.constant(given[0]) if given and self._symbol(index - 1).lower().startswith(b"query") else None
        if text is None:
            self._add(UNREADABLE)
        else:
            self.others.append(_code("sql", text, self.backslashes, self.depth + 1))

    def _execute(self, index: int) -> None:
        if self.sent:
            return
        after = self._at(index + 1)
        if after == b"on":
            return  # the privilege
        if after in (b"function", b"procedure") and self._is_name(index + 2):
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

    def _is_name(self, index: int) -> bool:
        """Whether a name stands at ``index``, and not what may be behind EXECUTE's expression."""
        named = index < len(self.tokens) and self.tokens[index].kind in (WORD, QUOTED)
        return named and self.words[index] not in (b"into", b"using", b"loop")

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
            self._add(MAKES_TEMPORARY if self._at(index + 1) in (b"temp", b"temporary") else Traces(ASKABLE))
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
        if stop - index >= LONGEST or any(HOLE in piece for piece in pieces if piece is not None):
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
            self._add(glance.foreign(language, code))
