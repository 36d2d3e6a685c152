"""What a session leaves behind on a server: parameters that follow the client, and traces that hold or must be cleaned.

Parameters are *replayed*: a client's ``Settings`` are compared by identity with those its server has, and applied by
one statement when they differ. What can't be moved *pins* the client to its server. After a transaction that may have
left something, one question (``question``) asks the server what is really there; its answer is ``Findings``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar
from weakref import WeakValueDictionary

#: Parameters a server reports by ParameterStatus and a client may change: they follow the client.
TRACKED = frozenset(
    ("client_encoding", "datestyle", "timezone", "standard_conforming_strings", "application_name", "intervalstyle")
)

#: Parameters on which the meaning of a statement's text depends: statements prepared under different values of them
#: are not shared.
PLANNING = frozenset(
    (
        "search_path",
        "role",
        "session_authorization",
        "default_transaction_isolation",
        "default_transaction_read_only",
        "default_text_search_config",
        "datestyle",
        "intervalstyle",
        "timezone",
        "client_encoding",
        "standard_conforming_strings",
        "backslash_quote",
        "array_nulls",
        "transform_null_equals",
        "xmloption",
        "lc_monetary",
        "timezone_abbreviations",
    )
)

# What was touched on a server, by bits; those told by the text of statements have the value of wire.scan's TEXT_*.
DIRTY_PARAMETERS = 1
DIRTY_PREPARED = 2
DIRTY_CURSORS = 4
DIRTY_LISTEN = 8
DIRTY_TEMPORARY = 16
#: the session is over: everything
DIRTY_SESSION = 32
DIRTY_LOCKS = 64
#: a library was loaded, which nothing undoes: the server must be closed
DIRTY_LIBRARY = 128
DIRTY_ORIGIN = 1024
#: what the server left could not be found out; it must be closed
DIRTY_UNKNOWN = 2048
#: customized options were set whose names nobody knows
DIRTY_CUSTOM = 4096
#: temporary replication slots
DIRTY_SLOTS = 8192

#: What keeps a client on its server in transaction mode, and what SHOW and the log call it.
PINS = {
    DIRTY_LISTEN: "listen",
    DIRTY_TEMPORARY: "temporary objects",
    DIRTY_CURSORS: "cursors with hold",
    DIRTY_LOCKS: "advisory locks",
    DIRTY_LIBRARY: "loaded library",
    DIRTY_ORIGIN: "replication origin",
    DIRTY_UNKNOWN: "unknown state",
    DIRTY_CUSTOM: "customized options",
}
#: What can't be asked about, and so is taken for granted.
GRANTED = DIRTY_LIBRARY | DIRTY_CUSTOM
#: What is looked into at a transaction's end.
ASKED = DIRTY_PARAMETERS | DIRTY_CURSORS | DIRTY_LISTEN | DIRTY_TEMPORARY | DIRTY_LOCKS | DIRTY_ORIGIN | GRANTED

#: Parameters of a transaction, or that are not parameters at all.
_NOT_OF_THE_SESSION = frozenset(
    ("transaction_isolation", "transaction_read_only", "transaction_deferrable", "is_superuser", "seed")
)
#: They change who may set the others, so they are undone first and set last.
_IDENTITY = ("session_authorization", "role")

#: They end a statement that takes longer.
_TIMEOUTS = ("statement_timeout", "transaction_timeout")

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_$]*(\.[A-Za-z_][A-Za-z0-9_$]*)*\Z")


def quote_literal(value: str) -> str:
    """``value`` as an SQL string that means the same whatever standard_conforming_strings is."""
    text = value.replace("'", "''")
    if "\\" in text:
        return "E'" + text.replace("\\", "\\\\") + "'"
    return f"'{text}'"


class Settings:
    """Parameters a client has set, interned: two clients with the same values share one object."""

    __slots__ = ("__weakref__", "environment", "temporary", "values")

    _known: ClassVar[WeakValueDictionary[tuple[tuple[str, str], ...], Settings]] = WeakValueDictionary()

    values: dict[str, str]
    #: stands for the values the meaning of statements depends on; empty when there are none
    environment: tuple[tuple[str, str], ...]
    #: what is created without a schema's name is temporary
    temporary: bool

    @classmethod
    def of(cls, values: Mapping[str, str]) -> Settings:
        """The one object for these values (names are compared without case)."""
        key = tuple(sorted((name.lower(), value) for name, value in values.items()))
        found = cls._known.get(key)
        if found is None:
            found = cls()
            found.values = dict(key)
            found.environment = tuple(pair for pair in key if pair[0] in PLANNING)
            found.temporary = "pg_temp" in found.values.get("search_path", "")
            cls._known[key] = found
        return found

    def changed(self, name: str, value: str) -> Settings:
        """These settings with one more or another value."""
        return Settings.of({**self.values, name.lower(): value})

    def among(self, names: tuple[str, ...]) -> Settings:
        """Those of these settings that RESET of ``names`` is about; ``ALL`` is all of them, but who one is."""
        everything = "ALL" in names
        return Settings.of(
            {
                name: value
                for name, value in self.values.items()
                if name in names or (everything and name not in _IDENTITY)
            }
        )

    def sql_from(self, present: Settings) -> str:
        """One statement batch that turns ``present`` into these settings; empty when there is nothing to do."""
        mine = self.values
        theirs = present.values
        # What little time another allows its own statements must not end ours.
        parts = [f"RESET {_quote_name(name)}" for name in _TIMEOUTS if name in theirs]
        if any(name in theirs for name in _IDENTITY):
            parts += ["RESET SESSION AUTHORIZATION", "RESET ROLE"]
        done = (*_IDENTITY, *_TIMEOUTS)
        parts += [f"RESET {_quote_name(name)}" for name in theirs if name not in mine and name not in done]
        calls = [
            _set_config(name, value)
            for name, value in mine.items()
            if name not in _IDENTITY and (name in _TIMEOUTS or theirs.get(name) != value)
        ]
        if calls:
            parts.append("SELECT " + ", ".join(calls))
        for name in _IDENTITY:
            if name in mine and (len(parts) > 0 or theirs.get(name) != mine[name]):
                parts.append("SELECT " + _set_config(name, mine[name]))
        return "; ".join(parts)


#: Nothing set: what a server has after its login or a reset.
BASE = Settings.of({})


def valid_name(name: str) -> bool:
    """Whether ``name`` can be a parameter's name at all."""
    return _NAME.match(name) is not None


def _quote_name(name: str) -> str:
    return ".".join('"' + part.replace('"', '""') + '"' for part in name.split("."))


def _set_config(name: str, value: str) -> str:
    text = quote_literal(value)
    if not value.isascii():
        # Bytes of the database's encoding, whatever the client's is at the moment.
        data = value.encode(errors="surrogateescape").hex()
        text = f"pg_catalog.convert_from(pg_catalog.decode('{data}', 'hex'), pg_catalog.getdatabaseencoding())"
    return f"pg_catalog.set_config({quote_literal(name)}, {text}, false)"


def _encoded(value: str) -> str:
    """The SQL of ``value`` as bytes of the database's encoding in hexadecimal digits."""
    return f"pg_catalog.encode(pg_catalog.convert_to({value}, pg_catalog.getdatabaseencoding()), 'hex')"


def _current(name: str) -> str:
    """The SQL of a parameter's value, so encoded, or NULL."""
    return _encoded(f"pg_catalog.current_setting({quote_literal(name)}, true)")


def trace_of(tag: bytes) -> int:
    """The DIRTY_* bit of a CommandComplete tag (without its NUL), or 0."""
    if tag == b"SET" or tag == b"RESET":
        return DIRTY_PARAMETERS
    if tag == b"PREPARE" or tag == b"DEALLOCATE":
        return DIRTY_PREPARED
    if tag == b"DECLARE CURSOR":
        return DIRTY_CURSORS
    if tag == b"LISTEN":
        return DIRTY_LISTEN
    if tag == b"LOAD":
        return DIRTY_LIBRARY
    return 0


def cleaning_sql(dirty: int) -> list[str]:
    """The statements that take the traces away, in order; each is sent on its own."""
    if dirty & DIRTY_SESSION:
        return ["DISCARD ALL"]
    statements = []
    if dirty & (DIRTY_PARAMETERS | DIRTY_CUSTOM):
        statements += ["SET SESSION AUTHORIZATION DEFAULT", "RESET ALL"]
    if dirty & DIRTY_CURSORS:
        statements.append("CLOSE ALL")
    if dirty & DIRTY_PREPARED:
        statements.append("DEALLOCATE ALL")
    if dirty & DIRTY_LISTEN:
        statements.append("UNLISTEN *")
    if dirty & DIRTY_TEMPORARY:
        statements.append("DISCARD TEMP")
    if dirty & DIRTY_LOCKS:
        statements.append("SELECT pg_catalog.pg_advisory_unlock_all()")
    if dirty & DIRTY_ORIGIN:
        statements.append("SELECT pg_catalog.pg_replication_origin_session_reset()")
    return statements


def reasons(pins: int) -> str:
    """The PINS of ``pins`` in words, for SHOW and the log."""
    return ", ".join(text for bit, text in PINS.items() if pins & bit)


# What is asked for each bit: rows of (kind, name, value), kind a DIRTY_* bit as text. A client's search_path must not
# decide what these mean, hence all the pg_catalog.
_QUESTIONS = {
    DIRTY_PARAMETERS: f"SELECT '1', name, {_encoded('setting')} FROM pg_catalog.pg_settings"
    " WHERE source OPERATOR(pg_catalog.=) 'session'"
    f" UNION ALL SELECT '1', 'role', {_current('role')}"
    f" UNION ALL SELECT '1', 'session_authorization', {_encoded('session_user::pg_catalog.text')}",
    DIRTY_CURSORS: "SELECT '4', NULL, NULL FROM pg_catalog.pg_cursors WHERE is_holdable",
    DIRTY_LISTEN: "SELECT '8', NULL, NULL FROM pg_catalog.pg_listening_channels()",
    # Everything in a schema depends on it.
    DIRTY_TEMPORARY: "SELECT '16', NULL, NULL FROM pg_catalog.pg_depend"
    " WHERE refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_namespace'::pg_catalog.regclass"
    " AND refobjid OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema()",
    # The session's own: those of a transaction ended with it.
    DIRTY_LOCKS: "SELECT '64', NULL, NULL FROM pg_catalog.pg_locks WHERE locktype OPERATOR(pg_catalog.=) 'advisory'"
    " AND pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid()",
    DIRTY_ORIGIN: "SELECT '1024', NULL, NULL WHERE pg_catalog.pg_replication_origin_session_is_setup()",
}


def question(bits: int, custom: Iterable[str], patient: bool = False) -> str:
    """The query that asks what of ``bits`` is there; ``custom`` are names of customized options to ask for.

    It is meant for a server outside a transaction. Its rows go to ``Findings.of``. ``patient``: whatever time the
    session allows its statements, take as long as it takes.
    """
    parts = [f"({text})" if bit == DIRTY_PARAMETERS else text for bit, text in _QUESTIONS.items() if bits & bit]
    if bits & DIRTY_PARAMETERS:
        parts += [f"SELECT '1', {quote_literal(name)}, {_current(name)}" for name in custom]
    sql = " UNION ALL ".join(parts)
    if not patient or not sql:
        return sql
    # The first value of a name counts: behind SET LOCAL it is another one.
    return f"SELECT '1', 'statement_timeout', {_current('statement_timeout')}; SET LOCAL statement_timeout = 0; {sql}"


@dataclass
class Findings:
    """What a server has answered: the parameters of the session, and the PINS bits of what is there."""

    values: dict[str, str]
    pins: int = 0

    @classmethod
    def of(cls, rows: Iterable[bytes], login: str) -> Findings:
        """From the bodies of the DataRows; ``login`` is the role the server connection logged in as.

        ValueError for rows that can't be an answer.
        """
        found = cls({})
        for body in rows:
            kind, name, value = _columns(body)
            bit = int(kind or b"")
            if bit != DIRTY_PARAMETERS:
                if bit not in PINS:
                    raise ValueError("no such kind")
                found.pins |= bit
                continue
            key = (name or b"").decode().lower()
            if value is None or key in _NOT_OF_THE_SESSION:
                continue
            text = bytes.fromhex(value.decode("ascii")).decode(errors="surrogateescape")
            if (key == "role" and text == "none") or (key == "session_authorization" and text == login):
                continue
            found.values.setdefault(key, text)
        return found


def _columns(body: bytes) -> list[bytes | None]:
    """The values of a DataRow (text format), None for NULL; ValueError unless there are exactly three."""
    if int.from_bytes(body[:2], "big") != 3:
        raise ValueError("not three columns")
    values: list[bytes | None] = []
    start = 2
    for _ in range(3):
        size = int.from_bytes(body[start : start + 4], "big", signed=True)
        start += 4
        values.append(None if size < 0 else body[start : start + size])
        start += max(0, size)
    if start != len(body):
        raise ValueError("a row that does not end where it should")
    return values
